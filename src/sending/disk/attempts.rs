//! Which record was in flight when the process ended. A record that crashes the process must not do so for ever.
//!
//! The file exists while the log is in use, so it also shows that the last run did not end cleanly. It is not synced:
//! it must survive the process, not the machine.

use std::io::{self, ErrorKind, IoSlice};

use super::Disk;
use super::format::{Fields, Identity, Writer};
use super::survey::retry;

const NAME: &str = "attempts";
const LENGTH: usize = 20;

/// The record that is sent alone, and how many runs have started to send it; none in flight when `runs` is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Attempts {
    pub(crate) id: u64,
    pub(crate) runs: u64,
}

/// The attempts of the last run; `None` if it ended cleanly. If the file exists, it did not, even if the file cannot be
/// read.
pub(super) fn read<D: Disk>(disk: &D, identity: Identity) -> Option<Attempts> {
    let mut bytes = [0; LENGTH];
    match retry(|| disk.read(&disk.open(NAME)?, 0, &mut bytes)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        _ => {}
    }
    let fields = Fields::checked(&bytes, &identity);
    Some(fields.and_then(|mut fields| Some(Attempts { id: fields.number()?, runs: fields.u64()? })).unwrap_or_default())
}

pub(super) fn write<D: Disk>(disk: &D, identity: Identity, attempts: Attempts) -> io::Result<()> {
    let mut out = Writer::<LENGTH>::default();
    out.put(&attempts.id.to_le_bytes());
    out.put(&attempts.runs.to_le_bytes());
    let file = disk.open(NAME).or_else(|_| disk.create(NAME))?;
    disk.write(&file, 0, &mut [IoSlice::new(&out.finish(&identity))])
}

pub(super) fn clear<D: Disk>(disk: &D) -> io::Result<()> {
    disk.remove(NAME)
}
