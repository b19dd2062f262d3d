//! The lines of a series in the two text formats: Prometheus' own, and OpenMetrics.

use crate::order::Ordered;
use crate::otlp::hex;
use crate::otlp::number;

use super::labels::{Labels, put_name, put_text};
use super::names::{Escaping, is_classic, put_escaped};
use super::store::{Family, Kind, Series};
use super::value::{Example, Histogram, Value};
use crate::otlp::views::metrics::Number;

/// How a scraper wants the text.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Form {
    pub(super) is_open_metrics: bool,
    pub(super) escaping: Escaping,
    pub(super) has_timestamps: bool,
}

/// Writes lines of one family.
pub(super) struct Lines<'a> {
    out: &'a mut Vec<u8>,
    form: Form,
    /// The name as the scraper wants it.
    name: Vec<u8>,
    is_classic: bool,
    kind: Kind,
}

/// The rest of a line: what follows the name.
struct Sample<'a> {
    labels: &'a Labels,
    /// One more label, for buckets and quantiles.
    more: Option<(&'static str, f64)>,
    value: Figure,
    time: Option<u64>,
}

enum Figure {
    Count(u64),
    Double(f64),
}

impl<'a> Lines<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>, name: &str, family: &Family, form: Form) -> Lines<'a> {
        let mut escaped = Vec::new();
        put_escaped(&mut escaped, name, form.escaping);
        let is_classic = family.is_classic || is_classic(&escaped);
        Lines { out, form, name: escaped, is_classic, kind: family.kind }
    }

    pub(super) fn length(&self) -> usize {
        self.out.len()
    }

    /// The lines before its series.
    pub(super) fn head(&mut self, help: &[u8]) {
        let is_total = self.name.ends_with(b"_total");
        // OpenMetrics names a counter without the suffix, and knows none that lacks it.
        let name = match self.kind {
            Kind::Counter if self.form.is_open_metrics => self.name.strip_suffix(b"_total").unwrap_or(&self.name),
            _ => &self.name,
        };
        let kind = match self.kind {
            Kind::Counter if self.form.is_open_metrics && !is_total => "unknown",
            kind => kind.name(),
        };
        self.out.extend_from_slice(b"# HELP ");
        put_name(self.out, name, is_classic(name));
        self.out.push(b' ');
        put_text(self.out, help, self.form.is_open_metrics);
        self.out.extend_from_slice(b"\n# TYPE ");
        put_name(self.out, name, is_classic(name));
        self.out.push(b' ');
        self.out.extend_from_slice(kind.as_bytes());
        self.out.push(b'\n');
    }

    pub(super) fn series(&mut self, labels: &Labels, series: &Series) {
        let last = &series.last;
        let time = Some(last.time).filter(|_| self.form.has_timestamps && series.has_time());
        let sample = |more, value| Sample { labels, more, value, time };
        match &last.value {
            Value::Number(number) => {
                let value = Figure::Double(number.map_or(0.0, Number::double));
                self.sample("", sample(None, value), last.examples.first().filter(|_| self.kind == Kind::Counter));
            }
            Value::Histogram(histogram) => {
                self.buckets(histogram, &last.examples, &sample);
                self.sample("_sum", sample(None, Figure::Double(histogram.sum)), None);
                self.sample("_count", sample(None, Figure::Count(histogram.count)), None);
            }
            Value::Exponential(histogram) => {
                self.sample("_bucket", sample(Some(("le", f64::INFINITY)), Figure::Count(histogram.count)), None);
                self.sample("_sum", sample(None, Figure::Double(histogram.sum.unwrap_or(0.0))), None);
                self.sample("_count", sample(None, Figure::Count(histogram.count)), None);
            }
            Value::Summary(summary) => {
                for (quantile, value) in &summary.quantiles {
                    self.sample("", sample(Some(("quantile", *quantile)), Figure::Double(*value)), None);
                }
                self.sample("_sum", sample(None, Figure::Double(summary.sum)), None);
                self.sample("_count", sample(None, Figure::Count(summary.count)), None);
            }
        }
    }

    /// Buckets that count all smaller values too, each bound once.
    fn buckets<'s>(
        &mut self,
        histogram: &Histogram,
        examples: &[Example],
        sample: &dyn Fn(Option<(&'static str, f64)>, Figure) -> Sample<'s>,
    ) {
        let mut bounds: Vec<(f64, usize)> = histogram.bounds.iter().copied().zip(0..).collect();
        if !histogram.bounds.is_sorted_by(|one, next| one < next) {
            bounds.order_by(|one, other| one.0.total_cmp(&other.0));
            bounds.dedup_by(|next, kept| next.0 == kept.0);
        }
        let (mut below, mut examples) = (0_u64, examples.iter().peekable());
        for (bound, index) in bounds {
            below = below.wrapping_add(histogram.counts.get(index).copied().unwrap_or(0));
            let example = examples.next_if(|example| example.value <= bound);
            self.sample("_bucket", sample(Some(("le", bound)), Figure::Count(below)), example);
        }
        if histogram.bounds.iter().all(|bound| *bound != f64::INFINITY) {
            let all = sample(Some(("le", f64::INFINITY)), Figure::Count(histogram.count));
            self.sample("_bucket", all, examples.next());
        }
    }

    fn sample(&mut self, suffix: &str, sample: Sample<'_>, example: Option<&Example>) {
        let Sample { labels, more, value, time } = sample;
        let has_labels = !labels.is_empty() || more.is_some();
        if self.is_classic {
            self.out.extend_from_slice(&self.name);
            self.out.extend_from_slice(suffix.as_bytes());
            if has_labels {
                self.out.push(b'{');
            }
        } else {
            self.out.extend_from_slice(b"{\"");
            put_text(self.out, &self.name, true);
            self.out.extend_from_slice(suffix.as_bytes());
            self.out.extend_from_slice(if has_labels { b"\"," } else { b"\"" });
        }
        labels.put(self.out, self.form.escaping);
        if let Some((name, bound)) = more {
            if !labels.is_empty() {
                self.out.push(b',');
            }
            self.out.extend_from_slice(name.as_bytes());
            self.out.extend_from_slice(b"=\"");
            self.double(bound);
            self.out.push(b'"');
        }
        if has_labels || !self.is_classic {
            self.out.push(b'}');
        }
        self.out.push(b' ');
        match value {
            Figure::Count(count) if self.form.is_open_metrics => number::put_uint(self.out, count),
            Figure::Count(count) => self.double(count as f64),
            Figure::Double(value) => self.double(value),
        }
        if let Some(nanos) = time {
            self.out.push(b' ');
            let millis = (nanos as i64).div_euclid(1_000_000);
            match self.form.is_open_metrics {
                true => self.double(millis as f64 / 1000.0),
                false => number::put_int(self.out, millis),
            }
        }
        if let Some(example) = example.filter(|_| self.form.is_open_metrics) {
            self.example(example);
        }
        self.out.push(b'\n');
    }

    /// An example without a trace says nothing.
    fn example(&mut self, example: &Example) {
        let ids: [(&str, &[u8]); 2] = [("trace_id", &example.trace_id), ("span_id", &example.span_id)];
        let ids = ids.into_iter().filter(|(_, id)| id.iter().any(|byte| *byte != 0));
        let mut open: &[u8] = b" # {";
        for (name, id) in ids {
            self.out.extend_from_slice(open);
            self.out.extend_from_slice(name.as_bytes());
            self.out.extend_from_slice(b"=\"");
            hex::put(id, self.out);
            self.out.push(b'"');
            open = b",";
        }
        if open == b"," {
            self.out.extend_from_slice(b"} ");
            self.double(example.value);
            self.out.push(b' ');
            self.double(example.time as i64 as f64 / 1e9);
        }
    }

    /// Go's shortest form; in OpenMetrics, a whole number has a fraction too.
    fn double(&mut self, value: f64) {
        let start = self.out.len();
        if value.fract() == 0.0 && value.abs() < 1e6 {
            number::put_int(self.out, value as i64);
        } else {
            number::put_general(self.out, value);
        }
        let is_whole = |text: &[u8]| text.iter().all(|byte| byte.is_ascii_digit() || *byte == b'-');
        if self.form.is_open_metrics && self.out.get(start..).is_some_and(is_whole) {
            self.out.extend_from_slice(b".0");
        }
    }
}
