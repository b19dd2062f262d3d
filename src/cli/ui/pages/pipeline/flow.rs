//! The drawing of one pipeline: receivers, processors, exporters and their upstreams, with an arrow between them. In a
//! narrow window it is a list from top to bottom.

use maud::{Markup, html};
use serde_json::Value;

use super::{field, gauge, reasons, tap};
use crate::cli::page::{bytes, count, period, texts};
use crate::cli::status::state;
use crate::cli::ui::store::health::{Count, Health, each};
use crate::exporters::debug::layout::word;
use crate::inspect::feed::PointKind;

/// The longest answer of an upstream that is shown at once.
const ANSWER: usize = 160;

/// One pipeline of a status.
struct Pipeline<'a> {
    health: &'a Health,
    status: &'a Value,
    own: &'a Value,
    signal: &'a str,
}

pub(super) fn drawing(health: &Health, status: &Value, pipeline: &Value) -> Markup {
    let signal = field(pipeline, "signal").as_str().unwrap_or_default();
    let drawn = Pipeline { health, status, own: pipeline, signal };
    let (receivers, processors) = (each(pipeline, "receivers"), each(pipeline, "processors"));
    let received =
        receivers.iter().filter_map(Value::as_str).map(|id| Count::Accepted(id.to_owned(), signal.to_owned()));
    html! {
        section class="pipeline" {
            h2 { (texts(field(pipeline, "id"))) }
            ol class="flow" {
                li class="stack" { @for receiver in receivers { (drawn.receiver(receiver)) } }
                li class="arrow" { (drawn.arrow(Some(PointKind::Received), &received.collect::<Vec<_>>())) }
                @for (index, processor) in processors.iter().enumerate() {
                    li class="stack" { (drawn.processor(processor)) }
                    li class="arrow" { (drawn.arrow(None, &drawn.between(processor, processors.get(index + 1)))) }
                }
                li class="stack" { @for exporter in each(pipeline, "exporters") { (drawn.exporter(exporter)) } }
            }
        }
    }
}

impl Pipeline<'_> {
    /// An entry of one of the status's lists, by the id in `key` and this signal.
    fn find(&self, list: &str, key: &str, id: &Value) -> Option<&Value> {
        each(self.status, list).iter().find(|of| field(of, key) == id && *field(of, "signal") == *self.signal)
    }

    fn receiver(&self, id: &Value) -> Markup {
        let counts = self.find("receivers", "id", id);
        html! {
            div class="box" {
                strong { (texts(id)) }
                @match counts {
                    Some(receiver) => {
                        span { (count(field(receiver, "accepted"))) " accepted" }
                        @if *field(receiver, "refused") != 0 { span class="warn" { "! " (count(field(receiver, "refused"))) " refused" } }
                    }
                    None => span class="faint" { "from a pipeline" },
                }
            }
        }
    }

    fn processor(&self, processor: &Value) -> Markup {
        let number = |key| field(processor, key).as_u64();
        let left_out = number("incoming").zip(number("outgoing")).map_or(0, |(came, left)| came.saturating_sub(left));
        html! {
            div class="box" {
                strong { (texts(field(processor, "id"))) }
                @if left_out > 0 { a href=(tap(PointKind::Filtered)) { "− " (count(&left_out.into())) " filtered" } }
                @if let Some(held) = number("held") { span { "holds " (count(&held.into())) } }
            }
        }
    }

    /// What is counted between two processors: the first counts what leaves it, or the next what comes.
    fn between(&self, processor: &Value, next: Option<&Value>) -> Vec<Count> {
        let name = |of: &Value| of.as_str().unwrap_or_default().to_owned();
        let pipeline = || name(field(self.own, "id"));
        if field(processor, "outgoing").is_u64() {
            return vec![Count::Outgoing(pipeline(), name(field(processor, "id")))];
        }
        let next = next.filter(|next| field(next, "incoming").is_u64());
        next.map(|next| Count::Incoming(pipeline(), name(field(next, "id")))).into_iter().collect()
    }

    fn exporter(&self, id: &Value) -> Markup {
        let (queue, account) = (self.find("exporters", "id", id), self.find("ledger", "exporter", id));
        let exported = Count::Exported(id.as_str().unwrap_or_default().to_owned(), self.signal.to_owned());
        let dropped: u64 = account.map_or(0, |account| reasons(account).iter().map(|(_, items)| items).sum());
        html! {
            div class="lane" {
                div class="box" {
                    strong { (texts(id)) }
                    @if let Some(exporter) = queue { (state_of(exporter)) (queue_of(field(exporter, "queue"))) }
                    @if account.is_none() { span class="faint" { "to a pipeline" } }
                    @if dropped > 0 {
                        a class="bad" href=(tap(PointKind::Dropped)) { "✗ " (count(&dropped.into())) " dropped" }
                    }
                }
                @if let Some(account) = account {
                    div class="arrow" { (self.arrow(Some(PointKind::Leaving), &[exported])) }
                    div class="box end" {
                        strong { (queue.map_or_else(|| "its output".to_owned(), |exporter| texts(field(exporter, "destination")))) }
                        span { (count(field(account, "exported"))) " exported" }
                    }
                }
            }
        }
    }

    /// An arrow with the sum of these rates, and the course of the last minute; a link to what passes there.
    fn arrow(&self, point: Option<PointKind>, counts: &[Count]) -> Markup {
        let rates = counts.iter().filter_map(|count| self.health.rate(count));
        let sum = rates.reduce(|[items, bytes], [more, more_bytes]| [items + more, bytes + more_bytes]);
        let figures = sum.map(|[items, volume]| (per_second(items), format!("{}/s", bytes(&volume.round().into()))));
        let mut course: Vec<f64> = Vec::new();
        for of in counts.iter().map(|count| self.health.course(count)) {
            course.resize(course.len().max(of.len()), 0.0);
            course.iter_mut().zip(of).for_each(|(sum, rate)| *sum += rate);
        }
        let inside = html! {
            span class="rate" { @if let Some((items, volume)) = &figures { (items) br; (volume) } @else { " " } }
            (sparkline(&course))
        };
        let said =
            figures.as_ref().map_or_else(|| "no rate yet".to_owned(), |(items, volume)| format!("{items}, {volume}"));
        html! {
            @match point {
                Some(point) => a href=(tap(point)) aria-label=(format!("{said}: look at what is {}", point.name())) { (inside) },
                None => (inside),
            }
        }
    }
}

/// `12/s`, `0.3/s`
fn per_second(rate: f64) -> String {
    if rate > 0.0 && rate < 10.0 {
        format!("{rate:.1}/s")
    } else {
        format!("{}/s", count(&Value::from(rate.round() as u64)))
    }
}

/// The rates of the last minute, up to the largest of them.
fn sparkline(course: &[f64]) -> Markup {
    let most = course.iter().copied().fold(1e-9, f64::max);
    let left = 60usize.saturating_sub(course.len());
    let points =
        course.iter().enumerate().map(|(index, rate)| format!("{},{:.1}", left + index, 15.0 - 14.0 * rate / most));
    html! {
        svg class="sparkline" viewBox="0 0 60 16" preserveAspectRatio="none" aria-hidden="true" {
            polyline points=(points.collect::<Vec<_>>().join(" ")) vector-effect="non-scaling-stroke" {}
        }
    }
}

/// Whether an exporter's upstream takes what it sends, and if not, why, and when it is tried again.
fn state_of(exporter: &Value) -> Markup {
    let (since, why) = (field(exporter, "since_seconds"), field(exporter, "why"));
    html! {
        @if since.is_number() {
            strong class="bad" { "✗ " (state(exporter)) " for " (period(since.as_f64())) }
            @let attempts = field(exporter, "attempts");
            span {
                (count(attempts)) @if *attempts == 1 { " attempt" } @else { " attempts" }
                @if let Some(seconds) = field(exporter, "next_probe_seconds").as_f64() { ", the next in " (period(Some(seconds))) }
            }
            @if let Some(why) = why.as_str() { span class="why" title=(texts(&why.into())) { (word(ANSWER, why.as_bytes())) } }
        } @else { span { (state(exporter)) } }
        @if field(exporter, "trouble").is_string() { span class="warn" { "! " (texts(field(exporter, "trouble"))) } }
    }
}

fn queue_of(queue: &Value) -> Markup {
    let number = |key| field(queue, key).as_f64();
    let of_size = number("size").zip(number("capacity")).map(|(size, most)| 100.0 * size / most.max(1.0));
    let fills = [of_size, number("memory_percent"), number("disk_percent")];
    let fill = fills.into_iter().flatten().fold(0.0, f64::max);
    html! {
        @if *field(queue, "enabled") == false { span class="faint" { "no queue" } } @else {
            (gauge(fill / 100.0))
            span {
                (count(field(queue, "items"))) " in the queue, " (bytes(field(queue, "memory_bytes")))
                @if let Some(disk) = queue.get("disk_bytes").filter(|disk| disk.is_u64()) { ", " (bytes(disk)) " on disk" }
            }
            @if let Some(oldest) = number("oldest_seconds") { span { "the oldest waits " (period(Some(oldest))) } }
            @if let Some(seconds) = number("seconds_until_full") {
                span class="faint" { "holds " (period(Some(seconds))) " of an outage, by " (texts(field(queue, "full_by"))) }
            }
        }
    }
}
