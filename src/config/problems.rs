//! What is wrong with a configuration: collected while it is read and decoded, shown all at once, each with its line.
//! The same collector gathers what decoding finds out besides: the keys without effect and the effective values.

use super::inside::Inside;
use super::secrecy::{REDACTED, Secrecy, masked};
use super::source::Sources;
use super::tree::{Entry, Node, Place, Value};
use crate::diagnostics::columns::{counted, hanging, width, wrap};
use crate::diagnostics::escape::safe;
use annotate_snippets::{AnnotationKind, Element, Group, Origin, Renderer, Snippet};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::ops::{Bound, Range};
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Error,
    Warning,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    pub level: Level,
    pub place: Option<Place>,
    /// Where in the tree, as in `processors.batch.timeout`; empty when the place says it all.
    pub path: String,
    pub message: String,
    pub help: Option<String>,
    /// What it clashes with.
    pub related: Option<(Place, String)>,
    /// The part of the scalar at `place` that it is about.
    pub inside: Option<Inside>,
    /// Whether it says what a file is named.
    pub names_a_file: bool,
    /// Keys that stand in a wrong place, or whose value could not be read; and the paths of keys that are misspelt.
    strays: Vec<String>,
    /// Keys that are missing. Where one of them is a stray of another error, this one only follows from that.
    wants: Vec<String>,
}

impl Problem {
    pub fn error(place: impl Into<Option<Place>>, message: impl Into<String>) -> Self {
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

    pub fn warning(place: impl Into<Option<Place>>, message: impl Into<String>) -> Self {
        Self { level: Level::Warning, ..Self::error(place, message) }
    }

    pub fn at(self, path: impl Into<String>) -> Self {
        Self { path: path.into(), ..self }
    }

    pub fn help(self, help: impl Into<Option<String>>) -> Self {
        Self { help: help.into(), ..self }
    }

    pub fn inside(self, text: &str, span: Range<usize>) -> Self {
        Self { inside: Some(Inside { text: text.to_owned(), span }), ..self }
    }

    /// It is about a key in a wrong place, which took along what stands below it.
    pub fn straying(mut self, entry: &Entry) -> Self {
        fn add(strays: &mut Vec<String>, entry: &Entry) {
            let key = entry.key.trim();
            strays.push(key.to_owned());
            strays.extend(key.split_once('/').map(|(type_name, _)| type_name.to_owned()));
            // The lists of a pipeline have the names of whole sections.
            let below = entry.node.entries().iter().filter(|entry| !matches!(entry.node.value, Value::List(_)));
            below.for_each(|entry| add(strays, entry));
        }
        add(&mut self.strays, entry);
        self
    }

    /// It is about the value of a key, which could not be read.
    pub fn unread(mut self, key: &str) -> Self {
        self.strays.push(key.trim().to_owned());
        self
    }

    /// It is about a key that was meant to be the one at this path.
    pub fn misspelling(mut self, path: String) -> Self {
        self.strays.push(path);
        self
    }

    /// It is about the missing of these keys.
    pub fn wanting<T: Into<String>>(self, keys: impl IntoIterator<Item = T>) -> Self {
        Self { wants: keys.into_iter().map(Into::into).collect(), ..self }
    }

    pub fn related(self, place: Place, label: &str) -> Self {
        Self { related: Some((place, label.to_owned())), ..self }
    }

    /// An absolute path where a file is named is no secret.
    fn conceal(&mut self, secret: &str) {
        if self.names_a_file && secret.starts_with('/') {
            return;
        }
        (self.path, self.message) = (masked(&self.path, secret), masked(&self.message, secret));
        self.help = self.help.as_ref().map(|help| masked(help, secret));
        // A text that holds it is not searched for what the problem is about.
        self.inside = self.inside.take().filter(|inside| masked(&inside.text, secret) == inside.text);
    }
}

/// Looks at something on this machine: what is wrong with it, and what to do.
pub type Look = Box<dyn Fn() -> Result<(), (String, Option<String>)> + Send>;

/// What a key names on this machine, which matters only on the machine that runs the config.
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

/// The collector, passed around as `&Problems`.
#[derive(Debug, Default)]
pub struct Problems(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    list: Vec<Problem>,
    /// So many errors and warnings came after the list was full of them.
    beyond: [usize; 2],
    ignored: HashMap<String, Place>,
    /// Errors are taken as warnings: nothing uses what is being read.
    is_lenient: bool,
    /// Values and keys of which a reference could not be read, which has been said.
    unresolved: HashSet<Place>,
    outside: Vec<Outside>,
    /// What was read or defaulted, by the keys that lead there, and whether it is secret.
    effective: BTreeMap<Vec<String>, (Value, Secrecy)>,
    /// Texts that no message about their place may repeat.
    withheld: HashMap<Place, Vec<String>>,
}

impl Problems {
    /// Takes a problem, once: the same one at the same place is kept out.
    pub fn push(&self, mut problem: Problem) {
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

    /// Runs `read`, and takes the errors that it finds as warnings where nothing uses what it reads.
    pub fn leniently<T>(&self, is_lenient: bool, read: impl FnOnce() -> T) -> T {
        self.state().is_lenient = is_lenient;
        let result = read();
        self.state().is_lenient = false;
        result
    }

    /// Notes that a reference in the value of `key` could not be read: what else is wrong with the value follows from that.
    pub(super) fn unresolved(&self, key: Place, value: Place) {
        self.state().unresolved.extend([key, value]);
    }

    pub(super) fn is_unresolved(&self, place: Place) -> bool {
        self.state().unresolved.contains(&place)
    }

    /// Whether further ones are counted and not shown, so that looking for what helps is not worth it.
    pub fn are_enough(&self) -> bool {
        let state = self.state();
        let [errors, warnings] = state.beyond;
        if state.is_lenient { warnings > 0 } else { errors > 0 }
    }

    /// Whether something is wrong with a key's value already: what is said about it next follows from that.
    pub(super) fn has_error_of(&self, place: Place, path: &str) -> bool {
        let is_it =
            |problem: &Problem| problem.place == Some(place) && problem.path == path && problem.inside.is_none();
        self.state().list.iter().any(|problem| problem.level == Level::Error && is_it(problem))
    }

    pub fn has_errors(&self) -> bool {
        self.state().list.iter().any(|problem| problem.level == Level::Error)
    }

    /// Keeps what stands at a place out of the messages about it: a secret, or what a reference there stands for, which
    /// is a secret perhaps that got to the wrong place.
    pub(super) fn withhold(&self, place: Place, text: &str) {
        self.state().withheld.entry(place).or_default().push(text.to_owned());
    }

    /// All of them but for those that only follow from another one: errors before warnings, each by place.
    pub fn sorted(&self) -> Vec<Problem> {
        let state = self.state();
        let errors = || state.list.iter().filter(|problem| problem.level == Level::Error);
        let strays: HashSet<&str> = errors().flat_map(|problem| &problem.strays).map(String::as_str).collect();
        // A key in a wrong place is known by its name, one that is misspelt by its path.
        let is_stray =
            |path: &str, key: &str| [key, path, &format!("{path}.{key}")].iter().any(|stray| strays.contains(stray));
        let is_root = |problem: &&Problem| !problem.wants.iter().any(|key| is_stray(&problem.path, key));
        let mut list: Vec<Problem> = state.list.iter().filter(is_root).cloned().collect();
        for problem in &mut list {
            for text in problem.place.and_then(|place| state.withheld.get(&place)).into_iter().flatten() {
                problem.conceal(text);
            }
        }
        list.sort_by_key(|problem| (problem.level, problem.place));
        list
    }

    /// The same, those about a part of a scalar pointing at that; where it can't be found, the text is shown instead.
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

    /// Looks at what the keys name on this machine, those of components that `is_used` is true for.
    pub fn look(&self, is_used: impl Fn(&str) -> bool) {
        let outside = std::mem::take(&mut self.state().outside);
        for Outside { place, path, look } in &outside {
            if let (true, Err((message, help))) = (is_used(path), look()) {
                let problem = Problem::error(*place, message).at(path.as_str()).help(help);
                self.push(Problem { names_a_file: true, ..problem });
            }
        }
    }

    /// Notes that the key at `path` is known, and means nothing here.
    pub fn ignore(&self, place: Place, path: String) {
        self.state().ignored.entry(path).or_insert(place);
    }

    /// The paths of the keys without effect, in the order of the file: for one line at start-up.
    pub fn ignored(&self) -> Vec<String> {
        let mut ignored: Vec<_> = self.state().ignored.iter().map(|(path, place)| (*place, path.clone())).collect();
        ignored.sort();
        ignored.into_iter().map(|(_, path)| path).collect()
    }

    /// Records the effective value at the end of `trail`, for `print-config`. It replaces an earlier answer and what was
    /// below that, unless it opens a map.
    pub(super) fn record(&self, trail: &[String], value: Value, secrecy: Secrecy) {
        let effective = &mut self.state().effective;
        if value != Value::Map(Vec::new()) {
            remove_below(effective, trail);
        }
        effective.insert(trail.to_vec(), (value, secrecy));
    }

    /// Takes back what was recorded at the end of `trail` and below it.
    pub(super) fn forget(&self, trail: &[String]) {
        remove_below(&mut self.state().effective, trail);
    }

    /// The decoded configuration with its defaults, keys sorted, as it would be written.
    pub fn effective(&self, redacted: bool) -> Node {
        let mut root = Node::new(Value::Map(Vec::new()), Place::NOWHERE);
        for (trail, (value, secrecy)) in &self.state().effective {
            graft(&mut root, trail, if redacted { secrecy.redacted(value) } else { value.clone() });
        }
        unexpanded(&mut root);
        root
    }

    /// A `--set` as it may be shown: its value when `print-config` shows that of its key.
    pub fn redacted(&self, set: &str) -> String {
        let (key, _) = set.split_once('=').unwrap_or((set, ""));
        let name = format!("{}.", key.trim().replace("::", "."));
        let state = self.state();
        let mut below = state.effective.iter().filter(|(trail, _)| format!("{}.", trail.join(".")).starts_with(&name));
        // What is not known, as under another name of a component, may be a secret.
        let is_plain =
            below.clone().next().is_some() && below.all(|(_, (value, secrecy))| secrecy.redacted(value) == *value);
        if is_plain { set.to_owned() } else { format!("{key}={REDACTED}") }
    }

    /// The lines of all secrets that were read, but for those too short to be one.
    fn secrets(&self) -> Vec<String> {
        let mut secrets = Vec::new();
        for (value, secrecy) in self.state().effective.values() {
            let lines = secrecy.secrets(value).into_iter().flat_map(str::lines);
            secrets.extend(lines.filter(|line| line.len() > 3).map(str::to_owned));
        }
        // One may be a part of another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The report for a terminal of 80 columns: each problem with its line and what to do, and a count at the end.
    pub fn render(&self, sources: &Sources, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() }.term_width(WIDTH);
        let (problems, secrets, mut report) = (self.located(sources), self.secrets(), String::new());
        for problem in &problems {
            report.push_str(&renderer.render(&[group(problem, sources, &secrets)]));
            if let (None, Some(help)) = (problem.place, &problem.help) {
                // Without a snippet there is no gutter that the help could stand beside.
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

/// What begins with `trail` stands together.
fn remove_below<V>(effective: &mut BTreeMap<Vec<String>, V>, trail: &[String]) {
    let from = (Bound::Included(trail), Bound::Unbounded);
    let below =
        effective.range::<[String], _>(from).map(|(known, _)| known).take_while(|known| known.starts_with(trail));
    for known in below.cloned().collect::<Vec<_>>() {
        effective.remove(&known);
    }
}

/// Puts `value` where `trail` leads below `node`: trails come in their order, so what is open stands last.
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

/// Doubles what would be expanded when it is read again. A tree that was read has a bounded depth.
fn unexpanded(node: &mut Node) {
    match &mut node.value {
        Value::Text(text) if text.contains("${") || text.contains("$$") => *text = text.replace('$', "$$"),
        Value::Map(entries) => entries.iter_mut().for_each(|entry| unexpanded(&mut entry.node)),
        Value::List(list) => list.iter_mut().for_each(unexpanded),
        _ => {}
    }
}

/// So many errors are enough to begin with, and so many warnings.
const SHOWN: usize = 200;
const WIDTH: usize = 80;
/// The longest text of a file that is shown with a problem.
const LONGEST: usize = 64 << 10;
/// What stands left of the title: its level.
const TITLE_MARGIN: usize = "warning: ".len();
/// What stands left of a help line: the gutter and `= help: `.
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

/// The line of a problem, and that of what it clashes with; secrets are shown as stars. Of lines that are too long only the
/// place is shown.
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
        // As many, so that columns stay what they are.
        text = text.replace(secret, &stars(secret)).into();
    }
    let text = respelled(&text, secrets);
    // Whoever reads it sees what is there: escapes, and where the mark stands among them.
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

/// Lines of YAML with stars for quoted texts that hold a secret in another spelling than its value: `"s\x41"`, `'it''s'`.
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

/// The byte that follows the first `lines` lines.
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

/// The bytes that a caret line points at, in a text that starts with line `first`: one character at least, and no more than
/// leave room for what stands around them.
fn bytes(text: &str, place: Place, first: u32) -> Range<usize> {
    let line_start = line_start(text, place.line.saturating_sub(first));
    let line = text.get(line_start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
    let byte = |column: usize| line.char_indices().nth(column).map_or(line.len(), |(at, _)| at);
    let start = place.column.saturating_sub(1) as usize;
    line_start + byte(start)..line_start + byte(start + (place.length as usize).clamp(1, WIDTH))
}
