//! `misaki status`: the status of the running collector, for people, scripts and probes.

#![expect(clippy::indexing_slicing, reason = "what a JSON value lacks is null")]

use std::io::{IsTerminal, Write};
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::local::{self, Target, failed, safe};
use super::page::{CELLS, Page, WIDTH, bytes, count, period, texts};
use super::{FAILED, Failure, print, safe_json, usage};
use crate::diagnostics::columns::width;
use crate::exporters::debug::layout::{Layout, Stream};

/// The widest page.
const WIDE: usize = 160;
/// The height of a terminal that does not report it.
const ROWS: usize = 24;
const EVERY: Duration = Duration::from_secs(1);
/// The time limit of a probe for one answer.
const PROBE: Duration = Duration::from_secs(5);

const COLUMNS: &str = "\
Of each service: what came in, and what became of it. Filtered is what rules of
the config left out, dropped is what was lost under a reason that the ledger
names. With several exporters an item is filtered, sent or waiting for each.

Collectors are looked for in $XDG_RUNTIME_DIR/misaki, else in /run/misaki, else
in /tmp/misaki-UID: what is in one hides the next.";

#[derive(Args)]
#[command(after_help = COLUMNS)]
pub(super) struct Status {
    #[command(flatten)]
    target: Target,
    /// The same as JSON
    #[arg(long, conflicts_with_all = ["check", "watch"])]
    json: bool,
    /// One line, and success only if all that run are ready: for probes
    #[arg(long, conflicts_with = "watch")]
    check: bool,
    /// Draw it again every second
    #[arg(long)]
    watch: bool,
}

pub(crate) fn status(options: &Status) -> Result<(), Failure> {
    if options.watch && !std::io::stdout().is_terminal() {
        return Err(usage("--watch redraws a terminal, and stdout is not one"));
    }
    local::block_on(async {
        if options.check {
            return check(&options.target).await;
        }
        loop {
            let text = options.target.ask("/status").await?.whole().await?;
            if options.json {
                return print(&format!("{}\n", safe_json(&text)));
            }
            let told = read(&text)?;
            let bold = std::io::stdout().is_terminal();
            let columns = if bold { Layout::of(Stream::Stdout).width.clamp(WIDTH, WIDE) } else { WIDTH };
            if !options.watch {
                return print(&render(&told, columns, bold, false));
            }
            let rows = rustix::termios::tcgetwinsize(std::io::stdout()).map_or(0, |size| usize::from(size.ws_row));
            // Overwrites the page line by line and clears the rest, which does not flicker.
            let page = watched(&told, columns, bold, if rows == 0 { ROWS } else { rows }).replace('\n', "\x1b[K\n");
            print(&format!("\x1b[H{page}\x1b[J"))?;
            let _ = std::io::stdout().flush();
            tokio::time::sleep(EVERY).await;
        }
    })
}

fn read(text: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(text).map_err(|error| failed(format!("cannot read what the collector says: {error}")))
}

/// With several collectors, each must be ready: a probe does not select one.
async fn check(target: &Target) -> Result<(), Failure> {
    let not_ready = |why: &str| Failure { status: FAILED, message: format!("not ready: {why}\n") };
    let because = |failure: Failure| {
        // The message may be wrapped into several lines: make one line of it.
        let (mut lines, is_continued) = (failure.message.lines(), |line: &&str| line.starts_with(' '));
        let first = lines.next().unwrap_or_default().to_owned();
        let whole = lines.take_while(is_continued).fold(first, |whole, line| format!("{whole} {}", line.trim_start()));
        not_ready(whole.strip_prefix("error: ").unwrap_or(&whole))
    };
    let paths = target.all().map_err(because)?;
    let mut youngest = f64::INFINITY;
    for path in &paths {
        let asked = async { local::ask(path, "/status").await?.whole().await };
        let answer = tokio::time::timeout(PROBE, asked).await;
        let answer = answer.map_err(|_| not_ready(&format!("no answer at {} within 5 s", path.display())))?;
        let told = read(&answer.map_err(because)?).map_err(because)?;
        match told["not_ready_because"].as_str() {
            None if told["ready"] == true => youngest = told["uptime_seconds"].as_f64().unwrap_or(0.0).min(youngest),
            why => {
                let which = || format!("process {} at {}: ", told["pid"], local::addresses(&told));
                let which = if paths.len() > 1 { which() } else { String::new() };
                return Err(not_ready(&format!("{which}{}", safe(why.unwrap_or("it does not say why")))));
            }
        }
    }
    let all = if paths.len() > 1 { format!("all {} ", paths.len()) } else { String::new() };
    print(&format!("{all}ready for {}\n", period(Some(youngest))))
}

/// The page for a terminal with this many rows, of which the last stays free: in full, else in brief, else the part of
/// the brief one that fits.
fn watched(told: &Value, columns: usize, bold: bool, rows: usize) -> String {
    let most = rows.saturating_sub(1);
    let fits = |page: &String| page.lines().count() <= most;
    if let Some(page) = [false, true].map(|brief| render(told, columns, bold, brief)).into_iter().find(fits) {
        return page;
    }
    let page = render(told, columns, bold, true);
    let shown: String = page.split_inclusive('\n').take(most.saturating_sub(1)).collect();
    let left = page.lines().count() - shown.lines().count();
    format!("{shown}… {left} more lines; `misaki status` prints them all\n")
}

/// The width of the tables: enough for the longest name, between `WIDTH` and `columns`.
fn breadth(told: &Value, columns: usize) -> usize {
    let widest = |list: &Value, name: fn(&Value) -> String| {
        list.as_array().into_iter().flatten().map(|entry| width(&name(entry))).max().unwrap_or_default()
    };
    let receivers = widest(&told["receivers"], |receiver| texts(&receiver["id"]));
    let accounts = widest(&told["ledger"], path);
    let services = widest(&told["bill"]["services"], |service| texts(&service["service"]));
    (receivers.max(accounts).max(services) + CELLS).clamp(WIDTH, columns)
}

/// The name of an account in the ledger.
pub(super) fn path(account: &Value) -> String {
    format!("{} to {}", texts(&account["signal"]), texts(&account["exporter"]))
}

fn each(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The page. No line is longer than `columns`, and bold text carries no meaning of its own. In brief, an exporter is a
/// row.
fn render(told: &Value, columns: usize, bold: bool, brief: bool) -> String {
    let mut page = Page { columns, breadth: breadth(told, columns), bold, brief, ..Page::default() };
    put_head(&mut page, told);
    page.heads("RECEIVER", &["SIGNAL", "ACCEPTED", "REFUSED"]);
    for receiver in each(&told["receivers"]) {
        let cells = [texts(&receiver["signal"]), count(&receiver["accepted"]), count(&receiver["refused"])];
        page.row(&texts(&receiver["id"]), &cells);
    }
    if brief {
        page.heads("EXPORTER", &["STATE", "FOR", "ITEMS", "OLDEST", "MEMORY"]);
    }
    each(&told["exporters"]).iter().for_each(|exporter| put_exporter(&mut page, exporter));
    put_ledger(&mut page, &told["ledger"]);
    put_bill(&mut page, told);
    page.out
}

fn put_head(page: &mut Page, told: &Value) {
    page.strong(&format!("misaki {}", texts(&told["version"])));
    page.out.push_str(&format!(", process {}, up {}, ", told["pid"], period(told["uptime_seconds"].as_f64())));
    let why = &told["not_ready_because"];
    match why.is_string() {
        true => {
            page.put("NOT READY");
            page.hang("  ", &texts(why));
        }
        false => page.put("ready"),
    }
    page.list("config", each(&told["config"]).iter().map(texts).collect());
    if let Some(at) = told["reload_refused_at"].as_str() {
        let minute = |time: &str| safe(time.get(11..16).unwrap_or(time));
        let since = told["config_since"].as_str().map(minute).unwrap_or_default();
        page.line("", &format!("running the configuration of {since} UTC;"));
        page.line("", &format!("the reload at {} UTC was refused:", minute(at)));
        page.line("", &texts(&told["reload_refused_because"]));
    }
    let address = |listening: &Value| format!("{}  {}", texts(&listening["protocol"]), texts(&listening["address"]));
    page.list("listening", each(&told["listening"]).iter().map(address).collect());
    let memory = &told["memory"];
    let budget = format!("{} of {} in use", bytes(&memory["used_bytes"]), bytes(&memory["budget_bytes"]));
    let resident = memory["resident_bytes"].is_u64().then(|| format!(", process {}", bytes(&memory["resident_bytes"])));
    page.line("memory", &format!("{budget}{}", resident.unwrap_or_default()));
}

fn put_exporter(page: &mut Page, exporter: &Value) {
    let (id, signal) = (texts(&exporter["id"]), texts(&exporter["signal"]));
    if !page.brief {
        page.title(&format!("EXPORTER {id}, {signal}"));
        page.line("to", &texts(&exporter["destination"]));
        return put_exporter_lines(page, exporter);
    }
    let queue = &exporter["queue"];
    let time = |value: &Value| value.as_f64().map_or("-".to_owned(), |seconds| period(Some(seconds)));
    let (since, oldest) = (time(&exporter["since_seconds"]), time(&queue["oldest_seconds"]));
    let cells = [state(exporter), since, count(&queue["items"]), oldest, bytes(&queue["memory_bytes"])];
    page.row(&format!("{signal} to {id}"), &cells);
    if let Some(why) = exporter["why"].as_str() {
        page.note(&safe(why.trim_start_matches("error exporting items, ")));
    }
}

fn put_ledger(page: &mut Page, ledger: &Value) {
    page.heads("LEDGER", &["ACCEPTED", "EXPORTED", "FILTERED", "DROPPED", "WAITING"]);
    for account in each(ledger) {
        let dropped = account["dropped"].as_object().cloned().unwrap_or_default();
        let sum: u64 = dropped.values().filter_map(Value::as_u64).sum();
        let numbers =
            [&account["accepted"], &account["exported"], &account["filtered"], &sum.into(), &account["waiting"]];
        page.row(&path(account), &numbers.map(count));
        for (reason, items) in &dropped {
            page.note(&format!("dropped: {} {}", safe(reason), count(items)));
        }
        if account["found"].as_u64().is_some_and(|found| found > 0) {
            let found = count(&account["found"]);
            page.note(&format!("of ACCEPTED, {found} were on disk from before the start: no RECEIVER counts them"));
        }
    }
}

fn put_bill(page: &mut Page, told: &Value) {
    page.heads("SERVICE", &["ITEMS", "BYTES", "FILTERED", "DROPPED", "SENT", "WAITING"]);
    let billed = |page: &mut Page, name: &str, line: &Value| {
        let [filtered, dropped, sent, waiting] =
            ["filtered", "dropped", "sent", "waiting"].map(|key| count(&line[key]));
        page.row(name, &[count(&line["items"]), bytes(&line["bytes"]), filtered, dropped, sent, waiting]);
    };
    let bill = &told["bill"];
    for service in each(&bill["services"]) {
        let name = Some(texts(&service["service"])).filter(|name| !name.is_empty());
        billed(page, name.as_deref().unwrap_or("(no service.name)"), service);
    }
    let others = &bill["others"];
    if ["items", "sent", "dropped", "waiting"].iter().any(|key| others[*key].as_u64().is_some_and(|items| items > 0)) {
        billed(page, "(all others)", others);
    }
    let found: u64 = each(&told["ledger"]).iter().filter_map(|account| account["found"].as_u64()).sum();
    if found > 0 {
        page.note(&format!(
            "{} from before the start are in what became of them, and not in ITEMS",
            count(&found.into())
        ));
    }
    if bill["estimated"] == true {
        page.put("  estimated: there are more services than are counted one by one");
    }
}

/// The state of an exporter, in capitals if it has a problem.
pub(super) fn state(exporter: &Value) -> String {
    let state = texts(&exporter["state"]);
    if exporter["since_seconds"].is_null() { state } else { state.to_uppercase() }
}

fn counted(value: &Value, word: &str) -> String {
    format!("{} {word}{}", count(value), if *value == 1 { "" } else { "s" })
}

fn put_exporter_lines(page: &mut Page, exporter: &Value) {
    match exporter["since_seconds"].as_f64() {
        Some(since) => {
            let (state, attempts) = (state(exporter), counted(&exporter["attempts"], "attempt"));
            let probe = exporter["next_probe_seconds"].as_f64();
            let probe = probe.map_or_else(String::new, |seconds| format!(", next probe in {}", period(Some(seconds))));
            page.line("state", &format!("{state} for {}, {attempts}{probe}", period(Some(since))));
            page.line(if probe.is_empty() { "" } else { "answer" }, &texts(&exporter["why"]));
        }
        None => page.line("state", &state(exporter)),
    }
    if exporter["trouble"].is_string() {
        page.line("trouble", &texts(&exporter["trouble"]));
    }
    let queue = &exporter["queue"];
    let (size, capacity, unit) = (count(&queue["size"]), count(&queue["capacity"]), texts(&queue["unit"]));
    let of = if queue["enabled"] == false { "no queue".to_owned() } else { format!("{size} of {capacity} {unit}") };
    page.line("queue", &format!("{}, {of}", counted(&queue["items"], "item")));
    page.line(
        "",
        &format!("{} in memory ({} % of what queues may)", bytes(&queue["memory_bytes"]), queue["memory_percent"]),
    );
    if queue["disk_bytes"].is_u64() {
        let quota = bytes(&queue["disk_quota_bytes"]);
        page.line("", &format!("{} of {quota} on disk ({} %)", bytes(&queue["disk_bytes"]), queue["disk_percent"]));
    }
    if let Some(oldest) = queue["oldest_seconds"].as_f64() {
        page.line("oldest", &format!("about {}", period(Some(oldest))));
    }
    if let Some(seconds) = queue["seconds_until_full"].as_f64() {
        let rate = bytes(&queue["bytes_per_second"]);
        let what = texts(&queue["full_by"]);
        page.line("holds", &format!("{} of an outage at {rate} a second, by {what}", period(Some(seconds))));
    }
}
