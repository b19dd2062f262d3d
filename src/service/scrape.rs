//! The answer to a Prometheus scrape.

use std::sync::Arc;

use crate::network::admin::{Question, Reply};
use crate::network::paths::ServedPath;

use crate::diagnostics::metrics::{Observe, Page};

use super::push::Attributes;

pub(super) fn answer(observers: &[Arc<dyn Observe>], resource: &Attributes, question: &Question<'_>) -> Reply {
    if !ServedPath::new("/metrics").matches(question.path) {
        return Reply::not_found();
    }
    let content_type = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";
    Reply::new(200, content_type, text(observers, resource))
}

/// The page itself.
pub(super) fn text(observers: &[Arc<dyn Observe>], resource: &Attributes) -> String {
    let mut page = Page::default();
    let label = |name: &str| name.replace(|letter: char| !letter.is_ascii_alphanumeric(), "_");
    let labels: Vec<_> = resource.iter().map(|(name, value)| (label(name), value)).collect();
    let labels: Vec<_> = labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    page.gauge("target_info", &labels, 1.0);
    observers.iter().for_each(|observer| observer.observe(&mut page));
    page.text()
}
