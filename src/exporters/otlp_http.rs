//! `otlp_http` (alias `otlphttp`): OTLP over HTTP, protobuf or JSON.

mod redirect;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::{self, HeaderMap, HeaderValue};
use http::{Request, Uri};
use tonic::Code;

use crate::config::Place;
use crate::config::section::Section;
use crate::exporters::settings::Settings;
use crate::extensions::{Named, Purpose};
use crate::network::auth::Authenticator;
use crate::network::endpoint::{Endpoint, Scheme};
use crate::network::proxy::Proxy;
use crate::network::settings;
use crate::network::tls::ClientTls;
use crate::otlp::inflate::Coding;
use crate::otlp::status;
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
    /// The endpoint of each signal; `None` if none is configured.
    endpoints: [Option<Endpoint>; 3],
    /// The proxy for each endpoint.
    proxies: Box<[Option<Proxy>; 3]>,
    tls: ClientTls,
    json: bool,
    compression: Coding,
    /// The value of `Content-Encoding`, as in the config.
    content_encoding: &'static str,
    level: Option<i32>,
    headers: HeaderMap,
    auth: Option<(String, Place)>,
    user_agent: HeaderValue,
    keep_alive: Option<KeepAlive>,
    sending: Settings,
}

const CODINGS: &[(&str, (Coding, &str))] = &[
    ("gzip", (Coding::Gzip, "gzip")),
    ("zstd", (Coding::Zstd, "zstd")),
    ("zlib", (Coding::Deflate, "zlib")),
    ("deflate", (Coding::Deflate, "deflate")),
    ("snappy", (Coding::Snappy, "snappy")),
    ("x-snappy-framed", (Coding::SnappyFramed, "x-snappy-framed")),
    ("lz4", (Coding::Lz4, "lz4")),
    ("none", (Coding::Identity, "")),
    ("", (Coding::Identity, "")),
];

/// Default ping timeout.
const PING: Duration = Duration::from_secs(15);

impl Config {
    pub(crate) fn decode(section: Section) -> Config {
        section.pass_unknown();
        let base = settings::endpoint(&section, "endpoint", Endpoint::http);
        let endpoints = Signal::ALL.map(|signal| {
            let own = settings::endpoint(&section, &format!("{}_endpoint", signal.name()), Endpoint::http);
            own.or_else(|| base.as_ref()?.join(&format!("v1/{}", signal.name())).ok())
        });
        if endpoints.iter().all(Option::is_none) {
            let help = "write `endpoint: http://host:4318`";
            section.problem_with_help("endpoint", "at least one endpoint must be specified", help);
        }
        let (compression, content_encoding) = section.choice("compression", (Coding::Gzip, "gzip"), CODINGS);
        let tls = section.section("tls").inspect(|tls| tls.pass_unknown_as(&section));
        let tls = tls.map(ClientTls::decode).unwrap_or_default();
        let own = section
            .url("proxy_url")
            .filter(|url| !url.is_empty())
            .and_then(|url| Proxy::new(&url, "proxy_url", &tls).map_err(|why| section.problem("proxy_url", why)).ok());
        let proxies = Signal::ALL.map(|signal| {
            let endpoint = endpoints.get(signal as usize)?.as_ref()?;
            own.clone().or_else(|| settings::proxy(&section, "endpoint", endpoint, endpoint.scheme?, &tls))
        });
        let config = Config {
            endpoints,
            proxies: Box::new(proxies),
            tls,
            json: section.choice("encoding", false, &[("proto", false), ("json", true)]),
            compression,
            content_encoding,
            level: level(&section, compression),
            headers: headers(&section),
            auth: settings::authenticator(&section),
            user_agent: user_agent(&section),
            keep_alive: keep_alive(&section),
            sending: Settings::decode(&section, Duration::from_secs(30)),
        };
        section.unset(&["middlewares"]);
        section.ignored(&[
            "profiles_endpoint",
            "cookies",
            "read_buffer_size",
            "write_buffer_size",
            "max_idle_conns",
            "max_idle_conns_per_host",
            "max_conns_per_host",
            "idle_conn_timeout",
            "disable_keep_alives",
            "keepalive",
            "force_attempt_http2",
        ]);
        section.finish();
        config
    }
}

/// The level in `compression_params`; `None` means the default.
fn level(section: &Section, coding: Coding) -> Option<i32> {
    let params = section.section("compression_params")?;
    params.pass_unknown_as(section);
    let range = match coding {
        Coding::Gzip | Coding::Deflate => -2..=9,
        Coding::Zstd => i64::from(i32::MIN)..=22,
        Coding::Identity | Coding::Snappy | Coding::SnappyFramed | Coding::Lz4 => {
            params.ignored(&["level"]);
            return None;
        }
    };
    Some(params.limited("level", 0, range) as i32).filter(|level| *level != 0)
}

/// Sends a ping when nothing arrived for `http2_read_idle_timeout`; 0 disables it.
fn keep_alive(section: &Section) -> Option<KeepAlive> {
    let interval = section.duration("http2_read_idle_timeout", Duration::ZERO);
    let timeout = section.duration("http2_ping_timeout", PING);
    let timeout = if timeout.is_zero() { PING } else { timeout };
    (!interval.is_zero()).then_some(KeepAlive { interval, timeout, when_idle: true })
}

impl Config {
    fn endpoint(&self, signal: Signal) -> Option<&Endpoint> {
        self.endpoints.get(signal as usize)?.as_ref()
    }
}

impl ExporterSettings for Config {
    fn refuses(&self, id: &str, signal: Signal) -> Option<String> {
        let name = signal.name();
        let why = || format!("either endpoint or {name}_endpoint must be specified for {id}");
        self.endpoint(signal).is_none().then(why)
    }

    fn named(&self) -> Vec<Named> {
        let mut used = self.endpoints.iter().flatten();
        let in_clear = used.any(|url| url.scheme == Some(Scheme::Http) && url.leaves_the_machine());
        Named::authenticator(&self.auth, "auth.authenticator", Purpose::Client { in_clear }).into_iter().collect()
    }

    fn sending(&self) -> Option<&Settings> {
        Some(&self.sending)
    }

    fn target(&self, signal: Signal) -> Option<Target<'_>> {
        let endpoint = self.endpoint(signal)?;
        let tls = (endpoint.scheme == Some(Scheme::Https)).then_some(&self.tls);
        let proxy = self.proxies.get(signal as usize).and_then(Option::as_ref);
        let has_header = self.headers.contains_key(header::AUTHORIZATION);
        let is_authorized = self.auth.is_some() || has_header || endpoint.userinfo.is_some();
        Some(Target { endpoint, tls, proxy, is_authorized, is_grpc: false })
    }

    fn open(&self, opening: ExporterParts<'_>) -> Result<Arc<dyn OpenExporter>, String> {
        let (id, config) = (opening.id.to_owned(), self.clone());
        let (auth, budget) = (opening.auth, opening.budget.clone());
        Ok(ends(move |signal, _| {
            let Some(url) = config.endpoint(signal) else {
                return Err(format!("\"{id}\" has no endpoint for {}", signal.name()));
            };
            Ok(End::Exporter(Arc::new(Http::new(signal, &config, url, auth.clone(), budget.clone()))))
        }))
    }
}

struct Http {
    upstream: Upstream,
    /// The forwarding proxy, which itself answers when it cannot reach the upstream.
    forwarder: Option<Proxy>,
    uri: Uri,
    headers: HeaderMap,
    auth: Option<Arc<Authenticator>>,
    compression: Compression,
}

impl Http {
    fn new(
        signal: Signal,
        config: &Config,
        url: &Endpoint,
        auth: Option<Arc<Authenticator>>,
        budget: Arc<Budget>,
    ) -> Http {
        let mut headers = HeaderMap::new();
        let kind = if config.json { "application/json" } else { "application/x-protobuf" };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::USER_AGENT, config.user_agent.clone());
        if let Ok(host) = HeaderValue::try_from(url.authority()) {
            headers.insert(header::HOST, host);
        }
        if config.compression != Coding::Identity {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(config.content_encoding));
        }
        if let Some(credentials) = url.credentials() {
            headers.insert(header::AUTHORIZATION, credentials);
        }
        let proxy = config.proxies.get(signal as usize).cloned().flatten();
        let forwarder = proxy.clone().filter(|_| url.scheme == Some(Scheme::Http));
        if let Some(credentials) = forwarder.as_ref().and_then(Proxy::credentials) {
            headers.insert(header::PROXY_AUTHORIZATION, credentials);
        }
        for (name, value) in &config.headers {
            headers.insert(name.clone(), value.clone());
        }
        let uri = Uri::builder()
            .scheme(if url.scheme == Some(Scheme::Https) { "https" } else { "http" })
            .authority(url.authority())
            .path_and_query(url.target())
            .build();
        let tls = (url.scheme == Some(Scheme::Https)).then(|| config.tls.clone());
        let form = Form { json: config.json, coding: config.compression, level: config.level };
        let balance = proxy.map_or(Balance::RoundRobin, Balance::Through);
        Http {
            upstream: Upstream::new(url.clone(), Protocol::Either, tls, config.keep_alive, balance),
            forwarder,
            uri: uri.unwrap_or_else(|_| Uri::from_static("/")),
            headers,
            auth,
            compression: Compression::new(form, budget),
        }
    }

    async fn export(&self, payload: &Payload, credentials: Header) -> Result<Accepted, SendError> {
        let mut uri = self.uri.clone();
        for _ in 0..=redirect::MOST {
            let answer = self.exchange(&uri, payload, credentials.clone()).await;
            let answer = answer.map_err(|status| SendError::Retry { after: None, status })?;
            match redirect::next(&uri, &answer.head) {
                None => return self.outcome(&answer, ""),
                Some(Ok(next)) => uri = next,
                Some(Err(why)) => return self.outcome(&answer, &why),
            }
        }
        let (to, most) = (&self.upstream.endpoint, redirect::MOST);
        let message = format!("{to} redirects a request more than {most} times: is the path right?");
        Err(SendError::Misconfigured(Status { code: Code::Unimplemented, message }))
    }

    async fn exchange(&self, uri: &Uri, payload: &Payload, credentials: Header) -> Result<UpstreamAnswer, Status> {
        let length = payload.length();
        let mut request = Request::new(Pieces::new(payload.body.clone()));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = uri.clone();
        request.headers_mut().clone_from(&self.headers);
        if let Some((name, value)) = credentials {
            request.headers_mut().insert(name, value);
        }
        if payload.charge.is_none() {
            request.headers_mut().remove(header::CONTENT_ENCODING);
        }
        request.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        self.upstream.exchange(request).await
    }

    /// The outcome of an answer; `redirect` says why a redirect was not followed.
    fn outcome(&self, answer: &UpstreamAnswer, redirect: &str) -> Result<Accepted, SendError> {
        let UpstreamAnswer { head, body, .. } = answer;
        let kind = head.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        let is_json = kind.starts_with(b"application/json");
        if !head.status.is_success() {
            let mut error = classify(head.status.as_u16(), &head.headers, body, is_json, &self.upstream.endpoint);
            let message = error.message_mut();
            if !redirect.is_empty() {
                message.push_str(&format!(": {redirect}"));
            }
            if let Some(proxy) = &self.forwarder {
                let wants =
                    if head.status.as_u16() == 407 { ", which wants a user and a password in its URL" } else { "" };
                message.push_str(&format!(" (through {proxy}{wants})"));
            }
            return Err(error);
        }
        if is_web_page(kind, body) {
            let (to, number) = (&self.upstream.endpoint, head.status.as_u16());
            let message = format!(
                "{to} answered HTTP {number} with a web page: is the path right, and does a proxy or a captive portal \
                 stand in between?"
            );
            return Err(SendError::Misconfigured(Status { code: Code::Unimplemented, message }));
        }
        let (rejected, message) = if is_json { partial_success(body) } else { status::partial_success(body) };
        Ok(Accepted { rejected, message })
    }
}

/// Whether the body is a web page: neither protobuf nor JSON begins with `<`.
fn is_web_page(kind: &[u8], body: &[u8]) -> bool {
    let is_kind = |name: &[u8]| kind.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
    is_kind(b"text/html") || is_kind(b"application/xhtml") || body.trim_ascii_start().starts_with(b"<")
}

fn partial_success(json: &[u8]) -> (u64, String) {
    let value = serde_json::from_slice::<serde_json::Value>(json).unwrap_or_default();
    let partial = value.get("partialSuccess").and_then(|partial| partial.as_object());
    let number = |value: &serde_json::Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
    let mut rejected = partial.into_iter().flatten().filter(|(key, _)| key.starts_with("rejected"));
    let rejected = rejected.find_map(|(_, value)| number(value));
    let message = partial.and_then(|partial| partial.get("errorMessage")?.as_str());
    (rejected.unwrap_or(0), message.unwrap_or_default().to_owned())
}

/// What an HTTP status means for the batch (OTLP specification, "OTLP/HTTP Response"). Statuses that only a person can
/// resolve hold the exporter.
fn classify(http_status: u16, headers: &HeaderMap, body: &[u8], is_json: bool, url: &Endpoint) -> SendError {
    let said = if is_json {
        let value = serde_json::from_slice::<serde_json::Value>(body).unwrap_or_default();
        value.get("message").and_then(|message| message.as_str()).unwrap_or_default().to_owned()
    } else {
        status::from_wire(body).0.message
    };
    let mut message = format!("error exporting items, request to {url} responded with HTTP Status Code {http_status}");
    if !said.is_empty() {
        message = format!("{message}, Message={said}");
    }
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    if kind.starts_with(b"application/grpc") {
        message.push_str(": this is a port for gRPC: use otlp_grpc (grpc:// or grpcs://)");
    }
    let code = match http_status {
        400 => Code::InvalidArgument,
        401 | 407 | 511 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 => Code::ResourceExhausted,
        100..=199 | 502..=504 => Code::Unavailable,
        _ => Code::Unknown,
    };
    let status = Status { code, message };
    match http_status {
        100..=199 | 429 | 502 | 503 | 504 => SendError::Retry { after: retry_after(headers), status },
        413 => SendError::TooLarge(status),
        300..=399 | 401 | 403 | 404 | 405 | 407 | 415 | 511 => SendError::Misconfigured(status),
        400 | 422 => SendError::Malformed(status),
        _ => SendError::Rejected(status),
    }
}

/// `Retry-After`, in seconds or as a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    Some(match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::now()).unwrap_or_default(),
    })
}

impl Exporter for Http {
    fn encode<'a>(&'a self, telemetry: &'a Telemetry) -> Encoding<'a> {
        Box::pin(self.compression.payload(telemetry))
    }

    fn send<'a>(&'a self, payload: &'a Payload) -> Sending<'a> {
        let query = self.uri.query().unwrap_or_default();
        Box::pin(signed(&self.headers, query, self.auth.as_deref(), |credentials| self.export(payload, credentials)))
    }

    fn renewed(&self) -> Renewed<'_> {
        super::renewed(self.auth.as_deref())
    }

    fn destination(&self) -> String {
        self.upstream.endpoint.to_string()
    }

    fn labels(&self) -> Vec<(&'static str, String)> {
        let mut labels = self.upstream.labels();
        labels.push(("url_path", self.uri.path().to_owned()));
        labels
    }
}
