//! Extensions: services beside the pipelines. Started first, stopped last.

pub(crate) mod basicauth;
pub(crate) mod bearertokenauth;
pub(crate) mod file_storage;
pub(crate) mod health_check;
pub(crate) mod inspect;
mod page;

use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{Place, Section};
use crate::diagnostics::health::Health;
use crate::network::auth::Authenticator;
use crate::network::settings::Listening;
use crate::sending::storage::Storage;

pub(crate) use page::{AdminPage, PageServer};

/// The contract for an extension's settings. Each method is one offer, with a default of none.
pub(crate) trait ExtensionSettings: Send + Sync {
    /// The extensions it refers to.
    fn named(&self) -> Vec<Named> {
        Vec::new()
    }
    fn listens(&self) -> Vec<Listening> {
        Vec::new()
    }
    /// The authenticator, for components that refer to this extension: to authenticate clients, or to send credentials.
    fn authenticator(&self) -> Option<&Arc<Authenticator>> {
        None
    }
    /// The storage, for queues that refer to this extension.
    fn storage(&self) -> Option<&Storage> {
        None
    }
    /// The socket for the collector's own user.
    fn local_socket(&self) -> Option<&LocalSocket> {
        None
    }
    /// A page served on the thread of health and metrics.
    fn page(&self, _health: &Arc<Health>) -> Option<AdminPage> {
        None
    }
}

/// An extension that is accepted without effect.
struct WithoutEffect;

impl ExtensionSettings for WithoutEffect {}

/// The settings of an extension that is accepted without effect. A section may have these keys.
pub(crate) fn without_effect(section: Section, keys: &[&str]) -> Arc<dyn ExtensionSettings> {
    section.without_effect(keys);
    Arc::new(WithoutEffect)
}

/// A reference from a component to an extension.
#[derive(Clone, Debug)]
pub struct Named {
    pub id: String,
    /// Where the reference is written: its place, and the keys below the component's section.
    pub place: Place,
    pub key: &'static str,
    pub purpose: Purpose,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Purpose {
    /// Authenticates clients.
    Server,
    /// Provides credentials for an upstream; `in_clear` if they leave this machine unencrypted.
    Client { in_clear: bool },
}

impl Named {
    /// The reference to an authenticator in a section.
    pub(crate) fn authenticator(auth: &Option<(String, Place)>, key: &'static str, purpose: Purpose) -> Option<Named> {
        auth.as_ref().map(|(id, place)| Named { id: id.clone(), place: *place, key, purpose })
    }
}

/// The settings of the local socket.
#[derive(Clone, Debug)]
pub struct LocalSocket {
    pub enabled: bool,
    /// The path of the socket; by default in the runtime directory.
    pub path: Option<PathBuf>,
    /// Size of the ring of recent requests for `tail --since`; by default derived from the budget.
    pub ring_bytes: Option<u64>,
}

/// The default maximum of the ring.
const RING: u64 = 4 << 20;

impl Default for LocalSocket {
    fn default() -> LocalSocket {
        LocalSocket { enabled: true, path: None, ring_bytes: None }
    }
}

impl LocalSocket {
    /// With a small budget, the ring is at most an eighth of it.
    pub(crate) fn ring_bytes(&self, budget: u64) -> usize {
        usize::try_from(self.ring_bytes.unwrap_or(RING.min(budget / 8))).unwrap_or(usize::MAX)
    }
}

impl ExtensionSettings for Arc<Authenticator> {
    fn authenticator(&self) -> Option<&Arc<Authenticator>> {
        Some(self)
    }
}
