//! Hashes of texts in hexadecimal, and ids.

use std::net::IpAddr;

use md5::{Digest, Md5};
use ring::digest::{self, Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA512};
use ring::rand::{SecureRandom, SystemRandom};
use twox_hash::{XxHash3_64, XxHash3_128};

use super::casting::bytes;
use super::{CONVERTED, TEXT, function, made, optional, required};
use crate::order::Ordered;
use crate::otlp::{base64, hex};
use crate::ottl::function::{Arguments, Function, Kind};
use crate::ottl::scene::Scene;
use crate::ottl::value::{Fault, Value};

/// A hash of a text, in hexadecimal.
macro_rules! hash {
    ($name:literal, $hash:expr) => {
        function($name, &[TEXT], |arguments, scene| {
            let mut digits = Vec::new();
            hex::put($hash(arguments.text(0, scene)?).as_ref(), &mut digits);
            made(scene.arena, &digits)
        })
    };
}

/// An id from its bytes, or from twice as many hex digits.
macro_rules! id {
    ($name:literal, $variant:ident, $length:literal) => {
        function($name, &[CONVERTED], |arguments, scene| {
            let mut buffer = [0; 8];
            let given = bytes(arguments.value(0, scene)?, &mut buffer)?;
            let mut id = Vec::new();
            if given.len() == 2 * $length {
                let read = hex::read(given, $length, &mut id);
                read.ok_or_else(|| Fault::new(concat!($name, ": could not decode ID: invalid hex")))?;
            } else {
                id.extend_from_slice(given);
            }
            let wrong = |_| {
                let expected = concat!($name, ": could not decode ID: invalid length: expected ");
                Fault::new(format!("{expected}{} or {} bytes, got {}", $length, 2 * $length, given.len()))
            };
            Ok(Value::$variant(<[u8; $length]>::try_from(id.as_slice()).map_err(wrong)?))
        })
    };
}

pub(super) const TABLE: &[Function] = &[
    function(
        "CommunityID",
        &[
            required("source_ip", Kind::Text),
            required("source_port", Kind::Int),
            required("destination_ip", Kind::Text),
            required("destination_port", Kind::Int),
            optional("protocol", Kind::Text),
            optional("seed", Kind::Int),
        ],
        community_id,
    ),
    function("FNV", &[TEXT], |arguments, scene| {
        let text = arguments.text(0, scene)?;
        let hash = text
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        Ok(Value::Int(hash as i64))
    }),
    hash!("MD5", md5),
    hash!("Murmur3Hash", |text| murmur3(text).to_le_bytes()),
    hash!("Murmur3Hash128", |text| murmur3_128(text).to_le_bytes()),
    hash!("SHA1", |text| sha(&SHA1_FOR_LEGACY_USE_ONLY, text)),
    hash!("SHA256", |text| sha(&SHA256, text)),
    hash!("SHA512", |text| sha(&SHA512, text)),
    hash!("XXH128", |text| XxHash3_128::oneshot(text).to_be_bytes()),
    hash!("XXH3", |text| XxHash3_64::oneshot(text).to_be_bytes()),
    id!("SpanID", SpanId, 8),
    id!("TraceID", TraceId, 16),
    function("UUID", &[], |_, scene| uuid(scene, None)).evaluated_when_run(),
    function("UUIDv7", &[], |_, scene| {
        let since = scene.now()?.wall.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        uuid(scene, Some(since.as_millis() as u64))
    }),
];

fn sha(algorithm: &'static Algorithm, text: &[u8]) -> digest::Digest {
    digest::digest(algorithm, text)
}

/// Protocol numbers for a `CommunityID`.
const PROTOCOLS: [(&[u8], u8); 6] =
    [(b"ICMP", 1), (b"TCP", 6), (b"UDP", 17), (b"RSVP", 46), (b"ICMP6", 58), (b"SCTP", 132)];

/// The Community ID, version 1, of a flow: the same in both directions.
fn community_id<'a>(arguments: &'a Arguments, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
    let mut number = |index, what| {
        let number = arguments.int(index, scene)?;
        u16::try_from(number).map_err(|_| Fault::new(format!("{what} must be between 0 and 65535, got {number}")))
    };
    let (source_port, destination_port) = (number(1, "source port")?, number(3, "destination port")?);
    let seed = if arguments.is_given(5) { number(5, "seed")? } else { 0 };
    let mut address = |index, what| {
        let text = String::from_utf8_lossy(arguments.text(index, scene)?);
        match text.parse::<IpAddr>().map(|address| address.to_canonical()) {
            Ok(IpAddr::V4(address)) => Ok(address.octets().to_vec()),
            Ok(IpAddr::V6(address)) => Ok(address.octets().to_vec()),
            Err(_) => Err(Fault::new(format!("invalid {what} IP: {text}"))),
        }
    };
    let mut ends = [(address(0, "source")?, source_port), (address(2, "destination")?, destination_port)];
    let protocol = if arguments.is_given(4) { arguments.text(4, scene)? } else { b"TCP" };
    let protocol = PROTOCOLS
        .iter()
        .find(|(name, _)| *name == protocol)
        .ok_or_else(|| Fault::new(format!("unsupported protocol: {}", String::from_utf8_lossy(protocol))))?;
    ends.order_by(|(one, one_port), (other, other_port)| {
        (one.len(), one, one_port).cmp(&(other.len(), other, other_port))
    });
    let [(lower, lower_port), (upper, upper_port)] = ends;
    let (lower_port, upper_port) = (lower_port.to_be_bytes(), upper_port.to_be_bytes());
    let flow = [&seed.to_be_bytes()[..], &lower, &upper, &[protocol.1, 0], &lower_port, &upper_port].concat();
    let mut id = b"1:".to_vec();
    base64::put_padded(sha(&SHA1_FOR_LEGACY_USE_ONLY, &flow).as_ref(), &mut id);
    made(scene.arena, &id)
}

/// A UUID of version 4, or of version 7 with a time in milliseconds (RFC 9562).
fn uuid<'a>(scene: &Scene<'_, 'a>, milliseconds: Option<u64>) -> Result<Value<'a>, Fault> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Fault::new("the system gives no random numbers"))?;
    let random = u128::from_be_bytes(bytes);
    let (version, head) = match milliseconds {
        None => (4, random >> 80),
        Some(milliseconds) => (7, u128::from(milliseconds)),
    };
    let bits = head << 80 | version << 76 | (random >> 64 & 0xfff) << 64 | 0b10 << 62 | random & (u128::MAX >> 66);
    let digits = format!("{bits:032x}");
    let groups = [0..8, 8..12, 12..16, 16..20, 20..32].map(|group| digits.get(group).unwrap_or_default());
    made(scene.arena, groups.join("-").as_bytes())
}

pub(crate) fn md5(text: &[u8]) -> [u8; 16] {
    Md5::digest(text).into()
}

/// MurmurHash3 by A. Appleby (x86, 32 bits), with seed 0.
fn murmur3(text: &[u8]) -> u32 {
    let mix = |word: u32| word.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    let (blocks, tail) = text.as_chunks::<4>();
    let hash = blocks.iter().fold(0u32, |hash, block| {
        (hash ^ mix(u32::from_le_bytes(*block))).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
    });
    let tail = tail.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
    let hash = hash ^ mix(tail) ^ text.len() as u32;
    let hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    let hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

/// The same with 128 bits (x64); the first half is the lower one.
fn murmur3_128(text: &[u8]) -> u128 {
    const ONE: u64 = 0x87c3_7b91_1142_53d5;
    const TWO: u64 = 0x4cf5_ad43_2745_937f;
    let mix_one = |word: u64| word.wrapping_mul(ONE).rotate_left(31).wrapping_mul(TWO);
    let mix_two = |word: u64| word.wrapping_mul(TWO).rotate_left(33).wrapping_mul(ONE);
    let halves = |block: u128| (block as u64, (block >> 64) as u64);
    let (blocks, tail) = text.as_chunks::<16>();
    let (mut one, mut two) = (0u64, 0u64);
    for block in blocks {
        let (low, high) = halves(u128::from_le_bytes(*block));
        one = (one ^ mix_one(low)).rotate_left(27).wrapping_add(two).wrapping_mul(5).wrapping_add(0x52dc_e729);
        two = (two ^ mix_two(high)).rotate_left(31).wrapping_add(one).wrapping_mul(5).wrapping_add(0x3849_5ab5);
    }
    let (low, high) = halves(tail.iter().rev().fold(0, |block, byte| block << 8 | u128::from(*byte)));
    let finish = |word: u64| {
        let word = (word ^ word >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
        let word = (word ^ word >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        word ^ word >> 33
    };
    one ^= mix_one(low) ^ text.len() as u64;
    two ^= mix_two(high) ^ text.len() as u64;
    one = one.wrapping_add(two);
    two = two.wrapping_add(one);
    (one, two) = (finish(one), finish(two));
    one = one.wrapping_add(two);
    two = two.wrapping_add(one);
    u128::from(two) << 64 | u128::from(one)
}
