//! The pipeline screen: the state of the collector, as `misaki status` tells it, drawn.

mod flow;

use maud::{Markup, html};
use serde_json::Value;

use super::{Screen, address};
use crate::cli::page::{bytes, count, period, texts};
use crate::cli::status::path;
use crate::cli::ui::store::Store;
use crate::cli::ui::store::health::each;
use crate::inspect::feed::PointKind;

pub(super) fn screen(store: &Store) -> Screen {
    let health = &store.health;
    let part = match health.status() {
        None => {
            html! { p { "No collector has told its state: this page shows recorded telemetry, or the collector is not there yet." } }
        }
        Some(status) => html! {
            (head(status))
            p class="note" {
                "On each arrow: items and bytes a second, over the last 10 seconds. The lines show the last minute. Look at what passes: "
                @for (index, point) in PointKind::ALL.into_iter().enumerate() {
                    @if index > 0 { ", " }
                    a href=(tap(point)) { (point.name()) }
                }
                "."
            }
            @for pipeline in each(status, "pipelines") { (flow::drawing(health, status, pipeline)) }
            (ledger(status))
            (rules(status))
            (memory(field(status, "memory")))
        },
    };
    Screen { title: "Pipeline".to_owned(), fixed: html! {}, part }
}

/// The address of what passes at a point.
fn tap(point: PointKind) -> String {
    address("/tap", &[("at", point.name())])
}

/// A field of a status; null if it is missing.
fn field<'a>(of: &'a Value, key: &str) -> &'a Value {
    of.get(key).unwrap_or(&Value::Null)
}

fn head(status: &Value) -> Markup {
    let why = field(status, "not_ready_because");
    let listening = |of: &Value| format!("{} {}", texts(field(of, "protocol")), texts(field(of, "address")));
    html! {
        dl class="state" {
            div { dt { "State" } dd {
                @if why.is_string() { strong class="bad" { "✗ not ready: " (texts(why)) } } @else { strong { "ready" } }
                ", up " (period(field(status, "uptime_seconds").as_f64()))
            } }
            div { dt { "Misaki" } dd { (texts(field(status, "version"))) ", process " (field(status, "pid").as_u64().unwrap_or_default()) } }
            div { dt { "Listening" } dd { (each(status, "listening").iter().map(listening).collect::<Vec<_>>().join(", ")) } }
            div { dt { "Config" } dd { (each(status, "config").iter().map(texts).collect::<Vec<_>>().join(", ")) } }
        }
        @if field(status, "reload_refused_at").is_string() {
            p class="warn" {
                "! The reload at " (texts(field(status, "reload_refused_at"))) " was refused, and the configuration of "
                (texts(field(status, "config_since"))) " runs on: " (texts(field(status, "reload_refused_because")))
            }
        }
    }
}

fn ledger(status: &Value) -> Markup {
    let columns = ["accepted", "exported", "filtered"];
    html! {
        div class="scroll figures" id="ledger" tabindex="0" role="region" aria-label="The ledger" {
            table {
                caption { "The ledger: accepted = exported + filtered + dropped + waiting" }
                thead { tr {
                    th scope="col" { "Account" }
                    @for name in ["Accepted", "Exported", "Filtered", "Dropped", "Waiting"] {
                        th scope="col" class="number" { (name) }
                    }
                    th scope="col" { "Why dropped" }
                } }
                tbody {
                    @for account in each(status, "ledger") {
                        @let dropped = reasons(account);
                        @let sum: u64 = dropped.iter().map(|(_, items)| items).sum();
                        tr {
                            th scope="row" { (path(account)) }
                            @for key in columns { td class="number" { (count(field(account, key))) } }
                            td class={ "number" @if sum > 0 { " bad" } } { (count(&sum.into())) }
                            td class="number" { (count(field(account, "waiting"))) }
                            td {
                                @for (index, (reason, items)) in dropped.iter().enumerate() {
                                    @if index > 0 { ", " }
                                    (texts(&Value::from(reason.replace('_', " ")))) " " (count(&(*items).into()))
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The dropped items of an account, by reason.
fn reasons(account: &Value) -> Vec<(&String, u64)> {
    let dropped = field(account, "dropped").as_object().into_iter().flatten();
    dropped.filter_map(|(reason, items)| Some((reason, items.as_u64()?))).collect()
}

/// What each rule of the config dropped, if any did.
fn rules(status: &Value) -> Markup {
    let mut rows = Vec::new();
    for pipeline in each(status, "pipelines") {
        for processor in each(pipeline, "processors") {
            rows.extend(each(processor, "dropped_by").iter().map(|rule| (pipeline, processor, rule)));
        }
    }
    html! {
        @if !rows.is_empty() {
            div class="scroll figures" id="rules" tabindex="0" role="region" aria-label="What rules dropped" {
                table {
                    caption { "What rules of the config dropped" }
                    thead { tr {
                        th scope="col" { "Pipeline" }
                        th scope="col" { "Processor" }
                        th scope="col" { "Rule" }
                        th scope="col" class="number" { "Items" }
                        th scope="col" class="number" { "Bytes" }
                    } }
                    tbody {
                        @for (pipeline, processor, rule) in rows {
                            tr {
                                td { (texts(field(pipeline, "id"))) }
                                td { (texts(field(processor, "id"))) }
                                td class="wide" title=(texts(field(rule, "rule"))) { (texts(field(rule, "says"))) }
                                td class="number" { (count(field(rule, "items"))) }
                                td class="number" { (bytes(field(rule, "bytes"))) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn memory(memory: &Value) -> Markup {
    let shares = [("ingest", "requests being read"), ("queue", "queues"), ("export", "requests being sent")];
    let row = |name: &str, says: &str, of: &Value| {
        let (used, budget) = (field(of, "used_bytes"), field(of, "budget_bytes"));
        html! {
            tr {
                th scope="row" { (name) }
                td { (says) }
                td class="number" { (bytes(used)) }
                td class="number" { (bytes(budget)) }
                td { (gauge(used.as_f64().unwrap_or_default() / budget.as_f64().unwrap_or(1.0).max(1.0))) }
            }
        }
    };
    html! {
        div class="scroll figures" id="memory" tabindex="0" role="region" aria-label="Memory" {
            table {
                caption {
                    "Memory for telemetry"
                    @if field(memory, "resident_bytes").is_u64() {
                        "; the whole process takes " (bytes(field(memory, "resident_bytes")))
                    }
                }
                thead { tr {
                    th scope="col" { "Share" }
                    th scope="col" { "For" }
                    th scope="col" class="number" { "Used" }
                    th scope="col" class="number" { "Budget" }
                    th scope="col" { "Fill" }
                } }
                tbody {
                    @for (name, says) in shares { (row(name, says, field(field(memory, "shares"), name))) }
                    (row("all", "", memory))
                }
            }
        }
    }
}

/// How full something is, from 0 to 1.
pub(super) fn gauge(share: f64) -> Markup {
    let percent = (share * 100.0).clamp(0.0, 100.0);
    html! {
        span class="gauge" {
            svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true" {
                rect class="empty" width="100" height="8" {}
                rect class=(if percent >= 80.0 { "full" } else { "filled" }) width=(format!("{percent:.1}")) height="8" {}
            }
            (format!("{:.0} %", percent))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::ui::pages::{Asked, answer};
    use crate::telemetry::clock;

    /// Names come from clients and from upstreams: none becomes markup or a control character.
    #[test]
    fn what_the_collector_tells_is_text() {
        const EVIL: &str = "<script>alert(1)</script>\"' onload=x \u{1b}[2J\u{202e}";
        let mut store = Store::new();
        store.tell(
            json!({
                "version": EVIL, "pid": EVIL, "uptime_seconds": EVIL, "config": [EVIL], "not_ready_because": EVIL,
                "listening": [{"protocol": EVIL, "address": EVIL}],
                "reload_refused_at": EVIL, "config_since": EVIL, "reload_refused_because": EVIL,
                "receivers": [{"id": EVIL, "signal": EVIL, "accepted": 1, "refused": 2}],
                "pipelines": [{
                    "id": EVIL, "signal": EVIL, "receivers": [EVIL], "exporters": [EVIL],
                    "processors": [{"id": EVIL, "incoming": 3, "outgoing": 1, "held": 1,
                        "dropped_by": [{"rule": EVIL, "says": EVIL, "items": 1, "bytes": EVIL}]}],
                }],
                "exporters": [{
                    "id": EVIL, "signal": EVIL, "destination": EVIL, "state": EVIL, "since_seconds": 1, "attempts": EVIL,
                    "next_probe_seconds": -1, "why": EVIL, "trouble": EVIL,
                    "queue": {"enabled": true, "size": 1, "capacity": 0, "disk_percent": 1e300, "full_by": EVIL,
                        "oldest_seconds": 1, "seconds_until_full": 1},
                }],
                "ledger": [{"exporter": EVIL, "signal": EVIL, "accepted": 1, "dropped": {EVIL: 1}}],
                "memory": {"used_bytes": 1, "budget_bytes": 0},
            }),
            clock(),
        );
        let page = answer(&mut store, &Asked::new("/pipeline", "")).body;
        assert!(page.contains("&lt;script&gt;alert(1)"), "{page}");
        assert!(!page.contains("<script>") && !page.contains(['\u{1b}', '\u{202e}']), "{page}");
        assert!(!page.contains("\"' onload"), "{page}");
    }
}
