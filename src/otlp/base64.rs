//! Base64 (RFC 4648): written with padding in JSON and debug text; read with or without padding where the format allows
//! both.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true);
const PADDED: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);
const EITHER: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, LENIENT.with_decode_padding_mode(DecodePaddingMode::Indifferent));

pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    EITHER.decode(text).ok()
}

pub fn put_padded(bytes: &[u8], out: &mut Vec<u8>) {
    let before = out.len();
    out.resize(before + bytes.len().div_ceil(3) * 4, 0);
    let written = PADDED.encode_slice(bytes, out.get_mut(before..).unwrap_or_default());
    out.truncate(before + written.unwrap_or(0));
}

/// Decodes a text with complete padding and appends the bytes.
pub fn read_padded(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    PADDED.decode_vec(text, out).ok()
}
