//! YAML text to tree, by the scalar rules of go-yaml v3, which the Go collector reads its files with: `yes` and `on`
//! are text, `0123` is octal, `1_000` a number. Depth, nodes and bytes are bounded, so that no alias can blow up.

use super::merge;
use super::tree::{Entry, Node, Place, Value, quoted};
use granit_parser::{Event, Parser, ScalarStyle, Span, Tag};
use std::collections::{HashMap, HashSet};

pub const MAX_BYTES: usize = 1 << 20;
pub const MAX_DEPTH: usize = 64;
pub const MAX_NODES: usize = 100_000;

/// What is wrong with a text, where, and where the thing it clashes with stands.
#[derive(Debug)]
pub struct Fault {
    pub place: Place,
    pub message: String,
    pub help: Option<String>,
    pub related: Option<(Place, String)>,
}

/// A document, and the place of a second one, which is never read.
#[derive(Debug)]
pub struct Document {
    pub root: Node,
    pub more: Option<Place>,
}

/// Reads the first document of `text`. Its first line starts `shift` characters into a line of the source.
pub fn parse(text: &str, source: u16, shift: u32) -> Result<Document, Fault> {
    let mut builder = Builder { source, shift, nodes: 0, open: Vec::new(), anchors: HashMap::new(), root: None };
    if text.len() > MAX_BYTES {
        let place = Place { source, line: 1, column: 1, length: 0 };
        return Err(Fault::new(place, format!("a config has at most {} MiB", MAX_BYTES >> 20)));
    }
    let options = granit_parser::options! {
        emit_comments: false,
        block_scalar_eof_without_line_feed: true,
        flow_nesting_limit: MAX_DEPTH + 1,
        block_nesting_limit: MAX_DEPTH + 1
    };
    let mut more = None;
    for event in Parser::new_from_str_with_options(text, options) {
        match event {
            Err(error) => {
                let mark = *error.marker();
                let place = builder.place(&Span::new(mark, mark));
                let info = error.info();
                // "while parsing …, did not find …": the second half says it.
                let detail = info.split_once(", ").filter(|_| info.starts_with("while"));
                let what = detail.map_or(info.as_str(), |(_, detail)| detail);
                let line = text.lines().nth(mark.line().saturating_sub(1)).unwrap_or_default();
                let help = advice(&info, line).map(str::to_owned);
                return Err(Fault { help, ..Fault::new(place, format!("this is not YAML: {what}")) });
            }
            Ok((Event::DocumentStart(..), span)) if builder.root.is_some() => {
                more = Some(builder.place(&span));
                break;
            }
            Ok((event, span)) => builder.take(event, &span)?,
        }
    }
    let nothing = Node::new(Value::Null, Place { source, line: 1, column: 1 + shift, length: 0 });
    Ok(Document { root: builder.root.unwrap_or(nothing), more })
}

struct Builder {
    source: u16,
    shift: u32,
    nodes: usize,
    open: Vec<Open>,
    anchors: HashMap<usize, Anchored>,
    root: Option<Node>,
}

/// A list or map that is being read. `height` is that of its highest child.
struct Open {
    node: Node,
    height: usize,
    nodes_before: usize,
    anchor: usize,
    key: Option<(String, Place)>,
    keys: HashMap<String, Place>,
    /// What `<<` brings in.
    merged: Vec<Vec<Entry>>,
    /// A key held `::`.
    split: bool,
}

struct Anchored {
    node: Node,
    height: usize,
    nodes: usize,
}

impl Builder {
    fn take(&mut self, event: Event, span: &Span) -> Result<(), Fault> {
        let place = self.place(span);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let text = if span.is_empty() && style == ScalarStyle::Plain { "" } else { text.as_ref() };
                if self.wants_key() {
                    return self.key(text, place);
                }
                let node = Node::new(scalar(text, style, tag.as_deref()), place);
                self.add(node, 1, 1, anchor)
            }
            Event::SequenceStart(_, anchor, _) => self.start(Value::List(Vec::new()), place, anchor),
            Event::MappingStart(_, anchor, _) => self.start(Value::Map(Vec::new()), place, anchor),
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(_) if self.wants_key() => Err(Fault::new(place, "a key is plain text, not an alias")),
            Event::Alias(anchor) => {
                let Some(target) = self.anchors.get(&anchor) else {
                    return Err(Fault::new(place, "this alias stands inside the very thing it names"));
                };
                self.room(target.nodes, place)?;
                let (node, height, nodes) = (target.node.clone(), target.height, target.nodes);
                self.add(node, height, nodes, 0)
            }
            _ => Ok(()),
        }
    }

    fn wants_key(&self) -> bool {
        self.open.last().is_some_and(|open| matches!(open.node.value, Value::Map(_)) && open.key.is_none())
    }

    fn key(&mut self, text: &str, place: Place) -> Result<(), Fault> {
        let open = self.open.last_mut().expect("only a map wants a key");
        if let Some(first) = open.keys.insert(text.to_owned(), place) {
            let mut fault = Fault::new(place, format!("the key {} is defined twice", quoted(text)));
            fault.related = Some((first, "first defined here".into()));
            return Err(fault);
        }
        open.key = Some((text.to_owned(), place));
        Ok(())
    }

    fn start(&mut self, value: Value, place: Place, anchor: usize) -> Result<(), Fault> {
        if self.wants_key() {
            return Err(Fault::new(place, "a key is plain text, not a list or a map"));
        }
        let (node, nodes_before) = (Node::new(value, place), self.nodes);
        self.open.push(Open {
            node,
            height: 0,
            nodes_before,
            anchor,
            key: None,
            keys: HashMap::new(),
            merged: Vec::new(),
            split: false,
        });
        self.room(0, place)
    }

    fn end(&mut self) -> Result<(), Fault> {
        let mut open = self.open.pop().expect("the parser ends what it started");
        // What `<<` brings in yields to the map's own keys, and of several the first wins.
        if let Value::Map(own) = &mut open.node.value {
            let mut known: HashSet<String> = own.iter().map(|entry| entry.key.clone()).collect();
            let merged = std::mem::take(&mut open.merged).into_iter().flatten();
            own.extend(merged.filter(|entry| known.insert(entry.key.clone())));
        }
        let nodes = self.nodes - open.nodes_before + 1;
        self.nodes = open.nodes_before;
        self.add(open.node, open.height + 1, nodes, open.anchor)
    }

    /// Puts a finished node where it belongs: into the innermost open list or map, or at the root.
    fn add(&mut self, node: Node, height: usize, nodes: usize, anchor: usize) -> Result<(), Fault> {
        let place = node.place;
        self.nodes += nodes;
        self.room(0, place)?;
        if anchor != 0 {
            self.anchors.insert(anchor, Anchored { node: node.clone(), height, nodes });
        }
        let depth = self.open.len();
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        let mut levels = height;
        match &mut open.node.value {
            Value::List(list) => list.push(node),
            Value::Map(entries) => match open.key.take() {
                Some((key, _)) if key == "<<" => {
                    let fault = |place| Fault::new(place, "<< takes a map, or a list of maps");
                    open.merged.extend(merge_sources(node).map_err(fault)?);
                }
                Some((key, key_place)) => {
                    let nesting = key.matches("::").count();
                    levels += nesting;
                    open.split |= nesting > 0;
                    match open.split {
                        // Keys are unique as written; only `::` can make two of them meet.
                        false => entries.push(Entry { key, key_place, node }),
                        true if depth + levels <= MAX_DEPTH => merge::insert(entries, &key, "::", key_place, node),
                        true => {}
                    }
                }
                None => unreachable!("a value follows its key"),
            },
            _ => unreachable!("only lists and maps are open"),
        }
        open.height = open.height.max(levels);
        if depth + levels > MAX_DEPTH { Err(too_deep(place)) } else { Ok(()) }
    }

    fn room(&self, nodes: usize, place: Place) -> Result<(), Fault> {
        if self.nodes + nodes > MAX_NODES {
            return Err(Fault::new(place, format!("a config has at most {MAX_NODES} values, aliases written out")));
        }
        if self.open.len() > MAX_DEPTH { Err(too_deep(place)) } else { Ok(()) }
    }

    fn place(&self, span: &Span) -> Place {
        let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let shift = if span.start.line() == 1 { self.shift } else { 0 };
        Place {
            source: self.source,
            line: small(span.start.line()),
            column: small(span.start.col()).saturating_add(1 + shift),
            length: small(span.end.index().saturating_sub(span.start.index())),
        }
    }
}

impl Fault {
    fn new(place: Place, message: impl Into<String>) -> Self {
        Self { place, message: message.into(), help: None, related: None }
    }
}

/// What usually lies behind a parser's complaint.
fn advice(complaint: &str, line: &str) -> Option<&'static str> {
    const ADVICE: [(&str, &str, &str); 5] = [
        ("flow", "${", "inside of { } and [ ], a reference wants quotes: \"${env:NAME}\""),
        ("tabs", "", "indent with spaces"),
        ("mapping values", "", "text with a colon and a blank in it wants quotes"),
        ("unexpected character", "", "text that starts with a special character wants quotes"),
        ("unknown anchor", "", "text that starts with * wants quotes"),
    ];
    ADVICE.iter().find(|(part, cause, _)| complaint.contains(part) && line.contains(cause)).map(|(_, _, help)| *help)
}

fn too_deep(place: Place) -> Fault {
    Fault::new(place, format!("a config nests at most {MAX_DEPTH} levels deep"))
}

/// The maps that `<<` brings in, or where something else stands.
fn merge_sources(node: Node) -> Result<Vec<Vec<Entry>>, Place> {
    let maps = match node.value {
        Value::List(list) => list,
        _ => vec![node],
    };
    let entries = |node: Node| match node.value {
        Value::Map(entries) => Ok(entries),
        _ => Err(node.place),
    };
    maps.into_iter().map(entries).collect()
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Value {
    let tagged_text =
        tag.is_some_and(|tag| matches!(tag.core_suffix(), Some("str" | "binary")) || tag.suffix().is_empty());
    if style == ScalarStyle::Plain && !tagged_text { resolve(text) } else { Value::Text(text.to_owned()) }
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
        _ => number(text).unwrap_or_else(|| Value::Text(text.to_owned())),
    }
}

fn number(text: &str) -> Option<Value> {
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
    let whole =
        digits.chars().all(|digit| digit.is_digit(radix)).then(|| i128::from_str_radix(digits, radix).ok()).flatten();
    if let Some(whole) = whole.map(|whole| if negative { -whole } else { whole }) {
        return Some(i64::try_from(whole).map_or(Value::Float(whole as f64), Value::Int));
    }
    let floating = lower.starts_with(|first: char| first.is_ascii_digit() || first == '.')
        && lower.chars().all(|character| character.is_ascii_digit() || ".e+-".contains(character));
    if floating { plain.parse().ok().filter(|value: &f64| value.is_finite()).map(Value::Float) } else { None }
}
