//! What became of the reloads of the config, for the metrics and for `misaki status`.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::escape::without_style;
use super::metrics::{Observe, Page};

/// What each error begins with; its further lines stand below what follows.
const ERROR: &str = "error: ";

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

    /// The one before goes on; `message` is what a person was told, of which the first error stays, with its place.
    pub fn fail(&self, message: &str) {
        let mut state = self.lock();
        let why = first_error(&without_style(message));
        (state.refused, state.failed) = (Some((SystemTime::now(), why)), state.failed + 1);
    }
}

/// The first error of what was rendered, on one line.
fn first_error(rendered: &str) -> String {
    let mut lines = rendered.lines();
    let first = lines.next().unwrap_or_default();
    let mut why = first.strip_prefix(ERROR).unwrap_or(first).to_owned();
    for line in lines {
        if let Some(more) = line.strip_prefix(&" ".repeat(ERROR.len())) {
            why.push_str(&format!(" {more}"));
        } else if let Some(place) = line.trim_start().strip_prefix("--> ") {
            return format!("{why} ({place})");
        } else {
            break;
        }
    }
    why
}

impl Observe for Reloads {
    fn observe(&self, page: &mut Page) {
        let State { used, failed, .. } = self.state();
        page.counter("misaki_config_reloads", &[("result", "success")], used);
        page.counter("misaki_config_reloads", &[("result", "failure")], failed);
    }
}
