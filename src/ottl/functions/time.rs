//! Times and durations: their parts, and formatting with strptime-like formats; `reading` parses them.
//!
//! Formats behave as in the Go collector: numbers may lack leading zeros and have spaces before them, a fraction
//! (`.%L`) has any number of digits and none if it is zero, `%z` accepts `Z`, `+0130`, `+01:30` and `+01`.

mod reading;

use std::time::UNIX_EPOCH;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};

use super::{function, made, optional, required};
use crate::config::duration;
use crate::ottl::function::{Function, Kind, Parameter};
use crate::ottl::value::{Fault, Time, Value};

const TIME: Parameter = required("time", Kind::Time);
const DURATION: Parameter = required("duration", Kind::Duration);
const NANOS: i128 = 1_000_000_000;

/// A function that returns a part of a time.
macro_rules! part {
    ($name:literal, $part:expr) => {
        function($name, &[TIME], |arguments, scene| {
            let part: fn(DateTime) -> i64 = $part;
            Ok(Value::Int(part(civil(arguments.time(0, scene)?)?)))
        })
    };
}

/// The Unix time in a unit of so many nanoseconds.
macro_rules! unix {
    ($name:literal, $unit:literal) => {
        function($name, &[TIME], |arguments, scene| {
            Ok(Value::Int(arguments.time(0, scene)?.nanos().div_euclid($unit) as i64))
        })
    };
}

macro_rules! whole {
    ($name:literal, $unit:literal) => {
        function($name, &[DURATION], |arguments, scene| Ok(Value::Int(arguments.duration(0, scene)? / $unit)))
    };
}

/// Whole units and the remainder are added separately, as in Go.
macro_rules! fraction {
    ($name:literal, $unit:literal) => {
        function($name, &[DURATION], |arguments, scene| {
            let (nanos, unit): (_, i64) = (arguments.duration(0, scene)?, $unit);
            Ok(Value::Double((nanos / unit) as f64 + (nanos % unit) as f64 / unit as f64))
        })
    };
}

pub(super) const TABLE: &[Function] = &[
    part!("Day", |at| at.day().into()),
    part!("Hour", |at| at.hour().into()),
    part!("Minute", |at| at.minute().into()),
    part!("Month", |at| at.month().into()),
    part!("Nanosecond", |at| at.subsec_nanosecond().into()),
    part!("Second", |at| at.second().into()),
    part!("Weekday", |at| at.weekday().to_sunday_zero_offset().into()),
    part!("Year", |at| at.year().into()),
    unix!("UnixMicro", 1_000),
    unix!("UnixMilli", 1_000_000),
    unix!("UnixNano", 1),
    unix!("UnixSeconds", 1_000_000_000),
    fraction!("Hours", 3_600_000_000_000),
    fraction!("Minutes", 60_000_000_000),
    fraction!("Seconds", 1_000_000_000),
    whole!("Microseconds", 1_000),
    whole!("Milliseconds", 1_000_000),
    whole!("Nanoseconds", 1),
    function("Duration", &[required("duration", Kind::Text)], |arguments, scene| {
        let text = arguments.text(0, scene)?;
        let parsed = std::str::from_utf8(text).ok().and_then(parse_duration);
        let wrong = || Fault::new(format!("time: invalid duration {:?}", String::from_utf8_lossy(text)));
        parsed.map(Value::Duration).ok_or_else(wrong)
    }),
    function("FormatTime", &[TIME, required("format", Kind::FixedText)], |arguments, scene| {
        let mut out = Vec::new();
        put(arguments.fixed_text(1).unwrap_or_default(), arguments.time(0, scene)?, &mut out)?;
        made(scene.arena, &out)
    })
    .checked(|arguments| check_format(arguments.fixed_text(1).unwrap_or_default())),
    function("Now", &[], |_, scene| {
        let since = scene.now()?.wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        local(since.as_secs() as i64, since.subsec_nanos()).map(Value::Time)
    }),
    function(
        "Time",
        &[
            required("time", Kind::Text),
            required("format", Kind::FixedText),
            optional("location", Kind::FixedText),
            optional("locale", Kind::FixedText),
        ],
        reading::read_time,
    )
    .checked(|arguments| {
        zone(arguments.fixed_text(2).unwrap_or_default()).map_err(|fault| fault.0.into_owned())?;
        if arguments.is_given(3) {
            return Err("locale is not supported: times are read in English".into());
        }
        check_format(arguments.fixed_text(1).unwrap_or_default())
    }),
    function("TruncateTime", &[TIME, DURATION], |arguments, scene| {
        // Go counts from the year 1.
        const YEAR_ONE: i128 = -62_135_596_800 * NANOS;
        let (time, unit) = (arguments.time(0, scene)?, i128::from(arguments.duration(1, scene)?));
        let cut = if unit > 0 { (time.nanos() - YEAR_ONE).rem_euclid(unit) } else { 0 };
        Ok(Value::Time(time.shifted(-cut)))
    }),
    function("Unix", &[required("seconds", Kind::Int), optional("nanoseconds", Kind::Int)], |arguments, scene| {
        let extra = if arguments.is_given(1) { arguments.int(1, scene)? } else { 0 };
        let nanos = i128::from(arguments.int(0, scene)?) * NANOS + i128::from(extra);
        let utc = Time::of(nanos, 0);
        local(utc.seconds, utc.nanos).map(Value::Time)
    }),
];

fn out_of_range() -> Fault {
    Fault::new("the time is out of range")
}

/// A moment in the local time of this machine.
fn local(seconds: i64, nanos: u32) -> Result<Time, Fault> {
    let moment = Timestamp::new(seconds, nanos as i32).map_err(|_| out_of_range())?;
    Ok(Time { seconds, nanos, offset_seconds: TimeZone::system().to_offset(moment).seconds() })
}

fn civil(time: Time) -> Result<DateTime, Fault> {
    let shifted = time.seconds.checked_add(i64::from(time.offset_seconds)).ok_or_else(out_of_range)?;
    let moment = Timestamp::new(shifted, time.nanos as i32).map_err(|_| out_of_range())?;
    Ok(Offset::UTC.to_datetime(moment))
}

/// A duration in Go's syntax, possibly negative, in nanoseconds.
fn parse_duration(text: &str) -> Option<i64> {
    let (text, sign) = match text.strip_prefix('-') {
        Some(text) if !text.starts_with(['+', '-']) => (text, -1),
        _ => (text, 1),
    };
    let nanos = i64::try_from(duration::parse(text).ok()?.as_nanos()).ok()?;
    Some(sign * nanos)
}

pub(super) fn format_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    format!("{sign}{}", duration::format(std::time::Duration::from_nanos(nanos.unsigned_abs())))
}

/// Go's JSON form of a `time.Time`.
pub(crate) fn put_rfc3339(time: Time, out: &mut Vec<u8>) -> Result<(), Fault> {
    put(b"%FT%T.%s", time, out)?;
    put(if time.offset_seconds == 0 { b"%z" } else { b"%j" }, time, out)
}

/// Go's text form of a `time.Time`.
pub(super) fn put_time(time: Time, out: &mut Vec<u8>) -> Result<(), Fault> {
    put(b"%F %T.%s ", time, out)?;
    put_offset(time.offset_seconds, "", false, out);
    put(b" %Z", time, out)
}

/// The expansion of a directive into simpler ones; itself if it is simple.
fn expanded(directive: u8) -> &'static [u8] {
    match directive {
        b'D' | b'x' => b"%m/%d/%Y",
        b'F' => b"%Y-%m-%d",
        b'T' | b'X' => b"%H:%M:%S",
        b'r' => b"%I:%M:%S %P",
        b'R' => b"%H:%M",
        b'c' => b"%a %b %d %H:%M:%S %Y",
        _ => b"",
    }
}

const SIMPLE: &[u8] = b"YymoqbhBdegaAHlIpPMSLfsZzwijknt%";
#[rustfmt::skip]
const MONTHS: [&str; 12] = [
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

fn check_format(format: &[u8]) -> Result<(), String> {
    if format.is_empty() {
        return Err("format cannot be nil".into());
    }
    if format.iter().any(u8::is_ascii_digit) {
        return Err("format string should not contain decimals".into());
    }
    let mut before = b' ';
    let mut rest = format.iter();
    while let Some(byte) = rest.next() {
        if *byte == b'%' {
            match rest.next() {
                Some(b'L' | b'f' | b's') if !matches!(before, b'.' | b',') => {
                    return Err("invalid fractional seconds directive: it must be preceded with '.' or ','".into());
                }
                Some(directive) if SIMPLE.contains(directive) || !expanded(*directive).is_empty() => {}
                Some(directive) => return Err(format!("unsupported directive: %{}", char::from(*directive))),
                None => {}
            }
        }
        before = *byte;
    }
    Ok(())
}

/// The next item of a format.
enum Item {
    Literal(u8),
    Directive(u8),
    /// The separator, and the maximum number of digits.
    Fraction(u8, usize),
}

fn next_item(format: &mut &[u8]) -> Option<Item> {
    let (item, rest) = match *format {
        [separator @ (b'.' | b','), b'%', b'L', rest @ ..] => (Item::Fraction(*separator, 3), rest),
        [separator @ (b'.' | b','), b'%', b'f', rest @ ..] => (Item::Fraction(*separator, 6), rest),
        [separator @ (b'.' | b','), b'%', b's', rest @ ..] => (Item::Fraction(*separator, 9), rest),
        [b'%', b'n', rest @ ..] => (Item::Literal(b'\n'), rest),
        [b'%', b't', rest @ ..] => (Item::Literal(b'\t'), rest),
        [b'%', b'%', rest @ ..] => (Item::Literal(b'%'), rest),
        [b'%', directive, rest @ ..] => (Item::Directive(*directive), rest),
        [literal, rest @ ..] => (Item::Literal(*literal), rest),
        [] => return None,
    };
    *format = rest;
    Some(item)
}

/// Formats a time.
fn put(mut format: &[u8], time: Time, out: &mut Vec<u8>) -> Result<(), Fault> {
    let at = civil(time)?;
    while let Some(item) = next_item(&mut format) {
        match item {
            Item::Literal(byte) => out.push(byte),
            Item::Fraction(separator, places) => {
                let digits = format!("{:09}", time.nanos);
                let digits = digits.get(..places).unwrap_or_default().trim_end_matches('0').as_bytes();
                if !digits.is_empty() {
                    out.push(separator);
                    out.extend_from_slice(digits);
                }
            }
            Item::Directive(directive) => put_part(directive, at, time, out)?,
        }
    }
    super::within_bounds(out)
}

fn put_part(directive: u8, at: DateTime, time: Time, out: &mut Vec<u8>) -> Result<(), Fault> {
    let text = match directive {
        b'Y' => format!("{:04}", at.year()),
        b'y' => format!("{:02}", at.year().rem_euclid(100)),
        // Go's layouts have no space-padded month: the Go collector prints this.
        b'o' => at.strftime("_%-m").to_string(),
        b'q' => at.strftime("%-m").to_string(),
        b'g' => at.strftime("%-d").to_string(),
        b'l' => at.strftime("%-I").to_string(),
        b'm' | b'b' | b'h' | b'B' | b'd' | b'e' | b'a' | b'A' | b'H' | b'I' | b'p' | b'P' | b'M' | b'S' => {
            at.strftime(&[b'%', directive]).to_string()
        }
        b'Z' if time.offset_seconds == 0 => "UTC".to_owned(),
        b'z' if time.offset_seconds == 0 => "Z".to_owned(),
        b'z' | b'Z' | b'w' | b'i' | b'j' | b'k' => {
            let colon = if matches!(directive, b'j' | b'k') { ":" } else { "" };
            put_offset(time.offset_seconds, colon, directive == b'i', out);
            if matches!(directive, b'w' | b'k') {
                out.extend_from_slice(format!("{colon}{:02}", time.offset_seconds.abs() % 60).as_bytes());
            }
            return Ok(());
        }
        other => return put(expanded(other), time, out),
    };
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

fn put_offset(seconds: i32, colon: &str, hours_only: bool, out: &mut Vec<u8>) {
    let (sign, minutes) = (if seconds < 0 { '-' } else { '+' }, seconds.abs() / 60);
    out.extend_from_slice(format!("{sign}{:02}", minutes / 60).as_bytes());
    if !hours_only {
        out.extend_from_slice(format!("{colon}{:02}", minutes % 60).as_bytes());
    }
}

/// A zone by name; the local one if the name is empty.
fn zone(name: &[u8]) -> Result<TimeZone, Fault> {
    let name = std::str::from_utf8(name).unwrap_or("?");
    match name {
        "" | "Local" => Ok(TimeZone::system()),
        "UTC" => Ok(TimeZone::UTC),
        _ => TimeZone::get(name)
            .map_err(|_| Fault::new(format!("failed to load location {name}: unknown time zone {name}"))),
    }
}
