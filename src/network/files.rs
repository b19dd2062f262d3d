//! The content of files that are read again when they change: certificates and credentials. Workers never block on a
//! file: another thread reads it, and the known content stays in force meanwhile.

use std::fmt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::{Mutex, MutexGuard};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config::files::{self, Place};

/// Maximum length of a credentials or certificate file.
const LONGEST: u64 = 1 << 20;
/// A file changed this recently may change again within one tick of its clock.
const RECENT: Duration = Duration::from_secs(2);
/// How long a request waits for a check that has just begun, so that revoked credentials are refused at once. Reading
/// takes far less. If a mount hangs, only one round of requests waits.
const PATIENCE: Duration = Duration::from_millis(100);

/// Reads a secret or a certificate, up to `LONGEST`.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    files::read(path, LONGEST, Place::File)
}

/// Identifies a version of a file: its time, its length, and its inode.
type Stamp = (SystemTime, u64, u64);

/// Parses the files; `None` if they say that nothing is in force any more.
type Load<T> = Box<dyn Fn(&[PathBuf]) -> Result<Option<T>, String> + Send + Sync>;

/// Files and their parsed content, shared by all users. At most one check runs at a time (`is_looking`), without the
/// lock; it replaces `value` only if it succeeds, or if the files revoke it.
pub struct Watched<T>(Arc<Inner<T>>);

struct Inner<T> {
    /// Names the content or its config keys, for the log.
    what: String,
    files: Vec<PathBuf>,
    /// Minimum interval between checks, which happen only on use; zero means once.
    every: Duration,
    load: Load<T>,
    state: Mutex<State<T>>,
    looked: Notify,
}

struct State<T> {
    value: Option<Arc<T>>,
    /// When the last check began.
    began: Option<Instant>,
    is_looking: bool,
    /// The versions that were read; `None` forces another read.
    stamps: Option<Vec<Stamp>>,
    failure: Option<String>,
}

impl<T: PartialEq + Send + Sync + 'static> Watched<T> {
    /// Reads nothing yet.
    pub fn new(
        what: impl Into<String>,
        files: Vec<PathBuf>,
        every: Duration,
        load: impl Fn(&[PathBuf]) -> Result<Option<T>, String> + Send + Sync + 'static,
    ) -> Watched<T> {
        let state = State { value: None, began: None, is_looking: false, stamps: None, failure: None };
        let (load, state) = (Box::new(load), Mutex::new(state));
        Watched(Arc::new(Inner { what: what.into(), files, every, load, state, looked: Notify::new() }))
    }

    /// Checks the files on this thread.
    pub fn look(&self) -> Result<Arc<T>, String> {
        self.0.begin(self.0.state.lock()).look();
        self.known()
    }

    /// The content in force, after a short wait for a check that has just begun; `anew` checks the files at once.
    pub async fn current(&self, anew: bool) -> Result<Arc<T>, String> {
        let mut looked = pin!(self.0.looked.notified());
        looked.as_mut().enable();
        self.begin_if_due(anew);
        if let Some(patience) = self.0.patience() {
            let _ = tokio::time::timeout(patience, looked).await;
        }
        let mut state = self.0.state.lock();
        if state.is_looking {
            self.0.fail(&mut state, format!("no answer from {:?} within {PATIENCE:?}", self.0.files));
        }
        state.known()
    }

    /// The same for callers that cannot wait: changes take effect on the next call.
    pub fn glance(&self) -> Result<Arc<T>, String> {
        self.begin_if_due(false);
        self.known()
    }

    fn begin_if_due(&self, anew: bool) {
        let Inner { files, every, .. } = &*self.0;
        let state = self.0.state.lock();
        let is_fresh = |began: Instant| files.is_empty() || every.is_zero() || (!anew && began.elapsed() < *every);
        if state.is_looking || state.began.is_some_and(is_fresh) {
            return;
        }
        let looking = self.0.begin(state);
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || looking.look())),
            Err(_) => looking.look(),
        }
    }

    /// What is in force, without a look.
    pub(super) fn known(&self) -> Result<Arc<T>, String> {
        self.0.state.lock().known()
    }
}

impl<T> State<T> {
    fn known(&self) -> Result<Arc<T>, String> {
        self.value.clone().ok_or_else(|| self.failure.clone().unwrap_or_default())
    }
}

/// A check in progress; its end is recorded even after a panic.
struct Looking<T>(Arc<Inner<T>>);

impl<T: PartialEq> Looking<T> {
    fn look(self) {
        let Inner { files, load, .. } = &*self.0;
        let stamps: Option<Vec<_>> = files.iter().map(|path| stamp(path)).collect();
        let state = self.0.state.lock();
        let is_same = state.value.is_some() && stamps.is_some() && stamps == state.stamps;
        drop(state);
        let read = (!is_same).then(|| load(files));
        let mut state = self.0.state.lock();
        self.0.take(&mut state, stamps, read);
        state.is_looking = false;
    }
}

impl<T> Drop for Looking<T> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        if std::mem::take(&mut state.is_looking) {
            self.0.fail(&mut state, "what reads it panicked".to_owned());
        }
        drop(state);
        self.0.looked.notify_waiters();
    }
}

impl<T> Inner<T> {
    fn begin(self: &Arc<Self>, mut state: MutexGuard<State<T>>) -> Looking<T> {
        state.began = Some(Instant::now());
        state.is_looking = true;
        Looking(self.clone())
    }

    /// How long to wait for the check in progress.
    fn patience(&self) -> Option<Duration> {
        let state = self.state.lock();
        let waited = state.began.map_or(Duration::ZERO, |began| began.elapsed());
        state.is_looking.then(|| PATIENCE.saturating_sub(waited))
    }

    /// Stores what was read. After a failure the known content stays.
    fn take(&self, state: &mut State<T>, stamps: Option<Vec<Stamp>>, read: Option<Result<Option<T>, String>>)
    where
        T: PartialEq,
    {
        match read {
            None => state.failure = None,
            Some(Ok(Some(value))) => {
                if state.value.as_deref().is_some_and(|known| *known != value) {
                    tracing::info!(what = self.what.as_str(), files = ?self.files, "read again, and in force");
                }
                (state.value, state.stamps, state.failure) = (Some(Arc::new(value)), stamps, None);
            }
            Some(Ok(None)) => {
                let error = "the file is empty".to_owned();
                if state.value.take().is_some() {
                    tracing::error!(what = self.what.as_str(), files = ?self.files, "the file was emptied: nothing of it is valid any more");
                    state.failure = Some(error.clone());
                }
                self.fail(state, error);
            }
            Some(Err(error)) => self.fail(state, error),
        }
    }

    /// Logs a failure once until it changes.
    fn fail(&self, state: &mut State<T>, error: String) {
        if state.failure.as_ref() != Some(&error) {
            let what = self.what.as_str();
            match state.value {
                Some(_) => tracing::warn!(%error, what, "cannot read it again: the old one stays in force"),
                None => {
                    tracing::warn!(%error, what, "nothing is in force until it can be read: make the file, or name another")
                }
            }
        }
        (state.stamps, state.failure) = (None, Some(error));
    }
}

impl<T> fmt::Debug for Watched<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        // The content is secret.
        formatter.debug_struct("Watched").field("files", &self.0.files).finish_non_exhaustive()
    }
}

/// `None` if the file is missing, or too recent to distinguish from its next version.
fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    #[cfg(unix)]
    let number = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let number = 0;
    let modified = metadata.modified().ok()?;
    let is_settled = SystemTime::now().duration_since(modified).is_ok_and(|age| age > RECENT);
    is_settled.then_some((modified, metadata.len(), number))
}
