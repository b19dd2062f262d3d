//! The `resource_detection` processor: what it finds, and what it does with what stands there already.

use misaki::face::config;
use misaki::face::otlp::check::check;
use misaki::face::processors::Notes;
use misaki::face::processors::resourcedetection::Config;
use misaki::face::service::Plan;
use misaki::face::telemetry::{Budget, Charge, Now, Part, Share, Signal, Telemetry};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;

use super::harness::*;

/// The settings, and the problems with them.
fn decode(settings: &str) -> (Config, String) {
    let text = format!("yaml:{{it: {settings}}}");
    let loaded = config::load(&[text], &[], &|_| None);
    let node = &loaded.root.get("it").unwrap();
    let decoded = Config::decode(config::Section::of(node, "it", &loaded.problems));
    (decoded, loaded.problems.render(&loaded.sources, false))
}

fn pair(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

/// What becomes of a resource with these attributes, and its schema.
fn resource_after(settings: &str, env: &str, before: Option<&[(&str, &str)]>) -> (Vec<(String, String)>, String) {
    let mut request = ExportLogsServiceRequest::decode(request(Signal::Logs, &["a"]).as_slice()).unwrap();
    let attributes = |pairs: &[(&str, &str)]| pairs.iter().map(|(key, value)| pair(key, value)).collect();
    request.resource_logs[0].resource =
        before.map(|pairs| Resource { attributes: attributes(pairs), ..Resource::default() });
    let wire = request.encode_to_vec();
    let charge = Charge::take(&Budget::new(1 << 20), Share::Ingest, wire.len() as u64).unwrap();
    let parts = [Part::new(wire, 1, charge)].into_iter().collect();
    let telemetry =
        Telemetry { signal: Signal::Logs, parts, client: None, received: Now::read(), tickets: Default::default() };
    let processor = decode(settings).0.build_with(env).unwrap();
    let after = processor.process(telemetry, Now::read(), &mut Notes::new()).unwrap().unwrap();
    assert_eq!(check(Signal::Logs, &after.parts[0].bytes), Ok(1));
    let after = ExportLogsServiceRequest::decode(after.parts[0].bytes.as_ref()).unwrap().resource_logs.remove(0);
    let text = |value: Option<AnyValue>| match value.unwrap().value.unwrap() {
        Value::StringValue(text) => text,
        other => panic!("{other:?}"),
    };
    let attributes = after.resource.unwrap_or_default().attributes;
    (attributes.into_iter().map(|pair| (pair.key, text(pair.value))).collect(), after.schema_url)
}

#[track_caller]
fn check_env(settings: &str, env: &str, before: Option<&[(&str, &str)]>, expected: &[(&str, &str)]) {
    let (attributes, schema_url) = resource_after(settings, env, before);
    let attributes: Vec<_> = attributes.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!((attributes.as_slice(), schema_url.as_str()), (expected, ""));
}

#[test]
fn the_environment_is_read() {
    check_env("{}", "site=north, zone = a%20b+c=d ", None, &[("site", "north"), ("zone", "a b c=d")]);
    check_env("{}", "a=1,b=2,a=3", Some(&[("b", "x"), ("c", "y")]), &[("b", "2"), ("c", "y"), ("a", "1")]);
    check_env("{override: false}", "a=1,b=2", Some(&[("b", "x")]), &[("b", "x"), ("a", "1")]);
    check_env("{attributes: [a]}", "a=1,b=2", Some(&[]), &[("a", "1")]);
    check_env("{}", "", Some(&[("b", "x")]), &[("b", "x")]);
    for wrong in ["a", "=b", "a=%zz", "a=1,,b=2"] {
        let said = decode("{}").0.build_with(wrong).err().unwrap();
        assert!(said.starts_with("invalid resource format"), "{said}");
    }
}

#[test]
fn the_system_is_read() {
    let settings = "{detectors: [env, system], system: {hostname_sources: [os], resource_attributes: {host.arch: {enabled: true}, os.type: {enabled: false}}}}";
    let (attributes, schema_url) = resource_after(settings, "host.arch=mine", None);
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let expected =
        [("host.arch", "mine"), ("host.name", name.trim())].map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(
        (attributes.as_slice(), schema_url.as_str()),
        (expected.as_slice(), "https://opentelemetry.io/schemas/1.40.0")
    );
    let (attributes, _) = resource_after("{detectors: [system]}", "", None);
    assert!(attributes.iter().map(|(key, _)| key.as_str()).eq(["host.name", "os.type"]), "{attributes:?}");
}

#[test]
fn what_is_not_there_is_refused() {
    for (settings, expected) in [
        ("{detectors: [env, ec3]}", "invalid detector key: ec3"),
        ("{detectors: [env, ec2]}", "the detector \"ec2\" of the Go collector is not supported by Misaki"),
        (
            "{detectors: [system], system: {resource_attributes: {host.mac: {enabled: true}}}}",
            "the attribute \"host.mac\" of the Go collector is not supported by Misaki",
        ),
        (
            "{detectors: [system], system: {resource_attributes: {host.mic: {enabled: false}}}}",
            "unknown key \"host.mic\"",
        ),
        ("{gpc: {}}", "unknown key \"gpc\""),
        ("{system: {hostname_sources: [lookup]}}", "hostname_sources contains invalid value: \"lookup\""),
    ] {
        let said = decode(settings).1;
        assert!(said.contains(expected), "{expected} is not in {said}");
    }
    // What asks for nothing that is missing.
    let settings = "{detectors: [env], eks: {resource_attributes: {k8s.cluster.name: {enabled: true}}}, \
                    system: {resource_attributes: {host.ip: {enabled: false}}}}";
    assert_eq!(decode(settings).1, "these keys have no effect here: it.eks\n\n");
}

#[test]
fn it_is_known_by_both_names() {
    for name in ["resource_detection", "resourcedetection/other"] {
        let text = format!(
            "yaml:{{receivers: {{otlp: {{protocols: {{grpc: }}}}}}, processors: {{{name}: {{detectors: [system]}}}}, exporters: {{nop: }}, service: {{pipelines: {{logs: {{receivers: [otlp], processors: [{name}], exporters: [nop]}}}}}}}}"
        );
        let loaded = config::load(&[text], &[], &|_| None);
        Plan::read(&loaded);
        assert!(!loaded.problems.has_errors(), "{}", loaded.problems.render(&loaded.sources, false));
    }
}
