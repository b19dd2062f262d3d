//! The rows of the schema: messages and fields.

/// One message and its fields, at most [`FIELDS`].
pub struct Message {
    pub name: &'static str,
    /// Its index among the messages.
    pub(crate) place: usize,
    /// The fields that JSON has too, in output order.
    pub fields: &'static [Field],
    /// At most one field that only the wire has.
    pub(super) beside: &'static [(u32, Kind)],
    /// The bit set of its oneof's members.
    pub(crate) oneof: u64,
    /// The usual number of bytes of the message's length on the wire. A guess that saves moving its content.
    pub(crate) length_bytes: usize,
}

impl Message {
    /// The kind of field `number`, if OTLP has it.
    pub const fn kind(&self, number: u32) -> Option<Kind> {
        let mut rest = self.fields;
        while let [field, after @ ..] = rest {
            if field.number == number {
                return Some(field.kind);
            }
            rest = after;
        }
        match self.beside {
            [(beside, kind)] if *beside == number => Some(*kind),
            _ => None,
        }
    }
}

/// Maximum fields of a message: the reader keeps one bit for each.
pub const FIELDS: usize = 32;

pub struct Field {
    /// The lowerCamelCase name. The original snake_case name is derived from it.
    pub name: &'static str,
    pub(crate) key: Key,
    pub number: u32,
    /// The field's tag on the wire: its number and wire type.
    pub(crate) tag: u64,
    pub kind: Kind,
    pub presence: Presence,
}

/// A name in its usual textual form, `"name":`, compared in two steps instead of byte by byte.
pub struct Key {
    words: [u128; 2],
    mask: [u128; 2],
    pub(crate) length: usize,
}

impl Key {
    /// The text at a key, in the form that keys are compared in; no name is longer than 29 bytes.
    #[inline(always)]
    pub(crate) fn window(text: &[u8; 32]) -> Option<[u128; 2]> {
        let (halves, _) = text.as_chunks::<16>();
        Some([u128::from_le_bytes(*halves.first()?), u128::from_le_bytes(*halves.last()?)])
    }

    #[expect(clippy::indexing_slicing, reason = "runs while compiling")]
    const fn new(name: &str) -> Key {
        let (name, length) = (name.as_bytes(), name.len() + 3);
        let mut key = Key { words: [0; 2], mask: [0; 2], length };
        let mut index = 0;
        while index < length {
            let byte = match index {
                0 => b'"',
                _ if index == length - 1 => b':',
                _ if index == length - 2 => b'"',
                _ => name[index - 1],
            };
            key.words[index / 16] |= (byte as u128) << (8 * (index % 16));
            key.mask[index / 16] |= 0xff << (8 * (index % 16));
            index += 1;
        }
        key
    }

    #[inline(always)]
    pub(crate) fn begins(&self, window: [u128; 2]) -> bool {
        let [first, second] = window;
        (first & self.mask[0] ^ self.words[0]) | (second & self.mask[1] ^ self.words[1]) == 0
    }
}

/// The common prefix of an enum's names, and the rest of each, in the order of their numbers.
pub type Names = (&'static str, &'static [&'static str]);

#[derive(Clone, Copy)]
pub enum Kind {
    Text,
    Bytes,
    /// A trace or span id of this many bytes: hexadecimal in JSON, unlike other bytes.
    Id(usize),
    Bool,
    Int64,
    Uint64,
    Uint32,
    /// Zigzag-encoded.
    Sint32,
    Fixed32,
    Fixed64,
    Sfixed64,
    Double,
    Enum(&'static Names),
    Texts,
    /// A list of numbers.
    Packed(&'static Kind),
    One(&'static Message),
    Many(&'static Message),
}

impl Kind {
    pub(crate) const fn wire_type(self) -> u64 {
        match self {
            Kind::Bool | Kind::Int64 | Kind::Uint64 | Kind::Uint32 | Kind::Sint32 | Kind::Enum(_) => 0,
            Kind::Fixed64 | Kind::Sfixed64 | Kind::Double => 1,
            Kind::Fixed32 => 5,
            Kind::Text | Kind::Bytes | Kind::Id(_) | Kind::Texts | Kind::Packed(_) | Kind::One(_) | Kind::Many(_) => 2,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Presence {
    /// proto3: the zero value means absent, and is not written.
    Implicit,
    /// `optional`: zero is a value.
    Optional,
    /// Member of the message's only oneof: zero is a value, and the last member given wins.
    Oneof,
    /// A message that JSON output always contains, even if empty.
    Always,
}

impl Presence {
    /// The bit of a oneof's member.
    pub(super) const fn member(self, number: u32) -> u64 {
        if matches!(self, Presence::Oneof) { 1 << number } else { 0 }
    }
}

impl Field {
    pub(super) const fn new(name: &'static str, number: u32, kind: Kind, presence: Presence) -> Field {
        Field { name, key: Key::new(name), number, tag: (number as u64) << 3 | kind.wire_type(), kind, presence }
    }

    /// Whether `key` is this field's original name, such as `time_unix_nano` for `timeUnixNano`.
    pub fn has_snake_name(&self, key: &[u8]) -> bool {
        let mut rest = key.iter();
        let same = self.name.bytes().all(|letter| match letter.is_ascii_uppercase() {
            true => rest.next() == Some(&b'_') && rest.next() == Some(&letter.to_ascii_lowercase()),
            false => rest.next() == Some(&letter),
        });
        same && rest.next().is_none()
    }
}
