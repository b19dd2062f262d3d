//! The segment log on a simulated disk: power cuts, failing calls, damage. Every run has a seed; a failure prints it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind, IoSlice};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use misaki::sending::disk::format::{FileHeader, FileKind, Frame, Place, crc};
use misaki::sending::disk::{Amount, Clock, Disk, Found, Limits, Log, NewRecord, OpenError, Record};

const LIMITS: Limits = Limits { quota: 256 << 10, segment: 2 << 10, min_free: 0, marks: 1 << 10, sync: true };
const SECTOR: usize = 512;
const ITSELF: [u8; 16] = *b"the log of tests";

/// Small, quick, and the same everywhere (splitmix64).
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

#[derive(Clone, Default)]
struct File {
    /// As a process sees it.
    current: Vec<u8>,
    /// As it is on stable storage.
    durable: Vec<u8>,
    /// Written and not synced.
    writes: Vec<(usize, Vec<u8>)>,
    /// Of those, how many there were when a lying disk was last asked to sync.
    promised: usize,
}

fn apply(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    if bytes.len() < at + piece.len() {
        bytes.resize(at + piece.len(), 0);
    }
    bytes[at..at + piece.len()].copy_from_slice(piece);
}

#[derive(Clone)]
enum NameChange {
    Set(String, usize),
    Remove(String),
    Rename(String, String),
}

fn change(names: &mut BTreeMap<String, usize>, change: &NameChange) {
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
struct Fault {
    at: u64,
    forever: bool,
    kind: ErrorKind,
}

#[derive(Clone)]
struct World {
    files: Vec<File>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    changes: Vec<NameChange>,
    random: Random,
    calls: u64,
    fault: Option<Fault>,
    free: u64,
    /// Says that it synced before it has: what a log that acknowledges too early would do.
    lies: bool,
    sync_failed: bool,
    now: Duration,
}

#[derive(Clone)]
struct Sim(Rc<RefCell<World>>);

impl Sim {
    fn new(seed: u64, lies: bool) -> Sim {
        Sim(Rc::new(RefCell::new(World {
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            changes: Vec::new(),
            random: Random(seed),
            calls: 0,
            fault: None,
            free: u64::MAX,
            lies,
            sync_failed: false,
            now: Duration::ZERO,
        })))
    }

    /// A disk of its own with the same bytes on it.
    fn copy(&self) -> Sim {
        Sim(Rc::new(RefCell::new(self.0.borrow().clone())))
    }

    fn fault(&self, fault: Option<Fault>) {
        let mut world = self.0.borrow_mut();
        world.calls = 0;
        world.fault = fault;
    }

    fn calls(&self) -> u64 {
        self.0.borrow().calls
    }

    fn pass(&self, time: Duration) {
        self.0.borrow_mut().now += time;
    }

    /// Counts a call; whether it fails.
    fn call(&self) -> io::Result<()> {
        let mut world = self.0.borrow_mut();
        world.calls += 1;
        let calls = world.calls;
        match world.fault {
            Some(fault) if calls == fault.at || fault.forever && calls > fault.at => Err(fault.kind.into()),
            _ => Ok(()),
        }
    }

    /// Each sector that was not synced is there or not, each name that was not is changed or not.
    fn cut_power(&self) {
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

    fn file_names(&self) -> Vec<String> {
        self.0.borrow().names.keys().cloned().collect()
    }

    fn edit(&self, name: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut world = self.0.borrow_mut();
        let file = world.names[name];
        edit(&mut world.files[file].current);
        world.files[file].durable = world.files[file].current.clone();
        world.files[file].writes.clear();
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        let world = self.0.borrow();
        world.files[world.names[name]].current.clone()
    }

    fn change(&self, made: NameChange) {
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
        self.call()?;
        Ok(self.file_names())
    }

    fn create(&self, name: &str) -> io::Result<usize> {
        self.call()?;
        if self.0.borrow().names.contains_key(name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let file = self.0.borrow().files.len();
        self.0.borrow_mut().files.push(File::default());
        self.change(NameChange::Set(name.to_owned(), file));
        Ok(file)
    }

    fn open(&self, name: &str) -> io::Result<usize> {
        self.call()?;
        self.0.borrow().names.get(name).copied().ok_or(ErrorKind::NotFound.into())
    }

    fn length(&self, file: &usize) -> io::Result<u64> {
        self.call()?;
        Ok(self.0.borrow().files[*file].current.len() as u64)
    }

    fn read(&self, file: &usize, at: u64, into: &mut [u8]) -> io::Result<usize> {
        self.call()?;
        let world = self.0.borrow();
        let bytes = world.files[*file].current.get(at as usize..).unwrap_or_default();
        let length = bytes.len().min(into.len());
        into[..length].copy_from_slice(&bytes[..length]);
        Ok(length)
    }

    fn write(&self, file: &usize, at: u64, pieces: &mut [IoSlice]) -> io::Result<()> {
        let mut bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
        let outcome = self.call();
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
        let outcome = self.call();
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
        self.call()?;
        let world = &mut *self.0.borrow_mut();
        for made in world.changes.drain(..) {
            change(&mut world.durable_names, &made);
        }
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.call()?;
        self.change(NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.call()?;
        if !self.0.borrow().names.contains_key(name) {
            return Err(ErrorKind::NotFound.into());
        }
        self.change(NameChange::Remove(name.to_owned()));
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.call()?;
        Ok(self.0.borrow().free)
    }
}

type SimLog = Log<Sim, Sim>;

fn open(sim: &Sim) -> Result<(SimLog, Found), OpenError> {
    Log::open(sim.clone(), sim.clone(), LIMITS, ITSELF)
}

/// What was given to a log, by a number that stands in each payload.
#[derive(Clone, Default)]
struct Model {
    given: Vec<(Amount, Bytes)>,
    acknowledged: BTreeSet<usize>,
    settled: BTreeSet<usize>,
}

fn number_of(record: &Record) -> usize {
    u64::from_le_bytes(record.payload[..8].try_into().unwrap()) as usize
}

impl Model {
    /// Appends a group; its ids when it was acknowledged.
    fn append(&mut self, log: &mut SimLog, random: &mut Random, in_hand: bool) -> Option<Vec<(u64, usize)>> {
        let first = self.given.len();
        for _ in 0..1 + random.below(4) {
            let filler = (0..random.below(300)).map(|_| random.next() as u8);
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
    fn read(&self, log: &mut SimLog, context: &str) -> Vec<(u64, usize)> {
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

    fn amount(&self, numbers: impl IntoIterator<Item = usize>) -> Amount {
        numbers.into_iter().fold(Amount::default(), |sum, number| sum + self.given[number].0)
    }

    fn owed(&self) -> BTreeSet<usize> {
        self.acknowledged.difference(&self.settled).copied().collect()
    }

    /// Opens and reads all: nothing is missing that was acknowledged.
    fn check(&self, sim: &Sim, context: &str) -> Vec<(u64, usize)> {
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

/// Uses a log at random until a call to append fails, or for so long.
fn use_it(sim: &Sim, model: &mut Model, random: &mut Random, steps: u64, stop_on_error: bool) {
    let Ok((mut log, _)) = open(sim) else { return };
    let mut held: Vec<(u64, usize)> = Vec::new();
    for _ in 0..steps {
        match random.below(10) {
            0..4 => {
                let in_hand = random.chance(50);
                match model.append(&mut log, random, in_hand) {
                    Some(ids) if in_hand => held.extend(ids),
                    Some(_) => {}
                    None if stop_on_error => break,
                    None => sim.pass(Duration::from_secs(random.below(6))),
                }
            }
            4..6 => {
                for _ in 0..random.below(5) {
                    held.extend(log.read_next().map(|record| (record.id, number_of(&record))));
                }
            }
            6..8 => {
                for _ in 0..random.below(6).min(held.len() as u64) {
                    let (id, number) = held.swap_remove(random.below(held.len() as u64) as usize);
                    log.settle(id, model.given[number].0);
                    model.settled.insert(number);
                }
            }
            8 => {
                sim.pass(Duration::from_millis(random.below(1500)));
                let _ = log.tick();
            }
            _ => {
                let _ = log.flush();
            }
        }
    }
}

/// One life of a log: used, cut off in the middle of any call, opened again, a few times.
fn power_cuts(seed: u64, lies: bool) {
    let (sim, mut random, mut model) = (Sim::new(seed, lies), Random(seed ^ 0xabcd), Model::default());
    for round in 0..3 {
        let at = if random.chance(80) { 1 + random.below(120) } else { u64::MAX };
        sim.fault(Some(Fault { at, forever: true, kind: ErrorKind::Other }));
        let steps = 5 + random.below(40);
        use_it(&sim, &mut model, &mut random, steps, true);
        sim.fault(None);
        if random.chance(80) {
            sim.cut_power();
        }
        model.check(&sim, &format!("seed {seed}, round {round}"));
        if random.chance(50) {
            sim.cut_power();
        }
    }
    // All that is left is sent; then there is nothing left.
    let (mut log, _) = open(&sim).unwrap();
    for (id, number) in model.read(&mut log, &format!("seed {seed}")) {
        log.settle(id, model.given[number].0);
    }
    assert_eq!(log.waiting(), Amount::default(), "seed {seed}");
    log.flush().unwrap();
    drop(log);
    sim.cut_power();
    let (_, found) = open(&sim).unwrap();
    assert_eq!(found.waiting, Amount::default(), "seed {seed}: all of it was settled");
}

fn full() -> bool {
    std::env::var_os("MISAKI_FULL").is_some()
}

fn in_threads(count: u64, run: fn(u64)) {
    let threads = std::thread::available_parallelism().map_or(2, |count| count.get() as u64);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || (thread..count).step_by(threads as usize).for_each(run));
        }
    });
}

/// What was acknowledged is there after every power cut, with every torn, reordered and lost write.
#[test]
fn nothing_acknowledged_is_lost_in_a_power_cut() {
    in_threads(if full() { 1_000_000 } else { 10_000 }, |seed| power_cuts(seed, false));
}

/// The same run, with an acknowledgement before the sync, must fail: otherwise it would prove nothing.
#[test]
fn an_acknowledgement_before_the_sync_is_caught() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let caught = (0..200).filter(|seed| std::panic::catch_unwind(|| power_cuts(*seed, true)).is_err()).count();
    std::panic::set_hook(hook);
    assert!(caught > 20, "{caught} of 200");
}

/// Each call fails once, or from then on, in each way; then the power is cut.
#[test]
fn every_call_may_fail() {
    for seed in 0..if full() { 40 } else { 4 } {
        for (forever, kind) in [
            (false, ErrorKind::Other),
            (false, ErrorKind::StorageFull),
            (true, ErrorKind::Other),
            (true, ErrorKind::StorageFull),
            (true, ErrorKind::ReadOnlyFilesystem),
        ] {
            for at in 1.. {
                let context = format!("seed {seed}, call {at}, {kind:?}, forever {forever}");
                let (sim, mut random, mut model) = (Sim::new(seed, false), Random(seed), Model::default());
                sim.fault(Some(Fault { at, forever, kind }));
                use_it(&sim, &mut model, &mut random, 40, false);
                let was_met = sim.calls() >= at;
                sim.fault(None);
                sim.cut_power();
                model.check(&sim, &context);
                use_it(&sim, &mut model, &mut random, 20, false);
                model.check(&sim, &context);
                if !was_met {
                    break;
                }
            }
        }
    }
}

/// A log with something settled, something waiting, several segments.
fn filled(seed: u64) -> (Sim, Model) {
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

/// Damages one file, in one or two places.
fn damage(sim: &Sim, random: &mut Random) -> String {
    let names: Vec<_> = sim.file_names().into_iter().filter(|name| !name.ends_with(".damaged")).collect();
    let name = &names[random.below(names.len() as u64) as usize];
    let other = sim.bytes(&names[random.below(names.len() as u64) as usize]);
    let mut what = Vec::new();
    for _ in 0..1 + random.below(2) {
        let kind = random.below(8);
        if kind == 7 {
            sim.change(NameChange::Remove(name.clone()));
            return format!("{name} removed");
        }
        sim.edit(name, |bytes| {
            let at = random.below(bytes.len() as u64) as usize;
            let mut overwrite = |at: usize, piece: &[u8]| {
                let end = bytes.len().min(at + piece.len());
                bytes[at..end].copy_from_slice(&piece[..end - at]);
            };
            match kind {
                0 if !other.is_empty() || at > 0 => bytes[at] ^= 1 << random.below(8),
                1 => overwrite(at / SECTOR * SECTOR, &[0; SECTOR]),
                2 => overwrite(at / 4096 * 4096, &[0; 4096]),
                3 => bytes.truncate(at + 1),
                4 => bytes.extend((0..random.below(300)).map(|_| random.next() as u8)),
                5 => overwrite(at / 8 * 8, &other.iter().skip(at / 8 * 8).take(700).copied().collect::<Vec<_>>()),
                _ => {
                    let from = random.below(bytes.len() as u64) as usize;
                    let block: Vec<_> = bytes.iter().skip(from).take(SECTOR).copied().collect();
                    let end = bytes.len().min(at + block.len());
                    bytes[at..end].copy_from_slice(&block[..end - at]);
                }
            }
        });
        what.push(format!("{name} kind {kind}"));
    }
    what.join(", ")
}

/// Whatever happened to a file, the log opens, gives what is left, and says exactly how much is not.
fn damaged(base: &Sim, model: &Model, seed: u64) {
    let (sim, mut random) = (base.copy(), Random(seed));
    let while_open = random.chance(30);
    let opened = while_open.then(|| open(&sim).unwrap());
    let context = format!("seed {seed}: {}, while open {while_open}", damage(&sim, &mut random));
    let (mut log, found) = opened.unwrap_or_else(|| open(&sim).unwrap_or_else(|error| panic!("{context}: {error}")));
    let read: BTreeSet<_> = model.read(&mut log, &context).into_iter().map(|(_, number)| number).collect();
    let missing = model.amount(model.owed().difference(&read).copied());
    let lost = found.lost + log.lost();
    assert_eq!((lost.items, lost.bytes), (missing.items, missing.bytes), "{context}, {found:?}");
    assert_eq!(log.waiting(), model.amount(read.iter().copied()), "{context}");
    // It goes on as if nothing had been, and the loss is counted once.
    let mut model = model.clone();
    model.append(&mut log, &mut random, false).unwrap();
    log.flush().unwrap();
    drop(log);
    let (mut log, again) = open(&sim).unwrap();
    let after = model.amount(model.read(&mut log, &context).into_iter().map(|(_, number)| number));
    assert_eq!((again.waiting, again.lost), (after, Amount::default()), "{context}");
    let lost_again = model.amount(model.owed()) - after;
    assert!(lost_again.items <= missing.items && lost_again.bytes <= missing.bytes, "{context}");
}

#[test]
fn damage_costs_what_was_damaged() {
    in_threads(if full() { 10_000 } else { 500 }, |seed| {
        let (base, model) = filled(seed);
        (0..20).for_each(|index| damaged(&base, &model, seed * 20 + index));
    });
}

/// A log of a newer version is refused, and nothing in it is touched; a damaged version is damage.
#[test]
fn a_newer_format_is_refused_untouched() {
    let (sim, model) = filled(3);
    let name = sim.file_names().into_iter().find(|name| name.ends_with(".segment")).unwrap();
    let damaged = sim.copy();
    damaged.edit(&name, |bytes| bytes[8] = 9);
    model.check(&damaged, "a version without its checksum");
    sim.edit(&name, |bytes| {
        bytes[8] = 9;
        let check = crc([&bytes[..60]]);
        bytes[60..64].copy_from_slice(&check.to_le_bytes());
    });
    let before: Vec<_> = sim.file_names().iter().map(|name| (name.clone(), sim.bytes(name))).collect();
    assert!(matches!(open(&sim), Err(OpenError::Newer { version: 9, .. })));
    let after: Vec<_> = sim.file_names().iter().map(|name| (name.clone(), sim.bytes(name))).collect();
    assert!(before == after);
}

/// A full disk refuses, is asked again after a while, and drains while it is still full.
#[test]
fn a_full_disk_drains() {
    let (sim, mut model) = filled(5);
    let (mut log, _) = open(&sim).unwrap();
    let mut random = Random(1);
    sim.0.borrow_mut().free = 10;
    assert!(model.append(&mut log, &mut random, false).is_none());
    sim.0.borrow_mut().free = u64::MAX;
    assert!(model.append(&mut log, &mut random, false).is_none(), "not asked at once");
    sim.pass(Duration::from_secs(6));
    assert!(model.append(&mut log, &mut random, false).is_some());
    sim.0.borrow_mut().free = 0;
    for (id, number) in model.read(&mut log, "full") {
        log.settle(id, model.given[number].0);
    }
    sim.pass(Duration::from_secs(2));
    log.tick().unwrap();
    assert_eq!(log.waiting(), Amount::default());
    let segments = sim.file_names().into_iter().filter(|name| name.ends_with(".segment")).count();
    assert!(segments <= 1, "the room is given back");
}

/// Any bytes, and headers and frames that verify but say what no log of ours would: it opens, reads to an end, goes on.
fn nonsense(seed: u64) {
    let (sim, mut random) = (Sim::new(seed, false), Random(seed));
    let number = |random: &mut Random| match random.below(6) {
        0 => u64::MAX,
        1 => (1 << 62) - 1,
        2 => 1 << 62,
        3 => random.next(),
        _ => random.below(20),
    };
    for sequence in [1, 2, number(&mut random)] {
        let before = Amount::sums(number(&mut random), number(&mut random));
        let mut bytes =
            FileHeader::new(FileKind::Segment, ITSELF, sequence, number(&mut random), before).encode().to_vec();
        for _ in 0..random.below(12) {
            let payload: Vec<_> = (0..random.below(40) * 8).map(|_| random.next() as u8).collect();
            let frame = Frame {
                kind: random.next() as u8,
                length: if random.chance(80) { payload.len() as u32 } else { number(&mut random) as u32 },
                items: number(&mut random) as u32,
                id: number(&mut random),
                group: number(&mut random),
                before: Amount::sums(number(&mut random), number(&mut random)),
                received_nanos: number(&mut random),
                payload_crc: crc([payload.as_slice()]),
            };
            bytes.extend(frame.encode(Place { identity: ITSELF, sequence, at: bytes.len() as u64 }));
            bytes.extend(payload);
            if random.chance(20) {
                bytes.extend((0..random.below(20) * 8).map(|_| random.next() as u8));
            }
        }
        let file = sim.create(&format!("{sequence:016x}.segment"));
        if let Ok(file) = file {
            sim.write(&file, 0, &mut [IoSlice::new(&bytes)]).unwrap();
        }
    }
    let marks: Vec<_> = (0..random.below(3000)).map(|_| random.next() as u8).collect();
    let file = sim.create("marks").unwrap();
    sim.write(&file, 0, &mut [IoSlice::new(&marks)]).unwrap();
    let (mut log, _) = open(&sim).unwrap();
    let mut read = 0;
    while let Some(record) = log.read_next() {
        log.settle(record.id, record.amount);
        read += 1;
    }
    assert!(read <= 36);
    // What it says of its sums may be anything; what is given to it now is kept.
    let mut model = Model::default();
    if model.append(&mut log, &mut random, false).is_some() {
        log.flush().unwrap();
        drop(log);
        let (mut log, _) = open(&sim).unwrap();
        assert_eq!(model.read(&mut log, &format!("seed {seed}")).len(), model.given.len());
    }
}

#[test]
fn nonsense_is_read_to_its_end() {
    in_threads(if full() { 100_000 } else { 2_000 }, nonsense);
}
