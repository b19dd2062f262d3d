//! Durations as Go writes and reads them: `1m30s`, `200ms`, `1.5h`.

use std::time::Duration;

const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Parses a duration. The error explains the form.
pub fn parse(text: &str) -> Result<Duration, &'static str> {
    const NONE: &str = "it is made of numbers with units, as in 1m30s or 200ms";
    const UNIT: &str = "it wants a unit: ns, us, ms, s, m or h, as in 5s";
    const DAYS: &str = "the largest unit is h: a day is 24h";
    let negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(NONE);
    }
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(number_end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.len() + fraction.len() == 0 || fraction.contains('.') {
            return Err(NONE);
        }
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let wrong = if matches!(unit, "d" | "day" | "days") { DAYS } else { UNIT };
        let unit = UNITS.iter().find(|(name, _)| *name == unit).ok_or(wrong)?.1;
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| TOO_LONG)? };
        // Further digits are below a nanosecond.
        let fraction = fraction.get(..fraction.len().min(15)).unwrap_or_default();
        let part = fraction.parse::<u64>().unwrap_or(0) as u128 * u128::from(unit) / 10u128.pow(fraction.len() as u32);
        nanos += u128::from(whole) * u128::from(unit) + part;
        rest = after;
    }
    match i64::try_from(nanos) {
        Err(_) => Err(TOO_LONG),
        Ok(nanos) if negative && nanos > 0 => Err("it is not negative"),
        Ok(nanos) => Ok(Duration::from_nanos(nanos as u64)),
    }
}

const TOO_LONG: &str = "it is at most 292 years";

/// Writes a duration as Go does: `5m0s`, `1.5s`, `200ms`, `0s`.
pub fn format(duration: Duration) -> String {
    const MINUTE: u128 = 60_000_000_000;
    let nanos = duration.as_nanos();
    match nanos {
        0 => "0s".into(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => decimal(nanos, 3) + "µs",
        1_000_000..1_000_000_000 => decimal(nanos, 6) + "ms",
        _ => {
            let (minutes, seconds) = (nanos / MINUTE, decimal(nanos % MINUTE, 9));
            match minutes {
                0 => format!("{seconds}s"),
                1..60 => format!("{minutes}m{seconds}s"),
                _ => format!("{}h{}m{seconds}s", minutes / 60, minutes % 60),
            }
        }
    }
}

/// `number / 10^places`, without trailing zeros.
fn decimal(number: u128, places: usize) -> String {
    let unit = 10u128.pow(places as u32);
    let fraction = format!("{:0places$}", number % unit);
    match fraction.trim_end_matches('0') {
        "" => (number / unit).to_string(),
        fraction => format!("{}.{fraction}", number / unit),
    }
}
