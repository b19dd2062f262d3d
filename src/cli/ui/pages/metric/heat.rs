//! The buckets of a histogram over time: the darker a field, the more values it counts.

use maud::{Markup, html};

use super::Named;
use super::course::{Interval, intervals, short};
use crate::cli::ui::pages::{time, time_text};
use crate::exporters::debug::buckets::Bucket;
use crate::exporters::debug::unit::Unit;
use crate::order::Ordered;

/// The most fields in each direction; the picture's size in its own units.
const COLUMNS: usize = 80;
const ROWS: usize = 24;
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 240.0;
/// The most bounds that are written.
const TICKS: usize = 8;
/// The shades of a field.
const SHADES: f64 = 5.0;

/// Neighbouring buckets that share a row.
struct Row {
    low: f64,
    high: f64,
}

impl Row {
    fn name(&self, unit: &Unit) -> String {
        let short = |value| short(unit, value);
        let bounds = match (self.low, self.high) {
            (low, f64::INFINITY) => format!("more than {}", short(low)),
            (f64::NEG_INFINITY, high) => format!("at most {}", short(high)),
            (low, high) if high == low => short(high),
            (low, high) => format!("{} to {}", short(low), short(high)),
        };
        bounds + &unit.word
    }
}

pub(super) fn map(named: &Named<'_>) -> Markup {
    let (intervals, unit) = (intervals(named.series, false), named.series.read_unit());
    let rows = rows(&intervals);
    let (Some(first), Some(last), false) = (intervals.first(), intervals.last(), rows.is_empty()) else {
        return html! { p { "Nothing to draw yet: the histogram has no buckets, or counted nothing." } };
    };
    let columns: Vec<&[Interval]> = intervals.chunks(intervals.len().div_ceil(COLUMNS)).collect();
    let counts: Vec<Vec<u64>> = columns.iter().map(|column| counts(column, &rows)).collect();
    let most = counts.iter().flatten().copied().max().unwrap_or(1).max(1);
    let (width, height) = (WIDTH / columns.len() as f64, HEIGHT / rows.len() as f64);
    let of_row = |index: usize| {
        counts.iter().filter_map(|column| column.get(index)).fold(0, |sum: u64, count| sum.saturating_add(*count))
    };
    let total =
        |intervals: &[Interval]| intervals.iter().fold(0, |sum: u64, interval| sum.saturating_add(interval.count));
    let label = format!(
        "{} values from {} to {} by bucket; the table has the same",
        total(&intervals),
        time_text(first.time),
        time_text(last.time)
    );
    let shade = |count: u64| ((count as f64).ln_1p() / (most as f64).ln_1p() * SHADES).ceil().clamp(1.0, SHADES);
    html! {
        figure class="chart" {
            p class="unit" { "Values by bucket" @if !unit.word.is_empty() { "," (unit.word) } " – " (named.label) }
            div class="plot" {
                ul class="ticks between" aria-hidden="true" {
                    @for row in rows.iter().rev().step_by(rows.len().div_ceil(TICKS)) {
                        li { @if row.high.is_finite() { "≤ " (short(&unit, row.high)) } @else { "> " (short(&unit, row.low)) } }
                    }
                }
                svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="none" role="img" aria-label=(label) {
                    @for (at, (column, of)) in counts.iter().zip(&columns).enumerate() {
                        @let until = of.last().map_or(0, |interval| interval.time);
                        @let fields = column.iter().zip(&rows).enumerate();
                        @for (index, (count, row)) in fields.filter(|(_, (count, _))| **count > 0) {
                            rect class=(format!("heat heat-{}", shade(*count)))
                                x=(format!("{:.1}", width * at as f64))
                                y=(format!("{:.1}", HEIGHT - height * (index + 1) as f64))
                                width=(format!("{width:.1}")) height=(format!("{height:.1}")) {
                                title { (count) " of " (row.name(&unit)) " until " (time_text(until)) }
                            }
                        }
                    }
                }
            }
            figcaption class="ends" { (time(first.time)) span { "darkest: " (most) } (time(last.time)) }
        }
        details id="heat-table" {
            summary { "The counts as a table" }
            table {
                caption { "Values in all of this time" }
                thead { tr { th scope="col" { "Bucket" } th scope="col" class="number" { "Values" } } }
                tbody {
                    @for (index, row) in rows.iter().enumerate().rev() {
                        tr { th scope="row" { (row.name(&unit)) } td class="number" { (of_row(index)) } }
                    }
                }
            }
        }
    }
}

/// Rows for all buckets in ascending order.
fn rows(intervals: &[Interval]) -> Vec<Row> {
    let mut buckets: Vec<Bucket> = intervals.iter().flat_map(|interval| interval.buckets.iter().copied()).collect();
    buckets.order_by(|one, other| one.low.total_cmp(&other.low).then(one.high.total_cmp(&other.high)));
    buckets.dedup_by_key(|bucket| (bucket.low.to_bits(), bucket.high.to_bits()));
    let run = |run: &[Bucket]| {
        let (first, last) = run.first().zip(run.last())?;
        Some(Row { low: first.low, high: last.high })
    };
    buckets.chunks(buckets.len().div_ceil(ROWS).max(1)).filter_map(run).collect()
}

/// The counts of a column: each bucket counts in the last row that begins at or below it.
fn counts(column: &[Interval], rows: &[Row]) -> Vec<u64> {
    let mut counts = vec![0u64; rows.len()];
    for bucket in column.iter().flat_map(|interval| &interval.buckets) {
        let after = rows.partition_point(|row| row.low.total_cmp(&bucket.low).is_le());
        if let Some(count) = after.checked_sub(1).and_then(|index| counts.get_mut(index)) {
            *count = count.saturating_add(bucket.count);
        }
    }
    counts
}
