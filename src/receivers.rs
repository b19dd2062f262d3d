//! Receivers: where telemetry comes in.

pub mod hostmetrics;
pub mod otlp;

use std::sync::Arc;

use crate::telemetry::{Intake, Signal};

/// The gates behind a receiver, one for each signal that a pipeline takes from it; `None` where there is none.
#[derive(Clone, Default)]
pub struct Gates {
    pub grpc: [Option<Arc<dyn Intake>>; 3],
    pub http: [Option<Arc<dyn Intake>>; 3],
    /// For what a receiver makes itself.
    pub own: [Option<Arc<dyn Intake>>; 3],
}

impl Gates {
    pub fn has(&self, signal: Signal) -> bool {
        let has = |gates: &[Option<Arc<dyn Intake>>; 3]| gates.get(signal as usize).is_some_and(Option::is_some);
        has(&self.grpc) || has(&self.own)
    }
}
