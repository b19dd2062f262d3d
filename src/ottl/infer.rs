//! Infers the context of a group of statements and conditions without an explicit one.

use crate::config::nearest::suggestion;

use super::advice;
use super::compile::elsewhere;
use super::enums;
use super::function::Function;
use super::functions::refusal;
use super::paths::table::rows;
use super::syntax::{Call, Field, Mistake, Node, Span, Syntax};

/// From the innermost outwards.
const PRIORITY: [&str; 9] =
    ["log", "exemplar", "datapoint", "metric", "spanevent", "span", "scope", "instrumentation_scope", "resource"];

enum Hint<'n> {
    Path(&'n Field),
    Function(&'n str, &'n Span),
    Symbol(&'n str, &'n Span),
}

/// The names in the texts of a group, each with the index of its text.
#[derive(Default)]
pub(crate) struct Hints<'n>(Vec<(usize, Hint<'n>)>);

impl<'n> Hints<'n> {
    pub(crate) fn node(&mut self, index: usize, node: &'n Node) {
        match &node.syntax {
            Syntax::Path(fields) => self.0.extend(fields.first().map(|first| (index, Hint::Path(first)))),
            Syntax::Call(call) => self.0.push((index, Hint::Function(&call.name, &call.name_span))),
            Syntax::Function(name) => self.0.push((index, Hint::Function(name, &node.span))),
            Syntax::Enum(name) => self.0.push((index, Hint::Symbol(name, &node.span))),
            _ => {}
        }
        node.children().into_iter().for_each(|node| self.node(index, node));
    }

    pub(super) fn call(&mut self, index: usize, call: &'n Call) {
        self.0.push((index, Hint::Function(&call.name, &call.name_span)));
        call.nodes().for_each(|node| self.node(index, node));
    }

    pub(crate) fn paths(&self) -> usize {
        self.0.iter().filter(|(_, hint)| matches!(hint, Hint::Path(_))).count()
    }

    /// How many of the paths exist in one of these contexts.
    pub(crate) fn known_in(&self, contexts: &[&str]) -> usize {
        let is_known = |(_, hint): &&(usize, Hint)| match hint {
            Hint::Path(field) => contexts.iter().any(|context| *context == field.name || has(context, &field.name)),
            _ => false,
        };
        self.0.iter().filter(is_known).count()
    }

    /// The innermost context named by a path, if it has every function and symbol used; else the first from the inside
    /// that has them, down to the named one. A mistake comes with the index of its text.
    pub(crate) fn context(
        &self,
        candidates: &[&'static str],
        functions: &[&'static [Function]],
    ) -> Result<&'static str, (usize, Mistake)> {
        let mut innermost: Option<(usize, usize, &Field)> = None;
        for (index, hint) in &self.0 {
            let Hint::Path(field) = hint else { continue };
            let name = field.name.as_str();
            match PRIORITY.iter().position(|context| *context == name) {
                Some(rank) if innermost.is_none_or(|(best, ..)| rank < best) => innermost = Some((rank, *index, field)),
                Some(_) => {}
                None if name == "otelcol" => {}
                None => {
                    let known = candidates.iter().filter(|context| has(context, name));
                    let options: Vec<_> = known.map(|context| format!("\"{context}.{name}\"")).collect();
                    let mistake = Mistake::new(&field.span, format!("missing context name for path \"{name}\""));
                    let options = match options.is_empty() {
                        true => match advice::of_path(name) {
                            Some(advice) => advice,
                            None => {
                                let contexts = candidates.join(", ");
                                format!(
                                    "a path begins with its context, one of {contexts}; text stands in quotes: \"{name}\""
                                )
                            }
                        },
                        false => format!("possibly valid options are: {}", options.join(", ")),
                    };
                    return Err((*index, mistake.help(options)));
                }
            }
        }
        let inwards =
            PRIORITY.iter().take(innermost.map_or(PRIORITY.len(), |(rank, ..)| rank)).map(|context| alias(context));
        let mut contexts: Vec<_> = inwards.filter(|context| candidates.contains(context)).collect();
        if let Some((rank, index, field)) = innermost {
            let context = PRIORITY.get(rank).map_or("resource", |context| alias(context));
            if !candidates.contains(&context) {
                let message = format!("inferred context \"{context}\" is not a valid candidate");
                let help = format!("the contexts here are {}", candidates.join(", "));
                return Err((index, Mistake::new(&field.span, message).help(help)));
            }
            contexts.insert(0, context);
        }
        if let Some(context) = contexts.iter().find(|context| self.unknown(context, functions).is_none()) {
            return Ok(context);
        }
        let context = contexts.first().copied().unwrap_or("resource");
        let (index, span, what, name) = self.unknown(context, functions).expect("no context fits");
        let message = format!("inferred context \"{context}\" does not support the {what} \"{name}\"");
        let near = match what {
            "function" => refusal(name).map(str::to_owned).or_else(|| elsewhere(functions, name)).or_else(|| {
                suggestion(name, functions.iter().copied().flatten().map(|row| row.name), "the functions are")
            }),
            _ => Some(advice::of_symbol(name, context).0),
        };
        Err((index, Mistake::new(span, message).help(near)))
    }

    /// The first function or symbol that a context does not know. A symbol may also be the name of a function.
    fn unknown(
        &self,
        context: &str,
        functions: &[&'static [Function]],
    ) -> Option<(usize, &'n Span, &'static str, &'n str)> {
        let has = |name: &str| functions.iter().copied().flatten().any(|row| row.name == name && row.is_in(context));
        self.0.iter().find_map(|(index, hint)| match hint {
            Hint::Function(name, span) if !has(name) => Some((*index, *span, "function", *name)),
            Hint::Symbol(name, span) if enums::value(context, name).is_none() && !has(name) => {
                Some((*index, *span, "enum symbol", *name))
            }
            _ => None,
        })
    }
}

/// Whether a path in a context begins with this name.
fn has(context: &str, name: &str) -> bool {
    rows(context).any(|row| row.name.split('.').next() == Some(name))
}

fn alias(context: &'static str) -> &'static str {
    if context == "instrumentation_scope" { "scope" } else { context }
}
