//! From a plan to what runs: exporters and their queues first, then the pipelines back to front, then the gates.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::config::{ComponentId, Kind, Pipeline, PipelineId};
use crate::diagnostics::metrics::Observe;
use crate::exporters::Exporter;
use crate::exporters::debug::sink::{Debug, DebugSink};
use crate::exporters::nop::Nop;
use crate::exporters::otlp_grpc::Grpc;
use crate::exporters::otlp_http::Http;
use crate::exporters::settings::Settings;
use crate::extensions::health_check::Troubles;
use crate::pipeline::intake::Gate;
use crate::pipeline::{Branches, End, Segment, Step};
use crate::processors::batch::Batch;
use crate::processors::memory_limiter::MemoryLimiter;
use crate::processors::tail_sampling::TailSampling;
use crate::processors::{Processor, Stage};
use crate::receivers::Gates;
use crate::sending::{self, Queue};
use crate::telemetry::{Account, Accounts, Alarm, Bill, Budget, Intake, Signal, Sink, Tap};

use super::plan::{Plan, Side};
use super::registry::Component;

/// Everything between the receivers and the network.
#[derive(Clone)]
pub struct Graph {
    pub queues: Vec<Arc<Queue>>,
    /// The processors that hold telemetry.
    pub stages: Vec<Arc<dyn Stage>>,
    pub outputs: Vec<Arc<Debug>>,
    pub gates: Vec<Arc<Gate>>,
    pub accounts: Accounts,
    /// Those of exporters without a queue, which count for themselves.
    printed: Accounts,
    pub steps: Vec<Arc<Step>>,
    pub tap: Arc<Tap>,
    pub bill: Arc<Bill>,
}

pub struct Builder<'a> {
    plan: &'a Plan,
    budget: Arc<Budget>,
    alarm: Arc<Alarm>,
    sinks: HashMap<(ComponentId, Signal), (Arc<dyn Sink>, Arc<Account>)>,
    outputs: HashMap<ComponentId, Arc<Debug>>,
    built: HashMap<PipelineId, (Arc<Segment>, Accounts)>,
    graph: Graph,
}

impl<'a> Builder<'a> {
    pub fn new(plan: &'a Plan, budget: Arc<Budget>, alarm: Arc<Alarm>) -> Builder<'a> {
        let graph = Graph {
            queues: Vec::new(),
            stages: Vec::new(),
            outputs: Vec::new(),
            gates: Vec::new(),
            accounts: Vec::new(),
            printed: Vec::new(),
            steps: Vec::new(),
            tap: Arc::default(),
            bill: Arc::default(),
        };
        Builder { plan, budget, alarm, sinks: HashMap::new(), outputs: HashMap::new(), built: HashMap::new(), graph }
    }

    /// Builds all pipelines and the gates of every receiver in use.
    #[expect(clippy::indexing_slicing, reason = "one gate a signal, indexed by it")]
    pub fn build(mut self) -> Result<(Graph, HashMap<ComponentId, Gates>), String> {
        let mut receivers: HashMap<ComponentId, Gates> = HashMap::new();
        let plan = self.plan;
        for extension in &plan.extensions {
            if let Some(Component::FileStorage(storage)) = plan.get(Kind::Extension, &extension.id) {
                let files = storage.foreign_files();
                if !files.is_empty() {
                    let directory = storage.directory.display();
                    tracing::warn!(%directory, ?files, "queues of the Go collector are left alone: it can still send them");
                }
            }
        }
        for pipeline in &plan.pipelines {
            for receiver in &pipeline.receivers {
                let gates = receivers.entry(receiver.id.clone()).or_default();
                let signal = pipeline.id.signal;
                if plan.is_connector(&receiver.id) || gates.has(signal) {
                    continue;
                }
                let mut segments = Vec::new();
                let mut accounts = Vec::new();
                for fed in plan.fed_by(&receiver.id, pipeline) {
                    let (segment, owed) = self.pipeline(fed)?;
                    segments.push(segment);
                    accounts.extend(owed);
                }
                let branches = Arc::new(Branches::new(segments, accounts.clone()));
                let id = receiver.id.to_string();
                let mut gate = |transport| -> Arc<dyn Intake> {
                    let gate = Arc::new(Gate::new(
                        &id,
                        transport,
                        signal,
                        branches.clone(),
                        accounts.clone(),
                        self.graph.tap.clone(),
                    ));
                    self.graph.gates.push(gate.clone());
                    gate
                };
                if plan.is_scraper(&receiver.id) {
                    gates.own[signal as usize] = Some(gate(""));
                } else {
                    gates.grpc[signal as usize] = Some(gate("grpc"));
                    gates.http[signal as usize] = Some(gate("http"));
                }
            }
        }
        receivers.retain(|id, _| !plan.is_connector(id));
        Ok((self.graph, receivers))
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
        let step = |id, processor: Arc<dyn Processor>, accounts: &Accounts| {
            let (incoming, outgoing) = (AtomicU64::new(0), AtomicU64::new(0));
            Arc::new(Step { id, signal, processor, accounts: accounts.clone(), incoming, outgoing })
        };
        for reference in pipeline.processors.iter().rev() {
            let id = reference.id.to_string();
            match plan.get(Kind::Processor, &reference.id) {
                Some(Component::Batch(config)) => {
                    let outlet = self.outlet(&mut steps, &mut ends, &accounts);
                    let (budget, alarm) = (self.budget.clone(), self.alarm.clone());
                    let batch = Batch::new(&id, signal, config.clone(), outlet, accounts.clone(), budget, alarm);
                    ends.push(self.stage(Arc::new(batch)));
                }
                Some(Component::TailSampling(config)) if signal == Signal::Traces => {
                    let outlet = self.outlet(&mut steps, &mut ends, &accounts);
                    let (budget, alarm) = (self.budget.clone(), self.alarm.clone());
                    let stage = TailSampling::new(&id, config.clone(), outlet, accounts.clone(), budget, alarm);
                    ends.push(self.stage(Arc::new(stage)));
                }
                Some(Component::TailSampling(_)) => {
                    return Err(format!("tail_sampling takes traces, not {} (processors.{id})", signal.name()));
                }
                Some(Component::MemoryLimiter(_)) => steps.push(step(id, Arc::new(MemoryLimiter), &accounts)),
                Some(Component::Processor(factory)) => {
                    let processor = factory.build(&id, signal).map_err(|error| format!("{error} (processors.{id})"))?;
                    steps.push(step(id, processor, &accounts));
                }
                _ => return Err(format!("\"{id}\" is not a processor")),
            }
        }
        let segment = self.segment(steps, ends);
        self.built.insert(pipeline.id.clone(), (segment.clone(), accounts.clone()));
        Ok((segment, accounts))
    }

    /// What follows a processor that holds telemetry.
    fn outlet(&mut self, steps: &mut Vec<Arc<Step>>, ends: &mut Vec<End>, accounts: &Accounts) -> Arc<Branches> {
        let segment = self.segment(std::mem::take(steps), std::mem::take(ends));
        Arc::new(Branches::new(vec![segment], accounts.clone()))
    }

    fn stage(&mut self, stage: Arc<impl Stage + 'static>) -> End {
        self.graph.stages.push(stage.clone());
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
        let account = Arc::new(Account::new(&name, signal, self.graph.tap.clone(), self.graph.bill.clone()));
        self.graph.accounts.push(account.clone());
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
                        let opened = Debug::open(&name, config.clone());
                        let debug = opened.map_err(|error| format!("{error} (exporters.{name})"))?;
                        self.outputs.insert(id.clone(), debug.clone());
                        self.graph.outputs.push(debug.clone());
                        debug
                    }
                };
                Arc::new(DebugSink::new(debug, signal, account.clone()))
            }
            Some(Component::OtlpGrpc(config)) => {
                let auth = plan.authenticator(&config.auth, Side::Client)?;
                let exporter = Arc::new(Grpc::new(signal, config, auth, self.budget.clone()));
                self.queue(&name, signal, &config.sending, exporter, &account)?
            }
            Some(Component::OtlpHttp(config)) => {
                let Some(Some(url)) = config.endpoints.get(signal as usize) else {
                    return Err(format!("\"{name}\" has no endpoint for {}", signal.name()));
                };
                let auth = plan.authenticator(&config.auth, Side::Client)?;
                let exporter = Arc::new(Http::new(config, url, auth, self.budget.clone()));
                self.queue(&name, signal, &config.sending, exporter, &account)?
            }
            _ => return Err(format!("\"{name}\" is not an exporter")),
        };
        self.sinks.insert((id.clone(), signal), (sink.clone(), account.clone()));
        Ok((sink, account))
    }

    fn queue(
        &mut self,
        name: &str,
        signal: Signal,
        settings: &Settings,
        exporter: Arc<dyn Exporter>,
        account: &Arc<Account>,
    ) -> Result<Arc<dyn Sink>, String> {
        let (settings, account, budget) = (settings.clone(), account.clone(), self.budget.clone());
        let storage = settings.queue.storage.as_ref().filter(|_| settings.queue.enabled);
        let queue = match storage.and_then(|(id, _)| self.plan.storage(id)) {
            None => Queue::new(name, signal, settings, exporter, account, budget),
            Some(storage) => {
                let path = storage.log_path(name, signal.name());
                let failed = |error: String| format!("{error} (exporters.{name})");
                let limits = storage.limits().map_err(|error| failed(format!("{}: {error}", path.display())))?;
                if !limits.sync {
                    tracing::warn!(
                        exporter = name,
                        "fsync is off: what is accepted survives the end of the process, not that of the machine"
                    );
                }
                let place = sending::Place { path: &path, limits, wait: storage.timeout };
                Queue::stored(name, signal, settings, exporter, account, budget, &place).map_err(failed)?
            }
        };
        self.graph.queues.push(queue.clone());
        Ok(queue)
    }
}

impl Graph {
    /// The first queue that telemetry gets stuck in, and why.
    pub fn troubles(&self) -> Troubles {
        let queues = self.queues.clone();
        let trouble = |queue: &Arc<Queue>| Some((queue.account.exporter.clone(), queue.trouble()?));
        Box::new(move || queues.iter().find_map(trouble))
    }

    /// Of what an account waits for, what is in a queue on disk.
    pub fn on_disk(&self, account: &Arc<Account>) -> u64 {
        let stored = self.queues.iter().filter(|queue| queue.is_stored() && Arc::ptr_eq(&queue.account, account));
        stored.map(|queue| queue.held_items()).sum()
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
