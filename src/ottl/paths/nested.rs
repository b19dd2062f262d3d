//! What stands below a value: keys followed into maps and lists, and values put there.
//!
//! Maps and lists are encoded; putting something into one writes it anew, once for each level of keys. Texts of faults
//! are the Go collector's.

use crate::otlp::wire::put_bytes;
use crate::ottl::value::{Arena, Fault, Value, entries, items, put_entry, put_item};

/// The longest list that setting an index in nothing makes.
const LONGEST_NEW_LIST: i64 = 4096;

const NO_INDEX_IN_MAP: &str = "unable to resolve a string index in map: invalid key type";
const NO_KEY_IN_LIST: &str = "unable to resolve an integer index in slice: invalid key type";

/// What the keys lead to; a key that is not there leads to nil.
pub fn get<'a>(value: Value<'a>, keys: &[Value<'a>]) -> Result<Value<'a>, Fault> {
    let mut value = value;
    for key in keys {
        value = match (value, key) {
            // An empty value that is there has no keys.
            (Value::Map(map), Value::String(key)) => match entry(map, key) {
                Some(value) => value,
                None => return Ok(Value::Nil),
            },
            (Value::List(list), Value::Int(index)) => item(list, *index)?,
            (value, key) => return Err(no_such_key(value, key)),
        };
    }
    Ok(value)
}

/// `current` with `value` at the keys. Maps and lists that are missing on the way are made. What can't be stored changes
/// nothing but for the keys, which are there then; the caller says that it failed.
pub fn put<'a>(current: Value<'a>, keys: &[Value<'a>], value: Value<'a>, arena: &'a Arena) -> Result<Value<'a>, Fault> {
    let Some((key, rest)) = keys.split_first() else {
        return Ok(if value.any_len().is_some() { value } else { current });
    };
    let mut out = Vec::new();
    match (current, key) {
        (Value::Map(_) | Value::Nil, Value::String(key)) => {
            let map = if let Value::Map(map) = current { map } else { &[] };
            let found = entry(map, key);
            let new = put(found.unwrap_or(Value::Nil), rest, value, arena)?;
            let mut is_done = false;
            for (name, old) in entries(map) {
                let is_it = !is_done && name == *key;
                is_done |= is_it;
                put_entry(&mut out, name, if is_it { &new } else { &old });
            }
            if !is_done {
                put_entry(&mut out, key, &new);
            }
            Ok(Value::Map(arena.keep(&out)?))
        }
        (Value::List(_) | Value::Nil, Value::Int(index)) => {
            let (list, old) = match current {
                Value::List(list) => (list, item(list, *index)?),
                // As in the Go collector, a list that is new begins with what a negative index puts there.
                _ if *index < LONGEST_NEW_LIST => (&[] as &[u8], Value::Nil),
                _ => return Err(out_of_bounds(*index)),
            };
            let new = put(old, rest, value, arena)?;
            for (position, old) in (0..).zip(items(list)) {
                put_item(&mut out, if position == *index { &new } else { &old });
            }
            if let Value::Nil = current {
                (0..*index).for_each(|_| put_item(&mut out, &Value::Nil));
                put_item(&mut out, &new);
            }
            Ok(Value::List(arena.keep(&out)?))
        }
        (current, key) => Err(no_such_key(current, key)),
    }
}

/// Why a value can't be stored in telemetry.
pub fn storable(value: &Value) -> Result<(), Fault> {
    let found = value.type_name();
    let fault = || Fault::new(format!("unsupported type {found} for set operation; current value type is Empty"));
    value.any_len().map(drop).ok_or_else(fault)
}

fn entry<'a>(map: &'a [u8], key: &[u8]) -> Option<Value<'a>> {
    entries(map).find(|(name, _)| *name == key).map(|(_, value)| value)
}

fn item(list: &[u8], index: i64) -> Result<Value<'_>, Fault> {
    let found = usize::try_from(index).ok().and_then(|index| items(list).nth(index));
    found.ok_or_else(|| out_of_bounds(index))
}

#[cold]
fn out_of_bounds(index: i64) -> Fault {
    Fault::new(format!("index {index} out of bounds"))
}

#[cold]
fn no_such_key(value: Value, key: &Value) -> Fault {
    match (value, key) {
        (Value::Map(_), _) => Fault::new(NO_INDEX_IN_MAP),
        (Value::List(_), _) => Fault::new(NO_KEY_IN_LIST),
        (value, _) => Fault::new(format!("type {} does not support string indexing", type_name(&value))),
    }
}

/// The key of an attribute.
pub fn text_key<'a>(key: Value<'a>, act: &str) -> Result<&'a [u8], Fault> {
    match key {
        Value::String(key) => Ok(key),
        Value::Nil => Err(Fault::new(format!(
            "cannot {act} map value: unable to resolve a string index in map: could not resolve key for map/slice, \
             expecting 'string' but got '<nil>'"
        ))),
        _ => Err(Fault::new(format!("cannot {act} map value: {NO_INDEX_IN_MAP}"))),
    }
}

/// The Go collector's name for what an attribute holds.
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Bool(_) => "Bool",
        Value::Int(_) => "Int",
        Value::Double(_) => "Double",
        Value::String(_) => "Str",
        Value::Bytes(_) => "Bytes",
        Value::List(_) => "Slice",
        Value::Map(_) => "Map",
        _ => "Empty",
    }
}

/// Attributes, the repeated field `from` of their message, as entries in field `to` of another: only their tags differ.
pub fn retag<'a>(fields: impl Iterator<Item = &'a [u8]>, to: u32) -> Vec<u8> {
    let mut out = Vec::new();
    fields.for_each(|pair| put_bytes(&mut out, to, pair));
    out
}
