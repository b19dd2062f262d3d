//! The `otlp` receiver's section: two optional protocols, each with its server settings.

use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::config::section::Section;
use crate::config::{Place, Problem};
use crate::network::cors::Cors;
use crate::network::endpoint::Listen;
use crate::network::paths::ServedPath;
use crate::network::settings;
use crate::network::tls::ServerTls;
use crate::otlp::inflate::Coding;
use crate::telemetry::Signal;

#[derive(Clone, Debug, Default)]
pub(crate) struct Config {
    pub(super) grpc: Option<Grpc>,
    pub(super) http: Option<Http>,
}

#[derive(Clone, Debug)]
pub(super) struct Grpc {
    pub(super) endpoint: Listen,
    pub(super) tls: Option<ServerTls>,
    pub(super) auth: Option<(String, Place)>,
    pub(super) max_recv_msg_size: usize,
    pub(super) max_concurrent_streams: u32,
    pub(super) include_metadata: bool,
    pub(super) max_connection_idle: Option<Duration>,
    pub(super) max_connection_age: Option<Duration>,
    pub(super) max_connection_age_grace: Option<Duration>,
}

#[derive(Clone, Debug)]
pub(super) struct Http {
    pub(super) endpoint: Listen,
    pub(super) tls: Option<ServerTls>,
    pub(super) auth: Option<(String, Place)>,
    pub(super) max_request_body_size: usize,
    pub(super) include_metadata: bool,
    pub(super) cors: Cors,
    pub(super) response_headers: Vec<(HeaderName, HeaderValue)>,
    codings: Codings,
    pub(super) read_timeout: Option<Duration>,
    pub(super) read_header_timeout: Option<Duration>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) keep_alive: bool,
    paths: [ServedPath; 3],
}

#[derive(Clone, Debug)]
enum Codings {
    /// `compression_algorithms: []`: bodies are passed through unchanged.
    Ignored,
    Accepted(Vec<String>),
}

/// Accepted by default, as in the Go collector.
const CODINGS: &[&str] = &["", "gzip", "zstd", "zlib", "snappy", "deflate", "lz4", "x-snappy-framed"];
pub(super) const STREAMS: u32 = 64;
const MEBIBYTE: usize = 1024 * 1024;

impl Config {
    pub(crate) fn decode(section: Section) -> Config {
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
        section.unset(&["middlewares"]);
        section.ignored(&["read_buffer_size", "write_buffer_size", "dialer"]);
        section.finish();
        grpc
    }
}

impl Http {
    fn decode(section: Section) -> Http {
        let path = |key, default: &str| {
            let path = section.text_or(key, default);
            ServedPath::new(&if path.starts_with('/') { path } else { format!("/{path}") })
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
            response_headers: settings::response_headers(&section),
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
                    let message = format!("there is no compression \"{name}\": a client that uses it is refused");
                    let help = "supported: \"\" (none), gzip, zstd, zlib, deflate, snappy, lz4, x-snappy-framed";
                    section.push("compression_algorithms", Problem::warning(*place, message).help(help.to_owned()));
                }
            }
            let names: Vec<_> = codings.into_iter().map(|(name, _)| name).collect();
            http.codings = if names.is_empty() { Codings::Ignored } else { Codings::Accepted(names) };
        }
        section.unset(&["middlewares"]);
        section.ignored(&["write_timeout", "profiles_url_path"]);
        section.pass_unknown();
        section.finish();
        http
    }

    pub(super) fn signal_at(&self, path: &str) -> Option<Signal> {
        ServedPath::find(&self.paths, path).and_then(|index| Signal::ALL.get(index).copied())
    }

    /// The body's coding; `None` if it is not accepted.
    pub(super) fn coding_of(&self, headers: &HeaderMap) -> Option<Coding> {
        let name = headers.get(header::CONTENT_ENCODING).map_or(Some(""), |value| value.to_str().ok())?;
        let Codings::Accepted(accepted) = &self.codings else { return Some(Coding::Identity) };
        let name = if name == "identity" { "" } else { name };
        if !accepted.iter().any(|known| known == name) {
            return None;
        }
        if name.is_empty() { Some(Coding::Identity) } else { Coding::from_http(name) }
    }
}
