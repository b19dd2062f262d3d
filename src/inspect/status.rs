//! `GET /status`: the state of a collector. The names are stable: scripts read them.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use super::{Subject, View};
use crate::config::{Pipeline, Reference};
use crate::diagnostics::columns::without_errno;
use crate::diagnostics::log::timestamp;
use crate::diagnostics::process::resident_bytes;
use crate::diagnostics::reloads::History;
use crate::processors::Dropped;
use crate::sending::{Queue, Report};
use crate::telemetry::bill::Sums;
use crate::telemetry::{Account, Now, Passed, Reason, Share};

/// Maximum services shown; the others are summed in one line.
const SHOWN: usize = 32;

pub fn describe(subject: &Subject) -> Value {
    let (view, now) = (subject.view(), Now::read());
    let verdict = view.health.verdict();
    let History { since, refused, .. } = view.reloads.state();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "uptime_seconds": now.instant.saturating_duration_since(subject.started).as_secs(),
        "config": subject.config,
        "config_since": timestamp(since),
        "reload_refused_at": refused.as_ref().map(|(at, _)| timestamp(*at)),
        "reload_refused_because": refused.map(|(_, why)| why),
        "ready": verdict.is_ok(),
        "not_ready_because": verdict.err(),
        "listening": view.addresses.iter().map(|(protocol, address)| json!({
            "protocol": protocol,
            "address": address.map_or_else(|| "a unix socket".to_owned(), |address| address.to_string()),
        })).collect::<Value>(),
        "receivers": receivers(&view),
        "pipelines": view.graph.pipelines.iter().map(|pipeline| described(pipeline, &view)).collect::<Value>(),
        "memory": memory(&view),
        "exporters": view.graph.queues.iter().map(|queue| exporter(queue, now)).collect::<Value>(),
        "ledger": view.graph.accounts.iter().map(|account| ledger(account)).collect::<Value>(),
        "bill": bill(&view),
    })
}

/// One line per receiver and signal, summed over transports.
fn receivers(view: &View) -> Value {
    let mut sums = BTreeMap::new();
    for gate in &view.graph.gates {
        let (items, bytes, refused) = sums.entry((&gate.receiver, gate.signal.name())).or_insert((0, 0, 0));
        let (accepted, more_refused) = gate.counts();
        *items += accepted.items();
        *bytes += accepted.bytes();
        *refused += more_refused;
    }
    let row = |((receiver, signal), (accepted, bytes, refused))| json!({"id": receiver, "signal": signal, "accepted": accepted, "accepted_bytes": bytes, "refused": refused});
    sums.into_iter().map(row).collect()
}

/// The components of a pipeline in their order: what came to each processor, which a stage does not count, and what left
/// it.
fn described(pipeline: &Pipeline, view: &View) -> Value {
    let ids = |references: &[Reference]| references.iter().map(|reference| reference.id.to_string()).collect::<Value>();
    let processor = |reference: &Reference| {
        let (graph, id) = (&view.graph, reference.id.to_string());
        let stage = graph.stage(&pipeline.id, &reference.id);
        let step = graph.steps.iter().find(|step| step.pipeline == pipeline.id && step.id == id);
        let rule = |dropped: Dropped| json!({"rule": dropped.rule, "says": dropped.said, "items": dropped.items, "bytes": dropped.bytes});
        let incoming = step.map(|step| &step.incoming);
        let outgoing = step.map(|step| &step.outgoing).or_else(|| Some(stage.as_ref()?.passed()));
        json!({
            "id": id,
            "incoming": incoming.map(Passed::items),
            "incoming_bytes": incoming.map(Passed::bytes),
            "outgoing": outgoing.map(Passed::items),
            "outgoing_bytes": outgoing.map(Passed::bytes),
            "dropped_by": step.map_or_else(Vec::new, |step| step.processor.dropped_by()).into_iter().map(rule).collect::<Value>(),
            "held": stage.as_ref().map(|stage| stage.held_items()),
        })
    };
    json!({
        "id": pipeline.id.to_string(),
        "signal": pipeline.id.signal.name(),
        "receivers": ids(&pipeline.receivers),
        "processors": pipeline.processors.iter().map(processor).collect::<Value>(),
        "exporters": ids(&pipeline.exporters),
    })
}

fn memory(view: &View) -> Value {
    let shares = [("ingest", Share::Ingest), ("queue", Share::Queue), ("export", Share::Export)];
    let mut of: Map<String, Value> = Map::new();
    let (mut all, mut used) = (0, 0);
    for (name, share) in shares {
        let (limit, taken) = (view.budget.limit(share), view.budget.used(share));
        (all, used) = (all + limit, used + taken);
        of.insert(name.to_owned(), json!({"budget_bytes": limit, "used_bytes": taken}));
    }
    json!({"budget_bytes": all, "used_bytes": used, "resident_bytes": resident_bytes(), "shares": of})
}

fn exporter(queue: &Queue, now: Now) -> Value {
    let seconds_since = |since: SystemTime| now.wall.duration_since(since).unwrap_or_default().as_secs();
    let report = queue.report(now);
    let Report {
        destination, outage, has_answered, items, memory_bytes, memory_limit, disk, size, capacity, unit, ..
    } = report;
    let state = match &outage {
        Some(outage) if outage.holds => "holding",
        Some(_) => "down",
        None if has_answered => "up",
        None => "untried",
    };
    json!({
        "id": queue.account.exporter,
        "signal": queue.account.signal.name(),
        "destination": destination,
        "state": state,
        "since_seconds": outage.as_ref().map(|outage| now.instant.saturating_duration_since(outage.since).as_secs()),
        "attempts": outage.as_ref().map(|outage| outage.attempts),
        "next_probe_seconds": outage.as_ref().and_then(|outage| outage.next_probe).map(|at| at.saturating_duration_since(now.instant).as_secs()),
        "why": outage.map(|outage| without_errno(&outage.why)),
        "trouble": queue.trouble(),
        "queue": {
            "enabled": report.is_enabled,
            "items": items,
            "size": size,
            "capacity": capacity,
            "unit": unit,
            "memory_bytes": memory_bytes,
            "memory_percent": percent(memory_bytes, memory_limit),
            "disk_bytes": disk.map(|(used, _)| used),
            "disk_quota_bytes": disk.map(|(_, quota)| quota),
            "disk_percent": disk.map(|(used, quota)| percent(used, quota)),
            "oldest_seconds": report.oldest.map(seconds_since),
            "bytes_per_second": report.bytes_per_second.map(f64::round),
            "seconds_until_full": report.until_full.map(|(seconds, _)| seconds.round()),
            "full_by": report.until_full.map(|(_, limit)| limit),
        },
    })
}

fn percent(part: u64, whole: u64) -> f64 {
    (part as f64 * 1000.0 / whole.max(1) as f64).round() / 10.0
}

fn ledger(account: &Account) -> Value {
    let dropped = Reason::ALL.into_iter().filter(|reason| !reason.is_rule());
    let dropped = dropped.map(|reason| (reason.name().to_owned(), account.dropped(reason)));
    json!({
        "exporter": account.exporter,
        "signal": account.signal.name(),
        "accepted": account.accepted(),
        "found": account.found(),
        "exported": account.sent(),
        "exported_bytes": account.sent_bytes(),
        "filtered": account.filtered(),
        "dropped": dropped.filter(|(_, items)| *items > 0).map(|(name, items)| (name, Value::from(items))).collect::<Map<_, _>>(),
        "waiting": account.waiting(),
    })
}

fn bill(view: &View) -> Value {
    let reading = view.graph.bill.read(SHOWN);
    let line = |service: Option<&str>, sums: &Sums| {
        json!({
            "service": service,
            "items": sums.items,
            "bytes": sums.bytes,
            "sent": sums.sent,
            "filtered": sums.filtered,
            "dropped": sums.dropped,
            "waiting": sums.waiting(),
        })
    };
    json!({
        "services": reading.services.iter().map(|(name, sums)| line(Some(name), sums)).collect::<Value>(),
        "others": line(None, &reading.others),
        "estimated": reading.is_estimate,
    })
}
