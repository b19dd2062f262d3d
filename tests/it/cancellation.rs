//! Clients that leave: a request's future dropped at every point where it can wait, alone and among others. Whatever
//! happens, the ledger balances, the budget comes back, and nothing is lost or sent twice that was answered OK.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use misaki::face::telemetry::{Refusal, Signal};
use proptest::collection::vec;
use proptest::prelude::*;

use super::harness::*;

/// One way for a request to go.
struct Way {
    name: &'static str,
    changes: &'static str,
    upstreams: usize,
}

impl Way {
    /// Whether OK means that the upstreams have it.
    fn answers(&self) -> bool {
        ["wait_for_result: true", "enabled: false"].iter().any(|setting| self.changes.contains(setting))
    }
}

const fn way(name: &'static str, changes: &'static str, upstreams: usize) -> Way {
    Way { name, changes, upstreams }
}

const WAYS: &[Way] = &[
    way("queue in memory", "", 1),
    way("a queue with one place", "exporters: {otlp: {sending_queue: {queue_size: 1, num_consumers: 1}}}", 1),
    way(
        "a full queue that blocks",
        "exporters: {otlp: {sending_queue: {queue_size: 1, num_consumers: 1, block_on_overflow: true}}}",
        1,
    ),
    way("waiting for the result", "exporters: {otlp: {sending_queue: {wait_for_result: true}}}", 1),
    way(
        "blocking and waiting for the result",
        "exporters: {otlp: {sending_queue: {queue_size: 2, num_consumers: 1, block_on_overflow: true, wait_for_result: true}}}",
        1,
    ),
    way("no queue", "exporters: {otlp: {sending_queue: {enabled: false}}}", 1),
    way(
        "batch before the queue",
        "{processors: {batch: {timeout: 1ms, send_batch_size: 4, send_batch_max_size: 5}}, exporters: {otlp: {sending_queue: {queue_size: 1}}}, service: {pipelines: {logs: {processors: [batch]}}}}",
        1,
    ),
    way(
        "batch before a queue that blocks",
        "{processors: {batch: {timeout: 1ms, send_batch_size: 4}}, exporters: {otlp: {sending_queue: {queue_size: 1, num_consumers: 1, block_on_overflow: true}}}, service: {pipelines: {logs: {processors: [batch]}}}}",
        1,
    ),
    way(
        "batch before waiting for the result",
        "{processors: {batch: {timeout: 1ms, send_batch_size: 4, send_batch_max_size: 5}}, exporters: {otlp: {sending_queue: {wait_for_result: true}}}, service: {pipelines: {logs: {processors: [batch]}}}}",
        1,
    ),
    way(
        "a batching queue",
        "exporters: {otlp: {sending_queue: {sizer: items, queue_size: 100, batch: {min_size: 4, max_size: 5, flush_timeout: 1ms}}}}",
        1,
    ),
    way(
        "a batching queue that answers",
        "exporters: {otlp: {sending_queue: {sizer: items, queue_size: 100, wait_for_result: true, batch: {min_size: 4, max_size: 5, flush_timeout: 1ms}}}}",
        1,
    ),
    way(
        "two exporters",
        "{exporters: {otlp/2: {sending_queue: {queue_size: 1, block_on_overflow: true}}}, service: {pipelines: {logs: {exporters: [otlp, otlp/2]}}}}",
        2,
    ),
    way(
        "two exporters, both answering",
        "{exporters: {otlp: {sending_queue: {wait_for_result: true}}, otlp/2: {sending_queue: {enabled: false}}}, service: {pipelines: {logs: {exporters: [otlp, otlp/2]}}}}",
        2,
    ),
];

async fn start(way: &Way, reply: Reply) -> (Misaki, Vec<Upstream>) {
    let mut upstreams = Vec::new();
    for _ in 0..way.upstreams {
        upstreams.push(Upstream::replying(reply.clone()).await);
    }
    let misaki = Misaki::start(way.changes, &upstreams.iter().collect::<Vec<_>>()).await;
    (misaki, upstreams)
}

/// Lets the upstreams go on, drains, and checks everything that must hold at the end.
async fn end(way: &Way, mut misaki: Misaki, upstreams: &[Upstream], answered_ok: &BTreeSet<String>) {
    misaki.check();
    upstreams.iter().for_each(Upstream::release);
    misaki.settle().await;
    for upstream in upstreams {
        let kept: BTreeSet<_> = upstream.kept_once().into_iter().collect();
        let lost: Vec<_> = answered_ok.difference(&kept).collect();
        assert!(lost.is_empty(), "{}: answered OK, and lost: {lost:?}", way.name);
    }
    let (accepted, _) = misaki.running.intake();
    for line in misaki.finish().await {
        assert_eq!((line.accepted, line.exported, line.left), (accepted, accepted, 0), "{}: {line}", way.name);
    }
}

/// The gate's own future, dropped after every number of polls while others are waiting, too.
#[tokio::test]
async fn a_submission_is_dropped_at_every_poll() {
    for way in WAYS {
        for reply in [Reply::Accept, Reply::Hang] {
            for polls in 0..6 {
                let (misaki, upstreams) = start(way, reply.clone()).await;
                let mut ok = BTreeSet::new();
                for round in ["a", "b", "c"] {
                    let names = numbered(round, 3);
                    if let Some(Ok(())) = polled(misaki.submit(Signal::Logs, &refs(&names)), polls).await {
                        let there = |upstream: &Upstream| names.iter().all(|name| upstream.kept().contains(name));
                        assert!(!way.answers() || upstreams.iter().all(there), "{}: OK before it is there", way.name);
                        ok.extend(names);
                    }
                    misaki.check();
                }
                end(way, misaki, &upstreams, &ok).await;
            }
        }
    }
}

/// A client on a socket that breaks its connection at every poll of its own.
#[tokio::test]
async fn a_connection_breaks_at_every_poll() {
    for (index, way) in WAYS.iter().enumerate() {
        let via = if index % 2 == 0 { Via::Grpc } else { Via::Http };
        let (misaki, upstreams) = start(way, Reply::Accept).await;
        let mut ok = BTreeSet::new();
        for polls in 0..10 {
            let names = numbered(&format!("{polls}-"), 3);
            let given = refs(&names);
            if polled(misaki.send_by(via, Signal::Logs, &given), polls).await.is_some_and(|answer| answer.ok) {
                ok.extend(names);
            }
            misaki.check();
        }
        // What was being read when its client left is given back, too.
        end(way, misaki, &upstreams, &ok).await;
    }
}

#[derive(Clone, Debug)]
enum Step {
    Submit(usize),
    Poll(usize),
    Leave(usize),
    Rest,
    Wait,
    Reply(Reply),
}

fn step() -> impl Strategy<Value = Step> {
    let busy = Reply::Grpc(14, "busy", None);
    prop_oneof![
        4 => (1usize..8).prop_map(Step::Submit),
        4 => any::<usize>().prop_map(Step::Poll),
        2 => any::<usize>().prop_map(Step::Leave),
        3 => Just(Step::Rest),
        1 => Just(Step::Wait),
        1 => prop::sample::select(vec![Reply::Accept, Reply::Hang, busy, Reply::Reset]).prop_map(Step::Reply),
    ]
}

type Client<'a> = (Vec<String>, Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send + 'a>>);

/// Polls one client once; when it has its answer it is gone.
async fn advance(clients: &mut Vec<Client<'_>>, which: usize, ok: &mut BTreeSet<String>) {
    if clients.is_empty() {
        return;
    }
    let which = which % clients.len();
    let future = clients[which].1.as_mut();
    let mut future = Some(future);
    let once = std::future::poll_fn(|context| Poll::Ready(future.take().unwrap().poll(context))).await;
    if let Poll::Ready(outcome) = once {
        let (names, _) = clients.remove(which);
        if outcome.is_ok() {
            ok.extend(names);
        }
    }
}

async fn interleave(way: &Way, steps: Vec<Step>) {
    let (misaki, upstreams) = start(way, Reply::Accept).await;
    let mut ok = BTreeSet::new();
    let mut clients: Vec<Client> = Vec::new();
    for (number, step) in steps.into_iter().enumerate() {
        match step {
            Step::Submit(items) => {
                let names = numbered(&format!("{number}-"), items);
                let submission = misaki.submit(Signal::Logs, &refs(&names));
                clients.push((names, submission));
                let last = clients.len() - 1;
                advance(&mut clients, last, &mut ok).await;
            }
            Step::Poll(which) => advance(&mut clients, which, &mut ok).await,
            Step::Leave(which) if !clients.is_empty() => drop(clients.remove(which % clients.len())),
            Step::Leave(_) => {}
            Step::Rest => rest().await,
            Step::Wait => jump(Duration::from_millis(2)).await,
            Step::Reply(reply) => {
                upstreams.iter().for_each(|upstream| {
                    let reply = reply.clone();
                    upstream.script(move |_| reply.clone());
                });
            }
        }
        misaki.check();
    }
    upstreams.iter().for_each(|upstream| upstream.script(|_| Reply::Accept));
    upstreams.iter().for_each(Upstream::release);
    // Those who are still there all get their answer.
    for (names, future) in clients {
        let answer = tokio::time::timeout(Duration::from_secs(20), future).await;
        if answer.unwrap_or_else(|_| panic!("{}: a client waits forever", way.name)).is_ok() {
            ok.extend(names);
        }
    }
    end(way, misaki, &upstreams, &ok).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, max_shrink_iters: 50, ..ProptestConfig::default() })]

    #[test]
    fn clients_come_and_go_in_any_order(way in 0..WAYS.len(), steps in vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(interleave(&WAYS[way], steps));
    }
}
