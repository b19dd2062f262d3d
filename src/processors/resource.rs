//! `resource`: edits the attributes of resources.

use std::sync::Arc;

use crate::config::section::Section;
use crate::otlp::Signal;
use crate::otlp::rewrite::{Depth, Sight, Verdict, Visitor, rewrite};
use crate::otlp::schema::resource;
use crate::ottl::value::{Arena, Fault};
use crate::telemetry::{Client, Now, Refusal, Telemetry};

use super::action::{self, Action};
use super::edit::{edit, refusal};
use super::{Factory, Notes, Processor};

#[derive(Clone, Debug)]
pub struct Config {
    actions: Vec<Action>,
}

impl Config {
    pub fn decode(section: Section) -> Config {
        let config = Config { actions: action::decode(&section, "attributes") };
        section.finish();
        config
    }
}

impl Factory for Config {
    fn build(&self, _: &str, _: Signal) -> Result<Arc<dyn Processor>, String> {
        Ok(Arc::new(Resource(self.actions.clone())))
    }
}

struct Resource(Vec<Action>);

impl Processor for Resource {
    fn is_billed(&self) -> bool {
        true
    }

    fn process(&self, telemetry: Telemetry, _: Now, _: &mut Notes) -> Result<Option<Telemetry>, Refusal> {
        let client = telemetry.client.clone();
        edit(telemetry, |signal, bytes, items, arena| {
            let mut visit = Visit { actions: &self.0, client: client.as_deref(), arena };
            rewrite(signal, bytes, items, arena.room(), &mut visit as &mut dyn Visitor<Fault = Fault>).map_err(refusal)
        })
    }
}

struct Visit<'a> {
    actions: &'a [Action],
    client: Option<&'a Client>,
    arena: &'a Arena,
}

impl<'a> Visitor<'a> for Visit<'a> {
    type Fault = Fault;

    fn depth(&self) -> Depth {
        Depth::Resources
    }

    fn prunes(&self) -> bool {
        false
    }

    fn resource(&mut self, sight: &mut Sight<'a>) -> Result<Verdict, Fault> {
        for action in self.actions {
            action.run(&mut sight.resource, resource::ATTRIBUTES, self.client, self.arena)?;
        }
        Ok(Verdict::Keep)
    }
}
