//! The rows: siblings that are the same work share one, and detached spans stand below a heading.

use std::borrow::Cow;
use std::collections::HashMap;

use super::{CLIENT, Row, SERVER, Span, Tree, Work, covered};
use crate::exporters::debug::call::Call;
use crate::order::Ordered;

/// The minimum number of siblings that share a row.
const FOLD: usize = 3;

/// Siblings with equal values are the same work.
#[derive(PartialEq, Eq, Hash)]
struct Alike<'a> {
    service: &'a str,
    name: &'a str,
    /// The service and the name of the server that answered; else the host and the path.
    target: (&'a str, Cow<'a, str>),
    answer: &'a str,
    failure: Option<&'a str>,
    is_detached: bool,
}

impl<'a> Tree<'a> {
    /// The span of the server that answers a client's call, if it is here.
    pub(crate) fn peer(&self, at: usize) -> Option<&'a Span> {
        let spans = self.spans;
        let (span, node) = (&spans[at], &self.nodes[at]);
        let mut children = node.children.iter().map(|child| &spans[*child]);
        children.find(|child| span.kind == CLIENT && child.kind == SERVER && &*child.service != "-")
    }

    fn alike(&self, at: usize) -> Alike<'a> {
        let span = &self.spans[at];
        let call = span.call.as_deref();
        let target = match (self.peer(at), call) {
            (Some(peer), _) => (&*peer.service, Cow::Borrowed(&*peer.name)),
            (None, Some(call)) => (&*call.host, call.template()),
            (None, None) => Default::default(),
        };
        Alike {
            service: &span.service,
            name: &span.name,
            target,
            answer: call.map(Call::class).unwrap_or_default(),
            failure: span.failure.as_deref(),
            is_detached: self.nodes[at].is_detached,
        }
    }

    /// Finds the works, and the one that the client waited for longest.
    pub(super) fn find_works(&mut self) {
        let mut known: HashMap<(usize, Alike), usize> = HashMap::new();
        for index in 0..self.order.len() {
            let at = self.order[index];
            let next = self.works.len();
            let work = match self.nodes[at].parent {
                Some(parent) => *known.entry((self.nodes[parent].work, self.alike(at))).or_insert(next),
                None => next,
            };
            if work == next {
                self.works.push(Work { first: at, spans: 0, path: 0 });
            }
            self.works[work].spans += 1;
            self.works[work].path = self.works[work].path.saturating_add(self.nodes[at].path);
            self.nodes[at].work = work;
        }
        let longest = |is_after: bool| {
            let works = self.works.iter().enumerate().rev();
            let works = works.filter(|(_, work)| work.path > 0 && self.nodes[work.first].is_after == is_after);
            works.max_by_key(|(_, work)| work.path).map(|(index, _)| index)
        };
        let (bottleneck, after) = (longest(false), longest(true));
        self.bottleneck = bottleneck.filter(|_| self.spans.len() > 1);
        self.after = after;
    }

    pub(super) fn lay_out(&mut self, folds: bool) {
        let mut stack: Vec<Row> = self.roots.iter().rev().map(|root| self.row(&[*root], 0)).collect();
        while let Some(row) = stack.pop() {
            let first_row = stack.len();
            self.put_below(&row, folds, &mut stack);
            let rows = &mut stack[first_row..];
            rows.last_mut().into_iter().for_each(|last| last.last = true);
            rows.reverse();
            self.rows.push(row);
        }
    }

    /// Makes the rows directly below one.
    fn put_below(&self, row: &Row, folds: bool, rows: &mut Vec<Row>) {
        let depth = row.depth + 1;
        let mut children: Vec<usize> = match row.is_heading {
            true => row.spans.to_vec(),
            false => row.spans.iter().flat_map(|at| &self.nodes[*at].children).copied().collect(),
        };
        if row.spans.len() > 1 {
            children.order_by_key(|child| self.nodes[*child].start);
        }
        // Spans that were not waited for come last.
        let has_heading = !row.is_heading && !self.nodes[row.first()].is_after;
        let (later, now): (Vec<_>, Vec<_>) =
            children.into_iter().partition(|child| has_heading && self.nodes[*child].is_detached);
        // Below a folded row two are enough: the row has said how often it happens.
        let least = if row.spans.len() > 1 && !row.is_heading { 2 } else { FOLD };
        let mut alike: HashMap<usize, Vec<usize>> = HashMap::new();
        let is_foldable = |child: usize| folds && now.len() >= least && self.nodes[child].foldable;
        for child in now.iter().copied().filter(|child| is_foldable(*child)) {
            alike.entry(self.nodes[child].work).or_default().push(child);
        }
        for child in now.iter().copied() {
            let group = alike.get_mut(&self.nodes[child].work).filter(|_| is_foldable(child));
            match group {
                Some(group) if group.len() >= least => rows.push(self.row(&std::mem::take(group), depth)),
                // The row of the first sibling shows it.
                Some(group) if group.is_empty() => {}
                _ => rows.push(self.row(&[child], depth)),
            }
        }
        if !later.is_empty() {
            rows.push(Row { is_heading: true, total: 0, own: 0, path: 0, ..self.row(&later, depth) });
        }
    }

    fn row(&self, spans: &[usize], depth: usize) -> Row {
        let nodes = || spans.iter().map(|at| &self.nodes[*at]);
        let total = covered(nodes(), 0, u64::MAX);
        let own = nodes().fold(0u64, |sum, node| sum.saturating_add(node.own)).min(total);
        let path = nodes().fold(0u64, |sum, node| sum.saturating_add(node.path));
        Row { spans: spans.into(), is_heading: false, depth, last: depth == 0, total, own, path }
    }
}
