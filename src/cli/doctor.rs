//! `misaki doctor`: tries the upstreams, ports and directories of a config, hop by hop. It reports which hop fails,
//! why, and what to do.
//!
//! It sends only empty exports, and leaves ports and directories unchanged.

mod machine;
mod upstream;

use clap::Args;

use crate::config::{Kind, Level, Problem};
use crate::diagnostics::columns::without_errno;
use crate::service::plan::Plan;
use crate::service::{graph, push};
use crate::telemetry::Budget;

use super::default::{Chosen, Origin};
use super::page::Page;
use super::{Edge, FAILED, Failure, Sources, block_on, default, print, safe};

/// The column of a row's text.
const TEXT: usize = 20;

const ABOUT: &str = "\
The config is found as by `misaki run`. For each exporter: name, connection,
TLS, protocol, and an empty export with its headers and its auth. Then the
ports of receivers, the storage, and the memory. Exit status 1 when a check
FAILED; `warn` says what may surprise later.";

#[derive(Args)]
#[command(after_help = ABOUT)]
pub(super) struct Doctor {
    #[command(flatten)]
    sources: Sources,
    #[command(flatten)]
    edge: Edge,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Ok,
    Warn,
    Failed,
    /// Not tried, because an earlier hop failed.
    Untried,
}

/// The result of one check: its subject, its result, and advice.
struct Finding {
    state: State,
    what: &'static str,
    says: String,
    advice: Option<String>,
}

/// A component and its findings.
struct Section {
    title: String,
    findings: Vec<Finding>,
}

impl Finding {
    fn ok(what: &'static str, says: impl Into<String>) -> Finding {
        Finding { state: State::Ok, what, says: says.into(), advice: None }
    }

    fn warn(what: &'static str, says: impl Into<String>, advice: &str) -> Finding {
        Finding { state: State::Warn, what, says: says.into(), advice: Some(advice.to_owned()) }
    }

    fn failed(what: &'static str, says: impl Into<String>, advice: &str) -> Finding {
        let advice = Some(advice.to_owned()).filter(|advice| !advice.is_empty());
        Finding { state: State::Failed, what, says: says.into(), advice }
    }

    /// The finding again: an error if it says that its hop failed.
    fn passed(self) -> Result<Finding, Finding> {
        if self.state == State::Failed { Err(self) } else { Ok(self) }
    }
}

pub(super) fn doctor(options: &Doctor) -> Result<(), Failure> {
    let chosen = default::choose(&options.sources, &options.edge)?;
    let plan = chosen.plan()?;
    let mut sections: Vec<_> = config(&chosen, &plan).into_iter().collect();
    let chose_signals = matches!(chosen.origin, Origin::Named);
    sections.extend(block_on(async { Ok(examine(&plan, chose_signals).await) })?);
    print(&rendered(&sections))?;
    match sections.iter().flat_map(|section| &section.findings).any(|finding| finding.state == State::Failed) {
        true => Err(Failure { status: FAILED, message: String::new() }),
        false => Ok(()),
    }
}

/// Findings about files and addresses that the config names; `None` if there are none.
fn config(chosen: &Chosen, plan: &Plan) -> Option<Section> {
    let problems = &chosen.loaded.problems;
    let known = problems.sorted();
    plan.look(&chosen.loaded);
    let found = problems.sorted().into_iter().filter(|problem| !known.contains(problem));
    let finding = |problem: Problem| {
        let says = format!("{}: {}", problem.path, problem.message);
        let advice = problem.help.unwrap_or_default();
        match problem.level {
            Level::Error => Finding::failed("config", says, &advice),
            Level::Warning => Finding::warn("config", says, &advice),
        }
    };
    let mut findings: Vec<_> = found.map(finding).collect();
    if let Origin::Embedded { refused: Some(itself), .. } = &chosen.origin {
        let says = format!("{itself} is this collector: not forwarding");
        findings.push(Finding::failed("config", says, "name the collector that comes next"));
    }
    (!findings.is_empty()).then(|| Section { title: "config".to_owned(), findings })
}

async fn examine(plan: &Plan, chose_signals: bool) -> Vec<Section> {
    let budget = Budget::new(crate::service::budget_of(plan));
    let mut sections = Vec::new();
    for (id, signals) in plan.used(Kind::Exporter) {
        let Some(settings) = plan.exporter(id) else { continue };
        let client = |signal| graph::client(plan, id, signal, &budget);
        let mut upstreams = upstream::examine(&format!("exporter {id}"), settings.as_ref(), &signals, &client).await;
        if !chose_signals {
            upstreams.iter_mut().for_each(some_are_enough);
        }
        sections.extend(upstreams);
    }
    for (push, settings) in &plan.pushes {
        let client = |signal| push::client(settings, signal, &budget);
        let name = format!("own {}", push.signal.name());
        sections.extend(upstream::examine(&name, settings.as_ref(), &[push.signal], &client).await);
    }
    sections.extend(machine::ports(plan).await);
    sections.extend(machine::storage(plan));
    sections.push(machine::memory(plan));
    sections
}

/// Without a config, perhaps not all signals are sent: if the upstream accepts one, a signal without a pipeline there
/// is only a warning.
fn some_are_enough(section: &mut Section) {
    if section.findings.iter().any(|finding| finding.what == "export" && finding.state == State::Ok) {
        let is_refused = |finding: &&mut Finding| finding.advice.as_deref() == Some(upstream::NO_PIPELINE);
        section.findings.iter_mut().filter(is_refused).for_each(|finding| finding.state = State::Warn);
    }
}

fn rendered(sections: &[Section]) -> String {
    let mut page = Page::default();
    for Section { title, findings } in sections {
        page.put(&safe(title));
        for Finding { state, what, says, advice } in findings {
            let state = match state {
                State::Ok => "ok",
                State::Warn => "warn",
                State::Failed => "FAILED",
                State::Untried => "-",
            };
            page.hang(&format!("  {state:<8}{what:<10}"), &safe(&without_errno(says)));
            if let Some(advice) = advice {
                page.hang(&format!("{:TEXT$}-> ", ""), &safe(advice));
            }
        }
        page.put("");
    }
    let all: Vec<_> = sections.iter().flat_map(|section| &section.findings).collect();
    let of = |state| all.iter().filter(|finding| finding.state == state).count();
    let (failed, warnings) = (of(State::Failed), of(State::Warn));
    page.put(&format!("{} checks: {failed} failed, {warnings} warnings", all.len() - of(State::Untried)));
    for Section { title, findings } in sections {
        for finding in findings.iter().filter(|finding| finding.state == State::Failed) {
            page.hang("FAILED: ", &format!("{} of {}", finding.what, safe(title)));
        }
    }
    page.out
}
