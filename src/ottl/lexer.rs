//! Splits OTTL text into tokens, each with its byte range.

use super::syntax::{Mistake, Span};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Token<'t> {
    /// The hexadecimal digits after `0x`.
    Bytes(&'t str),
    Float(&'t str),
    Int(&'t str),
    /// The text between the quotes, with its escapes.
    String(&'t str),
    Name(&'t str),
    Symbol(&'static str),
    End,
}

impl Token<'_> {
    /// The token as shown in a message.
    pub(super) fn words(&self, text: &str, span: &Span) -> String {
        match self {
            Token::End => "the end".to_owned(),
            _ => text.get(span.clone()).unwrap_or_default().to_owned(),
        }
    }
}

/// Longer ones first.
const SYMBOLS: [&str; 21] =
    ["==", "!=", ">=", "<=", "=>", ">", "<", "=", "+", "-", "*", "/", "(", ")", "{", "}", "[", "]", ":", ",", "."];

/// All tokens, the last of which is `End`.
pub(super) fn tokens(text: &str) -> Result<Vec<(Token<'_>, Span)>, Mistake> {
    let (mut tokens, mut at) = (Vec::new(), 0);
    loop {
        let rest = text.get(at..).unwrap_or_default();
        at += rest.len() - rest.trim_start().len();
        let rest = rest.trim_start();
        let Some(first) = rest.chars().next() else {
            tokens.push((Token::End, text.len()..text.len()));
            return Ok(tokens);
        };
        let (token, length) = match first {
            '0'..='9' | '.' => number(rest),
            'a'..='z' | 'A'..='Z' => {
                let name = prefix(rest, |byte| byte.is_ascii_alphanumeric() || byte == b'_');
                (Token::Name(name), name.len())
            }
            '"' => string(rest).ok_or_else(|| Mistake::new(&(at..text.len()), "this text has no closing quote"))?,
            _ => {
                let symbol = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol));
                let symbol = symbol.ok_or_else(|| unexpected(first, at))?;
                (Token::Symbol(symbol), symbol.len())
            }
        };
        tokens.push((token, at..at + length));
        at += length;
    }
}

fn unexpected(character: char, at: usize) -> Mistake {
    let help = match character {
        '\'' => Some("text stands in double quotes"),
        '&' | '|' | '!' => Some("write and, or, not"),
        '~' => Some("to match a regular expression, write IsMatch(…, \"…\")"),
        _ => None,
    };
    let mistake = Mistake::new(&(at..at + character.len_utf8()), format!("{character} has no meaning here"));
    mistake.help(help.map(str::to_owned))
}

fn prefix(text: &str, accepts: impl Fn(u8) -> bool) -> &str {
    let length = text.bytes().position(|byte| !accepts(byte)).unwrap_or(text.len());
    text.get(..length).unwrap_or_default()
}

fn number(text: &str) -> (Token<'_>, usize) {
    let digits = |from: usize| prefix(text.get(from..).unwrap_or_default(), |byte| byte.is_ascii_digit()).len();
    if let Some(hex) = text.strip_prefix("0x") {
        let hex = prefix(hex, |byte| byte.is_ascii_hexdigit());
        if !hex.is_empty() {
            return (Token::Bytes(hex), 2 + hex.len());
        }
    }
    let whole = digits(0);
    if text.as_bytes().get(whole) != Some(&b'.') {
        return (Token::Int(text.get(..whole).unwrap_or_default()), whole);
    }
    let mut length = whole + 1 + digits(whole + 1);
    if length == 1 {
        return (Token::Symbol("."), 1);
    }
    if let Some(exponent) = text.get(length..).and_then(|rest| rest.strip_prefix(['e', 'E'])) {
        let sign = usize::from(exponent.starts_with(['+', '-']));
        let count = digits(length + 1 + sign);
        length += if count > 0 { 1 + sign + count } else { 0 };
    }
    (Token::Float(text.get(..length).unwrap_or_default()), length)
}

fn string(text: &str) -> Option<(Token<'_>, usize)> {
    let mut bytes = text.bytes().enumerate().skip(1);
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\\' => _ = bytes.next()?,
            b'"' => return Some((Token::String(text.get(1..at)?), at + 1)),
            _ => {}
        }
    }
    None
}

/// The value of quoted text, by Go's escapes; or the range of an invalid escape.
pub(super) fn unquoted(text: &str) -> Result<Vec<u8>, Span> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (plain, escape) = rest.split_at(at);
        out.extend_from_slice(plain.as_bytes());
        let length = unescape(escape, &mut out);
        let start = text.len() - escape.len();
        rest = length.and_then(|length| escape.get(length..)).ok_or(start..start + escape.len().min(2))?;
    }
    out.extend_from_slice(rest.as_bytes());
    Ok(out)
}

/// Appends the value of an escape, and returns its length.
fn unescape(escape: &str, out: &mut Vec<u8>) -> Option<usize> {
    let code = |from: usize, digits: usize, radix| {
        let digits = escape.get(from..from + digits)?;
        let plain = digits.bytes().all(|digit| digit.is_ascii_alphanumeric());
        plain.then(|| u32::from_str_radix(digits, radix).ok()).flatten()
    };
    let wide = |out: &mut Vec<u8>, digits| {
        let character = char::from_u32(code(2, digits, 16)?)?;
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        Some(2 + digits)
    };
    let byte = match escape.as_bytes().get(1)? {
        b'a' => 7,
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 11,
        quoted @ (b'\\' | b'"') => *quoted,
        b'u' => return wide(out, 4),
        b'U' => return wide(out, 8),
        b'x' => {
            out.push(code(2, 2, 16)? as u8);
            return Some(4);
        }
        b'0'..=b'7' => {
            out.push(u8::try_from(code(1, 3, 8)?).ok()?);
            return Some(4);
        }
        _ => return None,
    };
    out.push(byte);
    Some(2)
}
