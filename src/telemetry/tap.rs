//! The tap: shows passing telemetry to a viewer. Without one it costs one relaxed load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use parking_lot::RwLock;

use super::{Client, Now, Reason, Signal, Telemetry};

/// Where telemetry is seen.
#[derive(Clone, Copy, Debug)]
pub enum Point<'a> {
    /// As received, before any processor.
    Received,
    /// As sent by an exporter.
    Leaving {
        exporter: &'a str,
    },
    Dropped {
        exporter: &'a str,
        reason: Reason,
    },
    /// As it came to a processor whose `rules` removed some of it, or all.
    Filtered {
        processor: &'a str,
        rules: &'a Arc<dyn Rules>,
    },
}

/// Says which items its rules remove; asked by viewers only, after the fact.
pub trait Rules: Send + Sync {
    /// The items that each rule removes, with the rule's text.
    fn removed(&self, request: &Shown<'_>) -> Vec<Removed>;
}

/// The text of a rule that removed all of a request.
impl Rules for String {
    fn removed(&self, request: &Shown<'_>) -> Vec<Removed> {
        vec![Removed { rule: self.clone(), bytes: request.bytes.clone(), items: request.items }]
    }
}

impl std::fmt::Debug for dyn Rules {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        out.write_str("Rules")
    }
}

/// A request, or a part of one, as rules see it.
pub struct Shown<'a> {
    pub(crate) signal: Signal,
    pub(crate) bytes: &'a Bytes,
    pub(crate) items: u32,
    pub(crate) client: Option<&'a Client>,
    pub(crate) now: Now,
}

/// What one rule removed.
pub struct Removed {
    pub(crate) rule: String,
    pub(crate) bytes: Bytes,
    pub(crate) items: u32,
}

/// Called on the task that carries the telemetry: it must be quick and must not block.
type Viewer = dyn Fn(Point, &Telemetry) + Send + Sync;

/// The attached viewer, if any. `attached` mirrors `viewer` so that `look` needs no lock; a request may still be shown,
/// or missed, at the moment of a change.
#[derive(Default)]
pub struct Tap {
    attached: AtomicBool,
    viewer: RwLock<Option<Arc<Viewer>>>,
    /// How many want to see what rules remove.
    pub(crate) wants_filtered: Arc<AtomicUsize>,
}

impl Tap {
    /// Attaches `viewer` in place of an earlier one; `None` detaches it.
    pub fn attach(&self, viewer: Option<Arc<Viewer>>) {
        let is_attached = viewer.is_some();
        *self.viewer.write() = viewer;
        self.attached.store(is_attached, Relaxed);
    }

    #[inline]
    pub(crate) fn look(&self, point: Point, telemetry: &Telemetry) {
        if self.attached.load(Relaxed) {
            self.show(point, telemetry);
        }
    }

    /// Whether what rules remove is to be shown.
    #[inline]
    pub(crate) fn wants_filtered(&self) -> bool {
        self.wants_filtered.load(Relaxed) > 0
    }

    #[inline(never)]
    fn show(&self, point: Point, telemetry: &Telemetry) {
        if let Some(viewer) = &*self.viewer.read() {
            viewer(point, telemetry);
        }
    }
}

impl std::fmt::Debug for Tap {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        out.debug_struct("Tap").field("attached", &self.attached).finish_non_exhaustive()
    }
}
