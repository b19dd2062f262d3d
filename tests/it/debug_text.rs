//! The `debug` exporter's text: the Go collector's, byte for byte, save that no value can act on a terminal.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use misaki::face::exporters::{
    Counts, Key, Layout, Sampler, Style, Verbosity, render_chunks, render_dump, render_summary, render_summary_fields,
};
use misaki::face::otlp::json::to_wire;
use misaki::face::otlp::schema::{
    REQUEST_RESOURCES, any_value, buckets, entity_ref, exponential_point, key_value, list, log_record, metric,
    metric_data, number_point, resource, resource_group, scope, scope_group, span,
};
use misaki::face::otlp::wire::{put_bytes, put_fixed64, put_uint};
use misaki::face::telemetry::Signal;
use proptest::prelude::*;

const VERBOSITIES: [(Verbosity, &str); 3] =
    [(Verbosity::Basic, "basic"), (Verbosity::Normal, "normal"), (Verbosity::Detailed, "detailed")];
const ESCAPED: Style = Style { escape_newlines: true, layout: Layout::FILE };

/// `fixtures/debug`: recorded from the Go collector. What holds no item never reaches its exporter and has no text.
#[test]
fn text_is_the_go_collectors() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/debug");
    let mut compared = 0;
    for folder in fs::read_dir(root).unwrap() {
        let folder = folder.unwrap().path();
        let name = folder.file_name().unwrap().to_str().unwrap();
        let signal = Signal::ALL.into_iter().find(|signal| name.starts_with(signal.name())).unwrap();
        let request = to_wire(signal, &fs::read(folder.join("input.json")).unwrap()).unwrap();
        let counts = Counts::of(signal, &[&request]);
        let empty = if signal == Signal::Metrics { counts.data_points == 0 } else { counts.records == 0 };
        for (verbosity, file) in VERBOSITIES {
            let expected = fs::read_to_string(folder.join(file).with_extension("txt")).unwrap();
            let text = if empty { String::new() } else { rendered(signal, verbosity, Style::default(), &[&request]) };
            assert_eq!(text, expected, "{name} {file}");
            compared += 1;
        }
    }
    assert_eq!(compared, 63);
}

/// Rows of `AsString`, `%v` and `%f`, printed by Go 1.26.
#[test]
fn doubles_print_as_in_go() {
    let rows: &[(f64, &str, &str, &str)] = &[
        (0.0, "0", "0", "0.000000"),
        (-0.0, "-0", "-0", "-0.000000"),
        (1.0, "1", "1", "1.000000"),
        (-2.5, "-2.5", "-2.5", "-2.500000"),
        (0.1, "0.1", "0.1", "0.100000"),
        (1e-4, "0.0001", "0.0001", "0.000100"),
        (1e-5, "0.00001", "1e-05", "0.000010"),
        (1e-6, "0.000001", "1e-06", "0.000001"),
        (9.99e-7, "9.99e-7", "9.99e-07", "0.000001"),
        (1e-9, "1e-9", "1e-09", "0.000000"),
        (1e-10, "1e-10", "1e-10", "0.000000"),
        (123_456.0, "123456", "123456", "123456.000000"),
        (1e6, "1000000", "1e+06", "1000000.000000"),
        (2_097_152.5, "2097152.5", "2.0971525e+06", "2097152.500000"),
        (1e20, "100000000000000000000", "1e+20", "100000000000000000000.000000"),
        (1e21, "1e+21", "1e+21", "1000000000000000000000.000000"),
        (5e-324, "5e-324", "5e-324", "0.000000"),
        // Ties: between two shortest candidates, and at the sixth decimal.
        (3_156_118_863_379_909.0 / 4.0, "789029715844977.2", "7.890297158449772e+14", "789029715844977.250000"),
        (0.0078125, "0.0078125", "0.0078125", "0.007812"),
        (0.0234375, "0.0234375", "0.0234375", "0.023438"),
        (f64::NAN, "NaN", "NaN", "NaN"),
        (f64::INFINITY, "Infinity", "+Inf", "+Inf"),
        (f64::NEG_INFINITY, "-Infinity", "-Inf", "-Inf"),
    ];
    for &(value, plain, general, fixed) in rows {
        let body = log(|record| put_bytes(record, log_record::BODY, &double(value)));
        assert_eq!(dump(Signal::Logs, Verbosity::Normal, &body).lines().nth(2), Some(&*format!("{plain} ")));
        let point = message(|point| put_fixed64(point, number_point::AS_DOUBLE, value.to_bits()));
        let gauge = metric_of(metric::GAUGE, &point);
        assert_eq!(dump(Signal::Metrics, Verbosity::Normal, &gauge).lines().nth(2), Some(&*format!("{{}} {general}")));
        let line = format!("Value: {fixed}");
        assert!(dump(Signal::Metrics, Verbosity::Detailed, &gauge).lines().any(|found| found == line), "{line}");
    }
    let huge = metric_of(metric::GAUGE, &message(|p| put_fixed64(p, number_point::AS_DOUBLE, 1.5e300f64.to_bits())));
    let text = dump(Signal::Metrics, Verbosity::Detailed, &huge);
    let value = text.lines().find_map(|line| line.strip_prefix("Value: ")).unwrap();
    assert_eq!((value.len(), value.parse()), (308, Ok(1.5e300)));
    assert!(value.starts_with("1500000000000000078757140382806630373056702871662238732373781173267703"), "{value}");
}

#[test]
fn times_print_as_in_go() {
    let rows = [
        (0, "1970-01-01 00:00:00 +0000 UTC"),
        (1, "1970-01-01 00:00:00.000000001 +0000 UTC"),
        (1_000_000_000, "1970-01-01 00:00:01 +0000 UTC"),
        (951_782_400_000_000_000, "2000-02-29 00:00:00 +0000 UTC"),
        (1_544_712_660_300_000_000, "2018-12-13 14:51:00.3 +0000 UTC"),
        (1_544_712_660_300_000_001, "2018-12-13 14:51:00.300000001 +0000 UTC"),
        (1_735_689_599_999_999_999, "2024-12-31 23:59:59.999999999 +0000 UTC"),
        (1_709_164_800_000_000_000, "2024-02-29 00:00:00 +0000 UTC"),
        (4_107_542_400_000_000_000, "2100-03-01 00:00:00 +0000 UTC"),
        (i64::MAX as u64, "2262-04-11 23:47:16.854775807 +0000 UTC"),
        (i64::MIN as u64, "1677-09-21 00:12:43.145224192 +0000 UTC"),
        (u64::MAX, "1969-12-31 23:59:59.999999999 +0000 UTC"),
    ];
    // All in one request, so that the remembered second is put to the test.
    let request = logs(rows.iter().map(|(nanos, _)| message(|record| put_fixed64(record, log_record::TIME, *nanos))));
    let text = dump(Signal::Logs, Verbosity::Detailed, &request);
    let times: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("Timestamp: ")).collect();
    assert_eq!(times, rows.map(|(_, text)| text));
}

/// What a terminal, or a reader of lines, could be made to believe.
#[test]
fn nothing_acts_on_the_terminal() {
    let rows: &[(&str, &str)] = &[
        ("plain text, 日本語, 👩‍👩‍👧", "plain text, 日本語, 👩‍👩‍👧"),
        ("\x1b[2J\x1b[31mred", "\\x1b[2J\\x1b[31mred"),
        ("\x1b]0;pwned\x07", "\\x1b]0;pwned\\x07"),
        ("\x1b]52;c;ZWNobyBwd25lZA==\x1b\\", "\\x1b]52;c;ZWNobyBwd25lZA==\\x1b\\"),
        ("\u{9b}31m \u{85} \u{80}", "\\x9b31m \\x85 \\x80"),
        ("safe\rforged", "safe\\x0dforged"),
        ("bell \x07 back \x08 nul \0 del \x7f", "bell \\x07 back \\x08 nul \\x00 del \\x7f"),
        ("a\ttab", "a\\ttab"),
        ("\u{202e}gpj.exe", "\\u202egpj.exe"),
        ("\u{61c}\u{200e}\u{200f}\u{202a}\u{2066}\u{2069}", "\\u061c\\u200e\\u200f\\u202a\\u2066\\u2069"),
        ("a\u{2028}b\u{2029}c", "a\\u2028b\\u2029c"),
        ("shop\u{200b}\u{200c}\u{2060}\u{2064}\u{feff}", "shop\\u200b\\u200c\\u2060\\u2064\\ufeff"),
        ("tag \u{e0001}\u{e0041}\u{e007f}", "tag \\U000e0001\\U000e0041\\U000e007f"),
        ("\u{2764}\u{fe0f}\u{200d}\u{1f525}", "\u{2764}\u{fe0f}\u{200d}\u{1f525}"),
        ("soft\u{ad} \u{3164} \u{fff9}", "soft\\xad \\u3164 \\ufff9"),
        ("e\u{301}\u{301}\u{301}\u{301}\u{301}\u{fe01}", "e\u{301}\u{301}\u{301}\u{301}\\u0301\\ufe01"),
        ("first\nLogRecord #1\nBody: Str(forged)", "first\\nLogRecord #1\\nBody: Str(forged)"),
        ("longer than a word, and its last byte is bad\x1b", "longer than a word, and its last byte is bad\\x1b"),
    ];
    for (input, expected) in rows {
        let request = log(|record| put_bytes(record, log_record::BODY, &string(input)));
        let find = |style, line: &str| {
            rendered(Signal::Logs, Verbosity::Detailed, style, &[&request]).contains(&format!("\nBody: Str({line})\n"))
        };
        assert!(find(ESCAPED, expected), "{input:?}");
        // In a file, what is no danger stays as it is.
        let is_unseen = |c| matches!(c, '\u{ad}' | '\u{301}' | '\u{3164}' | '\u{fff9}' | '\u{200b}'..='\u{200c}' | '\u{2060}'..='\u{2064}' | '\u{feff}' | '\u{e0000}'..);
        let in_file = if input.contains(is_unseen) {
            (*input).to_owned()
        } else {
            expected.replace("\\n", "\n").replace("\\t", "\t")
        };
        assert!(find(Style::default(), &in_file), "{input:?}");
    }
    let request = log(|record| {
        record.extend([0x1a, 5, b'a', 0xff, 0xc3, b'(', 0xe2]);
        put_bytes(
            record,
            log_record::ATTRIBUTES,
            &attribute("k\x1b\n", &map(&[("\x1b\u{9b}", string("\x1b\r\u{202e}"))])),
        );
    });
    let text = rendered(Signal::Logs, Verbosity::Detailed, ESCAPED, &[&request]);
    assert!(text.contains("SeverityText: a\u{fffd}\u{fffd}(\u{fffd}\n"), "{text}");
    assert!(text.contains("     -> k\\x1b\\n: Map({\"\\u001b\\u009b\":\"\\u001b\\r\\u202e\"})\n"), "{text}");
}

/// Lists and maps are the JSON of Go's encoder; `Map()` is what it makes of numbers that JSON does not have.
#[test]
fn lists_and_maps_print_as_sorted_json() {
    let nested =
        map(&[("z", array(&[map(&[("b", int(1)), ("a", int(2))]), array(&[])])), ("Z", map(&[])), ("é", vec![])]);
    let rows = [
        (map(&[]), "Map({})"),
        (array(&[]), "Slice([])"),
        (nested, r#"Map({"Z":{},"z":[{"a":2,"b":1},[]],"é":null})"#),
        (map(&[("k", int(1)), ("j", int(0)), ("k", int(2))]), r#"Map({"j":0,"k":2})"#),
        (
            array(&[string("<a&b> \"q\" \\ \n\t\x08\x0c\x01\u{2028}")]),
            r#"Slice(["<a&b> \"q\" \\ \n\t\b\f\u0001\u2028"])"#,
        ),
        (array(&[double(1.5), double(1e21), double(1e-7), double(-0.0)]), "Slice([1.5,1e+21,1e-7,-0])"),
        (array(&[bytes(b"\x01\x02"), bytes(b"")]), r#"Slice(["AQI=",null])"#),
        (bytes(b"\x01\x02\x03\xff"), "Bytes(AQID/w==)"),
        (array(&[int(1), double(f64::NAN)]), "Slice()"),
        (map(&[("a", array(&[double(f64::INFINITY)]))]), "Map()"),
        (vec![], "Empty()"),
    ];
    for (value, expected) in rows {
        let request = log(|record| put_bytes(record, log_record::BODY, &value));
        let text = dump(Signal::Logs, Verbosity::Detailed, &request);
        assert!(text.contains(&format!("\nBody: {expected}\n")), "{expected}: {text}");
    }
}

/// Values nest 64 levels deep at most; a million levels, which the door refuses, neither overflow the stack nor hang.
#[test]
fn deep_values_are_bounded() {
    let nest = |levels| (1..levels).fold(int(7), |value, _| array(&[value]));
    let body = |value: &[u8]| dump(Signal::Logs, Verbosity::Normal, &log(|r| put_bytes(r, log_record::BODY, value)));
    let text = body(&nest(65));
    assert!(text.contains(&format!("{}7{}", "[".repeat(64), "]".repeat(64))), "{text}");
    assert!(body(&nest(66)).contains(&format!("{}null{}", "[".repeat(64), "]".repeat(64))));
    let deep = vec![0x2a; 1 << 20];
    std::thread::Builder::new().stack_size(256 << 10).spawn(move || body(&deep)).unwrap().join().unwrap();
    let maps = (1..3000).fold(int(7), |value, _| map(&[("k", value)]));
    std::thread::Builder::new().stack_size(512 << 10).spawn(move || body(&maps)).unwrap().join().unwrap();
}

/// Fields come in any order and more than once.
#[test]
fn protobufs_merge_rules_hold() {
    let named = |name: &str| message(|bytes| put_bytes(bytes, scope::NAME, name.as_bytes()));
    let version = message(|bytes| put_bytes(bytes, scope::VERSION, b"2"));
    let record = message(|record| {
        put_bytes(record, log_record::ATTRIBUTES, &attribute("k", &int(1)));
        put_bytes(record, log_record::BODY, &[string("first"), int(9)].concat());
        put_bytes(record, log_record::SEVERITY_TEXT, b"one");
        // An empty occurrence changes nothing; of two values in an attribute the last member counts.
        put_bytes(record, log_record::BODY, &[]);
        put_bytes(record, log_record::SEVERITY_TEXT, b"two");
        let mut twice = attribute("k", &string("old"));
        put_bytes(&mut twice, key_value::VALUE, &int(2));
        put_bytes(&mut twice, key_value::KEY, b"j");
        put_bytes(record, log_record::ATTRIBUTES, &twice);
        put_bytes(record, log_record::ATTRIBUTES, &attribute("k", &int(3)));
        record.extend([0xfa, 0x7f, 2, 1, 2]);
    });
    let scope_logs = message(|group| {
        put_bytes(group, scope_group::RECORDS, &record);
        put_bytes(group, scope_group::SCOPE, &named("old"));
        put_bytes(group, scope_group::SCHEMA_URL, b"url");
        put_bytes(group, scope_group::SCOPE, &version);
        put_bytes(group, scope_group::SCOPE, &named("new"));
    });
    let of = |key| message(|bytes| put_bytes(bytes, resource::ATTRIBUTES, &attribute(key, &int(1))));
    let request = message(|request| {
        let group = message(|group| {
            put_bytes(group, resource_group::SCOPES, &scope_logs);
            put_bytes(group, resource_group::RESOURCE, &of("a"));
            put_bytes(group, resource_group::RESOURCE, &of("b"));
        });
        put_bytes(request, REQUEST_RESOURCES, &group);
    });
    let expected = "ResourceLog #0 a=1 b=1\nScopeLog #0 new@2 [url]\n9 k=1 j=2 k=3\n\n";
    assert_eq!(dump(Signal::Logs, Verbosity::Normal, &request), expected);
    assert!(dump(Signal::Logs, Verbosity::Detailed, &request).contains("\nSeverityText: two\n"));
}

/// A repeated scalar may be packed, in pieces, or not packed at all; a side of the histogram may come in two messages.
#[test]
fn buckets_print_from_any_encoding() {
    let point = message(|point| {
        put_uint(point, exponential_point::SCALE, 0);
        let first = message(|side| {
            // 1, in zigzag.
            put_uint(side, buckets::OFFSET, 2);
            put_bytes(side, buckets::BUCKET_COUNTS, &[1, 0xac, 0x02]);
        });
        put_bytes(point, exponential_point::NEGATIVE, &first);
        put_bytes(point, exponential_point::NEGATIVE, &message(|side| put_uint(side, buckets::BUCKET_COUNTS, 3)));
    });
    let text = dump(Signal::Metrics, Verbosity::Normal, &metric_of(metric::EXPONENTIAL_HISTOGRAM, &point));
    assert_eq!(text.lines().nth(2), Some("{} count=0 le-7.999999999999998=3 le-4=300 le-2=1"));
}

#[test]
fn entity_refs_print_in_detail() {
    let entity = message(|entity| {
        put_bytes(entity, entity_ref::TYPE, b"host");
        put_bytes(entity, entity_ref::SCHEMA_URL, b"url");
        put_bytes(entity, entity_ref::ID_KEYS, b"host.id");
        put_bytes(entity, entity_ref::DESCRIPTION_KEYS, b"host.name");
    });
    let resource = message(|bytes| put_bytes(bytes, resource::ENTITY_REFS, &entity));
    let request = request_of(&message(|group| put_bytes(group, resource_group::RESOURCE, &resource)));
    let expected = "ResourceLog #0\nResource SchemaURL: \nResource entity refs:\n     -> Entity ref #0:\n          \
        -> Type: host\n          -> Schema URL: url\n          -> ID keys:\n               -> host.id\n          \
        -> Description keys:\n               -> host.name\n\n";
    assert_eq!(dump(Signal::Logs, Verbosity::Detailed, &request), expected);
}

#[test]
fn resources_are_numbered_across_parts() {
    let (one, two) = (logs([vec![]]), [logs([vec![], vec![]]), logs([vec![]])].concat());
    let expected = "Logs\t{\"resource logs\": 3, \"log records\": 4}\nResourceLog #0\nScopeLog #0\n \nResourceLog #1\n\
        ScopeLog #0\n \n \nResourceLog #2\nScopeLog #0\n \n\n";
    assert_eq!(rendered(Signal::Logs, Verbosity::Normal, Style::default(), &[&one, &two]), expected);
}

#[test]
fn summaries_name_what_they_count() {
    let gauge = metric_of(metric::GAUGE, &[]);
    let rows = [
        (Signal::Logs, logs([vec![]]), "Logs", r#""resource logs": 1, "log records": 1"#),
        (Signal::Traces, logs([vec![]]), "Traces", r#""resource spans": 1, "spans": 1"#),
        (Signal::Metrics, gauge, "Metrics", r#""resource metrics": 1, "metrics": 1, "data points": 1"#),
        (Signal::Metrics, vec![], "Metrics", r#""resource metrics": 0, "metrics": 0, "data points": 0"#),
    ];
    for (signal, request, message, fields) in rows {
        let (mut line, mut found) = (Vec::new(), Vec::new());
        render_summary(signal, &[&request], &mut line);
        render_summary_fields(signal, Counts::of(signal, &[&request]), &mut found);
        assert_eq!(String::from_utf8(line).unwrap(), format!("{message}\t{{{fields}}}\n"));
        assert_eq!(String::from_utf8(found).unwrap(), fields);
    }
}

/// A hundred times the size of the request never has to be held at once.
#[test]
fn chunks_add_up_to_the_dump() {
    let records = (0..500).map(|n| message(|r| put_bytes(r, log_record::BODY, &int(n))));
    let request = logs(records);
    for (verbosity, _) in VERBOSITIES {
        let (mut all, mut largest, mut items, mut out) = (Vec::new(), 0, 0, Vec::new());
        let parts: &[&[u8]] = &[&request];
        items +=
            render_chunks(Signal::Logs, verbosity, Style::default(), parts, 1000, &mut out, &mut |chunk, count| {
                largest = largest.max(chunk.len());
                items += count;
                all.append(chunk);
                true
            });
        all.append(&mut out);
        assert_eq!(all, dump(Signal::Logs, verbosity, &request).into_bytes());
        assert!(largest < 1100, "{largest}");
        assert_eq!(items, if verbosity == Verbosity::Basic { 0 } else { 500 });
    }
}

/// zap's sampler: equal messages of a second are limited, others are not.
#[test]
fn equal_messages_are_limited() {
    let start = Instant::now();
    let at = |millis| start + Duration::from_millis(millis);
    // (initial, thereafter), which of ten messages in the same second pass
    let rows: &[(u64, u64, &[usize])] = &[
        (2, 1, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (2, 0, &[0, 1]),
        (2, 3, &[0, 1, 4, 7]),
        (0, 4, &[3, 7]),
        (0, 0, &[]),
    ];
    for (initial, thereafter, expected) in rows {
        let mut sampler = Sampler::new(*initial, *thereafter, start);
        let passed: Vec<_> = (0..10).filter(|_| sampler.admits(Key::of(b"Logs"), 5, at(10))).collect();
        assert_eq!(passed, *expected, "{initial} {thereafter}");
        let skipped = 5 * (10 - expected.len() as u64);
        assert_eq!(sampler.skipped(at(900)), None);
        assert_eq!(sampler.skipped(at(1001)), (skipped > 0).then_some(skipped));
        assert_eq!(sampler.skipped(at(3000)), None);
    }
    let mut sampler = Sampler::new(1, 0, start);
    let mut admits = |message: &[u8], millis| sampler.admits(Key::of(message), 1, at(millis));
    // The second begins with the first message.
    assert!(admits(b"Logs", 500) && !admits(b"Logs", 1499) && admits(b"other", 1499) && admits(b"Logs", 1500));
}

proptest! {
    /// Unchecked bytes, random or a broken request: no panic, and nothing that a terminal acts on.
    #[test]
    fn any_bytes_print_safely(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0..400usize, at in 0..400usize) {
        let mut broken = everything(&bytes);
        broken.truncate(broken.len().saturating_sub(cut));
        if let Some(byte) = broken.get_mut(at) {
            *byte ^= bytes.first().copied().unwrap_or(1);
        }
        for request in [bytes.clone(), everything(&bytes), broken] {
            for signal in Signal::ALL {
                let ours = [(Verbosity::Line, "line"), (Verbosity::Json, "json")];
                for (verbosity, _) in VERBOSITIES.into_iter().chain(ours) {
                    let text = rendered(signal, verbosity, ESCAPED, &[&request]);
                    let acts = |c: char| c.is_control() && c != '\n' && c != '\t' || "\u{61c}\u{200e}\u{200f}\u{2028}\u{2029}".contains(c)
                        || ('\u{202a}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c);
                    prop_assert!(!text.contains(acts), "{text:?}");
                    prop_assert_eq!(&text, &rendered(signal, verbosity, ESCAPED, &[&request]));
                }
            }
        }
    }

    /// A value never begins a line of its own.
    #[test]
    fn values_forge_no_lines(body in ".*", key in ".*", name in ".*") {
        let request = log(|record| {
            put_bytes(record, log_record::BODY, &string(&body));
            put_bytes(record, log_record::SEVERITY_TEXT, name.as_bytes());
            put_bytes(record, log_record::ATTRIBUTES, &attribute(&key, &array(&[string(&name)])));
        });
        let text = rendered(Signal::Logs, Verbosity::Detailed, ESCAPED, &[&request]);
        prop_assert_eq!(text.split('\n').count(), 19);
    }
}

fn rendered(signal: Signal, verbosity: Verbosity, style: Style, parts: &[&[u8]]) -> String {
    let mut out = Vec::new();
    render_summary(signal, parts, &mut out);
    render_dump(signal, verbosity, style, parts, &mut out);
    String::from_utf8(out).expect("the text is UTF-8")
}

fn dump(signal: Signal, verbosity: Verbosity, request: &[u8]) -> String {
    let mut out = Vec::new();
    render_dump(signal, verbosity, Style::default(), &[request], &mut out);
    String::from_utf8(out).expect("the text is UTF-8")
}

fn message(fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    fill(&mut bytes);
    bytes
}

fn request_of(resource_group: &[u8]) -> Vec<u8> {
    message(|request| put_bytes(request, REQUEST_RESOURCES, resource_group))
}

fn logs(records: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let scope = message(|scope| records.into_iter().for_each(|r| put_bytes(scope, scope_group::RECORDS, &r)));
    request_of(&message(|group| put_bytes(group, resource_group::SCOPES, &scope)))
}

fn log(fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    logs([message(fill)])
}

fn metric_of(data: u32, point: &[u8]) -> Vec<u8> {
    let points = message(|bytes| put_bytes(bytes, metric_data::POINTS, point));
    logs([message(|bytes| put_bytes(bytes, data, &points))])
}

fn string(text: &str) -> Vec<u8> {
    message(|value| put_bytes(value, any_value::STRING, text.as_bytes()))
}

fn bytes(bytes: &[u8]) -> Vec<u8> {
    message(|value| put_bytes(value, any_value::BYTES, bytes))
}

fn int(n: u64) -> Vec<u8> {
    message(|value| put_uint(value, any_value::INT, n))
}

fn double(n: f64) -> Vec<u8> {
    message(|value| put_fixed64(value, any_value::DOUBLE, n.to_bits()))
}

fn array(items: &[Vec<u8>]) -> Vec<u8> {
    let values = message(|values| items.iter().for_each(|item| put_bytes(values, list::VALUES, item)));
    message(|value| put_bytes(value, any_value::ARRAY, &values))
}

fn map(items: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let pairs = items.iter().map(|(key, value)| attribute(key, value));
    let values = message(|values| pairs.for_each(|pair| put_bytes(values, list::VALUES, &pair)));
    message(|value| put_bytes(value, any_value::KVLIST, &values))
}

fn attribute(key: &str, value: &[u8]) -> Vec<u8> {
    message(|pair| {
        put_bytes(pair, key_value::KEY, key.as_bytes());
        put_bytes(pair, key_value::VALUE, value);
    })
}

/// A request whose record has `bytes` in every length-delimited field there may be.
fn everything(bytes: &[u8]) -> Vec<u8> {
    let record = message(|record| {
        for number in 1..=span::FLAGS {
            put_bytes(record, number, bytes);
            let points = message(|data| {
                put_bytes(data, metric_data::POINTS, &message(|point| (1..15).for_each(|n| put_bytes(point, n, bytes))))
            });
            put_bytes(record, number, &points);
            put_bytes(
                record,
                number,
                &attribute("k", &message(|value| (1..8).for_each(|n| put_bytes(value, n, bytes)))),
            );
        }
    });
    let scope = message(|scope| {
        put_bytes(scope, scope_group::SCOPE, bytes);
        put_bytes(scope, scope_group::RECORDS, &record);
        put_bytes(scope, scope_group::SCHEMA_URL, bytes);
    });
    request_of(&message(|group| {
        put_bytes(group, resource_group::RESOURCE, &attribute("\x1b", bytes));
        put_bytes(group, resource_group::SCOPES, &scope);
    }))
}
