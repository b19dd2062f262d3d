//! The shape of a configuration: the components it declares, and how its pipelines connect them. All rules about ids
//! and references are checked here, so every reference in a `Layout` without errors leads to a component.

use std::collections::{HashMap, HashSet};

use super::contrib;
use super::id::{ComponentId, PipelineId};
use super::nearest::{nearest, suggestion};
use super::problems::{Problem, Problems};
use super::section::Section;
use super::telemetry::Telemetry;
use super::tree::{Entry, Node, Place, Value, quoted};

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

    fn name(self) -> &'static str {
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

    /// The kinds that a reference to this kind may name. A connector ends one pipeline and starts another.
    fn alternatives(self) -> &'static [Kind] {
        match self {
            Kind::Receiver => &[Kind::Receiver, Kind::Connector],
            Kind::Exporter => &[Kind::Exporter, Kind::Connector],
            Kind::Processor => &[Kind::Processor],
            Kind::Connector => &[Kind::Connector],
            Kind::Extension => &[Kind::Extension],
        }
    }
}

/// The known components. The registry implements it.
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
    /// Removed from the Go collector; the message names the replacement.
    Deprecated(&'static str),
    Unknown,
}

#[derive(Debug, Default)]
pub struct Layout<'a> {
    components: [Vec<Declared<'a>>; 5],
    ids: [HashSet<ComponentId>; 5],
    pub service: Service,
}

#[derive(Clone, Debug)]
pub struct Declared<'a> {
    pub(crate) kind: Kind,
    pub(crate) id: ComponentId,
    /// The canonical type; empty if the type is unknown, which has been reported.
    pub canonical: &'static str,
    pub(crate) node: &'a Node,
    /// The place of its id.
    place: Place,
    /// Whether a pipeline or `service.extensions` names it. Errors in an unused component become warnings.
    pub(crate) is_used: bool,
}

impl<'a> Declared<'a> {
    /// The section with its settings.
    pub fn section(&self, problems: &'a Problems) -> Section<'a> {
        Section::opened_at(self.place, self.node, &self.path(), problems)
    }

    /// `exporters.otlp_grpc/edge`
    pub(crate) fn path(&self) -> String {
        format!("{}.{}", self.kind.section(), self.id)
    }
}

#[derive(Debug, Default)]
pub struct Service {
    pub(crate) extensions: Vec<Reference>,
    pub(crate) pipelines: Vec<Pipeline>,
    pub telemetry: Telemetry,
}

#[derive(Clone, Debug)]
pub(crate) struct Pipeline {
    pub(crate) id: PipelineId,
    pub(crate) place: Place,
    /// Receivers, and connectors that feed this pipeline.
    pub(crate) receivers: Vec<Reference>,
    pub(crate) processors: Vec<Reference>,
    /// Exporters, and connectors that this pipeline feeds.
    pub(crate) exporters: Vec<Reference>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) id: ComponentId,
    pub(crate) place: Place,
}

impl<'a> Layout<'a> {
    pub fn declared(&self, kind: Kind) -> &[Declared<'a>] {
        self.components.get(kind as usize).map_or(&[], Vec::as_slice)
    }

    fn has(&self, kind: Kind, id: &ComponentId) -> bool {
        self.ids.get(kind as usize).is_some_and(|ids| ids.contains(id))
    }

    /// Reads the whole config. A null root could not be loaded, which has been reported.
    pub fn read(root: &'a Node, catalog: &dyn Catalog, problems: &'a Problems) -> Self {
        if root.is_null() {
            return Layout::default();
        }
        if root.entries().is_empty() {
            let help = "it wants receivers, exporters, and service with pipelines that join them";
            problems.push(Problem::error(None, "the config is empty").help(help.to_owned()));
            return Layout::default();
        }
        if exceeds(root, problems) {
            return Layout::default();
        }
        let top = Section::opened_at(Place::NOWHERE, root, "", problems);
        // A misspelt section is an unknown key, and is read as the intended one.
        let sections = || Kind::ALL.map(Kind::section).into_iter().chain(["service"]);
        let misspelt = |section: &str| {
            let is_unknown = |entry: &&Entry| sections().all(|known| known != entry.key);
            let mut unknown = root.entries().iter().filter(is_unknown);
            unknown.find(|entry| root.get(section).is_none() && nearest(&entry.key, sections()) == Some(section))
        };
        let open = |section: &str| match misspelt(section) {
            // `has` makes the intended key known, so that the report of the misspelt one suggests it.
            Some(Entry { key, key_place, node }) if !top.has(section) => {
                Section::opened_at(*key_place, node, key, problems)
            }
            _ => top.subsection(section),
        };
        let used = named(root.get("service").or_else(|| misspelt("service").map(|entry| &entry.node)));
        let components = Kind::ALL.map(|kind| declared(kind, &open(kind.section()), catalog, &used));
        for kind in [Kind::Receiver, Kind::Exporter] {
            if root.get(kind.section()).is_none_or(Node::is_empty) && misspelt(kind.section()).is_none() {
                let message = format!("no {} configuration specified in config", kind.name());
                let wanted = catalog.names(kind).into_iter().chain([kind.section()]);
                problems.push(Problem::error(top.place(kind.section()), message).wanting(wanted));
            }
        }
        let service = open("service");
        let service = Service {
            extensions: references(&service, "extensions"),
            pipelines: pipelines(&service),
            telemetry: Telemetry::decode(&service.subsection("telemetry")),
        };
        let ids = components.each_ref().map(|declared| declared.iter().map(|declared| declared.id.clone()).collect());
        let layout = Layout { components, ids, service };
        layout.check(catalog, problems);
        layout
    }

    fn check(&self, catalog: &dyn Catalog, problems: &Problems) {
        for connector in self.declared(Kind::Connector) {
            for kind in [Kind::Receiver, Kind::Exporter].into_iter().filter(|kind| self.has(*kind, &connector.id)) {
                let message = format!("ambiguous id: it names {} too", kind.with_article());
                let help = format!("rename the connector, to \"{}/connector\" for example", connector.id);
                problems.push(Problem::error(connector.place, message).at(connector.path()).help(help));
            }
        }
        let check = |path: &str, list: &[Reference], kind: Kind| {
            let known = |id| kind.alternatives().iter().any(|kind| self.has(*kind, id));
            for Reference { id, place } in list.iter().filter(|reference| !known(&reference.id)) {
                let message = format!("no {} \"{id}\" is configured", kind.name());
                let help = (!problems.are_enough()).then(|| self.where_to_look(id, kind, catalog));
                let sections = kind.alternatives().iter().map(|kind| kind.section().to_owned());
                let wanted = sections.chain([id.to_string()]);
                problems.push(Problem::error(*place, message).at(path).help(help).wanting(wanted));
            }
        };
        check("service.extensions", &self.service.extensions, Kind::Extension);
        for pipeline in &self.service.pipelines {
            let path = format!("service.pipelines.{}", pipeline.id);
            check(&path, &pipeline.receivers, Kind::Receiver);
            check(&path, &pipeline.processors, Kind::Processor);
            check(&path, &pipeline.exporters, Kind::Exporter);
            let mut known = HashSet::new();
            for reference in &pipeline.processors {
                if !known.insert(&reference.id) {
                    let message = format!("lists processor \"{}\" multiple times", reference.id);
                    problems.push(Problem::error(reference.place, message).at(path.as_str()));
                }
            }
        }
    }

    fn where_to_look(&self, id: &ComponentId, kind: Kind, catalog: &dyn Catalog) -> String {
        if let Some(other) = Kind::ALL.into_iter().find(|other| self.has(*other, id)) {
            return format!("\"{id}\" is defined under {}", other.section());
        }
        let (name, section) = (id.to_string(), kind.section());
        let defined = kind.alternatives().iter().flat_map(|kind| self.declared(*kind));
        let defined: Vec<String> = defined.map(|declared| declared.id.to_string()).collect();
        let exists = matches!(catalog.lookup(kind, id.type_name()), Lookup::Known(_) | Lookup::Alias(_));
        if exists && nearest(&name, defined.iter().map(String::as_str)).is_none() {
            return format!("define it under {section}, with a line \"{id}:\"");
        }
        suggestion(&name, defined.iter().map(String::as_str), &format!("the {section} here are"))
            .unwrap_or_else(|| format!("nothing is defined under {section}"))
    }
}

/// The maximum of components of a kind, of pipelines, and of top-level keys. Some checks compare each with all others.
const MOST: usize = 1000;

/// Reports maps that exceed `MOST`. Such a config is not read any further.
fn exceeds(root: &Node, problems: &Problems) -> bool {
    let pipelines = root.get("service").and_then(|service| service.get("pipelines"));
    let kinds = Kind::ALL.map(|kind| (kind.section(), root.get(kind.section())));
    let all = kinds.into_iter().chain([("pipelines", pipelines), ("keys", Some(root))]);
    let mut exceeds = false;
    for (name, node) in all {
        let found = node.map_or(0, |node| node.entries().len());
        if found > MOST {
            let place = node.map(|node| node.place);
            let message = format!("a config has at most {MOST} {name}, and this one has {found}");
            problems.push(Problem::error(place, message));
            exceeds = true;
        }
    }
    exceeds
}

/// The ids that pipelines and `service.extensions` name, each with the key of its list.
fn named(service: Option<&Node>) -> HashSet<(&'static str, String)> {
    fn texts(list: &Node) -> Vec<String> {
        match (&list.value, list.as_text()) {
            (Value::List(items), _) => items.iter().filter_map(Node::as_text).map(|id| id.trim().to_owned()).collect(),
            (_, Some(text)) => text.split(',').map(|id| id.trim().to_owned()).collect(),
            _ => Vec::new(),
        }
    }
    let below = |node: Option<&Node>, key: &'static str| {
        let ids = node.and_then(|node| node.get(key)).map(texts).unwrap_or_default();
        ids.into_iter().map(move |id| (key, id)).collect::<Vec<_>>()
    };
    let pipelines = service.and_then(|service| service.get("pipelines")).map(Node::entries).unwrap_or_default();
    let keys = ["receivers", "processors", "exporters"];
    let of_pipelines = pipelines.iter().flat_map(|entry| keys.map(|key| below(Some(&entry.node), key))).flatten();
    of_pipelines.chain(below(service, "extensions")).collect()
}

fn declared<'a>(
    kind: Kind,
    section: &Section<'a>,
    catalog: &dyn Catalog,
    named: &HashSet<(&'static str, String)>,
) -> Vec<Declared<'a>> {
    let keys = if kind == Kind::Connector { &["receivers", "exporters"][..] } else { &[kind.section()][..] };
    // While no pipeline names anything, every component counts as used.
    let is_known = named.iter().any(|(key, _)| *key != "extensions");
    let is_named = |id: &ComponentId| keys.iter().any(|key| named.contains(&(*key, id.to_string())));
    let (mut list, mut places) = (Vec::new(), HashMap::new());
    for entry in section.entries() {
        let error = |message: String| Problem::error(entry.key_place, message).at(section.path());
        let id = match ComponentId::parse(&entry.key) {
            Ok(id) => id,
            Err(message) => {
                let help = "an id is type or type/name; a type has letters, digits and _";
                section.problems().push(error(message).help(help.to_owned()).straying(entry));
                continue;
            }
        };
        if let Some(first) = places.get(&id) {
            let problem = error(format!("duplicate id \"{id}\""));
            section.problems().push(problem.related(*first, "first defined here"));
            continue;
        }
        places.insert(id.clone(), entry.key_place);
        let (canonical, problem) = match catalog.lookup(kind, id.type_name()) {
            Lookup::Known(canonical) => (canonical, None),
            Lookup::Alias(canonical) => {
                let message = format!("\"{}\" alias is deprecated; use \"{canonical}\" instead", id.type_name());
                (canonical, Some(Problem::warning(entry.key_place, message).at(section.path())))
            }
            Lookup::Deprecated(message) => ("", Some(error(message.to_owned()))),
            Lookup::Unknown => {
                let (message, help) = unknown_type(kind, id.type_name(), catalog);
                ("", Some(error(message).help(help).straying(entry)))
            }
        };
        // A key of the config among the components is an indentation error, not an unused component.
        let is_misplaced = canonical.is_empty() && PLACED.contains(&id.type_name());
        let is_used = !is_known || is_named(&id) || is_misplaced;
        section
            .problems()
            .leniently(!is_used, || problem.into_iter().for_each(|problem| section.problems().push(problem)));
        list.push(Declared { kind, id, canonical, node: &entry.node, place: entry.key_place, is_used });
    }
    list
}

fn unknown_type(kind: Kind, type_name: &str, catalog: &dyn Catalog) -> (String, Option<String>) {
    let (names, name) = (catalog.names(kind), quoted(type_name));
    let all = format!("the {} there are", kind.section());
    if let Some(other) = Kind::ALL.into_iter().find(|other| catalog.names(*other).contains(&type_name)) {
        let help = format!("{type_name} is declared under {}", other.section());
        return (format!("{name} is not {}, it is {}", kind.with_article(), other.with_article()), Some(help));
    }
    if let Some((message, help)) = contrib::absent(kind.name(), type_name) {
        return (message, Some(help));
    }
    (format!("unknown {} type {name}", kind.name()), suggestion(type_name, names, &all))
}

fn pipelines(service: &Section) -> Vec<Pipeline> {
    let section = service.subsection("pipelines");
    let entries = section.entries();
    if entries.is_empty() && section.is_map() {
        service.problem_with_help(
            "pipelines",
            "service must have at least one pipeline",
            "write pipelines: {logs: {receivers: [otlp], exporters: [debug]}}",
        );
    }
    let (mut list, mut known) = (Vec::new(), HashSet::new());
    for entry in entries {
        let id = PipelineId::parse(&entry.key);
        if let Err(message) = id {
            let help = "a pipeline is called logs, metrics or traces, or logs/NAME".to_owned();
            let problem = Problem::error(entry.key_place, message).at(section.path()).help(help);
            section.problems().push(problem.straying(entry));
            continue;
        }
        let inner = section.subsection(&entry.key);
        let [receivers, processors, exporters] =
            ["receivers", "processors", "exporters"].map(|key| references(&inner, key));
        for (key, one) in [("receivers", "receiver"), ("exporters", "exporter")] {
            if inner.node(key).is_none_or(Node::is_empty) {
                let message = format!("must have at least one {one}");
                section.problems().push(Problem::error(inner.place(key), message).at(inner.path()).wanting([key]));
            }
        }
        match id {
            Ok(id) if !known.insert(id.clone()) => {
                section.problem_at(entry.key_place, "", format!("duplicate pipeline \"{id}\""), None);
            }
            Ok(id) => list.push(Pipeline { id, place: entry.key_place, receivers, processors, exporters }),
            Err(_) => {}
        }
    }
    list
}

fn references(section: &Section, key: &str) -> Vec<Reference> {
    let items = section.items(key).unwrap_or_default();
    if section.is_text(key) {
        let ids: Vec<_> = items.iter().map(|(id, _)| id.trim()).collect();
        section.warning(key, format!("it is a list, which the Go collector insists on: [{}]", ids.join(", ")));
    }
    let reference = |(text, place): (String, Place)| match ComponentId::parse(&text) {
        Ok(id) => Some(Reference { id, place }),
        Err(message) => {
            section.problem_at(place, key, message, None);
            None
        }
    };
    items.into_iter().filter_map(reference).collect()
}

/// Keys of other places in a config. Among components they are indented wrongly.
const PLACED: [&str; 9] = [
    "receivers",
    "processors",
    "exporters",
    "connectors",
    "extensions",
    "service",
    "pipelines",
    "protocols",
    "telemetry",
];
