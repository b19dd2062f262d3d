//! The match properties of `include` and `exclude`, written out as one OTTL condition: older than OTTL, they
//! say nothing that it can't.

use crate::config::nearest::suggestion;
use crate::config::section::Section;
use crate::config::tree::quoted;
use crate::config::{Node, Place, Value};
use crate::otlp::Signal;
use crate::otlp::schema::SPAN_KINDS;
use crate::ottl::{enums, pattern};

/// The context of the conditions on the items of a signal; on metrics, not on their data points.
pub(super) fn context(signal: Signal) -> &'static str {
    match signal {
        Signal::Logs => "log",
        Signal::Metrics => "metric",
        Signal::Traces => "span",
    }
}

pub(super) const NO_SPAN_KEY: &str = "at least one of \"services\", \"span_names\", \"span_kinds\", \"attributes\", \"libraries\" or \"resources\" field must be specified";
const SPAN_KEYS: [&str; 6] = ["services", "span_names", "span_kinds", "attributes", "libraries", "resources"];

/// What is compared as it stands has to be one of them.
pub(super) fn check_kinds(section: &Section) {
    let known: Vec<String> = SPAN_KINDS.1.iter().map(|kind| format!("{}{kind}", SPAN_KINDS.0)).collect();
    for (kind, place) in section.items("span_kinds").unwrap_or_default() {
        if !known.iter().skip(1).any(|known| *known == kind) {
            let message = "span_kinds string must match one of the standard span kinds when match_type=strict";
            let help = suggestion(&kind, known.iter().map(String::as_str), "they are");
            section.problem_at(place, "span_kinds", message, help);
        }
    }
}

/// How a text is compared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    Strict,
    Regexp,
}

impl Match {
    pub(super) const CHOICES: [(&str, Option<Match>); 2] =
        [("strict", Some(Match::Strict)), ("regexp", Some(Match::Regexp))];
}

/// The condition under which an item is meant, by `include` or by `exclude`; none without properties, or when one was refused.
pub(super) fn condition(section: &Section, signal: Signal, excludes: bool) -> Option<String> {
    let given = section.choice("match_type", None, &Match::CHOICES);
    // Numbers are compared in one way only.
    let kind = || given.or_else(|| section.missing("match_type")).unwrap_or(Match::Strict);
    section.ignored(&["regexp"]);
    let texts = |key, path: &str| texts(section, key, path, kind);
    let attributes = |key, path: &str| {
        let sections = section.sections(key).unwrap_or_default();
        sections.into_iter().filter_map(|item| attribute(&item, path, kind())).collect::<Vec<_>>()
    };
    let mut terms: Vec<String> = Vec::new();
    match signal {
        Signal::Logs => {
            terms.extend(texts("bodies", "log.body.string"));
            terms.extend(texts("severity_texts", "log.severity_text"));
            terms.extend(section.section("severity_number").and_then(|section| severity(&section)));
            terms.extend(attributes("record_attributes", "log.attributes"));
            terms.extend(attributes("resource_attributes", "resource.attributes"));
        }
        Signal::Traces => {
            let service = "Coalesce([resource.attributes[\"service.name\"], \"<nil-service-name>\"])";
            terms.extend(texts("services", service));
            terms.extend(texts("span_names", "span.name"));
            terms.extend(texts("span_kinds", "span.kind.deprecated_string"));
            if given == Some(Match::Strict) {
                check_kinds(section);
            }
            for library in section.sections("libraries").unwrap_or_default() {
                let term = |key, path| compare(&library, key, library.place(key), path, &library.text(key)?, kind());
                terms.extend(term("name", "scope.name").or_else(|| library.missing("name")));
                terms.extend(term("version", "scope.version"));
            }
            terms.extend(attributes("attributes", "span.attributes"));
            terms.extend(attributes("resources", "resource.attributes"));
            if !SPAN_KEYS.iter().any(|key| section.has(key)) {
                section.problem("match_type", NO_SPAN_KEY);
            }
        }
        Signal::Metrics => {
            // They are for `match_type: expr` alone.
            section.ignored(&["expressions"]);
            terms.extend(texts("metric_names", "metric.name"));
            terms.extend(attributes("resource_attributes", "resource.attributes"));
        }
    }
    // A metric that is excluded for its resource need not have the name as well, as in the Go collector.
    let join = if excludes && signal == Signal::Metrics { " or " } else { " and " };
    (!terms.is_empty()).then(|| terms.join(join))
}

/// Any of a list of texts.
pub(super) fn texts(section: &Section, key: &str, path: &str, kind: impl Fn() -> Match) -> Option<String> {
    let texts = section.items(key).unwrap_or_default();
    let terms = texts.iter().filter_map(|(text, place)| compare(section, key, *place, path, text, kind()));
    match terms.collect::<Vec<_>>().as_slice() {
        [] => None,
        [term] => Some(term.clone()),
        terms => Some(format!("({})", terms.join(" or "))),
    }
}

pub(super) fn compare(
    section: &Section,
    key: &str,
    place: Place,
    path: &str,
    text: &str,
    kind: Match,
) -> Option<String> {
    if kind == Match::Strict {
        return Some(format!("{path} == {}", literal(text)));
    }
    if let Err(why) = pattern::compile(text) {
        section.problem_at(place, key, format!("{} is not a regular expression", quoted(text)), Some(why));
        return None;
    }
    Some(format!("IsMatch({path}, {})", literal(text)))
}

fn attribute(item: &Section, map: &str, kind: Match) -> Option<String> {
    let key = item.text("key").or_else(|| item.missing("key"))?;
    let path = format!("{map}[{}]", literal(&key));
    let value = item.node("value").map(|node: &Node| &node.value);
    Some(match (value, kind) {
        (None | Some(Value::Null), _) => format!("{path} != nil"),
        (Some(Value::Text(text)), Match::Strict) => compare(item, "value", item.place("value"), &path, text, kind)?,
        (Some(Value::Text(text)), Match::Regexp) => {
            let is_scalar = ["IsString", "IsInt", "IsDouble", "IsBool"].map(|is| format!("{is}({path})"));
            let matches = compare(item, "value", item.place("value"), &path, text, kind)?;
            format!("(({}) and {matches})", is_scalar.join(" or "))
        }
        (Some(_), Match::Regexp) => {
            item.problem_with_help("value", "a regular expression is text", "put it in quotes");
            return None;
        }
        (Some(Value::Bool(value)), _) => format!("{path} == {value}"),
        (Some(Value::Int(value)), _) => format!("(IsInt({path}) and {path} == {value})"),
        (Some(Value::Float(value)), _) => format!("(IsDouble({path}) and {path} == {value:?})"),
        (Some(Value::List(_) | Value::Map(_)), _) => {
            item.problem("value", "only text, numbers, true and false can be compared here");
            return None;
        }
    })
}

fn severity(section: &Section) -> Option<String> {
    let undefined = section.boolean("match_undefined", false);
    let min = section.text_or("min", "");
    let name = format!("SEVERITY_NUMBER_{}", min.to_ascii_uppercase());
    let number = min.parse().ok().filter(|number| (1..=24).contains(number)).or_else(|| enums::value("log", &name));
    let Some(number) = number.or_else(|| min.is_empty().then_some(0)) else {
        section.problem("min", format!("'{min}' is not a valid severity"));
        return None;
    };
    Some(at_least(number, undefined))
}

/// A severity from this one on, and one that is undefined.
pub(super) fn at_least(number: i64, undefined: bool) -> String {
    match undefined {
        true => format!("(log.severity_number >= {number} or log.severity_number == 0)"),
        false => format!("log.severity_number >= {}", number.max(1)),
    }
}

/// A text as OTTL writes it.
pub(super) fn literal(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
