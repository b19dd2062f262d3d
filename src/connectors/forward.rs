//! `forward`: joins pipelines of one signal.

use crate::config::section::Section;
use crate::telemetry::Signal;

use super::ConnectorSettings;

pub(crate) struct Config;

impl Config {
    pub(crate) fn decode(section: Section) -> Config {
        section.finish();
        Config
    }
}

impl ConnectorSettings for Config {
    fn gives(&self, taken: Signal) -> Option<Signal> {
        Some(taken)
    }
}
