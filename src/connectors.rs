//! Connectors: the end of one pipeline, and the start of others.

pub(crate) mod forward;

use crate::telemetry::Signal;

/// The contract for a connector's settings.
pub(crate) trait ConnectorSettings: Send + Sync {
    /// The signal it emits for a signal it receives; `None` if it does not support that one.
    fn gives(&self, taken: Signal) -> Option<Signal>;
}
