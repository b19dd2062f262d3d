//! Receivers: where telemetry comes in.

pub(crate) mod hostmetrics;
pub(crate) mod nop;
pub(crate) mod otlp;
pub(crate) mod prometheus;

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::extensions::Named;
use crate::network::auth::Authenticator;
use crate::network::connections::Connections;
use crate::network::endpoint::Listen;
use crate::network::ports::{CannotStart, Port};
use crate::network::settings::Listening;
use crate::network::workers::Workers;
use crate::telemetry::{Budget, Intake, Signal};

/// The contract for a receiver's settings.
///
/// It is bound first, while an error still changes nothing, and started when the pipelines behind its gates exist. It
/// keeps running across a reload that leaves its settings unchanged.
pub(crate) trait ReceiverSettings: Send + Sync {
    /// The signals it may receive.
    fn signals(&self) -> &'static [Signal];
    /// Its transports, as named in its metrics; each has its own gates.
    fn transports(&self) -> &'static [&'static str];
    /// The extensions it refers to.
    fn named(&self) -> Vec<Named> {
        Vec::new()
    }
    fn listens(&self) -> Vec<Listening> {
        Vec::new()
    }
    /// Binds its ports; ports among `open` are reused.
    fn bind<'a>(&'a self, _id: &'a str, _open: &'a mut Vec<Port>) -> Binding<'a> {
        Box::pin(ready(Ok(Vec::new())))
    }
    /// The tasks that run until told to stop, and end when requests in flight are answered.
    fn start(&self, parts: ReceiverParts) -> Vec<Run>;
}

type Binding<'a> = Pin<Box<dyn Future<Output = Result<Vec<Port>, CannotStart>> + Send + 'a>>;
type Run = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The collector's own page of metrics: where it is served, and its text. It changes with a reload.
#[derive(Default)]
pub(crate) struct OwnPage(Mutex<(Vec<Listen>, Option<Arc<PageText>>)>);

type PageText = dyn Fn() -> String + Send + Sync;

impl OwnPage {
    pub(crate) fn set(&self, served: Vec<Listen>, text: Arc<PageText>) {
        *self.0.lock() = (served, Some(text));
    }

    /// The text, if it is served at an address that `is_asked` accepts.
    fn text(&self, is_asked: impl Fn(&Listen) -> bool) -> Option<String> {
        let (served, text) = self.0.lock().clone();
        text.filter(|_| served.iter().any(is_asked)).map(|text| text())
    }
}

/// Everything a receiver needs to run.
#[derive(Clone)]
pub(crate) struct ReceiverParts {
    pub(crate) id: String,
    pub(crate) ports: Vec<Port>,
    /// The authenticators it refers to, by their key.
    pub(crate) guards: Vec<(&'static str, Arc<Authenticator>)>,
    pub(crate) gates: Gates,
    pub(crate) budget: Arc<Budget>,
    pub(crate) connections: Arc<Connections>,
    /// Whether a processor needs to know the client.
    pub(crate) tells_clients: Arc<AtomicBool>,
    pub(crate) workers: Arc<Workers>,
    pub(crate) own_page: Arc<OwnPage>,
    pub(crate) stop: watch::Receiver<bool>,
}

/// One gate for each signal that a receiver may receive; closed if no pipeline takes it.
type BySignal = [Option<Arc<dyn Intake>>; Signal::ALL.len()];

/// The gates behind a receiver, by transport.
#[derive(Clone, Default)]
pub(crate) struct Gates(pub(crate) Vec<(&'static str, BySignal)>);

impl Gates {
    fn of(&self, transport: &str) -> BySignal {
        self.0.iter().find(|(known, _)| *known == transport).map(|(_, gates)| gates.clone()).unwrap_or_default()
    }
}
