//! Memory for what statements make, given back as a whole when the request is done. It is bounded twice: by its own limit, and
//! by the room of its request, which is asked before each chunk.

use std::cell::Cell;

use bumpalo::Bump;

use super::{Fault, OUT_OF_MEMORY, Value};
use crate::otlp::room::Room;
use crate::otlp::slice::Allowance;
use crate::ottl::pattern::Computed;

/// A chunk takes so much more than what is kept first in it.
const CHUNK: usize = 8 << 10;
/// Chunks double up to here.
const LARGEST: usize = 256 << 10;

pub struct Arena {
    bump: Bump,
    limit: usize,
    /// What the item in sight may fill it to.
    most: Cell<usize>,
    room: Room,
    /// How much statements may read again.
    pub again: Allowance,
    pub patterns: Computed,
}

impl Arena {
    /// For what needs no budget: the limit is small, or its request is.
    pub fn with_limit(limit: usize) -> Arena {
        Arena::new(limit, Room::within(limit), 0)
    }

    /// For the statements of a request of this length.
    pub fn new(limit: usize, room: Room, length: usize) -> Arena {
        let bump = Bump::new();
        bump.set_allocation_limit(Some(0));
        Arena { bump, limit, most: Cell::new(limit), room, again: Allowance::of(length), patterns: Computed::default() }
    }

    /// The room of the request, for whatever else is made of it.
    pub fn room(&self) -> &Room {
        &self.room
    }

    /// Lets the next item have half of what is left, so that one that makes too much leaves room for the others.
    #[inline]
    pub fn share(&self) {
        let used = self.bump.allocated_bytes();
        self.most.set(used + self.limit.saturating_sub(used) / 2);
    }

    /// Keeps bytes as long as the arena.
    pub fn keep(&self, bytes: &[u8]) -> Result<&[u8], Fault> {
        match self.bump.try_alloc_slice_copy(bytes) {
            Ok(kept) => Ok(kept),
            Err(_) => self.keep_in_new_chunk(bytes),
        }
    }

    #[cold]
    fn keep_in_new_chunk(&self, bytes: &[u8]) -> Result<&[u8], Fault> {
        let used = self.bump.allocated_bytes();
        let left = self.most.get().saturating_sub(used);
        let needed = bytes.len() + CHUNK;
        if bytes.len() > left {
            return Err(Fault::new(OUT_OF_MEMORY));
        }
        for chunk in [needed.max(used.min(LARGEST)), needed] {
            if self.room.try_take(chunk) {
                self.bump.set_allocation_limit(Some(used + chunk));
                let kept = self.bump.try_alloc_slice_copy(bytes);
                // The next chunk asks anew.
                let now = self.bump.allocated_bytes();
                self.bump.set_allocation_limit(Some(now));
                self.room.give_back(chunk - (now - used).min(chunk));
                return kept.map(|kept| &*kept).map_err(|_| Fault::new(OUT_OF_MEMORY));
            }
        }
        self.room.take(needed);
        Err(Fault::new(OUT_OF_MEMORY))
    }

    pub fn text(&self, text: &str) -> Result<Value<'_>, Fault> {
        Ok(Value::String(self.keep(text.as_bytes())?))
    }
}
