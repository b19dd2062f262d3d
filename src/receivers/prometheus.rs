//! `prometheus`: scrapes the pages of targets and delivers them as metrics, as the Go collector does.
//!
//! A target is one task, which scrapes it once in each interval, at a time of its own, and never twice at once.

mod client;
mod config;
mod discovery;
mod families;
mod labels;
mod metadata;
mod page;
mod relabel;
mod scrape;
mod target;
mod text;

pub(crate) use config::Config;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::diagnostics::supervisor::Watch;
use crate::telemetry::{Budget, Intake, Share, Signal};

use super::{OwnPage, ReceiverParts, ReceiverSettings, Run};
use config::Job;
use discovery::Discovery;
use scrape::{Ending, Scraper};
use target::Target;

/// How often the files with targets are looked at.
const LOOK: Duration = Duration::from_secs(5);
/// The pause before a task is started again.
const PAUSE: Duration = Duration::from_secs(1);
/// Maximum targets of a receiver.
const TARGETS: usize = 10_000;
/// Maximum bytes that all targets of a receiver remember.
const REMEMBERED: u64 = 256 << 20;

/// What the tasks of a receiver share.
pub(super) struct Shared {
    id: String,
    config: Config,
    intake: Arc<dyn Intake>,
    budget: Arc<Budget>,
    own_page: Arc<OwnPage>,
    /// The bytes that its targets remember.
    remembered: AtomicU64,
    /// Whether a job has more targets than it may have, in the order of the jobs.
    over_limit: Vec<AtomicBool>,
}

impl Shared {
    /// As much as all queues may hold, and beside it.
    fn most_remembered(&self) -> u64 {
        self.budget.limit(Share::Queue).min(REMEMBERED)
    }
}

impl ReceiverSettings for Config {
    fn signals(&self) -> &'static [Signal] {
        &[Signal::Metrics]
    }

    fn transports(&self) -> &'static [&'static str] {
        &["http"]
    }

    fn start(&self, parts: ReceiverParts) -> Vec<Run> {
        let ReceiverParts { id, gates, budget, workers, own_page, stop, .. } = parts;
        let run = |intake| {
            let watch = workers.supervisor.watch(format!("receiver {id}"));
            let shared = Shared {
                id: id.clone(),
                config: self.clone(),
                intake,
                budget: budget.clone(),
                own_page: own_page.clone(),
                remembered: AtomicU64::new(0),
                over_limit: self.jobs.iter().map(|_| AtomicBool::new(false)).collect(),
            };
            Box::pin(run(Arc::new(shared), watch, stop.clone())) as Run
        };
        gates.of("http").into_iter().flatten().map(run).collect()
    }
}

/// Scrapes until told to stop.
async fn run(shared: Arc<Shared>, watch: Watch, stop: watch::Receiver<bool>) {
    while watch.run(scrape_all(shared.clone(), &watch, stop.clone())).await.is_none() {}
}

/// What identifies a target among those that are scraped.
type Key = (usize, labels::Owned, String);

/// Keeps a task for each target that there is.
async fn scrape_all(shared: Arc<Shared>, watch: &Watch, mut stop: watch::Receiver<bool>) {
    let mut tasks = JoinSet::new();
    let mut running: HashMap<Key, watch::Sender<Ending>> = HashMap::new();
    let mut discoveries: Vec<Discovery> = shared.config.jobs.iter().map(Discovery::new).collect();
    let has_files = shared.config.jobs.iter().any(|job| !job.files.is_empty());
    loop {
        let mut wanted = HashMap::new();
        for (index, (job, discovery)) in shared.config.jobs.iter().zip(&mut discoveries).enumerate() {
            let groups = discovery.groups(&shared.id).await;
            let targets = targets_of(&shared, job, &groups, &mut discovery.said);
            if let Some(over) = shared.over_limit.get(index) {
                over.store(job.limits.targets > 0 && targets.len() as u64 > job.limits.targets, Relaxed);
            }
            for target in targets {
                wanted.insert((index, target.labels.clone(), target.url.clone()), target);
            }
        }
        if wanted.len() > TARGETS {
            tracing::error!(
                receiver = shared.id,
                targets = wanted.len(),
                "more targets than a receiver has: only {TARGETS} are scraped"
            );
        }
        for (key, end) in &running {
            end.send_replace(if wanted.contains_key(key) { Ending::Not } else { Ending::Gone });
        }
        for (key, target) in wanted.into_iter().take(TARGETS) {
            running.entry(key).or_insert_with_key(|key| {
                let (end, ending) = watch::channel(Ending::Not);
                tasks.spawn(Scraper::new(shared.clone(), key.0, target).run(ending));
                end
            });
        }
        let ended = tokio::select! {
            () = tokio::time::sleep(LOOK), if has_files => continue,
            Some(ended) = tasks.join_next() => ended,
            () = async { drop(stop.wait_for(|stop| *stop).await) } => break,
        };
        running.retain(|_, end| !end.is_closed());
        // A task that ended by a panic is started again.
        if ended.is_err() {
            watch.note(ended);
            tokio::time::sleep(PAUSE).await;
        }
    }
    running.values().for_each(|end| _ = end.send(Ending::Stop));
    while let Some(ended) = tasks.join_next().await {
        watch.note(ended);
    }
}

/// The targets of a job; an unusable one is told once.
fn targets_of(shared: &Shared, job: &Arc<Job>, groups: &[target::Group], said: &mut Vec<String>) -> Vec<Target> {
    let (targets, faults) = target::targets(job, groups);
    for fault in faults.iter().filter(|fault| !said.contains(fault)) {
        tracing::error!(receiver = shared.id, job = job.name, fault, "this is no target");
    }
    *said = faults;
    targets
}
