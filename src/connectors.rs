//! Connectors: the end of one pipeline, and the beginning of others.

pub(crate) mod forward;

use crate::telemetry::Signal;

/// The settings of a connector: all that is asked of one.
pub trait ConnectorSettings: Send + Sync {
    /// The signal that it gives of one that it takes; nothing where it does not take it.
    fn gives(&self, taken: Signal) -> Option<Signal>;
}
