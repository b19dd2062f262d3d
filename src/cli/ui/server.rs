//! The web server of the page: bounded in connections, time and bytes, and behind the door.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue,
    LOCATION, REFERRER_POLICY, SET_COOKIE, X_CONTENT_TYPE_OPTIONS,
};
use http::{Method, Request, Response, StatusCode};
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use maud::{DOCTYPE, html};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, JoinSet};

use super::Shared;
use super::door::{Admission, Door};
use super::live::{self, Live};
use super::pages::{self, Asked, HTML};

/// Maximum connections that are not let in yet; each serves one request. Beyond it the oldest of them is closed.
const CONNECTIONS: usize = 64;
/// Maximum connections that are let in.
const ADMITTED: usize = 64;
/// Maximum bytes of answers that wait until their clients read them.
const WAITING: usize = 64 << 20;
/// Maximum streams of events: one for each open tab.
const STREAMS: usize = 16;
/// Maximum bytes of a request's head.
const HEAD: usize = 16 << 10;
/// Time limits for the head of a request, and for all of an answer.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Every refusal of the door: it tells nothing of what is inside. The style is inside too.
const FORBIDDEN: &str = "\
<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"color-scheme\" content=\"light dark\">
<meta name=\"viewport\" content=\"width=device-width\"><title>403 Forbidden</title></head><body><h1>This page is closed</h1>
<p>Open the address that <code>misaki</code> printed: the token in it is the key. It is a new one after each start.</p></body></html>
";

/// The page gets all it needs from this server, and no other page gets anything of it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                      base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
const HEADERS: [(HeaderName, &str); 6] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (CACHE_CONTROL, "no-store"),
];

/// What all connections share.
struct Site {
    door: Door,
    store: Shared,
    admitted: Semaphore,
    /// One answer is made at a time: the source waits for two at most.
    pages: Arc<Semaphore>,
    /// The bytes that answers may take yet.
    waiting: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

/// A connection that is open.
struct Open {
    task: AbortHandle,
    is_admitted: Arc<AtomicBool>,
}

/// Serves until it is dropped.
pub(super) async fn serve(listener: TcpListener, door: Door, store: Shared) -> Infallible {
    let site = Arc::new(Site {
        door,
        store,
        admitted: Semaphore::new(ADMITTED),
        pages: Arc::new(Semaphore::new(1)),
        waiting: Arc::new(Semaphore::new(WAITING)),
        streams: Arc::new(Semaphore::new(STREAMS)),
    });
    let (mut open, mut oldest_first) = (JoinSet::new(), VecDeque::<Open>::new());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = open.join_next() => continue,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        oldest_first.retain(|open| !open.task.is_finished() && !open.is_admitted.load(Relaxed));
        if oldest_first.len() >= CONNECTIONS
            && let Some(oldest) = oldest_first.pop_front()
        {
            oldest.task.abort();
        }
        let is_admitted = Arc::new(AtomicBool::new(false));
        let task = open.spawn(converse(stream, site.clone(), is_admitted.clone()));
        oldest_first.push_back(Open { task, is_admitted });
        // Its request is mostly there already, and gets it admitted before others can close it.
        tokio::task::yield_now().await;
    }
}

/// Serves one request.
async fn converse(stream: TcpStream, site: Arc<Site>, is_admitted: Arc<AtomicBool>) {
    // The place among those that are let in is held until the connection ends.
    let (is_live, place) = (AtomicBool::new(false), Mutex::new(None));
    let service = service_fn(async |request: Request<Incoming>| {
        let mut response = match site.door.admit(&request) {
            Admission::Refused => text(StatusCode::FORBIDDEN, HTML, FORBIDDEN),
            Admission::Misled => plain(StatusCode::FORBIDDEN, "403 Forbidden\n"),
            Admission::Welcome { address, cookie, is_foreign } => {
                let mut welcome = if is_foreign { onward(&address) } else { moved(address) };
                welcome.headers_mut().insert(SET_COOKIE, cookie);
                welcome
            }
            Admission::Enter => match site.admitted.try_acquire() {
                Ok(admitted) => {
                    is_admitted.store(true, Relaxed);
                    *place.lock() = Some(admitted);
                    answer(&site, request).await
                }
                Err(_) => plain(StatusCode::SERVICE_UNAVAILABLE, "too many requests at once\n"),
            },
        };
        for (name, value) in HEADERS {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        is_live.store(matches!(response.body(), Body::Live(_)), Relaxed);
        Ok::<_, Infallible>(response)
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).keep_alive(false).max_buf_size(HEAD);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    // A client that disconnects is no fault of ours.
    let is_slow = tokio::time::timeout(ANSWER_WITHIN, &mut connection).await.is_err();
    if is_slow && is_live.load(Relaxed) {
        let _ = tokio::time::timeout(live::LASTS, connection).await;
    }
}

/// The answer to a request that is let in.
async fn answer(site: &Site, request: Request<Incoming>) -> Response<Body> {
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let mut refusal = plain(StatusCode::METHOD_NOT_ALLOWED, "405 Method Not Allowed\n");
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    if !request.body().is_end_stream() {
        return plain(StatusCode::PAYLOAD_TOO_LARGE, "413 Content Too Large\n");
    }
    let uri = request.uri();
    match uri.path() {
        "/page.css" => text(StatusCode::OK, "text/css; charset=utf-8", include_str!("assets/page.css")),
        "/icon.svg" => text(StatusCode::OK, "image/svg+xml", include_str!("assets/icon.svg")),
        "/page.js" => text(StatusCode::OK, "text/javascript; charset=utf-8", include_str!("assets/page.js")),
        "/live" => match site.streams.clone().try_acquire_owned() {
            Ok(place) => response(
                StatusCode::OK,
                "text/event-stream",
                Body::Live(Box::new(Live::new(site.store.clone(), place))),
            ),
            Err(_) => plain(StatusCode::SERVICE_UNAVAILABLE, "too many tabs show this page\n"),
        },
        path => made(site, Asked::new(path, uri.query().unwrap_or_default())).await,
    }
}

/// A page, which is made on a thread of its own: all else goes on meanwhile.
async fn made(site: &Site, asked: Asked) -> Response<Body> {
    let turn = site.pages.clone().acquire_owned().await;
    let mut store = site.store.clone().lock_owned().await;
    let page = tokio::task::spawn_blocking(move || {
        // Also when the client is gone, the next has its turn only after this one.
        let _turn = turn;
        pages::answer(&mut store, &asked)
    });
    match page.await {
        Ok(page) => shown(site, page),
        Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "this page cannot be made\n"),
    }
}

fn shown(site: &Site, page: pages::Answer) -> Response<Body> {
    let text = page.body.into_boxed_str();
    let Some(bytes) = u32::try_from(text.len()).ok().filter(|_| text.len() <= pages::LARGEST) else {
        return plain(StatusCode::INSUFFICIENT_STORAGE, "this page has more than 32 MiB: choose less\n");
    };
    let Ok(place) = site.waiting.clone().try_acquire_many_owned(bytes) else {
        return plain(StatusCode::SERVICE_UNAVAILABLE, "too many large answers wait until they are read: try again\n");
    };
    let body = Bytes::from_owner(Waiting { text, _place: place });
    let mut response = response(page.status, page.media_type, Body::Text(body));
    let saved = page.file.map(|name| HeaderValue::try_from(format!("attachment; filename=\"{name}\"")));
    if let Some(Ok(saved)) = saved {
        response.headers_mut().insert(CONTENT_DISPOSITION, saved);
    }
    response
}

/// Sends the browser to the address without the token.
fn moved(address: String) -> Response<Body> {
    let Ok(address) = HeaderValue::try_from(address) else { return text(StatusCode::FORBIDDEN, HTML, FORBIDDEN) };
    let mut moved = plain(StatusCode::SEE_OTHER, "");
    moved.headers_mut().insert(LOCATION, address);
    moved
}

/// The same after a link of another site. After a redirect from there the browser sends no cookie; after a page of this
/// site it does.
fn onward(address: &str) -> Response<Body> {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                title { "Misaki" }
                meta http-equiv="refresh" content=(format!("0; url={address}"));
            }
            body { p { a href=(address) { "Open the page" } } }
        }
    };
    response(StatusCode::OK, HTML, Body::Text(page.into_string().into()))
}

fn plain(status: StatusCode, content: &'static str) -> Response<Body> {
    text(status, "text/plain; charset=utf-8", content)
}

fn text(status: StatusCode, content_type: &'static str, content: &'static str) -> Response<Body> {
    response(status, content_type, Body::Text(Bytes::from_static(content.as_bytes())))
}

fn response(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// An answer until its last byte is written.
struct Waiting {
    text: Box<str>,
    _place: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Waiting {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

enum Body {
    Text(Bytes),
    Live(Box<Live>),
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match self.get_mut() {
            Body::Text(text) => Poll::Ready(Some(std::mem::take(text)).filter(|text| !text.is_empty())),
            Body::Live(live) => live.poll_next(context),
        };
        next.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self {
            Body::Text(text) => http_body::SizeHint::with_exact(text.len() as u64),
            Body::Live(_) => http_body::SizeHint::default(),
        }
    }
}
