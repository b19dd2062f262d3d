//! The buckets of a distribution, and the percentiles that are estimated from them. An estimate is never outside of what
//! was measured, as far as that is known.

use crate::otlp::views::metrics::{Buckets, DataType, Point, Quantile};

pub(crate) const PERCENTILES: [f64; 3] = [50.0, 95.0, 99.0];

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Estimate {
    pub(crate) percent: f64,
    pub(crate) value: f64,
    pub(crate) bound: Bound,
}

/// What is known of a percentile. In an open bucket it is only known to be beyond the value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound {
    Near,
    AtMost,
    Above,
}

impl Bound {
    pub(crate) fn sign(self) -> &'static str {
        match self {
            Bound::Near => "=",
            Bound::AtMost => "≤",
            Bound::Above => ">",
        }
    }
}

/// The least and the greatest value that were measured, as far as they are known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Extremes {
    pub(crate) min: Option<f64>,
    pub(crate) max: Option<f64>,
}

/// The number of values between two bounds. The outer buckets of a histogram may be open: that bound is infinite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bucket {
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) count: u64,
}

/// The percentiles of a data point, in ascending order; those of a summary are its own.
pub(crate) fn percentiles(kind: DataType, point: &Point<'_>) -> Vec<Estimate> {
    if kind == DataType::Summary {
        let quantiles = point.quantiles.clone().take(PERCENTILES.len() + 2).map(Quantile::read);
        let own = |Quantile { quantile, value }| Estimate { percent: quantile * 100.0, value, bound: Bound::Near };
        return quantiles.map(own).collect();
    }
    let Some(spread) = Spread::of(kind, point) else { return Vec::new() };
    let extremes = Extremes { min: point.min, max: point.max };
    estimated(|| spread.counts(), |place| spread.bounds(*place), extremes)
}

/// The percentiles of buckets in ascending order.
pub(crate) fn percentiles_of(buckets: &[Bucket], extremes: Extremes) -> Vec<Estimate> {
    estimated(|| buckets.iter().map(|bucket| (bucket, bucket.count)), |bucket| (bucket.low, bucket.high), extremes)
}

/// The buckets of a data point that are not empty, in ascending order.
pub(crate) fn buckets(kind: DataType, point: &Point<'_>) -> Vec<Bucket> {
    let Some(spread) = Spread::of(kind, point) else { return Vec::new() };
    let filled = spread.counts().filter(|(_, count)| *count > 0);
    let bucket = |(place, count)| {
        let (low, high) = spread.bounds(place);
        Bucket { low, high, count }
    };
    filled.map(bucket).collect()
}

/// The buckets of a data point in its own form.
enum Spread<'p, 'a> {
    /// A bucket's place is its index.
    Explicit(&'p Point<'a>),
    /// Zero has place 0, the positive buckets begin at 1, and the negative ones at -1, downwards.
    Exponential { point: &'p Point<'a>, negative: Buckets<'p>, positive: Buckets<'p> },
}

impl<'p, 'a> Spread<'p, 'a> {
    fn of(kind: DataType, point: &'p Point<'a>) -> Option<Spread<'p, 'a>> {
        match kind {
            DataType::Histogram if point.explicit_bounds.doubles().next().is_some() => Some(Spread::Explicit(point)),
            DataType::ExponentialHistogram => {
                let (negative, positive) = (Buckets::read(&point.negative), Buckets::read(&point.positive));
                Some(Spread::Exponential { point, negative, positive })
            }
            _ => None,
        }
    }

    /// Each bucket's place and count.
    fn counts(&self) -> Box<dyn Iterator<Item = (i64, u64)> + '_> {
        match self {
            Spread::Explicit(point) => Box::new((0..).zip(point.bucket_counts.fixed64s())),
            Spread::Exponential { point, negative, positive } => {
                let below = negative.counts.varints_reversed().map(|(index, count)| (-1 - index as i64, count));
                let above = (1..).zip(positive.counts.varints());
                Box::new(below.chain([(0, point.zero_count)]).chain(above))
            }
        }
    }

    fn bounds(&self, place: i64) -> (f64, f64) {
        let index = (place.unsigned_abs() as usize).saturating_sub(1);
        match self {
            Spread::Explicit(point) => {
                let mut bounds = point.explicit_bounds.doubles().skip(index);
                // Without a least value, a first bucket that ends at zero or above is taken to begin at zero.
                let low = if place == 0 { None } else { bounds.next() };
                let high = bounds.next();
                let zero = high.filter(|high| place == 0 && *high >= 0.0).map(|_| 0.0);
                let low = low.or(point.min).or(zero).unwrap_or(f64::NEG_INFINITY);
                (low, high.filter(|high| high.is_finite()).or(point.max).unwrap_or(f64::INFINITY))
            }
            Spread::Exponential { .. } if place == 0 => (0.0, 0.0),
            Spread::Exponential { point, positive, .. } if place > 0 => {
                (positive.bound(index, point.scale), positive.bound(index + 1, point.scale))
            }
            Spread::Exponential { point, negative, .. } => {
                (-negative.bound(index + 1, point.scale), -negative.bound(index, point.scale))
            }
        }
    }
}

/// The percentiles of buckets in ascending order, each with its count; interpolated within the bucket that has them.
fn estimated<B, I: Iterator<Item = (B, u64)>>(
    buckets: impl Fn() -> I,
    bounds: impl Fn(&B) -> (f64, f64),
    Extremes { min, max }: Extremes,
) -> Vec<Estimate> {
    // The extremes come from elsewhere, and may be in the wrong order or no numbers.
    let within = |value: f64| value.max(min.unwrap_or(value)).min(max.unwrap_or(value));
    let total: f64 = buckets().map(|(_, count)| count as f64).sum();
    let (mut out, mut below) = (Vec::new(), 0.0);
    if total == 0.0 {
        return out;
    }
    for (bucket, count) in buckets().filter(|(_, count)| *count > 0) {
        while let Some(percent) =
            PERCENTILES.get(out.len()).copied().filter(|percent| below + count as f64 >= percent / 100.0 * total)
        {
            let part = (percent / 100.0 * total - below) / count as f64;
            let (value, bound) = match bounds(&bucket) {
                (low, f64::INFINITY) => (low, Bound::Above),
                (f64::NEG_INFINITY, high) => (high, Bound::AtMost),
                (low, high) => (low + (high - low) * part, Bound::Near),
            };
            out.push(Estimate { percent, value: within(value), bound });
        }
        below += count as f64;
    }
    out
}
