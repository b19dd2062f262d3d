//! The inside of a running collector, for its own user on the same machine: a small HTTP API on a Unix socket.
//!
//! `feed` receives from the tap and keeps the `ring` of the recent past; `wanted` selects what a client sees, and `text`
//! finds words in it; `server` answers; `place` finds sockets, for the collector and its clients.

pub(crate) mod feed;
mod forgotten;
pub mod place;
mod ring;
mod server;
pub mod status;
mod text;
pub(crate) mod wanted;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::RwLock;
use tokio::task::JoinSet;

use crate::diagnostics::health::Health;
use crate::diagnostics::reloads::Reloads;
use crate::diagnostics::supervisor::Supervisor;
use crate::extensions::LocalSocket;
use crate::service::Running;
use crate::service::graph::Graph;
use crate::telemetry::{Budget, Point, Share, Tap, Telemetry, clock};

use feed::Viewers;

/// The collector being inspected.
pub struct Subject {
    started: Instant,
    /// The config's sources, as named by the user.
    config: Vec<String>,
    view: RwLock<View>,
}

/// The running parts.
#[derive(Clone)]
struct View {
    addresses: Vec<(&'static str, Option<SocketAddr>)>,
    budget: Arc<Budget>,
    health: Arc<Health>,
    reloads: Arc<Reloads>,
    supervisor: Arc<Supervisor>,
    graph: Graph,
}

impl Subject {
    pub fn new(config: Vec<String>, running: &Running) -> Arc<Subject> {
        Arc::new(Subject { started: clock(), config, view: RwLock::new(View::of(running)) })
    }

    /// Called after a reload.
    pub(crate) fn update(&self, running: &Running) {
        *self.view.write() = View::of(running);
    }

    fn view(&self) -> View {
        self.view.read().clone()
    }
}

impl View {
    fn of(running: &Running) -> View {
        View {
            addresses: running.addresses.clone(),
            budget: running.budget.clone(),
            health: running.health.clone(),
            reloads: running.reloads.clone(),
            supervisor: running.workers.supervisor.clone(),
            graph: running.graph.clone(),
        }
    }
}

/// The open socket; its file is removed on drop.
pub struct Inspection {
    path: PathBuf,
    tap: Arc<Tap>,
    pub watch: Arc<Viewers>,
    pub(crate) subject: Arc<Subject>,
    /// Dropping it ends the server.
    _serving: JoinSet<()>,
}

impl Inspection {
    /// Opens the socket and serves it on this runtime.
    pub fn open(config: &LocalSocket, subject: Arc<Subject>) -> io::Result<Inspection> {
        let (listener, path) = match &config.path {
            Some(path) => (place::bind(path)?, path.clone()),
            None => place::bind_own()?,
        };
        let View { budget, supervisor, graph: Graph { tap, .. }, .. } = subject.view();
        let total = [Share::Ingest, Share::Queue, Share::Export].map(|share| budget.limit(share)).iter().sum();
        let watch = Viewers::counting(config.ring_bytes(total), tap.wants_filtered.clone());
        let viewer = watch.clone();
        tap.attach(Some(Arc::new(move |point: Point, telemetry: &Telemetry| viewer.look(point, telemetry))));
        let mut serving = JoinSet::new();
        let part = supervisor.watch("local socket");
        serving.spawn(server::serve(part, listener, subject.clone(), watch.clone()));
        Ok(Inspection { path, tap, watch, subject, _serving: serving })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Inspection {
    fn drop(&mut self) {
        self.tap.attach(None);
        // The next collector removes a stale file.
        let _ = std::fs::remove_file(&self.path);
    }
}
