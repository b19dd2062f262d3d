//! What a function is: a row with its name, its parameters, and the plain function behind it.

use super::expression::{Expression, Pattern};
use super::paths::Path;
use super::scene::Scene;
use super::value::{Fault, Value};

/// Which contexts know a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    Everywhere,
    /// By the names of contexts, as in `&["span"]`.
    In(&'static [&'static str]),
}

/// What may stand for a parameter, checked when the configuration loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any value.
    Value,
    /// A value that is text; a literal of another type is refused.
    Text,
    Int,
    Float,
    Bool,
    /// A path that is written: `Argument::Target`.
    Target,
    /// A regular expression; a literal is compiled when the configuration loads: `Argument::Pattern`.
    Pattern,
    /// Several values, `[…]`: `Argument::Values`.
    Values,
    /// The name of a converter: `Argument::Function`.
    Function,
}

#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    pub name: &'static str,
    pub kind: Kind,
    pub optional: bool,
}

pub enum Argument {
    Value(Expression),
    Target(Path),
    Pattern(Pattern),
    Values(Vec<Expression>),
    Function(&'static Function),
}

/// The arguments of one call, in the order of the parameters; an optional one that is absent is `None`.
pub struct Arguments(pub Vec<Option<Argument>>);

/// A lower-case name is an editor (its value is not used), an upper-case name a converter.
pub struct Function {
    pub name: &'static str,
    pub parameters: &'static [Parameter],
    pub known: Known,
    pub body: for<'a> fn(&'a Arguments, &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault>,
    /// Refuses literal arguments that can't work, when the configuration loads.
    pub check: Option<fn(&Arguments) -> Result<(), String>>,
    /// Whether a call with literal arguments only is evaluated when the configuration loads (not `Now`, `UUID`).
    pub is_constant: bool,
}
