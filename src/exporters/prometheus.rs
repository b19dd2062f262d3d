//! `prometheus`: serves the last value of each series on a page for Prometheus, with names that Prometheus takes.
//!
//! A local output without a queue: a point counts as exported once it is in the store. The server is the small one
//! behind health checks and metrics, and makes the text on its thread.

mod intake;
mod labels;
mod names;
mod scrape;
mod store;
mod text;
mod value;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::config::section::Section;
use crate::extensions::{AdminPage, Named, PageServer};
use crate::network::admin::Question;
use crate::network::endpoint::Listen;
use crate::network::settings::{self, Listening};
use crate::telemetry::{Account, Ask, Fate, Full, Load, Reason, Said, Share, Signal, Sink, Telemetry, clock};

use super::{End, ExporterParts, ExporterSettings, OpenExporter};
use intake::{Intake, OF_SERVICE, Refused};
use names::Namer;
use store::MOST_BYTES;

#[derive(Clone, Debug)]
pub(crate) struct Config {
    server: PageServer,
    namer: Namer,
    const_labels: Vec<(String, Vec<u8>)>,
    has_timestamps: bool,
    expiration: Duration,
    is_open_metrics: bool,
    has_scope_info: bool,
    resource_labels: ResourceLabels,
}

/// Which attributes of resources become labels of their series: the keys that match a pattern, and none of the others.
#[derive(Clone, Debug, Default)]
struct ResourceLabels {
    included: Vec<String>,
    excluded: Vec<String>,
}

/// Names have suffixes, and keep all characters.
const STRATEGIES: &[(&str, (bool, bool))] = &[
    ("UnderscoreEscapingWithSuffixes", (true, false)),
    ("UnderscoreEscapingWithoutSuffixes", (false, false)),
    ("NoUTF8EscapingWithSuffixes", (true, true)),
    ("NoTranslation", (false, true)),
    ("", (true, false)),
];

impl Config {
    pub(crate) fn decode(section: Section) -> Config {
        let has_endpoint = section.text("endpoint").is_some_and(|endpoint| !endpoint.trim().is_empty());
        if !has_endpoint {
            let message = "expecting a non-blank address to run the Prometheus metrics handler";
            section.problem_with_help("endpoint", message, "write `endpoint: 0.0.0.0:8889`");
            section.text_or("transport", "tcp");
        }
        let endpoint = match has_endpoint {
            true => settings::listen(&section, "localhost:8889"),
            false => Listen::parse("localhost:8889", "tcp").expect("it is an endpoint"),
        };
        if section.has("add_metric_suffixes") && !section.boolean("add_metric_suffixes", true) {
            let message = "it has no effect, as in the Go collector: write `translation_strategy: UnderscoreEscapingWithoutSuffixes`";
            section.warning("add_metric_suffixes", message);
        }
        let (has_suffixes, is_utf8) = section.choice("translation_strategy", (true, false), STRATEGIES);
        let labels = section.subsection("const_labels");
        let const_labels = labels
            .entries()
            .iter()
            .filter_map(|entry| Some((entry.key.clone(), labels.text(&entry.key)?.into_bytes())));
        let const_labels = const_labels.collect();
        labels.finish();
        let config = Config {
            server: PageServer::decode(&section, endpoint),
            namer: Namer { namespace: section.text_or("namespace", ""), has_suffixes, is_utf8 },
            const_labels,
            has_timestamps: section.boolean("send_timestamps", false),
            expiration: section.duration("metric_expiration", Duration::from_secs(300)),
            is_open_metrics: section.boolean("enable_open_metrics", false),
            has_scope_info: !section.boolean("without_scope_info", false),
            resource_labels: ResourceLabels::decode(&section),
        };
        // Nothing waits in a queue.
        section.ignored(&["sending_queue"]);
        section.pass_unknown();
        section.finish();
        config
    }
}

impl ResourceLabels {
    fn decode(section: &Section) -> ResourceLabels {
        let read = |key: &str| {
            let section = section.subsection(key);
            let patterns = ["included", "excluded"].map(|key| section.texts(key).unwrap_or_default());
            let [is_enabled, without_service] =
                ["enabled", "exclude_service_attributes"].map(|key| section.boolean(key, false));
            let is_legacy = is_enabled || without_service;
            if is_legacy && patterns.iter().any(|patterns| !patterns.is_empty()) {
                let message = "included and excluded cannot be used with enabled or exclude_service_attributes";
                section.problem("included", message);
            }
            if is_legacy && key == "resource_constant_labels" {
                let message = "enabled and exclude_service_attributes are not supported here";
                section.problem_with_help("enabled", message, "write `included: [\"*\"]`");
            }
            section.finish();
            let [mut included, mut excluded] = patterns;
            if is_enabled {
                included.push("*".to_owned());
            }
            if is_enabled && without_service {
                excluded.extend(OF_SERVICE.map(|key| String::from_utf8_lossy(key).into_owned()));
            }
            (ResourceLabels { included, excluded }, is_legacy)
        };
        let (old, is_legacy) = read("resource_to_telemetry_conversion");
        let (new, _) = read("resource_constant_labels");
        let is_given = |labels: &ResourceLabels| !labels.included.is_empty() || !labels.excluded.is_empty();
        if (is_legacy || is_given(&old)) && is_given(&new) {
            let message = "resource_to_telemetry_conversion and resource_constant_labels cannot both be used";
            section.problem("resource_constant_labels", message);
        }
        let mut labels = if is_given(&new) { new } else { old };
        if labels.included.is_empty() && !labels.excluded.is_empty() {
            labels.included.push("*".to_owned());
        }
        labels
    }

    fn takes(&self, key: &[u8]) -> bool {
        if self.included.is_empty() {
            return false;
        }
        let key: Vec<char> = String::from_utf8_lossy(key).chars().collect();
        let matches =
            |patterns: &[String]| patterns.iter().any(|pattern| matches(&pattern.chars().collect::<Vec<_>>(), &key));
        matches(&self.included) && !matches(&self.excluded)
    }
}

/// `*` stands for any text, `?` for one character.
fn matches(pattern: &[char], text: &[char]) -> bool {
    let (mut at, mut rest, mut star) = (pattern, text, None);
    loop {
        match (at, rest) {
            ([], []) => return true,
            (['*', after @ ..], _) => {
                star = Some((after, rest));
                at = after;
            }
            ([one, after @ ..], [c, rest_after @ ..]) if one == c || *one == '?' => (at, rest) = (after, rest_after),
            // The last star takes one character more.
            _ => match star {
                Some((after, [_, longer @ ..])) => {
                    star = Some((after, longer));
                    (at, rest) = (after, longer);
                }
                _ => return false,
            },
        }
    }
}

impl ExporterSettings for Config {
    fn refuses(&self, id: &str, signal: Signal) -> Option<String> {
        (signal != Signal::Metrics).then(|| format!("exporter \"{id}\" takes metrics only"))
    }

    fn named(&self) -> Vec<Named> {
        self.server.named()
    }

    fn listens(&self) -> Vec<Listening> {
        self.server.listens()
    }

    fn open(&self, opening: ExporterParts<'_>) -> Result<Arc<dyn OpenExporter>, String> {
        // As much as all queues may hold, and beside it.
        let most_bytes = opening.budget.limit(Share::Queue).min(MOST_BYTES);
        let intake = Intake::new(self.clone(), usize::try_from(most_bytes).unwrap_or(usize::MAX));
        Ok(Arc::new(Exposed { intake: Arc::new(intake), room: Notify::new(), said: Default::default() }))
    }
}

/// An open exporter: its store, and what was said of points that did not enter it.
struct Exposed {
    intake: Arc<Intake>,
    room: Notify,
    /// By reason.
    said: [Said; 3],
}

impl OpenExporter for Exposed {
    fn end(self: Arc<Self>, _: Signal, account: &Arc<Account>) -> Result<End, String> {
        Ok(End::Sink(Arc::new(Entrance { exposed: self, account: account.clone() })))
    }

    fn page(&self) -> Option<AdminPage> {
        let intake = self.intake.clone();
        let answers = move |question: &Question<'_>| scrape::answer(&intake, question);
        Some(self.intake.config.server.page("prometheus exporter", Arc::new(answers)))
    }
}

struct Entrance {
    exposed: Arc<Exposed>,
    account: Arc<Account>,
}

impl Sink for Entrance {
    fn reserve(&self, _: &Telemetry, _: Load, _: Ask) -> Result<(), Full> {
        Ok(())
    }

    fn release(&self, _: Load) {}

    fn looks_at_items(&self) -> bool {
        true
    }

    fn commit(&self, mut telemetry: Telemetry, load: Load) {
        let (now, mut refused) = (clock(), Refused::default());
        for part in &telemetry.parts {
            self.exposed.intake.take(&part.bytes, now, &mut refused);
        }
        let Refused { late, foreign, beyond, example } = refused;
        let by_reason = [
            (Reason::OutOfOrder, late, "points that are older than the last one of their series"),
            (
                Reason::Untranslatable,
                foreign,
                "points that Prometheus cannot show: a name, type or temporality that it does not have, or that is taken",
            ),
            (
                Reason::SeriesLimit,
                beyond,
                "more series, or larger ones, than the exporter holds: points of new series are dropped",
            ),
        ];
        let dropped = late + foreign + beyond;
        self.account.send(load.items.saturating_sub(dropped));
        self.account.book(&telemetry, Fate::Sent, dropped);
        self.account.leave(&telemetry);
        telemetry.resolve(Ok(()));
        for ((reason, items, message), said) in by_reason.into_iter().zip(&self.exposed.said) {
            self.account.drop_items(reason, items);
            if items > 0
                && let Some((dropped_items, _)) = said.count(items)
            {
                let metric = example.as_deref().filter(|_| reason == Reason::Untranslatable);
                let (exporter, reason) = (&self.account.exporter, reason.name());
                tracing::warn!(%exporter, dropped_items, reason, metric, "{message}");
            }
        }
    }

    fn room(&self) -> &Notify {
        &self.exposed.room
    }

    fn skip(&self, telemetry: &Telemetry) {
        self.account.skip(telemetry);
    }
}
