//! The functions of OTTL: a table of rows in each file of the folder, and common helpers.

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
pub(super) mod time;
mod url;

use std::cell::Cell;
use std::collections::HashMap;

use super::function::{Arguments, Body, Function, Kind, Parameter};
use super::value::{Arena, Fault, TOO_LARGE, Value, entries, put_entry, put_item};

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

/// Functions that Misaki deliberately does not support, and why.
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

/// Why a function of the Go collector is not supported.
pub(super) fn refusal(name: &str) -> Option<&'static str> {
    REFUSED.iter().find(|(names, _)| names.contains(&name)).map(|(_, reason)| *reason)
}

pub(crate) const fn required(name: &'static str, kind: Kind) -> Parameter {
    Parameter { name, kind, optional: false }
}

const fn optional(name: &'static str, kind: Kind) -> Parameter {
    Parameter { name, kind, optional: true }
}

pub(crate) const fn function(name: &'static str, parameters: &'static [Parameter], body: Body) -> Function {
    Function { name, parameters, contexts: &[], body, check: None, check_only_warns: false, is_constant: true }
}

pub(crate) const TARGET: Parameter = required("target", Kind::Value);
const TEXT: Parameter = required("target", Kind::Text);
const MAP: Parameter = required("target", Kind::Map);
const LIST: Parameter = required("target", Kind::List);
const CONVERTED: Parameter = required("target", Kind::Converted);

/// The default maximum size of a function's result, if there is memory for it.
const LONGEST: usize = 16 << 20;

thread_local! {
    static BOUND: Cell<usize> = const { Cell::new(LONGEST) };
}

/// Limits results on this thread to the size of one request.
pub(crate) fn bound(bytes: u64) {
    BOUND.set(usize::try_from(bytes).unwrap_or(LONGEST).min(LONGEST));
}

/// The maximum size of a function's result.
pub(super) fn longest() -> usize {
    BOUND.get()
}

/// Maximum elements of a decoded collection: each takes more memory than on the wire, where an item may be two bytes.
pub(super) fn many() -> usize {
    longest() / 64
}

/// Collects the elements of a text, a list or a map, up to `many`.
fn gathered<T>(all: impl Iterator<Item = T>) -> Result<Vec<T>, Fault> {
    let mut list = Vec::new();
    for one in all {
        push(&mut list, one)?;
    }
    Ok(list)
}

fn push<T>(list: &mut Vec<T>, one: T) -> Result<(), Fault> {
    list.push(one);
    if list.len() <= many() { Ok(()) } else { Err(too_large()) }
}

/// Appends to a function's result, within its limit.
pub(crate) fn put(out: &mut Vec<u8>, piece: &[u8]) -> Result<(), Fault> {
    out.extend_from_slice(piece);
    within_bounds(out)
}

fn within_bounds(out: &[u8]) -> Result<(), Fault> {
    length_within_bounds(out.len())
}

pub(crate) fn length_within_bounds(length: usize) -> Result<(), Fault> {
    if length <= longest() { Ok(()) } else { Err(too_large()) }
}

#[cold]
fn too_large() -> Fault {
    Fault::new(TOO_LARGE)
}

/// A text made by a function.
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

/// Refuses a literal text that is not among the choices; `message` makes the error from the text.
fn one_of(arguments: &Arguments, index: usize, choices: &[&str], message: fn(&str) -> String) -> Result<(), String> {
    match arguments.fixed_text(index) {
        Some(text) if !choices.iter().any(|choice| choice.as_bytes() == text) => {
            Err(message(&String::from_utf8_lossy(text)))
        }
        _ => Ok(()),
    }
}

/// The parts of a text between delimiters.
fn split<'t>(text: &'t [u8], delimiter: &'t [u8]) -> impl Iterator<Item = &'t [u8]> {
    let finder = memchr::memmem::Finder::new(delimiter);
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let here = rest?;
        let found = finder.find(here);
        rest = found.and_then(|at| here.get(at + delimiter.len()..));
        here.get(..found.unwrap_or(here.len()))
    })
}

/// The literal of a text parameter, or its default.
fn fixed_or<'a>(arguments: &'a Arguments, index: usize, default: &'a str) -> &'a [u8] {
    arguments.fixed_text(index).unwrap_or(default.as_bytes())
}

/// The entries of a map while it is edited: unique keys, in order of arrival.
#[derive(Default)]
struct Entries<'a> {
    list: Vec<(&'a [u8], Value<'a>)>,
    /// The index of each key, once the list is long.
    places: HashMap<&'a [u8], usize>,
    bytes: usize,
}

impl<'a> Entries<'a> {
    /// Up to this length a linear search is faster than a table.
    const SHORT: usize = 16;

    fn of(map: &'a [u8]) -> Result<Entries<'a>, Fault> {
        let mut all = Entries::default();
        // The first of equal keys wins.
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

    /// Writes an entry: replaces the one with the same key, else appends it.
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
