//! Draws a request: what it comes to (`summary`), then a row for each span with its numbers, and below it its logs.

mod list;
mod logs;
mod remarks;
mod summary;

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use super::call::{common_answer, common_path};
use super::layout::{LONGEST, Layout, Tone, column, cut, duration, right, width};
use super::line::{self, Line, failed};
use super::requests::Absent;
use super::tree::{Link, Row, Span, Tree};
use crate::diagnostics::columns::{counted, hanging};
use crate::order::Ordered;
use crate::otlp::hex;
use crate::otlp::pieces::Pieces;
pub(crate) use list::List;
pub(crate) use logs::Placed;
pub(crate) use remarks::Remarks;
pub(crate) use summary::Summary;

/// The widths of the columns with `180 ms` and `100 %`.
const NUMBER: usize = 9;
const SHARE: usize = 6;
const CRITICAL: &str = " * on the critical path";
/// The width of the marks before a row.
const MARGIN: usize = 3;

/// Why a request is drawn now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// It is complete, or its time is over.
    Due(Instant),
    /// The exporter shuts down.
    End,
    /// Too much is held.
    Full,
}

pub(crate) struct Log {
    /// The span id; 0 if it is unset.
    pub(crate) span: u64,
    pub(crate) line: Line,
}

/// A trace that is drawn.
pub(crate) struct Request {
    pub(crate) trace: [u8; 16],
    pub(crate) why: Why,
    /// The number of spans and logs that came since it was printed, if it was.
    pub(crate) again: Option<[usize; 2]>,
    /// These items came after the request was printed and forgotten.
    pub(crate) is_late: bool,
    /// Something around its items was not kept.
    pub(crate) has_gap: bool,
    /// The number of calls whose server is not here, though it usually is.
    pub(crate) unserved: usize,
    pub(crate) absent: Absent,
}

/// What a request comes to.
pub(crate) struct Told<'a> {
    pub(crate) tree: Tree<'a>,
    pub(crate) summary: Summary,
    /// By time.
    pub(crate) logs: &'a [Log],
    pub(crate) placed: Placed<'a>,
}

impl Request {
    /// Sorts the logs, and removes spans that came twice; there must be a span.
    pub(crate) fn tell<'a>(&self, spans: &'a mut Vec<Span>, logs: &'a mut [Log], layout: Layout) -> Told<'a> {
        logs.order_by_key(|log| log.line.time);
        let mut seen = HashSet::new();
        let given = spans.len();
        spans.retain(|span| seen.insert((span.id, span.start, span.end)));
        let twice = given - spans.len();
        let logs: &[Log] = logs;
        let placed = Placed::of(spans, logs);
        spans.iter_mut().for_each(|span| span.notable = placed.is_notable(span.id));
        let tree = Tree::build(spans, !layout.unfold);
        let summary = Summary::of(&tree, self, twice, placed.lost, layout);
        Told { tree, summary, logs, placed }
    }

    /// Draws its spans and logs, or a line in a list.
    pub(super) fn draw(
        &self,
        spans: &mut Vec<Span>,
        logs: &mut [Log],
        layout: Layout,
        list: Option<&mut List>,
        to: &mut Pieces,
    ) {
        if spans.is_empty() {
            logs.order_by_key(|log| log.line.time);
            let shown = if list.is_none() { &logs[..] } else { &[] };
            return shown.iter().for_each(|log| _ = log.line.put(layout, to));
        }
        let Told { tree, summary, logs, mut placed } = self.tell(spans, logs, layout);
        if let Some(list) = list {
            return list.put(&tree, &summary, &self.trace, layout, to);
        }
        if summary.is_plain() && (tree.spans.len() == 1 || is_probe(&tree, &placed)) {
            let hidden = if tree.spans.len() > 1 { logs.len() } else { 0 };
            brief(&tree, &self.trace, hidden).put(layout, to);
            if let Some(link) = &tree.at(tree.main).0.link {
                let text = format!("{}{}", " ".repeat(layout.time_columns() + 1), linked(link));
                layout.put(to.out, Tone::Faint, &layout.cut(&text));
                to.out.push(b'\n');
            }
            let shown = if tree.spans.len() == 1 { logs } else { &[] };
            return shown.iter().for_each(|log| _ = log.line.put(layout, to));
        }
        let homeless = std::mem::take(&mut placed.homeless);
        let (is_whole, tells_logs) = (summary.is_whole(), !summary.has_failures());
        let mut drawing = Drawing { layout, tree: &tree, to, is_whole, tells_logs };
        drawing.head(&summary);
        drawing.rows(&mut placed.below);
        drawing.homeless(&homeless);
        drawing.foot(&summary);
        to.out.push(b'\n');
    }
}

/// Whether a request is a health check at which nothing is remarkable.
fn is_probe(tree: &Tree, logs: &Placed) -> bool {
    let is_fine = |span: &Span| span.failure.is_none() && !span.notable;
    tree.at(tree.main).0.is_probe && tree.spans.iter().all(is_fine) && logs.homeless.is_empty()
}

/// A request in one line.
fn brief(tree: &Tree, trace: &[u8], hidden_logs: usize) -> Line {
    let (span, node) = tree.at(tree.main);
    let mut text = words(tree, &[tree.main], usize::MAX);
    text.push_str(&format!("  {}", duration(node.duration())));
    if let Some(message) = &span.failure {
        text.push_str(&format!("  {}", failed(message).trim_start_matches("✗ ")));
    }
    let hidden = [(tree.spans.len() - 1, "span"), (hidden_logs, "log")];
    let hidden: Vec<_> = hidden.into_iter().filter(|(count, _)| *count > 0).collect();
    let hidden: Vec<_> = hidden.into_iter().map(|(count, word)| counted(count, word)).collect();
    if !hidden.is_empty() {
        text.push_str(&format!("  +{}", hidden.join(", ")));
    }
    let is_failed = span.failure.is_some();
    Line {
        time: span.start,
        kind: line::kind(span.kind, is_failed).into(),
        tone: if is_failed { Tone::Bad } else { Tone::Plain },
        service: span.service.clone(),
        words: text.into(),
        trace: line::short(trace),
    }
}

struct Drawing<'a, 'p> {
    layout: Layout,
    tree: &'a Tree<'a>,
    to: &'a mut Pieces<'p>,
    is_whole: bool,
    /// Whether errors are known from logs only, which are then not cut.
    tells_logs: bool,
}

/// The widths of the columns.
struct Columns {
    tree: usize,
    service: usize,
    /// 0 on narrow terminals, which show no bars.
    bar: usize,
}

impl Columns {
    /// The services' column may use the width that no span's name needs.
    fn of(layout: Layout, tree: &Tree) -> Columns {
        let (service, bar) = if layout.width < 120 { (14, 0) } else { (20, (layout.width - 96) / 2) };
        let gap = usize::from(bar > 0);
        let both = layout.width.saturating_sub(MARGIN + 1 + 2 * NUMBER + SHARE + gap + bar);
        let rows = || tree.rows.iter().filter(|row| !row.is_heading);
        let name = |row: &Row| match row.spans.as_slice() {
            [span] => 2 * row.depth + width(&words(tree, &[*span], usize::MAX)),
            // Such a row also shows a count and durations.
            _ => both,
        };
        let longest = rows().map(name).max().unwrap_or_default().max(CRITICAL.len() - MARGIN);
        let wanted = rows().map(|row| width(&tree.at(row.first()).0.service)).max().unwrap_or_default();
        let service = wanted.clamp(service, service.max(both.saturating_sub(longest)));
        let tree = both.saturating_sub(service);
        let tree = if layout.is_cut { tree } else { tree.max(longest.min(LONGEST / 4)) };
        Columns { tree, service, bar }
    }
}

impl Drawing<'_, '_> {
    fn rows(&mut self, logs: &mut HashMap<u64, Vec<&Log>>) {
        let columns = Columns::of(self.layout, self.tree);
        let tree = column(CRITICAL, MARGIN + columns.tree);
        let numbers = format!("{}{}{}", right("total", NUMBER), right("own", NUMBER), right("share", SHARE));
        self.line(Tone::Faint, &format!("{tree} {}{numbers}", column("service", columns.service)));
        // For each depth above the current row: whether a sibling follows there.
        let mut open = Vec::new();
        for (index, row) in self.tree.rows.iter().enumerate() {
            open.truncate(row.depth.saturating_sub(1));
            let branch = if row.last { "└ " } else { "├ " };
            let prefix = format!("{}{}", indent(&open, columns.tree), if row.depth > 0 { branch } else { "" });
            match row.is_heading {
                true => self.heading(row, &prefix),
                false => self.row(row, &prefix, &columns, logs),
            }
            if row.depth > 0 {
                open.push(!row.last);
            }
            if !row.is_heading {
                let is_parent = self.tree.rows.get(index + 1).is_some_and(|next| next.depth > row.depth);
                let below = format!("{}{}", indent(&open, columns.tree), if is_parent { "│ " } else { "  " });
                self.details(row, &below, logs);
            }
        }
    }

    fn line(&mut self, tone: Tone, text: &str) {
        self.layout.put(self.to.out, tone, &self.layout.cut(text.trim_end()));
        self.to.out.push(b'\n');
        self.to.breathe();
    }

    /// Writes a text in full, over several lines if necessary.
    fn say(&mut self, tone: Tone, head: &str, text: &str) {
        for line in hanging(head, text, self.layout.longest()).lines() {
            self.line(tone, line);
        }
    }

    /// Writes the line above spans that their parent did not wait for.
    fn heading(&mut self, row: &Row, prefix: &str) {
        self.line(Tone::Faint, &format!("{}{prefix}{}", " ".repeat(MARGIN), self.tree.heading(row)));
    }

    fn row(&mut self, row: &Row, prefix: &str, columns: &Columns, logs: &mut HashMap<u64, Vec<&Log>>) {
        let (span, node) = self.tree.at(row.first());
        let mark = self.tree.mark(row, self.is_whole);
        let second = match &span.failure {
            Some(_) => '✗',
            None if !self.tree.remarks(row).times.is_empty() => '~',
            None => ' ',
        };
        let tone = if span.failure.is_some() { Tone::Bad } else { Tone::Plain };
        let left = columns.tree.saturating_sub(width(prefix));
        let name = match row.spans.as_slice() {
            [span] => words(self.tree, &[*span], left),
            _ => self.folded(row, left, logs),
        };
        let name = column(&format!("{prefix}{name}"), columns.tree);
        self.layout.put(
            self.to.out,
            tone,
            &format!("{mark}{second} {name} {}", column(&span.service, columns.service)),
        );
        // What goes on after the answer is no part of its time.
        let share = if node.is_after { String::new() } else { self.tree.share(row.total) };
        let numbers = [(duration(row.total), NUMBER), (duration(row.own), NUMBER), (share, SHARE)];
        let numbers: String = numbers.iter().map(|(number, columns)| right(number, *columns)).collect();
        self.to.out.extend_from_slice(numbers.as_bytes());
        if columns.bar > 0 {
            let bar = self.bar(row, columns.bar, if self.tree.is_waited_for(row) { '█' } else { '░' });
            self.to.out.extend_from_slice(format!(" {}", bar.trim_end()).as_bytes());
        }
        while self.to.out.last() == Some(&b' ') {
            self.to.out.pop();
        }
        self.to.out.push(b'\n');
    }

    /// `×12 database.query 3–9 ms +5 logs`: the count, the name, the durations, and the number of hidden logs.
    fn folded(&self, row: &Row, columns: usize, logs: &mut HashMap<u64, Vec<&Log>>) -> String {
        let range = self.tree.range(row);
        let spans = row.spans.iter().map(|at| self.tree.at(*at).0);
        let hidden: usize = spans.filter_map(|span| logs.remove(&span.id)).map(|logs| logs.len()).sum();
        let hidden = if hidden > 0 { format!(" +{}", counted(hidden, "log")) } else { String::new() };
        let (before, after) = (format!("×{} ", row.spans.len()), format!(" {range}{hidden}"));
        let left = columns.saturating_sub(width(&before) + width(&after));
        format!("{before}{}{after}", words(self.tree, &row.spans, left.max(8)))
    }

    /// The times of a row's spans, on the scale of the main root; at most as much again after its end.
    fn bar(&self, row: &Row, cells: usize, sign: char) -> String {
        let mut bar = vec![' '; cells];
        let (_, root) = self.tree.at(self.tree.main);
        let end = self.tree.drawn_end();
        let all = u128::from(end.saturating_sub(root.start).max(1));
        let cell = |time: u64| (u128::from(time.clamp(root.start, end) - root.start) * cells as u128 / all) as usize;
        for at in &row.spans {
            let (_, node) = self.tree.at(*at);
            let start = cell(node.start).min(cells.saturating_sub(1));
            let end = cell(node.end).max(start + 1).min(cells);
            bar.get_mut(start..end).into_iter().for_each(|cells| cells.fill(sign));
        }
        bar.into_iter().collect()
    }

    /// Writes the lines below a row: the spans' failure, remarks on their times, and the logs of a single one.
    fn details(&mut self, row: &Row, prefix: &str, logs: &mut HashMap<u64, Vec<&Log>>) {
        let span = self.tree.at(row.first()).0;
        let prefix = format!("{}{prefix}", " ".repeat(MARGIN));
        let Remarks { failure, times, link } = self.tree.remarks(row);
        failure.iter().for_each(|text| self.line(Tone::Bad, &format!("{prefix}{text}")));
        times.iter().for_each(|text| self.line(Tone::Warning, &format!("{prefix}~ {text}")));
        link.iter().for_each(|link| self.line(Tone::Faint, &format!("{prefix}{}", linked(link))));
        let logs = match row.spans.as_slice() {
            [_] => logs.remove(&span.id).unwrap_or_default(),
            _ => Vec::new(),
        };
        for log in logs {
            self.log(log, &prefix, "");
        }
    }

    fn log(&mut self, log: &Log, prefix: &str, service: &str) {
        let Line { time, kind, tone, words, .. } = &log.line;
        let head = format!("{prefix}{} {} {service}", self.layout.clock(*time), column(kind, 5));
        // A text in full needs some room beside the lines of the tree.
        let has_room = width(&head) + 24 <= self.layout.width;
        match self.tells_logs && *tone == Tone::Bad && has_room {
            true => self.say(*tone, &head, words),
            false => self.line(*tone, &format!("{head}{words}")),
        }
    }

    /// Writes the logs whose span is not here.
    fn homeless(&mut self, logs: &[&Log]) {
        for log in logs {
            let service = &log.line.service;
            let service = if &**service == "-" { String::new() } else { format!("{service}: ") };
            self.log(log, &" ".repeat(MARGIN), &service);
        }
    }
}

/// `→ linked to trace 4b4b…`
pub(crate) fn linked(link: &Link) -> String {
    let mut id = Vec::new();
    match link.is_own {
        true => hex::put(&link.span.to_be_bytes(), &mut id),
        false => hex::put(&link.trace, &mut id),
    }
    let to = if link.is_own { "span" } else { "trace" };
    let more = if link.more > 0 { format!(", and {} more", link.more) } else { String::new() };
    format!("→ linked to {to} {}{more}", String::from_utf8_lossy(&id))
}

/// The words for spans that are the same work, in at most this many columns: a call with where it went and the answer,
/// which is never cut, or the name.
pub(crate) fn words(tree: &Tree, spans: &[usize], columns: usize) -> String {
    let Some(first) = spans.first() else { return String::new() };
    let (span, _) = tree.at(*first);
    let Some(call) = &span.call else { return cut(&span.name, columns) };
    let calls = || spans.iter().filter_map(|at| tree.at(*at).0.call.as_deref());
    let (path, answer) = match spans {
        [_] => (call.path.to_string(), call.answer.to_string()),
        _ => (common_path(calls().map(|call| &*call.path)), common_answer(calls().map(|call| &*call.answer))),
    };
    let text = call.words(&span.name, tree.peer(*first).map(|peer| &*peer.service), &path);
    if answer.is_empty() {
        return cut(&text, columns);
    }
    format!("{} {answer}", cut(&text, columns.saturating_sub(1 + width(&answer))))
}

/// The service and the words: `payment charge`.
pub(crate) fn named(tree: &Tree, spans: &[usize]) -> String {
    let words = words(tree, spans, usize::MAX);
    match spans.first().map(|at| &tree.at(*at).0.service) {
        Some(service) if &**service != "-" => format!("{service} {words}"),
        _ => words,
    }
}

/// The lines that connect rows above with rows below. A deep tree shows only the innermost ones, in at most half of its
/// columns.
fn indent(open: &[bool], columns: usize) -> String {
    let most = columns / 4;
    let skipped = open.len().saturating_sub(most);
    let levels = open.iter().skip(skipped).map(|follows| if *follows { "│ " } else { "  " });
    let dots = if skipped > 0 { "… " } else { "" };
    format!("{dots}{}", levels.collect::<String>())
}
