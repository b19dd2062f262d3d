//! OTLP over gRPC, with its own unary framing on hyper. A general gRPC server answers OTLP's limits with codes that
//! make clients resend messages that can never fit (OUT_OF_RANGE for an oversize message, INTERNAL for a malformed
//! one).

use std::time::Duration;

use ::http::header::{CONTENT_TYPE, HeaderValue};
use ::http::{HeaderMap, Method, Request, Response};
use tonic::Code;

use crate::otlp::inflate::Coding;
use crate::otlp::status;
use crate::telemetry::{Answer, Signal};

use super::body::{Outgoing, Reader, Unread, Upload};
use super::request::{self, Encoding, Protocol};
use super::{Shared, http};

const ACCEPTED: &str = "identity,gzip,zstd,snappy";

pub(super) async fn handle(shared: &Shared, request: &Request<()>, body: &mut Upload) -> Response<Outgoing> {
    let headers = request.headers();
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let is_protobuf =
        matches!(kind, b"application/grpc" | b"application/grpc+proto") || kind.starts_with(b"application/grpc;");
    if request.method() != Method::POST || !is_protobuf {
        return http::failure(&Answer::wrong_type("gRPC is POST with the content type application/grpc"), headers);
    }
    match export_in_time(shared, request, body).await {
        Ok(()) => {
            let mut answer = Response::new(Outgoing::GrpcMessage);
            answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            answer
        }
        Err(answer) => failure(&answer),
    }
}

async fn export_in_time(shared: &Shared, request: &Request<()>, body: &mut Upload) -> Result<(), Answer> {
    shared.admit(shared.guards.grpc.as_deref(), request.headers()).await?;
    let export = async { export(shared, request, body).await.map_err(|unread| shared.answer_to(unread)) };
    match timeout(request.headers()) {
        Some(Duration::ZERO) => Err(Answer::past_deadline()),
        Some(timeout) => tokio::time::timeout(timeout, export).await.unwrap_or_else(|_| Err(Answer::past_deadline())),
        None => export.await,
    }
}

async fn export(shared: &Shared, request: &Request<()>, body: &mut Upload) -> Result<(), Unread> {
    let signal = match request.uri().path() {
        "/opentelemetry.proto.collector.logs.v1.LogsService/Export" => Some(Signal::Logs),
        "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export" => Some(Signal::Metrics),
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export" => Some(Signal::Traces),
        _ => None,
    };
    let Some((signal, gate)) = signal.and_then(|signal| Some((signal, shared.grpc_gate(signal)?))) else {
        let path = request.uri().path();
        let service = request::printable(path.trim_start_matches('/').split('/').next().unwrap_or_default());
        shared.tell_of_lost(signal, &service);
        return Err(Answer::unimplemented(format!("unknown service {service}")).into());
    };
    let coding = match request.headers().get("grpc-encoding").map(HeaderValue::as_bytes) {
        None => Coding::Identity,
        Some(name) => std::str::from_utf8(name).ok().and_then(Coding::from_grpc).ok_or_else(|| {
            Answer::unimplemented(format!("grpc-encoding {} is not supported", request::printable_bytes(name)))
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
    let is_number = number.len() <= 8 && number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = number.parse().ok().filter(|_| is_number)?;
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

/// An error: a "Trailers-Only" response.
pub(super) fn failure(answer: &Answer) -> Response<Outgoing> {
    let Answer { status, after, .. } = answer;
    let details = after.map(|_| status::to_wire(status, *after)).unwrap_or_default();
    let mut response = Response::new(Outgoing::Done);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    // It encodes characters that a header cannot contain.
    let _ = tonic::Status::with_details(status.code, &*status.message, details.into()).add_header(headers);
    if status.code == Code::Unimplemented {
        headers.insert("grpc-accept-encoding", HeaderValue::from_static(ACCEPTED));
    }
    response
}
