//! What Misaki reports about itself: its log, its metrics, its balance.

pub(crate) mod columns;
pub mod escape;
pub(crate) mod health;
pub(crate) mod log;
pub mod metrics;
pub mod output;
pub(crate) mod process;
pub mod reloads;
pub mod supervisor;
pub mod systemd;
