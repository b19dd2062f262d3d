//! Groups of conditions and statements, read from the config with their places, and run on a scene.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::config::nearest::nearest;
use crate::config::section::Section;
use crate::config::{self, Place, Problem, Value};

use super::compile::{self, Dialect};
use super::condition::Condition;
use super::expression::Call;
use super::function::Function;
use super::infer::Hints;
use super::meant;
use super::parser;
use super::scene::Scene;
use super::syntax::{Mistake, Node, Statement};
use super::value::Fault;

/// How a failing condition or statement is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorMode {
    /// Log it; it counts as not true, or not done.
    Ignore,
    Silent,
    /// Refuse the whole request.
    Propagate,
}

impl ErrorMode {
    pub(crate) const CHOICES: [(&str, ErrorMode); 3] =
        [("ignore", ErrorMode::Ignore), ("silent", ErrorMode::Silent), ("propagate", ErrorMode::Propagate)];
}

/// A condition with its text.
pub(crate) struct Rule {
    pub(crate) text: String,
    pub(crate) syntax: Node,
    condition: Condition,
    failed: AtomicBool,
}

/// A statement with its text.
struct Step {
    text: String,
    editor: Call,
    condition: Option<Condition>,
    failed: AtomicBool,
}

/// Conditions of which at least one must be true, and statements, all in one context.
pub(crate) struct Group {
    pub(crate) context: &'static str,
    error_mode: ErrorMode,
    pub(crate) conditions: Vec<Rule>,
    statements: Vec<Step>,
}

/// A text with its place, and its config key.
pub(crate) struct Text<'k> {
    pub(crate) key: &'k str,
    pub(crate) text: String,
    pub(crate) place: Place,
    pub(crate) is_statement: bool,
}

/// Where a component's groups are in its section.
#[derive(Clone, Copy)]
pub(crate) struct Grouping<'k> {
    /// A list of texts, or of sections with `context`, `error_mode` and their own lists of texts.
    pub(crate) key: &'k str,
    /// The innermost first.
    pub(crate) contexts: &'k [&'static str],
    pub(crate) functions: &'k [&'static [Function]],
    pub(crate) error_mode: ErrorMode,
    /// Whether the texts are statements, optionally with conditions; else they are conditions.
    pub(crate) has_statements: bool,
}

enum Parsed {
    Condition(Node),
    Statement(Statement),
}

impl Grouping<'_> {
    /// Reads all groups, in order. `settings` reads the other keys of a group's section, even if its texts have
    /// mistakes.
    pub(crate) fn read<S: Default, T>(
        &self,
        section: &Section,
        settings: impl Fn(&Section) -> S,
        finish: impl Fn(Group, S) -> T,
    ) -> Vec<T> {
        let Grouping { key, contexts, error_mode, has_statements, .. } = *self;
        let list = match section.node(key).map(|node| &node.value) {
            Some(Value::List(list)) => list.as_slice(),
            _ => &[],
        };
        if let Some(empty) = list.iter().find(|node| node.is_null()) {
            let message = match has_statements {
                true => format!("invalid {key} item: empty statement list items are not supported"),
                false => "condition cannot be empty".to_owned(),
            };
            section.problem_at(empty.place, key, message, None);
            return Vec::new();
        }
        let is_section = |item: &&config::Node| matches!(item.value, Value::Map(_));
        let sections = list.iter().filter(is_section).count();
        if sections > 0 && sections < list.len() {
            let message = "configuring multiple configuration styles is not supported, please use only Basic \
                           configuration or only Advanced configuration";
            section.problem(key, message);
            return Vec::new();
        }
        if sections == 0 {
            let texts = section.items(key).unwrap_or_default();
            let group = self.group(section, &[(key, texts, has_statements)], None, error_mode);
            return group.map(|group| finish(group, S::default())).into_iter().collect();
        }
        let choices: Vec<_> = contexts.iter().map(|context| (*context, Some(*context))).collect();
        let groups = section.sections(key).unwrap_or_default().into_iter().filter_map(|section| {
            let settings = settings(&section);
            let error_mode = section.choice_in_any_case("error_mode", error_mode, &ErrorMode::CHOICES);
            let context = section.choice_in_any_case("context", None, &choices);
            let mut texts = vec![("conditions", section.items("conditions").unwrap_or_default(), false)];
            if has_statements {
                texts.push(("statements", section.items("statements").unwrap_or_default(), true));
            }
            let is_known = context.is_some() || !section.has("context") || section.is_null("context");
            let written = || section.text("context").unwrap_or_default();
            // In place of an unknown context, the texts are read in the one that was meant, or not at all.
            let context = if is_known { context } else { Some(nearest(&written(), contexts.iter().copied())?) };
            self.group(&section, &texts, context, error_mode).map(|group| finish(group, settings))
        });
        groups.collect()
    }

    fn group(
        &self,
        section: &Section,
        lists: &[(&str, Vec<(String, Place)>, bool)],
        context: Option<&'static str>,
        error_mode: ErrorMode,
    ) -> Option<Group> {
        let texts = lists.iter().flat_map(|(key, texts, is_statement)| {
            texts.iter().map(|(text, place)| Text {
                key,
                text: text.clone(),
                place: *place,
                is_statement: *is_statement,
            })
        });
        let texts: Vec<Text> = texts.collect();
        let group = Group::read(section, &texts, context, self.contexts, self.functions, error_mode);
        group.filter(|_| !texts.is_empty())
    }
}

impl Group {
    /// Compiles a group in `context`, or in the one inferred from its paths among `candidates`. All mistakes are
    /// reported, each at its position; `None` if there is one.
    pub(crate) fn read(
        section: &Section,
        texts: &[Text],
        context: Option<&'static str>,
        candidates: &[&'static str],
        functions: &[&'static [Function]],
        error_mode: ErrorMode,
    ) -> Option<Group> {
        let is_right = |text: &str| {
            let Ok(node) = parser::condition(text) else { return false };
            let mut hints = Hints::default();
            hints.node(0, &node);
            let context = context.or_else(|| hints.context(candidates, functions).ok());
            context.is_some_and(|context| compile::is_right(&node, &Dialect { context, functions }))
        };
        let say = |text: &Text, kind: fn(Place, String) -> Problem, Mistake { span, message, help, .. }: Mistake| {
            let meant = if text.is_statement { Vec::new() } else { meant::conditions(&text.text, is_right) };
            let help = if meant.is_empty() { help } else { Some(format!("write {}", meant.join(", or "))) };
            section.push(text.key, kind(text.place, message).help(help).inside(&text.text, span));
        };
        let report = |text: &Text, mistake| say(text, Problem::error, mistake);
        let remark = |text: &Text, remarks: Vec<Mistake>| {
            remarks.into_iter().for_each(|mistake| say(text, Problem::warning, mistake));
        };
        let parse = |text: &Text| match text.is_statement {
            true => parser::statement(&text.text).map(Parsed::Statement),
            false => parser::condition(&text.text).map(Parsed::Condition),
        };
        let parsed = texts.iter().filter_map(|text| {
            let parsed = parse(text).map_err(|mistake| report(text, mistake)).ok()?;
            Some((text, parsed))
        });
        let mut parsed: Vec<(&Text, Parsed)> = parsed.collect();
        let context = loop {
            let mut hints = Hints::default();
            for (index, (_, parsed)) in parsed.iter().enumerate() {
                match parsed {
                    Parsed::Condition(node) => hints.node(index, node),
                    Parsed::Statement(statement) => {
                        hints.call(index, &statement.editor);
                        statement.condition.iter().for_each(|node| hints.node(index, node));
                    }
                }
            }
            match context.map_or_else(|| hints.context(candidates, functions), Ok) {
                Ok(context) => break context,
                // Read the others without it, so that their mistakes are reported too.
                Err((index, mistake)) if index < parsed.len() && !section.problems().are_enough() => {
                    report(parsed.remove(index).0, mistake);
                }
                Err(_) => return None,
            }
        };
        let is_parsed = parsed.len() == texts.len();
        let dialect = Dialect { context, functions };
        let mut group = Group { context, error_mode, conditions: Vec::new(), statements: Vec::new() };
        for (written, parsed) in parsed {
            let (text, failed) = (written.text.clone(), AtomicBool::new(false));
            let report = |mistake| report(written, mistake);
            match parsed {
                Parsed::Condition(syntax) => {
                    remark(written, compile::remarks_on_condition(&syntax, &dialect));
                    let compiled = compile::condition(&syntax, &dialect).map_err(report);
                    let rule = compiled.map(|condition| Rule { text, syntax, condition, failed });
                    group.conditions.extend(rule.ok());
                }
                Parsed::Statement(statement) => {
                    remark(written, compile::remarks_on_statement(&statement, &dialect));
                    let compiled = compile::statement(&statement, &dialect).map_err(report);
                    let step = compiled.map(|(editor, condition)| Step { text, editor, condition, failed });
                    group.statements.extend(step.ok());
                }
            }
        }
        let is_sound = is_parsed && group.conditions.len() + group.statements.len() == texts.len();
        is_sound.then_some(group)
    }

    /// Runs the statements if one of the conditions is true, or there are none.
    pub(crate) fn run<'a>(&'a self, scene: &mut Scene<'_, 'a>) -> Result<(), Fault> {
        if !self.conditions.is_empty() && self.first_true(scene)?.is_none() {
            return Ok(());
        }
        for step in &self.statements {
            if let Err(fault) = step.run(scene) {
                self.error_mode.settle("failed to execute statement", &step.text, &step.failed, fault)?;
            }
        }
        Ok(())
    }

    /// The index of the first true condition.
    #[inline]
    pub(crate) fn first_true<'a>(&'a self, scene: &mut Scene<'_, 'a>) -> Result<Option<usize>, Fault> {
        for (index, rule) in self.conditions.iter().enumerate() {
            match rule.condition.holds(scene) {
                Ok(true) => return Ok(Some(index)),
                Ok(false) => {}
                Err(fault) => self.error_mode.settle("failed to eval condition", &rule.text, &rule.failed, fault)?,
            }
        }
        Ok(None)
    }
}

impl Step {
    fn run<'a>(&'a self, scene: &mut Scene<'_, 'a>) -> Result<(), Fault> {
        if let Some(condition) = &self.condition
            && !condition.holds(scene)?
        {
            return Ok(());
        }
        (self.editor.function.body)(&self.editor.arguments, scene).map(drop)
    }
}

impl ErrorMode {
    /// Handles a failure. It is logged once per text: a failure in every record would flood the log.
    #[cold]
    fn settle(self, what: &'static str, text: &str, failed: &AtomicBool, fault: Fault) -> Result<(), Fault> {
        match self {
            _ if fault.has_no_end() => Err(fault),
            ErrorMode::Propagate => Err(Fault::new(format!("{what}: {text}, {}", fault.0))),
            ErrorMode::Silent => Ok(()),
            ErrorMode::Ignore => {
                if !failed.swap(true, Relaxed) {
                    tracing::warn!(error = %fault.0, statement = text, "{what}; it is said only once for this one");
                }
                Ok(())
            }
        }
    }
}
