//! Configuration: how YAML is read, merged and expanded, and what the errors say and point at.

use misaki::face::config::{
    Catalog, ComponentId, Declared, Encoding, Kind, Layout, Loaded, LogLevel, Lookup, MetricsLevel, Node, PipelineId,
    Problems, Section, Telemetry, duration, emit, load, yaml,
};
use proptest::prelude::*;
use std::time::Duration;

struct Components;

impl Catalog for Components {
    fn lookup(&self, kind: Kind, type_name: &str) -> Lookup {
        match (kind, type_name) {
            (Kind::Exporter, "otlp") => Lookup::Alias("otlp_grpc"),
            (Kind::Exporter, "logging") => {
                Lookup::Deprecated("the logging exporter has been deprecated, use the debug exporter instead")
            }
            _ => self.names(kind).into_iter().find(|name| *name == type_name).map_or(Lookup::Unknown, Lookup::Known),
        }
    }

    fn names(&self, kind: Kind) -> Vec<&'static str> {
        match kind {
            Kind::Receiver => vec!["otlp", "hostmetrics"],
            Kind::Processor => vec!["attributes", "batch", "filter", "memory_limiter"],
            Kind::Exporter => vec!["debug", "file", "nop", "otlp_grpc", "otlp_http"],
            Kind::Connector => vec!["forward"],
            Kind::Extension => vec!["file_storage", "health_check"],
        }
    }
}

fn environment(name: &str) -> Option<String> {
    let value = match name {
        "NUM" => "0123",
        "SEVEN" => "7",
        "EMPTY" => "",
        "WORD" => "word",
        "QUOTED" => "\"q\"",
        "LIST" => "[1, '${SEVEN}']",
        "WHICH" => "NUM",
        "INNER" => "<${env:WORD}>",
        "WHOLE" => "${NUM}",
        "LOOP" => "${LOOP}",
        "DOLLARS" => "a$$b",
        "BROKEN" => "{a: ",
        _ => return None,
    };
    Some(value.to_owned())
}

/// Decodes a few settings the way components do.
fn decode<'a>(declared: &Declared<'a>, problems: &'a Problems) {
    let section = declared.section(problems);
    match declared.canonical {
        "otlp" => {
            let protocols = section.subsection("protocols");
            for key in ["grpc", "http"] {
                let Some(protocol) = protocols.section_or_default(key, false) else {
                    continue;
                };
                protocol.text_or("endpoint", "localhost:4317");
                protocol.integer("max_recv_msg_size_mib", 4, 0..=1024);
                if let Some(tls) = protocol.section("tls") {
                    tls.text("cert_file");
                }
                protocol.ignored(&["read_buffer_size"]);
            }
        }
        "batch" => {
            section.duration("timeout", Duration::from_millis(200));
            section.integer("send_batch_size", 8192, 0..=i64::from(u32::MAX));
            section.float("ratio", 0.5, 0.0..=1.0);
            section.texts("metadata_keys");
        }
        "attributes" => {
            for action in section.sections("actions").into_iter().flatten() {
                action.text("key");
                action.node("value");
                action.choice("action", "insert", &[("insert", "insert"), ("upsert", "upsert")]);
            }
        }
        "debug" => {
            section.choice_in_any_case("verbosity", 0, &[("basic", 0), ("normal", 1), ("detailed", 2)]);
            section.boolean("use_internal_logger", false);
        }
        "otlp_grpc" => {
            section.text("endpoint");
            section.headers("headers");
            section.secret("password");
            if let Some(queue) = section.section_or_default("sending_queue", true) {
                queue.integer("num_consumers", 10, 1..=i64::MAX);
            }
            section.duration("timeout", Duration::from_secs(300));
        }
        "health_check" => section.finish(),
        _ => {
            section.entries();
        }
    }
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| text.to_string()).collect()
}

fn read(yaml: &str) -> Loaded {
    let loaded = load(&[format!("yaml:{yaml}")], &[], &environment);
    let layout = Layout::read(&loaded.root, &Components, &loaded.problems);
    for kind in Kind::ALL {
        layout.declared(kind).iter().for_each(|declared| decode(declared, &loaded.problems));
    }
    loaded
}

/// Every problem as `line:column: path: message | help`, in the order they are shown; warnings start with `warning`.
fn told(loaded: &Loaded) -> Vec<String> {
    let line = |problem: misaki::face::config::Problem| {
        let place = problem.place.map(|place| format!("{}:{}: ", place.line, place.column)).unwrap_or_default();
        let level = if problem.level == misaki::face::config::Level::Warning { "warning " } else { "" };
        let path = if problem.path.is_empty() { String::new() } else { format!("{}: ", problem.path) };
        let help = problem.help.map(|help| format!(" | {help}")).unwrap_or_default();
        format!("{level}{place}{path}{}{help}", problem.message)
    };
    loaded.problems.sorted().into_iter().map(line).collect()
}

/// A config that is whole but for the lines of `yaml`.
fn with(yaml: &str) -> String {
    let mut config = yaml.to_owned();
    for (key, lines) in [
        ("receivers:", "receivers: {otlp: {protocols: {grpc: }}}\n"),
        ("exporters:", "exporters: {debug: }\n"),
        ("service:", "service: {pipelines: {logs: {receivers: [otlp], exporters: [debug]}}}\n"),
    ] {
        if !yaml.lines().any(|line| line.starts_with(key)) {
            config.push_str(lines);
        }
    }
    config
}

#[test]
fn scalars_follow_go_yaml() {
    let rows = [
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("off", "off"),
        ("true", "Bool(true)"),
        ("FALSE", "Bool(false)"),
        ("0x1F", "Int(31)"),
        ("-0x1F", "Int(-31)"),
        ("0123", "Int(83)"),
        ("0o17", "Int(15)"),
        ("0b101", "Int(5)"),
        ("1_000", "Int(1000)"),
        ("+7", "Int(7)"),
        ("1e3", "Float(1000.0)"),
        (".5", "Float(0.5)"),
        ("08", "Float(8.0)"),
        ("1.5", "Float(1.5)"),
        ("-.inf", "Float(-inf)"),
        ("~", "Null"),
        ("", "Null"),
        ("null", "Null"),
        ("Null", "Null"),
        ("2020-01-01", "2020-01-01"),
        ("1.2.3.4", "1.2.3.4"),
        ("0x", "0x"),
        ("-", "-"),
        (".", "."),
        ("1e", "1e"),
        ("9223372036854775807", "Int(9223372036854775807)"),
        ("9223372036854775808", "Float(9.223372036854776e18)"),
        ("18446744073709551615", "Float(1.8446744073709552e19)"),
        ("12345678901234567890123", "Float(1.2345678901234568e22)"),
        ("1_2345678901234567890123", "Float(1.2345678901234568e22)"),
        ("-12345678901234567890123", "Float(-1.2345678901234568e22)"),
        ("0777777777777777777777777777", "Float(7.777777777777778e26)"),
        ("0xFFFFFFFFFFFFFFFF", "Float(1.8446744073709552e19)"),
        ("0xFFFFFFFFFFFFFFFFF", "0xFFFFFFFFFFFFFFFFF"),
        ("-0x8000000000000001", "-0x8000000000000001"),
        ("0o7777777777777777777777777", "0o7777777777777777777777777"),
        ("-0x8000000000000000", "Int(-9223372036854775808)"),
        ("0x_1", "Int(1)"),
        ("0_", "Int(0)"),
        ("0o9", "0o9"),
        ("+-1", "+-1"),
        ("1.e1", "Float(10.0)"),
        ("5.", "Float(5.0)"),
        ("-1e400", "-1e400"),
        ("1e-400", "Float(0.0)"),
        ("1E+5", "Float(100000.0)"),
        ("0x1p4", "0x1p4"),
        ("infinity", "infinity"),
        ("1e999", "1e999"),
        ("nan", "nan"),
        ("5s", "5s"),
        ("_1", "_1"),
    ];
    for (text, expected) in rows {
        let shown = match yaml::resolve(text) {
            misaki::face::config::Value::Text(text) => text,
            value => format!("{value:?}"),
        };
        assert_eq!(shown, expected, "{text}");
    }
}

/// YAML after loading, as JSON on one line.
fn value(loaded: &Loaded) -> String {
    json(&loaded.root)
}

fn json(node: &Node) -> String {
    emit::json(node).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn yaml_structure() {
    let check = |yaml: &str, expected: &str| {
        let loaded = load(&[format!("yaml:{yaml}")], &[], &environment);
        assert_eq!(told(&loaded), Vec::<String>::new(), "{yaml}");
        assert_eq!(value(&loaded), expected, "{yaml}");
    };
    check("a: {b: [1, {c: }, '2', \"3\", !!str 4]}", r#"{ "a": { "b": [ 1, { "c": null }, "2", "3", "4" ] } }"#);
    check("a: &x {k: 1}\nb: *x\n", r#"{ "a": { "k": 1 }, "b": { "k": 1 } }"#);
    check("a: &x {k: 1, l: 2}\nb: {<<: *x, k: 3}\n", r#"{ "a": { "k": 1, "l": 2 }, "b": { "k": 3, "l": 2 } }"#);
    check("a: {<<: [{k: 1}, {k: 2, l: 2}]}", r#"{ "a": { "k": 1, "l": 2 } }"#);
    check("a::b: 1\na: {c: 2}\na::d::e: 3", r#"{ "a": { "b": 1, "c": 2, "d": { "e": 3 } } }"#);
    check("a: |\n  x\n  y\nb: >-\n  x\n  y\n", r#"{ "a": "x\ny\n", "b": "x y" }"#);
    check("# nothing\n", "{}");
}

#[test]
fn what_is_not_a_config_is_refused() {
    let check = |yaml: &str, expected: &str| {
        let loaded = read(yaml);
        let told = told(&loaded);
        assert!(told.len() == 1 && told[0].contains(expected), "{yaml:.60}: {told:?}");
    };
    check("a: 1\nb: 2\na: 3\n", "3:1: the key \"a\" is defined twice");
    check("a: *x\n", "1:4: this is not YAML: found unknown anchor");
    check("a: {b: ${WORD}}\n", "did not find expected ',' or '}' | inside of { } and [ ], a reference wants quotes");
    for text in ["colou?r", "^/(?P<v>\\d+)$", "http://a/?b=c", ":b", "a ? b"] {
        check(
            &format!("x: {{k: {text}}}"),
            &format!("1:8: {text:?} wants quotes inside of {{ }} and [ ]").replace("\\\\", "\\"),
        );
        check(&format!("x: [1, [{{}}, {text} ]]"), "1:13: ");
        check(&format!("x: {{{text}: 1}}"), "1:5: ");
        let fine = format!("x: {{k: '{text}'}}\ny: {text}\nz:\n- [1]\n- {text}");
        assert!(yaml::parse(&fine, 0, 0).is_ok(), "{fine}");
    }
    check("a:\n\tb: 1\n", "2:2: this is not YAML: tabs disallowed");
    check("? [a]\n: b\n", "1:3: a key is plain text, not a list or a map");
    check("a: &x [*x]", "1:8: this alias stands inside the very thing it names");
    check("a: {<<: 1}", "1:9: << takes a map, or a list of maps");
    check("just text", "1:1: a config is a map, and this is text");
    check("", "the config is empty");
    check(&format!("a: {}1{}", "[".repeat(70), "]".repeat(70)), "");
    check(&format!("{}b: 1", "a::".repeat(100)), "nests at most 64 levels");
    let bomb: String =
        (1..10).map(|i| format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 9].join(", "))).collect();
    check(&format!("a0: &a0 [x]\n{bomb}"), "at most 100000 values");
    check(&" ".repeat((1 << 20) + 1), "1:1: a config has at most 1 MiB");
}

#[test]
fn later_sources_lie_over_earlier_ones() {
    let check = |sources: &[&str], sets: &[&str], expected: &str| {
        let sources: Vec<String> = sources.iter().map(|yaml| format!("yaml:{yaml}")).collect();
        let loaded = load(&sources, &strings(sets), &environment);
        assert_eq!(told(&loaded), Vec::<String>::new());
        assert_eq!(value(&loaded), expected);
    };
    check(&["a: {b: 1, c: [1, 2]}", "a: {c: [3], d: x}"], &[], r#"{ "a": { "b": 1, "c": [ 3 ], "d": "x" } }"#);
    check(&["a: {b: {c: 1}}", "a: {b: }"], &[], r#"{ "a": { "b": null } }"#);
    check(&["a: {b: }", "a: {b: {c: 1}}"], &[], r#"{ "a": { "b": { "c": 1 } } }"#);
    check(&["a: 1", ""], &[], r#"{ "a": 1 }"#);
    check(
        &["exporters: {debug/2: {v: 1}}"],
        &["exporters.debug/2.v=2"],
        r#"{ "exporters": { "debug/2": { "v": 2 } } }"#,
    );
    check(&["a: {b: 1}"], &[" a.b = [x, {y: true}] "], r#"{ "a": { "b": [ "x", { "y": true } ] } }"#);
    check(&["a: {b: 1}"], &["a.b=", "a.c=${NUM}", "a.d=x=y"], r#"{ "a": { "b": null, "c": 83, "d": "x=y" } }"#);
    check(&["processors::batch::timeout: 2s"], &[], r#"{ "processors": { "batch": { "timeout": "2s" } } }"#);
}

/// A variable that is not set adds nothing to other sources; alone it is an error.
#[test]
fn a_source_of_a_variable_that_is_not_set_is_empty() {
    let loaded = load(&strings(&["yaml:a: 1", "env:NOT_SET"]), &[], &environment);
    assert_eq!(value(&loaded), r#"{ "a": 1 }"#);
    assert_eq!(told(&loaded), ["warning environment variable \"NOT_SET\" is not set: it adds nothing"]);
}

#[test]
fn sources_that_cannot_be_read() {
    let check = |source: &str, set: &str, expected: &str| {
        let sets = if set.is_empty() { vec![] } else { strings(&[set]) };
        let loaded = load(&strings(&[source]), &sets, &environment);
        assert_eq!(told(&loaded), [expected]);
        assert!(loaded.root.is_null(), "{source} {set}");
    };
    let help = " | --config takes a file, or file:PATH, env:VARIABLE, yaml:TEXT";
    check("nofile.yaml", "", &format!("cannot read nofile.yaml: no such file or directory{help}"));
    check("file:nofile.yaml", "", &format!("cannot read nofile.yaml: no such file or directory{help}"));
    check("s3:foo", "", &format!("unsupported scheme on URI \"s3:foo\"{help}"));
    check("env:NOT_SET", "", "environment variable \"NOT_SET\" is not set");
    check("yaml:a: 1", "foo", "1:1: missing equal sign | write --set KEY.PATH=VALUE");
    check("yaml:a: 1", "a.b=[", "1:5: this is not YAML: unclosed bracket '['");
}

#[test]
fn references_are_expanded() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("part.yaml");
    std::fs::write(&file, "{k: '${SEVEN}'}").unwrap();
    let check = |written: &str, expected: &str| {
        let written = written.replace("FILE", file.to_str().unwrap());
        let loaded = load(&[format!("yaml:a: '{written}'")], &[], &environment);
        let errors: Vec<_> = told(&loaded).into_iter().filter(|line| !line.starts_with("warning")).collect();
        assert_eq!((errors, value(&loaded)), (vec![], format!("{{ \"a\": {expected} }}")), "{written}");
    };
    let rows = [
        ("${env:NUM}", "83"),
        ("${NUM}", "83"),
        ("x${NUM}y", "\"x0123y\""),
        ("${NUM} ", "\"0123 \""),
        ("${env:NOT:-dflt}", "\"dflt\""),
        ("${env:EMPTY:-dflt}", "null"),
        ("${env:NOT:-}", "\"\""),
        ("${NOT}", "null"),
        ("<${NOT}>", "\"<>\""),
        ("${EMPTY}", "null"),
        ("<${EMPTY}>", "\"<>\""),
        ("${yaml:[1,2]}", "[ 1, 2 ]"),
        ("${LIST}", "[ 1, 7 ]"),
        ("<${LIST}>", "\"<[1, '7']>\""),
        ("$NAME", "\"$NAME\""),
        ("a$$b", "\"a$b\""),
        ("$${NUM}", "\"${NUM}\""),
        ("$$${NUM}", "\"$0123\""),
        ("$$$${NUM}", "\"$${NUM}\""),
        ("${A", "\"${A\""),
        ("$${A} ${NUM} $${C}", "\"${A} 0123 ${C}\""),
        ("${env:${WHICH}}", "83"),
        ("${${WHICH}}${${WHICH}}", "\"01230123\""),
        ("${QUOTED}", "\"\\\"q\\\"\""),
        ("${INNER}", "\"<word>\""),
        ("${WHOLE}", "83"),
        ("${DOLLARS}", "\"a$b\""),
        ("${BROKEN}", "\"{a: \""),
        ("${file:FILE}", "{ \"k\": 7 }"),
        ("} ${SEVEN}", "\"} 7\""),
        ("${env:NOT:-${NUM}}", "83"),
    ];
    rows.iter().for_each(|(written, expected)| check(written, expected));
}

/// A field of text takes a reference that stands alone as it is, whatever YAML would make of it; an untyped value takes what YAML makes of
/// it. The Go collector 0.161 prints the same.
#[test]
fn a_reference_alone_in_a_field_of_text_is_text() {
    let rows = [
        (r#"{"team": "edge"}"#, r#"{ "team": "edge" }"#),
        ("user: pass", r#"{ "user": "pass" }"#),
        ("[a, b]", r#"[ "a", "b" ]"#),
        ("- x", r#"[ "x" ]"#),
        ("-", "[ null ]"),
        ("2001:db8::", r#"{ "2001:db8:": null }"#),
        ("!abc", r#""!abc""#),
        ("!abc x", r#""!abc x""#),
        ("*a", r#""*a""#),
        ("a: b: c", r#""a: b: c""#),
        ("#c", "null"),
        ("007", "7"),
        ("+1", "1"),
        (".5", "0.5"),
        ("1_000", "1000"),
        ("1.10", "1.1"),
        ("1e5", "100000.0"),
        ("0x1F", "31"),
        ("1e400", r#""1e400""#),
        ("0xFFFFFFFFFFFFFFFFF", r#""0xFFFFFFFFFFFFFFFFF""#),
        ("12345678901234567890123", "1.2345678901234568e+22"),
    ];
    for (text, untyped) in rows {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("value");
        std::fs::write(&file, text).unwrap();
        let file = file.display();
        let environment = |name: &str| (name == "X").then(|| text.to_owned());
        for reference in ["${env:X}".to_owned(), format!("${{file:{file}}}")] {
            let loaded =
                load(&[format!("yaml:{{t: '{reference}', s: '{reference}', v: '{reference}'}}")], &[], &environment);
            let section = Section::of(&loaded.root, "it", &loaded.problems);
            assert_eq!(section.text("t").as_deref(), Some(text), "{reference}");
            assert_eq!(section.secret("s").unwrap().expose(), text, "{reference}");
            assert_eq!(json(section.node("v").unwrap()), untyped, "{reference}");
            drop(section);
            assert_eq!(told(&loaded), Vec::<String>::new(), "{text}");
        }
    }
}

/// A number from a reference is shown as it is written, where it can be withheld.
#[test]
fn a_number_in_a_wrong_place_does_not_show_what_is_withheld() {
    for number in ["0x5EC2E7", "5.12345e7", "12345678901234567890123"] {
        let environment = |name: &str| (name == "X").then(|| number.to_owned());
        for written in ["{f: '${X}', t: a}", "{f: true, t: ['${X}']}"] {
            let loaded = load(&[format!("yaml:{written}")], &[], &environment);
            let section = Section::of(&loaded.root, "it", &loaded.problems);
            section.boolean("f", false);
            section.text("t");
            drop(section);
            for told in told(&loaded) {
                let shown = told.contains(number) || told.chars().filter(char::is_ascii_digit).count() > 4;
                assert!(!shown && told.contains("expected"), "{number}: {told}");
            }
        }
    }
}

#[test]
fn references_that_fail_are_pointed_at() {
    let check = |written: &str, expected: &str| {
        assert_eq!(told(&load(&[format!("yaml:{written}")], &[], &environment)), [expected], "{written}");
    };
    let name = "has invalid name | a name has letters, digits and _, and does not start with a digit";
    let schemes = "the schemes are env, file and yaml; for a plain $ write $$";
    check("a: ${}", &format!("1:4: environment variable \"\" {name}"));
    check("a: 'b ${env:1BAD}'", &format!("1:7: environment variable \"1BAD\" {name}"));
    check("a: [\"é\\t${a b}\"]", &format!("1:9: environment variable \"a b\" {name}"));
    check(
        "a: |\n  one\n  two ${foo:bar} x\n",
        &format!("3:7: scheme \"foo\" is not supported for uri \"foo:bar\" | {schemes}"),
    );
    check(
        "a: x ${SEVEN} ${foo:bar}",
        &format!("1:15: scheme \"foo\" is not supported for uri \"foo:bar\" | {schemes}"),
    );
    check(
        "a: ${NAME:-x}",
        "1:4: scheme \"NAME\" is not supported for uri \"NAME:-x\" | a default wants the scheme written out: ${env:NAME:-x}",
    );
    check("a: ${env:A$B}", "1:4: the uri \"env:A$B\" contains unsupported characters ('$')");
    check("a: ${LOOP}", "1:4: too many recursive expansions");
    check("a: <${LOOP}>", "1:5: too many recursive expansions");
    check("a: x ${file:nofile}", "1:6: cannot read nofile: no such file or directory");
    check(
        "a: x ${NOT}",
        "warning 1:6: environment variable \"NOT\" is not set | it counts as null; ${env:NOT:-VALUE} would give it a default",
    );
}

#[test]
fn settings_are_decoded() {
    let check = |yaml: &str, expected: &[&str]| assert_eq!(told(&read(&with(yaml))), expected, "{yaml}");
    let batch =
        |settings: &str, expected: &[&str]| check(&format!("processors: {{batch: {{{settings}}}}}\n"), expected);
    for fine in [
        "",
        "timeout: 5s",
        "timeout: 0",
        "timeout: '0'",
        "timeout: ",
        "send_batch_size: 1e3",
        "ratio: 1",
        "ratio: 0.25",
        "send_batch_size: '${SEVEN}'",
        "metadata_keys: 'a,b'",
        "metadata_keys: []",
        "metadata_keys: '${WORD}'",
        "send_batch_size: '${EMPTY}'",
    ] {
        batch(fine, &[]);
    }
    let p = "processors.batch.";
    batch("timeout: 5", &[&format!("1:31: {p}timeout: a duration wants a unit: 5s")]);
    batch("timeout: '${SEVEN}'", &[&format!("1:32: {p}timeout: a duration wants a unit: 7s")]);
    batch(
        "timeout: 5 parsecs",
        &[&format!(
            "1:31: {p}timeout: \"5 parsecs\" is not a duration | it wants a unit: ns, us, ms, s, m or h, as in 5s"
        )],
    );
    batch(
        "timeout: 1d",
        &[&format!("1:31: {p}timeout: \"1d\" is not a duration | the largest unit is h: a day is 24h")],
    );
    batch("timeout: -1s", &[&format!("1:31: {p}timeout: \"-1s\" is not a duration | it is not negative")]);
    batch("send_batch_size: many", &[&format!("1:39: {p}send_batch_size: expected a whole number, found \"many\"")]);
    batch(
        "send_batch_size: '5'",
        &[&format!("1:39: {p}send_batch_size: expected a whole number, found \"5\" | write it without quotes")],
    );
    batch(
        "send_batch_size: 512.5",
        &[&format!("warning 1:39: {p}send_batch_size: 512.5 is no whole number: 512 is used")],
    );
    batch("send_batch_size: -1", &[&format!("1:39: {p}send_batch_size: -1 is too small | the least is 0")]);
    batch("ratio: 1.5", &[&format!("1:29: {p}ratio: 1.5 is too large | the most is 1")]);
    batch("metadata_keys: [1]", &[&format!("1:38: {p}metadata_keys: expected text, found 1 | put it in quotes")]);
    batch("metadata_keys: {}", &[&format!("1:22: {p}metadata_keys: expected a list, found a map")]);
    batch("timeot: 5s", &["1:22: processors.batch: unknown key \"timeot\" | did you mean \"timeout\"?"]);
    batch(
        "zz: 1",
        &[
            "1:22: processors.batch: unknown key \"zz\" | the keys here are: timeout, send_batch_size, ratio, metadata_keys",
        ],
    );
    check("processors: {batch: 5}\n", &["1:21: processors.batch: expected a map, found 5"]);
    check("exporters: {debug: {verbosity: Detailed}}\n", &[]);
    check(
        "exporters: {debug: {verbosity: detaild}}\n",
        &["1:32: exporters.debug.verbosity: unknown value \"detaild\" | did you mean \"detailed\"?"],
    );
    check(
        "exporters: {debug: {use_internal_logger: 'true'}}\n",
        &[
            "1:42: exporters.debug.use_internal_logger: expected true or false, found \"true\" | write it without quotes",
        ],
    );
    check(
        "extensions: {health_check: {a: 1}}\n",
        &["1:29: extensions.health_check: unknown key \"a\" | there is nothing to set here"],
    );
}

#[test]
fn optional_sections_follow_one_rule() {
    // What of grpc, its tls and the queue is on, seen in the effective config.
    let check = |grpc: &str, queue: &str, expected: [bool; 3]| {
        let config =
            format!("receivers: {{otlp: {{protocols: {{{grpc}}}}}}}\nexporters: {{debug: , otlp_grpc: {{{queue}}}}}\n");
        let loaded = read(&with(&config));
        assert_eq!(told(&loaded), Vec::<String>::new(), "{config}");
        let tree = loaded.problems.effective(true);
        let get =
            |path: &[&str]| path.iter().try_fold(&tree, |node, key| node.get(key)).is_some_and(|node| !node.is_null());
        let on = [
            get(&["receivers", "otlp", "protocols", "grpc"]),
            get(&["receivers", "otlp", "protocols", "grpc", "tls"]),
            get(&["exporters", "otlp_grpc", "sending_queue"])
                && !get(&["exporters", "otlp_grpc", "sending_queue", "enabled"]),
        ];
        assert_eq!(on, expected, "{config}");
    };
    check("", "", [false, false, true]);
    check("grpc: ", "sending_queue: ", [true, false, true]);
    check("grpc: {}", "sending_queue: {}", [true, false, true]);
    check("grpc: {enabled: false, tls: {}, zz: 1}", "sending_queue: {enabled: false}", [false, false, false]);
    check("grpc: {tls: }", "", [true, false, true]);
    check("grpc: {tls: {}}", "", [true, true, true]);
    check("grpc: {tls: {enabled: false}}", "", [true, false, true]);
    check("grpc: {tls: {enabled: true}}", "", [true, true, true]);
}

#[test]
fn secrets_stay_secret() {
    let config =
        "exporters: {debug: , otlp_grpc: {headers: {x: hush1}, password: hush2, sending_queue: {enabled: false}}}\n";
    let loaded = read(&with(config));
    let printed = emit::yaml(&loaded.problems.effective(true));
    assert!(!printed.contains("hush") && printed.contains("[REDACTED]"), "{printed}");
    assert!(emit::yaml(&loaded.problems.effective(false)).contains("hush2"));
    for (set, shown) in [
        ("exporters.otlp_grpc.timeout=3s", "exporters.otlp_grpc.timeout=3s"),
        (
            " exporters::otlp_grpc::sending_queue={enabled: false}",
            " exporters::otlp_grpc::sending_queue={enabled: false}",
        ),
        ("exporters.otlp_grpc.password=hush2", "exporters.otlp_grpc.password=[REDACTED]"),
        ("exporters.otlp_grpc.headers.x=hush1", "exporters.otlp_grpc.headers.x=[REDACTED]"),
        ("exporters.otlp_grpc={password: hush2}", "exporters.otlp_grpc=[REDACTED]"),
        ("exporters.otlp.password=hush2", "exporters.otlp.password=[REDACTED]"),
    ] {
        assert_eq!(loaded.problems.redacted(set), shown);
    }
    let faults = told(&read(&with(
        "exporters: {debug: , otlp_grpc: {headers: [{name: x}, {name: y, value: 12345}], password: 67890}}\n",
    )));
    assert!(
        faults.len() == 3 && !faults.concat().contains("12345") && !faults.concat().contains("67890"),
        "{faults:?}"
    );
    assert_eq!(format!("{0} {0:?}", misaki::face::config::Secret::new("hush")), "[REDACTED] [REDACTED]");
}

#[test]
fn the_effective_config_is_printed() {
    let config = "\
receivers: {otlp: {protocols: {grpc: {endpoint: \"0.0.0.0:4317\"}, http: }}}
processors: {batch: {timeout: 90s, metadata_keys: \"a,b\"}, attributes: {actions: [{key: k, value: \"yes\"}]}}
exporters: {debug: , otlp_grpc: {headers: {x: hush}, timeout: '0'}}
service: {pipelines: {logs: {receivers: [otlp], exporters: [debug]}}}
";
    let expected = "\
exporters:
    debug:
        use_internal_logger: false
        verbosity: basic
    otlp_grpc:
        headers:
            - name: x
              value: '[REDACTED]'
        sending_queue:
            num_consumers: 10
        timeout: 0s
extensions: {}
processors:
    attributes:
        actions:
            - action: insert
              key: k
              value: 'yes'
    batch:
        metadata_keys:
            - a
            - b
        ratio: 0.5
        send_batch_size: 8192
        timeout: 1m30s
receivers:
    otlp:
        protocols:
            grpc:
                endpoint: 0.0.0.0:4317
                max_recv_msg_size_mib: 4
                tls: null
            http:
                endpoint: localhost:4317
                max_recv_msg_size_mib: 4
                tls: null
";
    let loaded = read(config);
    let printed = emit::yaml(&loaded.problems.effective(true));
    assert!(printed.contains(expected), "{printed}");
    // What is printed is a config that means the same.
    let again = emit::yaml(&read(&emit::yaml(&loaded.problems.effective(false))).problems.effective(true));
    assert_eq!(again, printed);
}

#[test]
fn text_that_looks_like_something_else_is_quoted() {
    for text in [
        "true",
        "1",
        "",
        "~",
        "a: b",
        "- a",
        "x #y",
        "#",
        "é",
        "two\nlines",
        " x",
        "x:",
        "0x1F",
        "it's",
        "2020-01-01",
        "[a]",
        "\u{7}",
        "\u{1b}[2J\u{9b}\u{202e}\u{e0041}\"\\ ${a}",
    ] {
        let node = Node::new(misaki::face::config::Value::Text(text.into()), Default::default());
        let read = yaml::parse(&emit::yaml(&node), 0, 0).unwrap().root.value;
        assert_eq!(read, misaki::face::config::Value::Text(text.into()));
        assert!(
            !emit::yaml(&node).contains(|c| c != '\n' && misaki::face::diagnostics::escape::is_control(c)),
            "{text:?}"
        );
    }
}

/// What a config holds cannot speak to the terminal that its mistakes are shown on.
#[test]
fn mistakes_show_no_control_characters() {
    for text in ["\u{1b}[2J\u{9b}: x\n", "rec\u{200b}eivers: {\"otlp/a\u{9b}\u{202e}\": {protocols: {foo\u{9b}: 1}}}\n"]
    {
        let mut directory = std::env::temp_dir();
        directory.push(format!("misaki-\u{9b}-{}.yaml", std::process::id()));
        std::fs::write(&directory, text).unwrap();
        let loaded = load(&[format!("file:{}", directory.display())], &[], &environment);
        misaki::face::service::Plan::read(&loaded);
        let report = loaded.problems.render(&loaded.sources, false);
        assert!(!report.contains(|c| c != '\n' && misaki::face::diagnostics::escape::is_control(c)), "{report:?}");
        std::fs::remove_file(&directory).unwrap();
    }
}

#[test]
fn durations() {
    let rows = [
        ("5s", "5s"),
        ("1m30s", "1m30s"),
        ("200ms", "200ms"),
        ("1h", "1h0m0s"),
        ("1.5s", "1.5s"),
        ("5m", "5m0s"),
        ("0", "0s"),
        ("90s", "1m30s"),
        (".5s", "500ms"),
        ("1.s", "1s"),
        ("100us", "100µs"),
        ("1500ns", "1.5µs"),
        ("1h0.5s", "1h0m0.5s"),
        ("+3s", "3s"),
        ("-0", "0s"),
        ("1.0000000019s", "1.000000001s"),
    ];
    for (text, expected) in rows {
        assert_eq!(duration::format(duration::parse(text).unwrap()), expected, "{text}");
    }
    for text in
        ["", "5", "s", ".s", "1.2.3s", "5 s", "5x", "-1s", "1e3s", "9999999h", "99999999999999999999s", "+", "5s5"]
    {
        assert!(duration::parse(text).is_err(), "{text}");
    }
}

#[test]
fn ids() {
    let rows = [
        ("otlp", Ok("otlp")),
        ("otlp/a", Ok("otlp/a")),
        (" otlp / a ", Ok("otlp/a")),
        ("otlp/a/b", Ok("otlp/a/b")),
        ("otlp/é-1.x", Ok("otlp/é-1.x")),
        ("ot-lp", Err("invalid character(s) in type \"ot-lp\"")),
        ("1x", Err("invalid character(s) in type \"1x\"")),
        ("otlp/", Err("the part after / should not be empty")),
        ("/a", Err("the part before / should not be empty")),
        ("", Err("the part before / should not be empty")),
        ("otlp/a b", Err("invalid character(s) in name \"a b\"")),
        ("otlp/a+b", Err("invalid character(s) in name \"a+b\"")),
        ("otlp/€", Err("invalid character(s) in name \"€\"")),
        ("otlp/☃", Err("invalid character(s) in name \"☃\"")),
    ];
    for (text, expected) in rows {
        let parsed = ComponentId::parse(text).map(|id| id.to_string());
        assert_eq!(parsed.as_deref().map_err(String::as_str), expected, "{text}");
    }
    assert_eq!(PipelineId::parse("logs/a").unwrap().to_string(), "logs/a");
    assert_eq!(PipelineId::parse("foo").unwrap_err(), "unknown pipeline signal \"foo\"");
    assert_eq!(PipelineId::parse("profiles").unwrap_err(), "the signal profiles is not supported");
}

#[test]
fn the_layout_is_checked() {
    let check = |yaml: &str, expected: &[&str]| assert_eq!(told(&read(&with(yaml))), expected, "{yaml}");
    let service = |rest: &str| format!("service: {{{rest}}}\n");
    let logs = |rest: &str| service(&format!("pipelines: {{logs: {{{rest}}}}}"));
    check("", &[]);
    check("recievers: {}\n", &["1:1: unknown key \"recievers\" | did you mean \"receivers\"?"]);
    check(
        "exporters: {debg: }\n",
        &[
            "3:61: service.pipelines.logs: no exporter \"debug\" is configured | did you mean \"debg\"?",
            "warning 1:13: exporters: unknown exporter type \"debg\" | did you mean \"debug\"?",
        ],
    );
    check(
        "processors: {k8sattributes: }\n",
        &["warning 1:14: processors: the processor \"k8sattributes\" of the Go collector is not supported by Misaki \
             | `resource_detection` with `env` reads OTEL_RESOURCE_ATTRIBUTES, which the pod can fill"],
    );
    check(
        "processors: {debug: }\n",
        &[
            "warning 1:14: processors: \"debug\" is not a processor, it is an exporter | debug is declared under exporters",
        ],
    );
    check(
        "exporters: {debug: , logging: }\n",
        &["warning 1:22: exporters: the logging exporter has been deprecated, use the debug exporter instead"],
    );
    check(
        "exporters: {debug: , otlp: }\n",
        &["warning 1:22: exporters: \"otlp\" alias is deprecated; use \"otlp_grpc\" instead"],
    );
    check("exporters: {debug: , 'debug / a': , debug/a: }\n", &["1:37: exporters: duplicate id \"debug/a\""]);
    check(
        "exporters: {debug: }\nreceivers: {}\n",
        &[
            "2:1: no receiver configuration specified in config",
            "3:42: service.pipelines.logs: no receiver \"otlp\" is configured | define it under receivers, with a line \"otlp:\"",
        ],
    );
    check(
        "connectors: {forward: }\nreceivers: {otlp: , forward: }\n",
        &[
            "1:14: connectors.forward: ambiguous id: it names a receiver too | rename the connector, to \"forward/connector\" for example",
            "warning 2:21: receivers: \"forward\" is not a receiver, it is a connector | forward is declared under connectors",
        ],
    );
    check(
        &service(""),
        &["1:1: service.pipelines: service must have at least one pipeline \
         | write pipelines: {logs: {receivers: [otlp], exporters: [debug]}}"],
    );
    check(&service("pipelines: [logs]"), &["1:22: service.pipelines: expected a map, found a list"]);
    check(
        &service("pipelines: {events: {receivers: [otlp], exporters: [debug]}}"),
        &[
            "1:23: service.pipelines: unknown pipeline signal \"events\" | a pipeline is called logs, metrics or traces, or logs/NAME",
        ],
    );
    check(
        &service(
            "pipelines: {logs/a: {receivers: [otlp], exporters: [debug]}, 'logs / a': {receivers: [otlp], exporters: [debug]}}",
        ),
        &["1:72: service.pipelines: duplicate pipeline \"logs/a\""],
    );
    check(
        &service("pipelines: {logs: {receivers: [otlp], exporters: [debug]}}, extensions: [health_chek]"),
        &["1:84: service.extensions: no extension \"health_chek\" is configured | nothing is defined under extensions"],
    );
    check(
        &logs("receivers: otlp, exporters: [debug, debug]"),
        &["warning 1:41: service.pipelines.logs.receivers: it is a list, which the Go collector insists on: [otlp]"],
    );
    check(&logs("receivers: [otlp]"), &["1:23: service.pipelines.logs: must have at least one exporter"]);
    check(
        &logs("receivers: [], exporters: [debug]"),
        &["1:30: service.pipelines.logs: must have at least one receiver"],
    );
    check(
        &logs("receivers: [otlp], exporters: [otlp]"),
        &["1:61: service.pipelines.logs: no exporter \"otlp\" is configured | \"otlp\" is defined under receivers"],
    );
    check(
        &logs("receivers: [otlp], exporters: [debug], processors: ['a b']"),
        &["1:82: service.pipelines.logs.processors: invalid character(s) in type \"a b\""],
    );
    check(
        &format!(
            "processors: {{batch: }}\n{}",
            logs("receivers: [otlp], processors: [batch, batch], exporters: [debug]")
        ),
        &["2:69: service.pipelines.logs: lists processor \"batch\" multiple times"],
    );
}

#[test]
fn own_telemetry_is_decoded() {
    let pipelines = "pipelines: {logs: {receivers: [otlp], exporters: [debug]}}";
    let check = |yaml: &str, expected: &dyn Fn(&Telemetry) -> bool, faults: &[&str]| {
        let loaded = load(
            &[format!("yaml:{}", with(&format!("service: {{{pipelines}, telemetry: {{{yaml}}}}}\n")))],
            &[],
            &environment,
        );
        let layout = Layout::read(&loaded.root, &Components, &loaded.problems);
        let messages: Vec<String> = loaded.problems.sorted().into_iter().map(|problem| problem.message).collect();
        assert_eq!(messages, faults, "{yaml}");
        assert!(expected(&layout.service.telemetry), "{yaml}: {:?}", layout.service.telemetry);
    };
    check("", &|it| *it == Telemetry::default(), &[]);
    check(
        "logs: {level: DEBUG, encoding: json, output_paths: [stdout], sampling: {enabled: false}}",
        &|it| (it.logs.level, it.logs.encoding) == (LogLevel::Debug, Encoding::Json),
        &[],
    );
    check(
        "metrics: {level: Detailed, readers: [{pull: {exporter: {prometheus: {host: h, port: 1, without_units: true}}}}]}",
        &|it| {
            it.metrics.level == MetricsLevel::Detailed
                && it.metrics.named
                && it.metrics.readers == [("h".to_owned(), 1)]
        },
        &[],
    );
    check("metrics: {level: none}", &|it| it.metrics.level == MetricsLevel::None && !it.metrics.named, &[]);
    for (written, level) in
        [("Warning", LogLevel::Warn), ("WARN", LogLevel::Warn), ("''", LogLevel::Info), ("dPanic", LogLevel::Error)]
    {
        check(&format!("logs: {{level: {written}}}"), &|it| it.logs.level == level, &[]);
    }
    for (written, level) in
        [(-1, MetricsLevel::None), (0, MetricsLevel::Basic), (1, MetricsLevel::Normal), (2, MetricsLevel::Detailed)]
    {
        check(&format!("metrics: {{level: {written}}}"), &|it| it.metrics.level == level, &[]);
    }
    check("logs: {level: trace}", &|_| true, &["unknown value \"trace\""]);
    check("metrics: {level: bogus}", &|_| true, &["unknown value \"bogus\""]);
    check("metrics: {address: ':8888'}", &|_| true, &["this key of older collectors is gone"]);
    check("metrics: {readers: []}", &|_| true, &["metrics without a reader are lost"]);
    check("metrics: {readers: [{periodic: {}}]}", &|_| true, &["an exporter wants otlp"]);
    check("metrics: {readers: [{}]}", &|_| true, &["a reader wants pull or periodic"]);
    check("logs: {processors: [{}]}", &|_| true, &["a processor wants batch or simple"]);
    check(
        "logs: {processors: [{simple: {exporter: {console: {}}}}]}",
        &|_| true,
        &["a console exporter of the collector's own telemetry is not supported"],
    );
    check(
        "metrics: {readers: [{periodic: {exporter: {otlp: {protocol: http/json}}}}]}",
        &|_| true,
        &["it is required, and missing", "unknown value \"http/json\""],
    );
    check(
        "metrics: {readers: [{periodic: {exporter: {otlp: {protocol: grpc, endpoint: 'a:1', temporality_preference: delta}}}}]}",
        &|it| it.metrics.named && it.metrics.readers.is_empty(),
        &["sums are pushed as cumulative ones all the same"],
    );
    check("resource: {a: [1]}", &|_| true, &["an attribute of the resource is a text"]);
    check("traces: {}", &|it| *it == Telemetry::default(), &[]);
    check("trace: {}", &|_| true, &["unknown key \"trace\""]);
}

#[test]
fn keys_without_effect_are_noted() {
    let loaded = read(&with("receivers: {otlp: {protocols: {grpc: {read_buffer_size: 1}}}}\n"));
    assert_eq!(loaded.problems.ignored(), ["receivers.otlp.protocols.grpc.read_buffer_size"]);
    assert!(!loaded.problems.has_errors());
}

/// The files that the Go collector refuses, as far as it is not a component's business, with words it must mention.
#[test]
fn bad_configs_are_refused() {
    let ours = [
        "bad_component_id",
        "bad_duration",
        "bad_int",
        "bad_signal",
        "bad_verbosity",
        "duplicate_key",
        "empty_file",
        "env_bad_name",
        "env_bad_scheme",
        "negative_batch",
        "no_pipelines",
        "not_yaml",
        "pipeline_no_exporters",
        "pipeline_no_receivers",
        "queue_zero_consumers",
        "scalar_document",
        "undefined_exporter",
        "undefined_extension",
        "undefined_processor",
        "undefined_receiver",
        "unknown_top_key",
        "wrong_type_list",
    ];
    for name in ours {
        let text = std::fs::read_to_string(format!("fixtures/bad-config/{name}.yaml")).unwrap();
        let loaded = read(&text);
        let shown = loaded.problems.render(&loaded.sources, false);
        assert!(loaded.problems.has_errors(), "{name} is accepted");
        let words = text.lines().next().and_then(|line| line.strip_prefix("# must mention:")).unwrap();
        words
            .split(',')
            .for_each(|word| assert!(shown.contains(word.trim()), "{name} does not mention {word}:\n{shown}"));
        assert!(shown.lines().all(|line| line.chars().count() <= 80), "{name} is too wide:\n{shown}");
    }
}

#[test]
fn all_errors_are_shown_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("edge.yaml");
    std::fs::copy("fixtures/config/many-errors.yaml", &file).unwrap();
    let loaded = load(&strings(&[file.to_str().unwrap()]), &[], &environment);
    let layout = Layout::read(&loaded.root, &Components, &loaded.problems);
    Kind::ALL.iter().for_each(|kind| layout.declared(*kind).iter().for_each(|it| decode(it, &loaded.problems)));
    let shown = loaded.problems.render(&loaded.sources, false).replace(folder.path().to_str().unwrap(), "");
    let shown = shown.replace("/edge.yaml", "edge.yaml");
    let golden = "fixtures/config/many-errors.txt";
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(golden, &shown).unwrap();
    }
    assert_eq!(shown, std::fs::read_to_string(golden).unwrap());
    assert!(loaded.problems.render(&loaded.sources, true).contains("\u{1b}["));
}

proptest! {
    #[test]
    fn no_text_breaks_the_loader(text in "\\PC*", set in "\\PC*") {
        let loaded = load(&[format!("yaml:{text}")], &[set], &environment);
        loaded.problems.render(&loaded.sources, false);
    }

    #[test]
    fn no_yaml_breaks_the_loader(parts in proptest::collection::vec(0usize..32, 0..60)) {
        const PARTS: [&str; 32] = [
            "receivers", ": ", "\n", "\n  ", "\n    ", "- ", "{", "}", "[", "]", ", ", "&a ", "*a", "<<", "::", "${", "}", "${NUM}",
            "${LIST}", "$$", "'", "\"", "# ", "|\n", "service", "pipelines", "logs", "exporters", "debug", "0x1F", "é", "!!str ",
        ];
        let text: String = parts.iter().map(|&part| PARTS[part]).collect();
        let loaded = read(&text);
        loaded.problems.render(&loaded.sources, false);
        emit::yaml(&loaded.root);
        emit::json(&loaded.root);
    }

    #[test]
    fn no_bytes_break_the_loader(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        let loaded = load(&[file.path().to_str().unwrap().to_owned()], &[], &environment);
        loaded.problems.render(&loaded.sources, true);
    }
}

/// The first ones are shown, all are counted: in a warning's place no error is lost.
#[test]
fn many_mistakes_are_counted() {
    let keys: Vec<_> = (0..5000).map(|number| format!("key{number}: ")).collect();
    let text = format!("yaml:{{processors: {{batch: {{{}}}}}}}", keys.join(", "));
    let loaded = load(&[text], &[], &|_| None);
    misaki::face::service::Plan::read(&loaded);
    let report = loaded.problems.render(&loaded.sources, false);
    assert!(report.lines().last().unwrap().starts_with("5003 errors, of which 200 are shown, in "), "{report}");
    assert!(loaded.problems.has_errors());
}
