//! The bytes of the log: file headers and frames, little-endian, all of fixed length (reliability 2.4).
//!
//! Every header carries a checksum of its own, seeded with where it belongs: a length is trusted only when that holds,
//! and a block that strayed here from another file or another place never does. The sums of all items and bytes before
//! a group stand in each frame, so what is missing is counted exactly, whatever became of it.

use libdeflater::Crc;

use super::Amount;

/// What this build writes. A newer one is refused untouched.
pub const VERSION: u16 = 1;
/// The length of a file's header, and of a frame's.
pub const HEADER: u64 = 64;
const HEADER_LEN: usize = HEADER as usize;
const MAGIC: [u8; 8] = *b"MISAKI\xd7Q";
pub const FRAME_MAGIC: [u8; 4] = *b"\xd7qMk";

/// No log gets this far: a number beyond is not believed, so that counting on from one cannot overflow.
pub const FARTHEST: u64 = 1 << 62;

pub type Identity = [u8; 16];

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    Segment = 1,
    Marks = 2,
}

/// The start of a file. A newer version keeps this layout, so that an older build can tell it from damage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FileHeader {
    pub version: u16,
    pub kind: u8,
    pub identity: Identity,
    /// That of a segment; the length of the marks.
    pub sequence: u64,
    /// The id of the first record, and the sums of all items and bytes before it.
    pub first: u64,
    pub before: Amount,
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

    /// `None` when it is not a header of ours, or a damaged one.
    pub fn decode(bytes: &[u8]) -> Option<FileHeader> {
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

/// Where a frame stands: it seeds the checksum.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub identity: Identity,
    pub sequence: u64,
    pub at: u64,
}

impl Place {
    fn seed(&self) -> [u8; 32] {
        let mut seed = [0; 32];
        let bytes = self.identity.into_iter().chain(self.sequence.to_le_bytes()).chain(self.at.to_le_bytes());
        seed.iter_mut().zip(bytes).for_each(|(into, byte)| *into = byte);
        seed
    }
}

/// What stands before the payload of a record, which is a whole `Export…ServiceRequest`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frame {
    /// Why the record is here; 0 in a queue, else the reason it was put aside for.
    pub kind: u8,
    pub length: u32,
    pub items: u32,
    pub id: u64,
    /// The first record of the group that it was written with: all before it were synced.
    pub group: u64,
    /// The sums of all items and bytes before the group.
    pub before: Amount,
    pub received_nanos: u64,
    pub payload_crc: u32,
}

impl Frame {
    pub fn encode(&self, place: Place) -> [u8; HEADER_LEN] {
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

    pub fn decode(bytes: &[u8], place: Place) -> Option<Frame> {
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

    pub fn amount(&self) -> Amount {
        Amount { records: 1, items: u64::from(self.items), bytes: u64::from(self.length) }
    }

    /// With its payload and the bytes that fill up to the next frame.
    pub fn span(&self) -> u64 {
        span(u64::from(self.length))
    }
}

/// How long a record is on disk.
pub fn span(payload: u64) -> u64 {
    HEADER + payload.next_multiple_of(8)
}

pub fn crc<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    let mut crc = Crc::new();
    pieces.into_iter().for_each(|piece| crc.update(piece));
    crc.sum()
}

/// Fills an array whose last four bytes are the checksum of a seed and the rest.
pub struct Writer<const N: usize> {
    out: [u8; N],
    at: usize,
}

impl<const N: usize> Default for Writer<N> {
    fn default() -> Writer<N> {
        Writer { out: [0; N], at: 0 }
    }
}

impl<const N: usize> Writer<N> {
    pub fn put(&mut self, bytes: &[u8]) {
        let end = self.at + bytes.len();
        self.out.get_mut(self.at..end).expect("the fields fit").copy_from_slice(bytes);
        self.at = end;
    }

    pub fn finish(mut self, seed: &[u8]) -> [u8; N] {
        let (body, check) = self.out.split_last_chunk_mut::<4>().expect("it is longer than its checksum");
        *check = crc([seed, &*body]).to_le_bytes();
        self.out
    }
}

/// The fields of such an array, once the checksum holds.
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub fn checked(bytes: &'a [u8], seed: &[u8]) -> Option<Fields<'a>> {
        let (body, check) = bytes.split_last_chunk::<4>()?;
        (crc([seed, body]) == u32::from_le_bytes(*check)).then_some(Fields(body))
    }

    pub fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    pub fn sums(&mut self) -> Option<Amount> {
        Some(Amount::sums(self.u64()?, self.u64()?))
    }

    /// An id.
    pub fn number(&mut self) -> Option<u64> {
        self.u64().filter(|number| *number < FARTHEST)
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}
