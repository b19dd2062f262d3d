//! The `otlp` receiver's section (facts 2): two optional protocols, each with its server settings.

use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::config::Place;
use crate::config::section::Section;
use crate::network::endpoint::Listen;
use crate::network::settings;
use crate::network::tls::ServerTls;
use crate::otlp::inflate::Coding;
use crate::telemetry::Signal;

#[derive(Clone, Debug, Default)]
pub struct Config {
    pub grpc: Option<Grpc>,
    pub http: Option<Http>,
}

#[derive(Clone, Debug)]
pub struct Grpc {
    pub endpoint: Listen,
    pub tls: Option<ServerTls>,
    pub auth: Option<(String, Place)>,
    pub max_recv_msg_size: usize,
    pub max_concurrent_streams: u32,
    pub include_metadata: bool,
    pub max_connection_idle: Option<Duration>,
    pub max_connection_age: Option<Duration>,
    pub max_connection_age_grace: Option<Duration>,
}

#[derive(Clone, Debug)]
pub struct Http {
    pub endpoint: Listen,
    pub tls: Option<ServerTls>,
    pub auth: Option<(String, Place)>,
    pub max_request_body_size: usize,
    pub include_metadata: bool,
    pub cors: Cors,
    pub response_headers: Vec<(HeaderName, HeaderValue)>,
    codings: Codings,
    pub read_timeout: Option<Duration>,
    pub read_header_timeout: Option<Duration>,
    pub idle_timeout: Option<Duration>,
    pub keep_alive: bool,
    paths: [String; 3],
}

#[derive(Clone, Debug)]
enum Codings {
    /// `compression_algorithms: []`: bodies are passed through as they are.
    Ignored,
    Accepted(Vec<String>),
}

#[derive(Clone, Debug, Default)]
pub struct Cors {
    allowed_origins: Vec<String>,
    allowed_headers: Vec<String>,
    pub exposed_headers: Option<HeaderValue>,
    pub max_age: u32,
}

/// What is accepted when the config does not say (facts 2.3; lz4 is left out).
const CODINGS: &[&str] = &["", "gzip", "zstd", "zlib", "snappy", "deflate", "x-snappy-framed"];
pub const STREAMS: u32 = 64;
const MEBIBYTE: usize = 1024 * 1024;

impl Config {
    pub fn decode(section: Section) -> Config {
        let mut config = Config::default();
        let protocols = section.section_or_default("protocols", false);
        if let Some(protocols) = protocols {
            config.grpc = protocols.section_or_default("grpc", false).map(Grpc::decode);
            config.http = protocols.section_or_default("http", false).map(Http::decode);
            protocols.finish();
        }
        let beside: Vec<_> = ["grpc", "http"].into_iter().filter(|key| section.node(key).is_some()).collect();
        for key in &beside {
            section.problem_with_help(key, format!("unknown key \"{key}\""), "it stands under protocols, farther in");
        }
        if config.grpc.is_none() && config.http.is_none() && beside.is_empty() {
            section.problem_with_help(
                "protocols",
                "must specify at least one protocol when using the OTLP receiver",
                "write `protocols: {grpc: , http: }`",
            );
        }
        section.finish();
        config
    }
}

impl Grpc {
    fn decode(section: Section) -> Grpc {
        let limit = section.integer_or_default("max_recv_msg_size_mib", 4, 2047) as usize;
        let streams = section.integer_or_default("max_concurrent_streams", STREAMS.into(), i64::from(u32::MAX)) as u32;
        let mut grpc = Grpc {
            endpoint: settings::listen(&section, "localhost:4317"),
            tls: section.section("tls").and_then(ServerTls::decode),
            auth: settings::authenticator(&section),
            max_recv_msg_size: limit * MEBIBYTE,
            max_concurrent_streams: streams,
            include_metadata: section.boolean("include_metadata", false),
            max_connection_idle: None,
            max_connection_age: None,
            max_connection_age_grace: None,
        };
        if let Some(keepalive) = section.section_or_default("keepalive", false) {
            if let Some(server) = keepalive.section_or_default("server_parameters", false) {
                let given = |key| server.duration_opt(key).filter(|duration| !duration.is_zero());
                grpc.max_connection_idle = given("max_connection_idle");
                grpc.max_connection_age = given("max_connection_age");
                grpc.max_connection_age_grace = given("max_connection_age_grace");
                server.ignored(&["time", "timeout"]);
                server.finish();
            }
            keepalive.ignored(&["enforcement_policy"]);
            keepalive.finish();
        }
        section.ignored(&["read_buffer_size", "write_buffer_size", "dialer"]);
        section.finish();
        grpc
    }
}

impl Http {
    fn decode(section: Section) -> Http {
        let path = |key, default: &str| {
            let path = section.text_or(key, default);
            if path.starts_with('/') { path } else { format!("/{path}") }
        };
        let paths = [
            path("logs_url_path", "/v1/logs"),
            path("metrics_url_path", "/v1/metrics"),
            path("traces_url_path", "/v1/traces"),
        ];
        let body = section.integer_or_default("max_request_body_size", 20 << 20, i64::MAX);
        let given = |key| section.duration_opt(key).filter(|duration| !duration.is_zero());
        let mut http = Http {
            endpoint: settings::listen(&section, "localhost:4318"),
            tls: section.section("tls").and_then(ServerTls::decode),
            auth: settings::authenticator(&section),
            max_request_body_size: body as usize,
            include_metadata: section.boolean("include_metadata", false),
            cors: section.section("cors").map(Cors::decode).unwrap_or_default(),
            response_headers: Vec::new(),
            codings: Codings::Accepted(CODINGS.iter().map(|name| (*name).to_owned()).collect()),
            read_timeout: given("read_timeout"),
            read_header_timeout: given("read_header_timeout"),
            idle_timeout: given("idle_timeout"),
            keep_alive: section.boolean("keep_alives_enabled", true),
            paths,
        };
        if let Some(keepalive) = section.section_or_default("keepalive", false) {
            let idle = keepalive.duration_opt("idle_timeout").filter(|duration| !duration.is_zero());
            http.idle_timeout = idle.or(http.idle_timeout);
            keepalive.finish();
        }
        if let Some(codings) = section.items("compression_algorithms") {
            for (name, place) in &codings {
                if !CODINGS.contains(&name.as_str()) {
                    let help = "supported: \"\" (none), gzip, zstd, zlib, deflate, snappy, x-snappy-framed";
                    let message = format!("unsupported compression type \"{name}\"");
                    section.problem_at(*place, "compression_algorithms", message, Some(help.to_owned()));
                }
            }
            let names: Vec<_> = codings.into_iter().map(|(name, _)| name).collect();
            http.codings = if names.is_empty() { Codings::Ignored } else { Codings::Accepted(names) };
        }
        for (name, value, place) in section.headers("response_headers") {
            match (HeaderName::try_from(&name), HeaderValue::from_str(value.expose())) {
                (Ok(name), Ok(value)) => http.response_headers.push((name, value)),
                _ => section.problem_at(place, "response_headers", format!("\"{name}\" is not a valid header"), None),
            }
        }
        section.ignored(&["write_timeout"]);
        section.finish();
        http
    }

    pub fn signal_at(&self, path: &str) -> Option<Signal> {
        let find = |path: &str| self.paths.iter().position(|known| known == path);
        let index = find(path).or_else(|| find(&clean(path)))?;
        Signal::ALL.get(index).copied()
    }

    /// How the body is encoded; `None` when that is not accepted.
    pub fn coding_of(&self, headers: &HeaderMap) -> Option<Coding> {
        let name = headers.get(header::CONTENT_ENCODING).map_or(Some(""), |value| value.to_str().ok())?;
        let Codings::Accepted(accepted) = &self.codings else { return Some(Coding::Identity) };
        let name = if name == "identity" { "" } else { name };
        if !accepted.iter().any(|known| known == name) {
            return None;
        }
        if name.is_empty() { Some(Coding::Identity) } else { Coding::from_http(name) }
    }
}

/// The path without empty segments, `.` and `..`; a slash at its end stays. The Go collector redirects to it, and clients that post do
/// not follow.
fn clean(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    let end = if path.ends_with('/') && !segments.is_empty() { "/" } else { "" };
    format!("/{}{end}", segments.join("/"))
}

impl Cors {
    fn decode(section: Section) -> Cors {
        let exposed = section.texts("exposed_headers").filter(|names| !names.is_empty());
        let cors = Cors {
            allowed_origins: section.texts("allowed_origins").unwrap_or_default(),
            allowed_headers: section.texts("allowed_headers").unwrap_or_default(),
            exposed_headers: exposed.and_then(|names| HeaderValue::from_str(&names.join(", ")).ok()),
            max_age: section.integer("max_age", 0, 0..=i64::from(u32::MAX)) as u32,
        };
        section.finish();
        cors
    }

    pub fn is_on(&self) -> bool {
        !self.allowed_origins.is_empty()
    }

    /// Whether a page from `origin` may read the answers: an allowed origin has at most one `*`.
    pub fn allows(&self, origin: &[u8]) -> bool {
        let origin = origin.to_ascii_lowercase();
        self.allowed_origins.iter().map(|allowed| allowed.to_ascii_lowercase()).any(|allowed| {
            match allowed.split_once('*') {
                None => allowed.as_bytes() == origin,
                Some((start, end)) => {
                    origin.len() >= start.len() + end.len()
                        && origin.starts_with(start.as_bytes())
                        && origin.ends_with(end.as_bytes())
                }
            }
        })
    }

    /// Whether a page from anywhere may, which then gets no credentials along with it.
    pub fn allows_all(&self) -> bool {
        self.allowed_origins.iter().any(|allowed| allowed == "*")
    }

    pub fn allows_headers(&self, wanted: &str) -> bool {
        const ALWAYS: [&str; 4] = ["accept", "accept-language", "content-type", "content-language"];
        wanted.split(',').map(str::trim).filter(|name| !name.is_empty()).all(|name| {
            let is = |allowed: &str| allowed == "*" || allowed.eq_ignore_ascii_case(name);
            ALWAYS.iter().any(|allowed| is(allowed))
                || self.allowed_headers.iter().any(|allowed| is(allowed))
                || (self.allowed_headers.is_empty() && is("x-requested-with"))
        })
    }
}
