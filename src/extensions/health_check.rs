//! `health_check`: reports over HTTP whether the collector is ready.

use std::sync::Arc;

use crate::config::section::Section;
use crate::diagnostics::health::Health;
use crate::network::admin::{Question, Reply};
use crate::network::paths::ServedPath;
use crate::network::settings::{self, Listening};

use super::{AdminPage, ExtensionSettings, Named, PageServer};

#[derive(Clone, Debug)]
pub(crate) struct Config {
    server: PageServer,
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
        let config = Config {
            server: PageServer::decode(&section, settings::listen(&section, "localhost:13133")),
            path: ServedPath::new(&path),
            healthy,
            unhealthy,
        };
        section.ignored(&["check_collector_pipeline", "component_health"]);
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
        self.server.named()
    }

    fn listens(&self) -> Vec<Listening> {
        self.server.listens()
    }

    fn page(&self, health: &Arc<Health>) -> Option<AdminPage> {
        let (config, health) = (self.clone(), health.clone());
        let answers = move |question: &Question<'_>| config.answer(&health, question.path);
        Some(self.server.page("health check", Arc::new(answers)))
    }
}
