//! Misaki: an edge collector for OpenTelemetry.
//!
//! From top to bottom, each module using only those below it: `cli` (the command line), `inspect` (the inside of a
//! running collector, for clients of its local socket), `service` (start, reload, drain), `pipeline` (plan, reserve,
//! commit), `receivers` `processors` `connectors` `sending` `exporters` `extensions` (the components), `network`
//! (sockets, TLS), `ottl` (conditions and edits), `telemetry` (batches, and the contracts around them), `otlp` (the
//! wire format). `config` and `diagnostics` serve them all.
//!
//! All of them are private. [`face`] lists what the tests, the benchmarks and the fuzz targets use.

// Here, as in a test binary all is unreachable.
#![warn(unreachable_pub)]

mod cli;
mod config;
mod connectors;
mod diagnostics;
mod exporters;
mod extensions;
pub mod face;
#[cfg(unix)]
mod inspect;
mod network;
mod order;
mod otlp;
mod ottl;
mod pipeline;
mod processors;
mod receivers;
mod sending;
mod service;
mod telemetry;
