//! Mends a config that was written for an older collector: names and keys that are gone become today's.
//!
//! A change edits ranges of bytes, so comments and layout stay. After each change the new text is read, and must hold
//! the tree that the change wants and nothing else; otherwise the change is left out, and told.

mod edits;
mod rules;

use std::collections::{BTreeMap, BTreeSet};

use super::layout::Catalog;
use super::problems::Problem;
use super::tree::Place;
use super::yaml;
use crate::order::Ordered;
use edits::Op;

/// The maximum of changes that are tried on one text. Each reads it again.
pub(crate) const MOST: usize = 1000;

/// A change, which is made as a whole or not at all.
struct Change {
    place: Place,
    /// `KEY -> KEY: reason (since version)`, also its identity.
    said: String,
    /// Without any it cannot be made safely.
    ops: Vec<Op>,
}

#[derive(Debug)]
pub(crate) struct Mended {
    pub(crate) text: String,
    /// What was changed, with the line of each in the original text.
    pub(crate) done: Vec<(u32, String)>,
    /// What should be changed, but cannot be safely, with its line in the new text.
    pub(crate) left: Vec<(u32, String)>,
}

/// Makes the changes that the text wants. At most `most` are tried.
pub(crate) fn mend(text: &str, catalog: &dyn Catalog, most: usize) -> Result<Mended, Box<Problem>> {
    let mut tree = yaml::parse(text, 0, 0)?.root;
    let (mut text, mut done, mut tried) = (text.to_owned(), Vec::new(), BTreeSet::new());
    let line = |change: Change| (change.said, change.place.line);
    let lines: BTreeMap<String, u32> = rules::changes(&tree, catalog).into_iter().map(line).collect();
    while tried.len() < most {
        let mut changes = rules::changes(&tree, catalog).into_iter();
        let Some(change) = changes.find(|change| !tried.contains(&change.said)) else { break };
        tried.insert(change.said.clone());
        if let Some((new, after)) = edits::applied(&text, &tree, &change.ops) {
            (text, tree) = (new, after);
            // Removed lines move those below them.
            done.push((lines.get(&change.said).copied().unwrap_or(change.place.line), change.said));
        }
    }
    let mut left: Vec<_> =
        rules::changes(&tree, catalog).into_iter().map(|change| (change.place.line, change.said)).collect();
    done.order_by_key(|change| change.clone());
    left.order_by_key(|change| change.clone());
    Ok(Mended { text, done, left })
}
