//! A plan in its environment: files it names, ports it uses twice, and loops back to itself.

use crate::config::telemetry::MetricsLevel;
use crate::config::{ComponentId, Kind, Loaded, Node, Place, Problem};
use crate::network::endpoint::{Endpoint, Listen};
use crate::network::settings::Listening;
use crate::telemetry::Signal;

use super::Plan;

/// The path of a key, and the address it listens on.
type Ear = (Vec<String>, Listen);

impl Plan {
    /// Checks that depend on the machine, without opening a port or writing a file.
    pub fn look(&self, loaded: &Loaded) {
        let path = |kind: Kind, id: &ComponentId| format!("{}.{id}.", kind.section());
        let both = [Kind::Receiver, Kind::Exporter].into_iter();
        let used = both.flat_map(|kind| self.used(kind).into_iter().map(move |(id, _)| path(kind, id)));
        let started = self.extensions.iter().map(|extension| path(Kind::Extension, &extension.id));
        let used: Vec<_> = used.chain(started).collect();
        loaded.problems.look(|path| used.iter().any(|component| path.starts_with(component.as_str())));
        self.look_elsewhere(loaded);
    }

    /// The checks among them that come out the same on every machine.
    pub(crate) fn look_elsewhere(&self, loaded: &Loaded) {
        self.check_ports(loaded);
        // A wrong endpoint would be checked as its default.
        if loaded.problems.has_errors() {
            return;
        }
        for (path, endpoint, receiver) in self.loops() {
            let message =
                format!("{endpoint} is {receiver} of this very collector: what is sent there comes back, without end");
            let problem = Problem::warning(place_of(&loaded.root, &path), message).at(path.join("."));
            loaded.problems.push(problem.help(Some("name the collector that comes next".to_owned())));
        }
    }

    /// The addresses it listens on.
    fn listening(&self) -> Vec<Ear> {
        let mut all: Vec<Ear> = Vec::new();
        let mut add = |kind: Kind, id: &ComponentId, listening: Listening| {
            let keys = listening.keys.iter().map(|key| (*key).to_owned());
            all.push((
                [kind.section().to_owned(), id.to_string()].into_iter().chain(keys).collect(),
                listening.endpoint,
            ));
        };
        for id in self.receivers() {
            let listening = self.receiver(id).map(|settings| settings.listens()).unwrap_or_default();
            listening.into_iter().for_each(|listening| add(Kind::Receiver, id, listening));
        }
        for (id, _) in self.used(Kind::Exporter) {
            let listening = self.exporter(id).map(|settings| settings.listens()).unwrap_or_default();
            listening.into_iter().for_each(|listening| add(Kind::Exporter, id, listening));
        }
        for (id, settings) in self.started_extensions() {
            settings.listens().into_iter().for_each(|listening| add(Kind::Extension, id, listening));
        }
        let metrics = &self.telemetry.metrics;
        // Readers that the user did not name give way.
        let readers = metrics.readers.iter().filter(|_| metrics.named && metrics.level != MetricsLevel::None);
        let readers = readers.filter_map(|(host, port)| Listen::parse(&format!("{host}:{port}"), "tcp").ok());
        all.extend(
            readers
                .map(|endpoint| (["service", "telemetry", "metrics", "readers"].map(str::to_owned).to_vec(), endpoint)),
        );
        all
    }

    /// Reports declared but unused components, which the Go collector does not.
    pub fn check_unused(&self, loaded: &Loaded) {
        let used = self.in_use();
        let unused = self.components.ids.difference(&used);
        for (kind, id) in unused.filter(|(kind, id)| !self.is_local_socket(*kind, id)) {
            let path = [kind.section().to_owned(), id.to_string()];
            let (place, name) = (place_of(&loaded.root, &path), path.join("."));
            let message = match kind {
                Kind::Extension => format!("{name} is not in `service.extensions`: it is not started"),
                _ => format!("{name} is in no pipeline: it does nothing"),
            };
            loaded.problems.push(Problem::warning(place, message));
        }
    }

    /// Whether it is the extension that is always on.
    fn is_local_socket(&self, kind: Kind, id: &ComponentId) -> bool {
        let extension = self.all_extensions().get(id).filter(|_| kind == Kind::Extension);
        extension.is_some_and(|extension| extension.local_socket().is_some())
    }

    fn check_ports(&self, loaded: &Loaded) {
        let all = self.listening();
        for (index, (path, endpoint)) in all.iter().enumerate() {
            let Some((taken, _)) = all.iter().take(index).find(|(_, other)| other.overlaps(endpoint)) else { continue };
            let is_one_receiver = path.get(..3) == taken.get(..3) && path.get(2).is_some_and(|key| key == "protocols");
            let (message, help) = match is_one_receiver {
                true => ("both protocols name this port".to_owned(), "give each its own; either one serves both"),
                false => (format!("{} is the port of {} too", endpoint.address, taken.join(".")), "give each its own"),
            };
            let problem = Problem::error(place_of(&loaded.root, path), message).at(path.join("."));
            let problem = problem.help(Some(help.to_owned()));
            loaded.problems.push(match place_of(&loaded.root, taken) {
                Place::NOWHERE => problem,
                place => problem.related(place, "here it is taken"),
            });
        }
    }

    fn upstream(&self, exporter: &ComponentId, signal: Signal) -> Option<&Endpoint> {
        self.exporter(exporter)?.target(signal).map(|target| target.endpoint)
    }

    /// The receivers of this plan that are reached at an endpoint.
    fn at<'a>(&self, all: &'a [Ear], endpoint: &'a Endpoint) -> impl Iterator<Item = &'a str> {
        let reached = all.iter().filter(|(_, listen)| listen.is_reached_at(&endpoint.address));
        reached.filter_map(|(path, _)| match path.as_slice() {
            [kind, id, ..] if kind == Kind::Receiver.section() => Some(id.as_str()),
            _ => None,
        })
    }

    /// The exporters whose telemetry returns to this process: the key of the endpoint, the endpoint, the receiver.
    pub(crate) fn loops(&self) -> Vec<(Vec<String>, &Endpoint, String)> {
        let all = self.listening();
        let feeding = self.feeding(|exporter, signal| {
            let receivers = self.upstream(exporter, signal).into_iter().flat_map(|endpoint| self.at(&all, endpoint));
            let receivers = receivers.filter_map(|id| ComponentId::parse(id).ok());
            receivers.chain(self.is_connector(exporter).then(|| exporter.clone())).collect()
        });
        let mut loops = Vec::new();
        for (index, pipeline) in self.pipelines.iter().enumerate() {
            for (exporter, end) in pipeline.exporters.iter().zip(feeding.ends(index)) {
                let Some(endpoint) = self.upstream(&exporter.id, pipeline.id.signal) else { continue };
                if feeding.leads(&[*end], index)
                    && let Some(receiver) = self.at(&all, endpoint).next()
                {
                    let id = exporter.id.to_string();
                    let path = vec![Kind::Exporter.section().to_owned(), id, "endpoint".to_owned()];
                    let found = (path, endpoint, format!("receivers.{receiver}"));
                    if !loops.contains(&found) {
                        loops.push(found);
                    }
                }
            }
        }
        loops
    }
}

/// Where a key is written, or its closest parent.
fn place_of(root: &Node, path: &[String]) -> Place {
    let (mut node, mut place) = (root, Place::NOWHERE);
    for key in path {
        let Some(entry) = node.entries().iter().find(|entry| entry.key.trim() == key) else { break };
        node = &entry.node;
        place = entry.place();
    }
    place
}
