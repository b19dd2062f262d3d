//! `redaction`: removes attributes that are not allowed and masks what must not be read, in resources,
//! scopes, log records and their bodies, spans, their events, and data points; with `redact_everywhere` (ours) in links,
//! exemplars and the metadata of metrics as well.

mod sql;
mod statements;

use std::borrow::Cow;
use std::sync::Arc;

use ring::{digest, hmac};
use sha3::{Digest, Sha3_256};

use crate::config::section::{Secret, Section};
use crate::otlp::rewrite::{Depth, Sight, Verdict, Visitor};
use crate::otlp::room::Buffer;
use crate::otlp::schema::{event, exemplar, link, log_record, metric, resource, scope, span};
use crate::otlp::slice::{self, Exhausted};
use crate::otlp::views::AnyValue;
use crate::otlp::{Signal, hex, message::Message};
use crate::ottl::functions::{hashing::md5, length_within_bounds, put};
use crate::ottl::pattern::{self, Pattern};
use crate::ottl::value::{Arena, Fault, Value, entries, items, put_entry, put_item};
use crate::telemetry::{Now, Refusal, Telemetry};

use super::action::{revise_attributes, revise_payloads};
use super::edit::{Request, edit};
use super::{Factory, Notes, Processor};

use sql::Dialect;
use statements::Statements;

#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The keys that stay; none when all do.
    allowed_keys: Option<Vec<Box<[u8]>>>,
    ignored_keys: Vec<Box<[u8]>>,
    ignored_key_patterns: Vec<Pattern>,
    blocked_key_patterns: Vec<Pattern>,
    blocked_values: Vec<Pattern>,
    allowed_values: Vec<Pattern>,
    redact_all_types: bool,
    redact_everywhere: bool,
    mask: Mask,
    summary: Summary,
    statements: Option<Statements>,
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
struct Tally {
    redacted: Keys,
    masked: Keys,
    allowed: Keys,
    ignored: Keys,
    /// Bytes that were put in the place of others.
    made: usize,
}

#[derive(Default)]
struct Keys {
    count: i64,
    names: Vec<Vec<u8>>,
    bytes: usize,
}

/// More keys than this, or longer ones together, are counted in a summary, not named.
const NAMED: usize = 256;
const NAMED_BYTES: usize = 64 << 10;

/// Where a value stands in a body, or among attributes.
#[derive(Clone, Copy)]
struct Path<'p> {
    before: Option<&'p Path<'p>>,
    part: Part<'p>,
}

#[derive(Clone, Copy)]
enum Part<'p> {
    Key(&'p [u8]),
    Index(usize),
}

impl Config {
    pub(crate) fn decode(section: Section) -> Config {
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
        let urls = section.subsection("url_sanitizer");
        urls.ignored(&["attributes", "sanitize_span_name"]);
        if urls.boolean("enabled", false) {
            let help = "replace_pattern in transform takes ids out of paths";
            let message =
                "url_sanitizer is not supported: it tells words from ids by a table that Misaki does not carry";
            section.problem_with_help("url_sanitizer", message, help);
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
        let summarized = ["redacted.keys", "redacted.count", "masked.keys", "masked.count", "ignored.count"];
        let summarized = summarized.map(|name| format!("redaction.{name}").into_bytes().into_boxed_slice());
        let config = Config {
            allowed_keys: (!allow_all).then(|| allowed.into_iter().chain(summarized).collect()),
            ignored_keys: keys("ignored_keys"),
            ignored_key_patterns: patterns("ignored_key_patterns"),
            blocked_key_patterns: patterns("blocked_key_patterns"),
            blocked_values: patterns("blocked_values"),
            allowed_values: patterns("allowed_values"),
            redact_all_types: section.boolean("redact_all_types", false),
            redact_everywhere: section.boolean("redact_everywhere", false),
            mask,
            summary: section.choice_in_any_case("summary", Summary::Nothing, &summaries),
            statements: Statements::decode(&section.subsection("db_sanitizer")),
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
    fn masked(&self, text: &[u8], is_statement: bool, arena: &Arena) -> Result<Option<Vec<u8>>, Fault> {
        let mut masked = Cow::Borrowed(text);
        for pattern in &self.blocked_values {
            let (mut new, mut end) = (Vec::new(), None);
            for found in pattern.all_matches(&masked, &arena.again) {
                let found = found?;
                put(&mut new, masked.get(end.unwrap_or(0)..found.start()).unwrap_or_default())?;
                put(&mut new, &self.mask.of(found.as_bytes()))?;
                end = Some(found.end());
            }
            if let Some(end) = end {
                put(&mut new, masked.get(end..).unwrap_or_default())?;
                masked = Cow::Owned(new);
            }
        }
        if is_statement {
            masked = Cow::Owned(sql::masked(&masked, Dialect::Standard)?);
        }
        Ok((*masked != *text).then(|| masked.into_owned()))
    }

    /// What becomes of the value of an attribute: nothing when it stays.
    fn value(
        &self,
        key: &[u8],
        value: Value,
        is_statement: bool,
        tally: &mut Tally,
        arena: &Arena,
    ) -> Result<Option<Vec<u8>>, Fault> {
        let text = text_of(value, self.redact_all_types)?;
        if is_match(&self.allowed_values, &text) {
            self.add(&mut tally.allowed, Path::of(key));
            return Ok(None);
        }
        let is_blocked = is_match(&self.blocked_key_patterns, key);
        let masked = match is_blocked {
            true => Some(self.mask.all_of(&text)?),
            false => self.masked(&text, is_statement, arena)?,
        };
        if masked.is_some() {
            self.add(&mut tally.masked, Path::of(key));
        }
        Ok(masked)
    }

    /// Counts a key, and names it where the summary will.
    fn add(&self, keys: &mut Keys, path: Path) {
        keys.count += 1;
        if self.summary == Summary::Keys && keys.names.len() < NAMED && keys.bytes + path.len() <= NAMED_BYTES {
            let mut name = Vec::new();
            path.put(&mut name);
            keys.bytes += name.len();
            keys.names.push(name);
        }
    }

    /// Redacts a list of attributes and says there what was done.
    fn attributes<'a>(&self, message: &mut Message<'a>, list: u32, arena: &'a Arena) -> Result<(), Fault> {
        let mut tally = Tally::default();
        let statements = self.statements.as_ref().filter(|statements| statements.are_in(message, list));
        revise_attributes(message, list, |found| {
            if self.ignores(found.key) {
                self.add(&mut tally.ignored, Path::of(found.key));
                return Ok(None);
            }
            if self.redacts(found.key) {
                self.add(&mut tally.redacted, Path::of(found.key));
                return Ok(Some(&[]));
            }
            let is_statement = statements.is_some_and(|statements| statements.are_under(found.key));
            let masked = self.value(found.key, Value::from_any(found.value), is_statement, &mut tally, arena)?;
            masked.map(|text| arena.keep_attribute(list, found.key, &Value::String(&text))).transpose()
        })?;
        self.summarize(message, list, "redaction", tally, arena)
    }

    /// Adds to what a summary says already.
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
        let Tally { redacted, masked, allowed, mut ignored, .. } = tally;
        // Of these the Go collector tells the number alone.
        ignored.names.clear();
        for (what, keys) in [("redacted", redacted), ("masked", masked), ("allowed", allowed), ("ignored", ignored)] {
            let Keys { count: 1.., names, .. } = &keys else { continue };
            let mut names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
            if !names.is_empty() {
                let name = format!("{prefix}.{what}.keys");
                if let Some(AnyValue::String(known @ [_, ..])) = message.attribute(list, name.as_bytes()) {
                    names.extend(known.split(|byte| *byte == b','));
                }
                names.sort();
                names.truncate(NAMED);
                let raw = arena.keep_attribute(list, name.as_bytes(), &Value::String(&names.join(&b","[..])))?;
                message.set_attribute(list, name.as_bytes(), raw);
            }
            let name = format!("{prefix}.{what}.count");
            let known = message.attribute(list, name.as_bytes());
            let known = if let Some(AnyValue::Int(known)) = known { known } else { 0 };
            let raw = arena.keep_attribute(list, name.as_bytes(), &Value::Int(known.wrapping_add(keys.count)))?;
            message.set_attribute(list, name.as_bytes(), raw);
        }
        Ok(())
    }

    /// A body, or a value in one, redacted; nothing when it stays. The door bounds how deep it goes.
    fn nested<'r>(
        &self,
        path: Option<&Path>,
        value: Value,
        tally: &mut Tally,
        arena: &'r Arena,
    ) -> Result<Option<Buffer<'r>>, Fault> {
        let mut inner = Buffer::new(arena.room());
        let mut is_changed = false;
        let new = match value {
            Value::Map(map) => {
                for (key, value) in entries(map) {
                    let inside = Path { before: path, part: Part::Key(key) };
                    if self.ignores(key) {
                        self.add(&mut tally.ignored, inside);
                    } else if self.redacts(key) {
                        self.add(&mut tally.redacted, inside);
                        is_changed = true;
                        continue;
                    } else if is_match(&self.blocked_key_patterns, key) {
                        self.add(&mut tally.masked, inside);
                        is_changed = true;
                        let masked = tally.made(self.mask.all_of(&text_of(value, false)?)?)?;
                        put_entry(more(&mut inner, key.len() + masked.len())?, key, &Value::String(&masked));
                        continue;
                    } else if let Some(any) = self.nested(Some(&inside), value, tally, arena)? {
                        is_changed = true;
                        let value = Value::from_any(AnyValue::read(&any));
                        put_entry(more(&mut inner, key.len() + any.len())?, key, &value);
                        continue;
                    }
                    put_entry(more(&mut inner, key.len() + value.any_len().unwrap_or(0))?, key, &value);
                }
                Value::Map(&inner)
            }
            Value::List(list) => {
                for (index, item) in items(list).enumerate() {
                    let inside = Path { before: path, part: Part::Index(index) };
                    let any = self.nested(Some(&inside), item, tally, arena)?;
                    is_changed |= any.is_some();
                    let item = any.as_ref().map_or(item, |any| Value::from_any(AnyValue::read(any)));
                    put_item(more(&mut inner, item.any_len().unwrap_or(0))?, &item);
                }
                Value::List(&inner)
            }
            value => {
                let text = text_of(value, true)?;
                if is_match(&self.allowed_values, &text) {
                    // Of a whole body the Go collector does not say it.
                    if let Some(path) = path {
                        self.add(&mut tally.allowed, *path);
                    }
                    return Ok(None);
                }
                let Some(masked) = self.masked(&text, self.statements.is_some(), arena)? else { return Ok(None) };
                self.add(&mut tally.masked, path.copied().unwrap_or(Path::of(b"body")));
                let masked = tally.made(masked)?;
                more(&mut inner, masked.len())?.extend_from_slice(&masked);
                is_changed = true;
                Value::String(&inner)
            }
        };
        let mut out = Buffer::new(arena.room());
        if is_changed {
            new.put_any(more(&mut out, inner.len())?);
        }
        Ok(is_changed.then_some(out))
    }

    fn body<'a>(&self, record: &mut Message<'a>, arena: &'a Arena) -> Result<(), Fault> {
        let Some(body) = record.payloads(log_record::BODY).last() else { return Ok(()) };
        let mut tally = Tally::default();
        if let Some(any) = self.nested(None, Value::from_any(AnyValue::read(body)), &mut tally, arena)? {
            record.replace(log_record::BODY, arena.keep_field(log_record::BODY, &any)?);
        }
        self.summarize(record, log_record::ATTRIBUTES, "redaction.body", tally, arena)
    }

    /// The name of a span, where it is a statement.
    fn name<'a>(&self, span: &mut Message<'a>, arena: &'a Arena) -> Result<(), Fault> {
        let name = span.bytes(span::NAME);
        if let Some(dialect) = self.statements.as_ref().and_then(|statements| statements.in_name_of(span))
            && !is_match(&self.allowed_values, name)
            && let masked = sql::masked(name, dialect)?
            && !matches!(&*masked, b"" | b"...")
            && masked != name
        {
            span.replace(span::NAME, arena.keep_field(span::NAME, &masked)?);
        }
        Ok(())
    }

    /// The attributes and trace states of a span's links: no statement of `transform` reaches them.
    fn links<'a>(&self, span: &mut Message<'a>, arena: &'a Arena) -> Result<(), Fault> {
        revise_payloads(span, span::LINKS, |raw| {
            if slice::is_over() {
                return Err(slice::exhausted().into());
            }
            let mut link = Message::default();
            link.enter(arena.room());
            link.reset(raw);
            self.attributes(&mut link, link::ATTRIBUTES, arena)?;
            if let Some(masked) = self.masked(link.bytes(link::TRACE_STATE), false, arena)? {
                link.replace(link::TRACE_STATE, arena.keep_field(link::TRACE_STATE, &masked)?);
            }
            if !link.is_changed() {
                return Ok(None);
            }
            let mut new = Vec::with_capacity(link.len());
            link.write(&mut new);
            arena.keep_field(span::LINKS, &new).map(Some)
        })
    }
}

impl Tally {
    /// Many that are short become long as well.
    fn made(&mut self, masked: Vec<u8>) -> Result<Vec<u8>, Fault> {
        self.made += masked.len();
        length_within_bounds(self.made).map(|()| masked)
    }
}

impl<'p> Path<'p> {
    fn of(key: &'p [u8]) -> Path<'p> {
        Path { before: None, part: Part::Key(key) }
    }

    /// At most how long it is.
    fn len(&self) -> usize {
        let part = if let Part::Key(key) = self.part { key.len() } else { 22 };
        self.before.map_or(0, |before| before.len() + 1) + part
    }

    fn put(&self, out: &mut Vec<u8>) {
        if let Some(before) = self.before {
            before.put(out);
            out.push(b'.');
        }
        match self.part {
            Part::Key(key) => out.extend_from_slice(key),
            Part::Index(index) => out.extend_from_slice(format!("[{index}]").as_bytes()),
        }
    }
}

/// Room for a value of so many bytes, its key included, and what stands around them.
fn more<'b>(buffer: &'b mut Buffer, bytes: usize) -> Result<&'b mut Vec<u8>, Fault> {
    buffer.for_more(bytes + 32).ok_or_else(|| Exhausted.into())
}

fn is_match(patterns: &[Pattern], text: &[u8]) -> bool {
    patterns.iter().any(|pattern| pattern.is_match(text))
}

/// A value as text; nothing of what is no text, unless all is wanted.
fn text_of(value: Value, wants_all: bool) -> Result<Vec<u8>, Fault> {
    let mut text = Vec::new();
    match value {
        Value::String(found) => text.extend_from_slice(found),
        value if wants_all => {
            value.put_as_string(&mut text);
            // What is too long was cut off, and the rest of it must not pass unread.
            length_within_bounds(text.len())?;
        }
        _ => {}
    }
    Ok(text)
}

impl Mask {
    /// Line by line, as the Go collector's `.*` sees it.
    fn all_of(&self, text: &[u8]) -> Result<Vec<u8>, Fault> {
        let mut all = Vec::new();
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            put(&mut all, if index > 0 { b"\n" } else { b"" })?;
            put(&mut all, &self.of(line))?;
        }
        Ok(all)
    }

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
    fn build(&self, _: &str, signal: Signal) -> Result<Arc<dyn Processor>, String> {
        let statements = self.statements.clone().map(|statements| statements.of(signal));
        Ok(Arc::new(Redaction(Config { statements, ..self.clone() })))
    }
}

struct Redaction(Config);

impl Processor for Redaction {
    fn is_billed(&self) -> bool {
        true
    }

    fn process(&self, telemetry: Telemetry, _: Now, _: &mut Notes) -> Result<Option<Telemetry>, Refusal> {
        edit(telemetry, |request| {
            let Request { signal, arena, .. } = request;
            request.rewrite(&mut Visit { config: &self.0, signal, arena })
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
        match self.signal {
            Signal::Logs => Depth::Records,
            Signal::Traces => Depth::Children,
            Signal::Metrics if self.config.redact_everywhere => Depth::Exemplars,
            Signal::Metrics => Depth::Children,
        }
    }

    fn visit(&mut self, depth: Depth, sight: &mut Sight<'a>) -> Result<Verdict, Fault> {
        let (config, arena, is_metrics) = (self.config, self.arena, self.signal == Signal::Metrics);
        match depth {
            Depth::Resources => config.attributes(&mut sight.resource, resource::ATTRIBUTES, arena)?,
            Depth::Scopes => config.attributes(&mut sight.scope, scope::ATTRIBUTES, arena)?,
            Depth::Records => self.edit(&mut sight.record)?,
            Depth::Children => {
                let list = if is_metrics { sight.point_attributes() } else { event::ATTRIBUTES };
                config.attributes(&mut sight.child, list, arena)?;
            }
            Depth::Exemplars => config.attributes(&mut sight.exemplar, exemplar::FILTERED_ATTRIBUTES, arena)?,
        }
        Ok(Verdict::Keep)
    }
}

impl<'a> Visit<'a> {
    fn edit(&self, record: &mut Message<'a>) -> Result<(), Fault> {
        let config = self.config;
        match self.signal {
            Signal::Metrics if config.redact_everywhere => config.attributes(record, metric::METADATA, self.arena),
            Signal::Metrics => Ok(()),
            Signal::Traces => {
                config.attributes(record, span::ATTRIBUTES, self.arena)?;
                config.name(record, self.arena)?;
                if config.redact_everywhere { config.links(record, self.arena) } else { Ok(()) }
            }
            Signal::Logs => {
                config.attributes(record, log_record::ATTRIBUTES, self.arena)?;
                config.body(record, self.arena)
            }
        }
    }
}
