//! Whether the collector is ready: the common source for every probe and the local socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use parking_lot::Mutex;

use crate::diagnostics::log::timestamp;

/// Returns the first component that is stuck, and why.
pub(crate) type Troubles = Box<dyn Fn() -> Option<(String, &'static str)> + Send + Sync>;

/// The readiness of the collector, shared by all probes: it runs, and accepted telemetry does not get stuck. The fields
/// are independent. `troubles` is replaced by a reload and called by each probe; no probe holds two of the locks.
#[derive(Default)]
pub struct Health {
    ready: AtomicBool,
    troubles: Mutex<Option<Troubles>>,
    /// The last logged state, so that a probe every second does not log every second.
    said: Mutex<Option<(String, &'static str)>>,
    since: Mutex<Option<(Instant, String)>>,
}

impl Health {
    pub(crate) fn new() -> Arc<Health> {
        Arc::default()
    }

    pub fn set(&self, ready: bool) {
        let since = ready.then(|| (Instant::now(), timestamp(std::time::SystemTime::now())));
        *self.since.lock() = since;
        self.ready.store(ready, Relaxed);
    }

    /// Sets the function that later probes call.
    pub(crate) fn ask(&self, troubles: Troubles) {
        *self.troubles.lock() = Some(troubles);
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.verdict().is_ok()
    }

    /// Why it is not ready, in words: the same for every probe.
    pub fn verdict(&self) -> Result<(), String> {
        if !self.ready.load(Relaxed) {
            return Err("it is starting or shutting down".to_owned());
        }
        let trouble = self.troubles.lock().as_ref().and_then(|ask| ask());
        let mut said = self.said.lock();
        if *said != trouble {
            match &trouble {
                Some((exporter, why)) => tracing::warn!(exporter, why, "not ready"),
                None => tracing::info!("ready again"),
            }
            said.clone_from(&trouble);
        }
        trouble.map_or(Ok(()), |(exporter, why)| Err(format!("{exporter}: {why}")))
    }

    /// As JSON, in the words of the Go collector's extension.
    pub(crate) fn describe(&self, ready: bool) -> String {
        let status = if ready { "Server available" } else { "Server not available" };
        let since = self.since.lock();
        let (up_since, uptime) = match &*since {
            Some((since, text)) if ready => (text.as_str(), crate::config::duration::format(since.elapsed())),
            _ => ("0001-01-01T00:00:00Z", String::new()),
        };
        format!("{{\"status\":\"{status}\",\"upSince\":\"{up_since}\",\"uptime\":\"{uptime}\"}}")
    }
}
