//! Records of our own log that wait to be pushed. What the pushing itself logs is not among them: it would never end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use parking_lot::{Mutex, RwLock};
use prost::Message;
use tokio::sync::Notify;
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use crate::diagnostics::own::{attribute, nanoseconds, text};

/// Maximum encoded bytes of records that wait for one destination.
const BYTES: usize = 512 << 10;

/// All destinations of this process's log.
static WAITING: RwLock<Vec<Arc<Waiting>>> = RwLock::new(Vec::new());

tokio::task_local! {
    /// Set in a task that pushes.
    static PUSHING: ();
}

/// Runs a task whose own log records go to stderr alone.
pub(crate) async fn unpushed<T>(task: impl Future<Output = T>) -> T {
    PUSHING.scope((), task).await
}

/// The records that wait for one destination. When it is full, new ones are dropped and counted.
pub(crate) struct Waiting {
    most: usize,
    state: Mutex<State>,
    arrived: Notify,
    dropped: AtomicU64,
}

#[derive(Default)]
struct State {
    records: VecDeque<LogRecord>,
    bytes: usize,
}

impl Waiting {
    /// From now on, records wait here, until [`Waiting::close`].
    pub(crate) fn open(most: usize) -> Arc<Waiting> {
        let (state, arrived) = (Mutex::default(), Notify::new());
        let waiting = Arc::new(Waiting { most, state, arrived, dropped: AtomicU64::new(0) });
        WAITING.write().push(waiting.clone());
        waiting
    }

    pub(crate) fn close(self: &Arc<Self>) {
        WAITING.write().retain(|waiting| !Arc::ptr_eq(waiting, self));
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Returns once there is a record.
    pub(crate) async fn arrived(&self) {
        loop {
            let arrived = self.arrived.notified();
            if !self.state.lock().records.is_empty() {
                return;
            }
            arrived.await;
        }
    }

    /// The oldest records. They stay until [`Waiting::settle`].
    pub(crate) fn oldest(&self, most: usize) -> Vec<LogRecord> {
        self.state.lock().records.iter().take(most).cloned().collect()
    }

    /// Lets go of the oldest records; `dropped` of them never arrived.
    pub(crate) fn settle(&self, count: usize, dropped: u64) {
        let mut state = self.state.lock();
        let count = count.min(state.records.len());
        let gone: usize = state.records.drain(..count).map(|record| record.encoded_len()).sum();
        state.bytes -= gone;
        self.dropped.fetch_add(dropped, Relaxed);
    }

    fn offer(&self, record: &LogRecord) {
        let bytes = record.encoded_len();
        let mut state = self.state.lock();
        if state.records.len() >= self.most || state.bytes + bytes > BYTES {
            self.dropped.fetch_add(1, Relaxed);
            return;
        }
        state.bytes += bytes;
        state.records.push_back(record.clone());
        drop(state);
        self.arrived.notify_one();
    }
}

/// Offers an event to all destinations.
pub(super) fn offer(event: &Event, level: Level) {
    let waiting = WAITING.read();
    if waiting.is_empty() || PUSHING.try_with(|()| ()).is_ok() {
        return;
    }
    let (number, name) = match level {
        Level::ERROR => (17, "error"),
        Level::WARN => (13, "warn"),
        Level::INFO => (9, "info"),
        Level::DEBUG | Level::TRACE => (5, "debug"),
    };
    let mut fields = Fields::default();
    event.record(&mut fields);
    let now = nanoseconds(SystemTime::now());
    let record = LogRecord {
        time_unix_nano: now,
        observed_time_unix_nano: now,
        severity_number: number,
        severity_text: name.to_owned(),
        body: Some(AnyValue { value: Some(any_value::Value::StringValue(fields.message)) }),
        attributes: fields.attributes,
        ..LogRecord::default()
    };
    waiting.iter().for_each(|waiting| waiting.offer(&record));
}

#[derive(Default)]
struct Fields {
    message: String,
    attributes: Vec<KeyValue>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let said = format!("{value:?}");
        match field.name() {
            "message" => self.message = said,
            name => self.attributes.push(text(name, &said)),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.attributes.push(text(field.name(), value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.record_i64(field, i64::try_from(value).unwrap_or(i64::MAX));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.attributes.push(attribute(field.name(), any_value::Value::IntValue(value)));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.attributes.push(attribute(field.name(), any_value::Value::BoolValue(value)));
    }
}
