//! Spans by trace, as they stand in the requests that brought them: nothing is copied until a trace is handed on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use smallvec::SmallVec;

use crate::otlp::schema::{request, resource_group, scope_group, span};
use crate::otlp::wire::{Fields, Value, field_len, put_header};
use crate::telemetry::{Charge, Part};

/// What a span costs beside its bytes: a piece of its own in a list that has grown to twice its length.
const PIECE: usize = 2 * size_of::<Piece>() + BLOCK;
/// What the allocator takes for a block beside what was asked for.
const BLOCK: usize = 16;

/// A request that some piece still points into.
#[derive(Debug)]
struct Origin {
    bytes: Bytes,
    size: u64,
    held: Arc<AtomicU64>,
    _charge: Charge,
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.held.fetch_sub(self.size, Relaxed);
    }
}

/// What stands around the spans of one scope of one resource.
#[derive(Debug)]
pub(super) struct Header {
    origin: Arc<Origin>,
    /// The fields of `ResourceSpans` but its scopes, and of `ScopeSpans` but its spans.
    pub(super) resource: Arc<[u8]>,
    pub(super) scope: Box<[u8]>,
}

/// Spans of one trace that came together.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) header: Arc<Header>,
    /// Runs of span fields in the request.
    runs: SmallVec<[(u32, u32); 2]>,
    pub(super) spans: u32,
    bytes: u64,
}

/// One span as it is gathered.
pub(super) struct Gathered<'g> {
    pub(super) trace_id: u128,
    pub(super) is_root: bool,
    pub(super) length: u64,
    header: &'g Arc<Header>,
    start: u32,
}

/// What it takes to hold a request beside its bytes: its headers are copied, its spans have places in pieces.
pub(super) fn overhead(part: &Part) -> u64 {
    let mut bytes = PIECE * part.items as usize;
    for group in children(&part.bytes, request::RESOURCES) {
        bytes += 2 * BLOCK + length(others(group, resource_group::SCOPES));
        for scope in children(group, resource_group::SCOPES) {
            bytes += 3 * BLOCK + size_of::<Header>() + length(others(scope, scope_group::RECORDS));
        }
    }
    bytes as u64
}

/// Takes a request apart; `each` is given its spans in order. `held` counts what origins hold.
pub(super) fn gather(part: Part, held: &Arc<AtomicU64>, mut each: impl FnMut(Gathered)) {
    let overhead = overhead(&part);
    part.charge.move_to_queue();
    part.charge.add(overhead);
    let size = part.bytes.len() as u64 + overhead;
    held.fetch_add(size, Relaxed);
    let origin = Arc::new(Origin { bytes: part.bytes, size, held: held.clone(), _charge: part.charge });
    let start = origin.bytes.as_ptr().addr();
    for group in children(&origin.bytes, request::RESOURCES) {
        let resource: Arc<[u8]> = joined(group, resource_group::SCOPES).into();
        for scope in children(group, resource_group::SCOPES) {
            let header = Header {
                origin: origin.clone(),
                resource: resource.clone(),
                scope: joined(scope, scope_group::RECORDS).into(),
            };
            let header = Arc::new(header);
            for field in Fields::new(scope).filter(|field| field.number == scope_group::RECORDS) {
                let Value::Bytes(span) = field.value else { continue };
                let (mut trace_id, mut is_root) = (0, true);
                for field in Fields::new(span) {
                    match (field.number, field.value) {
                        (span::TRACE_ID, Value::Bytes(id)) => {
                            trace_id = id.try_into().map_or(0, u128::from_be_bytes);
                        }
                        (span::PARENT_SPAN_ID, Value::Bytes(id)) => is_root = id.iter().all(|byte| *byte == 0),
                        _ => {}
                    }
                }
                // Requests are far below 4 GiB.
                let start = (field.raw.as_ptr().addr() - start) as u32;
                each(Gathered { trace_id, is_root, length: field.raw.len() as u64, header: &header, start });
            }
        }
    }
}

fn children(message: &[u8], number: u32) -> impl Iterator<Item = &[u8]> {
    Fields::new(message).filter_map(move |field| match field.value {
        Value::Bytes(bytes) if field.number == number => Some(bytes),
        _ => None,
    })
}

/// The fields of a message but one, and they as bytes of their own.
fn others(message: &[u8], number: u32) -> impl Iterator<Item = &[u8]> {
    Fields::new(message).filter(move |field| field.number != number).map(|field| field.raw)
}

fn joined(message: &[u8], number: u32) -> Vec<u8> {
    let mut joined = Vec::with_capacity(length(others(message, number)));
    others(message, number).for_each(|field| joined.extend_from_slice(field));
    joined
}

fn length<'m>(fields: impl Iterator<Item = &'m [u8]>) -> usize {
    fields.map(<[u8]>::len).sum()
}

impl Gathered<'_> {
    /// Adds the span to the pieces of its trace.
    pub(super) fn push(&self, pieces: &mut Vec<Piece>) {
        let end = self.start + self.length as u32;
        if let Some(piece) = pieces.last_mut().filter(|piece| Arc::ptr_eq(&piece.header, self.header)) {
            match piece.runs.last_mut().filter(|run| run.1 == self.start) {
                Some(run) => run.1 = end,
                None => piece.runs.push((self.start, end)),
            }
            piece.spans += 1;
            piece.bytes += self.length;
            return;
        }
        // Most traces come in one piece; a list would make room for four.
        if pieces.is_empty() {
            pieces.reserve_exact(1);
        }
        let runs = SmallVec::from_iter([(self.start, end)]);
        pieces.push(Piece { header: self.header.clone(), runs, spans: 1, bytes: self.length });
    }
}

impl Piece {
    fn run(&self, (start, end): (u32, u32)) -> &[u8] {
        self.header.origin.bytes.get(start as usize..end as usize).unwrap_or_default()
    }

    /// The encoded spans.
    pub(super) fn each(&self) -> impl Iterator<Item = &[u8]> {
        self.runs.iter().flat_map(|run| children(self.run(*run), scope_group::RECORDS))
    }

    fn scope_len(&self) -> usize {
        self.header.scope.len() + self.bytes as usize
    }

    /// Whether it goes on with the resource of the piece before it.
    pub(super) fn continues(&self, before: &Piece) -> bool {
        Arc::ptr_eq(&self.header.resource, &before.header.resource)
    }
}

/// The pieces of one resource of one request, and how long its `ResourceSpans` is.
fn groups(pieces: &[Piece]) -> impl Iterator<Item = (&[Piece], usize)> {
    pieces.chunk_by(|before, piece| piece.continues(before)).map(|group| {
        let resource = group.first().map_or(0, |piece| piece.header.resource.len());
        let scopes: usize = group.iter().map(|piece| field_len(resource_group::SCOPES, piece.scope_len())).sum();
        (group, resource + scopes)
    })
}

/// The length of the request that these pieces make.
pub(super) fn request_len(pieces: &[Piece]) -> usize {
    groups(pieces).map(|(_, length)| field_len(request::RESOURCES, length)).sum()
}

/// The request that these pieces make.
pub(super) fn write_request(pieces: &[Piece]) -> Vec<u8> {
    let mut out = Vec::with_capacity(request_len(pieces));
    for (group, length) in groups(pieces) {
        put_header(&mut out, request::RESOURCES, length);
        group.first().into_iter().for_each(|piece| out.extend_from_slice(&piece.header.resource));
        for piece in group {
            put_header(&mut out, resource_group::SCOPES, piece.scope_len());
            out.extend_from_slice(&piece.header.scope);
            piece.runs.iter().for_each(|run| out.extend_from_slice(piece.run(*run)));
        }
    }
    out
}
