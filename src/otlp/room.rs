//! Memory for what is made of a request. All that grows with what a client sends asks here before it grows: a few bytes on
//! the wire may become a struct, a copy or a line of text in the parts that read them.
//!
//! Room is taken in steps of 64 KiB. Once there was none, the request is refused, whatever becomes of what wanted it: nobody
//! else has to carry the failure on.

use std::cell::Cell;
use std::fmt;
use std::ops::Deref;

/// Takes so many bytes, of the budget most often, or says that there are none.
pub type Grant = dyn Fn(usize) -> bool;

const STEP: usize = 64 << 10;

pub struct Room {
    grant: Option<Box<Grant>>,
    /// Granted and not in use.
    free: Cell<usize>,
    /// What was wanted when there was no more; 0 as long as there was.
    missing: Cell<usize>,
}

impl Room {
    /// Room as far as it is granted.
    pub fn new(grant: impl Fn(usize) -> bool + 'static) -> Room {
        Room { grant: Some(Box::new(grant)), free: Cell::new(0), missing: Cell::new(0) }
    }

    /// Room for so many bytes.
    pub fn within(bytes: usize) -> Room {
        Room { grant: None, free: Cell::new(bytes), missing: Cell::new(0) }
    }

    /// Takes room and says whether there was some. Without it the request still goes on.
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

    /// Takes room and says whether there was some. Without it the request is refused at the end.
    pub fn take(&self, bytes: usize) -> bool {
        let taken = self.try_take(bytes);
        if !taken && self.missing.get() == 0 {
            self.missing.set(bytes);
        }
        taken
    }

    pub fn give_back(&self, bytes: usize) {
        self.free.set(self.free.get().saturating_add(bytes));
    }

    /// How many bytes there was no room for, if that ever was so.
    #[inline]
    pub fn missing(&self) -> Option<usize> {
        Some(self.missing.get()).filter(|missing| *missing > 0)
    }

    /// Makes room for more in a buffer whose memory is of this room.
    #[inline]
    pub fn reserve(&self, buffer: &mut Vec<u8>, more: usize) -> bool {
        more <= buffer.capacity() - buffer.len() || self.grow(buffer, more)
    }

    /// By half of what it has, or by an eighth where that is too much.
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

/// A buffer whose memory is of a room, and given back with it.
pub struct Buffer<'r> {
    bytes: Vec<u8>,
    room: &'r Room,
}

impl<'r> Buffer<'r> {
    pub fn new(room: &'r Room) -> Buffer<'r> {
        Buffer { bytes: Vec::new(), room }
    }

    /// The buffer with room for so many bytes more, if there is some.
    pub fn for_more(&mut self, more: usize) -> Option<&mut Vec<u8>> {
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
