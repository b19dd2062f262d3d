//! The effective configuration: what `Section` read or defaulted, key by key, as a tree for `print-config`.

use super::tree::{Entry, Node, Place, Value};
use std::collections::BTreeMap;

/// A flat list of records, each naming its parent by number. The root is number 0 and has no record.
#[derive(Debug, Default)]
pub(super) struct Effective(Vec<Record>);

#[derive(Debug)]
struct Record {
    parent: usize,
    key: String,
    value: Value,
    secret: bool,
}

impl Effective {
    pub fn record(&mut self, parent: usize, key: &str, value: Value, secret: bool) -> usize {
        self.0.push(Record { parent, key: key.to_owned(), value, secret });
        self.0.len()
    }

    /// The record of a map, made when the last answer for the key was no such record.
    pub fn map(&mut self, parent: usize, key: &str) -> usize {
        match self.0.iter().rposition(|record| record.parent == parent && record.key == key) {
            Some(index) if self.0.get(index).is_some_and(|record| record.value == Value::Map(Vec::new())) => index + 1,
            _ => self.record(parent, key, Value::Map(Vec::new()), false),
        }
    }

    /// The tree with its keys sorted; of a key that was asked for twice, the later answer counts.
    pub fn tree(&self, redacted: bool) -> Node {
        let mut children = vec![Vec::new(); self.0.len() + 1];
        for (index, record) in self.0.iter().enumerate() {
            if let Some(siblings) = children.get_mut(record.parent) {
                siblings.push(index);
            }
        }
        self.below(0, &children, redacted)
    }

    fn below(&self, number: usize, children: &[Vec<usize>], redacted: bool) -> Node {
        let inner = children.get(number).into_iter().flatten().filter_map(|&index| {
            let record = self.0.get(index)?;
            let node = match &record.value {
                _ if record.secret && redacted => Node::new(Value::Text("[REDACTED]".into()), Place::default()),
                // An empty map or list has its children among the records.
                Value::Map(entries) if entries.is_empty() => self.below(index + 1, children, redacted),
                Value::List(list) if list.is_empty() => {
                    let inner = self.below(index + 1, children, redacted);
                    let list = inner.entries().iter().map(|entry| entry.node.clone()).collect();
                    Node::new(Value::List(list), Place::default())
                }
                value => Node::new(value.clone(), Place::default()),
            };
            Some((record.key.clone(), node))
        });
        let sorted: BTreeMap<String, Node> = inner.collect();
        let entry = |(key, node)| Entry { key, key_place: Place::default(), node };
        Node::new(Value::Map(sorted.into_iter().map(entry).collect()), Place::default())
    }
}
