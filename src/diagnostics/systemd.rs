//! Notifies systemd: ready, reloading, stopping, alive (sd_notify(3)). Does nothing unless systemd asked for it.

use std::convert::Infallible;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinSet;

/// How often the status is sent when there is no watchdog.
const EVERY: Duration = Duration::from_secs(10);

pub struct Systemd {
    to: Option<Manager>,
    /// The interval within which systemd expects a sign of life.
    watchdog: Option<Duration>,
}

impl Systemd {
    /// Reads `NOTIFY_SOCKET`, a path or the name of an abstract socket, and `WATCHDOG_USEC`, if it is meant for us.
    pub fn new(environment: impl Fn(&str) -> Option<String>) -> Systemd {
        let to = environment("NOTIFY_SOCKET").and_then(|name| Manager::named(&name));
        let is_for_us = environment("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let limit = environment("WATCHDOG_USEC").filter(|_| is_for_us && to.is_some());
        let watchdog = limit.and_then(|text| text.parse().ok()).filter(|microseconds| *microseconds > 0);
        Systemd { to, watchdog: watchdog.map(Duration::from_micros) }
    }

    pub fn ready(&self, status: &str) {
        self.tell("READY=1", status);
    }

    /// Must be followed by `ready`, whatever the result.
    pub fn reloading(&self) {
        self.tell("RELOADING=1", "reading the config again");
    }

    pub(crate) fn stopping(&self, status: &str) {
        self.tell("STOPPING=1", status);
    }

    fn tell(&self, what: &str, status: &str) {
        let Some(manager) = &self.to else { return };
        let status: String = status.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        manager.hear(&format!("{what}\nSTATUS={status}\n"));
    }

    /// Sends a sign of life with the status in time, as long as all workers respond.
    pub(crate) async fn keep_alive(&self, workers: Vec<Handle>, status: impl Fn() -> String) -> Infallible {
        if self.to.is_none() {
            return std::future::pending().await;
        }
        let every = self.watchdog.map_or(EVERY, |limit| limit / 2).min(EVERY);
        loop {
            tokio::time::sleep(every).await;
            let mut calls = JoinSet::new();
            workers.iter().for_each(|worker| _ = calls.spawn_on(async {}, worker));
            // A hanging worker does not return from this, and systemd gets no further sign of life.
            while calls.join_next().await.is_some() {}
            self.tell("WATCHDOG=1", &status());
        }
    }
}

#[cfg(target_os = "linux")]
struct Manager(std::os::unix::net::UnixDatagram, std::os::unix::net::SocketAddr);

#[cfg(target_os = "linux")]
impl Manager {
    fn named(name: &str) -> Option<Manager> {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::net::{SocketAddr, UnixDatagram};
        let address = match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(name),
        };
        let socket = UnixDatagram::unbound().ok()?;
        // A systemd that does not read must not block us.
        socket.set_nonblocking(true).ok()?;
        Some(Manager(socket, address.ok()?))
    }

    fn hear(&self, message: &str) {
        // If systemd is gone, there is nowhere to report it.
        let _ = self.0.send_to_addr(message.as_bytes(), &self.1);
    }
}

/// Other systems have no systemd.
#[cfg(not(target_os = "linux"))]
enum Manager {}

#[cfg(not(target_os = "linux"))]
impl Manager {
    fn named(_: &str) -> Option<Manager> {
        None
    }

    fn hear(&self, _: &str) {}
}
