//! The protobuf cursor: `Fields` reads a message field by field, the `put_*` functions write one.
//!
//! The input is checked. On malformed bytes the iteration ends: it never panics and never reads out of bounds. Source
//! of the rules: the protobuf encoding guide (varint, wire types, "last one wins", merging of messages).

use std::borrow::Cow;

/// The value of one field on the wire.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    /// Wire type 2: a string, bytes, a message or a packed list.
    Bytes(&'a [u8]),
    /// Wire type 3: the bytes between the start and the end tag. OTLP uses none; they are carried as unknown fields.
    Group(&'a [u8]),
    Fixed32(u32),
}

/// One field: its number, its value, and its raw bytes (tag and length included).
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    pub number: u32,
    pub value: Value<'a>,
    pub raw: &'a [u8],
}

/// A cursor over the fields of one message.
#[derive(Clone)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub fn new(message: &'a [u8]) -> Self {
        Fields { rest: message }
    }

    /// Bytes still to be read.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    #[inline(always)]
    fn next(&mut self) -> Option<Field<'a>> {
        let start = self.rest;
        // A short string or message in one of the first fields: the case almost always.
        if let [tag @ 0x08..0x80, length @ ..0x80, ..] = *start
            && tag & 7 == 2
        {
            // This check covers both slices.
            let (raw, rest) = start.split_at_checked(2 + usize::from(length))?;
            self.rest = rest;
            let bytes = raw.get(2..).unwrap_or_default();
            return Some(Field { number: u32::from(tag >> 3), value: Value::Bytes(bytes), raw });
        }
        let (tag, rest) = varint(start)?;
        let number = u32::try_from(tag >> 3).ok().filter(|number| *number != 0)?;
        let (value, rest) = match tag & 7 {
            0 => {
                let (value, rest) = varint(rest)?;
                (Value::Varint(value), rest)
            }
            1 => {
                let (bytes, rest) = rest.split_first_chunk::<8>()?;
                (Value::Fixed64(u64::from_le_bytes(*bytes)), rest)
            }
            2 => {
                let (length, rest) = varint(rest)?;
                let (bytes, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
                (Value::Bytes(bytes), rest)
            }
            3 => group(rest, number)?,
            5 => {
                let (bytes, rest) = rest.split_first_chunk::<4>()?;
                (Value::Fixed32(u32::from_le_bytes(*bytes)), rest)
            }
            _ => return None,
        };
        self.rest = rest;
        let raw = start.get(..start.len() - rest.len()).unwrap_or_default();
        Some(Field { number, value, raw })
    }
}

/// Maximum nesting of unknown groups; OTLP has no use for them.
const GROUP_DEPTH: usize = 16;

/// Reads an unknown group up to its end tag, without recursion.
#[cold]
#[inline(never)]
fn group(start: &[u8], number: u32) -> Option<(Value<'_>, &[u8])> {
    let mut open = [0u32; GROUP_DEPTH];
    *open.first_mut()? = number;
    let mut depth = 1;
    let mut rest = start;
    loop {
        let before = rest;
        let (tag, after) = varint(rest)?;
        let number = u32::try_from(tag >> 3).ok().filter(|number| *number != 0)?;
        rest = match tag & 7 {
            0 => varint(after)?.1,
            1 => after.get(8..)?,
            2 => {
                let (length, after) = varint(after)?;
                after.get(usize::try_from(length).ok()?..)?
            }
            3 => {
                *open.get_mut(depth)? = number;
                depth += 1;
                after
            }
            4 => {
                depth -= 1;
                if *open.get(depth)? != number {
                    return None;
                }
                if depth == 0 {
                    let inside = start.get(..start.len() - before.len())?;
                    return Some((Value::Group(inside), after));
                }
                after
            }
            5 => after.get(4..)?,
            _ => return None,
        };
    }
}

/// Reads a varint: its value and the rest. `None` if it is truncated, longer than ten bytes or over 64 bits.
#[inline(always)]
pub(super) fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    match *bytes {
        [a, ref rest @ ..] if a < 0x80 => Some((u64::from(a), rest)),
        [a, b, ref rest @ ..] if b < 0x80 => Some((u64::from(a & 0x7f) | u64::from(b) << 7, rest)),
        _ => long_varint(bytes),
    }
}

#[cold]
#[inline(never)]
fn long_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        let bits = u64::from(byte & 0x7f);
        if index == 9 && bits > 1 {
            return None;
        }
        value |= bits << (7 * index);
        if *byte < 0x80 {
            return Some((value, bytes.get(index + 1..)?));
        }
    }
    None
}

/// Varints one behind another.
pub(super) fn varints(mut bytes: &[u8]) -> impl Iterator<Item = u64> {
    std::iter::from_fn(move || {
        let (value, after) = varint(bytes)?;
        bytes = after;
        Some(value)
    })
}

/// The varint of a signed number in zigzag encoding.
#[inline]
pub(crate) fn zigzag(value: i32) -> u64 {
    u64::from((value << 1 ^ value >> 31) as u32)
}

#[inline]
pub(crate) fn unzigzag(bits: u64) -> i32 {
    (bits as u32 >> 1) as i32 ^ -((bits & 1) as i32)
}

/// The length of a varint in bytes.
#[inline]
pub(crate) fn varint_len(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

/// The length of a length-delimited field with a payload of `length` bytes.
#[inline]
pub(crate) fn field_len(number: u32, length: usize) -> usize {
    varint_len(u64::from(number) << 3) + varint_len(length as u64) + length
}

#[inline]
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Writes the tag and the length of a length-delimited field; the caller writes `length` bytes after it.
#[inline(always)]
pub fn put_header(out: &mut Vec<u8>, number: u32, length: usize) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, length as u64);
}

/// Writes the length of everything after the bytes `reserved` for it at `at`.
#[inline(always)]
pub(crate) fn patch_length(out: &mut Vec<u8>, at: usize, reserved: usize) {
    let length = out.len() - at - reserved;
    match out.get_mut(at) {
        Some(byte) if reserved == 1 && length < 0x80 => *byte = length as u8,
        _ => move_and_patch(out, at, reserved, length),
    }
}

fn move_and_patch(out: &mut Vec<u8>, at: usize, reserved: usize, length: usize) {
    let needed = varint_len(length as u64);
    let content = at + reserved..at + reserved + length;
    if needed > reserved {
        out.resize(at + needed + length, 0);
    }
    if needed != reserved {
        out.copy_within(content, at + needed);
        out.truncate(at + needed + length);
    }
    for (index, byte) in out.iter_mut().skip(at).take(needed).enumerate() {
        let more = if index + 1 < needed { 0x80 } else { 0 };
        *byte = (length >> (7 * index)) as u8 & 0x7f | more;
    }
}

#[inline]
pub fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_header(out, number, bytes.len());
    out.extend_from_slice(bytes);
}

#[inline]
pub fn put_uint(out: &mut Vec<u8>, number: u32, value: u64) {
    put_varint(out, u64::from(number) << 3);
    put_varint(out, value);
}

#[inline]
pub fn put_fixed64(out: &mut Vec<u8>, number: u32, value: u64) {
    put_varint(out, u64::from(number) << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

#[inline]
pub(crate) fn put_fixed32(out: &mut Vec<u8>, number: u32, value: u32) {
    put_varint(out, u64::from(number) << 3 | 5);
    out.extend_from_slice(&value.to_le_bytes());
}

/// A singular message field: given once it is a slice of `message`; given more often the encodings are concatenated,
/// which is how protobuf merges them. Absent means empty.
pub(crate) fn merged<'a>(message: &'a [u8], number: u32) -> Cow<'a, [u8]> {
    let mut found: Cow<'a, [u8]> = Cow::Borrowed(&[]);
    for field in Fields::new(message) {
        if field.number == number
            && let Value::Bytes(bytes) = field.value
        {
            if found.is_empty() {
                found = Cow::Borrowed(bytes);
            } else {
                found.to_mut().extend_from_slice(bytes);
            }
        }
    }
    found
}
