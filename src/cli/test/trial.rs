//! Sends telemetry through the pipelines of a config with exporters that accept everything: for `misaki test`, and for
//! `misaki validate --against-recent`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Map, Value};

use crate::cli::test::{fields, short};
use crate::config::Pipeline;
use crate::order::Ordered;
use crate::otlp::check;
use crate::pipeline::intake::Gate;
use crate::processors::Dropped;
use crate::service::graph::{Builder, Graph};
use crate::service::plan::{Plan, Written};
use crate::telemetry::{Alarm, Budget, Charge, Drain, Intake, Now, Part, Point, Reason, Share, Signal, Telemetry};

const BUDGET: u64 = 256 << 20;
/// The maximum of rounds in which stages drain. Stages that follow each other need one round each.
const DRAINS: u32 = 64;
/// The pause after a round grows by this.
const PAUSE: Duration = Duration::from_millis(4);

/// The records that came out, and the dropped items by processor or reason.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Outcome {
    pub(super) out: Vec<Value>,
    pub(super) dropped: Map<String, Value>,
}

/// The requests that reached exporters, each with the exporter's id.
type Taken = Vec<(String, Signal, Vec<u8>)>;

/// Pipelines without ports.
pub(crate) struct Trial<'p> {
    plan: &'p Plan,
    graph: Graph,
    budget: Arc<Budget>,
    taken: Arc<Mutex<Taken>>,
}

/// Items of a signal that a processor dropped, by rule if it counts by rule, or that were dropped for another reason.
pub(crate) struct Lost {
    pub(crate) by: String,
    pub(crate) signal: Signal,
    pub(crate) items: u64,
    pub(crate) rules: Vec<Dropped>,
}

impl<'p> Trial<'p> {
    /// `plan` must be silenced: its exporters accept everything.
    pub(crate) fn start(plan: &'p Plan) -> Result<Trial<'p>, String> {
        let budget = Budget::new(BUDGET);
        let (nothing, unwritten) = (Graph::default(), Written::default());
        let (alarm, supervisor) = (Alarm::new(), Arc::default());
        let builder = Builder::new(plan, &nothing, &unwritten, budget.clone(), alarm, supervisor);
        let (graph, _) = builder.build()?.connect();
        let taken = Arc::new(Mutex::new(Taken::new()));
        let viewer = taken.clone();
        graph.tap.attach(Some(Arc::new(move |point: Point, telemetry: &Telemetry| {
            if let Point::Leaving { exporter } = point {
                let wire = telemetry.parts.iter().flat_map(|part| part.bytes.iter().copied()).collect();
                let leaving = (exporter.to_owned(), telemetry.signal, wire);
                viewer.lock().push(leaving);
            }
        })));
        Ok(Trial { plan, graph, budget, taken })
    }

    /// The number of pipelines that a request of this signal enters: those of the first receiver with one.
    pub(crate) fn ways(&self, signal: Signal) -> usize {
        let Some(gate) = self.gate(signal) else { return 0 };
        self.pipelines(signal).filter(|pipeline| is_fed_by(pipeline, gate)).count()
    }

    fn pipelines(&self, signal: Signal) -> impl Iterator<Item = &Pipeline> {
        self.plan.pipelines.iter().filter(move |pipeline| pipeline.id.signal == signal)
    }

    /// The first gate for a signal that leads into a pipeline.
    fn gate(&self, signal: Signal) -> Option<&Arc<Gate>> {
        let mut gates = self.pipelines(signal).flat_map(|pipeline| {
            self.graph.gates.iter().filter(move |gate| gate.signal() == signal && is_fed_by(pipeline, gate))
        });
        gates.next()
    }

    pub(crate) async fn feed(&self, signal: Signal, wire: Bytes) -> Result<(), String> {
        let items = check::check(signal, &wire).map_err(|error| error.to_string())?;
        let gate = self.gate(signal).ok_or_else(|| format!("no pipeline of the config takes {}", signal.name()))?;
        let charge = Charge::take(&self.budget, Share::Ingest, wire.len() as u64).ok_or("it is too large")?;
        let parts = [Part::new(wire, items, charge)].into_iter().collect();
        let telemetry = Telemetry { signal, parts, client: None, received: Now::read(), tickets: Default::default() };
        gate.submit(telemetry).await.map_err(|refusal| format!("refused: {}", refusal.answer().status.message))
    }

    /// Drains the stages; returns the requests that reached exporters, sorted by signal.
    pub(crate) async fn end(&self) -> Taken {
        for round in 0..DRAINS {
            let held = self.graph.stages.iter().filter(|stage| !stage.drain(Now::read(), Drain::Shutdown)).count();
            if held == 0 {
                break;
            }
            // Slow work runs aside.
            tokio::time::sleep(PAUSE * round).await;
        }
        let mut taken = std::mem::take(&mut *self.taken.lock());
        taken.order_by_key(|(_, signal, _)| *signal);
        taken
    }

    pub(crate) fn lost(&self) -> Vec<Lost> {
        let (mut all, mut by_steps) = (Vec::new(), Vec::new());
        for step in &self.graph.steps {
            let items = step.incoming.items().saturating_sub(step.outgoing.items());
            if items > 0 {
                by_steps.push(step.processor.reason());
                let rules = step.processor.dropped_by();
                all.push(Lost { by: step.id.clone(), signal: step.signal, items, rules });
            }
        }
        for reason in Reason::ALL.into_iter().filter(|reason| !by_steps.contains(reason)) {
            for signal in Signal::ALL {
                let accounts = self.graph.accounts.iter().filter(|account| account.signal == signal);
                let items = accounts.map(|account| account.dropped(reason)).max().unwrap_or(0);
                if items > 0 {
                    all.push(Lost { by: reason.name().to_owned(), signal, items, rules: Vec::new() });
                }
            }
        }
        all
    }
}

fn is_fed_by(pipeline: &Pipeline, gate: &Gate) -> bool {
    pipeline.receivers.iter().any(|receiver| receiver.id.to_string() == gate.receiver)
}

/// Runs one case.
pub(super) async fn run(plan: &Plan, input: &[Value]) -> Result<Outcome, String> {
    let trial = Trial::start(plan)?;
    for (signal, wire) in short::requests(input)? {
        trial.feed(signal, wire.into()).await?;
    }
    let taken = trial.end().await;
    let mut dropped: BTreeMap<String, (u64, BTreeMap<String, u64>)> = BTreeMap::new();
    for Lost { by, items, rules, .. } in trial.lost() {
        let (all, by_rule) = dropped.entry(by).or_default();
        *all += items;
        rules.into_iter().for_each(|rule| *by_rule.entry(rule.rule).or_default() += rule.items);
    }
    let dropped = dropped.into_iter().map(|(name, (all, rules))| match rules.is_empty() {
        true => (name, Value::from(all)),
        false => (name, rules.into_iter().map(|(rule, items)| (rule, Value::from(items))).collect()),
    });
    let dropped = dropped.collect();
    let several = taken.first().is_some_and(|(first, ..)| taken.iter().any(|(exporter, ..)| exporter != first));
    let mut out = Vec::new();
    for (exporter, signal, wire) in &taken {
        for mut record in short::records(*signal, wire) {
            // With several exporters, a record names its own.
            if let Some(fields) = fields(&mut record).filter(|_| several) {
                fields.insert("exporter".into(), exporter.as_str().into());
            }
            out.push(record);
        }
    }
    Ok(Outcome { out, dropped })
}
