//! Listening sockets for all addresses of an endpoint.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use super::Stream;
use super::endpoint::{Address, Listen};

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 1024;

#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(tokio::net::UnixListener),
}

/// An accepted socket; it becomes a stream on the runtime that calls this.
pub(crate) type Accepted = Box<dyn FnOnce() -> io::Result<Stream> + Send>;

/// Binds all addresses of an endpoint; for "every interface" the first that works is enough.
pub(crate) async fn bind(listen: &Listen) -> io::Result<Vec<Listener>> {
    #[cfg(unix)]
    if let Address::Unix(path) = &listen.address {
        return Ok(vec![Listener::Unix(bind_unix(path)?)]);
    }
    let mut bound: Vec<Listener> = Vec::new();
    let mut failure = None;
    for mut address in listen.addresses().await? {
        // A port chosen by the system for the first address is used for the others too.
        if let (0, Some(first)) = (address.port(), bound.first().and_then(Listener::address)) {
            address.set_port(first.port());
        }
        match bind_tcp(address, listen.is_everywhere()) {
            Ok(listener) => bound.push(Listener::Tcp(listener)),
            // A machine without IPv6 has no [::1]; the other address is enough then.
            Err(error) if matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported) => {
                failure = Some(error);
            }
            Err(error) => return Err(error),
        }
        if listen.is_everywhere() && !bound.is_empty() {
            break;
        }
    }
    if let (true, Some(error)) = (bound.is_empty(), failure) { Err(error) } else { Ok(bound) }
}

fn bind_tcp(address: SocketAddr, everywhere: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(cfg!(unix))?;
    if address.is_ipv6() {
        socket.set_only_v6(!everywhere)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Binds a Unix socket; replaces a socket file on which nothing listens any more.
#[cfg(unix)]
fn bind_unix(path: &std::path::Path) -> io::Result<tokio::net::UnixListener> {
    use std::os::unix::fs::FileTypeExt;
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    if is_socket && std::os::unix::net::UnixStream::connect(path).is_err() {
        std::fs::remove_file(path)?;
    }
    tokio::net::UnixListener::bind(path)
}

impl Listener {
    /// Accepts a connection, with the peer's address.
    pub(crate) async fn accept(&self) -> io::Result<(Accepted, Option<SocketAddr>)> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Answers are small and must not be delayed.
                stream.set_nodelay(true)?;
                let stream = stream.into_std()?;
                // A socket on `::` reports an IPv4 client as ::ffff:192.0.2.1.
                let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                Ok((Box::new(|| Ok(Box::new(tokio::net::TcpStream::from_std(stream)?))), Some(peer)))
            }
            #[cfg(unix)]
            Listener::Unix(listener) => {
                let stream = listener.accept().await?.0.into_std()?;
                Ok((Box::new(|| Ok(Box::new(tokio::net::UnixStream::from_std(stream)?))), None))
            }
        }
    }

    pub(super) fn address(&self) -> Option<SocketAddr> {
        match self {
            Listener::Tcp(listener) => listener.local_addr().ok(),
            #[cfg(unix)]
            Listener::Unix(_) => None,
        }
    }
}
