//! Requests as a list: a line for each.

use std::collections::HashSet;

use super::summary::Summary;
use super::{Tree, named};
use crate::exporters::debug::layout::{Layout, Tone, column, duration, right, width};
use crate::otlp::hex;
use crate::otlp::pieces::Pieces;

/// The widths of the columns, and of all that is between them.
const TRACE: usize = 8;
const NUMBER: usize = 9;
const COUNT: usize = 6;
const BETWEEN: usize = 8;

/// The requests that are listed, and how many were.
#[derive(Clone, Debug, Default)]
pub(crate) struct List {
    /// Those with a failure.
    pub(crate) failed: bool,
    /// Those that took longer, in nanoseconds.
    pub(crate) slower_than: Option<u64>,
    /// Those with a span of this service.
    pub(crate) service: Option<String>,
    pub(crate) listed: u64,
}

impl List {
    /// Writes the line of a request, if it is one of those that are listed; before the first, the heads of the columns.
    pub(super) fn put(&mut self, tree: &Tree, summary: &Summary, trace: &[u8], layout: Layout, to: &mut Pieces) {
        let (root, node) = tree.at(tree.main);
        let services: HashSet<&str> = tree.spans.iter().map(|span| &*span.service).collect();
        let has_service = self.service.as_ref().is_none_or(|service| services.contains(service.as_str()));
        let is_failed = summary.has_failures();
        if !has_service || self.failed && !is_failed || self.slower_than.is_some_and(|most| node.duration() <= most) {
            return;
        }
        let mut line = |tone: Tone, time: &str, mark: &str, trace: &str, numbers: [&str; 3], words: &str| {
            let [duration, spans, services] = numbers;
            let (duration, spans) = (right(duration, NUMBER), right(spans, COUNT));
            let (time, trace) = (column(time, layout.time_columns()), column(trace, TRACE));
            let text = format!("{time} {mark} {trace} {duration} {spans} {}  {words}", right(services, COUNT));
            layout.put(to.out, tone, &layout.cut(text.trim_end()));
            to.out.push(b'\n');
        };
        if self.listed == 0 {
            line(Tone::Faint, "time", " ", "trace", ["duration", "spans", "svcs"], "request");
        }
        self.listed += 1;
        let (mut words, culprit) = (named(tree, &[tree.main]), summary.culprit().unwrap_or_default());
        let wanted = layout.time_columns() + TRACE + NUMBER + 2 * COUNT + BETWEEN + width(&words) + width(&culprit);
        let is_below = wanted > layout.longest();
        if !is_below && !culprit.is_empty() {
            words.push_str(&format!("  {culprit}"));
        }
        let (spans, services) = (tree.spans.len().to_string(), services.len().to_string());
        let (tone, mark) = if is_failed { (Tone::Bad, "✗") } else { (Tone::Plain, " ") };
        let numbers = [&*duration(node.duration()), &*spans, &*services];
        let mut id = Vec::new();
        hex::put(trace.get(..TRACE / 2).unwrap_or_default(), &mut id);
        line(tone, &layout.time(root.start), mark, &String::from_utf8_lossy(&id), numbers, &words);
        // Where lines are short, the culprit has its own: it must not be cut.
        if is_below && !culprit.is_empty() {
            let text = format!("{}{culprit}", " ".repeat(layout.time_columns() + 3));
            layout.put(to.out, tone, &layout.cut(&text));
            to.out.push(b'\n');
        }
        to.breathe();
    }
}
