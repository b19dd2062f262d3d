//! Borrowed views of OTLP messages: one pass over the wire, nothing copied.
//!
//! Fields may come in any order and more than once: the last scalar wins, the last member of a oneof wins, singular
//! messages given twice merge (`Cow` where that has to join two places), and repeated fields keep their order.

use std::borrow::Cow;

use super::schema::{
    any_value, entity_ref, event, key_value, link, log_record, resource, resource_group, scope, scope_group, span,
    status,
};
use super::wire::{self, Fields, Value};

pub mod metrics;

/// The occurrences of one repeated message or string field, in order. Holds no list: it starts at the first of them.
#[derive(Clone)]
pub struct Repeated<'a> {
    fields: Fields<'a>,
    number: u32,
    left: usize,
}

impl<'a> Repeated<'a> {
    /// All fields `number` of `message`.
    pub fn of(message: &'a [u8], number: u32) -> Self {
        let mut found = Repeated::default();
        let mut fields = Fields::new(message);
        while let (here, Some(field)) = (fields.clone(), fields.next()) {
            if field.number == number && matches!(field.value, Value::Bytes(_)) {
                found.found(here, number);
            }
        }
        found
    }

    /// Notes one more occurrence; the cursor stands before it.
    #[inline]
    fn found(&mut self, here: Fields<'a>, number: u32) {
        if self.left == 0 {
            self.fields = here;
            self.number = number;
        }
        self.left += 1;
    }

    pub fn len(&self) -> usize {
        self.left
    }

    pub fn is_empty(&self) -> bool {
        self.left == 0
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

/// The value of a body or an attribute; strings are not checked to be UTF-8. A list holds its encoded message.
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
    pub fn read(message: &'a [u8]) -> Self {
        let mut value = AnyValue::Empty;
        value.merge(message);
        value
    }

    #[inline]
    fn merge(&mut self, message: &'a [u8]) {
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

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct KeyValue<'a> {
    pub key: &'a [u8],
    pub value: AnyValue<'a>,
}

impl<'a> KeyValue<'a> {
    #[inline]
    pub fn read(message: &'a [u8]) -> Self {
        // The shape that all SDKs write: the key, the value, nothing else. Half of what the debug text costs is here.
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
        for field in Fields::new(message) {
            match (field.number, field.value) {
                (key_value::KEY, Value::Bytes(key)) => pair.key = key,
                (key_value::VALUE, Value::Bytes(value)) => pair.value.merge(value),
                _ => {}
            }
        }
        pair
    }
}

/// The bytes field `number` if it opens the message and is shorter than 128, and what follows it.
#[inline(always)]
fn short(message: &[u8], number: u32) -> Option<(&[u8], &[u8])> {
    match message {
        [tag, length, rest @ ..] if u32::from(*tag) == number << 3 | 2 && *length < 0x80 => {
            rest.split_at_checked(usize::from(*length))
        }
        _ => None,
    }
}

/// `ResourceLogs`, `ResourceMetrics` or `ResourceSpans`.
#[derive(Default)]
pub struct ResourceGroup<'a> {
    pub resource: Cow<'a, [u8]>,
    pub schema_url: &'a [u8],
    pub scopes: Repeated<'a>,
}

impl<'a> ResourceGroup<'a> {
    pub fn read(message: &'a [u8]) -> Self {
        let mut group = ResourceGroup::default();
        let mut fields = Fields::new(message);
        while let (here, Some(field)) = (fields.clone(), fields.next()) {
            match (field.number, field.value) {
                (resource_group::RESOURCE, Value::Bytes(bytes)) => join(&mut group.resource, bytes),
                (resource_group::SCHEMA_URL, Value::Bytes(url)) => group.schema_url = url,
                (resource_group::SCOPES, Value::Bytes(_)) => group.scopes.found(here, resource_group::SCOPES),
                _ => {}
            }
        }
        group
    }

    pub fn attributes(&self) -> Repeated<'_> {
        Repeated::of(&self.resource, resource::ATTRIBUTES)
    }

    pub fn entity_refs(&self) -> Repeated<'_> {
        Repeated::of(&self.resource, resource::ENTITY_REFS)
    }
}

/// `ScopeLogs`, `ScopeMetrics` or `ScopeSpans`.
#[derive(Default)]
pub struct ScopeGroup<'a> {
    pub scope: Cow<'a, [u8]>,
    pub schema_url: &'a [u8],
    /// Log records, metrics or spans.
    pub records: Repeated<'a>,
}

impl<'a> ScopeGroup<'a> {
    pub fn read(message: &'a [u8]) -> Self {
        let mut group = ScopeGroup::default();
        let mut fields = Fields::new(message);
        while let (here, Some(field)) = (fields.clone(), fields.next()) {
            match (field.number, field.value) {
                (scope_group::SCOPE, Value::Bytes(bytes)) => join(&mut group.scope, bytes),
                (scope_group::SCHEMA_URL, Value::Bytes(url)) => group.schema_url = url,
                (scope_group::RECORDS, Value::Bytes(_)) => group.records.found(here, scope_group::RECORDS),
                _ => {}
            }
        }
        group
    }

    pub fn name(&self) -> &[u8] {
        last(&self.scope, scope::NAME)
    }

    pub fn version(&self) -> &[u8] {
        last(&self.scope, scope::VERSION)
    }

    pub fn attributes(&self) -> Repeated<'_> {
        Repeated::of(&self.scope, scope::ATTRIBUTES)
    }
}

#[derive(Default)]
pub struct EntityRef<'a> {
    pub schema_url: &'a [u8],
    pub entity_type: &'a [u8],
    pub id_keys: Repeated<'a>,
    pub description_keys: Repeated<'a>,
}

impl<'a> EntityRef<'a> {
    pub fn read(message: &'a [u8]) -> Self {
        EntityRef {
            schema_url: last(message, entity_ref::SCHEMA_URL),
            entity_type: last(message, entity_ref::TYPE),
            id_keys: Repeated::of(message, entity_ref::ID_KEYS),
            description_keys: Repeated::of(message, entity_ref::DESCRIPTION_KEYS),
        }
    }
}

/// Times are nanoseconds since 1970, 0 when unset; an id is empty when unset.
#[derive(Default)]
pub struct LogRecord<'a> {
    pub time: u64,
    pub observed_time: u64,
    pub severity_number: i32,
    pub severity_text: &'a [u8],
    pub event_name: &'a [u8],
    pub body: AnyValue<'a>,
    pub attributes: Repeated<'a>,
    pub dropped_attributes_count: u32,
    pub flags: u32,
    pub trace_id: &'a [u8],
    pub span_id: &'a [u8],
}

impl<'a> LogRecord<'a> {
    pub fn read(message: &'a [u8]) -> Self {
        use log_record as field;
        let mut record = LogRecord::default();
        let mut fields = Fields::new(message);
        while let (here, Some(found)) = (fields.clone(), fields.next()) {
            match (found.number, found.value) {
                (field::ATTRIBUTES, Value::Bytes(_)) => record.attributes.found(here, field::ATTRIBUTES),
                (field::TIME, Value::Fixed64(time)) => record.time = time,
                (field::OBSERVED_TIME, Value::Fixed64(time)) => record.observed_time = time,
                (field::SEVERITY_NUMBER, Value::Varint(number)) => record.severity_number = number as i32,
                (field::SEVERITY_TEXT, Value::Bytes(text)) => record.severity_text = text,
                (field::EVENT_NAME, Value::Bytes(name)) => record.event_name = name,
                (field::BODY, Value::Bytes(body)) => record.body.merge(body),
                (field::DROPPED_ATTRIBUTES_COUNT, Value::Varint(n)) => record.dropped_attributes_count = n as u32,
                (field::FLAGS, Value::Fixed32(flags)) => record.flags = flags,
                (field::TRACE_ID, Value::Bytes(id)) => record.trace_id = id,
                (field::SPAN_ID, Value::Bytes(id)) => record.span_id = id,
                _ => {}
            }
        }
        record
    }
}

#[derive(Default)]
pub struct Span<'a> {
    pub trace_id: &'a [u8],
    pub span_id: &'a [u8],
    pub parent_span_id: &'a [u8],
    pub trace_state: &'a [u8],
    pub name: &'a [u8],
    pub kind: i32,
    pub start: u64,
    pub end: u64,
    pub attributes: Repeated<'a>,
    pub dropped_attributes_count: u32,
    pub events: Repeated<'a>,
    pub dropped_events_count: u32,
    pub links: Repeated<'a>,
    pub dropped_links_count: u32,
    pub status_code: i32,
    pub status_message: &'a [u8],
    pub flags: u32,
}

impl<'a> Span<'a> {
    pub fn read(message: &'a [u8]) -> Self {
        use span as field;
        let mut span = Span::default();
        let mut fields = Fields::new(message);
        while let (here, Some(found)) = (fields.clone(), fields.next()) {
            match (found.number, found.value) {
                (field::ATTRIBUTES, Value::Bytes(_)) => span.attributes.found(here, field::ATTRIBUTES),
                (field::EVENTS, Value::Bytes(_)) => span.events.found(here, field::EVENTS),
                (field::LINKS, Value::Bytes(_)) => span.links.found(here, field::LINKS),
                (field::TRACE_ID, Value::Bytes(id)) => span.trace_id = id,
                (field::SPAN_ID, Value::Bytes(id)) => span.span_id = id,
                (field::PARENT_SPAN_ID, Value::Bytes(id)) => span.parent_span_id = id,
                (field::TRACE_STATE, Value::Bytes(state)) => span.trace_state = state,
                (field::NAME, Value::Bytes(name)) => span.name = name,
                (field::KIND, Value::Varint(kind)) => span.kind = kind as i32,
                (field::START, Value::Fixed64(time)) => span.start = time,
                (field::END, Value::Fixed64(time)) => span.end = time,
                (field::DROPPED_ATTRIBUTES_COUNT, Value::Varint(n)) => span.dropped_attributes_count = n as u32,
                (field::DROPPED_EVENTS_COUNT, Value::Varint(n)) => span.dropped_events_count = n as u32,
                (field::DROPPED_LINKS_COUNT, Value::Varint(n)) => span.dropped_links_count = n as u32,
                (field::FLAGS, Value::Fixed32(flags)) => span.flags = flags,
                (field::STATUS, Value::Bytes(message)) => {
                    for part in Fields::new(message) {
                        match (part.number, part.value) {
                            (status::MESSAGE, Value::Bytes(text)) => span.status_message = text,
                            (status::CODE, Value::Varint(code)) => span.status_code = code as i32,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        span
    }
}

#[derive(Default)]
pub struct SpanEvent<'a> {
    pub time: u64,
    pub name: &'a [u8],
    pub attributes: Repeated<'a>,
    pub dropped_attributes_count: u32,
}

impl<'a> SpanEvent<'a> {
    pub fn read(message: &'a [u8]) -> Self {
        let mut found = SpanEvent { attributes: Repeated::of(message, event::ATTRIBUTES), ..SpanEvent::default() };
        for field in Fields::new(message) {
            match (field.number, field.value) {
                (event::TIME, Value::Fixed64(time)) => found.time = time,
                (event::NAME, Value::Bytes(name)) => found.name = name,
                (event::DROPPED_ATTRIBUTES_COUNT, Value::Varint(n)) => found.dropped_attributes_count = n as u32,
                _ => {}
            }
        }
        found
    }
}

#[derive(Default)]
pub struct SpanLink<'a> {
    pub trace_id: &'a [u8],
    pub span_id: &'a [u8],
    pub trace_state: &'a [u8],
    pub attributes: Repeated<'a>,
    pub dropped_attributes_count: u32,
}

impl<'a> SpanLink<'a> {
    pub fn read(message: &'a [u8]) -> Self {
        let mut found = SpanLink { attributes: Repeated::of(message, link::ATTRIBUTES), ..SpanLink::default() };
        for field in Fields::new(message) {
            match (field.number, field.value) {
                (link::TRACE_ID, Value::Bytes(id)) => found.trace_id = id,
                (link::SPAN_ID, Value::Bytes(id)) => found.span_id = id,
                (link::TRACE_STATE, Value::Bytes(state)) => found.trace_state = state,
                (link::DROPPED_ATTRIBUTES_COUNT, Value::Varint(n)) => found.dropped_attributes_count = n as u32,
                _ => {}
            }
        }
        found
    }
}

/// The last occurrence of a string or bytes field; empty when absent.
pub fn last(message: &[u8], number: u32) -> &[u8] {
    Repeated::of(message, number).last().unwrap_or_default()
}

/// Merges one more occurrence of a singular message into what was found so far.
fn join<'a>(found: &mut Cow<'a, [u8]>, bytes: &'a [u8]) {
    if found.is_empty() {
        *found = Cow::Borrowed(bytes);
    } else if !bytes.is_empty() {
        found.to_mut().extend_from_slice(bytes);
    }
}

/// A repeated scalar field in its packed form, however it was written: varints, or 8 bytes each.
pub fn packed(message: &[u8], number: u32) -> Cow<'_, [u8]> {
    let mut found = Cow::Borrowed(&[][..]);
    for field in Fields::new(message).filter(|field| field.number == number) {
        match field.value {
            Value::Bytes(bytes) => join(&mut found, bytes),
            Value::Varint(value) => wire::put_varint(found.to_mut(), value),
            Value::Fixed64(value) => found.to_mut().extend_from_slice(&value.to_le_bytes()),
            Value::Fixed32(_) | Value::Group(_) => {}
        }
    }
    found
}
