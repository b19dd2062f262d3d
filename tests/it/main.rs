//! The integration tests: one binary, one module a subject.

mod config;
mod endpoint;
mod inflate;
mod json;
mod tls;
