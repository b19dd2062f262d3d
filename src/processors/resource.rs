//! `resource`: edits the attributes of resources.

use std::sync::Arc;

use crate::config::section::Section;
use crate::otlp::Signal;
use crate::otlp::rewrite::{Depth, Sight, Verdict, Visitor};
use crate::otlp::schema::resource;
use crate::ottl::value::Fault;
use crate::telemetry::{Now, Refusal, Telemetry};

use super::action::{self, Action};
use super::edit::{Request, edit};
use super::{Factory, Notes, Processor};

#[derive(Clone, Debug)]
pub(crate) struct Config {
    actions: Vec<Action>,
}

impl Config {
    pub(crate) fn decode(section: Section) -> Config {
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
        edit(telemetry, |request| request.rewrite(&mut Visit { actions: &self.0, request }))
    }
}

struct Visit<'a> {
    actions: &'a [Action],
    request: Request<'a>,
}

impl<'a> Visitor<'a> for Visit<'a> {
    type Fault = Fault;

    fn depth(&self) -> Depth {
        Depth::Resources
    }

    fn resource(&mut self, sight: &mut Sight<'a>) -> Result<Verdict, Fault> {
        action::run(self.actions, &mut sight.resource, resource::ATTRIBUTES, &self.request)
    }
}
