//! Compresses long payloads as a stream, into pieces.

use std::io::{self, ErrorKind, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use snap::write::FrameEncoder;

use super::{Coding, WHOLE, deflate, zstd_level};
use crate::otlp::wire::put_varint;

/// The fastest of this encoder within 10 % of the Go collector's gzip.
const GZIP_LEVEL: i32 = 4;

const PIECE: usize = 64 << 10;

/// A body in pieces with a maximum size: beyond it, writing fails with [`ErrorKind::FileTooLarge`].
struct Body {
    pieces: Vec<Bytes>,
    last: Vec<u8>,
    left: usize,
}

impl Body {
    fn new(most: usize) -> Body {
        Body { pieces: Vec::new(), last: Vec::new(), left: most }
    }

    fn finish(mut self) -> Vec<Bytes> {
        self.last.shrink_to_fit();
        self.pieces.push(Bytes::from(self.last));
        self.pieces.retain(|piece| !piece.is_empty());
        self.pieces
    }
}

impl Write for Body {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = self.left.checked_sub(bytes.len()).ok_or(ErrorKind::FileTooLarge)?;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (now, later) = rest.split_at_checked(PIECE - self.last.len()).unwrap_or((rest, &[]));
            self.last.extend_from_slice(now);
            rest = later;
            if self.last.len() == PIECE {
                self.pieces.push(Bytes::from(std::mem::take(&mut self.last)));
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Compresses a body as it is written: a short one is joined for the fast encoders; a long one goes through a streaming
/// encoder.
pub struct Deflater {
    coding: Coding,
    level: Option<i32>,
    most: usize,
    joined: Vec<u8>,
    stream: Option<Stream>,
}

impl Deflater {
    pub fn new(coding: Coding, level: Option<i32>, most: usize) -> Deflater {
        let stream = (coding == Coding::Identity).then(|| Stream::Identity(Body::new(most)));
        Deflater { coding, level, most, joined: Vec::new(), stream }
    }

    pub fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(stream) = &mut self.stream {
            return stream.writer().write_all(bytes);
        }
        if self.joined.len() + bytes.len() <= WHOLE {
            self.joined.extend_from_slice(bytes);
            return Ok(());
        }
        let stream = self.stream.insert(Stream::new(self.coding, self.level, self.most)?);
        stream.writer().write_all(&std::mem::take(&mut self.joined))?;
        stream.writer().write_all(bytes)
    }

    pub fn finish(self) -> io::Result<Vec<Bytes>> {
        match self.stream {
            Some(stream) => stream.finish().map(Body::finish),
            None => deflate(self.coding, self.level, &[&self.joined], self.most).map(|body| vec![Bytes::from(body)]),
        }
    }
}

enum Stream {
    Identity(Body),
    Gzip(GzEncoder<Body>),
    Zlib(ZlibEncoder<Body>),
    Zstd(zstd::Encoder<'static, Body>),
    Snappy(Blocks),
    Framed(Box<FrameEncoder<Body>>),
    Lz4(Box<lz4_flex::frame::FrameEncoder<Body>>),
}

impl Stream {
    fn new(coding: Coding, level: Option<i32>, most: usize) -> io::Result<Stream> {
        let body = Body::new(most);
        let given = level.filter(|level| *level > 0).unwrap_or(GZIP_LEVEL).min(9);
        let compression = Compression::new(given.unsigned_abs());
        Ok(match coding {
            Coding::Identity => Stream::Identity(body),
            Coding::Gzip => Stream::Gzip(GzEncoder::new(body, compression)),
            Coding::Deflate => Stream::Zlib(ZlibEncoder::new(body, compression)),
            Coding::Zstd => Stream::Zstd(zstd::Encoder::new(body, zstd_level(level))?),
            Coding::Snappy => Stream::Snappy(Blocks { body, block: Vec::new(), length: 0 }),
            Coding::SnappyFramed => Stream::Framed(Box::new(FrameEncoder::new(body))),
            Coding::Lz4 => Stream::Lz4(Box::new(lz4_flex::frame::FrameEncoder::new(body))),
        })
    }

    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Stream::Identity(body) => body,
            Stream::Gzip(encoder) => encoder,
            Stream::Zlib(encoder) => encoder,
            Stream::Zstd(encoder) => encoder,
            Stream::Snappy(blocks) => blocks,
            Stream::Framed(encoder) => encoder,
            Stream::Lz4(encoder) => encoder,
        }
    }

    fn finish(self) -> io::Result<Body> {
        match self {
            Stream::Identity(body) => Ok(body),
            Stream::Gzip(encoder) => encoder.finish(),
            Stream::Zlib(encoder) => encoder.finish(),
            Stream::Zstd(encoder) => encoder.finish(),
            Stream::Snappy(blocks) => blocks.finish(),
            Stream::Framed(encoder) => encoder.into_inner().map_err(|error| error.into_error()),
            Stream::Lz4(encoder) => encoder.finish().map_err(io::Error::from),
        }
    }
}

/// Raw snappy: the total length, then independent blocks of 64 KiB.
struct Blocks {
    body: Body,
    block: Vec<u8>,
    length: u64,
}

impl Blocks {
    const BLOCK: usize = 64 << 10;

    fn end_block(&mut self) -> io::Result<()> {
        let block = snap::raw::Encoder::new().compress_vec(&self.block).map_err(io::Error::other)?;
        self.length += self.block.len() as u64;
        self.block.clear();
        // The encoder prefixes the length of the block.
        let length = block.iter().position(|byte| *byte < 0x80).map_or(block.len(), |at| at + 1);
        self.body.write_all(block.get(length..).unwrap_or_default())
    }

    fn finish(mut self) -> io::Result<Body> {
        if !self.block.is_empty() {
            self.end_block()?;
        }
        let mut length = Vec::new();
        put_varint(&mut length, self.length);
        self.body.left = self.body.left.checked_sub(length.len()).ok_or(ErrorKind::FileTooLarge)?;
        self.body.pieces.insert(0, Bytes::from(length));
        Ok(self.body)
    }
}

impl Write for Blocks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = Blocks::BLOCK - self.block.len();
        let now = bytes.get(..room).unwrap_or(bytes);
        self.block.extend_from_slice(now);
        if self.block.len() == Blocks::BLOCK {
            self.end_block()?;
        }
        Ok(now.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
