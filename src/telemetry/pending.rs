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
    /// A part of which pieces were taken; its bytes are shared out evenly over its items.
    Cut {
        splitter: Splitter,
        items: u32,
        bytes: u64,
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
            buffer: Vec::with_capacity(SMALL),
            items: 0,
            charge: Charge::held(budget, Share::Queue, 0),
        });
        joining.buffer.extend_from_slice(&part.bytes);
        joining.items += part.items;
        joining.charge.add(part.bytes.len() as u64);
    }

    fn seal(&mut self) {
        if let Some(Joining { buffer, items, charge }) = self.joining.take() {
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
            let (room_items, room_bytes) = (most_items - items, most_bytes - bytes);
            let fits = |part: &Part| u64::from(part.items) <= room_items && part.bytes.len() as u64 <= room_bytes;
            let part = match entry {
                Entry::Whole(part) if fits(&part) || (part.items <= 1 && parts.is_empty()) => part,
                Entry::Whole(part) if part.items <= 1 => {
                    self.entries.push_front(Entry::Whole(part));
                    break;
                }
                Entry::Whole(Part { bytes, items, charge }) => {
                    let length = bytes.len() as u64;
                    let splitter = Splitter::new(signal, bytes);
                    self.entries.push_front(Entry::Cut { splitter, items, bytes: length, charge });
                    continue;
                }
                Entry::Cut { mut splitter, items, bytes, charge } => {
                    let most_items = u32::try_from(room_items).unwrap_or(u32::MAX);
                    let most_bytes = usize::try_from(room_bytes).unwrap_or(usize::MAX);
                    let Some((piece, taken)) = splitter.next_piece(most_items, most_bytes) else { continue };
                    let length = (bytes * u64::from(taken) / u64::from(items.max(1))).min(bytes);
                    if taken < items {
                        let (items, bytes) = (items - taken, bytes - length);
                        self.entries.push_front(Entry::Cut { splitter, items, bytes, charge: charge.clone() });
                    }
                    self.bytes = self.bytes - length + piece.len() as u64;
                    let part = Part { bytes: Bytes::from(piece), items: taken, charge };
                    // Its first item alone was too large for the room beside the others.
                    if !fits(&part) && !parts.is_empty() {
                        self.entries.push_front(Entry::Whole(part));
                        break;
                    }
                    part
                }
            };
            items += u64::from(part.items);
            bytes += part.bytes.len() as u64;
            parts.push(part);
        }
        self.items -= items;
        self.bytes -= bytes;
        self.taken += items;
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

    /// Puts a refused batch back to the front.
    pub fn put_back(&mut self, batch: Telemetry) {
        self.items += batch.items();
        self.bytes += batch.bytes() as u64;
        let end = self.taken;
        self.taken -= batch.parts.iter().map(|part| u64::from(part.items)).sum::<u64>();
        for ticket in batch.tickets.into_iter().rev() {
            let mut held = self.tickets.iter_mut().take_while(|(first, ..)| *first < end);
            match held.find(|(.., held)| held.is_same(&ticket)) {
                // The same promise is still held here.
                Some(_) => ticket.resolve(Ok(())),
                None => self.tickets.push_front((self.taken, end, ticket)),
            }
        }
        for part in batch.parts.into_iter().rev() {
            self.entries.push_front(Entry::Whole(part));
        }
    }

    /// Adds what came while a batch was being handed on.
    pub fn append(&mut self, newer: Pending) {
        if newer.items == 0 {
            return;
        }
        self.seal();
        let place = |place: u64| (place + self.taken + self.items).saturating_sub(newer.taken);
        self.tickets.extend(newer.tickets.into_iter().map(|(first, last, ticket)| (place(first), place(last), ticket)));
        self.items += newer.items;
        self.bytes += newer.bytes;
        self.entries.extend(newer.entries);
        self.joining = newer.joining;
    }
}
