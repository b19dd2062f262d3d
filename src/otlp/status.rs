//! `google.rpc.Status`, the body of every error answer (OTLP specification, "Failures"): written for clients, read from
//! upstreams. Also the partial success of an `Export…ServiceResponse`.
//!
//! Text is read as bytes, because a message that is not UTF-8 must not hide the rest.

use std::time::Duration;

use prost::Message;
use tonic::Code;

use super::wire;

/// A status in gRPC and OTLP (google.rpc.Status).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub code: Code,
    pub message: String,
}

const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

#[derive(Message)]
struct Wire {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(bytes = "vec", tag = "2")]
    message: Vec<u8>,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

#[derive(Message)]
struct Any {
    #[prost(bytes = "vec", tag = "1")]
    type_url: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    delay: Option<Delay>,
}

#[derive(Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[derive(Message)]
struct Response {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(bytes = "vec", tag = "2")]
    message: Vec<u8>,
}

/// Writes a status as protobuf, with a RetryInfo detail if there is a hint.
pub fn to_wire(status: &Status, retry_after: Option<Duration>) -> Vec<u8> {
    let detail = |after: Duration| {
        let delay = Delay { seconds: after.as_secs() as i64, nanos: after.subsec_nanos() as i32 };
        let value = RetryInfo { delay: Some(delay) }.encode_to_vec();
        Any { type_url: RETRY_INFO.into(), value }
    };
    let details = retry_after.map(detail).into_iter().collect();
    Wire { code: status.code.into(), message: status.message.clone().into(), details }.encode_to_vec()
}

/// The same as JSON.
pub(crate) fn to_json(status: &Status, retry_after: Option<Duration>) -> Vec<u8> {
    let message = serde_json::to_string(&status.message).unwrap_or_else(|_| "\"\"".to_owned());
    let details = retry_after.map_or_else(String::new, |after| {
        let (seconds, nanos) = (after.as_secs(), after.subsec_nanos());
        format!(",\"details\":[{{\"@type\":\"{RETRY_INFO}\",\"retryDelay\":\"{seconds}.{nanos:09}s\"}}]")
    });
    format!("{{\"code\":{},\"message\":{message}{details}}}", i32::from(status.code)).into_bytes()
}

/// Reads a status and the delay of the RetryInfo in its details.
pub fn from_wire(bytes: &[u8]) -> (Status, Option<Duration>) {
    let Wire { code, message, details } = Wire::decode(bytes).unwrap_or_default();
    let hint = details.iter().rev().find_map(retry_delay);
    (Status { code: Code::from(code), message: String::from_utf8_lossy(&message).into_owned() }, hint)
}

/// The delay of a RetryInfo; zero if it asks for a retry without a valid delay.
fn retry_delay(any: &Any) -> Option<Duration> {
    let info = RetryInfo::decode(&*any.value).ok().filter(|_| any.type_url == RETRY_INFO.as_bytes())?;
    let Delay { seconds, nanos } = info.delay.unwrap_or_default();
    let delay = u64::try_from(seconds).ok().zip(u32::try_from(nanos).ok().filter(|nanos| *nanos < 1_000_000_000));
    Some(delay.map_or(Duration::ZERO, |(seconds, nanos)| Duration::new(seconds, nanos)))
}

/// The number of rejected items in an `Export…ServiceResponse`, and its message.
pub(crate) fn partial_success(response: &[u8]) -> (u64, String) {
    let Ok(response) = Response::decode(response) else {
        return (rejected_of_part(response).unwrap_or(0), String::new());
    };
    let PartialSuccess { rejected, message } = response.partial_success.unwrap_or_default();
    (u64::try_from(rejected).unwrap_or(0), String::from_utf8_lossy(&message).into_owned())
}

/// The same count if the response is cut off, in the order that all encoders write: it comes before the message.
fn rejected_of_part(response: &[u8]) -> Option<u64> {
    let (_, partial) = wire::varint(response.strip_prefix(&[0x0a])?)?;
    match wire::Fields::new(partial).next()? {
        wire::Field { number: 1, value: wire::Value::Varint(rejected), .. } => {
            Some(rejected).filter(|n| *n <= i64::MAX as u64)
        }
        _ => None,
    }
}
