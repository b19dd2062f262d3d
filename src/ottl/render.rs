//! Values as text, in two forms of the Go collector: a converter's input (bytes in hexadecimal, others as JSON), and a
//! value converted to a string (`AsString`: bytes in base64).

use super::functions::{longest, many, time};
use super::value::{Arena, Fault, Value, entries, items};
use crate::otlp::{base64, hex, number};

/// Only statements can make deeper values than the check admits; they are cut here.
const DEPTH: usize = 128;

impl<'a> Value<'a> {
    /// The text of any value as a converter's input; `None` for nil.
    pub(super) fn text_like(&self, arena: &'a Arena) -> Result<Option<&'a [u8]>, Fault> {
        match self {
            Value::Nil => Ok(None),
            Value::String(text) => Ok(Some(text)),
            other => {
                let mut text = Vec::new();
                other.put_text_like(&mut text)?;
                arena.keep(&text).map(Some)
            }
        }
    }

    pub(super) fn put_text_like(&self, out: &mut Vec<u8>) -> Result<(), Fault> {
        match self {
            Value::Nil => {}
            Value::String(text) => out.extend_from_slice(text),
            Value::Bytes(bytes) => hex::put(bytes, out),
            Value::Time(at) => {
                out.push(b'"');
                time::put_rfc3339(*at, out)?;
                out.push(b'"');
            }
            Value::Duration(nanos) => number::put_int(out, *nanos),
            Value::TraceId(id) => put_byte_list(id, out),
            Value::SpanId(id) => put_byte_list(id, out),
            other => put_json(out, other, true, 0, many()).ok_or_else(|| other.unsupported())?,
        }
        Ok(())
    }

    /// `AsString` of an attribute's value; nothing for values that cannot be one.
    pub fn put_as_string(&self, out: &mut Vec<u8>) {
        match self {
            Value::String(text) => out.extend_from_slice(text),
            Value::Bytes(bytes) => base64::put_padded(bytes, out),
            Value::Double(value) => number::put_double(out, *value),
            Value::Nil => {}
            other => {
                let start = out.len();
                if put_json(out, other, false, 0, many()).is_none() {
                    out.truncate(start);
                }
            }
        }
    }
}

fn put_byte_list(bytes: &[u8], out: &mut Vec<u8>) {
    for (index, byte) in bytes.iter().enumerate() {
        out.push(if index == 0 { b'[' } else { b',' });
        number::put_uint(out, u64::from(*byte));
    }
    out.push(b']');
}

/// `None` if the value has no JSON form. `for_html` escapes as Go's encoders do by default. Stops when the text is too
/// long for any use; maps with more keys than `room` keep their order.
fn put_json(out: &mut Vec<u8>, value: &Value, for_html: bool, depth: usize, room: usize) -> Option<()> {
    match value {
        Value::Nil => out.extend_from_slice(b"null"),
        Value::String(text) => put_json_string(out, text, for_html),
        Value::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
        Value::Int(value) => number::put_int(out, *value),
        Value::Double(value) if !value.is_finite() => return None,
        Value::Double(value) if for_html => number::put_json_double(out, *value),
        Value::Double(value) => number::put_double(out, *value),
        // An empty byte slice is nil in Go.
        Value::Bytes([]) => out.extend_from_slice(b"null"),
        Value::Bytes(bytes) => {
            out.push(b'"');
            base64::put_padded(bytes, out);
            out.push(b'"');
        }
        Value::List(_) | Value::Map(_) if depth == DEPTH => out.extend_from_slice(b"null"),
        Value::List(list) => {
            out.push(b'[');
            for (index, item) in items(list).enumerate() {
                if out.len() > longest() {
                    break;
                }
                if index > 0 {
                    out.push(b',');
                }
                put_json(out, &item, for_html, depth + 1, room)?;
            }
            out.push(b']');
        }
        Value::Map(map) => {
            let left = room.checked_sub(entries(map).count());
            let put_pair = |out: &mut Vec<u8>, index: usize, key: &[u8], value: &Value| {
                if out.len() > longest() {
                    return Some(());
                }
                if index > 0 {
                    out.push(b',');
                }
                put_json_string(out, key, for_html);
                out.push(b':');
                put_json(out, value, for_html, depth + 1, left.unwrap_or(room))
            };
            out.push(b'{');
            if left.is_none() {
                entries(map).enumerate().try_for_each(|(index, (key, value))| put_pair(out, index, key, &value))?;
            } else {
                let mut pairs: Vec<(&[u8], Value)> = entries(map).collect();
                // The sort is stable: of equal keys the last one wins, as in Go's map.
                pairs.sort_by_key(|(key, _)| *key);
                for (index, equal) in pairs.chunk_by(|a, b| a.0 == b.0).enumerate() {
                    let Some((key, value)) = equal.last() else { continue };
                    put_pair(out, index, key, value)?;
                }
            }
            out.push(b'}');
        }
        _ => return None,
    }
    Some(())
}

fn put_json_string(out: &mut Vec<u8>, text: &[u8], for_html: bool) {
    out.push(b'"');
    let longest = longest();
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            if out.len() > longest {
                break;
            }
            let code = |out: &mut Vec<u8>| out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes());
            match c {
                '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                '\x08' if !for_html => out.extend_from_slice(b"\\b"),
                '\x0c' if !for_html => out.extend_from_slice(b"\\f"),
                '<' | '>' | '&' if for_html => code(out),
                '\0'..' ' | '\u{2028}' | '\u{2029}' => code(out),
                _ => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
    out.push(b'"');
}
