//! A compiled expression and its evaluation.

use regex::bytes::Regex;

use super::function::{Arguments, Function};
use super::paths::Path;
use super::scene::Scene;
use super::value::{Fault, Value};

pub enum Expression {
    Constant(Constant),
    Path(Path),
    Call(Box<Call>),
}

pub struct Call {
    pub function: &'static Function,
    pub arguments: Arguments,
}

/// A value that the program owns.
#[derive(Clone, Debug, PartialEq)]
pub enum Constant {
    Nil,
    Bool(bool),
    Int(i64),
    Double(f64),
    String(Box<[u8]>),
    Bytes(Box<[u8]>),
    /// An encoded `ArrayValue`.
    List(Box<[u8]>),
    /// An encoded `KeyValueList`.
    Map(Box<[u8]>),
    /// Anything else that is plain data: times, durations, ids.
    Other(Value<'static>),
}

/// A regular expression argument.
pub enum Pattern {
    Compiled(Regex),
    Computed(Expression),
}

impl Constant {
    pub fn value(&self) -> Value<'_> {
        match self {
            Constant::Nil => Value::Nil,
            Constant::Bool(value) => Value::Bool(*value),
            Constant::Int(value) => Value::Int(*value),
            Constant::Double(value) => Value::Double(*value),
            Constant::String(text) => Value::String(text),
            Constant::Bytes(bytes) => Value::Bytes(bytes),
            Constant::List(items) => Value::List(items),
            Constant::Map(entries) => Value::Map(entries),
            Constant::Other(value) => *value,
        }
    }
}

impl Expression {
    pub fn evaluate<'a>(&'a self, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
        match self {
            Expression::Constant(constant) => Ok(constant.value()),
            Expression::Path(path) => path.get(scene),
            Expression::Call(call) => (call.function.body)(&call.arguments, scene),
        }
    }
}
