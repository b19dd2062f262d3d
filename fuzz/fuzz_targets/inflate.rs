//! Compressed bodies in pieces of any size: never more than the limit, never more memory than granted, and for gzip the
//! same as another reader. The first byte chooses the coding, the second the pieces.
#![no_main]

use std::io::Read;

use libfuzzer_sys::fuzz_target;
use misaki::face::otlp::{Coding, InflateError, Inflater};

const LIMIT: usize = 1 << 20;
const BUDGET: usize = 4 << 20;
const CODINGS: [Coding; 6] =
    [Coding::Identity, Coding::Gzip, Coding::Zstd, Coding::Deflate, Coding::Snappy, Coding::SnappyFramed];

fn inflate(coding: Coding, body: &[u8], piece: usize) -> Result<Vec<u8>, InflateError> {
    let (mut out, mut granted) = (Vec::new(), 0);
    let mut grant = |bytes: usize| {
        granted += bytes;
        granted <= BUDGET
    };
    let mut inflater = Inflater::new(coding, LIMIT);
    for piece in body.chunks(piece) {
        inflater.push(piece, &mut out, &mut grant)?;
    }
    inflater.finish(&mut out, &mut grant)?;
    assert!(out.len() <= LIMIT && out.capacity() <= granted.max(out.len()));
    Ok(out)
}

fuzz_target!(|data: &[u8]| {
    let [choice, piece, body @ ..] = data else { return };
    let coding = CODINGS[usize::from(*choice) % CODINGS.len()];
    let pieces = inflate(coding, body, usize::from(*piece) + 1);
    let whole = inflate(coding, body, usize::MAX);
    let out_of_memory = |result: &Result<Vec<u8>, InflateError>| {
        matches!(result, Err(InflateError::NoMemory | InflateError::TooLarge { .. }))
    };
    if out_of_memory(&pieces) || out_of_memory(&whole) {
        return;
    }
    // zstd compares the size that a frame announces with what came only when it has both in one piece.
    if coding != Coding::Zstd || pieces.is_ok() == whole.is_ok() {
        assert_eq!(pieces.as_ref().ok(), whole.as_ref().ok());
    }
    if coding == Coding::Gzip {
        let mut theirs = Vec::new();
        let read = flate2::read::MultiGzDecoder::new(body).take(LIMIT as u64 + 1).read_to_end(&mut theirs);
        if let Ok(ours) = whole {
            assert!(read.is_ok() && ours == theirs);
        }
    }
});
