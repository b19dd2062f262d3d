//! `Format`: Go's `Sprintf` for OTTL's types. Maps and lists print as JSON, where Go prints addresses. Argument indexes
//! (`%[1]d`) are not supported.

use super::{put, time, within_bounds};
use crate::otlp::{hex, number};
use crate::ottl::value::{Fault, Value};

/// Go's limit for a width and a precision.
const WIDEST: i64 = 1_000_000;
/// No double has more digits; Rust's own formatting panics on a precision that does not fit in 16 bits.
const DIGITS: usize = 1100;

pub(super) fn sprintf(format: &[u8], values: &[Value]) -> Result<Vec<u8>, Fault> {
    let mut out = Vec::new();
    let mut rest = format;
    let mut values = values.iter();
    while let Some(at) = memchr::memchr(b'%', rest) {
        let (text, after) = rest.split_at_checked(at).unwrap_or_default();
        put(&mut out, text)?;
        rest = after.get(1..).unwrap_or_default();
        let mut directive = Directive::read(&mut rest, &mut values, &mut out);
        let Some(verb) = next_char(&mut rest) else {
            put(&mut out, b"%!(NOVERB)")?;
            break;
        };
        match (verb, values.as_slice().first()) {
            ('%', _) => out.push(b'%'),
            (verb, None) => out.extend_from_slice(format!("%!{verb}(MISSING)").as_bytes()),
            (verb, Some(value)) => {
                values.next();
                if verb == 'v' {
                    // With `%v` these flags mean something else: Go syntax, and field names.
                    (directive.go_syntax, directive.sharp, directive.plus) = (directive.sharp, false, false);
                }
                if directive.put(verb, value, &mut out)?.is_none() {
                    directive.complain(verb, value, &mut out)?;
                }
            }
        }
        within_bounds(&out)?;
    }
    put(&mut out, rest)?;
    for (index, value) in values.clone().enumerate() {
        out.extend_from_slice(if index == 0 { b"%!(EXTRA " } else { b", " });
        put_with_type(value, &mut out)?;
        within_bounds(&out)?;
    }
    if values.len() > 0 {
        out.push(b')');
    }
    Ok(out)
}

/// The part between `%` and the verb.
#[derive(Default)]
struct Directive {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    /// `%#v`
    go_syntax: bool,
    width: usize,
    precision: Option<usize>,
}

impl Directive {
    fn read(rest: &mut &[u8], values: &mut std::slice::Iter<Value>, out: &mut Vec<u8>) -> Directive {
        let mut directive = Directive::default();
        while let [flag @ (b'-' | b'+' | b'#' | b' ' | b'0'), after @ ..] = *rest {
            match flag {
                b'-' => directive.minus = true,
                b'+' => directive.plus = true,
                b'#' => directive.sharp = true,
                b' ' => directive.space = true,
                _ => directive.zero = true,
            }
            *rest = after;
        }
        let width = read_number(rest, values, out, "%!(BADWIDTH)");
        directive.minus |= width.is_some_and(|width| width < 0);
        directive.zero &= !directive.minus;
        directive.width = width.map_or(0, |width| width.unsigned_abs() as usize);
        if let Some(after) = rest.strip_prefix(b".") {
            *rest = after;
            let precision = read_number(rest, values, out, "%!(BADPREC)");
            directive.precision = precision.map_or(Some(0), |precision| usize::try_from(precision).ok());
        }
        directive
    }

    /// `None` if the verb does not fit this value.
    fn put(&self, verb: char, value: &Value, out: &mut Vec<u8>) -> Result<Option<()>, Fault> {
        match (verb, value) {
            ('T' | 'v', Value::Nil) => self.pad(b"<nil>", out),
            ('T', value) => self.pad(self.cut(go_type(value).as_bytes()), out),
            ('v', Value::String(text)) if self.go_syntax => self.pad(&self.quoted(self.cut(text)), out),
            ('v' | 't', Value::Bool(value)) => self.pad(value.to_string().as_bytes(), out),
            ('v' | 's', Value::String(text)) | ('s', Value::Bytes(text)) => self.pad(self.cut(text), out),
            ('q', Value::String(text) | Value::Bytes(text)) => self.pad(&self.quoted(self.cut(text)), out),
            ('x' | 'X', Value::String(text) | Value::Bytes(text)) => {
                let text = text.get(..self.precision.unwrap_or(usize::MAX).min(text.len())).unwrap_or_default();
                let mut digits = Vec::new();
                for (index, byte) in text.iter().enumerate() {
                    if self.space && index > 0 {
                        digits.push(b' ');
                    }
                    if self.sharp && (index == 0 || self.space) {
                        digits.extend_from_slice(b"0x");
                    }
                    hex::put(&[*byte], &mut digits);
                }
                if verb == 'X' {
                    digits.make_ascii_uppercase();
                }
                self.pad(&digits, out);
            }
            ('v', Value::Bytes([])) if self.go_syntax => out.extend_from_slice(b"[]byte(nil)"),
            ('v', Value::Bytes(bytes)) if self.go_syntax => {
                out.extend_from_slice(b"[]byte{");
                for (index, byte) in bytes.iter().enumerate() {
                    out.extend_from_slice(if index == 0 { b"" } else { b", " });
                    Directive { sharp: true, ..*self }.put_int('x', i64::from(*byte), out);
                    within_bounds(out)?;
                }
                out.push(b'}');
            }
            ('v' | 'd' | 'o' | 'O' | 'b' | 'c' | 'U', Value::Bytes(bytes)) => {
                for (index, byte) in bytes.iter().enumerate() {
                    out.push(if index == 0 { b'[' } else { b' ' });
                    self.put_int(verb, i64::from(*byte), out);
                    within_bounds(out)?;
                }
                out.extend_from_slice(if bytes.is_empty() { b"[]" } else { b"]" });
            }
            (_, Value::Int(value)) => return Ok(self.put_int(verb, *value, out)),
            ('d' | 'x' | 'X' | 'o' | 'b', Value::Duration(nanos)) => return Ok(self.put_int(verb, *nanos, out)),
            (_, Value::Double(value)) => return Ok(self.put_double(verb, *value, out)),
            (
                'v' | 's',
                Value::Time(_)
                | Value::Duration(_)
                | Value::TraceId(_)
                | Value::SpanId(_)
                | Value::List(_)
                | Value::Map(_)
                | Value::Whole(..),
            ) => {
                let mut text = Vec::new();
                put_plain(value, &mut text)?;
                self.pad(&text, out);
            }
            (_, Value::Bytes(bytes)) => {
                for (index, byte) in bytes.iter().enumerate() {
                    out.extend_from_slice(if index == 0 { b"[" } else { b" " });
                    out.extend_from_slice(format!("%!{verb}(uint8=").as_bytes());
                    self.put_int('v', i64::from(*byte), out);
                    out.push(b')');
                    within_bounds(out)?;
                }
                out.extend_from_slice(if bytes.is_empty() { b"[]" } else { b"]" });
            }
            _ => return Ok(None),
        }
        Ok(Some(()))
    }

    /// The error text for a wrong verb: `%!d(string=a)`, the value with the given flags.
    fn complain(&self, verb: char, value: &Value, out: &mut Vec<u8>) -> Result<(), Fault> {
        out.extend_from_slice(format!("%!{verb}({}", go_type(value)).as_bytes());
        if !matches!(value, Value::Nil) {
            out.push(b'=');
            self.put('v', value, out)?;
        }
        out.push(b')');
        Ok(())
    }

    fn put_int(&self, verb: char, value: i64, out: &mut Vec<u8>) -> Option<()> {
        let size = value.unsigned_abs();
        let (prefix, digits) = match verb {
            'v' | 'd' => ("", size.to_string()),
            'x' => ("0x", format!("{size:x}")),
            'X' => ("0X", format!("{size:X}")),
            'o' => ("0", format!("{size:o}")),
            'O' => ("0o", format!("{size:o}")),
            'b' => ("0b", format!("{size:b}")),
            'U' => {
                let c = u32::try_from(value).ok().and_then(char::from_u32).filter(|c| self.sharp && is_printable(*c));
                let c = c.map_or_else(String::new, |c| format!(" '{c}'"));
                let digits = format!("{value:X}");
                let zeros = "0".repeat(self.precision.unwrap_or(0).max(4).saturating_sub(digits.len()));
                Directive { zero: false, ..*self }.pad(format!("U+{zeros}{digits}{c}").as_bytes(), out);
                return Some(());
            }
            'c' | 'q' => {
                let c = u32::try_from(value).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER);
                let c = if verb == 'c' { c.to_string() } else { format!("'{}'", go_escaped(c, '\'', self.plus)) };
                self.pad(c.as_bytes(), out);
                return Some(());
            }
            _ => return None,
        };
        if self.precision == Some(0) && value == 0 {
            Directive { zero: false, ..*self }.pad(b"", out);
            return Some(());
        }
        let sign = self.sign(value < 0);
        let shortest = self.precision.unwrap_or(if self.zero { self.width.saturating_sub(sign.len()) } else { 0 });
        let zeros = "0".repeat(shortest.saturating_sub(digits.len()));
        let digits = format!("{zeros}{digits}");
        let prefix = match (verb, self.sharp && !(matches!(verb, 'o' | 'O') && digits.starts_with('0'))) {
            ('O', true) => "0o0",
            ('O', false) => "0o",
            (_, true) => prefix,
            (_, false) => "",
        };
        Directive { zero: false, ..*self }.pad(format!("{sign}{prefix}{digits}").as_bytes(), out);
        Some(())
    }

    fn put_double(&self, verb: char, value: f64, out: &mut Vec<u8>) -> Option<()> {
        let size = value.abs();
        let digits = match (verb, self.precision) {
            ('v' | 'g' | 'G' | 'e' | 'E' | 'f' | 'F' | 'x' | 'X' | 'b', _) if !value.is_finite() => {
                let sign = if value.is_nan() {
                    self.sign(false)
                } else if value < 0.0 {
                    "-"
                } else {
                    "+"
                };
                let name = if value.is_nan() { "NaN" } else { "Inf" };
                Directive { zero: false, ..*self }.pad(format!("{sign}{name}").as_bytes(), out);
                return Some(());
            }
            ('v' | 'g' | 'G', None) => {
                let mut digits = Vec::new();
                number::put_general(&mut digits, size);
                String::from_utf8_lossy(&digits).into_owned()
            }
            ('v' | 'g' | 'G', Some(precision)) => significant(size, precision.clamp(1, DIGITS)),
            ('e' | 'E' | 'f' | 'F', precision) => {
                let precision = precision.unwrap_or(6);
                let (digits, zeros) = (precision.min(DIGITS), "0".repeat(precision.saturating_sub(DIGITS)));
                match verb {
                    'e' | 'E' => with_exponent(&format!("{size:.digits$e}").replace('e', &format!("{zeros}e"))),
                    _ => format!("{size:.digits$}{zeros}"),
                }
            }
            ('x' | 'X', precision) => hexadecimal(size, precision),
            ('b', _) => binary(size),
            _ => return None,
        };
        let digits = if self.sharp && verb != 'b' { self.with_point(verb, &digits) } else { digits };
        let digits = if verb.is_ascii_uppercase() { digits.to_ascii_uppercase() } else { digits };
        let sign = self.sign(value.is_sign_negative());
        let zeros = if self.zero { self.width.saturating_sub(sign.len() + digits.len()) } else { 0 };
        Directive { zero: false, ..*self }.pad(format!("{sign}{}{digits}", "0".repeat(zeros)).as_bytes(), out);
        Some(())
    }

    /// `%#g`: always with a point, and with trailing zeros.
    fn with_point(&self, verb: char, digits: &str) -> String {
        let at = digits.find(if matches!(verb, 'x' | 'X') { 'p' } else { 'e' }).unwrap_or(digits.len());
        let (number, exponent) = digits.split_at_checked(at).unwrap_or_default();
        let point = if number.contains('.') { "" } else { "." };
        let leading = if number == "0" { 0 } else { number.chars().take_while(|c| matches!(c, '0' | '.')).count() };
        let has = number.chars().skip(leading).filter(|c| *c != '.').count();
        let wants = if matches!(verb, 'v' | 'g' | 'G' | 'x') { self.precision.unwrap_or(6) } else { 0 };
        format!("{number}{point}{}{exponent}", "0".repeat(wants.saturating_sub(has)))
    }

    fn quoted(&self, text: &[u8]) -> Vec<u8> {
        let is_plain = |c: char| (!c.is_control() || c == '\t') && !matches!(c, '`' | '\u{feff}');
        if self.sharp && std::str::from_utf8(text).is_ok_and(|text| text.chars().all(is_plain)) {
            return [b"`", text, b"`"].concat();
        }
        let mut out = vec![b'"'];
        for chunk in text.utf8_chunks() {
            chunk.valid().chars().for_each(|c| out.extend_from_slice(go_escaped(c, '"', self.plus).as_bytes()));
            chunk.invalid().iter().for_each(|byte| out.extend_from_slice(format!("\\x{byte:02x}").as_bytes()));
        }
        out.push(b'"');
        out
    }

    fn sign(&self, is_negative: bool) -> &'static str {
        match (is_negative, self.plus, self.space) {
            (true, ..) => "-",
            (_, true, _) => "+",
            (_, _, true) => " ",
            _ => "",
        }
    }

    /// A text cut to the precision, in characters.
    fn cut<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        let starts = text.iter().enumerate().filter(|(_, byte)| **byte & 0xc0 != 0x80).map(|(at, _)| at);
        let end = self.precision.and_then(|precision| starts.clone().nth(precision));
        end.and_then(|end| text.get(..end)).unwrap_or(text)
    }

    fn pad(&self, text: &[u8], out: &mut Vec<u8>) {
        let chars = text.iter().filter(|byte| **byte & 0xc0 != 0x80).count();
        let padding = std::iter::repeat_n(if self.zero { b'0' } else { b' ' }, self.width.saturating_sub(chars));
        if self.minus {
            out.extend_from_slice(text);
            out.extend(padding);
        } else {
            out.extend(padding);
            out.extend_from_slice(text);
        }
    }
}

/// A width or a precision: digits, or `*` for the next value.
fn read_number(
    rest: &mut &[u8],
    values: &mut std::slice::Iter<Value>,
    out: &mut Vec<u8>,
    complaint: &str,
) -> Option<i64> {
    if let Some(after) = rest.strip_prefix(b"*") {
        *rest = after;
        return match values.next() {
            Some(Value::Int(value)) if value.unsigned_abs() <= WIDEST as u64 => Some(*value),
            _ => {
                out.extend_from_slice(complaint.as_bytes());
                None
            }
        };
    }
    let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, after) = rest.split_at_checked(length)?;
    let number = std::str::from_utf8(digits).ok()?.parse::<i64>().ok();
    *rest = after;
    number.filter(|number| *number <= WIDEST)
}

fn next_char(rest: &mut &[u8]) -> Option<char> {
    let chunk = rest.utf8_chunks().next()?;
    let c = chunk.valid().chars().next();
    *rest = rest.get(c.map_or(1, char::len_utf8)..).unwrap_or_default();
    Some(c.unwrap_or(char::REPLACEMENT_CHARACTER))
}

/// `2.50e+00` from Rust's `2.50e0`.
fn with_exponent(text: &str) -> String {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.unsigned_abs())
}

/// `%.3g`: that many significant digits, without trailing zeros.
fn significant(value: f64, digits: usize) -> String {
    let trimmed = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    let text = format!("{value:.*e}", digits - 1);
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i64 = exponent.parse().unwrap_or(0);
    if exponent < -4 || exponent >= digits as i64 {
        return with_exponent(&format!("{}e{exponent}", trimmed(mantissa)));
    }
    trimmed(&format!("{value:.*}", usize::try_from(digits as i64 - 1 - exponent).unwrap_or(0)))
}

/// The 53 bits of a double, the highest one set except for 0, and its exponent.
fn parts(value: f64) -> (u64, i32) {
    let bits = value.to_bits();
    let (exponent, mantissa) = ((bits >> 52 & 0x7ff) as i32, bits & ((1 << 52) - 1));
    match (exponent, mantissa) {
        (0, 0) => (0, 0),
        (0, _) => (mantissa << (mantissa.leading_zeros() - 11), -1011 - mantissa.leading_zeros() as i32),
        _ => (mantissa | 1 << 52, exponent - 1023),
    }
}

/// `0x1.8p+01`; rounded to the nearest, ties to even.
fn hexadecimal(value: f64, precision: Option<usize>) -> String {
    let (mut mantissa, mut exponent) = parts(value);
    let cut = 4 * 13_usize.saturating_sub(precision.unwrap_or(13));
    let (half, rest) = ((1_u64 << cut) >> 1, mantissa & ((1 << cut) - 1));
    mantissa -= rest;
    if rest > half || (half > 0 && rest == half && mantissa >> cut & 1 == 1) {
        mantissa += 1 << cut;
    }
    if mantissa >> 53 == 1 {
        (mantissa, exponent) = (mantissa >> 1, exponent + 1);
    }
    let mut digits = format!("{:013x}", mantissa & ((1 << 52) - 1));
    match precision {
        None => digits.truncate(digits.trim_end_matches('0').len()),
        Some(precision) => {
            digits.truncate(precision);
            digits.push_str(&"0".repeat(precision - digits.len()));
        }
    }
    let point = if digits.is_empty() { "" } else { "." };
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("0x{}{point}{digits}p{sign}{:02}", mantissa >> 52, exponent.unsigned_abs())
}

/// `4503599627370496p-52`: an integer mantissa and a power of two.
fn binary(value: f64) -> String {
    let bits = value.to_bits();
    let (exponent, mantissa) = (bits >> 52 & 0x7ff, bits & ((1 << 52) - 1));
    let hidden = if exponent == 0 { 0 } else { 1 << 52 };
    format!("{}p{:+}", mantissa | hidden, exponent.max(1) as i64 - 1075)
}

/// A character in Go's quoted form; with `ascii`, non-ASCII ones as escapes.
fn go_escaped(c: char, quote: char, ascii: bool) -> String {
    match c {
        '\x07' => "\\a".into(),
        '\x08' => "\\b".into(),
        '\x0b' => "\\v".into(),
        '\x0c' => "\\f".into(),
        '\n' => "\\n".into(),
        '\r' => "\\r".into(),
        '\t' => "\\t".into(),
        _ if c == quote || c == '\\' => format!("\\{c}"),
        '\0'..' ' | '\x7f' => format!("\\x{:02x}", u32::from(c)),
        '\u{10000}'.. if ascii || !is_printable(c) => format!("\\U{:08x}", u32::from(c)),
        _ if !is_printable(c) || (ascii && !c.is_ascii()) => format!("\\u{:04x}", u32::from(c)),
        _ => c.to_string(),
    }
}

/// Whether Go prints a character in quotes unescaped; the letter before it keeps a combining mark from being alone.
fn is_printable(c: char) -> bool {
    !c.is_control() && format!("a{c}").escape_debug().nth(2) != Some('u')
}

fn go_type(value: &Value) -> &'static str {
    if matches!(value, Value::Nil) { "<nil>" } else { value.type_name() }
}

fn put_with_type(value: &Value, out: &mut Vec<u8>) -> Result<(), Fault> {
    out.extend_from_slice(go_type(value).as_bytes());
    if matches!(value, Value::Nil) {
        return Ok(());
    }
    out.push(b'=');
    put_plain(value, out)
}

/// `%v`
fn put_plain(value: &Value, out: &mut Vec<u8>) -> Result<(), Fault> {
    match value {
        Value::Time(at) => time::put_time(*at, out)?,
        Value::Duration(nanos) => out.extend_from_slice(time::format_duration(*nanos).as_bytes()),
        Value::TraceId(id) => number::put_id(out, id),
        Value::SpanId(id) => number::put_id(out, id),
        Value::Double(value) => number::put_general(out, *value),
        Value::Bytes(bytes) => {
            let numbers: Vec<_> = bytes.iter().map(u8::to_string).collect();
            out.extend_from_slice(format!("[{}]", numbers.join(" ")).as_bytes());
        }
        other => other.put_as_string(out),
    }
    Ok(())
}
