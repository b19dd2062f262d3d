//! `misaki components`: the components that a config may use, as YAML in the order of the Go collector.

use std::fmt::Write;

use crate::config::Kind;
use crate::order::Ordered;
use crate::service::registry::ROWS;

pub(super) fn list() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut out = format!("buildinfo:\n    command: misaki\n    version: {version}\n");
    for kind in [Kind::Receiver, Kind::Processor, Kind::Exporter, Kind::Connector, Kind::Extension] {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{}:", kind.section());
        let mut rows: Vec<_> = ROWS.iter().filter(|row| row.kind() == kind).collect();
        rows.order_by_key(|row| row.name);
        for row in rows {
            let _ = writeln!(out, "    - name: {}\n      about: {}", row.name, row.about);
            if let Some(alias) = row.alias {
                let _ = writeln!(out, "      alias: {alias}");
            }
        }
    }
    out.push_str("providers:\n    - scheme: env\n    - scheme: file\n    - scheme: yaml\n");
    out
}
