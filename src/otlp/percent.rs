//! Percent-encoding, as in URLs and in the messages of gRPC: everything but letters and digits as `%XX`.

use super::hex;

pub fn encoded(text: &str) -> String {
    let mut out = Vec::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => out.push(byte),
            _ => {
                out.push(b'%');
                hex::put(&[byte], &mut out);
            }
        }
    }
    String::from_utf8(out).unwrap_or_default()
}

/// Whether two hex digits follow each `%`.
pub fn is_valid(text: &str) -> bool {
    let is_escape = |after: &str| {
        after.as_bytes().first_chunk::<2>().is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    text.split('%').skip(1).all(is_escape)
}

/// As text, what is no UTF-8 replaced.
pub fn decoded_text(text: &[u8]) -> String {
    String::from_utf8_lossy(&decoded(text)).into_owned()
}

/// A `%` that nothing follows stands for itself.
pub fn decoded(text: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text);
    while let [byte, after @ ..] = rest {
        let mut escaped = Vec::new();
        let escape = after.split_at_checked(2).filter(|_| *byte == b'%');
        let escape = escape.filter(|(digits, _)| hex::read(digits, 1, &mut escaped).is_some());
        out.extend_from_slice(if escape.is_some() { &escaped } else { std::slice::from_ref(byte) });
        rest = escape.map_or(after, |(_, after)| after);
    }
    out
}
