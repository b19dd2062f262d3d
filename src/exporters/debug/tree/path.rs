//! The critical path: at each moment of the request, the span that the client waited for.
//!
//! It lies within the request's own time. A detached span is not part of it, and has a path of its own.

use super::Tree;
use crate::order::Ordered;

impl Tree<'_> {
    /// Finds the path of the main root, and of each detached span below it: backwards from its end, of the children
    /// that still ran the one that began first, and within that child's time the same.
    pub(super) fn find_path(&mut self) {
        let mut is_below = vec![false; self.nodes.len()];
        let mut stack = Vec::new();
        for at in self.order.iter().copied() {
            let node = &self.nodes[at];
            is_below[at] = at == self.main || node.parent.is_some_and(|parent| is_below[parent]);
            if is_below[at] {
                self.end = self.end.max(node.end);
            }
            if at == self.main || is_below[at] && node.is_detached {
                stack.push((at, node.start, node.end));
            }
        }
        while let Some((at, low, high)) = stack.pop() {
            let mut children: Vec<(u64, u64, usize)> = Vec::new();
            for child in &self.nodes[at].children {
                let node = &self.nodes[*child];
                let (start, end) = (node.start.clamp(low, high), node.end.clamp(low, high));
                if start < end && !node.is_detached {
                    children.push((start, end, *child));
                }
            }
            children.order_by_key(|(_, end, _)| *end);
            let (mut cursor, first) = (high, self.waits.len());
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
                        if next < cursor {
                            self.waits.push((next, cursor));
                        }
                        cursor = next;
                        if children.is_empty() {
                            break;
                        }
                    }
                }
            }
            self.nodes[at].waits = first..self.waits.len();
            self.nodes[at].path = self.waits(at).iter().map(|(start, end)| end - start).sum();
        }
        for at in self.order.iter().rev().copied() {
            self.nodes[at].path_below = self.nodes[at].path_below.saturating_add(self.nodes[at].path);
            let parent = self.nodes[at].parent.filter(|_| !self.nodes[at].is_detached);
            if let Some(parent) = parent {
                let below = self.nodes[at].path_below;
                self.nodes[parent].path_below = self.nodes[parent].path_below.saturating_add(below);
            }
        }
    }
}
