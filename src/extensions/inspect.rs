//! `inspect`, an extension of our own: the local socket for `misaki tail` and `misaki status`. It is on by default.

use std::path::PathBuf;

use crate::config::section::Section;

use super::{ExtensionSettings, LocalSocket};

pub(crate) struct Config(LocalSocket);

impl Config {
    pub(crate) fn decode(section: Section) -> Config {
        let ring_mib = section.has("ring_mib").then(|| section.limited("ring_mib", 4, 0..=64));
        let socket = LocalSocket {
            enabled: section.boolean("enabled", true),
            path: section.text("path").filter(|path| !path.is_empty()).map(PathBuf::from),
            ring_bytes: ring_mib.and_then(|mib| u64::try_from(mib).ok()).map(|mib| mib << 20),
        };
        section.finish();
        Config(socket)
    }
}

impl ExtensionSettings for Config {
    fn local_socket(&self) -> Option<&LocalSocket> {
        Some(&self.0)
    }
}
