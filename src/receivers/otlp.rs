//! The `otlp` receiver: OTLP over gRPC and HTTP (1.1 and 2), protobuf and JSON, on every port it is given.
//!
//! Built means bound. Each connection is one task on one worker; what a request may cost is bounded before it is read.

mod body;
pub mod config;
mod connection;
mod connections;
mod grpc;
mod http;
mod request;
mod socket;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ::http::HeaderMap;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::files;
use crate::diagnostics::supervisor::Watch;
use crate::network::auth::Authenticator;
use crate::network::endpoint::Listen;
use crate::network::workers::Workers;
use crate::network::{listen, tls};
use crate::telemetry::{Budget, Intake, Refusal, Share, Signal};

use super::Gates;
use config::{Config, Grpc, Http};
pub use connections::Connections;

/// While no connection can be accepted: how long until the next attempt, and how often it is said.
const REST: Duration = Duration::from_millis(20);
const SAID: Duration = Duration::from_secs(60);

/// Who judges the requests of each protocol.
#[derive(Default)]
pub struct Guards {
    pub grpc: Option<Arc<Authenticator>>,
    pub http: Option<Arc<Authenticator>>,
}

/// What every connection of the receiver shares.
pub struct Shared {
    grpc: Option<Grpc>,
    http: Option<Http>,
    guards: Guards,
    gates: Gates,
    budget: Arc<Budget>,
    connections: Arc<Connections>,
    /// Whether processors name the client.
    tells_clients: Arc<AtomicBool>,
    said: Said,
}

/// Mistakes of clients that are said once.
#[derive(Default)]
struct Said {
    tls_on_plain_port: AtomicBool,
    plain_on_tls_port: AtomicBool,
    without_credentials: AtomicBool,
    /// By signal.
    without_pipeline: [AtomicBool; 3],
    to_nowhere: AtomicBool,
    of_another_type: AtomicBool,
    malformed: AtomicBool,
    too_large: AtomicBool,
}

/// A receiver with its sockets bound.
pub struct Receiver {
    shared: Arc<Shared>,
    listeners: Vec<Listener>,
}

/// One address of one protocol. A receiver that takes its place at a reload goes on with the same socket.
#[derive(Clone)]
pub struct Listener {
    name: &'static str,
    endpoint: Listen,
    socket: Arc<listen::Listener>,
    tls: Option<Arc<Tls>>,
}

/// What new connections begin with; a reload exchanges it.
type Tls = watch::Sender<Arc<tls::Server>>;

impl Receiver {
    /// Binds every endpoint that is not among the `open`, else takes it from there. An error names the endpoint and its place.
    pub async fn bind(id: &str, config: &Config, open: &mut Vec<Listener>) -> Result<Vec<Listener>, String> {
        let mut listeners = Vec::new();
        let endpoints = [
            ("grpc", config.grpc.as_ref().map(|grpc| (&grpc.endpoint, &grpc.tls))),
            ("http", config.http.as_ref().map(|http| (&http.endpoint, &http.tls))),
        ];
        for (name, given) in endpoints {
            let Some((endpoint, tls)) = given else { continue };
            let place = format!("receivers.{id}.protocols.{name}");
            let tls = match tls.clone() {
                None => Ok(None),
                Some(tls) => {
                    files::aside(move || tls::server_config(&tls, &[b"h2", b"http/1.1"]).map(Some)).await.flatten()
                }
            };
            let tls = tls.map_err(|error| format!("failed to load TLS config ({place}): {error}"))?;
            let tls = tls.map(|tls| Arc::new(Tls::new(tls)));
            let is_open = |listener: &Listener| listener.endpoint == *endpoint && listener.name == name;
            let (kept, others): (Vec<_>, _) = std::mem::take(open).into_iter().partition(is_open);
            *open = others;
            if !kept.is_empty() {
                listeners.extend(kept.into_iter().map(|listener| Listener { tls: tls.clone(), ..listener }));
                continue;
            }
            let mut others = endpoints.iter().filter(|(other, _)| *other != name).filter_map(|(_, given)| *given);
            let is_given_twice = others.any(|(other, _)| other.overlaps(endpoint));
            let bound = listen::bind(endpoint).await.map_err(|error| {
                let why = match error.kind() {
                    io::ErrorKind::AddrInUse if is_given_twice => {
                        format!(
                            "both protocols of {id} name this port\n  help: give each its own; either one serves both"
                        )
                    }
                    io::ErrorKind::AddrInUse => format!(
                        "address in use\n  help: another collector may be running; for another port:\n        \
                         --set {place}.endpoint=localhost:14317"
                    ),
                    _ => error.to_string(),
                };
                format!("cannot listen on {} ({place}): {why}", endpoint.address)
            })?;
            for socket in bound {
                let (endpoint, socket, tls) = (endpoint.clone(), Arc::new(socket), tls.clone());
                listeners.push(Listener { name, endpoint, socket, tls });
            }
        }
        Ok(listeners)
    }

    pub fn new(
        listeners: Vec<Listener>,
        config: Config,
        guards: Guards,
        gates: Gates,
        budget: Arc<Budget>,
        connections: Arc<Connections>,
        tells_clients: Arc<AtomicBool>,
    ) -> Receiver {
        // Each port serves both protocols: one without an authenticator would be a way around that of the other.
        let Guards { grpc, http } = guards;
        let guards = Guards { grpc: grpc.clone().or(http.clone()), http: http.or(grpc) };
        let shared = Shared {
            grpc: config.grpc,
            http: config.http,
            guards,
            gates,
            budget,
            connections,
            tells_clients,
            said: Said::default(),
        };
        Receiver { shared: Arc::new(shared), listeners }
    }

    /// Serves until `stop` says so, then until what is in flight is answered.
    pub async fn run(self, workers: Arc<Workers>, stop: watch::Receiver<bool>) {
        let mut accepting = JoinSet::new();
        for listener in self.listeners {
            accepting.spawn(serve(listener, self.shared.clone(), workers.clone(), stop.clone()));
        }
        while accepting.join_next().await.is_some() {}
    }
}

/// Accepts connections until told to stop; then waits for those that are open.
async fn serve(listener: Listener, shared: Arc<Shared>, workers: Arc<Workers>, stop: watch::Receiver<bool>) {
    let watch = workers.supervisor.watch(format!("{} receiver", listener.name));
    let mut open = JoinSet::new();
    while watch.run(accept(&watch, &listener, &shared, &workers, stop.clone(), &mut open)).await.is_none() {}
    drop(listener);
    while let Some(ended) = open.join_next().await {
        watch.note(ended);
    }
}

/// Deals connections to the workers.
async fn accept(
    watch: &Watch,
    listener: &Listener,
    shared: &Arc<Shared>,
    workers: &Workers,
    mut stop: watch::Receiver<bool>,
    open: &mut JoinSet<()>,
) {
    let mut said: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            accepted = listener.socket.accept() => accepted,
            Some(ended) = open.join_next() => {
                watch.note(ended);
                continue;
            }
            _ = stop.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let entry = shared.connections.enter(peer).await;
                let worker = workers.least_loaded();
                let served = worker.serve();
                let tls = listener.tls.as_ref().map(|tls| tls.borrow().clone());
                let connection = connection::serve(stream, entry, tls, shared.clone(), stop.clone());
                open.spawn_on(
                    async move {
                        let _served = served;
                        connection.await;
                    },
                    &worker.handle,
                );
            }
            // Out of file descriptors, most likely: those that are open will free some.
            Err(error) => {
                if said.is_none_or(|said| said.elapsed() > SAID) {
                    said = Some(Instant::now());
                    tracing::warn!(%error, protocol = listener.name, "cannot accept connections");
                }
                tokio::time::sleep(REST).await;
            }
        }
    }
}

impl Listener {
    /// The address that it listens on, with the protocol section it belongs to.
    pub fn address(&self) -> (&'static str, Option<SocketAddr>) {
        (self.name, self.socket.address())
    }

    /// Certificates as they were read for another on the same socket: new connections are shown these.
    pub fn renew(&self, read: &Listener) {
        if let (Some(tls), Some(read)) = (&self.tls, &read.tls) {
            tls.send_replace(read.borrow().clone());
        }
    }
}

impl Shared {
    fn gate(gates: &[Option<Arc<dyn Intake>>; 3], signal: Signal) -> Option<&dyn Intake> {
        gates.get(signal as usize)?.as_deref().filter(|gate| gate.is_open())
    }

    fn grpc_gate(&self, signal: Signal) -> Option<&dyn Intake> {
        Shared::gate(&self.gates.grpc, signal)
    }

    fn http_gate(&self, signal: Signal) -> Option<&dyn Intake> {
        Shared::gate(&self.gates.http, signal)
    }

    /// A size limit, which is never more than what a request can hold when it is alone.
    fn limit(&self, configured: usize) -> usize {
        let share = self.budget.limit(Share::Ingest);
        configured.min(usize::try_from(share - share / 16).unwrap_or(usize::MAX))
    }

    fn grpc_limit(&self) -> usize {
        self.limit(self.grpc.as_ref().map_or(0, |grpc| grpc.max_recv_msg_size))
    }

    fn grpc_metadata(&self) -> bool {
        self.grpc.as_ref().is_some_and(|grpc| grpc.include_metadata)
    }

    /// Whether a request may come in; nothing else of it was looked at yet.
    async fn admit(&self, guard: Option<&Authenticator>, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(guard) = guard else { return Ok(()) };
        guard.admit(headers).await.map_err(|status| {
            let message = "a request was refused for its credentials: is `auth` the same in the client?";
            Shared::tell_once(&self.said.without_credentials, || message);
            Refusal::Rejected(status)
        })
    }

    /// A client sends a signal that no pipeline takes from this protocol, or something to where nothing is received.
    fn tell_of_lost(&self, signal: Option<Signal>, place: &str) {
        match signal.and_then(|signal| Some((signal, self.said.without_pipeline.get(signal as usize)?))) {
            Some((signal, said)) => Shared::tell_once(said, || {
                format!("a client sends {}, and no pipeline takes them from this receiver", signal.name())
            }),
            None => Shared::tell_once(&self.said.to_nowhere, || {
                format!("a client sends to {place}: nothing is received there")
            }),
        }
    }

    /// A client's request is not what it should be, and will not be the next time either.
    fn tell_of_refused(&self, refusal: &Refusal) {
        match refusal {
            Refusal::Malformed(why) => {
                Shared::tell_once(&self.said.malformed, || format!("a client's request is not valid OTLP: {why}"));
            }
            Refusal::TooLarge { limit, unit } => Shared::tell_once(&self.said.too_large, || {
                format!("a client's request is larger than {limit} {unit}: it is refused")
            }),
            _ => {}
        }
    }

    fn tell_once<T: std::fmt::Display>(said: &AtomicBool, message: impl FnOnce() -> T) {
        if !said.swap(true, Relaxed) {
            tracing::warn!("{}", message());
        }
    }
}
