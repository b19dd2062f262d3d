//! A batch of telemetry as its wire encoding, and the contracts around it: `Intake` takes it in, `Sink` holds or sends
//! it, and `Receipt` reports its outcome.

mod account;
mod alarm;
mod answer;
mod aside;
pub(crate) mod bill;
mod budget;
mod passed;
mod pending;
mod receipt;
mod refusal;
mod said;
mod sink;
mod tap;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use smallvec::SmallVec;

use crate::otlp::split::Splitter;

pub use crate::otlp::Signal;
pub use crate::otlp::status::Status;
pub use account::{Account, Accounts, Reason};
pub use alarm::Alarm;
pub(crate) use answer::Answer;
use aside::Aside;
pub(crate) use bill::Fate;
pub use bill::{Bill, Tally};
pub use budget::{Budget, Charge, Share};
pub(crate) use budget::{Holder, is_small};
pub(crate) use passed::Passed;
pub(crate) use pending::Taking;
pub use pending::{Most, Pending};
pub(crate) use receipt::{Receipt, Ticket, Tickets};
pub(crate) use refusal::Fill;
pub use refusal::Refusal;
pub(crate) use said::Said;
pub use sink::{Ask, Blocked, Drain, Full, Intake, Load, Outlet, Place, Planned, Sink, Submission, Wakeful};
pub use tap::{Point, Tap};
pub(crate) use tap::{Removed, Rules, Shown};

/// Allocations of a part beside its bytes, and of a waiting request.
const PART: usize = 160;
const TICKET: usize = 128;

/// One valid `Export…ServiceRequest`, checked and counted, with the charge for its memory.
#[derive(Clone, Debug)]
pub struct Part {
    pub bytes: Bytes,
    pub items: u32,
    pub charge: Charge,
    /// Its items by service, if they are known already.
    tally: Option<Box<Tally>>,
}

impl Part {
    pub fn new(bytes: impl Into<Bytes>, items: u32, charge: Charge) -> Part {
        Part { bytes: bytes.into(), items, charge, tally: None }
    }

    /// A piece cut from a part. It repeats headers and may outlive the part, so it has its own charge. When the share
    /// is full, the piece uses the part's charge instead: something must still be handed on.
    fn piece(bytes: Vec<u8>, items: u32, of: &Charge) -> Part {
        let own = of.for_made();
        let charge = if own.grow(bytes.capacity() as u64) { own } else { of.clone() };
        Part::new(bytes, items, charge)
    }
}

/// The sender of a request, as far as the config needs it. A batch has no client, except the metadata by which it is
/// sharded.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// Header names in lower case, in order of arrival; filled with `include_metadata`.
    pub metadata: Vec<(String, String)>,
    /// gRPC metadata, for processors that name it; and the peer's address, for any request.
    pub grpc: Vec<(String, String)>,
    pub peer: Option<SocketAddr>,
    /// Attributes from the authenticator.
    pub auth: Vec<(&'static str, String)>,
}

impl Client {
    /// The host without a port, for people.
    pub(crate) fn host(&self) -> Option<String> {
        Some(self.peer?.ip().to_canonical().to_string())
    }

    /// The address in the Go collector's form: with the port for gRPC.
    pub(crate) fn address(&self) -> Option<String> {
        let peer = self.peer?;
        match self.grpc.is_empty() {
            true => self.host(),
            false => Some(SocketAddr::new(peer.ip().to_canonical(), peer.port()).to_string()),
        }
    }

    pub(crate) fn auth(&self, name: &str) -> Option<&str> {
        self.auth.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// Its size in memory.
    fn bytes(&self) -> usize {
        let pairs = self.metadata.iter().chain(&self.grpc);
        let texts = pairs.map(|(name, value)| name.len() + value.len() + size_of::<(String, String)>());
        let auth = self.auth.iter().map(|(_, value)| value.len() + size_of::<(&str, String)>());
        size_of::<Client>() + texts.chain(auth).sum::<usize>()
    }

    /// All values of one key, joined as in the Go collector.
    pub(crate) fn value(&self, key: &str) -> String {
        let values = self.metadata.iter().filter(|(name, _)| name.eq_ignore_ascii_case(key));
        values.map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(";")
    }
}

/// A batch of telemetry of one signal. Its concatenated parts are one valid request.
#[derive(Debug)]
pub struct Telemetry {
    pub signal: Signal,
    pub parts: SmallVec<[Part; 1]>,
    pub client: Option<Arc<Client>>,
    pub received: Now,
    pub tickets: Tickets,
}

impl Telemetry {
    pub fn items(&self) -> u64 {
        self.parts.iter().map(|part| u64::from(part.items)).sum()
    }

    pub fn bytes(&self) -> usize {
        self.parts.iter().map(|part| part.bytes.len()).sum()
    }

    /// Memory beside its bytes, for a list that may have grown to twice its size.
    pub(crate) fn overhead(&self) -> usize {
        let client = self.client.as_ref().map_or(0, |client| client.bytes());
        2 * size_of::<Telemetry>() + TICKET + self.parts.len() * PART + client
    }

    /// The same telemetry for another sink, without tickets.
    pub(crate) fn share(&self) -> Telemetry {
        Telemetry {
            signal: self.signal,
            parts: self.parts.clone(),
            client: self.client.clone(),
            received: self.received,
            tickets: Tickets::default(),
        }
    }

    /// Splits it in two batches without tickets, the first half last (it is taken first).
    pub fn halves(self) -> [Telemetry; 2] {
        let mut room = self.items().div_ceil(2);
        let (mut first, mut second) = (SmallVec::new(), SmallVec::new());
        for part in &self.parts {
            let items = u64::from(part.items);
            if room >= items {
                room -= items;
                first.push(part.clone());
            } else if room == 0 {
                second.push(part.clone());
            } else {
                let mut splitter = Splitter::new(self.signal, part.bytes.clone());
                for (size, pieces) in [(room, &mut first), (items - room, &mut second)] {
                    let size = u32::try_from(size).unwrap_or(u32::MAX);
                    if let Some((piece, items)) = splitter.next_piece(size, usize::MAX) {
                        pieces.push(Part::piece(piece, items, &part.charge));
                    }
                }
                room = 0;
            }
        }
        [second, first].map(|parts| Telemetry { parts, ..self.share() })
    }

    /// Splits it between parts.
    pub(crate) fn halves_of_parts(mut self) -> [Telemetry; 2] {
        let second = self.parts.drain(self.parts.len() / 2..).collect();
        [Telemetry { parts: second, ..self.share() }, self]
    }

    /// Resolves all tickets of this batch.
    pub(crate) fn resolve(&mut self, outcome: Result<(), &Refusal>) {
        std::mem::take(&mut self.tickets).resolve(outcome);
    }
}

/// The time of a request, read once: monotonic for durations, wall clock for timestamps.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub instant: Instant,
    pub wall: SystemTime,
}

impl Now {
    pub fn read() -> Now {
        Now { instant: clock(), wall: SystemTime::now() }
    }

    pub(crate) fn since(&self, earlier: Now) -> Duration {
        self.instant.saturating_duration_since(earlier.instant)
    }
}

/// The monotonic clock: tokio's, so it agrees with every timer, and a test can move both.
pub(crate) fn clock() -> Instant {
    tokio::time::Instant::now().into_std()
}
