//! Whose telemetry a request holds: its resource groups by the name of their service.
//!
//! Runs for every request and every batch that is sent, so it looks at as little as it can: in a group at its resource,
//! where several groups share a request also at how many records there are, never into a record.

use super::Signal;
use super::schema::{any_value, key_value, metric, metric_data, request, resource, resource_group, scope_group};
use super::wire::{Fields, Value};

const KEY: &[u8] = b"service.name";
/// How the key stands in a `KeyValue`, which begins or ends with it.
const KEY_FIELD: &[u8] = b"\x0a\x0cservice.name";

/// Tells `each` the service, the items and the bytes of every resource group of a checked request with `items` in all.
pub fn each_group<'r>(signal: Signal, request: &'r [u8], items: u32, mut each: impl FnMut(&'r [u8], u64, u64)) {
    let mut groups = children(request, request::RESOURCES);
    let Some(first) = groups.next() else { return };
    let second = groups.next();
    if second.is_none() {
        return each(service(first), u64::from(items), first.len() as u64);
    }
    for group in [first].into_iter().chain(second).chain(groups) {
        each(service(group), count(signal, group), group.len() as u64);
    }
}

/// The service of a request's first resource group.
pub fn first(request: &[u8]) -> &[u8] {
    children(request, request::RESOURCES).next().map_or(&[], service)
}

/// The `service.name` of a resource group, its scopes left out or not; empty when it has none.
pub fn service(group: &[u8]) -> &[u8] {
    let pairs = children(group, resource_group::RESOURCE).flat_map(|found| children(found, resource::ATTRIBUTES));
    let mut named = pairs.filter(|pair| pair.starts_with(KEY_FIELD) || pair.ends_with(KEY_FIELD));
    named.find_map(value).unwrap_or_default()
}

/// The text of an attribute that is the name of a service.
fn value(pair: &[u8]) -> Option<&[u8]> {
    let is_key = children(pair, key_value::KEY).last() == Some(KEY);
    let value = children(pair, key_value::VALUE).last().filter(|_| is_key)?;
    children(value, any_value::STRING).last()
}

fn count(signal: Signal, group: &[u8]) -> u64 {
    let scopes = children(group, resource_group::SCOPES);
    let records = scopes.flat_map(|scope| children(scope, scope_group::RECORDS));
    if signal != Signal::Metrics {
        return records.count() as u64;
    }
    let is_data = |number| (metric::GAUGE..=metric::SUMMARY).contains(&number);
    let data = records.flat_map(|record| {
        Fields::new(record).filter_map(move |field| match field.value {
            Value::Bytes(bytes) if is_data(field.number) => Some(bytes),
            _ => None,
        })
    });
    data.map(|data| children(data, metric_data::POINTS).count() as u64).sum()
}

fn children(message: &[u8], number: u32) -> impl Iterator<Item = &[u8]> {
    Fields::new(message).filter_map(move |field| match field.value {
        Value::Bytes(bytes) if field.number == number => Some(bytes),
        _ => None,
    })
}
