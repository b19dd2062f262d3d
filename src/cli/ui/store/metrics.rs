//! The last data points of each series of a metric: of one resource, one scope and the same attributes.
//!
//! Room is made by the service that takes most: its oldest series is forgotten, or keeps half of its points if it is
//! still in use.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use super::fair::Fair;
use super::item::{Header, Kept};
use crate::exporters::debug::layout::word;
use crate::exporters::debug::line;
use crate::exporters::debug::metric::{self, Shape};
use crate::exporters::debug::rates::Rates;
use crate::exporters::debug::unit::Unit;
use crate::order::Ordered;
use crate::otlp::schema::{exponential_point, histogram_point, metric_data, number_point, summary_point};
use crate::otlp::views::Repeated;
use crate::otlp::views::metrics::{DataPoints, DataType, Metric, Point};
use crate::otlp::wire::{Fields, put_bytes, put_fixed64};
use crate::telemetry::Now;

const SERIES: usize = 4000;
/// The points of a series, and their bytes.
const POINTS: usize = 240;
const POINTS_BYTES: usize = 32 << 10;
/// A larger point is not kept.
const POINT_BYTES: usize = 8 << 10;
/// The exemplars of a point, and the bytes of each.
const EXEMPLARS: usize = 4;
const EXEMPLAR_BYTES: usize = 256;
/// The kept width of a name, of attributes, and of a description, in columns.
const NAME: usize = 200;
const ATTRIBUTES: usize = 400;
const DESCRIPTION: usize = 600;
/// The memory of a series beside its texts and points.
const PER_SERIES: usize = size_of::<Series>() + 160;

pub(in crate::cli::ui) struct Metrics {
    limit: usize,
    held: HashMap<u64, Series>,
    fair: Fair<u64>,
    hasher: RandomState,
    /// Series that made room for others.
    pub(in crate::cli::ui) forgotten: u64,
    /// Points that were too large to be kept.
    pub(in crate::cli::ui) refused: u64,
}

pub(in crate::cli::ui) struct Series {
    pub(in crate::cli::ui) headers: Arc<Header>,
    /// These texts are safe to show.
    pub(in crate::cli::ui) name: Box<str>,
    pub(in crate::cli::ui) unit: Box<str>,
    pub(in crate::cli::ui) description: Box<str>,
    pub(in crate::cli::ui) attributes: Box<str>,
    pub(in crate::cli::ui) shape: Shape,
    /// How much its newest point counts: its value without the sign, or the count of a distribution.
    pub(in crate::cli::ui) weight: f64,
    /// A message of the metric's data, whose points have no attributes.
    points: Vec<u8>,
    count: usize,
    /// It has grown since room was last made.
    is_used: bool,
}

impl Series {
    fn cost(&self) -> usize {
        let texts = [&self.name, &self.unit, &self.description, &self.attributes];
        PER_SERIES + self.headers.bytes() + texts.iter().map(|text| text.len()).sum::<usize>() + self.points.capacity()
    }

    /// The last points, at most this many, by time.
    pub(in crate::cli::ui) fn last(&self, most: usize) -> Vec<Point<'_>> {
        let encoded = Repeated::of(&self.points, metric_data::POINTS).skip(self.count.saturating_sub(most));
        let mut points: Vec<_> = encoded.map(|point| Point::read(self.shape.kind, point)).collect();
        points.order_by_key(|point| point.time);
        points
    }

    pub(in crate::cli::ui) fn points(&self) -> Vec<Point<'_>> {
        self.last(POINTS)
    }

    pub(in crate::cli::ui) fn read_unit(&self) -> Unit {
        Unit::of(self.unit.as_bytes())
    }

    /// The newest point, as `misaki tail` writes its value, and its time.
    pub(in crate::cli::ui) fn latest(&self) -> Option<(u64, String)> {
        let (points, mut rates) = (self.last(2), Rates::default());
        let with_rate = points.iter().map(|point| (point, self.shape.rate(&mut rates, "", b"", point)));
        let (point, rate) = with_rate.last()?;
        Some((point.time, metric::value(self.shape.kind, &self.read_unit(), point, rate)))
    }

    fn push(&mut self, point: &[u8]) {
        put_bytes(&mut self.points, metric_data::POINTS, point);
        self.count += 1;
        while self.count > POINTS || self.points.len() > POINTS_BYTES {
            self.drop_first(1);
        }
    }

    fn drop_first(&mut self, count: usize) {
        let bytes = Fields::new(&self.points).take(count).map(|field| field.raw.len()).sum::<usize>();
        self.points.drain(..bytes.min(self.points.len()));
        self.count -= count.min(self.count);
    }
}

impl Metrics {
    pub(super) fn new(limit: usize) -> Metrics {
        let (held, fair, hasher) = (HashMap::new(), Fair::default(), RandomState::new());
        Metrics { limit, held, fair, hasher, forgotten: 0, refused: 0 }
    }

    pub(in crate::cli::ui) fn used(&self) -> usize {
        self.fair.used()
    }

    /// Takes the points of a metric.
    pub(super) fn add(&mut self, item: &Kept) {
        let metric = Metric::read(&item.record);
        let DataPoints { points, temporality, is_monotonic } = metric.data.read();
        let shape = Shape { kind: metric.data.0, temporality, is_monotonic };
        for message in points {
            let point = Point::read(shape.kind, message);
            let is_number = matches!(shape.kind, DataType::Gauge | DataType::Sum);
            if is_number && point.value.is_none() {
                continue;
            }
            match kept(shape.kind, message, point.time) {
                Some(kept) => self.add_point(&item.headers, &metric, shape, &point, &kept),
                None => self.refused += 1,
            }
        }
    }

    fn add_point(
        &mut self,
        headers: &Arc<Header>,
        metric: &Metric<'_>,
        shape: Shape,
        point: &Point<'_>,
        encoded: &[u8],
    ) {
        let mut hasher = self.hasher.build_hasher();
        (headers, shape, metric.name, metric.unit).hash(&mut hasher);
        point.attributes.clone().for_each(|pair| pair.hash(&mut hasher));
        let (key, service) = (hasher.finish(), &headers.service);
        let is_new = !self.held.contains_key(&key);
        let series = self.held.entry(key).or_insert_with(|| Series {
            headers: headers.clone(),
            name: word(NAME, metric.name).into(),
            unit: word(40, metric.unit).into(),
            description: word(DESCRIPTION, metric.description).into(),
            attributes: line::attributes(point.attributes.clone(), ATTRIBUTES).into(),
            shape,
            weight: 0.0,
            points: Vec::new(),
            count: 0,
            is_used: false,
        });
        let before = series.cost();
        series.push(encoded);
        series.weight = point.value.map_or(point.count as f64, |value| value.double().abs().max(0.0));
        let after = series.cost();
        if is_new {
            self.fair.add(service, key, after);
        } else {
            series.is_used = true;
            self.fair.resize(service, before, after);
        }
        while (self.used() > self.limit || self.held.len() > SERIES) && self.forget_one(None) {}
    }

    /// Makes room; says whether there was something to forget.
    pub(super) fn forget_one(&mut self, of: Option<&Arc<str>>) -> bool {
        let Metrics { held, fair, forgotten, .. } = self;
        let are_too_many = held.len() > SERIES;
        let mut again = None;
        let has_one = fair.forget(of, |key| {
            let Some(series) = held.get_mut(key) else { return 0 };
            let before = series.cost();
            if std::mem::take(&mut series.is_used) {
                if !are_too_many {
                    series.drop_first(series.count / 2);
                    series.points.shrink_to_fit();
                }
                again = Some((*key, series.headers.service.clone(), series.cost()));
            } else {
                *forgotten += 1;
                held.remove(key);
            }
            before
        });
        if let Some((key, service, cost)) = again {
            fair.add(&service, key, cost);
        }
        has_one
    }

    /// The series with their keys, in no order.
    pub(in crate::cli::ui) fn all(&self) -> impl Iterator<Item = (u64, &Series)> {
        self.held.iter().map(|(key, series)| (*key, series))
    }
}

/// What is kept of a point: all but its attributes and most of its exemplars. One without a time came now.
fn kept(kind: DataType, message: &[u8], time: u64) -> Option<Vec<u8>> {
    let (attributes, exemplars) = match kind {
        DataType::Empty => return None,
        DataType::Gauge | DataType::Sum => (number_point::ATTRIBUTES, number_point::EXEMPLARS),
        DataType::Histogram => (histogram_point::ATTRIBUTES, histogram_point::EXEMPLARS),
        DataType::ExponentialHistogram => (exponential_point::ATTRIBUTES, exponential_point::EXEMPLARS),
        DataType::Summary => (summary_point::ATTRIBUTES, 0),
    };
    let (mut out, mut left) = (Vec::with_capacity(64), EXEMPLARS);
    for field in Fields::new(message).filter(|field| field.number != attributes) {
        if field.number == exemplars {
            if left == 0 || field.raw.len() > EXEMPLAR_BYTES {
                continue;
            }
            left -= 1;
        }
        if out.len() + field.raw.len() > POINT_BYTES {
            return None;
        }
        out.extend_from_slice(field.raw);
    }
    if time == 0 {
        let now = Now::read().wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        put_fixed64(&mut out, number_point::TIME, u64::try_from(now.as_nanos()).unwrap_or_default());
    }
    Some(out)
}

const _: () = assert!(
    number_point::TIME == histogram_point::TIME
        && number_point::TIME == exponential_point::TIME
        && number_point::TIME == summary_point::TIME
);
