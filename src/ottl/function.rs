//! What a function is: a row with its name, its parameters, and the plain function behind it.

use super::expression::{self, Constant, Expression};
use super::paths::Path;
use super::pattern::{Found, Pattern};
use super::scene::Scene;
use super::value::{Fault, Time, Value};

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
    /// The same for values of these types.
    Map,
    List,
    Time,
    Duration,
    /// A value that the function converts; a literal that it can't convert is refused.
    Converted,
    /// Literals only; the same for the four below. They are `Argument::Value`s.
    FixedText,
    FixedInt,
    FixedBool,
    /// A whole number is as good as one with a point.
    FixedNumber,
    /// A list of them: `Argument::Values`.
    FixedNumbers,
    /// A list of text literals: `Argument::Values`.
    FixedTexts,
    /// A path that is written: `Argument::Target`.
    Target,
    /// A regular expression; a literal is compiled (`pattern::compile`) when the configuration loads: `Argument::Pattern`.
    Pattern,
    /// The same for a glob (`pattern::glob`).
    Glob,
    /// Several values, `[…]`: `Argument::Values`.
    Values,
    /// The same, where a literal that is not text is refused.
    Texts,
    /// Several values, or one that is a list when it is evaluated (`Argument::Value`).
    Spread,
    /// The name of a converter whose one parameter is of `Kind::Text`: `Argument::Function`.
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
    Pattern(expression::Pattern),
    Values(Vec<Expression>),
    /// A call whose one argument is `Expression::Input`.
    Function(Expression),
}

/// The arguments of one call, in the order of the parameters; an optional one that is absent is `None`.
pub struct Arguments(pub Vec<Option<Argument>>);

pub type Body = for<'a> fn(&'a Arguments, &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault>;

/// A lower-case name is an editor (its value is not used), an upper-case name a converter.
pub struct Function {
    pub name: &'static str,
    pub parameters: &'static [Parameter],
    pub known: Known,
    pub body: Body,
    /// Refuses literal arguments that can't work, when the configuration loads.
    pub check: Option<fn(&Arguments) -> Result<(), String>>,
    /// Whether that is only a warning: the Go collector loads them, and fails when they run.
    pub check_only_warns: bool,
    /// Whether a call with literal arguments only is evaluated when the configuration loads: not what is random, or looks at
    /// telemetry. What reads the clock fails there, and is evaluated when it runs.
    pub is_constant: bool,
}

impl Arguments {
    fn get(&self, index: usize) -> Option<&Argument> {
        self.0.get(index).and_then(Option::as_ref)
    }

    pub fn is_given(&self, index: usize) -> bool {
        self.get(index).is_some()
    }

    /// The value of an argument; `Nil` when it is absent.
    pub fn value<'a>(&'a self, index: usize, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
        match self.get(index) {
            Some(Argument::Value(expression)) => expression.evaluate(scene),
            Some(Argument::Target(path)) => path.get(scene),
            _ => Ok(Value::Nil),
        }
    }

    pub fn text<'a>(&'a self, index: usize, scene: &mut Scene<'_, 'a>) -> Result<&'a [u8], Fault> {
        self.value(index, scene)?.text()
    }

    /// What any value reads as; `None` for nil.
    pub fn text_like<'a>(&'a self, index: usize, scene: &mut Scene<'_, 'a>) -> Result<Option<&'a [u8]>, Fault> {
        self.value(index, scene)?.text_like(scene.arena)
    }

    pub fn int<'a>(&'a self, index: usize, scene: &mut Scene<'_, 'a>) -> Result<i64, Fault> {
        match self.value(index, scene)? {
            Value::Int(value) => Ok(value),
            other => Err(other.not("int64")),
        }
    }

    pub fn map<'a>(&'a self, index: usize, scene: &mut Scene<'_, 'a>) -> Result<&'a [u8], Fault> {
        match self.value(index, scene)? {
            Value::Map(entries) => Ok(entries),
            other => Err(other.not("pcommon.Map")),
        }
    }

    pub fn list<'a>(&'a self, index: usize, scene: &mut Scene<'_, 'a>) -> Result<&'a [u8], Fault> {
        match self.value(index, scene)? {
            Value::List(items) => Ok(items),
            other => Err(other.not("pcommon.Slice")),
        }
    }

    pub fn time<'a>(&'a self, index: usize, scene: &mut Scene<'_, 'a>) -> Result<Time, Fault> {
        match self.value(index, scene)? {
            Value::Time(time) => Ok(time),
            other => Err(other.not("time")),
        }
    }

    /// Nanoseconds.
    pub fn duration<'a>(&'a self, index: usize, scene: &mut Scene<'_, 'a>) -> Result<i64, Fault> {
        match self.value(index, scene)? {
            Value::Duration(nanos) => Ok(nanos),
            other => Err(other.not("duration")),
        }
    }

    pub fn pattern<'a>(&'a self, index: usize, scene: &mut Scene<'_, 'a>) -> Result<Found<'a>, Fault> {
        match self.get(index) {
            Some(Argument::Pattern(expression::Pattern::Compiled(pattern))) => Ok(Found::Compiled(pattern)),
            Some(Argument::Pattern(expression::Pattern::Computed(expression))) => computed(expression, false, scene),
            Some(Argument::Pattern(expression::Pattern::ComputedGlob(expression))) => computed(expression, true, scene),
            _ => Err(Fault::new("no pattern is given")),
        }
    }

    pub fn literal_pattern(&self, index: usize) -> Option<&Pattern> {
        match self.get(index) {
            Some(Argument::Pattern(expression::Pattern::Compiled(pattern))) => Some(pattern),
            _ => None,
        }
    }

    pub fn values(&self, index: usize) -> &[Expression] {
        match self.get(index) {
            Some(Argument::Values(values)) => values,
            _ => &[],
        }
    }

    pub fn target(&self, index: usize) -> Result<&Path, Fault> {
        match self.get(index) {
            Some(Argument::Target(path)) => Ok(path),
            _ => Err(Fault::new("no target is given")),
        }
    }

    /// The value of the function at `index` for one text.
    pub fn apply<'a>(
        &'a self,
        index: usize,
        input: &'a [u8],
        scene: &mut Scene<'_, 'a>,
    ) -> Result<Option<Value<'a>>, Fault> {
        let Some(Argument::Function(call)) = self.get(index) else { return Ok(None) };
        scene.input = Value::String(input);
        call.evaluate(scene).map(Some)
    }

    pub fn fixed_text(&self, index: usize) -> Option<&[u8]> {
        match self.get(index) {
            Some(Argument::Value(Expression::Constant(Constant::String(text)))) => Some(text),
            _ => None,
        }
    }

    pub fn fixed_int(&self, index: usize) -> Option<i64> {
        match self.get(index) {
            Some(Argument::Value(Expression::Constant(Constant::Int(value)))) => Some(*value),
            _ => None,
        }
    }

    pub fn fixed_bool(&self, index: usize) -> Option<bool> {
        match self.get(index) {
            Some(Argument::Value(Expression::Constant(Constant::Bool(value)))) => Some(*value),
            _ => None,
        }
    }

    /// The numbers of a list, or the one that stands there.
    pub fn fixed_numbers(&self, index: usize) -> impl Iterator<Item = f64> {
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

    pub fn fixed_texts(&self, index: usize) -> impl Iterator<Item = &[u8]> {
        self.values(index).iter().filter_map(|value| match value {
            Expression::Constant(Constant::String(text)) => Some(&**text),
            _ => None,
        })
    }
}

fn computed<'a>(expression: &'a Expression, is_glob: bool, scene: &mut Scene<'_, 'a>) -> Result<Found<'a>, Fault> {
    let text = expression.evaluate(scene)?.text()?;
    scene.arena.patterns.get(text, is_glob, &scene.arena.again).map(Found::Computed)
}
