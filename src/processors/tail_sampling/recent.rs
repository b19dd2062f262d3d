//! Trace ids by age: the oldest goes first, in constant time, however the others come and go.

use std::collections::{HashMap, VecDeque};

use super::state::table_bytes;

/// At most `limit` ids; the one that was not used for longest makes room.
#[derive(Debug, Default)]
pub(super) struct Recent {
    limit: usize,
    /// The serial number of each id's last use.
    ids: HashMap<u128, u64>,
    /// All uses, those that were followed by a later one included.
    uses: VecDeque<(u64, u128)>,
    next: u64,
}

impl Recent {
    pub(super) fn new(limit: usize) -> Recent {
        Recent { limit, ..Recent::default() }
    }

    pub(super) fn is_off(&self) -> bool {
        self.limit == 0
    }

    /// The memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        table_bytes::<u64>(self.ids.capacity()) + self.uses.capacity() * size_of::<(u64, u128)>()
    }

    /// Whether the id is among them; it counts as used.
    pub(super) fn has(&mut self, id: u128) -> bool {
        let is_there = self.ids.contains_key(&id);
        if is_there {
            self.add(id);
        }
        is_there
    }

    pub(super) fn add(&mut self, id: u128) {
        self.next += 1;
        self.ids.insert(id, self.next);
        self.uses.push_back((self.next, id));
        while self.ids.len() > self.limit
            && let Some((serial, id)) = self.uses.pop_front()
        {
            if self.ids.get(&id) == Some(&serial) {
                self.ids.remove(&id);
            }
        }
        if self.uses.len() > 2 * self.ids.len() + 64 {
            let ids = &self.ids;
            self.uses.retain(|(serial, id)| ids.get(id) == Some(serial));
        }
    }
}
