//! The screens, as HTML. All of a screen's state is in its address, and everything works without scripts.
//!
//! A screen has a fixed part, mostly a form, and one that changes while telemetry arrives, which the script replaces.

mod logs;
mod metric;
mod metrics;
mod mistake;
mod pipeline;
mod requests;
mod services;
mod tap;
mod trace;
mod values;

use std::collections::BTreeSet;
use std::time::UNIX_EPOCH;

use http::StatusCode;
use maud::{DOCTYPE, Markup, html};

use super::store::Store;
use crate::diagnostics::escape::safe;
use crate::exporters::debug::layout::{Layout, duration};
use crate::exporters::debug::requests::Id;
use crate::otlp::hex;
use crate::otlp::percent;
use crate::telemetry::Now;

/// What a browser asks for.
pub(super) struct Asked {
    path: String,
    query: Vec<(String, String)>,
}

/// The name of the parameter that asks for the changing part alone.
const PART: &str = "part";

pub(super) const HTML: &str = "text/html; charset=utf-8";
/// The maximum bytes of an answer.
pub(super) const LARGEST: usize = 32 << 20;
/// The maximum bytes of a condition: each is asked of everything that is here.
const CONDITION: usize = 2000;

/// The screens: their addresses and their names.
const SCREENS: [(&str, &str); 5] = [
    ("/", "Requests"),
    ("/logs", "Logs"),
    ("/metrics", "Metrics"),
    ("/pipeline", "Pipeline"),
    ("/services", "Services"),
];

/// One screen.
struct Screen {
    title: String,
    fixed: Markup,
    part: Markup,
}

impl Asked {
    /// With the undecoded path and query.
    pub(super) fn new(path: &str, query: &str) -> Asked {
        let decoded =
            |text: &str| String::from_utf8_lossy(&percent::decoded(text.replace('+', " ").as_bytes())).into_owned();
        let pairs =
            query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let query = pairs.map(|(key, value)| (decoded(key), decoded(value))).collect();
        Asked { path: path.to_owned(), query }
    }

    /// A parameter, without the space around it; empty if it is missing.
    fn get(&self, key: &str) -> &str {
        self.query.iter().find(|(known, _)| known == key).map_or("", |(_, value)| value.trim())
    }

    /// Also in the list that a request was opened from.
    fn has_long_condition(&self) -> bool {
        let list = Asked::new("/", self.get("from"));
        [self, &list].iter().any(|asked| asked.get("q").len() > CONDITION)
    }

    /// The parameters alone, to come back to this screen.
    fn parameters(&self) -> String {
        self.with(&[]).split_once('?').map_or_else(String::new, |(_, parameters)| parameters.to_owned())
    }

    /// Whether only the changing part is asked for.
    fn is_part(&self) -> bool {
        !self.get(PART).is_empty()
    }

    /// This screen's address with some parameters changed; empty ones are left out.
    fn with(&self, changes: &[(&str, &str)]) -> String {
        let is_changed = |key: &str| key == PART || changes.iter().any(|(changed, _)| *changed == key);
        let kept = self.query.iter().filter(|(key, _)| !is_changed(key)).map(|(key, value)| (&**key, &**value));
        address(&self.path, &kept.chain(changes.iter().copied()).collect::<Vec<_>>())
    }
}

/// An address with its parameters; empty ones are left out.
fn address(path: &str, query: &[(&str, &str)]) -> String {
    let mut out = path.to_owned();
    for (key, value) in query.iter().filter(|(_, value)| !value.is_empty()) {
        out.push(if out.contains('?') { '&' } else { '?' });
        out.push_str(&format!("{}={}", encoded(key), encoded(value)));
    }
    out
}

fn encoded(text: &str) -> impl std::fmt::Display {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC)
}

/// What a browser gets.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) media_type: &'static str,
    /// The name of the file that the browser saves; without one it shows the body.
    pub(super) file: Option<String>,
    pub(super) body: String,
}

pub(super) fn answer(store: &mut Store, asked: &Asked) -> Answer {
    if asked.has_long_condition() {
        let part = html! { p class="bad" role="alert" { "The condition has more than " (CONDITION) " bytes." } };
        let screen = Screen { title: "Too long a condition".to_owned(), fixed: html! {}, part };
        return shown(store, asked, StatusCode::OK, &screen);
    }
    store.refresh();
    let screen = match asked.path.as_str() {
        "/" => Some(requests::screen(store, asked)),
        "/logs" => Some(logs::screen(store, asked)),
        "/metrics" => Some(metrics::screen(store, asked)),
        "/metric" => metric::screen(store, asked),
        "/pipeline" => Some(pipeline::screen(store)),
        "/services" => Some(services::screen(store, asked)),
        "/tap" => Some(tap::screen(store, asked)),
        path => match path.strip_prefix("/trace/") {
            Some(name) => return trace::answer(store, asked, name),
            None => None,
        },
    };
    match screen {
        Some(screen) => shown(store, asked, StatusCode::OK, &screen),
        None => shown(store, asked, StatusCode::NOT_FOUND, &missing()),
    }
}

fn missing() -> Screen {
    let part = html! {
        p { "Nothing is at this address: it is mistyped, or what was here made room for newer telemetry." }
        p { a href="/" { "All requests" } }
    };
    Screen { title: "Not here".to_owned(), fixed: html! {}, part }
}

/// A screen, or its changing part.
fn shown(store: &Store, asked: &Asked, status: StatusCode, screen: &Screen) -> Answer {
    let part = html! {
        @if let Some(why) = &store.away {
            p class="note" role="status" data-state="✗ No collector" { "Nothing comes at the moment: " (why) ". It is looked for every second." }
        }
        (screen.part)
        (forgotten(store))
    };
    let body = if asked.is_part() { part.into_string() } else { page(asked, screen, &part).into_string() };
    Answer { status, media_type: HTML, file: None, body }
}

fn page(asked: &Asked, screen: &Screen, part: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (screen.title) " – Misaki" }
                link rel="icon" type="image/svg+xml" href="/icon.svg";
                link rel="stylesheet" href="/page.css";
                script type="module" src="/page.js" {}
            }
            body {
                a class="skip" href="#main" { "Skip to the content" }
                header {
                    p class="brand" { "Misaki" }
                    nav aria-label="Screens" {
                        ul {
                            @for (address, name) in SCREENS {
                                li { a href=(address) aria-current=[(asked.path == address).then_some("page")] { (name) } }
                            }
                        }
                    }
                }
                main id="main" {
                    h1 { (screen.title) }
                    (screen.fixed)
                    div id="part" { (part) }
                }
            }
        }
    }
}

/// The maximum services to choose from.
const SERVICES: usize = 200;

/// The choice of a service; the chosen one is always in it.
fn choice<'a>(asked: &Asked, services: impl Iterator<Item = &'a str>) -> Markup {
    let (chosen, known) = (asked.get("service"), services.collect::<BTreeSet<_>>());
    let offered = known.iter().copied().take(SERVICES).filter(|service| *service != chosen);
    html! {
        label { "Service"
            select name="service" {
                option value="" { "all" }
                @if !chosen.is_empty() { option value=(chosen) selected { (safe(chosen)) } }
                @for service in offered { option value=(service) { (service) } }
            }
        }
    }
}

/// What is no longer here.
fn forgotten(store: &Store) -> Markup {
    let counts = [
        (store.traces.forgotten, "requests"),
        (store.logs.forgotten, "log records"),
        (store.metrics.forgotten, "series of metrics"),
        (store.metrics.refused, "data points that are too large"),
        (store.skipped, "items that were too large or came too fast"),
    ];
    let counts: Vec<_> = counts.iter().filter(|(count, _)| *count > 0).collect();
    html! {
        @if !counts.is_empty() {
            p class="note" {
                "Not here any more, to stay within 64 MiB: "
                @for (index, (count, what)) in counts.iter().enumerate() {
                    @if index > 0 { ", " }
                    (count) " " (what)
                }
                "."
            }
        }
    }
}

/// A time of day with its zone, after its date unless that is today's.
fn time(nanos: u64) -> Markup {
    html! { span class="time" { (time_text(nanos)) } }
}

fn time_text(nanos: u64) -> String {
    let now = Now::read().wall.duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos());
    Layout::FILE.local().dated(nanos, u64::try_from(now).unwrap_or_default())
}

/// A failure's mark: a sign and a word, so that colour alone says nothing.
fn outcome(is_failed: bool) -> Markup {
    html! {
        @if is_failed { span class="bad" { "✗ failed" } } @else { span class="faint" { "ok" } }
    }
}

fn took(nanos: u64) -> Markup {
    html! { span class="number" { (duration(nanos)) } }
}

/// The address of a span's request, if that is here.
fn request_address(store: &Store, trace: &[u8], span: &[u8]) -> Option<String> {
    let id = trace.try_into().ok().filter(|id| store.traces.has_request(id))?;
    Some(address(&trace_address(&id), &[("span", &digits(span))]))
}

/// The address of a request.
fn trace_address(id: &Id) -> String {
    format!("/trace/{}", digits(id))
}

/// An id as it is written.
fn digits(id: &[u8]) -> String {
    let mut digits = Vec::new();
    hex::put(id, &mut digits);
    String::from_utf8_lossy(&digits).into_owned()
}
