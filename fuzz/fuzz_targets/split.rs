//! A checked request cut into pieces: each is well-formed and small enough, and together they hold every item.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use misaki::face::otlp::check::check;
use misaki::face::otlp::Splitter;
use misaki::face::telemetry::Signal;

fuzz_target!(|data: &[u8]| {
    let [choice, size, request @ ..] = data else { return };
    let signal = Signal::ALL[usize::from(choice % 3)];
    let Ok(items @ 1..) = check(signal, request) else { return };
    let size = u32::from(*size).max(1);
    let mut splitter = Splitter::new(signal, Bytes::copy_from_slice(request));
    let mut sum = 0;
    while let Some((piece, count)) = splitter.next_piece(size, usize::MAX) {
        // None, where only containers without items are left.
        assert!(count <= size);
        assert_eq!(check(signal, &piece).expect("a piece is well-formed"), count);
        sum += count;
        assert!(sum <= items);
    }
    assert_eq!(sum, items);
});
