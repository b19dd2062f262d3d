//! What Misaki reports about itself: its log, its metrics, its balance.

pub mod columns;
pub mod escape;
pub mod health;
pub mod log;
pub mod metrics;
pub mod output;
pub mod process;
pub mod reloads;
pub mod supervisor;
pub mod systemd;
