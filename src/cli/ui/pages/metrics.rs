//! The metrics by service and name, each with its latest value and its course.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::metric::course::{self, Line};
use super::metric::{Key, View, address, kind};
use super::{Asked, Screen, choice};
use crate::cli::ui::store::Store;
use crate::cli::ui::store::metrics::Series;
use crate::diagnostics::columns::{counted, cut};

/// Rows on one page.
const ROWS: usize = 100;
/// The points of a small picture, and its size.
const POINTS: usize = 60;
const WIDTH: f64 = 120.0;
const HEIGHT: f64 = 22.0;
/// The columns of a unit.
const UNIT: usize = 20;

pub(super) fn screen(store: &Store, asked: &Asked) -> Screen {
    let words: Vec<String> = asked.get("text").split_whitespace().map(str::to_lowercase).collect();
    let service = asked.get("service");
    let mut rows: BTreeMap<Key<'_>, Vec<&Series>> = BTreeMap::new();
    for (_, series) in store.metrics.all() {
        if (service.is_empty() || *series.headers.service == *service) && has(series, &words) {
            rows.entry(Key::of(series)).or_default().push(series);
        }
    }
    let part = html! {
        @if rows.is_empty() {
            p { "No metric yet, or none that fits. " a href="/metrics" { "Show all" } "." }
        } @else {
            (table(asked, &rows))
        }
    };
    Screen { title: "Metrics".to_owned(), fixed: form(store, asked), part }
}

/// Whether all of the words occur in what a series is called.
pub(super) fn has(series: &Series, words: &[String]) -> bool {
    if words.is_empty() {
        return true;
    }
    let Series { name, unit, description, attributes, .. } = series;
    let text = format!("{} {name} {unit} {description} {attributes}", series.headers.service).to_lowercase();
    words.iter().all(|word| text.contains(word))
}

fn form(store: &Store, asked: &Asked) -> Markup {
    if asked.is_part() {
        return html! {};
    }
    let services = store.metrics.all().map(|(_, series)| &*series.headers.service);
    html! {
        form method="get" action="/metrics" role="search" class="filter" {
            label {
                "Text"
                input type="search" name="text" value=(asked.get("text")) autocomplete="off"
                    placeholder="http duration";
            }
            (choice(asked, services))
            button type="submit" { "Show" }
        }
    }
}

fn table(asked: &Asked, rows: &BTreeMap<Key<'_>, Vec<&Series>>) -> Markup {
    let page = asked.get("page").parse::<usize>().unwrap_or(0).min(rows.len().saturating_sub(1) / ROWS);
    let first = page * ROWS;
    html! {
        div class="scroll" tabindex="0" role="region" aria-label="Metrics" {
            table class="list" {
                caption { (counted(rows.len(), "metric")) "; of several series, the greatest is shown" }
                thead { tr {
                    th scope="col" { "Service" }
                    th scope="col" { "Metric" }
                    th scope="col" { "Type" }
                    th scope="col" { "Unit" }
                    th scope="col" { "Latest" }
                    th scope="col" { "Course" }
                    th scope="col" { "Series" }
                } }
                tbody { @for (key, among) in rows.iter().skip(first).take(ROWS) { (row(key, among)) } }
            }
        }
        @if rows.len() > ROWS {
            nav aria-label="Pages" class="pages" {
                @if page > 0 { a rel="prev" href=(asked.with(&[("page", &(page - 1).to_string())])) { "Before" } }
                span { (first + 1) "–" (rows.len().min(first + ROWS)) " of " (rows.len()) }
                @if first + ROWS < rows.len() {
                    a rel="next" href=(asked.with(&[("page", &(page + 1).to_string())])) { "After" }
                }
            }
        }
    }
}

/// Of several series the greatest stands for all, and is named.
fn row(key: &Key<'_>, among: &[&Series]) -> Markup {
    let greatest = among.iter().max_by(|one, other| one.weight.total_cmp(&other.weight));
    let latest = greatest.and_then(|series| series.latest()).map(|(_, value)| value);
    html! {
        tr data-row {
            td { (key.service) }
            td class="wide" { a href=(address(key)) { (key.name) } }
            td class="less" { (kind(key.shape)) }
            td class="less" { (cut(key.unit, UNIT)) }
            td class="wide words" {
                (latest.unwrap_or_default())
                @if let Some(series) = greatest.filter(|series| among.len() > 1 && !series.attributes.is_empty()) {
                    "  " span class="faint" { (series.attributes) }
                }
            }
            td { @if let Some(series) = greatest { (spark(series)) } }
            td class="less number" { (among.len()) }
        }
    }
}

/// The course of a series in a small picture.
fn spark(series: &Series) -> Markup {
    let view = View::of(series.shape).first().copied().unwrap_or_default();
    let Line { points, .. } = course::line(series, view, course::USUAL);
    let points = points.get(points.len().saturating_sub(POINTS)..).unwrap_or_default();
    let (Some((first, _)), Some((last, _))) = (points.first(), points.last()) else { return Markup::default() };
    let (low, high) =
        points.iter().fold((f64::MAX, f64::MIN), |(low, high), (_, value)| (low.min(*value), high.max(*value)));
    let x = |time: u64| 1.0 + (WIDTH - 2.0) * (time - first) as f64 / (last - first).max(1) as f64;
    let part = |value: f64| if high > low { (value / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0) } else { 0.5 };
    let y = |value: f64| HEIGHT - 2.0 - (HEIGHT - 4.0) * part(value);
    let path = points.iter().map(|(time, value)| format!("{:.1},{:.1}", x(*time), y(*value)));
    let points_said = counted(points.len(), "point");
    let unit = series.read_unit();
    let [low, high] = [low, high].map(|value| course::short(&unit, value));
    let label = format!("{}, {points_said} between {low} and {high}", view.name());
    html! {
        svg class="spark" viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="xMinYMid"
            role="img" aria-label=(label) {
            title { (label) }
            @if points.len() > 1 {
                polyline points=(path.collect::<Vec<_>>().join(" ")) {}
            } @else {
                circle cx=(WIDTH / 2.0) cy=(HEIGHT / 2.0) r="2" {}
            }
        }
    }
}
