//! The summary of a request: missing parts, bottleneck, failures. It stands above the rows, and once more in
//! one line below them, because a terminal shows the end first.

use std::collections::{HashMap, HashSet};

use super::{Drawing, Request, Why, named};
use crate::diagnostics::columns::counted;
use crate::exporters::debug::layout::{Layout, Tone, duration, pair};
use crate::exporters::debug::tree::{CLIENT, SERVER, Tree, Work};
use crate::order::Ordered;
use crate::otlp::hex;

/// Maximum failures named.
const FAILURES: usize = 3;

pub(crate) struct Summary {
    pub(crate) title: String,
    /// Why this is not the whole request. Then no bottleneck is named.
    pub(crate) partial: Option<String>,
    pub(crate) notes: Vec<String>,
    pub(crate) bottleneck: Option<String>,
    pub(crate) after: Option<String>,
    /// Equal ones once, with their number.
    pub(crate) failures: Vec<String>,
    /// The number of failures beyond [`FAILURES`].
    pub(crate) more: usize,
}

impl Summary {
    /// With the number of spans that came twice, and of logs whose span is not here.
    pub(super) fn of(tree: &Tree, request: &Request, twice: usize, lost: usize, layout: Layout) -> Summary {
        let partial = partial(tree, request, lost);
        let is_whole = partial.is_none();
        let work = |work: Option<usize>| tree.works.get(work?).filter(|_| is_whole);
        let (failures, more) = failures(tree);
        let [spans, logs] = request.again.unwrap_or_default();
        let came: Vec<_> = [(spans, "span"), (logs, "log")].into_iter().filter(|(count, _)| *count > 0).collect();
        let came: Vec<_> = came.into_iter().map(|(count, word)| counted(count, word)).collect();
        let notes = [
            (request.again.is_some(), format!("again: {} came since it was printed", came.join(" and "))),
            (request.why == Why::Full, "printed early: too much is waiting".to_owned()),
            (twice > 0, format!("{} came twice", counted(twice, "span"))),
        ];
        Summary {
            title: title(tree, &request.trace, layout),
            partial,
            notes: notes.into_iter().filter(|(applies, _)| *applies).map(|(_, note)| note).collect(),
            bottleneck: work(tree.bottleneck).map(|work| bottleneck(tree, work)),
            after: work(tree.after).map(|work| after(tree, work)),
            failures,
            more,
        }
    }

    /// Whether there is nothing to remark about how it came.
    pub(super) fn is_plain(&self) -> bool {
        self.partial.is_none() && self.notes.is_empty()
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.partial.is_none()
    }

    /// What explains a failure or the time in a few words: the first failure, else what is missing, else the bottleneck.
    pub(crate) fn culprit(&self) -> Option<String> {
        let failure = self.failures.first().map(|failure| format!("✗ {failure}"));
        failure.or_else(|| self.partial.clone()).or_else(|| Some(format!("> {}", self.bottleneck.as_ref()?)))
    }

    pub(crate) fn has_failures(&self) -> bool {
        !self.failures.is_empty()
    }
}

fn title(tree: &Tree, trace: &[u8], layout: Layout) -> String {
    let mut id = Vec::new();
    hex::put(trace, &mut id);
    let services = tree.spans.iter().map(|span| &span.service).collect::<HashSet<_>>().len();
    let (time, id) = (layout.time(tree.at(tree.main).0.start), String::from_utf8_lossy(&id));
    format!("── {time}  trace {id}  {}, {}", counted(tree.spans.len(), "span"), counted(services, "service"))
}

/// `partial: its root span has not arrived`
fn partial(tree: &Tree, request: &Request, lost: usize) -> Option<String> {
    let (is_late, absent) = (request.is_late, request.absent.words());
    let has_root = tree.spans.iter().any(|span| span.parent == 0);
    let reasons = [
        (is_late, "came after the rest of its trace was printed".to_owned()),
        (!has_root && !is_late, format!("its root span {absent}")),
        (tree.orphans > 0 && (has_root || tree.orphans > 1), {
            format!("{} of a parent that {absent}", counted(tree.orphans, "span"))
        }),
        (request.unserved > 0 && !is_late, { format!("{} whose server {absent}", counted(request.unserved, "call")) }),
        (request.has_gap, "some of that time was not kept: too much came at once".to_owned()),
        (lost > 0, format!("{} of a span that {absent}", counted(lost, "log"))),
    ];
    let reasons: Vec<_> = reasons.into_iter().filter(|(applies, _)| *applies).map(|(_, reason)| reason).collect();
    (!reasons.is_empty()).then(|| format!("partial: {}", reasons.join("; ")))
}

/// The spans of a work, named: `×70 cart SELECT cart_item`.
fn spans(tree: &Tree, work: &Work) -> String {
    if work.spans == 1 {
        return named(tree, &[work.first]);
    }
    let work_of = |at: usize| tree.at(at).1.work;
    let is_part = |at: &usize| work_of(*at) == work_of(work.first);
    let spans: Vec<usize> = tree.order.iter().copied().filter(is_part).collect();
    format!("×{} {}", work.spans, named(tree, &spans))
}

/// `external-api POST /charge, 180 of payment's 200 ms, 59 %`
fn bottleneck(tree: &Tree, work: &Work) -> String {
    let all = u128::from(tree.at(tree.main).1.duration());
    let percent = (u128::from(work.path) * 100 + all / 2).checked_div(all).unwrap_or_default();
    format!("{}, {} %", share(tree, work), percent.min(999))
}

/// `another 122 ms; bottleneck: notify SMTP send, 121 ms`
fn after(tree: &Tree, work: &Work) -> String {
    let more = tree.end.saturating_sub(tree.at(tree.main).1.end);
    let more = if more > 0 { format!("another {}; ", duration(more)) } else { String::new() };
    format!("{more}bottleneck: {}", share(tree, work))
}

/// `external-api POST /charge, 180 of payment's 200 ms`: the time of a work, as a part of its parent's or of its own, or
/// of the whole request.
fn share(tree: &Tree, work: &Work) -> String {
    let (name, (span, node), (_, root)) = (spans(tree, work), tree.at(work.first), tree.at(tree.main));
    let parent = node.parent.filter(|parent| *parent != tree.main).map(|parent| tree.at(parent));
    let of = match parent {
        _ if work.spans > 1 && node.is_after => format!(", {}", duration(work.path)),
        _ if work.spans > 1 => format!(", {}", pair(work.path, " of ", root.duration())),
        // It waited for others, too.
        _ if node.own < node.duration() => {
            let its = if work.first == tree.main { "" } else { "its " };
            format!(" itself, {}", pair(work.path, &format!(" of {its}"), node.duration()))
        }
        Some((_, above)) if duration(above.duration()) == duration(work.path) => format!(", {}", duration(work.path)),
        Some((parent, above)) if !node.is_detached => {
            let owner = if parent.service == span.service { &parent.name } else { &*parent.service };
            let possessive = if owner.ends_with('s') { "'" } else { "'s" };
            format!(", {}", pair(work.path, &format!(" of {owner}{possessive} "), above.duration()))
        }
        _ if node.is_after => format!(", {}", duration(work.path)),
        _ => format!(", {}", pair(work.path, " of ", root.duration())),
    };
    format!("{name}{of}")
}

/// The failures that no failed child explains, equal ones counted, and the number of those beyond the limit.
fn failures(tree: &Tree) -> (Vec<String>, usize) {
    let is_failed = |at: usize| tree.at(at).0.failure.is_some();
    // A server may answer a failure without having failed itself: then what failed below it explains the call.
    let explains = |call: usize, child: usize| {
        let (span, node) = tree.at(child);
        let answers = tree.at(call).0.kind == CLIENT && span.kind == SERVER;
        let is_below =
            || answers && node.children.iter().any(|below| is_failed(*below) && !tree.at(*below).1.is_detached);
        !node.is_detached && (span.failure.is_some() || is_below())
    };
    let is_origin =
        |at: &&usize| is_failed(**at) && !tree.at(**at).1.children.iter().any(|child| explains(**at, *child));
    let mut index: HashMap<(String, &str, bool), usize> = HashMap::new();
    // The first of each, and their number.
    let mut groups: Vec<(usize, usize)> = Vec::new();
    for at in tree.order.iter().filter(is_origin).copied() {
        let (span, node) = tree.at(at);
        let message = span.failure.as_deref().unwrap_or_default();
        let group = *index.entry((named(tree, &[at]), message, node.is_after)).or_insert(groups.len());
        match groups.get_mut(group) {
            Some((_, count)) => *count += 1,
            None => groups.push((at, 1)),
        }
    }
    // Failures that the client saw come first.
    groups.order_by_key(|(at, _)| tree.at(*at).1.is_after);
    let more = groups.iter().skip(FAILURES).map(|(_, count)| count).sum();
    let text = |(at, count): &(usize, usize)| {
        let (span, node) = tree.at(*at);
        let message = span.failure.as_deref().filter(|message| !message.is_empty());
        let message = message.map_or_else(String::new, |message| format!(": {message}"));
        let times = if *count > 1 { format!("×{count} ") } else { String::new() };
        let when = if node.is_after { " (after the answer)" } else { "" };
        format!("{times}{}{when}{message}", named(tree, &[*at]))
    };
    (groups.iter().take(FAILURES).map(text).collect(), more)
}

impl Drawing<'_, '_> {
    /// Writes the title, and all that is to be said before the rows.
    pub(super) fn head(&mut self, summary: &Summary) {
        let Summary { title, partial, notes, bottleneck, after, failures, more } = summary;
        self.line(Tone::Strong, title);
        partial.iter().chain(notes).for_each(|note| self.say(Tone::Warning, " ! ", note));
        bottleneck.iter().for_each(|text| self.say(Tone::Strong, " > ", &format!("bottleneck: {text}")));
        failures.iter().for_each(|text| self.say(Tone::Bad, " ✗ ", &format!("failed: {text}")));
        if *more > 0 {
            self.say(Tone::Bad, " ✗ ", &format!("failed: {more} more"));
        }
        after.iter().for_each(|text| self.say(Tone::Faint, " + ", &format!("after the answer: {text}")));
    }

    /// Repeats it after the rows.
    pub(super) fn foot(&mut self, summary: &Summary) {
        let Summary { partial, bottleneck, failures, more, .. } = summary;
        let mut said: Vec<String> = partial.iter().cloned().collect();
        said.extend(failures.iter().map(|text| format!("✗ {text}")));
        if *more > 0 {
            said.push(format!("✗ {more} more"));
        }
        said.extend(bottleneck.iter().map(|text| format!("bottleneck: {text}")));
        if !said.is_empty() {
            self.say(Tone::Strong, "── ", &said.join(" · "));
        }
    }
}
