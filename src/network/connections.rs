//! Who is connected: the cap on connections, and who has to go when it is reached.
//!
//! Each connection keeps the time of its last sign of life. At the cap the one that has been idle longest is closed, so
//! a new client always gets in, however many others hold sockets open. All receivers share one cap.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// What a connection may bring between two requests. Frames of HTTP/2 that want nothing cost work all the same, and nothing else bounds
/// them; the rest of streams that were reset is less, and so are the pings of a month.
const IDLE_BYTES: u64 = 16 << 20;

/// How many may be closing beside those that are open: files are what runs out first, and accepting waits for them.
const CLOSING: usize = 8;

pub struct Connections {
    started: Instant,
    cap: usize,
    open: Mutex<HashMap<u64, Arc<Pulse>>>,
    places: Arc<Semaphore>,
    next: AtomicU64,
}

/// Signs of life of one connection.
pub struct Pulse {
    /// Who is at the other end.
    pub peer: Option<SocketAddr>,
    started: Instant,
    /// Milliseconds after `started`: the last byte that came.
    last: AtomicU64,
    /// When the first byte of a request came that is not complete yet; 0 when none is.
    head_since: AtomicU64,
    /// Requests being answered, and answers that are not sent.
    busy: AtomicU32,
    unsent: AtomicU32,
    /// While there are such answers: when the first was there, or the last one before them was sent.
    unsent_since: AtomicU64,
    /// Bytes that came since a request or a byte of its body did.
    idle_bytes: AtomicU64,
    served: AtomicBool,
    pub close: Notify,
}

/// A request from its head to its end, also when its future is dropped.
pub struct Busy(Arc<Pulse>);

/// An answer until it is sent.
pub struct Unsent(Busy);

/// A connection's entry; taken out when dropped.
pub struct Entry {
    connections: Arc<Connections>,
    id: u64,
    pub pulse: Arc<Pulse>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Connections {
    pub fn new(cap: usize) -> Arc<Connections> {
        Arc::new(Connections {
            started: Instant::now(),
            cap,
            open: Mutex::default(),
            places: Arc::new(Semaphore::new(cap + CLOSING)),
            next: AtomicU64::new(0),
        })
    }

    /// Adds a connection; beyond the cap, tells the longest-idle one to close, and waits while too many are at it.
    pub async fn enter(self: &Arc<Self>, peer: Option<SocketAddr>) -> Entry {
        // The semaphore is never closed.
        let place = self.places.clone().acquire_owned().await.ok();
        let pulse = Arc::new(Pulse {
            peer,
            started: self.started,
            last: AtomicU64::new(0),
            head_since: AtomicU64::new(0),
            busy: AtomicU32::new(0),
            unsent: AtomicU32::new(0),
            unsent_since: AtomicU64::new(0),
            idle_bytes: AtomicU64::new(0),
            served: AtomicBool::new(false),
            close: Notify::new(),
        });
        pulse.last.store(pulse.millis(), Relaxed);
        let id = self.next.fetch_add(1, Relaxed);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= self.cap {
            let idle = open.iter().min_by_key(|(_, pulse)| (pulse.busy.load(Relaxed) > 0, pulse.last.load(Relaxed)));
            // Out of the list at once, so that the next one over the cap picks another.
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
        self.connections.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

impl Pulse {
    fn millis(&self) -> u64 {
        self.started.elapsed().as_millis() as u64 + 1
    }

    /// Whether no request has begun yet.
    pub fn is_new(&self) -> bool {
        !self.served.load(Relaxed)
    }

    /// So many bytes came. False when there were too many without a request.
    pub fn beat(&self, bytes: usize) -> bool {
        let now = self.millis();
        self.last.store(now, Relaxed);
        if self.busy.load(Relaxed) == 0 && self.head_since.load(Relaxed) == 0 {
            self.head_since.store(now, Relaxed);
        }
        self.idle_bytes.fetch_add(bytes as u64, Relaxed) < IDLE_BYTES
    }

    /// A request came, or more of its body.
    pub fn progress(&self) {
        self.idle_bytes.store(0, Relaxed);
    }

    /// How long nothing has happened here; zero while a request is being answered.
    pub fn idle(&self) -> Duration {
        if self.busy.load(Relaxed) > 0 {
            return Duration::ZERO;
        }
        Duration::from_millis(self.millis().saturating_sub(self.last.load(Relaxed)))
    }

    /// For how long a request's head has been incomplete.
    pub fn head_open(&self) -> Duration {
        self.after(&self.head_since)
    }

    /// For how long there have been answers and none was taken.
    pub fn unread(&self) -> Duration {
        self.after(&self.unsent_since)
    }

    fn after(&self, since: &AtomicU64) -> Duration {
        match since.load(Relaxed) {
            0 => Duration::ZERO,
            since => Duration::from_millis(self.millis().saturating_sub(since)),
        }
    }
}

impl Busy {
    /// A request's head is complete.
    pub fn new(pulse: Arc<Pulse>) -> Busy {
        pulse.head_since.store(0, Relaxed);
        pulse.progress();
        pulse.served.store(true, Relaxed);
        pulse.busy.fetch_add(1, Relaxed);
        Busy(pulse)
    }

    /// The answer is there.
    pub fn answered(self) -> Unsent {
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
