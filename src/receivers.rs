//! Receivers: where telemetry comes in.

pub mod hostmetrics;
pub mod otlp;

use std::sync::Arc;

use crate::telemetry::Intake;

/// The gates behind a receiver, one for each signal that it may bring; closed where no pipeline takes it.
#[derive(Clone, Default)]
pub struct Gates {
    pub grpc: [Option<Arc<dyn Intake>>; 3],
    pub http: [Option<Arc<dyn Intake>>; 3],
    /// For what a receiver makes itself.
    pub own: [Option<Arc<dyn Intake>>; 3],
}
