//! The keys `sending_queue`, `retry_on_failure` and `timeout`, common to all exporters that send.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::Place;
use crate::config::section::Section;

#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// For each attempt; `None` means no timeout.
    pub timeout: Option<Duration>,
    pub queue: QueueSettings,
    pub retry: Retry,
}

#[derive(Clone, Debug, PartialEq)]
pub struct QueueSettings {
    pub enabled: bool,
    pub num_consumers: usize,
    /// In the sizer's unit.
    pub queue_size: u64,
    pub sizer: Sizer,
    pub wait_for_result: bool,
    pub block_on_overflow: bool,
    pub batch: Option<BatchSettings>,
    /// The id of the storage extension, and where the config names it.
    pub storage: Option<(String, Place)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sizer {
    Requests,
    Items,
    Bytes,
}

const SIZERS: &[(&str, Sizer)] = &[("requests", Sizer::Requests), ("items", Sizer::Items), ("bytes", Sizer::Bytes)];

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchSettings {
    pub flush_timeout: Duration,
    pub min_size: u64,
    /// 0 means no limit.
    pub max_size: u64,
    pub by_bytes: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    pub enabled: bool,
    pub initial_interval: Duration,
    pub randomization_factor: f64,
    pub multiplier: f64,
    pub max_interval: Duration,
    /// `None` means no limit, which is also Misaki's default.
    pub max_elapsed_time: Option<Duration>,
}

/// Without a queue, a request waits for the upstream; this limits how many wait at once.
const UNQUEUED: u64 = 1024;

impl Settings {
    /// Decodes the three keys from an exporter's section; `timeout` is the exporter's default.
    pub(super) fn decode(section: &Section, timeout: Duration) -> Settings {
        let timeout = section.duration("timeout", timeout);
        Settings { timeout: (!timeout.is_zero()).then_some(timeout), ..Settings::of(section, true) }
    }

    /// The same for an exporter without a timeout, whose queue is disabled by default.
    pub(super) fn decode_direct(section: &Section) -> Settings {
        Settings::of(section, false)
    }

    fn of(section: &Section, is_queued: bool) -> Settings {
        let queue = section.section_or_default("sending_queue", is_queued);
        let retry = section.section_or_default("retry_on_failure", true);
        Settings {
            timeout: None,
            queue: queue.map_or(QueueSettings::off(), QueueSettings::decode),
            retry: retry.inspect(|retry| retry.pass_unknown_as(section)).map_or(Retry::off(), Retry::decode),
        }
    }
}

impl QueueSettings {
    pub fn off() -> QueueSettings {
        QueueSettings {
            enabled: false,
            num_consumers: UNQUEUED as usize,
            queue_size: UNQUEUED,
            sizer: Sizer::Requests,
            wait_for_result: false,
            block_on_overflow: false,
            batch: None,
            storage: None,
        }
    }

    /// Whether both have the same values, regardless of where they were written.
    pub(crate) fn is_like(&self, other: &QueueSettings) -> bool {
        let bare = |queue: &QueueSettings| {
            let storage = queue.storage.as_ref().map(|(id, _)| (id.clone(), Place::NOWHERE));
            QueueSettings { storage, ..queue.clone() }
        };
        bare(self) == bare(other)
    }

    fn decode(section: Section) -> QueueSettings {
        // The batch counts items by default, whatever the queue counts.
        let sizer_given = section.says("sizer") && !section.is_null("batch");
        let sizer = section.choice_or_empty("sizer", Sizer::Requests, SIZERS);
        let most = i64::MAX;
        let mut queue = QueueSettings {
            enabled: true,
            num_consumers: section.limited("num_consumers", 10, 1..=10_000) as usize,
            queue_size: section.integer("queue_size", 1000, 1..=most) as u64,
            sizer,
            wait_for_result: section.boolean("wait_for_result", false),
            block_on_overflow: section.boolean("block_on_overflow", false),
            batch: None,
            storage: section.text("storage").map(|storage| (storage, section.place("storage"))),
        };
        let size = queue.queue_size;
        queue.batch = section.section_or_default("batch", false).map(|batch| {
            let choices = &[("items", Sizer::Items), ("bytes", Sizer::Bytes)];
            if sizer_given && sizer == Sizer::Requests && !batch.says("sizer") {
                let message = "`batch` supports only `items` or `bytes` sizer, found \"requests\"";
                batch.problem_with_help("sizer", message, "write `sizer: items` or `sizer: bytes` under `batch`");
            }
            batch.unset(&["partition"]);
            let inherited = if sizer_given && sizer == Sizer::Bytes { Sizer::Bytes } else { Sizer::Items };
            let batch_sizer = batch.choice_or_empty("sizer", inherited, choices);
            let settings = BatchSettings {
                flush_timeout: batch.duration("flush_timeout", Duration::from_millis(200)),
                min_size: batch.integer("min_size", 8192, 0..=most) as u64,
                max_size: batch.integer("max_size", 0, 0..=most) as u64,
                by_bytes: batch_sizer == Sizer::Bytes,
            };
            if settings.flush_timeout.is_zero() {
                batch.problem("flush_timeout", "`flush_timeout` must be positive, found 0");
            }
            if settings.max_size > 0 && settings.max_size < settings.min_size {
                let (most, least) = (settings.max_size, settings.min_size);
                let message = format!("`max_size` ({most}) must be greater or equal to `min_size` ({least})");
                batch.problem_with_help("max_size", message, format!("write at least {least}, or lower min_size"));
            }
            if batch_sizer == sizer && settings.min_size > size {
                let help = format!("write at most {size}, or raise queue_size");
                batch.problem_with_help("min_size", "`min_size` must be less than or equal to `queue_size`", help);
            }
            batch.finish();
            settings
        });
        section.finish();
        queue
    }
}

impl Retry {
    pub fn off() -> Retry {
        Retry {
            enabled: false,
            initial_interval: Duration::from_secs(5),
            randomization_factor: 0.5,
            multiplier: 1.5,
            max_interval: Duration::from_secs(30),
            max_elapsed_time: None,
        }
    }

    fn decode(section: Section) -> Retry {
        let retry = Retry {
            enabled: true,
            initial_interval: section.duration("initial_interval", Duration::from_secs(5)),
            randomization_factor: section.float("randomization_factor", 0.5, 0.0..=1.0),
            multiplier: section.float("multiplier", 1.5, 0.0..=f64::MAX),
            max_interval: section.duration("max_interval", Duration::from_secs(30)),
            max_elapsed_time: section.duration_opt("max_elapsed_time").filter(|limit| !limit.is_zero()),
        };
        if let Some(limit) = retry.max_elapsed_time.filter(|_| retry.enabled) {
            for (key, interval) in [("initial_interval", retry.initial_interval), ("max_interval", retry.max_interval)]
            {
                if limit < interval {
                    let message = format!("'max_elapsed_time' must not be less than '{key}'");
                    let help = format!("write at least {interval:?}, 0 for no limit, or lower {key}");
                    section.problem_with_help("max_elapsed_time", message, help);
                    break;
                }
            }
        }
        section.finish();
        retry
    }
}

/// `headers`, sent with every request.
pub(super) fn headers(section: &Section) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value, place) in section.headers("headers") {
        match (HeaderName::try_from(&name), HeaderValue::from_str(value.expose())) {
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(true);
                if headers.try_append(name, value).is_err() {
                    let message = "these are more headers than a request can have";
                    section.problem_at(place, "headers", message.to_owned(), None);
                    break;
                }
            }
            _ => section.problem_at(place, "headers", format!("\"{name}\" is not a valid header"), None),
        }
    }
    headers
}

/// `user_agent`, or the default.
pub(super) fn user_agent(section: &Section) -> HeaderValue {
    let default = concat!("misaki/", env!("CARGO_PKG_VERSION"));
    let given = section.text("user_agent");
    given.and_then(|given| HeaderValue::try_from(given).ok()).unwrap_or(HeaderValue::from_static(default))
}
