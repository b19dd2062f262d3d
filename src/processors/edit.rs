//! What the processors that edit have in common: part by part, with a capped arena for what they write, and the memory
//! of what comes out charged before it goes on.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use smallvec::SmallVec;

use crate::otlp::Signal;
use crate::otlp::rewrite::Outcome;
use crate::otlp::slice::Exhausted;
use crate::otlp::status::code;
use crate::ottl::value::{Arena, Fault};
use crate::telemetry::{Part, Refusal, Status, Telemetry};

/// Room for what is written beside what came: for each item, and in all.
const PER_ITEM: usize = 256;
const AT_LEAST: usize = 256 << 10;

/// How much one request may make: four times its size, and as much again of its first 4 MiB, since a hash in hexadecimal
/// is seven times what a short attribute is on the wire.
fn room(bytes: usize, items: u32) -> usize {
    AT_LEAST + 4 * bytes + 4 * bytes.min(4 << 20) + PER_ITEM * items as usize
}

/// What a fault becomes that may not be passed over: under `error_mode: propagate` an error that nobody marked as permanent,
/// as the Go collector answers (facts 2.6); what makes too much would do so again.
pub fn refusal(fault: Fault) -> Refusal {
    static SAID: AtomicBool = AtomicBool::new(false);
    let code = if fault.is_out_of_memory() { code::INVALID_ARGUMENT } else { code::UNAVAILABLE };
    if fault.is_out_of_memory() && !SAID.swap(true, Relaxed) {
        tracing::warn!(error = %fault.0, "refused a request of which too much would be made; it is said only once");
    }
    Refusal::Rejected(Status { code, message: fault.0.into_owned() })
}

/// Replaces each part by what `edit` makes of it; nothing when nothing is left.
pub fn edit(
    mut telemetry: Telemetry,
    mut edit: impl FnMut(Signal, &[u8], u32, &Arena) -> Result<Outcome, Refusal>,
) -> Result<Option<Telemetry>, Refusal> {
    let mut parts: SmallVec<[Part; 1]> = SmallVec::new();
    for part in std::mem::take(&mut telemetry.parts) {
        let arena = Arena::for_request(room(part.bytes.len(), part.items), part.bytes.len());
        let outcome = edit(telemetry.signal, &part.bytes, part.items, &arena)?;
        // No error mode passes over this: what was to be hidden would go on as it came.
        if arena.again.is_exhausted() {
            return Err(refusal(Exhausted.into()));
        }
        match outcome {
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
