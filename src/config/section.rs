//! The decoder of a component's settings. Every method returns a usable value: after an error, which is reported with
//! its place, that is the default. A key that no method has read when the section is dropped is reported as unknown.
//! Every method records the effective value of its key, so that `print-config` needs no code in the components.

mod values;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::nearest::{nearest, suggestion};
use super::problems::{Problem, Problems};
use super::secrecy::Secrecy;
pub use super::secrecy::Secret;
use super::tree::{Entry, Node, Place, Value, quoted};
use super::{duration, emit};
use values::{Fault, expected, expected_secret, says_nothing};

/// A map and the state of its decoding.
#[derive(Debug)]
pub struct Section<'a> {
    entries: &'a [Entry],
    by_key: HashMap<&'a str, &'a Entry>,
    /// The place of the key that opens it, for problems about missing keys.
    place: Place,
    path: String,
    /// The keys that lead here in the effective configuration. An index of a list counts as a key.
    trail: Vec<String>,
    problems: &'a Problems,
    is_map: bool,
    asked: RefCell<Asked>,
    /// Whether an unknown key with this value is a warning only.
    passes_unknown: Cell<fn(&Node) -> bool>,
}

/// The keys that were read, in order.
#[derive(Debug, Default)]
struct Asked {
    keys: Vec<String>,
    known: HashSet<String>,
}

impl Asked {
    fn add(&mut self, key: &str) {
        if self.known.insert(key.to_owned()) {
            self.keys.push(key.to_owned());
        }
    }
}

impl<'a> Section<'a> {
    /// The section of `node`; null is an empty one. `path` is `group.name`, as in `processors.batch`.
    pub fn of(node: &'a Node, path: &str, problems: &'a Problems) -> Self {
        Self::opened_at(node.place, node, path, problems)
    }

    /// The same, with the place of the key that opens it.
    pub(super) fn opened_at(place: Place, node: &'a Node, path: &str, problems: &'a Problems) -> Self {
        let trail = path.splitn(2, '.').filter(|key| !key.is_empty()).map(str::to_owned).collect();
        Self::new(place, node, path.to_owned(), trail, problems)
    }

    fn new(place: Place, node: &'a Node, path: String, trail: Vec<String>, problems: &'a Problems) -> Self {
        let is_map = matches!(node.value, Value::Map(_) | Value::Null);
        if !is_map {
            let (message, help) = expected("a map", node);
            problems.push(Problem::error(node.place, message).at(path.as_str()).help(help));
        }
        problems.record(&trail, Value::Map(Vec::new()), Secrecy::Open);
        let entries = node.entries();
        let by_key = entries.iter().map(|entry| (entry.key.as_str(), entry)).collect();
        Self {
            entries,
            by_key,
            place,
            path,
            trail,
            problems,
            is_map,
            asked: RefCell::default(),
            passes_unknown: Cell::new(|_| false),
        }
    }

    /// False if the value is not a map, which has been reported.
    pub(super) fn is_map(&self) -> bool {
        self.is_map
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn problems(&self) -> &'a Problems {
        self.problems
    }

    /// The place to show for `key`: its scalar value, else the key. Without the key, the section.
    pub(crate) fn place(&self, key: &str) -> Place {
        self.by_key.get(key).map_or(self.place, |entry| entry.place())
    }

    /// Whether the value is text. Some lists may be written as text.
    pub(super) fn is_text(&self, key: &str) -> bool {
        self.entry(key).is_some_and(|entry| matches!(entry.node.value, Value::Text(_)))
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.entry(key).is_some()
    }

    /// Whether the key is there without a value.
    pub(crate) fn is_null(&self, key: &str) -> bool {
        self.entry(key).is_some_and(|entry| entry.node.is_null())
    }

    /// The value of `key`, undecoded.
    pub fn node(&self, key: &str) -> Option<&'a Node> {
        let entry = self.entry(key)?;
        self.note(key, entry.node.value.clone());
        Some(&entry.node)
    }

    /// All entries, for a map with keys of the user's choice. The caller records their values.
    pub fn entries(&self) -> &'a [Entry] {
        let mut asked = self.asked.borrow_mut();
        self.entries.iter().for_each(|entry| asked.add(&entry.key));
        self.entries
    }

    /// The keys as written, known or not.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &'a str> {
        self.entries.iter().map(|entry| entry.key.as_str())
    }

    pub fn text(&self, key: &str) -> Option<String> {
        let text = self.scalar(key, values::text)?;
        self.note(key, Value::Text(text.clone()));
        Some(text)
    }

    pub fn text_or(&self, key: &str, default: &str) -> String {
        let text = self.text(key).unwrap_or_else(|| default.to_owned());
        self.note(key, Value::Text(text.clone()));
        text
    }

    pub fn secret(&self, key: &str) -> Option<Secret> {
        let read = |node: &Node| node.as_text().map(Secret::new).ok_or_else(|| expected_secret(node));
        let secret = self.scalar(key, read)?;
        self.keep(key, secret.expose(), Secrecy::Secret);
        Some(secret)
    }

    /// A URL. Its user, password and query are secret.
    pub(crate) fn url(&self, key: &str) -> Option<String> {
        let url = self.scalar(key, values::text)?;
        self.keep(key, &url, Secrecy::Url);
        Some(url)
    }

    /// Records a text that contains secrets, and keeps them out of every message about it.
    fn keep(&self, key: &str, text: &str, secrecy: Secrecy) {
        let value = Value::Text(text.to_owned());
        secrecy.secrets(&value).iter().for_each(|secret| self.problems.withhold(self.place(key), secret));
        self.problems.record(&self.trail_of(key), value, secrecy);
    }

    /// A list of secrets, or a single one.
    pub(crate) fn secrets(&self, key: &str) -> Vec<Secret> {
        let list = match self.entry(key).map(|entry| &entry.node) {
            Some(Node { value: Value::List(list), .. }) => list.as_slice(),
            Some(node) if !node.is_null() => std::slice::from_ref(node),
            _ => &[],
        };
        let secret = |node: &Node| match node.as_text() {
            Some(text) => Some(Secret::new(text)),
            None => self.refuse(Place::NOWHERE, key, expected_secret(node)),
        };
        let secrets: Vec<Secret> = list.iter().filter_map(secret).collect();
        self.note(key, Value::List(Vec::new()));
        for (index, secret) in secrets.iter().enumerate() {
            self.problems.record(
                &self.trail_of_item(key, index),
                Value::Text(secret.expose().to_owned()),
                Secrecy::Secret,
            );
        }
        secrets
    }

    pub fn boolean(&self, key: &str, default: bool) -> bool {
        self.scalar_or(key, default, Value::Bool, values::boolean)
    }

    /// A whole number. A fraction is cut off, as in the Go collector, but with a warning.
    pub fn integer(&self, key: &str, default: i64, range: RangeInclusive<i64>) -> i64 {
        if let Some(Value::Float(value)) = self.entry(key).map(|entry| &entry.node.value)
            && value.fract() != 0.0
        {
            self.warning(key, format!("{value} is no whole number: {} is used", value.trunc()));
        }
        self.scalar_or(key, default, Value::Int, |node| values::integer(node, &range))
    }

    /// The same for a size or count with a limit of our own. A larger value becomes the limit, with a warning.
    pub(crate) fn limited(&self, key: &str, default: i64, range: RangeInclusive<i64>) -> i64 {
        let most = *range.end();
        let is_beyond = |value: &Value| match value {
            Value::Int(value) => *value > most,
            Value::Float(value) => value.fract() == 0.0 && *value > most as f64,
            _ => false,
        };
        let Some(beyond) = self.entry(key).map(|entry| &entry.node.value).filter(|value| is_beyond(value)) else {
            return self.integer(key, default, range);
        };
        self.warning(key, format!("{} is too large: {most}, the most, is used", emit::scalar(beyond)));
        self.note(key, Value::Int(most));
        most
    }

    /// The same, where 0 and less mean the default.
    pub(crate) fn integer_or_default(&self, key: &str, default: i64, most: i64) -> i64 {
        let least = if most == i64::MAX { i64::MIN } else { 0 };
        let value = Some(self.limited(key, default, least..=most)).filter(|value| *value > 0).unwrap_or(default);
        self.note(key, Value::Int(value));
        value
    }

    /// A number without its fraction, for a key that also takes other types. `None` if it has one of those.
    pub(super) fn whole(&self, key: &str) -> Option<i64> {
        let value = match self.entry(key)?.node.value {
            Value::Int(value) => value,
            Value::Float(value) => value as i64,
            _ => return None,
        };
        self.note(key, Value::Int(value));
        Some(value)
    }

    pub fn float(&self, key: &str, default: f64, range: RangeInclusive<f64>) -> f64 {
        self.scalar_or(key, default, Value::Float, |node| values::float(node, &range))
    }

    pub fn duration(&self, key: &str, default: Duration) -> Duration {
        self.scalar_or(key, default, |value| Value::Text(duration::format(value)), values::duration)
    }

    pub(crate) fn duration_opt(&self, key: &str) -> Option<Duration> {
        let value = self.scalar(key, values::duration)?;
        self.note(key, Value::Text(duration::format(value)));
        Some(value)
    }

    /// One of `choices`. In different case, which the Go collector refuses, it is accepted with a warning.
    pub fn choice<T: Copy + PartialEq>(&self, key: &str, default: T, choices: &[(&str, T)]) -> T {
        let written = self.entry(key).and_then(|entry| entry.node.as_text()).unwrap_or_default();
        let meant = choices.iter().find(|(name, _)| name.eq_ignore_ascii_case(written));
        if let Some((name, _)) = meant.filter(|(name, _)| *name != written) {
            self.warning(key, format!("the Go collector refuses {}: write {name}", quoted(written)));
        }
        self.choice_in_any_case(key, default, choices)
    }

    /// One of `choices`, in upper or lower case.
    pub fn choice_in_any_case<T: Copy + PartialEq>(&self, key: &str, default: T, choices: &[(&str, T)]) -> T {
        let read = |node: &Node| {
            let text = values::text(node)?;
            let known = choices.iter().find(|(name, _)| name.eq_ignore_ascii_case(&text));
            known.map(|(_, value)| *value).ok_or_else(|| {
                let help = suggestion(&text, choices.iter().map(|(name, _)| *name), "it is one of");
                (format!("unknown value {}", quoted(&text)), help)
            })
        };
        let value = self.scalar(key, read).unwrap_or(default);
        // A default outside of `choices` has no name.
        if let Some((name, _)) = choices.iter().find(|(_, choice)| *choice == value) {
            self.note(key, Value::Text((*name).to_owned()));
        }
        value
    }

    /// The same, where `{}` also means the default: the Go collector's `print-config` writes some values like that.
    pub(crate) fn choice_or_empty<T: Copy + PartialEq>(&self, key: &str, default: T, choices: &[(&str, T)]) -> T {
        if !self.has(key) || self.says(key) {
            return self.choice(key, default, choices);
        }
        let name = choices.iter().find(|(_, choice)| *choice == default).map_or("", |(name, _)| *name);
        self.note(key, Value::Text(name.to_owned()));
        default
    }

    /// Whether the key has a value that is not empty.
    pub(crate) fn says(&self, key: &str) -> bool {
        self.entry(key).is_some_and(|entry| !entry.node.is_empty())
    }

    /// A list of texts, or one text split at its commas.
    pub fn texts(&self, key: &str) -> Option<Vec<String>> {
        Some(self.items(key)?.into_iter().map(|(text, _)| text).collect())
    }

    /// The same, each text with its place.
    pub(crate) fn items(&self, key: &str) -> Option<Vec<(String, Place)>> {
        let node = &self.entry(key)?.node;
        let text = |item: &Node| match item.as_text() {
            Some(text) => Some((text.to_owned(), item.place)),
            None => self.refuse(item.place, key, expected("text", item)),
        };
        let items: Vec<(String, Place)> = match (&node.value, node.as_text()) {
            (Value::List(list), _) => list.iter().filter_map(text).collect(),
            (Value::Map(_), _) => return self.refuse(self.place(key), key, expected("a list", node)),
            (_, Some("")) => Vec::new(),
            (_, Some(text)) => text.split(',').map(|item| (item.to_owned(), node.place)).collect(),
            (Value::Null, None) => return None,
            _ => return self.refuse(self.place(key), key, expected("a list", node)),
        };
        let list = items.iter().map(|(text, place)| Node::new(Value::Text(text.clone()), *place));
        self.note(key, Value::List(list.collect()));
        Some(items)
    }

    /// Headers, as a map or as a list of `{name, value}`: name, value, and the place of the name. The values are
    /// secrets.
    pub fn headers(&self, key: &str) -> Vec<(String, Secret, Place)> {
        let is_list = self.entry(key).is_some_and(|entry| matches!(entry.node.value, Value::List(_)));
        let headers: Vec<(String, Secret, Place)> = if is_list {
            let header = |item: Section| {
                let (name, value) = (item.text("name"), item.secret("value"));
                let (name, value) = (name.or_else(|| item.missing("name"))?, value.or_else(|| item.missing("value"))?);
                Some((name, value, item.place("name")))
            };
            self.sections(key).into_iter().flatten().filter_map(header).collect()
        } else {
            let map = self.subsection(key);
            let header = |entry: &Entry| Some((entry.key.clone(), map.secret(&entry.key)?, entry.key_place));
            map.entries().iter().filter_map(header).collect()
        };
        self.note(key, Value::List(Vec::new()));
        let mut known = HashSet::new();
        for (index, (name, value, place)) in headers.iter().enumerate() {
            if !known.insert(name) {
                self.problem_at(*place, key, format!("the header {} is given twice", quoted(name)), None);
            }
            let item = self.trail_of_item(key, index);
            let part = |key: &str| [item.clone(), vec![key.to_owned()]].concat();
            self.problems.record(&part("name"), Value::Text(name.clone()), Secrecy::Open);
            self.problems.record(&part("value"), Value::Text(value.expose().to_owned()), Secrecy::Secret);
        }
        headers
    }

    /// A section that is off by default. Any value turns it on, even `{}`; `enabled: false` turns it off again.
    pub fn section(&self, key: &str) -> Option<Section<'a>> {
        let section = self.optional(key, self.entry(key).is_some_and(|entry| !entry.node.is_null()));
        if section.is_none() {
            self.note(key, Value::Null);
        }
        section
    }

    /// A section with its own default: without the key it is `on_by_default`; `key:` without a value turns it on.
    pub fn section_or_default(&self, key: &str, on_by_default: bool) -> Option<Section<'a>> {
        let section = self.optional(key, self.has(key) || on_by_default);
        if section.is_none() {
            // When the printed config is read again, null would turn it on. So would a missing key if it is on by
            // default.
            self.problems.forget(&self.trail_of(key));
            if on_by_default {
                let switch = [self.trail_of(key), vec!["enabled".to_owned()]].concat();
                self.problems.record(&switch, Value::Bool(false), Secrecy::Open);
            }
        }
        section
    }

    fn optional(&self, key: &str, on: bool) -> Option<Section<'a>> {
        let section = on.then(|| self.subsection(key));
        section.filter(|section| {
            let enabled = !section.has("enabled") || section.boolean("enabled", true);
            if !enabled {
                section.entries();
            }
            enabled
        })
    }

    /// A section that is always on.
    pub fn subsection(&self, key: &str) -> Section<'a> {
        static NOTHING: Node = Node { value: Value::Null, place: Place::NOWHERE, text: None };
        let (place, node) = match self.entry(key) {
            Some(entry) => (entry.key_place, &entry.node),
            None => (self.place, &NOTHING),
        };
        Self::new(place, node, self.path_of(key), self.trail_of(key), self.problems)
    }

    /// Whether a section is missing, or has no keys.
    pub(crate) fn is_empty(&self, key: &str) -> bool {
        self.entry(key).is_none_or(|entry| match &entry.node.value {
            Value::Map(entries) => entries.is_empty(),
            value => matches!(value, Value::Null),
        })
    }

    /// A list of sections.
    pub fn sections(&self, key: &str) -> Option<Vec<Section<'a>>> {
        let node = self.node(key)?;
        let list = match &node.value {
            Value::List(list) => list,
            Value::Null => return None,
            _ => return self.refuse(self.place(key), key, expected("a list", node)),
        };
        self.note(key, Value::List(Vec::new()));
        let sections = list.iter().enumerate().map(|(index, node)| {
            let trail = self.trail_of_item(key, index);
            Self::new(node.place, node, format!("{}[{index}]", self.path_of(key)), trail, self.problems)
        });
        Some(sections.collect())
    }

    /// Accepts keys that have no effect here.
    pub fn ignored(&self, keys: &[&str]) {
        for key in keys {
            if let Some(entry) = self.entry(key) {
                self.problems.ignore(entry.key_place, self.path_of(key));
            }
        }
    }

    /// Accepts a section that has no effect here, with these keys. The start-up notice names the section as a whole.
    pub(crate) fn without_effect(&self, keys: &[&str]) {
        let mut asked = self.asked.borrow_mut();
        keys.iter().for_each(|key| asked.add(key));
        self.problems.ignore(self.place, self.path.clone());
    }

    /// Accepts keys of the Go collector if their values set nothing, as in the output of its `print-config`.
    pub(crate) fn unset(&self, keys: &[&str]) {
        let known = self.entries.iter().filter(|entry| keys.contains(&entry.key.as_str()) && says_nothing(&entry.node));
        let mut asked = self.asked.borrow_mut();
        known.for_each(|entry| asked.add(&entry.key));
    }

    /// Makes unknown keys of this section warnings: the Go collector ignores them.
    pub(crate) fn pass_unknown(&self) {
        self.passes_unknown.set(|_| true);
    }

    /// The same for unknown keys whose value is a section or missing.
    pub(crate) fn pass_unknown_sections(&self) {
        self.passes_unknown.set(|node| matches!(node.value, Value::Map(_) | Value::Null));
    }

    /// Treats unknown keys like the section around it.
    pub(crate) fn pass_unknown_as(&self, around: &Section) {
        self.passes_unknown.set(around.passes_unknown.get());
    }

    /// Ignores keys of the Go collector for a feature that is not supported here, with a warning.
    pub(crate) fn unread(&self, keys: &[&str], of: &str) {
        for key in keys.iter().filter(|key| self.says(key)) {
            self.warning(key, format!("{of} are not supported: what stands here is not read"));
        }
        self.ignored(keys);
    }

    /// Reports a warning about a key that is accepted all the same.
    pub(crate) fn warning(&self, key: &str, message: impl Into<String>) {
        self.push(key, Problem::warning(self.place(key), message));
    }

    pub(crate) fn problem(&self, key: &str, message: impl Into<String>) {
        self.problem_at(self.place(key), key, message, None);
    }

    pub(crate) fn problem_with_help(&self, key: &str, message: impl Into<String>, help: impl Into<String>) {
        self.problem_at(self.place(key), key, message, Some(help.into()));
    }

    /// The same about a secret, without the line that may show it.
    pub(crate) fn secret_problem(&self, key: &str, message: impl Into<String>) {
        self.problem_at(Place::NOWHERE, key, message, None);
    }

    /// The same at a place inside the value.
    pub(crate) fn problem_at(&self, place: Place, key: &str, message: impl Into<String>, help: Option<String>) {
        let path = self.path_of(key);
        if !self.problems.has_error_of(place, &path) && !self.problems.is_unresolved(place) {
            let wanted = if self.has_value(key) { Vec::new() } else { vec![key.to_owned()] };
            self.problems.push(Problem::error(place, message).at(path).help(help).wanting(wanted));
        }
    }

    /// Registers a check of what `key` names on this machine. It runs only on the machine that runs the config.
    pub(crate) fn look_later(&self, key: &str, look: impl Fn() -> Result<(), Fault> + Send + 'static) {
        self.problems.look_later(self.place(key), self.path_of(key), Box::new(look));
    }

    /// Reports a prepared problem about a key of this section, such as one inside a text.
    pub(crate) fn push(&self, key: &str, problem: Problem) {
        self.problems.push(problem.at(self.path_of(key)));
    }

    /// Reports that `key` is missing, unless it has a value, which was refused then. For use in `or_else`.
    pub(crate) fn missing<T>(&self, key: &str) -> Option<T> {
        if self.entry(key).is_none_or(|entry| entry.node.is_null()) {
            self.problem(key, "it is required, and missing");
        }
        None
    }

    /// Reports unknown keys. Dropping a section does the same.
    pub fn finish(self) {}

    fn refuse<T>(&self, place: Place, key: &str, (message, help): Fault) -> Option<T> {
        self.problem_at(place, key, message, help);
        None
    }

    fn path_of(&self, key: &str) -> String {
        match (self.path.as_str(), key) {
            ("", key) => key.to_owned(),
            (path, "") => path.to_owned(),
            (path, key) => format!("{path}.{key}"),
        }
    }

    fn trail_of(&self, key: &str) -> Vec<String> {
        self.trail.iter().cloned().chain([key.to_owned()]).collect()
    }

    /// The key of an item is its index, with zeros in front: keys sort as the items stand.
    fn trail_of_item(&self, key: &str, index: usize) -> Vec<String> {
        [self.trail_of(key), vec![format!("{index:05}")]].concat()
    }

    pub(super) fn note(&self, key: &str, value: Value) {
        self.problems.record(&self.trail_of(key), value, Secrecy::Open);
    }

    fn has_value(&self, key: &str) -> bool {
        key.is_empty() || self.by_key.get(key).is_some_and(|entry| !entry.node.is_null())
    }

    fn entry(&self, key: &str) -> Option<&'a Entry> {
        self.asked.borrow_mut().add(key);
        self.by_key.get(key).copied()
    }

    fn scalar_or<T: Copy>(
        &self,
        key: &str,
        default: T,
        shown: impl Fn(T) -> Value,
        read: impl FnOnce(&Node) -> Result<T, Fault>,
    ) -> T {
        let value = self.scalar(key, read).unwrap_or(default);
        self.note(key, shown(value));
        value
    }

    /// The value of a scalar; `None` if it is absent, null or refused.
    fn scalar<T>(&self, key: &str, read: impl FnOnce(&Node) -> Result<T, Fault>) -> Option<T> {
        let node = &self.entry(key)?.node;
        match read(node) {
            Ok(value) => Some(value),
            // An empty variable is null as well, but `read` accepts it as text.
            Err(_) if node.is_null() => None,
            Err(fault) => self.refuse(self.place(key), key, fault),
        }
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        let asked = self.asked.borrow();
        for entry in self.entries.iter().filter(|entry| !asked.known.contains(&entry.key)) {
            let message = format!("unknown key {}", quoted(&entry.key));
            let kind = if self.passes_unknown.get()(&entry.node) { Problem::warning } else { Problem::error };
            let mut problem = kind(entry.key_place, message).at(self.path.as_str()).straying(entry);
            if !self.problems.are_enough() {
                let known = || asked.keys.iter().map(String::as_str);
                let help = suggestion(&entry.key, known(), "the keys here are");
                problem = problem.help(help.unwrap_or_else(|| "there is nothing to set here".into()));
                if let Some(meant) = nearest(&entry.key, known()) {
                    problem = problem.obscuring(&self.path_of(meant));
                }
            }
            self.problems.push(problem);
        }
    }
}
