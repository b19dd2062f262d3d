//! The recent past by traces: one of which the ring has forgotten a part is gone, and one around which something was not
//! kept says so.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use misaki::face::inspect::Wanted;
use misaki::face::inspect::{PointKind, Viewers};
use misaki::face::telemetry::{Budget, Charge, Now, Part, Point, Share, Signal, Telemetry};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

use crate::tree::{pair, span, traces, with};

/// Spans of these traces in one request of a service, filled up to a size each.
fn telemetry(service: &str, of: &[u8], size: usize, now: Now) -> Telemetry {
    let one = |trace: &u8| {
        with(span(1, 0, service, &format!("t{trace}"), 0, 1), |span| {
            span.trace_id = vec![*trace; 16];
            span.attributes = vec![pair("filler", &"x".repeat(size))];
        })
    };
    let wire = traces(of.iter().map(one).collect());
    let charge = Charge::take(&Budget::new(1 << 30), Share::Ingest, wire.len() as u64).unwrap();
    let parts = [Part::new(wire, of.len() as u32, charge)].into_iter().collect();
    Telemetry { signal: Signal::Traces, parts, client: None, received: now, tickets: Default::default() }
}

/// The names of the spans of the past, and whether each may lack something.
fn past(watch: &Arc<Viewers>, start: Now, is_whole: bool) -> Vec<(String, bool)> {
    let view = watch.open(PointKind::Received, Wanted::read("").unwrap(), Some(start.instant)).unwrap();
    let mut view = if is_whole { view.with_whole_traces() } else { view };
    let mut found = Vec::new();
    while let Poll::Ready(Some(sighting)) = view.poll_next(&mut Context::from_waker(Waker::noop())) {
        for piece in &sighting.pieces {
            let request = ExportTraceServiceRequest::decode(piece.as_ref()).unwrap();
            let groups = request.resource_spans.into_iter().flat_map(|group| group.scope_spans);
            found.extend(groups.flat_map(|group| group.spans).map(|span| (span.name, sighting.has_gap)));
        }
    }
    found
}

fn later(start: Now, millis: u64) -> Now {
    let by = Duration::from_millis(millis);
    Now { instant: start.instant + by, wall: start.wall + by }
}

fn names(found: &[(String, bool)]) -> Vec<&str> {
    found.iter().map(|(name, _)| name.as_str()).collect()
}

#[test]
fn a_past_trace_is_whole_or_gone() {
    let (watch, start) = (Viewers::new(64 << 10), Now::read());
    let look = |service, of: &[u8], size, millis| {
        watch.look(Point::Received, &telemetry(service, of, size, later(start, millis)));
    };
    // Traces 1 to 3 pass both services; the chatty one pushes out what it has of them.
    look("quiet", &[1, 9], 300, 0);
    look("loud", &[1, 2], 1000, 100);
    look("quiet", &[2, 3], 300, 200);
    look("loud", &[3], 1000, 300);
    for number in 0..200 {
        look("loud", &[100 + (number % 100) as u8], 1000, 1000 + 200 * number);
    }
    let all = past(&watch, start, false);
    assert_eq!(names(&all)[..4], ["t1", "t9", "t2", "t3"]);
    let whole = past(&watch, start, true);
    assert_eq!(whole[0], ("t9".to_owned(), false), "{whole:?}");
    assert!(!names(&whole).iter().any(|name| ["t1", "t2", "t3"].contains(name)), "{whole:?}");
    // What is left of the chatty service is of traces that it has partly forgotten, or wholly there.
    assert!(whole.len() < all.len());
    // Ids without end are no memory without end.
    for number in 0..30_000u32 {
        let [_, a, b, c] = number.to_be_bytes();
        look("loud", &[a, b, c, c ^ 1], 10, 30_000 + u64::from(number) * 10);
        assert!(watch.ring_bytes() <= 64 << 10);
    }
}

#[test]
fn what_was_not_kept_leaves_a_gap() {
    let (watch, start) = (Viewers::new(64 << 10), Now::read());
    let look = |of: &[u8], size, millis| {
        watch.look(Point::Received, &telemetry("shop", of, size, later(start, millis)));
    };
    look(&[1], 10, 0);
    assert_eq!(past(&watch, start, true), [("t1".to_owned(), false)]);
    // One that would fill the ring. What came before it and within seconds after it may belong to it.
    look(&[2], 32 << 10, 1000);
    look(&[3], 10, 2000);
    look(&[4], 10, 60_000);
    let expected = [("t1", true), ("t3", true), ("t4", false)].map(|(name, has_gap)| (name.to_owned(), has_gap));
    assert_eq!(past(&watch, start, true), expected);
    assert!(past(&watch, start, false).iter().all(|(_, has_gap)| !has_gap));
}
