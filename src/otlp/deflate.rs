//! Compresses payloads on their way out; `inflate` is the way back.
//!
//! A payload is several parts. They are joined first, because the fast encoders want their input in one piece: the copy
//! costs 1 % of what compressing does.

use std::borrow::Cow;
use std::cell::RefCell;
use std::io::{self, Write};

use libdeflater::{CompressionLvl, Compressor};
use zstd::zstd_safe::{self, CCtx, CParameter};

use super::inflate::Coding;

/// Bodies up to this size take the fastest level: there it loses at most 9 % to the Go collector's gzip, but up to 15 %
/// on large ones, which take the fastest level that stays within 10 %.
const SMALL: usize = 40 << 10;
const SMALL_LEVEL: i32 = 1;
const LARGE_LEVEL: i32 = 4;
/// The same as the Go collector's `SpeedDefault`.
const ZSTD_LEVEL: i32 = 3;
/// Beyond this zstd takes tens of MiB a thread; the Go collector's best is about here as well.
const ZSTD_LEVEL_MOST: i32 = 11;

/// Compresses `parts`, one after another, as one body. `level` is the collector's `compression_params.level`: none, 0
/// and -1 mean the default, and snappy has none. `size_hint` is the size expected of the result, 0 when nothing is known.
pub fn deflate(coding: Coding, level: Option<i32>, parts: &[&[u8]], size_hint: usize) -> io::Result<Vec<u8>> {
    let input = match parts {
        [part] => Cow::Borrowed(*part),
        parts => Cow::Owned(parts.concat()),
    };
    match coding {
        Coding::Identity => Ok(input.into_owned()),
        Coding::Gzip | Coding::Deflate => with_compressor(deflate_level(level, input.len()), |compressor| {
            let most = match coding {
                Coding::Gzip => compressor.gzip_compress_bound(input.len()),
                _ => compressor.zlib_compress_bound(input.len()),
            };
            // What does not fit is compressed once more, and fresh zeroed pages cost nothing until they are written: so
            // a small hint is not trusted.
            let expected = size_hint.max(input.len() / 2).max(SMALL).min(most);
            for size in [expected, most] {
                let mut output = vec![0; size];
                let result = match coding {
                    Coding::Gzip => compressor.gzip_compress(&input, &mut output),
                    _ => compressor.zlib_compress(&input, &mut output),
                };
                if let Ok(length) = result {
                    output.truncate(length);
                    output.shrink_to_fit();
                    return Ok(output);
                }
            }
            Err(io::Error::other("compressed body is larger than its bound"))
        }),
        Coding::Zstd => compress_zstd(level, &input),
        Coding::Snappy => snap::raw::Encoder::new().compress_vec(&input).map_err(io::Error::other),
        Coding::SnappyFramed => {
            let mut encoder = snap::write::FrameEncoder::new(Vec::with_capacity(input.len() / 2));
            encoder.write_all(&input)?;
            encoder.into_inner().map_err(|error| error.into_error())
        }
    }
}

/// Which level of libdeflate; Go's -2, no matches at all, has no equal here.
fn deflate_level(level: Option<i32>, length: usize) -> i32 {
    match level {
        None | Some(0 | -1) if length <= SMALL => SMALL_LEVEL,
        None | Some(0 | -1) => LARGE_LEVEL,
        Some(level) => level.clamp(1, 9),
    }
}

/// Runs `work` with this thread's encoder for `level`, of which it keeps the two used last.
fn with_compressor<T>(level: i32, work: impl FnOnce(&mut Compressor) -> io::Result<T>) -> io::Result<T> {
    thread_local!(static COMPRESSORS: RefCell<Vec<(i32, Compressor)>> = const { RefCell::new(Vec::new()) });
    COMPRESSORS.with_borrow_mut(|kept| {
        let known = kept.iter().position(|(of, _)| *of == level);
        let (_, mut compressor) = match known {
            Some(at) => kept.remove(at),
            None => {
                (level, Compressor::new(CompressionLvl::new(level).map_err(|_| io::Error::other("unknown level"))?))
            }
        };
        let result = work(&mut compressor);
        kept.insert(0, (level, compressor));
        kept.truncate(2);
        result
    })
}

fn compress_zstd(level: Option<i32>, input: &[u8]) -> io::Result<Vec<u8>> {
    thread_local!(static CONTEXT: RefCell<CCtx<'static>> = RefCell::new(CCtx::create()));
    let level =
        level.filter(|&level| level != 0).unwrap_or(ZSTD_LEVEL).clamp(zstd_safe::min_c_level(), ZSTD_LEVEL_MOST);
    let failed = |code| io::Error::other(zstd_safe::get_error_name(code));
    CONTEXT.with_borrow_mut(|context| {
        context.set_parameter(CParameter::CompressionLevel(level)).map_err(failed)?;
        let mut output = Vec::with_capacity(zstd_safe::compress_bound(input.len()));
        context.compress2(&mut output, input).map_err(failed)?;
        output.shrink_to_fit();
        Ok(output)
    })
}
