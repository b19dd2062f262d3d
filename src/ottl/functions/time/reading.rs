//! Parses a time by a format.

use jiff::civil::{Date, DateTime};
use jiff::tz::{Offset, TimeZone};
use jiff::{Span, Timestamp};

use super::{Item, MONTHS, WEEKDAYS, expanded, next_item, out_of_range, zone};
use crate::ottl::function::Arguments;
use crate::ottl::scene::Scene;
use crate::ottl::value::{Fault, Time, Value};

pub(super) fn read_time<'a>(arguments: &'a Arguments, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
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
                    // A fraction may follow the seconds even if the format has none.
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

    /// Reads one of the names, by its first `length` characters; returns its position, from 1.
    fn name(&mut self, names: &[&str], length: usize) -> Option<i8> {
        let starts = |name: &&str| {
            let name = name.get(..length.min(name.len())).unwrap_or_default().as_bytes();
            self.rest.split_at_checked(name.len()).filter(|(here, _)| here.eq_ignore_ascii_case(name))
        };
        let (place, (_, rest)) = names.iter().enumerate().find_map(|(place, name)| Some((place, starts(name)?)))?;
        self.rest = rest;
        Some(place as i8 + 1)
    }

    /// Reads a point or comma and digits, if they are next.
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

    /// Reads an offset in the given shape.
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

    /// Reads `UTC` or an abbreviation.
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
        // The given zone may use the abbreviation, in summer or in winter. Otherwise it must be the name of a zone.
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
        let zone = super::zone(name)?;
        named(&zone)?.map_or_else(|| in_zone(&zone), Ok)
    }

    /// Completes a time without a year: this year, or the last one if that would be more than a week ahead.
    fn this_year(&self, date: DateTime, at: Time, zone: &TimeZone, scene: &Scene<'_, '_>) -> Result<Time, Fault> {
        let now = Timestamp::try_from(scene.now()?.wall).map_err(|_| out_of_range())?;
        let today = Offset::from_seconds(at.offset_seconds).map_err(|_| out_of_range())?.to_datetime(now);
        // Go lets the 29th of February run over into March.
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
    Time::of(moment.as_nanosecond(), offset_seconds)
}
