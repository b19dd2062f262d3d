//! Hexadecimal ids: written in lower case, read in any case.

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// The value of each byte as a digit; 0xff for none.
#[expect(clippy::indexing_slicing, reason = "filled while compiling")]
static VALUES: [u8; 256] = {
    let mut values = [0xff; 256];
    let mut byte = 0;
    while byte < 256 {
        if let Some(value) = (byte as u8 as char).to_digit(16) {
            values[byte] = value as u8;
        }
        byte += 1;
    }
    values
};

#[inline]
pub(crate) fn put(bytes: &[u8], out: &mut Vec<u8>) {
    let digit = |value: u8| DIGITS.get(usize::from(value & 15)).copied().unwrap_or_default();
    let mut digits = [0; 32];
    for piece in bytes.chunks(16) {
        for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(piece) {
            *pair = [digit(byte >> 4), digit(*byte)];
        }
        out.extend_from_slice(digits.get(..2 * piece.len()).unwrap_or_default());
    }
}

/// Decodes `digits` and appends the bytes. `None` unless they are exactly `length` bytes.
pub(crate) fn read(digits: &[u8], length: usize, out: &mut Vec<u8>) -> Option<()> {
    let (pairs, odd) = digits.as_chunks::<2>();
    if pairs.len() != length || !odd.is_empty() {
        return None;
    }
    let value = |digit: u8| VALUES.get(usize::from(digit)).copied().unwrap_or(0xff);
    let mut all = 0;
    out.extend(pairs.iter().map(|[high, low]| {
        let (high, low) = (value(*high), value(*low));
        all |= high | low;
        high << 4 | low
    }));
    (all < 16).then_some(())
}
