//! The one writer of the debug text: it makes telemetry's strings safe for a terminal and hands on what is finished.

use super::Style;
use super::number::{self, Clock};

/// What stands after a label.
#[derive(Clone, Copy)]
pub enum Item<'a> {
    Text(&'a [u8]),
    Name(&'static str),
    Id(&'a [u8]),
    Time(u64),
    Uint(u64),
    Int(i64),
    Fixed(f64),
}

pub struct Text<'a> {
    pub out: &'a mut Vec<u8>,
    style: Style,
    clock: Clock,
    chunk_bytes: usize,
    emit: &'a mut dyn FnMut(&mut Vec<u8>, u32),
    /// Log records, data points and spans begun since the last `emit`.
    pub items: u32,
}

impl<'a> Text<'a> {
    pub fn new(
        out: &'a mut Vec<u8>,
        style: Style,
        chunk_bytes: usize,
        emit: &'a mut dyn FnMut(&mut Vec<u8>, u32),
    ) -> Self {
        Text { out, style, clock: Clock::new(), chunk_bytes, emit, items: 0 }
    }

    /// Text of ours, which needs no escaping.
    #[inline(always)]
    pub fn raw(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    /// Text of others.
    #[inline]
    pub fn text(&mut self, bytes: &[u8]) {
        if is_clean(bytes) {
            self.out.extend_from_slice(bytes);
        } else {
            escape(self.out, bytes, self.style);
        }
    }

    #[inline(always)]
    pub fn item(&mut self, item: Item<'_>) {
        match item {
            Item::Text(text) => self.text(text),
            Item::Name(name) => self.raw(name),
            Item::Id(id) => number::put_id(self.out, id),
            Item::Time(nanos) => self.clock.put(self.out, nanos),
            Item::Uint(n) => number::put_uint(self.out, n),
            Item::Int(n) => number::put_int(self.out, n),
            Item::Fixed(value) => number::put_fixed(self.out, value),
        }
    }

    /// A label of ours, an item, the end of the line.
    #[inline(always)]
    pub fn line(&mut self, label: &str, item: Item<'_>) {
        self.raw(label);
        self.item(item);
        self.end();
    }

    /// A heading such as `LogRecord #3`.
    pub fn heading(&mut self, label: &str, index: usize) {
        self.line(label, Item::Uint(index as u64));
    }

    /// Ends the line, and hands on the text when there is enough of it.
    #[inline(always)]
    pub fn end(&mut self) {
        self.out.push(b'\n');
        self.breathe();
    }

    /// Lets the text go when there is enough of it.
    #[inline(always)]
    pub fn breathe(&mut self) {
        if self.out.len() >= self.chunk_bytes {
            (self.emit)(self.out, std::mem::take(&mut self.items));
        }
    }
}

/// Whether all bytes are printable ASCII: eight at a time, and the last eight once more.
#[inline]
pub fn is_clean(bytes: &[u8]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // The high bit of a byte: not ASCII, below a space (borrows), or DEL (carries). A carry from a byte into the next
    // one is possible only where the lower one is flagged itself.
    let flags = |bytes: [u8; 8]| {
        let word = u64::from_le_bytes(bytes);
        word | word.wrapping_sub(0x20 * ONES) | word.wrapping_add(ONES)
    };
    let (words, _) = bytes.as_chunks::<8>();
    match bytes.last_chunk::<8>() {
        Some(last) => words.iter().fold(flags(*last), |found, word| found | flags(*word)) & (0x80 * ONES) == 0,
        None => bytes.iter().all(|byte| matches!(byte, 0x20..=0x7e)),
    }
}

/// Whether a terminal would act on a character instead of showing it: controls, bidirectional marks, line separators.
pub fn is_control(c: char) -> bool {
    matches!(c, '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{61c}' | '\u{200e}' | '\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[inline(never)]
fn escape(out: &mut Vec<u8>, bytes: &[u8], style: Style) {
    for chunk in bytes.utf8_chunks() {
        let text = chunk.valid();
        let mut written = 0;
        for (at, c) in text.char_indices() {
            if !is_control(c) || c == '\t' || c == '\n' && !style.escape_newlines {
                continue;
            }
            out.extend_from_slice(text.get(written..at).unwrap_or_default().as_bytes());
            written = at + c.len_utf8();
            match c {
                '\n' => out.extend_from_slice(b"\\n"),
                '\0'..='\u{ff}' => put_hex(out, b"\\x", u32::from(c), 2),
                _ => put_hex(out, b"\\u", u32::from(c), 4),
            }
        }
        out.extend_from_slice(text.get(written..).unwrap_or_default().as_bytes());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

/// An escape: its prefix and a code point in `digits` hex digits.
pub fn put_hex(out: &mut Vec<u8>, prefix: &[u8], code: u32, digits: u32) {
    out.extend_from_slice(prefix);
    out.extend((0..digits).rev().filter_map(|at| char::from_digit(code >> (4 * at) & 15, 16)).map(|c| c as u8));
}
