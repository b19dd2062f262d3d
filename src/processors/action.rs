//! The actions of `attributes` and `resource`: edits of one list of attributes.

mod settings;

use ring::digest::{SHA256, digest};

use crate::config::tree::{self, Node};
use crate::otlp::hex;
use crate::otlp::message::{Message, put_pair_header};
use crate::otlp::rewrite::Verdict;
use crate::otlp::schema::attribute_lists;
use crate::otlp::views::{AnyValue, KeyValue};
use crate::otlp::wire;
use crate::ottl::pattern::Pattern;
use crate::ottl::value::{Fault, Value, put_entry, put_item};
use crate::telemetry::Client;

use super::edit::Request;
pub(super) use settings::decode;

#[derive(Clone, Debug)]
pub(super) struct Action {
    key: Box<[u8]>,
    deed: Deed,
}

#[derive(Clone, Debug)]
enum Deed {
    /// Whether it writes a missing attribute, and an existing one.
    Put {
        inserts: bool,
        updates: bool,
        source: Source,
        /// The value in place of a missing source.
        default: Option<Fixed>,
    },
    Delete(Option<Pattern>),
    Hash(Option<Pattern>),
    /// A pattern with named groups.
    Extract(Pattern),
    Convert(Type),
}

#[derive(Clone, Debug)]
enum Source {
    Nothing,
    Fixed(Fixed),
    Attribute(Box<[u8]>),
    /// A header, by name.
    Metadata(String),
    /// The client's host.
    Host,
    /// An attribute of the authenticated client.
    Auth(String),
}

/// An attribute encoded for each field number under which some message holds attributes, at the index of that number;
/// the others are empty.
#[derive(Clone, Debug)]
struct Fixed(Box<[Box<[u8]>]>);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Type {
    String,
    Int,
    Double,
}

impl Fixed {
    fn new(key: &[u8], any: &[u8]) -> Fixed {
        let lists = attribute_lists();
        let encoded = |list| {
            let mut raw = Vec::new();
            put_pair_header(&mut raw, list, key, any.len());
            raw.extend_from_slice(any);
            raw.into()
        };
        let last = lists.last().copied().unwrap_or_default();
        let all = (0..=last).map(|list| if lists.contains(&list) { encoded(list) } else { Box::default() });
        Fixed(all.collect())
    }

    /// `None` for a field that holds no attributes.
    #[inline]
    fn raw(&self, list: u32) -> Option<&[u8]> {
        self.0.get(list as usize).map(|raw| &**raw).filter(|raw| !raw.is_empty())
    }
}

/// Runs the actions on the attributes in field `list` of a message.
#[inline]
pub(super) fn run<'a>(
    actions: &'a [Action],
    message: &mut Message<'a>,
    list: u32,
    request: &Request<'a>,
) -> Result<Verdict, Fault> {
    actions.iter().try_for_each(|action| action.run(message, list, request))?;
    Ok(Verdict::Keep)
}

impl Action {
    fn run<'a>(&'a self, message: &mut Message<'a>, list: u32, request: &Request<'a>) -> Result<(), Fault> {
        let (key, Request { client, arena, .. }) = (&*self.key, *request);
        match &self.deed {
            Deed::Put { inserts, updates, source, default } => {
                let is_there = !(*inserts && *updates) && message.attribute(list, key).is_some();
                if !(if is_there { *updates } else { *inserts }) {
                    return Ok(());
                }
                let text = |found: Option<String>| {
                    found.map(|found| arena.keep_attribute(list, key, &Value::String(found.as_bytes()))).transpose()
                };
                let found = match source {
                    Source::Fixed(fixed) => fixed.raw(list),
                    Source::Attribute(other) => match message.attribute(list, other) {
                        Some(value) => Some(arena.keep_attribute(list, key, &Value::from_any(value))?),
                        None => None,
                    },
                    Source::Metadata(name) => {
                        text(client.filter(|client| has(client, name)).map(|found| found.value(name)))?
                    }
                    Source::Host => text(client.and_then(Client::host))?,
                    Source::Auth(name) => text(client.and_then(|client| Some(client.auth(name)?.to_owned())))?,
                    Source::Nothing => None,
                };
                if let Some(raw) = found.or_else(|| default.as_ref().and_then(|default| default.raw(list))) {
                    message.set_attribute(list, key, raw);
                }
            }
            Deed::Delete(pattern) => {
                if !key.is_empty() {
                    message.delete_attribute(list, key);
                }
                if let Some(pattern) = pattern {
                    message.retain_attributes(list, |pair| !pattern.is_match(pair.key));
                }
            }
            Deed::Hash(pattern) => {
                if !key.is_empty()
                    && let Some(value) = message.attribute(list, key)
                {
                    message.set_attribute(list, key, arena.keep_attribute(list, key, &Value::String(&hash(value)))?);
                }
                if let Some(pattern) = pattern {
                    revise_attributes(message, list, |found| match pattern.is_match(found.key) {
                        true => arena.keep_attribute(list, found.key, &Value::String(&hash(found.value))).map(Some),
                        false => Ok(None),
                    })?;
                }
            }
            Deed::Extract(regex) => {
                let Some(AnyValue::String(text)) = message.attribute(list, key) else { return Ok(()) };
                let Some(captures) = regex.captures(text) else { return Ok(()) };
                for (index, name) in regex.capture_names().enumerate().skip(1) {
                    let (Some(name), group) = (name, captures.get(index)) else { continue };
                    let value = Value::String(group.map_or(&[], |group| group.as_bytes()));
                    message.set_attribute(list, name.as_bytes(), arena.keep_attribute(list, name.as_bytes(), &value)?);
                }
            }
            Deed::Convert(wanted) => {
                let Some(value) = message.attribute(list, key) else { return Ok(()) };
                let mut text = Vec::new();
                if let Some(value) = converted(Value::from_any(value), *wanted, &mut text) {
                    message.set_attribute(list, key, arena.keep_attribute(list, key, &value)?);
                }
            }
        }
        Ok(())
    }
}

fn has(client: &Client, name: &str) -> bool {
    client.metadata.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
}

/// Replaces each attribute for which `change` returns an encoded field; an empty one removes it.
pub(super) fn revise_attributes<'a>(
    message: &mut Message<'a>,
    list: u32,
    mut change: impl FnMut(KeyValue<'a>) -> Result<Option<&'a [u8]>, Fault>,
) -> Result<(), Fault> {
    revise_payloads(message, list, |pair| change(KeyValue::read(pair)))
}

/// The same for the payloads of any repeated field.
pub(super) fn revise_payloads<'a>(
    message: &mut Message<'a>,
    number: u32,
    mut change: impl FnMut(&'a [u8]) -> Result<Option<&'a [u8]>, Fault>,
) -> Result<(), Fault> {
    let mut fault = None;
    message.revise(|field| match field.value {
        wire::Value::Bytes(payload) if field.number == number && fault.is_none() => {
            change(payload).unwrap_or_else(|found| {
                fault = Some(found);
                None
            })
        }
        _ => None,
    });
    fault.map_or(Ok(()), Err)
}

/// SHA-256 in hexadecimal; empty for values that are not text, number or boolean.
fn hash(value: AnyValue) -> Vec<u8> {
    let digest = match value {
        AnyValue::String(text) => digest(&SHA256, text),
        AnyValue::Bool(value) => digest(&SHA256, &[u8::from(value)]),
        AnyValue::Int(value) => digest(&SHA256, &value.to_le_bytes()),
        AnyValue::Double(value) => digest(&SHA256, &value.to_le_bytes()),
        _ => return Vec::new(),
    };
    let mut digits = Vec::with_capacity(64);
    hex::put(digest.as_ref(), &mut digits);
    digits
}

/// The value converted to another type; `None` if it has that type or cannot be converted.
fn converted<'v>(value: Value<'v>, wanted: Type, text: &'v mut Vec<u8>) -> Option<Value<'v>> {
    let number = |text: &'v [u8]| std::str::from_utf8(text).ok();
    match (wanted, value) {
        (Type::String, Value::String(_)) | (Type::Int, Value::Int(_)) | (Type::Double, Value::Double(_)) => None,
        (Type::String, value) => {
            value.put_as_string(text);
            Some(Value::String(text))
        }
        (Type::Int, Value::Double(value)) => Some(Value::Int(value as i64)),
        (Type::Int, Value::Bool(value)) => Some(Value::Int(i64::from(value))),
        (Type::Int, Value::String(text)) => number(text)?.parse().ok().map(Value::Int),
        (Type::Double, Value::Int(value)) => Some(Value::Double(value as f64)),
        (Type::Double, Value::Bool(value)) => Some(Value::Double(f64::from(u8::from(value)))),
        (Type::Double, Value::String(text)) => number(text)?.parse().ok().map(Value::Double),
        _ => None,
    }
}

/// A config value as an `AnyValue`.
pub(super) fn encoded(node: &Node) -> Vec<u8> {
    let mut inner = Vec::new();
    let mut out = Vec::new();
    let value = match &node.value {
        tree::Value::Null => Value::Nil,
        tree::Value::Bool(value) => Value::Bool(*value),
        tree::Value::Int(value) => Value::Int(*value),
        tree::Value::Float(value) => Value::Double(*value),
        tree::Value::Text(text) => Value::String(text.as_bytes()),
        tree::Value::List(items) => {
            items.iter().for_each(|item| put_item(&mut inner, &Value::from_any(AnyValue::read(&encoded(item)))));
            Value::List(&inner)
        }
        tree::Value::Map(entries) => {
            for entry in entries {
                let value = encoded(&entry.node);
                put_entry(&mut inner, entry.key.as_bytes(), &Value::from_any(AnyValue::read(&value)));
            }
            Value::Map(&inner)
        }
    };
    value.put_any(&mut out);
    out
}
