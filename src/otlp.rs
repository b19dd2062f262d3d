//! The wire format: a batch of telemetry *is* its OTLP protobuf encoding, and everything here reads or writes that
//! encoding.
//!
//! `check` walks a request once on arrival. Checked bytes are never checked again, so the cursor in `wire` is
//! infallible: on unchecked bytes it stops early instead of failing.

pub mod base64;
pub mod check;
pub(crate) mod deflate;
pub(crate) mod hex;
pub(crate) mod inflate;
pub mod json;
pub(crate) mod message;
pub(crate) mod number;
pub mod percent;
pub(crate) mod pieces;
pub(crate) mod rewrite;
pub(crate) mod room;
pub mod schema;
pub(crate) mod services;
pub(crate) mod slice;
pub(crate) mod split;
pub mod status;
pub(crate) mod tracestate;
pub(crate) mod views;
pub mod wire;

/// The OTLP signals that Misaki supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Signal {
    Logs,
    Metrics,
    Traces,
}

impl Signal {
    pub const ALL: [Signal; 3] = [Signal::Logs, Signal::Metrics, Signal::Traces];

    /// The name in a pipeline id.
    pub fn name(self) -> &'static str {
        match self {
            Signal::Logs => "logs",
            Signal::Metrics => "metrics",
            Signal::Traces => "traces",
        }
    }

    /// The name of its items in metric names: metrics count data points.
    pub(crate) fn items_name(self) -> &'static str {
        match self {
            Signal::Logs => "log_records",
            Signal::Metrics => "metric_points",
            Signal::Traces => "spans",
        }
    }

    /// The name of its items for people: `3 log records`.
    pub(crate) fn items_words(self) -> &'static str {
        match self {
            Signal::Logs => "log records",
            Signal::Metrics => "data points",
            Signal::Traces => "spans",
        }
    }
}
