//! The task of one target: when it is scraped, and what is delivered of each scrape.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use smallvec::smallvec;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval_at};

use crate::telemetry::{Charge, Now, Part, Reason, Refusal, Said, Share, Signal, Telemetry, clock};

use super::Shared;
use super::client::{Client, NoPage, Page};
use super::families::{Families, Home, STALE};
use super::labels::{Labels, NAME};
use super::page::{Counts, State, TOO_MANY};
use super::target::Target;

/// Pages larger than this are read on another thread.
const SMALL: usize = 256 << 10;

/// Whether the task goes on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Ending {
    Not,
    /// The target was removed: its series end.
    Gone,
    Stop,
}

pub(super) struct Scraper {
    shared: Arc<Shared>,
    /// The index of its job.
    job: usize,
    target: Arc<Target>,
    client: Client,
    state: State,
    /// The bytes of `state` in the sum of all.
    remembered: u64,
    /// Why the last scrape failed, so that only changes are logged.
    failed: Option<String>,
    refused: Said,
    odd: Said,
}

/// What a scrape brought, beside its page.
struct Report {
    counts: Counts,
    duration: Duration,
    body: i64,
    error: Option<String>,
}

impl Scraper {
    pub(super) fn new(shared: Arc<Shared>, job: usize, target: Target) -> Scraper {
        let client = Client::new(&target, shared.budget.clone());
        Scraper {
            shared,
            job,
            target: Arc::new(target),
            client,
            state: State::default(),
            remembered: 0,
            failed: None,
            refused: Said::default(),
            odd: Said::default(),
        }
    }

    pub(super) async fn run(mut self, mut ending: watch::Receiver<Ending>) {
        let interval = self.target.interval;
        let first = clock() + self.shared.config.initial_scrape_offset + until_turn(&self.target);
        let mut ticks = interval_at(first.into(), interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let state = tokio::select! {
                _ = ticks.tick() => Ending::Not,
                state = other_than(&mut ending, Ending::Not) => state,
            };
            let state = match state {
                Ending::Not => tokio::select! {
                    () = self.scrape() => continue,
                    state = other_than(&mut ending, Ending::Not) => state,
                },
                state => state,
            };
            if state == Ending::Stop {
                break;
            }
            // It may come back: its series end only when it was away for more than two intervals.
            let state = tokio::select! {
                () = tokio::time::sleep(interval * 2 + interval / 10) => return self.end().await,
                state = other_than(&mut ending, Ending::Gone) => state,
            };
            if state == Ending::Stop {
                break;
            }
        }
        if self.shared.config.scrapes_on_shutdown {
            self.scrape().await;
        }
    }

    async fn scrape(&mut self) {
        let (started, time) = (clock(), millis());
        let page = match self.shared.over_limit.get(self.job).is_some_and(|over| over.load(Relaxed)) {
            true => Err("target_limit exceeded".to_owned().into()),
            false => self.page().await,
        };
        let is_large = page.as_ref().is_ok_and(|page| page.text.len() > SMALL);
        let state = std::mem::take(&mut self.state);
        let (target, room) = (self.target.clone(), self.room());
        let work = move || made(state, &target, page, time, started, room);
        let made = match is_large {
            true => self.shared.budget.aside.run(None, work).await,
            false => Some(work()),
        };
        // Without it, the work failed by an internal error, which took the state with it.
        let Some((state, wire, points, report)) = made else { return };
        self.state = state;
        self.remember();
        self.say(&report);
        self.submit(wire, points).await;
    }

    async fn page(&self) -> Result<Page, NoPage> {
        if let Some(text) = self.shared.own_page.text(|served| self.target.is_served_at(served)) {
            return Ok(Page::of(text));
        }
        let within = tokio::time::timeout(self.target.timeout, self.client.scrape(&self.target));
        within.await.unwrap_or_else(|_| Err(format!("no page within {:?}", self.target.timeout).into()))
    }

    /// The bytes that this target may remember.
    fn room(&self) -> usize {
        let others = self.shared.remembered.load(Relaxed).saturating_sub(self.remembered);
        usize::try_from(self.shared.most_remembered().saturating_sub(others)).unwrap_or(usize::MAX)
    }

    fn remember(&mut self) {
        let bytes = self.state.bytes() as u64;
        self.shared.remembered.fetch_add(bytes, Relaxed);
        self.shared.remembered.fetch_sub(self.remembered, Relaxed);
        self.remembered = bytes;
    }

    /// Ends all series.
    async fn end(&mut self) {
        let (target, time) = (self.target.clone(), millis());
        let mut families = families(&target);
        self.state.read_nothing(&mut families, &target, time);
        let stale = Some(f64::from_bits(STALE));
        report(
            &mut families,
            &self.state,
            &target,
            time,
            &Report { counts: Counts::default(), duration: Duration::ZERO, body: 0, error: None },
            stale,
        );
        let (wire, points) = families.written();
        self.submit(wire, points).await;
    }

    fn say(&mut self, report: &Report) {
        let (receiver, target) = (&self.shared.id, &self.target.url);
        if let Some(error) = report.error.as_deref().filter(|error| self.failed.as_deref() != Some(error)) {
            tracing::warn!(receiver, target, error, "a scrape failed");
        }
        if report.error.is_none() && self.failed.is_some() {
            tracing::info!(receiver, target, "scrapes succeed again");
        }
        self.failed.clone_from(&report.error);
        let Counts { duplicates, too_early, .. } = report.counts;
        if duplicates + too_early > 0 {
            self.odd.now_and_then(|| {
                tracing::warn!(
                    receiver,
                    target,
                    duplicates,
                    too_early,
                    "samples of a page are left out: series that are there twice, or times that are ahead"
                );
            });
        }
    }

    async fn submit(&self, wire: Vec<u8>, items: u32) {
        if items == 0 {
            return;
        }
        let refused = match Charge::take(&self.shared.budget, Share::Ingest, wire.len() as u64) {
            None => Err(Refusal::busy(Reason::MemoryFull)),
            Some(charge) => {
                let telemetry = Telemetry {
                    signal: Signal::Metrics,
                    parts: smallvec![Part::new(wire, items, charge)],
                    client: None,
                    received: Now::read(),
                    tickets: Default::default(),
                };
                self.shared.intake.submit(telemetry).await
            }
        };
        if let Err(refusal) = refused
            && let Some((lost, _)) = self.refused.count(u64::from(items))
        {
            let (receiver, target) = (&self.shared.id, &self.target.url);
            tracing::warn!(
                receiver,
                target,
                lost,
                why = refusal.reason().words(),
                "points of scrapes are refused, and lost"
            );
        }
    }
}

impl Drop for Scraper {
    fn drop(&mut self) {
        self.shared.remembered.fetch_sub(self.remembered, Relaxed);
    }
}

/// A page as a request; what is left of it, and how the scrape went.
fn made(
    mut state: State,
    target: &Target,
    page: Result<Page, NoPage>,
    time: i64,
    started: Instant,
    room: usize,
) -> (State, Vec<u8>, u32, Report) {
    let mut made = families(target);
    let (mut counts, mut error, mut body) = (Counts::default(), None, 0);
    match page {
        Ok(page) if page.text.is_empty() => state.read_nothing(&mut made, target, time),
        Ok(page) => {
            body = page.text.len() as i64;
            let read = state.read(&mut made, target, (&page.text, page.format), time, room);
            counts = read.0;
            let read = read.1.and_then(|()| if state.bytes() > room { Err(TOO_MANY.to_owned()) } else { Ok(()) });
            if let Err(why) = read {
                if why == TOO_MANY {
                    state = State::default();
                }
                made = families(target);
                state.read_nothing(&mut made, target, time);
                error = Some(why);
            }
        }
        Err(NoPage { why, is_too_large }) => {
            state.read_nothing(&mut made, target, time);
            body = if is_too_large { -1 } else { 0 };
            error = Some(why);
        }
    }
    let of_scrape = Report { counts, duration: clock().duration_since(started), body, error };
    report(&mut made, &state, target, time, &of_scrape, None);
    let (wire, points) = made.written();
    (state, wire, points, of_scrape)
}

fn families(target: &Target) -> Families<'_> {
    Families::new(Home {
        job: target.labels.get("job").as_bytes(),
        instance: target.labels.get("instance").as_bytes(),
        scheme: target.scheme.as_bytes(),
        trims_suffixes: target.job.trims_suffixes,
    })
}

/// The metrics of the scrape itself; all with `stale`, if it is given.
fn report(families: &mut Families<'_>, state: &State, target: &Target, time: i64, report: &Report, stale: Option<f64>) {
    let Report { counts, duration, body, error } = report;
    families.forget_last();
    let up = if error.is_none() { 1.0 } else { 0.0 };
    let mut put = |name: &'static str, value: f64| {
        let mut labels = Labels::default();
        labels.0.push((NAME, name.as_bytes()));
        let others = target.public.0.iter().chain(&target.job.external_labels.0);
        others.for_each(|(name, value)| labels.set(name.as_bytes(), value.as_bytes()));
        families.add(&labels, time, stale.unwrap_or(value), None, &state.metadata);
    };
    put("up", up);
    put("scrape_duration_seconds", duration.as_secs_f64());
    put("scrape_samples_scraped", counts.scraped as f64);
    put("scrape_samples_post_metric_relabeling", counts.added as f64);
    put("scrape_series_added", counts.series_added as f64);
    if target.job.has_extra_metrics {
        put("scrape_timeout_seconds", target.timeout.as_secs_f64());
        put("scrape_sample_limit", target.job.limits.samples as f64);
        put("scrape_body_size_bytes", *body as f64);
    }
}

/// The time until the target's turn in the interval that all targets share.
fn until_turn(target: &Target) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let interval = target.interval.as_nanos().max(1);
    let (into, turn) = (now.as_nanos() % interval, target.offset().as_nanos());
    Duration::from_nanos(((turn + interval - into) % interval) as u64)
}

fn millis() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

async fn other_than(ending: &mut watch::Receiver<Ending>, state: Ending) -> Ending {
    ending.wait_for(|ending| *ending != state).await.map_or(Ending::Stop, |ending| *ending)
}
