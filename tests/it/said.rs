//! What the verbs and the log say to a person: that the last line answers the question, and that nothing misleads.

use std::path::Path;
use std::process::{Command, Stdio};

use misaki::face::diagnostics::Reloads;
use misaki::face::inspect::{Subject, status};

use crate::harness::*;

/// What the binary prints on both streams, and its exit status.
fn run(arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_misaki"));
    command.args(arguments).env_remove("OTEL_EXPORTER_OTLP_ENDPOINT").env("NO_COLOR", "1");
    let output = command.output().unwrap();
    (output.status.code().unwrap(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

fn written(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

const EDGE: &str = "receivers: {otlp: {protocols: {grpc: {endpoint: '127.0.0.1:0'}}}}\n\
    processors: {filter: {log_conditions: ['log.severity_number < SEVERITY_NUMBER_INFO']}}\nexporters: {nop: }\n\
    service: {telemetry: {metrics: {level: none}}, pipelines: {logs: {receivers: [otlp], processors: [filter], exporters: [nop]}}}\n";

#[test]
fn what_is_valid_is_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let edge = written(folder.path(), "edge.yaml", EDGE);
    assert_eq!(run(&["validate", &edge]), (0, format!("{edge} is valid: 1 pipeline, 3 components\n")));
    let (status, said) = run(&["validate", &edge, "--set", "processors.filter.foo=1"]);
    assert!(status == 78 && !said.contains("valid:"), "{said}");
}

/// On a terminal the problems have colours; the reason that is kept of them has none.
#[test]
fn why_a_reload_was_refused_is_plain_text() {
    let reloads = Reloads::default();
    reloads.fail("\x1b[1m\x1b[91merror\x1b[0m\x1b[1m: processors.batch: unknown key \"a\"\x1b[0m\n  \x1b[94m-->\x1b[0m edge.yaml");
    assert_eq!(reloads.state().refused.unwrap().1, "processors.batch: unknown key \"a\" (edge.yaml)");
}

#[tokio::test]
async fn an_exporter_is_untried_until_it_has_sent() {
    let (upstream, absent) = (Upstream::start().await, Upstream::absent());
    let changes = "{exporters: {otlp/2: {retry_on_failure: {initial_interval: 1h, max_interval: 1h}}}, service: {pipelines: \
                   {logs: {exporters: [otlp]}, traces: {receivers: [otlp], exporters: [otlp/2]}}}}";
    let mut misaki = Misaki::start(changes, &[&upstream, &absent]).await;
    let state = |misaki: &Misaki, exporter: &str| {
        let told = status::describe(&Subject::new(Vec::new(), &misaki.running));
        let all = told["exporters"].as_array().unwrap().clone();
        all.iter().find(|each| each["id"] == exporter).unwrap()["state"].as_str().unwrap().to_owned()
    };
    assert_eq!((state(&misaki, "otlp"), state(&misaki, "otlp/2")), ("untried".to_owned(), "untried".to_owned()));
    assert!(misaki.send(&["a"]).await.ok);
    misaki.settle().await;
    assert_eq!((state(&misaki, "otlp"), state(&misaki, "otlp/2")), ("up".to_owned(), "untried".to_owned()));
    misaki.finish().await;
}

/// Nor is one `up` that was only ever refused, before that lasts long enough to be an outage.
#[tokio::test]
async fn an_exporter_that_never_got_through_is_not_up() {
    let upstream = Upstream::replying(Reply::Grpc(14, "away", None)).await;
    let mut misaki = Misaki::start(
        "{exporters: {otlp: {retry_on_failure: {initial_interval: 1h, max_interval: 1h}}}}",
        &[&upstream],
    )
    .await;
    let state = |misaki: &Misaki| {
        let told = status::describe(&Subject::new(Vec::new(), &misaki.running));
        told["exporters"]
            .as_array()
            .unwrap()
            .iter()
            .map(|each| each["state"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert!(misaki.send(&["a"]).await.ok);
    until("it was asked", || upstream.requests() == 1).await;
    for _ in 0..5 {
        rest().await;
        assert!(!state(&misaki).contains(&"up".to_owned()), "{:?}", state(&misaki));
    }
    misaki.finish_within(std::time::Duration::ZERO).await;
}

/// What an earlier run left is sent and in the ledger, and no receiver counts it: the page says so.
#[tokio::test]
async fn what_was_left_on_disk_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let changes = format!(
        "{{extensions: {{file_storage: {{directory: '{}'}}, inspect: {{path: '{}'}}}}, exporters: {{otlp: {{sending_queue: {{storage: file_storage}}}}}}, \
         service: {{extensions: [file_storage]}}}}",
        folder.path().display(),
        folder.path().join("sock").display()
    );
    let away = Upstream::replying(Reply::Grpc(14, "away", None)).await;
    let mut misaki = Misaki::start(&changes, &[&away]).await;
    assert!(misaki.send(&["a", "b"]).await.ok);
    misaki.finish().await;
    drop(misaki);
    let upstream = Upstream::start().await;
    let mut misaki = Misaki::start(&changes, &[&upstream]).await;
    assert!(misaki.send(&["c"]).await.ok);
    misaki.settle().await;
    let subject = Subject::new(Vec::new(), &misaki.running);
    let told = status::describe(&subject);
    let account = &told["ledger"][0];
    assert_eq!((&account["accepted"], &account["found"], &account["exported"]), (&3.into(), &2.into(), &3.into()));
    let socket = folder.path().join("status.sock");
    let config = misaki::face::extensions::LocalSocket { path: Some(socket.clone()), ..Default::default() };
    let inspection = misaki::face::inspect::Inspection::open(&config, subject).unwrap();
    let shown =
        tokio::task::spawn_blocking(move || run(&["status", "--socket", socket.to_str().unwrap()])).await.unwrap().1;
    for line in [
        "  of ACCEPTED, 2 were on disk from before the start: no RECEIVER counts them\n",
        "  2 from before the start are in what became of them, and not in ITEMS\n",
    ] {
        assert!(shown.contains(line), "{shown}");
    }
    drop(inspection);
    misaki.finish().await;
}

#[tokio::test]
async fn the_last_line_of_doctor_names_what_failed() {
    let closed = free_port().await;
    let config = EDGE
        .replace("nop", "otlp_grpc")
        .replace("otlp_grpc: }", &format!("otlp_grpc: {{endpoint: '127.0.0.1:{closed}', tls: {{insecure: true}}}}}}"));
    let (status, said) =
        tokio::task::spawn_blocking(move || run(&["doctor", "--config", &format!("yaml:{config}")])).await.unwrap();
    let last = said.lines().last().unwrap_or_default();
    assert!(status == 1 && last.starts_with("FAILED: connect") && last.contains("otlp_grpc"), "{said}");
}

#[test]
fn cases_are_refused_with_their_place_and_what_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path(), "edge.yaml", EDGE);
    let cases = |text: &str| run(&["test", &written(folder.path(), "edge.test.yaml", text)]);
    let case = "cases:\n  - name: a\n    in:\n      - log: {severity: 9, body: b}\n";
    for (record, told) in [
        (
            "      - log: {severity: DEBUG, body: x}\n",
            "severity \"DEBUG\" is no number from 0 to 24: 1 is TRACE, 5 DEBUG, 9 INFO",
        ),
        ("      - log: {severty: 5}\n", "unknown key \"severty\" in a log: did you mean \"severity\"?"),
        ("      - log: {zzzzzzzzz: 5}\n", "unknown key \"zzzzzzzzz\" in a log: the keys are timeUnixNano, "),
        ("      - log: {timeUnixNano: x}\n", ""),
        ("      - span: {traceId: abc}\n", "invalid traceId \"abc\": 32 hex digits are needed"),
    ] {
        let (status, said) = cases(&format!("{case}{record}    out: []\n"));
        assert!(status == 1 && said.contains("edge.test.yaml:5:9: in: ") && said.contains(told), "{said}");
        assert!(!said.contains("column"), "{said}");
    }
    let (status, said) = cases(&format!("{case}    out:\n      - log: {{severity: X}}\n"));
    assert!(status == 1 && said.contains("edge.test.yaml:6:9: out: severity \"X\""), "{said}");
    // What is dropped counts where the case says so.
    let two = "cases:\n  - name: a\n    in:\n      - log: {severity: 5}\n      - log: {severity: 9}\n    out:\n      - log: {severity: 9}\n";
    assert_eq!(cases(two).0, 0, "{}", cases(two).1);
    assert_eq!(cases(&format!("{two}    dropped: {{filter: 1}}\n")).0, 0);
    for wrong in ["    dropped: {filter: 2}\n", "    dropped: {}\n"] {
        assert_eq!(cases(&format!("{two}{wrong}")).0, 1, "{wrong}");
    }
}

#[test]
fn what_a_file_of_cases_cannot_mean_is_refused_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path(), "edge.yaml", EDGE);
    for (case, place, told) in [
        ("in: 7", "2:17", "expected a list, found 7"),
        ("in: {log: {severity: 9}}", "2:13", "expected a list, found a map"),
        ("in: ", "2:13", "it is required, and missing"),
        ("in: [], out: 7", "2:26", "expected a list, found 7"),
        ("in: [], out: {log: {severity: 9}}", "2:21", "expected a list, found a map"),
        ("in: [], out: [7]", "2:27", "expected a map, found 7"),
        ("in: [], out: []\nconfig: nowhere.yaml", "3:9", "nowhere.yaml: No such file"),
        ("in: [], out: []\nenv: [A]", "3:6", "expected a map, found a list"),
        ("in: [], dropped: 5", "2:30", "expected a map, found 5"),
        ("in: [], dropped: [filter]", "2:30", "expected a map, found a list"),
        ("in: [], dropped: {filter: all}", "2:39", "expected a whole number, found \"all\""),
        ("in: [], dropped: {filter: -1}", "2:39", "-1 is too small"),
        ("in: [], dropped: {filter: }", "2:31", "it is required, and missing"),
        ("in: [], dropped: {filter: {a: [1]}}", "2:40", "expected a whole number, found a list"),
        ("in: [], dropped: {fliter: 1}", "2:31", "did you mean \"filter\"?"),
        ("in: [], dropped: {elsewhere: 0}", "2:31", "neither a processor of a pipeline nor a reason"),
    ] {
        let text = match case.split_once('\n') {
            Some((case, rest)) => format!("cases:\n- {{name: a, {case}}}\n{rest}\n"),
            None => format!("cases:\n- {{name: a, {case}}}\n"),
        };
        let (status, said) = run(&["test", &written(folder.path(), "edge.test.yaml", &text)]);
        assert!(
            status == 78 && said.contains(&format!("edge.test.yaml:{place}")) && said.contains(told),
            "{case}: {said}"
        );
    }
    // A record that is nothing is not passed over.
    let (status, said) =
        run(&["test", &written(folder.path(), "edge.test.yaml", "cases:\n- {name: a, in: [], out: [~]}\n")]);
    assert!(status == 1 && said.contains("edge.test.yaml:2:27: out: a record is `log: {…}`"), "{said}");
    let (status, said) = run(&["test", &written(folder.path(), "alone.test.yaml", "cases: [{name: a, in: []}]\n")]);
    assert!(
        status == 78 && said.contains("alone.yaml: No such file") && said.contains("it is the path of the config"),
        "{said}"
    );
}

/// Rules that a reload changed are read back as at the start; the others are not said again.
#[test]
fn a_reload_reads_the_changed_rules_back() {
    use std::io::{BufRead, BufReader};
    let folder = tempfile::tempdir().unwrap();
    let two = EDGE
        .replace("[filter]", "[filter, filter/other]")
        .replace("processors: {", "processors: {filter/other: {log_conditions: ['log.body == \"other\"']}, ");
    let edge = written(folder.path(), "edge.yaml", &two);
    let mut command = Command::new(env!("CARGO_BIN_EXE_misaki"));
    let mut child = command
        .args(["--config", &edge])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let first: Vec<String> = lines.by_ref().take_while(|line| !line.contains("Everything is ready")).collect();
    assert_eq!(first.iter().filter(|line| line.contains("\"filter")).count(), 2, "{first:?}");
    written(folder.path(), "edge.yaml", &two.replace("NUMBER_INFO", "NUMBER_WARN"));
    assert!(Command::new("kill").args(["-HUP", &child.id().to_string()]).status().unwrap().success());
    let used = lines.by_ref().find(|line| line.contains("the config was read again")).unwrap_or_default();
    let next = lines.next().unwrap_or_default();
    assert!(
        used.contains("processors.filter") && next.contains("\"filter\"") && next.contains("WARN"),
        "{used}\n{next}"
    );
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    let rest: Vec<String> = lines.take_while(|line| !line.contains("Received signal")).collect();
    assert!(rest.is_empty(), "{rest:?}");
    child.wait().unwrap();
}

/// A collector may be without a socket: then it is not said that nothing runs.
#[test]
fn tail_does_not_say_that_nothing_runs() {
    let (status, said) = run(&["tail", "--pid", "4000000"]);
    assert!(status == 1 && said.contains("no collector has the process id"), "{said}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_misaki"));
    let folder = tempfile::tempdir().unwrap();
    let output = command.args(["tail"]).env("XDG_RUNTIME_DIR", folder.path()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    // Another test's collector may have a socket elsewhere.
    if said.contains("there is no socket in") {
        assert!(
            !said.contains("runs here") && said.contains("`misaki` starts one, and so does `misaki -- COMMAND`"),
            "{said}"
        );
    }
}
