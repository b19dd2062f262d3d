//! A cursor over JSON text, token by token (strict RFC 8259). It checks the grammar as it goes and copies nothing.
//!
//! Bytes that are not UTF-8 are allowed in strings. No function recurses, and none reads past the end.

use std::borrow::Cow;

use super::reader::PIECE;
use crate::otlp::schema::{Field, Key};

/// Maximum nesting of a value in an unknown field.
const UNKNOWN_DEPTH: usize = 200;

/// Why the text was refused, and the position of the wrong value.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) at: usize,
    /// The field with the wrong value; empty if the text is not JSON.
    pub(super) field: &'static str,
    pub(crate) needed: &'static str,
    /// Whether memory, not the text, is the cause: the caller grants no more bytes.
    pub(super) is_of_room: bool,
}

impl Fault {
    #[cold]
    pub(super) fn new(at: usize, needed: &'static str) -> Box<Fault> {
        Box::new(Fault { at, field: "", needed, is_of_room: false })
    }

    #[cold]
    pub(super) fn no_room(at: usize) -> Box<Fault> {
        Box::new(Fault { at, field: "", needed: "", is_of_room: true })
    }
}

pub(crate) type Read<T> = Result<T, Box<Fault>>;

/// A string between its quotes; `escaped` when it holds a backslash.
#[derive(Clone, Copy)]
pub(crate) struct Quoted<'a> {
    pub(super) raw: &'a [u8],
    pub(super) escaped: bool,
    /// The position of `raw` in the text.
    pub(super) start: usize,
}

/// Longer strings with escapes are not copied: no name, id or number is this long.
const LONGEST: usize = 4 << 10;

impl<'a> Quoted<'a> {
    /// The value of a name, an id or a number; an error if it is too long for one.
    pub(super) fn word(self, needed: &'static str) -> Read<Cow<'a, [u8]>> {
        match self.escaped && self.raw.len() > LONGEST {
            true => Err(Fault::new(self.start - 1, needed)),
            false => self.text(),
        }
    }

    /// The string's value; copied if it has escapes.
    pub(crate) fn text(self) -> Read<Cow<'a, [u8]>> {
        if !self.escaped {
            return Ok(Cow::Borrowed(self.raw));
        }
        let mut text = Vec::with_capacity(self.raw.len());
        unescape(self, &mut text)?;
        Ok(Cow::Owned(text))
    }

    /// Checks the escapes without copying.
    fn check(self) -> Read<()> {
        if self.escaped { each_piece(self, |_| {}) } else { Ok(()) }
    }
}

/// An attribute in its usual form, and its end.
pub(super) struct Attribute<'a> {
    pub(super) key: Quoted<'a>,
    pub(super) value: Usual<'a>,
    pub(super) end: usize,
}

#[derive(Clone, Copy)]
pub(super) enum Usual<'a> {
    Text(Quoted<'a>),
    Whole(u64),
}

pub(crate) struct Scanner<'a> {
    text: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Scanner { text, at: 0 }
    }

    /// The error for an unexpected token here.
    pub(super) fn unexpected(&self, needed: &'static str) -> Box<Fault> {
        Fault::new(self.at, needed)
    }

    #[inline(always)]
    pub(super) fn rest(&self) -> &'a [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// The bytes at `at`, if there are enough.
    #[inline(always)]
    pub(super) fn piece<const LENGTH: usize>(&self, at: usize) -> Option<&'a [u8; LENGTH]> {
        self.text.get(at..)?.first_chunk()
    }

    /// Copies an unescaped string to `place`; bytes after it may be overwritten.
    #[inline(always)]
    pub(super) fn copy<const ROOM: usize>(&self, Quoted { raw, start, .. }: Quoted, to: &mut [u8; ROOM], place: usize) {
        let mut done = 0;
        while done < raw.len() {
            let to = to.get_mut(place + done..).unwrap_or_default();
            match (to.first_chunk_mut::<PIECE>(), self.piece::<PIECE>(start + done)) {
                (Some(to), Some(piece)) => *to = *piece,
                _ => to.iter_mut().zip(raw.get(done..).unwrap_or_default()).for_each(|(to, byte)| *to = *byte),
            }
            done += PIECE;
        }
    }

    /// The first byte of the next token; 0, which begins no token, at the end.
    #[inline(always)]
    pub(crate) fn peek(&mut self) -> u8 {
        loop {
            match self.text.get(self.at) {
                Some(byte) if *byte > b' ' => return *byte,
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                Some(byte) => return *byte,
                None => return 0,
            }
        }
    }

    #[inline(always)]
    pub(crate) fn expect(&mut self, byte: u8, needed: &'static str) -> Read<()> {
        if self.peek() != byte {
            return Err(self.unexpected(needed));
        }
        self.at += 1;
        Ok(())
    }

    pub(crate) fn at_end(&mut self) -> bool {
        self.peek() == 0 && self.at == self.text.len()
    }

    /// Consumes `word` if it is next: `null`, `true` or `false`.
    pub(crate) fn word(&mut self, word: &str) -> bool {
        let found = self.rest().starts_with(word.as_bytes());
        self.at += if found { word.len() } else { 0 };
        found
    }

    /// Consumes a member's key that is one of `fields`, most likely the one at `likely`. `None` if it is unknown.
    #[inline(always)]
    pub(super) fn field(&mut self, fields: &'static [Field], likely: usize) -> Read<Option<(usize, &'static Field)>> {
        if let Some(window) = self.rest().first_chunk().and_then(Key::window) {
            let expected = fields.get(likely).filter(|field| field.key.begins(window)).map(|field| (likely, field));
            let found = expected.or_else(|| fields.iter().enumerate().find(|(_, field)| field.key.begins(window)));
            if let Some((_, field)) = found {
                self.at += field.key.length;
                return Ok(found);
            }
        }
        self.unusual_field(fields)
    }

    /// The same for keys with spaces or escapes, in snake_case, or unknown.
    #[cold]
    fn unusual_field(&mut self, fields: &'static [Field]) -> Read<Option<(usize, &'static Field)>> {
        let key = self.quoted_key()?;
        if key.raw.len() > LONGEST {
            return key.check().map(|()| None);
        }
        let key = key.text()?;
        let named = |field: &Field| field.name.as_bytes() == &*key || field.has_snake_name(&key);
        Ok(fields.iter().enumerate().find(|(_, field)| named(field)))
    }

    /// Consumes a member's name and colon.
    pub(crate) fn key(&mut self) -> Read<Cow<'a, [u8]>> {
        self.quoted_key()?.text()
    }

    fn quoted_key(&mut self) -> Read<Quoted<'a>> {
        self.peek();
        let key = self.string("a member name in quotes is needed")?;
        self.expect(b':', "a colon is needed")?;
        Ok(key)
    }

    /// Consumes a string.
    #[inline(always)]
    pub(crate) fn string(&mut self, needed: &'static str) -> Read<Quoted<'a>> {
        let [b'"', rest @ ..] = self.rest() else {
            return Err(self.unexpected(needed));
        };
        if let Some(string) = self.plain_string() {
            return Ok(string);
        }
        self.at += 1;
        self.escaped_string(plain_length(rest))
    }

    /// Consumes the rest of a string, whose first `plain` bytes have no escapes.
    #[cold]
    fn escaped_string(&mut self, plain: usize) -> Read<Quoted<'a>> {
        let start = self.at;
        self.at += plain;
        loop {
            match self.rest() {
                [b'"', ..] => break,
                [b'\\', ..] => self.at += 2,
                [_, ..] => return Err(self.unexpected("control characters must be escaped")),
                [] => return Err(Fault::new(start - 1, "the string has no end")),
            }
            self.at += plain_length(self.rest());
        }
        let raw = self.text.get(start..self.at).unwrap_or_default();
        self.at += 1;
        Ok(Quoted { raw, escaped: true, start })
    }

    /// The text of a number, quoted or not.
    #[inline(always)]
    pub(super) fn numeric(&mut self, needed: &'static str) -> Read<Cow<'a, [u8]>> {
        match self.rest() {
            [b'"', ..] => self.string(needed)?.word(needed),
            _ => self.number(needed).map(Cow::Borrowed),
        }
    }

    /// Consumes a whole number of 1 to 19 digits, quoted or not, if that is the complete value.
    #[inline(always)]
    pub(super) fn short_whole(&mut self) -> Option<u64> {
        let (quoted, text) = match self.rest() {
            [b'"', text @ ..] => (true, text),
            text => (false, text),
        };
        let (mut value, mut length) = (0u64, 0);
        while let Some(digit) = text.get(length).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
            value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
            length += 1;
        }
        let ends = match text.get(length) {
            Some(b'"') => quoted,
            Some(b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t') => !quoted,
            _ => false,
        };
        let leading_zero = length > 1 && text.first() == Some(&b'0');
        if !ends || !(1..=19).contains(&length) || leading_zero && !quoted {
            return None;
        }
        self.at += length + 2 * usize::from(quoted);
        Some(value)
    }

    /// The next attribute, if it has its usual form. Consumes nothing.
    #[inline(always)]
    pub(super) fn usual_attribute(&self) -> Option<Attribute<'a>> {
        let mut ahead = Scanner { text: self.text, at: self.at };
        ahead.literal(b"{\"key\":")?;
        let key = ahead.plain_string()?;
        ahead.literal(b",\"value\":{\"")?;
        let value = if ahead.literal(b"stringValue\":").is_some() {
            Usual::Text(ahead.plain_string()?)
        } else {
            ahead.literal(b"intValue\":")?;
            Usual::Whole(ahead.short_whole().filter(|value| *value <= i64::MAX as u64)?)
        };
        ahead.literal(b"}}")?;
        Some(Attribute { key, value, end: ahead.at })
    }

    #[inline(always)]
    fn literal<const LENGTH: usize>(&mut self, literal: &[u8; LENGTH]) -> Option<()> {
        let found = self.piece::<LENGTH>(self.at)? == literal;
        self.at += if found { LENGTH } else { 0 };
        found.then_some(())
    }

    #[inline(always)]
    fn plain_string(&mut self) -> Option<Quoted<'a>> {
        let [b'"', rest @ ..] = self.rest() else { return None };
        let (raw, [b'"', ..]) = rest.split_at_checked(plain_length(rest))? else { return None };
        let start = self.at + 1;
        self.at = start + raw.len() + 1;
        Some(Quoted { raw, escaped: false, start })
    }

    /// Consumes a number, as defined by the grammar.
    pub(crate) fn number(&mut self, needed: &'static str) -> Read<&'a [u8]> {
        let start = self.at;
        let number = self.rest();
        self.at += usize::from(number.first() == Some(&b'-'));
        let leading_zero = self.rest().first() == Some(&b'0');
        let whole = self.digits();
        let mut sound = whole == 1 || whole > 1 && !leading_zero;
        if let [b'.', ..] = self.rest() {
            self.at += 1;
            sound &= self.digits() > 0;
        }
        if let [b'e' | b'E', after @ ..] = self.rest() {
            self.at += 1 + usize::from(matches!(after, [b'+' | b'-', ..]));
            sound &= self.digits() > 0;
        }
        let number = number.get(..self.at - start).unwrap_or_default();
        if sound { Ok(number) } else { Err(Fault::new(start, needed)) }
    }

    fn digits(&mut self) -> usize {
        let count = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        count
    }

    /// Consumes any value, checking its grammar.
    pub(crate) fn skip(&mut self) -> Read<()> {
        let mut closers = [0u8; UNKNOWN_DEPTH];
        let mut depth = 0;
        loop {
            let closer = match self.peek() {
                b'{' => b'}',
                b'[' => b']',
                _ => 0,
            };
            let mut first = closer != 0;
            if first {
                let place = closers.get_mut(depth);
                *place.ok_or_else(|| self.unexpected("unknown fields nest at most 200 levels"))? = closer;
                depth += 1;
                self.at += 1;
            } else {
                self.skip_scalar()?;
            }
            // Consume closing brackets, up to the start of the next value.
            loop {
                let Some(&closer) = depth.checked_sub(1).and_then(|index| closers.get(index)) else { return Ok(()) };
                if self.peek() == closer {
                    (depth, first) = (depth - 1, false);
                    self.at += 1;
                    continue;
                }
                if !first {
                    self.expect(b',', if closer == b'}' { COMMA_OR_BRACE } else { COMMA_OR_BRACKET })?;
                }
                if closer == b'}' {
                    self.quoted_key()?.check()?;
                }
                break;
            }
        }
    }

    fn skip_scalar(&mut self) -> Read<()> {
        if let [b'"', ..] = self.rest() {
            return self.string("a string is needed")?.check();
        }
        if self.word("null") || self.word("true") || self.word("false") {
            return Ok(());
        }
        self.number("a value is needed").map(drop)
    }
}

pub(super) const COMMA_OR_BRACE: &str = "a comma or \"}\" is needed";
pub(super) const COMMA_OR_BRACKET: &str = "a comma or \"]\" is needed";

/// The length of the prefix without a quote, a backslash or a control character. Checks eight bytes at a time: most
/// strings are too short for a vector search to be worth a call.
#[inline(always)]
pub(super) fn plain_length(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHS: u64 = ONES << 7;
    const QUOTES: u64 = ONES * b'"' as u64;
    const BACKSLASHES: u64 = ONES * b'\\' as u64;
    // Both tests set the high bit of every byte that qualifies; bits above the lowest one set may be wrong.
    let zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let below_space = |word: u64| word.wrapping_sub(ONES * 0x20) & !word;
    let (words, tail) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let found = (zero(word ^ QUOTES) | zero(word ^ BACKSLASHES) | below_space(word)) & HIGHS;
        if found != 0 {
            return index * 8 + found.trailing_zeros() as usize / 8;
        }
    }
    let plain = tail.iter().take_while(|byte| **byte >= 0x20 && **byte != b'"' && **byte != b'\\').count();
    words.len() * 8 + plain
}

/// Appends the string's value.
pub(super) fn unescape(text: Quoted, out: &mut Vec<u8>) -> Read<()> {
    each_piece(text, |piece| out.extend_from_slice(piece))
}

/// Passes the string's value to `put` in pieces.
#[inline(always)]
fn each_piece(text: Quoted, mut put: impl FnMut(&[u8])) -> Read<()> {
    let mut rest = text.raw;
    loop {
        let plain = plain_length(rest);
        let (before, after) = rest.split_at_checked(plain).unwrap_or((rest, &[]));
        put(before);
        if after.is_empty() {
            return Ok(());
        }
        let Some((character, after)) = escape(after) else {
            let at = text.start + text.raw.len() - after.len();
            return Err(Fault::new(at, "an escape that stands for a character is needed"));
        };
        put(character.encode_utf8(&mut [0; 4]).as_bytes());
        rest = after;
    }
}

/// Reads one escape. An unpaired surrogate becomes U+FFFD: an SDK that truncates a text may cut a pair.
fn escape(text: &[u8]) -> Option<(char, &[u8])> {
    let [b'\\', letter, rest @ ..] = text else { return None };
    let character = match letter {
        b'"' | b'\\' | b'/' => char::from(*letter),
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let (first, rest) = four_digits(rest)?;
            let half = |code: u32, from: u32| code.checked_sub(from).filter(|half| *half < 0x400);
            let second = rest.strip_prefix(b"\\u").and_then(four_digits);
            let second = second.and_then(|(code, rest)| Some((half(code, 0xdc00)?, rest)));
            let (code, rest) = match (half(first, 0xd800), second) {
                (Some(high), Some((low, rest))) => (0x10000 + (high << 10) + low, rest),
                _ => (first, rest),
            };
            return Some((char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), rest));
        }
        _ => return None,
    };
    Some((character, rest))
}

fn four_digits(text: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = text.split_first_chunk::<4>()?;
    let add = |value, digit: &u8| Some(value << 4 | char::from(*digit).to_digit(16)?);
    Some((digits.iter().try_fold(0, add)?, rest))
}
