//! The integration tests: one binary, one module a subject.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test may fail"
)]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests make what src must withstand")]

mod agreement;
mod answers;
mod aside;
mod auth;
mod bad_inputs;
mod balancing;
mod batch;
mod cancellation;
mod captures;
mod command;
mod config;
mod conformance;
mod connections;
mod contract;
mod debug_output;
mod debug_text;
mod detection;
mod disk;
mod documentation;
mod endpoint;
mod expansion;
mod failing_disk;
mod file;
mod filter;
mod fix;
mod frames;
mod glance;
mod growing;
mod harness;
mod hostmetrics;
mod inflate;
mod injection;
mod inspect;
mod json;
mod large_configs;
mod limits;
mod metric_lines;
mod names;
mod ottl_functions;
mod ottl_language;
mod outside;
mod overload;
mod own_telemetry;
mod past;
mod pipelines;
mod privacy;
mod prometheus;
mod proxies;
mod recorded;
mod redaction;
mod redirects;
mod refusals;
mod reload;
mod request_page;
mod rewrite;
mod room;
mod round_trip;
mod said;
mod sampler;
mod scenarios;
mod scraped;
mod secrets;
mod sending;
mod service;
mod shop;
mod simulated_disk;
mod stages;
mod status;
mod storage;
mod strangers;
mod supervision;
mod systemd;
mod tail;
mod tail_sampling;
mod tls;
mod trace_context;
mod transform;
mod tree;
mod ui;
mod unreadable;
mod verbs;
mod wire;
