//! `GET /status`: what a collector says of itself.

use serde_json::{Value, json};

use super::Subject;
use crate::telemetry::clock;

pub fn describe(subject: &Subject) -> Value {
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "uptime_seconds": clock().saturating_duration_since(subject.started).as_secs(),
        "config": subject.config,
    })
}
