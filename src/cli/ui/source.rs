//! Where the telemetry of the page comes from: the local socket of a running collector, which may end and come back, or
//! recorded files.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::super::local::{self, Target};
use super::super::tail::{self, Sighting};
use super::super::{Failure, send};
use super::Shared;
use super::store::Store;
use super::watch::watch;
use crate::diagnostics::log;

/// Everything that the collector still keeps, and then what comes; of the past only whole traces.
const PAGE: &str = "/tail?at=received&since=31536000000&traces=whole";
/// The interval of attempts to find a collector.
const EVERY: Duration = Duration::from_secs(1);
/// The bytes of requests that wait while an answer is made; the collector skips what it cannot send.
const WAITING: usize = 8 << 20;
/// A request's memory beside its bytes.
const PER_REQUEST: usize = 256;

/// Follows a collector, and the next one that is found when it has ended.
pub(super) async fn follow(target: &Target, store: &Shared) -> Infallible {
    let mut session = Session { store, latest: 0.0, is_away: false };
    loop {
        let failure = match target.find().await {
            Ok(path) => match tokio::try_join!(session.read(&path), watch(&path, store)) {
                Err(failure) => failure,
            },
            Err(failure) => failure,
        };
        if !std::mem::replace(&mut session.is_away, true) {
            let why = failure.message.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
            log::write(format!("misaki: {why}; looking for it every second\n"));
            store.lock().await.away(Some(why));
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// One collector at a time.
struct Session<'a> {
    store: &'a Shared,
    /// When the latest request passed, in seconds since 1970. A collector that is attached to again repeats the past.
    latest: f64,
    is_away: bool,
}

impl Session<'_> {
    /// Takes what passes, until the collector goes away.
    async fn read(&mut self, path: &Path) -> Result<Infallible, Failure> {
        let mut answer = local::ask(path, PAGE).await?;
        if std::mem::take(&mut self.is_away) {
            log::write("misaki: the collector is back\n");
            self.store.lock().await.away(None);
        }
        let (mut buffer, known) = (BytesMut::new(), self.latest);
        let (mut waiting, mut waiting_bytes) = (VecDeque::new(), 0);
        loop {
            tokio::select! {
                biased;
                mut store = self.store.lock(), if !waiting.is_empty() => {
                    waiting.drain(..).for_each(|sighting| self.take(&mut store, sighting, known));
                    waiting_bytes = 0;
                }
                sighting = tail::next(&mut answer, &mut buffer), if waiting_bytes < WAITING => {
                    let sighting = sighting?.ok_or_else(|| local::failed("the collector went away"))?;
                    waiting_bytes += sighting.wire.len() + PER_REQUEST;
                    waiting.push_back(sighting);
                }
            }
            // What is in the buffer comes without a pause, and the page is served meanwhile.
            tokio::task::coop::consume_budget().await;
        }
    }

    /// Takes a request, unless it passed before the time until which all is `known`.
    fn take(&mut self, store: &mut Store, sighting: Sighting, known: f64) {
        let Sighting { signal, items, seconds, skipped, has_gap, wire, .. } = sighting;
        if skipped > 0 {
            store.skip(skipped);
        }
        if items > 0 && seconds > known {
            store.take(signal, &wire, has_gap);
            self.latest = self.latest.max(seconds);
        }
    }
}

/// Takes recorded telemetry.
pub(super) fn recorded(files: &[String], store: &mut Store) -> Result<(), Failure> {
    for file in files {
        send::recorded(file, |signal, wire: Bytes| store.take(signal, &wire, false))?;
    }
    store.refresh_all();
    Ok(())
}
