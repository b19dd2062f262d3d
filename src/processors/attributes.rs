//! `attributes`: edits the attributes of log records, spans and data points.

mod matching;

use std::sync::Arc;

use crate::config::section::Section;
use crate::otlp::Signal;
use crate::otlp::rewrite::{Depth, Sight, Verdict, Visitor};
use crate::otlp::schema::{log_record, span};
use crate::ottl::value::Fault;
use crate::telemetry::{Now, Refusal, Telemetry};

use self::matching::Matcher;
use super::action::{self, Action};
use super::edit::{Request, edit};
use super::{Factory, Notes, Processor};

#[derive(Clone, Debug)]
pub struct Config {
    actions: Vec<Action>,
    include: Option<Matcher>,
    exclude: Option<Matcher>,
}

impl Config {
    pub fn decode(section: Section) -> Config {
        let matcher = |key| section.section(key).map(Matcher::decode);
        let (include, exclude) = (matcher("include"), matcher("exclude"));
        let config = Config { actions: action::decode(&section, "actions"), include, exclude };
        section.finish();
        config
    }
}

impl Factory for Config {
    fn build(&self, _: &str, signal: Signal) -> Result<Arc<dyn Processor>, String> {
        self.include.iter().chain(&self.exclude).try_for_each(|matcher| matcher.check(signal))?;
        Ok(Arc::new(Attributes(self.clone())))
    }
}

struct Attributes(Config);

impl Processor for Attributes {
    fn process(&self, telemetry: Telemetry, _: Now, _: &mut Notes) -> Result<Option<Telemetry>, Refusal> {
        edit(telemetry, |request| request.rewrite_inlined(&mut Visit { config: &self.0, request, is_meant: true }))
    }
}

struct Visit<'a> {
    config: &'a Config,
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
        let signal = self.request.signal;
        let matches = |matcher: &Option<Matcher>| matcher.as_ref().map(|matcher| matcher.matches(signal, sight));
        self.is_meant = matches(&self.config.include) != Some(false) && matches(&self.config.exclude) != Some(true);
        let list = match signal {
            _ if !self.is_meant => return Ok(Verdict::Keep),
            Signal::Logs => log_record::ATTRIBUTES,
            Signal::Traces => span::ATTRIBUTES,
            Signal::Metrics => return Ok(Verdict::Keep),
        };
        action::run(&self.config.actions, &mut sight.record, list, &self.request)
    }

    fn child(&mut self, sight: &mut Sight<'a>) -> Result<Verdict, Fault> {
        if !self.is_meant {
            return Ok(Verdict::Keep);
        }
        let list = sight.point_attributes();
        action::run(&self.config.actions, &mut sight.child, list, &self.request)
    }
}
