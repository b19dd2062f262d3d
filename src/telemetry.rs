//! What travels through Misaki: the signals, the parts, and the contracts between receivers and sinks.

/// The three signals of OTLP that Misaki carries.
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

    /// What one item is called in metric names: metrics count data points.
    pub fn items_name(self) -> &'static str {
        match self {
            Signal::Logs => "log_records",
            Signal::Metrics => "metric_points",
            Signal::Traces => "spans",
        }
    }
}
