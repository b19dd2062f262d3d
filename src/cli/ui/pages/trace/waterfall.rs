//! The rows of a request: the tree with its numbers, each with its picture, and below it what is said of it.

use maud::{Markup, html};

use super::{ROWS, View, anchor, bar, log_line};
use crate::cli::ui::pages::address;
use crate::cli::ui::pages::trace_address;
use crate::diagnostics::columns::counted;
use crate::exporters::debug::layout::duration;
use crate::exporters::debug::requests::{Id, Log, Remarks, linked, words};
use crate::exporters::debug::tree::{Link, Row};

/// Logs below one row, and on one page.
const LOGS_OF_ROW: usize = 12;
const LOGS: usize = 1000;
/// The levels that are drawn, and the width of one.
const DEPTH: usize = 16;
const LEVEL: usize = 14;
const COLUMNS: usize = 7;

impl View<'_> {
    pub(super) fn waterfall(&self) -> Markup {
        let tree = &self.told.tree;
        let rows = tree.rows.iter().enumerate().skip(self.first).take(ROWS);
        let is_unfolded = !self.asked.get("unfold").is_empty();
        let is_folded = tree.rows.iter().any(|row| !row.is_heading && row.spans.len() > 1);
        let unfolded = |value: &str| self.asked.with(&[("unfold", value), ("rows", "")]);
        let mut logs_left = LOGS;
        html! {
            table class="waterfall" {
                caption {
                    (counted(self.rows(), "row"))
                    @if is_folded { " · equal spans share one · " a href=(unfolded("1")) { "unfold" } }
                    @if is_unfolded { " · " a href=(unfolded("")) { "fold equal spans" } }
                }
                thead { tr {
                    th scope="col" { span class="hidden" { "Marks" } }
                    th scope="col" { "Span" }
                    th scope="col" { "Service" }
                    th scope="col" class="number" { "Total" }
                    th scope="col" class="number" { "Own" }
                    th scope="col" class="number" { "Share" }
                    th scope="col" class="timeline" { span class="hidden" { "Timeline, " } (bar::axis(tree)) }
                } }
                tbody {
                    @for (_, row) in rows {
                        @if row.is_heading {
                            tr class="heading" {
                                td {}
                                td colspan=(COLUMNS - 1) { (indent(row)) (tree.heading(row)) }
                            }
                        } @else {
                            (self.row(row))
                            (self.below(row, &mut logs_left))
                        }
                    }
                }
            }
            (self.pages())
            p class="note" {
                "> bottleneck · * on the critical path · outlined: when it was waited for · + bottleneck after the answer · ✗ failed · "
                "~ see below the row · "
                "dark: own time · light: the time of the spans below it · upright lines: logs"
                @if tree.drawn_end() > tree.at(tree.main).1.end { " · dotted: the answer" }
            }
        }
    }

    fn pages(&self) -> Markup {
        let (first, all) = (self.first, self.told.tree.rows.len());
        let to = |first: usize| self.asked.with(&[("rows", &first.to_string())]);
        html! {
            @if all > ROWS {
                nav aria-label="Rows" class="pages" {
                    @if first > 0 { a rel="prev" href=(to(first - ROWS)) { "Rows before" } }
                    span { (first + 1) "–" (all.min(first + ROWS)) " of " (all) }
                    @if first + ROWS < all { a rel="next" href=(to(first + ROWS)) { "Rows after" } }
                }
            }
        }
    }

    /// The logs of a row's spans, by span.
    fn logs_of(&self, row: &Row) -> Vec<&Log> {
        let spans = row.spans.iter().map(|at| self.told.tree.at(*at).0.id);
        let logs = spans.filter_map(|span| self.told.placed.below.get(&span));
        logs.flatten().copied().collect()
    }

    fn row(&self, row: &Row) -> Markup {
        let tree = &self.told.tree;
        let (span, node) = tree.at(row.first());
        let mark = match tree.mark(row, self.told.summary.is_whole()) {
            '>' => sign(">", "bottleneck"),
            '+' => sign("+", "bottleneck after the answer"),
            '*' => sign("*", "on the critical path"),
            _ => html! {},
        };
        let is_open = row.spans.iter().any(|at| Some(tree.at(*at).0.id) == self.open);
        let is_found = row.spans.iter().any(|at| self.found.contains(&tree.at(*at).0.id));
        let (logs, count) = (self.logs_of(row), row.spans.len());
        // What goes on after the answer is no part of its time.
        let share = if node.is_after { String::new() } else { tree.share(row.total) };
        html! {
            tr data-row id=(anchor(span.id)) class=[is_open.then_some("open")] {
                td class="mark" {
                    (mark)
                    @if span.failure.is_some() { span class="bad" { (sign("✗", "failed")) } }
                    @else if !tree.remarks(row).times.is_empty() { span class="warn" { (sign("~", "see below")) } }
                    @if is_found { (sign("◆", "has the words")) }
                }
                td class="name" {
                    div class="indented" {
                        (indent(row))
                        span {
                            a href=(self.span_address(span.id)) aria-current=[is_open.then_some("true")] {
                                @if count > 1 { "×" (count) " " }
                                (words(tree, &row.spans, usize::MAX))
                            }
                            @if count > 1 {
                                span class="faint" {
                                    " " (tree.range(row))
                                    @if !logs.is_empty() { " +" (counted(logs.len(), "log")) }
                                }
                            }
                            // Where there is no room beside the rows, the panel is below all of them.
                            @if is_open { a class="below-all" href="#span" { " all of it" } }
                        }
                    }
                }
                td class="service" { (span.service) }
                td class="number" { (duration(row.total)) }
                td class="number" { (duration(row.own)) }
                td class="number" { (share) }
                td class="timeline" { (bar::bar(tree, row, &logs)) }
            }
        }
    }

    /// What is said of a row: its failure, its times, its link, and the logs of a single span.
    fn below(&self, row: &Row, logs_left: &mut usize) -> Markup {
        let tree = &self.told.tree;
        let Remarks { failure, times, link } = tree.remarks(row);
        let logs = if row.spans.len() == 1 { self.logs_of(row) } else { Vec::new() };
        if failure.is_none() && times.is_empty() && link.is_none() && logs.is_empty() {
            return html! {};
        }
        let shown = logs.len().min(LOGS_OF_ROW).min(*logs_left);
        *logs_left -= shown;
        html! {
            tr class="below" {
                td {}
                td colspan=(COLUMNS - 1) {
                    div class="indented" {
                        (indent(row))
                        ul {
                            @if let Some(text) = failure { li class="bad" { (text) } }
                            @for text in times { li class="warn" { "~ " (text) } }
                            @if let Some(link) = link { li class="faint" { (self.link(link)) } }
                            @for log in logs.iter().take(shown) { li { (log_line(log)) } }
                            @if logs.len() > shown {
                                @let address = self.span_address(tree.at(row.first()).0.id);
                                li { a href=(address) { (counted(logs.len() - shown, "more log")) } }
                            }
                        }
                    }
                }
            }
        }
    }

    /// A link to a span of this request, or to another request that is here.
    fn link(&self, link: &Link) -> Markup {
        let to = match link.is_own {
            true => Some(self.span_address(link.span)),
            false => self.address_of(&link.trace, link.span),
        };
        html! {
            @match to {
                Some(to) => a href=(to) { (linked(link)) },
                None => (linked(link)),
            }
        }
    }

    /// The address of a span of another request, if that is here.
    pub(super) fn address_of(&self, trace: &Id, span: u64) -> Option<String> {
        self.store.traces.get(trace)?;
        let given = format!("{span:016x}");
        Some(format!("{}#{}", address(&trace_address(trace), &[("span", &given)]), anchor(span)))
    }
}

/// A sign that is read as words.
fn sign(sign: &str, words: &str) -> Markup {
    html! { span role="img" aria-label=(words) title=(words) { (sign) } }
}

/// The space before a name that shows how deep it is; a number replaces what would be too wide.
fn indent(row: &Row) -> Markup {
    let width = LEVEL * row.depth.min(DEPTH);
    html! {
        @if row.depth > 0 {
            span class="hidden" { "level " (row.depth + 1) ", " }
            svg class="indent" viewBox=(format!("0 0 {width} 1")) aria-hidden="true" {}
            @if row.depth > DEPTH { span class="faint" aria-hidden="true" { "…" (row.depth) "\u{a0}" } }
        }
    }
}
