//! `nop`: receives nothing, for a pipeline that needs a receiver by rule.

use crate::config::section::Section;
use crate::telemetry::Signal;

use super::{ReceiverParts, ReceiverSettings, Run};

pub(crate) struct Config;

impl Config {
    pub(crate) fn decode(section: Section) -> Config {
        section.finish();
        Config
    }
}

impl ReceiverSettings for Config {
    fn signals(&self) -> &'static [Signal] {
        &Signal::ALL
    }

    fn transports(&self) -> &'static [&'static str] {
        &[]
    }

    fn start(&self, _: ReceiverParts) -> Vec<Run> {
        Vec::new()
    }
}
