//! `Decode`: text from bytes in an encoding with an IANA name, or from base64.

use encoding_rs::{Encoding, WINDOWS_1252, WINDOWS_1254};

use super::{TARGET, function, made, required};
use crate::otlp::base64::{self, Engine, GeneralPurpose};
use crate::ottl::function::{Arguments, Function, Kind};
use crate::ottl::scene::Scene;
use crate::ottl::value::{Fault, Value};

pub(super) const TABLE: &[Function] = &[function("Decode", &[TARGET, required("encoding", Kind::Text)], decode)
    .checked(|arguments| arguments.fixed_text(1).map_or(Ok(()), |name| Coding::named(name).map(drop)))];

enum Coding {
    Base64(&'static GeneralPurpose),
    /// The bytes unchanged.
    Raw,
    Utf8,
    Ascii,
    /// ISO-8859-1: the bytes are the first characters of Unicode. Browsers use windows-1252 instead.
    Latin1,
    /// ISO-8859-9, for which browsers use windows-1254.
    Latin5,
    Utf16(fn([u8; 2]) -> u16),
    /// Big-endian unless a byte order mark says otherwise.
    Utf16Marked,
    Table(&'static Encoding),
}

/// IANA names that `encoding_rs`, made for browsers, does not know, with an equivalent label.
const ALIASES: &[(&[&str], &str)] = &[
    (&["cp936", "csgbk", "ms936", "windows-936"], "gbk"),
    (&["csgb18030"], "gb18030"),
    (&["cskoi8u"], "koi8-u"),
    (&["csutf8"], "utf-8"),
    (&["csutf16be"], "utf-16be"),
    (&["csutf16le"], "utf-16le"),
    (&["csiso885913"], "iso-8859-13"),
    (&["csiso885914", "iso-celtic", "iso-ir-199", "iso_8859-14:1998", "l8", "latin8"], "iso-8859-14"),
    (&["csiso885915", "latin-9"], "iso-8859-15"),
    (&["csiso885916", "iso-ir-226", "iso_8859-16:2001", "l10", "latin10"], "iso-8859-16"),
    (&["iso_8859-10:1992"], "iso-8859-10"),
    (&["extended_unix_code_packed_format_for_japanese"], "euc-jp"),
];

/// Labels of encodings that browsers know and the Go collector does not; `is_of_browsers` has the prefixes of more.
#[rustfmt::skip]
const OF_BROWSERS: [&str; 42] = [
    "l9", "csisolatin9", "koi", "koi8", "koi8_r", "koi8-ru", "sjis", "ms932", "shift-jis", "windows-31j", "ucs-2",
    "unicode", "csunicode", "unicodefeff", "unicodefffe", "iso-10646-ucs-2", "gb2312", "gb_2312", "chinese",
    "csgb2312", "iso-ir-58", "gb_2312-80", "csiso58gb231280", "korean", "ksc5601", "ksc_5601", "iso-ir-149",
    "windows-949", "csksc56011987", "ks_c_5601-1987", "ks_c_5601-1989", "tis-620", "dos-874", "iso-8859-11",
    "cn-big5", "big5-hkscs", "visual", "logical", "sun_eu_greek", "unicode11utf8", "unicode20utf8",
    "unicode-1-1-utf-8",
];

fn is_of_browsers(label: &str) -> bool {
    ["x-", "cp125", "iso8859"].iter().any(|start| label.starts_with(start)) || OF_BROWSERS.contains(&label)
}

impl Coding {
    fn named(name: &[u8]) -> Result<Coding, String> {
        // These are not IANA names, and are case-sensitive.
        if let Some(variant) = base64::variant(name) {
            return Ok(Coding::Base64(variant));
        }
        let lower = name.trim_ascii().to_ascii_lowercase();
        let lower = String::from_utf8_lossy(&lower);
        let of_label = |label: &str| Encoding::for_label_no_replacement(label.as_bytes());
        let named = |label: &str| of_label(label).filter(|_| !is_of_browsers(label));
        let renamed = || {
            let alias = ALIASES.iter().find(|(names, _)| names.contains(&&*lower)).map(|(_, label)| *label);
            let plain = lower.replacen("iso_8859", "iso-8859", 1).replacen("cswindows", "windows-", 1);
            alias.and_then(named).or_else(|| named(&plain))
        };
        Ok(match &*lower {
            "" | "utf8" | "utf-8" | "ascii" | "us-ascii" => Coding::Utf8,
            "nop" | "utf8-raw" | "utf-8-raw" => Coding::Raw,
            "utf16" | "utf-16" | "utf-16le" | "csutf16le" => Coding::Utf16(u16::from_le_bytes),
            "utf-16be" | "csutf16be" => Coding::Utf16(u16::from_be_bytes),
            "csutf16" => Coding::Utf16Marked,
            "ansi_x3.4-1968" | "ansi_x3.4-1986" | "cp367" | "csascii" | "ibm367" | "iso-ir-6" | "iso646-us"
            | "iso_646.irv:1991" | "us" => Coding::Ascii,
            _ => match named(&lower).or_else(renamed) {
                Some(table) if table == WINDOWS_1252 && !lower.ends_with("1252") => Coding::Latin1,
                Some(table) if table == WINDOWS_1254 && !lower.ends_with("1254") => Coding::Latin5,
                Some(table) => Coding::Table(table),
                None => {
                    let advice = match of_label(&lower).map(Encoding::name) {
                        Some("windows-1252") if !lower.ends_with("1252") => "write iso-8859-1".to_owned(),
                        Some("windows-1254") if !lower.ends_with("1254") => "write iso-8859-9".to_owned(),
                        Some("x-mac-cyrillic" | "x-user-defined") | None => {
                            "write a name of the IANA that browsers know too, such as utf-8, windows-1252 or shift_jis, or base64".to_owned()
                        }
                        Some(table) => format!("write {}", table.to_ascii_lowercase()),
                    };
                    return Err(format!("unsupported encoding '{}': {advice}", String::from_utf8_lossy(name)));
                }
            },
        })
    }
}

fn decode<'a>(arguments: &'a Arguments, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
    let encoded = match arguments.value(0, scene)? {
        Value::String(bytes) | Value::Bytes(bytes) => bytes,
        other => {
            return Err(Fault::new(format!("unsupported type provided to Decode function: {}", other.type_name())));
        }
    };
    let name = arguments.text(1, scene)?;
    let latin = |byte: &u8| char::from(*byte);
    let text = match Coding::named(name).map_err(Fault::new)? {
        Coding::Base64(variant) => {
            let digits: Vec<u8> = encoded.iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
            let illegal = |_| Fault::new("could not decode: illegal base64 data");
            return made(scene.arena, &variant.decode(digits).map_err(illegal)?);
        }
        Coding::Raw => return Ok(Value::String(encoded)),
        Coding::Utf8 => String::from_utf8_lossy(encoded).into_owned(),
        Coding::Ascii => encoded.iter().map(|byte| if byte.is_ascii() { latin(byte) } else { '\u{fffd}' }).collect(),
        Coding::Latin1 => encoded.iter().map(latin).collect(),
        Coding::Latin5 => encoded.iter().map(latin).map(latin5).collect(),
        Coding::Utf16(from) => utf16(encoded, from),
        Coding::Utf16Marked => match encoded {
            [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
            [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
            rest => utf16(rest, u16::from_be_bytes),
        },
        Coding::Table(table) => {
            let (text, _) = table.decode_without_bom_handling(encoded);
            match table.is_single_byte() {
                // Browsers map unassigned bytes to control characters.
                true => text.chars().map(|c| if ('\u{80}'..'\u{a0}').contains(&c) { '\u{fffd}' } else { c }).collect(),
                false => text.into_owned(),
            }
        }
    };
    made(scene.arena, text.as_bytes())
}

/// The ISO-8859-9 character in place of an ISO-8859-1 one.
fn latin5(latin: char) -> char {
    match latin {
        'Ð' => 'Ğ',
        'Ý' => 'İ',
        'Þ' => 'Ş',
        'ð' => 'ğ',
        'ý' => 'ı',
        'þ' => 'ş',
        same => same,
    }
}

fn utf16(encoded: &[u8], from: fn([u8; 2]) -> u16) -> String {
    let (pairs, odd) = encoded.as_chunks::<2>();
    let units = pairs.iter().map(|pair| from(*pair)).chain(odd.first().map(|_| 0xfffd));
    char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}
