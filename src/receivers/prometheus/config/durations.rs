//! Durations as Prometheus writes them: `1m30s`.

use std::time::Duration;

const UNITS: [(&str, u64); 7] = [
    ("y", 31_536_000_000),
    ("w", 604_800_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// A duration as Prometheus reads it: whole numbers with units, the largest first, as in `1h30m`.
pub(in crate::receivers::prometheus) fn duration(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("not a valid duration string: {text:?}; it is made of whole numbers with units, as in 1m30s");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (mut rest, mut millis, mut units) = (text, 0_u64, UNITS.as_slice());
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?);
        let (unit, after) = after.split_at(after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len()));
        let at = units.iter().position(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let (_, size) = units.get(at).ok_or_else(wrong)?;
        let part = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*size)).ok_or_else(wrong)?;
        millis = millis.checked_add(part).filter(|millis| *millis < 1 << 53).ok_or_else(wrong)?;
        (rest, units) = (after, units.get(at + 1..).unwrap_or_default());
    }
    Ok(Duration::from_millis(millis))
}

/// The same as text.
pub(in crate::receivers::prometheus) fn duration_text(duration: Duration) -> String {
    let mut rest = duration.as_millis() as u64;
    let mut text = String::new();
    for (unit, size) in UNITS {
        // Weeks and years are written only if they are all there is.
        let is_exact = !matches!(unit, "y" | "w") || rest.is_multiple_of(size);
        if is_exact && rest >= size {
            text.push_str(&format!("{}{unit}", rest / size));
            rest %= size;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}
