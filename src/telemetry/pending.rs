//! What a batch or a batching queue holds: parts in the order they came, small ones joined, the front one possibly cut.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::{Budget, Charge, Part, Share, Signal, Telemetry, Ticket};
use crate::otlp::split::Splitter;

/// Parts below this size are joined: a write costs more than copying them.
const SMALL: usize = 16 * 1024;
const JOINED: usize = 64 * 1024;

#[derive(Default)]
pub struct Pending {
    entries: VecDeque<Entry>,
    /// The buffer that small parts are being joined into; it stands behind all entries.
    joining: Option<Joining>,
    items: u64,
    bytes: u64,
    /// How many items were ever taken: the place of the front.
    taken: u64,
    /// Who waits for the items between two places, oldest first.
    tickets: VecDeque<(u64, u64, Ticket)>,
}

/// How much a batch may hold; 0 is no limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Most {
    Items(u64),
    Bytes(u64),
}

enum Entry {
    Whole(Part),
    /// A part of which pieces were taken, and how many items are left in it.
    Cut {
        splitter: Splitter,
        items: u32,
        charge: Charge,
    },
}

struct Joining {
    buffer: Vec<u8>,
    items: u32,
    charge: Charge,
}

impl Pending {
    pub fn items(&self) -> u64 {
        self.items
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds telemetry; its bytes are moved to the queue share, which the caller has reserved.
    pub fn push(&mut self, telemetry: Telemetry, budget: &Arc<Budget>) {
        let first = self.taken + self.items;
        let last = first + telemetry.items();
        self.tickets.extend(telemetry.tickets.into_iter().map(|ticket| (first, last, ticket)));
        for part in telemetry.parts {
            self.items += u64::from(part.items);
            self.bytes += part.bytes.len() as u64;
            if part.bytes.len() < SMALL {
                self.join(part, budget);
            } else {
                part.charge.move_to_queue();
                self.seal();
                self.entries.push_back(Entry::Whole(part));
            }
        }
    }

    fn join(&mut self, part: Part, budget: &Arc<Budget>) {
        let fits = |joining: &Joining| {
            joining.buffer.len() + part.bytes.len() <= JOINED && joining.items.checked_add(part.items).is_some()
        };
        if !self.joining.as_ref().is_some_and(fits) {
            self.seal();
        }
        let joining = self.joining.get_or_insert_with(|| Joining {
            // It grows with what comes: there may be one for each of a thousand tenants.
            buffer: Vec::with_capacity(part.bytes.len().next_power_of_two().clamp(1024, SMALL)),
            items: 0,
            charge: Charge::held(budget, Share::Queue, 0),
        });
        joining.buffer.extend_from_slice(&part.bytes);
        joining.items += part.items;
        joining.charge.add(part.bytes.len() as u64);
    }

    fn seal(&mut self) {
        if let Some(Joining { buffer, items, charge }) = self.joining.take() {
            charge.add((buffer.capacity() - buffer.len()) as u64);
            self.entries.push_back(Entry::Whole(Part { bytes: Bytes::from(buffer), items, charge }));
        }
    }

    /// Takes up to `most` from the front, cutting a part where the limit falls; at least one item when there is any.
    pub fn take(&mut self, signal: Signal, most: Most) -> SmallVec<[Part; 1]> {
        self.seal();
        let (most_items, most_bytes) = match most {
            Most::Items(0) | Most::Bytes(0) => (u64::MAX, u64::MAX),
            Most::Items(limit) => (limit, u64::MAX),
            Most::Bytes(limit) => (u64::MAX, limit),
        };
        let mut parts: SmallVec<[Part; 1]> = SmallVec::new();
        let (mut items, mut bytes) = (0, 0);
        while items < most_items && bytes < most_bytes {
            let Some(entry) = self.entries.pop_front() else { break };
            // What is put back is counted again, so that the sums hold at every step.
            self.items -= u64::from(entry.items());
            self.taken += u64::from(entry.items());
            self.bytes -= entry.bytes();
            let (room_items, room_bytes) = (most_items - items, most_bytes - bytes);
            let (taken, rest) = entry.take(signal, room_items, room_bytes, parts.is_empty());
            let nothing_fits = taken.is_none() && rest.is_some();
            if let Some(rest) = rest {
                self.items += u64::from(rest.items());
                self.taken -= u64::from(rest.items());
                self.bytes += rest.bytes();
                self.entries.push_front(rest);
            }
            if let Some(part) = taken {
                items += u64::from(part.items);
                bytes += part.bytes.len() as u64;
                parts.push(part);
            }
            if nothing_fits {
                break;
            }
        }
        parts
    }

    /// The tickets that a batch just taken must resolve: those of its items. One whose items are not all taken is held
    /// here too.
    pub fn tickets(&mut self) -> SmallVec<[Ticket; 1]> {
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
        tickets
    }
}

impl Entry {
    fn items(&self) -> u32 {
        match self {
            Entry::Whole(Part { items, .. }) | Entry::Cut { items, .. } => *items,
        }
    }

    /// What is left of the bytes that came; the headers that pieces repeat do not count twice.
    fn bytes(&self) -> u64 {
        match self {
            Entry::Whole(part) => part.bytes.len() as u64,
            Entry::Cut { splitter, .. } => splitter.left() as u64,
        }
    }

    /// What fits of it, and what is left. A single item that is too large is taken only as the first of a batch.
    fn take(self, signal: Signal, items: u64, bytes: u64, is_first: bool) -> (Option<Part>, Option<Entry>) {
        let (mut splitter, left, charge) = match self {
            Entry::Whole(part) => {
                let fits = u64::from(part.items) <= items && part.bytes.len() as u64 <= bytes;
                match part.items <= 1 {
                    _ if fits => return (Some(part), None),
                    true if is_first => return (Some(part), None),
                    true => return (None, Some(Entry::Whole(part))),
                    false => (Splitter::new(signal, part.bytes), part.items, part.charge),
                }
            }
            Entry::Cut { splitter, items, charge } => (splitter, items, charge),
        };
        let most_items = u32::try_from(items).unwrap_or(u32::MAX);
        let most_bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let piece = match is_first {
            true => splitter.next_piece(most_items, most_bytes),
            false => splitter.next_fitting(most_items, most_bytes),
        };
        let Some((piece, taken)) = piece else {
            return (None, (!is_first).then_some(Entry::Cut { splitter, items: left, charge }));
        };
        let own = charge.for_copy(piece.capacity());
        let part = Part { bytes: Bytes::from(piece), items: taken, charge: own };
        let left = left.saturating_sub(taken);
        (Some(part), (left > 0).then_some(Entry::Cut { splitter, items: left, charge }))
    }
}
