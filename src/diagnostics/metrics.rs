//! Self-metrics under the Go collector's names, as text for Prometheus. `own` makes OTLP of them.
//!
//! Nothing is registered: on a scrape, each component writes its counters into a [`Page`].

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A component with metrics.
pub trait Observe: Send + Sync {
    fn observe(&self, page: &mut Page);
}

/// One answer to a scrape: families by name, each with its samples.
#[derive(Default)]
pub struct Page {
    pub(super) families: BTreeMap<String, (Kind, Vec<Sample>)>,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Counter,
    /// A counter of a fractional value, like seconds.
    Seconds,
    Gauge,
    Histogram,
}

/// The value of a family for one set of labels.
pub(super) struct Sample {
    pub(super) labels: Vec<(String, String)>,
    pub(super) value: f64,
    /// The values of a histogram, whose sum is `value`.
    pub(super) buckets: Option<Buckets>,
}

/// The bounds of a histogram, and how many values are in each of its buckets; the last one is beyond all bounds.
pub(super) struct Buckets {
    pub(super) bounds: &'static [u64],
    pub(super) counts: Vec<u64>,
}

impl Page {
    pub fn counter(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        self.sample(Kind::Counter, name, labels, value as f64, None);
    }

    /// A counter of a fractional value, like seconds.
    pub(super) fn counter_of(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.sample(Kind::Seconds, name, labels, value, None);
    }

    pub(crate) fn gauge(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.sample(Kind::Gauge, name, labels, value, None);
    }

    pub(crate) fn histogram(&mut self, name: &str, labels: &[(&str, &str)], histogram: &Histogram) {
        let mut counts: Vec<_> = histogram.counts.iter().map(|count| count.load(Relaxed)).collect();
        let within: u64 = counts.iter().sum();
        counts.push(histogram.count.load(Relaxed).saturating_sub(within));
        let buckets = Buckets { bounds: histogram.bounds, counts };
        self.sample(Kind::Histogram, name, labels, histogram.sum.load(Relaxed) as f64, Some(buckets));
    }

    /// Samples with the same labels are summed: a component in several pipelines reports once for each.
    fn sample(&mut self, kind: Kind, name: &str, labels: &[(&str, &str)], value: f64, buckets: Option<Buckets>) {
        let labels: Vec<_> = labels.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect();
        let (_, samples) = self.families.entry(name.to_owned()).or_insert((kind, Vec::new()));
        let Some(known) = samples.iter_mut().find(|known| known.labels == labels) else {
            samples.push(Sample { labels, value, buckets });
            return;
        };
        known.value += value;
        if let (Some(known), Some(more)) = (&mut known.buckets, buckets) {
            known.counts.iter_mut().zip(more.counts).for_each(|(known, more)| *known += more);
        }
    }

    pub fn text(&self) -> String {
        let mut out = String::new();
        for (name, (kind, samples)) in &self.families {
            let kind = match kind {
                Kind::Counter | Kind::Seconds => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            // Writing to a String cannot fail.
            let _ = writeln!(out, "# HELP {name} {}\n# TYPE {name} {kind}", help(name));
            samples.iter().for_each(|sample| sample.write(name, &mut out));
        }
        out
    }
}

impl Sample {
    fn write(&self, name: &str, out: &mut String) {
        let Some(Buckets { bounds, counts }) = &self.buckets else { return self.line(name, "", None, self.value, out) };
        let bounds = bounds.iter().map(u64::to_string).chain(["+Inf".to_owned()]);
        let mut below = 0;
        for (bound, count) in bounds.zip(counts) {
            below += count;
            self.line(name, "_bucket", Some(&bound), below as f64, out);
        }
        self.line(name, "_sum", None, self.value, out);
        self.line(name, "_count", None, below as f64, out);
    }

    fn line(&self, name: &str, suffix: &str, bound: Option<&str>, value: f64, out: &mut String) {
        let _ = write!(out, "{name}{suffix}");
        let labels = self.labels.iter().map(|(label, value)| (label.as_str(), value.as_str()));
        let mut open = '{';
        for (label, value) in labels.chain(bound.map(|bound| ("le", bound))) {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(out, "{open}{label}=\"{value}\"");
            open = ',';
        }
        let _ = writeln!(out, "{} {value}", if open == ',' { "}" } else { "" });
    }
}

/// The help text of a family.
pub(super) fn help(name: &str) -> String {
    name.trim_start_matches("otelcol_").replace('_', " ")
}

/// A histogram of values by upper bound.
pub(crate) struct Histogram {
    bounds: &'static [u64],
    counts: Vec<AtomicU64>,
    sum: AtomicU64,
    count: AtomicU64,
}

impl Histogram {
    pub(crate) fn new(bounds: &'static [u64]) -> Histogram {
        let counts = bounds.iter().map(|_| AtomicU64::new(0)).collect();
        Histogram { bounds, counts, sum: AtomicU64::new(0), count: AtomicU64::new(0) }
    }

    pub(crate) fn record(&self, value: u64) {
        let bucket = self.bounds.iter().position(|bound| value <= *bound).and_then(|bucket| self.counts.get(bucket));
        if let Some(bucket) = bucket {
            bucket.fetch_add(1, Relaxed);
        }
        self.sum.fetch_add(value, Relaxed);
        self.count.fetch_add(1, Relaxed);
    }
}
