//! What gRPC and HTTP share: from a message in memory to telemetry, and who sent it.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use smallvec::smallvec;

use crate::otlp::{check, json};
use crate::telemetry::{Budget, Charge, Client, Now, Part, Reason, Refusal, Share, Signal, Telemetry};

use super::body::Message;

/// How the body of a request is encoded, and its answer with it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Encoding {
    Protobuf,
    Json,
}

/// Checks and counts a message; JSON becomes its wire form first.
pub fn telemetry(
    signal: Signal,
    encoding: Encoding,
    message: Message,
    client: Option<Arc<Client>>,
    budget: &Arc<Budget>,
) -> Result<Telemetry, Refusal> {
    let Message { mut bytes, mut charge } = message;
    if encoding == Encoding::Json {
        // The wire form is never longer than the JSON it is read from, so the same amount is enough for it.
        let wire_charge = Charge::take(budget, Share::Ingest, bytes.len() as u64);
        let wire_charge = wire_charge.ok_or(Refusal::busy(Reason::MemoryFull))?;
        bytes = json::to_wire(signal, &bytes).map_err(|error| Refusal::Malformed(error.to_string()))?;
        charge = wire_charge;
        charge.shrink_to(bytes.len() as u64);
    }
    let items = check::check(signal, &bytes).map_err(|error| Refusal::Malformed(error.to_string()))?;
    let part = Part { bytes: Bytes::from(bytes), items, charge };
    Ok(Telemetry { signal, parts: smallvec![part], client, received: Now::read(), tickets: smallvec![] })
}

/// The metadata of a request, when the config asks for them (`include_metadata`).
pub fn client<B>(include: bool, request: &Request<B>, host: &str) -> Option<Arc<Client>> {
    if !include {
        return None;
    }
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let mut metadata: Vec<_> = request.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    if let Some(authority) = request.uri().authority() {
        metadata.push((host.to_owned(), authority.to_string()));
    }
    Some(Arc::new(Client { metadata }))
}

/// Text of a client's for an answer or a log line: short, and without control characters.
pub fn printable(text: &str) -> String {
    text.chars().take(100).map(|character| if character.is_control() { '?' } else { character }).collect()
}

pub fn printable_bytes(bytes: &[u8]) -> String {
    printable(&String::from_utf8_lossy(bytes))
}
