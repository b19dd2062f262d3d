//! A disk in memory that tears, reorders and loses what was not synced, and fails any call; and what a log on it must
//! still hold. The tests and the fuzz target `recovery` share it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind, IoSlice};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use misaki::face::sending::{
    ATTEMPTS, Amount, Clock, Disk, Found, Limits, Log, NewRecord, OpenError, Opening, PAUSE, Record,
};

pub const LIMITS: Limits = Limits { quota: 256 << 10, segment: 2 << 10, min_free: 0, marks: 1 << 10, sync: true };
pub const SECTOR: usize = 512;
pub const ITSELF: [u8; 16] = *b"the log of tests";

/// Small, quick, and the same everywhere (splitmix64).
#[derive(Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

#[derive(Clone, Default)]
pub struct File {
    /// As a process sees it.
    current: Vec<u8>,
    /// As it is on stable storage.
    durable: Vec<u8>,
    /// Written and not synced.
    writes: Vec<(usize, Vec<u8>)>,
    /// Of those, how many there were when a lying disk was last asked to sync.
    promised: usize,
}

pub fn apply(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    if bytes.len() < at + piece.len() {
        bytes.resize(at + piece.len(), 0);
    }
    bytes[at..at + piece.len()].copy_from_slice(piece);
}

#[derive(Clone)]
pub enum NameChange {
    Set(String, usize),
    Remove(String),
    Rename(String, String),
}

pub fn change(names: &mut BTreeMap<String, usize>, change: &NameChange) {
    match change {
        NameChange::Set(name, file) => drop(names.insert(name.clone(), *file)),
        NameChange::Remove(name) => drop(names.remove(name)),
        NameChange::Rename(from, to) => {
            if let Some(file) = names.remove(from) {
                names.insert(to.clone(), file);
            }
        }
    }
}

#[derive(Clone, Copy)]
pub struct Fault {
    pub at: u64,
    pub forever: bool,
    pub kind: ErrorKind,
}

/// What a log asks of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    List,
    Create,
    Open,
    Length,
    Read,
    Write,
    Sync,
    SyncNames,
    Rename,
    Remove,
    FreeBytes,
    Keeps,
    Restore,
}

/// What a disk reads at once.
pub const PAGE: usize = 4 << 10;
pub const FOR_EVER: Duration = Duration::MAX;

#[derive(Clone)]
pub struct World {
    files: Vec<File>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    changes: Vec<NameChange>,
    random: Random,
    calls: u64,
    fault: Option<Fault>,
    /// Which calls fail, until when.
    failing: BTreeMap<Call, Duration>,
    /// Which pages of which files cannot be read, until when.
    bad_pages: BTreeMap<(usize, usize), Duration>,
    pub free: u64,
    /// Says that it synced before it has: what a log that acknowledges too early would do.
    lies: bool,
    pub sync_failed: bool,
    /// Its directory was removed.
    gone: bool,
    now: Duration,
}

#[derive(Clone)]
pub struct Sim(pub Rc<RefCell<World>>);

impl Sim {
    pub fn new(seed: u64, lies: bool) -> Sim {
        Sim(Rc::new(RefCell::new(World {
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            changes: Vec::new(),
            random: Random(seed),
            calls: 0,
            fault: None,
            failing: BTreeMap::new(),
            bad_pages: BTreeMap::new(),
            free: u64::MAX,
            lies,
            sync_failed: false,
            gone: false,
            now: Duration::ZERO,
        })))
    }

    /// A disk of its own with the same bytes on it.
    pub fn copy(&self) -> Sim {
        Sim(Rc::new(RefCell::new(self.0.borrow().clone())))
    }

    pub fn fault(&self, fault: Option<Fault>) {
        let mut world = self.0.borrow_mut();
        world.calls = 0;
        world.fault = fault;
    }

    pub fn calls(&self) -> u64 {
        self.0.borrow().calls
    }

    pub fn pass(&self, time: Duration) {
        self.0.borrow_mut().now += time;
    }

    /// These calls fail, and no others, for so long.
    pub fn fail(&self, calls: &[Call], time: Duration) {
        let mut world = self.0.borrow_mut();
        let until = world.now.saturating_add(time);
        world.failing.extend(calls.iter().map(|call| (*call, until)));
    }

    /// One page of a file cannot be read for so long, whatever name the file gets.
    pub fn fail_page(&self, name: &str, page: usize, time: Duration) {
        let mut world = self.0.borrow_mut();
        let (file, until) = (world.names[name], world.now.saturating_add(time));
        world.bad_pages.insert((file, page), until);
    }

    pub fn heal(&self) {
        let mut world = self.0.borrow_mut();
        world.failing.clear();
        world.bad_pages.clear();
    }

    /// Counts a call; whether it fails.
    fn call(&self, call: Call) -> io::Result<()> {
        let mut world = self.0.borrow_mut();
        world.calls += 1;
        let calls = world.calls;
        if world.failing.get(&call).is_some_and(|until| world.now < *until) {
            return Err(io::Error::other("it fails"));
        }
        match world.fault {
            Some(fault) if calls == fault.at || fault.forever && calls > fault.at => Err(fault.kind.into()),
            _ => Ok(()),
        }
    }

    /// Each sector that was not synced is there or not, each name that was not is changed or not.
    pub fn cut_power(&self) {
        let mut world = self.0.borrow_mut();
        let World { files, names, durable_names, changes, random, .. } = &mut *world;
        for file in files {
            let kept = [0, 50, 90, 100][random.below(4) as usize];
            for (at, bytes) in std::mem::take(&mut file.writes) {
                let mut from = 0;
                while from < bytes.len() {
                    let to = ((at + from) / SECTOR * SECTOR + SECTOR - at).min(bytes.len());
                    if random.chance(kept) {
                        apply(&mut file.durable, at + from, &bytes[from..to]);
                    }
                    from = to;
                }
            }
            file.promised = 0;
            file.current = file.durable.clone();
        }
        for made in changes.drain(..).filter(|_| random.chance(50)) {
            change(durable_names, &made);
        }
        *names = durable_names.clone();
    }

    /// Somebody removes the directory with all that is in it; what is open stays open.
    pub fn remove_all(&self) {
        let mut world = self.0.borrow_mut();
        let World { names, durable_names, changes, gone, .. } = &mut *world;
        names.clear();
        durable_names.clear();
        changes.clear();
        *gone = true;
    }

    fn there(&self) -> io::Result<()> {
        if self.0.borrow().gone { Err(ErrorKind::NotFound.into()) } else { Ok(()) }
    }

    pub fn file_names(&self) -> Vec<String> {
        self.0.borrow().names.keys().cloned().collect()
    }

    pub fn edit(&self, name: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut world = self.0.borrow_mut();
        let file = world.names[name];
        edit(&mut world.files[file].current);
        world.files[file].durable = world.files[file].current.clone();
        world.files[file].writes.clear();
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        let world = self.0.borrow();
        world.files[world.names[name]].current.clone()
    }

    pub fn change(&self, made: NameChange) {
        let mut world = self.0.borrow_mut();
        change(&mut world.names, &made);
        world.changes.push(made);
    }
}

impl Clock for Sim {
    fn now(&self) -> Duration {
        self.0.borrow().now
    }
}

impl Disk for Sim {
    type File = usize;

    fn list(&self) -> io::Result<Vec<String>> {
        self.call(Call::List)?;
        Ok(self.file_names())
    }

    fn create(&self, name: &str) -> io::Result<usize> {
        self.call(Call::Create)?;
        self.there()?;
        if self.0.borrow().names.contains_key(name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let file = self.0.borrow().files.len();
        self.0.borrow_mut().files.push(File::default());
        self.change(NameChange::Set(name.to_owned(), file));
        Ok(file)
    }

    fn open(&self, name: &str) -> io::Result<usize> {
        self.call(Call::Open)?;
        self.0.borrow().names.get(name).copied().ok_or(ErrorKind::NotFound.into())
    }

    fn length(&self, file: &usize) -> io::Result<u64> {
        self.call(Call::Length)?;
        Ok(self.0.borrow().files[*file].current.len() as u64)
    }

    fn read(&self, file: &usize, at: u64, into: &mut [u8]) -> io::Result<usize> {
        self.call(Call::Read)?;
        let world = self.0.borrow();
        let at = at as usize;
        let bytes = world.files[*file].current.get(at..).unwrap_or_default();
        let is_bad = |page: usize| world.bad_pages.get(&(*file, page)).is_some_and(|until| world.now < *until);
        let mut length = bytes.len().min(into.len());
        if let Some(page) = (at / PAGE..(at + length).div_ceil(PAGE)).find(|page| is_bad(*page)) {
            // As the system does: what lies before comes first.
            length =
                (page * PAGE).checked_sub(at).filter(|length| *length > 0).ok_or(io::Error::other("a bad page"))?;
        }
        into[..length].copy_from_slice(&bytes[..length]);
        Ok(length)
    }

    fn write(&self, file: &usize, at: u64, pieces: &mut [IoSlice]) -> io::Result<()> {
        let mut bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
        let outcome = self.call(Call::Write);
        let world = &mut *self.0.borrow_mut();
        if outcome.is_err() {
            // Some of it was written.
            bytes.truncate(world.random.below(bytes.len() as u64 + 1) as usize);
        }
        let file = &mut world.files[*file];
        apply(&mut file.current, at as usize, &bytes);
        file.writes.push((at as usize, bytes));
        outcome
    }

    fn sync(&self, file: &usize) -> io::Result<()> {
        let outcome = self.call(Call::Sync);
        let world = &mut *self.0.borrow_mut();
        world.sync_failed |= outcome.is_err();
        let file = &mut world.files[*file];
        let synced = if world.lies { std::mem::take(&mut file.promised) } else { file.writes.len() };
        for (at, bytes) in file.writes.drain(..synced) {
            // After an error the system forgets what it could not write: a second sync would succeed without it.
            if outcome.is_ok() || world.random.chance(50) {
                apply(&mut file.durable, at, &bytes);
            }
        }
        file.promised = file.writes.len();
        outcome
    }

    fn sync_names(&self) -> io::Result<()> {
        self.call(Call::SyncNames)?;
        self.there()?;
        let world = &mut *self.0.borrow_mut();
        for made in world.changes.drain(..) {
            change(&mut world.durable_names, &made);
        }
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.call(Call::Rename)?;
        self.change(NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.call(Call::Remove)?;
        if !self.0.borrow().names.contains_key(name) {
            return Err(ErrorKind::NotFound.into());
        }
        self.change(NameChange::Remove(name.to_owned()));
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.call(Call::FreeBytes)?;
        Ok(self.0.borrow().free)
    }

    fn keeps<'a>(&self, mut files: impl Iterator<Item = &'a usize>) -> io::Result<bool> {
        self.call(Call::Keeps)?;
        let world = self.0.borrow();
        Ok(!world.gone && files.all(|file| world.names.values().any(|named| named == file)))
    }

    fn restore(&mut self) -> io::Result<()> {
        self.call(Call::Restore)?;
        self.0.borrow_mut().gone = false;
        Ok(())
    }
}

pub type SimLog = Log<Sim, Sim>;

pub fn open(sim: &Sim) -> Result<(SimLog, Found), OpenError> {
    Log::open(sim.clone(), sim.clone(), LIMITS, ITSELF)
}

/// As a process does: it holds while a file cannot be read, and ends for any other error, to be started again. Gives up after
/// twice the attempts that one file gets.
pub fn open_patiently(sim: &Sim, limits: Limits) -> Option<(SimLog, Found)> {
    let new = || Box::new(Opening::new(sim.clone(), sim.clone(), limits, ITSELF, ATTEMPTS));
    let mut opening = new();
    for _ in 0..2 * ATTEMPTS {
        opening = match opening.attempt() {
            Ok(opened) => return Some(opened),
            Err((held, OpenError::Unreadable { .. })) => held,
            Err(_) => new(),
        };
        sim.pass(PAUSE);
    }
    None
}

/// What was given to a log, by a number that stands in each payload.
#[derive(Clone, Default)]
pub struct Model {
    pub given: Vec<(Amount, Bytes)>,
    pub acknowledged: BTreeSet<usize>,
    pub settled: BTreeSet<usize>,
}

pub fn number_of(record: &Record) -> usize {
    u64::from_le_bytes(record.payload[..8].try_into().unwrap()) as usize
}

impl Model {
    /// Appends a group; its ids when it was acknowledged.
    pub fn append(&mut self, log: &mut SimLog, random: &mut Random, in_hand: bool) -> Option<Vec<(u64, usize)>> {
        self.append_up_to(300, log, random, in_hand)
    }

    /// The same with records of up to so many bytes.
    pub fn append_up_to(
        &mut self,
        most: u64,
        log: &mut SimLog,
        random: &mut Random,
        in_hand: bool,
    ) -> Option<Vec<(u64, usize)>> {
        let first = self.given.len();
        for _ in 0..1 + random.below(4) {
            let filler = (0..random.below(most)).map(|_| random.next() as u8);
            let payload: Bytes = (self.given.len() as u64).to_le_bytes().into_iter().chain(filler).collect();
            let amount = Amount { records: 1, items: random.below(9), bytes: payload.len() as u64 };
            self.given.push((amount, payload));
        }
        let group = &self.given[first..];
        let halves: Vec<_> = group.iter().map(|(_, all)| [all.slice(..5), all.slice(5..)]).collect();
        let records: Vec<_> = group
            .iter()
            .zip(&halves)
            .map(|((amount, _), parts)| NewRecord { kind: 0, items: amount.items as u32, received_nanos: 7, parts })
            .collect();
        let id = log.append(&records, in_hand).ok()?;
        self.acknowledged.extend(first..self.given.len());
        Some((id..).zip(first..self.given.len()).collect())
    }

    /// Everything that can still be read, checked against what was given.
    pub fn read(&self, log: &mut SimLog, context: &str) -> Vec<(u64, usize)> {
        let mut read = Vec::new();
        while let Some(record) = log.read_next() {
            let number = number_of(&record);
            let (amount, payload) = &self.given[number];
            assert_eq!((record.amount, record.payload.as_slice()), (*amount, payload.as_ref()), "{context}");
            read.push((record.id, number));
        }
        assert!(read.is_sorted(), "{context}: oldest first");
        assert!(read.windows(2).all(|pair| pair[0].1 < pair[1].1), "{context}: none twice, {read:?}");
        read
    }

    pub fn amount(&self, numbers: impl IntoIterator<Item = usize>) -> Amount {
        numbers.into_iter().fold(Amount::default(), |sum, number| sum + self.given[number].0)
    }

    pub fn owed(&self) -> BTreeSet<usize> {
        self.acknowledged.difference(&self.settled).copied().collect()
    }

    /// Opens and reads all: nothing is missing that was acknowledged.
    pub fn check(&self, sim: &Sim, context: &str) -> Vec<(u64, usize)> {
        let (mut log, found) = open(sim).unwrap_or_else(|error| panic!("{context}: {error}"));
        let read = self.read(&mut log, context);
        let there: BTreeSet<_> = read.iter().map(|(_, number)| *number).collect();
        let missing: Vec<_> = self.owed().difference(&there).copied().collect();
        assert!(missing.is_empty(), "{context}: lost {missing:?}");
        assert_eq!(found.waiting, self.amount(there), "{context}");
        // What a failed sync left in the cache was refused; a killed process finds it there, a later power cut takes it.
        let refused = self.amount((0..self.given.len()).filter(|number| !self.acknowledged.contains(number)));
        let most = if sim.0.borrow().sync_failed { refused.items } else { 0 };
        assert!(found.lost.items <= most && log.lost().is_zero(), "{context}: {:?}", found.lost);
        read
    }
}

/// A log with something settled, something waiting, several segments.
pub fn filled(seed: u64) -> (Sim, Model) {
    let (sim, mut random, mut model) = (Sim::new(seed, false), Random(seed), Model::default());
    for _ in 0..1 + random.below(3) {
        let (mut log, _) = open(&sim).unwrap();
        let mut held = Vec::new();
        for _ in 0..5 + random.below(20) {
            model.append(&mut log, &mut random, false).unwrap();
            if random.chance(30) {
                held.extend(log.read_next().map(|record| (record.id, number_of(&record))));
            }
            if random.chance(50) && !held.is_empty() {
                let (id, number) = held.swap_remove(random.below(held.len() as u64) as usize);
                log.settle(id, model.given[number].0);
                model.settled.insert(number);
            }
            log.tick().unwrap();
        }
        if random.chance(50) {
            log.flush().unwrap();
        }
    }
    (sim, model)
}

/// A damaged log opens, gives what is left, and says exactly how much is not; then it goes on, and counts that once.
pub fn loses_exactly_the_damaged(
    sim: &Sim,
    model: &Model,
    opened: Option<(SimLog, Found)>,
    random: &mut Random,
    context: &str,
) {
    let opened = opened.map_or_else(|| open(sim), Ok);
    let (mut log, found) = opened.unwrap_or_else(|error| panic!("{context}: {error}"));
    let read: BTreeSet<_> = model.read(&mut log, context).into_iter().map(|(_, number)| number).collect();
    let missing = model.amount(model.owed().difference(&read).copied());
    let lost = found.lost + log.lost();
    assert_eq!((lost.items, lost.bytes), (missing.items, missing.bytes), "{context}, {found:?}");
    assert_eq!(log.waiting(), model.amount(read.iter().copied()), "{context}");
    let (mut model, mut held) = (model.clone(), read);
    let first = model.given.len();
    if model.append(&mut log, random, false).is_none() {
        // It notices that a file it had open is gone.
        assert_eq!(log.removals(), 1, "{context}");
        model.append(&mut log, random, false).unwrap();
    }
    log.flush().unwrap();
    drop(log);
    let (mut log, again) = open(sim).unwrap();
    let read_again: BTreeSet<_> = model.read(&mut log, context).into_iter().map(|(_, number)| number).collect();
    let after = model.amount(read_again.iter().copied());
    // Zeros that were cut off an open file are read as zeros, and are missing the next time: that is counted then.
    held.extend(model.acknowledged.range(first..));
    let owed = model.owed();
    let gone = model.amount(held.into_iter().filter(|number| owed.contains(number) && !read_again.contains(number)));
    let gone = Amount { records: 0, ..gone };
    assert_eq!((again.waiting, again.lost), (after, gone), "{context}");
    let lost_again = model.amount(owed) - after - gone;
    assert!(lost_again.items <= missing.items && lost_again.bytes <= missing.bytes, "{context}");
}
