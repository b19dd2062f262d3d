//! What a viewer wants to see: an OTTL condition, a trace, or everything; parsed once, evaluated for every request.

use bytes::Bytes;
use memchr::memmem::Finder;
use smallvec::SmallVec;

use crate::otlp::hex;
use crate::otlp::rewrite::{Depth, Outcome, Sight, Verdict, Visitor, rewrite};
use crate::ottl::compile::{self, Dialect};
use crate::ottl::condition::Condition;
use crate::ottl::functions;
use crate::ottl::infer::Hints;
use crate::ottl::level;
use crate::ottl::meant;
use crate::ottl::parser;
use crate::ottl::scene::Scene;
use crate::ottl::syntax::{Mistake, Node, Syntax};
use crate::ottl::value::{Arena, Fault};
use crate::telemetry::{Now, Signal};

/// The contexts of a condition, the innermost first; span events are not items, so their condition is asked of spans.
const CONTEXTS: [(Signal, &[&str]); 3] = [
    (Signal::Logs, &["log", "scope", "resource"]),
    (Signal::Metrics, &["datapoint", "metric", "scope", "resource"]),
    (Signal::Traces, &["span", "scope", "resource"]),
];

pub struct Wanted {
    /// In the syntax of a filter.
    pub text: String,
    /// By signal; empty when everything is wanted.
    pub rules: Vec<Rule>,
    /// Bytes that occur in every matching request: those of a trace id.
    needle: Option<Finder<'static>>,
}

pub struct Rule {
    pub signal: Signal,
    pub context: &'static str,
    /// Whether the condition names its context itself (`log.body`), as newer configs do.
    pub is_qualified: bool,
    condition: Condition,
}

/// One request, or what is left of it: pieces of its wire form, and the number of items in them.
pub type Kept = (SmallVec<[Bytes; 1]>, u64);

impl Wanted {
    /// A condition, a trace id or its beginning, a `traceparent`, or an empty string. A mistake comes with the
    /// conditions that may be meant.
    pub fn read(expression: &str) -> Result<Wanted, Mistake> {
        Wanted::written(expression).map_err(|mistake| {
            if misjudged(expression.trim()).is_some() {
                return mistake;
            }
            let meant = meant::conditions(expression, |proposal| Wanted::written(proposal).is_ok());
            Mistake { meant, ..mistake }
        })
    }

    fn written(expression: &str) -> Result<Wanted, Mistake> {
        let expression = expression.trim();
        let mut wanted = Wanted { text: expression.to_owned(), rules: Vec::new(), needle: None };
        if expression.is_empty() {
            return Ok(wanted);
        }
        if let Some((text, id)) = trace(expression) {
            wanted.text = text;
            wanted.needle = Some(Finder::new(&id).into_owned());
        }
        let node = parser::condition(&wanted.text).map_err(|mistake| misjudged(expression).unwrap_or(mistake))?;
        let mut hints = Hints::default();
        hints.node(0, &node);
        let mut mistakes = Vec::new();
        for (signal, contexts) in CONTEXTS {
            match rule(&node, &hints, signal, contexts) {
                Ok(rule) => wanted.rules.push(rule),
                Err(mistake) => mistakes.push((hints.known_in(contexts), mistake)),
            }
        }
        // An expression that fits no signal is a mistake; one that fits only some signals is skipped for the others.
        if !wanted.rules.is_empty() {
            return Ok(wanted);
        }
        let all: Vec<&str> = CONTEXTS.iter().flat_map(|(_, contexts)| contexts.iter().copied()).collect();
        if hints.known_in(&all) == hints.paths() && mistakes.iter().all(|(known, _)| *known < hints.paths()) {
            let message = "a condition is about one signal, and nothing has all that this one names";
            let parts = if let Syntax::Any(parts) = &node.syntax { parts.as_slice() } else { &[] };
            let parts = parts.iter().filter_map(|part| wanted.text.get(part.span.clone()));
            let tails: Vec<_> = parts.map(|part| format!("misaki tail {}", in_shell(part))).collect();
            let mut help = "look at each signal with a tail of its own".to_owned();
            if !tails.is_empty() {
                help.push_str(&format!(": {}", tails.join(" and ")));
            }
            return Err(Mistake::new(&(0..wanted.text.len()), message).help(help));
        }
        // Report the mistake for the signal that knows most of the expression.
        mistakes.sort_by_key(|(known, mistake)| (usize::MAX - known, !mistake.is_guessed));
        let is_nowhere = mistakes.iter().all(|(known, mistake)| *known == 0 && mistake.is_unknown_path);
        let (_, mut mistake) = mistakes.into_iter().next().expect("there are signals, and none has a rule");
        if is_nowhere {
            let written = wanted.text.get(mistake.span.clone()).unwrap_or_default();
            mistake.message = format!("{written} is nothing that log records, spans or data points have");
        }
        Err(mistake)
    }

    /// Whether everything that matches is of traces that match as a whole.
    pub fn is_of_traces(&self) -> bool {
        self.needle.is_some() && !self.text.starts_with("span_id")
    }

    pub fn wants(&self, signal: Signal) -> bool {
        self.rules.is_empty() || self.rule(signal).is_some()
    }

    /// Whether a request may match: at most one pass over its bytes.
    pub fn may_be_in<'a>(&self, mut parts: impl Iterator<Item = &'a Bytes>) -> bool {
        self.needle.as_ref().is_none_or(|needle| parts.any(|part| needle.find(part).is_some()))
    }

    fn rule(&self, signal: Signal) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.signal == signal)
    }

    /// The wanted part of a request.
    pub fn keep(&self, signal: Signal, parts: &[(Bytes, u32)], now: Now) -> Kept {
        let mut kept = Kept::default();
        for (bytes, items) in parts {
            let found = match self.rule(signal) {
                None if self.rules.is_empty() => Some((bytes.clone(), *items)),
                None => None,
                Some(rule) => rule.keep(bytes, *items, now),
            };
            if let Some((bytes, items)) = found {
                kept.0.push(bytes);
                kept.1 += u64::from(items);
            }
        }
        kept
    }
}

/// Quoted for a shell, where it has to be.
pub fn in_shell(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The condition for a trace id, for its first digits as `line` prints them, for a span id, or for a traceparent; and
/// the bytes that occur in every matching request.
fn trace(text: &str) -> Option<(String, Vec<u8>)> {
    let parts: Vec<&str> = text.split('-').collect();
    let digits = match parts.as_slice() {
        [id] => *id,
        [version, id, span, _, ..] if version.len() == 2 && span.len() == 16 => *id,
        _ => return None,
    };
    let (mut id, is_alone) = (Vec::new(), parts.len() == 1);
    let low = digits.to_ascii_lowercase();
    let begins = format!("HasPrefix(trace_id.string, \"{low}\")");
    let condition = match digits.len() {
        32 => format!("trace_id.string == \"{low}\""),
        16 if is_alone => format!("span_id.string == \"{low}\" or {begins}"),
        8..=31 if is_alone => begins,
        // Letters alone may be a word.
        6 | 7 if is_alone && digits.bytes().any(|digit| digit.is_ascii_digit()) => begins,
        _ => return None,
    };
    let whole = digits.get(..digits.len() & !1)?;
    let rest = digits.get(whole.len()..)?;
    hex::read(whole.as_bytes(), whole.len() / 2, &mut id)?;
    rest.bytes().all(|digit| digit.is_ascii_hexdigit()).then_some((condition, id))
}

/// Advice for text that is almost a trace id.
fn misjudged(text: &str) -> Option<Mistake> {
    let parts: Vec<&str> = text.split('-').collect();
    let digits: usize = parts.iter().map(|part| part.len()).sum();
    let is_start = |text: &str| text.len() < 6 && text.contains(|digit: char| digit.is_ascii_digit());
    if is_start(text)
        && text.bytes().any(|byte| byte.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    {
        let message = "the beginning of a trace id has at least 6 digits".to_owned();
        let help = format!("to look for text, write IsMatch(body, \"{text}\")");
        return Some(Mistake::new(&(0..text.len()), message).help(help));
    }
    if digits < 12 || !text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-') {
        return None;
    }
    let mistake = |message: String| Mistake::new(&(0..text.len()), message);
    Some(match parts.as_slice() {
        [id] => mistake(format!("a trace id has 32 hexadecimal digits, and this has {}", id.len())),
        _ if digits == 32 => mistake("a trace id is written without dashes".to_owned()).help(parts.concat()),
        _ => {
            let lengths: Vec<String> = parts.iter().map(|part| part.len().to_string()).collect();
            mistake(format!("a traceparent has 2, 32, 16 and 2 hexadecimal digits, and this {}", lengths.join(", ")))
        }
    })
}

fn rule(node: &Node, hints: &Hints, signal: Signal, contexts: &[&'static str]) -> Result<Rule, Mistake> {
    let compile = |context| {
        let dialect = Dialect { context, functions: functions::FILTER };
        let condition = compile::condition(node, &dialect)?;
        // A condition that can never be true is useless to a viewer.
        compile::remarks_on_condition(node, &dialect).pop().map_or(Ok(condition), Err)
    };
    let rule = |context, is_qualified| move |condition| Rule { signal, context, is_qualified, condition };
    if let Ok(context) = hints.context(contexts, functions::FILTER) {
        return compile(context).map(rule(context, true));
    }
    // Without a context, names refer to the innermost item that has all of them.
    let mut first = None;
    for context in contexts.iter().filter(|context| **context != "scope") {
        match compile(context).map(rule(context, false)) {
            Ok(rule) => return Ok(rule),
            Err(mistake) => first = first.or(Some(mistake)),
        }
    }
    Err(first.expect("each signal has contexts"))
}

impl Rule {
    fn keep(&self, bytes: &Bytes, items: u32, now: Now) -> Option<(Bytes, u32)> {
        let arena = Arena::with_limit((64 << 10) + 4 * bytes.len());
        let mut sieve = Sieve { rule: self, depth: level(self.context).0, arena: &arena, now };
        match rewrite(self.signal, bytes, items, arena.room(), &mut sieve as &mut dyn Visitor<Fault = Fault>) {
            Ok(Outcome::Unchanged) => Some((bytes.clone(), items)),
            Ok(Outcome::Changed { bytes, items }) => Some((bytes.into(), items)),
            Ok(Outcome::Empty) | Err(_) => None,
        }
    }
}

/// Drops items for which the condition is not true; if evaluation fails, it counts as not true.
struct Sieve<'a> {
    rule: &'a Rule,
    depth: Depth,
    arena: &'a Arena,
    now: Now,
}

impl<'a> Visitor<'a> for Sieve<'a> {
    type Fault = Fault;

    fn depth(&self) -> Depth {
        self.depth
    }

    fn prunes(&self) -> bool {
        true
    }

    fn visit(&mut self, depth: Depth, sight: &mut Sight<'a>) -> Result<Verdict, Fault> {
        if depth != self.depth {
            return Ok(Verdict::Keep);
        }
        let holds = self.rule.condition.holds(&mut Scene::new(self.arena, self.now, None, sight));
        Ok(if holds.unwrap_or(false) { Verdict::Keep } else { Verdict::Drop })
    }
}
