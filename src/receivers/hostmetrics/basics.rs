//! The scrapers `cpu`, `memory` and `load`: one short file of /proc each.

use std::io;

use super::Host;
use super::sheet::{Kind, Metric, Sheet};

const PER_CPU_TIME: &str = "system.cpu.time";
const UTILIZATION: &str = "system.cpu.utilization";

pub(super) const CPU: &[Metric] = &[
    Metric::on("system.cpu.logical.count", Kind::Sum, "{cpu}", "Number of available logical CPUs."),
    Metric::on(PER_CPU_TIME, Kind::Counter, "s", "Total seconds each logical CPU spent on each mode."),
    Metric::off(
        UTILIZATION,
        Kind::Gauge,
        "1",
        "Difference in system.cpu.time since the last measurement per logical CPU, divided by the elapsed time (value in interval [0,1]).",
    ),
];

/// The states in output order, with their column in /proc/stat.
const STATES: [(&str, usize); 8] =
    [("user", 0), ("system", 2), ("idle", 3), ("interrupt", 5), ("nice", 1), ("softirq", 6), ("steal", 7), ("wait", 4)];
/// `USER_HZ`, which is fixed for user space on Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// Each CPU's ticks at the last scrape.
pub(super) type CpuTicks = Vec<(String, [u64; 8])>;

pub(super) fn cpu(host: &Host, last: &mut CpuTicks, sheet: &mut Sheet) -> io::Result<()> {
    let text = host.read("stat")?;
    let ticks: CpuTicks = text.lines().filter_map(cpu_line).collect();
    sheet.int("system.cpu.logical.count", ticks.len() as u64, &[]);
    let of = |ticks: &[u64; 8], column: usize| ticks.get(column).copied().unwrap_or(0);
    for (name, ticks) in &ticks {
        for (state, column) in STATES {
            let seconds = of(ticks, column) as f64 / TICKS_PER_SECOND;
            sheet.double(PER_CPU_TIME, seconds, &[("cpu", name), ("state", state)]);
        }
    }
    for (name, before) in last.iter() {
        let Some((_, now)) = ticks.iter().find(|(known, _)| known == name) else { continue };
        let spent = |column| of(now, column).saturating_sub(of(before, column));
        let elapsed: u64 = (0..8).map(spent).sum();
        for (state, column) in STATES {
            let share = spent(column) as f64 / elapsed.max(1) as f64;
            sheet.double(UTILIZATION, share, &[("cpu", name), ("state", state)]);
        }
    }
    *last = ticks;
    Ok(())
}

/// `cpu0 user nice system idle iowait irq softirq steal …`
fn cpu_line(line: &str) -> Option<(String, [u64; 8])> {
    let mut words = line.split_ascii_whitespace();
    let name = words.next()?;
    name.strip_prefix("cpu")?.parse::<u32>().ok()?;
    let mut ticks = [0; 8];
    for (tick, word) in ticks.iter_mut().zip(words) {
        *tick = word.parse().ok()?;
    }
    Some((name.to_owned(), ticks))
}

pub(super) const MEMORY: &[Metric] = &[
    Metric::off(
        "system.linux.memory.available",
        Kind::Sum,
        "By",
        "An estimate of how much memory is available for starting new applications, without swapping. This is a more accurate alternative than system.memory.usage with state=free. (Linux only)",
    ),
    Metric::off(
        "system.linux.memory.dirty",
        Kind::Sum,
        "By",
        "The amount of dirty memory according to `/proc/meminfo`.",
    ),
    Metric::off("system.memory.limit", Kind::Sum, "By", "Total bytes of memory available."),
    Metric::off(
        "system.memory.linux.shared",
        Kind::Sum,
        "By",
        "Shared memory usage, including tmpfs filesystems and System V/POSIX shared memory. Only supported on Linux.",
    ),
    Metric::on("system.memory.usage", Kind::Sum, "By", "Bytes of memory in use."),
    Metric::off("system.memory.utilization", Kind::Gauge, "1", "Percentage of memory bytes in use."),
];

pub(super) fn memory(host: &Host, sheet: &mut Sheet) -> io::Result<()> {
    let text = host.read("meminfo")?;
    let bytes = |wanted: &str| {
        let mut words = text.lines().find_map(|line| line.strip_prefix(wanted)?.strip_prefix(':'))?.split_whitespace();
        words.next()?.parse::<u64>().ok()?.checked_mul(1024)
    };
    let of = |name| bytes(name).unwrap_or(0);
    let total = bytes("MemTotal").filter(|total| *total > 0);
    let total = total.ok_or_else(|| io::Error::other("no MemTotal in /proc/meminfo"))?;
    // Reclaimable memory counts as cached.
    let (free, buffered, cached) = (of("MemFree"), of("Buffers"), of("Cached") + of("SReclaimable"));
    let states = [
        ("used", total.saturating_sub(free + buffered + cached)),
        ("free", free),
        ("buffered", buffered),
        ("cached", cached),
        ("slab_reclaimable", of("SReclaimable")),
        ("slab_unreclaimable", of("SUnreclaim")),
    ];
    for (state, bytes) in states {
        sheet.int("system.memory.usage", bytes, &[("state", state)]);
        sheet.double("system.memory.utilization", ratio(bytes, total), &[("state", state)]);
    }
    sheet.int("system.memory.limit", total, &[]);
    sheet.int("system.linux.memory.available", of("MemAvailable"), &[]);
    sheet.int("system.linux.memory.dirty", of("Dirty"), &[]);
    sheet.int("system.memory.linux.shared", of("Shmem"), &[]);
    Ok(())
}

/// A ratio, rounded to as many digits as the larger number has: more would be noise.
pub(super) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    let scale = 10f64.powi(part.max(whole).ilog10() as i32 + 1);
    (part as f64 / whole as f64 * scale).round() / scale
}

const LOAD_UNIT: &str = "{thread}";

pub(super) const LOAD: &[Metric] = &[
    Metric::on("system.cpu.load_average.15m", Kind::Gauge, LOAD_UNIT, "Average CPU Load over 15 minutes."),
    Metric::on("system.cpu.load_average.1m", Kind::Gauge, LOAD_UNIT, "Average CPU Load over 1 minute."),
    Metric::on("system.cpu.load_average.5m", Kind::Gauge, LOAD_UNIT, "Average CPU Load over 5 minutes."),
];

/// The load, or with `cpu_average` the load per CPU.
pub(super) fn load(host: &Host, cpu_average: bool, sheet: &mut Sheet) -> io::Result<()> {
    let text = host.read("loadavg")?;
    let cpus = if cpu_average { host.read("stat")?.lines().filter_map(cpu_line).count().max(1) } else { 1 };
    for (minutes, load) in ["1m", "5m", "15m"].iter().zip(text.split_ascii_whitespace()) {
        let load: f64 = load.parse().map_err(|_| io::Error::other("no number in /proc/loadavg"))?;
        sheet.double(&format!("system.cpu.load_average.{minutes}"), load / cpus as f64, &[]);
    }
    Ok(())
}
