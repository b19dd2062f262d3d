//! `misaki ui`: a local page that shows what passes through the running collector. It is served by a process of the
//! user's own, which reads the collector's local socket as `tail` does.

mod door;
mod live;
mod pages;
mod server;
mod source;
mod store;
#[cfg(test)]
mod tests;
mod watch;

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use super::local::Target;
use super::{Failure, block_on, default, failed, print, run, runnable, usage};
use crate::config::telemetry::{Encoding, LogLevel};
use crate::diagnostics::log;
use crate::inspect::{Inspection, Subject, place};
use crate::network::ports::CannotStart;
use crate::network::workers::Workers;
use crate::service::{self, Running};
use door::{Door, Keys};
use store::Store;

const EXAMPLES: &str = "\
Without a running collector it is one itself: it receives OTLP on ports 4317
(gRPC) and 4318 (HTTP). `misaki --ui -- COMMAND` shows the requests of a program.

The page is for the browser that opens the printed address: the token in it is
the key, and it is valid until this ends. From another machine, forward the
port: ssh -L 8080:127.0.0.1:8080 HOST, with --listen 127.0.0.1:8080 there.

Examples:
  misaki ui --open
  misaki ui --pid 1234 --listen 127.0.0.1:8080
  misaki ui recorded.jsonl";

/// An address with a free port.
pub(super) const ANYWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// Time for the collector of this process to drain.
const DRAIN: Duration = Duration::from_secs(1);
const OPENER: &str = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Ui {
    /// Show recorded telemetry, in files that `misaki send` reads, and no collector
    #[arg(value_name = "FILE", conflicts_with_all = ["pid", "socket"])]
    files: Vec<String>,
    /// Serve the page at this address of this machine [default: 127.0.0.1 and a free port]
    #[arg(long, value_name = "ADDRESS", default_value_t = ANYWHERE, hide_default_value = true, value_parser = loopback)]
    listen: SocketAddr,
    /// Open the page in the browser
    #[arg(long)]
    open: bool,
    #[command(flatten)]
    target: Target,
    /// A mistake for `misaki --ui -- COMMAND`.
    #[arg(last = true, hide = true)]
    command: Vec<String>,
}

/// What the page knows, shared by its source and its answers. An answer can take long, on a thread of its own.
type Shared = Arc<Mutex<Store>>;

/// The page while it is served; dropping it ends it.
pub(super) struct Page {
    pub(super) address: String,
    /// The same, which works once.
    address_once: String,
    store: Shared,
    tasks: JoinSet<Infallible>,
}

pub(super) fn ui(options: &Ui) -> Result<(), Failure> {
    if !options.command.is_empty() {
        let command = options.command.join(" ");
        return Err(usage(format!("`misaki ui` runs no program: write `misaki --ui -- {command}`")));
    }
    block_on(async {
        let mut signals = Signals::new()?;
        let mut page = Page::serve(options.listen).await?;
        let mut own = None;
        if options.files.is_empty() {
            if options.target.is_any() && place::sockets(None).is_empty() {
                own = Some(Own::start().await?);
            }
            let target = own.as_ref().map_or_else(|| options.target.clone(), |own| Target::at(own.inspection.path()));
            if own.is_none() {
                log::write(format!("Shows what passes through the collector on {}.\n", target.described().await?));
            }
            page.follow(target);
        } else {
            source::recorded(&options.files, &mut *page.store.lock().await)?;
        }
        log::write("The page, until Ctrl-C:\n");
        print(&format!("{}\n", page.address))?;
        // Only now: its lines come later than those that are printed.
        log::install(LogLevel::Warn, Encoding::Console);
        if options.open {
            page.open();
        }
        let ended = page.until(&mut signals).await;
        if let Some(Own { mut running, inspection }) = own {
            running.drain(DRAIN).await;
            drop(inspection);
        }
        ended
    })
}

impl Page {
    /// Serves the page of nothing.
    pub(super) async fn serve(listen: SocketAddr) -> Result<Page, Failure> {
        let bound = async {
            let listener = TcpListener::bind(listen).await?;
            let address = listener.local_addr()?;
            Ok::<_, std::io::Error>((listener, address))
        };
        let (listener, listening) =
            bound.await.map_err(|error| failed(format!("cannot listen on {listen} (--listen): {error}")))?;
        let (door, Keys { token, ticket }) =
            Door::new(listening).ok_or_else(|| failed("the system has no random numbers"))?;
        let (store, mut tasks) = (Arc::new(Mutex::new(Store::new())), JoinSet::new());
        tasks.spawn(server::serve(listener, door, store.clone()));
        let address = |token| format!("http://{listening}/?token={token}");
        Ok(Page { address: address(token), address_once: address(ticket), store, tasks })
    }

    /// Fills it from a collector.
    pub(super) fn follow(&mut self, target: Target) {
        let store = self.store.clone();
        self.tasks.spawn(async move { source::follow(&target, &store).await });
    }

    fn open(&mut self) {
        let mut opener = Command::new(OPENER);
        opener.arg(&self.address_once).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.tasks.spawn(async move {
            let why = match opener.status().await {
                Ok(status) if status.success() => None,
                Ok(status) => Some(status.to_string()),
                Err(error) => Some(error.to_string()),
            };
            if let Some(why) = why {
                log::write(format!("{OPENER} does not open a browser ({why}): open the address above\n"));
            }
            std::future::pending().await
        });
    }

    /// Waits until the user ends it.
    pub(super) async fn until(&mut self, signals: &mut Signals) -> Result<(), Failure> {
        tokio::select! {
            () = signals.end() => Ok(()),
            Some(Err(error)) = self.tasks.join_next() => Err(failed(format!("the page failed: {error}"))),
        }
    }
}

/// The signals that end the page.
pub(super) struct Signals([Signal; 3]);

impl Signals {
    pub(super) fn new() -> Result<Signals, Failure> {
        let heard = |kind| signal(kind).map_err(|error| failed(format!("cannot listen for signals: {error}")));
        let [interrupt, terminate, hangup] =
            [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(heard);
        Ok(Signals([interrupt?, terminate?, hangup?]))
    }

    async fn end(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {},
            _ = terminate.recv() => {},
            _ = hangup.recv() => {},
        }
    }
}

/// The collector of this process, when no other runs.
struct Own {
    running: Running,
    inspection: Inspection,
}

impl Own {
    async fn start() -> Result<Own, Failure> {
        let loaded = default::silent();
        let plan = runnable(&loaded)?;
        let workers = Workers::start(1).map_err(|error| failed(format!("cannot start the workers: {error}")))?;
        let running = service::start(&plan, Arc::new(workers)).await.map_err(|CannotStart { why, .. }| {
            let help = "no collector of Misaki runs here, and this one cannot start; `misaki --ui -- COMMAND` finds \
                        ports of its own";
            CannotStart { why, help: Some(help.to_owned()) }
        })?;
        log::write(run::banner(&running, "No collector ran, so this is one, for the page. "));
        let subject = Subject::new(vec!["misaki ui".to_owned()], &running);
        let inspection = Inspection::open(&plan.local_socket(), subject);
        let inspection = inspection.map_err(|error| failed(format!("cannot open the local socket: {error}")))?;
        Ok(Own { running, inspection })
    }
}

/// An address that only this machine reaches.
fn loopback(text: &str) -> Result<SocketAddr, String> {
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    let text = if host == "localhost" { format!("127.0.0.1:{port}") } else { text.to_owned() };
    let address: SocketAddr = text.parse().map_err(|_| "write 127.0.0.1:PORT or [::1]:PORT".to_owned())?;
    match address.ip().is_loopback() {
        true => Ok(address),
        false => Err("the page is for this machine alone: write 127.0.0.1:PORT or [::1]:PORT, and reach it \
                      from another machine with ssh -L"
            .to_owned()),
    }
}
