//! Loads a configuration from `file:`, `env:` and `yaml:` URIs, and from `--set`. Sources are merged from left to
//! right, `--set` last, and expanded once at the end.

use super::expand::Expansion;
use super::files;
use super::merge;
use super::problems::{Problem, Problems};
use super::tree::{Node, Place, Value, quoted};
use super::yaml::{self, MAX_BYTES, MAX_DEPTH};
use std::path::Path;

/// The texts that were read, for excerpts in messages. A `Place` refers to one by its index.
#[derive(Debug, Default)]
pub struct Sources(Vec<Source>);

#[derive(Debug)]
pub(crate) struct Source {
    /// The path of a file, `env:NAME`, `inline yaml`, or `--set`.
    pub(crate) name: String,
    pub(crate) text: String,
}

/// The name of a source that is a single value.
pub(crate) const SET: &str = "--set";

/// A configuration as it was read. `root` is null if a source could not be read.
#[derive(Debug)]
pub struct Loaded {
    pub root: Node,
    pub sources: Sources,
    pub problems: Problems,
}

impl Sources {
    pub(super) fn get(&self, place: Place) -> Option<&Source> {
        self.0.get(usize::from(place.source))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Source> {
        self.0.iter()
    }

    fn add(&mut self, name: &str, text: String) -> u16 {
        self.0.push(Source { name: name.to_owned(), text });
        (self.0.len() - 1) as u16
    }
}

/// The environment that a configuration reads from.
#[derive(Clone, Copy)]
pub(crate) struct Outside<'a> {
    /// Returns the value of a variable.
    pub(crate) environment: &'a dyn Fn(&str) -> Option<String>,
    /// Whether a named file may also be a pipe.
    pub(crate) place: files::Place,
    /// Whether the config is only checked here: a file that a reference names may be missing.
    pub(crate) is_elsewhere: bool,
}

/// Reads, merges and expands a config, as at a start. `environment` returns the value of a variable.
pub fn load(sources: &[String], sets: &[String], environment: &dyn Fn(&str) -> Option<String>) -> Loaded {
    load_from(sources, sets, Outside { environment, place: files::Place::Any, is_elsewhere: false })
}

pub(crate) fn load_from(sources: &[String], sets: &[String], outside: Outside) -> Loaded {
    let (problems, mut read) = (Problems::default(), Sources::default());
    let mut root = Node::new(Value::Map(Vec::new()), Place::default());
    let mut complete = sources.len() + sets.len() <= usize::from(u16::MAX);
    if !complete {
        problems.push(Problem::error(None, format!("a config has at most {} sources", u16::MAX)));
    }
    let inputs = sources.iter().map(|uri| (uri, false)).chain(sets.iter().map(|set| (set, true)));
    for (input, is_set) in inputs.take(usize::from(u16::MAX)) {
        let document = match is_set {
            true => set_document(input, &mut read, &problems),
            false => retrieve_source(input, sources.len() == 1, outside, &mut read, &problems),
        };
        match document {
            Some(Node { value: Value::Null, .. }) => {}
            Some(document) => merge::overlay(&mut root, document),
            None => complete = false,
        }
    }
    match complete {
        true => Expansion::new(outside, &read, &problems).expand(&mut root),
        false => root.value = Value::Null,
    }
    Loaded { root, sources: read, problems }
}

fn retrieve_source(
    uri: &str,
    is_alone: bool,
    outside: Outside,
    sources: &mut Sources,
    problems: &Problems,
) -> Option<Node> {
    let (scheme, rest) = parts(uri);
    let text = match retrieve(scheme, rest, outside) {
        Ok(Some(text)) => Ok(text),
        // Beside other sources, it counts as empty, as in the Go collector.
        Ok(None) if !is_alone => {
            problems
                .push(Problem::warning(None, format!("environment variable \"{rest}\" is not set: it adds nothing")));
            return Some(Node::new(Value::Null, Place::NOWHERE));
        }
        Ok(None) => Err(Problem::error(None, format!("environment variable \"{rest}\" is not set"))),
        Err((message, help)) => Err(Problem::error(None, message).help(help.or(Some(CONFIG_HELP.into())))),
    };
    let text = text.map_err(|problem| problems.push(problem)).ok()?;
    let name = match scheme {
        "file" => rest.to_owned(),
        "env" => format!("env:{}", rest.split(":-").next().unwrap_or(rest)),
        _ => format!("inline {scheme}"),
    };
    let source = sources.add(&name, text);
    let text = sources.0.last().map_or("", |source| source.text.as_str());
    let document = document(text, source, 0, problems)?;
    if !matches!(document.value, Value::Map(_) | Value::Null) {
        let message = format!("a config is a map, and this is {}", document.kind());
        let help = "its keys are receivers, processors, exporters, connectors, extensions and service";
        problems.push(Problem::error(document.place, message).help(help.to_owned()));
        return None;
    }
    Some(document)
}

const CONFIG_HELP: &str = "--config takes a file, or file:PATH, env:VARIABLE, yaml:TEXT";

/// Parses `a.b.c=value`, where the value is YAML.
fn set_document(set: &str, sources: &mut Sources, problems: &Problems) -> Option<Node> {
    let source = sources.add(SET, set.to_owned());
    let Some((key, value)) = set.split_once('=') else {
        let place = Place { source, line: 1, column: 1, length: set.chars().count() as u32 };
        problems.push(Problem::error(place, "missing equal sign").help("write --set KEY.PATH=VALUE".to_owned()));
        return None;
    };
    let shift = key.chars().count() as u32 + 1;
    let node = document(value, source, shift, problems)?;
    let indent = key.len() - key.trim_start().len();
    let key = key.trim().replace("::", ".");
    let key_place = Place { source, line: 1, column: 1 + indent as u32, length: key.chars().count() as u32 };
    if key.is_empty() || key.matches('.').count() >= MAX_DEPTH {
        problems.push(Problem::error(key_place, format!("--set has no use for the key {}", quoted(&key))));
        return None;
    }
    Some(Node::new(Value::Map(vec![merge::nested(&key, ".", key_place, node)]), key_place))
}

fn document(text: &str, source: u16, shift: u32, problems: &Problems) -> Option<Node> {
    match yaml::parse(text, source, shift) {
        Ok(document) => {
            if let Some(place) = document.more {
                let help = "give each its own file, and --config once for each".to_owned();
                problems.push(Problem::warning(place, "only the first YAML document of a file is read").help(help));
            }
            Some(document.root)
        }
        Err(fault) => {
            problems.push(*fault);
            None
        }
    }
}

/// The scheme of a URI, and the rest; a path is one of `file:`.
fn parts(uri: &str) -> (&str, &str) {
    match uri.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => (scheme, rest),
        _ => ("file", uri),
    }
}

/// The path, if it names a file.
pub(crate) fn file_of(uri: &str) -> Option<&str> {
    Some(parts(uri)).filter(|(scheme, _)| *scheme == "file").map(|(_, path)| path)
}

/// Whether it is the scheme of a URI. A single letter is not: it is a Windows drive.
pub(super) fn is_scheme(text: &str) -> bool {
    let rest = |character: char| character.is_ascii_alphanumeric() || "+.-".contains(character);
    text.len() > 1 && text.starts_with(|first: char| first.is_ascii_alphabetic()) && text.chars().all(rest)
}

/// The text that a URI refers to; `None` for an environment variable that is not set and has no default.
pub(super) fn retrieve(scheme: &str, rest: &str, outside: Outside) -> Result<Option<String>, (String, Option<String>)> {
    match scheme {
        "yaml" => Ok(Some(rest.to_owned())),
        "file" => {
            read_file(rest, outside.place).map(Some).map_err(|error| (format!("cannot read {rest}: {error}"), None))
        }
        "env" => {
            let (name, default) = match rest.split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (rest, None),
            };
            let rest = |character: char| character.is_ascii_alphanumeric() || character == '_';
            if !name.chars().all(rest) || !name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_') {
                let help = "a name has letters, digits and _, and does not start with a digit";
                return Err((format!("environment variable \"{name}\" has invalid name"), Some(help.to_owned())));
            }
            Ok((outside.environment)(name).or_else(|| default.map(str::to_owned)))
        }
        _ => Err((format!("unsupported scheme on URI \"{scheme}:{rest}\""), None)),
    }
}

fn read_file(path: &str, place: files::Place) -> Result<String, String> {
    let bytes = files::read(Path::new(path), MAX_BYTES as u64, place)?;
    String::from_utf8(bytes).map_err(|error| {
        let line =
            error.as_bytes().iter().take(error.utf8_error().valid_up_to()).filter(|&&byte| byte == b'\n').count();
        format!("line {} is not UTF-8 text", line + 1)
    })
}
