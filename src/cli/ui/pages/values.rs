//! Attributes and other values of telemetry, as text. Long ones are folded, and all is within a bound.

use maud::{Markup, html};

use super::address;
use crate::diagnostics::columns::counted;
use crate::diagnostics::escape::safe;
use crate::exporters::debug::value;
use crate::otlp::schema::list;
use crate::otlp::views::{AnyValue, KeyValue, Repeated};
use crate::ottl::advice::escaped;

/// Attributes in one table.
const ROWS: usize = 200;
/// The bytes of a value that are shown.
const MOST: usize = 64 << 10;
/// Up to this many bytes a value is shown in its line; up to the second number, in a block that is open.
const SHORT: usize = 300;
const OPEN: usize = 4000;
/// Longer conditions are not proposed.
const LONGEST: usize = 500;

/// A table of attributes. With the path of their map in conditions, such as `span.attributes`, each links to the
/// requests that have it.
pub(super) fn attributes(caption: &str, path: Option<&str>, attributes: &Repeated<'_>) -> Markup {
    let more = attributes.len().saturating_sub(ROWS);
    html! {
        @if !attributes.is_empty() {
            table class="values" {
                caption { (caption) }
                tbody {
                    @for KeyValue { key, value } in attributes.clone().take(ROWS).map(KeyValue::read) {
                        tr {
                            th scope="row" { (text(key)) }
                            td { (shown(value)) }
                            td {
                                @if let Some(condition) = path.and_then(|path| condition(path, key, value)) {
                                    a href=(address("/", &[("q", &condition)])) title="requests with this"
                                        aria-label={ "requests with this " (text(key)) } { "≡" }
                                }
                            }
                        }
                    }
                }
            }
            @if more > 0 { p class="note" { "and " (more) " more" } }
        }
    }
}

/// A value with its type, unless that is a string.
pub(super) fn shown(value: AnyValue<'_>) -> Markup {
    let kind = match value {
        AnyValue::String(text) => return long(text),
        AnyValue::Empty => "empty",
        AnyValue::Bool(_) => "bool",
        AnyValue::Int(_) => "int",
        AnyValue::Double(_) => "double",
        AnyValue::Array(_) => "list",
        AnyValue::Map(_) => "map",
        AnyValue::Bytes(_) => "bytes",
    };
    let (size, count) = match value {
        AnyValue::Array(items) | AnyValue::Map(items) => (items.len(), Repeated::of(items, list::VALUES).len()),
        AnyValue::Bytes(bytes) => (bytes.len(), 0),
        _ => (0, 0),
    };
    // Its text may be several times as long as its encoding.
    let text = if size > MOST { None } else { value::plain(value, 4 * MOST) };
    html! {
        @match text {
            Some(text) => (long(text.as_bytes())),
            None if count > 0 => span class="faint" { "(" (counted(count, "value")) ")" },
            None => span class="faint" { "(" (counted(size, "byte")) ")" },
        }
        " " span class="faint" { (kind) }
    }
}

/// A text with its lines. A long one is folded.
pub(super) fn long(bytes: &[u8]) -> Markup {
    let shown = bytes.get(..MOST).unwrap_or(bytes);
    let all = text(shown);
    let left = bytes.len() - shown.len();
    html! {
        @if all.len() <= SHORT && !all.contains('\n') {
            span class="value" { (all) }
        } @else if all.len() <= OPEN {
            pre tabindex="0" { (all) }
        } @else {
            details {
                summary { (all.chars().take(SHORT / 2).collect::<String>()) "…" }
                pre tabindex="0" { (all) }
                @if left > 0 { p class="note" { (counted(left, "byte")) " more: the request as OTLP/JSON has them" } }
            }
        }
    }
}

/// Text of telemetry with its lines, safe to show.
pub(super) fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let line = |line: &str| safe(&line.trim_end_matches('\r').replace('\t', "    "));
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

/// The OTTL condition that an attribute has this value, if it is short and has such a condition.
fn condition(path: &str, key: &[u8], value: AnyValue<'_>) -> Option<String> {
    let value = match value {
        AnyValue::String(text) if text.len() <= LONGEST => escaped(std::str::from_utf8(text).ok()?),
        AnyValue::Int(number) => number.to_string(),
        AnyValue::Bool(is_true) => is_true.to_string(),
        _ => return None,
    };
    let key = std::str::from_utf8(key).ok().filter(|key| key.len() <= LONGEST)?;
    Some(format!("{path}[{}] == {value}", escaped(key)))
}
