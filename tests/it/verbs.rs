//! The verbs of the command line, end to end: the binary, and a collector or a server beside it.

use std::path::Path;
use std::process::Command;

use rcgen::{CertificateParams, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::harness::*;

/// What the binary prints, and its exit status, while this thread serves.
async fn run(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_misaki"));
    command.args(arguments).env_remove("OTEL_EXPORTER_OTLP_ENDPOINT");
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn port_of(misaki: &Misaki, protocol: &str) -> u16 {
    let found = misaki.running.addresses.iter().find(|(name, _)| *name == protocol);
    found.unwrap().1.unwrap().port()
}

fn written(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// A config with one exporter, and receivers on free ports.
fn edge(exporter: &str, extensions: &str) -> String {
    let name = exporter.split(':').next().unwrap();
    format!(
        "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: \"127.0.0.1:0\"}}}}}}}}\nexporters:\n  {exporter}\n{extensions}\n\
         service: {{telemetry: {{metrics: {{level: none}}}}, pipelines: {{logs: {{receivers: [otlp], exporters: [{name}]}}}}}}"
    )
}

/// What `doctor` says of an exporter: its exit status and its table, which fits on a screen.
async fn doctor(exporter: &str) -> (i32, String) {
    let (status, out, err) = run(&["doctor", "--config", &format!("yaml:{}", edge(exporter, ""))]).await;
    assert_eq!(err, "");
    let widest = out.lines().max_by_key(|line| line.chars().count()).unwrap();
    assert!(widest.chars().count() <= 80, "{widest}");
    (status, out)
}

/// The lines of one hop, joined.
#[track_caller]
fn hop(table: &str, state: &str, what: &str) -> String {
    let mut lines = table.lines().skip_while(|line| !line.starts_with(&format!("  {state:<8}{what:<10}")));
    let Some(first) = lines.next() else { panic!("no {state} {what} in:\n{table}") };
    let rest = lines.take_while(|line| line.starts_with("          "));
    [first].into_iter().chain(rest).map(str::trim).collect::<Vec<_>>().join(" ")
}

/// What people try first is understood, or answered with what to write.
#[tokio::test]
async fn first_words() {
    assert_eq!(run(&["help"]).await, run(&["--help"]).await);
    assert_eq!(run(&["help", "tail"]).await, run(&["tail", "--help"]).await);
    assert_eq!(run(&["version"]).await, (0, format!("misaki {}\n", env!("CARGO_PKG_VERSION")), String::new()));
    for (words, meant) in [
        (&["edge.yaml"][..], "--config edge.yaml"),
        (&["-c", "edge.yaml"], "--config edge.yaml"),
        (&["tial"], "tail"),
        (&["print-config", "edge.yaml"], "print-config --config edge.yaml"),
        (&["print-config", "--format", "json", "edge.yaml"], "print-config --format json --config edge.yaml"),
        (&["doctor", "env:CONFIG"], "doctor --config env:CONFIG"),
        (&["doctor", "http://edge:4318"], "doctor --to http://edge:4318"),
        (&["run", "edge.yaml"], "run --config edge.yaml"),
        (&["status", "4711"], "status --pid 4711"),
        (&["status", "/run/misaki/1.sock"], "status --socket /run/misaki/1.sock"),
    ] {
        let (status, _, err) = run(words).await;
        assert_eq!(status, 64);
        assert!(err.ends_with(&format!("Did you mean `misaki {meant}`?\n")) && !err.contains("-- -c"), "{err}");
    }
    // Where no option takes it, nothing is guessed.
    let (status, _, err) = run(&["components", "edge.yaml"]).await;
    assert!(status == 64 && !err.contains("Did you mean"), "{err}");
    let (status, _, err) = run(&["test", "pipelines/edge-filter.yaml"]).await;
    let expected = "error: pipelines/edge-filter.yaml is a config: its cases stand in pipelines/edge-filter.test.yaml (see --help)\n";
    assert_eq!((status, err.as_str()), (1, expected));
    let (status, _, err) = run(&["--"]).await;
    assert!(status == 64 && err.starts_with("error: a command to run is missing behind `--`"), "{err}");
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = format!("receivers.otlp.protocols.grpc.endpoint={}", taken.local_addr().unwrap());
    let (status, _, err) = run(&["--set", &place, "--set", "receivers.otlp.protocols.http.endpoint=127.0.0.1:0"]).await;
    let help = "): address in use\n  help: another collector may be running; for other ports:\n        --set receivers.otlp.protocols.grpc.endpoint=localhost:";
    assert!(status == 1 && err.contains(help), "{err}");
    let (status, _, err) = run(&["tail", "4bf9"]).await;
    assert!(status != 0 && err.contains("the beginning of a trace id has at least 6 digits"), "{err}");
    let (status, _, err) = run(&["test", "no.test.yaml"]).await;
    assert_eq!((status, err.as_str()), (1, "error: cannot read no.test.yaml: No such file or directory\n"));
}

/// The Go collector says nothing of what is declared and used nowhere.
#[tokio::test]
async fn what_does_nothing_is_told() {
    let unused =
        "processors: {batch: , filter/tail: }\nconnectors: {forward: }\nextensions: {health_check: , inspect: }";
    let (status, _, err) = run(&["validate", "--config", &format!("yaml:{}", edge("nop: {}", unused))]).await;
    assert_eq!(status, 0, "{err}");
    for told in [
        "warning: processors.batch is in no pipeline: it does nothing\n",
        "warning: processors.filter/tail is in no pipeline: it does nothing\n",
        "warning: connectors.forward is in no pipeline: it does nothing\n",
        "warning: extensions.health_check is not in `service.extensions`: it is not\n         started\n",
        "4 warnings in",
    ] {
        assert!(err.contains(told), "{told}: {err}");
    }
}

#[tokio::test]
async fn doctor_finds_nothing_wrong_where_nothing_is() {
    let upstream = Misaki::start("{}", &[]).await;
    let (grpc, http) = (port_of(&upstream, "grpc"), port_of(&upstream, "http"));
    let exporters = [
        format!("otlp: {{endpoint: \"127.0.0.1:{grpc}\", tls: {{insecure: true}}}}"),
        format!("otlp_http: {{endpoint: \"http://localhost:{http}\", encoding: json}}"),
    ];
    for exporter in exporters {
        let (status, table) = doctor(&exporter).await;
        assert_eq!(status, 0, "{table}");
        assert!(hop(&table, "ok", "export").contains("logs: an empty one is accepted"), "{table}");
        assert!(hop(&table, "ok", "gRPC").contains("127.0.0.1:0 is free"), "{table}");
        assert!(hop(&table, "ok", "budget").contains("telemetry may take"), "{table}");
    }
}

#[tokio::test]
async fn doctor_names_the_hop_that_fails() {
    let closed = free_port().await;
    let (status, table) = doctor(&format!("otlp: {{endpoint: \"127.0.0.1:{closed}\", tls: {{insecure: true}}}}")).await;
    assert_eq!(status, 1);
    assert!(hop(&table, "FAILED", "connect").contains("is the upstream up, and is this its port?"), "{table}");
    assert!(hop(&table, "-", "export").contains("not tried"), "{table}");

    let (status, table) = doctor("otlp: {endpoint: \"no-such-host.invalid:4317\", tls: {insecure: true}}").await;
    assert_eq!(status, 1);
    assert!(hop(&table, "FAILED", "name").contains("check how it is spelt"), "{table}");

    // A web server where a gRPC server should be.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = async {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 64]).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n").await;
        }
    };
    let exporter = format!("otlp: {{endpoint: \"127.0.0.1:{port}\", tls: {{insecure: true}}}}");
    let (status, table) = tokio::select! {
        said = doctor(&exporter) => said,
        () = server => unreachable!(),
    };
    assert_eq!(status, 1);
    assert!(hop(&table, "FAILED", "protocol").contains("it speaks HTTP/1.1, and gRPC wants HTTP/2"), "{table}");
    let taken = format!("otlp: {{endpoint: \"127.0.0.1:{port}\", tls: {{insecure: true}}}}");
    let config = edge(&taken, "").replace("127.0.0.1:0", &format!("127.0.0.1:{port}"));
    let (status, table, _) = run(&["doctor", "--config", &format!("yaml:{config}")]).await;
    assert_eq!(status, 1);
    assert!(hop(&table, "FAILED", "gRPC").contains(&format!("process {}", std::process::id())), "{table}");
}

#[tokio::test]
async fn doctor_reads_certificates_and_believes_those_that_it_should() {
    let folder = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let cert = written(folder.path(), "server.crt", &certificate.pem());
    let key = written(folder.path(), "server.key", &key.serialize_pem());
    let tls = format!("tls: {{cert_file: {cert}, key_file: {key}}}");
    let changes = format!("receivers: {{otlp: {{protocols: {{grpc: {{{tls}}}}}}}}}");
    let upstream = Misaki::start(&changes, &[]).await;
    let port = port_of(&upstream, "grpc");
    let (status, table) = doctor(&format!("otlp: {{endpoint: \"localhost:{port}\"}}")).await;
    assert_eq!(status, 1);
    assert!(hop(&table, "ok", "TLS").contains("for localhost, signed by itself, until "), "{table}");
    assert!(hop(&table, "FAILED", "TLS").contains("set tls.ca_file"), "{table}");
    let trusting = format!("otlp: {{endpoint: \"localhost:{port}\", tls: {{ca_file: {cert}}}}}");
    let (status, table) = doctor(&trusting).await;
    assert_eq!(status, 0, "{table}");
    assert!(hop(&table, "ok", "protocol").contains("HTTP/2, as TLS chose (h2)"), "{table}");
    let elsewhere = format!("otlp: {{endpoint: \"127.0.0.1:{port}\", tls: {{ca_file: {cert}}}}}");
    let (_, table) = doctor(&elsewhere).await;
    assert!(hop(&table, "FAILED", "TLS").contains("tls.server_name_override"), "{table}");
    let plain = format!("otlp: {{endpoint: \"localhost:{port}\", tls: {{insecure: true}}}}");
    let (_, table) = doctor(&plain).await;
    assert!(hop(&table, "FAILED", "protocol").contains("TLS"), "{table}");
}

#[tokio::test]
async fn send_brings_each_scenario_anew() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.jsonl");
    let pipeline = "{receivers: [otlp], exporters: [file]}";
    let changes = format!(
        "exporters: {{file: {{path: {}}}}}\nservice: {{pipelines: {{logs: {pipeline}, traces: {pipeline}, metrics: {pipeline}}}}}",
        out.display()
    );
    let misaki = Misaki::start(&changes, &[]).await;
    let grpc = format!("grpc://127.0.0.1:{}", port_of(&misaki, "grpc"));
    let http = format!("http://127.0.0.1:{}", port_of(&misaki, "http"));
    let expected = [
        ("health-reporter", "log records: 4 sent in 1 request, 4 accepted\nspans: 1 sent in 1 request, 1 accepted\n"),
        ("slog", "log records: 4 sent in 1 request, 4 accepted\nspans: 1 sent in 1 request, 1 accepted\n"),
        ("purchase", "log records: 2 sent in 1 request, 2 accepted\nspans: 8 sent in 1 request, 8 accepted\n"),
        ("noise", "log records: 3 sent in 1 request, 3 accepted\nspans: 2 sent in 1 request, 2 accepted\n"),
        (
            "pillars",
            "log records: 2 sent in 1 request, 2 accepted\ndata points: 4 sent in 1 request, 4 accepted\nspans: 2 sent in 1 request, 2 accepted\n",
        ),
    ];
    for (scenario, says) in expected {
        for to in [&grpc, &http] {
            assert_eq!(run(&["send", scenario, "--to", to]).await, (0, says.to_owned(), String::new()), "{scenario}");
        }
    }
    let written = std::fs::read_to_string(&out).unwrap();
    let ids: Vec<&str> = written.split("\"traceId\":\"").skip(1).filter_map(|rest| rest.get(..32)).collect();
    let different: std::collections::HashSet<_> = ids.iter().collect();
    assert_eq!(different.len(), 12, "new ones each time; noise has two");
    // A log that names its trace in an attribute goes on naming it.
    let first = written.lines().next().unwrap();
    assert_eq!(first.matches(ids[0]).count(), 8, "{first}");
    // What was recorded is sent as it is, or as if it were new.
    let recorded = out.display().to_string();
    let before = written.lines().count();
    let copy = written_to(folder.path(), &recorded);
    let (status, out_text, err) = run(&["send", &copy, "--to", &grpc, "--count", "2", "--rate", "1000"]).await;
    assert_eq!((status, err.as_str()), (0, ""), "{out_text}");
    let after = std::fs::read_to_string(&out).unwrap();
    assert_eq!(after.lines().count(), before * 3);
    assert_eq!(after.lines().nth(before), after.lines().next());
}

fn written_to(folder: &Path, original: &str) -> String {
    let text = std::fs::read_to_string(original).unwrap();
    written(folder, "copy.jsonl", &text)
}

#[tokio::test]
async fn send_says_what_was_not_accepted() {
    let closed = format!("grpc://127.0.0.1:{}", free_port().await);
    let (status, out, err) = run(&["send", "--to", &closed]).await;
    assert_eq!((status, err.as_str()), (1, "error: not everything was accepted\n"));
    assert!(out.contains("log records: 4 sent in 1 request, 0 accepted, 4 refused\n"), "{out}");
    assert!(out.contains("Connection refused"), "{out}");

    let upstream = Upstream::start().await;
    upstream.script(|_| Reply::Partial(3, "too old"));
    let (status, out, _) = run(&["send", "slog", "--to", &format!("grpc://{}", upstream.address)]).await;
    assert_eq!(status, 1);
    assert!(out.contains("log records: 4 sent in 1 request, 1 accepted, 3 rejected\n"), "{out}");
    assert!(out.contains("says: too old\n"), "{out}");

    let (status, _, err) = run(&["send", "no-such-thing"]).await;
    assert!(status == 1 && err.contains("scenarios are health-reporter, slog"), "{err}");
    let folder = tempfile::tempdir().unwrap();
    let bad = written(folder.path(), "bad.jsonl", "{\"resourceLogs\":[]}\n{\"resourceLogs\":[{\"resource\":7}]}\n");
    let (status, _, err) = run(&["send", &bad]).await;
    assert!(status == 1 && err.contains("request 2 in "), "{err}");
}

#[tokio::test]
async fn the_cases_of_the_ready_made_configs_pass() {
    let files: Vec<_> = std::fs::read_dir("pipelines").unwrap().map(|entry| entry.unwrap().path()).collect();
    let files: Vec<_> =
        files.iter().map(|path| path.to_str().unwrap()).filter(|path| path.ends_with(".test.yaml")).collect();
    assert!(!files.is_empty());
    let (status, out, err) = run(&[&["test"], files.as_slice()].concat()).await;
    assert_eq!((status, err.as_str()), (0, ""), "{out}");
    assert!(out.ends_with(" passed, 0 failed\n"), "{out}");
}

#[tokio::test]
async fn what_stands_behind_the_cases_stays() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path(), "edge.yaml", CONFIG);
    let case = "cases:\n  - name: paid\n    in: [{log: {severity: 9, body: paid}}]\n";
    let (wrong, rest) = ("    out:\n      - log: {body: lost, severity: 9}\n", "\n# Variables.\nenv: {SITE: tokyo}\n");
    let right = wrong.replace("lost", "paid");
    let cases = written(folder.path(), "edge.test.yaml", &format!("{case}{wrong}{rest}"));
    let (_, out, _) = run(&["test", &cases]).await;
    let told = ["  out:", "-   - log: {body: lost, severity: 9}", "+   - log: {body: paid, severity: 9}"];
    assert!(out.contains(&told.join("\n        ")), "{out}");
    for before in [wrong, ""] {
        let cases = written(folder.path(), "edge.test.yaml", &format!("{case}{before}{rest}"));
        assert_eq!(run(&["test", "--update", &cases]).await.0, 0);
        assert_eq!(std::fs::read_to_string(&cases).unwrap(), format!("{case}{right}{rest}"));
    }
}

const CONFIG: &str = "\
receivers: {otlp: {protocols: {grpc: }}}
processors:
  filter: {log_conditions: ['log.severity_number < SEVERITY_NUMBER_INFO', 'IsMatch(log.body, \"^ping$$\")']}
  batch: {timeout: 1h}
  tail_sampling: {decision_wait: 1h, policies: [{name: slow, type: latency, latency: {threshold_ms: 100}}]}
exporters: {otlp: {endpoint: 'localhost:1'}}
service:
  pipelines:
    logs: {receivers: [otlp], processors: [filter, batch], exporters: [otlp]}
    traces: {receivers: [otlp], processors: [tail_sampling], exporters: [otlp]}
";

const CASES: &str = "\
# Comments stay.
cases:
  - name: debug and pings   # here, too
    in:
      - log: {severity: 5, body: noise}
      - log: {severity: 9, body: ping}
      - log: {severity: 9, body: {cost: 3.5, sum: $$3, list: [1, true]}}
    dropped: {filter: 2}
    out:
      - log: {severityNumber: 9, body: {cost: 3.5, list: [1, true], sum: $$3}}

  - name: slow traces
    in:
      resourceSpans: [{scopeSpans: [{spans: [
        {traceId: 0af7651916cd43dd8448eb211c80319c, spanId: b7ad6b7169203331, startTimeUnixNano: 1, endTimeUnixNano: 2}]}]}]
    out: []
    dropped: {}
    # Nothing else is held.
  - name: metrics
    in: [{metric: {name: up, sum: 1}}]
    out: []
";

#[tokio::test]
async fn a_case_that_fails_says_the_difference_and_can_be_rewritten() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path(), "edge.yaml", CONFIG);
    let cases = written(folder.path(), "edge.test.yaml", CASES);
    let report = folder.path().join("report.xml").display().to_string();
    let (status, out, err) = run(&["test", &cases, "--junit", &report]).await;
    assert_eq!((status, err.as_str()), (1, ""));
    let name = |case: &str| format!("{cases}: {case}");
    let expected = format!(
        "ok      {}\nFAILED  {}\n        - expected, + came out\n          out: []\n        + dropped:\n        +   sampled_out: 1\n\
         FAILED  {}\n        no pipeline of the config takes metrics\n1 passed, 2 failed\n",
        name("debug and pings"),
        name("slow traces"),
        name("metrics")
    );
    assert_eq!(out, expected);
    let report = std::fs::read_to_string(report).unwrap();
    assert!(report.contains("tests=\"3\" failures=\"2\""), "{report}");
    assert!(report.contains("name=\"metrics\"><failure>no pipeline of the config takes metrics</failure>"), "{report}");

    let (status, ..) = run(&["test", "--update", &cases]).await;
    assert_eq!(status, 1, "what cannot run cannot be rewritten");
    let rewritten = std::fs::read_to_string(&cases).unwrap();
    assert!(
        rewritten.starts_with("# Comments stay.\ncases:\n  - name: debug and pings   # here, too\n    in:\n"),
        "{rewritten}"
    );
    let outcome = "\
    out:
      - log: {body: {cost: 3.5, list: [1, true], sum: $$3}, severity: 9}
    dropped:
      filter:
        'IsMatch(log.body, \"^ping$\")': 1
        log.severity_number < SEVERITY_NUMBER_INFO: 1
";
    assert!(rewritten.contains(outcome), "{rewritten}");
    assert!(
        rewritten.contains("    out: []\n    dropped:\n      sampled_out: 1\n    # Nothing else is held.\n"),
        "{rewritten}"
    );
    let (_, out, _) = run(&["test", &cases]).await;
    assert!(out.ends_with("2 passed, 1 failed\n"), "{out}");

    let wrong = written(folder.path(), "edge.test.yaml", "cases: [{name: a, inn: 1}]\n");
    let (status, _, err) = run(&["test", &wrong]).await;
    assert!(status == 78 && err.contains("unknown key \"inn\"") && err.contains("did you mean \"in\""), "{err}");
    for (case, told) in [
        ("in: [{log: {severty: 5}}]", "unknown key \"severty\" in a log: did you mean \"severity\"?"),
        ("in: [], out: [{log: {body: x, colour: red}}]", "out: unknown key \"colour\" in a log: the keys are "),
        ("in: [{span: {name: x, status: {cod: 2}}}]", "unknown key \"cod\" in a span: did you mean \"code\"?"),
        ("in: [{metric: {name: x, gauge: {data_point: []}}}]", "in a metric: did you mean \"dataPoints\"?"),
        (
            "in: {resourceSpans: [{scopeSpans: [{span: []}]}]}",
            "unknown key \"span\" in a span: did you mean \"spans\"?",
        ),
    ] {
        let wrong = written(folder.path(), "edge.test.yaml", &format!("cases: [{{name: a, {case}}}]\n"));
        let (status, out, err) = run(&["test", &wrong]).await;
        assert!(status == 1 && out.contains(told), "{out}{err}");
    }
    for (text, told) in
        [("cases: []", "there are no cases in it"), ("cases: [{name: a, out: []}]", "it is required, and missing")]
    {
        let (status, _, err) = run(&["test", &written(folder.path(), "edge.test.yaml", text)]).await;
        assert!(status != 0 && err.contains(told), "{err}");
    }
}

/// Where bash is, it is asked what it would offer.
/// A pipe that nobody writes to holds up no test, and a device without an end is not read to it.
#[cfg(unix)]
#[tokio::test]
async fn files_without_an_end_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    pipe(&folder.path().join("edge.yaml"));
    let cases = written(folder.path(), "edge.test.yaml", "cases: []\n");
    let (status, out, said) = run(&["test", &cases]).await;
    assert!(status != 0 && format!("{out}{said}").contains("it is a pipe, and must be a file"), "{out}{said}");
    let endless = folder.path().join("endless.json");
    std::os::unix::fs::symlink("/dev/zero", &endless).unwrap();
    let (status, out, said) = run(&["send", endless.to_str().unwrap()]).await;
    assert!(status != 0 && said.contains("larger than 256 MiB"), "{out}{said}");
}

#[tokio::test]
async fn shells_complete_verbs_options_and_values() {
    let (status, script, _) = run(&["completions", "bash"]).await;
    assert_eq!(status, 0);
    let offered = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let ask = format!(
            "{script}\nCOMP_WORDS=({}); COMP_CWORD={}; _misaki misaki \"${{COMP_WORDS[-1]}}\" \"${{COMP_WORDS[-2]}}\"; echo \"${{COMPREPLY[@]}}\"",
            words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" "),
            words.len() - 1
        );
        let output = Command::new("bash").args(["-c", &ask]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(offered("misaki val"), "validate");
    assert_eq!(offered("misaki tail --at "), "received leaving dropped filtered");
    assert_eq!(offered("misaki queue in"), "inspect");
    assert_eq!(offered("misaki queue drop --"), "--dead --yes --help");
    assert!(offered("misaki validate --config ").contains("Cargo.toml"), "a file");
    assert_eq!(offered("misaki completions "), "-h --help bash elvish fish powershell zsh");
    for shell in ["zsh", "fish"] {
        let (status, script, _) = run(&["completions", shell]).await;
        assert!(status == 0 && script.contains("doctor"), "{script}");
    }
}

/// What an option names is looked at before anything starts, and is told by its name.
#[tokio::test]
async fn files_of_options_must_be_there() {
    for option in ["--ca", "--token-file"] {
        let (status, _, err) = run(&["--to", "https://collector.example", option, "/no/such/file"]).await;
        let expected = format!("error: cannot read {option} /no/such/file: no such file or directory\n");
        assert_eq!((status, err.as_str()), (64, expected.as_str()));
    }
}

/// A section spelt in the singular is one mistake, and told with what was meant.
#[tokio::test]
async fn an_exporter_below_a_misspelt_section() {
    let config = "yaml:{receivers: {otlp: {protocols: {grpc: }}}, exporter: {debug: }, service: {pipelines: {logs: {receivers: [otlp], exporters: [debug]}}}}";
    let (status, _, err) = run(&["validate", "--config", config]).await;
    assert!(
        status == 78 && err.contains("unknown key \"exporter\"") && err.contains("did you mean \"exporters\""),
        "{err}"
    );
    assert!(err.contains("1 error in"), "{err}");
}

/// An upstream of the environment is blamed by the variable's name, and a secret is not shown.
#[tokio::test]
async fn variables_are_blamed_by_their_names() {
    let rows: [(&[(&str, &str)], &str); 4] = [
        (&[("ENDPOINT", "http://host:none")], "OTEL_EXPORTER_OTLP_ENDPOINT=http://host:none: "),
        (&[("ENDPOINT", "http://host:1"), ("COMPRESSION", "rar")], "OTEL_EXPORTER_OTLP_COMPRESSION=rar: "),
        (&[("ENDPOINT", "http://host:1"), ("LOGS_ENDPOINT", "here")], "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT=here: "),
        (&[("ENDPOINT", "http://host:1"), ("HEADERS", "bad name=secret")], "OTEL_EXPORTER_OTLP_HEADERS: "),
    ];
    for (variables, said) in rows {
        let mut command = Command::new(env!("CARGO_BIN_EXE_misaki"));
        command.arg("doctor").envs(variables.iter().map(|(name, value)| (format!("OTEL_EXPORTER_OTLP_{name}"), value)));
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let err = String::from_utf8(output.stderr).unwrap().replace("\n       ", " ");
        assert!(output.status.code() == Some(64) && err.contains(said) && !err.contains("secret"), "{said}: {err}");
        assert!(err.contains("help: unset it to print what arrives, or mend it"), "{err}");
    }
}

/// With a config, `--ca` and `--token-file` go to each exporter that has none of its own. If every exporter has its own, they are refused.
#[tokio::test]
async fn options_complete_a_config() {
    let folder = tempfile::tempdir().unwrap();
    let token = written(folder.path(), "token", "right\n");
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let cert = written(folder.path(), "server.crt", &certificate.pem());
    let key = written(folder.path(), "server.key", &key.serialize_pem());
    let server = format!("tls: {{cert_file: {cert}, key_file: {key}}}, auth: {{authenticator: bearertokenauth}}");
    let changes = format!(
        "{{receivers: {{otlp: {{protocols: {{grpc: {{{server}}}, http: {{{server}}}}}}}}}, \
         extensions: {{bearertokenauth: {{token: right}}}}, service: {{extensions: [bearertokenauth]}}}}"
    );
    let upstream = Misaki::start(&changes, &[]).await;
    let (grpc, http) = (port_of(&upstream, "grpc"), port_of(&upstream, "http"));
    let both = ["--ca", cert.as_str(), "--token-file", token.as_str()];
    for exporter in [
        format!("otlp: {{endpoint: \"localhost:{grpc}\"}}"),
        format!("otlp_grpc/2: {{endpoint: \"localhost:{grpc}\", tls: {{ca_file: \"\"}}, headers: }}"),
        format!("otlp_http: {{endpoint: \"https://localhost:{http}\", headers: {{x: y}}}}"),
        format!("otlphttp/2: {{endpoint: \"https://localhost:{http}\", headers: [{{name: x, value: y}}]}}"),
    ] {
        let config = format!("yaml:{}", edge(&exporter, ""));
        let (status, table, err) = run(&[&["doctor", "--config", &config][..], &both].concat()).await;
        assert_eq!(status, 0, "{exporter}: {table}{err}");
        let (status, out, err) = run(&[&["validate", "--config", &config][..], &both].concat()).await;
        assert!(status == 0 && out.contains("is valid") && !err.contains("error"), "{exporter}: {out}{err}");
        let (status, out, _) = run(&[&["print-config", "--config", &config][..], &both].concat()).await;
        assert!(status == 0 && out.contains(&cert) && !out.contains("right"), "{exporter}: {out}");
        // Neither is enough alone.
        for half in [&both[..2], &both[2..]] {
            let (status, table, _) = run(&[&["doctor", "--config", &config][..], half].concat()).await;
            assert_eq!(status, 1, "{half:?}: {table}");
        }
    }
    for (exporter, option, file, told) in [
        (
            "otlp: {endpoint: 'a:1', tls: {insecure: true}}".to_owned(),
            "--ca",
            &cert,
            "each has its own, or sends in clear",
        ),
        (format!("otlp: {{endpoint: 'a:1', tls: {{ca_file: '{cert}'}}}}"), "--ca", &cert, "each has its own"),
        (
            "otlp: {endpoint: 'a:1', headers: {AUTHORIZATION: Basic abc}}".to_owned(),
            "--token-file",
            &token,
            "of its own",
        ),
        ("otlp_http: {endpoint: 'https://me:secret@a:1'}".to_owned(), "--token-file", &token, "of its own"),
        ("otlp_http: {endpoint: 'http://a:1'}".to_owned(), "--ca", &cert, "sends in clear"),
        ("debug: {}".to_owned(), "--token-file", &token, "no exporter takes it"),
        ("debug: {}".to_owned(), "--ca", &"/no/such/file".to_owned(), "cannot read --ca /no/such/file"),
    ] {
        let config = format!("yaml:{}", edge(&exporter, ""));
        for verb in [&[][..], &["run"], &["validate"], &["doctor"], &["print-config"]] {
            let (status, _, err) = run(&[verb, &["--config", &config, option, file]].concat()).await;
            assert!(status == 64 && err.contains(told) && err.starts_with("error: "), "{verb:?} {exporter}: {err}");
        }
    }
    // What is wrong with the config is told once, and is not that an option has no place.
    let config = format!("yaml:{}", edge("otlp: {endpoint: 'a:1', compression: rar}", ""));
    let (status, _, err) = run(&["validate", "--config", &config, "--ca", &cert]).await;
    assert!(status == 78 && err.contains("1 error") && err.contains("compression"), "{err}");
    let (status, _, err) = run(&["--set", "receivers.otlp.protocols.grpc.endpoint=127.0.0.1:0", "--ca", &cert]).await;
    assert!(
        status == 64 && err.contains("--ca and --token-file want an upstream: --to URL, or --config FILE"),
        "{err}"
    );
}

/// Forms that mean nothing here and that the Go collector takes.
#[tokio::test]
async fn forms_without_meaning_are_taken() {
    let http = "otlp_http: {endpoint: 'http://[::ffff:127.0.0.1]:4318', middlewares: []}";
    let (status, _, err) = run(&["validate", "--config", &format!("yaml:{}", edge(http, ""))]).await;
    assert_eq!((status, err.as_str()), (0, ""));
    let config = edge("otlp_grpc: {endpoint: 'dns://8.8.8.8/a:4317', middlewares: []}", "").replace(
        "{grpc: {endpoint: \"127.0.0.1:0\"}}",
        "{grpc: {endpoint: '[::ffff:127.0.0.1]:0', middlewares: []}, http: {middlewares: []}}",
    );
    let (status, _, err) = run(&["validate", "--config", &format!("yaml:{config}")]).await;
    assert!(status == 0 && err.contains("the name server 8.8.8.8 is not asked"), "{err}");
    let (status, _, err) = run(&[
        "validate",
        "--config",
        &format!("yaml:{}", edge("otlp_grpc: {endpoint: 'a:1', middlewares: [{id: x}]}", "")),
    ])
    .await;
    assert!(status == 78 && err.contains("middlewares"), "{err}");
}
