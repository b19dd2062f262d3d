//! `transform`: edits telemetry with OTTL statements. Every group walks the data once, in the order of the file.

use std::mem::take;
use std::sync::Arc;

use crate::config::section::Section;
use crate::otlp::rewrite::{Depth, Outcome, Sight, Verdict, Visitor};
use crate::otlp::slice::WORKED_ON;
use crate::ottl::functions;
use crate::ottl::program::{ErrorMode, Group, Grouping};
use crate::ottl::scene::Scene;
use crate::ottl::value::Fault;
use crate::telemetry::{Now, Refusal, Signal, Telemetry};

use super::edit::{Request, edit};
use super::{Factory, Notes, Processor};
use crate::ottl::level;

pub struct Config {
    signals: [Arc<Vec<Edits>>; 3],
}

struct Edits {
    group: Group,
    depth: Depth,
    /// The index of the cache that the items of all such groups share while a request is edited, one for each context; none
    /// when each item has its own.
    shared_cache: Option<usize>,
}

/// The most contexts that a signal has.
const CONTEXTS: usize = 5;

/// The key and the contexts of each signal, in the order of `Signal`.
const KEYS: [(&str, &[&str]); 3] = [
    ("log_statements", &["log", "scope", "resource"]),
    ("metric_statements", &["exemplar", "datapoint", "metric", "scope", "resource"]),
    ("trace_statements", &["spanevent", "span", "scope", "resource"]),
];

impl Config {
    pub fn decode(section: Section) -> Config {
        let error_mode = section.choice_in_any_case("error_mode", ErrorMode::Ignore, &ErrorMode::CHOICES);
        section.unread(&["profile_statements"], "profiles");
        if section.boolean("flatten_data", false) {
            let message = "'flatten_data' requires the 'transform.flatten.logs' feature gate to be enabled";
            section.problem_with_help("flatten_data", message, "it is not supported: the gate does not exist here");
        }
        let signals = KEYS.map(|(key, contexts)| {
            let grouping =
                Grouping { key, contexts, functions: functions::TRANSFORM, error_mode, has_statements: true };
            let is_shared = |own: &Section| own.boolean("shared_cache", false);
            let edits = grouping.read(&section, is_shared, |group, is_shared| {
                let cache = contexts.iter().position(|context| is_shared && *context == group.context);
                Edits { depth: level(group.context).0, group, shared_cache: cache }
            });
            Arc::new(edits)
        });
        Config { signals }
    }
}

impl Factory for Config {
    fn build(&self, _: &str, signal: Signal) -> Result<Arc<dyn Processor>, String> {
        let edits = self.signals.get(signal as usize).cloned().unwrap_or_default();
        Ok(Arc::new(Transform { edits }))
    }
}

struct Transform {
    edits: Arc<Vec<Edits>>,
}

impl Processor for Transform {
    fn is_billed(&self) -> bool {
        true
    }

    fn process(&self, telemetry: Telemetry, now: Now, _: &mut Notes) -> Result<Option<Telemetry>, Refusal> {
        let mut caches: [Vec<u8>; CONTEXTS] = Default::default();
        edit(telemetry, |request| {
            let room = request.arena.room();
            let mut outcome = Outcome::Unchanged;
            for edits in self.edits.iter() {
                let request = match &outcome {
                    Outcome::Changed { bytes, items } => Request { bytes, items: *items, ..request },
                    _ => request,
                };
                let mut own = Vec::new();
                let cache = edits.shared_cache.and_then(|index| caches.get_mut(index)).unwrap_or(&mut own);
                let before = take(cache);
                let mut editor = Editor { edits, request, now, cache: &before };
                let after = request.rewrite(&mut editor)?;
                if room.take(editor.cache.len()) {
                    *cache = editor.cache.to_vec();
                }
                if !matches!(after, Outcome::Unchanged)
                    && let Outcome::Changed { bytes, .. } = std::mem::replace(&mut outcome, after)
                {
                    room.give_back(bytes.capacity());
                }
            }
            Ok::<_, Fault>(outcome)
        })
    }
}

struct Editor<'a> {
    edits: &'a Edits,
    request: Request<'a>,
    now: Now,
    /// The cache that the group's items share.
    cache: &'a [u8],
}

impl<'a> Visitor<'a> for Editor<'a> {
    type Fault = Fault;

    fn depth(&self) -> Depth {
        self.edits.depth
    }

    #[inline]
    fn visit(&mut self, depth: Depth, sight: &mut Sight<'a>) -> Result<Verdict, Fault> {
        if self.edits.depth == depth {
            let Request { arena, client, .. } = self.request;
            let mut scene = Scene::new(arena, self.now, client, sight);
            if self.edits.shared_cache.is_none() {
                self.edits.group.run(&mut scene)?;
            } else {
                // Every item may read all that those before it have gathered.
                arena.again.spend(self.cache.len() * WORKED_ON)?;
                scene.cache = self.cache;
                self.edits.group.run(&mut scene)?;
                self.cache = scene.cache;
            }
        }
        Ok(Verdict::Keep)
    }
}
