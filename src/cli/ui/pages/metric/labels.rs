//! What distinguishes the series of one metric: their attributes, and what their resources and scopes do not share.

use std::collections::HashMap;
use std::sync::Arc;

use super::Named;
use crate::cli::ui::store::item::Header;
use crate::cli::ui::store::metrics::Series;
use crate::diagnostics::columns::cut;
use crate::exporters::debug::layout::word;
use crate::exporters::debug::value;
use crate::otlp::views::{KeyValue, Resource, Scope};

/// The columns of a label, and of a part of it; the attributes of a resource that are compared.
const LABEL: usize = 400;
const PART: usize = 100;
const COMPARED: usize = 64;
/// Longer values are not compared.
const LONGEST: usize = 4000;

/// The series of one metric with their labels.
pub(super) fn named<'s>(among: &[(u64, &'s Series)]) -> Vec<Named<'s>> {
    let mut headers: HashMap<*const Header, Vec<String>> = HashMap::new();
    for (_, series) in among {
        headers.entry(Arc::as_ptr(&series.headers)).or_insert_with(|| parts(&series.headers));
    }
    let mut counts: HashMap<&str, usize> = HashMap::new();
    headers.values().flatten().for_each(|part| *counts.entry(part).or_default() += 1);
    let label = |series: &Series| {
        let own = headers.get(&Arc::as_ptr(&series.headers)).into_iter().flatten();
        let apart = own.filter(|part| counts.get(part.as_str()).is_some_and(|count| *count < headers.len()));
        let all: Vec<&str> = [&*series.attributes].into_iter().chain(apart.map(String::as_str)).collect();
        match all.join(" ").trim() {
            "" => "(no attributes)".to_owned(),
            label => cut(label, LABEL),
        }
    };
    among.iter().map(|(key, series)| Named { key: *key, series, label: label(series) }).collect()
}

/// The attributes of a resource, and its scope, each as a text of its own.
fn parts(header: &Header) -> Vec<String> {
    let (resource, scope) = (header.resource(), header.scope());
    let scope = Scope::read(&scope.scope);
    let attributes = Resource::read(&resource.resource).attributes.take(COMPARED).map(KeyValue::read);
    let pair = |KeyValue { key, value }: KeyValue<'_>| {
        let (value, is_cut) = value::full(value, LONGEST);
        let value = if is_cut { "(long)".to_owned() } else { word(PART, value.as_bytes()) };
        format!("{}={value}", word(PART, key))
    };
    let scope = format!("scope={} {}", word(PART, scope.name), word(PART, scope.version));
    attributes.map(pair).chain([scope.trim_end().to_owned()]).collect()
}
