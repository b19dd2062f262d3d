//! The segment log: telemetry on stable storage, one log for each exporter and signal.
//!
//! The log is a plain state machine that depends only on a [`Disk`] and a [`Clock`]. A simulated disk can therefore
//! tear, reorder and lose unsynced writes, and fail any call. Its promises rest on six rules:
//! - a group of records is written only after the group before it was synced, and acknowledged only after its own sync;
//! - a file that failed once is never written or synced again: the next group goes to a new one;
//! - a file of an earlier run is never changed or truncated: damage in it is skipped, counted and copied aside;
//! - settled marks are synced before the segment that held the records is removed;
//! - nothing is acknowledged in a file that was removed meanwhile;
//! - an unreadable file is not a damaged one: while reads of it fail, it is neither skipped, settled nor removed ([`hold`]).

pub(super) mod attempts;
pub mod directory;
pub(crate) mod format;
pub(crate) mod hold;
mod log;
mod marks;
mod scan;
pub(crate) mod survey;

use std::io::{self, IoSlice};
use std::time::Duration;

pub use hold::Opening;
pub(super) use hold::{Hold, Opened};
pub(super) use log::AppendError;
pub use log::{Log, NewRecord, Record};
pub use survey::{Found, OpenError};

/// One directory of files. Every call may fail, and does in the tests.
pub trait Disk {
    type File;
    fn list(&self) -> io::Result<Vec<String>>;
    /// Creates an empty file; fails if it exists.
    fn create(&self, name: &str) -> io::Result<Self::File>;
    fn open(&self, name: &str) -> io::Result<Self::File>;
    fn length(&self, file: &Self::File) -> io::Result<u64>;
    /// Reads up to the length of `into`; 0 at the end of the file.
    fn read(&self, file: &Self::File, at: u64, into: &mut [u8]) -> io::Result<usize>;
    /// Writes all pieces, one after another.
    fn write(&self, file: &Self::File, at: u64, pieces: &mut [IoSlice]) -> io::Result<()>;
    /// Returns when everything written to the file is on stable storage.
    fn sync(&self, file: &Self::File) -> io::Result<()>;
    /// Returns when created, renamed and removed names are on stable storage.
    fn sync_names(&self) -> io::Result<()>;
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Free space of the filesystem.
    fn free_bytes(&self) -> io::Result<u64>;
    /// Whether the next run would find these files: each still has a name, and the opened directory is still at its
    /// path with our lock.
    fn keeps<'a>(&self, files: impl Iterator<Item = &'a Self::File>) -> io::Result<bool>
    where
        Self::File: 'a;
    /// Recreates a missing directory and locks it for this process.
    fn restore(&mut self) -> io::Result<()>;
}

/// Time since some moment before the log was opened. It only decides when to retry; no promise depends on it.
pub trait Clock {
    fn now(&self) -> Duration;
}

/// How much a log may hold, and how it writes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Total size of all segments in bytes.
    pub quota: u64,
    /// A segment longer than this takes no further group.
    pub segment: u64,
    /// Bytes that must stay free on the filesystem.
    pub min_free: u64,
    /// Half the size of the marks file.
    pub marks: u64,
    /// Whether a group is synced before it counts as written. Without sync it survives a crash of the process, not of
    /// the machine.
    pub sync: bool,
}

/// Maximum bytes of one group, written between two syncs.
pub(super) const GROUP: u64 = 8 << 20;

impl Limits {
    /// The largest record that an idle log takes within its quota: a part of its last segment may still be there.
    pub(super) fn most_bytes(&self) -> u64 {
        self.quota.saturating_sub(self.segment / 2)
    }

    /// Limits for a filesystem of `total` bytes: a tenth of it, at most 1 GiB.
    pub(crate) fn of_filesystem(total: u64, sync: bool) -> Limits {
        let quota = (total / 10).min(1 << 30);
        let segment = (quota / 16).clamp(1 << 20, 16 << 20);
        Limits { quota, segment, min_free: (total / 20).min(256 << 20), marks: 128 << 10, sync }
    }
}

/// How much telemetry: in requests, items, and bytes on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// 0 where only sums are kept.
    pub records: u64,
    pub items: u64,
    pub bytes: u64,
}

impl Amount {
    pub fn sums(items: u64, bytes: u64) -> Amount {
        Amount { records: 0, items, bytes }
    }

    pub fn is_zero(&self) -> bool {
        self.items == 0 && self.bytes == 0 && self.records == 0
    }
}

// Numbers read from a file may be anything, so both directions saturate.
impl std::ops::Add for Amount {
    type Output = Amount;

    fn add(self, more: Amount) -> Amount {
        Amount {
            records: self.records.saturating_add(more.records),
            items: self.items.saturating_add(more.items),
            bytes: self.bytes.saturating_add(more.bytes),
        }
    }
}

impl std::ops::Sub for Amount {
    type Output = Amount;

    fn sub(self, less: Amount) -> Amount {
        Amount {
            records: self.records.saturating_sub(less.records),
            items: self.items.saturating_sub(less.items),
            bytes: self.bytes.saturating_sub(less.bytes),
        }
    }
}

impl std::ops::AddAssign for Amount {
    fn add_assign(&mut self, more: Amount) {
        *self = *self + more;
    }
}

impl std::ops::SubAssign for Amount {
    fn sub_assign(&mut self, less: Amount) {
        *self = *self - less;
    }
}
