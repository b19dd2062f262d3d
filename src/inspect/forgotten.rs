//! Traces of which the ring has forgotten a part, so that their rest is not shown as if it were whole: a past
//! trace is whole or gone.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use smallvec::SmallVec;

use crate::otlp::rewrite::{Depth, Sight, Verdict, Visitor, kept};
use crate::otlp::schema::{REQUEST_RESOURCES, log_record, span};
use crate::otlp::views::{Repeated, ResourceGroup, ScopeGroup};
use crate::ottl::value::{Arena, Fault};
use crate::telemetry::Signal;

/// One trace is remembered for so many bytes of the ring: more than it usually holds.
const PER_TRACE: usize = 512;
/// Pieces of one trace come within this time: SDKs collect for a few seconds.
const SPREAD: Duration = Duration::from_secs(10);

type Id = [u8; 16];

#[derive(Default)]
pub(super) struct Forgotten {
    /// The maximum number of traces.
    most: usize,
    /// Shared with [`Known`] until it changes.
    ids: Arc<HashSet<Id>>,
    order: VecDeque<Id>,
    /// When a request was last not kept at all. Its traces are unknown.
    gap: Option<Instant>,
}

/// The forgotten traces at one moment.
pub(super) struct Known {
    ids: Arc<HashSet<Id>>,
    gap: Option<Instant>,
}

impl Forgotten {
    pub(super) fn new(ring_bytes: usize) -> Forgotten {
        Forgotten { most: ring_bytes / PER_TRACE, ..Forgotten::default() }
    }

    /// Remembers the traces of a request that the ring gives up.
    pub(super) fn add(&mut self, signal: Signal, parts: &[(Bytes, u32)]) {
        let Some(field) = id_field(signal) else { return };
        let resources = parts.iter().flat_map(|(bytes, _)| Repeated::of(bytes, REQUEST_RESOURCES));
        for resource in resources {
            for scope in ResourceGroup::read(resource).scopes {
                for record in ScopeGroup::read(scope).records {
                    let id = Repeated::of(record, field).last().and_then(|id| Id::try_from(id).ok());
                    id.into_iter().for_each(|id| self.add_one(id));
                }
            }
        }
    }

    fn add_one(&mut self, id: Id) {
        if id == Id::default() || self.ids.contains(&id) {
            return;
        }
        let ids = Arc::make_mut(&mut self.ids);
        ids.insert(id);
        self.order.push_back(id);
        if self.order.len() > self.most
            && let Some(oldest) = self.order.pop_front()
        {
            ids.remove(&oldest);
        }
    }

    /// A request was not kept.
    pub(super) fn skip(&mut self, now: Instant) {
        self.gap = Some(now);
    }

    pub(super) fn known(&self) -> Known {
        Known { ids: self.ids.clone(), gap: self.gap }
    }
}

impl Known {
    /// Whether a trace with an item of this time may lack a part that was not kept.
    pub(super) fn may_have_gap(&self, at: Instant) -> bool {
        self.gap.is_some_and(|gap| at <= gap + SPREAD)
    }

    /// A request without the items of forgotten traces.
    pub(super) fn without(&self, signal: Signal, parts: &[(Bytes, u32)]) -> SmallVec<[(Bytes, u32); 1]> {
        let Some(field) = id_field(signal).filter(|_| !self.ids.is_empty()) else { return parts.into() };
        let whole = |(bytes, items): &(Bytes, u32)| {
            let arena = Arena::with_limit((64 << 10) + 4 * bytes.len());
            let mut sieve = Sieve { ids: &self.ids, field };
            kept(signal, bytes, *items, arena.room(), &mut sieve)
        };
        parts.iter().filter_map(whole).collect()
    }
}

/// The field with the trace id of a record.
fn id_field(signal: Signal) -> Option<u32> {
    match signal {
        Signal::Logs => Some(log_record::TRACE_ID),
        Signal::Traces => Some(span::TRACE_ID),
        Signal::Metrics => None,
    }
}

/// Drops the records of forgotten traces.
struct Sieve<'i> {
    ids: &'i HashSet<Id>,
    field: u32,
}

impl<'a> Visitor<'a> for Sieve<'_> {
    type Fault = Fault;

    fn depth(&self) -> Depth {
        Depth::Records
    }

    fn prunes(&self) -> bool {
        true
    }

    fn record(&mut self, sight: &mut Sight<'a>) -> Result<Verdict, Fault> {
        let id = Id::try_from(sight.record.bytes(self.field));
        Ok(if id.is_ok_and(|id| self.ids.contains(&id)) { Verdict::Drop } else { Verdict::Keep })
    }
}
