//! Borrowed views of metrics: one `Point` serves the five kinds of data points, each fills what it has.

use std::borrow::Cow;

use super::{Repeated, packed};
use crate::otlp::schema::{
    buckets, exemplar, exponential_point, histogram_point, metric, metric_data, number_point, quantile, summary_point,
};
use crate::otlp::wire::{self, Fields, Value};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DataType {
    #[default]
    Empty,
    Gauge,
    Sum,
    Histogram,
    ExponentialHistogram,
    Summary,
}

#[derive(Default)]
pub struct Metric<'a> {
    pub name: &'a [u8],
    pub description: &'a [u8],
    pub unit: &'a [u8],
    pub metadata: Repeated<'a>,
    pub data_type: DataType,
    pub points: Repeated<'a>,
    pub temporality: i32,
    pub is_monotonic: bool,
}

impl<'a> Metric<'a> {
    pub fn read(message: &'a [u8]) -> Self {
        let mut found = Metric { metadata: Repeated::of(message, metric::METADATA), ..Metric::default() };
        let mut data: &[u8] = &[];
        for field in Fields::new(message) {
            let Value::Bytes(bytes) = field.value else { continue };
            let data_type = match field.number {
                metric::NAME => {
                    found.name = bytes;
                    continue;
                }
                metric::DESCRIPTION => {
                    found.description = bytes;
                    continue;
                }
                metric::UNIT => {
                    found.unit = bytes;
                    continue;
                }
                metric::GAUGE => DataType::Gauge,
                metric::SUM => DataType::Sum,
                metric::HISTOGRAM => DataType::Histogram,
                metric::EXPONENTIAL_HISTOGRAM => DataType::ExponentialHistogram,
                metric::SUMMARY => DataType::Summary,
                _ => continue,
            };
            (found.data_type, data) = (data_type, bytes);
        }
        found.points = Repeated::of(data, metric_data::POINTS);
        for field in Fields::new(data) {
            match (field.number, field.value) {
                (metric_data::AGGREGATION_TEMPORALITY, Value::Varint(number)) => found.temporality = number as i32,
                (metric_data::IS_MONOTONIC, Value::Varint(bits)) => found.is_monotonic = bits != 0,
                _ => {}
            }
        }
        found
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    Int(i64),
    Double(f64),
}

/// A data point of any type; what its type does not have is empty.
#[derive(Default)]
pub struct Point<'a> {
    pub attributes: Repeated<'a>,
    pub exemplars: Repeated<'a>,
    pub start: u64,
    pub time: u64,
    pub value: Option<Number>,
    pub count: u64,
    pub sum: Option<f64>,
    pub min: Option<f64>,
    pub max: Option<f64>,
    /// Packed doubles, and packed 8-byte counts.
    pub explicit_bounds: Cow<'a, [u8]>,
    pub bucket_counts: Cow<'a, [u8]>,
    pub scale: i32,
    pub zero_count: u64,
    pub positive: Buckets<'a>,
    pub negative: Buckets<'a>,
    pub quantiles: Repeated<'a>,
}

impl<'a> Point<'a> {
    pub fn read(data_type: DataType, message: &'a [u8]) -> Self {
        match data_type {
            DataType::Empty => Point::default(),
            DataType::Gauge | DataType::Sum => Point::number(message),
            DataType::Histogram => Point::histogram(message),
            DataType::ExponentialHistogram => Point::exponential(message),
            DataType::Summary => Point::summary(message),
        }
    }

    fn number(message: &'a [u8]) -> Self {
        use number_point as field;
        let mut point = Point::default();
        let mut fields = Fields::new(message);
        while let (here, Some(found)) = (fields.clone(), fields.next()) {
            match (found.number, found.value) {
                (field::ATTRIBUTES, Value::Bytes(_)) => point.attributes.found(here, field::ATTRIBUTES),
                (field::EXEMPLARS, Value::Bytes(_)) => point.exemplars.found(here, field::EXEMPLARS),
                (field::START, Value::Fixed64(time)) => point.start = time,
                (field::TIME, Value::Fixed64(time)) => point.time = time,
                (field::AS_INT, Value::Fixed64(bits)) => point.value = Some(Number::Int(bits as i64)),
                (field::AS_DOUBLE, Value::Fixed64(bits)) => point.value = Some(Number::Double(f64::from_bits(bits))),
                _ => {}
            }
        }
        point
    }

    fn histogram(message: &'a [u8]) -> Self {
        use histogram_point as field;
        let mut point = Point {
            attributes: Repeated::of(message, field::ATTRIBUTES),
            exemplars: Repeated::of(message, field::EXEMPLARS),
            explicit_bounds: packed(message, field::EXPLICIT_BOUNDS),
            bucket_counts: packed(message, field::BUCKET_COUNTS),
            ..Point::default()
        };
        for found in Fields::new(message) {
            let Value::Fixed64(bits) = found.value else { continue };
            match found.number {
                field::START => point.start = bits,
                field::TIME => point.time = bits,
                field::COUNT => point.count = bits,
                field::SUM => point.sum = Some(f64::from_bits(bits)),
                field::MIN => point.min = Some(f64::from_bits(bits)),
                field::MAX => point.max = Some(f64::from_bits(bits)),
                _ => {}
            }
        }
        point
    }

    fn exponential(message: &'a [u8]) -> Self {
        use exponential_point as field;
        let mut point = Point {
            attributes: Repeated::of(message, field::ATTRIBUTES),
            exemplars: Repeated::of(message, field::EXEMPLARS),
            positive: Buckets::read(wire::merged(message, field::POSITIVE)),
            negative: Buckets::read(wire::merged(message, field::NEGATIVE)),
            ..Point::default()
        };
        for found in Fields::new(message) {
            match (found.number, found.value) {
                (field::START, Value::Fixed64(time)) => point.start = time,
                (field::TIME, Value::Fixed64(time)) => point.time = time,
                (field::COUNT, Value::Fixed64(count)) => point.count = count,
                (field::SUM, Value::Fixed64(bits)) => point.sum = Some(f64::from_bits(bits)),
                (field::MIN, Value::Fixed64(bits)) => point.min = Some(f64::from_bits(bits)),
                (field::MAX, Value::Fixed64(bits)) => point.max = Some(f64::from_bits(bits)),
                (field::SCALE, Value::Varint(bits)) => point.scale = zigzag(bits),
                (field::ZERO_COUNT, Value::Fixed64(count)) => point.zero_count = count,
                _ => {}
            }
        }
        point
    }

    fn summary(message: &'a [u8]) -> Self {
        use summary_point as field;
        let mut point = Point {
            attributes: Repeated::of(message, field::ATTRIBUTES),
            quantiles: Repeated::of(message, field::QUANTILES),
            ..Point::default()
        };
        for found in Fields::new(message) {
            match (found.number, found.value) {
                (field::START, Value::Fixed64(time)) => point.start = time,
                (field::TIME, Value::Fixed64(time)) => point.time = time,
                (field::COUNT, Value::Fixed64(count)) => point.count = count,
                (field::SUM, Value::Fixed64(bits)) => point.sum = Some(f64::from_bits(bits)),
                _ => {}
            }
        }
        point
    }
}

/// One side of an exponential histogram.
#[derive(Default)]
pub struct Buckets<'a> {
    pub offset: i32,
    /// Packed varints; there may be millions, so they are read in place, from either end.
    counts: Cow<'a, [u8]>,
}

impl<'a> Buckets<'a> {
    fn read(message: Cow<'a, [u8]>) -> Self {
        let offset = Fields::new(&message)
            .filter_map(|field| match field.value {
                Value::Varint(bits) if field.number == buckets::OFFSET => Some(zigzag(bits)),
                _ => None,
            })
            .last()
            .unwrap_or_default();
        let counts = match message {
            Cow::Borrowed(message) => packed(message, buckets::BUCKET_COUNTS),
            Cow::Owned(message) => Cow::Owned(packed(&message, buckets::BUCKET_COUNTS).into_owned()),
        };
        Buckets { offset, counts }
    }

    pub fn len(&self) -> usize {
        self.counts.iter().filter(|byte| **byte < 0x80).count()
    }

    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    pub fn counts(&self) -> impl Iterator<Item = u64> {
        let mut rest = &*self.counts;
        std::iter::from_fn(move || {
            let (value, after) = wire::varint(rest)?;
            rest = after;
            Some(value)
        })
    }

    /// The counts from the last to the first: a varint begins after the end of the one before it.
    pub fn counts_reversed(&self) -> impl Iterator<Item = u64> {
        let mut rest = &*self.counts;
        std::iter::from_fn(move || {
            let (_, before) = rest.split_last()?;
            let start = before.iter().rposition(|byte| *byte < 0x80).map_or(0, |end| end + 1);
            let (head, last) = rest.split_at_checked(start)?;
            rest = head;
            wire::varint(last).map(|(value, _)| value)
        })
    }
}

/// The doubles of a packed field.
pub fn doubles(packed: &[u8]) -> impl Iterator<Item = f64> {
    fixed64s(packed).map(f64::from_bits)
}

/// The 8-byte integers of a packed field.
pub fn fixed64s(packed: &[u8]) -> impl Iterator<Item = u64> {
    packed.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes))
}

#[derive(Default)]
pub struct Quantile {
    pub quantile: f64,
    pub value: f64,
}

impl Quantile {
    pub fn read(message: &[u8]) -> Self {
        let mut found = Quantile::default();
        for field in Fields::new(message) {
            match (field.number, field.value) {
                (quantile::QUANTILE, Value::Fixed64(bits)) => found.quantile = f64::from_bits(bits),
                (quantile::VALUE, Value::Fixed64(bits)) => found.value = f64::from_bits(bits),
                _ => {}
            }
        }
        found
    }
}

#[derive(Default)]
pub struct Exemplar<'a> {
    pub time: u64,
    pub value: Option<Number>,
    pub trace_id: &'a [u8],
    pub span_id: &'a [u8],
    pub filtered_attributes: Repeated<'a>,
}

impl<'a> Exemplar<'a> {
    pub fn read(message: &'a [u8]) -> Self {
        let filtered_attributes = Repeated::of(message, exemplar::FILTERED_ATTRIBUTES);
        let mut found = Exemplar { filtered_attributes, ..Exemplar::default() };
        for field in Fields::new(message) {
            match (field.number, field.value) {
                (exemplar::TIME, Value::Fixed64(time)) => found.time = time,
                (exemplar::AS_INT, Value::Fixed64(bits)) => found.value = Some(Number::Int(bits as i64)),
                (exemplar::AS_DOUBLE, Value::Fixed64(bits)) => {
                    found.value = Some(Number::Double(f64::from_bits(bits)));
                }
                (exemplar::TRACE_ID, Value::Bytes(id)) => found.trace_id = id,
                (exemplar::SPAN_ID, Value::Bytes(id)) => found.span_id = id,
                _ => {}
            }
        }
        found
    }
}

fn zigzag(bits: u64) -> i32 {
    let bits = bits as u32;
    (bits >> 1) as i32 ^ -((bits & 1) as i32)
}
