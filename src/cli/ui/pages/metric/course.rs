//! The values of a series over time, as a view shows them.

use super::{View, is_distribution};
use crate::cli::ui::store::metrics::Series;
use crate::exporters::debug::buckets::{Bound, Bucket, Estimate, Extremes, buckets, percentiles, percentiles_of};
use crate::exporters::debug::metric::{Shape, rounded};
use crate::exporters::debug::rates::{CUMULATIVE, Rates};
use crate::exporters::debug::unit::Unit;
use crate::otlp::views::metrics::{DataType, Point};

/// The percentile that stands for a distribution where only one does.
pub(in crate::cli::ui::pages) const USUAL: f64 = 95.0;
/// Greater values are not drawn.
pub(super) const GREATEST: f64 = 1e300;
/// The percentiles of a summary that are drawn.
const QUANTILES: usize = 5;

pub(in crate::cli::ui::pages) struct Line {
    pub(super) label: String,
    /// Times and finite values, by time.
    pub(in crate::cli::ui::pages) points: Vec<(u64, f64)>,
    /// What is known of the last value.
    pub(super) bound: Bound,
}

/// What a distribution counted within a time.
#[derive(Clone)]
pub(super) struct Interval {
    start: u64,
    pub(super) time: u64,
    pub(super) count: u64,
    sum: Option<f64>,
    /// Those that are not empty, in ascending order.
    pub(super) buckets: Vec<Bucket>,
    /// Those of a cumulative point are of all its time.
    extremes: Extremes,
    /// The percentiles that a summary brings.
    own: Vec<Estimate>,
}

impl Interval {
    fn estimates(&self) -> Vec<Estimate> {
        if self.own.is_empty() { percentiles_of(&self.buckets, self.extremes) } else { self.own.clone() }
    }

    /// What came since an earlier total. `None` if the two cannot be compared.
    fn since(&self, before: &Interval) -> Option<Interval> {
        if self.start != before.start {
            return Some(self.clone());
        }
        let sum = self.sum.zip(before.sum).map(|(now, before)| now - before);
        let buckets = added(&self.buckets, &before.buckets)?;
        let count = self.count.checked_sub(before.count)?;
        (self.time > before.time).then(|| Interval { count, sum, buckets, ..self.clone() })
    }
}

/// The counts that were added to buckets; `None` if their bounds changed or they began anew.
fn added(now: &[Bucket], before: &[Bucket]) -> Option<Vec<Bucket>> {
    let bounds = |bucket: &Bucket| (bucket.low.to_bits(), bucket.high.to_bits());
    let (mut before, mut out) = (before.iter().peekable(), Vec::new());
    for bucket in now {
        let earlier = before.next_if(|earlier| bounds(earlier) == bounds(bucket)).map_or(0, |earlier| earlier.count);
        out.push(Bucket { count: bucket.count.checked_sub(earlier)?, ..*bucket });
    }
    out.retain(|bucket| bucket.count > 0);
    before.next().is_none().then_some(out)
}

/// What a distribution counted between its points; its whole count if there is only one cumulative point. With
/// `has_extremes`, the outer buckets end at the least and the greatest value, as far as these are known.
pub(super) fn intervals(series: &Series, has_extremes: bool) -> Vec<Interval> {
    let Shape { kind, temporality, .. } = series.shape;
    let is_cumulative = temporality == CUMULATIVE || kind == DataType::Summary;
    let (mut out, mut before) = (Vec::new(), None);
    for mut point in series.points() {
        let extremes = Extremes { min: point.min, max: point.max };
        // The buckets of cumulative points are compared, so they must not end at extremes, which change.
        if is_cumulative || !has_extremes {
            (point.min, point.max) = (None, None);
        }
        let own = if kind == DataType::Summary { percentiles(kind, &point) } else { Vec::new() };
        let buckets = buckets(kind, &point);
        let Point { start, time, count, sum, .. } = point;
        let total = Interval { start, time, count, sum, buckets, extremes, own };
        out.extend(match &before {
            _ if !is_cumulative => Some(total.clone()),
            Some(before) => total.since(before),
            None => None,
        });
        before = Some(total);
    }
    if out.is_empty() {
        out.extend(before);
    }
    out
}

/// One line for a view; of a distribution's percentiles, the one that is asked for or else its last.
pub(in crate::cli::ui::pages) fn line(series: &Series, view: View, percent: f64) -> Line {
    let mut bound = Bound::Near;
    let points: Vec<(u64, f64)> = match view {
        View::Rate => {
            let (points, mut rates) = (series.points(), Rates::default());
            let rated = points.iter().map(|point| (point.time, series.shape.rate(&mut rates, "", b"", point)));
            rated.filter_map(|(time, rate)| Some((time, rate?))).collect()
        }
        View::Percentiles | View::Heat => {
            let estimate = |interval: &Interval| {
                let estimates = interval.estimates();
                let asked = estimates.iter().find(|estimate| estimate.percent == percent).or(estimates.last())?;
                bound = asked.bound;
                Some((interval.time, asked.value))
            };
            intervals(series, true).iter().filter_map(estimate).collect()
        }
        View::Raw if is_distribution(series.shape) => {
            let with_values = intervals(series, false).into_iter().filter(|interval| interval.count > 0);
            with_values.filter_map(|interval| Some((interval.time, interval.sum? / interval.count as f64))).collect()
        }
        View::Raw => {
            let points = series.points();
            points.iter().filter_map(|point| Some((point.time, point.value?.double()))).collect()
        }
    };
    Line { label: String::new(), points: drawable(points), bound }
}

/// The lines of one series: several for percentiles.
pub(super) fn lines(series: &Series, view: View, label: &str) -> Vec<Line> {
    if view != View::Percentiles {
        return vec![Line { label: label.to_owned(), ..line(series, view, USUAL) }];
    }
    let mut lines: Vec<(f64, Line)> = Vec::new();
    for interval in intervals(series, true) {
        for Estimate { percent, value, bound } in interval.estimates() {
            let is_known = lines.iter().any(|(known, _)| *known == percent);
            if !is_known && lines.len() < QUANTILES {
                let label = format!("p{}", rounded(percent, 6));
                lines.push((percent, Line { label, points: Vec::new(), bound }));
            }
            if let Some((_, line)) = lines.iter_mut().find(|(known, _)| *known == percent) {
                line.points.push((interval.time, value));
                line.bound = bound;
            }
        }
    }
    lines.into_iter().map(|(_, line)| Line { points: drawable(line.points), ..line }).collect()
}

fn drawable(mut points: Vec<(u64, f64)>) -> Vec<(u64, f64)> {
    points.retain(|(_, value)| value.abs() <= GREATEST);
    points
}

/// A number without the word of its unit: `0.25`, `1200`, `34.5 M`, `1.5 MiB`.
pub(in crate::cli::ui::pages) fn short(unit: &Unit, value: f64) -> String {
    let (size, name) = scaled(unit, value);
    let significant = if unit.scaled(value).is_some() { 3 } else { 4 };
    format!("{} {name}", rounded(value / size, significant)).trim_end().to_owned()
}

/// The size in which a value is written, and its name.
pub(super) fn scaled(unit: &Unit, value: f64) -> (f64, &'static str) {
    // From which value on a size is used.
    let sizes = [(1e12, 1e12, "T"), (1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")];
    let plain = || sizes.into_iter().find(|(from, ..)| (*from..1e15).contains(&value.abs()));
    let plain = || plain().map_or((1.0, ""), |(_, size, name)| (size, name));
    unit.scaled(value).unwrap_or_else(plain)
}
