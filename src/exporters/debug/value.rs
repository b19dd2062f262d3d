//! Attribute values as text: strings plainly, lists and maps as the JSON that Go's encoder writes, keys sorted.

use super::number;
use super::text::{Text, is_clean, is_control, put_hex};
use crate::otlp::schema::list;
use crate::otlp::views::{AnyValue, KeyValue, Repeated};

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
        AnyValue::Bytes(bytes) => number::put_base64(text.out, bytes),
        AnyValue::Array(_) | AnyValue::Map(_) => {
            let start = text.out.len();
            // A number that JSON does not have makes Go's encoder give up, and the text empty.
            if put_json(text.out, value, 1).is_none() {
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
fn put_json(out: &mut Vec<u8>, value: AnyValue<'_>, depth: usize) -> Option<()> {
    match value {
        AnyValue::Empty => out.extend_from_slice(b"null"),
        AnyValue::String(string) => put_json_string(out, string),
        AnyValue::Bool(value) => out.extend_from_slice(if value { b"true" } else { b"false" }),
        AnyValue::Int(n) => number::put_int(out, n),
        AnyValue::Double(value) if !value.is_finite() => return None,
        AnyValue::Double(value) => number::put_double(out, value),
        // Go's empty byte slice is nil.
        AnyValue::Bytes([]) => out.extend_from_slice(b"null"),
        AnyValue::Bytes(bytes) => {
            out.push(b'"');
            number::put_base64(out, bytes);
            out.push(b'"');
        }
        AnyValue::Array(_) | AnyValue::Map(_) if depth > MAX_DEPTH => out.extend_from_slice(b"null"),
        AnyValue::Array(items) => {
            out.push(b'[');
            for (index, item) in Repeated::of(items, list::VALUES).enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                put_json(out, AnyValue::read(item), depth + 1)?;
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
                put_json_string(out, pair.key);
                out.push(b':');
                put_json(out, pair.value, depth + 1)?;
            }
            out.push(b'}');
        }
    }
    Some(())
}

fn put_json_string(out: &mut Vec<u8>, string: &[u8]) {
    out.push(b'"');
    if is_clean(string) && memchr::memchr2(b'"', b'\\', string).is_none() {
        out.extend_from_slice(string);
    } else {
        escape_json(out, string);
    }
    out.push(b'"');
}

#[inline(never)]
fn escape_json(out: &mut Vec<u8>, string: &[u8]) {
    for chunk in string.utf8_chunks() {
        let text = chunk.valid();
        let mut written = 0;
        for (at, c) in text.char_indices() {
            if !is_control(c) && c != '"' && c != '\\' {
                continue;
            }
            out.extend_from_slice(text.get(written..at).unwrap_or_default().as_bytes());
            written = at + c.len_utf8();
            match c {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                '\x08' => out.extend_from_slice(b"\\b"),
                '\x0c' => out.extend_from_slice(b"\\f"),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                _ => put_hex(out, b"\\u", u32::from(c), 4),
            }
        }
        out.extend_from_slice(text.get(written..).unwrap_or_default().as_bytes());
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}
