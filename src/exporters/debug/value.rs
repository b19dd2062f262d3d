//! Attribute values as text: strings plainly, lists and maps as the JSON that Go's encoder writes, keys sorted.

use super::text::Text;
use crate::otlp::number;
use crate::otlp::schema::list;
use crate::otlp::views::{AnyValue, KeyValue, Repeated};

/// The door refuses deeper values; what is deeper on unchecked bytes prints as `null`.
const MAX_DEPTH: usize = 64;
/// So many different keys are sorted, of a map and those around it; a map that has more is written as the number of its pairs.
const KEYS: usize = 16_384;
/// Room that is not given back.
const SMALL: usize = 32;

/// The value alone, as in `key=value`.
#[inline]
pub fn put_plain(text: &mut Text<'_, '_>, value: AnyValue<'_>) {
    match value {
        AnyValue::String(string) => text.text(string),
        AnyValue::Empty => {}
        AnyValue::Bool(true) => text.raw("true"),
        AnyValue::Bool(false) => text.raw("false"),
        AnyValue::Int(n) => number::put_int(text.to.out, n),
        AnyValue::Double(value) => number::put_double(text.to.out, value),
        AnyValue::Bytes(bytes) => text.base64(bytes),
        AnyValue::Array(_) | AnyValue::Map(_) => {
            // A number that JSON does not have makes Go's encoder give up, and the text empty.
            if is_finite(value, 1) || is_json(value, 1, 0) {
                put_json(text, value, 1);
            }
        }
    }
}

/// `Type(value)`.
#[inline]
pub fn put_typed(text: &mut Text<'_, '_>, value: AnyValue<'_>) {
    text.raw(match value {
        AnyValue::String(_) => "Str(",
        AnyValue::Empty => "Empty(",
        AnyValue::Bool(_) => "Bool(",
        AnyValue::Int(_) => "Int(",
        AnyValue::Double(_) => "Double(",
        AnyValue::Bytes(_) => "Bytes(",
        AnyValue::Array(_) => "Slice(",
        AnyValue::Map(_) => "Map(",
    });
    put_plain(text, value);
    text.raw(")");
}

fn values(items: &[u8]) -> impl Iterator<Item = AnyValue<'_>> {
    Repeated::of(items, list::VALUES).map(AnyValue::read)
}

fn pairs(items: &[u8]) -> impl Iterator<Item = KeyValue<'_>> {
    Repeated::of(items, list::VALUES).map(KeyValue::read)
}

/// Whether every number in a value is one that JSON has.
fn is_finite(value: AnyValue<'_>, depth: usize) -> bool {
    match value {
        AnyValue::Double(value) => value.is_finite(),
        AnyValue::Array(_) | AnyValue::Map(_) if depth > MAX_DEPTH => true,
        AnyValue::Array(items) => values(items).all(|item| is_finite(item, depth + 1)),
        AnyValue::Map(items) => pairs(items).all(|pair| is_finite(pair.value, depth + 1)),
        _ => true,
    }
}

/// Whether every number that would be written is: of equal keys only the last one is.
fn is_json(value: AnyValue<'_>, depth: usize, held: usize) -> bool {
    match value {
        AnyValue::Double(value) => value.is_finite(),
        AnyValue::Array(_) | AnyValue::Map(_) if depth > MAX_DEPTH => true,
        AnyValue::Array(items) => values(items).all(|item| is_json(item, depth + 1, held)),
        AnyValue::Map(items) => sorted(items, held)
            .is_none_or(|pairs| pairs.iter().all(|pair| is_json(pair.value, depth + 1, held + pairs.len()))),
        _ => true,
    }
}

/// The pairs of a map by their keys, of equal ones the last, which counts in Go's map too. `None` when there are too
/// many beside those that are `held`.
fn sorted(items: &[u8], held: usize) -> Option<Vec<KeyValue<'_>>> {
    fn settle(sorted: &mut Vec<KeyValue<'_>>) {
        // Equal keys stay in their order.
        sorted.sort_by_key(|pair| pair.key);
        sorted.dedup_by(|later, earlier| {
            let is_same = later.key == earlier.key;
            if is_same {
                std::mem::swap(later, earlier);
            }
            is_same
        });
    }
    let most = KEYS.saturating_sub(held);
    let mut sorted = Vec::new();
    for pair in pairs(items) {
        if sorted.len() >= 2 * most {
            settle(&mut sorted);
            if sorted.len() > most {
                return None;
            }
        }
        sorted.push(pair);
    }
    settle(&mut sorted);
    sorted.shrink_to(SMALL.max(2 * sorted.len()));
    (sorted.len() <= most).then_some(sorted)
}

fn put_json(text: &mut Text<'_, '_>, value: AnyValue<'_>, depth: usize) {
    match value {
        AnyValue::Empty => text.raw("null"),
        AnyValue::String(string) => text.json_string(string),
        AnyValue::Bool(value) => text.raw(if value { "true" } else { "false" }),
        AnyValue::Int(n) => number::put_int(text.to.out, n),
        AnyValue::Double(value) => number::put_double(text.to.out, value),
        // Go's empty byte slice is nil.
        AnyValue::Bytes([]) => text.raw("null"),
        AnyValue::Bytes(bytes) => {
            text.raw("\"");
            text.base64(bytes);
            text.raw("\"");
        }
        AnyValue::Array(_) | AnyValue::Map(_) if depth > MAX_DEPTH => text.raw("null"),
        AnyValue::Array(items) => put_array(text, items, depth),
        AnyValue::Map(items) => put_map(text, items, depth),
    }
}

fn put_array(text: &mut Text<'_, '_>, items: &[u8], depth: usize) {
    let mut separator = "[";
    for item in values(items) {
        text.raw(separator);
        separator = ",";
        put_json(text, item, depth + 1);
        text.to.breathe();
        if !text.to.is_wanted() {
            return;
        }
    }
    text.raw(if separator == "[" { "[]" } else { "]" });
}

fn put_map(text: &mut Text<'_, '_>, items: &[u8], depth: usize) {
    let Some(pairs) = sorted(items, text.sorted) else {
        return text.raw(&format!("\"({} pairs)\"", Repeated::of(items, list::VALUES).len()));
    };
    text.sorted += pairs.len();
    let mut separator = "{";
    for KeyValue { key, value } in &pairs {
        text.raw(separator);
        separator = ",";
        text.json_string(key);
        text.raw(":");
        put_json(text, *value, depth + 1);
        text.to.breathe();
        if !text.to.is_wanted() {
            break;
        }
    }
    text.raw(if separator == "{" { "{}" } else { "}" });
    text.sorted -= pairs.len();
}
