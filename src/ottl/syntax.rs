//! The syntax tree of OTTL: each node with its byte range in the text.

use std::ops::Range;

/// A byte range of a text.
pub(crate) type Span = Range<usize>;

/// Why a statement or condition is refused when the config loads, and where in its text.
#[derive(Clone, Debug, PartialEq)]
pub struct Mistake {
    pub span: Span,
    pub message: String,
    pub(crate) help: Option<String>,
    /// Whether the help suggests a name similar to the written one.
    pub(crate) is_guessed: bool,
    /// Whether the path does not exist in its context.
    pub(crate) is_unknown_path: bool,
    /// Whole conditions that may be meant.
    pub meant: Vec<String>,
}

impl Mistake {
    pub(crate) fn new(span: &Span, message: impl Into<String>) -> Mistake {
        let (span, message) = (span.clone(), message.into());
        Mistake { span, message, help: None, is_guessed: false, is_unknown_path: false, meant: Vec::new() }
    }

    pub(crate) fn help(self, help: impl Into<Option<String>>) -> Mistake {
        Mistake { help: help.into(), ..self }
    }

    /// Adds the most similar known name as help, if there is one.
    pub(super) fn guess(self, help: Option<String>) -> Mistake {
        Mistake { is_guessed: help.is_some(), ..self }.help(help)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub(crate) syntax: Syntax,
    pub(crate) span: Span,
}

impl Node {
    /// The child nodes, in textual order.
    pub(super) fn children(&self) -> Vec<&Node> {
        match &self.syntax {
            Syntax::Path(fields) => fields.iter().flat_map(|field| &field.keys).collect(),
            Syntax::Call(call) => call.nodes().collect(),
            Syntax::List(nodes) | Syntax::All(nodes) | Syntax::Any(nodes) => nodes.iter().collect(),
            Syntax::Map(entries) => entries.iter().map(|(_, node)| node).collect(),
            Syntax::Negative(inner) | Syntax::Not(inner) => vec![&**inner],
            Syntax::Math(first, rest) => [&**first].into_iter().chain(rest.iter().map(|(_, node)| node)).collect(),
            Syntax::Compare(sides) => vec![&sides.0, &sides.2],
            Syntax::Nil | Syntax::Bool(_) | Syntax::Int(_) | Syntax::Float(_) => Vec::new(),
            Syntax::String(_) | Syntax::Bytes(_) | Syntax::Enum(_) | Syntax::Function(_) => Vec::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Syntax {
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    String(Vec<u8>),
    Bytes(Vec<u8>),
    /// A name in capitals. As an argument it may also be a function, like `SHA256`.
    Enum(String),
    /// The bare name of a converter, as an argument.
    Function(String),
    Path(Vec<Field>),
    Call(Call),
    List(Vec<Node>),
    Map(Vec<(Vec<u8>, Node)>),
    Negative(Box<Node>),
    /// Operators of one precedence, from left to right.
    Math(Box<Node>, Vec<(Operator, Node)>),
    Compare(Box<(Node, Comparison, Node)>),
    Not(Box<Node>),
    All(Vec<Node>),
    Any(Vec<Node>),
}

/// One step of a path: `attributes["a"][0]`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Field {
    pub name: String,
    pub(super) keys: Vec<Node>,
    pub(super) span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Call {
    pub(super) name: String,
    pub(super) name_span: Span,
    pub arguments: Vec<Argument>,
    /// The indexes into the result: `ParseJSON(body)["a"]`.
    pub(super) keys: Vec<Node>,
}

impl Call {
    /// The arguments, and the keys of the result.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.arguments.iter().map(|argument| &argument.value).chain(&self.keys)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Argument {
    pub(super) name: Option<(String, Span)>,
    pub(super) value: Node,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    pub(super) editor: Call,
    pub(super) condition: Option<Node>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// An editor's name begins with a small letter, a converter's with a capital.
pub fn is_editor(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
}
