//! Which items each condition removes, for viewers. One walk decides as the filter does; then one for each condition that
//! removes something picks its items by these decisions.

use super::{Filter, Sieve};
use crate::otlp::rewrite::{self, Depth, Sight, Verdict, Visitor};
use crate::ottl::value::{Arena, Fault};
use crate::processors::edit::Request;
use crate::telemetry::{Removed, Rules, Shown, Signal};

impl Rules for Filter {
    fn removed(&self, request: &Shown<'_>) -> Vec<Removed> {
        let Shown { signal, bytes, items, client, now } = *request;
        // Span events are not items: a rule about them removes none.
        let depths = self.conditions.iter().map(|conditions| conditions.depth);
        let depth = depths.filter(|depth| signal != Signal::Traces || *depth <= Depth::Records).max();
        let Some(depth) = depth.filter(|_| !self.observe) else { return Vec::new() };
        let arena = Arena::with_limit((64 << 10) + 4 * bytes.len());
        let request = Request { signal, bytes, items, client, arena: &arena };
        let mut counts = vec![[0; 3]; self.counters.len()];
        let sieve = Sieve { filter: self, request, now, depth, matched: None, counts: &mut counts };
        let mut deciding = Deciding { sieve, decisions: Vec::new() };
        if request.rewrite(&mut deciding).is_err() {
            return Vec::new();
        }
        let decisions = deciding.decisions;
        let by_rule = |(rule, text): (usize, &str)| {
            let mut by_rule = RemovedBy { rule, depth, decisions: decisions.iter(), inside: None };
            let (bytes, items) = rewrite::kept(signal, bytes, items, arena.room(), &mut by_rule)?;
            Some(Removed { rule: text.to_owned(), bytes, items }).filter(|removed| removed.items > 0)
        };
        let rules = self.texts().enumerate();
        let removes = |(rule, _): &(usize, &str)| counts.get(*rule).is_some_and(|[_, items, _]| *items > 0);
        rules.filter(removes).filter_map(by_rule).collect()
    }
}

/// Notes which rule drops each message that is visited, if any does.
struct Deciding<'f, 'a> {
    sieve: Sieve<'f, 'a>,
    decisions: Vec<Option<usize>>,
}

impl<'a> Visitor<'a> for Deciding<'_, 'a> {
    type Fault = Fault;

    fn depth(&self) -> Depth {
        self.sieve.depth
    }

    fn prunes(&self) -> bool {
        true
    }

    fn visit(&mut self, depth: Depth, sight: &mut Sight<'a>) -> Result<Verdict, Fault> {
        let found = self.sieve.first_true(depth, sight)?;
        self.decisions.push(found);
        let Some(rule) = found else { return Ok(Verdict::Keep) };
        let size = rewrite::size(self.sieve.filter.signal, depth, sight);
        Ok(self.sieve.matched(depth, rule, size))
    }
}

/// Keeps what one rule drops, and only that.
struct RemovedBy<'d> {
    rule: usize,
    depth: Depth,
    /// For the messages to come.
    decisions: std::slice::Iter<'d, Option<usize>>,
    /// How deep the container is that the rule drops, while the walk is in it.
    inside: Option<Depth>,
}

impl<'a> Visitor<'a> for RemovedBy<'_> {
    type Fault = Fault;

    fn depth(&self) -> Depth {
        self.depth
    }

    fn prunes(&self) -> bool {
        true
    }

    fn visit(&mut self, depth: Depth, _: &mut Sight<'a>) -> Result<Verdict, Fault> {
        if self.inside.is_some_and(|inside| depth <= inside) {
            self.inside = None;
        }
        // What is in a dropped container was not visited.
        if self.inside.is_some() {
            return Ok(Verdict::Keep);
        }
        let found = self.decisions.next().copied().flatten();
        self.inside = Some(depth).filter(|_| found == Some(self.rule));
        let is_kept = self.inside.is_some() || found.is_none() && depth < self.depth;
        Ok(if is_kept { Verdict::Keep } else { Verdict::Drop })
    }
}
