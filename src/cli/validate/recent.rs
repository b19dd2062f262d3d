//! `misaki validate --against-recent`: sends the recent requests of the running collector through the pipelines of
//! another config, and reports what they would drop.

use std::fmt::Write;

use bytes::{Bytes, BytesMut};

use crate::cli::local::{self, Target, failed, safe};
use crate::cli::page::{bytes, count, period};
use crate::cli::tail;
use crate::cli::test::trial::{Lost, Trial};
use crate::cli::{Failure, print};
use crate::diagnostics::columns::counted;
use crate::inspect::wanted::Wanted;
use crate::order::Ordered;
use crate::otlp::check::check;
use crate::service::plan::Plan;
use crate::telemetry::{Now, Signal};

/// Requests of the last day, in milliseconds: all that the ring may contain.
const SINCE: &str = "86400000";
/// The maximum of different refusals shown.
const REFUSALS: usize = 8;
/// Error logs and error spans, which a config rarely drops on purpose.
const ERRORS: [&str; 2] = ["severity_number >= SEVERITY_NUMBER_ERROR", "status.code == STATUS_CODE_ERROR"];
type Errors = Vec<Wanted>;

/// The amount of telemetry of one signal.
#[derive(Default)]
struct Total {
    items: u64,
    bytes: u64,
    errors: u64,
}

/// The amount that a rule drops, or a processor that does not count by rule.
struct Share {
    signal: Signal,
    items: u64,
    bytes: f64,
    words: String,
}

pub(super) fn report(mut plan: Plan, target: &Target) -> Result<(), Failure> {
    plan.silence();
    local::block_on(async { print(&look(&plan, target).await?) })
}

async fn look(plan: &Plan, target: &Target) -> Result<String, Failure> {
    let errors: Errors = ERRORS.into_iter().filter_map(|errors| Wanted::read(errors).ok()).collect();
    let trial = Trial::start(plan).map_err(failed)?;
    let mut answer = target.ask(&format!("/tail?at=received&since={SINCE}&then=end")).await?;
    let (mut buffer, mut came): (_, [Total; 3]) = (BytesMut::new(), Default::default());
    let (mut requests, mut skipped, mut first, mut last) = (0u64, 0u64, f64::INFINITY, f64::NEG_INFINITY);
    let mut refused: Vec<(String, u64)> = Vec::new();
    while let Some(sighting) = tail::next(&mut answer, &mut buffer).await? {
        let signal = sighting.signal;
        skipped += sighting.skipped;
        (requests, first, last) = (requests + 1, first.min(sighting.seconds), last.max(sighting.seconds));
        if let Some(total) = came.get_mut(signal as usize) {
            total.add(&errors, signal, &sighting.wire);
        }
        if let Err(why) = trial.feed(signal, sighting.wire).await {
            let has_room = refused.len() < REFUSALS;
            match refused.iter_mut().find(|(known, _)| *known == why) {
                Some((_, times)) => *times += 1,
                None if has_room => refused.push((why, 1)),
                None => {}
            }
        }
    }
    if requests == 0 {
        return Err(failed("nothing to look at: the collector has taken in nothing lately, or keeps nothing of it"));
    }
    let mut left: Vec<(String, Signal, Total)> = Vec::new();
    for (exporter, signal, wire) in trial.end().await {
        let index = left.iter().position(|(known, of, _)| (known, *of) == (&exporter, signal));
        let index = index.unwrap_or_else(|| {
            left.push((exporter, signal, Total::default()));
            left.len() - 1
        });
        if let Some((_, _, total)) = left.get_mut(index) {
            total.add(&errors, signal, &wire.into());
        }
    }
    let total = |signal: Signal| came.get(signal as usize).filter(|total| total.items > 0);
    // Telemetry that enters several pipelines may be dropped in each of them.
    let all: u64 =
        Signal::ALL.into_iter().filter_map(|signal| Some(total(signal)?.bytes * trial.ways(signal) as u64)).sum();
    let mut shares: Vec<Share> = trial.lost().into_iter().flat_map(|lost| shares(lost, total)).collect();
    shares.order_by(|left, right| right.bytes.total_cmp(&left.bytes));
    let percent = |bytes: f64| format!("{:.0} %", 100.0 * bytes / all.max(1) as f64);

    let mut out = String::new();
    let dropped = shares.iter().fold(0.0, |sum, share| sum + share.bytes);
    let said: Vec<String> =
        Signal::ALL.into_iter().filter_map(|signal| errors_lost(signal, total(signal)?, &left)).collect();
    let _ = writeln!(
        out,
        "would drop {} of the bytes; {}",
        percent(dropped),
        match said.is_empty() {
            true => "no error logs or spans came".to_owned(),
            false => said.join(", "),
        }
    );
    for share in &shares {
        let (items, bytes) = (count(&share.items.into()), bytes(&(share.bytes.round() as u64).into()));
        let what = name(share.signal);
        let _ = writeln!(out, "{:>7} {bytes:>10} {items:>9} {what:<11} {}", percent(share.bytes), safe(&share.words));
    }
    for (why, times) in &refused {
        let _ = writeln!(out, "{times} of {requests} requests: {}", safe(why));
    }
    let looked: Vec<String> = Signal::ALL
        .into_iter()
        .filter_map(|signal| Some((signal, total(signal)?)))
        .map(|(signal, total)| {
            format!("{} {} ({})", count(&total.items.into()), name(signal), bytes(&total.bytes.into()))
        })
        .collect();
    let _ = writeln!(
        out,
        "looked at {}, that came in {} within {}",
        looked.join(", "),
        counted(requests, "request"),
        period(Some(last - first))
    );
    if skipped > 0 {
        let _ = writeln!(out, "{} more were forgotten while it looked", count(&skipped.into()));
    }
    Ok(out)
}

/// The shares of one processor, by rule. If only items are known, their bytes are estimated from the average.
fn shares<'t>(lost: Lost, total: impl Fn(Signal) -> Option<&'t Total>) -> Vec<Share> {
    let Lost { by, signal, items, rules } = lost;
    if rules.is_empty() {
        let each = total(signal).map_or(0.0, |total| total.bytes as f64 / total.items.max(1) as f64);
        return vec![Share { signal, items, bytes: items as f64 * each, words: format!("{by} (bytes estimated)") }];
    }
    let share = |rule: crate::processors::Dropped| Share {
        signal,
        items: rule.items,
        bytes: rule.bytes as f64,
        words: format!("{by} {}", rule.said),
    };
    rules.into_iter().map(share).collect()
}

/// The number of errors that do not reach an exporter: the exporter that misses most counts. `None` for metrics.
fn errors_lost(signal: Signal, came: &Total, left: &[(String, Signal, Total)]) -> Option<String> {
    if signal == Signal::Metrics {
        return None;
    }
    let reached = left.iter().filter(|(_, of, _)| *of == signal).map(|(.., total)| total.errors).min();
    let lost = came.errors.saturating_sub(reached.unwrap_or(0));
    let mark = if lost > 0 { "WARNING: " } else { "" };
    let what = if signal == Signal::Logs { "error logs" } else { "error spans" };
    Some(format!("{mark}{} of {} {what}", count(&lost.into()), count(&came.errors.into())))
}

fn name(signal: Signal) -> &'static str {
    match signal {
        Signal::Logs => "logs",
        Signal::Metrics => "data points",
        Signal::Traces => "spans",
    }
}

impl Total {
    fn add(&mut self, errors: &Errors, signal: Signal, wire: &Bytes) {
        // It was checked at its receipt.
        let items = check(signal, wire).unwrap_or(0);
        self.items += u64::from(items);
        self.bytes += wire.len() as u64;
        let of = |wanted: &Wanted| {
            wanted.wants(signal).then(|| wanted.keep(signal, &[(wire.clone(), items)], Now::read()).1)
        };
        self.errors += errors.iter().filter_map(of).sum::<u64>();
    }
}
