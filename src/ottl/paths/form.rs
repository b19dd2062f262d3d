//! How a value stands in its field: each form has an arm in `Form::get`, which reads it, and one in `Form::put`, which
//! writes it. Texts of faults are the Go collector's.

use super::nested::{self, retag, text_key, type_name};
use crate::otlp::hex;
use crate::otlp::message::Message;
use crate::otlp::schema::{KIND_WORDS, SPAN_KINDS, list};
use crate::otlp::tracestate;
use crate::otlp::views::AnyValue;
use crate::otlp::wire::{self, put_bytes, put_fixed32, put_fixed64, put_uint, put_varint};
use crate::ottl::value::{Arena, Fault, Time, Value, items, put_item};

/// In a second.
const NANOS: i64 = 1_000_000_000;

/// How a value stands in its field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A repeated field of attributes; the only form but `Body`, `TraceState`, `Cache` and `Client` that takes keys.
    Attributes,
    Body,
    BodyText,
    Text,
    TraceState,
    /// A varint of 32 bits that is never negative, the same with a sign, and one of 64 bits.
    Count,
    Enum,
    Varint,
    Fixed32,
    Zigzag,
    Bool,
    /// Eight bytes as an integer.
    Fixed64,
    Double,
    Time,
    /// A number that is one of these members of a oneof of eight bytes.
    Member(&'static Form, [u32; 2]),
    /// A packed list of numbers.
    List(&'static Form),
    TraceId,
    SpanId,
    TraceIdText,
    SpanIdText,
    KindText,
    DeprecatedKindText,
    /// A message, or all of a repeated one, by its Go type.
    Whole(&'static str),
    Wholes(&'static str),
    Points,
    // What stands in no field:
    MetricType,
    EventIndex,
    Cache,
    /// Of the client: where it is, its metadata, those of gRPC, what its authenticator tells.
    Client(Told),
}

/// What is known of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Address,
    Metadata,
    Auth,
    Call,
}

/// The field that a path means, in the message that it stands in, and the keys behind the path.
pub struct PathField<'s, 'a> {
    pub message: &'s Message<'a>,
    pub number: u32,
    pub keys: &'s [Value<'a>],
    pub arena: &'a Arena,
    /// The Go type of the points of the metric in sight.
    pub points: &'static str,
}

impl Form {
    pub fn takes_keys(self) -> bool {
        matches!(self, Form::Attributes | Form::Body | Form::TraceState | Form::Cache | Form::Client(_))
    }

    pub fn get<'a>(self, at: &PathField<'_, 'a>) -> Result<Value<'a>, Fault> {
        let PathField { message, number, keys, arena, points } = *at;
        Ok(match self {
            Form::Attributes => match keys.split_first() {
                None => Value::Map(arena.keep(&retag(message.payloads(number), list::VALUES))?),
                Some((key, rest)) => match message.attribute(number, text_key(*key, "get")?) {
                    Some(found) => nested::get(Value::from_any(found), rest)?,
                    None => Value::Nil,
                },
            },
            Form::Body => nested::get(body(at, "get")?, keys)?,
            Form::BodyText => match body(at, "get")? {
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
            Form::Member(form, members) => {
                let members = message.fields().filter(|field| members.contains(&field.number));
                match members.last() {
                    Some(wire::Field { number: found, value: wire::Value::Fixed64(bits), .. }) if found == number => {
                        form.value(bits)
                    }
                    _ => form.value(0),
                }
            }
            Form::List(form) => {
                let mut list = Vec::new();
                let mut put = |bits| put_item(&mut list, &form.value(bits));
                for field in message.occurrences(number) {
                    match field.value {
                        wire::Value::Varint(bits) | wire::Value::Fixed64(bits) => put(bits),
                        wire::Value::Bytes(packed) if *form == Form::Varint => wire::varints(packed).for_each(&mut put),
                        wire::Value::Bytes(packed) => {
                            packed.as_chunks().0.iter().for_each(|bytes| put(u64::from_le_bytes(*bytes)));
                        }
                        _ => {}
                    }
                }
                Value::List(arena.keep(&list)?)
            }
            Form::TraceId => Value::TraceId(message.bytes(number).try_into().unwrap_or_default()),
            Form::SpanId => Value::SpanId(message.bytes(number).try_into().unwrap_or_default()),
            Form::TraceIdText | Form::SpanIdText => {
                let mut digits = Vec::new();
                match message.bytes(number) {
                    // An id that is missing is one of zeros.
                    [] => hex::put(if self == Form::TraceIdText { &[0; 16] } else { &[0; 8] }, &mut digits),
                    id => hex::put(id, &mut digits),
                }
                Value::String(arena.keep(&digits)?)
            }
            Form::KindText | Form::DeprecatedKindText => {
                let (prefix, kinds) = self.kinds();
                match kinds.get(message.bits(number) as usize) {
                    Some(kind) if !prefix.is_empty() => arena.text(&format!("{prefix}{kind}"))?,
                    kind => Value::String(kind.map_or(b"", |kind| kind.as_bytes())),
                }
            }
            Form::Whole(name) => {
                let whole = super::inside(message, number).unwrap_or_default();
                match &**whole.pieces() {
                    [piece] => Value::Whole(name, piece),
                    pieces => Value::Whole(name, arena.keep(&pieces.concat())?),
                }
            }
            Form::Wholes(_) | Form::Points => {
                let all: Vec<&[u8]> = message.occurrences(number).map(|field| field.raw).collect();
                Value::Whole(self.type_name(points), arena.keep(&all.concat())?)
            }
            number_form => number_form.value(message.bits(number)),
        })
    }

    /// Writes the field with this value; nothing if a list or messages are set to nil.
    pub fn put<'a>(self, at: &PathField<'_, 'a>, value: Value<'a>, out: &mut Vec<u8>) -> Result<(), Fault> {
        let PathField { message, number, keys, arena, points } = *at;
        match (self, value) {
            (Form::Body, value) => {
                nested::put(body(at, "set")?, keys, value, arena)?.put_field(out, number);
                nested::storable(&value)?;
            }
            (Form::BodyText, Value::String(_)) => value.put_field(out, number),
            (Form::Text, Value::String(text)) => put_bytes(out, number, text),
            (Form::TraceState, Value::String(text)) => match keys.first() {
                None => put_bytes(out, number, text),
                Some(key) => {
                    put_bytes(out, number, &with_state_member(message.bytes(number), text_key(*key, "set")?, text));
                }
            },
            (Form::Member(form, _), value) => form.put(at, value, out)?,
            (Form::List(form), Value::List(list)) => {
                let mut packed = Vec::new();
                for item in items(list) {
                    let bits = form.bits(&item).ok_or_else(|| {
                        let (wanted, found) = (self.type_name(points).trim_start_matches("[]"), item.type_name());
                        Fault::new(format!("invalid value type provided for a slice of {wanted}: {found}"))
                    })?;
                    match *form {
                        Form::Varint => put_varint(&mut packed, bits),
                        _ => packed.extend_from_slice(&bits.to_le_bytes()),
                    }
                }
                put_bytes(out, number, &packed);
            }
            (Form::TraceId, Value::TraceId(id)) => put_bytes(out, number, &id),
            (Form::SpanId, Value::SpanId(id)) => put_bytes(out, number, &id),
            (Form::TraceIdText | Form::SpanIdText, Value::String(digits)) => {
                let (what, length) = if self == Form::TraceIdText { ("trace", 16) } else { ("span", 8) };
                let mut id = Vec::new();
                hex::read(digits, length, &mut id)
                    .ok_or_else(|| Fault::new(format!("{what} ids must be {} hex characters", 2 * length)))?;
                put_bytes(out, number, &id);
            }
            (Form::KindText | Form::DeprecatedKindText, Value::String(text)) => {
                let (prefix, kinds) = self.kinds();
                let name = text.strip_prefix(prefix.as_bytes());
                let kind = name.and_then(|name| kinds.iter().position(|kind| kind.as_bytes() == name));
                let unknown = || Fault::new(format!("unknown span kind string, {}", String::from_utf8_lossy(text)));
                put_uint(out, number, kind.ok_or_else(unknown)? as u64);
            }
            (Form::Whole(name), Value::Whole(found, bytes)) if name == found => put_bytes(out, number, bytes),
            (Form::Wholes(_) | Form::Points, Value::Whole(found, bytes)) if found == self.type_name(points) => {
                out.extend_from_slice(bytes);
            }
            (Form::Wholes(_) | Form::Points | Form::List(_), Value::Nil) => {}
            (_, value) => match (self.bits(&value), value) {
                (Some(bits), _) => self.put_number(number, bits, out),
                (None, Value::Nil) => return Err(Fault::new("setting a value to nil is not supported")),
                (None, value) => {
                    let (expected, found) = (self.type_name(points), value.type_name());
                    return Err(Fault::new(format!("expects {expected} but got {found}")));
                }
            },
        }
        Ok(())
    }

    /// The number that these bits are.
    fn value<'a>(self, bits: u64) -> Value<'a> {
        match self {
            Form::Count | Form::Fixed32 => Value::Int(i64::from(bits as u32)),
            Form::Enum => Value::Int(i64::from(bits as i32)),
            Form::Zigzag => Value::Int(i64::from(bits as u32 >> 1) ^ -((bits & 1) as i64)),
            Form::Varint | Form::Fixed64 => Value::Int(bits as i64),
            Form::Bool => Value::Bool(bits != 0),
            Form::Double => Value::Double(f64::from_bits(bits)),
            Form::Time => {
                let (seconds, nanos) = ((bits as i64).div_euclid(NANOS), (bits as i64).rem_euclid(NANOS));
                Value::Time(Time { seconds, nanos: nanos as u32, offset_seconds: 0 })
            }
            _ => Value::Nil,
        }
    }

    /// The bits of a number; `None` if the value does not fit this form.
    fn bits(self, value: &Value) -> Option<u64> {
        Some(match (self, *value) {
            (Form::Count | Form::Fixed32, Value::Int(value)) => u64::from(value as u32),
            (Form::Enum, Value::Int(value)) => i64::from(value as i32) as u64,
            (Form::Zigzag, Value::Int(value)) => u64::from(((value as i32) << 1 ^ value as i32 >> 31) as u32),
            (Form::Varint | Form::Fixed64, Value::Int(value)) => value as u64,
            (Form::Bool, Value::Bool(value)) => u64::from(value),
            (Form::Double, Value::Double(value)) => value.to_bits(),
            (Form::Time, Value::Time(time)) => time.nanos() as u64,
            _ => return None,
        })
    }

    fn put_number(self, number: u32, bits: u64, out: &mut Vec<u8>) {
        match self {
            Form::Fixed32 => put_fixed32(out, number, bits as u32),
            Form::Fixed64 | Form::Double | Form::Time => put_fixed64(out, number, bits),
            _ => put_uint(out, number, bits),
        }
    }

    /// The Go type of what it holds.
    fn type_name(self, points: &'static str) -> &'static str {
        match self {
            Form::Count | Form::Enum | Form::Fixed32 | Form::Zigzag | Form::Fixed64 | Form::Varint => "int64",
            Form::Bool => "bool",
            Form::Double => "float64",
            Form::Time => "time.Time",
            Form::TraceId => "pcommon.TraceID",
            Form::SpanId => "pcommon.SpanID",
            Form::List(Form::Double) => "[]float64",
            Form::List(_) => "[]uint64",
            Form::Whole(name) | Form::Wholes(name) => name,
            Form::Points => points,
            _ => "string",
        }
    }

    /// What stands before the kinds of spans in this form, and the kinds by their numbers.
    fn kinds(self) -> (&'static str, &'static [&'static str]) {
        if self == Form::KindText { ("", &KIND_WORDS) } else { SPAN_KINDS }
    }
}

/// The body of a log record, which has to take the keys.
fn body<'a>(at: &PathField<'_, 'a>, act: &str) -> Result<Value<'a>, Fault> {
    let read = |payload| Value::from_any(AnyValue::read(payload));
    let bodies = at.message.payloads(at.number).map(read);
    let body = bodies.filter(|value| *value != Value::Nil).last().unwrap_or(Value::Nil);
    match (body, at.keys.first()) {
        (_, None) | (Value::List(_), _) => Ok(body),
        (Value::Map(_), Some(key)) => text_key(*key, act).map(|_| body),
        _ => Err(Fault::new(format!("log bodies of type {} cannot be indexed", type_name(&body)))),
    }
}

/// The members of a W3C trace state; `None` if it is malformed.
fn state_members(state: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let members = state.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty());
    let pairs = members.map(|member| {
        let mut parts = member.splitn(2, |byte| *byte == b'=');
        Some((parts.next()?, parts.next()?))
    });
    pairs.collect()
}

/// The trace state with a member changed or added, and moved to the front. A malformed trace state, and one that cannot hold the
/// member, stays as it is.
fn with_state_member(state: &[u8], key: &[u8], value: &[u8]) -> Vec<u8> {
    let members = state_members(state).filter(|_| tracestate::is_member(key, value));
    let Some(members) = members else { return state.to_vec() };
    let others = members.into_iter().filter(|(other, _)| *other != key);
    let members = std::iter::once((key, value)).chain(others).map(|(key, value)| [key, b"=", value].concat());
    members.collect::<Vec<_>>().join(&b","[..])
}
