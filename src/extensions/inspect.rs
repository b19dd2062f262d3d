//! `inspect`, our own: the local socket that `misaki tail` and `misaki status` ask. It is there without being configured.

use std::path::PathBuf;

use crate::config::section::Section;

#[derive(Clone, Debug)]
pub struct Config {
    pub enabled: bool,
    /// The socket, where it shall not be in the runtime directory.
    pub path: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Config {
        Config { enabled: true, path: None }
    }
}

impl Config {
    pub fn decode(section: Section) -> Config {
        let config = Config {
            enabled: section.boolean("enabled", true),
            path: section.text("path").filter(|path| !path.is_empty()).map(PathBuf::from),
        };
        section.finish();
        config
    }
}
