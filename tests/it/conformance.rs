//! The cases in `fixtures/` that were recorded from the Go collector: what `debug` prints, what `batch` makes of it, and
//! which configurations are refused, where, and in which words.

use std::path::{Path, PathBuf};

use misaki::face::config::{self, Level, Loaded, Problem};
use misaki::face::service::{Balance, Plan};
use misaki::face::telemetry::Signal;

use super::harness::*;

fn folders(parent: &str) -> Vec<PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(parent).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    assert!(!found.is_empty(), "{parent}");
    found
}

fn signal_of(case: &Path, input: &str) -> Signal {
    let name = case.file_name().unwrap().to_str().unwrap();
    let says = |signal: Signal, key: &str| name.starts_with(signal.name()) || input.contains(key);
    let [logs, metrics, traces] =
        [(Signal::Logs, "resourceLogs"), (Signal::Metrics, "resourceMetrics"), (Signal::Traces, "resourceSpans")];
    [logs, metrics, traces].into_iter().find(|(signal, key)| says(*signal, key)).unwrap().0
}

/// Starts with this config, posts the case's input as JSON, stops; returns what stands in a file then.
async fn printed(config: &str, case: &Path, out: &Path) {
    let input = std::fs::read_to_string(case.join("input.json")).unwrap();
    let out = out.display().to_string();
    let environment = move |name: &str| match name {
        "OTLP_HTTP" => Some("127.0.0.1:0".to_owned()),
        "OUT" => Some(out.clone()),
        _ => None,
    };
    let mut misaki = Misaki::load(&[config], 1, &environment).await;
    let answer = misaki.post_json(signal_of(case, &input), input).await;
    assert!(answer.ok, "{}: {answer:?}", case.display());
    let balance = misaki.finish().await;
    let is_settled = |line: &Balance| line.left == 0 && line.dropped.is_empty();
    assert!(balance.iter().all(is_settled), "{}: {balance:?}", case.display());
}

#[track_caller]
fn check_text(case: &Path, expected: &str, got: &Path) {
    let (mut expected, mut got) =
        (std::fs::read_to_string(case.join(expected)).unwrap(), std::fs::read_to_string(got).unwrap());
    // Traces leave in no fixed order.
    if case.file_name().unwrap().to_str().unwrap().starts_with("tail_") {
        (expected, got) = (sorted(&expected), sorted(&got));
    }
    if expected != got {
        let differing = expected.lines().zip(got.lines()).enumerate().find(|(_, (expected, got))| expected != got);
        panic!("{}: line {differing:?} differs, or one of them is shorter:\n{got}", case.display());
    }
}

/// The lines that do not say how many traces left together.
fn sorted(text: &str) -> String {
    let mut lines: Vec<_> = text.lines().filter(|line| !line.contains("Span #") && !line.contains("spans")).collect();
    lines.sort_unstable();
    lines.join("\n")
}

#[tokio::test]
async fn debug_prints_what_the_go_collector_prints() {
    for case in folders("fixtures/debug") {
        let folder = tempfile::tempdir().unwrap();
        let signal = signal_of(&case, &std::fs::read_to_string(case.join("input.json")).unwrap()).name();
        let exporter = |verbosity| {
            let file = folder.path().join(verbosity);
            format!(
                "  debug/{verbosity}: {{verbosity: {verbosity}, output_paths: [\"{}\"], sampling_initial: 100000}}\n",
                file.display()
            )
        };
        let exporters = ["basic", "normal", "detailed"].map(exporter).concat();
        let config = format!(
            "receivers: {{otlp: {{protocols: {{http: {{endpoint: \"${{env:OTLP_HTTP}}\"}}}}}}}}\nexporters:\n{exporters}service: {{telemetry: {{metrics: {{level: none}}}}, pipelines: {{{signal}: {{receivers: [otlp], exporters: [debug/basic, debug/normal, debug/detailed]}}}}}}"
        );
        printed(&config, &case, folder.path()).await;
        for verbosity in ["basic", "normal", "detailed"] {
            check_text(&case, &format!("{verbosity}.txt"), &folder.path().join(verbosity));
        }
    }
}

#[tokio::test]
async fn pipelines_do_what_the_go_collectors_do() {
    for case in folders("fixtures/pipelines") {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("expected.txt");
        let config = std::fs::read_to_string(case.join("config.yaml")).unwrap();
        printed(&config, &case, &out).await;
        check_text(&case, "expected.txt", &out);
    }
}

fn refused(source: &str) -> (Loaded, Vec<Problem>) {
    let loaded = config::load(&[source.to_owned()], &[], &|_| None);
    let _ = Plan::read(&loaded);
    let errors =
        loaded.problems.located(&loaded.sources).into_iter().filter(|problem| problem.level == Level::Error).collect();
    (loaded, errors)
}

/// Where the first error of each file points at; 0:0 where there is no line to point at.
const PLACES: &[(&str, u32, u32)] = &[
    ("attributes_bad_action", 7, 53),
    ("attributes_no_actions", 7, 16),
    ("attributes_no_key", 7, 26),
    ("attributes_no_value", 7, 26),
    ("bad_component_id", 3, 3),
    ("bad_duration", 7, 20),
    ("bad_endpoint_port", 5, 24),
    ("bad_int", 7, 28),
    ("bad_signal", 10, 5),
    ("bad_verbosity", 7, 22),
    ("batch_max_below_size", 7, 54),
    ("duplicate_key", 8, 1),
    ("empty_file", 0, 0),
    ("file_exporter_no_path", 7, 3),
    ("env_bad_name", 7, 23),
    ("env_bad_scheme", 7, 23),
    ("memory_limiter_no_interval", 7, 3),
    ("memory_limiter_no_limit", 7, 3),
    ("negative_batch", 7, 28),
    ("no_pipelines", 8, 1),
    ("no_protocol", 4, 5),
    ("not_yaml", 2, 12),
    ("ottl_bad_enum", 7, 58),
    ("ottl_editor_as_condition", 7, 33),
    ("ottl_syntax", 7, 50),
    ("ottl_unknown_function", 7, 33),
    ("ottl_unknown_path", 7, 33),
    ("ottl_wrong_arity", 7, 33),
    ("ottl_wrong_context", 7, 33),
    ("otlp_bad_compression", 7, 54),
    ("otlp_no_endpoint", 7, 3),
    ("otlphttp_no_endpoint", 7, 3),
    ("pipeline_no_exporters", 10, 5),
    ("pipeline_no_receivers", 10, 5),
    ("queue_unknown_storage", 7, 66),
    ("queue_zero_consumers", 7, 72),
    ("retry_interval", 7, 78),
    ("scalar_document", 2, 1),
    ("tls_missing_key", 5, 37),
    ("undefined_exporter", 10, 45),
    ("undefined_extension", 9, 16),
    ("undefined_processor", 10, 44),
    ("undefined_receiver", 10, 24),
    ("unknown_top_key", 11, 1),
    ("wrong_type_list", 9, 14),
];

/// Every file is refused, with the words on its first line, once, and at the place that is wrong.
#[test]
fn bad_configurations_are_refused_where_they_are_wrong() {
    let mut checked = 0;
    for path in folders("fixtures/bad-config") {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let (loaded, errors) = refused(&path.display().to_string());
        assert!(!errors.is_empty(), "{name} is not refused");
        // A component that is not there yet is all that can be said of its file.
        if errors.iter().any(|error| {
            error.message.starts_with("unknown processor type") || error.message.starts_with("unknown exporter type")
        }) {
            assert!(PLACES.iter().all(|row| row.0 != name), "{name}");
            continue;
        }
        checked += 1;
        let text = std::fs::read_to_string(&path).unwrap();
        let words = text.lines().next().unwrap_or_default().trim_start_matches("# must mention:");
        let said = loaded.problems.render(&loaded.sources, false);
        for word in words.split(',').map(str::trim) {
            assert!(said.contains(word), "{name} does not mention {word}:\n{said}");
        }
        let Some((_, line, column)) = PLACES.iter().find(|row| row.0 == name) else { continue };
        let places: Vec<_> =
            errors.iter().map(|error| error.place.map_or((0, 0), |place| (place.line, place.column))).collect();
        assert_eq!(places[0], (*line, *column), "{name}:\n{said}");
        assert!(places.len() == 1 || name == "bad_component_id", "{name} has consequences:\n{said}");
        assert!(*line == 0 || said.contains(&format!("{}:{line}:{column}", path.display())), "{name}:\n{said}");
    }
    assert!(checked >= PLACES.len());
}

/// Nobody likes to find them one by one.
#[test]
fn five_errors_are_shown_at_once() {
    let text = "\
receivers:
  otlp: {protocols: {grpc: {endpoint: localhost:port}}}
processors:
  batch: {timeout: 5, send_batch_sise: 10}
exporters:
  debug: {verbosity: loud}
service:
  pipelines:
    logs: {receivers: [otlp], processors: [batch], exporters: [debug, otlp]}
";
    let (loaded, errors) = refused(&format!("yaml:{text}"));
    let found: Vec<_> = errors
        .iter()
        .map(|error| (error.place.unwrap().line, error.place.unwrap().column, error.path.as_str()))
        .collect();
    let expected = [
        (2, 39, "receivers.otlp.protocols.grpc.endpoint"),
        (4, 20, "processors.batch.timeout"),
        (4, 23, "processors.batch"),
        (6, 22, "exporters.debug.verbosity"),
        (9, 71, "service.pipelines.logs"),
    ];
    let said = loaded.problems.render(&loaded.sources, false);
    assert_eq!(found, expected, "{said}");
    assert_eq!(said.matches("error: ").count(), 5, "{said}");
    assert!(said.contains("send_batch_size"), "the nearest known name: {said}");
}

/// One text with a wrong context hides no other mistake of its list, each is marked where it stands, and in a line that fits.
#[test]
fn every_mistake_of_a_list_is_told() {
    let long = "a".repeat(300);
    let text = format!(
        "\
receivers: {{otlp: {{protocols: {{http: {{}}}}}}}}
processors:
  filter:
    log_conditions:
      - span.name == \"x\"
      - body == \"x\"
      - IsMatch(log.body, \"({long}\") or log.body == \"{long}\"
      - log.body == Base64Decode(\"x\")
  filter/empty:
    log_conditions:
      - log.body == \"x\"
      -
  tail_sampling:
    policies:
      - {{name: a, type: statuscode, status_code: {{status_codes: [ERROR]}}}}
      - {{name: b, type: and, and: {{and_sub_policy: [{{name: x, type: drop}}, {{name: y, type: latncy}}]}}}}
exporters: {{debug: {{}}}}
service:
  pipelines:
    logs: {{receivers: [otlp], processors: [filter, filter/empty], exporters: [debug]}}
    traces: {{receivers: [otlp], processors: [tail_sampling], exporters: [debug]}}
"
    );
    let (loaded, errors) = refused(&format!("yaml:{text}"));
    let said = loaded.problems.render(&loaded.sources, false);
    let found: Vec<_> = errors
        .iter()
        .map(|error| {
            let place = error.place.unwrap();
            let help = error.help.as_deref().unwrap_or_default();
            (place.line, place.column, help.split(", latency").next().unwrap())
        })
        .collect();
    let expected = [
        (5, 9, "the contexts here are log, scope, resource"),
        (6, 9, "write log.body == \"x\""),
        (7, 27, "unclosed group"),
        (8, 21, "did you mean Decode(target, \"base64\")?"),
        (12, 8, ""),
        (15, 25, "did you mean \"status_code\"?"),
        (16, 69, "the types here are: always_sample"),
        (16, 92, "did you mean \"latency\"?"),
    ];
    assert_eq!(found, expected, "{said}");
    assert!(said.lines().all(|line| line.chars().count() <= 160), "{said}");
}
