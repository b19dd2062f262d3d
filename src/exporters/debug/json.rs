//! `verbosity: json`: an OTLP/JSON object a line an item: `{"resource": …, "scope": …, "logRecord": …}`, or `"span"`, or
//! `"metric"` with one data point. The names and forms are those of OTLP/JSON, so `jq` finds them where the
//! specification says.

use super::text::Text;
use crate::diagnostics::escape::put_safe_json;
use crate::otlp::json::{Piece, piece_to_json};
use crate::otlp::schema::{metric, metric_data};
use crate::otlp::views::{Repeated, ResourceGroup, ScopeGroup};
use crate::otlp::wire::{Field, Fields, Value, put_bytes};
use crate::telemetry::Signal;

/// What items repeat of their resource, scope and metric may make the text of a request so much longer than the
/// request; then only the first of a group says it.
const REPEATS: usize = 64;

/// How many bytes may still be repeated.
pub struct Allowance(usize);

impl Allowance {
    pub fn of(parts: &[&[u8]]) -> Allowance {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        Allowance((1 << 20) + REPEATS.saturating_mul(bytes))
    }

    fn take(&mut self, bytes: usize) -> bool {
        let left = self.0.checked_sub(bytes);
        self.0 = left.unwrap_or(self.0);
        left.is_some()
    }
}

pub fn resource(text: &mut Text<'_>, signal: Signal, group: &ResourceGroup<'_>, allowance: &mut Allowance) {
    let mut about_resource = b"{\"resource\":".to_vec();
    piece_to_json(Piece::Resource, &group.resource, &mut about_resource);
    for scope in group.scopes.clone() {
        let group = ScopeGroup::read(scope);
        let mut about = about_resource.clone();
        about.extend_from_slice(b",\"scope\":");
        piece_to_json(Piece::Scope, &group.scope, &mut about);
        about.push(b',');
        let mut items = Items { about, is_first: true, allowance };
        for record in group.records {
            match signal {
                Signal::Logs => items.put(text, Piece::LogRecord, "\"logRecord\":", record),
                Signal::Traces => items.put(text, Piece::Span, "\"span\":", record),
                Signal::Metrics => items.put_points(text, record),
            }
        }
    }
}

/// The items of a scope.
struct Items<'a> {
    about: Vec<u8>,
    is_first: bool,
    allowance: &'a mut Allowance,
}

impl Items<'_> {
    fn put(&mut self, text: &mut Text<'_>, piece: Piece, name: &str, record: &[u8]) {
        text.items += 1;
        let start = text.out.len();
        let repeats = std::mem::take(&mut self.is_first) || self.allowance.take(self.about.len());
        text.out.extend_from_slice(if repeats { &self.about } else { b"{" });
        text.raw(name);
        piece_to_json(piece, record, text.out);
        text.raw("}");
        make_safe(text.out, start);
        text.end();
    }

    /// A metric once for each of its data points.
    fn put_points(&mut self, text: &mut Text<'_>, message: &[u8]) {
        const DATA: [u32; 5] =
            [metric::GAUGE, metric::SUM, metric::HISTOGRAM, metric::EXPONENTIAL_HISTOGRAM, metric::SUMMARY];
        let is_data = |field: &Field<'_>| DATA.contains(&field.number);
        let Some(Field { number, value: Value::Bytes(data), .. }) = Fields::new(message).filter(is_data).last() else {
            return;
        };
        let head: Vec<u8> =
            Fields::new(message).filter(|field| !is_data(field)).flat_map(|field| field.raw).copied().collect();
        let is_point = |field: &Field<'_>| field.number == metric_data::POINTS;
        let described: Vec<u8> =
            Fields::new(data).filter(|field| !is_point(field)).flat_map(|field| field.raw).copied().collect();
        let (mut metric, mut one) = (head.clone(), Vec::new());
        for point in Repeated::of(data, metric_data::POINTS) {
            one.clone_from(&described);
            put_bytes(&mut one, metric_data::POINTS, point);
            put_bytes(&mut metric, number, &one);
            self.put(text, Piece::Metric, "\"metric\":", &metric);
            metric.clear();
            if self.allowance.take(head.len() + described.len()) {
                metric.extend_from_slice(&head);
            }
        }
    }
}

/// Within strings, what a terminal would act on is written as an escape; JSON's own writer leaves some of it.
fn make_safe(out: &mut Vec<u8>, start: usize) {
    let line = out.get(start..).unwrap_or_default();
    if line.iter().all(|byte| matches!(byte, 0x20..=0x7e)) {
        return;
    }
    let mut safe = Vec::with_capacity(line.len());
    put_safe_json(&mut safe, line);
    out.truncate(start);
    out.extend_from_slice(&safe);
}
