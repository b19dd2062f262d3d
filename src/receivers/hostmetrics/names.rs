//! Filters for devices, mount points and interfaces: `include` and `exclude`, by name or by pattern.

use crate::config::section::Section;
use crate::ottl::pattern::{self, Pattern};

/// The filter; the default passes everything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    include: Option<Matcher>,
    exclude: Option<Matcher>,
}

#[derive(Clone, Debug)]
enum Matcher {
    Strict(Vec<String>),
    /// Matches anywhere in the name.
    Regexp(Vec<Pattern>),
}

impl Names {
    /// Decodes two sections that list their names under `list`.
    pub(super) fn decode(section: &Section, include: &str, exclude: &str, list: &str) -> Names {
        let matcher = |key| Matcher::decode(section.subsection(key), list);
        Names { include: matcher(include), exclude: matcher(exclude) }
    }

    pub(super) fn pass(&self, name: &str) -> bool {
        self.include.as_ref().is_none_or(|matcher| matcher.matches(name))
            && !self.exclude.as_ref().is_some_and(|matcher| matcher.matches(name))
    }
}

impl Matcher {
    fn decode(section: Section, list: &str) -> Option<Matcher> {
        let names = section.items(list).unwrap_or_default();
        let match_type = section.text("match_type").unwrap_or_default();
        section.ignored(&["regexp"]);
        match match_type.as_str() {
            _ if names.is_empty() => None,
            "strict" => Some(Matcher::Strict(names.into_iter().map(|(name, _)| name).collect())),
            "regexp" => match names.iter().map(|(name, at)| pattern::compile(name).map_err(|why| (*at, why))).collect()
            {
                Ok(patterns) => Some(Matcher::Regexp(patterns)),
                Err((place, why)) => {
                    section.problem_at(place, list, format!("not a regular expression: {why}"), None);
                    None
                }
            },
            other => {
                let message = format!("unrecognized match_type: '{other}', valid types are: [regexp strict]");
                section.problem("match_type", message);
                None
            }
        }
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Matcher::Strict(names) => names.iter().any(|known| known == name),
            Matcher::Regexp(patterns) => patterns.iter().any(|pattern| pattern.is_match(name.as_bytes())),
        }
    }
}
