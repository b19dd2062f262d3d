//! The outcome of config reloads, for metrics and `misaki status`.

use std::time::SystemTime;

use parking_lot::Mutex;

use super::escape::without_style;
use super::metrics::{Observe, Page};

/// The prefix of each error; its further lines are indented below it.
const ERROR: &str = "error: ";

pub struct Reloads(Mutex<History>);

#[derive(Clone)]
pub struct History {
    /// When the running config was read.
    pub(crate) since: SystemTime,
    /// When and why the last reload was refused, if it was.
    pub refused: Option<(SystemTime, String)>,
    used: u64,
    failed: u64,
}

impl Default for Reloads {
    fn default() -> Reloads {
        Reloads(Mutex::new(History { since: SystemTime::now(), refused: None, used: 0, failed: 0 }))
    }
}

impl Reloads {
    pub fn state(&self) -> History {
        self.0.lock().clone()
    }

    /// The new config is in use.
    pub fn succeed(&self) {
        let mut state = self.0.lock();
        (state.since, state.refused, state.used) = (SystemTime::now(), None, state.used + 1);
    }

    /// The previous config keeps running. Of `message`, as shown to the user, the first error is kept with its place.
    pub fn fail(&self, message: &str) {
        let mut state = self.0.lock();
        let why = first_error(&without_style(message));
        (state.refused, state.failed) = (Some((SystemTime::now(), why)), state.failed + 1);
    }
}

/// The first error of a rendered report, on one line.
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
        let History { used, failed, .. } = self.state();
        page.counter("misaki_config_reloads", &[("result", "success")], used);
        page.counter("misaki_config_reloads", &[("result", "failure")], failed);
    }
}
