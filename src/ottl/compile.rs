//! Syntax to what runs: names are looked up, arguments bound and typed, literals evaluated (facts 5.4, 6.1). Whatever can
//! be wrong with a statement is found here, when the configuration loads.

use crate::config::nearest::suggestion;
use crate::otlp::rewrite::Sight;

use super::advice;
use super::condition::{Condition, compare};
use super::enums;
use super::expression::{Call, Constant, Expression, Pattern};
use super::function::{Argument, Arguments, Function, Kind, Known, Parameter};
use super::functions::refusal;
use super::paths::{Path, Segment};
use super::pattern;
use super::scene::Scene;
use super::syntax::{self, Field, Mistake, Node, Span, Statement, Syntax, is_editor};
use super::value::Arena;

/// What a text may say: the context it stands in, and the functions of the component.
#[derive(Clone, Copy)]
pub struct Dialect<'d> {
    pub context: &'static str,
    pub functions: &'d [&'static [Function]],
}

/// The memory that evaluating one literal call may take.
const FOLDED_BYTES: usize = 1 << 20;

type Compiled<T> = Result<T, Mistake>;

/// An editor's call and its condition.
pub fn statement(statement: &Statement, dialect: &Dialect) -> Compiled<(Call, Option<Condition>)> {
    let editor = dialect.call(&statement.editor)?;
    let condition = statement.condition.as_ref().map(|node| condition(node, dialect));
    Ok((editor, condition.transpose()?))
}

pub fn condition(node: &Node, dialect: &Dialect) -> Compiled<Condition> {
    // What is known now decides now: a term that would fail when it runs is never asked beside one that settles it.
    let all = |terms: &[Node], settles: bool, join: fn(Vec<Condition>) -> Condition| {
        let terms = terms.iter().map(|term| condition(term, dialect)).collect::<Compiled<Vec<_>>>()?;
        let is_constant = |term: &Condition, value| matches!(term, Condition::Constant(known) if *known == value);
        if terms.iter().any(|term| is_constant(term, settles)) {
            return Ok(Condition::Constant(settles));
        }
        let open: Vec<_> = terms.into_iter().filter(|term| !is_constant(term, !settles)).collect();
        Ok(if open.is_empty() { Condition::Constant(!settles) } else { join(open) })
    };
    Ok(match &node.syntax {
        Syntax::Bool(value) => Condition::Constant(*value),
        Syntax::Not(inner) => match condition(inner, dialect)? {
            Condition::Constant(value) => Condition::Constant(!value),
            inner => Condition::Not(Box::new(inner)),
        },
        Syntax::All(terms) => all(terms, false, Condition::All)?,
        Syntax::Any(terms) => all(terms, true, Condition::Any)?,
        Syntax::Compare(sides) => {
            let (left, comparison, right) = &**sides;
            let quoted = |mistake: Mistake| match advice::of_operand(right) {
                Some(help) if !mistake.is_guessed() => mistake.help(help),
                _ => mistake,
            };
            match (dialect.expression(left)?, dialect.expression(right).map_err(quoted)?) {
                (Expression::Constant(one), Expression::Constant(other)) if is_plain(left) && is_plain(right) => {
                    Condition::Constant(compare(&one.value(), *comparison, &other.value()))
                }
                (left, right) => Condition::comparing(left, *comparison, right),
            }
        }
        _ => match dialect.expression(node)? {
            Expression::Constant(Constant::Bool(value)) => Condition::Constant(value),
            Expression::Constant(_) => return Err(Mistake::new(&node.span, "this is neither true nor false")),
            expression => Condition::Truth(expression),
        },
    })
}

/// Comparisons whose outcome is the same whatever comes: valid, as in the Go collector, and hardly what is meant.
pub fn remarks(node: &Node, dialect: &Dialect) -> Vec<Mistake> {
    match &node.syntax {
        Syntax::Not(inner) => remarks(inner, dialect),
        Syntax::All(terms) | Syntax::Any(terms) => terms.iter().flat_map(|term| remarks(term, dialect)).collect(),
        Syntax::Compare(sides) => {
            let (left, comparison, right) = &**sides;
            let remark = match (dialect.expression(left), dialect.expression(right)) {
                (Ok(Expression::Path(path)), Ok(Expression::Constant(literal))) => {
                    path.is_foreign_to(&literal.value()).map(|help| (right, help))
                }
                (Ok(Expression::Constant(literal)), Ok(Expression::Path(path))) => {
                    path.is_foreign_to(&literal.value()).map(|help| (left, help))
                }
                _ => None,
            };
            let outcome = if *comparison == syntax::Comparison::NotEqual { "always" } else { "never" };
            let remark = remark.map(|(side, (types, help))| {
                Mistake::new(&side.span, format!("{types}, so this is {outcome} true")).help(Some(help))
            });
            remark.into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// A literal as it stands; what a converter makes of one is not known before it runs, for the Go collector.
fn is_plain(node: &Node) -> bool {
    matches!(
        node.syntax,
        Syntax::Nil
            | Syntax::Bool(_)
            | Syntax::Int(_)
            | Syntax::Float(_)
            | Syntax::String(_)
            | Syntax::Bytes(_)
            | Syntax::Enum(_)
    )
}

impl Dialect<'_> {
    pub fn expression(&self, node: &Node) -> Compiled<Expression> {
        let constant = |constant| Ok(Expression::Constant(constant));
        match &node.syntax {
            Syntax::Nil => constant(Constant::Nil),
            Syntax::Bool(value) => constant(Constant::Bool(*value)),
            Syntax::Int(value) => constant(Constant::Int(*value)),
            Syntax::Float(value) => constant(Constant::Double(*value)),
            Syntax::String(text) => constant(Constant::String(text.as_slice().into())),
            Syntax::Bytes(bytes) => constant(Constant::Bytes(bytes.as_slice().into())),
            Syntax::Enum(name) => self.symbol(name, &node.span),
            Syntax::Path(fields) => Ok(Expression::Path(self.path(fields, &node.span)?)),
            Syntax::Call(call) => {
                let called = self.folded(self.call(call)?, &node.span)?;
                if call.keys.is_empty() {
                    return Ok(called);
                }
                Ok(folded(Expression::Index(Box::new(called), self.expressions(&call.keys)?)))
            }
            Syntax::List(items) => Ok(folded(Expression::List(self.expressions(items)?))),
            Syntax::Map(map) => {
                let entries = map.iter().map(|(key, value)| Ok((key.clone(), self.expression(value)?)));
                Ok(folded(Expression::Map(entries.collect::<Compiled<_>>()?)))
            }
            Syntax::Negative(inner) => Ok(folded(Expression::Negative(Box::new(self.expression(inner)?)))),
            Syntax::Math(first, rest) => {
                let first = Box::new(self.expression(first)?);
                let rest = rest.iter().map(|(operator, node)| Ok((*operator, self.expression(node)?)));
                Ok(folded(Expression::Math(first, rest.collect::<Compiled<_>>()?)))
            }
            Syntax::Function(name) => {
                let message = format!("{name} is called with parentheses, or given to a function that wants one");
                Err(Mistake::new(&node.span, message))
            }
            Syntax::Compare(_) | Syntax::Not(_) | Syntax::All(_) | Syntax::Any(_) => {
                Err(Mistake::new(&node.span, "a condition stands here, where a value should"))
            }
        }
    }

    fn expressions(&self, nodes: &[Node]) -> Compiled<Vec<Expression>> {
        nodes.iter().map(|node| self.expression(node)).collect()
    }

    fn symbol(&self, name: &str, span: &Span) -> Compiled<Expression> {
        let value = enums::value(self.context, name).ok_or_else(|| {
            let message = format!("enum symbol \"{name}\" not found in the {} context", self.context);
            Mistake::new(span, message).help(advice::of_symbol(name, self.context))
        })?;
        Ok(Expression::Constant(Constant::Int(value)))
    }

    fn path(&self, fields: &[Field], span: &Span) -> Compiled<Path> {
        let segments =
            fields.iter().map(|field| Ok(Segment { name: field.name.clone(), keys: self.expressions(&field.keys)? }));
        let segments = segments.collect::<Compiled<Vec<_>>>()?;
        let written = || fields.iter().map(|field| field.name.as_str()).collect::<Vec<_>>().join(".");
        Path::resolve(self.context, segments).map_err(|(message, help)| {
            let mistake = Mistake::new(span, message).help(help);
            if mistake.is_guessed() {
                return mistake;
            }
            let help = advice::of_path(&written()).or_else(|| match (fields, &mistake.help) {
                ([field], Some(help)) if help.starts_with("the paths are") => {
                    Some(format!("an attribute is written attributes[\"{}\"]; {help}", field.name))
                }
                (_, help) => help.clone(),
            });
            mistake.help(help)
        })
    }

    fn function(&self, name: &str, span: &Span) -> Compiled<&'static Function> {
        let named: Vec<_> = self.functions.iter().copied().flatten().filter(|row| row.name == name).collect();
        if let Some(row) = named.iter().find(|row| knows(row, self.context)) {
            return Ok(row);
        }
        let known = self.functions.iter().copied().flatten();
        let known = known.filter(|row| knows(row, self.context) && is_editor(row.name) == is_editor(name));
        let near = suggestion(name, known.map(|row| row.name), "the functions are");
        Err(match named.is_empty() {
            true => {
                let refused = refusal(name).map(str::to_owned);
                Mistake::new(span, format!("undefined function \"{name}\"")).help(refused.or(near))
            }
            false => Mistake::new(span, format!("the {} context has no function \"{name}\"", self.context))
                .help(elsewhere(self.functions, name)),
        })
    }

    pub fn call(&self, call: &syntax::Call) -> Compiled<Call> {
        let function = self.function(&call.name, &call.name_span)?;
        let (parameters, given) = (function.parameters, call.arguments.len());
        let count = || {
            let message = "incorrect number of arguments.";
            let message = format!("{message} Expected: {} Received: {given}", parameters.len());
            Mistake::new(&call.name_span, message).help(usage(function))
        };
        if given > parameters.len() || given < parameters.iter().filter(|parameter| !parameter.optional).count() {
            return Err(count());
        }
        let mut bound: Vec<Option<Argument>> = parameters.iter().map(|_| None).collect();
        for (position, argument) in call.arguments.iter().enumerate() {
            let position = match &argument.name {
                None => position,
                Some((name, span)) => {
                    let found = parameters.iter().position(|parameter| parameter.name == name);
                    let unknown = || Mistake::new(span, format!("no such parameter: {name}")).help(usage(function));
                    found.ok_or_else(unknown)?
                }
            };
            let (Some(slot), Some(parameter)) = (bound.get_mut(position), parameters.get(position)) else {
                return Err(count());
            };
            if slot.is_some() {
                let message = format!("the argument {} is given twice", parameter.name);
                return Err(Mistake::new(&argument.value.span, message));
            }
            *slot = Some(self.argument(&argument.value, function, parameter)?);
        }
        if parameters.iter().zip(&bound).any(|(parameter, slot)| !parameter.optional && slot.is_none()) {
            return Err(count());
        }
        let arguments = Arguments(bound);
        if let Some(check) = function.check {
            let span =
                call.name_span.start..call.arguments.last().map_or(call.name_span.end, |last| last.value.span.end);
            check(&arguments).map_err(|why| Mistake::new(&span, why))?;
        }
        Ok(Call { function, arguments })
    }

    fn argument(&self, node: &Node, function: &Function, parameter: &Parameter) -> Compiled<Argument> {
        let wanted = |what: &str| {
            let message = format!("the argument {} of {} must be {what}", parameter.name, function.name);
            Mistake::new(&node.span, message).help(usage(function))
        };
        // A literal of another type is refused now; what is computed, when it is there.
        let literal = |node: &Node, what: &str, is_right: fn(&Constant) -> bool| match self.expression(node)? {
            Expression::Constant(constant) if !is_right(&constant) => Err(wanted(what)),
            expression => Ok(expression),
        };
        let fixed = |node: &Node, what: &str, is_right: fn(&Constant) -> bool| match self.expression(node)? {
            Expression::Constant(constant) if is_right(&constant) => Ok(Expression::Constant(constant)),
            _ => Err(wanted(what)),
        };
        let is_text = |constant: &Constant| matches!(constant, Constant::String(_));
        let is_int = |constant: &Constant| matches!(constant, Constant::Int(_));
        let is_number = |constant: &Constant| matches!(constant, Constant::Int(_) | Constant::Double(_));
        let is_bool = |constant: &Constant| matches!(constant, Constant::Bool(_));
        let list = |node: &Node, each: &dyn Fn(&Node) -> Compiled<Expression>| match &node.syntax {
            Syntax::List(items) => Ok(Argument::Values(items.iter().map(each).collect::<Compiled<_>>()?)),
            _ => Err(wanted("a list, […]")),
        };
        match parameter.kind {
            Kind::Value => self.expression(node).map(Argument::Value),
            Kind::Text => literal(node, "text", is_text).map(Argument::Value),
            Kind::Int => literal(node, "a whole number", is_int).map(Argument::Value),
            Kind::FixedText => fixed(node, "text in quotes", is_text).map(Argument::Value),
            Kind::FixedInt => fixed(node, "a whole number, written out", is_int).map(Argument::Value),
            Kind::FixedBool => fixed(node, "true or false", is_bool).map(Argument::Value),
            Kind::FixedNumber => fixed(node, "a number, written out", is_number).map(Argument::Value),
            Kind::FixedNumbers => list(node, &|item| fixed(item, "a list of numbers", is_number)),
            Kind::FixedTexts => list(node, &|item| fixed(item, "a list of texts in quotes", is_text)),
            Kind::Values => list(node, &|item| self.expression(item)),
            Kind::Texts => list(node, &|item| literal(item, "a list of texts", is_text)),
            Kind::Spread if matches!(node.syntax, Syntax::List(_)) => list(node, &|item| self.expression(item)),
            Kind::Spread => self.expression(node).map(Argument::Value),
            Kind::Target => match &node.syntax {
                Syntax::Path(fields) => self.path(fields, &node.span).map(Argument::Target),
                _ => Err(wanted("a path")),
            },
            Kind::Pattern | Kind::Glob => {
                let is_glob = parameter.kind == Kind::Glob;
                let compile = if is_glob { pattern::glob } else { pattern::compile };
                Ok(Argument::Pattern(match literal(node, "text", is_text)? {
                    Expression::Constant(Constant::String(text)) => {
                        Pattern::Compiled(compile_text(&text, compile).map_err(|why| {
                            let (name, text) = (function.name, shortened(&String::from_utf8_lossy(&text)));
                            let message =
                                format!("the regex pattern supplied to {name} '\"{text}\"' is not a valid pattern");
                            Mistake::new(&node.span, message).help(why)
                        })?)
                    }
                    expression if is_glob => Pattern::ComputedGlob(expression),
                    expression => Pattern::Computed(expression),
                }))
            }
            Kind::Function => match &node.syntax {
                Syntax::Function(name) | Syntax::Enum(name) => {
                    let function = self.function(name, &node.span)?;
                    let mut arguments: Vec<_> = function.parameters.iter().map(|_| None).collect();
                    let Some((first, _)) = arguments.split_first_mut() else {
                        return Err(wanted("a converter of text"));
                    };
                    *first = Some(Argument::Value(Expression::Input));
                    Ok(Argument::Function(Expression::Call(Box::new(Call {
                        function,
                        arguments: Arguments(arguments),
                    }))))
                }
                _ => Err(wanted("the name of a converter")),
            },
        }
    }

    /// A call of literals only is evaluated once, now; what it fails with is a mistake of the text.
    fn folded(&self, call: Call, span: &Span) -> Compiled<Expression> {
        if !call.function.is_constant || !call.arguments.0.iter().flatten().all(is_fixed) {
            return Ok(Expression::Call(Box::new(call)));
        }
        let name = call.function.name;
        let arena = Arena::with_limit(FOLDED_BYTES);
        let value =
            (call.function.body)(&call.arguments, &mut Scene::nowhere(&arena, &mut Sight::default())).map(Constant::of);
        match value {
            Ok(Some(constant)) => Ok(Expression::Constant(constant)),
            Ok(None) => Ok(Expression::Call(Box::new(call))),
            Err(fault) => Err(Mistake::new(span, format!("{name}: {}", fault.0))),
        }
    }
}

/// What is made of literals only is made once; what can't be made stays, and fails when it runs.
fn folded(expression: Expression) -> Expression {
    let is_fixed = match &expression {
        Expression::List(items) => items.iter().all(is_constant),
        Expression::Map(entries) => entries.iter().all(|(_, value)| is_constant(value)),
        Expression::Negative(inner) => is_constant(inner),
        Expression::Math(first, rest) => is_constant(first) && rest.iter().all(|(_, value)| is_constant(value)),
        Expression::Index(inner, keys) => is_constant(inner) && keys.iter().all(is_constant),
        _ => false,
    };
    if !is_fixed {
        return expression;
    }
    let arena = Arena::with_limit(FOLDED_BYTES);
    let constant = expression.evaluate(&mut Scene::nowhere(&arena, &mut Sight::default())).ok().and_then(Constant::of);
    constant.map_or(expression, Expression::Constant)
}

fn is_constant(expression: &Expression) -> bool {
    matches!(expression, Expression::Constant(_))
}

fn is_fixed(argument: &Argument) -> bool {
    match argument {
        Argument::Value(expression) => is_constant(expression),
        Argument::Values(values) => values.iter().all(is_constant),
        Argument::Pattern(pattern) => matches!(pattern, Pattern::Compiled(_)),
        Argument::Function(_) => true,
        Argument::Target(_) => false,
    }
}

fn compile_text(
    text: &[u8],
    compile: fn(&str) -> Result<pattern::Pattern, String>,
) -> Result<pattern::Pattern, String> {
    compile(std::str::from_utf8(text).map_err(|_| "it is not UTF-8 text".to_owned())?)
}

/// Whether a context has a function.
pub fn knows(function: &Function, context: &str) -> bool {
    match function.known {
        Known::Everywhere => true,
        Known::In(contexts) => contexts.contains(&context),
    }
}

/// What to write for a function that other contexts have.
pub fn elsewhere(functions: &[&'static [Function]], name: &str) -> Option<String> {
    let mut known =
        functions.iter().copied().flatten().filter(|row| row.name == name).filter_map(|row| match row.known {
            Known::In(contexts) => contexts.first(),
            Known::Everywhere => None,
        });
    known.next().map(|context| {
        format!("it is a function of the {context} context: write `- context: {context}`, with a list of its own")
    })
}

/// A text in a message; the line below shows where it stands.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// `Substring(target, start, length, [utf8_safe])`
fn usage(function: &Function) -> String {
    let parameters = function.parameters.iter().map(|parameter| match parameter.optional {
        true => format!("[{}]", parameter.name),
        false => parameter.name.to_owned(),
    });
    format!("{}({})", function.name, parameters.collect::<Vec<_>>().join(", "))
}
