//! `misaki send`: sends made-up or recorded telemetry to a collector, and reports the results.
//!
//! A scenario is an embedded recording, with new ids and times in each round.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use clap::Args;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::Value;
use tokio::time::Instant;

use crate::config::files::{self, Place};
use crate::config::secrecy::redacted_url;
use crate::config::{Kind, duration};
use crate::diagnostics::columns::counted;
use crate::exporters::{Accepted, Exporter, SendError};
use crate::network::endpoint::{Address, connect};
use crate::otlp::{check, hex, json};
use crate::service::graph;
use crate::telemetry::{Budget, Charge, Now, Part, Share, Signal, Telemetry};

use super::{Credentials, Edge, Failure, Sources, block_on, default, failed, print, safe};

const SCENARIOS: &[(&str, &str)] = &[
    ("health-reporter", include_str!("send/health-reporter.jsonl")),
    ("slog", include_str!("send/slog.jsonl")),
    ("purchase", include_str!("send/purchase.jsonl")),
    ("noise", include_str!("send/noise.jsonl")),
    ("pillars", include_str!("send/pillars.jsonl")),
];

const LIST: &str = "\
Scenarios:
  health-reporter  logs and a span of a small worker
  slog             the same, its logs not on the trace: the id is an attribute
  purchase         a slow purchase through five services, and its logs
  noise            health checks and DEBUG logs among what is wanted
  pillars          metrics, logs and a trace that failed

A file holds OTLP/JSON requests, as the exporter `file` writes them; it is sent
as it is, unless --fresh gives it new ids and times.";

/// The maximum size of a file.
const MOST: u64 = 256 << 20;
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Args)]
#[command(after_help = LIST)]
pub(super) struct Send {
    /// A scenario, or a file
    #[arg(value_name = "SCENARIO|FILE", default_value = "health-reporter")]
    what: String,
    /// Where to [default: grpc://localhost:4317], as in `misaki --to`
    #[arg(long, value_name = "URL", default_value = "grpc://localhost:4317", hide_default_value = true)]
    to: String,
    #[command(flatten)]
    credentials: Credentials,
    /// Requests a second [default: one after another]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// Send all of it so many times [default: 1]
    #[arg(long, value_name = "N", conflicts_with = "within")]
    count: Option<u64>,
    /// Again and again for this time
    #[arg(long = "for", value_name = "TIME", value_parser = duration::parse)]
    within: Option<Duration>,
    /// New ids and times for what is in a file
    #[arg(long)]
    fresh: bool,
}

/// The results of the requests of one signal.
#[derive(Clone, Default)]
struct Tally {
    requests: u64,
    items: u64,
    accepted: u64,
    refused_requests: u64,
    /// The items in refused requests.
    refused: u64,
    /// The collector's first message.
    said: Option<String>,
}

struct Sender {
    exporters: [Arc<dyn Exporter>; 3],
    /// The address they connect to; `None` with a proxy.
    address: Option<Address>,
    budget: Arc<Budget>,
    tallies: [Tally; 3],
}

pub(super) fn send(options: &Send) -> Result<(), Failure> {
    block_on(async {
        let mut sender = Sender::new(options)?;
        let text = read(&options.what)?;
        let is_scenario = SCENARIOS.iter().any(|(name, _)| *name == options.what);
        let requests = requests(&text, &options.what)?;
        if requests.is_empty() {
            return Err(failed(format!("{} holds no request", safe(&options.what))));
        }
        let end = options.within.map(|within| Instant::now() + within);
        let rounds = options.count.unwrap_or(if end.is_some() { u64::MAX } else { 1 });
        let mut pace = options.rate.map(|rate| tokio::time::interval(Duration::from_secs(1) / rate));
        'rounds: for _ in 0..rounds {
            let wires = match is_scenario || options.fresh {
                true => fresh(&requests)?,
                false => requests.iter().map(|(signal, _, wire)| (*signal, wire.clone())).collect(),
            };
            for (signal, wire) in wires {
                if let Some(pace) = &mut pace {
                    pace.tick().await;
                }
                if end.is_some_and(|end| Instant::now() >= end) {
                    break 'rounds;
                }
                sender.send(signal, wire).await?;
            }
        }
        let mut said = sender.said(&options.to);
        if sender.is_away().await {
            said.push_str("  Is the collector up? `misaki` alone listens on 4317 and 4318.\n");
        }
        print(&said)?;
        match sender.tallies.iter().all(|tally| tally.accepted == tally.items && tally.refused_requests == 0) {
            true => Ok(()),
            false => Err(failed("not everything was accepted")),
        }
    })
}

impl Sender {
    /// Uses the same client as `misaki --to`.
    fn new(options: &Send) -> Result<Sender, Failure> {
        let edge = Edge { to: Some(options.to.clone()), credentials: options.credentials.clone(), ..Edge::default() };
        let plan = default::forwarder(&options.to, &Sources::default(), &edge)?.runnable()?;
        let budget = Budget::new(16 * MOST);
        let used = plan.used(Kind::Exporter);
        let (id, _) = used.first().ok_or_else(|| failed("nowhere to send to"))?;
        let client = |signal| graph::client(&plan, id, signal, &budget).map_err(failed);
        let exporters = [client(Signal::Logs)?, client(Signal::Metrics)?, client(Signal::Traces)?];
        let target = plan.exporter(id).and_then(|exporter| exporter.target(Signal::Logs));
        let address = target.filter(|target| target.proxy.is_none()).map(|target| target.endpoint.address.clone());
        Ok(Sender { exporters, address, budget, tallies: Default::default() })
    }

    #[expect(clippy::indexing_slicing, reason = "one a signal, indexed by it")]
    async fn send(&mut self, signal: Signal, wire: Bytes) -> Result<(), Failure> {
        let items = check::check(signal, &wire).map_err(|error| failed(format!("this is no request: {error}")))?;
        let charge = Charge::take(&self.budget, Share::Ingest, wire.len() as u64);
        let charge = charge.ok_or_else(|| failed("a request is too large"))?;
        let parts = [Part::new(wire, items, charge)].into_iter().collect();
        let telemetry = Telemetry { signal, parts, client: None, received: Now::read(), tickets: Default::default() };
        let exporter = &self.exporters[signal as usize];
        let payload = exporter.encode(&telemetry).await;
        let answer = tokio::time::timeout(TIMEOUT, exporter.send(&payload)).await;
        let tally = &mut self.tallies[signal as usize];
        let items = u64::from(items);
        tally.requests += 1;
        tally.items += items;
        let outcome = match answer {
            Ok(Ok(Accepted { rejected, message })) => {
                tally.accepted += items.saturating_sub(rejected);
                Ok(message)
            }
            Ok(Err(error @ SendError::Retry { .. })) => {
                Err(format!("{} (an SDK would try again)", error.status().message))
            }
            Ok(Err(error)) => Err(error.status().message.clone()),
            Err(_) => Err(format!("no answer within {TIMEOUT:?}")),
        };
        if outcome.is_err() {
            tally.refused_requests += 1;
            tally.refused += items;
        }
        let (Ok(said) | Err(said)) = outcome;
        if !said.is_empty() {
            tally.said.get_or_insert(said);
        }
        Ok(())
    }

    fn said(&self, to: &str) -> String {
        let mut out = String::new();
        for (signal, tally) in Signal::ALL.iter().zip(&self.tallies).filter(|(_, tally)| tally.requests > 0) {
            let Tally { requests, items, accepted, refused_requests, refused, said } = tally;
            let words = signal.items_words();
            out.push_str(&format!("{words}: {items} sent in {}, {accepted} accepted", counted(*requests, "request")));
            if *refused_requests > 0 {
                out.push_str(&format!(", {refused} refused"));
            }
            let rejected = items - accepted - refused;
            if rejected > 0 {
                out.push_str(&format!(", {rejected} rejected"));
            }
            out.push('\n');
            if let Some(said) = said {
                out.push_str(&format!("  {} says: {}\n", safe(&redacted_url(to)), safe(said)));
            }
        }
        out
    }

    /// Whether requests failed and nothing listens at the address.
    async fn is_away(&self) -> bool {
        let Some(address) = &self.address else { return false };
        self.tallies.iter().any(|tally| tally.refused_requests > 0) && connect(address, TIMEOUT).await.is_err()
    }
}

fn read(what: &str) -> Result<String, Failure> {
    if let Some((_, text)) = SCENARIOS.iter().find(|(name, _)| *name == what) {
        return Ok((*text).to_owned());
    }
    let named = safe(what);
    let text = files::read(Path::new(what), MOST, Place::Any);
    text.and_then(|bytes| String::from_utf8(bytes).map_err(|error| error.utf8_error().to_string())).map_err(|error| {
        let names: Vec<_> = SCENARIOS.iter().map(|(name, _)| *name).collect();
        let scenarios =
            if Path::new(what).exists() { String::new() } else { format!("; scenarios are {}", names.join(", ")) };
        failed(format!("cannot read {named}: {error}{scenarios}"))
    })
}

/// Reads a file or a scenario, request by request.
pub(super) fn recorded(what: &str, mut take: impl FnMut(Signal, Bytes)) -> Result<(), Failure> {
    each(&read(what)?, what, |signal, _, wire| take(signal, wire))
}

/// The requests in a text: each with its signal, as JSON and in protobuf.
fn requests(text: &str, name: &str) -> Result<Vec<(Signal, Value, Bytes)>, Failure> {
    let mut all = Vec::new();
    each(text, name, |signal, value, wire| all.push((signal, value, wire)))?;
    Ok(all)
}

fn each(text: &str, name: &str, mut take: impl FnMut(Signal, Value, Bytes)) -> Result<(), Failure> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let (mut begin, mut count) = (0, 0);
    while let Some(value) = values.next() {
        count += 1;
        let faulty = |error: &dyn std::fmt::Display| {
            failed(format!("request {count} in {}: {}", safe(name), safe(&error.to_string())))
        };
        let value = value.map_err(|error| faulty(&error))?;
        let signal =
            signal_of(&value).ok_or_else(|| faulty(&"it has no resourceLogs, resourceMetrics or resourceSpans"))?;
        let raw = text.get(begin..values.byte_offset()).unwrap_or_default();
        begin = values.byte_offset();
        let wire = json::to_wire(signal, raw.as_bytes()).map_err(|error| faulty(&error))?;
        take(signal, value, Bytes::from(wire));
    }
    Ok(())
}

pub(super) fn signal_of(request: &Value) -> Option<Signal> {
    let has = |key| request.get(key).is_some();
    match () {
        () if has("resourceLogs") || has("resource_logs") => Some(Signal::Logs),
        () if has("resourceMetrics") || has("resource_metrics") => Some(Signal::Metrics),
        () if has("resourceSpans") || has("resource_spans") => Some(Signal::Traces),
        () => None,
    }
}

/// The same requests with new ids, and shifted to the current time.
fn fresh(requests: &[(Signal, Value, Bytes)]) -> Result<Vec<(Signal, Bytes)>, Failure> {
    let (mut ids, mut latest) = (HashMap::new(), 0);
    for (_, value, _) in requests {
        look(value, &mut ids, &mut latest)?;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
    let shift = now.saturating_sub(latest);
    let renewed = |(signal, value, _): &(Signal, Value, Bytes)| {
        let mut value = value.clone();
        renew(&mut value, &ids, shift);
        let wire = json::to_wire(*signal, value.to_string().as_bytes());
        wire.map(|wire| (*signal, Bytes::from(wire))).map_err(|error| failed(safe(&error.to_string())))
    };
    requests.iter().map(renewed).collect()
}

/// Collects all ids, each with a new one, and the latest time. The JSON parser bounds the depth.
fn look(value: &Value, ids: &mut HashMap<String, String>, latest: &mut u64) -> Result<(), Failure> {
    match value {
        Value::Array(list) => list.iter().try_for_each(|value| look(value, ids, latest)),
        Value::Object(map) => map.iter().try_for_each(|(key, value)| {
            if is_time(key) {
                *latest = nanos(value).unwrap_or(0).max(*latest);
            } else if let ("traceId" | "spanId" | "parentSpanId", Some(id)) = (key.as_str(), value.as_str())
                && matches!(id.len(), 16 | 32)
                && !ids.contains_key(id)
            {
                let mut bytes = [0; 16];
                SystemRandom::new().fill(&mut bytes).map_err(|_| failed("the system has no random numbers"))?;
                let mut new = Vec::new();
                hex::put(bytes.get(..id.len() / 2).unwrap_or(&bytes), &mut new);
                ids.insert(id.to_owned(), String::from_utf8_lossy(&new).into_owned());
            }
            look(value, ids, latest)
        }),
        _ => Ok(()),
    }
}

fn renew(value: &mut Value, ids: &HashMap<String, String>, shift: u64) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(|value| renew(value, ids, shift)),
        Value::Object(map) => {
            for (key, value) in map {
                match nanos(value).filter(|_| is_time(key)) {
                    Some(time @ 1..) => *value = Value::String(time.saturating_add(shift).to_string()),
                    _ => renew(value, ids, shift),
                }
            }
        }
        // Ids in attributes of logs change as well.
        Value::String(text) => {
            if let Some(id) = ids.get(text) {
                text.clone_from(id);
            }
        }
        _ => {}
    }
}

fn is_time(key: &str) -> bool {
    key.ends_with("imeUnixNano")
}

fn nanos(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}
