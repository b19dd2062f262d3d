//! `cgroup_runtime`: sets the Go runtime by the limits of the container. The memory budget follows them here by itself.

use crate::config::section::Section;

use super::ExtensionSettings;

pub struct Config;

impl Config {
    pub fn decode(section: Section) -> Config {
        section.without_effect(&["gomaxprocs", "gomemlimit"]);
        Config
    }
}

impl ExtensionSettings for Config {}
