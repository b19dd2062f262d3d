//! Compiles syntax: looks up names, binds and types arguments, evaluates literals. All errors in a statement are found
//! here, when the config loads.

use crate::config::nearest::suggestion;
use crate::otlp::rewrite::Sight;

use super::advice;
use super::condition::{Condition, compare};
use super::enums;
use super::expression::{Call, Constant, Expression, Pattern};
use super::function::{Argument, Arguments, Function, Kind, Parameter};
use super::functions::refusal;
use super::paths::{Path, Segment};
use super::pattern;
use super::scene::Scene;
use super::syntax::{self, Field, Mistake, Node, Span, Statement, Syntax, is_editor};
use super::value::{Arena, Fault, Value};

/// The language of a text: its context, and the component's functions.
#[derive(Clone, Copy)]
pub struct Dialect<'d> {
    pub context: &'static str,
    pub functions: &'d [&'static [Function]],
}

/// The memory for evaluating one literal call.
const FOLDED_BYTES: usize = 1 << 20;

type Compiled<T> = Result<T, Mistake>;

/// An editor's call and its condition.
pub fn statement(statement: &Statement, dialect: &Dialect) -> Compiled<(Call, Option<Condition>)> {
    let editor = dialect.call(&statement.editor)?;
    let condition = statement.condition.as_ref().map(|node| condition(node, dialect));
    Ok((editor, condition.transpose()?))
}

pub fn condition(node: &Node, dialect: &Dialect) -> Compiled<Condition> {
    // Decide constant terms now: a term that fails is never evaluated beside one that settles
    // the result.
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
                Some(help) if !mistake.is_guessed => mistake.help(help),
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
            Expression::Constant(_) if is_plain(node) => {
                return Err(Mistake::new(&node.span, "this is neither true nor false"));
            }
            expression => Condition::Truth(expression),
        },
    })
}

pub(super) fn remarks_on_statement(statement: &Statement, dialect: &Dialect) -> Vec<Mistake> {
    let doubt = doubt(&statement.editor, dialect).into_iter();
    let within = statement.editor.nodes().flat_map(|node| remarks(node, dialect));
    let condition = statement.condition.iter().flat_map(|node| remarks_on_condition(node, dialect));
    doubt.chain(within).chain(condition).collect()
}

/// Whether a condition compiles without a warning.
pub(super) fn is_right(node: &Node, dialect: &Dialect) -> bool {
    condition(node, dialect).is_ok() && remarks_on_condition(node, dialect).is_empty()
}

/// Warnings about a condition, including calls that are not boolean.
pub(crate) fn remarks_on_condition(node: &Node, dialect: &Dialect) -> Vec<Mistake> {
    [untrue(node, dialect), remarks(node, dialect)].concat()
}

fn untrue(node: &Node, dialect: &Dialect) -> Vec<Mistake> {
    match (&node.syntax, dialect.expression(node)) {
        (Syntax::Not(_) | Syntax::All(_) | Syntax::Any(_), _) => {
            node.children().into_iter().flat_map(|child| untrue(child, dialect)).collect()
        }
        (Syntax::Call(call), Ok(Expression::Constant(made))) if !matches!(made, Constant::Bool(_)) => {
            let fault = Condition::untrue(&made.value());
            vec![Mistake::new(&node.span, format!("{} always fails: {}", call.name, fault.0))]
        }
        _ => Vec::new(),
    }
}

/// Warnings about valid but unintended expressions, as in the Go collector: comparisons with a constant outcome, and
/// constant expressions that always fail.
fn remarks(node: &Node, dialect: &Dialect) -> Vec<Mistake> {
    let within = node.children().into_iter().flat_map(|child| remarks(child, dialect));
    let remark = match &node.syntax {
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
            remark.map(|(side, (types, help))| {
                Mistake::new(&side.span, format!("{types}, so this is {outcome} true")).help(Some(help))
            })
        }
        // The call itself, or the keys after it.
        Syntax::Call(call) => doubt(call, dialect).or_else(|| failure(node, dialect)),
        Syntax::Math(..) | Syntax::Negative(_) => failure(node, dialect),
        _ => None,
    };
    within.chain(remark).collect()
}

fn failure(node: &Node, dialect: &Dialect) -> Option<Mistake> {
    let fault = dialect.expression(node).ok().and_then(|expression| constant(&expression)?.err())?;
    (!fault.is_out_of_memory()).then(|| Mistake::new(&node.span, format!("this always fails: {}", fault.0)))
}

/// The warning for a call that loads, but always fails because of its literals.
fn doubt(call: &syntax::Call, dialect: &Dialect) -> Option<Mistake> {
    let bound = dialect.call(call).ok()?;
    let fault = constant_call(&bound).and_then(Result::err).filter(|fault| !fault.is_out_of_memory());
    let of_fault = |fault: Fault| Mistake::new(&call.name_span, format!("{} always fails: {}", call.name, fault.0));
    let of_types =
        |mistake: Mistake| Mistake { message: format!("{}, so this always fails", mistake.message), ..mistake };
    fault.map(of_fault).or_else(|| dialect.checked(call, true).err().map(of_types))
}

/// A plain literal; the Go collector does not evaluate a converter's result before it runs.
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

fn has_maps(node: &Node) -> bool {
    matches!(&node.syntax, Syntax::List(items) if items.iter().any(|item| matches!(item.syntax, Syntax::Map(_))))
}

/// A literal that the Go collector checks when the config loads.
fn is_literal(node: &Node) -> bool {
    match &node.syntax {
        Syntax::Function(_) => true,
        Syntax::Negative(inner) => is_literal(inner),
        Syntax::List(_) | Syntax::Map(_) => node.children().into_iter().all(is_literal),
        _ => is_plain(node),
    }
}

impl Dialect<'_> {
    fn expression(&self, node: &Node) -> Compiled<Expression> {
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
                let called = folded(Expression::Call(Box::new(self.call(call)?)));
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
            let (help, is_guessed) = advice::of_symbol(name, self.context);
            Mistake { is_guessed, ..Mistake::new(span, message).help(help) }
        })?;
        Ok(Expression::Constant(Constant::Int(value)))
    }

    fn path(&self, fields: &[Field], span: &Span) -> Compiled<Path> {
        let segments =
            fields.iter().map(|field| Ok(Segment { name: field.name.clone(), keys: self.expressions(&field.keys)? }));
        let segments = segments.collect::<Compiled<Vec<_>>>()?;
        let written = || fields.iter().map(|field| field.name.as_str()).collect::<Vec<_>>().join(".");
        Path::resolve(self.context, segments, span).map_err(|mistake| match advice::of_path(&written()) {
            Some(help) if !mistake.is_guessed => mistake.help(help),
            _ => mistake,
        })
    }

    fn function(&self, name: &str, span: &Span) -> Compiled<&'static Function> {
        let named: Vec<_> = self.functions.iter().copied().flatten().filter(|row| row.name == name).collect();
        if let Some(row) = named.iter().find(|row| row.is_in(self.context)) {
            return Ok(row);
        }
        let known = self.functions.iter().copied().flatten();
        let known = known.filter(|row| row.is_in(self.context) && is_editor(row.name) == is_editor(name));
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

    fn call(&self, call: &syntax::Call) -> Compiled<Call> {
        self.checked(call, false)
    }

    /// A call; refused if its literals cannot work and, with `is_strict`, also for constant expressions, which the Go
    /// collector checks when they run.
    fn checked(&self, call: &syntax::Call, is_strict: bool) -> Compiled<Call> {
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
        let mut all_known = true;
        for (position, argument) in call.arguments.iter().enumerate() {
            let position = match &argument.name {
                None => position,
                Some((name, span)) => {
                    let found = parameters.iter().position(|parameter| camel(parameter.name).eq(camel(name)));
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
            let is_known = is_strict || is_literal(&argument.value);
            let argument = self.argument(&argument.value, function, parameter, is_known)?;
            all_known &= is_known || !is_fixed(&argument);
            *slot = Some(argument);
        }
        if parameters.iter().zip(&bound).any(|(parameter, slot)| !parameter.optional && slot.is_none()) {
            return Err(count());
        }
        let span = call.name_span.start..call.arguments.last().map_or(call.name_span.end, |last| last.value.span.end);
        let bound = Call { function, arguments: Arguments(bound) };
        if let Some(check) = function.check.filter(|_| all_known && (is_strict || !function.check_only_warns)) {
            check(&bound.arguments).map_err(|why| Mistake::new(&span, why))?;
        }
        let converts = parameters.first().is_some_and(|first| first.kind == Kind::Converted);
        match constant_call(&bound) {
            Some(Err(fault)) if all_known && converts => {
                Err(Mistake::new(&span, format!("{}: {}", function.name, fault.0)))
            }
            _ => Ok(bound),
        }
    }

    /// `is_known`: whether the node is a literal, whose type is checked now.
    fn argument(&self, node: &Node, function: &Function, parameter: &Parameter, is_known: bool) -> Compiled<Argument> {
        let wanted = |what: &str| {
            let message = format!("the argument {} of {} must be {what}", parameter.name, function.name);
            Mistake::new(&node.span, message).help(usage(function))
        };
        // A literal of the wrong type is refused now; computed values are checked when they are evaluated.
        let literal = |node: &Node, what: &str, is_right: fn(Value) -> bool| match self.expression(node)? {
            Expression::Constant(constant) if is_known && !is_right(constant.value()) => Err(wanted(what)),
            expression => Ok(expression),
        };
        let fixed = |node: &Node, what: &str, is_right: fn(Value) -> bool| match self.expression(node)? {
            Expression::Constant(constant) if is_literal(node) && is_right(constant.value()) => {
                Ok(Expression::Constant(constant))
            }
            _ => Err(wanted(what)),
        };
        let is_text = |value: Value| matches!(value, Value::String(_));
        let is_int = |value: Value| matches!(value, Value::Int(_));
        let is_number = |value: Value| matches!(value, Value::Int(_) | Value::Double(_));
        let is_bool = |value: Value| matches!(value, Value::Bool(_));
        let one = |what, is_right| literal(node, what, is_right).map(Argument::Value);
        let one_fixed = |what, is_right| fixed(node, what, is_right).map(Argument::Value);
        let list = |node: &Node, each: &dyn Fn(&Node) -> Compiled<Expression>| match &node.syntax {
            Syntax::List(items) => Ok(Argument::Values(items.iter().map(each).collect::<Compiled<_>>()?)),
            _ => Err(wanted("a list, […]")),
        };
        match parameter.kind {
            Kind::Value | Kind::Converted => self.expression(node).map(Argument::Value),
            Kind::Text => one("text", is_text),
            Kind::Int => one("a whole number", is_int),
            Kind::Map => one("a map", |value| matches!(value, Value::Map(_))),
            // As in the Go collector, which turns the list into one of its own.
            Kind::List if has_maps(node) => Err(wanted("a list without maps, where it is written out")),
            Kind::List => one("a list", |value| matches!(value, Value::List(_))),
            Kind::Time => one("a time", |value| matches!(value, Value::Time(_))),
            Kind::Duration => one("a duration", |value| matches!(value, Value::Duration(_))),
            Kind::FixedText => one_fixed("text in quotes", is_text),
            Kind::FixedInt => one_fixed("a whole number, written out", is_int),
            Kind::FixedBool => one_fixed("true or false", is_bool),
            Kind::FixedNumber => one_fixed("a number, written out", is_number),
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
                let expression = literal(node, "text", is_text)?;
                let compiled = match &expression {
                    Expression::Constant(Constant::String(text)) => Some((text, compile_text(text, compile))),
                    _ => None,
                };
                Ok(Argument::Pattern(match compiled {
                    Some((_, Ok(regex))) => Pattern::Compiled(regex),
                    Some((text, Err(why))) if is_known => {
                        let (name, text) = (function.name, shortened(&String::from_utf8_lossy(text)));
                        let message =
                            format!("the regex pattern supplied to {name} '\"{text}\"' is not a valid pattern");
                        return Err(Mistake::new(&node.span, message).help(why));
                    }
                    _ => Pattern::Computed { text: expression, is_glob },
                }))
            }
            Kind::Function => self.converter(node, wanted),
        }
    }

    /// A converter as an argument: called with the input of the function that takes it.
    fn converter(&self, node: &Node, wanted: impl Fn(&str) -> Mistake) -> Compiled<Argument> {
        let (Syntax::Function(name) | Syntax::Enum(name)) = &node.syntax else {
            return Err(wanted("the name of a converter"));
        };
        let function = self.function(name, &node.span)?;
        let mut arguments: Vec<_> = function.parameters.iter().map(|_| None).collect();
        let Some((first, _)) = arguments.split_first_mut() else { return Err(wanted("a converter of text")) };
        *first = Some(Argument::Value(Expression::Input));
        Ok(Argument::Function(Expression::Call(Box::new(Call { function, arguments: Arguments(arguments) }))))
    }
}

/// Evaluates a constant expression once; one that fails is kept, and fails when it runs.
fn folded(expression: Expression) -> Expression {
    let made = constant(&expression).and_then(Result::ok).flatten();
    made.map_or(expression, Expression::Constant)
}

/// The value of a constant expression, or why it fails; `None` if it depends on telemetry or the clock.
fn constant(expression: &Expression) -> Option<Result<Option<Constant>, Fault>> {
    let is_fixed = match expression {
        Expression::Call(call) => return constant_call(call),
        Expression::List(items) => items.iter().all(is_constant),
        Expression::Map(entries) => entries.iter().all(|(_, value)| is_constant(value)),
        Expression::Negative(inner) => is_constant(inner),
        Expression::Math(first, rest) => is_constant(first) && rest.iter().all(|(_, value)| is_constant(value)),
        Expression::Index(inner, keys) => is_constant(inner) && keys.iter().all(is_constant),
        _ => false,
    };
    let arena = Arena::with_limit(FOLDED_BYTES);
    is_fixed.then(|| expression.evaluate(&mut Scene::nowhere(&arena, &mut Sight::default())).map(Constant::of))
}

fn constant_call(call: &Call) -> Option<Result<Option<Constant>, Fault>> {
    let is_fixed = call.function.is_constant && call.arguments.0.iter().flatten().all(is_fixed);
    let arena = Arena::with_limit(FOLDED_BYTES);
    let mut nothing = Sight::default();
    let mut scene = Scene::nowhere(&arena, &mut nothing);
    let made = is_fixed.then(|| (call.function.body)(&call.arguments, &mut scene).map(Constant::of))?;
    (!made.as_ref().is_err_and(Fault::wants_the_clock)).then_some(made)
}

fn is_constant(expression: &Expression) -> bool {
    matches!(expression, Expression::Constant(_))
}

fn is_fixed(argument: &Argument) -> bool {
    match argument {
        Argument::Value(expression) => is_constant(expression),
        Argument::Values(values) => values.iter().all(is_constant),
        Argument::Pattern(Pattern::Computed { text, .. }) => is_constant(text),
        Argument::Pattern(Pattern::Compiled(_)) | Argument::Function(_) => true,
        Argument::Target(_) => false,
    }
}

fn compile_text(
    text: &[u8],
    compile: fn(&str) -> Result<pattern::Pattern, String>,
) -> Result<pattern::Pattern, String> {
    compile(std::str::from_utf8(text).map_err(|_| "it is not UTF-8 text".to_owned())?)
}

/// Advice for a function that exists in other contexts.
pub(super) fn elsewhere(functions: &[&'static [Function]], name: &str) -> Option<String> {
    let named = functions.iter().copied().flatten().filter(|row| row.name == name);
    named.filter_map(|row| row.contexts.first()).next().map(|context| {
        format!("it is a function of the {context} context: write `- context: {context}`, with a list of its own")
    })
}

/// Text for an error message; the line below shows its position.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// A parameter's name as the Go collector compares it, which accepts `regex_pattern` and `regexPattern`.
fn camel(name: &str) -> impl Iterator<Item = char> {
    let mut begins_word = true;
    name.chars().filter_map(move |c| {
        let is_first = std::mem::replace(&mut begins_word, !c.is_ascii_alphabetic());
        (c != '_').then(|| if is_first { c.to_ascii_uppercase() } else { c })
    })
}

/// `Substring(target, start, length, [utf8_safe])`
fn usage(function: &Function) -> String {
    let parameters = function.parameters.iter().map(|parameter| match parameter.optional {
        true => format!("[{}]", parameter.name),
        false => parameter.name.to_owned(),
    });
    format!("{}({})", function.name, parameters.collect::<Vec<_>>().join(", "))
}
