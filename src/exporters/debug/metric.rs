//! A data point as a line: its type, value and unit; for a counter its rate; for a distribution its count, mean and
//! percentiles, which are estimated from its buckets. `detailed` shows the buckets.

use std::sync::Arc;

use super::buckets::{Estimate, percentiles};
use super::layout::{LONGEST, Tone, word, words};
use super::line::{Line, put_attributes};
use super::rates::Rates;
use super::text::Text;
use super::unit::{Unit, separated};
use crate::otlp::number;
use crate::otlp::views::metrics::{DataPoints, DataType, Metric, Point};

/// Makes a line for each data point, until `put` returns false.
pub(super) fn lines(
    message: &[u8],
    service: &Arc<str>,
    columns: usize,
    rates: &mut Rates,
    put: &mut dyn FnMut(Line) -> bool,
) {
    let metric = Metric::read(message);
    let kind = match metric.data.0 {
        DataType::Empty => "metric",
        DataType::Gauge => "gauge",
        DataType::Sum => "sum",
        DataType::Histogram | DataType::ExponentialHistogram => "histo",
        DataType::Summary => "summar",
    };
    let (name, unit) = (word(columns, metric.name), Unit::of(metric.unit));
    let DataPoints { points, temporality, is_monotonic } = metric.data.read();
    let shape = Shape { kind: metric.data.0, temporality, is_monotonic };
    for point in points {
        let point = Point::read(shape.kind, point);
        let rate = shape.rate(rates, service, metric.name, &point);
        let words = words(columns, |text| {
            text.raw(&name);
            text.raw("  ");
            put_value(text, shape.kind, &unit, &point, rate);
            put_attributes(text, point.attributes.clone(), false, columns);
        });
        let (service, words, trace) = (service.clone(), words.into(), [].into());
        if !put(Line { time: point.time, kind: kind.into(), tone: Tone::Plain, service, words, trace }) {
            return;
        }
    }
}

/// What the data points of a metric have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Shape {
    pub(crate) kind: DataType,
    /// The number in OTLP.
    pub(crate) temporality: i32,
    pub(crate) is_monotonic: bool,
}

impl Shape {
    /// The increase per second of a counter, or of the count of a distribution.
    pub(crate) fn rate(self, rates: &mut Rates, service: &str, name: &[u8], point: &Point<'_>) -> Option<f64> {
        let counted = match (self.kind, point.value) {
            (DataType::Sum, Some(value)) if self.is_monotonic => value.double(),
            (DataType::Histogram | DataType::ExponentialHistogram, _) => point.count as f64,
            _ => return None,
        };
        rates.rate(service, name, point, self.temporality, counted)
    }
}

/// The value of a data point, as on its line.
pub(crate) fn value(kind: DataType, unit: &Unit, point: &Point<'_>, rate: Option<f64>) -> String {
    words(LONGEST, |text| put_value(text, kind, unit, point, rate))
}

fn put_value(text: &mut Text<'_, '_>, kind: DataType, unit: &Unit, point: &Point<'_>, rate: Option<f64>) {
    match point.value {
        Some(value) => text.raw(&unit.exact(value)),
        None => distribution(text, kind, unit, point),
    }
    text.raw(&unit.word);
    if let Some(rate) = rate {
        // The rate of a distribution is that of its count.
        let count = Unit::of(b"");
        let of = if point.value.is_some() { unit } else { &count };
        text.raw(&format!("  {}{}/s", of.number(rate, 3), of.word));
    }
}

/// `count=6 mean=250 ms p50=12.5 ms p95=900 ms p99=1 s`
fn distribution(text: &mut Text<'_, '_>, kind: DataType, unit: &Unit, point: &Point<'_>) {
    text.raw(&format!("count={}", separated(&point.count.to_string())));
    if let Some(sum) = point.sum.filter(|_| point.count > 0) {
        text.raw(&format!(" mean={}", unit.number(sum / point.count as f64, 3)));
    }
    let shown = percentiles(kind, point);
    for Estimate { percent, value, bound } in &shown {
        text.raw(&format!(" p{}{}{}", rounded(*percent, 6), bound.sign(), unit.number(*value, 3)));
    }
    // Without buckets there is at least this.
    if shown.is_empty() {
        for (label, value) in [("min", point.min), ("max", point.max)] {
            value.into_iter().for_each(|value| text.raw(&format!(" {label}={}", unit.number(value, 6))));
        }
    }
}

/// At least the digits before the point, and this many significant ones: `0.15`, `0.333`, `1234567`.
pub(crate) fn rounded(value: f64, significant: i32) -> String {
    let digits = value.abs().log10().floor();
    let is_plain = value.is_finite() && (-5.0..15.0).contains(&digits);
    if !is_plain {
        let mut out = Vec::new();
        number::put_double(&mut out, value);
        return String::from_utf8_lossy(&out).into_owned();
    }
    let decimals = usize::try_from(significant - 1 - digits as i32).unwrap_or_default();
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}
