//! The small HTTP/1 server behind health checks and metrics: a function from a path to an answer. It has a thread of its
//! own, so that it answers however busy the workers are.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::task::{AbortHandle, JoinSet};

use super::listen::Listener;
use crate::diagnostics::supervisor::Watch;

/// Connections at once; a scraper needs one. Beyond these the one that was opened first is closed: each is for one request.
const CONNECTIONS: usize = 32;
const PATIENCE: Duration = Duration::from_secs(10);

/// Status, content type and body.
pub struct Reply {
    pub status: u16,
    pub content_type: &'static str,
    pub body: String,
}

pub type Answers = Arc<dyn Fn(&str) -> Reply + Send + Sync>;

/// Serves until it is dropped.
pub async fn serve(watch: Watch, listener: Arc<Listener>, answer: Answers) {
    let mut open = JoinSet::new();
    let mut oldest_first = VecDeque::<AbortHandle>::new();
    while watch.run(accept(&watch, &listener, &answer, &mut open, &mut oldest_first)).await.is_none() {}
}

async fn accept(
    watch: &Watch,
    listener: &Listener,
    answer: &Answers,
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
        let answer = answer.clone();
        oldest_first.push_back(open.spawn(async move {
            let service = service_fn(|request: http::Request<hyper::body::Incoming>| {
                let reply = answer(request.uri().path());
                async move { Ok::<_, Infallible>(response(reply)) }
            });
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE).keep_alive(false);
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            // A client that breaks off is its own affair.
            let _ = tokio::time::timeout(PATIENCE, connection).await;
        }));
    }
}

fn response(reply: Reply) -> Response<String> {
    let mut response = Response::new(reply.body);
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
    response
}
