//! Exemplars: single measurements of a metric, each with the request that it was made in.

use maud::{Markup, html};

use super::chart::Dot;
use super::course::short;
use super::{Named, View};
use crate::cli::ui::pages::{request_address, time};
use crate::cli::ui::store::Store;
use crate::diagnostics::columns::counted;
use crate::order::Ordered;
use crate::otlp::views::metrics::{DataType, Exemplar};

/// Those in the chart, and in the table.
const DOTS: usize = 200;
const ROWS: usize = 50;

struct Measured<'s> {
    time: u64,
    value: f64,
    trace: &'s [u8],
    span: &'s [u8],
    named: &'s Named<'s>,
}

/// The exemplars of these series that name their request, the newest first.
fn measured<'s>(drawn: &[&'s Named<'s>]) -> Vec<Measured<'s>> {
    let mut all = Vec::new();
    for named in drawn {
        for point in named.series.points() {
            for exemplar in point.exemplars.clone().map(Exemplar::read) {
                let Some(value) = exemplar.value.filter(|_| !exemplar.trace_id.is_empty()) else { continue };
                let time = if exemplar.time == 0 { point.time } else { exemplar.time };
                let (value, trace, span) = (value.double(), exemplar.trace_id, exemplar.span_id);
                all.push(Measured { time, value, trace, span, named });
            }
        }
    }
    all.order_by(|one, other| (other.time, other.trace).cmp(&(one.time, one.trace)));
    all.dedup_by(|one, other| (one.time, one.trace, one.span) == (other.time, other.trace, other.span));
    all
}

/// The exemplars for a chart, where its axis is that of the single values.
pub(super) fn dots(store: &Store, view: View, drawn: &[&Named<'_>]) -> Vec<Dot> {
    let is_value = |measured: &Measured<'_>| match measured.named.series.shape.kind {
        DataType::Gauge => true,
        DataType::Histogram | DataType::ExponentialHistogram => matches!(view, View::Percentiles | View::Raw),
        _ => false,
    };
    let drawable = measured(drawn)
        .into_iter()
        .filter(|measured| is_value(measured) && measured.value.abs() <= super::course::GREATEST);
    let dot = |measured: Measured<'_>| {
        Some(Dot {
            time: measured.time,
            value: measured.value,
            address: request_address(store, measured.trace, measured.span)?,
        })
    };
    drawable.filter_map(dot).take(DOTS).collect()
}

/// The exemplars as a table; empty if there are none.
pub(super) fn table(store: &Store, drawn: &[&Named<'_>]) -> Markup {
    let measured = measured(drawn);
    if measured.is_empty() {
        return Markup::default();
    }
    html! {
        h2 { "Measured in requests" }
        div class="scroll" tabindex="0" role="region" aria-label="Exemplars" {
            table class="list" {
                caption {
                    (counted(measured.len(), "exemplar"))
                    @if measured.len() > ROWS { ", the newest " (ROWS) " of them" }
                }
                thead { tr {
                    th scope="col" { "Time" }
                    th scope="col" { "Value" }
                    th scope="col" { "Series" }
                    th scope="col" { "Request" }
                } }
                tbody {
                    @for measured in measured.iter().take(ROWS) {
                        @let unit = measured.named.series.read_unit();
                        tr data-row {
                            td { (time(measured.time)) }
                            td class="number" {
                                (short(&unit, measured.value)) (unit.word)
                            }
                            td class="wide" { (measured.named.label) }
                            td {
                                @match request_address(store, measured.trace, measured.span) {
                                    Some(address) => a href=(address) { "request" },
                                    None => span class="faint" { "not here" }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
