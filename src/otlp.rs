//! The wire: a batch of telemetry *is* its OTLP protobuf encoding, and everything here reads or writes that encoding.
//!
//! `check` walks a request once at the door; what passed is never checked again, so the cursor in `wire` is infallible:
//! on bytes that were not checked it stops early instead of failing.

pub mod base64;
pub mod check;
pub mod deflate;
pub mod hex;
pub mod inflate;
pub mod json;
pub mod number;
pub mod schema;
pub mod split;
pub mod status;
pub mod views;
pub mod wire;
