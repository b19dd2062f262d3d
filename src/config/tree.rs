//! The tree a configuration is read into: plain YAML values, each with the place it was written at.

/// Where something was written. Lines and columns count from 1, columns and lengths in characters; a scalar over
/// several lines has a length that includes the line breaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub source: u16,
    pub line: u32,
    pub column: u32,
    pub length: u32,
}

impl Place {
    /// The place of what was never written.
    pub const NOWHERE: Place = Place { source: 0, line: 0, column: 0, length: 0 };
}

#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub value: Value,
    pub place: Place,
    /// The text of a value that is one `${…}`: a field of text takes it, whatever it looks like; every other field takes the value.
    pub text: Option<Box<str>>,
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

    /// What it says, wherever it was written: equal when nothing was changed.
    pub fn without_places(&self) -> Node {
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
    pub fn is_empty(&self) -> bool {
        match &self.value {
            Value::List(list) => list.is_empty(),
            Value::Map(entries) => entries.is_empty(),
            value => *value == Value::Null,
        }
    }

    /// The entries of a map; none for everything else.
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|entry| entry.key == key).map(|entry| &entry.node)
    }

    /// The text that a field of text takes.
    pub fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(self.text.as_deref().unwrap_or(text)),
            _ => self.text.as_deref(),
        }
    }

    /// What it is, in words for a message.
    pub fn kind(&self) -> &'static str {
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

/// A piece of the user's text for a message: in quotes, and no longer than a reader wants.
pub fn quoted(text: &str) -> String {
    match text.char_indices().nth(48) {
        Some((end, _)) => format!("\"{}…\"", text.get(..end).unwrap_or(text)),
        None => format!("\"{text}\""),
    }
}
