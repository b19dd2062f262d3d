//! Prints telemetry on the output's thread, in the configured form, piece by piece.

use std::time::Instant;

use super::rates::Rates;
use super::requests::{Items, Requests};
use super::sampling::{Key, Sampler};
use super::sink::Config;
use super::{Counts, Verbosity};
use crate::diagnostics::output::{self, PIECE};
use crate::otlp::pieces::Pieces;
use crate::telemetry::{Signal, Telemetry};

type Page<'a> = output::Page<'a, Printer>;

pub(super) struct Printer {
    pub(super) id: String,
    pub(super) config: Config,
    pub(super) sampler: Sampler,
    /// The requests that `tree` gathers.
    pub(super) requests: Requests,
    /// The rates that `line` shows.
    pub(super) rates: Rates,
}

impl output::Printer for Printer {
    type Job = Telemetry;

    fn print(&mut self, telemetry: Telemetry, records: Items, page: &mut Page<'_>) {
        self.measure();
        let parts: Vec<&[u8]> = telemetry.parts.iter().map(|part| part.bytes.as_ref()).collect();
        if self.config.verbosity == Verbosity::Tree {
            let (signal, now) = (telemetry.signal, telemetry.received.instant);
            return self.gather(page, |requests, to| {
                let all = records.iter().sum::<u64>() + requests.items() as u64;
                let mut written = requests.add(signal, &parts, now, to);
                // If no more text is wanted, the rest is neither written nor gathered.
                let left = all - requests.items() as u64 - written.iter().sum::<u64>();
                written.iter_mut().zip(items_of(signal, left)).for_each(|(written, left)| *written += left);
                written
            });
        }
        let print = Print { telemetry: &telemetry, parts: &parts, records, config: &self.config };
        if self.config.is_as_log() {
            print.as_log(&self.id, page);
        } else if self.config.is_sampled() {
            print.sampled(&mut self.sampler, page);
        } else {
            let rates = &mut self.rates;
            print.fill(page, |to| match self.config.verbosity {
                Verbosity::Line => super::put_lines(print.signal(), self.config.style, &parts, rates, to),
                _ => {
                    print.put_summary(to);
                    print.put_dump(to);
                }
            });
        }
    }

    fn due(&self) -> Option<Instant> {
        self.requests.wake_at()
    }

    fn print_due(&mut self, is_end: bool, page: &mut Page<'_>) {
        self.measure();
        self.gather(page, |requests, to| match is_end {
            true => requests.print_all(to),
            false => requests.print_due(Instant::now(), to),
        });
    }

    fn reset(&mut self) {
        self.requests.clear();
    }
}

impl Printer {
    /// Follows the width of the terminal.
    fn measure(&mut self) {
        self.config.style.layout = self.config.style.layout.measured();
        self.requests.layout = self.config.style.layout;
    }

    /// Lets `write` change the gathered requests. The items it wrote are counted once all of its text is on the page.
    fn gather(&mut self, page: &mut Page<'_>, write: impl FnOnce(&mut Requests, &mut Pieces) -> Items) {
        let Page { text, pen } = page;
        let mut take = |text: &mut Vec<u8>, _| pen.write(text);
        let items = write(&mut self.requests, &mut Pieces::new(text, PIECE, &mut take));
        pen.count(items);
    }
}

/// One request being printed.
struct Print<'a> {
    telemetry: &'a Telemetry,
    parts: &'a [&'a [u8]],
    records: Items,
    config: &'a Config,
}

impl Print<'_> {
    /// Lets `write` fill the page. Each item is counted with the piece in which it begins, and items without text with
    /// the last piece.
    fn fill(&self, page: &mut Page<'_>, write: impl FnOnce(&mut Pieces)) {
        let Page { text, pen } = page;
        let mut left = self.records;
        let mut take = |text: &mut Vec<u8>, items| {
            let begun = items_of(self.signal(), items);
            left.iter_mut().zip(begun).for_each(|(left, begun)| *left = left.saturating_sub(begun));
            pen.count(begun);
            pen.write(text)
        };
        write(&mut Pieces::new(text, PIECE, &mut take));
        pen.count(left);
        pen.breathe(text);
    }

    fn signal(&self) -> Signal {
        self.telemetry.signal
    }

    fn put_summary(&self, to: &mut Pieces) {
        if self.config.verbosity.has_summary() {
            super::render_summary(self.signal(), self.parts, to.out);
        }
    }

    fn put_dump(&self, to: &mut Pieces) {
        super::put_dump(self.signal(), self.config.verbosity, self.config.style, self.parts, to);
    }

    /// Prints with limits on repeated messages: summaries with the same name, and dumps with the same text.
    fn sampled(&self, sampler: &mut Sampler, page: &mut Page<'_>) {
        let now = self.telemetry.received.instant;
        let (verbosity, items) = (self.config.verbosity, self.telemetry.items());
        let has_dump = verbosity != Verbosity::Basic;
        let skipped = sampler.skipped(now);
        let summary = Key::of(super::summary_message(self.signal()).as_bytes());
        let shows_summary = verbosity.has_summary() && sampler.admits(summary, if has_dump { 0 } else { items }, now);
        let shows_dump = has_dump && sampler.admits(self.key_of_dump(), items, now);
        let is_printed = if has_dump { shows_dump } else { shows_summary };
        let print = Print { records: if is_printed { self.records } else { Items::default() }, ..*self };
        print.fill(page, |to| {
            if let Some(skipped) = skipped {
                let words = self.signal().items_words();
                to.out.extend_from_slice(format!("… {skipped} {words} were not printed: sampling\n").as_bytes());
            }
            if shows_summary {
                self.put_summary(to);
            }
            if shows_dump {
                self.put_dump(to);
            }
        });
        if !is_printed {
            page.pen.leave_out(self.records, &mut page.text);
        }
    }

    fn key_of_dump(&self) -> Key {
        let (mut key, mut text) = (Key::of(b""), Vec::new());
        let mut take = |text: &mut Vec<u8>, _| {
            key = key.and(text);
            text.clear();
            true
        };
        self.put_dump(&mut Pieces::new(&mut text, PIECE, &mut take));
        key.and(&text)
    }

    /// Prints in the form of the Go collector's own log: with a time and a level first, and the component's fields
    /// last.
    fn as_log(&self, id: &str, page: &mut Page<'_>) {
        let (signal, verbosity) = (self.signal(), self.config.verbosity);
        let time = crate::diagnostics::log::timestamp(self.telemetry.received.wall);
        let fields = format!(
            "\"otelcol.component.id\": \"{id}\", \"otelcol.component.kind\": \"exporter\", \"otelcol.signal\": \"{}\"",
            signal.name()
        );
        self.fill(page, |to| {
            let name = super::summary_message(signal);
            to.out.extend_from_slice(format!("{time}\tinfo\t{name}\t{{{fields}, ").as_bytes());
            super::render_summary_fields(signal, Counts::of(signal, self.parts), to.out);
            to.out.extend_from_slice(b"}\n");
            if verbosity != Verbosity::Basic {
                to.out.extend_from_slice(format!("{time}\tinfo\t").as_bytes());
                super::put_items(signal, verbosity, self.config.style, self.parts, to);
                to.out.extend_from_slice(format!("\t{{{fields}}}\n").as_bytes());
            }
        });
    }
}

/// Items of one signal.
pub(super) fn items_of(signal: Signal, items: u64) -> Items {
    Signal::ALL.map(|known| if known == signal { items } else { 0 })
}
