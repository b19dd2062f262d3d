//! The shape of a configuration: which components it declares and how its pipelines connect them. Every rule about ids
//! and references is checked here, so that a `Layout` read without errors only names what is there.

use super::id::{ComponentId, PipelineId};
use super::nearest::{nearest, suggestion};
use super::problems::{Problem, Problems};
use super::section::Section;
use super::telemetry::Telemetry;
use super::tree::{Node, Place, Value, quoted};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Receiver,
    Processor,
    Exporter,
    Connector,
    Extension,
}

impl Kind {
    pub const ALL: [Kind; 5] = [Kind::Receiver, Kind::Processor, Kind::Exporter, Kind::Connector, Kind::Extension];

    pub fn name(self) -> &'static str {
        self.section().trim_end_matches('s')
    }

    fn with_article(self) -> String {
        let article = if self.name().starts_with('e') { "an" } else { "a" };
        format!("{article} {}", self.name())
    }

    /// The top-level key it is declared under.
    pub fn section(self) -> &'static str {
        match self {
            Kind::Receiver => "receivers",
            Kind::Processor => "processors",
            Kind::Exporter => "exporters",
            Kind::Connector => "connectors",
            Kind::Extension => "extensions",
        }
    }
}

/// The components there are: the registry's answer to a type name.
pub trait Catalog {
    fn lookup(&self, kind: Kind, type_name: &str) -> Lookup;
    fn names(&self, kind: Kind) -> Vec<&'static str>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The canonical type.
    Known(&'static str),
    /// An older name, and the canonical type it stands for.
    Alias(&'static str),
    /// It was taken away; the message says what to use.
    Deprecated(&'static str),
    Unknown,
}

#[derive(Debug, Default)]
pub struct Layout<'a> {
    pub receivers: Vec<Declared<'a>>,
    pub processors: Vec<Declared<'a>>,
    pub exporters: Vec<Declared<'a>>,
    pub connectors: Vec<Declared<'a>>,
    pub extensions: Vec<Declared<'a>>,
    pub service: Service,
}

#[derive(Clone, Debug)]
pub struct Declared<'a> {
    pub kind: Kind,
    pub id: ComponentId,
    /// The type it is built by, aliases resolved; empty when there is no such type, which has been reported.
    pub canonical: &'static str,
    pub node: &'a Node,
    /// That of its id.
    pub place: Place,
}

impl<'a> Declared<'a> {
    /// Its settings, to be decoded.
    pub fn section(&self, problems: &'a Problems) -> Section<'a> {
        Section::opened_at(self.place, self.node, &self.path(), problems)
    }

    /// `exporters.otlp_grpc/edge`
    pub fn path(&self) -> String {
        format!("{}.{}", self.kind.section(), self.id)
    }
}

#[derive(Debug, Default)]
pub struct Service {
    pub extensions: Vec<Reference>,
    pub pipelines: Vec<Pipeline>,
    pub telemetry: Telemetry,
}

#[derive(Clone, Debug)]
pub struct Pipeline {
    pub id: PipelineId,
    pub place: Place,
    /// Receivers, and connectors that feed it.
    pub receivers: Vec<Reference>,
    pub processors: Vec<Reference>,
    /// Exporters, and connectors that it feeds.
    pub exporters: Vec<Reference>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    pub id: ComponentId,
    pub place: Place,
}

impl<'a> Layout<'a> {
    pub fn declared(&self, kind: Kind) -> &[Declared<'a>] {
        match kind {
            Kind::Receiver => &self.receivers,
            Kind::Processor => &self.processors,
            Kind::Exporter => &self.exporters,
            Kind::Connector => &self.connectors,
            Kind::Extension => &self.extensions,
        }
    }

    fn has(&self, kind: Kind, id: &ComponentId) -> bool {
        self.declared(kind).iter().any(|declared| declared.id == *id)
    }

    /// Reads the whole of it. A null root is one that could not be loaded, about which all has been said.
    pub fn read(root: &'a Node, catalog: &dyn Catalog, problems: &'a Problems) -> Self {
        match root.entries() {
            _ if root.is_null() => return Layout::default(),
            [] => {
                let help = "it wants receivers, exporters, and service with pipelines that join them";
                problems.push(Problem::error(None, "the config is empty").help(help.to_owned()));
                return Layout::default();
            }
            _ => {}
        }
        let top = Section::opened_at(Place::NOWHERE, root, "", problems);
        let [receivers, processors, exporters, connectors, extensions] =
            Kind::ALL.map(|kind| declared(kind, &top.subsection(kind.section()), catalog));
        let mut layout =
            Layout { receivers, processors, exporters, connectors, extensions, service: Service::default() };
        for kind in [Kind::Receiver, Kind::Exporter] {
            if root.get(kind.section()).is_none_or(|node| node.is_null() || node.value == Value::Map(Vec::new())) {
                let message = format!("no {} configuration specified in config", kind.name());
                problems.push(Problem::error(top.place(kind.section()), message));
            }
        }
        let service = top.subsection("service");
        layout.service = Service {
            extensions: references(&service, "extensions"),
            pipelines: pipelines(&service),
            telemetry: Telemetry::decode(&service.subsection("telemetry")),
        };
        layout.check(catalog, problems);
        layout
    }

    fn check(&self, catalog: &dyn Catalog, problems: &Problems) {
        for connector in &self.connectors {
            for kind in [Kind::Receiver, Kind::Exporter] {
                if self.has(kind, &connector.id) {
                    let message = format!("ambiguous id: it names {} too", kind.with_article());
                    let help = format!("rename the connector, to \"{}/connector\" for example", connector.id);
                    problems.push(Problem::error(connector.place, message).at(connector.path()).help(help));
                }
            }
        }
        let check = |path: &str, list: &[Reference], kinds: &[Kind]| {
            let missing = list.iter().filter(|reference| !kinds.iter().any(|kind| self.has(*kind, &reference.id)));
            for reference in missing {
                let kind = kinds.first().copied().unwrap_or(Kind::Extension);
                let message = format!("no {} \"{}\" is configured", kind.name(), reference.id);
                let help = self.where_to_look(&reference.id, kinds, catalog);
                problems.push(Problem::error(reference.place, message).at(path).help(help));
            }
        };
        check("service.extensions", &self.service.extensions, &[Kind::Extension]);
        for pipeline in &self.service.pipelines {
            let path = format!("service.pipelines.{}", pipeline.id);
            check(&path, &pipeline.receivers, &[Kind::Receiver, Kind::Connector]);
            check(&path, &pipeline.processors, &[Kind::Processor]);
            check(&path, &pipeline.exporters, &[Kind::Exporter, Kind::Connector]);
            for (index, reference) in pipeline.processors.iter().enumerate() {
                if pipeline.processors.iter().take(index).any(|earlier| earlier.id == reference.id) {
                    let message = format!("lists processor \"{}\" multiple times", reference.id);
                    problems.push(Problem::error(reference.place, message).at(path.as_str()));
                }
            }
        }
    }

    fn where_to_look(&self, id: &ComponentId, kinds: &[Kind], catalog: &dyn Catalog) -> Option<String> {
        let kind = kinds.first()?;
        if let Some(other) = Kind::ALL.into_iter().find(|other| self.has(*other, id)) {
            return Some(format!("\"{id}\" is defined under {}", other.section()));
        }
        let defined = kinds.iter().flat_map(|kind| self.declared(*kind)).map(|declared| declared.id.to_string());
        let defined: Vec<String> = defined.collect();
        let defined = || defined.iter().map(String::as_str);
        match catalog.lookup(*kind, id.type_name()) {
            Lookup::Known(_) | Lookup::Alias(_) if nearest(&id.to_string(), defined()).is_none() => {
                Some(format!("define it under {}, with a line \"{id}:\"", kind.section()))
            }
            _ => suggestion(&id.to_string(), defined(), &format!("the {} here are", kind.section()))
                .or_else(|| Some(format!("nothing is defined under {}", kind.section()))),
        }
    }
}

fn declared<'a>(kind: Kind, section: &Section<'a>, catalog: &dyn Catalog) -> Vec<Declared<'a>> {
    let mut list: Vec<Declared> = Vec::new();
    for entry in section.claim() {
        let fault = |message: String, help: Option<String>| {
            section.problems().push(Problem::error(entry.key_place, message).at(section.path()).help(help));
        };
        let id = match ComponentId::parse(&entry.key) {
            Ok(id) => id,
            Err(message) => {
                fault(message, Some("an id is type or type/name; a type has letters, digits and _".into()));
                continue;
            }
        };
        if let Some(first) = list.iter().find(|known| known.id == id) {
            let problem = Problem::error(entry.key_place, format!("duplicate id \"{id}\"")).at(section.path());
            section.problems().push(problem.related(Some((first.place, "first defined here".into()))));
            continue;
        }
        let canonical = match catalog.lookup(kind, id.type_name()) {
            Lookup::Known(canonical) => canonical,
            Lookup::Alias(canonical) => {
                let message = format!("\"{}\" alias is deprecated; use \"{canonical}\" instead", id.type_name());
                section.problems().push(Problem::warning(entry.key_place, message).at(section.path()));
                canonical
            }
            Lookup::Deprecated(message) => {
                fault(message.to_owned(), None);
                ""
            }
            Lookup::Unknown => {
                let (message, help) = unknown_type(kind, id.type_name(), catalog);
                fault(message, help);
                ""
            }
        };
        list.push(Declared { kind, id, canonical, node: &entry.node, place: entry.key_place });
    }
    list
}

fn unknown_type(kind: Kind, type_name: &str, catalog: &dyn Catalog) -> (String, Option<String>) {
    let names = catalog.names(kind);
    let all = format!("the {} there are: {}", kind.section(), names.join(", "));
    if let Some(other) = Kind::ALL.into_iter().find(|other| catalog.names(*other).contains(&type_name)) {
        let help = format!("{type_name} is declared under {}", other.section());
        return (
            format!("{} is not {}, it is {}", quoted(type_name), kind.with_article(), other.with_article()),
            Some(help),
        );
    }
    if UNSUPPORTED.split(' ').any(|name| name == type_name) {
        return (format!("the {} {} of the Go collector is not supported", kind.name(), quoted(type_name)), Some(all));
    }
    let help = suggestion(type_name, names.iter().copied(), &format!("the {} there are", kind.section()));
    (format!("unknown {} type {}", kind.name(), quoted(type_name)), help)
}

fn pipelines(service: &Section) -> Vec<Pipeline> {
    let section = service.subsection("pipelines");
    let entries = section.claim();
    if entries.is_empty() && section.is_map() {
        service.problem_with_help(
            "pipelines",
            "service must have at least one pipeline",
            "write pipelines: {logs: {receivers: [otlp], exporters: [debug]}}",
        );
    }
    let mut list: Vec<Pipeline> = Vec::new();
    for entry in entries {
        let inner = section.subsection(&entry.key);
        let [receivers, processors, exporters] =
            ["receivers", "processors", "exporters"].map(|key| references(&inner, key));
        for (key, one) in [("receivers", "receiver"), ("exporters", "exporter")] {
            let none = inner.node(key).is_none_or(|node| node.is_null() || node.value == Value::List(Vec::new()));
            if none {
                let message = format!("must have at least one {one}");
                section.problems().push(Problem::error(inner.place(key), message).at(inner.path()));
            }
        }
        match PipelineId::parse(&entry.key) {
            Ok(id) if list.iter().any(|known| known.id == id) => {
                section.problem_at(entry.key_place, "", format!("duplicate pipeline \"{id}\""), None);
            }
            Ok(id) => list.push(Pipeline { id, place: entry.key_place, receivers, processors, exporters }),
            Err(message) => {
                let help = "a pipeline is called logs, metrics or traces, or logs/NAME";
                section.problem_at(entry.key_place, "", message, Some(help.into()));
            }
        }
    }
    list
}

fn references(section: &Section, key: &str) -> Vec<Reference> {
    let items = section.items(key).unwrap_or_default();
    let reference = |(text, place): (String, Place)| match ComponentId::parse(&text) {
        Ok(id) => Some(Reference { id, place }),
        Err(message) => {
            section.problem_at(place, key, message, None);
            None
        }
    };
    items.into_iter().filter_map(reference).collect()
}

/// The better known components that people may bring along: named, so that they see it is not a typing error.
const UNSUPPORTED: &str = "\
    awscloudwatchlogs awsxray azuremonitor cassandra clickhouse count cumulativetodelta datadog \
    deltatocumulative docker_stats elasticsearch failover filelog file_log fluentforward geoip \
    googlecloud groupbyattrs groupbytrace headers_setter httpcheck influxdb interval jaeger journald \
    k8s_cluster k8s_observer k8sattributes k8s_attributes kafka kubeletstats loadbalancing \
    load_balancing logdedup loki metricsgeneration metricstransform mysql nginx oauth2client oidc opamp \
    opencensus postgresql pprof prometheus prometheusremotewrite prometheus_remote_write redis remotetap \
    routing schema servicegraph signalfx sigv4auth span spanmetrics span_metrics splunk_hec sqlquery \
    statsd sumologic syslog tcplog udplog windowseventlog zipkin zpages";
