//! What HELP, TYPE and UNIT said of the families of a target, kept for some scrapes after they were said last.

use std::collections::HashMap;

use super::families::without_suffix;
use super::text::Kind;

/// Scrapes for which it is kept.
const KEPT: u64 = 10;
/// Maximum families of a target, and bytes of what is said of one.
const FAMILIES: usize = 100_000;
const TEXT: usize = 16 << 10;
/// What a family occupies beside its texts.
const ENTRY: usize = 160;

#[derive(Clone, Debug, Default)]
pub(super) struct Described {
    pub(super) kind: Kind,
    pub(super) help: Vec<u8>,
    pub(super) unit: Vec<u8>,
}

#[derive(Default)]
pub(super) struct Metadata {
    families: HashMap<Vec<u8>, (Described, u64)>,
    bytes: usize,
}

/// What is known of the metrics of a scrape itself: name, unit, help.
const OWN: [(&str, &str, &str); 5] = [
    ("up", "", "The scraping was successful"),
    ("scrape_duration_seconds", "seconds", "Duration of the scrape"),
    ("scrape_samples_scraped", "", "The number of samples the target exposed"),
    ("scrape_series_added", "", "The approximate number of new series in this scrape"),
    (
        "scrape_samples_post_metric_relabeling",
        "",
        "The number of samples remaining after metric relabeling was applied",
    ),
];

impl Described {
    fn bytes(&self) -> usize {
        self.help.len() + self.unit.len()
    }
}

impl Metadata {
    /// The bytes that it holds, more or less.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn get(&self, name: &[u8]) -> Option<&Described> {
        self.families.get(name).map(|(described, _)| described)
    }

    /// The family of a sample's name, and what is said of it.
    pub(super) fn of_sample<'n>(&self, name: &'n [u8]) -> (&'n [u8], Described) {
        if let Some((_, unit, help)) = OWN.iter().find(|(own, ..)| own.as_bytes() == name) {
            let (help, unit) = (help.as_bytes().to_vec(), unit.as_bytes().to_vec());
            return (name, Described { kind: Kind::Gauge, help, unit });
        }
        if let Some(described) = self.get(name) {
            return (name, described.clone());
        }
        let family = without_suffix(name);
        // A gauge has no lines but its own.
        match self.get(family).filter(|described| !matches!(described.kind, Kind::Gauge | Kind::Unknown)) {
            Some(described) => (family, described.clone()),
            None => (name, Described::default()),
        }
    }

    pub(super) fn set(&mut self, name: &[u8], scrape: u64, change: impl FnOnce(&mut Described)) {
        if let Some((described, said)) = self.families.get_mut(name) {
            *said = scrape;
            let before = described.bytes();
            change(described);
            self.bytes = self.bytes + described.bytes() - before;
        } else if self.families.len() < FAMILIES && name.len() <= TEXT {
            let mut described = Described::default();
            change(&mut described);
            self.bytes += ENTRY + name.len() + described.bytes();
            self.families.insert(name.to_vec(), (described, scrape));
        }
    }

    /// Replaces a text that is not too long.
    pub(super) fn put(old: &mut Vec<u8>, new: &[u8]) {
        if old != new && new.len() <= TEXT {
            new.clone_into(old);
        }
    }

    pub(super) fn forget(&mut self, scrape: u64) {
        self.families.retain(|_, (_, said)| scrape - *said <= KEPT);
        let sizes = self.families.iter().map(|(name, (described, _))| ENTRY + name.len() + described.bytes());
        self.bytes = sizes.sum();
    }
}
