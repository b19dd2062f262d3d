//! Further metric functions of the filter and transform processors: examining points, converting kinds, extracting new
//! metrics. A new metric joins its scope, and is visited after the others.

use super::{fixed_or, function, optional, required, within_bounds};
use crate::otlp::message::Message;
use crate::otlp::schema::{
    exemplar, histogram_point, is_data, metric, metric_data, number_point, quantile, summary_point,
};
use crate::otlp::views::metrics::{DataType, Number, Point, Quantile};
use crate::otlp::views::{AnyValue, KeyValue};
use crate::otlp::wire::{Fields, Value as Wire, put_bytes, put_fixed64, put_uint};
use crate::ottl::function::{Arguments, Body, Function, Kind, Parameter};
use crate::ottl::scene::Scene;
use crate::ottl::value::{Fault, NO_END, Value};

const TEMPORALITY: Parameter = required("string_agg_temp", Kind::FixedText);
const MONOTONIC: Parameter = required("monotonic", Kind::FixedBool);
const SUFFIX: Parameter = optional("suffix", Kind::FixedText);

pub(super) const DELTA: u64 = 1;
const CUMULATIVE: u64 = 2;

pub(super) const CONVERTERS: &[Function] = &[
    of_metrics("HasAttrKeyOnDatapoint", &[required("key", Kind::FixedText)], |arguments, scene| {
        Ok(Value::Bool(attribute_of_points(fixed_or(arguments, 0, ""), scene)?.is_some()))
    }),
    of_metrics(
        "HasAttrOnDatapoint",
        &[required("key", Kind::FixedText), required("expected_val", Kind::FixedText)],
        |arguments, scene| {
            let found = attribute_of_points(fixed_or(arguments, 0, ""), scene)?;
            let text = found.map(|value| if let AnyValue::String(text) = value { text } else { &[] });
            Ok(Value::Bool(text == Some(fixed_or(arguments, 1, ""))))
        },
    ),
];

pub(super) const EDITORS: &[Function] = &[
    of_metrics("convert_gauge_to_sum", &[TEMPORALITY, MONOTONIC], |arguments, scene| {
        if scene.sight.data_number == metric::GAUGE {
            let kind = kind_of_sum(temporality(arguments).unwrap_or(0), arguments.fixed_bool(1));
            scene.sight.data.append(scene.arena.keep(&kind)?);
            scene.sight.data_number = metric::SUM;
        }
        Ok(Value::Nil)
    })
    .checked(|arguments| temporality(arguments).map(drop)),
    of_metrics("convert_sum_to_gauge", &[], |_, scene| {
        if scene.sight.data_number == metric::SUM {
            scene.sight.data.remove(metric_data::AGGREGATION_TEMPORALITY);
            scene.sight.data.remove(metric_data::IS_MONOTONIC);
            scene.sight.data_number = metric::GAUGE;
        }
        Ok(Value::Nil)
    }),
    of_summaries("convert_summary_count_val_to_sum", |arguments, scene| {
        convert_summary(arguments, scene, "_count", count)
    }),
    of_summaries("convert_summary_sum_val_to_sum", |arguments, scene| convert_summary(arguments, scene, "_sum", sum)),
    of_metrics(
        "convert_summary_quantile_val_to_gauge",
        &[optional("attribute_key", Kind::FixedText), SUFFIX],
        quantiles_to_gauge,
    ),
    of_metrics(
        "copy_metric",
        &[optional("name", Kind::Text), optional("description", Kind::Text), optional("unit", Kind::Text)],
        copy_metric,
    ),
    of_metrics("extract_count_metric", &[MONOTONIC, SUFFIX], |arguments, scene| {
        let temporality = temporality_of(scene, "extract_count_metric")?;
        // A count has no unit of its own.
        add_sum(scene, (fixed_or(arguments, 1, "_count"), b"1"), temporality, arguments.fixed_bool(0), count)
    }),
    of_metrics("extract_sum_metric", &[MONOTONIC, SUFFIX], |arguments, scene| {
        let temporality = temporality_of(scene, "extract_sum_metric")?;
        let unit = scene.sight.record.bytes(metric::UNIT);
        add_sum(scene, (fixed_or(arguments, 1, "_sum"), unit), temporality, arguments.fixed_bool(0), sum)
    }),
    of_metrics(
        "scale_metric",
        &[required("multiplier", Kind::FixedNumber), optional("unit", Kind::Text)],
        scale_metric,
    ),
];

pub(super) const fn of_metrics(name: &'static str, parameters: &'static [Parameter], body: Body) -> Function {
    function(name, parameters, body).only_in(&["metric"]).evaluated_when_run()
}

/// Converts the summary of a data point; does nothing for other points.
const fn of_summaries(name: &'static str, body: Body) -> Function {
    of_metrics(name, &[TEMPORALITY, MONOTONIC, SUFFIX], body)
        .only_in(&["datapoint"])
        .checked(|arguments| temporality(arguments).map(drop))
}

fn temporality(arguments: &Arguments) -> Result<u64, String> {
    match fixed_or(arguments, 0, "") {
        b"delta" => Ok(DELTA),
        b"cumulative" => Ok(CUMULATIVE),
        other => Err(format!("unknown aggregation temporality: {}", String::from_utf8_lossy(other))),
    }
}

pub(super) fn data_type(scene: &Scene) -> DataType {
    DataType::of(scene.sight.data_number)
}

/// The temporality of a metric with sums and counts. A summary has none, and counts as cumulative.
fn temporality_of(scene: &Scene, name: &str) -> Result<u64, Fault> {
    let found = match data_type(scene) {
        DataType::Histogram | DataType::ExponentialHistogram => {
            scene.sight.data.bits(metric_data::AGGREGATION_TEMPORALITY)
        }
        DataType::Summary => CUMULATIVE,
        _ => 0,
    };
    let kinds = "Histogram, ExponentialHistogram or Summary";
    let fault = || Fault::new(format!("{name} requires an input metric of type {kinds}, got {:?}", data_type(scene)));
    Some(found).filter(|found| *found != 0).ok_or_else(fault)
}

/// The value of an attribute on the first point that has it.
fn attribute_of_points<'a>(key: &[u8], scene: &Scene<'_, 'a>) -> Result<Option<AnyValue<'a>>, Fault> {
    let data_type = data_type(scene);
    if data_type == DataType::Empty {
        return Err(Fault::new("unknown metric type"));
    }
    let mut points = scene.sight.data.all_payloads(metric_data::POINTS).map(|point| Point::read(data_type, point));
    let value = |point: Point<'a>| point.attributes.map(KeyValue::read).find(|pair| pair.key == key);
    Ok(points.find_map(value).map(|pair| pair.value))
}

fn count(point: &Point) -> Option<Number> {
    Some(Number::Int(point.count as i64))
}

fn sum(point: &Point) -> Option<Number> {
    point.sum.map(Number::Double)
}

/// The fields for temporality and monotonicity of a sum.
fn kind_of_sum(temporality: u64, is_monotonic: Option<bool>) -> Vec<u8> {
    let mut out = Vec::new();
    put_uint(&mut out, metric_data::AGGREGATION_TEMPORALITY, temporality);
    if is_monotonic == Some(true) {
        put_uint(&mut out, metric_data::IS_MONOTONIC, 1);
    }
    out
}

/// Adds a sum with a value from each point of the current metric, if any has one.
fn add_sum<'a>(
    scene: &mut Scene<'_, 'a>,
    (suffix, unit): (&[u8], &[u8]),
    temporality: u64,
    is_monotonic: Option<bool>,
    value: fn(&Point) -> Option<Number>,
) -> Result<Value<'a>, Fault> {
    let data_type = data_type(scene);
    let mut data = kind_of_sum(temporality, is_monotonic);
    let empty = data.len();
    for point in scene.sight.data.all_payloads(metric_data::POINTS).map(|point| Point::read(data_type, point)) {
        let value = match (value(&point), data_type) {
            // A summary always has a sum; 0 is not encoded.
            (None, DataType::Summary) => Number::Double(0.0),
            (Some(value), DataType::Histogram | DataType::ExponentialHistogram | DataType::Summary) => value,
            _ => continue,
        };
        put_number_point(&mut data, &point, value, None);
    }
    if data.len() == empty {
        return Ok(Value::Nil);
    }
    let description = scene.sight.record.bytes(metric::DESCRIPTION);
    add_metric(scene, suffix, description, unit, metric::SUM, &data)
}

/// Adds a metric with a name derived from the current one.
pub(super) fn add_metric<'a>(
    scene: &mut Scene<'_, 'a>,
    suffix: &[u8],
    description: &[u8],
    unit: &[u8],
    data_number: u32,
    data: &[u8],
) -> Result<Value<'a>, Fault> {
    let mut out = Vec::with_capacity(data.len() + 64);
    put_bytes(&mut out, metric::NAME, &[scene.sight.record.bytes(metric::NAME), suffix].concat());
    put_bytes(&mut out, metric::DESCRIPTION, description);
    put_bytes(&mut out, metric::UNIT, unit);
    put_bytes(&mut out, data_number, data);
    add(scene, &out)
}

/// Added metrics are visited in turn, so a statement that always adds would never end: `keep` bounds it.
fn add<'a>(scene: &mut Scene<'_, 'a>, metric: &[u8]) -> Result<Value<'a>, Fault> {
    scene.sight.added.push(scene.arena.keep(metric).map_err(|_| Fault::new(NO_END))?);
    Ok(Value::Nil)
}

/// Writes a point with the times and attributes of another, plus one attribute.
pub(super) fn put_number_point(data: &mut Vec<u8>, from: &Point, value: Number, mut added: Option<(&[u8], f64)>) {
    let mut raw = Vec::new();
    put_fixed64(&mut raw, number_point::START, from.start);
    put_fixed64(&mut raw, number_point::TIME, from.time);
    match value {
        Number::Int(value) => put_fixed64(&mut raw, number_point::AS_INT, value as u64),
        Number::Double(value) => put_fixed64(&mut raw, number_point::AS_DOUBLE, value.to_bits()),
    }
    let put_added = |raw: &mut Vec<u8>, (key, value): (&[u8], f64)| {
        Value::Double(value).put_pair(raw, number_point::ATTRIBUTES, key);
    };
    for pair in from.attributes.clone() {
        match added.take_if(|(key, _)| KeyValue::read(pair).key == *key) {
            Some(added) => put_added(&mut raw, added),
            None => put_bytes(&mut raw, number_point::ATTRIBUTES, pair),
        }
    }
    added.into_iter().for_each(|added| put_added(&mut raw, added));
    put_bytes(data, metric_data::POINTS, &raw);
}

/// A gauge with a point for each quantile of a summary.
fn quantiles_to_gauge<'a>(arguments: &'a Arguments, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
    if scene.sight.data_number != metric::SUMMARY {
        return Ok(Value::Nil);
    }
    let (key, mut data) = (fixed_or(arguments, 0, "quantile"), Vec::new());
    for point in scene.sight.data.payloads(metric_data::POINTS).map(|point| Point::read(DataType::Summary, point)) {
        for Quantile { quantile, value } in point.quantiles.clone().map(Quantile::read) {
            put_number_point(&mut data, &point, Number::Double(value), Some((key, quantile)));
            // A point's attributes are repeated for each of its quantiles.
            within_bounds(&data)?;
        }
    }
    let record = &scene.sight.record;
    let (description, unit) = (record.bytes(metric::DESCRIPTION), record.bytes(metric::UNIT));
    add_metric(scene, fixed_or(arguments, 1, ".quantiles"), description, unit, metric::GAUGE, &data)
}

fn convert_summary<'a>(
    arguments: &'a Arguments,
    scene: &mut Scene<'_, 'a>,
    suffix: &'static str,
    value: fn(&Point) -> Option<Number>,
) -> Result<Value<'a>, Fault> {
    if scene.sight.data_number != metric::SUMMARY {
        return Ok(Value::Nil);
    }
    let (suffix, unit) = (fixed_or(arguments, 2, suffix), scene.sight.record.bytes(metric::UNIT));
    let temporality = temporality(arguments).unwrap_or(0);
    add_sum(scene, (suffix, unit), temporality, arguments.fixed_bool(1), value)
}

fn copy_metric<'a>(arguments: &'a Arguments, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
    let mut out = Vec::new();
    for field in scene.sight.record.fields().filter(|field| !is_data(field.number)) {
        out.extend_from_slice(field.raw);
    }
    if scene.sight.data_number != 0 {
        scene.sight.data.write_field(&mut out, scene.sight.data_number);
    }
    let mut copy = Message::of(scene.arena.keep(&out).map_err(|_| Fault::new(NO_END))?);
    for (index, number) in [metric::NAME, metric::DESCRIPTION, metric::UNIT].into_iter().enumerate() {
        if arguments.is_given(index) {
            out.clear();
            put_bytes(&mut out, number, arguments.text(index, scene)?);
            copy.replace(number, scene.arena.keep(&out)?);
        }
    }
    out.clear();
    copy.write(&mut out);
    add(scene, &out)
}

fn scale_metric<'a>(arguments: &'a Arguments, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
    let by = arguments.fixed_numbers(0).next().unwrap_or(1.0);
    let scale: fn(&[u8], f64, &mut Vec<u8>) = match data_type(scene) {
        DataType::Gauge | DataType::Sum => |point, by, out| {
            scale(point, by, &[number_point::AS_DOUBLE], number_point::AS_INT, 0, &[], out);
        },
        DataType::Histogram => |point, by, out| {
            let doubles = [histogram_point::SUM, histogram_point::MIN, histogram_point::MAX];
            let exemplars = (histogram_point::EXEMPLARS, exemplar::AS_DOUBLE, exemplar::AS_INT);
            scale(point, by, &doubles, 0, histogram_point::EXPLICIT_BOUNDS, &[exemplars], out);
        },
        DataType::Summary => |point, by, out| {
            let quantiles = (summary_point::QUANTILES, quantile::VALUE, 0);
            scale(point, by, &[summary_point::SUM], 0, 0, &[quantiles], out);
        },
        DataType::ExponentialHistogram => {
            return Err(Fault::new("exponential histograms are not supported by the 'scale_metric' function"));
        }
        DataType::Empty => return Err(Fault::new("unsupported metric type: 'Empty'")),
    };
    let unit = if arguments.is_given(1) { Some(arguments.text(1, scene)?) } else { None };
    let (mut points, mut point) = (Vec::new(), Vec::new());
    for payload in scene.sight.data.payloads(metric_data::POINTS) {
        point.clear();
        scale(payload, by, &mut point);
        put_bytes(&mut points, metric_data::POINTS, &point);
    }
    scene.sight.data.remove(metric_data::POINTS);
    scene.sight.data.append(scene.arena.keep(&points)?);
    if let Some(unit) = unit {
        let mut out = Vec::new();
        put_bytes(&mut out, metric::UNIT, unit);
        scene.sight.record.replace(metric::UNIT, scene.arena.keep(&out)?);
    }
    Ok(Value::Nil)
}

/// Writes a message with some of its numbers multiplied: doubles, an integer, a packed list of doubles, and numbers in
/// nested messages, each given as its field with the double and the integer inside.
fn scale(
    message: &[u8],
    by: f64,
    doubles: &[u32],
    int: u32,
    packed: u32,
    inside: &[(u32, u32, u32)],
    out: &mut Vec<u8>,
) {
    let double = |bits: u64| (f64::from_bits(bits) * by).to_bits();
    for field in Fields::new(message) {
        let inner = inside.iter().find(|(number, ..)| *number == field.number);
        match (field.value, inner) {
            (Wire::Fixed64(bits), _) if doubles.contains(&field.number) => put_fixed64(out, field.number, double(bits)),
            (Wire::Fixed64(bits), _) if field.number == int => {
                put_fixed64(out, int, (bits as i64 as f64 * by) as i64 as u64);
            }
            (Wire::Fixed64(bits), _) if field.number == packed => put_fixed64(out, packed, double(bits)),
            (Wire::Bytes(list), _) if field.number == packed => {
                let numbers = list.as_chunks::<8>().0.iter().map(|chunk| double(u64::from_le_bytes(*chunk)));
                put_bytes(out, packed, &numbers.flat_map(u64::to_le_bytes).collect::<Vec<u8>>());
            }
            (Wire::Bytes(payload), Some((number, double, int))) => {
                let mut scaled = Vec::new();
                scale(payload, by, &[*double], *int, 0, &[], &mut scaled);
                put_bytes(out, *number, &scaled);
            }
            _ => out.extend_from_slice(field.raw),
        }
    }
}
