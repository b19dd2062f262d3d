//! What comes out of a walk: nothing before something changes, then all around it, in runs as long as they are.

use smallvec::SmallVec;

use crate::otlp::message::Message;
use crate::otlp::room::Room;
use crate::otlp::slice::Exhausted;
use crate::otlp::wire::{Fields, put_bytes, put_header};

/// The longest tag and length of a message.
const HEADER: usize = 16;

/// A container on the way to the message that is visited.
#[derive(Default)]
pub struct Level<'a> {
    pub raw: &'a [u8],
    /// Its field number in the container around it; 0 is the request.
    number: u32,
    /// Up to where its bytes are in the output or left out of it, and where the child starts that is visited.
    pub done: usize,
    pub at: usize,
    /// Where its tag and its first field stand in the output, once something in it has changed.
    pub begun: Option<(usize, usize)>,
}

impl Level<'_> {
    /// How many bytes `reach` may write.
    fn behind(&self) -> usize {
        HEADER + self.at - self.done
    }

    /// Brings the output up to the child that is visited.
    #[inline]
    fn reach(&mut self, out: &mut Vec<u8>) {
        if self.begun.is_none() {
            let start = out.len();
            if self.number != 0 {
                // A guess, corrected when the length is known; most often it takes as many bytes.
                put_header(out, self.number, self.raw.len());
            }
            self.begun = Some((start, out.len()));
        }
        out.extend_from_slice(self.raw.get(self.done..self.at).unwrap_or_default());
        self.done = self.at;
    }
}

/// What became of a message in its container.
pub enum Fate {
    Same,
    /// It stands in the output.
    Written,
    Gone,
}

/// The containers that are open, and what is written of them.
pub struct Output<'a> {
    out: Vec<u8>,
    room: &'a Room,
    /// How long the output will likely be, once there is any.
    likely: usize,
    scratch: Vec<u8>,
    /// The container whose children are visited, and those around it.
    pub level: Level<'a>,
    outer: SmallVec<[Level<'a>; 5]>,
}

impl<'a> Output<'a> {
    pub fn of(request: &'a [u8], room: &'a Room) -> Self {
        Output {
            out: Vec::new(),
            room,
            likely: request.len() + request.len() / 8,
            scratch: Vec::new(),
            level: Level { raw: request, ..Level::default() },
            outer: SmallVec::new(),
        }
    }

    /// What was written, if anything was.
    pub fn finish(mut self) -> Option<Vec<u8>> {
        self.room.give_back(self.scratch.capacity());
        self.level.begun?;
        let capacity = self.out.capacity();
        if capacity - self.out.len() > self.out.len() / 4 {
            self.out.shrink_to_fit();
            self.room.give_back(capacity - self.out.capacity());
        }
        Some(self.out)
    }

    /// Opens the container that is visited; nothing is written yet.
    #[inline]
    pub fn enter(&mut self, number: u32, raw: &'a [u8]) {
        let level = Level { raw, number, ..Level::default() };
        self.outer.push(std::mem::replace(&mut self.level, level));
    }

    /// Brings the output up to the child that is visited, through all containers around it.
    #[inline]
    pub fn reach(&mut self) -> Result<(), Exhausted> {
        let mut more = self.level.behind();
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

    /// Room for so many bytes more of output.
    #[inline]
    fn make_room(&mut self, more: usize) -> Result<(), Exhausted> {
        if self.room.reserve(&mut self.out, more) { Ok(()) } else { Err(Exhausted) }
    }

    /// Writes a message that stands nowhere in the request.
    pub fn add(&mut self, number: u32, message: &[u8]) -> Result<(), Exhausted> {
        self.make_room(message.len() + HEADER)?;
        put_bytes(&mut self.out, number, message);
        Ok(())
    }

    /// Writes a message without visited children, if it was changed.
    #[inline(always)]
    pub fn settle(&mut self, number: u32, message: &Message) -> Result<Fate, Exhausted> {
        if !message.is_changed() {
            return Ok(Fate::Same);
        }
        self.reach()?;
        self.make_room(message.len() + HEADER)?;
        message.write_field(&mut self.out, number);
        Ok(Fate::Written)
    }

    /// Closes a container whose children were visited.
    pub fn close_with(
        &mut self,
        message: &Message,
        known: u32,
        is_child: impl Fn(u32) -> bool,
    ) -> Result<Fate, Exhausted> {
        let is_apart = |number| is_child(number) || is_unknown(known, number);
        let own = Some(message).filter(|message| message.is_changed()).map(Message::len);
        self.close(own, is_apart, |out| write_around(message, is_apart, out))
    }

    /// Closes the innermost container. What was changed of its own fields, `own` bytes, is written before what stands apart
    /// from them: its children, and the fields that nobody reads.
    pub fn close(
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

    /// Leaves the innermost container out.
    #[inline]
    pub fn discard(&mut self) -> Fate {
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

/// Whether OTLP did not define this field when this was written. Any number of them may stand between the children of a
/// message, so they are left out with these.
pub fn is_unknown(known: u32, number: u32) -> bool {
    known.checked_shr(number).unwrap_or_default() & 1 == 0
}

/// How long two messages are that are written together, if one of them was changed.
pub fn changed(outer: &Message, inner: &Message) -> Option<usize> {
    (outer.is_changed() || inner.is_changed()).then(|| outer.len() + inner.len() + HEADER)
}

/// Writes the fields of a message that `is_other` does not cover.
fn write_around(message: &Message, is_other: impl Fn(u32) -> bool, out: &mut Vec<u8>) {
    for field in message.fields().filter(|field| !is_other(field.number)) {
        out.extend_from_slice(field.raw);
    }
}

/// The same, and the singular message `number` that is in sight beside it; one that is absent stays so, and one of which
/// nothing is left is there still.
pub fn write_with(message: &Message, number: u32, inner: &Message, is_other: impl Fn(u32) -> bool, out: &mut Vec<u8>) {
    write_around(message, |field| field == number || is_other(field), out);
    if number != 0 && (inner.is_changed() || !inner.pieces().is_empty()) {
        inner.write_field(out, number);
    }
}
