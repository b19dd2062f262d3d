//! The services screen: what each service did in the requests that are here.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use maud::{Markup, html};

use super::pipeline::gauge;
use super::{Asked, Screen, address, took};
use crate::cli::page::count;
use crate::cli::ui::store::Store;
use crate::cli::ui::store::services::{self, Service};
use crate::order::Ordered;

/// Rows on the screen, and names in a cell.
const ROWS: usize = 500;
const NAMES: usize = 8;

type Row = (Arc<str>, Service);
/// The columns that sort: their names, and their keys in the address.
const COLUMNS: [(&str, &str); 8] = [
    ("Service", "name"),
    ("Waited for", ""),
    ("Calls/min", "rate"),
    ("Failed", "failed"),
    ("p50", "p50"),
    ("p95", "p95"),
    ("p99", "p99"),
    ("Spans", "spans"),
];

pub(super) fn screen(store: &Store, asked: &Asked) -> Screen {
    let all = services::of(store.traces.all().map(|(_, _, brief)| &**brief));
    let mut rows: Vec<Row> = all.into_iter().collect();
    let by = |rows: &mut Vec<Row>, key: fn(&Service) -> f64| {
        rows.order_by(|(_, one), (_, other)| key(other).total_cmp(&key(one)));
    };
    match asked.get("sort") {
        "name" => {}
        "rate" => by(&mut rows, |service| service.per_minute),
        "failed" => by(&mut rows, failed_share),
        "p50" => rows.order_by_key(|(_, service)| Reverse(service.percentiles[0])),
        "p95" => rows.order_by_key(|(_, service)| Reverse(service.percentiles[1])),
        "p99" => rows.order_by_key(|(_, service)| Reverse(service.percentiles[2])),
        "spans" => rows.order_by_key(|(_, service)| Reverse(service.spans)),
        _ => by(&mut rows, |service| service.waited),
    }
    let part = html! {
        @if rows.is_empty() { p { "No request yet. Send spans to the collector." } } @else { (table(asked, &rows)) }
    };
    Screen { title: "Services".to_owned(), fixed: html! {}, part }
}

fn failed_share(service: &Service) -> f64 {
    service.failed as f64 / service.served.max(1) as f64
}

fn table(asked: &Asked, rows: &[Row]) -> Markup {
    html! {
        p class="note" {
            "Of the requests that are here. " em { "Waited for" } " is a service's part of the time that clients waited; "
            em { "calls" } " are the server spans and the roots."
        }
        div class="scroll figures" id="services" tabindex="0" role="region" aria-label="Services" {
            table class="list" {
                caption { (rows.len()) @if rows.len() == 1 { " service" } @else { " services" } }
                thead { tr {
                    @for (index, (name, key)) in COLUMNS.into_iter().enumerate() {
                        @let is_chosen = asked.get("sort") == key;
                        @let order = if key == "name" { "ascending" } else { "descending" };
                        th scope="col" class=[(index > 1).then_some("number")] aria-sort=[is_chosen.then_some(order)] {
                            a href=(asked.with(&[("sort", key)])) { (name) }
                        }
                    }
                    th scope="col" { "Called by" }
                    th scope="col" { "Calls" }
                    th scope="col" { "Look at" }
                } }
                tbody { @for row in rows.iter().take(ROWS) { (line(row)) } }
            }
            @if rows.len() > ROWS { p class="note" { (rows.len() - ROWS) " more are not shown." } }
        }
    }
}

fn line((name, service): &Row) -> Markup {
    let to = |path: &str, more: &[(&str, &str)]| address(path, &[&[("service", &**name)], more].concat());
    html! {
        tr data-row {
            th scope="row" class="name" { a href=(to("/", &[])) { (name) } }
            td data-name="Waited for" { (gauge(service.waited)) }
            td class="number" data-name="Calls/min" { (format!("{:.1}", service.per_minute)) }
            td class="number" data-name="Failed" {
                @if service.failed > 0 {
                    a class="bad" href=(to("/", &[("failed", "1")])) {
                        "✗ " (count(&service.failed.into())) ", " (format!("{:.1} %", failed_share(service) * 100.0))
                    }
                } @else if service.failed_spans > 0 {
                    span class="warn" { "✗ " (count(&service.failed_spans.into())) " inside" }
                } @else { span class="faint" { "0" } }
            }
            @for (name, percentile) in ["p50", "p95", "p99"].into_iter().zip(service.percentiles) {
                td class="number" data-name=(name) { @if service.served > 0 { (took(percentile)) } @else { "–" } }
            }
            td class="number" data-name="Spans" { (count(&service.spans.into())) }
            td class="names" data-name="Called by" { (names(&service.called_by)) }
            td class="names" data-name="Calls" { (names(&service.calls)) }
            td { a href=(to("/logs", &[])) { "logs" } " " a href=(to("/metrics", &[])) { "metrics" } }
        }
    }
}

fn names(services: &BTreeSet<Arc<str>>) -> Markup {
    let shown: Vec<&str> = services.iter().take(NAMES).map(|name| &**name).collect();
    html! {
        (shown.join(", "))
        @if services.len() > NAMES { " and " (services.len() - NAMES) " more" }
    }
}
