//! A receiver's ports: bound before anything else is built, and handed to its successor at a reload.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;

use crate::config::files;

use super::endpoint::{Address, Listen};
use super::listen::{self, Listener};
use super::tls::{self, ServerTls};

/// A port that a component requests.
pub(crate) struct Asked<'a> {
    /// The protocol's name.
    pub(crate) name: &'static str,
    /// The config path of the requesting section.
    pub(crate) place: String,
    pub(crate) endpoint: &'a Listen,
    pub(crate) tls: &'a Option<ServerTls>,
    pub(crate) alpn: &'static [&'static [u8]],
}

impl Asked<'_> {
    /// Advice for choosing another port.
    fn elsewhere(&self) -> String {
        let Address::Tcp { port, .. } = self.endpoint.address else { return String::new() };
        let port = port.checked_add(10_000).unwrap_or(port / 2);
        format!("\n        --set {}.endpoint=localhost:{port}", self.place)
    }
}

/// One listening address of one protocol. At a reload, the next receiver takes over the socket.
#[derive(Clone)]
pub(crate) struct Port {
    pub(crate) name: &'static str,
    endpoint: Listen,
    pub(crate) socket: Arc<Listener>,
    pub(crate) tls: Option<Arc<Tls>>,
}

/// The TLS settings for new connections; a reload exchanges them.
type Tls = watch::Sender<Arc<tls::Server>>;

impl Port {
    /// The protocol and the address it listens on.
    pub(crate) fn address(&self) -> (&'static str, Option<SocketAddr>) {
        (self.name, self.socket.address())
    }

    /// Takes over the certificates of another port on the same socket, for new connections.
    pub(crate) fn renew(&self, read: &Port) {
        if let (Some(tls), Some(read)) = (&self.tls, &read.tls) {
            tls.send_replace(read.borrow().clone());
        }
    }
}

/// Why the collector does not start or reload, and what to do about it.
#[derive(Debug)]
pub struct CannotStart {
    pub why: String,
    pub help: Option<String>,
}

impl From<String> for CannotStart {
    fn from(why: String) -> CannotStart {
        CannotStart { why, help: None }
    }
}

/// Binds everything that `id` requests; already bound ports are taken from `open`. An error names the endpoint and its
/// place.
pub(crate) async fn bind(id: &str, all: &[Asked<'_>], open: &mut Vec<Port>) -> Result<Vec<Port>, CannotStart> {
    let mut ports = Vec::new();
    for asked in all {
        let Asked { name, place, endpoint, alpn, .. } = asked;
        let tls = match asked.tls.clone() {
            None => Ok(None),
            Some(tls) => {
                let alpn = *alpn;
                files::aside(move || tls::server_config(&tls, alpn).map(Some)).await.flatten()
            }
        };
        let tls = tls.map_err(|error| format!("failed to load TLS config ({place}): {error}"))?;
        let tls = tls.map(|tls| Arc::new(Tls::new(tls)));
        let is_open = |port: &Port| port.endpoint == **endpoint && port.name == *name;
        let (kept, others): (Vec<_>, _) = std::mem::take(open).into_iter().partition(is_open);
        *open = others;
        if !kept.is_empty() {
            ports.extend(kept.into_iter().map(|port| Port { tls: tls.clone(), ..port }));
            continue;
        }
        let is_given_twice = all.iter().any(|other| other.name != *name && other.endpoint.overlaps(endpoint));
        let bound = listen::bind(endpoint).await.map_err(|error| {
            let (why, help) = match error.kind() {
                io::ErrorKind::AddrInUse if is_given_twice => {
                    let why = format!("both protocols of {id} name this port");
                    (why, Some("give each its own; either one serves both".to_owned()))
                }
                io::ErrorKind::AddrInUse => {
                    let ways: String = all.iter().map(Asked::elsewhere).collect();
                    let help = format!("another collector may be running; for other ports:{ways}");
                    ("address in use".to_owned(), Some(help))
                }
                _ => (error.to_string(), None),
            };
            CannotStart { why: format!("cannot listen on {} ({place}): {why}", endpoint.address), help }
        })?;
        for socket in bound {
            ports.push(Port { name, endpoint: (*endpoint).clone(), socket: Arc::new(socket), tls: tls.clone() });
        }
    }
    Ok(ports)
}
