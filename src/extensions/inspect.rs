//! `inspect`, our own: the local socket that `misaki tail` and `misaki status` ask. It is there without being configured.

use std::path::PathBuf;

use crate::config::section::Section;

#[derive(Clone, Debug)]
pub struct Config {
    pub enabled: bool,
    /// The socket, where it shall not be in the runtime directory.
    pub path: Option<PathBuf>,
    /// How much of the recent past is kept for `tail --since`.
    pub ring_bytes: usize,
}

const RING_MIB: i64 = 4;

impl Default for Config {
    fn default() -> Config {
        Config { enabled: true, path: None, ring_bytes: (RING_MIB as usize) << 20 }
    }
}

impl Config {
    pub fn decode(section: Section) -> Config {
        let config = Config {
            enabled: section.boolean("enabled", true),
            path: section.text("path").filter(|path| !path.is_empty()).map(PathBuf::from),
            ring_bytes: (section.integer("ring_mib", RING_MIB, 0..=64) as usize) << 20,
        };
        section.finish();
        config
    }
}
