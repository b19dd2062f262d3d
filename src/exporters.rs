//! Exporters: who sends telemetry on, or prints it.

pub mod compress;
pub mod debug;
pub(crate) mod file;
pub(crate) mod nop;
pub(crate) mod otlp_grpc;
pub(crate) mod otlp_http;
pub mod settings;
pub mod upstream;

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

use crate::config::ComponentId;
use crate::diagnostics::supervisor::Supervisor;
use crate::extensions::Named;
use crate::network::auth::Authenticator;
use crate::network::endpoint::Endpoint;
use crate::network::proxy::Proxy;
use crate::network::tls::ClientTls;
use crate::otlp::{base64, percent};
use crate::telemetry::{Account, Budget, Charge, Signal, Sink, Status, Telemetry};

use settings::Settings;
use tonic::Code;

/// The settings of an exporter: all that is asked of one.
pub trait ExporterSettings: Send + Sync {
    /// Why it takes nothing of a signal.
    fn refuses(&self, _id: &str, _signal: Signal) -> Option<String> {
        None
    }
    /// The extensions that it names.
    fn named(&self) -> Vec<Named> {
        Vec::new()
    }
    /// The settings of its queue; nothing for one that has none.
    fn sending(&self) -> Option<&Settings> {
        None
    }
    /// Where it sends a signal to.
    fn target(&self, _signal: Signal) -> Option<Target<'_>> {
        None
    }
    /// The file that it writes.
    fn file(&self) -> Option<&Path> {
        None
    }
    /// Opens it, for all signals.
    fn open(&self, opening: ExporterParts<'_>) -> Result<Arc<dyn OpenExporter>, String>;
}

/// An upstream, as it is connected to.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    pub endpoint: &'a Endpoint,
    pub tls: Option<&'a ClientTls>,
    pub proxy: Option<&'a Proxy>,
    /// It has credentials: an authenticator, a header, or a user in its URL.
    pub is_authorized: bool,
    /// It speaks gRPC: HTTP/2 from the first byte.
    pub is_grpc: bool,
}

/// What an exporter is opened with.
pub struct ExporterParts<'a> {
    pub id: &'a str,
    /// The authenticator that it names.
    pub auth: Option<Arc<Authenticator>>,
    pub budget: &'a Arc<Budget>,
    pub supervisor: &'a Arc<Supervisor>,
    /// Those of the config before this one, which still run.
    pub before: &'a [(ComponentId, Arc<dyn OpenExporter>)],
}

/// An exporter that is open. A reload that leaves its settings as they are leaves it open.
pub trait OpenExporter: Send + Sync {
    /// Its end for one signal.
    fn end(self: Arc<Self>, signal: Signal, account: &Arc<Account>) -> Result<End, String>;
    /// Items that were taken and are not written yet, by signal; for those that have no queue.
    fn waiting(&self) -> [u64; Signal::ALL.len()] {
        [0; Signal::ALL.len()]
    }
    /// Writes what waits, for at most this long; returns how many items are lost.
    fn close(&self, _within: Duration) -> u64 {
        0
    }
    /// The file that it writes.
    fn file(&self) -> Option<&Path> {
        None
    }
}

/// One that holds nothing of its own: each signal has an end that is made for it.
pub fn ends<F>(end: F) -> Arc<dyn OpenExporter>
where
    F: Fn(Signal, &Arc<Account>) -> Result<End, String> + Send + Sync + 'static,
{
    struct Ends<F>(F);
    impl<F: Fn(Signal, &Arc<Account>) -> Result<End, String> + Send + Sync> OpenExporter for Ends<F> {
        fn end(self: Arc<Self>, signal: Signal, account: &Arc<Account>) -> Result<End, String> {
            self.0(signal, account)
        }
    }
    Arc::new(Ends(end))
}

pub enum End {
    /// Takes telemetry itself.
    Sink(Arc<dyn Sink>),
    /// Sends what its queue gives it.
    Exporter(Arc<dyn Exporter>),
}

/// A batch as an exporter will send it: encoded once, sent at each attempt.
pub struct Payload {
    pub signal: Signal,
    /// The body, piece after piece: the parts as they are, or one compressed or converted copy of them.
    pub body: SmallVec<[Bytes; 4]>,
    /// Memory of the export share that a copy is charged for.
    pub charge: Option<Charge>,
    /// Why there is no body to send.
    pub unsendable: Option<SendError>,
}

impl Payload {
    /// The parts of a batch as they are.
    pub fn of(telemetry: &Telemetry) -> Payload {
        Payload {
            signal: telemetry.signal,
            body: telemetry.parts.iter().map(|part| part.bytes.clone()).collect(),
            charge: None,
            unsendable: None,
        }
    }

    pub fn length(&self) -> usize {
        self.body.iter().map(Bytes::len).sum()
    }
}

/// What the upstream said with its success: how many items it rejected all the same (partial success).
#[derive(Debug, Default, PartialEq)]
pub struct Accepted {
    pub rejected: u64,
    pub message: String,
}

/// Why a send failed, which decides what becomes of the batch.
#[derive(Clone, Debug, PartialEq)]
pub enum SendError {
    /// Try again, not before the hint.
    Retry { after: Option<Duration>, status: Status },
    /// Try again in smaller pieces.
    TooLarge(Status),
    /// One record may have spoilt the others: bisect.
    Malformed(Status),
    /// Final for this batch.
    Rejected(Status),
    /// Not the batch is wrong but who we are or where we send: hold everything and probe.
    Misconfigured(Status),
}

impl SendError {
    pub fn status(&self) -> &Status {
        match self {
            SendError::Retry { status, .. } => status,
            SendError::TooLarge(status) | SendError::Malformed(status) => status,
            SendError::Rejected(status) | SendError::Misconfigured(status) => status,
        }
    }

    fn message_mut(&mut self) -> &mut String {
        match self {
            SendError::Retry { status, .. } => &mut status.message,
            SendError::TooLarge(status) | SendError::Malformed(status) => &mut status.message,
            SendError::Rejected(status) | SendError::Misconfigured(status) => &mut status.message,
        }
    }
}

pub type Encoding<'a> = Pin<Box<dyn Future<Output = Payload> + Send + 'a>>;
pub type Sending<'a> = Pin<Box<dyn Future<Output = Result<Accepted, SendError>> + Send + 'a>>;

pub type Renewed<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// One destination for one signal. Queue, retry, timeout, split and count belong to `sending`.
pub trait Exporter: Send + Sync {
    fn encode<'a>(&'a self, telemetry: &'a Telemetry) -> Encoding<'a>;
    fn send<'a>(&'a self, payload: &'a Payload) -> Sending<'a>;
    /// Waits until a refusal may end because we are somebody else.
    fn renewed(&self) -> Renewed<'_> {
        Box::pin(std::future::pending())
    }
    /// Where it sends to, for a person.
    fn destination(&self) -> String;
    /// The address labels of its metrics.
    fn labels(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}

/// The header of an authenticator, where there is one.
pub type Header = Option<(HeaderName, HeaderValue)>;

/// Waits until the credentials are other ones.
fn renewed(auth: Option<&Authenticator>) -> Renewed<'_> {
    match auth {
        Some(auth) => Box::pin(auth.renewed()),
        None => Box::pin(std::future::pending()),
    }
}

/// One attempt with our headers, the query of our URL, and credentials. Refused, it is made again when the credentials have
/// been renewed meanwhile: to hold would cost a minute.
async fn signed<F>(
    headers: &HeaderMap,
    query: &str,
    auth: Option<&Authenticator>,
    attempt: impl Fn(Header) -> F,
) -> Result<Accepted, SendError>
where
    F: Future<Output = Result<Accepted, SendError>>,
{
    let attempt = async |header: Header| {
        let mut outcome = attempt(header.clone()).await;
        let sent = headers.values().chain(header.as_ref().map(|(_, value)| value));
        bound(said(&mut outcome), sent.filter(|value| value.is_sensitive()), query);
        outcome
    };
    let Some(auth) = auth else { return attempt(None).await };
    let unreadable = |message| SendError::Retry { after: None, status: Status { code: Code::Unavailable, message } };
    let header = auth.header(false).await.map_err(unreadable)?;
    let refused = match attempt(Some(header.clone())).await {
        Err(error @ SendError::Misconfigured(_)) => error,
        outcome => return outcome,
    };
    match auth.header(true).await {
        Ok(renewed) if renewed != header => attempt(Some(renewed)).await,
        _ => Err(refused),
    }
}

fn said(outcome: &mut Result<Accepted, SendError>) -> &mut String {
    match outcome {
        Ok(accepted) => &mut accepted.message,
        Err(error) => error.message_mut(),
    }
}

/// The most characters of what an upstream says that are shown or passed on.
const SAID: usize = 1024;

/// What an upstream says without what we sent it in confidence, for some repeat the request, and not too much of it.
fn bound<'a>(text: &mut String, sent: impl Iterator<Item = &'a HeaderValue>, query: &str) {
    if text.is_empty() {
        return;
    }
    let mut secrets = vec![query.to_owned()];
    for (_, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        // A server that quotes its target may have decoded it.
        secrets.extend([value.to_owned(), percent::decoded_text(value.as_bytes())]);
    }
    for value in sent.filter_map(|value| std::str::from_utf8(value.as_bytes()).ok()) {
        // Behind the name of a scheme; that of `Basic` has a password in it.
        let bare = value.split_ascii_whitespace().next_back().unwrap_or_default();
        let pair = base64::decode(bare.as_bytes()).and_then(|pair| String::from_utf8(pair).ok()).unwrap_or_default();
        let password = pair.split_once(':').map_or("", |(_, password)| password);
        secrets.extend([value, bare, password].map(str::to_owned));
    }
    // One may be a part of another; what is shorter is none.
    secrets.retain(|secret| secret.len() > 3);
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    for secret in secrets {
        if text.contains(&secret) {
            *text = text.replace(&secret, "[redacted]");
        }
    }
    if let Some((end, _)) = text.char_indices().nth(SAID) {
        text.truncate(end);
        text.push('…');
    }
}
