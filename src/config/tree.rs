//! The tree of a configuration: YAML values, each with its place in the source.

/// A position in a source. Lines and columns count from 1; columns and lengths count characters. The length of a scalar
/// over several lines includes the line breaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub(crate) source: u16,
    pub line: u32,
    pub column: u32,
    pub(super) length: u32,
}

impl Place {
    /// The place of a value that is not in any source, such as a default.
    pub const NOWHERE: Place = Place { source: 0, line: 0, column: 0, length: 0 };
}

#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub value: Value,
    pub(crate) place: Place,
    /// The text of a value that is a single `${…}`. A text setting takes this text; other settings take the value.
    pub(super) text: Option<Box<str>>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub key: String,
    pub key_place: Place,
    pub node: Node,
}

impl Node {
    pub fn new(value: Value, place: Place) -> Self {
        Self { value, place, text: None }
    }

    /// The same without places, to compare contents.
    pub(crate) fn without_places(&self) -> Node {
        let value = match &self.value {
            Value::List(list) => Value::List(list.iter().map(Node::without_places).collect()),
            Value::Map(entries) => {
                let bare = |entry: &Entry| Entry {
                    key: entry.key.clone(),
                    key_place: Place::NOWHERE,
                    node: entry.node.without_places(),
                };
                Value::Map(entries.iter().map(bare).collect())
            }
            value => value.clone(),
        };
        Node { value, place: Place::NOWHERE, text: self.text.clone() }
    }

    pub fn is_null(&self) -> bool {
        self.value == Value::Null
    }

    /// Null, or a list or map with nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        match &self.value {
            Value::List(list) => list.is_empty(),
            Value::Map(entries) => entries.is_empty(),
            value => *value == Value::Null,
        }
    }

    /// The entries of a map; empty for other values.
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a list; empty for other values.
    pub(crate) fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|entry| entry.key == key).map(|entry| &entry.node)
    }

    /// The value for a text setting.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(self.text.as_deref().unwrap_or(text)),
            _ => self.text.as_deref(),
        }
    }

    /// The name of its type, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Int(_) | Value::Float(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }
}

impl Entry {
    /// The place to show: the scalar value, else the key.
    pub(crate) fn place(&self) -> Place {
        match self.node.value {
            Value::Null | Value::List(_) | Value::Map(_) => self.key_place,
            _ => self.node.place,
        }
    }
}

/// A part of the user's text for a message, in quotes and shortened.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(48) {
        Some((end, _)) => format!("\"{}…\"", text.get(..end).unwrap_or(text)),
        None => format!("\"{text}\""),
    }
}
