//! The collector's state as its `/status` tells it each second, and the rates that follow from the last minute.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Statuses whose counts are kept, and counts of each.
const SAMPLES: usize = 60;
const COUNTS: usize = 1000;
/// A rate is the mean over this time.
const WINDOW: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(in crate::cli::ui) struct Health {
    status: Option<Value>,
    /// The oldest first.
    samples: VecDeque<Sample>,
}

struct Sample {
    at: Instant,
    counts: HashMap<Count, Sum>,
}

/// Items, and bytes as OTLP protobuf.
type Sum = [u64; 2];

/// What is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::cli::ui) enum Count {
    /// What a receiver accepted, by its id and the signal.
    Accepted(String, String),
    /// What came to a processor, by its pipeline and its id; and what left it.
    Incoming(String, String),
    Outgoing(String, String),
    /// What an exporter sent, by its id and the signal.
    Exported(String, String),
}

impl Health {
    pub(super) fn tell(&mut self, status: Value, now: Instant) {
        let process = |status: &Value| status.get("pid").cloned();
        if self.status.as_ref().map(process) != Some(process(&status)) {
            self.samples.clear();
        }
        let counts = counts(&status).into_iter().take(COUNTS).collect();
        if self.samples.len() >= SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample { at: now, counts });
        self.status = Some(status);
    }

    /// The last status; `None` if no collector has told one.
    pub(in crate::cli::ui) fn status(&self) -> Option<&Value> {
        self.status.as_ref()
    }

    /// How many items and bytes passed each second lately; `None` if that is not known yet.
    pub(in crate::cli::ui) fn rate(&self, count: &Count) -> Option<[f64; 2]> {
        let last = self.samples.back()?;
        let is_near = |sample: &&Sample| last.at.saturating_duration_since(sample.at) <= WINDOW;
        rate(self.samples.iter().find(is_near)?, last, count)
    }

    /// The items of each second of the last minute, the oldest first.
    pub(in crate::cli::ui) fn course(&self, count: &Count) -> Vec<f64> {
        let pairs = self.samples.iter().zip(self.samples.iter().skip(1));
        pairs.map(|(one, next)| rate(one, next, count).map_or(0.0, |[items, _]| items)).collect()
    }
}

fn rate(from: &Sample, to: &Sample, count: &Count) -> Option<[f64; 2]> {
    let seconds = to.at.saturating_duration_since(from.at).as_secs_f64();
    let ([items, bytes], [items_before, bytes_before]) = (to.counts.get(count)?, from.counts.get(count)?);
    let more = [items.saturating_sub(*items_before), bytes.saturating_sub(*bytes_before)];
    (seconds > 0.0).then(|| more.map(|more| more as f64 / seconds))
}

fn counts(status: &Value) -> Vec<(Count, Sum)> {
    let text = |of: &Value, key: &str| of.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let number = |of: &Value, key: &str| of.get(key).and_then(Value::as_u64);
    let sum = |of: &Value, items: &str, bytes: &str| Some([number(of, items)?, number(of, bytes)?]);
    let mut counts = Vec::new();
    for receiver in each(status, "receivers") {
        let count = Count::Accepted(text(receiver, "id"), text(receiver, "signal"));
        counts.extend(sum(receiver, "accepted", "accepted_bytes").map(|sum| (count, sum)));
    }
    for account in each(status, "ledger") {
        let count = Count::Exported(text(account, "exporter"), text(account, "signal"));
        counts.extend(sum(account, "exported", "exported_bytes").map(|sum| (count, sum)));
    }
    for pipeline in each(status, "pipelines") {
        for processor in each(pipeline, "processors") {
            let place = || (text(pipeline, "id"), text(processor, "id"));
            let (incoming, outgoing) = (Count::Incoming as fn(_, _) -> _, Count::Outgoing as fn(_, _) -> _);
            for (items, bytes, count) in
                [("incoming", "incoming_bytes", incoming), ("outgoing", "outgoing_bytes", outgoing)]
            {
                let (pipeline, id) = place();
                counts.extend(sum(processor, items, bytes).map(|sum| (count(pipeline, id), sum)));
            }
        }
    }
    counts
}

/// The entries of a list; none if there is no such list.
pub(in crate::cli::ui) fn each<'a>(of: &'a Value, key: &str) -> &'a [Value] {
    of.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Told each second: the rate is that of the last ten, and starts anew with another process.
    #[test]
    fn rates_are_of_the_last_seconds() {
        let mut health = Health::default();
        let count = Count::Accepted("otlp".to_owned(), "logs".to_owned());
        let begun = Instant::now();
        let mut tell = |pid: u32, second: u64, accepted: u64| {
            let receiver =
                json!({"id": "otlp", "signal": "logs", "accepted": accepted, "accepted_bytes": 10 * accepted});
            health.tell(json!({"pid": pid, "receivers": [receiver]}), begun + Duration::from_secs(second));
            (health.rate(&count), health.course(&count).len())
        };
        assert_eq!(tell(1, 0, 1_000_000), (None, 0));
        assert_eq!(tell(1, 1, 1_000_050), (Some([50.0, 500.0]), 1));
        assert_eq!(tell(1, 11, 1_000_100), (Some([5.0, 50.0]), 2));
        assert_eq!(tell(2, 12, 70), (None, 0));
        assert_eq!(tell(2, 13, 60), (Some([0.0, 0.0]), 1));
        for second in 14..200 {
            tell(2, second, second);
        }
        assert_eq!(tell(2, 200, 200), (Some([1.0, 10.0]), SAMPLES - 1));
    }
}
