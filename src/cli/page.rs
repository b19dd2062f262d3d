//! The output of verbs for people: tables, hanging lines, numbers, times.

use serde_json::Value;

use super::safe;
use crate::diagnostics::columns::{column, cut, hanging};

/// The width of the columns to the right of a name.
pub(super) const CELLS: usize = 55;

/// The width of pages that do not adapt to the terminal.
pub(super) const WIDTH: usize = 80;

/// A page of tables and lines, none longer than `columns`; the tables are `breadth` wide.
pub(super) struct Page {
    pub(super) out: String,
    pub(super) columns: usize,
    pub(super) breadth: usize,
    pub(super) bold: bool,
    pub(super) brief: bool,
}

impl Default for Page {
    fn default() -> Page {
        Page { out: String::new(), columns: WIDTH, breadth: WIDTH, bold: false, brief: false }
    }
}

impl Page {
    pub(super) fn put(&mut self, line: &str) {
        self.out.push_str(line);
        self.out.push('\n');
    }

    pub(super) fn strong(&mut self, text: &str) {
        let (on, off) = if self.bold { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        self.out.push_str(&format!("{on}{}{off}", cut(text, self.columns)));
    }

    pub(super) fn title(&mut self, text: &str) {
        self.out.push_str(if self.brief { "" } else { "\n" });
        self.strong(text);
        self.out.push('\n');
    }

    /// The heads of a table's columns.
    pub(super) fn heads(&mut self, name: &str, heads: &[&str]) {
        self.title(&row(self.breadth, name, heads));
    }

    pub(super) fn row(&mut self, name: &str, cells: &[String]) {
        self.put(&row(self.breadth, name, cells));
    }

    /// A note below a row.
    pub(super) fn note(&mut self, text: &str) {
        self.put(&format!("  {}", cut(text, self.columns - 2)));
    }

    /// A text in as many lines as needed, all indented to the width of `head`.
    pub(super) fn hang(&mut self, head: &str, text: &str) {
        self.put(&hanging(head, text, self.columns));
    }

    pub(super) fn line(&mut self, name: &str, text: &str) {
        match self.brief {
            true => self.put(&cut(&format!("  {name:<11}{text}"), self.columns)),
            false => self.hang(&format!("  {name:<11}"), text),
        }
    }

    /// A line for each item; in brief, one for all.
    pub(super) fn list(&mut self, name: &str, items: Vec<String>) {
        match self.brief {
            true => self.line(name, &items.join(", ")),
            false => items.iter().for_each(|item| self.line(name, item)),
        }
    }
}

/// A name and the cells to its right, `columns` wide.
fn row<T: AsRef<str>>(columns: usize, name: &str, cells: &[T]) -> String {
    let width = if cells.len() > 5 { 9 } else { 11 };
    let mut out = column(name, columns.saturating_sub(width * cells.len().max(CELLS / 11)));
    cells.iter().for_each(|cell| out.push_str(&format!("{:>width$}", cell.as_ref())));
    out
}

/// A string from the collector without control characters; empty for any other value.
pub(super) fn texts(value: &Value) -> String {
    safe(value.as_str().unwrap_or_default()).replace('\t', " ")
}

/// 1,234, then 1.23 M.
pub(super) fn count(value: &Value) -> String {
    let Some(number) = value.as_u64() else { return "-".to_owned() };
    match number {
        0..1000 => number.to_string(),
        1000..1_000_000 => format!("{},{:03}", number / 1000, number % 1000),
        _ => scaled(number as f64, 1000.0, &["", "k", "M", "G", "T", "P", "E"]),
    }
}

pub(super) fn bytes(value: &Value) -> String {
    let Some(number) = value.as_f64() else { return "-".to_owned() };
    scaled(number, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
}

fn scaled(mut number: f64, step: f64, units: &[&str]) -> String {
    let mut units = units.iter();
    let mut unit = units.next().copied().unwrap_or_default();
    let mut is_whole = true;
    while number >= step - 0.5
        && let Some(next) = units.next()
    {
        (number, unit, is_whole) = (number / step, next, false);
    }
    let digits = if is_whole || number >= 99.95 { 0 } else { 1 };
    format!("{number:.digits$} {unit}")
}

/// 12 s, 3 min, 4.2 h, 5.0 d.
pub(super) fn period(seconds: Option<f64>) -> String {
    match seconds.unwrap_or_default() {
        seconds if seconds < 100.0 => format!("{seconds:.0} s"),
        seconds if seconds < 6000.0 => format!("{:.0} min", seconds / 60.0),
        seconds if seconds < 172_800.0 => format!("{:.1} h", seconds / 3600.0),
        seconds => format!("{:.1} d", seconds / 86_400.0),
    }
}
