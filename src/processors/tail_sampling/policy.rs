//! The policies: what each says of a trace.

mod settings;

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use crate::otlp::message::Message;
use crate::otlp::rewrite::Sight;
use crate::otlp::schema::{resource, resource_group, scope_group, span, status};
use crate::otlp::slice::Exhausted;
use crate::otlp::tracestate;
use crate::otlp::views::AnyValue;
use crate::otlp::wire::merged;
use crate::ottl::pattern::Pattern;
use crate::ottl::program::Group;
use crate::ottl::scene::Scene;
use crate::ottl::value::{Arena, Fault};
use crate::telemetry::{Now, Signal};

use super::spans::{Piece, request_len};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Sampled,
    NotSampled,
    Dropped,
}

/// A trace that is decided on.
pub(super) struct Trace<'t> {
    pub(super) id: u128,
    pub(super) pieces: &'t [Piece],
    pub(crate) spans: u64,
    pub(super) now: Now,
}

pub(super) enum Policy {
    AlwaysSample,
    Latency {
        above_ms: i64,
        up_to_ms: Option<i64>,
    },
    /// Whether an attribute passes the test, or does not.
    Attribute {
        key: Vec<u8>,
        test: Test,
        invert: bool,
    },
    Probabilistic {
        salt: String,
        threshold: u64,
    },
    /// Bits by code.
    StatusCode(u32),
    RateLimiting(Bucket),
    BytesLimiting(Bucket),
    SpanCount {
        least: u64,
        most: Option<u64>,
    },
    TraceState {
        key: Vec<u8>,
        values: Vec<Vec<u8>>,
    },
    TraceFlags,
    OttlCondition {
        span: Option<Group>,
        event: Option<Group>,
    },
    And(Vec<Policy>),
    Not(Box<Policy>),
    Drop(Vec<Policy>),
    Composite(Composite),
}

/// What an attribute is compared with. Of another type it counts as 0, an empty text or false.
pub(super) enum Test {
    Number(RangeInclusive<i64>),
    Exact(Vec<Vec<u8>>),
    Regex(Vec<Pattern>),
    Boolean(bool),
}

impl Test {
    /// An empty text counts in a resource only.
    fn passes(&self, value: AnyValue, of_span: bool) -> bool {
        let number = if let AnyValue::Int(number) = value { number } else { 0 };
        let text = if let AnyValue::String(text) = value { text } else { &[] };
        let is_text = !(of_span && text.is_empty());
        match self {
            Test::Number(range) => range.contains(&number),
            Test::Exact(values) => is_text && values.iter().any(|value| value == text),
            Test::Regex(patterns) => is_text && patterns.iter().any(|pattern| pattern.is_match(text)),
            Test::Boolean(wanted) => (value == AnyValue::Bool(true)) == *wanted,
        }
    }
}

impl Policy {
    pub(super) fn is_drop(&self) -> bool {
        matches!(self, Policy::Drop(_))
    }

    /// Whether it has conditions or patterns.
    pub(super) fn has_patterns(&self) -> bool {
        match self {
            Policy::OttlCondition { .. } | Policy::Attribute { test: Test::Regex(_), .. } => true,
            Policy::And(policies) | Policy::Drop(policies) => policies.iter().any(Policy::has_patterns),
            Policy::Not(policy) => policy.has_patterns(),
            Policy::Composite(composite) => composite.policies.iter().any(|(policy, _)| policy.has_patterns()),
            _ => false,
        }
    }

    pub(super) fn evaluate(&self, trace: &Trace) -> Result<Decision, Fault> {
        let is_sampled = match self {
            Policy::AlwaysSample => true,
            Policy::Latency { above_ms, up_to_ms } => trace.latency(*above_ms, up_to_ms.unwrap_or(i64::MAX)),
            Policy::Attribute { key, test, invert } => trace.has_attribute(key, test) != *invert,
            Policy::Probabilistic { salt, threshold } => {
                let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
                let bytes = salt.bytes().chain(trace.id.to_be_bytes());
                bytes.fold(0xcbf2_9ce4_8422_2325, fnv) <= *threshold
            }
            Policy::StatusCode(codes) => trace.has_span(|span| {
                let code = Message::of(&merged(span, span::STATUS)).bits(status::CODE);
                code < 3 && codes >> code & 1 == 1
            }),
            Policy::RateLimiting(bucket) => bucket.take(trace.spans as f64, trace.now.instant),
            Policy::BytesLimiting(bucket) => bucket.take(request_len(trace.pieces) as f64, trace.now.instant),
            Policy::SpanCount { least, most } => trace.spans >= *least && most.is_none_or(|most| trace.spans <= most),
            Policy::TraceState { key, values } => trace.has_span(|span| {
                let value = tracestate::member(Message::of(span).bytes(span::TRACE_STATE), key);
                value.is_some_and(|value| values.iter().any(|wanted| wanted == value))
            }),
            Policy::TraceFlags => trace.has_span(|span| Message::of(span).bits(span::FLAGS) & 1 == 1),
            Policy::OttlCondition { span, event } => trace.has_true(span.as_ref(), event.as_ref())?,
            Policy::And(policies) => all(policies, trace)?,
            Policy::Drop(policies) if all(policies, trace)? => return Ok(Decision::Dropped),
            Policy::Drop(_) => false,
            Policy::Not(policy) => policy.evaluate(trace)? == Decision::NotSampled,
            Policy::Composite(composite) => composite.evaluate(trace)?,
        };
        Ok(if is_sampled { Decision::Sampled } else { Decision::NotSampled })
    }
}

fn all(policies: &[Policy], trace: &Trace) -> Result<bool, Fault> {
    for policy in policies {
        if policy.evaluate(trace)? == Decision::NotSampled {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Trace<'_> {
    fn has_span(&self, mut matches: impl FnMut(&[u8]) -> bool) -> bool {
        self.pieces.iter().any(|piece| piece.each().any(&mut matches))
    }

    /// Whether a resource or a span has an attribute `key` that passes the test.
    fn has_attribute(&self, key: &[u8], test: &Test) -> bool {
        let mut before: Option<&Piece> = None;
        self.pieces.iter().any(|piece| {
            let is_new = before.replace(piece).is_none_or(|before| !piece.continues(before));
            let resource = merged(&piece.header.resource, resource_group::RESOURCE);
            let found = Message::of(&resource).attribute(resource::ATTRIBUTES, key).filter(|_| is_new);
            found.is_some_and(|value| test.passes(value, false))
                || piece.each().any(|span| {
                    let value = Message::of(span).attribute(span::ATTRIBUTES, key);
                    value.is_some_and(|value| test.passes(value, true))
                })
        })
    }

    /// Whether the time from the earliest start to the latest end, as it grows span by span, is ever in between.
    fn latency(&self, above_ms: i64, up_to_ms: i64) -> bool {
        let (mut earliest, mut latest) = (0, 0);
        self.has_span(|span| {
            let span = Message::of(span);
            let (start, end) = (span.bits(span::START), span.bits(span::END));
            earliest = if earliest == 0 { start } else { start.min(earliest) };
            latest = if latest == 0 { end } else { end.max(latest) };
            let milliseconds = (latest as i64).wrapping_sub(earliest as i64) / 1_000_000;
            above_ms < milliseconds && milliseconds <= up_to_ms
        })
    }

    /// Whether a condition is true for a span, or one for an event of a span.
    fn has_true(&self, span: Option<&Group>, event: Option<&Group>) -> Result<bool, Fault> {
        for piece in self.pieces {
            for bytes in piece.each() {
                let arena = Arena::with_limit(1 << 20);
                let mut sight = Sight::of(Signal::Traces, arena.room());
                sight.resource_group.reset(&piece.header.resource);
                sight.resource.reset_to(&sight.resource_group, resource_group::RESOURCE);
                sight.scope_group.reset(&piece.header.scope);
                sight.scope.reset_to(&sight.scope_group, scope_group::SCOPE);
                sight.record.reset(bytes);
                if arena.room().missing().is_some() {
                    return Err(Exhausted.into());
                }
                if let Some(span) = span
                    && span.first_true(&mut Scene::new(&arena, self.now, None, &mut sight))?.is_some()
                {
                    return Ok(true);
                }
                let Some(event) = event else { continue };
                for (index, bytes) in Message::of(bytes).payloads(span::EVENTS).enumerate() {
                    sight.child.reset(bytes);
                    sight.child_index = index;
                    if event.first_true(&mut Scene::new(&arena, self.now, None, &mut sight))?.is_some() {
                        return Ok(true);
                    }
                }
            }
        }
        Ok(false)
    }
}

/// So many a second, and at most so many at once.
pub(crate) struct Bucket {
    per_second: f64,
    capacity: f64,
    state: Mutex<(f64, Option<Instant>)>,
}

impl Bucket {
    fn new(per_second: f64, capacity: f64) -> Bucket {
        Bucket { per_second, capacity, state: Mutex::new((capacity, None)) }
    }

    fn take(&self, wanted: f64, now: Instant) -> bool {
        let mut state = lock(&self.state);
        let (tokens, last) = &mut *state;
        let passed = last.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        *tokens = (*tokens + passed.as_secs_f64() * self.per_second).min(self.capacity);
        *last = Some(now);
        let fits = wanted <= *tokens;
        if fits {
            *tokens -= wanted;
        }
        fits
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}

/// Policies in an order, each with a share of the spans a second.
pub(super) struct Composite {
    most: u64,
    /// With what each may let through in a second.
    policies: Vec<(Policy, u64)>,
    /// Since when this second lasts, and what each let through in it.
    state: Mutex<(Option<Instant>, Vec<u64>)>,
}

impl Composite {
    fn evaluate(&self, trace: &Trace) -> Result<bool, Fault> {
        for (index, (policy, most)) in self.policies.iter().enumerate() {
            if policy.evaluate(trace)? != Decision::Sampled {
                continue;
            }
            let mut state = lock(&self.state);
            let (since, counts) = &mut *state;
            let is_over = |since: Instant| trace.now.instant.saturating_duration_since(since) >= Duration::from_secs(1);
            if since.is_none_or(is_over) {
                *since = Some(trace.now.instant);
                counts.fill(0);
            }
            let Some(count) = counts.get_mut(index) else { return Ok(false) };
            let after = *count + trace.spans;
            let fits = after <= *most && after <= self.most;
            if fits {
                *count = after;
            }
            return Ok(fits);
        }
        Ok(false)
    }
}
