//! What a refused condition was meant to say. It is read as other query languages write it and as shells leave it
//! (bare words, `=`, `contains`, dotted attributes, no quotes), and written in OTTL. The result is a proposal in the
//! help of an error, and never decides what a condition means.

pub(super) mod names;
mod words;

use super::advice::escaped;
use super::enums;
use super::parser;
use names::{Kind, Name};
use words::{Operator, Word, words};

/// Longer texts get no proposal.
const LONGEST: usize = 2000;
/// Contexts to name where a path must name one.
const PREFIXES: [&str; 6] = ["", "log.", "span.", "metric.", "datapoint.", "spanevent."];
pub(super) const ERRORS: [&str; 4] = ["error", "errors", "failed", "failure"];
pub(super) const IS_ERROR: [&str; 2] = ["severity_number >= SEVERITY_NUMBER_ERROR", "status.code == STATUS_CODE_ERROR"];
/// Names of severities elsewhere.
const SEVERITIES: [(&str, &str); 5] =
    [("WARNING", "WARN"), ("ERR", "ERROR"), ("CRITICAL", "FATAL"), ("PANIC", "FATAL"), ("INFORMATION", "INFO")];

/// The conditions that may be meant, best first: only those that `is_right` accepts.
pub(crate) fn conditions(text: &str, is_right: impl Fn(&str) -> bool) -> Vec<String> {
    if text.len() > LONGEST {
        return Vec::new();
    }
    let words = words(text);
    for prefix in PREFIXES {
        let mut found = proposals(text, &words, prefix);
        found.retain(|proposal| is_right(proposal));
        if !found.is_empty() {
            return found;
        }
    }
    Vec::new()
}

/// The place of the words themselves among the conditions that may be meant: words that mean a condition, such as
/// ERROR, are proposed as this condition first.
pub(crate) fn place_of_text(meant: &[String]) -> usize {
    let is_condition = meant.first().is_some_and(|meant| !meant.starts_with("IsMatch("));
    if is_condition { meant.len() } else { 0 }
}

/// Whether a text is words to look for, not a comparison.
pub(crate) fn is_text(text: &str) -> bool {
    words(text).iter().all(|(word, _)| match word {
        Word::Text(_) => true,
        Word::Name(name) => name.keys.is_empty() && !name.text.contains(['[', ']', '{', '}', ',']),
        _ => false,
    })
}

type Words<'t> = [(Word<'t>, std::ops::Range<usize>)];

fn proposals(text: &str, words: &Words, prefix: &str) -> Vec<String> {
    let is_joint = |word: &Word| matches!(word, Word::Logic(_) | Word::Open | Word::Close);
    if !words.iter().any(|(word, _)| is_joint(word)) {
        return term(text, words, prefix);
    }
    let mut out = String::new();
    for run in words.chunk_by(|(one, _), (other, _)| !is_joint(one) && !is_joint(other)) {
        let piece = match run {
            [(Word::Logic(word), _)] => (*word).to_owned(),
            [(Word::Open, _)] => "(".to_owned(),
            [(Word::Close, _)] => ")".to_owned(),
            words => match term(text, words, prefix).into_iter().next() {
                Some(term) => term,
                None => return Vec::new(),
            },
        };
        let is_close = piece == ")" || out.is_empty() || out.ends_with('(');
        out.push_str(if is_close { "" } else { " " });
        out.push_str(&piece);
    }
    vec![out]
}

/// The source of some words.
fn source<'t>(text: &'t str, words: &Words) -> &'t str {
    let (first, last) = (words.first().map_or(0, |(_, span)| span.start), words.last().map_or(0, |(_, span)| span.end));
    text.get(first..last).unwrap_or_default()
}

/// A term without `and`, `or`, `not` and parentheses.
fn term(text: &str, words: &Words, prefix: &str) -> Vec<String> {
    let Some(at) = words.iter().position(|(word, _)| matches!(word, Word::Operator(_))) else {
        return alone(text, words, prefix);
    };
    let (Some(left), Some((Word::Operator(operator), _)), Some(right)) =
        (words.get(..at), words.get(at), words.get(at + 1..))
    else {
        return Vec::new();
    };
    if left.is_empty() || right.is_empty() {
        return Vec::new();
    }
    let value = match right {
        [(Word::Text(text), _)] => Value::Text(text),
        [(Word::Call(call), _)] => Value::Literal(call),
        [(Word::Name(name), _)] if name.keys.is_empty() && is_literal(name.text) => Value::Literal(name.text),
        // A bare word with a dash is text, and no difference of two paths.
        words if is_expression(text, words) => Value::Literal(source(text, words)),
        words => Value::Text(source(text, words)),
    };
    let name = match left {
        [(Word::Name(name), _)] if ERRORS.contains(&name.text) && value == Value::Literal("true") => {
            return is_error(prefix);
        }
        [(Word::Name(name), _)] => name.resolve(prefix),
        words if parser::value(source(text, words)).is_ok() => {
            let text = source(text, words);
            let kind = if text.contains("time") { Kind::Duration } else { Kind::Plain };
            Name { path: text.to_owned(), kind, example: "" }
        }
        _ => return Vec::new(),
    };
    vec![compared(&name, *operator, value)]
}

/// A value as it is written: as OTTL, or as text.
#[derive(Clone, Copy, PartialEq)]
enum Value<'t> {
    Literal(&'t str),
    Text(&'t str),
}

fn is_expression(text: &str, words: &Words) -> bool {
    let is_bare = matches!(words, [(Word::Name(name), _)] if name.keys.is_empty());
    !is_bare && parser::value(source(text, words)).is_ok_and(|node| !node.children().is_empty())
}

fn is_literal(text: &str) -> bool {
    ["true", "false", "nil"].contains(&text) || text.parse::<i64>().is_ok() || text.parse::<f64>().is_ok()
}

fn compared(name: &Name, operator: Operator, value: Value) -> String {
    let path = name.path.as_str();
    let (Value::Literal(written) | Value::Text(written)) = value;
    let comparison = match operator {
        Operator::Compare(comparison) => comparison,
        Operator::Match { is_wanted, before, after, is_pattern } => {
            let pattern =
                if is_pattern { written.trim_matches('%').replace('%', ".*") } else { regex::escape(written) };
            let not = if is_wanted { "" } else { "not " };
            return format!("{not}IsMatch({path}, {})", escaped(&format!("{before}{pattern}{after}")));
        }
    };
    let plain = match value {
        Value::Literal(literal) => literal.to_owned(),
        Value::Text(text) => escaped(text),
    };
    let (comparison, value) = match (name.kind, value) {
        (Kind::Symbol(family), _) if written.starts_with(family) => (comparison, written.to_owned()),
        (Kind::Symbol("SEVERITY_NUMBER_"), Value::Text(text)) => match symbol("SEVERITY_NUMBER_", text) {
            // What is worse is meant as well.
            Some(symbol) => (if comparison == "==" { ">=" } else { comparison }, symbol),
            None => return format!("{} {comparison} {plain}", path.replace("severity_number", "severity_text")),
        },
        (Kind::Symbol(family), Value::Text(text)) => (comparison, symbol(family, text).unwrap_or(plain)),
        (Kind::Symbol("STATUS_CODE_"), Value::Literal(code)) if code.len() == 3 => {
            return format!("attributes[\"http.response.status_code\"] {comparison} {code}");
        }
        (Kind::Duration, Value::Literal(number)) if is_literal(number) => {
            (comparison, format!("Duration(\"{number}ms\")"))
        }
        (Kind::Duration, Value::Text(_)) => (comparison, format!("Duration({plain})")),
        (Kind::Id, _) => (comparison, escaped(&written.to_ascii_lowercase())),
        _ => (comparison, plain),
    };
    format!("{path} {comparison} {value}")
}

fn is_error(prefix: &str) -> Vec<String> {
    IS_ERROR.map(|condition| format!("{prefix}{condition}")).into()
}

/// The symbol of a family that a word means.
fn symbol(family: &str, word: &str) -> Option<String> {
    let word = word.to_ascii_uppercase();
    let word = SEVERITIES.iter().find(|(other, _)| *other == word).map_or(word.as_str(), |(_, ours)| ours);
    let mut known = ["log", "span", "datapoint"].into_iter().flat_map(enums::names);
    known.find(|(name, _)| name.strip_prefix(family) == Some(word)).map(|(name, _)| name)
}

/// A term without a comparison.
fn alone(text: &str, words: &Words, prefix: &str) -> Vec<String> {
    let as_text = |text: &str| format!("IsMatch({prefix}body, {})", escaped(&regex::escape(text)));
    match words {
        [] => Vec::new(),
        [(Word::Call(call), _)] => vec![(*call).to_owned()],
        [(Word::Text(text), _)] => vec![as_text(text)],
        [(Word::Name(name), _)] => {
            let word = name.text.to_ascii_lowercase();
            if ERRORS.contains(&word.as_str()) {
                return is_error(prefix);
            }
            if let Some(symbol) = symbol("SEVERITY_NUMBER_", &word) {
                return vec![format!("{prefix}severity_number >= {symbol}")];
            }
            match name.resolve(prefix) {
                Name { path, example, .. } if !example.is_empty() => vec![format!("{path} {example}")],
                // A word of one part is more often text than the name of an attribute.
                Name { path, .. } if !name.keys.is_empty() => vec![format!("{path} != nil")],
                Name { path, .. } if name.text.contains('.') => vec![format!("{path} != nil"), as_text(name.text)],
                Name { path, .. } if path.ends_with(']') => vec![as_text(name.text)],
                _ => Vec::new(),
            }
        }
        words if is_text(source(text, words)) => {
            vec![as_text(&source(text, words).replace('"', ""))]
        }
        _ => Vec::new(),
    }
}
