//! The content of a certificate, for people: parsed leniently, and trusted in nothing. rustls verifies.

use std::net::IpAddr;

use jiff::Timestamp;

/// DER tags.
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const INTEGER: u8 = 0x02;
const BITS: u8 = 0x03;
const OBJECT: u8 = 0x06;
const OCTETS: u8 = 0x04;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const UTC_TIME: u8 = 0x17;
const GENERAL_TIME: u8 = 0x18;
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;

const COMMON_NAME: &[u8] = &[0x55, 4, 3];
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
const ELLIPTIC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
const P521: &[u8] = &[0x2b, 0x81, 4, 0, 0x23];
/// The shortest RSA key that ring accepts, in bits.
const LEAST: usize = 2048;

const ORGANISATION: &[u8] = &[0x55, 4, 10];
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 29, 17];

#[derive(Debug, PartialEq)]
pub(crate) struct Certificate {
    pub(crate) subject: String,
    pub(crate) issuer: String,
    pub(crate) expires: Timestamp,
    /// Its subjects: host names and addresses.
    pub(crate) names: Vec<String>,
}

/// The complete elements of a DER value.
struct Elements<'a>(&'a [u8]);

impl<'a> Iterator for Elements<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[tag, first], rest) = self.0.split_first_chunk()?;
        let digits = usize::from(first & 0x7f) * usize::from(first >> 7);
        let (long, rest) = rest.split_at_checked(digits).filter(|_| digits <= 4)?;
        let length = match digits {
            0 => usize::from(first),
            _ => long.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)),
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }
}

fn inside(content: &[u8], wanted: u8) -> Option<&[u8]> {
    Elements(content).find(|(tag, _)| *tag == wanted).map(|(_, content)| content)
}

impl Certificate {
    pub(crate) fn read(der: &[u8]) -> Option<Certificate> {
        let signed = inside(inside(der, SEQUENCE)?, SEQUENCE)?;
        // Version, serial number, algorithm, then: issuer, validity, subject.
        let mut fields = Elements(signed).skip_while(|(tag, _)| *tag == VERSION).skip(2);
        let (_, issuer) = fields.next()?;
        let (_, validity) = fields.next()?;
        let (_, subject) = fields.next()?;
        let (tag, expires) = Elements(validity).nth(1)?;
        let extensions = fields.find(|(tag, _)| *tag == EXTENSIONS).and_then(|(_, found)| inside(found, SEQUENCE));
        let names = Elements(extensions.unwrap_or_default()).find_map(|(_, extension)| {
            let is_wanted = inside(extension, OBJECT) == Some(ALTERNATIVE_NAMES);
            is_wanted.then(|| inside(inside(extension, OCTETS)?, SEQUENCE)).flatten()
        });
        let names = Elements(names.unwrap_or_default()).filter_map(|(tag, name)| match (tag, name.len()) {
            (DNS_NAME, _) => Some(String::from_utf8_lossy(name).into_owned()),
            (IP_ADDRESS, 4) => Some(IpAddr::from(<[u8; 4]>::try_from(name).ok()?).to_string()),
            (IP_ADDRESS, 16) => Some(IpAddr::from(<[u8; 16]>::try_from(name).ok()?).to_string()),
            _ => None,
        });
        Some(Certificate {
            names: names.collect(),
            subject: name(subject),
            issuer: name(issuer),
            expires: time(tag, expires)?,
        })
    }
}

/// The description of a certificate's key, if ring does not support it.
pub(super) fn unusable_key(der: &[u8]) -> Option<String> {
    let signed = inside(inside(der, SEQUENCE)?, SEQUENCE)?;
    // Serial number, algorithm, issuer, validity, subject, then the key.
    let (_, key) = Elements(signed).skip_while(|(tag, _)| *tag == VERSION).nth(5)?;
    let mut objects = Elements(inside(key, SEQUENCE)?).filter(|(tag, _)| *tag == OBJECT).map(|(_, object)| object);
    match (objects.next()?, objects.next()) {
        (ELLIPTIC, Some(P521)) => Some("a P-521 key: use P-256, P-384, Ed25519, or RSA".to_owned()),
        (RSA, _) => {
            // The first byte of a bit string counts the unused bits of its last byte.
            let (_, numbers) = inside(key, BITS)?.split_first()?;
            let modulus = inside(inside(numbers, SEQUENCE)?, INTEGER)?;
            let bits = 8 * modulus.iter().skip_while(|byte| **byte == 0).count();
            (bits < LEAST).then(|| format!("an RSA key of {bits} bits: {LEAST} are the least"))
        }
        _ => None,
    }
}

/// The common name, else the organisation.
fn name(name: &[u8]) -> String {
    let part = |wanted: &[u8]| {
        let sets = Elements(name).filter(|(tag, _)| *tag == SET);
        let mut pairs = sets.flat_map(|(_, set)| Elements(set)).map(|(_, pair)| pair);
        let pair = pairs.find(|pair| inside(pair, OBJECT) == Some(wanted))?;
        Elements(pair).nth(1).map(|(_, text)| String::from_utf8_lossy(text).into_owned())
    };
    part(COMMON_NAME).or_else(|| part(ORGANISATION)).unwrap_or_else(|| "somebody without a name".to_owned())
}

/// `YYMMDDHHMMSSZ`, or with four digits of the year.
fn time(tag: u8, text: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?;
    let text = match tag {
        UTC_TIME if text.get(..2)? < "50" => format!("20{text}"),
        UTC_TIME => format!("19{text}"),
        GENERAL_TIME => text.to_owned(),
        _ => return None,
    };
    let part = |from: usize, to: usize| text.get(from..to);
    let (year, month, day) = (part(0, 4)?, part(4, 6)?, part(6, 8)?);
    format!("{year}-{month}-{day}T{}:{}:{}Z", part(8, 10)?, part(10, 12)?, part(12, 14)?).parse().ok()
}
