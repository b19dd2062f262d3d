//! A request to take along: its ids as a header, all of it as OTLP/JSON, requests like it as a rule of a filter.

use http::StatusCode;
use maud::{Markup, html};

use super::View;
use crate::cli::tail::query::as_rule;
use crate::cli::ui::pages::values::LONGEST;
use crate::cli::ui::pages::{Answer, LARGEST, digits, trace_address};
use crate::cli::ui::store::item::Kept;
use crate::cli::ui::store::traces::Trace;
use crate::exporters::debug::requests::{Id, span_id};
use crate::inspect::wanted::Wanted;
use crate::otlp::json::to_json;
use crate::otlp::views::{AnyValue, KeyValue, Resource, Span};
use crate::ottl::advice::escaped;
use crate::telemetry::Signal;

impl View<'_> {
    pub(super) fn copies(&self) -> Markup {
        let tree = &self.told.tree;
        let span = self.open.unwrap_or(tree.at(tree.main).0.id);
        html! {
            details id="copies" {
                summary { "Copy" }
                h3 { "As a traceparent" }
                pre data-copy { "00-" (digits(&self.id)) "-" (format!("{span:016x}")) "-01" }
                (json(&self.id))
                @if let Some(rule) = self.rule() {
                    h3 { "As a rule for spans like its root" }
                    pre data-copy { (rule) }
                }
            }
        }
    }

    /// The filter of spans with the name and the service of the root; `None` also if it is long.
    fn rule(&self) -> Option<String> {
        let root = self.told.tree.at(self.told.tree.main).0.id;
        let mut spans = self.trace.items.iter().filter(|item| item.signal == Signal::Traces);
        let item = spans.find(|item| span_id(Span::read(&item.record).span_id) == root)?;
        let (span, group) = (Span::read(&item.record), item.headers.resource());
        let mut attributes = Resource::read(&group.resource).attributes.map(KeyValue::read);
        let service = attributes.find(|pair| pair.key == b"service.name").map(|pair| pair.value);
        let mut conditions = vec![format!("span.name == {}", escaped(std::str::from_utf8(span.name).ok()?))];
        if let Some(AnyValue::String(service)) = service {
            let service = escaped(std::str::from_utf8(service).ok()?);
            conditions.insert(0, format!("resource.attributes[\"service.name\"] == {service}"));
        }
        let condition = conditions.join(" and ");
        if condition.len() > LONGEST {
            return None;
        }
        as_rule(&Wanted::read(&condition).ok()?).ok()
    }
}

/// The link to a request as OTLP/JSON.
pub(super) fn json(id: &Id) -> Markup {
    let address = format!("{}.json", trace_address(id));
    html! {
        h3 { "As OTLP/JSON" }
        p { a href=(address) download { "all spans and logs" } ", which " code { "misaki send FILE" } " sends again" }
    }
}

/// A request as lines of OTLP/JSON: its spans, then its logs.
pub(super) fn file(id: &Id, trace: &Trace) -> Answer {
    let mut body = Vec::new();
    for signal in [Signal::Traces, Signal::Logs] {
        let items: Vec<&Kept> = trace.items.iter().map(|item| &**item).filter(|item| item.signal == signal).collect();
        if !items.is_empty() {
            to_json(signal, &Kept::together(&items), &mut body);
            body.push(b'\n');
        }
    }
    if body.len() > LARGEST {
        return Answer {
            status: StatusCode::INSUFFICIENT_STORAGE,
            media_type: "text/plain; charset=utf-8",
            file: None,
            body: format!(
                "This request has more than 32 MiB as OTLP/JSON. `misaki tail --past -o json {}` writes it.\n",
                digits(id)
            ),
        };
    }
    Answer {
        status: StatusCode::OK,
        media_type: "application/x-ndjson",
        file: Some(format!("{}.jsonl", digits(id))),
        body: String::from_utf8_lossy(&body).into_owned(),
    }
}
