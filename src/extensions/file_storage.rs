//! `file_storage`: the directory that sending queues keep their telemetry in (facts 7.2).
//!
//! The keys are the Go collector's. `fsync` is true unless it is turned off: success means stable storage.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::section::Section;
use crate::sending::disk::{Limits, directory};

/// Where our logs are, inside of the directory: the Go collector's files stand beside it.
pub const OURS: &str = "misaki";

#[derive(Clone, Debug)]
pub struct Config {
    pub directory: PathBuf,
    /// How long to wait for another process to leave a log.
    pub timeout: Duration,
    max_size: Option<u64>,
    fsync: bool,
}

impl Config {
    pub fn decode(section: Section) -> Config {
        let config = Config {
            directory: section.text_or("directory", "/var/lib/otelcol/file_storage").into(),
            timeout: section.duration("timeout", Duration::from_secs(1)),
            max_size: u64::try_from(section.integer("max_size", 0, 0..=i64::MAX)).ok().filter(|size| *size > 0),
            fsync: section.boolean("fsync", true),
        };
        let (path, creates) = (config.directory.clone(), section.boolean("create_directory", false));
        section.look_later("directory", move || match (std::fs::metadata(&path), path.display()) {
            (Ok(found), path) if !found.is_dir() => Err((format!("{path} is not a directory"), None)),
            (Err(error), path) if !creates => {
                let help = "make it, or write `create_directory: true`".to_owned();
                Err((format!("directory must exist: {path}: {error}"), Some(help)))
            }
            _ => Ok(()),
        });
        section.ignored(&["directory_permissions", "recreate", "compaction"]);
        section.finish();
        config
    }

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
