//! Scrapes a collector each second, as Prometheus does, and counts the series that it shows.

use flate2::read::GzDecoder;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_secs(1);

pub struct Scraper {
    is_done: Arc<AtomicBool>,
    /// The series of each scrape.
    seen: JoinHandle<io::Result<Vec<u64>>>,
}

impl Scraper {
    pub fn start(address: SocketAddr) -> Scraper {
        let is_done = Arc::new(AtomicBool::new(false));
        let done = is_done.clone();
        let seen = std::thread::spawn(move || {
            let (mut seen, mut next) = (Vec::new(), Instant::now());
            while !done.load(Relaxed) {
                seen.push(scrape(address)?);
                next += INTERVAL;
                while Instant::now() < next && !done.load(Relaxed) {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            seen.push(scrape(address)?);
            Ok(seen)
        });
        Scraper { is_done, seen }
    }

    /// What was wrong with the scrapes: the last one must show so many series.
    pub fn end(self, series: u64) -> Option<String> {
        self.is_done.store(true, Relaxed);
        match self.seen.join().unwrap_or_else(|_| Err(io::Error::other("it panicked"))) {
            Ok(seen) if seen.last() == Some(&series) => None,
            Ok(seen) => Some(format!("the scrapes showed {seen:?} series, not {series}")),
            Err(error) => Some(format!("cannot scrape: {error}")),
        }
    }
}

/// Each series has one line that is neither a bucket nor a sum.
fn scrape(address: SocketAddr) -> io::Result<u64> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: text/plain;version=0.0.4\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n",
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let mut body = answer[end + 4..].to_vec();
    if head.contains("transfer-encoding: chunked") {
        body = joined(&body).ok_or(io::ErrorKind::InvalidData)?;
    }
    let mut text = String::new();
    if head.contains("content-encoding: gzip") {
        GzDecoder::new(&body[..]).read_to_string(&mut text)?;
    } else {
        text = String::from_utf8(body).map_err(io::Error::other)?;
    }
    let is_one = |line: &&str| line.contains("event_id=") && !line.contains("_bucket{") && !line.contains("_sum{");
    Ok(text.lines().filter(is_one).count() as u64)
}

/// A body without the lengths of its chunks.
fn joined(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?, 16).ok()?;
        if length == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(end + 2..end + 2 + length)?);
        rest = rest.get(end + 4 + length..)?;
    }
}
