//! `health_check`: reports over HTTP whether the collector is ready.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use crate::config::Place;
use crate::config::section::Section;
use crate::diagnostics::health::Health;
use crate::network::admin::{Front, Question, Reply};
use crate::network::cors::Cors;
use crate::network::endpoint::Listen;
use crate::network::paths::ServedPath;
use crate::network::settings::{self, Listening};
use crate::network::tls::ServerTls;

use super::{AdminPage, ExtensionSettings, Named, Purpose};

#[derive(Clone, Debug)]
pub(crate) struct Config {
    endpoint: Listen,
    tls: Option<ServerTls>,
    auth: Option<(String, Place)>,
    cors: Cors,
    response_headers: Vec<(HeaderName, HeaderValue)>,
    read_timeout: Option<Duration>,
    path: ServedPath,
    healthy: Option<String>,
    unhealthy: Option<String>,
}

impl Config {
    pub(crate) fn decode(section: Section) -> Config {
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
            path: ServedPath::new(&path),
            healthy,
            unhealthy,
        };
        section.unset(&["middlewares"]);
        // Each connection serves one request without a body.
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

    fn answer(&self, health: &Health, path: &str) -> Reply {
        if !self.path.matches(path) {
            return Reply::not_found();
        }
        let ready = health.is_ready();
        let own = if ready { &self.healthy } else { &self.unhealthy };
        let status = if ready { 200 } else { 503 };
        match own {
            Some(body) => Reply::plain(status, body.as_str()),
            None => Reply::new(status, "application/json", health.describe(ready)),
        }
    }
}

impl ExtensionSettings for Config {
    fn named(&self) -> Vec<Named> {
        Named::authenticator(&self.auth, "auth.authenticator", Purpose::Server).into_iter().collect()
    }

    fn listens(&self) -> Vec<Listening> {
        vec![Listening { keys: &["endpoint"], protocol: "HTTP", endpoint: self.endpoint.clone() }]
    }

    fn page(&self, health: &Arc<Health>) -> Option<AdminPage> {
        let (config, health) = (self.clone(), health.clone());
        let (cors, response_headers) = (self.cors.clone(), self.response_headers.clone());
        Some(AdminPage {
            name: "health check",
            endpoint: self.endpoint.clone(),
            tls: self.tls.clone(),
            front: Front { cors, response_headers, read_timeout: self.read_timeout, ..Front::default() },
            answers: Arc::new(move |question: &Question<'_>| config.answer(&health, question.path)),
        })
    }
}
