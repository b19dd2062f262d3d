//! Misaki: an edge collector for OpenTelemetry.
//!
//! From top to bottom, each using only what stands below it: `cli` (what a person types), `inspect` (the inside of a running
//! collector, for who asks on a local socket), `service` (start, drain),
//! `pipeline` (plan, reserve, commit), `receivers` `processors` `connectors` `sending` `exporters` `extensions` (the components),
//! `network` (sockets, TLS), `ottl` (conditions and edits), `telemetry` (what travels, and the contracts), `otlp` (the
//! wire). `config` and `diagnostics` serve them all.
//!
//! A module is `pub` where the tests, the benchmarks or the fuzz targets reach into it; all others are the crate's own, so that
//! rustc tells what of them nothing uses.

pub mod cli;
pub mod config;
pub mod connectors;
pub mod diagnostics;
pub mod exporters;
pub mod extensions;
#[cfg(unix)]
pub mod inspect;
pub mod network;
pub mod otlp;
pub mod ottl;
pub mod pipeline;
pub mod processors;
pub mod receivers;
pub mod sending;
pub mod service;
pub mod telemetry;
