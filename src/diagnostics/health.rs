//! Whether the collector is ready: what every probe and the local socket are told.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::diagnostics::log::timestamp;

/// What keeps the collector from doing its work: which exporter, and why.
pub type Troubles = Box<dyn Fn() -> Option<(String, &'static str)> + Send + Sync>;

/// Whether the collector is ready, shared by all who ask: it runs, and nothing that was accepted gets stuck.
#[derive(Default)]
pub struct Health {
    ready: AtomicBool,
    troubles: Mutex<Option<Troubles>>,
    /// What was said last, so that a probe a second is not a line a second.
    said: Mutex<Option<(String, &'static str)>>,
    since: Mutex<Option<(Instant, String)>>,
}

impl Health {
    pub fn new() -> Arc<Health> {
        Arc::default()
    }

    pub fn set(&self, ready: bool) {
        let since = ready.then(|| (Instant::now(), timestamp(std::time::SystemTime::now())));
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = since;
        self.ready.store(ready, Relaxed);
    }

    /// Who is asked from now on.
    pub fn ask(&self, troubles: Troubles) {
        *self.troubles.lock().unwrap_or_else(PoisonError::into_inner) = Some(troubles);
    }

    pub fn is_ready(&self) -> bool {
        self.verdict().is_ok()
    }

    /// Why it is not ready, in words: the one truth of every probe.
    pub fn verdict(&self) -> Result<(), String> {
        if !self.ready.load(Relaxed) {
            return Err("it is starting or shutting down".to_owned());
        }
        let trouble = self.troubles.lock().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(|ask| ask());
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
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
    pub fn describe(&self, ready: bool) -> String {
        let status = if ready { "Server available" } else { "Server not available" };
        let since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        let (up_since, uptime) = match &*since {
            Some((since, text)) if ready => (text.as_str(), crate::config::duration::format(since.elapsed())),
            _ => ("0001-01-01T00:00:00Z", String::new()),
        };
        format!("{{\"status\":\"{status}\",\"upSince\":\"{up_since}\",\"uptime\":\"{uptime}\"}}")
    }
}
