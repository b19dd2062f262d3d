//! `misaki tail`: shows the telemetry that passes through the running collector, or passed lately, and matches an
//! expression.

mod past;
pub(super) mod query;

use std::io::IsTerminal;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use clap::{Args, ValueEnum};
use serde_json::Value;
use tokio::time::Instant;

use crate::config::duration;
use crate::diagnostics::columns::{cut, width};
use crate::diagnostics::log;
use crate::diagnostics::output::PIECE;
use crate::exporters::debug::layout::{Layout, Stream, Tone};
use crate::exporters::debug::rates::Rates;
use crate::exporters::debug::requests::{self, Absent, Limits, List, Requests};
use crate::exporters::debug::{Style, Verbosity, put_dump, put_items, put_lines, render_summary};
use crate::inspect::wanted::Wanted;
use crate::otlp::pieces::Pieces;
use crate::otlp::split::Splitter;
use crate::telemetry::{Now, Signal, clock};

use super::local::{self, Answer, Target, failed, safe};
use super::{Failure, Look, print, put, usage};
use past::Past;
use query::Asked;

const EXAMPLES: &str = "\
Examples:
  misaki tail 'severity_number >= SEVERITY_NUMBER_WARN'
  misaki tail 'resource.attributes[\"service.name\"] == \"shop\"' --since 5m
  misaki tail --text 'redis refused'
  misaki tail --logs 'severity_number >= SEVERITY_NUMBER_WARN' --spans 'status.code == STATUS_CODE_ERROR'
  misaki tail 4bf92f35 --since 5m
  misaki tail 'span.name == \"GET /\"' --expect 1 --for 10s";

/// The default time limit of `--expect`.
const EXPECT_FOR: Duration = Duration::from_secs(30);
/// Longer than anything is kept.
const EVER: Duration = Duration::from_secs(365 * 24 * 3600);
/// The interval of the waiting message.
const SAY_EVERY: Duration = Duration::from_secs(1);
/// The maximum sizes of a head and a body in the stream from the collector.
const MOST_HEAD: usize = 64 << 10;
const MOST_BODY: usize = 256 << 20;

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Tail {
    #[command(flatten)]
    pub(super) query: Asked,
    /// How it is written, as the debug exporter does
    #[arg(short, long, visible_alias = "print", value_name = "FORM", default_value = "line", ignore_case = true)]
    pub(super) output: Verbosity,
    /// In trees, show only the items that match, not the whole traces that they are of
    #[arg(long)]
    pub(super) only_matching: bool,
    /// Begin with what passed lately, as far as it is still known, as in 5m
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub(super) since: Option<Duration>,
    /// Show only what passed, sorted by the times of the items, and end; with --since, only the last of it
    #[arg(long)]
    pub(super) past: bool,
    /// As it came in, as exporters sent it, as it was dropped, or what the rules of processors removed
    #[arg(long, value_name = "POINT", default_value = "received")]
    pub(super) at: At,
    /// End after so many log records, spans or data points
    #[arg(short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) items: Option<u64>,
    /// End with success once so many came, or fail after --for [default: 30s]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) expect: Option<u64>,
    /// End after this time
    #[arg(long = "for", value_name = "TIME", value_parser = duration::parse)]
    pub(super) within: Option<Duration>,
    /// Print the expression as a filter for the config, and end
    #[arg(long)]
    pub(super) as_rule: bool,
    #[command(flatten)]
    pub(super) look: Look,
    /// Colours [default: on a terminal, unless NO_COLOR is set]
    #[arg(long, value_name = "WHEN", default_value = "auto", hide_default_value = true)]
    pub(super) color: Color,
    #[command(flatten)]
    pub(super) target: Target,
    /// For `misaki traces`: which requests, as a list.
    #[arg(skip)]
    pub(super) list: Option<List>,
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum At {
    Received,
    Leaving,
    Dropped,
    Filtered,
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Color {
    Auto,
    Always,
    Never,
}

/// One request in the stream from the collector.
#[derive(Clone)]
pub(super) struct Sighting {
    pub(super) signal: Signal,
    pub(crate) items: u64,
    /// The time it was seen, in seconds since 1970.
    pub(super) seconds: f64,
    pub skipped: u64,
    /// It is of a time of which the collector did not keep everything.
    pub(super) has_gap: bool,
    /// A line about where it was seen; `None` for received requests.
    pub(super) heading: Option<String>,
    pub(super) wire: Bytes,
}

/// Writes requests to stdout.
struct Writer {
    verbosity: Verbosity,
    style: Style,
    /// For `tree`: the spans and logs that wait for the rest of their trace.
    requests: Requests,
    /// For `line`: the rates of counters.
    rates: Rates,
    /// For `tree`: which items make it show a trace, if not all do.
    selects: Option<Wanted>,
}

pub(super) fn tail(options: &Tail) -> Result<(), Failure> {
    let wanted = options.query.read()?;
    match options.as_rule {
        true => print(&query::as_rule(&wanted)?),
        false => local::block_on(follow(options, wanted)),
    }
}

async fn follow(options: &Tail, wanted: Wanted) -> Result<(), Failure> {
    // A tree is computed from whole traces, so the items are selected here.
    let is_tree = options.output == Verbosity::Tree && !options.query.is_empty();
    let selects = is_tree && !options.only_matching && !wanted.is_of_traces();
    let at = options.at.to_possible_value();
    let at = at.as_ref().map_or("", |at| at.get_name());
    let is_kept = !matches!(options.at, At::Leaving | At::Filtered);
    if options.past && !is_kept {
        return Err(usage("--past: of what leaves or is filtered nothing is kept: watch it without --past"));
    }
    let since = options.since.or(options.past.then_some(EVER));
    if since.is_some() && !is_kept {
        log::write("--since: of what leaves or is filtered nothing is kept: it is shown from now on\n");
    }
    // An older collector does not know the word, and needs it only for the past.
    let whole = if options.output == Verbosity::Tree && since.is_some() { "&traces=whole" } else { "" };
    let since = since.map_or(String::new(), |since| format!("&since={}", since.as_millis()));
    let then = if options.past { "&then=end" } else { "" };
    let asked = if selects { String::new() } else { options.query.parameters() };
    let page = format!("/tail?at={at}{since}{whole}{then}{asked}");
    let mut answer = options.target.ask(&page).await?;
    let within = options.within.or(options.expect.map(|_| EXPECT_FOR));
    let mut end = std::pin::pin!(async {
        match within {
            Some(within) => tokio::time::sleep(within).await,
            None => std::future::pending().await,
        }
    });
    let (mut buffer, mut seen) = (BytesMut::new(), 0);
    let mut writer = Writer::new(options, selects.then_some(wanted));
    let mut waiting = Waiting::new(options);
    // Trees have an order of their own.
    let mut past = (options.past && options.output != Verbosity::Tree).then(Past::default);
    while options.items.is_none_or(|most| seen < most) && options.expect.is_none_or(|expected| seen < expected) {
        let sighting = tokio::select! {
            sighting = next(&mut answer, &mut buffer) => match sighting {
                Ok(Some(sighting)) => match &mut past {
                    Some(past) => {
                        past.add(sighting);
                        continue;
                    }
                    None => sighting,
                },
                Ok(None) if options.past => break,
                Ok(None) => {
                    waiting.wipe();
                    return writer.write_rest().and(Err(failed("the collector went away")));
                }
                Err(failure) => {
                    waiting.wipe();
                    return writer.write_rest().and(Err(failure));
                }
            },
            () = writer.due() => match writer.write_due()? {
                true => continue,
                false => break,
            },
            () = waiting.say() => continue,
            () = &mut end => break,
            // Also ends if no handler can be installed: no key could end it then.
            _ = tokio::signal::ctrl_c() => break,
        };
        let most = options.items.map_or(u64::MAX, |most| most - seen);
        let Some(written) = writer.write(sighting, most, &mut waiting)? else { break };
        seen += written;
    }
    waiting.wipe();
    for sighting in past.into_iter().flat_map(Past::sorted) {
        let most = options.items.map_or(u64::MAX, |most| most - seen);
        let Some(written) = writer.write(sighting, most, &mut waiting)? else { break };
        seen += written;
        if options.items.is_some_and(|most| seen >= most) {
            break;
        }
    }
    writer.write_rest()?;
    if options.past && writer.requests.list.as_ref().is_some_and(|list| list.listed == 0) {
        log::write("none of the requests that the collector still keeps; --follow lists those to come\n");
    }
    if options.past && options.list.is_none() && seen == 0 {
        log::write("none of what the collector still keeps; without --past, tail shows what comes\n");
    }
    match options.expect {
        Some(expected) if seen < expected => Err(failed(format!("{expected} expected, {seen} came"))),
        _ => Ok(()),
    }
}

/// The next request; `None` at the end of the stream, which only some queries have.
pub(super) async fn next(answer: &mut Answer, buffer: &mut BytesMut) -> Result<Option<Sighting>, Failure> {
    let strange = || failed("the collector says something that this version does not understand");
    loop {
        if let Some(length) = memchr::memchr(b'\n', buffer) {
            let head: Value =
                buffer.get(..length).and_then(|head| serde_json::from_slice(head).ok()).ok_or_else(strange)?;
            let body = head.get("bytes").and_then(Value::as_u64).and_then(|bytes| usize::try_from(bytes).ok());
            let body = body.filter(|bytes| *bytes <= MOST_BODY).ok_or_else(strange)?;
            if buffer.len() > length + body {
                let _ = buffer.split_to(length + 1);
                return Sighting::read(&head, buffer.split_to(body).freeze()).map(Some).ok_or_else(strange);
            }
        } else if buffer.len() > MOST_HEAD {
            return Err(strange());
        }
        // Cancel safe: data that was read is in the buffer.
        match answer.next().await? {
            Some(piece) => buffer.extend_from_slice(&piece),
            None if buffer.is_empty() => return Ok(None),
            None => return Err(failed("the collector went away")),
        }
    }
}

/// The message on a terminal until the first request is shown.
struct Waiting<'a> {
    options: &'a Tail,
    /// When to show it next; `None` without a terminal, or after the first request.
    next: Option<Instant>,
    is_shown: bool,
    /// The number of items that had passed at the start.
    before: Option<u64>,
}

impl Waiting<'_> {
    fn new(options: &Tail) -> Waiting<'_> {
        let next = (!options.past && std::io::stderr().is_terminal()).then(Instant::now);
        Waiting { options, next, is_shown: false, before: None }
    }

    /// Shows the message when it is due, over the previous one. Cancel safe: shows all of it or nothing.
    async fn say(&mut self) {
        let Some(next) = self.next else { return std::future::pending().await };
        tokio::time::sleep_until(next).await;
        let asked = async { self.options.target.ask("/status").await?.whole().await };
        let told = asked.await.ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok()).unwrap_or_default();
        let passed = passed(&told, self.options.at);
        self.next = Some(Instant::now() + SAY_EVERY);
        let Some(before) = self.before else { return self.before = Some(passed) };
        let addresses = local::addresses(&told);
        let seen = match passed.saturating_sub(before) {
            0 => "none seen yet".to_owned(),
            1 => "1 item seen, it did not match".to_owned(),
            seen => format!("{seen} items seen, none matched yet"),
        };
        let room =
            Layout::of(Stream::Stderr).width.saturating_sub(width(&seen) + "waiting for telemetry at  () ".len());
        let text = format!("waiting for telemetry at {} ({seen})", cut(&addresses, room));
        log::write(format!("\r\x1b[K{text}"));
        self.is_shown = true;
    }

    fn wipe(&mut self) {
        if std::mem::take(&mut self.is_shown) {
            log::write("\r\x1b[K");
        }
        self.next = None;
    }
}

/// The number of items that have passed the point where `tail` looks.
fn passed(told: &Value, at: At) -> u64 {
    let each = |list: &str| told.get(list).and_then(Value::as_array).cloned().unwrap_or_default();
    let sum = |list: &str, of: fn(&Value) -> Option<u64>| each(list).iter().filter_map(of).sum();
    match at {
        At::Received => sum("receivers", |receiver| receiver.get("accepted")?.as_u64()),
        At::Leaving => sum("ledger", |account| account.get("exported")?.as_u64()),
        At::Filtered => sum("ledger", |account| account.get("filtered")?.as_u64()),
        At::Dropped => {
            sum("ledger", |account| Some(account.get("dropped")?.as_object()?.values().filter_map(Value::as_u64).sum()))
        }
    }
}

impl Sighting {
    fn read(head: &Value, wire: Bytes) -> Option<Sighting> {
        let text = |key| head.get(key).and_then(Value::as_str);
        let signal = Signal::ALL.into_iter().find(|signal| text("signal") == Some(signal.name()))?;
        let number = |key| head.get(key).and_then(Value::as_u64);
        let heading = text("exporter").map(|exporter| {
            let reason = text("reason").map_or(String::new(), |reason| format!(": {reason}"));
            format!("{} by {exporter}{reason}", text("at").unwrap_or_default())
        });
        let filtered = text("processor").map(|processor| {
            let rule = text("rule").map_or(String::new(), |rule| format!(": {rule}"));
            format!("filtered by {processor}{rule}")
        });
        let heading = heading.or(filtered);
        let seconds = text("time_unix_nano")?.parse::<f64>().ok()? / 1e9;
        let (items, skipped) = (number("items")?, number("skipped").unwrap_or(0));
        let has_gap = head.get("gap").and_then(Value::as_bool).unwrap_or(false);
        Some(Sighting { signal, items, seconds, skipped, has_gap, heading, wire })
    }
}

impl Writer {
    fn new(options: &Tail, selects: Option<Wanted>) -> Writer {
        let layout = Layout::of(Stream::Stdout);
        let layout = if options.look.utc { layout } else { layout.local() };
        let mut layout = Layout { unfold: options.look.unfold, ..layout };
        match options.color {
            Color::Auto => {}
            Color::Always => layout.colour = true,
            Color::Never => layout.colour = false,
        }
        let style = Style { escape_newlines: std::io::stdout().is_terminal(), layout };
        let mut requests = Requests::new(layout, requests::WAIT, Limits::default());
        requests.list = options.list.clone();
        requests.absent = match options.since {
            _ if options.only_matching => Absent::NotMatching,
            _ if options.past => Absent::NotKept,
            Some(_) => Absent::NotKept,
            None => Absent::NotArrived,
        };
        Writer { verbosity: options.output, style, requests, rates: Rates::default(), selects }
    }

    /// Writes at most `most` items; returns the number of items that match. `None` if the reader of stdout has left.
    fn write(&mut self, sighting: Sighting, most: u64, waiting: &mut Waiting) -> Result<Option<u64>, Failure> {
        let Sighting { signal, items, skipped, has_gap, heading, wire, .. } = sighting;
        if skipped > 0 {
            waiting.wipe();
            log::write(format!("… {skipped} skipped: they came faster than they were read\n"));
            if self.requests.absent != Absent::NotMatching {
                self.requests.absent = Absent::Skipped;
            }
        }
        if items == 0 {
            return Ok(Some(0));
        }
        self.measure();
        let Writer { verbosity, style, requests, rates, selects } = self;
        requests.has_gap = has_gap;
        if let Some(wanted) = selects {
            let count = u32::try_from(items).unwrap_or(u32::MAX);
            let (pieces, matching) = wanted.keep(signal, &[(wire.clone(), count)], Now::read());
            let pieces: Vec<&[u8]> = pieces.iter().map(Bytes::as_ref).collect();
            if matching > 0 {
                waiting.wipe();
            }
            let goes_on = written(|to| {
                heading.iter().filter(|_| matching > 0).for_each(|heading| put_heading(style.layout, heading, to));
                _ = requests.add_selected(signal, &[&wire], &pieces, clock(), to);
            })?;
            return Ok(goes_on.then_some(matching));
        }
        waiting.wipe();
        let wire = match u32::try_from(most) {
            Ok(most) if u64::from(most) < items => {
                let piece = Splitter::new(signal, wire).next_piece(most, usize::MAX);
                piece.map(|(bytes, _)| Bytes::from(bytes)).unwrap_or_default()
            }
            _ => wire,
        };
        let goes_on = written(|to| {
            if let (Some(heading), true) = (&heading, *verbosity != Verbosity::Json) {
                put_heading(style.layout, heading, to);
            }
            match *verbosity {
                Verbosity::Tree => _ = requests.add(signal, &[&wire], clock(), to),
                // Requests follow each other without a separator.
                Verbosity::Normal => put_items(signal, Verbosity::Normal, *style, &[&wire], to),
                Verbosity::Basic => render_summary(signal, &[&wire], to.out),
                Verbosity::Line => put_lines(signal, *style, &[&wire], rates, to),
                verbosity => put_dump(signal, verbosity, *style, &[&wire], to),
            }
        })?;
        Ok(goes_on.then_some(items.min(most)))
    }

    /// Waits until a trace of the tree is due.
    async fn due(&self) {
        match self.requests.wake_at() {
            Some(at) => tokio::time::sleep_until(at.into()).await,
            None => std::future::pending().await,
        }
    }

    /// Follows the width of the terminal.
    fn measure(&mut self) {
        self.style.layout = self.style.layout.measured();
        self.requests.layout = self.style.layout;
    }

    fn write_due(&mut self) -> Result<bool, Failure> {
        self.measure();
        written(|to| _ = self.requests.print_due(clock(), to))
    }

    fn write_rest(&mut self) -> Result<bool, Failure> {
        written(|to| _ = self.requests.print_all(to))
    }
}

/// Writes the line about where a request was seen.
fn put_heading(layout: Layout, heading: &str, to: &mut Pieces) {
    layout.put(to.out, Tone::Faint, &format!("-- {}", safe(heading)));
    to.out.push(b'\n');
}

/// Writes text to stdout piece by piece: it may be a thousand times larger than its request. False if the reader has
/// left.
fn written(write: impl FnOnce(&mut Pieces)) -> Result<bool, Failure> {
    let (mut text, mut outcome) = (Vec::new(), Ok(true));
    let mut take = |text: &mut Vec<u8>, _| {
        outcome = put(text);
        text.clear();
        matches!(outcome, Ok(true))
    };
    write(&mut Pieces::new(&mut text, PIECE, &mut take));
    match outcome {
        Ok(true) => put(&text),
        over => over,
    }
}
