//! The answer to a Prometheus scrape.

use std::sync::Arc;

use crate::network::admin::{Question, Reply};
use crate::network::paths::ServedPath;

use crate::diagnostics::metrics::{Observe, Page};

pub(super) fn answer(observers: &[Arc<dyn Observe>], question: &Question<'_>) -> Reply {
    if !ServedPath::new("/metrics").matches(question.path) {
        return Reply::not_found();
    }
    let content_type = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";
    Reply::new(200, content_type, text(observers))
}

/// The page itself.
pub(super) fn text(observers: &[Arc<dyn Observe>]) -> String {
    let mut page = Page::default();
    let version = env!("CARGO_PKG_VERSION");
    page.gauge("target_info", &[("service_name", "misaki"), ("service_version", version)], 1.0);
    observers.iter().for_each(|observer| observer.observe(&mut page));
    page.text()
}
