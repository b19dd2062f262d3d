//! Several addresses behind one name: each gets its share, and one that is dead or silent costs no telemetry.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use misaki::face::exporters::{Balance, Pieces, Protocol, upstream};
use misaki::face::network::Endpoint;
use misaki::face::telemetry::Status;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::harness::*;

const BOTH: [Protocol; 2] = [Protocol::Http2, Protocol::Either];
const STALE: Duration = Duration::from_secs(31);

/// What a name stands for, and how often that was asked.
#[derive(Clone, Default)]
struct Name {
    addresses: Arc<Mutex<Vec<SocketAddr>>>,
    asked: Arc<AtomicUsize>,
}

impl Name {
    fn of(addresses: impl IntoIterator<Item = SocketAddr>) -> Name {
        let name = Name::default();
        name.set(addresses);
        name
    }

    /// Without addresses it cannot be resolved.
    fn set(&self, addresses: impl IntoIterator<Item = SocketAddr>) {
        *self.addresses.lock().unwrap() = addresses.into_iter().collect();
    }

    fn upstream(&self, protocol: Protocol) -> upstream::Upstream {
        let Name { addresses, asked } = self.clone();
        let lookup = move || -> upstream::pool::Finding {
            asked.fetch_add(1, Relaxed);
            let found = addresses.lock().unwrap().clone();
            let unknown = || std::io::Error::other("no such name");
            Box::pin(async move { if found.is_empty() { Err(unknown()) } else { Ok(found) } })
        };
        let endpoint = Endpoint::grpc("collector.example:4317").unwrap();
        upstream::Upstream::new(endpoint, protocol, None, None, Balance::Found(Box::new(lookup)))
    }
}

async fn ask(upstream: &upstream::Upstream) -> Result<u16, Status> {
    let body = Pieces::new([Bytes::from(vec![0; 100])].into_iter().collect());
    let request = Request::post("http://collector.example:4317/v1/logs").body(body).unwrap();
    upstream.exchange(request).await.map(|answer| answer.head.status.as_u16())
}

async fn ask_often(upstream: &upstream::Upstream, times: usize) {
    for time in 0..times {
        assert_eq!(ask(upstream).await, Ok(200), "{time}");
    }
}

/// Until each of them is connected.
async fn warm_up(upstream: &upstream::Upstream, peers: &[Upstream]) {
    for _ in 0..2000 {
        ask_often(upstream, 1).await;
        if peers.iter().all(|peer| peer.requests() > 0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("a peer gets no request");
}

#[tokio::test]
async fn each_address_gets_its_share() {
    for protocol in BOTH {
        let peers = [Upstream::start().await, Upstream::start().await, Upstream::start().await];
        let upstream = Name::of(peers.iter().map(|peer| peer.address)).upstream(protocol);
        warm_up(&upstream, &peers).await;
        let before = peers.each_ref().map(Upstream::requests);
        ask_often(&upstream, 30).await;
        let after = peers.each_ref().map(Upstream::requests);
        assert_eq!([0, 1, 2].map(|index| after[index] - before[index]), [10, 10, 10], "{protocol:?}");
    }
}

/// One that is slower has more under way, and gets less.
#[tokio::test]
async fn the_one_with_the_fewest_under_way_is_next() {
    for protocol in BOTH {
        let peers = [Upstream::start().await, Upstream::start().await];
        let upstream = Name::of(peers.iter().map(|peer| peer.address)).upstream(protocol);
        warm_up(&upstream, &peers).await;
        let before = peers.each_ref().map(Upstream::requests);
        peers[0].script(|_| Reply::Hang);
        let hanging = async { tokio::join!(ask(&upstream), ask(&upstream), ask(&upstream), ask(&upstream)) };
        let asking = async {
            until("some hang, and the others are answered", || {
                let after = peers.each_ref().map(Upstream::requests);
                after[0] > before[0] && after[0] + after[1] == before[0] + before[1] + 4
            })
            .await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            let asked = tokio::time::timeout(Duration::from_secs(10), ask_often(&upstream, 20)).await;
            peers[0].release();
            asked.expect("none of them waits behind those that hang");
        };
        let (answers, ()) = tokio::join!(hanging, asking);
        assert_eq!(answers, (Ok(200), Ok(200), Ok(200), Ok(200)));
        assert!(peers[1].requests() - before[1] >= 20, "{protocol:?}");
    }
}

#[tokio::test]
async fn a_dead_address_is_left_out_until_it_is_back() {
    for protocol in BOTH {
        let (good, mut dead) = (Upstream::start().await, Upstream::absent());
        let upstream = Name::of([dead.address, good.address]).upstream(protocol);
        ask_often(&upstream, 20).await;
        assert_eq!(good.requests(), 20);
        dead.appear();
        jump(STALE).await;
        // This one has it looked up and connected to.
        ask_often(&upstream, 1).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        ask_often(&upstream, 20).await;
        assert!(dead.requests() >= 9, "{protocol:?}: {}", dead.requests());
    }
}

/// It takes connections and answers nothing: two requests are given up, the rest goes to the other.
#[tokio::test]
async fn a_silent_address_is_left_out() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let good = Upstream::start().await;
    let upstream = Name::of([silent.local_addr().unwrap(), good.address]).upstream(Protocol::Http2);
    for round in 1..=4 {
        let mut given_up = 0;
        for _ in 0..30 {
            let asked = tokio::time::timeout(Duration::from_millis(100), ask(&upstream)).await;
            given_up += usize::from(asked.is_err());
        }
        assert_eq!((given_up, good.requests()), (2, round * 28 + (round - 1)), "round {round}");
        jump(STALE).await;
        // It is tried again, beside the requests.
        ask_often(&upstream, 1).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_name_that_moves_is_followed() {
    for protocol in BOTH {
        let (old, new) = (Upstream::start().await, Upstream::start().await);
        let name = Name::of([old.address]);
        let upstream = name.upstream(protocol);
        ask_often(&upstream, 5).await;
        assert_eq!(name.asked.load(Relaxed), 1, "its answer is fresh");
        name.set([new.address]);
        jump(STALE).await;
        // This one notices that the answer is old, and does not wait for another.
        ask_often(&upstream, 1).await;
        until("it is looked up", || name.asked.load(Relaxed) == 2).await;
        rest().await;
        ask_often(&upstream, 10).await;
        assert!(old.requests() <= 7 && new.requests() >= 9, "{protocol:?}: {} {}", old.requests(), new.requests());
        // No answer: the last one counts.
        name.set([]);
        jump(STALE).await;
        ask_often(&upstream, 10).await;
        assert_eq!(name.asked.load(Relaxed), 3);
    }
}

#[tokio::test]
async fn what_cannot_be_reached_fails_at_once_and_says_why() {
    for protocol in BOTH {
        let name = Name::default();
        let upstream = name.upstream(protocol);
        let failure = ask(&upstream).await.unwrap_err();
        assert_eq!(failure.message, "collector.example:4317: cannot resolve the name: no such name");
        let mut dead = Upstream::absent();
        name.set([dead.address]);
        let failure = ask(&upstream).await.unwrap_err().message;
        let expected = "cannot connect to collector.example:4317 (127.0.0.1): Connection refused";
        assert!(failure.starts_with(expected), "{failure}");
        dead.appear();
        ask_often(&upstream, 3).await;
    }
}

/// Whoever closes each connection at once is not asked for ever within one attempt.
#[tokio::test]
async fn connections_that_end_at_once_are_no_endless_supply() {
    for protocol in BOTH {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let (mut serving, count) = (JoinSet::new(), accepted.clone());
        serving.spawn(async move {
            while listener.accept().await.is_ok() {
                count.fetch_add(1, Relaxed);
            }
        });
        let upstream = Name::of([address]).upstream(protocol);
        for _ in 0..10 {
            assert!(ask(&upstream).await.is_err());
        }
        assert!(accepted.load(Relaxed) <= 40, "{protocol:?}: {}", accepted.load(Relaxed));
    }
}

/// Many requests at once over HTTP/1.1 get a connection each, whether or not another address of the name is dead.
#[tokio::test]
async fn requests_at_once_wait_for_no_dead_address() {
    let (good, dead) = (Upstream::start().await, Upstream::absent());
    let upstream = Arc::new(Name::of([dead.address, good.address]).upstream(Protocol::Either));
    let mut asking = JoinSet::new();
    for _ in 0..50 {
        let upstream = upstream.clone();
        asking.spawn(async move { ask(&upstream).await });
    }
    assert!(asking.join_all().await.into_iter().all(|answer| answer == Ok(200)));
    assert_eq!(good.requests(), 50);
}

/// What waits at the same time is one attempt; and where the next connection is as silent as the one before, the upstream needs
/// time more than connections.
#[tokio::test]
async fn a_slow_upstream_is_not_swamped_with_connections() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (accepted, mut serving) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
    let (address, count) = (listener.local_addr().unwrap(), accepted.clone());
    serving.spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Relaxed);
            held.push(stream);
        }
    });
    let upstream = Name::of([address]).upstream(Protocol::Http2);
    let silence = || tokio::time::timeout(Duration::from_millis(20), ask(&upstream));
    let mut seen = Vec::new();
    for _ in 0..31 {
        let (one, two, three) = tokio::join!(silence(), silence(), silence());
        assert!(one.is_err() && two.is_err() && three.is_err());
        seen.push(accepted.load(Relaxed));
    }
    let attempts = |connection: usize| seen.iter().filter(|seen| **seen == connection).count();
    // A busy machine may accept a connection one attempt late.
    let attempts = [1, 2, 3, 4].map(attempts);
    assert!(attempts.into_iter().zip([2, 4, 8, 16]).all(|(seen, wanted)| seen.abs_diff(wanted) <= 1), "{attempts:?}");
}
