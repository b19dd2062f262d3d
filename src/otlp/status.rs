//! `google.rpc.Status`, the body of every error answer (OTLP specification, "Failures"): written for clients, read from
//! upstreams. Also the partial success of an `Export…ServiceResponse`.

use std::time::Duration;

use super::wire::{Fields, Value, put_bytes, put_uint};

/// A status as gRPC and OTLP know it (google.rpc.Status).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub code: u8,
    pub message: String,
}

/// gRPC status codes (google.rpc.Code).
pub mod code {
    pub const CANCELLED: u8 = 1;
    pub const UNKNOWN: u8 = 2;
    pub const INVALID_ARGUMENT: u8 = 3;
    pub const DEADLINE_EXCEEDED: u8 = 4;
    pub const NOT_FOUND: u8 = 5;
    pub const PERMISSION_DENIED: u8 = 7;
    pub const RESOURCE_EXHAUSTED: u8 = 8;
    pub const ABORTED: u8 = 10;
    pub const OUT_OF_RANGE: u8 = 11;
    pub const UNIMPLEMENTED: u8 = 12;
    pub const INTERNAL: u8 = 13;
    pub const UNAVAILABLE: u8 = 14;
    pub const DATA_LOSS: u8 = 15;
    pub const UNAUTHENTICATED: u8 = 16;
}

const RETRY_INFO: &[u8] = b"type.googleapis.com/google.rpc.RetryInfo";

/// Writes a status as protobuf, with a RetryInfo detail when there is a hint.
pub fn to_wire(status: &Status, retry_after: Option<Duration>) -> Vec<u8> {
    let mut out = Vec::with_capacity(status.message.len() + 80);
    put_uint(&mut out, 1, u64::from(status.code));
    put_bytes(&mut out, 2, status.message.as_bytes());
    if let Some(after) = retry_after {
        let mut duration = Vec::new();
        put_uint(&mut duration, 1, after.as_secs());
        put_uint(&mut duration, 2, u64::from(after.subsec_nanos()));
        let (mut info, mut any) = (Vec::new(), Vec::new());
        put_bytes(&mut info, 1, &duration);
        put_bytes(&mut any, 1, RETRY_INFO);
        put_bytes(&mut any, 2, &info);
        put_bytes(&mut out, 3, &any);
    }
    out
}

/// The same as JSON.
pub fn to_json(status: &Status, retry_after: Option<Duration>) -> Vec<u8> {
    let message = serde_json::to_string(&status.message).unwrap_or_else(|_| "\"\"".to_owned());
    let details = retry_after.map_or_else(String::new, |after| {
        let (seconds, nanos) = (after.as_secs(), after.subsec_nanos());
        let kind = String::from_utf8_lossy(RETRY_INFO);
        format!(",\"details\":[{{\"@type\":\"{kind}\",\"retryDelay\":\"{seconds}.{nanos:09}s\"}}]")
    });
    format!("{{\"code\":{},\"message\":{message}{details}}}", status.code).into_bytes()
}

/// Reads a status and the RetryInfo hint among its details.
pub fn from_wire(bytes: &[u8]) -> (Status, Option<Duration>) {
    let mut status = Status { code: 0, message: String::new() };
    let mut hint = None;
    for field in Fields::new(bytes) {
        match (field.number, field.value) {
            (1, Value::Varint(code)) => status.code = u8::try_from(code).unwrap_or(2),
            (2, Value::Bytes(message)) => status.message = String::from_utf8_lossy(message).into_owned(),
            (3, Value::Bytes(detail)) => hint = retry_delay(detail).or(hint),
            _ => {}
        }
    }
    (status, hint)
}

/// The delay of a `google.protobuf.Any` that holds a RetryInfo.
fn retry_delay(any: &[u8]) -> Option<Duration> {
    let bytes_of = |message, wanted| {
        Fields::new(message).find_map(|field| match field.value {
            Value::Bytes(bytes) if field.number == wanted => Some(bytes),
            _ => None,
        })
    };
    bytes_of(any, 1).filter(|name: &&[u8]| *name == RETRY_INFO)?;
    let duration = bytes_of(bytes_of(any, 2)?, 1)?;
    let (mut seconds, mut nanos) = (0, 0);
    for field in Fields::new(duration) {
        match (field.number, field.value) {
            (1, Value::Varint(value)) => seconds = value,
            (2, Value::Varint(value)) => nanos = value,
            _ => {}
        }
    }
    // A negative duration is a varint beyond i64: no hint.
    let seconds = i64::try_from(seconds).ok()?.max(0) as u64;
    Some(Duration::new(seconds, u32::try_from(nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?))
}

/// How many items an `Export…ServiceResponse` says were rejected, and its message.
pub fn partial_success(response: &[u8]) -> (u64, String) {
    let mut rejected = 0;
    let mut text = String::new();
    for field in Fields::new(response).filter(|field| field.number == 1) {
        let Value::Bytes(partial) = field.value else { continue };
        for field in Fields::new(partial) {
            match (field.number, field.value) {
                (1, Value::Varint(count)) => rejected = i64::try_from(count).unwrap_or(0).max(0) as u64,
                (2, Value::Bytes(message)) => text = String::from_utf8_lossy(message).into_owned(),
                _ => {}
            }
        }
    }
    (rejected, text)
}
