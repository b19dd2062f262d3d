//! Compiled expressions and their evaluation.

use super::function::{Arguments, Function};
use super::paths::Path;
use super::pattern;
use super::scene::Scene;
use super::syntax::Operator;
use super::value::{Fault, Value, entry, item, put_entry, put_item};

pub enum Expression {
    Constant(Constant),
    Path(Path),
    Call(Box<Call>),
    /// Indexes into a result, one after another.
    Index(Box<Expression>, Vec<Expression>),
    Negative(Box<Expression>),
    /// Operators of one precedence, from left to right.
    Math(Box<Expression>, Vec<(Operator, Expression)>),
    List(Vec<Expression>),
    Map(Vec<(Vec<u8>, Expression)>),
    /// `Scene::input`.
    Input,
}

pub struct Call {
    pub function: &'static Function,
    pub arguments: Arguments,
}

/// A value owned by the program.
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
    /// Any other plain data: times, durations, ids.
    Other(Value<'static>),
}

/// A regular expression argument.
pub(crate) enum Pattern {
    /// A regular expression, or a glob translated to one.
    Compiled(pattern::Pattern),
    Computed {
        text: Expression,
        is_glob: bool,
    },
}

impl Constant {
    pub(super) fn value(&self) -> Value<'_> {
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

    /// A value to keep; `None` for a part of telemetry.
    pub(super) fn of(value: Value) -> Option<Constant> {
        Some(match value {
            Value::Nil => Constant::Nil,
            Value::Bool(value) => Constant::Bool(value),
            Value::Int(value) => Constant::Int(value),
            Value::Double(value) => Constant::Double(value),
            Value::String(text) => Constant::String(text.into()),
            Value::Bytes(bytes) => Constant::Bytes(bytes.into()),
            Value::List(items) => Constant::List(items.into()),
            Value::Map(entries) => Constant::Map(entries.into()),
            Value::Time(time) => Constant::Other(Value::Time(time)),
            Value::Duration(nanos) => Constant::Other(Value::Duration(nanos)),
            Value::TraceId(id) => Constant::Other(Value::TraceId(id)),
            Value::SpanId(id) => Constant::Other(Value::SpanId(id)),
            Value::Whole(..) => return None,
        })
    }
}

impl Expression {
    #[inline]
    pub(super) fn evaluate<'a>(&'a self, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
        match self {
            Expression::Constant(constant) => Ok(constant.value()),
            Expression::Path(path) => path.get(scene),
            Expression::Input => Ok(scene.input),
            Expression::Call(call) => (call.function.body)(&call.arguments, scene),
            _ => self.compute(scene),
        }
    }

    fn compute<'a>(&'a self, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
        match self {
            Expression::Index(inner, keys) => {
                let mut value = inner.evaluate(scene)?;
                for key in keys {
                    value = element(value, key.evaluate(scene)?)?;
                }
                Ok(value)
            }
            Expression::Negative(inner) => match inner.evaluate(scene)? {
                Value::Int(value) => Ok(Value::Int(value.wrapping_neg())),
                Value::Double(value) => Ok(Value::Double(-value)),
                other => Err(Fault::new(format!("unsupported unary minus operation on type {}", kind(&other)))),
            },
            Expression::Math(first, rest) => {
                let mut value = first.evaluate(scene)?;
                for (operator, operand) in rest {
                    value = calculate(value, *operator, operand.evaluate(scene)?)?;
                }
                Ok(value)
            }
            Expression::List(list) => {
                let mut out = Vec::new();
                for item in list {
                    put_item(&mut out, &storable(item.evaluate(scene)?)?);
                }
                Ok(Value::List(scene.arena.keep(&out)?))
            }
            Expression::Map(map) => {
                let mut out = Vec::new();
                for (key, value) in map {
                    put_entry(&mut out, key, &storable(value.evaluate(scene)?)?);
                }
                Ok(Value::Map(scene.arena.keep(&out)?))
            }
            _ => self.evaluate(scene),
        }
    }
}

/// Checks that a value can be stored in a list or a map.
pub(super) fn storable(value: Value<'_>) -> Result<Value<'_>, Fault> {
    match value.any_len() {
        Some(_) => Ok(value),
        None => Err(Fault::new(format!("<Invalid value type {}>", kind(&value)))),
    }
}

/// One element of a map or a list.
fn element<'a>(value: Value<'a>, key: Value) -> Result<Value<'a>, Fault> {
    match (value, key) {
        (Value::Map(map), Value::String(key)) => entry(map, key).ok_or_else(|| Fault::new("key not found in map")),
        (Value::List(list), Value::Int(index)) => item(list, index),
        (other, Value::String(_)) => Err(Fault::new(format!("type {} does not support string indexing", kind(&other)))),
        (other, Value::Int(_)) => Err(Fault::new(format!("type {} does not support int indexing", kind(&other)))),
        (_, Value::Nil) => Err(Fault::new("key expression returned nil, expected an int or string")),
        (_, key) => Err(Fault::new(format!("key expression must evaluate to string or int, got {}", kind(&key)))),
    }
}

/// The name of a value's type in messages about keys and sums.
pub(super) fn kind(value: &Value) -> &'static str {
    if let Value::Nil = value { "<nil>" } else { value.type_name() }
}

/// Integers wrap around, as in Go.
fn calculate<'a>(left: Value, operator: Operator, right: Value) -> Result<Value<'a>, Fault> {
    let floats = |left: f64, right: f64| match operator {
        Operator::Add => Ok(Value::Double(left + right)),
        Operator::Subtract => Ok(Value::Double(left - right)),
        Operator::Multiply => Ok(Value::Double(left * right)),
        Operator::Divide if right == 0.0 => Err(Fault::new("attempted to divide by 0")),
        Operator::Divide => Ok(Value::Double(left / right)),
    };
    match (left, operator, right) {
        (Value::Int(left), _, Value::Int(right)) => Ok(Value::Int(match operator {
            Operator::Add => left.wrapping_add(right),
            Operator::Subtract => left.wrapping_sub(right),
            Operator::Multiply => left.wrapping_mul(right),
            Operator::Divide if right == 0 => return Err(Fault::new("attempted to divide by 0")),
            Operator::Divide => left.wrapping_div(right),
        })),
        (Value::Int(left), _, Value::Double(right)) => floats(left as f64, right),
        (Value::Double(left), _, Value::Int(right)) => floats(left, right as f64),
        (Value::Double(left), _, Value::Double(right)) => floats(left, right),
        (Value::Time(time), Operator::Add, Value::Duration(nanos))
        | (Value::Duration(nanos), Operator::Add, Value::Time(time)) => Ok(Value::Time(time.shifted(nanos.into()))),
        (Value::Time(time), Operator::Subtract, Value::Duration(nanos)) => {
            Ok(Value::Time(time.shifted(-i128::from(nanos))))
        }
        (Value::Time(left), Operator::Subtract, Value::Time(right)) => {
            let nanos = left.nanos() - right.nanos();
            Ok(Value::Duration(nanos.clamp(i64::MIN.into(), i64::MAX.into()) as i64))
        }
        (Value::Duration(left), Operator::Add, Value::Duration(right)) => Ok(Value::Duration(left.wrapping_add(right))),
        (Value::Duration(left), Operator::Subtract, Value::Duration(right)) => {
            Ok(Value::Duration(left.wrapping_sub(right)))
        }
        (Value::Time(_) | Value::Duration(_), Operator::Multiply | Operator::Divide, _) => {
            Err(Fault::new("only addition and subtraction supported for time.Time and time.Duration"))
        }
        (left, ..) => {
            let (left, right) = (kind(&left), kind(&right));
            Err(Fault::new(format!("{left} and {right} can't be calculated with: both must be numbers, or times")))
        }
    }
}
