//! Describes a condition in plain words, so users see what their rules do: `whose severity is below INFO`. Complex
//! conditions are quoted as written.

use crate::otlp::schema::SEVERITIES;

use super::syntax::{Call, Comparison, Field, Node, Operator, Syntax};

/// The items that a condition selects: `logs whose severity is below INFO`. `text` is the condition as written.
pub fn items(items: &str, condition: &Node, text: &str) -> String {
    match clauses(condition) {
        Some(clauses) if clauses.is_empty() => format!("all {items}"),
        Some(clauses) => format!("{items} {clauses}"),
        None => format!("{items} where {text}"),
    }
}

fn clauses(condition: &Node) -> Option<String> {
    let joined = |terms: &[Node], word: &str| {
        let terms: Option<Vec<_>> = terms.iter().map(clause).collect();
        Some(terms?.join(word))
    };
    match &condition.syntax {
        Syntax::Bool(true) => Some(String::new()),
        Syntax::All(terms) => joined(terms, " and "),
        Syntax::Any(terms) => joined(terms, " or "),
        _ => clause(condition),
    }
}

/// `whose name is "x"`
fn clause(condition: &Node) -> Option<String> {
    let (condition, negated) = match &condition.syntax {
        Syntax::Not(inner) => (&**inner, true),
        _ => (condition, false),
    };
    match &condition.syntax {
        Syntax::Compare(sides) => {
            let (left, comparison, right) = &**sides;
            let (left, comparison, right) = match subject(left) {
                Some(left) => (left, *comparison, right),
                None => (subject(right)?, turned(*comparison), left),
            };
            let comparison = if negated { opposite(comparison)? } else { comparison };
            let verb = match (&right.syntax, comparison) {
                (Syntax::Nil, Comparison::Equal) => return Some(format!("without {left}")),
                (Syntax::Nil, Comparison::NotEqual) => return Some(format!("with {left}")),
                (_, Comparison::Equal) => "is",
                (_, Comparison::NotEqual) => "is not",
                (_, Comparison::Less) => "is below",
                (_, Comparison::LessOrEqual) => "is at most",
                (_, Comparison::Greater) => "is above",
                (_, Comparison::GreaterOrEqual) => "is at least",
            };
            Some(format!("whose {left} {verb} {}", object(right, &left)?))
        }
        Syntax::Call(Call { name, arguments, keys, .. }) if keys.is_empty() => {
            let subject = subject(&arguments.first()?.value)?;
            let (yes, no) = match name.as_str() {
                "IsMatch" => ("matches", "does not match"),
                "HasPrefix" => ("starts with", "does not start with"),
                "HasSuffix" => ("ends with", "does not end with"),
                "ContainsValue" => ("contains", "does not contain"),
                "IsString" => ("is text", "is not text"),
                "IsMap" => ("is a map", "is not a map"),
                "IsEmpty" => ("is empty", "is not empty"),
                _ => return None,
            };
            let verb = if negated { no } else { yes };
            match arguments.as_slice() {
                [_] => Some(format!("whose {subject} {verb}")),
                [_, other] => Some(format!("whose {subject} {verb} {}", object(&other.value, &subject)?)),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The noun for a path. Attributes are named by their key.
fn subject(node: &Node) -> Option<String> {
    let fields = match &node.syntax {
        Syntax::Path(fields) => fields,
        Syntax::Math(end, rest) => {
            let is = |node: &Node, wanted: &str| matches!(&node.syntax, Syntax::Path(path) if path.last().is_some_and(|field| field.name.starts_with(wanted)));
            let is_duration = matches!(rest.as_slice(), [(Operator::Subtract, start)] if is(end, "end_time") && is(start, "start_time"));
            return is_duration.then(|| "duration".to_owned());
        }
        _ => return None,
    };
    let (last, before) = fields.split_last()?;
    let before: Vec<&str> = before.iter().map(|field| field.name.as_str()).collect();
    let (owner, before) = match before.as_slice() {
        ["resource", rest @ ..] => ("resource ", rest),
        ["scope" | "instrumentation_scope", rest @ ..] => ("scope ", rest),
        ["log" | "span" | "metric" | "datapoint" | "spanevent", rest @ ..] => ("", rest),
        rest => ("", rest),
    };
    let name = match (last.name.as_str(), last.keys.as_slice()) {
        ("attributes", [key, rest @ ..]) => format!("{}{}", bare(key)?, indexes(rest)?),
        ("severity_number", []) => "severity".to_owned(),
        (name, keys) => format!("{}{}", name.replace('_', " "), indexes(keys)?),
    };
    let has_keys = |field: &Field| !field.keys.is_empty();
    let (_, others) = fields.split_last()?;
    match (before, others.iter().any(has_keys), last.name.as_str()) {
        (_, true, _) => None,
        ([], ..) => Some(format!("{owner}{name}")),
        ([first], _, "string") => Some(format!("{owner}{}", first.replace('_', " "))),
        ([first], ..) => Some(format!("{owner}{} {name}", first.replace('_', " "))),
        _ => None,
    }
}

fn bare(key: &Node) -> Option<String> {
    match &key.syntax {
        Syntax::String(text) => Some(String::from_utf8_lossy(text).into_owned()),
        _ => None,
    }
}

fn indexes(keys: &[Node]) -> Option<String> {
    keys.iter().map(|key| Some(format!("[{}]", object(key, "")?))).collect()
}

/// The right side of a comparison.
fn object(node: &Node, subject: &str) -> Option<String> {
    Some(match &node.syntax {
        Syntax::String(text) => format!("\"{}\"", String::from_utf8_lossy(text)),
        Syntax::Int(number) if subject == "severity" => severity(*number).unwrap_or_else(|| number.to_string()),
        Syntax::Int(number) => number.to_string(),
        Syntax::Float(number) => number.to_string(),
        Syntax::Bool(value) => value.to_string(),
        Syntax::Enum(name) => {
            let prefixes =
                ["SEVERITY_NUMBER_", "SPAN_KIND_", "STATUS_CODE_", "METRIC_DATA_TYPE_", "AGGREGATION_TEMPORALITY_"];
            prefixes.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name).to_owned()
        }
        Syntax::Call(call) if call.name == "Duration" => bare(&call.arguments.first()?.value)?,
        Syntax::Path(_) => format!("its {}", self::subject(node)?),
        _ => return None,
    })
}

fn severity(number: i64) -> Option<String> {
    let (_, names) = SEVERITIES;
    let number = usize::try_from(number).ok().filter(|number| *number > 0)?;
    names.get(number).map(|name| (*name).to_owned())
}

/// The comparison with its sides swapped.
fn turned(comparison: Comparison) -> Comparison {
    match comparison {
        Comparison::Less => Comparison::Greater,
        Comparison::LessOrEqual => Comparison::GreaterOrEqual,
        Comparison::Greater => Comparison::Less,
        Comparison::GreaterOrEqual => Comparison::LessOrEqual,
        same => same,
    }
}

/// Only equality has an opposite: for values of different types, both `<` and `>=` are false.
fn opposite(comparison: Comparison) -> Option<Comparison> {
    match comparison {
        Comparison::Equal => Some(Comparison::NotEqual),
        Comparison::NotEqual => Some(Comparison::Equal),
        _ => None,
    }
}
