//! The one writer of the debug text: it makes telemetry's strings safe for a terminal and hands on what is finished.

use super::Style;
use crate::diagnostics::escape::{is_clean, put_safe};
use crate::otlp::number::{self, Clock};

/// What stands after a label.
#[derive(Clone, Copy)]
pub enum Item<'a> {
    Text(&'a [u8]),
    Name(&'static str),
    Id(&'a [u8]),
    Time(u64),
    Uint(u64),
    Int(i64),
    /// `%f`
    Fixed(f64),
    /// `%v`
    General(f64),
}

pub struct Text<'a> {
    pub out: &'a mut Vec<u8>,
    style: Style,
    clock: Clock,
    chunk_bytes: usize,
    emit: &'a mut dyn FnMut(&mut Vec<u8>, u64),
    /// Log records, data points and spans begun since the last `emit`.
    pub items: u64,
}

impl<'a> Text<'a> {
    pub fn new(
        out: &'a mut Vec<u8>,
        style: Style,
        chunk_bytes: usize,
        emit: &'a mut dyn FnMut(&mut Vec<u8>, u64),
    ) -> Self {
        Text { out, style, clock: Clock::EPOCH, chunk_bytes, emit, items: 0 }
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
            put_safe(self.out, bytes, self.for_eyes());
        }
    }

    /// Not for a program that reads the classic forms.
    pub fn for_eyes(&self) -> bool {
        self.style.escape_newlines
    }

    #[inline(always)]
    fn item(&mut self, item: Item<'_>) {
        match item {
            Item::Text(text) => self.text(text),
            Item::Name(name) => self.raw(name),
            Item::Id(id) => number::put_id(self.out, id),
            Item::Time(nanos) => self.clock.put(self.out, nanos),
            Item::Uint(n) => number::put_uint(self.out, n),
            Item::Int(n) => number::put_int(self.out, n),
            Item::Fixed(value) => number::put_fixed(self.out, value),
            Item::General(value) => number::put_general(self.out, value),
        }
    }

    /// A label of ours and an item.
    #[inline(always)]
    pub fn put(&mut self, label: &str, item: Item<'_>) {
        self.raw(label);
        self.item(item);
    }

    #[inline(always)]
    pub fn line(&mut self, label: &str, item: Item<'_>) {
        self.put(label, item);
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
