//! Whatever stands in the files of a log, it opens, reads to an end in bounded time and room, and goes on. The first byte
//! chooses: any bytes at all; headers whose checksums hold but that say anything; or a good log of which one file was
//! damaged, and then the loss must come out exact.
#![no_main]

use libfuzzer_sys::fuzz_target;
use misaki::face::sending::{FRAME_MAGIC, FileHeader, FileKind, HEADER, crc, Disk, OpenError};

#[allow(dead_code)]
#[path = "../../tests/it/simulated_disk.rs"]
mod simulated_disk;
use simulated_disk::*;

const HEADER_LEN: usize = HEADER as usize;

fuzz_target!(|data: &[u8]| {
    let Some((choice, data)) = data.split_first() else { return };
    match choice % 3 {
        0 => anything(data, false),
        1 => anything(data, true),
        _ => damaged(data),
    }
});

/// Two segments and the marks, split where the first bytes say.
fn anything(data: &[u8], sealed: bool) {
    let Some(([one, two, three, four], data)) = data.split_first_chunk() else { return };
    let first = usize::from(u16::from_le_bytes([*one, *two])).min(data.len());
    let (first, rest) = data.split_at(first);
    let (second, marks) = rest.split_at(usize::from(u16::from_le_bytes([*three, *four])).min(rest.len()));
    let sim = Sim::new(0, false);
    for (sequence, name, bytes) in
        [(1, "0000000000000001.segment", first), (2, "0000000000000002.segment", second), (0, "marks", marks)]
    {
        let mut bytes = bytes.to_vec();
        if sealed {
            seal(&mut bytes, sequence);
        }
        let _ = sim.create(name);
        sim.edit(name, |content| *content = bytes);
    }
    let given = data.len() as u64;
    let (mut log, found) = match open(&sim) {
        Ok(opened) => opened,
        Err(OpenError::Newer { .. }) => return,
        Err(error) => panic!("{error}"),
    };
    assert!(found.waiting.bytes <= given && found.damaged_bytes <= given, "{found:?}");
    let mut read = 0;
    while let Some(record) = log.read_next() {
        read += HEADER + record.payload.len() as u64;
        assert!(read <= given, "more than there is");
        log.settle(record.id, record.amount);
    }
    // Each byte is looked at a few times: blocks are read, not bytes.
    assert!(sim.calls() <= 200 + given / 16, "{} calls for {given} bytes", sim.calls());
    assert!(room(&sim) <= 2 * given + (16 << 10), "{} bytes from {given}", room(&sim));
    let mut model = Model::default();
    if model.append(&mut log, &mut Random(given), false).is_some() {
        log.flush().expect("nothing fails");
        drop(log);
        let (mut log, _) = open(&sim).expect("nothing fails");
        assert_eq!(model.read(&mut log, "what came after it").len(), model.given.len());
    }
}

/// Gives the file and each frame in it the header that its place asks for, so that what they say is believed.
fn seal(bytes: &mut [u8], sequence: u64) {
    let kind = if sequence == 0 { FileKind::Marks } else { FileKind::Segment };
    let header = FileHeader::new(kind, ITSELF, sequence, 0, Default::default()).encode();
    if let Some(head) = bytes.first_chunk_mut::<HEADER_LEN>() {
        // The first id and the sums stay as they were given.
        head[..36].copy_from_slice(&header[..36]);
        checksum(head, &[]);
    }
    match sequence {
        0 => {
            for (index, entry) in bytes.get_mut(512..).unwrap_or_default().chunks_exact_mut(128).enumerate() {
                let at = 512 + 128 * index as u64;
                checksum(entry, &[ITSELF.as_slice(), &at.to_le_bytes()].concat());
            }
        }
        _ => {
            for at in (HEADER_LEN..bytes.len()).step_by(8) {
                if !bytes[at..].starts_with(&FRAME_MAGIC) {
                    continue;
                }
                let Some((frame, rest)) = bytes[at..].split_first_chunk_mut::<HEADER_LEN>() else { continue };
                let length = u32::from_le_bytes([frame[8], frame[9], frame[10], frame[11]]) as usize;
                if let Some(payload) = rest.get(..length) {
                    frame[56..60].copy_from_slice(&crc([payload]).to_le_bytes());
                }
                let seed = [ITSELF.as_slice(), &sequence.to_le_bytes(), &(at as u64).to_le_bytes()].concat();
                checksum(frame, &seed);
            }
        }
    }
}

fn checksum(header: &mut [u8], seed: &[u8]) {
    let (body, check) = header.split_last_chunk_mut::<4>().expect("it is longer than that");
    *check = crc([seed, body]).to_le_bytes();
}

/// What all files take.
fn room(sim: &Sim) -> u64 {
    sim.file_names().iter().map(|name| sim.bytes(name).len() as u64).sum()
}

/// One byte chooses a good log, one a file of it; what follows is done to that file.
fn damaged(data: &[u8]) {
    let [seed, file, edits @ ..] = data else { return };
    let (sim, model) = filled(u64::from(*seed));
    let names = sim.file_names();
    let name = &names[usize::from(*file) % names.len()];
    let mut edits = edits;
    while let [kind, low, high, length, rest @ ..] = edits {
        let (at, length) = (usize::from(u16::from_le_bytes([*low, *high])), usize::from(*length));
        let (piece, rest) = rest.split_at(length.min(rest.len()));
        edits = rest;
        sim.edit(name, |bytes| match kind % 4 {
            0 => bytes.truncate(at),
            1 => bytes.extend_from_slice(piece),
            2 => bytes.iter_mut().skip(at).zip(piece).for_each(|(byte, other)| *byte ^= other),
            _ => bytes.iter_mut().skip(at).take(length << 4).for_each(|byte| *byte = 0),
        });
    }
    loses_exactly_the_damaged(&sim, &model, None, &mut Random(7), name);
}
