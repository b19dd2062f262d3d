//! OTLP over gRPC: unary framing of our own on hyper, because a general one answers OTLP's limits with codes that make
//! clients resend what can never fit (OUT_OF_RANGE for an oversize message, INTERNAL for a malformed one).

use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};

use crate::otlp::inflate::Coding;
use crate::otlp::status::code;
use crate::otlp::{base64, status};
use crate::telemetry::{Refusal, Signal, Status};

use super::Shared;
use super::body::{Answer, Reader, Unread, Upload};
use super::request::{self, Encoding, Protocol};

const ACCEPTED: &str = "identity,gzip,zstd,snappy";

pub async fn handle(shared: &Shared, request: &Request<()>, body: &mut Upload) -> Response<Answer> {
    let headers = request.headers();
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let is_protobuf =
        matches!(kind, b"application/grpc" | b"application/grpc+proto") || kind.starts_with(b"application/grpc;");
    if request.method() != Method::POST || !is_protobuf {
        let mut answer = Response::new(Answer::Done);
        *answer.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return answer;
    }
    if let Err(refusal) = shared.admit(shared.guards.grpc.as_deref(), headers).await {
        return refused(&refusal);
    }
    let deadline = match timeout(headers) {
        Some(timeout) if timeout.is_zero() => return deadline_exceeded(),
        other => other,
    };
    let export = export(shared, request, body);
    let outcome = match deadline {
        Some(deadline) => match tokio::time::timeout(deadline, export).await {
            Ok(outcome) => outcome,
            Err(_) => return deadline_exceeded(),
        },
        None => export.await,
    };
    match outcome {
        Ok(()) => {
            let mut answer = Response::new(Answer::GrpcMessage);
            answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            answer
        }
        Err(Unread::Refused(refusal)) => {
            shared.tell_of_refused(&refusal);
            refused(&refusal)
        }
        Err(Unread::Timeout) => failed(code::CANCELLED, "the request body came too slowly"),
        Err(Unread::Gone) => failed(code::CANCELLED, "the client broke off"),
    }
}

async fn export(shared: &Shared, request: &Request<()>, body: &mut Upload) -> Result<(), Unread> {
    let signal = match request.uri().path() {
        "/opentelemetry.proto.collector.logs.v1.LogsService/Export" => Some(Signal::Logs),
        "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export" => Some(Signal::Metrics),
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export" => Some(Signal::Traces),
        _ => None,
    };
    let unimplemented =
        |message: String| Unread::Refused(Refusal::Rejected(Status { code: code::UNIMPLEMENTED, message }));
    let Some((signal, gate)) = signal.and_then(|signal| Some((signal, shared.grpc_gate(signal)?))) else {
        let path = request.uri().path();
        let service = request::printable(path.trim_start_matches('/').split('/').next().unwrap_or_default());
        shared.tell_of_lost(signal, &service);
        return Err(unimplemented(format!("unknown service {service}")));
    };
    let coding = match request.headers().get("grpc-encoding").map(HeaderValue::as_bytes) {
        None => Coding::Identity,
        Some(name) => std::str::from_utf8(name).ok().and_then(Coding::from_grpc).ok_or_else(|| {
            unimplemented(format!("grpc-encoding {} is not supported", request::printable_bytes(name)))
        })?,
    };
    let client = request::client(shared, Protocol::Grpc, shared.grpc_metadata(), request, body);
    let reader = Reader::new(body, &shared.budget, shared.grpc_limit(), None);
    let message = reader.read_grpc(coding).await?;
    let peer = body.peer().map(|peer| peer.ip());
    let telemetry = request::telemetry(signal, Encoding::Protobuf, message, client, peer, &shared.budget).await?;
    Ok(gate.submit_from(peer, telemetry).await?)
}

/// `grpc-timeout`: up to eight digits and a unit; anything else is ignored.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok().filter(|_| number.len() <= 8)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

fn deadline_exceeded() -> Response<Answer> {
    failed(code::DEADLINE_EXCEEDED, "the client's deadline has passed")
}

fn failed(code: u8, message: &str) -> Response<Answer> {
    trailers_only(&Status { code, message: message.to_owned() }, None)
}

/// A refusal before anything of the body was read.
pub fn refused(refusal: &Refusal) -> Response<Answer> {
    let (_, status, after) = refusal.answer();
    trailers_only(&status, after)
}

/// An error: headers that are trailers at once.
pub fn trailers_only(status: &Status, retry_after: Option<Duration>) -> Response<Answer> {
    let mut answer = Response::new(Answer::Done);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from(u16::from(status.code)));
    if let Ok(message) = HeaderValue::from_str(&percent_encoded(&status.message)) {
        headers.insert("grpc-message", message);
    }
    if retry_after.is_some()
        && let Ok(details) = HeaderValue::from_str(&base64::encode(&status::to_wire(status, retry_after)))
    {
        headers.insert("grpc-status-details-bin", details);
    }
    if status.code == code::UNIMPLEMENTED {
        headers.insert("grpc-accept-encoding", HeaderValue::from_static(ACCEPTED));
    }
    answer
}

/// `grpc-message`: everything but printable ASCII, and `%` itself, is percent-encoded.
fn percent_encoded(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b' '..=b'$' | b'&'..=b'~' => out.push(char::from(byte)),
            _ => {
                let hex = |digit: u8| char::from_digit(u32::from(digit), 16).unwrap_or('0').to_ascii_uppercase();
                out.extend(['%', hex(byte >> 4), hex(byte & 15)]);
            }
        }
    }
    out
}
