//! Generated configs: whatever there are many of, a config is read, checked, shown or refused in time that follows its size.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use misaki::face::config::{Loaded, emit, load};
use misaki::face::service::{Changes, Plan};

/// In a debug build. What is compared with everything before it takes several times as long.
const MOST: Duration = Duration::from_secs(5);

/// The CPU time of this thread, so that tests beside this one do not count.
fn spent() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    let used = std::fs::read_to_string("/proc/thread-self/stat").ok().and_then(|stat| {
        // Behind the name: user and system time are the 12th and 13th, in hundredths of a second.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let hundredths = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Duration::from_millis(10 * (hundredths(11)? + hundredths(12)?)))
    });
    used.unwrap_or_else(|| START.get_or_init(Instant::now).elapsed())
}

/// All that `validate`, `print-config` and a reload do with a config.
fn handle(text: &str) -> (Loaded, String) {
    let environment: HashMap<&str, &str> = [("SET", "value")].into();
    let loaded = load(&[format!("yaml:{text}")], &["processors::batch/set::timeout=2s".to_owned()], &|name| {
        environment.get(name).map(|value| (*value).to_owned())
    });
    let plan = Plan::read(&loaded);
    if !loaded.problems.has_errors() {
        plan.look(&loaded);
        plan.check_unused(&loaded);
        let changes = Changes::between(&plan.written, &plan.written);
        assert_eq!(changes.kept, plan.written.len());
    }
    let effective = loaded.problems.effective(true);
    let (yaml, json) = (emit::yaml(&effective), emit::json(&effective));
    assert!(!yaml.is_empty() && !json.is_empty());
    let said = loaded.problems.render(&loaded.sources, false);
    (loaded, said)
}

/// Handles it in time; what is said of it holds each of these, and nothing is wrong where there are none.
#[track_caller]
fn check(name: &str, text: &str, expected: &[&str]) {
    assert!(text.len() < 1 << 20, "{name} has {} bytes", text.len());
    let before = spent();
    let (loaded, said) = handle(text);
    let took = spent() - before;
    let beginning: String = said.chars().take(600).collect();
    assert!(took < MOST, "{name} takes {took:?}: {beginning}");
    assert_eq!(loaded.problems.has_errors(), !expected.is_empty(), "{name}: {beginning}");
    for part in expected {
        assert!(said.contains(part), "{name}: {part:?} is not in: {beginning}");
    }
}

/// A config with more of something where it stands: `receivers`, `processors`, `exporters`, `extensions`, `top`, `service`,
/// `pipelines`, or in place of what the pipeline takes, passes or gives to.
fn config(more: &[(&str, String)]) -> String {
    let at = |place: &str, default: &str| {
        let given: String = more.iter().filter(|(at, _)| *at == place).map(|(_, text)| text.as_str()).collect();
        if given.is_empty() { default.to_owned() } else { given }
    };
    format!(
        "receivers:\n  otlp: {{protocols: {{grpc: {{endpoint: 127.0.0.1:0}}}}}}\n{}processors:\n  batch:\n{}\
         exporters:\n  nop:\n{}extensions:\n  health_check:\n{}connectors:\n  forward:\n{}{}\
         service:\n  extensions: [{}]\n{}  pipelines:\n{}    logs: {{receivers: [{}], processors: [{}], exporters: [{}]}}\n",
        at("receivers", ""),
        at("processors", ""),
        at("exporters", ""),
        at("extensions", ""),
        at("connectors", ""),
        at("top", ""),
        at("started", ""),
        at("service", ""),
        at("pipelines", ""),
        at("from", "otlp"),
        at("through", "batch"),
        at("to", "nop"),
    )
}

fn each(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).map(line).collect()
}

fn listed(count: usize, item: impl Fn(usize) -> String) -> String {
    (0..count).map(item).collect::<Vec<_>>().join(", ")
}

/// So many values at most, with those that each of them holds.
const MANY: usize = 20_000;

#[test]
fn many_keys_of_one_map() {
    let many = |place: &'static str, line: fn(usize) -> String| config(&[(place, each(MANY, line))]);
    let beyond = |name: &str| format!("a config has at most 1000 {name}, and this one has 2000");
    check("keys", &many("top", |index| format!("key{index}: 1\n")), &[&beyond("keys")]);
    check("receivers", &many("receivers", |index| format!("  otlp/{index}:\n")), &[&beyond("receivers")]);
    check("processors", &many("processors", |index| format!("  batch/{index}:\n")), &[&beyond("processors")]);
    check("exporters", &many("exporters", |index| format!("  nop/{index}:\n")), &[&beyond("exporters")]);
    check("connectors", &many("connectors", |index| format!("  forward/{index}:\n")), &[&beyond("connectors")]);
    check("extensions", &many("extensions", |index| format!("  pprof/{index}:\n")), &[&beyond("extensions")]);
    check("pipelines", &many("pipelines", |index| format!("    logs/{index}:\n")), &[&beyond("pipelines")]);
    check(
        "unknown in a block",
        &config(&[
            ("processors", "  batch/b:\n".to_owned() + &each(MANY, |index| format!("    k{index}: 1\n"))),
            ("through", "batch/b".to_owned()),
        ]),
        &["unknown key \"k0\"", "20000 errors, of which 200 are shown"],
    );
    let flow = format!("  batch/f: {{{}}}\n", listed(MANY, |index| format!("k{index}: 1")));
    check(
        "unknown in a flow",
        &config(&[("processors", flow), ("through", "batch/f".to_owned())]),
        &["unknown key \"k0\"", "20000 errors"],
    );
    let parts = each(MANY, |index| format!("processors::batch/{}::k{index}: 1\n", index % 3));
    check("keys in parts", &format!("{parts}exporters: {{nop: }}\n"), &["unknown key \"k0\""]);
    let merged = format!("  batch/a: &a {{{}}}\n", listed(MANY, |index| format!("k{index}: 1")))
        + "  batch/m:\n    <<: *a\n"
        + &each(MANY, |index| format!("    k{index}: 2\n"));
    check(
        "merged keys",
        &config(&[("processors", merged), ("through", "batch/a, batch/m".to_owned())]),
        &["40000 errors"],
    );
    let anchors = "  batch/a:\n".to_owned()
        + &each(MANY, |index| format!("    k{index}: &a{index} 1\n    l{index}: *a{index}\n"));
    check("anchors", &config(&[("processors", anchors), ("through", "batch/a".to_owned())]), &["40000 errors"]);
    let headers = |count| {
        "  otlp_http:\n    endpoint: http://127.0.0.1:1\n    headers:\n".to_owned()
            + &each(count, |index| format!("      header-{index}: value-{index}\n"))
    };
    check("headers", &config(&[("exporters", headers(15_000))]), &[]);
    check(
        "headers that no request can have",
        &config(&[("exporters", headers(25_000)), ("to", "otlp_http".to_owned())]),
        &["more headers than a request can have"],
    );
    let wrong = each(250, |index| format!("  batch/{index}: {{wrong: 1}}\n"));
    check(
        "secrets beside errors",
        &config(&[
            ("exporters", headers(15_000)),
            ("processors", wrong),
            ("through", listed(250, |index| format!("batch/{index}"))),
        ]),
        &["250 errors, of which 200"],
    );
}

#[test]
fn many_items_of_one_list() {
    let processor = |text: String| config(&[("processors", format!("  {text}\n"))]);
    let actions = |index: usize| format!("{{key: a{index}, value: 1, action: insert}}");
    check("attributes", &processor(format!("attributes: {{actions: [{}]}}", listed(12_000, actions))), &[]);
    check("resource", &processor(format!("resource: {{attributes: [{}]}}", listed(12_000, actions))), &[]);
    let set = |index: usize| format!("'set(log.attributes[\"a{index}\"], 1)'");
    check("statements", &processor(format!("transform: {{log_statements: [{}]}}", listed(12_000, set))), &[]);
    let lost = |index: usize| format!("'set(attributes[\"a{index}\"], 1)'");
    check(
        "statements without a context",
        &config(&[
            ("processors", format!("  transform: {{log_statements: [{}]}}\n", listed(12_000, lost))),
            ("through", "transform".to_owned()),
        ]),
        &["missing context name"],
    );
    let asked = |index: usize| format!("'attributes[\"a{index}\"] == 1'");
    check("conditions", &processor(format!("filter: {{logs: {{log_record: [{}]}}}}", listed(12_000, asked))), &[]);
    let policy = |index: usize| format!("{{name: p{index}, type: always_sample}}");
    check("policies", &processor(format!("tail_sampling: {{policies: [{}]}}", listed(12_000, policy))), &[]);
    let key = |index: usize| format!("key{index}");
    check("metadata keys", &processor(format!("batch/m: {{metadata_keys: [{}]}}", listed(50_000, key))), &[]);
    check("allowed keys", &processor(format!("redaction: {{allowed_keys: [{}]}}", listed(50_000, key))), &[]);
    let reader =
        |index: usize| format!("{{pull: {{exporter: {{prometheus: {{host: localhost, port: {}}}}}}}}}", index + 1);
    let readers = format!("  telemetry: {{metrics: {{readers: [{}]}}}}\n", listed(12_000, reader));
    check("readers", &config(&[("service", readers)]), &["at most 16 readers"]);
    let same = |name: &'static str| listed(MANY, move |_| name.to_owned());
    check("the same receiver", &config(&[("from", same("otlp"))]), &[]);
    check("the same processor", &config(&[("through", same("batch"))]), &["lists processor \"batch\" multiple times"]);
    check(
        "receivers that are nowhere",
        &config(&[("from", listed(MANY, |index| format!("otlp/{index}")))]),
        &["no receiver \"otlp/0\" is configured"],
    );
}

#[test]
fn many_references() {
    let action = |index: usize| {
        format!(
            "  attributes/{index}: {{actions: [{{key: \"${{env:SET}}\", value: \"${{env:NOT_SET:-{index}}}\", action: insert}}]}}\n"
        )
    };
    check("set", &config(&[("processors", each(900, action))]), &[]);
    let headers = each(4000, |index| format!("      header-{index}: ${{env:NOT_SET}}\n"));
    let headers = format!("  otlp_http:\n    endpoint: http://127.0.0.1:1\n    headers:\n{headers}");
    check("not set", &config(&[("exporters", headers)]), &[]);
    let keys = each(MANY, |index| format!("      header-{index}: ${{env:SET}}\n"));
    check(
        "more than may be",
        &config(&[("exporters", format!("  otlp_http:\n    headers:\n{keys}"))]),
        &["too many recursive expansions"],
    );
    let text = format!(
        "  attributes: {{actions: [{{key: a, value: \"{}{}\", action: insert}}]}}\n",
        "}".repeat(500_000),
        "${env:SET}".repeat(4000)
    );
    check("in one text", &config(&[("processors", text)]), &[]);
}

#[test]
fn as_many_as_may_be() {
    let receivers = each(999, |index| {
        format!("  otlp/{index}: {{protocols: {{grpc: {{endpoint: 127.0.0.1:{}}}}}}}\n", 10_000 + index)
    });
    let exporters = each(998, |index| {
        format!(
            "  otlp_grpc/{index}: {{endpoint: 127.0.0.1:{}, tls: {{insecure: true}}, sending_queue: {{storage: file_storage}}}}\n",
            20_000 + index
        )
    });
    let pipelines =
        each(998, |index| format!("    logs/{index}: {{receivers: [otlp/{index}], exporters: [otlp_grpc/{index}]}}\n"));
    let storage = ("extensions", "  file_storage: {directory: /tmp}\n".to_owned());
    let started = ("started", listed(40_000, |_| "file_storage".to_owned()));
    check(
        "components",
        &config(&[("receivers", receivers), ("exporters", exporters), ("pipelines", pipelines), storage, started]),
        &[],
    );
    let connectors = || ("connectors", each(60, |index| format!("  forward/{index}:\n")));
    let some = |from: usize| listed(30, move |index| format!("forward/{}", from + index));
    let joined =
        |to: &str| each(450, |index| format!("    logs/{index}: {{receivers: [{}], exporters: [{to}]}}\n", some(0)));
    let ends = each(450, |index| format!("    logs/end-{index}: {{receivers: [{}], exporters: [nop]}}\n", some(30)));
    check("ways", &config(&[connectors(), ("to", some(0)), ("pipelines", joined(&some(30)) + &ends)]), &[]);
    check(
        "cycles",
        &config(&[connectors(), ("to", some(30)), ("pipelines", joined(&some(0)) + &ends)]),
        &["cycle detected"],
    );
}
