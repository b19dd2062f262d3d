//! The layout of the forms for people: the width of lines, colours (which only repeat what words say), times,
//! durations.

use std::io::{self, IsTerminal};
use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};

use super::Style;
use super::text::Text;
pub use crate::diagnostics::columns::width;
pub(super) use crate::diagnostics::columns::{column, cut, right};
use crate::otlp::pieces::whole;

/// How text is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub width: usize,
    /// Whether lines are cut to the width. Else they are as long as their text, up to [`LONGEST`].
    pub is_cut: bool,
    pub colour: bool,
    pub zone: Zone,
    /// Whether each span has a row of its own in a tree.
    pub unfold: bool,
    /// The terminal that shows it, whose width may change.
    pub terminal: Option<Stream>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// The zone of times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zone {
    Utc,
    /// That of this machine, or of `TZ`; with the columns that its name takes.
    Local(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Strong,
    Faint,
    Bad,
    Warning,
}

/// The width for columns in an output that is not a terminal, and the width of a terminal that does not tell it.
const FILE_WIDTH: usize = 160;
const TERMINAL_WIDTH: usize = 80;
/// The maximum width of a line that is not cut.
pub(super) const LONGEST: usize = 2000;

impl Default for Layout {
    fn default() -> Layout {
        Layout::FILE
    }
}

impl Layout {
    pub const FILE: Layout =
        Layout { width: FILE_WIDTH, is_cut: false, colour: false, zone: Zone::Utc, unfold: false, terminal: None };

    pub fn new(width: usize, colour: bool) -> Layout {
        Layout { width: width.clamp(60, 1000), is_cut: true, colour, ..Layout::FILE }
    }

    /// The layout for a stream: the width of its terminal, else of `COLUMNS`, else none; and colours on a terminal
    /// unless `NO_COLOR` is set.
    pub(crate) fn of(stream: Stream) -> Layout {
        let named = || std::env::var("COLUMNS").ok()?.parse().ok();
        if !stream.is_terminal() {
            return named().map_or(Layout::FILE, |columns| Layout::new(columns, false));
        }
        let width = stream.columns().or_else(named).unwrap_or(TERMINAL_WIDTH);
        let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Layout { terminal: Some(stream), ..Layout::new(width, colour) }
    }

    /// The same with the width that the terminal has now.
    pub(crate) fn measured(self) -> Layout {
        let width = self.terminal.and_then(Stream::columns);
        width.map_or(self, |width| Layout { width: Layout::new(width, false).width, ..self })
    }

    /// The same with the times of this machine's zone.
    pub fn local(self) -> Layout {
        let now = Timestamp::now().as_nanosecond();
        let zone = u64::try_from(now).map_or(String::new(), |nanos| zone_name(offset(nanos)));
        Layout { zone: Zone::Local(zone.len()), ..self }
    }

    /// The maximum width of a text.
    pub(super) fn longest(self) -> usize {
        if self.is_cut { self.width } else { LONGEST }
    }

    /// The text if it fits the width, or if lines are not cut.
    pub(super) fn cut(self, text: &str) -> String {
        cut(text, self.longest())
    }

    /// The width of [`Layout::time`].
    pub fn time_columns(self) -> usize {
        match self.zone {
            Zone::Utc => UNSET.len() + 1,
            Zone::Local(columns) => UNSET.len() + columns,
        }
    }

    fn offset(self, nanos: u64) -> i32 {
        if self.zone == Zone::Utc { 0 } else { offset(nanos) }
    }

    /// `14:02:11.402`, in the layout's zone; dashes if the time is unset.
    pub(crate) fn clock(self, nanos: u64) -> String {
        if nanos == 0 {
            return UNSET.to_owned();
        }
        let millis = (i128::from(nanos / 1_000_000) + i128::from(self.offset(nanos)) * 1000).unsigned_abs();
        let (hour, minute) = (millis / 3_600_000 % 24, millis / 60_000 % 60);
        format!("{hour:02}:{minute:02}:{:02}.{:03}", millis / 1000 % 60, millis % 1000)
    }

    /// `14:02:11.402Z`, `14:02:11.402+09`.
    pub fn time(self, nanos: u64) -> String {
        let zone = if nanos == 0 { String::new() } else { zone_name(self.offset(nanos)) };
        column(&format!("{}{zone}", self.clock(nanos)), self.time_columns().max(UNSET.len() + zone.len()))
    }

    /// The same after the date, unless that is today's: `2026-11-30 14:02:11.402Z`.
    pub(crate) fn dated(self, nanos: u64, now: u64) -> String {
        let date = |nanos: u64| {
            let seconds = i64::try_from(nanos / 1_000_000_000).unwrap_or_default() + i64::from(self.offset(nanos));
            Timestamp::from_second(seconds).map(|time| Offset::UTC.to_datetime(time).date())
        };
        match date(nanos) {
            Ok(day) if nanos > 0 && date(now).ok() != Some(day) => format!("{day} {}", self.time(nanos)),
            _ => self.time(nanos),
        }
    }

    /// Appends text in a tone.
    pub(crate) fn put(self, out: &mut Vec<u8>, tone: Tone, text: &str) {
        let code: &[u8] = match tone {
            Tone::Plain => b"",
            Tone::Strong => b"\x1b[1m",
            Tone::Faint => b"\x1b[2m",
            Tone::Bad => b"\x1b[31m",
            Tone::Warning => b"\x1b[33m",
        };
        let painted = self.colour && !code.is_empty();
        if painted {
            out.extend_from_slice(code);
        }
        out.extend_from_slice(text.as_bytes());
        if painted {
            out.extend_from_slice(b"\x1b[0m");
        }
    }
}

/// Telemetry's text on one line, safe for a terminal, cut to the width.
pub(super) fn words(columns: usize, fill: impl FnOnce(&mut Text<'_, '_>)) -> String {
    let mut bytes = Vec::new();
    let style = Style { escape_newlines: true, ..Style::default() };
    whole(&mut bytes, |to| fill(&mut Text::new(to, style)));
    let text = String::from_utf8_lossy(&bytes).replace('\t', " ");
    cut(text.trim_end(), columns)
}

/// One string of telemetry, of which only as much is read as can fit.
pub(crate) fn word(columns: usize, text: &[u8]) -> String {
    words(columns, |out| out.text(head(columns, text)))
}

/// The beginning of a text, long enough to fill this number of columns.
pub(super) fn head(columns: usize, text: &[u8]) -> &[u8] {
    text.get(..columns * 4 + 4).unwrap_or(text)
}

const UNSET: &str = "--:--:--.---";

/// The seconds by which this machine's zone is ahead of UTC at a time.
fn offset(nanos: u64) -> i32 {
    static ZONE: LazyLock<TimeZone> = LazyLock::new(TimeZone::system);
    Timestamp::from_nanosecond(i128::from(nanos)).map_or(0, |time| ZONE.to_offset(time).seconds())
}

/// `Z`, `+09`, `-03:30`.
fn zone_name(seconds: i32) -> String {
    let (sign, minutes) = (if seconds < 0 { '-' } else { '+' }, seconds.unsigned_abs() / 60);
    match (minutes / 60, minutes % 60) {
        (0, 0) => "Z".to_owned(),
        (hours, 0) => format!("{sign}{hours:02}"),
        (hours, minutes) => format!("{sign}{hours:02}:{minutes:02}"),
    }
}

impl Stream {
    fn is_terminal(self) -> bool {
        match self {
            Stream::Stdout => io::stdout().is_terminal(),
            Stream::Stderr => io::stderr().is_terminal(),
        }
    }

    /// The width of its terminal, if it is known.
    #[cfg(unix)]
    fn columns(self) -> Option<usize> {
        let size = match self {
            Stream::Stdout => rustix::termios::tcgetwinsize(io::stdout()),
            Stream::Stderr => rustix::termios::tcgetwinsize(io::stderr()),
        };
        Some(usize::from(size.ok()?.ws_col)).filter(|columns| *columns > 0)
    }

    #[cfg(not(unix))]
    fn columns(self) -> Option<usize> {
        None
    }
}

/// `180 ms`: three significant digits and a unit.
pub(crate) fn duration(nanos: u64) -> String {
    let (number, unit) = number_and_unit(nanos);
    format!("{number} {unit}")
}

/// `3–9 ms`, `180 of 200 ms`: two durations with text between them. A common unit is written once.
pub(super) fn pair(first: u64, between: &str, second: u64) -> String {
    let ((number, unit), (other, second_unit)) = (number_and_unit(first), number_and_unit(second));
    match unit == second_unit {
        true => format!("{number}{between}{other} {unit}"),
        false => format!("{number} {unit}{between}{other} {second_unit}"),
    }
}

fn number_and_unit(nanos: u64) -> (String, &'static str) {
    if nanos == 0 {
        return ("0".to_owned(), "ms");
    }
    const UNITS: [(u64, &str); 6] = [
        (86_400_000_000_000, "d"),
        (3_600_000_000_000, "h"),
        (60_000_000_000, "min"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
        (1_000, "µs"),
    ];
    let Some((size, unit)) = UNITS.into_iter().find(|(size, _)| nanos >= *size) else {
        return (nanos.to_string(), "ns");
    };
    let value = nanos as f64 / size as f64;
    let text = match value {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    };
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    (text.to_owned(), unit)
}
