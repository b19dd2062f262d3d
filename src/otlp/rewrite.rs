//! Walks a request with a visitor that keeps, drops or edits what it sees.
//!
//! What is untouched goes out as the same bytes, in runs as long as they are; nothing is written before something
//! changes, and when nothing does the request itself goes on. One message of each depth is open at a time.

use smallvec::SmallVec;

use super::Signal;
use super::message::{Message, Pieces};
use super::room::Room;
use super::schema::{
    event, exponential_point, histogram_point, is_data, log_record, metric, metric_data, number_point, request,
    resource_group, scope_group, span,
};
use super::slice::{self, Exhausted};
use super::split::{is_child, leaf_depth};
use super::wire::{Fields, Value, put_bytes, put_header};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Keep,
    Drop,
}

/// The innermost messages a visitor wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    Resources,
    Scopes,
    /// Log records, spans or metrics.
    Records,
    /// The events of spans, the data points of metrics; logs have none.
    Children,
    /// Of data points.
    Exemplars,
}

/// The messages in sight: the one that is visited and all around it. A visitor may edit each of them, but the fields
/// that hold the children it asked to see.
#[derive(Default)]
pub struct Sight<'a> {
    /// `ResourceLogs`, `ResourceSpans` or `ResourceMetrics`.
    pub resource_group: Message<'a>,
    pub resource: Message<'a>,
    /// `ScopeLogs`, `ScopeSpans` or `ScopeMetrics`.
    pub scope_group: Message<'a>,
    pub scope: Message<'a>,
    /// A log record, span or metric. Of a metric, all but its data.
    pub record: Message<'a>,
    /// The data of a metric and which field of it they are (`metric::GAUGE` …), 0 when it has none.
    pub data: Message<'a>,
    pub data_number: u32,
    /// A span event or data point, and its index among what the record came with.
    pub child: Message<'a>,
    pub child_index: usize,
    pub exemplar: Message<'a>,
    /// Metrics that join the scope in sight; they are visited after those that came with it.
    pub added: Vec<&'a [u8]>,
}

impl<'a> Sight<'a> {
    pub fn of(signal: Signal, room: &'a Room) -> Self {
        let message = || Message::within(room);
        let mut sight = Sight {
            resource_group: message(),
            resource: message(),
            scope_group: message(),
            scope: message(),
            record: message(),
            data: message(),
            child: message(),
            exemplar: message(),
            ..Sight::default()
        };
        (sight.record.list, sight.child.list) = match signal {
            Signal::Logs => (log_record::ATTRIBUTES, 0),
            Signal::Traces => (span::ATTRIBUTES, event::ATTRIBUTES),
            Signal::Metrics => (0, number_point::ATTRIBUTES),
        };
        sight
    }

    /// How much was read of long messages.
    fn looked(&self) -> usize {
        let around = [&self.resource_group, &self.resource, &self.scope_group, &self.scope, &self.record, &self.data];
        around.iter().fold(self.child.looked(), |sum, message| sum.saturating_add(message.looked()))
    }

    /// The field with the attributes of the data point in sight.
    pub fn point_attributes(&self) -> u32 {
        match self.data_number {
            metric::HISTOGRAM => histogram_point::ATTRIBUTES,
            metric::EXPONENTIAL_HISTOGRAM => exponential_point::ATTRIBUTES,
            _ => number_point::ATTRIBUTES,
        }
    }
}

pub trait Visitor<'a> {
    /// Why a visit ends the walk.
    type Fault: From<Exhausted>;

    fn depth(&self) -> Depth;
    /// Whether resources without scopes, scopes without records and data without points go too, where they were visited.
    fn prunes(&self) -> bool;

    fn resource(&mut self, _: &mut Sight<'a>) -> Result<Verdict, Self::Fault> {
        Ok(Verdict::Keep)
    }
    fn scope(&mut self, _: &mut Sight<'a>) -> Result<Verdict, Self::Fault> {
        Ok(Verdict::Keep)
    }
    fn record(&mut self, _: &mut Sight<'a>) -> Result<Verdict, Self::Fault> {
        Ok(Verdict::Keep)
    }
    fn child(&mut self, _: &mut Sight<'a>) -> Result<Verdict, Self::Fault> {
        Ok(Verdict::Keep)
    }
    fn exemplar(&mut self, _: &mut Sight<'a>) -> Result<Verdict, Self::Fault> {
        Ok(Verdict::Keep)
    }
}

/// Before every so many visits the walk asks whether it may go on.
const VISITS: u32 = 32;

#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The very same request goes on.
    Unchanged,
    Empty,
    Changed {
        bytes: Vec<u8>,
        items: u32,
    },
}

/// The longest tag and length of a message.
const HEADER: usize = 16;

/// Walks a checked request of `items` items; what it makes takes its memory from `room`. The compiled walk is large: visitors
/// that do not need a copy of their own share one, as `&mut dyn Visitor`.
pub fn rewrite<'a, V: Visitor<'a> + ?Sized>(
    signal: Signal,
    request: &'a [u8],
    items: u32,
    room: &'a Room,
    visitor: &mut V,
) -> Result<Outcome, V::Fault> {
    let (depth, prunes) = (visitor.depth(), visitor.prunes());
    let level = Level { raw: request, ..Level::default() };
    let mut walk = Walk {
        signal,
        depth,
        prunes,
        visitor,
        sight: Sight::of(signal, room),
        out: Vec::new(),
        room,
        likely: request.len() + request.len() / 8,
        looks: slice::bytes_again(request.len()),
        visits: 0,
        scratch: Vec::new(),
        level,
        outer: SmallVec::new(),
        items: i64::from(items),
    };
    let kept = walk.children(|number| number == request::RESOURCES, Walk::group)?;
    room.give_back(walk.scratch.capacity());
    let mut out = walk.out;
    Ok(match walk.level.begun {
        _ if prunes && kept == 0 => Outcome::Empty,
        None => Outcome::Unchanged,
        Some(_) => {
            let capacity = out.capacity();
            if capacity - out.len() > out.len() / 4 {
                out.shrink_to_fit();
                room.give_back(capacity - out.capacity());
            }
            Outcome::Changed { bytes: out, items: u32::try_from(walk.items).unwrap_or_default() }
        }
    })
}

const METRIC_DEPTH: usize = 4;

struct Walk<'w, 'a, V: ?Sized> {
    signal: Signal,
    depth: Depth,
    prunes: bool,
    visitor: &'w mut V,
    sight: Sight<'a>,
    out: Vec<u8>,
    room: &'a Room,
    /// How long the output will likely be, once there is any.
    likely: usize,
    /// How much may be read of what is around the visited, time and again: an attribute of a resource with a million of
    /// them, in each of a million records.
    looks: usize,
    visits: u32,
    scratch: Vec<u8>,
    /// The container whose children are visited, and those around it.
    level: Level<'a>,
    outer: SmallVec<[Level<'a>; 5]>,
    items: i64,
}

/// A container on the way to the message that is visited.
#[derive(Default)]
struct Level<'a> {
    raw: &'a [u8],
    /// Its field number in the container around it; 0 is the request.
    number: u32,
    /// Up to where its bytes are in the output or left out of it, and where the child starts that is visited.
    done: usize,
    at: usize,
    /// Where its tag and its first field stand in the output, once something in it has changed.
    begun: Option<(usize, usize)>,
}

impl Level<'_> {
    /// How many bytes `reach` may write.
    fn behind(&self) -> usize {
        HEADER + self.at - self.done
    }

    /// Brings the output up to the child that is visited.
    fn reach(&mut self, out: &mut Vec<u8>) {
        if self.begun.is_none() {
            let start = out.len();
            if self.number != 0 {
                // A guess, corrected when the length is known; most often it takes as many bytes.
                put_header(out, self.number, self.raw.len());
            }
            self.begun = Some((start, out.len()));
        }
        out.extend_from_slice(self.raw.get(self.done..self.at).unwrap_or_default());
        self.done = self.at;
    }
}

/// One of the messages in sight.
type Pick<'a> = for<'s> fn(&'s Sight<'a>) -> &'s Message<'a>;
type PickMut<'a> = for<'s> fn(&'s mut Sight<'a>) -> &'s mut Message<'a>;

/// What became of a message in its container.
enum Fate {
    Same,
    /// It stands in the output.
    Written,
    Gone,
}

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
        self.enter(number, bytes);
        let kept = match self.depth > Depth::Resources {
            true => self.children(is_scope, Self::scope)?,
            false => self.count(is_scope),
        };
        if kept == 0 && self.prunes {
            return Ok(self.discard());
        }
        let Sight { resource_group, resource, .. } = &self.sight;
        let own = changed(resource_group, resource);
        self.close(own, is_apart, |sight, out| {
            write_with(&sight.resource_group, resource_group::RESOURCE, &sight.resource, is_apart, out);
        })
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
        self.enter(number, bytes);
        let kept = match self.depth > Depth::Scopes {
            true => self.children(is_record, Self::record)? + self.added()?,
            false => self.count(is_record),
        };
        if kept == 0 && self.prunes {
            return Ok(self.discard());
        }
        let own = changed(&self.sight.scope_group, &self.sight.scope);
        self.close(own, is_apart, |sight, out| {
            write_with(&sight.scope_group, scope_group::SCOPE, &sight.scope, is_apart, out);
        })
    }

    /// Visits the metrics that were added to a scope, and writes them behind the others.
    fn added(&mut self) -> Result<usize, V::Fault> {
        let (mut kept, mut index) = (0, 0);
        while let Some(metric) = self.sight.added.get(index).copied() {
            index += 1;
            self.items += points(metric);
            self.reach()?;
            let fate = self.metric(scope_group::RECORDS, metric)?;
            if let Fate::Same = fate {
                self.make_room(metric.len() + HEADER)?;
                put_bytes(&mut self.out, scope_group::RECORDS, metric);
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
            return self.settle(number, |sight| &sight.record);
        }
        let is_event = |number| number == span::EVENTS;
        self.enter(number, bytes);
        self.children_of(|sight| &mut sight.record, span::KNOWN, is_event, Self::child)?;
        self.close_with(|sight| &sight.record, span::KNOWN, is_event)
    }

    fn metric(&mut self, number: u32, bytes: &'a [u8]) -> Result<Fate, V::Fault> {
        let sight = &mut self.sight;
        sight.record.reset(bytes);
        sight.data_number =
            sight.record.fields().map(|field| field.number).filter(|it| is_data(*it)).last().unwrap_or(0);
        let data_number = sight.data_number;
        sight.data.reset_to(&sight.record, data_number);
        if self.visitor.record(&mut self.sight)? == Verdict::Drop {
            return Ok(self.dropped(METRIC_DEPTH, bytes));
        }
        self.enter(number, bytes);
        if self.depth <= Depth::Records {
            let is_moved = self.sight.data_number != data_number;
            let own = changed(&self.sight.record, &self.sight.data);
            let own = own.or_else(|| is_moved.then(|| self.sight.record.len() + self.sight.data.len()));
            if self.sight.data.is_changed() {
                self.items += self.sight.data.payloads(metric_data::POINTS).count() as i64 - points(bytes);
            }
            return self.close(
                own,
                |_| false,
                |sight, out| {
                    write_with(&sight.record, sight.data_number, &sight.data, is_data, out);
                },
            );
        }
        let has_data = self.sight.data_number != 0;
        let kept = self.children_of(|sight| &mut sight.record, metric::KNOWN, is_data, Self::data)?;
        if kept == 0 && has_data && self.prunes {
            return Ok(self.discard());
        }
        self.close_with(|sight| &sight.record, metric::KNOWN, is_data)
    }

    fn data(&mut self, number: u32, bytes: &'a [u8]) -> Result<Fate, V::Fault> {
        self.sight.data.reset(bytes);
        self.sight.data_number = number;
        self.sight.child.list = self.sight.point_attributes();
        let is_point = |number| number == metric_data::POINTS;
        self.enter(number, bytes);
        if self.children_of(|sight| &mut sight.data, metric_data::KNOWN, is_point, Self::child)? == 0 && self.prunes {
            return Ok(self.discard());
        }
        self.close_with(|sight| &sight.data, metric_data::KNOWN, is_point)
    }

    fn child(&mut self, number: u32, bytes: &'a [u8]) -> Result<Fate, V::Fault> {
        self.sight.child.reset(bytes);
        if self.visitor.child(&mut self.sight)? == Verdict::Drop {
            // An event of a span is no item.
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
            return self.settle(number, |sight| &sight.child);
        }
        let is_exemplar = |number| number == exemplars;
        self.enter(number, bytes);
        self.children_of(|sight| &mut sight.child, known, is_exemplar, Self::exemplar)?;
        self.close_with(|sight| &sight.child, known, is_exemplar)
    }

    fn exemplar(&mut self, number: u32, bytes: &'a [u8]) -> Result<Fate, V::Fault> {
        self.sight.exemplar.reset(bytes);
        match self.visitor.exemplar(&mut self.sight)? {
            Verdict::Drop => Ok(Fate::Gone),
            Verdict::Keep => self.settle(number, |sight| &sight.exemplar),
        }
    }

    /// Opens the container that is visited; nothing is written yet.
    fn enter(&mut self, number: u32, raw: &'a [u8]) {
        let level = Level { raw, number, ..Level::default() };
        self.outer.push(std::mem::replace(&mut self.level, level));
    }

    /// Visits the children of the innermost container and says how many stayed.
    #[inline]
    fn children(
        &mut self,
        is_child: impl Fn(u32) -> bool,
        visit: impl Fn(&mut Self, u32, &'a [u8]) -> Result<Fate, V::Fault>,
    ) -> Result<usize, V::Fault> {
        let (mut kept, mut index) = (0, 0);
        for field in Fields::new(self.level.raw) {
            let end = self.level.at + field.raw.len();
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
                        self.level.done = end;
                    }
                    Fate::Gone => {
                        self.reach()?;
                        self.level.done = end;
                    }
                }
            }
            self.level.at = end;
        }
        if self.level.begun.is_some() {
            self.reach()?;
        }
        Ok(kept)
    }

    /// The same for a message that its own visit may have changed: its pieces come one after another.
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
        self.reach()?;
        let mut kept = 0;
        for piece in pieces.iter().copied() {
            (self.level.raw, self.level.done, self.level.at) = (piece, 0, 0);
            kept += self.children(&is_child, &visit)?;
        }
        Ok(kept)
    }

    /// How many children there are, where nobody wants to see them.
    fn count(&self, is_child: impl Fn(u32) -> bool) -> usize {
        Fields::new(self.level.raw).filter(|field| is_child(field.number)).count()
    }

    /// Brings the output up to the child that is visited, through all containers around it.
    fn reach(&mut self) -> Result<(), V::Fault> {
        let mut more = self.level.behind();
        if self.level.begun.is_none() {
            more += self.outer.iter().map(Level::behind).sum::<usize>();
            self.make_room(if self.out.is_empty() { more.max(self.likely) } else { more })?;
            self.outer.iter_mut().for_each(|level| level.reach(&mut self.out));
        } else {
            self.make_room(more)?;
        }
        self.level.reach(&mut self.out);
        Ok(())
    }

    /// Room for so many bytes more of output.
    #[inline]
    fn make_room(&mut self, more: usize) -> Result<(), V::Fault> {
        if self.room.reserve(&mut self.out, more) { Ok(()) } else { Err(Exhausted.into()) }
    }

    /// Writes a message without visited children, if it was changed.
    #[inline]
    fn settle(&mut self, number: u32, message: Pick<'a>) -> Result<Fate, V::Fault> {
        if !message(&self.sight).is_changed() {
            return Ok(Fate::Same);
        }
        self.reach()?;
        self.make_room(message(&self.sight).len() + HEADER)?;
        message(&self.sight).write_field(&mut self.out, number);
        Ok(Fate::Written)
    }

    /// Closes a container after `children_of`.
    fn close_with(&mut self, message: Pick<'a>, known: u32, is_child: impl Fn(u32) -> bool) -> Result<Fate, V::Fault> {
        let is_apart = |number| is_child(number) || is_unknown(known, number);
        let own = Some(message(&self.sight)).filter(|message| message.is_changed()).map(Message::len);
        self.close(own, is_apart, |sight, out| write_around(message(sight), is_apart, out))
    }

    /// Closes the innermost container. What was changed of its own fields, `own` bytes, is written before what stands apart
    /// from them: its children, and the fields that nobody reads.
    fn close(
        &mut self,
        own: Option<usize>,
        is_apart: impl Fn(u32) -> bool,
        write_own: impl Fn(&Sight<'a>, &mut Vec<u8>),
    ) -> Result<Fate, V::Fault> {
        if let Some(own) = own {
            let mut body = self.level.raw;
            self.scratch.clear();
            if let Some((_, start)) = self.level.begun {
                let written = self.out.get(start..).unwrap_or_default();
                if !self.room.reserve(&mut self.scratch, written.len()) {
                    return Err(Exhausted.into());
                }
                self.scratch.extend_from_slice(written);
                self.out.truncate(start);
                body = &[];
            } else {
                self.level.at = 0;
                self.reach()?;
            }
            self.make_room(own + HEADER + body.len() + self.scratch.len())?;
            write_own(&self.sight, &mut self.out);
            let children = if body.is_empty() { Fields::new(&self.scratch) } else { Fields::new(body) };
            for child in children.filter(|field| is_apart(field.number)) {
                self.out.extend_from_slice(child.raw);
            }
        }
        let level = self.leave();
        let Some((start, body)) = level.begun else { return Ok(Fate::Same) };
        let length = self.out.len() - body;
        self.make_room(HEADER)?;
        self.scratch.clear();
        put_header(&mut self.scratch, level.number, length);
        self.out.splice(start..body, self.scratch.drain(..));
        Ok(Fate::Written)
    }

    /// Leaves the innermost container out.
    fn discard(&mut self) -> Fate {
        if let Some((start, _)) = self.leave().begun {
            self.out.truncate(start);
        }
        Fate::Gone
    }

    fn leave(&mut self) -> Level<'a> {
        let outer = self.outer.pop().unwrap_or_default();
        std::mem::replace(&mut self.level, outer)
    }

    /// A message that the visitor does not want, with its items; `depth` as in `split`.
    fn dropped(&mut self, depth: usize, bytes: &[u8]) -> Fate {
        self.items -= items(self.signal, depth, bytes);
        Fate::Gone
    }
}

/// Whether a field is none that OTLP had when this was written. Any number of them may stand between the children of a
/// message, so they are left out with these.
fn is_unknown(known: u32, number: u32) -> bool {
    known.checked_shr(number).unwrap_or_default() & 1 == 0
}

/// How long two messages are that are written together, if one of them was changed.
fn changed(outer: &Message, inner: &Message) -> Option<usize> {
    (outer.is_changed() || inner.is_changed()).then(|| outer.len() + inner.len() + HEADER)
}

/// Writes the fields of a message that `is_other` does not cover.
fn write_around(message: &Message, is_other: impl Fn(u32) -> bool, out: &mut Vec<u8>) {
    for field in message.fields().filter(|field| !is_other(field.number)) {
        out.extend_from_slice(field.raw);
    }
}

/// The same, and the singular message `number` that is in sight beside it; one that is absent stays so, and one of which
/// nothing is left is there still.
fn write_with(message: &Message, number: u32, inner: &Message, is_other: impl Fn(u32) -> bool, out: &mut Vec<u8>) {
    write_around(message, |field| field == number || is_other(field), out);
    if number != 0 && (inner.is_changed() || !inner.pieces().is_empty()) {
        inner.write_field(out, number);
    }
}

/// The items and the bytes of a message as it came: what goes when it is dropped.
pub fn size(signal: Signal, depth: Depth, message: &Message) -> (u64, usize) {
    let inside = |depth| message.everything().iter().map(|piece| items(signal, depth, piece)).sum();
    let items: i64 = match (depth, signal) {
        (Depth::Resources, _) => inside(2),
        (Depth::Scopes, _) => inside(3),
        (Depth::Records, Signal::Metrics) => points(message.pieces().first().copied().unwrap_or_default()),
        (Depth::Records, _) | (Depth::Children, Signal::Metrics) => 1,
        (Depth::Children | Depth::Exemplars, _) => 0,
    };
    (items.max(0) as u64, message.everything().iter().map(|piece| piece.len()).sum())
}

/// How many items a message holds; the request is at depth 1, and so on inwards.
fn items(signal: Signal, depth: usize, message: &[u8]) -> i64 {
    match depth > leaf_depth(signal) {
        true => 1,
        false => Fields::new(message)
            .filter(|field| is_child(signal, depth, field.number))
            .map(|field| if let Value::Bytes(inner) = field.value { items(signal, depth + 1, inner) } else { 0 })
            .sum(),
    }
}

fn points(metric: &[u8]) -> i64 {
    items(Signal::Metrics, METRIC_DEPTH, metric)
}
