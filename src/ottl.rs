//! OTTL, the language of conditions and edits: parsed and typed when the configuration loads, evaluated on the wire.
//!
//! From top to bottom: `program` (statements and conditions as a component uses them), `parser` and `lexer` (text to
//! syntax), `compile` (syntax to expressions, with types and places), `functions` (one row each), `condition` and
//! `expression` (evaluation), `paths` (what a path reads and writes), `scene` (what a statement stands before), `pattern`
//! (regular expressions and globs), `render` (values as text), `value`, `advice` (for those who guess).

mod advice;
pub mod compile;
pub(crate) mod condition;
pub(crate) mod enums;
pub mod expression;
pub mod function;
pub mod functions;
pub(crate) mod infer;
mod lexer;
pub mod parser;
mod paths;
pub(crate) mod pattern;
pub mod plain;
pub(crate) mod program;
mod render;
pub mod scene;
pub mod syntax;
pub mod value;

use crate::otlp::rewrite::Depth;

/// How deep a context stands, and what its items are called.
pub fn level(context: &str) -> (Depth, &'static str) {
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
