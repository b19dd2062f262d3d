//! One metric of one service: its course as a chart, its latest values as a table, and its exemplars.

pub(super) mod chart;
pub(super) mod course;
mod exemplars;
mod heat;
mod labels;

use maud::{Markup, html};

use super::metrics::has;
use super::{Asked, Screen, time};
use crate::cli::ui::store::Store;
use crate::cli::ui::store::metrics::Series;
use crate::exporters::debug::buckets::PERCENTILES;
use crate::exporters::debug::metric::Shape;
use crate::exporters::debug::rates::CUMULATIVE;
use crate::exporters::debug::unit::Unit;
use crate::order::Ordered;
use crate::otlp::views::metrics::DataType;
use course::{Line, USUAL};

/// The series that are drawn, and those in the table.
const DRAWN: usize = 12;
const LISTED: usize = 200;

/// What distinguishes one metric from others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key<'s> {
    pub(super) service: &'s str,
    pub(super) name: &'s str,
    pub(super) unit: &'s str,
    pub(super) shape: Shape,
}

/// A series with its key, and what distinguishes it from the others of its metric.
struct Named<'s> {
    key: u64,
    series: &'s Series,
    label: String,
}

impl<'s> Key<'s> {
    pub(super) fn of(series: &'s Series) -> Key<'s> {
        Key { service: &series.headers.service, name: &series.name, unit: &series.unit, shape: series.shape }
    }
}

/// How a metric is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum View {
    #[default]
    Raw,
    Rate,
    Percentiles,
    Heat,
}

impl View {
    /// The views of a type of metric, the usual one first.
    pub(super) fn of(shape: Shape) -> &'static [View] {
        match shape.kind {
            DataType::Sum if shape.is_monotonic => &[View::Rate, View::Raw],
            DataType::Histogram | DataType::ExponentialHistogram => {
                &[View::Percentiles, View::Heat, View::Rate, View::Raw]
            }
            DataType::Summary => &[View::Percentiles, View::Raw],
            DataType::Empty | DataType::Gauge | DataType::Sum => &[View::Raw],
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            View::Raw => "raw",
            View::Rate => "rate",
            View::Percentiles => "percentiles",
            View::Heat => "heat",
        }
    }

    /// What it shows, in words.
    fn title(self, shape: Shape) -> &'static str {
        match self {
            View::Raw if is_distribution(shape) => "Mean",
            View::Raw => "Value",
            View::Rate => "Rate",
            View::Percentiles => "Percentiles",
            View::Heat => "Heat map",
        }
    }
}

fn is_distribution(shape: Shape) -> bool {
    matches!(shape.kind, DataType::Histogram | DataType::ExponentialHistogram | DataType::Summary)
}

pub(super) fn kind(shape: Shape) -> &'static str {
    match shape.kind {
        DataType::Empty => "metric",
        DataType::Gauge => "gauge",
        DataType::Sum if shape.is_monotonic => "counter",
        DataType::Sum => "sum",
        DataType::Histogram => "histogram",
        DataType::ExponentialHistogram => "exponential histogram",
        DataType::Summary => "summary",
    }
}

pub(super) fn address(key: &Key<'_>) -> String {
    super::address("/metric", &[("service", key.service), ("name", key.name)])
}

/// `None` if there is no such metric.
pub(super) fn screen(store: &Store, asked: &Asked) -> Option<Screen> {
    let is_asked =
        |series: &Series| *series.headers.service == *asked.get("service") && *series.name == *asked.get("name");
    let mut all: Vec<(u64, &Series)> = store.metrics.all().filter(|(_, series)| is_asked(series)).collect();
    // The same name may stand for several types; the one that most series have is shown.
    all.order_by_key(|(key, series)| (Key::of(series), *key));
    let of_type = all.chunk_by(|(_, one), (_, other)| Key::of(one) == Key::of(other)).max_by_key(|run| run.len())?;
    let (_, any) = of_type.first()?;
    let key = Key::of(any);
    let words: Vec<String> = asked.get("text").split_whitespace().map(str::to_lowercase).collect();
    let mut among: Vec<(u64, &Series)> = of_type.iter().filter(|(_, series)| has(series, &words)).copied().collect();
    among.order_by(|(key, one), (other_key, other)| {
        other.weight.total_cmp(&one.weight).then_with(|| one.attributes.cmp(&other.attributes)).then(key.cmp(other_key))
    });
    let among = labels::named(&among);
    let others = all.len() - of_type.len();
    let part = html! {
        @if !any.description.is_empty() { p { (any.description) } }
        p class="note" {
            (kind(key.shape))
            @if key.shape.kind != DataType::Gauge && key.shape.kind != DataType::Summary {
                ", " (if key.shape.temporality == CUMULATIVE { "cumulative" } else { "delta" })
            }
            @if !key.unit.is_empty() { ", in " (key.unit) }
            ", service " a href=(super::address("/metrics", &[("service", key.service)])) { (key.service) }
            @if others > 0 { "; " (others) " further series have this name but another type or unit, and are left out" }
        }
        @if among.is_empty() {
            p { "No series has these words." }
        } @else {
            (shown(store, asked, key.shape, &among))
        }
    };
    Some(Screen { title: any.name.to_string(), fixed: form(asked), part })
}

fn form(asked: &Asked) -> Markup {
    html! {
        form method="get" action="/metric" role="search" class="filter" {
            @for key in ["service", "name", "view", "p"] {
                @if !asked.get(key).is_empty() { input type="hidden" name=(key) value=(asked.get(key)); }
            }
            label {
                "Series with the words"
                input type="search" name="text" value=(asked.get("text")) autocomplete="off";
            }
            button type="submit" { "Show" }
        }
    }
}

/// The chart and the tables. There is a series.
fn shown(store: &Store, asked: &Asked, shape: Shape, among: &[Named<'_>]) -> Markup {
    let views = View::of(shape);
    let is_named = |view: &View| view.name() == asked.get("view");
    let view = views.iter().copied().find(is_named).or(views.first().copied()).unwrap_or_default();
    let chosen = among.iter().find(|named| named.key.to_string() == asked.get("series"));
    let drawn: Vec<&Named<'_>> = match (chosen, view) {
        (Some(chosen), _) => vec![chosen],
        (None, View::Heat) => among.iter().take(1).collect(),
        (None, _) => among.iter().take(DRAWN).collect(),
    };
    let percent = PERCENTILES.into_iter().find(|percent| percent.to_string() == asked.get("p")).unwrap_or(USUAL);
    let lines: Vec<Line> = match &*drawn {
        [named] => course::lines(named.series, view, &named.label),
        several => {
            let line =
                |named: &&Named<'_>| Line { label: named.label.clone(), ..course::line(named.series, view, percent) };
            several.iter().map(line).collect()
        }
    };
    let has_percentiles = view == View::Percentiles && drawn.len() > 1;
    html! {
        nav aria-label="Views" class="choices" {
            @for other in views {
                @let is_current = (*other == view).then_some("true");
                a href=(asked.with(&[("view", other.name())])) aria-current=[is_current] { (other.title(shape)) }
            }
        }
        @if has_percentiles {
            nav aria-label="Percentile" class="choices" {
                @for other in PERCENTILES {
                    @let is_current = (other == percent).then_some("true");
                    a href=(asked.with(&[("p", &other.to_string())])) aria-current=[is_current] { "p" (other) }
                }
            }
        }
        @if among.len() > drawn.len() {
            p class="note" {
                @if chosen.is_some() {
                    "One series. " a href=(asked.with(&[("series", "")])) { "Show all " (among.len()) }
                } @else {
                    "Of " (among.len()) " series, the greatest "
                    @if drawn.len() == 1 { "one is" } @else { (drawn.len()) " are" }
                    " drawn; choose another below."
                }
            }
        }
        @match (view, &*drawn) {
            (View::Heat, [named, ..]) => (heat::map(named)),
            _ => {
                @let (unit, word) = axis(view, shape, drawn.first().map_or("", |named| &named.series.unit));
                @let title = if has_percentiles { format!("p{percent}") } else { view.title(shape).to_owned() };
                (chart::chart(&title, (&unit, &word), &lines, &exemplars::dots(store, view, &drawn)))
                (chart::legend(&unit, &lines))
            }
        }
        (table(asked, among, &drawn))
        (exemplars::table(store, &drawn))
    }
}

/// The unit of the values in a view, and what follows each of them.
fn axis(view: View, shape: Shape, unit: &str) -> (Unit, String) {
    // The rate of a distribution is that of its count.
    let is_count = view == View::Rate && is_distribution(shape);
    let unit = Unit::of(if is_count { b"" } else { unit.as_bytes() });
    let word = if view == View::Rate { format!("{} per second", unit.word) } else { unit.word.clone() };
    (unit, word)
}

fn table(asked: &Asked, among: &[Named<'_>], drawn: &[&Named<'_>]) -> Markup {
    let is_chosen = |key: u64| among.len() > 1 && matches!(drawn, [named] if named.key == key);
    html! {
        div class="scroll" tabindex="0" role="region" aria-label="Latest values" {
            table class="list" {
                caption {
                    "Latest values, as " code { "misaki tail" } " writes them: " (among.len()) " series"
                    @if among.len() > LISTED { ", the greatest " (LISTED) " of them" }
                }
                thead { tr {
                    th scope="col" { "Series" }
                    th scope="col" { "Latest" }
                    th scope="col" { "Time" }
                } }
                tbody {
                    @for Named { key, series, label } in among.iter().take(LISTED) {
                        @let (at, value) = series.latest().unwrap_or_default();
                        tr data-row class=[is_chosen(*key).then_some("chosen")] {
                            td class="wide" { a href=(asked.with(&[("series", &key.to_string())])) { (label) } }
                            td class="wide words" { (value) }
                            td { (time(at)) }
                        }
                    }
                }
            }
        }
    }
}
