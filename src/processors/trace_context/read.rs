//! The formats in which trace and span ids are written, and where bodies contain them.

use crate::otlp::hex;
use crate::otlp::json::scanner::{Read, Scanner};
use crate::otlp::schema::list;
use crate::otlp::views::{AnyValue, KeyValue, Repeated};

/// The content of one value: the trace, and for a `traceparent` also the span and the flags.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Context {
    pub(super) trace_id: [u8; 16],
    pub(super) span_id: Option<[u8; 8]>,
    pub(super) flags: Option<u8>,
}

/// 32 hexadecimal digits, a W3C `traceparent`, a UUID with dashes, a decimal number of 64 bits (Datadog's), Google's
/// `projects/P/traces/ID`, or the 16 raw bytes. An id of zeros is invalid.
pub(super) fn read_trace_id(value: AnyValue) -> Option<Context> {
    let whole = |id: Option<[u8; 16]>| Some(Context { trace_id: id?, span_id: None, flags: None });
    let text = match value {
        AnyValue::String(text) => text.trim_ascii(),
        AnyValue::Bytes(bytes) => return whole(is_set(bytes.try_into().ok()?)),
        AnyValue::Int(number) => return whole(of_number(u64::try_from(number).ok()?)),
        _ => return None,
    };
    let text = match text.strip_prefix(b"projects/") {
        Some(rest) => rest.get(memchr::memmem::find(rest, b"/traces/")? + 8..)?,
        None => text,
    };
    match text.len() {
        32 => whole(digits(text)),
        36 => {
            let dashes = [8, 13, 18, 23].iter().all(|at| text.get(*at) == Some(&b'-'));
            let without: Vec<u8> = text.iter().copied().filter(|byte| *byte != b'-').collect();
            whole(digits(&without).filter(|_| dashes))
        }
        55.. => traceparent(text),
        _ => whole(of_number(decimal(text)?)),
    }
}

/// 16 hexadecimal digits, a decimal number, a `traceparent`, or the 8 raw bytes.
pub(super) fn read_span_id(value: AnyValue, decimal_first: bool) -> Option<[u8; 8]> {
    match value {
        AnyValue::String(text) => {
            let text = text.trim_ascii();
            let of_decimal = || is_set(decimal(text)?.to_be_bytes());
            match text.len() {
                16 if decimal_first => of_decimal().or_else(|| digits(text)),
                16 => digits(text),
                55.. => traceparent(text)?.span_id,
                _ => of_decimal(),
            }
        }
        AnyValue::Bytes(bytes) => is_set(bytes.try_into().ok()?),
        AnyValue::Int(number) => is_set(u64::try_from(number).ok()?.to_be_bytes()),
        _ => None,
    }
}

/// Two hexadecimal digits, a number, or a boolean.
pub(super) fn read_flags(value: AnyValue) -> Option<u8> {
    match value {
        AnyValue::Bool(is_sampled) => Some(u8::from(is_sampled)),
        AnyValue::Int(number) => u8::try_from(number).ok(),
        AnyValue::String(text) => match text.trim_ascii() {
            text if text.eq_ignore_ascii_case(b"true") => Some(1),
            text if text.eq_ignore_ascii_case(b"false") => Some(0),
            text @ [_, _] => digits::<1>(text).map(|[flags]| flags).or(Some(0)),
            text => u8::try_from(decimal(text)?).ok(),
        },
        _ => None,
    }
}

/// `00-TRACE-SPAN-FLAGS`; later versions may continue after another dash.
fn traceparent(text: &[u8]) -> Option<Context> {
    let mut parts = text.split(|byte| *byte == b'-');
    let (version, trace_id, span_id, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let version = u8::from_str_radix(str::from_utf8(version).ok().filter(|text| text.len() == 2)?, 16).ok()?;
    if version == 0xff || version == 0 && parts.next().is_some() {
        return None;
    }
    let flags = u8::from_str_radix(str::from_utf8(flags).ok().filter(|text| text.len() == 2)?, 16).ok()?;
    Some(Context { trace_id: digits(trace_id)?, span_id: digits(span_id), flags: Some(flags) })
}

/// Exactly `LENGTH` bytes in hexadecimal, not all of them zero.
fn digits<const LENGTH: usize>(text: &[u8]) -> Option<[u8; LENGTH]> {
    let mut bytes = Vec::with_capacity(LENGTH);
    hex::read(text, LENGTH, &mut bytes)?;
    is_set(bytes.try_into().ok()?)
}

fn decimal(text: &[u8]) -> Option<u64> {
    let is_number = text.len() <= 20 && text.iter().all(u8::is_ascii_digit);
    str::from_utf8(text).ok().filter(|_| is_number)?.parse().ok()
}

/// A trace id with the number in its lower half.
fn of_number(number: u64) -> Option<[u8; 16]> {
    is_set(u128::from(number).to_be_bytes())
}

fn is_set<const LENGTH: usize>(id: [u8; LENGTH]) -> Option<[u8; LENGTH]> {
    id.iter().any(|byte| *byte != 0).then_some(id)
}

/// Calls `see` for the top-level keys of a body that is a map, or a text that is a JSON object.
pub(super) fn each_key(body: AnyValue, mut see: impl FnMut(&[u8], AnyValue)) {
    match body {
        AnyValue::Map(entries) => {
            for pair in Repeated::of(entries, list::VALUES).map(KeyValue::read) {
                see(pair.key, pair.value);
            }
        }
        AnyValue::String(text) if text.trim_ascii_start().first() == Some(&b'{') => {
            // If it turns out not to be JSON, the rest is ignored.
            let _ = each_member(&mut Scanner::new(text), &mut see);
        }
        _ => {}
    }
}

fn each_member(scanner: &mut Scanner, see: &mut impl FnMut(&[u8], AnyValue)) -> Read<()> {
    scanner.expect(b'{', "an object")?;
    while scanner.peek() != b'}' {
        let key = scanner.key()?;
        match scanner.peek() {
            b'"' => see(&key, AnyValue::String(&scanner.string("text")?.text()?)),
            b'-' | b'0'..=b'9' => see(&key, AnyValue::String(scanner.number("a number")?)),
            _ if scanner.word("true") => see(&key, AnyValue::Bool(true)),
            _ => scanner.skip()?,
        }
        if scanner.peek() != b',' {
            break;
        }
        scanner.expect(b',', "a member")?;
    }
    Ok(())
}
