//! What OTLP/JSON writes in strings: ids in hexadecimal, bytes in base64 (RFC 4648, padded), numbers in decimal.

const HEX: &[u8; 16] = b"0123456789abcdef";
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const NO_DIGIT: u8 = 0xff;

/// What each byte stands for as a digit of `alphabet`.
#[expect(clippy::indexing_slicing, reason = "filled while compiling")]
const fn values<const N: usize>(alphabet: &[u8; N]) -> [u8; 256] {
    let mut values = [NO_DIGIT; 256];
    let mut index = 0;
    while index < N {
        values[alphabet[index] as usize] = index as u8;
        index += 1;
    }
    values
}

#[expect(clippy::indexing_slicing, reason = "filled while compiling")]
static HEX_VALUES: [u8; 256] = {
    let mut values = values(HEX);
    let mut index = 10;
    while index < 16 {
        values[HEX[index].to_ascii_uppercase() as usize] = index as u8;
        index += 1;
    }
    values
};
static BASE64_VALUES: [u8; 256] = values(BASE64);

#[inline(always)]
pub fn hex_digit(digit: u8) -> Option<u8> {
    HEX_VALUES.get(usize::from(digit)).copied().filter(|value| *value != NO_DIGIT)
}

/// Appends the bytes that `digits` stand for, in any case. `None` unless they are exactly `length` bytes.
pub fn from_hex(digits: &[u8], length: usize, out: &mut Vec<u8>) -> Option<()> {
    let (pairs, odd) = digits.as_chunks::<2>();
    if pairs.len() != length || !odd.is_empty() {
        return None;
    }
    let value = |digit: u8| HEX_VALUES.get(usize::from(digit)).copied().unwrap_or(NO_DIGIT);
    let mut all = 0;
    out.extend(pairs.iter().map(|[high, low]| {
        let (high, low) = (value(*high), value(*low));
        all |= high | low;
        high << 4 | low
    }));
    (all < 16).then_some(())
}

pub fn put_hex(bytes: &[u8], out: &mut Vec<u8>) {
    let digit = |value: u8| HEX.get(usize::from(value & 15)).copied().unwrap_or_default();
    out.extend(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]));
}

/// Appends the bytes of a padded base64 text.
pub fn from_base64(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (groups, odd) = text.as_chunks::<4>();
    let (last, groups) = groups.split_last().map_or((None, groups), |(last, groups)| (Some(last), groups));
    let digit = |digit: &u8| BASE64_VALUES.get(usize::from(*digit)).copied().filter(|value| *value != NO_DIGIT);
    let value = |digits: &[u8]| digits.iter().try_fold(0u32, |sum, byte| Some(sum << 6 | u32::from(digit(byte)?)));
    for group in groups {
        let [_, bytes @ ..] = value(group)?.to_be_bytes();
        out.extend_from_slice(&bytes);
    }
    match last {
        None => {}
        Some([digits @ .., b'=', b'=']) => out.push((value(digits)? >> 4) as u8),
        Some([digits @ .., b'=']) => out.extend_from_slice(&((value(digits)? >> 2) as u16).to_be_bytes()),
        Some(digits) => out.extend_from_slice(value(digits)?.to_be_bytes().get(1..)?),
    }
    odd.is_empty().then_some(())
}

pub fn put_base64(bytes: &[u8], out: &mut Vec<u8>) {
    for group in bytes.chunks(3) {
        let byte = |index: usize| u32::from(group.get(index).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for index in 0..4 {
            let digit = BASE64.get((bits >> (18 - 6 * index) & 63) as usize).filter(|_| index <= group.len());
            out.push(digit.copied().unwrap_or(b'='));
        }
    }
}

/// A whole number in decimal, however it is written: `1000`, `1e3`, `1000.0`. `None` when it has a fraction, is no
/// number, or would not fit 64 bits of either sign.
pub fn whole(text: &[u8]) -> Option<i128> {
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
    let all_digits = before.bytes().chain(after.bytes()).all(|byte| byte.is_ascii_digit());
    let (sign, places) = match exponent.as_bytes() {
        [b'-', places @ ..] => (-1, places),
        [b'+', places @ ..] | places => (1, places),
    };
    if !all_digits
        || before.is_empty()
        || after.is_empty()
        || places.is_empty()
        || !places.iter().all(u8::is_ascii_digit)
    {
        return None;
    }
    // An exponent too large for the type stands for one that is too large for any text.
    let place = |sum: i64, byte: &u8| sum.saturating_mul(10).saturating_add(i64::from(byte - b'0'));
    let places = places.iter().fold(0i64, place);
    let point = (before.len() as i64).saturating_add(places.saturating_mul(sign));
    let mut value = 0u64;
    let mut position = 0i64;
    for digit in before.bytes().chain(after.bytes()).map(|byte| u64::from(byte - b'0')) {
        if position < point {
            value = value.checked_mul(10)?.checked_add(digit)?;
        } else if digit != 0 {
            return None;
        }
        position += 1;
    }
    while position < point && value != 0 {
        value = value.checked_mul(10)?;
        position += 1;
    }
    Some(value)
}

/// A double written in a string: decimal, `NaN`, `Infinity`, `-Infinity`. `None` also for what overflows.
pub fn double(text: &[u8]) -> Option<f64> {
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    let overflowed = value.is_infinite() && text.iter().any(u8::is_ascii_digit);
    (!overflowed).then_some(value)
}
