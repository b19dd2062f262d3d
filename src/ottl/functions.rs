//! The functions of OTTL: a table of rows in each file of the folder, and what their bodies share.

mod aggregation;
mod casting;
mod checks;
mod collections;
mod csv;
mod decode;
mod editors;
mod format;
pub(crate) mod hashing;
mod histograms;
mod logformats;
mod metrics;
mod parsing;
mod semconv;
mod strings;
pub(crate) mod time;
mod url;

use std::cell::Cell;
use std::collections::HashMap;

use super::function::{Arguments, Body, Function, Kind, Known, Parameter};
use super::value::{Arena, Fault, TOO_LARGE, Value, entries, put_entry, put_item};

/// What a condition may call.
pub const CONVERTERS: &[&[Function]] = &[
    casting::TABLE,
    checks::TABLE,
    collections::TABLE,
    csv::TABLE,
    decode::TABLE,
    hashing::TABLE,
    parsing::TABLE,
    strings::TABLE,
    time::TABLE,
    url::TABLE,
];

/// The functions of the filter processor.
pub const FILTER: &[&[Function]] = &[
    casting::TABLE,
    checks::TABLE,
    collections::TABLE,
    csv::TABLE,
    decode::TABLE,
    hashing::TABLE,
    metrics::CONVERTERS,
    parsing::TABLE,
    strings::TABLE,
    time::TABLE,
    url::TABLE,
];

/// The functions of the transform processor.
pub const TRANSFORM: &[&[Function]] = &[
    aggregation::TABLE,
    casting::TABLE,
    checks::TABLE,
    collections::TABLE,
    csv::TABLE,
    decode::TABLE,
    editors::TABLE,
    hashing::TABLE,
    histograms::TABLE,
    logformats::TABLE,
    metrics::EDITORS,
    parsing::TABLE,
    semconv::TABLE,
    strings::TABLE,
    time::TABLE,
    url::TABLE,
];

/// Functions that Misaki refuses by name, and why.
pub const REFUSED: &[(&[&str], &str)] = &[
    (
        &[
            "ParseXML",
            "ParseSimplifiedXML",
            "GetXML",
            "InsertXML",
            "RemoveXML",
            "ConvertAttributesToElementsXML",
            "ConvertTextToElementsXML",
        ],
        "XML is not supported",
    ),
    (&["ExtractGrokPatterns"], "grok patterns are not supported; ExtractPatterns takes a regular expression"),
    (&["Base64Decode"], "did you mean Decode(target, \"base64\")?"),
    (&["UserAgent"], "it needs a table of browsers that Misaki does not carry"),
    (&["ProfileID"], "profiles are not supported, and nothing else has such an id"),
    (
        &["All", "Any", "Filter", "Find", "MapEach", "MapKeys", "Reduce", "When"],
        "functions that take a lambda are not supported (the Go collector keeps them behind a feature gate)",
    ),
];

/// Why a function that others know is refused.
pub fn refusal(name: &str) -> Option<&'static str> {
    REFUSED.iter().find(|(names, _)| names.contains(&name)).map(|(_, reason)| *reason)
}

const fn required(name: &'static str, kind: Kind) -> Parameter {
    Parameter { name, kind, optional: false }
}

const fn optional(name: &'static str, kind: Kind) -> Parameter {
    Parameter { name, kind, optional: true }
}

const fn function(name: &'static str, parameters: &'static [Parameter], body: Body) -> Function {
    Function {
        name,
        parameters,
        known: Known::Everywhere,
        body,
        check: None,
        check_only_warns: false,
        is_constant: true,
    }
}

const TARGET: Parameter = required("target", Kind::Value);
const TEXT: Parameter = required("target", Kind::Text);
const MAP: Parameter = required("target", Kind::Map);
const LIST: Parameter = required("target", Kind::List);
const CONVERTED: Parameter = required("target", Kind::Converted);

/// The longest text, list or map that one function makes, where there is memory for it.
const LONGEST: usize = 16 << 20;

thread_local! {
    static BOUND: Cell<usize> = const { Cell::new(LONGEST) };
}

/// What functions make on this thread is from now on no longer than what one request may hold.
pub fn bound(bytes: u64) {
    BOUND.set(usize::try_from(bytes).unwrap_or(LONGEST).min(LONGEST));
}

/// The longest text, list or map that one function makes.
pub fn longest() -> usize {
    BOUND.get()
}

/// What is taken apart takes more room than on the wire, where two bytes may be an item: so many are the most.
pub fn many() -> usize {
    longest() / 64
}

/// Some of a text, a list or a map, at hand at once.
pub fn gathered<T>(all: impl Iterator<Item = T>) -> Result<Vec<T>, Fault> {
    let mut list = Vec::new();
    for one in all {
        push(&mut list, one)?;
    }
    Ok(list)
}

pub fn push<T>(list: &mut Vec<T>, one: T) -> Result<(), Fault> {
    list.push(one);
    if list.len() <= many() { Ok(()) } else { Err(too_large()) }
}

/// Appends to what a function makes, as long as that stays within bounds.
pub fn put(out: &mut Vec<u8>, piece: &[u8]) -> Result<(), Fault> {
    out.extend_from_slice(piece);
    within_bounds(out)
}

fn within_bounds(out: &[u8]) -> Result<(), Fault> {
    length_within_bounds(out.len())
}

pub fn length_within_bounds(length: usize) -> Result<(), Fault> {
    if length <= longest() { Ok(()) } else { Err(too_large()) }
}

#[cold]
fn too_large() -> Fault {
    Fault::new(TOO_LARGE)
}

/// A text that a function made.
fn made<'a>(arena: &'a Arena, text: &[u8]) -> Result<Value<'a>, Fault> {
    arena.keep(text).map(Value::String)
}

fn list<'a, 'v>(arena: &'a Arena, items: impl Iterator<Item = Value<'v>>) -> Result<Value<'a>, Fault> {
    let mut out = Vec::new();
    for item in items {
        put_item(&mut out, &item);
        within_bounds(&out)?;
    }
    arena.keep(&out).map(Value::List)
}

/// The literal of a parameter that is text, or what stands in its place.
fn fixed_or<'a>(arguments: &'a Arguments, index: usize, default: &'a str) -> &'a [u8] {
    arguments.fixed_text(index).unwrap_or(default.as_bytes())
}

/// The entries of a map while it is edited: one for each key, in the order they came.
#[derive(Default)]
struct Entries<'a> {
    list: Vec<(&'a [u8], Value<'a>)>,
    /// Where each key stands, once the list is long.
    places: HashMap<&'a [u8], usize>,
    bytes: usize,
}

impl<'a> Entries<'a> {
    /// Up to here a search is faster than a table.
    const SHORT: usize = 16;

    fn of(map: &'a [u8]) -> Result<Entries<'a>, Fault> {
        let mut all = Entries::default();
        // The first of two equal keys counts.
        entries(map).try_for_each(|(key, value)| if all.find(key).is_some() { Ok(()) } else { all.put(key, value) })?;
        Ok(all)
    }

    fn find(&self, key: &[u8]) -> Option<usize> {
        if self.list.len() <= Self::SHORT {
            self.list.iter().position(|(other, _)| *other == key)
        } else {
            self.places.get(key).copied()
        }
    }

    /// Writes an entry: in the place of that with the same key, else at the end.
    fn put(&mut self, key: &'a [u8], value: Value<'a>) -> Result<(), Fault> {
        if value.any_len().is_none() {
            return Err(value.unsupported());
        }
        self.bytes += key.len() + value.any_len().unwrap_or(0);
        if self.bytes > longest() {
            return Err(too_large());
        }
        if let Some(entry) = self.find(key).and_then(|place| self.list.get_mut(place)) {
            entry.1 = value;
            return Ok(());
        }
        push(&mut self.list, (key, value))?;
        if self.list.len() == Self::SHORT + 1 {
            self.places = self.list.iter().enumerate().map(|(place, (key, _))| (*key, place)).collect();
        } else if self.list.len() > Self::SHORT {
            self.places.insert(key, self.list.len() - 1);
        }
        Ok(())
    }

    fn encoded(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes + 8 * self.list.len());
        self.list.iter().for_each(|(key, value)| put_entry(&mut out, key, value));
        out
    }

    fn value(&self, arena: &'a Arena) -> Result<Value<'a>, Fault> {
        arena.keep(&self.encoded()).map(Value::Map)
    }
}
