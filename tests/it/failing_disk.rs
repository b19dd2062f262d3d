//! A process whose disk does not read: `read` fails for the files of its queue as long as a file says so. A library that is loaded
//! before all others stands for the disk, so this is Linux with a C compiler, which the build needs anyway.
#![cfg(target_os = "linux")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::harness::*;

const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

ssize_t read(int fd, void *into, size_t length) {
    char link[64], path[4096];
    const char *says = getenv("READS_FAIL");
    if (says && access(says, F_OK) == 0) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t end = readlink(link, path, sizeof path - 1);
        path[end < 0 ? 0 : end] = 0;
        if (strstr(path, "/exporter_")) {
            errno = EIO;
            return -1;
        }
    }
    return syscall(SYS_read, fd, into, length);
}
"#;

struct Machine {
    folder: tempfile::TempDir,
    http: u16,
    health: u16,
    process: Option<Child>,
}

impl Machine {
    async fn new() -> Machine {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("disk.c"), LIBRARY).unwrap();
        let mut compiler = Command::new("cc");
        let compiled =
            compiler.args(["-shared", "-fPIC", "-o", "disk.so", "disk.c"]).current_dir(folder.path()).status();
        assert!(compiled.unwrap().success());
        Machine { folder, http: free_port().await, health: free_port().await, process: None }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn start(&mut self, upstream: &Upstream) {
        let (http, health, folder) = (self.http, self.health, self.folder.path().display());
        let config = format!(
            "
receivers: {{otlp: {{protocols: {{http: {{endpoint: \"127.0.0.1:{http}\"}}}}}}}}
processors: {{memory_limiter: {{check_interval: 1s, limit_mib: 3, spike_limit_mib: 1}}}}
exporters:
  otlp:
    endpoint: \"{}\"
    tls: {{insecure: true}}
    retry_on_failure: {{initial_interval: 20ms, max_interval: 20ms}}
    sending_queue: {{storage: file_storage, num_consumers: 1}}
extensions: {{file_storage: {{directory: \"{folder}\", max_size: 16777216}}, health_check: {{endpoint: \"127.0.0.1:{health}\"}}}}
service:
  extensions: [file_storage, health_check]
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{logs: {{receivers: [otlp], processors: [memory_limiter], exporters: [otlp]}}}}
",
            upstream.address
        );
        let mut command = Command::new(env!("CARGO_BIN_EXE_misaki"));
        let log = std::fs::File::create(self.file("log")).unwrap();
        command.args(["--config", &format!("yaml:{config}")]).env("XDG_RUNTIME_DIR", self.folder.path());
        command.env("LD_PRELOAD", self.file("disk.so")).env("READS_FAIL", self.file("fails"));
        self.process = Some(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        until("it runs", || self.says("Everything is ready")).await;
    }

    /// `misaki queue VERB` beside this disk.
    fn queue(&self, verb: &[&str]) -> (bool, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_misaki"));
        command.env("LD_PRELOAD", self.file("disk.so")).env("READS_FAIL", self.file("fails")).arg("queue");
        let output =
            command.args(verb).arg(self.folder.path()).args((verb != ["list"]).then_some("exporter_otlp_logs"));
        let output = output.output().unwrap();
        (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.file("log")).unwrap()
    }

    fn says(&self, words: &str) -> bool {
        self.log().contains(words)
    }

    fn reads_fail(&self, fail: bool) {
        match fail {
            true => std::fs::write(self.file("fails"), "").unwrap(),
            false => std::fs::remove_file(self.file("fails")).unwrap(),
        }
    }

    async fn send(&self, name: &str) -> Answer {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], self.http));
        Ports { grpc: address, http: address }.send(&[name]).await
    }

    async fn health(&self) -> u16 {
        get(self.health, "/").await.0
    }

    async fn becomes(&self, status: u16) {
        let end = std::time::Instant::now() + Duration::from_secs(20);
        while self.health().await != status {
            assert!(std::time::Instant::now() < end, "health is not {status}: {}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
    }
}

fn files(folder: &Path) -> Vec<(String, u64)> {
    let entries = std::fs::read_dir(folder.join("misaki/exporter_otlp_logs")).unwrap().map(Result::unwrap);
    let named = entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len()));
    let mut files: Vec<_> = named.filter(|(name, _)| name.ends_with(".segment")).collect();
    files.sort();
    files
}

/// The disk does not read when it starts: nothing is touched and nothing accepted, and health says so, until it does.
#[tokio::test]
async fn a_disk_that_does_not_read_at_the_start_is_waited_for() {
    let (mut machine, away) = (Machine::new().await, Upstream::replying(Reply::Grpc(14, "away", None)).await);
    machine.start(&away).await;
    let names = numbered("a", 100);
    for name in &names {
        assert!(machine.send(name).await.ok);
    }
    machine.kill();
    let (before, upstream) = (files(machine.folder.path()), Upstream::start().await);
    machine.reads_fail(true);
    // Nor does it for a person: what can be read is shown, what would change it is refused.
    let (_, said) = machine.queue(&["list"]);
    assert!(said.contains(", cannot read all of 2 files"), "{said}");
    let (ok, said) = machine.queue(&["export"]);
    assert!(!ok && said.contains("cannot read all of 2 files: what lies there is missing"), "{said}");
    let (ok, said) = machine.queue(&["drop", "--yes"]);
    assert!(!ok && said.contains(": cannot read ") && said.contains("Input/output error"), "{said}");
    machine.start(&upstream).await;
    machine.becomes(503).await;
    let refused = machine.send("b").await;
    assert_eq!((refused.code, refused.message.as_str(), refused.hint.is_some()), (503, "the disk failed", true));
    // One more attempt fails.
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!((files(machine.folder.path()), upstream.requests()), (before, 0));
    machine.reads_fail(false);
    until("all of it arrives", || upstream.kept().len() == 100).await;
    machine.becomes(200).await;
    assert!(machine.send("b").await.ok);
    until("it goes on", || upstream.kept().len() == 101).await;
    let log = machine.log();
    assert_eq!(log.matches("cannot read the queue on disk").count(), 1, "{log}");
    assert!(log.contains("Input/output error") && log.contains("the queue on disk can be read"), "{log}");
    assert_eq!(upstream.kept_once().len(), 101);
}

/// It stops reading on the way, for longer than a few attempts, beside an upstream that is well: what waits there is held, what comes is
/// taken, and all of it arrives.
#[tokio::test]
async fn a_disk_that_stops_reading_is_waited_for() {
    let (mut machine, upstream) = (Machine::new().await, Upstream::replying(Reply::Grpc(14, "away", None)).await);
    machine.start(&upstream).await;
    for index in 0..40 {
        assert!(machine.send(&format!("{index}-{}", "x".repeat(100_000))).await.ok);
    }
    machine.reads_fail(true);
    upstream.script(|_| Reply::Accept);
    machine.becomes(503).await;
    assert!(machine.send("meanwhile").await.ok);
    let before = files(machine.folder.path());
    tokio::time::sleep(Duration::from_secs(22)).await;
    assert!(upstream.kept().len() < 40 && files(machine.folder.path()) == before, "{}", machine.log());
    machine.reads_fail(false);
    until("all of it arrives", || upstream.kept().len() == 41).await;
    machine.becomes(200).await;
    assert_eq!(upstream.kept_once().len(), 41);
    let log = machine.log();
    assert_eq!(log.matches("cannot read the queue on disk").count(), 1, "{log}");
    assert!(log.contains("the queue on disk can be read again") && !log.contains("dropped_items"), "{log}");
}
