//! Checks the hops to an upstream: name, connection, TLS, protocol, export. Each is tried as by the exporter.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use smallvec::SmallVec;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Code;

use crate::exporters::upstream::Protocol;
use crate::exporters::{Exporter, ExporterSettings, SendError, Target};
use crate::network::endpoint::{self, Address};
use crate::network::proxy::Proxy;
use crate::network::tls::certificate::Certificate;
use crate::network::tls::{self, ClientTls};
use crate::network::{Stream, looks_like_tls};
use crate::telemetry::{Now, Signal, Telemetry};

use super::machine;
use super::{Finding, Section, State};

/// The time limit for a hop.
const PATIENCE: Duration = Duration::from_secs(5);
/// A certificate that expires within this many seconds causes a warning.
const SOON: i64 = 14 * 86_400;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// The advice if the upstream does not accept a signal.
pub(super) const NO_PIPELINE: &str = "it has no pipeline for this signal there: add one, or check the path";
const HOPS: [&str; 5] = ["name", "connect", "TLS", "protocol", "export"];

/// One upstream of an exporter, and the signals sent there.
struct Upstream<'a> {
    target: Target<'a>,
    signals: Vec<Signal>,
}

/// Makes the client of an exporter for a signal.
pub(super) type MakeClient<'a> = &'a dyn Fn(Signal) -> Result<Arc<dyn Exporter>, String>;

pub(super) async fn examine(
    name: &str,
    settings: &dyn ExporterSettings,
    signals: &[Signal],
    client: MakeClient<'_>,
) -> Vec<Section> {
    if let Some(file) = settings.file() {
        let findings = vec![machine::writable(file.parent().unwrap_or(file))];
        return vec![Section { title: format!("{name} to {}", file.display()), findings }];
    }
    let mut upstreams: Vec<Upstream> = Vec::new();
    for &signal in signals {
        let Some(target) = settings.target(signal) else { continue };
        let place = |target: &Target| (target.endpoint.address.clone(), target.endpoint.scheme);
        match upstreams.iter_mut().find(|upstream| place(&upstream.target) == place(&target)) {
            Some(upstream) => upstream.signals.push(signal),
            None => upstreams.push(Upstream { target, signals: vec![signal] }),
        }
    }
    let mut sections = Vec::new();
    for upstream in &upstreams {
        let mut findings = Vec::new();
        match upstream.reach(&mut findings).await {
            Err(failed) => findings.push(failed),
            Ok(()) => {
                for &signal in &upstream.signals {
                    findings.push(export(settings, signal, client).await);
                }
            }
        }
        let failed = findings.iter().any(|finding| finding.state == State::Failed);
        let untried = |what: &&'static str| Finding { state: State::Untried, ..Finding::ok(what, "not tried") };
        let untried: Vec<_> = HOPS
            .iter()
            .filter(|hop| failed && findings.iter().all(|finding| finding.what != **hop))
            .map(untried)
            .collect();
        findings.extend(untried);
        sections.push(Section { title: format!("{name} to {}", upstream.target.endpoint), findings });
    }
    sections
}

impl Upstream<'_> {
    /// Tries every hop below the export. The error is the hop that fails.
    async fn reach(&self, findings: &mut Vec<Finding>) -> Result<(), Finding> {
        let (endpoint, proxy) = (self.target.endpoint, self.target.proxy);
        let mut name = resolve(proxy.map_or(&endpoint.address, Proxy::address)).await;
        if proxy.is_some() {
            name.says = format!("of the proxy: {}", name.says);
        }
        findings.push(name.passed()?);
        if let Some(proxy) = proxy {
            let started = Instant::now();
            let connected = patient(proxy.connect()).await;
            connected.map_err(|error| not_connected("proxy", &error, &connect_advice(&error, "proxy")))?;
            findings.push(Finding::ok("proxy", format!("{proxy} in {}", milliseconds(started))));
        }
        let started = Instant::now();
        let stream = self.connect().await.map_err(|error| match proxy {
            Some(_) => {
                not_connected("connect", &error, "see the log of the proxy, or pass it by: name the host in NO_PROXY")
            }
            None => not_connected("connect", &error, &connect_advice(&error, "upstream")),
        })?;
        let (to, time) = (&endpoint.address, milliseconds(started));
        findings.push(match proxy {
            Some(_) if self.is_forwarded() => {
                let says = format!("not tried: the proxy connects to {to} for each request");
                Finding { state: State::Untried, ..Finding::ok("connect", says) }
            }
            Some(_) => Finding::ok("connect", format!("{to} through the proxy in {time}")),
            None => Finding::ok("connect", format!("{to} in {time}")),
        });
        let stream = match self.target.tls {
            Some(tls) => {
                self.look_at_certificate(stream, tls, findings).await;
                self.secure(tls).await?
            }
            None if endpoint.leaves_the_machine() => {
                let says = "off: telemetry leaves this machine in clear";
                findings.push(Finding::warn("TLS", says, "use TLS, or a network you trust"));
                stream
            }
            None => {
                findings.push(Finding::ok("TLS", "off"));
                stream
            }
        };
        findings.push(self.speak(stream).await.passed()?);
        Ok(())
    }

    /// Opens the connection for TLS or the protocol.
    async fn connect(&self) -> io::Result<Stream> {
        match self.target.proxy {
            Some(proxy) if self.is_forwarded() => patient(proxy.connect()).await,
            Some(proxy) => patient(proxy.tunnel(&self.target.endpoint.address)).await,
            None => endpoint::connect(&self.target.endpoint.address, PATIENCE).await,
        }
    }

    /// Whether the proxy receives each request itself, instead of opening a tunnel.
    fn is_forwarded(&self) -> bool {
        self.target.proxy.is_some() && self.target.tls.is_none() && !self.target.is_grpc
    }

    /// Reports the signer, the names and the expiry of the certificate, also if it is not trusted.
    async fn look_at_certificate(&self, stream: Stream, tls: &ClientTls, findings: &mut Vec<Finding>) {
        let Ok(name) = tls.server_name(self.target.endpoint.host()) else { return };
        let shown = tokio::time::timeout(PATIENCE, tls::shown(stream, tls, name)).await;
        // A failure here repeats in the handshake, which reports it.
        let Ok(Ok(shown)) = shown else { return };
        let Some(own) = shown.first().and_then(|der| Certificate::read(der)) else { return };
        let Certificate { subject, issuer, expires, names } = own;
        let signer = if issuer == subject { "itself".to_owned() } else { issuer };
        let left = expires.as_second() - Timestamp::now().as_second();
        let (date, days) = (expires.strftime("%F"), left / 86_400);
        let names = if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
        let says = format!("certificate of {subject} for {names}, signed by {signer}, until {date} ({days} days)");
        findings.push(match left {
            ..=0 => Finding::warn("TLS", says, "it has expired: renew it, or correct the clock here"),
            1..=SOON => Finding::warn("TLS", says, "it ends soon: renew it"),
            _ => Finding::ok("TLS", says),
        });
    }

    /// Performs the handshake like the exporter.
    async fn secure(&self, tls: &ClientTls) -> Result<Stream, Finding> {
        let protocol = if self.target.is_grpc { Protocol::Http2 } else { Protocol::Either };
        let tls = tls::Client::new(tls.clone(), protocol.alpn());
        let handshake = async {
            let stream = self.connect().await.map_err(|error| error.to_string())?;
            tls.secure(stream, self.target.endpoint.host()).await
        };
        let late = |_| Err(format!("no handshake within {PATIENCE:?}: does it speak TLS?"));
        let secured = tokio::time::timeout(PATIENCE, handshake).await.unwrap_or_else(late);
        secured.map_err(|says| Finding::failed("TLS", says, ""))
    }

    /// Sends the first bytes of the protocol, and checks the first bytes of the answer.
    async fn speak(&self, mut stream: Stream) -> Finding {
        let chosen = stream.alpn().map(|protocol| String::from_utf8_lossy(protocol).into_owned());
        let http2 = self.target.is_grpc || chosen.as_deref() == Some("h2");
        let host = self.target.endpoint.authority();
        let (target, credentials) = match self.target.proxy.filter(|_| self.is_forwarded()) {
            Some(proxy) => (format!("http://{host}/"), proxy.credentials()),
            None => ("/".to_owned(), None),
        };
        let mut request = format!("GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
        if let Some(credentials) = credentials.as_ref().and_then(|credentials| credentials.to_str().ok()) {
            request.push_str(&format!("proxy-authorization: {credentials}\r\n"));
        }
        request.push_str("\r\n");
        let opening = if http2 { PREFACE } else { request.as_bytes() };
        let mut answer = [0; 9];
        let exchange = async {
            stream.write_all(opening).await?;
            stream.flush().await?;
            stream.read_exact(&mut answer).await.map(drop)
        };
        let failure = match tokio::time::timeout(PATIENCE, exchange).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("the connection broke: {error}")),
            Err(_) => Some(format!("no answer within {PATIENCE:?}")),
        };
        let wanted = if http2 { "HTTP/2" } else { "HTTP/1.1" };
        let by_tls = chosen.as_ref().map_or_else(String::new, |chosen| format!(", as TLS chose ({chosen})"));
        // An HTTP/2 server starts with a SETTINGS frame on stream 0.
        let greets = matches!(answer, [0, _, _, 4, _, 0, 0, 0, 0]);
        let speaks_http1 = answer.starts_with(b"HTTP/1");
        match failure {
            _ if looks_like_tls(&answer) => {
                Finding::failed("protocol", "it wants TLS", "remove `insecure: true`, or use https://")
            }
            None if http2 && greets || !http2 && speaks_http1 => Finding::ok("protocol", format!("{wanted}{by_tls}")),
            _ if speaks_http1 => Finding::failed(
                "protocol",
                "it speaks HTTP/1.1, and gRPC wants HTTP/2",
                "use its port for gRPC (usually 4317), or the exporter otlp_http",
            ),
            _ if greets => Finding::failed(
                "protocol",
                "it speaks HTTP/2 only",
                "use its port for HTTP (usually 4318), or the exporter otlp_grpc",
            ),
            failure => {
                let why = failure.unwrap_or_else(|| "what it answers is something else".to_owned());
                let advice = "is this the port of an OTLP receiver, and does it want TLS?";
                Finding::failed("protocol", format!("{wanted}{by_tls}: {why}"), advice)
            }
        }
    }
}

async fn resolve(address: &Address) -> Finding {
    let host = match address {
        Address::Unix(path) => return Finding::ok("name", format!("a unix socket: {}", path.display())),
        Address::Tcp { host, .. } => host,
    };
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Finding::ok("name", format!("{ip} is an address"));
    }
    let advice = "check how it is spelt, and the resolver of this host or container (/etc/resolv.conf)";
    match tokio::time::timeout(PATIENCE, address.resolve()).await {
        Err(_) => Finding::failed("name", format!("no answer about {host} within {PATIENCE:?}"), advice),
        Ok(Err(error)) => Finding::failed("name", format!("cannot resolve {host}: {error}"), advice),
        Ok(Ok(addresses)) => {
            let mut found: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
            found.dedup();
            Finding::ok("name", format!("{host} is {}", found.join(", ")))
        }
    }
}

/// Applies the time limit of a hop.
async fn patient(connecting: impl Future<Output = io::Result<Stream>>) -> io::Result<Stream> {
    let late = |_| Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {PATIENCE:?}")));
    tokio::time::timeout(PATIENCE, connecting).await.unwrap_or_else(late)
}

/// Sends an empty export, with headers and credentials as for a real one.
async fn export(settings: &dyn ExporterSettings, signal: Signal, client: MakeClient<'_>) -> Finding {
    let name = signal.name();
    let exporter = match client(signal) {
        Ok(exporter) => exporter,
        Err(error) => return Finding::failed("export", error, ""),
    };
    let empty =
        Telemetry { signal, parts: SmallVec::new(), client: None, received: Now::read(), tickets: Default::default() };
    let payload = exporter.encode(&empty).await;
    let started = Instant::now();
    let patience = settings.sending().and_then(|sending| sending.timeout).unwrap_or(PATIENCE).min(2 * PATIENCE);
    match tokio::time::timeout(patience, exporter.send(&payload)).await {
        Ok(Ok(_)) => Finding::ok("export", format!("{name}: an empty one is accepted, in {}", milliseconds(started))),
        Ok(Err(error)) => {
            Finding::failed("export", format!("{name}: {}", error.status().message), export_advice(&error))
        }
        Err(_) => {
            Finding::failed("export", format!("{name}: no answer within {patience:?}"), "is the upstream overloaded?")
        }
    }
}

fn milliseconds(since: Instant) -> String {
    format!("{:.1} ms", since.elapsed().as_secs_f64() * 1e3)
}

fn not_connected(what: &'static str, error: &io::Error, advice: &str) -> Finding {
    Finding::failed(what, error.to_string(), advice)
}

fn connect_advice(error: &io::Error, peer: &str) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => format!("nobody listens there: is the {peer} up, and is this its port?"),
        io::ErrorKind::TimedOut => "packets are lost: a firewall between, or the host is down".to_owned(),
        io::ErrorKind::NotFound => format!("there is no such socket: is the {peer} up?"),
        io::ErrorKind::PermissionDenied => "this user may not connect to it".to_owned(),
        _ => "check the routes and the network of this host or container".to_owned(),
    }
}

fn export_advice(error: &SendError) -> &'static str {
    match (error, error.status().code) {
        (_, Code::Unauthenticated) => "it does not know who we are: set `auth` or `headers` (--token-file)",
        (_, Code::PermissionDenied) => "it knows who we are, and refuses: check the rights of this token or user",
        (_, Code::Unimplemented) => NO_PIPELINE,
        (SendError::Retry { .. }, _) => "it may be overloaded or starting: try again",
        (SendError::TooLarge(_), _) => "it takes not even an empty request: check its limits, and proxies between",
        _ => "look into the log of the upstream",
    }
}
