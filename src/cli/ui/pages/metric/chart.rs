//! Lines over time with their axes, and a legend in words.

use maud::{Markup, html};

use super::course::{Line, scaled, short};
use crate::cli::ui::pages::{time, time_text};
use crate::exporters::debug::buckets::Bound;
use crate::exporters::debug::metric::rounded;
use crate::exporters::debug::unit::Unit;

/// The picture's size in its own units.
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 240.0;
/// About as many steps divide the axis of values.
const STEPS: f64 = 4.0;
/// The styles that tell lines apart.
const STYLES: usize = 12;

/// A single value, and the address of its request.
pub(super) struct Dot {
    pub(super) time: u64,
    pub(super) value: f64,
    pub(super) address: String,
}

/// The axis of values: equal steps from `low` on.
struct Axis {
    low: f64,
    step: f64,
    steps: usize,
}

impl Axis {
    /// An axis with round numbers on which all values have a place.
    fn of(unit: &Unit, low: f64, high: f64) -> Axis {
        // Zero belongs to it unless all values are far from it.
        let low = if low > 0.0 && low < high * 0.7 { 0.0 } else { low };
        let least = (high / STEPS - low / STEPS).max(high.abs().max(low.abs()) * 1e-9).max(1e-300);
        let (one, name) = unit.scaled(least).unwrap_or((1.0, ""));
        let step = one * round(least / one, name);
        let low = (low / step).floor() * step;
        let steps = ((high / step - low / step).ceil() as usize).clamp(1, 2 * STEPS as usize);
        Axis { low, step, steps }
    }

    fn y(&self, value: f64) -> f64 {
        let part = (value / self.step - self.low / self.step) / self.steps as f64;
        HEIGHT * (1.0 - part.clamp(0.0, 1.0))
    }

    /// The numbers at the ticks, all in one size, with as many digits as tell them apart.
    fn numbers(&self, unit: &Unit) -> impl Iterator<Item = String> {
        let greatest = self.ticks().map(f64::abs).fold(self.step, f64::max);
        let (size, name) = scaled(unit, greatest);
        let digits = (greatest / size).log10().floor() - (self.step / size).log10().floor() + 1.0;
        let name = move |tick| if tick == 0.0 { "" } else { name };
        let number = move |tick| format!("{} {}", rounded(tick / size, (digits as i32).clamp(3, 12)), name(tick));
        self.ticks().map(number).map(|number| number.trim_end().to_owned())
    }

    /// From above.
    fn ticks(&self) -> impl Iterator<Item = f64> + '_ {
        (0..=self.steps).rev().map(|index| self.low + self.step * index as f64)
    }
}

/// The next round number of a unit.
fn round(least: f64, unit: &str) -> f64 {
    let of_sixty = [1.0, 2.0, 5.0, 10.0, 20.0, 30.0];
    match unit {
        "min" | "h" => of_sixty.into_iter().find(|step| *step >= least).unwrap_or(60.0),
        _ if unit.ends_with('B') => least.log2().ceil().exp2(),
        _ => {
            let size = 10f64.powf(least.log10().floor());
            [size, 2.0 * size, 5.0 * size].into_iter().find(|step| *step >= least).unwrap_or(10.0 * size)
        }
    }
}

/// With what follows each value, with the space before it.
pub(super) fn chart(title: &str, (unit, word): (&Unit, &str), lines: &[Line], dots: &[Dot]) -> Markup {
    let points = || lines.iter().flat_map(|line| line.points.iter().copied());
    let all = || points().chain(dots.iter().map(|dot| (dot.time, dot.value)));
    let times = || all().map(|(time, _)| time);
    let values = || all().map(|(_, value)| value);
    let (Some(first), Some(last)) = (times().min(), times().max()) else {
        return html! { p { "Nothing to draw yet: there are too few points, or none has such a value." } };
    };
    let axis = Axis::of(unit, values().fold(f64::MAX, f64::min), values().fold(f64::MIN, f64::max));
    let x = |time: u64| WIDTH * if last > first { (time - first) as f64 / (last - first) as f64 } else { 0.5 };
    let place = |time: u64, value: f64| format!("{:.1} {:.1}", x(time), axis.y(value));
    let path = |line: &Line| {
        let places: Vec<_> = line.points.iter().map(|(time, value)| place(*time, *value)).collect();
        // A single point is a line of no length, whose round ends show it.
        format!("M{}{}", places.join("L"), if places.len() == 1 { "h0" } else { "" })
    };
    let label = format!("{title} from {} to {}: {}", time_text(first), time_text(last), said(lines, unit, word));
    html! {
        figure class="chart" {
            p class="unit" { (title) @if !word.is_empty() { "," (word) } }
            div class="plot" {
                ul class="ticks" aria-hidden="true" { @for number in axis.numbers(unit) { li { (number) } } }
                svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="none" role="img" aria-label=(label) {
                    @for tick in axis.ticks() {
                        @let y = format!("{:.1}", axis.y(tick));
                        line class="grid" x1="0" x2=(WIDTH) y1=(y) y2=(y) {}
                    }
                    @for (index, line) in lines.iter().enumerate().filter(|(_, line)| !line.points.is_empty()) {
                        path class=(style(index)) d=(path(line)) { title { (line.label) } }
                    }
                    @for dot in dots {
                        a href=(dot.address) tabindex="-1" {
                            title { "Request with " (short(unit, dot.value)) " at " (time_text(dot.time)) }
                            path class="exemplar" d=(format!("M{}h0", place(dot.time, dot.value))) {}
                        }
                    }
                }
            }
            figcaption class="ends" {
                (time(first))
                @if !dots.is_empty() { span { "● a request that was measured" } }
                (time(last))
            }
        }
    }
}

fn style(index: usize) -> String {
    format!("course course-{}", index % STYLES)
}

/// Each line in words: its last value, and between which values it runs.
fn said(lines: &[Line], unit: &Unit, word: &str) -> String {
    let range = |line: &Line| {
        let values = || line.points.iter().map(|(_, value)| *value);
        let last = values().next_back()?;
        let (low, high) = (values().fold(f64::MAX, f64::min), values().fold(f64::MIN, f64::max));
        let last = format!("{}{}", before(line.bound), short(unit, last));
        Some(format!("{} last {last}{word}, between {} and {}", line.label, short(unit, low), short(unit, high)))
    };
    lines.iter().filter_map(range).collect::<Vec<_>>().join("; ")
}

/// What stands before a value that is not known.
fn before(bound: Bound) -> &'static str {
    match bound {
        Bound::Near => "",
        Bound::AtMost => "≤ ",
        Bound::Above => "> ",
    }
}

pub(super) fn legend(unit: &Unit, lines: &[Line]) -> Markup {
    html! {
        ul class="legend" {
            @for (index, line) in lines.iter().enumerate() {
                li {
                    svg viewBox="0 0 28 10" aria-hidden="true" { path class=(style(index)) d="M1 5H27" {} }
                    span {
                        (line.label)
                        @if let Some((_, last)) = line.points.last() { " " strong { (before(line.bound)) (short(unit, *last)) } }
                    }
                }
            }
        }
    }
}
