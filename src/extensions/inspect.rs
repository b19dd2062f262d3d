//! `inspect`, our own: the local socket that `misaki tail` and `misaki status` ask. It is there without being configured.

use std::path::PathBuf;

use crate::config::section::Section;

#[derive(Clone, Debug)]
pub struct Config {
    pub enabled: bool,
    /// The socket, where it shall not be in the runtime directory.
    pub path: Option<PathBuf>,
    /// How much of the recent past is kept for `tail --since`; by itself what suits the budget.
    pub ring_bytes: Option<u64>,
}

/// The most that the ring takes unasked.
const RING: u64 = 4 << 20;

impl Default for Config {
    fn default() -> Config {
        Config { enabled: true, path: None, ring_bytes: None }
    }
}

impl Config {
    pub fn decode(section: Section) -> Config {
        let ring_mib = section.has("ring_mib").then(|| section.limited("ring_mib", 4, 0..=64));
        let config = Config {
            enabled: section.boolean("enabled", true),
            path: section.text("path").filter(|path| !path.is_empty()).map(PathBuf::from),
            ring_bytes: ring_mib.and_then(|mib| u64::try_from(mib).ok()).map(|mib| mib << 20),
        };
        section.finish();
        config
    }

    /// On a small machine, where the budget is small, the ring is no larger than an eighth of it.
    pub fn ring_bytes(&self, budget: u64) -> usize {
        usize::try_from(self.ring_bytes.unwrap_or(RING.min(budget / 8))).unwrap_or(usize::MAX)
    }
}
