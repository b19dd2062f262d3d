//! A directory for queues: the location and size limit of each log.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::disk::{Limits, directory};

/// The subdirectory of our logs: the Go collector's files may stand beside it.
pub(crate) const OURS: &str = "misaki";

#[derive(Clone, Debug)]
pub(crate) struct Storage {
    pub(crate) directory: PathBuf,
    /// How long to wait for another process to release a log.
    pub(crate) timeout: Duration,
    pub(crate) max_size: Option<u64>,
    pub(crate) fsync: bool,
}

impl Storage {
    /// The log's path for one exporter and signal.
    pub(crate) fn log_path(&self, exporter: &str, signal: &str) -> PathBuf {
        let name: String = exporter.chars().map(escaped).collect();
        self.directory.join(OURS).join(format!("exporter_{name}_{signal}"))
    }

    /// The directory, or its nearest existing ancestor: the directory is created with the first log.
    fn there(&self) -> &Path {
        self.directory.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."))
    }

    /// Why this filesystem is unsafe for a queue.
    pub(crate) fn hazard(&self) -> Option<&'static str> {
        directory::hazard(self.there())
    }

    pub(crate) fn limits(&self) -> std::io::Result<Limits> {
        let (total, _) = directory::space(self.there())?;
        let mut limits = Limits::of_filesystem(total, self.fsync);
        if let Some(size) = self.max_size {
            limits.quota = size.max(1 << 20);
            limits.segment = (limits.quota / 16).clamp(256 << 10, 16 << 20);
        }
        Ok(limits)
    }

    /// The Go collector's queues in the same directory. They are not read or changed.
    pub(crate) fn foreign_files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
        let names = files.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| name.starts_with("exporter_")).collect()
    }
}

/// Escapes a character of a file name as the Go collector does.
fn escaped(character: char) -> String {
    match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => character.to_string(),
        '/' => "_".to_owned(),
        other => format!("~{:04X}", u32::from(other)),
    }
}
