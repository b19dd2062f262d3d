//! Forms from other query languages, and how to write them in OTTL: used in the help of an error, never for its
//! meaning.

use super::enums;
use super::meant::names::FAMILIAR;
use super::meant::{ERRORS, IS_ERROR};
use super::paths::table::{CONTEXTS, rows};
use super::syntax::{Node, Syntax};
use crate::config::nearest::nearest;

/// Prefixes of attribute names that belong to resources.
pub(super) const OF_RESOURCES: [&str; 8] =
    ["service", "host", "k8s", "container", "cloud", "deployment", "os", "process"];

/// Advice for a name that is not a path.
pub(super) fn of_path(written: &str) -> Option<String> {
    let is_context = |first: &str| CONTEXTS.iter().any(|(name, ..)| *name == first);
    let (context, name) = written.split_once('.').filter(|(first, _)| is_context(first)).unwrap_or(("", written));
    if ERRORS.contains(&name) {
        return Some(format!("write {}, or {} of spans", IS_ERROR[0], IS_ERROR[1]));
    }
    if let Some((_, path, ..)) = FAMILIAR.iter().find(|(names, path, ..)| *path != name && names.contains(&name)) {
        return Some(format!("write {path}"));
    }
    let (first, _) = name.split_once('.')?;
    let owner = match context {
        "" if OF_RESOURCES.contains(&first) => "resource.",
        "" => "",
        context => &format!("{context}."),
    };
    Some(format!("an attribute is written {owner}attributes[\"{name}\"]"))
}

/// Advice for an expression that is not a condition.
pub(super) fn of_condition(written: &str) -> String {
    let is_word = written.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let is_path = CONTEXTS.iter().flat_map(|(context, ..)| rows(context)).any(|row| row.name == written);
    of_path(written).filter(|_| !is_path || written == "status").unwrap_or_else(|| match is_word && !is_path {
        true => format!("to look for text, write IsMatch(body, \"{written}\")"),
        false => format!("compare it with something: {written} == …"),
    })
}

/// Advice for an unknown name in capitals; and whether it resembles a known one.
pub(super) fn of_symbol(name: &str, context: &str) -> (String, bool) {
    let known: Vec<String> = enums::names(context).map(|(name, _)| name).collect();
    let by_end = known.iter().find(|known| known.strip_suffix(name).is_some_and(|start| start.ends_with('_')));
    let near = by_end.map(String::as_str).or_else(|| nearest(name, known.iter().map(String::as_str)));
    let meant = near.map(|near| format!("did you mean \"{near}\"? ")).unwrap_or_default();
    (format!("{meant}text stands in quotes: \"{name}\""), near.is_some())
}

/// Advice for a bare word as an operand.
pub(super) fn of_operand(node: &Node) -> Option<String> {
    match &node.syntax {
        Syntax::Path(fields) => match fields.as_slice() {
            [field] if field.keys.is_empty() => Some(format!("text stands in quotes: \"{}\"", field.name)),
            _ => None,
        },
        _ => None,
    }
}

/// Text in quotes, with OTTL's escapes.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = "\"".to_owned();
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            '\n' => out.push_str("\\n"),
            letter if letter.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(letter))),
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}
