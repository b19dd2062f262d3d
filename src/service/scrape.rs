//! The answer to a Prometheus scrape.

use std::sync::Arc;

use crate::network::admin::Reply;
use crate::network::paths::ServedPath;

use crate::diagnostics::metrics::{Observe, Page};

pub(super) fn answer(observers: &[Arc<dyn Observe>], path: &str) -> Reply {
    if !ServedPath::new("/metrics").matches(path) {
        return Reply::not_found();
    }
    let mut page = Page::default();
    let version = env!("CARGO_PKG_VERSION");
    page.gauge("target_info", &[("service_name", "misaki"), ("service_version", version)], 1.0);
    observers.iter().for_each(|observer| observer.observe(&mut page));
    let content_type = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";
    Reply { status: 200, content_type, body: page.text() }
}
