//! Percent-encoding, as in URLs and in the messages of gRPC.

use percent_encoding::percent_decode;

/// Whether two hex digits follow each `%`.
pub fn is_valid(text: &str) -> bool {
    let is_escape = |after: &str| {
        after.as_bytes().first_chunk::<2>().is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    text.split('%').skip(1).all(is_escape)
}

/// As text, what is no UTF-8 replaced. A `%` that no two digits follow stands for itself.
pub fn decoded_text(text: &[u8]) -> String {
    percent_decode(text).decode_utf8_lossy().into_owned()
}

pub fn decoded(text: &[u8]) -> Vec<u8> {
    percent_decode(text).collect()
}
