//! A directory for queues: where the log of each is, and how much it may take.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::disk::{Limits, directory};

/// Where our logs are, inside of the directory: the Go collector's files stand beside it.
pub const OURS: &str = "misaki";

#[derive(Clone, Debug)]
pub struct Storage {
    pub directory: PathBuf,
    /// How long to wait for another process to leave a log.
    pub timeout: Duration,
    pub max_size: Option<u64>,
    pub fsync: bool,
}

impl Storage {
    /// Where the log of one exporter and signal is.
    pub fn log_path(&self, exporter: &str, signal: &str) -> PathBuf {
        let name: String = exporter.chars().map(escaped).collect();
        self.directory.join(OURS).join(format!("exporter_{name}_{signal}"))
    }

    /// The directory, or what it will be made in: that happens with the first log.
    fn there(&self) -> &Path {
        self.directory.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."))
    }

    /// Why this is no place for a queue.
    pub fn hazard(&self) -> Option<&'static str> {
        directory::hazard(self.there())
    }

    pub fn limits(&self) -> std::io::Result<Limits> {
        let (total, _) = directory::space(self.there())?;
        let mut limits = Limits::of_filesystem(total, self.fsync);
        if let Some(size) = self.max_size {
            limits.quota = size.max(1 << 20);
            limits.segment = (limits.quota / 16).clamp(256 << 10, 16 << 20);
        }
        Ok(limits)
    }

    /// Queues of the Go collector in the same directory: not read, and left alone.
    pub fn foreign_files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
        let names = files.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| name.starts_with("exporter_")).collect()
    }
}

/// What may stand in a file name as it is; the rest as the Go collector escapes it.
fn escaped(character: char) -> String {
    match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => character.to_string(),
        '/' => "_".to_owned(),
        other => format!("~{:04X}", u32::from(other)),
    }
}
