//! Resources of the machine or the container: memory, open files.

use std::fs::read_to_string;

use crate::diagnostics::process::bytes_in;

/// The memory available to this process, in bytes: its cgroup's limit, else the machine's.
pub(crate) fn memory_bytes() -> u64 {
    let number = |path: &str| read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let own = |controller: &str| {
        let groups = read_to_string("/proc/self/cgroup").unwrap_or_default();
        let matching =
            |line: &&str| line.split(':').nth(1).is_some_and(|names| names.split(',').any(|name| name == controller));
        groups.lines().find(matching).and_then(|line| line.split(':').nth(2).map(str::to_owned)).unwrap_or_default()
    };
    let limits = [
        number(&format!("/sys/fs/cgroup{}/memory.max", own(""))),
        number("/sys/fs/cgroup/memory.max"),
        number(&format!("/sys/fs/cgroup/memory{}/memory.limit_in_bytes", own("memory"))),
        number("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        machine_bytes(),
    ];
    limits.into_iter().flatten().min().unwrap_or(1 << 30)
}

/// The machine's physical memory, regardless of limits.
pub(crate) fn machine_bytes() -> Option<u64> {
    bytes_in("/proc/meminfo", "MemTotal:")
}

/// The byte budget for telemetry if no `memory_limiter` sets one.
pub(super) fn default_budget() -> u64 {
    const MEBIBYTE: u64 = 1 << 20;
    (memory_bytes() / 100 * 40).clamp(16 * MEBIBYTE, 96 * MEBIBYTE)
}

/// With less memory than this, freed memory must be returned to the system at once.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const SMALL: u64 = 256 << 20;

/// Restarts this process with a fixed mmap threshold if memory is small. glibc keeps freed blocks of up to 32 MiB,
/// which gets a process killed in a container of 64 MiB; blocks above a fixed threshold are returned at once. glibc
/// reads the threshold only at process start. A threshold set in the environment is kept.
///
/// On success it does not return. Otherwise returns whether it tried: a failed `exec` leaves SIGPIPE at its default.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn give_freed_memory_back() -> bool {
    use std::os::unix::process::CommandExt;
    const FIXED: &str = "MALLOC_MMAP_THRESHOLD_";
    // A program with file capabilities loses the first variable at its start. The second one prevents an endless loop.
    const TRIED: &str = "MISAKI_STARTED_ANEW";
    let is_set = [FIXED, "GLIBC_TUNABLES", TRIED].iter().any(|name| std::env::var_os(name).is_some());
    let program = std::env::current_exe().unwrap_or_default();
    // A program started through the dynamic loader has the loader as its executable.
    let is_loader = program.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"ld-"));
    if is_set || is_loader || memory_bytes() >= SMALL {
        return false;
    }
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    let mut anew = std::process::Command::new(program);
    let _ = anew.arg0(name).args(arguments).env(FIXED, "4194304").env(TRIED, "1").exec();
    true
}

/// Maximum memory of a connection with its buffers, when the answers of all its streams wait to be read.
const CONNECTION: u64 = 128 << 10;

/// The connection limit for a budget of this many bytes.
pub(crate) fn connection_cap(budget: u64) -> usize {
    let limits = read_to_string("/proc/self/limits").unwrap_or_default();
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let files = files.and_then(|files| files.split_whitespace().next()?.parse::<usize>().ok());
    connections_within(files.unwrap_or(1024), memory_bytes(), budget)
}

/// Open files beside connections: those of threads, listeners, disk queues and upstreams, and closing connections.
const OTHER_FILES: usize = 40;

/// Half the open files, if that leaves enough others, limited by a quarter of the memory and by half of what the budget
/// leaves of it.
pub fn connections_within(files: usize, memory: u64, budget: u64) -> usize {
    let fitting = (memory / 4).min(memory.saturating_sub(budget) / 2) / CONNECTION;
    let by_files = (files / 2).min(files.saturating_sub(OTHER_FILES));
    by_files.min(usize::try_from(fitting).unwrap_or(usize::MAX)).clamp(16, 10_240)
}

/// Whether we run in a container, where the loopback interface is unreachable from outside.
pub(crate) fn is_container() -> bool {
    let marked = ["/.dockerenv", "/run/.containerenv"].iter().any(|path| std::path::Path::new(path).exists());
    marked || std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() || std::env::var_os("container").is_some()
}
