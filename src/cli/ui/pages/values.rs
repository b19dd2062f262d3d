//! Attributes and other values of telemetry, as text. Long ones are folded, and all is within a bound.

use maud::{Markup, html};

use super::address;
use crate::diagnostics::escape::safe;
use crate::exporters::debug::layout::word;
use crate::exporters::debug::value;
use crate::otlp::views::{AnyValue, KeyValue, Repeated};
use crate::ottl::advice::escaped;

/// Attributes in one table.
const ROWS: usize = 100;
/// The bytes of a value that are shown.
const MOST: usize = 16 << 10;
/// The columns of a name or a key that are shown.
const NAME: usize = 200;
/// Up to this many bytes a value is shown in its line; up to the second number, in a block that is open.
const SHORT: usize = 300;
const OPEN: usize = 4000;
/// Longer conditions are not proposed.
pub(super) const LONGEST: usize = 500;

/// A table of attributes. With the path of their map in conditions, such as `span.attributes`, each links to the
/// requests, or to the log records, that have it.
pub(super) fn attributes(caption: &str, path: Option<&str>, attributes: &Repeated<'_>) -> Markup {
    table(caption, path, attributes.clone().map(KeyValue::read))
}

/// The same of some attributes.
pub(super) fn table<'a>(
    caption: &str,
    path: Option<&str>,
    attributes: impl Iterator<Item = KeyValue<'a>> + Clone,
) -> Markup {
    let count = attributes.clone().count();
    let more = count.saturating_sub(ROWS);
    let is_of_logs = path.is_some_and(|path| path.starts_with("log."));
    let (screen, title) = if is_of_logs { ("/logs", "log records with this") } else { ("/", "requests with this") };
    html! {
        @if count > 0 {
            table class="values" {
                caption { (caption) }
                tbody {
                    @for KeyValue { key, value } in attributes.take(ROWS) {
                        tr {
                            th scope="row" { (name(key)) }
                            td { (shown(value)) }
                            td {
                                @if let Some(condition) = path.and_then(|path| condition(path, key, value)) {
                                    a href=(address(screen, &[("q", &condition)])) title=(title)
                                        aria-label={ (title) " " (name(key)) } { "find" }
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
    let (text, is_cut) = value::full(value, MOST);
    html! { (folded(&self::text(text.as_bytes()), is_cut)) " " span class="faint" { (kind) } }
}

/// A text with its lines.
pub(super) fn long(bytes: &[u8]) -> Markup {
    let shown = bytes.get(..MOST).unwrap_or(bytes);
    folded(&text(shown), shown.len() < bytes.len())
}

/// A long text is folded.
fn folded(text: &str, is_cut: bool) -> Markup {
    html! {
        @if text.len() <= SHORT && !text.contains('\n') {
            span class="value" { (text) }
        } @else if text.len() <= OPEN {
            pre tabindex="0" { (text) }
        } @else {
            details {
                summary { (text.chars().take(SHORT / 2).collect::<String>()) "…" }
                pre tabindex="0" { (text) }
            }
        }
        @if is_cut { p class="note" { "Cut after " (MOST >> 10) " KiB: the request as OTLP/JSON has the rest." } }
    }
}

/// A name on one line, or as much of it as can be shown.
pub(super) fn name(bytes: &[u8]) -> String {
    word(NAME, bytes)
}

/// Text of telemetry with its lines, safe to show.
fn text(bytes: &[u8]) -> String {
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
