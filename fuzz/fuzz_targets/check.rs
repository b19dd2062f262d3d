//! The walker against prost: what the one takes the other takes too, but for the rules that only OTLP or only we have,
//! and they count the same items. The first byte chooses the signal.
#![no_main]

use libfuzzer_sys::fuzz_target;
use misaki::face::otlp::check::check;
use misaki::face::telemetry::Signal;
use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest,
};
use prost::Message;

fuzz_target!(|data: &[u8]| {
    let Some((choice, request)) = data.split_first() else { return };
    let signal = Signal::ALL[usize::from(choice % 3)];
    let ours = check(signal, request);
    let theirs = match signal {
        Signal::Logs => ExportLogsServiceRequest::decode(request).map(|decoded| {
            let scopes = decoded.resource_logs.iter().flat_map(|resource| &resource.scope_logs);
            scopes.map(|scope| scope.log_records.len()).sum::<usize>()
        }),
        Signal::Traces => ExportTraceServiceRequest::decode(request).map(|decoded| {
            let scopes = decoded.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
            scopes.map(|scope| scope.spans.len()).sum()
        }),
        // A metric that is given two kinds of data keeps the last; the walker counts the points of both.
        Signal::Metrics => ExportMetricsServiceRequest::decode(request).map(|_| usize::MAX),
    };
    match (ours, theirs) {
        (Ok(items), Ok(count)) => assert!(count == usize::MAX || items as usize == count, "{items} and {count}"),
        (Err(malformed), Ok(_)) => {
            let why = malformed.to_string();
            // Padded tags are no tags here.
            let rules = ["an id of the wrong length", "64 nested values", "a tag that is no tag"];
            let ours_alone = rules.iter().any(|rule| why.contains(rule));
            // prost skips groups up to 100 deep, and takes a few long varints and lengths that it then ignores.
            let groups = request.iter().filter(|byte| **byte & 7 == 3).count() > 15;
            assert!(ours_alone || groups, "refused: {why}");
        }
        (Ok(_), Err(error)) => {
            let why = error.to_string();
            // Text that is not UTF-8 is carried; prost has room for fewer levels.
            assert!(why.contains("UTF-8") || why.contains("recursion limit"), "taken: {why}");
        }
        (Err(_), Err(_)) => {}
    }
});
