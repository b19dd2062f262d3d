//! The client of the running collector's local socket: finds the socket, sends a request, streams the answer.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::Request;
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use crate::inspect::place;

use super::page::Page;
use super::{FAILED, Failure};
pub(super) use super::{block_on, failed, safe};

/// The maximum size of an answer that is read as a whole. A stream has no limit.
const MOST: usize = 64 << 20;

/// The time limit for one of several collectors to describe itself.
const PATIENCE: Duration = Duration::from_secs(1);
/// The time limit for the start of an answer.
const ANSWERS: Duration = Duration::from_secs(5);

/// Selects a collector. Without an option there must be exactly one.
#[derive(Args, Clone, Default)]
pub(super) struct Target {
    /// The collector with this process id
    #[arg(long, value_name = "N", conflicts_with = "socket")]
    pid: Option<u32>,
    /// The collector that listens on this socket
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

/// An answer while it is read.
pub(crate) struct Answer {
    body: Incoming,
    /// Drives the connection until it is dropped.
    _connection: JoinSet<()>,
}

impl Target {
    /// The collector that listens on this socket.
    pub(super) fn at(socket: &Path) -> Target {
        Target { pid: None, socket: Some(socket.to_owned()) }
    }

    /// Whether no option selects a collector.
    pub(super) fn is_any(&self) -> bool {
        self.pid.is_none() && self.socket.is_none()
    }

    /// All matching sockets, at least one.
    pub(super) fn all(&self) -> Result<Vec<PathBuf>, Failure> {
        if let Some(path) = &self.socket {
            return Ok(vec![path.clone()]);
        }
        let found = place::sockets(self.pid);
        if found.is_empty() {
            let which = self.pid.map_or_else(
                || "no collector was found".to_owned(),
                |pid| format!("no collector has the process id {pid}"),
            );
            let places: Vec<_> = place::directories().iter().map(|path| path.display().to_string()).collect();
            let left_out: String = place::left_out().iter().map(|why| format!("; left out {why}")).collect();
            let mut page = Page::default();
            page.hang("error: ", &format!("{which}: there is no socket in {}{left_out}", places.join(", ")));
            if self.pid.is_none() {
                page.hang(
                    "help: ",
                    "`misaki` starts one, and so does `misaki -- COMMAND`, for as long as its program runs",
                );
            }
            return Err(Failure { status: FAILED, message: page.out });
        }
        Ok(found.into_iter().map(|(_, path)| path).collect())
    }

    /// The only matching socket.
    pub(super) async fn find(&self) -> Result<PathBuf, Failure> {
        let mut found = self.all()?;
        match found.as_mut_slice() {
            [path] => Ok(std::mem::take(path)),
            several => {
                let mut page = Page::default();
                page.put(&format!("error: {} collectors run here: say which with --pid", several.len()));
                for path in several {
                    let head = format!("  --pid {:<8} ", path.file_stem().unwrap_or_default().display());
                    page.hang(&head, &introduction(path).await);
                }
                Err(Failure { status: FAILED, message: page.out })
            }
        }
    }

    /// The addresses and the config of the only matching collector.
    pub(super) async fn described(&self) -> Result<String, Failure> {
        let told = self.ask("/status").await?.whole().await?;
        Ok(described(&serde_json::from_slice(&told).unwrap_or_default()))
    }

    /// Requests a page (a path, possibly with a query), and returns after the head of the answer.
    pub(super) async fn ask(&self, page: &str) -> Result<Answer, Failure> {
        let path = self.find().await?;
        ask(&path, page).await
    }
}

/// The addresses and the config of a collector, or a note that it does not answer.
async fn introduction(path: &Path) -> String {
    let asked = async { ask(path, "/status").await?.whole().await };
    let answer = tokio::time::timeout(PATIENCE, asked).await.ok().and_then(Result::ok);
    let told: Option<Value> = answer.and_then(|text| serde_json::from_slice(&text).ok());
    let Some(told) = told else { return format!("it does not answer at {}", path.display()) };
    described(&told)
}

fn described(told: &Value) -> String {
    format!("{}, config {}", addresses(told), list(&told["config"], |item| item))
}

/// The addresses a collector listens on, from its status.
pub(super) fn addresses(told: &Value) -> String {
    list(&told["listening"], |item| &item["address"])
}

fn list(items: &Value, text: fn(&Value) -> &Value) -> String {
    let texts = items.as_array().into_iter().flatten().filter_map(|item| text(item).as_str());
    texts.map(safe).collect::<Vec<_>>().join(", ")
}

pub(super) async fn ask(path: &Path, page: &str) -> Result<Answer, Failure> {
    let unreachable =
        |error: &dyn std::fmt::Display| failed(format!("cannot reach the collector at {}: {error}", path.display()));
    let stream = UnixStream::connect(path).await.map_err(|error| unreachable(&error))?;
    let listener = stream.peer_cred().map_err(|error| unreachable(&error))?.uid();
    if !place::trusts(path, listener) {
        return Err(unreachable(&format!("user {listener} listens there, which is neither you nor root")));
    }
    let (mut sender, driver) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(&error))?;
    let mut connection = JoinSet::new();
    connection.spawn(async {
        // An error also reaches the reader of the answer.
        let _ = driver.await;
    });
    let request = Request::get(page).header("host", "localhost").body(String::new());
    let request = request.map_err(|error| failed(format!("cannot ask for {page}: {error}")))?;
    let response = tokio::time::timeout(ANSWERS, sender.send_request(request)).await;
    let silent = |_| unreachable(&format!("no answer within {ANSWERS:?}: is it stopped, or are too many connected?"));
    let response = response.map_err(silent)?.map_err(|error| unreachable(&error))?;
    let is_success = response.status().is_success();
    let mut answer = Answer { body: response.into_body(), _connection: connection };
    match is_success {
        true => Ok(answer),
        false => Err(failed(safe(String::from_utf8_lossy(&answer.whole().await?).trim_end()))),
    }
}

impl Answer {
    /// The next piece; `None` at the end of the answer.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            match std::future::poll_fn(|context| Pin::new(&mut self.body).poll_frame(context)).await {
                None => return Ok(None),
                Some(Err(_)) => return Err(failed("the collector went away")),
                // Trailers are skipped.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => return Ok(Some(data)),
                    Err(_) => continue,
                },
            }
        }
    }

    pub(super) async fn whole(&mut self) -> Result<Vec<u8>, Failure> {
        let mut all = Vec::new();
        while let Some(piece) = self.next().await? {
            if all.len() + piece.len() > MOST {
                return Err(failed("the answer is too large"));
            }
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }
}
