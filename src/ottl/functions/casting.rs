//! Type conversions.

use super::{CONVERTED, TARGET, TEXT, function, made, required};
use crate::otlp::hex;
use crate::ottl::function::{Arguments, Function, Kind};
use crate::ottl::scene::Scene;
use crate::ottl::value::{Fault, Value};

pub(super) const TABLE: &[Function] = &[
    function("Bool", &[CONVERTED], to_bool),
    function("Double", &[CONVERTED], |arguments, scene| {
        Ok(double(arguments.value(0, scene)?)?.map_or(Value::Nil, Value::Double))
    }),
    function("Hex", &[CONVERTED], |arguments, scene| {
        let mut digits = Vec::new();
        hex::put(bytes(arguments.value(0, scene)?, &mut [0; 8])?, &mut digits);
        made(scene.arena, &digits)
    }),
    function("Int", &[CONVERTED], int),
    function("Log", &[TARGET], |arguments, scene| match double(arguments.value(0, scene)?)? {
        None => Err(Fault::new("invalid input: <nil>")),
        Some(value) if value <= 0.0 => {
            Err(Fault::new(format!("invalid input: expected number greater than zero but got {value}")))
        }
        Some(value) => Ok(Value::Double(value.ln())),
    }),
    function("ParseInt", &[TEXT, required("base", Kind::Int)], parse_int),
    function("String", &[TARGET], |arguments, scene| {
        Ok(arguments.text_like(0, scene)?.map_or(Value::Nil, Value::String))
    }),
];

fn to_bool<'a>(arguments: &'a Arguments, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
    Ok(Value::Bool(match arguments.value(0, scene)? {
        Value::Nil => return Ok(Value::Nil),
        Value::Bool(value) => value,
        Value::Int(value) => value != 0,
        Value::Double(value) => value != 0.0,
        Value::String(b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True") => true,
        Value::String(b"0" | b"f" | b"F" | b"false" | b"FALSE" | b"False") => false,
        Value::String(text) => return Err(unreadable("ParseBool", text, "invalid syntax")),
        other => return Err(other.unsupported()),
    }))
}

fn int<'a>(arguments: &'a Arguments, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
    Ok(Value::Int(match arguments.value(0, scene)? {
        Value::Nil => return Ok(Value::Nil),
        Value::Bool(value) => i64::from(value),
        Value::Int(value) => value,
        Value::String(text) => integer(text, 10)?,
        // Go's result for a double that does not fit.
        Value::Double(value) if !(-(2f64.powi(63))..2f64.powi(63)).contains(&value) => i64::MIN,
        Value::Double(value) => value as i64,
        other => return Err(other.unsupported()),
    }))
}

fn parse_int<'a>(arguments: &'a Arguments, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
    let text = arguments.text(0, scene)?;
    if text.is_empty() {
        return Err(Fault::new("invalid target value for ParseInt function, target cannot be empty"));
    }
    match arguments.int(1, scene)? {
        base @ ..0 => {
            Err(Fault::new(format!("invalid base value: {base} for ParseInt function, base cannot be negative")))
        }
        base @ (0 | 2..=36) => integer(text, base as u32).map(Value::Int),
        base => Err(unreadable("ParseInt", text, &format!("invalid base {base}"))),
    }
}

/// A number in a base; with base 0 a prefix selects it, and underscores may separate digits.
fn integer(text: &[u8], base: u32) -> Result<i64, Fault> {
    let wrong = |reason| unreadable("ParseInt", text, reason);
    let whole = std::str::from_utf8(text).map_err(|_| wrong("invalid syntax"))?;
    let (sign, digits) = whole.split_at_checked(usize::from(whole.starts_with(['+', '-']))).unwrap_or_default();
    let (digits, base) = match (base, digits.get(..2).map(str::to_ascii_lowercase).as_deref()) {
        (0, Some("0x")) => (digits.get(2..).unwrap_or_default(), 16),
        (0, Some("0b")) => (digits.get(2..).unwrap_or_default(), 2),
        (0, Some("0o")) => (digits.get(2..).unwrap_or_default(), 8),
        (0, _) if digits.len() > 1 && digits.starts_with('0') => (digits, 8),
        (0, _) => (digits, 10),
        (base, _) => {
            if digits.contains('_') {
                return Err(wrong("invalid syntax"));
            }
            (digits, base)
        }
    };
    let joined: String = digits.chars().filter(|c| *c != '_').collect();
    if joined.starts_with(['+', '-']) {
        return Err(wrong("invalid syntax"));
    }
    i64::from_str_radix(&format!("{sign}{joined}"), base).map_err(|error| match error.kind() {
        std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => wrong("value out of range"),
        _ => wrong("invalid syntax"),
    })
}

/// Any value as a double; `None` for nil.
pub(super) fn double(value: Value) -> Result<Option<f64>, Fault> {
    Ok(Some(match value {
        Value::Nil => return Ok(None),
        Value::Bool(value) => f64::from(u8::from(value)),
        Value::Int(value) => value as f64,
        Value::Double(value) => value,
        Value::String(text) => {
            let digits = std::str::from_utf8(text).unwrap_or_default();
            let value: f64 = digits.parse().map_err(|_| unreadable("ParseFloat", text, "invalid syntax"))?;
            if value.is_infinite() && digits.contains(|c: char| c.is_ascii_digit()) {
                return Err(unreadable("ParseFloat", text, "value out of range"));
            }
            value
        }
        other => return Err(other.unsupported()),
    }))
}

/// The bytes of a value; numbers are big-endian.
pub(super) fn bytes<'v>(value: Value<'v>, buffer: &'v mut [u8; 8]) -> Result<&'v [u8], Fault> {
    Ok(match value {
        Value::Nil => &[],
        Value::String(bytes) | Value::Bytes(bytes) => bytes,
        Value::Bool(false) => &[0],
        Value::Bool(true) => &[1],
        Value::Int(value) => {
            *buffer = value.to_be_bytes();
            buffer
        }
        Value::Double(value) => {
            *buffer = value.to_be_bytes();
            buffer
        }
        other => return Err(other.unsupported()),
    })
}

#[cold]
fn unreadable(function: &str, text: &[u8], reason: &str) -> Fault {
    Fault::new(format!("strconv.{function}: parsing {:?}: {reason}", String::from_utf8_lossy(text)))
}
