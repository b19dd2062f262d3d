//! Attribute values as text: strings unquoted, lists and maps as JSON in the form of Go's encoder, with sorted keys.

use super::Style;
use super::text::Text;
use crate::otlp::number;
use crate::otlp::pieces::Pieces;
use crate::otlp::schema::list;
use crate::otlp::views::{AnyValue, KeyValue, Repeated};

/// The receiver refuses deeper values. In bytes that were not checked, a deeper value prints as `null`.
const MAX_DEPTH: usize = 64;
/// Maximum different keys that are sorted at once, in a map and the maps around it. A map with more is written as the
/// number of its pairs.
const KEYS: usize = 16_384;
/// A list of pairs keeps at least this capacity.
const SMALL: usize = 32;

/// Writes the value alone, as in `key=value`.
#[inline]
pub(super) fn put_plain(text: &mut Text<'_, '_>, value: AnyValue<'_>) {
    match value {
        AnyValue::String(string) => text.text(string),
        AnyValue::Empty => {}
        AnyValue::Bool(true) => text.raw("true"),
        AnyValue::Bool(false) => text.raw("false"),
        AnyValue::Int(n) => number::put_int(text.to.out, n),
        AnyValue::Double(value) => number::put_double(text.to.out, value),
        AnyValue::Bytes(bytes) => text.base64(bytes),
        AnyValue::Array(_) | AnyValue::Map(_) => {
            // Go's encoder fails on a number that JSON does not have, and the text is then empty.
            if is_json(value, 1, None) || is_json(value, 1, Some(0)) {
                put_json(text, value, 1);
            }
        }
    }
}

/// The value as text that is safe to show, with its newlines; and whether it is only the beginning of a longer one.
pub(crate) fn full(value: AnyValue<'_>, most_bytes: usize) -> (String, bool) {
    let (mut out, mut first) = (Vec::new(), None);
    let mut take = |piece: &mut Vec<u8>, _| {
        first.get_or_insert(std::mem::take(piece));
        false
    };
    let mut pieces = Pieces::new(&mut out, most_bytes, &mut take);
    put_plain(&mut Text::new(&mut pieces, Style::default()), value);
    pieces.breathe();
    let is_cut = first.is_some();
    (String::from_utf8_lossy(&first.unwrap_or(out)).into_owned(), is_cut)
}

/// Writes `Type(value)`.
#[inline]
pub(super) fn put_typed(text: &mut Text<'_, '_>, value: AnyValue<'_>) {
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

/// Whether JSON has every number that would be written. Of equal keys only the last pair is written, so maps are sorted
/// if `held` is given: the number of pairs in the sorted maps around the value.
fn is_json(value: AnyValue<'_>, depth: usize, held: Option<usize>) -> bool {
    match (value, held) {
        (AnyValue::Double(value), _) => value.is_finite(),
        (AnyValue::Array(_) | AnyValue::Map(_), _) if depth > MAX_DEPTH => true,
        (AnyValue::Array(items), _) => values(items).all(|item| is_json(item, depth + 1, held)),
        (AnyValue::Map(items), None) => pairs(items).all(|pair| is_json(pair.value, depth + 1, None)),
        (AnyValue::Map(items), Some(held)) => sorted(items, held).is_none_or(|pairs| {
            let held = Some(held + pairs.len());
            pairs.iter().all(|pair| is_json(pair.value, depth + 1, held))
        }),
        _ => true,
    }
}

/// The pairs of a map sorted by key, and of equal keys the last pair, as in Go's map. `None` if there are too many
/// beside the `held` pairs around it.
fn sorted(items: &[u8], held: usize) -> Option<Vec<KeyValue<'_>>> {
    fn settle(sorted: &mut Vec<KeyValue<'_>>) {
        // The sort is stable: equal keys keep their order.
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
        // Go's empty byte slice is nil.
        AnyValue::Empty | AnyValue::Bytes([]) => text.raw("null"),
        AnyValue::String(string) => text.json_string(string),
        AnyValue::Bool(_) | AnyValue::Int(_) | AnyValue::Double(_) => put_plain(text, value),
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
        if !text.to.breathe() {
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
        if !text.to.breathe() {
            break;
        }
    }
    text.raw(if separator == "{" { "{}" } else { "}" });
    text.sorted -= pairs.len();
}
