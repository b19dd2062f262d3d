//! The content of a batch or a batching queue: parts in order of arrival, small ones joined, the front one possibly
//! cut.

use std::collections::VecDeque;
use std::sync::Arc;

use smallvec::SmallVec;

use super::{Budget, Charge, Part, Share, Signal, Tally, Telemetry, Ticket, Tickets};
use crate::otlp::slice;
use crate::otlp::split::Splitter;

/// Parts below this size are joined: copying them is cheaper than a write each.
const SMALL: usize = 16 * 1024;
const JOINED: usize = 64 * 1024;

#[derive(Default)]
pub struct Pending {
    entries: VecDeque<Entry>,
    /// The buffer into which small parts are joined; it comes after all entries.
    joining: Option<Joining>,
    items: u64,
    bytes: u64,
    /// Items ever taken: the position of the front.
    taken: u64,
    /// Tickets for the items between two positions, oldest first.
    tickets: VecDeque<(u64, u64, Ticket)>,
    /// The position behind the last item that no ticket covers, and the one up to which tickets were taken.
    uncovered: u64,
    ticketed: u64,
}

/// The maximum of a batch; 0 means no limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Most {
    Items(u64),
    Bytes(u64),
}

enum Entry {
    Whole(Part),
    /// A partly taken part, and the number of items left in it.
    Cut {
        splitter: Splitter,
        items: u32,
        charge: Charge,
        /// Charge for the headers in the splitter, if there was room for it.
        headers: Charge,
    },
}

/// A batch being made.
pub struct Taking {
    signal: Signal,
    most_items: u64,
    most_bytes: u64,
    parts: SmallVec<[Part; 1]>,
    items: u64,
    bytes: u64,
    /// The part to cut; its remainder, and whether any piece of it fitted.
    uncut: Option<Entry>,
    rest: Option<Entry>,
    has_grown: bool,
    /// Whether a piece has no charge of its own for lack of memory.
    is_beyond: bool,
    /// Original bytes that are no longer pending.
    gone_bytes: u64,
}

struct Joining {
    buffer: Vec<u8>,
    items: u32,
    charge: Charge,
    /// Made while the parts are in the processor's cache: a batch is read again only when it has left it.
    tally: Box<Tally>,
}

impl Pending {
    pub fn items(&self) -> u64 {
        self.items
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds telemetry; its bytes move to the queue share, where the caller has reserved them.
    pub fn push(&mut self, telemetry: Telemetry, budget: &Arc<Budget>) {
        let first = self.taken + self.items;
        let last = first + telemetry.items();
        if !telemetry.tickets.cover_all() {
            self.uncovered = last;
        }
        self.tickets.extend(telemetry.tickets.list.into_iter().map(|ticket| (first, last, ticket)));
        for part in telemetry.parts {
            self.items += u64::from(part.items);
            self.bytes += part.bytes.len() as u64;
            if part.bytes.len() < SMALL {
                self.join(telemetry.signal, part, budget);
            } else {
                part.charge.move_to_queue();
                self.seal();
                self.entries.push_back(Entry::Whole(part));
            }
        }
    }

    fn join(&mut self, signal: Signal, part: Part, budget: &Arc<Budget>) {
        let fits = |joining: &Joining| {
            joining.buffer.len() + part.bytes.len() <= JOINED && joining.items.checked_add(part.items).is_some()
        };
        // The first one grows on demand: there may be one for each of a thousand tenants. Behind one that is full
        // stands another that will be.
        let mut capacity = part.bytes.len().next_power_of_two().clamp(1024, SMALL);
        if self.joining.as_ref().is_some_and(|joining| !fits(joining)) {
            self.seal();
            capacity = JOINED;
        }
        let joining = self.joining.get_or_insert_with(|| Joining {
            buffer: Vec::with_capacity(capacity),
            items: 0,
            charge: Charge::held(budget, Share::Queue, 0),
            tally: Box::default(),
        });
        joining.buffer.extend_from_slice(&part.bytes);
        joining.items += part.items;
        joining.tally.add_part(signal, &part);
        joining.charge.add(part.bytes.len() as u64);
    }

    fn seal(&mut self) {
        if let Some(Joining { buffer, items, charge, tally }) = self.joining.take() {
            charge.add((buffer.capacity() - buffer.len()) as u64);
            self.entries.push_back(Entry::Whole(Part { tally: Some(tally), ..Part::new(buffer, items, charge) }));
        }
    }

    /// Takes up to `most` from the front, cutting a part at the limit; at least one item if there is any. Stops before
    /// a large part that must be cut.
    pub fn take(&mut self, signal: Signal, most: Most) -> Taking {
        let (most_items, most_bytes) = match most {
            Most::Items(0) | Most::Bytes(0) => (u64::MAX, u64::MAX),
            Most::Items(limit) => (limit, u64::MAX),
            Most::Bytes(limit) => (u64::MAX, limit),
        };
        let mut taking = Taking {
            signal,
            most_items,
            most_bytes,
            parts: SmallVec::new(),
            items: 0,
            bytes: 0,
            uncut: None,
            rest: None,
            has_grown: false,
            is_beyond: false,
            gone_bytes: 0,
        };
        self.go_on(&mut taking);
        taking
    }

    /// Puts back the remainder of a cut part and takes more, until the batch is full or another part must be cut.
    pub fn go_on(&mut self, taking: &mut Taking) {
        self.seal();
        loop {
            let rest = taking.rest.take();
            let nothing_fits = rest.is_some() && !taking.has_grown;
            if let Some(rest) = rest {
                self.items += u64::from(rest.items());
                self.taken -= u64::from(rest.items());
                self.bytes += rest.bytes();
                taking.gone_bytes -= rest.bytes();
                self.entries.push_front(rest);
            }
            if nothing_fits || taking.is_full() {
                return;
            }
            let Some(entry) = self.entries.pop_front() else { return };
            // Items put back are counted again, so the sums hold at every step.
            self.items -= u64::from(entry.items());
            self.taken += u64::from(entry.items());
            self.bytes -= entry.bytes();
            taking.gone_bytes += entry.bytes();
            let is_large = !taking.is_whole(&entry) && slice::is_large(entry.bytes(), u64::from(entry.items()));
            taking.uncut = Some(entry);
            if is_large {
                return;
            }
            taking.cut();
        }
    }

    /// The tickets to resolve for the batch just taken. A ticket whose items are not all taken also stays here.
    pub(crate) fn tickets(&mut self) -> Tickets {
        let mut tickets = SmallVec::new();
        let mut kept = VecDeque::new();
        while self.tickets.front().is_some_and(|(first, ..)| *first < self.taken) {
            let Some((first, last, ticket)) = self.tickets.pop_front() else { break };
            if last > self.taken && self.items > 0 {
                kept.push_back((first, last, ticket.clone()));
            }
            tickets.push(ticket);
        }
        kept.append(&mut self.tickets);
        self.tickets = kept;
        let is_partial = self.uncovered > self.ticketed;
        self.ticketed = self.taken;
        Tickets { list: tickets, is_partial }
    }
}

impl Taking {
    /// Whether a large part must be cut before the batch can continue.
    pub fn is_uncut(&self) -> bool {
        self.uncut.is_some()
    }

    /// Cuts it: work for a thread aside.
    pub fn cut(&mut self) {
        let Some(entry) = self.uncut.take() else { return };
        let (room_items, room_bytes) = (self.most_items - self.items, self.most_bytes - self.bytes);
        let (taken, rest) = entry.take(self.signal, room_items, room_bytes, self.parts.is_empty());
        self.has_grown = taken.is_some();
        self.rest = rest;
        if let Some(part) = taken {
            self.items += u64::from(part.items);
            self.bytes += part.bytes.len() as u64;
            self.is_beyond |= matches!(&self.rest, Some(Entry::Cut { charge, .. }) if charge.is(&part.charge));
            self.parts.push(part);
        }
    }

    /// Whether further pieces would exceed the available memory.
    pub(crate) fn is_beyond(&self) -> bool {
        self.is_beyond
    }

    /// Items and bytes that are no longer pending.
    pub fn load(&self) -> (u64, u64) {
        let uncut = self.uncut.as_ref().map_or(0, Entry::items);
        (self.items + u64::from(uncut), self.gone_bytes)
    }

    pub fn parts(self) -> SmallVec<[Part; 1]> {
        self.parts
    }

    fn is_full(&self) -> bool {
        self.items >= self.most_items || self.bytes >= self.most_bytes
    }

    /// Whether it needs no cut: all of it fits, or it is one item.
    fn is_whole(&self, entry: &Entry) -> bool {
        let Entry::Whole(part) = entry else { return false };
        let fits = self.items + u64::from(part.items) <= self.most_items;
        part.items <= 1 || fits && self.bytes + part.bytes.len() as u64 <= self.most_bytes
    }
}

impl Entry {
    fn items(&self) -> u32 {
        match self {
            Entry::Whole(Part { items, .. }) | Entry::Cut { items, .. } => *items,
        }
    }

    /// The remaining original bytes; headers repeated in pieces do not count twice.
    fn bytes(&self) -> u64 {
        match self {
            Entry::Whole(part) => part.bytes.len() as u64,
            Entry::Cut { splitter, .. } => splitter.left() as u64,
        }
    }

    /// The piece that fits, and the remainder. A single oversized item is taken only as the first of a batch.
    fn take(self, signal: Signal, items: u64, bytes: u64, is_first: bool) -> (Option<Part>, Option<Entry>) {
        let (mut splitter, left, charge, headers) = match self {
            Entry::Whole(part) => {
                let fits = u64::from(part.items) <= items && part.bytes.len() as u64 <= bytes;
                match part.items <= 1 {
                    _ if fits => return (Some(part), None),
                    true if is_first => return (Some(part), None),
                    true => return (None, Some(Entry::Whole(part))),
                    false => {
                        let headers = part.charge.for_made();
                        (Splitter::new(signal, part.bytes), part.items, part.charge, headers)
                    }
                }
            }
            Entry::Cut { splitter, items, charge, headers } => (splitter, items, charge, headers),
        };
        let most_items = u32::try_from(items).unwrap_or(u32::MAX);
        let most_bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let piece = match is_first {
            true => splitter.next_piece(most_items, most_bytes),
            false => splitter.next_fitting(most_items, most_bytes),
        };
        headers.shrink_to(splitter.held() as u64);
        headers.grow(splitter.held() as u64 - headers.bytes());
        let Some((piece, taken)) = piece else {
            return (None, (!is_first).then_some(Entry::Cut { splitter, items: left, charge, headers }));
        };
        let part = Part::piece(piece, taken, &charge);
        let left = left.saturating_sub(taken);
        (Some(part), (left > 0).then_some(Entry::Cut { splitter, items: left, charge, headers }))
    }
}
