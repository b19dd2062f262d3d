//! `misaki run`: starts, waits for a signal, drains, and logs the balance.

use std::cell::RefCell;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Kind;
use crate::config::files::{self, Place};
use crate::diagnostics::log;
use crate::diagnostics::systemd::Systemd;
use crate::exporters::debug::layout::{Layout, Stream};
#[cfg(unix)]
use crate::inspect::{Inspection, Subject};
use crate::network::workers::Workers;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
use crate::service::machine;
use crate::service::plan::{Changes, Plan};
use crate::service::{self, Balance, Running};

use super::default::{Chosen, Origin};
use super::{Failure, Run, Sources, block_on, default, failed, rendered, safe};

/// The time limit for draining.
const DRAIN: Duration = Duration::from_secs(25);

pub(crate) fn run(options: Run) -> Result<(), Failure> {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    let exec_failed = machine::give_freed_memory_back();
    let chosen = default::choose(&options.sources, &options.edge)?;
    let (plan, names) = (chosen.runnable()?, chosen.names());
    let Chosen { loaded, origin, .. } = chosen;
    log::install(plan.telemetry.logs.level, plan.telemetry.logs.encoding);
    // Warnings look as from `validate`.
    log::write(rendered(&loaded));
    block_on(async {
        // The failed exec has reset SIGPIPE: without a handler, a client that disconnects would end the process.
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        let _pipe = exec_failed.then(|| tokio::signal::unix::signal(tokio::signal::unix::SignalKind::pipe()));
        let count = options.workers.map_or_else(Workers::default_count, usize::from);
        let workers = Workers::start(count).map_err(|error| failed(format!("cannot start the workers: {error}")))?;
        let handles = workers.handles();
        let running = service::start(&plan, Arc::new(workers)).await?;
        // Registered before the ready message: without a handler, a reload signal right after it would end the process.
        let signals = Signals::new().map_err(|error| failed(format!("cannot listen for signals: {error}")))?;
        welcome(&origin, &names, &plan, &running);
        #[cfg(unix)]
        let inspection = inspection(&plan, names, &running);
        drop((plan, loaded));
        let (systemd, health) = (Systemd::new(super::environment), running.health.clone());
        let listening = RefCell::new(String::new());
        let tell = |running: &Running| {
            *listening.borrow_mut() = format!("ready, listening on {}", addresses(running).join(", "));
            systemd.ready(&listening.borrow());
            #[cfg(unix)]
            inspection.iter().for_each(|inspection| inspection.subject.update(running));
        };
        tell(&running);
        let status =
            || health.verdict().map_or_else(|why| format!("not ready: {why}"), |()| listening.borrow().clone());
        tokio::select! {
            () = live(running, signals, &options, &systemd, tell) => Ok(()),
            never = systemd.keep_alive(handles, status) => match never {},
        }
    })
}

/// Reports the addresses: a banner without a config, log lines with one.
fn welcome(origin: &Origin, names: &[String], plan: &Plan, running: &Running) {
    for (protocol, address) in &running.addresses {
        let endpoint = address.map_or_else(|| "a unix socket".to_owned(), |address| address.to_string());
        tracing::info!(target: log::DETAIL, %endpoint, protocol, "listening");
    }
    if let Origin::Embedded { forwards_to, refused } = origin {
        let does = match (forwards_to, refused) {
            (Some(to), _) => {
                format!("Forwarding to {}\n  What is not sent yet is in memory: a crash loses it.\n  ", safe(to))
            }
            (None, Some(itself)) => {
                format!("{} is this collector:\n  not forwarding.\n  Printing what arrives. ", safe(itself))
            }
            (None, None) => "Printing what arrives. ".to_owned(),
        };
        log::write(banner(running, &does));
        return;
    }
    let listening = addresses(running).join(", ");
    let config = names.join(", ");
    tracing::info!(version = env!("CARGO_PKG_VERSION"), %config, %listening, "Starting misaki...");
    if plan.pipelines.iter().any(|pipeline| plan.holds_in_memory(pipeline)) {
        tracing::info!("accepted telemetry is held in memory until it is sent: a crash loses it");
    }
    for (processor, intention) in running.intentions() {
        tracing::info!(processor, "{intention}");
    }
    tracing::info!("Everything is ready. Begin running and processing data.");
}

/// Opens the local socket. A failure is logged, and everything else works.
#[cfg(unix)]
pub(super) fn inspection(plan: &Plan, names: Vec<String>, running: &Running) -> Option<Inspection> {
    let config = plan.local_socket();
    let subject = Subject::new(names, running);
    let opened = config.enabled.then(|| Inspection::open(&config, subject))?;
    match &opened {
        Ok(inspection) => {
            tracing::info!(target: log::DETAIL, path = %inspection.path().display(), "listening for tail and status")
        }
        Err(error) => tracing::warn!(
            %error,
            "cannot open the socket of tail and status, and goes on without it: extensions.inspect.path names another"
        ),
    }
    opened.ok()
}

fn addresses(running: &Running) -> Vec<String> {
    running.addresses.iter().filter_map(|(_, address)| address.map(|address| address.to_string())).collect()
}

/// The addresses, what becomes of the telemetry that arrives, and what to tell an SDK.
pub(super) fn banner(running: &Running, does: &str) -> String {
    let (bold, plain) = if Layout::of(Stream::Stderr).colour { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    let version = env!("CARGO_PKG_VERSION");
    let name = |address: SocketAddr| match address.ip().is_loopback() {
        true => format!("localhost:{}", address.port()),
        false => address.to_string(),
    };
    let mut listening: Vec<_> = running.addresses.iter().filter_map(|(_, address)| address.map(name)).collect();
    listening.dedup();
    let mut out = format!("{bold}misaki {version}{plain}  listening on {}\n", listening.join(", "));
    if running.addresses.iter().filter_map(|(_, address)| *address).any(|address| address.ip().is_unspecified()) {
        out.push_str("  In a container: open to every interface.\n");
    }
    out.push_str(&format!("  {does}Point a program at it:\n\n"));
    let port = |protocol| running.addresses.iter().find(|(known, _)| *known == protocol)?.1.map(|found| found.port());
    let endpoint = |port: u16| format!("OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:{port}");
    if let Some(http) = port("http") {
        out.push_str(&format!("    {bold}export {}{plain}\n", endpoint(http)));
    }
    if let Some(grpc) = port("grpc") {
        out.push_str(&format!("    # gRPC: {}\n\n", endpoint(grpc)));
    }
    out
}

/// Reads the config again. With any error in it, the running config stays in use.
async fn reload(running: &mut Running, options: &Run) {
    let (sources, edge) = (Sources { place: Place::File, ..options.sources.clone() }, options.edge.clone());
    let read = files::aside(move || {
        let chosen = default::choose(&sources, &edge)?;
        Ok((chosen.runnable()?, rendered(&chosen.loaded)))
    });
    let reloaded = match read.await.unwrap_or_else(|error| Err(failed(error))) {
        Ok((plan, warnings)) => {
            log::write(warnings);
            running.reload(plan).await.map_err(|error| Failure::from(error).message)
        }
        Err(failure) => Err(failure.message),
    };
    match reloaded {
        Ok(Changes { kept, changed, added, removed }) => {
            running.reloads.succeed();
            let is_new = |processor: &str| {
                let path = format!("{}.{processor}", Kind::Processor.section());
                changed.contains(&path) || added.contains(&path)
            };
            let new: Vec<_> = running.intentions().into_iter().filter(|(processor, _)| is_new(processor)).collect();
            let list = |paths: Vec<String>| (!paths.is_empty()).then(|| paths.join(", "));
            let (changed, added, removed) = (list(changed), list(added), list(removed));
            let listening = addresses(running).join(", ");
            tracing::info!(kept, changed, added, removed, %listening, "the config was read again and is in use");
            for (processor, intention) in new {
                tracing::info!(processor, "{intention}");
            }
        }
        Err(message) => {
            running.reloads.fail(&message);
            log::write(message);
            tracing::error!("the config cannot be used: going on with the one before");
        }
    }
}

/// Runs until a signal, and calls `tell` after each reload. Then drains until the deadline or a second signal, and logs
/// the balance.
async fn live(mut running: Running, mut signals: Signals, options: &Run, systemd: &Systemd, tell: impl Fn(&Running)) {
    let signal = loop {
        match signals.next().await {
            Signal::Reload => {
                systemd.reloading();
                reload(&mut running, options).await;
                tell(&running);
            }
            signal => break signal,
        }
    };
    if signal == Signal::Interrupt && std::io::stderr().is_terminal() {
        // The terminal has printed ^C: start a new line.
        log::write("\n");
    }
    tracing::info!(signal = signal.name(), "Received signal from OS");
    let waiting = running.held_items();
    systemd.stopping(&format!("draining {waiting} items"));
    if waiting > 0 {
        let most = DRAIN.as_secs();
        tracing::info!(
            items = waiting,
            seconds_at_most = most,
            "draining: what waits is sent first; a second signal ends it at once"
        );
    }
    let balance = tokio::select! {
        balance = running.drain(DRAIN) => balance,
        () = signals.second() => {
            tracing::warn!("second signal, ending at once");
            // The drain was cancelled, but the accounts are still correct.
            Vec::new()
        }
    };
    let balance = if balance.is_empty() { running.balance() } else { balance };
    for (processor, result) in running.results() {
        tracing::info!(processor, "{result}");
    }
    let lost: u64 = balance.iter().map(Balance::left_in_memory).sum();
    if lost > 0 {
        tracing::warn!(items = lost, "not sent in time, and in memory alone: lost");
    }
    let lines: Vec<String> = balance.iter().map(ToString::to_string).collect();
    let (accepted, refused) = running.intake();
    let all = if lines.is_empty() { "nothing was received".to_owned() } else { lines.join("; ") };
    tracing::info!(accepted, refused, "Shutdown complete: {all}");
}

#[derive(Clone, Copy, PartialEq)]
#[cfg_attr(not(unix), expect(dead_code, reason = "there is Ctrl-C alone"))]
enum Signal {
    Terminate,
    Interrupt,
    /// The terminal was closed.
    Hangup,
    /// A hangup that requests a reload.
    Reload,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Signal::Terminate => "terminated",
            Signal::Interrupt => "interrupt",
            Signal::Hangup => "hangup",
            Signal::Reload => "reload",
        }
    }
}

#[cfg(unix)]
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
    began_on_terminal: bool,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            began_on_terminal: is_on_terminal(),
        })
    }

    /// The next signal. A hangup means the end if the terminal was closed, otherwise a reload.
    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Terminate,
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.hangup.recv() => match self.began_on_terminal && !is_on_terminal() {
                true => Signal::Hangup,
                false => Signal::Reload,
            },
        }
    }
}

#[cfg(unix)]
fn is_on_terminal() -> bool {
    std::io::stdin().is_terminal() || std::io::stdout().is_terminal() || std::io::stderr().is_terminal()
}

impl Signals {
    /// Waits for a signal that ends the drain.
    async fn second(&mut self) {
        while self.next().await == Signal::Reload {
            tracing::warn!("it is ending: the config is not read again");
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals)
    }

    async fn next(&mut self) -> Signal {
        // Without a handler, no signal ever comes.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        Signal::Interrupt
    }
}
