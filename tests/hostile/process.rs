//! A Misaki process under attack, and what is measured of it: memory from `/proc`, processor time, a good client's p99.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::attacks::ask;
use crate::bodies::{log, post};

/// The budget that the config below sets: limit less spike.
const BUDGET_KIB: u64 = 16 << 10;
/// What connections, of which there are up to a thousand, and the allocator may take beside the budget.
const BESIDE_KIB: u64 = 32 << 10;
/// What it takes to serve the good client beside a crowd.
const GOOD_CLIENT_KIB: u64 = 4 << 10;

pub const CONFIG: &str = "
receivers:
  otlp: {protocols: {grpc: {endpoint: 127.0.0.1:0}, http: {endpoint: 127.0.0.1:0}}}
processors:
  memory_limiter: {check_interval: 1s, limit_mib: 20, spike_limit_mib: 4}
exporters: {nop: }
service:
  telemetry: {metrics: {level: none}}
  pipelines:
    logs: {receivers: [otlp], processors: [memory_limiter], exporters: [nop]}
    metrics: {receivers: [otlp], processors: [memory_limiter], exporters: [nop]}
    traces: {receivers: [otlp], processors: [memory_limiter], exporters: [nop]}
";

pub struct Misaki {
    child: Child,
    pub grpc: SocketAddr,
    pub http: SocketAddr,
}

/// What an attack did.
pub struct Outcome {
    name: String,
    rest_kib: u64,
    peak_kib: u64,
    before: Duration,
    during: Duration,
    served: usize,
    failed: usize,
    idle: f64,
}

impl Misaki {
    /// Starts a process that may open so many files; half of them may be connections. `MISAKI_BINARY` names another one.
    pub fn start(files: usize, config: &str) -> Misaki {
        Misaki::start_by("exec", files, config)
    }

    /// The same on one core, where the system can keep it there.
    pub fn start_on_one_core(files: usize, config: &str) -> Misaki {
        let has_taskset = Command::new("taskset").arg("-V").output().is_ok();
        Misaki::start_by(if has_taskset { "exec taskset -c 0" } else { "exec" }, files, config)
    }

    fn start_by(start: &str, files: usize, config: &str) -> Misaki {
        let command = format!("ulimit -n {files}; {start} \"$0\" --config \"$1\"");
        let binary = std::env::var("MISAKI_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_misaki").to_owned());
        let mut child = Command::new("sh")
            .args(["-c", &command, &binary, &format!("yaml:{config}")])
            .env("NO_COLOR", "1")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let started = lines.by_ref().map_while(Result::ok).find(|line| line.contains("127.0.0.1:")).expect("it starts");
        // What it says later must not fill the pipe.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| println!("  {line}")));
        let mut addresses = started.split("127.0.0.1:").skip(1).map(|rest| {
            let port = rest.split(|character: char| !character.is_ascii_digit()).next().unwrap();
            SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap()))
        });
        let (grpc, http) = (addresses.next().unwrap(), addresses.next().unwrap());
        Misaki { child, grpc, http }
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).expect("the process lives")
    }

    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Without the pages of the program file: a build with debug information has many.
    fn own_kib(&self, name: &str) -> u64 {
        self.status_kib(name).saturating_sub(self.status_kib("RssFile"))
    }

    fn status_kib(&self, name: &str) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Processor time so far, in ticks of 10 ms.
    fn ticks(&self) -> u64 {
        let stat = self.proc("stat");
        let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// A good client's latencies while `work` runs; also how many of its requests failed.
    fn beside(&self, work: impl FnOnce()) -> (Vec<Duration>, usize) {
        let done = AtomicBool::new(false);
        let taken = Mutex::new((Vec::new(), 0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    let before = Instant::now();
                    let answer = good_request(self.http);
                    let mut taken = taken.lock().unwrap();
                    match answer {
                        Some(200) => taken.0.push(before.elapsed()),
                        _ => taken.1 += 1,
                    }
                    drop(taken);
                    std::thread::sleep(Duration::from_millis(2));
                }
            });
            work();
            done.store(true, Relaxed);
        });
        taken.into_inner().unwrap()
    }

    pub fn under(&mut self, name: &str, attack: impl FnOnce(&Misaki)) -> Outcome {
        let (quiet, _) = self.beside(|| std::thread::sleep(Duration::from_millis(50)));
        let rest_kib = self.own_kib("VmRSS");
        // From here on, the highest resident memory is that of this attack.
        std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").unwrap();
        let (busy, failed) = self.beside(|| attack(self));
        let peak_kib = self.own_kib("VmHWM");
        // It comes to rest: within five seconds there is a stretch in which it does next to nothing.
        let mut idle = 1.0f64;
        for _ in 0..50 {
            let before = self.ticks();
            std::thread::sleep(Duration::from_millis(100));
            idle = (self.ticks() - before) as f64 / 10.0;
            if idle <= 0.1 {
                break;
            }
        }
        assert!(self.child.try_wait().unwrap().is_none(), "{name}: the process ended");
        assert_eq!(good_request(self.http), Some(200), "{name}: a good client afterwards");
        let name = name.to_owned();
        let (before, served, during) = (p99(quiet), busy.len(), p99(busy));
        let outcome = Outcome { name, rest_kib, peak_kib, before, during, served, failed, idle };
        println!("{outcome}");
        outcome
    }

    /// Asks it to end and waits for it.
    pub fn stop(&mut self) {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        assert!(self.child.wait().unwrap().success(), "an orderly end");
    }
}

impl Drop for Misaki {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Outcome {
    /// With so many thousands of connections.
    pub fn check(&self, thousands: u64) {
        self.check_survival(thousands);
        self.check_latency();
    }

    /// However long a good client had to wait.
    pub fn check_survival(&self, thousands: u64) {
        assert!(self.peak_kib <= BUDGET_KIB + BESIDE_KIB * thousands, "{self}");
        self.check_service();
    }

    /// Of a crowd each takes at most so much, and nobody suffers.
    pub fn check_each(&self, connections: usize, most_kib: u64) {
        let more_kib = self.peak_kib.saturating_sub(self.rest_kib);
        println!("  {:.1} KiB for each of {connections}", more_kib as f64 / connections as f64);
        assert!(more_kib <= connections as u64 * most_kib + GOOD_CLIENT_KIB, "{more_kib} KiB more: {self}");
        self.check_service();
        self.check_latency();
    }

    fn check_service(&self) {
        assert!(self.served > 0, "nobody was served: {self}");
        assert!(self.idle <= 0.1, "it does not come to rest: {self}");
    }

    fn check_latency(&self) {
        // Two cores that others use too: a bound that only a real stall exceeds.
        assert!(self.during <= self.before * 2 + Duration::from_secs(5), "{self}");
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        let Outcome { name, peak_kib, rest_kib: _, before, during, served, failed, idle } = self;
        let peak = *peak_kib as f64 / 1024.0;
        write!(out, "{name}: peak {peak:.1} MiB, good client {served} served, {failed} failed, ")?;
        write!(out, "p99 {during:.1?} (alone {before:.1?}), idle at {:.0} % CPU", idle * 100.0)
    }
}

pub fn p99(mut latencies: Vec<Duration>) -> Duration {
    latencies.sort();
    latencies.get(latencies.len() * 99 / 100).copied().unwrap_or_default()
}

pub fn good_request(address: SocketAddr) -> Option<u16> {
    ask(address, &post("identity", "application/x-protobuf", &log()))
}
