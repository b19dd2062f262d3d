//! The output of a walk: nothing before the first change, then everything around it, in the longest possible runs.

use smallvec::SmallVec;

use crate::otlp::message::Message;
use crate::otlp::room::Room;
use crate::otlp::slice::Exhausted;
use crate::otlp::wire::{Fields, put_bytes, put_header};

/// Maximum length of a message's tag and length.
const HEADER: usize = 16;

/// A container around the visited message.
#[derive(Default)]
pub(super) struct Level<'a> {
    pub(super) raw: &'a [u8],
    /// Its field number in its parent; 0 for the request.
    number: u32,
    /// The end of the bytes already copied or left out, and the start of the visited child.
    pub(super) done: usize,
    pub(super) at: usize,
    /// The positions of its tag and its first field in the output, once something in it has changed.
    pub(super) begun: Option<(usize, usize)>,
}

impl Level<'_> {
    /// Maximum bytes that `reach` writes.
    fn behind(&self) -> usize {
        HEADER + self.at - self.done
    }

    /// Copies everything before the visited child.
    #[inline]
    fn reach(&mut self, out: &mut Vec<u8>) {
        if self.begun.is_none() {
            let start = out.len();
            if self.number != 0 {
                // A guess, corrected when the length is known; usually it takes as many bytes.
                put_header(out, self.number, self.raw.len());
            }
            self.begun = Some((start, out.len()));
        }
        out.extend_from_slice(self.raw.get(self.done..self.at).unwrap_or_default());
        self.done = self.at;
    }
}

/// The outcome of a message in its container.
pub(crate) enum Fate {
    Same,
    /// It is in the output.
    Written,
    Gone,
}

/// The open containers, and their output so far.
pub(super) struct Output<'a> {
    out: Vec<u8>,
    room: &'a Room,
    /// The expected length of the output.
    likely: usize,
    scratch: Vec<u8>,
    /// The container whose children are visited, and its parents.
    pub(super) level: Level<'a>,
    outer: SmallVec<[Level<'a>; 5]>,
}

impl<'a> Output<'a> {
    pub(super) fn of(request: &'a [u8], room: &'a Room) -> Self {
        Output {
            out: Vec::new(),
            room,
            likely: request.len() + request.len() / 8,
            scratch: Vec::new(),
            level: Level { raw: request, ..Level::default() },
            outer: SmallVec::new(),
        }
    }

    /// The output, if anything changed.
    pub(super) fn finish(mut self) -> Option<Vec<u8>> {
        self.room.give_back(self.scratch.capacity());
        self.level.begun?;
        let capacity = self.out.capacity();
        if capacity - self.out.len() > self.out.len() / 4 {
            self.out.shrink_to_fit();
            self.room.give_back(capacity - self.out.capacity());
        }
        Some(self.out)
    }

    /// Opens the visited container; writes nothing yet.
    #[inline]
    pub(super) fn enter(&mut self, number: u32, raw: &'a [u8]) {
        let level = Level { raw, number, ..Level::default() };
        self.outer.push(std::mem::replace(&mut self.level, level));
    }

    /// Copies everything before the visited child, in all containers around it.
    #[inline]
    pub(super) fn reach(&mut self) -> Result<(), Exhausted> {
        self.reach_with(0)
    }

    /// The same, with room for `more` bytes behind it.
    #[inline]
    fn reach_with(&mut self, mut more: usize) -> Result<(), Exhausted> {
        more += self.level.behind();
        if self.level.begun.is_none() {
            more += self.outer.iter().map(Level::behind).sum::<usize>();
            self.make_room(if self.out.is_empty() { more.max(self.likely) } else { more })?;
            self.outer.iter_mut().for_each(|level| level.reach(&mut self.out));
        } else {
            self.make_room(more)?;
        }
        self.level.reach(&mut self.out);
        Ok(())
    }

    /// Makes room for `more` bytes of output.
    #[inline]
    fn make_room(&mut self, more: usize) -> Result<(), Exhausted> {
        if self.room.reserve(&mut self.out, more) { Ok(()) } else { Err(Exhausted) }
    }

    /// Writes a message that is not in the original request.
    pub(super) fn add(&mut self, number: u32, message: &[u8]) -> Result<(), Exhausted> {
        self.make_room(message.len() + HEADER)?;
        put_bytes(&mut self.out, number, message);
        Ok(())
    }

    /// Writes a changed message without visited children.
    #[inline(always)]
    pub(super) fn settle(&mut self, number: u32, message: &Message) -> Result<Fate, Exhausted> {
        if !message.is_changed() {
            return Ok(Fate::Same);
        }
        let length = message.len();
        self.reach_with(length + HEADER)?;
        put_header(&mut self.out, number, length);
        message.write(&mut self.out);
        Ok(Fate::Written)
    }

    /// Closes a container whose children were visited.
    pub(super) fn close_with(
        &mut self,
        message: &Message,
        known: u32,
        is_child: impl Fn(u32) -> bool,
    ) -> Result<Fate, Exhausted> {
        let is_apart = |number| is_child(number) || is_unknown(known, number);
        let own = Some(message).filter(|message| message.is_changed()).map(Message::len);
        self.close(own, is_apart, |out| write_around(message, is_apart, out))
    }

    /// Closes the innermost container. Its own changed fields, `own` bytes, are written before the separate ones: its
    /// children, and unknown fields.
    pub(super) fn close(
        &mut self,
        own: Option<usize>,
        is_apart: impl Fn(u32) -> bool,
        write_own: impl Fn(&mut Vec<u8>),
    ) -> Result<Fate, Exhausted> {
        if let Some(own) = own {
            let mut body = self.level.raw;
            self.scratch.clear();
            if let Some((_, start)) = self.level.begun {
                let written = self.out.get(start..).unwrap_or_default();
                if !self.room.reserve(&mut self.scratch, written.len()) {
                    return Err(Exhausted);
                }
                self.scratch.extend_from_slice(written);
                self.out.truncate(start);
                body = &[];
            } else {
                self.level.at = 0;
                self.reach()?;
            }
            self.make_room(own + HEADER + body.len() + self.scratch.len())?;
            write_own(&mut self.out);
            let children = if body.is_empty() { Fields::new(&self.scratch) } else { Fields::new(body) };
            for child in children.filter(|field| is_apart(field.number)) {
                self.out.extend_from_slice(child.raw);
            }
        }
        let level = self.leave();
        let Some((start, body)) = level.begun else { return Ok(Fate::Same) };
        let length = self.out.len() - body;
        self.make_room(HEADER)?;
        self.scratch.clear();
        put_header(&mut self.scratch, level.number, length);
        self.out.splice(start..body, self.scratch.drain(..));
        Ok(Fate::Written)
    }

    /// Drops the innermost container.
    #[inline]
    pub(super) fn discard(&mut self) -> Fate {
        if let Some((start, _)) = self.leave().begun {
            self.out.truncate(start);
        }
        Fate::Gone
    }

    #[inline]
    fn leave(&mut self) -> Level<'a> {
        let outer = self.outer.pop().unwrap_or_default();
        std::mem::replace(&mut self.level, outer)
    }
}

/// Whether a field was unknown to OTLP when this was written. Any number of them may be between a message's children,
/// so they are left out together with these.
pub(super) fn is_unknown(known: u32, number: u32) -> bool {
    known.checked_shr(number).unwrap_or_default() & 1 == 0
}

/// The combined length of two messages that are written together, if one of them was changed.
pub(super) fn changed(outer: &Message, inner: &Message) -> Option<usize> {
    (outer.is_changed() || inner.is_changed()).then(|| outer.len() + inner.len() + HEADER)
}

/// Writes the fields of a message that `is_other` does not cover.
fn write_around(message: &Message, is_other: impl Fn(u32) -> bool, out: &mut Vec<u8>) {
    for field in message.fields().filter(|field| !is_other(field.number)) {
        out.extend_from_slice(field.raw);
    }
}

/// The same, plus the singular message `number`, held in `inner`: an absent one stays absent, and one that became empty
/// stays present.
pub(super) fn write_with(
    message: &Message,
    number: u32,
    inner: &Message,
    is_other: impl Fn(u32) -> bool,
    out: &mut Vec<u8>,
) {
    write_around(message, |field| field == number || is_other(field), out);
    if number != 0 && (inner.is_changed() || !inner.pieces().is_empty()) {
        inner.write_field(out, number);
    }
}
