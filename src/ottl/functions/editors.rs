//! Functions that change telemetry.

use std::borrow::Cow;
use std::collections::HashMap;

use super::strings::is_within_char;
use super::{Entries, fixed_or, function, one_of, optional, put, required};
use crate::ottl::expression::storable;
use crate::ottl::function::{Arguments, Function, Kind, Parameter};
use crate::ottl::pattern::{Pattern, expand};
use crate::ottl::scene::Scene;
use crate::ottl::value::{Fault, Time, Value, entries, items, put_entry, put_item};

const TARGET: Parameter = required("target", Kind::Target);
const REPLACEMENT: Parameter = required("replacement", Kind::Text);
const FUNCTION: Parameter = optional("function", Kind::Function);
const FORMAT: Parameter = optional("replacement_format", Kind::Text);

pub(super) const TABLE: &[Function] = &[
    function("append", &[TARGET, optional("value", Kind::Value), optional("values", Kind::Values)], append).checked(
        |arguments| match arguments.is_given(1) || arguments.is_given(2) {
            true => Ok(()),
            false => Err("at least one of the optional arguments ('value' or 'values') must be provided".into()),
        },
    ),
    function("clear", &[TARGET], clear),
    function(
        "delete_index",
        &[TARGET, required("start_index", Kind::Int), optional("end_index", Kind::Int)],
        delete_index,
    ),
    function("delete_key", &[TARGET, required("key", Kind::Text)], |arguments, scene| {
        let key = arguments.text(1, scene)?;
        arguments.target(0)?.delete_key(scene, key)?;
        Ok(Value::Nil)
    }),
    function("delete_matching_keys", &[TARGET, required("pattern", Kind::Pattern)], |arguments, scene| {
        let pattern = arguments.pattern(1, scene)?;
        retain(arguments, scene, |key| !pattern.is_match(key))
    }),
    function(
        "flatten",
        &[
            TARGET,
            optional("prefix", Kind::FixedText),
            optional("depth", Kind::FixedInt),
            optional("resolve_conflicts", Kind::FixedBool),
        ],
        flatten,
    )
    .checked(|arguments| match arguments.fixed_int(2) {
        Some(depth @ ..1) => Err(format!("invalid depth '{depth}' for flatten function, must be greater than 0")),
        _ => Ok(()),
    }),
    function("keep_keys", &[TARGET, required("keys", Kind::Texts)], |arguments, scene| {
        let mut wanted = Vec::new();
        for key in arguments.values(1) {
            wanted.push(key.evaluate(scene)?.text()?);
        }
        retain(arguments, scene, |key| wanted.contains(&key))
    }),
    function("keep_matching_keys", &[TARGET, required("pattern", Kind::Pattern)], |arguments, scene| {
        let pattern = arguments.pattern(1, scene)?;
        retain(arguments, scene, |key| pattern.is_match(key))
    }),
    function(
        "limit",
        &[TARGET, required("limit", Kind::FixedInt), required("priority_keys", Kind::FixedTexts)],
        limit,
    )
    .checked(|arguments| {
        let (limit, keys) = (arguments.fixed_int(1).unwrap_or(0), arguments.fixed_texts(2).count() as i64);
        match limit {
            ..0 => Err(format!("invalid limit for limit function, {limit} cannot be negative")),
            _ if limit < keys => Err(format!(
                "invalid limit for limit function, {limit} cannot be less than number of priority attributes {keys}"
            )),
            _ => Ok(()),
        }
    }),
    function(
        "merge_maps",
        &[TARGET, required("source", Kind::Map), required("strategy", Kind::FixedText)],
        merge_maps,
    )
    .checked(|arguments| {
        one_of(arguments, 2, &["insert", "update", "upsert"], |strategy| {
            format!("invalid value for strategy, {strategy}, must be 'insert', 'update' or 'upsert'")
        })
    }),
    function(
        "replace_all_matches",
        &[TARGET, required("pattern", Kind::Glob), REPLACEMENT, FUNCTION, FORMAT],
        |arguments, scene| {
            let pattern = arguments.pattern(1, scene)?;
            let replacement = whole_replacement(arguments, scene)?;
            edit(arguments, scene, |_, value| match value {
                Value::String(text) if pattern.is_match(text) => Ok(Some(Value::String(replacement))),
                _ => Ok(None),
            })
        },
    ),
    function(
        "replace_all_patterns",
        &[
            TARGET,
            required("mode", Kind::FixedText),
            required("regex_pattern", Kind::Pattern),
            REPLACEMENT,
            FUNCTION,
            FORMAT,
        ],
        replace_all_patterns,
    )
    .checked(|arguments| {
        one_of(arguments, 1, &["key", "value"], |mode| format!("invalid mode {mode}, must be either 'key' or 'value'"))
    }),
    function(
        "replace_match",
        &[TARGET, required("pattern", Kind::Glob), REPLACEMENT, FUNCTION, FORMAT],
        |arguments, scene| {
            let pattern = arguments.pattern(1, scene)?;
            let target = arguments.value(0, scene)?;
            let replacement = whole_replacement(arguments, scene)?;
            match target {
                Value::String(text) if pattern.is_match(text) => set(arguments, scene, Value::String(replacement)),
                _ => Ok(Value::Nil),
            }
        },
    ),
    function(
        "replace_pattern",
        &[TARGET, required("regex_pattern", Kind::Pattern), REPLACEMENT, FUNCTION, FORMAT],
        |arguments, scene| {
            let target = arguments.value(0, scene)?;
            if matches!(target, Value::Nil) {
                return Ok(Value::Nil);
            }
            let replacer = Replacer { arguments, template: arguments.text(2, scene)?, function: 3 };
            let Value::String(text) = target else { return Ok(Value::Nil) };
            let pattern = arguments.pattern(1, scene)?;
            match replacer.replace(&pattern, text, scene)? {
                Some(text) => set(arguments, scene, Value::String(text)),
                None => Ok(Value::Nil),
            }
        },
    ),
    function("set", &[TARGET, required("value", Kind::Value)], |arguments, scene| {
        let value = arguments.value(1, scene)?;
        set(arguments, scene, value)
    }),
    function("stringify_all", &[TARGET], |arguments, scene| {
        edit(arguments, scene, |scene, value| match value {
            Value::String(_) => Ok(None),
            other => {
                let mut text = Vec::new();
                other.put_as_string(&mut text);
                Ok(Some(Value::String(scene.arena.keep(&text)?)))
            }
        })
    }),
    function(
        "truncate_all",
        &[
            TARGET,
            required("limit", Kind::FixedInt),
            optional("utf8_safe", Kind::FixedBool),
            optional("truncation_marker", Kind::FixedText),
        ],
        truncate_all,
    )
    .checked(|arguments| {
        let (limit, marker) = (arguments.fixed_int(1).unwrap_or(0), fixed_or(arguments, 3, "").len() as i64);
        match limit {
            ..0 => Err(format!("invalid limit for truncate_all function, {limit} cannot be negative")),
            _ if marker > limit => Err(format!(
                "invalid truncation marker for truncate_all function, length of marker {marker} cannot be greater than limit {limit}"
            )),
            _ => Ok(()),
        }
    }),
];

fn set<'a>(arguments: &'a Arguments, scene: &mut Scene<'_, 'a>, value: Value<'a>) -> Result<Value<'a>, Fault> {
    arguments.target(0)?.set(scene, value)?;
    Ok(Value::Nil)
}

/// Keeps the wanted entries of the target map.
fn retain<'a>(
    arguments: &'a Arguments,
    scene: &mut Scene<'_, 'a>,
    mut is_wanted: impl FnMut(&'a [u8]) -> bool,
) -> Result<Value<'a>, Fault> {
    arguments.target(0)?.retain(scene, |key, _| is_wanted(key))?;
    Ok(Value::Nil)
}

/// Replaces values in the target map. It is written only if something changed.
fn edit<'a, 's>(
    arguments: &'a Arguments,
    scene: &mut Scene<'s, 'a>,
    mut change: impl FnMut(&mut Scene<'s, 'a>, Value<'a>) -> Result<Option<Value<'a>>, Fault>,
) -> Result<Value<'a>, Fault> {
    let map = arguments.map(0, scene)?;
    let mut is_changed = false;
    let mut out = Vec::with_capacity(map.len());
    for (key, value) in entries(map) {
        let new = change(scene, value)?;
        is_changed |= new.is_some();
        put_entry(&mut out, key, &new.unwrap_or(value));
        put(&mut out, &[])?;
    }
    if !is_changed {
        return Ok(Value::Nil);
    }
    let map = Value::Map(scene.arena.keep(&out)?);
    set(arguments, scene, map)
}

fn append<'a>(arguments: &'a Arguments, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
    let mut out = Vec::new();
    let mut push = |value: Value| {
        put_item(&mut out, &storable(value)?);
        put(&mut out, &[])
    };
    match arguments.value(0, scene)? {
        Value::Nil => {}
        Value::List(list) => items(list).try_for_each(&mut push)?,
        scalar => push(scalar)?,
    }
    if arguments.is_given(1) {
        push(arguments.value(1, scene)?)?;
    }
    for value in arguments.values(2) {
        push(value.evaluate(scene)?)?;
    }
    let list = Value::List(scene.arena.keep(&out)?);
    set(arguments, scene, list)
}

/// The zero of the target's type.
fn clear<'a>(arguments: &'a Arguments, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
    let zero = match arguments.value(0, scene)? {
        Value::Nil => Value::Nil,
        Value::Bool(_) => Value::Bool(false),
        Value::Int(_) => Value::Int(0),
        Value::Double(_) => Value::Double(0.0),
        Value::String(_) => Value::String(b""),
        Value::Bytes(_) => Value::Bytes(b""),
        Value::List(_) => Value::List(b""),
        Value::Map(_) => Value::Map(b""),
        // Go's zero time is the first moment of the year 1.
        Value::Time(time) => Value::Time(Time { seconds: -62_135_596_800, nanos: 0, ..time }),
        Value::Duration(_) => Value::Duration(0),
        Value::TraceId(_) => Value::TraceId([0; 16]),
        Value::SpanId(_) => Value::SpanId([0; 8]),
        Value::Whole(name, _) => Value::Whole(name, b""),
    };
    set(arguments, scene, zero)
}

fn delete_index<'a>(arguments: &'a Arguments, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
    let list = arguments.list(0, scene)?;
    let length = items(list).count() as i64;
    let start = arguments.int(1, scene)?;
    let end = if arguments.is_given(2) { arguments.int(2, scene)? } else { start.saturating_add(1) };
    if (start, end) != (0, length) {
        if start < 0 || start >= length {
            return Err(Fault::new(format!("startIndex {start} out of bounds for slice of length {length}")));
        }
        if end < start {
            return Err(Fault::new(format!("endIndex {end} cannot be less than startIndex {start}")));
        }
        if end > length {
            return Err(Fault::new(format!(
                "deletion range [{start}:{end}] out of bounds for slice of length {length}"
            )));
        }
    }
    let kept = items(list).zip(0i64..).filter(|(_, index)| !(start..end).contains(index));
    let list = super::list(scene.arena, kept.map(|(item, _)| item))?;
    set(arguments, scene, list)
}

/// Deeper than values can nest.
const UNLIMITED: i64 = 1 << 32;

/// Flattens nested maps and lists under joined keys.
struct Flat<'a> {
    out: Entries<'a>,
    depth: i64,
    /// How often each key was repeated; set if conflicts are resolved.
    met: Option<HashMap<&'a [u8], u64>>,
}

fn flatten<'a>(arguments: &'a Arguments, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
    let map = arguments.map(0, scene)?;
    let met = arguments.fixed_bool(3).filter(|resolve| *resolve).map(|_| HashMap::new());
    let mut flat = Flat { out: Entries::default(), depth: arguments.fixed_int(2).unwrap_or(UNLIMITED), met };
    flat.put_map(map, fixed_or(arguments, 1, ""), 0, scene)?;
    let map = flat.out.value(scene.arena)?;
    set(arguments, scene, map)
}

impl<'a> Flat<'a> {
    fn put_map(&mut self, map: &'a [u8], prefix: &[u8], depth: i64, scene: &Scene<'_, 'a>) -> Result<(), Fault> {
        for (key, value) in entries(map) {
            let key = if prefix.is_empty() { Cow::Borrowed(key) } else { Cow::Owned([prefix, b".", key].concat()) };
            self.put_value(&key, value, depth, scene)?;
        }
        Ok(())
    }

    fn put_value(&mut self, key: &[u8], value: Value<'a>, depth: i64, scene: &Scene<'_, 'a>) -> Result<(), Fault> {
        let list = match value {
            Value::Map(map) if depth < self.depth => return self.put_map(map, key, depth + 1, scene),
            Value::List(list) if depth < self.depth => list,
            value => return self.put_leaf(key, key, value, scene),
        };
        for (index, item) in items(list).enumerate() {
            let numbered = [key, format!(".{index}").as_bytes()].concat();
            match item {
                Value::Map(map) if depth + 1 < self.depth => self.put_map(map, &numbered, depth + 2, scene)?,
                // No dot separates the indexes of nested lists, as in the Go collector.
                Value::List(list) if depth + 1 < self.depth => {
                    for (index, item) in items(list).enumerate() {
                        let key = [&numbered, index.to_string().as_bytes()].concat();
                        self.put_value(&key, item, depth + 3, scene)?;
                    }
                }
                item => self.put_leaf(key, &numbered, item, scene)?,
            }
        }
        Ok(())
    }

    /// If conflicts are resolved, the items of a list conflict too: they all have the list's key.
    fn put_leaf(&mut self, key: &[u8], numbered: &[u8], value: Value<'a>, scene: &Scene<'_, 'a>) -> Result<(), Fault> {
        match self.met {
            Some(_) => self.put_resolved(scene.arena.keep(key)?, value, scene),
            None => self.out.put(scene.arena.keep(numbered)?, value),
        }
    }

    fn put_resolved(&mut self, key: &'a [u8], value: Value<'a>, scene: &Scene<'_, 'a>) -> Result<(), Fault> {
        let is_taken = self.out.find(key).is_some();
        let Some(met) = &mut self.met else { return Ok(()) };
        if !is_taken {
            met.insert(key, 0);
            return self.out.put(key, value);
        }
        let count = met.entry(key).or_default();
        let numbered = [key, format!(".{count}").as_bytes()].concat();
        *count += 1;
        self.out.put(scene.arena.keep(&numbered)?, value)
    }
}

fn limit<'a>(arguments: &'a Arguments, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
    let map = arguments.map(0, scene)?;
    let limit = arguments.fixed_int(1).unwrap_or(0);
    if entries(map).count() as i64 <= limit {
        return Ok(Value::Nil);
    }
    let is_priority = |key: &[u8]| arguments.fixed_texts(2).any(|wanted| wanted == key);
    let found = |wanted: &&[u8]| entries(map).any(|(key, _)| key == *wanted);
    let mut count = arguments.fixed_texts(2).filter(found).count() as i64;
    retain(arguments, scene, |key| {
        count += i64::from(!is_priority(key));
        is_priority(key) || count <= limit
    })
}

fn merge_maps<'a>(arguments: &'a Arguments, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
    let mut merged = Entries::of(arguments.map(0, scene)?)?;
    let source = arguments.map(1, scene)?;
    let strategy = fixed_or(arguments, 2, "upsert");
    for (key, value) in entries(source) {
        let wanted = match strategy {
            b"insert" => merged.find(key).is_none(),
            b"update" => merged.find(key).is_some(),
            _ => true,
        };
        if wanted {
            merged.put(key, value)?;
        }
    }
    let map = merged.value(scene.arena)?;
    set(arguments, scene, map)
}

fn replace_all_patterns<'a>(arguments: &'a Arguments, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
    let map = arguments.map(0, scene)?;
    let replacer = Replacer { arguments, template: arguments.text(3, scene)?, function: 4 };
    let pattern = arguments.pattern(2, scene)?;
    if fixed_or(arguments, 1, "") == b"value" {
        return edit(arguments, scene, |scene, value| {
            let Value::String(text) = value else { return Ok(None) };
            // If the function fails, the text is unchanged.
            let replaced = replacer.replace(&pattern, text, scene).unwrap_or(None);
            Ok(replaced.map(Value::String))
        });
    }
    let mut out = Entries::default();
    for (key, value) in entries(map) {
        match replacer.replace(&pattern, key, scene) {
            Ok(replaced) => out.put(replaced.unwrap_or(key), value)?,
            Err(fault) if arguments.is_given(4) => drop(fault),
            Err(fault) => return Err(fault),
        }
    }
    let map = out.value(scene.arena)?;
    set(arguments, scene, map)
}

/// The arguments of a function that replaces matches.
struct Replacer<'a> {
    arguments: &'a Arguments,
    template: &'a [u8],
    /// The argument index of the optional function; the format for its result follows.
    function: usize,
}

impl<'a> Replacer<'a> {
    /// The text with every match replaced; `None` without a match.
    fn replace(&self, pattern: &Pattern, text: &'a [u8], scene: &mut Scene<'_, 'a>) -> Result<Option<&'a [u8]>, Fault> {
        let mut out = Vec::new();
        let mut end = 0;
        let mut is_found = false;
        for captures in pattern.all_captures(text, &scene.arena.again) {
            let captures = captures?;
            let Some(whole) = captures.get(0) else { continue };
            is_found = true;
            put(&mut out, text.get(end..whole.start()).unwrap_or_default())?;
            end = whole.end();
            if self.arguments.is_given(self.function) {
                let mut input = Vec::new();
                expand(self.template, &captures, &mut input)?;
                let input = scene.arena.keep(&input)?;
                put(&mut out, applied(self.arguments, self.function, input, scene)?)?;
            } else {
                expand(self.template, &captures, &mut out)?;
            }
        }
        if !is_found {
            return Ok(None);
        }
        put(&mut out, text.get(end..).unwrap_or_default())?;
        scene.arena.keep(&out).map(Some)
    }
}

/// The replacement of a glob's match.
fn whole_replacement<'a>(arguments: &'a Arguments, scene: &mut Scene<'_, 'a>) -> Result<&'a [u8], Fault> {
    let replacement = arguments.text(2, scene)?;
    if arguments.is_given(3) { applied(arguments, 3, replacement, scene) } else { Ok(replacement) }
}

/// The result of the function at `index` for a text, in the format that follows it.
fn applied<'a>(
    arguments: &'a Arguments,
    index: usize,
    input: &'a [u8],
    scene: &mut Scene<'_, 'a>,
) -> Result<&'a [u8], Fault> {
    let Some(Value::String(text)) = arguments.apply(index, input, scene)? else {
        return Err(Fault::new("the replacement value must be a string"));
    };
    if !arguments.is_given(index + 1) {
        return Ok(text);
    }
    let format = arguments.text(index + 1, scene)?;
    let parts = memchr::memmem::find(format, b"%s").and_then(|at| format.split_at_checked(at));
    match parts.map(|(before, after)| (before, after.get(2..).unwrap_or_default())) {
        Some((before, after)) if !before.contains(&b'%') && !after.contains(&b'%') => {
            scene.arena.keep(&[before, text, after].concat())
        }
        _ => Err(Fault::new(
            "replacementFormat must be format string containing a single %s and no other format specifiers",
        )),
    }
}

fn truncate_all<'a>(arguments: &'a Arguments, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
    let limit = usize::try_from(arguments.fixed_int(1).unwrap_or(0)).unwrap_or(usize::MAX);
    let (is_safe, marker) = (arguments.fixed_bool(2).unwrap_or(true), fixed_or(arguments, 3, ""));
    edit(arguments, scene, |scene, value| match value {
        Value::String(text) if text.len() > limit => {
            let mut end = limit.saturating_sub(marker.len());
            while is_safe && end > 0 && is_within_char(text, end) {
                end -= 1;
            }
            let kept = text.get(..end).unwrap_or_default();
            Ok(Some(Value::String(match marker {
                b"" => kept,
                marker => scene.arena.keep(&[kept, marker].concat())?,
            })))
        }
        _ => Ok(None),
    })
}
