//! From a plan to what runs: exporters and their queues first, then the pipelines back to front, then the gates.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::config::{ComponentId, Kind, Pipeline, PipelineId};
use crate::diagnostics::metrics::Observe;
use crate::diagnostics::supervisor::Supervisor;
use crate::exporters::Exporter;
use crate::exporters::debug::sink::{Debug, DebugSink};
use crate::exporters::file;
use crate::exporters::nop::Nop;
use crate::exporters::otlp_grpc::Grpc;
use crate::exporters::otlp_http::Http;
use crate::exporters::settings::Settings;
use crate::extensions::file_storage;
use crate::extensions::health_check::Troubles;
use crate::pipeline::intake::Gate;
use crate::pipeline::{Branches, End, Next, Segment, Step};
use crate::processors::batch::Batch;
use crate::processors::memory_limiter::MemoryLimiter;
use crate::processors::tail_sampling::TailSampling;
use crate::processors::{Processor, Stage};
use crate::receivers::Gates;
use crate::sending::{self, Queue, Way};
use crate::telemetry::{Account, Accounts, Alarm, Bill, Budget, Intake, Outlet, Signal, Sink, Tap};

use super::plan::{Plan, Side, Written};
use super::registry::Component;

/// Everything between the receivers and the network. Beside another graph it takes over from it what is the same: gates
/// and accounts by name, the rest by its id, its place and what was written for it.
#[derive(Clone, Default)]
pub struct Graph {
    pub queues: Vec<Arc<Queue>>,
    /// The processors that hold telemetry, those behind others first.
    pub stages: Vec<Arc<dyn Stage>>,
    places: Vec<StagePlace>,
    pub outputs: Vec<Arc<Debug>>,
    files: Vec<(ComponentId, Arc<file::Output>)>,
    /// Of this config and of earlier ones, which are closed.
    pub gates: Vec<Arc<Gate>>,
    /// Likewise: the ledger forgets nobody.
    pub accounts: Accounts,
    /// Those of exporters without a queue, which count for themselves.
    printed: Accounts,
    pub steps: Vec<Arc<Step>>,
    pub tap: Arc<Tap>,
    pub bill: Arc<Bill>,
}

/// Where a stage stands, and who is owed what it holds.
#[derive(Clone)]
struct StagePlace {
    pipeline: PipelineId,
    id: ComponentId,
    stage: Arc<dyn Stage>,
    next: Arc<Next>,
    accounts: Accounts,
}

/// A graph that runs as soon as it is connected.
pub struct Built {
    pub graph: Graph,
    pub gates: HashMap<ComponentId, Gates>,
    stages: Vec<(Arc<Next>, Arc<Branches>)>,
    doors: Vec<(Arc<Gate>, Arc<Branches>)>,
    queues: Vec<(Arc<Queue>, Way)>,
}

impl Built {
    /// From now on telemetry takes the ways of this graph; returns those that it took before.
    pub fn connect(self) -> (Graph, Vec<Arc<Branches>>) {
        self.queues.into_iter().for_each(|(queue, way)| queue.change(way));
        let mut before: Vec<_> = self.stages.into_iter().map(|(next, branches)| next.set(Some(branches))).collect();
        let closed = self.graph.gates.iter().filter(|gate| !self.doors.iter().any(|(open, _)| Arc::ptr_eq(open, gate)));
        before.extend(closed.map(|gate| gate.next.set(None)));
        before.extend(self.doors.into_iter().map(|(gate, branches)| gate.next.set(Some(branches))));
        let mut once: Vec<Arc<Branches>> = Vec::new();
        for branches in before.into_iter().flatten() {
            if !once.iter().any(|known| Arc::ptr_eq(known, &branches)) {
                once.push(branches);
            }
        }
        (self.graph, once)
    }
}

pub struct Builder<'a> {
    plan: &'a Plan,
    old: &'a Graph,
    written: &'a Written,
    /// Logs on disk that are still being sent, of exporters that are gone.
    pub closing: Vec<&'a Path>,
    budget: Arc<Budget>,
    alarm: Arc<Alarm>,
    supervisor: Arc<Supervisor>,
    sinks: HashMap<(ComponentId, Signal), (Arc<dyn Sink>, Arc<Account>)>,
    outputs: HashMap<ComponentId, Arc<Debug>>,
    built: HashMap<PipelineId, (Arc<Segment>, Accounts)>,
    stages: Vec<(Arc<Next>, Arc<Branches>)>,
    queues: Vec<(Arc<Queue>, Way)>,
    graph: Graph,
}

impl<'a> Builder<'a> {
    /// Beside `old`, of which `written` is the config; nothing of it is touched before the new graph is connected.
    pub fn new(
        plan: &'a Plan,
        old: &'a Graph,
        written: &'a Written,
        budget: Arc<Budget>,
        alarm: Arc<Alarm>,
        supervisor: Arc<Supervisor>,
    ) -> Builder<'a> {
        let (gates, accounts) = (old.gates.clone(), old.accounts.clone());
        let (tap, bill) = (old.tap.clone(), old.bill.clone());
        Builder {
            plan,
            old,
            written,
            closing: Vec::new(),
            budget,
            alarm,
            supervisor,
            sinks: HashMap::new(),
            outputs: HashMap::new(),
            built: HashMap::new(),
            stages: Vec::new(),
            queues: Vec::new(),
            graph: Graph { gates, accounts, tap, bill, ..Graph::default() },
        }
    }

    fn is_kept(&self, kind: Kind, id: &ComponentId) -> bool {
        self.plan.is_as(self.written, kind, id)
    }

    /// Builds all pipelines and the gates of every receiver in use.
    #[expect(clippy::indexing_slicing, reason = "one gate a signal, indexed by it")]
    pub fn build(mut self) -> Result<Built, String> {
        let mut receivers: HashMap<ComponentId, Gates> = HashMap::new();
        let (mut doors, mut fed) = (Vec::new(), HashSet::new());
        let plan = self.plan;
        for extension in &plan.extensions {
            if let Some(Component::FileStorage(storage)) = plan.get(Kind::Extension, &extension.id) {
                let directory = storage.directory.display();
                if let Some(hazard) = storage.hazard() {
                    tracing::warn!(%directory, "the storage is {hazard}");
                }
                let files = storage.foreign_files();
                if !files.is_empty() {
                    tracing::warn!(%directory, ?files, "queues of the Go collector are left alone: it can still send them");
                }
            }
        }
        for pipeline in &plan.pipelines {
            for receiver in &pipeline.receivers {
                let signal = pipeline.id.signal;
                if plan.is_connector(&receiver.id) || !fed.insert((receiver.id.clone(), signal)) {
                    continue;
                }
                let mut segments = Vec::new();
                let mut accounts = Vec::new();
                for fed in plan.fed_by(&receiver.id, pipeline) {
                    let (segment, owed) = self.pipeline(fed)?;
                    segments.push(segment);
                    accounts.extend(owed);
                }
                let branches = Arc::new(Branches::new(segments, accounts));
                let transports = if plan.is_scraper(&receiver.id) { &[""][..] } else { &["grpc", "http"] };
                for transport in transports {
                    doors.push((self.gate(&receiver.id, transport, signal), branches.clone()));
                }
            }
        }
        for id in plan.receivers() {
            let gates = receivers.entry(id.clone()).or_default();
            for signal in Signal::ALL {
                if plan.is_scraper(id) {
                    let is_fed = fed.contains(&(id.clone(), signal));
                    gates.own[signal as usize] = is_fed.then(|| self.gate(id, "", signal) as Arc<dyn Intake>);
                } else {
                    gates.grpc[signal as usize] = Some(self.gate(id, "grpc", signal));
                    gates.http[signal as usize] = Some(self.gate(id, "http", signal));
                }
            }
        }
        let Builder { stages, queues, graph, .. } = self;
        Ok(Built { graph, gates: receivers, stages, doors, queues })
    }

    /// The gate of this name: what it counted goes on.
    fn gate(&mut self, receiver: &ComponentId, transport: &'static str, signal: Signal) -> Arc<Gate> {
        let (receiver, gates) = (receiver.to_string(), &mut self.graph.gates);
        let is_it = |gate: &&Arc<Gate>| {
            (gate.receiver.as_str(), gate.transport, gate.signal()) == (receiver.as_str(), transport, signal)
        };
        if let Some(gate) = gates.iter().find(is_it) {
            return gate.clone();
        }
        let gate = Arc::new(Gate::new(&receiver, transport, signal, self.graph.tap.clone(), self.budget.clone()));
        gates.push(gate.clone());
        gate
    }

    /// The first segment of a pipeline, and the accounts of every exporter it leads to.
    fn pipeline(&mut self, pipeline: &Pipeline) -> Result<(Arc<Segment>, Accounts), String> {
        if let Some(built) = self.built.get(&pipeline.id) {
            return Ok(built.clone());
        }
        let plan = self.plan;
        let (mut ends, mut accounts) = (Vec::new(), Vec::new());
        for exporter in &pipeline.exporters {
            if plan.is_connector(&exporter.id) {
                for fed in plan.fed_by(&exporter.id, pipeline) {
                    let (segment, owed) = self.pipeline(fed)?;
                    ends.push(End::Segment(segment));
                    accounts.extend(owed);
                }
            } else {
                let (sink, account) = self.sink(&exporter.id, pipeline.id.signal)?;
                ends.push(End::Sink(sink));
                accounts.push(account);
            }
        }
        let signal = pipeline.id.signal;
        let mut steps = Vec::new();
        for reference in pipeline.processors.iter().rev() {
            let (place, id) = (&reference.id, reference.id.to_string());
            let (budget, alarm) = (self.budget.clone(), self.alarm.clone());
            match plan.get(Kind::Processor, place) {
                Some(Component::Batch(config)) => {
                    let before = (std::mem::take(&mut steps), std::mem::take(&mut ends));
                    ends.push(self.stage(pipeline, place, before, &accounts, |outlet, accounts| {
                        Arc::new(Batch::new(&id, signal, config.clone(), outlet, accounts, budget, alarm))
                    }));
                }
                Some(Component::TailSampling(config)) if signal == Signal::Traces => {
                    let before = (std::mem::take(&mut steps), std::mem::take(&mut ends));
                    ends.push(self.stage(pipeline, place, before, &accounts, |outlet, accounts| {
                        TailSampling::new(&id, config.clone(), outlet, accounts, budget, alarm)
                    }));
                }
                Some(Component::TailSampling(_)) => {
                    return Err(format!("tail_sampling takes traces, not {} (processors.{id})", signal.name()));
                }
                Some(Component::MemoryLimiter(_)) => {
                    steps.push(self.step(pipeline, place, &accounts, || Ok(Arc::new(MemoryLimiter)))?);
                }
                Some(Component::Processor(factory)) => {
                    let build = || factory.build(&id, signal).map_err(|error| format!("{error} (processors.{id})"));
                    steps.push(self.step(pipeline, place, &accounts, build)?);
                }
                _ => return Err(format!("\"{id}\" is not a processor")),
            }
        }
        let segment = self.segment(steps, ends);
        self.built.insert(pipeline.id.clone(), (segment.clone(), accounts.clone()));
        Ok((segment, accounts))
    }

    /// A processor; the one that runs already, with what it counted, when nothing about it changes.
    fn step(
        &self,
        pipeline: &Pipeline,
        id: &ComponentId,
        accounts: &Accounts,
        build: impl FnOnce() -> Result<Arc<dyn Processor>, String>,
    ) -> Result<Arc<Step>, String> {
        let (place, name) = (pipeline.id.clone(), id.to_string());
        let is_it = |step: &&Arc<Step>| step.pipeline == place && step.id == name && are_same(&step.accounts, accounts);
        if let Some(step) = self.old.steps.iter().find(is_it).filter(|_| self.is_kept(Kind::Processor, id)) {
            return Ok(step.clone());
        }
        Ok(Arc::new(Step {
            pipeline: place,
            id: name,
            signal: pipeline.id.signal,
            processor: build()?,
            accounts: accounts.clone(),
            incoming: AtomicU64::new(0),
            outgoing: AtomicU64::new(0),
        }))
    }

    /// A processor that holds telemetry, before the steps and ends that follow it. The one that runs goes on with what it
    /// holds, unless that is owed to others than what follows now leads to.
    fn stage(
        &mut self,
        pipeline: &Pipeline,
        id: &ComponentId,
        (steps, ends): (Vec<Arc<Step>>, Vec<End>),
        accounts: &Accounts,
        make: impl FnOnce(Arc<dyn Outlet>, Accounts) -> Arc<dyn Stage>,
    ) -> End {
        let segment = self.segment(steps, ends);
        let branches = Arc::new(Branches::new(vec![segment], accounts.clone()));
        let is_it = |place: &&StagePlace| {
            place.pipeline == pipeline.id && place.id == *id && are_same(&place.accounts, accounts)
        };
        let kept = self.old.places.iter().find(is_it).filter(|_| self.is_kept(Kind::Processor, id));
        let place = kept.cloned().unwrap_or_else(|| {
            let next = Arc::new(Next::default());
            let (pipeline, id, accounts) = (pipeline.id.clone(), id.clone(), accounts.clone());
            StagePlace { pipeline, id, stage: make(next.clone(), accounts.clone()), next, accounts }
        });
        self.stages.push((place.next.clone(), branches));
        let stage = place.stage.clone();
        self.graph.stages.push(stage.clone());
        self.graph.places.push(place);
        End::Sink(stage)
    }

    /// A segment of steps that were gathered back to front.
    fn segment(&mut self, mut steps: Vec<Arc<Step>>, ends: Vec<End>) -> Arc<Segment> {
        steps.reverse();
        self.graph.steps.extend(steps.iter().cloned());
        Arc::new(Segment { steps, ends })
    }

    fn sink(&mut self, id: &ComponentId, signal: Signal) -> Result<(Arc<dyn Sink>, Arc<Account>), String> {
        if let Some(sink) = self.sinks.get(&(id.clone(), signal)) {
            return Ok(sink.clone());
        }
        let name = id.to_string();
        let known = self.graph.accounts.iter().find(|account| account.exporter == name && account.signal == signal);
        let account = known.cloned().unwrap_or_else(|| {
            let account = Arc::new(Account::new(&name, signal, self.graph.tap.clone(), self.graph.bill.clone()));
            self.graph.accounts.push(account.clone());
            account
        });
        let plan = self.plan;
        let sink: Arc<dyn Sink> = match plan.get(Kind::Exporter, id) {
            Some(Component::Nop) => {
                self.graph.printed.push(account.clone());
                Arc::new(Nop::new(account.clone()))
            }
            Some(Component::Debug(config)) => {
                self.graph.printed.push(account.clone());
                let debug = match self.outputs.get(id) {
                    Some(debug) => debug.clone(),
                    None => {
                        let kept = self.old.outputs.iter().find(|debug| debug.id() == name);
                        let kept = kept.filter(|_| self.is_kept(Kind::Exporter, id)).cloned();
                        let opened = kept.map_or_else(
                            || {
                                let watch = self.supervisor.watch(format!("output of {name}"));
                                Debug::open(&name, config.clone(), &self.budget, watch)
                            },
                            Ok,
                        );
                        let debug = opened.map_err(|error| format!("{error} (exporters.{name})"))?;
                        self.outputs.insert(id.clone(), debug.clone());
                        self.graph.outputs.push(debug.clone());
                        debug
                    }
                };
                Arc::new(DebugSink::new(debug, signal, account.clone()))
            }
            Some(Component::File(config)) => {
                let output = self.file(id, config).map_err(|error| format!("{error} (exporters.{name})"))?;
                let exporter = Arc::new(file::File::new(config, output, self.budget.clone()));
                self.queue(id, signal, &config.sending, exporter, &account)?
            }
            _ => {
                let (exporter, settings) = client(plan, id, signal, &self.budget)?;
                self.queue(id, signal, settings, exporter, &account)?
            }
        };
        self.sinks.insert((id.clone(), signal), (sink.clone(), account.clone()));
        Ok((sink, account))
    }

    /// The file of an exporter, for all its signals. One that is written to already goes on where it is.
    fn file(&mut self, id: &ComponentId, config: &file::Config) -> Result<Arc<file::Output>, String> {
        if let Some((_, output)) = self.graph.files.iter().find(|(known, _)| known == id) {
            return Ok(output.clone());
        }
        let kept = self.old.files.iter().find(|(known, _)| known == id && self.is_kept(Kind::Exporter, id));
        let output = match kept {
            Some((_, output)) => output.clone(),
            None => {
                let goes_on = self.old.files.iter().any(|(_, output)| output.path() == config.path);
                Arc::new(file::Output::open(config, goes_on)?)
            }
        };
        self.graph.files.push((id.clone(), output.clone()));
        Ok(output)
    }

    /// The queue that runs keeps what it holds while its settings are the same; how it is sent may change.
    fn queue(
        &mut self,
        id: &ComponentId,
        signal: Signal,
        settings: &Settings,
        exporter: Arc<dyn Exporter>,
        account: &Arc<Account>,
    ) -> Result<Arc<dyn Sink>, String> {
        let name = &id.to_string();
        let (settings, account, budget) = (settings.clone(), account.clone(), self.budget.clone());
        let storage = settings.queue.storage.as_ref().filter(|_| settings.queue.enabled);
        let storage = storage.and_then(|(id, _)| self.plan.storage(id));
        let failed = |error: String| format!("{error} (exporters.{name})");
        if let Some(old) = self.old.queues.iter().find(|queue| Arc::ptr_eq(&queue.account, &account)) {
            // What it holds is sent as the new config says, wherever the rest goes.
            if !self.is_kept(Kind::Exporter, id) {
                self.queues.push((old.clone(), Way { settings: settings.clone(), exporter: exporter.clone() }));
            }
            let is_place_kept = self.storage_limits(storage)? == old.limits();
            let path = storage.map(|storage| storage.log_path(name, signal.name()));
            if old.is_like(&settings) && is_place_kept && path.as_deref() == old.path() {
                self.graph.queues.push(old.clone());
                return Ok(old.clone());
            }
            if path.is_some() && path.as_deref() == old.path() {
                let error = "a queue on disk keeps its sending_queue and file_storage settings while it runs: restart";
                return Err(failed(error.to_owned()));
            }
        }
        let queue = match storage {
            None => Queue::new(name, signal, settings, exporter, account, budget),
            Some(storage) => {
                let path = storage.log_path(name, signal.name());
                if self.closing.contains(&path.as_path()) {
                    let error = "what the exporter left on disk when it was removed is still being sent: add it later";
                    return Err(failed(error.to_owned()));
                }
                let limits = storage.limits().map_err(|error| failed(format!("{}: {error}", path.display())))?;
                if !limits.sync {
                    tracing::warn!(
                        exporter = name,
                        "fsync is off: what is accepted survives the end of the process, not that of the machine"
                    );
                }
                let supervisor = &self.supervisor;
                let place = sending::Place { path: &path, limits, wait: storage.timeout, supervisor };
                Queue::stored(name, signal, settings, exporter, account, budget, &place).map_err(failed)?
            }
        };
        self.graph.queues.push(queue.clone());
        Ok(queue)
    }

    fn storage_limits(&self, storage: Option<&file_storage::Config>) -> Result<Option<sending::disk::Limits>, String> {
        let limits = storage.map(file_storage::Config::limits).transpose();
        limits.map_err(|error| format!("cannot look at the filesystem of a queue: {error}"))
    }
}

/// Whether the same is owed to the same exporters.
fn are_same(one: &Accounts, other: &Accounts) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| Arc::ptr_eq(one, other))
}

/// An exporter that sends over a network, for one signal, and how it wants to be queued.
pub fn client<'p>(
    plan: &'p Plan,
    id: &ComponentId,
    signal: Signal,
    budget: &Arc<Budget>,
) -> Result<(Arc<dyn Exporter>, &'p Settings), String> {
    match plan.get(Kind::Exporter, id) {
        Some(Component::OtlpGrpc(config)) => {
            let auth = plan.authenticator(&config.auth, Side::Client)?;
            Ok((Arc::new(Grpc::new(signal, config, auth, budget.clone())), &config.sending))
        }
        Some(Component::OtlpHttp(config)) => {
            let Some(Some(url)) = config.endpoints.get(signal as usize) else {
                return Err(format!("\"{id}\" has no endpoint for {}", signal.name()));
            };
            let auth = plan.authenticator(&config.auth, Side::Client)?;
            Ok((Arc::new(Http::new(signal, config, url, auth, budget.clone())), &config.sending))
        }
        _ => Err(format!("\"{id}\" is not an exporter that sends")),
    }
}

impl Graph {
    /// The first queue that telemetry gets stuck in, and why.
    pub fn troubles(&self) -> Troubles {
        let queues = self.queues.clone();
        let trouble = |queue: &Arc<Queue>| Some((queue.account.exporter.clone(), queue.trouble()?));
        Box::new(move || queues.iter().find_map(trouble))
    }

    /// Everyone who counts.
    pub fn observers(&self) -> Vec<Arc<dyn Observe>> {
        let gates = self.gates.iter().map(|gate| gate.clone() as Arc<dyn Observe>);
        let steps = self.steps.iter().map(|step| step.clone() as Arc<dyn Observe>);
        let stages = self.stages.iter().map(|stage| stage.clone() as Arc<dyn Observe>);
        let queues = self.queues.iter().map(|queue| queue.clone() as Arc<dyn Observe>);
        let printed = self.printed.iter().map(|account| account.clone() as Arc<dyn Observe>);
        gates.chain(steps).chain(stages).chain(queues).chain(printed).collect()
    }
}
