//! The tap: telemetry as it passes, for whoever wants to look. While nobody does it costs one relaxed load.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};

use super::{Reason, Telemetry};

/// Where it is seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Point<'a> {
    /// As a receiver took it in, before any processor.
    Received,
    /// As an exporter sent it.
    Leaving {
        exporter: &'a str,
    },
    Dropped {
        exporter: &'a str,
        reason: Reason,
    },
}

/// Called on the task that carries the telemetry: it must be quick and must not block.
pub type Viewer = dyn Fn(Point, &Telemetry) + Send + Sync;

#[derive(Default)]
pub struct Tap {
    attached: AtomicBool,
    viewer: RwLock<Option<Arc<Viewer>>>,
}

impl Tap {
    /// Lets `viewer` look from now on, in the place of an earlier one; `None` ends it.
    pub fn attach(&self, viewer: Option<Arc<Viewer>>) {
        let is_attached = viewer.is_some();
        *self.viewer.write().unwrap_or_else(PoisonError::into_inner) = viewer;
        self.attached.store(is_attached, Relaxed);
    }

    #[inline]
    pub fn look(&self, point: Point, telemetry: &Telemetry) {
        if self.attached.load(Relaxed) {
            self.show(point, telemetry);
        }
    }

    #[inline(never)]
    fn show(&self, point: Point, telemetry: &Telemetry) {
        if let Some(viewer) = &*self.viewer.read().unwrap_or_else(PoisonError::into_inner) {
            viewer(point, telemetry);
        }
    }
}

impl std::fmt::Debug for Tap {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        out.debug_struct("Tap").field("attached", &self.attached).finish_non_exhaustive()
    }
}
