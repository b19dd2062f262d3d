//! What happens while a file cannot be read: it is neither damaged nor gone. The log waits and retries for as long as
//! the whole disk fails. If other files can be read, the file is bad: after a while it is renamed. Unreadable parts of
//! it are then skipped, and it is never removed.

use std::io;
use std::time::Duration;

use super::format::Identity;
use super::log::Log;
use super::survey::{self, Found, OpenError, UNREADABLE, survey};
use super::{Clock, Disk, Limits, marks};

/// Pause before a log with a failing disk retries.
pub const PAUSE: Duration = Duration::from_secs(5);
/// Failed attempts in a row (five minutes) before one file is skipped, if the disk reads elsewhere.
pub const ATTEMPTS: u32 = 60;

/// A read failure that is being retried.
#[derive(Debug)]
pub struct Hold {
    pub(crate) file: String,
    pub error: String,
    attempts: u32,
    again: Duration,
}

impl Hold {
    /// The state after another failure, or after the first.
    pub(super) fn after(before: Option<Hold>, now: Duration, file: String, error: &io::Error) -> Hold {
        let attempts = before.map_or(0, |hold| hold.attempts).saturating_add(1);
        Hold { file, error: error.to_string(), attempts, again: now + PAUSE }
    }

    pub(super) fn rests(&self, now: Duration) -> bool {
        now < self.again
    }

    /// Whether the file, and not the disk, has failed for too long.
    pub(super) fn is_hopeless<D: Disk>(&self, disk: &D, attempts: u32) -> bool {
        self.attempts >= attempts && reads_elsewhere(disk, &self.file)
    }
}

/// Whether another file of the log can be read, if there is one, and names can be written.
fn reads_elsewhere<D: Disk>(disk: &D, file: &str) -> bool {
    let Ok(names) = disk.list() else { return false };
    let mut others = names.iter().filter(|name| *name != file && (*name == marks::NAME || survey::is_segment(name)));
    let reads = |name: &String| disk.read(&disk.open(name)?, 0, &mut [0]);
    disk.sync_names().is_ok() && (others.clone().next().is_none() || others.any(|name| reads(name).is_ok()))
}

/// Renames a file so that it is kept for ever.
pub(super) fn keep<D: Disk>(disk: &D, file: &str) -> io::Result<()> {
    let stem = file.split_once('.').map_or(file, |(stem, _)| stem);
    disk.rename(file, &format!("{stem}{UNREADABLE}"))?;
    // If the old name comes back after a crash, all of this happens again.
    let _ = disk.sync_names();
    Ok(())
}

/// A log that is not open yet. Until every byte was read once, its content is unknown, and it accepts nothing.
pub struct Opening<D: Disk, C: Clock> {
    disk: D,
    clock: C,
    limits: Limits,
    /// The identity for a new log.
    fresh: Identity,
    attempts: u32,
    hold: Option<Hold>,
    /// Files that are skipped from now on.
    kept: Vec<String>,
}

pub(crate) type Opened<D, C> = Result<(Log<D, C>, Found), (Box<Opening<D, C>>, OpenError)>;

impl<D: Disk, C: Clock> Opening<D, C> {
    pub fn new(disk: D, clock: C, limits: Limits, fresh: Identity, attempts: u32) -> Opening<D, C> {
        Opening { disk, clock, limits, fresh, attempts, hold: None, kept: Vec::new() }
    }

    /// Tries once; the caller waits [`PAUSE`] before the next attempt.
    pub fn attempt(mut self) -> Opened<D, C> {
        loop {
            let (file, error) = match survey(&self.disk, self.fresh, false) {
                Ok(survey) => {
                    let (mut log, found) = Log::begin(self.disk, self.clock, self.limits, survey);
                    log.kept = self.kept;
                    return Ok((log, found));
                }
                Err(OpenError::Unreadable { file, error }) => (file, error),
                Err(error) => return Err((Box::new(self), error)),
            };
            let now = self.clock.now();
            let hold = Hold::after(self.hold.take(), now, file.clone(), &error);
            let hold = self.hold.insert(hold);
            if !hold.is_hopeless(&self.disk, self.attempts) || keep(&self.disk, &file).is_err() {
                return Err((Box::new(self), OpenError::Unreadable { file, error }));
            }
            self.kept.push(file);
        }
    }
}
