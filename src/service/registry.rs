//! Every component: one row each. A new component is its file, its `mod` line and its row.

use std::sync::Arc;

use crate::config::section::Section;
use crate::config::{Catalog, Kind, Lookup};
use crate::connectors::{ConnectorSettings, forward};
use crate::exporters::{ExporterSettings, debug, file, nop, otlp_grpc, otlp_http, prometheus};
use crate::extensions::{
    ExtensionSettings, basicauth, bearertokenauth, file_storage, health_check, inspect, without_effect,
};
use crate::processors::{
    ProcessorSettings, attributes, batch, filter, memory_limiter, probabilistic_sampler, redaction, resource,
    resourcedetection, tail_sampling, trace_context, transform,
};
use crate::receivers::{self, ReceiverSettings, hostmetrics, otlp};

pub struct Row {
    pub name: &'static str,
    pub(crate) alias: Option<&'static str>,
    pub(crate) about: &'static str,
    /// Whether it runs without being named in the config.
    pub(super) is_always_on: bool,
    pub(super) decode: Decode,
}

/// Decodes the settings of a component, by its kind.
#[derive(Clone, Copy)]
pub(super) enum Decode {
    Receiver(fn(Section) -> Arc<dyn ReceiverSettings>),
    Processor(fn(Section) -> Arc<dyn ProcessorSettings>),
    Exporter(fn(Section) -> Arc<dyn ExporterSettings>),
    Connector(fn(Section) -> Arc<dyn ConnectorSettings>),
    Extension(fn(Section) -> Arc<dyn ExtensionSettings>),
}

use Decode::{Connector, Exporter, Extension, Processor, Receiver};

impl Row {
    pub fn kind(&self) -> Kind {
        match self.decode {
            Receiver(_) => Kind::Receiver,
            Processor(_) => Kind::Processor,
            Exporter(_) => Kind::Exporter,
            Connector(_) => Kind::Connector,
            Extension(_) => Kind::Extension,
        }
    }

    const fn or(self, alias: &'static str) -> Row {
        Row { alias: Some(alias), ..self }
    }

    const fn always_on(self) -> Row {
        Row { is_always_on: true, ..self }
    }
}

const fn row(name: &'static str, about: &'static str, decode: Decode) -> Row {
    Row { name, alias: None, about, is_always_on: false, decode }
}

/// The exporter that replaces all others when nothing may be sent.
pub(super) fn silence() -> Arc<dyn ExporterSettings> {
    Arc::new(nop::Config)
}

/// The exporter of the collector's own telemetry, over HTTP or gRPC.
pub(super) fn own_exporter(section: Section, is_http: bool) -> Arc<dyn ExporterSettings> {
    if is_http { Arc::new(otlp_http::Config::decode(section)) } else { Arc::new(otlp_grpc::Config::decode(section)) }
}

#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    row("otlp", "OTLP over gRPC and HTTP, protobuf and JSON", Receiver(|it| Arc::new(otlp::config::Config::decode(it)))),
    row("host_metrics", "CPU, memory, load, filesystems and network of the host", Receiver(|it| Arc::new(hostmetrics::Config::decode(it)))).or("hostmetrics"),
    row("prometheus", "scrapes the pages of Prometheus targets", Receiver(|it| Arc::new(receivers::prometheus::Config::decode(it)))),
    row("nop", "brings nothing", Receiver(|it| Arc::new(receivers::nop::Config::decode(it)))),
    row("attributes", "edits the attributes of log records, spans and data points", Processor(|it| Arc::new(attributes::Config::decode(it)))),
    row("redaction", "removes attributes that are not allowed, masks values", Processor(|it| Arc::new(redaction::Config::decode(it)))),
    row("resource", "edits the attributes of resources", Processor(|it| Arc::new(resource::Config::decode(it)))),
    row("batch", "gathers telemetry into larger batches", Processor(|it| Arc::new(batch::Config::decode(it)))),
    row("memory_limiter", "sets the memory budget", Processor(|it| Arc::new(memory_limiter::Config::decode(it)))),
    row("probabilistic_sampler", "keeps a share of the spans or log records", Processor(|it| Arc::new(probabilistic_sampler::Config::decode(it)))),
    row("filter", "drops what a condition is true for", Processor(|it| Arc::new(filter::Config::decode(it)))),
    row("transform", "edits telemetry with OTTL statements", Processor(|it| Arc::new(transform::Config::decode(it)))),
    row("resource_detection", "says on every resource where the collector runs", Processor(|it| Arc::new(resourcedetection::Config::decode(it)))).or("resourcedetection"),
    row("tail_sampling", "keeps or drops whole traces", Processor(|it| Arc::new(Arc::new(tail_sampling::Config::decode(it))))),
    row("trace_context", "puts log records that name their trace on it", Processor(|it| Arc::new(trace_context::Config::decode(it)))),
    row("otlp_grpc", "OTLP over gRPC", Exporter(|it| Arc::new(otlp_grpc::Config::decode(it)))).or("otlp"),
    row("otlp_http", "OTLP over HTTP", Exporter(|it| Arc::new(otlp_http::Config::decode(it)))).or("otlphttp"),
    row("debug", "prints telemetry", Exporter(|it| Arc::new(debug::sink::Config::decode(it)))),
    row("file", "writes OTLP/JSON lines or protobuf to a file", Exporter(|it| Arc::new(file::Config::decode(it)))),
    row("prometheus", "shows the last values of metrics to Prometheus", Exporter(|it| Arc::new(prometheus::Config::decode(it)))),
    row("nop", "takes everything and does nothing with it", Exporter(|it| Arc::new(nop::Config::decode(it)))),
    row("forward", "joins pipelines of one signal", Connector(|it| Arc::new(forward::Config::decode(it)))),
    row("basicauth", "users and passwords, of clients or our own", Extension(|it| Arc::new(Arc::new(basicauth::decode(it))))),
    row("bearertokenauth", "bearer tokens, of clients or our own", Extension(|it| Arc::new(Arc::new(bearertokenauth::decode(it))))),
    row("cgroup_runtime", "accepted without effect: the budget follows the container's memory by itself", Extension(|it| without_effect(it, &["gomaxprocs", "gomemlimit"]))).or("cgroupruntime"),
    row("file_storage", "keeps sending queues on disk", Extension(|it| Arc::new(file_storage::Config::decode(it)))),
    row("health_check", "says over HTTP whether the collector is ready", Extension(|it| Arc::new(health_check::Config::decode(it)))),
    row("pprof", "accepted without effect: there is no Go runtime to profile", Extension(|it| without_effect(it, &["endpoint", "block_profile_fraction", "mutex_profile_fraction", "save_to_file", "dialer"]))),
    row("zpages", "accepted without effect: `misaki status` says how the collector is", Extension(|it| without_effect(it, &["endpoint", "expvar", "tls", "auth", "cors", "response_headers", "transport"]))),
    row("inspect", "the local socket of `misaki tail` and `misaki status`; on by itself", Extension(|it| Arc::new(inspect::Config::decode(it)))).always_on(),
];

pub(crate) struct Registry;

impl Catalog for Registry {
    fn lookup(&self, kind: Kind, type_name: &str) -> Lookup {
        if kind == Kind::Exporter && type_name == "logging" {
            return Lookup::Deprecated("the logging exporter has been deprecated, use the debug exporter instead");
        }
        let mut rows = ROWS.iter().filter(|row| row.kind() == kind);
        match rows.find(|row| row.name == type_name || row.alias == Some(type_name)) {
            Some(row) if row.name == type_name => Lookup::Known(row.name),
            Some(row) => Lookup::Alias(row.name),
            None => Lookup::Unknown,
        }
    }

    fn names(&self, kind: Kind) -> Vec<&'static str> {
        ROWS.iter().filter(|row| row.kind() == kind).map(|row| row.name).collect()
    }
}
