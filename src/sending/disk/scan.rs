//! Reads a segment from front to back: frames that verify, and stretches that do not. Unreadable bytes are neither:
//! reading fails there, unless the reader skips them.

use std::io;

use super::Disk;
use super::format::{self, FRAME_MAGIC, Frame, HEADER, Identity, Position};

/// Bytes read at once, and bytes skipped at once where reading fails.
const BLOCK: usize = 64 << 10;
const PAGE: usize = 4 << 10;
/// Maximum pages skipped one by one. Each failure may take the disk seconds, so after these the rest of the file is not
/// tried.
const MOST_GAPS: u32 = 64;
/// Fill for skipped bytes: never part of a frame that verifies, nor the zeros of an end.
const GAP: u8 = 0xff;

/// A file that is read in blocks.
pub(super) struct Reader<F> {
    pub(super) file: F,
    block: Vec<u8>,
    start: u64,
    /// Whether it skips unreadable bytes.
    passes: bool,
    /// Pages skipped, and where the last of them ends.
    pub(super) gaps: u32,
    passed_to: u64,
}

/// What a position in a segment holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Piece {
    /// A record with valid header and payload.
    Record { frame: Frame, at: u64 },
    /// Bytes up to `to` that are no record, or a record with a damaged payload.
    Damaged { to: u64 },
    /// Only zeros, or nothing, up to the end.
    End,
}

impl<F> Reader<F> {
    pub(super) fn new(file: F, passes: bool) -> Reader<F> {
        Reader { file, block: Vec::new(), start: 0, passes, gaps: 0, passed_to: 0 }
    }

    /// Bytes from `at` on: at least `length`, unless the file ends before.
    fn get<D: Disk<File = F>>(&mut self, disk: &D, at: u64, length: usize, end: u64) -> io::Result<&[u8]> {
        let left = usize::try_from(end.saturating_sub(at)).unwrap_or(BLOCK);
        let length = length.min(BLOCK).min(left);
        let held = at.checked_sub(self.start).and_then(|from| usize::try_from(from).ok());
        let from = match held.filter(|from| self.block.len().saturating_sub(*from) >= length) {
            Some(from) => from,
            None => {
                self.fill(disk, at, BLOCK.min(left))?;
                0
            }
        };
        let to = self.block.len().min(from + left);
        Ok(self.block.get(from..to).unwrap_or_default())
    }

    fn fill<D: Disk<File = F>>(&mut self, disk: &D, at: u64, length: usize) -> io::Result<()> {
        let mut block = std::mem::take(&mut self.block);
        block.resize(length, 0);
        match read_all(disk, &self.file, at, &mut block) {
            Err(error) if !self.passes => return Err(error),
            Err(_) => self.fill_by_pages(disk, at, &mut block),
            Ok(()) => {}
        }
        (self.block, self.start) = (block, at);
        Ok(())
    }

    fn fill_by_pages<D: Disk<File = F>>(&mut self, disk: &D, mut at: u64, mut rest: &mut [u8]) {
        while !rest.is_empty() {
            let length = (PAGE - at as usize % PAGE).min(rest.len());
            let (page, more) = rest.split_at_mut(length);
            if self.gaps >= MOST_GAPS || read_all(disk, &self.file, at, page).is_err() {
                page.fill(GAP);
                // A page shared by two blocks counts once.
                self.gaps += u32::from(at >= self.passed_to);
                self.passed_to = self.passed_to.max((at / PAGE as u64 + 1) * PAGE as u64);
            }
            (at, rest) = (at + length as u64, more);
        }
    }

    /// The payload of a verified record; `None` if it no longer verifies.
    pub(super) fn payload<D: Disk<File = F>>(
        &mut self,
        disk: &D,
        frame: &Frame,
        at: u64,
        end: u64,
    ) -> io::Result<Option<Vec<u8>>> {
        let length = u64::from(frame.length);
        if at.saturating_add(HEADER).saturating_add(length) > end {
            return Ok(None);
        }
        let mut payload = Vec::with_capacity(frame.length as usize);
        while (payload.len() as u64) < length {
            let (from, left) = (at + HEADER + payload.len() as u64, length as usize - payload.len());
            let bytes = self.get(disk, from, 1, end)?;
            payload.extend_from_slice(bytes.get(..left).unwrap_or(bytes));
        }
        Ok((format::crc([payload.as_slice()]) == frame.payload_crc).then_some(payload))
    }

    /// The piece at `at` of segment `sequence`, which ends at `end`. It always advances, or is the end.
    pub(super) fn piece<D: Disk<File = F>>(
        &mut self,
        disk: &D,
        (identity, sequence): (Identity, u64),
        at: u64,
        end: u64,
    ) -> io::Result<Piece> {
        let place = |at| Position { identity, sequence, at };
        let header = self.get(disk, at, HEADER as usize, end)?.get(..HEADER as usize).unwrap_or_default();
        let Some(frame) = Frame::decode(header, place(at)) else { return self.search(disk, &place, at, end) };
        let to = at.saturating_add(frame.span());
        if at.saturating_add(HEADER).saturating_add(u64::from(frame.length)) > end {
            return Ok(Piece::Damaged { to: end });
        }
        let (mut from, mut left, mut crc) = (at + HEADER, frame.length as usize, libdeflater::Crc::new());
        while left > 0 {
            let bytes = self.get(disk, from, 1, end)?;
            let bytes = bytes.get(..left).unwrap_or(bytes);
            crc.update(bytes);
            from += bytes.len() as u64;
            left -= bytes.len();
        }
        Ok(if crc.sum() == frame.payload_crc {
            Piece::Record { frame, at }
        } else {
            Piece::Damaged { to: to.min(end) }
        })
    }

    /// Finds the next header that verifies. Each byte is examined once.
    fn search<D: Disk<File = F>>(
        &mut self,
        disk: &D,
        place: &dyn Fn(u64) -> Position,
        at: u64,
        end: u64,
    ) -> io::Result<Piece> {
        let (mut from, mut only_zeros) = (at, true);
        while from < end {
            let bytes = self.get(disk, from, 1, end)?;
            let tried = usize::from(from == at);
            let found = bytes.chunks(8).skip(tried).position(|eight| eight.starts_with(&FRAME_MAGIC));
            let clean = found.map_or(bytes.len(), |index| (index + tried) * 8);
            only_zeros = only_zeros && bytes.iter().take(clean).all(|byte| *byte == 0);
            from += clean as u64;
            if found.is_some() {
                let header = self.get(disk, from, HEADER as usize, end)?;
                if Frame::decode(header.get(..HEADER as usize).unwrap_or_default(), place(from)).is_some() {
                    return Ok(Piece::Damaged { to: from });
                }
                only_zeros = false;
                from += 8;
            }
        }
        Ok(if only_zeros { Piece::End } else { Piece::Damaged { to: end } })
    }
}

/// Fills `into`, with zeros beyond the end of the file. Retries a failure once; further retries are up to the caller.
fn read_all<D: Disk>(disk: &D, file: &D::File, at: u64, into: &mut [u8]) -> io::Result<()> {
    let mut done = 0;
    while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let from = at + done as u64;
        match disk.read(file, from, rest).or_else(|_| disk.read(file, from, rest))? {
            0 => {
                rest.fill(0);
                return Ok(());
            }
            read => done += read,
        }
    }
    Ok(())
}
