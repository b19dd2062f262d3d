//! The tap: shows passing telemetry to a viewer. Without one it costs one relaxed load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use parking_lot::RwLock;

use super::{Reason, Telemetry};

/// Where telemetry is seen.
#[derive(Clone, Copy, Debug, PartialEq)]
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
}

/// Called on the task that carries the telemetry: it must be quick and must not block.
type Viewer = dyn Fn(Point, &Telemetry) + Send + Sync;

/// The attached viewer, if any. `attached` mirrors `viewer` so that `look` needs no lock; a request may still be shown,
/// or missed, at the moment of a change.
#[derive(Default)]
pub struct Tap {
    attached: AtomicBool,
    viewer: RwLock<Option<Arc<Viewer>>>,
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
