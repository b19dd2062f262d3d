//! Borrowed views of metrics: one `Point` covers all five kinds of data points; each fills the fields it has.

use std::borrow::Cow;

use super::{Merge, Repeated, fill, views};
use crate::otlp::number::bucket_bound;
use crate::otlp::schema::{
    buckets, exemplar, exponential_point, histogram_point, metric, metric_data, number_point, quantile, summary_point,
};
use crate::otlp::wire::{self, Field, Fields, Value};

/// In the order of OTTL's numbers for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum DataType {
    #[default]
    Empty,
    Gauge,
    Sum,
    Histogram,
    ExponentialHistogram,
    Summary,
}

impl DataType {
    /// The type of the data in a metric's field.
    #[inline]
    pub(crate) fn of(number: u32) -> DataType {
        match number {
            metric::GAUGE => DataType::Gauge,
            metric::SUM => DataType::Sum,
            metric::HISTOGRAM => DataType::Histogram,
            metric::EXPONENTIAL_HISTOGRAM => DataType::ExponentialHistogram,
            metric::SUMMARY => DataType::Summary,
            _ => DataType::Empty,
        }
    }
}

/// A metric's data: its type, and its message.
#[derive(Default)]
pub(crate) struct Data<'a>(pub(crate) DataType, &'a [u8]);

impl<'a> Merge<'a> for Data<'a> {
    fn merge(&mut self, found: Field<'a>, _: Fields<'a>) {
        let Value::Bytes(message) = found.value else { return };
        *self = Data(DataType::of(found.number), message);
    }
}

impl<'a> Data<'a> {
    pub(crate) fn read(&self) -> DataPoints<'a> {
        DataPoints::read(self.1)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    Int(i64),
    Double(f64),
}

impl Number {
    pub(crate) fn double(self) -> f64 {
        match self {
            Number::Int(value) => value as f64,
            Number::Double(value) => value,
        }
    }
}

const _: () = assert!(number_point::AS_INT == exemplar::AS_INT);

impl<'a> Merge<'a> for Option<Number> {
    #[inline(always)]
    fn merge(&mut self, found: Field<'a>, _: Fields<'a>) {
        let Value::Fixed64(bits) = found.value else { return };
        let is_int = found.number == number_point::AS_INT;
        *self = Some(if is_int { Number::Int(bits as i64) } else { Number::Double(f64::from_bits(bits)) });
    }
}

views! {
    Metric = metric {
        NAME name: &'a [u8], DESCRIPTION description: &'a [u8], UNIT unit: &'a [u8],
        METADATA metadata: Repeated<'a>, GAUGE | SUM | HISTOGRAM | EXPONENTIAL_HISTOGRAM | SUMMARY data: Data<'a>
    }
    /// `Gauge`, `Sum`, `Histogram`, `ExponentialHistogram` or `Summary`.
    DataPoints = metric_data {
        POINTS points: Repeated<'a>, AGGREGATION_TEMPORALITY temporality: i32, IS_MONOTONIC is_monotonic: bool
    }
    /// One side of an exponential histogram.
    Buckets = buckets { OFFSET offset: Sint32, BUCKET_COUNTS counts: Packed<'a> }
    Exemplar = exemplar {
        TIME time: u64, AS_INT | AS_DOUBLE value: Option<Number>, TRACE_ID trace_id: &'a [u8],
        SPAN_ID span_id: &'a [u8], FILTERED_ATTRIBUTES filtered_attributes: Repeated<'a>
    }
}

/// A data point of any type; fields its type does not have are empty.
#[derive(Default)]
pub(crate) struct Point<'a> {
    pub(crate) attributes: Repeated<'a>,
    pub(crate) exemplars: Repeated<'a>,
    pub(crate) start: u64,
    pub(crate) time: u64,
    pub(crate) value: Option<Number>,
    pub(crate) count: u64,
    pub(crate) sum: Option<f64>,
    pub(crate) min: Option<f64>,
    pub(crate) max: Option<f64>,
    pub(crate) explicit_bounds: Packed<'a>,
    pub(crate) bucket_counts: Packed<'a>,
    pub(crate) scale: Sint32,
    pub(crate) zero_count: u64,
    /// Each a message of `Buckets`.
    pub(crate) positive: Cow<'a, [u8]>,
    pub(crate) negative: Cow<'a, [u8]>,
    pub(crate) quantiles: Repeated<'a>,
    pub(crate) flags: u32,
}

impl<'a> Point<'a> {
    pub(crate) fn read(data_type: DataType, message: &'a [u8]) -> Self {
        let mut point = Point::default();
        match data_type {
            DataType::Empty => {}
            DataType::Gauge | DataType::Sum => fill!(point, message, number_point {
                ATTRIBUTES attributes, START start, TIME time, AS_INT | AS_DOUBLE value, EXEMPLARS exemplars,
                FLAGS flags
            }),
            DataType::Histogram => fill!(point, message, histogram_point {
                ATTRIBUTES attributes, START start, TIME time, COUNT count, SUM sum, MIN min, MAX max,
                EXPLICIT_BOUNDS explicit_bounds, BUCKET_COUNTS bucket_counts, EXEMPLARS exemplars,
                FLAGS flags
            }),
            DataType::ExponentialHistogram => fill!(point, message, exponential_point {
                ATTRIBUTES attributes, START start, TIME time, COUNT count, SUM sum, MIN min, MAX max, SCALE scale,
                ZERO_COUNT zero_count, POSITIVE positive, NEGATIVE negative, EXEMPLARS exemplars,
                FLAGS flags
            }),
            DataType::Summary => fill!(point, message, summary_point {
                ATTRIBUTES attributes, START start, TIME time, COUNT count, SUM sum, QUANTILES quantiles, FLAGS flags
            }),
        }
        point
    }
}

impl Buckets<'_> {
    /// The lower bound of the bucket at a position, for the scale of its data point; its upper bound is the next one's
    /// lower bound.
    pub(crate) fn bound(&self, position: usize, scale: Sint32) -> f64 {
        bucket_bound(f64::from(self.offset.0) + position as f64, scale.0)
    }
}

/// A zigzag-encoded number.
#[derive(Clone, Copy, Default)]
pub(crate) struct Sint32(pub(crate) i32);

impl<'a> Merge<'a> for Sint32 {
    fn merge(&mut self, found: Field<'a>, _: Fields<'a>) {
        if let Value::Varint(bits) = found.value {
            self.0 = wire::unzigzag(bits);
        }
    }
}

/// A repeated number in packed form: varints, or 8 bytes each. There may be millions, so they are read in place.
#[derive(Default)]
pub(crate) struct Packed<'a>(Cow<'a, [u8]>);

impl<'a> Merge<'a> for Packed<'a> {
    fn merge(&mut self, found: Field<'a>, here: Fields<'a>) {
        match found.value {
            Value::Bytes(_) => self.0.merge(found, here),
            Value::Varint(value) => wire::put_varint(self.0.to_mut(), value),
            Value::Fixed64(value) => self.0.to_mut().extend_from_slice(&value.to_le_bytes()),
            Value::Fixed32(_) | Value::Group(_) => {}
        }
    }
}

impl<'a> Packed<'a> {
    /// The numbers in all occurrences of a field.
    pub(crate) fn of(occurrences: impl Iterator<Item = Field<'a>>) -> Self {
        let mut packed = Packed::default();
        occurrences.for_each(|field| packed.merge(field, Fields::new(&[])));
        packed
    }

    pub(crate) fn fixed64s(&self) -> impl Iterator<Item = u64> {
        self.0.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes))
    }

    pub(crate) fn doubles(&self) -> impl Iterator<Item = f64> {
        self.fixed64s().map(f64::from_bits)
    }

    pub(crate) fn varints(&self) -> impl Iterator<Item = u64> {
        wire::varints(&self.0)
    }

    /// The varints from the last to the first, each with its index: each begins after the end of the previous one.
    pub(crate) fn varints_reversed(&self) -> impl Iterator<Item = (usize, u64)> {
        let mut rest = &*self.0;
        let count = rest.iter().filter(|byte| **byte < 0x80).count();
        (0..count).rev().map_while(move |index| {
            let (_, before) = rest.split_last()?;
            let start = before.iter().rposition(|byte| *byte < 0x80).map_or(0, |end| end + 1);
            let (head, last) = rest.split_at_checked(start)?;
            rest = head;
            wire::varint(last).map(|(value, _)| (index, value))
        })
    }
}

/// `ValueAtQuantile`.
#[derive(Default)]
pub(crate) struct Quantile {
    pub(crate) quantile: f64,
    pub(crate) value: f64,
}

impl Quantile {
    pub(crate) fn read(message: &[u8]) -> Self {
        let mut view = Quantile::default();
        fill!(view, message, quantile { QUANTILE quantile, VALUE value });
        view
    }
}
