//! The writer of all debug text: it makes telemetry's strings safe for a terminal, and hands on finished pieces.

use super::Style;
use crate::diagnostics::escape::{self, Eyes, WINDOW, is_clean, put_safe};
use crate::otlp::base64;
use crate::otlp::number::{self, Clock};
use crate::otlp::pieces::Pieces;

/// The value after a label.
#[derive(Clone, Copy)]
pub(super) enum Item<'a> {
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

pub(super) struct Text<'t, 'a> {
    pub(super) to: &'t mut Pieces<'a>,
    pub(super) style: Style,
    clock: Clock,
    /// The number of pairs in the sorted maps around the current value.
    pub(super) sorted: usize,
}

/// The bytes that are written as base64 at once: a multiple of three.
const BYTES: usize = WINDOW / 3 * 3;

impl<'t, 'a> Text<'t, 'a> {
    pub(super) fn new(to: &'t mut Pieces<'a>, style: Style) -> Self {
        Text { to, style, clock: Clock::EPOCH, sorted: 0 }
    }

    /// Writes our own text, which needs no escaping.
    #[inline(always)]
    pub(super) fn raw(&mut self, text: &str) {
        self.to.out.extend_from_slice(text.as_bytes());
    }

    /// Writes text of telemetry.
    #[inline]
    pub(super) fn text(&mut self, bytes: &[u8]) {
        if bytes.len() > WINDOW {
            self.long_text(bytes);
        } else if is_clean(bytes) {
            self.to.out.extend_from_slice(bytes);
        } else {
            put_safe(self.to.out, bytes, self.style.escape_newlines);
        }
    }

    #[cold]
    fn long_text(&mut self, bytes: &[u8]) {
        let (eyes, for_eyes) = (Eyes::default(), self.for_eyes());
        self.in_chunks(escape::windows(bytes), |out, window| escape::put_safe_window(out, window, for_eyes, &eyes));
    }

    /// Writes a JSON string with its quotes.
    pub(super) fn json_string(&mut self, bytes: &[u8]) {
        let (eyes, for_eyes) = (Eyes::default(), self.for_eyes());
        self.raw("\"");
        self.in_chunks(escape::windows(bytes), |out, window| escape::put_json_window(out, window, for_eyes, &eyes));
        self.raw("\"");
    }

    pub(super) fn base64(&mut self, bytes: &[u8]) {
        self.in_chunks(bytes.chunks(BYTES), |out, chunk| base64::put_padded(chunk, out));
    }

    /// Writes chunk by chunk, while text is wanted.
    fn in_chunks<'b>(&mut self, chunks: impl Iterator<Item = &'b [u8]>, put: impl Fn(&mut Vec<u8>, &[u8])) {
        for chunk in chunks {
            put(self.to.out, chunk);
            if !self.to.breathe() {
                return;
            }
        }
    }

    /// Whether a person reads it. A program may read the Go collector's forms, so there newlines are not escaped.
    fn for_eyes(&self) -> bool {
        self.style.escape_newlines
    }

    #[inline(always)]
    fn item(&mut self, item: Item<'_>) {
        match item {
            Item::Text(text) => self.text(text),
            Item::Name(name) => self.raw(name),
            Item::Id(id) => number::put_id(self.to.out, id),
            Item::Time(nanos) => self.clock.put(self.to.out, nanos),
            Item::Uint(n) => number::put_uint(self.to.out, n),
            Item::Int(n) => number::put_int(self.to.out, n),
            Item::Fixed(value) => number::put_fixed(self.to.out, value),
            Item::General(value) => number::put_general(self.to.out, value),
        }
    }

    /// Writes a label and a value.
    #[inline(always)]
    pub(super) fn put(&mut self, label: &str, item: Item<'_>) {
        self.raw(label);
        self.item(item);
    }

    #[inline(always)]
    pub(super) fn line(&mut self, label: &str, item: Item<'_>) {
        self.put(label, item);
        self.end();
    }

    /// Writes a heading such as `LogRecord #3`.
    pub(super) fn heading(&mut self, label: &str, index: usize) {
        self.line(label, Item::Uint(index as u64));
    }

    /// Ends the line, and hands on the text if it fills a piece.
    #[inline(always)]
    pub(super) fn end(&mut self) {
        self.to.out.push(b'\n');
        self.to.breathe();
    }
}
