//! Base64 (RFC 4648): written with padding in JSON and debug text; read with or without padding where the format allows
//! both.

use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};

pub(crate) use base64::Engine;
pub(crate) use base64::engine::GeneralPurpose;

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true);
const PADDED: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);
const EITHER: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, LENIENT.with_decode_padding_mode(DecodePaddingMode::Indifferent));

const RAW: GeneralPurposeConfig =
    LENIENT.with_encode_padding(false).with_decode_padding_mode(DecodePaddingMode::RequireNone);

static VARIANTS: [(&[u8], GeneralPurpose); 4] = [
    (b"base64", PADDED),
    (b"base64-raw", GeneralPurpose::new(&STANDARD, RAW)),
    (b"base64-url", GeneralPurpose::new(&URL_SAFE, LENIENT)),
    (b"base64-raw-url", GeneralPurpose::new(&URL_SAFE, RAW)),
];

/// The variant of base64 with this name in OTTL.
pub(crate) fn variant(name: &[u8]) -> Option<&'static GeneralPurpose> {
    VARIANTS.iter().find(|(known, _)| *known == name).map(|(_, variant)| variant)
}

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
