//! The connections to all addresses of an upstream.
//!
//! Each address has its own connections: with HTTP/2 one shared by all requests, with HTTP/1.1 one for each request in
//! flight. A request goes to the connected address with the fewest requests in flight. Connections are opened in the
//! background, so an address that does not answer delays no request while another one answers. The name is looked up
//! again every 30 s while requests come, and whenever no address can be reached; failed addresses are then tried again.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::telemetry::{Status, clock};

use super::connection::{CONNECT, Connection, Opener, Shared, Single, Trial};

/// Maximum age of a look-up.
const FRESH: Duration = Duration::from_secs(30);
/// Maximum addresses used for one name.
const ADDRESSES: usize = 32;
/// Idle connections kept for each address.
const IDLE: usize = 16;

/// Looks up the addresses of an upstream.
pub type Lookup = Box<dyn Fn() -> Finding + Send + Sync>;
pub type Finding = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// The pool of one upstream, shared by its requests. All decisions are made under the lock of `state`; opening and
/// look-ups run as tasks outside it and wake waiting requests with `news`. Each peer has at most one opening
/// connection, and the pool one look-up.
pub(super) struct Pool {
    pub(super) opener: Opener,
    /// `None` treats the endpoint as one address and resolves it on each connect.
    lookup: Option<Lookup>,
    state: Mutex<State>,
    /// Wakes requests that wait for a connection, in order of arrival, after each change.
    news: Notify,
}

#[derive(Default)]
struct State {
    peers: Vec<Peer>,
    looked_up: Option<Instant>,
    looking: Option<AbortHandle>,
    /// The error of the last connection or look-up.
    failure: Option<Status>,
    /// Rotates among equally loaded addresses.
    turn: usize,
}

#[derive(Default)]
struct Peer {
    address: Option<SocketAddr>,
    shared: Option<Arc<Shared>>,
    idle: Vec<Single>,
    /// Cloned by each request in flight.
    under_way: Arc<()>,
    opening: Option<AbortHandle>,
    /// Unreachable or silent; left out until the next look-up.
    failed: bool,
    /// Consecutive connections abandoned without a single answer.
    silences: u32,
}

/// A connection for one request.
pub(crate) struct Lease {
    pub(super) connection: Connection,
    address: Option<SocketAddr>,
    _under_way: Arc<()>,
}

impl Lease {
    /// Tracks whether a shared connection answers.
    pub(super) fn trial(&self) -> Option<Trial> {
        match &self.connection {
            Connection::Shared(shared) => Some(Trial::new(shared.clone())),
            Connection::Single(_) => None,
        }
    }
}

impl Peer {
    fn under_way(&self) -> usize {
        Arc::strong_count(&self.under_way) - 1
    }

    fn is_connected(&self) -> bool {
        self.shared.is_some() || !self.idle.is_empty()
    }

    fn is_opening(&self) -> bool {
        self.opening.as_ref().is_some_and(|opening| !opening.is_finished())
    }

    /// Drops closed and untrusted connections. One that never answered was useless, and a new one to the same address
    /// likely is too.
    fn prune(&mut self) {
        if let Some(shared) = self.shared.take_if(|shared| !shared.is_trusted()) {
            self.failed |= shared.is_silent() || !shared.has_answered();
            self.silences = if shared.has_answered() { 0 } else { self.silences + u32::from(shared.is_silent()) };
        }
        let ended = self.idle.extract_if(.., |single| single.sender.is_closed());
        self.failed |= ended.fold(false, |failed, single| failed | !single.has_answered);
    }

    fn lease(&mut self) -> Option<Lease> {
        let connection = match &self.shared {
            Some(shared) => Connection::Shared(shared.clone()),
            None => Connection::Single(self.idle.pop()?),
        };
        Some(Lease { connection, address: self.address, _under_way: self.under_way.clone() })
    }
}

impl State {
    fn lease(&mut self) -> Option<Lease> {
        self.peers.iter_mut().for_each(Peer::prune);
        let turn = self.turn % self.peers.len().max(1);
        let in_turn = (turn..self.peers.len()).chain(0..turn);
        let connected = in_turn.filter(|index| self.peers.get(*index).is_some_and(Peer::is_connected));
        let index = connected.min_by_key(|index| self.peers.get(*index).map(Peer::under_way))?;
        self.turn = index + 1;
        self.peers.get_mut(index)?.lease()
    }

    fn is_looking(&self) -> bool {
        self.looking.as_ref().is_some_and(|looking| !looking.is_finished())
    }

    fn peer(&mut self, address: Option<SocketAddr>) -> Option<&mut Peer> {
        self.peers.iter_mut().find(|peer| peer.address == address)
    }
}

impl Pool {
    pub(super) fn new(opener: Opener, lookup: Option<Lookup>) -> Arc<Pool> {
        Arc::new(Pool { opener, lookup, state: Mutex::default(), news: Notify::new() })
    }

    /// Waits for a connection; fails when no address can be reached.
    pub(super) async fn lease(self: &Arc<Self>) -> Result<Lease, Status> {
        let mut has_looked = false;
        loop {
            let news = self.news.notified();
            let Some(mut lease) = self.try_lease(&mut has_looked)? else {
                news.await;
                continue;
            };
            let Connection::Single(single) = &mut lease.connection else { return Ok(lease) };
            if single.sender.ready().await.is_ok() {
                return Ok(lease);
            }
            let is_useless = !single.has_answered;
            self.state.lock().peer(lease.address).into_iter().for_each(|peer| peer.failed |= is_useless);
        }
    }

    /// `None` while a connection is being opened or a look-up runs.
    fn try_lease(self: &Arc<Self>, has_looked: &mut bool) -> Result<Option<Lease>, Status> {
        let mut state = self.state.lock();
        if let Some(lease) = state.lease() {
            self.keep_up(&mut state);
            return Ok(Some(lease));
        }
        if state.peers.iter().any(|peer| !peer.failed) {
            self.open(&mut state, |peer| !peer.failed);
        } else if !state.is_looking() {
            if *has_looked {
                let unknown = || self.opener.unavailable("the connection ends without an answer");
                return Err(state.failure.clone().unwrap_or_else(unknown));
            }
            *has_looked = true;
            self.look_up(&mut state);
        }
        Ok(None)
    }

    /// Keeps an HTTP/1.1 connection for the next request.
    pub(super) fn give_back(&self, lease: Lease) {
        let Connection::Single(single) = lease.connection else { return };
        let mut state = self.state.lock();
        if let Some(peer) = state.peer(lease.address).filter(|peer| peer.idle.len() < IDLE) {
            peer.idle.push(Single { has_answered: true, ..single });
            drop(state);
            self.news.notify_waiters();
        }
    }

    /// While requests have a connection: refreshes the addresses and reopens lost connections.
    fn keep_up(self: &Arc<Self>, state: &mut State) {
        let is_stale = state.looked_up.is_none_or(|at| clock().duration_since(at) >= FRESH);
        if is_stale && !state.is_looking() {
            self.look_up(state);
        } else {
            self.open(state, |peer| !peer.failed && peer.under_way() == 0);
        }
    }

    fn look_up(self: &Arc<Self>, state: &mut State) {
        let pool = self.clone();
        #[expect(clippy::disallowed_methods, reason = "ends within CONNECT")]
        let looking = tokio::spawn(async move {
            let Some(lookup) = &pool.lookup else { return pool.found(Ok(vec![None])) };
            let late = |_| Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {CONNECT:?}")));
            let found = tokio::time::timeout(CONNECT, lookup()).await.unwrap_or_else(late);
            pool.found(found.map(|found| found.into_iter().map(Some).collect()));
        });
        (state.looked_up, state.looking) = (Some(clock()), Some(looking.abort_handle()));
    }

    /// Applies a look-up; if it failed, the previous addresses stay.
    fn found(self: &Arc<Self>, found: io::Result<Vec<Option<SocketAddr>>>) {
        let mut state = self.state.lock();
        state.looking = None;
        match found {
            Ok(mut addresses) if !addresses.is_empty() => {
                addresses.truncate(ADDRESSES);
                state.peers.retain(|peer| addresses.contains(&peer.address));
                for address in addresses {
                    if state.peer(address).is_none() {
                        state.peers.push(Peer { address, ..Peer::default() });
                    }
                }
            }
            Ok(_) => state.failure = Some(self.opener.unavailable("the name has no address")),
            Err(error) => state.failure = Some(self.opener.unavailable(&format!("cannot resolve the name: {error}"))),
        }
        self.open(&mut state, |_| true);
        drop(state);
        self.news.notify_waiters();
    }

    /// Opens a connection to each wanted address that has none.
    fn open(self: &Arc<Self>, state: &mut State, is_wanted: impl Fn(&Peer) -> bool) {
        let is_alone = state.peers.len() == 1;
        let wanted = |peer: &&mut Peer| !peer.is_connected() && !peer.is_opening() && is_wanted(peer);
        for peer in state.peers.iter_mut().filter(wanted) {
            // With several addresses, a silent one gets only the minimum patience.
            let silences = if is_alone { peer.silences } else { 0 };
            let (pool, address) = (self.clone(), peer.address);
            #[expect(clippy::disallowed_methods, reason = "ends within CONNECT")]
            let opening = tokio::spawn(async move { pool.ends(address, pool.opener.open(address, silences).await) });
            (peer.opening, peer.failed) = (Some(opening.abort_handle()), false);
        }
    }

    fn ends(&self, address: Option<SocketAddr>, outcome: Result<Connection, Status>) {
        let mut state = self.state.lock();
        // The address may be gone from the look-up by now.
        if let Some(peer) = state.peer(address) {
            peer.opening = None;
            match outcome {
                Ok(Connection::Shared(shared)) => peer.shared = Some(shared),
                Ok(Connection::Single(single)) => peer.idle.push(single),
                Err(status) => {
                    peer.failed = true;
                    state.failure = Some(status);
                }
            }
        }
        drop(state);
        self.news.notify_waiters();
    }
}
