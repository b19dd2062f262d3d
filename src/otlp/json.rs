//! OTLP/JSON: converts requests to and from their wire form, without a tree in between. `reader` serves the OTLP
//! receiver; `writer` the file exporter and JSON over HTTP.
//!
//! Accepted are: field names in lowerCamelCase or as in the `.proto` files; unknown members, which are skipped;
//! integers as numbers or strings; enums as numbers or names; `null` for absent (an empty message in a list of
//! messages, an error in a list of scalars). For a duplicate member the last scalar wins, lists continue, messages
//! merge. An unpaired surrogate becomes U+FFFD; bytes that are not UTF-8 are carried unchanged, as in protobuf.

pub(crate) mod number;
mod reader;
pub(crate) mod scanner;
mod writer;

use serde_json::Value;

use super::Signal;
use super::pieces::{Pieces, whole};
use super::schema::{self, Kind, Message, root};
use reader::Room;
use scanner::Fault;

/// Why a text is not an OTLP/JSON request, and where: `offset` in bytes from 0, `line` and `column` in characters from
/// 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at line {line} column {column}: {needed}")]
pub struct JsonError {
    offset: usize,
    line: usize,
    column: usize,
    /// What was found, such as `invalid traceId "xyz"`.
    pub(crate) what: String,
    /// What is expected: `32 hex digits are needed`.
    pub needed: &'static str,
}

/// Converts a JSON `Export…ServiceRequest` to protobuf. The result is well-formed, has only ids of the right length,
/// and is at most four times as long as the text (for a list of doubles that are all `0`).
pub fn to_wire(signal: Signal, json: &[u8]) -> Result<Vec<u8>, JsonError> {
    to_wire_within(signal, json, &mut |_| true).map(|wire| wire.expect("there is always room"))
}

/// The same within a memory budget: `room` is asked before the output grows. `None` when it refuses.
pub fn to_wire_within(signal: Signal, json: &[u8], room: Room) -> Result<Option<Vec<u8>>, JsonError> {
    match reader::read(root(signal), json, room) {
        Ok(wire) => Ok(Some(wire)),
        Err(fault) if fault.is_of_room => Ok(None),
        Err(fault) => Err(explain(json, *fault)),
    }
}

/// Appends a checked request as JSON, in the Go collector's form. Invalid UTF-8 becomes U+FFFD.
pub fn to_json(signal: Signal, wire: &[u8], out: &mut Vec<u8>) {
    whole(out, |to| put_requests(signal, &[wire], to));
}

/// Writes consecutive checked requests as one JSON request.
pub fn put_requests(signal: Signal, parts: &[&[u8]], to: &mut Pieces) {
    writer::write_requests(root(signal), parts, to);
}

/// A message inside a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Resource,
    Scope,
    LogRecord,
    Metric,
    Span,
}

/// Writes a piece of a checked request as JSON that is safe on a terminal.
pub(crate) fn put_piece(piece: Piece, wire: &[u8], to: &mut Pieces) {
    let message = match piece {
        Piece::Resource => &schema::RESOURCE,
        Piece::Scope => &schema::SCOPE,
        Piece::LogRecord => &schema::LOG_RECORD,
        Piece::Metric => &schema::METRIC,
        Piece::Span => &schema::SPAN,
    };
    writer::write(message, wire, true, to);
}

/// The first unknown member of a request, and the names of the fields beside it.
pub(crate) fn stranger(signal: Signal, request: &Value) -> Option<(&str, Vec<&'static str>)> {
    strange(root(signal), request)
}

fn strange<'v>(message: &'static Message, value: &'v Value) -> Option<(&'v str, Vec<&'static str>)> {
    value.as_object()?.iter().find_map(|(key, value)| {
        let named = |field: &&schema::Field| field.name == key || field.has_snake_name(key.as_bytes());
        match message.fields.iter().find(named).map(|field| field.kind) {
            None => Some((key.as_str(), message.fields.iter().map(|field| field.name).collect())),
            Some(Kind::One(inner)) => strange(inner, value),
            Some(Kind::Many(inner)) => value.as_array()?.iter().find_map(|value| strange(inner, value)),
            Some(_) => None,
        }
    })
}

/// Maximum characters of a wrong value in an error.
const EXCERPT: usize = 40;

#[cold]
fn explain(json: &[u8], fault: Fault) -> JsonError {
    let (before, rest) = json.split_at_checked(fault.at).unwrap_or((json, &[]));
    let before = String::from_utf8_lossy(before);
    let last_line = before.rsplit('\n').next().unwrap_or_default();
    let excerpt = excerpt(&String::from_utf8_lossy(rest.get(..4 * EXCERPT + 4).unwrap_or(rest)));
    let what = match fault.field {
        _ if excerpt.is_empty() => "unexpected end".to_owned(),
        "" => format!("unexpected {excerpt}"),
        field => format!("invalid {field} {excerpt}"),
    };
    JsonError {
        offset: fault.at,
        line: before.matches('\n').count() + 1,
        column: last_line.chars().count() + 1,
        what,
        needed: fault.needed,
    }
}

/// The first token of `text`, safe to show on a terminal.
fn excerpt(text: &str) -> String {
    let mut escaped = false;
    let mut ends = |character: char| {
        let ends = character == '"' && !escaped;
        escaped = character == '\\' && !escaped;
        ends
    };
    let length = match text.strip_prefix('"') {
        Some(string) => string.find(&mut ends).map(|end| end + 2),
        None => text.find(|c: char| c.is_whitespace() || ",:{}[]".contains(c)).map(|end| end.max(1)),
    };
    let token = text.get(..length.unwrap_or(text.len())).unwrap_or(text);
    let mut shown = String::new();
    for character in token.chars().take(EXCERPT) {
        match character {
            '"' | '\'' | '\\' => shown.push(character),
            _ => shown.extend(character.escape_debug()),
        }
    }
    if token.chars().nth(EXCERPT).is_some() {
        shown.push('…');
    }
    shown
}
