//! One measurement of one collector: start it, warm it, load it, wait until all it acknowledged has come out, read the meters.

use crate::client::{self, Outcome, Pressure};
use crate::generate::{self, Template};
use crate::process::{Collector, Program, Viewer, free_port, machine_cpu_seconds, own_cpu_seconds};
use crate::rows::{Delivery, Load, Measure, Row};
use crate::scraper::Scraper;
use crate::sink::Sink;
use serde::Serialize;
use std::cell::Cell;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// The figure of a row, in the row's unit, and how it came about.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    pub figure: f64,
    pub load: Option<LoadDetail>,
    /// What makes the figure worth nothing: it is then shown, but judged as failed.
    pub problem: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct LoadDetail {
    pub acknowledged: u64,
    pub refused: u64,
    pub refusal: Option<String>,
    pub delivered: u64,
    pub load_seconds: f64,
    pub cpu_seconds: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub out_bytes_per_item: f64,
    pub resident_peak_mib: f64,
    /// CPU time of the driver and the sink, and the share of the machine that went to neither them nor the collector.
    pub driver_cpu_seconds: f64,
    pub others_percent: f64,
    /// Items that a bare append and fdatasync of the same requests, 64 at a time, puts on the same disk in a second.
    pub probe_per_second: Option<f64>,
    /// How long a bare append and fdatasync of one request takes: 50 and 99 of 100.
    pub probe_ms: Option<[f64; 2]>,
    /// The part of the items that the viewer beside it printed.
    pub viewed: Option<f64>,
    /// What is left of the figure with a viewer that wants nothing, and with one that wants all.
    pub beside_viewers: Option<[f64; 2]>,
    /// What was waiting when the upstream came.
    pub backlog_mib: Option<f64>,
}

impl LoadDetail {
    /// Items that went in for each CPU second.
    fn per_cpu_second(&self, load: &Load) -> f64 {
        self.delivered as f64 / load.keeps / self.cpu_seconds
    }
}

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    pub load: Duration,
    pub warm_up: Duration,
    pub idle: Duration,
    pub starts: usize,
    pub connections: usize,
    /// Bytes of requests that wait before the upstream comes.
    pub backlog: u64,
}

/// Without any delivery for that long, what is missing is lost.
const STALLED: Duration = Duration::from_secs(3);
/// How long a backlog is fed at a time.
const SPELL: Duration = Duration::from_millis(250);
const MIB: f64 = 1024.0 * 1024.0;

pub fn measure(row: &Row, program: &Program, config: &str, timing: &Timing, work: &Path) -> io::Result<Measured> {
    let plain = |figure| Measured { figure, load: None, problem: None };
    Ok(match row.measure {
        Measure::PerCpuSecond(load) => {
            let (detail, problem) = under_load(config, &load, program, timing, work)?;
            Measured { figure: detail.per_cpu_second(&load) / 1e6, load: Some(detail), problem }
        }
        Measure::Tail(load) => {
            let beside = |viewer| under_load(config, &Load { viewer, ..load }, program, timing, work);
            let (mut detail, problem) = beside(None)?;
            let (nothing, broken) = beside(Some(r#"body == "never""#))?;
            let (all, lost) = beside(Some(""))?;
            let alone = detail.per_cpu_second(&load);
            detail.beside_viewers = Some([&nothing, &all].map(|detail| detail.per_cpu_second(&load) / alone));
            detail.viewed = all.viewed;
            let mut problem = problem.or(broken).or(lost);
            if nothing.viewed != Some(0.0) || all.viewed == Some(0.0) {
                problem = problem.or(Some("a viewer saw what it did not want, or nothing".into()));
            }
            Measured { figure: alone / 1e6, load: Some(detail), problem }
        }
        Measure::PerSecond(load) => {
            let (mut detail, problem) = under_load(config, &load, program, timing, work)?;
            detail.probe_per_second = Some(disk_probe(&load, 64, timing.load / 2, work)?.0);
            Measured { figure: detail.acknowledged as f64 / detail.load_seconds / 1e3, load: Some(detail), problem }
        }
        Measure::Answer(load) => {
            let (mut detail, problem) = under_load(config, &load, program, timing, work)?;
            detail.probe_ms = Some(disk_probe(&load, 1, timing.load / 2, work)?.1);
            Measured { figure: detail.p99_ms, load: Some(detail), problem }
        }
        Measure::Drain(load) => {
            let (detail, per_second, problem) = backlog(config, &load, program, timing, work)?;
            Measured { figure: per_second / 1e3, load: Some(detail), problem }
        }
        Measure::BacklogMemory(load) => {
            let (detail, _, problem) = backlog(config, &load, program, timing, work)?;
            Measured { figure: detail.resident_peak_mib, load: Some(detail), problem }
        }
        Measure::LoadedMemory(load) => {
            let (detail, problem) = under_load(config, &load, program, timing, work)?;
            Measured { figure: detail.resident_peak_mib, load: Some(detail), problem }
        }
        Measure::IdleMemory => {
            let sink = Sink::start()?;
            let collector = program.start(config, sink.address, work)?;
            std::thread::sleep(timing.idle);
            plain(collector.usage()?.resident as f64 / MIB)
        }
        Measure::Start => {
            let sink = Sink::start()?;
            let mut times = (0..timing.starts)
                .map(|_| Ok(program.start(config, sink.address, work)?.started))
                .collect::<io::Result<Vec<Duration>>>()?;
            times.sort_unstable();
            plain(times[times.len() / 2].as_secs_f64() * 1e3)
        }
        Measure::Size => plain(fs::metadata(&program.binary)?.len() as f64 / 1e6),
    })
}

fn under_load(
    config: &str,
    load: &Load,
    program: &Program,
    timing: &Timing,
    work: &Path,
) -> io::Result<(LoadDetail, Option<String>)> {
    let templates = Arc::new(generate::templates(&load.shape));
    let sink = Sink::start()?;
    let collector = program.start(config, sink.address, work)?;
    let mut viewer = load.viewer.map(|expression| program.view(&collector, expression)).transpose()?;
    let taken = Cell::new(1);
    let delivered = || match load.delivery {
        Delivery::Sink => sink.counts.items.load(Relaxed),
        Delivery::Pipe => collector.printed.load(Relaxed),
        Delivery::Scraped => taken.get(),
    };
    let scraper = (load.delivery == Delivery::Scraped).then(|| Scraper::start(collector.exposed));
    let address = match load.shape.protocol {
        generate::Protocol::Grpc => collector.grpc,
        generate::Protocol::Http => collector.http,
    };
    let press = |time| {
        let connections = load.clients.unwrap_or(timing.connections);
        let pressure = Pressure { connections, in_flight: load.in_flight, time, rate: load.rate, requests: u64::MAX };
        let outcome = client::run(address, &load.shape, &templates, pressure);
        taken.set(taken.get() + outcome.acknowledged);
        outcome
    };
    let expected = |acknowledged: u64| (acknowledged as f64 * load.keeps).round() as u64;

    // The record that it was knocked up with comes out as well.
    let warm = press(timing.warm_up);
    settle(&delivered, 1 + expected(warm.acknowledged));

    let viewed = || viewer.as_ref().map(|viewer| viewer.printed.load(Relaxed));
    let viewed_before = viewed();
    let before = Meters::read(&collector, &sink, delivered())?;
    let outcome = press(timing.load);
    settle(&delivered, before.delivered + expected(outcome.acknowledged));
    let after = Meters::read(&collector, &sink, delivered())?;

    let mut detail = after.since(&before, &outcome);
    detail.viewed =
        viewed().zip(viewed_before).map(|(lines, before)| (lines - before) as f64 / detail.delivered as f64);
    let problem = problem(&detail, expected(outcome.acknowledged), &outcome, &sink);
    let missing = scraper.and_then(|scraper| scraper.end(templates.iter().map(|template| template.items).sum()));
    let problem = problem.or(missing);
    let has_left = viewer.as_mut().map_or(Ok(false), Viewer::has_ended)?;
    Ok((detail, problem.or(has_left.then(|| "the viewer has ended".into()))))
}

/// Lets a backlog grow with no upstream, then lets it out while more comes in: how many items a second go out until it is
/// gone.
fn backlog(
    config: &str,
    load: &Load,
    program: &Program,
    timing: &Timing,
    work: &Path,
) -> io::Result<(LoadDetail, f64, Option<String>)> {
    let templates = Arc::new(generate::templates(&load.shape));
    let bytes: usize = templates.iter().flat_map(|template| &template.pieces).map(|piece| piece.len()).sum();
    let bytes_per_item = bytes as f64 / templates.iter().map(|template| template.items).sum::<u64>() as f64;
    let upstream = free_port()?;
    let collector = program.start(config, upstream, work)?;
    let press = |time, rate| {
        let pressure =
            Pressure { connections: timing.connections, in_flight: load.in_flight, time, rate, requests: u64::MAX };
        client::run(collector.grpc, &load.shape, &templates, pressure)
    };
    let mut grown = Outcome::default();
    while (grown.acknowledged as f64 * bytes_per_item) < timing.backlog as f64 {
        let more = press(SPELL, None);
        if more.acknowledged == 0 {
            grown.broken = grown.broken.or(more.broken).or(more.refusal).or(Some("nothing was acknowledged".into()));
            break;
        }
        grown = grown.and(more);
    }
    // With the record that it was knocked up with.
    let waiting = 1 + grown.acknowledged;
    let sink = Sink::at(upstream)?;
    let delivered = || sink.counts.items.load(Relaxed);
    let before = Meters::read(&collector, &sink, 0)?;
    let (mut outcome, mut progress) = (Outcome::default(), (0, Instant::now()));
    while delivered() < waiting && progress.1.elapsed() < STALLED {
        outcome = outcome.and(press(SPELL, load.rate.or(Some(20_000.0))));
        if delivered() != progress.0 {
            progress = (delivered(), Instant::now());
        }
    }
    let per_second = delivered() as f64 / before.at.elapsed().as_secs_f64();
    let expected = waiting + outcome.acknowledged;
    settle(&delivered, expected);
    outcome.latencies.sort_unstable();
    outcome.broken = outcome.broken.or(grown.broken);
    let mut detail = Meters::read(&collector, &sink, delivered())?.since(&before, &outcome);
    detail.backlog_mib = Some(waiting as f64 * bytes_per_item / MIB);
    let problem = problem(&detail, expected, &outcome, &sink);
    Ok((detail, per_second, problem))
}

/// Waits until that much has come out, or nothing more does.
fn settle(delivered: &dyn Fn() -> u64, expected: u64) {
    let (mut seen, mut since) = (delivered(), Instant::now());
    while seen < expected && since.elapsed() < STALLED {
        std::thread::sleep(Duration::from_millis(2));
        let now = delivered();
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
    }
}

fn problem(detail: &LoadDetail, expected: u64, outcome: &Outcome, sink: &Sink) -> Option<String> {
    let mut problems = Vec::new();
    if detail.acknowledged == 0 {
        problems.push("nothing was acknowledged".into());
    }
    match detail.delivered.cmp(&expected) {
        std::cmp::Ordering::Less => problems.push(format!("{} items lost", expected - detail.delivered)),
        std::cmp::Ordering::Greater => problems.push(format!("{} items too many", detail.delivered - expected)),
        std::cmp::Ordering::Equal => {}
    }
    let malformed = sink.counts.malformed.load(Relaxed);
    if malformed > 0 {
        problems.push(format!("{malformed} malformed requests at the sink"));
    }
    problems.extend(outcome.broken.clone());
    (!problems.is_empty()).then(|| problems.join("; "))
}

/// All the meters at one moment.
struct Meters {
    at: Instant,
    delivered: u64,
    collector_cpu: f64,
    resident_peak: u64,
    own_cpu: f64,
    machine_cpu: f64,
    out_items: u64,
    out_bytes: u64,
}

impl Meters {
    fn read(collector: &Collector, sink: &Sink, delivered: u64) -> io::Result<Self> {
        let usage = collector.usage()?;
        Ok(Meters {
            at: Instant::now(),
            delivered,
            collector_cpu: usage.cpu,
            resident_peak: usage.resident_peak,
            own_cpu: own_cpu_seconds()?,
            machine_cpu: machine_cpu_seconds()?,
            out_items: sink.counts.items.load(Relaxed),
            out_bytes: sink.counts.body_bytes.load(Relaxed),
        })
    }

    fn since(&self, before: &Meters, outcome: &Outcome) -> LoadDetail {
        let cpu_seconds = self.collector_cpu - before.collector_cpu;
        let driver_cpu_seconds = self.own_cpu - before.own_cpu;
        let others = self.machine_cpu - before.machine_cpu - cpu_seconds - driver_cpu_seconds;
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get()) as f64;
        let elapsed = (self.at - before.at).as_secs_f64();
        LoadDetail {
            acknowledged: outcome.acknowledged,
            refused: outcome.refused,
            refusal: outcome.refusal.clone(),
            delivered: self.delivered - before.delivered,
            load_seconds: outcome.elapsed.as_secs_f64(),
            cpu_seconds,
            p50_ms: outcome.percentile(50).as_secs_f64() * 1e3,
            p99_ms: outcome.percentile(99).as_secs_f64() * 1e3,
            out_bytes_per_item: (self.out_bytes - before.out_bytes) as f64
                / (self.out_items - before.out_items).max(1) as f64,
            resident_peak_mib: self.resident_peak as f64 / MIB,
            driver_cpu_seconds,
            others_percent: (100.0 * others / elapsed / cores).max(0.0),
            probe_per_second: None,
            probe_ms: None,
            viewed: None,
            beside_viewers: None,
            backlog_mib: None,
        }
    }
}

/// What the disk does for a program that only appends so many requests and syncs: items a second, and how long one such
/// write takes, 50 and 99 of 100, in milliseconds.
fn disk_probe(load: &Load, group: usize, time: Duration, work: &Path) -> io::Result<(f64, [f64; 2])> {
    let templates: Vec<Template> = generate::templates(&load.shape);
    let path: PathBuf = work.join("probe");
    let mut file = fs::File::create(&path)?;
    let (mut items, began, mut times) = (0, Instant::now(), Vec::<Duration>::new());
    let mut next = templates.iter().cycle();
    while began.elapsed() < time {
        let group: Vec<&Template> = next.by_ref().take(group).collect();
        let bytes: Vec<u8> = group.iter().flat_map(|template| template.pieces.concat()).collect();
        let before = Instant::now();
        file.write_all(&bytes)?;
        file.sync_data()?;
        times.push(before.elapsed());
        items += group.iter().map(|template| template.items).sum::<u64>();
    }
    let per_second = items as f64 / began.elapsed().as_secs_f64();
    fs::remove_file(&path)?;
    times.sort_unstable();
    let percentile =
        |percent: usize| times.get(times.len() * percent / 100).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3);
    Ok((per_second, [percentile(50), percentile(99)]))
}
