//! The functions of OTTL: every converter on values of every kind it takes, with what the Go collector makes of them, and
//! every editor on one map.

use misaki::face::otlp::check::check;
use misaki::face::otlp::json::{to_json, to_wire};
use misaki::face::otlp::{Depth, Outcome, Sight, Signal, Verdict, Visitor, rewrite};
use misaki::face::ottl::{Arena, Call, Dialect, Fault, Scene, Value, compile, functions, parser};
use misaki::face::telemetry::Now;
use serde_json::Value as Json;

const LOG: Dialect = Dialect { context: "log", functions: functions::TRANSFORM };

/// What the rows below speak of.
const RECORD: &[&str] = &[
    r#"set(log.time_unix_nano, 1700000000123456789)"#,
    r#"set(log.trace_id, TraceID("0102030405060708090a0b0c0d0e0f10"))"#,
    r#"set(log.span_id, SpanID("0102030405060708"))"#,
    r#"set(log.attributes["m"], {"b": 1, "a": [1.5, true, nil, "<x>"], "y": 0x0102, "big": 1000000000000000000000.0, "small": 0.0000000015})"#,
    r#"set(log.attributes["by"], 0x01ff)"#,
    r#"set(log.attributes["l"], ["a", "b", 3])"#,
    r#"set(log.attributes["e"], nil)"#,
    r#"set(log.attributes["i"], 42)"#,
    r#"set(log.attributes["t"], true)"#,
    r#"set(log.attributes["sn"], "HTTPServer2Name_foo-bar baz")"#,
    r#"set(log.attributes["nums"], [3, 1, 2])"#,
    r#"set(log.attributes["strs"], ["b", "a", "C"])"#,
    r#"set(log.attributes["deep"], {"x": {"y": {"z": 1}}, "l": [{"k": "v"}, [1, 2]]})"#,
    r#"set(log.attributes["kvs"], [{"name": "a", "value": 1}, {"name": "b", "value": 2}])"#,
    r#"set(log.attributes["d"], {"a": 1, "b": "hello world", "c": {"x": "hello", "l": [1, {"q": 2}, [5]]}, "user": "bob", "n": 2.5})"#,
    r#"set(log.attributes["u"], "ÀÉÎ straße ΑΒΓ")"#,
    r#"set(log.attributes["js"], "{\"a\":1,\"b\":[1,2.5,\"x\",null,{\"c\":\"d\\u00e9\\n\"}],\"n\":null,\"t\":true,\"e\":1e3}")"#,
];

fn run(statement: &str, scene: &mut Scene<'_, 'static>) -> Result<(), String> {
    let parsed = parser::statement(statement).map_err(|mistake| mistake.message)?;
    let (call, _) = compile::statement(&parsed, &LOG).map_err(|mistake| mistake.message)?;
    // Values borrow from the program, which lives as long as the test.
    let call = Box::leak(Box::new(call));
    (call.function.body)(&call.arguments, scene).map(|_| ()).map_err(|Fault(text)| text.into_owned())
}

/// Runs statements on the record above, and says what the expression then is, as the debug exporter writes it.
fn evaluated(statements: &[&str], expression: &str) -> String {
    let arena = Box::leak(Box::new(Arena::with_limit(1 << 24)));
    let mut sight = Sight::default();
    let mut scene = Scene::new(arena, Now::read(), None, &mut sight);
    for statement in RECORD.iter().chain(statements) {
        run(statement, &mut scene).unwrap_or_else(|why| panic!("{statement}: {why}"));
    }
    match run(&format!("set(log.body, {expression})"), &mut scene) {
        Ok(()) => {}
        Err(_) => return "fault".to_owned(),
    }
    let body = parser::statement("set(log.body, log.body)").unwrap();
    let (call, _) = compile::statement(&body, &LOG).unwrap();
    let call = Box::leak(Box::new(call));
    let value = call.arguments.value(1, &mut scene).unwrap();
    let name = match value {
        Value::Nil => "Empty",
        Value::Bool(_) => "Bool",
        Value::Int(_) => "Int",
        Value::Double(_) => "Double",
        Value::String(_) => "Str",
        Value::Bytes(_) => "Bytes",
        Value::List(_) => "Slice",
        _ => "Map",
    };
    let mut text = Vec::new();
    value.put_as_string(&mut text);
    format!("{name}({})", String::from_utf8_lossy(&text))
}

#[test]
fn converters_answer_as_the_go_collectors_do() {
    for (expression, expected) in CONVERTERS {
        assert_eq!(evaluated(&[], expression), *expected, "{expression}");
    }
}

#[test]
fn editors_leave_what_the_go_collectors_do() {
    for (statement, expression, expected) in EDITORS {
        assert_eq!(evaluated(&[statement], expression), *expected, "{statement}");
    }
}

#[test]
fn every_function_has_a_row() {
    let rows = CONVERTERS.iter().map(|(text, _)| *text).chain(EDITORS.iter().map(|(text, ..)| *text));
    let rows: Vec<&str> = rows.collect();
    for function in functions::TRANSFORM.iter().copied().flatten() {
        // Those of one context, the metrics functions, are tried where that context is.
        if !function.contexts.is_empty() {
            continue;
        }
        let called = format!("{}(", function.name);
        let is_named = rows.iter().any(|row| row.contains(&called));
        assert!(is_named || ["Now", "UUID", "UUIDv7"].contains(&function.name), "{} has none", function.name);
    }
}

/// Runs one statement on every metric or data point in sight.
struct Edit {
    depth: Depth,
    call: &'static Call,
    arena: &'static Arena,
}

impl Edit {
    fn run(&self, depth: Depth, sight: &mut Sight<'static>) -> Result<Verdict, Fault> {
        if depth == self.depth {
            (self.call.function.body)(&self.call.arguments, &mut Scene::nowhere(self.arena, sight))?;
        }
        Ok(Verdict::Keep)
    }
}

impl Visitor<'static> for Edit {
    type Fault = Fault;

    fn depth(&self) -> Depth {
        self.depth
    }

    fn prunes(&self) -> bool {
        false
    }

    fn record(&mut self, sight: &mut Sight<'static>) -> Result<Verdict, Fault> {
        self.run(Depth::Records, sight)
    }

    fn child(&mut self, sight: &mut Sight<'static>) -> Result<Verdict, Fault> {
        self.run(Depth::Children, sight)
    }
}

/// The metrics that a statement makes of one, and how many points the walk says they have.
fn edited(context: &'static str, metric: &Json, statement: &str) -> Result<(Json, u32), String> {
    let dialect = Dialect { context, functions: functions::TRANSFORM };
    let parsed = parser::statement(statement).map_err(|mistake| mistake.message)?;
    let (call, _) = compile::statement(&parsed, &dialect).map_err(|mistake| mistake.message)?;
    let request = serde_json::json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}).to_string();
    let wire = to_wire(Signal::Metrics, request.as_bytes()).unwrap().leak();
    let depth = if context == "metric" { Depth::Records } else { Depth::Children };
    let mut edit =
        Edit { depth, call: Box::leak(Box::new(call)), arena: Box::leak(Box::new(Arena::with_limit(1 << 20))) };
    let items = check(Signal::Metrics, wire).unwrap();
    let outcome =
        rewrite(Signal::Metrics, wire, items, edit.arena.room(), &mut edit).map_err(|fault| fault.0.into_owned())?;
    let (bytes, items) = match outcome {
        Outcome::Changed { bytes, items } => (bytes, items),
        _ => (wire.to_vec(), items),
    };
    assert_eq!(check(Signal::Metrics, &bytes), Ok(items), "{statement}: the points are miscounted");
    let mut text = Vec::new();
    to_json(Signal::Metrics, &bytes, &mut text);
    let mut json: Json = serde_json::from_slice(&text).unwrap();
    Ok((canonical(json["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].take()), items))
}

/// Without what is 0 or empty, the points of a metric sorted: the Go collector has them in another order each time.
fn canonical(json: Json) -> Json {
    match json {
        Json::Object(map) => {
            let is_empty = |key: &str, value: &Json| match value {
                Json::String(text) => matches!(text.as_str(), "" | "0"),
                Json::Array(list) => list.is_empty(),
                Json::Object(map) => map.is_empty(),
                Json::Number(number) => matches!(key, "flags" | "scale" | "offset") && number.as_i64() == Some(0),
                _ => false,
            };
            let map = map.into_iter().map(|(key, value)| (key, canonical(value)));
            Json::Object(map.filter(|(key, value)| !is_empty(key, value)).collect())
        }
        Json::Array(list) => {
            let mut list: Vec<Json> = list.into_iter().map(canonical).collect();
            if list.iter().any(|item| item.get("timeUnixNano").is_some()) {
                list.sort_by_key(Json::to_string);
            }
            Json::Array(list)
        }
        // Go's logarithms may differ in the last digit.
        Json::Number(number) if number.is_f64() => format!("{:.12e}", number.as_f64().unwrap()).into(),
        other => other,
    }
}

/// `fixtures/ottl/metrics.json`: metrics, and what statements of the Go collector 0.161 make of them.
#[test]
fn metrics_become_what_the_go_collector_makes_of_them() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/ottl/metrics.json");
    let recorded: Json = serde_json::from_slice(&std::fs::read(root).unwrap()).unwrap();
    for row in recorded["rows"].as_array().unwrap() {
        let (context, statement) = (row["context"].as_str().unwrap(), row["statement"].as_str().unwrap());
        let metric = &recorded["metrics"][row["metric"].as_str().unwrap()];
        let context = if context == "metric" { "metric" } else { "datapoint" };
        // What fails leaves all as it was.
        let made = edited(context, metric, statement)
            .map_or_else(|_| canonical(serde_json::json!([metric])), |(made, _)| made);
        assert_eq!(made, canonical(row["result"].clone()), "{statement} on {metric}");
    }
}

/// Where the Go collector misplaces counts or loses points, and where it hangs or ends.
#[test]
fn metrics_lose_nothing_when_points_merge() {
    let point = |offset: i32, counts: &[u64]| {
        let total: u64 = counts.iter().sum();
        serde_json::json!({"count": total, "positive": {"offset": offset, "bucketCounts": counts}})
    };
    let metric = |points: &[Json]| serde_json::json!({"name": "m", "exponentialHistogram": {"dataPoints": points}});
    let positive = |points: &[Json], statement: &str| {
        let (made, _) = edited("metric", &metric(points), statement)?;
        Ok::<_, String>(made[0]["exponentialHistogram"]["dataPoints"][0]["positive"].clone())
    };
    let sum = "aggregate_on_attributes(\"sum\")";
    let merged = positive(&[point(2, &[5, 1]), point(0, &[1, 0, 2]), point(4, &[7])], sum).unwrap();
    assert_eq!(merged, serde_json::json!({"bucketCounts": ["1", "0", "7", "1", "7"]}), "offset 0");
    let far = positive(&[point(i32::MIN, &[1]), point(i32::MAX, &[1])], sum);
    assert_eq!(far.unwrap_err(), "the result is larger than what one function may make");
    let explicit = |bounds: &[f64], counts: &[u64]| serde_json::json!({"count": counts.iter().sum::<u64>(), "explicitBounds": bounds, "bucketCounts": counts});
    let metric = serde_json::json!({"name": "m", "histogram": {"dataPoints": [explicit(&[1.0], &[1, 2]), explicit(&[1.0], &[1, 2, 3])]}});
    let (made, items) = edited("metric", &metric, sum).unwrap();
    assert_eq!(
        (&made[0]["histogram"]["dataPoints"][0]["bucketCounts"], items),
        (&serde_json::json!(["2", "4", "3"]), 1)
    );
    let huge = serde_json::json!({"name": "m", "exponentialHistogram": {"dataPoints": [point(0, &[u64::MAX / 2])]}});
    let (made, _) =
        edited("metric", &huge, r#"convert_exponential_histogram_to_histogram("random", [1.0, 1.5, 1.7, 3])"#).unwrap();
    let counts = made[0]["histogram"]["dataPoints"][0]["bucketCounts"].as_array().unwrap();
    let total: u64 = counts.iter().map(|count| count.as_str().unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!(total, u64::MAX / 2);
    // Buckets that no bound divides, however many: chance costs no more there than arithmetic.
    let far = point(i32::MAX, &[u64::MAX / 20_000; 20_000]);
    let far = serde_json::json!({"name": "m", "exponentialHistogram": {"dataPoints": [far]}});
    let timed = |how: &str| {
        let statement = format!("convert_exponential_histogram_to_histogram(\"{how}\", [1.0, 1.5, 1.7, 3])");
        let started = std::time::Instant::now();
        let (made, _) = edited("metric", &far, &statement).unwrap();
        (started.elapsed(), made[0]["histogram"]["dataPoints"][0]["bucketCounts"].clone())
    };
    let ((upper, expected), (random, counts)) = (timed("upper"), timed("random"));
    assert_eq!(counts, expected);
    assert!(random < upper * 4 + std::time::Duration::from_millis(50), "{random:?}, {upper:?}");
    let summary = serde_json::json!({"name": "m", "summary": {"dataPoints": [{"count": 1}]}});
    let refused = edited("metric", &summary, r#"aggregate_on_attribute_value("sum", "a", ["b"], "c")"#);
    assert_eq!(refused.unwrap_err(), "aggregating Summary metrics is not supported");
    // The attributes of a point are written for each of its quantiles: a small request must not become a huge one.
    let quantiles: Vec<_> = (0..2000).map(|n| serde_json::json!({"quantile": n, "value": 1})).collect();
    let attribute = serde_json::json!({"key": "a", "value": {"stringValue": "x".repeat(20_000)}});
    let wide = serde_json::json!({"name": "m", "summary": {"dataPoints": [{"attributes": [attribute], "quantileValues": quantiles}]}});
    let refused = edited("metric", &wide, "convert_summary_quantile_val_to_gauge()");
    assert_eq!(refused.unwrap_err(), "the result is larger than what one function may make");
}

/// Literals that can't work are refused when the configuration loads, in the Go collector's words.
#[test]
fn metrics_functions_check_their_literals() {
    let rows = [
        (
            "metric",
            r#"aggregate_on_attributes("avg")"#,
            "invalid aggregation function: 'avg', valid options: sum, mean, min, max, median, count",
        ),
        (
            "metric",
            "extract_percentile_metric(100)",
            "percentile must be greater than 0 and less than 100, got 100.000000",
        ),
        (
            "metric",
            "extract_percentile_metric(metric.name)",
            "the argument percentile of extract_percentile_metric must be a number, written out",
        ),
        (
            "metric",
            r#"convert_exponential_histogram_to_histogram("x", [1.0])"#,
            "invalid conversion function: x, must be one of [upper, midpoint, random, uniform]",
        ),
        ("metric", r#"convert_exponential_histogram_to_histogram("upper", [])"#, "explicit bounds cannot be empty: []"),
        (
            "span",
            r#"set_semconv_span_name("1.36.0")"#,
            r#"unsupported semconv version "1.36.0": must be between 1.37.0 and 1.43.0"#,
        ),
        ("span", r#"set_semconv_span_name("1.37.0", "")"#, "original_span_name_attribute cannot be an empty string"),
        ("log", r#"set(log.body, ParseCLF("x", "nginx"))"#, r#"invalid format "nginx": must be "clf" or "combined""#),
        ("metric", "merge_histogram_buckets(1)", "the metric context has no function \"merge_histogram_buckets\""),
        ("datapoint", "merge_histogram_buckets(nil)", "target_value must not be nil"),
        (
            "datapoint",
            r#"merge_histogram_buckets(2, "x")"#,
            "unsupported method \"x\", expected \"remove_explicit_bound\" or \"limit_buckets\"",
        ),
        (
            "datapoint",
            r#"merge_histogram_buckets(2.5, "limit_buckets")"#,
            "target_value must be a positive integer when method is \"limit_buckets\", got 2.5",
        ),
    ];
    for (context, statement, expected) in rows {
        assert_eq!(edited(context, &serde_json::json!({"name": "m"}), statement).unwrap_err(), expected, "{statement}");
    }
}

/// What the Go collector 0.161 answers; `fault` where it fails.
const CONVERTERS: &[(&str, &str)] = &[
    (r#"Format("%08.3f|%-6t|%+d", [1000, "a", true])"#, "Str(%!f(int64=    1000)|%!t(string=a     )|%!d(bool=true))"),
    (
        r#"Format("%x|%X|%.1x|%.15x|%b|%x", [0.1, -1.5, 1.97, 3.0, 42.5, 0.0])"#,
        "Str(0x1.999999999999ap-04|-0X1.8P+00|0x1.0p+01|0x1.800000000000000p+01|5981343255101440p-47|0x0p+00)",
    ),
    (r#"Format("%+q|%#q|%q|%+q", ["é😀", "a\"b", 233, 128512])"#, r#"Str("\u00e9\U0001f600"|`a"b`|'é'|'\U0001f600')"#),
    (
        r#"Format("%#v|%#v|%+v|%#v|%#U", [log.attributes["by"], "a", 5, 2.5, 1000])"#,
        r#"Str([]byte{0x1, 0xff}|"a"|5|2.5|U+03E8 'Ϩ')"#,
    ),
    (
        r#"Format("%#g|%#.3e|%#.0f|%#x|%#O|%.0d|%.3O", [1.5, 1.0, 3.0, 1.5, 8, 0, 8])"#,
        "Str(1.50000|1.000e+00|3.|0x1.8000p+00|0o010||0o010)",
    ),
    // A precision of more than 16 bits once panicked.
    (
        r#"FNV(Format("%.70000f|%.70000e|%.70000x|%.70000d|%.70000U|%.70000g|%#.70000g|%70000s|%-70000d", [0.1, 0.1, 0.1, 1, 1, 0.1, 0.1, "a", 1]))"#,
        "Int(4370358383079122117)",
    ),
    (r#"Format("%.3T|%T|%020.3U", [1, nil, 65])"#, "Str(int|<nil>|              U+0041)"),
    (r#"Format("%08.3f", [log.attributes["by"]])"#, "Str([%!f(uint8=     001) %!f(uint8=     255)])"),
    (r#"IsDouble(log.attributes["i"])"#, "Bool(false)"),
    (r#"IsString(log.attributes["missing"])"#, "Bool(false)"),
    (r#"String(SpanID("0102030405060708"))"#, "Str([1,2,3,4,5,6,7,8])"),
    ("String(TraceID(0x0102030405060708090a0b0c0d0e0f10))", "Str([1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16])"),
    (r#"Bool("t")"#, "Bool(true)"),
    (r#"Bool(log.attributes["i"])"#, "Bool(true)"),
    ("Bool(nil)", "Empty()"),
    (r#"Double("2.5")"#, "Double(2.5)"),
    ("Double(3)", "Double(3)"),
    (r#"Double(log.attributes["t"])"#, "Double(1)"),
    ("Hex(1)", "Str(0000000000000001)"),
    (r#"Hex("ab")"#, "Str(6162)"),
    (r#"Int("12")"#, "Int(12)"),
    ("Int(3.9)", "Int(3)"),
    ("Int(nil)", "Empty()"),
    ("Log(10)", "Double(2.302585092994046)"),
    (r#"ParseInt("ff", 16)"#, "Int(255)"),
    (r#"ParseInt("0x1f", 0)"#, "Int(31)"),
    (r#"ParseInt("-0b11", 0)"#, "Int(-3)"),
    (
        r#"String(log.attributes["m"])"#,
        r#"Str({"a":[1.5,true,null,"\u003cx\u003e"],"b":1,"big":1e+21,"small":1.5e-09,"y":"AQI="})"#,
    ),
    (r#"String(log.attributes["by"])"#, "Str(01ff)"),
    ("String(log.time)", r#"Str("2023-11-14T22:13:20.123456789Z")"#),
    ("String(log.trace_id)", "Str([1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16])"),
    (r#"String(Duration("1s"))"#, "Str(1000000000)"),
    (r#"HasPrefix("abc", "ab")"#, "Bool(true)"),
    (r#"HasSuffix("abc", "ab")"#, "Bool(false)"),
    ("IsBool(true)", "Bool(true)"),
    ("IsInt(1)", "Bool(true)"),
    (r#"IsMap(log.attributes["m"])"#, "Bool(true)"),
    (r#"IsList(log.attributes["l"])"#, "Bool(true)"),
    (r#"IsEmpty("")"#, "Bool(true)"),
    (r#"IsEmpty(log.attributes["e"])"#, "Bool(true)"),
    (r#"IsEmpty(log.attributes["m"])"#, "Bool(false)"),
    (r#"IsInCIDR("10.1.2.3", ["10.0.0.0/8"])"#, "Bool(true)"),
    (r#"IsInCIDR("::1", ["fe80::/10"])"#, "Bool(false)"),
    (r#"IsMatch("abc", "^a.c$")"#, "Bool(true)"),
    (r#"IsMatch(42, "4.")"#, "Bool(true)"),
    (r#"IsMatch(log.attributes["missing"], ".*")"#, "Bool(false)"),
    (r#"IsValidLuhn("4539 1488 0343 6467")"#, "Bool(true)"),
    (r#"IsValidLuhn("17")"#, "Bool(false)"),
    (r#"Coalesce([nil, log.attributes["missing"], "x"])"#, "Str(x)"),
    (r#"ContainsValue(log.attributes["strs"], "a")"#, "Bool(true)"),
    (r#"Index("hello", "l")"#, "Int(2)"),
    (r#"Index(log.attributes["nums"], 2)"#, "Int(2)"),
    ("Index([1], 5)", "Int(-1)"),
    (r#"Keys(log.attributes["deep"])"#, r#"Slice(["x","l"])"#),
    (r#"SliceToMap(log.attributes["kvs"], ["name"], ["value"])"#, r#"Map({"a":1,"b":2})"#),
    (r#"SliceToMap(["a", "b"])"#, r#"Map({"0":"a","1":"b"})"#),
    ("Sort([3, 1.5, 2])", "Slice([1.5,2,3])"),
    (r#"Sort(["b", "a", "C"], "desc")"#, r#"Slice(["b","a","C"])"#),
    (r#"Sort([true, "a", 2])"#, r#"Slice([2,"a",true])"#),
    (
        r#"ToKeyValueString(log.attributes["deep"], ":", ";", true)"#,
        r#"Str(l:"[{\"k\":\"v\"},[1,2]]";x:"{\"y\":{\"z\":1}}")"#,
    ),
    (r#"Values(log.attributes["deep"])"#, r#"Slice([{"y":{"z":1}},[{"k":"v"},[1,2]]])"#),
    (r#"CommunityID("10.0.0.1", 80, "10.0.0.2", 443)"#, "Str(1:ePr3GrNVEw8lx384eUVD+XWGZh0=)"),
    (r#"CommunityID("10.0.0.2", 443, "10.0.0.1", 80)"#, "Str(1:ePr3GrNVEw8lx384eUVD+XWGZh0=)"),
    (r#"CommunityID("10.0.0.1", 80, "10.0.0.1", 79, "UDP")"#, "Str(1:xQD5HY22DlbcR3LrEHUx34UHjgY=)"),
    (r#"CommunityID("::1", 0, "10.0.0.1", 65535, "SCTP", 7)"#, "Str(1:UXAGA/vpcM0Kc2z4h0PP8AbDhaE=)"),
    (r#"CommunityID("::ffff:10.0.0.1", 80, "10.0.0.2", 443, "TCP", 0)"#, "Str(1:ePr3GrNVEw8lx384eUVD+XWGZh0=)"),
    (r#"CommunityID("fe80::1", 1, "2001:db8::2", 2, "ICMP6", 65535)"#, "Str(1:zgafP36GGmzYmwp3XZ2ANo9ZL+E=)"),
    (r#"CommunityID("10.0.0.1", 1, "10.0.0.2", 2, protocol="RSVP", seed=3)"#, "Str(1:+oQej3oG6tj67Nd0z03U3HXRdoU=)"),
    (r#"CommunityID("10.0.0.1", 65536, "10.0.0.2", 2)"#, "fault"),
    (r#"CommunityID("10.0.0.1", 1, "10.0.0.2", -2)"#, "fault"),
    (r#"CommunityID("10.0.0.01", 1, "10.0.0.2", 2)"#, "fault"),
    (r#"CommunityID("10.0.0.1", 1, "10.0.0.2", 2, "tcp")"#, "fault"),
    (r#"CommunityID("10.0.0.1", 1, "10.0.0.2", 2, "TCP", 65536)"#, "fault"),
    (r#"CommunityID("fe80::1%eth0", 1, "10.0.0.2", 2)"#, "fault"),
    (r#"CommunityID("10.0.0.1", log.attributes["i"], log.attributes["sn"], 2)"#, "fault"),
    (r#"FNV("x")"#, "Int(-5808529385363204345)"),
    (r#"MD5("x")"#, "Str(9dd4e461268c8034f5c8564e155c67a6)"),
    (r#"Murmur3Hash("hello")"#, "Str(47fa8b24)"),
    (r#"XXH3("")"#, "Str(2d06800538d394c2)"),
    (r#"XXH128("")"#, "Str(99aa06d3014798d86001c324468d497f)"),
    (r#"XXH3("&-4;B")"#, "Str(2eb0f50513e96ac0)"),
    (r#"XXH128("&-4;B")"#, "Str(2dac0908caf64df768a25a16e600616a)"),
    (r#"Murmur3Hash128("hello")"#, "Str(029bbd41b3a7d8cb191dae486a901e5b)"),
    (r#"SHA1("x")"#, "Str(11f6ad8ec52a2984abaafd7c3b516503785c2072)"),
    (r#"SHA256("x")"#, "Str(2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881)"),
    (
        r#"SHA512("x")"#,
        "Str(a4abd4448c49562d828115d13a1fccea927f52b4d5459297f8b43e42da89238bc13626e43dcb38ddb082488927ec904fb42057443983e88585179d50551afe62)",
    ),
    (r#"ExtractPatterns("a=1", "(?P<k>\\w)=(?P<v>\\d)")"#, r#"Map({"k":"a","v":"1"})"#),
    (r#"ExtractPatterns("zzz", "(?P<k>\\d)")"#, "Map({})"),
    (r#"ParseCSV("1,\"a \"\"q\"\" b\",3", "a,b,c")"#, r#"Map({"a":"1","b":"a \"q\" b","c":"3"})"#),
    (r#"ParseCSV("a|b", "x y", delimiter="|", header_delimiter=" ")"#, r#"Map({"x":"a","y":"b"})"#),
    (r#"ParseCSV("a\"b,c", "x,y", mode="lazyQuotes")"#, r#"Map({"x":"a\"b","y":"c"})"#),
    (r#"ParseCSV("\"a,c", "x,y", mode="ignoreQuotes")"#, r#"Map({"x":"\"a","y":"c"})"#),
    (
        r#"ParseJSON(log.attributes["js"])"#,
        r#"Map({"a":1,"b":[1,2.5,"x",null,{"c":"dé\n"}],"e":1000,"n":null,"t":true})"#,
    ),
    (
        r#"ParseJSON("{\"a\":\"\\ud83d\",\"b\":\"x\\ude80\\ud83d\\ude80y\"}")"#,
        "Map({\"a\":\"\u{fffd}\",\"b\":\"x\u{fffd}\u{1f680}y\"})",
    ),
    (r#"ParseJSON("[1, \"a\"]")"#, r#"Slice([1,"a"])"#),
    (
        r#"ParseCEF("CEF:0|Sec\\|urity|th\\\\reat|1.0|100|worm \\= stopped|10|src=10.0.0.1 dst=2.1.2.2 msg=a b\\=c\\nd  spt=1232 _k=\\x")"#,
        r#"Map({"cef.device_event_class_id":"100","cef.device_product":"th\\reat","cef.device_vendor":"Sec|urity","cef.device_version":"1.0","cef.extensions":{"_k":"\\x","dst":"2.1.2.2","msg":"a b=c\nd","spt":"1232","src":"10.0.0.1"},"cef.name":"worm \\= stopped","cef.severity":"10","cef.version":"0"})"#,
    ),
    (
        r#"ParseCEF("<13>Jan host CEF:1|a|b|c|d|e|f")"#,
        r#"Map({"cef.device_event_class_id":"d","cef.device_product":"b","cef.device_vendor":"a","cef.device_version":"c","cef.extensions":{},"cef.name":"e","cef.severity":"f","cef.version":"1"})"#,
    ),
    (
        r#"ParseCEF("CEF:0|a|b|c|d|e|f|")"#,
        r#"Map({"cef.device_event_class_id":"d","cef.device_product":"b","cef.device_vendor":"a","cef.device_version":"c","cef.extensions":{},"cef.name":"e","cef.severity":"f","cef.version":"0"})"#,
    ),
    (r#"ParseCEF("CEF:0|a|b|c|d|e")"#, "fault"),
    (r#"ParseCEF("CEF:|a|b|c|d|e|f|x=1")"#, "fault"),
    (r#"ParseCEF("no")"#, "fault"),
    (r#"ParseCEF("")"#, "fault"),
    (
        r#"ParseCEF("CEF:0|a|b|c|d|e|f|lost k=1 k=2 a.b=3 =4 c=")"#,
        r#"Map({"cef.device_event_class_id":"d","cef.device_product":"b","cef.device_vendor":"a","cef.device_version":"c","cef.extensions":{"c":"","k":"2 a.b=3 =4"},"cef.name":"e","cef.severity":"f","cef.version":"0"})"#,
    ),
    (
        r#"ParseCEF("CEF:0|a|b|c|d|e|f\\|g|h=\\\\")"#,
        r#"Map({"cef.device_event_class_id":"d","cef.device_product":"b","cef.device_vendor":"a","cef.device_version":"c","cef.extensions":{"h":"\\"},"cef.name":"e","cef.severity":"f|g","cef.version":"0"})"#,
    ),
    (
        r#"ParseCLF("127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] \"GET /apache_pb.gif HTTP/1.0\" 200 2326")"#,
        r#"Map({"clf.auth_user":"frank","clf.bytes":2326,"clf.method":"GET","clf.protocol":"HTTP/1.0","clf.remote_host":"127.0.0.1","clf.request":"GET /apache_pb.gif HTTP/1.0","clf.request_uri":"/apache_pb.gif","clf.rfc931":"-","clf.status":200,"clf.timestamp":"10/Oct/2000:13:55:36 -0700"})"#,
    ),
    (
        r#"ParseCLF(" h i u [d] \"a\\\"b \\x41\\x4g\\t \\q\" -1 - ")"#,
        r#"Map({"clf.auth_user":"u","clf.method":"a\"b","clf.protocol":"\\q","clf.remote_host":"h","clf.request":"a\"b A\\x4g\t \\q","clf.request_uri":"A\\x4g\t","clf.rfc931":"i","clf.status":-1,"clf.timestamp":"d"})"#,
    ),
    (r#"ParseCLF("h i u [d] \"x\" 2x0 1")"#, "fault"),
    (r#"ParseCLF("h i u [d] \"x\" 200 1k")"#, "fault"),
    (r#"ParseCLF("h  u [d] \"x\" 200 1")"#, "fault"),
    (r#"ParseCLF("h i u [d] \"x\" 200 1 \"r\" \"a\"")"#, "fault"),
    (r#"ParseCLF("")"#, "fault"),
    (
        r#"ParseCLF("127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] \"GET / a b\" 200 2326 \"http://www.example.com/start.html\" \"Mozilla/4.08 \\\"x\\\" \\x22\"", "combined")"#,
        r#"Map({"clf.auth_user":"frank","clf.bytes":2326,"clf.method":"GET","clf.protocol":"a b","clf.referer":"http://www.example.com/start.html","clf.remote_host":"127.0.0.1","clf.request":"GET / a b","clf.request_uri":"/","clf.rfc931":"-","clf.status":200,"clf.timestamp":"10/Oct/2000:13:55:36 -0700","clf.user_agent":"Mozilla/4.08 \"x\" \""})"#,
    ),
    (r#"ParseCLF("h i u [d] \"x\" 200 1", "combined")"#, "fault"),
    (
        r##"ParseELF("#Version: 1.0\n#Date: 12-Jan-1996 00:00:00\n#Fields: time cs-method cs-uri\n00:34:23 GET /foo/bar.html\n12:21:16 GET \"a \"\"b\"\" c\"\r\n#Remark\n#remark:  x: y \n12:45:52 GET\n1 2 3 4\n")"##,
        r#"Map({"elf.date":"12-Jan-1996 00:00:00","elf.entries":[{"cs-method":"GET","cs-uri":"/foo/bar.html","time":"00:34:23"},{"cs-method":"GET","cs-uri":"a \"b\" c","time":"12:21:16"},{"cs-method":"GET","cs-uri":"-","time":"12:45:52"},{"cs-method":"2","cs-uri":"3","time":"1"}],"elf.fields":["time","cs-method","cs-uri"],"elf.remark":"x: y","elf.version":"1.0"})"#,
    ),
    (r##"ParseELF("#Fields: a\n1")"##, "fault"),
    (r##"ParseELF("#Version: 1\n1")"##, "fault"),
    (r##"ParseELF("#Version: 1\n#Fields a")"##, "fault"),
    (r##"ParseELF("#Version: 1\n#Fields: a b\n\"x\" \"y")"##, "fault"),
    (
        r##"ParseELF("#Version: 1\n#Fields: a b\n\"x\"y")"##,
        r#"Map({"elf.entries":[{"a":"x","b":"y"}],"elf.fields":["a","b"],"elf.version":"1"})"#,
    ),
    (r#"ParseELF("x")"#, "fault"),
    (r#"ParseELF("")"#, "fault"),
    (
        r##"ParseELF("#VERSION:2\r#SoftWare:s\r#Start-Date: 1\r#End-Date: 2\r")"##,
        r#"Map({"elf.end_date":"2","elf.entries":[],"elf.fields":[],"elf.software":"s","elf.start_date":"1","elf.version":"2"})"#,
    ),
    (
        r#"ParseLEEF("LEEF:1.0|Microsoft|MSExchange|4.0 SP1|15345|src=192.0.2.0\tdst=172.50.123.1\tsev=5=6\t=x\tnone\tsev=7")"#,
        r#"Map({"leef.attributes":{"dst":"172.50.123.1","sev":"7","src":"192.0.2.0"},"leef.event.id":"15345","leef.product.name":"MSExchange","leef.product.version":"4.0 SP1","leef.vendor":"Microsoft","leef.version":"1.0"})"#,
    ),
    (
        r#"ParseLEEF("<1>x LEEF:2.0|Lancope|StealthWatch|1.0|41|^|src=1^dst=2")"#,
        r#"Map({"leef.attributes":{"dst":"2","src":"1"},"leef.event.id":"41","leef.product.name":"StealthWatch","leef.product.version":"1.0","leef.vendor":"Lancope","leef.version":"2.0"})"#,
    ),
    (
        r#"ParseLEEF("LEEF:2.0|a|b|c|d|0x5E|x=1^y=2|3")"#,
        r#"Map({"leef.attributes":{"x":"1","y":"2|3"},"leef.event.id":"d","leef.product.name":"b","leef.product.version":"c","leef.vendor":"a","leef.version":"2.0"})"#,
    ),
    (
        r#"ParseLEEF("LEEF:2.0|a|b|c|d|x=1\ty=2|3")"#,
        r#"Map({"leef.attributes":{"x":"1","y":"2|3"},"leef.event.id":"d","leef.product.name":"b","leef.product.version":"c","leef.vendor":"a","leef.version":"2.0"})"#,
    ),
    (
        r#"ParseLEEF("LEEF:2.0|a|b|c|d")"#,
        r#"Map({"leef.attributes":{},"leef.event.id":"d","leef.product.name":"b","leef.product.version":"c","leef.vendor":"a","leef.version":"2.0"})"#,
    ),
    (
        r#"ParseLEEF("LEEF:2.0|a|b|c|d||x=1\ty=2")"#,
        r#"Map({"leef.attributes":{"x":"1","y":"2"},"leef.event.id":"d","leef.product.name":"b","leef.product.version":"c","leef.vendor":"a","leef.version":"2.0"})"#,
    ),
    (r#"ParseLEEF("LEEF:2.0|a|b|c|d|0x|x=1")"#, "fault"),
    (r#"ParseLEEF("LEEF:2.0|a|b|c|d|0x5e5e|x=1")"#, "fault"),
    (r#"ParseLEEF("LEEF:2.0|a|b|c|d|ab|x=1")"#, "fault"),
    (r#"ParseLEEF("LEEF:3.0|a")"#, "fault"),
    (r#"ParseLEEF("LEEF:1.0")"#, "fault"),
    (r#"ParseLEEF("LEEF:1.0|a|b|c")"#, "fault"),
    (r#"ParseLEEF("x")"#, "fault"),
    (r#"ParseJSON("{\"a\":1,\"b\":{\"x\":[],\"x\":{}},\"a\":\"last\"}")"#, r#"Map({"a":"last","b":{"x":{}}})"#),
    (r#"ParseKeyValue("a=1 b=\"x y\" c='q=1'")"#, r#"Map({"a":"1","b":"x y","c":"q=1"})"#),
    (r#"ParseKeyValue("k:v;l:w", ":", ";")"#, r#"Map({"k":"v","l":"w"})"#),
    (r#"ParseSeverity(404, {"error": [{"range": "4xx"}]})"#, "Str(error)"),
    (r#"ParseSeverity("x", {"info": [{"equals": ["x"]}]})"#, "Str(info)"),
    (
        r#"URL("https://user:pw@example.com:8080/a/b.txt?x=1#fr%41g")"#,
        r#"Map({"url.domain":"example.com","url.extension":"txt","url.fragment":"frAg","url.original":"https://user:pw@example.com:8080/a/b.txt?x=1#fr%41g","url.password":"pw","url.path":"/a/b.txt","url.port":8080,"url.query":"x=1","url.scheme":"https","url.user_info":"user:pw","url.username":"user"})"#,
    ),
    (r#"URL("/a b/c")"#, r#"Map({"url.domain":"","url.original":"/a%20b/c","url.path":"/a b/c","url.scheme":""})"#),
    (r#"Base64Encode("a?>b", "base64-url")"#, "Str(YT8-Yg==)"),
    (r#"Base64Encode("a")"#, "Str(YQ==)"),
    (r#"Concat(["a", nil, 1, 2.5, true], "-")"#, "Str(a-<nil>-1-2.5-true)"),
    (r#"Concat(log.attributes["l"], "|")"#, "Str(a|b|3)"),
    (r#"ConvertCase("helloWorld", "snake")"#, "Str(hello_world)"),
    (r#"Decode("aGVsbG8", "base64-raw")"#, "Str(hello)"),
    (r#"Decode("YT8-Yg==", "base64-url")"#, "Str(a?>b)"),
    (r#"Decode(log.attributes["sn"], "utf-16le")"#, "Str(呈偔敓癲牥串浡彥潦ⵯ慢⁲慢�)"),
    (r#"Format("%s-%d-%05.1f", ["a", 3, 2.5])"#, "Str(a-3-002.5)"),
    (r#"Format("%x %q %8.3f|%-4d|%+d %v", [255, "a\"b", 2.5, 3, 4, true])"#, r#"Str(ff "a\"b"    2.500|3   |+4 true)"#),
    (r#"Format("%d %s", ["a"])"#, "Str(%!d(string=a) %!s(MISSING))"),
    (r#"Format("%d", [1, 2])"#, "Str(1%!(EXTRA int64=2))"),
    (
        r#"Format("%v %v %v", [log.time, Duration("90s"), log.trace_id])"#,
        "Str(2023-11-14 22:13:20.123456789 +0000 UTC 1m30s 0102030405060708090a0b0c0d0e0f10)",
    ),
    (
        r#"Format("%6.2f|%.3g|%e|%g|%c|%U|%#x|%t", [1.5, 1234.5678, 1.5, 100000000.0, 65, 65, 10, false])"#,
        "Str(  1.50|1.23e+03|1.500000e+00|1e+08|A|U+0041|0xa|false)",
    ),
    (r#"Len("größe")"#, "Int(7)"),
    ("Len([1, 2])", "Int(2)"),
    (r#"Split("a,b,", ",")"#, r#"Slice(["a","b",""])"#),
    (r#"Split("aé", "")"#, r#"Slice(["a","é"])"#),
    (r#"Substring("hello", 1, 3)"#, "Str(ell)"),
    (r#"Substring("größe", 0, 3, true)"#, "Str(gr)"),
    (r#"ToCamelCase("hello_world 2x")"#, "Str(HelloWorld2X)"),
    (r#"ToLowerCase("ÀB")"#, "Str(àb)"),
    (r#"ToSnakeCase("HTTPServer2Name_foo-bar")"#, "Str(http_server_2_name_foo_bar)"),
    (r#"ToUpperCase("straße")"#, "Str(STRAßE)"),
    (r#"Trim("  x ")"#, "Str(x)"),
    (r#"Trim("xxaxx", "x")"#, "Str(a)"),
    (r#"TrimPrefix("abc", "a")"#, "Str(bc)"),
    (r#"TrimSuffix("abc", "c")"#, "Str(ab)"),
    ("Day(log.time)", "Int(14)"),
    ("Hour(log.time)", "Int(22)"),
    ("Minute(log.time)", "Int(13)"),
    ("Month(log.time)", "Int(11)"),
    ("Nanosecond(log.time)", "Int(123456789)"),
    ("Second(log.time)", "Int(20)"),
    ("Weekday(log.time)", "Int(2)"),
    ("Year(log.time)", "Int(2023)"),
    ("UnixMicro(log.time)", "Int(1700000000123456)"),
    ("UnixMilli(log.time)", "Int(1700000000123)"),
    ("UnixNano(log.time)", "Int(1700000000123456789)"),
    ("UnixSeconds(log.time)", "Int(1700000000)"),
    (r#"Hours(Duration("90m"))"#, "Double(1.5)"),
    (r#"Minutes(Duration("90s"))"#, "Double(1.5)"),
    (r#"Seconds(Duration("-1.5s"))"#, "Double(-1.5)"),
    (r#"Microseconds(Duration("2ms"))"#, "Int(2000)"),
    (r#"Milliseconds(Duration("2s"))"#, "Int(2000)"),
    (r#"Nanoseconds(Duration("1us"))"#, "Int(1000)"),
    ("UnixNano(Unix(5, -7))", "Int(4999999993)"),
    (r#"UnixNano(TruncateTime(log.time, Duration("7m")))"#, "Int(1699999920000000000)"),
    (r#"FormatTime(log.time, "%F %T.%L %z %Z %j %a %b %p")"#, "Str(2023-11-14 22:13:20.123 Z UTC +00:00 Tue Nov PM)"),
    (
        r#"FormatTime(Time("2023-05-26 12:34:56", "%Y-%m-%d %H:%M:%S", "America/New_York"), "%F %T.%s %j")"#,
        "Str(2023-05-26 12:34:56 -04:00)",
    ),
    (
        r#"FormatTime(Time("2023-05-26T12:34:56Z", "%Y-%m-%dT%H:%M:%SZ", "America/New_York"), "%F %T.%s %j")"#,
        "Str(2023-05-26 12:34:56 -04:00)",
    ),
    (
        r#"FormatTime(Time("2023-5-6", "%Y-%m-%d", "America/New_York"), "%F %T.%s %j")"#,
        "Str(2023-05-06 00:00:00 -04:00)",
    ),
    (
        r#"FormatTime(Time("26/05/23", "%d/%m/%y", "America/New_York"), "%F %T.%s %j")"#,
        "Str(2023-05-26 00:00:00 -04:00)",
    ),
    (
        r#"FormatTime(Time("May 26 2023", "%b %d %Y", "America/New_York"), "%F %T.%s %j")"#,
        "Str(2023-05-26 00:00:00 -04:00)",
    ),
    (
        r#"FormatTime(Time("may 26 2023", "%b %d %Y", "America/New_York"), "%F %T.%s %j")"#,
        "Str(2023-05-26 00:00:00 -04:00)",
    ),
    (
        r#"FormatTime(Time("26 May 2023 1:02:03 PM", "%d %B %Y %I:%M:%S %p", "America/New_York"), "%F %T.%s %j")"#,
        "Str(2023-05-26 13:02:03 -04:00)",
    ),
    (
        r#"FormatTime(Time("26 May 2023 12:02:03 am", "%d %B %Y %I:%M:%S %P", "America/New_York"), "%F %T.%s %j")"#,
        "Str(2023-05-26 00:02:03 -04:00)",
    ),
    (
        r#"FormatTime(Time("Fri May 26 01:02:03 2023", "%c", "America/New_York"), "%F %T.%s %j")"#,
        "Str(2023-05-26 01:02:03 -04:00)",
    ),
    (
        r#"FormatTime(Time("Friday, 26 May 2023", "%A, %d %B %Y", "America/New_York"), "%F %T.%s %j")"#,
        "Str(2023-05-26 00:00:00 -04:00)",
    ),
    (
        r#"FormatTime(Time("2023-05-26 12:34:56.123456789", "%F %T.%s", "America/New_York"), "%F %T.%s %j")"#,
        "Str(2023-05-26 12:34:56.123456789 -04:00)",
    ),
    (
        r#"FormatTime(Time("2023-05-26 12:34:56,123", "%F %T,%L", "America/New_York"), "%F %T.%s %j")"#,
        "Str(2023-05-26 12:34:56.123 -04:00)",
    ),
    (
        r#"FormatTime(Time("2023-05-26 12:34:56", "%F %T.%L", "America/New_York"), "%F %T.%s %j")"#,
        "Str(2023-05-26 12:34:56 -04:00)",
    ),
    (
        r#"FormatTime(Time("2023-05-26 12:34:56.5", "%F %T", "America/New_York"), "%F %T.%s %j")"#,
        "Str(2023-05-26 12:34:56.5 -04:00)",
    ),
    (
        r#"FormatTime(Time("2023-05-26 12:34:56 +0200", "%F %T %z", "America/New_York"), "%F %T.%s %j")"#,
        "Str(2023-05-26 12:34:56 +02:00)",
    ),
    (
        r#"FormatTime(Time("2023-05-26 12:34:56 -02", "%F %T %z", "America/New_York"), "%F %T.%s %j")"#,
        "Str(2023-05-26 12:34:56 -02:00)",
    ),
    (
        r#"FormatTime(Time("2023-05-26 12:34:56 Z", "%F %T %z", "America/New_York"), "%F %T.%s %j")"#,
        "Str(2023-05-26 12:34:56 +00:00)",
    ),
    (
        r#"FormatTime(Time("2023-05-26 12:34:56 EST", "%F %T %Z", "America/New_York"), "%F %T.%s %j")"#,
        "Str(2023-05-26 13:34:56 -04:00)",
    ),
    (
        r#"FormatTime(Time("2023-05-26 12:34:56 UTC", "%F %T %Z", "America/New_York"), "%F %T.%s %j")"#,
        "Str(2023-05-26 12:34:56 +00:00)",
    ),
    (r#"FormatTime(Time("2023-05-26 12:34:56 PST", "%F %T %Z", "America/New_York"), "%F %T.%s %j")"#, "fault"),
    (r#"FormatTime(Time("2023-05-26 12:34:56 CEST", "%F %T %Z", "America/New_York"), "%F %T.%s %j")"#, "fault"),
    (
        r#"FormatTime(Time("2023-05-26 12:34:56 GMT", "%F %T %Z", "America/New_York"), "%F %T.%s %j")"#,
        "Str(2023-05-26 12:34:56 +00:00)",
    ),
    (
        r#"FormatTime(Time("2023-05-26 12:34:56 CET", "%F %T %Z", "America/New_York"), "%F %T.%s %j")"#,
        "Str(2023-05-26 13:34:56 +02:00)",
    ),
    (r#"FormatTime(Time("2023-13-26", "%F", "America/New_York"), "%F %T.%s %j")"#, "fault"),
    (r#"FormatTime(Time("2023-02-30", "%F", "America/New_York"), "%F %T.%s %j")"#, "fault"),
    (r#"FormatTime(Time("x", "%F", "America/New_York"), "%F %T.%s %j")"#, "fault"),
    (r#"FormatTime(Time("2023-05-26x", "%F", "America/New_York"), "%F %T.%s %j")"#, "fault"),
    (r#"FormatTime(Time("  2023-05-26", "%F", "America/New_York"), "%F %T.%s %j")"#, "Str(2023-05-26 00:00:00 -04:00)"),
    (r#"FormatTime(Time("2023- 5-26", "%F", "America/New_York"), "%F %T.%s %j")"#, "Str(2023-05-26 00:00:00 -04:00)"),
    (r#"FormatTime(Time("05/26/2023", "%D", "America/New_York"), "%F %T.%s %j")"#, "Str(2023-05-26 00:00:00 -04:00)"),
    (r#"FormatTime(Time("05/26/23", "%D", "America/New_York"), "%F %T.%s %j")"#, "Str(2023-05-26 00:00:00 -04:00)"),
    (r#"FormatTime(Time("12:34", "%R", "America/New_York"), "%F %T.%s %j")"#, "Str(2026-01-01 12:34:00 -05:00)"),
    (r#"FormatTime(Time("01:02:03 pm", "%r", "America/New_York"), "%F %T.%s %j")"#, "Str(2026-01-01 13:02:03 -05:00)"),
    (r#"FormatTime(Time("2023-05-26 24:00", "%F %R", "America/New_York"), "%F %T.%s %j")"#, "fault"),
    (
        r#"FormatTime(Time("2023-05-26  12:34", "%F %R", "America/New_York"), "%F %T.%s %j")"#,
        "Str(2023-05-26 12:34:00 -04:00)",
    ),
    (
        r#"FormatTime(Time("+05:30 2023-05-26", "%j %F", "America/New_York"), "%F %T.%s %j")"#,
        "Str(2023-05-26 00:00:00 +05:30)",
    ),
    (
        r#"FormatTime(Time("+05 2023-05-26", "%i %F", "America/New_York"), "%F %T.%s %j")"#,
        "Str(2023-05-26 00:00:00 +05:00)",
    ),
    (
        r#"FormatTime(Time("-053015 2023-05-26", "%w %F", "America/New_York"), "%F %T.%s %j")"#,
        "Str(2023-05-26 00:00:00 -05:30)",
    ),
    (
        r#"FormatTime(Time("+05:30:15 2023-05-26", "%k %F", "America/New_York"), "%F %T.%s %j")"#,
        "Str(2023-05-26 00:00:00 +05:30)",
    ),
    (r#"FormatTime(Time("2023", "%Y", "America/New_York"), "%F %T.%s %j")"#, "Str(2023-01-01 00:00:00 -05:00)"),
    (r#"FormatTime(Time("99", "%y", "America/New_York"), "%F %T.%s %j")"#, "Str(1999-01-01 00:00:00 -05:00)"),
    (r#"FormatTime(Time("68", "%y", "America/New_York"), "%F %T.%s %j")"#, "Str(2068-01-01 00:00:00 -05:00)"),
    (r#"FormatTime(Time("69", "%y", "America/New_York"), "%F %T.%s %j")"#, "Str(1969-01-01 00:00:00 -05:00)"),
    (r#"FormatTime(Time("5", "%q", "America/New_York"), "%F %T.%s %j")"#, "Str(2026-05-01 00:00:00 -04:00)"),
    (r#"FormatTime(Time("2023-05-26 12:34:60", "%F %T", "America/New_York"), "%F %T.%s %j")"#, "fault"),
    (r#"FormatTime(Time("20230526", "%Y%m%d", "America/New_York"), "%F %T.%s %j")"#, "Str(2023-05-26 00:00:00 -04:00)"),
    (r#"FormatTime(Time("100%", "%m%%", "America/New_York"), "%F %T.%s %j")"#, "fault"),
    (
        "FormatTime(Time(\"2023-05-26\t12\", \"%F%t%H\", \"America/New_York\"), \"%F %T.%s %j\")",
        "Str(2023-05-26 12:00:00 -04:00)",
    ),
    (r#"FormatTime(Time("2023-05-26 12:34:56.", "%F %T.%L", "America/New_York"), "%F %T.%s %j")"#, "fault"),
    (r#"FormatTime(Time("Feb 29 2023", "%b %d %Y", "America/New_York"), "%F %T.%s %j")"#, "fault"),
    (r#"FormatTime(Time("Feb 30", "%b %d", "America/New_York"), "%F %T.%s %j")"#, "fault"),
    (r#"FormatTime(Time("00", "%d", "America/New_York"), "%F %T.%s %j")"#, "fault"),
    (r#"FormatTime(Time("2023-00-01", "%F", "America/New_York"), "%F %T.%s %j")"#, "fault"),
];

/// A statement on the record, what is looked at then, and what the Go collector 0.161 shows.
const EDITORS: &[(&str, &str, &str)] = &[
    (
        r#"append(log.attributes["d"]["b"], "z")"#,
        r#"log.attributes["d"]"#,
        r#"Map({"a":1,"b":["hello world","z"],"c":{"l":[1,{"q":2},[5]],"x":"hello"},"n":2.5,"user":"bob"})"#,
    ),
    (
        r#"append(log.attributes["d"]["new"], values=["p", 1])"#,
        r#"log.attributes["d"]"#,
        r#"Map({"a":1,"b":"hello world","c":{"l":[1,{"q":2},[5]],"x":"hello"},"n":2.5,"new":["p",1],"user":"bob"})"#,
    ),
    (
        r#"append(log.attributes["l"], "z", [1.5, true])"#,
        r#"log.attributes["l"]"#,
        r#"Slice(["a","b",3,"z",1.5,true])"#,
    ),
    (
        r#"clear(log.attributes["d"]["b"])"#,
        r#"log.attributes["d"]"#,
        r#"Map({"a":1,"b":"","c":{"l":[1,{"q":2},[5]],"x":"hello"},"n":2.5,"user":"bob"})"#,
    ),
    (r#"clear(log.attributes["d"])"#, r#"log.attributes["d"]"#, "Map({})"),
    (r#"delete_index(log.attributes["l"], 0)"#, r#"log.attributes["l"]"#, r#"Slice(["b",3])"#),
    (r#"delete_index(log.attributes["l"], 0, 2)"#, r#"log.attributes["l"]"#, "Slice([3])"),
    (r#"delete_index(log.attributes["l"], 0, 3)"#, r#"log.attributes["l"]"#, "Slice([])"),
    (
        r#"delete_key(log.attributes["d"], "a")"#,
        r#"log.attributes["d"]"#,
        r#"Map({"b":"hello world","c":{"l":[1,{"q":2},[5]],"x":"hello"},"n":2.5,"user":"bob"})"#,
    ),
    (
        r#"delete_key(log.attributes["d"]["c"], "x")"#,
        r#"log.attributes["d"]"#,
        r#"Map({"a":1,"b":"hello world","c":{"l":[1,{"q":2},[5]]},"n":2.5,"user":"bob"})"#,
    ),
    (
        r#"delete_matching_keys(log.attributes["d"], "^[ab]$")"#,
        r#"log.attributes["d"]"#,
        r#"Map({"c":{"l":[1,{"q":2},[5]],"x":"hello"},"n":2.5,"user":"bob"})"#,
    ),
    (
        r#"flatten(log.attributes["d"])"#,
        r#"log.attributes["d"]"#,
        r#"Map({"a":1,"b":"hello world","c.l.0":1,"c.l.1.q":2,"c.l.20":5,"c.x":"hello","n":2.5,"user":"bob"})"#,
    ),
    (
        r#"flatten(log.attributes["d"], "p")"#,
        r#"log.attributes["d"]"#,
        r#"Map({"p.a":1,"p.b":"hello world","p.c.l.0":1,"p.c.l.1.q":2,"p.c.l.20":5,"p.c.x":"hello","p.n":2.5,"p.user":"bob"})"#,
    ),
    (
        r#"flatten(log.attributes["d"], "p", 1)"#,
        r#"log.attributes["d"]"#,
        r#"Map({"p.a":1,"p.b":"hello world","p.c.l":[1,{"q":2},[5]],"p.c.x":"hello","p.n":2.5,"p.user":"bob"})"#,
    ),
    (
        r#"flatten(log.attributes["d"], depth=2)"#,
        r#"log.attributes["d"]"#,
        r#"Map({"a":1,"b":"hello world","c.l.0":1,"c.l.1":{"q":2},"c.l.2":[5],"c.x":"hello","n":2.5,"user":"bob"})"#,
    ),
    (
        r#"flatten(log.attributes["d"], resolve_conflicts=true)"#,
        r#"log.attributes["d"]"#,
        r#"Map({"a":1,"b":"hello world","c.l":1,"c.l.1.q":2,"c.l.20":5,"c.x":"hello","n":2.5,"user":"bob"})"#,
    ),
    (
        r#"keep_keys(log.attributes["d"], ["a", "user", "zz"])"#,
        r#"log.attributes["d"]"#,
        r#"Map({"a":1,"user":"bob"})"#,
    ),
    (r#"keep_keys(log.attributes["d"], [])"#, r#"log.attributes["d"]"#, "Map({})"),
    (r#"keep_matching_keys(log.attributes["d"], "s|n")"#, r#"log.attributes["d"]"#, r#"Map({"n":2.5,"user":"bob"})"#),
    (r#"limit(log.attributes["d"], 2, ["user"])"#, r#"log.attributes["d"]"#, r#"Map({"a":1,"user":"bob"})"#),
    (r#"limit(log.attributes["d"], 0, [])"#, r#"log.attributes["d"]"#, "Map({})"),
    (
        r#"limit(log.attributes["d"], 9, [])"#,
        r#"log.attributes["d"]"#,
        r#"Map({"a":1,"b":"hello world","c":{"l":[1,{"q":2},[5]],"x":"hello"},"n":2.5,"user":"bob"})"#,
    ),
    (
        r#"merge_maps(log.attributes["d"], {"a": 9, "z": 1}, "insert")"#,
        r#"log.attributes["d"]"#,
        r#"Map({"a":1,"b":"hello world","c":{"l":[1,{"q":2},[5]],"x":"hello"},"n":2.5,"user":"bob","z":1})"#,
    ),
    (
        r#"merge_maps(log.attributes["d"], {"a": 9, "z": 1}, "update")"#,
        r#"log.attributes["d"]"#,
        r#"Map({"a":9,"b":"hello world","c":{"l":[1,{"q":2},[5]],"x":"hello"},"n":2.5,"user":"bob"})"#,
    ),
    (
        r#"merge_maps(log.attributes["d"], {"a": 9, "z": 1}, "upsert")"#,
        r#"log.attributes["d"]"#,
        r#"Map({"a":9,"b":"hello world","c":{"l":[1,{"q":2},[5]],"x":"hello"},"n":2.5,"user":"bob","z":1})"#,
    ),
    (
        r#"merge_maps(log.attributes["d"], ParseJSON(log.attributes["js"]), "upsert")"#,
        r#"log.attributes["d"]"#,
        r#"Map({"a":1,"b":[1,2.5,"x",null,{"c":"dé\n"}],"c":{"l":[1,{"q":2},[5]],"x":"hello"},"e":1000,"n":null,"t":true,"user":"bob"})"#,
    ),
    (
        r#"replace_all_matches(log.attributes["d"], "b*", "X")"#,
        r#"log.attributes["d"]"#,
        r#"Map({"a":1,"b":"hello world","c":{"l":[1,{"q":2},[5]],"x":"hello"},"n":2.5,"user":"X"})"#,
    ),
    (
        r#"replace_all_matches(log.attributes["d"], "*o*", "X")"#,
        r#"log.attributes["d"]"#,
        r#"Map({"a":1,"b":"X","c":{"l":[1,{"q":2},[5]],"x":"hello"},"n":2.5,"user":"X"})"#,
    ),
    (
        r#"replace_all_matches(log.attributes["d"], "hell[a-o] {world,x}", "X")"#,
        r#"log.attributes["d"]"#,
        r#"Map({"a":1,"b":"X","c":{"l":[1,{"q":2},[5]],"x":"hello"},"n":2.5,"user":"bob"})"#,
    ),
    (
        r#"replace_all_matches(log.attributes["d"], "b?b", "X", SHA256, "<%s>")"#,
        r#"log.attributes["d"]"#,
        r#"Map({"a":1,"b":"hello world","c":{"l":[1,{"q":2},[5]],"x":"hello"},"n":2.5,"user":"<4b68ab3847feda7d6c62c1fbcbeebfa35eab7351ed5e78f4ddadea5df64b8015>"})"#,
    ),
    (
        r#"replace_all_patterns(log.attributes["d"], "value", "o", "0")"#,
        r#"log.attributes["d"]"#,
        r#"Map({"a":1,"b":"hell0 w0rld","c":{"l":[1,{"q":2},[5]],"x":"hello"},"n":2.5,"user":"b0b"})"#,
    ),
    (
        r#"replace_all_patterns(log.attributes["d"], "value", "(\\w)o", "[$1]")"#,
        r#"log.attributes["d"]"#,
        r#"Map({"a":1,"b":"hel[l] [w]rld","c":{"l":[1,{"q":2},[5]],"x":"hello"},"n":2.5,"user":"[b]b"})"#,
    ),
    (
        r#"replace_all_patterns(log.attributes["d"], "key", "^(.)$", "k.$1")"#,
        r#"log.attributes["d"]"#,
        r#"Map({"k.a":1,"k.b":"hello world","k.c":{"l":[1,{"q":2},[5]],"x":"hello"},"k.n":2.5,"user":"bob"})"#,
    ),
    (
        r#"replace_all_patterns(log.attributes["d"], "key", "^(.)$", "$1", ToUpperCase, "k.%s")"#,
        r#"log.attributes["d"]"#,
        r#"Map({"k.A":1,"k.B":"hello world","k.C":{"l":[1,{"q":2},[5]],"x":"hello"},"k.N":2.5,"user":"bob"})"#,
    ),
    (
        r#"replace_all_patterns(log.attributes["d"], "key", "^[ab]$", "same")"#,
        r#"log.attributes["d"]"#,
        r#"Map({"c":{"l":[1,{"q":2},[5]],"x":"hello"},"n":2.5,"same":"hello world","user":"bob"})"#,
    ),
    (
        r#"replace_all_patterns(log.attributes["d"], "value", "l+", "$0", MD5)"#,
        r#"log.attributes["d"]"#,
        r#"Map({"a":1,"b":"he5b54c0a045f179bcbbbc9abcb8b5cd4co wor2db95e8e1a9267b7a1188556b2013b33d","c":{"l":[1,{"q":2},[5]],"x":"hello"},"n":2.5,"user":"bob"})"#,
    ),
    (
        r#"replace_match(log.attributes["d"]["b"], "hello*", "bye")"#,
        r#"log.attributes["d"]"#,
        r#"Map({"a":1,"b":"bye","c":{"l":[1,{"q":2},[5]],"x":"hello"},"n":2.5,"user":"bob"})"#,
    ),
    (
        r#"replace_match(log.attributes["d"]["b"], "hello", "bye")"#,
        r#"log.attributes["d"]"#,
        r#"Map({"a":1,"b":"hello world","c":{"l":[1,{"q":2},[5]],"x":"hello"},"n":2.5,"user":"bob"})"#,
    ),
    (
        r#"replace_match(log.attributes["d"]["b"], "*", "bye", ToUpperCase, "(%s)")"#,
        r#"log.attributes["d"]"#,
        r#"Map({"a":1,"b":"(BYE)","c":{"l":[1,{"q":2},[5]],"x":"hello"},"n":2.5,"user":"bob"})"#,
    ),
    (
        r#"replace_match(log.attributes["d"]["a"], "*", "bye")"#,
        r#"log.attributes["d"]"#,
        r#"Map({"a":1,"b":"hello world","c":{"l":[1,{"q":2},[5]],"x":"hello"},"n":2.5,"user":"bob"})"#,
    ),
    (
        r#"replace_pattern(log.attributes["d"]["b"], "(?P<first>\\w+) (\\w+)", "$2 ${first} $first_x $$ $9")"#,
        r#"log.attributes["d"]"#,
        r#"Map({"a":1,"b":"world hello  $ ","c":{"l":[1,{"q":2},[5]],"x":"hello"},"n":2.5,"user":"bob"})"#,
    ),
    (
        r#"replace_pattern(log.attributes["d"]["b"], "o", "0")"#,
        r#"log.attributes["d"]"#,
        r#"Map({"a":1,"b":"hell0 w0rld","c":{"l":[1,{"q":2},[5]],"x":"hello"},"n":2.5,"user":"bob"})"#,
    ),
    (
        r#"replace_pattern(log.attributes["d"]["b"], "", "-")"#,
        r#"log.attributes["d"]"#,
        r#"Map({"a":1,"b":"-h-e-l-l-o- -w-o-r-l-d-","c":{"l":[1,{"q":2},[5]],"x":"hello"},"n":2.5,"user":"bob"})"#,
    ),
    (
        r#"replace_pattern(log.attributes["d"]["b"], "x*", "-")"#,
        r#"log.attributes["d"]"#,
        r#"Map({"a":1,"b":"-h-e-l-l-o- -w-o-r-l-d-","c":{"l":[1,{"q":2},[5]],"x":"hello"},"n":2.5,"user":"bob"})"#,
    ),
    (
        r#"replace_pattern(log.attributes["d"]["b"], "l", "$0", SHA1, "<%s>")"#,
        r#"log.attributes["d"]"#,
        r#"Map({"a":1,"b":"he<07c342be6e560e7f43842e2e21b774e61d85f047><07c342be6e560e7f43842e2e21b774e61d85f047>o wor<07c342be6e560e7f43842e2e21b774e61d85f047>d","c":{"l":[1,{"q":2},[5]],"x":"hello"},"n":2.5,"user":"bob"})"#,
    ),
    (
        r#"replace_pattern(log.attributes["d"]["a"], "1", "2")"#,
        r#"log.attributes["d"]"#,
        r#"Map({"a":1,"b":"hello world","c":{"l":[1,{"q":2},[5]],"x":"hello"},"n":2.5,"user":"bob"})"#,
    ),
    (
        r#"replace_pattern(log.attributes["d"]["missing"], "1", "2")"#,
        r#"log.attributes["d"]"#,
        r#"Map({"a":1,"b":"hello world","c":{"l":[1,{"q":2},[5]],"x":"hello"},"n":2.5,"user":"bob"})"#,
    ),
    (
        r#"replace_pattern(log.attributes["d"]["b"], "WORLD", "x")"#,
        r#"log.attributes["d"]"#,
        r#"Map({"a":1,"b":"hello world","c":{"l":[1,{"q":2},[5]],"x":"hello"},"n":2.5,"user":"bob"})"#,
    ),
    (
        r#"replace_pattern(log.attributes["d"]["b"], "(?i)WORLD", "x")"#,
        r#"log.attributes["d"]"#,
        r#"Map({"a":1,"b":"hello x","c":{"l":[1,{"q":2},[5]],"x":"hello"},"n":2.5,"user":"bob"})"#,
    ),
    (
        r#"replace_pattern(log.attributes["d"]["b"], "\\bworld\\b", "x")"#,
        r#"log.attributes["d"]"#,
        r#"Map({"a":1,"b":"hello x","c":{"l":[1,{"q":2},[5]],"x":"hello"},"n":2.5,"user":"bob"})"#,
    ),
    (
        r#"replace_pattern(log.attributes["d"]["b"], "[[:alpha:]]{5}", "x")"#,
        r#"log.attributes["d"]"#,
        r#"Map({"a":1,"b":"x x","c":{"l":[1,{"q":2},[5]],"x":"hello"},"n":2.5,"user":"bob"})"#,
    ),
    (
        r#"replace_pattern(log.attributes["d"]["b"], "\\Qo w\\E", "x")"#,
        r#"log.attributes["d"]"#,
        r#"Map({"a":1,"b":"hellxorld","c":{"l":[1,{"q":2},[5]],"x":"hello"},"n":2.5,"user":"bob"})"#,
    ),
    (
        r#"replace_pattern(log.attributes["d"]["b"], "\\p{Greek}|\\pL", "x")"#,
        r#"log.attributes["d"]"#,
        r#"Map({"a":1,"b":"xxxxx xxxxx","c":{"l":[1,{"q":2},[5]],"x":"hello"},"n":2.5,"user":"bob"})"#,
    ),
    (
        r#"replace_pattern(log.attributes["d"]["b"], "(?U)h.*o", "x")"#,
        r#"log.attributes["d"]"#,
        r#"Map({"a":1,"b":"x world","c":{"l":[1,{"q":2},[5]],"x":"hello"},"n":2.5,"user":"bob"})"#,
    ),
    (
        r#"replace_pattern(log.attributes["d"]["b"], "[^\\s]+$", "x")"#,
        r#"log.attributes["d"]"#,
        r#"Map({"a":1,"b":"hello x","c":{"l":[1,{"q":2},[5]],"x":"hello"},"n":2.5,"user":"bob"})"#,
    ),
    (
        r#"set(log.attributes["d"]["new"]["deep"], 1)"#,
        r#"log.attributes["d"]"#,
        r#"Map({"a":1,"b":"hello world","c":{"l":[1,{"q":2},[5]],"x":"hello"},"n":2.5,"new":{"deep":1},"user":"bob"})"#,
    ),
    (
        r#"set(log.attributes["d"]["b"], nil)"#,
        r#"log.attributes["d"]"#,
        r#"Map({"a":1,"b":null,"c":{"l":[1,{"q":2},[5]],"x":"hello"},"n":2.5,"user":"bob"})"#,
    ),
    (
        r#"stringify_all(log.attributes["d"])"#,
        r#"log.attributes["d"]"#,
        r#"Map({"a":"1","b":"hello world","c":"{\"l\":[1,{\"q\":2},[5]],\"x\":\"hello\"}","n":"2.5","user":"bob"})"#,
    ),
    (
        r#"truncate_all(log.attributes["d"], 3)"#,
        r#"log.attributes["d"]"#,
        r#"Map({"a":1,"b":"hel","c":{"l":[1,{"q":2},[5]],"x":"hello"},"n":2.5,"user":"bob"})"#,
    ),
    (
        r#"truncate_all(log.attributes["d"], 7, true, "...")"#,
        r#"log.attributes["d"]"#,
        r#"Map({"a":1,"b":"hell...","c":{"l":[1,{"q":2},[5]],"x":"hello"},"n":2.5,"user":"bob"})"#,
    ),
    ("truncate_all(log.attributes, 2)", r#"log.attributes["u"]"#, "Str(À)"),
];

/// Kind, attributes, and what the Go collector calls such a span.
const SPAN_NAMES: &[(i32, &str, &str)] = &[
    (2, r#"{"http.request.method": "GET", "http.route": "/a/{b}"}"#, "GET /a/{b}"),
    (2, r#"{"http.method": "GET", "url.template": "/a"}"#, "GET"),
    (3, r#"{"http.method": "GET", "url.template": "/a"}"#, "GET /a"),
    (2, r#"{"http.method": "", "rpc.system": "grpc"}"#, "grpc"),
    (2, r#"{"rpc.system": "grpc", "rpc.method": "m", "rpc.service": "s"}"#, "s/m"),
    (3, r#"{"rpc.system.name": "grpc", "rpc.grpc.method": "m"}"#, "m"),
    (3, r#"{"rpc.system": "grpc", "rpc.service": "s"}"#, "s/*"),
    (3, r#"{"db.system": "pg", "db.query.summary": "SELECT x"}"#, "SELECT x"),
    (3, r#"{"db.system": "pg", "db.operation": "SELECT", "db.name": "n", "db.collection.name": "c"}"#, "SELECT n.c"),
    (3, r#"{"db.system": "pg", "db.operation.name": "SELECT"}"#, "SELECT"),
    (3, r#"{"db.system": "pg", "db.stored_procedure.name": "p"}"#, "p"),
    (3, r#"{"db.system": "pg", "server.address": "h", "server.port": 5432}"#, "h:5432"),
    (3, r#"{"db.system": "pg"}"#, "pg"),
    (2, r#"{"db.system": "pg"}"#, "old"),
    (4, r#"{"messaging.system": "kafka", "messaging.operation": "send", "messaging.destination": "t"}"#, "send t"),
    (
        5,
        r#"{"messaging.system": "kafka", "messaging.operation.name": "poll", "messaging.destination.name": "t", "messaging.destination.temporary": true}"#,
        "poll (temporary)",
    ),
    (
        5,
        r#"{"messaging.system": "kafka", "messaging.destination.temporary": "true", "messaging.destination.anonymous": true}"#,
        "(anonymous)",
    ),
    (
        5,
        r#"{"messaging.system": "kafka", "messaging.destination.template": "t/{x}", "messaging.destination.name": "t"}"#,
        "t/{x}",
    ),
    (5, r#"{"messaging.system": "kafka", "messaging.operation": "poll"}"#, "poll"),
    (5, r#"{"messaging.system": "kafka"}"#, "kafka"),
    (5, r#"{"messaging.system": "kafka", "messaging.operation": "", "server.address": "h"}"#, " h"),
    (5, r#"{"http.method": "GET"}"#, "old"),
    (1, r#"{"http.method": "GET"}"#, "old"),
    (2, r#"{"messaging.system": 7, "messaging.operation": "a"}"#, "a"),
];

#[test]
fn spans_get_the_names_of_the_semantic_conventions() {
    let dialect = Dialect { context: "span", functions: functions::TRANSFORM };
    for (kind, attributes, expected) in SPAN_NAMES {
        let parsed = parser::statement(r#"set_semconv_span_name("1.37.0", "was")"#).unwrap();
        let (call, _) = compile::statement(&parsed, &dialect).unwrap();
        let attributes: serde_json::Map<String, Json> = serde_json::from_str(attributes).unwrap();
        let pairs = attributes.iter().map(|(key, value)| {
            let kind = if value.is_boolean() { "boolValue" } else { "stringValue" };
            let kind = if value.is_number() { "intValue" } else { kind };
            serde_json::json!({"key": key, "value": {kind: value}})
        });
        let span = serde_json::json!({"name": "old", "kind": kind, "attributes": pairs.collect::<Vec<_>>()});
        let request = serde_json::json!({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).to_string();
        let wire = to_wire(Signal::Traces, request.as_bytes()).unwrap().leak();
        let arena = Box::leak(Box::new(Arena::with_limit(1 << 20)));
        let mut edit = Edit { depth: Depth::Records, call: Box::leak(Box::new(call)), arena };
        let mut text = Vec::new();
        match rewrite(Signal::Traces, wire, 1, arena.room(), &mut edit).unwrap() {
            Outcome::Changed { bytes, .. } => to_json(Signal::Traces, &bytes, &mut text),
            _ => to_json(Signal::Traces, wire, &mut text),
        };
        let json: Json = serde_json::from_slice(&text).unwrap();
        let span = &json["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
        assert_eq!(span["name"], *expected, "{attributes:?}");
        let was = span["attributes"].as_array().unwrap().iter().find(|pair| pair["key"] == "was");
        assert_eq!(was.is_some(), *expected != "old", "{attributes:?}");
    }
}

/// What is read from JSON is kept once, however deeply it nests; it was once for each level.
#[test]
fn nested_json_is_kept_once() {
    let (open, close, numbers) = ("[".repeat(50), "]".repeat(50), "1,".repeat(50_000));
    let mut sight = Sight::default();
    let mut scene = Scene::nowhere(Box::leak(Box::new(Arena::with_limit(4 << 20))), &mut sight);
    let text = format!(r#"set(log.attributes["x"], "{open}{numbers}1{close}")"#);
    for statement in [&text, r#"set(log.attributes["y"], Len(ParseJSON(log.attributes["x"])))"#] {
        assert_eq!(run(statement, &mut scene), Ok(()));
    }
}
