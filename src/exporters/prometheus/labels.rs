//! The labels of a series, as text in the order of their names, ready to be sent.

use std::cmp::Ordering;
use std::sync::Arc;

use memchr::{memchr, memchr2};

use super::names::{Escaping, is_classic, put_escaped};

/// `name="value",name="value"`. Names with other than the classic characters are quoted too.
#[derive(Clone, Debug)]
pub(super) struct Labels {
    text: Arc<[u8]>,
    count: u32,
    is_classic: bool,
}

/// Why there are no such labels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Unfit {
    /// Two have the same name, perhaps only after translation; or a name is reserved.
    Names,
    TooLong,
}

impl Labels {
    /// Labels from names and values, in any order, of at most so many bytes.
    pub(super) fn new(mut pairs: Vec<(String, Vec<u8>)>, most: usize) -> Result<Labels, Unfit> {
        pairs.sort_unstable();
        let is_twice = pairs.windows(2).any(|two| matches!(two, [(one, _), (other, _)] if one == other));
        if is_twice || pairs.iter().any(|(name, _)| name.starts_with("__")) {
            return Err(Unfit::Names);
        }
        let (mut text, mut all_are_classic) = (Vec::new(), true);
        for (name, value) in &pairs {
            if !text.is_empty() {
                text.push(b',');
            }
            let classic = is_classic(name.as_bytes());
            all_are_classic &= classic;
            put_name(&mut text, name.as_bytes(), classic);
            text.extend_from_slice(b"=\"");
            put_text(&mut text, value, true);
            text.push(b'"');
            if text.len() > most {
                return Err(Unfit::TooLong);
            }
        }
        let count = u32::try_from(pairs.len()).unwrap_or(u32::MAX);
        Ok(Labels { text: text.into(), count, is_classic: all_are_classic })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn length(&self) -> usize {
        self.text.len()
    }

    /// Whether there is a label of this (classic) name.
    pub(super) fn has(&self, wanted: &str) -> bool {
        self.pairs().any(|(name, _)| name == wanted.as_bytes())
    }

    pub(super) fn put(&self, out: &mut Vec<u8>, escaping: Escaping) {
        if self.is_classic || escaping == Escaping::None {
            return out.extend_from_slice(&self.text);
        }
        for (index, (name, value)) in self.pairs().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            let quoted = name.strip_prefix(b"\"").and_then(|name| name.strip_suffix(b"\""));
            let name: Vec<u8> = quoted.map_or_else(|| name.to_vec(), |name| unescaped(name).collect());
            put_escaped(out, &String::from_utf8_lossy(&name), escaping);
            out.extend_from_slice(b"=\"");
            out.extend_from_slice(value);
            out.push(b'"');
        }
    }

    fn values(&self) -> impl Iterator<Item = &[u8]> {
        self.pairs().map(|(_, value)| value)
    }

    /// Names, with their quotes, and values, both as they are written.
    fn pairs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = &*self.text;
        std::iter::from_fn(move || {
            let length = match rest.strip_prefix(b"\"") {
                Some(quoted) => end_of(quoted)? + 2,
                None => memchr(b'=', rest)?,
            };
            let (name, after) = rest.split_at_checked(length)?;
            let after = after.strip_prefix(b"=\"")?;
            let (value, after) = after.split_at_checked(end_of(after)?)?;
            rest = after.get(2..).unwrap_or_default();
            Some((name, value))
        })
    }
}

/// Series come in the order of the number of their labels, then of the labels' values.
impl Ord for Labels {
    fn cmp(&self, other: &Labels) -> Ordering {
        let by_value = |(one, other)| match (one, other) {
            (one, other) if memchr(b'\\', one).or(memchr(b'\\', other)).is_none() => one.cmp(other),
            (one, other) => unescaped(one).cmp(unescaped(other)),
        };
        let by_values = || self.values().zip(other.values()).map(by_value).find(|order| order.is_ne());
        let order = self.count.cmp(&other.count);
        order.then_with(|| by_values().unwrap_or(Ordering::Equal)).then_with(|| self.text.cmp(&other.text))
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Labels) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Labels {
    fn eq(&self, other: &Labels) -> bool {
        self.text == other.text
    }
}

impl Eq for Labels {}

/// The position of the quote that ends a text.
fn end_of(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let found = at + memchr2(b'"', b'\\', text.get(at..)?)?;
        if text.get(found) == Some(&b'"') {
            return Some(found);
        }
        at = found + 2;
    }
}

/// The bytes of a text that was written by `put_text`.
fn unescaped(text: &[u8]) -> impl Iterator<Item = u8> {
    let mut bytes = text.iter().copied();
    std::iter::from_fn(move || match bytes.next()? {
        b'\\' => bytes.next().map(|byte| if byte == b'n' { b'\n' } else { byte }),
        byte => Some(byte),
    })
}

/// Appends a name, with quotes if it needs them.
pub(super) fn put_name(out: &mut Vec<u8>, name: &[u8], is_classic: bool) {
    if is_classic {
        return out.extend_from_slice(name);
    }
    out.push(b'"');
    put_text(out, name, true);
    out.push(b'"');
}

/// Appends text with backslashes before backslashes, line feeds and, if asked to, quotes. Invalid UTF-8 becomes U+FFFD.
pub(super) fn put_text(out: &mut Vec<u8>, text: &[u8], has_quotes: bool) {
    for chunk in text.utf8_chunks() {
        for byte in chunk.valid().bytes() {
            match byte {
                b'\n' => out.extend_from_slice(b"\\n"),
                b'"' if !has_quotes => out.push(byte),
                b'\\' | b'"' => out.extend_from_slice(&[b'\\', byte]),
                _ => out.push(byte),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}
