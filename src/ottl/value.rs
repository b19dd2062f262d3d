//! A value in a statement. `arena` holds intermediate results.
//!
//! Values own no memory: they borrow from the request, from the program's constants or from the arena. Maps and lists
//! stay in their wire encoding, so reading one from a path or storing one copies bytes only.

mod arena;

use std::borrow::Cow;

use crate::otlp::message::put_pair_header;
use crate::otlp::schema::{any_value, list};
use crate::otlp::slice::Exhausted;
use crate::otlp::views::{AnyValue, KeyValue, Repeated};
use crate::otlp::wire::{field_len, put_bytes, put_fixed64, put_header, put_uint, varint_len};

pub use arena::Arena;

/// Why an evaluation failed, in the Go collector's words.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault(pub Cow<'static, str>);

impl Fault {
    pub(super) fn new(text: impl Into<Cow<'static, str>>) -> Fault {
        Fault(text.into())
    }
}

/// The error of a statement whose results exceed the memory for one request.
const OUT_OF_MEMORY: &str = "the memory of this request's statements is used up";
pub(super) const TOO_LARGE: &str = "the result is larger than what one function may make";
/// No `error_mode` ignores this: the partial result is useless.
pub(super) const NO_END: &str = "the metrics that this request's statements add have no room";

/// The error of a time-dependent call when the config loads.
const NO_CLOCK: &str = "there is no clock before telemetry comes";

impl From<Exhausted> for Fault {
    fn from(_: Exhausted) -> Fault {
        Fault::new(Exhausted::MESSAGE)
    }
}

impl Fault {
    pub(crate) fn is_out_of_memory(&self) -> bool {
        [OUT_OF_MEMORY, TOO_LARGE, NO_END, Exhausted::MESSAGE].iter().any(|text| self.0.ends_with(text))
    }

    pub(super) fn no_clock() -> Fault {
        Fault::new(NO_CLOCK)
    }

    pub(super) fn wants_the_clock(&self) -> bool {
        self.0 == NO_CLOCK
    }

    pub(super) fn has_no_end(&self) -> bool {
        self.0 == NO_END
    }
}

/// A point in time: Unix seconds and nanoseconds, and the UTC offset for display.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Time {
    pub(super) seconds: i64,
    pub(super) nanos: u32,
    pub(super) offset_seconds: i32,
}

impl Time {
    pub(super) fn of(nanos: i128, offset_seconds: i32) -> Time {
        const SECOND: i128 = 1_000_000_000;
        Time { seconds: nanos.div_euclid(SECOND) as i64, nanos: nanos.rem_euclid(SECOND) as u32, offset_seconds }
    }

    pub(super) fn shifted(self, nanos: i128) -> Time {
        Time::of(self.nanos() + nanos, self.offset_seconds)
    }

    /// Since 1970.
    pub(super) fn nanos(self) -> i128 {
        i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanos)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Absent, or an empty `AnyValue`: both equal `nil`.
    Nil,
    Bool(bool),
    Int(i64),
    Double(f64),
    /// May not be UTF-8.
    String(&'a [u8]),
    Bytes(&'a [u8]),
    /// An encoded `ArrayValue`.
    List(&'a [u8]),
    /// An encoded `KeyValueList`.
    Map(&'a [u8]),
    Time(Time),
    /// Nanoseconds.
    Duration(i64),
    TraceId([u8; 16]),
    SpanId([u8; 8]),
    /// A part of telemetry that is only read and written as a whole (`span.events`, `span.status`,
    /// `datapoint.exemplars`): its name, and its raw fields, tags included.
    Whole(&'static str, &'a [u8]),
}

impl<'a> Value<'a> {
    pub(crate) fn from_any(any: AnyValue<'a>) -> Value<'a> {
        match any {
            AnyValue::Empty => Value::Nil,
            AnyValue::String(text) => Value::String(text),
            AnyValue::Bool(value) => Value::Bool(value),
            AnyValue::Int(value) => Value::Int(value),
            AnyValue::Double(value) => Value::Double(value),
            AnyValue::Array(items) => Value::List(items),
            AnyValue::Map(entries) => Value::Map(entries),
            AnyValue::Bytes(bytes) => Value::Bytes(bytes),
        }
    }

    /// The name of the value's type in the Go collector's messages.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Value::Nil => "nil",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int64",
            Value::Double(_) => "float64",
            Value::String(_) => "string",
            Value::Bytes(_) => "[]uint8",
            Value::List(_) => "pcommon.Slice",
            Value::Map(_) => "pcommon.Map",
            Value::Time(_) => "time.Time",
            Value::Duration(_) => "time.Duration",
            Value::TraceId(_) => "pcommon.TraceID",
            Value::SpanId(_) => "pcommon.SpanID",
            Value::Whole(name, _) => name,
        }
    }

    /// The error for a value of the wrong type.
    #[cold]
    pub(super) fn not(&self, expected: &str) -> Fault {
        Fault::new(format!("expected {expected} but got {}", self.type_name()))
    }

    /// The error for a value that a conversion does not support.
    #[cold]
    pub(super) fn unsupported(&self) -> Fault {
        Fault::new(format!("unsupported type: {}", self.type_name()))
    }

    pub(super) fn text(&self) -> Result<&'a [u8], Fault> {
        match self {
            Value::String(text) => Ok(text),
            other => Err(other.not("string")),
        }
    }

    /// The length of the value as an `AnyValue`; `None` if it cannot be one (times, ids, wholes).
    pub(crate) fn any_len(&self) -> Option<usize> {
        Some(match self {
            Value::Nil => 0,
            Value::Bool(_) => 2,
            Value::Int(value) => 1 + varint_len(*value as u64),
            Value::Double(_) => 9,
            Value::String(bytes) | Value::Bytes(bytes) | Value::List(bytes) | Value::Map(bytes) => {
                field_len(any_value::STRING, bytes.len())
            }
            _ => return None,
        })
    }

    /// Appends the fields of the `AnyValue`; nothing if the value cannot be one.
    pub(crate) fn put_any(&self, out: &mut Vec<u8>) {
        match self {
            Value::Bool(value) => put_uint(out, any_value::BOOL, u64::from(*value)),
            Value::Int(value) => put_uint(out, any_value::INT, *value as u64),
            Value::Double(value) => put_fixed64(out, any_value::DOUBLE, value.to_bits()),
            Value::String(text) => put_bytes(out, any_value::STRING, text),
            Value::Bytes(bytes) => put_bytes(out, any_value::BYTES, bytes),
            Value::List(items) => put_bytes(out, any_value::ARRAY, items),
            Value::Map(entries) => put_bytes(out, any_value::KVLIST, entries),
            _ => {}
        }
    }

    /// Appends it as an attribute: a `KeyValue` in the field `number`.
    pub(crate) fn put_pair(&self, out: &mut Vec<u8>, number: u32, key: &[u8]) {
        put_pair_header(out, number, key, self.any_len().unwrap_or(0));
        self.put_any(out);
    }

    /// Appends it as an `AnyValue` in the field `number`.
    pub(super) fn put_field(&self, out: &mut Vec<u8>, number: u32) {
        put_header(out, number, self.any_len().unwrap_or(0));
        self.put_any(out);
    }
}

/// The entries of an encoded `KeyValueList`, in order; of equal keys the first counts.
pub(crate) fn entries(map: &[u8]) -> impl Iterator<Item = (&[u8], Value<'_>)> {
    let pairs = Repeated::of(map, list::VALUES).map(KeyValue::read);
    pairs.map(|pair| (pair.key, Value::from_any(pair.value)))
}

/// The items of an encoded `ArrayValue`.
pub(crate) fn items(array: &[u8]) -> impl Iterator<Item = Value<'_>> {
    Repeated::of(array, list::VALUES).map(|item| Value::from_any(AnyValue::read(item)))
}

/// The value of a map's first entry with this key.
pub(super) fn entry<'a>(map: &'a [u8], key: &[u8]) -> Option<Value<'a>> {
    entries(map).find(|(name, _)| *name == key).map(|(_, value)| value)
}

/// The item of a list at an index.
pub(super) fn item(list: &[u8], index: i64) -> Result<Value<'_>, Fault> {
    let found = usize::try_from(index).ok().and_then(|index| items(list).nth(index));
    found.ok_or_else(|| out_of_bounds(index))
}

#[cold]
pub(super) fn out_of_bounds(index: i64) -> Fault {
    Fault::new(format!("index {index} out of bounds"))
}

/// Appends an entry to an encoded `KeyValueList`.
pub(crate) fn put_entry(map: &mut Vec<u8>, key: &[u8], value: &Value) {
    value.put_pair(map, list::VALUES, key);
}

/// Appends an item to an encoded `ArrayValue`.
pub(crate) fn put_item(array: &mut Vec<u8>, value: &Value) {
    value.put_field(array, list::VALUES);
}
