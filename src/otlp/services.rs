//! The services in a request: its resource groups by `service.name`.
//!
//! It runs for every request and every sent batch, so it reads as little as possible: a group's resource, the number of
//! records if several groups share a request, but never a record.

use std::cell::Cell;

use super::Signal;
use super::schema::{any_value, is_data, key_value, metric_data, request, resource, resource_group, scope_group};
use super::wire::{Field, Fields, Value};

const KEY: &[u8] = b"service.name";
/// The encoded key at the start or end of a `KeyValue`.
const KEY_FIELD: &[u8] = b"\x0a\x0cservice.name";

/// Calls `each` with the service, items and bytes of every resource group of a checked request with `items` items;
/// false if that requires reading more than `most` fields.
pub(crate) fn each_group<'r>(
    signal: Signal,
    request: &'r [u8],
    items: u32,
    most: &Cell<usize>,
    mut each: impl FnMut(&'r [u8], u64, u64),
) -> bool {
    let look = Look(most);
    let mut groups = look.children(request, request::RESOURCES);
    let Some(first) = groups.next() else { return look.saw_all() };
    let second = groups.next();
    if second.is_none() {
        each(look.service(first), u64::from(items), first.len() as u64);
        return look.saw_all();
    }
    for group in [first].into_iter().chain(second).chain(groups) {
        each(look.service(group), look.count(signal, group), group.len() as u64);
    }
    look.saw_all()
}

/// The service of a request's first resource group.
pub(crate) fn first(request: &[u8]) -> &[u8] {
    Look(&Cell::new(usize::MAX)).children(request, request::RESOURCES).next().map_or(&[], service)
}

/// The `service.name` of a resource group, with or without its scopes; empty if it has none.
pub(crate) fn service(group: &[u8]) -> &[u8] {
    Look(&Cell::new(usize::MAX)).service(group)
}

/// Reads a limited number of fields.
struct Look<'l>(&'l Cell<usize>);

impl<'l> Look<'l> {
    fn saw_all(&self) -> bool {
        self.0.get() > 0
    }

    fn fields<'m>(&self, message: &'m [u8]) -> impl Iterator<Item = Field<'m>> + use<'l, 'm> {
        let left = self.0;
        Fields::new(message).take_while(move |_| {
            left.set(left.get().saturating_sub(1));
            left.get() > 0
        })
    }

    fn children<'m>(&self, message: &'m [u8], number: u32) -> impl Iterator<Item = &'m [u8]> + use<'l, 'm> {
        self.fields(message).filter_map(move |field| match field.value {
            Value::Bytes(bytes) if field.number == number => Some(bytes),
            _ => None,
        })
    }

    fn service<'m>(&self, group: &'m [u8]) -> &'m [u8] {
        let resources = self.children(group, resource_group::RESOURCE);
        let pairs = resources.flat_map(|found| self.children(found, resource::ATTRIBUTES));
        let mut named = pairs.filter(|pair| pair.starts_with(KEY_FIELD) || pair.ends_with(KEY_FIELD));
        named.find_map(|pair| self.value(pair)).unwrap_or_default()
    }

    /// The value of a `service.name` attribute.
    fn value<'m>(&self, pair: &'m [u8]) -> Option<&'m [u8]> {
        let is_key = self.children(pair, key_value::KEY).last() == Some(KEY);
        let value = self.children(pair, key_value::VALUE).last().filter(|_| is_key)?;
        self.children(value, any_value::STRING).last()
    }

    fn count(&self, signal: Signal, group: &[u8]) -> u64 {
        let scopes = self.children(group, resource_group::SCOPES);
        let records = scopes.flat_map(|scope| self.children(scope, scope_group::RECORDS));
        if signal != Signal::Metrics {
            return records.count() as u64;
        }
        let data = records.flat_map(|record| {
            self.fields(record).filter_map(move |field| match field.value {
                Value::Bytes(bytes) if is_data(field.number) => Some(bytes),
                _ => None,
            })
        });
        data.map(|data| self.children(data, metric_data::POINTS).count() as u64).sum()
    }
}
