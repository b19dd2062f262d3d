//! The survey of a directory: reads every byte, changes none, and counts exactly how much is missing.
//!
//! The count does not depend on the kind of damage. The sum of everything ever synced is known, and so is the sum of
//! everything settled or lost before. The difference to the unsettled records that verify is the loss.

use std::io;

use super::format::{FARTHEST, FileHeader, FileKind, HEADER, Identity, VERSION};
use super::marks::{self, Read};
use super::scan::{Piece, Reader};
use super::{Amount, Disk};

const SUFFIX: &str = ".segment";
/// Suffix of a file that was unreadable for long. Its readable records still count, and it is never removed.
pub const UNREADABLE: &str = ".unreadable";

/// Why a log was not opened; its files are untouched.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{file} was written by a newer version (format {version}, this one knows {VERSION})")]
    Newer { file: String, version: u16 },
    /// May succeed later.
    #[error("cannot read {file}: {error}")]
    Unreadable { file: String, error: io::Error },
    /// Not damage either.
    #[error(
        "cannot open {file}: {error}; while it is there, the queue is not opened: what it holds is lost when you move it elsewhere"
    )]
    Closed { file: String, error: io::Error },
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// The result of opening a log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    pub waiting: Amount,
    /// Synced, unsettled and missing.
    pub lost: Amount,
    /// Stretches that do not verify, in bytes: damaged, or never acknowledged.
    pub damaged_bytes: u64,
    /// Files with unreadable parts. Records there count as lost.
    pub(crate) unreadable: u64,
    /// The oldest waiting record.
    pub(crate) oldest_nanos: Option<u64>,
    pub(crate) segments: usize,
}

/// A file of records.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) sequence: u64,
    /// The id after its last record. Records beyond it were refused when they were written.
    pub(super) end_id: u64,
    /// Where its last record ends.
    pub(super) length: u64,
    /// Waiting records not read yet.
    pub(super) unread: Amount,
    /// Whether it is kept for ever; its readable parts are used.
    pub(super) is_kept: bool,
}

impl Segment {
    pub(super) fn file_name(&self) -> String {
        name_of(self.sequence, self.is_kept)
    }
}

pub(crate) struct Survey {
    pub(super) identity: Identity,
    pub(super) marks: Read,
    pub(super) segments: Vec<Segment>,
    pub(super) next_sequence: u64,
    pub(super) next_id: u64,
    /// The synced part, set if the last group may not have been synced.
    pub(super) durable: Option<(u64, Amount)>,
    pub(super) found: Found,
    /// Sequence, from, to.
    pub(super) damaged: Vec<(u64, u64, u64)>,
}

/// Maximum damaged stretches remembered; further ones are only counted.
const REMEMBERED: usize = 1024;

pub(super) fn file_name(sequence: u64) -> String {
    format!("{sequence:016x}{SUFFIX}")
}

fn name_of(sequence: u64, is_kept: bool) -> String {
    if is_kept { format!("{sequence:016x}{UNREADABLE}") } else { file_name(sequence) }
}

/// A segment's sequence, and whether it is kept for ever.
fn sequence_of(name: &str) -> Option<(u64, bool)> {
    let (digits, is_kept) = match name.strip_suffix(SUFFIX) {
        Some(digits) => (digits, false),
        None => (name.strip_suffix(UNREADABLE)?, true),
    };
    let sequence =
        u64::from_str_radix(digits, 16).ok().filter(|sequence| digits.len() == 16 && *sequence < FARTHEST)?;
    Some((sequence, is_kept))
}

pub(super) fn is_segment(name: &str) -> bool {
    sequence_of(name).is_some()
}

/// The header of a file; with `passes`, an unreadable one counts as damaged.
fn header_of<D: Disk>(disk: &D, name: &str, passes: bool) -> Result<Option<FileHeader>, OpenError> {
    let mut bytes = [0; HEADER as usize];
    let (file, _) = open(disk, name)?;
    match retry(|| disk.read(&file, 0, &mut bytes)) {
        Err(error) if !passes => Err(OpenError::Unreadable { file: name.to_owned(), error }),
        Err(_) => Ok(None),
        Ok(_) => Ok(FileHeader::decode(&bytes)),
    }
}

/// The marks; `None` when they cannot be read and `passes` is set.
fn marks_of<D: Disk>(disk: &D, identity: Identity, passes: bool) -> Result<Option<Read>, OpenError> {
    let (file, length) = open(disk, marks::NAME)?;
    match retry(|| marks::read(disk, &file, length, identity)) {
        Err(error) if !passes => Err(OpenError::Unreadable { file: marks::NAME.to_owned(), error }),
        read => Ok(read.ok()),
    }
}

/// A file and its length. Failure to open is not damage: not starting is better than declaring a loss.
fn open<D: Disk>(disk: &D, name: &str) -> Result<(D::File, u64), OpenError> {
    let opened = retry(|| {
        let file = disk.open(name)?;
        let length = disk.length(&file)?;
        Ok((file, length))
    });
    opened.map_err(|error| OpenError::Closed { file: name.to_owned(), error })
}

/// Retries twice: a failure may be transient.
pub(super) fn retry<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    attempt().or_else(|_| attempt()).or_else(|_| attempt())
}

/// Surveys the directory. `fresh` is the identity of a log that does not exist yet. An unreadable file ends the survey,
/// unless `passes` is set.
pub(crate) fn survey<D: Disk>(disk: &D, fresh: Identity, passes: bool) -> Result<Survey, OpenError> {
    let names = disk.list()?;
    let mut sequences: Vec<_> = names.iter().filter_map(|name| sequence_of(name)).collect();
    sequences.sort_unstable();
    sequences.dedup_by_key(|(sequence, _)| *sequence);
    let mut headers = Vec::with_capacity(sequences.len());
    for (sequence, is_kept) in &sequences {
        headers.push(header_of(disk, &name_of(*sequence, *is_kept), passes || *is_kept)?);
    }
    let has_marks = names.iter().any(|name| name == marks::NAME);
    let marks_header = if has_marks { header_of(disk, marks::NAME, passes)? } else { None };
    let files =
        sequences.iter().map(|(sequence, is_kept)| name_of(*sequence, *is_kept)).chain([marks::NAME.to_owned()]);
    for (file, header) in files.zip(headers.iter().chain([&marks_header])) {
        if let Some(FileHeader { version, .. }) = header
            && *version > VERSION
        {
            return Err(OpenError::Newer { file, version: *version });
        }
    }
    let identity = elect(&headers, &marks_header, fresh);
    let is_ours = |header: &FileHeader, sequence: u64| {
        header.identity == identity && header.sequence == sequence && header.kind == FileKind::Segment as u8
    };
    let headers: Vec<_> = sequences
        .iter()
        .zip(headers)
        .map(|((sequence, _), header)| header.filter(|header| is_ours(header, *sequence)))
        .collect();
    let marks = if has_marks { marks_of(disk, identity, passes)? } else { Some(Read::default()) };
    let mut found = Found { segments: sequences.len(), ..Found::default() };
    found.unreadable += u64::from(marks.is_none());
    let mut survey = Survey {
        identity,
        marks: marks.unwrap_or_default(),
        segments: Vec::new(),
        next_sequence: sequences.last().map_or(1, |(last, _)| last.saturating_add(1)),
        next_id: 1,
        durable: None,
        found,
        damaged: Vec::new(),
    };
    // With incomplete marks, settled records of removed segments must not look lost.
    let first = headers.iter().flatten().next();
    if let Some(first) = first.filter(|first| !survey.marks.whole && survey.marks.state.low < first.first) {
        survey.marks.state.rebase(first.first, first.before);
    }
    let mut scan = Scan { next_id: 1, durable: survey.marks.state.durable, in_last_group: Amount::default() };
    for (index, (sequence, is_kept)) in sequences.iter().enumerate() {
        if let Some(Some(header)) = headers.get(index) {
            scan.reach(header.first, header.before);
        }
        let bound = headers.iter().skip(index + 1).flatten().map(|header| header.first).min().unwrap_or(u64::MAX);
        scan.segment(disk, (*sequence, *is_kept), passes, bound, &mut survey)?;
    }
    let state = &survey.marks.state;
    let (durable_id, durable) = scan.durable;
    let expected = durable - state.settled_in_all() - state.written_off;
    let waiting = survey.found.waiting;
    let lost = expected - (waiting - scan.in_last_group);
    survey.found.lost = Amount { records: 0, ..lost };
    survey.durable = (!scan.in_last_group.is_zero()).then_some(scan.durable);
    survey.next_id = durable_id.max(scan.next_id).max(survey.marks.state.end());
    Ok(survey)
}

/// The log's identity: the one in most headers.
fn elect(headers: &[Option<FileHeader>], marks: &Option<FileHeader>, fresh: Identity) -> Identity {
    let all = || marks.iter().chain(headers.iter().flatten()).map(|header| header.identity);
    let votes = |identity: Identity| all().filter(|other| *other == identity).count();
    // The marks come first and win a tie.
    let mut elected = None;
    for identity in all() {
        if elected.is_none_or(|(_, most)| votes(identity) > most) {
            elected = Some((identity, votes(identity)));
        }
    }
    elected.map_or(fresh, |(identity, _)| identity)
}

struct Scan {
    next_id: u64,
    /// All records below are known to have been synced, with their sum.
    durable: (u64, Amount),
    /// Waiting records that may not have been synced.
    in_last_group: Amount,
}

impl Scan {
    fn reach(&mut self, id: u64, before: Amount) {
        if id > self.durable.0 {
            self.durable = (id, before);
            self.in_last_group = Amount::default();
        }
    }

    fn segment<D: Disk>(
        &mut self,
        disk: &D,
        (sequence, is_kept): (u64, bool),
        passes: bool,
        bound: u64,
        survey: &mut Survey,
    ) -> Result<(), OpenError> {
        let (end_id, unread) = (self.next_id, Amount::default());
        let mut segment = Segment { sequence, end_id, length: HEADER, unread, is_kept };
        let state = &survey.marks.state;
        if is_kept && bound <= state.low {
            return Ok(());
        }
        let name = segment.file_name();
        let (file, end) = open(disk, &name)?;
        if bound <= state.low {
            (segment.end_id, segment.length) = (bound, end);
            survey.segments.push(segment);
            return Ok(());
        }
        let mut reader = Reader::new(file, passes || is_kept);
        let mut at = HEADER;
        while at < end {
            let piece = reader.piece(disk, (survey.identity, sequence), at, end);
            let next = match piece.map_err(|error| OpenError::Unreadable { file: name.clone(), error })? {
                Piece::End => break,
                Piece::Damaged { to } => {
                    survey.found.damaged_bytes += to - at;
                    if survey.damaged.len() < REMEMBERED && !is_kept {
                        survey.damaged.push((sequence, at, to));
                    }
                    to
                }
                Piece::Record { frame, .. } => {
                    if frame.id >= self.next_id && frame.id < bound {
                        self.next_id = frame.id.saturating_add(1);
                        self.reach(frame.group, frame.before);
                        if !state.is_settled(frame.id) {
                            survey.found.waiting += frame.amount();
                            segment.unread += frame.amount();
                            let oldest = survey.found.oldest_nanos.get_or_insert(frame.received_nanos);
                            *oldest = frame.received_nanos.min(*oldest);
                            if frame.id >= self.durable.0 {
                                self.in_last_group += frame.amount();
                            }
                        }
                    }
                    segment.length = at + frame.span();
                    segment.length
                }
            };
            at = next;
        }
        survey.found.unreadable += u64::from(reader.gaps > 0);
        segment.end_id = self.next_id.max(state.low);
        segment.length = segment.length.min(end);
        survey.segments.push(segment);
        Ok(())
    }
}
