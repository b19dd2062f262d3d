//! The layout of the forms for people: the width of lines, colours (which only repeat what words say), times,
//! durations.

use std::io::IsTerminal;

use super::Style;
use super::text::Text;
pub use crate::diagnostics::columns::width;
pub(crate) use crate::diagnostics::columns::{column, cut, right};
use crate::otlp::pieces::whole;

/// The maximum width of a line, and whether it may have colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub width: usize,
    pub colour: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Strong,
    Faint,
    Bad,
    Warning,
}

/// The width of an output that is not a terminal, unless `COLUMNS` is set; and of a terminal whose width is unknown.
const FILE_WIDTH: usize = 160;
const TERMINAL_WIDTH: usize = 80;

impl Default for Layout {
    fn default() -> Layout {
        Layout::FILE
    }
}

impl Layout {
    pub const FILE: Layout = Layout { width: FILE_WIDTH, colour: false };

    pub fn new(width: usize, colour: bool) -> Layout {
        Layout { width: width.clamp(60, 1000), colour }
    }

    /// The layout for stdout or stderr: the width of the terminal, and colours unless `NO_COLOR` is set.
    #[cfg(unix)]
    pub fn of(stream: impl IsTerminal + std::os::fd::AsFd) -> Layout {
        Layout::suiting(stream.is_terminal(), || {
            let size = rustix::termios::tcgetwinsize(stream).ok()?;
            Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
        })
    }

    #[cfg(not(unix))]
    pub fn of(stream: impl IsTerminal) -> Layout {
        Layout::suiting(stream.is_terminal(), || None)
    }

    fn suiting(is_terminal: bool, measure: impl FnOnce() -> Option<usize>) -> Layout {
        let named = || std::env::var("COLUMNS").ok()?.parse().ok();
        if !is_terminal {
            return named().map_or(Layout::FILE, |columns| Layout::new(columns, false));
        }
        let width = measure().or_else(named).unwrap_or(TERMINAL_WIDTH);
        Layout::new(width, std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()))
    }

    /// Appends text in a tone.
    pub fn put(self, out: &mut Vec<u8>, tone: Tone, text: &str) {
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
pub fn words(columns: usize, fill: impl FnOnce(&mut Text<'_, '_>)) -> String {
    let mut bytes = Vec::new();
    let style = Style { escape_newlines: true, ..Style::default() };
    whole(&mut bytes, |to| fill(&mut Text::new(to, style)));
    let text = String::from_utf8_lossy(&bytes).replace('\t', " ");
    cut(text.trim_end(), columns)
}

/// One string of telemetry, of which only as much is read as can fit.
pub fn word(columns: usize, text: &[u8]) -> String {
    words(columns, |out| out.text(head(columns, text)))
}

/// The beginning of a text, long enough to fill this number of columns.
pub fn head(columns: usize, text: &[u8]) -> &[u8] {
    text.get(..columns * 4 + 4).unwrap_or(text)
}

/// The width of a time of the day.
pub const TIME: usize = "14:02:11.402Z".len();

/// `14:02:11.402Z`; dashes if the time is unset.
pub fn time_of_day(nanos: u64) -> String {
    if nanos == 0 {
        return "--:--:--.--- ".to_owned();
    }
    let millis = nanos / 1_000_000;
    let (hour, minute) = (millis / 3_600_000 % 24, millis / 60_000 % 60);
    format!("{hour:02}:{minute:02}:{:02}.{:03}Z", millis / 1000 % 60, millis % 1000)
}

/// `180 ms`: three significant digits and a unit.
pub fn duration(nanos: u64) -> String {
    let (number, unit) = number_and_unit(nanos);
    format!("{number} {unit}")
}

/// `3–9 ms`, `180 of 200 ms`: two durations with text between them. A common unit is written once.
pub fn pair(first: u64, between: &str, second: u64) -> String {
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
