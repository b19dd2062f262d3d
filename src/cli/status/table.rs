//! Columns, numbers and times of `misaki status`.

use serde_json::Value;

use crate::cli::local::safe;
use crate::diagnostics::columns::column;

/// What the columns to the right of a name take.
pub const CELLS: usize = 55;

/// A name and columns to the right of it, in `columns` in all.
pub fn row<T: AsRef<str>>(columns: usize, name: &str, cells: &[T]) -> String {
    let width = if cells.len() > 5 { 9 } else { 11 };
    let mut out = column(name, columns.saturating_sub(width * cells.len().max(CELLS / 11)));
    cells.iter().for_each(|cell| out.push_str(&format!("{:>width$}", cell.as_ref())));
    out
}

/// A string of the collector's, safe to show; empty when it is none.
pub fn texts(value: &Value) -> String {
    safe(value.as_str().unwrap_or_default()).replace('\t', " ")
}

/// 1,234, then 1.23 M.
pub fn count(value: &Value) -> String {
    let Some(number) = value.as_u64() else { return "-".to_owned() };
    match number {
        0..1000 => number.to_string(),
        1000..1_000_000 => format!("{},{:03}", number / 1000, number % 1000),
        _ => scaled(number as f64, 1000.0, &["", "k", "M", "G", "T", "P", "E"]),
    }
}

pub fn bytes(value: &Value) -> String {
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
pub fn period(seconds: Option<f64>) -> String {
    match seconds.unwrap_or_default() {
        seconds if seconds < 100.0 => format!("{seconds:.0} s"),
        seconds if seconds < 6000.0 => format!("{:.0} min", seconds / 60.0),
        seconds if seconds < 172_800.0 => format!("{:.1} h", seconds / 3600.0),
        seconds => format!("{:.1} d", seconds / 86_400.0),
    }
}
