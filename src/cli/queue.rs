//! `misaki queue`: lists, inspects and exports queues on disk, puts dead letters back, and drops what waits. Only
//! `replay` and `drop` change a queue.

use std::fmt::Write;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use clap::{Args, Subcommand};

use crate::diagnostics::columns::counted;
use crate::diagnostics::escape::put_safe_json;
use crate::otlp::json;
use crate::sending::dead_letters;
use crate::sending::disk::directory::{Directory, space};
use crate::sending::disk::{Found, Limits, Log, NewRecord};
use crate::sending::storage::OURS;
use crate::telemetry::Signal;

use super::{Failure, failed, print, put, safe};

#[derive(Args)]
pub(super) struct Queue {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// List the queues in a file_storage directory
    List { directory: PathBuf },
    /// Say what a queue holds, and what of it is damaged
    Inspect(Which),
    /// Write what waits as OTLP/JSON, one request a line; the queue stays as it is
    Export {
        #[command(flatten)]
        which: Which,
        /// The dead letters instead
        #[arg(long)]
        dead: bool,
    },
    /// Put the dead letters back at the end of the queue; the collector must not be running
    Replay(Which),
    /// Delete what waits; the collector must not be running
    Drop {
        #[command(flatten)]
        which: Which,
        /// The dead letters instead
        #[arg(long)]
        dead: bool,
        /// It cannot be undone
        #[arg(long, required = true)]
        yes: bool,
    },
}

#[derive(Args)]
struct Which {
    directory: PathBuf,
    /// As `list` names it
    name: String,
}

type DiskLog = Log<Directory, Instant>;

impl Which {
    fn path(&self) -> Result<PathBuf, Failure> {
        let path = self.directory.join(OURS).join(&self.name);
        match path.is_dir() && !self.name.contains(['/', '\\']) {
            true => Ok(path),
            false => Err(failed(format!("there is no queue \"{}\" in {}", self.name, self.directory.display()))),
        }
    }
}

pub(super) fn queue(queue: &Queue) -> Result<(), Failure> {
    match &queue.action {
        Action::List { directory } => print(&list(directory)?),
        Action::Inspect(which) => print(&inspect(&which.path()?)?),
        Action::Export { which, dead } => export(&folder(which, *dead)?, &which.name),
        Action::Replay(which) => replay(&which.path()?),
        Action::Drop { which, dead, .. } => discard(&folder(which, *dead)?),
    }
}

fn folder(which: &Which, dead: bool) -> Result<PathBuf, Failure> {
    let path = which.path()?;
    Ok(if dead { path.join(dead_letters::FOLDER) } else { path })
}

/// The limits of the filesystem without a quota: the config is not known here, and the collector enforces `max_size`.
fn limits(path: &Path) -> Limits {
    let limits = Limits::of_filesystem(space(path).map_or(u64::MAX, |(total, _)| total), true);
    Limits { quota: u64::MAX, ..limits }
}

fn view(path: &Path) -> Result<(DiskLog, Found), Failure> {
    let named = |error: &dyn std::fmt::Display| failed(format!("{}: {error}", path.display()));
    let directory = Directory::view(path).map_err(|error| named(&error))?;
    Log::view(directory, Instant::now(), limits(path)).map_err(|error| named(&error))
}

/// Opens a queue to change it. Fails while a collector uses it.
fn take(path: &Path) -> Result<DiskLog, Failure> {
    if !path.is_dir() {
        return Err(failed(format!("there is nothing in {}", path.display())));
    }
    let directory = Directory::take(path, Duration::ZERO).map_err(failed)?;
    let opened = Log::open(directory, Instant::now(), limits(path), Default::default());
    Ok(opened.map_err(|error| failed(format!("{}: {error}", path.display())))?.0)
}

fn list(directory: &Path) -> Result<String, Failure> {
    let ours = directory.join(OURS);
    let entries = std::fs::read_dir(&ours).map_err(|error| {
        let place = directory.display();
        failed(match error.kind() {
            ErrorKind::NotFound if directory.is_dir() => format!("there are no queues in {place}"),
            _ => format!("cannot read {place}: {error}"),
        })
    })?;
    let folders = entries.flatten().filter(|entry| entry.path().is_dir());
    let mut names: Vec<_> = folders.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    let mut out = String::new();
    for name in names {
        let (_, found) = view(&ours.join(&name))?;
        // Writing to a String cannot fail.
        let mut damage = match (found.lost.items, found.damaged_bytes) {
            (0, 0) => String::new(),
            (0, bytes) => format!(", damaged: {bytes} bytes"),
            (items, bytes) => format!(", damaged: {bytes} bytes, lost: {}", counted(items, "item")),
        };
        if found.unreadable > 0 {
            damage += &format!(", cannot read all of {}", counted(found.unreadable, "file"));
        }
        let _ = writeln!(out, "{}: {}{damage}", safe(&name), waiting(&found));
    }
    Ok(out)
}

fn waiting(found: &Found) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let age = |nanos| now.saturating_sub(Duration::from_nanos(nanos)).as_secs();
    let oldest = found.oldest_nanos.map_or(String::new(), |nanos| format!(", the oldest {} s old", age(nanos)));
    let waiting = found.waiting;
    format!(
        "{}, {}, {} bytes{oldest}",
        counted(waiting.records, "request"),
        counted(waiting.items, "item"),
        waiting.bytes
    )
}

fn inspect(path: &Path) -> Result<String, Failure> {
    let (_, found) = view(path)?;
    let (segments, lost) = (found.segments, found.lost);
    let mut out = format!("waiting: {}\nsegments: {segments}\n", waiting(&found));
    let _ = writeln!(out, "damaged: {} bytes", found.damaged_bytes);
    let _ = writeln!(out, "lost: {}, {} bytes", counted(lost.items, "item"), lost.bytes);
    if found.unreadable > 0 {
        let files = counted(found.unreadable, "file");
        let _ = writeln!(out, "cannot read all of {files}: what lies there is among the damaged and the lost");
    }
    let dead = path.join(dead_letters::FOLDER);
    if dead.is_dir() {
        let (mut log, found) = view(&dead)?;
        let _ = writeln!(out, "dead letters: {}", waiting(&found));
        while let Some(record) = log.read_next() {
            let reason = dead_letters::reason(record.kind).map_or("unknown", |reason| reason.name());
            let _ =
                writeln!(out, "  {reason}: {}, {} bytes", counted(record.amount.items, "item"), record.amount.bytes);
        }
    }
    Ok(out)
}

fn export(path: &Path, name: &str) -> Result<(), Failure> {
    let signal = Signal::ALL.into_iter().find(|signal| name.ends_with(&format!("_{}", signal.name())));
    let signal = signal.ok_or_else(|| failed(format!("\"{name}\" does not end in a signal")))?;
    let (mut log, found) = view(path)?;
    while let Some(record) = log.read_next() {
        let (mut text, mut line) = (Vec::new(), Vec::new());
        json::to_json(signal, &record.payload, &mut text);
        put_safe_json(&mut line, &text);
        line.push(b'\n');
        if !put(&line)? {
            break;
        }
    }
    if found.unreadable > 0 {
        return Err(failed(format!(
            "cannot read all of {}: what lies there is missing",
            counted(found.unreadable, "file")
        )));
    }
    readable(&log)
}

/// Fails if reading ended because of an error.
fn readable(log: &DiskLog) -> Result<(), Failure> {
    let Some(hold) = log.hold() else { return Ok(()) };
    Err(failed(format!("cannot read {}: {}; what is left stays where it is", hold.file, hold.error)))
}

fn replay(path: &Path) -> Result<(), Failure> {
    let (mut queue, mut dead) = (take(path)?, take(&path.join(dead_letters::FOLDER))?);
    let (mut requests, mut items, mut put_back) = (0u64, 0, Ok(0));
    while let Some(record) = dead.read_next() {
        let new = NewRecord {
            kind: 0,
            items: u32::try_from(record.amount.items).unwrap_or(u32::MAX),
            received_nanos: record.received_nanos,
            parts: &[Bytes::from(record.payload)],
        };
        // It must be on stable storage in the queue before it is removed here.
        put_back = queue.append(&[new], false);
        if put_back.is_err() {
            break;
        }
        dead.settle(record.id, record.amount);
        (requests, items) = (requests + 1, items + record.amount.items);
    }
    queue.flush().and_then(|()| dead.flush()).map_err(failed)?;
    let verb = if requests == 1 { "is" } else { "are" };
    print(&format!("{} with {} {verb} in the queue again\n", counted(requests, "request"), counted(items, "item")))?;
    put_back.map(drop).map_err(failed)?;
    readable(&dead)
}

fn discard(path: &Path) -> Result<(), Failure> {
    let mut log = take(path)?;
    let (mut requests, mut items) = (0u64, 0);
    while let Some(record) = log.read_next() {
        log.settle(record.id, record.amount);
        (requests, items) = (requests + 1, items + record.amount.items);
    }
    log.flush().map_err(failed)?;
    print(&format!("{} with {} dropped\n", counted(requests, "request"), counted(items, "item")))?;
    readable(&log)
}
