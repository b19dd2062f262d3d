//! HTTP/1.1 on the socket: access control, and the answers.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use serde_json::json;
use smallvec::SmallVec;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::feed::{FEEDS, Held, PointKind, Sighting, View, Viewers};
use super::wanted::{OPTIONS, Query, Wanted};
use super::{Subject, place, status};
use crate::diagnostics::supervisor;
use crate::otlp::percent;
use crate::telemetry::{Reason, clock};

/// Maximum connections: a few users; and further ones that get a refusal.
const CONNECTIONS: usize = 32;
const REFUSED: usize = 16;
const PATIENCE: Duration = Duration::from_secs(10);
/// A client that reads nothing of a waiting answer for this long is disconnected.
const STALLED: Duration = Duration::from_secs(30);
/// All viewers together get this fraction of a core, in bursts of at most `AT_ONCE`.
const SHARE: u32 = 20;
const AT_ONCE: Duration = Duration::from_millis(50);
/// Up to this size a request is copied into one piece with its description; larger ones are cut into `PIECE`s.
const SMALL: usize = 16 << 10;
const PIECE: usize = 64 << 10;

/// Serves until it is dropped.
pub(super) async fn serve(part: supervisor::Watch, listener: UnixListener, subject: Arc<Subject>, watch: Arc<Viewers>) {
    let mut open = JoinSet::new();
    while part.run(accept(&part, &listener, &subject, &watch, &mut open)).await.is_none() {}
}

async fn accept(
    part: &supervisor::Watch,
    listener: &UnixListener,
    subject: &Arc<Subject>,
    watch: &Arc<Viewers>,
    open: &mut JoinSet<()>,
) -> Infallible {
    let user = place::own_user();
    let ration = Arc::new(Ration::default());
    loop {
        while open.len() >= CONNECTIONS + REFUSED {
            open.join_next().await.into_iter().for_each(|ended| part.note(ended));
        }
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(ended) = open.join_next() => {
                part.note(ended);
                continue;
            }
        };
        match accepted {
            Ok((stream, _)) if is_welcome(&stream, user) => {
                let subject = (open.len() < CONNECTIONS).then(|| subject.clone());
                open.spawn(converse(stream, subject, watch.clone(), ration.clone()));
            }
            Ok(_) => {}
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Accepts our own user, and root, who could read the memory anyway.
fn is_welcome(stream: &UnixStream, user: u32) -> bool {
    stream.peer_cred().is_ok_and(|peer| [0, user].contains(&peer.uid()))
}

/// Serves one connection within the common ration of processor time, while its client reads. Without a subject the
/// connection is one too many and gets a refusal.
async fn converse(stream: UnixStream, subject: Option<Arc<Subject>>, watch: Arc<Viewers>, ration: Arc<Ration>) {
    let pulse = Arc::new(LastRead { started: clock(), handed: AtomicU64::new(0) });
    let service = service_fn(|request: Request<Incoming>| {
        let response = subject.as_ref().map_or_else(
            || {
                refusal(
                    StatusCode::SERVICE_UNAVAILABLE,
                    &format!("{CONNECTIONS} are connected already, and no more may: end one of them"),
                )
            },
            |subject| answer(subject, &watch, &request),
        );
        let response = response.map(|content| Body { content, pulse: pulse.clone() });
        async move { Ok::<_, Infallible>(response) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE).keep_alive(false).max_buf_size(SMALL);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut pause = pin!(tokio::time::sleep(Duration::ZERO));
    let mut look = tokio::time::interval(STALLED / 6);
    std::future::poll_fn(|context| {
        while look.poll_tick(context).is_ready() {
            if pulse.is_stalled() {
                return Poll::Ready(());
            }
        }
        ready!(pause.as_mut().poll(context));
        let begun = clock();
        // A client that disconnects is no fault of ours.
        let ended = connection.as_mut().poll(context).map(drop);
        if let Some(rest) = ration.spend(begun, clock()) {
            pause.as_mut().reset(tokio::time::Instant::now() + rest);
            context.waker().wake_by_ref();
        }
        ended
    })
    .await;
}

/// The processor time that viewers may use: a search may take far more than the telemetry leaves over.
#[derive(Default)]
struct Ration(Mutex<Option<Instant>>);

impl Ration {
    /// Accounts for some work; returns how long to pause if it was too much. Stores the moment at which all work so far
    /// is paid for.
    fn spend(&self, begun: Instant, ended: Instant) -> Option<Duration> {
        let mut paid = self.0.lock();
        let until = paid.map_or(begun, |paid| paid.max(begun)) + (ended - begun) * SHARE;
        *paid = Some(until);
        until.checked_duration_since(ended + AT_ONCE * SHARE).filter(|rest| !rest.is_zero())
    }
}

/// When the client last read something, in milliseconds; 0 while nothing waits for it.
struct LastRead {
    started: Instant,
    handed: AtomicU64,
}

impl LastRead {
    fn now(&self) -> u64 {
        clock().saturating_duration_since(self.started).as_millis() as u64 + 1
    }

    fn is_stalled(&self) -> bool {
        let handed = self.handed.load(Relaxed);
        handed > 0 && Duration::from_millis(self.now().saturating_sub(handed)) >= STALLED
    }
}

fn answer(subject: &Subject, watch: &Arc<Viewers>, request: &Request<Incoming>) -> Response<Content> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/status") => {
            let text = status::describe(subject).to_string();
            response(StatusCode::OK, "application/json", Content::Text(text.into()))
        }
        (&Method::GET, "/tail") => match look(watch, request.uri().query().unwrap_or_default()) {
            Ok(view) => response(
                StatusCode::OK,
                "application/octet-stream",
                Content::Sightings(Box::new(view), SmallVec::new()),
            ),
            Err((status, why)) => refusal(status, &why),
        },
        (_, "/status" | "/tail") => refusal(StatusCode::METHOD_NOT_ALLOWED, "GET alone"),
        _ => refusal(StatusCode::NOT_FOUND, "there is no such page"),
    }
}

/// Query parameters: `at`, `since` in milliseconds before now, `where`, `logs`, `spans`, `metrics` and `text`: the parts
/// of a `Query`, `then=end`: the past only, and `traces=whole`: without traces of which the ring has forgotten a part.
fn look(watch: &Arc<Viewers>, query: &str) -> Result<View, (StatusCode, String)> {
    let bad = |why: String| (StatusCode::BAD_REQUEST, why);
    let (mut place, mut since, mut wanted) = (PointKind::Received, None, Query::default());
    let (mut ends, mut is_whole) = (false, false);
    let decoded = |value: &str| String::from_utf8_lossy(&percent::decoded(value.as_bytes())).into_owned();
    for (key, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        match key {
            "at" => {
                let known = PointKind::ALL.into_iter().find(|place| place.name() == value);
                place = known.ok_or_else(|| bad("at is received, leaving, dropped or filtered".to_owned()))?;
            }
            "since" => {
                let ago = value.parse().map(Duration::from_millis);
                let ago = ago.map_err(|_| bad("since is a number of milliseconds".to_owned()))?;
                since = clock().checked_sub(ago);
            }
            "then" if value == "end" => ends = true,
            "traces" if value == "whole" => is_whole = true,
            "where" => wanted.expression = decoded(value),
            "text" => wanted.text = decoded(value),
            _ => match OPTIONS.iter().find(|(name, _)| *name == key) {
                Some((_, signal)) => wanted.conditions.push((*signal, decoded(value))),
                None => {
                    let known = "at, since, where, logs, spans, metrics, text, then=end and traces=whole";
                    return Err(bad(format!("it takes {known}")));
                }
            },
        }
    }
    let wanted = Wanted::of(&wanted).map_err(|(_, mistake)| bad(mistake.message))?;
    let view = watch.open(place, wanted, since);
    let view = view.map(|view| if ends { view.without_what_comes() } else { view });
    let view = view.map(|view| if is_whole { view.with_whole_traces() } else { view });
    view.ok_or((
        StatusCode::SERVICE_UNAVAILABLE,
        format!("{FEEDS} are looking already, and no more may: end one of them"),
    ))
}

fn refusal(status: StatusCode, why: &str) -> Response<Content> {
    response(status, "text/plain; charset=utf-8", Content::Text(why.to_owned().into()))
}

fn response(status: StatusCode, content_type: &'static str, content: Content) -> Response<Content> {
    let mut response = Response::new(content);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// An answer, with the time of the last read.
struct Body {
    content: Content,
    pulse: Arc<LastRead>,
}

/// A whole answer, or a stream that lasts until the client leaves, with its next pieces, the last one first.
enum Content {
    Text(Bytes),
    Sightings(Box<View>, Pieces),
}

type Pieces = SmallVec<[Bytes; 2]>;

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Body { content, pulse } = self.get_mut();
        let next = content.poll_next(context);
        pulse.handed.store(if next.is_ready() { pulse.now() } else { 0 }, Relaxed);
        next.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

impl Content {
    fn poll_next(&mut self, context: &mut Context) -> Poll<Option<Bytes>> {
        match self {
            Content::Text(text) if text.is_empty() => Poll::Ready(None),
            Content::Text(text) => Poll::Ready(Some(std::mem::take(text))),
            Content::Sightings(view, pieces) => loop {
                match pieces.last_mut() {
                    Some(piece) if piece.len() > PIECE => return Poll::Ready(Some(piece.split_to(PIECE))),
                    Some(_) => return Poll::Ready(pieces.pop()),
                    None => match ready!(view.poll_next(context)) {
                        Some(sighting) => *pieces = written(sighting),
                        None => return Poll::Ready(None),
                    },
                }
            },
        }
    }
}

/// The bytes of a request, and the room they take until they are written.
struct Piece {
    bytes: Bytes,
    _held: Arc<Held>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// One line of JSON that describes the following bytes of OTLP; the last piece first.
fn written(sighting: Sighting) -> Pieces {
    let Sighting { event, rule, held, pieces, items, skipped, has_gap } = sighting;
    let bytes = pieces.iter().map(Bytes::len).sum::<usize>();
    let nanos = event.at.wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let head = json!({
        "at": event.place.name(),
        "signal": event.signal.name(),
        "time_unix_nano": nanos.to_string(),
        "exporter": event.exporter,
        "reason": event.reason.map(Reason::name),
        "processor": event.filtered.map(|filtered| filtered.processor),
        "rule": rule,
        "items": items,
        "skipped": skipped,
        "gap": has_gap,
        "bytes": bytes,
    });
    let mut head = format!("{head}\n").into_bytes();
    if bytes <= SMALL {
        pieces.iter().for_each(|piece| head.extend_from_slice(piece));
        return [head.into()].into_iter().collect();
    }
    let held = Arc::new(held);
    let shared = pieces.into_iter().rev().map(|bytes| Bytes::from_owner(Piece { bytes, _held: held.clone() }));
    shared.chain([head.into()]).collect()
}
