//! `trace_context` (ours): gives a log record the trace id that it has only in an attribute or in its body.
//!
//! Many loggers write the trace id as an attribute and leave the record's own field empty: Go's `slog` without
//! `InfoContext`, log shippers, agents of vendors. The id is moved to its field, and the log tells each service once
//! how to do that at the source. An existing id is never replaced: such a record costs one pass over its fields.

mod read;

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use crate::config::section::Section;
use crate::diagnostics::metrics::Page;
use crate::otlp::Signal;
use crate::otlp::message::Message;
use crate::otlp::rewrite::{Depth, Sight, Verdict, Visitor};
use crate::otlp::schema::{log_record, resource};
use crate::otlp::views::{AnyValue, KeyValue};
use crate::otlp::wire::{Value, put_fixed32};
use crate::ottl::value::{Arena, Fault};
use crate::telemetry::{Now, Refusal, Telemetry};

use super::edit::edit;
use super::{Factory, Notes, Processor, count, note};
use read::{Context, read_flags, read_span_id, read_trace_id};

/// Maximum services that get advice.
const SERVICES: usize = 256;

const TRACE_ID: [&str; 10] = [
    "trace_id",
    "traceId",
    "traceID",
    "TraceID",
    "traceid",
    "trace.id",
    "otelTraceID",
    "dd.trace_id",
    "logging.googleapis.com/trace",
    "traceparent",
];
const SPAN_ID: [&str; 8] = ["span_id", "spanId", "spanID", "SpanID", "spanid", "span.id", "otelSpanID", "dd.span_id"];
const GOOGLE_SPAN_ID: &str = "logging.googleapis.com/spanId";
const TRACE_FLAGS: [&str; 5] =
    ["trace_flags", "traceFlags", "trace.flags", "otelTraceSampled", "logging.googleapis.com/trace_sampled"];

#[derive(Clone, Debug)]
pub struct Config {
    names: Arc<Names>,
    /// Whether the keys of a map or JSON body are examined too.
    body: bool,
    /// Whether promoted attributes are removed.
    remove: bool,
}

impl Config {
    pub fn decode(section: Section) -> Config {
        let list = |key: &str, default: &[&str]| {
            section.texts(key).unwrap_or_else(|| default.iter().map(|name| (*name).to_owned()).collect())
        };
        let span_id = [SPAN_ID.as_slice(), &[GOOGLE_SPAN_ID]].concat();
        let lists = [list("trace_id", &TRACE_ID), list("span_id", &span_id), list("trace_flags", &TRACE_FLAGS)];
        let config = Config {
            names: Arc::new(Names::new(lists)),
            body: section.boolean("body", true),
            remove: section.boolean("remove", false),
        };
        section.finish();
        config
    }
}

impl Factory for Config {
    fn build(&self, _: &str, signal: Signal) -> Result<Arc<dyn Processor>, String> {
        if signal != Signal::Logs {
            return Err(format!("trace_context takes logs, not {}", signal.name()));
        }
        Ok(Arc::new(TraceContext { config: self.clone(), counts: Default::default(), told: Mutex::default() }))
    }
}

/// The meaning of an attribute or a body's key.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Says {
    TraceId,
    SpanId,
    Flags,
}

/// The configured names; if a record has several of a list, the first in the list counts.
#[derive(Debug)]
struct Names {
    all: Vec<(Box<[u8]>, Says)>,
    /// The indexes of the names of each length, with their first bytes, so that most other keys cost one comparison.
    by_length: Vec<Vec<(u8, usize)>>,
}

impl Names {
    fn new([trace_id, span_id, flags]: [Vec<String>; 3]) -> Names {
        let named = |names: Vec<String>, says| names.into_iter().map(move |name| (name.into_bytes().into(), says));
        let all = named(trace_id, Says::TraceId).chain(named(span_id, Says::SpanId)).chain(named(flags, Says::Flags));
        let all: Vec<(Box<[u8]>, Says)> = all.collect();
        let mut by_length = vec![Vec::new(); all.iter().map(|(name, _)| name.len() + 1).max().unwrap_or(0)];
        for (rank, (name, _)) in all.iter().enumerate() {
            by_length.get_mut(name.len()).into_iter().for_each(|found: &mut Vec<_>| {
                found.push((name.first().copied().unwrap_or(0), rank));
            });
        }
        Names { all, by_length }
    }

    #[inline]
    fn find(&self, key: &[u8]) -> Option<(usize, Says)> {
        let first = *key.first()?;
        let named = self.by_length.get(key.len())?.iter().filter(|(start, _)| *start == first);
        let mut found = named.filter_map(|(_, rank)| Some((*rank, self.all.get(*rank)?)));
        found.find(|(_, (name, _))| **name == *key).map(|(rank, (_, says))| (rank, *says))
    }

    fn name(&self, rank: usize) -> &[u8] {
        self.all.get(rank).map_or(&[], |(name, _)| name)
    }
}

/// The findings in one record, each with the index of its name: the best of each kind.
#[derive(Default)]
struct Found {
    trace: Option<(usize, Context)>,
    span: Option<(usize, [u8; 8])>,
    flags: Option<(usize, u8)>,
    is_invalid: bool,
    /// Whether two names have different traces.
    is_conflicting: bool,
}

impl Found {
    #[cold]
    fn take(&mut self, names: &Names, rank: usize, says: Says, value: AnyValue) {
        let decimal_first = names.name(rank).starts_with(b"dd.");
        match says {
            Says::TraceId => {
                let context = read_trace_id(value);
                self.is_invalid |= context.is_none() && !matches!(value, AnyValue::Empty | AnyValue::String([]));
                let traces = self.trace.zip(context);
                self.is_conflicting |= traces.is_some_and(|((_, best), other)| best.trace_id != other.trace_id);
                improve(&mut self.trace, rank, context);
            }
            Says::SpanId => improve(&mut self.span, rank, read_span_id(value, decimal_first)),
            Says::Flags => improve(&mut self.flags, rank, read_flags(value)),
        }
    }
}

/// Replaces the best value by one under a name that comes before its own in the list.
fn improve<T>(best: &mut Option<(usize, T)>, rank: usize, read: Option<T>) {
    if best.as_ref().is_none_or(|(best, _)| rank < *best) {
        *best = read.map(|read| (rank, read)).or(best.take());
    }
}

/// The counters, by the index of their note.
const COUNTED: [&str; 3] = ["promoted", "invalid", "conflicting"];
const PROMOTED: usize = 0;
const INVALID: usize = 1;
const CONFLICTING: usize = 2;

struct TraceContext {
    config: Config,
    counts: [AtomicU64; COUNTED.len()],
    /// The services that got advice, by hash.
    told: Mutex<HashSet<u64>>,
}

impl Processor for TraceContext {
    fn process(&self, telemetry: Telemetry, _: Now, notes: &mut Notes) -> Result<Option<Telemetry>, Refusal> {
        let mut counts = [0; COUNTED.len()];
        let after = edit(telemetry, |request| {
            let arena = request.arena;
            request.rewrite(&mut Visit { processor: self, arena, counts: &mut counts, is_told: false })
        })?;
        note(notes, &counts);
        Ok(after)
    }

    fn publish(&self, notes: &Notes) {
        count(&self.counts, notes);
    }

    fn observe(&self, page: &mut Page, id: &str, _: Signal, _: u64) {
        for (name, count) in COUNTED.iter().zip(&self.counts) {
            let name = format!("misaki_processor_trace_context_{name}_log_records");
            page.counter(&name, &[("processor", id)], count.load(Relaxed));
        }
    }
}

impl TraceContext {
    /// Logs once per service how its records can carry their context themselves.
    #[cold]
    fn tell(&self, resource: &Message, name: &[u8]) {
        let text = |key: &[u8]| match resource.attribute(resource::ATTRIBUTES, key) {
            Some(AnyValue::String(text)) => String::from_utf8_lossy(text).into_owned(),
            _ => "unknown".to_owned(),
        };
        let (service, attribute) = (text(b"service.name"), String::from_utf8_lossy(name));
        let mut hasher = DefaultHasher::new();
        service.hash(&mut hasher);
        {
            let mut told = self.told.lock();
            if told.len() >= SERVICES || !told.insert(hasher.finish()) {
                return;
            }
        }
        let help = match text(b"telemetry.sdk.language").as_str() {
            "go" | "unknown" => {
                "log through otelslog with the context: slog.InfoContext(ctx, ...) instead of slog.Info(...)"
            }
            _ => "log through the OpenTelemetry bridge of the logger, while the span is the current one",
        };
        tracing::warn!(
            service,
            attribute = attribute.as_ref(),
            help,
            "log records name their trace in an attribute only; it was put in its place"
        );
    }
}

/// The walk over one request.
struct Visit<'v, 'a> {
    processor: &'v TraceContext,
    arena: &'a Arena,
    counts: &'v mut [u64; COUNTED.len()],
    /// Whether this resource's service has already got advice.
    is_told: bool,
}

impl<'a> Visitor<'a> for Visit<'_, 'a> {
    type Fault = Fault;

    fn depth(&self) -> Depth {
        Depth::Records
    }

    fn resource(&mut self, _: &mut Sight<'a>) -> Result<Verdict, Fault> {
        self.is_told = false;
        Ok(Verdict::Keep)
    }

    #[inline]
    fn record(&mut self, sight: &mut Sight<'a>) -> Result<Verdict, Fault> {
        let Config { names, body: look_into_body, .. } = &self.processor.config;
        let (mut id, mut body, mut found) = (&[] as &[u8], &[] as &[u8], Found::default());
        for field in sight.record.fields() {
            let Value::Bytes(bytes) = field.value else { continue };
            match field.number {
                log_record::TRACE_ID => id = bytes,
                log_record::BODY => body = bytes,
                log_record::ATTRIBUTES => {
                    if let Some((rank, says)) = names.find(key_of(bytes)) {
                        found.take(names, rank, says, KeyValue::read(bytes).value);
                    }
                }
                _ => {}
            }
        }
        if id.iter().any(|byte| *byte != 0) {
            let differs = found.trace.is_some_and(|(_, context)| context.trace_id != *id);
            self.count(CONFLICTING, differs || found.is_conflicting);
            return Ok(Verdict::Keep);
        }
        let is_attribute = found.trace.is_some();
        if !is_attribute && *look_into_body {
            read::each_key(AnyValue::read(body), |key, value| {
                if let Some((rank, says)) = names.find(key) {
                    found.take(names, rank, says, value);
                }
            });
        }
        self.count(CONFLICTING, found.is_conflicting);
        let Some((rank, context)) = found.trace else {
            self.count(INVALID, found.is_invalid);
            return Ok(Verdict::Keep);
        };
        self.count(PROMOTED, true);
        if !self.is_told {
            self.is_told = true;
            self.processor.tell(&sight.resource, names.name(rank));
        }
        self.promote(&mut sight.record, context, &found)?;
        if self.processor.config.remove && is_attribute {
            let used = [Some(rank), found.span.map(|(rank, _)| rank), found.flags.map(|(rank, _)| rank)];
            for rank in used.into_iter().flatten() {
                sight.record.delete_attribute(log_record::ATTRIBUTES, names.name(rank));
            }
        }
        Ok(Verdict::Keep)
    }
}

impl<'a> Visit<'_, 'a> {
    fn count(&mut self, what: usize, happened: bool) {
        if let Some(count) = self.counts.get_mut(what) {
            *count += u64::from(happened);
        }
    }

    /// Writes the ids to their fields. A separate span id takes precedence over the one in the trace's value.
    fn promote(&self, record: &mut Message<'a>, context: Context, found: &Found) -> Result<(), Fault> {
        let span_id = found.span.map(|(_, id)| id).or(context.span_id);
        let flags = found.flags.map(|(_, flags)| flags).or(context.flags).unwrap_or(0);
        record.replace(log_record::TRACE_ID, self.arena.keep_field(log_record::TRACE_ID, &context.trace_id)?);
        if let Some(id) = span_id.filter(|_| record.bytes(log_record::SPAN_ID).iter().all(|byte| *byte == 0)) {
            record.replace(log_record::SPAN_ID, self.arena.keep_field(log_record::SPAN_ID, &id)?);
        }
        if flags != 0 && record.bits(log_record::FLAGS) == 0 {
            let mut field = Vec::new();
            put_fixed32(&mut field, log_record::FLAGS, u32::from(flags));
            record.replace(log_record::FLAGS, self.arena.keep(&field)?);
        }
        Ok(())
    }
}

/// The key of an attribute; in the form that all SDKs write, the value need not be read.
#[inline(always)]
fn key_of(pair: &[u8]) -> &[u8] {
    match pair {
        [0x0a, length, rest @ ..] if *length < 0x80 && rest.get(usize::from(*length)) == Some(&0x12) => {
            rest.get(..usize::from(*length)).unwrap_or_default()
        }
        _ => KeyValue::read(pair).key,
    }
}
