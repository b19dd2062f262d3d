//! The log records, the newest first, with their counts over time.

mod level;
mod record;
mod strip;

use std::sync::Arc;

use maud::{Markup, html};

use super::{Asked, Screen, choice, mistake, request_address, time};
use crate::cli::ui::store::Store;
use crate::cli::ui::store::item::Kept;
use crate::cli::ui::store::logs::At;
use crate::diagnostics::columns::counted;
use crate::exporters::debug::layout::Tone;
use crate::exporters::debug::line::{self, Line};
use crate::inspect::wanted::{Query, Wanted};
use crate::otlp::views::LogRecord;
use crate::ottl::syntax::Mistake;
use crate::telemetry::{Now, Signal};
use level::Level;

/// Rows on one page, and the columns of a row's text.
const ROWS: usize = 200;
const COLUMNS: usize = 400;
const EXAMPLE: &str = "attributes[\"user\"] == \"17\"";

struct Found<'s> {
    at: At,
    item: &'s Arc<Kept>,
    level: Level,
}

/// The records on one page, the newest first.
struct Page<'p, 's> {
    shown: &'p [Found<'s>],
    has_newer: bool,
    has_older: bool,
}

pub(super) fn screen(store: &Store, asked: &Asked) -> Screen {
    let part = match found(store, asked) {
        Err((expression, mistake)) => mistake::screen(asked, &expression, &mistake),
        Ok(found) => html! {
            @if !asked.get("from").is_empty() || !asked.get("to").is_empty() {
                p class="note" { "Only a part of the time. " a href=(narrowed(asked, "", "")) { "Show all" } }
            }
            @if found.is_empty() {
                p { "No log record yet, or none that fits. " a href="/logs" { "Show all" } "." }
            } @else {
                (strip::strip(asked, &found))
                (table(store, asked, &found))
            }
        },
    };
    Screen { title: "Logs".to_owned(), fixed: form(store, asked), part }
}

/// This screen for the records of another time.
fn narrowed(asked: &Asked, from: &str, to: &str) -> String {
    asked.with(&[("from", from), ("to", to), ("before", ""), ("after", "")])
}

/// The records that are asked for, by time; or what is wrong with the question.
fn found<'s>(store: &'s Store, asked: &Asked) -> Result<Vec<Found<'s>>, (String, Mistake)> {
    let expression = asked.get("q");
    let conditions = if expression.is_empty() { Vec::new() } else { vec![(Signal::Logs, expression.to_owned())] };
    let query = Query { conditions, text: asked.get("text").to_owned(), ..Query::default() };
    let has_query = !query.conditions.is_empty() || !query.text.is_empty();
    let (wanted, now) = (Wanted::of(&query)?, Now::read());
    let (service, least) = (asked.get("service"), Level::named(asked.get("level")));
    let from = asked.get("from").parse().unwrap_or(0);
    let to = asked.get("to").parse().unwrap_or(u64::MAX);
    let all = store
        .logs
        .all()
        .filter(|(at, item)| (from..=to).contains(&at.0) && (service.is_empty() || *item.headers.service == *service));
    let with_level = all.map(|(at, item)| Found { at, item, level: Level::of(&LogRecord::read(&item.record)) });
    let fitting = with_level.filter(|found| found.level >= least);
    Ok(fitting.filter(|found| !has_query || found.item.is_wanted(&wanted, now)).collect())
}

/// The page that the parameters `before` and `after` ask for; without them the newest.
fn page<'p, 's>(asked: &Asked, found: &'p [Found<'s>]) -> Page<'p, 's> {
    let (mut first, mut end) = (0, found.len());
    if let Some(before) = place(asked.get("before")) {
        end = found.partition_point(|found| found.at < before);
    } else if let Some(after) = place(asked.get("after")) {
        first = found.partition_point(|found| found.at <= after);
        end = found.len().min(first + ROWS);
    }
    first = first.max(end.saturating_sub(ROWS));
    let shown = found.get(first..end).unwrap_or_default();
    Page { shown, has_newer: end < found.len(), has_older: first > 0 }
}

/// A place in the order of the records, as addresses have it.
fn place(text: &str) -> Option<At> {
    let (time, number) = text.split_once('-')?;
    Some((time.parse().ok()?, number.parse().ok()?))
}

fn written((time, number): At) -> String {
    format!("{time}-{number}")
}

fn form(store: &Store, asked: &Asked) -> Markup {
    if asked.is_part() {
        return html! {};
    }
    let services = store.logs.all().map(|(_, item)| &*item.headers.service);
    html! {
        form method="get" action="/logs" role="search" class="filter" {
            label {
                "Condition"
                input type="search" name="q" value=(asked.get("q")) placeholder=(EXAMPLE) autocomplete="off";
            }
            label {
                "Text"
                input type="search" name="text" value=(asked.get("text")) autocomplete="off"
                    placeholder="redis refused";
            }
            label { "Level"
                select name="level" {
                    option value="" { "all" }
                    @for level in Level::NAMED {
                        @let name = level.name();
                        option value=(name) selected[asked.get("level").eq_ignore_ascii_case(name)] {
                            (name) @if level < Level::Fatal { " and above" }
                        }
                    }
                }
            }
            (choice(asked, services))
            @for key in ["from", "to"] {
                @if !asked.get(key).is_empty() { input type="hidden" name=(key) value=(asked.get(key)); }
            }
            button type="submit" { "Show" }
        }
    }
}

fn table(store: &Store, asked: &Asked, found: &[Found<'_>]) -> Markup {
    let page = page(asked, found);
    let opened = place(asked.get("log"));
    let is_here = page.shown.iter().any(|found| Some(found.at) == opened);
    let elsewhere = opened.filter(|_| !is_here).and_then(|opened| store.logs.get(opened).map(|item| (opened, item)));
    let pages = pages(asked, &page);
    html! {
        div class="scroll" tabindex="0" role="region" aria-label="Log records" {
            table class="list" {
                caption { (counted(found.len(), "log record")) ", the newest first" }
                thead { tr {
                    th scope="col" { "Time" }
                    th scope="col" { "Level" }
                    th scope="col" { "Service" }
                    th scope="col" { "Text" }
                    th scope="col" { "Request" }
                } }
                tbody {
                    @if let Some((at, item)) = elsewhere {
                        (row(store, asked, at, item, true))
                    }
                    @for found in page.shown.iter().rev() {
                        (row(store, asked, found.at, found.item, Some(found.at) == opened))
                    }
                }
            }
        }
        (pages)
    }
}

fn row(store: &Store, asked: &Asked, at: At, item: &Kept, is_open: bool) -> Markup {
    let record = LogRecord::read(&item.record);
    let Line { kind, tone, words, .. } = line::log(&record, &item.headers.service, COLUMNS);
    let (place, request) = (written(at), request_address(store, record.trace_id, record.span_id));
    let address = format!("{}#log-{place}", asked.with(&[("log", if is_open { "" } else { &place })]));
    html! {
        tr data-row id=(format!("log-{place}")) class=[is_open.then_some("chosen")] {
            td { (time(at.0)) }
            td { span class=[class(tone)] { (kind) } }
            td { (item.headers.service) }
            td class="wide words" {
                a class="plain" href=(address) aria-expanded=(is_open) {
                    @if words.is_empty() { "(no text)" } @else { (words) }
                }
            }
            td { @if let Some(address) = &request { a href=(address) { "request" } } }
        }
        @if is_open {
            tr class="opened" { td colspan="5" { (record::opened(&record, item, request.as_deref())) } }
        }
    }
}

fn class(tone: Tone) -> Option<&'static str> {
    match tone {
        Tone::Bad => Some("bad"),
        Tone::Warning => Some("warn"),
        Tone::Faint => Some("faint"),
        Tone::Plain | Tone::Strong => None,
    }
}

fn pages(asked: &Asked, page: &Page<'_, '_>) -> Markup {
    let (Some(oldest), Some(newest)) = (page.shown.first(), page.shown.last()) else {
        return html! { p { a href=(asked.with(&[("before", ""), ("after", "")])) { "The newest" } } };
    };
    html! {
        @if page.has_newer || page.has_older {
            nav aria-label="Pages" class="pages" {
                @if page.has_newer {
                    a href=(asked.with(&[("before", ""), ("after", "")])) { "Newest" }
                    a rel="prev" href=(asked.with(&[("before", ""), ("after", &written(newest.at))])) { "Newer" }
                }
                span { (time(newest.at.0)) " back to " (time(oldest.at.0)) }
                @if page.has_older {
                    a rel="next" href=(asked.with(&[("before", &written(oldest.at)), ("after", "")])) { "Older" }
                }
            }
        }
    }
}
