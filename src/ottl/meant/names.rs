//! The paths that names mean.

use super::words::Written;
use crate::config::nearest::nearest;
use crate::ottl::advice::{OF_RESOURCES, escaped};
use crate::ottl::paths::table::{CONTEXTS, rows};

/// A path, with the kind of its values, and a comparison for a name that stands alone.
pub(super) struct Name {
    pub(super) path: String,
    pub(super) kind: Kind,
    pub(super) example: &'static str,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Plain,
    /// A symbol, with the beginning of its family.
    Symbol(&'static str),
    Duration,
    Id,
}

const SEVERITY: Kind = Kind::Symbol("SEVERITY_NUMBER_");
/// Names elsewhere, the path here, and the example.
pub(crate) const FAMILIAR: [(&[&str], &str, Kind, &str); 12] = [
    (&["service", "service.name", "service_name"], "resource.attributes[\"service.name\"]", Kind::Plain, "!= nil"),
    (&["host", "host.name", "hostname"], "resource.attributes[\"host.name\"]", Kind::Plain, "!= nil"),
    (
        &["level", "severity", "loglevel", "lvl", "severity_number"],
        "severity_number",
        SEVERITY,
        ">= SEVERITY_NUMBER_ERROR",
    ),
    (&["duration", "latency", "elapsed"], "end_time - start_time", Kind::Duration, "> Duration(\"100ms\")"),
    (&["message", "msg", "text", "body"], "body", Kind::Plain, "!= nil"),
    (&["trace", "traceid", "trace.id", "trace_id"], "trace_id.string", Kind::Id, ""),
    (&["spanid", "span.id", "span_id"], "span_id.string", Kind::Id, ""),
    (&["status", "status.code"], "status.code", Kind::Symbol("STATUS_CODE_"), "== STATUS_CODE_ERROR"),
    (
        &["http.status", "http.status_code", "http.response.status_code", "status_code"],
        "attributes[\"http.response.status_code\"]",
        Kind::Plain,
        ">= 500",
    ),
    (&["kind", "span_kind"], "kind", Kind::Symbol("SPAN_KIND_"), "== SPAN_KIND_SERVER"),
    (&["type"], "type", Kind::Symbol("METRIC_DATA_TYPE_"), ""),
    (&["operation", "span_name"], "name", Kind::Plain, "!= \"\""),
];
/// Names of attributes as a whole.
const ATTRIBUTES: [&str; 7] = ["attributes", "attribute", "attrs", "attr", "tags", "labels", "fields"];

impl Written<'_> {
    /// The path, with `prefix` before names without a context.
    pub(super) fn resolve(&self, prefix: &str) -> Name {
        let is_context = |first: &str| CONTEXTS.iter().any(|(name, ..)| *name == first);
        let (context, name) = match self.text.split_once('.') {
            Some((first, rest)) if is_context(first) => (format!("{first}."), rest),
            None if is_context(self.text) && !self.keys.is_empty() => (format!("{}.", self.text), "attributes"),
            _ => (prefix.to_owned(), self.text),
        };
        let plain = |path: String| Name { path, kind: Kind::Plain, example: "" };
        let attribute = |key: &str| {
            let is_resources =
                context == prefix && key.split_once('.').is_some_and(|(first, _)| OF_RESOURCES.contains(&first));
            let context = if is_resources { "resource." } else { &context };
            plain(format!("{context}attributes[{}]", escaped(key)))
        };
        let is_known = |name: &str| CONTEXTS.iter().flat_map(|(context, ..)| rows(context)).any(|row| row.name == name);
        match self.keys.as_slice() {
            [] => {}
            [key] if ATTRIBUTES.contains(&name) || !is_known(name) => return attribute(key),
            keys => {
                let keys = keys.iter().map(|key| match key.parse::<u32>() {
                    Ok(index) => format!("[{index}]"),
                    Err(_) => format!("[{}]", escaped(key)),
                });
                return plain(format!("{context}{name}{}", keys.collect::<String>()));
            }
        }
        if let Some((_, key)) = name.split_once('.').filter(|(first, _)| ATTRIBUTES.contains(first)) {
            return attribute(key);
        }
        let familiar = FAMILIAR.iter().find(|(names, ..)| context != "resource." && names.contains(&name));
        if let Some((_, path, kind, example)) = familiar {
            let path = match path.strip_prefix("end_time - ") {
                Some(start) => format!("{context}end_time - {context}{start}"),
                None if path.starts_with("resource.") => (*path).to_owned(),
                None => format!("{context}{path}"),
            };
            return Name { path, kind: *kind, example };
        }
        if is_known(name) {
            return plain(format!("{context}{name}"));
        }
        let known = CONTEXTS.iter().flat_map(|(context, ..)| rows(context)).map(|row| row.name);
        match nearest(name, known.filter(|_| !name.contains('.'))) {
            Some(near) => plain(format!("{context}{near}")),
            None => attribute(name),
        }
    }
}
