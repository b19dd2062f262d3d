//! The `debug` exporter's text, written straight from the wire: byte for byte what the Go collector's prints.
//!
//! Beside its three forms there are ours: `line` and `json` go item by item, `tree` gathers requests (`requests`), finds what they waited for (`tree`) and draws them (`block`).
//!
//! A request's text can be a thousand times its size, so it is never held: `printer` writes it on the output's own thread (`diagnostics/output.rs`) in pieces, each of which is written before the next one
//! is made. `sampling` limits repeated messages.

mod block;
mod detailed;
mod json;
pub mod layout;
mod line;
mod normal;
mod printer;
pub mod requests;
pub mod sampling;
pub mod sink;
mod text;
pub mod tree;
mod value;

use std::io::Write;

use crate::otlp::pieces::{Pieces, Take};
use crate::otlp::schema::REQUEST_RESOURCES;
use crate::otlp::views::metrics::Metric;
use crate::otlp::views::{Repeated, ResourceGroup, ScopeGroup};
use crate::telemetry::Signal;
use layout::Layout;
use text::Text;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Verbosity {
    #[default]
    #[value(skip)]
    Basic,
    Detailed,
    Normal,
    Line,
    // Needs [`requests::Requests`]; what is given alone is written as lines.
    Tree,
    Json,
}

impl Verbosity {
    /// Whether the Go collector's summary of each request comes first.
    pub fn has_summary(self) -> bool {
        matches!(self, Verbosity::Basic | Verbosity::Normal | Verbosity::Detailed)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// A newline inside a value is written `\n`, so that a value cannot forge a line.
    pub escape_newlines: bool,
    /// Of the forms in lines.
    pub layout: Layout,
}

impl Default for Style {
    fn default() -> Style {
        Style { escape_newlines: false, layout: Layout::FILE }
    }
}

/// What the summary line counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub resources: u64,
    /// Log records, metrics or spans.
    pub records: u64,
    /// Of metrics only.
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

/// The dump, in the Go collector's forms with the empty line after it; nothing for `Basic`. The parts are concatenated requests: the numbers of their
/// resources go on from one to the next.
pub fn render_dump(signal: Signal, verbosity: Verbosity, style: Style, parts: &[&[u8]], out: &mut Vec<u8>) {
    render_chunks(signal, verbosity, style, parts, usize::MAX, out, &mut |_, _| true);
}

/// The dump in pieces: whenever `out` has reached `piece_bytes`, `take` takes what it holds, and is told how many items
/// were begun since its last call; it says whether to go on. The last piece stays in `out`, and its items are returned.
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

/// The dump, written while it leaves.
pub fn put_dump(signal: Signal, verbosity: Verbosity, style: Style, parts: &[&[u8]], to: &mut Pieces<'_>) {
    put_items(signal, verbosity, style, parts, to);
    if matches!(verbosity, Verbosity::Normal | Verbosity::Detailed) {
        to.out.push(b'\n');
    }
}

/// The dump without the empty line after it.
pub fn put_items(signal: Signal, verbosity: Verbosity, style: Style, parts: &[&[u8]], to: &mut Pieces<'_>) {
    let text = &mut Text::new(to, style);
    let mut allowance = json::Allowance::of(parts);
    for (index, resource) in resources(parts).enumerate() {
        if !text.to.is_wanted() {
            return;
        }
        let group = ResourceGroup::read(resource);
        match verbosity {
            Verbosity::Basic => return,
            Verbosity::Normal => normal::resource(text, signal, index, &group),
            Verbosity::Detailed => detailed::resource(text, signal, index, &group),
            Verbosity::Json => json::resource(text, signal, &group, &mut allowance),
            Verbosity::Line | Verbosity::Tree => line::lines(signal, style.layout, &group, &mut |line| {
                text.to.items += 1;
                line.put(style.layout, text.to.out);
                text.to.breathe();
                text.to.is_wanted()
            }),
        }
    }
}

/// The summary as a line of its own, as the Go collector writes it with `use_internal_logger: false`.
pub fn render_summary(signal: Signal, parts: &[&[u8]], out: &mut Vec<u8>) {
    out.extend_from_slice(summary_message(signal).as_bytes());
    out.extend_from_slice(b"\t{");
    render_summary_fields(signal, Counts::of(signal, parts), out);
    out.extend_from_slice(b"}\n");
}

/// The message of the summary, which is also its key for sampling.
pub fn summary_message(signal: Signal) -> &'static str {
    match signal {
        Signal::Logs => "Logs",
        Signal::Metrics => "Metrics",
        Signal::Traces => "Traces",
    }
}

/// The members of the summary's JSON object, without braces: a log line puts its own fields before them.
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

fn resources<'a>(parts: &[&'a [u8]]) -> impl Iterator<Item = &'a [u8]> {
    parts.iter().flat_map(|part| Repeated::of(part, REQUEST_RESOURCES))
}
