//! Reads the oldest record not yet taken. Skips damaged bytes; stops at unreadable ones.

use std::io::{self, ErrorKind};
use std::time::Duration;

use super::super::format::{Frame, HEADER};
use super::super::hold::{self, ATTEMPTS, Hold};
use super::super::scan::{Piece, Reader};
use super::super::{Clock, Disk};
use super::{Log, Record};

/// The read position.
pub(super) struct Cursor<F> {
    pub(super) sequence: u64,
    pub(super) at: u64,
    pub(super) next_id: u64,
    pub(super) reader: Option<Reader<F>>,
}

impl<D: Disk, C: Clock> Log<D, C> {
    /// The oldest record not yet taken; `None` while it cannot be read. Damaged bytes that are skipped count as lost.
    pub fn read_next(&mut self) -> Option<Record> {
        loop {
            let now = self.clock.now();
            if self.hold.as_ref().is_some_and(|hold| hold.rests(now)) {
                return None;
            }
            match self.find_next() {
                Ok(found) => {
                    self.hold = None;
                    return found;
                }
                Err(error) => self.hold_at_cursor(&error, now),
            }
        }
    }

    fn find_next(&mut self) -> io::Result<Option<Record>> {
        loop {
            let index = self.at_cursor();
            let is_last = index + 1 >= self.segments.len();
            let Some(segment) = self.segments.get_mut(index) else {
                self.pass(self.next_id);
                return Ok(None);
            };
            if segment.sequence != self.cursor.sequence {
                let (sequence, next_id) = (segment.sequence, self.cursor.next_id);
                self.cursor = Cursor { sequence, at: HEADER, next_id, reader: None };
            }
            if self.cursor.at >= segment.length || segment.unread.is_zero() {
                if is_last && self.active.is_some() {
                    self.cursor.at = segment.length;
                    self.pass(self.next_id);
                    return Ok(None);
                }
                let (sequence, next_id) = (segment.sequence + 1, self.cursor.next_id);
                self.cursor = Cursor { sequence, at: HEADER, next_id, reader: None };
                self.lose(index);
                continue;
            }
            let passes = segment.is_kept || self.is_view;
            if self.cursor.reader.is_none() {
                match self.disk.open(&segment.file_name()) {
                    Err(error) if error.kind() == ErrorKind::NotFound => {
                        self.cursor.at = segment.length;
                        continue;
                    }
                    file => self.cursor.reader = Some(Reader::new(file?, passes)),
                }
            }
            let Some(reader) = &mut self.cursor.reader else { continue };
            let place = (self.identity, segment.sequence);
            let (frame, at) = match reader.piece(&self.disk, place, self.cursor.at, segment.length)? {
                Piece::End => {
                    self.cursor.at = segment.length;
                    continue;
                }
                Piece::Damaged { to } => {
                    self.cursor.at = to;
                    continue;
                }
                Piece::Record { frame, at } => (frame, at),
            };
            let (next, is_known) = (at + frame.span(), frame.id >= self.cursor.next_id && frame.id < segment.end_id);
            let is_held = self.held.contains_key(&frame.id);
            if !is_known || !is_held && self.marks.state.is_settled(frame.id) {
                self.cursor.at = next;
                if is_known {
                    self.pass(frame.id + 1);
                }
                continue;
            }
            let payload = match is_held {
                true => None,
                false => match reader.payload(&self.disk, &frame, at, segment.length)? {
                    Some(payload) => Some(payload),
                    None if passes => {
                        self.cursor.at = next;
                        continue;
                    }
                    None => return Err(io::Error::other("it does not read the same twice")),
                },
            };
            self.cursor.at = next;
            segment.unread -= frame.amount();
            self.held.remove(&frame.id);
            self.pass(frame.id);
            self.cursor.next_id = frame.id + 1;
            let Some(payload) = payload else { continue };
            let Frame { id, kind, received_nanos, .. } = frame;
            return Ok(Some(Record { id, kind, received_nanos, amount: frame.amount(), payload }));
        }
    }

    /// Index of the segment at the cursor.
    fn at_cursor(&self) -> usize {
        self.segments.partition_point(|segment| segment.sequence < self.cursor.sequence)
    }

    /// Reading failed: retry later. If only this segment fails for long, skip it from now on.
    fn hold_at_cursor(&mut self, error: &io::Error, now: Duration) {
        self.cursor.reader = None;
        let (index, count) = (self.at_cursor(), self.segments.len());
        let Some(segment) = self.segments.get_mut(index) else { return };
        let hold = Hold::after(self.hold.take(), now, segment.file_name(), error);
        if !hold.is_hopeless(&self.disk, ATTEMPTS) {
            self.hold = Some(hold);
        } else if segment.is_kept {
            // The file cannot even be opened.
            self.cursor.at = segment.length;
        } else if hold::keep(&self.disk, &hold.file).is_ok() {
            segment.is_kept = true;
            self.kept.push(hold.file);
            if index + 1 == count {
                self.active = None;
            }
        } else {
            self.hold = Some(hold);
        }
    }
}
