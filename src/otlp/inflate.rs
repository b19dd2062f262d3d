//! Decompresses request bodies in chunks as they arrive, before `check` walks them.
//!
//! The output is bounded twice: by the request limit, and by the memory budget, which is asked before each allocation.
//! A stream's claim about its own size is only a hint. `deflate` is the reverse.

#![expect(clippy::disallowed_types, reason = "this is where inflating is held to a limit")]

use std::cell::RefCell;
use std::io::Read;

use flate2::{Decompress, FlushDecompress, Status};
use libdeflater::{Crc, Decompressor};
use zstd::zstd_safe::{self, DCtx, DParameter, InBuffer, OutBuffer, ResetDirective};

/// A body's compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    Identity,
    Gzip,
    Zstd,
    /// The zlib format, called `deflate` by HTTP.
    Deflate,
    /// One block without framing.
    Snappy,
    /// The framing format, with checksums. Readers distinguish the two by their first bytes.
    SnappyFramed,
    /// Frames, with or without checksums.
    Lz4,
}

/// The values of `Content-Encoding`. The last ones are accepted as well.
const HTTP_NAMES: [(&str, Coding); 9] = [
    ("identity", Coding::Identity),
    ("gzip", Coding::Gzip),
    ("zstd", Coding::Zstd),
    ("deflate", Coding::Deflate),
    ("snappy", Coding::Snappy),
    ("x-snappy-framed", Coding::SnappyFramed),
    ("lz4", Coding::Lz4),
    ("", Coding::Identity),
    ("zlib", Coding::Deflate),
];

impl Coding {
    /// The coding for a `Content-Encoding`.
    pub fn from_http(name: &str) -> Option<Coding> {
        HTTP_NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, coding)| *coding)
    }

    /// The coding for a `grpc-encoding`, where `snappy` means the framed format.
    pub fn from_grpc(name: &str) -> Option<Coding> {
        match Coding::from_http(name)? {
            Coding::Snappy => Some(Coding::SnappyFramed),
            Coding::Deflate | Coding::SnappyFramed | Coding::Lz4 => None,
            shared => Some(shared),
        }
    }

    pub fn http_name(self) -> &'static str {
        HTTP_NAMES.iter().find(|(_, coding)| *coding == self).map_or("", |(name, _)| name)
    }

    /// Memory of the decoder's state, beside the output.
    pub(crate) fn state_bytes(self) -> usize {
        match self {
            Coding::Identity | Coding::Snappy | Coding::SnappyFramed | Coding::Lz4 => 0,
            Coding::Gzip | Coding::Deflate => 48 << 10,
            Coding::Zstd => 256 << 10,
        }
    }

    pub fn grpc_name(self) -> &'static str {
        if self == Coding::SnappyFramed { "snappy" } else { self.http_name() }
    }
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    #[error("body is larger than {limit} bytes when decompressed")]
    TooLarge { limit: usize },
    #[error("cannot decompress body: {0}")]
    Corrupt(String),
    #[error("no memory left to decompress the body")]
    NoMemory,
}

fn corrupt<T>(what: impl Into<String>) -> Result<T, InflateError> {
    Err(InflateError::Corrupt(what.into()))
}

/// Minimum growth of the output.
const STEP: usize = 64 << 10;
/// The largest accepted zstd window: 2^23 is 8 MiB, which no encoder of the Go collector exceeds.
const ZSTD_WINDOW_LOG: u32 = 23;
/// An announced size is believed up to this multiple of the received bytes.
const BELIEVABLE_RATIO: usize = 64;
/// A snappy copy element takes three bytes and yields at most 64.
const SNAPPY_RATIO: usize = 22;
const SNAPPY_IDENTIFIER: &[u8] = b"\xff\x06\x00\x00sNaPpY";
const LZ4_MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();
const LZ4_WINDOW: usize = 64 << 10;
/// Maximum gzip header. It may contain a file name and a comment of any length; no exporter sends either.
const GZIP_HEADER_MOST: usize = 1 << 10;
const GZIP_TRAILER: usize = 8;
/// Two bytes that say gzip, and the only method.
const GZIP_MAGIC: &[u8; 3] = &[0x1f, 0x8b, 8];
/// The longest output that is made at once.
const WHOLE_MOST: usize = 256 << 10;

/// Decompresses one body. The time of a `push` is bounded by its input: at most 1 MiB of output for each KiB of gzip,
/// 32 MiB for each KiB of zstd, so callers that share a thread push small chunks.
pub struct Inflater {
    stream: Stream,
    limit: usize,
    produced: usize,
}

enum Stream {
    Gzip(Gzip),
    Zlib {
        inflate: Decompress,
        ended: bool,
    },
    Zstd(Zstd),
    /// Formats that need their whole input.
    Held {
        is_lz4: bool,
        input: Vec<u8>,
    },
}

impl Inflater {
    /// For any coding but `Identity`, which needs no decoding.
    pub fn new(coding: Coding, limit: usize) -> Inflater {
        let stream = match coding {
            Coding::Gzip => Stream::Gzip(Gzip::new()),
            Coding::Deflate => Stream::Zlib { inflate: take_deflate(true), ended: false },
            Coding::Zstd => Stream::Zstd(Zstd { context: take_zstd(), started: false, ended: false, window: 0 }),
            Coding::Identity | Coding::Snappy | Coding::SnappyFramed | Coding::Lz4 => {
                Stream::Held { is_lz4: coding == Coding::Lz4, input: Vec::new() }
            }
        };
        Inflater { stream, limit, produced: 0 }
    }

    /// Decompresses `input` and appends to `out`. `grant(n)` is asked before each allocation of `n` bytes, and also for
    /// zstd's window and the input of snappy and lz4: the total granted may exceed the size of `out`.
    pub fn push(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        grant: &mut dyn FnMut(usize) -> bool,
    ) -> Result<(), InflateError> {
        let start = out.len();
        let mut output = Output::new(self, out, grant);
        let result = match &mut self.stream {
            Stream::Gzip(gzip) => gzip.push(input, &mut output),
            Stream::Zlib { inflate, ended } => push_zlib(inflate, ended, input, &mut output),
            Stream::Zstd(zstd) => zstd.push(input, &mut output),
            Stream::Held { input: held, .. } => hold(held, input, &mut output),
        };
        self.produced += out.len() - start;
        result
    }

    /// Decompresses a whole body at once, if it is a single gzip member of usual size; false leaves it to `push`.
    pub fn push_whole(&mut self, input: &[u8], out: &mut Vec<u8>, grant: &mut dyn FnMut(usize) -> bool) -> bool {
        let mut output = Output::new(self, out, grant);
        let Stream::Gzip(gzip) = &mut self.stream else { return false };
        gzip.push_whole(input, &mut output).is_some()
    }

    /// Checks that the stream is complete. Snappy and lz4, whose blocks need their whole input, produce output only
    /// here.
    pub fn finish(self, out: &mut Vec<u8>, grant: &mut dyn FnMut(usize) -> bool) -> Result<(), InflateError> {
        let mut output = Output::new(&self, out, grant);
        let complete = match self.stream {
            Stream::Gzip(gzip) => gzip.finish(),
            Stream::Zlib { inflate, ended } => {
                keep_deflate(inflate);
                ended
            }
            Stream::Zstd(zstd) => {
                keep_zstd(zstd.context);
                zstd.ended
            }
            Stream::Held { input, .. } if input.is_empty() => false,
            Stream::Held { is_lz4: true, input } => unframe_lz4(&input, &mut output)?,
            Stream::Held { input, .. } if input.starts_with(SNAPPY_IDENTIFIER) => unframe_snappy(&input, &mut output)?,
            Stream::Held { input, .. } => unblock_snappy(&input, &mut output)?,
        };
        if complete { Ok(()) } else { corrupt("it ends too early") }
    }
}

/// The caller's buffer, with the two bounds on its growth.
struct Output<'a> {
    bytes: &'a mut Vec<u8>,
    grant: &'a mut dyn FnMut(usize) -> bool,
    /// The maximum length.
    most: usize,
    limit: usize,
}

impl<'a> Output<'a> {
    fn new(inflater: &Inflater, bytes: &'a mut Vec<u8>, grant: &'a mut dyn FnMut(usize) -> bool) -> Self {
        let most = bytes.len().saturating_add(inflater.limit - inflater.produced);
        Output { bytes, grant, most, limit: inflater.limit }
    }

    fn is_full(&self) -> bool {
        self.bytes.len() == self.bytes.capacity()
    }

    /// Makes room for `size` more bytes, but at most one above the limit, which reveals an overrun.
    fn reserve(&mut self, size: usize) -> Result<(), InflateError> {
        let size = size.min(self.most.saturating_add(1) - self.bytes.len());
        if size <= self.bytes.capacity() - self.bytes.len() {
            return Ok(());
        }
        let granted = (self.grant)(size) && self.bytes.try_reserve_exact(size).is_ok();
        if granted { Ok(()) } else { Err(InflateError::NoMemory) }
    }

    /// Makes room for at least one more byte: grows by half, or, if that is not granted, by one step.
    fn make_room(&mut self) -> Result<(), InflateError> {
        if !self.is_full() {
            return Ok(());
        }
        let generous = (self.bytes.len() / 2).max(STEP);
        match self.reserve(generous) {
            Err(InflateError::NoMemory) if generous > STEP => self.reserve(STEP),
            result => result,
        }
    }

    /// Must be called after each write.
    fn check(&mut self) -> Result<(), InflateError> {
        if self.bytes.len() <= self.most {
            return Ok(());
        }
        self.bytes.truncate(self.most);
        Err(InflateError::TooLarge { limit: self.limit })
    }
}

/// Runs deflate or zlib over `input`, leaving the bytes after the stream; true once the stream has ended.
fn inflate(stream: &mut Decompress, input: &mut &[u8], output: &mut Output) -> Result<bool, InflateError> {
    loop {
        output.make_room()?;
        let (read, length) = (stream.total_in(), output.bytes.len());
        let status = stream.decompress_vec(input, output.bytes, FlushDecompress::None);
        let read = (stream.total_in() - read) as usize;
        *input = input.get(read..).unwrap_or_default();
        output.check()?;
        match status {
            Ok(Status::StreamEnd) => return Ok(true),
            Ok(_) if output.is_full() => {}
            Ok(_) if input.is_empty() => return Ok(false),
            Ok(_) if read == 0 && output.bytes.len() == length => return corrupt("it makes no progress"),
            Ok(_) => {}
            Err(error) => return corrupt(error.message().unwrap_or("not a deflate stream")),
        }
    }
}

fn push_zlib(
    stream: &mut Decompress,
    ended: &mut bool,
    mut input: &[u8],
    output: &mut Output,
) -> Result<(), InflateError> {
    if !*ended && !input.is_empty() {
        *ended = inflate(stream, &mut input, output)?;
    }
    if *ended && !input.is_empty() { corrupt("bytes follow its end") } else { Ok(()) }
}

/// RFC 1952: members, each a header, a deflate stream, its checksum and its length, one after another.
struct Gzip {
    inflate: Decompress,
    at: Member,
    /// The received part of a header or trailer.
    held: Vec<u8>,
    crc: Crc,
    length: u32,
    members: u64,
}

enum Member {
    Header,
    Body,
    Trailer,
}

impl Gzip {
    fn new() -> Gzip {
        let inflate = take_deflate(false);
        Gzip { inflate, at: Member::Header, held: Vec::new(), crc: Crc::new(), length: 0, members: 0 }
    }

    /// Whether it is complete, with at least one member.
    fn finish(self) -> bool {
        keep_deflate(self.inflate);
        self.members > 0 && matches!(self.at, Member::Header) && self.held.is_empty()
    }

    fn push(&mut self, mut input: &[u8], output: &mut Output) -> Result<(), InflateError> {
        if self.members == 0 && self.held.is_empty() && matches!(self.at, Member::Header) {
            expect_gzip_length(input, output)?;
        }
        while !input.is_empty() {
            match self.at {
                Member::Header => self.header(&mut input)?,
                Member::Body => {
                    let start = output.bytes.len();
                    let result = inflate(&mut self.inflate, &mut input, output);
                    let fresh = output.bytes.get(start..).unwrap_or_default();
                    self.crc.update(fresh);
                    self.length = self.length.wrapping_add(fresh.len() as u32);
                    if result? {
                        self.at = Member::Trailer;
                    }
                }
                Member::Trailer => self.trailer(&mut input)?,
            }
        }
        Ok(())
    }

    /// A faster decoder for a single member whose trailer announces a believable length. It needs all of the input and
    /// stops at the first end, so it gets nothing in which another member could begin.
    fn push_whole(&mut self, input: &[u8], output: &mut Output) -> Option<()> {
        thread_local!(static DECODER: RefCell<Decompressor> = RefCell::new(Decompressor::new()));
        let header = gzip_header_length(input).filter(|_| input.starts_with(GZIP_MAGIC))?;
        let (content, trailer) = input.get(header..)?.split_last_chunk::<GZIP_TRAILER>()?;
        let [crc @ .., a, b, c, d] = *trailer;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        let is_usual = output.bytes.is_empty() && length <= WHOLE_MOST.min(output.most) && is_believable(length, input);
        if !is_usual || memchr::memmem::find(content, GZIP_MAGIC).is_some() {
            return None;
        }
        output.reserve(length).ok()?;
        output.bytes.resize(length, 0);
        let decoded = DECODER.with_borrow_mut(|decoder| decoder.deflate_decompress(content, output.bytes));
        let is_right = decoded == Ok(length) && libdeflater::crc32(output.bytes).to_le_bytes() == crc;
        if !is_right {
            output.bytes.clear();
            return None;
        }
        self.members = 1;
        Some(())
    }

    fn header(&mut self, input: &mut &[u8]) -> Result<(), InflateError> {
        let before = self.held.len();
        let taken = self.hold(input, GZIP_HEADER_MOST);
        if !self.held.iter().zip(GZIP_MAGIC).all(|(byte, magic)| byte == magic) {
            return corrupt(match self.members {
                0 => "no gzip header".to_owned(),
                members => format!("no gzip header after the end of member {members}"),
            });
        }
        match gzip_header_length(&self.held) {
            Some(length) => {
                *input = input.get(length - before..).unwrap_or_default();
                self.held.clear();
                self.inflate.reset(false);
                (self.crc, self.length, self.at) = (Crc::new(), 0, Member::Body);
            }
            None if self.held.len() == GZIP_HEADER_MOST => return corrupt("its gzip header is longer than 1 KiB"),
            None => *input = input.get(taken..).unwrap_or_default(),
        }
        Ok(())
    }

    fn trailer(&mut self, input: &mut &[u8]) -> Result<(), InflateError> {
        let taken = self.hold(input, GZIP_TRAILER);
        *input = input.get(taken..).unwrap_or_default();
        if self.held.len() < GZIP_TRAILER {
            return Ok(());
        }
        let stored = [self.crc.sum().to_le_bytes(), self.length.to_le_bytes()].concat();
        if self.held != stored {
            return corrupt("its checksum does not match");
        }
        self.held.clear();
        (self.at, self.members) = (Member::Header, self.members + 1);
        Ok(())
    }

    /// Moves bytes from `input` until `most` bytes are held; returns how many.
    fn hold(&mut self, input: &[u8], most: usize) -> usize {
        let taken = input.len().min(most - self.held.len());
        self.held.extend_from_slice(input.get(..taken).unwrap_or_default());
        taken
    }
}

/// The length of the gzip header at the start of `bytes`; `None` if it is incomplete. Its own checksum is ignored, as
/// most readers do: the content's checksum counts.
fn gzip_header_length(bytes: &[u8]) -> Option<usize> {
    const CHECKSUM: u8 = 1 << 1;
    const EXTRA: u8 = 1 << 2;
    const NAME: u8 = 1 << 3;
    const COMMENT: u8 = 1 << 4;
    let flags = bytes.get(3)?;
    let mut length = 10;
    if flags & EXTRA != 0 {
        length += 2 + usize::from(u16::from_le_bytes(*bytes.get(length..)?.first_chunk()?));
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            length += memchr::memchr(0, bytes.get(length..)?)? + 1;
        }
    }
    if flags & CHECKSUM != 0 {
        length += 2;
    }
    (bytes.len() >= length).then_some(length)
}

/// A body received in one piece ends with its length, so one allocation suffices for it, plus one byte so that the
/// buffer is not full before the end of the stream. In other pieces these bytes are meaningless, but harmless.
fn expect_gzip_length(input: &[u8], output: &mut Output) -> Result<(), InflateError> {
    let Some(&last) = input.last_chunk() else { return Ok(()) };
    let length = u32::from_le_bytes(last) as usize;
    if is_believable(length, input) { output.reserve(length + 1) } else { Ok(()) }
}

fn is_believable(length: usize, input: &[u8]) -> bool {
    length <= input.len().saturating_mul(BELIEVABLE_RATIO) && length >= input.len() / 2
}

/// A frame received in one piece and with a known size is written directly to the output. Otherwise zstd keeps its own
/// window, which grows with the output.
struct Zstd {
    context: DCtx<'static>,
    started: bool,
    ended: bool,
    /// Bytes granted for its window.
    window: usize,
}

impl Zstd {
    fn push(&mut self, mut input: &[u8], output: &mut Output) -> Result<(), InflateError> {
        if !self.started
            && let Ok(Some(size)) = zstd_safe::get_frame_content_size(input)
        {
            if size > (output.most - output.bytes.len()) as u64 {
                return Err(InflateError::TooLarge { limit: output.limit });
            }
            if size <= input.len().saturating_mul(BELIEVABLE_RATIO) as u64 {
                output.reserve(size as usize)?;
            }
        }
        while !input.is_empty() || (self.started && !self.ended && output.is_full()) {
            self.started = true;
            output.make_room()?;
            self.charge_window(output)?;
            let length = output.bytes.len();
            let mut source = InBuffer::around(input);
            let mut target = OutBuffer::around_pos(&mut *output.bytes, length);
            let result = self.context.decompress_stream(&mut target, &mut source);
            let read = source.pos();
            input = input.get(read..).unwrap_or_default();
            output.check()?;
            match result {
                Ok(wanted) => self.ended = wanted == 0,
                Err(code) => return corrupt(zstd_safe::get_error_name(code)),
            }
            if read == 0 && output.bytes.len() == length {
                return if input.is_empty() { Ok(()) } else { corrupt("it makes no progress") };
            }
        }
        Ok(())
    }

    /// The window needs as much as the output has room for, but at most the stream's window size.
    fn charge_window(&mut self, output: &mut Output) -> Result<(), InflateError> {
        let most = self.context.sizeof().max(STEP).min(output.bytes.capacity());
        let more = most.saturating_sub(self.window);
        if more > 0 && !(output.grant)(more) {
            return Err(InflateError::NoMemory);
        }
        self.window += more;
        Ok(())
    }
}

fn hold(held: &mut Vec<u8>, input: &[u8], output: &mut Output) -> Result<(), InflateError> {
    // Incompressible data grows slightly.
    let most = output.limit.saturating_add(output.limit / 6).saturating_add(64);
    if input.len() > most - held.len() {
        return Err(InflateError::TooLarge { limit: output.limit });
    }
    if input.len() > held.capacity() - held.len() {
        let more = input.len().max(held.len() / 2).max(STEP);
        if !(output.grant)(more) || held.try_reserve_exact(more).is_err() {
            return Err(InflateError::NoMemory);
        }
    }
    held.extend_from_slice(input);
    Ok(())
}

fn unblock_snappy(input: &[u8], output: &mut Output) -> Result<bool, InflateError> {
    let size = snap::raw::decompress_len(input).or_else(|error| corrupt(error.to_string()))?;
    if size > output.most - output.bytes.len() {
        return Err(InflateError::TooLarge { limit: output.limit });
    }
    if size > input.len().saturating_mul(SNAPPY_RATIO) {
        return corrupt("it is too short for the size that it announces");
    }
    output.reserve(size)?;
    let start = output.bytes.len();
    output.bytes.resize(start + size, 0);
    let target = output.bytes.get_mut(start..).unwrap_or_default();
    let result = snap::raw::Decoder::new().decompress(input, target);
    result.map(|_| true).or_else(|error| corrupt(error.to_string()))
}

fn unframe_snappy(input: &[u8], output: &mut Output) -> Result<bool, InflateError> {
    let mut decoder = snap::read::FrameDecoder::new(input);
    while read_step(&mut decoder, output)? > 0 {}
    Ok(true)
}

/// One frame. The decoder keeps a compressed block and up to two decompressed ones.
fn unframe_lz4(input: &[u8], output: &mut Output) -> Result<bool, InflateError> {
    if !(output.grant)(3 * lz4_block(input) + LZ4_WINDOW) {
        return Err(InflateError::NoMemory);
    }
    let mut decoder = lz4_flex::frame::FrameDecoder::new(input);
    while read_step(&mut decoder, output)? > 0 {}
    if decoder.into_inner().is_empty() { Ok(true) } else { corrupt("bytes follow its end") }
}

/// The block size of a frame: from its header, or the fixed size of the legacy format.
fn lz4_block(input: &[u8]) -> usize {
    match (input.starts_with(&LZ4_MAGIC), input.get(LZ4_MAGIC.len() + 1)) {
        (true, Some(descriptor)) => 1 << (8 + 2 * (descriptor >> 4 & 7)),
        _ => 8 << 20,
    }
}

/// Reads at most one step; 0 at the end.
fn read_step(decoder: &mut impl Read, output: &mut Output) -> Result<usize, InflateError> {
    output.make_room()?;
    let start = output.bytes.len();
    output.bytes.resize(output.bytes.capacity().min(start + STEP), 0);
    let result = decoder.read(output.bytes.get_mut(start..).unwrap_or_default());
    output.bytes.truncate(start + result.as_ref().copied().unwrap_or(0));
    output.check()?;
    result.or_else(|error| corrupt(error.to_string()))
}

const POOLED_MOST: usize = 8;
/// A context with a large window is not reused.
const POOLED_CONTEXT_MOST: usize = 1 << 20;

// Decoder state that is expensive to set up: each thread keeps a few of each kind from completed bodies.
thread_local! {
    static DEFLATE: RefCell<Vec<Decompress>> = const { RefCell::new(Vec::new()) };
    static ZSTD: RefCell<Vec<DCtx<'static>>> = const { RefCell::new(Vec::new()) };
}

fn take_deflate(zlib: bool) -> Decompress {
    let mut inflate = DEFLATE.with_borrow_mut(Vec::pop).unwrap_or_else(|| Decompress::new(zlib));
    inflate.reset(zlib);
    inflate
}

fn keep_deflate(inflate: Decompress) {
    DEFLATE.with_borrow_mut(|pool| {
        pool.push(inflate);
        pool.truncate(POOLED_MOST);
    });
}

fn take_zstd() -> DCtx<'static> {
    ZSTD.with_borrow_mut(Vec::pop).unwrap_or_else(|| {
        let mut context = DCtx::create();
        context.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG)).expect("23 is within what zstd allows");
        context
    })
}

fn keep_zstd(mut context: DCtx<'static>) {
    if context.sizeof() <= POOLED_CONTEXT_MOST && context.reset(ResetDirective::SessionOnly).is_ok() {
        ZSTD.with_borrow_mut(|pool| {
            pool.push(context);
            pool.truncate(POOLED_MOST);
        });
    }
}
