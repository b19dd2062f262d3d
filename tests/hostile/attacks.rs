//! The three ways to attack: hold many connections and drip, pump as fast as possible, ask the same again and again.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

pub struct Holding {
    pub address: SocketAddr,
    pub connections: usize,
    /// Sent once on each connection…
    pub opening: Vec<u8>,
    /// …and this ten times a second.
    pub drip: Vec<u8>,
}

/// Keeps connections open; one that is closed is opened again.
pub fn holding(attack: Holding, length: Duration) {
    let deadline = Instant::now() + length;
    let mut sources = (1..=16).cycle();
    let mut open: Vec<Option<(TcpStream, usize)>> = (0..attack.connections).map(|_| None).collect();
    let mut buffer = [0; 4096];
    while Instant::now() < deadline {
        for slot in &mut open {
            let Some((stream, sent)) = slot else {
                if let Ok(stream) = connect(attack.address, sources.next().unwrap()) {
                    stream.set_nonblocking(true).unwrap();
                    *slot = Some((stream, 0));
                }
                continue;
            };
            let rest = attack.opening.get(*sent..).filter(|rest| !rest.is_empty()).unwrap_or(&attack.drip);
            let written = match stream.write(rest) {
                Ok(count) => {
                    *sent += count.min(attack.opening.len().saturating_sub(*sent));
                    true
                }
                Err(error) => error.kind() == ErrorKind::WouldBlock,
            };
            let closed = matches!(stream.read(&mut buffer), Ok(0)) || !written;
            if closed {
                *slot = None;
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// From 127.0.0.`source`: each has ports of its own.
fn connect(address: SocketAddr, source: u8) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, source), 0)).into())?;
    socket.connect(&address.into())?;
    Ok(socket.into())
}

/// Shakes hands that often, says `opening` and falls silent. How many of these connections are still there at the end.
pub fn shaking(
    address: SocketAddr,
    client: &Arc<rustls::ClientConfig>,
    connections: usize,
    opening: &[u8],
    length: Duration,
) -> usize {
    const THREADS: usize = 4;
    let one = || {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut tls = rustls::ClientConnection::new(client.clone(), "localhost".try_into().unwrap()).unwrap();
        tls.complete_io(&mut stream)?;
        rustls::Stream::new(&mut tls, &mut stream).write_all(opening)?;
        stream.set_nonblocking(true)?;
        Ok::<_, std::io::Error>((tls, stream))
    };
    let started = Instant::now();
    let lane = || (0..connections / THREADS).filter_map(|_| one().ok()).collect::<Vec<_>>();
    let mut open: Vec<_> = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..THREADS).map(|_| scope.spawn(lane)).collect();
        lanes.into_iter().flat_map(|lane| lane.join().unwrap()).collect()
    });
    println!("  {} handshakes in {:.1?}", open.len(), started.elapsed());
    std::thread::sleep(length);
    open.retain_mut(|(_, stream)| {
        let mut rest = Vec::new();
        // Nothing more to read, rather than the end.
        stream.read_to_end(&mut rest).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    });
    open.len()
}

#[derive(Clone, Copy)]
pub struct Pumping {
    pub address: SocketAddr,
    pub threads: usize,
    /// Whether what comes back is read.
    pub reads: bool,
}

/// On each connection `opening`, then `round(0)`, `round(1)` and so on, until it is closed; and then again.
pub fn pumping(
    attack: Pumping,
    length: Duration,
    opening: impl Fn() -> Vec<u8> + Sync,
    round: impl Fn(u32) -> Vec<u8> + Sync,
) {
    let deadline = Instant::now() + length;
    let one = || {
        let mut buffer = vec![0; 65536];
        while Instant::now() < deadline {
            let Ok(mut stream) = TcpStream::connect(attack.address) else { continue };
            stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
            let mut reading = stream.try_clone().unwrap();
            let _ = stream.write_all(&opening());
            for number in 0.. {
                let bytes = round(number);
                if Instant::now() >= deadline {
                    break;
                }
                if let Err(error) = stream.write_all(&bytes) {
                    // A peer that has stopped reading is left standing there for a while.
                    if error.kind() == ErrorKind::WouldBlock {
                        std::thread::sleep(Duration::from_millis(300));
                    }
                    break;
                }
                if attack.reads {
                    stream.set_nonblocking(true).unwrap();
                    while let Ok(1..) = reading.read(&mut buffer) {}
                    stream.set_nonblocking(false).unwrap();
                }
            }
        }
    };
    std::thread::scope(|scope| (0..attack.threads).for_each(|_| drop(scope.spawn(one))));
}

pub struct Asking {
    pub address: SocketAddr,
    pub threads: usize,
}

/// Sends whole requests, each on a connection of its own, and counts the answers by status; 0 is none.
pub fn asking(attack: Asking, length: Duration, request: &[u8]) -> BTreeMap<u16, u64> {
    let deadline = Instant::now() + length;
    let one = || {
        let mut statuses = BTreeMap::<u16, u64>::new();
        while Instant::now() < deadline {
            if let Some(status) = ask(attack.address, request) {
                *statuses.entry(status).or_default() += 1;
            }
        }
        statuses
    };
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..attack.threads).map(|_| scope.spawn(one)).collect();
        let mut all = BTreeMap::new();
        for (status, count) in asking.into_iter().flat_map(|thread| thread.join().unwrap()) {
            *all.entry(status).or_default() += count;
        }
        all
    })
}

/// The status of one answer; `None` when there was none.
pub fn ask(address: SocketAddr, request: &[u8]) -> Option<u16> {
    ask_within(address, request, Duration::from_secs(10))
}

pub fn ask_within(address: SocketAddr, request: &[u8], patience: Duration) -> Option<u16> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(patience)).ok()?;
    let _ = stream.write_all(request);
    let mut head = [0; 12];
    stream.read_exact(&mut head).ok()?;
    std::str::from_utf8(head.get(9..)?).ok()?.parse().ok()
}
