//! Memory for results of statements, freed as a whole at the end of the request. It is bounded twice: by its own limit,
//! and by the request's room, which is asked before each chunk.

use std::cell::Cell;

use bumpalo::Bump;

use super::{Fault, OUT_OF_MEMORY, Value};
use crate::otlp::room::Room;
use crate::otlp::slice::Allowance;
use crate::otlp::wire::put_bytes;
use crate::ottl::pattern::Computed;

/// A new chunk is this much larger than its first allocation.
const CHUNK: usize = 8 << 10;
/// Chunks double up to this size.
const LARGEST: usize = 256 << 10;

pub struct Arena {
    bump: Bump,
    limit: usize,
    /// The fill limit for the current item.
    most: Cell<usize>,
    room: Room,
    /// The allowance of statements for repeated reads.
    pub(crate) again: Allowance,
    pub(crate) patterns: Computed,
}

impl Arena {
    /// Without a budget: the limit, or the request, is small.
    pub fn with_limit(limit: usize) -> Arena {
        Arena::new(limit, Room::within(limit), 0)
    }

    /// For the statements of a request of this length.
    pub fn new(limit: usize, room: Room, length: usize) -> Arena {
        let bump = Bump::new();
        bump.set_allocation_limit(Some(0));
        Arena { bump, limit, most: Cell::new(limit), room, again: Allowance::of(length), patterns: Computed::default() }
    }

    /// The request's room, for other derived data.
    pub fn room(&self) -> &Room {
        &self.room
    }

    /// Allows the next item half of the remaining memory, so that one item cannot use up everything.
    #[inline]
    pub(crate) fn share(&self) {
        let used = self.bump.allocated_bytes();
        self.most.set(used + self.limit.saturating_sub(used) / 2);
    }

    /// Copies bytes into the arena.
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
                // The next chunk must ask again.
                let now = self.bump.allocated_bytes();
                self.bump.set_allocation_limit(Some(now));
                self.room.give_back(chunk - (now - used).min(chunk));
                return kept.map(|kept| &*kept).map_err(|_| Fault::new(OUT_OF_MEMORY));
            }
        }
        self.room.take(needed);
        Err(Fault::new(OUT_OF_MEMORY))
    }

    /// Keeps an attribute, encoded as the field `list` of its message.
    pub(crate) fn keep_attribute(&self, list: u32, key: &[u8], value: &Value) -> Result<&[u8], Fault> {
        let mut raw = Vec::with_capacity(key.len() + value.any_len().unwrap_or(0) + 16);
        value.put_pair(&mut raw, list, key);
        self.keep(&raw)
    }

    /// Keeps an encoded field of bytes.
    pub(crate) fn keep_field(&self, number: u32, payload: &[u8]) -> Result<&[u8], Fault> {
        let mut raw = Vec::with_capacity(payload.len() + 8);
        put_bytes(&mut raw, number, payload);
        self.keep(&raw)
    }

    pub(crate) fn text(&self, text: &str) -> Result<Value<'_>, Fault> {
        Ok(Value::String(self.keep(text.as_bytes())?))
    }
}
