//! Functions on the buckets of histograms: percentiles, merged buckets, conversion from exponential to explicit bounds.

use super::casting::double;
use super::metrics::{add_metric, data_type, of_metrics, put_number_point};
use super::{fixed_or, one_of, optional, required, within_bounds};
use crate::otlp::message::Message;
use crate::otlp::number::{bucket_bound, put_general, times_power_of_two};
use crate::otlp::schema::{exponential_point, histogram_point, metric, metric_data};
use crate::otlp::views::metrics::{Buckets, DataType, Number, Point};
use crate::otlp::wire::{put_bytes, put_fixed64};
use crate::ottl::expression::Expression;
use crate::ottl::function::{Argument, Arguments, Function, Kind};
use crate::ottl::scene::Scene;
use crate::ottl::value::{Fault, Value};

pub(super) const TABLE: &[Function] = &[
    of_metrics(
        "convert_exponential_histogram_to_histogram",
        &[required("distribution_fn", Kind::FixedText), required("explicit_bounds", Kind::FixedNumbers)],
        to_explicit,
    )
    .checked(|arguments| {
        one_of(arguments, 0, &["", "upper", "midpoint", "random", "uniform"], |algorithm| {
            format!("invalid conversion function: {algorithm}, must be one of [upper, midpoint, random, uniform]")
        })?;
        match arguments.values(1).is_empty() {
            true => Err("explicit bounds cannot be empty: []".to_owned()),
            false => Ok(()),
        }
    }),
    of_metrics(
        "extract_percentile_metric",
        &[required("percentile", Kind::FixedNumber), optional("suffix", Kind::FixedText)],
        extract_percentile,
    )
    .checked(|arguments| match arguments.fixed_numbers(0).next().unwrap_or_default() {
        percentile if percentile > 0.0 && percentile < 100.0 => Ok(()),
        other => Err(format!("percentile must be greater than 0 and less than 100, got {other:.6}")),
    }),
    of_metrics(
        "merge_histogram_buckets",
        &[required("target_value", Kind::Value), optional("method", Kind::FixedText)],
        merge_buckets,
    )
    .only_in(&["datapoint"])
    .checked(|arguments| {
        one_of(arguments, 1, &[REMOVE, LIMIT], |method| {
            format!("unsupported method \"{method}\", expected \"{REMOVE}\" or \"{LIMIT}\"")
        })?;
        match arguments.0.first() {
            Some(Some(Argument::Value(Expression::Constant(target)))) => {
                bucket_target(arguments, target.value()).map(drop).map_err(|fault| fault.0.into_owned())
            }
            _ => Ok(()),
        }
    }),
];

const REMOVE: &str = "remove_explicit_bound";
const LIMIT: &str = "limit_buckets";

/// The bound to remove, or how many buckets may remain.
fn bucket_target(arguments: &Arguments, target: Value) -> Result<f64, Fault> {
    let target = double(target)?.ok_or_else(|| Fault::new("target_value must not be nil"))?;
    let is_count = target >= 1.0 && target.fract() == 0.0 && target <= i64::MAX as f64;
    if fixed_or(arguments, 1, REMOVE) == LIMIT.as_bytes() && !is_count {
        let message = format!("target_value must be a positive integer when method is \"{LIMIT}\", got {target}");
        return Err(Fault::new(message));
    }
    Ok(target)
}

fn merge_buckets<'a>(arguments: &'a Arguments, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
    if scene.sight.data_number != metric::HISTOGRAM {
        return Ok(Value::Nil);
    }
    let target = arguments.value(0, scene)?;
    let (target, mut raw) = (bucket_target(arguments, target)?, Vec::new());
    scene.sight.child.write(&mut raw);
    let point = Point::read(DataType::Histogram, &raw);
    let mut bounds: Vec<f64> = point.explicit_bounds.doubles().collect();
    let mut counts: Vec<u64> = point.bucket_counts.fixed64s().collect();
    if bounds.is_empty() || bounds.len() + 1 != counts.len() {
        return Ok(Value::Nil);
    }
    if fixed_or(arguments, 1, REMOVE) == REMOVE.as_bytes() {
        let found = bounds.iter().position(|bound| (bound - target).abs() < 1e-12);
        let Some(found) = found else { return Ok(Value::Nil) };
        bounds.remove(found);
        let count = counts.remove(found);
        counts.iter_mut().skip(found).take(1).for_each(|next| *next = next.wrapping_add(count));
    } else {
        let most = target as usize;
        if counts.len() <= most || !bounds.is_sorted_by(|one, other| one < other) {
            return Ok(Value::Nil);
        }
        let each = counts.len().div_ceil(most);
        let sum = |counts: &[u64]| counts.iter().fold(0, |sum: u64, count| sum.wrapping_add(*count));
        counts = counts.chunks(each).map(sum).collect();
        bounds = bounds.into_iter().skip(each - 1).step_by(each).collect();
    }
    raw.clear();
    put_buckets(&mut raw, &bounds, &counts);
    scene.sight.child.retain(|field| {
        field.number != histogram_point::EXPLICIT_BOUNDS && field.number != histogram_point::BUCKET_COUNTS
    });
    scene.sight.child.append(scene.arena.keep(&raw)?);
    Ok(Value::Nil)
}

fn put_buckets(out: &mut Vec<u8>, bounds: &[f64], counts: &[u64]) {
    let bounds: Vec<u8> = bounds.iter().flat_map(|bound| bound.to_le_bytes()).collect();
    let counts: Vec<u8> = counts.iter().flat_map(|count| count.to_le_bytes()).collect();
    put_bytes(out, histogram_point::BUCKET_COUNTS, &counts);
    put_bytes(out, histogram_point::EXPLICIT_BOUNDS, &bounds);
}

fn to_explicit<'a>(arguments: &'a Arguments, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
    if scene.sight.data_number != metric::EXPONENTIAL_HISTOGRAM {
        return Ok(Value::Nil);
    }
    let bounds: Vec<f64> = arguments.fixed_numbers(1).collect();
    let (mut points, mut raw) = (Vec::new(), Vec::new());
    for message in scene.sight.data.payloads(metric_data::POINTS) {
        let point = Point::read(DataType::ExponentialHistogram, message);
        raw.clear();
        put_fixed64(&mut raw, histogram_point::START, point.start);
        put_fixed64(&mut raw, histogram_point::TIME, point.time);
        put_fixed64(&mut raw, histogram_point::COUNT, point.count);
        let doubles =
            [(histogram_point::SUM, point.sum), (histogram_point::MIN, point.min), (histogram_point::MAX, point.max)];
        doubles.into_iter().for_each(|(number, value)| put_fixed64(&mut raw, number, value.unwrap_or(0.0).to_bits()));
        put_buckets(&mut raw, &bounds, &distributed(&point, &bounds, fixed_or(arguments, 0, "")));
        point.exemplars.for_each(|exemplar| put_bytes(&mut raw, histogram_point::EXEMPLARS, exemplar));
        point.attributes.for_each(|pair| put_bytes(&mut raw, histogram_point::ATTRIBUTES, pair));
        put_bytes(&mut points, metric_data::POINTS, &raw);
        within_bounds(&points)?;
    }
    scene.sight.record.remove(metric::METADATA);
    scene.sight.data.remove(metric_data::POINTS);
    scene.sight.data.append(scene.arena.keep(&points)?);
    scene.sight.data_number = metric::HISTOGRAM;
    Ok(Value::Nil)
}

/// The counts of the positive buckets for explicit bounds: one count per bound, as in the Go collector, without one for
/// values above the last bound.
fn distributed(point: &Point, bounds: &[f64], algorithm: &[u8]) -> Vec<u64> {
    let (mut counts, last) = (vec![0_u64; bounds.len()], bounds.len().saturating_sub(1));
    let mut add = |place: usize, count: u64| {
        counts.iter_mut().skip(place).take(1).for_each(|sum| *sum = sum.wrapping_add(count));
    };
    if bounds.first() == Some(&0.0) {
        add(0, point.zero_count);
    }
    let mut chance = point.time ^ point.count;
    let buckets = Buckets::read(&point.positive);
    for (position, count) in buckets.counts.varints().enumerate().filter(|(_, count)| *count > 0) {
        let index = buckets.offset.0.wrapping_add(position as i32);
        let [lower, upper] = [index, index.wrapping_add(1)].map(|index| bucket_bound(f64::from(index), point.scale.0));
        if bounds.last().is_some_and(|last| lower > *last) {
            add(last, count);
            continue;
        }
        let within = |pair: &[f64]| matches!(pair, [below, above] if lower > *below && upper <= *above);
        if let Some(place) = bounds.windows(2).position(within) {
            add(place, count);
            continue;
        }
        let first_at = |value: f64| bounds.iter().position(|bound| value <= *bound);
        match algorithm {
            b"upper" => add(first_at(upper).unwrap_or(last), count),
            b"midpoint" => add(first_at((upper + lower) / 2.0).map_or(last, |place| place.saturating_sub(1)), count),
            _ => {
                let start = first_at(lower).unwrap_or(last);
                let end = bounds.iter().skip(start).position(|bound| upper <= *bound).map_or(last, |more| start + more);
                let places = (end - start + 1) as u64;
                if algorithm == b"uniform" {
                    let share = |place: usize| count / places + u64::from(count % places > (place - start) as u64);
                    (start..=end).for_each(|place| add(place, share(place)));
                    continue;
                }
                // Most buckets cover a single target, and buckets out of range always do.
                if places == 1 {
                    add(start, count);
                    continue;
                }
                // Ever smaller shares, so that it ends soon however large the count is.
                let mut left = count;
                while left > 0 {
                    let share = (left / 64).max(1);
                    add(start + (random(&mut chance) % places) as usize, share);
                    left -= share;
                }
            }
        }
    }
    counts
}

/// SplitMix64: the distribution need not be unpredictable.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ *state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

fn extract_percentile<'a>(arguments: &'a Arguments, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
    let data_type = data_type(scene);
    let of: fn(&Point, &[u8], u64) -> Result<Option<f64>, Fault> = match data_type {
        DataType::Histogram => of_explicit,
        DataType::ExponentialHistogram => of_exponential,
        _ => return Ok(Value::Nil),
    };
    let (percentile, mut name, mut data) =
        (arguments.fixed_numbers(0).next().unwrap_or_default(), b"p".to_vec(), Vec::new());
    put_general(&mut name, percentile);
    for message in scene.sight.data.payloads(metric_data::POINTS) {
        let point = Point::read(data_type, message);
        let target = (point.count as f64 * (percentile / 100.0)).ceil() as u64;
        let value = if point.count == 0 { None } else { of(&point, message, target)? };
        value.into_iter().for_each(|value| put_number_point(&mut data, &point, Number::Double(value), None));
    }
    if data.is_empty() {
        return Ok(Value::Nil);
    }
    let suffix = match fixed_or(arguments, 1, "") {
        b"" => [b"_", name.as_slice()].concat(),
        suffix => suffix.to_vec(),
    };
    let description = match scene.sight.record.bytes(metric::DESCRIPTION) {
        b"" => name,
        description => [description, b" (", &name, b")"].concat(),
    };
    let unit = scene.sight.record.bytes(metric::UNIT);
    add_metric(scene, &suffix, &description, unit, metric::GAUGE, &data)
}

fn malformed(what: &str) -> Fault {
    Fault::new(format!("calculating histogram percentile: malformed data: {what}"))
}

const TOO_FEW: &str = "cumulative count doesn't reach target count corresponding to percentile";

/// The bucket of the value with that rank, and its position in it, from 0 to 1.
fn find(counts: impl Iterator<Item = (usize, u64)>, before: &mut u64, target: u64) -> Option<(usize, f64)> {
    for (index, count) in counts {
        let next = before.wrapping_add(count);
        if next >= target {
            return Some((index, target.wrapping_sub(*before) as f64 / count as f64));
        }
        *before = next;
    }
    None
}

/// Interpolates between two bounds.
fn between(lower: f64, upper: f64, ratio: f64) -> Result<Option<f64>, Fault> {
    if !(0.0..=1.0).contains(&ratio) {
        return Err(Fault::new(format!("interpolation: invalid ratio {ratio:.6}, must be between 0 and 1")));
    }
    Ok(Some(lower + ratio * (upper - lower)))
}

fn of_explicit(point: &Point, _: &[u8], target: u64) -> Result<Option<f64>, Fault> {
    let (mut bounds, mut counts) = (point.explicit_bounds.doubles(), point.bucket_counts.fixed64s().enumerate());
    let (bound_count, count_count) = (point.explicit_bounds.doubles().count(), point.bucket_counts.fixed64s().count());
    match (bound_count, count_count) {
        (_, 0) => return Ok(None),
        (0, 1) => {
            let ratio = target as f64 / counts.next().map_or(0, |(_, count)| count) as f64;
            return point.min.zip(point.max).map_or(Ok(None), |(min, max)| between(min, max, ratio));
        }
        _ if count_count != bound_count + 1 => return Err(malformed("bucketCounts and explicitBounds do not match")),
        _ => {}
    }
    let (index, ratio) = find(counts, &mut 0, target).ok_or_else(|| malformed(TOO_FEW))?;
    let (lower, upper) = match index.checked_sub(1) {
        None => {
            let upper = bounds.next().unwrap_or_default();
            match point.min.filter(|min| *min < upper) {
                Some(min) => (min, upper),
                // The bucket has no lower bound.
                None if upper < 0.0 => return Ok(Some(upper)),
                None => (0.0, upper),
            }
        }
        Some(before) => {
            let lower = bounds.nth(before).unwrap_or_default();
            match bounds.next().or(point.max.filter(|max| *max > lower)) {
                Some(upper) => (lower, upper),
                None => return Ok(Some(lower)),
            }
        }
    };
    between(lower, upper, ratio)
}

fn of_exponential(point: &Point, message: &[u8], target: u64) -> Result<Option<f64>, Fault> {
    let (negative, positive) = (Buckets::read(&point.negative), Buckets::read(&point.positive));
    let [has_negative, has_positive] = [&negative, &positive].map(|side| side.counts.varints().next().is_some());
    if !has_negative && !has_positive && point.zero_count == 0 {
        return Ok(None);
    }
    let bound = |index: i64| match point.scale.0 {
        scale @ ..=0 => times_power_of_two(1.0, index.checked_shl(scale.unsigned_abs()).unwrap_or(0)),
        scale => bucket_bound(index as f64, scale),
    };
    // Bounds, and positions between them, grow exponentially.
    let inside = |side: &Buckets, index: usize, ratio: f64| {
        let index = i64::from(side.offset.0) + index as i64;
        let (lower, upper) = (bound(index), bound(index + 1));
        if lower <= 0.0 || lower >= upper {
            return Err(malformed("bucket bounds"));
        }
        Ok(between(lower.log2(), upper.log2(), ratio)?.map(f64::exp2))
    };
    let mut before = 0;
    if let Some((index, ratio)) = find(negative.counts.varints_reversed(), &mut before, target) {
        return Ok(inside(&negative, index, 1.0 - ratio)?.map(|value| -value));
    }
    if let Some((_, ratio)) = find([(0, point.zero_count)].into_iter(), &mut before, target) {
        let threshold = f64::from_bits(Message::of(message).bits(exponential_point::ZERO_THRESHOLD));
        let lower = if has_positive && !has_negative { 0.0 } else { -threshold };
        let upper = if has_negative && !has_positive { 0.0 } else { threshold };
        return between(lower, upper, ratio);
    }
    let found = find(positive.counts.varints().enumerate(), &mut before, target);
    let (index, ratio) = found.ok_or_else(|| malformed(TOO_FEW))?;
    inside(&positive, index, ratio)
}
