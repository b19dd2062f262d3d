//! Merges configs. Maps are merged key by key; any other value is replaced by the later one, so a later null resets a
//! component to its defaults.

use std::collections::HashMap;

use super::tree::{Entry, Node, Place, Value};

pub(super) fn overlay(base: &mut Node, later: Node) {
    match (&mut base.value, later.value) {
        (Value::Map(entries), Value::Map(new)) => {
            entries.extend(new);
            *entries = joined(std::mem::take(entries));
        }
        (_, value) => *base = Node { value, ..later },
    }
}

/// Merges entries with the same key: later ones override earlier ones.
pub(super) fn joined(entries: Vec<Entry>) -> Vec<Entry> {
    let mut known: HashMap<String, usize> = HashMap::new();
    // The flag says whether the entry contains the entries of several maps.
    let mut list: Vec<(Entry, bool)> = Vec::new();
    for entry in entries {
        let found = known.get(&entry.key).and_then(|index| list.get_mut(*index));
        let Some((before, is_mixed)) = found else {
            known.insert(entry.key.clone(), list.len());
            list.push((entry, false));
            continue;
        };
        match (&mut before.node.value, entry.node.value) {
            (Value::Map(entries), Value::Map(new)) => {
                entries.extend(new);
                *is_mixed = true;
            }
            (_, value) => {
                (before.key_place, before.node) = (entry.key_place, Node { value, ..entry.node });
                *is_mixed = false;
            }
        }
    }
    let unmixed = |(mut entry, is_mixed): (Entry, bool)| {
        if let (true, Value::Map(entries)) = (is_mixed, &mut entry.node.value) {
            *entries = joined(std::mem::take(entries));
        }
        entry
    };
    list.into_iter().map(unmixed).collect()
}

/// An entry for `node` under `key`. Each `separator` in the key opens a level of nesting.
pub(super) fn nested(key: &str, separator: &str, key_place: Place, node: Node) -> Entry {
    let Some((first, rest)) = key.split_once(separator) else {
        return Entry { key: key.to_owned(), key_place, node };
    };
    let length = first.chars().count() as u32;
    let skip = length + separator.len() as u32;
    let rest_place = Place {
        column: key_place.column.saturating_add(skip),
        length: key_place.length.saturating_sub(skip),
        ..key_place
    };
    let node = Node::new(Value::Map(vec![nested(rest, separator, rest_place, node)]), rest_place);
    Entry { key: first.to_owned(), key_place: Place { length, ..key_place }, node }
}
