//! Attacks on a Misaki process: each must stay within the memory budget, leave a good client served, and pass without a
//! trace. `cargo test` runs them in short; `MISAKI_FULL=1` longer and with more of everything; `MISAKI_BINARY` names a build to
//! attack in place of the one under test.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::type_complexity,
    reason = "a test may fail"
)]
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "it sleeps, and shows its figures")]

mod attacks;
mod bodies;
mod kill;
mod neighbours;
mod process;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use attacks::{Asking, Holding, Pumping, ask, asking, holding, pumping, shaking};
use bodies::*;
use process::{CONFIG, Misaki};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::sync::Arc;

/// One attack at a time: what is measured belongs to it.
static ALONE: Mutex<()> = Mutex::new(());

fn full() -> bool {
    std::env::var_os("MISAKI_FULL").is_some()
}

/// How long an attack lasts that takes so many milliseconds in short.
fn length(milliseconds: u64) -> Duration {
    Duration::from_millis(if full() { 10_000 } else { milliseconds })
}

/// So many connections, or four times as many in full.
fn many(short: usize) -> usize {
    if full() { short * 4 } else { short }
}

/// One Misaki under a test's attacks, each beside a good client and checked for what it left behind.
struct Siege {
    _alone: MutexGuard<'static, ()>,
    misaki: Misaki,
}

impl Siege {
    fn lay() -> Siege {
        Siege::of(many(1_000) * 2 + 200, CONFIG)
    }

    fn of(files: usize, config: &str) -> Siege {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        Siege { _alone, misaki: Misaki::start(files, config) }
    }

    fn attack(&mut self, name: &str, attack: impl FnOnce(&Misaki)) {
        self.misaki.under(name, attack).check(1);
    }

    /// With four times as many connections in full, which may take four times as much.
    fn crowd(&mut self, name: &str, attack: impl FnOnce(&Misaki)) {
        self.misaki.under(name, attack).check(many(1) as u64);
    }

    fn end(mut self) {
        self.misaki.stop();
    }
}

#[test]
fn slow_heads() {
    let mut siege = Siege::lay();
    siege.crowd(&format!("{} slow heads", many(1000)), |misaki| {
        let opening = b"POST /v1/logs HTTP/1.1\r\nHost: x\r\n".to_vec();
        holding(Holding { address: misaki.http, connections: many(1000), opening, drip: b"X".to_vec() }, length(300));
    });
    siege.end();
}

#[test]
fn slow_bodies() {
    let mut siege = Siege::lay();
    for coding in ["identity", "gzip", "zstd"] {
        siege.crowd(&format!("{} slow bodies, {coding}", many(1000)), |misaki| {
            let head = format!(
                "POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\n\
                 Content-Encoding: {coding}\r\nContent-Length: 1000\r\n\r\n"
            );
            let begun: &[u8] = match coding {
                "gzip" => b"\x1f\x8b\x08\0\0\0\0\0\0\xff",
                "zstd" => b"\x28\xb5\x2f\xfd\0\x68",
                _ => b"",
            };
            let opening = [head.as_bytes(), begun].concat();
            holding(Holding { address: misaki.http, connections: many(1000), opening, drip: vec![] }, length(300));
        });
    }
    siege.end();
}

#[test]
fn slow_streams() {
    let mut siege = Siege::lay();
    siege.crowd(&format!("64 slow streams on each of {} connections", many(100)), |misaki| {
        let mut opening = http2_opening();
        for stream in 0..64 {
            opening.extend(grpc_head(stream * 2 + 1, &[("grpc-encoding", "zstd"), ("x-filler", &"x".repeat(4000))]));
            let data = [&[1, 0, 0, 0x10, 0][..], b"\x28\xb5\x2f\xfd\0\x68"].concat();
            opening.extend(frame(DATA, 0, stream * 2 + 1, &data));
        }
        holding(Holding { address: misaki.grpc, connections: many(100), opening, drip: vec![] }, length(300));
    });
    siege.end();
}

#[test]
fn endless_chunks() {
    let mut siege = Siege::lay();
    siege.crowd("chunked without end", |misaki| {
        let opening = chunked_head();
        holding(
            Holding { address: misaki.http, connections: many(300), opening, drip: b"1\r\nx\r\n".to_vec() },
            length(300),
        );
    });
    siege.attack("chunked without end, fast", |misaki| {
        let chunk = [b"10000\r\n".as_slice(), &[0; 65536], b"\r\n"].concat();
        pumping(Pumping { address: misaki.http, threads: 8, reads: true }, length(300), chunked_head, move |_| {
            chunk.clone()
        });
    });
    siege.end();
}

#[test]
fn answers_that_nobody_reads() {
    let mut siege = Siege::lay();
    siege.attack("pipelined requests, answers unread", |misaki| {
        let request = post("identity", "application/json", b"{}").repeat(50);
        pumping(Pumping { address: misaki.http, threads: 8, reads: false }, length(300), Vec::new, move |_| {
            request.clone()
        });
    });
    siege.crowd("window 0, 64 streams, answers unread", |misaki| {
        let mut opening = [PREFACE, &frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])].concat();
        for stream in 0..64 {
            opening.extend(grpc_head(stream * 2 + 1, &[]));
            opening.extend(frame(DATA, 1, stream * 2 + 1, &grpc_message(&log())));
        }
        holding(Holding { address: misaki.grpc, connections: many(200), opening, drip: vec![] }, length(300));
    });
    siege.end();
}

#[test]
fn bombs() {
    let mut siege = Siege::lay();
    for (name, coding, body) in bombs_of() {
        siege.attack(&format!("bomb: {name}"), |misaki| {
            let request = post(coding, "application/x-protobuf", &body);
            let statuses = asking(Asking { address: misaki.http, threads: 4 }, length(60), &request);
            println!("  answers {statuses:?}");
            assert!(statuses.keys().all(|status| [200, 400, 413, 503].contains(status)), "{statuses:?}");
        });
    }
    siege.end();
}

/// Of a trace that had to make room nothing stays: its place in the order of decisions did, as long as it would have waited.
#[test]
fn traces_without_end() {
    let sampling =
        "tail_sampling: {decision_wait: 10m, num_traces: 1000, policies: [{name: all, type: always_sample}]}";
    let config = CONFIG.replace("processors:\n", &format!("processors:\n  {sampling}\n")).replace(
        "traces: {receivers: [otlp], processors: [memory_limiter]",
        "traces: {receivers: [otlp], processors: [memory_limiter, tail_sampling]",
    );
    let mut siege = Siege::of(64, &config);
    siege.attack("traces of one span, one after another", |misaki| {
        for round in 0..250 {
            let request = as_traces(post("identity", "application/x-protobuf", &traces(round * 5_000, 5_000)));
            assert!(ask(misaki.http, &request).is_some());
        }
    });
    siege.end();
}

/// Ten million in full. Scraped meanwhile: what is held is shown, and the rest is refused.
#[test]
fn series_without_end() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = CONFIG.replace("{nop: }", &format!("{{nop: , prometheus: {{endpoint: '{free}'}}}}")).replace(
        "metrics: {receivers: [otlp], processors: [memory_limiter], exporters: [nop]",
        "metrics: {receivers: [otlp], processors: [memory_limiter], exporters: [prometheus]",
    );
    assert!(config.contains("[prometheus]"));
    let mut siege = Siege::of(64, &config);
    let rounds = if full() { 2_000 } else { 40 };
    siege.attack("new series, one after another", |misaki| {
        for round in 0..rounds {
            let request = as_metrics(post("identity", "application/x-protobuf", &gauges(round * 5_000, 5_000)));
            assert_eq!(ask(misaki.http, &request), Some(200));
            if round % 20 == 0 {
                assert_eq!(ask(free, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"), Some(200));
            }
        }
    });
    siege.end();
}

#[test]
fn deep_and_giant() {
    let mut siege = Siege::lay();
    for (name, kind, body) in giants() {
        siege.attack(&format!("body: {name}, {} KiB", body.len() / 1024), |misaki| {
            let request = post("identity", kind, &body);
            let request = if name.contains("histogram") { as_metrics(request) } else { request };
            let statuses = asking(Asking { address: misaki.http, threads: 2 }, length(60), &request);
            println!("  answers {statuses:?}");
            assert!(statuses.keys().all(|status| [200, 400, 413, 503].contains(status)), "{statuses:?}");
        });
    }
    siege.end();
}

#[test]
fn floods_of_frames() {
    let mut siege = Siege::lay();
    let floods: Vec<(&str, Box<dyn Fn(u32) -> Vec<u8> + Send + Sync>)> = vec![
        (
            "rapid reset",
            Box::new(|round| {
                let streams = (0..100).map(|index| (round * 100 + index) * 2 + 1);
                streams
                    .flat_map(|stream| [grpc_head(stream, &[]), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat())
                    .collect()
            }),
        ),
        (
            "reset by an error of the client",
            Box::new(|round| {
                let streams = (0..100).map(|index| (round * 100 + index) * 2 + 1);
                streams
                    .flat_map(|stream| [grpc_head(stream, &[]), frame(WINDOW_UPDATE, 0, stream, &[0; 4])].concat())
                    .collect()
            }),
        ),
        (
            "continuations",
            Box::new(|round| match round {
                0 => frame(HEADERS, 0, 1, &grpc_fields(&[])),
                _ => frame(CONTINUATION, 0, 1, &literal("x", &"y".repeat(100)).repeat(100)).repeat(20),
            }),
        ),
        (
            "empty continuations",
            Box::new(|round| match round {
                0 => frame(HEADERS, 0, 1, &grpc_fields(&[])),
                _ => frame(CONTINUATION, 0, 1, &[]).repeat(1000),
            }),
        ),
        ("settings", Box::new(|_| frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]).repeat(1000))),
        ("pings", Box::new(|_| frame(PING, 0, 0, &[7; 8]).repeat(1000))),
        (
            "empty data",
            Box::new(|round| match round {
                0 => grpc_head(1, &[]),
                _ => frame(DATA, 0, 1, &[]).repeat(1000),
            }),
        ),
        (
            "data of one byte",
            Box::new(|round| match round {
                0 => [grpc_head(1, &[]), frame(DATA, 0, 1, &[0, 0, 15, 0, 0])].concat(),
                _ => frame(DATA, 0, 1, &[0]).repeat(1000),
            }),
        ),
        (
            "padding",
            Box::new(|round| match round {
                0 => grpc_head(1, &[]),
                _ => frame(DATA, 8, 1, &[&[255][..], &[0; 255]].concat()).repeat(100),
            }),
        ),
        (
            "headers that grow from a table",
            Box::new(|round| {
                // One entry of 4,000 bytes in the table, then named again and again.
                let stream = round * 2 + 1;
                let fields = match round {
                    0 => [&[0x40, 1, b'x', 0x7f, 0xa1, 0x1e][..], &[b'y'; 4000]].concat(),
                    _ => vec![0xbe; 16_000],
                };
                frame(HEADERS, 4, stream, &fields)
            }),
        ),
        ("unknown frames", Box::new(|_| frame(0xbb, 0, 0, &[0; 16_000]).repeat(8))),
        ("priorities", Box::new(|_| frame(2, 0, 1, &[0, 0, 0, 0, 1]).repeat(1000))),
        ("window updates", Box::new(|_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]).repeat(1000))),
    ];
    for (name, flood) in floods {
        for reads in [true, false].into_iter().filter(|reads| *reads || full()) {
            let how = if reads { "" } else { ", answers unread" };
            siege.attack(&format!("flood: {name}{how}"), |misaki| {
                pumping(Pumping { address: misaki.grpc, threads: 4, reads }, length(80), http2_opening, &flood);
            });
        }
    }
    siege.end();
}

#[test]
fn full_windows() {
    let mut siege = Siege::lay();
    siege.crowd("bodies as large as the windows, then silence", |misaki| {
        let mut opening = http2_opening();
        for stream in 0..64 {
            opening.extend(grpc_head(stream * 2 + 1, &[]));
            let data = [&[0, 0, 0x10, 0, 0][..], &[0; 16_000]].concat();
            opening.extend(frame(DATA, 0, stream * 2 + 1, &data));
        }
        holding(Holding { address: misaki.grpc, connections: many(100), opening, drip: vec![] }, length(300));
    });
    siege.end();
}

/// How many connections this process may hold and the attacked one have room for, as far as so many are allowed.
fn crowd(short: usize, full_size: usize) -> usize {
    let wanted = if full() { full_size } else { short };
    let files = |connections: usize| Some((connections * 2 + 200) as u64);
    let now = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: files(wanted), maximum: now.maximum.max(files(wanted)) };
    if now.maximum.is_some() && setrlimit(Resource::Nofile, raised).is_err() {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: now.maximum, ..now });
    }
    let most = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |most| most as usize);
    wanted.min((most - 200) / 2)
}

#[test]
fn idle_connections() {
    let connections = crowd(1_000, 10_000);
    let request = post("identity", "application/x-protobuf", &log());
    // Room for the lines of a head is taken while it is read; between such blocks the heap has gaps.
    for (kind, opening, most_kib) in
        [("silent", vec![], 24), ("HTTP/1.1", request, 25), ("HTTP/2", http2_opening(), 24)]
    {
        let mut siege = Siege::of(connections * 2 + 200, CONFIG);
        let attack = |misaki: &Misaki| {
            let address = if kind == "HTTP/2" { misaki.grpc } else { misaki.http };
            holding(Holding { address, connections, opening, drip: vec![] }, length(300));
        };
        siege
            .misaki
            .under(&format!("{connections} idle connections, {kind}"), attack)
            .check_each(connections, most_kib);
        siege.end();
    }
}

#[test]
fn idle_connections_over_tls() {
    let connections = crowd(200, 2_000);
    let identity = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let inline = |pem: String| format!("{pem:?}");
    let tls = format!(
        "{{cert_pem: {}, key_pem: {}}}",
        inline(identity.cert.pem()),
        inline(identity.signing_key.serialize_pem())
    );
    let config = CONFIG.replacen("127.0.0.1:0}", &format!("127.0.0.1:0, tls: {tls}}}"), 1);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(identity.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut client = client.with_root_certificates(roots).with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec()];
    let mut siege = Siege::of(connections * 2 + 200, &config);
    let attack = |misaki: &Misaki| {
        let open = shaking(misaki.grpc, &Arc::new(client), connections, &http2_opening(), length(300));
        assert_eq!(open, connections, "handshakes that were done, of connections that are open");
    };
    siege.misaki.under(&format!("{connections} idle connections, TLS"), attack).check_each(connections, 64);
    siege.end();
}

/// So few files that a crowd takes them all: what is answered with success is on disk all the same, and no file stays open.
#[test]
fn few_files() {
    let directory = tempfile::tempdir().unwrap();
    let exporter = "{endpoint: 'http://127.0.0.1:1', retry_on_failure: {max_elapsed_time: 0}, sending_queue: {storage: \
                    file_storage, queue_size: 100000}}";
    let storage = format!("{{directory: '{}', fsync: true}}", directory.path().display());
    let config = CONFIG
        .replace("{nop: }", &format!("{{otlp_http: {exporter}}}\nextensions: {{file_storage: {storage}}}"))
        .replace("[nop]", "[otlp_http]")
        .replace("service:", "service:\n  extensions: [file_storage]");
    let mut siege = Siege::of(64, &config);
    let before = siege.misaki.open_files();
    let outcome = siege.misaki.under(&format!("{} connections, 64 files", many(500)), |misaki| {
        let opening = b"POST /v1/logs HTTP/1.1\r\nHost: x\r\n".to_vec();
        holding(Holding { address: misaki.http, connections: many(500), opening, drip: b"X".to_vec() }, length(300));
    });
    outcome.check_survival(1);
    let after = siege.misaki.open_files();
    println!("  files open {before} before, {after} after");
    assert!(after <= before + 8, "{before} files were open, now {after} are");
    siege.end();
}

/// Every place is taken by connections that say nothing: a new client still gets in at once.
#[test]
fn at_the_connection_cap() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // Of 256 open files, 128 are for connections.
    let mut misaki = Misaki::start(256, CONFIG);
    let held: Vec<_> = (0..200).map(|_| std::net::TcpStream::connect(misaki.http).unwrap()).collect();
    std::thread::sleep(Duration::from_millis(200));
    for _ in 0..20 {
        let before = std::time::Instant::now();
        assert_eq!(process::good_request(misaki.http), Some(200), "at the cap");
        assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
    }
    drop(held);
    misaki.stop();
}

/// What one client sends is work for a second or more: nobody else waits for it, on one core either.
#[test]
fn one_request_does_not_stop_the_others() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for work in neighbours::all() {
        let (mut misaki, health) = neighbours::start(work.processors);
        for clients in [1, 5] {
            let seen = neighbours::beside(&misaki, health, &work.request, clients, length(500));
            seen.check(&format!("{}, {clients} at once", work.name));
        }
        misaki.stop();
    }
}
