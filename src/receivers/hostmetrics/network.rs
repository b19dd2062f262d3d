//! The scraper `network`: traffic of each interface, and TCP connections by state.

use std::fs::File;
use std::io::{self, BufRead, BufReader};

use super::Host;
use super::names::Names;
use super::sheet::{Kind, Metric, Sheet};

const CONNECTIONS: &str = "system.network.connections";
const TRACKED: &str = "system.network.conntrack.count";
const TRACKED_MOST: &str = "system.network.conntrack.max";

pub(super) const METRICS: &[Metric] = &[
    Metric::on(CONNECTIONS, Kind::Sum, "{connections}", "The number of connections."),
    Metric::off(TRACKED, Kind::Sum, "{entries}", "The count of entries in conntrack table."),
    Metric::off(TRACKED_MOST, Kind::Sum, "{entries}", "The limit for entries in the conntrack table."),
    Metric::on("system.network.dropped", Kind::Counter, "{packets}", "The number of packets dropped."),
    Metric::on("system.network.errors", Kind::Counter, "{errors}", "The number of errors encountered."),
    Metric::on("system.network.io", Kind::Counter, "By", "The number of bytes transmitted and received."),
    Metric::on("system.network.packets", Kind::Counter, "{packets}", "The number of packets transferred."),
];

/// The received columns of /proc/net/dev; the transmitted ones are eight further on.
const COUNTERS: [(&str, usize); 4] = [
    ("system.network.packets", 1),
    ("system.network.dropped", 3),
    ("system.network.errors", 2),
    ("system.network.io", 0),
];

/// The states of /proc/net/tcp by number, from 1; `DELETE` never occurs, but the Go collector reports it.
const STATES: [&str; 12] = [
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT_1",
    "FIN_WAIT_2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
    "DELETE",
];

pub(super) fn scrape(host: &Host, interfaces: &Names, sheet: &mut Sheet) -> io::Result<()> {
    for line in host.read("net/dev")?.lines() {
        let Some((name, numbers)) = line.split_once(':').map(|(name, numbers)| (name.trim(), numbers)) else {
            continue;
        };
        let numbers: Vec<u64> = numbers.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect();
        if !interfaces.pass(name) {
            continue;
        }
        for (metric, column) in COUNTERS {
            for (direction, column) in [("transmit", column + 8), ("receive", column)] {
                if let Some(value) = numbers.get(column) {
                    sheet.int(metric, *value, &[("device", name), ("direction", direction)]);
                }
            }
        }
    }
    if sheet.wants(CONNECTIONS) {
        let mut counts = [0; STATES.len()];
        count_connections(&host.path("net/tcp"), &mut counts)?;
        // Absent if IPv6 is disabled.
        let _ = count_connections(&host.path("net/tcp6"), &mut counts);
        for (state, count) in STATES.iter().zip(counts) {
            sheet.int(CONNECTIONS, count, &[("protocol", "tcp"), ("state", state)]);
        }
    }
    for (metric, file) in [(TRACKED, "nf_conntrack_count"), (TRACKED_MOST, "nf_conntrack_max")] {
        if sheet.wants(metric) {
            let text = host.read(&format!("sys/net/netfilter/{file}"))?;
            sheet.int(metric, text.trim().parse().unwrap_or(0), &[]);
        }
    }
    Ok(())
}

/// Reads line by line: a busy host has a hundred thousand connections.
fn count_connections(path: &std::path::Path, counts: &mut [u64; STATES.len()]) -> io::Result<()> {
    let mut file = BufReader::new(File::open(path)?);
    let mut line = String::new();
    while file.read_line(&mut line)? > 0 {
        let state = line.split_ascii_whitespace().nth(3).and_then(|word| usize::from_str_radix(word, 16).ok());
        if let Some(count) = state.and_then(|state| counts.get_mut(state.checked_sub(1)?)) {
            *count += 1;
        }
        line.clear();
    }
    Ok(())
}
