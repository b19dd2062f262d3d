//! Our own log: one line per event on stderr, in the Go collector's console form (time, level, message, fields as JSON,
//! separated by tabs) or as JSON objects.

pub(crate) mod records;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::escape;
use super::output::{Counts, Outcome, Output, Owner, Plain, Sink, Why};
use crate::config::telemetry::{Encoding, LogLevel};

/// Maximum bytes of lines that wait for a slow reader of stderr; further ones are dropped and counted.
const BUFFER: usize = 256 << 10;
/// Memory of a waiting line beside its text.
const LINE: usize = 192;
/// At shutdown a reader has this long to take waiting lines.
const PATIENCE: Duration = Duration::from_secs(1);

/// The target of events that only `level: debug` shows. They are emitted at level info, because release builds compile
/// out the levels below, at which libraries log every frame.
pub(crate) const DETAIL: &str = "misaki::detail";

/// Writes to stderr on its own thread, so that serving does not depend on its reader.
static WRITER: OnceLock<Output<Plain>> = OnceLock::new();

/// Installs the log for the whole process; later calls change nothing.
pub(crate) fn install(level: LogLevel, encoding: Encoding) {
    let level = match level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    };
    // If no thread can be started, lines are written by the caller.
    let sinks = vec![Sink::new("stderr", io::stderr())];
    if let Ok(output) = Output::start(sinks, BUFFER, Box::new(Lost(encoding)), Plain, None) {
        let _ = WRITER.set(output);
        std::panic::set_hook(Box::new(|panic| {
            let mut text = Vec::new();
            let thread = std::thread::current();
            let place = thread.name().unwrap_or("unnamed");
            escape::put_safe(&mut text, format!("thread '{place}' {panic}\n").as_bytes(), false);
            let trace = std::backtrace::Backtrace::capture();
            if trace.status() == std::backtrace::BacktraceStatus::Captured {
                text.extend_from_slice(trace.to_string().as_bytes());
            }
            write(text);
        }));
    }
    // Fails only if a subscriber exists already, which happens in tests that share a process.
    let _ = tracing::subscriber::set_global_default(Lines { level, encoding });
}

/// Writes to stderr: through the log's buffer once it exists, so that no caller waits for the reader.
pub(crate) fn write(text: impl Into<Vec<u8>>) {
    let text = text.into();
    match WRITER.get() {
        Some(_) if text.is_empty() => {}
        Some(writer) if !writer.has_failed() => {
            let lines = text.iter().filter(|byte| **byte == b'\n').count() as u64;
            let bytes = LINE + text.len();
            writer.offer(text, bytes, [lines, 0, 0]);
        }
        // If stderr is gone, there is nowhere to report it.
        _ => _ = io::stderr().lock().write_all(&text),
    }
}

/// Trouble with the log itself.
pub(crate) fn trouble() -> Option<(String, &'static str)> {
    let has_failed = WRITER.get().is_some_and(Output::has_failed);
    has_failed.then(|| ("log".to_owned(), "it ended by an internal error: restart the collector"))
}

/// Ends the log: lines from before it is dropped are written, unless they are not read.
pub(crate) struct End;

impl Drop for End {
    fn drop(&mut self) {
        WRITER.get().map(|writer| writer.close(PATIENCE));
    }
}

/// Reports dropped lines.
struct Lost(Encoding);

impl Owner for Lost {
    fn settle(&self, _: Counts, _: Outcome) {}

    fn notice(&self, lost: Counts, _: Why, _: &str) -> String {
        let lines = lost.iter().sum::<u64>();
        let words = if lines == 1 { "line of this log was" } else { "lines of this log were" };
        let message = format!("{lines} {words} not written, the reader was slow");
        line(self.0, "warn", Fields { message, rest: String::new() })
    }
}

struct Lines {
    level: LevelFilter,
    encoding: Encoding,
}

impl Lines {
    /// [`DETAIL`] counts as level debug, whatever its own level.
    fn level(metadata: &Metadata) -> Level {
        if metadata.target() == DETAIL { Level::DEBUG } else { *metadata.level() }
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata) -> bool {
        // Libraries log every frame; only our own events are for the reader.
        Lines::level(metadata) <= self.level && metadata.target().starts_with("misaki")
    }

    fn event(&self, event: &Event) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = Lines::level(event.metadata());
        records::offer(event, level);
        let level = match level {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            Level::DEBUG | Level::TRACE => "debug",
        };
        write(line(self.encoding, level, fields));
    }

    // Spans belong to libraries and are not enabled.
    fn new_span(&self, _: &Attributes) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn line(encoding: Encoding, level: &str, Fields { message, rest }: Fields) -> String {
    let time = timestamp(SystemTime::now());
    match encoding {
        Encoding::Console if rest.is_empty() => format!("{time}\t{level}\t{}\n", escape::safe(&message)),
        Encoding::Console => format!("{time}\t{level}\t{}\t{{{rest}}}\n", escape::safe(&message)),
        Encoding::Json => {
            let comma = if rest.is_empty() { "" } else { ", " };
            format!("{{\"level\":\"{level}\",\"ts\":\"{time}\",\"msg\":{}{comma}{rest}}}\n", json(&message))
        }
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    rest: String,
}

impl Fields {
    fn put(&mut self, field: &Field, value: &str) {
        let comma = if self.rest.is_empty() { "" } else { ", " };
        // Writing to a String cannot fail.
        let _ = write!(self.rest, "{comma}\"{}\": {value}", field.name());
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else {
            self.put(field, &json(&text));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, &json(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, &value.to_string());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, &value.to_string());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, &value.to_string());
    }
}

/// A JSON string that is also safe on a terminal.
fn json(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len() + 2);
    escape::put_json_string(&mut out, text.as_bytes(), true);
    String::from_utf8(out).expect("escaped text is text")
}

/// `2026-11-22T16:35:29.024Z`
pub(crate) fn timestamp(time: SystemTime) -> String {
    Timestamp::try_from(time).unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}
