//! Numbers and times as Go prints them, appended to a buffer; hot paths avoid the standard formatter.

#![expect(clippy::indexing_slicing, reason = "hot, and every index follows from the lengths of the arrays")]

use std::io::Write;

use super::hex;

#[inline]
pub(crate) fn put_uint(out: &mut Vec<u8>, n: u64) {
    match n {
        0..10 => out.push(b'0' + n as u8),
        _ => out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes()),
    }
}

#[inline]
pub(crate) fn put_int(out: &mut Vec<u8>, n: i64) {
    if n < 0 {
        out.push(b'-');
    }
    put_uint(out, n.unsigned_abs());
}

/// Lower-case hex; an id of zeros is unset and prints nothing.
#[inline]
pub(crate) fn put_id(out: &mut Vec<u8>, id: &[u8]) {
    if id.iter().any(|byte| *byte != 0) {
        hex::put(id, out);
    }
}

/// Go's time text in UTC. Caches the last second, because the times of a request are close together.
pub(crate) struct Clock {
    second: i64,
    text: [u8; 30],
}

impl Clock {
    pub(crate) const EPOCH: Clock = Clock { second: 0, text: *b"1970-01-01 00:00:00.000000000 " };

    /// `2018-12-13 14:51:00.3 +0000 UTC`: no trailing zeros in the fraction. As in the Go collector, the wire's
    /// unsigned nanoseconds are read as signed, so a year is between 1677 and 2262.
    #[inline]
    pub(crate) fn put(&mut self, out: &mut Vec<u8>, nanos: u64) {
        const ZONE: &[u8] = b" +0000 UTC";
        if nanos == 0 {
            return out.extend_from_slice(b"1970-01-01 00:00:00 +0000 UTC");
        }
        let second = (nanos as i64).div_euclid(1_000_000_000);
        let fraction = (nanos as i64).rem_euclid(1_000_000_000) as u64;
        if second != self.second {
            self.second = second;
            self.set_date_and_time(second);
        }
        if fraction == 0 {
            out.extend_from_slice(&self.text[..19]);
            return out.extend_from_slice(ZONE);
        }
        // A one before them keeps the zeros in front.
        let digits = 1_000_000_000 + fraction as u32;
        self.text[20..29].copy_from_slice(&itoa::Buffer::new().format(digits).as_bytes()[1..]);
        let mut end = 29;
        while self.text[end - 1] == b'0' {
            end -= 1;
        }
        out.extend_from_slice(&self.text[..end]);
        out.extend_from_slice(ZONE);
    }

    #[cold]
    fn set_date_and_time(&mut self, second: i64) {
        let (days, second) = (second.div_euclid(86_400), second.rem_euclid(86_400) as u64);
        let (year, month, day) = civil(days);
        let [year, month, day] = [year, month, day].map(|part| part as u64);
        let date = [(0, year / 100), (2, year), (5, month), (8, day)];
        let time = [(11, second / 3600), (14, second / 60 % 60), (17, second % 60)];
        for (at, n) in date.into_iter().chain(time) {
            self.text[at..at + 2].copy_from_slice(&[b'0' + (n / 10 % 10) as u8, b'0' + (n % 10) as u8]);
        }
    }
}

/// Go's `%f`: six decimals, fully expanded.
pub(crate) fn put_fixed(out: &mut Vec<u8>, value: f64) {
    if put_not_finite(out, value, "+Inf", "-Inf") {
        return;
    }
    if let Some(whole) = whole(value) {
        put_int(out, whole);
        out.extend_from_slice(b".000000");
    } else {
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{value:.6}");
    }
}

/// The form of a double attribute: shortest round trip, with an exponent below 1e-6 and from 1e21 on.
pub(crate) fn put_double(out: &mut Vec<u8>, value: f64) {
    if put_not_finite(out, value, "Infinity", "-Infinity") {
        return;
    }
    match whole(value) {
        Some(whole) => put_int(out, whole),
        None => put_shortest(out, value, -6..21, 1),
    }
}

/// The form of a finite double in OTLP/JSON: the same, with a two-digit exponent.
pub(crate) fn put_json_double(out: &mut Vec<u8>, value: f64) {
    match whole(value) {
        Some(whole) => put_int(out, whole),
        None => put_shortest(out, value, -6..21, 2),
    }
}

/// Go's `%v` of a double: shortest round trip, with a two-digit exponent below 1e-4 and from 1e6 on.
pub(crate) fn put_general(out: &mut Vec<u8>, value: f64) {
    if !put_not_finite(out, value, "+Inf", "-Inf") {
        put_shortest(out, value, -4..6, 2);
    }
}

fn put_not_finite(out: &mut Vec<u8>, value: f64, infinity: &str, negative_infinity: &str) -> bool {
    out.extend_from_slice(match value {
        _ if value.is_nan() => b"NaN",
        f64::INFINITY => infinity.as_bytes(),
        f64::NEG_INFINITY => negative_infinity.as_bytes(),
        _ => return false,
    });
    true
}

/// The integer value of a double, if it is small, as most are.
fn whole(value: f64) -> Option<i64> {
    let whole = value as i64;
    (whole.unsigned_abs() < 1 << 53 && (whole as f64).to_bits() == value.to_bits()).then_some(whole)
}

/// Writes the shortest digits that read back as `value`; with an exponent if it is outside `plain`.
fn put_shortest(out: &mut Vec<u8>, value: f64, plain: std::ops::Range<i32>, exponent_digits: usize) {
    if value.is_sign_negative() {
        out.push(b'-');
    }
    let value = value.abs();
    let (mut shortest, mut even) = ([0; 32], [0; 32]);
    let mut text = scientific(&mut shortest, format_args!("{value:e}"));
    // If two shortest candidates are equally near, Go takes the even one and Rust the larger.
    if text.len() > 16 && (value * (1 << 30) as f64).fract() == 0.0 {
        let decimals = text.find('e').map_or(0, |end| end - 2);
        let even = scientific(&mut even, format_args!("{value:.decimals$e}"));
        text = if even.parse() == Ok(value) { even } else { text };
    }
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (mantissa, exponent) = (mantissa.as_bytes(), exponent.parse::<i32>().unwrap_or(0));
    if !plain.contains(&exponent) {
        out.extend_from_slice(mantissa);
        out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
        if exponent.unsigned_abs() < 10 && exponent_digits > 1 {
            out.push(b'0');
        }
        return put_uint(out, u64::from(exponent.unsigned_abs()));
    }
    let digits = mantissa.iter().filter(|byte| **byte != b'.');
    let count = digits.clone().count();
    if exponent < 0 {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', exponent.unsigned_abs() as usize - 1));
        return out.extend(digits);
    }
    let before_point = exponent as usize + 1;
    out.extend(digits.clone().take(before_point));
    out.extend(std::iter::repeat_n(b'0', before_point.saturating_sub(count)));
    if count > before_point {
        out.push(b'.');
        out.extend(digits.skip(before_point));
    }
}

/// Formats a double on the stack: `1.7976931348623157e-308` is the longest.
fn scientific<'a>(buffer: &'a mut [u8; 32], text: std::fmt::Arguments<'_>) -> &'a str {
    let mut rest = &mut buffer[..];
    rest.write_fmt(text).expect("no double is longer");
    let length = 32 - rest.len();
    std::str::from_utf8(&buffer[..length]).expect("digits are ASCII")
}

/// The bound `e^(index · ln 2 · 2^-scale)` of a bucket of an exponential histogram.
pub(crate) fn bucket_bound(index: f64, scale: i32) -> f64 {
    exp(index * times_power_of_two(std::f64::consts::LN_2, -i64::from(scale)))
}

/// `value · 2^power`, rounded once.
pub(crate) fn times_power_of_two(mut value: f64, power: i64) -> f64 {
    let mut power = power.clamp(-3000, 3000);
    while power != 0 {
        let step = power.clamp(-1000, 1000);
        value *= f64::from_bits(((1023 + step) as u64) << 52);
        power -= step;
    }
    value
}

/// The exponential as Go computes it on amd64 with FMA. Its last bit differs from other libraries, and bounds are
/// printed with all digits. After N. Shibata, "Efficient evaluation methods of elementary functions suitable for SIMD
/// computation" (2010): take out the power of two, a Taylor series of a sixteenth of the rest, square four times.
fn exp(x: f64) -> f64 {
    const LN2_UPPER: f64 = f64::from_bits(0x3fe6_2e42_fefa_3000);
    const LN2_LOWER: f64 = 2.823_529_056_303_157_7e-13;
    const INVERSE_FACTORIALS: [f64; 8] =
        [1.0 / 40_320.0, 1.0 / 5_040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0];
    if x.is_nan() {
        return x;
    }
    let power = (x * std::f64::consts::LOG2_E).round_ties_even();
    // From 709.44 on; the largest double is e^709.78.
    if power >= 1024.0 {
        return f64::INFINITY;
    }
    if power < -1075.0 {
        return 0.0;
    }
    let rest = (-power).mul_add(LN2_LOWER, (-power).mul_add(LN2_UPPER, x)) * 0.0625;
    let series = INVERSE_FACTORIALS.into_iter().reduce(|sum, factor| sum.mul_add(rest, factor)).unwrap_or(1.0);
    let mut result = rest * series;
    for _ in 0..3 {
        result *= result + 2.0;
    }
    times_power_of_two((result + 2.0).mul_add(result, 1.0), power as i64)
}

/// The date `days` after 1970-01-01, in the proleptic Gregorian calendar, computed in eras of 400 years.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted_month + 2) / 5 + 1)
}
