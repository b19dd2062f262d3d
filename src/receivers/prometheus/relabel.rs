//! `relabel_configs` and `metric_relabel_configs`: rules that keep, drop and rewrite labels.

use bumpalo::Bump;

use crate::config::section::Section;
use crate::ottl::functions::hashing::md5;
use crate::ottl::pattern::{self, Pattern};

use super::labels::Labels;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Action {
    Replace,
    Keep,
    Drop,
    KeepEqual,
    DropEqual,
    HashMod,
    LabelMap,
    LabelDrop,
    LabelKeep,
    Lowercase,
    Uppercase,
}

const ACTIONS: &[(&str, Action)] = &[
    ("replace", Action::Replace),
    ("keep", Action::Keep),
    ("drop", Action::Drop),
    ("keepequal", Action::KeepEqual),
    ("dropequal", Action::DropEqual),
    ("hashmod", Action::HashMod),
    ("labelmap", Action::LabelMap),
    ("labeldrop", Action::LabelDrop),
    ("labelkeep", Action::LabelKeep),
    ("lowercase", Action::Lowercase),
    ("uppercase", Action::Uppercase),
];

#[derive(Clone, Debug)]
pub(super) struct Rule {
    action: Action,
    source_labels: Vec<String>,
    separator: String,
    /// Anchored at both ends.
    regex: Pattern,
    modulus: u64,
    target_label: String,
    replacement: String,
    /// Whether a new name may have letters, digits and underscores only.
    is_legacy: bool,
}

/// Whether it is the name of a label.
pub(super) fn is_label_name(name: &[u8], is_legacy: bool) -> bool {
    if !is_legacy {
        return !name.is_empty() && std::str::from_utf8(name).is_ok();
    }
    let is_first = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'_';
    name.first().is_some_and(is_first) && name.iter().all(|byte| is_first(byte) || byte.is_ascii_digit())
}

/// The rules under `key`.
pub(super) fn decode(section: &Section, key: &str, is_legacy: bool) -> Vec<Rule> {
    let rules = section.sections(key).unwrap_or_default().into_iter();
    rules.filter_map(|section| Rule::decode(&section, is_legacy)).collect()
}

impl Rule {
    fn decode(section: &Section, is_legacy: bool) -> Option<Rule> {
        let action = section.choice_in_any_case("action", Action::Replace, ACTIONS);
        let text = section.text_or("regex", "(.*)");
        // As in Prometheus: the whole value must match, and a dot is any character.
        let regex = pattern::compile(&format!("^(?s:{text})$"));
        let regex = regex.map_err(|why| section.problem("regex", format!("invalid regular expression: {why}")));
        let source_labels = section.texts("source_labels").unwrap_or_default();
        let rule = Rule {
            action,
            source_labels,
            separator: section.text_or("separator", ";"),
            regex: regex.ok()?,
            modulus: section.integer("modulus", 0, 0..=i64::MAX).unsigned_abs(),
            target_label: section.text_or("target_label", ""),
            replacement: section.text_or("replacement", "$1"),
            is_legacy,
        };
        rule.check(section);
        Some(rule)
    }

    fn check(&self, section: &Section) {
        use Action::*;
        let name = ACTIONS.iter().find(|(_, action)| *action == self.action).map_or("", |(name, _)| *name);
        let has_target = matches!(self.action, Replace | HashMod | Lowercase | Uppercase | KeepEqual | DropEqual);
        let has_variable = self.action == Replace && self.target_label.contains('$');
        if has_target && self.target_label.is_empty() {
            let message = format!("relabel configuration for {name} action requires 'target_label' value");
            section.problem("target_label", message);
        } else if has_target && !has_variable && !is_label_name(self.target_label.as_bytes(), self.is_legacy) {
            let message = format!("{:?} is invalid 'target_label' for {name} action", self.target_label);
            section.problem("target_label", message);
        }
        if self.action == HashMod && self.modulus == 0 {
            section.problem("modulus", "relabel configuration for hashmod requires non-zero modulus");
        }
        if matches!(self.action, Lowercase | Uppercase | KeepEqual | DropEqual) && self.replacement != "$1" {
            section.problem("replacement", format!("'replacement' can not be set for {name} action"));
        }
        let unused: &[&str] = match self.action {
            KeepEqual | DropEqual => &["regex", "modulus", "separator"],
            LabelDrop | LabelKeep => &["source_labels", "target_label", "modulus", "separator", "replacement"],
            _ => &[],
        };
        if let Some(key) = unused.iter().find(|key| section.has(key)) {
            section.problem(key, format!("it has no meaning for {name} action"));
        }
    }
}

/// Applies the rules in turn; false says that they drop what has the labels.
pub(super) fn apply<'a>(rules: &'a [Rule], labels: &mut Labels<'a>, arena: &'a Bump) -> bool {
    rules.iter().all(|rule| rule.apply(labels, arena))
}

impl Rule {
    fn apply<'a>(&'a self, labels: &mut Labels<'a>, arena: &'a Bump) -> bool {
        let value: &'a [u8] = match self.source_labels.as_slice() {
            [] => &[],
            [one] => labels.get(one.as_bytes()),
            several => {
                let values: Vec<_> = several.iter().map(|name| labels.get(name.as_bytes())).collect();
                arena.alloc_slice_copy(&values.join(self.separator.as_bytes()))
            }
        };
        let target = self.target_label.as_bytes();
        let matches = |text: &[u8]| self.regex.is_match(text);
        match self.action {
            Action::Drop => return !matches(value),
            Action::Keep => return matches(value),
            Action::DropEqual => return labels.get(target) != value,
            Action::KeepEqual => return labels.get(target) == value,
            Action::Replace => self.replace(value, labels, arena),
            Action::Lowercase | Action::Uppercase => {
                let text = String::from_utf8_lossy(value);
                let text = if self.action == Action::Lowercase { lowercase(&text) } else { uppercase(&text) };
                labels.set(target, arena.alloc_slice_copy(text.as_bytes()));
            }
            Action::HashMod => {
                let hash = md5(value).into_iter().skip(8).fold(0, |hash: u64, byte| hash << 8 | u64::from(byte));
                let rest = hash.checked_rem(self.modulus).unwrap_or_default();
                labels.set(target, arena.alloc_slice_copy(rest.to_string().as_bytes()));
            }
            Action::LabelMap => {
                for (name, value) in labels.clone().0 {
                    if let Some(name) = self.expanded(name, &self.replacement, arena) {
                        labels.set(name, value);
                    }
                }
            }
            Action::LabelDrop => labels.0.retain(|(name, _)| !matches(name)),
            Action::LabelKeep => labels.0.retain(|(name, _)| matches(name)),
        }
        true
    }

    fn replace<'a>(&'a self, value: &'a [u8], labels: &mut Labels<'a>, arena: &'a Bump) {
        let Some(target) = self.expanded(value, &self.target_label, arena) else { return };
        if is_label_name(target, self.is_legacy) {
            let replacement = self.expanded(value, &self.replacement, arena).unwrap_or_default();
            labels.set(target, replacement);
        }
    }

    /// `template` with the groups of a match; `None` if there is no match.
    fn expanded<'a>(&'a self, value: &[u8], template: &'a str, arena: &'a Bump) -> Option<&'a [u8]> {
        if !template.contains('$') {
            return self.regex.is_match(value).then_some(template.as_bytes());
        }
        let captures = self.regex.captures(value)?;
        let mut text = Vec::new();
        // A result beyond all bounds is left out.
        pattern::expand(template.as_bytes(), &captures, &mut text).ok()?;
        Some(arena.alloc_slice_copy(&text))
    }
}

/// Character by character, as Go does it.
fn lowercase(text: &str) -> String {
    let one = |c: char| {
        let mut lower = c.to_lowercase();
        lower.next().filter(|_| lower.next().is_none()).unwrap_or(c)
    };
    text.chars().map(one).collect()
}

fn uppercase(text: &str) -> String {
    let one = |c: char| {
        let mut upper = c.to_uppercase();
        upper.next().filter(|_| upper.next().is_none()).unwrap_or(c)
    };
    text.chars().map(one).collect()
}
