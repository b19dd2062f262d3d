//! The `host_metrics` receiver (alias `hostmetrics`): reads the host's metrics from /proc at an interval, with the Go
//! collector's names, units and attributes.
//!
//! At most one scrape runs at a time: a mount that hangs delays only the next scrape.

mod basics;
mod filesystem;
mod names;
mod network;
mod sheet;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message;
use smallvec::smallvec;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval_at};

use crate::config::contrib;
use crate::config::section::Section;
use crate::diagnostics::supervisor::Watch;
use crate::telemetry::{Budget, Charge, Intake, Now, Part, Reason, Refusal, Share, Signal, Telemetry, clock};

use super::{ReceiverParts, ReceiverSettings, Run};
use basics::CpuTicks;
use filesystem::Filter;
use names::Names;
use sheet::{Metric, Sheet};

#[derive(Clone, Debug)]
pub(crate) struct Config {
    collection_interval: Duration,
    initial_delay: Duration,
    host: Host,
    scrapers: Vec<Scraper>,
}

/// The root of the host's files: a folder other than `/` when a container observes its host.
#[derive(Clone, Debug)]
struct Host {
    root: PathBuf,
}

impl Host {
    fn path(&self, of_proc: &str) -> PathBuf {
        self.root.join("proc").join(of_proc)
    }

    fn read(&self, of_proc: &str) -> io::Result<String> {
        let path = self.path(of_proc);
        let bytes = std::fs::read(&path);
        let bytes = bytes.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// In Unix seconds.
    fn boot_time(&self) -> io::Result<u64> {
        let text = self.read("stat")?;
        let seconds = text.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok());
        seconds.ok_or_else(|| io::Error::other("no btime in /proc/stat"))
    }
}

#[derive(Clone, Debug)]
struct Scraper {
    name: &'static str,
    metrics: Vec<&'static Metric>,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Cpu(CpuTicks),
    Memory,
    Load { cpu_average: bool },
    Filesystem(Filter),
    Network(Names),
}

const NAMES: [&str; 5] = ["cpu", "memory", "load", "filesystem", "network"];

impl Config {
    pub(crate) fn decode(section: Section) -> Config {
        let root = section.text("root_path").filter(|path| !path.is_empty()).unwrap_or_else(|| "/".to_owned());
        let config = Config {
            collection_interval: section.duration("collection_interval", Duration::from_secs(60)),
            initial_delay: section.duration("initial_delay", Duration::from_secs(1)),
            scrapers: scrapers(&section.subsection("scrapers")),
            host: Host { root: PathBuf::from(&root) },
        };
        if config.collection_interval.is_zero() {
            section.problem("collection_interval", "collection_interval requires a positive value");
        }
        if section.is_empty("scrapers") {
            let message = "must specify at least one scraper when using host_metrics receiver";
            let help = format!("write `scrapers: {{cpu: {{}}}}`; there are {}", NAMES.join(", "));
            section.problem_with_help("scrapers", message, help);
        }
        let path = root.clone();
        section.look_later("root_path", move || {
            if cfg!(not(target_os = "linux")) {
                return Err(("host_metrics reads /proc, which only Linux has".to_owned(), None));
            }
            let failed = |error| (format!("invalid root_path: cannot look at {path}: {error}"), None);
            std::fs::metadata(&path).map(drop).map_err(failed)
        });
        section.ignored(&["timeout", "metadata_collection_interval"]);
        section.finish();
        config
    }
}

fn scrapers(section: &Section) -> Vec<Scraper> {
    let scraper = |key: &str| {
        let Some(name) = NAMES.into_iter().find(|name| *name == key) else {
            let invalid = || (format!("invalid scraper key: {key}"), format!("there are {}", NAMES.join(", ")));
            let (message, help) = contrib::absent("scraper", key).unwrap_or_else(invalid);
            section.problem_with_help(key, message, help);
            return None;
        };
        let section = section.subsection(name);
        let (all, what) = match name {
            "cpu" => (basics::CPU, What::Cpu(CpuTicks::new())),
            "memory" => (basics::MEMORY, What::Memory),
            "load" => (basics::LOAD, What::Load { cpu_average: section.boolean("cpu_average", false) }),
            "filesystem" => (filesystem::METRICS, What::Filesystem(Filter::decode(&section))),
            _ => (network::METRICS, What::Network(Names::decode(&section, "include", "exclude", "interfaces"))),
        };
        let switches = section.subsection("metrics");
        let is_on = |metric: &&Metric| switches.subsection(metric.name).boolean("enabled", metric.enabled);
        Some(Scraper { name, metrics: all.iter().filter(is_on).collect(), what })
    };
    section.entries().iter().filter_map(|entry| scraper(&entry.key)).collect()
}

impl Scraper {
    fn scrape(&mut self, host: &Host, sheet: &mut Sheet) -> io::Result<()> {
        match &mut self.what {
            What::Cpu(last) => basics::cpu(host, last, sheet),
            What::Memory => basics::memory(host, sheet),
            What::Load { cpu_average } => basics::load(host, *cpu_average, sheet),
            What::Filesystem(filter) => filesystem::scrape(host, filter, sheet),
            What::Network(interfaces) => network::scrape(host, interfaces, sheet),
        }
    }
}

impl Config {
    /// One request with the metrics of all scrapers, its number of points, and the errors.
    fn scrape(&mut self, now: Now) -> (Vec<u8>, u32, Vec<String>) {
        let (mut request, mut points, mut faults) = (ExportMetricsServiceRequest::default(), 0, Vec::new());
        let boot_time = self.host.boot_time().unwrap_or_default();
        for scraper in &mut self.scrapers {
            let mut sheet = Sheet::new(&scraper.metrics, boot_time, now.wall);
            if let Err(error) = scraper.scrape(&self.host, &mut sheet) {
                faults.push(format!("{}: {error}", scraper.name));
            }
            if let Some((resource, count)) = sheet.finish(scraper.name) {
                request.resource_metrics.push(resource);
                points += count as u32;
            }
        }
        (request.encode_to_vec(), points, faults)
    }
}

struct Receiver {
    id: String,
    config: Config,
    intake: Arc<dyn Intake>,
    budget: Arc<Budget>,
    /// The errors of the last scrape, so that only changes are logged.
    said: Vec<String>,
}

impl ReceiverSettings for Config {
    fn signals(&self) -> &'static [Signal] {
        &[Signal::Metrics]
    }

    fn transports(&self) -> &'static [&'static str] {
        &[""]
    }

    fn start(&self, parts: ReceiverParts) -> Vec<Run> {
        let ReceiverParts { id, gates, budget, workers, stop, .. } = parts;
        let run = |intake| {
            let watch = workers.supervisor.watch(format!("receiver {id}"));
            let receiver =
                Receiver { id: id.clone(), config: self.clone(), intake, budget: budget.clone(), said: Vec::new() };
            Box::pin(receiver.run(watch, stop.clone())) as Run
        };
        gates.of("").into_iter().flatten().map(run).collect()
    }
}

impl Receiver {
    /// Scrapes until told to stop.
    async fn run(mut self, watch: Watch, stop: watch::Receiver<bool>) {
        while watch.run(self.scrape(stop.clone())).await.is_none() {}
    }

    async fn scrape(&mut self, mut stop: watch::Receiver<bool>) {
        let mut ticks = interval_at((clock() + self.config.initial_delay).into(), self.config.collection_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
            let mut config = self.config.clone();
            let scraped = tokio::task::spawn_blocking(move || {
                let scraped = config.scrape(Now::read());
                (config, scraped)
            });
            let scraped = tokio::select! {
                scraped = scraped => scraped,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            let Ok((config, (wire, points, faults))) = scraped else {
                self.say(vec!["a scraper failed by an internal error".to_owned()]);
                continue;
            };
            self.config = config;
            let refused = self.submit(wire, points).await.err();
            self.say(faults.into_iter().chain(refused.map(|refusal| refusal.reason().words().to_owned())).collect());
        }
    }

    async fn submit(&self, wire: Vec<u8>, items: u32) -> Result<(), Refusal> {
        let charge = Charge::take(&self.budget, Share::Ingest, wire.len() as u64);
        let charge = charge.ok_or_else(|| Refusal::busy(Reason::MemoryFull))?;
        let part = Part::new(wire, items, charge);
        self.intake
            .submit(Telemetry {
                signal: Signal::Metrics,
                parts: smallvec![part],
                client: None,
                received: Now::read(),
                tickets: Default::default(),
            })
            .await
    }

    fn say(&mut self, faults: Vec<String>) {
        for fault in faults.iter().filter(|fault| !self.said.contains(fault)) {
            tracing::warn!(receiver = self.id, fault, "a part of the host's metrics is missing");
        }
        if faults.is_empty() && !self.said.is_empty() {
            tracing::info!(receiver = self.id, "the host's metrics are complete again");
        }
        self.said = faults;
    }
}
