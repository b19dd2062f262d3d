//! HTTP/1.1 on the socket: who may ask, and who answers what.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::feed::{Place, Sighting, View, Watch};
use super::wanted::Wanted;
use super::{Subject, percent, place, status};
use crate::telemetry::{Reason, clock};

/// Connections at once: a few people who look.
const CONNECTIONS: usize = 16;
const PATIENCE: Duration = Duration::from_secs(10);

/// Serves until it is dropped.
pub async fn serve(listener: UnixListener, subject: Arc<Subject>, watch: Arc<Watch>) {
    let user = place::own_user();
    let mut open = JoinSet::new();
    loop {
        while open.len() >= CONNECTIONS {
            open.join_next().await;
        }
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = open.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) if is_welcome(&stream, user) => {
                open.spawn(converse(stream, subject.clone(), watch.clone()));
            }
            Ok(_) => {}
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Our own user, and root, who could look anyway.
fn is_welcome(stream: &UnixStream, user: Option<u32>) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || Some(peer.uid()) == user)
}

async fn converse(stream: UnixStream, subject: Arc<Subject>, watch: Arc<Watch>) {
    let service = service_fn(|request: Request<Incoming>| {
        let answer = answer(&subject, &watch, &request);
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE).keep_alive(false);
    // One that breaks off is its own affair.
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

fn answer(subject: &Subject, watch: &Arc<Watch>, request: &Request<Incoming>) -> Response<Body> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/status") => {
            let text = status::describe(subject).to_string();
            response(StatusCode::OK, "application/json", Body::Text(text.into()))
        }
        (&Method::GET, "/tail") => match look(watch, request.uri().query().unwrap_or_default()) {
            Ok(view) => response(StatusCode::OK, "application/octet-stream", Body::Sightings(Box::new(view))),
            Err((status, why)) => refusal(status, &why),
        },
        (_, "/status" | "/tail") => refusal(StatusCode::METHOD_NOT_ALLOWED, "GET alone"),
        _ => refusal(StatusCode::NOT_FOUND, "there is no such page"),
    }
}

/// `at`, `since` in milliseconds before now, and `where`: an expression as `Wanted` reads it.
fn look(watch: &Arc<Watch>, query: &str) -> Result<View, (StatusCode, String)> {
    let bad = |why: String| (StatusCode::BAD_REQUEST, why);
    let (mut place, mut since, mut wanted) = (Place::Received, None, String::new());
    for (key, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        match key {
            "at" => {
                let known = Place::ALL.iter().find(|(name, _)| *name == value);
                place = known.ok_or_else(|| bad("at is received, leaving or dropped".to_owned()))?.1;
            }
            "since" => {
                let ago = value.parse().map(Duration::from_millis);
                let ago = ago.map_err(|_| bad("since is a number of milliseconds".to_owned()))?;
                since = clock().checked_sub(ago);
            }
            "where" => wanted = percent::decoded(value),
            _ => return Err(bad("it takes at, since and where".to_owned())),
        }
    }
    let wanted = Wanted::read(&wanted).map_err(|mistake| bad(mistake.message))?;
    let view = watch.open(place, wanted, since);
    view.ok_or((StatusCode::SERVICE_UNAVAILABLE, "too many are looking already".to_owned()))
}

fn refusal(status: StatusCode, why: &str) -> Response<Body> {
    response(status, "text/plain; charset=utf-8", Body::Text(why.to_owned().into()))
}

fn response(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A whole answer, or what passes until the asker leaves.
pub enum Body {
    Text(Bytes),
    Sightings(Box<View>),
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = |bytes| Ok(Frame::data(bytes));
        match self.get_mut() {
            Body::Text(text) if text.is_empty() => Poll::Ready(None),
            Body::Text(text) => Poll::Ready(Some(frame(std::mem::take(text)))),
            Body::Sightings(view) => view.poll_next(context).map(|sighting| sighting.map(written).map(frame)),
        }
    }
}

/// One line of JSON that says what follows, and that many bytes of OTLP.
fn written(sighting: Sighting) -> Bytes {
    let Sighting { event, pieces, items, skipped } = sighting;
    let nanos = event.at.wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let head = json!({
        "at": event.place.name(),
        "signal": event.signal.name(),
        "time_unix_nano": nanos.to_string(),
        "exporter": event.exporter,
        "reason": event.reason.map(Reason::name),
        "items": items,
        "skipped": skipped,
        "bytes": pieces.iter().map(Bytes::len).sum::<usize>(),
    });
    let mut out = format!("{head}\n").into_bytes();
    pieces.iter().for_each(|piece| out.extend_from_slice(piece));
    out.into()
}
