//! The log itself: append a group, read the oldest first (`log/reading.rs`), settle finished records, free the space.

mod reading;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::io::{self, ErrorKind, IoSlice};
use std::time::Duration;

use bytes::Bytes;

use super::attempts::{self, Attempts};
use super::format::{self, FARTHEST, FileHeader, FileKind, Frame, HEADER, Identity, Position, span};
use super::hold::{ATTEMPTS, Hold, Opening, PAUSE};
use super::marks::Marks;
use super::survey::{Found, OpenError, Segment, Survey, file_name, retry, survey};
use super::{Amount, Clock, Disk, Limits};
use reading::Cursor;

/// How much settled work a crash of the machine may bring back.
const SYNC_MARKS: Duration = Duration::from_secs(1);
/// How often to check that the closed segments still exist.
const LOOK: Duration = Duration::from_secs(5);
/// Total size of copies of damaged bytes.
const SET_ASIDE: u64 = 16 << 20;
const COPIED_AT_ONCE: usize = 256 << 10;
const SET_ASIDE_SUFFIX: &str = ".damaged";

/// A record to write.
#[derive(Clone, Debug)]
pub struct NewRecord<'a> {
    pub kind: u8,
    pub items: u32,
    pub received_nanos: u64,
    /// The payload, in pieces.
    pub parts: &'a [Bytes],
}

impl NewRecord<'_> {
    fn length(&self) -> u64 {
        self.parts.iter().map(|part| part.len() as u64).sum()
    }

    fn amount(&self) -> Amount {
        Amount { records: 1, items: u64::from(self.items), bytes: self.length() }
    }
}

/// A record read back.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub id: u64,
    pub(crate) kind: u8,
    pub(crate) received_nanos: u64,
    pub amount: Amount,
    pub payload: Vec<u8>,
}

/// Why a group was not written. None of it counts as written, and earlier groups are unharmed.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    #[error("the quota of {quota} bytes is used up")]
    Quota { quota: u64 },
    #[error("less than {min_free} bytes would stay free on the filesystem")]
    Space { min_free: u64 },
    #[error(
        "the filesystem takes no more, though it may have bytes left: {0} (inodes, a quota of this user: df -i, quota)"
    )]
    NoSpace(io::Error),
    #[error("{0}")]
    Io(io::Error),
    #[error("the last writes failed")]
    Paused,
}

impl From<io::Error> for AppendError {
    fn from(error: io::Error) -> AppendError {
        match is_no_space(&error) {
            true => AppendError::NoSpace(error),
            false => AppendError::Io(error),
        }
    }
}

fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

pub struct Log<D: Disk, C: Clock> {
    disk: D,
    clock: C,
    limits: Limits,
    identity: Identity,
    /// Oldest first.
    segments: VecDeque<Segment>,
    /// The last segment's file while it takes groups.
    active: Option<D::File>,
    marks: Marks<D::File>,
    next_sequence: u64,
    next_id: u64,
    /// The sum of all records below `next_id`.
    before: Amount,
    cursor: Cursor<D::File>,
    /// Records ahead of the cursor that are held in memory.
    held: BTreeMap<u64, Amount>,
    waiting: Amount,
    used: u64,
    /// Lost while running: records that failed verification when read back.
    lost: Amount,
    /// How often its files were removed while in use.
    removals: u64,
    failures: u32,
    retry_at: Duration,
    /// Set while reads at the cursor fail.
    hold: Option<Hold>,
    /// Whether the log is opened for inspection only: unreadable parts are skipped at once.
    is_view: bool,
    /// Newly skipped unreadable files, until they are reported.
    pub(super) kept: Vec<String>,
    sync_marks_at: Duration,
    look_at: Duration,
}

impl<D: Disk, C: Clock> Log<D, C> {
    /// Opens the log if it can be read now; `fresh` becomes the identity of a new log.
    pub fn open(disk: D, clock: C, limits: Limits, fresh: Identity) -> Result<(Log<D, C>, Found), OpenError> {
        Opening::new(disk, clock, limits, fresh, ATTEMPTS).attempt().map_err(|(_, error)| error)
    }

    /// Continues from a survey.
    pub(super) fn begin(disk: D, clock: C, limits: Limits, survey: Survey) -> (Log<D, C>, Found) {
        let (found, damaged) = (survey.found.clone(), survey.damaged.clone());
        let mut log = Log::of(disk, clock, limits, survey);
        if !found.lost.is_zero() {
            // Best effort: damaged bytes that cannot be copied are counted all the same.
            let _ = log.set_aside(&damaged);
        }
        // The last writes of a killed run were never acknowledged, but count from now on.
        for segment in log.segments.iter().filter(|segment| !segment.unread.is_zero()) {
            let _ = log.disk.open(&segment.file_name()).and_then(|file| log.disk.sync(&file));
        }
        let _ = log.disk.sync_names();
        // A log that cannot be written can still be read; the write is retried.
        let _ = log.marks.open(&log.disk).and_then(|()| log.flush());
        (log, found)
    }

    /// For inspection only: writes nothing and skips unreadable parts.
    pub fn view(disk: D, clock: C, limits: Limits) -> Result<(Log<D, C>, Found), OpenError> {
        let survey = survey(&disk, Identity::default(), true)?;
        let found = survey.found.clone();
        Ok((Log { is_view: true, ..Log::of(disk, clock, limits, survey) }, found))
    }

    fn of(disk: D, clock: C, limits: Limits, survey: Survey) -> Log<D, C> {
        let Survey { identity, marks, segments, next_sequence, next_id, durable, found, .. } = survey;
        let mut marks = Marks::new(marks, identity, limits.marks);
        marks.write_off(found.lost);
        let before = marks.state.settled_in_all() + marks.state.written_off + Amount { records: 0, ..found.waiting };
        let (reached, all) = durable.unwrap_or((next_id, before));
        marks.reach(reached, all);
        let sizes = segments.iter().map(|segment| segment.length);
        let now = clock.now();
        let mut log = Log {
            used: sizes.sum(),
            cursor: Cursor { sequence: 0, at: HEADER, next_id: marks.state.low, reader: None },
            disk,
            clock,
            limits,
            identity,
            segments: segments.into(),
            active: None,
            marks,
            next_sequence,
            next_id,
            before,
            held: BTreeMap::new(),
            waiting: found.waiting,
            lost: Amount::default(),
            removals: 0,
            failures: 0,
            retry_at: now,
            hold: None,
            is_view: false,
            kept: Vec::new(),
            sync_marks_at: now + SYNC_MARKS,
            look_at: now + LOOK,
        };
        if log.waiting.is_zero() {
            log.marks.fill(log.marks.state.low, next_id.saturating_sub(1));
        }
        log
    }

    /// Records that wait, including records held in memory.
    pub fn waiting(&self) -> Amount {
        self.waiting
    }

    /// Records lost since the log was opened.
    pub fn lost(&self) -> Amount {
        self.lost
    }

    pub fn removals(&self) -> u64 {
        self.removals
    }

    /// The id of the next record.
    pub(crate) fn next_id(&self) -> u64 {
        self.next_id
    }

    /// The read failure, while the next record cannot be read.
    pub fn hold(&self) -> Option<&Hold> {
        self.hold.as_ref()
    }

    /// Newly skipped unreadable files; each is returned once.
    pub fn take_kept(&mut self) -> Vec<String> {
        std::mem::take(&mut self.kept)
    }

    /// Total bytes of all segments.
    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    /// Whether the last two writes failed.
    pub(crate) fn is_failed(&self) -> bool {
        self.failures > 1
    }

    /// Whether it pauses before the next write.
    pub(crate) fn is_paused(&self) -> bool {
        self.clock.now() < self.retry_at
    }

    /// Whether settled records are not yet on stable storage.
    pub(crate) fn is_unsettled(&self) -> bool {
        self.marks.is_behind()
    }

    /// The record the last run had in flight; `None` if it ended cleanly.
    pub(crate) fn attempts(&self) -> Option<Attempts> {
        attempts::read(&self.disk, self.identity)
    }

    /// Stores the record in flight for the next run; `None` marks a clean end.
    pub(crate) fn attempt(&self, attempts: Option<Attempts>) {
        // If this fails, a record that crashes the process is sent once more.
        let _ = match attempts {
            Some(attempts) => attempts::write(&self.disk, self.identity, attempts),
            None => attempts::clear(&self.disk),
        };
    }

    /// Whether every record has been read or is held in memory.
    pub fn is_caught_up(&self) -> bool {
        self.cursor.next_id >= self.next_id
    }

    /// Writes and syncs a group; returns the id of its first record. With `in_hand` the caller keeps the records, and
    /// they are not read back.
    pub fn append(&mut self, records: &[NewRecord], in_hand: bool) -> Result<u64, AppendError> {
        let size: u64 = records.iter().map(|record| span(record.length())).sum();
        if self.next_id + records.len() as u64 >= FARTHEST || self.next_sequence >= FARTHEST {
            return Err(AppendError::Io(io::Error::other("the log cannot count any further")));
        }
        if self.is_paused() {
            return Err(AppendError::Paused);
        }
        // A record larger than the quota is accepted when the queue is empty.
        let goes_alone = records.len() == 1 && size > self.limits.most_bytes();
        if !goes_alone && self.used + size + HEADER > self.limits.quota {
            return Err(AppendError::Quota { quota: self.limits.quota });
        }
        let min_free = self.limits.min_free;
        if self.disk.free_bytes()? < size + HEADER + min_free {
            self.retry_at = self.clock.now() + PAUSE;
            return Err(AppendError::Space { min_free });
        }
        let (id, at) = match self.write(records, size) {
            Ok(place) => place,
            Err(error) => return Err(self.give_up(error)),
        };
        self.failures = 0;
        let caught_up = self.is_caught_up();
        let mut written = Amount::default();
        for record in records {
            written += record.amount();
        }
        self.next_id += written.records;
        self.before += Amount { records: 0, ..written };
        self.waiting += written;
        self.used += size;
        self.marks.reach(self.next_id, self.before);
        if let Some(segment) = self.segments.back_mut() {
            (segment.length, segment.end_id) = (at + size, self.next_id);
            match in_hand {
                true if caught_up => {
                    let (sequence, at, next_id) = (segment.sequence, segment.length, self.next_id);
                    let reader = self.cursor.reader.take().filter(|_| self.cursor.sequence == sequence);
                    self.cursor = Cursor { sequence, at, next_id, reader };
                }
                true => {
                    segment.unread += written;
                    self.held.extend((id..).zip(records.iter().map(NewRecord::amount)));
                }
                false => segment.unread += written,
            }
        }
        Ok(id)
    }

    /// Writes the group to the last segment or a new one; returns its first id and its place.
    fn write(&mut self, records: &[NewRecord], size: u64) -> io::Result<(u64, u64)> {
        let full =
            self.segments.back().is_some_and(|last| last.length > HEADER && last.length + size > self.limits.segment);
        if self.active.is_none() || full {
            self.active = None;
            self.begin_segment()?;
        }
        let (Some(file), Some(segment)) = (&self.active, self.segments.back()) else {
            return Err(io::Error::other("there is no segment to write to"));
        };
        let (first, start) = (self.next_id, segment.length);
        let (mut heads, mut at) = (Vec::with_capacity(records.len()), start);
        for (id, record) in (first..).zip(records) {
            let length = record.length();
            let frame = Frame {
                kind: record.kind,
                length: u32::try_from(length).map_err(|_| io::Error::from(ErrorKind::FileTooLarge))?,
                items: record.items,
                id,
                group: first,
                before: self.before,
                received_nanos: record.received_nanos,
                payload_crc: format::crc(record.parts.iter().map(Bytes::as_ref)),
            };
            heads.push(frame.encode(Position { identity: self.identity, sequence: segment.sequence, at }));
            at += frame.span();
        }
        let mut pieces = Vec::with_capacity(records.len() * 3);
        for (head, record) in heads.iter().zip(records) {
            pieces.push(IoSlice::new(head));
            pieces.extend(record.parts.iter().map(|part| IoSlice::new(part)));
            let padding = (span(record.length()) - HEADER - record.length()) as usize;
            pieces.push(IoSlice::new([0; 8].get(..padding).unwrap_or_default()));
        }
        self.disk.write(file, start, &mut pieces)?;
        if self.limits.sync {
            self.disk.sync(file)?;
        }
        self.verify()?;
        Ok((first, start))
    }

    /// Fails if the next run would not find the written files. Open segments are restored first to limit the loss; the
    /// others are counted as lost.
    fn verify(&mut self) -> io::Result<()> {
        if self.disk.keeps(self.active.iter().chain(self.marks.file()))? {
            return Ok(());
        }
        self.disk.restore()?;
        self.removals += 1;
        let active = self.active.take();
        let written = active.as_ref().and_then(|file| Some((self.segments.back()?.sequence, file)));
        let read = self.cursor.reader.as_ref().map(|reader| (self.cursor.sequence, &reader.file));
        for (sequence, file) in written.into_iter().chain(read) {
            let _ = self.put_back(sequence, file);
        }
        self.find_missing();
        let _ = self.marks.renew(&self.disk);
        Err(io::Error::new(ErrorKind::NotFound, "its files were removed while it was in use"))
    }

    /// Restores a segment that lost its name: records are bound to their sequence and position, not to a file.
    fn put_back(&self, sequence: u64, from: &D::File) -> io::Result<()> {
        let segment = self.segments.iter().find(|segment| segment.sequence == sequence);
        let Some(segment) = segment else { return Ok(()) };
        let length = segment.length.min(retry(|| self.disk.length(from))?);
        let into = self.disk.create(&segment.file_name())?;
        let (mut block, mut at) = (vec![0; COPIED_AT_ONCE], 0);
        while at < length {
            let most = (length - at).min(COPIED_AT_ONCE as u64) as usize;
            let read = retry(|| self.disk.read(from, at, block.get_mut(..most).unwrap_or_default()))?;
            if read == 0 {
                break;
            }
            self.disk.write(&into, at, &mut [IoSlice::new(block.get(..read).unwrap_or_default())])?;
            at += read as u64;
        }
        self.disk.sync(&into)?;
        self.disk.sync_names()
    }

    /// A new segment is complete and its name on stable storage before any record is written to it.
    fn begin_segment(&mut self) -> io::Result<()> {
        self.verify()?;
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let name = file_name(sequence);
        let made = self.disk.create(&name).and_then(|file| {
            let header = FileHeader::new(FileKind::Segment, self.identity, sequence, self.next_id, self.before);
            self.disk.write(&file, 0, &mut [IoSlice::new(&header.encode())])?;
            self.disk.sync(&file)?;
            self.disk.sync_names()?;
            Ok(file)
        });
        if made.is_err() {
            // The file may not exist.
            let _ = self.disk.remove(&name);
        }
        self.active = Some(made?);
        self.used += HEADER;
        let (end_id, unread) = (self.next_id, Amount::default());
        self.segments.push_back(Segment { sequence, end_id, length: HEADER, unread, is_kept: false });
        Ok(())
    }

    /// After an error the file is never written again.
    fn give_up(&mut self, error: io::Error) -> AppendError {
        if self.active.take().is_some()
            && let Some(last) = self.segments.back().filter(|last| last.length == HEADER)
            && self.disk.remove(&last.file_name()).is_ok()
        {
            self.segments.pop_back();
            self.used -= HEADER;
        }
        self.failures += 1;
        if is_no_space(&error) || self.failures > 1 {
            self.retry_at = self.clock.now() + PAUSE;
        }
        error.into()
    }

    /// Skips records below `next_id` that were not read: they are gone.
    fn pass(&mut self, next_id: u64) {
        if next_id > self.cursor.next_id {
            self.marks.fill(self.cursor.next_id, next_id - 1);
            self.cursor.next_id = next_id;
        }
    }

    /// Counts unread records of a segment as gone; records held in memory are still sent.
    fn give_up_rest(&mut self, index: usize) -> Amount {
        let before = index.checked_sub(1).and_then(|before| self.segments.get(before));
        let from = before.map_or(0, |before| before.end_id);
        let Some(segment) = self.segments.get_mut(index) else { return Amount::default() };
        let (all, ids) = (std::mem::take(&mut segment.unread), from..segment.end_id);
        let mut gone = all;
        self.held.retain(|id, amount| {
            if ids.contains(id) {
                gone -= *amount;
                self.marks.fill(*id, *id);
            }
            !ids.contains(id)
        });
        self.waiting -= gone;
        self.marks.write_off(all);
        gone
    }

    fn lose(&mut self, index: usize) {
        let gone = self.give_up_rest(index);
        self.lost += gone;
    }

    /// Counts removed closed segments as lost; true if there were any.
    fn find_missing(&mut self) -> bool {
        self.look_at = self.clock.now() + LOOK;
        if self.segments.iter().all(|segment| segment.unread.is_zero()) {
            return false;
        }
        // Files that cannot be listed may still exist.
        let Ok(names) = self.disk.list() else { return false };
        let names: HashSet<_> = names.into_iter().collect();
        let mut found = false;
        for index in 0..self.segments.len() - usize::from(self.active.is_some()) {
            let Some(segment) = self.segments.get(index) else { break };
            let (Segment { sequence, unread, .. }, name) = (segment, segment.file_name());
            let is_there = |disk: &D| !matches!(disk.open(&name), Err(error) if error.kind() == ErrorKind::NotFound);
            if unread.is_zero() || names.contains(&name) || is_there(&self.disk) {
                continue;
            }
            found = true;
            let reader = self.cursor.reader.as_ref().filter(|_| self.cursor.sequence == *sequence);
            if reader.is_none_or(|reader| self.put_back(*sequence, &reader.file).is_err()) {
                self.lose(index);
            }
        }
        found
    }

    /// Marks a record as settled, whatever its outcome.
    pub fn settle(&mut self, id: u64, amount: Amount) {
        self.marks.settle(id, id, amount);
        self.waiting -= amount;
    }

    /// Gives up the oldest segment with all its unread records.
    pub(crate) fn discard_oldest(&mut self) -> Amount {
        if self.segments.len() == 1 {
            self.active = None;
        }
        let discarded = self.give_up_rest(0);
        self.pass(self.segments.front().map_or(0, |segment| segment.end_id));
        discarded
    }

    /// Writes the settled marks, syncs them each second, and frees space. Errors are retried on the next call.
    pub fn tick(&mut self) -> io::Result<()> {
        self.verify()?;
        if self.clock.now() >= self.look_at {
            self.removals += u64::from(self.find_missing());
        }
        self.marks.write(&self.disk)?;
        if self.clock.now() >= self.sync_marks_at {
            self.flush()?;
        }
        Ok(())
    }

    /// Does the same at once.
    pub fn flush(&mut self) -> io::Result<()> {
        self.sync_marks_at = self.clock.now() + SYNC_MARKS;
        let large = |last: &Segment| last.length >= self.limits.segment / 4;
        if self.marks.state.low == self.next_id && self.segments.back().is_some_and(large) {
            self.active = None;
        }
        if self.marks.is_behind() {
            self.marks.sync(&self.disk)?;
        }
        self.remove_settled();
        Ok(())
    }

    fn remove_settled(&mut self) {
        let mut removed = false;
        while let Some(first) = self.segments.front() {
            let is_active = self.segments.len() == 1 && self.active.is_some();
            if is_active || first.end_id > self.marks.synced_low || !first.unread.is_zero() {
                break;
            }
            if !first.is_kept {
                match self.disk.remove(&first.file_name()) {
                    Err(error) if error.kind() != ErrorKind::NotFound => break,
                    _ => {}
                }
            }
            self.used = self.used.saturating_sub(first.length);
            self.segments.pop_front();
            removed = true;
        }
        if removed {
            // If a removed name comes back after a crash, its segment is known to be settled.
            let _ = self.disk.sync_names();
        }
    }

    /// Copies damaged stretches, so a person can inspect them after the segment is removed.
    fn set_aside(&self, damaged: &[(u64, u64, u64)]) -> io::Result<()> {
        let names = self.disk.list()?;
        let mut left = SET_ASIDE.min(self.limits.quota / 16);
        for (sequence, from, to) in damaged {
            let name = format!("{sequence:016x}-{from:x}{SET_ASIDE_SUFFIX}");
            if left == 0
                || names.contains(&name)
                || names.iter().filter(|name| name.ends_with(SET_ASIDE_SUFFIX)).count() > 64
            {
                continue;
            }
            let length = (to - from).min(left).min(1 << 20);
            left -= length;
            let mut bytes = vec![0; length as usize];
            let file = self.disk.open(&file_name(*sequence))?;
            let read = retry(|| self.disk.read(&file, *from, &mut bytes))?;
            let aside = self.disk.create(&name)?;
            self.disk.write(&aside, 0, &mut [IoSlice::new(bytes.get(..read).unwrap_or_default())])?;
        }
        Ok(())
    }
}
