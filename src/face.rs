//! The face of the library: all that the tests, the benchmarks and the fuzz targets use of it. Each folder of `src/` has a
//! module here, with its items in one flat list. Every other module is private to the crate, so rustc reports unused
//! code, and `unreachable_pub` reports a `pub` that the face does not need.

pub use crate::cli::main;

pub mod config {
    pub use crate::config::telemetry::{Encoding, LogLevel, MetricsLevel, Telemetry};
    pub use crate::config::{
        Catalog, ComponentId, Declared, Entry, Kind, Layout, Level, Loaded, Lookup, Node, PipelineId, Place, Problem,
        Problems, Secret, Section, Value, duration, emit, load, yaml,
    };
}

pub mod diagnostics {
    pub use crate::diagnostics::metrics::{Observe, Page};
    pub use crate::diagnostics::reloads::Reloads;
    pub use crate::diagnostics::supervisor::Supervisor;
    pub use crate::diagnostics::systemd::Systemd;
    pub use crate::diagnostics::{escape, output};
}

pub mod exporters {
    pub use crate::exporters::compress::{Compression, Form};
    pub use crate::exporters::debug::layout::{Layout, Zone, width};
    pub use crate::exporters::debug::rates::Rates;
    pub use crate::exporters::debug::requests::{Limits, Requests, WAIT};
    pub use crate::exporters::debug::sampling::{Key, Sampler};
    pub use crate::exporters::debug::sink::Accounts;
    pub use crate::exporters::debug::tree::{Span, Tree};
    pub use crate::exporters::debug::{
        Counts, Style, Verbosity, put_lines, render_chunks, render_dump, render_summary, render_summary_fields,
    };
    pub use crate::exporters::settings::{BatchSettings, QueueSettings, Retry, Settings};
    pub use crate::exporters::upstream::pool::Finding;
    pub use crate::exporters::upstream::{self, Balance, Pieces, Protocol, Upstream};
    pub use crate::exporters::{Accepted, Encoding, Exporter, Payload, SendError, Sending};
}

pub mod extensions {
    pub use crate::extensions::{LocalSocket, Named, Purpose};
}

#[cfg(unix)]
pub mod inspect {
    pub use crate::inspect::feed::{PointKind, View, Viewers};
    pub use crate::inspect::wanted::{OPTIONS, Query, Wanted};
    pub use crate::inspect::{Inspection, Subject, place, status};
}

pub mod network {
    pub use crate::network::coalesce::{Coalesced, Turns};
    pub use crate::network::endpoint::{self, Address, Endpoint, Listen, Scheme};
    pub use crate::network::files::Watched;
    pub use crate::network::frames::{FRAME, Frames};
    pub use crate::network::proxy::{Environment, Proxy};
    pub use crate::network::workers::Workers;
    pub use crate::network::{Stream, looks_like_tls, tls};
}

pub mod otlp {
    pub use crate::otlp::Signal;
    pub use crate::otlp::deflate::{Deflater, WHOLE, deflate};
    pub use crate::otlp::inflate::{Coding, InflateError, Inflater};
    pub use crate::otlp::message::{Message, put_pair_header};
    pub use crate::otlp::pieces::{Pieces, whole};
    pub use crate::otlp::rewrite::{Depth, Outcome, Sight, Verdict, Visitor, rewrite};
    pub use crate::otlp::room::Room;
    pub use crate::otlp::slice::Exhausted;
    pub use crate::otlp::split::Splitter;
    pub use crate::otlp::views::{AnyValue, KeyValue};
    pub use crate::otlp::{base64, check, json, percent, schema, status, wire};
}

pub mod ottl {
    pub use crate::ottl::compile::{self, Dialect};
    pub use crate::ottl::expression::Call;
    pub use crate::ottl::scene::Scene;
    pub use crate::ottl::syntax::{self, Mistake};
    pub use crate::ottl::value::{Arena, Fault, Value};
    pub use crate::ottl::{functions, parser, plain};
}

pub mod pipeline {
    pub use crate::pipeline::timekeeper::keep_time;
    pub use crate::pipeline::{Branches, End, Next, Segment, Step};
}

pub mod processors {
    pub use crate::processors::{Factory, Notes, Processor, Role, Stage, StageParts};
    pub use crate::processors::{batch, filter, resourcedetection, trace_context, transform};
}

pub mod sending {
    pub use crate::sending::backoff::Backoff;
    pub use crate::sending::dead_letters;
    pub use crate::sending::disk::directory::{self, Directory};
    pub use crate::sending::disk::format::{FRAME_MAGIC, FileHeader, FileKind, Frame, HEADER, Position, crc};
    pub use crate::sending::disk::hold::{ATTEMPTS, PAUSE};
    pub use crate::sending::disk::survey::UNREADABLE;
    pub use crate::sending::disk::{Amount, Clock, Disk, Found, Limits, Log, NewRecord, OpenError, Opening, Record};
    pub use crate::sending::{Queue, Way};
}

pub mod service {
    pub use crate::service::machine::connections_within;
    pub use crate::service::plan::{Changes, Plan};
    pub use crate::service::registry::ROWS;
    pub use crate::service::{Balance, Running, start};
}

pub mod telemetry {
    pub use crate::telemetry::bill::{Reading, Sums};
    pub use crate::telemetry::{
        Account, Accounts, Alarm, Ask, Bill, Blocked, Budget, Charge, Client, Drain, Full, Intake, Load, Most, Now,
        Outlet, Part, Pending, Place, Planned, Point, Reason, Refusal, Share, Signal, Sink, Status, Submission, Tally,
        Tap, Telemetry, Wakeful,
    };
}
