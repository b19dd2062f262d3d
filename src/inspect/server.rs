//! HTTP/1.1 on the socket: who may ask, and who answers what.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::{Subject, place, status};

/// Connections at once: a few people who look.
const CONNECTIONS: usize = 16;
const PATIENCE: Duration = Duration::from_secs(10);

/// Serves until it is dropped.
pub async fn serve(listener: UnixListener, subject: Arc<Subject>) {
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
                open.spawn(converse(stream, subject.clone()));
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

async fn converse(stream: UnixStream, subject: Arc<Subject>) {
    let service = service_fn(|request: Request<Incoming>| {
        let answer = answer(&subject, &request);
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE).keep_alive(false);
    // One that breaks off is its own affair.
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

fn answer(subject: &Subject, request: &Request<Incoming>) -> Response<Body> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/status") => {
            let text = status::describe(subject).to_string();
            response(StatusCode::OK, "application/json", Body::Text(text.into()))
        }
        (_, "/status") => refusal(StatusCode::METHOD_NOT_ALLOWED, "GET alone"),
        _ => refusal(StatusCode::NOT_FOUND, "there is no such page"),
    }
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

pub enum Body {
    Text(Bytes),
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = |bytes| Ok(Frame::data(bytes));
        match self.get_mut() {
            Body::Text(text) if text.is_empty() => Poll::Ready(None),
            Body::Text(text) => Poll::Ready(Some(frame(std::mem::take(text)))),
        }
    }
}
