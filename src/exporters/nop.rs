//! `nop`: accepts everything and discards it.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::config::section::Section;
use crate::telemetry::{Account, Ask, Fate, Full, Load, Sink, Telemetry};

use super::{End, ExporterParts, ExporterSettings, OpenExporter, ends};

pub(crate) struct Config;

impl Config {
    pub(crate) fn decode(section: Section) -> Config {
        section.finish();
        Config
    }
}

impl ExporterSettings for Config {
    fn open(&self, _: ExporterParts<'_>) -> Result<Arc<dyn OpenExporter>, String> {
        Ok(ends(|_, account| Ok(End::Sink(Arc::new(Nop { account: account.clone(), room: Notify::new() })))))
    }
}

struct Nop {
    account: Arc<Account>,
    room: Notify,
}

impl Sink for Nop {
    fn reserve(&self, _: &Telemetry, _: Load, _: Ask) -> Result<(), Full> {
        Ok(())
    }

    fn release(&self, _: Load) {}

    fn looks_at_items(&self) -> bool {
        true
    }

    fn commit(&self, mut telemetry: Telemetry, load: Load) {
        self.account.send(load.items);
        self.account.book(&telemetry, Fate::Sent, 0);
        self.account.leave(&telemetry);
        telemetry.resolve(Ok(()));
    }

    fn room(&self) -> &Notify {
        &self.room
    }

    fn skip(&self, telemetry: &Telemetry) {
        self.account.skip(telemetry);
    }
}
