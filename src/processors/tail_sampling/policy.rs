//! The policies: how each reads its settings, and what it says of a trace (facts 5.7).

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::nearest::suggestion;
use crate::config::section::Section;
use crate::otlp::message::Message;
use crate::otlp::rewrite::Sight;
use crate::otlp::schema::{resource, resource_group, scope_group, span, status};
use crate::otlp::slice::Exhausted;
use crate::otlp::tracestate;
use crate::otlp::views::AnyValue;
use crate::otlp::wire::merged;
use crate::ottl::pattern::Pattern;
use crate::ottl::program::{ErrorMode, Group, Text};
use crate::ottl::scene::Scene;
use crate::ottl::value::{Arena, Fault};
use crate::ottl::{functions, pattern};
use crate::telemetry::{Now, Signal};

use super::spans::{Piece, request_len};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Sampled,
    NotSampled,
    Dropped,
}

/// A trace that is decided on.
pub struct Trace<'t> {
    pub id: u128,
    pub pieces: &'t [Piece],
    pub spans: u64,
    pub now: Now,
}

pub enum Policy {
    AlwaysSample,
    Latency {
        above_ms: i64,
        up_to_ms: Option<i64>,
    },
    NumericAttribute {
        key: Vec<u8>,
        least: i64,
        most: i64,
        invert: bool,
    },
    Probabilistic {
        salt: String,
        threshold: u64,
    },
    /// Bits by code.
    StatusCode(u32),
    StringAttribute {
        key: Vec<u8>,
        values: Values,
        invert: bool,
    },
    BooleanAttribute {
        key: Vec<u8>,
        value: bool,
        invert: bool,
    },
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

pub enum Values {
    Exact(Vec<Vec<u8>>),
    Regex(Vec<Pattern>),
}

/// Which types may stand here.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Top,
    InAnd,
    InNot,
    InComposite,
}

const TYPES: [&str; 17] = [
    "always_sample",
    "latency",
    "numeric_attribute",
    "probabilistic",
    "status_code",
    "string_attribute",
    "boolean_attribute",
    "rate_limiting",
    "bytes_limiting",
    "span_count",
    "trace_state",
    "trace_flags",
    "ottl_condition",
    "and",
    "not",
    "drop",
    "composite",
];

impl Place {
    /// Whether a policy of this type may stand here.
    fn takes(self, kind: &str) -> bool {
        match kind {
            "and" => matches!(self, Place::Top | Place::InComposite),
            "not" => matches!(self, Place::Top | Place::InAnd),
            "drop" | "composite" => matches!(self, Place::Top),
            _ => true,
        }
    }
}

impl Policy {
    /// A policy of the list; all mistakes are reported.
    pub fn decode(section: &Section, name: &str) -> Option<Policy> {
        Policy::read(section, name, Place::Top)
    }

    fn read(section: &Section, name: &str, place: Place) -> Option<Policy> {
        let kind = section.text("type").unwrap_or_default();
        if !TYPES.contains(&kind.as_str()) || !place.takes(&kind) {
            let message =
                format!("failed to create policy evaluator for \"{name}\": unknown sampling policy type {kind}");
            let known = TYPES.into_iter().filter(|known| place.takes(known));
            let near = suggestion(&kind, known, "the types here are").unwrap_or_default();
            section.problem_with_help("type", message, near);
            // Which of its settings it would have is not known.
            section.entries();
            return None;
        }
        // The settings of other types mean nothing, right or wrong.
        section.ignored(&TYPES.into_iter().filter(|other| *other != kind).collect::<Vec<_>>());
        let own = section.subsection(&kind);
        let wrong = |key: &str, message: String| {
            own.problem(key, format!("failed to create policy evaluator for \"{name}\": {message}"));
            // Reading ends here: the keys that were not come to are no unknown ones.
            own.entries();
            None
        };
        let any = i64::MIN..=i64::MAX;
        let int = |key| own.integer(key, 0, any.clone());
        let key = || own.text("key").unwrap_or_default().into_bytes();
        let invert = || own.boolean("invert_match", false);
        let bucket = |key| {
            let per_second = int(key).max(0);
            let burst = int("burst_capacity");
            Bucket::new(per_second as f64, if burst > 0 { burst } else { per_second.saturating_mul(2) } as f64)
        };
        let nested = |key, place| -> Option<Vec<Policy>> {
            let sections = own.sections(key).unwrap_or_default();
            let policies: Vec<_> = sections.iter().map(|section| Policy::nested(section, name, place)).collect();
            policies.into_iter().collect()
        };
        Some(match kind.as_str() {
            "always_sample" => {
                own.entries();
                Policy::AlwaysSample
            }
            "latency" => {
                let up_to_ms = Some(int("upper_threshold_ms")).filter(|most| *most != 0);
                Policy::Latency { above_ms: int("threshold_ms"), up_to_ms }
            }
            "numeric_attribute" => {
                // As in the Go collector a bound of 0 is none.
                let bound = |key| Some(int(key)).filter(|bound| *bound != 0);
                let (least, most) = (bound("min_value"), bound("max_value"));
                if least.or(most).is_none() {
                    return wrong("", "at least one of min_value or max_value must be set".to_owned());
                }
                let (least, most) = (least.unwrap_or(i64::MIN), most.unwrap_or(i64::MAX));
                Policy::NumericAttribute { key: key(), least, most, invert: invert() }
            }
            "probabilistic" => {
                let salt = own.text("hash_salt").filter(|salt| !salt.is_empty());
                let percentage = own.float("sampling_percentage", 0.0, f64::MIN..=f64::MAX);
                let salt = salt.unwrap_or_else(|| "default-hash-seed".to_owned());
                Policy::Probabilistic { salt, threshold: share_of_all(percentage / 100.0) }
            }
            "status_code" => {
                let names = own.texts("status_codes").unwrap_or_default();
                if names.is_empty() {
                    return wrong("status_codes", "expected at least one status code to filter on".to_owned());
                }
                let mut codes = 0;
                for name in names {
                    match ["UNSET", "OK", "ERROR"].iter().position(|known| *known == name) {
                        Some(code) => codes |= 1 << code,
                        None => {
                            let message = format!("unknown status code \"{name}\", supported: OK, ERROR, UNSET");
                            return wrong("status_codes", message);
                        }
                    }
                }
                Policy::StatusCode(codes)
            }
            "string_attribute" => {
                own.ignored(&["cache_max_size"]);
                let values = own.texts("values").unwrap_or_default();
                let values = if own.boolean("enabled_regex_matching", false) {
                    match values.iter().map(|value| pattern::compile(value)).collect() {
                        Ok(patterns) => Values::Regex(patterns),
                        Err(why) => return wrong("values", format!("invalid regex: {why}")),
                    }
                } else {
                    Values::Exact(
                        values.into_iter().filter(|value| !value.is_empty()).map(String::into_bytes).collect(),
                    )
                };
                Policy::StringAttribute { key: key(), values, invert: invert() }
            }
            "boolean_attribute" => {
                Policy::BooleanAttribute { key: key(), value: own.boolean("value", false), invert: invert() }
            }
            "rate_limiting" => Policy::RateLimiting(bucket("spans_per_second")),
            "bytes_limiting" => Policy::BytesLimiting(bucket("bytes_per_second")),
            "span_count" => {
                let count = |key| own.limited(key, 0, 0..=i64::from(i32::MAX)) as u64;
                Policy::SpanCount { least: count("min_spans"), most: Some(count("max_spans")).filter(|most| *most > 0) }
            }
            "trace_state" => {
                let key = key();
                let values = own.texts("values").unwrap_or_default().into_iter().map(String::into_bytes);
                let fits = |value: &Vec<u8>| !value.is_empty() && key.len() + value.len() < 256;
                Policy::TraceState { values: values.filter(fits).collect(), key }
            }
            "trace_flags" => Policy::TraceFlags,
            "ottl_condition" => {
                let error_mode = own.choice("error_mode", ErrorMode::Ignore, &ErrorMode::CHOICES);
                let group = |key, contexts: &[&'static str]| {
                    let texts = own.items(key).unwrap_or_default().into_iter();
                    let texts: Vec<Text> =
                        texts.map(|(text, place)| Text { key, text, place, is_statement: false }).collect();
                    let group = Group::read(&own, &texts, Some(key), contexts, functions::FILTER, error_mode);
                    (group.filter(|_| !texts.is_empty()), texts.len())
                };
                let (span, spans) = group("span", &["span", "scope", "resource"]);
                let (event, events) = group("spanevent", &["spanevent", "span", "scope", "resource"]);
                if spans + events == 0 {
                    return wrong("", "expected at least one OTTL condition to filter on".to_owned());
                }
                Policy::OttlCondition { span, event }
            }
            "and" => Policy::And(nested("and_sub_policy", Place::InAnd)?),
            "not" => {
                let inner = Policy::nested(&own.subsection("not_sub_policy"), name, Place::InNot)?;
                Policy::Not(Box::new(inner))
            }
            "drop" => Policy::Drop(nested("drop_sub_policy", Place::InAnd)?),
            "composite" => Policy::Composite(Composite::decode(&own, name)?),
            // None of the types.
            _ => return None,
        })
    }

    fn nested(section: &Section, outer: &str, place: Place) -> Option<Policy> {
        section.text("name");
        Policy::read(section, outer, place)
    }

    pub fn is_drop(&self) -> bool {
        matches!(self, Policy::Drop(_))
    }

    /// Whether it has conditions or patterns.
    pub fn has_patterns(&self) -> bool {
        match self {
            Policy::OttlCondition { .. } | Policy::StringAttribute { values: Values::Regex(_), .. } => true,
            Policy::And(policies) | Policy::Drop(policies) => policies.iter().any(Policy::has_patterns),
            Policy::Not(policy) => policy.has_patterns(),
            Policy::Composite(composite) => composite.policies.iter().any(|(policy, _)| policy.has_patterns()),
            _ => false,
        }
    }

    pub fn evaluate(&self, trace: &Trace) -> Result<Decision, Fault> {
        let is_sampled = match self {
            Policy::AlwaysSample => true,
            Policy::Latency { above_ms, up_to_ms } => trace.latency(*above_ms, up_to_ms.unwrap_or(i64::MAX)),
            Policy::NumericAttribute { key, least, most, invert } => {
                let matches = |value: AnyValue, _| {
                    let number = if let AnyValue::Int(number) = value { number } else { 0 };
                    (*least..=*most).contains(&number)
                };
                trace.has_attribute(key, matches) != *invert
            }
            Policy::Probabilistic { salt, threshold } => {
                let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
                let bytes = salt.bytes().chain(trace.id.to_be_bytes());
                bytes.fold(0xcbf2_9ce4_8422_2325, fnv) <= *threshold
            }
            Policy::StatusCode(codes) => trace.has_span(|span| {
                let code = Message::of(&merged(span, span::STATUS)).bits(status::CODE);
                code < 3 && codes >> code & 1 == 1
            }),
            Policy::StringAttribute { key, values, invert } => {
                let matches = |value: AnyValue, of_span: bool| {
                    let text = if let AnyValue::String(text) = value { text } else { &[] };
                    let is_match = match values {
                        Values::Exact(values) => values.iter().any(|value| value == text),
                        Values::Regex(patterns) => patterns.iter().any(|pattern| pattern.is_match(text)),
                    };
                    is_match && !(of_span && text.is_empty())
                };
                trace.has_attribute(key, matches) != *invert
            }
            Policy::BooleanAttribute { key, value: wanted, invert } => {
                let matches = |value: AnyValue, _| (value == AnyValue::Bool(true)) == *wanted;
                trace.has_attribute(key, matches) != *invert
            }
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

/// The part of all 64-bit numbers that is below this share.
fn share_of_all(share: f64) -> u64 {
    match share {
        ..=0.0 => 0,
        1.0.. => u64::MAX,
        // 53 bits of mantissa; what is below 2^-63 is nothing.
        _ => (((share * (1u64 << 63) as f64) as u128 * u128::from(u64::MAX)) >> 63) as u64,
    }
}

impl Trace<'_> {
    fn has_span(&self, mut matches: impl FnMut(&[u8]) -> bool) -> bool {
        self.pieces.iter().any(|piece| piece.each().any(&mut matches))
    }

    /// Whether a resource or a span has an attribute `key` of which `matches(value, whether it is a span's)`.
    fn has_attribute(&self, key: &[u8], matches: impl Fn(AnyValue, bool) -> bool) -> bool {
        let mut before: Option<&Piece> = None;
        self.pieces.iter().any(|piece| {
            let is_new = before.replace(piece).is_none_or(|before| !piece.continues(before));
            let resource = merged(&piece.header.resource, resource_group::RESOURCE);
            let found = Message::of(&resource).attribute(resource::ATTRIBUTES, key).filter(|_| is_new);
            found.is_some_and(|value| matches(value, false))
                || piece.each().any(|span| {
                    let value = Message::of(span).attribute(span::ATTRIBUTES, key);
                    value.is_some_and(|value| matches(value, true))
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
pub struct Bucket {
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
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Policies in an order, each with a share of the spans a second.
pub struct Composite {
    most: u64,
    /// With what each may let through in a second.
    policies: Vec<(Policy, u64)>,
    /// Since when this second lasts, and what each let through in it.
    state: Mutex<(Option<Instant>, Vec<u64>)>,
}

impl Composite {
    fn decode(section: &Section, name: &str) -> Option<Composite> {
        let most = section.integer("max_total_spans_per_second", 0, 0..=i64::MAX) as u64;
        // The order of the policies themselves counts, as in the Go collector.
        section.texts("policy_order");
        let percent = |section: &Section| {
            let percent = section.integer("percent", 0, i64::MIN..=i64::MAX);
            (section.text("policy").unwrap_or_default(), percent)
        };
        let shares: Vec<_> = section.sections("rate_allocation").unwrap_or_default().iter().map(percent).collect();
        let sections = section.sections("composite_sub_policy").unwrap_or_default();
        let even = most as f64 / sections.len().max(1) as f64;
        let policy = |section: &Section| {
            let own = section.text("name").unwrap_or_default();
            let share = shares.iter().rfind(|(policy, percent)| *policy == own && *percent > 0);
            let most = share.map_or(even, |(_, percent)| *percent as f64 / 100.0 * most as f64);
            Some((Policy::read(section, name, Place::InComposite)?, most as u64))
        };
        let policies: Vec<_> = sections.iter().map(policy).collect();
        let policies: Vec<_> = policies.into_iter().collect::<Option<_>>()?;
        let state = Mutex::new((None, vec![0; policies.len()]));
        Some(Composite { most, policies, state })
    }

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
