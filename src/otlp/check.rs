//! The door: one walk over a request that says whether it is well formed and how many items it holds.
//!
//! Checked here and never again: tags, lengths and varints at every depth, known fields with their wire type, ids of 0
//! or 8/16 bytes, at most [`VALUE_DEPTH`] levels of `AnyValue`. UTF-8 is not: invalid text is carried untouched.
//!
//! It is the hottest code there is, so a field costs one look-up: a table per message maps the tag byte straight to what
//! the field must be, and the commonest shape of all, an attribute with a short value, is recognised whole.

use super::Signal;
use super::wire::{varint, varint_len};

/// How many `AnyValue`s may stand in one another; it also bounds the stack.
pub const VALUE_DEPTH: u32 = 64;

/// Why a request is not OTLP: the message and field where the walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed protobuf: {fault} in {}, field {field}", MESSAGES.get(*message as usize).map_or("?", |row| row.0))]
pub struct Malformed {
    message: u8,
    field: u32,
    fault: Fault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Fault {
    #[error("a varint, length or fixed value that is cut off or too long")]
    CutOff,
    #[error("a tag that is no tag")]
    Tag,
    #[error("the wrong wire type for a known field")]
    WireType,
    #[error("an id of the wrong length")]
    IdLength,
    #[error("a packed list that ends within a value")]
    Packed,
    #[error("more than 64 nested values")]
    Depth,
    #[error("a metric with data twice, or of two kinds")]
    Kinds,
}

/// Walks an `Export…ServiceRequest` and counts its items: log records, spans, or data points.
pub fn check(signal: Signal, request: &[u8]) -> Result<u32, Malformed> {
    let root = match signal {
        Signal::Logs => LOGS_REQUEST,
        Signal::Metrics => METRICS_REQUEST,
        Signal::Traces => TRACES_REQUEST,
    };
    let mut walk = Walk { items: 0 };
    walk.message(root, request, 0)?;
    Ok(walk.items)
}

struct Walk {
    items: u32,
}

impl Walk {
    fn message(&mut self, message: u8, bytes: &[u8], depth: u32) -> Result<(), Malformed> {
        let Some(row) = TABLE.get(message as usize) else {
            return Ok(());
        };
        let mut rest = bytes;
        let mut data = 0;
        while let Some((&tag, after)) = rest.split_first() {
            let field = u32::from(tag >> 3);
            let cut_off = Malformed { message, field, fault: Fault::CutOff };
            #[expect(clippy::indexing_slicing, reason = "a row has all 256 values of a byte")]
            let kind = row[tag as usize];
            rest = match kind {
                VARINT => varint(after).ok_or(cut_off)?.1,
                FIXED64 => after.get(8..).ok_or(cut_off)?,
                FIXED32 => after.get(4..).ok_or(cut_off)?,
                // The flags of a span have the one known number of two bytes, and every SDK sends them.
                LONG_FIXED32 if after.first() == Some(&1) => after.get(5..).ok_or(cut_off)?,
                LONG_FIXED32 | UNKNOWN => self.rare(message, rest)?,
                kind => {
                    let (payload, after) = delimited(after).ok_or(cut_off)?;
                    if kind == KEY_VALUE {
                        if !short_attribute(payload) {
                            self.message(KEY_VALUE, payload, depth)?;
                        }
                    } else if kind == ANY_VALUE && depth < VALUE_DEPTH && short_value(payload) {
                        // The body of most log records: nothing more to look at.
                    } else if kind != BYTES {
                        // Its counts would depend on who reads it; nobody sends it.
                        if message == METRIC && data != 0 {
                            return Err(Malformed { message, field, fault: Fault::Kinds });
                        }
                        data = kind;
                        self.payload(message, field, kind, payload, depth)?;
                    }
                    after
                }
            };
        }
        Ok(())
    }

    /// A length-delimited field that is more than opaque bytes.
    #[inline]
    fn payload(&mut self, message: u8, field: u32, kind: u8, payload: &[u8], depth: u32) -> Result<(), Malformed> {
        let fail = |fault| Err(Malformed { message, field, fault });
        match kind {
            ID16 | ID8 => {
                let length = if kind == ID16 { 16 } else { 8 };
                if payload.is_empty() || payload.len() == length { Ok(()) } else { fail(Fault::IdLength) }
            }
            PACKED_FIXED64 if payload.len().is_multiple_of(8) => Ok(()),
            PACKED_FIXED64 => fail(Fault::Packed),
            PACKED_VARINT => {
                let mut rest = payload;
                while !rest.is_empty() {
                    rest = varint(rest).ok_or(Malformed { message, field, fault: Fault::Packed })?.1;
                }
                Ok(())
            }
            ANY_VALUE if depth == VALUE_DEPTH => fail(Fault::Depth),
            ANY_VALUE => self.message(ANY_VALUE, payload, depth + 1),
            inner => {
                self.items += u32::from(matches!(
                    inner,
                    LOG_RECORD | SPAN | NUMBER_POINT | HISTOGRAM_POINT | EXPONENTIAL_POINT | SUMMARY_POINT
                ));
                self.message(inner, payload, depth)
            }
        }
    }

    /// What the table does not know: an unknown field, a tag of several bytes, an unpacked list element, or an error.
    #[cold]
    fn rare<'a>(&mut self, message: u8, bytes: &'a [u8]) -> Result<&'a [u8], Malformed> {
        let fail = |field, fault| Malformed { message, field, fault };
        let (tag, after) = varint(bytes).ok_or(fail(0, Fault::Tag))?;
        let field = u32::try_from(tag >> 3).ok().filter(|field| (1..1 << 29).contains(field));
        let field = field.ok_or(fail(0, Fault::Tag))?;
        // No encoder pads a tag. Taken, it would be a known field that the table does not know, and so not walked into.
        if bytes.len() - after.len() != varint_len(tag) {
            return Err(fail(field, Fault::Tag));
        }
        let wire = (tag & 7) as u8;
        let known = MESSAGES.get(message as usize).and_then(|row| row.1.iter().find(|known| known.0 == field));
        if let Some((_, kind)) = known {
            // A list of numbers may come packed or one by one; the table holds the packed form.
            let unpacked = matches!((*kind, wire), (PACKED_FIXED64, 1) | (PACKED_VARINT, 0));
            if wire != wire_type(*kind) && !unpacked {
                return Err(fail(field, Fault::WireType));
            }
        }
        let rest = match wire {
            0 => varint(after).map(|(_, rest)| rest),
            1 => after.get(8..),
            2 => delimited(after).map(|(_, rest)| rest),
            3 => super::wire::Fields::new(bytes).next().and_then(|group| bytes.get(group.raw.len()..)),
            5 => after.get(4..),
            _ => return Err(fail(field, Fault::Tag)),
        };
        rest.ok_or(fail(field, Fault::CutOff))
    }
}

#[inline(always)]
fn delimited(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = varint(bytes)?;
    rest.split_at_checked(usize::try_from(length).ok()?)
}

/// Whether a `KeyValue` is a short key followed by one short string, bool, int or double and nothing else.
#[inline(always)]
fn short_attribute(pair: &[u8]) -> bool {
    let Some((&[0x0a, key_length], rest)) = pair.split_first_chunk::<2>() else {
        return false;
    };
    if key_length >= 0x80 {
        return false;
    }
    match rest.get(key_length as usize..) {
        Some([0x12, length, value @ ..]) => *length < 0x80 && *length as usize == value.len() && short_value(value),
        _ => false,
    }
}

/// Whether an `AnyValue` is one short string, bool, int or double and nothing else.
#[inline(always)]
fn short_value(value: &[u8]) -> bool {
    match value {
        [0x0a, length, text @ ..] => *length < 0x80 && *length as usize == text.len(),
        [0x10, flag] => *flag < 0x80,
        [0x18, number @ ..] => varint(number).is_some_and(|(_, rest)| rest.is_empty()),
        [0x21, double @ ..] => double.len() == 8,
        _ => false,
    }
}

// What a field must be. Values from `FIRST_MESSAGE` on are the messages themselves, indexes into `MESSAGES`.
const UNKNOWN: u8 = 0xff;
const VARINT: u8 = 0xfe;
const FIXED64: u8 = 0xfd;
const FIXED32: u8 = 0xfc;
const BYTES: u8 = 0xfb;
const ID16: u8 = 0xfa;
const ID8: u8 = 0xf9;
const PACKED_FIXED64: u8 = 0xf8;
const PACKED_VARINT: u8 = 0xf7;
/// Only in the table, never in a field list: the first byte of the tag of field 16, fixed32.
const LONG_FIXED32: u8 = 0xf6;

const fn wire_type(kind: u8) -> u8 {
    match kind {
        VARINT => 0,
        FIXED64 => 1,
        FIXED32 => 5,
        _ => 2,
    }
}

macro_rules! messages {
    ($($name:ident { $($number:literal: $kind:expr),* $(,)? })*) => {
        messages!(@index 0u8; $($name)*);
        /// Name and fields of every message that is walked into.
        static MESSAGES: &[(&str, &[(u32, u8)])] = &[$((stringify!($name), &[$(($number, $kind)),*])),*];
        const COUNT: usize = [$(stringify!($name)),*].len();
        const FIELDS: [&[(u32, u8)]; COUNT] = [$(&[$(($number, $kind)),*]),*];
    };
    (@index $index:expr; $name:ident $($rest:ident)*) => {
        const $name: u8 = $index;
        messages!(@index $index + 1; $($rest)*);
    };
    (@index $index:expr;) => {};
}

messages! {
    LOGS_REQUEST { 1: RESOURCE_LOGS }
    RESOURCE_LOGS { 1: RESOURCE, 2: SCOPE_LOGS, 3: BYTES }
    SCOPE_LOGS { 1: SCOPE, 2: LOG_RECORD, 3: BYTES }
    LOG_RECORD {
        1: FIXED64, 2: VARINT, 3: BYTES, 5: ANY_VALUE, 6: KEY_VALUE, 7: VARINT, 8: FIXED32, 9: ID16, 10: ID8,
        11: FIXED64, 12: BYTES
    }
    TRACES_REQUEST { 1: RESOURCE_SPANS }
    RESOURCE_SPANS { 1: RESOURCE, 2: SCOPE_SPANS, 3: BYTES }
    SCOPE_SPANS { 1: SCOPE, 2: SPAN, 3: BYTES }
    SPAN {
        1: ID16, 2: ID8, 3: BYTES, 4: ID8, 5: BYTES, 6: VARINT, 7: FIXED64, 8: FIXED64, 9: KEY_VALUE, 10: VARINT,
        11: EVENT, 12: VARINT, 13: LINK, 14: VARINT, 15: STATUS, 16: FIXED32
    }
    EVENT { 1: FIXED64, 2: BYTES, 3: KEY_VALUE, 4: VARINT }
    LINK { 1: ID16, 2: ID8, 3: BYTES, 4: KEY_VALUE, 5: VARINT, 6: FIXED32 }
    STATUS { 2: BYTES, 3: VARINT }
    METRICS_REQUEST { 1: RESOURCE_METRICS }
    RESOURCE_METRICS { 1: RESOURCE, 2: SCOPE_METRICS, 3: BYTES }
    SCOPE_METRICS { 1: SCOPE, 2: METRIC, 3: BYTES }
    METRIC {
        1: BYTES, 2: BYTES, 3: BYTES, 5: GAUGE, 7: SUM, 9: HISTOGRAM, 10: EXPONENTIAL_HISTOGRAM, 11: SUMMARY,
        12: KEY_VALUE
    }
    GAUGE { 1: NUMBER_POINT }
    SUM { 1: NUMBER_POINT, 2: VARINT, 3: VARINT }
    HISTOGRAM { 1: HISTOGRAM_POINT, 2: VARINT }
    EXPONENTIAL_HISTOGRAM { 1: EXPONENTIAL_POINT, 2: VARINT }
    SUMMARY { 1: SUMMARY_POINT }
    NUMBER_POINT {
        2: FIXED64, 3: FIXED64, 4: FIXED64, 5: EXEMPLAR, 6: FIXED64, 7: KEY_VALUE, 8: VARINT
    }
    HISTOGRAM_POINT {
        2: FIXED64, 3: FIXED64, 4: FIXED64, 5: FIXED64, 6: PACKED_FIXED64, 7: PACKED_FIXED64, 8: EXEMPLAR,
        9: KEY_VALUE, 10: VARINT, 11: FIXED64, 12: FIXED64
    }
    EXPONENTIAL_POINT {
        1: KEY_VALUE, 2: FIXED64, 3: FIXED64, 4: FIXED64, 5: FIXED64, 6: VARINT, 7: FIXED64, 8: BUCKETS, 9: BUCKETS,
        10: VARINT, 11: EXEMPLAR, 12: FIXED64, 13: FIXED64, 14: FIXED64
    }
    BUCKETS { 1: VARINT, 2: PACKED_VARINT }
    SUMMARY_POINT {
        2: FIXED64, 3: FIXED64, 4: FIXED64, 5: FIXED64, 6: QUANTILE, 7: KEY_VALUE, 8: VARINT
    }
    QUANTILE { 1: FIXED64, 2: FIXED64 }
    EXEMPLAR { 2: FIXED64, 3: FIXED64, 4: ID8, 5: ID16, 6: FIXED64, 7: KEY_VALUE }
    RESOURCE { 1: KEY_VALUE, 2: VARINT, 3: ENTITY_REF }
    ENTITY_REF { 1: BYTES, 2: BYTES, 3: BYTES, 4: BYTES }
    SCOPE { 1: BYTES, 2: BYTES, 3: KEY_VALUE, 4: VARINT }
    KEY_VALUE { 1: BYTES, 2: ANY_VALUE, 3: VARINT }
    ANY_VALUE { 1: BYTES, 2: VARINT, 3: VARINT, 4: FIXED64, 5: ARRAY_VALUE, 6: KEY_VALUE_LIST, 7: BYTES, 8: VARINT }
    ARRAY_VALUE { 1: ANY_VALUE }
    KEY_VALUE_LIST { 1: KEY_VALUE }
}

/// For every message, what stands behind each one-byte tag.
#[expect(clippy::indexing_slicing, reason = "filled while compiling")]
static TABLE: [[u8; 256]; COUNT] = {
    let mut table = [[UNKNOWN; 256]; COUNT];
    let mut message = 0;
    while message < COUNT {
        let mut index = 0;
        while index < FIELDS[message].len() {
            let (number, kind) = FIELDS[message][index];
            if number < 16 {
                table[message][(number << 3) as usize | wire_type(kind) as usize] = kind;
            } else if number == 16 && kind == FIXED32 {
                table[message][0x80 | 5] = LONG_FIXED32;
            }
            index += 1;
        }
        message += 1;
    }
    table
};
