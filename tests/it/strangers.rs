//! Other users of the machine: names in shared directories are free for them to take first.

use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use misaki::face::inspect::place;

use crate::harness::until;

const NOBODY: u32 = 65534;

/// A verb's exit status and what it prints, with its directory of sockets below `runtime`.
fn misaki(arguments: &[&str], runtime: &Path) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_misaki"));
    let output = command.args(arguments).env("XDG_RUNTIME_DIR", runtime).output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.success(), text.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

/// What another user can have made of the directory before us, and why it is left out.
fn cases() -> Vec<(&'static str, String)> {
    let owned = ("owned", format!("it belongs to user {NOBODY}, and this process runs as 0"));
    let all = [("open", "others can write to it".to_owned()), ("link", "it is not a directory".to_owned())];
    // Only root can give something away.
    all.into_iter().chain((place::own_user() == 0).then_some(owned)).collect()
}

/// The directory of sockets below `runtime`, as another user made it.
fn taken(runtime: &Path, case: &str) -> PathBuf {
    mode(runtime, 0o755);
    let folder = runtime.join("misaki");
    std::fs::create_dir(&folder).unwrap();
    match case {
        "open" => mode(&folder, 0o777),
        "owned" => chown(&folder, Some(NOBODY), None).unwrap(),
        _ => {
            std::fs::rename(&folder, runtime.join("real")).unwrap();
            symlink(runtime.join("real"), &folder).unwrap();
        }
    }
    folder
}

/// No client asks a socket in a directory that another user may have filled, and each says why it did not look there.
#[test]
fn sockets_of_strangers_are_not_asked() {
    for (case, reason) in cases() {
        let runtime = tempfile::tempdir().unwrap();
        let folder = taken(runtime.path(), case);
        let listener = UnixListener::bind(folder.join("4242.sock")).unwrap();
        listener.set_nonblocking(true).unwrap();
        let said = format!("left out {}: {reason}", folder.display());
        for verb in
            [&["status", "--pid", "4242"][..], &["status", "--check", "--pid", "4242"], &["tail", "--pid", "4242"]]
        {
            let (success, text) = misaki(verb, runtime.path());
            assert!(!success && text.contains(&said), "{verb:?}: {said:?} is not in {text}");
        }
        assert!(listener.accept().is_err(), "{case}: it was asked");
    }
}

/// The collector does not listen there either. One that finds no place says so, names a way out, and goes on.
#[tokio::test]
async fn a_directory_that_was_taken_holds_no_collector_up() {
    for (case, _) in cases() {
        let runtime = tempfile::tempdir().unwrap();
        let folder = taken(runtime.path(), case);
        let log = runtime.path().join("log");
        for (path, says) in
            [(None, "Everything is ready"), (Some("missing/x.sock"), "extensions.inspect.path names another")]
        {
            let path = path.map_or("''".to_owned(), |path| format!("'{}'", folder.join(path).display()));
            let mut child = collector(&format!("{{inspect: {{path: {path}}}}}"), None, runtime.path(), &log);
            let own = folder.join(format!("{}.sock", child.id()));
            until(says, || std::fs::read_to_string(&log).unwrap().contains(says)).await;
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(!own.exists(), "{case}");
        }
    }
}

fn collector(extensions: &str, user: Option<u32>, runtime: &Path, log: &Path) -> Child {
    let config = format!(
        "yaml:{{receivers: {{otlp: {{protocols: {{http: {{endpoint: '127.0.0.1:0'}}}}}}}}, exporters: {{nop: {{}}}}, extensions: {extensions}, \
         service: {{telemetry: {{metrics: {{level: none}}}}, pipelines: {{logs: {{receivers: [otlp], exporters: [nop]}}}}}}}}"
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_misaki"));
    command.args(["--config", &config]).env("XDG_RUNTIME_DIR", runtime);
    command.stderr(std::fs::File::create(log).unwrap()).stdout(Stdio::null());
    if let Some(user) = user {
        command.uid(user);
    }
    command.spawn().unwrap()
}

/// Who listens is asked of the system: a socket that was named by hand is believed to our own user and root alone, or where
/// root made the directory for the user that listens, as systemd does. Only root can try this with two users.
#[tokio::test]
async fn the_other_end_is_a_collector_of_ours() {
    let runtime = tempfile::tempdir().unwrap();
    mode(runtime.path(), 0o755);
    let (ours, theirs) = (runtime.path().join("ours.sock"), runtime.path().join("theirs/x.sock"));
    let us = place::own_user();
    assert!(place::trusts(&ours, us) && place::trusts(&ours, 0) && !place::trusts(&ours, us + 1));
    if us != 0 {
        return;
    }
    let folder = theirs.parent().unwrap();
    std::fs::create_dir(folder).unwrap();
    chown(folder, Some(NOBODY), None).unwrap();
    let extension = format!("{{inspect: {{path: '{}'}}}}", theirs.display());
    let mut child = collector(&extension, Some(NOBODY), runtime.path(), &runtime.path().join("log"));
    until("it listens", || theirs.exists()).await;
    let socket = theirs.to_str().unwrap();
    for verb in
        [&["status", "--socket", socket][..], &["status", "--check", "--socket", socket], &["tail", "--socket", socket]]
    {
        let (success, text) = misaki(verb, runtime.path());
        assert!(
            !success && text.contains(&format!("user {NOBODY} listens there, which is neither you nor root")),
            "{text}"
        );
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // Below directories that are root's alone, root made it for them.
    if Path::new("/run").metadata().is_ok_and(|found| found.permissions().mode() & 0o022 == 0) {
        let delegated = tempfile::tempdir_in("/run").unwrap();
        chown(delegated.path(), Some(NOBODY), None).unwrap();
        let socket = delegated.path().join("x.sock");
        assert!(place::trusts(&socket, NOBODY) && !place::trusts(&socket, NOBODY - 1));
        mode(delegated.path(), 0o770);
        assert!(!place::trusts(&socket, NOBODY));
    }
}
