//! `redaction`: removes attributes that are not allowed and masks what must not be read (facts 5.8), in resources,
//! scopes, log records and their bodies, spans, their events, and data points.

use std::borrow::Cow;
use std::sync::Arc;

use regex::bytes::{NoExpand, Regex};
use ring::{digest, hmac};
use sha3::{Digest, Sha3_256};

use crate::config::section::{Secret, Section};
use crate::otlp::rewrite::{Depth, Sight, Verdict, Visitor, rewrite};
use crate::otlp::schema::{event, log_record, resource, scope, span};
use crate::otlp::views::AnyValue;
use crate::otlp::wire::put_header;
use crate::otlp::{Signal, hex, message::Message};
use crate::ottl::value::{Arena, Fault, Value, entries, items, put_entry, put_item};
use crate::ottl::{functions::hashing::md5, pattern};
use crate::telemetry::{Now, Refusal, Telemetry};

use super::attributes::action::{pair, revise_attributes};
use super::edit::{edit, refusal};
use super::{Factory, Notes, Processor};

#[derive(Clone, Debug)]
pub struct Config {
    /// The keys that stay; none when all do.
    allowed_keys: Option<Vec<Box<[u8]>>>,
    ignored_keys: Vec<Box<[u8]>>,
    ignored_key_patterns: Vec<Regex>,
    blocked_key_patterns: Vec<Regex>,
    blocked_values: Vec<Regex>,
    allowed_values: Vec<Regex>,
    redact_all_types: bool,
    mask: Mask,
    summary: Summary,
}

#[derive(Clone, Debug)]
enum Mask {
    Stars,
    Md5,
    Digest(&'static digest::Algorithm),
    Sha3,
    Hmac(hmac::Key),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Summary {
    Nothing,
    Counts,
    Keys,
}

/// What happened to the keys of one map, for its summary.
#[derive(Default)]
struct Tally<'a> {
    redacted: Vec<Cow<'a, [u8]>>,
    masked: Vec<Cow<'a, [u8]>>,
    allowed: Vec<Cow<'a, [u8]>>,
    ignored: i64,
}

/// More keys than this are counted in a summary, not named.
const NAMED: usize = 256;

impl Config {
    pub fn decode(section: Section) -> Config {
        let keys = |key| {
            let keys = section.texts(key).unwrap_or_default().into_iter();
            keys.map(|key| key.into_bytes().into_boxed_slice()).collect::<Vec<_>>()
        };
        let patterns = |key| {
            let compile = |(text, place): (String, _)| match pattern::compile(&text) {
                Ok(regex) => Some(regex),
                Err(why) => {
                    section.problem_at(place, key, format!("\"{text}\" is not a regular expression"), Some(why));
                    None
                }
            };
            section.items(key).unwrap_or_default().into_iter().filter_map(compile).collect::<Vec<_>>()
        };
        for key in ["url_sanitizer", "db_sanitizer"] {
            if section.node(key).is_some_and(|node| {
                node.get("enabled").is_none_or(|on| on.value != crate::config::tree::Value::Bool(false))
            }) {
                section.problem(key, format!("{key} is not supported"));
            }
        }
        let (allow_all, allowed) = (section.boolean("allow_all_keys", false), keys("allowed_keys"));
        let key = section.secret("hmac_key");
        let key = key.as_ref().map_or("", Secret::expose);
        let hmac = |algorithm| Mask::Hmac(hmac::Key::new(algorithm, key.as_bytes()));
        let function = section.text_or("hash_function", "");
        let mask = match function.to_ascii_lowercase().as_str() {
            "" => Mask::Stars,
            "md5" => Mask::Md5,
            "sha3" => Mask::Sha3,
            "sha1" => Mask::Digest(&digest::SHA1_FOR_LEGACY_USE_ONLY),
            "hmac-sha256" => hmac(hmac::HMAC_SHA256),
            "hmac-sha512" => hmac(hmac::HMAC_SHA512),
            _ => {
                let help = "it is one of md5, sha1, sha3, hmac-sha256, hmac-sha512";
                let problem = format!(
                    "unknown HashFunction {function}, allowed functions are sha1, sha3, md5, hmac-sha256 and hmac-sha512"
                );
                section.problem_with_help("hash_function", problem, help);
                Mask::Stars
            }
        };
        if let Mask::Hmac(hmac) = &mask {
            let (at_least, long) = (hmac.algorithm().digest_algorithm().output_len(), key.len());
            let problem = match long {
                0 => Some(format!("hmac_key must not be empty when hash_function is \"{function}\"")),
                _ => Some(format!(
                    "hmac_key must be at least {at_least} bytes long for \"{function}\", got {long} bytes"
                )),
            };
            if let Some(problem) = problem.filter(|_| long < at_least) {
                section.problem("hmac_key", problem);
            }
        }
        let summaries =
            [("debug", Summary::Keys), ("info", Summary::Counts), ("silent", Summary::Nothing), ("", Summary::Nothing)];
        let config = Config {
            allowed_keys: (!allow_all).then_some(allowed),
            ignored_keys: keys("ignored_keys"),
            ignored_key_patterns: patterns("ignored_key_patterns"),
            blocked_key_patterns: patterns("blocked_key_patterns"),
            blocked_values: patterns("blocked_values"),
            allowed_values: patterns("allowed_values"),
            redact_all_types: section.boolean("redact_all_types", false),
            mask,
            summary: section.choice("summary", Summary::Nothing, &summaries),
        };
        section.finish();
        config
    }

    fn ignores(&self, key: &[u8]) -> bool {
        self.ignored_keys.iter().any(|known| **known == *key) || is_match(&self.ignored_key_patterns, key)
    }

    fn redacts(&self, key: &[u8]) -> bool {
        self.allowed_keys.as_ref().is_some_and(|allowed| !allowed.iter().any(|known| **known == *key))
    }

    /// A text without what must not be read; nothing when it stays.
    fn masked(&self, key: &[u8], text: &[u8]) -> Option<Vec<u8>> {
        if is_match(&self.blocked_key_patterns, key) {
            return Some(self.mask.of(text));
        }
        let mut masked = Cow::Borrowed(text);
        for pattern in &self.blocked_values {
            let new = match &self.mask {
                Mask::Stars => pattern.replace_all(&masked, NoExpand(b"****")),
                mask => pattern.replace_all(&masked, |found: &regex::bytes::Captures| {
                    mask.of(found.get(0).map_or(&[], |it| it.as_bytes()))
                }),
            };
            if let Cow::Owned(new) = new {
                masked = Cow::Owned(new);
            }
        }
        (*masked != *text).then(|| masked.into_owned())
    }

    /// What becomes of the value of a key: nothing when it stays.
    fn value<'a>(&self, key: Cow<'a, [u8]>, value: Value, is_body: bool, tally: &mut Tally<'a>) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        match value {
            Value::String(found) => text.extend_from_slice(found),
            _ if !self.redact_all_types && !is_body => {}
            value => value.put_as_string(&mut text),
        }
        if is_match(&self.allowed_values, &text) {
            tally.allowed.push(key);
            return None;
        }
        let masked = self.masked(&key, &text)?;
        tally.masked.push(key);
        Some(masked)
    }

    /// Redacts a list of attributes and says there what was done.
    fn attributes<'a>(&self, message: &mut Message<'a>, list: u32, arena: &'a Arena) -> Result<(), Fault> {
        let mut tally = Tally::default();
        revise_attributes(message, list, |found| {
            let key = Cow::Borrowed(found.key);
            if self.ignores(found.key) {
                tally.ignored += 1;
                return Ok(None);
            }
            if self.redacts(found.key) {
                tally.redacted.push(key);
                return Ok(Some(&[]));
            }
            let masked = self.value(key, Value::from_any(found.value), false, &mut tally);
            masked.map(|text| pair(list, found.key, &Value::String(&text), arena)).transpose()
        })?;
        self.summarize(message, list, "redaction", tally, arena)
    }

    fn summarize<'a>(
        &self,
        message: &mut Message<'a>,
        list: u32,
        prefix: &str,
        tally: Tally,
        arena: &'a Arena,
    ) -> Result<(), Fault> {
        if self.summary == Summary::Nothing {
            return Ok(());
        }
        let mut set = |name: String, value: Value| {
            let raw = pair(list, name.as_bytes(), &value, arena)?;
            message.set_attribute(list, name.as_bytes(), raw);
            Ok::<_, Fault>(())
        };
        for (what, mut keys) in [("redacted", tally.redacted), ("masked", tally.masked), ("allowed", tally.allowed)] {
            if keys.is_empty() {
                continue;
            }
            let count = keys.len() as i64;
            if self.summary == Summary::Keys {
                keys.sort();
                keys.truncate(NAMED);
                set(format!("{prefix}.{what}.keys"), Value::String(&keys.join(&b","[..])))?;
            }
            set(format!("{prefix}.{what}.count"), Value::Int(count))?;
        }
        if tally.ignored > 0 {
            set(format!("{prefix}.ignored.count"), Value::Int(tally.ignored))?;
        }
        Ok(())
    }

    /// A body, or a value in one, redacted; nothing when it stays. The door bounds how deep it goes.
    fn nested<'a>(&self, path: &str, value: Value, tally: &mut Tally<'a>) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let mut is_changed = false;
        let at = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        let mut inner = Vec::new();
        let new = match value {
            Value::Map(map) => {
                for (key, value) in entries(map) {
                    let inside = at(&String::from_utf8_lossy(key));
                    if self.ignores(key) {
                        tally.ignored += 1;
                    } else if self.redacts(key) {
                        tally.redacted.push(Cow::Owned(inside.into_bytes()));
                        is_changed = true;
                        continue;
                    } else if let Some(any) = self.nested(&inside, value, tally) {
                        is_changed = true;
                        put_entry(&mut inner, key, &Value::from_any(AnyValue::read(&any)));
                        continue;
                    }
                    put_entry(&mut inner, key, &value);
                }
                Value::Map(&inner)
            }
            Value::List(list) => {
                for (index, item) in items(list).enumerate() {
                    let any = self.nested(&at(&format!("[{index}]")), item, tally);
                    is_changed |= any.is_some();
                    put_item(&mut inner, &any.as_ref().map_or(item, |any| Value::from_any(AnyValue::read(any))));
                }
                Value::List(&inner)
            }
            value => {
                let name = if path.is_empty() { "body" } else { path };
                inner = self.value(Cow::Owned(name.as_bytes().to_vec()), value, true, tally)?;
                is_changed = true;
                Value::String(&inner)
            }
        };
        new.put_any(&mut out);
        is_changed.then_some(out)
    }

    fn body<'a>(&self, record: &mut Message<'a>, arena: &'a Arena) -> Result<(), Fault> {
        let Some(body) = record.payloads(log_record::BODY).last() else { return Ok(()) };
        let mut tally = Tally::default();
        if let Some(any) = self.nested("", Value::from_any(AnyValue::read(body)), &mut tally) {
            let mut raw = Vec::with_capacity(any.len() + 8);
            put_header(&mut raw, log_record::BODY, any.len());
            raw.extend_from_slice(&any);
            record.replace(log_record::BODY, arena.keep(&raw)?);
        }
        self.summarize(record, log_record::ATTRIBUTES, "redaction.body", tally, arena)
    }
}

fn is_match(patterns: &[Regex], text: &[u8]) -> bool {
    patterns.iter().any(|pattern| pattern.is_match(text))
}

impl Mask {
    fn of(&self, text: &[u8]) -> Vec<u8> {
        let mut digits = Vec::new();
        match self {
            Mask::Stars => return b"****".to_vec(),
            Mask::Md5 => hex::put(&md5(text), &mut digits),
            Mask::Sha3 => hex::put(&Sha3_256::digest(text), &mut digits),
            Mask::Digest(algorithm) => hex::put(digest::digest(algorithm, text).as_ref(), &mut digits),
            Mask::Hmac(key) => hex::put(hmac::sign(key, text).as_ref(), &mut digits),
        }
        digits
    }
}

impl Factory for Config {
    fn build(&self, _: &str, _: Signal) -> Result<Arc<dyn Processor>, String> {
        Ok(Arc::new(Redaction(self.clone())))
    }
}

struct Redaction(Config);

impl Processor for Redaction {
    fn is_billed(&self) -> bool {
        true
    }

    fn process(&self, telemetry: Telemetry, _: Now, _: &mut Notes) -> Result<Option<Telemetry>, Refusal> {
        edit(telemetry, |signal, bytes, items, arena| {
            rewrite(
                signal,
                bytes,
                items,
                &mut Visit { config: &self.0, signal, arena } as &mut dyn Visitor<Fault = Fault>,
            )
            .map_err(refusal)
        })
    }
}

struct Visit<'a> {
    config: &'a Config,
    signal: Signal,
    arena: &'a Arena,
}

impl<'a> Visitor<'a> for Visit<'a> {
    type Fault = Fault;

    fn depth(&self) -> Depth {
        if self.signal == Signal::Logs { Depth::Records } else { Depth::Children }
    }

    fn prunes(&self) -> bool {
        false
    }

    fn resource(&mut self, sight: &mut Sight<'a>) -> Result<Verdict, Fault> {
        self.config.attributes(&mut sight.resource, resource::ATTRIBUTES, self.arena)?;
        Ok(Verdict::Keep)
    }

    fn scope(&mut self, sight: &mut Sight<'a>) -> Result<Verdict, Fault> {
        self.config.attributes(&mut sight.scope, scope::ATTRIBUTES, self.arena)?;
        Ok(Verdict::Keep)
    }

    fn record(&mut self, sight: &mut Sight<'a>) -> Result<Verdict, Fault> {
        match self.signal {
            Signal::Metrics => {}
            Signal::Traces => self.config.attributes(&mut sight.record, span::ATTRIBUTES, self.arena)?,
            Signal::Logs => {
                self.config.attributes(&mut sight.record, log_record::ATTRIBUTES, self.arena)?;
                self.config.body(&mut sight.record, self.arena)?;
            }
        }
        Ok(Verdict::Keep)
    }

    fn child(&mut self, sight: &mut Sight<'a>) -> Result<Verdict, Fault> {
        let is_point = self.signal == Signal::Metrics;
        let list = if is_point { sight.point_attributes() } else { event::ATTRIBUTES };
        self.config.attributes(&mut sight.child, list, self.arena)?;
        Ok(Verdict::Keep)
    }
}
