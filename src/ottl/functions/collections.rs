//! Lists and maps: indexing, searching, sorting, conversion.

use std::cmp::Ordering;

use super::{Entries, LIST, MAP, TARGET, fixed_or, function, gathered, list, made, one_of, optional, put, required};
use crate::order::Ordered;
use crate::ottl::condition::equal;
use crate::ottl::function::{Arguments, Function, Kind};
use crate::ottl::scene::Scene;
use crate::ottl::value::{Fault, Value, entries, entry, items};

pub(super) const TABLE: &[Function] = &[
    function("Coalesce", &[required("values", Kind::Values)], |arguments, scene| {
        for value in arguments.values(0) {
            match value.evaluate(scene)? {
                Value::Nil => {}
                found => return Ok(found),
            }
        }
        Ok(Value::Nil)
    })
    .checked(|arguments| match arguments.values(0) {
        [] => Err("Coalesce requires at least one argument".into()),
        _ => Ok(()),
    }),
    function("ContainsValue", &[LIST, required("item", Kind::Value)], |arguments, scene| {
        let (list, wanted) = (arguments.list(0, scene)?, arguments.value(1, scene)?);
        Ok(Value::Bool(items(list).any(|item| equal(&item, &wanted))))
    }),
    function("Index", &[TARGET, required("value", Kind::Value)], |arguments, scene| {
        let place = match (arguments.value(0, scene)?, arguments.value(1, scene)?) {
            (Value::String(text), Value::String(part)) => memchr::memmem::find(text, part),
            (Value::String(_), _) => {
                return Err(Fault::new("invalid value type for Index function, value must be a string"));
            }
            (Value::List(list), wanted) => items(list).position(|item| equal(&item, &wanted)),
            (other, _) => return Err(other.not("pcommon.Slice")),
        };
        Ok(Value::Int(place.map_or(-1, |place| place as i64)))
    }),
    function("Keys", &[MAP], |arguments, scene| {
        let map = arguments.map(0, scene)?;
        list(scene.arena, entries(map).map(|(key, _)| Value::String(key)))
    }),
    function(
        "SliceToMap",
        &[LIST, optional("key_path", Kind::FixedTexts), optional("value_path", Kind::FixedTexts)],
        slice_to_map,
    ),
    function("Sort", &[TARGET, optional("order", Kind::FixedText)], sort).checked(|arguments| {
        one_of(arguments, 1, &["asc", "desc"], |order| {
            format!("invalid arguments: {order}. Order should be either \"asc\" or \"desc\"")
        })
    }),
    function(
        "ToKeyValueString",
        &[
            MAP,
            optional("delimiter", Kind::FixedText),
            optional("pair_delimiter", Kind::FixedText),
            optional("sort_output", Kind::FixedBool),
        ],
        to_key_value_string,
    )
    .checked(check_delimiters),
    function("Values", &[MAP], |arguments, scene| {
        let map = arguments.map(0, scene)?;
        list(scene.arena, entries(map).map(|(_, value)| value))
    }),
];

/// The delimiters of `ToKeyValueString` and `ParseKeyValue`.
pub(super) fn check_delimiters(arguments: &Arguments) -> Result<(), String> {
    match (fixed_or(arguments, 1, "="), fixed_or(arguments, 2, " ")) {
        (b"", _) => Err("delimiter cannot be set to an empty string".into()),
        (_, b"") => Err("pair delimiter cannot be set to an empty string".into()),
        (one, other) if one == other => {
            let one = String::from_utf8_lossy(one);
            Err(format!("pair delimiter {one:?} cannot be equal to delimiter {one:?}"))
        }
        _ => Ok(()),
    }
}

fn slice_to_map<'a>(arguments: &'a Arguments, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
    let list = arguments.list(0, scene)?;
    let mut out = Entries::default();
    for (index, item) in items(list).enumerate() {
        let of_path = |path: usize| follow(item, arguments.fixed_texts(path));
        let key = if arguments.is_given(1) {
            match of_path(1)? {
                Value::String(key) => key,
                other => {
                    let found = other.type_name();
                    return Err(Fault::new(format!(
                        "element {index}: extracted key attribute is not of type string, got {found}"
                    )));
                }
            }
        } else {
            scene.arena.keep(index.to_string().as_bytes())?
        };
        out.put(key, if arguments.is_given(2) { of_path(2)? } else { item })?;
    }
    out.value(scene.arena)
}

/// The value at a path of keys.
fn follow<'a, 'p>(value: Value<'a>, path: impl Iterator<Item = &'p [u8]>) -> Result<Value<'a>, Fault> {
    let mut found = value;
    let mut is_empty = true;
    for key in path {
        is_empty = false;
        let Value::Map(map) = found else {
            return Err(Fault::new(format!("could not cast element of type {} to a map", found.type_name())));
        };
        let missing = || Fault::new(format!("provided object does not contain {:?}", String::from_utf8_lossy(key)));
        found = entry(map, key).ok_or_else(missing)?;
    }
    if is_empty { Err(Fault::new("must provide at least one path item")) } else { Ok(found) }
}

/// Numbers sort as numbers, other scalars as text; lists with maps, lists or bytes stay unchanged.
fn sort<'a>(arguments: &'a Arguments, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
    let original = match arguments.value(0, scene)? {
        Value::List(list) => list,
        other => {
            return Err(Fault::new(format!(
                "sort with unsupported type: '{}'. Target is not a list",
                other.type_name()
            )));
        }
    };
    let mut sorted: Vec<(Value, Vec<u8>)> = gathered(items(original).map(|item| (item, Vec::new())))?;
    if sorted.iter().any(|(item, _)| matches!(item, Value::Map(_) | Value::List(_) | Value::Bytes(_))) {
        return Ok(Value::List(original));
    }
    if sorted.iter().any(|(item, _)| !matches!(item, Value::Int(_) | Value::Double(_))) {
        sorted.iter_mut().for_each(|(item, text)| item.put_as_string(text));
    }
    // If one number is a double, all are compared as doubles.
    let is_whole = sorted.iter().all(|(item, _)| matches!(item, Value::Int(_)));
    sorted.order_by(|(one, one_text), (other, other_text)| {
        let order = match (one, other) {
            (Value::Int(one), Value::Int(other)) if is_whole => one.cmp(other),
            _ => one_text.cmp(other_text).then_with(|| compare_numbers(number(one), number(other))),
        };
        if arguments.fixed_text(1) == Some(b"desc") { order.reverse() } else { order }
    });
    list(scene.arena, sorted.into_iter().map(|(item, _)| item))
}

fn number(value: &Value) -> f64 {
    match value {
        Value::Int(value) => *value as f64,
        Value::Double(value) => *value,
        _ => 0.0,
    }
}

/// NaN comes first, as in Go.
fn compare_numbers(one: f64, other: f64) -> Ordering {
    one.partial_cmp(&other).unwrap_or_else(|| other.is_nan().cmp(&one.is_nan()))
}

fn to_key_value_string<'a>(arguments: &'a Arguments, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
    let (delimiter, pair_delimiter) = (fixed_or(arguments, 1, "="), fixed_or(arguments, 2, " "));
    let mut pairs = gathered(entries(arguments.map(0, scene)?))?;
    if arguments.fixed_bool(3) == Some(true) {
        pairs.order_by_key(|(key, _)| *key);
    }
    let mut out = Vec::new();
    let put_escaped = |out: &mut Vec<u8>, text: &[u8]| {
        let has = |part| memchr::memmem::find(text, part).is_some();
        let quote: &[u8] = if has(delimiter) || has(pair_delimiter) { b"\"" } else { b"" };
        put(out, quote)?;
        for (index, part) in text.split(|byte| *byte == b'"').enumerate() {
            put(out, if index > 0 { b"\\\"" } else { b"" })?;
            put(out, part)?;
        }
        put(out, quote)
    };
    for (index, (key, value)) in pairs.into_iter().enumerate() {
        put(&mut out, if index > 0 { pair_delimiter } else { b"" })?;
        put_escaped(&mut out, key)?;
        put(&mut out, delimiter)?;
        let mut text = Vec::new();
        value.put_as_string(&mut text);
        put_escaped(&mut out, &text)?;
    }
    made(scene.arena, &out)
}
