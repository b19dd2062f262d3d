//! The first screen: the requests, as `misaki traces` lists them, and their durations over time.

use std::sync::Arc;
use std::time::Duration;

use maud::{Markup, html};

use super::{Asked, Screen, address, choice, mistake, outcome, time, took, trace_address};
use crate::cli::ui::store::Store;
use crate::cli::ui::store::traces::Brief;
use crate::config::duration;
use crate::diagnostics::columns::counted;
use crate::diagnostics::escape::safe;
use crate::exporters::debug::layout;
use crate::exporters::debug::requests::Id;
use crate::inspect::wanted::{Query, Wanted};
use crate::order::Ordered;
use crate::telemetry::Now;

/// Rows on one page, and points in the picture.
const ROWS: usize = 100;
const POINTS: usize = 1000;

pub(super) type Row = (Id, Arc<Brief>);

pub(super) fn screen(store: &Store, asked: &Asked) -> Screen {
    let (rows, mistake) = match chosen(store, asked) {
        Ok(rows) => (rows, None),
        Err(mistake) => (Vec::new(), Some(mistake)),
    };
    let part = html! {
        @if store.traces.unread() > 0 {
            p class="note" role="status" { (store.traces.unread()) " more are being read." }
        }
        @if let Some(mistake) = &mistake {
            (mistake)
        } @else if rows.is_empty() {
            (nothing(store))
        } @else {
            (scatter(&rows))
            (table(asked, &rows))
        }
    };
    Screen { title: "Requests".to_owned(), fixed: form(store, asked), part }
}

/// What is said in place of rows.
fn nothing(store: &Store) -> Markup {
    let all = store.traces.all().count();
    html! {
        @if all > 0 {
            p { "None of " (all) " requests. " a href="/" { "Show all" } "." }
        } @else {
            p { "No request yet. Point a program at the collector (" code { "OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318" } "), or try " code { "misaki send purchase" } "." }
        }
    }
}

/// The requests that are asked for, sorted; or what is wrong with the question.
pub(super) fn chosen(store: &Store, asked: &Asked) -> Result<Vec<Row>, Markup> {
    let query = Query { expression: asked.get("q").to_owned(), text: asked.get("text").to_owned(), ..Query::default() };
    let has_query = !query.expression.is_empty() || !query.text.is_empty();
    let wanted = Wanted::of(&query).map_err(|(text, mistake)| mistake::screen(asked, &text, &mistake))?;
    let period = |key: &str| match asked.get(key) {
        "" => Ok(None),
        text => duration::parse(text)
            .map(Some)
            .map_err(|why| html! { p class="bad" role="alert" { (key) ": " (safe(why)) } }),
    };
    let (slower_than, since, now) = (period("slower")?, period("since")?, Now::read());
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let wall = now.wall.duration_since(std::time::UNIX_EPOCH).map_or(0, nanos);
    let (least, first) = (slower_than.map_or(0, nanos), since.map_or(0, |since| wall.saturating_sub(nanos(since))));
    let (service, is_failed) = (asked.get("service"), !asked.get("failed").is_empty());
    let fits = |brief: &Brief| {
        (brief.duration > least || slower_than.is_none())
            && brief.start >= first
            && (brief.is_failed || !is_failed)
            && (service.is_empty() || brief.services.iter().any(|known| **known == *service))
    };
    let fitting = store.traces.all().filter(|(_, _, brief)| fits(brief));
    let matching =
        fitting.filter(|(_, trace, _)| !has_query || trace.items.iter().any(|item| item.is_wanted(&wanted, now)));
    let mut rows: Vec<Row> = matching.map(|(id, _, brief)| (*id, brief.clone())).collect();
    rows.order_by_key(|(id, brief)| (std::cmp::Reverse(brief.start), *id));
    match asked.get("sort") {
        "duration" => rows.order_by_key(|(_, brief)| std::cmp::Reverse(brief.duration)),
        "spans" => rows.order_by_key(|(_, brief)| std::cmp::Reverse(brief.spans)),
        "oldest" => rows.reverse(),
        _ => {}
    }
    Ok(rows)
}

fn form(store: &Store, asked: &Asked) -> Markup {
    if asked.is_part() {
        return html! {};
    }
    let services = store.traces.all().flat_map(|(_, _, brief)| &brief.services).map(|service| &**service);
    html! {
        form method="get" action="/" role="search" class="filter" {
            label { "Condition" input type="search" name="q" value=(asked.get("q")) placeholder="span.name == \"GET /cart\"" autocomplete="off"; }
            label { "Text" input type="search" name="text" value=(asked.get("text")) placeholder="redis refused" autocomplete="off"; }
            (choice(asked, services))
            label { "Slower than" input name="slower" size="6" value=(asked.get("slower")) placeholder="300ms"; }
            label { "Of the last" input name="since" size="5" value=(asked.get("since")) placeholder="10m"; }
            label class="check" { input type="checkbox" name="failed" value="1" checked[!asked.get("failed").is_empty()]; "Failed only" }
            @if !asked.get("sort").is_empty() { input type="hidden" name="sort" value=(asked.get("sort")); }
            button type="submit" { "Show" }
        }
    }
}

fn table(asked: &Asked, rows: &[Row]) -> Markup {
    let page = asked.get("page").parse::<usize>().unwrap_or(0).min(rows.len().saturating_sub(1) / ROWS);
    let (first, sort) = (page * ROWS, asked.get("sort"));
    let (shown, from) = (rows.iter().skip(first).take(ROWS), asked.parameters());
    let head = |name: &str, key: &str| {
        html! {
            th scope="col" aria-sort=[(sort == key).then_some("descending")] {
                a href=(asked.with(&[("sort", key), ("page", "")])) { (name) }
            }
        }
    };
    html! {
        table class="list" {
            caption { (counted(rows.len(), "request")) }
            thead { tr {
                (head("Time", ""))
                th scope="col" { "Outcome" }
                th scope="col" { "Request" }
                (head("Duration", "duration"))
                (head("Spans", "spans"))
                th scope="col" class="number" { "Logs" }
                th scope="col" { "Services" }
                th scope="col" { "Why" }
            } }
            tbody {
                @for (id, brief) in shown {
                    tr data-row {
                        td { (time(brief.start)) }
                        td { (outcome(brief.is_failed)) @if brief.is_partial { span class="faint" { " partial" } } }
                        td class="wide" { a href=(address(&trace_address(id), &[("from", &from)])) { (brief.words) } }
                        td class="number" { (took(brief.duration)) }
                        td class="number" data-name="Spans" { (brief.spans) }
                        td class="number" data-name="Logs" { (brief.logs) }
                        td data-name="Services" { (brief.services.len()) }
                        td class="wide" { (brief.culprit.as_deref().unwrap_or_default()) }
                    }
                }
            }
        }
        @if rows.len() > ROWS {
            nav aria-label="Pages" class="pages" {
                @if page > 0 { a rel="prev" href=(asked.with(&[("page", &(page - 1).to_string())])) { "Newer" } }
                span { (first + 1) "–" (rows.len().min(first + ROWS)) " of " (rows.len()) }
                @if first + ROWS < rows.len() { a rel="next" href=(asked.with(&[("page", &(page + 1).to_string())])) { "Older" } }
            }
        }
    }
}

/// The durations over time, on a logarithmic scale. A failure is a cross.
fn scatter(rows: &[Row]) -> Markup {
    let points = || rows.iter().take(POINTS);
    let times = || points().map(|(_, brief)| brief.start);
    let durations = || points().map(|(_, brief)| brief.duration.max(1));
    let (first, last) = (times().min().unwrap_or_default(), times().max().unwrap_or_default());
    let (least, most) = (durations().min().unwrap_or(1), durations().max().unwrap_or(1));
    // In percent of the picture, so that a point has the same form in any window.
    let x = |time: u64| 1.0 + 98.0 * (time - first) as f64 / (last - first).max(1) as f64;
    let log = |nanos: u64| (nanos.max(1) as f64).ln();
    let scale = (log(most) - log(least)).max(1e-9);
    let y = |nanos: u64| 94.0 - 88.0 * (log(nanos) - log(least)) / scale;
    let failed = points().filter(|(_, brief)| brief.is_failed).count();
    let label = format!(
        "{} from {} to {}, {failed} failed",
        counted(points().count(), "request"),
        layout::duration(least),
        layout::duration(most)
    );
    html! {
        figure class="scatter" {
            svg role="img" aria-label=(label) {
                @for (id, brief) in points() {
                    @let (x, y) = (format!("{:.2}%", x(brief.start)), format!("{:.1}%", y(brief.duration)));
                    a href=(trace_address(id)) tabindex="-1" {
                        title { (brief.words) ", " (layout::duration(brief.duration)) @if brief.is_failed { ", failed" } }
                        @if brief.is_failed {
                            svg x=(x) y=(y) width="1" overflow="visible" { path class="cross" d="M-4 -4l8 8m0 -8l-8 8" {} }
                        } @else {
                            circle class="dot" cx=(x) cy=(y) r="3" {}
                        }
                    }
                }
            }
            figcaption { (time(first)) " to " (time(last)) ", " (layout::duration(least)) " to " (layout::duration(most)) " on a logarithmic scale" @if failed > 0 { "; ✗ failed" } }
        }
    }
}
