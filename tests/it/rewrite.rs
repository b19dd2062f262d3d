//! The walk over a request: what it keeps, drops and edits is what decoding, changing and encoding would give.

use misaki::face::otlp::check::check;
use misaki::face::otlp::schema::{
    any_value, exponential_point, log_record, metric, number_point, resource, scope, span,
};
use misaki::face::otlp::wire::{Fields, Value, put_bytes, put_uint};
use misaki::face::otlp::{
    AnyValue, Depth, Exhausted, Message, Outcome, Room, Sight, Signal, Verdict, Visitor, put_pair_header, rewrite,
};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as ProstValue;
use opentelemetry_proto::tonic::common::v1::{AnyValue as ProstAny, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use proptest::prelude::*;
use prost::Message as _;

use super::json::{logs, metrics, traces};

fn unbounded() -> &'static Room {
    Box::leak(Box::new(Room::within(usize::MAX)))
}

/// The same decisions for the walk and for the oracle, which ask in the same order.
#[derive(Clone)]
struct Decisions {
    state: u64,
    drops: u64,
    edits: u64,
}

impl Decisions {
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.state >> 33
    }

    fn keeps(&mut self) -> bool {
        self.next() % 8 >= self.drops
    }

    fn edits(&mut self) -> bool {
        self.next() % 8 < self.edits
    }
}

/// `edited: "yes"` as an attribute in field `list`.
fn edited(list: u32) -> &'static [u8] {
    let mut raw = Vec::new();
    put_pair_header(&mut raw, list, b"edited", 5);
    put_bytes(&mut raw, any_value::STRING, b"yes");
    raw.leak()
}

fn mark(message: &mut Message<'static>, list: u32) {
    message.set_attribute(list, b"edited", edited(list));
}

struct Random {
    decisions: Decisions,
    depth: Depth,
    prunes: bool,
    signal: Signal,
}

impl Random {
    fn verdict(&mut self) -> Result<Verdict, Exhausted> {
        Ok(if self.decisions.keeps() { Verdict::Keep } else { Verdict::Drop })
    }
}

impl Visitor<'static> for Random {
    type Fault = Exhausted;

    fn depth(&self) -> Depth {
        self.depth
    }
    fn prunes(&self) -> bool {
        self.prunes
    }
    fn resource(&mut self, sight: &mut Sight<'static>) -> Result<Verdict, Exhausted> {
        if self.decisions.edits() {
            mark(&mut sight.resource, resource::ATTRIBUTES);
        }
        self.verdict()
    }
    fn scope(&mut self, sight: &mut Sight<'static>) -> Result<Verdict, Exhausted> {
        if self.decisions.edits() {
            mark(&mut sight.scope, scope::ATTRIBUTES);
        }
        self.verdict()
    }
    fn record(&mut self, sight: &mut Sight<'static>) -> Result<Verdict, Exhausted> {
        if self.decisions.edits() {
            let list = match self.signal {
                Signal::Logs => log_record::ATTRIBUTES,
                Signal::Traces => span::ATTRIBUTES,
                Signal::Metrics => metric::METADATA,
            };
            mark(&mut sight.record, list);
            // What is inside may edit what is around it.
            mark(&mut sight.resource, resource::ATTRIBUTES);
        }
        self.verdict()
    }
    fn child(&mut self, sight: &mut Sight<'static>) -> Result<Verdict, Exhausted> {
        if self.decisions.edits() {
            let list = match sight.data_number {
                0 => 3,
                metric::HISTOGRAM => 9,
                metric::EXPONENTIAL_HISTOGRAM => exponential_point::ATTRIBUTES,
                _ => number_point::ATTRIBUTES,
            };
            mark(&mut sight.child, list);
            let list = if sight.data_number == 0 { span::ATTRIBUTES } else { metric::METADATA };
            mark(&mut sight.record, list);
        }
        self.verdict()
    }
}

fn mark_list(attributes: &mut Vec<KeyValue>) {
    let value = Some(ProstAny { value: Some(ProstValue::StringValue("yes".into())) });
    match attributes.iter_mut().find(|pair| pair.key == "edited") {
        Some(pair) => pair.value = value,
        None => attributes.push(KeyValue { key: "edited".into(), value, ..Default::default() }),
    }
}

macro_rules! oracle {
    ($request:expr, $groups:ident, $scopes:ident, $records:ident, $random:expr, |$record:ident, $resource:ident, $it:ident| $inner:block) => {{
        let $it = $random;
        $request.$groups.retain_mut(|group| {
            let mut $resource = group.resource.clone();
            if $it.decisions.edits() {
                mark_list(&mut $resource.get_or_insert_default().attributes);
            }
            if !$it.decisions.keeps() {
                return false;
            }
            if $it.depth > Depth::Resources {
                group.$scopes.retain_mut(|scope| {
                    if $it.decisions.edits() {
                        mark_list(&mut scope.scope.get_or_insert_default().attributes);
                    }
                    if !$it.decisions.keeps() {
                        return false;
                    }
                    if $it.depth > Depth::Scopes {
                        scope.$records.retain_mut(|$record| $inner);
                    }
                    !$it.prunes || !scope.$records.is_empty()
                });
            }
            group.resource = $resource;
            !$it.prunes || !group.$scopes.is_empty()
        });
    }};
}

fn expected_logs(mut request: ExportLogsServiceRequest, random: &mut Random) -> ExportLogsServiceRequest {
    oracle!(request, resource_logs, scope_logs, log_records, random, |record, resource, it| {
        if it.decisions.edits() {
            mark_list(&mut record.attributes);
            mark_list(&mut resource.get_or_insert_default().attributes);
        }
        it.decisions.keeps()
    });
    request
}

fn expected_traces(mut request: ExportTraceServiceRequest, random: &mut Random) -> ExportTraceServiceRequest {
    oracle!(request, resource_spans, scope_spans, spans, random, |record, resource, it| {
        if it.decisions.edits() {
            mark_list(&mut record.attributes);
            mark_list(&mut resource.get_or_insert_default().attributes);
        }
        if !it.decisions.keeps() {
            return false;
        }
        if it.depth > Depth::Records {
            let attributes = &mut record.attributes;
            record.events.retain_mut(|event| {
                if it.decisions.edits() {
                    mark_list(&mut event.attributes);
                    mark_list(attributes);
                }
                it.decisions.keeps()
            });
        }
        true
    });
    request
}

fn expected_metrics(mut request: ExportMetricsServiceRequest, random: &mut Random) -> ExportMetricsServiceRequest {
    oracle!(request, resource_metrics, scope_metrics, metrics, random, |record, resource, it| {
        if it.decisions.edits() {
            mark_list(&mut record.metadata);
            mark_list(&mut resource.get_or_insert_default().attributes);
        }
        if !it.decisions.keeps() {
            return false;
        }
        if it.depth == Depth::Records {
            return true;
        }
        let metadata = &mut record.metadata;
        macro_rules! points {
            ($data:ident) => {{
                $data.data_points.retain_mut(|point| {
                    if it.decisions.edits() {
                        mark_list(&mut point.attributes);
                        mark_list(metadata);
                    }
                    it.decisions.keeps()
                });
                !it.prunes || !$data.data_points.is_empty()
            }};
        }
        match &mut record.data {
            Some(Data::Gauge(data)) => points!(data),
            Some(Data::Sum(data)) => points!(data),
            Some(Data::Histogram(data)) => points!(data),
            Some(Data::ExponentialHistogram(data)) => points!(data),
            Some(Data::Summary(data)) => points!(data),
            None => true,
        }
    });
    request
}

/// The same request as another encoder may write it: unknown fields in every container, and what describes a container
/// in two places, one behind its children.
pub(super) fn rewritten(message: &[u8], depth: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut late = Vec::new();
    if depth > 0 {
        put_uint(&mut out, 900, depth as u64);
    }
    for field in Fields::new(message) {
        match (depth, field.number, field.value) {
            (0, 1, Value::Bytes(inner)) => put_bytes(&mut out, 1, &rewritten(inner, 1)),
            (1 | 2, 1, Value::Bytes(inner)) => {
                let first = Fields::new(inner).next().map_or(0, |field| field.raw.len());
                put_bytes(&mut out, 1, &inner[..first]);
                put_bytes(&mut late, 1, &inner[first..]);
            }
            (1, 2, Value::Bytes(inner)) => put_bytes(&mut out, 2, &rewritten(inner, 2)),
            (2, 2, Value::Bytes(inner)) => {
                let mut record = inner.to_vec();
                put_bytes(&mut record, 1000, b"newer");
                put_bytes(&mut out, 2, &record);
            }
            (1 | 2, 3, _) => late.extend_from_slice(field.raw),
            _ => out.extend_from_slice(field.raw),
        }
    }
    out.extend(late);
    out
}

fn run(signal: Signal, wire: &[u8], random: &mut Random) -> (Vec<u8>, u32) {
    let wire = wire.to_vec().leak();
    let items = check(signal, wire).unwrap();
    match rewrite(signal, wire, items, unbounded(), random).unwrap() {
        Outcome::Unchanged => (wire.to_vec(), items),
        Outcome::Empty => (Vec::new(), 0),
        Outcome::Changed { bytes, items } => {
            assert_eq!(check(signal, &bytes), Ok(items), "counted wrongly");
            (bytes, items)
        }
    }
}

fn any_random() -> impl Strategy<Value = (u64, u64, u64, bool, u8)> {
    (any::<u64>(), 0u64..5, 0u64..4, any::<bool>(), 0u8..4)
}

fn random(signal: Signal, (state, drops, edits, prunes, depth): (u64, u64, u64, bool, u8)) -> Random {
    let depth = [Depth::Resources, Depth::Scopes, Depth::Records, Depth::Children][usize::from(depth)];
    Random { decisions: Decisions { state, drops, edits }, depth, prunes, signal }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn logs_come_out_as_from_prost(request in logs(), seed in any_random(), odd in any::<bool>()) {
        let wire = request.encode_to_vec();
        let wire = if odd { rewritten(&wire, 0) } else { wire };
        let (bytes, _) = run(Signal::Logs, &wire, &mut random(Signal::Logs, seed));
        let expected = expected_logs(request, &mut random(Signal::Logs, seed));
        prop_assert_eq!(ExportLogsServiceRequest::decode(&*bytes).unwrap(), expected);
    }

    /// All that a walk makes has its room, and the room of what it does not hand out comes back.
    #[test]
    fn a_walk_keeps_within_its_room(request in logs(), seed in any_random(), part in 0usize..120) {
        let wire = request.encode_to_vec().leak();
        let items = check(Signal::Logs, wire).unwrap();
        let whole = rewrite(Signal::Logs, wire, items, unbounded(), &mut random(Signal::Logs, seed)).unwrap();
        let most = 2 * wire.len() * part / 100;
        let room: &Room = Box::leak(Box::new(Room::within(most)));
        match rewrite(Signal::Logs, wire, items, room, &mut random(Signal::Logs, seed)) {
            Err(_) => prop_assert!(room.missing().is_some()),
            Ok(outcome) => {
                let made = if let Outcome::Changed { bytes, .. } = &outcome { bytes.capacity() } else { 0 };
                prop_assert!(made <= most);
                prop_assert!(matches!(outcome, Outcome::Empty) || room.try_take(most - made), "some is lost");
                prop_assert_eq!(outcome, whole);
            }
        }
    }

    #[test]
    fn traces_come_out_as_from_prost(request in traces(), seed in any_random(), odd in any::<bool>()) {
        let wire = request.encode_to_vec();
        let wire = if odd { rewritten(&wire, 0) } else { wire };
        let (bytes, _) = run(Signal::Traces, &wire, &mut random(Signal::Traces, seed));
        let expected = expected_traces(request, &mut random(Signal::Traces, seed));
        prop_assert_eq!(ExportTraceServiceRequest::decode(&*bytes).unwrap(), expected);
    }

    #[test]
    fn metrics_come_out_as_from_prost(request in metrics(), seed in any_random(), odd in any::<bool>()) {
        let wire = request.encode_to_vec();
        let wire = if odd { rewritten(&wire, 0) } else { wire };
        let (bytes, _) = run(Signal::Metrics, &wire, &mut random(Signal::Metrics, seed));
        let expected = expected_metrics(request, &mut random(Signal::Metrics, seed));
        prop_assert_eq!(ExportMetricsServiceRequest::decode(&*bytes).unwrap(), expected);
    }

    /// Nothing dropped and nothing edited: the same request. Dropped only: the records that stay are the same bytes.
    #[test]
    fn untouched_records_are_the_same_bytes(request in logs(), seed in any_random()) {
        let wire = rewritten(&request.encode_to_vec(), 0);
        let all: Vec<_> = records(&wire);
        let (state, drops, _, _, _) = seed;
        let mut visitor = random(Signal::Logs, (state, drops, 0, false, 2));
        let (bytes, items) = run(Signal::Logs, &wire, &mut visitor);
        let kept = records(&bytes);
        prop_assert_eq!(kept.len(), items as usize);
        let mut rest = all.iter();
        prop_assert!(kept.iter().all(|record| rest.any(|other| other == record)), "a record was rewritten");
        if drops == 0 {
            prop_assert_eq!(bytes, wire);
        }
    }
}

fn children(message: &[u8], number: u32) -> impl Iterator<Item = &[u8]> {
    Fields::new(message).filter_map(move |field| match field.value {
        Value::Bytes(bytes) if field.number == number => Some(bytes),
        _ => None,
    })
}

fn records(wire: &[u8]) -> Vec<Vec<u8>> {
    let groups = children(wire, 1).flat_map(|group| children(group, 2));
    groups.flat_map(|scope| children(scope, 2)).map(<[u8]>::to_vec).collect()
}

fn pair(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut raw = Vec::new();
    put_pair_header(&mut raw, 6, key, value.len() + 2);
    put_bytes(&mut raw, any_value::STRING, value);
    raw
}

/// The attributes of an edited message, `key=value`, and everything else as its bytes.
fn shown(message: &Message) -> String {
    let mut out = Vec::new();
    message.write(&mut out);
    assert_eq!(out.len(), message.len());
    let fields = Fields::new(&out).map(|field| match (field.number, field.value) {
        (6, Value::Bytes(pair)) => {
            let pair = misaki::face::otlp::KeyValue::read(pair);
            let AnyValue::String(value) = pair.value else { panic!("{pair:?}") };
            format!("{}={}", String::from_utf8_lossy(pair.key), String::from_utf8_lossy(value))
        }
        (number, value) => format!("{number}:{value:?}"),
    });
    fields.collect::<Vec<_>>().join(" ")
}

#[test]
fn edits_leave_the_rest_in_place() {
    let mut raw = Vec::new();
    put_uint(&mut raw, 2, 9);
    for (key, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
        raw.extend(pair(key.as_bytes(), value.as_bytes()));
    }
    put_uint(&mut raw, 900, 1);
    raw.extend(pair(b"c", b"4"));
    let check = |edit: fn(&mut Message), expected: &str| {
        let mut message = Message::of(&raw);
        edit(&mut message);
        assert_eq!(shown(&message), expected);
        message.is_changed()
    };
    static NEW: std::sync::LazyLock<[Vec<u8>; 3]> =
        std::sync::LazyLock::new(|| [pair(b"a", b"9"), pair(b"d", b"5"), vec![0x10, 7]]);
    assert!(!check(|_| {}, "2:Varint(9) a=1 b=2 a=3 900:Varint(1) c=4"));
    assert!(check(|message| message.set_attribute(6, b"a", &NEW[0]), "2:Varint(9) a=9 b=2 a=3 900:Varint(1) c=4"));
    assert!(check(|message| message.set_attribute(6, b"d", &NEW[1]), "2:Varint(9) a=1 b=2 a=3 900:Varint(1) c=4 d=5"));
    // The last one takes the place of what is deleted, and the second `a` comes to light.
    check(|message| assert!(message.delete_attribute(6, b"a")), "2:Varint(9) c=4 b=2 a=3 900:Varint(1)");
    check(|message| assert!(message.delete_attribute(6, b"c")), "2:Varint(9) a=1 b=2 a=3 900:Varint(1)");
    assert!(!check(|message| assert!(!message.delete_attribute(6, b"x")), "2:Varint(9) a=1 b=2 a=3 900:Varint(1) c=4"));
    check(|message| message.retain_attributes(6, |pair| pair.key != b"a"), "2:Varint(9) b=2 900:Varint(1) c=4");
    check(|message| message.replace(2, &NEW[2]), "2:Varint(7) a=1 b=2 a=3 900:Varint(1) c=4");
    check(|message| message.replace(6, &NEW[1]), "2:Varint(9) 900:Varint(1) d=5");
    check(
        |message| {
            message.delete_attribute(6, b"a");
            message.set_attribute(6, b"c", &NEW[0]);
            message.remove(2);
            message.append(&NEW[2]);
            message.set_attribute(6, b"a", &NEW[1]);
        },
        "d=5 b=2 a=3 900:Varint(1) 2:Varint(7)",
    );
    let message = Message::of(&raw);
    assert_eq!(message.attribute(6, b"a"), Some(AnyValue::String(b"1")));
    assert_eq!(message.attribute(6, b"aa"), None);
    assert_eq!(message.bits(2), 9);
}

/// Reads the span around each of its events, and edits it.
struct Around {
    edits: bool,
}

impl Visitor<'static> for Around {
    type Fault = Exhausted;

    fn depth(&self) -> Depth {
        Depth::Children
    }
    fn prunes(&self) -> bool {
        false
    }
    fn child(&mut self, sight: &mut Sight<'static>) -> Result<Verdict, Exhausted> {
        assert_eq!(sight.record.bytes(span::NAME), b"name");
        if self.edits {
            mark(&mut sight.record, span::ATTRIBUTES);
        }
        Ok(Verdict::Keep)
    }
}

/// Fields between the events of a span were looked past once for each event: 20,000 of both took a second.
#[test]
fn fields_between_events_cost_linear_time_and_stay() {
    const UNKNOWN: u32 = 99;
    let seconds = |events: usize, name_between: bool| {
        let mut body = Vec::new();
        put_bytes(&mut body, span::NAME, b"name");
        for index in 0..events {
            put_uint(&mut body, UNKNOWN, index as u64);
            if name_between {
                put_bytes(&mut body, span::NAME, b"name");
            }
            put_bytes(&mut body, span::EVENTS, b"");
        }
        let request = [2, 2, 1].into_iter().fold(body, |inner, number| {
            let mut outer = Vec::new();
            put_bytes(&mut outer, number, &inner);
            outer
        });
        let request: &'static [u8] = request.leak();
        let start = std::time::Instant::now();
        let outcome = rewrite(Signal::Traces, request, 1, unbounded(), &mut Around { edits: !name_between }).unwrap();
        let elapsed = start.elapsed().as_secs_f64();
        if name_between {
            assert_eq!(outcome, Outcome::Unchanged);
            return elapsed;
        }
        let Outcome::Changed { bytes, items: 1 } = outcome else { panic!("{outcome:?}") };
        let span = [1, 2, 2].into_iter().fold(&*bytes, |outer, number| children(outer, number).next().unwrap());
        let unknown: Vec<_> = Fields::new(span).filter(|field| field.number == UNKNOWN).map(|it| it.value).collect();
        assert_eq!(unknown, (0..events as u64).map(Value::Varint).collect::<Vec<_>>());
        assert_eq!(children(span, span::EVENTS).count(), events);
        elapsed
    };
    for name_between in [false, true] {
        let best = |events| (0..5).map(|_| seconds(events, name_between)).fold(f64::INFINITY, f64::min);
        let (few, many) = (best(2_000), best(16_000));
        assert!(many < few * 40.0, "8 times as many take {:.0} times as long", many / few);
    }
}
