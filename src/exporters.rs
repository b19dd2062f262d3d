//! Exporters: components that send telemetry on, or print it.

pub(crate) mod compress;
pub(crate) mod debug;
pub(crate) mod file;
pub(crate) mod nop;
pub(crate) mod otlp_grpc;
pub(crate) mod otlp_http;
pub(crate) mod prometheus;
pub(crate) mod settings;
pub mod upstream;

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;
use tonic::Code;

use crate::config::ComponentId;
use crate::diagnostics::supervisor::Supervisor;
use crate::extensions::{AdminPage, Named};
use crate::network::auth::Authenticator;
use crate::network::endpoint::Endpoint;
use crate::network::proxy::Proxy;
use crate::network::settings::Listening;
use crate::network::tls::ClientTls;
use crate::order::Ordered;
use crate::otlp::{base64, percent};
use crate::telemetry::{Account, Budget, Charge, Signal, Sink, Status, Telemetry};

use settings::Settings;

/// The contract for an exporter's settings.
pub(crate) trait ExporterSettings: Send + Sync {
    /// Why it does not support a signal.
    fn refuses(&self, _id: &str, _signal: Signal) -> Option<String> {
        None
    }
    /// The extensions it refers to.
    fn named(&self) -> Vec<Named> {
        Vec::new()
    }
    /// The settings of its queue; `None` if it has no queue.
    fn sending(&self) -> Option<&Settings> {
        None
    }
    /// The destination of a signal.
    fn target(&self, _signal: Signal) -> Option<Target<'_>> {
        None
    }
    /// The file it writes.
    fn file(&self) -> Option<&Path> {
        None
    }
    fn listens(&self) -> Vec<Listening> {
        Vec::new()
    }
    /// Opens it once, for all signals.
    fn open(&self, opening: ExporterParts<'_>) -> Result<Arc<dyn OpenExporter>, String>;
}

/// An upstream's address and how to connect to it.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) tls: Option<&'a ClientTls>,
    pub(crate) proxy: Option<&'a Proxy>,
    /// Whether requests carry credentials: an authenticator, a header, or a user in the URL.
    pub(crate) is_authorized: bool,
    /// Whether it speaks gRPC, so HTTP/2 from the first byte.
    pub(crate) is_grpc: bool,
}

/// Everything an exporter needs to open.
pub(crate) struct ExporterParts<'a> {
    pub(crate) id: &'a str,
    /// The authenticator it refers to.
    pub(crate) auth: Option<Arc<Authenticator>>,
    pub(crate) budget: &'a Arc<Budget>,
    pub(crate) supervisor: &'a Arc<Supervisor>,
    /// The open exporters of the previous config.
    pub(crate) before: &'a [(ComponentId, Arc<dyn OpenExporter>)],
}

/// An open exporter. It stays open across a reload that leaves its settings unchanged.
pub trait OpenExporter: Send + Sync {
    /// The end of a pipeline for one signal.
    fn end(self: Arc<Self>, signal: Signal, account: &Arc<Account>) -> Result<End, String>;
    /// Items accepted and not written yet, by signal; for exporters without a queue.
    fn waiting(&self) -> [u64; Signal::ALL.len()] {
        [0; Signal::ALL.len()]
    }
    /// Writes waiting items for at most this long; returns how many are lost.
    fn close(&self, _within: Duration) -> u64 {
        0
    }
    /// The file it writes.
    fn file(&self) -> Option<&Path> {
        None
    }
    /// A page served on the thread of health and metrics.
    fn page(&self) -> Option<AdminPage> {
        None
    }
}

/// An exporter without state of its own: `end` makes the end for each signal.
fn ends<F>(end: F) -> Arc<dyn OpenExporter>
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
    /// Takes telemetry directly.
    Sink(Arc<dyn Sink>),
    /// Sends the batches of its queue.
    Exporter(Arc<dyn Exporter>),
}

/// A batch ready to send: encoded once, reused for each attempt.
pub struct Payload {
    signal: Signal,
    /// The body in pieces: the parts unchanged, or one compressed or converted copy of them.
    pub body: SmallVec<[Bytes; 4]>,
    /// The charge for a copy, in the export share.
    pub charge: Option<Charge>,
    /// Why there is no body to send.
    pub unsendable: Option<SendError>,
}

impl Payload {
    /// A payload of the unchanged parts.
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

/// Details of a successful export: how many items the upstream rejected anyway (partial success).
#[derive(Debug, Default, PartialEq)]
pub struct Accepted {
    pub(crate) rejected: u64,
    pub(crate) message: String,
}

/// Why a send failed, which decides what happens to the batch.
#[derive(Clone, Debug, PartialEq)]
pub enum SendError {
    /// Retry, not before the hint.
    Retry { after: Option<Duration>, status: Status },
    /// Retry in smaller pieces.
    TooLarge(Status),
    /// One record may be malformed: bisect.
    Malformed(Status),
    /// Final for this batch.
    Rejected(Status),
    /// Our identity or the destination is wrong, not the batch: hold everything and probe.
    Misconfigured(Status),
}

impl SendError {
    pub(crate) fn status(&self) -> &Status {
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

type Renewed<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Encodes and sends batches of one signal to one destination. Queueing, retries, timeouts, splitting and counting
/// belong to `sending`.
pub trait Exporter: Send + Sync {
    fn encode<'a>(&'a self, telemetry: &'a Telemetry) -> Encoding<'a>;
    fn send<'a>(&'a self, payload: &'a Payload) -> Sending<'a>;
    /// Waits until new credentials may end a refusal.
    fn renewed(&self) -> Renewed<'_> {
        Box::pin(std::future::pending())
    }
    /// The destination, for people.
    fn destination(&self) -> String;
    /// The address labels for its metrics.
    fn labels(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}

/// The header from an authenticator, if there is one.
type Header = Option<(HeaderName, HeaderValue)>;

/// Waits until the credentials change.
fn renewed(auth: Option<&Authenticator>) -> Renewed<'_> {
    match auth {
        Some(auth) => Box::pin(auth.renewed()),
        None => Box::pin(std::future::pending()),
    }
}

/// One attempt with the configured headers, the URL's query, and credentials. After a refusal it is repeated if the
/// credentials have been renewed meanwhile: holding would cost a minute.
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
        let message = match &mut outcome {
            Ok(accepted) => &mut accepted.message,
            Err(error) => error.message_mut(),
        };
        bound(message, sent.filter(|value| value.is_sensitive()), query);
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

/// Maximum characters shown or passed on from an upstream's message.
const SAID: usize = 1024;

/// An upstream's message, shortened, and with the secrets we sent removed: some servers repeat the request.
fn bound<'a>(text: &mut String, sent: impl Iterator<Item = &'a HeaderValue>, query: &str) {
    if text.is_empty() {
        return;
    }
    let mut secrets = vec![query.to_owned()];
    for (_, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        // A server that quotes its target may decode it.
        secrets.extend([value.to_owned(), percent::decoded_text(value.as_bytes())]);
    }
    for value in sent.filter_map(|value| std::str::from_utf8(value.as_bytes()).ok()) {
        // The part after the scheme's name; for `Basic` it contains a password.
        let bare = value.split_ascii_whitespace().next_back().unwrap_or_default();
        let pair = base64::decode(bare.as_bytes()).and_then(|pair| String::from_utf8(pair).ok()).unwrap_or_default();
        let password = pair.split_once(':').map_or("", |(_, password)| password);
        secrets.extend([value, bare, password].map(str::to_owned));
    }
    // A secret may contain another, so replace longer ones first; shorter strings than this are not secrets.
    secrets.retain(|secret| secret.len() > 3);
    secrets.order_by_key(|secret| std::cmp::Reverse(secret.len()));
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
