//! Text in terminal columns: measured, cut, padded, wrapped, counted.

use std::fmt::Display;

use unicode_width::UnicodeWidthChar;

/// The text if it fits, else its beginning and `…`.
pub(crate) fn cut(text: &str, columns: usize) -> String {
    if text.len() <= columns || width(text) <= columns {
        return text.to_owned();
    }
    let fitting = text.chars().scan(columns.saturating_sub(1), |left, character| {
        *left = left.checked_sub(char_width(character))?;
        Some(character)
    });
    fitting.chain(['…']).collect()
}

/// The text in exactly `columns` columns.
pub(crate) fn column(text: &str, columns: usize) -> String {
    let mut text = cut(text, columns);
    text.extend(std::iter::repeat_n(' ', columns.saturating_sub(width(&text))));
    text
}

/// The same, aligned to the right.
pub(crate) fn right(text: &str, columns: usize) -> String {
    let text = cut(text, columns);
    format!("{}{text}", " ".repeat(columns.saturating_sub(width(&text))))
}

/// The number of columns a text takes on a terminal.
pub fn width(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.chars().map(char_width).sum() }
}

fn char_width(character: char) -> usize {
    character.width().unwrap_or(1)
}

/// Breaks between words, and inside a word that is wider than a line, so that no line is wider than `columns`.
pub(crate) fn wrap(text: &str, columns: usize) -> String {
    let (mut out, mut column) = (String::new(), 0);
    for (index, word) in text.split(' ').enumerate() {
        let length = width(word);
        let fits = column + 1 + length <= columns;
        if index > 0 && column > 0 {
            out.push(if fits { ' ' } else { '\n' });
        }
        column = if fits && column > 0 { column + 1 } else { 0 };
        for character in word.chars() {
            let wide = char_width(character);
            if column + wide > columns {
                out.push('\n');
                column = 0;
            }
            out.push(character);
            column += wide;
        }
    }
    out
}

/// The same after `head`, with all lines indented to its width.
pub(crate) fn hanging(head: &str, text: &str, columns: usize) -> String {
    let indent = width(head);
    let text = wrap(text, columns.saturating_sub(indent).max(8));
    format!("{head}{}", text.replace('\n', &format!("\n{:indent$}", "")))
}

/// The text of a system error without its number.
pub(crate) fn without_errno(text: &str) -> String {
    let mut pieces = text.split(" (os error ");
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |out, piece| match piece.split_once(')') {
        Some((number, rest)) if number.bytes().all(|byte| byte.is_ascii_digit()) => out + rest,
        _ => out + " (os error " + piece,
    })
}

/// `1 request`, `2 requests`
pub(crate) fn counted<N: Display + PartialEq<N> + From<u8>>(count: N, word: &str) -> String {
    format!("{count} {word}{}", if count == N::from(1) { "" } else { "s" })
}
