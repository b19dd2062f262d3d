//! The levels of log records.

use crate::otlp::views::LogRecord;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    #[default]
    None,
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Fatal,
}

impl Level {
    pub(super) const NAMED: [Level; 6] =
        [Level::Trace, Level::Debug, Level::Info, Level::Warn, Level::Error, Level::Fatal];
    pub(super) const COUNT: usize = Level::NAMED.len() + 1;

    pub(super) fn name(self) -> &'static str {
        match self {
            Level::None => "no level",
            Level::Trace => "TRACE",
            Level::Debug => "DEBUG",
            Level::Info => "INFO",
            Level::Warn => "WARN",
            Level::Error => "ERROR",
            Level::Fatal => "FATAL",
        }
    }

    /// The level of this name; without one all records have it.
    pub(super) fn named(name: &str) -> Level {
        Level::NAMED.into_iter().find(|level| level.name().eq_ignore_ascii_case(name)).unwrap_or_default()
    }

    /// By the number, else by the name that the record has for it.
    pub(super) fn of(record: &LogRecord<'_>) -> Level {
        match record.severity_number {
            21.. => Level::Fatal,
            17.. => Level::Error,
            13.. => Level::Warn,
            9.. => Level::Info,
            5.. => Level::Debug,
            1.. => Level::Trace,
            _ => match record.severity_text {
                text if text.eq_ignore_ascii_case(b"warning") => Level::Warn,
                text if text.eq_ignore_ascii_case(b"critical") => Level::Fatal,
                text => std::str::from_utf8(text).map(Level::named).unwrap_or_default(),
            },
        }
    }

    /// The name of its style.
    pub(super) fn class(self) -> &'static str {
        match self {
            Level::Fatal | Level::Error => "level-error",
            Level::Warn => "level-warn",
            Level::Info => "level-info",
            Level::Trace | Level::Debug | Level::None => "level-rest",
        }
    }
}
