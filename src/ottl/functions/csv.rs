//! `ParseCSV`: one row of values (RFC 4180) under the names of a header, parsed like Go's `encoding/csv`.

use std::borrow::Cow;

use super::{Entries, TEXT, fixed_or, function, gathered, one_of, optional, push, required, split};
use crate::ottl::function::{Arguments, Function, Kind};
use crate::ottl::scene::Scene;
use crate::ottl::value::{Fault, Value};

pub(super) const TABLE: &[Function] = &[function(
    "ParseCSV",
    &[
        TEXT,
        required("header", Kind::Text),
        optional("delimiter", Kind::FixedText),
        optional("header_delimiter", Kind::FixedText),
        optional("mode", Kind::FixedText),
    ],
    parse_csv,
)
.checked(|arguments| {
    for (index, name) in [(2, "delimiter"), (3, "header_delimiter")] {
        let text = arguments.fixed_text(index).map(String::from_utf8_lossy);
        if text.is_some_and(|text| text.chars().count() != 1) {
            return Err(format!("{name} must be a single character"));
        }
    }
    one_of(arguments, 4, &["strict", "lazyQuotes", "ignoreQuotes"], |mode| format!("unknown mode: {mode}"))
})];

fn parse_csv<'a>(arguments: &'a Arguments, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
    let (row, headers) = (arguments.text(0, scene)?, arguments.text(1, scene)?);
    if headers.is_empty() {
        return Err(Fault::new("headers must not be an empty string"));
    }
    let delimiter = fixed_or(arguments, 2, ",");
    let header_delimiter = arguments.fixed_text(3).unwrap_or(delimiter);
    let fields = match arguments.fixed_text(4) {
        Some(b"ignoreQuotes") => gathered(split(row, delimiter).map(Cow::Borrowed))?,
        mode => fields(row, delimiter, mode == Some(b"lazyQuotes"))?,
    };
    let expected = split(headers, header_delimiter).count();
    if fields.len() != expected {
        let found = fields.len();
        return Err(Fault::new(format!("wrong number of fields: expected {expected}, found {found}")));
    }
    let mut out = Entries::default();
    for (header, field) in split(headers, header_delimiter).zip(fields) {
        out.put(header, Value::String(scene.arena.keep(&field)?))?;
    }
    out.value(scene.arena)
}

/// The fields of all non-empty lines: the first of a line continues the last of the line before. A line with a stray
/// quote ends at the field before it.
fn fields<'t>(row: &'t [u8], delimiter: &[u8], lazy: bool) -> Result<Vec<Cow<'t, [u8]>>, Fault> {
    if matches!(delimiter, b"\"" | b"\r" | b"\n" | b"\0") || delimiter == "\u{fffd}".as_bytes() {
        return Err(Fault::new("read csv line: csv: invalid field or comment delimiter"));
    }
    let mut lines = row.split_inclusive(|byte| *byte == b'\n').map(|line| {
        let (line, end) = line.strip_suffix(b"\n").map_or((line, &b""[..]), |line| (line, b"\n"));
        Line { text: line.strip_suffix(b"\r").unwrap_or(line), end }
    });
    let mut all: Vec<Cow<[u8]>> = Vec::new();
    while let Some(line) = lines.next() {
        if line.text.is_empty() {
            continue;
        }
        let mut record = Record { delimiter, lazy, fields: Vec::new() };
        let stray = record.read(line, &mut lines)?;
        let mut fields = record.fields.into_iter();
        match (fields.next(), all.last_mut()) {
            (None, _) => return Err(Fault::new(format!("read csv line: parse error: {}", stray.unwrap_or_default()))),
            (Some(first), None) => all.push(first),
            (Some(first), Some(last)) => {
                last.to_mut().push(b'\n');
                last.to_mut().extend_from_slice(&first);
            }
        }
        fields.try_for_each(|field| push(&mut all, field))?;
    }
    if all.is_empty() { Err(Fault::new("no csv lines found")) } else { Ok(all) }
}

struct Line<'t> {
    text: &'t [u8],
    /// Its line break, if any.
    end: &'static [u8],
}

struct Record<'t, 'd> {
    delimiter: &'d [u8],
    lazy: bool,
    fields: Vec<Cow<'t, [u8]>>,
}

impl<'t> Record<'t, '_> {
    /// Reads a line, with further lines if a quoted field continues; an error names the stray quote.
    fn read(
        &mut self,
        line: Line<'t>,
        lines: &mut impl Iterator<Item = Line<'t>>,
    ) -> Result<Option<&'static str>, Fault> {
        let Line { text: mut rest, mut end } = line;
        loop {
            let Some(quoted) = rest.strip_prefix(b"\"") else {
                let at = memchr::memmem::find(rest, self.delimiter);
                let field = rest.get(..at.unwrap_or(rest.len())).unwrap_or_default();
                if !self.lazy && field.contains(&b'"') {
                    return Ok(Some("bare \" in non-quoted field"));
                }
                push(&mut self.fields, Cow::Borrowed(field))?;
                match at.and_then(|at| rest.get(at + self.delimiter.len()..)) {
                    Some(after) => rest = after,
                    None => return Ok(None),
                }
                continue;
            };
            let mut field = Vec::new();
            rest = quoted;
            let is_last = loop {
                let Some(at) = memchr::memchr(b'"', rest) else {
                    field.extend_from_slice(rest);
                    field.extend_from_slice(end);
                    match lines.next() {
                        Some(line) => (rest, end) = (line.text, line.end),
                        None if self.lazy => break true,
                        None => return Ok(Some(MISSING)),
                    }
                    continue;
                };
                let (part, after) = rest.split_at_checked(at).unwrap_or_default();
                field.extend_from_slice(part);
                rest = after.get(1..).unwrap_or_default();
                if let Some(after) = rest.strip_prefix(b"\"") {
                    field.push(b'"');
                    rest = after;
                } else if let Some(after) = rest.strip_prefix(self.delimiter) {
                    rest = after;
                    break false;
                } else if rest.is_empty() {
                    break true;
                } else if self.lazy {
                    field.push(b'"');
                } else {
                    return Ok(Some(MISSING));
                }
            };
            push(&mut self.fields, Cow::Owned(field))?;
            if is_last {
                return Ok(None);
            }
        }
    }
}

const MISSING: &str = "extraneous or missing \" in quoted-field";
