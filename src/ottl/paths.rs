//! What a path reads and writes, in every context.
//!
//! `Path::resolve` takes the segments as they were written, `resource.attributes["a"]["b"]` as `resource` and
//! `attributes` with two keys; the name of the context in front may be left out. Keys are expressions, which
//! `Path::get` and `Path::set` evaluate. A resolved path knows its message, its field and the form of it (`form`): what
//! is left for when it runs is the look for the field, and for attributes their key.

mod form;
mod nested;
mod outside;
pub(crate) mod table;

use smallvec::SmallVec;

use super::advice;
use super::expression::{Constant, Expression};
use super::scene::Scene;
use super::syntax::{Mistake, Span};
use super::value::{Arena, Fault, Value, entries, put_entry};
use crate::config::nearest::{guess, listing};
use crate::otlp::message::Message;
use crate::otlp::rewrite::Sight;
use crate::otlp::schema::{list, metric, metric_data};
use crate::otlp::views::{AnyValue, Repeated};
use form::{Form, PathField};
use nested::{retag, text_key};
use table::{CONTEXTS, Numbers, Place, Row, rows};

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

/// The message in sight that a place means.
macro_rules! in_place {
    ($place:expr, $($sight:tt)+) => {
        match $place {
            Place::ResourceGroup => $($sight)+.resource_group,
            Place::Resource => $($sight)+.resource,
            Place::ScopeGroup => $($sight)+.scope_group,
            Place::Scope => $($sight)+.scope,
            Place::Data => $($sight)+.data,
            Place::Child => $($sight)+.child,
            Place::Exemplar => $($sight)+.exemplar,
            Place::Record | Place::Nowhere => $($sight)+.record,
        }
    };
}

impl Path {
    /// The path of these segments in a context; else what is wrong with it, and what to do.
    pub fn resolve(context: &str, segments: Vec<Segment>, span: &Span) -> Result<Path, Mistake> {
        let seen = CONTEXTS.iter().find(|(name, ..)| *name == context).map_or(&[] as &[&str], |(_, seen, _)| *seen);
        let first = segments.first().map_or("", |segment| segment.name.as_str());
        let first = if first == "instrumentation_scope" { "scope" } else { first };
        let named = seen.iter().copied().chain(["otelcol"]).find(|name| *name == first && segments.len() > 1);
        let (own, has_context) = (named.unwrap_or(context), named.is_some());
        let is_alone = segments.len() == 1;
        // The path that is meant, else all of them, and how a name alone is written that is an attribute's.
        let unknown = |name: &str, message: String| {
            let known: Vec<_> = rows(own).map(|row| row.name).filter(|name| !name.is_empty()).collect();
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
            if !rows(own).any(|row| row.name == longer || row.name.starts_with(&format!("{longer}."))) {
                let (path, what) = (format!("{own}.{longer}"), segment.name);
                let message = format!(
                    "segment \"{what}\" from path \"{path}\" is not a valid path nor a valid OTTL keyword for the {own} context"
                );
                // A context that is known but not around this one is no misspelled field.
                let mistake = match CONTEXTS.iter().any(|(name, ..)| !has_context && *name == what) {
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
        let Some(row) = rows(own).find(|row| row.name == name) else {
            return Err(unknown(&name, format!("\"{own}.{name}\" is not a valid path for the {own} context")));
        };
        if row.form == Form::Cache && own != context {
            let message = format!(
                "access to cache must be performed using the same context, please replace \"{own}.cache\" with \"{context}.cache\""
            );
            return Err(Mistake::new(span, message));
        }
        match keys.is_empty() || row.form.takes_keys() {
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
            Form::Double | Form::Member(..) => number,
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

    /// Whether the attribute that it names is there, be it empty.
    pub fn has(&self, sight: &Sight) -> bool {
        let [number, ..] = self.row.number;
        match &*self.keys {
            [Expression::Constant(Constant::String(key))] => self.message(sight).attribute(number, key).is_some(),
            _ => false,
        }
    }

    fn is_plain(&self) -> bool {
        let [number, others @ ..] = self.row.number;
        let is_same = others.iter().all(|other| *other == number) && number != 0;
        is_same && self.row.inner == [0; 4] && !matches!(self.row.place, Place::Data | Place::Nowhere)
    }

    pub fn get<'a>(&'a self, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
        if self.row.place == Place::Nowhere {
            return self.get_outside(scene);
        }
        let (form, number) = (self.row.form, self.number(scene.sight));
        if number == 0 {
            return Ok(Value::Nil);
        }
        if let (Form::Attributes, [key]) = (form, &*self.keys) {
            // By far the commonest path of all.
            let key = text_key(key.evaluate(scene)?, "get")?;
            return Ok(self.message(scene.sight).attribute(number, key).map_or(Value::Nil, Value::from_any));
        }
        let keys = self.keys(scene)?;
        let message = self.message(scene.sight);
        let inside = inside(message, inner_number(self.row.inner, scene.sight));
        let (message, points) = (inside.as_ref().unwrap_or(message), points_name(scene.sight));
        form.get(&PathField { message, number, keys: &keys, arena: scene.arena, points })
    }

    pub fn set<'a>(&'a self, scene: &mut Scene<'_, 'a>, value: Value<'a>) -> Result<(), Fault> {
        let (form, number, points) = (self.row.form, self.number(scene.sight), points_name(scene.sight));
        match self.row.place {
            Place::Nowhere => return self.set_outside(scene, value),
            Place::Data if number == 0 => return Ok(()),
            _ if number == 0 => {
                let name = points.trim_end_matches("Slice");
                return Err(Fault::new(format!("unsupported data point type: {name}")));
            }
            _ => {}
        }
        let (arena, outer) = (scene.arena, inner_number(self.row.inner, scene.sight));
        if let ([key], Form::Attributes, Some(_)) = (&*self.keys, form, value.any_len()) {
            // By far the commonest path of all: what stands there does not matter.
            let key = text_key(key.evaluate(scene)?, "set")?;
            self.message_mut(scene.sight).set_attribute(number, key, arena.keep_attribute(number, key, &value)?);
            return Ok(());
        }
        let keys = self.keys(scene)?;
        let message = self.message_mut(scene.sight);
        match (form, keys.split_first()) {
            (Form::Attributes, None) => {
                let map = Repeated::of(put_map(&[], &[], value, arena)?, list::VALUES);
                let all = arena.keep(&retag(map, number))?;
                message.remove(number);
                message.append(all);
                return Ok(());
            }
            (Form::Attributes, Some((key, rest))) => {
                let key = text_key(*key, "set")?;
                let current = message.attribute(number, key).map_or(Value::Nil, Value::from_any);
                let new = nested::put(current, rest, value, arena)?;
                message.set_attribute(number, key, arena.keep_attribute(number, key, &new)?);
                return nested::storable(&value);
            }
            _ => {}
        }
        let (mut out, mut inside) = (Vec::new(), inside(message, outer));
        let field = PathField { message: inside.as_ref().unwrap_or(message), number, keys: &keys, arena, points };
        form.put(&field, value, &mut out)?;
        let raw = arena.keep(&out)?;
        if let Some(inside) = &mut inside {
            inside.replace(number, raw);
            out.clear();
            inside.write_field(&mut out, outer);
            message.replace(outer, arena.keep(&out)?);
            return Ok(());
        }
        if let Form::Member(_, members) = form {
            members.into_iter().filter(|member| *member != number).for_each(|other| message.remove(other));
        }
        message.replace(number, raw);
        Ok(())
    }

    /// The field of attributes that this is, with its message.
    fn attributes<'s, 'a>(&self, sight: &'s mut Sight<'a>) -> Option<(u32, &'s mut Message<'a>)> {
        let is_all = matches!(self.row.form, Form::Attributes) && self.keys.is_empty();
        is_all.then(|| (self.number(sight), self.message_mut(sight)))
    }

    /// Deletes a key of a map; one that is not there is no fault.
    pub fn delete_key<'a>(&'a self, scene: &mut Scene<'_, 'a>, key: &[u8]) -> Result<(), Fault> {
        if let Some((number, message)) = self.attributes(scene.sight) {
            message.delete_attribute(number, key);
            return Ok(());
        }
        let map = self.map(scene)?;
        let Some(position) = entries(map).position(|(name, _)| name == key) else { return Ok(()) };
        // The last one takes its place, as in the Go collector.
        let last = entries(map).count() - 1;
        let left = entries(map).enumerate().take(last);
        let moved = |entry| entries(map).nth(last).unwrap_or(entry);
        let left = left.map(|(index, entry)| if index == position { moved(entry) } else { entry });
        self.set_map(scene, left)
    }

    /// Keeps the entries of a map that `keep` wants, in their order.
    pub fn retain<'a>(
        &'a self,
        scene: &mut Scene<'_, 'a>,
        mut keep: impl FnMut(&'a [u8], Value<'a>) -> bool,
    ) -> Result<(), Fault> {
        if let Some((number, message)) = self.attributes(scene.sight) {
            message.retain_attributes(number, |pair| keep(pair.key, Value::from_any(pair.value)));
            return Ok(());
        }
        let map = self.map(scene)?;
        self.set_map(scene, entries(map).filter(|(name, value)| keep(name, *value)))
    }

    fn map<'a>(&'a self, scene: &mut Scene<'_, 'a>) -> Result<&'a [u8], Fault> {
        match self.get(scene)? {
            Value::Map(map) => Ok(map),
            _ => Err(Fault::new("target is not a map")),
        }
    }

    fn set_map<'a>(
        &'a self,
        scene: &mut Scene<'_, 'a>,
        entries: impl Iterator<Item = (&'a [u8], Value<'a>)>,
    ) -> Result<(), Fault> {
        let mut out = Vec::new();
        entries.for_each(|(name, value)| put_entry(&mut out, name, &value));
        let map = Value::Map(scene.arena.keep(&out)?);
        self.set(scene, map)
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
        in_place!(self.row.place, &sight)
    }

    fn message_mut<'s, 'a>(&self, sight: &'s mut Sight<'a>) -> &'s mut Message<'a> {
        in_place!(self.row.place, &mut sight)
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

/// The singular message in another one's field; none where that is the message itself.
fn inside<'a>(message: &Message<'a>, outer: u32) -> Option<Message<'a>> {
    (outer != 0).then(|| {
        let mut inside = Message::default();
        inside.reset_to(message, outer);
        inside
    })
}

/// A map with a value put at the keys, or another map in its place.
fn put_map<'a>(map: &'a [u8], keys: &[Value<'a>], value: Value<'a>, arena: &'a Arena) -> Result<&'a [u8], Fault> {
    let new = match keys.first() {
        None => value,
        Some(key) => {
            text_key(*key, "set")?;
            nested::put(Value::Map(map), keys, value, arena)?
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

/// The Go type of the points of the metric in sight.
fn points_name(sight: &Sight) -> &'static str {
    match sight.data_number {
        metric::HISTOGRAM => "pmetric.HistogramDataPointSlice",
        metric::EXPONENTIAL_HISTOGRAM => "pmetric.ExponentialHistogramDataPointSlice",
        metric::SUMMARY => "pmetric.SummaryDataPointSlice",
        _ => "pmetric.NumberDataPointSlice",
    }
}
