//! Compressed bodies: what opens, what is refused, and that neither size nor time follow what a stream claims.

use std::io::{ErrorKind, Write};
use std::time::{Duration, Instant};

use misaki::face::otlp::{Coding, Deflater, InflateError, Inflater, WHOLE, deflate};
use proptest::prelude::*;

const MIB: usize = 1 << 20;
const CODINGS: [Coding; 6] =
    [Coding::Gzip, Coding::Zstd, Coding::Deflate, Coding::Snappy, Coding::SnappyFramed, Coding::Lz4];

/// What came of a body: the result, the output, and the sum of what was granted.
fn inflate_in(coding: Coding, body: &[u8], chunk: usize, limit: usize) -> (Result<(), InflateError>, Vec<u8>, usize) {
    let (mut out, mut granted) = (Vec::new(), 0);
    let mut grant = |size| {
        granted += size;
        true
    };
    let mut inflater = Inflater::new(coding, limit);
    let pushed = body.chunks(chunk).try_for_each(|chunk| inflater.push(chunk, &mut out, &mut grant));
    let result = pushed.and_then(|()| inflater.finish(&mut out, &mut grant));
    assert!(out.len() <= limit, "{coding:?}: {} bytes came out above the limit of {limit}", out.len());
    assert!(out.capacity() <= granted, "{coding:?}: {} bytes allocated, {granted} granted", out.capacity());
    (result, out, granted)
}

fn inflate(coding: Coding, body: &[u8]) -> Result<Vec<u8>, InflateError> {
    let (result, out, _) = inflate_in(coding, body, usize::MAX, 64 * MIB);
    for chunk in [1, 7, 1000] {
        let (chunked, chunked_out, _) = inflate_in(coding, body, chunk, 64 * MIB);
        assert_eq!(chunked.is_ok(), result.is_ok(), "{coding:?} in chunks of {chunk}: {chunked:?} against {result:?}");
        if result.is_ok() {
            assert_eq!(chunked_out, out);
        }
    }
    // The decoder for whole bodies takes some of them, and must agree.
    let (mut inflater, mut whole) = (Inflater::new(coding, 64 * MIB), Vec::new());
    if inflater.push_whole(body, &mut whole, &mut |_| true) {
        assert!(result.is_ok() && whole == out, "{coding:?}: {} bytes at once, {} in pieces", whole.len(), out.len());
        inflater.finish(&mut whole, &mut |_| true).unwrap();
    }
    result.map(|()| out)
}

fn is_corrupt(coding: Coding, body: &[u8], what: &str) {
    match inflate(coding, body) {
        Err(InflateError::Corrupt(text)) => assert!(text.contains(what), "{coding:?}: {text:?} does not say {what:?}"),
        other => panic!("{coding:?}: {what:?} expected, not {:?}", other.map(|out| out.len())),
    }
}

fn compressed(coding: Coding, text: &[u8]) -> Vec<u8> {
    deflate(coding, None, &[text], usize::MAX).unwrap()
}

fn repetitive(size: usize) -> Vec<u8> {
    (0..size / 16 + 1).flat_map(|i| format!("{:08x} request ", i * 7919 % 5000).into_bytes()).take(size).collect()
}

#[test]
fn names() {
    for coding in CODINGS {
        assert_eq!(Coding::from_http(coding.http_name()), Some(coding));
    }
    assert_eq!(Coding::from_http(""), Some(Coding::Identity));
    assert_eq!(Coding::from_http("zlib"), Some(Coding::Deflate));
    assert_eq!(Coding::from_http("GZIP"), Some(Coding::Gzip));
    assert_eq!(Coding::from_http("br"), None);
    assert_eq!(Coding::from_http("gzip, gzip"), None);
    assert_eq!(Coding::from_grpc("snappy"), Some(Coding::SnappyFramed));
    assert_eq!(Coding::SnappyFramed.grpc_name(), "snappy");
    assert_eq!(Coding::from_grpc("deflate"), None);
    assert_eq!(Coding::from_grpc("lz4"), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn round_trip(parts in prop::collection::vec(prop::collection::vec(0u8..8, 0..5000), 0..5), noise in any::<[u8; 32]>(),
                  chunk in 1usize..3000, level in prop::option::of(-2i32..12)) {
        let mut slices: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        slices.push(&noise);
        let whole = slices.concat();
        for coding in CODINGS {
            let body = deflate(coding, level, &slices, usize::MAX).unwrap();
            let (result, out, _) = inflate_in(coding, &body, chunk, whole.len());
            prop_assert_eq!(result, Ok(()));
            prop_assert_eq!(&out, &whole);
            let (result, _, _) = inflate_in(coding, &body, chunk, whole.len() - 1);
            prop_assert_eq!(result, Err(InflateError::TooLarge { limit: whole.len() - 1 }), "{:?}", coding);
        }
    }

    /// Whatever comes, it ends in bounds.
    #[test]
    fn arbitrary_bytes(mut body in prop::collection::vec(any::<u8>(), 0..2000), flip in any::<prop::sample::Index>(), pick in 0usize..5) {
        let _ = inflate_in(CODINGS[pick], &body, 100, 10_000);
        body = compressed(CODINGS[pick], &body);
        if !body.is_empty() {
            let at = flip.index(body.len());
            body[at] ^= 0x10;
            let _ = inflate_in(CODINGS[pick], &body, 100, 10_000);
        }
    }
}

/// What is longer than is joined goes through encoders that hold none of it; neither kind writes more than it may.
#[test]
fn long_bodies_are_compressed_as_they_come() {
    let noise: Vec<u8> =
        (0..WHOLE as u64 / 8 + 1).flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()).collect();
    for text in [repetitive(300_000), repetitive(WHOLE + 300_000), noise] {
        for coding in CODINGS.into_iter().chain([Coding::Identity]) {
            let body = |most: usize, piece: usize| {
                let mut deflater = Deflater::new(coding, None, most);
                text.chunks(piece).try_for_each(|piece| deflater.put(piece))?;
                deflater.finish().map(|pieces| pieces.concat())
            };
            let whole = body(usize::MAX, 70_000).unwrap();
            let is_same = match coding {
                Coding::Identity => whole == text,
                _ => inflate_in(coding, &whole, 1 << 16, text.len()).1 == text,
            };
            assert!(is_same, "{coding:?}");
            // Encoders that write to a buffer at once want some more room than they use.
            let room = if text.len() > WHOLE { 0 } else { 128 << 10 };
            assert_eq!(body(whole.len() + room, 70_000).unwrap().len(), whole.len(), "{coding:?}");
            let kind = body(whole.len() - 1, 70_000).unwrap_err().kind();
            assert_eq!(kind, ErrorKind::FileTooLarge, "{coding:?}");
            let kind = deflate(coding, None, &[&text], whole.len() / 4).unwrap_err().kind();
            assert_eq!(kind, ErrorKind::FileTooLarge, "{coding:?}");
        }
    }
}

#[test]
fn large_bodies_of_other_encoders() {
    let text = repetitive(3 * MIB);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    gzip.write_all(&text).unwrap();
    assert!(inflate(Coding::Gzip, &gzip.finish().unwrap()).unwrap() == text);
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::new(6));
    zlib.write_all(&text).unwrap();
    assert!(inflate(Coding::Deflate, &zlib.finish().unwrap()).unwrap() == text);
    // Without its size in the header and with the window of the Go collector's encoder.
    let mut zstd = zstd::Encoder::new(Vec::new(), 3).unwrap();
    zstd.window_log(23).unwrap();
    zstd.write_all(&text).unwrap();
    assert!(inflate(Coding::Zstd, &zstd.finish().unwrap()).unwrap() == text);
}

#[test]
fn snappy_is_told_apart_by_its_first_bytes() {
    let text = repetitive(200_000);
    for written in [Coding::Snappy, Coding::SnappyFramed] {
        for read in [Coding::Snappy, Coding::SnappyFramed] {
            assert!(inflate(read, &compressed(written, &text)).unwrap() == text);
        }
    }
}

#[test]
fn gzip_members_follow_one_another() {
    let (one, two) = (compressed(Coding::Gzip, b"one "), compressed(Coding::Gzip, b"two"));
    assert_eq!(inflate(Coding::Gzip, &[&one[..], &two].concat()).unwrap(), b"one two");
    assert_eq!(inflate(Coding::Gzip, &[&one[..], &one].concat()).unwrap(), b"one one ");
    is_corrupt(Coding::Gzip, &[&one[..], b"garbage"].concat(), "no gzip header after the end of member 1");
    is_corrupt(Coding::Gzip, &[&one[..], &[0; 20]].concat(), "no gzip header");
    is_corrupt(Coding::Gzip, &[&one[..], &two[..5]].concat(), "ends too early");
}

#[test]
fn a_usual_gzip_body_is_decompressed_at_once() {
    let at_once =
        |body: &[u8], limit| Inflater::new(Coding::Gzip, limit).push_whole(body, &mut Vec::new(), &mut |_| true);
    let body = compressed(Coding::Gzip, &repetitive(30_000));
    assert!(at_once(&body, MIB));
    assert!(!at_once(&body, 29_999), "beyond the limit");
    assert!(!at_once(&compressed(Coding::Gzip, &repetitive(300_000)), MIB), "too long to be made at once");
    assert!(!at_once(&[&body[..], &body].concat(), MIB), "two members");
    let mut wrong = body.clone();
    wrong[20] ^= 1;
    assert!(!at_once(&wrong, MIB), "a wrong byte");
    assert!(!Inflater::new(Coding::Gzip, MIB).push_whole(&body, &mut Vec::new(), &mut |_| false), "no memory");
}

#[test]
fn gzip_headers() {
    let body = compressed(Coding::Gzip, b"text");
    let with = |flags: u8, extra: &[u8]| [&[0x1f, 0x8b, 8, flags], &body[4..10], extra, &body[10..]].concat();
    assert_eq!(inflate(Coding::Gzip, &with(4, b"\x03\x00abc")).unwrap(), b"text");
    assert_eq!(inflate(Coding::Gzip, &with(8 | 16, b"name\0comment\0")).unwrap(), b"text");
    let head = [&[0x1f, 0x8b, 8, 2 | 8], &body[4..10], b"n\0"].concat();
    let checksum = (libdeflater::crc32(&head) as u16).to_le_bytes();
    assert_eq!(inflate(Coding::Gzip, &[&head, &checksum[..], &body[10..]].concat()).unwrap(), b"text");
    is_corrupt(Coding::Gzip, &with(8, &[b'x'; 2000]), "longer than 1 KiB");
    is_corrupt(Coding::Gzip, b"{\"resourceLogs\":[]}", "no gzip header");
}

#[test]
fn every_cut_and_every_tail_is_noticed() {
    let text = repetitive(3000);
    for coding in [Coding::Gzip, Coding::Zstd, Coding::Deflate, Coding::Snappy, Coding::SnappyFramed] {
        let body = compressed(coding, &text);
        for end in (0..body.len()).step_by(13).chain([body.len() - 1]) {
            // A framed stream may end after any of its frames.
            if coding != Coding::SnappyFramed || end != 10 {
                assert!(
                    matches!(inflate(coding, &body[..end]), Err(InflateError::Corrupt(_))),
                    "{coding:?} cut at {end}"
                );
            }
        }
        let tail = [&body[..], b"\x02\x02\x02\x02\x02"].concat();
        assert!(matches!(inflate(coding, &tail), Err(InflateError::Corrupt(_))), "{coding:?} with a tail");
    }
}

#[test]
fn checksums_are_verified() {
    let text = repetitive(3000);
    for (coding, from_the_end) in [(Coding::Gzip, 8), (Coding::Gzip, 1), (Coding::Deflate, 1)] {
        let mut body = compressed(coding, &text);
        let at = body.len() - from_the_end;
        body[at] ^= 1;
        assert!(matches!(inflate(coding, &body), Err(InflateError::Corrupt(_))), "{coding:?}");
    }
}

#[test]
fn the_budget_is_asked_first() {
    let text = repetitive(MIB);
    for coding in CODINGS {
        let body = compressed(coding, &text);
        let (mut out, mut left) = (Vec::new(), 256 << 10);
        let mut grant = |size: usize| {
            let granted = size <= left;
            left -= if granted { size } else { 0 };
            granted
        };
        let mut inflater = Inflater::new(coding, 64 * MIB);
        let pushed = body.chunks(1000).try_for_each(|chunk| inflater.push(chunk, &mut out, &mut grant));
        let result = pushed.and_then(|()| inflater.finish(&mut out, &mut grant));
        assert_eq!(result, Err(InflateError::NoMemory), "{coding:?}");
        assert!(out.capacity() <= 256 << 10, "{coding:?}");
    }
}

/// A body in one piece is one allocation that fits: what a small request pins is what it holds.
#[test]
fn one_piece_is_one_allocation() {
    let text = repetitive(35_000);
    for coding in [Coding::Gzip, Coding::Zstd, Coding::Snappy] {
        let (result, out, _) = inflate_in(coding, &compressed(coding, &text), usize::MAX, 64 * MIB);
        assert_eq!(result, Ok(()));
        assert!(out.capacity() <= text.len() + 1, "{coding:?}: {}", out.capacity());
    }
}

/// Refused as too large, with no more memory granted than `granted`, in time.
fn bomb(name: &str, coding: Coding, body: &[u8], granted_most: usize) {
    let start = Instant::now();
    let limit = 4 * MIB;
    let (result, _, granted) = inflate_in(coding, body, 64 << 10, limit);
    assert!(result.is_err(), "{name} was let through");
    assert!(granted <= granted_most, "{name}: {granted} bytes granted");
    assert!(start.elapsed() < Duration::from_secs(10), "{name} took {:?}", start.elapsed());
}

#[test]
fn bombs() {
    let zeros = vec![0; 64 * MIB];
    for coding in [Coding::Gzip, Coding::Deflate, Coding::Zstd, Coding::SnappyFramed] {
        let body = compressed(coding, &zeros);
        bomb("zeros", coding, &body, 16 * MIB);
    }
    let member = compressed(Coding::Gzip, &zeros[..MIB]);
    bomb("gzip members", Coding::Gzip, &member.repeat(100), 8 * MIB);
    let inner = compressed(Coding::Gzip, &zeros);
    assert!(inflate(Coding::Gzip, &compressed(Coding::Gzip, &inner)).unwrap() == inner, "only one layer is opened");
    // Magic, descriptor for one segment with eight bytes of size, 2^63, and an empty last block.
    let huge = [&[0x28, 0xb5, 0x2f, 0xfd, 0xe0][..], &(1u64 << 63).to_le_bytes(), &[1, 0, 0]].concat();
    bomb("zstd frame of 2^63 bytes", Coding::Zstd, &huge, 0);
    // The same with a window of 1 GiB and no size.
    let window = [&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 20 << 3][..], &[1, 0, 0]].concat();
    bomb("zstd window of 1 GiB", Coding::Zstd, &window, 128 << 10);
    // A size within the limit that nothing backs up is no reason to allocate it.
    let boast = [&[0x28, 0xb5, 0x2f, 0xfd, 0xa0][..], &(3u32 << 20).to_le_bytes(), &[9, 0, 0, b'x']].concat();
    bomb("zstd frame that boasts", Coding::Zstd, &boast, 128 << 10);
    bomb("snappy block of 4 GiB", Coding::Snappy, b"\xff\xff\xff\xff\x0f\x00a", 64 << 10);
    bomb("snappy block that boasts", Coding::Snappy, b"\x80\x80\x80\x01\x00a", 64 << 10);
}

/// Work without output: the time follows the input.
#[test]
fn floods() {
    let gzip_header = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    let stored = [&gzip_header[..], &[0, 0, 0, 0xff, 0xff].repeat(MIB / 5)].concat();
    bomb("empty stored blocks", Coding::Gzip, &stored, 64 << 10);
    let empty = compressed(Coding::Gzip, b"");
    bomb("empty members", Coding::Gzip, &[empty.repeat(MIB / empty.len()), vec![1]].concat(), 64 << 10);
    let tables = [&gzip_header[..], &empty_dynamic_blocks(MIB)].concat();
    bomb("Huffman tables for nothing", Coding::Gzip, &tables, 64 << 10);
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0].repeat(MIB / 8)[..], &[1]].concat();
    bomb("skippable frames", Coding::Zstd, &skippable, 256 << 10);
    let empty_frame = compressed(Coding::Zstd, b"");
    bomb("empty frames", Coding::Zstd, &[empty_frame.repeat(MIB / empty_frame.len()), vec![1]].concat(), 256 << 10);
    let padding = [&b"\xff\x06\x00\x00sNaPpY"[..], &[0xfe, 0, 0, 0].repeat(MIB / 4), &[2]].concat();
    bomb("snappy padding", Coding::SnappyFramed, &padding, 4 * MIB);
}

/// Deflate blocks that yield nothing, each with Huffman tables of its own (RFC 1951, 3.2.7).
fn empty_dynamic_blocks(size: usize) -> Vec<u8> {
    let (mut bits, mut block) = (0u32, Vec::new());
    let mut put = |value: u64, width: u32| (0..width).for_each(|at| block.push((value >> at & 1) as u8));
    put(0b100, 3); // not the last, dynamic
    put(0, 5); // 257 literal and length codes
    put(0, 5); // one distance code
    put(14, 4); // 18 code lengths follow, in the order 16 17 18 0 8 7 9 6 10 5 11 4 12 3 13 2 14 1
    for at in 0..18 {
        put(u64::from(matches!(at, 2 | 17)), 3); // 18 and 1 take one bit each: 1 is code 0, 18 is code 1
    }
    for zeros in [138, 118] {
        put(1, 1); // this many zeros: no literals
        put(zeros - 11, 7);
    }
    put(0, 1); // end of block has length 1
    put(0, 1); // so has the one distance
    put(0, 1); // end of block
    let mut bytes = vec![0u8; size];
    for bit in block.iter().cycle().take(size * 8) {
        bytes[bits as usize / 8] |= bit << (bits % 8);
        bits += 1;
    }
    bytes
}
