//! Common to gRPC and HTTP: from a message in memory to telemetry, and its client.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use http::Request;
use smallvec::smallvec;

use crate::diagnostics::escape::is_control;
use crate::otlp::{check, json};
use crate::telemetry::{Budget, Charge, Client, Now, Part, Reason, Refusal, Share, Signal, Telemetry};

use super::Shared;
use super::body::{Message, Upload, shrink};

/// Memory of a request beside its head and body: its stream and its task.
const TASK: usize = 4 << 10;
/// Memory of a header field beside its text, in a table that has grown to twice its size.
const FIELD: usize = 256;

/// The encoding of a request's body and of its answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Encoding {
    Protobuf,
    Json,
}

/// Longer messages are checked, or parsed as JSON, aside.
const LONG: usize = 512 << 10;
const LONG_JSON: usize = 256 << 10;

/// Checks and counts a message; JSON is converted to protobuf first.
pub(super) async fn telemetry(
    signal: Signal,
    encoding: Encoding,
    message: Message,
    client: Option<Arc<Client>>,
    peer: Option<IpAddr>,
    budget: &Arc<Budget>,
) -> Result<Telemetry, Refusal> {
    let is_long = message.bytes.len() > if encoding == Encoding::Json { LONG_JSON } else { LONG };
    let part = if is_long {
        let for_json = budget.clone();
        let read = budget.aside.run(peer, move || part(signal, encoding, message, &for_json));
        // Boxed, so that a request that is not long is small.
        Box::pin(read).await.unwrap_or(Err(Refusal::Internal))?
    } else {
        part(signal, encoding, message, budget)?
    };
    Ok(Telemetry { signal, parts: smallvec![part], client, received: Now::read(), tickets: Default::default() })
}

fn part(signal: Signal, encoding: Encoding, message: Message, budget: &Arc<Budget>) -> Result<Part, Refusal> {
    let (bytes, charge) = match encoding {
        Encoding::Protobuf => (message.bytes, message.charge),
        Encoding::Json => from_json(signal, &message, budget)?,
    };
    let items = check::check(signal, &bytes).map_err(|error| Refusal::Malformed(error.to_string()))?;
    Ok(Part::new(bytes, items, charge))
}

/// Converts a JSON message to protobuf; its charge grows with the result.
fn from_json(signal: Signal, message: &Message, budget: &Arc<Budget>) -> Result<(Vec<u8>, Charge), Refusal> {
    let charge = Charge::held(budget, Share::Ingest, 0);
    let mut wanted = 0;
    let mut room = |bytes: usize| {
        wanted = bytes as u64;
        charge.grow(wanted)
    };
    let wire = json::to_wire_within(signal, &message.bytes, &mut room);
    let wire = wire.map_err(|error| Refusal::Malformed(error.to_string()))?;
    let mut bytes = wire.ok_or_else(|| message.charge.no_room_for(charge.bytes() + wanted))?;
    shrink(&mut bytes);
    charge.shrink_to(bytes.capacity() as u64);
    Ok((bytes, charge))
}

/// Charges a request for everything but its body: its head, the copies of it for processors, its stream, its task.
/// Taken when the head is complete, before a task is started.
pub(super) fn cost<B>(shared: &Shared, request: &Request<B>) -> Result<Charge, Refusal> {
    let includes_metadata = shared.grpc_metadata() || shared.http.as_ref().is_some_and(|http| http.include_metadata);
    let copies = usize::from(includes_metadata) + usize::from(shared.tells_clients.load(Relaxed));
    let head = |text: fn(&http::HeaderValue) -> usize| -> usize {
        request.headers().iter().map(|(name, value)| name.as_str().len() + text(value) + FIELD).sum()
    };
    // Text that is not UTF-8 becomes up to three times as long in a copy.
    let as_text = |value: &http::HeaderValue| if value.to_str().is_ok() { value.len() } else { 3 * value.len() };
    let of_copies = if copies == 0 { 0 } else { copies * head(as_text) };
    let bytes = TASK + request.uri().path().len() + head(http::HeaderValue::len) + of_copies;
    Charge::take(&shared.budget, Share::Ingest, bytes as u64).ok_or(Refusal::busy(Reason::MemoryFull))
}

/// The protocol of a request, with its metadata.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Protocol {
    Grpc,
    Http,
}

/// gRPC headers that are not metadata.
const RESERVED: [&str; 6] = ["te", "grpc-timeout", "grpc-encoding", "grpc-message-type", "grpc-message", "grpc-status"];

/// The client of a request, if the config needs its metadata (`include_metadata`), or a processor its address.
pub(super) fn client(
    shared: &Shared,
    protocol: Protocol,
    includes_metadata: bool,
    request: &Request<()>,
    body: &Upload,
) -> Option<Arc<Client>> {
    let is_told = shared.tells_clients.load(Relaxed);
    if !includes_metadata && !is_told {
        return None;
    }
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let of = |host: &str| {
        let authority = request.uri().authority().map(|authority| (host.to_owned(), authority.to_string()));
        let headers = request.headers().iter().map(|(name, value)| (name.to_string(), text(value)));
        headers.chain(authority).collect::<Vec<_>>()
    };
    let mut client = Client::default();
    if includes_metadata {
        client.metadata = of(if protocol == Protocol::Grpc { "host" } else { "Host" });
    }
    if is_told {
        client.peer = body.peer();
        let guard = if protocol == Protocol::Grpc { &shared.guards.grpc } else { &shared.guards.http };
        client.auth = guard.as_ref().map(|guard| guard.attributes(request.headers())).unwrap_or_default();
        if protocol == Protocol::Grpc {
            client.grpc = of(":authority");
            client.grpc.retain(|(name, _)| !RESERVED.contains(&name.as_str()));
        }
    }
    Some(Arc::new(client))
}

/// Client-provided text for an answer or a log line: short, and without control characters.
pub(super) fn printable(text: &str) -> String {
    text.chars().take(100).map(|character| if is_control(character) { '?' } else { character }).collect()
}

pub(super) fn printable_bytes(bytes: &[u8]) -> String {
    printable(&String::from_utf8_lossy(bytes))
}
