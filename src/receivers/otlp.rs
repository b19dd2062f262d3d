//! The `otlp` receiver: OTLP over gRPC and HTTP (1.1 and 2), protobuf and JSON, on every configured port.
//!
//! Its ports are bound before it exists. Each connection is one task on one worker; a request's cost is limited before
//! it is read.

mod body;
pub(crate) mod config;
mod connection;
mod grpc;
mod http;
mod request;
mod socket;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ::http::HeaderMap;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::diagnostics::supervisor::Watch;
use crate::extensions::{Named, Purpose};
use crate::network::auth::Authenticator;
use crate::network::connections::Connections;
use crate::network::ports::{self, Asked, Port};
use crate::network::settings::Listening;
use crate::network::workers::Workers;
use crate::telemetry::{Answer, Budget, Intake, Refusal, Share, Signal};

use super::{Binding, BySignal, ReceiverParts, ReceiverSettings, Run};
use body::Unread;
use config::{Config, Grpc, Http};

/// After a failed accept: pause before the next attempt, and interval between log lines.
const REST: Duration = Duration::from_millis(20);
const SAID: Duration = Duration::from_secs(60);

/// The authenticators of each protocol.
#[derive(Default)]
struct Guards {
    grpc: Option<Arc<Authenticator>>,
    http: Option<Arc<Authenticator>>,
}

/// State common to all connections of the receiver.
struct Shared {
    grpc: Option<Grpc>,
    http: Option<Http>,
    guards: Guards,
    grpc_gates: BySignal,
    http_gates: BySignal,
    budget: Arc<Budget>,
    connections: Arc<Connections>,
    /// Whether a processor needs to know the client.
    tells_clients: Arc<AtomicBool>,
    said: Said,
}

/// Client mistakes that are logged once.
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

const GRPC: &str = "protocols.grpc.auth.authenticator";
const HTTP: &str = "protocols.http.auth.authenticator";
const ALPN: &[&[u8]] = &[b"h2", b"http/1.1"];

impl ReceiverSettings for Config {
    fn signals(&self) -> &'static [Signal] {
        &Signal::ALL
    }

    fn transports(&self) -> &'static [&'static str] {
        &["grpc", "http"]
    }

    fn named(&self) -> Vec<Named> {
        let (grpc, http) = (self.grpc.as_ref(), self.http.as_ref());
        let auth = [(GRPC, grpc.map(|grpc| &grpc.auth)), (HTTP, http.map(|http| &http.auth))];
        auth.into_iter().filter_map(|(key, auth)| Named::authenticator(auth?, key, Purpose::Server)).collect()
    }

    fn listens(&self) -> Vec<Listening> {
        let (grpc, http) = (self.grpc.as_ref(), self.http.as_ref());
        let both = [
            (&["protocols", "grpc", "endpoint"], "gRPC", grpc.map(|grpc| &grpc.endpoint)),
            (&["protocols", "http", "endpoint"], "HTTP", http.map(|http| &http.endpoint)),
        ];
        let listening = |(keys, protocol, endpoint): (&'static [&'static str; 3], _, Option<&_>)| {
            Some(Listening { keys, protocol, endpoint: Clone::clone(endpoint?) })
        };
        both.into_iter().filter_map(listening).collect()
    }

    fn bind<'a>(&'a self, id: &'a str, open: &'a mut Vec<Port>) -> Binding<'a> {
        let (grpc, http) = (self.grpc.as_ref(), self.http.as_ref());
        let both = [
            ("grpc", grpc.map(|grpc| (&grpc.endpoint, &grpc.tls))),
            ("http", http.map(|http| (&http.endpoint, &http.tls))),
        ];
        let asked = both.into_iter().filter_map(move |(name, given)| {
            let (endpoint, tls) = given?;
            Some(Asked { name, place: format!("receivers.{id}.protocols.{name}"), endpoint, tls, alpn: ALPN })
        });
        let asked: Vec<_> = asked.collect();
        Box::pin(async move { ports::bind(id, &asked, open).await })
    }

    fn start(&self, parts: ReceiverParts) -> Vec<Run> {
        let ReceiverParts { ports, guards, gates, budget, connections, tells_clients, workers, stop, .. } = parts;
        let guard = |key| guards.iter().find(|(known, _)| *known == key).map(|(_, guard)| guard.clone());
        let (grpc, http) = (guard(GRPC), guard(HTTP));
        let shared = Arc::new(Shared {
            grpc: self.grpc.clone(),
            http: self.http.clone(),
            // Each port serves both protocols: without an authenticator on one, it would bypass the other's.
            guards: Guards { grpc: grpc.clone().or(http.clone()), http: http.or(grpc) },
            grpc_gates: gates.of("grpc"),
            http_gates: gates.of("http"),
            budget,
            connections,
            tells_clients,
            said: Said::default(),
        });
        let run = |port| Box::pin(serve(port, shared.clone(), workers.clone(), stop.clone())) as Run;
        ports.into_iter().map(run).collect()
    }
}

/// Accepts connections until told to stop, then waits for the open ones.
async fn serve(listener: Port, shared: Arc<Shared>, workers: Arc<Workers>, stop: watch::Receiver<bool>) {
    let watch = workers.supervisor.watch(format!("{} receiver", listener.name));
    let mut open = JoinSet::new();
    while watch.run(accept(&watch, &listener, &shared, &workers, stop.clone(), &mut open)).await.is_none() {}
    drop(listener);
    while let Some(ended) = open.join_next().await {
        watch.note(ended);
    }
}

/// Accepts connections and assigns them to workers.
async fn accept(
    watch: &Watch,
    listener: &Port,
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
            // Most likely out of file descriptors: open connections will free some.
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

impl Shared {
    fn gate(gates: &BySignal, signal: Signal) -> Option<&dyn Intake> {
        gates.get(signal as usize)?.as_deref().filter(|gate| gate.is_open())
    }

    fn grpc_gate(&self, signal: Signal) -> Option<&dyn Intake> {
        Shared::gate(&self.grpc_gates, signal)
    }

    fn http_gate(&self, signal: Signal) -> Option<&dyn Intake> {
        Shared::gate(&self.http_gates, signal)
    }

    /// A size limit, capped at the share for a single request.
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

    /// Authenticates a request before anything else of it is examined.
    async fn admit(&self, guard: Option<&Authenticator>, headers: &HeaderMap) -> Result<(), Answer> {
        let Some(guard) = guard else { return Ok(()) };
        guard.admit(headers).await.inspect_err(|_| {
            let message = "a request was refused for its credentials: is `auth` the same in the client?";
            Shared::tell_once(&self.said.without_credentials, || message);
        })
    }

    /// Logs once that a client sends a signal without a pipeline on this protocol, or to an unknown path.
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

    /// The answer to a request that was not accepted. Permanent faults of the request are also logged.
    fn answer_to(&self, unread: Unread) -> Answer {
        let refusal = match unread {
            Unread::Refused(refusal) => refusal,
            Unread::Failed(answer) => return answer,
        };
        match &refusal {
            Refusal::Malformed(why) => {
                Shared::tell_once(&self.said.malformed, || format!("a client's request is not valid OTLP: {why}"));
            }
            Refusal::TooLarge { limit, unit } => Shared::tell_once(&self.said.too_large, || {
                format!("a client's request is larger than {limit} {unit}: it is refused")
            }),
            _ => {}
        }
        refusal.answer()
    }

    fn tell_once<T: std::fmt::Display>(said: &AtomicBool, message: impl FnOnce() -> T) {
        if !said.swap(true, Relaxed) {
            tracing::warn!("{}", message());
        }
    }
}
