//! The W3C `tracestate` and its member `ot`, used by OpenTelemetry's samplers: the randomness `rv`, and the threshold
//! `th` below which a span is dropped, both 56 bits in hexadecimal.

use smallvec::SmallVec;

/// A randomness is below this; a threshold of this keeps nothing.
pub(crate) const RANGE: u64 = 1 << 56;
/// Their number of hexadecimal digits.
const DIGITS: usize = 14;

type Pair<'a> = (&'a [u8], &'a [u8]);

/// The content of one tracestate.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TraceState<'a> {
    /// The number, and its text.
    pub(crate) randomness: Option<(u64, &'a [u8])>,
    pub(crate) threshold: Option<(u64, &'a [u8])>,
    /// The other members of `ot`.
    extra: SmallVec<[Pair<'a>; 2]>,
    /// The other vendors' members.
    vendors: SmallVec<[Pair<'a>; 4]>,
}

impl<'a> TraceState<'a> {
    /// `None` if it is not well-formed, or longer than the specification allows.
    pub(crate) fn read(text: &'a [u8]) -> Option<TraceState<'a>> {
        let mut state = TraceState::default();
        if text.is_empty() {
            return Some(state);
        }
        // The Go collector rejects a list of 32 members.
        if text.len() > 1024 || text.split(|byte| *byte == b',').count() >= 32 {
            return None;
        }
        for member in text.split(|byte| *byte == b',') {
            let member = trim(member);
            if member.is_empty() {
                continue;
            }
            let (key, value) = cut(member, b'=')?;
            if !is_key(key) || !is_value(value) {
                return None;
            }
            if key == b"ot" {
                (state.randomness, state.threshold) = (None, None);
                state.extra.clear();
                state.read_ot(value)?;
            } else {
                state.vendors.push((key, value));
            }
        }
        Some(state)
    }

    fn read_ot(&mut self, text: &'a [u8]) -> Option<()> {
        for member in text.split(|byte| *byte == b';') {
            let (key, value) = cut(member, b':')?;
            let is_value = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
            let is_key = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            if !key.first()?.is_ascii_lowercase() || !key.iter().all(is_key) || !value.iter().all(is_value) {
                return None;
            }
            match key {
                b"rv" => self.randomness = Some((randomness(value)?, value)),
                b"th" => self.threshold = Some((threshold(value)?, value)),
                _ => self.extra.push((key, value)),
            }
        }
        Some(())
    }

    /// `ot` first, and in it `rv` and `th`.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let known = [(b"rv", self.randomness), (b"th", self.threshold)];
        let known = known.iter().filter_map(|(key, given)| Some((key.as_slice(), (*given)?.1)));
        let mut separator: &[u8] = b"ot=";
        for (key, value) in known.chain(self.extra.iter().copied()) {
            [separator, key, b":", value].iter().for_each(|piece| out.extend_from_slice(piece));
            separator = b";";
        }
        let mut separator: &[u8] = if separator == b";" { b"," } else { b"" };
        for (key, value) in &self.vendors {
            [separator, key, b"=", value].iter().for_each(|piece| out.extend_from_slice(piece));
            separator = b",";
        }
    }
}

/// Reads an `rv`.
pub(crate) fn randomness(text: &[u8]) -> Option<u64> {
    if text.len() == DIGITS { hexadecimal(text) } else { None }
}

/// Reads a `th`, whose trailing zeros are omitted.
pub(crate) fn threshold(text: &[u8]) -> Option<u64> {
    let missing = DIGITS.checked_sub(text.len())?;
    if text.is_empty() { None } else { Some(hexadecimal(text)? << (4 * missing)) }
}

pub(crate) fn put_randomness(randomness: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{randomness:014x}").as_bytes());
}

/// The shortest form; nothing if it keeps nothing.
pub(crate) fn put_threshold(threshold: u64, out: &mut Vec<u8>) {
    match threshold {
        0 => out.push(b'0'),
        RANGE.. => {}
        _ => out.extend_from_slice(format!("{threshold:014x}").trim_end_matches('0').as_bytes()),
    }
}

fn hexadecimal(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0, |sum, digit| Some(sum << 4 | u64::from((*digit as char).to_digit(16)?)))
}

fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// The text before and after the first `at`.
pub(crate) fn cut(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let (key, rest) = text.split_at_checked(text.iter().position(|byte| *byte == at)?)?;
    Some((key, rest.get(1..)?))
}

/// A vendor's name, or `tenant@vendor`.
fn is_key(key: &[u8]) -> bool {
    let is_name = |name: &[u8], digit_first: bool, most: usize| match name {
        [first, rest @ ..] => {
            let is_start = first.is_ascii_lowercase() || digit_first && first.is_ascii_digit();
            let is_part = |byte: &u8| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-' | b'*' | b'/')
            };
            is_start && rest.iter().all(is_part) && name.len() <= most
        }
        [] => false,
    };
    match cut(key, b'@') {
        Some((tenant, vendor)) => is_name(tenant, true, 241) && is_name(vendor, false, 14),
        None => is_name(key, false, 256),
    }
}

fn is_value(value: &[u8]) -> bool {
    let is_part = |byte: &u8| matches!(byte, 0x20..=0x7e) && !matches!(byte, b',' | b'=');
    value.len() <= 256 && value.iter().all(is_part) && value.last().is_some_and(|last| *last != b' ')
}

/// Whether a member may have this key and this value.
pub(crate) fn is_member(key: &[u8], value: &[u8]) -> bool {
    is_key(key) && is_value(value)
}

/// The value of one member of a well-formed tracestate.
pub(crate) fn member<'a>(text: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    TraceState::read(text)?;
    let mut members = text.split(|byte| *byte == b',').filter_map(|member| cut(trim(member), b'='));
    members.find(|(key, _)| *key == wanted).map(|(_, value)| value)
}
