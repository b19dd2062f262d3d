//! Memory for data derived from a request. Everything that grows with client input asks here before it grows: a few
//! bytes on the wire may become a struct, a copy or a line of text.
//!
//! Room is taken in steps of 64 KiB. Once it was denied, the request is refused at the end, so intermediate code need
//! not pass on the failure.

use std::cell::Cell;
use std::fmt;
use std::ops::Deref;

/// Grants `n` more bytes, usually from the budget, or refuses.
type Grant = dyn Fn(usize) -> bool;

const STEP: usize = 64 << 10;

pub struct Room {
    grant: Option<Box<Grant>>,
    /// Granted and unused.
    free: Cell<usize>,
    /// The first denied amount; 0 if none was.
    missing: Cell<usize>,
}

impl Room {
    /// Room limited by `grant`.
    pub(crate) fn new(grant: impl Fn(usize) -> bool + 'static) -> Room {
        Room { grant: Some(Box::new(grant)), free: Cell::new(0), missing: Cell::new(0) }
    }

    /// Room of a fixed size.
    pub fn within(bytes: usize) -> Room {
        Room { grant: None, free: Cell::new(bytes), missing: Cell::new(0) }
    }

    /// Takes room if there is some. On failure the request still continues.
    pub fn try_take(&self, bytes: usize) -> bool {
        let free = self.free.get();
        if let Some(left) = free.checked_sub(bytes) {
            self.free.set(left);
            return true;
        }
        let more = bytes - free;
        let granted = |more: usize| self.grant.as_ref().is_some_and(|grant| grant(more)).then_some(more);
        let granted = granted(more.next_multiple_of(STEP)).or_else(|| granted(more));
        granted.is_some_and(|granted| {
            self.free.set(free + granted - bytes);
            true
        })
    }

    /// Takes room if there is some. On failure the request is refused at the end.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        let taken = self.try_take(bytes);
        if !taken && self.missing.get() == 0 {
            self.missing.set(bytes);
        }
        taken
    }

    pub(crate) fn give_back(&self, bytes: usize) {
        self.free.set(self.free.get().saturating_add(bytes));
    }

    /// The amount that was denied, if any.
    #[inline]
    pub fn missing(&self) -> Option<usize> {
        Some(self.missing.get()).filter(|missing| *missing > 0)
    }

    /// Grows a buffer whose memory comes from this room.
    #[inline]
    pub(super) fn reserve(&self, buffer: &mut Vec<u8>, more: usize) -> bool {
        more <= buffer.capacity() - buffer.len() || self.grow(buffer, more)
    }

    /// Grows by half, or by an eighth if that is too much.
    #[cold]
    fn grow(&self, buffer: &mut Vec<u8>, more: usize) -> bool {
        let (length, capacity) = (buffer.len(), buffer.capacity());
        let growth = |part: usize| (capacity / part).max(length + more - capacity);
        let grown = [2, 8].into_iter().map(growth).find(|growth| self.try_take(*growth));
        match grown {
            Some(growth) => buffer.reserve_exact(capacity + growth - length),
            None => _ = self.take(growth(8)),
        }
        grown.is_some()
    }
}

/// A buffer whose memory comes from a room, and returns there on drop.
pub(crate) struct Buffer<'r> {
    bytes: Vec<u8>,
    room: &'r Room,
}

impl<'r> Buffer<'r> {
    pub(crate) fn new(room: &'r Room) -> Buffer<'r> {
        Buffer { bytes: Vec::new(), room }
    }

    /// The buffer with room for `more` bytes, if available.
    pub(crate) fn for_more(&mut self, more: usize) -> Option<&mut Vec<u8>> {
        self.room.reserve(&mut self.bytes, more).then_some(&mut self.bytes)
    }
}

impl Deref for Buffer<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer<'_> {
    fn drop(&mut self) {
        self.room.give_back(self.bytes.capacity());
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.debug_struct("Room").field("free", &self.free).field("missing", &self.missing).finish_non_exhaustive()
    }
}
