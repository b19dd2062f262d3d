//! An editable message: its encoding in pieces, which edits replace as needed.
//!
//! An unedited message is one piece, its original bytes. Writing a field splits the piece around it, so an edit costs
//! one search for its position. The rest is never decoded: its order, unknown fields and unusual encodings survive. New
//! bytes belong to the caller, encoded as whole fields; they live as long as the request.

mod pieces;

use std::cell::{Cell, RefCell};

use super::room::Room;
use super::schema::key_value;
use super::slice::WORKED_ON;
use super::views::{AnyValue, KeyValue};
use super::wire::{Field, Fields, Value, put_header, varint_len};

pub(super) use pieces::Pieces;

/// From this length on, searches in a message are cached and counted.
const LONG: usize = 1024;
/// A message of this many pieces is long, however short they are.
const PIECES: usize = 16;
/// Maximum cached searches.
const KNOWN: usize = 32;

/// The results of searches in a long message: the records in a resource all search for the same.
#[derive(Clone, Debug, Default)]
struct Known<'a> {
    attributes: Vec<(u32, Box<[u8]>, Option<AnyValue<'a>>)>,
    fields: Vec<(u32, Option<Value<'a>>)>,
}

#[derive(Clone, Debug, Default)]
pub struct Message<'a> {
    pieces: Pieces<'a>,
    known: RefCell<Option<Box<Known<'a>>>>,
    /// Bytes of long messages read in searches, in this message and the previous ones.
    looked: Cell<usize>,
    is_changed: bool,
    /// The original message, once a part of it was left out.
    whole: &'a [u8],
    /// The field with its attributes, if known.
    pub(crate) list: u32,
    /// A Bloom-style bit set of its attributes' keys, once all were read for another reason.
    keys: Option<u64>,
}

/// The position of a field.
#[derive(Clone, Copy)]
struct Spot<'a> {
    piece: usize,
    start: usize,
    raw: &'a [u8],
}

/// The fields of a message, across all pieces.
pub(crate) struct PieceFields<'m, 'a> {
    current: Fields<'a>,
    rest: std::slice::Iter<'m, &'a [u8]>,
}

impl<'a> Iterator for PieceFields<'_, 'a> {
    type Item = Field<'a>;

    #[inline(always)]
    fn next(&mut self) -> Option<Field<'a>> {
        loop {
            if let Some(field) = self.current.next() {
                return Some(field);
            }
            self.current = Fields::new(self.rest.next()?);
        }
    }
}

impl<'a> Message<'a> {
    pub fn of(bytes: &'a [u8]) -> Message<'a> {
        let mut message = Message::default();
        message.pieces.push(bytes);
        message
    }

    /// Its edits take memory from `room`.
    pub(crate) fn enter(&mut self, room: &'a Room) {
        self.pieces.enter(room);
    }

    /// Becomes another message, unedited.
    #[inline(always)]
    pub(crate) fn reset(&mut self, bytes: &'a [u8]) {
        self.pieces.reset(bytes);
        self.forget();
    }

    #[inline(always)]
    fn forget(&mut self) {
        *self.known.get_mut() = None;
        self.is_changed = false;
        self.whole = &[];
        self.keys = None;
    }

    /// Becomes the singular message `number` of another one: empty if absent, merged if given twice.
    pub(crate) fn reset_to(&mut self, parent: &Message<'a>, number: u32) {
        self.pieces.clear();
        self.forget();
        parent.count(0);
        self.pieces.extend(parent.payloads(number));
    }

    pub fn is_changed(&self) -> bool {
        self.is_changed
    }

    pub(crate) fn pieces(&self) -> &Pieces<'a> {
        &self.pieces
    }

    #[inline(always)]
    pub(crate) fn fields(&self) -> PieceFields<'_, 'a> {
        PieceFields { current: Fields::new(&[]), rest: self.pieces.iter() }
    }

    #[inline(always)]
    fn is_long(&self) -> bool {
        match &*self.pieces {
            [piece] => piece.len() >= LONG,
            pieces => pieces.len() >= PIECES || self.len() >= LONG,
        }
    }

    /// Bytes read of long messages: repeated searches for each of many other messages are too much work.
    pub(super) fn looked(&self) -> usize {
        self.looked.get()
    }

    /// Counts a read of everything but `rest` bytes.
    #[inline(always)]
    fn count(&self, rest: usize) {
        if self.is_long() {
            self.looked.set(self.looked.get().saturating_add(self.len().saturating_sub(rest)));
        }
    }

    /// Counts a repeated read by code that reads all of `bytes`.
    fn count_again(&self, bytes: &[u8]) {
        self.looked.set(self.looked.get().saturating_add(bytes.len().saturating_mul(WORKED_ON)));
    }

    /// All occurrences of a repeated message or string field.
    pub(crate) fn payloads(&self, number: u32) -> impl Iterator<Item = &'a [u8]> {
        self.fields().filter_map(move |field| match field.value {
            Value::Bytes(bytes) if field.number == number => Some(bytes),
            _ => None,
        })
    }

    /// The last occurrence of a field, which counts.
    #[inline]
    fn last(&self, number: u32) -> Option<Value<'a>> {
        if self.is_long() { self.last_of_many(number) } else { self.scanned(number) }
    }

    #[inline(always)]
    fn scanned(&self, number: u32) -> Option<Value<'a>> {
        let mut found = None;
        for field in self.fields() {
            if field.number == number {
                found = Some(field.value);
            }
        }
        found
    }

    #[cold]
    fn last_of_many(&self, number: u32) -> Option<Value<'a>> {
        let mut known = self.known.borrow_mut();
        let known = &mut known.get_or_insert_default().fields;
        if let Some((_, found)) = known.iter().find(|(known, _)| *known == number) {
            if let Some(Value::Bytes(bytes)) = found {
                self.count_again(bytes);
            }
            return *found;
        }
        self.count(0);
        let found = self.scanned(number);
        if known.len() < KNOWN {
            known.push((number, found));
        }
        found
    }

    /// A string or bytes field; empty if absent.
    pub fn bytes(&self, number: u32) -> &'a [u8] {
        match self.last(number) {
            Some(Value::Bytes(bytes)) => bytes,
            _ => &[],
        }
    }

    /// The bits of a number, in any encoding; 0 if absent.
    pub fn bits(&self, number: u32) -> u64 {
        match self.last(number) {
            Some(Value::Varint(bits) | Value::Fixed64(bits)) => bits,
            Some(Value::Fixed32(bits)) => u64::from(bits),
            _ => 0,
        }
    }

    /// Replaces all occurrences of a field by one encoded field, or none: at the first occurrence, else at the end.
    pub fn replace(&mut self, number: u32, raw: &'a [u8]) {
        let (mut found, mut is_repeated) = (None, false);
        self.look(|spot, field| {
            if field.number == number {
                is_repeated |= found.is_some();
                found = found.or(Some(spot));
            }
            false
        });
        let Some(spot) = found else { return self.append(raw) };
        if is_repeated {
            self.retain(|field| field.number != number);
            self.append(raw);
        } else {
            self.splice(spot, raw);
        }
    }

    /// Adds encoded fields at the end.
    pub fn append(&mut self, raw: &'a [u8]) {
        if !raw.is_empty() {
            self.pieces.push(raw);
            self.changed();
        }
    }

    pub fn remove(&mut self, number: u32) {
        self.retain(|field| field.number != number);
    }

    /// Removes the fields that `keep` rejects; adjacent fields stay one piece.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&Field<'a>) -> bool) {
        self.revise(|field| (!keep(field)).then_some(&[]));
    }

    /// Replaces each field for which `change` returns encoded fields, possibly none. One pass.
    pub(crate) fn revise(&mut self, mut change: impl FnMut(&Field<'a>) -> Option<&'a [u8]>) {
        self.count(0);
        let mut revised = Pieces::within(self.pieces.room());
        let mut is_changed = false;
        for piece in self.pieces.iter() {
            let (mut start, mut end) = (0, 0);
            for field in Fields::new(piece) {
                let next = end + field.raw.len();
                if let Some(new) = change(&field) {
                    let runs = [piece.get(start..end).unwrap_or_default(), new];
                    revised.extend(runs.into_iter().filter(|run| !run.is_empty()));
                    start = next;
                    is_changed = true;
                }
                end = next;
            }
            revised.extend(piece.get(start..).filter(|run| !run.is_empty()));
        }
        if is_changed {
            self.pieces = revised;
            self.changed();
        }
    }

    /// Invalidates the cached searches.
    fn changed(&mut self) {
        self.is_changed = true;
        *self.known.get_mut() = None;
        self.keys = None;
    }

    /// Whether no attribute is known to have this key.
    #[inline]
    fn lacks(&self, list: u32, key: &[u8]) -> bool {
        list == self.list && self.keys.is_some_and(|keys| keys & mark(key) == 0)
    }

    /// The value of the first attribute with this key in the list `list`.
    #[inline]
    pub fn attribute(&self, list: u32, key: &[u8]) -> Option<AnyValue<'a>> {
        if self.lacks(list, key) {
            return None;
        }
        if self.is_long() { self.attribute_of_many(list, key) } else { self.found(list, key).0 }
    }

    /// The value, and how many bytes of its piece and later ones were not read.
    #[inline(always)]
    fn found(&self, list: u32, key: &[u8]) -> (Option<AnyValue<'a>>, usize) {
        let mut fields = self.fields();
        while let Some(field) = fields.next() {
            if field.number == list
                && let Value::Bytes(pair) = field.value
                && key_of(pair) == key
            {
                return (Some(KeyValue::read(pair).value), fields.current.left());
            }
        }
        (None, 0)
    }

    #[cold]
    fn attribute_of_many(&self, list: u32, key: &[u8]) -> Option<AnyValue<'a>> {
        let mut known = self.known.borrow_mut();
        let known = &mut known.get_or_insert_default().attributes;
        let is_it = |known: &&(u32, Box<[u8]>, Option<AnyValue>)| known.0 == list && *known.1 == *key;
        if let Some((_, _, found)) = known.iter().find(is_it) {
            if let Some(
                AnyValue::String(bytes) | AnyValue::Bytes(bytes) | AnyValue::Array(bytes) | AnyValue::Map(bytes),
            ) = found
            {
                self.count_again(bytes);
            }
            return *found;
        }
        let (found, left) = self.found(list, key);
        self.count(left);
        if known.len() < KNOWN && key.len() < LONG {
            known.push((list, key.into(), found));
        }
        found
    }

    /// Replaces the first attribute with this key by an encoded field, else appends it.
    pub fn set_attribute(&mut self, list: u32, key: &[u8], raw: &'a [u8]) {
        let spot = if self.lacks(list, key) { None } else { self.spot(list, key) };
        let keys = self.keys.filter(|_| list == self.list).map(|keys| keys | mark(key));
        match spot {
            Some(spot) => self.splice(spot, raw),
            None => self.append(raw),
        }
        self.keys = keys;
    }

    /// Removes the first attribute with this key. As in the Go collector, the last of the list takes its place.
    pub fn delete_attribute(&mut self, list: u32, key: &[u8]) -> bool {
        if self.lacks(list, key) {
            return false;
        }
        let (mut found, mut last, mut keys) = (None, None, 0);
        self.look(|spot, field| {
            if field.number == list
                && let Value::Bytes(pair) = field.value
            {
                let name = key_of(pair);
                if found.is_none() && name == key {
                    found = Some(spot);
                } else {
                    keys |= mark(name);
                }
                last = Some(spot);
            }
            false
        });
        let keys = (list == self.list).then_some(keys);
        self.keys = keys;
        let (Some(spot), Some(last)) = (found, last) else { return false };
        if (last.piece, last.start) == (spot.piece, spot.start) {
            self.splice(spot, &[]);
        } else {
            // The later one first, so that the position of the earlier one stays valid.
            self.splice(last, &[]);
            self.splice(spot, last.raw);
        }
        self.keys = keys;
        true
    }

    /// Removes the attributes that `keep` rejects; the others keep their order.
    pub fn retain_attributes(&mut self, list: u32, mut keep: impl FnMut(KeyValue<'a>) -> bool) {
        self.retain(|field| match field.value {
            Value::Bytes(pair) if field.number == list => keep(KeyValue::read(pair)),
            _ => true,
        });
    }

    /// Leaves out separately visited and unknown fields. A hostile request would make every one of a million events
    /// search past all the others for the name of their span. This is not an edit: the message is not written from
    /// here.
    pub(super) fn leave_out(&mut self, is_apart: impl Fn(u32) -> bool) {
        if let [whole] = &*self.pieces
            && !self.is_changed
        {
            self.whole = whole;
        }
        let is_changed = self.is_changed;
        self.retain(|field| !is_apart(field.number));
        self.is_changed = is_changed;
    }

    /// The pieces of the message, including fields that were left out.
    pub(crate) fn everything(&self) -> &[&'a [u8]] {
        if self.whole.is_empty() { &self.pieces } else { std::slice::from_ref(&self.whole) }
    }

    /// All occurrences of a field, including ones left out.
    pub(crate) fn occurrences(&self, number: u32) -> impl Iterator<Item = Field<'a>> + '_ {
        self.everything().iter().flat_map(|piece| Fields::new(piece)).filter(move |field| field.number == number)
    }

    /// The messages of a repeated field, including ones left out.
    pub(crate) fn all_payloads(&self, number: u32) -> impl Iterator<Item = &'a [u8]> + '_ {
        self.occurrences(number).filter_map(|field| match field.value {
            Value::Bytes(payload) => Some(payload),
            _ => None,
        })
    }

    /// The length of the encoding.
    #[expect(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        self.pieces.iter().map(|piece| piece.len()).sum()
    }

    pub fn write(&self, out: &mut Vec<u8>) {
        for piece in self.pieces.iter() {
            out.extend_from_slice(piece);
        }
    }

    /// Writes the message as the field `number`.
    pub(crate) fn write_field(&self, out: &mut Vec<u8>, number: u32) {
        put_header(out, number, self.len());
        self.write(out);
    }

    /// Calls `look` for each field with its position, until it returns that it is done.
    #[inline(always)]
    fn look(&self, mut look: impl FnMut(Spot<'a>, &Field<'a>) -> bool) {
        self.count(0);
        for (piece, bytes) in self.pieces.iter().enumerate() {
            let mut start = 0;
            for field in Fields::new(bytes) {
                if look(Spot { piece, start, raw: field.raw }, &field) {
                    return;
                }
                start += field.raw.len();
            }
        }
    }

    fn spot(&self, list: u32, key: &[u8]) -> Option<Spot<'a>> {
        let mut found = None;
        self.look(|spot, field| {
            let is_it = match field.value {
                Value::Bytes(pair) => field.number == list && key_of(pair) == key,
                _ => false,
            };
            found = is_it.then_some(spot);
            is_it
        });
        found
    }

    /// Replaces one field by encoded fields.
    fn splice(&mut self, spot: Spot<'a>, raw: &'a [u8]) {
        let Some(piece) = self.pieces.get(spot.piece) else { return };
        let end = spot.start + spot.raw.len();
        let parts = [piece.get(..spot.start).unwrap_or_default(), raw, piece.get(end..).unwrap_or_default()];
        self.pieces.replace(spot.piece, parts);
        self.changed();
    }
}

/// The key of an attribute.
#[inline(always)]
fn key_of(pair: &[u8]) -> &[u8] {
    // For the form that all SDKs write, a short key and then the value, the value need not be read.
    match pair {
        [0x0a, length, rest @ ..] if *length < 0x80 => match rest.split_at_checked(usize::from(*length)) {
            Some((key, [0x12, length, value @ ..])) if usize::from(*length) == value.len() => key,
            _ => KeyValue::read(pair).key,
        },
        _ => KeyValue::read(pair).key,
    }
}

/// The bit of a key in the set of keys.
#[inline(always)]
fn mark(key: &[u8]) -> u64 {
    let (first, last) = (key.first().copied().unwrap_or_default(), key.last().copied().unwrap_or_default());
    1 << ((key.len() + usize::from(first) * 5 + usize::from(last) * 3) % 64)
}

/// The payload length of an attribute with a value of `value` bytes.
fn pair_len(key: &[u8], value: usize) -> usize {
    let field = |length: usize| 1 + varint_len(length as u64) + length;
    field(key.len()) + field(value)
}

/// Writes an attribute as the field `list`; the caller writes the `value` bytes of its `AnyValue` after it.
pub fn put_pair_header(out: &mut Vec<u8>, list: u32, key: &[u8], value: usize) {
    put_header(out, list, pair_len(key, value));
    put_header(out, key_value::KEY, key.len());
    out.extend_from_slice(key);
    put_header(out, key_value::VALUE, value);
}
