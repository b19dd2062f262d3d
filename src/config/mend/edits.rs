//! Edits of a config: each is made in the text, by ranges of bytes, and in the tree, and both must agree.

use std::ops::Range;

use crate::config::tree::{Entry, Node, Place, Value};
use crate::config::yaml;
use crate::order::Ordered;

/// The keys that lead to a value; an item of a list is named by its index.
pub(super) type Path = Vec<String>;

pub(super) struct Op {
    pub(super) path: Path,
    pub(super) edit: Edit,
}

pub(super) enum Edit {
    /// The key becomes another.
    Key(String),
    /// The scalar becomes another.
    Scalar(String),
    /// The key and its value become another key, and this YAML in one line.
    Entry(String, String),
    /// The entry of a map, or the item of a list, goes.
    Gone,
    /// The same for an entry whose content another edit writes. A comment beside it would be lost.
    Moved,
}

impl Op {
    pub(super) fn new(path: &[&str], edit: Edit) -> Op {
        Op { path: path.iter().map(|key| (*key).to_owned()).collect(), edit }
    }
}

/// The text and its tree after these edits; `None` if they cannot be made without changing anything else.
pub(super) fn applied(text: &str, tree: &Node, ops: &[Op]) -> Option<(String, Node)> {
    if ops.is_empty() {
        return None;
    }
    let mut wanted = tree.clone();
    // The keys on the way to other edits change last, and the items of a list go from the last to the first.
    let rank = |op: &&Op| match op.edit {
        Edit::Scalar(_) => 0,
        Edit::Gone | Edit::Moved => 1,
        Edit::Entry(..) => 2,
        Edit::Key(_) => 3,
    };
    let mut ordered: Vec<&Op> = ops.iter().rev().collect();
    ordered.order_by_key(rank);
    for op in ordered {
        change(&mut wanted, &op.path, &op.edit)?;
    }
    let wanted = settled(&wanted.without_places());
    // A map in braces may have lines of its own, and looks like one without them.
    [true, false].into_iter().find_map(|by_lines| {
        let text = edited(text, tree, ops, by_lines)?;
        let tree = yaml::parse(&text, 0, 0).ok()?.root;
        (settled(&tree.without_places()) == wanted).then_some((text, tree))
    })
}

/// The tree with null in place of empty maps and lists.
fn settled(node: &Node) -> Node {
    let value = match &node.value {
        Value::Map(entries) if !entries.is_empty() => {
            let entry = |entry: &Entry| Entry { node: settled(&entry.node), ..entry.clone() };
            Value::Map(entries.iter().map(entry).collect())
        }
        Value::List(list) if !list.is_empty() => Value::List(list.iter().map(settled).collect()),
        Value::Map(_) | Value::List(_) => Value::Null,
        value => value.clone(),
    };
    Node { value, ..node.clone() }
}

fn change(node: &mut Node, path: &[String], edit: &Edit) -> Option<()> {
    let (key, rest) = path.split_first()?;
    match &mut node.value {
        Value::Map(entries) => {
            let index = entries.iter().position(|entry| entry.key == *key)?;
            let entry = entries.get_mut(index)?;
            match edit {
                _ if !rest.is_empty() => return change(&mut entry.node, rest, edit),
                Edit::Key(new) => entry.key.clone_from(new),
                Edit::Scalar(new) => entry.node = yaml::parse(new, 0, 0).ok()?.root,
                Edit::Entry(new, value) => {
                    entry.key.clone_from(new);
                    entry.node = yaml::parse(value, 0, 0).ok()?.root;
                }
                Edit::Gone | Edit::Moved => drop(entries.remove(index)),
            }
        }
        Value::List(list) => {
            let index: usize = key.parse().ok()?;
            let item = list.get_mut(index)?;
            match edit {
                _ if !rest.is_empty() => return change(item, rest, edit),
                Edit::Scalar(new) => *item = yaml::parse(new, 0, 0).ok()?.root,
                Edit::Gone | Edit::Moved => drop(list.remove(index)),
                Edit::Key(_) | Edit::Entry(..) => return None,
            }
        }
        _ => return None,
    }
    Some(())
}

/// The text after these edits. `by_lines`: whether an entry with a line of its own goes with its lines.
fn edited(text: &str, tree: &Node, ops: &[Op], by_lines: bool) -> Option<String> {
    let mut replaced = Vec::new();
    for op in ops {
        let (key, node) = found(tree, &op.path)?;
        let of_node = || scalar(text, node);
        replaced.push(match &op.edit {
            Edit::Key(new) => {
                let (range, quote) = written(text, key?, op.path.last()?)?;
                (range, format!("{quote}{new}{quote}"))
            }
            Edit::Scalar(new) => {
                let range = of_node()?;
                // Quotes stay, where the new text needs none of its own.
                let quote = ["'", "\""]
                    .into_iter()
                    .find(|quote| text.get(range.clone()).is_some_and(|old| old.starts_with(quote)));
                let quote = quote.filter(|_| !new.contains(['\'', '"'])).unwrap_or_default();
                (range, format!("{quote}{new}{quote}"))
            }
            Edit::Entry(new, value) => {
                let (key, _) = written(text, key?, op.path.last()?)?;
                match of_node() {
                    Some(old) => (key.start..old.end, format!("{new}{}{value}", text.get(key.end..old.start)?)),
                    // A value of several lines goes with them. A comment between them would be lost.
                    None => {
                        let old = text.get(key.start..lines(text, key.start, true)?.end)?.trim_end();
                        let has_comment = old.contains('#');
                        (!has_comment).then(|| (key.start..key.start + old.len(), format!("{new}: {value}")))?
                    }
                }
            }
            Edit::Gone | Edit::Moved => {
                let start = bytes(text, key.unwrap_or(node.place))?.start;
                let lines = if by_lines { lines(text, start, key.is_some()) } else { None };
                let range = lines.or_else(|| flow(text, start))?;
                if matches!(op.edit, Edit::Moved) && text.get(range.clone())?.contains('#') {
                    return None;
                }
                (range, String::new())
            }
        });
    }
    replaced.order_by(|left, right| right.0.start.cmp(&left.0.start));
    let mut text = text.to_owned();
    let mut before = usize::MAX;
    for (range, new) in replaced {
        if range.end > before {
            return None;
        }
        before = range.start;
        text.replace_range(range, &new);
    }
    Some(text)
}

/// The value at `path`, and the place of its key; an item of a list has none.
fn found<'n>(tree: &'n Node, path: &[String]) -> Option<(Option<Place>, &'n Node)> {
    let (mut place, mut node) = (None, tree);
    for key in path {
        (place, node) = match &node.value {
            Value::List(list) => (None, list.get(key.parse::<usize>().ok()?)?),
            _ => {
                let entry = node.entries().iter().find(|entry| entry.key == *key)?;
                (Some(entry.key_place), &entry.node)
            }
        };
    }
    Some((place, node))
}

/// The bytes of a place. Its columns count characters.
fn bytes(text: &str, place: Place) -> Option<Range<usize>> {
    let lines = text.split_inclusive('\n').take(place.line.checked_sub(1)? as usize);
    let line = lines.map(str::len).sum::<usize>();
    let after = |from: usize, characters: u32| {
        let rest = text.get(from..)?;
        Some(from + rest.char_indices().nth(characters as usize).map_or(rest.len(), |(at, _)| at))
    };
    let start = after(line, place.column.checked_sub(1)?)?;
    Some(start..after(start, place.length)?)
}

/// The bytes of a scalar in one line. What stands there is compared with the tree after the edit.
fn scalar(text: &str, node: &Node) -> Option<Range<usize>> {
    let range = bytes(text, node.place)?;
    let is_block = text.get(range.clone())?.starts_with(['|', '>', '&', '*', '!', '{', '[']);
    let is_scalar = !matches!(node.value, Value::Null | Value::List(_) | Value::Map(_));
    (is_scalar && !is_block && !text.get(range.clone())?.contains('\n')).then_some(range)
}

/// The bytes of a key, and its quotes.
fn written(text: &str, place: Place, key: &str) -> Option<(Range<usize>, &'static str)> {
    let range = bytes(text, place)?;
    let found = text.get(range.clone())?;
    ["", "'", "\""].into_iter().find(|quote| found == format!("{quote}{key}{quote}")).map(|quote| (range, quote))
}

/// The lines of an entry or an item in block style: its first one, and those that are indented deeper.
fn lines(text: &str, start: usize, is_entry: bool) -> Option<Range<usize>> {
    let line = text.get(..start)?.rfind('\n').map_or(0, |at| at + 1);
    let before = text.get(line..start)?;
    let indent = before.len() - before.trim_start().len();
    if (is_entry && !before.trim().is_empty()) || (!is_entry && before.trim() != "-") {
        return None;
    }
    let mut lines = text.get(line..)?.split_inclusive('\n');
    let mut end = line + lines.next()?.len();
    let mut at = end;
    for next in lines {
        at += next.len();
        let content = next.trim();
        let depth = next.len() - next.trim_start().len();
        // The items of a list may stand below the key of the list.
        let is_inside = depth > indent || (is_entry && depth == indent && content.starts_with("- "));
        match content.is_empty() {
            true => {}
            false if is_inside => end = at,
            false => break,
        }
    }
    Some(line..end)
}

/// An entry or an item inside of `{ }` or `[ ]`, with one of the commas around it.
fn flow(text: &str, start: usize) -> Option<Range<usize>> {
    let (mut depth, mut quote, mut end) = (0usize, None, None);
    for (at, character) in text.get(start..)?.char_indices() {
        match (quote, character) {
            (Some(open), _) if open == character => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(character),
            (None, '{' | '[') => depth += 1,
            (None, ',' | '}' | ']') if depth == 0 => {
                end = Some(start + at);
                break;
            }
            (None, '}' | ']') => depth -= 1,
            (None, '#') => return None,
            _ => {}
        }
    }
    let end = end?;
    if let Some(rest) = text.get(end..)?.strip_prefix(',') {
        let after = rest.trim_start_matches([' ', '\r']);
        let line = text.get(..start)?.rfind('\n').map_or(0, |at| at + 1);
        // One with a line of its own goes with the line.
        return Some(match (after.starts_with('\n'), text.get(line..start)?.trim().is_empty()) {
            (true, true) => line..text.len() - after.len() + 1,
            (true, false) => start..end + 1,
            _ => start..text.len() - after.len(),
        });
    }
    let before = text.get(..start)?.trim_end();
    // Without a comma it was the only one.
    Some(before.strip_suffix(',').map_or(start, str::len)..end)
}
