//! Decodes the settings of an action, with one row for each action.

use super::{Action, Deed, Fixed, Source, Type, encoded};
use crate::config::nearest::nearest;
use crate::config::section::Section;
use crate::ottl::pattern::{self, Pattern};

/// An action's name, whether it accepts a pattern instead of a key, and how it decodes the rest.
type Row = (&'static str, bool, fn(Item) -> Option<Deed>);

const ACTIONS: [Row; 7] = [
    ("insert", false, |item| item.put(true, false)),
    ("update", false, |item| item.put(false, true)),
    ("upsert", false, |item| item.put(true, true)),
    ("delete", true, |item| item.removed().map(Deed::Delete)),
    ("hash", true, |item| item.removed().map(Deed::Hash)),
    ("extract", false, |item| item.extract()),
    ("convert", false, |item| item.convert()),
];
/// Synonyms in other tools.
const SYNONYMS: [(&[&str], &str); 3] =
    [(&["add", "set", "put"], "upsert"), (&["remove", "drop"], "delete"), (&["replace", "modify"], "update")];

const PATTERN: &str = "the \"pattern\" field. This must not be specified";
const CONVERTED_TYPE: &str = "the \"converted_type\" field. This must not be specified";

/// Decodes a list of actions; each problem is reported at its place.
pub(crate) fn decode(section: &Section, name: &str) -> Vec<Action> {
    let Some(items) = section.sections(name).filter(|items| !items.is_empty()) else {
        let help = format!("write `{name}: [{{key: environment, value: production, action: upsert}}]`, for example");
        section.problem_with_help(name, format!("missing required field \"{name}\""), help);
        return Vec::new();
    };
    items.into_iter().enumerate().filter_map(|(index, section)| Item::read(section, index)).collect()
}

/// An action's section.
struct Item<'s> {
    section: Section<'s>,
    index: usize,
    key: String,
    /// In lower case.
    action: String,
    fixed: Option<Fixed>,
    default: Option<Fixed>,
    from_attribute: String,
    from_context: String,
    pattern: String,
    converted: String,
}

impl<'s> Item<'s> {
    fn read(section: Section<'s>, index: usize) -> Option<Action> {
        let text = |key| section.text(key).unwrap_or_default();
        let (key, written) = (text("key"), text("action"));
        let value = |name| {
            section.node(name).filter(|node| !node.is_null()).map(|node| Fixed::new(key.as_bytes(), &encoded(node)))
        };
        let item = Item {
            index,
            action: written.to_ascii_lowercase(),
            fixed: value("value"),
            default: value("default_value"),
            from_attribute: text("from_attribute"),
            from_context: text("from_context"),
            pattern: text("pattern"),
            converted: text("converted_type"),
            key,
            section,
        };
        let row = ACTIONS.iter().find(|(name, ..)| *name == item.action);
        let takes_pattern = row.is_some_and(|(_, takes_pattern, _)| *takes_pattern);
        if item.key.is_empty() && (!takes_pattern || item.pattern.is_empty()) {
            let missing = match takes_pattern {
                true => "(at least one of \"key\" and \"pattern\" have to be used)",
                false => "\"key\"",
            };
            let message =
                format!("error creating AttrProc due to missing required field {missing} at the {index}-th action");
            item.section.problem_with_help("key", message, "write `key:` with the name of the attribute");
            return None;
        }
        let Some((_, _, read)) = row else {
            let meant = SYNONYMS.iter().find(|(names, _)| names.contains(&item.action.as_str()));
            let names = ACTIONS.map(|(name, ..)| name);
            let meant = meant.map(|(_, meant)| *meant).or_else(|| nearest(&item.action, names));
            let meant = meant.map(|meant| format!("did you mean \"{meant}\"? ")).unwrap_or_default();
            let help = format!("{meant}the actions are: {}", names.join(", "));
            let message = item.fault(&format!(" due to unsupported action \"{written}\""));
            item.section.problem_with_help("action", message, help);
            return None;
        };
        let key = item.key.clone().into_bytes().into();
        read(item).map(|deed| Action { key, deed })
    }

    fn fault(&self, what: &str) -> String {
        format!("error with key \"{}\" ({}-th action): error creating AttrProc{what}", self.key, self.index)
    }

    fn wrong<T>(&self, field: &str, what: impl AsRef<str>) -> Option<T> {
        self.section.problem(field, self.fault(what.as_ref()));
        None
    }

    /// Reports a problem at `field` and returns `None` if a key is given that the action does not use.
    fn without(&self, is_given: bool, field: &str, what: &str) -> Option<()> {
        match is_given {
            true => self.wrong(field, format!(". Action \"{}\" does not use {what}", self.action)),
            false => Some(()),
        }
    }

    fn missing<T>(&self, field: &str) -> Option<T> {
        self.wrong(field, format!(" due to missing required field \"{field}\" for action \"{}\"", self.action))
    }

    /// The number of value sources given.
    fn sources(&self) -> usize {
        let given = [self.fixed.is_some(), !self.from_attribute.is_empty(), !self.from_context.is_empty()];
        given.into_iter().filter(|is_given| *is_given).count()
    }

    /// The pattern, if given; `None` if it does not compile.
    fn regex(&self) -> Option<Option<Pattern>> {
        if self.pattern.is_empty() {
            return Some(None);
        }
        match pattern::compile(&self.pattern) {
            Ok(regex) => Some(Some(regex)),
            Err(_) => self.wrong("pattern", format!(". Field \"pattern\" has invalid pattern: \"{}\"", self.pattern)),
        }
    }

    fn put(self, inserts: bool, updates: bool) -> Option<Deed> {
        let sources = self.sources();
        if sources == 0 && self.default.is_none() {
            let needed = "\"value\", \"from_attribute\", \"from_context\", or \"default_value\"";
            return self.wrong("value", format!(". Either field {needed} must be specified"));
        }
        if sources > 1 {
            return self.wrong("value", " due to multiple value sources being set");
        }
        self.without(!self.pattern.is_empty(), "pattern", PATTERN)?;
        self.without(!self.converted.is_empty(), "converted_type", CONVERTED_TYPE)?;
        let source = match (self.fixed, self.from_attribute.is_empty(), self.from_context.as_str()) {
            (Some(fixed), ..) => Source::Fixed(fixed),
            (_, false, _) => Source::Attribute(self.from_attribute.into_bytes().into()),
            (_, _, "") => Source::Nothing,
            (_, _, "client.address") => Source::Host,
            (_, _, context) if context.starts_with("auth.") => {
                Source::Auth(context.trim_start_matches("auth.").to_owned())
            }
            (_, _, context) => Source::Metadata(context.trim_start_matches("metadata.").to_owned()),
        };
        Some(Deed::Put { inserts, updates, source, default: self.default })
    }

    /// The pattern for keys or values to remove, in addition to the key.
    fn removed(self) -> Option<Option<Pattern>> {
        let regex = self.regex()?;
        let values = "\"value\" or \"from_attribute\" field. These must not be specified";
        self.without(self.sources() > 0, "value", values)?;
        self.without(!self.converted.is_empty(), "converted_type", CONVERTED_TYPE)?;
        Some(regex)
    }

    fn extract(self) -> Option<Deed> {
        let regex = self.regex()?;
        self.without(self.sources() > 0, "value", "a value source field. These must not be specified")?;
        self.without(!self.converted.is_empty(), "converted_type", CONVERTED_TYPE)?;
        let Some(regex) = regex else { return self.missing("pattern") };
        let mut names = regex.capture_names().skip(1).peekable();
        if names.peek().is_none() {
            return self.wrong("pattern", ". Field \"pattern\" contains no named matcher groups");
        }
        if names.any(|name| name.is_none()) {
            return self.wrong("pattern", ". Field \"pattern\" contains at least one unnamed matcher group");
        }
        drop(names);
        Some(Deed::Extract(regex))
    }

    fn convert(self) -> Option<Deed> {
        let is_given = self.sources() > 0 || !self.pattern.is_empty();
        self.without(is_given, "value", "value sources or \"pattern\" field. These must not be specified")?;
        Some(Deed::Convert(match self.converted.as_str() {
            "" => return self.missing("converted_type"),
            "string" => Type::String,
            "int" => Type::Int,
            "double" => Type::Double,
            other => {
                let what = format!("invalid value \"{other}\" in field \"converted_type\" for action \"convert\"");
                return self.wrong("converted_type", format!(" due to {what}"));
            }
        }))
    }
}
