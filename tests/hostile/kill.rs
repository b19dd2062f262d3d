//! kill -9 under load: what was answered with success arrives, whatever moment the process was ended at.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use misaki::face::otlp::wire::put_bytes;

use crate::attacks::ask;
use crate::bodies::post;

const CLIENTS: usize = 8;

/// An upstream for OTLP over HTTP that keeps the names of what it took, and may be away.
struct Upstream {
    address: SocketAddr,
    arrived: Arc<Mutex<BTreeMap<String, usize>>>,
    away: Arc<AtomicBool>,
}

impl Upstream {
    fn start() -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (arrived, away) = (Arc::new(Mutex::new(BTreeMap::new())), Arc::new(AtomicBool::new(false)));
        let shared = (arrived.clone(), away.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (arrived, away) = shared.clone();
                std::thread::spawn(move || serve(stream, &arrived, &away));
            }
        });
        Upstream { address, arrived, away }
    }
}

fn serve(mut stream: std::net::TcpStream, arrived: &Mutex<BTreeMap<String, usize>>, away: &AtomicBool) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if line == "\r\n" {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        if away.load(Relaxed) {
            stream.write_all(b"HTTP/1.1 503 Away\r\ncontent-length: 0\r\n\r\n").ok()?;
            continue;
        }
        let text = String::from_utf8_lossy(&body);
        let mut arrived = arrived.lock().unwrap();
        for name in text.split('<').skip(1).filter_map(|rest| rest.split_once('>')) {
            *arrived.entry(name.0.to_owned()).or_default() += 1;
        }
        drop(arrived);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").ok()?;
    }
}

fn start(directory: &std::path::Path, upstream: SocketAddr, queue: &str) -> (Child, SocketAddr) {
    start_with(1024, directory, upstream, queue)
}

/// Starts a process that may open so many files.
fn start_with(files: usize, directory: &std::path::Path, upstream: SocketAddr, queue: &str) -> (Child, SocketAddr) {
    let config = format!(
        "
receivers: {{otlp: {{protocols: {{http: {{endpoint: 127.0.0.1:0}}}}}}}}
extensions: {{file_storage: {{directory: {}, timeout: 5s, max_size: 1073741824}}}}
exporters:
  otlp_http:
    endpoint: http://{upstream}
    compression: none
    retry_on_failure: {{initial_interval: 20ms, max_interval: 100ms}}
    sending_queue: {{queue_size: 1000000, storage: file_storage, {queue}}}
service:
  extensions: [file_storage]
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{logs: {{receivers: [otlp], exporters: [otlp_http]}}}}
",
        directory.display()
    );
    let command = format!("ulimit -n {files}; exec \"$0\" --config \"$1\"");
    let mut child = Command::new("sh")
        .args(["-c", &command, env!("CARGO_BIN_EXE_misaki"), &format!("yaml:{config}")])
        .env("NO_COLOR", "1")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut said = Vec::new();
    let started = lines
        .by_ref()
        .map_while(Result::ok)
        .inspect(|line| said.push(line.clone()))
        .find(|line| line.contains("listening"));
    let Some(started) = started else { panic!("it does not start: {said:#?}") };
    for line in &said {
        assert!(!line.contains("damaged"), "{line}");
    }
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    let port = started.split("127.0.0.1:").nth(1).unwrap();
    let port = port.split(|character: char| !character.is_ascii_digit()).next().unwrap();
    (child, SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap())))
}

fn record(name: &str) -> Vec<u8> {
    let wrap = |number, message: &[u8]| {
        let mut out = Vec::new();
        put_bytes(&mut out, number, message);
        out
    };
    // AnyValue in LogRecord in ScopeLogs in ResourceLogs in the request.
    let body = wrap(1, format!("<{name}>{}", "x".repeat(name.len() * 37 % 900)).as_bytes());
    [5, 2, 2, 1].into_iter().fold(body, |message, number| wrap(number, &message))
}

fn kills(count: usize, queue: &str, always_away: bool) {
    let _alone = crate::ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let directory = tempfile::tempdir().unwrap();
    let upstream = Upstream::start();
    let (acknowledged, sent) = (Mutex::new(BTreeSet::new()), AtomicUsize::new(0));
    let mut moments = 0x2545_f491_4f6c_dd1d_u64;
    for life in 0..count {
        upstream.away.store(always_away || life % 3 == 1, Relaxed);
        let (mut child, address) = start(directory.path(), upstream.address, queue);
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let (ended, acknowledged, sent) = (&ended, &acknowledged, &sent);
                scope.spawn(move || {
                    while !ended.load(Relaxed) {
                        let name = format!("{client}-{}", sent.fetch_add(1, Relaxed));
                        let request = post("identity", "application/x-protobuf", &record(&name));
                        if ask(address, &request) == Some(200) {
                            acknowledged.lock().unwrap().insert(name);
                        }
                    }
                });
            }
            moments = moments.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            std::thread::sleep(Duration::from_millis(50 + (moments >> 33) % 500));
            child.kill().unwrap();
            child.wait().unwrap();
            ended.store(true, Relaxed);
        });
    }
    upstream.away.store(false, Relaxed);
    let (mut child, _) = start(directory.path(), upstream.address, queue);
    let acknowledged = acknowledged.into_inner().unwrap();
    let missing = || {
        let arrived = upstream.arrived.lock().unwrap();
        acknowledged.iter().filter(|name| !arrived.contains_key(*name)).cloned().collect::<Vec<_>>()
    };
    // A backlog takes its time: it is over when nothing more arrives.
    let (mut arrived, mut since) = (0, Instant::now());
    while since.elapsed() < Duration::from_secs(20) && !missing().is_empty() {
        std::thread::sleep(Duration::from_millis(500));
        let now = upstream.arrived.lock().unwrap().len();
        if now > arrived {
            (arrived, since) = (now, Instant::now());
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let lost = missing();
    let arrived = upstream.arrived.lock().unwrap();
    let twice: usize = arrived.values().map(|count| count - 1).sum();
    println!(
        "{count} kills: {} acknowledged, {} lost, {} arrived, {twice} twice",
        acknowledged.len(),
        lost.len(),
        arrived.len()
    );
    assert!(acknowledged.len() > count, "it was under load");
    assert!(lost.is_empty(), "{lost:?}");
    assert!(arrived.keys().all(|name| {
        name.split_once('-').is_some_and(|(_, number)| number.parse::<usize>().unwrap() < sent.load(Relaxed))
    }));
    // Of each life no more than what was under way and what was settled within its last moments.
    assert!(twice <= count * 1000, "{twice} came twice");
}

/// With next to no files to open, and clients that take all that are for connections: what is acknowledged is on disk, and
/// it recovers at once.
#[test]
fn out_of_files() {
    let _alone = crate::ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let directory = tempfile::tempdir().unwrap();
    let upstream = Upstream::start();
    upstream.away.store(true, Relaxed);
    let (mut child, address) = start_with(64, directory.path(), upstream.address, "num_consumers: 2");
    let held: Vec<_> = (0..200).filter_map(|_| std::net::TcpStream::connect(address).ok()).collect();
    let (mut acknowledged, mut slowest) = (BTreeSet::new(), Duration::ZERO);
    let mut send = |name: String, acknowledged: &mut BTreeSet<String>| {
        let before = Instant::now();
        let is_taken = ask(address, &post("identity", "application/x-protobuf", &record(&name))) == Some(200);
        slowest = slowest.max(before.elapsed());
        is_taken && acknowledged.insert(name)
    };
    let served = (0..50).filter(|number| send(format!("0-{number}"), &mut acknowledged)).count();
    drop(held);
    let begun = Instant::now();
    while !send("0-50".to_owned(), &mut acknowledged) {
        assert!(begun.elapsed() < Duration::from_secs(5), "it does not recover");
    }
    let recovered = begun.elapsed();
    child.kill().unwrap();
    child.wait().unwrap();
    upstream.away.store(false, Relaxed);
    let (mut child, _) = start(directory.path(), upstream.address, "num_consumers: 2");
    let missing = || {
        let arrived = upstream.arrived.lock().unwrap();
        acknowledged.iter().filter(|name| !arrived.contains_key(*name)).count()
    };
    let started = Instant::now();
    while missing() > 0 && started.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    println!(
        "64 files, 200 connections: {served} of 50 served, the slowest in {slowest:.1?}, recovered in {recovered:.1?}"
    );
    assert!(served > 0 && missing() == 0, "{} lost", missing());
}

fn how_many() -> usize {
    if crate::full() { 200 } else { 8 }
}

#[test]
fn killed_under_load() {
    kills(how_many(), "num_consumers: 4", false);
}

#[test]
fn killed_while_the_upstream_is_away() {
    kills(how_many(), "batch: {min_size: 100, flush_timeout: 20ms}", true);
}

#[test]
fn killed_while_it_writes_only_when_no_answer_comes() {
    kills(how_many(), "wait_for_result: true", false);
}
