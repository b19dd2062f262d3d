//! The errors and warnings about a configuration. They are collected while it is read and decoded, and shown together,
//! each with its line. The collector also records keys without effect, and the effective values.

use super::inside::Inside;
use super::secrecy::{REDACTED, Secrecy, masked};
use super::source::Sources;
use super::tree::{Entry, Node, Place, Value};
use crate::diagnostics::columns::{counted, hanging, width, wrap};
use crate::diagnostics::escape::safe;
use crate::order::Ordered;
use annotate_snippets::{AnnotationKind, Element, Group, Origin, Renderer, Snippet};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::ops::{Bound, Range};

use parking_lot::{Mutex, MutexGuard};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Error,
    Warning,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    pub level: Level,
    pub place: Option<Place>,
    /// The path in the tree, as in `processors.batch.timeout`; empty if the place is enough.
    pub path: String,
    pub message: String,
    pub help: Option<String>,
    /// The place it conflicts with, and a label.
    related: Option<(Place, String)>,
    /// The part of the scalar at `place` that it is about.
    pub inside: Option<Inside>,
    /// Whether the message contains the name of a file.
    names_a_file: bool,
    /// Keys in a wrong place, keys whose value could not be read, and the intended paths of misspelt keys.
    strays: Vec<String>,
    /// Missing keys. If one of them is a stray of another error, this problem follows from that error and is not shown.
    wants: Vec<String>,
}

impl Problem {
    pub(crate) fn error(place: impl Into<Option<Place>>, message: impl Into<String>) -> Self {
        let (place, message) = (place.into().filter(|place| *place != Place::NOWHERE), message.into());
        Self {
            level: Level::Error,
            place,
            path: String::new(),
            message,
            help: None,
            related: None,
            inside: None,
            names_a_file: false,
            strays: Vec::new(),
            wants: Vec::new(),
        }
    }

    pub(crate) fn warning(place: impl Into<Option<Place>>, message: impl Into<String>) -> Self {
        Self { level: Level::Warning, ..Self::error(place, message) }
    }

    pub(crate) fn at(self, path: impl Into<String>) -> Self {
        Self { path: path.into(), ..self }
    }

    pub(crate) fn help(self, help: impl Into<Option<String>>) -> Self {
        Self { help: help.into(), ..self }
    }

    pub(crate) fn inside(self, text: &str, span: Range<usize>) -> Self {
        Self { inside: Some(Inside { text: text.to_owned(), span }), ..self }
    }

    /// Marks it as about a key in a wrong place: the keys below it are misplaced as well.
    pub(super) fn straying(mut self, entry: &Entry) -> Self {
        fn add(strays: &mut Vec<String>, entry: &Entry) {
            let key = entry.key.trim();
            strays.push(key.to_owned());
            strays.extend(key.split_once('/').map(|(type_name, _)| type_name.to_owned()));
            // The lists of a pipeline have the same names as top-level sections.
            let below = entry.node.entries().iter().filter(|entry| !matches!(entry.node.value, Value::List(_)));
            below.for_each(|entry| add(strays, entry));
        }
        add(&mut self.strays, entry);
        self
    }

    /// Marks it as about a key whose value could not be read, or about a misspelt key: then this is the intended path.
    pub(super) fn obscuring(mut self, key: &str) -> Self {
        self.strays.push(key.trim().to_owned());
        self
    }

    /// Marks it as about missing keys.
    pub(super) fn wanting<T: Into<String>>(self, keys: impl IntoIterator<Item = T>) -> Self {
        Self { wants: keys.into_iter().map(Into::into).collect(), ..self }
    }

    pub(crate) fn related(self, place: Place, label: &str) -> Self {
        Self { related: Some((place, label.to_owned())), ..self }
    }

    /// Masks a secret. An absolute path in a message about a file is kept: it is not a secret.
    fn conceal(&mut self, secret: &str) {
        if self.names_a_file && secret.starts_with('/') {
            return;
        }
        (self.path, self.message) = (masked(&self.path, secret), masked(&self.message, secret));
        self.help = self.help.as_ref().map(|help| masked(help, secret));
        // The part of a text is not located if the text contains the secret.
        self.inside = self.inside.take().filter(|inside| masked(&inside.text, secret) == inside.text);
    }
}

/// A check of something on this machine. The error is a message, and help if there is any.
type Look = Box<dyn Fn() -> Result<(), (String, Option<String>)> + Send>;

/// A check of what a key names on this machine. It matters only on the machine that runs the config.
struct Outside {
    place: Place,
    path: String,
    look: Look,
}

impl fmt::Debug for Outside {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(&self.path)
    }
}

/// The end of each message about what a config names on the machine.
pub(crate) const ON_THIS_MACHINE: &str = ", on this machine";

/// The collector of problems, passed as `&Problems`.
#[derive(Debug, Default)]
pub struct Problems(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    list: Vec<Problem>,
    /// The number of errors and of warnings that came after the list was full.
    beyond: [usize; 2],
    ignored: HashMap<String, Place>,
    /// Whether errors become warnings, because the component that is read is not used.
    is_lenient: bool,
    /// The places of values with a reference that could not be read, and of their keys. The failure has been reported.
    unresolved: HashSet<Place>,
    outside: Vec<Outside>,
    /// The effective values, by the keys that lead to them, and whether they are secret.
    effective: BTreeMap<Vec<String>, (Value, Secrecy)>,
    /// Texts that messages about a place must not repeat.
    withheld: HashMap<Place, Vec<String>>,
}

impl Problems {
    /// Adds a problem, unless the list has an equal one.
    pub(crate) fn push(&self, mut problem: Problem) {
        let State { list, beyond, is_lenient, .. } = &mut *self.state();
        if *is_lenient {
            problem.level = Level::Warning;
        }
        let Some(beyond) = beyond.get_mut(problem.level as usize) else { return };
        if list.iter().filter(|known| known.level == problem.level).count() >= SHOWN {
            *beyond += 1;
        } else if !list.contains(&problem) {
            list.push(problem);
        }
    }

    /// Runs `read`. If `is_lenient`, its errors become warnings.
    pub(crate) fn leniently<T>(&self, is_lenient: bool, read: impl FnOnce() -> T) -> T {
        self.state().is_lenient = is_lenient;
        let result = read();
        self.state().is_lenient = false;
        result
    }

    /// Notes that a reference in the value of `key` could not be read. Other errors about the value follow from that.
    pub(super) fn unresolved(&self, key: Place, value: Place) {
        self.state().unresolved.extend([key, value]);
    }

    pub(super) fn is_unresolved(&self, place: Place) -> bool {
        self.state().unresolved.contains(&place)
    }

    /// Whether further problems are only counted, so that the caller need not prepare help.
    pub(crate) fn are_enough(&self) -> bool {
        let state = self.state();
        let [errors, warnings] = state.beyond;
        if state.is_lenient { warnings > 0 } else { errors > 0 }
    }

    /// Whether there is an error about this value already. Further ones follow from it.
    pub(super) fn has_error_of(&self, place: Place, path: &str) -> bool {
        let is_it =
            |problem: &Problem| problem.place == Some(place) && problem.path == path && problem.inside.is_none();
        self.state().list.iter().any(|problem| problem.level == Level::Error && is_it(problem))
    }

    pub fn has_errors(&self) -> bool {
        self.state().list.iter().any(|problem| problem.level == Level::Error)
    }

    /// Keeps the text at a place out of messages about it: a secret, or the text of a reference, which may be a secret
    /// in the wrong place.
    pub(super) fn withhold(&self, place: Place, text: &str) {
        self.state().withheld.entry(place).or_default().push(text.to_owned());
    }

    /// The problems, without those that follow from another: errors before warnings, each sorted by place.
    pub fn sorted(&self) -> Vec<Problem> {
        let state = self.state();
        let errors = || state.list.iter().filter(|problem| problem.level == Level::Error);
        let strays: HashSet<&str> = errors().flat_map(|problem| &problem.strays).map(String::as_str).collect();
        // A misplaced key is recorded by its name, a misspelt one by its path.
        let is_stray =
            |path: &str, key: &str| [key, path, &format!("{path}.{key}")].iter().any(|stray| strays.contains(stray));
        let is_root = |problem: &&Problem| !problem.wants.iter().any(|key| is_stray(&problem.path, key));
        let mut list: Vec<Problem> = state.list.iter().filter(is_root).cloned().collect();
        for problem in &mut list {
            for text in problem.place.and_then(|place| state.withheld.get(&place)).into_iter().flatten() {
                problem.conceal(text);
            }
        }
        list.order_by_key(|problem| (problem.level, problem.place));
        list
    }

    /// The same. A problem about a part of a scalar points at that part; if it is not found, the message shows the
    /// text.
    pub fn located(&self, sources: &Sources) -> Vec<Problem> {
        let mut list = self.sorted();
        for problem in &mut list {
            let Some(inside) = problem.inside.take() else { continue };
            let written = problem.place.and_then(|place| Some((place, sources.get(place)?)));
            match written.and_then(|(place, source)| inside.place(&source.text, place)) {
                Some(place) => problem.place = Some(place),
                None => problem.message += &format!(", in {}", inside.text),
            }
        }
        list
    }

    pub(super) fn look_later(&self, place: Place, path: String, look: Look) {
        self.state().outside.push(Outside { place, path, look });
    }

    /// Runs the registered checks of this machine for paths that `is_used` accepts.
    pub(crate) fn look(&self, is_used: impl Fn(&str) -> bool) {
        let outside = std::mem::take(&mut self.state().outside);
        for Outside { place, path, look } in &outside {
            if let (true, Err((message, help))) = (is_used(path), look()) {
                let problem =
                    Problem::error(*place, format!("{message}{ON_THIS_MACHINE}")).at(path.as_str()).help(help);
                self.push(Problem { names_a_file: true, ..problem });
            }
        }
    }

    /// Notes that the key at `path` is known and has no effect here.
    pub(super) fn ignore(&self, place: Place, path: String) {
        self.state().ignored.entry(path).or_insert(place);
    }

    /// The paths of keys without effect, in the order of the file, for one line at start-up.
    pub fn ignored(&self) -> Vec<String> {
        let mut ignored: Vec<_> = self.state().ignored.iter().map(|(path, place)| (*place, path.clone())).collect();
        ignored.sort();
        ignored.into_iter().map(|(_, path)| path).collect()
    }

    /// Records the effective value at `trail`, for `print-config`. It replaces an earlier value and everything below
    /// that, unless it is an empty map, which opens a section.
    pub(super) fn record(&self, trail: &[String], value: Value, secrecy: Secrecy) {
        let effective = &mut self.state().effective;
        if value != Value::Map(Vec::new()) {
            remove_below(effective, trail);
        }
        effective.insert(trail.to_vec(), (value, secrecy));
    }

    /// Removes the records at `trail` and below it.
    pub(super) fn forget(&self, trail: &[String]) {
        remove_below(&mut self.state().effective, trail);
    }

    /// The decoded configuration with its defaults, sorted by key.
    pub fn effective(&self, redacted: bool) -> Node {
        let mut root = Node::new(Value::Map(Vec::new()), Place::NOWHERE);
        for (trail, (value, secrecy)) in &self.state().effective {
            graft(&mut root, trail, if redacted { secrecy.redacted(value) } else { value.clone() });
        }
        unexpanded(&mut root);
        root
    }

    /// A `--set` for display. Its value is shown only if `print-config` shows the value of its key.
    pub fn redacted(&self, set: &str) -> String {
        let (key, _) = set.split_once('=').unwrap_or((set, ""));
        let name = format!("{}.", key.trim().replace("::", "."));
        let state = self.state();
        let mut below = state.effective.iter().filter(|(trail, _)| format!("{}.", trail.join(".")).starts_with(&name));
        // The value of an unknown key, such as one under an alias of a component, may be a secret.
        let is_plain =
            below.clone().next().is_some() && below.all(|(_, (value, secrecy))| secrecy.redacted(value) == *value);
        if is_plain { set.to_owned() } else { format!("{key}={REDACTED}") }
    }

    /// The lines of all secrets that were read, except lines that are too short to be secret.
    fn secrets(&self) -> Vec<String> {
        let mut secrets = Vec::new();
        for (value, secrecy) in self.state().effective.values() {
            let lines = secrecy.secrets(value).into_iter().flat_map(str::lines);
            secrets.extend(lines.filter(|line| line.len() > 3).map(str::to_owned));
        }
        // The longest come first: one may be a part of another.
        secrets.order_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }

    /// The report for a terminal of 80 columns: each problem with its line and help, and a count at the end.
    pub fn render(&self, sources: &Sources, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() }.term_width(WIDTH);
        let (problems, secrets, mut report) = (self.located(sources), self.secrets(), String::new());
        for problem in &problems {
            report.push_str(&renderer.render(&[group(problem, sources, &secrets)]));
            if let (None, Some(help)) = (problem.place, &problem.help) {
                // Without a snippet there is no gutter for the help.
                report.push_str(&format!("\n{}", hanging("  help: ", &safe(help), WIDTH)));
            }
            report.push_str("\n\n");
        }
        let ignored = self.ignored();
        if !ignored.is_empty() {
            let list = format!("these keys have no effect here: {}", ignored.join(", "));
            report.push_str(&format!("{}\n\n", wrap(&safe(&list), WIDTH)));
        }
        if !problems.is_empty() {
            report.push_str(&closing(&problems, self.state().beyond, sources));
        }
        report
    }
}

/// Removes the keys that begin with `trail`. In the order of the map they are adjacent.
fn remove_below<V>(effective: &mut BTreeMap<Vec<String>, V>, trail: &[String]) {
    let from = (Bound::Included(trail), Bound::Unbounded);
    let below =
        effective.range::<[String], _>(from).map(|(known, _)| known).take_while(|known| known.starts_with(trail));
    for known in below.cloned().collect::<Vec<_>>() {
        effective.remove(&known);
    }
}

/// Puts `value` at `trail` below `node`. Trails come sorted, so the map or list to add to is always the last one.
fn graft(node: &mut Node, trail: &[String], value: Value) {
    let Some((key, rest)) = trail.split_first() else {
        node.value = value;
        return;
    };
    let empty = || Node::new(Value::Map(Vec::new()), Place::NOWHERE);
    let inner = match &mut node.value {
        Value::Map(entries) => {
            if entries.last().is_none_or(|entry| entry.key != *key) {
                entries.push(Entry { key: key.clone(), key_place: Place::NOWHERE, node: empty() });
            }
            entries.last_mut().map(|entry| &mut entry.node)
        }
        Value::List(list) => {
            if key.parse() == Ok(list.len()) {
                list.push(empty());
            }
            list.last_mut()
        }
        _ => None,
    };
    if let Some(inner) = inner {
        graft(inner, rest, value);
    }
}

/// Doubles each `$` that would be expanded when the output is read again. The depth of a tree is bounded.
fn unexpanded(node: &mut Node) {
    match &mut node.value {
        Value::Text(text) if text.contains("${") || text.contains("$$") => *text = text.replace('$', "$$"),
        Value::Map(entries) => entries.iter_mut().for_each(|entry| unexpanded(&mut entry.node)),
        Value::List(list) => list.iter_mut().for_each(unexpanded),
        _ => {}
    }
}

/// The maximum of errors shown, and of warnings.
const SHOWN: usize = 200;
const WIDTH: usize = 80;
/// The longest excerpt of a file that is shown with a problem, in bytes.
const LONGEST: usize = 64 << 10;
/// The width of the level before the title.
const TITLE_MARGIN: usize = "warning: ".len();
/// The width of the gutter and `= help: ` before help.
const HELP_MARGIN: usize = 12;

fn group<'a>(problem: &'a Problem, sources: &'a Sources, secrets: &[String]) -> Group<'a> {
    let level = match problem.level {
        Level::Error => annotate_snippets::Level::ERROR,
        Level::Warning => annotate_snippets::Level::WARNING,
    };
    let full = match problem.path.as_str() {
        "" => problem.message.clone(),
        path => format!("{path}: {}", problem.message),
    };
    let fits = width(&full) + TITLE_MARGIN <= WIDTH;
    let title = if fits { safe(&full) } else { wrap(&safe(&problem.message), WIDTH - TITLE_MARGIN) };
    let mut group =
        level.primary_title(title).elements(problem.place.and_then(|place| shown(problem, place, sources, secrets)));
    if !fits && !problem.path.is_empty() {
        let note = format!("in {}", safe(&problem.path));
        group = group.element(annotate_snippets::Level::NOTE.message(note));
    }
    match &problem.help {
        Some(help) if problem.place.is_some() => {
            group.element(annotate_snippets::Level::HELP.message(wrap(&safe(help), WIDTH - HELP_MARGIN)))
        }
        _ => group,
    }
}

/// The line of a problem, and the line it conflicts with. Secrets are shown as stars. If the lines are too long, only
/// the place is shown.
fn shown<'a>(problem: &'a Problem, place: Place, sources: &'a Sources, secrets: &[String]) -> Option<Element<'a>> {
    let source = sources.get(place)?;
    let related = problem.related.as_ref().filter(|(other, _)| other.source == place.source);
    let other = related.map_or(place.line, |(other, _)| other.line);
    let (first, last) = (place.line.min(other).max(1), place.line.max(other));
    let text = source.text.get(line_start(&source.text, first - 1)..).unwrap_or_default();
    let mut text = Cow::Borrowed(text.get(..line_start(text, last - first + 1)).unwrap_or_default());
    if text.len() > LONGEST {
        let origin = Origin::path(safe(&source.name)).line(place.line as usize);
        return Some(origin.char_column(place.column as usize).into());
    }
    for secret in secrets {
        if !text.contains(secret.as_str()) {
            continue;
        }
        // One star per character keeps the columns.
        text = text.replace(secret, &stars(secret)).into();
    }
    let text = respelled(&text, secrets);
    // Control characters are shown as escapes, and the marks move with them.
    let shown = |text: &str| text.replace("\r\n", "\n").split('\n').map(safe).collect::<Vec<_>>().join("\n");
    let shown_to = |byte| shown(text.get(..byte).unwrap_or_default()).len();
    let span = |place| {
        let Range { start, end } = bytes(&text, place, first);
        shown_to(start)..shown_to(end)
    };
    let (primary, context) = (span(place), related.map(|(other, label)| (span(*other), label.as_str())));
    let snippet = Snippet::source(shown(&text)).line_start(first as usize).path(safe(&source.name));
    let snippet = snippet.annotation(AnnotationKind::Primary.span(primary));
    Some(snippet.annotations(context.map(|(span, label)| AnnotationKind::Context.span(span).label(label))).into())
}

fn stars(text: &str) -> String {
    "*".repeat(text.chars().count())
}

/// Lines of YAML with stars for quoted texts that contain an escaped secret: `"s\x41"`, `'it''s'`.
fn respelled(text: &str, secrets: &[String]) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, quoted)) = rest.find(['"', '\'']).and_then(|at| rest.split_at_checked(at + 1)) {
        let escape = if before.ends_with('"') { '\\' } else { '\'' };
        let mut end = quoted.len();
        let mut characters = quoted.char_indices().peekable();
        while let Some((at, character)) = characters.next() {
            let is_escape =
                character == escape && (escape == '\\' || characters.peek().is_some_and(|(_, next)| *next == '\''));
            if is_escape {
                characters.next();
            } else if before.ends_with(character) {
                end = at;
                break;
            }
        }
        let (inner, after) = quoted.split_at_checked(end).unwrap_or((quoted, ""));
        let (close, after) = after.split_at_checked(1).unwrap_or_default();
        let holds = |secret: &String| masked(inner, secret) != inner;
        let is_hidden = inner.contains(escape) && secrets.iter().any(holds);
        out.push_str(before);
        out.push_str(&if is_hidden { stars(inner) } else { inner.to_owned() });
        out.push_str(close);
        rest = after;
    }
    out + rest
}

/// The length of the first `lines` lines in bytes.
fn line_start(text: &str, lines: u32) -> usize {
    text.split_inclusive('\n').take(lines as usize).map(str::len).sum()
}

/// `2 errors and 1 warning in edge.yaml`
fn closing(problems: &[Problem], beyond: [usize; 2], sources: &Sources) -> String {
    let errors = problems.iter().filter(|problem| problem.level == Level::Error).count();
    let [more_errors, more_warnings] = beyond;
    let counts = [(errors, more_errors, "error"), (problems.len() - errors, more_warnings, "warning")];
    let counts = counts.into_iter().filter(|(count, ..)| *count > 0).map(|(count, more, word)| match more {
        0 => counted(count, word),
        more => format!("{}, of which {count} are shown,", counted(count + more, word)),
    });
    let mut names: Vec<&str> = Vec::new();
    for source in problems.iter().filter_map(|problem| sources.get(problem.place?)) {
        if !names.contains(&source.name.as_str()) {
            names.push(&source.name);
        }
    }
    let place = if names.is_empty() { String::new() } else { format!(" in {}", safe(&names.join(", "))) };
    format!("{}{place}\n", counts.collect::<Vec<_>>().join(" and "))
}

/// The bytes to mark in a text that starts with line `first`: at least one character, at most a line's width.
fn bytes(text: &str, place: Place, first: u32) -> Range<usize> {
    let line_start = line_start(text, place.line.saturating_sub(first));
    let line = text.get(line_start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
    let byte = |column: usize| line.char_indices().nth(column).map_or(line.len(), |(at, _)| at);
    let start = place.column.saturating_sub(1) as usize;
    line_start + byte(start)..line_start + byte(start + (place.length as usize).clamp(1, WIDTH))
}
