//! What the processors that edit have in common: part by part, with a capped arena for what they write, and the memory
//! of what comes out charged before it goes on.

use smallvec::SmallVec;

use crate::otlp::Signal;
use crate::otlp::rewrite::Outcome;
use crate::ottl::value::Arena;
use crate::telemetry::{Part, Refusal, Telemetry};

/// Room for what is written beside what came: for each item, and in all.
const PER_ITEM: usize = 256;
const AT_LEAST: usize = 64 * 1024;

/// Replaces each part by what `edit` makes of it; nothing when nothing is left.
pub fn edit(
    mut telemetry: Telemetry,
    mut edit: impl FnMut(Signal, &[u8], u32, &Arena) -> Result<Outcome, Refusal>,
) -> Result<Option<Telemetry>, Refusal> {
    let mut parts: SmallVec<[Part; 1]> = SmallVec::new();
    for part in std::mem::take(&mut telemetry.parts) {
        let arena = Arena::with_limit(AT_LEAST + 4 * part.bytes.len() + PER_ITEM * part.items as usize);
        match edit(telemetry.signal, &part.bytes, part.items, &arena)? {
            Outcome::Unchanged => parts.push(part),
            Outcome::Empty => {}
            Outcome::Changed { bytes, items } => {
                let length = bytes.len() as u64;
                let charge = part.charge.for_edited(length).ok_or_else(|| part.charge.no_room_for(length))?;
                parts.push(Part { bytes: bytes.into(), items, charge });
            }
        }
    }
    telemetry.parts = parts;
    Ok(Some(telemetry).filter(|telemetry| !telemetry.parts.is_empty()))
}
