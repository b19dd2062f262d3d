//! What is said of a row, in the terminal and on the local page.

use super::failed;
use crate::exporters::debug::layout::{duration, pair};
use crate::exporters::debug::tree::{Link, Node, Row, Tree};

/// What stands below a row.
pub(crate) struct Remarks<'a> {
    /// The text about its failure, unless the row says all of it.
    pub(crate) failure: Option<String>,
    /// About its times: clocks that differ, an end after that of its parent.
    pub(crate) times: Vec<String>,
    pub(crate) link: Option<&'a Link>,
}

impl<'a> Tree<'a> {
    /// Whether the client waited for one of a row's spans, or for a span below it.
    pub(crate) fn is_waited_for(&self, row: &Row) -> bool {
        !self.at(row.first()).1.is_after && row.spans.iter().any(|at| self.at(*at).1.path_below > 0)
    }

    /// The mark before a row. Only a whole request has bottlenecks.
    pub(crate) fn mark(&self, row: &Row, is_whole: bool) -> char {
        match Some(self.at(row.first()).1.work) {
            work if is_whole && work == self.bottleneck => '>',
            work if is_whole && work == self.after => '+',
            _ if self.is_waited_for(row) => '*',
            _ => ' ',
        }
    }

    /// The part of the request's time in percent; empty for a request without duration.
    pub(crate) fn share(&self, nanos: u64) -> String {
        let all = u128::from(self.at(self.main).1.duration());
        let percent = (u128::from(nanos) * 100 + all / 2).checked_div(all);
        percent.map_or_else(String::new, |percent| format!("{} %", percent.min(999)))
    }

    /// The line above spans that their parent did not wait for.
    pub(crate) fn heading(&self, row: &Row) -> &'static str {
        let answer = self.at(self.main).1.end;
        let is_after = row.spans.iter().any(|at| self.at(*at).1.end > answer);
        if is_after { "after the answer" } else { "not waited for" }
    }

    /// The end of the picture's time, which starts with the main root: at most as much again is drawn after its end.
    pub(crate) fn drawn_end(&self) -> u64 {
        let (_, root) = self.at(self.main);
        self.end.min(root.end.saturating_add(root.duration()))
    }

    /// `3–9 ms`: the durations of a row's spans.
    pub(crate) fn range(&self, row: &Row) -> String {
        let durations = || row.spans.iter().map(|at| self.at(*at).1.duration());
        let (shortest, longest) = (durations().min().unwrap_or_default(), durations().max().unwrap_or_default());
        match duration(shortest) == duration(longest) {
            true => duration(longest),
            false => pair(shortest, "–", longest),
        }
    }

    pub(crate) fn remarks(&self, row: &Row) -> Remarks<'a> {
        let (span, node) = self.at(row.first());
        // A mark in the row and the answer beside it say the same as an empty message.
        let is_said =
            |message: &&str| message.is_empty() && span.call.as_ref().is_some_and(|call| !call.answer.is_empty());
        let failure = span.failure.as_deref().filter(|message| !is_said(message)).map(failed);
        let outlasts = self.outlasts(node).map(|nanos| format!("ends {} after its parent", duration(nanos)));
        let times = [self.moved(row), outlasts].into_iter().flatten().collect();
        let link = span.link.as_deref().filter(|link| !(link.is_own && span.parent == 0));
        Remarks { failure, times, link }
    }

    /// The time from the end of a span's parent to its own end, if it ends later and no heading says so.
    fn outlasts(&self, node: &Node) -> Option<u64> {
        let (_, parent) = self.at(node.parent?);
        let is_said = node.is_detached && !parent.is_after;
        node.end.checked_sub(parent.end).filter(|nanos| *nanos > 0 && !is_said)
    }

    /// A remark about the clocks of a row's spans.
    fn moved(&self, row: &Row) -> Option<String> {
        let moved = || row.spans.iter().map(|at| self.at(*at).1.moved).filter(|moved| *moved != 0);
        let most = moved().max_by_key(|moved| moved.unsigned_abs())?;
        let by = format!("{}{}", if most > 0 { '+' } else { '-' }, duration(most.unsigned_abs()));
        Some(match (moved().count(), row.spans.len()) {
            (_, 1) => format!("shifted by {by} into its parent: clocks differ"),
            (count, _) => format!("{count} shifted by up to {by} into their parents: clocks differ"),
        })
    }
}
