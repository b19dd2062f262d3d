//! Our own log: one line an event on stderr, in the Go collector's console form (time, level, message, fields as JSON,
//! separated by tabs) or as JSON objects.

use crate::otlp::number::civil;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use super::escape;
use crate::config::telemetry::{Encoding, LogLevel};

/// Installs the log for the whole process; later calls change nothing.
pub fn install(level: LogLevel, encoding: Encoding) {
    let level = match level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    };
    let subscriber = tracing_subscriber::registry().with(Lines { level, encoding });
    // Fails only when there is one already, which tests that share a process rely on.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

struct Lines {
    level: LevelFilter,
    encoding: Encoding,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn enabled(&self, metadata: &Metadata, _: Context<S>) -> bool {
        // Libraries speak of every frame they see; only what we say is for the reader.
        *metadata.level() <= self.level && metadata.target().starts_with("misaki")
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn on_event(&self, event: &Event, _: Context<S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let time = timestamp(SystemTime::now());
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            Level::DEBUG | Level::TRACE => "debug",
        };
        let Fields { message, rest } = fields;
        let line = match self.encoding {
            Encoding::Console if rest.is_empty() => format!("{time}\t{level}\t{}\n", safe(&message)),
            Encoding::Console => format!("{time}\t{level}\t{}\t{{{rest}}}\n", safe(&message)),
            Encoding::Json => {
                let comma = if rest.is_empty() { "" } else { ", " };
                format!("{{\"level\":\"{level}\",\"ts\":\"{time}\",\"msg\":{}{comma}{rest}}}\n", json(&message))
            }
        };
        // Nobody to tell when stderr is gone.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
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
    escape::put_json_string(&mut out, text.as_bytes());
    String::from_utf8(out).expect("escaped text is text")
}

/// Text for a terminal: what could move its cursor or turn its text around is escaped.
fn safe(text: &str) -> String {
    let escape = |character: char| match character {
        '\n' => "\\n".to_owned(),
        character if escape::is_control(character) => format!("\\u{{{:x}}}", u32::from(character)),
        character => character.to_string(),
    };
    text.chars().map(escape).collect()
}

/// `2026-11-22T16:35:29.024Z`
pub fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days as i64);
    let (hour, minute, second, millis) = (second / 3600, second / 60 % 60, second % 60, since.subsec_millis());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}
