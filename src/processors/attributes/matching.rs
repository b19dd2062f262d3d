//! Translates `include` and `exclude` to one OTTL condition. An item must match every key, and one entry of each list;
//! of `attributes`, `resources` and `libraries` it must match every entry, as in the Go collector.

use std::sync::Arc;

use crate::config::section::Section;
use crate::otlp::Signal;
use crate::otlp::views::AnyValue;
use crate::ottl::function::{Function, Kind, Parameter};
use crate::ottl::functions::{self, TARGET, function, required};
use crate::ottl::program::{ErrorMode, Group, Text};
use crate::ottl::value::{Arena, Fault, Value};

use crate::processors::action::encoded;
use crate::processors::matching::{self, Match, NO_SPAN_KEY, check_kinds, compare, context, literal, texts};

/// Lists of texts: the key, the signal whose items have such a text, and the path of that text.
const LISTS: [(&str, Signal, &str); 6] = [
    ("services", Signal::Traces, "Text(resource.attributes[\"service.name\"], \"<nil-service-name>\")"),
    ("span_names", Signal::Traces, "span.name"),
    ("span_kinds", Signal::Traces, "span.kind.deprecated_string"),
    ("log_bodies", Signal::Logs, "Text(log.body, \"\")"),
    ("log_severity_texts", Signal::Logs, "log.severity_text"),
    ("metric_names", Signal::Metrics, "metric.name"),
];

const PATH: Parameter = required("target", Kind::Target);

/// Functions for these conditions alone: no config can name them.
const FUNCTIONS: &[Function] = &[
    // Whether an attribute exists, even if it is empty.
    function("Has", &[PATH], |arguments, scene| Ok(Value::Bool(arguments.target(0)?.has(scene.sight)))),
    // Whether a value equals an encoded one.
    function("Is", &[TARGET, required("encoded", Kind::Value)], |arguments, scene| {
        let Value::Bytes(any) = arguments.value(1, scene)? else { return Ok(Value::Bool(false)) };
        Ok(Value::Bool(arguments.value(0, scene)? == Value::from_any(AnyValue::read(any))))
    }),
    // A string, number or boolean as text; nil for other values.
    function("Scalar", &[TARGET], |arguments, scene| match arguments.value(0, scene)? {
        Value::Nil | Value::Map(_) | Value::List(_) | Value::Bytes(_) => Ok(Value::Nil),
        value => text_of(value, scene.arena).map(Value::String),
    }),
    // Any value as text, or the default. Each signal has one path that uses this, so the text is made once an item.
    function("Text", &[PATH, required("default", Kind::Text)], |arguments, scene| {
        match arguments.value(0, scene)? {
            Value::Nil if arguments.target(0)?.has(scene.sight) => return Ok(Value::String(&[])),
            Value::Nil => return arguments.value(1, scene),
            value if scene.cache.is_empty() => scene.cache = text_of(value, scene.arena)?,
            _ => {}
        }
        Ok(Value::String(scene.cache))
    }),
];

fn text_of<'a>(value: Value<'a>, arena: &'a Arena) -> Result<&'a [u8], Fault> {
    let mut made = Vec::new();
    match value {
        Value::String(text) => return Ok(text),
        // Without an exponent, unlike everywhere else.
        Value::Double(value) if value.is_finite() => made.extend_from_slice(value.to_string().as_bytes()),
        value => value.put_as_string(&mut made),
    }
    arena.keep(&made)
}

/// For each signal the condition that items must meet (`None` if all do), or why the signal cannot be matched.
pub(super) type Meant = [Result<Option<Arc<Group>>, String>; 3];

/// Conditions that an item must all meet, each with the signals that it applies to.
type Terms = Vec<(&'static [Signal], String)>;

/// Reads `include` and `exclude`.
pub(crate) fn decode(section: &Section) -> Meant {
    let [include, exclude] = ["include", "exclude"].map(|key| section.section(key).map(terms));
    let functions = [&[FUNCTIONS], functions::FILTER].concat();
    let key = if include.is_some() { "include" } else { "exclude" };
    Signal::ALL.map(|signal| {
        include.iter().chain(&exclude).try_for_each(|terms| check(terms, signal))?;
        let all = |terms: &Terms| terms.iter().map(|(_, term)| term.as_str()).collect::<Vec<_>>().join(" and ");
        let include = include.as_ref().map(all);
        let exclude = exclude.as_ref().map(|terms| format!("not ({})", all(terms)));
        let text = include.into_iter().chain(exclude).collect::<Vec<_>>().join(" and ");
        if text.is_empty() {
            return Ok(None);
        }
        let texts = [Text { key, text, place: section.place(key), is_statement: false }];
        let group = Group::read(section, &texts, Some(context(signal)), &[], &functions, ErrorMode::Propagate);
        Ok(group.map(Arc::new))
    })
}

fn terms(section: Section) -> Terms {
    let kind = section.choice("match_type", None, &Match::CHOICES);
    if kind.is_none() && !section.has("match_type") {
        let message = "error creating processor: unrecognized match_type: '', valid types are: [regexp strict]";
        section.problem_with_help("match_type", message, "write `match_type: strict`");
    }
    let kind = kind.unwrap_or(Match::Strict);
    let attribute = |item: Section, map: &str| {
        let name = item.text("key").or_else(|| item.missing("key"))?;
        let path = format!("{map}[{}]", literal(&name));
        let Some(node) = item.node("value").filter(|node| !node.is_null()) else {
            return Some(format!("Has({path})"));
        };
        if kind == Match::Strict {
            let digits: String = encoded(node).iter().map(|byte| format!("{byte:02x}")).collect();
            return Some(format!("Is({path}, 0x{digits})"));
        }
        let Some(text) = node.as_text() else {
            let message = format!("match_type=regexp for \"{name}\" only supports Str");
            item.problem_with_help("value", message, "put it in quotes");
            return None;
        };
        compare(&item, "value", item.place("value"), &format!("Scalar({path})"), text, kind)
    };
    let library = |item: Section| {
        let name = item.text("name").unwrap_or_default();
        let part = |key: &str, path: &str, text: &str| compare(&item, key, item.place(key), path, text, kind);
        let version = item.text("version").and_then(|version| part("version", "scope.version", &version));
        let name = part("name", "scope.name", &name)?;
        Some(name + &version.map(|version| format!(" and {version}")).unwrap_or_default())
    };
    if kind == Match::Strict {
        check_kinds(&section);
    }
    let mut terms = Terms::new();
    if let Some(severity) = section.section("log_severity_number") {
        let min = severity.integer("min", 0, 0..=24);
        let term = matching::at_least(min, severity.boolean("match_undefined", false));
        terms.push((&[Signal::Logs], term));
    }
    for (key, signal, path) in &LISTS {
        terms.extend(texts(&section, key, path, || kind).map(|term| (std::slice::from_ref(signal), term)));
    }
    let items = |key| section.sections(key).into_iter().flatten();
    let of_items: &[Signal] = &[Signal::Logs, Signal::Traces];
    terms.extend(items("attributes").filter_map(|item| Some((of_items, attribute(item, "attributes")?))));
    terms.extend(
        items("resources").filter_map(|item| Some((&Signal::ALL[..], attribute(item, "resource.attributes")?))),
    );
    terms.extend(items("libraries").filter_map(|item| Some((of_items, library(item)?))));
    section.ignored(&["regexp"]);
    terms
}

/// What a signal can't be matched by, in the Go collector's words.
fn check(terms: &Terms, signal: Signal) -> Result<(), String> {
    let (foreign, missing) = match signal {
        Signal::Traces => (
            "log_bodies, log_severity_texts, log_severity_number and metric_names should not be specified for trace spans",
            NO_SPAN_KEY,
        ),
        Signal::Logs => (
            "services, span_names, span_kinds and metric_names are not valid for log records",
            "at least one of \"attributes\", \"libraries\", \"span_kinds\", \"resources\", \"log_bodies\", \"log_severity_texts\" or \"log_severity_number\" field must be specified",
        ),
        Signal::Metrics => (
            "\"span_names\", \"span_kinds\", \"log_bodies\", \"log_severity_texts\", \"log_severity_number\", \"services\", \"attributes\" and \"libraries\" are not valid for metrics",
            "at least one of \"metric_names\" or \"resources\" field must be specified",
        ),
    };
    match terms.iter().any(|(signals, _)| !signals.contains(&signal)) {
        true => Err(foreign.to_owned()),
        false if terms.is_empty() => Err(missing.to_owned()),
        false => Ok(()),
    }
}
