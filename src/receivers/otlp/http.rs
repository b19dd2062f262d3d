//! OTLP over HTTP: routes, content types, codings, CORS; every error is a `google.rpc.Status` in the request's encoding.

use std::time::Duration;

use http::header::{self, HeaderName, HeaderValue};
use http::uri::Authority;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};

use crate::otlp::inflate::Coding;
use crate::otlp::percent;
use crate::otlp::status;
use crate::otlp::status::code;
use crate::telemetry::{Refusal, Signal, Status};

use super::Shared;
use super::body::{Answer, Reader, Unread, Upload};
use super::config::Http;
use super::request::{self, Encoding, Protocol};

pub async fn handle(shared: &Shared, http: &Http, request: &Request<()>, body: &mut Upload) -> Response<Answer> {
    let encoding = encoding_of(request.headers());
    // Any origin is received; `cors` decides which pages may read the answer, as in the Go collector.
    let mut answer = if let Some(headers) = http.cors.preflight(request.method(), request.headers(), "POST") {
        let mut answer = Response::new(Answer::Done);
        *answer.status_mut() = StatusCode::NO_CONTENT;
        *answer.headers_mut() = headers;
        answer
    } else {
        match shared.admit(shared.guards.http.as_deref(), request.headers()).await {
            Ok(()) => export(shared, http, request, body, encoding).await,
            Err(refusal) => unauthenticated(shared, refusal, encoding),
        }
    };
    let headers = answer.headers_mut();
    http.cors.mark(request.headers(), headers);
    for (name, value) in &http.response_headers {
        headers.insert(name.clone(), value.clone());
    }
    answer
}

async fn export(
    shared: &Shared,
    http: &Http,
    request: &Request<()>,
    body: &mut Upload,
    encoding: Option<Encoding>,
) -> Response<Answer> {
    let fail = |http_status, code, message: String| failure(http_status, &Status { code, message }, None, encoding);
    let signal = http.signal_at(request.uri().path());
    let Some((signal, gate)) = signal.and_then(|signal| Some((signal, shared.http_gate(signal)?))) else {
        let path = request::printable(request.uri().path());
        if !percent::is_valid(request.uri().path()) {
            return fail(400, code::INVALID_ARGUMENT, format!("a % without two hex digits behind it in {path}"));
        }
        if request.method() == Method::POST {
            shared.tell_of_lost(signal, &path);
        }
        return fail(404, code::NOT_FOUND, format!("no OTLP signal is received at {path}"));
    };
    if request.method() != Method::POST {
        let mut answer = fail(405, code::UNIMPLEMENTED, "only POST is supported".to_owned());
        answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return answer;
    }
    // hyper takes the chunks apart, and knows nothing of what else was done to the body (RFC 9112, 6.1).
    let is_chunked = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"chunked");
    if !request.headers().get_all(header::TRANSFER_ENCODING).iter().all(is_chunked) {
        let mut answer = fail(501, code::UNIMPLEMENTED, "the only Transfer-Encoding is chunked".to_owned());
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        return answer;
    }
    let Some(encoding) = encoding else {
        let message = "supported content types: application/x-protobuf, application/json".to_owned();
        Shared::tell_once(&shared.said.of_another_type, || {
            let kind = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
            format!("a client sends the Content-Type {:?}: {message}", request::printable_bytes(kind))
        });
        return fail(415, code::INVALID_ARGUMENT, message);
    };
    let Some(coding) = http.coding_of(request.headers()) else {
        let offered = request.headers().get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes).unwrap_or_default();
        let message = format!("Content-Encoding {} is not supported", request::printable_bytes(offered));
        let mut answer = fail(415, code::INVALID_ARGUMENT, message);
        answer.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip, zstd, deflate, snappy"));
        return answer;
    };
    match read_and_submit(shared, http, request, body, (encoding, signal, coding), gate).await {
        Ok(()) => success(encoding),
        Err(Unread::Refused(refusal)) => {
            shared.tell_of_refused(&refusal);
            let (http_status, status, after) = refusal.answer();
            failure(http_status, &status, after, Some(encoding))
        }
        Err(Unread::Timeout) => {
            let mut answer = fail(408, code::CANCELLED, "the request body came too slowly".to_owned());
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            answer
        }
        Err(Unread::Gone) => fail(400, code::CANCELLED, "the request body broke off".to_owned()),
    }
}

async fn read_and_submit(
    shared: &Shared,
    http: &Http,
    request: &Request<()>,
    body: &mut Upload,
    (encoding, signal, coding): (Encoding, Signal, Coding),
    gate: &dyn crate::telemetry::Intake,
) -> Result<(), Unread> {
    let client = request::client(shared, Protocol::Http, http.include_metadata, request, body);
    let reader = Reader::new(body, &shared.budget, shared.limit(http.max_request_body_size), http.read_timeout);
    let message = reader.read_all(coding).await?;
    let peer = body.peer().map(|peer| peer.ip());
    let telemetry = request::telemetry(signal, encoding, message, client, peer, &shared.budget).await?;
    Ok(gate.submit_from(peer, telemetry).await?)
}

/// A refusal before anything of the body was read.
pub fn refused(refusal: &Refusal, headers: &HeaderMap) -> Response<Answer> {
    let (http_status, status, after) = refusal.answer();
    failure(http_status, &status, after, encoding_of(headers))
}

/// The encoding that a Content-Type names, the first of several. Parameters are ignored, but for a charset that is not UTF-8.
fn encoding_of(headers: &HeaderMap) -> Option<Encoding> {
    let mut parts = headers.get(header::CONTENT_TYPE)?.to_str().ok()?.split(';').map(str::trim);
    let encoding = match parts.next()? {
        kind if kind.eq_ignore_ascii_case("application/x-protobuf") => Encoding::Protobuf,
        kind if kind.eq_ignore_ascii_case("application/json") => Encoding::Json,
        _ => return None,
    };
    let is_utf8 = |part: &str| match part.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    };
    parts.all(is_utf8).then_some(encoding)
}

/// What a request is answered whose credentials are not accepted.
fn unauthenticated(shared: &Shared, refusal: Refusal, encoding: Option<Encoding>) -> Response<Answer> {
    let (http_status, status, after) = refusal.answer();
    let mut answer = failure(http_status, &status, after, encoding);
    if let Some(guard) = shared.guards.http.as_ref().filter(|_| http_status == 401) {
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, guard.challenge());
    }
    answer
}

fn success(encoding: Encoding) -> Response<Answer> {
    let (kind, body) = match encoding {
        Encoding::Protobuf => ("application/x-protobuf", bytes::Bytes::new()),
        Encoding::Json => ("application/json", bytes::Bytes::from_static(b"{}")),
    };
    let mut answer = Response::new(Answer::Whole(body));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

/// An error. Where the request's encoding is unknown, JSON.
fn failure(
    http_status: u16,
    status: &Status,
    retry_after: Option<Duration>,
    encoding: Option<Encoding>,
) -> Response<Answer> {
    let (kind, body) = match encoding {
        Some(Encoding::Protobuf) => ("application/x-protobuf", status::to_wire(status, retry_after)),
        Some(Encoding::Json) | None => ("application/json", status::to_json(status, retry_after)),
    };
    let mut answer = Response::new(Answer::Whole(body.into()));
    *answer.status_mut() = StatusCode::from_u16(http_status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    if let Some(after) = retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    if matches!(http_status, 413) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

/// What of a head of HTTP/1 two readers may take in two ways, and hyper lets through: that is how one of them is made to see
/// a request that the other does not (RFC 9112, 3.2 and 6.1; RFC 9110, 7.2).
pub fn ambiguous(request: &Request<()>) -> Option<&'static str> {
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

/// The answer to such a head: what follows it on the connection may not be a request.
pub fn not_understood(why: &str) -> Response<Answer> {
    let status = Status { code: code::INVALID_ARGUMENT, message: why.to_owned() };
    let mut answer = failure(400, &status, None, None);
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// The answer of a receiver that has no `http` protocol.
pub fn not_served() -> Response<Answer> {
    let message = "the receiver has no http protocol: add `http:` to its protocols".to_owned();
    failure(404, &Status { code: code::UNIMPLEMENTED, message }, None, None)
}
