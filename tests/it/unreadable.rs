//! What cannot be read, on a simulated disk: it is neither damaged nor gone. Reads, writes and whatever else is asked of the disk
//! fail alone or together, a page or everything, for a while or for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use misaki::face::sending::{ATTEMPTS, Amount, Limits, Log, OpenError, Opening, PAUSE, UNREADABLE};

use super::disk::{full, in_threads};
use super::simulated_disk::*;

const LARGER: Limits = Limits { quota: 4 << 20, segment: 32 << 10, ..LIMITS };

fn segments(sim: &Sim) -> Vec<String> {
    sim.file_names().into_iter().filter(|name| name.ends_with(".segment")).collect()
}

fn kept(sim: &Sim) -> Vec<String> {
    sim.file_names().into_iter().filter(|name| name.ends_with(UNREADABLE)).collect()
}

/// Everything that can be read, with the patience that it takes.
fn read_patiently(sim: &Sim, log: &mut SimLog) -> Vec<(u64, usize)> {
    let mut read = Vec::new();
    for _ in 0..8 * ATTEMPTS {
        while let Some(record) = log.read_next() {
            read.push((record.id, number_of(&record)));
        }
        if log.hold().is_none() && log.is_caught_up() {
            break;
        }
        sim.pass(PAUSE);
    }
    read
}

/// Uses a log while calls of some kinds, or single pages, fail for a while, again and again; the process ends in between, and
/// so does the power.
fn fails_for_a_while(seed: u64) {
    let (sim, mut random, mut model) = (Sim::new(seed, false), Random(seed ^ 0x5555), Model::default());
    let context = format!("seed {seed}");
    // Fewer failures than the attempts that one file gets.
    let mut left = 40;
    let (mut log, _) = open(&sim).unwrap();
    let mut held: Vec<(u64, usize)> = Vec::new();
    let refused = |model: &Model| {
        model.amount((0..model.given.len()).filter(|number| !model.acknowledged.contains(number))).items
    };
    for _ in 0..20 + random.below(60) {
        match random.below(16) {
            0..5 => {
                let in_hand = random.chance(40);
                match model.append(&mut log, &mut random, in_hand) {
                    Some(ids) if in_hand => held.extend(ids),
                    Some(_) => {}
                    None => sim.pass(Duration::from_secs(random.below(8))),
                }
            }
            5..8 => {
                for _ in 0..random.below(5) {
                    held.extend(log.read_next().map(|record| (record.id, number_of(&record))));
                }
                sim.pass(Duration::from_secs(random.below(8)));
            }
            8..10 => {
                for _ in 0..random.below(6).min(held.len() as u64) {
                    let (id, number) = held.swap_remove(random.below(held.len() as u64) as usize);
                    log.settle(id, model.given[number].0);
                    model.settled.insert(number);
                }
            }
            10..12 => {
                sim.pass(Duration::from_millis(random.below(3000)));
                let _ = log.tick();
            }
            12 => {
                let _ = log.flush();
            }
            13..15 if left > 0 => {
                let times = 1 + random.below(left);
                left -= times;
                let time = PAUSE * times as u32;
                let files = sim.file_names();
                match random.below(4) {
                    0 => sim.fail(&[Call::Read], time),
                    1 if !files.is_empty() => {
                        let name = &files[random.below(files.len() as u64) as usize];
                        sim.fail_page(name, sim.bytes(name).len() * random.below(2) as usize / PAGE, time);
                    }
                    2 => sim.fail(&[Call::Write, Call::Sync, Call::SyncNames, Call::Create, Call::Rename], time),
                    _ => {
                        use Call::*;
                        let calls = [List, Create, Open, Length, Read, Write, Sync, SyncNames, Rename, Remove, Keeps];
                        let calls: Vec<_> = calls.into_iter().filter(|_| random.chance(30)).collect();
                        sim.fail(&calls, time);
                    }
                }
            }
            _ => {
                assert!(log.lost().is_zero(), "{context}: {:?}", log.lost());
                drop(log);
                held.clear();
                if random.chance(50) {
                    sim.cut_power();
                }
                let (opened, found) = open_patiently(&sim, LIMITS).expect("what fails for a while is waited for");
                assert!(found.lost.items <= refused(&model), "{context}: {:?}", found.lost);
                log = opened;
            }
        }
    }
    sim.heal();
    sim.pass(2 * PAUSE);
    let there = held
        .iter()
        .map(|(_, number)| *number)
        .chain(model.read(&mut log, &context).into_iter().map(|(_, number)| number));
    let there: BTreeSet<_> = there.collect();
    let missing: Vec<_> = model.owed().difference(&there).copied().collect();
    assert!(missing.is_empty() && log.lost().is_zero(), "{context}: lost {missing:?}, {:?}", log.lost());
    assert_eq!(kept(&sim), [""; 0], "{context}: nothing is given up");
    drop(log);
    sim.cut_power();
    model.check(&sim, &context);
}

#[test]
fn nothing_is_lost_while_a_disk_fails_for_a_while() {
    in_threads(if full() { 200_000 } else { 2_000 }, fails_for_a_while);
}

/// Where each record lies: its file, and from where to where with its header.
fn places(sim: &Sim, model: &Model) -> BTreeMap<usize, (String, usize, usize)> {
    let mut places = BTreeMap::new();
    for name in segments(sim) {
        let (bytes, mut at) = (sim.bytes(&name), 64);
        while let Some(frame) = bytes.get(at..at + 72).filter(|frame| frame.starts_with(&[0xd7, b'q', b'M', b'k'])) {
            let length = u32::from_le_bytes(frame[8..12].try_into().unwrap()) as usize;
            let number = u64::from_le_bytes(frame[64..72].try_into().unwrap()) as usize;
            assert_eq!(bytes[at + 64..at + 64 + length], model.given[number].1);
            places.insert(number, (name.clone(), at, at + 64 + length));
            at += 64 + length.next_multiple_of(8);
        }
    }
    places
}

/// Single pages that can never be read, met at the start or on the way: exactly what lies there is counted, the file stays
/// as it is, and everything else goes its way.
fn bad_pages(seed: u64) {
    let (sim, mut random, mut model) = (Sim::new(seed, false), Random(seed ^ 0x3333), Model::default());
    let context = format!("seed {seed}");
    let (mut log, _) = open_patiently(&sim, LARGER).unwrap();
    for _ in 0..30 + random.below(30) {
        model.append_up_to(3000, &mut log, &mut random, false).unwrap();
        if random.chance(30) {
            let Some(record) = log.read_next() else { continue };
            log.settle(record.id, record.amount);
            model.settled.insert(number_of(&record));
        }
        log.tick().unwrap();
    }
    log.flush().unwrap();
    let (places, files) = (places(&sim, &model), segments(&sim));
    let mut bad = BTreeSet::new();
    for _ in 0..1 + random.below(3) {
        let name = &files[random.below(files.len() as u64) as usize];
        bad.insert((name.clone(), random.below(sim.bytes(name).len() as u64) as usize / PAGE));
    }
    let before: BTreeMap<_, _> = files.iter().map(|name| (name.clone(), sim.bytes(name))).collect();
    bad.iter().for_each(|(name, page)| sim.fail_page(name, *page, FOR_EVER));
    let (mut lost, at_the_start) = (Amount::default(), random.chance(50));
    if at_the_start {
        drop(log);
        let (opened, found) = open_patiently(&sim, LARGER).expect("it opens without what cannot be read");
        (log, lost) = (opened, found.lost);
    }
    let read: BTreeSet<_> = read_patiently(&sim, &mut log).into_iter().collect();
    let there: BTreeSet<_> = read.iter().map(|(_, number)| *number).collect();
    let lies_there = |number: &usize| {
        let (name, from, to) = &places[number];
        bad.iter().any(|(file, page)| file == name && *from < (page + 1) * PAGE && *to > page * PAGE)
    };
    let gone: BTreeSet<_> = model.owed().difference(&there).copied().collect();
    assert!(gone.iter().all(lies_there), "{context}, {bad:?}: {gone:?}");
    // On the way, the block that was being read may hold what was readable then.
    let expected = model.owed().into_iter().filter(lies_there).count();
    assert!(gone.len() == expected || !at_the_start && gone.len() < expected, "{context}, {bad:?}: {gone:?}");
    let (lost, gone_amount) = (lost + log.lost(), model.amount(gone.iter().copied()));
    assert_eq!((lost.items, lost.bytes), (gone_amount.items, gone_amount.bytes), "{context}, {bad:?}");
    let mut stays: BTreeSet<_> = gone.iter().map(|number| places[number].0.clone()).collect();
    let are_there = |stays: &BTreeSet<String>, when: &str| {
        for name in stays {
            let kept = name.replace(".segment", UNREADABLE);
            assert!(sim.file_names().contains(&kept), "{context}, {when}: {kept} stays");
            assert!(sim.bytes(&kept) == before[name], "{context}, {when}: {kept} stays as it is");
        }
    };
    are_there(&stays, "read");
    // It goes on; what was given up is neither lost a second time nor removed when its turn has passed.
    stays.extend(kept(&sim).iter().map(|name| name.replace(UNREADABLE, ".segment")));
    for (id, number) in read {
        log.settle(id, model.given[number].0);
        model.settled.insert(number);
    }
    model.append_up_to(3000, &mut log, &mut random, false).unwrap();
    log.flush().unwrap();
    are_there(&stays, "settled");
    drop(log);
    let (mut log, found) = open_patiently(&sim, LARGER).unwrap();
    let again: BTreeSet<_> = read_patiently(&sim, &mut log).into_iter().map(|(_, number)| number).collect();
    assert!(model.acknowledged.iter().rev().take(1).all(|number| again.contains(number)), "{context}: it goes on");
    assert!(again.is_disjoint(&gone), "{context}");
    assert!(found.lost.is_zero() && log.lost().is_zero(), "{context}: {:?} {:?}", found.lost, log.lost());
    drop(log);
    are_there(&stays, "opened again");
}

#[test]
fn pages_that_stay_bad_cost_what_lies_there_and_their_file_stays() {
    in_threads(if full() { 20_000 } else { 200 }, bad_pages);
}

/// A file that was kept gives what can be read of it once more, as a log of its own.
#[test]
fn a_file_that_was_kept_can_be_read_elsewhere() {
    let (sim, model) = filled(7);
    let name = segments(&sim)[0].clone();
    let elsewhere = Sim::new(1, false);
    misaki::face::sending::Disk::create(&elsewhere, &name).unwrap();
    elsewhere.edit(&name, |bytes| *bytes = sim.bytes(&name));
    let (mut log, found) = Log::view(elsewhere.clone(), elsewhere, LIMITS).unwrap();
    let read = model.read(&mut log, "elsewhere");
    assert!(!read.is_empty() && read.len() as u64 == found.waiting.records);
}

/// A disk that reads nothing at all is waited for, however long it takes, at the start and on the way. What is written meanwhile is
/// acknowledged and kept.
#[test]
fn a_disk_that_reads_nothing_is_waited_for() {
    for at_the_start in [true, false] {
        let (sim, mut model) = filled(11);
        let mut random = Random(11);
        let opened = (!at_the_start).then(|| open(&sim).unwrap());
        sim.fail(&[Call::Read], FOR_EVER);
        let (mut log, found) = opened.unwrap_or_else(|| {
            assert!(open_patiently(&sim, LIMITS).is_none());
            sim.heal();
            open(&sim).unwrap()
        });
        assert!(found.lost.is_zero());
        if !at_the_start {
            for _ in 0..5 * ATTEMPTS {
                assert!(log.read_next().is_none());
                sim.pass(PAUSE);
                let _ = log.tick();
            }
            assert_eq!(log.hold().map(|hold| hold.error.as_str()), Some("it fails"));
            assert!(model.append(&mut log, &mut random, false).is_some());
            sim.heal();
            sim.pass(PAUSE);
        }
        let read: BTreeSet<_> = model.read(&mut log, "well again").into_iter().map(|(_, number)| number).collect();
        assert!(read == model.owed() && log.lost().is_zero() && log.hold().is_none());
        assert_eq!(kept(&sim), [""; 0]);
    }
}

/// Where nobody waits for what is there, as with dead letters, a bad page keeps nothing out: the file is given up at the first
/// attempt, and what can be read of it is still there.
#[test]
fn a_log_that_nobody_waits_for_opens_at_once() {
    let (sim, model) = filled(7);
    let opening = || Opening::new(sim.clone(), sim.clone(), LIMITS, ITSELF, 1);
    sim.fail(&[Call::Read], FOR_EVER);
    assert!(opening().attempt().is_err(), "the disk, and not the file");
    sim.heal();
    let last = segments(&sim).pop().unwrap();
    sim.fail_page(&last, 0, FOR_EVER);
    let (mut log, found) = opening().attempt().map_err(|(_, error)| error).unwrap();
    assert_eq!((log.take_kept(), kept(&sim).len()), (vec![last], 1));
    let read: BTreeSet<_> = model.read(&mut log, "given up").into_iter().map(|(_, number)| number).collect();
    let missing = model.amount(model.owed().difference(&read).copied());
    assert_eq!((found.lost.items, found.lost.bytes), (missing.items, missing.bytes));
}

/// What says which records are settled cannot be read: nothing is missing, though some may come again.
#[test]
fn marks_that_stay_bad_lose_nothing() {
    let (sim, longer) = (Sim::new(1, false), Limits { marks: 8 << 10, ..LIMITS });
    drop(open_patiently(&sim, longer));
    for page in 0..4 {
        sim.heal();
        sim.fail_page("marks", page, FOR_EVER);
        assert!(matches!(open(&sim), Err(OpenError::Unreadable { file, .. }) if file == "marks"), "page {page}");
    }
    for seed in 0..200 {
        let (sim, model) = filled(seed);
        sim.fail_page("marks", 0, FOR_EVER);
        assert!(matches!(open(&sim), Err(OpenError::Unreadable { file, .. }) if file == "marks"));
        let (mut log, found) = open_patiently(&sim, LIMITS).unwrap();
        let read: BTreeSet<_> = model.read(&mut log, "marks").into_iter().map(|(_, number)| number).collect();
        assert!(read.is_superset(&model.owed()) && found.lost.is_zero() && log.lost().is_zero(), "seed {seed}");
    }
}

/// A file that does not open, or says nothing of itself, keeps the log closed, with not a byte of it changed.
#[test]
fn what_does_not_open_is_not_taken_for_gone() {
    for call in [Call::Open, Call::Length, Call::List] {
        let (sim, model) = filled(9);
        let files = sim.file_names();
        sim.fail(&[call], FOR_EVER);
        let error = open(&sim).err().unwrap().to_string();
        assert!(call == Call::List || error.starts_with(&format!("cannot open {}: it fails", files[0])), "{error}");
        assert!(open_patiently(&sim, LIMITS).is_none());
        assert_eq!(sim.file_names(), files);
        sim.heal();
        model.check(&sim, "well again");
    }
}
