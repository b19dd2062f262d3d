//! Predicates on values.

use std::net::IpAddr;

use super::{TARGET, TEXT, function, required};
use crate::otlp::wire::Fields;
use crate::ottl::function::{Arguments, Function, Kind};
use crate::ottl::scene::Scene;
use crate::ottl::value::{Fault, Value, entries, items};

/// `Is…`: true when the argument evaluates to a matching value.
macro_rules! is {
    ($name:literal, $pattern:pat) => {
        function($name, &[TARGET], |arguments, scene| Ok(Value::Bool(matches!(arguments.value(0, scene)?, $pattern))))
    };
}

pub(super) const TABLE: &[Function] = &[
    function("HasPrefix", &[TEXT, required("prefix", Kind::Text)], |arguments, scene| {
        Ok(Value::Bool(arguments.text(0, scene)?.starts_with(arguments.text(1, scene)?)))
    }),
    function("HasSuffix", &[TEXT, required("suffix", Kind::Text)], |arguments, scene| {
        Ok(Value::Bool(arguments.text(0, scene)?.ends_with(arguments.text(1, scene)?)))
    }),
    is!("IsBool", Value::Bool(_)),
    is!("IsDouble", Value::Double(_)),
    is!("IsInt", Value::Int(_)),
    is!("IsMap", Value::Map(_)),
    is!("IsString", Value::String(_)),
    function("IsList", &[TARGET], |arguments, scene| {
        let value = arguments.value(0, scene)?;
        Ok(Value::Bool(matches!(value, Value::List(_)) || count_of_slice(&value).is_some()))
    }),
    function("IsEmpty", &[TARGET], |arguments, scene| Ok(Value::Bool(is_empty(&arguments.value(0, scene)?)))),
    function("IsInCIDR", &[TEXT, required("networks", Kind::Texts)], is_in_cidr)
        .checked(|arguments| arguments.fixed_texts(1).try_for_each(|network| Network::read(network).map(drop))),
    function("IsMatch", &[TARGET, required("pattern", Kind::Pattern)], |arguments, scene| {
        let pattern = arguments.pattern(1, scene)?;
        let text = arguments.text_like(0, scene)?;
        Ok(Value::Bool(text.is_some_and(|text| pattern.is_match(text))))
    }),
    function("IsRootSpan", &[], |_, scene| Ok(Value::Bool(scene.is_root_span())))
        .only_in(&["span"])
        .evaluated_when_run(),
    function("IsValidLuhn", &[TARGET], is_valid_luhn),
];

/// The length of a slice of messages (`span.events`); `None` for other values.
pub(super) fn count_of_slice(value: &Value) -> Option<usize> {
    match value {
        Value::Whole(name, fields) if name.ends_with("Slice") => Some(Fields::new(fields).count()),
        _ => None,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Nil | Value::Bool(false) | Value::Int(0) | Value::Duration(0) => true,
        Value::Double(value) => *value == 0.0,
        Value::String(bytes) | Value::Bytes(bytes) => bytes.is_empty(),
        Value::List(list) => items(list).next().is_none(),
        Value::Map(map) => entries(map).next().is_none(),
        Value::TraceId(id) => *id == [0; 16],
        Value::SpanId(id) => *id == [0; 8],
        _ => false,
    }
}

/// An IPv4-mapped IPv6 address equals the IPv4 address, as in Go.
fn address(text: &[u8]) -> Option<IpAddr> {
    let address: IpAddr = std::str::from_utf8(text).ok()?.parse().ok()?;
    Some(address.to_canonical())
}

struct Network {
    bits: u128,
    /// The significant bits.
    mask: u128,
    is_v4: bool,
}

impl Network {
    fn read(text: &[u8]) -> Result<Network, String> {
        let wrong = || format!("invalid CIDR address: {}", String::from_utf8_lossy(text));
        let text = std::str::from_utf8(text).map_err(|_| wrong())?;
        let (start, length) = text.split_once('/').ok_or_else(wrong)?;
        let start: IpAddr = start.parse().map_err(|_| wrong())?;
        let (most, is_v4) = if start.is_ipv4() { (32, true) } else { (128, false) };
        let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
        let length = length.parse().ok().filter(|length: &u32| digits && *length <= most).ok_or_else(wrong)?;
        let mask = u128::MAX.checked_shl(most - length).unwrap_or(0);
        Ok(Network { bits: bits(start) & mask, mask, is_v4 })
    }

    fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.is_v4 && bits(address) & self.mask == self.bits
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn is_in_cidr<'a>(arguments: &'a Arguments, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
    let Some(address) = address(arguments.text(0, scene)?) else { return Ok(Value::Bool(false)) };
    for network in arguments.values(1) {
        if Network::read(network.evaluate(scene)?.text()?).map_err(Fault::new)?.contains(address) {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

fn is_valid_luhn<'a>(arguments: &'a Arguments, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
    let Some(text) = arguments.text_like(0, scene)? else { return Err(Fault::new("invalid input: <nil>")) };
    let (mut sum, mut is_any) = (0u32, false);
    for (index, byte) in text.iter().rev().filter(|byte| **byte != b' ').enumerate() {
        let Some(digit) = char::from(*byte).to_digit(10) else {
            let c = char::from(*byte).to_string();
            return Err(Fault::new(format!("strconv.Atoi: parsing {c:?}: invalid syntax")));
        };
        is_any = true;
        sum = (sum + if index % 2 == 1 { digit * 2 / 10 + digit * 2 % 10 } else { digit }) % 10;
    }
    Ok(Value::Bool(is_any && sum == 0))
}
