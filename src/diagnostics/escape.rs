//! Makes telemetry's strings safe for a terminal: characters that it would act on are escaped.

use std::cell::Cell;

/// Whether all bytes are printable ASCII: checks eight at a time, and the last eight once more.
#[inline(always)]
pub(crate) fn is_clean(bytes: &[u8]) -> bool {
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

/// Whether a terminal acts on a character instead of displaying it: controls, bidirectional marks, line separators.
fn acts(c: char) -> bool {
    matches!(c, '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}')
}

/// Whether a character is invisible, which hides text or makes two names look the same: zero width, fillers, notes, and
/// tags. The joiner U+200D and the selectors U+FE0x are excluded: emoji are made of them.
fn hides(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}' | '\u{200c}' | '\u{2060}'..='\u{2065}'
        | '\u{206a}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e00ff}')
}

/// Whether it combines with the character before it: marks, joiners, selectors. Many of them cover other lines, or hide
/// bytes.
fn clings(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{483}'..='\u{489}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}' | '\u{200d}'
        | '\u{20d0}'..='\u{20ff}' | '\u{fe00}'..='\u{fe0f}' | '\u{fe20}'..='\u{fe2f}' | '\u{e0100}'..='\u{e01ef}')
}

/// No script and no emoji puts more marks on one character.
const MARKS: u32 = 4;

/// Finds characters that a reader would not see as they are, one after another. A text written window by window uses
/// one instance for all of it.
#[derive(Default)]
pub struct Eyes {
    marks: Cell<u32>,
}

impl Eyes {
    /// Plain characters follow: resets the count of marks.
    pub(crate) fn rest(&self) {
        self.marks.set(0);
    }

    fn miss(&self, c: char) -> bool {
        self.marks.set(if clings(c) { self.marks.get() + 1 } else { 0 });
        hides(c) || self.marks.get() > MARKS
    }
}

/// How much of a long text is written before the next check for a full piece.
pub const WINDOW: usize = 16 << 10;

/// Splits a long text into windows that end between characters, so each is escaped as it would be in the whole.
pub fn windows(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        // A character has at most three continuation bytes.
        let continues = |at: &usize| rest.get(*at).is_some_and(|byte| byte & 0xc0 == 0x80);
        let end = (WINDOW - 3..=WINDOW).rev().find(|at| !continues(at)).unwrap_or(WINDOW);
        let (window, after) = rest.split_at_checked(end).unwrap_or((rest, &[]));
        rest = after;
        (!window.is_empty()).then_some(window)
    })
}

/// Whether a terminal does not show a character as it is.
pub fn is_control(c: char) -> bool {
    acts(c) || hides(c)
}

/// Our own text without its terminal colours.
pub(super) fn without_style(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |plain, part| plain + part.split_once('m').map_or(part, |(_, rest)| rest))
}

/// Escapes plain text: `\x1b`, `\u202e`. With `for_eyes` also `\n`, `\t`, and invisible characters (`\ufeff`,
/// `\U000e0041`).
pub fn put_safe(out: &mut Vec<u8>, bytes: &[u8], for_eyes: bool) {
    put_safe_window(out, bytes, for_eyes, &Eyes::default());
}

/// One window of such a text.
#[inline(never)]
pub fn put_safe_window(out: &mut Vec<u8>, bytes: &[u8], for_eyes: bool, eyes: &Eyes) {
    let escaped = |c| if for_eyes { acts(c) | eyes.miss(c) } else { acts(c) && c != '\n' && c != '\t' };
    let escape = |out: &mut Vec<u8>, c| match c {
        '\n' => out.extend_from_slice(b"\\n"),
        '\t' => out.extend_from_slice(b"\\t"),
        '\0'..='\u{ff}' => put_code(out, b"\\x", c, 2),
        '\u{100}'..='\u{ffff}' => put_code(out, b"\\u", c, 4),
        _ => put_code(out, b"\\U", c, 8),
    };
    put_escaped(out, bytes, escaped, escape, |_| "\u{fffd}".to_owned());
}

/// The same with `for_eyes`, from string to string.
pub(crate) fn safe(text: &str) -> String {
    let mut out = Vec::new();
    put_safe(&mut out, text.as_bytes(), true);
    String::from_utf8(out).expect("escaped text is text")
}

/// A JSON string with its quotes, as Go's encoder writes it; with `for_eyes`, invisible characters are escaped.
pub fn put_json_string(out: &mut Vec<u8>, bytes: &[u8], for_eyes: bool) {
    out.push(b'"');
    put_json_window(out, bytes, for_eyes, &Eyes::default());
    out.push(b'"');
}

/// One window of such a string, without quotes.
pub fn put_json_window(out: &mut Vec<u8>, bytes: &[u8], for_eyes: bool, eyes: &Eyes) {
    if is_clean(bytes) && memchr::memchr2(b'"', b'\\', bytes).is_none() {
        eyes.rest();
        out.extend_from_slice(bytes);
    } else {
        let escaped = |c| acts(c) || for_eyes && eyes.miss(c) || c == '"' || c == '\\';
        let escape = |out: &mut Vec<u8>, c| match c {
            '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
            '\x08' => out.extend_from_slice(b"\\b"),
            '\x0c' => out.extend_from_slice(b"\\f"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            _ => put_json_code(out, c),
        };
        put_escaped(out, bytes, escaped, escape, |bytes| "\\ufffd".repeat(bytes.len()));
    }
}

/// JSON on one line. Characters that a terminal acts on can occur only in its strings, where an escape means the same.
pub(crate) fn put_safe_json(out: &mut Vec<u8>, json: &[u8]) {
    put_safe_json_window(out, json, &Eyes::default());
}

/// One window of such JSON.
pub(crate) fn put_safe_json_window(out: &mut Vec<u8>, json: &[u8], eyes: &Eyes) {
    put_escaped(out, json, |c| acts(c) | eyes.miss(c), put_json_code, |_| "\u{fffd}".to_owned());
}

/// Copies text that needs no escape, piece by piece; `invalid` gives the replacement for bytes that are not UTF-8.
fn put_escaped(
    out: &mut Vec<u8>,
    bytes: &[u8],
    escaped: impl Fn(char) -> bool,
    escape: impl Fn(&mut Vec<u8>, char),
    invalid: impl Fn(&[u8]) -> String,
) {
    for chunk in bytes.utf8_chunks() {
        let (text, mut start) = (chunk.valid(), 0);
        for (at, c) in text.char_indices().filter(|(_, c)| escaped(*c)) {
            out.extend_from_slice(text.as_bytes().get(start..at).unwrap_or_default());
            escape(out, c);
            start = at + c.len_utf8();
        }
        out.extend_from_slice(text.as_bytes().get(start..).unwrap_or_default());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice(invalid(chunk.invalid()).as_bytes());
        }
    }
}

/// A JSON escape: a surrogate pair beyond 16 bits.
fn put_json_code(out: &mut Vec<u8>, c: char) {
    c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| put_code(out, b"\\u", *unit, 4));
}

/// An escape: its prefix and a code point in `digits` hex digits.
fn put_code(out: &mut Vec<u8>, prefix: &[u8], code: impl Into<u32>, digits: u32) {
    out.extend_from_slice(prefix);
    let code = code.into();
    let digit = |at| char::from_digit(code >> (4 * at) & 15, 16);
    out.extend((0..digits).rev().filter_map(digit).map(|digit| digit as u8));
}
