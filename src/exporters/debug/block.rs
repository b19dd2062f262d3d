//! Draws a request: its bottleneck and its failures, then a row for each span with its numbers, and below it its logs.

use std::collections::{HashMap, HashSet};

use super::layout::{Layout, Tone, column, cut, duration, pair, right, time_of_day, width};
use super::line::{Line, failed};
use super::tree::{Node, Row, Span, Tree};
use crate::diagnostics::columns::counted;
use crate::otlp::hex;
use crate::otlp::pieces::Pieces;

/// Maximum failures named above the rows.
const FAILURES: usize = 3;
/// The widths of the columns with `180 ms` and `100 %`.
const NUMBER: usize = 9;
const SHARE: usize = 6;
const CRITICAL: &str = " * on the critical path";
/// The width of the marks before a row.
const MARGIN: usize = 3;

/// Why a request is drawn now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is complete, its time is over, or the exporter shuts down.
    Due,
    /// Too much is waiting.
    Full,
    /// These items came after the request was printed.
    Late,
}

pub struct Log {
    /// The span id; 0 if it is unset.
    pub span: u64,
    pub line: Line,
}

/// The spans and logs of a trace.
pub struct Request {
    pub trace: [u8; 16],
    pub spans: Vec<Span>,
    pub logs: Vec<Log>,
    pub why: Why,
}

impl Request {
    pub fn draw(mut self, layout: Layout, to: &mut Pieces) {
        self.logs.sort_by_key(|log| log.line.time);
        let mut seen = HashSet::new();
        let given = self.spans.len();
        self.spans.retain(|span| seen.insert((span.id, span.start, span.end)));
        let twice = given - self.spans.len();
        let mut logs: HashMap<u64, Vec<&Log>> = HashMap::new();
        for log in &self.logs {
            logs.entry(log.span).or_default().push(log);
        }
        for span in &mut self.spans {
            let is_notable = |log: &&Log| matches!(log.line.tone, Tone::Warning | Tone::Bad);
            span.notable = logs.get(&span.id).is_some_and(|logs| logs.iter().any(is_notable));
        }
        if !self.spans.is_empty() {
            let tree = Tree::build(&self.spans);
            Drawing { layout, tree: &tree, to }.draw(&self.trace, self.why, twice, &mut logs);
        }
        // Logs whose span is not here.
        for log in self.logs.iter().filter(|log| logs.contains_key(&log.span)) {
            log.line.put(layout, to);
        }
        if !self.spans.is_empty() {
            to.out.push(b'\n');
        }
    }
}

struct Drawing<'a, 'p> {
    layout: Layout,
    tree: &'a Tree<'a>,
    to: &'a mut Pieces<'p>,
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
        let rows = || tree.rows.iter().map(|row| (row, tree.at(row.span).0));
        let name = |(row, span): (&Row, &Span)| match row.folded.is_empty() {
            true => 2 * row.depth + width(&span.name),
            // Such a row also shows a count and durations.
            false => both,
        };
        let longest = rows().map(name).max().unwrap_or_default().max(CRITICAL.len() - MARGIN);
        let wanted = rows().map(|(_, span)| width(&span.service)).max().unwrap_or_default();
        let service = wanted.clamp(service, service.max(both.saturating_sub(longest)));
        Columns { tree: both.saturating_sub(service), service, bar }
    }
}

impl Drawing<'_, '_> {
    fn draw(&mut self, trace: &[u8], why: Why, twice: usize, logs: &mut HashMap<u64, Vec<&Log>>) {
        self.head(trace, why, twice);
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
            self.row(index, row, &prefix, &columns, logs);
            if row.depth > 0 {
                open.push(!row.last);
            }
            if row.folded.is_empty() {
                let is_parent = self.tree.rows.get(index + 1).is_some_and(|next| next.depth > row.depth);
                let below = format!("{}{}", indent(&open, columns.tree), if is_parent { "│ " } else { "  " });
                self.details(row, &below, logs);
            }
        }
    }

    fn line(&mut self, tone: Tone, text: &str) {
        self.layout.put(self.to.out, tone, cut(text.trim_end(), self.layout.width).as_str());
        self.to.out.push(b'\n');
        self.to.breathe();
    }

    /// Writes the title, notes about missing spans, the bottleneck, and the failures.
    fn head(&mut self, trace: &[u8], why: Why, twice: usize) {
        let (spans, tree) = (self.tree.spans, self.tree);
        let mut id = Vec::new();
        hex::put(trace, &mut id);
        let services = spans.iter().map(|span| &span.service).collect::<HashSet<_>>().len();
        let (time, id) = (time_of_day(tree.at(tree.main).0.start), String::from_utf8_lossy(&id));
        let (spans_words, services) = (counted(spans.len(), "span"), counted(services, "service"));
        self.line(Tone::Strong, &format!("── {time}  trace {id}  {spans_words}, {services}"));
        let has_root = spans.iter().any(|span| span.parent == 0);
        let notes = [
            (why == Why::Full, "printed early: too much is waiting".to_owned()),
            (why == Why::Late, "came after the rest of its trace was printed".to_owned()),
            (!has_root && why != Why::Late, "its root span has not arrived".to_owned()),
            (tree.orphans > 0 && (has_root || tree.orphans > 1), {
                format!("{} of a parent that has not arrived", counted(tree.orphans, "span"))
            }),
            (twice > 0, format!("{} came twice", counted(twice, "span"))),
        ];
        for (_, note) in notes.iter().filter(|(applies, _)| *applies) {
            self.line(Tone::Warning, &format!(" ! {note}"));
        }
        if let Some(row) = tree.bottleneck.and_then(|row| tree.rows.get(row)) {
            let text = self.bottleneck(row);
            self.line(Tone::Strong, &format!(" > bottleneck: {text}"));
        }
        let is_failed = |at: &usize| tree.at(*at).0.failure.is_some();
        let is_origin = |at: &&usize| is_failed(at) && !tree.at(**at).1.children.iter().any(is_failed);
        let origins: Vec<&Span> = tree.order.iter().filter(is_origin).map(|at| tree.at(*at).0).collect();
        for span in origins.iter().take(FAILURES) {
            let message = span.failure.as_deref().filter(|message| !message.is_empty());
            let message = message.map_or_else(String::new, |message| format!(": {message}"));
            self.line(Tone::Bad, &format!(" ✗ failed: {}{message}", named(span)));
        }
        if origins.len() > FAILURES {
            self.line(Tone::Bad, &format!(" ✗ failed: {} more", origins.len() - FAILURES));
        }
    }

    /// `external-api POST /charge, 180 of payment's 200 ms, 59 %`
    fn bottleneck(&self, row: &Row) -> String {
        let (span, node) = self.tree.at(row.span);
        let times = if row.folded.is_empty() { String::new() } else { format!("×{} ", row.folded.len()) };
        let of = match node.parent.map(|parent| self.tree.at(parent)) {
            Some((_, node)) if row.path > node.duration() => duration(row.path),
            Some((parent, node)) => {
                let owner = if parent.service == span.service { &parent.name } else { &*parent.service };
                pair(row.path, &format!(" of {owner}'s "), node.duration())
            }
            None => pair(row.path, " of its own ", row.total),
        };
        let share = self.share(row.path);
        let comma = if share.is_empty() { "" } else { ", " };
        format!("{times}{}, {of}{comma}{share}", named(span))
    }

    /// The part of the request's time in percent; empty for a request without duration.
    fn share(&self, nanos: u64) -> String {
        let all = u128::from(self.tree.at(self.tree.main).1.extent());
        let percent = (u128::from(nanos) * 100 + all / 2).checked_div(all);
        percent.map_or_else(String::new, |percent| format!("{} %", percent.min(999)))
    }

    fn row(&mut self, index: usize, row: &Row, prefix: &str, columns: &Columns, logs: &mut HashMap<u64, Vec<&Log>>) {
        let (span, node) = self.tree.at(row.span);
        let waited_for = if row.folded.is_empty() { node.path_below } else { row.path };
        let mark = match waited_for {
            _ if self.tree.bottleneck == Some(index) => '>',
            0 => ' ',
            _ => '*',
        };
        let second = match &span.failure {
            Some(_) => '✗',
            None if node.moved != 0 || self.outlasts(node).is_some() => '~',
            None => ' ',
        };
        let tone = if span.failure.is_some() { Tone::Bad } else { Tone::Plain };
        let name = match row.folded.is_empty() {
            true => span.name.to_string(),
            false => self.folded(row, columns.tree.saturating_sub(width(prefix)), logs),
        };
        let name = column(&format!("{prefix}{name}"), columns.tree);
        self.layout.put(
            self.to.out,
            tone,
            &format!("{mark}{second} {name} {}", column(&span.service, columns.service)),
        );
        let numbers = [(duration(row.total), NUMBER), (duration(row.own), NUMBER), (self.share(row.total), SHARE)];
        let numbers: String = numbers.iter().map(|(number, columns)| right(number, *columns)).collect();
        self.to.out.extend_from_slice(numbers.as_bytes());
        if columns.bar > 0 {
            let bar = self.bar(row, columns.bar, if waited_for > 0 { '█' } else { '░' });
            self.to.out.extend_from_slice(format!(" {}", bar.trim_end()).as_bytes());
            while self.to.out.last() == Some(&b' ') {
                self.to.out.pop();
            }
        }
        self.to.out.push(b'\n');
    }

    /// `×12 database.query 3–9 ms +24 spans`: the count, the name, the durations, and the number of hidden items.
    fn folded(&self, row: &Row, columns: usize, logs: &mut HashMap<u64, Vec<&Log>>) -> String {
        let nodes = || row.folded.iter().map(|at| self.tree.at(*at).1);
        let shortest = nodes().map(|node| node.duration()).min().unwrap_or_default();
        let longest = nodes().map(|node| node.duration()).max().unwrap_or_default();
        let range = match duration(shortest) == duration(longest) {
            true => duration(longest),
            false => pair(shortest, "–", longest),
        };
        let mut hidden_logs = 0;
        let mut stack = row.folded.clone();
        while let Some(at) = stack.pop() {
            let (span, node) = self.tree.at(at);
            hidden_logs += logs.remove(&span.id).map_or(0, |logs| logs.len());
            stack.extend(&node.children);
        }
        let below: usize = nodes().map(|node| node.below).sum();
        let hidden = match (below, hidden_logs) {
            (0, 0) => String::new(),
            (_, 0) => format!(" +{}", counted(below, "span")),
            (0, _) => format!(" +{}", counted(hidden_logs, "log")),
            _ => format!(" +{}, {}", counted(below, "span"), counted(hidden_logs, "log")),
        };
        let (before, after) = (format!("×{} ", row.folded.len()), format!(" {range}{hidden}"));
        let name = &self.tree.at(row.span).0.name;
        let left = columns.saturating_sub(width(&before) + width(&after));
        format!("{before}{}{after}", cut(name, left.max(8)))
    }

    /// The times of a row's spans, on the scale of the main root.
    fn bar(&self, row: &Row, cells: usize, sign: char) -> String {
        let mut bar = vec![' '; cells];
        let (_, root) = self.tree.at(self.tree.main);
        let all = u128::from(root.extent().max(1));
        let cell =
            |time: u64| (u128::from(time.clamp(root.start, root.reach) - root.start) * cells as u128 / all) as usize;
        let own = [row.span];
        for at in if row.folded.is_empty() { &own[..] } else { &row.folded } {
            let (_, node) = self.tree.at(*at);
            let start = cell(node.start).min(cells.saturating_sub(1));
            let end = cell(node.end).max(start + 1).min(cells);
            bar.get_mut(start..end).into_iter().for_each(|cells| cells.fill(sign));
        }
        bar.into_iter().collect()
    }

    /// The time from the end of a span's parent to its own end, if it ends later.
    fn outlasts(&self, node: &Node) -> Option<u64> {
        let (_, parent) = self.tree.at(node.parent?);
        node.end.checked_sub(parent.end).filter(|nanos| *nanos > 0)
    }

    /// Writes the lines below a row: the span's failure, remarks on its times, and its logs.
    fn details(&mut self, row: &Row, prefix: &str, logs: &mut HashMap<u64, Vec<&Log>>) {
        let (span, node) = self.tree.at(row.span);
        let prefix = format!("{}{prefix}", " ".repeat(MARGIN));
        if let Some(message) = &span.failure {
            self.line(Tone::Bad, &format!("{prefix}{}", failed(message)));
        }
        if node.moved != 0 {
            let (sign, by) = (if node.moved > 0 { '+' } else { '-' }, duration(node.moved.unsigned_abs()));
            self.line(Tone::Warning, &format!("{prefix}~ shifted by {sign}{by} into its parent: clocks differ"));
        }
        if let Some(nanos) = self.outlasts(node) {
            self.line(Tone::Warning, &format!("{prefix}~ ends {} after its parent", duration(nanos)));
        }
        for log in logs.remove(&span.id).unwrap_or_default() {
            let Line { time, kind, tone, words, .. } = &log.line;
            self.line(*tone, &format!("{prefix}{} {} {words}", time_of_day(*time), column(kind, 5)));
        }
    }
}

/// The service and the span: `payment charge`.
fn named(span: &Span) -> String {
    if &*span.service == "-" { span.name.to_string() } else { format!("{} {}", span.service, span.name) }
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
