//! Functions that aggregate points: points with equal attributes, times and other fields except the value become one.
//! The first of them is kept, with the aggregated value.

use std::collections::HashMap;

use super::metrics::{DELTA, data_type, of_metrics};
use super::{fixed_or, longest, optional, required, too_large, within_bounds};
use crate::order::Ordered;
use crate::otlp::message::Message;
use crate::otlp::schema::{buckets, exponential_point, histogram_point, list, metric, metric_data, number_point};
use crate::otlp::views::metrics::{Buckets, DataType, Number, Point};
use crate::otlp::views::{AnyValue, KeyValue};
use crate::otlp::wire::{Field, Fields, Value as Wire, put_bytes, put_fixed64, put_uint, put_varint, zigzag};
use crate::ottl::function::{Arguments, Function, Kind, Parameter};
use crate::ottl::scene::Scene;
use crate::ottl::value::{Fault, Value};

const FUNCTION: Parameter = required("aggregation_function", Kind::FixedText);

pub(super) const TABLE: &[Function] = &[
    of_metrics("aggregate_on_attributes", &[FUNCTION, optional("attributes", Kind::FixedTexts)], |arguments, scene| {
        let is_kept = |key| !arguments.is_given(1) || arguments.fixed_texts(1).any(|kept| kept == key);
        aggregate(arguments, scene, |field, pair, out| {
            out.extend_from_slice(if is_kept(pair.key) { field.raw } else { &[] });
        })
    })
    .checked(|arguments| aggregation(arguments).map(drop)),
    of_metrics(
        "aggregate_on_attribute_value",
        &[
            FUNCTION,
            required("attribute", Kind::FixedText),
            required("values", Kind::FixedTexts),
            required("new_value", Kind::FixedText),
        ],
        |arguments, scene| {
            let (key, new) = (fixed_or(arguments, 1, ""), fixed_or(arguments, 3, ""));
            aggregate(arguments, scene, |field, pair, out| {
                let text = if let AnyValue::String(text) = pair.value { text } else { &[] };
                if pair.key != key || !arguments.fixed_texts(2).any(|value| value == text) {
                    return out.extend_from_slice(field.raw);
                }
                Value::String(new).put_pair(out, field.number, key);
            })
        },
    )
    .checked(|arguments| aggregation(arguments).map(drop)),
];

#[derive(Clone, Copy)]
enum Aggregation {
    Sum,
    Mean,
    Min,
    Max,
    Median,
    Count,
}

fn aggregation(arguments: &Arguments) -> Result<Aggregation, String> {
    Ok(match fixed_or(arguments, 0, "") {
        b"sum" => Aggregation::Sum,
        b"mean" => Aggregation::Mean,
        b"min" => Aggregation::Min,
        b"max" => Aggregation::Max,
        b"median" => Aggregation::Median,
        b"count" => Aggregation::Count,
        other => {
            let other = String::from_utf8_lossy(other);
            return Err(format!(
                "invalid aggregation function: '{other}', valid options: sum, mean, min, max, median, count"
            ));
        }
    })
}

/// Merges the points of the current metric, after `edit` has reduced their attributes.
fn aggregate<'a>(
    arguments: &Arguments,
    scene: &mut Scene<'_, 'a>,
    edit: impl Fn(&Field<'a>, KeyValue<'a>, &mut Vec<u8>),
) -> Result<Value<'a>, Fault> {
    let (data_type, attributes) = (data_type(scene), scene.sight.point_attributes());
    let by = aggregation(arguments).map_err(Fault::new)?;
    if data_type == DataType::Summary {
        return Err(Fault::new("aggregating Summary metrics is not supported"));
    }
    let is_delta = scene.sight.data.bits(metric_data::AGGREGATION_TEMPORALITY) == DELTA;
    let (mut groups, mut points) = (HashMap::<&[u8], usize>::new(), Vec::<(usize, &[u8])>::new());
    let (mut point, mut key, mut out) = (Vec::new(), Vec::new(), Vec::new());
    for payload in scene.sight.data.payloads(metric_data::POINTS) {
        point.clear();
        key.clear();
        for field in Fields::new(payload) {
            match field.value {
                Wire::Bytes(pair) if field.number == attributes => edit(&field, KeyValue::read(pair), &mut point),
                _ => point.extend_from_slice(field.raw),
            }
        }
        put_key(&mut key, data_type, &point, is_delta);
        let count = groups.len();
        let group = match groups.get(key.as_slice()) {
            Some(group) => *group,
            None => *groups.entry(scene.arena.keep(&key)?).or_insert(count),
        };
        points.push((group, if point == payload { payload } else { scene.arena.keep(&point)? }));
    }
    points.order_by_key(|(group, _)| *group);
    for group in points.chunk_by(|(one, _), (other, _)| one == other) {
        point.clear();
        match (group, data_type) {
            ([(_, only)], _) => point.extend_from_slice(only),
            (_, DataType::Gauge | DataType::Sum) => merge_numbers(by, group, &mut point),
            _ => merge_histograms(data_type, group, &mut point)?,
        }
        put_bytes(&mut out, metric_data::POINTS, &point);
        within_bounds(&point)?;
    }
    scene.sight.record.remove(metric::METADATA);
    scene.sight.data.remove(metric_data::POINTS);
    scene.sight.data.append(scene.arena.keep(&out)?);
    Ok(Value::Nil)
}

/// Writes the grouping key of a point.
fn put_key(key: &mut Vec<u8>, data_type: DataType, message: &[u8], is_delta: bool) {
    let (point, mut attributes) = (Point::read(data_type, message), Vec::new());
    point.attributes.for_each(|pair| put_bytes(&mut attributes, list::VALUES, pair));
    // As JSON, where keys are sorted and 1 equals 1.0.
    Value::Map(&attributes).put_as_string(key);
    const _: () = assert!(histogram_point::FLAGS == exponential_point::FLAGS);
    let flags = match data_type {
        DataType::Histogram | DataType::ExponentialHistogram => Message::of(message).bits(histogram_point::FLAGS),
        _ => 0,
    };
    let extremes = u64::from(point.min.is_some()) << 1 | u64::from(point.max.is_some());
    let numbers = [point.time, if is_delta { point.start } else { 0 }, flags, extremes, point.scale.0 as u64];
    let numbers = numbers.into_iter().chain(point.explicit_bounds.fixed64s());
    numbers.for_each(|number| key.extend_from_slice(&number.to_le_bytes()));
}

/// Writes the first point except some of its fields.
fn put_first(out: &mut Vec<u8>, group: &[(usize, &[u8])], without: &[u32]) {
    let fields = group.iter().take(1).flat_map(|(_, point)| Fields::new(point));
    fields.filter(|field| !without.contains(&field.number)).for_each(|field| out.extend_from_slice(field.raw));
}

/// The result has the type of the first point's value; a first point without a value stays unchanged.
fn merge_numbers(by: Aggregation, group: &[(usize, &[u8])], out: &mut Vec<u8>) {
    let points = || group.iter().map(|(_, message)| Point::read(DataType::Gauge, message));
    let (number, bits) = match points().next().and_then(|first| first.value) {
        Some(Number::Double(_)) => {
            let values = points().map(|point| match point.value {
                Some(Number::Double(value)) => value,
                Some(Number::Int(value)) => value as f64,
                None => 0.0,
            });
            (number_point::AS_DOUBLE, of_doubles(by, values).to_bits())
        }
        Some(Number::Int(_)) => {
            let values = points().map(|point| match point.value {
                Some(Number::Int(value)) => value,
                // For a double among integers, the Go collector uses 0 in sums and means, and its integer part
                // elsewhere.
                Some(Number::Double(value)) if !matches!(by, Aggregation::Sum | Aggregation::Mean) => value as i64,
                _ => 0,
            });
            (number_point::AS_INT, of_ints(by, values) as u64)
        }
        None => return put_first(out, group, &[]),
    };
    put_first(out, group, &[number_point::START, number_point::AS_DOUBLE, number_point::AS_INT]);
    put_fixed64(out, number_point::START, points().map(|point| point.start).min().unwrap_or(0));
    put_fixed64(out, number, bits);
}

fn of_doubles(by: Aggregation, values: impl Iterator<Item = f64>) -> f64 {
    // As in Go, a NaN makes the result NaN, unless another value is infinite.
    let larger = |one: f64, other: f64| match (one, other) {
        (f64::INFINITY, _) | (_, f64::INFINITY) => f64::INFINITY,
        _ if one.is_nan() || other.is_nan() => f64::NAN,
        _ => one.max(other),
    };
    let mut values: Vec<f64> = values.collect();
    let sum = |values: Vec<f64>| values.into_iter().reduce(|sum, value| sum + value).unwrap_or(0.0);
    let count = values.len();
    match by {
        Aggregation::Sum => sum(values),
        Aggregation::Mean => sum(values) / count as f64,
        Aggregation::Min => -values.into_iter().map(|value| -value).reduce(larger).unwrap_or(0.0),
        Aggregation::Max => values.into_iter().reduce(larger).unwrap_or(0.0),
        Aggregation::Count => count as f64,
        Aggregation::Median => {
            values.order_by(|one, other| other.is_nan().cmp(&one.is_nan()).then(one.total_cmp(other)));
            match middle(&values) {
                [one, other] => (one + other) / 2.0,
                rest => rest.iter().sum(),
            }
        }
    }
}

fn of_ints(by: Aggregation, values: impl Iterator<Item = i64>) -> i64 {
    let mut values: Vec<i64> = values.collect();
    let (sum, count) =
        (|values: &[i64]| values.iter().fold(0, |sum: i64, value| sum.wrapping_add(*value)), values.len());
    match by {
        Aggregation::Sum => sum(&values),
        Aggregation::Mean => sum(&values) / count.max(1) as i64,
        Aggregation::Min => values.into_iter().min().unwrap_or(0),
        Aggregation::Max => values.into_iter().max().unwrap_or(0),
        Aggregation::Count => count as i64,
        Aggregation::Median => {
            values.sort_unstable();
            let middle = middle(&values);
            sum(middle) / middle.len().max(1) as i64
        }
    }
}

/// The one or two middle elements.
fn middle<T>(sorted: &[T]) -> &[T] {
    sorted.get(sorted.len().saturating_sub(1) / 2..=sorted.len() / 2).unwrap_or_default()
}

fn merge_histograms(data_type: DataType, group: &[(usize, &[u8])], out: &mut Vec<u8>) -> Result<(), Fault> {
    use {exponential_point as exponential, histogram_point as explicit};
    let is_explicit = data_type == DataType::Histogram;
    let [start, count, sum, min, max, exemplars] = match is_explicit {
        true => [explicit::START, explicit::COUNT, explicit::SUM, explicit::MIN, explicit::MAX, explicit::EXEMPLARS],
        false => [
            exponential::START,
            exponential::COUNT,
            exponential::SUM,
            exponential::MIN,
            exponential::MAX,
            exponential::EXEMPLARS,
        ],
    };
    let counts: &[u32] = match is_explicit {
        true => &[explicit::BUCKET_COUNTS],
        false => &[exponential::ZERO_COUNT, exponential::POSITIVE, exponential::NEGATIVE],
    };
    put_first(out, group, &[&[start, count, sum, min, max], counts].concat());
    let (mut buckets, mut positive, mut negative) = (Row::default(), Row::default(), Row::default());
    let mut merged: Option<Point> = None;
    for (_, message) in group {
        let point = Point::read(data_type, message);
        if merged.is_some() && point.count == 0 {
            continue;
        }
        buckets.add(0, point.bucket_counts.fixed64s())?;
        for (row, side) in [(&mut positive, &point.positive), (&mut negative, &point.negative)] {
            let side = Buckets::read(side);
            row.add(i64::from(side.offset.0), side.counts.varints())?;
        }
        let Some(merged) = &mut merged else {
            merged = Some(point);
            continue;
        };
        merged.start = merged.start.min(point.start);
        merged.count = merged.count.wrapping_add(point.count);
        merged.zero_count = merged.zero_count.wrapping_add(point.zero_count);
        merged.sum = Some(merged.sum.unwrap_or(0.0) + point.sum.unwrap_or(0.0));
        merged.min = merged.min.zip(point.min).map(|(one, other)| if one > other { other } else { one });
        merged.max = merged.max.zip(point.max).map(|(one, other)| if one < other { other } else { one });
        let fields = Fields::new(message).filter(|field| field.number == exemplars);
        fields.for_each(|field| out.extend_from_slice(field.raw));
    }
    let merged = merged.unwrap_or_default();
    put_fixed64(out, start, merged.start);
    put_fixed64(out, count, merged.count);
    for (number, value) in [(sum, merged.sum), (min, merged.min), (max, merged.max)] {
        value.into_iter().for_each(|value| put_fixed64(out, number, value.to_bits()));
    }
    if is_explicit {
        let counts: Vec<u8> = buckets.counts.into_iter().flat_map(u64::to_le_bytes).collect();
        put_bytes(out, explicit::BUCKET_COUNTS, &counts);
    } else {
        put_fixed64(out, exponential::ZERO_COUNT, merged.zero_count);
        put_bytes(out, exponential::POSITIVE, &positive.encoded());
        put_bytes(out, exponential::NEGATIVE, &negative.encoded());
    }
    Ok(())
}

/// The counts of adjacent buckets, starting at index `offset`.
#[derive(Default)]
struct Row {
    offset: i64,
    counts: Vec<u64>,
}

impl Row {
    /// Adds each count to the same bucket.
    fn add(&mut self, offset: i64, counts: impl Iterator<Item = u64>) -> Result<(), Fault> {
        let most = longest() / 8;
        let counts: Vec<u64> = counts.take(most).collect();
        if counts.is_empty() || self.counts.is_empty() {
            if self.counts.is_empty() {
                *self = Row { offset, counts };
            }
            return Ok(());
        }
        let first = self.offset.min(offset);
        let (before, at) = ((self.offset - first) as usize, (offset - first) as usize);
        let length = (before + self.counts.len()).max(at + counts.len());
        if length > most {
            return Err(too_large());
        }
        self.offset = first;
        self.counts.splice(..0, std::iter::repeat_n(0, before));
        self.counts.resize(length, 0);
        self.counts.iter_mut().skip(at).zip(counts).for_each(|(sum, count)| *sum = sum.wrapping_add(count));
        Ok(())
    }

    fn encoded(&self) -> Vec<u8> {
        let (mut out, mut packed) = (Vec::new(), Vec::new());
        self.counts.iter().for_each(|count| put_varint(&mut packed, *count));
        put_uint(&mut out, buckets::OFFSET, zigzag(self.offset as i32));
        put_bytes(&mut out, buckets::BUCKET_COUNTS, &packed);
        out
    }
}
