//! The meaning of a config: every component decoded and every reference resolved, or all problems at once.

mod outside;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::config::section::Section;
use crate::config::telemetry::{Push, Telemetry};
use crate::config::{ComponentId, Kind, Layout, Loaded, Node, Pipeline, Place, Problem, Problems, Reference, Value};
use crate::connectors::ConnectorSettings;
use crate::exporters::ExporterSettings;
use crate::exporters::settings::QueueSettings;
use crate::extensions::{ExtensionSettings, LocalSocket, Named, Purpose};
use crate::network::auth::Authenticator;
use crate::order::Ordered;
use crate::processors::{ProcessorSettings, Role};
use crate::receivers::ReceiverSettings;
use crate::sending::storage::Storage;
use crate::telemetry::Signal;

use super::registry::{self, Decode, ROWS, Registry};

/// The effect of a reload, by config paths.
#[derive(Debug, Default, PartialEq)]
pub struct Changes {
    pub kept: usize,
    pub changed: Vec<String>,
    pub added: Vec<String>,
    pub removed: Vec<String>,
}

impl Changes {
    pub fn between(before: &Written, now: &Written) -> Changes {
        let removed = before.keys().filter(|path| !now.contains_key(*path)).cloned().collect();
        let mut changes = Changes { removed, ..Changes::default() };
        for (path, written) in now {
            match before.get(path) {
                None => changes.added.push(path.clone()),
                Some(known) if known == written => changes.kept += 1,
                Some(_) => changes.changed.push(path.clone()),
            }
        }
        changes
    }
}

/// The config text by path: each component with its authenticators, each pipeline, and the rest of `service`. A reload
/// compares it.
pub(crate) type Written = BTreeMap<String, Node>;

fn written_for_service(root: &Node) -> Written {
    let mut written = Written::new();
    for entry in root.get("service").map(Node::entries).unwrap_or_default() {
        let path = format!("service.{}", entry.key);
        if entry.key != "pipelines" {
            written.insert(path, entry.node.without_places());
            continue;
        }
        let pipelines = entry.node.entries().iter();
        written.extend(pipelines.map(|entry| (format!("{path}.{}", entry.key), entry.node.without_places())));
    }
    written
}

/// Receivers or exporters of pipelines, by signal.
type Ends<'a> = HashSet<(Signal, &'a ComponentId)>;

type Declared<T> = HashMap<ComponentId, Arc<T>>;
pub(super) type Extensions = Declared<dyn ExtensionSettings>;

/// All declared components by kind, used or not.
#[derive(Default)]
struct Components {
    ids: HashSet<(Kind, ComponentId)>,
    receivers: Declared<dyn ReceiverSettings>,
    processors: Declared<dyn ProcessorSettings>,
    exporters: Declared<dyn ExporterSettings>,
    connectors: Declared<dyn ConnectorSettings>,
    extensions: Extensions,
}

impl Components {
    /// The extensions that each component refers to.
    fn named(&self) -> impl Iterator<Item = ((Kind, &ComponentId), Vec<Named>)> {
        let receivers = self.receivers.iter().map(|(id, settings)| ((Kind::Receiver, id), settings.named()));
        let exporters = self.exporters.iter().map(|(id, settings)| ((Kind::Exporter, id), settings.named()));
        let extensions = self.extensions.iter().map(|(id, settings)| ((Kind::Extension, id), settings.named()));
        receivers.chain(exporters).chain(extensions)
    }
}

/// A config without errors, ready to be built.
pub struct Plan {
    components: Components,
    pub written: Written,
    pub(crate) pipelines: Vec<Pipeline>,
    extensions: Vec<Reference>,
    pub telemetry: Telemetry,
    /// Where the collector's own telemetry is pushed to.
    pub(crate) pushes: Vec<(Push, Arc<dyn ExporterSettings>)>,
}

/// The exporters of the collector's own telemetry.
fn pushes(telemetry: &Telemetry, problems: &Problems) -> Vec<(Push, Arc<dyn ExporterSettings>)> {
    let exporter = |push: &Push| {
        // Its keys are not those of the config: only what is wrong with them is told.
        let found = Problems::default();
        let settings = registry::own_exporter(Section::of(&push.exporter, &push.path, &found), push.is_http);
        found.sorted().into_iter().for_each(|problem| problems.push(problem));
        (push.clone(), settings)
    };
    telemetry.pushes.iter().map(exporter).collect()
}

impl Plan {
    /// Decodes everything that is declared, used or not. Problems are added to `loaded`; with errors among them the
    /// plan must not be built.
    pub fn read(loaded: &Loaded) -> Plan {
        let problems = &loaded.problems;
        let layout = Layout::read(&loaded.root, &Registry, problems);
        let (mut components, mut written) = (Components::default(), written_for_service(&loaded.root));
        for declared in Kind::ALL.iter().flat_map(|kind| layout.declared(*kind)) {
            let row = ROWS.iter().find(|row| row.kind() == declared.kind && row.name == declared.canonical);
            let Some(row) = row else { continue };
            let (id, section) = (declared.id.clone(), || declared.section(problems));
            let mut decode = || match row.decode {
                Decode::Receiver(decode) => drop(components.receivers.insert(id.clone(), decode(section()))),
                Decode::Processor(decode) => drop(components.processors.insert(id.clone(), decode(section()))),
                Decode::Exporter(decode) => drop(components.exporters.insert(id.clone(), decode(section()))),
                Decode::Connector(decode) => drop(components.connectors.insert(id.clone(), decode(section()))),
                Decode::Extension(decode) => drop(components.extensions.insert(id.clone(), decode(section()))),
            };
            // An extension that is always on counts as used.
            problems.leniently(!declared.is_used && !row.is_always_on, &mut decode);
            components.ids.insert((declared.kind, declared.id.clone()));
            written.insert(declared.path(), declared.node.without_places());
        }
        for ((kind, id), named) in components.named() {
            let nodes = named.iter().filter_map(|named| written.get(&format!("extensions.{}", named.id)).cloned());
            let named: Vec<Node> = nodes.collect();
            if let Some(own) = written.get_mut(&format!("{}.{id}", kind.section())).filter(|_| !named.is_empty()) {
                let all = std::iter::once(own.clone()).chain(named).collect();
                *own = Node::new(Value::List(all), Place::NOWHERE);
            }
        }
        let service = layout.service;
        let plan = Plan {
            components,
            written,
            pipelines: service.pipelines,
            extensions: service.extensions,
            pushes: pushes(&service.telemetry, problems),
            telemetry: service.telemetry,
        };
        if !problems.has_errors() {
            plan.check(&mut |problem| problems.push(problem));
        }
        plan
    }

    pub(crate) fn receiver(&self, id: &ComponentId) -> Option<&Arc<dyn ReceiverSettings>> {
        self.components.receivers.get(id)
    }

    pub fn processor(&self, id: &ComponentId) -> Option<&Arc<dyn ProcessorSettings>> {
        self.components.processors.get(id)
    }

    pub(crate) fn exporter(&self, id: &ComponentId) -> Option<&Arc<dyn ExporterSettings>> {
        self.components.exporters.get(id)
    }

    /// The extensions of `service.extensions`, in order.
    pub(crate) fn started_extensions(&self) -> impl Iterator<Item = (&ComponentId, &Arc<dyn ExtensionSettings>)> {
        let ids = self.extensions.iter().map(|extension| &extension.id);
        ids.filter_map(|id| Some((id, self.components.extensions.get(id)?)))
    }

    /// Whether a crash loses telemetry in this pipeline after its client was told that it was accepted.
    pub(crate) fn holds_in_memory(&self, pipeline: &Pipeline) -> bool {
        let mut processors = pipeline.processors.iter().filter_map(|reference| self.processor(&reference.id));
        let is_batched = processors.clone().any(|processor| processor.batches());
        let holds =
            |queue: &QueueSettings| (queue.enabled || is_batched) && !queue.wait_for_result && queue.storage.is_none();
        let mut exporters = pipeline.exporters.iter();
        exporters.any(|exporter| self.queue_of(&exporter.id).is_some_and(holds))
            || processors.any(|processor| processor.holds_in_memory())
    }

    fn queue_of(&self, exporter: &ComponentId) -> Option<&QueueSettings> {
        self.exporter(exporter)?.sending().map(|settings| &settings.queue)
    }

    /// The local socket. It counts even if it is not listed in `service.extensions`: it is always on.
    pub(crate) fn local_socket(&self) -> LocalSocket {
        let started = self.started_extensions().map(|(_, extension)| extension);
        let mut all = started.chain(self.components.extensions.values());
        all.find_map(|extension| extension.local_socket().cloned()).unwrap_or_default()
    }

    /// Whether a component's config text is unchanged.
    pub(super) fn is_as(&self, before: &Written, kind: Kind, id: &ComponentId) -> bool {
        let path = format!("{}.{id}", kind.section());
        self.written.get(&path).is_some_and(|written| before.get(&path) == Some(written))
    }

    /// Whether a processor may need to know a request's client: only then is it kept.
    pub(super) fn names_clients(&self) -> bool {
        fn names(node: &Node) -> bool {
            let in_text = node.as_text().is_some_and(|text| text.contains("otelcol."));
            in_text
                || node.items().iter().any(names)
                || node.entries().iter().any(|entry| entry.key == "from_context" || names(&entry.node))
        }
        self.written.iter().any(|(path, node)| path.starts_with("processors.") && names(node))
    }

    /// The receivers that pipelines use, each once.
    pub(super) fn receivers(&self) -> Vec<&ComponentId> {
        let mut known = HashSet::new();
        let ids = self.pipelines.iter().flat_map(|pipeline| &pipeline.receivers).map(|reference| &reference.id);
        ids.filter(|id| !self.is_connector(id) && known.insert(*id)).collect()
    }

    /// Replaces every exporter by `nop`: nothing is opened, and everything is accepted.
    pub(crate) fn silence(&mut self) {
        self.components.exporters.values_mut().for_each(|exporter| *exporter = registry::silence());
    }

    /// The ids of one kind that pipelines use, each once, in pipeline order, with their signals.
    pub(crate) fn used(&self, kind: Kind) -> Vec<(&ComponentId, Vec<Signal>)> {
        let mut used: Vec<(&ComponentId, Vec<Signal>)> = Vec::new();
        let mut places = HashMap::new();
        for pipeline in &self.pipelines {
            let references = if kind == Kind::Receiver { &pipeline.receivers } else { &pipeline.exporters };
            for reference in references.iter().filter(|reference| self.has(kind, &reference.id)) {
                let signal = pipeline.id.signal;
                match places.get(&reference.id).and_then(|index: &usize| used.get_mut(*index)) {
                    Some((_, signals)) if signals.contains(&signal) => {}
                    Some((_, signals)) => signals.push(signal),
                    None => {
                        places.insert(&reference.id, used.len());
                        used.push((&reference.id, vec![signal]));
                    }
                }
            }
        }
        used
    }

    /// The storage extension with this id, if it is started.
    pub(super) fn storage(&self, id: &str) -> Option<&Storage> {
        self.started(id)?.storage()
    }

    /// The extension with this id, if it is started.
    fn started(&self, id: &str) -> Option<&Arc<dyn ExtensionSettings>> {
        let id = ComponentId::parse(id).ok().filter(|parsed| parsed.to_string() == id)?;
        self.started_extensions().find(|(started, _)| **started == id).map(|(_, extension)| extension)
    }

    pub(super) fn all_extensions(&self) -> &Extensions {
        &self.components.extensions
    }

    /// Keeps unchanged running extensions: their files may no longer be readable.
    pub(super) fn keep_extensions(&mut self, known: &Extensions, before: &Written) {
        for (id, extension) in known {
            if self.is_as(before, Kind::Extension, id) {
                self.components.extensions.insert(id.clone(), extension.clone());
            }
        }
    }

    /// The authenticators that a component refers to, by their key.
    pub fn authenticators(&self, named: &[Named]) -> Result<Vec<(&'static str, Arc<Authenticator>)>, String> {
        let named = named.iter().map(|named| Ok(self.authenticator(named)?.map(|found| (named.key, found))));
        named.filter_map(Result::transpose).collect()
    }

    /// The authenticator that a component refers to. An unsuitable extension is an error: continuing without it would
    /// leave access open.
    fn authenticator(&self, named: &Named) -> Result<Option<Arc<Authenticator>>, String> {
        let Named { id, purpose, .. } = named;
        match (purpose, self.started(id).and_then(|extension| extension.authenticator())) {
            (_, None) => Err(format!("failed to resolve authenticator \"{id}\": authenticator not found")),
            (Purpose::Client { .. }, Some(found)) if found.is_absent() => Ok(None),
            (Purpose::Server, Some(found)) if found.is_absent() => {
                Err(format!("requested authenticator is not a server authenticator: {id} has no token"))
            }
            (Purpose::Server, Some(found)) if !found.serves => {
                Err(format!("requested authenticator is not a server authenticator: {id} has no `htpasswd`"))
            }
            (Purpose::Client { .. }, Some(found)) if !found.sends => {
                Err(format!("requested authenticator is not a client authenticator: {id} has no `client_auth`"))
            }
            (_, Some(found)) => Ok(Some(found.clone())),
        }
    }

    fn check_authenticators(&self, report: &mut dyn FnMut(Problem)) {
        let used = self.in_use();
        let named = self.components.named().filter(|((kind, id), _)| used.contains(&(*kind, (*id).clone())));
        for ((kind, id), named) in named.flat_map(|(owner, all)| all.into_iter().map(move |named| (owner, named))) {
            let path = format!("{}.{id}.{}", kind.section(), named.key);
            if named.purpose == (Purpose::Client { in_clear: true }) {
                let message = "credentials leave this machine without TLS";
                report(Problem::warning(named.place, message).at(&path));
            }
            if let Err(why) = self.authenticator(&named) {
                let help = "name a bearertokenauth or basicauth that stands in `service.extensions`";
                report(Problem::error(named.place, why).at(path).help(Some(help.to_owned())));
            }
        }
    }

    /// Components named by pipelines or `service.extensions`.
    pub(crate) fn in_use(&self) -> HashSet<(Kind, ComponentId)> {
        let of = |kind, references: &[Reference]| {
            references.iter().map(move |reference| (kind, reference.id.clone())).collect::<Vec<_>>()
        };
        let named = self.pipelines.iter().flat_map(|pipeline| {
            [
                of(Kind::Receiver, &pipeline.receivers),
                of(Kind::Processor, &pipeline.processors),
                of(Kind::Exporter, &pipeline.exporters),
                of(Kind::Connector, &pipeline.exporters),
            ]
        });
        let named = named.flatten().chain(of(Kind::Extension, &self.extensions));
        named.filter(|named| self.components.ids.contains(named)).collect()
    }

    fn has(&self, kind: Kind, id: &ComponentId) -> bool {
        self.components.ids.contains(&(kind, id.clone()))
    }

    pub(super) fn is_connector(&self, id: &ComponentId) -> bool {
        self.has(Kind::Connector, id)
    }

    /// The signal that a receiver or connector gives for one of its pipeline's signal.
    fn gives(&self, id: &ComponentId, taken: Signal) -> Option<Signal> {
        self.components.connectors.get(id).map_or(Some(taken), |settings| settings.gives(taken))
    }

    /// The pipelines fed by a receiver of one signal, or by a connector that takes it.
    pub(super) fn fed_by<'a>(&'a self, id: &'a ComponentId, like: &'a Pipeline) -> impl Iterator<Item = &'a Pipeline> {
        let given = self.gives(id, like.id.signal);
        let takes = move |pipeline: &&Pipeline| {
            Some(pipeline.id.signal) == given && pipeline.receivers.iter().any(|reference| reference.id == *id)
        };
        self.pipelines.iter().filter(takes)
    }

    /// Checks the rules that involve several components.
    fn check(&self, report: &mut dyn FnMut(Problem)) {
        self.check_authenticators(report);
        let mut exporters = self.used(Kind::Exporter);
        exporters.order_by_key(|(id, _)| *id);
        for (exporter, _) in exporters {
            let queue = self.queue_of(exporter).filter(|queue| queue.enabled);
            if let Some((id, place)) = queue.and_then(|queue| queue.storage.as_ref())
                && self.storage(id).is_none()
            {
                let message = format!("there is no storage extension \"{id}\"");
                let help = "declare file_storage under `extensions`, and name it in `service.extensions`";
                let path = format!("exporters.{exporter}.sending_queue.storage");
                report(Problem::error(*place, message).at(&path).help(Some(help.to_owned())));
            }
        }
        let ends = |of: fn(&Pipeline) -> &Vec<Reference>| {
            let all = self.pipelines.iter();
            all.flat_map(move |pipeline| of(pipeline).iter().map(|end| (pipeline.id.signal, &end.id)))
        };
        let taken_from: Ends = ends(|pipeline| &pipeline.receivers).collect();
        let fed = ends(|pipeline| &pipeline.exporters);
        let fed: Ends = fed.filter_map(|(signal, id)| Some((self.gives(id, signal)?, id))).collect();
        let feeding = self.feeding(|id, _| if self.is_connector(id) { vec![id.clone()] } else { Vec::new() });
        for (index, pipeline) in self.pipelines.iter().enumerate() {
            let (signal, path) = (pipeline.id.signal, format!("service.pipelines.{}", pipeline.id));
            for processor in &pipeline.processors {
                let refused = match self.processor(&processor.id).map(|settings| settings.role()) {
                    Some(Role::Step(factory)) => factory.build(&processor.id.to_string(), signal).err(),
                    Some(Role::Stage(factory)) => factory.refuses(signal),
                    None => None,
                };
                if let Some(why) = refused {
                    report(Problem::error(processor.place, why).at(format!("{path}.processors")));
                }
            }
            let mut check_connector = |Reference { id, place }: &Reference, end: &str, other_end: &str, fits: bool| {
                if self.is_connector(id) && !fits {
                    let message = format!(
                        "connector \"{id}\" used as {end} in [{}] pipeline but not used in any supported {other_end} pipeline",
                        pipeline.id
                    );
                    report(Problem::error(*place, message).at(&path));
                }
            };
            for exporter in &pipeline.exporters {
                let given = self.gives(&exporter.id, signal);
                let fits = given.is_some_and(|given| taken_from.contains(&(given, &exporter.id)));
                check_connector(exporter, "exporter", "receiver", fits);
            }
            for receiver in &pipeline.receivers {
                check_connector(receiver, "receiver", "exporter", fed.contains(&(signal, &receiver.id)));
            }
            for Reference { id, place } in &pipeline.exporters {
                let settings = self.exporter(id);
                if let Some(why) = settings.and_then(|settings| settings.refuses(&id.to_string(), signal)) {
                    report(Problem::error(*place, why).at(&path));
                }
            }
            for Reference { id, place } in &pipeline.receivers {
                let makes = self.receiver(id).map_or(&Signal::ALL[..], |settings| settings.signals());
                if !makes.contains(&signal) {
                    let makes = makes.iter().map(|signal| signal.name()).collect::<Vec<_>>().join(" and ");
                    let (pipeline, takes) = (&pipeline.id, signal.name());
                    let message = format!("receiver \"{id}\" makes {makes}, and [{pipeline}] takes {takes}");
                    report(Problem::error(*place, message).at(&path));
                }
            }
            if feeding.leads(feeding.ends(index), index) {
                let message = format!("cycle detected: pipeline {} feeds itself through connectors", pipeline.id);
                report(Problem::error(pipeline.place, message).at(&path));
            }
        }
    }

    /// Which pipelines feed which; `leads_to` gives the receivers and connectors that an exporter or connector feeds
    /// for a signal.
    fn feeding(&self, leads_to: impl Fn(&ComponentId, Signal) -> Vec<ComponentId>) -> Feeding {
        let mut takers: HashMap<(Signal, &ComponentId), Vec<usize>> = HashMap::new();
        for (index, pipeline) in self.pipelines.iter().enumerate() {
            for receiver in &pipeline.receivers {
                takers.entry((pipeline.id.signal, &receiver.id)).or_default().push(index);
            }
        }
        let (mut feeding, mut known) = (Feeding::default(), HashMap::new());
        for pipeline in &self.pipelines {
            let signal = pipeline.id.signal;
            let ends = pipeline.exporters.iter().map(|exporter| {
                *known.entry((signal, &exporter.id)).or_insert_with(|| {
                    let (receivers, given) = (leads_to(&exporter.id, signal), self.gives(&exporter.id, signal));
                    let takers = receivers.iter().filter_map(|receiver| takers.get(&(given?, receiver)));
                    feeding.takers.push(takers.flatten().copied().collect());
                    feeding.takers.len() - 1
                })
            });
            let ends = ends.collect();
            feeding.ends.push(ends);
        }
        feeding
    }
}

/// The connections between pipelines.
#[derive(Default)]
struct Feeding {
    /// For each pipeline, its ends: exporters and connectors of its signal.
    ends: Vec<Vec<usize>>,
    /// For each end, the pipelines it feeds.
    takers: Vec<Vec<usize>>,
}

impl Feeding {
    /// The ends of a pipeline, in the order of its exporters.
    fn ends(&self, pipeline: usize) -> &[usize] {
        self.ends.get(pipeline).map_or(&[], Vec::as_slice)
    }

    /// Whether one of these ends feeds the pipeline, directly or through others.
    fn leads(&self, from: &[usize], pipeline: usize) -> bool {
        let (mut next, mut asked) = (from.to_vec(), vec![false; self.takers.len()]);
        let mut reached = vec![false; self.ends.len()];
        let is_first =
            |seen: &mut Vec<bool>, index: usize| seen.get_mut(index).is_some_and(|seen| !std::mem::replace(seen, true));
        while let Some(end) = next.pop() {
            for taker in self.takers.get(end).into_iter().flatten().filter(|taker| is_first(&mut reached, **taker)) {
                if *taker == pipeline {
                    return true;
                }
                next.extend(self.ends(*taker).iter().copied().filter(|end| is_first(&mut asked, *end)));
            }
        }
        false
    }
}
