//! Which messages are visited, in which order, and the effect of a visit on the messages around it.

use super::output::{Fate, Output, changed, is_unknown, write_with};
use super::{Depth, METRIC_DEPTH, Outcome, Sight, Verdict, Visitor, items, points};
use crate::otlp::Signal;
use crate::otlp::message::{Message, Pieces};
use crate::otlp::room::Room;
use crate::otlp::schema::{
    exponential_point, histogram_point, is_data, metric, metric_data, number_point, request, resource_group,
    scope_group, span,
};
use crate::otlp::slice::{self, Exhausted};
use crate::otlp::wire::{Fields, Value};

/// The walk checks its limits once per this many visits.
const VISITS: u32 = 32;

/// Walks a checked request of `items` items; memory for its results comes from `room`. The compiled walk is large:
/// visitors that need no specialized copy share one, as `&mut dyn Visitor`.
pub fn rewrite<'a, V: Visitor<'a> + ?Sized>(
    signal: Signal,
    request: &'a [u8],
    items: u32,
    room: &'a Room,
    visitor: &mut V,
) -> Result<Outcome, V::Fault> {
    let (depth, prunes) = (visitor.depth(), visitor.prunes());
    let mut walk = Walk {
        signal,
        depth,
        prunes,
        visitor,
        sight: Sight::of(signal, room),
        output: Output::of(request, room),
        room,
        looks: slice::bytes_again(request.len()),
        visits: 0,
        items: i64::from(items),
    };
    let kept = walk.children(|number| number == request::RESOURCES, Walk::group)?;
    Ok(match walk.output.finish() {
        _ if prunes && kept == 0 => Outcome::Empty,
        None => Outcome::Unchanged,
        Some(bytes) => Outcome::Changed { bytes, items: u32::try_from(walk.items).unwrap_or_default() },
    })
}

struct Walk<'w, 'a, V: ?Sized> {
    signal: Signal,
    depth: Depth,
    prunes: bool,
    visitor: &'w mut V,
    sight: Sight<'a>,
    output: Output<'a>,
    room: &'a Room,
    /// Limit for repeated reads of messages around the visited ones: for example, an attribute in a resource with a
    /// million of them, for each of a million records.
    looks: usize,
    visits: u32,
    items: i64,
}

/// Selects one of the messages in sight.
type PickMut<'a> = for<'s> fn(&'s mut Sight<'a>) -> &'s mut Message<'a>;

impl<'a, V: Visitor<'a> + ?Sized> Walk<'_, 'a, V> {
    fn group(&mut self, number: u32, bytes: &'a [u8]) -> Result<Fate, V::Fault> {
        let is_scope = |number| number == resource_group::SCOPES;
        let is_apart = |number| is_scope(number) || is_unknown(resource_group::KNOWN, number);
        self.sight.resource_group.reset(bytes);
        if self.depth > Depth::Resources {
            self.sight.resource_group.leave_out(is_apart);
        }
        self.sight.resource.reset_to(&self.sight.resource_group, resource_group::RESOURCE);
        if self.visitor.resource(&mut self.sight)? == Verdict::Drop {
            return Ok(self.dropped(2, bytes));
        }
        self.output.enter(number, bytes);
        let kept = match self.depth > Depth::Resources {
            true => self.children(is_scope, Self::scope)?,
            false => self.count(is_scope),
        };
        if kept == 0 && self.prunes {
            return Ok(self.output.discard());
        }
        let Sight { resource_group, resource, .. } = &self.sight;
        let own = changed(resource_group, resource);
        Ok(self.output.close(own, is_apart, |out| {
            write_with(resource_group, resource_group::RESOURCE, resource, is_apart, out);
        })?)
    }

    fn scope(&mut self, number: u32, bytes: &'a [u8]) -> Result<Fate, V::Fault> {
        let is_record = |number| number == scope_group::RECORDS;
        let is_apart = |number| is_record(number) || is_unknown(scope_group::KNOWN, number);
        self.sight.scope_group.reset(bytes);
        if self.depth > Depth::Scopes {
            self.sight.scope_group.leave_out(is_apart);
        }
        self.sight.scope.reset_to(&self.sight.scope_group, scope_group::SCOPE);
        if self.visitor.scope(&mut self.sight)? == Verdict::Drop {
            return Ok(self.dropped(3, bytes));
        }
        self.output.enter(number, bytes);
        let kept = match self.depth > Depth::Scopes {
            true => self.children(is_record, Self::record)? + self.added()?,
            false => self.count(is_record),
        };
        if kept == 0 && self.prunes {
            return Ok(self.output.discard());
        }
        let Sight { scope_group, scope, .. } = &self.sight;
        let own = changed(scope_group, scope);
        Ok(self.output.close(own, is_apart, |out| {
            write_with(scope_group, scope_group::SCOPE, scope, is_apart, out);
        })?)
    }

    /// Visits the metrics added to a scope, and writes them after the others.
    fn added(&mut self) -> Result<usize, V::Fault> {
        let (mut kept, mut index) = (0, 0);
        while let Some(metric) = self.sight.added.get(index).copied() {
            index += 1;
            self.items += points(metric);
            self.output.reach()?;
            let fate = self.metric(scope_group::RECORDS, metric)?;
            if let Fate::Same = fate {
                self.output.add(scope_group::RECORDS, metric)?;
            }
            kept += usize::from(!matches!(fate, Fate::Gone));
        }
        self.sight.added.clear();
        Ok(kept)
    }

    #[inline]
    fn record(&mut self, number: u32, bytes: &'a [u8]) -> Result<Fate, V::Fault> {
        if self.signal == Signal::Metrics {
            return self.metric(number, bytes);
        }
        self.sight.record.reset(bytes);
        if self.visitor.record(&mut self.sight)? == Verdict::Drop {
            return Ok(self.dropped(4, bytes));
        }
        if self.signal == Signal::Logs || self.depth <= Depth::Records {
            return Ok(self.output.settle(number, &self.sight.record)?);
        }
        let is_event = |number| number == span::EVENTS;
        self.output.enter(number, bytes);
        self.children_of(|sight| &mut sight.record, span::KNOWN, is_event, Self::child)?;
        Ok(self.output.close_with(&self.sight.record, span::KNOWN, is_event)?)
    }

    fn metric(&mut self, number: u32, bytes: &'a [u8]) -> Result<Fate, V::Fault> {
        let sight = &mut self.sight;
        sight.record.reset(bytes);
        let came_as = sight.record.fields().map(|field| field.number).filter(|it| is_data(*it)).last().unwrap_or(0);
        sight.data_number = came_as;
        sight.data.reset_to(&sight.record, came_as);
        if self.visitor.record(&mut self.sight)? == Verdict::Drop {
            return Ok(self.dropped(METRIC_DEPTH, bytes));
        }
        self.output.enter(number, bytes);
        if self.depth <= Depth::Records {
            let Sight { record, data, data_number, .. } = &self.sight;
            let own = changed(record, data);
            let own = own.or_else(|| (*data_number != came_as).then(|| record.len() + data.len()));
            if data.is_changed() {
                self.items += data.payloads(metric_data::POINTS).count() as i64 - points(bytes);
            }
            let write = |out: &mut Vec<u8>| write_with(record, *data_number, data, is_data, out);
            return Ok(self.output.close(own, |_| false, write)?);
        }
        let has_data = self.sight.data_number != 0;
        let kept = self.children_of(|sight| &mut sight.record, metric::KNOWN, is_data, Self::data)?;
        if kept == 0 && has_data && self.prunes {
            return Ok(self.output.discard());
        }
        Ok(self.output.close_with(&self.sight.record, metric::KNOWN, is_data)?)
    }

    fn data(&mut self, number: u32, bytes: &'a [u8]) -> Result<Fate, V::Fault> {
        self.sight.data.reset(bytes);
        self.sight.data_number = number;
        self.sight.child.list = self.sight.point_attributes();
        let is_point = |number| number == metric_data::POINTS;
        self.output.enter(number, bytes);
        if self.children_of(|sight| &mut sight.data, metric_data::KNOWN, is_point, Self::child)? == 0 && self.prunes {
            return Ok(self.output.discard());
        }
        Ok(self.output.close_with(&self.sight.data, metric_data::KNOWN, is_point)?)
    }

    fn child(&mut self, number: u32, bytes: &'a [u8]) -> Result<Fate, V::Fault> {
        self.sight.child.reset(bytes);
        if self.visitor.child(&mut self.sight)? == Verdict::Drop {
            // A span event is not an item.
            self.items -= i64::from(self.signal == Signal::Metrics);
            return Ok(Fate::Gone);
        }
        let (exemplars, known) = match (self.signal, self.sight.data_number) {
            (Signal::Metrics, metric::GAUGE | metric::SUM) => (number_point::EXEMPLARS, number_point::KNOWN),
            (Signal::Metrics, metric::HISTOGRAM) => (histogram_point::EXEMPLARS, histogram_point::KNOWN),
            (Signal::Metrics, metric::EXPONENTIAL_HISTOGRAM) => {
                (exponential_point::EXEMPLARS, exponential_point::KNOWN)
            }
            _ => (0, 0),
        };
        if self.depth < Depth::Exemplars || exemplars == 0 {
            return Ok(self.output.settle(number, &self.sight.child)?);
        }
        let is_exemplar = |number| number == exemplars;
        self.output.enter(number, bytes);
        self.children_of(|sight| &mut sight.child, known, is_exemplar, Self::exemplar)?;
        Ok(self.output.close_with(&self.sight.child, known, is_exemplar)?)
    }

    fn exemplar(&mut self, number: u32, bytes: &'a [u8]) -> Result<Fate, V::Fault> {
        self.sight.exemplar.reset(bytes);
        match self.visitor.exemplar(&mut self.sight)? {
            Verdict::Drop => Ok(Fate::Gone),
            Verdict::Keep => Ok(self.output.settle(number, &self.sight.exemplar)?),
        }
    }

    /// Drops a message that the visitor rejects, with its items; `depth` as in `split`.
    fn dropped(&mut self, depth: usize, bytes: &[u8]) -> Fate {
        self.items -= items(self.signal, depth, bytes);
        Fate::Gone
    }

    /// Visits the children of the innermost container; returns how many remain.
    #[inline]
    fn children(
        &mut self,
        is_child: impl Fn(u32) -> bool,
        visit: impl Fn(&mut Self, u32, &'a [u8]) -> Result<Fate, V::Fault>,
    ) -> Result<usize, V::Fault> {
        let (mut kept, mut index) = (0, 0);
        for field in Fields::new(self.output.level.raw) {
            let end = self.output.level.at + field.raw.len();
            if let Value::Bytes(payload) = field.value
                && is_child(field.number)
            {
                self.sight.child_index = index;
                index += 1;
                self.visits = self.visits.wrapping_add(1);
                if self.visits.is_multiple_of(VISITS) && (self.sight.looked() > self.looks || slice::is_over()) {
                    return Err(slice::exhausted().into());
                }
                let fate = visit(self, field.number, payload)?;
                if self.room.missing().is_some() {
                    return Err(Exhausted.into());
                }
                match fate {
                    Fate::Same => kept += 1,
                    Fate::Written => {
                        kept += 1;
                        self.output.level.done = end;
                    }
                    Fate::Gone => {
                        self.output.reach()?;
                        self.output.level.done = end;
                    }
                }
            }
            self.output.level.at = end;
        }
        if self.output.level.begun.is_some() {
            self.output.reach()?;
        }
        Ok(kept)
    }

    /// The same for a message that its own visit may have changed, piece by piece.
    fn children_of(
        &mut self,
        message: PickMut<'a>,
        known: u32,
        is_child: impl Fn(u32) -> bool,
        visit: impl Fn(&mut Self, u32, &'a [u8]) -> Result<Fate, V::Fault>,
    ) -> Result<usize, V::Fault> {
        let parent = message(&mut self.sight);
        let pieces: Option<Pieces<'a>> = parent.is_changed().then(|| parent.pieces().clone());
        parent.leave_out(|number| is_child(number) || is_unknown(known, number));
        let Some(pieces) = pieces else { return self.children(is_child, visit) };
        self.output.reach()?;
        let mut kept = 0;
        for piece in pieces.iter().copied() {
            (self.output.level.raw, self.output.level.done, self.output.level.at) = (piece, 0, 0);
            kept += self.children(&is_child, &visit)?;
        }
        Ok(kept)
    }

    /// The number of children, if they are not visited.
    fn count(&self, is_child: impl Fn(u32) -> bool) -> usize {
        Fields::new(self.output.level.raw).filter(|field| is_child(field.number)).count()
    }
}
