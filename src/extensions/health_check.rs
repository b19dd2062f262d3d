//! `health_check`: says over HTTP whether the collector is ready (facts 7.1).

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue};

use crate::config::Place;
use crate::config::section::Section;
use crate::diagnostics::log::timestamp;
use crate::network::admin::{Front, Reply};
use crate::network::auth::Authenticator;
use crate::network::cors::Cors;
use crate::network::endpoint::Listen;
use crate::network::settings;
use crate::network::tls::{self, ServerTls};

#[derive(Clone, Debug)]
pub struct Config {
    pub endpoint: Listen,
    pub tls: Option<ServerTls>,
    pub auth: Option<(String, Place)>,
    cors: Cors,
    response_headers: Vec<(HeaderName, HeaderValue)>,
    read_timeout: Option<Duration>,
    path: String,
    healthy: Option<String>,
    unhealthy: Option<String>,
}

impl Config {
    pub fn decode(section: Section) -> Config {
        let body = section.section("response_body");
        let [healthy, unhealthy] = ["healthy", "unhealthy"].map(|key| body.as_ref().and_then(|body| body.text(key)));
        drop(body);
        let written = section.text_or("path", "/");
        let path = format!("/{}", written.trim_start_matches('/'));
        if !written.starts_with('/') {
            section.warning("path", format!("the Go collector insists on a slash before it: {path}"));
        }
        let given = |key| section.duration_opt(key).filter(|timeout| !timeout.is_zero());
        let timeouts = ["read_timeout", "read_header_timeout"].map(given);
        let config = Config {
            endpoint: settings::listen(&section, "localhost:13133"),
            tls: section.section("tls").and_then(ServerTls::decode),
            auth: settings::authenticator(&section),
            cors: section.section("cors").map(Cors::decode).unwrap_or_default(),
            response_headers: settings::response_headers(&section),
            read_timeout: timeouts.into_iter().flatten().min(),
            path,
            healthy,
            unhealthy,
        };
        section.unset(&["middlewares"]);
        // A connection is for one request, which has no body.
        section.ignored(&[
            "check_collector_pipeline",
            "component_health",
            "max_request_body_size",
            "compression_algorithms",
            "include_metadata",
            "write_timeout",
            "idle_timeout",
            "keep_alives_enabled",
            "keepalive",
        ]);
        section.finish();
        config
    }

    /// What stands before the answers; `tls` and `guard` are what the config names, read.
    pub fn front(&self, tls: Option<Arc<tls::Server>>, guard: Option<Arc<Authenticator>>) -> Front {
        let (cors, response_headers) = (self.cors.clone(), self.response_headers.clone());
        Front { tls, guard, cors, response_headers, read_timeout: self.read_timeout }
    }

    pub fn answer(&self, health: &Health, path: &str) -> Reply {
        if self.path != "/" && !path.starts_with(&self.path) {
            return Reply {
                status: 404,
                content_type: "text/plain; charset=utf-8",
                body: "404 page not found\n".into(),
            };
        }
        let ready = health.is_ready();
        let own = if ready { &self.healthy } else { &self.unhealthy };
        let status = if ready { 200 } else { 503 };
        match own {
            Some(body) => Reply { status, content_type: "text/plain; charset=utf-8", body: body.clone() },
            None => Reply { status, content_type: "application/json", body: health.describe(ready) },
        }
    }
}

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

    fn is_ready(&self) -> bool {
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

    fn describe(&self, ready: bool) -> String {
        let status = if ready { "Server available" } else { "Server not available" };
        let since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        let (up_since, uptime) = match &*since {
            Some((since, text)) if ready => (text.as_str(), crate::config::duration::format(since.elapsed())),
            _ => ("0001-01-01T00:00:00Z", String::new()),
        };
        format!("{{\"status\":\"{status}\",\"upSince\":\"{up_since}\",\"uptime\":\"{uptime}\"}}")
    }
}
