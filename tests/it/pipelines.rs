//! The ready-made configs in `pipelines/`, as they are but for ports and paths: each is started, and does what it says.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use misaki::config;
use misaki::network::workers::Workers;
use misaki::service::plan::Plan;
use misaki::service::{self, Running};
use rcgen::{CertificateParams, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const LOG: &str = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"it left the edge"}}]}]}]}"#;
const PATIENCE: Duration = Duration::from_secs(10);

/// Starts a file of `pipelines/` on free ports, with nothing to warn of.
async fn start(file: &str, variables: &[(&str, String)], sets: &[String]) -> Running {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines").join(file);
    let endpoint = |key: &str| format!("{key}.endpoint=127.0.0.1:0");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("# For "), "{file} does not open with who it is for");
    let mut sets = sets.to_vec();
    sets.push(endpoint("receivers.otlp.protocols.grpc"));
    sets.push("service.telemetry.metrics.level=none".to_owned());
    let optional = [("http:", "receivers.otlp.protocols.http"), ("health_check:", "extensions.health_check")];
    sets.extend(optional.iter().filter(|(word, _)| text.contains(word)).map(|(_, key)| endpoint(key)));
    let environment =
        |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_owned());
    let loaded = config::load(&[path.display().to_string()], &sets, &environment);
    let plan = Plan::read(&loaded);
    assert_eq!(loaded.problems.render(&loaded.sources, false), "", "{file}");
    service::start(&plan, Arc::new(Workers::start(1).unwrap())).await.unwrap()
}

fn address(running: &Running, protocol: &str) -> SocketAddr {
    let found = running.addresses.iter().find(|(known, _)| known.contains(protocol));
    found.and_then(|(_, address)| *address).unwrap_or_else(|| panic!("{protocol} in {:?}", running.addresses))
}

async fn post_a_log(to: &Running) {
    let mut stream = TcpStream::connect(address(to, "http")).await.unwrap();
    let head = "POST /v1/logs HTTP/1.1\r\nhost: edge\r\nconnection: close\r\ncontent-type: application/json";
    stream.write_all(format!("{head}\r\ncontent-length: {}\r\n\r\n{LOG}", LOG.len()).as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// Waits until a file holds `text`.
async fn until_printed(file: &Path, text: &str) {
    let printed = async {
        while !std::fs::read_to_string(file).is_ok_and(|printed| printed.contains(text)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, printed).await;
    assert!(in_time.is_ok(), "{text} is not in {:?}", std::fs::read_to_string(file));
}

/// Drains; everything that was accepted has been exported.
async fn drain(mut running: Running) {
    for balance in running.drain(PATIENCE).await {
        assert_eq!((balance.accepted, balance.exported), (1, 1), "{balance}");
    }
}

/// `management.yaml` with a certificate of its own, and what an edge needs to reach it.
async fn management(folder: &Path) -> (Running, Vec<(&'static str, String)>) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let written = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (cert, key) = (written("server.crt", certificate.pem()), written("server.key", key.serialize_pem()));
    let variables = [("TLS_CERT", cert.clone()), ("TLS_KEY", key)];
    let printed = format!("exporters.debug.output_paths=[{}]", folder.join("management.txt").display());
    let running = start("management.yaml", &variables, &[printed]).await;
    let upstream = format!("localhost:{}", address(&running, "grpc").port());
    (running, vec![("UPSTREAM", upstream), ("UPSTREAM_CA", cert)])
}

#[tokio::test]
async fn debug_prints_what_arrives() {
    let folder = tempfile::tempdir().unwrap();
    let printed = folder.path().join("printed.txt");
    let sets = [format!("exporters.debug/detailed.output_paths=[{}]", printed.display())];
    let running = start("debug.yaml", &[], &sets).await;
    post_a_log(&running).await;
    until_printed(&printed, "Body: Str(it left the edge)").await;
    drain(running).await;
}

#[tokio::test]
async fn an_edge_forwards_over_tls_to_the_management_collector() {
    let folder = tempfile::tempdir().unwrap();
    let (management, variables) = management(folder.path()).await;
    let edge = start("edge-forward.yaml", &variables, &[]).await;
    post_a_log(&edge).await;
    until_printed(&folder.path().join("management.txt"), r#""log records": 1}"#).await;
    drain(edge).await;
    drain(management).await;
}

#[tokio::test]
async fn an_edge_forwards_and_prints() {
    let folder = tempfile::tempdir().unwrap();
    let (management, variables) = management(folder.path()).await;
    let printed = folder.path().join("edge.txt");
    let sets = [format!("exporters.debug.output_paths=[{}]", printed.display())];
    let edge = start("edge-and-debug.yaml", &variables, &sets).await;
    post_a_log(&edge).await;
    until_printed(&printed, "Body: Str(it left the edge)").await;
    until_printed(&folder.path().join("management.txt"), r#""log records": 1}"#).await;
    drain(edge).await;
    drain(management).await;
}

/// With the system's roots and nobody at the other end: no error at the start, and what is accepted waits.
#[tokio::test]
async fn an_edge_starts_without_its_upstream() {
    let variables = [("UPSTREAM", "localhost:1".to_owned()), ("UPSTREAM_CA", String::new())];
    let edge = start("edge-forward.yaml", &variables, &[]).await;
    post_a_log(&edge).await;
    assert_eq!(edge.held_items(), 1);
}
