//! The numbers of OTLP/JSON, which may be strings.

/// A whole number in decimal, in any notation: `1000`, `1e3`, `1000.0`. `None` if it has a fraction, is not a number,
/// or does not fit 64 bits, signed or unsigned.
pub(super) fn whole(text: &[u8]) -> Option<i128> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    let magnitude = i128::from(plain_whole(digits).or_else(|| scaled_whole(digits))?);
    Some(if negative { -magnitude } else { magnitude })
}

#[inline]
fn plain_whole(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    digits.iter().try_fold(0u64, |value, digit| {
        let digit = digit.wrapping_sub(b'0');
        (digit < 10).then(|| value.wrapping_mul(10).wrapping_add(u64::from(digit)))
    })
}

/// A whole number with a point or an exponent, or with more than 19 digits.
#[cold]
fn scaled_whole(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let (digits, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (before, after) = digits.split_once('.').unwrap_or((digits, "0"));
    let (is_negative, places) = match exponent.strip_prefix('-') {
        Some(places) => (true, places),
        None => (false, exponent.strip_prefix('+').unwrap_or(exponent)),
    };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if ![before, after, places].into_iter().all(is_number) {
        return None;
    }
    // An exponent that overflows the type is too large for any text.
    let places = places.parse().unwrap_or(i64::MAX);
    let point = (before.len() as i64).saturating_add(if is_negative { -places } else { places });
    let digits = before.bytes().chain(after.bytes()).map(|byte| u64::from(byte - b'0'));
    let mut value = 0u64;
    let mut position = 0;
    for digit in digits {
        match position < point {
            true => value = value.checked_mul(10)?.checked_add(digit)?,
            false if digit != 0 => return None,
            false => {}
        }
        position += 1;
    }
    match u32::try_from(point.saturating_sub(position)) {
        Ok(zeros) if value != 0 => 10u64.checked_pow(zeros)?.checked_mul(value),
        Err(_) if value != 0 && point > position => None,
        _ => Some(value),
    }
}

/// A double in a string: decimal, `NaN`, `Infinity`, `-Infinity`. `None` also on overflow.
pub(crate) fn double(text: &[u8]) -> Option<f64> {
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    let overflowed = value.is_infinite() && text.iter().any(u8::is_ascii_digit);
    (!overflowed).then_some(value)
}
