//! The text of the `debug` exporter, made directly from the wire.
//!
//! `basic`, `normal` and `detailed` print the same bytes as the Go collector. Our own forms are `line` and `json`,
//! which print item by item, and `tree`, which gathers whole requests (`requests`), finds their critical path (`tree`)
//! and draws them (`block`). All forms but `tree` write while they `walk` through a request.
//!
//! The text can be a thousand times its request, so it is never held: `printer` makes it on the output's own thread
//! (`diagnostics/output.rs`) in pieces, and each piece is written before the next one is made. `sampling` limits
//! repeated messages.

mod block;
pub(crate) mod buckets;
pub(crate) mod call;
mod detailed;
mod json;
pub(crate) mod layout;
pub(crate) mod line;
pub(crate) mod metric;
mod normal;
mod printer;
pub(crate) mod rates;
pub(crate) mod requests;
pub(crate) mod sampling;
pub(crate) mod sink;
mod text;
pub(crate) mod tree;
pub(crate) mod unit;
pub(crate) mod value;
mod walk;

use std::io::Write;

use crate::otlp::pieces::{Pieces, Take};
use crate::otlp::views::metrics::Metric;
use crate::otlp::views::{ResourceGroup, ScopeGroup};
use crate::telemetry::Signal;
use layout::Layout;
use rates::Rates;
use text::Text;
use walk::resources;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Verbosity {
    #[default]
    Basic,
    Detailed,
    Normal,
    Line,
    // Needs [`requests::Requests`]; a request printed without it is printed as lines.
    Tree,
    Json,
}

impl Verbosity {
    /// Whether it begins with the Go collector's summary of the request.
    fn has_summary(self) -> bool {
        matches!(self, Verbosity::Basic | Verbosity::Normal | Verbosity::Detailed)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Writes a newline inside a value as `\n`, so that a value cannot forge a line.
    pub escape_newlines: bool,
    /// For `line` and `tree`.
    pub layout: Layout,
}

/// The counts in the summary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    resources: u64,
    /// Log records, metrics or spans.
    pub records: u64,
    /// 0 for logs and traces.
    pub data_points: u64,
}

impl Counts {
    pub fn of(signal: Signal, parts: &[&[u8]]) -> Counts {
        let mut counts = Counts::default();
        for resource in resources(parts) {
            counts.resources += 1;
            for scope in ResourceGroup::read(resource).scopes {
                let records = ScopeGroup::read(scope).records;
                counts.records += records.len() as u64;
                if signal == Signal::Metrics {
                    counts.data_points +=
                        records.map(|metric| Metric::read(metric).data.read().points.len() as u64).sum::<u64>();
                }
            }
        }
        counts
    }
}

/// Appends the dump: the text after the summary. In the Go collector's forms an empty line follows it; `basic` has no
/// dump. The parts are consecutive requests, whose resources are numbered together.
pub fn render_dump(signal: Signal, verbosity: Verbosity, style: Style, parts: &[&[u8]], out: &mut Vec<u8>) {
    render_chunks(signal, verbosity, style, parts, usize::MAX, out, &mut |_, _| true);
}

/// Makes the dump in pieces. When `out` reaches `piece_bytes`, `take` empties it, receives the number of items begun
/// since its last call, and says whether to continue. The last piece stays in `out`; returns the number of its items.
pub fn render_chunks<'a>(
    signal: Signal,
    verbosity: Verbosity,
    style: Style,
    parts: &[&[u8]],
    piece_bytes: usize,
    out: &'a mut Vec<u8>,
    take: &'a mut Take<'a>,
) -> u64 {
    let mut to = Pieces::new(out, piece_bytes, take);
    put_dump(signal, verbosity, style, parts, &mut to);
    to.items
}

/// Writes the dump to pieces that leave while it is made.
pub(crate) fn put_dump(signal: Signal, verbosity: Verbosity, style: Style, parts: &[&[u8]], to: &mut Pieces<'_>) {
    put_items(signal, verbosity, style, parts, to);
    if matches!(verbosity, Verbosity::Normal | Verbosity::Detailed) {
        to.out.push(b'\n');
    }
}

/// Writes the dump without the empty line after it.
pub(crate) fn put_items(signal: Signal, verbosity: Verbosity, style: Style, parts: &[&[u8]], to: &mut Pieces<'_>) {
    let text = &mut Text::new(to, style);
    match verbosity {
        Verbosity::Basic => {}
        Verbosity::Normal => normal::put(text, signal, parts),
        Verbosity::Detailed => detailed::put(text, signal, parts),
        Verbosity::Json => json::put(text, signal, parts),
        Verbosity::Line | Verbosity::Tree => line::put(text, signal, parts, &mut Rates::default()),
    }
}

/// Writes the dump of `line`, with rates since the points before.
pub fn put_lines(signal: Signal, style: Style, parts: &[&[u8]], rates: &mut Rates, to: &mut Pieces<'_>) {
    line::put(&mut Text::new(to, style), signal, parts, rates);
}

/// Appends the summary line as the Go collector writes it with `use_internal_logger: false`.
pub fn render_summary(signal: Signal, parts: &[&[u8]], out: &mut Vec<u8>) {
    out.extend_from_slice(summary_message(signal).as_bytes());
    out.extend_from_slice(b"\t{");
    render_summary_fields(signal, Counts::of(signal, parts), out);
    out.extend_from_slice(b"}\n");
}

/// The message of the summary; sampling uses it as the key.
fn summary_message(signal: Signal) -> &'static str {
    match signal {
        Signal::Logs => "Logs",
        Signal::Metrics => "Metrics",
        Signal::Traces => "Traces",
    }
}

/// Appends the members of the summary's JSON object without braces, because a log line puts its own fields before them.
pub fn render_summary_fields(signal: Signal, counts: Counts, out: &mut Vec<u8>) {
    let Counts { resources, records, data_points } = counts;
    let _infallible = match signal {
        Signal::Logs => write!(out, r#""resource logs": {resources}, "log records": {records}"#),
        Signal::Metrics => {
            write!(out, r#""resource metrics": {resources}, "metrics": {records}, "data points": {data_points}"#)
        }
        Signal::Traces => write!(out, r#""resource spans": {resources}, "spans": {records}"#),
    };
}
