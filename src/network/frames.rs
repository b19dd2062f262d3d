//! Joins the DATA frames of a message while they are read.
//!
//! Most gRPC clients cut a message into frames of 16 KiB, whatever the server allows. h2 reads each frame with several
//! system calls and hands them on one by one, so the message must be copied again to be in one piece. Here bytes are
//! read 64 KiB at a time, and consecutive DATA frames of one stream are handed on as one: the borders of DATA frames
//! have no meaning (RFC 9113, 6.1). Frames with padding stay as they are.

use std::cell::Cell;
use std::io;
use std::mem::{replace, take};
use std::sync::Arc;
use std::task::{Poll, ready};

use tokio::io::ReadBuf;

use crate::telemetry::{Budget, Share};

/// The maximum length of a frame: what a client may send, and what joined frames may amount to.
pub const FRAME: usize = 64 << 10;
/// How much is held and read at once at most, and how much if there is no memory.
const READ: usize = 2 * FRAME;
const READ_LEAST: usize = 4 << 10;

/// A frame begins with three bytes of length, a byte each for type and flags, and four for the stream (RFC 9113, 4.1).
const HEAD: usize = 9;
const DATA: u8 = 0;
const END_STREAM: u8 = 1;

thread_local! {
    /// The buffer of the last connection that had handed on everything. Most of the time a worker needs no other.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// What is read and not yet handed on is `buffer[at..end]`; a connection without such bytes holds no buffer.
pub struct Frames {
    buffer: Vec<u8>,
    at: usize,
    end: usize,
    /// What is left of the current frame.
    rest: usize,
    /// The number of frames after it that are joined to it. Their heads have arrived, and are left out.
    joined: usize,
    budget: Arc<Budget>,
    charged: u64,
}

impl Frames {
    pub fn new(budget: Arc<Budget>) -> Frames {
        Frames { buffer: Vec::new(), at: 0, end: 0, rest: 0, joined: 0, budget, charged: 0 }
    }

    /// Hands on bytes to `out`; none at the end of the stream. `read` reads from the socket.
    pub fn poll_read(
        &mut self,
        mut read: impl FnMut(&mut ReadBuf) -> Poll<io::Result<()>>,
        out: &mut ReadBuf,
    ) -> Poll<io::Result<()>> {
        let mut most = out.remaining();
        if self.rest == 0 {
            // h2 makes room for all of a frame once it has the head.
            if ready!(self.begin(&mut read))? > most {
                most = most.min(HEAD);
            }
        } else if self.at == self.end {
            ready!(self.fill(&mut read))?;
        }
        while self.rest > 0 || self.go_on() {
            let left = self.buffer.get(self.at..self.end).unwrap_or_default();
            let Some(piece) = left.get(..most.min(self.rest).min(left.len())).filter(|piece| !piece.is_empty()) else {
                break;
            };
            out.put_slice(piece);
            self.at += piece.len();
            self.rest -= piece.len();
            most -= piece.len();
        }
        self.keep_little();
        Poll::Ready(Ok(()))
    }

    /// Starts with the next frame, and joins to it the frames that follow, as far as they have arrived; returns their
    /// length. The end of the stream within a head is handed on as it is.
    fn begin(&mut self, read: &mut impl FnMut(&mut ReadBuf) -> Poll<io::Result<()>>) -> Poll<io::Result<usize>> {
        while self.end - self.at < HEAD && ready!(self.fill(read))? > 0 {}
        let Some(first) = self.head(0) else {
            self.rest = self.end - self.at;
            return Poll::Ready(Ok(self.rest));
        };
        self.rest = HEAD + first.length;
        let (mut all, mut end) = (first, self.rest);
        while first.is_plain_data() && all.flags & END_STREAM == 0 {
            let Some(next) = self.head(end) else {
                match self.fill(read)? {
                    Poll::Ready(1..) => continue,
                    _ => break,
                }
            };
            if !next.is_plain_data() || next.stream != first.stream || all.length + next.length > FRAME {
                break;
            }
            all = Head { length: all.length + next.length, ..next };
            end += HEAD + next.length;
            self.joined += 1;
        }
        if let Some(head) = self.buffer.get_mut(self.at..).and_then(<[u8]>::first_chunk_mut::<HEAD>) {
            let [high, middle, low, _, flags, ..] = head;
            [_, *high, *middle, *low] = (all.length as u32).to_be_bytes();
            *flags = all.flags;
        }
        Poll::Ready(Ok(HEAD + all.length))
    }

    /// Goes on to the next joined frame, if there is one.
    fn go_on(&mut self) -> bool {
        while self.rest == 0 && self.joined > 0 {
            let head = self.head(0);
            self.at += HEAD;
            self.joined -= 1;
            self.rest = head.map_or(0, |head| head.length);
        }
        self.rest > 0
    }

    /// The head that follows `skip` of the bytes held.
    fn head(&self, skip: usize) -> Option<Head> {
        Head::read(self.buffer.get(self.at + skip..self.end)?)
    }

    /// Reads more; returns how much.
    fn fill(&mut self, read: &mut impl FnMut(&mut ReadBuf) -> Poll<io::Result<()>>) -> Poll<io::Result<usize>> {
        self.make_room();
        if self.end == self.buffer.len() {
            return Poll::Ready(Ok(0));
        }
        let mut free = ReadBuf::new(self.buffer.get_mut(self.end..).unwrap_or_default());
        let result = read(&mut free);
        let count = free.filled().len();
        self.end += count;
        if count == 0 {
            self.keep_little();
        }
        result.map_ok(|()| count)
    }

    /// Moves what is left to the front of a buffer.
    fn make_room(&mut self) {
        if self.buffer.len() < READ_LEAST {
            let is_charged = self.budget.take(Share::Ingest, READ as u64);
            let mut buffer = if is_charged { SPARE.take() } else { Vec::new() };
            buffer.resize(if is_charged { READ } else { READ_LEAST }, 0);
            self.charged = if is_charged { READ as u64 } else { 0 };
            let left = self.buffer.get(self.at..self.end).unwrap_or_default();
            buffer.iter_mut().zip(left).for_each(|(to, byte)| *to = *byte);
            self.buffer = buffer;
        } else if self.at > 0 {
            self.buffer.copy_within(self.at..self.end, 0);
        }
        (self.at, self.end) = (0, self.end - self.at);
    }

    /// Gives the buffer back once less than a head is left in it.
    fn keep_little(&mut self) {
        let left = self.buffer.get(self.at..self.end).filter(|left| left.len() < HEAD).map(<[u8]>::to_vec);
        let Some(left) = left else { return };
        (self.at, self.end) = (0, left.len());
        let buffer = replace(&mut self.buffer, left);
        self.budget.give_back(Share::Ingest, take(&mut self.charged));
        if buffer.len() == READ {
            SPARE.set(buffer);
        }
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        self.budget.give_back(Share::Ingest, self.charged);
    }
}

#[derive(Clone, Copy)]
struct Head {
    length: usize,
    kind: u8,
    flags: u8,
    stream: [u8; 4],
}

impl Head {
    fn read(bytes: &[u8]) -> Option<Head> {
        let [high, middle, low, kind, flags, stream @ ..] = *bytes.first_chunk::<HEAD>()?;
        Some(Head { length: u32::from_be_bytes([0, high, middle, low]) as usize, kind, flags, stream })
    }

    /// Whether it is DATA without padding.
    fn is_plain_data(self) -> bool {
        self.kind == DATA && self.flags & !END_STREAM == 0
    }
}
