//! A request as a tree of spans: the parent of each span, its own time, what the client waited for (`path`), and the
//! rows that show it (`rows`). `docs/tree.md` describes it.
//!
//! Spans come from clients: parents may be missing, duplicate or in a cycle, and times may have any value. Every step
//! is a loop over a list without recursion, O(n log n) in the number of spans.

#![expect(clippy::indexing_slicing, reason = "every index is made here and below the number of spans")]

mod path;
mod rows;

use crate::order::Ordered;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use smallvec::SmallVec;

use super::call::Call;

pub(crate) const SERVER: i32 = 2;
pub(crate) const CLIENT: i32 = 3;
pub(crate) const PRODUCER: i32 = 4;
pub(crate) const CONSUMER: i32 = 5;

/// A span is still waited for if it ends this long after its parent: clocks may count milliseconds.
const SLACK: u64 = 1_000_000;

/// The fields of a span that the tree needs. Texts are safe to print. An id is 0 if it is unset; times are nanoseconds
/// since 1970.
#[derive(Clone, Debug)]
pub struct Span {
    pub id: u64,
    pub parent: u64,
    pub start: u64,
    pub end: u64,
    /// The number in OTLP.
    pub kind: i32,
    pub service: Arc<str>,
    pub name: Box<str>,
    pub call: Option<Box<Call>>,
    pub link: Option<Box<Link>>,
    /// The error message if it failed; may be empty.
    pub failure: Option<Box<str>>,
    /// It has a log of severity WARN or above, so it needs a row of its own.
    pub notable: bool,
    /// It answers a health check.
    pub is_probe: bool,
}

/// The span that another one is linked to: the first, if there are several.
#[derive(Clone, Debug)]
pub struct Link {
    pub(crate) trace: [u8; 16],
    pub(crate) span: u64,
    /// Whether it is a span of the same trace.
    pub(crate) is_own: bool,
    /// The number of further links.
    pub(crate) more: usize,
}

/// A span's place and times in the tree.
#[derive(Clone, Debug, Default)]
pub struct Node {
    pub parent: Option<usize>,
    /// Sorted by start.
    pub children: Vec<usize>,
    /// Its times by the root's clock.
    pub start: u64,
    pub end: u64,
    /// The nanoseconds by which it and its descendants were shifted, in addition to the shift of its parent.
    pub(crate) moved: i64,
    /// Its parent is the span that it is linked to.
    is_linked: bool,
    /// Its parent did not wait for it: it outlasts its parent, or a message or a link started it.
    pub is_detached: bool,
    /// It or a span above it is detached.
    pub is_after: bool,
    /// The time during which none of the children ran that it waits for.
    pub own: u64,
    /// The time of its own on the critical path: of the request, or of the detached span that it belongs to.
    pub path: u64,
    /// Where in [`Tree::waits`] this time is.
    waits: Range<usize>,
    /// The sum of `path` over it and the descendants that it waits for.
    pub(crate) path_below: u64,
    /// The work that it is a part of.
    pub work: usize,
    /// Neither it nor a descendant needs a row of its own.
    foldable: bool,
}

impl Node {
    pub fn duration(&self) -> u64 {
        self.end - self.start
    }
}

/// The same work: siblings with the same name, service, target and outcome, and the same below each of them.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// The earliest of its spans.
    pub first: usize,
    pub spans: usize,
    /// The sum of their time on the critical path.
    pub path: u64,
}

/// One line of the drawing: spans, or the heading above detached spans.
#[derive(Clone, Debug)]
pub struct Row {
    /// At least one; several if they are the same work.
    pub spans: SmallVec<[usize; 1]>,
    pub is_heading: bool,
    pub(crate) depth: usize,
    /// Whether it is the last of its siblings.
    pub(crate) last: bool,
    /// The time during which any of its spans ran.
    pub(crate) total: u64,
    pub(crate) own: u64,
    /// The part of the critical path that is their own.
    pub path: u64,
}

impl Row {
    /// The earliest of its spans.
    pub fn first(&self) -> usize {
        self.spans[0]
    }
}

#[derive(Debug, Default)]
pub struct Tree<'a> {
    pub(crate) spans: &'a [Span],
    /// One for each span, in the same order.
    pub nodes: Vec<Node>,
    /// Sorted by start.
    roots: Vec<usize>,
    /// The pieces of the critical paths: when they began and ended, those of one span together.
    waits: Vec<(u64, u64)>,
    /// The root whose duration is 100 %.
    pub main: usize,
    /// The latest end below the main root.
    pub(crate) end: u64,
    /// Every span once: each after its parent, siblings sorted by start.
    pub order: Vec<usize>,
    pub rows: Vec<Row>,
    pub works: Vec<Work>,
    /// The work that the client waited for longest, if there are several spans.
    pub bottleneck: Option<usize>,
    /// The longest work of detached spans.
    pub after: Option<usize>,
    /// The number of spans whose parent has not arrived.
    pub(crate) orphans: usize,
}

impl<'a> Tree<'a> {
    /// With `folds`, siblings that are the same work share a row.
    pub fn build(spans: &'a [Span], folds: bool) -> Tree<'a> {
        let mut tree = Tree { spans, nodes: vec![Node::default(); spans.len()], ..Tree::default() };
        if spans.is_empty() {
            return tree;
        }
        tree.link(spans);
        tree.place(spans);
        tree.sum_up(spans);
        tree.find_path();
        tree.find_works();
        tree.lay_out(folds);
        tree
    }

    /// A span and its node.
    pub fn at(&self, at: usize) -> (&'a Span, &Node) {
        (&self.spans[at], &self.nodes[at])
    }

    /// When a span's own time was on the critical path, the latest first.
    pub(crate) fn waits(&self, at: usize) -> &[(u64, u64)] {
        self.waits.get(self.nodes[at].waits.clone()).unwrap_or_default()
    }

    /// Finds parents. If spans share an id, the first becomes the parent. A span without a parent stands below the span
    /// of this trace that it is linked to. A cycle is cut at its earliest span.
    fn link(&mut self, spans: &[Span]) {
        let mut index = HashMap::with_capacity(spans.len());
        for (at, span) in spans.iter().enumerate() {
            index.entry(span.id).or_insert(at);
        }
        for (at, span) in spans.iter().enumerate() {
            let link = span.link.as_ref().filter(|link| link.is_own && span.parent == 0);
            let parent = index.get(&link.map_or(span.parent, |link| link.span)).copied();
            self.orphans += usize::from(parent.is_none() && span.parent != 0);
            self.nodes[at].parent = parent.filter(|parent| *parent != at && (span.parent != 0 || link.is_some()));
            self.nodes[at].is_linked = link.is_some();
        }
        // The walk that first met each span. A walk that meets its own trail has found a cycle.
        let mut met = vec![0; spans.len()];
        for start in 0..spans.len() {
            let mut at = Some(start);
            while let Some(here) = at.filter(|here| met[*here] == 0) {
                met[here] = start + 1;
                at = self.nodes[here].parent;
            }
            let Some(entry) = at.filter(|here| met[*here] == start + 1) else { continue };
            let (mut earliest, mut here) = (entry, self.nodes[entry].parent);
            while let Some(next) = here.filter(|next| *next != entry) {
                earliest = if spans[next].start < spans[earliest].start { next } else { earliest };
                here = self.nodes[next].parent;
            }
            self.nodes[earliest].parent = None;
        }
        for at in 0..spans.len() {
            match self.nodes[at].parent {
                Some(parent) => self.nodes[parent].children.push(at),
                None => self.roots.push(at),
            }
        }
        self.roots.order_by_key(|at| spans[*at].start);
        let worth = |at: &usize| (spans[*at].parent == 0, spans[*at].end.saturating_sub(spans[*at].start));
        self.main = self.roots.iter().rev().copied().max_by_key(worth).unwrap_or_default();
    }

    /// Shifts spans whose clocks differ from their parents', from the roots down, and sorts siblings.
    fn place(&mut self, spans: &[Span]) {
        let mut stack: Vec<(usize, i64)> = self.roots.iter().rev().map(|root| (*root, 0)).collect();
        while let Some((at, offset)) = stack.pop() {
            self.order.push(at);
            let (span, parent) = (&spans[at], self.nodes[at].parent);
            let (start, end) = times(span, offset);
            let moved = parent.map_or(0, |parent| {
                let is_call = spans[parent].kind == CLIENT && span.kind == SERVER;
                let Node { start: parent_start, end: parent_end, .. } = self.nodes[parent];
                skew((parent_start, parent_end), (start, end), is_call)
            });
            let (start, end) = (start.saturating_add_signed(moved), end.saturating_add_signed(moved));
            let above = parent.map(|parent| (&spans[parent], &self.nodes[parent]));
            let is_linked = self.nodes[at].is_linked;
            let is_detached =
                above.is_some_and(|(above, node)| is_linked || is_detached(above, node.end, span, (start, end)));
            let is_after = is_detached || above.is_some_and(|(_, node)| node.is_after);
            let node = &mut self.nodes[at];
            (node.start, node.end, node.moved) = (start, end, moved);
            (node.is_detached, node.is_after) = (is_detached, is_after);
            let offset = offset.saturating_add(moved);
            let mut children = std::mem::take(&mut node.children);
            let (begin, finish) = (node.start, node.end);
            // Sort by the start that each will have once it is placed.
            children.order_by_key(|child| {
                let is_call = span.kind == CLIENT && spans[*child].kind == SERVER;
                let times = times(&spans[*child], offset);
                (times.0.saturating_add_signed(skew((begin, finish), times, is_call)), *child)
            });
            stack.extend(children.iter().rev().map(|child| (*child, offset)));
            self.nodes[at].children = children;
        }
    }

    /// Computes the values that depend on children, from the leaves up.
    fn sum_up(&mut self, spans: &[Span]) {
        for at in self.order.iter().rev().copied() {
            let node = &self.nodes[at];
            let children = || node.children.iter().map(|child| &self.nodes[*child]);
            let own = node.duration() - covered(children().filter(|child| !child.is_detached), node.start, node.end);
            let foldable = children().all(|child| child.foldable) && !spans[at].notable;
            (self.nodes[at].own, self.nodes[at].foldable) = (own, foldable);
        }
    }
}

/// A span's start and end by a clock that differs by `offset`. A span that ends before it starts has no duration.
fn times(span: &Span, offset: i64) -> (u64, u64) {
    let start = span.start.saturating_add_signed(offset);
    (start, start.saturating_add(span.end.saturating_sub(span.start)))
}

/// The shift after which a child does not begin before its parent and, if it is the server of a call and short enough,
/// does not end after it.
fn skew(parent: (u64, u64), child: (u64, u64), is_call: bool) -> i64 {
    let fits = child.1 - child.0 <= parent.1.saturating_sub(parent.0);
    let signed = |to: u64, from: u64| i64::try_from(i128::from(to) - i128::from(from)).unwrap_or_default();
    if child.0 < parent.0 {
        signed(parent.0, child.0)
    } else if child.1 > parent.1 && is_call && fits {
        signed(parent.1, child.1)
    } else {
        0
    }
}

/// Whether a parent did not wait for a child: a message started the child, or it goes on after its parent has ended. A
/// client may give up on a server that goes on: it waited for as long as it lasted.
fn is_detached(parent: &Span, parent_end: u64, child: &Span, (start, end): (u64, u64)) -> bool {
    let is_call = parent.kind == CLIENT && child.kind == SERVER;
    let is_message = parent.kind == PRODUCER && (child.kind == SERVER || child.service != parent.service);
    let is_later = start >= parent_end && end > parent_end;
    let is_longer = !is_call && end > parent_end.saturating_add(SLACK);
    child.kind == CONSUMER || is_message || is_later || is_longer
}

/// The time between `low` and `high` during which any of the spans runs; they are sorted by start.
fn covered<'a>(spans: impl Iterator<Item = &'a Node>, low: u64, high: u64) -> u64 {
    let (mut sum, mut until) = (0, low);
    for span in spans {
        let (start, end) = (span.start.max(until), span.end.min(high));
        if start < end {
            sum += end - start;
            until = end;
        }
    }
    sum
}
