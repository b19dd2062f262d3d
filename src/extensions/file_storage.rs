//! `file_storage`: the directory in which sending queues keep their telemetry.
//!
//! The keys are the Go collector's. `fsync` defaults to true: success means stable storage.

use std::time::Duration;

use crate::config::section::Section;
use crate::sending::storage::Storage;

use super::ExtensionSettings;

pub(crate) struct Config(Storage);

impl Config {
    pub(crate) fn decode(section: Section) -> Config {
        let storage = Storage {
            directory: section.text_or("directory", "/var/lib/otelcol/file_storage").into(),
            timeout: section.duration("timeout", Duration::from_secs(1)),
            max_size: u64::try_from(section.integer("max_size", 0, 0..=i64::MAX)).ok().filter(|size| *size > 0),
            fsync: section.boolean("fsync", true),
        };
        let (path, creates) = (storage.directory.clone(), section.boolean("create_directory", false));
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
        Config(storage)
    }
}

impl ExtensionSettings for Config {
    fn storage(&self) -> Option<&Storage> {
        Some(&self.0)
    }
}
