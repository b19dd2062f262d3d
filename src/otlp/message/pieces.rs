//! Runs of whole fields, in order: a few inline, more on the heap. A run takes more memory than the two bytes it may
//! consist of, so its memory is taken from the request's room.

use std::ops::Deref;

use smallvec::SmallVec;

use crate::otlp::room::Room;

#[derive(Debug, Default)]
pub(crate) struct Pieces<'a> {
    list: SmallVec<[&'a [u8]; 4]>,
    room: Option<&'a Room>,
}

const PIECE: usize = size_of::<&[u8]>();

impl<'a> Pieces<'a> {
    pub(super) fn within(room: Option<&'a Room>) -> Pieces<'a> {
        Pieces { list: SmallVec::new(), room }
    }

    /// Takes memory from `room` from now on.
    pub(super) fn enter(&mut self, room: &'a Room) {
        self.room = Some(room);
    }

    pub(super) fn room(&self) -> Option<&'a Room> {
        self.room
    }

    /// If there is no room, the piece is lost and the request is refused.
    #[inline]
    pub(super) fn push(&mut self, piece: &'a [u8]) {
        if self.list.len() < self.list.capacity() || self.grow() {
            self.list.push(piece);
        }
    }

    pub(super) fn extend(&mut self, pieces: impl IntoIterator<Item = &'a [u8]>) {
        pieces.into_iter().for_each(|piece| self.push(piece));
    }

    pub(super) fn clear(&mut self) {
        self.list.clear();
    }

    /// Becomes one piece; there is always room for it.
    #[inline(always)]
    pub(super) fn reset(&mut self, piece: &'a [u8]) {
        self.list.clear();
        self.list.push(piece);
    }

    /// Replaces one piece by up to three.
    pub(super) fn replace(&mut self, index: usize, with: [&'a [u8]; 3]) {
        let mut with = with.into_iter().filter(|piece| !piece.is_empty());
        match (with.next(), self.list.get_mut(index)) {
            (Some(first), Some(piece)) => {
                *piece = first;
                while self.list.len() + 2 > self.list.capacity() {
                    if !self.grow() {
                        return;
                    }
                }
                self.list.insert_many(index + 1, with);
            }
            (None, Some(_)) => _ = self.list.remove(index),
            (_, None) => {}
        }
    }

    /// Doubles the capacity. False if there is no memory.
    #[cold]
    fn grow(&mut self) -> bool {
        let more = self.list.capacity();
        let on_heap = if self.list.spilled() { more } else { 2 * more };
        let is_granted = self.room.is_none_or(|room| room.take(on_heap * PIECE));
        if is_granted {
            self.list.reserve_exact(more + self.list.capacity() - self.list.len());
        }
        is_granted
    }
}

impl<'a> Deref for Pieces<'a> {
    type Target = [&'a [u8]];

    #[inline(always)]
    fn deref(&self) -> &[&'a [u8]] {
        &self.list
    }
}

impl Clone for Pieces<'_> {
    fn clone(&self) -> Self {
        let mut pieces = Pieces::within(self.room);
        pieces.extend(self.iter().copied());
        pieces
    }
}

impl Drop for Pieces<'_> {
    fn drop(&mut self) {
        if let Some(room) = self.room.filter(|_| self.list.spilled()) {
            room.give_back(self.list.capacity() * PIECE);
        }
    }
}
