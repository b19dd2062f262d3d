//! Misaki: an edge collector for OpenTelemetry.
//!
//! From top to bottom, each module using only those below it: `cli` (the command line), `inspect` (the inside of a
//! running collector, for clients of its local socket), `service` (start, reload, drain), `pipeline` (plan, reserve,
//! commit), `receivers` `processors` `connectors` `sending` `exporters` `extensions` (the components), `network`
//! (sockets, TLS), `ottl` (conditions and edits), `telemetry` (batches, and the contracts around them), `otlp` (the
//! wire format). `config` and `diagnostics` serve them all.
//!
//! A module is `pub` if the tests, the benchmarks or the fuzz targets use it. All others are private to the crate, so that
//! rustc reports their unused code.

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
