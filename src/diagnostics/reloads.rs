//! What became of the reloads of the config, for the metrics and for `misaki status`.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::escape::without_style;
use super::metrics::{Observe, Page};

pub struct Reloads(Mutex<State>);

#[derive(Clone)]
pub struct State {
    /// When the config that runs was read.
    pub since: SystemTime,
    /// The last reload, if it was refused: when, and why.
    pub refused: Option<(SystemTime, String)>,
    used: u64,
    failed: u64,
}

impl Default for Reloads {
    fn default() -> Reloads {
        Reloads(Mutex::new(State { since: SystemTime::now(), refused: None, used: 0, failed: 0 }))
    }
}

impl Reloads {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn state(&self) -> State {
        self.lock().clone()
    }

    /// The new config is in use.
    pub fn succeed(&self) {
        let mut state = self.lock();
        (state.since, state.refused, state.used) = (SystemTime::now(), None, state.used + 1);
    }

    /// The one before goes on; `message` is what a person was told, of which the first line stays.
    pub fn fail(&self, message: &str) {
        let first = without_style(message.lines().next().unwrap_or_default());
        let why = first.strip_prefix("error: ").unwrap_or(&first).to_owned();
        let mut state = self.lock();
        (state.refused, state.failed) = (Some((SystemTime::now(), why)), state.failed + 1);
    }
}

impl Observe for Reloads {
    fn observe(&self, page: &mut Page) {
        let State { used, failed, .. } = self.state();
        page.counter("misaki_config_reloads", &[("result", "success")], used);
        page.counter("misaki_config_reloads", &[("result", "failure")], failed);
    }
}
