//! Borrowed views of OTLP messages: one pass over the wire, without copies.
//!
//! Fields may come in any order and more than once: the last scalar wins, the last member of a oneof wins, singular
//! messages given twice merge (`Cow` if that has to join two fragments), and repeated fields keep their order.

use std::borrow::Cow;

use super::schema::{
    any_value, entity_ref, event, key_value, link, log_record, resource, resource_group, scope, scope_group, span,
    status,
};
use super::wire::{Field, Fields, Value};

pub(crate) mod metrics;

/// Merges another occurrence of a field into a view; wrong wire types are ignored.
trait Merge<'a> {
    fn merge(&mut self, found: Field<'a>, here: Fields<'a>);
}

/// Fills a view from a message: `view, message, numbers { NUMBER field, … }`.
macro_rules! fill {
    ($view:ident, $message:expr, $numbers:ident { $($($number:ident)|+ $field:ident),* $(,)? }) => {{
        let mut fields = Fields::new($message);
        while let (here, Some(found)) = (fields.clone(), fields.next()) {
            match found.number {
                $($($numbers::$number)|+ => Merge::merge(&mut $view.$field, found, here),)*
                _ => {}
            }
        }
    }};
}

/// Views whose field types determine how they are read.
macro_rules! views {
    ($($(#[$doc:meta])* $view:ident = $numbers:ident { $($($number:ident)|+ $field:ident: $type:ty),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Default)]
        pub(crate) struct $view<'a> {
            $(pub(crate) $field: $type),*
        }

        impl<'a> $view<'a> {
            pub(crate) fn read(message: &'a [u8]) -> Self {
                let mut view = Self::default();
                fill!(view, message, $numbers { $($($number)|+ $field),* });
                view
            }
        }
    )*};
}

use {fill, views};

views! {
    /// `ResourceLogs`, `ResourceMetrics` or `ResourceSpans`.
    ResourceGroup = resource_group {
        RESOURCE resource: Cow<'a, [u8]>, SCOPES scopes: Repeated<'a>, SCHEMA_URL schema_url: &'a [u8]
    }
    Resource = resource { ATTRIBUTES attributes: Repeated<'a>, ENTITY_REFS entity_refs: Repeated<'a> }
    EntityRef = entity_ref {
        SCHEMA_URL schema_url: &'a [u8], TYPE entity_type: &'a [u8], ID_KEYS id_keys: Repeated<'a>,
        DESCRIPTION_KEYS description_keys: Repeated<'a>
    }
    /// `ScopeLogs`, `ScopeMetrics` or `ScopeSpans`; its records are log records, metrics or spans.
    ScopeGroup = scope_group {
        SCOPE scope: Cow<'a, [u8]>, RECORDS records: Repeated<'a>, SCHEMA_URL schema_url: &'a [u8]
    }
    Scope = scope { NAME name: &'a [u8], VERSION version: &'a [u8], ATTRIBUTES attributes: Repeated<'a> }
    /// Times are nanoseconds since 1970, 0 when unset; an id is empty when unset.
    LogRecord = log_record {
        ATTRIBUTES attributes: Repeated<'a>, TIME time: u64, OBSERVED_TIME observed_time: u64,
        SEVERITY_NUMBER severity_number: i32, SEVERITY_TEXT severity_text: &'a [u8],
        EVENT_NAME event_name: &'a [u8], BODY body: AnyValue<'a>, FLAGS flags: u32, TRACE_ID trace_id: &'a [u8],
        SPAN_ID span_id: &'a [u8]
    }
    Span = span {
        ATTRIBUTES attributes: Repeated<'a>, EVENTS events: Repeated<'a>, LINKS links: Repeated<'a>,
        TRACE_ID trace_id: &'a [u8], SPAN_ID span_id: &'a [u8], PARENT_SPAN_ID parent_span_id: &'a [u8],
        TRACE_STATE trace_state: &'a [u8], NAME name: &'a [u8], KIND kind: i32, START start: u64, END end: u64,
        DROPPED_ATTRIBUTES_COUNT dropped_attributes_count: u32, DROPPED_EVENTS_COUNT dropped_events_count: u32,
        DROPPED_LINKS_COUNT dropped_links_count: u32, STATUS status: Cow<'a, [u8]>
    }
    Status = status { MESSAGE message: &'a [u8], CODE code: i32 }
    SpanEvent = event {
        TIME time: u64, NAME name: &'a [u8], ATTRIBUTES attributes: Repeated<'a>,
        DROPPED_ATTRIBUTES_COUNT dropped_attributes_count: u32
    }
    SpanLink = link {
        TRACE_ID trace_id: &'a [u8], SPAN_ID span_id: &'a [u8], TRACE_STATE trace_state: &'a [u8],
        ATTRIBUTES attributes: Repeated<'a>, DROPPED_ATTRIBUTES_COUNT dropped_attributes_count: u32
    }
}

/// `wire value => field of a view`.
macro_rules! merges {
    ($($type:ty: $($pattern:pat => $value:expr),+;)*) => {$(
        impl<'a> Merge<'a> for $type {
            #[inline(always)]
            fn merge(&mut self, found: Field<'a>, _: Fields<'a>) {
                match found.value {
                    $($pattern => *self = $value,)+
                    _ => {}
                }
            }
        }
    )*};
}

merges! {
    u64: Value::Fixed64(value) => value;
    u32: Value::Varint(value) => value as u32, Value::Fixed32(value) => value;
    i32: Value::Varint(value) => value as i32;
    bool: Value::Varint(value) => value != 0;
    f64: Value::Fixed64(bits) => f64::from_bits(bits);
    Option<f64>: Value::Fixed64(bits) => Some(f64::from_bits(bits));
    &'a [u8]: Value::Bytes(bytes) => bytes;
}

impl<'a> Merge<'a> for Cow<'a, [u8]> {
    #[inline(always)]
    fn merge(&mut self, found: Field<'a>, _: Fields<'a>) {
        let Value::Bytes(bytes) = found.value else { return };
        if self.is_empty() {
            *self = Cow::Borrowed(bytes);
        } else {
            self.to_mut().extend_from_slice(bytes);
        }
    }
}

/// The occurrences of one repeated message or string field, in order. It stores no list: it starts at the first
/// occurrence.
#[derive(Clone)]
pub(crate) struct Repeated<'a> {
    fields: Fields<'a>,
    number: u32,
    left: usize,
}

impl<'a> Repeated<'a> {
    /// All fields `number` of `message`.
    pub(crate) fn of(message: &'a [u8], number: u32) -> Self {
        let mut repeated = Repeated::default();
        let mut fields = Fields::new(message);
        while let (here, Some(found)) = (fields.clone(), fields.next()) {
            if found.number == number {
                repeated.merge(found, here);
            }
        }
        repeated
    }

    pub(crate) fn len(&self) -> usize {
        self.left
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.left == 0
    }
}

impl<'a> Merge<'a> for Repeated<'a> {
    #[inline(always)]
    fn merge(&mut self, found: Field<'a>, here: Fields<'a>) {
        let Value::Bytes(_) = found.value else { return };
        if self.left == 0 {
            (self.fields, self.number) = (here, found.number);
        }
        self.left += 1;
    }
}

impl Default for Repeated<'_> {
    fn default() -> Self {
        Repeated { fields: Fields::new(&[]), number: 0, left: 0 }
    }
}

impl<'a> Iterator for Repeated<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        loop {
            let field = self.fields.next()?;
            if let Value::Bytes(bytes) = field.value
                && field.number == self.number
            {
                return Some(bytes);
            }
        }
    }
}

/// The value of a body or an attribute; strings may not be UTF-8. A list holds its encoded message.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum AnyValue<'a> {
    #[default]
    Empty,
    String(&'a [u8]),
    Bool(bool),
    Int(i64),
    Double(f64),
    /// An `ArrayValue`: its items are `Repeated::of(bytes, list::VALUES)`, each an `AnyValue`.
    Array(&'a [u8]),
    /// A `KeyValueList`: its items are `Repeated::of(bytes, list::VALUES)`, each a `KeyValue`.
    Map(&'a [u8]),
    Bytes(&'a [u8]),
}

impl<'a> AnyValue<'a> {
    #[inline]
    pub(crate) fn read(message: &'a [u8]) -> Self {
        let mut value = AnyValue::Empty;
        value.take(message);
        value
    }

    #[inline]
    fn take(&mut self, message: &'a [u8]) {
        for field in Fields::new(message) {
            *self = match (field.number, field.value) {
                (any_value::STRING, Value::Bytes(text)) => AnyValue::String(text),
                (any_value::BOOL, Value::Varint(bits)) => AnyValue::Bool(bits != 0),
                (any_value::INT, Value::Varint(bits)) => AnyValue::Int(bits as i64),
                (any_value::DOUBLE, Value::Fixed64(bits)) => AnyValue::Double(f64::from_bits(bits)),
                (any_value::ARRAY, Value::Bytes(list)) => AnyValue::Array(list),
                (any_value::KVLIST, Value::Bytes(list)) => AnyValue::Map(list),
                (any_value::BYTES, Value::Bytes(bytes)) => AnyValue::Bytes(bytes),
                _ => continue,
            };
        }
    }
}

impl<'a> Merge<'a> for AnyValue<'a> {
    #[inline(always)]
    fn merge(&mut self, found: Field<'a>, _: Fields<'a>) {
        if let Value::Bytes(message) = found.value {
            self.take(message);
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct KeyValue<'a> {
    pub key: &'a [u8],
    pub value: AnyValue<'a>,
}

impl<'a> KeyValue<'a> {
    #[inline]
    pub fn read(message: &'a [u8]) -> Self {
        // The form that all SDKs write: the key, the value, nothing else. Half of the debug text's cost is here.
        if let Some((key, rest)) = short(message, key_value::KEY)
            && let Some((value, [])) = short(rest, key_value::VALUE)
        {
            let value = match short(value, any_value::STRING) {
                Some((text, [])) => AnyValue::String(text),
                _ => AnyValue::read(value),
            };
            return KeyValue { key, value };
        }
        let mut pair = KeyValue::default();
        fill!(pair, message, key_value { KEY key, VALUE value });
        pair
    }
}

/// The bytes field `number` if it is the first and shorter than 128 bytes, and the rest of the message.
#[inline(always)]
fn short(message: &[u8], number: u32) -> Option<(&[u8], &[u8])> {
    match message {
        [tag, length, rest @ ..] if u32::from(*tag) == number << 3 | 2 && *length < 0x80 => {
            rest.split_at_checked(usize::from(*length))
        }
        _ => None,
    }
}
