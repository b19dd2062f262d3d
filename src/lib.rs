//! Misaki: an edge collector for OpenTelemetry.

pub mod otlp;
pub mod telemetry;
