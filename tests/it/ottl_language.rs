//! The language: what is read, what is refused and where, how values compare and are calculated with, and how conditions
//! are read back.

use misaki::face::config::{self, Level, Problem};
use misaki::face::otlp::Sight;
use misaki::face::ottl::{Arena, Dialect, Fault, Mistake, Scene, compile, functions, parser, plain, syntax};
use misaki::face::service::Plan;
use misaki::face::telemetry::Now;

const LOG: Dialect = Dialect { context: "log", functions: functions::TRANSFORM };

/// Whether a condition without telemetry holds.
fn holds(text: &str) -> Result<bool, String> {
    let node = parser::condition(text).map_err(|mistake| mistake.message)?;
    let condition = compile::condition(&node, &LOG).map_err(|mistake| mistake.message)?;
    let arena = Arena::with_limit(1 << 20);
    condition
        .holds(&mut Scene::new(&arena, Now::read(), None, &mut Sight::default()))
        .map_err(|Fault(text)| text.into_owned())
}

/// Where a mistake stands and what it says: the text with `^` before and after the place.
fn pointed(text: &str, mistake: &Mistake) -> String {
    let (start, end) = (mistake.span.start, mistake.span.end);
    format!("{}^{}^{}: {}", &text[..start], &text[start..end], &text[end..], mistake.message)
}

#[test]
fn values_compare() {
    let rows = [
        ("1 < 2", true),
        ("2 < 1", false),
        ("1 == 1.0", true),
        ("1.5 > 1", true),
        ("1 < \"a\"", false),
        ("\"1\" != 1", true),
        ("\"1\" == 1", false),
        ("nil == nil", true),
        ("nil != \"x\"", true),
        ("nil < 5", false),
        ("nil <= nil", true),
        ("false < true", true),
        ("true >= true", true),
        ("0x01 < 0x02", true),
        ("0x0a == 0x0a", true),
        ("\"a\" < \"b\"", true),
        ("{\"a\": 1, \"b\": 2} == {\"b\": 2, \"a\": 1}", true),
        ("{\"a\": 1} == {\"a\": 1.0}", false),
        ("{\"a\": 1} < {\"a\": 2}", false),
        ("[1, \"x\"] == [1, \"x\"]", true),
        ("[1, 2] == [2, 1]", false),
        ("[1] != {\"a\": 1}", true),
        ("9223372036854775807 == 9223372036854775807", true),
        ("-9223372036854775808 < 0", true),
    ];
    for (text, expected) in rows {
        assert_eq!(holds(text), Ok(expected), "{text}");
    }
}

#[test]
fn logic_binds_and_stops_early() {
    let rows = [
        ("true or false and false", true),
        ("(true or false) and false", false),
        ("not false and true", true),
        ("not (true or false)", false),
        ("not 1 == 2", true),
        ("true or 1 / 0 == 1", true),
        ("false and 1 / 0 == 1", false),
        ("((((1 == 1))))", true),
        ("(1 + 2) * 3 == 9 and (1 == 1)", true),
    ];
    for (text, expected) in rows {
        assert_eq!(holds(text), Ok(expected), "{text}");
    }
}

#[test]
fn numbers_are_calculated_with() {
    let rows = [
        ("1 + 2 * 3 == 7", true),
        ("7 / 2 == 3", true),
        ("7 / 2.0 == 3.5", true),
        ("7.0 / 2 == 3.5", true),
        ("10 - 2 - 3 == 5", true),
        ("-(2 + 3) == -5", true),
        ("- 5 == -5", true),
        ("+5 == 5", true),
        ("2 * -3 == -6", true),
        ("1. == 1", true),
        (".5 == 0.5", true),
        ("1.5e3 == 1500", true),
        ("9223372036854775807 + 1 == -9223372036854775808", true),
        ("{\"a\": [1, {\"b\": 5}]} == {\"a\": [0 + 1, {\"b\": 5}]}", true),
    ];
    for (text, expected) in rows {
        assert_eq!(holds(text), Ok(expected), "{text}");
    }
    assert_eq!(holds("1 / 0 == 1"), Err("attempted to divide by 0".into()));
    assert_eq!(holds("1.0 / 0 == 1"), Err("attempted to divide by 0".into()));
}

#[test]
fn text_has_the_escapes_of_go() {
    let rows = [
        (r#""a\tb" == "a\x09b""#, true),
        (r#""\u00e9" == "é""#, true),
        (r#""\U0001F680" == "🚀""#, true),
        (r#""\101" == "A""#, true),
        (r#""say \"hi\" \\ back" != """#, true),
    ];
    for (text, expected) in rows {
        assert_eq!(holds(text), Ok(expected), "{text}");
    }
}

#[test]
fn mistakes_are_pointed_at() {
    let condition = |text: &str| {
        let node = parser::condition(text);
        let compiled = node.and_then(|node| compile::condition(&node, &LOG));
        pointed(text, &compiled.err().expect("a mistake"))
    };
    let rows = [
        ("severity_number <", "severity_number <^^: expected a value, found the end"),
        ("severity_number", "^severity_number^: severity_number is no condition"),
        ("severity_number = 1", "severity_number ^=^ 1: expected a comparison, found ="),
        ("body == 'x'", "body == ^'^x': ' has no meaning here"),
        ("body == \"x", "body == ^\"x^: this text has no closing quote"),
        ("IsMatchh(body, \"x\")", "^IsMatchh^(body, \"x\"): undefined function \"IsMatchh\""),
        ("IsMatch(body)", "^IsMatch^(body): incorrect number of arguments. Expected: 2 Received: 1"),
        ("IsMatch(body, wrong=\"x\")", "IsMatch(body, ^wrong^=\"x\"): no such parameter: wrong"),
        ("IsMatch(target=body, \"x\")", "IsMatch(target=body, ^\"x\"^): unnamed argument used after named argument"),
        ("set(body, \"x\")", "^set^(body, \"x\"): converter names must start with an uppercase letter but got 'set'"),
        ("1 == LOUD", "1 == ^LOUD^: enum symbol \"LOUD\" not found in the log context"),
        ("body == \"\\d\"", "body == \"^\\d^\": \\d is not an escape"),
        (
            "body == 99999999999999999999",
            "body == ^99999999999999999999^: 99999999999999999999 does not fit in 64 bits",
        ),
        ("(1 == 1) == 2", "^(1 == 1)^ == 2: a condition stands here, where a value should"),
        ("body == 1 2", "body == 1 ^2^: expected a comparison, and, or, or the end, found 2"),
        ("", "^^: expected a value, found the end"),
    ];
    for (text, expected) in rows {
        assert_eq!(condition(text), expected);
    }
    let statement = |text: &str| {
        let statement = parser::statement(text);
        let compiled = statement.and_then(|statement| compile::statement(&statement, &LOG));
        pointed(text, &compiled.err().expect("a mistake"))
    };
    let rows = [
        ("Set(body, 1)", "^Set^(body, 1): editor names must start with a lowercase letter but got 'Set'"),
        ("set(body)", "^set^(body): incorrect number of arguments. Expected: 2 Received: 1"),
        ("set(1, 2)", "set(^1^, 2): the argument target of set must be a path"),
        ("set(body, 1)[0]", "^set(body, 1)[0]^: only paths and converters may be indexed, not editors, but got set"),
        ("set(body, 1) when true", "set(body, 1) ^when^ true: expected where, or the end, found when"),
        ("set(body, int(1))", "set(body, ^int^(1)): converter names must start with an uppercase letter but got 'int'"),
    ];
    for (text, expected) in rows {
        assert_eq!(statement(text), expected);
    }
}

#[test]
fn nesting_is_bounded() {
    for open in ["(", "[", "-(", "IsString(", "{\"a\": ", "not (", "body["] {
        let mistake = parser::condition(&open.repeat(5000)).expect_err("a mistake");
        assert_eq!(mistake.message, "this nests more than 64 levels deep", "{open}");
    }
    let long = vec!["1 == 1"; 20_000].join(" and ");
    assert_eq!(holds(&long), Ok(true));
    let long = format!("{} == 20000", vec!["1"; 20_000].join(" + "));
    assert_eq!(holds(&long), Ok(true));
}

#[test]
fn conditions_are_read_back() {
    let rows = [
        ("severity_number < SEVERITY_NUMBER_INFO", "logs whose severity is below INFO"),
        ("log.severity_number <= 13", "logs whose severity is at most WARN"),
        ("9 > severity_number", "logs whose severity is below INFO"),
        ("attributes[\"url.path\"] == \"/health\"", "logs whose url.path is \"/health\""),
        ("resource.attributes[\"service.name\"] == \"a\"", "logs whose resource service.name is \"a\""),
        ("attributes[\"x\"] == nil", "logs without x"),
        ("not IsMatch(body, \"^GET\")", "logs whose body does not match \"^GET\""),
        ("body.string == \"7\"", "logs whose body is \"7\""),
        ("attributes[\"map\"][\"k\"] != 5", "logs whose map[\"k\"] is not 5"),
        (
            "severity_number < 9 and attributes[\"url.path\"] == \"/health\"",
            "logs whose severity is below INFO and whose url.path is \"/health\"",
        ),
        ("(end_time - start_time) >= Duration(\"150ms\")", "logs whose duration is at least 150ms"),
        ("status.code == STATUS_CODE_ERROR", "logs whose status code is ERROR"),
        ("true", "all logs"),
        ("severity_number + 1 == 10", "logs where severity_number + 1 == 10"),
        ("not (severity_number < 9)", "logs where not (severity_number < 9)"),
    ];
    for (text, expected) in rows {
        assert_eq!(plain::items("logs", &parser::condition(text).unwrap(), text), expected);
    }
}

/// The lines that carets point at, each cut to what they mark.
fn carets(yaml: &str) -> Vec<String> {
    let loaded = config::load(&[format!("yaml:{yaml}")], &[], &|_| Some("b".to_owned()));
    Plan::read(&loaded);
    let report = loaded.problems.render(&loaded.sources, false);
    let lines: Vec<&str> = report.lines().collect();
    let marked = lines.windows(2).filter(|pair| pair[1].contains('^')).map(|pair| {
        let (start, end) = (pair[1].find('^').unwrap(), pair[1].rfind('^').unwrap() + 1);
        pair[0].chars().skip(start).take(end - start).collect()
    });
    marked.collect()
}

/// Whatever the scalar is written as, the caret stands at the part that is wrong.
#[test]
fn mistakes_are_pointed_at_inside_of_yaml() {
    let rows = [
        ("'severity_number < LOUD'", "LOUD"),
        ("severity_number < LOUD", "LOUD"),
        ("'body == \"it''s\" or 1 < LOUD'", "LOUD"),
        (r#""body == \"a\\n\" or 1 < LOUD""#, "LOUD"),
        (r#""body == \"\u00e9\x41\" or 1 < LOUD""#, "LOUD"),
        ("body == \"$$1\" or 1 < LOUD", "LOUD"),
        ("|\n        body == nil or\n\n            1 < LOUD", "LOUD"),
        (">-\n        body == nil\n        or 1 < LOUD\n", "LOUD"),
        ("body == nil\n        or\n\n          1 < LOUD", "LOUD"),
        ("'body == nil\n        or 1 < LOUD'", "LOUD"),
        ("\"body == nil \\\n        or 1 < LOUD\"", "LOUD"),
        ("'éé < 1'", "é"),
        ("'body == ${env:A}'", "'body == ${env:A}'"),
        // Valid, and never true.
        ("'trace_id == \"4bf92f3577b34da6a3ce929d0e0e4736\"'", "\"4bf92f3577b34da6a3ce929d0e0e4736\""),
        ("'body == 5 or not (severity_number >= \"WARN\")'", "\"WARN\""),
        ("'trace_id == nil or severity_number == nil'", "nil"),
        ("'13 <= severity_text or trace_id.string == \"a\" or body == \"a\" or severity_number == nil'", "13"),
    ];
    for (scalar, expected) in rows {
        let yaml = format!(
            "receivers: {{otlp: {{protocols: {{grpc: }}}}}}\nprocessors:\n  filter:\n    logs:\n      log_record:\n      - {scalar}\nexporters: {{nop: }}\nservice: {{pipelines: {{logs: {{receivers: [otlp], processors: [filter], exporters: [nop]}}}}}}\n"
        );
        assert_eq!(carets(&yaml), [expected], "{yaml}");
    }
}

/// A function that another context has: that one is named, and not the function once more.
#[test]
fn a_function_of_another_context_is_told_with_it() {
    for statements in [
        "['merge_histogram_buckets(1) where exemplar.double_value == 1.5']",
        "[{context: metric, statements: [merge_histogram_buckets(1)]}]",
    ] {
        let yaml = format!(
            "receivers: {{otlp: {{protocols: {{grpc: }}}}}}\nprocessors: {{transform: {{metric_statements: {statements}}}}}\nexporters: {{nop: }}\nservice: {{pipelines: {{metrics: {{receivers: [otlp], processors: [transform], exporters: [nop]}}}}}}\n"
        );
        let loaded = config::load(&[format!("yaml:{yaml}")], &[], &|_| None);
        Plan::read(&loaded);
        let help: Vec<_> = loaded.problems.sorted().into_iter().filter_map(|problem| problem.help).collect();
        assert!(help.len() == 1 && help[0].contains("context: datapoint") && !help[0].contains("merge_"), "{help:?}");
    }
}

#[test]
fn a_group_has_the_innermost_context_that_knows_its_words() {
    let check = |key: &str, texts: &str, expected: &str| {
        let yaml = format!(
            "receivers: {{otlp: {{protocols: {{grpc: }}}}}}\nprocessors:\n  transform:\n    {key}: {texts}\nexporters: {{nop: }}\nservice: {{pipelines: {{logs: {{receivers: [otlp], processors: [transform], exporters: [nop]}}}}}}\n"
        );
        let loaded = config::load(&[format!("yaml:{yaml}")], &[], &|_| None);
        Plan::read(&loaded);
        let messages: Vec<String> = loaded.problems.sorted().into_iter().map(|problem| problem.message).collect();
        assert_eq!(messages.join("; "), expected, "{texts}");
    };
    check("log_statements", r#"['set(resource.attributes["a"], 1)', 'set(log.body, scope.name)']"#, "");
    check("log_statements", r#"['set(body, 1)']"#, "missing context name for path \"body\"");
    check("log_statements", r#"['set(span.name, 1)']"#, "inferred context \"span\" is not a valid candidate");
    check(
        "trace_statements",
        r#"['set(span.name, "x") where spanevent.name == "y" and IsRootSpan()']"#,
        "inferred context \"spanevent\" does not support the function \"IsRootSpan\"",
    );
    // The context that the paths name has no such function or symbol, and one further in does.
    for (key, text) in [
        ("trace_statements", r#"['set(resource.attributes["root"], true) where IsRootSpan()']"#),
        ("trace_statements", r#"['set(scope.name, "x") where STATUS_CODE_ERROR == 2']"#),
        ("metric_statements", r#"['convert_sum_to_gauge() where resource.attributes["x"] == 1']"#),
        ("metric_statements", r#"['merge_histogram_buckets(1) where metric.name == "x"']"#),
        ("metric_statements", r#"['set(resource.attributes["type"], METRIC_DATA_TYPE_SUM)']"#),
        ("log_statements", r#"['set(scope.attributes["c"], ParseCEF(scope.name))']"#),
    ] {
        check(key, text, "");
    }
    check(
        "metric_statements",
        r#"[{context: exemplar, statements: ['set(double_value, METRIC_DATA_TYPE_SUM)']}]"#,
        "enum symbol \"METRIC_DATA_TYPE_SUM\" not found in the exemplar context",
    );
    // The other keys of a group are known, whatever its texts say.
    check(
        "log_statements",
        r#"[{context: log, shared_cache: true, conditions: ['body == nil'], statements: ['set(nowhere, 1)', 'foo()']}]"#,
        "segment \"nowhere\" from path \"log.nowhere\" is not a valid path nor a valid OTTL keyword for the log context; undefined function \"foo\"",
    );
    check(
        "log_statements",
        r#"['set(log.severity_number, LOUD)']"#,
        "inferred context \"log\" does not support the enum symbol \"LOUD\"",
    );
    check("log_statements", r#"['foo(log.body)']"#, "inferred context \"log\" does not support the function \"foo\"");
    check("log_statements", r#"['replace_pattern(log.body, "a", "b", SHA256)']"#, "");
    check("log_statements", r#"[null]"#, "invalid log_statements item: empty statement list items are not supported");
    check(
        "log_statements",
        r#"['set(log.body, 1)', {statements: ['set(log.body, 1)']}]"#,
        "configuring multiple configuration styles is not supported, please use only Basic configuration or only Advanced configuration",
    );
    check(
        "log_statements",
        r#"[{context: log, statements: ['set(body, Int("2.0"))']}]"#,
        "Int: strconv.ParseInt: parsing \"2.0\": invalid syntax",
    );
}

fn told_of(statement: &str) -> Vec<Problem> {
    let yaml = format!(
        "receivers: {{otlp: {{protocols: {{grpc: }}}}}}\nprocessors: {{transform: {{log_statements: [{{context: log, statements: ['{statement}']}}]}}}}\nexporters: {{nop: }}\nservice: {{pipelines: {{logs: {{receivers: [otlp], processors: [transform], exporters: [nop]}}}}}}\n"
    );
    let loaded = config::load(&[format!("yaml:{yaml}")], &[], &|_| None);
    Plan::read(&loaded);
    loaded.problems.sorted()
}

/// What is made of literals and fails loads, as in the Go collector, and is told where it stands; a literal of a type that
/// a function does not take is refused, as there.
#[test]
fn constants_that_always_fail_are_warned_of() {
    let check = |statement: &str, level: Level, message: &str| {
        let problems = told_of(statement);
        let told: Vec<_> = problems.iter().map(|problem| (problem.level, problem.message.as_str())).collect();
        assert_eq!(told, [(level, message)], "{statement}");
        assert!(problems[0].place.is_some_and(|place| place.line == 2), "{statement}");
    };
    for (statement, message) in [
        (
            r#"set(body, Substring("abc", 2, 9))"#,
            "Substring always fails: invalid range for substring function, start(2)+length(9) cannot be greater than the length of target string(3)",
        ),
        (
            r#"set(body, ParseJSON("{")["a"])"#,
            "ParseJSON always fails: invalid JSON at byte 1: a member name in quotes is needed",
        ),
        (r#"set(body, Duration("x"))"#, "Duration always fails: time: invalid duration \"x\""),
        (r#"set(body, Time("x", "%Y"))"#, "Time always fails: parsing time \"x\" as \"%Y\": cannot parse \"x\""),
        (r#"set(body, 1) where Time("", "%m") > Now()"#, "Time always fails: time cannot be nil"),
        (r#"set(body, Split("a", ",")[3])"#, "this always fails: index 3 out of bounds"),
        (r#"set(body, attributes[ParseJSON("{}")["a"]["b"]])"#, "this always fails: key not found in map"),
        (r#"set(body, 1) where Len("abc")"#, "Len always fails: a condition must be true or false, and this is int64"),
        (
            r#"set(body, 1) where body == 1 or not Concat(["a"], "")"#,
            "Concat always fails: a condition must be true or false, and this is string",
        ),
        (
            r#"set(body, 1) where ParseJSON("[7]")[0]"#,
            "ParseJSON always fails: a condition must be true or false, and this is float64",
        ),
        (r#"set(body, 1) where 1 / 0 == 1"#, "this always fails: attempted to divide by 0"),
        (
            r#"set(body, 1) where Int(Concat(["a"], "")) == 1"#,
            "Int always fails: strconv.ParseInt: parsing \"a\": invalid syntax",
        ),
        (
            r#"set(body, Substring(body, Double("1"), 1))"#,
            "the argument start of Substring must be a whole number, so this always fails",
        ),
        (
            r#"replace_pattern(body, Concat(["("], ""), "x")"#,
            "the regex pattern supplied to replace_pattern \'\"(\"\' is not a valid pattern, so this always fails",
        ),
        (
            r#"merge_maps(attributes, ExtractPatterns(body, "a"), "upsert")"#,
            "at least 1 named capture group must be supplied in the given regex, so this always fails",
        ),
    ] {
        check(statement, Level::Warning, &message.replace("\\'", "'"));
    }
    for (statement, message) in [
        (r#"set(body, Int("2.0"))"#, "Int: strconv.ParseInt: parsing \"2.0\": invalid syntax"),
        (
            r#"set(body, TraceID("zz"))"#,
            "TraceID: TraceID: could not decode ID: invalid length: expected 16 or 32 bytes, got 2",
        ),
        (r#"set(body, Hour("x"))"#, "the argument time of Hour must be a time"),
        (r#"set(body, Seconds(1))"#, "the argument duration of Seconds must be a duration"),
        (r#"set(body, Keys([1]))"#, "the argument target of Keys must be a map"),
        (r#"set(body, ContainsValue({"a": 1}, 1))"#, "the argument target of ContainsValue must be a list"),
        (r#"merge_maps(attributes, "x", "upsert")"#, "the argument source of merge_maps must be a map"),
        (
            r#"set(body, Decode(body, "no-such"))"#,
            "unsupported encoding \'no-such\': write a name of the IANA that browsers know too, such as utf-8, windows-1252 or shift_jis, or base64",
        ),
        (
            r#"set(body, Decode(body, "ibm437"))"#,
            "unsupported encoding \'ibm437\': write a name of the IANA that browsers know too, such as utf-8, windows-1252 or shift_jis, or base64",
        ),
        (r#"set(body, Decode(body, "cp1252"))"#, "unsupported encoding \'cp1252\': write windows-1252"),
        (r#"set(body, Decode(body, "Shift-JIS"))"#, "unsupported encoding \'Shift-JIS\': write shift_jis"),
        (r#"set(body, Decode(body, "iso8859-1"))"#, "unsupported encoding \'iso8859-1\': write iso-8859-1"),
    ] {
        check(statement, Level::Error, &message.replace("\\'", "'"));
    }
}

/// Functions that are not here are refused by their names, with the reason or with what to write instead.
#[test]
fn functions_that_are_not_here_are_refused_by_name() {
    for (names, reason) in functions::REFUSED {
        for name in *names {
            let [problem] = &told_of(&format!("set(body, {name}(body))"))[..] else { panic!("{name}") };
            assert_eq!((problem.level, problem.help.as_deref()), (Level::Error, Some(*reason)), "{name}");
            assert_eq!(problem.message, format!("undefined function \"{name}\""));
        }
    }
    let [problem] = &told_of(r#"set(time, Time(body, "%Y", "UTC", "de"))"#)[..] else { panic!() };
    assert_eq!(problem.message, "locale is not supported: times are read in English");
}

/// What reads the clock is known when it runs, and what is random or looks at telemetry too: none of it is warned of.
#[test]
fn what_varies_is_not_taken_for_a_constant() {
    for statement in [
        r#"set(time, Time("Jan 2", "%b %d"))"#,
        r#"set(time, Now())"#,
        r#"set(attributes["a"], FormatTime(Now(), "%Y"))"#,
        r#"set(attributes["a"], Substring(UUID(), 0, 3))"#,
        r#"set(attributes["a"], UUIDv7()) where UUIDv7() != UUIDv7() and UUID() != UUID()"#,
    ] {
        let problems = told_of(statement);
        let told: Vec<_> = problems.iter().map(|problem| problem.message.as_str()).collect();
        assert!(told.is_empty(), "{statement}: {told:?}");
    }
}

/// The names of the Go collector's parameters, in both spellings that it takes.
#[test]
fn parameters_have_the_names_of_the_go_collectors() {
    const NAMES: &str = "
        Base64Encode target variant; Coalesce values; Concat vals delimiter; ContainsValue target item; ConvertCase target to_case;
        Decode target encoding; Duration duration; ExtractPatterns target pattern; Format format vals; FormatTime time format;
        HasPrefix target prefix; HasSuffix target suffix; Hour time; Hours duration; Index target value; IsInCIDR target networks;
        IsMatch target pattern; Keys target; ParseCSV target header delimiter header_delimiter mode; ParseInt target base;
        ParseKeyValue target delimiter pair_delimiter; ParseSeverity target mapping; SliceToMap target key_path value_path;
        Sort target order; Split target delimiter; Substring target start length utf8_safe; Time time format location locale;
        ToKeyValueString target delimiter pair_delimiter sort_output; Trim target replacement; TrimPrefix target prefix;
        TrimSuffix target suffix; TruncateTime time duration; URL uri; Unix seconds nanoseconds; UnixNano time; Values target;
        ParseCEF target; ParseCLF target format; ParseELF target; ParseLEEF target;
        append target value values; clear target; delete_index target start_index end_index; delete_key target key;
        delete_matching_keys target pattern; flatten target prefix depth resolve_conflicts; keep_keys target keys;
        keep_matching_keys target pattern; limit target limit priority_keys; merge_maps target source strategy;
        replace_all_matches target pattern replacement function replacement_format;
        replace_all_patterns target mode regex_pattern replacement function replacement_format;
        replace_match target pattern replacement function replacement_format;
        replace_pattern target regex_pattern replacement function replacement_format; set target value; stringify_all target;
        truncate_all target limit utf8_safe truncation_marker; set_semconv_span_name semconv_version original_span_name_attribute;
        aggregate_on_attribute_value aggregation_function attribute values new_value;
        aggregate_on_attributes aggregation_function attributes; convert_gauge_to_sum string_agg_temp monotonic;
        convert_exponential_histogram_to_histogram distribution_fn explicit_bounds;
        convert_summary_count_val_to_sum string_agg_temp monotonic suffix;
        convert_summary_quantile_val_to_gauge attribute_key suffix; copy_metric name description unit;
        extract_count_metric monotonic suffix; extract_percentile_metric percentile suffix;
        merge_histogram_buckets target_value method; scale_metric multiplier unit";
    for row in NAMES.split(';') {
        let (name, parameters) = row.trim().split_once(' ').unwrap();
        let found = functions::TRANSFORM.iter().copied().flatten().find(|function| function.name == name);
        let function = found.unwrap_or_else(|| panic!("{name}"));
        let context = function.contexts.first().copied().unwrap_or("log");
        let dialect = Dialect { context, functions: functions::TRANSFORM };
        let names: Vec<&str> = function.parameters.iter().map(|parameter| parameter.name).collect();
        assert_eq!(names.join(" "), parameters.split_whitespace().collect::<Vec<_>>().join(" "), "{name}");
        for parameter in &names {
            let is_known = |spelling: &str| {
                // The first is looked at first; with fewer arguments, their number would be told.
                let others = names.iter().filter(|other| *other != parameter).map(|other| format!(", {other}=nil"));
                let call = format!("{name}({spelling}=nil{})", others.collect::<String>());
                let text = if syntax::is_editor(name) { call } else { format!("set(body, {call})") };
                let compiled = compile::statement(&parser::statement(&text).unwrap(), &dialect);
                !compiled.err().is_some_and(|mistake| mistake.message.starts_with("no such parameter"))
            };
            let mut words = parameter.split('_');
            let first = words.next().unwrap().to_owned();
            let camel = words.fold(first, |all, word| all + &word[..1].to_uppercase() + &word[1..]);
            assert!(is_known(parameter) && is_known(&camel), "{name} has no {parameter}, or no {camel}");
            let joined = parameter.replace('_', "");
            let is_one_word = joined == *parameter || parameter.starts_with("utf8");
            assert!(is_one_word || !is_known(&joined), "{name} has {joined}");
        }
    }
}

proptest::proptest! {
    #[test]
    fn no_text_breaks_the_parser(text in "\\PC{0,80}") {
        let _ = (parser::condition(&text), parser::statement(&text), parser::value(&text));
    }

    #[test]
    fn no_tokens_break_the_parser(parts in proptest::collection::vec(0usize..28, 0..40)) {
        const PARTS: [&str; 28] = [
            "a", "set", "IsMatch", "(", ")", "[", "]", "{", "}", ",", ".", ":", "==", "<", "=", "+", "-", "*", "/", "not",
            "and", "or", "where", "1", "2.5", "\"x\"", "nil", "0xff",
        ];
        let text = parts.iter().map(|part| PARTS[*part]).collect::<Vec<_>>().join(" ");
        if let Ok(node) = parser::condition(&text) {
            let _ = (compile::condition(&node, &LOG).is_ok(), plain::items("logs", &node, &text));
        }
        if let Ok(statement) = parser::statement(&text) {
            let _ = compile::statement(&statement, &LOG).is_ok();
        }
    }
}
