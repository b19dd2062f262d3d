//! The life of a running collector: start, and drain under one deadline.
//!
//! Works in-process and without globals: tests start as many as they like.

pub mod graph;
pub mod machine;
pub mod plan;
pub mod registry;
mod scrape;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::Kind;
use crate::config::telemetry::MetricsLevel;
use crate::diagnostics::metrics::Observe;
use crate::diagnostics::process::Process;
use crate::extensions::health_check::Health;
use crate::network::admin;
use crate::network::endpoint::Listen;
use crate::network::listen::{self, Listener};
use crate::network::workers::Workers;
use crate::pipeline::timekeeper::keep_time;
use crate::receivers::hostmetrics;
use crate::receivers::otlp::{Guards, Receiver};
use crate::telemetry::{Account, Alarm, Budget, Now, Reason, Wakeful, clock};

use graph::{Builder, Graph};
use plan::{Plan, Side};
use registry::Component;

/// What is in flight when the collector stops gets this long to be answered.
const ANSWERS: Duration = Duration::from_secs(5);
/// The output of `debug` gets this long after everything else.
const OUTPUT: Duration = Duration::from_secs(1);

/// A collector that runs.
pub struct Running {
    pub addresses: Vec<(&'static str, Option<SocketAddr>)>,
    pub budget: Arc<Budget>,
    pub graph: Graph,
    pub health: Arc<Health>,
    stop: watch::Sender<bool>,
    receivers: JoinSet<()>,
    dispatchers: JoinSet<()>,
    /// The timekeeper, the scrape endpoint, the health check: ended last, by dropping them.
    helpers: JoinSet<()>,
}

/// What became of one exporter's items when the collector stopped.
#[derive(Clone, Debug, PartialEq)]
pub struct Balance {
    pub exporter: String,
    pub signal: &'static str,
    pub accepted: u64,
    pub exported: u64,
    /// By rules of the config, which is no loss.
    pub filtered: u64,
    pub dropped: Vec<(&'static str, u64)>,
    pub left: u64,
    /// Of what is left, what is on disk, to be sent by the next run.
    pub on_disk: u64,
}

/// Builds and starts everything; when it returns, every port is bound.
pub async fn start(plan: &Plan, workers: Arc<Workers>) -> Result<Running, String> {
    let health = Health::new();
    let mut helpers = JoinSet::new();
    for extension in &plan.extensions {
        if let Some(Component::Authenticator(authenticator)) = plan.get(Kind::Extension, &extension.id) {
            authenticator.warm_up();
        }
        if let Some(Component::HealthCheck(config)) = plan.get(Kind::Extension, &extension.id) {
            let place = format!("extensions.{}", extension.id);
            for listener in bind(&config.endpoint, &place).await? {
                let (config, health) = (config.clone(), health.clone());
                helpers.spawn(admin::serve(listener, Arc::new(move |path| config.answer(&health, path))));
            }
        }
    }
    let budget = Budget::new(budget_of(plan));
    let alarm = Alarm::new();
    let (graph, gates) = Builder::new(plan, budget.clone(), alarm.clone()).build()?;
    let stages: Vec<Arc<dyn Wakeful>> = graph.stages.iter().map(|stage| stage.clone() as Arc<dyn Wakeful>).collect();
    helpers.spawn(keep_time(alarm, stages));
    let observers = observers(&graph, &budget);
    scrape_endpoints(plan, observers, &mut helpers).await?;
    let mut dispatchers = JoinSet::new();
    for queue in &graph.queues {
        dispatchers.spawn_on(queue.clone().dispatch(), &workers.least_loaded().handle);
    }
    let (stop, stopped) = watch::channel(false);
    let (mut receivers, mut addresses) = (JoinSet::new(), Vec::new());
    let cap = machine::connection_cap();
    for (id, gates) in gates {
        let name = id.to_string();
        match plan.get(Kind::Receiver, &id) {
            Some(Component::Otlp(config)) => {
                let guard = |auth| plan.authenticator(auth, Side::Server);
                let guards = Guards {
                    grpc: config.grpc.as_ref().map_or(Ok(None), |grpc| guard(&grpc.auth))?,
                    http: config.http.as_ref().map_or(Ok(None), |http| guard(&http.auth))?,
                };
                let receiver = Receiver::bind(&name, config.clone(), guards, gates, budget.clone(), cap).await?;
                addresses.extend(receiver.addresses());
                receivers.spawn(receiver.run(workers.clone(), stopped.clone()));
            }
            Some(Component::HostMetrics(config)) => {
                for intake in gates.own.into_iter().flatten() {
                    let receiver = hostmetrics::Receiver::new(&name, config.clone(), intake, budget.clone());
                    receivers.spawn(receiver.run(stopped.clone()));
                }
            }
            _ => {}
        }
    }
    health.ask(graph.troubles());
    health.set(true);
    Ok(Running { addresses, budget, graph, health, stop, receivers, dispatchers, helpers })
}

async fn bind(endpoint: &Listen, place: &str) -> Result<Vec<Listener>, String> {
    let bound = listen::bind(endpoint).await;
    bound.map_err(|error| format!("cannot listen on {} ({place}): {error}", endpoint.address))
}

/// The smallest budget that a memory_limiter in use sets, else what suits the machine.
fn budget_of(plan: &Plan) -> u64 {
    let used = plan.pipelines.iter().flat_map(|pipeline| &pipeline.processors);
    let limits = used.filter_map(|reference| match plan.get(Kind::Processor, &reference.id) {
        Some(Component::MemoryLimiter(config)) => Some(config.budget(machine::memory_bytes())),
        _ => None,
    });
    limits.min().unwrap_or_else(machine::default_budget)
}

fn observers(graph: &Graph, budget: &Arc<Budget>) -> Vec<Arc<dyn Observe>> {
    let mut observers = graph.observers();
    observers.push(Arc::new(Process::new(budget.clone(), graph.accounts.clone())));
    observers
}

/// One endpoint for every Prometheus reader. A port that is taken is an error only where the user named it.
async fn scrape_endpoints(
    plan: &Plan,
    observers: Vec<Arc<dyn Observe>>,
    helpers: &mut JoinSet<()>,
) -> Result<(), String> {
    let metrics = &plan.telemetry.metrics;
    if metrics.level == MetricsLevel::None {
        return Ok(());
    }
    let observers = Arc::new(observers);
    for (host, port) in &metrics.readers {
        let endpoint = Listen::parse(&format!("{host}:{port}"), "tcp")?;
        match bind(&endpoint, "service.telemetry.metrics").await {
            Ok(listeners) => {
                for listener in listeners {
                    let observers = observers.clone();
                    helpers.spawn(admin::serve(listener, Arc::new(move |path| scrape::answer(&observers, path))));
                }
            }
            Err(error) if metrics.named => return Err(error),
            Err(error) => tracing::warn!(%error, "going on without the metrics endpoint"),
        }
    }
    Ok(())
}

impl Running {
    /// Every account with its numbers, those that were never used left out.
    pub fn balance(&self) -> Vec<Balance> {
        self.graph
            .accounts
            .iter()
            .filter(|account| account.accepted() > 0)
            .map(|account| Balance::of(account, self.graph.on_disk(account)))
            .collect()
    }

    /// Items that sit in a batch or a queue, or are on their way: measured where they are, not from the accounts.
    pub fn held_items(&self) -> u64 {
        let stages: u64 = self.graph.stages.iter().map(|stage| stage.held_items()).sum();
        stages + self.graph.queues.iter().map(|queue| queue.held_items()).sum::<u64>()
    }

    /// What the rules of each processor do, in words; once for all pipelines that have it.
    pub fn intentions(&self) -> Vec<(&str, String)> {
        let mut lines = Vec::new();
        for step in &self.graph.steps {
            for line in step.processor.intentions() {
                if !lines.contains(&(step.id.as_str(), line.clone())) {
                    lines.push((step.id.as_str(), line));
                }
            }
        }
        lines
    }

    /// What each rule of each processor did.
    pub fn results(&self) -> Vec<(&str, String)> {
        let steps = self.graph.steps.iter();
        steps.flat_map(|step| step.processor.results().into_iter().map(|line| (step.id.as_str(), line))).collect()
    }

    /// Accepted and refused items at the door.
    pub fn intake(&self) -> (u64, u64) {
        use std::sync::atomic::Ordering::Relaxed;
        let sum = |(accepted, refused): (u64, u64), gate: &Arc<crate::pipeline::intake::Gate>| {
            (accepted + gate.accepted.load(Relaxed), refused + gate.refused.load(Relaxed))
        };
        self.graph.gates.iter().fold((0, 0), sum)
    }

    /// Stops the receivers, lets everything drain until the deadline, and says what became of it.
    pub async fn drain(&mut self, within: Duration) -> Vec<Balance> {
        let deadline = clock() + within;
        self.health.set(false);
        // Everyone who listened is gone only if the receivers have ended already.
        let _ = self.stop.send(true);
        let answers = async { while self.receivers.join_next().await.is_some() {} };
        let in_time = tokio::time::timeout(ANSWERS.min(within), answers).await.is_ok();
        if !in_time {
            self.receivers.shutdown().await;
        }
        while self.graph.stages.iter().filter(|stage| !stage.drain(Now::read())).count() > 0 {
            if clock() >= deadline {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.graph.queues.iter().for_each(|queue| queue.drain());
        let rest = deadline.saturating_duration_since(clock());
        let sent = async { while self.dispatchers.join_next().await.is_some() {} };
        if tokio::time::timeout(rest, sent).await.is_err() {
            self.dispatchers.shutdown().await;
        }
        let outputs = self.graph.outputs.clone();
        let unprinted =
            tokio::task::spawn_blocking(move || outputs.iter().map(|output| output.close(OUTPUT)).sum::<u64>());
        if let Ok(unprinted @ 1..) = unprinted.await {
            tracing::warn!(items = unprinted, "the reader of the debug output took not all of it");
        }
        self.helpers.shutdown().await;
        self.balance()
    }
}

impl Balance {
    fn of(account: &Account, on_disk: u64) -> Balance {
        let dropped = |reason: &Reason| Some((reason.name(), account.dropped(*reason))).filter(|(_, items)| *items > 0);
        Balance {
            exporter: account.exporter.clone(),
            signal: account.signal.name(),
            accepted: account.accepted(),
            exported: account.sent(),
            filtered: account.filtered(),
            dropped: Reason::ALL.iter().filter(|reason| !reason.is_rule()).filter_map(dropped).collect(),
            left: account.waiting(),
            on_disk: on_disk.min(account.waiting()),
        }
    }

    /// What ends with the process.
    pub fn left_in_memory(&self) -> u64 {
        self.left - self.on_disk
    }
}

impl std::fmt::Display for Balance {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        let Balance { exporter, signal, accepted, exported, filtered, dropped, left, on_disk } = self;
        write!(out, "{signal} to {exporter}: {accepted} accepted = {exported} exported")?;
        if *filtered > 0 {
            write!(out, " + {filtered} filtered")?;
        }
        let sum: u64 = dropped.iter().map(|(_, items)| items).sum();
        write!(out, " + {sum} dropped")?;
        if !dropped.is_empty() {
            let reasons: Vec<_> = dropped.iter().map(|(reason, items)| format!("{reason} {items}")).collect();
            write!(out, " ({})", reasons.join(", "))?;
        }
        match (left - on_disk, on_disk) {
            (left, 0) => write!(out, " + {left} left"),
            (0, on_disk) => write!(out, " + {on_disk} left on disk"),
            (left, on_disk) => write!(out, " + {left} left + {on_disk} left on disk"),
        }
    }
}
