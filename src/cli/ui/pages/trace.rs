//! The screen of one request: what the tree of the terminal says of it, drawn as a waterfall (`waterfall`, `bar`), with
//! all of one span beside it (`span`), and texts to copy (`copies`).

mod bar;
mod copies;
mod span;
mod waterfall;

use std::collections::HashSet;

use http::StatusCode;
use maud::{Markup, html};

use super::requests::{Row, chosen};
use super::values::name;
use super::{Answer, Asked, Screen, address, digits, outcome, shown, time, took, trace_address};
use crate::cli::ui::store::Store;
use crate::cli::ui::store::item::Kept;
use crate::cli::ui::store::traces::Trace;
use crate::diagnostics::columns::counted;
use crate::exporters::debug::layout::{Layout, Tone};
use crate::exporters::debug::requests::{Id, Log, Told, named, span_id, trace_id};
use crate::inspect::wanted::{Query, Wanted};
use crate::order::Ordered;
use crate::otlp::hex;
use crate::otlp::views::{self, LogRecord};
use crate::telemetry::{Now, Signal};

/// Rows of the waterfall on one page.
const ROWS: usize = 200;
/// Logs without a span that are listed.
const LOGS: usize = 200;

/// The request of which the address gives the id, as a page or, with `.json`, as a file.
pub(super) fn answer(store: &Store, asked: &Asked, name: &str) -> Answer {
    let (given, is_file) = name.strip_suffix(".json").map_or((name, false), |id| (id, true));
    let mut id = Vec::new();
    let id = hex::read(given.as_bytes(), 16, &mut id).and_then(|()| trace_id(&id));
    let found = id.and_then(|id| Some((id, store.traces.get(&id)?)));
    match found {
        Some((id, trace)) if is_file => copies::file(&id, trace),
        Some((id, trace)) => shown(store, asked, StatusCode::OK, &screen(store, asked, &id, trace)),
        None => shown(store, asked, StatusCode::NOT_FOUND, &missing(store)),
    }
}

fn missing(store: &Store) -> Screen {
    let forgotten = store.traces.forgotten;
    let part = html! {
        p { "No request with this id is here. It has not arrived, or its address is mistyped"
            @if forgotten > 0 { ", or it made room for newer ones, as " (counted(forgotten, "request")) " did" }
            "." }
        p { a href="/" { "All requests" } }
    };
    Screen { title: "No such request".to_owned(), fixed: html! {}, part }
}

fn screen(store: &Store, asked: &Asked, id: &Id, trace: &Trace) -> Screen {
    let mut opened = trace.open(*id);
    // The changing part alone needs none of it.
    let fixed = if !asked.is_part() {
        around(store, asked, id)
    } else {
        html! {}
    };
    if opened.spans.is_empty() {
        opened.logs.order_by_key(|log| log.line.time);
        let part = html! {
            p class="warn" { "! No span of it has arrived, only its logs." }
            div class="request" {
                (logs(&opened.logs.iter().collect::<Vec<_>>()))
                (copies::json(id))
            }
        };
        return Screen { title: format!("Request {}", digits(id)), fixed, part };
    }
    let told = opened.tell(!asked.get("unfold").is_empty());
    let view = View::of(store, asked, *id, trace, &told);
    let part = html! {
        div class="request" {
            (view.head())
            div class=[view.open.is_some().then_some("beside")] {
                div {
                    (view.search())
                    (view.waterfall())
                    @if !told.placed.homeless.is_empty() {
                        h2 { "Logs whose span is not here" }
                        (logs(&told.placed.homeless))
                    }
                    (view.copies())
                }
                @if view.open.is_some() { (view.span()) }
            }
        }
    };
    Screen { title: named(&told.tree, &[told.tree.main]), fixed, part }
}

/// A request as it is shown.
struct View<'a> {
    store: &'a Store,
    asked: &'a Asked,
    id: Id,
    trace: &'a Trace,
    told: &'a Told<'a>,
    /// The records of the logs, in their order.
    records: Vec<&'a Kept>,
    /// The ids of the spans that have the words in their text or their logs'.
    found: HashSet<u64>,
    /// The rows with such spans.
    found_rows: Vec<usize>,
    /// The span whose panel is open.
    open: Option<u64>,
    /// The first of the rows on this page.
    first: usize,
}

impl<'a> View<'a> {
    fn of(store: &'a Store, asked: &'a Asked, id: Id, trace: &'a Trace, told: &'a Told<'a>) -> View<'a> {
        let of = |signal: Signal| trace.items.iter().map(|item| &**item).filter(move |item| item.signal == signal);
        let mut records: Vec<&Kept> = of(Signal::Logs).collect();
        // The same stable order as that of the lines.
        records.order_by_key(|item| time_of(&LogRecord::read(&item.record)));
        let mut open = Vec::new();
        let open = hex::read(asked.get("span").as_bytes(), 8, &mut open).map(|()| span_id(&open));
        let rows = told.tree.rows.len();
        let first = asked.get("rows").parse::<usize>().unwrap_or(0).min(rows.saturating_sub(1)) / ROWS * ROWS;
        let (found, found_rows) = (HashSet::new(), Vec::new());
        let mut view = View { store, asked, id, trace, told, records, found, found_rows, open, first };
        let query = Query { text: asked.get("find").to_owned(), ..Query::default() };
        if let (false, Ok(wanted)) = (query.text.is_empty(), Wanted::of(&query)) {
            view.find(&wanted, of(Signal::Traces));
        }
        view
    }

    /// Finds the spans that have all words in their own text or in that of one of their logs.
    fn find(&mut self, wanted: &Wanted, spans: impl Iterator<Item = &'a Kept>) {
        let now = Now::read();
        let spans = spans.filter(|item| item.is_wanted(wanted, now));
        self.found.extend(spans.map(|item| span_id(views::Span::read(&item.record).span_id)));
        let logs = self.told.logs.iter().zip(&self.records).filter(|(_, item)| item.is_wanted(wanted, now));
        let logs: HashSet<*const Log> = logs.map(|(log, _)| std::ptr::from_ref(log)).collect();
        let has_one = |below: &[&Log]| below.iter().any(|log| logs.contains(&std::ptr::from_ref(*log)));
        let below = self.told.placed.below.iter().filter(|(_, below)| has_one(below));
        self.found.extend(below.map(|(span, _)| *span));
        let tree = &self.told.tree;
        let is_found = |at: &usize| self.found.contains(&tree.at(*at).0.id);
        let rows = tree.rows.iter().enumerate().filter(|(_, row)| !row.is_heading && row.spans.iter().any(is_found));
        self.found_rows = rows.map(|(index, _)| index).collect();
    }

    /// The address of this page at one of its rows, with some parameters changed.
    fn at_row(&self, row: usize, changes: &[(&str, &str)]) -> String {
        let tree = &self.told.tree;
        let start = if row < ROWS { String::new() } else { (row / ROWS * ROWS).to_string() };
        let span = tree.rows.get(row).map_or(0, |row| tree.at(row.first()).0.id);
        format!("{}#{}", self.asked.with(&[changes, &[("rows", &start)]].concat()), anchor(span))
    }

    /// The number of rows that are no headings.
    fn rows(&self) -> usize {
        self.told.tree.rows.iter().filter(|row| !row.is_heading).count()
    }

    /// The address of its logs among all.
    fn logs_address(&self) -> String {
        address("/logs", &[("q", &format!("trace_id.string == \"{}\"", digits(&self.id)))])
    }

    /// The address at which a span's panel is open.
    fn span_address(&self, span: u64) -> String {
        let given = format!("{span:016x}");
        format!("{}#{}", self.asked.with(&[("span", &given)]), anchor(span))
    }

    /// The row that shows a span.
    fn row_of(&self, at: usize) -> Option<usize> {
        self.told.tree.rows.iter().position(|row| !row.is_heading && row.spans.contains(&at))
    }

    /// When, how long, how much, and what the terminal says before the rows.
    fn head(&self) -> Markup {
        let Told { tree, summary, logs, .. } = self.told;
        let (root, node) = tree.at(tree.main);
        let mut services: Vec<_> = tree.spans.iter().map(|span| &*span.service).collect();
        services.sort_unstable();
        services.dedup();
        let to_row = |work: Option<usize>| {
            let row = self.row_of(tree.works.get(work?)?.first)?;
            Some(self.at_row(row, &[]))
        };
        html! {
            p class="told" {
                (outcome(summary.has_failures())) " · " (took(node.duration())) " · " (time(root.start)) " · "
                (counted(tree.spans.len(), "span")) ", "
                @if !logs.is_empty() { a href=(self.logs_address()) { (counted(logs.len(), "log")) } ", " }
                (counted(services.len(), "service"))
                " · " span class="faint" { "trace " code data-copy { (digits(&self.id)) } }
            }
            ul class="said" {
                @for text in summary.partial.iter().chain(&summary.notes) { li class="warn" { "! " (text) } }
                @if let Some(text) = &summary.bottleneck {
                    li { "> bottleneck: " a href=[to_row(tree.bottleneck)] { (text) } }
                }
                @for text in &summary.failures { li class="bad" { "✗ failed: " (text) } }
                @if summary.more > 0 { li class="bad" { "✗ failed: " (summary.more) " more" } }
                @if let Some(text) = &summary.after {
                    li class="faint" { "+ after the answer: " a href=[to_row(tree.after)] { (text) } }
                }
            }
        }
    }

    /// How many rows have the words that are looked for, and the way from one to the next.
    fn search(&self) -> Markup {
        let (rows, asked) = (&self.found_rows, self.asked);
        let at = asked.get("match").parse::<usize>().unwrap_or(0).min(rows.len());
        let to = |number: usize| {
            let row = rows.get(number.checked_sub(1)?)?;
            Some(self.at_row(*row, &[("match", &number.to_string())]))
        };
        html! {
            @if !asked.get("find").is_empty() {
                p class="found" role="status" {
                    (counted(rows.len(), "row")) " of " (self.rows())
                    @if rows.len() == 1 { " has" } @else { " have" }
                    " “" (name(asked.get("find").as_bytes())) "”, marked ◆"
                    @if at > 0 { ", this is number " (at) }
                    @if let Some(address) = to(at.wrapping_sub(1)) { " · " a rel="prev" href=(address) { "previous" } }
                    @if let Some(address) = to(at + 1) {
                        " · " a rel="next" href=(address) { @if at == 0 { "first" } @else { "next" } }
                    }
                    " · " a href=(asked.with(&[("find", ""), ("match", "")])) { "clear" }
                }
            }
        }
    }
}

/// The way to other requests, and what is asked of this one.
fn around(store: &Store, asked: &Asked, id: &Id) -> Markup {
    let from = asked.get("from");
    let list = Asked::new("/", from);
    let rows = chosen(store, &list).unwrap_or_default();
    let at = rows.iter().position(|(known, _)| known == id);
    let before = at.and_then(|at| rows.get(at.checked_sub(1)?));
    let after = at.and_then(|at| rows.get(at + 1));
    let [earlier, later] = match list.get("sort") {
        "" => ["Newer", "Older"],
        "oldest" => ["Older", "Newer"],
        _ => ["Previous", "Next"],
    };
    let to = |rel: &str, name: &str, row: Option<&Row>| {
        html! {
            @if let Some((id, brief)) = row {
                a rel=(rel) href=(address(&trace_address(id), &[("from", from)])) title=(brief.words) { (name) }
            }
        }
    };
    let kept = ["from", "span", "unfold"].map(|key| (key, asked.get(key)));
    html! {
        div class="around" {
            nav aria-label="Other requests" class="pages" {
                a href=(list.with(&[])) { @if from.is_empty() { "All requests" } @else { "Back to the list" } }
                (to("prev", earlier, before))
                (to("next", later, after))
            }
            form method="get" action=(asked.path) role="search" class="filter" {
                @for (key, value) in kept.iter().filter(|(_, value)| !value.is_empty()) {
                    input type="hidden" name=(key) value=(value);
                }
                label {
                    "Find in this request"
                    input type="search" name="find" value=(asked.get("find")) placeholder="user=17" autocomplete="off";
                }
                button type="submit" { "Find" }
            }
        }
    }
}

/// Logs as lines: when, how grave, whose, what.
fn logs(logs: &[&Log]) -> Markup {
    html! {
        ul class="log-lines" {
            @for log in logs.iter().take(LOGS) {
                li { (log_line(log)) " " span class="faint" { (log.line.service) } }
            }
        }
        @if logs.len() > LOGS { p class="note" { "and " (logs.len() - LOGS) " more" } }
    }
}

fn log_line(log: &Log) -> Markup {
    let class = match log.line.tone {
        Tone::Bad => "bad",
        Tone::Warning => "warn",
        Tone::Faint => "faint",
        Tone::Plain | Tone::Strong => "plain",
    };
    html! {
        span class="time" { (Layout::FILE.local().clock(log.line.time)) } " "
        b class=(class) { (log.line.kind) } " " span class="words" { (log.line.words) }
    }
}

/// The time of a log record.
fn time_of(record: &LogRecord<'_>) -> u64 {
    if record.time == 0 { record.observed_time } else { record.time }
}

/// The id of a span's row in the page.
fn anchor(span: u64) -> String {
    format!("s{span:016x}")
}
