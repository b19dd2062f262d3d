//! Numbers and times as Go prints them, appended to a buffer without going through a formatter where that is hot.

#![expect(clippy::indexing_slicing, reason = "hot, and every index follows from the lengths of the arrays")]

use std::fmt::{self, Write};
use std::io::Write as _;

const PAIRS: &[u8; 200] = &{
    let mut pairs = [0; 200];
    let mut n = 0;
    while n < 100 {
        pairs[2 * n] = b'0' + (n / 10) as u8;
        pairs[2 * n + 1] = b'0' + (n % 10) as u8;
        n += 1;
    }
    pairs
};

/// The two digits of a number below 100.
#[inline]
fn pair(n: u64) -> [u8; 2] {
    let at = (n % 100) as usize * 2;
    [PAIRS[at], PAIRS[at + 1]]
}

#[inline]
pub fn put_uint(out: &mut Vec<u8>, mut n: u64) {
    if n < 10 {
        return out.push(b'0' + n as u8);
    }
    let mut digits = [0; 20];
    let mut at = digits.len();
    while n >= 10 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&pair(n));
        n /= 100;
    }
    if n > 0 {
        at -= 1;
        digits[at] = b'0' + n as u8;
    }
    out.extend_from_slice(&digits[at..]);
}

#[inline]
pub fn put_int(out: &mut Vec<u8>, n: i64) {
    if n < 0 {
        out.push(b'-');
    }
    put_uint(out, n.unsigned_abs());
}

/// Lower-case hex; an id of zeros alone is no id and prints as nothing.
#[inline]
pub fn put_id(out: &mut Vec<u8>, id: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    if id.iter().all(|byte| *byte == 0) {
        return;
    }
    let mut digits = [0; 32];
    for piece in id.chunks(16) {
        for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(piece) {
            *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
        }
        out.extend_from_slice(&digits[..2 * piece.len()]);
    }
}

/// Standard base64 with padding.
pub fn put_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out.reserve(bytes.len().div_ceil(3) * 4);
    for piece in bytes.chunks(3) {
        let [a, b, c] = [0, 1, 2].map(|index| u32::from(piece.get(index).copied().unwrap_or_default()));
        let bits = a << 16 | b << 8 | c;
        let mut digits = [18, 12, 6, 0].map(|shift| DIGITS[(bits >> shift & 63) as usize]);
        digits[piece.len() + 1..].fill(b'=');
        out.extend_from_slice(&digits);
    }
}

/// Go's time text in UTC. Remembers the last second, for the times of a request lie close together.
pub struct Clock {
    second: i64,
    text: [u8; 30],
}

impl Clock {
    pub fn new() -> Self {
        Clock { second: 0, text: *b"1970-01-01 00:00:00.000000000 " }
    }

    /// `2018-12-13 14:51:00.3 +0000 UTC`: no trailing zeros in the fraction. The wire's unsigned nanoseconds are taken
    /// as signed, as the Go collector takes them, so a year lies between 1677 and 2262.
    #[inline]
    pub fn put(&mut self, out: &mut Vec<u8>, nanos: u64) {
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
        self.text[20] = b'0' + (fraction / 100_000_000) as u8;
        for (at, divisor) in [(21, 1_000_000), (23, 10_000), (25, 100), (27, 1)] {
            self.text[at..at + 2].copy_from_slice(&pair(fraction / divisor));
        }
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
        let fields = [(0, year / 100), (2, year), (5, month), (8, day)];
        let times = [(11, second / 3600), (14, second / 60 % 60), (17, second % 60)];
        for (at, n) in fields.into_iter().chain(times) {
            self.text[at..at + 2].copy_from_slice(&pair(n));
        }
    }
}

/// The date of a day counted from 1970-01-01, by eras of 400 years that begin in March (so that a leap day ends one).
fn civil(days: i64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let months_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * months_from_march + 2) / 5 + 1;
    let month = if months_from_march < 10 { months_from_march + 3 } else { months_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year as u64, month as u64, day as u64)
}

/// Go's `%f`: six decimals, fully expanded.
pub fn put_fixed(out: &mut Vec<u8>, value: f64) {
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

/// The form of a double attribute: shortest round trip, an exponent below 1e-6 and from 1e21 on.
pub fn put_double(out: &mut Vec<u8>, value: f64) {
    if put_not_finite(out, value, "Infinity", "-Infinity") {
        return;
    }
    match whole(value) {
        Some(whole) => put_int(out, whole),
        None => put_shortest(out, value, -6..21, 1),
    }
}

/// Go's `%v` of a double: shortest round trip, an exponent of two digits below 1e-4 and from 1e6 on.
pub fn put_general(out: &mut Vec<u8>, value: f64) {
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

/// A double that is a small integer, which most are.
fn whole(value: f64) -> Option<i64> {
    let whole = value as i64;
    (whole.unsigned_abs() < 1 << 53 && (whole as f64).to_bits() == value.to_bits()).then_some(whole)
}

/// Writes the shortest digits that read back as `value`; with an exponent when it lies outside `plain`.
fn put_shortest(out: &mut Vec<u8>, value: f64, plain: std::ops::Range<i32>, exponent_digits: usize) {
    let mut text = Short::default();
    // `1.7976931348623157e-308` is as long as it gets.
    let _ = write!(text, "{:e}", value.abs());
    // Where two shortest candidates are equally near, Go takes the even one and Rust the larger.
    if text.len > 16 && (value * (1 << 30) as f64).fract() == 0.0 {
        let mut even = Short::default();
        let _ = write!(even, "{:.*e}", text.digits() - 1, value.abs());
        if even.text().parse() == Ok(value.abs()) {
            text = even;
        }
    }
    let (mantissa, exponent) = text.text().split_once('e').unwrap_or((text.text(), "0"));
    let (mantissa, exponent) = (mantissa.as_bytes(), exponent.parse::<i32>().unwrap_or(0));
    if value.is_sign_negative() {
        out.push(b'-');
    }
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

#[derive(Default)]
struct Short {
    bytes: [u8; 32],
    len: usize,
}

impl Short {
    fn text(&self) -> &str {
        self.bytes.get(..self.len).and_then(|bytes| str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    /// Of the mantissa.
    fn digits(&self) -> usize {
        self.text().bytes().take_while(|byte| *byte != b'e').filter(u8::is_ascii_digit).count()
    }
}

impl Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

/// The bound `e^(index · ln 2 · 2^-scale)` of an exponential histogram's bucket.
pub fn bucket_bound(index: f64, scale: i32) -> f64 {
    exp(index * times_power_of_two(std::f64::consts::LN_2, -i64::from(scale)))
}

/// `value · 2^power`, rounded once.
fn times_power_of_two(mut value: f64, power: i64) -> f64 {
    let mut power = power.clamp(-3000, 3000);
    while power != 0 {
        let step = power.clamp(-1000, 1000);
        value *= f64::from_bits(((1023 + step) as u64) << 52);
        power -= step;
    }
    value
}

/// The exponential as Go computes it on amd64 with FMA, whose last bit differs from other libraries': bounds are
/// printed with all their digits. After N. Shibata, "Efficient evaluation methods of elementary functions suitable for
/// SIMD computation" (2010): take out the power of two, a Taylor series of a sixteenth of the rest, square four times.
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
