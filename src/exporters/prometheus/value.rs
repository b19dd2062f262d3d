//! The value of a series, taken from data points: the last one, or the sum of deltas.

use std::cmp::Ordering;

use crate::order::Ordered;
use crate::otlp::views::Repeated;
use crate::otlp::views::metrics::{Buckets, DataType, Exemplar, Number, Point, Quantile};

/// OTLP's numbers for temporalities.
pub(super) const DELTA: i32 = 1;
pub(super) const CUMULATIVE: i32 = 2;

/// Maximum buckets of a histogram, and quantiles of a summary.
const MOST_LINES: usize = 4096;
/// The scales that Prometheus has, downwards; higher ones are reduced.
const LOWEST_SCALE: i32 = -4;

#[derive(Debug)]
pub(super) enum Value {
    Number(Option<Number>),
    Histogram(Box<Histogram>),
    Exponential(Exponential),
    Summary(Box<Summary>),
}

#[derive(Debug)]
pub(super) struct Histogram {
    pub(super) count: u64,
    pub(super) sum: f64,
    pub(super) bounds: Box<[f64]>,
    /// Of each bucket alone.
    pub(super) counts: Box<[u64]>,
}

/// The text formats have no buckets for it.
#[derive(Debug)]
pub(super) struct Exponential {
    pub(super) count: u64,
    pub(super) sum: Option<f64>,
}

#[derive(Debug)]
pub(super) struct Summary {
    pub(super) count: u64,
    pub(super) sum: f64,
    /// In order.
    pub(super) quantiles: Box<[(f64, f64)]>,
}

/// An example with the trace it comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Example {
    pub(super) value: f64,
    pub(super) time: u64,
    pub(super) trace_id: [u8; 16],
    pub(super) span_id: [u8; 8],
}

/// What a series remembers of its points.
#[derive(Debug)]
pub(super) struct Last {
    pub(super) start: u64,
    pub(super) time: u64,
    pub(super) value: Value,
    pub(super) examples: Box<[Example]>,
}

/// Why a point is not taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Untaken {
    /// Older than the series, or a delta that overlaps it.
    Late,
    /// It has no such form in Prometheus.
    Foreign,
    TooLarge,
}

impl Last {
    /// The values of a first point.
    pub(super) fn of(point: &Point<'_>, data_type: DataType, has_examples: bool) -> Result<Last, Untaken> {
        let value = match data_type {
            DataType::Empty => return Err(Untaken::Foreign),
            _ if point.explicit_bounds.doubles().nth(MOST_LINES).is_some() => return Err(Untaken::TooLarge),
            _ if point.bucket_counts.fixed64s().nth(MOST_LINES).is_some() => return Err(Untaken::TooLarge),
            _ if point.quantiles.len() > MOST_LINES => return Err(Untaken::TooLarge),
            DataType::Gauge | DataType::Sum => Value::Number(point.value),
            DataType::Histogram => Value::Histogram(Box::new(Histogram {
                count: point.count,
                sum: point.sum.unwrap_or(0.0),
                bounds: point.explicit_bounds.doubles().collect(),
                counts: point.bucket_counts.fixed64s().collect(),
            })),
            DataType::ExponentialHistogram => Value::Exponential(exponential(point)?),
            DataType::Summary => Value::Summary(Box::new(Summary {
                count: point.count,
                sum: point.sum.unwrap_or(0.0),
                quantiles: quantiles(point.quantiles.clone()),
            })),
        };
        let examples = if has_examples { examples(point, &value) } else { Box::default() };
        Ok(Last { start: point.start, time: point.time, value, examples })
    }

    /// The values after another point.
    pub(super) fn then(&self, point: &Point<'_>, temporality: i32, mut next: Last) -> Result<Last, Untaken> {
        let is_distribution = matches!(self.value, Value::Histogram(_) | Value::Exponential(_));
        match (temporality, is_distribution) {
            (DELTA, true) if point.start < self.time => return Err(Untaken::Late),
            (DELTA, true) | (CUMULATIVE, _) => {}
            (_, true) => return Err(Untaken::Foreign),
            (_, false) => {}
        }
        if point.time < self.time && !(is_distribution && temporality == DELTA) {
            return Err(Untaken::Late);
        }
        if temporality == DELTA && point.start == self.time {
            next.value.add(&self.value);
            next.start = self.start;
            next.time = next.time.max(self.time);
        }
        Ok(next)
    }

    /// Memory beside the struct itself.
    pub(super) fn bytes(&self) -> usize {
        let value = match &self.value {
            Value::Number(_) | Value::Exponential(_) => 0,
            Value::Histogram(histogram) => {
                size_of::<Histogram>() + 8 * (histogram.bounds.len() + histogram.counts.len())
            }
            Value::Summary(summary) => size_of::<Summary>() + size_of_val(&*summary.quantiles),
        };
        value + size_of_val(&*self.examples)
    }

    /// The number of lines of its text.
    pub(super) fn lines(&self) -> usize {
        match &self.value {
            Value::Number(_) => 1,
            Value::Exponential(_) => 3,
            Value::Histogram(histogram) => 3 + histogram.bounds.len(),
            Value::Summary(summary) => 2 + summary.quantiles.len(),
        }
    }
}

impl Value {
    /// Adds the sum of earlier deltas to a new one.
    fn add(&mut self, earlier: &Value) {
        match (self, earlier) {
            (Value::Number(Some(Number::Int(value))), Value::Number(Some(Number::Int(more)))) => {
                *value = value.wrapping_add(*more);
            }
            (Value::Number(Some(Number::Double(value))), Value::Number(Some(Number::Double(more)))) => *value += more,
            (Value::Histogram(histogram), Value::Histogram(more)) if histogram.bounds == more.bounds => {
                histogram.count = histogram.count.wrapping_add(more.count);
                histogram.sum += more.sum;
                for (count, more) in histogram.counts.iter_mut().zip(&more.counts) {
                    *count = count.wrapping_add(*more);
                }
            }
            (Value::Exponential(histogram), Value::Exponential(more)) => {
                histogram.count = histogram.count.wrapping_add(more.count);
                histogram.sum = histogram.sum.zip(more.sum).map(|(sum, more)| sum + more);
            }
            // Numbers of another kind, or buckets with other bounds: it starts anew.
            _ => {}
        }
    }
}

/// Refuses what Prometheus would call an invalid histogram.
fn exponential(point: &Point<'_>) -> Result<Exponential, Untaken> {
    let of_side = |side: &[u8]| Buckets::read(side).counts.varints().fold(0, u64::wrapping_add);
    let in_buckets = point.zero_count.wrapping_add(of_side(&point.positive)).wrapping_add(of_side(&point.negative));
    let is_whole = match point.sum {
        Some(sum) if sum.is_nan() => in_buckets <= point.count,
        _ => in_buckets == point.count,
    };
    match is_whole && point.scale.0 >= LOWEST_SCALE {
        true => Ok(Exponential { count: point.count, sum: point.sum }),
        false => Err(Untaken::Foreign),
    }
}

/// In order; of equal ones the last counts.
fn quantiles(all: Repeated<'_>) -> Box<[(f64, f64)]> {
    let mut quantiles: Vec<(f64, f64)> = all.map(Quantile::read).map(|one| (one.quantile, one.value)).collect();
    quantiles.reverse();
    quantiles.order_by(|one, other| one.0.total_cmp(&other.0));
    quantiles.dedup_by(|next, kept| next.0 == kept.0);
    quantiles.into()
}

/// The last example of a counter, or of each bucket of a histogram.
fn examples(point: &Point<'_>, value: &Value) -> Box<[Example]> {
    let read = |message| {
        let exemplar = Exemplar::read(message);
        Example {
            value: exemplar.value.map_or(0.0, Number::double),
            time: exemplar.time,
            trace_id: exemplar.trace_id.try_into().unwrap_or_default(),
            span_id: exemplar.span_id.try_into().unwrap_or_default(),
        }
    };
    let all = point.exemplars.clone();
    match value {
        Value::Number(_) => all.last().map(read).into_iter().collect(),
        Value::Histogram(histogram) => {
            let mut kept: Vec<(usize, Example)> = Vec::new();
            let mut bounds = histogram.bounds.to_vec();
            bounds.order_by(f64::total_cmp);
            for example in all.map(read) {
                let bucket =
                    bounds.partition_point(|bound| !bound.partial_cmp(&example.value).is_some_and(Ordering::is_ge));
                match kept.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
                    Ok(at) => kept.iter_mut().skip(at).take(1).for_each(|kept| kept.1 = example),
                    Err(at) => kept.insert(at, (bucket, example)),
                }
            }
            kept.into_iter().map(|(_, example)| example).collect()
        }
        Value::Exponential(_) | Value::Summary(_) => Box::default(),
    }
}
