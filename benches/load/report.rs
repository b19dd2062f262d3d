//! What the driver prints: a line per measurement as it goes, a table at the end, and JSON for whoever wants to compare runs.

use crate::measure::Measured;
use crate::process::{GO, MISAKI};
use crate::rows::{Goal, Measure, Row};
use serde_json::{Value, json};

/// A row with what was measured in it.
pub struct Entry {
    pub row: &'static Row,
    /// By name, as many as were measured.
    pub sides: Vec<(String, Vec<Measured>)>,
}

/// Both collectors' output may differ by that much where it is compressed.
const OUTPUT_LIMIT: f64 = 1.10;
/// A durable queue that comes this near to the bare disk is as fast as it needs to be.
const PROBE_SHARE: f64 = 0.70;

pub fn line(row: &Row, name: &str, measured: &Measured) -> String {
    let mut line = format!("  {:<16} {name:<8} {:>8} {:<8}", row.id, figure(measured.figure), row.measure.unit());
    if let Some(load) = &measured.load {
        line += &format!(
            " {:>8.0} items/s  cpu {:>5.2} s  p50 {:>6.2} ms  p99 {:>6.2} ms  rss {:>4.0} MiB  out {:>4.0} B/item",
            load.acknowledged as f64 / load.load_seconds,
            load.cpu_seconds,
            load.p50_ms,
            load.p99_ms,
            load.resident_peak_mib,
            load.out_bytes_per_item,
        );
        if let Some(probe) = load.probe_per_second {
            line += &format!("  disk alone {:.0} items/s", probe);
        }
        if let Some([p50, p99]) = load.probe_ms {
            line += &format!("  disk alone p50 {p50:.2} ms  p99 {p99:.2} ms");
        }
        if let (Some(ratios), Some(viewed)) = (load.beside_viewers, load.viewed) {
            line += &format!("  {} (it printed {:.0} %)", beside_viewers(ratios), viewed * 100.0);
        }
        if let Some(backlog) = load.backlog_mib {
            line += &format!("  backlog {backlog:.0} MiB");
        }
        if load.refused > 0 {
            line += &format!("  refused {} ({})", load.refused, load.refusal.as_deref().unwrap_or_default());
        }
        if load.others_percent > 5.0 {
            line += &format!("  (others took {:.0} % of the machine)", load.others_percent);
        }
    }
    if let Some(problem) = &measured.problem {
        line += &format!("\n    ! {problem}");
    }
    line
}

/// In Markdown, so that it can be pasted as it is. Peers stand between the Go collector and the goals, each with its ratio.
pub fn table(entries: &[Entry], peers: &[&str]) -> String {
    let more = |cell: &dyn Fn(&str) -> String| peers.iter().map(|peer| cell(peer)).collect::<String>();
    let names = more(&|peer| format!(" {peer} | ratio |"));
    let rules = more(&|_| "---|---|".to_owned());
    let mut table = format!(
        "| work | unit | Misaki | Go collector | ratio |{names} must | aims at | |\n|---|---|---|---|---|{rules}---|---|---|\n",
    );
    for entry in entries {
        let row = entry.row;
        let cell = |name: &str| median(entry.side(name)).map_or("–".into(), figure);
        let ratio = |name: &str| entry.ratio(name).map_or("–".into(), |ratio| format!("{ratio:.1}×"));
        table += &format!(
            "| {} | {} | {} | {} | {} |{} {} | {} | {} |\n",
            row.work,
            row.measure.unit(),
            cell(MISAKI),
            cell(GO),
            ratio(GO),
            more(&|peer| format!(" {} | {} |", cell(peer), ratio(peer))),
            row.must,
            row.aims,
            entry.verdict()
        );
    }
    table
}

pub fn json(entries: &[Entry], conditions: Value) -> Value {
    let row = |entry: &Entry| {
        let mut row = json!({
            "row": entry.row.id,
            "unit": entry.row.measure.unit(),
            "ratio": entry.ratio(GO),
            "verdict": entry.verdict(),
        });
        for (name, measured) in &entry.sides {
            row[name] = json!(measured);
        }
        row
    };
    json!({ "conditions": conditions, "rows": entries.iter().map(row).collect::<Value>() })
}

impl Entry {
    pub fn side(&self, name: &str) -> &[Measured] {
        self.sides.iter().find(|(known, _)| known == name).map_or(&[], |(_, measured)| measured)
    }

    /// How many times better Misaki is than another: more work, or less memory, time and size.
    pub fn ratio(&self, other: &str) -> Option<f64> {
        let (misaki, other) = (median(self.side(MISAKI))?, median(self.side(other))?);
        let more_is_better =
            matches!(self.row.measure, Measure::PerCpuSecond(_) | Measure::PerSecond(_) | Measure::Drain(_));
        Some(if more_is_better { misaki / other } else { other / misaki })
    }

    pub fn failed(&self) -> bool {
        self.side(MISAKI).iter().any(|measured| measured.problem.is_some())
    }

    fn verdict(&self) -> String {
        if self.side(MISAKI).is_empty() {
            return String::new();
        }
        if self.failed() {
            return "**FAILED**".into();
        }
        let mut verdict = match (self.reaches(self.row.aims), self.reaches(self.row.must)) {
            (Some(true), _) => "as aimed at".into(),
            (_, Some(true)) => "ok".into(),
            (_, Some(false)) => "**short**".into(),
            (_, None) => self.ratios_beside_viewers().map_or_else(String::new, beside_viewers),
        };
        if let Some(size) = self.output_ratio().filter(|size| *size > OUTPUT_LIMIT) {
            verdict = format!("**output {:.0} % larger**", (size - 1.0) * 100.0);
        }
        verdict
    }

    fn reaches(&self, goal: Goal) -> Option<bool> {
        match goal {
            Goal::None => None,
            Goal::AtMost(limit) => Some(median(self.side(MISAKI))? <= limit),
            Goal::Times(times) => match self.disk_share() {
                Some(share) if share >= PROBE_SHARE => Some(true),
                _ => Some(self.ratio(GO)? >= times),
            },
        }
    }

    fn disk_share(&self) -> Option<f64> {
        let load = self.side(MISAKI).last()?.load.as_ref()?;
        Some(load.acknowledged as f64 / load.load_seconds / load.probe_per_second?)
    }

    fn ratios_beside_viewers(&self) -> Option<[f64; 2]> {
        let ratios = |viewer: usize| {
            let loads = self.side(MISAKI).iter().filter_map(|measured| measured.load.as_ref());
            middle(loads.filter_map(|load| load.beside_viewers?.get(viewer).copied()))
        };
        Some([ratios(0)?, ratios(1)?])
    }

    fn output_ratio(&self) -> Option<f64> {
        let size = |measured: &[Measured]| Some(measured.last()?.load.as_ref()?.out_bytes_per_item);
        Some(size(self.side(MISAKI))? / size(self.side(GO))?).filter(|ratio| ratio.is_finite())
    }
}

fn median(measured: &[Measured]) -> Option<f64> {
    middle(measured.iter().map(|measured| measured.figure))
}

fn middle(figures: impl Iterator<Item = f64>) -> Option<f64> {
    let mut figures: Vec<f64> = figures.filter(|figure| figure.is_finite()).collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied()
}

fn beside_viewers([nothing, all]: [f64; 2]) -> String {
    format!("{nothing:.2}× beside a viewer of nothing, {all:.2}× beside one of all")
}

/// Three digits that mean something.
fn figure(value: f64) -> String {
    match value {
        value if value.is_nan() => "–".into(),
        value if value < 1.0 => format!("{value:.3}"),
        value if value < 10.0 => format!("{value:.2}"),
        value if value < 100.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}
