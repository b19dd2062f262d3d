//! Wire → OTLP/JSON, in the form of the Go collector's `pdata`: one line, the fields in the order of the tables in
//! `fields`, ids in hexadecimal, 64-bit integers in quotes, enums as numbers, doubles as Go writes them.
//!
//! Works on checked bytes, whose depth the check bounds; what nests deeper is cut off here.

use super::fields::{Field, Kind, Message, Presence};
use super::scanner::plain_length;
use crate::otlp::wire::{Fields, Value, merged, varint};
use crate::otlp::{base64, hex, number};
use std::borrow::Cow;
use std::io::Write;

/// More than 64 levels of values need: three messages each, and those around them.
const DEPTH: usize = 208;

pub fn write(message: &'static Message, wire: &[u8], out: &mut Vec<u8>) {
    put_message(message, wire, DEPTH, out);
}

/// The only function that calls itself; what needs more of the stack stands in functions of its own.
fn put_message(message: &Message, wire: &[u8], depth: usize, out: &mut Vec<u8>) {
    out.push(b'{');
    let start = out.len();
    let (given, chosen) = summary(message, wire);
    for field in message.fields {
        let shown = match field.presence {
            Presence::Always => true,
            Presence::Oneof => chosen == field.number,
            Presence::Implicit | Presence::Optional => given & bit(field.number) != 0,
        };
        if !shown || depth == 0 {
            continue;
        }
        let before = out.len();
        put_key(field, before == start, out);
        let present = match field.kind {
            Kind::One(inner) => match content(field, wire) {
                Some(bytes) => {
                    put_message(inner, &bytes, depth - 1, out);
                    true
                }
                None => false,
            },
            Kind::Many(inner) => {
                let list = out.len();
                let mut rest = Fields::new(wire);
                while let Some(bytes) = next_message(&mut rest, field.number) {
                    out.push(if out.len() == list { b'[' } else { b',' });
                    put_message(inner, bytes, depth - 1, out);
                }
                let present = out.len() > list;
                out.push(b']');
                present
            }
            kind => put_scalars(kind, field, wire, out),
        };
        if !present {
            out.truncate(before);
        }
    }
    out.push(b'}');
}

/// One bit for every field that is given, and the member of the oneof that counts: the last one on the wire, 0 for none.
fn summary(message: &Message, wire: &[u8]) -> (u64, u32) {
    let mut members = 0;
    for field in message.fields.iter().filter(|field| field.presence == Presence::Oneof) {
        members |= bit(field.number);
    }
    let (mut given, mut chosen) = (0, 0);
    for field in Fields::new(wire).filter(|field| field.number < 64) {
        given |= bit(field.number);
        chosen = if members & bit(field.number) != 0 { field.number } else { chosen };
    }
    (given, chosen)
}

/// No number of OTLP's is above 16.
fn bit(number: u32) -> u64 {
    1 << (number & 63)
}

fn put_key(field: &Field, first: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(if first { b"\"" } else { b",\"" });
    out.extend_from_slice(field.name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// What a singular message consists of. Members of a oneof are absent when they are not given, or something else.
fn content<'a>(field: &Field, wire: &'a [u8]) -> Option<Cow<'a, [u8]>> {
    if field.presence != Presence::Oneof {
        return Some(merged(wire, field.number));
    }
    match Fields::new(wire).filter(|found| found.number == field.number).last()?.value {
        Value::Bytes(bytes) => Some(Cow::Borrowed(bytes)),
        _ => None,
    }
}

fn next_message<'a>(rest: &mut Fields<'a>, number: u32) -> Option<&'a [u8]> {
    rest.find_map(|field| match field.value {
        Value::Bytes(bytes) if field.number == number => Some(bytes),
        _ => None,
    })
}

/// Writes a scalar or a list of them; false when it is absent, or the same as absent.
fn put_scalars(kind: Kind, field: &Field, wire: &[u8], out: &mut Vec<u8>) -> bool {
    let values = Fields::new(wire).filter(|found| found.number == field.number).map(|found| found.value);
    let element = match kind {
        Kind::Texts => &Kind::Text,
        Kind::Packed(element) => element,
        _ => {
            let is_zero = values.last().and_then(|value| put_scalar(kind, value, out));
            return is_zero.is_some_and(|is_zero| !is_zero || field.presence != Presence::Implicit);
        }
    };
    let list = out.len();
    let mut put = |value| {
        let before = out.len();
        out.push(if before == list { b'[' } else { b',' });
        if put_scalar(*element, value, out).is_none() {
            out.truncate(before);
        }
    };
    for value in values {
        match (kind, value) {
            (Kind::Packed(Kind::Uint64), Value::Bytes(mut packed)) => {
                while let Some((value, rest)) = varint(packed) {
                    put(Value::Varint(value));
                    packed = rest;
                }
            }
            (Kind::Packed(_), Value::Bytes(packed)) => {
                packed.as_chunks::<8>().0.iter().for_each(|bytes| put(Value::Fixed64(u64::from_le_bytes(*bytes))));
            }
            _ => put(value),
        }
    }
    let present = out.len() > list;
    out.push(b']');
    present
}

/// Writes a scalar and says whether it is the zero of its type. `None`, and nothing, when the wire type is another one.
fn put_scalar(kind: Kind, value: Value, out: &mut Vec<u8>) -> Option<bool> {
    match (kind, value) {
        (Kind::Text, Value::Bytes(text)) => put_text(text, out),
        (Kind::Bytes | Kind::Id(_), Value::Bytes(bytes)) => {
            out.push(b'"');
            if let Kind::Bytes = kind {
                base64::put_padded(bytes, out)
            } else {
                hex::put(bytes, out)
            }
            out.push(b'"');
        }
        (Kind::Bool, Value::Varint(value)) => put(out, format_args!("{}", value != 0)),
        (Kind::Int64, Value::Varint(value)) => put(out, format_args!("\"{}\"", value as i64)),
        (Kind::Uint64, Value::Varint(value)) => put(out, format_args!("\"{value}\"")),
        (Kind::Uint32, Value::Varint(value)) => put(out, format_args!("{}", value as u32)),
        (Kind::Enum(..), Value::Varint(value)) => put(out, format_args!("{}", value as i32)),
        (Kind::Sint32, Value::Varint(value)) => {
            let value = value as u32;
            put(out, format_args!("{}", (value >> 1) as i32 ^ -((value & 1) as i32)));
        }
        (Kind::Fixed32, Value::Fixed32(value)) => put(out, format_args!("{value}")),
        (Kind::Fixed64, Value::Fixed64(value)) => put(out, format_args!("\"{value}\"")),
        (Kind::Sfixed64, Value::Fixed64(value)) => put(out, format_args!("\"{}\"", value as i64)),
        (Kind::Double, Value::Fixed64(bits)) => match f64::from_bits(bits) {
            value if value.is_finite() => number::put_json_double(out, value),
            value if value.is_nan() => out.extend_from_slice(b"\"NaN\""),
            value => out.extend_from_slice(if value > 0.0 { b"\"Infinity\"" } else { b"\"-Infinity\"" }),
        },
        _ => return None,
    }
    Some(match value {
        Value::Varint(value) | Value::Fixed64(value) => value == 0,
        Value::Fixed32(value) => value == 0,
        Value::Bytes(bytes) | Value::Group(bytes) => bytes.iter().all(|byte| *byte == 0 && !matches!(kind, Kind::Text)),
    })
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments) {
    out.write_fmt(text).expect("a Vec takes all that is written to it");
}

fn put_text(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for chunk in text.utf8_chunks() {
        let mut rest = chunk.valid().as_bytes();
        loop {
            let (before, after) = rest.split_at_checked(plain_length(rest)).unwrap_or((rest, &[]));
            out.extend_from_slice(before);
            let Some((byte, after)) = after.split_first() else {
                break;
            };
            match byte {
                b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
                b'\n' => out.extend_from_slice(b"\\n"),
                b'\r' => out.extend_from_slice(b"\\r"),
                b'\t' => out.extend_from_slice(b"\\t"),
                _ => put(out, format_args!("\\u{byte:04x}")),
            }
            rest = after;
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    out.push(b'"');
}
