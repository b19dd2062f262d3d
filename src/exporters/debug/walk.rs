//! The walk through a request that all forms share.

use super::text::Text;
use crate::otlp::schema::REQUEST_RESOURCES;
use crate::otlp::views::{Repeated, ResourceGroup, ScopeGroup};

/// One step of the walk.
pub(super) enum Step<'a> {
    Resource(ResourceGroup<'a>),
    Scope(ScopeGroup<'a>),
    /// A log record, metric or span, still encoded.
    Record(&'a [u8]),
}

/// Calls `write` for each resource, scope and record of consecutive requests, with its index among its siblings, while
/// text is wanted. Resources are numbered across all requests.
pub(super) fn walk<'a>(
    text: &mut Text<'_, '_>,
    parts: &[&'a [u8]],
    write: &mut dyn FnMut(&mut Text<'_, '_>, usize, Step<'a>),
) {
    for (index, resource) in resources(parts).enumerate() {
        if !text.to.is_wanted() {
            return;
        }
        let group = ResourceGroup::read(resource);
        let scopes = group.scopes.clone();
        write(text, index, Step::Resource(group));
        for (index, scope) in scopes.enumerate() {
            let group = ScopeGroup::read(scope);
            let records = group.records.clone();
            write(text, index, Step::Scope(group));
            for (index, record) in records.enumerate() {
                write(text, index, Step::Record(record));
                if !text.to.is_wanted() {
                    return;
                }
            }
        }
    }
}

/// The resource groups of consecutive requests.
pub(super) fn resources<'a>(parts: &[&'a [u8]]) -> impl Iterator<Item = &'a [u8]> {
    parts.iter().flat_map(|part| Repeated::of(part, REQUEST_RESOURCES))
}
