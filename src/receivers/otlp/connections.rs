//! Who is connected: the cap on connections, and who has to go when it is reached.
//!
//! Each connection keeps the time of its last sign of life. At the cap the one that has been idle longest is closed, so
//! a new client always gets in, however many others hold sockets open.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

pub struct Connections {
    started: Instant,
    cap: usize,
    open: Mutex<HashMap<u64, Arc<Pulse>>>,
    next: AtomicU64,
}

/// Signs of life of one connection.
pub struct Pulse {
    started: Instant,
    /// Milliseconds after `started`: the last byte that came.
    last: AtomicU64,
    /// When the first byte of a request came that is not complete yet; 0 when none is.
    head_since: AtomicU64,
    /// Requests being answered.
    busy: AtomicU32,
    served: AtomicBool,
    pub close: Notify,
}

/// A connection's entry; taken out when dropped.
pub struct Entry {
    connections: Arc<Connections>,
    id: u64,
    pub pulse: Arc<Pulse>,
}

impl Connections {
    pub fn new(cap: usize) -> Arc<Connections> {
        Arc::new(Connections { started: Instant::now(), cap, open: Mutex::default(), next: AtomicU64::new(0) })
    }

    /// Adds a connection; beyond the cap, tells the longest-idle one to close.
    pub fn enter(self: &Arc<Self>) -> Entry {
        let pulse = Arc::new(Pulse {
            started: self.started,
            last: AtomicU64::new(0),
            head_since: AtomicU64::new(0),
            busy: AtomicU32::new(0),
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
        Entry { connections: self.clone(), id, pulse }
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

    /// Bytes came.
    pub fn beat(&self) {
        let now = self.millis();
        self.last.store(now, Relaxed);
        if self.busy.load(Relaxed) == 0 && self.head_since.load(Relaxed) == 0 {
            self.head_since.store(now, Relaxed);
        }
    }

    /// A request's head is complete.
    pub fn begin(&self) {
        self.head_since.store(0, Relaxed);
        self.served.store(true, Relaxed);
        self.busy.fetch_add(1, Relaxed);
    }

    pub fn end(&self) {
        self.busy.fetch_sub(1, Relaxed);
        self.last.store(self.millis(), Relaxed);
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
        match self.head_since.load(Relaxed) {
            0 => Duration::ZERO,
            since => Duration::from_millis(self.millis().saturating_sub(since)),
        }
    }
}
