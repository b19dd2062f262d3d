//! What a config says and this machine does not have: `validate`, the start and `doctor` say it alike, with its place.

use std::path::Path;
use std::process::{Command, Stdio};

use rcgen::{CertificateParams, KeyPair};

use crate::harness::free_port;

/// The exit status and what is printed, of a verb that ends.
fn misaki(arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_misaki"));
    let output = command.args(arguments).env_remove("OTEL_EXPORTER_OTLP_ENDPOINT").output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let text: String =
        text.lines().filter(|line| !line.contains(" is valid: ")).map(|line| format!("{line}\n")).collect();
    (output.status.code().unwrap(), text.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn config(grpc: &str, receivers: &str, exporter: &str, extensions: &str) -> String {
    let name = exporter.split(':').next().unwrap();
    let ids = |text: &str, first: &str| {
        let others = text.split_once(':').map_or("", |(id, _)| id);
        [first, others].into_iter().filter(|id| !id.is_empty()).collect::<Vec<_>>().join(", ")
    };
    format!(
        "yaml:receivers:\n  otlp: {{protocols: {{{grpc}}}}}\n  {receivers}\nexporters:\n  {exporter}\nextensions:\n  {extensions}\n\
         service: {{telemetry: {{metrics: {{level: none}}}}, extensions: [{}], pipelines: {{logs: {{receivers: [{}], exporters: [{name}]}}}}}}",
        ids(extensions, ""),
        ids(receivers, "otlp")
    )
}

/// Refused by `validate` and by the start, and among what `doctor` finds; but `print-config` does not look.
#[track_caller]
fn refused(config: &str, path: &str, message: &str, help: &str) {
    let (status, said) = misaki(&["validate", "--config", config]);
    assert_eq!(status, 78, "{said}");
    for part in [path, message, help] {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }
    // The start cannot be for another machine.
    let (found, elsewhere) = match said.split_once(" help: if it runs on another machine, check it with --elsewhere") {
        Some((found, _)) => (found.to_owned(), 0),
        None => (said, 78),
    };
    assert_eq!(found.contains(", on this machine"), elsewhere == 0, "{found}");
    assert_eq!(misaki(&["validate", "--elsewhere", "--config", config]).0, elsewhere, "{config}");
    assert_eq!(misaki(&["--config", config]), (78, found));
    let (status, said) = misaki(&["doctor", "--config", config]);
    assert_eq!(status, 1, "{said}");
    assert!(said.contains("FAILED config") && said.contains(message) && said.contains(help), "{said}");
    assert_eq!(misaki(&["print-config", "--config", config]).0, 0);
}

const GRPC: &str = "grpc: {endpoint: \"127.0.0.1:0\"}";

fn pem(folder: &Path, name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let write = |name: String, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    (write(format!("{name}.pem"), certificate.pem()), write(format!("{name}.key"), key.serialize_pem()))
}

#[test]
fn files_of_tls() {
    let folder = tempfile::tempdir().unwrap();
    let ((cert, key), (_, other)) = (pem(folder.path(), "one"), pem(folder.path(), "two"));
    let exporter = |tls: &str| config(GRPC, "", &format!("otlp_grpc: {{endpoint: 'localhost:1', tls: {{{tls}}}}}"), "");
    let receiver = |tls: &str| config(&format!("grpc: {{endpoint: '127.0.0.1:0', tls: {{{tls}}}}}"), "", "nop: {}", "");
    let help = "name a PEM file with";
    refused(
        &exporter("ca_file: /nope/ca.pem"),
        "exporters.otlp_grpc.tls.ca_file",
        "cannot read ca_file \"/nope/ca.pem\": no such file or directory",
        help,
    );
    refused(&exporter(&format!("ca_file: {key}")), "tls.ca_file", "holds no certificate", help);
    let path = "receivers.otlp.protocols.grpc.tls.cert_file";
    refused(&receiver(&format!("cert_file: /nope.pem, key_file: {key}")), path, "cannot read cert_file", help);
    let mismatch = receiver(&format!("cert_file: {cert}, key_file: {other}"));
    refused(&mismatch, "tls.key_file", "does not belong to the certificate", help);
    let client_ca = receiver(&format!("cert_file: {cert}, key_file: {key}, client_ca_file: /nope.pem"));
    refused(&client_ca, "tls.client_ca_file", "cannot read client_ca_file", help);
    for right in [
        receiver(&format!("cert_file: {cert}, key_file: {key}")),
        exporter(&format!("ca_file: {cert}")),
        // Nothing is read where nothing is spoken with it.
        exporter("insecure: true"),
    ] {
        assert_eq!(misaki(&["validate", "--config", &right]), (0, String::new()));
    }
    let unused = exporter("insecure: true")
        .replace("exporters:\n", "exporters:\n  otlp_grpc/2: {endpoint: 'a:1', tls: {ca_file: /nope}}\n");
    let (status, said) = misaki(&["validate", "--config", &unused]);
    assert_eq!(
        (status, said.contains("warning: exporters.otlp_grpc/2 is in no pipeline"), said.contains("cannot")),
        (0, true, false),
        "{said}"
    );
    let (status, said) = misaki(&["--to", "https://localhost:1", "--ca", "/nope.pem"]);
    let told = "--ca /nope.pem: no such file or directory";
    assert!(status == 64 && said.contains(told), "{said}");
}

/// A reference to a file that is not here is a warning, and its key is not missed.
#[test]
fn a_reference_to_a_file_of_another_machine() {
    let exporter = "otlp_grpc: {endpoint: '${file:/nope/upstream}', tls: {insecure: true}}";
    let config = config(GRPC, "", exporter, "");
    assert_eq!(misaki(&["validate", "--config", &config]).0, 78);
    let (status, said) = misaki(&["validate", "--elsewhere", "--config", &config]);
    let told = "warning: cannot read /nope/upstream: no such file or directory, on this machine";
    assert!(status == 0 && said.contains(told) && !said.contains("error"), "{status} {said}");
}

#[test]
fn the_folder_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().display();
    let path = "exporters.file.path";
    let in_nothing = config(GRPC, "", &format!("file: {{path: '{place}/no/out.json'}}"), "");
    refused(
        &in_nothing,
        path,
        &format!("there is no directory {place}/no"),
        "make it, or write `create_directory: true`",
    );
    let itself = config(GRPC, "", &format!("file: {{path: '{place}'}}"), "");
    refused(&itself, path, "it is a directory", "name a file in it");
    for exporter in [
        format!("file: {{path: '{place}/no/out.json', create_directory: true}}"),
        format!("file: {{path: '{place}/out.json'}}"),
    ] {
        let (status, said) = misaki(&["validate", "--config", &config(GRPC, "", &exporter, "")]);
        assert_eq!((status, said.as_str()), (0, ""));
    }
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none(), "nothing was written");
}

#[test]
fn one_port_for_two() {
    let both = |grpc: &str, http: &str| format!("grpc: {{endpoint: '{grpc}'}}, http: {{endpoint: '{http}'}}");
    let path = "receivers.otlp.protocols.http.endpoint";
    let message = "both protocols name this port";
    for (one, other) in
        [("localhost:21310", "127.0.0.1:21310"), ("0.0.0.0:21310", "127.0.0.1:21310"), (":21310", "[::1]:21310")]
    {
        refused(&config(&both(one, other), "", "nop: {}", ""), path, message, "either one serves both");
    }
    let second = "otlp/2: {protocols: {http: {endpoint: '127.0.0.1:21310'}}}";
    let message = "is the port of receivers.otlp";
    let grpc = "grpc: {endpoint: '127.0.0.1:21310'}";
    refused(
        &config(grpc, second, "nop: {}", ""),
        "receivers.otlp/2.protocols.http.endpoint",
        message,
        "give each its own",
    );
    let health = "health_check: {endpoint: '0.0.0.0:21310'}";
    refused(&config(grpc, "", "nop: {}", health), "extensions.health_check.endpoint", message, "give each its own");
    for (one, other) in
        [("127.0.0.1:0", "127.0.0.1:0"), ("127.0.0.1:21310", "127.0.0.2:21310"), ("127.0.0.1:21310", "[::1]:21310")]
    {
        let (status, said) = misaki(&["validate", "--config", &config(&both(one, other), "", "nop: {}", "")]);
        assert_eq!((status, said.as_str()), (0, ""), "{one} {other}");
    }
}

/// It forwarded to itself, as fast as it could, without a word.
#[test]
fn what_comes_back() {
    let (receiver, second) =
        ("grpc: {endpoint: 'localhost:21311'}", "otlp/2: {protocols: {http: {endpoint: ':21312'}}}");
    let warned = |exporter: &str| {
        let config = config(receiver, second, exporter, "");
        let (status, said) = misaki(&["validate", "--config", &config]);
        assert_eq!(status, 0, "{said}");
        if !said.is_empty() {
            assert!(said.contains("of this very collector: what is sent there comes back"), "{said}");
            let (_, told) = misaki(&["doctor", "--config", &config]);
            assert!(told.contains("warn config exporters."), "{told}");
        }
        !said.is_empty()
    };
    for (exporter, expected) in [
        ("otlp_grpc: {endpoint: 'localhost:21311', tls: {insecure: true}}", true),
        ("otlp_grpc: {endpoint: 'http://127.0.0.1:21312', tls: {insecure: true}}", true),
        ("otlp_http: {endpoint: 'http://0.0.0.0:21311'}", true),
        ("otlp_http: {logs_endpoint: 'http://[::1]:21312/v1/logs'}", true),
        ("otlp_http: {metrics_endpoint: 'http://[::1]:21312/v1/logs', logs_endpoint: 'http://a:1'}", false),
        ("otlp_http: {endpoint: 'http://127.0.0.2:21311'}", false),
        ("otlp_http: {endpoint: 'http://localhost:21313'}", false),
        ("otlp_http: {endpoint: 'http://other:21312'}", false),
    ] {
        assert_eq!(warned(exporter), expected, "{exporter}");
    }
    // What is missing does not lead anywhere, whatever the default would be.
    let (status, said) = misaki(&[
        "validate",
        "--config",
        "yaml:{receivers: {otlp: {protocols: {grpc: {endpoint: 'localhost:4317'}}}}, exporters: {otlp_grpc: {endpoint: ''}}, \
         service: {pipelines: {logs: {receivers: [otlp], exporters: [otlp_grpc]}}}}",
    ]);
    assert!(status == 78 && !said.contains("very collector"), "{said}");
    // From one receiver to another one that leads elsewhere is a way, and no loop.
    let chain = |last: &str| {
        format!(
            "yaml:{{receivers: {{otlp: {{protocols: {{{receiver}}}}}, {second}}}, exporters: {{nop: , \
             otlp_http: {{endpoint: 'http://localhost:21312'}}, otlp_grpc: {{endpoint: 'localhost:21311', tls: {{insecure: true}}}}}}, \
             service: {{pipelines: {{logs/a: {{receivers: [otlp], exporters: [otlp_http]}}, logs/b: {{receivers: [otlp/2], exporters: [{last}]}}}}}}}}"
        )
    };
    let (status, said) = misaki(&["validate", "--config", &chain("nop")]);
    assert!(status == 0 && !said.contains("very collector"), "{said}");
    let (_, said) = misaki(&["validate", "--config", &chain("otlp_grpc")]);
    assert!(said.contains("exporters.otlp_http.endpoint") && said.contains("exporters.otlp_grpc.endpoint"), "{said}");
}

#[tokio::test]
async fn it_does_not_forward_to_itself() {
    let (grpc, http) = (free_port().await, free_port().await);
    let own = |protocol: &str, port: u16| format!("receivers.otlp.protocols.{protocol}.endpoint=127.0.0.1:{port}");
    let (one, two) = (own("grpc", grpc), own("http", http));
    let to = format!("http://localhost:{http}");
    let sets = ["--set", one.as_str(), "--set", two.as_str()];
    let (status, said) = misaki(&[&["doctor", "--to", to.as_str()], &sets[..]].concat());
    assert_eq!(status, 1);
    assert!(said.contains(&format!("--to {to} is this collector: not forwarding")), "{said}");
    for (arguments, variable, told) in [
        (vec!["--to", to.as_str()], None, format!("--to {to} is this collector: not forwarding. Printing")),
        (vec![], Some(&to), format!("{to} of OTEL_EXPORTER_OTLP_ENDPOINT is this collector: not forwarding. Printing")),
        // Of what the embedded default has and does not use nobody wants to hear.
        (vec!["--to", to.as_str(), "--print", "json"], None, format!("--to {to} is this collector")),
        (vec!["--to", "http://localhost:1"], None, "Forwarding to http://localhost:1 ".to_owned()),
        (vec!["--to", "http://localhost:1", "--print", "tree"], None, "Forwarding to http://localhost:1 ".to_owned()),
        (vec!["--print", "line"], None, "Printing".to_owned()),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_misaki"));
        command.args(arguments).args(sets).env_remove("OTEL_EXPORTER_OTLP_ENDPOINT").stderr(Stdio::piped());
        command.stdout(Stdio::null());
        variable.map(|url| command.env("OTEL_EXPORTER_OTLP_ENDPOINT", url));
        let mut child = command.spawn().unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
        let banner: Vec<String> = lines.by_ref().map_while(Result::ok).take(5).collect();
        let _ = child.kill();
        let _ = child.wait();
        let banner = banner.join(" ").split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(banner.starts_with("misaki ") && banner.contains(&told), "{banner}");
    }
}

/// It may come late, as in the Go collector: the start says which key names it.
#[tokio::test]
async fn a_token_file_that_is_missing_is_named() {
    let exporter = "otlp_http: {endpoint: 'https://localhost:1', auth: {authenticator: bearertokenauth}}";
    let config = config(GRPC, "", exporter, "bearertokenauth: {filename: /nope/token}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_misaki"));
    let mut child = command.args(["--config", &config]).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    let line = lines.next().unwrap().unwrap();
    let _ = child.kill();
    let _ = child.wait();
    for part in ["extensions.bearertokenauth.filename", "cannot read /nope/token", "make the file, or name another"] {
        assert!(line.contains(part), "{line}");
    }
}

/// What a client does wrong is said where the collector is looked at, once of each kind.
#[tokio::test]
async fn mistakes_of_clients_are_said_once() {
    use std::io::{BufRead, BufReader, Read, Write};

    let port = free_port().await;
    let config = format!(
        "yaml:receivers: {{otlp: {{protocols: {{http: {{endpoint: \"127.0.0.1:{port}\", max_request_body_size: 100}}}}}}}}\n\
         exporters: {{nop: }}\nservice: {{telemetry: {{metrics: {{level: none}}}}, pipelines: {{logs: {{receivers: [otlp], exporters: [nop]}}}}}}"
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_misaki"));
    let mut child = command.args(["--config", &config]).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("Everything is ready") && stderr.read_line(&mut said).unwrap() > 0 {}
    let post = |path: &str, kind: &str, body: &str| {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let length = body.len();
        write!(stream, "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().parse::<u16>().unwrap()
    };
    let json = "application/json";
    let long = format!("{{{}}}", " ".repeat(200));
    for (path, kind, body, status, told) in [
        ("/v1/log", json, "{}", 404, "a client sends to /v1/log: nothing is received there"),
        ("/v1/metrics", json, "{}", 404, "a client sends metrics, and no pipeline takes them from this receiver"),
        ("/v1/traces", json, "{}", 404, "a client sends traces, and no pipeline takes them from this receiver"),
        ("/v1/logs", "text/x", "{}", 415, "a client sends the Content-Type \"text/x\": supported content types: "),
        (
            "/v1/logs",
            json,
            "{\"resourceLogs\":[",
            400,
            "a client's request is not valid OTLP: unexpected end at line 1",
        ),
        ("/v1/logs", json, &long, 413, "a client's request is larger than 100 bytes: it is refused"),
    ] {
        for _ in 0..3 {
            assert_eq!(post(path, kind, body), status);
        }
        said.clear();
        stderr.read_line(&mut said).unwrap();
        assert!(said.contains("warn") && said.contains(told), "{said}");
    }
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    child.wait().unwrap();
    said.clear();
    stderr.read_to_string(&mut said).unwrap();
    assert!(!said.contains("a client"), "{said}");
}
