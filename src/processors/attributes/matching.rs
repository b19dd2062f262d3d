//! Which items `include` and `exclude` mean: all that is written must match, of each list any one. The Go
//! collector's exceptions are kept: all attributes, resources and libraries must match.

use crate::config::Place;
use crate::config::section::Section;
use crate::config::tree::quoted;
use crate::otlp::Signal;
use crate::otlp::message::Message;
use crate::otlp::number;
use crate::otlp::rewrite::Sight;
use crate::otlp::schema::{SPAN_KINDS, log_record, metric, resource, scope, span};
use crate::otlp::views::AnyValue;
use crate::ottl::pattern::{self, Pattern};
use crate::ottl::value::Value;

use crate::processors::action::encoded;
use crate::processors::matching::{NO_SPAN_KEY, check_kinds};

#[derive(Clone, Debug)]
pub struct Matcher {
    /// Those that are written.
    lists: Vec<(&'static List, Vec<Text>)>,
    severity_number: Option<(i32, bool)>,
    attributes: Vec<(Box<[u8]>, Wanted)>,
    resources: Vec<(Box<[u8]>, Wanted)>,
    libraries: Vec<(Text, Option<Text>)>,
}

/// A list of texts, of which one must be that of the item: its key, the items that have such a text, and the text.
#[derive(Debug)]
struct List(&'static str, Signal, fn(&Sight) -> Vec<u8>);

const LISTS: [List; 6] = [
    List("services", Signal::Traces, |sight| match sight.resource.attribute(resource::ATTRIBUTES, b"service.name") {
        Some(name) => as_string(Some(name)),
        None => b"<nil-service-name>".to_vec(),
    }),
    List("span_names", Signal::Traces, |sight| sight.record.bytes(span::NAME).to_vec()),
    List("span_kinds", Signal::Traces, |sight| {
        let kind = SPAN_KINDS.1.get(sight.record.bits(span::KIND) as usize);
        kind.map_or(Vec::new(), |kind| [SPAN_KINDS.0, kind].concat().into_bytes())
    }),
    List("log_bodies", Signal::Logs, |sight| {
        as_string(sight.record.payloads(log_record::BODY).last().map(AnyValue::read))
    }),
    List("log_severity_texts", Signal::Logs, |sight| sight.record.bytes(log_record::SEVERITY_TEXT).to_vec()),
    List("metric_names", Signal::Metrics, |sight| sight.record.bytes(metric::NAME).to_vec()),
];

/// A text, or any that a regular expression finds something in.
#[derive(Clone, Debug)]
enum Text {
    Strict(Box<[u8]>),
    Regexp(Pattern),
}

/// What an attribute must be.
#[derive(Clone, Debug)]
enum Wanted {
    There,
    /// An `AnyValue`.
    Equal(Box<[u8]>),
    Text(Text),
}

impl Text {
    fn matches(&self, text: &[u8]) -> bool {
        match self {
            Text::Strict(wanted) => **wanted == *text,
            Text::Regexp(regex) => regex.is_match(text),
        }
    }
}

impl Matcher {
    pub fn decode(section: Section) -> Matcher {
        let is_regexp = section.choice("match_type", None, &[("strict", Some(false)), ("regexp", Some(true))]);
        if is_regexp.is_none() && !section.has("match_type") {
            let message = "error creating processor: unrecognized match_type: '', valid types are: [regexp strict]";
            section.problem_with_help("match_type", message, "write `match_type: strict`");
        }
        let is_regexp = is_regexp.unwrap_or_default();
        let text = |section: &Section, key: &str, place: Place, text: &str| match is_regexp {
            false => Some(Text::Strict(text.as_bytes().into())),
            true => match pattern::compile(text) {
                Ok(regex) => Some(Text::Regexp(regex)),
                Err(why) => {
                    section.problem_at(place, key, format!("{} is not a regular expression", quoted(text)), Some(why));
                    None
                }
            },
        };
        let list = |list: &'static List| {
            let written = section.items(list.0).unwrap_or_default();
            let texts = written.iter().filter_map(|(written, place)| text(&section, list.0, *place, written));
            (list, texts.collect::<Vec<_>>())
        };
        let pairs = |key: &str| {
            let pair = |item: Section| {
                let name = item.text("key").or_else(|| item.missing("key"))?;
                let wanted = match item.node("value").filter(|node| !node.is_null()) {
                    None => Wanted::There,
                    Some(node) if !is_regexp => Wanted::Equal(encoded(node).into()),
                    Some(node) => match node.as_text() {
                        Some(written) => Wanted::Text(text(&item, "value", item.place("value"), written)?),
                        None => {
                            let message = format!("match_type=regexp for \"{name}\" only supports Str");
                            item.problem_with_help("value", message, "put it in quotes");
                            return None;
                        }
                    },
                };
                Some((name.into_bytes().into(), wanted))
            };
            section.sections(key).into_iter().flatten().filter_map(pair).collect::<Vec<_>>()
        };
        let library = |item: Section| {
            let name = item.text("name").unwrap_or_default();
            let part = |key: &str, written: &str| text(&item, key, item.place(key), written);
            let version = item.text("version").map(|version| part("version", &version));
            Some((part("name", &name)?, version.flatten()))
        };
        if !is_regexp {
            check_kinds(&section);
        }
        let severity = section.section("log_severity_number").map(|severity| {
            let min = severity.integer("min", 0, 0..=24) as i32;
            (min, severity.boolean("match_undefined", false))
        });
        let matcher = Matcher {
            lists: LISTS.iter().map(list).filter(|(_, texts)| !texts.is_empty()).collect(),
            severity_number: severity,
            attributes: pairs("attributes"),
            resources: pairs("resources"),
            libraries: section.sections("libraries").into_iter().flatten().filter_map(library).collect(),
        };
        section.ignored(&["regexp"]);
        section.finish();
        matcher
    }

    /// What a signal can't be matched by, in the Go collector's words.
    pub fn check(&self, signal: Signal) -> Result<(), String> {
        let (foreign, missing) = match signal {
            Signal::Traces => (
                "log_bodies, log_severity_texts, log_severity_number and metric_names should not be specified for trace spans",
                NO_SPAN_KEY,
            ),
            Signal::Logs => (
                "services, span_names, span_kinds and metric_names are not valid for log records",
                "at least one of \"attributes\", \"libraries\", \"span_kinds\", \"resources\", \"log_bodies\", \"log_severity_texts\" or \"log_severity_number\" field must be specified",
            ),
            Signal::Metrics => (
                "\"span_names\", \"span_kinds\", \"log_bodies\", \"log_severity_texts\", \"log_severity_number\", \"services\", \"attributes\" and \"libraries\" are not valid for metrics",
                "at least one of \"metric_names\" or \"resources\" field must be specified",
            ),
        };
        let (has_severity, has_attributes) =
            (self.severity_number.is_some(), !self.attributes.is_empty() || !self.libraries.is_empty());
        let is_foreign = self.lists.iter().any(|(list, _)| list.1 != signal)
            || has_severity && signal != Signal::Logs
            || has_attributes && signal == Signal::Metrics;
        match is_foreign {
            true => Err(foreign.to_owned()),
            false if self.lists.is_empty() && !has_severity && !has_attributes && self.resources.is_empty() => {
                Err(missing.to_owned())
            }
            false => Ok(()),
        }
    }

    /// Whether the log record, span or metric in sight is meant.
    pub fn matches(&self, signal: Signal, sight: &Sight) -> bool {
        let in_list = |(list, wanted): &(&List, Vec<Text>)| {
            let text = list.2(sight);
            wanted.iter().any(|wanted| wanted.matches(&text))
        };
        let severity = || sight.record.bits(log_record::SEVERITY_NUMBER) as i32;
        let is_severe = |(min, match_undefined)| match severity() {
            0 => match_undefined,
            number => number >= min,
        };
        let list = if signal == Signal::Logs { log_record::ATTRIBUTES } else { span::ATTRIBUTES };
        self.lists.iter().all(in_list)
            && self.severity_number.is_none_or(is_severe)
            && self.libraries.iter().all(|(name, version)| {
                name.matches(sight.scope.bytes(scope::NAME))
                    && version.as_ref().is_none_or(|version| version.matches(sight.scope.bytes(scope::VERSION)))
            })
            && all(&self.resources, &sight.resource, resource::ATTRIBUTES)
            && all(&self.attributes, &sight.record, list)
    }
}

fn all(wanted: &[(Box<[u8]>, Wanted)], message: &Message, list: u32) -> bool {
    wanted.iter().all(|(key, wanted)| match (message.attribute(list, key), wanted) {
        (None, _) => false,
        (Some(_), Wanted::There) => true,
        (Some(value), Wanted::Equal(any)) => value == AnyValue::read(any),
        (Some(AnyValue::Empty | AnyValue::Array(_) | AnyValue::Map(_) | AnyValue::Bytes(_)), Wanted::Text(_)) => false,
        (Some(value), Wanted::Text(text)) => text.matches(&as_string(Some(value))),
    })
}

fn as_string(value: Option<AnyValue>) -> Vec<u8> {
    let mut text = Vec::new();
    match value {
        // Without an exponent, unlike everywhere else.
        Some(AnyValue::Double(value)) if value.is_finite() => text.extend_from_slice(value.to_string().as_bytes()),
        Some(AnyValue::Double(value)) => number::put_double(&mut text, value),
        value => Value::from_any(value.unwrap_or_default()).put_as_string(&mut text),
    }
    text
}
