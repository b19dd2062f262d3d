//! Numbers with their units, for people: bytes and times are scaled, other numbers have their thousands separated.

use super::layout::word;
use super::metric::rounded;
use crate::otlp::views::metrics::Number;

/// The columns of a unit that are shown.
const COLUMNS: usize = 20;
/// In bytes, and in nanoseconds; the largest first.
const BYTES: [(f64, &str); 6] = [
    ((1u64 << 50) as f64, "PiB"),
    ((1u64 << 40) as f64, "TiB"),
    ((1u64 << 30) as f64, "GiB"),
    ((1u64 << 20) as f64, "MiB"),
    ((1u64 << 10) as f64, "KiB"),
    (1.0, "B"),
];
const TIMES: [(f64, &str); 7] =
    [(86_400e9, "d"), (3600e9, "h"), (60e9, "min"), (1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")];

/// The unit of a metric.
pub(crate) struct Unit {
    /// The units in which its values are written, and what 1 is in the smallest of them; none if they are not scaled.
    scale: Option<(&'static [(f64, &'static str)], f64)>,
    /// What follows a number, with the space before it; `1` is not written, and `{request}` without its braces.
    pub(crate) word: String,
}

impl Unit {
    pub(crate) fn of(unit: &[u8]) -> Unit {
        let (base, per) = unit.strip_suffix(b"/s").map_or((unit, ""), |base| (base, "/s"));
        let scale: Option<(&[_], f64)> = match base {
            b"By" => Some((&BYTES, 1.0)),
            b"KiBy" => Some((&BYTES, (1u64 << 10) as f64)),
            b"MiBy" => Some((&BYTES, (1u64 << 20) as f64)),
            b"s" => Some((&TIMES, 1e9)),
            b"ms" => Some((&TIMES, 1e6)),
            b"us" => Some((&TIMES, 1e3)),
            b"ns" => Some((&TIMES, 1.0)),
            _ => None,
        };
        let text = word(COLUMNS, unit);
        let word = match () {
            () if scale.is_some() => per.to_owned(),
            () if ["", "1"].contains(&&*text) => String::new(),
            () if text.starts_with('{') => format!(" {}", text.replace(['{', '}'], "")),
            () => format!(" {text}"),
        };
        Unit { scale, word }
    }

    /// The unit in which a value is written, and its size in the metric's own; none if it is not scaled.
    pub(crate) fn scaled(&self, value: f64) -> Option<(f64, &'static str)> {
        let (units, one) = self.scale.filter(|_| value.is_finite())?;
        // Zero has no size: it is written in the metric's own unit.
        let value = if value == 0.0 { one } else { value.abs() * one };
        let fitting = units.iter().find(|(size, _)| value >= *size).or(units.last());
        fitting.map(|(size, name)| (size / one, *name))
    }

    /// `1.5 MiB`, `180 ms`, `1,234.5`: without [`Unit::word`].
    pub(crate) fn number(&self, value: f64, significant: i32) -> String {
        match self.scaled(value) {
            Some((size, name)) => format!("{} {name}", rounded(value / size, 3)),
            None => separated(&rounded(value, significant)),
        }
    }

    pub(super) fn exact(&self, value: Number) -> String {
        match value {
            Number::Int(value) if self.scale.is_none() => separated(&value.to_string()),
            value => self.number(value.double(), 6),
        }
    }
}

/// A plain number with its thousands separated.
pub(super) fn separated(number: &str) -> String {
    let (whole, rest) = number.split_at(number.find('.').unwrap_or(number.len()));
    let digits = whole.trim_start_matches('-');
    if digits.len() < 4 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return number.to_owned();
    }
    let mut out = whole.strip_suffix(digits).unwrap_or_default().to_owned();
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out + rest
}
