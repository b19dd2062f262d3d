//! A request as a tree: whose child each span is, how long it worked itself, what the request waited for, and which
//! rows show all that. `docs/tree.md` describes it.
//!
//! Spans are whatever arrived: parents may be missing, in a circle or given twice, times may be anything. Every step is
//! a loop over a list, O(n log n) in the number of spans; nothing calls itself.

#![expect(clippy::indexing_slicing, reason = "every index is made here and below the number of spans")]

use std::collections::HashMap;
use std::sync::Arc;

/// So many siblings alike become one row.
const FOLD: usize = 3;

const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const CONSUMER: i32 = 5;

/// A span as far as the tree looks at it. Its texts are safe to print. An id is 0 when there is none; times are
/// nanoseconds since 1970.
#[derive(Clone, Debug)]
pub struct Span {
    pub id: u64,
    pub parent: u64,
    pub start: u64,
    pub end: u64,
    /// OTLP's number.
    pub kind: i32,
    pub service: Arc<str>,
    pub name: Box<str>,
    /// What went wrong, if it failed; may be empty.
    pub failure: Option<Box<str>>,
    /// It wrote a log that must be seen, so it gets a row of its own.
    pub notable: bool,
}

/// What the tree knows about a span.
#[derive(Clone, Debug, Default)]
pub struct Node {
    pub parent: Option<usize>,
    /// In the order of their starts.
    pub children: Vec<usize>,
    /// When it ran, by its root's clock.
    pub start: u64,
    pub end: u64,
    /// Its end, or that of what went on below it if it ended before half of that.
    pub reach: u64,
    /// How far it and all below it were moved, in nanoseconds, beyond what its parent was.
    pub moved: i64,
    /// How long none of its children ran.
    pub own: u64,
    /// How long the request waited for it and for none of its children.
    pub path: u64,
    /// The same, of all below it too.
    pub path_below: u64,
    /// How many spans are below it.
    pub below: usize,
    /// Nothing in it or below it needs a row of its own.
    foldable: bool,
}

impl Node {
    pub fn duration(&self) -> u64 {
        self.end - self.start
    }

    /// How long it and what it started took.
    pub fn extent(&self) -> u64 {
        self.reach - self.start
    }
}

/// One line: a span, or siblings alike.
#[derive(Clone, Debug)]
pub struct Row {
    /// The span, or the first of them.
    pub span: usize,
    /// All of them, when they are several.
    pub folded: Vec<usize>,
    pub depth: usize,
    /// No sibling follows.
    pub last: bool,
    /// How long it ran, or any of them.
    pub total: u64,
    pub own: u64,
    /// How long the request waited for what this row shows.
    pub path: u64,
}

#[derive(Debug, Default)]
pub struct Tree {
    /// One a span, in the order of the spans.
    pub nodes: Vec<Node>,
    /// In the order of their starts.
    pub roots: Vec<usize>,
    /// The root that shares are of.
    pub main: usize,
    /// Every span once, each after its parent, siblings in the order of their starts.
    pub order: Vec<usize>,
    pub rows: Vec<Row>,
    /// The row that the request waited for longest, if there are several.
    pub bottleneck: Option<usize>,
    /// Spans that name a parent that is not there.
    pub orphans: usize,
}

impl Tree {
    pub fn build(spans: &[Span]) -> Tree {
        let mut tree = Tree { nodes: vec![Node::default(); spans.len()], ..Tree::default() };
        if spans.is_empty() {
            return tree;
        }
        tree.link(spans);
        tree.place(spans);
        tree.sum_up(spans);
        tree.find_path();
        tree.lay_out(spans);
        tree
    }

    /// Finds parents. Of spans with one id the first is the parent of their children; a circle is opened at its earliest.
    fn link(&mut self, spans: &[Span]) {
        let mut index = HashMap::with_capacity(spans.len());
        for (at, span) in spans.iter().enumerate() {
            index.entry(span.id).or_insert(at);
        }
        for (at, span) in spans.iter().enumerate().filter(|(_, span)| span.parent != 0) {
            let parent = index.get(&span.parent).copied();
            self.orphans += usize::from(parent.is_none());
            self.nodes[at].parent = parent.filter(|parent| *parent != at);
        }
        // The walk that a span was first met on; the one that meets its own trail has found a circle.
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
        self.roots.sort_by_key(|at| spans[*at].start);
        let worth = |at: &usize| (spans[*at].parent == 0, spans[*at].end.saturating_sub(spans[*at].start));
        self.main = self.roots.iter().rev().copied().max_by_key(worth).unwrap_or_default();
    }

    /// Moves what clocks tore apart, parents first, and sorts siblings.
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
            let node = &mut self.nodes[at];
            (node.start, node.end) = (start.saturating_add_signed(moved), end.saturating_add_signed(moved));
            node.moved = moved;
            let offset = offset.saturating_add(moved);
            let mut children = std::mem::take(&mut node.children);
            let (begin, finish) = (node.start, node.end);
            // Where each will be, so that they are sorted before they are placed.
            children.sort_by_cached_key(|child| {
                let is_call = span.kind == CLIENT && spans[*child].kind == SERVER;
                let times = times(&spans[*child], offset);
                (times.0.saturating_add_signed(skew((begin, finish), times, is_call)), *child)
            });
            stack.extend(children.iter().rev().map(|child| (*child, offset)));
            self.nodes[at].children = children;
        }
    }

    /// What follows from the children, children first.
    fn sum_up(&mut self, spans: &[Span]) {
        for at in self.order.iter().rev().copied() {
            let node = &self.nodes[at];
            let covered = covered(node.children.iter().map(|child| &self.nodes[*child]), node.start, node.end);
            let below = node.children.iter().map(|child| self.nodes[*child].below + 1).sum();
            let children_fold = node.children.iter().all(|child| self.nodes[*child].foldable);
            let children = node.children.iter().filter(|child| spans[**child].kind != CONSUMER);
            let latest = children.map(|child| self.nodes[*child].reach).max().unwrap_or_default();
            let node = &mut self.nodes[at];
            let was_left = node.duration() < latest.saturating_sub(node.start) / 2;
            node.reach = if was_left { latest } else { node.end };
            node.own = node.duration() - covered;
            node.below = below;
            node.foldable = children_fold && spans[at].failure.is_none() && !spans[at].notable && node.moved == 0;
        }
    }

    /// What the main root waited for: from its end backwards, the child that ran last, and what that child waited for.
    fn find_path(&mut self) {
        let main = &self.nodes[self.main];
        let mut stack = vec![(self.main, main.start, main.reach)];
        while let Some((at, low, high)) = stack.pop() {
            let end = self.nodes[at].end;
            let mut children: Vec<(u64, u64, usize)> = Vec::new();
            for child in &self.nodes[at].children {
                let node = &self.nodes[*child];
                children.push((node.start.clamp(low, high), node.reach.clamp(low, high), *child));
            }
            children.retain(|(start, end, _)| start < end);
            children.sort_unstable_by_key(|(_, end, _)| *end);
            let (mut cursor, mut own) = (high, 0);
            // The one that began first, of those that still ran at the cursor.
            let mut running: Option<(u64, usize)> = None;
            loop {
                while let Some((start, _, child)) = children.pop_if(|(_, end, _)| *end >= cursor) {
                    running = Some(running.map_or((start, child), |first| first.min((start, child))));
                }
                match running.take() {
                    Some((start, child)) if start < cursor => {
                        stack.push((child, start, cursor));
                        cursor = start;
                    }
                    _ => {
                        let next = children.last().map_or(low, |(_, end, _)| *end);
                        own += cursor.min(end).saturating_sub(next);
                        cursor = next;
                        if children.is_empty() {
                            break;
                        }
                    }
                }
            }
            self.nodes[at].path = own;
        }
        for at in self.order.iter().rev().copied() {
            self.nodes[at].path_below += self.nodes[at].path;
            if let Some(parent) = self.nodes[at].parent {
                self.nodes[parent].path_below += self.nodes[at].path_below;
            }
        }
    }

    /// The rows: siblings alike become one where that hides nothing that must be seen.
    fn lay_out(&mut self, spans: &[Span]) {
        let single = |at: usize, depth, last| {
            let node = &self.nodes[at];
            let (total, own, path) = (node.duration(), node.own, node.path);
            Row { span: at, folded: Vec::new(), depth, last, total, own, path }
        };
        let mut stack: Vec<Row> = self.roots.iter().rev().map(|root| single(*root, 0, true)).collect();
        while let Some(row) = stack.pop() {
            let children = if row.folded.is_empty() { &self.nodes[row.span].children[..] } else { &[] };
            let mut alike: HashMap<(&str, &str), Vec<usize>> = HashMap::new();
            if children.len() >= FOLD {
                for child in children.iter().filter(|child| self.nodes[**child].foldable) {
                    alike.entry((&spans[*child].service, &spans[*child].name)).or_default().push(*child);
                }
            }
            let first_row = stack.len();
            let depth = row.depth + 1;
            for child in children {
                let key = (&*spans[*child].service, &*spans[*child].name);
                match alike.get_mut(&key).filter(|alike| self.nodes[*child].foldable && alike.len() != 1) {
                    // Gone into the row of the first.
                    Some(folded) if folded.is_empty() => {}
                    Some(folded) if folded.len() >= FOLD => {
                        let folded = std::mem::take(folded);
                        let nodes = || folded.iter().map(|at| &self.nodes[*at]);
                        let total = covered(nodes(), 0, u64::MAX);
                        let own = nodes().fold(0u64, |sum, node| sum.saturating_add(node.own)).min(total);
                        let path = nodes().map(|node| node.path_below).sum();
                        stack.push(Row { span: *child, folded, depth, last: false, total, own, path });
                    }
                    _ => stack.push(single(*child, depth, false)),
                }
            }
            if let Some(last) = stack.get_mut(first_row..).and_then(|rows| rows.last_mut()) {
                last.last = true;
            }
            if let Some(rows) = stack.get_mut(first_row..) {
                rows.reverse();
            }
            self.rows.push(row);
        }
        let longest = self.rows.iter().enumerate().rev().max_by_key(|(_, row)| row.path);
        self.bottleneck = longest.filter(|(_, row)| self.rows.len() > 1 && row.path > 0).map(|(at, _)| at);
    }
}

/// When a span ran, by the clock that is so far off its own; one that ends before it starts takes no time.
fn times(span: &Span, offset: i64) -> (u64, u64) {
    let start = span.start.saturating_add_signed(offset);
    (start, start.saturating_add(span.end.saturating_sub(span.start)))
}

/// How far a child must be moved so that it does not begin before its parent, nor, if it is the other end of a call,
/// end after it although it would fit.
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

/// How much of a time is covered by spans that are sorted by their starts.
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
