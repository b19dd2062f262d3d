//! Go's regular expressions and globs, translated for the `regex` crate.
//!
//! RE2's syntax is almost the crate's; the differences are rewritten: perl classes are ASCII, a `{` that opens no
//! repetition is a brace, an escaped character is literal, sets have no operators, a repetition is at most 1000.

mod computed;
mod search;

use std::str::Chars;

use regex::bytes::{Captures, RegexBuilder};

use super::functions::put;
use super::value::Fault;
pub(super) use computed::{Computed, Found};
pub(crate) use search::Pattern;

/// Maximum size of a compiled pattern in bytes.
const SIZE: usize = 2 << 20;
const NEST: u32 = 100;
/// RE2's limit.
const REPETITIONS: u32 = 1000;

/// Compiles a regular expression in Go's syntax. The error says why it is invalid.
pub(crate) fn compile(pattern: &str) -> Result<Pattern, String> {
    build(&translated(pattern)?, SIZE)
}

fn translated(pattern: &str) -> Result<String, String> {
    Translator { rest: pattern.chars(), out: String::with_capacity(pattern.len() + 8) }.translate()
}

/// Compiles a glob: `*` and `**` match any text, `?` one character, `[a-z]`, `[!abc]`, `{a,b}`; `\` makes the next
/// character literal.
pub(super) fn glob(pattern: &str) -> Result<Pattern, String> {
    build(&translated_glob(pattern)?, SIZE)
}

fn translated_glob(pattern: &str) -> Result<String, String> {
    let mut out = String::from("\\A");
    let mut rest = pattern.chars();
    let mut open = 0;
    while let Some(c) = rest.next() {
        match c {
            '*' => out.push_str("(?s-u:.)*"),
            '?' => out.push_str("(?s:.)"),
            '[' => glob_set(&mut rest, &mut out).ok_or("a set that is not closed, or holds more than one range")?,
            '{' => {
                open += 1;
                out.push_str("(?:");
            }
            ',' if open > 0 => out.push('|'),
            '}' if open > 0 => {
                open -= 1;
                out.push(')');
            }
            '\\' => push_literal(&mut out, rest.next().unwrap_or_default()),
            _ => push_literal(&mut out, c),
        }
    }
    out.extend(std::iter::repeat_n(')', open));
    Ok(out + "\\z")
}

/// The rest of a glob's set: one range, or a list of characters.
fn glob_set(rest: &mut Chars, out: &mut String) -> Option<()> {
    let (set, after) = rest.as_str().split_once(']')?;
    let negated = set.strip_prefix('!');
    let mut inside = negated.unwrap_or(set).chars();
    out.push_str(if negated.is_some() { "[^" } else { "[" });
    match (inside.next()?, inside.next(), inside.next(), inside.next()) {
        (low, Some('-'), Some(high), None) if low <= high => {
            push_literal(out, low);
            out.push('-');
            push_literal(out, high);
        }
        (_, Some('-'), ..) => return None,
        _ => negated.unwrap_or(set).chars().filter(|c| *c != '\\').for_each(|c| push_literal(out, c)),
    }
    out.push(']');
    *rest = after.chars();
    Some(())
}

#[expect(clippy::disallowed_methods, reason = "the one place: what it builds was translated from Go's syntax")]
fn build(pattern: &str, size: usize) -> Result<Pattern, String> {
    let mut builder = RegexBuilder::new(pattern);
    builder.size_limit(size).dfa_size_limit(size).nest_limit(NEST);
    builder.build().map(Pattern::from).map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "it is too large when compiled".to_owned(),
        // The crate's message has a picture of several lines; its last line states the error.
        other => other.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    })
}

struct Translator<'p> {
    rest: Chars<'p>,
    out: String,
}

impl Translator<'_> {
    fn translate(mut self) -> Result<String, String> {
        let mut after_repetition = false;
        while let Some(c) = self.rest.next() {
            let was_after_repetition = std::mem::take(&mut after_repetition);
            match c {
                '\\' if self.pass("Q") => {
                    let (literal, after) = self.rest.as_str().split_once("\\E").unwrap_or((self.rest.as_str(), ""));
                    literal.chars().for_each(|c| push_literal(&mut self.out, c));
                    self.rest = after.chars();
                }
                '\\' => self.escape(false)?,
                '[' => self.set()?,
                '(' => self.group()?,
                '.' | '^' | '$' | '|' | ')' => self.out.push(c),
                '*' | '+' | '?' | '{' => {
                    let Some(repetition) = self.repetition(c)? else {
                        push_literal(&mut self.out, c);
                        continue;
                    };
                    if was_after_repetition {
                        return Err(format!("invalid nested repetition operator: `{repetition}`"));
                    }
                    self.out.push_str(&repetition);
                    if self.pass("?") {
                        self.out.push('?');
                    }
                    after_repetition = true;
                }
                _ => push_literal(&mut self.out, c),
            }
        }
        Ok(self.out)
    }

    /// Consumes `word` if it is next.
    fn pass(&mut self, word: &str) -> bool {
        let after = self.rest.as_str().strip_prefix(word);
        if let Some(after) = after {
            self.rest = after.chars();
        }
        after.is_some()
    }

    /// `None` for a literal brace.
    fn repetition(&mut self, first: char) -> Result<Option<String>, String> {
        if first != '{' {
            return Ok(Some(first.to_string()));
        }
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty();
        let Some((inside, after)) = self.rest.as_str().split_once('}') else { return Ok(None) };
        let (low, high) = inside.split_once(',').unwrap_or((inside, inside));
        if !number(low) || !(number(high) || high.is_empty()) {
            return Ok(None);
        }
        let bound = |text: &str| text.parse().unwrap_or(u32::MAX);
        if bound(low) > REPETITIONS || !high.is_empty() && (bound(high) > REPETITIONS || bound(low) > bound(high)) {
            return Err(format!("invalid repeat count: `{{{inside}}}`"));
        }
        let repetition = format!("{{{inside}}}");
        self.rest = after.chars();
        Ok(Some(repetition))
    }

    /// Translates the start of a group: nothing, a name, or flags.
    fn group(&mut self) -> Result<(), String> {
        self.out.push('(');
        if !self.pass("?") {
            return Ok(());
        }
        let rest = self.rest.as_str();
        let wrong = || format!("invalid or unsupported Perl syntax: `(?{}`", rest.chars().take(2).collect::<String>());
        let end = if rest.starts_with(['P', '<']) { rest.find('>') } else { rest.find([':', ')']) };
        let (head, _) = rest.split_at_checked(end.ok_or_else(wrong)? + 1).ok_or_else(wrong)?;
        let is_name = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let name = head.strip_prefix("P<").or_else(|| head.strip_prefix('<')).and_then(|name| name.strip_suffix('>'));
        let flags = head.trim_end_matches([':', ')']);
        let is_sound = name.map_or_else(|| flags.chars().all(|flag| "imsU-".contains(flag)), is_name);
        if !is_sound {
            return Err(wrong());
        }
        self.out.push('?');
        self.out.push_str(head);
        self.pass(head);
        Ok(())
    }

    /// Translates an escape after its backslash.
    fn escape(&mut self, in_set: bool) -> Result<(), String> {
        let mut after = self.rest.clone();
        let c = after.next().ok_or("trailing backslash at end of expression")?;
        let (open, close) = if in_set { ("", "") } else { ("[", "]") };
        let class = match c.to_ascii_lowercase() {
            'd' => "0-9",
            's' => "\\t\\n\\f\\r ",
            'w' => "0-9A-Za-z_",
            _ => "",
        };
        match c {
            _ if !class.is_empty() && c.is_ascii_uppercase() => self.out.push_str(&format!("[^{class}]")),
            _ if !class.is_empty() => self.out.push_str(&format!("{open}{class}{close}")),
            'A' | 'z' if !in_set => self.out.push_str(if c == 'A' { "\\A" } else { "\\z" }),
            'b' | 'B' if !in_set => self.out.push_str(if c == 'b' { "(?-u:\\b)" } else { "(?-u:\\B)" }),
            'p' | 'P' => {
                let inside = after.as_str().strip_prefix('{').and_then(|rest| rest.split_once('}'));
                let (name, rest) = match inside {
                    Some((name, rest)) => (name.to_owned(), rest.chars()),
                    None => (after.next().map(String::from).unwrap_or_default(), after.clone()),
                };
                let negated = name.starts_with('^') != (c == 'P');
                let name = name.trim_start_matches('^');
                self.out.push_str(&format!("\\{}{{{name}}}", if negated { 'P' } else { 'p' }));
                self.rest = rest;
                return Ok(());
            }
            _ => {
                let literal = self.escaped()?;
                push_literal(&mut self.out, literal);
                return Ok(());
            }
        }
        self.rest = after;
        Ok(())
    }

    /// The character that an escape denotes.
    fn escaped(&mut self) -> Result<char, String> {
        let c = self.rest.next().ok_or("trailing backslash at end of expression")?;
        let wrong = || format!("invalid escape sequence: `\\{c}`");
        let digits =
            |rest: &str, most: usize, base: u32| rest.chars().take(most).take_while(|c| c.is_digit(base)).count();
        let code = match c {
            'a' => 7,
            'f' => 12,
            'n' => 10,
            'r' => 13,
            't' => 9,
            'v' => 11,
            'x' => {
                let rest = self.rest.as_str();
                let (text, after) = match rest.strip_prefix('{') {
                    Some(inside) => inside.split_once('}').ok_or_else(wrong)?,
                    None => rest.split_at_checked(2).ok_or_else(wrong)?,
                };
                let code = u32::from_str_radix(text, 16).map_err(|_| wrong())?;
                self.rest = after.chars();
                code
            }
            '0'..='7' => {
                let more = digits(self.rest.as_str(), 2, 8);
                if c != '0' && more == 0 {
                    return Err(wrong());
                }
                let more = self.rest.by_ref().take(more);
                more.fold(u32::from(c) - 48, |code, c| code * 8 + u32::from(c) - 48)
            }
            _ if c.is_ascii_punctuation() || c == ' ' => u32::from(c),
            _ => return Err(wrong()),
        };
        char::from_u32(code).ok_or_else(wrong)
    }

    /// Translates a set after its opening bracket.
    fn set(&mut self) -> Result<(), String> {
        const OPEN: &str = "missing closing ]";
        let is_negated = self.pass("^");
        self.out.push_str(if is_negated { "[^" } else { "[" });
        let mut is_first = true;
        loop {
            if !is_first && self.pass("]") {
                self.out.push(']');
                return Ok(());
            }
            is_first = false;
            let rest = self.rest.as_str();
            if let Some((name, after)) = rest.strip_prefix("[:").and_then(|rest| rest.split_once(":]")) {
                self.out.push_str(&format!("[:{name}:]"));
                self.rest = after.chars();
                continue;
            }
            if rest.strip_prefix('\\').is_some_and(|rest| rest.starts_with(['d', 'D', 's', 'S', 'w', 'W', 'p', 'P'])) {
                self.pass("\\");
                self.escape(true)?;
                continue;
            }
            let low = self.member(OPEN)?;
            push_literal(&mut self.out, low);
            let mut after = self.rest.clone();
            if (after.next(), after.next().is_some_and(|c| c != ']')) == (Some('-'), true) {
                self.pass("-");
                let high = self.member(OPEN)?;
                if high < low {
                    return Err(format!("invalid character class range: `{low}-{high}`"));
                }
                self.out.push('-');
                push_literal(&mut self.out, high);
            }
        }
    }

    fn member(&mut self, open: &str) -> Result<char, String> {
        if self.pass("\\") { self.escaped() } else { self.rest.next().ok_or_else(|| open.to_owned()) }
    }
}

fn push_literal(out: &mut String, c: char) {
    if c.is_ascii_punctuation() || c.is_control() {
        out.push_str(&format!("\\x{{{:x}}}", u32::from(c)));
    } else {
        out.push(c);
    }
}

/// Appends `template` with `$1`, `${1}`, `$name`, `${name}` and `$$` expanded, as in Go's `Expand`.
pub(crate) fn expand(template: &[u8], captures: &Captures, out: &mut Vec<u8>) -> Result<(), Fault> {
    let mut rest = template;
    while let Some(at) = memchr::memchr(b'$', rest) {
        let (before, after) = rest.split_at_checked(at).unwrap_or_default();
        put(out, before)?;
        let after = after.get(1..).unwrap_or_default();
        if let Some(after) = after.strip_prefix(b"$") {
            put(out, b"$")?;
            rest = after;
            continue;
        }
        let braced = after.strip_prefix(b"{");
        let from = braced.unwrap_or(after);
        let length = from.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
        let (name, end) = from.split_at_checked(length).unwrap_or_default();
        let end = if braced.is_some() { end.strip_prefix(b"}") } else { Some(end) };
        let (Some(end), Ok(name), true) = (end, std::str::from_utf8(name), length > 0) else {
            put(out, b"$")?;
            rest = after;
            continue;
        };
        let index = name.parse::<usize>().ok().filter(|_| name.len() == 1 || !name.starts_with('0'));
        let group = index.map_or_else(|| captures.name(name), |index| captures.get(index));
        put(out, group.map_or(&[], |group| group.as_bytes()))?;
        rest = end;
    }
    put(out, rest)
}
