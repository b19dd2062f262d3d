//! What Misaki reports about itself: its log, its metrics, its balance.

pub(crate) mod columns;
pub mod escape;
pub(crate) mod health;
pub(crate) mod log;
pub(crate) mod metrics;
pub mod output;
pub(crate) mod own;
pub(crate) mod process;
pub(crate) mod reloads;
pub(crate) mod supervisor;
pub(crate) mod systemd;
