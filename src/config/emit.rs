//! Writes a tree as YAML, indented like the Go collector's `print-config`, and as JSON.

use super::tree::{Node, Value};
use super::yaml::resolve;
use crate::diagnostics::escape::safe;

pub fn yaml(node: &Node) -> String {
    let mut out = String::new();
    block(node, 0, &mut out);
    out.trim_start().to_owned() + "\n"
}

pub fn json(node: &Node) -> String {
    serde_json::to_string_pretty(&json_value(node)).expect("a tree of plain values can be written")
}

/// Writes the lines of a list or map, each after a line break. Any other value continues the current line.
fn block(node: &Node, indent: usize, out: &mut String) {
    match &node.value {
        Value::Map(entries) if !entries.is_empty() => {
            for entry in entries {
                out.push_str(&format!("\n{:indent$}{}:", "", text(&entry.key)));
                block(&entry.node, indent + 4, out);
            }
        }
        Value::List(list) if !list.is_empty() => {
            for item in list {
                out.push_str(&format!("\n{:indent$}-", ""));
                let mut inner = String::new();
                block(item, indent + 2, &mut inner);
                // A map in a list starts on the line of the dash.
                let inner = inner.strip_prefix('\n').map_or(inner.clone(), |rest| format!(" {}", rest.trim_start()));
                out.push_str(&inner);
            }
        }
        value => out.push_str(&format!(" {}", scalar(value))),
    }
}

pub(super) fn scalar(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Float(value) if value.is_nan() => ".nan".into(),
        Value::Float(value) if value.is_infinite() => if *value > 0.0 { ".inf" } else { "-.inf" }.into(),
        Value::Float(value) => value.to_string(),
        Value::Text(value) => text(value),
        Value::List(_) => "[]".into(),
        Value::Map(_) => "{}".into(),
    }
}

/// The text without quotes if it reads back as the same text, else in quotes.
pub(crate) fn text(text: &str) -> String {
    if safe(text) != text || !matches!(resolve(text), Value::Text(_)) {
        return escaped(text);
    }
    let looks_like_a_date = text.bytes().take(4).all(|byte| byte.is_ascii_digit()) && text.get(4..5) == Some("-");
    let special = text.starts_with(|c: char| " -?:,[]{}#&*!|>'\"%@`".contains(c))
        || text.ends_with([' ', ':'])
        || [": ", " #"].iter().any(|part| text.contains(part))
        || ["<<", "=", "y", "n", "yes", "no", "on", "off"].iter().any(|word| text.eq_ignore_ascii_case(word));
    if special || looks_like_a_date { format!("'{}'", text.replace('\'', "''")) } else { text.to_owned() }
}

/// The text in double quotes. The escapes that `safe` writes are also escapes of YAML.
pub(crate) fn escaped(text: &str) -> String {
    format!("\"{}\"", safe(&text.replace('\\', "\\\\").replace('"', "\\\"")))
}

pub fn json_value(node: &Node) -> serde_json::Value {
    match &node.value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Int(value) => (*value).into(),
        Value::Float(value) => (*value).into(),
        Value::Text(value) => value.as_str().into(),
        Value::List(list) => list.iter().map(json_value).collect(),
        Value::Map(entries) => entries.iter().map(|entry| (entry.key.clone(), json_value(&entry.node))).collect(),
    }
}
