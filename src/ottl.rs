//! OTTL, the language of conditions and edits: parsed and typed when the config loads, evaluated on the wire format.
//!
//! From top to bottom: `program` (statements and conditions of a component), `parser` and `lexer` (text to syntax),
//! `compile` (syntax to typed expressions), `functions` (one row each), `condition` and `expression` (evaluation),
//! `paths` (reading and writing a path), `scene` (the input of a statement), `pattern` (regular expressions and globs),
//! `render` (values as text), `value`, `advice` (help for common mistakes), `meant` (a proposal for a refused
//! condition).

pub(crate) mod advice;
pub mod compile;
pub(crate) mod condition;
pub(crate) mod enums;
pub(crate) mod expression;
pub(crate) mod function;
pub mod functions;
pub(crate) mod infer;
mod lexer;
pub(crate) mod meant;
pub mod parser;
mod paths;
pub(crate) mod pattern;
pub mod plain;
pub(crate) mod program;
mod render;
pub(crate) mod scene;
pub mod syntax;
pub(crate) mod value;

use crate::otlp::rewrite::Depth;

/// The depth of a context, and the name of its items.
pub(crate) fn level(context: &str) -> (Depth, &'static str) {
    match context {
        "resource" => (Depth::Resources, "resources"),
        "scope" => (Depth::Scopes, "scopes"),
        "spanevent" => (Depth::Children, "span events"),
        "datapoint" => (Depth::Children, "data points"),
        "exemplar" => (Depth::Exemplars, "exemplars"),
        "span" => (Depth::Records, "spans"),
        "metric" => (Depth::Records, "metrics"),
        _ => (Depth::Records, "logs"),
    }
}
