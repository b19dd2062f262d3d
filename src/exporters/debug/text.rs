//! The one writer of the debug text: it makes telemetry's strings safe for a terminal and hands on what is finished.

use super::Style;
use crate::diagnostics::escape::{self, Eyes, WINDOW, is_clean, put_safe};
use crate::otlp::base64;
use crate::otlp::number::{self, Clock};
use crate::otlp::pieces::Pieces;

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

pub struct Text<'t, 'a> {
    pub to: &'t mut Pieces<'a>,
    style: Style,
    clock: Clock,
    /// How many pairs the maps around the one at hand hold sorted.
    pub sorted: usize,
}

/// The most bytes whose base64 is written before the next look at how much there is.
const BYTES: usize = WINDOW / 3 * 3;

impl<'t, 'a> Text<'t, 'a> {
    pub fn new(to: &'t mut Pieces<'a>, style: Style) -> Self {
        Text { to, style, clock: Clock::EPOCH, sorted: 0 }
    }

    /// Text of ours, which needs no escaping.
    #[inline(always)]
    pub fn raw(&mut self, text: &str) {
        self.to.out.extend_from_slice(text.as_bytes());
    }

    /// Text of others.
    #[inline]
    pub fn text(&mut self, bytes: &[u8]) {
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
        self.by_window(bytes, |out, window| escape::put_safe_window(out, window, for_eyes, &eyes));
    }

    /// A JSON string with its quotes.
    pub fn json_string(&mut self, bytes: &[u8]) {
        let (eyes, for_eyes) = (Eyes::default(), self.for_eyes());
        self.raw("\"");
        self.by_window(bytes, |out, window| escape::put_json_window(out, window, for_eyes, &eyes));
        self.raw("\"");
    }

    fn by_window(&mut self, bytes: &[u8], put: impl Fn(&mut Vec<u8>, &[u8])) {
        for window in escape::windows(bytes) {
            put(self.to.out, window);
            self.to.breathe();
            if !self.to.is_wanted() {
                return;
            }
        }
    }

    pub fn base64(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(BYTES) {
            base64::put_padded(part, self.to.out);
            self.to.breathe();
            if !self.to.is_wanted() {
                return;
            }
        }
    }

    /// Not for a program that reads the classic forms.
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
        self.to.out.push(b'\n');
        self.to.breathe();
    }
}
