//! The ids of components (`type` or `type/name`) and of pipelines (`signal` or `signal/name`).

use super::tree::quoted;
use crate::otlp::Signal;
use std::fmt;

/// `otlp` or `otlp/edge`. Blanks around the parts are removed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ComponentId {
    type_name: String,
    name: String,
}

impl ComponentId {
    pub fn parse(text: &str) -> Result<Self, String> {
        let (type_name, name) = parts(text)?;
        let rest = |character: char| character.is_ascii_alphanumeric() || character == '_';
        let starts = type_name.starts_with(|first: char| first.is_ascii_alphabetic());
        if !starts || !type_name.chars().all(rest) {
            return Err(format!("invalid character(s) in type {}", quoted(type_name)));
        }
        if type_name.len() > 63 {
            return Err(format!("the type {} is longer than 63 characters", quoted(type_name)));
        }
        Ok(Self { type_name: type_name.to_owned(), name: name.to_owned() })
    }

    /// The part before the slash, as written: it may be an alias.
    pub(super) fn type_name(&self) -> &str {
        &self.type_name
    }
}

impl fmt::Display for ComponentId {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write(formatter, &self.type_name, &self.name)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PipelineId {
    pub signal: Signal,
    pub name: String,
}

impl PipelineId {
    pub fn parse(text: &str) -> Result<Self, String> {
        let (signal, name) = parts(text)?;
        match Signal::ALL.into_iter().find(|known| known.name() == signal) {
            Some(signal) => Ok(Self { signal, name: name.to_owned() }),
            None if signal == "profiles" => Err("the signal profiles is not supported".into()),
            None => Err(format!("unknown pipeline signal {}", quoted(signal))),
        }
    }
}

impl fmt::Display for PipelineId {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write(formatter, self.signal.name(), &self.name)
    }
}

fn write(formatter: &mut fmt::Formatter, first: &str, name: &str) -> fmt::Result {
    match name {
        "" => formatter.write_str(first),
        name => write!(formatter, "{first}/{name}"),
    }
}

/// Splits at the first slash: a name may contain more.
fn parts(text: &str) -> Result<(&str, &str), String> {
    let (first, name) = match text.split_once('/') {
        Some((first, name)) => (first.trim(), Some(name.trim())),
        None => (text.trim(), None),
    };
    match name {
        _ if first.is_empty() => Err("the part before / should not be empty".into()),
        Some("") => Err("the part after / should not be empty".into()),
        Some(name) if name.len() > 1024 => Err("the part after / is longer than 1024 bytes".into()),
        Some(name) if name.chars().any(unnameable) => Err(format!("invalid character(s) in name {}", quoted(name))),
        name => Ok((first, name.unwrap_or_default())),
    }
}

/// Blanks, control characters and common symbols. The Go collector refuses all symbols of Unicode.
fn unnameable(character: char) -> bool {
    character.is_control()
        || character.is_whitespace()
        || matches!(character, '$' | '+' | '<'..='>' | '^' | '`' | '|' | '~' | '\u{2028}'..='\u{2bff}')
}
