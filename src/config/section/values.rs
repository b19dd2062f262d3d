//! Reads a value of each type, or says which type was expected.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::tree::{Node, Value, quoted};
use crate::config::yaml::resolve;
use crate::config::{duration as text_of, emit};

/// A message, and help if there is any.
pub(super) type Fault = (String, Option<String>);

/// Whether a value sets nothing. A tree that was read has a bounded depth.
pub(super) fn says_nothing(node: &Node) -> bool {
    match &node.value {
        Value::Bool(is_on) => !is_on,
        Value::Text(text) => text.is_empty(),
        Value::Map(entries) => entries.iter().all(|entry| says_nothing(&entry.node)),
        _ => node.is_empty(),
    }
}

/// Floats from here on represent more than one whole number.
const ROUNDED: f64 = (1_u64 << f64::MANTISSA_DIGITS) as f64;

pub(super) fn expected(wanted: &str, node: &Node) -> Fault {
    let resolved = if let Value::Text(text) = &node.value { resolve(text) } else { Value::Null };
    let help = match (&node.value, &resolved, wanted) {
        (Value::Bool(_) | Value::Int(_) | Value::Float(_), _, "text") => Some("put it in quotes"),
        (_, Value::Bool(_), "true or false")
        | (_, Value::Int(_), "a whole number")
        | (_, Value::Int(_) | Value::Float(_), "a number") => Some("write it without quotes"),
        (Value::Text(text), _, "true or false") => match text.to_ascii_lowercase().as_str() {
            "yes" | "on" => Some("write true"),
            "no" | "off" => Some("write false"),
            _ => None,
        },
        _ => None,
    };
    let found = match (&node.value, &node.text) {
        (Value::Text(text), _) => quoted(text),
        (Value::Null | Value::List(_) | Value::Map(_), _) => node.kind().to_owned(),
        // As it is written: only this form of a secret is withheld from messages.
        (_, Some(written)) => quoted(written),
        (Value::Float(value), _) if value.abs() >= ROUNDED => node.kind().to_owned(),
        (value, _) => emit::scalar(value),
    };
    (format!("expected {wanted}, found {found}"), help.map(str::to_owned))
}

/// The same for a secret, without its value.
pub(super) fn expected_secret(node: &Node) -> Fault {
    (format!("expected text, found {}", node.kind()), Some("put it in quotes".into()))
}

pub(super) fn text(node: &Node) -> Result<String, Fault> {
    node.as_text().map(str::to_owned).ok_or_else(|| expected("text", node))
}

pub(super) fn boolean(node: &Node) -> Result<bool, Fault> {
    match node.value {
        Value::Bool(value) => Ok(value),
        _ => Err(expected("true or false", node)),
    }
}

pub(super) fn integer(node: &Node, range: &RangeInclusive<i64>) -> Result<i64, Fault> {
    match node.value {
        Value::Int(value) => within(value, range),
        Value::Float(value) if value.abs() < 9e15 => within(value as i64, range),
        _ => Err(expected("a whole number", node)),
    }
}

pub(super) fn float(node: &Node, range: &RangeInclusive<f64>) -> Result<f64, Fault> {
    match node.value {
        Value::Int(value) => within(value as f64, range),
        Value::Float(value) => within(value, range),
        _ => Err(expected("a number", node)),
    }
}

pub(super) fn duration(node: &Node) -> Result<Duration, Fault> {
    match &node.value {
        Value::Int(0) => Ok(Duration::ZERO),
        Value::Int(bare) => Err((format!("a duration wants a unit: {bare}s"), None)),
        Value::Float(bare) => Err((format!("a duration wants a unit: {bare}s"), None)),
        Value::Text(text) => text_of::parse(text)
            .map_err(|fault| (format!("{} is not a duration", quoted(text)), Some(fault.to_owned()))),
        _ => Err(expected("a duration, such as 5s", node)),
    }
}

fn within<T: PartialOrd + Display>(value: T, range: &RangeInclusive<T>) -> Result<T, Fault> {
    match (value < *range.start(), range.contains(&value)) {
        (_, true) => Ok(value),
        (true, _) => Err((format!("{value} is too small"), Some(format!("the least is {}", range.start())))),
        (false, _) => Err((format!("{value} is too large"), Some(format!("the most is {}", range.end())))),
    }
}
