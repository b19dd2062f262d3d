//! What older collectors wrote, and what today's read instead.

use super::Change;
use super::edits::{Edit, Op, Path};
use crate::config::emit;
use crate::config::layout::{Catalog, Kind, Lookup};
use crate::config::tree::{Entry, Node, Place, Value};

/// Keys of exporters that are now below `tls`, under the same names.
const OF_TLS: [&str; 6] =
    ["insecure", "insecure_skip_verify", "ca_file", "cert_file", "key_file", "server_name_override"];
/// Keys of a receiver's HTTP that are now below `cors`, without its name.
const OF_CORS: [&str; 2] = ["cors_allowed_origins", "cors_allowed_headers"];
/// The exporters that speak OTLP, or will once they are renamed.
const CLIENTS: [&str; 6] = ["otlp", "otlp_grpc", "otlphttp", "otlp_http", "jaeger", "loki"];

/// Components that are gone without a successor: the kind, the type, and the reason.
const GONE: [(Kind, &str, &str); 2] = [
    (Kind::Extension, "memory_ballast", "the extension is gone (since 0.108); memory_limiter sets the memory budget"),
    (
        Kind::Processor,
        "queued_retry",
        "the processor is gone; every exporter has sending_queue and retry_on_failure, on by default",
    ),
];

/// Verbosities for the levels of the exporter `logging`; of `basic`, the default, nothing is written.
const VERBOSITIES: [(&str, &str); 4] = [("debug", "detailed"), ("info", ""), ("warn", ""), ("error", "")];

/// The changes that this config wants: for each component its keys first, then its name.
pub(super) fn changes(root: &Node, catalog: &dyn Catalog) -> Vec<Change> {
    let mut all = lists(root);
    for kind in Kind::ALL {
        for entry in root.get(kind.section()).map(Node::entries).unwrap_or_default() {
            let type_name = entry.key.split('/').next().unwrap_or_default().trim();
            let own = Own { root, kind, type_name, entry };
            own.keys(&mut all);
            all.extend(own.name(catalog));
        }
    }
    all.extend(metrics_address(root));
    all
}

/// A component as written.
struct Own<'a> {
    root: &'a Node,
    kind: Kind,
    type_name: &'a str,
    entry: &'a Entry,
}

impl Own<'_> {
    fn path(&self) -> String {
        format!("{}.{}", self.kind.section(), self.entry.key)
    }

    fn get(&self, key: &str) -> Option<&Entry> {
        self.entry.node.entries().iter().find(|entry| entry.key == key)
    }

    fn op(&self, key: &str, edit: Edit) -> Op {
        Op::new(&[self.kind.section(), &self.entry.key, key], edit)
    }

    fn keys(&self, all: &mut Vec<Change>) {
        let change =
            |place: Place, said: &str, ops: Vec<Op>| Change { place, said: format!("{}.{said}", self.path()), ops };
        match (self.kind, self.type_name) {
            (Kind::Exporter, "logging" | "debug") => {
                // Older collectors read keys in any case.
                let is_level = |entry: &&Entry| entry.key.eq_ignore_ascii_case("loglevel");
                let Some(level) = self.entry.node.entries().iter().find(is_level) else { return };
                let gone = || vec![self.op(&level.key, Edit::Gone)];
                let known = level.node.as_text().unwrap_or_default();
                let known = VERBOSITIES.iter().find(|(name, _)| name.eq_ignore_ascii_case(known));
                let (said, ops) = match known {
                    Some(_) if self.get("verbosity").is_some() => ("loglevel -> nothing: verbosity decides", gone()),
                    Some((_, "")) => ("loglevel -> nothing: it meant verbosity basic, which is the default", gone()),
                    Some((_, verbosity)) => (
                        "loglevel -> verbosity: debug has no loglevel",
                        vec![self.op(&level.key, Edit::Entry("verbosity".to_owned(), (*verbosity).to_owned()))],
                    ),
                    None => ("loglevel -> verbosity: debug has no loglevel", Vec::new()),
                };
                all.push(change(level.key_place, said, ops));
            }
            (Kind::Exporter, name) if CLIENTS.contains(&name) => {
                self.tls(&[], all);
                self.moved(&[], &OF_TLS, "", "tls", all);
            }
            (Kind::Receiver, "otlp") => {
                self.tls(&["protocols", "grpc"], all);
                self.tls(&["protocols", "http"], all);
                self.moved(&["protocols", "http"], &OF_CORS, "cors_", "cors", all);
            }
            (Kind::Processor, "memory_limiter") => {
                if let Some(ballast) = self.get("ballast_size_mib") {
                    let said = "ballast_size_mib -> nothing: there is no ballast (since 0.108)";
                    all.push(change(ballast.key_place, said, vec![self.op("ballast_size_mib", Edit::Gone)]));
                }
            }
            (Kind::Extension, "health_check") => {
                let Some(port) = self.get("port") else { return };
                let endpoint = match port.node.value {
                    Value::Int(number) if self.get("endpoint").is_none() => {
                        vec![self.op("port", Edit::Entry("endpoint".to_owned(), format!("0.0.0.0:{number}")))]
                    }
                    _ => Vec::new(),
                };
                all.push(change(port.key_place, "port -> endpoint: the key is gone", endpoint));
            }
            _ => {}
        }
    }

    /// Keys of TLS that have moved below `tls`, at `within`.
    fn tls(&self, within: &[&str], all: &mut Vec<Change>) {
        let at = |key: &str| self.at(&[within, &[key]].concat());
        if let (Some(entry), is_free) = (at("tls_settings"), at("tls").is_none()) {
            let (path, shown) = self.path_to(within, "tls_settings");
            let op = Op { path, edit: Edit::Key("tls".to_owned()) };
            let ops = is_free.then_some(op).into_iter().collect();
            all.push(Change { place: entry.key_place, said: format!("{shown} -> tls: the key is gone"), ops });
        }
    }

    /// Keys that have moved below another one, at `within`; they lose `prefix`.
    fn moved(&self, within: &[&str], keys: &[&str], prefix: &str, to: &str, all: &mut Vec<Change>) {
        let at = |key: &str| self.at(&[within, &[key]].concat());
        let moved: Vec<&Entry> = keys.iter().filter_map(|key| at(key)).collect();
        let Some((first, others)) = moved.split_first() else { return };
        let names: Vec<_> = moved.iter().map(|entry| entry.key.as_str()).collect();
        let (path, _) = self.path_to(within, &first.key);
        let (_, shown) = self.path_to(within, &names.join(", "));
        let said = format!("{shown} -> {to}: the place of these keys is below it");
        let pair = |entry: &&Entry| {
            format!("{}: {}", entry.key.strip_prefix(prefix).unwrap_or(&entry.key), in_braces(&entry.node.value))
        };
        let value = format!("{{{}}}", moved.iter().map(pair).collect::<Vec<_>>().join(", "));
        let mut ops = vec![Op { path, edit: Edit::Entry(to.to_owned(), value) }];
        ops.extend(others.iter().map(|entry| Op { path: self.path_to(within, &entry.key).0, edit: Edit::Moved }));
        all.push(Change { place: first.key_place, said, ops: if at(to).is_some() { Vec::new() } else { ops } });
    }

    /// The entry at these keys below the component.
    fn at(&self, keys: &[&str]) -> Option<&Entry> {
        let (last, within) = keys.split_last()?;
        let map = within.iter().try_fold(&self.entry.node, |node, key| node.get(key))?;
        map.entries().iter().find(|entry| entry.key == *last)
    }

    /// The path to a key at `within`, and how it is shown.
    fn path_to(&self, within: &[&str], key: &str) -> (Path, String) {
        let keys = [&[self.kind.section(), &self.entry.key], within, &[key]].concat();
        (keys.iter().map(|key| (*key).to_owned()).collect(), keys.join("."))
    }

    /// The change of its name, if that is gone or deprecated.
    fn name(&self, catalog: &dyn Catalog) -> Option<Change> {
        let endpoint = || self.get("endpoint").and_then(|entry| entry.node.as_text());
        let ending = |old: &str, new: &str| {
            let endpoint = format!("{}{new}", endpoint()?.strip_suffix(old)?);
            Some(vec![self.op("endpoint", Edit::Scalar(emit::text(&endpoint)))])
        };
        match (self.kind, self.type_name) {
            (Kind::Exporter, "logging") => {
                Some(self.renamed("debug", "", "the exporter is gone (since 0.111)", Some(Vec::new())))
            }
            (Kind::Exporter, "jaeger") => {
                let reason = "Jaeger takes OTLP (since 1.35), and the exporter is gone (since 0.86)";
                Some(self.renamed("otlp_grpc", ", its port 14250 -> 4317", reason, ending(":14250", ":4317")))
            }
            (Kind::Exporter, "loki") => {
                let mut ops = ending("/loki/api/v1/push", "/otlp");
                let gone =
                    ["labels", "format", "default_labels_enabled"].into_iter().filter(|key| self.get(key).is_some());
                let gone: Vec<_> = gone.collect();
                if let Some(ops) = &mut ops {
                    ops.extend(gone.iter().map(|key| self.op(key, Edit::Gone)));
                }
                match self.get("tenant_id").map(|tenant| in_braces(&tenant.node.value)) {
                    Some(tenant) if self.get("headers").is_none() => {
                        let headers = Edit::Entry("headers".to_owned(), format!("{{X-Scope-OrgID: {tenant}}}"));
                        if let Some(ops) = &mut ops {
                            ops.push(self.op("tenant_id", headers));
                        }
                    }
                    Some(_) => ops = None,
                    None => {}
                }
                let mut how = ", its endpoint to /otlp".to_owned();
                if !gone.is_empty() {
                    how.push_str(&format!(", without {}, which Loki decides", gone.join(" and ")));
                }
                let ops = ops.filter(|_| self.get("tenant").is_none());
                Some(self.renamed(
                    "otlp_http",
                    &how,
                    "Loki takes OTLP (since 3.0), and the exporter is gone (since 0.131)",
                    ops,
                ))
            }
            (kind, name) => {
                if let Some((.., reason)) = GONE.iter().find(|(of, gone, _)| (*of, *gone) == (kind, name)) {
                    return Some(self.gone(reason));
                }
                let Lookup::Alias(canonical) = catalog.lookup(kind, name) else { return None };
                Some(self.renamed(canonical, "", "the name is deprecated", Some(Vec::new())))
            }
        }
    }

    /// Another type, where it is declared and in pipelines. `ops` are other edits, `None` if they cannot be made.
    fn renamed(&self, to: &str, how: &str, reason: &str, ops: Option<Vec<Op>>) -> Change {
        let id = &self.entry.key;
        let is_free =
            |new: &String| self.root.get(self.kind.section()).is_none_or(|section| section.get(new).is_none());
        let new = id.replacen(self.type_name, to, 1);
        let other =
            if id.contains('/') { format!("{new}-{}", self.type_name) } else { format!("{to}/{}", self.type_name) };
        let new = [new, other].into_iter().find(is_free);
        let references = self.references();
        let shown = new.clone().unwrap_or_else(|| to.to_owned());
        let count = references.as_ref().map_or(0, Vec::len);
        let named = if count > 0 { format!(", also where it is named ({count})") } else { String::new() };
        let said = format!("{} -> {}.{shown}{how}{named}: {reason}", self.path(), self.kind.section());
        let ops = || {
            let (mut ops, new) = (ops?, new?);
            let references = references?.into_iter();
            ops.extend(references.map(|path| Op { path, edit: Edit::Scalar(emit::text(&new)) }));
            ops.push(Op::new(&[self.kind.section(), id], Edit::Key(new)));
            Some(ops)
        };
        Change { place: self.entry.key_place, said, ops: ops().unwrap_or_default() }
    }

    fn gone(&self, reason: &str) -> Change {
        let references = self.references();
        let count = references.as_ref().map_or(0, Vec::len);
        let named = if count > 0 { format!(", also where it is named ({count})") } else { String::new() };
        let said = format!("{} -> nothing{named}: {reason}", self.path());
        let ops = references.map(|references| {
            let own = Op::new(&[self.kind.section(), &self.entry.key], Edit::Gone);
            references.into_iter().map(|path| Op { path, edit: Edit::Gone }).chain([own]).collect()
        });
        Change { place: self.entry.key_place, said, ops: ops.unwrap_or_default() }
    }

    /// Where pipelines and `service.extensions` name it; `None` if one of them is no list.
    fn references(&self) -> Option<Vec<Path>> {
        let mut all = Vec::new();
        let service = self.root.get("service");
        let mut add = |list: Option<&Node>, path: &[&str]| {
            let Some(list) = list.filter(|list| !list.is_null()) else { return Some(()) };
            let Value::List(items) = &list.value else { return None };
            for (index, item) in items.iter().enumerate() {
                if item.as_text().is_some_and(|id| id.trim() == self.entry.key.trim()) {
                    let path = path.iter().map(|key| (*key).to_owned());
                    all.push(path.chain([index.to_string()]).collect());
                }
            }
            Some(())
        };
        if self.kind == Kind::Extension {
            add(service.and_then(|service| service.get("extensions")), &["service", "extensions"])?;
            return Some(all);
        }
        let lists = match self.kind {
            Kind::Connector => &["receivers", "exporters"][..],
            _ => &[self.kind.section()][..],
        };
        let pipelines = service.and_then(|service| service.get("pipelines")).map(Node::entries).unwrap_or_default();
        for pipeline in pipelines {
            for key in lists {
                add(pipeline.node.get(key), &["service", "pipelines", &pipeline.key, key])?;
            }
        }
        Some(all)
    }
}

/// Lists of ids that are written as text.
fn lists(root: &Node) -> Vec<Change> {
    let service = root.get("service");
    let pipelines = service.and_then(|service| service.get("pipelines")).map(Node::entries).unwrap_or_default();
    let lists = pipelines.iter().flat_map(|pipeline| pipeline.node.entries().iter().map(move |list| (pipeline, list)));
    let change = |(pipeline, list): (&Entry, &Entry)| {
        let Value::Text(text) = &list.node.value else { return None };
        let items: Vec<_> = text.split(',').map(|id| emit::text(id.trim())).collect();
        let path = ["service", "pipelines", &pipeline.key, &list.key];
        Some(Change {
            place: list.key_place,
            said: format!("{} -> a list: text is refused", path.join(".")),
            ops: vec![Op::new(&path, Edit::Scalar(format!("[{}]", items.join(", "))))],
        })
    };
    lists.filter_map(change).collect()
}

/// A scalar between braces, or a list of scalars.
fn in_braces(value: &Value) -> String {
    match value {
        Value::List(items) => {
            format!("[{}]", items.iter().map(|item| in_braces(&item.value)).collect::<Vec<_>>().join(", "))
        }
        Value::Text(text) => format!("'{}'", text.replace('\'', "''")),
        value => emit::scalar(value),
    }
}

/// `service.telemetry.metrics.address`, which became a reader.
fn metrics_address(root: &Node) -> Option<Change> {
    let path = ["service", "telemetry", "metrics", "address"];
    let metrics = root.get("service")?.get("telemetry")?.get("metrics")?;
    let entry = metrics.entries().iter().find(|entry| entry.key == "address")?;
    let change = |said: &str, edit: Option<Edit>| Change {
        place: entry.key_place,
        said: format!("service.telemetry.metrics.address -> {said}"),
        ops: edit.map(|edit| Op::new(&path, edit)).into_iter().collect(),
    };
    if metrics.get("readers").is_some() {
        return Some(change("nothing: readers decide (since 0.123)", Some(Edit::Gone)));
    }
    let reader = entry.node.as_text().and_then(|address| {
        let (host, port) = address.rsplit_once(':')?;
        let port: u16 = port.parse().ok()?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let host = in_braces(&Value::Text(if host.is_empty() { "0.0.0.0" } else { host }.to_owned()));
        Some(format!("[{{pull: {{exporter: {{prometheus: {{host: {host}, port: {port}}}}}}}}}]"))
    });
    let edit = reader.map(|reader| Edit::Entry("readers".to_owned(), reader));
    Some(change("readers: the key has no effect (since 0.123)", edit))
}
