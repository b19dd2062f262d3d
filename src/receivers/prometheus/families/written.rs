//! A point on the wire, and units as OTLP writes them.

use super::*;

impl Point {
    pub(super) fn write_gauge(&self, out: &mut Vec<u8>, attributes: &[u8]) -> bool {
        self.write_number(out, 0, attributes)
    }

    pub(super) fn write_sum(&self, out: &mut Vec<u8>, attributes: &[u8]) -> bool {
        self.write_number(out, self.start, attributes)
    }

    fn write_number(&self, out: &mut Vec<u8>, start: u64, attributes: &[u8]) -> bool {
        let Some(value) = self.value else { return false };
        put_times(out, start, self.time);
        if !is_stale(value) {
            put_fixed64(out, 4, value.to_bits());
        }
        self.put_exemplars(out, 5);
        out.extend_from_slice(attributes);
        if is_stale(value) {
            put_uint(out, 8, NO_RECORDED_VALUE);
        }
        true
    }

    pub(super) fn write_histogram(&self, out: &mut Vec<u8>, attributes: &[u8]) -> bool {
        let Some(count) = self.value else { return false };
        let none = More::default();
        let more = self.more.as_deref().unwrap_or(&none);
        let has_ended = is_stale(count) || more.sum.is_some_and(is_stale);
        put_times(out, self.start, self.time);
        let mut bounds = more.bounds.clone();
        // A bucket that is gone ends no histogram that is there.
        bounds.retain(|(_, below)| has_ended || !is_stale(*below));
        bounds.sort_by(|one, other| one.0.total_cmp(&other.0));
        bounds.pop_if(|(bound, _)| *bound == f64::INFINITY);
        if has_ended {
            put_uint(out, 10, NO_RECORDED_VALUE);
        } else {
            put_fixed64(out, 4, count as u64);
            more.sum.into_iter().for_each(|sum| put_fixed64(out, 5, sum.to_bits()));
        }
        put_header(out, 6, (bounds.len() + 1) * 8);
        let mut before = 0.0;
        for below in bounds.iter().map(|(_, below)| *below).chain([count]) {
            // The cast makes 0 of a negative difference, and of NaN.
            let inside = if has_ended { 0 } else { (below - before) as u64 };
            out.extend_from_slice(&inside.to_le_bytes());
            before = below;
        }
        put_header(out, 7, bounds.len() * 8);
        bounds.iter().for_each(|(bound, _)| out.extend_from_slice(&bound.to_bits().to_le_bytes()));
        self.put_exemplars(out, 8);
        out.extend_from_slice(attributes);
        true
    }

    pub(super) fn write_summary(&self, out: &mut Vec<u8>, attributes: &[u8]) -> bool {
        let Some(count) = self.value else { return false };
        let none = More::default();
        let more = self.more.as_deref().unwrap_or(&none);
        let has_ended = is_stale(count) || more.sum.is_some_and(is_stale);
        put_times(out, self.start, self.time);
        if has_ended {
            put_uint(out, 8, NO_RECORDED_VALUE);
        } else {
            put_fixed64(out, 4, count as u64);
            more.sum.into_iter().for_each(|sum| put_fixed64(out, 5, sum.to_bits()));
        }
        let mut quantiles = more.bounds.clone();
        quantiles.sort_by(|one, other| one.0.total_cmp(&other.0));
        for (quantile, value) in quantiles {
            message(out, 6, |out| {
                put_fixed64(out, 1, quantile.to_bits());
                put_fixed64(out, 2, if has_ended { 0 } else { value.to_bits() });
            });
        }
        out.extend_from_slice(attributes);
        true
    }

    fn put_exemplars(&self, out: &mut Vec<u8>, number: u32) {
        let exemplars = self.more.iter().flat_map(|more| &more.exemplars);
        exemplars.for_each(|exemplar| put_bytes(out, number, exemplar));
    }
}

fn put_times(out: &mut Vec<u8>, start: u64, time: i64) {
    if start != 0 {
        put_fixed64(out, 2, start);
    }
    put_fixed64(out, 3, nanos(time));
}

const UNITS: [(&str, &str); 26] = [
    ("days", "d"),
    ("hours", "h"),
    ("minutes", "min"),
    ("seconds", "s"),
    ("milliseconds", "ms"),
    ("microseconds", "us"),
    ("nanoseconds", "ns"),
    ("bytes", "By"),
    ("kibibytes", "KiBy"),
    ("mebibytes", "MiBy"),
    ("gibibytes", "GiBy"),
    ("tibibytes", "TiBy"),
    ("kilobytes", "KBy"),
    ("megabytes", "MBy"),
    ("gigabytes", "GBy"),
    ("terabytes", "TBy"),
    ("meters", "m"),
    ("volts", "V"),
    ("amperes", "A"),
    ("joules", "J"),
    ("watts", "W"),
    ("grams", "g"),
    ("celsius", "Cel"),
    ("hertz", "Hz"),
    ("ratio", "1"),
    ("percent", "%"),
];
const PER: [(&str, &str); 7] =
    [("second", "s"), ("minute", "m"), ("hour", "h"), ("day", "d"), ("week", "w"), ("month", "mo"), ("year", "y")];

/// A unit of Prometheus in the words of UCUM.
pub(super) fn ucum(unit: &[u8]) -> String {
    let unit = String::from_utf8_lossy(unit);
    let word = |text: &str, known: &[(&'static str, &'static str)]| {
        known.iter().find(|(word, _)| *word == text).map_or_else(|| text.to_owned(), |(_, unit)| (*unit).to_owned())
    };
    match unit.split_once("_per_") {
        Some((unit, per)) if !per.is_empty() => format!("{}/{}", word(unit, &UNITS), word(per, &PER)),
        Some((unit, _)) => word(unit, &UNITS),
        None => word(&unit, &UNITS),
    }
}
