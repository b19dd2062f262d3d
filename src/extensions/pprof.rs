//! `pprof`: profiles of the Go runtime, which Misaki does not have.

use crate::config::section::Section;

use super::ExtensionSettings;

pub struct Config;

impl Config {
    pub fn decode(section: Section) -> Config {
        section.without_effect(&[
            "endpoint",
            "block_profile_fraction",
            "mutex_profile_fraction",
            "save_to_file",
            "dialer",
        ]);
        Config
    }
}

impl ExtensionSettings for Config {}
