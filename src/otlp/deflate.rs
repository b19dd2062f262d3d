//! Compresses outgoing payloads; `inflate` is the reverse.
//!
//! A payload has several parts. They are joined first, because the fast encoders need contiguous input: the copy costs
//! 1 % of the compression. Payloads longer than [`WHOLE`] use `stream` instead.

mod stream;

use std::borrow::Cow;
use std::cell::RefCell;
use std::io::{self, ErrorKind, Write};

use libdeflater::{CompressionLvl, Compressor};
use zstd::zstd_safe::{self, CCtx, CParameter};

use super::inflate::Coding;
pub use stream::Deflater;

/// Maximum size of joined input. A compressing thread needs this much for it, and as much for an incompressible result.
pub const WHOLE: usize = 4 << 20;

/// The fastest: at most 7 % larger than the Go collector's gzip of the same bytes, and half as much work as level 4,
/// which is 3 % smaller.
const GZIP_LEVEL: i32 = 1;
/// The Go collector's `SpeedDefault`.
const ZSTD_LEVEL: i32 = 3;
/// Higher levels take tens of MiB per thread; the Go collector's best is about here as well.
const ZSTD_LEVEL_MOST: i32 = 11;

/// Compresses the concatenated `parts` as one body; a result of more than `most` bytes is [`ErrorKind::FileTooLarge`].
/// `level` is the collector's `compression_params.level`: none, 0 and -1 mean the default, and snappy and lz4 have
/// none.
pub fn deflate(coding: Coding, level: Option<i32>, parts: &[&[u8]], most: usize) -> io::Result<Vec<u8>> {
    let input = match parts {
        [part] => Cow::Borrowed(*part),
        parts => Cow::Owned(parts.concat()),
    };
    let body = match coding {
        Coding::Identity => Ok(input.into_owned()),
        Coding::Gzip | Coding::Deflate => with_compressor(deflate_level(level), |compressor| {
            // The worst-case size: fresh zeroed pages cost nothing until written.
            let mut output = vec![0; compressor.gzip_compress_bound(input.len()).min(most)];
            let length = match coding {
                Coding::Gzip => compressor.gzip_compress(&input, &mut output),
                _ => compressor.zlib_compress(&input, &mut output),
            };
            output.truncate(length.map_err(|_| ErrorKind::FileTooLarge)?);
            output.shrink_to_fit();
            Ok(output)
        }),
        Coding::Zstd => compress_zstd(level, &input, most),
        Coding::Snappy => snap::raw::Encoder::new().compress_vec(&input).map_err(io::Error::other),
        Coding::SnappyFramed => {
            let mut encoder = snap::write::FrameEncoder::new(Vec::with_capacity(input.len() / 2));
            encoder.write_all(&input)?;
            encoder.into_inner().map_err(|error| error.into_error())
        }
        Coding::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::with_capacity(input.len() / 2));
            encoder.write_all(&input)?;
            encoder.finish().map_err(io::Error::from)
        }
    }?;
    if body.len() <= most { Ok(body) } else { Err(ErrorKind::FileTooLarge.into()) }
}

/// The libdeflate level; Go's -2, no matches at all, has no equivalent.
fn deflate_level(level: Option<i32>) -> i32 {
    match level {
        None | Some(0 | -1) => GZIP_LEVEL,
        Some(level) => level.clamp(1, 9),
    }
}

/// Runs `work` with this thread's encoder for `level`; each thread keeps the last two.
fn with_compressor<T>(level: i32, work: impl FnOnce(&mut Compressor) -> io::Result<T>) -> io::Result<T> {
    thread_local!(static COMPRESSORS: RefCell<Vec<(i32, Compressor)>> = const { RefCell::new(Vec::new()) });
    COMPRESSORS.with_borrow_mut(|kept| {
        let (_, mut compressor) = match kept.iter().position(|(of, _)| *of == level) {
            Some(at) => kept.remove(at),
            None => (level, Compressor::new(CompressionLvl::new(level).expect("levels are held to 1 to 9"))),
        };
        let result = work(&mut compressor);
        kept.insert(0, (level, compressor));
        kept.truncate(2);
        result
    })
}

fn zstd_level(level: Option<i32>) -> i32 {
    level.filter(|&level| level != 0).unwrap_or(ZSTD_LEVEL).clamp(zstd_safe::min_c_level(), ZSTD_LEVEL_MOST)
}

fn compress_zstd(level: Option<i32>, input: &[u8], most: usize) -> io::Result<Vec<u8>> {
    thread_local!(static CONTEXT: RefCell<CCtx<'static>> = RefCell::new(CCtx::create()));
    let failed = |code| io::Error::other(zstd_safe::get_error_name(code));
    CONTEXT.with_borrow_mut(|context| {
        context.set_parameter(CParameter::CompressionLevel(zstd_level(level))).map_err(failed)?;
        let bound = zstd_safe::compress_bound(input.len());
        let mut output = Vec::with_capacity(bound.min(most));
        // The only possible failure is lack of room.
        context.compress2(&mut output, input).map_err(|code| match bound > most {
            true => ErrorKind::FileTooLarge.into(),
            false => failed(code),
        })?;
        output.shrink_to_fit();
        Ok(output)
    })
}
