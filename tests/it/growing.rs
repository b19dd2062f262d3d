//! Requests that come in pieces: printed again when they have grown, forgotten in time, and selected as a whole.

use std::time::{Duration, Instant};

use misaki::face::exporters::Layout;
use misaki::face::exporters::{Limits, Requests, WAIT};
use misaki::face::otlp::whole;
use misaki::face::telemetry::Signal;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Status};

use crate::tree::{log, logs, pair, purchase, span, traces, with};

/// Requests at times in milliseconds, with the text and the number of items written.
struct Trial {
    start: Instant,
    requests: Requests,
    out: Vec<u8>,
    written: u64,
}

impl Trial {
    fn new(limits: Limits) -> Trial {
        let requests = Requests::new(Layout::new(80, false), WAIT, limits);
        Trial { start: Instant::now(), requests, out: Vec::new(), written: 0 }
    }

    fn at(&self, millis: u64) -> Instant {
        self.start + Duration::from_millis(millis)
    }

    fn add(&mut self, millis: u64, spans: &[ResourceSpans]) {
        let (now, request) = (self.at(millis), traces(spans.to_vec()));
        let Trial { requests, out, .. } = self;
        let written = whole(out, |to| requests.add(Signal::Traces, &[&request], now, to));
        self.written += written.iter().sum::<u64>();
    }

    /// What is printed by this time.
    fn printed(&mut self, millis: u64) -> String {
        let now = self.at(millis);
        let Trial { requests, out, .. } = self;
        let written = whole(out, |to| requests.print_due(now, to));
        self.written += written.iter().sum::<u64>();
        String::from_utf8(std::mem::take(&mut self.out)).unwrap()
    }

    fn wakes_at(&self) -> Option<u64> {
        self.requests.wake_at().map(|at| (at - self.start).as_millis() as u64)
    }
}

/// As SDKs send it that collect for five seconds: the gateway's spans first, those of the others in the seconds after.
#[test]
fn a_request_that_grew_is_printed_again() {
    let spans = purchase();
    let mut trial = Trial::new(Limits::default());
    trial.add(0, &spans[..1]);
    assert_eq!(trial.wakes_at(), Some(250));
    assert!(trial.printed(250).starts_with("14:02:11.402Z span   frontend "));
    // More comes, not all of it: printed when it has been quiet for a second.
    trial.add(1000, &spans[2..4]);
    assert_eq!(trial.wakes_at(), Some(3000));
    trial.add(1500, &spans[4..5]);
    assert_eq!(trial.wakes_at(), Some(3500));
    assert_eq!(trial.printed(3499), "");
    let text = trial.printed(3500);
    assert!(
        text.contains(" ! partial: 2 spans of a parent that has not arrived\n ! again: 3 spans came since it"),
        "{text}"
    );
    assert!(!text.contains("bottleneck"), "{text}");
    // Whole: soon, but the third time later than the second.
    trial.add(4000, &[&spans[1..2], &spans[5..]].concat());
    assert_eq!(trial.wakes_at(), Some(5000));
    let text = trial.printed(5000);
    assert!(text.contains(" ! again: 4 spans came since it was printed\n > bottleneck: external-api POST"), "{text}");
    assert!(text.contains("  8 spans, 7 services\n") && !text.contains("partial"), "{text}");
    // A log alone, under its span.
    let request = logs(vec![log(7, "payment", 9, "charged", 290)]);
    let Trial { requests, out, start, .. } = &mut trial;
    let now = *start + Duration::from_millis(6000);
    whole(out, |to| requests.add(Signal::Logs, &[&request], now, to));
    assert!(trial.printed(7999).is_empty());
    let text = trial.printed(8000);
    assert!(text.contains(" ! again: 1 log came since it was printed\n") && text.contains(" INFO  charged"), "{text}");
    assert_eq!((trial.written, trial.requests.items()), (9, 0));
    // A minute later it is forgotten, and says so if still more comes.
    assert_eq!(trial.wakes_at(), Some(68_000));
    assert_eq!((trial.printed(68_000).as_str(), trial.wakes_at()), ("", None));
    trial.add(69_000, &[span(9, 7, "payment", "audit", 300, 2)]);
    let text = trial.printed(69_250);
    assert!(text.contains(" ! partial: came after the rest of its trace was printed\n"), "{text}");
}

/// A service whose spans have not come is missed once it is known to have some: the trace waits for it, and is called a
/// part if it does not come.
#[test]
fn a_missing_service_is_missed() {
    let request = |trace: u8, failure: &str| {
        let of = |span: ResourceSpans| with(span, |span| span.trace_id = vec![trace; 16]);
        let root = of(span(1, 0, "gateway", "GET /", 0, 100));
        let call = of(with(span(2, 1, "gateway", "GET", 10, 80), |span| {
            span.kind = 3;
            span.attributes = vec![pair("http.request.method", "GET"), pair("server.address", "cart")];
            span.status = (!failure.is_empty()).then(|| Status { code: 2, message: failure.into() });
        }));
        let answer = of(with(span(3, 2, "cart", "GET /cart", 20, 60), |span| span.kind = 2));
        ([root, call], [answer])
    };
    let mut trial = Trial::new(Limits::default());
    // Unknown yet: printed twice.
    let (asked, answered) = request(1, "");
    trial.add(0, &asked);
    assert!(trial.printed(250).contains("bottleneck: gateway GET cart, 80 of 100 ms"));
    trial.add(300, &answered);
    assert!(trial.printed(2300).contains("bottleneck: cart GET /cart, 60 of gateway's 80 ms"));
    // Known: printed once, whichever comes first.
    let (asked, answered) = request(2, "");
    trial.add(10_000, &asked);
    assert_eq!(trial.printed(12_000), "");
    trial.add(12_000, &answered);
    assert_eq!(trial.printed(12_249), "");
    assert!(trial.printed(12_250).contains("bottleneck: cart GET /cart"));
    let (asked, answered) = request(3, "");
    trial.add(20_000, &answered);
    trial.add(20_100, &asked);
    assert!(trial.printed(20_350).contains("bottleneck: cart GET /cart"));
    // It does not come.
    let (asked, _) = request(4, "");
    trial.add(30_000, &asked);
    let text = trial.printed(35_000);
    assert!(
        text.contains(" ! partial: 1 call whose server has not arrived\n") && !text.contains("bottleneck"),
        "{text}"
    );
    // A call that failed may not have reached it.
    let (asked, _) = request(5, "connection refused");
    trial.add(40_000, &asked);
    let text = trial.printed(40_250);
    assert!(
        text.contains("connection refused\n") && text.contains(" > bottleneck: ") && !text.contains("partial"),
        "{text}"
    );
}

/// One that never stops growing is printed seldom, and one too large for that not again.
#[test]
fn growing_without_end_costs_little() {
    let mut trial = Trial::new(Limits::default());
    let mut prints = 0;
    for millis in (0..600_000).step_by(100) {
        trial.add(millis, &[span(millis + 1, u64::from(millis > 0), "shop", "step", millis as i64, 1)]);
        prints += trial.printed(millis).matches("── 14:02").count();
    }
    assert!((3..20).contains(&prints), "{prints}");
    let mut trial = Trial::new(Limits::default());
    let many: Vec<_> = (1..=1001).map(|id| span(id, u64::from(id > 1), "shop", "step", id as i64, 1)).collect();
    trial.add(0, &many);
    assert!(trial.printed(250).contains("1001 spans"));
    assert_eq!(trial.wakes_at(), None);
}

/// What is kept yields to what waits, within the same limits; and each item is written once in the ledger's eyes,
/// however often it is printed.
#[test]
fn what_is_kept_is_bounded() {
    let of =
        |trace: u64, span: ResourceSpans| with(span, |span| span.trace_id = [trace.to_be_bytes(), [7; 8]].concat());
    let limits = Limits { traces: 8, items: 40, bytes: 1 << 20 };
    let (mut trial, mut added, mut state) = (Trial::new(limits), 0, 1u64);
    for step in 0..3000u64 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (trace, id) = (state >> 33 & 15, state >> 40 & 7);
        trial.add(step * 40, &[of(trace + 1, span(id + 1, id, "shop", "step", id as i64, 3))]);
        added += 1;
        trial.printed(step * 40);
        assert_eq!(trial.written + trial.requests.items() as u64, added, "{step}");
        assert!(trial.requests.items() <= 40);
    }
    // Kept traces are forgotten before a waiting one is printed early.
    let mut trial = Trial::new(Limits { traces: 4, ..Limits::default() });
    (1..=4).for_each(|trace| trial.add(0, &[of(trace, span(1, 0, "shop", "one", 0, 1))]));
    trial.printed(250);
    for trace in 11..=14 {
        trial.add(300, &[of(trace, span(1, 9, "shop", "orphan", 0, 1))]);
        assert!(trial.out.is_empty());
    }
    trial.add(301, &[of(15, span(1, 9, "shop", "orphan", 0, 1))]);
    assert!(String::from_utf8_lossy(&trial.out).contains("printed early"));
}

/// With an expression: the whole trace of what matches, also if the match comes later than its time; nothing else.
#[test]
fn traces_are_selected_as_a_whole() {
    let mut trial = Trial::new(Limits::default());
    let other = with(span(1, 0, "shop", "other", 0, 5), |span| span.trace_id = vec![8; 16]);
    let (all, none) = (traces([purchase(), vec![other]].concat()), traces(Vec::new()));
    let select = |trial: &mut Trial, millis: u64, signal, all: &[u8], wanted: &[u8]| {
        let now = trial.at(millis);
        let Trial { requests, out, .. } = trial;
        whole(out, |to| requests.add_selected(signal, &[all], &[wanted], now, to));
    };
    select(&mut trial, 0, Signal::Traces, &all, &none);
    assert_eq!(trial.printed(10_000), "");
    // One span of it matches.
    select(&mut trial, 10_000, Signal::Traces, &none, &traces(purchase()[5..6].to_vec()));
    let text = trial.printed(10_000);
    assert!(text.contains("  8 spans, 7 services\n > bottleneck: external-api"), "{text}");
    assert!(!text.contains("other") && !text.contains("again"), "{text}");
    // Without a trace, only what matches.
    let loose = |body: &str| {
        let mut group = log(0, "shop", 9, body, 1);
        group.scope_logs[0].log_records[0].trace_id.clear();
        group
    };
    let both = logs(vec![loose("wanted"), loose("unwanted")]);
    select(&mut trial, 11_000, Signal::Logs, &both, &logs(vec![loose("wanted")]));
    let text = trial.printed(11_000);
    assert!(text.lines().count() == 1 && text.contains(" wanted"), "{text}");
}
