//! Connectors: the end of one pipeline, and the start of others of the same signal.

pub mod forward;
