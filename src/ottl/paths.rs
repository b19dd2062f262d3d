//! Paths: the values that statements read and write, in every context.
//!
//! `Path::resolve` finds the row of a path in `table` when the config loads: `resource.attributes["a"]["b"]` has the
//! segments `resource` and `attributes`, the latter with two keys, which are expressions. The name of the path's own
//! context may be left out. `Path::get` and `Path::set` dispatch by the row's form, to a pair of functions each: `field`
//! for a field of OTLP, `attribute`, and `outside` for values that are not in telemetry. `nested` follows further keys.

mod attribute;
mod field;
mod nested;
mod outside;
pub(super) mod table;

use smallvec::SmallVec;

use super::advice;
use super::expression::{Constant, Expression};
use super::scene::Scene;
use super::syntax::{Mistake, Span};
use super::value::{Fault, Value, entries, put_entry};
use crate::config::nearest::{guess, listing};
use crate::otlp::message::Message;
use crate::otlp::rewrite::Sight;
use crate::otlp::views::AnyValue;
use crate::otlp::views::metrics::DataType;
use field::{Form, points_name};
use outside::Outside;
use table::{CONTEXTS, Place, Row, rows};

pub struct Path {
    row: &'static Row,
    keys: Vec<Expression>,
}

/// One name in a path, with its keys.
pub(super) struct Segment {
    pub(super) name: String,
    pub(super) keys: Vec<Expression>,
}

type Keys<'a> = SmallVec<[Value<'a>; 4]>;

impl Path {
    /// The path with these segments in a context; or the mistake, with advice.
    pub(super) fn resolve(context: &str, segments: Vec<Segment>, span: &Span) -> Result<Path, Mistake> {
        let seen = CONTEXTS.iter().find(|(name, ..)| *name == context).map_or(&[] as &[&str], |(_, seen, _)| *seen);
        let first = segments.first().map_or("", |segment| segment.name.as_str());
        let first = if first == "instrumentation_scope" { "scope" } else { first };
        let named = seen.iter().copied().chain(["otelcol"]).find(|name| *name == first && segments.len() > 1);
        let (own, has_context) = (named.unwrap_or(context), named.is_some());
        let is_alone = segments.len() == 1;
        // Suggests the path with the nearest name; otherwise lists all, and shows how to write an attribute.
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
                // The name of a context that cannot be named here is not a misspelled field.
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
        if row.form == Form::Outside(Outside::Cache) && own != context {
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

    /// Why comparing any value of this path with a literal has a constant outcome, and advice; `None` if it may vary.
    pub(super) fn is_foreign_to(&self, literal: &Value) -> Option<(String, String)> {
        let number = "a number";
        let is = match self.row.form {
            _ if !self.keys.is_empty() => return None,
            Form::Count | Form::Enum | Form::Fixed32 | Form::Zigzag | Form::Fixed64 => number,
            Form::Double | Form::Member(..) | Form::Outside(Outside::MetricType) => number,
            Form::Text | Form::BodyText | Form::IdText(_) => "text",
            Form::Bool => "true or false",
            Form::Id(_) => "an id",
            Form::Whole("ptrace.Status") => "a message",
            _ => return None,
        };
        let (of_literal, is_same) = match literal {
            Value::String(_) => ("text", is == "text"),
            Value::Int(_) | Value::Double(_) => (number, is == number),
            Value::Bool(_) => ("true or false", is == "true or false"),
            Value::Bytes([_, ..]) => ("bytes", false),
            // A missing field reads as its zero value, never as nil.
            Value::Nil if matches!(self.row.form, Form::Id(_) | Form::Text) => ("nil", false),
            _ => return None,
        };
        let name = self.row.name;
        let help = match (is, of_literal) {
            ("an id", "nil") => {
                let zeros = "0".repeat(if self.row.form == Form::Id(16) { 32 } else { 16 });
                format!("write `{name}.string == \"{zeros}\"`")
            }
            ("text", "nil") => format!("write `{name} == \"\"`"),
            ("an id", "text") => format!("write `{name}.string == \"…\"`"),
            ("an id", _) if self.row.form == Form::Id(16) => format!("write `{name} == TraceID(0x…)`"),
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

    /// Whether `int` can read it: an integer in the same field of all messages in its place.
    pub(super) fn is_int(&self) -> bool {
        self.is_plain() && self.keys.is_empty() && matches!(self.row.form, Form::Enum | Form::Count | Form::Fixed64)
    }

    #[inline]
    pub(super) fn int(&self, sight: &mut Sight) -> i64 {
        let [number, ..] = self.row.number;
        let bits = self.message(sight).bits(number);
        match self.row.form {
            Form::Enum => i64::from(bits as i32),
            Form::Count => i64::from(bits as u32),
            _ => bits as i64,
        }
    }

    /// Whether `text` can read it: a text field, or an attribute with a constant key.
    pub(super) fn is_text(&self) -> bool {
        let is_named = matches!(&*self.keys, [Expression::Constant(Constant::String(_))]);
        self.is_plain()
            && (self.row.form == Form::Text && self.keys.is_empty() || self.row.form == Form::Attributes && is_named)
    }

    /// The text; `None` if the attribute is absent or not text.
    #[inline]
    pub(super) fn text<'a>(&self, sight: &mut Sight<'a>) -> Option<&'a [u8]> {
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

    /// Whether the attribute that it names exists, even if it is empty.
    pub(crate) fn has(&self, sight: &mut Sight) -> bool {
        let [number, ..] = self.row.number;
        match &*self.keys {
            [Expression::Constant(Constant::String(key))] => self.message(sight).attribute(number, key).is_some(),
            _ => false,
        }
    }

    fn is_plain(&self) -> bool {
        let [number, others @ ..] = self.row.number;
        number != 0 && others.iter().all(|other| *other == number) && self.row.inner == 0
    }

    pub(super) fn get<'a>(&'a self, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
        let number = self.number(scene.sight);
        match self.row.form {
            Form::Outside(value) => self.get_outside(value, scene),
            _ if number == 0 => Ok(Value::Nil),
            Form::Attributes => self.get_attribute(number, scene),
            _ => self.get_field(number, scene),
        }
    }

    pub(super) fn set<'a>(&'a self, scene: &mut Scene<'_, 'a>, value: Value<'a>) -> Result<(), Fault> {
        let number = self.number(scene.sight);
        match self.row.form {
            Form::Outside(old) => self.set_outside(old, scene, value),
            _ if number == 0 && self.row.place == Place::Data => Ok(()),
            _ if number == 0 => {
                let name = points_name(scene.sight.data_number).trim_end_matches("Slice");
                Err(Fault::new(format!("unsupported data point type: {name}")))
            }
            Form::Attributes => self.set_attribute(number, scene, value),
            _ => self.set_field(number, scene, value),
        }
    }

    /// The message and field number of a whole list of attributes.
    fn attributes<'s, 'a>(&self, sight: &'s mut Sight<'a>) -> Option<(u32, &'s mut Message<'a>)> {
        let is_all = self.row.form == Form::Attributes && self.keys.is_empty();
        is_all.then(|| (self.number(sight), self.message(sight)))
    }

    /// Deletes a key of a map, if it exists.
    pub(super) fn delete_key<'a>(&'a self, scene: &mut Scene<'_, 'a>, key: &[u8]) -> Result<(), Fault> {
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

    /// Keeps the entries of a map that `keep` accepts, in their order.
    pub(super) fn retain<'a>(
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
    fn message<'s, 'a>(&self, sight: &'s mut Sight<'a>) -> &'s mut Message<'a> {
        match self.row.place {
            Place::ResourceGroup => &mut sight.resource_group,
            Place::Resource => &mut sight.resource,
            Place::ScopeGroup => &mut sight.scope_group,
            Place::Scope => &mut sight.scope,
            Place::Record => &mut sight.record,
            Place::Data => &mut sight.data,
            Place::Child => &mut sight.child,
            Place::Exemplar => &mut sight.exemplar,
        }
    }

    /// The number of the field in the current metric type; 0 if that type does not have it.
    #[inline]
    fn number(&self, sight: &Sight) -> u32 {
        self.row.number.get(DataType::of(sight.data_number) as usize).copied().unwrap_or_default()
    }
}

/// The values of keys.
#[inline]
fn evaluated<'a>(keys: &'a [Expression], scene: &mut Scene<'_, 'a>) -> Result<Keys<'a>, Fault> {
    keys.iter().map(|key| key.evaluate(scene)).collect()
}

fn not_indexed(name: &str, span: &Span) -> Mistake {
    let message = format!(
        "the keys indexing \"{name}\" were not used by the context - this likely means you are trying to index a path \
         that does not support indexing"
    );
    Mistake::new(span, message)
}
