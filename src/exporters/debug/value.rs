//! Attribute values as text: strings plainly, lists and maps as the JSON that Go's encoder writes, keys sorted.

use super::text::Text;
use crate::diagnostics::escape::put_json_string;
use crate::otlp::schema::list;
use crate::otlp::views::{AnyValue, KeyValue, Repeated};
use crate::otlp::{base64, number};

/// The door refuses deeper values; what is deeper on unchecked bytes prints as `null`.
const MAX_DEPTH: usize = 64;

/// The value alone, as in `key=value`.
#[inline]
pub fn put_plain(text: &mut Text<'_>, value: AnyValue<'_>) {
    match value {
        AnyValue::String(string) => text.text(string),
        AnyValue::Empty => {}
        AnyValue::Bool(true) => text.raw("true"),
        AnyValue::Bool(false) => text.raw("false"),
        AnyValue::Int(n) => number::put_int(text.out, n),
        AnyValue::Double(value) => number::put_double(text.out, value),
        AnyValue::Bytes(bytes) => base64::put_padded(bytes, text.out),
        AnyValue::Array(_) | AnyValue::Map(_) => {
            let start = text.out.len();
            // A number that JSON does not have makes Go's encoder give up, and the text empty.
            if put_json(text.out, value, 1, text.for_eyes()).is_none() {
                text.out.truncate(start);
            }
        }
    }
}

/// `Type(value)`.
#[inline]
pub fn put_typed(text: &mut Text<'_>, value: AnyValue<'_>) {
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

/// `None` when the value holds a number that JSON does not have.
fn put_json(out: &mut Vec<u8>, value: AnyValue<'_>, depth: usize, for_eyes: bool) -> Option<()> {
    match value {
        AnyValue::Empty => out.extend_from_slice(b"null"),
        AnyValue::String(string) => put_json_string(out, string, for_eyes),
        AnyValue::Bool(value) => out.extend_from_slice(if value { b"true" } else { b"false" }),
        AnyValue::Int(n) => number::put_int(out, n),
        AnyValue::Double(value) if !value.is_finite() => return None,
        AnyValue::Double(value) => number::put_double(out, value),
        // Go's empty byte slice is nil.
        AnyValue::Bytes([]) => out.extend_from_slice(b"null"),
        AnyValue::Bytes(bytes) => {
            out.push(b'"');
            base64::put_padded(bytes, out);
            out.push(b'"');
        }
        AnyValue::Array(_) | AnyValue::Map(_) if depth > MAX_DEPTH => out.extend_from_slice(b"null"),
        AnyValue::Array(items) => {
            out.push(b'[');
            for (index, item) in Repeated::of(items, list::VALUES).enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                put_json(out, AnyValue::read(item), depth + 1, for_eyes)?;
            }
            out.push(b']');
        }
        AnyValue::Map(items) => {
            let mut pairs: Vec<KeyValue<'_>> = Repeated::of(items, list::VALUES).map(KeyValue::read).collect();
            // Equal keys stay in their order, of which the last one counts in Go's map.
            pairs.sort_by_key(|pair| pair.key);
            out.push(b'{');
            let mut separator: &[u8] = b"";
            for equal in pairs.chunk_by(|a, b| a.key == b.key) {
                let Some(pair) = equal.last() else { continue };
                out.extend_from_slice(separator);
                separator = b",";
                put_json_string(out, pair.key, for_eyes);
                out.push(b':');
                put_json(out, pair.value, depth + 1, for_eyes)?;
            }
            out.push(b'}');
        }
    }
    Some(())
}
