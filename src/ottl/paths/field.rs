//! A field of telemetry as a value: `Form::get` reads it, `Form::set` encodes it. Errors have the Go collector's text.

use super::nested::{self, map_key, type_name};
use super::outside::Outside;
use super::{Path, evaluated};
use crate::otlp::hex;
use crate::otlp::message::Message;
use crate::otlp::schema::{Names, metric};
use crate::otlp::tracestate;
use crate::otlp::views::AnyValue;
use crate::otlp::views::metrics::Packed;
use crate::otlp::wire::{self, put_bytes, put_fixed32, put_fixed64, put_uint, put_varint, unzigzag, zigzag};
use crate::ottl::scene::Scene;
use crate::ottl::value::{Arena, Fault, Time, Value, items, put_item};

/// Nanoseconds in a second.
const NANOS: i64 = 1_000_000_000;

/// The kind of value that a path has, and its encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A list of attributes.
    Attributes,
    /// A value that is not in telemetry.
    Outside(Outside),
    Body,
    BodyText,
    Text,
    TraceState,
    /// An unsigned varint of 32 bits.
    Count,
    /// A signed varint of 32 bits.
    Enum,
    /// A varint of 64 bits.
    Varint,
    Fixed32,
    Zigzag,
    Bool,
    Fixed64,
    Double,
    /// A `Fixed64` in nanoseconds.
    Time,
    /// A number in one of two members of a oneof.
    Member(&'static Form, [u32; 2]),
    /// A packed list of numbers.
    List(&'static Form),
    /// A trace or span id of this many bytes, and the same in hexadecimal.
    Id(usize),
    IdText(usize),
    /// The name of an enum's number.
    Name(&'static Names),
    /// A message, or all messages of a repeated field, by their Go type.
    Whole(&'static str),
    Wholes(&'static str),
    /// The data points of a metric.
    Points,
}

/// A field that a path refers to.
struct Field<'s, 'a> {
    message: &'s Message<'a>,
    number: u32,
    keys: &'s [Value<'a>],
    arena: &'a Arena,
    /// The field of the metric that has its data.
    data: u32,
}

impl Path {
    pub(super) fn get_field<'a>(&'a self, number: u32, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
        let keys = evaluated(&self.keys, scene)?;
        let (arena, data, outer) = (scene.arena, scene.sight.data_number, self.message(scene.sight));
        let inner = inside(outer, self.row.inner);
        let message = inner.as_ref().unwrap_or(outer);
        self.row.form.get(&Field { message, number, keys: &keys, arena, data })
    }

    pub(super) fn set_field<'a>(
        &'a self,
        number: u32,
        scene: &mut Scene<'_, 'a>,
        value: Value<'a>,
    ) -> Result<(), Fault> {
        let keys = evaluated(&self.keys, scene)?;
        let (arena, data, outer) = (scene.arena, scene.sight.data_number, self.message(scene.sight));
        let (mut out, mut inner) = (Vec::new(), inside(outer, self.row.inner));
        let message = inner.as_ref().unwrap_or(outer);
        self.row.form.set(&Field { message, number, keys: &keys, arena, data }, value, &mut out)?;
        let raw = arena.keep(&out)?;
        if let Some(inner) = &mut inner {
            inner.replace(number, raw);
            out.clear();
            inner.write_field(&mut out, self.row.inner);
            outer.replace(self.row.inner, arena.keep(&out)?);
            return Ok(());
        }
        if let Form::Member(_, members) = self.row.form {
            members.into_iter().filter(|member| *member != number).for_each(|other| outer.remove(other));
        }
        outer.replace(number, raw);
        Ok(())
    }
}

/// The singular message in a field; `None` for field 0, which stands for the message itself.
fn inside<'a>(message: &Message<'a>, number: u32) -> Option<Message<'a>> {
    (number != 0).then(|| {
        let mut inner = Message::default();
        inner.reset_to(message, number);
        inner
    })
}

/// The Go type of a metric's points.
pub(super) fn points_name(data: u32) -> &'static str {
    match data {
        metric::HISTOGRAM => "pmetric.HistogramDataPointSlice",
        metric::EXPONENTIAL_HISTOGRAM => "pmetric.ExponentialHistogramDataPointSlice",
        metric::SUMMARY => "pmetric.SummaryDataPointSlice",
        _ => "pmetric.NumberDataPointSlice",
    }
}

impl Form {
    pub(super) fn takes_keys(self) -> bool {
        match self {
            Form::Attributes | Form::Body | Form::TraceState => true,
            Form::Outside(value) => !matches!(value, Outside::MetricType | Outside::EventIndex),
            _ => false,
        }
    }

    fn get<'a>(self, field: &Field<'_, 'a>) -> Result<Value<'a>, Fault> {
        let Field { message, number, keys, arena, data } = *field;
        Ok(match self {
            Form::Body => nested::get(body(field, "get")?, keys)?,
            Form::BodyText => match body(field, "get")? {
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
                    let key = map_key(*key, "get")?;
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
                let (packed, mut list) = (Packed::of(message.occurrences(number)), Vec::new());
                let put = |bits| put_item(&mut list, &form.value(bits));
                match form {
                    Form::Varint => packed.varints().for_each(put),
                    _ => packed.fixed64s().for_each(put),
                }
                Value::List(arena.keep(&list)?)
            }
            Form::Id(16) => Value::TraceId(message.bytes(number).try_into().unwrap_or_default()),
            Form::Id(_) => Value::SpanId(message.bytes(number).try_into().unwrap_or_default()),
            Form::IdText(length) => {
                let mut digits = Vec::new();
                match message.bytes(number) {
                    // A missing id reads as zeros.
                    [] => digits.resize(2 * length, b'0'),
                    id => hex::put(id, &mut digits),
                }
                Value::String(arena.keep(&digits)?)
            }
            Form::Name((prefix, names)) => match names.get(message.bits(number) as usize) {
                Some(name) if !prefix.is_empty() => arena.text(&format!("{prefix}{name}"))?,
                name => Value::String(name.map_or(b"", |name| name.as_bytes())),
            },
            Form::Whole(name) => {
                let whole = inside(message, number).unwrap_or_default();
                match &**whole.pieces() {
                    [piece] => Value::Whole(name, piece),
                    pieces => Value::Whole(name, arena.keep(&pieces.concat())?),
                }
            }
            Form::Wholes(_) | Form::Points => {
                let all: Vec<&[u8]> = message.occurrences(number).map(|field| field.raw).collect();
                Value::Whole(self.type_name(data), arena.keep(&all.concat())?)
            }
            number_form => number_form.value(message.bits(number)),
        })
    }

    /// Encodes the field with a value; without output if a list, or a repeated message, is set to nil.
    fn set<'a>(self, field: &Field<'_, 'a>, value: Value<'a>, out: &mut Vec<u8>) -> Result<(), Fault> {
        let Field { message, number, keys, arena, data } = *field;
        match (self, value) {
            (Form::Body, value) => {
                nested::set(body(field, "set")?, keys, value, arena)?.put_field(out, number);
                nested::storable(&value)?;
            }
            (Form::BodyText, Value::String(_)) => value.put_field(out, number),
            (Form::Text, Value::String(text)) => put_bytes(out, number, text),
            (Form::TraceState, Value::String(text)) => match keys.first() {
                None => put_bytes(out, number, text),
                Some(key) => {
                    put_bytes(out, number, &with_state_member(message.bytes(number), map_key(*key, "set")?, text));
                }
            },
            (Form::Member(form, _), value) => form.set(field, value, out)?,
            (Form::List(form), Value::List(list)) => {
                let mut packed = Vec::new();
                for item in items(list) {
                    let bits = form.bits(&item).ok_or_else(|| {
                        let (wanted, found) = (self.type_name(data).trim_start_matches("[]"), item.type_name());
                        Fault::new(format!("invalid value type provided for a slice of {wanted}: {found}"))
                    })?;
                    match *form {
                        Form::Varint => put_varint(&mut packed, bits),
                        _ => packed.extend_from_slice(&bits.to_le_bytes()),
                    }
                }
                put_bytes(out, number, &packed);
            }
            (Form::Id(16), Value::TraceId(id)) => put_bytes(out, number, &id),
            (Form::Id(8), Value::SpanId(id)) => put_bytes(out, number, &id),
            (Form::IdText(length), Value::String(digits)) => {
                let (what, mut id) = (if length == 16 { "trace" } else { "span" }, Vec::new());
                hex::read(digits, length, &mut id)
                    .ok_or_else(|| Fault::new(format!("{what} ids must be {} hex characters", 2 * length)))?;
                put_bytes(out, number, &id);
            }
            (Form::Name((prefix, names)), Value::String(text)) => {
                let name = text.strip_prefix(prefix.as_bytes());
                let found = name.and_then(|name| names.iter().position(|known| known.as_bytes() == name));
                let unknown = || Fault::new(format!("unknown span kind string, {}", String::from_utf8_lossy(text)));
                put_uint(out, number, found.ok_or_else(unknown)? as u64);
            }
            (Form::Whole(name), Value::Whole(found, bytes)) if name == found => put_bytes(out, number, bytes),
            (Form::Wholes(_) | Form::Points, Value::Whole(found, bytes)) if found == self.type_name(data) => {
                out.extend_from_slice(bytes);
            }
            (Form::Wholes(_) | Form::Points | Form::List(_), Value::Nil) => {}
            (_, value) => match (self.bits(&value), value) {
                (Some(bits), _) => self.put_number(number, bits, out),
                (None, Value::Nil) => return Err(Fault::new("setting a value to nil is not supported")),
                (None, value) => {
                    let (expected, found) = (self.type_name(data), value.type_name());
                    return Err(Fault::new(format!("expects {expected} but got {found}")));
                }
            },
        }
        Ok(())
    }

    /// The value of a number with these bits.
    fn value<'a>(self, bits: u64) -> Value<'a> {
        match self {
            Form::Count | Form::Fixed32 => Value::Int(i64::from(bits as u32)),
            Form::Enum => Value::Int(i64::from(bits as i32)),
            Form::Zigzag => Value::Int(i64::from(unzigzag(bits))),
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
            (Form::Zigzag, Value::Int(value)) => zigzag(value as i32),
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

    /// The Go type of its values.
    fn type_name(self, data: u32) -> &'static str {
        match self {
            Form::Count | Form::Enum | Form::Fixed32 | Form::Zigzag | Form::Fixed64 | Form::Varint => "int64",
            Form::Bool => "bool",
            Form::Double => "float64",
            Form::Time => "time.Time",
            Form::Id(16) => "pcommon.TraceID",
            Form::Id(_) => "pcommon.SpanID",
            Form::List(Form::Double) => "[]float64",
            Form::List(_) => "[]uint64",
            Form::Whole(name) | Form::Wholes(name) => name,
            Form::Points => points_name(data),
            _ => "string",
        }
    }
}

/// The body of a log record, if it can be indexed by the keys.
fn body<'a>(field: &Field<'_, 'a>, act: &str) -> Result<Value<'a>, Fault> {
    let read = |payload| Value::from_any(AnyValue::read(payload));
    let bodies = field.message.payloads(field.number).map(read);
    let body = bodies.filter(|value| *value != Value::Nil).last().unwrap_or(Value::Nil);
    match (body, field.keys.first()) {
        (_, None) | (Value::List(_), _) => Ok(body),
        (Value::Map(_), Some(key)) => map_key(*key, act).map(|_| body),
        _ => Err(Fault::new(format!("log bodies of type {} cannot be indexed", type_name(&body)))),
    }
}

/// The members of a W3C trace state; `None` if it is malformed.
fn state_members(state: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let members = state.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty());
    members.map(|member| tracestate::cut(member, b'=')).collect()
}

/// The trace state with a member changed or added, and moved to the front. A malformed trace state is not changed, nor is
/// one that cannot have the member.
fn with_state_member(state: &[u8], key: &[u8], value: &[u8]) -> Vec<u8> {
    let members = state_members(state).filter(|_| tracestate::is_member(key, value));
    let Some(members) = members else { return state.to_vec() };
    let others = members.into_iter().filter(|(other, _)| *other != key);
    let members = std::iter::once((key, value)).chain(others).map(|(key, value)| [key, b"=", value].concat());
    members.collect::<Vec<_>>().join(&b","[..])
}
