//! What shows that a file has changed: certificates and credentials are read again by it.

use std::path::Path;
use std::time::{Duration, SystemTime};

/// A file that changed so short a time ago may have changed again within one tick of its clock.
const RECENT: Duration = Duration::from_secs(2);

/// What changes when a file does: its time, its length, and which file it is.
pub type Stamp = (SystemTime, u64, u64);

/// None when one of them is not there, or too young to be told apart from its next version.
pub fn stamps<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Option<Vec<Stamp>> {
    paths.into_iter().map(stamp).collect()
}

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
