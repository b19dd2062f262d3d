//! The cap on connections, and which one is closed when it is reached.
//!
//! Each connection records its last sign of life. At the cap, the connection that has been idle longest is closed, so a
//! new client always gets in, however many others hold sockets open. All receivers share one cap.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Maximum bytes a connection may send between two requests. HTTP/2 frames without effect still cost work, and nothing
/// else limits them. The rest of reset streams is smaller, and so are a month's pings.
const IDLE_BYTES: u64 = 16 << 20;

/// Maximum connections closing in addition to the open ones. File descriptors run out first, so accepting waits for
/// them.
const CLOSING: usize = 8;

/// All client connections. `open` holds at most `cap` pulses: adding one at the cap removes another. A removed
/// connection keeps its permit of `places` until it has closed, so at most `cap + CLOSING` sockets exist.
pub(crate) struct Connections {
    started: Instant,
    cap: usize,
    open: Mutex<HashMap<u64, Arc<Pulse>>>,
    places: Arc<Semaphore>,
    next: AtomicU64,
}

/// The signs of life of one connection. Its task, its socket and its requests write them; [`Connections::enter`] and
/// the supervisor of the connection read them.
///
/// The fields are independent and relaxed: each is a hint for a timeout, and a stale value delays it by at most one
/// check. `busy`, `unsent` and `uploads` are counted by guards ([`Busy`], [`Unsent`], [`Uploading`]), so a dropped
/// future never leaves them too high.
pub(crate) struct Pulse {
    /// The remote address.
    pub(crate) peer: Option<SocketAddr>,
    started: Instant,
    /// When the last byte arrived, in milliseconds after `started`.
    last: AtomicU64,
    /// When the first byte of an incomplete request arrived; 0 without one.
    head_since: AtomicU64,
    /// Requests being answered, and answers not yet sent.
    busy: AtomicU32,
    unsent: AtomicU32,
    /// Bodies not read to their end yet.
    uploads: AtomicU32,
    /// While answers wait to be sent: when the first was ready, or the one before them was sent.
    unsent_since: AtomicU64,
    /// Bytes received since the last request or byte of a body.
    idle_bytes: AtomicU64,
    served: AtomicBool,
    pub(crate) close: Notify,
}

/// Counts a request from its head to its end, even if its future is dropped.
pub(crate) struct Busy(Arc<Pulse>);

/// Counts an answer until it is sent.
pub(crate) struct Unsent(Busy);

/// A connection's entry; removed on drop.
pub(crate) struct Entry {
    connections: Arc<Connections>,
    id: u64,
    pub(crate) pulse: Arc<Pulse>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Connections {
    pub(crate) fn new(cap: usize) -> Arc<Connections> {
        Arc::new(Connections {
            started: Instant::now(),
            cap,
            open: Mutex::default(),
            places: Arc::new(Semaphore::new(cap + CLOSING)),
            next: AtomicU64::new(0),
        })
    }

    /// Adds a connection. At the cap, tells the longest-idle one to close, or if all have requests, one whose request is
    /// incomplete: a client that waits for its answer would send accepted telemetry again; waits while too many are closing.
    pub(crate) async fn enter(self: &Arc<Self>, peer: Option<SocketAddr>) -> Entry {
        // The semaphore is never closed.
        let place = self.places.clone().acquire_owned().await.ok();
        let pulse = Arc::new(Pulse {
            peer,
            started: self.started,
            last: AtomicU64::new(0),
            head_since: AtomicU64::new(0),
            busy: AtomicU32::new(0),
            unsent: AtomicU32::new(0),
            uploads: AtomicU32::new(0),
            unsent_since: AtomicU64::new(0),
            idle_bytes: AtomicU64::new(0),
            served: AtomicBool::new(false),
            close: Notify::new(),
        });
        pulse.last.store(pulse.millis(), Relaxed);
        let id = self.next.fetch_add(1, Relaxed);
        let mut open = self.open.lock();
        if open.len() >= self.cap {
            let idle = open.iter().min_by_key(|(_, pulse)| (pulse.rank(), pulse.last.load(Relaxed)));
            // Remove it at once, so that the next connection over the cap picks another.
            if let Some(idle) = idle.map(|(id, _)| *id)
                && let Some(pulse) = open.remove(&idle)
            {
                pulse.close.notify_one();
            }
        }
        open.insert(id, pulse.clone());
        Entry { connections: self.clone(), id, pulse, _place: place }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.connections.open.lock().remove(&self.id);
    }
}

impl Pulse {
    fn millis(&self) -> u64 {
        self.started.elapsed().as_millis() as u64 + 1
    }

    /// What closing it costs: nothing, an incomplete request, or an answer.
    fn rank(&self) -> u8 {
        match (self.busy.load(Relaxed), self.uploads.load(Relaxed)) {
            (0, _) => 0,
            (_, 1..) => 1,
            (_, 0) => 2,
        }
    }

    /// Whether no request has begun yet.
    pub(crate) fn is_new(&self) -> bool {
        !self.served.load(Relaxed)
    }

    /// Records received bytes. False when there were too many without a request.
    pub(crate) fn beat(&self, bytes: usize) -> bool {
        let now = self.millis();
        self.last.store(now, Relaxed);
        if self.busy.load(Relaxed) == 0 && self.head_since.load(Relaxed) == 0 {
            self.head_since.store(now, Relaxed);
        }
        self.idle_bytes.fetch_add(bytes as u64, Relaxed) < IDLE_BYTES
    }

    /// A request arrived, or more of its body.
    pub(crate) fn progress(&self) {
        self.idle_bytes.store(0, Relaxed);
    }

    /// How long the connection has been idle; zero while a request is being answered.
    pub(crate) fn idle(&self) -> Duration {
        if self.busy.load(Relaxed) > 0 {
            return Duration::ZERO;
        }
        Duration::from_millis(self.millis().saturating_sub(self.last.load(Relaxed)))
    }

    /// How long a request's head has been incomplete.
    pub(crate) fn head_open(&self) -> Duration {
        self.after(&self.head_since)
    }

    /// How long the client has read none of the waiting answers.
    pub(crate) fn unread(&self) -> Duration {
        self.after(&self.unsent_since)
    }

    fn after(&self, since: &AtomicU64) -> Duration {
        match since.load(Relaxed) {
            0 => Duration::ZERO,
            since => Duration::from_millis(self.millis().saturating_sub(since)),
        }
    }
}

/// Counts a body until it is read to its end, even if its future is dropped.
pub(crate) struct Uploading(Arc<Pulse>);

impl Uploading {
    pub(crate) fn new(pulse: Arc<Pulse>) -> Uploading {
        pulse.uploads.fetch_add(1, Relaxed);
        Uploading(pulse)
    }
}

impl Drop for Uploading {
    fn drop(&mut self) {
        self.0.uploads.fetch_sub(1, Relaxed);
    }
}

impl Busy {
    /// A request's head is complete.
    pub(crate) fn new(pulse: Arc<Pulse>) -> Busy {
        pulse.head_since.store(0, Relaxed);
        pulse.progress();
        pulse.served.store(true, Relaxed);
        pulse.busy.fetch_add(1, Relaxed);
        Busy(pulse)
    }

    /// The answer is ready.
    pub(crate) fn answered(self) -> Unsent {
        if self.0.unsent.fetch_add(1, Relaxed) == 0 {
            self.0.unsent_since.store(self.0.millis(), Relaxed);
        }
        Unsent(self)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Relaxed);
        self.0.last.store(self.0.millis(), Relaxed);
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        let pulse = &self.0.0;
        let is_last = pulse.unsent.fetch_sub(1, Relaxed) == 1;
        pulse.unsent_since.store(if is_last { 0 } else { pulse.millis() }, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client whose request was accepted would send it again.
    #[tokio::test]
    async fn a_client_that_waits_for_its_answer_is_the_last_to_go() {
        let connections = Connections::new(2);
        let waiting = connections.enter(None).await;
        let _answer = Busy::new(waiting.pulse.clone());
        let sending = connections.enter(None).await;
        let _request = (Busy::new(sending.pulse.clone()), Uploading::new(sending.pulse.clone()));
        let _new = connections.enter(None).await;
        let is_closed = async |entry: &Entry| {
            let closed = entry.pulse.close.notified();
            tokio::time::timeout(Duration::from_millis(10), closed).await.is_ok()
        };
        assert!(is_closed(&sending).await && !is_closed(&waiting).await);
    }
}
