//! Times and durations: parsing and formatting with strptime-like formats, and their parts.
//!
//! Formats behave as in the Go collector: numbers may lack leading zeros and have spaces before them, a fraction
//! (`.%L`) has any number of digits and none if it is zero, `%z` accepts `Z`, `+0130`, `+01:30` and `+01`.

use std::time::UNIX_EPOCH;

use jiff::civil::{Date, DateTime};
use jiff::tz::{Offset, TimeZone};
use jiff::{Span, Timestamp};

use super::{function, made, optional, required};
use crate::config::duration;
use crate::ottl::function::{Arguments, Function, Kind, Parameter};
use crate::ottl::scene::Scene;
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
            Ok(Value::Int(nanos(arguments.time(0, scene)?).div_euclid($unit) as i64))
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

pub const TABLE: &[Function] = &[
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
    Function {
        check: Some(|arguments| check_format(arguments.fixed_text(1).unwrap_or_default())),
        ..function("FormatTime", &[TIME, required("format", Kind::FixedText)], |arguments, scene| {
            let mut out = Vec::new();
            put(arguments.fixed_text(1).unwrap_or_default(), arguments.time(0, scene)?, &mut out)?;
            made(scene.arena, &out)
        })
    },
    function("Now", &[], |_, scene| {
        let since = scene.now()?.wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        local(since.as_secs() as i64, since.subsec_nanos()).map(Value::Time)
    }),
    Function {
        check: Some(|arguments| {
            zone(arguments.fixed_text(2).unwrap_or_default()).map_err(|fault| fault.0.into_owned())?;
            if arguments.is_given(3) {
                return Err("locale is not supported: times are read in English".into());
            }
            check_format(arguments.fixed_text(1).unwrap_or_default())
        }),
        ..function(
            "Time",
            &[
                required("time", Kind::Text),
                required("format", Kind::FixedText),
                optional("location", Kind::FixedText),
                optional("locale", Kind::FixedText),
            ],
            read_time,
        )
    },
    function("TruncateTime", &[TIME, DURATION], |arguments, scene| {
        // Go counts from the year 1.
        const YEAR_ONE: i128 = -62_135_596_800 * NANOS;
        let (time, unit) = (arguments.time(0, scene)?, i128::from(arguments.duration(1, scene)?));
        let nanos = nanos(time);
        let cut = if unit > 0 { (nanos - YEAR_ONE).rem_euclid(unit) } else { 0 };
        Ok(Value::Time(at(nanos - cut, time.offset_seconds)))
    }),
    function("Unix", &[required("seconds", Kind::Int), optional("nanoseconds", Kind::Int)], |arguments, scene| {
        let extra = if arguments.is_given(1) { arguments.int(1, scene)? } else { 0 };
        let nanos = i128::from(arguments.int(0, scene)?) * NANOS + i128::from(extra);
        let utc = at(nanos, 0);
        local(utc.seconds, utc.nanos).map(Value::Time)
    }),
];

fn nanos(time: Time) -> i128 {
    i128::from(time.seconds) * NANOS + i128::from(time.nanos)
}

fn at(nanos: i128, offset_seconds: i32) -> Time {
    Time { seconds: nanos.div_euclid(NANOS) as i64, nanos: nanos.rem_euclid(NANOS) as u32, offset_seconds }
}

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

pub fn format_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    format!("{sign}{}", duration::format(std::time::Duration::from_nanos(nanos.unsigned_abs())))
}

/// Go's JSON form of a `time.Time`.
pub fn put_rfc3339(time: Time, out: &mut Vec<u8>) -> Result<(), Fault> {
    put(b"%FT%T.%s", time, out)?;
    put(if time.offset_seconds == 0 { b"%z" } else { b"%j" }, time, out)
}

/// Go's text form of a `time.Time`.
pub fn put_time(time: Time, out: &mut Vec<u8>) -> Result<(), Fault> {
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
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
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
pub fn put(mut format: &[u8], time: Time, out: &mut Vec<u8>) -> Result<(), Fault> {
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
    let name = |names: &[&'static str], index: i8, length: usize| {
        let name = names.get(index.unsigned_abs() as usize).copied().unwrap_or_default();
        name.get(..length.min(name.len())).unwrap_or_default()
    };
    let hour = (at.hour() + 11) % 12 + 1;
    let text = match directive {
        b'Y' => format!("{:04}", at.year()),
        b'y' => format!("{:02}", at.year().rem_euclid(100)),
        b'm' => format!("{:02}", at.month()),
        // Go's layouts have no space-padded month: the Go collector prints this.
        b'o' => format!("_{}", at.month()),
        b'q' => at.month().to_string(),
        b'b' | b'h' => name(&MONTHS, at.month() - 1, 3).to_owned(),
        b'B' => name(&MONTHS, at.month() - 1, 9).to_owned(),
        b'd' => format!("{:02}", at.day()),
        b'e' => format!("{:2}", at.day()),
        b'g' => at.day().to_string(),
        b'a' => name(&WEEKDAYS, at.weekday().to_sunday_zero_offset(), 3).to_owned(),
        b'A' => name(&WEEKDAYS, at.weekday().to_sunday_zero_offset(), 9).to_owned(),
        b'H' => format!("{:02}", at.hour()),
        b'l' => hour.to_string(),
        b'I' => format!("{hour:02}"),
        b'p' => if at.hour() < 12 { "AM" } else { "PM" }.to_owned(),
        b'P' => if at.hour() < 12 { "am" } else { "pm" }.to_owned(),
        b'M' => format!("{:02}", at.minute()),
        b'S' => format!("{:02}", at.second()),
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

fn read_time<'a>(arguments: &'a Arguments, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
    let text = arguments.text(0, scene)?;
    if text.is_empty() {
        return Err(Fault::new("time cannot be nil"));
    }
    let format = arguments.fixed_text(1).unwrap_or_default();
    let zone = match arguments.fixed_text(2).unwrap_or_default() {
        b"" if format.ends_with(b"Z") => TimeZone::UTC,
        name => zone(name)?,
    };
    let wrong = |why: &str| {
        let (text, format) = (String::from_utf8_lossy(text), String::from_utf8_lossy(format));
        Fault::new(format!("parsing time {text:?} as {format:?}: {why}"))
    };
    let mut read = Reading { rest: text, ..Reading::default() };
    read.format(format).ok_or_else(|| wrong(&format!("cannot parse {:?}", String::from_utf8_lossy(read.rest))))?;
    if !read.rest.is_empty() {
        return Err(wrong(&format!("extra text: {:?}", String::from_utf8_lossy(read.rest))));
    }
    let date = read.date().ok_or_else(|| wrong("a number is out of range"))?;
    let at = read.moment(date, &zone)?;
    let missing_year = date.year() < 1;
    Ok(Value::Time(if missing_year { read.this_year(date, at, &zone, scene)? } else { at }))
}

#[derive(Default)]
struct Reading<'t> {
    rest: &'t [u8],
    year: i16,
    month: Option<i8>,
    day: Option<i8>,
    hour: i8,
    minute: i8,
    second: i8,
    nanos: i32,
    is_afternoon: Option<bool>,
    offset_seconds: Option<i32>,
    abbreviation: Option<&'t [u8]>,
}

impl<'t> Reading<'t> {
    /// `None` if the text does not match the format.
    fn format(&mut self, mut format: &[u8]) -> Option<()> {
        while let Some(item) = next_item(&mut format) {
            match item {
                Item::Literal(b' ') => {
                    if self.rest.first().is_some_and(|byte| *byte != b' ') {
                        return None;
                    }
                    self.skip(|byte| byte == b' ');
                    while let [b' ', after @ ..] = format {
                        format = after;
                    }
                }
                Item::Literal(byte) => self.rest = self.rest.strip_prefix(&[byte])?,
                Item::Fraction(..) => self.fraction(),
                Item::Directive(b'D' | b'x') => {
                    self.format(b"%m/%d/")?;
                    let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
                    self.format(if digits < 4 { b"%y" } else { b"%Y" })?;
                }
                Item::Directive(directive) => {
                    self.part(directive)?;
                    // A fraction may follow the seconds if the format has none.
                    let next = next_item(&mut { format });
                    if matches!(directive, b'S' | b'T' | b'X') && !matches!(next, Some(Item::Fraction(..))) {
                        self.fraction();
                    }
                }
            }
        }
        Some(())
    }

    fn part(&mut self, directive: u8) -> Option<()> {
        match directive {
            b'Y' => self.year = self.number(4, 4, 0, 9999)?,
            b'y' => {
                let year = self.number(2, 2, 0, 99)?;
                self.year = if year >= 69 { 1900 + year } else { 2000 + year };
            }
            b'm' | b'o' | b'q' => self.month = Some(self.number(1, 2, 1, 12)? as i8),
            b'd' | b'e' | b'g' => self.day = Some(self.number(1, 2, 0, 99)? as i8),
            b'b' | b'h' => self.month = Some(self.name(&MONTHS, 3)?),
            b'B' => self.month = Some(self.name(&MONTHS, 9)?),
            b'a' => drop(self.name(&WEEKDAYS, 3)?),
            b'A' => drop(self.name(&WEEKDAYS, 9)?),
            b'H' => self.hour = self.number(1, 2, 0, 23)? as i8,
            b'I' | b'l' => self.hour = self.number(1, 2, 0, 12)? as i8,
            b'M' => self.minute = self.number(1, 2, 0, 59)? as i8,
            b'S' => self.second = self.number(1, 2, 0, 59)? as i8,
            b'p' | b'P' => {
                let (half, rest) = self.rest.split_first_chunk::<2>()?;
                let halves = if directive == b'p' { [b"AM", b"PM"] } else { [b"am", b"pm"] };
                self.is_afternoon = Some(halves.iter().position(|name| *name == half)? == 1);
                self.rest = rest;
            }
            b'Z' => self.zone_name()?,
            b'z' => {
                self.skip(|byte| byte.is_ascii_whitespace());
                match self.rest.strip_prefix(b"Z") {
                    Some(rest) => (self.offset_seconds, self.rest) = (Some(0), rest),
                    None => self.offset("+hhmm").or_else(|| self.offset("+hh:mm")).or_else(|| self.offset("+hh"))?,
                }
            }
            b'w' => self.offset("+hhmmss")?,
            b'i' => self.offset("+hh")?,
            b'j' => self.offset("+hh:mm")?,
            b'k' => self.offset("+hh:mm:ss")?,
            other => self.format(expanded(other))?,
        }
        Some(())
    }

    fn skip(&mut self, passed: fn(u8) -> bool) {
        while let [first, rest @ ..] = self.rest
            && passed(*first)
        {
            self.rest = rest;
        }
    }

    fn number(&mut self, fewest: usize, most: usize, low: i16, high: i16) -> Option<i16> {
        self.skip(|byte| byte.is_ascii_whitespace());
        let length = self.rest.iter().take(most).take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.rest.split_at_checked(length)?;
        let number = digits.iter().fold(0, |number, digit| number * 10 + i16::from(digit - b'0'));
        if length < fewest || !(low..=high).contains(&number) {
            return None;
        }
        self.rest = rest;
        Some(number)
    }

    /// The index of the name at this position, from 1.
    fn name(&mut self, names: &[&str], length: usize) -> Option<i8> {
        let starts = |name: &&str| {
            let name = name.get(..length.min(name.len())).unwrap_or_default().as_bytes();
            self.rest.split_at_checked(name.len()).filter(|(here, _)| here.eq_ignore_ascii_case(name))
        };
        let (place, (_, rest)) = names.iter().enumerate().find_map(|(place, name)| Some((place, starts(name)?)))?;
        self.rest = rest;
        Some(place as i8 + 1)
    }

    /// Consumes a point or comma with digits.
    fn fraction(&mut self) {
        let [b'.' | b',', digits @ ..] = self.rest else { return };
        let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if length == 0 {
            return;
        }
        let digit = |place: usize| {
            digits.get(..length).and_then(|digits| digits.get(place)).map_or(0, |digit| i32::from(digit - b'0'))
        };
        self.nanos = (0..9).fold(0, |nanos, place| nanos * 10 + digit(place));
        self.rest = digits.get(length..).unwrap_or_default();
    }

    /// An offset of the given shape.
    fn offset(&mut self, shape: &str) -> Option<()> {
        let (text, rest) = self.rest.split_at_checked(shape.len())?;
        let (mut numbers, mut sign) = ([0i32; 3], 1);
        for (byte, part) in text.iter().zip(shape.bytes()) {
            let [hours, minutes, seconds] = &mut numbers;
            let number = match part {
                b'h' => hours,
                b'm' => minutes,
                b's' => seconds,
                b'+' if matches!(byte, b'+' | b'-') => {
                    sign = if *byte == b'-' { -1 } else { 1 };
                    continue;
                }
                b':' if *byte == b':' => continue,
                _ => return None,
            };
            *number = *number * 10 + i32::try_from(char::from(*byte).to_digit(10)?).ok()?;
        }
        let [hours, minutes, seconds] = numbers;
        if hours > 24 || minutes > 60 || seconds > 60 {
            return None;
        }
        (self.offset_seconds, self.rest) = (Some(sign * (hours * 3600 + minutes * 60 + seconds)), rest);
        Some(())
    }

    /// `UTC`, or an abbreviation of three or four capitals.
    fn zone_name(&mut self) -> Option<()> {
        let length = self.rest.iter().take(6).take_while(|byte| byte.is_ascii_uppercase()).count();
        let (name, rest) = self.rest.split_at_checked(length)?;
        if !(length == 3 || (4..=5).contains(&length) && name.ends_with(b"T") || name == b"WITA") {
            return None;
        }
        match name {
            b"UTC" => self.offset_seconds = Some(0),
            name => self.abbreviation = Some(name),
        }
        self.rest = rest;
        Some(())
    }

    fn date(&self) -> Option<DateTime> {
        let hour = match self.is_afternoon {
            Some(true) if self.hour < 12 => self.hour + 12,
            Some(false) if self.hour == 12 => 0,
            _ => self.hour,
        };
        let date = Date::new(self.year, self.month.unwrap_or(1), self.day.unwrap_or(1)).ok()?;
        Some(date.at(hour, self.minute, self.second, self.nanos))
    }

    fn moment(&self, date: DateTime, zone: &TimeZone) -> Result<Time, Fault> {
        let at_offset = |offset: Offset| offset.to_timestamp(date).map_err(|_| out_of_range());
        if let Some(seconds) = self.offset_seconds {
            let offset = Offset::from_seconds(seconds).map_err(|_| out_of_range())?;
            return Ok(time_of(at_offset(offset)?, seconds));
        }
        let in_zone = |zone: &TimeZone| {
            let moment = zone.to_timestamp(date).map_err(|_| out_of_range())?;
            Ok(time_of(moment, zone.to_offset(moment).seconds()))
        };
        let Some(name) = self.abbreviation else { return in_zone(zone) };
        // The abbreviation may belong to the given zone, in summer or in winter; otherwise it must be a zone by itself.
        let named = |zone: &TimeZone| {
            let moment = zone.to_timestamp(date).map_err(|_| out_of_range())?;
            let half_a_year = jiff::SignedDuration::from_hours(183 * 24);
            let around = [Some(moment), moment.checked_add(half_a_year).ok(), moment.checked_sub(half_a_year).ok()];
            let mut infos = around.iter().flatten().map(|moment| zone.to_offset_info(*moment));
            let Some(info) = infos.find(|info| info.abbreviation().as_bytes() == name) else {
                return Ok::<_, Fault>(None);
            };
            let moment = at_offset(info.offset())?;
            Ok(Some(time_of(moment, zone.to_offset(moment).seconds())))
        };
        if let Some(time) = named(zone)? {
            return Ok(time);
        }
        let zone = self::zone(name)?;
        named(&zone)?.map_or_else(|| in_zone(&zone), Ok)
    }

    /// A time without a year belongs to this year, or to the last one if it would be more than a week ahead.
    fn this_year(&self, date: DateTime, at: Time, zone: &TimeZone, scene: &Scene<'_, '_>) -> Result<Time, Fault> {
        let now = Timestamp::try_from(scene.now()?.wall).map_err(|_| out_of_range())?;
        let today = Offset::from_seconds(at.offset_seconds).map_err(|_| out_of_range())?.to_datetime(now);
        // In Go the 29th of February may overflow into March.
        let with_year = |year| {
            let shifted = date.with().year(year).build();
            shifted.or_else(|_| {
                (date - Span::new().days(1)).with().year(year).build().map(|date| date + Span::new().days(1))
            })
        };
        let this = with_year(today.year()).map_err(|_| out_of_range())?;
        let is_ahead = this > today + Span::new().days(7);
        let chosen = if is_ahead { with_year(today.year() - 1).map_err(|_| out_of_range())? } else { this };
        self.moment(chosen, zone)
    }
}

fn time_of(moment: Timestamp, offset_seconds: i32) -> Time {
    at(moment.as_nanosecond(), offset_seconds)
}
