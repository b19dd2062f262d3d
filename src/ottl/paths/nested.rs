//! Values nested in maps and lists, by their keys and indexes.
//!
//! Maps and lists are encoded. Setting a nested value encodes the map or list again at each level. Errors have the Go
//! collector's text.

use crate::otlp::wire::put_bytes;
use crate::ottl::value::{Arena, Fault, Value, entries, entry, item, items, out_of_bounds, put_entry, put_item};

/// The maximum length of a list that is created by setting an index.
const LONGEST_NEW_LIST: i64 = 4096;

const NO_INDEX_IN_MAP: &str = "unable to resolve a string index in map: invalid key type";
const NO_KEY_IN_LIST: &str = "unable to resolve an integer index in slice: invalid key type";

/// The value at the keys; nil if a map does not have the key.
pub(super) fn get<'a>(value: Value<'a>, keys: &[Value<'a>]) -> Result<Value<'a>, Fault> {
    let mut value = value;
    for key in keys {
        value = match (value, key) {
            // A value that is present but empty cannot be indexed.
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

/// `current` with `value` at the keys. Missing maps and lists on the way are created. A value that cannot be stored still
/// creates them, and changes nothing else; the caller reports the error.
pub(super) fn set<'a>(
    current: Value<'a>,
    keys: &[Value<'a>],
    value: Value<'a>,
    arena: &'a Arena,
) -> Result<Value<'a>, Fault> {
    let Some((key, rest)) = keys.split_first() else {
        return Ok(if value.any_len().is_some() { value } else { current });
    };
    let mut out = Vec::new();
    match (current, key) {
        (Value::Map(_) | Value::Nil, Value::String(key)) => {
            let map = if let Value::Map(map) = current { map } else { &[] };
            let found = entry(map, key);
            let new = set(found.unwrap_or(Value::Nil), rest, value, arena)?;
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
                // As in the Go collector, a negative index sets the first item of a new list.
                _ if *index < LONGEST_NEW_LIST => (&[] as &[u8], Value::Nil),
                _ => return Err(out_of_bounds(*index)),
            };
            let new = set(old, rest, value, arena)?;
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

/// The error for a value that cannot be an attribute.
pub(super) fn storable(value: &Value) -> Result<(), Fault> {
    let found = value.type_name();
    let fault = || Fault::new(format!("unsupported type {found} for set operation; current value type is Empty"));
    value.any_len().map(drop).ok_or_else(fault)
}

#[cold]
fn no_such_key(value: Value, key: &Value) -> Fault {
    match (value, key) {
        (Value::Map(_), _) => Fault::new(NO_INDEX_IN_MAP),
        (Value::List(_), _) => Fault::new(NO_KEY_IN_LIST),
        (value, _) => Fault::new(format!("type {} does not support string indexing", type_name(&value))),
    }
}

/// A key of a map, which must be text; `act` is `get` or `set`.
pub(super) fn map_key<'a>(key: Value<'a>, act: &str) -> Result<&'a [u8], Fault> {
    match key {
        Value::String(key) => Ok(key),
        Value::Nil => Err(Fault::new(format!(
            "cannot {act} map value: unable to resolve a string index in map: could not resolve key for map/slice, \
             expecting 'string' but got '<nil>'"
        ))),
        _ => Err(Fault::new(format!("cannot {act} map value: {NO_INDEX_IN_MAP}"))),
    }
}

/// The Go collector's name for the type of an attribute.
pub(super) fn type_name(value: &Value) -> &'static str {
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

/// A map with a value set at the keys; without keys, the value itself as a map.
pub(super) fn set_map<'a>(
    map: &'a [u8],
    keys: &[Value<'a>],
    value: Value<'a>,
    arena: &'a Arena,
) -> Result<&'a [u8], Fault> {
    let new = match keys.first() {
        None => value,
        Some(key) => {
            map_key(*key, "set")?;
            set(Value::Map(map), keys, value, arena)?
        }
    };
    match new {
        Value::Map(map) => Ok(map),
        Value::Nil => Ok(&[]),
        value => {
            let found = value.type_name();
            Err(Fault::new(format!("unsupported type provided for setting a pcommon.Map: {found}")))
        }
    }
}

/// Attributes as fields of another number: the entries of a map, or the other way round.
pub(super) fn retag<'a>(pairs: impl Iterator<Item = &'a [u8]>, number: u32) -> Vec<u8> {
    let mut out = Vec::new();
    pairs.for_each(|pair| put_bytes(&mut out, number, pair));
    out
}
