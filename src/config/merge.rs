//! Laying one config over another: maps are joined key by key, everything else is replaced by the later one, so that a
//! later null resets a component to its defaults.

use super::tree::{Entry, Node, Place, Value};

pub fn overlay(base: &mut Node, later: Node) {
    match (&mut base.value, later.value) {
        (Value::Map(entries), Value::Map(new)) => new.into_iter().for_each(|entry| put(entries, entry)),
        (_, value) => *base = Node { value, ..later },
    }
}

/// Puts `node` under `key`, where each `separator` opens a level of nesting.
pub fn insert(entries: &mut Vec<Entry>, key: &str, separator: &str, key_place: Place, node: Node) {
    let Some((first, rest)) = key.split_once(separator) else {
        return put(entries, Entry { key: key.to_owned(), key_place, node });
    };
    let length = first.chars().count() as u32;
    let skip = length + separator.len() as u32;
    let rest_place = Place {
        column: key_place.column.saturating_add(skip),
        length: key_place.length.saturating_sub(skip),
        ..key_place
    };
    let mut inner = Vec::new();
    insert(&mut inner, rest, separator, rest_place, node);
    let node = Node::new(Value::Map(inner), rest_place);
    put(entries, Entry { key: first.to_owned(), key_place: Place { length, ..key_place }, node });
}

fn put(entries: &mut Vec<Entry>, entry: Entry) {
    match entries.iter_mut().find(|known| known.key == entry.key) {
        Some(known) => {
            let joined = matches!((&known.node.value, &entry.node.value), (Value::Map(_), Value::Map(_)));
            if !joined {
                known.key_place = entry.key_place;
            }
            overlay(&mut known.node, entry.node);
        }
        None => entries.push(entry),
    }
}
