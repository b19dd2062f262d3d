//! Extensions: what runs beside the pipelines. Started first, stopped last.

pub(crate) mod basicauth;
pub(crate) mod bearertokenauth;
pub(crate) mod cgroup_runtime;
pub(crate) mod file_storage;
pub(crate) mod health_check;
pub(crate) mod inspect;
pub(crate) mod pprof;
pub(crate) mod zpages;

use std::path::PathBuf;
use std::sync::Arc;

use crate::config::Place;
use crate::diagnostics::health::Health;
use crate::network::admin::{Answers, Front};
use crate::network::auth::Authenticator;
use crate::network::endpoint::Listen;
use crate::network::settings::Listening;
use crate::network::tls::ServerTls;
use crate::sending::storage::Storage;

/// The settings of an extension: all that is asked of one. What it does not offer it leaves out.
pub trait ExtensionSettings: Send + Sync {
    /// The extensions that it names.
    fn named(&self) -> Vec<Named> {
        Vec::new()
    }
    fn listens(&self) -> Vec<Listening> {
        Vec::new()
    }
    /// The authenticator, for components that name this extension: to judge clients, or to send credentials.
    fn authenticator(&self) -> Option<&Arc<Authenticator>> {
        None
    }
    /// The storage, for queues that name this extension.
    fn storage(&self) -> Option<&Storage> {
        None
    }
    /// The socket for the collector's own user.
    fn local_socket(&self) -> Option<&LocalSocket> {
        None
    }
    /// A page that it serves on the thread of health and metrics.
    fn page(&self, _health: &Arc<Health>) -> Option<AdminPage> {
        None
    }
}

/// An extension that a component names.
#[derive(Clone, Debug)]
pub struct Named {
    pub id: String,
    /// Where the name is written: a place, and the keys below the component's section.
    pub place: Place,
    pub key: &'static str,
    pub purpose: Purpose,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Purpose {
    /// It judges clients.
    Server,
    /// It gives credentials for an upstream, which leave this machine in clear or not.
    Client { in_clear: bool },
}

impl Named {
    /// The authenticator that a section names.
    pub fn authenticator(auth: &Option<(String, Place)>, key: &'static str, purpose: Purpose) -> Option<Named> {
        auth.as_ref().map(|(id, place)| Named { id: id.clone(), place: *place, key, purpose })
    }
}

/// A page, and how it is reached.
pub struct AdminPage {
    /// What it is, for a person.
    pub name: &'static str,
    pub endpoint: Listen,
    pub tls: Option<ServerTls>,
    /// Its TLS and its guard are filled in where they are read.
    pub front: Front,
    pub answers: Answers,
}

/// The local socket's settings.
#[derive(Clone, Debug)]
pub struct LocalSocket {
    pub enabled: bool,
    /// The path of the socket; without one it is in the runtime directory.
    pub path: Option<PathBuf>,
    /// How much of the recent past is kept for `tail --since`; by itself what suits the budget.
    pub ring_bytes: Option<u64>,
}

/// The most that the ring takes unasked.
const RING: u64 = 4 << 20;

impl Default for LocalSocket {
    fn default() -> LocalSocket {
        LocalSocket { enabled: true, path: None, ring_bytes: None }
    }
}

impl LocalSocket {
    /// On a small machine, where the budget is small, the ring is no larger than an eighth of it.
    pub fn ring_bytes(&self, budget: u64) -> usize {
        usize::try_from(self.ring_bytes.unwrap_or(RING.min(budget / 8))).unwrap_or(usize::MAX)
    }
}

impl ExtensionSettings for Arc<Authenticator> {
    fn authenticator(&self) -> Option<&Arc<Authenticator>> {
        Some(self)
    }
}
