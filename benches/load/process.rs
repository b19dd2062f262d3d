//! A collector under measurement: its process, its config file, and what the kernel says about it.

use crate::client::http_status;
use crate::generate;
use crate::rows::Row;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Linux shows CPU time in hundredths of a second on every machine that this runs on (USER_HZ).
const TICKS_PER_SECOND: f64 = 100.0;
/// A collector that accepts nothing by then has failed to start.
const START_LIMIT: Duration = Duration::from_secs(20);

pub const MISAKI: &str = "misaki";
pub const GO: &str = "go";

/// Something to measure: a binary that takes `--config FILE`.
#[derive(Clone, Debug)]
pub struct Program {
    pub name: String,
    pub binary: PathBuf,
    /// The folder of its configs, one for each row that it can do; without one it reads the Go collector's.
    pub configs: Option<PathBuf>,
    /// What it is run under: a program and its arguments.
    pub under: Vec<String>,
}

/// A running collector; it is killed when this is dropped.
pub struct Collector {
    pub grpc: SocketAddr,
    pub http: SocketAddr,
    /// Where it is scraped.
    pub exposed: SocketAddr,
    /// From the moment before the process was made until it accepted one log record over HTTP.
    pub started: Duration,
    /// Log records seen on its standard output.
    pub printed: Arc<AtomicU64>,
    child: Child,
}

/// A `misaki tail` of a collector; it is killed when this is dropped.
pub struct Viewer {
    /// Lines seen on its standard output.
    pub printed: Arc<AtomicU64>,
    child: Child,
}

/// What a collector has used so far.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    pub cpu: f64,
    pub resident: u64,
    pub resident_peak: u64,
}

impl Program {
    pub fn is_misaki(&self) -> bool {
        self.name == MISAKI
    }

    /// What it is given for a row; `None` if it cannot do that.
    pub fn config(&self, row: &Row) -> Option<String> {
        match &self.configs {
            Some(folder) => fs::read_to_string(folder.join(format!("{}.yaml", row.id))).ok(),
            None if row.measure.is_ours_alone() && !self.is_misaki() => None,
            None => Some(row.config.text(self.is_misaki())),
        }
    }

    /// Looks at what passes through one that this program started, as far as `expression` is true for it.
    pub fn view(&self, collector: &Collector, expression: &str) -> io::Result<Viewer> {
        let mut child = Command::new(&self.binary)
            .args(["tail", "--pid", &collector.child.id().to_string(), expression])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let printed = Arc::new(AtomicU64::new(0));
        count_marks(child.stdout.take().expect("stdout is piped"), b"\n", &printed)?;
        Ok(Viewer { printed, child })
    }

    /// Starts it in the (emptied) folder `work` and waits until it has accepted one record.
    /// The config may name GRPC_PORT, HTTP_PORT, EXPOSED_PORT, SINK_PORT and WORK_DIR.
    pub fn start(&self, config: &str, sink: SocketAddr, work: &Path) -> io::Result<Collector> {
        let _ = fs::remove_dir_all(work);
        fs::create_dir_all(work)?;
        let (grpc, http, exposed) = (free_port()?, free_port()?, free_port()?);
        let config = config
            .replace("GRPC_PORT", &grpc.port().to_string())
            .replace("HTTP_PORT", &http.port().to_string())
            .replace("EXPOSED_PORT", &exposed.port().to_string())
            .replace("SINK_PORT", &sink.port().to_string())
            .replace("WORK_DIR", &work.display().to_string());
        let file = work.join("config.yaml");
        fs::write(&file, config)?;
        let log = work.join("stderr.log");

        let began = Instant::now();
        let mut words = self.under.iter().map(AsRef::as_ref).chain([self.binary.as_os_str()]);
        let mut child = Command::new(words.next().unwrap_or_default())
            .args(words)
            .arg("--config")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            .spawn()
            .map_err(|error| io::Error::other(format!("cannot start {}: {error}", self.binary.display())))?;
        let printed = Arc::new(AtomicU64::new(0));
        let output = child.stdout.take().expect("stdout is piped");
        count_marks(output, b"LogRecord #", &printed)?;

        let mut collector = Collector { grpc, http, exposed, started: Duration::ZERO, printed, child };
        match collector.knock(began) {
            Ok(started) => collector.started = started,
            Err(error) => return Err(io::Error::other(format!("{error}{}", tail(&log)))),
        }
        Ok(collector)
    }
}

impl Collector {
    fn knock(&mut self, began: Instant) -> io::Result<Duration> {
        let request = generate::knock();
        loop {
            match knock_once(self.http, &request) {
                Ok(200) => return Ok(began.elapsed()),
                _ if began.elapsed() > START_LIMIT => {
                    return Err(io::Error::other(format!("accepted nothing within {START_LIMIT:?}")));
                }
                _ => {}
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("ended at start ({status})")));
            }
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    pub fn usage(&self) -> io::Result<Usage> {
        let process = PathBuf::from(format!("/proc/{}", self.child.id()));
        let status = fs::read_to_string(process.join("status"))?;
        let kilobytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
        };
        Ok(Usage {
            cpu: cpu_seconds(&process.join("stat"))?,
            resident: kilobytes("VmRSS:"),
            resident_peak: kilobytes("VmHWM:"),
        })
    }
}

impl Collector {
    /// Asks it to end, and waits until it has.
    pub fn end(mut self) -> io::Result<()> {
        let ended = Command::new("kill").arg(self.child.id().to_string()).status()?;
        if !ended.success() {
            return Err(io::Error::other("it has ended already"));
        }
        self.child.wait().map(drop)
    }
}

impl Viewer {
    pub fn has_ended(&mut self) -> io::Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The driver's own CPU time: generator, sink and all.
pub fn own_cpu_seconds() -> io::Result<f64> {
    cpu_seconds(Path::new("/proc/self/stat"))
}

/// CPU time that the whole machine was busy, and that the host took from it.
pub fn machine_cpu_seconds() -> io::Result<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Vec<f64> = line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal guest: guest time is part of user.
    let busy = ticks.iter().take(8).sum::<f64>() - ticks.iter().skip(3).take(2).sum::<f64>();
    Ok(busy / TICKS_PER_SECOND)
}

/// utime + stime, over all threads, the ended ones too.
fn cpu_seconds(stat: &Path) -> io::Result<f64> {
    let stat = fs::read_to_string(stat)?;
    // The name may hold spaces and parentheses; after it, utime and stime are the 12th and 13th word.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = after_name.split_whitespace().skip(11).take(2).filter_map(|word| word.parse::<f64>().ok());
    Ok(ticks.sum::<f64>() / TICKS_PER_SECOND)
}

pub fn free_port() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

fn knock_once(address: SocketAddr, request: &[u8]) -> io::Result<u16> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(request)?;
    let mut answer = [0; 512];
    let length = stream.read(&mut answer)?;
    http_status(&answer[..length]).map_err(io::Error::other)
}

/// Reads what is printed, as a log shipper would, and counts the marks in it: one a record.
fn count_marks(output: impl Read + Send + 'static, mark: &'static [u8], counter: &Arc<AtomicU64>) -> io::Result<()> {
    let counter = counter.clone();
    std::thread::Builder::new().name("pipe".into()).spawn(move || count(output, mark, &counter))?;
    Ok(())
}

fn count(mut output: impl Read, mark: &[u8], counter: &AtomicU64) {
    let finder = memchr::memmem::Finder::new(mark);
    let mut buffer = vec![0; 256 * 1024];
    let mut kept = 0;
    while let Ok(length @ 1..) = output.read(&mut buffer[kept..]) {
        let end = kept + length;
        counter.fetch_add(finder.find_iter(&buffer[..end]).count() as u64, Relaxed);
        // A mark may be cut in two: keep what is one byte short of a whole one.
        let tail = end.saturating_sub(mark.len() - 1);
        buffer.copy_within(tail..end, 0);
        kept = end - tail;
    }
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(4)..].iter().map(|line| format!("\n      {line}")).collect()
}
