//! `attributes`: edits the attributes of log records, spans and data points.

mod matching;

use std::sync::Arc;

use crate::config::section::Section;
use crate::otlp::Signal;
use crate::otlp::rewrite::{Depth, Sight, Verdict, Visitor};
use crate::otlp::schema::{log_record, span};
use crate::ottl::program::Group;
use crate::ottl::scene::Scene;
use crate::ottl::value::Fault;
use crate::telemetry::{Now, Refusal, Telemetry};

use self::matching::Meant;
use super::action::{self, Action};
use super::edit::{Request, edit};
use super::{Factory, Notes, Processor};

pub(crate) struct Config {
    actions: Arc<[Action]>,
    meant: Meant,
}

impl Config {
    pub(crate) fn decode(section: Section) -> Config {
        let meant = matching::decode(&section);
        let config = Config { actions: action::decode(&section, "actions").into(), meant };
        section.finish();
        config
    }
}

impl Factory for Config {
    fn build(&self, _: &str, signal: Signal) -> Result<Arc<dyn Processor>, String> {
        let meant = self.meant.get(signal as usize).cloned().transpose()?.flatten();
        Ok(Arc::new(Attributes { actions: self.actions.clone(), meant }))
    }
}

struct Attributes {
    actions: Arc<[Action]>,
    /// The condition for the items whose attributes are edited.
    meant: Option<Arc<Group>>,
}

impl Processor for Attributes {
    fn process(&self, telemetry: Telemetry, _: Now, _: &mut Notes) -> Result<Option<Telemetry>, Refusal> {
        edit(telemetry, |request| request.rewrite_inlined(&mut Visit { processor: self, request, is_meant: true }))
    }
}

struct Visit<'a> {
    processor: &'a Attributes,
    request: Request<'a>,
    /// Whether the metric in sight is.
    is_meant: bool,
}

impl<'a> Visitor<'a> for Visit<'a> {
    type Fault = Fault;

    fn depth(&self) -> Depth {
        if self.request.signal == Signal::Metrics { Depth::Children } else { Depth::Records }
    }

    #[inline]
    fn record(&mut self, sight: &mut Sight<'a>) -> Result<Verdict, Fault> {
        if let Some(meant) = &self.processor.meant {
            self.is_meant = meant.first_true(&mut Scene::nowhere(self.request.arena, sight))?.is_some();
        }
        let list = match self.request.signal {
            _ if !self.is_meant => return Ok(Verdict::Keep),
            Signal::Logs => log_record::ATTRIBUTES,
            Signal::Traces => span::ATTRIBUTES,
            Signal::Metrics => return Ok(Verdict::Keep),
        };
        action::run(&self.processor.actions, &mut sight.record, list, &self.request)
    }

    fn child(&mut self, sight: &mut Sight<'a>) -> Result<Verdict, Fault> {
        if !self.is_meant {
            return Ok(Verdict::Keep);
        }
        let list = sight.point_attributes();
        action::run(&self.processor.actions, &mut sight.child, list, &self.request)
    }
}
