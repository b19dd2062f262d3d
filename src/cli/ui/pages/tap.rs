//! What passes at one point of the collector, as lines.

use std::collections::VecDeque;

use maud::{Markup, html};

use super::{Asked, Screen, address};
use crate::cli::ui::store::Store;
use crate::cli::ui::store::tapped::Passed;
use crate::exporters::debug::layout::Layout;
use crate::exporters::debug::rates::Rates;
use crate::exporters::debug::{Style, put_lines};
use crate::inspect::feed::PointKind;
use crate::otlp::pieces::whole;
use crate::telemetry::clock;

/// Lines on the screen.
const LINES: usize = 300;

pub(super) fn screen(store: &mut Store, asked: &Asked) -> Screen {
    let point = PointKind::ALL.into_iter().find(|point| point.name() == asked.get("at")).unwrap_or(PointKind::Received);
    let (passed, too_large) = store.tapped.look(point, clock());
    let lines = lines(passed);
    let part = html! {
        @if lines.is_empty() {
            p { "Nothing yet. " (empty(point)) }
        } @else {
            p class="note" { "The last " (lines.len()) ", the newest first." }
            ol class="lines" {
                @for (is_heading, line) in lines.iter().rev() {
                    li class=[is_heading.then_some("faint")] data-row[!is_heading] { (line) }
                }
            }
        }
        @if too_large > 0 { p class="note" { (too_large) " requests were too large to be shown here." } }
    };
    let title = match point {
        PointKind::Received => "Received",
        PointKind::Leaving => "Leaving",
        PointKind::Dropped => "Dropped",
        PointKind::Filtered => "Filtered",
    };
    Screen { title: title.to_owned(), fixed: points(point), part }
}

/// What will be here.
fn empty(point: PointKind) -> &'static str {
    match point {
        PointKind::Received => "Here is what comes.",
        PointKind::Leaving => "Here is what exporters send from now on, while this page is open.",
        PointKind::Dropped => "Here is what is lost, and why.",
        PointKind::Filtered => "Here is what rules of the config remove from now on, while this page is open.",
    }
}

fn points(chosen: PointKind) -> Markup {
    html! {
        nav aria-label="Points of the pipeline" {
            ul {
                li { a href="/pipeline" { "Pipeline" } }
                @for point in PointKind::ALL {
                    li { a href=(address("/tap", &[("at", point.name())])) aria-current=[(point == chosen).then_some("page")] { (point.name()) } }
                }
            }
        }
    }
}

/// The last lines, each with whether it is a heading, which follows its items: the newest is read first.
fn lines<'a>(passed: impl Iterator<Item = &'a Passed>) -> VecDeque<(bool, String)> {
    let style = Style { escape_newlines: true, layout: Layout::FILE.local() };
    let (mut lines, mut rates) = (VecDeque::new(), Rates::default());
    let mut put = |is_heading, text: &str| {
        if lines.len() >= LINES {
            lines.pop_front();
        }
        lines.push_back((is_heading, text.to_owned()));
    };
    for Passed { signal, heading, wire } in passed {
        let mut out = Vec::new();
        whole(&mut out, |to| put_lines(*signal, style, &[wire], &mut rates, to));
        String::from_utf8_lossy(&out).lines().for_each(|line| put(false, line));
        heading.iter().for_each(|heading| put(true, &crate::cli::safe(heading)));
    }
    lines
}
