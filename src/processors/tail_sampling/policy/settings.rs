//! How a policy reads its settings: a row for each type.

use std::fmt::Display;

use parking_lot::Mutex;

use super::{Bucket, Composite, Policy, Test};
use crate::config;
use crate::config::nearest::suggestion;
use crate::config::section::Section;
use crate::otlp::schema::STATUS_CODES;
use crate::ottl::program::{ErrorMode, Group, Text};
use crate::ottl::{functions, pattern};

/// Where a policy stands.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Top,
    InAnd,
    InNot,
    InComposite,
}

const ANYWHERE: &[Place] = &[Place::Top, Place::InAnd, Place::InNot, Place::InComposite];

/// The name of a type, where it may stand, and how it reads the section of its name.
type Row = (&'static str, &'static [Place], fn(&Own) -> Option<Policy>);

const TYPES: [Row; 17] = [
    ("always_sample", ANYWHERE, always_sample),
    ("latency", ANYWHERE, latency),
    ("numeric_attribute", ANYWHERE, numeric_attribute),
    ("probabilistic", ANYWHERE, probabilistic),
    ("status_code", ANYWHERE, status_code),
    ("string_attribute", ANYWHERE, string_attribute),
    ("boolean_attribute", ANYWHERE, boolean_attribute),
    ("rate_limiting", ANYWHERE, |own| Some(Policy::RateLimiting(own.bucket("spans_per_second")))),
    ("bytes_limiting", ANYWHERE, |own| Some(Policy::BytesLimiting(own.bucket("bytes_per_second")))),
    ("span_count", ANYWHERE, span_count),
    ("trace_state", ANYWHERE, trace_state),
    ("trace_flags", ANYWHERE, |_| Some(Policy::TraceFlags)),
    ("ottl_condition", ANYWHERE, ottl_condition),
    ("and", &[Place::Top, Place::InComposite], |own| own.nested("and_sub_policy").map(Policy::And)),
    ("not", &[Place::Top, Place::InAnd], not),
    ("drop", &[Place::Top], |own| own.nested("drop_sub_policy").map(Policy::Drop)),
    ("composite", &[Place::Top], composite),
];

impl Policy {
    /// A policy of the list; all mistakes are reported.
    pub(crate) fn decode(section: &Section, name: &str) -> Option<Policy> {
        read(section, name, Place::Top)
    }
}

fn read(section: &Section, name: &str, place: Place) -> Option<Policy> {
    // Types that are built elsewhere have their sections here.
    section.pass_unknown_sections();
    let kind = section.text("type").unwrap_or_default();
    let here = || TYPES.iter().filter(|(_, places, _)| places.contains(&place));
    let Some((kind, _, read)) = here().find(|(known, ..)| *known == kind) else {
        let message = format!("failed to create policy evaluator for \"{name}\": unknown sampling policy type {kind}");
        let near = suggestion(&kind, here().map(|(known, ..)| *known), "the types here are").unwrap_or_default();
        section.problem_with_help("type", message, near);
        // Which of its settings it would have is not known.
        section.entries();
        return None;
    };
    // The settings of other types mean nothing, right or wrong.
    section.ignored(&TYPES.iter().map(|(other, ..)| *other).filter(|other| other != kind).collect::<Vec<_>>());
    read(&Own { section: section.subsection(kind), name })
}

/// The section that is named as the type of a policy.
struct Own<'s> {
    section: Section<'s>,
    /// Of the policy in the list, which may stand around this one.
    name: &'s str,
}

impl Own<'_> {
    /// Reports a missing setting. All keys have been read, so a misspelt one is reported, too.
    fn missing(&self, key: &str, message: impl Display) -> Option<Policy> {
        self.report(self.section.place(key), key, message)
    }

    /// Reports a wrong setting. Reading stops here: keys that are not read yet are not unknown.
    fn wrong(&self, place: config::Place, key: &str, message: impl Display) -> Option<Policy> {
        self.section.entries();
        self.report(place, key, message)
    }

    fn report(&self, place: config::Place, key: &str, message: impl Display) -> Option<Policy> {
        let message = format!("failed to create policy evaluator for \"{}\": {message}", self.name);
        self.section.problem_at(place, key, message, None);
        None
    }

    fn int(&self, key: &str) -> i64 {
        self.section.integer(key, 0, i64::MIN..=i64::MAX)
    }

    /// A bound of 0 means no bound, as in the Go collector.
    fn bound(&self, key: &str) -> Option<i64> {
        Some(self.int(key)).filter(|bound| *bound != 0)
    }

    fn key(&self) -> Vec<u8> {
        self.section.text("key").unwrap_or_default().into_bytes()
    }

    fn values(&self) -> Vec<(String, config::Place)> {
        self.section.items("values").unwrap_or_default()
    }

    fn attribute(&self, test: Test) -> Policy {
        Policy::Attribute { key: self.key(), test, invert: self.section.boolean("invert_match", false) }
    }

    fn bucket(&self, key: &str) -> Bucket {
        let per_second = self.int(key).max(0);
        let burst = self.int("burst_capacity");
        Bucket::new(per_second as f64, if burst > 0 { burst } else { per_second.saturating_mul(2) } as f64)
    }

    fn nested(&self, key: &str) -> Option<Vec<Policy>> {
        let sections = self.section.sections(key).unwrap_or_default();
        // All are read before one that is wrong counts, so that every mistake is reported.
        let policies: Vec<_> = sections.iter().map(|section| self.inner(section, Place::InAnd)).collect();
        policies.into_iter().collect()
    }

    fn inner(&self, section: &Section, place: Place) -> Option<Policy> {
        section.text("name");
        read(section, self.name, place)
    }
}

fn always_sample(own: &Own) -> Option<Policy> {
    own.section.entries();
    Some(Policy::AlwaysSample)
}

fn latency(own: &Own) -> Option<Policy> {
    Some(Policy::Latency { up_to_ms: own.bound("upper_threshold_ms"), above_ms: own.int("threshold_ms") })
}

fn numeric_attribute(own: &Own) -> Option<Policy> {
    let (least, most) = (own.bound("min_value"), own.bound("max_value"));
    let policy = own.attribute(Test::Number(least.unwrap_or(i64::MIN)..=most.unwrap_or(i64::MAX)));
    if least.or(most).is_none() {
        return own.missing("", "at least one of min_value or max_value must be set");
    }
    Some(policy)
}

fn probabilistic(own: &Own) -> Option<Policy> {
    let salt = own.section.text("hash_salt").filter(|salt| !salt.is_empty());
    let percentage = own.section.float("sampling_percentage", 0.0, f64::MIN..=f64::MAX);
    let salt = salt.unwrap_or_else(|| "default-hash-seed".to_owned());
    Some(Policy::Probabilistic { salt, threshold: share_of_all(percentage / 100.0) })
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

fn status_code(own: &Own) -> Option<Policy> {
    let names = own.section.items("status_codes").unwrap_or_default();
    if names.is_empty() {
        return own.missing("status_codes", "expected at least one status code to filter on");
    }
    let mut codes = 0;
    for (name, place) in names {
        match STATUS_CODES.1.iter().position(|known| *known == name) {
            Some(code) => codes |= 1 << code,
            None => {
                let message = format!("unknown status code \"{name}\", supported: OK, ERROR, UNSET");
                return own.wrong(place, "status_codes", message);
            }
        }
    }
    Some(Policy::StatusCode(codes))
}

fn string_attribute(own: &Own) -> Option<Policy> {
    own.section.ignored(&["cache_max_size"]);
    let values = own.values();
    let test = if own.section.boolean("enabled_regex_matching", false) {
        match values.iter().map(|(value, place)| pattern::compile(value).map_err(|why| (*place, why))).collect() {
            Ok(patterns) => Test::Regex(patterns),
            Err((place, why)) => return own.wrong(place, "values", format_args!("invalid regex: {why}")),
        }
    } else {
        let values = values.into_iter().map(|(value, _)| value.into_bytes());
        Test::Exact(values.filter(|value| !value.is_empty()).collect())
    };
    Some(own.attribute(test))
}

fn boolean_attribute(own: &Own) -> Option<Policy> {
    Some(own.attribute(Test::Boolean(own.section.boolean("value", false))))
}

fn span_count(own: &Own) -> Option<Policy> {
    let count = |key| own.section.limited(key, 0, 0..=i64::from(i32::MAX)) as u64;
    Some(Policy::SpanCount { least: count("min_spans"), most: Some(count("max_spans")).filter(|most| *most > 0) })
}

fn trace_state(own: &Own) -> Option<Policy> {
    let key = own.key();
    let values = own.values().into_iter().map(|(value, _)| value.into_bytes());
    let fits = |value: &Vec<u8>| !value.is_empty() && key.len() + value.len() < 256;
    Some(Policy::TraceState { values: values.filter(fits).collect(), key })
}

fn ottl_condition(own: &Own) -> Option<Policy> {
    let error_mode = own.section.choice_in_any_case("error_mode", ErrorMode::Ignore, &ErrorMode::CHOICES);
    let group = |key, contexts: &[&'static str]| {
        let texts = own.section.items(key).unwrap_or_default().into_iter();
        let texts: Vec<Text> = texts.map(|(text, place)| Text { key, text, place, is_statement: false }).collect();
        let group = Group::read(&own.section, &texts, Some(key), contexts, functions::FILTER, error_mode);
        (group.filter(|_| !texts.is_empty()), texts.len())
    };
    let (span, spans) = group("span", &["span", "scope", "resource"]);
    let (event, events) = group("spanevent", &["spanevent", "span", "scope", "resource"]);
    if spans + events == 0 {
        return own.missing("", "expected at least one OTTL condition to filter on");
    }
    Some(Policy::OttlCondition { span, event })
}

fn not(own: &Own) -> Option<Policy> {
    let inner = own.inner(&own.section.subsection("not_sub_policy"), Place::InNot)?;
    Some(Policy::Not(Box::new(inner)))
}

fn composite(own: &Own) -> Option<Policy> {
    let section = &own.section;
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
        let name = section.text("name").unwrap_or_default();
        let share = shares.iter().rfind(|(policy, percent)| *policy == name && *percent > 0);
        let most = share.map_or(even, |(_, percent)| *percent as f64 / 100.0 * most as f64);
        Some((read(section, own.name, Place::InComposite)?, most as u64))
    };
    let policies: Vec<_> = sections.iter().map(policy).collect();
    let policies: Vec<_> = policies.into_iter().collect::<Option<_>>()?;
    let state = Mutex::new((None, vec![0; policies.len()]));
    Some(Policy::Composite(Composite { most, policies, state }))
}
