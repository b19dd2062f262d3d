//! Compiled conditions, and how values compare: values of different types are neither equal nor ordered.

use crate::order::Ordered;
use std::cmp::Ordering;

use super::expression::{Constant, Expression, kind};
use super::functions::many;
use super::paths::Path;
use super::scene::Scene;
use super::syntax::Comparison;
use super::value::{Fault, Value, entries, items};

pub enum Condition {
    Constant(bool),
    /// A converter with a boolean result.
    Truth(Expression),
    Compare(Box<(Expression, Comparison, Expression)>),
    /// The two most common forms: an integer field compared with an integer, and a text field with a text.
    Int(Box<(Path, Comparison, i64)>),
    Text(Box<(Path, bool, Box<[u8]>)>),
    Not(Box<Condition>),
    All(Vec<Condition>),
    Any(Vec<Condition>),
}

impl Condition {
    /// The error for a value that is not a boolean.
    pub(super) fn untrue(value: &Value) -> Fault {
        Fault::new(format!("a condition must be true or false, and this is {}", kind(value)))
    }

    pub(super) fn comparing(left: Expression, comparison: Comparison, right: Expression) -> Condition {
        match (left, comparison, right) {
            (Expression::Path(path), _, Expression::Constant(Constant::Int(value))) if path.is_int() => {
                Condition::Int(Box::new((path, comparison, value)))
            }
            (
                Expression::Path(path),
                Comparison::Equal | Comparison::NotEqual,
                Expression::Constant(Constant::String(text)),
            ) if path.is_text() => Condition::Text(Box::new((path, comparison == Comparison::Equal, text))),
            sides => Condition::Compare(Box::new(sides)),
        }
    }

    pub fn holds<'a>(&'a self, scene: &mut Scene<'_, 'a>) -> Result<bool, Fault> {
        match self {
            Condition::Constant(value) => Ok(*value),
            Condition::Compare(sides) => {
                let (left, comparison, right) = &**sides;
                let left = left.evaluate(scene);
                // Compared by reference: moving a value costs more than comparing it.
                match (&left, right) {
                    (Ok(left), Expression::Constant(right)) => Ok(compare(left, *comparison, &right.value())),
                    (Ok(left), right) => Ok(compare(left, *comparison, &right.evaluate(scene)?)),
                    (Err(_), _) => left.map(|_| false),
                }
            }
            Condition::Int(sides) => {
                let (path, comparison, value) = &**sides;
                Ok(comparison.allows(path.int(scene.sight).cmp(value)))
            }
            Condition::Text(sides) => {
                let (path, equal, text) = &**sides;
                Ok((path.text(scene.sight) == Some(&**text)) == *equal)
            }
            Condition::Truth(expression) => match expression.evaluate(scene)? {
                Value::Bool(value) => Ok(value),
                other => Err(Condition::untrue(&other)),
            },
            Condition::Not(inner) => Ok(!inner.holds(scene)?),
            Condition::All(terms) => {
                for term in terms {
                    if !term.holds(scene)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Condition::Any(terms) => {
                for term in terms {
                    if term.holds(scene)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }
}

#[inline(always)]
pub(super) fn compare(left: &Value, comparison: Comparison, right: &Value) -> bool {
    match comparison {
        Comparison::Equal => equal(left, right),
        Comparison::NotEqual => !equal(left, right),
        _ => order(left, right).is_some_and(|order| comparison.allows(order)),
    }
}

impl Comparison {
    #[inline]
    fn allows(self, order: Ordering) -> bool {
        match self {
            Comparison::Equal => order.is_eq(),
            Comparison::NotEqual => order.is_ne(),
            Comparison::Less => order.is_lt(),
            Comparison::LessOrEqual => order.is_le(),
            Comparison::Greater => order.is_gt(),
            Comparison::GreaterOrEqual => order.is_ge(),
        }
    }
}

#[inline]
pub(super) fn equal(left: &Value, right: &Value) -> bool {
    match (left.or_nil(), right.or_nil()) {
        (Value::String(left), Value::String(right)) => left == right,
        (Value::Map(_), Value::Map(_)) | (Value::List(_), Value::List(_)) => same(*left, *right, many()),
        (Value::TraceId(left), Value::TraceId(right)) => left == right,
        (Value::SpanId(left), Value::SpanId(right)) => left == right,
        (Value::Whole(what, left), Value::Whole(other, right)) => what == other && left == right,
        _ => order(left, right).is_some_and(Ordering::is_eq),
    }
}

impl Value<'_> {
    /// Empty bytes are nil in Go, and compare as nil.
    #[inline]
    fn or_nil(&self) -> &Self {
        if let Value::Bytes([]) = self { &Value::Nil } else { self }
    }
}

/// The order of two values, if they have one.
#[inline]
fn order(left: &Value, right: &Value) -> Option<Ordering> {
    Some(match (left.or_nil(), right.or_nil()) {
        (Value::Int(left), Value::Int(right)) => left.cmp(right),
        (Value::Int(left), Value::Double(right)) => return (*left as f64).partial_cmp(right),
        (Value::Double(left), Value::Int(right)) => return left.partial_cmp(&(*right as f64)),
        (Value::Double(left), Value::Double(right)) => return left.partial_cmp(right),
        (Value::String(left), Value::String(right)) | (Value::Bytes(left), Value::Bytes(right)) => left.cmp(right),
        (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
        (Value::Duration(left), Value::Duration(right)) => left.cmp(right),
        (Value::Time(left), Value::Time(right)) => (left.seconds, left.nanos).cmp(&(right.seconds, right.nanos)),
        (Value::Nil, Value::Nil) => Ordering::Equal,
        _ => return None,
    })
}

/// Equality inside maps and lists, where an integer never equals a float.
fn same(left: Value, right: Value, room: usize) -> bool {
    match (left, right) {
        (Value::List(left), Value::List(right)) => left == right || same_lists(left, right, room),
        (Value::Map(left), Value::Map(right)) => left == right || same_maps(left, right, room),
        _ => left == right,
    }
}

fn same_lists(left: &[u8], right: &[u8], room: usize) -> bool {
    items(left).count() == items(right).count()
        && items(left).zip(items(right)).all(|(one, other)| same(one, other, room))
}

/// Ignores the order of keys, unless there are more of them than `room` allows: then the maps must have the same bytes.
fn same_maps(left: &[u8], right: &[u8], room: usize) -> bool {
    let count = entries(left).count();
    let Some(room) = room.checked_sub(count).filter(|_| entries(right).count() == count) else { return false };
    let sorted = |map| {
        let mut pairs: Vec<_> = entries(map).collect();
        pairs.order_by_key(|(key, _)| *key);
        pairs
    };
    let (left, right) = (sorted(left), sorted(right));
    let mut pairs = left.iter().zip(&right);
    pairs.all(|((key, one), (other_key, other))| key == other_key && same(*one, *other, room))
}
