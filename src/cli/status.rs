//! `misaki status`: what the running collector says of itself, for a person, a script or a probe.

#![expect(clippy::indexing_slicing, reason = "what a JSON value lacks is null")]

pub(super) mod table;

use std::io::{IsTerminal, Write};
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::local::{self, Target, failed, safe};
use super::{FAILED, Failure, USAGE, print, safe_json};
use table::{bytes, count, fit, period, row, texts};

/// Services that `--watch` shows, so that they fit on a screen.
const WATCHED: usize = 8;
const EVERY: Duration = Duration::from_secs(1);

const COLUMNS: &str = "\
Of each service: what came in, and what became of it. Filtered is what rules of
the config left out, dropped is what was lost under a reason that the ledger
names. With several exporters an item is filtered, sent or waiting for each.";

#[derive(Args)]
#[command(after_help = COLUMNS)]
pub struct Status {
    #[command(flatten)]
    target: Target,
    /// The same as JSON
    #[arg(long, conflicts_with_all = ["check", "watch"])]
    json: bool,
    /// One line, and success only if it is ready: for probes
    #[arg(long, conflicts_with = "watch")]
    check: bool,
    /// Draw it again every second
    #[arg(long)]
    watch: bool,
}

pub fn status(options: &Status) -> Result<(), Failure> {
    if options.watch && !std::io::stdout().is_terminal() {
        let message = "error: --watch redraws a terminal, and stdout is none\n".to_owned();
        return Err(Failure { status: USAGE, message });
    }
    local::block_on(async {
        if options.check {
            return check(options.target.ask("/status").await).await;
        }
        loop {
            let text = options.target.ask("/status").await?.whole().await?;
            if options.json {
                return print(&format!("{}\n", safe_json(&text)));
            }
            let told = read(&text)?;
            let bold = std::io::stdout().is_terminal();
            if !options.watch {
                return print(&render(&told, bold, usize::MAX));
            }
            // Line by line over what stands there, then nothing below: it does not flicker.
            let page = render(&told, bold, WATCHED).replace('\n', "\x1b[K\n");
            print(&format!("\x1b[H{page}\x1b[J"))?;
            let _ = std::io::stdout().flush();
            tokio::time::sleep(EVERY).await;
        }
    })
}

fn read(text: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(text).map_err(|error| failed(format!("cannot read what the collector says: {error}")))
}

async fn check(asked: Result<local::Answer, Failure>) -> Result<(), Failure> {
    let not_ready = |why: &str| Failure { status: FAILED, message: format!("not ready: {why}\n") };
    let because = |failure: Failure| {
        let first = failure.message.lines().next().unwrap_or_default();
        not_ready(first.strip_prefix("error: ").unwrap_or(first))
    };
    let text = asked.map_err(because)?.whole().await.map_err(because)?;
    let told = read(&text).map_err(because)?;
    match told["not_ready_because"].as_str() {
        None if told["ready"] == true => print(&format!("ready for {}\n", period(told["uptime_seconds"].as_f64()))),
        why => Err(not_ready(&safe(why.unwrap_or("it does not say why")))),
    }
}

/// The whole page: no line is longer than 80 columns, and none needs its weight to be understood.
fn render(told: &Value, bold: bool, services: usize) -> String {
    let (on, off) = if bold { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    let title = |text: &str| format!("\n{on}{text}{off}\n");
    let mut out = format!("{on}misaki {}{off}", texts(&told["version"]));
    out.push_str(&format!(", process {}, up {}, ", told["pid"], period(told["uptime_seconds"].as_f64())));
    match told["not_ready_because"].as_str() {
        None => out.push_str("ready\n"),
        Some(why) => out.push_str(&format!("NOT READY\n  {}\n", fit(why, 78))),
    }
    let line = |name: &str, text: &str| format!("  {name:<11}{}\n", fit(text, 67));
    let each = |value: &Value| value.as_array().cloned().unwrap_or_default();
    for config in each(&told["config"]) {
        out.push_str(&line("config", &texts(&config)));
    }
    if let Some(at) = told["reload_refused_at"].as_str() {
        let minute = |time: &str| safe(time.get(11..16).unwrap_or(time));
        let since = told["config_since"].as_str().map(minute).unwrap_or_default();
        out.push_str(&line("", &format!("running the configuration of {since} UTC;")));
        out.push_str(&line("", &format!("the reload at {} UTC was refused:", minute(at))));
        out.push_str(&line("", &texts(&told["reload_refused_because"])));
    }
    for listening in each(&told["listening"]) {
        out.push_str(&line(
            "listening",
            &format!("{}  {}", texts(&listening["protocol"]), texts(&listening["address"])),
        ));
    }
    let memory = &told["memory"];
    let budget = format!("{} of {} in use", bytes(&memory["used_bytes"]), bytes(&memory["budget_bytes"]));
    let resident = memory["resident_bytes"].is_u64().then(|| format!(", process {}", bytes(&memory["resident_bytes"])));
    out.push_str(&line("memory", &format!("{budget}{}", resident.unwrap_or_default())));

    let receivers = each(&told["receivers"]);
    out.push_str(&title(&row("RECEIVER", &["SIGNAL", "ACCEPTED", "REFUSED"])));
    for receiver in &receivers {
        let cells = [texts(&receiver["signal"]), count(&receiver["accepted"]), count(&receiver["refused"])];
        out.push_str(&format!("{}\n", row(&texts(&receiver["id"]), &cells)));
    }

    for exporter in each(&told["exporters"]) {
        let head = format!("EXPORTER {}, {}", texts(&exporter["id"]), texts(&exporter["signal"]));
        out.push_str(&title(&fit(&head, 80)));
        out.push_str(&line("to", &texts(&exporter["destination"])));
        exporter_lines(&exporter, &mut |name, text| out.push_str(&line(name, &text)));
    }

    out.push_str(&title(&row("LEDGER", &["ACCEPTED", "EXPORTED", "FILTERED", "DROPPED", "WAITING"])));
    for account in each(&told["ledger"]) {
        let dropped = account["dropped"].as_object().cloned().unwrap_or_default();
        let sum: u64 = dropped.values().filter_map(Value::as_u64).sum();
        let name = format!("{} to {}", texts(&account["signal"]), texts(&account["exporter"]));
        let numbers =
            [&account["accepted"], &account["exported"], &account["filtered"], &sum.into(), &account["waiting"]];
        out.push_str(&format!("{}\n", row(&name, &numbers.map(count))));
        for (reason, items) in &dropped {
            out.push_str(&format!("  {}\n", fit(&format!("dropped: {} {}", safe(reason), count(items)), 78)));
        }
    }

    let bill = &told["bill"];
    let columns = ["ITEMS", "BYTES", "FILTERED", "DROPPED", "SENT", "WAITING"];
    out.push_str(&title(&row("SERVICE", &columns)));
    let mut lines = each(&bill["services"]);
    let unseen = lines.len().saturating_sub(services);
    lines.truncate(services);
    for service in &lines {
        let name = Some(texts(&service["service"])).filter(|name| !name.is_empty());
        out.push_str(&format!("{}\n", billed(&name.unwrap_or_else(|| "(no service.name)".to_owned()), service)));
    }
    let others = &bill["others"];
    if ["items", "sent", "dropped", "waiting"].iter().any(|key| others[*key].as_u64().is_some_and(|items| items > 0)) {
        out.push_str(&format!("{}\n", billed("(all others)", others)));
    }
    if unseen > 0 {
        out.push_str(&format!("  {unseen} more without --watch\n"));
    }
    if bill["estimated"] == true {
        out.push_str("  estimated: there are more services than are counted one by one\n");
    }
    out
}

fn billed(name: &str, line: &Value) -> String {
    let after = ["filtered", "dropped", "sent", "waiting"].map(|key| count(&line[key]));
    let [filtered, dropped, sent, waiting] = after;
    row(name, &[count(&line["items"]), bytes(&line["bytes"]), filtered, dropped, sent, waiting])
}

fn exporter_lines(exporter: &Value, line: &mut dyn FnMut(&str, String)) {
    let state = texts(&exporter["state"]);
    match exporter["since_seconds"].as_f64() {
        Some(since) => {
            let attempts = count(&exporter["attempts"]);
            let word = if attempts == "1" { "attempt" } else { "attempts" };
            line("state", format!("{} for {}, {attempts} {word}", state.to_uppercase(), period(Some(since))));
            line("", texts(&exporter["why"]));
        }
        None => line("state", state),
    }
    if exporter["trouble"].is_string() {
        line("trouble", texts(&exporter["trouble"]));
    }
    let queue = &exporter["queue"];
    let (size, capacity, unit) = (count(&queue["size"]), count(&queue["capacity"]), texts(&queue["unit"]));
    line("queue", format!("{} items, {size} of {capacity} {unit}", count(&queue["items"])));
    line("", format!("{} in memory ({} % of what queues may)", bytes(&queue["memory_bytes"]), queue["memory_percent"]));
    if queue["disk_bytes"].is_u64() {
        let quota = bytes(&queue["disk_quota_bytes"]);
        line("", format!("{} of {quota} on disk ({} %)", bytes(&queue["disk_bytes"]), queue["disk_percent"]));
    }
    if let Some(oldest) = queue["oldest_seconds"].as_f64() {
        line("oldest", format!("about {}", period(Some(oldest))));
    }
    if let Some(seconds) = queue["seconds_until_full"].as_f64() {
        let rate = bytes(&queue["bytes_per_second"]);
        let what = texts(&queue["full_by"]);
        line("holds", format!("{} of an outage at {rate} a second, by {what}", period(Some(seconds))));
    }
}
