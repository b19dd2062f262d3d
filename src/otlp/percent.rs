//! Percent-encoding, as in URLs and gRPC messages.

use percent_encoding::percent_decode;

/// Whether every `%` is followed by two hex digits.
pub(crate) fn is_valid(text: &str) -> bool {
    let is_escape = |after: &str| {
        after.as_bytes().first_chunk::<2>().is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    text.split('%').skip(1).all(is_escape)
}

/// Decoded text, with invalid UTF-8 replaced. A `%` without two digits is kept.
pub fn decoded_text(text: &[u8]) -> String {
    percent_decode(text).decode_utf8_lossy().into_owned()
}

pub fn decoded(text: &[u8]) -> Vec<u8> {
    percent_decode(text).collect()
}
