//! All of one span: what it is, its attributes, events, links and logs, and where it comes from.

use std::collections::HashSet;
use std::sync::Arc;

use maud::{Markup, html};

use super::{View, anchor, log_line};
use crate::cli::ui::pages::values::{attributes, long, name, shown};
use crate::cli::ui::pages::{digits, time, took};
use crate::cli::ui::store::item::{Header, Kept};
use crate::diagnostics::columns::counted;
use crate::exporters::debug::layout::duration;
use crate::exporters::debug::requests::{Log, span_id, trace_id};
use crate::exporters::debug::tree::Row;
use crate::otlp::number::Clock;
use crate::otlp::schema::KIND_WORDS;
use crate::otlp::views::{LogRecord, Resource, Scope, Span, SpanEvent, SpanLink, Status};
use crate::telemetry::Signal;

/// The events, links and logs that are listed.
const LISTED: usize = 50;

impl View<'_> {
    /// The panel of the open span.
    pub(super) fn span(&self) -> Markup {
        let item =
            self.trace.items.iter().find(|item| {
                item.signal == Signal::Traces && Some(span_id(Span::read(&item.record).span_id)) == self.open
            });
        let close = format!("{}#{}", self.asked.with(&[("span", "")]), anchor(self.open.unwrap_or_default()));
        html! {
            aside id="span" aria-label="Span" {
                p class="close" { a href=(close) { "Close" } }
                @match item {
                    Some(item) => (self.panel(item)),
                    None => p class="warn" { "No span with this id is here." },
                }
            }
        }
    }

    fn panel(&self, item: &Kept) -> Markup {
        let span = Span::read(&item.record);
        html! {
            h2 { (name(span.name)) }
            (self.alike())
            (self.facts(&span, &item.headers))
            (dropped(&span))
            (attributes("Attributes", Some("span.attributes"), &span.attributes))
            (events(&span))
            (self.links(&span))
            (self.logs_of_span(item))
            (origin(&item.headers))
        }
    }

    /// The way to the spans that share its row.
    fn alike(&self) -> Markup {
        let tree = &self.told.tree;
        let id = |at: usize| tree.at(at).0.id;
        let is_here = |row: &&Row| !row.is_heading && row.spans.iter().any(|at| Some(id(*at)) == self.open);
        let spans = tree.rows.iter().find(is_here).map_or(&[][..], |row| &row.spans);
        let at = spans.iter().position(|at| Some(id(*at)) == self.open).unwrap_or_default();
        let to = |words: &str, span: Option<&usize>| {
            html! {
                @if let Some(span) = span {
                    a href=(self.span_address(id(*span))) { (words) }
                }
            }
        };
        html! {
            @if spans.len() > 1 {
                nav class="pages" aria-label="Spans that share a row" {
                    span { (at + 1) " of " (spans.len()) " equal spans" }
                    (to("Previous", at.checked_sub(1).and_then(|at| spans.get(at))))
                    (to("Next", spans.get(at + 1)))
                }
            }
        }
    }

    fn facts(&self, span: &Span<'_>, headers: &Header) -> Markup {
        let tree = &self.told.tree;
        let at = tree.spans.iter().position(|known| Some(known.id) == self.open);
        let node = at.map(|at| tree.at(at).1);
        let status = Status::read(&span.status);
        let kind = usize::try_from(span.kind).ok().and_then(|kind| KIND_WORDS.get(kind)).copied();
        let parent = span_id(span.parent_span_id);
        let is_parent_here = tree.spans.iter().any(|known| known.id == parent);
        let fact = |what: &str, value: Markup| html! { tr { th scope="row" { (what) } td { (value) } } };
        let id = |id: &[u8]| html! { code data-copy { (digits(id)) } };
        html! {
            table class="values" {
                caption { "Span" }
                tbody {
                    (fact("name", long(span.name)))
                    (fact("service", html! { (headers.service) }))
                    (fact("kind", html! { @match kind { Some(kind) => (kind), None => (span.kind) } }))
                    (fact("status", match status.code {
                        0 => html! { "Unset" },
                        1 => html! { "Ok" },
                        2 => html! { span class="bad" { "✗ Error" } },
                        code => html! { (code) },
                    }))
                    @if !status.message.is_empty() { (fact("message", long(status.message))) }
                    (fact("duration", took(span.end.saturating_sub(span.start))))
                    @if let Some(node) = node {
                        (fact("own", took(node.own)))
                        (fact("on the critical path", took(node.path)))
                    }
                    (fact("start", moment(span.start)))
                    (fact("end", moment(span.end)))
                    (fact("trace id", id(span.trace_id)))
                    (fact("span id", id(span.span_id)))
                    @if parent != 0 {
                        (fact("parent", html! {
                            @if is_parent_here {
                                a href=(self.span_address(parent)) { code { (digits(span.parent_span_id)) } }
                            } @else { (id(span.parent_span_id)) " (not here)" }
                        }))
                    }
                    @if !span.trace_state.is_empty() { (fact("trace state", long(span.trace_state))) }
                }
            }
        }
    }

    fn links(&self, span: &Span<'_>) -> Markup {
        let links = span.links.clone().take(LISTED).map(SpanLink::read);
        html! {
            @if !span.links.is_empty() {
                h3 { (counted(span.links.len(), "link")) }
                @for link in links {
                    @let (trace, id) = (digits(link.trace_id), digits(link.span_id));
                    @let span = span_id(link.span_id);
                    @let address = trace_id(link.trace_id).and_then(|trace| self.address_of(&trace, span));
                    p {
                        "→ "
                        @match address {
                            Some(address) => a href=(address) { "trace " code { (trace) } ", span " code { (id) } },
                            None => { "trace " code { (trace) } ", span " code { (id) } " (not here)" },
                        }
                    }
                    @if !link.trace_state.is_empty() { p { "trace state " (long(link.trace_state)) } }
                    (attributes("Attributes of the link", None, &link.attributes))
                    (lost(link.dropped_attributes_count, "attribute"))
                }
                (more(span.links.len()))
            }
        }
    }

    /// Its logs, each with all that it has.
    fn logs_of_span(&self, span: &Kept) -> Markup {
        let below = self.open.and_then(|span| self.told.placed.below.get(&span));
        let below: HashSet<*const Log> = below.into_iter().flatten().map(|log| std::ptr::from_ref(*log)).collect();
        let all = self.told.logs.iter().zip(&self.records);
        let logs = all.filter(|(log, _)| below.contains(&std::ptr::from_ref(*log))).take(LISTED);
        html! {
            @if !below.is_empty() {
                h3 { (counted(below.len(), "log")) }
                @for (index, (log, log_item)) in logs.enumerate() {
                    @let record = LogRecord::read(&log_item.record);
                    details id=(format!("log{index}")) {
                        summary { (log_line(log)) }
                        @if record.span_id.is_empty() {
                            p class="note" { "It names no span; this one ran at its time." }
                        }
                        @if !record.event_name.is_empty() { p { "event " (long(record.event_name)) } }
                        (shown(record.body))
                        (attributes("Attributes", Some("log.attributes"), &record.attributes))
                        @if !Arc::ptr_eq(&log_item.headers, &span.headers) { (origin(&log_item.headers)) }
                    }
                }
                (more(below.len()))
            }
        }
    }
}

fn events(span: &Span<'_>) -> Markup {
    html! {
        @if !span.events.is_empty() {
            h3 { (counted(span.events.len(), "event")) }
            @for event in span.events.clone().take(LISTED).map(SpanEvent::read) {
                p {
                    b { (name(event.name)) } " " span class="faint" {
                        (time(event.time))
                        @if event.time >= span.start { ", " (duration(event.time - span.start)) " after the start" }
                    }
                }
                (attributes("Attributes of the event", None, &event.attributes))
                (lost(event.dropped_attributes_count, "attribute"))
            }
            (more(span.events.len()))
        }
    }
}

/// What the SDK left out.
fn dropped(span: &Span<'_>) -> Markup {
    html! {
        (lost(span.dropped_attributes_count, "attribute"))
        (lost(span.dropped_events_count, "event"))
        (lost(span.dropped_links_count, "link"))
    }
}

fn lost(count: u32, what: &str) -> Markup {
    html! { @if count > 0 { p class="warn" { "! The SDK dropped " (counted(count, what)) } } }
}

fn more(count: usize) -> Markup {
    html! {
        @if count > LISTED {
            p class="note" { "and " (count - LISTED) " more, which the request as OTLP/JSON has" }
        }
    }
}

/// The scope and the resource.
fn origin(headers: &Header) -> Markup {
    let (resource, scope) = (headers.resource(), headers.scope());
    let (described, named) = (Resource::read(&resource.resource), Scope::read(&scope.scope));
    let schema = |url: &[u8]| html! { @if !url.is_empty() { p class="note" { "schema " (name(url)) } } };
    html! {
        @if !named.name.is_empty() {
            h3 { "Scope" }
            p { (name(named.name)) " " (name(named.version)) }
            (attributes("Attributes of the scope", None, &named.attributes))
        }
        (schema(scope.schema_url))
        (attributes("Resource", Some("resource.attributes"), &described.attributes))
        (schema(resource.schema_url))
    }
}

/// A time in full: that of this machine's zone, and the exact one.
fn moment(nanos: u64) -> Markup {
    let mut exact = Vec::new();
    let mut clock = Clock::EPOCH;
    clock.put(&mut exact, nanos);
    html! { (time(nanos)) " " span class="faint" { (String::from_utf8_lossy(&exact)) } }
}
