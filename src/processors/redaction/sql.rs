//! Masks the literals of SQL: texts, numbers, `TRUE`, `FALSE`, `NULL` and numbered parameters become `?`, and so do
//! digits in names. Everything else is kept. Text that is not SQL is treated the same, as in the Go collector.

use crate::ottl::value::Fault;

use super::put;

/// The quoting rules.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Dialect {
    Standard,
    /// `"a"` is a text, `` `a` `` a name, and `#` begins a comment.
    MySql,
}

pub(super) fn masked(text: &[u8], dialect: Dialect) -> Result<Vec<u8>, Fault> {
    let text = String::from_utf8_lossy(text);
    // The parser stops at a NUL, so the text after it is dropped.
    let text = text.split('\0').next().unwrap_or_default();
    let mut out = Vec::new();
    let mut scanner = Scanner { rest: text, dialect };
    while let Some(first) = scanner.rest.chars().next() {
        let before = scanner.rest;
        let kind = scanner.token(first);
        // A token has at least one character.
        let length = (before.len() - scanner.rest.len()).max(first.len_utf8());
        let (token, rest) = before.split_at(length);
        scanner.rest = rest;
        match kind {
            Kind::Literal => put(&mut out, b"?")?,
            Kind::Name => put_without_digits(&mut out, token)?,
            Kind::Other => put(&mut out, token.as_bytes())?,
            Kind::Function => {
                let inner = token.strip_prefix(FUNCTION).and_then(|token| token.strip_suffix(FUNCTION));
                put(&mut out, FUNCTION.as_bytes())?;
                put(&mut out, &masked(inner.unwrap_or_default().as_bytes(), dialect)?)?;
                put(&mut out, FUNCTION.as_bytes())?;
            }
        }
    }
    Ok(String::from_utf8_lossy(&out).trim().as_bytes().to_vec())
}

const FUNCTION: &str = "$func$";

enum Kind {
    Literal,
    /// Its digits are masked.
    Name,
    /// The body of a function, which is itself SQL.
    Function,
    Other,
}

struct Scanner<'t> {
    rest: &'t str,
    dialect: Dialect,
}

impl Scanner<'_> {
    fn peek(&self, index: usize) -> u8 {
        self.rest.as_bytes().get(index).copied().unwrap_or(0)
    }

    /// Skips bytes, unless that would split a character.
    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or(self.rest);
    }

    fn skip_while(&mut self, is_part: impl Fn(char) -> bool) {
        self.rest = self.rest.trim_start_matches(is_part);
    }

    fn skip_to_end(&mut self) {
        self.rest = "";
    }

    /// Scans a token that begins with `first`.
    fn token(&mut self, first: char) -> Kind {
        let next = self.peek(1);
        let is_mysql = self.dialect == Dialect::MySql;
        match first {
            ' ' | '\t' | '\n' | '\r' => self.skip_while(|c| matches!(c, ' ' | '\t' | '\n' | '\r')),
            c if is_letter(c) => return self.word(),
            '"' if !is_mysql => return self.quoted_name('"'),
            '`' if is_mysql => return self.quoted_name('`'),
            '\'' | '"' => return self.string(first),
            '-' if next == b'-' => self.line(),
            '#' if is_mysql => self.line(),
            '/' if next == b'*' => match self.rest.get(2..).and_then(|inner| inner.split_once("*/")) {
                Some((_, rest)) => self.rest = rest,
                None => self.skip_to_end(),
            },
            '+' | '-' if next.is_ascii_digit() || next == b'.' => {
                self.skip(1);
                return self.decimal();
            }
            '0' if matches!(next, b'x' | b'X') => {
                self.skip(2);
                self.skip_while(|c| c.is_ascii_hexdigit());
                return Kind::Literal;
            }
            '0' if matches!(next, b'0'..=b'7') => {
                self.skip(2);
                self.skip_while(|c| matches!(c, '0'..='7'));
                return Kind::Literal;
            }
            '0'..='9' => return self.decimal(),
            '$' if next.is_ascii_digit() => {
                self.skip(1);
                self.skip_while(|c| c.is_ascii_digit());
                return Kind::Literal;
            }
            '$' => return self.dollar_quoted(),
            '@' => self.at(),
            '*' => {}
            c if is_operator(c) => self.operator(c),
            _ => {}
        }
        Kind::Other
    }

    /// A keyword, a name, or the name of a function, which keeps its digits if it begins with an ASCII letter.
    fn word(&mut self) -> Kind {
        let before = self.rest;
        let is_ascii = self.peek(0).is_ascii();
        self.skip_while(|c| c.is_ascii_alphabetic() || c == '_');
        let word = before.get(..before.len() - self.rest.len()).unwrap_or_default();
        let is_fixed = ["TRUE", "FALSE", "NULL"].iter().any(|fixed| word.eq_ignore_ascii_case(fixed));
        let ends =
            |c: char| matches!(c, '(' | ')' | ',' | ';' | '.' | ':' | '[' | ']' | '{' | '}' | ' ' | '\t' | '\n' | '\r');
        if is_fixed && self.rest.chars().next().is_none_or(ends) {
            return Kind::Literal;
        }
        let is_part =
            |c| is_letter(c) || c.is_ascii_digit() || matches!(c, '"' | '.' | '?' | '$' | '#' | '/' | '@' | '!');
        self.skip_while(is_part);
        if is_ascii && self.rest.starts_with('(') { Kind::Other } else { Kind::Name }
    }

    /// A quoted name, or several joined by `.`.
    fn quoted_name(&mut self, quote: char) -> Kind {
        self.skip(1);
        while let Some((_, rest)) = self.rest.split_once(quote) {
            self.rest = rest;
            match rest.strip_prefix('.').and_then(|rest| rest.strip_prefix(quote)) {
                Some(rest) => self.rest = rest,
                None => return Kind::Name,
            }
        }
        self.skip_to_end();
        Kind::Other
    }

    fn string(&mut self, quote: char) -> Kind {
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((index, c)) = chars.next() {
            if c == '\\' {
                chars.next();
            } else if c == quote {
                self.skip(index + 1);
                return Kind::Literal;
            }
        }
        self.skip_to_end();
        Kind::Literal
    }

    /// Skips to the end of the line.
    fn line(&mut self) {
        self.skip_while(|c| c != '\n');
    }

    fn decimal(&mut self) -> Kind {
        loop {
            self.skip_while(|c| c.is_ascii_digit() || c == '.');
            match (self.peek(0), self.peek(1)) {
                (b'e' | b'E', b'+' | b'-') => self.skip(2),
                (b'e' | b'E', _) => self.skip(1),
                _ => return Kind::Literal,
            }
        }
    }

    /// `$tag$ text $tag$`
    fn dollar_quoted(&mut self) -> Kind {
        let text = self.rest;
        self.skip_to_end();
        let Some((name, inner)) = text.get(1..).and_then(|text| text.split_once('$')) else { return Kind::Other };
        let Some(tag) = text.get(..name.len() + 2) else { return Kind::Other };
        let Some((_, rest)) = inner.split_once(tag) else { return Kind::Other };
        self.rest = rest;
        if tag == FUNCTION { Kind::Function } else { Kind::Literal }
    }

    /// A variable `@@a`, a parameter `@a`, or an operator.
    fn at(&mut self) {
        let is_word = |c: char| c == '_' || c.is_alphanumeric();
        match self.rest.chars().nth(1) {
            Some('@') => self.skip(2),
            Some(c) if is_word(c) => self.skip(1),
            Some('?' | '>') => return self.skip(2),
            _ => return self.operator('@'),
        }
        self.skip_while(|c| c.is_ascii() && is_word(c));
        // The first non-ASCII letter ends it.
        self.rest = self.rest.strip_prefix(|c: char| !c.is_ascii() && is_word(c)).unwrap_or(self.rest);
    }

    fn operator(&mut self, first: char) {
        let of_json = ["->>", "->", "#>>", "#>", "#-", "?|", "?&", "<@"];
        if let Some(operator) = of_json.iter().find(|operator| self.rest.starts_with(**operator)) {
            return self.skip(operator.len());
        }
        self.skip(1);
        let mut last = first;
        while let Some(c) = self.rest.chars().next() {
            // `=?` is an operator followed by a parameter.
            if !is_operator(c) || last == '=' && matches!(c, '?' | '@') {
                return;
            }
            last = c;
            self.skip(1);
        }
    }
}

fn is_letter(c: char) -> bool {
    c == '_' || c.is_ascii_alphabetic() || !c.is_ascii() && c.is_alphabetic()
}

fn is_operator(c: char) -> bool {
    matches!(c, '+' | '-' | '*' | '/' | '=' | '<' | '>' | '!' | '&' | '|' | '^' | '%' | '~' | '?' | '@' | ':' | '#')
}

/// Each run of digits becomes one `?`.
fn put_without_digits(out: &mut Vec<u8>, name: &str) -> Result<(), Fault> {
    let mut rest = name;
    while let Some(index) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, digits) = rest.split_at(index);
        put(out, before.as_bytes())?;
        put(out, b"?")?;
        rest = digits.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    put(out, rest.as_bytes())
}
