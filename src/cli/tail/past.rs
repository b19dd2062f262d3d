//! The past, sorted by the times of its items: they come in the order in which requests arrived.

use bytes::Bytes;

use super::Sighting;
use crate::order::Ordered;
use crate::otlp::schema::{self, log_record, metric_data, number_point, request, resource_group, scope_group, span};
use crate::otlp::split::Splitter;
use crate::otlp::wire::{Fields, Value};
use crate::telemetry::Signal;

/// Each item has a copy of the headers around it. Requests beyond this many bytes of copies stay whole, and are sorted
/// by their first item.
const COPIES: usize = 256 << 20;

#[derive(Default)]
pub(super) struct Past {
    /// With the time of the item.
    items: Vec<(u64, Sighting)>,
    copied: usize,
}

impl Past {
    pub(super) fn add(&mut self, sighting: Sighting) {
        let Sighting { signal, items, wire, .. } = sighting.clone();
        let count = usize::try_from(items).unwrap_or(usize::MAX);
        let could_take = wire.len().saturating_mul(count);
        if count < 2 || self.copied.saturating_add(could_take) > COPIES {
            self.items.push((time_of(signal, &wire), sighting));
            return;
        }
        let (mut splitter, mut skipped) = (Splitter::new(signal, wire), sighting.skipped);
        while let Some((piece, items)) = splitter.next_piece(1, usize::MAX) {
            self.copied += piece.len();
            let (wire, skipped) = (Bytes::from(piece), std::mem::take(&mut skipped));
            let one = Sighting { items: u64::from(items), skipped, wire: wire.clone(), ..sighting.clone() };
            self.items.push((time_of(signal, &wire), one));
        }
    }

    /// Items of the same time stay in the order in which they came.
    pub(super) fn sorted(mut self) -> impl Iterator<Item = Sighting> {
        self.items.order_by_key(|(time, _)| *time);
        self.items.into_iter().map(|(_, sighting)| sighting)
    }
}

/// The time of the first item: when a span began, when a log happened or else was seen; 0 if it has none.
fn time_of(signal: Signal, wire: &[u8]) -> u64 {
    let record = [request::RESOURCES, resource_group::SCOPES, scope_group::RECORDS];
    let Some(record) = record.into_iter().try_fold(wire, first) else { return 0 };
    match signal {
        Signal::Logs => match fixed(record, log_record::TIME) {
            0 => fixed(record, log_record::OBSERVED_TIME),
            time => time,
        },
        Signal::Traces => fixed(record, span::START),
        Signal::Metrics => {
            let data = Fields::new(record).find(|field| schema::is_data(field.number));
            let Some(Value::Bytes(data)) = data.map(|field| field.value) else { return 0 };
            // All kinds of data points have their time in the same field.
            let point = first(data, metric_data::POINTS);
            point.map_or(0, |point| fixed(point, number_point::TIME))
        }
    }
}

fn first(message: &[u8], number: u32) -> Option<&[u8]> {
    Fields::new(message).find_map(|field| match field.value {
        Value::Bytes(bytes) if field.number == number => Some(bytes),
        _ => None,
    })
}

fn fixed(message: &[u8], number: u32) -> u64 {
    let found = Fields::new(message).find_map(|field| match field.value {
        Value::Fixed64(value) if field.number == number => Some(value),
        _ => None,
    });
    found.unwrap_or(0)
}
