//! Marks: which records are settled, how many items that is, and how far the log is synced.
//!
//! One file of fixed length, so it can be written on a full disk. It has two halves of entries, each a statement that
//! stays true. All entries that verify are combined, from either half. When one half is full, the other begins with a
//! snapshot of everything still needed, which is synced before further entries follow.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};

use super::format::{self, FileHeader, FileKind, HEADER, Identity};
use super::{Amount, Disk};

pub(super) const NAME: &str = "marks";
const NEW: &str = "marks.new";
/// Offset of the first half.
const START: u64 = 512;
/// Fill of unwritten entries. A damaged disk leaves zeros, so zeros would prove nothing; earlier builds wrote them.
const BLANK: u8 = 0xff;
const ENTRY: u64 = 128;
const ENTRY_LEN: usize = ENTRY as usize;

/// The combined entries.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Progress {
    /// All records below this are settled…
    pub(super) low: u64,
    /// …with this sum.
    settled: Amount,
    /// Settled ranges beyond `low`: first record, last record, and sum.
    ranges: BTreeMap<u64, (u64, Amount)>,
    /// Everything ever found to be lost.
    pub(super) written_off: Amount,
    /// All records below this are on stable storage, and the sum of everything ever written.
    pub(super) durable: (u64, Amount),
}

impl Default for Progress {
    fn default() -> Progress {
        let durable = (1, Amount::default());
        Progress {
            low: 1,
            settled: Amount::default(),
            ranges: BTreeMap::new(),
            written_off: Amount::default(),
            durable,
        }
    }
}

impl Progress {
    pub(super) fn is_settled(&self, id: u64) -> bool {
        id < self.low || self.ranges.range(..=id).next_back().is_some_and(|(_, (last, _))| *last >= id)
    }

    /// No record from this id on is settled.
    pub(super) fn end(&self) -> u64 {
        self.ranges.last_key_value().map_or(self.low, |(_, (last, _))| last.saturating_add(1))
    }

    /// Sum of everything settled.
    pub(super) fn settled_in_all(&self) -> Amount {
        self.ranges.values().fold(self.settled, |sum, (_, amount)| sum + *amount)
    }

    fn settle(&mut self, first: u64, last: u64, amount: Amount) {
        if first > last || self.is_settled(first) {
            return;
        }
        let (mut first, mut last, mut amount) = (first, last, Amount { records: 0, ..amount });
        if let Some((before, (end, sum))) = self.ranges.range(..first).next_back().map(|(key, value)| (*key, *value))
            && end.saturating_add(1) == first
        {
            self.ranges.remove(&before);
            (first, amount) = (before, sum + amount);
        }
        if let Some((end, sum)) = self.ranges.remove(&last.saturating_add(1)) {
            (last, amount) = (end, sum + amount);
        }
        if first <= self.low {
            self.low = last.saturating_add(1);
            self.settled += amount;
        } else {
            self.ranges.insert(first, (last, amount));
        }
    }

    /// Settles the missing records of `first..=last` with a sum of zero: they are gone, and `written_off` counts them.
    fn fill(&mut self, first: u64, last: u64) {
        let mut from = first.max(self.low);
        while from <= last {
            let next = self.ranges.range(from..).next().map(|(start, _)| *start).filter(|start| *start <= last);
            if !self.is_settled(from) {
                self.settle(from, next.map_or(last, |start| start.saturating_sub(1)), Amount::default());
            }
            let covering = self.ranges.range(..=from).next_back().map_or(from, |(_, (end, _))| *end);
            from = self.low.max(covering.saturating_add(1)).max(from.saturating_add(1));
        }
    }

    /// Forgets marks before the first existing record: they say nothing about existing ones.
    pub(super) fn rebase(&mut self, first: u64, before: Amount) {
        (self.low, self.settled, self.written_off) = (first, before, Amount::default());
        self.ranges.retain(|start, _| *start >= first);
        while let Some((last, amount)) = self.ranges.remove(&self.low) {
            self.low = last.saturating_add(1);
            self.settled += amount;
        }
    }

    /// Adds an entry. A range already covered by a larger one counts once.
    fn learn(&mut self, entry: &Entry) {
        if entry.durable.0 > self.durable.0 {
            self.durable = entry.durable;
        }
        if entry.low > self.low {
            (self.low, self.settled) = (entry.low, entry.settled);
        }
        if entry.written_off.items >= self.written_off.items && entry.written_off.bytes >= self.written_off.bytes {
            self.written_off = entry.written_off;
        }
        let around = self.ranges.range(..=entry.first).next_back().is_some_and(|(_, (last, _))| *last >= entry.last);
        if entry.first <= entry.last && !around {
            self.ranges.retain(|first, (last, _)| *first < entry.first || *last > entry.last);
            self.ranges.insert(entry.first, (entry.last, entry.amount));
        }
    }

    /// Puts the ranges in order once all entries are read.
    fn tidy(&mut self) {
        for (first, (last, amount)) in std::mem::take(&mut self.ranges) {
            if last >= self.low {
                // A range that begins below `low` belongs to a larger range that is gone: its records count as
                // unsettled.
                if first >= self.low {
                    self.settle(first, last, amount);
                }
            }
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    stamp: u64,
    first: u64,
    last: u64,
    amount: Amount,
    low: u64,
    settled: Amount,
    written_off: Amount,
    durable: (u64, Amount),
}

impl Entry {
    fn encode(&self, seed: &[u8]) -> [u8; ENTRY_LEN] {
        let mut out = format::Writer::default();
        let Entry { stamp, first, last, amount, low, settled, written_off, durable: (durable, all) } = *self;
        let sums = |sum: Amount| [sum.items, sum.bytes];
        let numbers = [&[stamp, first, last][..], &sums(amount), &[low], &sums(settled), &sums(written_off)];
        let numbers = numbers.into_iter().flatten().copied().chain([durable]).chain(sums(all));
        numbers.for_each(|number| out.put(&number.to_le_bytes()));
        out.finish(seed)
    }

    fn decode(bytes: &[u8], seed: &[u8]) -> Option<Entry> {
        let mut fields = format::Fields::checked(bytes, seed)?;
        let (stamp, first, last) = (fields.number()?, fields.number()?, fields.number()?);
        let amount = fields.sums()?;
        let low = fields.number()?;
        let (settled, written_off) = (fields.sums()?, fields.sums()?);
        let durable = (fields.number()?, fields.sums()?);
        Some(Entry { stamp, first, last, amount, low, settled, written_off, durable })
    }
}

fn seed(identity: Identity, at: u64) -> Vec<u8> {
    [identity.as_slice(), &at.to_le_bytes()].concat()
}

/// The content of the file when it was opened.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) state: Progress,
    /// Whether the file exists and all of it verifies.
    pub(super) whole: bool,
    stamp: u64,
    /// Position of the entry with the highest stamp.
    newest: u64,
}

/// Reads the entries of the log `identity`.
pub(super) fn read<D: Disk>(disk: &D, file: &D::File, length: u64, identity: Identity) -> io::Result<Read> {
    let mut read = Read { whole: true, ..Read::default() };
    let bytes = read_file(disk, file, length)?;
    read.whole &= bytes
        .first_chunk::<{ HEADER as usize }>()
        .and_then(|header| FileHeader::decode(header))
        // Earlier builds did not write the length.
        .is_some_and(|header| header.identity == identity && [0, bytes.len() as u64].contains(&header.sequence));
    let entries = bytes.get(START as usize..).unwrap_or_default().chunks(ENTRY_LEN);
    for (at, bytes) in (START..).step_by(ENTRY_LEN).zip(entries) {
        match Entry::decode(bytes, &seed(identity, at)) {
            Some(entry) => {
                read.state.learn(&entry);
                if entry.stamp > read.stamp {
                    (read.stamp, read.newest) = (entry.stamp, at);
                }
            }
            None => read.whole &= bytes.iter().all(|byte| *byte == BLANK),
        }
    }
    read.whole &= read.stamp > 0;
    read.state.tidy();
    Ok(read)
}

/// Reads a small file as a whole.
fn read_file<D: Disk>(disk: &D, file: &D::File, length: u64) -> io::Result<Vec<u8>> {
    let (mut bytes, mut done) = (vec![0; length.min(16 << 20) as usize], 0);
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match disk.read(file, done as u64, rest)? {
            0 => break,
            read => done += read,
        }
    }
    Ok(bytes)
}

/// The state and its file.
pub(super) struct Marks<F> {
    pub(super) state: Progress,
    identity: Identity,
    half: u64,
    file: Option<F>,
    /// Position of the next entry.
    at: u64,
    stamp: u64,
    /// Settled since the last write.
    fresh: Vec<(u64, u64, Amount)>,
    changed: bool,
    unsynced: bool,
    /// `low` on stable storage.
    pub(super) synced_low: u64,
}

impl<F> Marks<F> {
    pub(super) fn new(read: Read, identity: Identity, half: u64) -> Marks<F> {
        let half = half.next_multiple_of(ENTRY);
        // Start with the half that does not hold the newest entry.
        let at = if read.newest < START + half { START + half } else { START + 2 * half };
        let Read { state, stamp, .. } = read;
        Marks {
            state,
            identity,
            half,
            file: None,
            at,
            stamp,
            fresh: Vec::new(),
            changed: true,
            unsynced: true,
            synced_low: 0,
        }
    }

    pub(super) fn settle(&mut self, first: u64, last: u64, amount: Amount) {
        self.state.settle(first, last, amount);
        self.changed = true;
        match self.fresh.last_mut() {
            Some((_, end, sum)) if *end + 1 == first => (*end, *sum) = (last, *sum + amount),
            _ => self.fresh.push((first, last, amount)),
        }
    }

    pub(super) fn fill(&mut self, first: u64, last: u64) {
        self.state.fill(first, last);
        self.changed = true;
    }

    pub(super) fn write_off(&mut self, lost: Amount) {
        self.state.written_off += Amount { records: 0, ..lost };
        self.changed = true;
    }

    pub(super) fn reach(&mut self, next: u64, all: Amount) {
        self.changed |= self.state.durable.0 != next;
        self.state.durable = (next, all);
    }

    pub(super) fn file(&self) -> Option<&F> {
        self.file.as_ref()
    }

    /// Starts a new file with a full snapshot.
    pub(super) fn renew<D: Disk<File = F>>(&mut self, disk: &D) -> io::Result<()> {
        self.file = None;
        self.sync(disk)
    }

    /// Opens the file, or creates one if none of the right length exists.
    pub(super) fn open<D: Disk<File = F>>(&mut self, disk: &D) -> io::Result<()> {
        let whole = START + 2 * self.half;
        let known = disk.open(NAME).and_then(|file| {
            let mut header = [0; HEADER as usize];
            disk.read(&file, 0, &mut header)?;
            let ours = FileHeader::decode(&header).is_some_and(|header| header.identity == self.identity);
            Ok((disk.length(&file)? == whole && ours).then_some(file))
        });
        match known {
            Ok(Some(file)) => {
                self.file = Some(file);
                Ok(())
            }
            _ => self.create(disk),
        }
    }

    fn create<D: Disk<File = F>>(&mut self, disk: &D) -> io::Result<()> {
        if disk.list()?.iter().any(|name| name == NEW) {
            disk.remove(NEW)?;
        }
        let file = disk.create(NEW)?;
        let whole = START + 2 * self.half;
        let header = FileHeader::new(FileKind::Marks, self.identity, whole, 0, Amount::default()).encode();
        let blank = vec![BLANK; (whole - HEADER) as usize];
        disk.write(&file, 0, &mut [IoSlice::new(&header), IoSlice::new(&blank)])?;
        self.at = START + 2 * self.half;
        self.snapshot(disk, &file)?;
        disk.sync(&file)?;
        disk.rename(NEW, NAME)?;
        disk.sync_names()?;
        self.file = Some(file);
        (self.synced_low, self.unsynced) = (self.state.low, false);
        Ok(())
    }

    fn entry(&mut self, (first, last, amount): (u64, u64, Amount)) -> [u8; ENTRY_LEN] {
        self.stamp += 1;
        let Progress { low, settled, written_off, durable, .. } = self.state;
        let at = self.at;
        self.at += ENTRY;
        Entry { stamp: self.stamp, first, last, amount, low, settled, written_off, durable }
            .encode(&seed(self.identity, at))
    }

    /// Writes everything still needed into the other half.
    fn snapshot<D: Disk<File = F>>(&mut self, disk: &D, file: &F) -> io::Result<()> {
        self.at = if self.at > START + self.half { START } else { START + self.half };
        let start = self.at;
        // At most half of the half: records beyond it are sent again after a restart.
        let most = (self.half / ENTRY / 2).max(1) as usize;
        let mut ranges: Vec<_> = self.state.ranges.iter().map(|(first, (last, sum))| (*first, *last, *sum)).collect();
        ranges.truncate(most);
        if ranges.is_empty() {
            ranges.push((1, 0, Amount::default()));
        }
        let entries: Vec<u8> = ranges.into_iter().flat_map(|range| self.entry(range)).collect();
        disk.write(file, start, &mut [IoSlice::new(&entries)])?;
        self.fresh.clear();
        self.changed = false;
        Ok(())
    }

    /// Writes new entries. After an error the file is given up; the next call creates another.
    pub(super) fn write<D: Disk<File = F>>(&mut self, disk: &D) -> io::Result<()> {
        let Some(file) = self.file.take() else { return self.create(disk) };
        if !self.changed {
            self.file = Some(file);
            return Ok(());
        }
        // Exactly at the border the first half is full: the second half always begins with a snapshot.
        let end = if self.at <= START + self.half { START + self.half } else { START + 2 * self.half };
        let fresh =
            if self.fresh.is_empty() { vec![(1, 0, Amount::default())] } else { std::mem::take(&mut self.fresh) };
        let room = end.saturating_sub(self.at) / ENTRY;
        if (fresh.len() as u64) < room {
            let start = self.at;
            let entries: Vec<u8> = fresh.into_iter().flat_map(|range| self.entry(range)).collect();
            disk.write(&file, start, &mut [IoSlice::new(&entries)])?;
            self.changed = false;
        } else {
            // The old half stays valid until the new one is synced.
            self.snapshot(disk, &file)?;
            disk.sync(&file)?;
        }
        self.unsynced = true;
        self.file = Some(file);
        Ok(())
    }

    /// Whether settled records are not yet on stable storage.
    pub(super) fn is_behind(&self) -> bool {
        self.unsynced || self.changed || self.file.is_none()
    }

    pub(super) fn sync<D: Disk<File = F>>(&mut self, disk: &D) -> io::Result<()> {
        self.write(disk)?;
        if self.unsynced {
            let Some(file) = self.file.take() else { return Ok(()) };
            disk.sync(&file)?;
            self.file = Some(file);
            (self.synced_low, self.unsynced) = (self.state.low, false);
        }
        Ok(())
    }
}
