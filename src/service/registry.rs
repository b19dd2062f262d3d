//! Every component there is: one row each. A new component is its file, its `mod` line and its row.

use std::sync::Arc;

use crate::config::section::Section;
use crate::config::{Catalog, Kind, Lookup};
use crate::exporters::{debug, file, otlp_grpc, otlp_http};
use crate::extensions::{basicauth, bearertokenauth, file_storage, health_check, inspect};
use crate::network::auth::Authenticator;
use crate::processors::{
    Factory, attributes, batch, filter, memory_limiter, probabilistic_sampler, redaction, resource, resourcedetection,
    tail_sampling, trace_context, transform,
};
use crate::receivers::{hostmetrics, otlp};

/// A component's settings, decoded.
pub enum Component {
    Otlp(otlp::config::Config),
    HostMetrics(hostmetrics::Config),
    Batch(batch::Config),
    TailSampling(Arc<tail_sampling::Config>),
    MemoryLimiter(memory_limiter::Config),
    /// Any other processor, which holds nothing.
    Processor(Arc<dyn Factory>),
    OtlpGrpc(otlp_grpc::Config),
    OtlpHttp(otlp_http::Config),
    Debug(debug::sink::Config),
    File(file::Config),
    Nop,
    Forward,
    HealthCheck(health_check::Config),
    FileStorage(file_storage::Config),
    Authenticator(Arc<Authenticator>),
    Inspect(inspect::Config),
}

impl Component {
    /// The ids of the authenticators that it names.
    pub fn authenticators(&self) -> impl Iterator<Item = &str> {
        let named = match self {
            Component::Otlp(config) => {
                let (grpc, http) = (config.grpc.as_ref(), config.http.as_ref());
                [grpc.and_then(|grpc| grpc.auth.as_ref()), http.and_then(|http| http.auth.as_ref())]
            }
            Component::OtlpGrpc(config) => [config.auth.as_ref(), None],
            Component::OtlpHttp(config) => [config.auth.as_ref(), None],
            _ => [None, None],
        };
        named.into_iter().flatten().map(|(id, _)| id.as_str())
    }
}

pub struct Row {
    pub kind: Kind,
    pub name: &'static str,
    pub alias: Option<&'static str>,
    pub about: &'static str,
    pub decode: fn(Section) -> Component,
}

const fn row(kind: Kind, name: &'static str, about: &'static str, decode: fn(Section) -> Component) -> Row {
    Row { kind, name, alias: None, about, decode }
}

pub const ROWS: &[Row] = &[
    row(Kind::Receiver, "otlp", "OTLP over gRPC and HTTP, protobuf and JSON", |section| {
        Component::Otlp(otlp::config::Config::decode(section))
    }),
    Row {
        alias: Some("hostmetrics"),
        ..row(Kind::Receiver, "host_metrics", "CPU, memory, load, filesystems and network of the host", |section| {
            Component::HostMetrics(hostmetrics::Config::decode(section))
        })
    },
    row(Kind::Processor, "attributes", "edits the attributes of log records, spans and data points", |section| {
        Component::Processor(Arc::new(attributes::Config::decode(section)))
    }),
    row(Kind::Processor, "redaction", "removes attributes that are not allowed, masks values", |section| {
        Component::Processor(Arc::new(redaction::Config::decode(section)))
    }),
    row(Kind::Processor, "resource", "edits the attributes of resources", |section| {
        Component::Processor(Arc::new(resource::Config::decode(section)))
    }),
    row(Kind::Processor, "batch", "gathers telemetry into larger batches", |section| {
        Component::Batch(batch::Config::decode(section))
    }),
    row(Kind::Processor, "memory_limiter", "sets the memory budget", |section| {
        Component::MemoryLimiter(memory_limiter::Config::decode(section))
    }),
    row(Kind::Processor, "probabilistic_sampler", "keeps a share of the spans or log records", |section| {
        Component::Processor(Arc::new(probabilistic_sampler::Config::decode(section)))
    }),
    row(Kind::Processor, "filter", "drops what a condition is true for", |section| {
        Component::Processor(Arc::new(filter::Config::decode(section)))
    }),
    row(Kind::Processor, "transform", "edits telemetry with OTTL statements", |section| {
        Component::Processor(Arc::new(transform::Config::decode(section)))
    }),
    Row {
        alias: Some("resourcedetection"),
        ..row(Kind::Processor, "resource_detection", "says on every resource where the collector runs", |section| {
            Component::Processor(Arc::new(resourcedetection::Config::decode(section)))
        })
    },
    row(Kind::Processor, "tail_sampling", "keeps or drops whole traces", |section| {
        Component::TailSampling(Arc::new(tail_sampling::Config::decode(section)))
    }),
    row(Kind::Processor, "trace_context", "puts log records that name their trace on it", |section| {
        Component::Processor(Arc::new(trace_context::Config::decode(section)))
    }),
    Row {
        alias: Some("otlp"),
        ..row(Kind::Exporter, "otlp_grpc", "OTLP over gRPC", |section| {
            Component::OtlpGrpc(otlp_grpc::Config::decode(section))
        })
    },
    Row {
        alias: Some("otlphttp"),
        ..row(Kind::Exporter, "otlp_http", "OTLP over HTTP", |section| {
            Component::OtlpHttp(otlp_http::Config::decode(section))
        })
    },
    row(Kind::Exporter, "debug", "prints telemetry", |section| Component::Debug(debug::sink::Config::decode(section))),
    row(Kind::Exporter, "file", "writes OTLP/JSON lines or protobuf to a file", |section| {
        Component::File(file::Config::decode(section))
    }),
    row(Kind::Exporter, "nop", "takes everything and does nothing with it", |section| {
        section.finish();
        Component::Nop
    }),
    row(Kind::Connector, "forward", "joins pipelines of one signal", |section| {
        section.finish();
        Component::Forward
    }),
    row(Kind::Extension, "basicauth", "users and passwords, of clients or our own", |section| {
        Component::Authenticator(Arc::new(basicauth::decode(section)))
    }),
    row(Kind::Extension, "bearertokenauth", "bearer tokens, of clients or our own", |section| {
        Component::Authenticator(Arc::new(bearertokenauth::decode(section)))
    }),
    row(Kind::Extension, "file_storage", "keeps sending queues on disk", |section| {
        Component::FileStorage(file_storage::Config::decode(section))
    }),
    row(Kind::Extension, "health_check", "says over HTTP whether the collector is ready", |section| {
        Component::HealthCheck(health_check::Config::decode(section))
    }),
    row(Kind::Extension, "inspect", "the local socket of `misaki tail` and `misaki status`; on by itself", |section| {
        Component::Inspect(inspect::Config::decode(section))
    }),
];

pub struct Registry;

impl Catalog for Registry {
    fn lookup(&self, kind: Kind, type_name: &str) -> Lookup {
        if kind == Kind::Exporter && type_name == "logging" {
            return Lookup::Deprecated("the logging exporter has been deprecated, use the debug exporter instead");
        }
        let mut rows = ROWS.iter().filter(|row| row.kind == kind);
        match rows.find(|row| row.name == type_name || row.alias == Some(type_name)) {
            Some(row) if row.name == type_name => Lookup::Known(row.name),
            Some(row) => Lookup::Alias(row.name),
            None => Lookup::Unknown,
        }
    }

    fn names(&self, kind: Kind) -> Vec<&'static str> {
        ROWS.iter().filter(|row| row.kind == kind).map(|row| row.name).collect()
    }
}
