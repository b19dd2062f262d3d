//! The segment log: telemetry that waits on stable storage, one log for each exporter and signal (reliability 2.3–2.7).
//!
//! The log is a plain state machine: it sees a [`Disk`] and a [`Clock`] and nothing else, so a simulated disk can tear,
//! reorder and lose what was not synced, and fail any call. What it promises rests on six rules:
//! - a group of records is written only after the group before it was synced, and acknowledged only after its own sync;
//! - a file that failed once is never written or synced again: the next group goes to a new one;
//! - nothing is changed or cut in a file of an earlier run: what is damaged in it is skipped, counted and set aside;
//! - what was settled is synced before the segment that held it is removed;
//! - nothing is acknowledged in a file that somebody removed meanwhile;
//! - what cannot be read is not damaged: a file in which a read failed is neither passed over, settled nor removed before all of it
//!   was read ([`hold`]).

pub(crate) mod attempts;
pub mod directory;
pub mod format;
pub mod hold;
mod log;
mod marks;
mod scan;
pub mod survey;

use std::io::{self, IoSlice};
use std::time::Duration;

pub use hold::{Hold, Opened, Opening};
pub use log::{AppendError, Log, NewRecord, Record};
pub use survey::{Found, OpenError};

/// One directory of files. Every call may fail, and does in the tests.
pub trait Disk {
    type File;
    fn list(&self) -> io::Result<Vec<String>>;
    /// A new, empty file; fails when there is one.
    fn create(&self, name: &str) -> io::Result<Self::File>;
    fn open(&self, name: &str) -> io::Result<Self::File>;
    fn length(&self, file: &Self::File) -> io::Result<u64>;
    /// Reads what there is, up to the length of `into`; 0 at the end of the file.
    fn read(&self, file: &Self::File, at: u64, into: &mut [u8]) -> io::Result<usize>;
    /// Writes all pieces, one after another.
    fn write(&self, file: &Self::File, at: u64, pieces: &mut [IoSlice]) -> io::Result<()>;
    /// Returns when what was written to the file is on stable storage.
    fn sync(&self, file: &Self::File) -> io::Result<()>;
    /// The same for the names: created, renamed, removed.
    fn sync_names(&self) -> io::Result<()>;
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// What the filesystem still has room for.
    fn free_bytes(&self) -> io::Result<u64>;
    /// Whether the next run would find these files: each still has a name, in the directory that was opened, and ours.
    fn keeps<'a>(&self, files: impl Iterator<Item = &'a Self::File>) -> io::Result<bool>
    where
        Self::File: 'a;
    /// Makes the directory again where it is gone, and takes it for this process.
    fn restore(&mut self) -> io::Result<()>;
}

/// Time since some moment before the log was opened. No promise depends on it, only when things are tried again.
pub trait Clock {
    fn now(&self) -> Duration;
}

/// How much a log may hold and how it writes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// All segments together, in bytes.
    pub quota: u64,
    /// A segment that is longer than this gets no further group.
    pub segment: u64,
    /// What must stay free on the filesystem.
    pub min_free: u64,
    /// Half of the file that says what is settled.
    pub marks: u64,
    /// Whether a group is synced before it counts as written. Without, it survives the process but not the machine.
    pub sync: bool,
}

/// The most bytes of one group: what is written between two syncs.
pub const GROUP: u64 = 8 << 20;

impl Limits {
    /// What suits a filesystem of `total` bytes (DESIGN 5).
    pub fn of_filesystem(total: u64, sync: bool) -> Limits {
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

// Numbers that come from a file may be anything, so both directions saturate.
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
