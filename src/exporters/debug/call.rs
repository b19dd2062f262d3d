//! A call as the attributes of its span describe it: where it went, and the answer. The names are those of
//! OpenTelemetry's semantic conventions, the current ones and the ones before them.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use super::layout::word;
use super::tree::{CONSUMER, PRODUCER, SERVER};
use crate::otlp::views::{AnyValue, KeyValue, Span};

/// The last segments of the paths of health checks.
const PROBES: [&str; 9] = ["health", "healthz", "healthy", "livez", "liveness", "readyz", "readiness", "ready", "ping"];

/// The part of a query that is searched for its table.
const QUERY: usize = 400;

/// Where a call went, and the answer; unknown parts are empty. Texts are safe to print.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// With the port, if it is not the usual one.
    pub(crate) host: Box<str>,
    /// The path of a URL, or its template.
    pub(crate) path: Box<str>,
    /// The status: `200`, `UNAVAILABLE`.
    pub(crate) answer: Box<str>,
    /// Whether the host and the path are part of the span's words; else the name says enough.
    is_shown: bool,
}

impl Call {
    /// The name and the call of a span.
    pub(crate) fn read(span: &Span<'_>, columns: usize) -> (String, Option<Call>) {
        let name = word(columns, span.name);
        if span.kind == SERVER {
            return (name, None);
        }
        let known = Known::read(span);
        let (name, call) = if !known.method.is_empty() {
            known.http(name)
        } else if !known.database.is_empty() {
            (known.query(name), Call { host: known.host(), answer: known.database_answer.into(), ..Call::default() })
        } else if !known.rpc.is_empty() {
            known.rpc(name)
        } else {
            let name = if known.messaging.is_empty() { name } else { known.message(name, span.kind) };
            (name, Call { host: known.host(), ..Call::default() })
        };
        let cut = |text: Box<str>| -> Box<str> { word(columns, text.as_bytes()).into() };
        let call = Call { host: cut(call.host), path: cut(call.path), answer: cut(call.answer), ..call };
        (word(columns, name.as_bytes()), (call != Call::default()).then_some(call))
    }

    /// The host, or the port of a service behind a bare address: `cart:8080` for `127.0.0.1:8080`.
    fn place(&self, peer: Option<&str>) -> Cow<'_, str> {
        let Some(peer) = peer else { return Cow::Borrowed(&self.host) };
        let port = match self.host.parse::<SocketAddr>() {
            Ok(address) => Some(address.port().to_string()),
            Err(_) if self.host.is_empty() || self.host.parse::<IpAddr>().is_ok() => None,
            Err(_) => match self.host.strip_prefix("localhost") {
                Some(rest) => rest.strip_prefix(':').map(str::to_owned),
                None => return Cow::Borrowed(&self.host),
            },
        };
        Cow::Owned(port.map_or_else(|| peer.to_owned(), |port| format!("{peer}:{port}")))
    }

    /// `cart:8080/items`: where the call of this name went, if its words say it.
    pub(crate) fn words(&self, name: &str, peer: Option<&str>, path: &str) -> String {
        let place = self.place(peer);
        match self.is_shown && !(place.is_empty() && path.is_empty()) {
            true => format!("{name} {place}{path}"),
            false => name.to_owned(),
        }
    }

    /// The path in which segments with digits, which are mostly ids, are `*`.
    pub(crate) fn template(&self) -> Cow<'_, str> {
        if !self.path.bytes().any(|byte| byte.is_ascii_digit()) {
            return Cow::Borrowed(&self.path);
        }
        let is_id = |segment: &str| segment.bytes().any(|byte| byte.is_ascii_digit());
        let segments = self.path.split('/').map(|segment| if is_id(segment) { "*" } else { segment });
        Cow::Owned(segments.collect::<Vec<_>>().join("/"))
    }

    /// The class of the answer: `2` of `200`.
    pub(crate) fn class(&self) -> &str {
        class(&self.answer)
    }
}

/// Whether a server's span answers a health check: by the last segment of its path, or of its name.
pub(super) fn is_probe(span: &Span<'_>) -> bool {
    let known = Known::read(span);
    let path = known.path.split(['?', '#']).next().unwrap_or_default();
    let name = word(QUERY, span.name);
    let asked = if path.is_empty() { name.split_whitespace().last().unwrap_or_default() } else { path };
    let last = asked.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    asked.contains('/') && PROBES.contains(&last) || asked.starts_with("grpc.health.v1.Health/")
}

fn class(answer: &str) -> &str {
    let is_status = answer.len() == 3 && answer.bytes().all(|byte| byte.is_ascii_digit());
    answer.get(..if is_status { 1 } else { answer.len() }).unwrap_or_default()
}

/// The common part of several answers: `200`, or `2xx`.
pub(super) fn common_answer<'a>(mut answers: impl Iterator<Item = &'a str>) -> String {
    let first = answers.next().unwrap_or_default();
    match answers.all(|answer| answer == first) || class(first).len() != 1 {
        true => first.to_owned(),
        false => format!("{}xx", class(first)),
    }
}

/// The common part of several paths: `/items/*` of `/items/1` and `/items/2`.
pub(super) fn common_path<'a>(mut paths: impl Iterator<Item = &'a str>) -> String {
    let mut common: Vec<&str> = paths.next().unwrap_or_default().split('/').collect();
    for path in paths {
        let mut segments = path.split('/');
        for known in &mut common {
            *known = if segments.next() == Some(*known) { *known } else { "*" };
        }
    }
    common.join("/")
}

/// The attributes that tell it, as texts; empty if they are missing.
#[derive(Default)]
struct Known {
    method: String,
    url: String,
    address: String,
    port: String,
    path: String,
    template: String,
    status: String,
    error: String,
    database: String,
    operation: String,
    table: String,
    summary: String,
    query: String,
    database_answer: String,
    rpc: String,
    rpc_service: String,
    rpc_method: String,
    rpc_answer: String,
    messaging: String,
    destination: String,
    action: String,
    peer: String,
}

impl Known {
    fn read(span: &Span<'_>) -> Known {
        let mut known = Known::default();
        for pair in span.attributes.clone().map(KeyValue::read) {
            let slot = match pair.key {
                b"http.request.method" | b"http.method" => &mut known.method,
                b"url.full" | b"http.url" => &mut known.url,
                b"server.address" | b"net.peer.name" => &mut known.address,
                b"server.port" | b"net.peer.port" => &mut known.port,
                b"url.path" | b"http.target" => &mut known.path,
                b"url.template" => &mut known.template,
                b"http.response.status_code" | b"http.status_code" => &mut known.status,
                b"error.type" => &mut known.error,
                b"db.system.name" | b"db.system" => &mut known.database,
                b"db.operation.name" | b"db.operation" => &mut known.operation,
                b"db.collection.name" | b"db.sql.table" | b"db.mongodb.collection" => &mut known.table,
                b"db.query.summary" => &mut known.summary,
                b"db.query.text" | b"db.statement" => &mut known.query,
                b"db.response.status_code" => &mut known.database_answer,
                b"rpc.system.name" | b"rpc.system" => &mut known.rpc,
                b"rpc.service" => &mut known.rpc_service,
                b"rpc.method" => &mut known.rpc_method,
                b"rpc.response.status_code" | b"rpc.grpc.status_code" => &mut known.rpc_answer,
                b"messaging.system" => &mut known.messaging,
                b"messaging.destination.name" | b"messaging.destination" => &mut known.destination,
                b"messaging.operation.name" | b"messaging.operation.type" | b"messaging.operation" => &mut known.action,
                b"service.peer.name" | b"peer.service" => &mut known.peer,
                _ => continue,
            };
            // The first of equal keys counts.
            if slot.is_empty() {
                *slot = text(pair.value);
            }
        }
        // Line breaks of a query were escaped with its other controls.
        known.query = known.query.replace("\\n", " ").replace("\\t", " ");
        known
    }

    /// `cart:8080`. A service's name is better than its bare address.
    fn host(&self) -> Box<str> {
        let is_bare = self.address.is_empty() || self.address.parse::<IpAddr>().is_ok();
        let host = if is_bare && !self.peer.is_empty() { &self.peer } else { &self.address };
        match self.port.as_str() {
            "" | "80" | "443" => host.as_str().into(),
            _ if host.is_empty() => "".into(),
            port if host.contains(':') => format!("[{host}]:{port}").into(),
            port => format!("{host}:{port}").into(),
        }
    }

    fn http(self, name: String) -> (String, Call) {
        let rest = self.url.split_once("://").map_or("", |(_, rest)| rest);
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end).unwrap_or_default();
        // Credentials are not shown.
        let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let is_bare = authority.parse::<SocketAddr>().is_ok() || authority.parse::<IpAddr>().is_ok();
        let host =
            if authority.is_empty() || is_bare && !self.peer.is_empty() { self.host() } else { authority.into() };
        let path = [&*self.template, path, &*self.path].into_iter().find(|path| !path.is_empty()).unwrap_or_default();
        let path = path.split(['?', '#']).next().unwrap_or_default().into();
        let name = if name.contains(&*self.method) { self.method } else { name };
        let answer = if self.status.is_empty() { self.error } else { self.status };
        (name, Call { host, path, answer: answer.into(), is_shown: true })
    }

    fn rpc(self, name: String) -> (String, Call) {
        let both = format!("{}/{}", self.rpc_service, self.rpc_method);
        let name = if self.rpc_service.is_empty() || self.rpc_method.is_empty() { name } else { both };
        let host = self.host();
        let answer = match (&*self.rpc, self.rpc_answer.parse()) {
            ("grpc", Ok(code)) => grpc(code).map_or(self.rpc_answer, str::to_owned),
            _ => self.rpc_answer,
        };
        (name, Call { host, answer: answer.into(), is_shown: true, ..Call::default() })
    }

    /// `SELECT orders`: the operation and its table, unless the name has them.
    fn query(&self, name: String) -> String {
        let operation = self.query.split_whitespace().next().unwrap_or_default();
        let operation = if self.operation.is_empty() { operation } else { &self.operation };
        let table = if self.table.is_empty() { table(&self.query) } else { &self.table };
        let is_named = |part: &str| name.to_lowercase().contains(&part.to_lowercase());
        if !self.summary.is_empty() && !is_named(&self.summary) {
            return self.summary.clone();
        }
        match is_named(operation) && is_named(table) {
            true => name,
            false => format!("{operation} {table}").trim_end().to_owned(),
        }
    }

    /// `publish orders`, unless the name has the destination.
    fn message(&self, name: String, kind: i32) -> String {
        if name.contains(&*self.destination) {
            return name;
        }
        let usual = match kind {
            PRODUCER => "publish",
            CONSUMER => "process",
            _ => "send",
        };
        let action = if self.action.is_empty() { usual } else { &self.action };
        format!("{action} {}", self.destination)
    }
}

fn text(value: AnyValue<'_>) -> String {
    match value {
        AnyValue::String(text) => word(QUERY, text),
        AnyValue::Int(number) => number.to_string(),
        _ => String::new(),
    }
}

/// The table that an SQL query names first.
fn table(query: &str) -> &str {
    const BEFORE: [&str; 5] = ["from", "into", "update", "join", "table"];
    let mut words = query.split_whitespace();
    let is_before = |word: &str| BEFORE.iter().any(|before| word.eq_ignore_ascii_case(before));
    let found = words.by_ref().any(is_before).then(|| words.next()).flatten().unwrap_or_default();
    found.split(['(', ';', ',', ')']).next().unwrap_or_default().trim_matches(['"', '`', '\'', '[', ']'])
}

/// The name of a gRPC status; empty for OK.
fn grpc(code: usize) -> Option<&'static str> {
    const NAMES: [&str; 17] = [
        "",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    NAMES.get(code).copied()
}
