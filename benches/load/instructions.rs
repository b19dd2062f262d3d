//! Instructions a request, counted by valgrind's callgrind: the same in each run, so that one run shows a change of 1 %. They say
//! nothing of the kernel and of waiting for memory.
//!
//! A row is run twice, with few requests and with more; the difference is divided by the difference of the requests, so that
//! start and end do not count.

use crate::client::{self, Pressure};
use crate::generate::{self, Protocol, Shape};
use crate::process::Program;
use crate::rows::{Delivery, Load, Measure, Row};
use crate::sink::Sink;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

const FEW: u64 = 100;
const MANY: u64 = 600;
/// callgrind makes a program fifty times slower: with more items, the processors would need more than their slice of time.
const ITEMS: usize = 10;
/// A batch leaves when it is full, and not after a time: how often that is would change with the machine's other work.
const BATCHED: usize = 100;

/// Prints a line for each row that is about processor time, and leaves what callgrind wrote of the longer run beside it.
pub fn report(rows: &[&'static Row], programs: &[Program]) -> ExitCode {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("instructions");
    let mut verdict = ExitCode::SUCCESS;
    for row in rows {
        let Measure::PerCpuSecond(load) = row.measure else { continue };
        println!("\n{}, {ITEMS} a request", row.work);
        for program in programs {
            let Some(config) = program.config(row) else { continue };
            match measure(&config, &load, program, &folder.join(row.id).join(&program.name)) {
                Ok((count, file)) => {
                    let each = count / ITEMS as u64;
                    println!("  {:<16} {:<8} {count:>9} a request {each:>8} an item   {file}", row.id, program.name);
                }
                Err(error) => {
                    println!("  {:<16} {:<8} {error}", row.id, program.name);
                    verdict = ExitCode::FAILURE;
                }
            }
        }
    }
    println!("\nBy function, of a binary with symbols: callgrind_annotate FILE");
    verdict
}

fn measure(config: &str, load: &Load, program: &Program, folder: &Path) -> io::Result<(u64, String)> {
    let (few, _) = count(config, load, program, folder, FEW)?;
    let (many, file) = count(config, load, program, folder, MANY)?;
    Ok(((many - few) / (MANY - FEW), file))
}

fn count(config: &str, load: &Load, program: &Program, folder: &Path, requests: u64) -> io::Result<(u64, String)> {
    let work = folder.join(requests.to_string());
    let counts = work.join("callgrind.out").display().to_string();
    let under = ["valgrind", "--quiet", "--tool=callgrind", &format!("--callgrind-out-file={counts}")];
    let program = Program { under: under.map(str::to_owned).into(), ..program.clone() };
    let shape = Shape { items: load.shape.items.min(ITEMS), ..load.shape };
    let templates = Arc::new(generate::templates(&shape));
    let sink = Sink::start()?;
    let config = config.replace("batch: {}", &format!("batch: {{timeout: 1h, send_batch_size: {BATCHED}}}"));
    let collector = program.start(&config, sink.address, &work)?;
    let address = if let Protocol::Grpc = shape.protocol { collector.grpc } else { collector.http };
    let pressure = Pressure { connections: 1, in_flight: 1, time: Duration::from_secs(300), rate: load.rate, requests };
    let outcome = client::run(address, &shape, &templates, pressure);
    let expected = ((outcome.acknowledged as f64 * load.keeps).round() as u64).saturating_sub(BATCHED as u64);
    let delivered = || match load.delivery {
        Delivery::Sink => sink.counts.items.load(Relaxed),
        Delivery::Pipe => collector.printed.load(Relaxed),
        Delivery::Scraped => outcome.acknowledged,
    };
    for _ in 0..1000 {
        if delivered() >= expected {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    if let Some(broken) = outcome.broken.or(outcome.refusal) {
        return Err(io::Error::other(broken));
    }
    collector.end()?;
    let text = std::fs::read_to_string(&counts)?;
    let line = text.lines().find_map(|line| line.strip_prefix("summary: ").or_else(|| line.strip_prefix("totals: ")));
    let total = line.and_then(|line| line.trim().parse().ok());
    Ok((total.ok_or_else(|| io::Error::other(format!("{counts} tells no total")))?, counts))
}
