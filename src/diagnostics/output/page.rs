//! Text being formatted, and the outcome of its records.

use std::sync::atomic::Ordering;

use super::sink::WRITE_BYTES;
use super::{Counts, NOTHING, Outcome, Printer, Shared, Sink, State, add};

/// Text is written at this length; a line may exceed it and still be one write.
pub const PIECE: usize = WRITE_BYTES - (4 << 10);
/// Above this capacity, a buffer that grew for a long line is freed.
const ROOM: usize = 4 * WRITE_BYTES;

/// The text to write next, and the pen that writes it.
pub struct Page<'a, P: Printer + ?Sized> {
    pub text: Vec<u8>,
    pub pen: Pen<'a, P>,
}

/// Writes to all sinks, and settles the records of the written text.
pub struct Pen<'a, P: Printer + ?Sized> {
    shared: &'a Shared<P>,
    sinks: Vec<Sink>,
    /// The records of the text on the page.
    records: Counts,
    /// Bytes of the jobs whose text is on the page.
    bytes: usize,
}

impl<P: Printer> Page<'_, P> {
    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty() && self.pen.bytes == 0 && self.pen.records == Counts::default()
    }

    pub(super) fn write(&mut self) {
        self.pen.write(&mut self.text);
    }

    /// The text on the page is lost.
    pub(super) fn forget(&mut self) {
        self.text.clear();
        self.pen.records = Counts::default();
    }

    /// Prints the notices about refused records.
    pub(super) fn own_up(&mut self, state: &mut State<P::Job>) {
        let unsaid = std::mem::replace(&mut state.unsaid, NOTHING);
        self.text.extend_from_slice(self.pen.shared.notices(&unsaid).as_bytes());
        state.in_hand += self.text.len();
        self.pen.bytes += self.text.len();
    }
}

impl<'a, P: Printer> Pen<'a, P> {
    pub(super) fn new(shared: &'a Shared<P>, sinks: Vec<Sink>) -> Pen<'a, P> {
        Pen { shared, sinks, records: Counts::default(), bytes: 0 }
    }

    /// Counts records whose text is on the page, or begins there.
    pub fn count(&mut self, records: Counts) {
        add(&mut self.records, records);
    }

    /// Writes the text if it fills a piece. False when the rest is no longer wanted.
    pub(crate) fn breathe(&mut self, text: &mut Vec<u8>) -> bool {
        text.len() < PIECE || self.write(text)
    }

    /// Writes the text. False when the rest is no longer wanted.
    pub(crate) fn write(&mut self, text: &mut Vec<u8>) -> bool {
        let shared = self.shared;
        shared.writing.store(true, Ordering::Relaxed);
        let taken = self.sinks.iter_mut().map(|sink| sink.write(text, &|| shared.note_progress()));
        let is_written = taken.fold(false, |any, taken| any | taken);
        shared.writing.store(false, Ordering::Relaxed);
        if !is_written {
            shared.closed.store(self.sinks.iter().all(Sink::is_gone), Ordering::Relaxed);
        }
        text.clear();
        text.shrink_to(ROOM);
        let outcome = if is_written { Outcome::Written } else { Outcome::Lost };
        self.settle(outcome) && !shared.closed.load(Ordering::Relaxed)
    }

    /// Settles records that a rule excludes, so that they have no text.
    pub fn leave_out(&mut self, records: Counts, text: &mut Vec<u8>) {
        // Keep the order of arrival.
        self.write(text);
        self.records = records;
        self.settle(Outcome::LeftOut);
    }

    /// All text of a job is on the page.
    pub(super) fn done_with(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// False when the outcome is no longer wanted.
    fn settle(&mut self, outcome: Outcome) -> bool {
        let (records, bytes) = (std::mem::take(&mut self.records), std::mem::take(&mut self.bytes));
        let mut state = self.shared.state.lock();
        state.in_hand -= bytes;
        if !state.abandoned {
            state.waiting.iter_mut().zip(records).for_each(|(waiting, records)| *waiting -= records);
            self.shared.owner.settle(records, outcome);
        }
        let goes_on = !state.abandoned;
        if bytes > 0 {
            self.shared.tell_of_room(state);
        }
        goes_on
    }
}
