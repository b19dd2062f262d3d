//! The local socket: who is served, what is said.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use misaki::extensions::inspect::Config;
use misaki::inspect::{Inspection, Subject};

use crate::harness::*;

/// Opens the socket of a collector in a directory of its own.
fn open(misaki: &Misaki, directory: &Path) -> Inspection {
    let config = Config { path: Some(directory.join("misaki.sock")), ..Config::default() };
    Inspection::open(&config, Subject::new(vec!["test.yaml".into()], &misaki.running)).unwrap()
}

/// What the binary prints, and its exit status, while this thread serves.
async fn run(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_misaki"));
    command.args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn the_socket_is_private_answers_and_goes_with_its_collector() {
    let directory = tempfile::tempdir().unwrap();
    let misaki = Misaki::start("{}", &[]).await;
    let path: PathBuf = directory.path().join("misaki.sock");
    // One that a collector left behind when it was killed.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let inspection = open(&misaki, directory.path());
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let socket = path.to_str().unwrap();
    let (status, out, err) = run(&["status", "--json", "--socket", socket]).await;
    assert_eq!((status, err.as_str()), (0, ""));
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(told["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(told["config"], serde_json::json!(["test.yaml"]));
    drop(inspection);
    assert!(!path.exists());
    let (status, out, err) = run(&["status", "--socket", socket]).await;
    assert_eq!((status, out.as_str()), (1, ""));
    assert!(err.starts_with("error: cannot reach the collector at "), "{err}");
}
