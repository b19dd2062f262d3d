//! The labels of a target or a series: pairs in the order of their names.

use bumpalo::Bump;
use smallvec::SmallVec;

/// Labels that point into a page or an arena.
#[derive(Clone, Debug, Default)]
pub(super) struct Labels<'a>(pub(super) SmallVec<[(&'a [u8], &'a [u8]); 16]>);

pub(super) const NAME: &[u8] = b"__name__";
pub(super) const JOB: &[u8] = b"job";
pub(super) const INSTANCE: &[u8] = b"instance";

impl<'a> Labels<'a> {
    pub(super) fn sort(&mut self) {
        if !self.0.is_sorted_by(|one, other| one.0 <= other.0) {
            self.0.sort_by(|one, other| one.0.cmp(other.0));
        }
    }

    pub(super) fn get(&self, name: &[u8]) -> &'a [u8] {
        self.find(name).unwrap_or_default()
    }

    pub(super) fn find(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    /// Sets a label; an empty value removes it.
    pub(super) fn set(&mut self, name: &'a [u8], value: &'a [u8]) {
        if value.is_empty() {
            return self.remove(name);
        }
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => {
                let at = self.0.partition_point(|(known, _)| *known < name);
                self.0.insert(at, (name, value));
            }
        }
    }

    pub(super) fn remove(&mut self, name: &[u8]) {
        self.0.retain(|(known, _)| *known != name);
    }

    pub(super) fn without_empty(&mut self) {
        self.0.retain(|(_, value)| !value.is_empty());
    }

    /// Sorted labels hold no name twice.
    pub(super) fn has_duplicates(&self) -> bool {
        self.0.windows(2).any(|two| matches!(two, [(one, _), (other, _)] if one == other))
    }
}

/// Labels with their own text: those of a target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Owned(pub(super) Vec<(String, String)>);

impl Owned {
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    pub(super) fn set(&mut self, name: &str, value: &str) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.0.push((name.to_owned(), value.to_owned())),
        }
    }

    /// The same for a label that may be there already.
    pub(super) fn default(&mut self, name: &str, value: &str) {
        if self.get(name).is_empty() {
            self.set(name, value);
        }
    }

    pub(super) fn borrowed(&self) -> Labels<'_> {
        let mut labels = Labels(self.0.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect());
        labels.without_empty();
        labels.sort();
        labels
    }
}

impl From<&Labels<'_>> for Owned {
    fn from(labels: &Labels<'_>) -> Owned {
        let text = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
        Owned(labels.0.iter().map(|(name, value)| (text(name), text(value))).collect())
    }
}

/// Two texts as one in the arena.
pub(super) fn joined<'a>(arena: &'a Bump, one: &[u8], other: &[u8]) -> &'a [u8] {
    arena.alloc_slice_copy(&[one, other].concat())
}
