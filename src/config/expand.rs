//! Expands `${…}`: references to the environment, to files and to inline YAML. They occur in values only, and are
//! expanded after all sources are merged. The innermost reference comes first, its text is expanded again, and `$$`
//! becomes `$` at the end.

use super::problems::{ON_THIS_MACHINE, Problem, Problems};
use super::source::{Outside, Sources, is_scheme, retrieve};
use super::tree::{Node, Place, Value, quoted};
use super::yaml::{self, MAX_DEPTH};

/// The bytes that all references of a config may read together. Each reference costs `COST` in addition to its text.
const MAX_RETRIEVED: usize = 4 << 20;
const COST: usize = 1 << 10;

pub(super) struct Expansion<'a> {
    outside: Outside<'a>,
    sources: &'a Sources,
    problems: &'a Problems,
    left: usize,
    /// The place of the key whose value is expanded.
    key: Place,
    /// Its name.
    name: String,
}

/// The value of a reference, and the text that it was parsed from.
type Retrieved = (Value, Option<String>);

impl<'a> Expansion<'a> {
    pub(super) fn new(outside: Outside<'a>, sources: &'a Sources, problems: &'a Problems) -> Self {
        Self { outside, sources, problems, left: MAX_RETRIEVED, key: Place::NOWHERE, name: String::new() }
    }

    pub(super) fn expand(&mut self, root: &mut Node) {
        self.node(root, None, 0);
    }

    /// Expands `node` in place. `within` is the place of the reference that it came from.
    fn node(&mut self, node: &mut Node, within: Option<Place>, depth: usize) {
        node.place = within.unwrap_or(node.place);
        if depth > 2 * MAX_DEPTH {
            self.error(&|| node.place, "too many recursive expansions".into(), None);
            node.value = Value::Null;
            return;
        }
        match &mut node.value {
            Value::List(list) => list.iter_mut().for_each(|item| self.node(item, within, depth + 1)),
            Value::Map(entries) => {
                for entry in entries {
                    entry.key_place = within.unwrap_or(entry.key_place);
                    let place = std::mem::replace(&mut self.key, entry.key_place);
                    let name = std::mem::replace(&mut self.name, entry.key.clone());
                    self.node(&mut entry.node, within, depth + 1);
                    (self.key, self.name) = (place, name);
                }
            }
            Value::Text(text) if text.contains('$') => {
                let text = std::mem::take(text);
                self.text(node, text, within, depth);
            }
            _ => {}
        }
    }

    fn text(&mut self, node: &mut Node, written: String, within: Option<Place>, depth: usize) {
        let (mut text, mut at, mut yielded) = (written.clone(), None, Vec::new());
        let (scalar, sources) = (node.place, self.sources);
        // The length of the end of `text` that is still as written. Text from a reference has the place of that
        // reference.
        let mut tail = if within.is_none() { text.len() } else { 0 };
        // There is no reference before this byte.
        let mut from = 0;
        while let Some((open, close)) = innermost(&text, &mut from) {
            if text.len() - open <= tail {
                at = Some(written.len() - (text.len() - open));
            }
            tail = tail.min(text.len() - close - 1);
            let place = || at.map_or(scalar, |at| locate(sources, scalar, &written, at));
            let Some((value, new)) = self.retrieve(text.get(open + 2..close).unwrap_or_default(), &place) else {
                self.problems.unresolved(self.key, scalar);
                return node.value = Value::Null;
            };
            let whole = open == 0 && close + 1 == text.len();
            if whole && !matches!(value, Value::Text(_)) {
                let place = place();
                let scalar = !matches!(value, Value::List(_) | Value::Map(_));
                // Several lines of YAML are a part of a config, not a secret.
                let secret = new.as_deref().filter(|text| scalar || !text.trim_end().contains('\n'));
                secret.into_iter().for_each(|text| self.withhold(place, text));
                node.text = new.map(|text| text.replace("$$", "$").into());
                node.value = value;
                return self.node(node, Some(place), depth);
            }
            let new = new.unwrap_or_default();
            text.replace_range(open..=close, &new);
            yielded.push(new);
            if whole {
                node.place = place();
            }
        }
        yielded.iter().for_each(|text| self.withhold(node.place, text));
        node.value = Value::Text(text.replace("$$", "$"));
    }

    fn retrieve(&mut self, reference: &str, place: &dyn Fn() -> Place) -> Option<Retrieved> {
        let (scheme, rest) = reference.split_once(':').unwrap_or(("env", reference));
        if !is_scheme(scheme) || !["env", "file", "yaml"].contains(&scheme) {
            let help = match rest.strip_prefix('-') {
                Some(_) => format!("a default wants the scheme written out: ${{env:{reference}}}"),
                None => "the schemes are env, file and yaml; for a plain $ write $$".into(),
            };
            let message = format!("scheme {} is not supported for uri {}", quoted(scheme), quoted(reference));
            return self.error(place, message, Some(help));
        }
        if rest.contains('$') {
            let uri = quoted(&format!("{scheme}:{rest}"));
            return self.error(place, format!("the uri {uri} contains unsupported characters ('$')"), None);
        }
        let text = match retrieve(scheme, rest, self.outside) {
            Ok(text) => text,
            Err((message, _)) if scheme == "file" && self.outside.is_elsewhere => {
                self.problems.push(Problem::warning(place(), message + ON_THIS_MACHINE));
                return None;
            }
            Err((message, help)) => return self.error(place, message, help),
        };
        let cost = text.as_ref().map_or(0, String::len) + COST;
        if cost > self.left {
            return self.error(place, "too many recursive expansions".into(), None);
        }
        self.left -= cost;
        let Some(text) = text else {
            let help = format!("it counts as null; ${{env:{rest}:-VALUE}} would give it a default");
            let message = format!("environment variable \"{rest}\" is not set");
            self.problems.push(Problem::warning(place(), message).help(help));
            return Some((Value::Null, None));
        };
        let value = match yaml::parse(&text, 0, 0).map(|document| document.root.value) {
            // An empty default is empty text. An empty variable is null, with an empty text.
            Ok(Value::Null) if text.is_empty() && rest.ends_with(":-") => Value::Text(String::new()),
            // A tab or `...` at the start is not YAML, though the parser accepts it.
            Ok(Value::Null)
                if ["\t", "..."].iter().any(|start| text.trim_start_matches([' ', '\n']).starts_with(start)) =>
            {
                Value::Text(String::new())
            }
            Ok(value) => value,
            // A text that is not YAML, and YAML text with its quotes, stays as written.
            Err(_) => Value::Text(String::new()),
        };
        if let Some((what, help)) = refused_by_go(&value, &text) {
            let message = format!("the Go collector refuses {what} from a reference");
            self.problems.push(Problem::warning(place(), message).help(help.to_owned()));
        }
        Some((value, Some(text)))
    }

    /// Keeps the text of a reference out of messages: it may be a secret in the wrong place.
    fn withhold(&self, place: Place, text: &str) {
        [place, self.key].into_iter().for_each(|place| self.problems.withhold(place, text));
    }

    fn error(&self, place: &dyn Fn() -> Place, message: String, help: Option<String>) -> Option<Retrieved> {
        // Finding the place is work, and only shown problems need it.
        let place = (!self.problems.are_enough()).then(place);
        self.problems.push(Problem::error(place, message).help(help).obscuring(&self.name));
        None
    }
}

/// What the Go collector refuses in the text of a reference, and help.
fn refused_by_go(value: &Value, text: &str) -> Option<(&'static str, &'static str)> {
    let is_typed = |key: &str| !matches!(yaml::resolve(key), Value::Text(_));
    let is_quoted = |key: &str| ['"', '\''].iter().any(|quote| text.contains(&format!("{quote}{key}{quote}")));
    match value {
        Value::Float(_) if yaml::is_unsigned(text) => {
            Some(("a whole number beyond 9223372036854775807", "put quotes around it where it is set"))
        }
        Value::Map(entries) if entries.iter().any(|entry| is_typed(&entry.key) && !is_quoted(&entry.key)) => {
            Some(("a map with keys that are not text", "put quotes around its keys where it is set"))
        }
        _ => None,
    }
}

/// The place of the reference at byte `offset` of a scalar. The nth `${` of the value is the nth one in the source,
/// regardless of quotes and escapes.
fn locate(sources: &Sources, scalar: Place, value: &str, offset: usize) -> Place {
    let before = value.get(..offset).map_or(0, |before| before.matches("${").count());
    let source = sources.get(scalar).map_or("", |source| source.text.as_str());
    let line = source.split_inclusive('\n').skip(scalar.line.saturating_sub(1) as usize);
    let skipped = line.flat_map(str::chars).skip(scalar.column.saturating_sub(1) as usize);
    let written: String = skipped.take(scalar.length as usize).collect();
    if written.matches("${").count() != value.matches("${").count() {
        return scalar;
    }
    let Some((at, _)) = written.match_indices("${").nth(before) else {
        return scalar;
    };
    let (head, tail) = written.split_at(at);
    let reference = tail.split_inclusive(['}', '\n']).next().unwrap_or_default().trim_end_matches('\n');
    let column = match head.rsplit_once('\n') {
        Some((_, last)) => 1 + last.chars().count() as u32,
        None => scalar.column + head.chars().count() as u32,
    };
    let line = scalar.line + head.matches('\n').count() as u32;
    Place { line, column, length: reference.chars().count() as u32, ..scalar }
}

/// The first reference after `from` that contains no other and is not escaped: the positions of its `$` and its `}`. An
/// odd number of `$` before it escapes it. `from` moves past each `}` that ends no reference.
fn innermost(text: &str, from: &mut usize) -> Option<(usize, usize)> {
    loop {
        let close = *from + text.get(*from..)?.find('}')?;
        if let Some(open) = text.get(*from..close)?.rfind("${").map(|open| *from + open) {
            let dollars = text.get(*from..open)?.bytes().rev().take_while(|&byte| byte == b'$').count();
            if dollars % 2 == 0 {
                return Some((open, close));
            }
        }
        *from = close + 1;
    }
}
