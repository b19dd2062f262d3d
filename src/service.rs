//! The life of a running collector: start, reload, and drain under one deadline.
//!
//! It runs in-process and without globals: tests start as many as they like.

pub(crate) mod graph;
pub(crate) mod machine;
pub(crate) mod plan;
pub(crate) mod push;
pub(crate) mod registry;
mod retired;
mod scrape;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::files;
use crate::config::telemetry::{MetricsLevel, Telemetry};
use crate::config::{ComponentId, Kind};
use crate::diagnostics::health::Health;
use crate::diagnostics::log;
use crate::diagnostics::metrics::Observe;
use crate::diagnostics::own;
use crate::diagnostics::process::Process;
use crate::diagnostics::reloads::Reloads;
use crate::extensions::AdminPage;
use crate::network::admin::{self, Answers, Front, Question};
use crate::network::auth::Authenticator;
use crate::network::connections::Connections;
use crate::network::endpoint::Listen;
use crate::network::listen::{self, Listener};
use crate::network::ports::{CannotStart, Port};
use crate::network::tls;
use crate::network::workers::{Thread, Workers};
use crate::pipeline::timekeeper::keep_time;
use crate::processors::Stage;
use crate::receivers::{Gates, OwnPage, ReceiverParts};
use crate::sending::Queue;
use crate::telemetry::{Account, Alarm, Budget, Drain, Now, Reason, Wakeful, clock};

use graph::{Builder, Graph};
use plan::{Changes, Extensions, Plan, Written};
use push::Pusher;
use retired::{Retired, holds};

/// Time limit for answering requests in flight at shutdown.
const ANSWERS: Duration = Duration::from_secs(5);
/// Time limit for the output of `debug`, after everything else.
const OUTPUT: Duration = Duration::from_secs(1);
/// Time limits for the last push of the collector's own telemetry; the shorter one holds when the deadline has passed.
const LAST_PUSH: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

/// A running collector.
pub struct Running {
    pub addresses: Vec<(&'static str, Option<SocketAddr>)>,
    pub budget: Arc<Budget>,
    pub graph: Graph,
    pub health: Arc<Health>,
    pub reloads: Arc<Reloads>,
    pub workers: Arc<Workers>,
    alarm: Arc<Alarm>,
    written: Written,
    extensions: Extensions,
    telemetry: Telemetry,
    doors: HashMap<ComponentId, Door>,
    connections: Arc<Connections>,
    own_page: Arc<OwnPage>,
    /// Whether a processor of the running config needs to know clients.
    tells_clients: Arc<AtomicBool>,
    receivers: JoinSet<()>,
    dispatchers: JoinSet<()>,
    timekeeper: JoinSet<()>,
    /// The scrape endpoint and the health check, on their own thread; dropped last.
    admin: JoinSet<()>,
    admin_sockets: Vec<AdminSocket>,
    admin_thread: Thread,
    retired: Vec<Arc<Retired>>,
    retiring: JoinSet<()>,
    started: Now,
    instance_id: String,
    observers: watch::Sender<Arc<Vec<Arc<dyn Observe>>>>,
    pushers: Vec<Arc<Pusher>>,
    pushing: JoinSet<()>,
}

/// A running receiver and its ports.
struct Door {
    /// Dropping this ends the receiver.
    _stop: watch::Sender<bool>,
    ports: Vec<Port>,
}

/// The parts of a receiver that can fail to open.
#[derive(Default)]
struct Opening {
    ports: Vec<Port>,
    guards: Vec<(&'static str, Arc<Authenticator>)>,
}

type AdminSocket = (Listen, Arc<Listener>);

/// The final balance of one exporter's items.
#[derive(Clone, Debug, PartialEq)]
pub struct Balance {
    pub exporter: String,
    signal: &'static str,
    pub accepted: u64,
    pub exported: u64,
    /// Excluded by rules of the config, so not lost.
    pub filtered: u64,
    pub dropped: Vec<(&'static str, u64)>,
    pub left: u64,
    /// The part of `left` that is on disk, to be sent by the next run.
    on_disk: u64,
}

/// Builds and starts everything; when it returns, every port is bound.
pub async fn start(plan: &Plan, workers: Arc<Workers>) -> Result<Running, CannotStart> {
    let admin_thread = Thread::start("misaki-admin".to_owned(), workers.supervisor.watch("admin thread"));
    let admin_thread = admin_thread.map_err(|error| format!("cannot start: {error}"))?;
    let mut running = Running {
        addresses: Vec::new(),
        budget: Budget::new(budget_of(plan)),
        graph: Graph::default(),
        health: Health::new(),
        workers,
        alarm: Alarm::new(),
        written: Written::default(),
        extensions: Extensions::new(),
        reloads: Arc::default(),
        telemetry: plan.telemetry.clone(),
        doors: HashMap::new(),
        connections: Connections::new(machine::connection_cap(budget_of(plan))),
        own_page: Arc::default(),
        tells_clients: Arc::default(),
        receivers: JoinSet::new(),
        dispatchers: JoinSet::new(),
        timekeeper: JoinSet::new(),
        admin: JoinSet::new(),
        admin_sockets: Vec::new(),
        admin_thread,
        retired: Vec::new(),
        retiring: JoinSet::new(),
        started: Now::read(),
        instance_id: own::instance_id(),
        observers: watch::Sender::default(),
        pushers: Vec::new(),
        pushing: JoinSet::new(),
    };
    running.take_over(plan).await?;
    running.health.set(true);
    Ok(running)
}

/// The socket of an endpoint: an open one, or a new one on `thread`.
async fn bind(
    endpoint: &Listen,
    place: &str,
    open: &mut Vec<AdminSocket>,
    thread: &Thread,
) -> Result<Vec<AdminSocket>, String> {
    let (kept, others): (Vec<_>, _) = std::mem::take(open).into_iter().partition(|(known, _)| known == endpoint);
    *open = others;
    if !kept.is_empty() {
        return Ok(kept);
    }
    let (mut binding, wanted) = (JoinSet::new(), endpoint.clone());
    binding.spawn_on(async move { listen::bind(&wanted).await }, &thread.handle);
    let bound = binding.join_next().await.and_then(Result::ok).unwrap_or_else(|| Err(io::Error::other("it panicked")));
    let bound = bound.map_err(|error| format!("cannot listen on {} ({place}): {error}", endpoint.address))?;
    Ok(bound.into_iter().map(|listener| (endpoint.clone(), Arc::new(listener))).collect())
}

/// The smallest budget that a memory_limiter in use sets, else the machine's default.
pub(crate) fn budget_of(plan: &Plan) -> u64 {
    let used = plan.pipelines.iter().flat_map(|pipeline| &pipeline.processors);
    let limits = used.filter_map(|reference| plan.processor(&reference.id)?.budget(machine::memory_bytes()));
    limits.min().unwrap_or_else(machine::default_budget)
}

fn observers(graph: &Graph, budget: &Arc<Budget>, started: Instant) -> Vec<Arc<dyn Observe>> {
    let mut observers = graph.observers();
    observers.push(Arc::new(Process::new(started, budget.clone(), graph.accounts.clone())));
    observers
}

/// A socket for every Prometheus reader. An occupied port is an error only if the user named it.
async fn scrape_sockets(plan: &Plan, open: &mut Vec<AdminSocket>, thread: &Thread) -> Result<Vec<AdminSocket>, String> {
    let metrics = &plan.telemetry.metrics;
    let mut sockets = Vec::new();
    if metrics.level == MetricsLevel::None {
        return Ok(sockets);
    }
    for (host, port) in &metrics.readers {
        let endpoint = Listen::parse(&format!("{host}:{port}"), "tcp")?;
        match bind(&endpoint, "service.telemetry.metrics", open, thread).await {
            Ok(bound) => sockets.extend(bound),
            Err(error) if metrics.named => return Err(error),
            Err(error) => tracing::warn!(%error, "going on without the metrics endpoint"),
        }
    }
    Ok(sockets)
}

impl Running {
    /// Switches to another config. Unchanged components keep their sockets, connections and telemetry; the others drain
    /// into their successors. On an error nothing changes.
    pub async fn reload(&mut self, mut plan: Plan) -> Result<Changes, CannotStart> {
        let changes = Changes::between(&self.written, &plan.written);
        plan.keep_extensions(&self.extensions, &self.written);
        self.take_over(&plan).await?;
        if self.telemetry.logs != plan.telemetry.logs {
            tracing::warn!("service.telemetry.logs is read when the collector starts: restart for it");
        }
        Ok(changes)
    }

    async fn take_over(&mut self, plan: &Plan) -> Result<(), CannotStart> {
        // Everything that can fail comes first, and changes nothing that runs.
        let is_reload = !self.written.is_empty();
        let supervisor = self.workers.supervisor.clone();
        let (mut admin, mut admin_sockets, mut open) = (JoinSet::new(), Vec::new(), self.admin_sockets.clone());
        let mut serve = |name: &str, socket: AdminSocket, front: Arc<Front>, answers: Answers| {
            let serving = admin::serve(supervisor.watch(name), socket.1.clone(), front, answers);
            admin.spawn_on(serving, &self.admin_thread.handle);
            admin_sockets.push(socket);
        };
        let mut pages = Vec::new();
        for (id, extension) in plan.started_extensions() {
            let place = format!("extensions.{id}");
            if let Some(authenticator) = extension.authenticator()
                && !plan.is_as(&self.written, Kind::Extension, id)
                && let Err(error) = warm_up(authenticator.clone()).await
                && is_reload
            {
                // At a start the files may appear later; at a reload, the running authenticator still works.
                return Err(format!("{error} ({place})").into());
            }
            if let Some(page) = extension.page(&self.health) {
                pages.push((place, page, extension.named()));
            }
        }
        let mut openings = self.openings(plan).await?;
        let retired = self.retired.iter().filter(|retired| !retired.is_done()).flat_map(|retired| &retired.queues);
        let (budget, alarm) = (self.budget.clone(), self.alarm.clone());
        let mut builder = Builder::new(plan, &self.graph, &self.written, budget, alarm, supervisor.clone());
        builder.closing = retired.filter_map(|queue| queue.path()).collect();
        let built = builder.build()?;
        for (id, exporter) in built.exporters() {
            let named = plan.exporter(id).map(|settings| settings.named()).unwrap_or_default();
            pages.extend(exporter.page().map(|page| (format!("exporters.{id}"), page, named)));
        }
        for (place, AdminPage { name, endpoint, tls, mut front, answers }, named) in pages {
            front.guard = plan.authenticators(&named)?.pop().map(|(_, guard)| guard);
            if let Some(tls) = tls {
                let read = files::aside(move || tls::server_config(&tls, &[b"http/1.1"])).await.flatten();
                let read = read.map_err(|error| format!("failed to load TLS config ({place}): {error}"))?;
                front.tls = Some(read);
            }
            let front = Arc::new(front);
            for socket in bind(&endpoint, &place, &mut open, &self.admin_thread).await? {
                serve(name, socket, front.clone(), answers.clone());
            }
        }
        let scraped = scrape_sockets(plan, &mut open, &self.admin_thread).await?;
        let resource = Arc::new(own::resource(&plan.telemetry.resource, &self.instance_id));
        let pushers = self.pushers(plan, &resource)?;

        self.budget.resize(budget_of(plan));
        self.tells_clients.store(plan.names_clients(), Relaxed);
        let mut gates = built.gates.clone();
        let (graph, before) = built.connect();
        for queue in graph.queues.iter().filter(|queue| !holds(&self.graph.queues, queue)) {
            let watch =
                supervisor.watch(format!("queue of {}, {}", queue.account.exporter, queue.account.signal.name()));
            self.dispatchers.spawn_on(queue.clone().dispatch(watch), &self.workers.least_loaded().handle);
        }
        let stages: Vec<_> = graph.stages.iter().map(|stage| stage.clone() as Arc<dyn Wakeful>).collect();
        self.timekeeper = JoinSet::new();
        let (watch, alarm) = (supervisor.watch("timekeeper"), self.alarm.clone());
        self.timekeeper.spawn(async move { while watch.run(keep_time(&alarm, &stages)).await.is_none() {} });
        let (of_parts, of_graph) = (supervisor.clone(), graph.troubles());
        self.health.ask(Box::new(move || of_parts.trouble().or_else(log::trouble).or_else(&of_graph)));
        let mut observers = observers(&graph, &self.budget, self.started.instant);
        observers.push(self.reloads.clone());
        observers.push(supervisor.clone());
        observers.extend(pushers.iter().map(|pusher| pusher.clone() as Arc<dyn Observe>));
        let observers = Arc::new(observers);
        let (served, of_page) = (scraped.iter().map(|(listen, _)| listen.clone()).collect(), observers.clone());
        let of_all = resource.clone();
        self.own_page.set(served, Arc::new(move || scrape::text(&of_page, &of_all)));
        for socket in scraped {
            let (observers, resource) = (observers.clone(), resource.clone());
            let answers = Arc::new(move |question: &Question<'_>| scrape::answer(&observers, &resource, question));
            serve("metrics endpoint", socket, Arc::default(), answers);
        }
        (self.admin, self.admin_sockets) = (admin, admin_sockets);
        self.observers.send_replace(observers);
        self.push_by(pushers);
        let old = std::mem::replace(&mut self.graph, graph);
        let mut doors = HashMap::new();
        for id in plan.receivers() {
            let Opening { ports, guards } = openings.remove(id).unwrap_or_default();
            let door = self.doors.remove(id).filter(|_| plan.is_as(&self.written, Kind::Receiver, id));
            if let Some(door) = &door {
                door.ports.iter().zip(&ports).for_each(|(port, read)| port.renew(read));
            }
            let gates = gates.remove(id).unwrap_or_default();
            let door = door.unwrap_or_else(|| self.open(plan, id, Opening { ports, guards }, gates));
            doors.insert(id.clone(), door);
        }
        // Removed and changed receivers have lost their stop sender, which ends them.
        self.doors = doors;
        self.addresses = self.doors.values().flat_map(|door| door.ports.iter().map(Port::address)).collect();
        self.written.clone_from(&plan.written);
        self.extensions.clone_from(plan.all_extensions());
        self.retire(Retired::of(old, &self.graph, before));
        Ok(())
    }

    /// The running pushers whose settings stay, and new ones.
    fn pushers(&self, plan: &Plan, resource: &push::Attributes) -> Result<Vec<Arc<Pusher>>, String> {
        let mut running = self.pushers.clone();
        let pusher = |push: &(_, _)| {
            if let Some(index) = running.iter().position(|pusher| pusher.is_like(&push.0, resource)) {
                return Ok(running.swap_remove(index));
            }
            Pusher::open(push, (resource, self.started.wall), self.observers.subscribe(), &self.budget)
        };
        plan.pushes.iter().map(pusher).collect()
    }

    /// Starts new pushers, and ends those that are gone after a last push.
    fn push_by(&mut self, pushers: Vec<Arc<Pusher>>) {
        while self.pushing.try_join_next().is_some() {}
        for gone in self.pushers.iter().filter(|pusher| !holds(&pushers, pusher)) {
            gone.stop.send_replace(Some(clock() + LAST_PUSH[1]));
        }
        for new in pushers.iter().filter(|pusher| !holds(&self.pushers, pusher)) {
            let watch = self.workers.supervisor.watch("push of the collector's own telemetry");
            self.pushing.spawn_on(new.clone().run(watch), &self.admin_thread.handle);
        }
        self.pushers = pushers;
    }

    /// Binds receivers' ports and reads their certificates. A socket passes from one receiver to the next.
    async fn openings(&self, plan: &Plan) -> Result<HashMap<ComponentId, Opening>, CannotStart> {
        let mut openings = HashMap::new();
        let receivers = plan.receivers();
        let gone = self.doors.iter().filter(|(id, _)| !receivers.contains(id));
        let mut of_gone: Vec<Port> = gone.flat_map(|(_, door)| door.ports.clone()).collect();
        for id in receivers {
            let Some(settings) = plan.receiver(id) else { continue };
            let mut open = self.doors.get(id).map_or_else(Vec::new, |door| door.ports.clone());
            if !plan.is_as(&self.written, Kind::Receiver, id) {
                open.append(&mut of_gone);
            }
            let ports = settings.bind(&id.to_string(), &mut open).await?;
            of_gone.append(&mut open);
            let guards = plan.authenticators(&settings.named())?;
            openings.insert(id.clone(), Opening { ports, guards });
        }
        Ok(openings)
    }

    /// Starts a receiver.
    fn open(&mut self, plan: &Plan, id: &ComponentId, opening: Opening, gates: Gates) -> Door {
        let (_stop, stop) = watch::channel(false);
        let Opening { ports, guards } = opening;
        let parts = ReceiverParts {
            id: id.to_string(),
            ports: ports.clone(),
            guards,
            gates,
            budget: self.budget.clone(),
            connections: self.connections.clone(),
            tells_clients: self.tells_clients.clone(),
            workers: self.workers.clone(),
            own_page: self.own_page.clone(),
            stop,
        };
        for run in plan.receiver(id).map(|settings| settings.start(parts)).unwrap_or_default() {
            self.receivers.spawn(run);
        }
        Door { _stop, ports }
    }

    fn retire(&mut self, retired: Retired) {
        while self.dispatchers.try_join_next().is_some() {}
        while self.receivers.try_join_next().is_some() {}
        while self.retiring.try_join_next().is_some() {}
        self.retired.retain(|retired| !retired.is_done());
        let retired = Arc::new(retired);
        let (watch, earlier) = (self.workers.supervisor.watch("drain after a reload"), self.retired.clone());
        let drained = retired.clone();
        self.retiring.spawn(async move { while watch.run(drained.drain(&earlier)).await.is_none() {} });
        self.retired.push(retired);
    }

    /// All stages, upstream ones first, and all queues, including retired ones.
    pub fn stages(&self) -> impl Iterator<Item = &Arc<dyn Stage>> {
        let retired = self.retired.iter().flat_map(|retired| retired.stages.iter().rev());
        retired.chain(self.graph.stages.iter().rev())
    }

    pub fn queues(&self) -> impl Iterator<Item = &Arc<Queue>> {
        self.retired.iter().flat_map(|retired| &retired.queues).chain(&self.graph.queues)
    }

    /// Every account that was ever used, with its numbers.
    pub fn balance(&self) -> Vec<Balance> {
        self.graph
            .accounts
            .iter()
            .filter(|account| account.accepted() > 0)
            .map(|account| Balance::of(account, self.on_disk(account)))
            .collect()
    }

    /// The part of an account's waiting items that is in a queue on disk.
    fn on_disk(&self, account: &Arc<Account>) -> u64 {
        let stored = self.queues().filter(|queue| queue.is_stored() && Arc::ptr_eq(&queue.account, account));
        stored.map(|queue| queue.held_items()).sum()
    }

    /// Items in batches and queues, and in flight: counted where they are, not from the accounts.
    pub fn held_items(&self) -> u64 {
        let stages: u64 = self.stages().map(|stage| stage.held_items()).sum();
        let printing = self.graph.exporters.iter().map(|(_, exporter)| exporter.waiting().iter().sum::<u64>());
        stages + self.queues().map(|queue| queue.held_items()).chain(printing).sum::<u64>()
    }

    /// A description of each processor's rules; once for all pipelines that use it.
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

    /// The results of each processor's rules.
    pub fn results(&self) -> Vec<(&str, String)> {
        let steps = self.graph.steps.iter();
        steps.flat_map(|step| step.processor.results().into_iter().map(|line| (step.id.as_str(), line))).collect()
    }

    /// Accepted and refused items at the gates.
    pub fn intake(&self) -> (u64, u64) {
        let counts = self.graph.gates.iter().map(|gate| gate.counts());
        counts.fold((0, 0), |sum, gate| (sum.0 + gate.0.items(), sum.1 + gate.1))
    }

    /// Stops the receivers, drains everything until the deadline, and returns the balance.
    pub async fn drain(&mut self, within: Duration) -> Vec<Balance> {
        let deadline = clock() + within;
        self.health.set(false);
        self.retiring.shutdown().await;
        // Receivers end when their stop sender is dropped, including those a reload replaced.
        self.doors.clear();
        let answers = async { while self.receivers.join_next().await.is_some() {} };
        let in_time = tokio::time::timeout(ANSWERS.min(within), answers).await.is_ok();
        if !in_time {
            self.receivers.shutdown().await;
        }
        while self.stages().filter(|stage| !stage.drain(Now::read(), Drain::Shutdown)).count() > 0 {
            if clock() >= deadline {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.queues().for_each(|queue| queue.drain());
        let rest = deadline.saturating_duration_since(clock());
        let sent = async { while self.dispatchers.join_next().await.is_some() {} };
        if tokio::time::timeout(rest, sent).await.is_err() {
            self.dispatchers.shutdown().await;
        }
        let retired = self.retired.iter().flat_map(|retired| &retired.exporters);
        let exporters: Vec<_> =
            retired.chain(self.graph.exporters.iter().map(|(_, exporter)| exporter)).cloned().collect();
        let unprinted =
            tokio::task::spawn_blocking(move || exporters.iter().map(|exporter| exporter.close(OUTPUT)).sum::<u64>());
        if let Ok(unprinted @ 1..) = unprinted.await {
            tracing::warn!(items = unprinted, "the reader of the debug output took not all of it");
        }
        self.timekeeper.shutdown().await;
        let [least, most] = LAST_PUSH;
        let last = clock() + deadline.saturating_duration_since(clock()).clamp(least, most);
        self.pushers.iter().for_each(|pusher| _ = pusher.stop.send_replace(Some(last)));
        while self.pushing.join_next().await.is_some() {}
        self.admin.shutdown().await;
        self.admin_sockets.clear();
        self.balance()
    }
}

async fn warm_up(authenticator: Arc<Authenticator>) -> Result<(), String> {
    files::aside(move || authenticator.warm_up()).await.flatten()
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

    /// Items lost with the process.
    pub(crate) fn left_in_memory(&self) -> u64 {
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
