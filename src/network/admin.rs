//! The small HTTP/1 server behind health checks and metrics: a function from a request to an answer. It has its own
//! thread, so it answers however busy the workers are.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::task::{AbortHandle, JoinSet};

use super::auth::Authenticator;
use super::cors::Cors;
use super::listen::Listener;
use super::{Stream, tls};
use crate::diagnostics::supervisor::Watch;
use crate::otlp::percent;

/// Maximum connections; a scraper needs one. Beyond it the oldest is closed: each serves one request.
const CONNECTIONS: usize = 32;
const PATIENCE: Duration = Duration::from_secs(10);

/// The parts of a request that an answer depends on.
pub(crate) struct Question<'a> {
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
    pub(crate) headers: &'a HeaderMap,
}

/// Status, content type and body.
pub(crate) struct Reply {
    status: u16,
    content_type: Cow<'static, str>,
    is_zipped: bool,
    body: Text,
}

/// Appends the next piece of a text; false if it was the last.
pub(crate) type Pieces = Box<dyn FnMut(&mut Vec<u8>) -> bool + Send>;

/// The body of an answer.
enum Text {
    Whole(Option<Bytes>),
    Pieces(Option<Pieces>),
}

impl Reply {
    pub(crate) fn new(status: u16, content_type: &'static str, body: impl Into<String>) -> Reply {
        let body = Text::Whole(Some(Bytes::from(body.into())));
        Reply { status, content_type: content_type.into(), is_zipped: false, body }
    }

    pub(crate) fn plain(status: u16, body: impl Into<String>) -> Reply {
        Reply::new(status, "text/plain; charset=utf-8", body)
    }

    /// A text that is made while it is sent; perhaps compressed with gzip.
    pub(crate) fn pieces(content_type: String, pieces: Pieces, is_zipped: bool) -> Reply {
        Reply { status: 200, content_type: content_type.into(), is_zipped, body: Text::Pieces(Some(pieces)) }
    }

    pub(crate) fn not_found() -> Reply {
        Reply::plain(404, "404 page not found\n")
    }
}

impl Body for Text {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = match &mut *self {
            Text::Whole(text) => text.take(),
            Text::Pieces(pieces) => pieces.take().map(|mut next| {
                let mut piece = Vec::new();
                if next(&mut piece) {
                    *pieces = Some(next);
                }
                Bytes::from(piece)
            }),
        };
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Text::Whole(text) => SizeHint::with_exact(text.as_ref().map_or(0, Bytes::len) as u64),
            Text::Pieces(_) => SizeHint::default(),
        }
    }
}

/// TLS, authentication, CORS and headers in front of the answers.
#[derive(Default)]
pub(crate) struct Front {
    pub(crate) tls: Option<Arc<tls::Server>>,
    pub(crate) guard: Option<Arc<Authenticator>>,
    pub(crate) cors: Cors,
    pub(crate) response_headers: Vec<(HeaderName, HeaderValue)>,
    /// Time limit for reading a request, if shorter than `PATIENCE`.
    pub(crate) read_timeout: Option<Duration>,
}

impl Front {
    async fn answer(&self, request: &http::Request<hyper::body::Incoming>, answers: &Answers) -> Response<Text> {
        let headers = request.headers();
        let mut answer = match self.cors.preflight(request.method(), headers) {
            Some(preflight) => preflight.map(|()| Text::Whole(None)),
            None => {
                let mut answer = match self.admit(headers).await {
                    Some(refusal) => refusal,
                    None if !percent::is_valid(request.uri().path()) => {
                        response(Reply::plain(400, "400 Bad Request\n"))
                    }
                    None => {
                        let (path, query) = (request.uri().path(), request.uri().query());
                        response(answers(&Question { path, query, headers }))
                    }
                };
                self.cors.mark(headers, answer.headers_mut());
                answer
            }
        };
        for (name, value) in &self.response_headers {
            answer.headers_mut().insert(name.clone(), value.clone());
        }
        answer
    }

    /// The answer to a client without valid credentials.
    async fn admit(&self, headers: &HeaderMap) -> Option<Response<Text>> {
        let guard = self.guard.as_ref()?;
        let refused = guard.admit(headers).await.err()?;
        let mut answer = response(Reply::plain(refused.http.as_u16(), refused.status.message + "\n"));
        answer.headers_mut().extend(refused.header.map(|header| *header));
        Some(answer)
    }
}

pub(crate) type Answers = Arc<dyn Fn(&Question<'_>) -> Reply + Send + Sync>;

/// Serves until it is dropped.
pub(crate) async fn serve(watch: Watch, listener: Arc<Listener>, front: Arc<Front>, answer: Answers) {
    let mut open = JoinSet::new();
    let mut oldest_first = VecDeque::<AbortHandle>::new();
    while watch.run(accept(&watch, &listener, (&front, &answer), &mut open, &mut oldest_first)).await.is_none() {}
}

async fn accept(
    watch: &Watch,
    listener: &Listener,
    (front, answer): (&Arc<Front>, &Answers),
    open: &mut JoinSet<()>,
    oldest_first: &mut VecDeque<AbortHandle>,
) -> Infallible {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(ended) = open.join_next() => {
                watch.note(ended);
                continue;
            }
        };
        let Ok(stream) = accepted.and_then(|(accepted, _)| accepted()) else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        oldest_first.retain(|connection| !connection.is_finished());
        if oldest_first.len() >= CONNECTIONS
            && let Some(oldest) = oldest_first.pop_front()
        {
            oldest.abort();
        }
        let (front, answer) = (front.clone(), answer.clone());
        oldest_first.push_back(open.spawn(async move {
            // A client that disconnects is no fault of ours.
            let _ = tokio::time::timeout(PATIENCE, connection(stream, &front, &answer)).await;
        }));
    }
}

/// Serves one request on one connection.
async fn connection(stream: Stream, front: &Front, answer: &Answers) {
    let stream = match &front.tls {
        Some(tls) => tls::accept(stream, tls).await,
        None => Ok(stream),
    };
    let Ok(stream) = stream else { return };
    let service = service_fn(async |request: http::Request<hyper::body::Incoming>| {
        Ok::<_, Infallible>(front.answer(&request, answer).await)
    });
    let mut builder = http1::Builder::new();
    let patience = front.read_timeout.map_or(PATIENCE, |timeout| timeout.min(PATIENCE));
    builder.timer(TokioTimer::new()).header_read_timeout(patience).keep_alive(false);
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

fn response(reply: Reply) -> Response<Text> {
    let mut response = Response::new(reply.body);
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.extend(HeaderValue::try_from(&*reply.content_type).ok().map(|value| (CONTENT_TYPE, value)));
    if reply.is_zipped {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}
