//! One case: its telemetry through the pipelines of its config as they are, but for the exporters, which take everything.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::cli::test::short;
use crate::otlp::check;
use crate::pipeline::intake::Gate;
use crate::service::graph::{Builder, Graph};
use crate::service::plan::{Plan, Written};
use crate::telemetry::{Alarm, Budget, Charge, Intake, Now, Part, Point, Reason, Share, Signal, Telemetry};

const BUDGET: u64 = 256 << 20;
/// How often what holds telemetry is asked to hand it on, at most: once for each stage behind another.
const DRAINS: usize = 64;

/// What came out, and what was dropped by whom.
#[derive(Debug, Default, PartialEq)]
pub struct Outcome {
    pub out: Vec<Value>,
    pub dropped: Map<String, Value>,
}

/// What exporters were given: which, and what.
type Taken = Arc<Mutex<Vec<(String, Signal, Vec<u8>)>>>;

/// `plan` has exporters that take everything.
pub async fn run(plan: &Plan, input: &Value) -> Result<Outcome, String> {
    let budget = Budget::new(BUDGET);
    let (nothing, unwritten) = (Graph::default(), Written::default());
    let (graph, _) = Builder::new(plan, &nothing, &unwritten, budget.clone(), Alarm::new()).build()?.connect();
    let taken = Taken::default();
    let viewer = taken.clone();
    graph.tap.attach(Some(Arc::new(move |point: Point, telemetry: &Telemetry| {
        if let Point::Leaving { exporter } = point {
            let wire = telemetry.parts.iter().flat_map(|part| part.bytes.iter().copied()).collect();
            let leaving = (exporter.to_owned(), telemetry.signal, wire);
            viewer.lock().unwrap_or_else(PoisonError::into_inner).push(leaving);
        }
    })));
    for (signal, wire) in short::requests(input)? {
        let items = check::check(signal, &wire).map_err(|error| error.to_string())?;
        // A receiver that no pipeline of the signal has is closed to it.
        let mut fed = plan.pipelines.iter().filter(|pipeline| pipeline.id.signal == signal);
        let fed = fed.find_map(|pipeline| {
            let takes = |gate: &&Arc<Gate>| pipeline.receivers.iter().any(|fed| fed.id.to_string() == gate.receiver);
            graph.gates.iter().filter(|gate| gate.signal() == signal).find(takes)
        });
        let gate = fed.ok_or_else(|| format!("no pipeline of the config takes {}", signal.name()))?;
        let charge = Charge::take(&budget, Share::Ingest, wire.len() as u64).ok_or("it is too large")?;
        let parts = [Part { bytes: Bytes::from(wire), items, charge }].into_iter().collect();
        let telemetry = Telemetry { signal, parts, client: None, received: Now::read(), tickets: Default::default() };
        gate.submit(telemetry).await.map_err(|refusal| format!("refused: {}", refusal.answer().1.message))?;
    }
    for _ in 0..DRAINS {
        let held = graph.stages.iter().filter(|stage| !stage.drain(Now::read())).count();
        if held == 0 {
            break;
        }
        tokio::task::yield_now().await;
    }
    let mut dropped: BTreeMap<String, (u64, BTreeMap<String, u64>)> = BTreeMap::new();
    let mut by_steps = Vec::new();
    for step in &graph.steps {
        use std::sync::atomic::Ordering::Relaxed;
        let lost = step.incoming.load(Relaxed).saturating_sub(step.outgoing.load(Relaxed));
        if lost > 0 {
            by_steps.push(step.processor.reason());
            let (all, rules) = dropped.entry(step.id.clone()).or_default();
            *all += lost;
            for (rule, items) in step.processor.dropped_by() {
                *rules.entry(rule).or_default() += items;
            }
        }
    }
    for reason in Reason::ALL.into_iter().filter(|reason| !by_steps.contains(reason)) {
        let most = graph.accounts.iter().map(|account| account.dropped(reason)).max().unwrap_or(0);
        if most > 0 {
            dropped.entry(reason.name().to_owned()).or_default().0 = most;
        }
    }
    let dropped = dropped.into_iter().map(|(name, (all, rules))| match rules.is_empty() {
        true => (name, Value::from(all)),
        false => (name, rules.into_iter().map(|(rule, items)| (rule, Value::from(items))).collect()),
    });
    let dropped = dropped.collect();
    let mut taken = std::mem::take(&mut *taken.lock().unwrap_or_else(PoisonError::into_inner));
    taken.sort_by_key(|(_, signal, _)| *signal);
    let several = taken.first().is_some_and(|(first, ..)| taken.iter().any(|(exporter, ..)| exporter != first));
    let mut out = Vec::new();
    for (exporter, signal, wire) in &taken {
        for mut record in short::records(*signal, wire) {
            // Where there is a choice, it says who got it.
            if let Some(fields) = record.as_object_mut().and_then(|record| record.values_mut().next()?.as_object_mut())
                && several
            {
                fields.insert("exporter".into(), exporter.as_str().into());
            }
            out.push(record);
        }
    }
    Ok(Outcome { out, dropped })
}
