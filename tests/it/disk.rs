//! The segment log on a simulated disk: power cuts, failing calls, damage. Every run has a seed; a failure prints it.

use std::collections::BTreeSet;
use std::io::{ErrorKind, IoSlice};
use std::time::Duration;

use misaki::face::sending::{Amount, Disk, FileHeader, FileKind, Frame, OpenError, Position, crc};

use super::simulated_disk::*;

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

pub fn full() -> bool {
    std::env::var_os("MISAKI_FULL").is_some()
}

pub fn in_threads(count: u64, run: fn(u64)) {
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

/// Whatever happened to a file.
fn damaged(base: &Sim, model: &Model, seed: u64) {
    let (sim, mut random) = (base.copy(), Random(seed));
    let while_open = random.chance(30);
    let opened = while_open.then(|| open(&sim).unwrap());
    let context = format!("seed {seed}: {}, while open {while_open}", damage(&sim, &mut random));
    loses_exactly_the_damaged(&sim, model, opened, &mut random, &context);
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

/// Its files are removed while it runs: nothing is acknowledged into the void, what is still open comes back, the rest is
/// counted exactly, and it goes on.
fn removed(seed: u64) {
    let (sim, mut model) = filled(seed);
    let mut random = Random(seed ^ 0x7777);
    let (mut log, _) = open(&sim).unwrap();
    let context = format!("seed {seed}");
    for _ in 0..random.below(4) {
        model.append(&mut log, &mut random, false).unwrap();
    }
    let mut held = Vec::new();
    for _ in 0..random.below(8) {
        held.extend(log.read_next().map(|record| (record.id, number_of(&record))));
    }
    let before = model.acknowledged.clone();
    let what = random.below(3);
    match what {
        0 => sim.remove_all(),
        1 => sim.file_names().into_iter().for_each(|name| sim.change(NameChange::Remove(name))),
        _ => {
            let last = sim.file_names().into_iter().rfind(|name| name.ends_with(".segment")).unwrap();
            sim.change(NameChange::Remove(last));
        }
    }
    if random.chance(50) {
        assert!(log.tick().is_err() || what == 2, "{context}");
    }
    let mut refused = 0;
    for _ in 0..5 {
        refused += usize::from(model.append(&mut log, &mut random, false).is_none());
        sim.pass(Duration::from_secs(2));
    }
    assert!(refused <= 1, "{context}: {refused} refused");
    assert!(log.removals() == 1 || what == 2, "{context}");
    for (id, number) in held.drain(..random.below(held.len() as u64 + 1) as usize) {
        log.settle(id, model.given[number].0);
        model.settled.insert(number);
    }
    log.flush().unwrap();
    let before_the_end = log.lost();
    drop(log);
    sim.cut_power();
    let (mut log, found) = open(&sim).unwrap();
    let read = model.read(&mut log, &context).into_iter().map(|(_, number)| number).collect();
    let missing: Vec<_> = model.owed().difference(&read).copied().collect();
    assert!(missing.iter().all(|number| before.contains(number)), "{context}: acknowledged afterwards and lost");
    let (lost, missing) = (before_the_end + found.lost + log.lost(), model.amount(missing));
    assert_eq!((lost.items, lost.bytes), (missing.items, missing.bytes), "{context}: the loss is counted");
}

#[test]
fn files_removed_while_it_runs_are_noticed() {
    in_threads(if full() { 100_000 } else { 2_000 }, removed);
}

/// Segments that are not open, removed one by one: seen at the next look, counted exactly and once, before they are read.
/// What the caller holds of them is not lost.
fn closed_segments_removed(seed: u64) {
    let (sim, mut model) = filled(seed);
    let mut random = Random(seed ^ 0x1234);
    let (mut log, found) = open(&sim).unwrap();
    let (context, mut held, mut in_hand) = (format!("seed {seed}"), Vec::new(), Vec::new());
    for _ in 0..random.below(8) {
        held.extend(log.read_next().map(|record| (record.id, number_of(&record))));
    }
    for _ in 0..random.below(6) {
        let keeps = random.chance(50);
        let ids = model.append(&mut log, &mut random, keeps).unwrap();
        if keeps {
            in_hand.extend(ids);
        }
    }
    held.extend(in_hand);
    for name in sim.file_names().into_iter().filter(|name| name.ends_with(".segment")) {
        if random.chance(40) {
            sim.change(NameChange::Remove(name));
        }
    }
    let removed = log.removals();
    for _ in 0..3 {
        sim.pass(Duration::from_secs(5));
        let _ = log.tick();
    }
    let (lost, noticed) = (log.lost(), log.removals() - removed);
    assert!(noticed <= 1 && (noticed == 1 || lost.is_zero()), "{context}: {noticed}");
    let read = model.read(&mut log, &context).into_iter().map(|(_, number)| number).collect::<Vec<_>>();
    assert_eq!(log.lost(), lost, "{context}: all of it was seen before its turn");
    let there: BTreeSet<_> = held.iter().map(|(_, number)| *number).chain(read.iter().copied()).collect();
    let missing = model.amount(model.owed().difference(&there).copied());
    let lost = found.lost + lost;
    assert_eq!((lost.items, lost.bytes), (missing.items, missing.bytes), "{context}");
    assert_eq!(log.waiting(), model.amount(there.iter().copied()), "{context}");
    // It goes on, and what was lost is not lost a second time.
    for (id, number) in held {
        log.settle(id, model.given[number].0);
        model.settled.insert(number);
    }
    log.flush().unwrap();
    assert!(model.append(&mut log, &mut random, false).is_some(), "{context}");
    log.flush().unwrap();
    drop(log);
    sim.cut_power();
    let (mut log, found) = open(&sim).unwrap();
    let again: Vec<_> = model.read(&mut log, &context).into_iter().map(|(_, number)| number).collect();
    assert!(read.iter().all(|number| again.contains(number)), "{context}");
    assert!(found.lost.is_zero() && log.lost().is_zero(), "{context}: {:?} {:?}", found.lost, log.lost());
}

#[test]
fn closed_segments_that_are_removed_are_noticed() {
    in_threads(if full() { 100_000 } else { 2_000 }, closed_segments_removed);
}

/// The segment that takes groups is open: what it holds survives its removal.
#[test]
fn an_open_segment_survives_its_removal() {
    let (sim, mut random, mut model) = (Sim::new(1, false), Random(1), Model::default());
    let (mut log, _) = open(&sim).unwrap();
    model.append(&mut log, &mut random, false).unwrap();
    sim.remove_all();
    assert!(model.append(&mut log, &mut random, false).is_none(), "the group that notices it is refused");
    assert!(model.append(&mut log, &mut random, false).is_some(), "the next is not");
    drop(log);
    sim.cut_power();
    assert_eq!(model.check(&sim, "removed").len(), model.acknowledged.len());
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
            bytes.extend(frame.encode(Position { identity: ITSELF, sequence, at: bytes.len() as u64 }));
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
