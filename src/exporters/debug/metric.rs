//! A data point as a line: its type, value and unit; for a counter its rate; for a distribution its count, mean and
//! percentiles, which are estimated from its buckets. `detailed` shows the buckets.

use std::sync::Arc;

use super::layout::{Tone, word, words};
use super::line::{Line, put_attributes};
use super::rates::Rates;
use super::text::Text;
use crate::otlp::number;
use crate::otlp::views::metrics::{Buckets, DataPoints, DataType, Metric, Number, Point, Quantile};

const PERCENTILES: [f64; 3] = [50.0, 95.0, 99.0];

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
    let (name, unit) = (word(columns, metric.name), word(12, metric.unit));
    // `1` and `{request}` only annotate a number.
    let unit = if unit == "1" || unit.starts_with('{') { String::new() } else { unit };
    let DataPoints { points, temporality, is_monotonic } = metric.data.read();
    for point in points {
        let point = Point::read(metric.data.0, point);
        let counted = match (metric.data.0, point.value) {
            (DataType::Sum, Some(Number::Int(value))) if is_monotonic => Some(value as f64),
            (DataType::Sum, Some(Number::Double(value))) if is_monotonic => Some(value),
            (DataType::Histogram | DataType::ExponentialHistogram, _) => Some(point.count as f64),
            _ => None,
        };
        let rate = counted.and_then(|value| rates.rate(service, metric.name, &point, temporality, value));
        let words = words(columns, |text| {
            text.raw(&name);
            text.raw("  ");
            match point.value {
                Some(Number::Int(value)) => number::put_int(text.to.out, value),
                Some(Number::Double(value)) => text.raw(&rounded(value, 6)),
                None => distribution(text, metric.data.0, &point),
            }
            if !unit.is_empty() {
                text.raw(" ");
                text.raw(&unit);
            }
            if let Some(rate) = rate {
                // The rate of a distribution is that of its count.
                let of = if point.value.is_some() && !unit.is_empty() { format!(" {unit}") } else { String::new() };
                text.raw(&format!("  {}{of}/s", rounded(rate, 3)));
            }
            put_attributes(text, point.attributes.clone(), false, columns);
        });
        let (service, words, trace) = (service.clone(), words.into(), [].into());
        if !put(Line { time: point.time, kind: kind.into(), tone: Tone::Plain, service, words, trace }) {
            return;
        }
    }
}

/// `count=6 mean=250 p50=12.5 p95=900 p99=1000`
fn distribution(text: &mut Text<'_, '_>, kind: DataType, point: &Point<'_>) {
    text.raw(&format!("count={}", point.count));
    if let Some(sum) = point.sum.filter(|_| point.count > 0) {
        text.raw(&format!(" mean={}", rounded(sum / point.count as f64, 3)));
    }
    let shown = percentiles(kind, point);
    for (percent, value) in &shown {
        text.raw(&format!(" p{}{value}", rounded(*percent, 6)));
    }
    // Without buckets there is at least this.
    if shown.is_empty() {
        for (label, value) in [("min", point.min), ("max", point.max)] {
            value.into_iter().for_each(|value| text.raw(&format!(" {label}={}", rounded(value, 6))));
        }
    }
}

fn percentiles(kind: DataType, point: &Point<'_>) -> Vec<(f64, String)> {
    match kind {
        DataType::Summary => {
            let quantiles = point.quantiles.clone().take(PERCENTILES.len() + 2).map(Quantile::read);
            quantiles
                .map(|Quantile { quantile, value }| (quantile * 100.0, format!("={}", rounded(value, 3))))
                .collect()
        }
        DataType::Histogram if point.explicit_bounds.doubles().next().is_some() => {
            let counts = || point.bucket_counts.fixed64s().map(|count| (0, count));
            estimated(counts, &|index, _| {
                let bound = |index: usize| point.explicit_bounds.doubles().nth(index);
                let (low, high) = (index.checked_sub(1).and_then(bound), bound(index));
                // The first and the last bucket are open: they end at the least and the greatest value.
                let first = point.min.or(high.map(|high| high.min(0.0)));
                (low.or(first).unwrap_or_default(), high.or(point.max))
            })
        }
        DataType::ExponentialHistogram => {
            let (negative, positive) = (Buckets::read(&point.negative), Buckets::read(&point.positive));
            let counts = || {
                let below = negative.counts.varints_reversed().map(|(index, count)| (-1 - index as i64, count));
                let above = positive.counts.varints().enumerate().map(|(index, count)| (1 + index as i64, count));
                below.chain([(0, point.zero_count)]).chain(above)
            };
            estimated(counts, &|_, place| match place {
                0 => (0.0, Some(0.0)),
                1.. => {
                    let index = place as usize - 1;
                    (positive.bound(index, point.scale), Some(positive.bound(index + 1, point.scale)))
                }
                _ => {
                    let index = place.unsigned_abs() as usize - 1;
                    (-negative.bound(index + 1, point.scale), Some(-negative.bound(index, point.scale)))
                }
            })
        }
        _ => Vec::new(),
    }
}

/// The percentiles of buckets in ascending order, interpolated within the bucket that has them. `bounds` knows a bucket
/// by its index and its place; the last bucket of a histogram may have no upper one, and then `>1000` is known.
fn estimated<I: Iterator<Item = (i64, u64)>>(
    buckets: impl Fn() -> I,
    bounds: &dyn Fn(usize, i64) -> (f64, Option<f64>),
) -> Vec<(f64, String)> {
    let total: f64 = buckets().map(|(_, count)| count as f64).sum();
    let (mut out, mut below) = (Vec::new(), 0.0);
    if total == 0.0 {
        return out;
    }
    for (index, (place, count)) in buckets().enumerate().filter(|(_, (_, count))| *count > 0) {
        while let Some(percent) =
            PERCENTILES.get(out.len()).filter(|percent| below + count as f64 >= *percent / 100.0 * total)
        {
            let part = (percent / 100.0 * total - below) / count as f64;
            let text = match bounds(index, place) {
                (low, Some(high)) => format!("={}", rounded(low + (high - low) * part, 3)),
                (low, None) => format!(">{}", rounded(low, 3)),
            };
            out.push((*percent, text));
        }
        below += count as f64;
    }
    out
}

/// At least the digits before the point, and this many significant ones: `0.15`, `0.333`, `1234567`.
fn rounded(value: f64, significant: i32) -> String {
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
