//! `cargo bench`: Misaki beside the Go collector, in one run, on the same cores, under the same load.
//!
//! The driver measures any collector from outside and uses nothing of Misaki's library. `generate` builds the requests,
//! `client` sends them (through
//! `coalesce`), `sink` is the upstream, `scraper` reads what is shown to Prometheus, `process` the collector between them, `measure` one measurement,
//! `rows` the list of them, `report` what is printed, `instructions` the same rows counted under callgrind. docs/benchmarks.md says how to run and read it.

#![allow(clippy::indexing_slicing, clippy::string_slice, reason = "the driver reads its own data")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "the driver ends with the run")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the report goes there")]

mod client;
mod coalesce;
mod generate;
mod instructions;
mod measure;
mod process;
mod report;
mod rows;
mod scraper;
mod sink;

use clap::Parser;
use measure::{Measured, Timing, measure};
use process::{GO, MISAKI, Program, own_cpu_seconds};
use report::Entry;
use rows::{Load, Measure, ROWS, Row};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Measures Misaki, and the Go collector beside it.
#[derive(Parser)]
#[command(name = "cargo bench --")]
struct Options {
    /// How long each row loads each collector.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Rows by name or by a part of it, separated by commas.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Measures each row that often, the collectors in turn, and reports the median.
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// Connections; each has 4 requests in flight (16 in the durable row).
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// The Go collector [default: $MISAKI_GO_COLLECTOR, else what tests/interop/build-collector.sh built].
    #[arg(long)]
    collector: Option<PathBuf>,
    /// Misaki [default: the release build].
    #[arg(long, default_value = env!("CARGO_BIN_EXE_misaki"))]
    misaki: PathBuf,
    /// Another collector to measure: its name, its binary, and the folder with its config for each row that it can do,
    /// `ROW.yaml`, as docs/benchmarks.md says. May be given again.
    #[arg(long, value_name = "NAME=BINARY:FOLDER", value_parser = peer)]
    peer: Vec<Program>,
    /// Leaves Misaki out.
    #[arg(long)]
    skip_misaki: bool,
    /// Writes everything measured to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// One second a row and Misaki only, unless --collector is given: does it run, is nothing lost?
    #[arg(long)]
    smoke: bool,
    /// Measures the driver itself: the generator straight into the sink.
    #[arg(long)]
    ceiling: bool,
    /// Counts instructions with valgrind's callgrind instead of time: steady where times are not.
    #[arg(long, conflicts_with_all = ["json", "smoke", "ceiling"])]
    instructions: bool,
    /// Lists the rows.
    #[arg(long)]
    list: bool,
    /// Prints each row's config before it.
    #[arg(long)]
    show_config: bool,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let chosen = |row: &&Row| options.only.is_empty() || options.only.iter().any(|name| row.is_meant_by(name));
    let rows: Vec<&'static Row> = ROWS.iter().filter(chosen).collect();
    if options.list {
        rows.iter().for_each(|row| println!("{:<16} {}", row.id, row.work));
        return ExitCode::SUCCESS;
    }
    let timing = options.timing();
    if options.ceiling {
        rows.iter().for_each(|row| ceiling(row, &timing));
        return ExitCode::SUCCESS;
    }
    let programs = options.programs();
    let rows = options.offered(rows);
    if programs.is_empty() {
        eprintln!("nothing to measure: neither Misaki nor a Go collector is there");
        return ExitCode::FAILURE;
    }
    if options.instructions {
        return instructions::report(&rows, &programs);
    }
    let conditions = conditions(&programs, &timing);
    println!("{}", serde_json::to_string_pretty(&conditions).expect("plain values"));

    let work = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("load-{}", std::process::id()));
    let entries: Vec<Entry> = rows.into_iter().map(|row| options.run(row, &programs, &timing, &work)).collect();
    let _ = std::fs::remove_dir_all(&work);

    let peers: Vec<&str> =
        programs.iter().filter(|program| program.configs.is_some()).map(|peer| &*peer.name).collect();
    println!("\n{}", report::table(&entries, &peers));
    if let Some(file) = &options.json {
        let text = format!("{:#}\n", report::json(&entries, conditions));
        if let Err(error) = std::fs::write(file, text) {
            eprintln!("cannot write {}: {error}", file.display());
            return ExitCode::FAILURE;
        }
    }
    if entries.iter().any(Entry::failed) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

impl Options {
    /// The rows whose components this Misaki has; the others are named and left out.
    fn offered(&self, rows: Vec<&'static Row>) -> Vec<&'static Row> {
        let listed = Command::new(&self.misaki).arg("components").output();
        let Ok(listed) = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()) else { return rows };
        let offered = |row: &&Row| match row.missing_in(&listed) {
            Some(name) if !self.skip_misaki => {
                println!("left out: {} (Misaki has no {name})", row.id);
                false
            }
            _ => true,
        };
        rows.into_iter().filter(offered).collect()
    }

    fn timing(&self) -> Timing {
        let seconds = if self.smoke { 1.0 } else { self.seconds };
        Timing {
            load: Duration::from_secs_f64(seconds),
            warm_up: Duration::from_secs_f64((seconds / 10.0).clamp(0.2, 1.0)),
            idle: Duration::from_secs(if self.smoke { 1 } else { 3 }),
            starts: if self.smoke { 3 } else { 15 },
            connections: self.connections,
            backlog: if self.smoke { 32 << 20 } else { 1 << 30 },
        }
    }

    fn programs(&self) -> Vec<Program> {
        let built = || {
            let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/.work/bin/otelcol");
            (!self.smoke).then(|| std::env::var_os("MISAKI_GO_COLLECTOR").map_or(built, PathBuf::from))
        };
        let program = |name: &str, binary| Program { name: name.to_owned(), binary, configs: None, under: Vec::new() };
        let misaki = (!self.skip_misaki).then(|| program(MISAKI, self.misaki.clone()));
        let go = self.collector.clone().or_else(built).map(|binary| program(GO, binary));
        let there = |program: &Program| {
            let there = program.binary.is_file();
            if !there {
                eprintln!("no {} at {}: left out", program.name, program.binary.display());
            }
            there
        };
        misaki.into_iter().chain(go).chain(self.peer.iter().cloned()).filter(there).collect()
    }

    /// One row: the collectors in turn, as many rounds as asked for.
    fn run(&self, row: &'static Row, programs: &[Program], timing: &Timing, work: &Path) -> Entry {
        println!("\n{}", row.work);
        if self.show_config {
            println!("{}", row.config.text(true));
        }
        let able = programs.iter().filter_map(|program| Some((program, program.config(row)?)));
        let able: Vec<(&Program, String)> = able.collect();
        let sides = able.iter().map(|(program, _)| (program.name.clone(), Vec::new())).collect();
        let mut entry = Entry { row, sides };
        for _ in 0..self.rounds {
            for ((program, config), (_, side)) in able.iter().zip(&mut entry.sides) {
                let measured = measure(row, program, config, timing, work).unwrap_or_else(|error| Measured {
                    figure: f64::NAN,
                    load: None,
                    problem: Some(error.to_string()),
                });
                println!("{}", report::line(row, &program.name, &measured));
                side.push(measured);
            }
        }
        entry
    }
}

/// `NAME=BINARY:FOLDER`.
fn peer(text: &str) -> Result<Program, String> {
    let parts = text.split_once('=').and_then(|(name, rest)| Some((name, rest.rsplit_once(':')?)));
    let (name, (binary, folder)) = parts.ok_or("expected NAME=BINARY:FOLDER")?;
    if [MISAKI, GO].contains(&name) {
        return Err(format!("{name} is measured already: take another name"));
    }
    if !Path::new(folder).is_dir() {
        return Err(format!("{folder} is not a folder"));
    }
    Ok(Program { name: name.into(), binary: binary.into(), configs: Some(folder.into()), under: Vec::new() })
}

/// What a reader must know to compare two runs.
fn conditions(programs: &[Program], timing: &Timing) -> serde_json::Value {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default().trim().to_owned();
    let processor = read("/proc/cpuinfo");
    let processor =
        processor.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, n)| n);
    json!({
        "cores": std::thread::available_parallelism().map_or(0, |cores| cores.get()),
        "processor": processor,
        "kernel": read("/proc/sys/kernel/osrelease"),
        "load_average": read("/proc/loadavg"),
        "seconds": timing.load.as_secs_f64(),
        "connections": timing.connections,
        "measured": programs.iter().map(|program| json!({&program.name: program.binary})).collect::<Vec<_>>(),
    })
}

/// The generator straight into the sink: what the driver itself can do.
fn ceiling(row: &Row, timing: &Timing) {
    let (Measure::PerCpuSecond(load) | Measure::PerSecond(load)) = row.measure else {
        return;
    };
    let Load { shape, in_flight, .. } = load;
    // The sink reads no JSON: no collector sends it any.
    if shape.encoding == generate::Encoding::Json {
        return;
    }
    let templates = Arc::new(generate::templates(&shape));
    let bytes: usize = templates.iter().flat_map(|template| &template.pieces).map(|piece| piece.len()).sum();
    let items: u64 = templates.iter().map(|template| template.items).sum();
    let sink = sink::Sink::start().expect("a free port");
    let before = own_cpu_seconds().expect("Linux");
    let pressure = client::Pressure {
        connections: timing.connections,
        in_flight,
        time: timing.load,
        rate: None,
        requests: u64::MAX,
    };
    let outcome = client::run(sink.address, &shape, &templates, pressure);
    let cpu = own_cpu_seconds().expect("Linux") - before;
    let millions = outcome.acknowledged as f64 / 1e6;
    println!(
        "{:<16} {:>6.2} M items/s  {:>6.2} M per CPU second  {:>5.0} B/item  p99 {:>5.2} ms  malformed {}  {}",
        row.id,
        millions / outcome.elapsed.as_secs_f64(),
        millions / cpu,
        bytes as f64 / items as f64,
        outcome.percentile(99).as_secs_f64() * 1e3,
        sink.counts.malformed.load(Relaxed),
        outcome.broken.or(outcome.refusal).unwrap_or_default(),
    );
    assert_eq!(outcome.acknowledged, sink.counts.items.load(Relaxed), "the sink counts what was acknowledged");
}
