//! Self-metrics in the Prometheus text format, under the Go collector's names.
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
    families: BTreeMap<String, (&'static str, Vec<(String, f64)>)>,
}

impl Page {
    pub fn counter(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        self.sample("counter", name, "", labels, value as f64);
    }

    /// A counter of a fractional value, like seconds.
    pub(super) fn counter_of(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.sample("counter", name, "", labels, value);
    }

    pub(crate) fn gauge(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.sample("gauge", name, "", labels, value);
    }

    pub(crate) fn histogram(&mut self, name: &str, labels: &[(&str, &str)], histogram: &Histogram) {
        let mut below = 0;
        let mut bucket = |bound: &str, count: u64| {
            let labels: Vec<_> = labels.iter().copied().chain([("le", bound)]).collect();
            self.sample("histogram", name, "_bucket", &labels, count as f64);
        };
        for (bound, count) in histogram.bounds.iter().zip(&histogram.counts) {
            below += count.load(Relaxed);
            bucket(&bound.to_string(), below);
        }
        let count = histogram.count.load(Relaxed);
        bucket("+Inf", count);
        self.sample("histogram", name, "_sum", labels, histogram.sum.load(Relaxed) as f64);
        self.sample("histogram", name, "_count", labels, count as f64);
    }

    /// Samples with the same labels are summed: a component in several pipelines reports once for each.
    fn sample(&mut self, kind: &'static str, name: &str, suffix: &str, labels: &[(&str, &str)], value: f64) {
        let mut series = format!("{name}{suffix}");
        for (index, (label, value)) in labels.iter().enumerate() {
            let open = if index == 0 { '{' } else { ',' };
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            // Writing to a String cannot fail.
            let _ = write!(series, "{open}{label}=\"{value}\"");
        }
        series.push_str(if labels.is_empty() { "" } else { "}" });
        let (_, samples) = self.families.entry(name.to_owned()).or_insert((kind, Vec::new()));
        match samples.iter_mut().find(|(known, _)| *known == series) {
            Some((_, sum)) => *sum += value,
            None => samples.push((series, value)),
        }
    }

    pub fn text(&self) -> String {
        let mut out = String::new();
        for (name, (kind, samples)) in &self.families {
            let _ = writeln!(out, "# HELP {name} {}\n# TYPE {name} {kind}", help(name));
            samples.iter().for_each(|(series, value)| _ = writeln!(out, "{series} {value}"));
        }
        out
    }
}

/// The help text of a family.
fn help(name: &str) -> String {
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
