//! What systemd hears of the binary, over a socket with a path and over an abstract one.
#![cfg(target_os = "linux")]

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use misaki::face::diagnostics::Systemd;

const CONFIG: &str = "yaml:{receivers: {otlp: {protocols: {http: {endpoint: \"127.0.0.1:0\"}}}}, exporters: {nop: }, service: {telemetry: {metrics: {level: none}}, pipelines: {logs: {receivers: [otlp], exporters: [nop]}}}}";

fn start(notify: &str, directory: &std::path::Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_misaki"));
    command.args(["run", "--config", CONFIG]).env("XDG_RUNTIME_DIR", directory);
    command.env("NOTIFY_SOCKET", notify).env("WATCHDOG_USEC", "200000").env_remove("WATCHDOG_PID");
    command.stderr(Stdio::piped()).spawn().unwrap()
}

#[track_caller]
fn hear(socket: &UnixDatagram) -> String {
    let mut bytes = [0; 4096];
    let length = socket.recv(&mut bytes).unwrap();
    String::from_utf8(bytes[..length].to_vec()).unwrap()
}

#[test]
fn systemd_hears_of_start_life_and_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let name = format!("misaki-test-{}", std::process::id());
    let sockets = [
        (UnixDatagram::bind(&path).unwrap(), path.to_str().unwrap().to_owned()),
        (UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap(), format!("@{name}")),
    ];
    for (socket, notify) in sockets {
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let child = start(&notify, directory.path());
        let ready = hear(&socket);
        assert!(ready.starts_with("READY=1\nSTATUS=ready, listening on 127.0.0.1:"), "{ready}");
        for _ in 0..2 {
            let alive = hear(&socket);
            assert!(alive.starts_with("WATCHDOG=1\nSTATUS=ready, listening on 127.0.0.1:"), "{alive}");
        }
        assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
        let stopping = std::iter::repeat_with(|| hear(&socket)).find(|text| !text.starts_with("WATCHDOG=1")).unwrap();
        assert_eq!(stopping, "STOPPING=1\nSTATUS=draining 0 items\n");
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        assert!(String::from_utf8_lossy(&output.stderr).contains("Shutdown complete: nothing was received"));
    }
}

/// A reload is said, and that it is over; what is said is one line. Without a manager, or with one that has gone, nothing happens.
#[test]
fn a_reload_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let named = |name: &str| (name == "NOTIFY_SOCKET").then(|| path.to_str().unwrap().to_owned());
    let systemd = Systemd::new(named);
    systemd.reloading();
    systemd.ready("ready\nMAINPID=1");
    assert_eq!(hear(&socket), "RELOADING=1\nSTATUS=reading the config again\n");
    assert_eq!(hear(&socket), "READY=1\nSTATUS=ready MAINPID=1\n");
    drop(socket);
    systemd.ready("gone");
    Systemd::new(|_| None).ready("nobody");
    Systemd::new(|name| (name == "NOTIFY_SOCKET").then(|| "vsock:2:1".to_owned())).ready("nobody");
}
