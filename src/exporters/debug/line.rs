//! `verbosity: line`: one line for each item, cut to the width: its time, its severity or kind, its service, its text
//! and attributes, and the beginning of its trace id.

use std::sync::Arc;

use super::layout::{Layout, Tone, column, cut, duration, head, width, word, words};
use super::metric;
use super::rates::Rates;
use super::text::Text;
use super::value::put_plain;
use super::walk::{Step, walk};
use crate::otlp::hex;
use crate::otlp::pieces::Pieces;
use crate::otlp::schema::list;
use crate::otlp::views::{AnyValue, KeyValue, LogRecord, Repeated, Resource, ResourceGroup, Span, SpanEvent, Status};
use crate::telemetry::Signal;

/// The width of the second column: `ERROR` and `client` fit.
const KIND: usize = 6;
/// The bytes of a trace id that are shown.
const SHORT_ID: usize = 4;

/// The content of one line.
pub(crate) struct Line {
    pub(crate) time: u64,
    /// The severity of a log record, else the kind of span or metric.
    pub(crate) kind: Box<str>,
    pub(crate) tone: Tone,
    pub(crate) service: Arc<str>,
    /// The text and the attributes.
    pub(crate) words: Box<str>,
    /// The beginning of the trace id; empty if the item has no trace id.
    pub(crate) trace: Box<[u8]>,
}

impl Line {
    /// Writes the line; says whether to continue.
    pub(super) fn put(&self, layout: Layout, to: &mut Pieces<'_>) -> bool {
        let out = &mut *to.out;
        let services = if layout.width < 120 { 16 } else { 24 };
        // Two spaces and the id.
        let id = 2 + 2 * SHORT_ID;
        let id = if self.trace.is_empty() { 0 } else { id };
        let left = layout.width.saturating_sub(layout.time_columns() + 1 + KIND + 1 + services + 1 + id);
        layout.put(out, Tone::Faint, &layout.time(self.time));
        layout.put(out, self.tone, &format!(" {} ", column(&self.kind, KIND)));
        layout.put(out, Tone::Strong, &column(&self.service, services));
        let words = if layout.is_cut { cut(&self.words, left) } else { self.words.to_string() };
        out.push(b' ');
        out.extend_from_slice(words.as_bytes());
        if !self.trace.is_empty() {
            out.extend(std::iter::repeat_n(b' ', left.saturating_sub(width(&words)) + 2));
            let mut id = Vec::new();
            hex::put(&self.trace, &mut id);
            layout.put(out, Tone::Faint, &String::from_utf8_lossy(&id));
        }
        out.push(b'\n');
        to.breathe()
    }
}

pub(super) fn put(text: &mut Text<'_, '_>, signal: Signal, parts: &[&[u8]], rates: &mut Rates) {
    let (layout, mut service) = (text.style.layout, Arc::default());
    let columns = layout.longest();
    walk(text, parts, &mut |text, _, step| {
        let mut put = |line: Line| {
            text.to.items += 1;
            line.put(layout, text.to)
        };
        match (step, signal) {
            (Step::Resource(group), _) => service = self::service(&group),
            (Step::Scope(_), _) => {}
            (Step::Record(message), Signal::Logs) => _ = put(log(&LogRecord::read(message), &service, columns)),
            (Step::Record(message), Signal::Traces) => _ = put(span(&Span::read(message), &service, columns)),
            (Step::Record(message), Signal::Metrics) => metric::lines(message, &service, columns, rates, &mut put),
        }
    });
}

/// The name of a resource's service.
pub(crate) fn service(group: &ResourceGroup<'_>) -> Arc<str> {
    let attributes = Resource::read(&group.resource).attributes;
    let name = attribute(attributes, b"service.name").map(|name| word(60, name)).unwrap_or_default();
    Arc::from(if name.is_empty() { "-" } else { &*name })
}

/// The first attribute with this key, if it is a string.
fn attribute<'a>(attributes: Repeated<'a>, key: &[u8]) -> Option<&'a [u8]> {
    match attributes.map(KeyValue::read).find(|pair| pair.key == key)?.value {
        AnyValue::String(text) => Some(text),
        _ => None,
    }
}

pub(crate) fn log(record: &LogRecord<'_>, service: &Arc<str>, columns: usize) -> Line {
    let (kind, tone) = match record.severity_number {
        21.. => ("FATAL", Tone::Bad),
        17.. => ("ERROR", Tone::Bad),
        13.. => ("WARN", Tone::Warning),
        9.. => ("INFO", Tone::Plain),
        5.. => ("DEBUG", Tone::Faint),
        1.. => ("TRACE", Tone::Faint),
        _ => ("", Tone::Plain),
    };
    let kind = if kind.is_empty() { word(KIND, record.severity_text) } else { kind.to_owned() };
    let words = words(columns, |text| {
        match record.body {
            AnyValue::Empty => text.text(head(columns, record.event_name)),
            body => put_value(text, body, columns),
        }
        put_attributes(text, record.attributes.clone(), !record.trace_id.is_empty(), columns);
    });
    let time = if record.time == 0 { record.observed_time } else { record.time };
    let kind = if kind.is_empty() { "log".into() } else { kind.into() };
    Line { time, kind, tone, service: service.clone(), words: words.into(), trace: short(record.trace_id) }
}

pub(super) fn span(span: &Span<'_>, service: &Arc<str>, columns: usize) -> Line {
    let failure = failure(span, columns);
    let words = words(columns, |text| {
        text.text(head(columns, span.name));
        text.raw("  ");
        text.raw(&duration(span.end.saturating_sub(span.start)));
        if let Some(message) = &failure {
            text.raw("  ");
            text.raw(failed(message).trim_start_matches("✗ "));
        }
        put_attributes(text, span.attributes.clone(), true, columns);
    });
    let tone = if failure.is_some() { Tone::Bad } else { Tone::Plain };
    let (service, words, trace) = (service.clone(), words.into(), short(span.trace_id));
    Line { time: span.start, kind: kind(span.kind, failure.is_some()).into(), tone, service, words, trace }
}

/// The second column of a span. The mark of a failure is here, where nothing is cut.
pub(super) fn kind(kind: i32, is_failed: bool) -> &'static str {
    let kinds = ["span", "span", "server", "client", "send", "take"];
    let kind = kinds.get(kind as usize).copied().unwrap_or("span");
    if is_failed { "✗ span" } else { kind }
}

/// The text about a failed span.
pub(super) fn failed(message: &str) -> String {
    if message.is_empty() { "✗ failed".to_owned() } else { format!("✗ failed: {message}") }
}

/// Why a span failed: its status message, else the exception it recorded. `None` if it did not fail.
pub(super) fn failure(span: &Span<'_>, columns: usize) -> Option<String> {
    const ERROR: i32 = 2;
    let status = Status::read(&span.status);
    if status.code != ERROR {
        return None;
    }
    if !status.message.is_empty() {
        return Some(word(columns, status.message));
    }
    let mut exceptions = span.events.clone().map(SpanEvent::read).filter(|event| event.name == b"exception");
    let exception = exceptions.next().and_then(|event| {
        let text = attribute(event.attributes.clone(), b"exception.message");
        text.filter(|text| !text.is_empty()).or_else(|| attribute(event.attributes, b"exception.type"))
    });
    let said = exception.or_else(|| attribute(span.attributes.clone(), b"error.type"));
    Some(said.map(|text| word(columns, text)).unwrap_or_default())
}

/// `key=value key=value`, as many as fit.
pub(crate) fn attributes(attributes: Repeated<'_>, columns: usize) -> String {
    words(columns, |text| put_attributes(text, attributes, false, columns)).trim_start().to_owned()
}

/// Writes `  key=value key=value`, as many as fit. It leaves out attributes about the source code and, if the item
/// `has_ids` of its own, attributes that repeat these. The message of an exception comes first, because it names the
/// cause, and its stack trace is left out.
pub(super) fn put_attributes(text: &mut Text<'_, '_>, attributes: Repeated<'_>, has_ids: bool, columns: usize) {
    let mut separator = "  ";
    let pairs = || attributes.clone().map(KeyValue::read);
    let first = pairs().find(|pair| pair.key == b"exception.message");
    let rest = pairs().filter(|pair| !matches!(pair.key, b"exception.message" | b"exception.stacktrace"));
    for pair in first.into_iter().chain(rest) {
        if text.to.out.len() > 4 * columns {
            break;
        }
        let is_id = matches!(pair.key, b"trace_id" | b"span_id" | b"trace_flags");
        if is_id && has_ids || pair.key.starts_with(b"code.") {
            continue;
        }
        text.raw(separator);
        separator = " ";
        text.text(head(columns, pair.key));
        text.raw("=");
        put_value(text, pair.value, columns);
    }
}

/// Writes a value, or as much of it as can fit.
fn put_value(text: &mut Text<'_, '_>, value: AnyValue<'_>, columns: usize) {
    match value {
        AnyValue::String(string) => text.text(head(columns, string)),
        AnyValue::Bytes(bytes) => put_plain(text, AnyValue::Bytes(head(columns, bytes))),
        AnyValue::Array(items) | AnyValue::Map(items) if items.len() > 64 * columns => {
            let count = Repeated::of(items, list::VALUES).len();
            text.raw(&format!("({count} values)"));
        }
        value => put_plain(text, value),
    }
}

/// The beginning of an id; empty if the id is unset.
pub(super) fn short(id: &[u8]) -> Box<[u8]> {
    if id.iter().all(|byte| *byte == 0) { [].into() } else { id.get(..SHORT_ID).unwrap_or(id).into() }
}
