//! From a plan to the running graph: exporters and their queues first, then the pipelines back to front, then the
//! gates.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use crate::config::{ComponentId, Kind, Pipeline, PipelineId};
use crate::diagnostics::health::Troubles;
use crate::diagnostics::metrics::Observe;
use crate::diagnostics::supervisor::Supervisor;
use crate::exporters::{self, Exporter, ExporterParts, OpenExporter};
use crate::pipeline::intake::Gate;
use crate::pipeline::{Branches, End, Next, Segment, Step};
use crate::processors::{Processor, Role, Stage, StageFactory, StageParts};
use crate::receivers::Gates;
use crate::sending::storage::Storage;
use crate::sending::{self, Queue, Way};
use crate::telemetry::{Account, Accounts, Alarm, Bill, Budget, Intake, Passed, Signal, Sink, Tap};

use super::plan::{Plan, Written};

/// Everything between the receivers and the network. At a reload it takes over unchanged parts of the previous graph:
/// gates and accounts by name, the others by id, position and config text.
#[derive(Clone, Default)]
pub struct Graph {
    pub(crate) pipelines: Vec<Pipeline>,
    pub queues: Vec<Arc<Queue>>,
    /// The processors that hold telemetry, downstream ones first.
    pub(crate) stages: Vec<Arc<dyn Stage>>,
    places: Vec<StagePlace>,
    pub exporters: Vec<(ComponentId, Arc<dyn OpenExporter>)>,
    /// Gates of this config, and closed ones of earlier configs.
    pub gates: Vec<Arc<Gate>>,
    /// Likewise: the ledger forgets no account.
    pub accounts: Accounts,
    /// Accounts of exporters without a queue, which report their own metrics.
    printed: Accounts,
    pub(crate) steps: Vec<Arc<Step>>,
    pub tap: Arc<Tap>,
    pub bill: Arc<Bill>,
}

/// The position of a stage, and the accounts it owes its items to.
#[derive(Clone)]
struct StagePlace {
    pipeline: PipelineId,
    id: ComponentId,
    stage: Arc<dyn Stage>,
    next: Arc<Next>,
    accounts: Accounts,
}

/// A graph that runs once it is connected.
pub(crate) struct Built {
    graph: Graph,
    pub(super) gates: HashMap<ComponentId, Gates>,
    stages: Vec<(Arc<Next>, Arc<Branches>)>,
    doors: Vec<(Arc<Gate>, Arc<Branches>)>,
    queues: Vec<(Arc<Queue>, Way)>,
}

impl Built {
    pub(super) fn exporters(&self) -> &[(ComponentId, Arc<dyn OpenExporter>)] {
        &self.graph.exporters
    }

    /// Directs telemetry to this graph; returns the previous branches.
    pub(crate) fn connect(self) -> (Graph, Vec<Arc<Branches>>) {
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

pub(crate) struct Builder<'a> {
    plan: &'a Plan,
    old: &'a Graph,
    written: &'a Written,
    /// Logs on disk of removed exporters that are still being sent.
    pub(super) closing: Vec<&'a Path>,
    budget: Arc<Budget>,
    alarm: Arc<Alarm>,
    supervisor: Arc<Supervisor>,
    sinks: HashMap<(ComponentId, Signal), (Arc<dyn Sink>, Arc<Account>)>,
    built: HashMap<PipelineId, (Arc<Segment>, Accounts)>,
    stages: Vec<(Arc<Next>, Arc<Branches>)>,
    queues: Vec<(Arc<Queue>, Way)>,
    graph: Graph,
}

impl<'a> Builder<'a> {
    /// Prepares the successor of `old`, whose config is `written`; `old` is not touched before the new graph is
    /// connected.
    pub(crate) fn new(
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
    pub(crate) fn build(mut self) -> Result<Built, String> {
        let mut receivers: HashMap<ComponentId, Gates> = HashMap::new();
        let (mut doors, mut fed) = (Vec::new(), HashSet::new());
        let plan = self.plan;
        self.graph.pipelines.clone_from(&plan.pipelines);
        for storage in plan.started_extensions().filter_map(|(_, extension)| extension.storage()) {
            let directory = storage.directory.display();
            if let Some(hazard) = storage.hazard() {
                tracing::warn!(%directory, "the storage is {hazard}");
            }
            let files = storage.foreign_files();
            if !files.is_empty() {
                tracing::warn!(%directory, ?files, "queues of the Go collector are left alone: it can still send them");
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
                let transports = plan.receiver(&receiver.id).map(|settings| settings.transports()).unwrap_or_default();
                for transport in transports {
                    doors.push((self.gate(&receiver.id, transport, signal), branches.clone()));
                }
            }
        }
        for id in plan.receivers() {
            let Some(settings) = plan.receiver(id) else { continue };
            let brings = settings.signals();
            let by_signal = |builder: &mut Self, transport| {
                Signal::ALL.map(|signal| {
                    brings.contains(&signal).then(|| builder.gate(id, transport, signal) as Arc<dyn Intake>)
                })
            };
            let gates = settings.transports().iter().map(|transport| (*transport, by_signal(&mut self, transport)));
            receivers.insert(id.clone(), Gates(gates.collect()));
        }
        let Builder { stages, queues, graph, .. } = self;
        Ok(Built { graph, gates: receivers, stages, doors, queues })
    }

    /// The gate of this name, with its counts.
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
            match plan.processor(place).map(|settings| settings.role()) {
                Some(Role::Stage(factory)) => {
                    if let Some(why) = factory.refuses(signal) {
                        return Err(format!("{why} (processors.{id})"));
                    }
                    let before = (std::mem::take(&mut steps), std::mem::take(&mut ends));
                    ends.push(self.stage(pipeline, place, before, &accounts, factory));
                }
                Some(Role::Step(factory)) => {
                    let build = || factory.build(&id, signal).map_err(|error| format!("{error} (processors.{id})"));
                    steps.push(self.step(pipeline, place, &accounts, build)?);
                }
                None => return Err(format!("\"{id}\" is not a processor")),
            }
        }
        let segment = self.segment(steps, ends);
        self.built.insert(pipeline.id.clone(), (segment.clone(), accounts.clone()));
        Ok((segment, accounts))
    }

    /// A processor; the running one, with its counts, if nothing about it changes.
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
            incoming: Passed::default(),
            outgoing: Passed::default(),
        }))
    }

    /// A stage before the steps and ends that follow it. The running one keeps its telemetry, unless the accounts
    /// behind it change.
    fn stage(
        &mut self,
        pipeline: &Pipeline,
        id: &ComponentId,
        (steps, ends): (Vec<Arc<Step>>, Vec<End>),
        accounts: &Accounts,
        factory: &dyn StageFactory,
    ) -> End {
        let segment = self.segment(steps, ends);
        let branches = Arc::new(Branches::new(vec![segment], accounts.clone()));
        let is_it = |place: &&StagePlace| {
            place.pipeline == pipeline.id && place.id == *id && are_same(&place.accounts, accounts)
        };
        let kept = self.old.places.iter().find(is_it).filter(|_| self.is_kept(Kind::Processor, id));
        let place = kept.cloned().unwrap_or_else(|| {
            let next = Arc::new(Next::default());
            let parts = StageParts {
                id: &id.to_string(),
                signal: pipeline.id.signal,
                outlet: next.clone(),
                accounts: accounts.clone(),
                budget: self.budget.clone(),
                alarm: self.alarm.clone(),
            };
            let stage = factory.build(parts);
            StagePlace { pipeline: pipeline.id.clone(), id: id.clone(), stage, next, accounts: accounts.clone() }
        });
        self.stages.push((place.next.clone(), branches));
        let stage = place.stage.clone();
        self.graph.stages.push(stage.clone());
        self.graph.places.push(place);
        End::Sink(stage)
    }

    /// A segment from steps gathered back to front.
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
        let failed = |error: String| format!("{error} (exporters.{name})");
        let exporter = self.exporter(id).map_err(failed)?;
        let sink = match exporter.end(signal, &account).map_err(failed)? {
            exporters::End::Sink(sink) => {
                self.graph.printed.push(account.clone());
                sink
            }
            exporters::End::Exporter(exporter) => self.queue(id, signal, exporter, &account)?,
        };
        self.sinks.insert((id.clone(), signal), (sink.clone(), account.clone()));
        Ok((sink, account))
    }

    /// An exporter opened for all its signals. An open one is kept while its settings are unchanged.
    fn exporter(&mut self, id: &ComponentId) -> Result<Arc<dyn OpenExporter>, String> {
        if let Some((_, opened)) = self.graph.exporters.iter().find(|(known, _)| known == id) {
            return Ok(opened.clone());
        }
        let kept = self.old.exporters.iter().find(|(known, _)| known == id && self.is_kept(Kind::Exporter, id));
        let opened = match kept {
            Some((_, opened)) => opened.clone(),
            None => open(self.plan, id, &self.budget, &self.supervisor, &self.old.exporters)?,
        };
        self.graph.exporters.push((id.clone(), opened.clone()));
        Ok(opened)
    }

    /// The running queue is kept, with its content, while its settings are unchanged; how it is sent may change.
    fn queue(
        &mut self,
        id: &ComponentId,
        signal: Signal,
        exporter: Arc<dyn Exporter>,
        account: &Arc<Account>,
    ) -> Result<Arc<dyn Sink>, String> {
        let name = &id.to_string();
        let Some(settings) = self.plan.exporter(id).and_then(|settings| settings.sending()) else {
            return Err(format!("\"{id}\" has no settings for a queue"));
        };
        let (settings, account, budget) = (settings.clone(), account.clone(), self.budget.clone());
        let storage = settings.queue.storage.as_ref().filter(|_| settings.queue.enabled);
        let storage = storage.and_then(|(id, _)| self.plan.storage(id));
        let failed = |error: String| format!("{error} (exporters.{name})");
        if let Some(old) = self.old.queues.iter().find(|queue| Arc::ptr_eq(&queue.account, &account)) {
            // Its content is sent as the new config says, even if new telemetry goes elsewhere.
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
            None => Queue::new(settings, exporter, account, budget),
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
                let place = sending::StoreParts { path: &path, limits, wait: storage.timeout, supervisor };
                Queue::stored(settings, exporter, account, budget, &place).map_err(failed)?
            }
        };
        self.graph.queues.push(queue.clone());
        Ok(queue)
    }

    fn storage_limits(&self, storage: Option<&Storage>) -> Result<Option<sending::disk::Limits>, String> {
        let limits = storage.map(Storage::limits).transpose();
        limits.map_err(|error| format!("cannot look at the filesystem of a queue: {error}"))
    }
}

/// Whether both name the same accounts in the same order.
fn are_same(one: &Accounts, other: &Accounts) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| Arc::ptr_eq(one, other))
}

/// Opens an exporter of a plan, beside the ones in `before`.
fn open(
    plan: &Plan,
    id: &ComponentId,
    budget: &Arc<Budget>,
    supervisor: &Arc<Supervisor>,
    before: &[(ComponentId, Arc<dyn OpenExporter>)],
) -> Result<Arc<dyn OpenExporter>, String> {
    let settings = plan.exporter(id).ok_or_else(|| format!("\"{id}\" is not an exporter"))?;
    let auth = plan.authenticators(&settings.named())?.pop().map(|(_, auth)| auth);
    settings.open(ExporterParts { id: &id.to_string(), auth, budget, supervisor, before })
}

/// The client of a network exporter for one signal.
pub(crate) fn client(
    plan: &Plan,
    id: &ComponentId,
    signal: Signal,
    budget: &Arc<Budget>,
) -> Result<Arc<dyn Exporter>, String> {
    let refused = || format!("\"{id}\" is not an exporter that sends {}", signal.name());
    plan.exporter(id).and_then(|settings| settings.target(signal)).ok_or_else(refused)?;
    let account = Arc::new(Account::new(&id.to_string(), signal, Arc::default(), Arc::default()));
    match open(plan, id, budget, &Arc::default(), &[])?.end(signal, &account)? {
        exporters::End::Exporter(exporter) => Ok(exporter),
        exporters::End::Sink(_) => Err(refused()),
    }
}

impl Graph {
    /// Reports the first stuck queue, and why it is stuck.
    pub(super) fn troubles(&self) -> Troubles {
        let queues = self.queues.clone();
        let trouble = |queue: &Arc<Queue>| Some((queue.account.exporter.clone(), queue.trouble()?));
        Box::new(move || queues.iter().find_map(trouble))
    }

    /// A processor of a pipeline that holds telemetry.
    pub(crate) fn stage(&self, pipeline: &PipelineId, id: &ComponentId) -> Option<&Arc<dyn Stage>> {
        self.places.iter().find(|place| place.pipeline == *pipeline && place.id == *id).map(|place| &place.stage)
    }

    /// All components with metrics.
    pub fn observers(&self) -> Vec<Arc<dyn Observe>> {
        let gates = self.gates.iter().map(|gate| gate.clone() as Arc<dyn Observe>);
        let steps = self.steps.iter().map(|step| step.clone() as Arc<dyn Observe>);
        let stages = self.stages.iter().map(|stage| stage.clone() as Arc<dyn Observe>);
        let queues = self.queues.iter().map(|queue| queue.clone() as Arc<dyn Observe>);
        let printed = self.printed.iter().map(|account| account.clone() as Arc<dyn Observe>);
        gates.chain(steps).chain(stages).chain(queues).chain(printed).collect()
    }
}
