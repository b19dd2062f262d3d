//! `otlp_grpc` (alias `otlp`): OTLP over gRPC.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, TE, USER_AGENT};
use http::{Request, Uri};
use smallvec::{SmallVec, smallvec};
use tonic::Code;

use crate::config::section::Section;
use crate::config::{Place, Problem};
use crate::exporters::settings::Settings;
use crate::extensions::{Named, Purpose};
use crate::network::auth::Authenticator;
use crate::network::endpoint::{Address, Endpoint, Scheme};
use crate::network::proxy::Proxy;
use crate::network::settings;
use crate::network::tls::ClientTls;
use crate::otlp::inflate::Coding;
use crate::otlp::{percent, status};
use crate::telemetry::{Budget, Signal, Status, Telemetry};

use super::compress::{Compression, Form};
use super::settings::{headers, user_agent};
use super::upstream::{Balance, KeepAlive, Pieces, Protocol, Upstream, UpstreamAnswer};
use super::{
    Accepted, Encoding, End, Exporter, ExporterParts, ExporterSettings, Header, OpenExporter, Payload, Renewed,
    SendError, Sending, Target, ends, signed,
};

#[derive(Clone, Debug)]
pub(crate) struct Config {
    endpoint: Endpoint,
    tls: Option<ClientTls>,
    compression: Coding,
    headers: HeaderMap,
    auth: Option<(String, Place)>,
    user_agent: HeaderValue,
    authority: Option<String>,
    keep_alive: Option<KeepAlive>,
    proxy: Option<Proxy>,
    /// Whether requests are spread over all addresses of a name, or go to the first that answers.
    spreads: bool,
    sending: Settings,
}

/// The codings that the Go collector's gRPC client supports.
const CODINGS: &[(&str, Coding)] = &[
    ("gzip", Coding::Gzip),
    ("snappy", Coding::SnappyFramed),
    ("zstd", Coding::Zstd),
    ("none", Coding::Identity),
    ("", Coding::Identity),
];

/// An empty name means gRPC's default.
const BALANCERS: &[(&str, bool)] = &[("round_robin", true), ("pick_first", false), ("", false)];

impl Config {
    pub(crate) fn decode(section: Section) -> Config {
        let endpoint = settings::endpoint(&section, "endpoint", Endpoint::grpc).unwrap_or_else(|| {
            if section.url("endpoint").is_none_or(|text| text.is_empty()) {
                let help = "write `endpoint: host:4317`";
                section.problem_with_help("endpoint", "requires a non-empty \"endpoint\"", help);
            }
            Endpoint::grpc("localhost:4317").expect("it is an endpoint")
        });
        if let Some(server) = section.url("endpoint").and_then(|text| named_server(&text)) {
            let message = format!("the name server {server} is not asked: names are looked up as this system does");
            section.push("endpoint", Problem::warning(section.place("endpoint"), message));
        }
        let is_unix = matches!(endpoint.address, Address::Unix(_));
        let tls = section.section("tls").map(ClientTls::decode).unwrap_or_default();
        let config = Config {
            proxy: settings::proxy(&section, "endpoint", &endpoint, Scheme::Https, &tls),
            // `tls.insecure` decides about TLS, not the URL's prefix.
            tls: (!tls.is_plaintext() && !is_unix).then_some(tls),
            endpoint,
            compression: section.choice("compression", Coding::Gzip, CODINGS),
            headers: headers(&section),
            auth: settings::authenticator(&section),
            user_agent: user_agent(&section),
            authority: section.text("authority"),
            keep_alive: section.section_or_default("keepalive", false).map(|keepalive| {
                let ten = Duration::from_secs(10);
                let (interval, timeout) = (keepalive.duration("time", ten), keepalive.duration("timeout", ten));
                let when_idle = keepalive.boolean("permit_without_stream", false);
                keepalive.finish();
                KeepAlive { interval, timeout, when_idle }
            }),
            spreads: section.choice("balancer_name", true, BALANCERS),
            sending: Settings::decode(&section, Duration::from_secs(5)),
        };
        section.unset(&["middlewares"]);
        section.ignored(&["read_buffer_size", "write_buffer_size", "wait_for_ready"]);
        section.finish();
        config
    }
}

impl ExporterSettings for Config {
    fn named(&self) -> Vec<Named> {
        let in_clear = self.tls.is_none() && self.endpoint.leaves_the_machine();
        Named::authenticator(&self.auth, "auth.authenticator", Purpose::Client { in_clear }).into_iter().collect()
    }

    fn sending(&self) -> Option<&Settings> {
        Some(&self.sending)
    }

    fn target(&self, _: Signal) -> Option<Target<'_>> {
        let (endpoint, tls, proxy) = (&self.endpoint, self.tls.as_ref(), self.proxy.as_ref());
        let is_authorized = self.auth.is_some() || self.headers.contains_key(AUTHORIZATION);
        Some(Target { endpoint, tls, proxy, is_authorized, is_grpc: true })
    }

    fn open(&self, opening: ExporterParts<'_>) -> Result<Arc<dyn OpenExporter>, String> {
        let (config, auth, budget) = (self.clone(), opening.auth, opening.budget.clone());
        Ok(ends(move |signal, _| Ok(End::Exporter(Arc::new(Grpc::new(signal, &config, auth.clone(), budget.clone()))))))
    }
}

/// The DNS server in `dns://SERVER/host:port`.
fn named_server(endpoint: &str) -> Option<String> {
    let (server, _) = endpoint.strip_prefix("dns://")?.split_once('/')?;
    (!server.is_empty()).then(|| server.to_owned())
}

struct Grpc {
    upstream: Upstream,
    uri: Uri,
    headers: HeaderMap,
    auth: Option<Arc<Authenticator>>,
    compression: Compression,
}

impl Grpc {
    fn new(signal: Signal, config: &Config, auth: Option<Arc<Authenticator>>, budget: Arc<Budget>) -> Grpc {
        let path = match signal {
            Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        };
        let scheme = if config.tls.is_some() { "https" } else { "http" };
        let authority = config.authority.clone().unwrap_or_else(|| config.endpoint.authority());
        let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build();
        let mut headers = config.headers.clone();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.entry(USER_AGENT).or_insert_with(|| config.user_agent.clone());
        if config.compression != Coding::Identity {
            headers.insert("grpc-encoding", HeaderValue::from_static(config.compression.grpc_name()));
        }
        let (endpoint, tls) = (config.endpoint.clone(), config.tls.clone());
        let balance = match &config.proxy {
            Some(proxy) => Balance::Through(proxy.clone()),
            None if config.spreads => Balance::RoundRobin,
            None => Balance::PickFirst,
        };
        Grpc {
            upstream: Upstream::new(endpoint, Protocol::Http2, tls, config.keep_alive, balance),
            uri: uri.unwrap_or_else(|_| Uri::from_static(path)),
            headers,
            auth,
            compression: Compression::new(Form { json: false, coding: config.compression, level: None }, budget),
        }
    }

    async fn export(&self, payload: &Payload, credentials: Header) -> Result<Accepted, SendError> {
        let compressed = u8::from(payload.charge.is_some());
        let length = u32::try_from(payload.length()).unwrap_or(u32::MAX).to_be_bytes();
        let [a, b, c, d] = length;
        let mut pieces: SmallVec<[Bytes; 4]> = smallvec![Bytes::copy_from_slice(&[compressed, a, b, c, d])];
        pieces.extend(payload.body.iter().cloned());
        let mut request = Request::new(Pieces::new(pieces));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = http::Version::HTTP_2;
        request.headers_mut().clone_from(&self.headers);
        if let Some((name, value)) = credentials {
            request.headers_mut().insert(name, value);
        }
        let exchange = self.upstream.exchange(request).await;
        let answer = exchange.map_err(|status| SendError::Retry { after: None, status })?;
        let UpstreamAnswer { head, body, trailers, .. } = &answer;
        let headers = if trailers.contains_key("grpc-status") { trailers } else { &head.headers };
        let Some(status) = headers.get("grpc-status") else { return Err(classify(without_status(&answer), None)) };
        let code = Code::from_bytes(status.as_bytes());
        if code == Code::Ok {
            // One message: five bytes of framing, then the response. A compressed response is not needed.
            let response = body.get(5..).filter(|_| body.first() == Some(&0)).unwrap_or_default();
            let (rejected, message) = status::partial_success(response);
            return Ok(Accepted { rejected, message });
        }
        let message =
            headers.get("grpc-message").map(|message| percent::decoded_text(message.as_bytes())).unwrap_or_default();
        let details =
            headers.get("grpc-status-details-bin").and_then(|details| crate::otlp::base64::decode(details.as_bytes()));
        let hint = details.and_then(|details| status::from_wire(&details).1);
        Err(classify(Status { code, message }, hint))
    }
}

/// What a gRPC status means for the batch (OTLP specification, "Failures"). Statuses that only a person can resolve
/// hold the exporter.
fn classify(status: Status, hint: Option<Duration>) -> SendError {
    match status.code {
        Code::Cancelled | Code::DeadlineExceeded | Code::Aborted => SendError::Retry { after: hint, status },
        Code::OutOfRange | Code::Unavailable | Code::DataLoss => SendError::Retry { after: hint, status },
        Code::ResourceExhausted if hint.is_some() => SendError::Retry { after: hint, status },
        Code::ResourceExhausted if status.message.contains("larger than") => SendError::TooLarge(status),
        Code::InvalidArgument => SendError::Malformed(status),
        Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented => SendError::Misconfigured(status),
        _ => SendError::Rejected(status),
    }
}

/// The status for a response without one: it was cut off, or its sender is no gRPC server, such as a proxy.
fn without_status(answer: &UpstreamAnswer) -> Status {
    let http_status = answer.head.status.as_u16();
    let kind = answer.head.headers.get(CONTENT_TYPE).map_or(&[][..], HeaderValue::as_bytes);
    let is_grpc = kind.starts_with(b"application/grpc");
    let code = match http_status {
        200..=299 if is_grpc && answer.is_whole => Code::Unavailable,
        200..=299 if is_grpc => Code::Unknown,
        // Probably a web page.
        200..=399 | 404 | 405 | 415 => Code::Unimplemented,
        400 => Code::Internal,
        401 | 407 | 511 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        100..=199 | 429 | 502 | 503 | 504 => Code::Unavailable,
        _ => Code::Unknown,
    };
    let why = match is_grpc {
        false => "is this a gRPC endpoint?",
        true if answer.is_whole => "the answer was cut off, perhaps by a proxy that drops trailers",
        true => "the answer is too long",
    };
    Status { code, message: format!("HTTP {http_status} without a gRPC status: {why}") }
}

impl Exporter for Grpc {
    fn encode<'a>(&'a self, telemetry: &'a Telemetry) -> Encoding<'a> {
        Box::pin(self.compression.payload(telemetry))
    }

    fn send<'a>(&'a self, payload: &'a Payload) -> Sending<'a> {
        Box::pin(signed(&self.headers, "", self.auth.as_deref(), |credentials| self.export(payload, credentials)))
    }

    fn renewed(&self) -> Renewed<'_> {
        super::renewed(self.auth.as_deref())
    }

    fn destination(&self) -> String {
        self.upstream.endpoint.to_string()
    }

    fn labels(&self) -> Vec<(&'static str, String)> {
        self.upstream.labels()
    }
}
