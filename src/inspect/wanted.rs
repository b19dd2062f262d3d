//! What a viewer wants to see: an OTTL condition, a trace, or everything; parsed once, evaluated for every request.

use bytes::Bytes;
use memchr::memmem::Finder;
use smallvec::SmallVec;

use super::text::Words;
use crate::order::Ordered;
use crate::otlp::hex;
use crate::otlp::rewrite::{Depth, Sight, Verdict, Visitor, kept};
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
const CONTEXTS: [Contexts; 3] = [
    (Signal::Logs, &["log", "scope", "resource"]),
    (Signal::Metrics, &["datapoint", "metric", "scope", "resource"]),
    (Signal::Traces, &["span", "scope", "resource"]),
];

type Contexts = (Signal, &'static [&'static str]);

/// The names of the conditions about one signal, in options and queries.
pub const OPTIONS: [(&str, Signal); 3] =
    [("logs", Signal::Logs), ("spans", Signal::Traces), ("metrics", Signal::Metrics)];

/// What a viewer asks for; all parts must hold. Conditions about signals also select those signals.
#[derive(Clone, Default)]
pub struct Query {
    /// A condition, a trace id or its beginning, a `traceparent`, or nothing.
    pub expression: String,
    pub conditions: Vec<(Signal, String)>,
    /// Words to find in the text of items.
    pub text: String,
}

pub struct Wanted {
    /// The signals that may match.
    signals: Vec<Signal>,
    /// All rules of a signal must hold.
    pub(crate) rules: Vec<Rule>,
    pub(crate) words: Option<Words>,
    /// Bytes that occur in every matching request: those of a trace id.
    needle: Option<Finder<'static>>,
    /// Whether a whole trace matches if one of its items does.
    is_of_traces: bool,
}

pub(crate) struct Rule {
    pub(crate) signal: Signal,
    /// In the syntax of a filter.
    pub(crate) text: String,
    pub(crate) context: &'static str,
    /// Whether the condition names its context itself (`log.body`), as newer configs do.
    pub(crate) is_qualified: bool,
    condition: Condition,
}

/// One request, or what is left of it: pieces of its wire form, and the number of items in them.
type Kept = (SmallVec<[Bytes; 1]>, u64);

impl Wanted {
    /// The wanted items; or the mistaken expression, and its mistake with the conditions that may be meant.
    pub fn of(query: &Query) -> Result<Wanted, (String, Mistake)> {
        let read = |text: &str, contexts: &[Contexts]| {
            Wanted::written(text, contexts).map_err(|mistake| {
                let is_proposed = misjudged(text.trim()).is_none();
                let is_right = |proposal: &str| is_proposed && Wanted::written(proposal, contexts).is_ok();
                (text.to_owned(), Mistake { meant: meant::conditions(text, is_right), ..mistake })
            })
        };
        let mut wanted = read(&query.expression, &CONTEXTS)?;
        wanted.words = Words::read(&query.text);
        if query.conditions.is_empty() {
            return Ok(wanted);
        }
        let mut named = Vec::new();
        for (signal, text) in &query.conditions {
            let contexts = CONTEXTS.iter().filter(|(known, _)| known == signal).copied();
            wanted.rules.extend(read(text, &contexts.collect::<Vec<_>>())?.rules);
            named.push(*signal);
        }
        wanted.signals.retain(|signal| named.contains(signal));
        if wanted.signals.is_empty() {
            let message = "this is about none of the signals that are selected";
            return Err((query.expression.clone(), Mistake::new(&(0..query.expression.len()), message)));
        }
        Ok(wanted)
    }

    /// A condition, a trace id or its beginning, a `traceparent`, or an empty string.
    pub fn read(expression: &str) -> Result<Wanted, Mistake> {
        let query = Query { expression: expression.to_owned(), ..Query::default() };
        Wanted::of(&query).map_err(|(_, mistake)| mistake)
    }

    fn written(expression: &str, of: &[Contexts]) -> Result<Wanted, Mistake> {
        let expression = expression.trim();
        let (mut signals, mut rules) = (Vec::new(), Vec::new());
        if expression.is_empty() {
            signals.extend(of.iter().map(|(signal, _)| *signal));
            return Ok(Wanted { signals, rules, words: None, needle: None, is_of_traces: false });
        }
        let (mut text, mut needle) = (expression.to_owned(), None);
        if let Some((condition, id)) = trace(expression) {
            text = condition;
            needle = Some(Finder::new(&id).into_owned());
        }
        let node = parser::condition(&text).map_err(|mistake| misjudged(expression).unwrap_or(mistake))?;
        let mut hints = Hints::default();
        hints.node(0, &node);
        let mut mistakes = Vec::new();
        for (signal, contexts) in of.iter().copied() {
            match rule(&text, &node, &hints, signal, contexts) {
                Ok(rule) => rules.push(rule),
                Err(mistake) => mistakes.push((hints.known_in(contexts), mistake)),
            }
        }
        // An expression that fits no signal is a mistake; one that fits only some signals is skipped for the others.
        if !rules.is_empty() {
            signals.extend(rules.iter().map(|rule| rule.signal));
            let is_of_traces = needle.is_some() && !text.starts_with("span_id");
            return Ok(Wanted { signals, rules, words: None, needle, is_of_traces });
        }
        let all: Vec<&str> = of.iter().flat_map(|(_, contexts)| contexts.iter().copied()).collect();
        if hints.known_in(&all) == hints.paths() && mistakes.iter().all(|(known, _)| *known < hints.paths()) {
            let message = "a condition is about one signal, and nothing has all that this one names";
            return Err(Mistake::new(&(0..text.len()), message).help(apart(&text, &node)));
        }
        // Report the mistake for the signal that knows most of the expression.
        mistakes.order_by_key(|(known, mistake)| (usize::MAX - known, !mistake.is_guessed));
        let is_nowhere = mistakes.iter().all(|(known, mistake)| *known == 0 && mistake.is_unknown_path);
        let (_, mut mistake) = mistakes.into_iter().next().expect("there are signals, and none has a rule");
        if is_nowhere {
            let written = text.get(mistake.span.clone()).unwrap_or_default();
            let items = match of {
                [(signal, _)] => signal.items_words(),
                _ => "log records, spans or data points",
            };
            mistake.message = format!("{written} is nothing that {items} have");
        }
        Err(mistake)
    }

    /// Whether everything that matches is of traces that match as a whole.
    pub(crate) fn is_of_traces(&self) -> bool {
        self.is_of_traces && self.words.is_none() && self.rules.len() == self.signals.len()
    }

    pub fn wants(&self, signal: Signal) -> bool {
        self.signals.contains(&signal)
    }

    /// Whether a request may match: at most one pass over its bytes.
    pub(super) fn may_be_in<'a>(&self, mut parts: impl Iterator<Item = &'a Bytes>) -> bool {
        self.needle.as_ref().is_none_or(|needle| parts.any(|part| needle.find(part).is_some()))
    }

    /// The wanted part of a request.
    pub fn keep(&self, signal: Signal, parts: &[(Bytes, u32)], now: Now) -> Kept {
        let mut kept = Kept::default();
        for part in parts.iter().filter(|_| self.wants(signal)) {
            let mut rules = self.rules.iter().filter(|rule| rule.signal == signal);
            let found = rules.try_fold(part.clone(), |(bytes, items), rule| rule.keep(&bytes, items, now));
            let found = found.and_then(|(bytes, items)| match &self.words {
                Some(words) => words.keep(signal, &bytes, items),
                None => Some((bytes, items)),
            });
            if let Some((bytes, items)) = found {
                kept.0.push(bytes);
                kept.1 += u64::from(items);
            }
        }
        kept
    }
}

/// Advice for a condition about several signals: each part as a condition of its signal.
fn apart(text: &str, node: &Node) -> String {
    let parts = if let Syntax::Any(parts) = &node.syntax { parts.as_slice() } else { &[] };
    let option = |part: &Node| {
        let part = text.get(part.span.clone())?;
        let [signal] = *Wanted::written(part, &CONTEXTS).ok()?.signals else { return None };
        let (option, _) = OPTIONS.iter().find(|(_, known)| *known == signal)?;
        Some(format!("--{option} {}", in_shell(part)))
    };
    match parts.iter().map(option).collect::<Option<Vec<_>>>() {
        Some(options) if !options.is_empty() => format!("misaki tail {}", options.join(" ")),
        _ => "give each signal its own condition: --logs EXPR --spans EXPR --metrics EXPR".to_owned(),
    }
}

/// Quoted for a shell, where it has to be.
pub(crate) fn in_shell(text: &str) -> String {
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

fn rule(
    text: &str,
    node: &Node,
    hints: &Hints,
    signal: Signal,
    contexts: &'static [&'static str],
) -> Result<Rule, Mistake> {
    let compile = |context| {
        let dialect = Dialect { context, functions: functions::FILTER };
        let condition = compile::condition(node, &dialect)?;
        // A condition that can never be true is useless to a viewer.
        compile::remarks_on_condition(node, &dialect).pop().map_or(Ok(condition), Err)
    };
    let rule = |context, is_qualified| {
        move |condition| Rule { signal, text: text.to_owned(), context, is_qualified, condition }
    };
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
        kept(self.signal, bytes, items, arena.room(), &mut sieve)
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
