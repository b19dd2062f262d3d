//! JSON to the wire and back: what is read passes the check, is no longer than allowed, and what is written reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use misaki::face::otlp::check::check;
use misaki::face::otlp::json::{to_json, to_wire, to_wire_within};
use misaki::face::telemetry::Signal;

fuzz_target!(|data: &[u8]| {
    let Some((choice, text)) = data.split_first() else { return };
    let signal = Signal::ALL[usize::from(choice % 3)];
    let mut left = text.len();
    let mut room = |bytes: usize| left.checked_sub(bytes).map(|rest| left = rest).is_some();
    let Ok(within) = to_wire_within(signal, text, &mut room) else {
        // A bound decides on room, never on what is valid; what breaks off early may hide a later error.
        assert!(to_wire(signal, text).is_err());
        return;
    };
    let Ok(wire) = to_wire(signal, text) else {
        assert!(within.is_none());
        return;
    };
    assert!(wire.len() <= text.len() * 4);
    if let Some(within) = within {
        assert!(within.capacity() <= text.len());
        assert_eq!(within, wire);
    }
    check(signal, &wire).expect("what was read is well-formed");
    let mut written = Vec::new();
    to_json(signal, &wire, &mut written);
    let again = to_wire(signal, &written).expect("what was written can be read");
    let mut rewritten = Vec::new();
    to_json(signal, &again, &mut rewritten);
    assert_eq!(written, rewritten);
});
