//! Dead letters: batches that the upstream will never accept, and batches whose sending panics. They are kept beside
//! the queue for a person to inspect and send again.
//!
//! In the ledger they count as dropped, under their reason. The oldest make room for new ones.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

use bytes::Bytes;

use crate::telemetry::{Reason, Telemetry};

use super::disk::directory::Directory;
use super::disk::format::HEADER;
use super::disk::survey::UNREADABLE;
use super::disk::{AppendError, Limits, Log, NewRecord, Opening};

/// Maximum size on disk.
const QUOTA: u64 = 64 << 20;
/// The folder inside the queue's directory.
pub(crate) const FOLDER: &str = "dead_letters";

/// The reasons as stored on disk; never renumber them.
const KINDS: &[(u8, Reason)] = &[(1, Reason::TooLarge), (2, Reason::RejectedUpstream), (3, Reason::Internal)];

/// The reason for which a record was set aside.
pub(crate) fn reason(kind: u8) -> Option<Reason> {
    KINDS.iter().find(|(known, _)| *known == kind).map(|(_, reason)| *reason)
}

/// Whether telemetry dropped for this reason is kept as a dead letter.
pub fn are_kept(reason: Reason) -> bool {
    KINDS.iter().any(|(_, known)| *known == reason)
}

fn limits(queue: Limits) -> Limits {
    let quota = QUOTA.min(queue.quota / 4);
    Limits { quota, segment: (quota / 16).max(64 << 10), ..queue }
}

/// Opened with the first dead letter.
pub(super) struct DeadLetters {
    path: PathBuf,
    limits: Limits,
    log: Option<Log<Directory, Instant>>,
}

impl DeadLetters {
    pub(super) fn new(queue: &Path, limits_of_queue: Limits) -> DeadLetters {
        DeadLetters { path: queue.join(FOLDER), limits: limits(limits_of_queue), log: None }
    }

    /// Writes them, and returns when they are on stable storage. If writing fails, they are lost; they are already
    /// counted as dropped.
    pub(super) fn put(&mut self, letters: &[(Telemetry, Reason)]) -> Result<(), String> {
        let log = match &mut self.log {
            Some(log) => log,
            none => {
                let directory = Directory::take(&self.path, Duration::ZERO).map_err(|error| error.to_string())?;
                // One attempt only: unreadable old letters must not keep out new ones.
                let opening = Opening::new(directory, Instant::now(), self.limits, super::store::identity(), 1);
                none.insert(opening.attempt().map_err(|(_, error)| error.to_string())?.0)
            }
        };
        for file in log.take_kept() {
            tracing::error!(folder = %self.path.display(), file, "dead letters cannot be read: the file is kept as *{UNREADABLE}");
        }
        for (telemetry, reason) in letters {
            let parts: Vec<Bytes> = telemetry.parts.iter().map(|part| part.bytes.clone()).collect();
            let received = telemetry.received.wall.duration_since(UNIX_EPOCH).unwrap_or_default();
            let record = NewRecord {
                kind: KINDS.iter().find(|(_, known)| known == reason).map_or(0, |(kind, _)| *kind),
                items: u32::try_from(telemetry.items()).unwrap_or(u32::MAX),
                received_nanos: u64::try_from(received.as_nanos()).unwrap_or(u64::MAX),
                parts: &parts,
            };
            if telemetry.bytes() as u64 + 2 * HEADER > self.limits.most_bytes() {
                return Err(format!("{} bytes are more than all dead letters may take", telemetry.bytes()));
            }
            let mut outcome = log.append(std::slice::from_ref(&record), false);
            while matches!(outcome, Err(AppendError::Quota { .. })) && !log.discard_oldest().is_zero() {
                log.flush().map_err(|error| error.to_string())?;
                outcome = log.append(std::slice::from_ref(&record), false);
            }
            outcome.map_err(|error| error.to_string())?;
        }
        log.tick().map_err(|error| error.to_string())
    }
}
