//! The bytes of the log: file headers and frames, little-endian, of fixed length.
//!
//! Every header carries its own checksum, seeded with its location. A length is trusted only if the checksum holds, and
//! a block that strayed here from another file or position never passes. Each frame holds the sums of all items and
//! bytes before its group, so missing records are counted exactly.

use libdeflater::Crc;

use super::Amount;

/// The version this build writes. Files with a newer version are refused untouched.
pub(super) const VERSION: u16 = 1;
/// Length of a file header, and of a frame header.
pub const HEADER: u64 = 64;
const HEADER_LEN: usize = HEADER as usize;
const MAGIC: [u8; 8] = *b"MISAKI\xd7Q";
pub const FRAME_MAGIC: [u8; 4] = *b"\xd7qMk";

/// Upper bound for plausible ids; larger ones are rejected, so arithmetic on an id cannot overflow.
pub(super) const FARTHEST: u64 = 1 << 62;

pub(crate) type Identity = [u8; 16];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    Segment = 1,
    Marks = 2,
}

/// The start of a file. Newer versions keep this layout, so an older build can tell it from damage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FileHeader {
    pub(super) version: u16,
    pub(super) kind: u8,
    pub(super) identity: Identity,
    /// The segment's sequence; the length of a marks file.
    pub(super) sequence: u64,
    /// The id of the first record, and the sums of all items and bytes before it.
    pub(super) first: u64,
    pub(super) before: Amount,
}

impl FileHeader {
    pub fn new(kind: FileKind, identity: Identity, sequence: u64, first: u64, before: Amount) -> FileHeader {
        FileHeader { version: VERSION, kind: kind as u8, identity, sequence, first, before }
    }

    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = Writer::default();
        out.put(&MAGIC);
        out.put(&self.version.to_le_bytes());
        out.put(&[self.kind, 0]);
        out.put(&self.identity);
        for number in [self.sequence, self.first, self.before.items, self.before.bytes] {
            out.put(&number.to_le_bytes());
        }
        out.finish(&[])
    }

    /// `None` for damaged or foreign headers.
    pub(super) fn decode(bytes: &[u8]) -> Option<FileHeader> {
        let mut fields = Fields::checked(bytes, &[])?;
        if fields.take::<8>()? != MAGIC {
            return None;
        }
        let version = u16::from_le_bytes(fields.take()?);
        let [kind, _] = fields.take()?;
        let identity = fields.take()?;
        let (sequence, first) = (fields.u64()?, fields.number()?);
        Some(FileHeader { version, kind, identity, sequence, first, before: fields.sums()? })
    }
}

/// The location of a frame, which seeds its checksum.
#[derive(Clone, Copy, Debug)]
pub struct Position {
    pub identity: Identity,
    pub sequence: u64,
    pub at: u64,
}

impl Position {
    fn seed(&self) -> [u8; 32] {
        let mut seed = [0; 32];
        let bytes = self.identity.into_iter().chain(self.sequence.to_le_bytes()).chain(self.at.to_le_bytes());
        seed.iter_mut().zip(bytes).for_each(|(into, byte)| *into = byte);
        seed
    }
}

/// The header before the payload of a record. The payload is a whole `Export…ServiceRequest`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frame {
    /// Why the record is here: 0 in a queue, else the reason it was set aside.
    pub kind: u8,
    pub length: u32,
    pub items: u32,
    pub id: u64,
    /// The first record of its group: all records before it were synced.
    pub group: u64,
    /// The sums of all items and bytes before the group.
    pub before: Amount,
    pub received_nanos: u64,
    pub payload_crc: u32,
}

impl Frame {
    pub fn encode(&self, place: Position) -> [u8; HEADER_LEN] {
        let mut out = Writer::default();
        out.put(&FRAME_MAGIC);
        out.put(&[self.kind, 0, 0, 0]);
        for number in [self.length, self.items] {
            out.put(&number.to_le_bytes());
        }
        let numbers = [self.id, self.group, self.before.items, self.before.bytes, self.received_nanos];
        numbers.iter().for_each(|number| out.put(&number.to_le_bytes()));
        out.put(&self.payload_crc.to_le_bytes());
        out.finish(&place.seed())
    }

    pub(super) fn decode(bytes: &[u8], place: Position) -> Option<Frame> {
        if !bytes.starts_with(&FRAME_MAGIC) {
            return None;
        }
        let mut fields = Fields::checked(bytes, &place.seed())?;
        fields.take::<4>()?;
        let [kind, ..] = fields.take::<4>()?;
        let (length, items) = (fields.u32()?, fields.u32()?);
        let (id, group) = (fields.number()?, fields.number()?);
        let before = fields.sums()?;
        let (received_nanos, payload_crc) = (fields.u64()?, fields.u32()?);
        Some(Frame { kind, length, items, id, group, before, received_nanos, payload_crc })
    }

    pub(super) fn amount(&self) -> Amount {
        Amount { records: 1, items: u64::from(self.items), bytes: u64::from(self.length) }
    }

    /// Length with the payload and padding to the next frame.
    pub(super) fn span(&self) -> u64 {
        span(u64::from(self.length))
    }
}

/// Length of a record on disk.
pub(super) fn span(payload: u64) -> u64 {
    HEADER + payload.next_multiple_of(8)
}

pub fn crc<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    let mut crc = Crc::new();
    pieces.into_iter().for_each(|piece| crc.update(piece));
    crc.sum()
}

/// Fills an array whose last four bytes are the checksum over a seed and the rest.
pub(super) struct Writer<const N: usize> {
    out: [u8; N],
    at: usize,
}

impl<const N: usize> Default for Writer<N> {
    fn default() -> Writer<N> {
        Writer { out: [0; N], at: 0 }
    }
}

impl<const N: usize> Writer<N> {
    pub(super) fn put(&mut self, bytes: &[u8]) {
        let end = self.at + bytes.len();
        self.out.get_mut(self.at..end).expect("the fields fit").copy_from_slice(bytes);
        self.at = end;
    }

    pub(super) fn finish(mut self, seed: &[u8]) -> [u8; N] {
        let (body, check) = self.out.split_last_chunk_mut::<4>().expect("it is longer than its checksum");
        *check = crc([seed, &*body]).to_le_bytes();
        self.out
    }
}

/// The fields of such an array, after the checksum is verified.
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn checked(bytes: &'a [u8], seed: &[u8]) -> Option<Fields<'a>> {
        let (body, check) = bytes.split_last_chunk::<4>()?;
        (crc([seed, body]) == u32::from_le_bytes(*check)).then_some(Fields(body))
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    pub(super) fn sums(&mut self) -> Option<Amount> {
        Some(Amount::sums(self.u64()?, self.u64()?))
    }

    /// A plausible id.
    pub(super) fn number(&mut self) -> Option<u64> {
        self.u64().filter(|number| *number < FARTHEST)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}
