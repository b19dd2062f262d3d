//! Functions that parse text into structures.

use smallvec::SmallVec;

use super::collections::check_delimiters;
use super::{Entries, TARGET, TEXT, fixed_or, function, optional, required, within_bounds};
use crate::otlp::json::number;
use crate::otlp::json::scanner::{self, Scanner};
use crate::otlp::schema::{any_value, key_value, list};
use crate::otlp::views::AnyValue;
use crate::otlp::wire::{patch_length, put_bytes, put_header};
use crate::ottl::function::{Arguments, Function, Kind};
use crate::ottl::scene::Scene;
use crate::ottl::value::{Arena, Fault, Value, entries, entry, items, put_entry};

pub(super) const TABLE: &[Function] = &[
    Function {
        check_only_warns: true,
        ..function("ExtractPatterns", &[TEXT, required("pattern", Kind::Pattern)], extract_patterns).checked(
            |arguments| match arguments.literal_pattern(1) {
                Some(pattern) if pattern.capture_names().flatten().next().is_none() => Err(NO_NAMES.into()),
                _ => Ok(()),
            },
        )
    },
    function("ParseJSON", &[TEXT], |arguments, scene| parse_json(arguments.text(0, scene)?, scene.arena)),
    function(
        "ParseKeyValue",
        &[TEXT, optional("delimiter", Kind::FixedText), optional("pair_delimiter", Kind::FixedText)],
        parse_key_value,
    )
    .checked(check_delimiters),
    function("ParseSeverity", &[TARGET, required("mapping", Kind::Map)], parse_severity),
];

const NO_NAMES: &str = "at least 1 named capture group must be supplied in the given regex";

fn extract_patterns<'a>(arguments: &'a Arguments, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
    let pattern = arguments.pattern(1, scene)?;
    if pattern.capture_names().flatten().next().is_none() {
        return Err(Fault::new(NO_NAMES));
    }
    let text = arguments.text(0, scene)?;
    let mut found = Entries::default();
    if let Some(captures) = pattern.captures(text) {
        for name in pattern.capture_names().flatten() {
            let part = captures.name(name).map_or(&[][..], |part| part.as_bytes());
            found.put(scene.arena.keep(name.as_bytes())?, Value::String(part))?;
        }
    }
    found.value(scene.arena)
}

/// Maximum nesting of JSON.
const DEPTH: usize = 64;

fn parse_json<'a>(text: &'a [u8], arena: &'a Arena) -> Result<Value<'a>, Fault> {
    let mut json = Json { scanner: Scanner::new(text), out: Vec::new() };
    json.value(0)?;
    let made = match Value::from_any(AnyValue::read(&json.out)) {
        Value::List(_) | Value::Map(_) if !json.scanner.at_end() => {
            return Err(Fault::new("invalid JSON: text after the value"));
        }
        Value::List(items) => Value::List(arena.keep(items)?),
        Value::Map(entries) => Value::Map(arena.keep(entries)?),
        other => {
            let name = other.type_name();
            return Err(Fault::new(format!("could not convert parsed value of type {name} to JSON object")));
        }
    };
    Ok(made)
}

/// Converts JSON to an encoded `AnyValue` while reading it.
struct Json<'a> {
    scanner: Scanner<'a>,
    out: Vec<u8>,
}

impl Json<'_> {
    /// Numbers are always doubles.
    fn value(&mut self, depth: usize) -> Result<(), Fault> {
        if depth > DEPTH {
            return Err(Fault::new(format!("invalid JSON: it nests deeper than {DEPTH} levels")));
        }
        let value = match self.scanner.peek() {
            b'{' => {
                let map = self.begin(any_value::KVLIST);
                let mut more = self.open(b'{', b'}')?;
                while more {
                    let entry = self.begin(list::VALUES);
                    put_bytes(&mut self.out, key_value::KEY, &self.scanner.key().map_err(invalid)?);
                    let value = self.begin(key_value::VALUE);
                    self.value(depth + 1)?;
                    patch_length(&mut self.out, value, 1);
                    patch_length(&mut self.out, entry, 1);
                    more = self.goes_on(b'}')?;
                }
                self.unite(map + 1)?;
                patch_length(&mut self.out, map, 1);
                return Ok(());
            }
            b'[' => {
                let list = self.begin(any_value::ARRAY);
                let mut more = self.open(b'[', b']')?;
                while more {
                    let item = self.begin(list::VALUES);
                    self.value(depth + 1)?;
                    patch_length(&mut self.out, item, 1);
                    more = self.goes_on(b']')?;
                }
                patch_length(&mut self.out, list, 1);
                return Ok(());
            }
            b'"' => {
                let text = self.scanner.string("a string").and_then(|string| string.text()).map_err(invalid)?;
                Value::String(&text).put_any(&mut self.out);
                return within_bounds(&self.out);
            }
            b't' if self.scanner.word("true") => Value::Bool(true),
            b'f' if self.scanner.word("false") => Value::Bool(false),
            b'n' if self.scanner.word("null") => Value::Nil,
            _ => {
                let digits = self.scanner.number("a value").map_err(invalid)?;
                let number = number::double(digits);
                Value::Double(number.ok_or_else(|| Fault::new("invalid JSON: number out of range"))?)
            }
        };
        value.put_any(&mut self.out);
        within_bounds(&self.out)
    }

    /// Begins a field of unknown length; returns the position for its length.
    fn begin(&mut self, number: u32) -> usize {
        put_header(&mut self.out, number, 0);
        self.out.len() - 1
    }

    /// Of members with equal names, the last value wins, at the position of the first.
    fn unite(&mut self, start: usize) -> Result<(), Fault> {
        let map = self.out.get(start..).unwrap_or_default();
        let is_repeated = {
            let mut keys: SmallVec<[&[u8]; 16]> = entries(map).map(|(key, _)| key).collect();
            keys.sort_unstable();
            !keys.is_sorted_by(|one, next| one < next)
        };
        if is_repeated {
            let map = map.to_vec();
            let mut united = Entries::default();
            entries(&map).try_for_each(|(key, value)| united.put(key, value))?;
            self.out.truncate(start);
            united.list.iter().for_each(|(key, value)| put_entry(&mut self.out, key, value));
        }
        Ok(())
    }

    /// Consumes an opening bracket; false if the closing one follows, which is consumed too.
    fn open(&mut self, open: u8, close: u8) -> Result<bool, Fault> {
        self.scanner.expect(open, "a value").map_err(invalid)?;
        if self.scanner.peek() != close {
            return Ok(true);
        }
        self.scanner.expect(close, "its end").map_err(invalid).map(|()| false)
    }

    fn goes_on(&mut self, close: u8) -> Result<bool, Fault> {
        let more = self.scanner.peek() == b',';
        self.scanner.expect(if more { b',' } else { close }, "a comma or the end").map_err(invalid).map(|()| more)
    }
}

#[cold]
#[expect(clippy::boxed_local, reason = "the scanner boxes its faults")]
fn invalid(fault: Box<scanner::Fault>) -> Fault {
    Fault::new(format!("invalid JSON at byte {}: {}", fault.at, fault.needed))
}

fn parse_key_value<'a>(arguments: &'a Arguments, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
    let source = arguments.text(0, scene)?;
    if source.is_empty() {
        return Err(Fault::new("cannot parse from empty target"));
    }
    let (delimiter, pair_delimiter) = (fixed_or(arguments, 1, "="), fixed_or(arguments, 2, " "));
    let mut out = Entries::default();
    let mut fault = None;
    split_quoted(source, pair_delimiter, |pair| {
        let Some(at) = memchr::memmem::find(pair, delimiter) else {
            let pair = String::from_utf8_lossy(pair);
            let why =
                format!("failed to split pairs into key-values: cannot split {pair:?} into 2 items, got 1 item(s)");
            fault.get_or_insert(Fault::new(why));
            return Ok(());
        };
        let (key, value) = pair.split_at_checked(at).unwrap_or_default();
        let value = value.get(delimiter.len()..).unwrap_or_default();
        out.put(scene.arena.keep(key.trim_ascii())?, Value::String(scene.arena.keep(value.trim_ascii())?))
    })?;
    fault.map_or_else(|| out.value(scene.arena), Err)
}

/// Calls `each` for the unquoted parts of a text between delimiters. Quotes are dropped, empty parts skipped; a quote
/// after a backslash is literal.
fn split_quoted(text: &[u8], delimiter: &[u8], mut each: impl FnMut(&[u8]) -> Result<(), Fault>) -> Result<(), Fault> {
    let mut part = Vec::new();
    let (mut quote, mut is_escaped) = (None, false);
    let mut rest = text;
    while let [byte, after @ ..] = rest {
        if quote.is_none()
            && let Some(after) = rest.strip_prefix(delimiter)
        {
            if !part.is_empty() {
                each(&part)?;
                part.clear();
            }
            rest = after;
            continue;
        }
        rest = after;
        if std::mem::take(&mut is_escaped) {
            part.push(*byte);
            continue;
        }
        match (quote, byte) {
            (None, b'"' | b'\'') => quote = Some(*byte),
            (Some(open), byte) if open == *byte => quote = None,
            _ => {
                is_escaped = *byte == b'\\';
                part.push(*byte);
            }
        }
    }
    match quote {
        Some(_) => Err(Fault::new("splitting source into pairs failed: never reached the end of a quoted value")),
        None if part.is_empty() => Ok(()),
        None => each(&part),
    }
}

/// The name of the first level whose criteria match the value: texts by `equals`, numbers by `range`.
fn parse_severity<'a>(arguments: &'a Arguments, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
    let value = arguments.value(0, scene)?;
    let mapping = arguments.map(1, scene)?;
    if !matches!(value, Value::String(_) | Value::Int(_)) {
        return Err(Fault::new(format!("could not map log level: unsupported value type: {}", value.type_name())));
    }
    for (level, criteria) in entries(mapping) {
        let Value::List(criteria) = criteria else {
            return Err(Fault::new("severity mapping criteria must be []any"));
        };
        for criterion in items(criteria) {
            let Value::Map(criterion) = criterion else {
                return Err(Fault::new("severity mapping criteria items must be map[string]any"));
            };
            if takes(criterion, value)? {
                return Ok(Value::String(level));
            }
        }
    }
    Err(Fault::new("could not map log level: no matching log level found for the value"))
}

fn takes(criterion: &[u8], value: Value) -> Result<bool, Fault> {
    let wrong = |why: &'static str| Err(Fault::new(why));
    for (key, wanted) in entries(criterion) {
        let found = match (key, wanted) {
            (b"equals", Value::List(list)) => items(list).any(|item| item == value && matches!(item, Value::String(_))),
            (b"equals", _) => return wrong("invalid severity mapping criteria: equals must be a list"),
            (b"range", Value::Map(range)) => match (entry(range, b"min"), entry(range, b"max"), value) {
                (Some(Value::Int(min)), Some(Value::Int(max)), Value::Int(value)) => (min..=max).contains(&value),
                (Some(Value::Int(_)), Some(Value::Int(_)), _) => false,
                _ => return wrong("invalid severity mapping criteria: range must have a min and a max of int64"),
            },
            (b"range", Value::String([first @ b'2'..=b'5', b'x', b'x'])) => {
                matches!(value, Value::Int(value) if value / 100 == i64::from(first - b'0'))
            }
            (b"range", _) => return wrong("invalid severity mapping criteria: unknown range placeholder"),
            _ => false,
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}
