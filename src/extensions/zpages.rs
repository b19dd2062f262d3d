//! `zpages`: diagnostic pages, which Misaki does not serve: `misaki status` shows more.

use crate::config::section::Section;

use super::ExtensionSettings;

pub struct Config;

impl Config {
    pub fn decode(section: Section) -> Config {
        section.without_effect(&["endpoint", "expvar", "tls", "auth", "cors", "response_headers", "transport"]);
        Config
    }
}

impl ExtensionSettings for Config {}
