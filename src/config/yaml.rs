//! Parses YAML into a tree, with the scalar rules of go-yaml v3, which the Go collector uses: `yes` and `on` are text,
//! `0123` is octal, `1_000` is a number. Depth, nodes and bytes are bounded, also with aliases written out.

use super::merge;
use super::problems::Problem;
use super::tree::{Entry, Node, Place, Value, quoted};
use granit_parser::{Event, Parser, ScalarStyle, Span, StrInput, StructureStyle, Tag};
use std::collections::{HashMap, HashSet};

pub(super) const MAX_BYTES: usize = 1 << 20;
pub(super) const MAX_DEPTH: usize = 64;
const MAX_NODES: usize = 100_000;

/// Why a text was refused. Boxed, because it is rare and large.
type Fault = Box<Problem>;

/// A document, and the place of a second one, which is not read.
#[derive(Debug)]
pub struct Document {
    pub root: Node,
    pub(super) more: Option<Place>,
}

/// Parses the first document of `text`, whose first line starts after `shift` characters of a line in the source.
pub fn parse(text: &str, source: u16, shift: u32) -> Result<Document, Fault> {
    let start = Place { source, line: 1, column: 1 + shift, length: 0 };
    if text.len() > MAX_BYTES {
        return Err(fault(Place { column: 1, ..start }, format!("a config has at most {} MiB", MAX_BYTES >> 20)));
    }
    let options = granit_parser::options! {
        emit_comments: false,
        block_scalar_eof_without_line_feed: true,
        flow_nesting_limit: MAX_DEPTH + 1,
        block_nesting_limit: MAX_DEPTH + 1
    };
    let parser = Parser::new_from_str_with_options(text, options);
    let mut reader = Reader { text, parser, start, nodes: 0, open: Vec::new(), anchors: HashMap::new() };
    let mut root = None;
    loop {
        match (reader.next()?, root) {
            ((Event::DocumentStart(..), place), Some(root)) => return Ok(Document { root, more: Some(place) }),
            ((Event::StreamEnd, _), root) => {
                return Ok(Document { root: root.unwrap_or(Node::new(Value::Null, start)), more: None });
            }
            ((Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd, _), before) => root = before,
            ((event, place), _) => root = Some(reader.node(event, place, 1)?),
        }
    }
}

struct Reader<'t> {
    text: &'t str,
    parser: Parser<'t, StrInput<'t>>,
    /// The place of the text's start in its source.
    start: Place,
    nodes: usize,
    /// The places of open `{` and `[`.
    open: Vec<Place>,
    anchors: HashMap<usize, Node>,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Place), Fault> {
        match self.parser.next() {
            None => Ok((Event::StreamEnd, self.start)),
            Some(Ok((event, span))) => {
                let place = self.place(&span);
                match &event {
                    Event::SequenceStart(StructureStyle::Flow, ..) | Event::MappingStart(StructureStyle::Flow, ..) => {
                        self.open.push(place);
                    }
                    // Everything inside { } and [ ] is in flow style, so this end belongs to the last one.
                    Event::SequenceEnd | Event::MappingEnd => drop(self.open.pop()),
                    // YAML allows both characters here. go-yaml reads `?` as the start of a key, and `:` as its end.
                    Event::Scalar(text, ScalarStyle::Plain, ..)
                        if !self.open.is_empty() && (text.contains('?') || text.starts_with(':')) =>
                    {
                        let message = format!("{} wants quotes inside of {{ }} and [ ]", quoted(text));
                        let help = "without them the Go collector refuses it, or reads something else".to_owned();
                        return Err(Problem::error(place, message).help(help).into());
                    }
                    _ => {}
                }
                Ok((event, place))
            }
            Some(Err(error)) => {
                let (mark, info) = (*error.marker(), error.info());
                // In "while parsing …, did not find …", the second half is the error.
                let detail = info.split_once(", ").filter(|_| info.starts_with("while"));
                let what = detail.map_or(info.as_str(), |(_, detail)| detail);
                let line = self.text.lines().nth(mark.line().saturating_sub(1)).unwrap_or_default();
                let place = self.place(&Span::new(mark, mark));
                if let Some(open) = self.never_closed(place) {
                    let problem = Problem::error(open, "this is not YAML: what opens here is not closed");
                    return Err(problem.related(place, what).into());
                }
                let problem = Problem::error(place, format!("this is not YAML: {what}"));
                Err(problem.help(advice(&info, line).map(str::to_owned)).into())
            }
        }
    }

    /// The `{` or `[` that is still open at `place`, if that line is outside: empty, or indented no deeper than the
    /// opening line.
    fn never_closed(&self, place: Place) -> Option<Place> {
        let open = *self.open.last()?;
        let line = |place: Place| self.text.lines().nth((place.line as usize).saturating_sub(1)).unwrap_or_default();
        let indent = |line: &str| line.len() - line.trim_start().len();
        let is_outside = line(place).trim().is_empty() || indent(line(place)) <= indent(line(open));
        (place.line > open.line && is_outside).then_some(open)
    }

    /// Reads the node that `event` starts, at level `depth`.
    fn node(&mut self, event: Event, place: Place, depth: usize) -> Result<Node, Fault> {
        self.room(1, depth, place)?;
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => (scalar(&text, style, tag.as_deref(), place)?, anchor),
            Event::SequenceStart(_, anchor, _) => (Value::List(self.list(depth + 1)?), anchor),
            Event::MappingStart(_, anchor, _) => (Value::Map(self.map(depth + 1)?), anchor),
            Event::Alias(anchor) => {
                let inside = || fault(place, "this alias stands inside the very thing it names");
                let (nodes, height) = extent(self.anchors.get(&anchor).ok_or_else(inside)?);
                self.room(nodes, depth + height, place)?;
                return self.anchors.get(&anchor).cloned().ok_or_else(inside);
            }
            _ => return Err(fault(place, "this is not YAML: it ends too early")),
        };
        let node = Node::new(value, place);
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Fault> {
        let mut list = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(list),
                (event, place) => list.push(self.node(event, place, depth)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<Entry>, Fault> {
        let (mut entries, mut merged, mut places, mut split) = (Vec::new(), Vec::new(), HashMap::new(), false);
        loop {
            let (key, key_place) = match self.next()? {
                (Event::MappingEnd, _) => break,
                (Event::Scalar(key, style, ..), place) => {
                    let written = written(&key, style, place);
                    if style == ScalarStyle::Plain && written.is_empty() {
                        return Err(fault(place, "a key is missing here"));
                    }
                    (written.to_owned(), place)
                }
                (Event::Alias(_), place) => return Err(fault(place, "a key is plain text, not an alias")),
                (_, place) => return Err(fault(place, "a key is plain text, not a list or a map")),
            };
            if let Some(first) = places.insert(key.clone(), key_place) {
                let problem = Problem::error(key_place, format!("the key {} is defined twice", quoted(&key)));
                return Err(problem.related(first, "first defined here").into());
            }
            let nesting = key.matches("::").count();
            split |= nesting > 0;
            let (event, place) = self.next()?;
            let node = self.node(event, place, depth + nesting)?;
            match key.as_str() {
                "<<" => merged.extend(merge_sources(node)?),
                key if nesting > 0 => entries.push(merge::nested(key, "::", key_place, node)),
                _ => entries.push(Entry { key, key_place, node }),
            }
        }
        // Keys are unique as written. Only `::` can give two of them a common key.
        if split {
            entries = merge::joined(entries);
        }
        // The map's own keys override merged ones (`<<`), and an earlier merged key overrides a later one.
        let mut known: HashSet<String> = entries.iter().map(|entry| entry.key.clone()).collect();
        entries.extend(merged.into_iter().filter(|entry| known.insert(entry.key.clone())));
        Ok(entries)
    }

    fn room(&mut self, nodes: usize, depth: usize, place: Place) -> Result<(), Fault> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            return Err(fault(place, format!("a config has at most {MAX_NODES} values, aliases written out")));
        }
        if depth > MAX_DEPTH {
            return Err(fault(place, format!("a config nests at most {MAX_DEPTH} levels deep")));
        }
        Ok(())
    }

    fn place(&self, span: &Span) -> Place {
        let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let first = if span.start.line() == 1 { self.start.column } else { 1 };
        Place {
            source: self.start.source,
            line: small(span.start.line()),
            column: small(span.start.col()).saturating_add(first),
            length: small(span.end.index().saturating_sub(span.start.index())),
        }
    }
}

fn fault(place: Place, message: impl Into<String>) -> Fault {
    Box::new(Problem::error(place, message))
}

/// The number of nodes inside a node, and of levels.
fn extent(node: &Node) -> (usize, usize) {
    let join = |(nodes, height): (usize, usize), inner: &Node| {
        let (more, levels) = extent(inner);
        (nodes + 1 + more, height.max(1 + levels))
    };
    let values = node.entries().iter().map(|entry| &entry.node);
    node.items().iter().chain(values).fold((0, 0), join)
}

/// The usual cause of a parser error.
fn advice(complaint: &str, line: &str) -> Option<&'static str> {
    const ADVICE: [(&str, &str, &str); 6] = [
        ("flow", "${", "inside of { } and [ ], a reference wants quotes: \"${env:NAME}\""),
        ("tabs", "", "indent with spaces"),
        (
            "did not find expected key",
            "",
            "the keys of a map stand in one column: is this line a blank too far in, or out?",
        ),
        ("mapping values", "", "text with a colon and a blank in it wants quotes"),
        ("unexpected character", "", "text that starts with a special character wants quotes"),
        ("unknown anchor", "", "text that starts with * wants quotes"),
    ];
    ADVICE.iter().find(|(part, cause, _)| complaint.contains(part) && line.contains(cause)).map(|(_, _, help)| *help)
}

/// The entries of the maps that `<<` merges.
fn merge_sources(node: Node) -> Result<Vec<Entry>, Fault> {
    let maps = match node.value {
        Value::List(list) => list,
        _ => vec![node],
    };
    let entries = |map: Node| match map.value {
        Value::Map(entries) => Ok(entries),
        _ => Err(fault(map.place, "<< takes a map, or a list of maps")),
    };
    Ok(maps.into_iter().map(entries).collect::<Result<Vec<_>, _>>()?.concat())
}

/// The text of a scalar; empty if the scalar is omitted, for which the parser reports `~`.
fn written(text: &str, style: ScalarStyle, place: Place) -> &str {
    if place.length == 0 && style == ScalarStyle::Plain { "" } else { text }
}

/// The value of a scalar. A core tag gives the type, even in quotes; any other tag makes it text. `!` alone is ignored.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>, place: Place) -> Result<Value, Fault> {
    let text = written(text, style, place);
    let tag = tag.filter(|tag| tag.suffix() != "!");
    Ok(match (tag.map(Tag::core_suffix), resolve(text)) {
        (None, value) if style == ScalarStyle::Plain => value,
        (Some(Some("int")), value @ Value::Int(_))
        | (Some(Some("float")), value @ Value::Float(_))
        | (Some(Some("bool")), value @ Value::Bool(_))
        | (Some(Some("null")), value @ Value::Null) => value,
        (Some(Some("float")), Value::Int(whole)) => Value::Float(whole as f64),
        (Some(Some(kind @ ("int" | "float" | "bool" | "null"))), _) => {
            return Err(fault(place, format!("{} is no value of !!{kind}", quoted(text))));
        }
        _ => Value::Text(text.to_owned()),
    })
}

/// The value of a plain scalar.
pub fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" => Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Value::Float(f64::NEG_INFINITY),
        _ => number(text).map_or_else(|| Value::Text(text.to_owned()), |(value, _)| value),
    }
}

/// Whether it is a whole number that fits 64 bits only without a sign.
pub(super) fn is_unsigned(text: &str) -> bool {
    matches!(number(text.trim()), Some((Value::Float(_), true)))
}

/// The number, and whether it is a whole number of 64 bits.
fn number(text: &str) -> Option<(Value, bool)> {
    if !text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first)) {
        return None;
    }
    let plain: String = text.chars().filter(|&character| character != '_').collect();
    let (negative, digits) = match plain.strip_prefix(['+', '-']) {
        Some(digits) => (plain.starts_with('-'), digits),
        None => (false, plain.as_str()),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.get(..2) {
        Some("0x") => (16, lower.get(2..)?),
        Some("0o") => (8, lower.get(2..)?),
        Some("0b") => (2, lower.get(2..)?),
        Some(_) if lower.starts_with('0') => (8, lower.get(1..)?),
        _ => (10, lower.as_str()),
    };
    let whole = digits.chars().all(|digit| digit.is_digit(radix)).then(|| i128::from_str_radix(digits, radix));
    if let Some(Ok(whole)) = whole {
        let whole = if negative { -whole } else { whole };
        match i64::try_from(whole) {
            Ok(whole) => return Some((Value::Int(whole), true)),
            Err(_) if u64::try_from(whole).is_ok() => return Some((Value::Float(whole as f64), true)),
            // Beyond 64 bits, a number that is not decimal is text, and a leading zero has no meaning.
            Err(_) => {}
        }
    }
    let floating = lower.starts_with(|first: char| first.is_ascii_digit() || first == '.')
        && lower.chars().all(|character| character.is_ascii_digit() || ".e+-".contains(character));
    let value = plain.parse().ok().filter(|value: &f64| floating && value.is_finite())?;
    Some((Value::Float(value), false))
}
