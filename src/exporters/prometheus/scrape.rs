//! The answer to a scrape: its format by the request's `Accept`, and its text in pieces, each made when the scraper has
//! taken the one before.

use std::collections::BTreeSet;
use std::io::Write;
use std::ops::Bound;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use http::HeaderMap;
use http::header::{ACCEPT, ACCEPT_ENCODING};
use parking_lot::MutexGuard;

use crate::network::admin::{Pieces, Question, Reply};
use crate::order::Ordered;
use crate::otlp::percent;
use crate::telemetry::clock;

use super::intake::Intake;
use super::labels::Labels;
use super::names::Escaping;
use super::store::Store;
use super::text::{Form, Lines};

/// The store is free for others after so many bytes of text.
const PIECE: usize = 32 << 10;

const ESCAPINGS: &[(&str, Escaping)] = &[
    ("underscores", Escaping::Underscores),
    ("dots", Escaping::Dots),
    ("values", Escaping::Values),
    ("allow-utf-8", Escaping::None),
];

pub(super) fn answer(intake: &Arc<Intake>, question: &Question<'_>) -> Reply {
    if question.path != "/metrics" {
        return Reply::not_found();
    }
    let (form, content_type) = negotiated(question.headers, intake);
    let names = question.query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let names = names.filter(|(key, _)| percent::decoded_text(key.as_bytes()) == "name[]");
    let names: BTreeSet<String> = names.map(|(_, name)| percent::decoded_text(name.as_bytes())).collect();
    let mut scrape = Scrape { intake: intake.clone(), form, names, at: None };
    let now = clock();
    loop {
        let mut store = intake.store.lock();
        let is_done = store.remove_expired(now);
        MutexGuard::unlock_fair(store);
        if is_done {
            break;
        }
    }
    let accepted = question.headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_zipped = accepted.split(',').any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        parts.next() == Some("gzip") && !parts.any(|part| part == "q=0")
    });
    let pieces: Pieces = match is_zipped {
        false => Box::new(move |out| scrape.piece(out)),
        true => zipped(scrape),
    };
    Reply::pieces(content_type, pieces, is_zipped)
}

/// The same pieces, compressed.
fn zipped(mut scrape: Scrape) -> Pieces {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let mut plain = Vec::new();
    Box::new(move |out| {
        plain.clear();
        let goes_on = scrape.piece(&mut plain);
        // Writing to a Vec cannot fail.
        let _ = encoder.write_all(&plain);
        if !goes_on {
            let _ = encoder.try_finish();
        }
        out.append(encoder.get_mut());
        goes_on
    })
}

/// The format and content type: of the clauses of `Accept`, the first known one in the order of their weights. A wish
/// for an escaping counts even where its clause is passed over.
fn negotiated(headers: &HeaderMap, intake: &Intake) -> (Form, String) {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let weight = |clause: &&str| parameter(clause, "q").map_or(1.0, |weight| weight.parse().unwrap_or(0.0));
    let mut clauses: Vec<&str> = accept.split(',').collect();
    clauses.order_by(|one, other| f64::total_cmp(&weight(other), &weight(one)));
    let (mut version, mut escaping) = (None, ESCAPINGS.first());
    for clause in clauses {
        let wanted = parameter(clause, "escaping").and_then(|name| ESCAPINGS.iter().find(|(known, _)| *known == name));
        escaping = wanted.or(escaping);
        let media_type = clause.split(';').next().unwrap_or_default().trim();
        let given = parameter(clause, "version");
        match (media_type, given) {
            ("application/openmetrics-text", None | Some("0.0.1")) if intake.config.is_open_metrics => {
                version = Some("0.0.1");
            }
            ("application/openmetrics-text", Some("1.0.0")) if intake.config.is_open_metrics => version = Some("1.0.0"),
            ("text/plain", None | Some("0.0.4")) => {}
            _ => continue,
        }
        break;
    }
    let (name, escaping) = escaping.copied().unwrap_or_default();
    let media_type = match version {
        Some(version) => format!("application/openmetrics-text; version={version}"),
        None => "text/plain; version=0.0.4".to_owned(),
    };
    let has_timestamps = intake.config.has_timestamps;
    let form = Form { is_open_metrics: version.is_some(), escaping, has_timestamps };
    (form, format!("{media_type}; charset=utf-8; escaping={name}"))
}

fn parameter<'a>(clause: &'a str, name: &str) -> Option<&'a str> {
    let pairs = clause.split(';').skip(1).filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.trim(), value.trim())).find(|(key, _)| *key == name).map(|(_, value)| value)
}

struct Scrape {
    intake: Arc<Intake>,
    form: Form,
    /// The names of the families that are wanted, if not all.
    names: BTreeSet<String>,
    /// The last family and series that were written.
    at: Option<(Arc<str>, Labels)>,
}

impl Scrape {
    /// Appends the next piece of text; false if it is the last.
    fn piece(&mut self, out: &mut Vec<u8>) -> bool {
        let intake = self.intake.clone();
        let goes_on = self.series(&intake.store.lock(), out);
        if !goes_on && self.form.is_open_metrics {
            out.extend_from_slice(b"# EOF\n");
        }
        goes_on
    }

    fn series(&mut self, store: &Store, out: &mut Vec<u8>) -> bool {
        let at = self.at.take();
        let first = at.as_ref().map_or(Bound::Unbounded, |(name, _)| Bound::Included(name.clone()));
        for (name, family) in store.families.range((first, Bound::Unbounded)) {
            if !self.names.is_empty() && !self.names.contains(&**name) {
                continue;
            }
            let after = at.as_ref().filter(|(known, _)| known == name).map(|(_, labels)| labels);
            let mut lines = Lines::new(out, name, family, self.form);
            if after.is_none() {
                lines.head(&family.help);
            }
            let first = after.map_or(Bound::Unbounded, Bound::Excluded);
            for (labels, slot) in family.series.range((first, Bound::Unbounded)) {
                let Some(series) = store.series(*slot) else { continue };
                lines.series(labels, series);
                if lines.length() > PIECE {
                    self.at = Some((name.clone(), labels.clone()));
                    return true;
                }
            }
        }
        false
    }
}
