//! A request as a tree of spans: the parent of each span, its own time, its share of the critical path, and the rows
//! that show them. `docs/tree.md` describes it.
//!
//! Spans come from clients: parents may be missing, duplicate or in a cycle, and times may have any value. Every step
//! is a loop over a list without recursion, O(n log n) in the number of spans.

#![expect(clippy::indexing_slicing, reason = "every index is made here and below the number of spans")]

use std::collections::HashMap;
use std::sync::Arc;

/// The minimum number of similar siblings that one row shows.
const FOLD: usize = 3;

const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const CONSUMER: i32 = 5;

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
    /// The error message if it failed; may be empty.
    pub failure: Option<Box<str>>,
    /// It has a log of severity WARN or above, so it needs a row of its own.
    pub notable: bool,
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
    /// Its end; or the latest end below it, if more than half of that time comes after its own end.
    pub reach: u64,
    /// The nanoseconds by which it and its descendants were shifted, in addition to the shift of its parent.
    pub moved: i64,
    /// The time during which none of its children ran.
    pub own: u64,
    /// The time during which the request waited for it and for none of its children.
    pub path: u64,
    /// The sum of `path` over it and its descendants.
    pub path_below: u64,
    /// The number of its descendants.
    pub below: usize,
    /// Neither it nor a descendant needs a row of its own.
    foldable: bool,
}

impl Node {
    pub fn duration(&self) -> u64 {
        self.end - self.start
    }

    /// The duration up to `reach`.
    pub fn extent(&self) -> u64 {
        self.reach - self.start
    }
}

/// One line of the drawing: a span, or several similar siblings.
#[derive(Clone, Debug)]
pub struct Row {
    /// The span, or the first of several.
    pub span: usize,
    /// All spans if there are several, else empty.
    pub folded: Vec<usize>,
    pub depth: usize,
    /// Whether it is the last of its siblings.
    pub last: bool,
    /// The time during which any of its spans ran.
    pub total: u64,
    pub own: u64,
    /// The time during which the request waited for this row.
    pub path: u64,
}

#[derive(Debug, Default)]
pub struct Tree<'a> {
    pub spans: &'a [Span],
    /// One for each span, in the same order.
    pub nodes: Vec<Node>,
    /// Sorted by start.
    pub roots: Vec<usize>,
    /// The root whose duration is 100 %.
    pub main: usize,
    /// Every span once: each after its parent, siblings sorted by start.
    pub order: Vec<usize>,
    pub rows: Vec<Row>,
    /// The row that the request waited for longest, if there are several rows.
    pub bottleneck: Option<usize>,
    /// The number of spans whose parent has not arrived.
    pub orphans: usize,
}

impl<'a> Tree<'a> {
    pub fn build(spans: &'a [Span]) -> Tree<'a> {
        let mut tree = Tree { spans, nodes: vec![Node::default(); spans.len()], ..Tree::default() };
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

    /// A span and its node.
    pub fn at(&self, at: usize) -> (&'a Span, &Node) {
        (&self.spans[at], &self.nodes[at])
    }

    /// Finds parents. If spans share an id, the first becomes the parent. A cycle is cut at its earliest span.
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
        self.roots.sort_by_key(|at| spans[*at].start);
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
            let node = &mut self.nodes[at];
            (node.start, node.end) = (start.saturating_add_signed(moved), end.saturating_add_signed(moved));
            node.moved = moved;
            let offset = offset.saturating_add(moved);
            let mut children = std::mem::take(&mut node.children);
            let (begin, finish) = (node.start, node.end);
            // Sort by the start that each will have once it is placed.
            children.sort_by_cached_key(|child| {
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

    /// Finds the critical path of the main root: backwards from its end, the child that ran last, and that child's own
    /// critical path.
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
            // Of the children that still ran at the cursor, the one that began first.
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

    /// Makes the rows. Similar siblings share one if none of them needs a row of its own.
    fn lay_out(&mut self, spans: &[Span]) {
        let single = |at: usize, depth, last| {
            let node = &self.nodes[at];
            Row { span: at, folded: Vec::new(), depth, last, total: node.duration(), own: node.own, path: node.path }
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
                    // The row of the first sibling shows it.
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
            let rows = &mut stack[first_row..];
            rows.last_mut().into_iter().for_each(|last| last.last = true);
            rows.reverse();
            self.rows.push(row);
        }
        let longest = self.rows.iter().enumerate().rev().max_by_key(|(_, row)| row.path);
        self.bottleneck = longest.filter(|(_, row)| self.rows.len() > 1 && row.path > 0).map(|(at, _)| at);
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
