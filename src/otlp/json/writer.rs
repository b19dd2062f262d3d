//! Wire → OTLP/JSON, in the form of the Go collector's `pdata`: one line, fields in the order of the table in `schema`,
//! ids in hexadecimal, 64-bit integers in quotes, enums as numbers, doubles as Go writes them.
//!
//! The input is checked, which bounds its depth; deeper nesting is cut off. The text can be twenty times the request,
//! so it leaves in pieces: text that is removed again is removed before its piece could have left.

use std::borrow::Cow;
use std::io::Write;

use super::scanner::plain_length;
use crate::diagnostics::escape::{self, Eyes};
use crate::otlp::pieces::Pieces;
use crate::otlp::schema::{Field, Kind, Message, Presence};
use crate::otlp::wire::{Fields, Value, merged, unzigzag, varint};
use crate::otlp::{base64, hex, number};

/// More than 64 levels of values need, with three messages each, plus the messages around them.
const DEPTH: usize = 208;
/// The fragments of a message given several times are joined. The open copies may take this many bytes; beyond that,
/// only the last fragment counts.
const COPIES: usize = 1 << 20;
/// Maximum bytes encoded as base64 between two checks for a full piece.
const BYTES: usize = escape::WINDOW / 3 * 3;

/// Writes a message. Characters that a terminal acts on can occur only in strings, where an escape means the same: they
/// are escaped with `for_eyes`.
pub(super) fn write(message: &'static Message, wire: &[u8], for_eyes: bool, to: &mut Pieces) {
    Writer { to, for_eyes, copies: COPIES }.message(message, wire, DEPTH);
}

/// Writes several requests as one: the only field of a request is a list, which continues.
pub(super) fn write_requests(request: &'static Message, parts: &[&[u8]], to: &mut Pieces) {
    let mut writer = Writer { to, for_eyes: false, copies: COPIES };
    writer.put("{");
    for field in request.fields {
        writer.list(field, parts, DEPTH, true);
    }
    writer.put("}");
}

struct Writer<'w, 'a> {
    to: &'w mut Pieces<'a>,
    for_eyes: bool,
    /// How many more bytes may be copied.
    copies: usize,
}

impl Writer<'_, '_> {
    fn put(&mut self, text: &str) {
        self.to.out.extend_from_slice(text.as_bytes());
    }

    /// The only recursive function, so code that needs more stack is in separate functions.
    fn message(&mut self, message: &Message, wire: &[u8], depth: usize) {
        self.put("{");
        let (given, chosen) = summary(message, wire);
        let mut is_first = true;
        for field in message.fields {
            let shown = match field.presence {
                Presence::Always => true,
                Presence::Oneof => chosen == field.number,
                Presence::Implicit | Presence::Optional => given & bit(field.number) != 0,
            };
            if !shown || depth == 0 {
                continue;
            }
            let present = match field.kind {
                Kind::One(inner) => match self.content(field, wire) {
                    Some(bytes) => {
                        put_key(field, is_first, self.to.out);
                        self.message(inner, &bytes, depth - 1);
                        if let Cow::Owned(bytes) = bytes {
                            self.copies += bytes.len();
                        }
                        true
                    }
                    None => false,
                },
                Kind::Many(_) => self.list(field, &[wire], depth, is_first),
                kind => {
                    let before = self.to.out.len();
                    put_key(field, is_first, self.to.out);
                    let present = self.scalars(kind, field, wire);
                    if !present {
                        self.to.out.truncate(before);
                    }
                    present
                }
            };
            is_first &= !present;
        }
        self.put("}");
    }

    /// Writes a list of messages from all parts; false if there are none.
    fn list(&mut self, field: &Field, parts: &[&[u8]], depth: usize, is_first: bool) -> bool {
        let Kind::Many(inner) = field.kind else { return false };
        let mut is_empty = true;
        for part in parts {
            let mut rest = Fields::new(part);
            while let Some(bytes) = next_message(&mut rest, field.number).filter(|_| self.to.is_wanted()) {
                if is_empty {
                    put_key(field, is_first, self.to.out);
                }
                self.put(if is_empty { "[" } else { "," });
                is_empty = false;
                self.message(inner, bytes, depth - 1);
                self.to.breathe();
            }
        }
        self.put(if is_empty { "" } else { "]" });
        !is_empty
    }

    /// The content of a singular message. A oneof member is absent if it is not given, or another member was.
    fn content<'a>(&mut self, field: &Field, wire: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let found = || Fields::new(wire).filter(|found| found.number == field.number).map(|found| found.value);
        if field.presence == Presence::Oneof {
            let Value::Bytes(bytes) = found().last()? else { return None };
            return Some(Cow::Borrowed(bytes));
        }
        let (mut last, mut places, mut bytes) = (&[][..], 0, 0);
        for value in found() {
            if let Value::Bytes(place @ [_, ..]) = value {
                (last, places, bytes) = (place, places + 1, bytes + place.len());
            }
        }
        if places < 2 || bytes > self.copies {
            return Some(Cow::Borrowed(last));
        }
        self.copies -= bytes;
        Some(merged(wire, field.number))
    }

    /// Writes a scalar or a list of scalars; false if it is absent or has its default.
    fn scalars(&mut self, kind: Kind, field: &Field, wire: &[u8]) -> bool {
        let mut values = Fields::new(wire).filter(|found| found.number == field.number).map(|found| found.value);
        let element = match kind {
            Kind::Texts => &Kind::Text,
            Kind::Packed(element) => element,
            _ => {
                let is_written = |value: &Value| field.presence != Presence::Implicit || !is_zero(kind, *value);
                return values.by_ref().last().filter(is_written).is_some_and(|value| self.scalar(kind, value));
            }
        };
        let mut separator = "[";
        for value in values {
            match (kind, value) {
                (Kind::Packed(Kind::Uint64), Value::Bytes(mut packed)) => {
                    while let Some((value, rest)) = varint(packed) {
                        self.element(*element, Value::Varint(value), &mut separator);
                        packed = rest;
                    }
                }
                (Kind::Packed(_), Value::Bytes(packed)) => {
                    for bytes in packed.as_chunks::<8>().0 {
                        self.element(*element, Value::Fixed64(u64::from_le_bytes(*bytes)), &mut separator);
                    }
                }
                _ => self.element(*element, value, &mut separator),
            }
        }
        self.put(if separator == "[" { "" } else { "]" });
        separator != "["
    }

    fn element(&mut self, kind: Kind, value: Value, separator: &mut &'static str) {
        let before = self.to.out.len();
        self.put(separator);
        match self.scalar(kind, value) {
            true => *separator = ",",
            false => self.to.out.truncate(before),
        }
        self.to.breathe();
    }

    /// Writes a scalar; false, without output, if the wire type is wrong.
    fn scalar(&mut self, kind: Kind, value: Value) -> bool {
        let out = &mut *self.to.out;
        match (kind, value) {
            (Kind::Text, Value::Bytes(text)) => self.text(text),
            (Kind::Bytes, Value::Bytes(bytes)) => self.base64(bytes),
            (Kind::Id(_), Value::Bytes(bytes)) => {
                out.push(b'"');
                hex::put(bytes, out);
                out.push(b'"');
            }
            (Kind::Bool, Value::Varint(value)) => put(out, format_args!("{}", value != 0)),
            (Kind::Int64, Value::Varint(value)) => put(out, format_args!("\"{}\"", value as i64)),
            (Kind::Uint64, Value::Varint(value)) => put(out, format_args!("\"{value}\"")),
            (Kind::Uint32, Value::Varint(value)) => put(out, format_args!("{}", value as u32)),
            (Kind::Enum(_), Value::Varint(value)) => put(out, format_args!("{}", value as i32)),
            (Kind::Sint32, Value::Varint(value)) => put(out, format_args!("{}", unzigzag(value))),
            (Kind::Fixed32, Value::Fixed32(value)) => put(out, format_args!("{value}")),
            (Kind::Fixed64, Value::Fixed64(value)) => put(out, format_args!("\"{value}\"")),
            (Kind::Sfixed64, Value::Fixed64(value)) => put(out, format_args!("\"{}\"", value as i64)),
            (Kind::Double, Value::Fixed64(bits)) => match f64::from_bits(bits) {
                value if value.is_finite() => number::put_json_double(out, value),
                value if value.is_nan() => out.extend_from_slice(b"\"NaN\""),
                value => out.extend_from_slice(if value > 0.0 { b"\"Infinity\"" } else { b"\"-Infinity\"" }),
            },
            _ => return false,
        }
        true
    }

    fn text(&mut self, text: &[u8]) {
        let eyes = Eyes::default();
        self.put("\"");
        for window in escape::windows(text) {
            let start = self.to.out.len();
            put_text(window, self.to.out);
            if self.for_eyes {
                make_safe(self.to.out, start, &eyes);
            }
            self.to.breathe();
            if !self.to.is_wanted() {
                return;
            }
        }
        self.put("\"");
    }

    fn base64(&mut self, bytes: &[u8]) {
        self.put("\"");
        for part in bytes.chunks(BYTES) {
            base64::put_padded(part, self.to.out);
            self.to.breathe();
        }
        self.put("\"");
    }
}

/// A bit for every field present, and the oneof member that counts: the last one on the wire, 0 for none.
fn summary(message: &Message, wire: &[u8]) -> (u64, u32) {
    let (mut given, mut chosen) = (0, 0);
    for field in Fields::new(wire).filter(|field| field.number < 64) {
        given |= bit(field.number);
        chosen = if message.oneof & bit(field.number) != 0 { field.number } else { chosen };
    }
    (given, chosen)
}

/// No field number in OTLP is above 16.
fn bit(number: u32) -> u64 {
    1 << (number & 63)
}

fn put_key(field: &Field, first: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(if first { b"\"" } else { b",\"" });
    out.extend_from_slice(field.name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn next_message<'a>(rest: &mut Fields<'a>, number: u32) -> Option<&'a [u8]> {
    rest.find_map(|field| match field.value {
        Value::Bytes(bytes) if field.number == number => Some(bytes),
        _ => None,
    })
}

/// Whether a scalar is its type's zero, in the right wire type.
fn is_zero(kind: Kind, value: Value) -> bool {
    match value {
        Value::Varint(value) | Value::Fixed64(value) => value == 0,
        Value::Fixed32(value) => value == 0,
        Value::Bytes(bytes) | Value::Group(bytes) => bytes.iter().all(|byte| *byte == 0 && !matches!(kind, Kind::Text)),
    }
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments) {
    out.write_fmt(text).expect("a Vec takes all that is written to it");
}

/// A string, or a window of it, without quotes.
fn put_text(text: &[u8], out: &mut Vec<u8>) {
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
}

/// Escapes characters after `start` that a terminal acts on.
fn make_safe(out: &mut Vec<u8>, start: usize, eyes: &Eyes) {
    let text = out.get(start..).unwrap_or_default();
    if escape::is_clean(text) {
        return eyes.rest();
    }
    let mut safe = Vec::with_capacity(text.len());
    escape::put_safe_json_window(&mut safe, text, eyes);
    out.truncate(start);
    out.extend_from_slice(&safe);
}
