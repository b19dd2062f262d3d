//! The debug text of any checked request: it ends, holds no character that a terminal acts on, and is the same in pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;
use misaki::face::diagnostics::escape::is_control;
use misaki::face::exporters::{Layout, Style, Verbosity, render_chunks, render_dump};
use misaki::face::otlp::check::check;
use misaki::face::telemetry::Signal;

fuzz_target!(|data: &[u8]| {
    let Some((choice, request)) = data.split_first() else { return };
    let signal = Signal::ALL[usize::from(choice % 3)];
    if check(signal, request).is_err() {
        return;
    }
    let for_eyes = choice & 0x80 != 0;
    let style = Style { escape_newlines: for_eyes, layout: Layout::FILE };
    for verbosity in [Verbosity::Normal, Verbosity::Detailed, Verbosity::Line, Verbosity::Json] {
        let mut whole = Vec::new();
        render_dump(signal, verbosity, style, &[request], &mut whole);
        let text = std::str::from_utf8(&whole).expect("text");
        let acts = |c: char| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c) || for_eyes && is_control(c);
        assert!(!text.chars().any(|c| acts(c) && c != '\n' && c != '\t'), "{text:?}");
        let (mut rest, mut pieces) = (Vec::new(), Vec::new());
        render_chunks(signal, verbosity, style, &[request], 64, &mut rest, &mut |piece, _| {
            pieces.append(piece);
            true
        });
        pieces.append(&mut rest);
        assert!(pieces == whole);
    }
});
