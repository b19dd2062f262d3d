//! `attributes`: edits the attributes of log records, spans and data points.

mod matching;

use std::sync::Arc;

use crate::config::section::Section;
use crate::otlp::Signal;
use crate::otlp::rewrite::{Depth, Sight, Verdict, Visitor, rewrite};
use crate::otlp::schema::{log_record, span};
use crate::ottl::value::{Arena, Fault};
use crate::telemetry::{Client, Now, Refusal, Telemetry};

use self::matching::Matcher;
use super::action::{self, Action};
use super::edit::{edit, refusal};
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
        let client = telemetry.client.clone();
        edit(telemetry, |signal, bytes, items, arena| {
            let mut visit = Visit { config: &self.0, signal, client: client.as_deref(), arena, is_meant: true };
            rewrite(signal, bytes, items, arena.room(), &mut visit).map_err(refusal)
        })
    }
}

struct Visit<'a> {
    config: &'a Config,
    signal: Signal,
    client: Option<&'a Client>,
    arena: &'a Arena,
    /// Whether the metric in sight is.
    is_meant: bool,
}

impl<'a> Visitor<'a> for Visit<'a> {
    type Fault = Fault;

    fn depth(&self) -> Depth {
        if self.signal == Signal::Metrics { Depth::Children } else { Depth::Records }
    }

    fn prunes(&self) -> bool {
        false
    }

    #[inline]
    fn record(&mut self, sight: &mut Sight<'a>) -> Result<Verdict, Fault> {
        let matches = |matcher: &Option<Matcher>| matcher.as_ref().map(|matcher| matcher.matches(self.signal, sight));
        self.is_meant = matches(&self.config.include) != Some(false) && matches(&self.config.exclude) != Some(true);
        let list = match self.signal {
            _ if !self.is_meant => return Ok(Verdict::Keep),
            Signal::Logs => log_record::ATTRIBUTES,
            Signal::Traces => span::ATTRIBUTES,
            Signal::Metrics => return Ok(Verdict::Keep),
        };
        for action in &self.config.actions {
            action.run(&mut sight.record, list, self.client, self.arena)?;
        }
        Ok(Verdict::Keep)
    }

    fn child(&mut self, sight: &mut Sight<'a>) -> Result<Verdict, Fault> {
        if self.is_meant {
            let list = sight.point_attributes();
            for action in &self.config.actions {
                action.run(&mut sight.child, list, self.client, self.arena)?;
            }
        }
        Ok(Verdict::Keep)
    }
}
