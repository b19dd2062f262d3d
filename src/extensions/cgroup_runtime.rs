//! `cgroup_runtime`: adapts the Go runtime to the container's limits. Here the memory budget follows them by itself.

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
