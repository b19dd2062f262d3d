//! The check on arrival: one walk over a request that decides whether it is well-formed and counts its items.
//!
//! Checked here and never again: tags, lengths and varints at every depth, known fields with their wire type, ids of 0
//! or 8/16 bytes, at most [`VALUE_DEPTH`] levels of `AnyValue`. UTF-8 is not checked: invalid text is carried
//! unchanged.
//!
//! It is the hottest code of all, so a field costs one look-up: a table per message maps the tag byte directly to the
//! expected field, and the most common shape, an attribute with a short value, is recognized as a whole.

use super::Signal;
use super::schema::place::{
    ANY_VALUE, EXPONENTIAL_POINT, HISTOGRAM_POINT, KEY_VALUE, LOG_RECORD, METRIC, NUMBER_POINT, SPAN, SUMMARY_POINT,
};
use super::schema::{COUNT, Kind, MESSAGES, any_value, key_value, root};
use super::wire::{varint, varint_len};

/// Maximum nesting of `AnyValue`s; it also bounds the stack.
const VALUE_DEPTH: u32 = 64;

/// Why a request is not OTLP: the message and field where the walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed protobuf: {fault} in {}, field {field}", MESSAGES.get(*message as usize).map_or("?", |message| message.name))]
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
pub fn check(signal: Signal, bytes: &[u8]) -> Result<u32, Malformed> {
    let mut walk = Walk { items: 0 };
    walk.message(root(signal).place as u8, bytes, 0)?;
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
                // A span's flags are the only known field with a two-byte tag, and every SDK sends them.
                LONG_FIXED32 if after.first() == Some(&1) => after.get(5..).ok_or(cut_off)?,
                LONG_FIXED32 | UNKNOWN => self.rare(message, rest)?,
                kind => {
                    let (payload, after) = delimited(after).ok_or(cut_off)?;
                    if kind == KEY_VALUE {
                        if !short_attribute(payload) {
                            self.message(KEY_VALUE, payload, depth)?;
                        }
                    } else if kind == ANY_VALUE && depth < VALUE_DEPTH && short_value(payload) {
                        // The body of most log records: nothing more to check.
                    } else if kind != BYTES {
                        // The field's item count would be ambiguous; no SDK sends it.
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

    /// A length-delimited field whose payload has structure.
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

    /// Handles everything not in the table: unknown fields, tags of several bytes, unpacked list elements, and errors.
    #[cold]
    fn rare<'a>(&mut self, message: u8, bytes: &'a [u8]) -> Result<&'a [u8], Malformed> {
        let fail = |field, fault| Malformed { message, field, fault };
        let (tag, after) = varint(bytes).ok_or(fail(0, Fault::Tag))?;
        let field = u32::try_from(tag >> 3).ok().filter(|field| (1..1 << 29).contains(field));
        let field = field.ok_or(fail(0, Fault::Tag))?;
        // No encoder pads a tag. If accepted, a known field would be missed by the table and not checked.
        if bytes.len() - after.len() != varint_len(tag) {
            return Err(fail(field, Fault::Tag));
        }
        let known = MESSAGES.get(message as usize).and_then(|message| message.kind(field));
        // A list of numbers may be packed or not.
        let one_by_one = |kind| matches!(kind, Kind::Packed(element) if element.wire_type() == tag & 7);
        if known.is_some_and(|kind| kind.wire_type() != tag & 7 && !one_by_one(kind)) {
            return Err(fail(field, Fault::WireType));
        }
        let rest = match tag & 7 {
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
    let Some((&[KEY, key_length], rest)) = pair.split_first_chunk::<2>() else {
        return false;
    };
    if key_length >= 0x80 {
        return false;
    }
    match rest.get(key_length as usize..) {
        Some([VALUE, length, value @ ..]) => *length < 0x80 && *length as usize == value.len() && short_value(value),
        _ => false,
    }
}

/// Whether an `AnyValue` is one short string, bool, int or double and nothing else.
#[inline(always)]
fn short_value(value: &[u8]) -> bool {
    match value {
        [STRING, length, text @ ..] => *length < 0x80 && *length as usize == text.len(),
        [BOOL, flag] => *flag < 0x80,
        [INT, number @ ..] => varint(number).is_some_and(|(_, rest)| rest.is_empty()),
        [DOUBLE, double @ ..] => double.len() == 8,
        _ => false,
    }
}

// The tags of attributes recognized as a whole.
const KEY: u8 = (key_value::KEY << 3 | 2) as u8;
const VALUE: u8 = (key_value::VALUE << 3 | 2) as u8;
const STRING: u8 = (any_value::STRING << 3 | 2) as u8;
const BOOL: u8 = (any_value::BOOL << 3) as u8;
const INT: u8 = (any_value::INT << 3) as u8;
const DOUBLE: u8 = (any_value::DOUBLE << 3 | 1) as u8;

// The expected wire type of a field. Smaller values are messages, by their place in the schema.
const UNKNOWN: u8 = 0xff;
const VARINT: u8 = 0xfe;
const FIXED64: u8 = 0xfd;
const FIXED32: u8 = 0xfc;
const BYTES: u8 = 0xfb;
const ID16: u8 = 0xfa;
const ID8: u8 = 0xf9;
const PACKED_FIXED64: u8 = 0xf8;
const PACKED_VARINT: u8 = 0xf7;
/// The first byte of the tag of field 16, fixed32.
const LONG_FIXED32: u8 = 0xf6;

const fn expected(kind: Kind) -> u8 {
    match (kind, kind.wire_type()) {
        (Kind::One(message) | Kind::Many(message), _) => message.place as u8,
        (Kind::Id(16), _) => ID16,
        (Kind::Id(_), _) => ID8,
        (Kind::Packed(element), _) if element.wire_type() == 0 => PACKED_VARINT,
        (Kind::Packed(_), _) => PACKED_FIXED64,
        (_, 0) => VARINT,
        (_, 1) => FIXED64,
        (_, 5) => FIXED32,
        _ => BYTES,
    }
}

/// For every message, the expectation for each one-byte tag.
#[expect(clippy::indexing_slicing, reason = "filled while compiling")]
static TABLE: [[u8; 256]; COUNT] = {
    let mut table = [[UNKNOWN; 256]; COUNT];
    let mut place = 0;
    while place < COUNT {
        let mut number = 1;
        while number <= 16 {
            match MESSAGES[place].kind(number) {
                Some(Kind::Fixed32) if number == 16 => table[place][0x80 | 5] = LONG_FIXED32,
                Some(kind) if number < 16 => {
                    table[place][(number << 3) as usize | kind.wire_type() as usize] = expected(kind);
                }
                _ => {}
            }
            number += 1;
        }
        place += 1;
    }
    table
};
