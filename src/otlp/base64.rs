//! Base64 (RFC 4648): padded in JSON and in the debug text; gRPC's binary headers are written without padding, and read
//! with or without.

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const NO_DIGIT: u8 = 0xff;

/// What each byte stands for as a digit.
#[expect(clippy::indexing_slicing, reason = "filled while compiling")]
static VALUES: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut index = 0;
    while index < DIGITS.len() {
        values[DIGITS[index] as usize] = index as u8;
        index += 1;
    }
    values
};

pub fn encode(bytes: &[u8]) -> String {
    let mut out = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    put(bytes, &mut out);
    String::from_utf8(out).expect("all digits are ASCII")
}

pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let digits = text.split(|byte| *byte == b'=').next().unwrap_or_default();
    let mut out = Vec::with_capacity(digits.len() * 3 / 4);
    read(digits, &mut out).map(|()| out)
}

pub fn put_padded(bytes: &[u8], out: &mut Vec<u8>) {
    put(bytes, out);
    out.resize(out.len() + (3 - bytes.len() % 3) % 3, b'=');
}

/// Appends the bytes of a text whose padding must be complete.
pub fn read_padded(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let digits = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    text.len().is_multiple_of(4).then(|| read(digits, out)).flatten()
}

fn put(bytes: &[u8], out: &mut Vec<u8>) {
    for group in bytes.chunks(3) {
        let word = group.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        let digit = |index: usize| DIGITS.get((word >> (18 - 6 * index) & 63) as usize).copied().unwrap_or_default();
        out.extend((0..=group.len()).map(digit));
    }
}

fn read(digits: &[u8], out: &mut Vec<u8>) -> Option<()> {
    for group in digits.chunks(4) {
        let mut word = 0u32;
        for digit in group {
            let value = VALUES.get(usize::from(*digit)).filter(|value| **value != NO_DIGIT)?;
            word = word << 6 | u32::from(*value);
        }
        let [_, bytes @ ..] = (word << (6 * (4 - group.len()))).to_be_bytes();
        out.extend_from_slice(bytes.get(..group.len().checked_sub(1).filter(|length| *length > 0)?)?);
    }
    Some(())
}
