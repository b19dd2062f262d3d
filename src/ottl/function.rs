//! A function is a row with its name, its parameters, and the plain function behind it.

use super::expression::{self, Constant, Expression};
use super::paths::Path;
use super::pattern::{Found, Pattern};
use super::scene::Scene;
use super::value::{Fault, Time, Value};

/// The accepted arguments of a parameter, checked when the config loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Any value.
    Value,
    /// A text value; literals of another type are refused.
    Text,
    Int,
    /// The same for values of these types.
    Map,
    List,
    Time,
    Duration,
    /// A value that the function converts; literals it cannot convert are refused.
    Converted,
    /// Literals only; the same for the four below. Bound as `Argument::Value`.
    FixedText,
    FixedInt,
    FixedBool,
    /// An integer or a float.
    FixedNumber,
    /// A list of them: `Argument::Values`.
    FixedNumbers,
    /// A list of text literals: `Argument::Values`.
    FixedTexts,
    /// A path that the function writes: `Argument::Target`.
    Target,
    /// A regular expression; a literal is compiled (`pattern::compile`) when the config loads: `Argument::Pattern`.
    Pattern,
    /// The same for a glob (`pattern::glob`).
    Glob,
    /// Several values, `[…]`: `Argument::Values`.
    Values,
    /// The same, but literals that are not text are refused.
    Texts,
    /// Several values, or one that evaluates to a list (`Argument::Value`).
    Spread,
    /// The name of a converter with one parameter of `Kind::Text`: `Argument::Function`.
    Function,
}

#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    pub name: &'static str,
    pub(super) kind: Kind,
    pub(super) optional: bool,
}

pub(super) enum Argument {
    Value(Expression),
    Target(Path),
    Pattern(expression::Pattern),
    Values(Vec<Expression>),
    /// A call whose one argument is `Expression::Input`.
    Function(Expression),
}

/// The arguments of one call, in the order of the parameters; an omitted optional one is `None`.
pub struct Arguments(pub(super) Vec<Option<Argument>>);

pub(super) type Body = for<'a> fn(&'a Arguments, &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault>;

/// A lower-case name is an editor (its value is unused), an upper-case name a converter.
pub struct Function {
    pub name: &'static str,
    pub parameters: &'static [Parameter],
    /// The names of the contexts that have it; all contexts if empty.
    pub contexts: &'static [&'static str],
    pub body: Body,
    /// Refuses literal arguments that cannot work, when the config loads.
    pub(super) check: Option<fn(&Arguments) -> Result<(), String>>,
    /// Whether that is only a warning: the Go collector loads them, and fails when they run.
    pub(super) check_only_warns: bool,
    /// Whether a call with only literal arguments is evaluated when the config loads: not if it is random, or reads
    /// telemetry. A call that reads the clock fails at that point, and is evaluated when it runs.
    pub(super) is_constant: bool,
}

impl Function {
    pub(super) const fn checked(self, check: fn(&Arguments) -> Result<(), String>) -> Function {
        Function { check: Some(check), ..self }
    }

    pub(super) const fn only_in(self, contexts: &'static [&'static str]) -> Function {
        Function { contexts, ..self }
    }

    pub(super) fn is_in(&self, context: &str) -> bool {
        self.contexts.is_empty() || self.contexts.contains(&context)
    }

    pub(super) const fn evaluated_when_run(self) -> Function {
        Function { is_constant: false, ..self }
    }
}

impl Arguments {
    fn get(&self, index: usize) -> Option<&Argument> {
        self.0.get(index).and_then(Option::as_ref)
    }

    pub(super) fn is_given(&self, index: usize) -> bool {
        self.get(index).is_some()
    }

    /// The value of an argument; `Nil` if it is omitted.
    pub fn value<'a>(&'a self, index: usize, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
        match self.get(index) {
            Some(Argument::Value(expression)) => expression.evaluate(scene),
            Some(Argument::Target(path)) => path.get(scene),
            _ => Ok(Value::Nil),
        }
    }

    pub(super) fn text<'a>(&'a self, index: usize, scene: &mut Scene<'_, 'a>) -> Result<&'a [u8], Fault> {
        self.value(index, scene)?.text()
    }

    /// The textual form of any value; `None` for nil.
    pub(super) fn text_like<'a>(&'a self, index: usize, scene: &mut Scene<'_, 'a>) -> Result<Option<&'a [u8]>, Fault> {
        self.value(index, scene)?.text_like(scene.arena)
    }

    pub(super) fn int<'a>(&'a self, index: usize, scene: &mut Scene<'_, 'a>) -> Result<i64, Fault> {
        match self.value(index, scene)? {
            Value::Int(value) => Ok(value),
            other => Err(other.not("int64")),
        }
    }

    pub(super) fn map<'a>(&'a self, index: usize, scene: &mut Scene<'_, 'a>) -> Result<&'a [u8], Fault> {
        match self.value(index, scene)? {
            Value::Map(entries) => Ok(entries),
            other => Err(other.not("pcommon.Map")),
        }
    }

    pub(super) fn list<'a>(&'a self, index: usize, scene: &mut Scene<'_, 'a>) -> Result<&'a [u8], Fault> {
        match self.value(index, scene)? {
            Value::List(items) => Ok(items),
            other => Err(other.not("pcommon.Slice")),
        }
    }

    pub(super) fn time<'a>(&'a self, index: usize, scene: &mut Scene<'_, 'a>) -> Result<Time, Fault> {
        match self.value(index, scene)? {
            Value::Time(time) => Ok(time),
            other => Err(other.not("time")),
        }
    }

    /// In nanoseconds.
    pub(super) fn duration<'a>(&'a self, index: usize, scene: &mut Scene<'_, 'a>) -> Result<i64, Fault> {
        match self.value(index, scene)? {
            Value::Duration(nanos) => Ok(nanos),
            other => Err(other.not("duration")),
        }
    }

    pub(super) fn pattern<'a>(&'a self, index: usize, scene: &mut Scene<'_, 'a>) -> Result<Found<'a>, Fault> {
        match self.get(index) {
            Some(Argument::Pattern(expression::Pattern::Compiled(pattern))) => Ok(Found::Compiled(pattern)),
            Some(Argument::Pattern(expression::Pattern::Computed { text, is_glob })) => {
                let text = text.evaluate(scene)?.text()?;
                scene.arena.patterns.get(text, *is_glob, &scene.arena.again).map(Found::Computed)
            }
            _ => Err(Fault::new("no pattern is given")),
        }
    }

    pub(super) fn literal_pattern(&self, index: usize) -> Option<&Pattern> {
        match self.get(index) {
            Some(Argument::Pattern(expression::Pattern::Compiled(pattern))) => Some(pattern),
            _ => None,
        }
    }

    pub(super) fn values(&self, index: usize) -> &[Expression] {
        match self.get(index) {
            Some(Argument::Values(values)) => values,
            _ => &[],
        }
    }

    pub(crate) fn target(&self, index: usize) -> Result<&Path, Fault> {
        match self.get(index) {
            Some(Argument::Target(path)) => Ok(path),
            _ => Err(Fault::new("no target is given")),
        }
    }

    /// Calls the function at `index` with a text.
    pub(super) fn apply<'a>(
        &'a self,
        index: usize,
        input: &'a [u8],
        scene: &mut Scene<'_, 'a>,
    ) -> Result<Option<Value<'a>>, Fault> {
        let Some(Argument::Function(call)) = self.get(index) else { return Ok(None) };
        scene.input = Value::String(input);
        call.evaluate(scene).map(Some)
    }

    pub(super) fn fixed_text(&self, index: usize) -> Option<&[u8]> {
        match self.get(index) {
            Some(Argument::Value(Expression::Constant(Constant::String(text)))) => Some(text),
            _ => None,
        }
    }

    pub(super) fn fixed_int(&self, index: usize) -> Option<i64> {
        match self.get(index) {
            Some(Argument::Value(Expression::Constant(Constant::Int(value)))) => Some(*value),
            _ => None,
        }
    }

    pub(super) fn fixed_bool(&self, index: usize) -> Option<bool> {
        match self.get(index) {
            Some(Argument::Value(Expression::Constant(Constant::Bool(value)))) => Some(*value),
            _ => None,
        }
    }

    /// The numbers of a list, or a single number.
    pub(super) fn fixed_numbers(&self, index: usize) -> impl Iterator<Item = f64> {
        let one = match self.get(index) {
            Some(Argument::Value(value)) => std::slice::from_ref(value),
            _ => self.values(index),
        };
        one.iter().filter_map(|value| match value {
            Expression::Constant(Constant::Double(value)) => Some(*value),
            Expression::Constant(Constant::Int(value)) => Some(*value as f64),
            _ => None,
        })
    }

    pub(super) fn fixed_texts(&self, index: usize) -> impl Iterator<Item = &[u8]> {
        self.values(index).iter().filter_map(|value| match value {
            Expression::Constant(Constant::String(text)) => Some(&**text),
            _ => None,
        })
    }
}
