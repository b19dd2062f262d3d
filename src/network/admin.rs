//! The small HTTP/1 server behind health checks and metrics: a function from a path to an answer. It has its own
//! thread, so it answers however busy the workers are.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
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

/// Status, content type and body.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn plain(status: u16, body: impl Into<String>) -> Reply {
        Reply { status, content_type: "text/plain; charset=utf-8", body: body.into() }
    }

    pub(crate) fn not_found() -> Reply {
        Reply::plain(404, "404 page not found\n")
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
    async fn answer(&self, request: &http::Request<hyper::body::Incoming>, answers: &Answers) -> Response<String> {
        let headers = request.headers();
        let mut answer = match self.cors.preflight(request.method(), headers) {
            Some(preflight) => preflight.map(|()| String::new()),
            None => {
                let mut answer = match self.admit(headers).await {
                    Some(refusal) => refusal,
                    None if !percent::is_valid(request.uri().path()) => {
                        response(Reply::plain(400, "400 Bad Request\n"))
                    }
                    None => response(answers(request.uri().path())),
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
    async fn admit(&self, headers: &HeaderMap) -> Option<Response<String>> {
        let guard = self.guard.as_ref()?;
        let refused = guard.admit(headers).await.err()?;
        let mut answer = response(Reply::plain(refused.http.as_u16(), refused.status.message + "\n"));
        answer.headers_mut().extend(refused.header.map(|header| *header));
        Some(answer)
    }
}

pub(crate) type Answers = Arc<dyn Fn(&str) -> Reply + Send + Sync>;

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

fn response(reply: Reply) -> Response<String> {
    let mut response = Response::new(reply.body);
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
    response
}
