//! Checks of this machine: free ports, writable directories, memory.

use std::io::{self, Write};
use std::path::Path;

use crate::config::Kind;
use crate::config::telemetry::MetricsLevel;
use crate::network::endpoint::{Address, Listen};
use crate::network::listen;
use crate::network::settings::Listening;
use crate::sending::disk::directory;
use crate::sending::storage::Storage;
use crate::service::plan::Plan;
use crate::service::{budget_of, machine};

use super::{Finding, Section};

/// The name of the file that is written to test a directory.
const TRIAL: &str = ".misaki-doctor";
/// The part of the available memory that telemetry may use. More leaves too little for the rest of the process.
const ROOMY: f64 = 0.7;

pub(super) async fn ports(plan: &Plan) -> Vec<Section> {
    let mut sections = Vec::new();
    let receivers =
        plan.used(Kind::Receiver).into_iter().filter_map(|(id, _)| Some((id, plan.receiver(id)?.listens())));
    let receivers = receivers.map(|(id, listening)| (format!("receiver {id}"), listening));
    let exporters =
        plan.used(Kind::Exporter).into_iter().filter_map(|(id, _)| Some((id, plan.exporter(id)?.listens())));
    let exporters = exporters.map(|(id, listening)| (format!("exporter {id}"), listening));
    let extensions = plan.started_extensions().map(|(id, settings)| (format!("extension {id}"), settings.listens()));
    for (title, listening) in
        receivers.chain(exporters).chain(extensions).filter(|(_, listening)| !listening.is_empty())
    {
        let mut findings = Vec::new();
        for Listening { protocol, endpoint, .. } in listening {
            findings.push(port(protocol, &endpoint).await);
        }
        sections.push(Section { title, findings });
    }
    let metrics = &plan.telemetry.metrics;
    if metrics.level != MetricsLevel::None && !metrics.readers.is_empty() {
        let mut findings = Vec::new();
        for (host, number) in &metrics.readers {
            if let Ok(endpoint) = Listen::parse(&format!("{host}:{number}"), "tcp") {
                findings.push(port("HTTP", &endpoint).await);
            }
        }
        sections.push(Section { title: "own metrics".to_owned(), findings });
    }
    sections
}

async fn port(what: &'static str, endpoint: &Listen) -> Finding {
    let address = &endpoint.address;
    let Address::Tcp { port, .. } = address else {
        return Finding::ok(what, format!("{address}, not tried"));
    };
    let error = match listen::bind(endpoint).await {
        Ok(_) => return Finding::ok(what, format!("{address} is free")),
        Err(error) => error,
    };
    match error.kind() {
        io::ErrorKind::AddrInUse => match holder(*port) {
            Some((process, name)) if name == "misaki" => {
                Finding::ok(what, format!("{address} is served by misaki, process {process}"))
            }
            Some((process, name)) => {
                let says = format!("{address} is taken by {name}, process {process}");
                Finding::failed(what, says, "end that process, or give the receiver another port")
            }
            None => {
                let says = format!("{address} is taken, by a process of another user or container");
                Finding::failed(what, says, "`ss -ltnp` as root names it; end it, or take another port")
            }
        },
        kind => {
            let advice = match kind {
                io::ErrorKind::PermissionDenied => "ports below 1024 want CAP_NET_BIND_SERVICE",
                io::ErrorKind::AddrNotAvailable => "this machine has no such address",
                _ => "check the name of the host",
            };
            Finding::failed(what, format!("{address}: {error}"), advice)
        }
    }
}

/// The process that listens on a port, on Linux.
fn holder(port: u16) -> Option<(u32, String)> {
    const LISTENING: &str = "0A";
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| {
        let text = std::fs::read_to_string(table).ok()?;
        text.lines().skip(1).find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (_, local) = fields.get(1)?.rsplit_once(':')?;
            let listens = fields.get(3) == Some(&LISTENING) && u16::from_str_radix(local, 16) == Ok(port);
            listens.then(|| fields.get(9).map(|inode| format!("socket:[{inode}]"))).flatten()
        })
    })?;
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let mut numbered = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbered.find_map(|process| {
        let files = std::fs::read_dir(format!("/proc/{process}/fd")).ok()?.flatten();
        let mut links = files.filter_map(|file| std::fs::read_link(file.path()).ok());
        let holds = links.any(|link| link.as_os_str() == inode.as_str());
        let name = || std::fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
        holds.then(|| (process, name().trim().to_owned()))
    })
}

pub(super) fn storage(plan: &Plan) -> Vec<Section> {
    let started = plan.started_extensions().filter_map(|(id, extension)| Some((id, extension.storage()?)));
    started.map(|(id, storage)| Section { title: format!("extension {id}"), findings: directory(storage) }).collect()
}

fn directory(config: &Storage) -> Vec<Finding> {
    let directory = &config.directory;
    let mut findings = vec![writable(directory)];
    // The directory itself may not exist yet.
    let there = directory.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    let shown = there.display();
    if is_in_memory(there) {
        let advice = "a restart of the machine or container loses the queue: use a disk or a volume";
        findings.push(Finding::warn("disk", format!("{shown} is a tmpfs, in memory"), advice));
    }
    match (directory::space(there), config.limits()) {
        (Ok((_, free)), Ok(limits)) => {
            let says = format!("{} free, queues may take {} each", size(free), size(limits.quota));
            findings.push(match free < limits.quota.saturating_add(limits.min_free) {
                true => Finding::warn("space", says, "make room, or set a smaller `max_size`"),
                false => Finding::ok("space", says),
            });
        }
        (Err(error), _) | (_, Err(error)) => {
            findings.push(Finding::failed("space", format!("cannot ask about {shown}: {error}"), ""));
        }
    }
    findings
}

/// Whether files can be created in a directory, or in its closest existing parent.
pub(super) fn writable(directory: &Path) -> Finding {
    let there = directory.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("."));
    let (shown, trial) = (there.display(), there.join(TRIAL));
    // Remove a file from an earlier check, or one that another user has placed there: never write to it.
    let _ = std::fs::remove_file(&trial);
    match std::fs::File::create_new(&trial)
        .and_then(|mut file| file.write_all(b"misaki"))
        .and_then(|()| std::fs::remove_file(&trial))
    {
        Ok(()) => Finding::ok("write", format!("{shown} takes files")),
        Err(error) => {
            let advice = "let the user that misaki runs as own it, and mount it writable";
            Finding::failed("write", format!("cannot write in {shown}: {error}"), advice)
        }
    }
}

#[cfg(target_os = "linux")]
fn is_in_memory(path: &Path) -> bool {
    const TMPFS: u64 = 0x0102_1994;
    rustix::fs::statfs(path).is_ok_and(|found| found.f_type as u64 == TMPFS)
}

#[cfg(not(target_os = "linux"))]
fn is_in_memory(_: &Path) -> bool {
    false
}

pub(super) fn memory(plan: &Plan) -> Section {
    let (budget, available) = (budget_of(plan), machine::memory_bytes());
    let limited = machine::machine_bytes().is_none_or(|built_in| available < built_in);
    let of = if limited { "the limit of its cgroup" } else { "the machine's" };
    let says = format!("telemetry may take {} of {} ({of})", size(budget), size(available));
    let finding = match budget as f64 > available as f64 * ROOMY {
        true => Finding::failed("budget", says, "raise the limit of the container, or lower that of memory_limiter"),
        false => Finding::ok("budget", says),
    };
    let connections = Finding::ok("files", format!("room for {} connections", machine::connection_cap(budget)));
    Section { title: "memory and files".to_owned(), findings: vec![finding, connections] }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..0x4000_0000 => format!("{} MiB", bytes >> 20),
        _ => format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64),
    }
}
