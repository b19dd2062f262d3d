//! `redaction`: what goes, what is masked and what is said about it; and the errors of the actions of
//! `attributes` and `resource`, in the Go collector's words.

use misaki::face::config;
use misaki::face::service::Plan;
use misaki::face::telemetry::Signal;

use super::harness::*;

const LOG: &str = r#"{"resourceLogs":[{"resource":{"attributes":[{"key":"host","value":{"stringValue":"h1"}}]},"scopeLogs":[{"logRecords":[{
  "body":{"kvlistValue":{"values":[{"key":"user","value":{"stringValue":"card 4111"}},{"key":"list","value":{"arrayValue":{"values":[{"stringValue":"4222"},{"intValue":"4333"}]}}}]}},
  "attributes":[{"key":"id","value":{"stringValue":"a 4111 b"}},{"key":"token","value":{"stringValue":"abc"}},{"key":"n","value":{"intValue":"4111"}},{"key":"ok","value":{"stringValue":"4999 fine"}}]}]}]}]}"#;

const KEY: &str = "0123456789abcdef0123456789abcdef";

/// What `debug` prints of the log's attributes and body behind the processor.
async fn printed(settings: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("out");
    let config = format!(
        "{{receivers: {{otlp: {{protocols: {{http: {{endpoint: '127.0.0.1:0'}}}}}}}}, processors: {{redaction: {settings}}}, exporters: {{debug: {{verbosity: detailed, output_paths: ['{}']}}}}, service: {{telemetry: {{metrics: {{level: none}}}}, pipelines: {{logs: {{receivers: [otlp], processors: [redaction], exporters: [debug]}}}}}}}}",
        file.display()
    );
    let mut misaki = Misaki::load(&[&config], 1, &|_| None).await;
    assert!(misaki.post_json(Signal::Logs, LOG.to_owned()).await.ok);
    misaki.finish().await;
    let text = std::fs::read_to_string(&file).unwrap();
    text.lines()
        .filter(|line| line.contains("-> ") || line.starts_with("Body"))
        .map(|line| line.trim().to_owned())
        .collect()
}

#[tokio::test]
async fn what_is_not_allowed_goes() {
    let kept = printed("{allowed_keys: [id, user], summary: debug}").await;
    let expected = [
        "-> redaction.redacted.keys: Str(host)",
        "-> redaction.redacted.count: Int(1)",
        r#"Body: Map({"user":"card 4111"})"#,
        "-> id: Str(a 4111 b)",
        "-> redaction.redacted.keys: Str(n,ok,token)",
        "-> redaction.redacted.count: Int(3)",
        "-> redaction.body.redacted.keys: Str(list)",
        "-> redaction.body.redacted.count: Int(1)",
    ];
    assert_eq!(kept, expected);
    assert_eq!(printed("{}").await, ["Body: Map({})"]);
}

#[tokio::test]
async fn what_must_not_be_read_is_masked() {
    let settings = "{allow_all_keys: true, blocked_values: ['4[0-9]{3}'], allowed_values: ['fine$'], blocked_key_patterns: ['^tok'], ignored_keys: [n], summary: info}";
    let expected = [
        "-> host: Str(h1)",
        r#"Body: Map({"list":["****","****"],"user":"card ****"})"#,
        "-> id: Str(a **** b)",
        "-> token: Str(****)",
        "-> n: Int(4111)",
        "-> ok: Str(4999 fine)",
        "-> redaction.masked.count: Int(2)",
        "-> redaction.allowed.count: Int(1)",
        "-> redaction.ignored.count: Int(1)",
        "-> redaction.body.masked.count: Int(3)",
    ];
    assert_eq!(printed(settings).await, expected);
    let all = printed("{allow_all_keys: true, blocked_values: ['4111'], redact_all_types: true}").await;
    assert!(all.contains(&"-> n: Str(****)".to_owned()), "{all:?}");
    for (function, digest) in [
        ("md5", "900150983cd24fb0d6963f7d28e17f72"),
        ("SHA1", "a9993e364706816aba3e25717850c26c9cd0d89d"),
        ("sha3", "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532"),
        (&format!("hmac-sha256, hmac_key: {KEY}"), "a60c859a6827c5ea576a48d8d368672fbfe4667c6a927428284a0cb3859cc1d6"),
        (
            &format!("hmac-sha512, hmac_key: {KEY}{KEY}"),
            concat!(
                "a476d5ddf3b2f1546b307f748aa1091143d94a40114bc9b243b14b7189566d14",
                "da6c68f95e412246b3194dd6dcabca9e2a9b013495ff93a883bbf991132642df"
            ),
        ),
    ] {
        let settings = format!("{{allow_all_keys: true, blocked_key_patterns: [token], hash_function: {function}}}");
        let hashed = printed(&settings).await;
        assert!(hashed.contains(&format!("-> token: Str({digest})")), "{function}: {hashed:?}");
    }
}

/// What masking makes of a request does not outgrow it by more than it may.
#[tokio::test]
async fn what_hashes_make_is_bounded() {
    let settings = format!(
        "{{allow_all_keys: true, blocked_values: ['[0-9]'], blocked_key_patterns: [lines], hash_function: hmac-sha512, hmac_key: {KEY}{KEY}}}"
    );
    let config = format!(
        "{{receivers: {{otlp: {{protocols: {{http: {{endpoint: '127.0.0.1:0'}}}}}}}}, processors: {{redaction: {settings}}}, exporters: {{nop: }}, service: {{telemetry: {{metrics: {{level: none}}}}, pipelines: {{logs: {{receivers: [otlp], processors: [redaction], exporters: [nop]}}}}}}}}"
    );
    let mut misaki = Misaki::load(&[&config], 1, &|_| None).await;
    let text = |text: &str| format!(r#"{{"stringValue":"{text}"}}"#);
    let map = |key: &str, value: &str| format!(r#"{{"kvlistValue":{{"values":[{{"key":"{key}","value":{value}}}]}}}}"#);
    let list = |item: &str, count: usize| format!(r#"{{"arrayValue":{{"values":[{}]}}}}"#, vec![item; count].join(","));
    // A path of a mebibyte, of which each of many is one.
    let deep = (0..32).fold(list(&text("1"), 2_000), |inner, _| map(&"k".repeat(32 << 10), &inner));
    for (body, is_taken) in [
        (text(&"1".repeat(2_000)), true),
        (text(&"1".repeat(150 << 10)), false),
        (map("lines", &text(&"\\n".repeat(150 << 10))), false),
        (list(&text("1"), 2_000), true),
        (list(&text("1"), 150_000), false),
        (deep, true),
    ] {
        let log = format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"body":{body}}}]}}]}}]}}"#);
        let answer = misaki.post_json(Signal::Logs, log).await;
        assert_eq!(answer.ok, is_taken, "{}: {answer:?}", body.get(..100).unwrap_or_default());
    }
    misaki.finish().await;
}

#[track_caller]
fn check_error(processor: &str, settings: &str, expected: &str) {
    let text = format!(
        "yaml:{{receivers: {{otlp: {{protocols: {{grpc: }}}}}}, processors: {{{processor}: {settings}}}, exporters: {{nop: }}, service: {{pipelines: {{logs: {{receivers: [otlp], processors: [{processor}], exporters: [nop]}}}}}}}}"
    );
    let loaded = config::load(&[text], &[], &|_| None);
    Plan::read(&loaded);
    let said = loaded.problems.render(&loaded.sources, false);
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains(expected), "{expected} is not in {said}");
}

#[test]
fn errors_of_actions_are_worded_as_the_go_collectors_are() {
    let rows = [
        ("{key: a, action: foo}", "due to unsupported action \"foo\""),
        ("{key: a}", "due to unsupported action \"\""),
        ("{action: insert, value: 1}", "due to missing required field \"key\" at the 0-th action"),
        ("{action: delete}", "(at least one of \"key\" and \"pattern\" have to be used) at the 0-th action"),
        (
            "{key: a, action: upsert}",
            ". Either field \"value\", \"from_attribute\", \"from_context\", or \"default_value\" must be specified",
        ),
        ("{key: a, action: insert, value: 1, from_attribute: x}", " due to multiple value sources being set"),
        (
            "{key: a, action: update, value: 1, pattern: x}",
            ". Action \"update\" does not use the \"pattern\" field. This must not be specified",
        ),
        (
            "{key: a, action: insert, value: 1, converted_type: int}",
            ". Action \"insert\" does not use the \"converted_type\" field. This must not be specified",
        ),
        (
            "{key: a, action: delete, value: 1}",
            ". Action \"delete\" does not use \"value\" or \"from_attribute\" field. These must not be specified",
        ),
        ("{key: a, action: hash, pattern: (}", ". Field \"pattern\" has invalid pattern: \"(\""),
        ("{key: a, action: extract}", " due to missing required field \"pattern\" for action \"extract\""),
        ("{key: a, action: extract, pattern: x}", ". Field \"pattern\" contains no named matcher groups"),
        ("{key: a, action: extract, pattern: (x)}", ". Field \"pattern\" contains at least one unnamed matcher group"),
        (
            "{key: a, action: extract, value: 1, pattern: (?P<x>a)}",
            ". Action \"extract\" does not use a value source field. These must not be specified",
        ),
        ("{key: a, action: convert}", " due to missing required field \"converted_type\" for action \"convert\""),
        (
            "{key: a, action: convert, converted_type: foo}",
            " due to invalid value \"foo\" in field \"converted_type\" for action \"convert\"",
        ),
        (
            "{key: a, action: convert, value: 1, converted_type: int}",
            ". Action \"convert\" does not use value sources or \"pattern\" field. These must not be specified",
        ),
    ];
    for (action, expected) in rows {
        check_error(
            "attributes",
            &format!("{{actions: [{}]}}", action.replace("(}", "'('}").replace("(?P<x>a)", "'(?P<x>a)'")),
            expected,
        );
    }
    check_error("resource", "{}", "missing required field \"attributes\"");
    let with = |include| format!("{{include: {include}, actions: [{{key: a, action: delete}}]}}");
    check_error("attributes", &with("{log_bodies: [a]}"), "unrecognized match_type: ''");
    check_error(
        "attributes",
        &with("{match_type: strict, span_kinds: [Server]}"),
        "must match one of the standard span kinds",
    );
    for (key, message) in [
        ("url_sanitizer: {enabled: true, attributes: [url.path]}", "url_sanitizer is not supported: "),
        ("db_sanitizer: {redis: {enabled: true}}", "redis statements are not supported"),
        ("db_sanitizer: {valkey: {enabled: true}}", "valkey statements are not supported"),
        ("db_sanitizer: {memcached: {enabled: true}}", "memcached statements are not supported"),
        ("db_sanitizer: {mongo: {enabled: true}}", "mongo statements are not supported"),
        ("db_sanitizer: {opensearch: {enabled: true}}", "opensearch statements are not supported"),
        ("db_sanitizer: {es: {enabled: true}}", "es statements are not supported"),
    ] {
        check_error("redaction", &format!("{{{key}}}"), message);
        check_error(
            "redaction",
            &format!("{{hash_function: md4, {}}}", key.replace("true", "false")),
            "unknown HashFunction md4, ",
        );
    }
    check_error(
        "redaction",
        "{hash_function: md4}",
        "unknown HashFunction md4, allowed functions are sha1, sha3, md5,",
    );
    check_error(
        "redaction",
        "{hash_function: hmac-sha256}",
        "hmac_key must not be empty when hash_function is \"hmac-sha256\"",
    );
    check_error(
        "redaction",
        "{hash_function: hmac-sha512, hmac_key: abc}",
        "hmac_key must be at least 64 bytes long for \"hmac-sha512\", got 3 bytes",
    );
    check_error("redaction", "{blocked_values: ['(']}", "is not a regular expression");
}
