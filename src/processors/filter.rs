//! `filter`: drops items for which a condition is true, by OTTL in its new and its old keys, or by the older match
//! properties.
//!
//! All conditions are checked in one walk, outermost first, in the order of the file; the first that is true decides.
//! With `mode: observe` (ours) they are only counted. Every condition counts what it did.

mod expressions;
mod removed;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use smallvec::SmallVec;

use crate::config::section::Section;
use crate::config::{Place, Problem};
use crate::diagnostics::metrics::Page;
use crate::order::Ordered;
use crate::otlp::rewrite::{self, Depth, Sight, Verdict, Visitor};
use crate::otlp::schema::metric_data;
use crate::otlp::slice;
use crate::otlp::wire::{Fields, Value};
use crate::ottl::plain;
use crate::ottl::program::{ErrorMode, Group, Grouping, Text};
use crate::ottl::scene::Scene;
use crate::ottl::syntax::{Mistake, Syntax};
use crate::ottl::value::Fault;
use crate::ottl::{functions, level};
use crate::telemetry::{Now, Refusal, Rules, Signal, Telemetry};

use super::edit::{Request, edit};
use super::matching;
use super::{Dropped, Factory, Notes, Processor, count, note};

pub struct Config {
    observe: bool,
    signals: [Arc<Vec<Conditions>>; 3],
}

/// Conditions of one context, each with what it does in words.
struct Conditions {
    group: Group,
    depth: Depth,
    said: Vec<String>,
    /// Whether the one condition is asked of the data points of a metric, and the metric is dropped when it is true for any
    /// of them (`true`), or for none (`false`).
    of_points: Option<bool>,
}

/// The keys of one signal.
struct Keys {
    signal: Signal,
    inferred: &'static str,
    section: &'static str,
    /// The lists of the older style and their contexts, outermost first.
    lists: &'static [(&'static str, &'static str)],
    contexts: &'static [&'static str],
    matched_section: &'static str,
}

/// In the order of `Signal`.
const KEYS: [Keys; 3] = [
    Keys {
        signal: Signal::Logs,
        inferred: "log_conditions",
        section: "logs",
        lists: &[("resource", "resource"), ("log_record", "log")],
        contexts: &["log", "scope", "resource"],
        matched_section: "logs",
    },
    Keys {
        signal: Signal::Metrics,
        inferred: "metric_conditions",
        section: "metrics",
        lists: &[("resource", "resource"), ("metric", "metric"), ("datapoint", "datapoint")],
        contexts: &["datapoint", "metric", "scope", "resource"],
        matched_section: "metrics",
    },
    Keys {
        signal: Signal::Traces,
        inferred: "trace_conditions",
        section: "traces",
        lists: &[("resource", "resource"), ("span", "span"), ("spanevent", "spanevent")],
        contexts: &["spanevent", "span", "scope", "resource"],
        matched_section: "spans",
    },
];

/// The keys, from the outside inwards, under which a condition of a context is written.
pub(crate) fn keys(signal: Signal, context: &str, is_qualified: bool) -> Vec<&'static str> {
    let Some(keys) = KEYS.iter().find(|keys| keys.signal == signal) else { return Vec::new() };
    match keys.lists.iter().find(|(_, known)| *known == context) {
        Some((list, _)) if !is_qualified => vec![keys.section, list],
        _ => vec![keys.inferred],
    }
}

impl Config {
    pub fn decode(section: Section) -> Config {
        let error_mode = section.choice_in_any_case("error_mode", ErrorMode::Ignore, &ErrorMode::CHOICES);
        let observe = section.choice_in_any_case("mode", false, &[("drop", false), ("observe", true)]);
        section.unread(&["profiles", "profile_conditions"], "profiles");
        let signals = KEYS.each_ref().map(|keys| {
            let mut rules = keys.inferred(&section, error_mode);
            rules.extend(keys.older(&section, error_mode));
            // Outermost first: what a container drops is not looked into.
            rules.order_by_key(|rules| rules.depth);
            Arc::new(rules)
        });
        Config { observe, signals }
    }
}

impl Conditions {
    /// `keeps` of `not (…)` says what it keeps.
    fn of(group: Group, keeps: bool) -> Conditions {
        let (depth, items) = level(group.context);
        let said = group.conditions.iter().map(|rule| match &rule.syntax.syntax {
            Syntax::Not(inner) if keeps => format!("keeps only {}", plain::items(items, inner, &rule.text)),
            _ => format!("drops {}", plain::items(items, &rule.syntax, &rule.text)),
        });
        Conditions { said: said.collect(), group, depth, of_points: None }
    }
}

impl Keys {
    fn read(
        &self,
        section: &Section,
        key: &str,
        texts: Vec<(String, Place)>,
        context: &'static str,
        error_mode: ErrorMode,
    ) -> Option<Group> {
        let text = |(text, place)| Text { key, text, place, is_statement: false };
        let texts: Vec<Text> = texts.into_iter().map(text).collect();
        let group = Group::read(section, &texts, Some(context), self.contexts, functions::FILTER, error_mode);
        group.filter(|_| !texts.is_empty())
    }

    fn inferred(&self, section: &Section, error_mode: ErrorMode) -> Vec<Conditions> {
        let (key, contexts, functions) = (self.inferred, self.contexts, functions::FILTER);
        Grouping { key, contexts, functions, error_mode, has_statements: false }.read(
            section,
            |_| (),
            |group, ()| Conditions::of(group, false),
        )
    }

    /// `logs: {resource: […], log_record: […]}`, or `include` and `exclude`.
    fn older(&self, section: &Section, error_mode: ErrorMode) -> Vec<Conditions> {
        let lists_section = section.subsection(self.section);
        let lists =
            self.lists.iter().filter(|(key, _)| lists_section.has(key)).map(|(key, _)| *key).collect::<Vec<_>>();
        let mut rules: Vec<Conditions> = Vec::new();
        for (key, context) in self.lists {
            let texts = lists_section.items(key).unwrap_or_default();
            let group = self.read(&lists_section, key, texts, context, error_mode);
            rules.extend(group.map(|group| Conditions::of(group, false)));
        }
        let other = (self.matched_section != self.section).then(|| section.subsection(self.matched_section));
        let matched = other.as_ref().unwrap_or(&lists_section);
        lists_section.ignored(&["regexp"]);
        for (key, keeps) in [("include", true), ("exclude", false)] {
            let Some(properties) = matched.section(key) else { continue };
            let place = matched.place(key);
            if let Some(clash) = lists.first().filter(|_| !section.has(self.inferred)) {
                let message = format!(
                    "cannot use \"{}.{clash}\" and the settings \"{}.include\", \"{}.exclude\" at the same time",
                    self.section, self.matched_section, self.matched_section
                );
                matched.problem(key, message);
            }
            if self.signal == Signal::Metrics && properties.text("match_type").is_some_and(|given| given == "expr") {
                rules.extend(self.expressions(&properties, !keeps));
                continue;
            }
            let Some(condition) = matching::condition(&properties, self.signal, !keeps) else { continue };
            let text = if keeps { format!("not ({condition})") } else { condition };
            let group = self.read(matched, key, vec![(text, place)], matching::context(self.signal), ErrorMode::Silent);
            rules.extend(group.map(|group| Conditions::of(group, keeps)));
        }
        if section.has(self.inferred) && (!lists.is_empty() || !rules.is_empty()) {
            let settings: Vec<String> =
                self.lists.iter().map(|(key, _)| format!("\"{}.{key}\"", self.section)).collect();
            let message = format!(
                "cannot use context inferred {} conditions \"{}\" and the settings {} at the same time",
                self.inferred.split('_').next().unwrap_or_default(),
                self.inferred,
                settings.join(", ")
            );
            section.problem(self.inferred, message);
        }
        rules
    }

    /// `match_type: expr`: metrics by what is true for any of their data points.
    fn expressions(&self, section: &Section, excludes: bool) -> Option<Conditions> {
        let key = "expressions";
        section.ignored(&["metric_names", "regexp"]);
        if section.node("resource_attributes").is_some_and(|node| !node.is_empty()) {
            let help = "filter them under metrics.resource";
            section.problem_with_help("resource_attributes", "match_type expr takes no attributes of resources", help);
        }
        let texts = section.items(key).unwrap_or_default();
        let place = texts.first().map(|(_, place)| *place)?;
        let read = |(text, place): &(String, Place)| match expressions::condition(text) {
            Ok(condition) => Some(condition),
            Err(Mistake { span, message, help, .. }) => {
                section.push(key, Problem::error(*place, message).help(help).inside(text, span));
                None
            }
        };
        let conditions: Vec<Option<String>> = texts.iter().map(read).collect();
        let condition = conditions.into_iter().collect::<Option<Vec<_>>>()?.join(" or ");
        let group = self.read(section, key, vec![(condition, place)], "datapoint", ErrorMode::Silent)?;
        let verb = if excludes { "drops" } else { "keeps only" };
        let written: Vec<&str> = texts.iter().map(|(text, _)| text.as_str()).collect();
        let said = format!("{verb} metrics with a data point where {}", written.join(" or "));
        Some(Conditions { group, depth: Depth::Records, said: vec![said], of_points: Some(excludes) })
    }
}

impl Factory for Config {
    fn build(&self, _: &str, signal: Signal) -> Result<Arc<dyn Processor>, String> {
        let conditions = self.signals.get(signal as usize).cloned().unwrap_or_default();
        let counters = conditions.iter().flat_map(|conditions| &conditions.said).map(|_| Counters::default()).collect();
        Ok(Arc::new(Filter { signal, observe: self.observe, conditions, counters, filtered: AtomicU64::new(0) }))
    }
}

struct Filter {
    signal: Signal,
    observe: bool,
    conditions: Arc<Vec<Conditions>>,
    /// One for each condition, in order.
    counters: Vec<Counters>,
    filtered: AtomicU64,
}

/// What one condition did: how often it was true, and the items and bytes that it dropped.
type Counters = [AtomicU64; 3];

/// The notes of a filter: three for each condition, and this one.
const FILTERED: u32 = u32::MAX;

impl Processor for Filter {
    fn is_billed(&self) -> bool {
        true
    }

    fn process(&self, telemetry: Telemetry, now: Now, notes: &mut Notes) -> Result<Option<Telemetry>, Refusal> {
        let Some(depth) = self.conditions.iter().map(|conditions| conditions.depth).max() else {
            return Ok(Some(telemetry));
        };
        let before = telemetry.items();
        let mut counts = SmallVec::<[[u64; 3]; 8]>::from_elem([0; 3], self.counters.len());
        let kept = edit(telemetry, |request| {
            let mut sieve = Sieve { filter: self, request, now, depth, matched: None, counts: &mut counts };
            request.rewrite_inlined(&mut sieve)
        })?;
        let filtered = before - kept.as_ref().map_or(0, Telemetry::items);
        note(notes, counts.as_flattened());
        if filtered > 0 {
            notes.push((FILTERED, filtered));
        }
        Ok(kept)
    }

    fn rules(self: Arc<Self>) -> Option<Arc<dyn Rules>> {
        (!self.observe).then_some(self)
    }

    fn publish(&self, notes: &Notes) {
        count(self.counters.as_flattened(), notes);
        let filtered = notes.iter().filter(|(note, _)| *note == FILTERED);
        filtered.for_each(|(_, count)| _ = self.filtered.fetch_add(*count, Relaxed));
    }

    fn observe(&self, page: &mut Page, id: &str, signal: Signal, _: u64) {
        let name = match signal {
            Signal::Logs => "logs",
            Signal::Traces => "spans",
            Signal::Metrics => "datapoints",
        };
        let filtered = self.filtered.load(Relaxed);
        page.counter(&format!("otelcol_processor_filter_{name}_filtered"), &[("filter", id)], filtered);
        for (text, counters) in self.texts().zip(&self.counters) {
            let labels = [("processor", id), ("otel_signal", signal.name()), ("condition", text)];
            for (what, counter) in ["matched", "dropped_items", "dropped_bytes"].iter().zip(counters) {
                page.counter(&format!("misaki_filter_condition_{what}"), &labels, counter.load(Relaxed));
            }
        }
    }

    fn intentions(&self) -> Vec<String> {
        self.said().map(|said| format!("{said}{}", if self.observe { " (observes only)" } else { "" })).collect()
    }

    fn dropped_by(&self) -> Vec<Dropped> {
        let rules = self.texts().zip(self.said()).zip(&self.counters);
        let all = rules.map(|((rule, said), [_, items, bytes])| Dropped {
            rule: rule.to_owned(),
            said: said.clone(),
            items: items.load(Relaxed),
            bytes: bytes.load(Relaxed),
        });
        all.filter(|dropped| dropped.items > 0).collect()
    }

    fn results(&self) -> Vec<String> {
        let what = self.signal.items_name().replace('_', " ");
        let line = |(said, counters): (&String, &Counters)| {
            let [matched, items, bytes] = counters.each_ref().map(|counter| counter.load(Relaxed));
            format!("{said}: {matched} matched, {items} {what} ({bytes} bytes) dropped")
        };
        self.said().zip(&self.counters).map(line).collect()
    }
}

impl Filter {
    fn said(&self) -> impl Iterator<Item = &String> {
        self.conditions.iter().flat_map(|conditions| &conditions.said)
    }

    fn texts(&self) -> impl Iterator<Item = &str> {
        self.conditions.iter().flat_map(|conditions| &conditions.group.conditions).map(|rule| rule.text.as_str())
    }
}

struct Sieve<'f, 'a> {
    filter: &'a Filter,
    request: Request<'a>,
    now: Now,
    depth: Depth,
    /// While only observing: how deep the container is that would be dropped, so that what is in it counts once.
    matched: Option<Depth>,
    counts: &'f mut [[u64; 3]],
}

impl<'a> Sieve<'_, 'a> {
    fn scene<'s>(&self, sight: &'s mut Sight<'a>) -> Scene<'s, 'a>
    where
        'a: 's,
    {
        Scene::new(self.request.arena, self.now, self.request.client, sight)
    }

    /// Whether the condition is true for any data point of the metric in sight.
    #[cold]
    fn is_true_for_a_point(&self, group: &'a Group, sight: &mut Sight<'a>) -> Result<bool, Fault> {
        sight.child.list = sight.point_attributes();
        let pieces = sight.data.pieces().clone();
        let points = pieces.iter().flat_map(|piece| Fields::new(piece));
        for field in points.filter(|field| field.number == metric_data::POINTS) {
            let Value::Bytes(point) = field.value else { continue };
            if slice::is_over() {
                return Err(slice::exhausted().into());
            }
            sight.child.reset(point);
            if group.first_true(&mut self.scene(sight))?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The first condition at this depth that is true.
    #[inline]
    fn first_true(&mut self, depth: Depth, sight: &mut Sight<'a>) -> Result<Option<usize>, Fault> {
        let mut number = 0;
        for conditions in self.filter.conditions.iter() {
            if conditions.depth == depth {
                let found = match conditions.of_points {
                    None => conditions.group.first_true(&mut self.scene(sight))?,
                    Some(drops) => (self.is_true_for_a_point(&conditions.group, sight)? == drops).then_some(0),
                };
                if let Some(index) = found {
                    return Ok(Some(number + index));
                }
            }
            number += conditions.said.len();
        }
        Ok(None)
    }

    fn matched(&mut self, depth: Depth, rule: usize, (items, bytes): (u64, usize)) -> Verdict {
        let observe = self.filter.observe;
        if let Some([matched, dropped, dropped_bytes]) = self.counts.get_mut(rule) {
            *matched += 1;
            if !observe {
                *dropped += items;
                *dropped_bytes += bytes as u64;
            }
        }
        if observe {
            self.matched = Some(depth);
            return Verdict::Keep;
        }
        Verdict::Drop
    }
}

impl<'a> Visitor<'a> for Sieve<'_, 'a> {
    type Fault = Fault;

    fn depth(&self) -> Depth {
        self.depth
    }

    fn prunes(&self) -> bool {
        !self.filter.observe
    }

    /// Drops what a condition at this depth is true for.
    #[inline]
    fn visit(&mut self, depth: Depth, sight: &mut Sight<'a>) -> Result<Verdict, Fault> {
        if self.matched.is_some_and(|matched| depth <= matched) {
            self.matched = None;
        }
        if self.matched.is_some() {
            return Ok(Verdict::Keep);
        }
        Ok(match self.first_true(depth, sight)? {
            Some(rule) => {
                let size = rewrite::size(self.filter.signal, depth, sight);
                self.matched(depth, rule, size)
            }
            None => Verdict::Keep,
        })
    }
}
