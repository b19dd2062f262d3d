//! Names of the Go collector: what Misaki lacks is not supported, with what to do, and never unknown.

use misaki::face::config::{Kind, load};
use misaki::face::service::Plan;

const NAMES: &str = include_str!("../../src/config/contrib.txt");

/// The errors and the help about a component of this kind and type.
fn said(kind: Kind, type_name: &str) -> String {
    let section = kind.section();
    let config = "yaml:receivers: {otlp: {protocols: {grpc: }}}\nexporters: {debug: }\n\
                  service: {pipelines: {logs: {receivers: [otlp], exporters: [debug]}}}";
    let loaded = load(&[config.to_owned(), format!("yaml:{section}: {{{type_name}: }}")], &[], &|_| None);
    Plan::read(&loaded);
    let of_section = loaded.problems.sorted().into_iter().filter(|problem| problem.path == section);
    of_section.map(|problem| format!("{} | {}", problem.message, problem.help.unwrap_or_default())).collect()
}

#[test]
fn every_component_of_contrib_is_known() {
    let mut count = 0;
    for kind in Kind::ALL {
        let one = kind.section().trim_end_matches('s');
        let names = NAMES.lines().find_map(|line| line.strip_prefix(one)?.strip_prefix(": ")).unwrap();
        for name in names.split(' ') {
            for name in [name.to_owned(), name.replace('_', "")] {
                let said = said(kind, &name);
                let is_ours = !said.contains("the Go collector") && !said.contains("unknown");
                let is_refused = said.contains("is not supported by Misaki | ") && !said.ends_with("| ");
                assert!(is_ours || is_refused, "{one} {name}: {said}");
            }
            count += 1;
        }
    }
    assert_eq!(count, 242);
}

#[test]
fn each_is_said_with_what_to_do() {
    let check = |kind, name: &str, expected: &str| assert_eq!(said(kind, name), expected);
    check(
        Kind::Receiver,
        "filelog",
        "the receiver \"filelog\" of the Go collector is not supported by Misaki | let a Go collector read the files, \
         or the program itself send its logs, and send OTLP here",
    );
    check(
        Kind::Receiver,
        "mysql",
        "the receiver \"mysql\" of the Go collector is not supported by Misaki | let a Go collector that has it \
         receive this, and send OTLP here",
    );
    check(
        Kind::Exporter,
        "jaeger",
        "the exporter \"jaeger\" was removed from the Go collector in 0.86 | Jaeger takes OTLP: `otlp_grpc` to its \
         port 4317",
    );
    check(
        Kind::Extension,
        "memory_ballast",
        "the extension \"memory_ballast\" was removed from the Go collector in 0.108 | leave it out: the memory budget \
         is `memory_limiter`",
    );
    check(Kind::Exporter, "debgu", "unknown exporter type \"debgu\" | did you mean \"debug\"?");
}
