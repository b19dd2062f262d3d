//! The integration tests: one binary, one module a subject.

mod bad_inputs;
mod config;
mod debug_output;
mod debug_text;
mod endpoint;
mod inflate;
mod json;
mod tls;
