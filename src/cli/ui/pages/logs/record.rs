//! All of a log record: what it says, its attributes, its ids, and the scope and the resource that it is of.

use maud::{Markup, html};

use super::level::Level;
use crate::cli::ui::pages::values::{attributes, name, shown, table};
use crate::cli::ui::pages::{address, digits, time};
use crate::cli::ui::store::item::Kept;
use crate::otlp::views::{AnyValue, KeyValue, LogRecord, Resource, Scope};

/// The attributes that tell of an exception, which come first.
const MESSAGE: &[u8] = b"exception.message";
const TYPE: &[u8] = b"exception.type";
const STACK: &[u8] = b"exception.stacktrace";

/// With the address of its request, if that is here.
pub(super) fn opened(record: &LogRecord<'_>, item: &Kept, request: Option<&str>) -> Markup {
    let (resource, scope) = (item.headers.resource(), item.headers.scope());
    let (resource, scope) = (Resource::read(&resource.resource), Scope::read(&scope.scope));
    let pairs = || record.attributes.clone().map(KeyValue::read);
    let own = |key: &[u8]| pairs().find(|pair| pair.key == key).map(|pair| pair.value);
    let rest = pairs().filter(|pair| ![MESSAGE, TYPE, STACK].contains(&pair.key));
    html! {
        @if own(MESSAGE).or(own(TYPE)).is_some() {
            div class="bad" {
                @if let Some(kind) = own(TYPE) { strong { (shown(kind)) } " " }
                @if let Some(message) = own(MESSAGE) { (shown(message)) }
            }
        }
        @if record.body != AnyValue::Empty { div { (shown(record.body)) } }
        @if let Some(stack) = own(STACK) { (shown(stack)) }
        dl class="record" {
            (fact("Time", &time(record.time)))
            @if record.observed_time != 0 { (fact("Observed", &time(record.observed_time))) }
            (fact("Level", &html! {
                (Level::of(record).name())
                @if record.severity_number != 0 { " (" (record.severity_number) ")" }
                @if !record.severity_text.is_empty() { " " (name(record.severity_text)) }
            }))
            @if !record.event_name.is_empty() { (fact("Event", &html! { (name(record.event_name)) })) }
            @if !record.trace_id.is_empty() {
                (fact("Trace", &html! {
                    code { (digits(record.trace_id)) } " "
                    @match request {
                        Some(request) => a href=(request) { "its request" },
                        None => "(its request is not here)"
                    }
                    ", " a href=(address("/logs", &[("q", &digits(record.trace_id))])) { "all logs of it" }
                }))
            }
            @if !record.span_id.is_empty() { (fact("Span", &html! { code { (digits(record.span_id)) } })) }
            @if !scope.name.is_empty() {
                (fact("Scope", &html! { (name(scope.name)) " " (name(scope.version)) }))
            }
        }
        div class="tables" {
            (table("Attributes", Some("log.attributes"), rest))
            (attributes("Attributes of the scope", None, &scope.attributes))
            (attributes("Resource", Some("resource.attributes"), &resource.attributes))
        }
    }
}

fn fact(name: &str, value: &Markup) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}
