//! The integration tests: one binary, one module a subject.

mod batch;
mod cancellation;
mod config;
mod debug_output;
mod debug_text;
mod endpoint;
mod harness;
mod inflate;
mod json;
mod sending;
mod service;
mod tls;
mod wire;
