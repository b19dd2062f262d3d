//! The connections to all addresses of an upstream.
//!
//! Each address has connections of its own: over HTTP/2 one that all requests share, over HTTP/1.1 one for each request
//! under way. A request goes to the connected address with the fewest requests under way. Connections are opened beside
//! the requests, so that an address that does not answer delays none of them while another does. The name is looked up
//! again every 30 s as long as requests come, and whenever no address can be reached; an address that failed is tried
//! again then.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::telemetry::{Status, clock};

use super::connection::{CONNECT, Connection, Opener, Shared, Single, Trial};

/// How old the answer of a look-up may be.
const FRESH: Duration = Duration::from_secs(30);
/// The most addresses of a name that are used.
const ADDRESSES: usize = 32;
/// Idle connections that an address keeps beside those in use.
const IDLE: usize = 16;

/// Finds the addresses of an upstream.
pub type Lookup = Box<dyn Fn() -> Finding + Send + Sync>;
pub type Finding = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

pub struct Pool {
    pub opener: Opener,
    /// `None` takes the endpoint for one address, and connects to whatever it is at that moment.
    lookup: Option<Lookup>,
    state: Mutex<State>,
    /// Says, in the order in which they came, to the requests that wait for a connection that something has happened.
    news: Notify,
}

#[derive(Default)]
struct State {
    peers: Vec<Peer>,
    looked_up: Option<Instant>,
    looking: Option<AbortHandle>,
    /// Why the last connection or look-up failed.
    failure: Option<Status>,
    /// Which of equal addresses is next.
    turn: usize,
}

#[derive(Default)]
struct Peer {
    address: Option<SocketAddr>,
    shared: Option<Arc<Shared>>,
    idle: Vec<Single>,
    /// Held by each request under way.
    under_way: Arc<()>,
    opening: Option<AbortHandle>,
    /// It could not be reached, or gave no answer; it is left out until the next look-up.
    failed: bool,
    /// How many connections in a row were given up that had never answered.
    silences: u32,
}

/// A connection for one request.
pub struct Lease {
    pub connection: Connection,
    address: Option<SocketAddr>,
    _under_way: Arc<()>,
}

impl Lease {
    /// On a shared connection, whether it answers says something of the connection.
    pub fn trial(&self) -> Option<Trial> {
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

    /// Lets go of connections that have ended or are not trusted any more. One without a single answer was no use, and
    /// neither will be the next.
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
    pub fn new(opener: Opener, lookup: Option<Lookup>) -> Arc<Pool> {
        Arc::new(Pool { opener, lookup, state: Mutex::default(), news: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a connection; fails when no address can be reached.
    pub async fn lease(self: &Arc<Self>) -> Result<Lease, Status> {
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
            self.lock().peer(lease.address).into_iter().for_each(|peer| peer.failed |= is_useless);
        }
    }

    /// `None` when one is being opened or looked for.
    fn try_lease(self: &Arc<Self>, has_looked: &mut bool) -> Result<Option<Lease>, Status> {
        let mut state = self.lock();
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

    /// Keeps a connection for the next request.
    pub fn give_back(&self, lease: Lease) {
        let Connection::Single(single) = lease.connection else { return };
        let mut state = self.lock();
        if let Some(peer) = state.peer(lease.address).filter(|peer| peer.idle.len() < IDLE) {
            peer.idle.push(Single { has_answered: true, ..single });
            drop(state);
            self.news.notify_waiters();
        }
    }

    /// While requests have a connection: looks for other addresses, and opens what was lost.
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

    /// Without an answer, the addresses of the last one stay.
    fn found(self: &Arc<Self>, found: io::Result<Vec<Option<SocketAddr>>>) {
        let mut state = self.lock();
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

    /// Opens a connection to each of these addresses that has none.
    fn open(self: &Arc<Self>, state: &mut State, is_wanted: impl Fn(&Peer) -> bool) {
        let is_alone = state.peers.len() == 1;
        let wanted = |peer: &&mut Peer| !peer.is_connected() && !peer.is_opening() && is_wanted(peer);
        for peer in state.peers.iter_mut().filter(wanted) {
            // Beside others, one that is silent gets no more than it needs to show that it has changed.
            let silences = if is_alone { peer.silences } else { 0 };
            let (pool, address) = (self.clone(), peer.address);
            #[expect(clippy::disallowed_methods, reason = "ends within CONNECT")]
            let opening = tokio::spawn(async move { pool.ends(address, pool.opener.open(address, silences).await) });
            (peer.opening, peer.failed) = (Some(opening.abort_handle()), false);
        }
    }

    fn ends(&self, address: Option<SocketAddr>, outcome: Result<Connection, Status>) {
        let mut state = self.lock();
        // One that is gone from the name by now is let go.
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
