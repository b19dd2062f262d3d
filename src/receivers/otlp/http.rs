//! OTLP over HTTP: routes, content types, codings, CORS; every error is a `google.rpc.Status` in the request's encoding.

use http::header::{self, HeaderName, HeaderValue};
use http::uri::Authority;
use http::{HeaderMap, Method, Request, Response, Version};

use crate::otlp::inflate::Coding;
use crate::otlp::percent;
use crate::otlp::status;
use crate::telemetry::{Answer, Intake, Signal};

use super::Shared;
use super::body::{Outgoing, Reader, Unread, Upload};
use super::config::Http;
use super::request::{self, Encoding, Protocol};

pub(super) async fn handle(
    shared: &Shared,
    http: &Http,
    request: &Request<()>,
    body: &mut Upload,
) -> Response<Outgoing> {
    // Requests from any origin are received; `cors` decides which pages may read the answer, as in the Go collector.
    let mut response = match http.cors.preflight(request.method(), request.headers()) {
        Some(preflight) => preflight.map(|()| Outgoing::Done),
        None => {
            let mut response = match export(shared, http, request, body).await {
                Ok(encoding) => success(encoding),
                Err(answer) => failure(&answer, request.headers()),
            };
            http.cors.mark(request.headers(), response.headers_mut());
            response
        }
    };
    for (name, value) in &http.response_headers {
        response.headers_mut().insert(name.clone(), value.clone());
    }
    response
}

async fn export(shared: &Shared, http: &Http, request: &Request<()>, body: &mut Upload) -> Result<Encoding, Answer> {
    let headers = request.headers();
    shared.admit(shared.guards.http.as_deref(), headers).await?;
    let signal = http.signal_at(request.uri().path());
    let Some((signal, gate)) = signal.and_then(|signal| Some((signal, shared.http_gate(signal)?))) else {
        let path = request::printable(request.uri().path());
        if !percent::is_valid(request.uri().path()) {
            return Err(Answer::malformed(format!("a % without two hex digits behind it in {path}")));
        }
        if request.method() == Method::POST {
            shared.tell_of_lost(signal, &path);
        }
        return Err(Answer::not_found(format!("no OTLP signal is received at {path}")));
    };
    if request.method() != Method::POST {
        return Err(Answer::wrong_method());
    }
    // hyper decodes chunks only, and ignores other transfer codings (RFC 9112, 6.1).
    let is_chunked = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"chunked");
    if !headers.get_all(header::TRANSFER_ENCODING).iter().all(is_chunked) {
        return Err(Answer::wrong_framing());
    }
    let Some(encoding) = encoding_of(headers) else {
        let message = "supported content types: application/x-protobuf, application/json";
        Shared::tell_once(&shared.said.of_another_type, || {
            let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
            format!("a client sends the Content-Type {:?}: {message}", request::printable_bytes(kind))
        });
        return Err(Answer::wrong_type(message));
    };
    let Some(coding) = http.coding_of(headers) else {
        let offered = headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes).unwrap_or_default();
        let message = format!("Content-Encoding {} is not supported", request::printable_bytes(offered));
        return Err(Answer::wrong_coding(message, "gzip, zstd, deflate, snappy"));
    };
    let submitted = read_and_submit(shared, http, request, body, (encoding, signal, coding), gate).await;
    submitted.map(|()| encoding).map_err(|unread| shared.answer_to(unread))
}

async fn read_and_submit(
    shared: &Shared,
    http: &Http,
    request: &Request<()>,
    body: &mut Upload,
    (encoding, signal, coding): (Encoding, Signal, Coding),
    gate: &dyn Intake,
) -> Result<(), Unread> {
    let client = request::client(shared, Protocol::Http, http.include_metadata, request, body);
    let reader = Reader::new(body, &shared.budget, shared.limit(http.max_request_body_size), http.read_timeout);
    let message = reader.read_all(coding).await?;
    let peer = body.peer().map(|peer| peer.ip());
    let telemetry = request::telemetry(signal, encoding, message, client, peer, &shared.budget).await?;
    Ok(gate.submit_from(peer, telemetry).await?)
}

/// The encoding in the first Content-Type. Parameters are ignored, as in the Go collector: JSON is UTF-8.
fn encoding_of(headers: &HeaderMap) -> Option<Encoding> {
    match headers.get(header::CONTENT_TYPE)?.to_str().ok()?.split(';').next()?.trim() {
        kind if kind.eq_ignore_ascii_case("application/x-protobuf") => Some(Encoding::Protobuf),
        kind if kind.eq_ignore_ascii_case("application/json") => Some(Encoding::Json),
        _ => None,
    }
}

fn success(encoding: Encoding) -> Response<Outgoing> {
    let (kind, body) = match encoding {
        Encoding::Protobuf => ("application/x-protobuf", bytes::Bytes::new()),
        Encoding::Json => ("application/json", bytes::Bytes::from_static(b"{}")),
    };
    let mut response = Response::new(Outgoing::Whole(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// An error in the encoding of the request with these headers; in JSON if that is unknown.
pub(super) fn failure(answer: &Answer, request: &HeaderMap) -> Response<Outgoing> {
    let (kind, body) = match encoding_of(request) {
        Some(Encoding::Protobuf) => ("application/x-protobuf", status::to_wire(&answer.status, answer.after)),
        Some(Encoding::Json) | None => ("application/json", status::to_json(&answer.status, answer.after)),
    };
    let mut response = Response::new(Outgoing::Whole(body.into()));
    *response.status_mut() = answer.http;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    if let Some(after) = answer.after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    if answer.closes {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    headers.extend(answer.header.as_deref().cloned());
    response
}

/// Why a head of HTTP/1 is ambiguous though hyper accepts it: two parsers may see different requests, which allows
/// request smuggling (RFC 9112, 3.2 and 6.1; RFC 9110, 7.2).
pub(super) fn ambiguous(request: &Request<()>) -> Option<&'static str> {
    if request.version() > Version::HTTP_11 {
        return None;
    }
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (None, _) if request.version() == Version::HTTP_11 => return Some("the Host header is missing"),
        (_, Some(_)) => return Some("there is more than one Host header"),
        (host, None) => host.map(HeaderValue::as_bytes).filter(|host| !host.is_empty()),
    };
    if host.is_some_and(|host| host.contains(&b'@') || Authority::try_from(host).is_err()) {
        return Some("the Host header names no host");
    }
    let codings = request.headers().get_all(header::TRANSFER_ENCODING).iter();
    let codings = codings.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let chunked = codings.filter(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"chunked")).count();
    (chunked > 1).then_some("the body is chunked more than once")
}
