//! Limits are what they are said to be: what is within one is taken, and what is refused is told a limit that it is beyond.

use std::io::ErrorKind;
use std::time::Duration;

use bytes::Bytes;
use misaki::face::otlp::{Coding, deflate};
use misaki::face::sending::NewRecord;
use misaki::face::telemetry::{Budget, Charge, Share, Signal};

use crate::harness::*;
use crate::simulated_disk::{Fault, Sim, open};

const MIB: usize = 1 << 20;

/// What there is for requests with the most memory, as the documentation says.
const SHARE: u64 = 24 << 20;

/// A request of one log record whose body has about so many bytes, of which some repeat.
fn wire(size: usize) -> Vec<u8> {
    let some: String = (0..4096).map(|index| format!("{:08x} request", index * 7919)).collect();
    request(Signal::Logs, &[&some.repeat(size / some.len())])
}

/// The collector with so much memory for telemetry, that takes bodies as large as it has room for.
async fn roomy() -> Misaki {
    let misaki = Misaki::start(
        "{receivers: {otlp: {protocols: {grpc: {max_recv_msg_size_mib: 1000}, http: {max_request_body_size: 1000000000}}}}, \
         processors: {memory_limiter: {check_interval: 1s, limit_mib: 120, spike_limit_mib: 24}}, exporters: {nop: }, \
         service: {pipelines: {logs: {processors: [memory_limiter], exporters: [nop]}}}}",
        &[],
    )
    .await;
    assert_eq!(misaki.running.budget.limit(Share::Ingest), SHARE);
    misaki
}

/// Each coding and encoding just below what the documentation promises, and far above. What is refused for its size alone
/// is larger than it is told, and what is refused for what is made of it says so.
#[tokio::test]
async fn bodies_as_large_as_they_may_be() {
    let misaki = roomy().await;
    for coding in [Coding::Identity, Coding::Gzip, Coding::Deflate, Coding::Zstd, Coding::Snappy, Coding::SnappyFramed]
    {
        let fits = if coding == Coding::Zstd { 15 } else { 22 };
        for size in [fits * MIB - (MIB / 4), 24 * MIB] {
            let wire = wire(size);
            let body = if coding == Coding::Identity {
                wire.clone()
            } else {
                deflate(coding, None, &[&wire], usize::MAX).unwrap()
            };
            // It is held beside what it opens to, and grows by half.
            let held = if matches!(coding, Coding::Snappy | Coding::SnappyFramed) { body.len() / 2 * 3 } else { 0 };
            let headers = [("content-encoding", coding.http_name()), ("grpc-encoding", coding.grpc_name())];
            for (via, headers) in [(Via::Http, &headers[..1]), (Via::Grpc, &headers[1..])] {
                let (flag, headers) = if coding == Coding::Identity { (0, &[][..]) } else { (1, headers) };
                let body = match via {
                    Via::Grpc if Coding::from_grpc(coding.grpc_name()) != Some(coding) || size > fits * MIB => continue,
                    Via::Grpc => [&[flag][..], &(body.len() as u32).to_be_bytes(), &body].concat(),
                    _ => body.clone(),
                };
                let answer = misaki.exchange(via, Signal::Logs, body, headers).await;
                told_truly(&format!("{coding:?} {via:?} {size}"), &answer, size + held < fits * MIB, wire.len());
            }
        }
    }
    assert_eq!(misaki.running.budget.used(Share::Ingest), 0);
}

/// JSON and what is made of it are held together.
#[tokio::test]
async fn json_as_large_as_it_may_be() {
    let misaki = roomy().await;
    for (size, fits) in [(11, true), (14, true), (22, false), (24, false)] {
        let record = r#"{"timeUnixNano":"1700000000000000000","severityNumber":9,"attributes":[{"key":"a","value":{"intValue":"1"}}],"body":{"stringValue":"hello"}}"#;
        let list = vec![record; size * MIB / (record.len() + 1)].join(",");
        let text = format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{list}]}}]}}]}}"#);
        let length = text.len();
        let mut answer = misaki.post_json(Signal::Logs, text).await;
        if !answer.ok {
            let told: serde_json::Value = serde_json::from_str(&answer.message).unwrap();
            answer.message = told["message"].as_str().unwrap().to_owned();
        }
        told_truly(&format!("JSON of {size} MiB"), &answer, fits, length);
    }
    assert_eq!(misaki.running.budget.used(Share::Ingest), 0);
}

#[track_caller]
fn told_truly(case: &str, answer: &Answer, fits: bool, length: usize) {
    assert!(answer.ok || !fits, "{case}: {answer:?}");
    if answer.ok {
        return;
    }
    let told = answer.message.strip_prefix("request is larger than ").unwrap_or_else(|| panic!("{case}: {answer:?}"));
    let (limit, unit) = told.split_once(' ').unwrap();
    match unit {
        "bytes" => assert!(length > limit.parse().unwrap(), "{case}: it has {length}, {answer:?}"),
        unit => assert_eq!(
            (unit, limit.parse()),
            ("bytes with all that is made of it while it is read", Ok(SHARE)),
            "{case}"
        ),
    }
}

/// A filesystem may be full of something else than bytes.
#[test]
fn a_filesystem_that_is_full_is_told_of_by_its_own_words() {
    let sim = Sim::new(1, false);
    let (mut log, _) = open(&sim).unwrap();
    for kind in [ErrorKind::StorageFull, ErrorKind::QuotaExceeded] {
        sim.fault(Some(Fault { at: 1, forever: true, kind }));
        let record = NewRecord { kind: 0, items: 1, received_nanos: 0, parts: &[Bytes::from_static(b"x")] };
        let said = log.append(&[record], false).unwrap_err().to_string();
        assert!(said.contains("inodes") && said.contains(&std::io::Error::from(kind).to_string()), "{said}");
        sim.fault(None);
        sim.pass(Duration::from_secs(60));
    }
}

/// What is wrong with a policy is said of that, once.
#[test]
fn a_policy_of_an_unknown_type_is_one_mistake() {
    for policy in ["{name: a, type: timeout, timeout: 5s}", "{name: a, type: name}", "{name: a, timeout: {x: 1}}"] {
        let yaml = format!(
            "yaml:{{receivers: {{otlp: {{protocols: {{grpc: }}}}}}, processors: {{tail_sampling: {{policies: [{policy}]}}}}, exporters: {{nop: }}, \
             service: {{pipelines: {{traces: {{receivers: [otlp], processors: [tail_sampling], exporters: [nop]}}}}}}}}"
        );
        let loaded = misaki::face::config::load(&[yaml], &[], &|_| None);
        misaki::face::service::Plan::read(&loaded);
        let said = loaded.problems.render(&loaded.sources, false);
        assert!(
            said.contains("unknown sampling policy type") && said.ends_with("\n1 error in inline yaml\n"),
            "{said}"
        );
    }
}

/// Several sinks share the memory for queues: a large request keeps no small one out, a stuck sink no healthy one, and what is in
/// the share already finds an empty sink open, even where processors have made more of it than there is room for.
#[test]
fn sinks_share_the_memory_for_queues() {
    const LIMIT: u64 = 8 << 20;
    let (large, small) = (100_000, 20_000);
    let budget = Budget::new(2 * LIMIT);
    let holders = [budget.add_holder(), budget.add_holder()];
    let mut held = 0;
    let fill = |held: &mut u64, request: u64| {
        while budget.allows(*held, request, request) && budget.take(Share::Queue, request) {
            *held += request;
        }
        *held as f64 / LIMIT as f64
    };
    let filled = fill(&mut held, large);
    assert!((0.63..0.67).contains(&filled), "large requests fill {filled}");
    let filled = fill(&mut held, small);
    assert!((0.78..0.81).contains(&filled), "with small ones {filled}");
    assert!(budget.allows(0, large, large), "another sink");
    drop(holders);
    let filled = fill(&mut held, small);
    assert!(filled > 0.99, "alone {filled}");
    let _holders = [budget.add_holder(), budget.add_holder()];
    let charge = Charge::held(&budget, Share::Queue, 0);
    charge.add(LIMIT / 2);
    assert!(budget.used(Share::Queue) > LIMIT && budget.allows(0, LIMIT / 2, 0));
    assert!(!budget.allows(0, small, small) && !budget.allows(1, LIMIT / 2, 0));
}
