//! The words of a condition, whatever language they are from: every text has some.

use std::ops::Range;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Word<'t> {
    /// A path, a value, or text without quotes.
    Name(Written<'t>),
    /// The text between quotes.
    Text(&'t str),
    /// A converter with its arguments.
    Call(&'t str),
    Operator(Operator),
    Logic(&'static str),
    Open,
    Close,
}

/// A name with the texts of its keys.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Written<'t> {
    pub(super) text: &'t str,
    pub(super) keys: Vec<&'t str>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Operator {
    Compare(&'static str),
    Match { is_wanted: bool, before: &'static str, after: &'static str, is_pattern: bool },
}

const fn matching(is_wanted: bool, before: &'static str, after: &'static str, is_pattern: bool) -> Operator {
    Operator::Match { is_wanted, before, after, is_pattern }
}

/// Longer ones first.
const SYMBOLS: [(&str, Operator); 13] = [
    ("==", Operator::Compare("==")),
    ("!=", Operator::Compare("!=")),
    ("<>", Operator::Compare("!=")),
    (">=", Operator::Compare(">=")),
    ("<=", Operator::Compare("<=")),
    ("=~", matching(true, "", "", true)),
    ("!~", matching(false, "", "", true)),
    ("|=", matching(true, "", "", false)),
    (">", Operator::Compare(">")),
    ("<", Operator::Compare("<")),
    ("=", Operator::Compare("==")),
    ("~", matching(true, "", "", true)),
    (":", Operator::Compare("==")),
];
/// In small letters.
const WORDS: [(&str, Operator); 10] = [
    ("contains", matching(true, "", "", false)),
    ("includes", matching(true, "", "", false)),
    ("like", matching(true, "", "", true)),
    ("matches", matching(true, "", "", true)),
    ("startswith", matching(true, "^", "", false)),
    ("starts_with", matching(true, "^", "", false)),
    ("endswith", matching(true, "", "$", false)),
    ("ends_with", matching(true, "", "$", false)),
    ("is", Operator::Compare("==")),
    ("eq", Operator::Compare("==")),
];
const LOGIC: [(&str, &str); 8] = [
    ("&&", "and"),
    ("||", "or"),
    ("&", "and"),
    ("|", "or"),
    ("!", "not"),
    ("and", "and"),
    ("or", "or"),
    ("not", "not"),
];

/// All words with their ranges.
pub(super) fn words(text: &str) -> Vec<(Word<'_>, Range<usize>)> {
    let (mut words, mut at) = (Vec::new(), 0);
    loop {
        let rest = text.get(at..).unwrap_or_default();
        at += rest.len() - rest.trim_start().len();
        let rest = rest.trim_start();
        let Some(first) = rest.chars().next() else { return words };
        let (word, length) = word(rest, first);
        words.push((word, at..at + length));
        at += length;
    }
}

fn word(rest: &str, first: char) -> (Word<'_>, usize) {
    match first {
        '"' | '\'' => {
            let inner = rest.get(1..).unwrap_or_default();
            // A missing quote at the end is taken as written.
            let end = inner.find(first).unwrap_or(inner.len());
            return (Word::Text(inner.get(..end).unwrap_or_default()), (end + 2).min(rest.len()));
        }
        '(' => return (Word::Open, 1),
        ')' => return (Word::Close, 1),
        _ => {}
    }
    if let Some((symbol, operator)) = SYMBOLS.iter().find(|(symbol, _)| rest.starts_with(symbol)) {
        return (Word::Operator(*operator), symbol.len());
    }
    let end = name_end(rest).max(first.len_utf8());
    let name = rest.get(..end).unwrap_or_default();
    let low = name.to_ascii_lowercase();
    let logic = LOGIC.iter().find(|(known, _)| *known == low || !name_starts(first) && rest.starts_with(known));
    if let Some((written, word)) = logic {
        return (Word::Logic(word), written.len());
    }
    if let Some((_, operator)) = WORDS.iter().find(|(known, _)| *known == low) {
        return (Word::Operator(*operator), end);
    }
    let after = rest.get(end..).unwrap_or_default();
    if after.starts_with('(') && first.is_ascii_uppercase() {
        let length = end + closed(after, '(', ')');
        return (Word::Call(rest.get(..length).unwrap_or_default()), length);
    }
    let (mut keys, mut length) = (Vec::new(), end);
    while let Some(key) = rest.get(length..).filter(|rest| rest.starts_with('[')) {
        let size = closed(key, '[', ']');
        keys.push(key.get(1..size).unwrap_or_default().trim_end_matches(']').trim().trim_matches(['"', '\'']));
        length += size;
    }
    (Word::Name(Written { text: name, keys }), length)
}

fn name_starts(first: char) -> bool {
    !['&', '|', '!'].contains(&first)
}

/// Where a name ends: at a space, a quote, a bracket, an operator; the colon of a URL belongs to it.
fn name_end(text: &str) -> usize {
    let is_end = |(at, letter): (usize, char)| match letter {
        ':' => !text.get(at + 1..).is_some_and(|rest| rest.starts_with('/')),
        letter => letter.is_whitespace() || "\"'()[]{},=<>!~&|".contains(letter),
    };
    text.char_indices().find(|found| is_end(*found)).map_or(text.len(), |(at, _)| at)
}

/// The length of a text in brackets at the start; all of it if they are not closed.
fn closed(text: &str, open: char, close: char) -> usize {
    let (mut depth, mut is_quoted) = (0, false);
    for (at, letter) in text.char_indices() {
        match letter {
            '"' => is_quoted = !is_quoted,
            _ if is_quoted => {}
            _ if letter == open => depth += 1,
            _ if letter == close && depth == 1 => return at + 1,
            _ if letter == close => depth -= 1,
            _ => {}
        }
    }
    text.len()
}
