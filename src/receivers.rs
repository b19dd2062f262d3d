//! Receivers: where telemetry comes in.

pub(crate) mod hostmetrics;
pub(crate) mod nop;
pub(crate) mod otlp;

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::sync::watch;

use crate::extensions::Named;
use crate::network::auth::Authenticator;
use crate::network::connections::Connections;
use crate::network::ports::{CannotStart, Port};
use crate::network::settings::Listening;
use crate::network::workers::Workers;
use crate::telemetry::{Budget, Intake, Signal};

/// The settings of a receiver: all that is asked of one.
///
/// It is bound first, when nothing that runs has changed yet and an error changes nothing, and started when the pipelines
/// behind its gates are there. A reload that leaves its settings as they are leaves it running.
pub trait ReceiverSettings: Send + Sync {
    /// The signals that it may bring.
    fn signals(&self) -> &'static [Signal];
    /// Its ways in, as its metrics name them, each with gates of its own.
    fn transports(&self) -> &'static [&'static str];
    /// The extensions that it names.
    fn named(&self) -> Vec<Named> {
        Vec::new()
    }
    fn listens(&self) -> Vec<Listening> {
        Vec::new()
    }
    /// Binds what it listens on; what is among the `open` ports is taken from there.
    fn bind<'a>(&'a self, _id: &'a str, _open: &'a mut Vec<Port>) -> Binding<'a> {
        Box::pin(ready(Ok(Vec::new())))
    }
    /// What runs until it is told to stop, and ends when what was in flight is answered.
    fn start(&self, parts: ReceiverParts) -> Vec<Run>;
}

pub type Binding<'a> = Pin<Box<dyn Future<Output = Result<Vec<Port>, CannotStart>> + Send + 'a>>;
pub type Run = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a receiver runs with.
#[derive(Clone)]
pub struct ReceiverParts {
    pub id: String,
    pub ports: Vec<Port>,
    /// The authenticators that it names, by the key that names each.
    pub guards: Vec<(&'static str, Arc<Authenticator>)>,
    pub gates: Gates,
    pub budget: Arc<Budget>,
    pub connections: Arc<Connections>,
    /// Whether processors name the client.
    pub tells_clients: Arc<AtomicBool>,
    pub workers: Arc<Workers>,
    pub stop: watch::Receiver<bool>,
}

/// One gate for each signal that a receiver may bring; closed where no pipeline takes it.
pub type BySignal = [Option<Arc<dyn Intake>>; Signal::ALL.len()];

/// The gates behind a receiver, by transport.
#[derive(Clone, Default)]
pub struct Gates(pub Vec<(&'static str, BySignal)>);

impl Gates {
    pub fn of(&self, transport: &str) -> BySignal {
        self.0.iter().find(|(known, _)| *known == transport).map(|(_, gates)| gates.clone()).unwrap_or_default()
    }
}
