//! OTLP/JSON → wire: one walk over the text, driven by the table in `schema`, that writes protobuf as it reads.
//!
//! Open messages are kept in a list, so deep nesting costs no stack. A message's length is known only at its end: a
//! guessed number of bytes is left free for it, and the content is moved if the guess was wrong.

use super::number::{double, whole};
use super::scanner::{COMMA_OR_BRACE, COMMA_OR_BRACKET, Fault, Quoted, Read, Scanner, Usual, unescape};
use crate::otlp::schema::{
    ANY_VALUE, COUNT, FIELDS, Field, KEY_VALUE, Kind, Message, Names, Presence, any_value, key_value,
};
use crate::otlp::wire::{patch_length, put_varint, varint_len, zigzag};
use crate::otlp::{base64, hex};
use std::mem::replace;

/// Maximum nesting of AnyValues, the same as for protobuf requests.
const VALUE_LEVELS: usize = 64;

/// How much may be written between two checks for room: a usual attribute, or the lengths of all open messages, which
/// may be longer than guessed.
const SLACK: usize = 1 << 10;

/// Asks whether `n` more bytes may be used.
pub(super) type Room<'a> = &'a mut dyn FnMut(usize) -> bool;

/// Size of the buffer for a usual attribute: less than 128 bytes after a two-byte head, copied in whole pieces.
const USUAL: usize = 128 + 2 + PIECE;
/// Strings are copied in pieces of this size: most of them are too short to be worth a call.
pub(super) const PIECE: usize = 16;

/// `room` is asked before the output grows. Most texts are twice as long as their wire form.
pub(super) fn read(root: &'static Message, text: &[u8], room: Room) -> Read<Vec<u8>> {
    let mut reader = Reader {
        text: Scanner::new(text),
        out: Vec::new(),
        room,
        opens: Vec::with_capacity(16),
        next: [IN_ORDER; COUNT],
        value_levels: 0,
    };
    reader.grow(text.len() / 2)?;
    reader.text.expect(b'{', "an object is needed")?;
    reader.opens.push(Open::new(root, None, 0));
    while reader.step()? {}
    match reader.text.at_end() {
        true => Ok(reader.out),
        false => Err(reader.text.unexpected("nothing may follow the request")),
    }
}

struct Reader<'a> {
    text: Scanner<'a>,
    /// Its capacity is granted by `room`.
    out: Vec<u8>,
    room: Room<'a>,
    /// The open messages, the outermost first.
    opens: Vec<Open>,
    /// For each field of each message, the field that followed it last time; initially the next one in the table.
    next: [Order; COUNT],
    /// The number of open AnyValues.
    value_levels: usize,
}

/// The first field, and the successor of each field: a sender usually keeps one order.
type Order = [u8; FIELDS + 1];

#[expect(clippy::indexing_slicing, reason = "runs while compiling")]
const IN_ORDER: Order = {
    let mut order = [0; FIELDS + 1];
    let mut index = 0;
    while index < order.len() {
        order[index] = index as u8;
        index += 1;
    }
    order
};

struct Open {
    message: &'static Message,
    /// The list that contains it.
    list: Option<List>,
    /// The position reserved for its length.
    length_at: usize,
    /// The index of the last field plus one; 0 at first.
    last: usize,
    /// A bit for each field seen.
    given: u32,
    first: bool,
}

/// A list of messages: its field, and its element type.
type List = (&'static Field, &'static Message);

impl Open {
    #[inline(always)]
    fn new(message: &'static Message, list: Option<List>, length_at: usize) -> Self {
        Open { message, list, length_at, last: 0, given: 0, first: true }
    }
}

impl Reader<'_> {
    /// Reads one member of the innermost open message, up to the start of a nested message; or the message's end, up to
    /// the start of the next list element. False after the end of the outermost message.
    #[inline(always)]
    fn step(&mut self) -> Read<bool> {
        let Some(open) = self.opens.last_mut() else {
            return Ok(false);
        };
        match self.text.peek() {
            b'}' => {
                self.text.at += 1;
                return self.end();
            }
            b',' if !open.first => {
                self.text.at += 1;
                self.text.peek();
            }
            _ if open.first => open.first = false,
            _ => return Err(self.text.unexpected(COMMA_OR_BRACE)),
        }
        let mut none = 0;
        let next =
            self.next.get_mut(open.message.place).and_then(|order| order.get_mut(open.last)).unwrap_or(&mut none);
        let Some((index, field)) = self.text.field(open.message.fields, usize::from(*next))? else {
            self.text.peek();
            return self.text.skip().map(|()| true);
        };
        *next = index as u8;
        let bit = 1u32 << (index & 31);
        let again = open.given & bit != 0;
        open.given |= bit;
        open.last = index + 1;
        self.text.peek();
        let at = self.text.at;
        match self.value(field, again) {
            Ok(()) => Ok(true),
            Err(fault) if fault.at == at => Err(Box::new(Fault { field: field.name, ..*fault })),
            Err(fault) => Err(fault),
        }
    }

    #[inline(always)]
    fn end(&mut self) -> Read<bool> {
        let Some(ended) = self.opens.pop() else { return Ok(false) };
        if self.opens.is_empty() {
            return Ok(false);
        }
        self.close(&ended);
        if let Some(list) = ended.list {
            self.element(list, false)?;
        }
        Ok(true)
    }

    /// Reads the value of `field`, up to the start of a nested message.
    #[inline(always)]
    fn value(&mut self, field: &'static Field, again: bool) -> Read<()> {
        if self.text.rest().first() == Some(&b'n') && self.text.word("null") {
            return Ok(());
        }
        match field.kind {
            Kind::One(message) => {
                self.begin(field, message, None)?;
                self.text.expect(b'{', "an object is needed")
            }
            Kind::Many(message) => {
                self.text.expect(b'[', "a list is needed")?;
                self.element((field, message), true)
            }
            Kind::Texts | Kind::Packed(_) => self.list(field),
            kind => {
                let before = self.out.len();
                let is_zero = self.scalar(field.tag, kind)?;
                // A zero is kept only if it differs from absent, or overrides an earlier value.
                if is_zero && !again && field.presence == Presence::Implicit {
                    self.out.truncate(before);
                }
                Ok(())
            }
        }
    }

    #[inline(always)]
    fn begin(&mut self, field: &Field, message: &'static Message, list: Option<List>) -> Read<()> {
        if is_any_value(message) {
            if self.value_levels == VALUE_LEVELS {
                return Err(self.text.unexpected("values nest at most 64 levels"));
            }
            self.value_levels += 1;
        }
        self.make_room(0)?;
        let length_at = self.reserve(field.tag, message.length_bytes);
        self.opens.push(Open::new(message, list, length_at));
        Ok(())
    }

    #[inline(always)]
    fn close(&mut self, ended: &Open) {
        self.value_levels -= usize::from(is_any_value(ended.message));
        patch_length(&mut self.out, ended.length_at, ended.message.length_bytes);
    }

    /// Begins the next message of a list, if there is one. A `null` is an empty message, as in the Go collector.
    #[inline(always)]
    fn element(&mut self, (field, message): List, mut first: bool) -> Read<()> {
        while self.goes_on(first)? {
            self.make_room(0)?;
            if std::ptr::eq(message, &KEY_VALUE) && self.usual_attribute(field.tag) {
                first = false;
                continue;
            }
            self.begin(field, message, Some((field, message)))?;
            if self.text.peek() == b'{' || !self.text.word("null") {
                return self.text.expect(b'{', "an object is needed");
            }
            if let Some(empty) = self.opens.pop() {
                self.close(&empty);
            }
            first = false;
        }
        Ok(())
    }

    /// Reads an attribute in the form that all SDKs write, `{"key":"…","value":{"stringValue":"…"}}` or with an
    /// `intValue`: half of a typical request. Returns false without consuming anything for other forms.
    #[inline(always)]
    fn usual_attribute(&mut self, tag: u64) -> bool {
        let Some(attribute) = self.text.usual_attribute() else { return false };
        let (key, value) = (attribute.key, attribute.value);
        let (value_tag, value_length) = match value {
            Usual::Text(text) => (any_value::STRING << 3 | 2, 2 + text.raw.len()),
            Usual::Whole(value) => (any_value::INT << 3, 1 + varint_len(value)),
        };
        let length = key.raw.len() + value_length + 4;
        if tag.max(length as u64) >= 0x80 || key.raw.is_empty() || self.value_levels == VALUE_LEVELS {
            return false;
        }
        self.text.at = attribute.end;
        let (mut out, key_length) = ([0; USUAL], key.raw.len());
        self.text.copy(key, &mut out, 4);
        if let Usual::Text(text) = value {
            self.text.copy(text, &mut out, 8 + key_length);
        }
        // For a string, the last byte is its length.
        let value_head =
            [(key_value::VALUE << 3 | 2) as u8, value_length as u8, value_tag as u8, value_length as u8 - 2];
        let head = [tag as u8, length as u8, (key_value::KEY << 3 | 2) as u8, key_length as u8];
        for (at, head) in [(0, head), (4 + key_length, value_head)] {
            if let Some(place) = out.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
                *place = head;
            }
        }
        let end = if let Usual::Text(_) = value { 2 + length } else { 7 + key_length };
        self.out.extend_from_slice(out.get(..end).unwrap_or_default());
        if let Usual::Whole(value) = value {
            put_varint(&mut self.out, value);
        }
        true
    }

    /// Consumes the separator between two list elements, or the end of the list.
    #[inline(always)]
    fn goes_on(&mut self, first: bool) -> Read<bool> {
        match self.text.peek() {
            b']' => {
                self.text.at += 1;
                Ok(false)
            }
            _ if first => Ok(true),
            _ => {
                self.text.expect(b',', COMMA_OR_BRACKET)?;
                self.text.peek();
                Ok(true)
            }
        }
    }

    /// Makes room for `bytes`, plus slack.
    #[inline(always)]
    fn make_room(&mut self, bytes: usize) -> Read<()> {
        if self.out.capacity() - self.out.len() < bytes + SLACK { self.grow(bytes) } else { Ok(()) }
    }

    /// Grows by half, or, if that is not granted, by the minimum.
    #[cold]
    fn grow(&mut self, bytes: usize) -> Read<()> {
        let least = self.out.len() + bytes + SLACK - self.out.capacity();
        let granted = [least.max(self.out.capacity() / 2), least].into_iter().find(|more| (self.room)(*more));
        let more = granted.ok_or_else(|| Fault::no_room(self.text.at))?;
        self.out.reserve_exact(self.out.capacity() + more - self.out.len());
        Ok(())
    }

    /// Writes a tag and reserves bytes for a length, which `patch_length` writes; returns their position.
    #[inline(always)]
    fn reserve(&mut self, tag: u64, length_bytes: usize) -> usize {
        put_varint(&mut self.out, tag);
        match length_bytes {
            1 => self.out.push(0),
            _ => self.out.resize(self.out.len() + length_bytes, 0),
        }
        self.out.len() - length_bytes
    }

    /// Reads a scalar and writes it; returns whether it is its type's zero.
    #[inline(always)]
    fn scalar(&mut self, tag: u64, kind: Kind) -> Read<bool> {
        match kind {
            Kind::Text => {
                let text = self.text.string("a string is needed")?;
                self.make_room(text.raw.len())?;
                let at = self.reserve(tag, 1);
                match text.escaped {
                    true => unescape(text, &mut self.out)?,
                    false => self.append(text),
                }
                patch_length(&mut self.out, at, 1);
                Ok(text.raw.is_empty())
            }
            Kind::Bytes => {
                let (start, text) = (self.text.at, self.text.string("a string is needed")?);
                if text.escaped && !(self.room)(text.raw.len()) {
                    return Err(Fault::no_room(start));
                }
                let text = text.text()?;
                self.make_room(text.len())?;
                let at = self.reserve(tag, 1);
                base64::read_padded(&text, &mut self.out)
                    .ok_or_else(|| Fault::new(start, "padded base64 is needed"))?;
                patch_length(&mut self.out, at, 1);
                Ok(text.is_empty())
            }
            Kind::Id(length) => {
                let needed = if length == 8 { "16 hex digits are needed" } else { "32 hex digits are needed" };
                let (start, text) = (self.text.at, self.text.string("a string is needed")?.word(needed)?);
                self.make_room(0)?;
                let at = self.reserve(tag, 1);
                let length = if text.is_empty() { 0 } else { length };
                hex::read(&text, length, &mut self.out).ok_or_else(|| Fault::new(start, needed))?;
                patch_length(&mut self.out, at, 1);
                Ok(length == 0)
            }
            _ => {
                self.make_room(0)?;
                put_varint(&mut self.out, tag);
                self.number(kind)
            }
        }
    }

    /// Appends a string without escapes.
    #[inline(always)]
    fn append(&mut self, Quoted { raw, start, .. }: Quoted) {
        let (before, mut from) = (self.out.len(), start);
        if raw.len() <= 4 * PIECE {
            while let 1.. = (start + raw.len()).saturating_sub(from)
                && let Some(piece) = self.text.piece::<PIECE>(from)
            {
                self.out.extend_from_slice(piece);
                from += PIECE;
            }
        }
        self.out.truncate(before + raw.len());
        self.out.extend_from_slice(raw.get(self.out.len() - before..).unwrap_or_default());
    }

    /// The same for numeric wire types, without a tag.
    #[inline(always)]
    fn number(&mut self, kind: Kind) -> Read<bool> {
        match kind {
            Kind::Bool => match self.text.word("true") {
                false if !self.text.word("false") => Err(self.text.unexpected("true or false is needed")),
                value => Ok(self.varint(u64::from(value))),
            },
            Kind::Enum(names) => self.enumeration(names).map(|n| self.varint(i64::from(n) as u64)),
            Kind::Int64 => self.integer::<i64>(INT64).map(|n| self.varint(n as u64)),
            Kind::Uint64 => self.integer::<u64>(UINT64).map(|n| self.varint(n)),
            Kind::Uint32 => self.integer::<u32>(UINT32).map(|n| self.varint(n.into())),
            Kind::Sint32 => self.integer::<i32>(INT32).map(|n| self.varint(zigzag(n))),
            Kind::Fixed32 => {
                let value = self.integer::<u32>(UINT32)?;
                self.out.extend_from_slice(&value.to_le_bytes());
                Ok(value == 0)
            }
            Kind::Fixed64 => self.integer::<u64>(UINT64).map(|n| self.fixed64(n)),
            Kind::Sfixed64 => self.integer::<i64>(INT64).map(|n| self.fixed64(n as u64)),
            Kind::Double => {
                let (start, text) = (self.text.at, self.text.numeric(DOUBLE)?);
                let value = double(&text).ok_or_else(|| Fault::new(start, DOUBLE))?;
                Ok(self.fixed64(value.to_bits()))
            }
            _ => Ok(false),
        }
    }

    fn varint(&mut self, value: u64) -> bool {
        put_varint(&mut self.out, value);
        value == 0
    }

    fn fixed64(&mut self, bits: u64) -> bool {
        self.out.extend_from_slice(&bits.to_le_bytes());
        bits == 0
    }

    /// Reads a list of scalars. A duplicate list continues the first.
    #[inline(never)]
    fn list(&mut self, field: &Field) -> Read<()> {
        self.text.expect(b'[', "a list is needed")?;
        let Kind::Packed(element) = field.kind else {
            let mut first = true;
            while self.goes_on(replace(&mut first, false))? {
                self.scalar(field.tag, Kind::Text)?;
            }
            return Ok(());
        };
        self.make_room(0)?;
        let before = self.out.len();
        let at = self.reserve(field.tag, 2);
        let mut first = true;
        while self.goes_on(replace(&mut first, false))? {
            self.make_room(0)?;
            self.number(*element)?;
        }
        match self.out.len() == at + 2 {
            true => self.out.truncate(before),
            false => patch_length(&mut self.out, at, 2),
        }
        Ok(())
    }

    /// A whole number, quoted or not.
    #[inline(always)]
    fn integer<T: TryFrom<i128>>(&mut self, needed: &'static str) -> Read<T> {
        let start = self.text.at;
        if let Some(value) = self.text.short_whole() {
            return T::try_from(i128::from(value)).map_err(|_| Fault::new(start, needed));
        }
        let text = self.text.numeric(needed)?;
        let value = whole(&text).and_then(|value| T::try_from(value).ok());
        value.ok_or_else(|| Fault::new(start, needed))
    }

    fn enumeration(&mut self, (prefix, names): &Names) -> Read<i32> {
        let start = self.text.at;
        let [b'"', ..] = self.text.rest() else {
            return self.integer(INT32);
        };
        const NEEDED: &str = "a number or one of its names is needed";
        let text = self.text.string("a name is needed")?.word(NEEDED)?;
        let name = text.strip_prefix(prefix.as_bytes());
        let value = names.iter().position(|known| Some(known.as_bytes()) == name);
        let value = value.and_then(|value| i32::try_from(value).ok());
        value.ok_or_else(|| Fault::new(start, NEEDED))
    }
}

/// Whether it is the only message that may contain itself.
fn is_any_value(message: &Message) -> bool {
    std::ptr::eq(message, &ANY_VALUE)
}

const DOUBLE: &str = "a number of double precision, \"NaN\", \"Infinity\" or \"-Infinity\" is needed";
const INT32: &str = "a whole number of 32 bits is needed";
const INT64: &str = "a whole number of 64 bits is needed";
const UINT32: &str = "a whole number from 0 to 4294967295 is needed";
const UINT64: &str = "a whole number from 0 to 18446744073709551615 is needed";
