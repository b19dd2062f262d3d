//! What the configuration means: every component decoded, every reference resolved; or all problems at once.

mod outside;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::config::telemetry::Telemetry;
use crate::config::{ComponentId, Kind, Layout, Loaded, Node, Pipeline, Place, Problem, Reference, Value};
use crate::exporters::settings::QueueSettings;
use crate::exporters::{otlp_grpc, otlp_http};
use crate::extensions::{file_storage, inspect};
use crate::network::auth::Authenticator;
use crate::network::endpoint::Scheme;
use crate::telemetry::Signal;

use super::registry::{Component, ROWS, Registry};

/// What a reload did, by the paths of the config.
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

/// Which end of a connection an authenticator is for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Side {
    Server,
    Client,
}

/// What was written, by its path: for each component with its authenticators, each pipeline, and the rest of `service`. A
/// reload compares it.
pub type Written = BTreeMap<String, Node>;

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

pub type Authenticators = Vec<(ComponentId, Arc<Authenticator>)>;

/// A configuration without errors, ready to be built.
pub struct Plan {
    components: HashMap<(Kind, ComponentId), Component>,
    pub written: Written,
    pub pipelines: Vec<Pipeline>,
    pub extensions: Vec<Reference>,
    pub telemetry: Telemetry,
}

impl Plan {
    /// Decodes everything that is declared, used or not. Problems are left in `loaded`; with errors among them the
    /// plan must not be built.
    pub fn read(loaded: &Loaded) -> Plan {
        let problems = &loaded.problems;
        let layout = Layout::read(&loaded.root, &Registry, problems);
        let (mut components, mut written) = (HashMap::new(), written_for_service(&loaded.root));
        for declared in Kind::ALL.iter().flat_map(|kind| layout.declared(*kind)) {
            let row = ROWS.iter().find(|row| row.kind == declared.kind && row.name == declared.canonical);
            if let Some(row) = row {
                // The local socket is there without being named.
                let is_used = declared.is_used || row.name == "inspect";
                let component = problems.leniently(!is_used, || (row.decode)(declared.section(problems)));
                written.insert(declared.path(), declared.node.without_places());
                components.insert((declared.kind, declared.id.clone()), component);
            }
        }
        for ((kind, id), component) in &components {
            let named =
                component.authenticators().filter_map(|name| written.get(&format!("extensions.{name}")).cloned());
            let named: Vec<Node> = named.collect();
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
            telemetry: service.telemetry,
        };
        if !problems.has_errors() {
            plan.check(&mut |problem| problems.push(problem));
        }
        plan
    }

    pub fn get(&self, kind: Kind, id: &ComponentId) -> Option<&Component> {
        self.components.get(&(kind, id.clone()))
    }

    /// Whether what a component has not passed on yet is lost by a crash, after its client was told that it was accepted.
    pub fn holds_in_memory(&self, kind: Kind, id: &ComponentId, is_batched: bool) -> bool {
        // It answers before a trace is decided on.
        if matches!(self.get(kind, id), Some(Component::TailSampling(_))) {
            return true;
        }
        let queue = if kind == Kind::Exporter { self.queue_of(id) } else { None };
        queue.is_some_and(|queue| (queue.enabled || is_batched) && !queue.wait_for_result && queue.storage.is_none())
    }

    fn queue_of(&self, exporter: &ComponentId) -> Option<&QueueSettings> {
        match self.get(Kind::Exporter, exporter)? {
            Component::OtlpGrpc(config) => Some(&config.sending.queue),
            Component::OtlpHttp(config) => Some(&config.sending.queue),
            Component::File(config) => Some(&config.sending.queue),
            _ => None,
        }
    }

    /// The local socket. What is declared counts, started or not: it is there without being named, too.
    pub fn inspect(&self) -> inspect::Config {
        let started = self.extensions.iter().filter_map(|extension| self.get(Kind::Extension, &extension.id));
        let mut all = started.chain(self.components.values());
        let found = all.find_map(|component| match component {
            Component::Inspect(config) => Some(config.clone()),
            _ => None,
        });
        found.unwrap_or_default()
    }

    /// Whether the same is written for a component as before.
    pub fn is_as(&self, before: &Written, kind: Kind, id: &ComponentId) -> bool {
        let path = format!("{}.{id}", kind.section());
        self.written.get(&path).is_some_and(|written| before.get(&path) == Some(written))
    }

    /// Whether a processor may want to know where a request comes from: only then is it kept.
    pub fn names_clients(&self) -> bool {
        fn names(node: &Node) -> bool {
            let in_text = node.as_text().is_some_and(|text| text.contains("otelcol."));
            let in_list = matches!(&node.value, Value::List(items) if items.iter().any(names));
            in_text || in_list || node.entries().iter().any(|entry| entry.key == "from_context" || names(&entry.node))
        }
        self.written.iter().any(|(path, node)| path.starts_with("processors.") && names(node))
    }

    /// The receivers that pipelines take from, each once.
    pub fn receivers(&self) -> Vec<&ComponentId> {
        let mut known = HashSet::new();
        let ids = self.pipelines.iter().flat_map(|pipeline| &pipeline.receivers).map(|reference| &reference.id);
        ids.filter(|id| !self.is_connector(id) && known.insert(*id)).collect()
    }

    /// Puts `nop` in the place of every exporter: nothing is opened, and everything is taken.
    pub fn silence(&mut self) {
        let exporters = self.components.iter_mut().filter(|((kind, _), _)| *kind == Kind::Exporter);
        exporters.for_each(|(_, component)| *component = Component::Nop);
    }

    /// The ids of one kind that pipelines use, each once, in the order of the pipelines, with the signals they are used for.
    pub fn used(&self, kind: Kind) -> Vec<(&ComponentId, Vec<Signal>)> {
        let mut used: Vec<(&ComponentId, Vec<Signal>)> = Vec::new();
        let mut places = HashMap::new();
        for pipeline in &self.pipelines {
            let references = if kind == Kind::Receiver { &pipeline.receivers } else { &pipeline.exporters };
            for reference in references.iter().filter(|reference| self.get(kind, &reference.id).is_some()) {
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

    /// The storage that is started under this id.
    pub fn storage(&self, id: &str) -> Option<&file_storage::Config> {
        match self.started(id)? {
            Component::FileStorage(config) => Some(config),
            _ => None,
        }
    }

    /// The extension that is started under this id.
    fn started(&self, id: &str) -> Option<&Component> {
        let id = ComponentId::parse(id).ok().filter(|parsed| parsed.to_string() == id)?;
        let is_started = self.extensions.iter().any(|extension| extension.id == id);
        self.get(Kind::Extension, &id).filter(|_| is_started)
    }

    pub fn authenticators(&self) -> Authenticators {
        let authenticator = |((_, id), component): (&(Kind, ComponentId), &Component)| match component {
            Component::Authenticator(authenticator) => Some((id.clone(), authenticator.clone())),
            _ => None,
        };
        self.components.iter().filter_map(authenticator).collect()
    }

    /// Goes on with those that are the same as before: what they know may not be readable any more.
    pub fn keep_authenticators(&mut self, known: &Authenticators, before: &Written) {
        for (id, authenticator) in known {
            if self.is_as(before, Kind::Extension, id) {
                self.components.insert((Kind::Extension, id.clone()), Component::Authenticator(authenticator.clone()));
            }
        }
    }

    /// The authenticator that a section names; an error where it is none of that side, so that no door stays open.
    pub fn authenticator(
        &self,
        named: &Option<(String, Place)>,
        side: Side,
    ) -> Result<Option<Arc<Authenticator>>, String> {
        let Some((id, _)) = named else { return Ok(None) };
        match self.started(id) {
            Some(Component::Authenticator(found)) if found.is_absent() => match side {
                Side::Client => Ok(None),
                Side::Server => {
                    Err(format!("requested authenticator is not a server authenticator: {id} has no token"))
                }
            },
            Some(Component::Authenticator(found)) if side == Side::Server && !found.serves => {
                Err(format!("requested authenticator is not a server authenticator: {id} has no `htpasswd`"))
            }
            Some(Component::Authenticator(found)) if side == Side::Client && !found.sends => {
                Err(format!("requested authenticator is not a client authenticator: {id} has no `client_auth`"))
            }
            Some(Component::Authenticator(found)) => Ok(Some(found.clone())),
            _ => Err(format!("failed to resolve authenticator \"{id}\": authenticator not found")),
        }
    }

    fn check_authenticators(&self, report: &mut dyn FnMut(Problem)) {
        let used = self.in_use();
        let mut check = |named: &Option<(String, Place)>, side, is_clear, path: String| {
            let Some((_, place)) = named else { return };
            if is_clear {
                let message = "credentials leave this machine without TLS";
                report(Problem::warning(*place, message).at(&path));
            }
            if let Err(why) = self.authenticator(named, side) {
                let help = "name a bearertokenauth or basicauth that stands in `service.extensions`";
                report(Problem::error(*place, why).at(path).help(Some(help.to_owned())));
            }
        };
        for ((_, id), component) in self.components.iter().filter(|(key, _)| used.contains(key)) {
            match component {
                Component::Otlp(config) => {
                    let path = |protocol| format!("receivers.{id}.protocols.{protocol}.auth.authenticator");
                    check(&config.grpc.as_ref().and_then(|grpc| grpc.auth.clone()), Side::Server, false, path("grpc"));
                    check(&config.http.as_ref().and_then(|http| http.auth.clone()), Side::Server, false, path("http"));
                }
                Component::HealthCheck(config) => {
                    check(&config.auth, Side::Server, false, format!("extensions.{id}.auth.authenticator"));
                }
                Component::OtlpGrpc(otlp_grpc::Config { auth, endpoint, tls, .. }) => {
                    let is_clear = tls.is_none() && endpoint.leaves_the_machine();
                    check(auth, Side::Client, is_clear, format!("exporters.{id}.auth.authenticator"));
                }
                Component::OtlpHttp(otlp_http::Config { auth, endpoints, .. }) => {
                    let mut used = endpoints.iter().flatten();
                    let is_clear = used.any(|url| url.scheme == Some(Scheme::Http) && url.leaves_the_machine());
                    check(auth, Side::Client, is_clear, format!("exporters.{id}.auth.authenticator"));
                }
                _ => {}
            }
        }
    }

    /// What pipelines or `service.extensions` name.
    pub fn in_use(&self) -> HashSet<(Kind, ComponentId)> {
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
        named.filter(|key| self.components.contains_key(key)).collect()
    }

    pub fn is_connector(&self, id: &ComponentId) -> bool {
        self.get(Kind::Connector, id).is_some()
    }

    /// Whether a receiver makes its telemetry itself: metrics.
    pub fn is_scraper(&self, id: &ComponentId) -> bool {
        matches!(self.get(Kind::Receiver, id), Some(Component::HostMetrics(_)))
    }

    /// The pipelines of one signal that take from a receiver or connector.
    pub fn fed_by<'a>(&'a self, id: &'a ComponentId, like: &'a Pipeline) -> impl Iterator<Item = &'a Pipeline> {
        let takes = move |pipeline: &&Pipeline| {
            pipeline.id.signal == like.id.signal && pipeline.receivers.iter().any(|reference| reference.id == *id)
        };
        self.pipelines.iter().filter(takes)
    }

    /// The rules that need more than one component.
    fn check(&self, report: &mut dyn FnMut(Problem)) {
        self.check_authenticators(report);
        let mut exporters = self.used(Kind::Exporter);
        exporters.sort_by_key(|(id, _)| *id);
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
        let ends = |of: fn(&Pipeline) -> &Vec<Reference>| -> HashSet<(Signal, &ComponentId)> {
            let all = self.pipelines.iter();
            all.flat_map(|pipeline| of(pipeline).iter().map(|end| (pipeline.id.signal, &end.id))).collect()
        };
        let (taken_from, fed) = (ends(|pipeline| &pipeline.receivers), ends(|pipeline| &pipeline.exporters));
        let feeding = self.feeding(|id, _| if self.is_connector(id) { vec![id.clone()] } else { Vec::new() });
        for (index, pipeline) in self.pipelines.iter().enumerate() {
            for processor in &pipeline.processors {
                let refused = match self.get(Kind::Processor, &processor.id) {
                    Some(Component::Processor(factory)) => {
                        factory.build(&processor.id.to_string(), pipeline.id.signal).err()
                    }
                    Some(Component::TailSampling(_)) if pipeline.id.signal != Signal::Traces => {
                        Some(format!("tail_sampling takes traces, not {}", pipeline.id.signal.name()))
                    }
                    _ => None,
                };
                if let Some(why) = refused {
                    let path = format!("service.pipelines.{}.processors", pipeline.id);
                    report(Problem::error(processor.place, why).at(path));
                }
            }
            let (signal, path) = (pipeline.id.signal.name(), format!("service.pipelines.{}", pipeline.id));
            for exporter in &pipeline.exporters {
                if let Some(Component::OtlpHttp(config)) = self.get(Kind::Exporter, &exporter.id)
                    && config.endpoints.get(pipeline.id.signal as usize).is_none_or(Option::is_none)
                {
                    let message = format!("either endpoint or {signal}_endpoint must be specified for {}", exporter.id);
                    report(Problem::error(exporter.place, message).at(&path));
                }
                if self.is_connector(&exporter.id) && !taken_from.contains(&(pipeline.id.signal, &exporter.id)) {
                    let id = &exporter.id;
                    let message = format!(
                        "connector \"{id}\" used as exporter in [{}] pipeline but not used in any supported receiver pipeline",
                        pipeline.id
                    );
                    report(Problem::error(exporter.place, message).at(&path));
                }
            }
            for receiver in pipeline.receivers.iter().filter(|receiver| self.is_scraper(&receiver.id)) {
                if pipeline.id.signal != Signal::Metrics {
                    let id = &receiver.id;
                    let message = format!("receiver \"{id}\" makes metrics, and [{}] takes {signal}", pipeline.id);
                    report(Problem::error(receiver.place, message).at(&path));
                }
            }
            for receiver in pipeline.receivers.iter().filter(|receiver| self.is_connector(&receiver.id)) {
                if !fed.contains(&(pipeline.id.signal, &receiver.id)) {
                    let id = &receiver.id;
                    let message = format!(
                        "connector \"{id}\" used as receiver in [{}] pipeline but not used in any supported exporter pipeline",
                        pipeline.id
                    );
                    report(Problem::error(receiver.place, message).at(&path));
                }
            }
            if feeding.leads(feeding.ends(index), index) {
                let message = format!("cycle detected: pipeline {} feeds itself through connectors", pipeline.id);
                report(Problem::error(pipeline.place, message).at(&path));
            }
        }
    }

    /// Which pipelines feed which, where an exporter or connector of a signal `leads_to` these receivers and connectors.
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
                    let receivers = leads_to(&exporter.id, signal);
                    let takers = receivers.iter().filter_map(|receiver| takers.get(&(signal, receiver)));
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

/// The ways between pipelines.
#[derive(Default)]
struct Feeding {
    /// Of each pipeline, the ends that it gives to: exporters and connectors of its signal.
    ends: Vec<Vec<usize>>,
    /// Of each end, the pipelines that take what is given to it.
    takers: Vec<Vec<usize>>,
}

impl Feeding {
    /// The ends of a pipeline, in the order of its exporters.
    fn ends(&self, pipeline: usize) -> &[usize] {
        self.ends.get(pipeline).map_or(&[], Vec::as_slice)
    }

    /// Whether what is given to one of these ends comes to the pipeline, directly or through others.
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
