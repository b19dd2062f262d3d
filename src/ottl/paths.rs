//! What a path reads and writes, in every context (facts 6.2, 6.3).
//!
//! `Path::resolve` takes the segments as they were written, `resource.attributes["a"]["b"]` as `resource` and
//! `attributes` with two keys; the name of the context in front may be left out. Keys are expressions, which
//! `Path::get` and `Path::set` evaluate. A resolved path knows its message, its field and the form of it: what is left
//! for when it runs is the look for the field, and for attributes their key.

mod nested;
pub(crate) mod table;

use smallvec::SmallVec;

use super::advice;
use super::expression::{Constant, Expression};
use super::scene::Scene;
use super::syntax::{Mistake, Span};
use super::value::{Fault, Time, Value, entries, items, put_entry, put_item};
use crate::config::nearest::{guess, listing};
use crate::otlp::hex;
use crate::otlp::message::{Message, put_pair_header};
use crate::otlp::rewrite::Sight;
use crate::otlp::schema::{KIND_WORDS, list, metric, metric_data};
use crate::otlp::tracestate;
use crate::otlp::views::AnyValue;
use crate::otlp::views::metrics::{Buckets, DataType, Point};
use crate::otlp::wire::{self, put_bytes, put_fixed32, put_fixed64, put_header, put_uint, put_varint};
use crate::telemetry::Client;
use nested::{payloads, retag, text_key, type_name};
use table::{CONTEXTS, Form, Numbers, Place, Row, Told, rows};

pub struct Path {
    row: &'static Row,
    keys: Vec<Expression>,
}

/// One name of a path with the keys behind it.
pub struct Segment {
    pub name: String,
    pub keys: Vec<Expression>,
}

type Keys<'a> = SmallVec<[Value<'a>; 4]>;

impl Path {
    /// The path of these segments in a context; else what is wrong with it, and what to do.
    pub fn resolve(context: &str, segments: Vec<Segment>, span: &Span) -> Result<Path, Mistake> {
        let seen = CONTEXTS.iter().find(|(name, _)| *name == context).map_or(&[] as &[&str], |(_, seen)| *seen);
        let first = segments.first().map_or("", |segment| segment.name.as_str());
        let first = if first == "instrumentation_scope" { "scope" } else { first };
        let named = seen.iter().copied().chain(["otelcol"]).find(|name| *name == first && segments.len() > 1);
        let (own, has_context) = (named.unwrap_or(context), named.is_some());
        let is_alone = segments.len() == 1;
        // The path that is meant, else all of them, and how a name alone is written that is an attribute's.
        let unknown = |name: &str, message: String| {
            let known: Vec<_> = rows(own).iter().map(|row| row.name).filter(|name| !name.is_empty()).collect();
            let mistake = Mistake::new(span, message).guess(guess(name, known.iter().copied()));
            if mistake.is_guessed {
                return mistake;
            }
            let all = listing(&known, "the paths are");
            mistake.help(all.map(|all| match is_alone {
                true => format!("an attribute is written attributes[\"{name}\"]; {all}"),
                false => all,
            }))
        };
        let mut rest = segments.into_iter().skip(usize::from(has_context)).peekable();
        let (mut name, mut keys) = (String::new(), Vec::new());
        while let Some(segment) = rest.next() {
            let joint = if name.is_empty() { "" } else { "." };
            let longer = format!("{name}{joint}{}", segment.name);
            if !rows(own).iter().any(|row| row.name == longer || row.name.starts_with(&format!("{longer}."))) {
                let (path, what) = (format!("{own}.{longer}"), segment.name);
                let message = format!(
                    "segment \"{what}\" from path \"{path}\" is not a valid path nor a valid OTTL keyword for the {own} context"
                );
                // A context that is known but not around this one is no misspelled field.
                let mistake = match CONTEXTS.iter().any(|(name, _)| !has_context && *name == what) {
                    true => Mistake::new(span, message).help(format!("the contexts here are {}", seen.join(", "))),
                    false => unknown(&longer, message),
                };
                return Err(Mistake { is_unknown_path: true, ..mistake });
            }
            if rest.peek().is_some() && !segment.keys.is_empty() {
                return Err(not_indexed(&segment.name, span));
            }
            (name, keys) = (longer, segment.keys);
        }
        let Some(row) = rows(own).iter().find(|row| row.name == name) else {
            return Err(unknown(&name, format!("\"{own}.{name}\" is not a valid path for the {own} context")));
        };
        if row.form == Form::Cache && own != context {
            let message = format!(
                "access to cache must be performed using the same context, please replace \"{own}.cache\" with \"{context}.cache\""
            );
            return Err(Mistake::new(span, message));
        }
        let takes_keys =
            matches!(row.form, Form::Attributes | Form::Body | Form::TraceState | Form::Cache | Form::Client(_));
        match keys.is_empty() || takes_keys {
            true => Ok(Path { row, keys }),
            false => Err(not_indexed(name.rsplit('.').next().unwrap_or_default(), span)),
        }
    }

    /// Why no value of this path is equal to a literal nor in any order with it, and what to write; `None` where one may be.
    pub fn is_foreign_to(&self, literal: &Value) -> Option<(String, String)> {
        let number = "a number";
        let is = match self.row.form {
            _ if !self.keys.is_empty() => return None,
            Form::Count | Form::Enum | Form::Fixed32 | Form::Zigzag | Form::Fixed64 | Form::MetricType => number,
            Form::OneInt(..) | Form::Double | Form::OneDouble(..) => number,
            Form::Text | Form::BodyText | Form::TraceIdText | Form::SpanIdText => "text",
            Form::Bool => "true or false",
            Form::TraceId | Form::SpanId => "an id",
            Form::Whole("ptrace.Status") => "a message",
            _ => return None,
        };
        let (of_literal, is_same) = match literal {
            Value::String(_) => ("text", is == "text"),
            Value::Int(_) | Value::Double(_) => (number, is == number),
            Value::Bool(_) => ("true or false", is == "true or false"),
            Value::Bytes([_, ..]) => ("bytes", false),
            // What a message does not have is its zero value, never nil.
            Value::Nil if matches!(self.row.form, Form::TraceId | Form::SpanId | Form::Text) => ("nil", false),
            _ => return None,
        };
        let name = self.row.name;
        let help = match (is, of_literal) {
            ("an id", "nil") => {
                let zeros = "0".repeat(if self.row.form == Form::TraceId { 32 } else { 16 });
                format!("write `{name}.string == \"{zeros}\"`")
            }
            ("text", "nil") => format!("write `{name} == \"\"`"),
            ("an id", "text") => format!("write `{name}.string == \"…\"`"),
            ("an id", _) if self.row.form == Form::TraceId => format!("write `{name} == TraceID(0x…)`"),
            ("an id", _) => format!("write `{name} == SpanID(0x…)`"),
            ("a number", "text") if name == "severity_number" => {
                "write a symbol such as SEVERITY_NUMBER_WARN, or compare `severity_text`".to_owned()
            }
            ("text", "a number") => "write it in quotes".to_owned(),
            ("a message", _) => advice::of_path(name).unwrap_or_else(|| format!("compare `{name}.code`")),
            _ => format!("compare it with {is}"),
        };
        (!is_same).then(|| (format!("\"{name}\" is {is} and this is {of_literal}"), help))
    }

    /// Whether `int` reads it: a whole number that every message of its kind has in the same field.
    pub fn is_int(&self) -> bool {
        self.is_plain() && self.keys.is_empty() && matches!(self.row.form, Form::Enum | Form::Count | Form::Fixed64)
    }

    #[inline]
    pub fn int(&self, sight: &Sight) -> i64 {
        let [number, ..] = self.row.number;
        let bits = self.message(sight).bits(number);
        match self.row.form {
            Form::Enum => i64::from(bits as i32),
            Form::Count => i64::from(bits as u32),
            _ => bits as i64,
        }
    }

    /// Whether `text` reads it: a text in its field, or an attribute by its name.
    pub fn is_text(&self) -> bool {
        let is_named = matches!(&*self.keys, [Expression::Constant(Constant::String(_))]);
        self.is_plain()
            && (self.row.form == Form::Text && self.keys.is_empty() || self.row.form == Form::Attributes && is_named)
    }

    /// The text that stands there; none where an attribute is absent or no text.
    #[inline]
    pub fn text<'a>(&self, sight: &Sight<'a>) -> Option<&'a [u8]> {
        let [number, ..] = self.row.number;
        let message = self.message(sight);
        match &*self.keys {
            [Expression::Constant(Constant::String(key))] => match message.attribute(number, key)? {
                AnyValue::String(text) => Some(text),
                _ => None,
            },
            _ => Some(message.bytes(number)),
        }
    }

    fn is_plain(&self) -> bool {
        let [number, others @ ..] = self.row.number;
        let is_same = others.iter().all(|other| *other == number) && number != 0;
        is_same && self.row.inner == [0; 4] && !matches!(self.row.place, Place::Data | Place::Nowhere)
    }

    pub fn get<'a>(&'a self, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
        let form = self.row.form;
        let (place, number) = (self.row.place, self.number(scene.sight));
        if number == 0 && place != Place::Nowhere {
            return Ok(Value::Nil);
        }
        if form == Form::Attributes
            && let [key] = &*self.keys
        {
            // By far the commonest path of all.
            let key = text_key(key.evaluate(scene)?, "get")?;
            return Ok(self.message(scene.sight).attribute(number, key).map_or(Value::Nil, Value::from_any));
        }
        let keys = self.keys(scene)?;
        let arena = scene.arena;
        let outer = inner_number(self.row.inner, scene.sight);
        let inside = match outer {
            0 => None,
            outer => {
                let mut inside = Message::default();
                inside.reset_to(self.message(scene.sight), outer);
                Some(inside)
            }
        };
        let message = inside.as_ref().unwrap_or(self.message(scene.sight));
        let bits = || message.bits(number);
        Ok(match form {
            Form::Attributes => match keys.split_first() {
                None => Value::Map(arena.keep(&retag(message.payloads(number), list::VALUES))?),
                Some((key, rest)) => match message.attribute(number, text_key(*key, "get")?) {
                    Some(found) => nested::get(Value::from_any(found), rest)?,
                    None => Value::Nil,
                },
            },
            Form::Body => {
                let body = body(message, number);
                check_body(&body, &keys, "get")?;
                nested::get(body, &keys)?
            }
            Form::BodyText => match body(message, number) {
                Value::String(text) => Value::String(text),
                body => {
                    let mut text = Vec::new();
                    body.put_as_string(&mut text);
                    Value::String(arena.keep(&text)?)
                }
            },
            Form::Text => Value::String(message.bytes(number)),
            Form::TraceState => match keys.first() {
                None => Value::String(message.bytes(number)),
                Some(key) => {
                    let key = text_key(*key, "get")?;
                    state_members(message.bytes(number)).map_or(Value::Nil, |members| {
                        let found = members.into_iter().find(|(name, _)| *name == key);
                        Value::String(found.map_or(&[], |(_, value)| value))
                    })
                }
            },
            Form::Count | Form::Fixed32 => Value::Int(i64::from(bits() as u32)),
            Form::Enum => Value::Int(i64::from(bits() as i32)),
            Form::Zigzag => Value::Int(i64::from(bits() as u32 >> 1) ^ -((bits() & 1) as i64)),
            Form::Bool => Value::Bool(bits() != 0),
            Form::Fixed64 => Value::Int(bits() as i64),
            Form::Double => Value::Double(f64::from_bits(bits())),
            Form::Time => Value::Time(time(bits() as i64)),
            Form::OneInt(int, double) => match one_of(message, int, double) {
                Some((number, bits)) if number == int => Value::Int(bits as i64),
                _ => Value::Int(0),
            },
            Form::OneDouble(int, double) => match one_of(message, int, double) {
                Some((number, bits)) if number == double => Value::Double(f64::from_bits(bits)),
                _ => Value::Double(0.0),
            },
            Form::TraceId => Value::TraceId(message.bytes(number).try_into().unwrap_or_default()),
            Form::SpanId => Value::SpanId(message.bytes(number).try_into().unwrap_or_default()),
            Form::TraceIdText | Form::SpanIdText => {
                let mut digits = Vec::new();
                // An id that is missing is one of zeros.
                let zeros = [0; 16];
                let zeros = if form == Form::TraceIdText { &zeros } else { zeros.split_at(8).0 };
                let id = message.bytes(number);
                hex::put(if id.is_empty() { zeros } else { id }, &mut digits);
                Value::String(arena.keep(&digits)?)
            }
            Form::KindText => Value::String(KIND_WORDS.get(bits() as usize).map_or(b"", |kind| kind.as_bytes())),
            Form::DeprecatedKindText => match KIND_WORDS.get(bits() as usize) {
                Some(kind) => arena.text(&format!("SPAN_KIND_{}", kind.to_uppercase()))?,
                None => Value::String(b""),
            },
            Form::Varints => {
                let numbers = Buckets::read(message_bytes(message, arena)?);
                let mut list = Vec::new();
                numbers.counts.varints().for_each(|value| put_item(&mut list, &Value::Int(value as i64)));
                Value::List(arena.keep(&list)?)
            }
            Form::Fixed64s | Form::Doubles => {
                let point = Point::read(DataType::Histogram, message_bytes(message, arena)?);
                let mut list = Vec::new();
                match form {
                    Form::Doubles => {
                        point.explicit_bounds.doubles().for_each(|value| put_item(&mut list, &Value::Double(value)));
                    }
                    _ => {
                        point.bucket_counts.fixed64s().for_each(|value| put_item(&mut list, &Value::Int(value as i64)))
                    }
                }
                Value::List(arena.keep(&list)?)
            }
            Form::Whole(name) => {
                let mut whole = Message::default();
                whole.reset_to(message, number);
                Value::Whole(name, message_bytes(&whole, arena)?)
            }
            Form::Wholes(name) => Value::Whole(name, all(message, number, arena)?),
            Form::Points => Value::Whole(points_name(scene.sight), all(message, number, arena)?),
            Form::MetricType => Value::Int(DataType::of(scene.sight.data_number) as i64),
            // As the Go collector, which never sets it.
            Form::EventIndex => return Err(Fault::new("no 'event_index' property has been set")),
            Form::Cache => nested::get(Value::Map(scene.cache), &keys)?,
            Form::Client(known) => nested::get(client(scene, known)?, &keys)?,
        })
    }

    pub fn set<'a>(&'a self, scene: &mut Scene<'_, 'a>, value: Value<'a>) -> Result<(), Fault> {
        let (form, number) = (self.row.form, self.number(scene.sight));
        match form {
            Form::MetricType => return Ok(()),
            Form::EventIndex => return Err(Fault::new("the 'event_index' path cannot be modified")),
            Form::Client(_) => {
                let name = self.row.name;
                return Err(Fault::new(format!("\"otelcol.{name}\" is read-only and cannot be modified")));
            }
            _ if number != 0 || form == Form::Cache => {}
            _ if self.row.place == Place::Data => return Ok(()),
            _ => {
                let name = points_name(scene.sight).trim_end_matches("Slice");
                return Err(Fault::new(format!("unsupported data point type: {name}")));
            }
        }
        if let ([key], Form::Attributes, Some(length)) = (&*self.keys, form, value.any_len()) {
            // By far the commonest path of all: what stands there does not matter.
            let key = text_key(key.evaluate(scene)?, "set")?;
            let Some(message) = place(self.row.place, scene.sight) else { return Ok(()) };
            let mut raw = Vec::with_capacity(key.len() + length + 16);
            put_pair_header(&mut raw, number, key, length);
            value.put_any(&mut raw);
            message.set_attribute(number, key, scene.arena.keep(&raw)?);
            return Ok(());
        }
        let keys = self.keys(scene)?;
        let arena = scene.arena;
        match form {
            Form::Cache => {
                let Value::Map(cache) = put_map(Value::Map(scene.cache), &keys, value, scene)? else { return Ok(()) };
                scene.cache = cache;
                return Ok(());
            }
            Form::Attributes => return self.set_attributes(scene, number, &keys, value),
            _ => {}
        }
        let mut out = Vec::new();
        let wrong = |expected: &str| match value {
            Value::Nil => Err(Fault::new("setting a value to nil is not supported")),
            value => Err(Fault::new(format!("expects {expected} but got {}", value.type_name()))),
        };
        let mut others: [u32; 2] = [0; 2];
        match (form, value) {
            (Form::Body, value) => {
                let body = body(self.message(scene.sight), number);
                check_body(&body, &keys, "set")?;
                let new = nested::put(body, &keys, value, arena)?;
                put_header(&mut out, number, new.any_len().unwrap_or(0));
                new.put_any(&mut out);
                if let Some(fault) = unstorable(&value) {
                    return fault;
                }
            }
            (Form::BodyText, Value::String(text)) => {
                let text = Value::String(text);
                put_header(&mut out, number, text.any_len().unwrap_or(0));
                text.put_any(&mut out);
            }
            (Form::Text, Value::String(text)) => put_bytes(&mut out, number, text),
            (Form::TraceState, Value::String(text)) => match keys.first() {
                None => put_bytes(&mut out, number, text),
                Some(key) => {
                    let state = self.message(scene.sight).bytes(number);
                    put_bytes(&mut out, number, &with_state_member(state, text_key(*key, "set")?, text));
                }
            },
            (Form::Count, Value::Int(value)) => put_uint(&mut out, number, u64::from(value as u32)),
            (Form::Enum, Value::Int(value)) => put_uint(&mut out, number, i64::from(value as i32) as u64),
            (Form::Fixed32, Value::Int(value)) => put_fixed32(&mut out, number, value as u32),
            (Form::Zigzag, Value::Int(value)) => {
                let value = value as i32;
                put_uint(&mut out, number, u64::from((value << 1 ^ value >> 31) as u32));
            }
            (Form::Bool, Value::Bool(value)) => put_uint(&mut out, number, u64::from(value)),
            (Form::Fixed64, Value::Int(value)) => put_fixed64(&mut out, number, value as u64),
            (Form::Double, Value::Double(value)) => put_fixed64(&mut out, number, value.to_bits()),
            (Form::Time, Value::Time(time)) => put_fixed64(&mut out, number, unix_nanos(time) as u64),
            (Form::OneInt(int, double), Value::Int(value)) => {
                others = [int, double];
                put_fixed64(&mut out, number, value as u64);
            }
            (Form::OneDouble(int, double), Value::Double(value)) => {
                others = [int, double];
                put_fixed64(&mut out, number, value.to_bits());
            }
            (Form::TraceId, Value::TraceId(id)) => put_bytes(&mut out, number, &id),
            (Form::SpanId, Value::SpanId(id)) => put_bytes(&mut out, number, &id),
            (Form::TraceIdText | Form::SpanIdText, Value::String(digits)) => {
                let (what, length) = if form == Form::TraceIdText { ("trace", 16) } else { ("span", 8) };
                let mut id = Vec::new();
                hex::read(digits, length, &mut id)
                    .ok_or_else(|| Fault::new(format!("{what} ids must be {} hex characters", 2 * length)))?;
                put_bytes(&mut out, number, &id);
            }
            (Form::KindText | Form::DeprecatedKindText, Value::String(text)) => {
                let is_kind = |kind: &&str| match form {
                    Form::KindText => kind.as_bytes() == text,
                    _ => text.strip_prefix(b"SPAN_KIND_").is_some_and(|text| kind.to_uppercase().as_bytes() == text),
                };
                let kind = (0..).zip(KIND_WORDS).find(|(_, kind)| is_kind(kind)).map(|(number, _)| number).ok_or_else(
                    || Fault::new(format!("unknown span kind string, {}", String::from_utf8_lossy(text))),
                )?;
                put_uint(&mut out, number, kind);
            }
            (Form::Varints | Form::Fixed64s | Form::Doubles, Value::List(list)) => {
                let mut packed = Vec::new();
                for item in items(list) {
                    match (form, item) {
                        (Form::Varints, Value::Int(value)) => put_varint(&mut packed, value as u64),
                        (Form::Fixed64s, Value::Int(value)) => packed.extend_from_slice(&value.to_le_bytes()),
                        (Form::Doubles, Value::Double(value)) => packed.extend_from_slice(&value.to_le_bytes()),
                        (_, item) => {
                            let wanted = if form == Form::Doubles { "float64" } else { "uint64" };
                            let found = item.type_name();
                            let text = format!("invalid value type provided for a slice of {wanted}: {found}");
                            return Err(Fault::new(text));
                        }
                    }
                }
                put_bytes(&mut out, number, &packed);
            }
            (Form::Whole(name), Value::Whole(found, bytes)) if name == found => put_bytes(&mut out, number, bytes),
            (Form::Wholes(name), Value::Whole(found, bytes)) if name == found => out.extend_from_slice(bytes),
            (Form::Points, Value::Whole(found, bytes)) if points_name(scene.sight) == found => {
                out.extend_from_slice(bytes);
            }
            (Form::Wholes(_) | Form::Points | Form::Varints | Form::Fixed64s | Form::Doubles, Value::Nil) => {}
            (Form::Points, _) => return wrong(points_name(scene.sight)),
            (form, _) => return wrong(expected(form)),
        }
        let raw = arena.keep(&out)?;
        let outer = inner_number(self.row.inner, scene.sight);
        let Some(message) = place(self.row.place, scene.sight) else { return Ok(()) };
        if outer != 0 {
            let mut inside = Message::default();
            inside.reset_to(message, outer);
            inside.replace(number, raw);
            out.clear();
            inside.write_field(&mut out, outer);
            message.replace(outer, arena.keep(&out)?);
            return Ok(());
        }
        for other in others.into_iter().filter(|other| ![0, number].contains(other)) {
            message.remove(other);
        }
        if raw.is_empty() {
            message.remove(number);
        } else {
            message.replace(number, raw);
        }
        Ok(())
    }

    /// Deletes a key of a map; one that is not there is no fault.
    pub fn delete_key<'a>(&'a self, scene: &mut Scene<'_, 'a>, key: &[u8]) -> Result<(), Fault> {
        if self.row.form == Form::Attributes && self.keys.is_empty() {
            let number = self.number(scene.sight);
            if let Some(message) = place(self.row.place, scene.sight) {
                message.delete_attribute(number, key);
            }
            return Ok(());
        }
        let Value::Map(map) = self.get(scene)? else { return Err(Fault::new("target is not a map")) };
        let Some(position) = entries(map).position(|(name, _)| name == key) else { return Ok(()) };
        // The last one takes its place, as in the Go collector.
        let last = entries(map).count() - 1;
        let mut out = Vec::new();
        for (index, (name, value)) in entries(map).enumerate().take(last) {
            match entries(map).nth(last).filter(|_| index == position) {
                Some((name, value)) => put_entry(&mut out, name, &value),
                None => put_entry(&mut out, name, &value),
            }
        }
        let map = Value::Map(scene.arena.keep(&out)?);
        self.set(scene, map)
    }

    /// Keeps the entries of a map that `keep` wants, in their order.
    pub fn retain<'a>(
        &'a self,
        scene: &mut Scene<'_, 'a>,
        mut keep: impl FnMut(&'a [u8], Value<'a>) -> bool,
    ) -> Result<(), Fault> {
        if self.row.form == Form::Attributes && self.keys.is_empty() {
            let number = self.number(scene.sight);
            if let Some(message) = place(self.row.place, scene.sight) {
                message.retain_attributes(number, |pair| keep(pair.key, Value::from_any(pair.value)));
            }
            return Ok(());
        }
        let Value::Map(map) = self.get(scene)? else { return Err(Fault::new("target is not a map")) };
        let mut out = Vec::new();
        for (name, value) in entries(map).filter(|(name, value)| keep(name, *value)) {
            put_entry(&mut out, name, &value);
        }
        let map = Value::Map(scene.arena.keep(&out)?);
        self.set(scene, map)
    }

    fn set_attributes<'a>(
        &self,
        scene: &mut Scene<'_, 'a>,
        number: u32,
        keys: &[Value<'a>],
        value: Value<'a>,
    ) -> Result<(), Fault> {
        let arena = scene.arena;
        let Some((key, rest)) = keys.split_first() else {
            let map = put_map(Value::Nil, &[], value, scene)?;
            let Value::Map(map) = map else { return Ok(()) };
            let all = arena.keep(&retag(payloads(map), number))?;
            let Some(message) = place(self.row.place, scene.sight) else { return Ok(()) };
            message.remove(number);
            message.append(all);
            return Ok(());
        };
        let key = text_key(*key, "set")?;
        let Some(message) = place(self.row.place, scene.sight) else { return Ok(()) };
        let current = message.attribute(number, key).map_or(Value::Nil, Value::from_any);
        let new = nested::put(current, rest, value, arena)?;
        let length = new.any_len().unwrap_or(0);
        let mut raw = Vec::with_capacity(key.len() + length + 16);
        put_pair_header(&mut raw, number, key, length);
        new.put_any(&mut raw);
        message.set_attribute(number, key, arena.keep(&raw)?);
        unstorable(&value).unwrap_or(Ok(()))
    }

    #[inline]
    fn keys<'a>(&'a self, scene: &mut Scene<'_, 'a>) -> Result<Keys<'a>, Fault> {
        let mut keys = Keys::new();
        for key in &self.keys {
            keys.push(key.evaluate(scene)?);
        }
        Ok(keys)
    }

    fn message<'s, 'a>(&self, sight: &'s Sight<'a>) -> &'s Message<'a> {
        match self.row.place {
            Place::ResourceGroup => &sight.resource_group,
            Place::Resource => &sight.resource,
            Place::ScopeGroup => &sight.scope_group,
            Place::Scope => &sight.scope,
            Place::Data => &sight.data,
            Place::Child => &sight.child,
            Place::Exemplar => &sight.exemplar,
            Place::Record | Place::Nowhere => &sight.record,
        }
    }

    /// The number of the field in what is in sight; 0 when it has no such field.
    fn number(&self, sight: &Sight) -> u32 {
        match (self.row.place, inner_number(self.row.number, sight)) {
            (Place::Data, number) => match (number, sight.data_number) {
                (metric_data::POINTS, 1..) => number,
                (metric_data::IS_MONOTONIC, metric::SUM) => number,
                (
                    metric_data::AGGREGATION_TEMPORALITY,
                    metric::SUM | metric::HISTOGRAM | metric::EXPONENTIAL_HISTOGRAM,
                ) => number,
                _ => 0,
            },
            (Place::Child, _) if inner_number(self.row.inner, sight) == 0 && self.row.inner != [0; 4] => 0,
            (_, number) => number,
        }
    }
}

fn place<'s, 'a>(place: Place, sight: &'s mut Sight<'a>) -> Option<&'s mut Message<'a>> {
    Some(match place {
        Place::ResourceGroup => &mut sight.resource_group,
        Place::Resource => &mut sight.resource,
        Place::ScopeGroup => &mut sight.scope_group,
        Place::Scope => &mut sight.scope,
        Place::Record => &mut sight.record,
        Place::Data => &mut sight.data,
        Place::Child => &mut sight.child,
        Place::Exemplar => &mut sight.exemplar,
        Place::Nowhere => return None,
    })
}

fn inner_number([number, histogram, exponential, summary]: Numbers, sight: &Sight) -> u32 {
    match sight.data_number {
        metric::HISTOGRAM => histogram,
        metric::EXPONENTIAL_HISTOGRAM => exponential,
        metric::SUMMARY => summary,
        _ => number,
    }
}

fn not_indexed(name: &str, span: &Span) -> Mistake {
    let message = format!(
        "the keys indexing \"{name}\" were not used by the context - this likely means you are trying to index a path \
         that does not support indexing"
    );
    Mistake::new(span, message)
}

/// A map with a value put at the keys, or another map in its place.
fn put_map<'a>(
    current: Value<'a>,
    keys: &[Value<'a>],
    value: Value<'a>,
    scene: &mut Scene<'_, 'a>,
) -> Result<Value<'a>, Fault> {
    match (keys.first(), value) {
        (None, Value::Map(map)) => Ok(Value::Map(map)),
        (None, Value::Nil) => Ok(Value::Map(&[])),
        (None, value) => {
            let found = value.type_name();
            Err(Fault::new(format!("unsupported type provided for setting a pcommon.Map: {found}")))
        }
        (Some(key), value) => {
            text_key(*key, "set")?;
            nested::put(current, keys, value, scene.arena)
        }
    }
}

fn unstorable(value: &Value) -> Option<Result<(), Fault>> {
    let found = value.type_name();
    let text = || format!("unsupported type {found} for set operation; current value type is Empty");
    value.any_len().is_none().then(|| Err(Fault::new(text())))
}

fn body<'a>(message: &Message<'a>, number: u32) -> Value<'a> {
    let read = |payload| Value::from_any(AnyValue::read(payload));
    message.payloads(number).map(read).filter(|value| *value != Value::Nil).last().unwrap_or(Value::Nil)
}

fn check_body(body: &Value, keys: &[Value], act: &str) -> Result<(), Fault> {
    match (body, keys.first()) {
        (_, None) | (Value::List(_), _) => Ok(()),
        (Value::Map(_), Some(key)) => text_key(*key, act).map(|_| ()),
        (body, _) => Err(Fault::new(format!("log bodies of type {} cannot be indexed", type_name(body)))),
    }
}

/// The last member of a oneof of eight bytes.
fn one_of(message: &Message, int: u32, double: u32) -> Option<(u32, u64)> {
    let members = message.fields().filter(|field| field.number == int || field.number == double);
    members.last().and_then(|field| match field.value {
        wire::Value::Fixed64(bits) => Some((field.number, bits)),
        _ => None,
    })
}

/// All occurrences of a field as they stand.
fn all<'a>(message: &Message<'a>, number: u32, arena: &'a super::value::Arena) -> Result<&'a [u8], Fault> {
    let mut out = Vec::new();
    for field in message.occurrences(number) {
        out.extend_from_slice(field.raw);
    }
    arena.keep(&out)
}

fn message_bytes<'a>(message: &Message<'a>, arena: &'a super::value::Arena) -> Result<&'a [u8], Fault> {
    match &**message.pieces() {
        [] => Ok(&[]),
        [piece] => Ok(piece),
        pieces => arena.keep(&pieces.concat()),
    }
}

/// The Go type of the points of the metric in sight.
fn points_name(sight: &Sight) -> &'static str {
    match sight.data_number {
        metric::HISTOGRAM => "pmetric.HistogramDataPointSlice",
        metric::EXPONENTIAL_HISTOGRAM => "pmetric.ExponentialHistogramDataPointSlice",
        metric::SUMMARY => "pmetric.SummaryDataPointSlice",
        _ => "pmetric.NumberDataPointSlice",
    }
}

fn time(nanos: i64) -> Time {
    let (seconds, nanos) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
    Time { seconds, nanos: nanos as u32, offset_seconds: 0 }
}

fn unix_nanos(time: Time) -> i64 {
    time.seconds.wrapping_mul(1_000_000_000).wrapping_add(i64::from(time.nanos))
}

/// The members of a W3C trace state, or nothing when it is not one.
fn state_members(state: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let members = state.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty());
    let pairs = members.map(|member| {
        let mut parts = member.splitn(2, |byte| *byte == b'=');
        Some((parts.next()?, parts.next()?))
    });
    pairs.collect()
}

/// The trace state with a member changed or added, which comes first then; one that is not well-formed stays, and so does
/// one in which the member can't stand.
fn with_state_member(state: &[u8], key: &[u8], value: &[u8]) -> Vec<u8> {
    let members = state_members(state).filter(|_| tracestate::is_member(key, value));
    let Some(members) = members else { return state.to_vec() };
    let others = members.into_iter().filter(|(other, _)| *other != key);
    let members = std::iter::once((key, value)).chain(others).map(|(key, value)| [key, b"=", value].concat());
    members.collect::<Vec<_>>().join(&b","[..])
}

/// What is known of the client: its address, what its authenticator tells, or metadata: a map of lists of texts.
fn client<'a>(scene: &Scene<'_, 'a>, told: Told) -> Result<Value<'a>, Fault> {
    let (none, arena) = (Client::default(), scene.arena);
    let client = scene.client.unwrap_or(&none);
    let mut map = Vec::new();
    let metadata = match told {
        Told::Address => {
            let address = client.address().map(|address| arena.keep(address.as_bytes())).transpose()?;
            return Ok(address.map_or(Value::Nil, Value::String));
        }
        Told::Auth => {
            client.auth.iter().for_each(|(name, value)| {
                put_entry(&mut map, name.as_bytes(), &Value::String(value.as_bytes()));
            });
            return Ok(Value::Map(arena.keep(&map)?));
        }
        Told::Metadata => &client.metadata,
        Told::Call => &client.grpc,
    };
    for (index, (name, _)) in metadata.iter().enumerate() {
        if metadata.iter().take(index).any(|(earlier, _)| earlier == name) {
            continue;
        }
        let mut values = Vec::new();
        for (_, value) in metadata.iter().filter(|(other, _)| other == name) {
            put_item(&mut values, &Value::String(value.as_bytes()));
        }
        put_entry(&mut map, name.as_bytes(), &Value::List(&values));
    }
    Ok(Value::Map(arena.keep(&map)?))
}

fn expected(form: Form) -> &'static str {
    match form {
        Form::Count | Form::Enum | Form::Fixed32 | Form::Zigzag | Form::Fixed64 | Form::OneInt(..) => "int64",
        Form::Bool => "bool",
        Form::Double | Form::OneDouble(..) => "float64",
        Form::Time => "time.Time",
        Form::TraceId => "pcommon.TraceID",
        Form::SpanId => "pcommon.SpanID",
        Form::Varints | Form::Fixed64s => "[]uint64",
        Form::Doubles => "[]float64",
        Form::Whole(name) | Form::Wholes(name) => name,
        _ => "string",
    }
}
