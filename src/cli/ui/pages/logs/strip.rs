//! The counts of records by level over time: bars, each a link to its time, and the same as a table.

use maud::{Markup, html};

use super::level::Level;
use super::{Asked, Found, narrowed};
use crate::cli::ui::pages::{time, time_text};
use crate::exporters::debug::layout;

/// The most bars; the picture's size in its own units.
const BARS: u64 = 80;
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 64.0;
/// A bar that counts anything is at least this high.
const LEAST: f64 = 2.0;
const SECOND: u64 = 1_000_000_000;
/// The lengths of time of a bar, in nanoseconds.
const STEPS: [u64; 20] = [
    SECOND / 1000,
    SECOND / 200,
    SECOND / 50,
    SECOND / 10,
    SECOND / 4,
    SECOND,
    2 * SECOND,
    5 * SECOND,
    15 * SECOND,
    30 * SECOND,
    60 * SECOND,
    120 * SECOND,
    300 * SECOND,
    900 * SECOND,
    1800 * SECOND,
    3600 * SECOND,
    4 * 3600 * SECOND,
    12 * 3600 * SECOND,
    86_400 * SECOND,
    7 * 86_400 * SECOND,
];

type Counts = [u64; Level::COUNT];

/// A time, and the counts of its records.
struct Bar {
    from: u64,
    counts: Counts,
}

impl Bar {
    fn total(&self) -> u64 {
        self.counts.iter().sum()
    }
}

struct Strip {
    first: u64,
    step: u64,
    bars: Vec<Bar>,
    /// Records before or after the time that is shown.
    outside: u64,
}

/// There is a record. They are sorted by time.
pub(super) fn strip(asked: &Asked, found: &[Found<'_>]) -> Markup {
    let strip = Strip::of(found);
    let mut totals = Counts::default();
    found.iter().for_each(|found| count(&mut totals, found.level));
    let most = strip.bars.iter().map(Bar::total).max().unwrap_or(1).max(1);
    let label = format!("Log records over time, at most {most} in {}: {}", layout::duration(strip.step), said(&totals));
    let width = WIDTH / strip.bars.len().max(1) as f64;
    html! {
        figure class="strip" {
            svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="none" role="img" aria-label=(label) {
                @for (index, bar) in strip.bars.iter().enumerate().filter(|(_, bar)| bar.total() > 0) {
                    a href=(strip.address(asked, bar)) tabindex="-1" {
                        title { (time_text(bar.from)) ": " (said(&bar.counts)) }
                        (stack(bar, width * index as f64, width, most))
                    }
                }
            }
            figcaption class="ends" {
                (time(strip.first)) span { (layout::duration(strip.step)) " a bar" } (time(strip.end()))
            }
        }
        p class="note levels" {
            @for level in Level::NAMED.into_iter().rev().chain([Level::None]) {
                @if let Some(count) = totals.get(level as usize).filter(|count| **count > 0) {
                    @let least = if level == Level::None { "" } else { level.name() };
                    span {
                        span class=(format!("swatch {}", level.class())) {}
                        a href=(asked.with(&[("level", least), ("before", ""), ("after", "")])) {
                            (count) " " (level.name())
                        }
                    }
                }
            }
            @if strip.outside > 0 { span { (strip.outside) " of another time, which the bars leave out" } }
        }
        details id="strip-table" {
            summary { "The counts as a table" }
            (table(asked, &strip))
        }
    }
}

impl Strip {
    /// A few records of an unlikely time must not make all others one bar.
    fn of(found: &[Found<'_>]) -> Strip {
        let at = |index: usize| found.get(index).map_or(0, |found| found.at.0);
        let (end, apart) = (found.len().saturating_sub(1), found.len() / 100);
        let (mut first, mut last) = (at(0), at(end));
        let (inner, inner_last) = (at(apart), at(end - apart));
        if (last - first) / 20 > inner_last - inner {
            (first, last) = (inner, inner_last);
        }
        let step = STEPS.into_iter().find(|step| (last - first) / step < BARS - 1);
        let step = step.unwrap_or((last - first) / (BARS - 1)).max(1);
        first = first / step * step;
        let bar = |index: u64| Bar { from: first + index * step, counts: Counts::default() };
        let mut bars: Vec<_> = (0..=(last - first) / step).map(bar).collect();
        let mut outside = 0;
        for found in found {
            let index = found.at.0.checked_sub(first).and_then(|after| usize::try_from(after / step).ok());
            match index.and_then(|index| bars.get_mut(index)) {
                Some(bar) => count(&mut bar.counts, found.level),
                None => outside += 1,
            }
        }
        Strip { first, step, bars, outside }
    }

    fn end(&self) -> u64 {
        self.first.saturating_add(self.step.saturating_mul(self.bars.len() as u64))
    }

    fn address(&self, asked: &Asked, bar: &Bar) -> String {
        narrowed(asked, &bar.from.to_string(), &bar.from.saturating_add(self.step - 1).to_string())
    }
}

fn count(counts: &mut Counts, level: Level) {
    if let Some(count) = counts.get_mut(level as usize) {
        *count += 1;
    }
}

/// The errors stand on the ground, where the smallest number of them is seen.
fn stack(bar: &Bar, x: f64, width: f64, most: u64) -> Markup {
    let (mut y, mut rows) = (HEIGHT, Vec::new());
    let kinds = [Level::Error, Level::Warn, Level::Info, Level::Debug].map(Level::class);
    for class in kinds {
        let of_class = [Level::None].into_iter().chain(Level::NAMED).filter(|level| level.class() == class);
        let count: u64 = of_class.filter_map(|level| bar.counts.get(level as usize)).sum();
        if count > 0 {
            let height = (count as f64 / most as f64 * (HEIGHT - 8.0)).max(LEAST);
            y -= height;
            rows.push((class, y, height));
        }
    }
    let (x, width) = (format!("{:.1}", x + width * 0.08), format!("{:.1}", width * 0.84));
    html! {
        rect class="ground" x=(x) y="0" width=(width) height=(HEIGHT) {}
        @for (class, y, height) in rows {
            rect class=(class) x=(x) y=(format!("{y:.1}")) width=(width) height=(format!("{height:.1}")) {}
        }
    }
}

fn table(asked: &Asked, strip: &Strip) -> Markup {
    html! {
        table {
            caption { "Log records in " (layout::duration(strip.step)) " each" }
            thead { tr { th scope="col" { "From" } th scope="col" { "Records" } th scope="col" { "By level" } } }
            tbody {
                @for bar in strip.bars.iter().rev().filter(|bar| bar.total() > 0) {
                    tr {
                        td { a href=(strip.address(asked, bar)) { (time(bar.from)) } }
                        td class="number" { (bar.total()) }
                        td { (said(&bar.counts)) }
                    }
                }
            }
        }
    }
}

/// `2 ERROR, 30 INFO`
fn said(counts: &Counts) -> String {
    let levels = Level::NAMED.into_iter().rev().chain([Level::None]);
    let counted = levels.filter_map(|level| Some((counts.get(level as usize).filter(|count| **count > 0)?, level)));
    counted.map(|(count, level)| format!("{count} {}", level.name())).collect::<Vec<_>>().join(", ")
}
