//! From a page to metrics, and what a target remembers between two pages: which series there were, as hashes, and the
//! page itself, from which the labels of those that are gone are read again.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use bumpalo::Bump;

use crate::otlp::number;

use super::config::Job;
use super::families::{Exemplar, Families, STALE};
use super::labels::{Labels, NAME, joined};
use super::metadata::Metadata;
use super::relabel;
use super::target::Target;
use super::text::{Entry, Format, Kind, Parser, Sample, unescaped};

/// A sample may be this much ahead of our clock.
const AHEAD: Duration = Duration::from_secs(600);
/// After failed scrapes, series that are not seen any more are forgotten when there are this many more than before.
const FORGOTTEN: usize = 1000;

/// Maximum labels of a line.
const LABELS: usize = 1000;

pub(super) const TOO_MANY: &str = "it has more series than the receiver holds for all of its targets";
const CROWDED: &str = "it has more than 1000 jobs and instances, or scopes";

/// A series of a target, by the hash of its text.
#[derive(Clone, Copy, Default)]
struct Seen {
    /// The last scrape that had it.
    scrape: u32,
    /// The last scrape after which its absence ends it.
    tracked: u32,
    is_dropped: bool,
}

/// The samples of a page.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) scraped: u64,
    pub(super) added: u64,
    pub(super) series_added: u64,
    pub(super) duplicates: u64,
    pub(super) too_early: u64,
}

/// What a target remembers.
pub(super) struct State {
    pub(super) metadata: Metadata,
    series: HashMap<u64, Seen>,
    hasher: RandomState,
    /// The number of this scrape.
    scrape: u32,
    /// The tracked series of the last scrape, of this one, and of both.
    before: usize,
    now: usize,
    both: usize,
    /// All series of this scrape.
    seen: usize,
    successful: usize,
    /// The page of the last scrape, and of this one, if it was cut off.
    last: Option<(Vec<u8>, Format)>,
    cut: Option<(Vec<u8>, Format)>,
}

impl Default for State {
    fn default() -> State {
        State {
            metadata: Metadata::default(),
            series: HashMap::new(),
            hasher: RandomState::new(),
            scrape: 2,
            before: 0,
            now: 0,
            both: 0,
            seen: 0,
            successful: 0,
            last: None,
            cut: None,
        }
    }
}

impl State {
    /// The bytes that it holds, more or less.
    pub(super) fn bytes(&self) -> usize {
        let pages = self.last.iter().chain(&self.cut).map(|(text, _)| text.capacity()).sum::<usize>();
        pages + self.metadata.bytes() + self.series.capacity() * (size_of::<(u64, Seen)>() + 1)
    }

    /// Reads a page whose scrape began at `time`, in milliseconds; what it makes, and what is remembered, has `room` bytes.
    pub(super) fn read(
        &mut self,
        families: &mut Families<'_>,
        target: &Target,
        (text, format): (&[u8], Format),
        time: i64,
        room: usize,
    ) -> (Counts, Result<(), String>) {
        let (mut counts, mut arena) = (Counts::default(), Bump::new());
        let mut parser = Parser::new(text, format);
        let mut beyond = false;
        let mut limit = Limit { most: target.job.limits.samples, count: 0 };
        let result = loop {
            arena.reset();
            match parser.next() {
                Ok(None) => break Ok(()),
                Ok(Some(Entry::Sample(sample))) => {
                    counts.scraped += 1;
                    let read =
                        self.sample(families, target, &sample, parser.kind, time, &mut counts, &mut limit, &arena);
                    match read {
                        Ok(is_beyond) => beyond |= is_beyond,
                        Err(why) => break Err(format!("{why}, in line {}", parser.line().saturating_sub(1))),
                    }
                }
                Ok(Some(described)) => self.describe(families, described, format),
                Err(why) => break Err(format!("{why}, in line {}", parser.line())),
            }
            if families.is_crowded {
                break Err(CROWDED.to_owned());
            }
            if families.bytes() + self.bytes() > room {
                break Err(TOO_MANY.to_owned());
            }
        };
        let result = result.and_then(|()| if beyond { Err("sample limit exceeded".to_owned()) } else { Ok(()) });
        if result.is_err() {
            self.cut = Some((text.to_vec(), format));
            return (counts, result);
        }
        self.end_series(families, target, Some((text, format)), time);
        self.finish(true, Some((text, format)));
        (counts, Ok(()))
    }

    /// A scrape without a page, or one whose page was cut off: all series end that are not in what was read.
    pub(super) fn read_nothing(&mut self, families: &mut Families<'_>, target: &Target, time: i64) {
        let cut = self.cut.take();
        let page = cut.as_ref().map(|(text, format)| (text.as_slice(), *format));
        self.end_series(families, target, page, time);
        self.finish(false, page);
    }

    fn describe(&mut self, families: &mut Families<'_>, entry: Entry<'_>, format: Format) {
        let scrape = u64::from(self.scrape);
        let mut put = |name: &[u8], change: &mut dyn FnMut(&mut super::metadata::Described)| {
            self.metadata.set(name, scrape, change);
        };
        match entry {
            Entry::Kind(name, kind) => put(name, &mut |described| described.kind = kind),
            Entry::Help(name, help) => {
                let mut text = Vec::new();
                unescaped(help, format == Format::OpenMetrics, &mut text);
                put(name, &mut |described| Metadata::put(&mut described.help, &text));
            }
            Entry::Unit(name, unit) => put(name, &mut |described| Metadata::put(&mut described.unit, unit)),
            Entry::Sample(_) => {}
        }
        families.forget_last();
    }

    /// Takes one sample; true if it is beyond the limit of samples.
    #[expect(clippy::too_many_arguments, reason = "what a line needs of its page")]
    fn sample(
        &mut self,
        families: &mut Families<'_>,
        target: &Target,
        sample: &Sample<'_>,
        kind: Kind,
        now: i64,
        counts: &mut Counts,
        limit: &mut Limit,
        arena: &Bump,
    ) -> Result<bool, String> {
        let job = &target.job;
        let hash = self.hasher.hash_one(sample.raw);
        let seen = self.series.get_mut(&hash);
        let (is_known, is_again) = seen.as_ref().map_or((false, false), |seen| (true, seen.scrape == self.scrape));
        if let Some(seen) = seen {
            self.seen += usize::from(!is_again);
            seen.scrape = self.scrape;
            if seen.is_dropped {
                return Ok(false);
            }
        }
        let Some(labels) = labels_of(sample, kind, target, arena)? else {
            self.series.insert(hash, Seen { scrape: self.scrape, tracked: 0, is_dropped: true });
            self.seen += 1;
            return Ok(false);
        };
        if labels.has_duplicates() {
            return Err("a label is given twice".to_owned());
        }
        counts.added += 1;
        let given = sample.time.filter(|_| job.honor_timestamps);
        if is_again && given.is_none() {
            counts.duplicates += 1;
            return Ok(false);
        }
        if limit.is_beyond() {
            return Ok(true);
        }
        let time = given.unwrap_or(now);
        if time > now.saturating_add(AHEAD.as_millis() as i64) {
            counts.too_early += 1;
            return Ok(false);
        }
        let exemplar = sample.exemplar.as_ref().map(|exemplar| Exemplar {
            labels: &exemplar.labels,
            value: exemplar.value,
            time: exemplar.time.unwrap_or(time),
        });
        let is_in = families.add(&labels, time, sample.value, exemplar.as_ref(), &self.metadata);
        let scrape = self.scrape;
        let seen = self.series.entry(hash).or_insert(Seen { scrape, tracked: 0, is_dropped: false });
        if is_in && (given.is_none() || job.track_timestamps_staleness) && seen.tracked != scrape {
            self.both += usize::from(seen.tracked == scrape - 1);
            self.now += 1;
            seen.tracked = scrape;
        }
        if !is_known {
            self.seen += 1;
            counts.series_added += 1;
        }
        Ok(false)
    }

    /// Ends the series of the last page that are not in this one.
    fn end_series(&mut self, families: &mut Families<'_>, target: &Target, page: Option<(&[u8], Format)>, time: i64) {
        if self.both == self.before {
            return;
        }
        let Some((last, format)) = self.last.take() else { return };
        families.forget_last();
        let mut still = HashSet::new();
        // Other texts may have the same labels.
        if let Some(page) = page {
            self.tracked(target, page, self.scrape, |hash, _| _ = still.insert(hash));
        }
        self.tracked(target, (&last, format), self.scrape - 1, |hash, labels| {
            if still.insert(hash) {
                families.add(labels, time, f64::from_bits(STALE), None, &self.metadata);
            }
        });
        self.last = Some((last, format));
    }

    /// The labels of the series of a page that were tracked last in `scrape`, with their hash.
    fn tracked(
        &self,
        target: &Target,
        (text, format): (&[u8], Format),
        scrape: u32,
        mut take: impl FnMut(u64, &Labels<'_>),
    ) {
        let (mut parser, mut arena) = (Parser::new(text, format), Bump::new());
        loop {
            arena.reset();
            let Ok(Some(entry)) = parser.next() else { return };
            let Entry::Sample(sample) = entry else { continue };
            let seen = self.series.get(&self.hasher.hash_one(sample.raw));
            if seen.is_some_and(|seen| seen.tracked == scrape)
                && let Ok(Some(labels)) = labels_of(&sample, parser.kind, target, &arena)
            {
                take(self.hasher.hash_one(labels.0.as_slice()), &labels);
            }
        }
    }

    fn finish(&mut self, is_successful: bool, page: Option<(&[u8], Format)>) {
        let most = self.successful.saturating_mul(2) + FORGOTTEN;
        if is_successful || self.series.len() > most {
            if self.series.len() > self.seen {
                self.series.retain(|_, seen| seen.scrape == self.scrape);
                self.series.shrink_to(self.series.len() * 2);
            }
            self.metadata.forget(u64::from(self.scrape));
        }
        if is_successful {
            self.successful = self.series.len();
        }
        let is_same = self.both == self.before && self.both == self.now;
        if !is_same {
            self.last = page.filter(|_| self.now > 0).map(|(text, format)| (text.to_vec(), format));
        }
        (self.before, self.now, self.both, self.seen) = (self.now, 0, 0, 0);
        self.scrape = self.scrape.wrapping_add(1).max(2);
    }
}

struct Limit {
    /// 0 means none.
    most: u64,
    count: u64,
}

impl Limit {
    fn is_beyond(&mut self) -> bool {
        self.count += 1;
        self.most > 0 && self.count > self.most
    }
}

/// The labels with which a sample leaves; `None` if the rules drop it.
fn labels_of<'a, 't: 'a>(
    sample: &Sample<'t>,
    kind: Kind,
    target: &'a Target,
    arena: &'a Bump,
) -> Result<Option<Labels<'a>>, String> {
    let job: &'a Job = &target.job;
    if sample.labels.len() > LABELS {
        return Err(format!("a line has more than {LABELS} labels"));
    }
    let plain = |text: &'t [u8]| -> &'a [u8] {
        if memchr::memchr(b'\\', text).is_none() {
            return text;
        }
        let mut out = Vec::with_capacity(text.len());
        unescaped(text, true, &mut out);
        arena.alloc_slice_copy(&out)
    };
    let bound: &[u8] = match kind {
        Kind::Histogram => b"le",
        Kind::Summary => b"quantile",
        _ => b"",
    };
    let mut labels = Labels::default();
    labels.0.push((NAME, plain(sample.name)));
    for (name, value) in &sample.labels {
        let value = plain(value);
        labels.0.push((plain(name), if *name == bound { open_number(value, arena) } else { value }));
    }
    labels.sort();
    join(&mut labels, target, arena);
    if !relabel::apply(&job.metric_relabel, &mut labels, arena) || labels.0.is_empty() {
        return Ok(None);
    }
    check(&labels, job)?;
    job.external_labels.0.iter().for_each(|(name, value)| labels.set(name.as_bytes(), value.as_bytes()));
    Ok(Some(labels))
}

/// Adds the labels of the target.
fn join<'a>(labels: &mut Labels<'a>, target: &'a Target, arena: &'a Bump) {
    let of_target = || target.public.0.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    if target.job.honor_labels {
        let missing: Vec<_> = of_target().filter(|(name, _)| labels.find(name).is_none()).collect();
        labels.without_empty();
        missing.into_iter().for_each(|(name, value)| labels.set(name, value));
        return;
    }
    labels.without_empty();
    let mut clashes = Vec::new();
    for (name, value) in of_target() {
        let own = labels.get(name);
        if !own.is_empty() {
            clashes.push((name, own));
        }
        labels.set(name, value);
    }
    clashes.sort_by_key(|(name, _)| name.len());
    for (name, own) in clashes {
        let mut name = joined(arena, b"exported_", name);
        while labels.find(name).is_some() {
            name = joined(arena, b"exported_", name);
        }
        labels.set(name, own);
    }
}

/// What a series must keep to after all rules.
fn check(labels: &Labels<'_>, job: &Job) -> Result<(), String> {
    let metric = labels.find(NAME).ok_or("missing metric name (__name__ label)")?;
    let shown = || String::from_utf8_lossy(metric.get(..metric.len().min(50)).unwrap_or_default()).into_owned();
    let name_is_well = match job.is_legacy {
        true => relabel::is_label_name(
            &metric.iter().map(|byte| if *byte == b':' { b'_' } else { *byte }).collect::<Vec<_>>(),
            true,
        ),
        false => std::str::from_utf8(metric).is_ok(),
    };
    if !name_is_well || !labels.0.iter().all(|(name, _)| relabel::is_label_name(name, job.is_legacy)) {
        return Err(format!("invalid metric name or label names (metric {})", shown()));
    }
    let limits = &job.limits;
    let exceeds = |value: usize, limit: u64| limit > 0 && value as u64 > limit;
    if exceeds(labels.0.len(), limits.labels) {
        return Err(format!("label_limit exceeded (metric {})", shown()));
    }
    if labels.0.iter().any(|(name, _)| exceeds(name.len(), limits.label_name_length)) {
        return Err(format!("label_name_length_limit exceeded (metric {})", shown()));
    }
    if labels.0.iter().any(|(_, value)| exceeds(value.len(), limits.label_value_length)) {
        return Err(format!("label_value_length_limit exceeded (metric {})", shown()));
    }
    Ok(())
}

/// A bound or quantile as OpenMetrics writes it: `1.0` for `1`.
fn open_number<'a>(text: &'a [u8], arena: &'a Bump) -> &'a [u8] {
    let Ok(value) = super::text::number(text) else { return text };
    let mut out = Vec::new();
    match value {
        f64::INFINITY => out.extend_from_slice(b"+Inf"),
        f64::NEG_INFINITY => out.extend_from_slice(b"-Inf"),
        value if value.is_nan() => out.extend_from_slice(b"NaN"),
        value => {
            number::put_general(&mut out, value);
            if !out.iter().any(|byte| matches!(byte, b'e' | b'.')) {
                out.extend_from_slice(b".0");
            }
        }
    }
    if out == text { text } else { arena.alloc_slice_copy(&out) }
}
