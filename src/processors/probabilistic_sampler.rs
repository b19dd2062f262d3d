//! `probabilistic_sampler`: keeps a share of the spans or log records, by their trace id or an attribute.
//!
//! An item is kept if its randomness, 56 bits, is at least the threshold. Both are recorded for later samplers: in the
//! tracestate of a span, in two attributes of a log record.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::config::section::Section;
use crate::diagnostics::metrics::Page;
use crate::otlp::message::Message;
use crate::otlp::rewrite::{self, Depth, Sight, Verdict, Visitor};
use crate::otlp::schema::{log_record, span};
use crate::otlp::tracestate::{self, RANGE, TraceState};
use crate::otlp::views::AnyValue;
use crate::ottl::value::{Arena, Fault, Value};
use crate::telemetry::{Now, Reason, Refusal, Removed, Rules, Shown, Signal, Telemetry};

use super::edit::{Request, edit};
use super::{Factory, Notes, Processor, count, note};

/// The highest randomness, which every threshold but [`NEVER`] keeps.
const HIGHEST: u64 = RANGE - 1;
const ALWAYS: u64 = 0;
const NEVER: u64 = RANGE;

const RANDOMNESS: &str = "sampling.randomness";
const THRESHOLD: &str = "sampling.threshold";

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    mode: Mode,
    fail_closed: bool,
    precision: u32,
    /// Logs: whether the trace id supplies the randomness, and otherwise which attribute.
    by_trace_id: bool,
    from_attribute: String,
    /// Logs: the attribute with a percentage that takes precedence.
    sampling_priority: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Nothing,
    HashSeed {
        threshold: u64,
        seed: u32,
    },
    /// Raises lower thresholds to this one.
    Equalizing {
        threshold: u64,
    },
    /// Multiplies probabilities.
    Proportional {
        ratio: f64,
    },
}

/// The source of an item's randomness: the `policy` label of the counters.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Policy {
    TraceIdHash,
    TraceIdW3c,
    SamplingRandomness,
    SamplingPriority,
    MissingRandomness,
    Attribute,
}

const POLICIES: [&str; 6] =
    ["trace_id_hash", "trace_id_w3c", "sampling_randomness", "sampling_priority", "missing_randomness", ""];

impl Config {
    pub(crate) fn decode(section: Section) -> Config {
        let percentage = section.float("sampling_percentage", 0.0, f64::NEG_INFINITY..=f64::INFINITY) as f32;
        let seed = section.integer("hash_seed", 0, 0..=i64::from(u32::MAX)) as u32;
        let precision = section.integer("sampling_precision", 4, 0..=i64::from(u32::MAX)) as u32;
        let ratio = f64::from(percentage.min(100.0)) / 100.0;
        let lowest = 1.0 / RANGE as f64;
        let wrong = match percentage {
            it if !it.is_finite() => Some(format!("sampling rate is invalid: {it}%")),
            ..0.0 => Some(format!("sampling rate is negative: {percentage:.6}%")),
            _ if ratio > 0.0 && ratio < lowest => Some(format!("sampling rate is too small: {percentage:e}%")),
            _ => None,
        };
        if let Some(message) = wrong {
            section.problem_with_help("sampling_percentage", message, "write a percentage from 0 to 100");
        }
        let wrong = match precision {
            0 => Some("invalid sampling precision: 0".to_owned()),
            15.. => Some(format!("sampling precision is too great, should be <= 14: {precision}")),
            _ => None,
        };
        if let Some(message) = wrong {
            section.problem("sampling_precision", message);
        }
        let precision = precision.clamp(1, 14);
        let source = section.text_or("attribute_source", "traceID");
        if !["", "traceID", "record"].contains(&source.as_str()) {
            let message = format!("invalid attribute source: {source}. Expected: traceID or record");
            section.problem("attribute_source", message);
        }
        let mode = section.text("mode").unwrap_or_default();
        let mode = match mode.as_str() {
            "equalizing" => Mode::Equalizing { threshold: threshold_of(ratio, precision).unwrap_or(ALWAYS) },
            "proportional" => Mode::Proportional { ratio },
            // Out of 16,384, with the Go collector's precision, so that the same ids are kept.
            "" | "hash_seed" => match (percentage.clamp(0.0, 100.0) * 163.84) as u64 {
                0 => Mode::Nothing,
                kept => Mode::HashSeed { threshold: (0x4000 - kept) << 42, seed },
            },
            other => {
                let help = "it is one of hash_seed, equalizing, proportional";
                section.problem_with_help("mode", format!("unsupported sampler mode \"{other}\""), help);
                Mode::Nothing
            }
        };
        let config = Config {
            mode: if ratio > 0.0 { mode } else { Mode::Nothing },
            fail_closed: section.boolean("fail_closed", true),
            precision,
            by_trace_id: source == "traceID",
            from_attribute: section.text("from_attribute").unwrap_or_default(),
            sampling_priority: section.text("sampling_priority").unwrap_or_default(),
        };
        section.finish();
        config
    }
}

impl Factory for Config {
    fn build(&self, _: &str, signal: Signal) -> Result<Arc<dyn Processor>, String> {
        if signal == Signal::Metrics {
            return Err("probabilistic_sampler takes logs and traces, not metrics".to_owned());
        }
        Ok(Arc::new(Sampler { config: self.clone(), counts: Default::default() }))
    }
}

/// The threshold that keeps this share, rounded to `precision` significant digits, more for shares near 0 and 1.
fn threshold_of(share: f64, precision: u32) -> Option<u64> {
    if !(1.0 / RANGE as f64..=1.0).contains(&share) {
        return None;
    }
    if share == 1.0 {
        return Some(ALWAYS);
    }
    let zeros = |number: f64| (1022 - (number.to_bits() >> 52) as i64).max(0) as u32 / 4;
    let precision = (precision + zeros(share).max(zeros(1.0 - share))).min(14);
    let threshold = RANGE - (share * RANGE as f64).round() as u64;
    let shift = 4 * (14 - precision);
    let half = (1 << shift) >> 1;
    Some((threshold + half) >> shift << shift)
}

/// FNV-1a over the seed and the bytes, mixed so that its lower 14 bits decide, as in the Go collector.
fn hashed(bytes: &[u8], seed: u32) -> u64 {
    let fnv = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(16_777_619);
    let hash = u64::from(seed.to_le_bytes().iter().chain(bytes).fold(2_166_136_261, fnv));
    let (bucket, unused) = (hash & 0x3fff, hash >> 18);
    (0x3fff - bucket) << 42 | (unused ^ unused << 10) << 14 | bucket
}

/// The randomness of a trace id drawn at random by its SDK: its last 56 bits.
fn of_trace_id(id: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(*id.last_chunk()?) % RANGE)
}

struct Sampler {
    config: Config,
    /// By policy: dropped, kept.
    counts: [[AtomicU64; 2]; POLICIES.len()],
}

impl Processor for Sampler {
    fn is_billed(&self) -> bool {
        true
    }

    fn reason(&self) -> Reason {
        Reason::SampledOut
    }

    fn process(&self, telemetry: Telemetry, _: Now, notes: &mut Notes) -> Result<Option<Telemetry>, Refusal> {
        let mut counts = [[0; 2]; POLICIES.len()];
        let kept = edit(telemetry, |request| {
            let Request { signal, arena, .. } = request;
            request.rewrite(&mut Visit { config: &self.config, signal, arena, counts: &mut counts })
        })?;
        note(notes, counts.as_flattened());
        Ok(kept)
    }

    fn rules(self: Arc<Self>) -> Option<Arc<dyn Rules>> {
        Some(self)
    }

    fn publish(&self, notes: &Notes) {
        count(self.counts.as_flattened(), notes);
    }

    fn observe(&self, page: &mut Page, _: &str, signal: Signal, _: u64) {
        let items = if signal == Signal::Logs { "logs" } else { "traces" };
        let name = format!("otelcol_processor_probabilistic_sampler_count_{items}_sampled");
        for (policy, counts) in POLICIES.iter().zip(&self.counts) {
            let policy = if policy.is_empty() { &self.config.from_attribute } else { *policy };
            for (sampled, count) in ["false", "true"].iter().zip(counts) {
                let count = count.load(Relaxed);
                if count > 0 {
                    page.counter(&name, &[("policy", policy), ("sampled", sampled)], count);
                }
            }
        }
    }
}

impl Rules for Sampler {
    fn removed(&self, request: &Shown<'_>) -> Vec<Removed> {
        let Shown { signal, bytes, items, .. } = *request;
        let arena = Arena::with_limit((64 << 10) + 4 * bytes.len());
        let mut counts = Default::default();
        let mut left = Left(Visit { config: &self.config, signal, arena: &arena, counts: &mut counts });
        let kept = rewrite::kept(signal, bytes, items, arena.room(), &mut left);
        kept.map(|(bytes, items)| Removed { rule: Reason::SampledOut.name().to_owned(), bytes, items })
            .into_iter()
            .collect()
    }
}

/// Keeps what the sampler drops.
struct Left<'v, 'a>(Visit<'v, 'a>);

impl<'a> Visitor<'a> for Left<'_, 'a> {
    type Fault = Fault;

    fn depth(&self) -> Depth {
        self.0.depth()
    }

    fn prunes(&self) -> bool {
        true
    }

    fn record(&mut self, sight: &mut Sight<'a>) -> Result<Verdict, Fault> {
        Ok(if self.0.record(sight)? == Verdict::Keep { Verdict::Drop } else { Verdict::Keep })
    }
}

/// The walk over one request.
struct Visit<'v, 'a> {
    config: &'v Config,
    signal: Signal,
    arena: &'a Arena,
    counts: &'v mut [[u64; 2]; POLICIES.len()],
}

impl<'a> Visitor<'a> for Visit<'_, 'a> {
    type Fault = Fault;

    fn depth(&self) -> Depth {
        Depth::Records
    }

    fn prunes(&self) -> bool {
        true
    }

    fn record(&mut self, sight: &mut Sight<'a>) -> Result<Verdict, Fault> {
        let record = &mut sight.record;
        let state = if self.signal == Signal::Logs { log_state(record) } else { span_state(record) };
        let (mut policy, randomness, mut state, mut threshold) = self.decide(record, state);
        if let Some(prior) = self.priority(record) {
            (policy, threshold) = (Policy::SamplingPriority, prior);
        }
        let is_kept = threshold <= randomness;
        if let Some(count) =
            self.counts.get_mut(policy as usize).and_then(|counts| counts.get_mut(usize::from(is_kept)))
        {
            *count += 1;
        }
        if !is_kept {
            return Ok(Verdict::Drop);
        }
        if let Some(state) = &mut state {
            // A sampler cannot restore items that an earlier one dropped.
            if state.threshold.is_none_or(|(earlier, _)| earlier <= threshold) {
                let mut text = Vec::new();
                tracestate::put_threshold(threshold, &mut text);
                state.threshold = Some((threshold, self.arena.keep(&text)?));
            }
            self.write(record, state)?;
        }
        Ok(Verdict::Keep)
    }
}

impl<'a> Visit<'_, 'a> {
    /// The source of the randomness, the randomness, the state to record (in a log record, only the two numbers; `None` leaves the existing one unchanged),
    /// and the threshold.
    fn decide(
        &self,
        record: &mut Message<'a>,
        state: Option<TraceState<'a>>,
    ) -> (Policy, u64, Option<TraceState<'a>>, u64) {
        let failed = if self.config.fail_closed { NEVER } else { ALWAYS };
        let logs = self.signal == Signal::Logs;
        let id = record.bytes(if logs { log_record::TRACE_ID } else { span::TRACE_ID });
        let id = Some(id).filter(|id| id.iter().any(|byte| *byte != 0));
        let (policy, randomness) = match self.config.mode {
            Mode::Nothing => (Policy::SamplingPriority, HIGHEST),
            Mode::HashSeed { seed, .. } => {
                let by_id = id.filter(|_| !logs || self.config.by_trace_id);
                let by_id = by_id.map(|id| (Policy::TraceIdHash, hashed(id, seed)));
                let by_attribute = || Some((Policy::Attribute, hashed(&self.attribute(record)?, seed)));
                by_id.or_else(by_attribute).unwrap_or((Policy::MissingRandomness, HIGHEST))
            }
            Mode::Equalizing { .. } | Mode::Proportional { .. } => {
                let given = state.as_ref().and_then(|state| state.randomness);
                let given = given.map(|(randomness, _)| (Policy::SamplingRandomness, randomness));
                let by_id = || Some((Policy::TraceIdW3c, of_trace_id(id.filter(|_| state.is_some())?)?));
                given.or_else(by_id).unwrap_or((Policy::MissingRandomness, HIGHEST))
            }
        };
        let Some(mut state) = state else {
            // At 0 % the Go collector replaces a state that it cannot read.
            let is_new = !logs && matches!(self.config.mode, Mode::Nothing);
            return (policy, randomness, is_new.then(TraceState::default), failed);
        };
        let is_missing = policy == Policy::MissingRandomness;
        if let Mode::HashSeed { .. } = self.config.mode {
            // Hash-seed sampling must not be mixed with consistent sampling.
            if state.randomness.is_some() || state.threshold.is_some() {
                return (policy, randomness, None, failed);
            }
            if !(logs && is_missing) {
                state.randomness = Some((randomness, &[]));
            }
        }
        if is_missing {
            return (policy, randomness, Some(state), failed);
        }
        let earlier = state.threshold.map(|(threshold, _)| threshold);
        if earlier.is_some_and(|earlier| earlier > randomness) {
            // The item should have been dropped at that threshold, so the threshold is wrong.
            state.threshold = None;
            if logs {
                record.delete_attribute(log_record::ATTRIBUTES, THRESHOLD.as_bytes());
            }
            return (policy, randomness, Some(state), failed);
        }
        let threshold = match self.config.mode {
            Mode::Nothing => NEVER,
            Mode::HashSeed { threshold, .. } => threshold,
            Mode::Equalizing { threshold } => earlier.unwrap_or(ALWAYS).max(threshold),
            Mode::Proportional { ratio } => {
                let before = (RANGE - earlier.unwrap_or(ALWAYS)) as f64 / RANGE as f64;
                threshold_of(before * ratio, self.config.precision).unwrap_or(NEVER)
            }
        };
        (policy, randomness, Some(state), threshold)
    }

    /// The attribute that supplies the randomness, as bytes.
    fn attribute(&self, record: &Message<'a>) -> Option<Vec<u8>> {
        let key = Some(self.config.from_attribute.as_bytes()).filter(|key| !key.is_empty())?;
        let value = record.attribute(log_record::ATTRIBUTES, key).filter(|_| self.signal == Signal::Logs)?;
        let mut text = Vec::new();
        match value {
            AnyValue::Bytes(bytes) => text.extend_from_slice(bytes),
            other => Value::from_any(other).put_as_string(&mut text),
        }
        Some(text).filter(|text| !text.is_empty())
    }

    /// The threshold that the item itself requests: a span all or nothing, a log record a percentage.
    fn priority(&self, record: &Message<'a>) -> Option<u64> {
        if self.signal == Signal::Traces {
            let number = match record.attribute(span::ATTRIBUTES, b"sampling.priority")? {
                AnyValue::Int(number) => number as f64,
                AnyValue::Double(number) => number,
                AnyValue::String(text) => str::from_utf8(text).ok()?.parse().ok()?,
                _ => return None,
            };
            return if number == 0.0 { Some(NEVER) } else { (number > 0.0).then_some(ALWAYS) };
        }
        let key = Some(self.config.sampling_priority.as_bytes()).filter(|key| !key.is_empty())?;
        let percentage = match record.attribute(log_record::ATTRIBUTES, key)? {
            AnyValue::Int(number) => number as f64,
            AnyValue::Double(number) => number,
            _ => return None,
        };
        threshold_of(percentage / 100.0, self.config.precision)
    }

    fn write(&self, record: &mut Message<'a>, state: &TraceState<'a>) -> Result<(), Fault> {
        let mut state = state.clone();
        if let Some((randomness, text @ [])) = &mut state.randomness {
            let mut digits = Vec::new();
            tracestate::put_randomness(*randomness, &mut digits);
            *text = self.arena.keep(&digits)?;
        }
        if self.signal == Signal::Traces {
            let mut text = Vec::new();
            state.write(&mut text);
            record.replace(span::TRACE_STATE, self.arena.keep_field(span::TRACE_STATE, &text)?);
            return Ok(());
        }
        for (key, value) in [(RANDOMNESS, state.randomness), (THRESHOLD, state.threshold)] {
            let Some((_, text)) = value else { continue };
            let (list, key) = (log_record::ATTRIBUTES, key.as_bytes());
            record.set_attribute(list, key, self.arena.keep_attribute(list, key, &Value::String(text))?);
        }
        Ok(())
    }
}

fn span_state<'a>(record: &Message<'a>) -> Option<TraceState<'a>> {
    TraceState::read(record.bytes(span::TRACE_STATE))
}

/// The two attributes, if they are text; `None` if one is invalid.
fn log_state<'a>(record: &Message<'a>) -> Option<TraceState<'a>> {
    let text = |key: &str| match record.attribute(log_record::ATTRIBUTES, key.as_bytes()) {
        Some(AnyValue::String(text)) if !text.is_empty() => Some(text),
        _ => None,
    };
    let mut state = TraceState::default();
    if let Some(text) = text(THRESHOLD) {
        state.threshold = Some((tracestate::threshold(text)?, text));
    }
    if let Some(text) = text(RANDOMNESS) {
        state.randomness = Some((tracestate::randomness(text)?, text));
    }
    Some(state)
}
