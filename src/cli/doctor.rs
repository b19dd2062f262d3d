//! `misaki doctor`: tries what a config leads to, hop by hop, and says which hop fails, why, and what to do.
//!
//! It sends empty exports only, and leaves every port and directory as it found it.

mod machine;
mod upstream;

use std::fmt::Write;

use clap::Args;

use crate::config::Kind;
use crate::service::plan::Plan;
use crate::telemetry::Budget;

use super::{Edge, FAILED, Failure, Sources, block_on, default, plan, print, safe};

const WIDTH: usize = 80;
/// Where the text of a row begins.
const TEXT: usize = 20;

const ABOUT: &str = "\
The config is found as by `misaki run`. For each exporter: name, connection,
TLS, protocol, and an empty export with its headers and its auth. Then the
ports of receivers, the storage, and the memory. Exit status 1 when a check
FAILED; `warn` says what may surprise later.";

#[derive(Args)]
#[command(after_help = ABOUT)]
pub struct Doctor {
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
    /// A hop before it failed.
    Untried,
}

/// What was looked at, what was found, and what to do about it.
struct Finding {
    state: State,
    what: &'static str,
    says: String,
    advice: Option<String>,
}

/// One component and what was found about it.
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
}

pub fn doctor(options: &Doctor) -> Result<(), Failure> {
    let loaded = default::choose(&options.sources, &options.edge)?.loaded;
    let plan = plan(&loaded)?;
    let sections = block_on(async { Ok(examine(&plan).await) })?;
    print(&rendered(&sections))?;
    match sections.iter().flat_map(|section| &section.findings).any(|finding| finding.state == State::Failed) {
        true => Err(Failure { status: FAILED, message: String::new() }),
        false => Ok(()),
    }
}

async fn examine(plan: &Plan) -> Vec<Section> {
    let budget = Budget::new(crate::service::budget_of(plan));
    let mut sections = Vec::new();
    for (id, signals) in plan.used(Kind::Exporter) {
        sections.extend(upstream::examine(plan, id, &signals, &budget).await);
    }
    sections.extend(machine::ports(plan).await);
    sections.extend(machine::storage(plan));
    sections.push(machine::memory(plan));
    sections
}

fn rendered(sections: &[Section]) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    for Section { title, findings } in sections {
        let _ = writeln!(out, "{}", safe(title));
        for Finding { state, what, says, advice } in findings {
            let state = match state {
                State::Ok => "ok",
                State::Warn => "warn",
                State::Failed => "FAILED",
                State::Untried => "-",
            };
            let head = format!("  {state:<8}{what:<10}");
            put_wrapped(&mut out, &head, &safe(says));
            if let Some(advice) = advice {
                put_wrapped(&mut out, &format!("{:TEXT$}-> ", ""), &safe(advice));
            }
        }
        out.push('\n');
    }
    let all: Vec<_> = sections.iter().flat_map(|section| &section.findings).collect();
    let of = |state| all.iter().filter(|finding| finding.state == state).count();
    let (failed, warnings) = (of(State::Failed), of(State::Warn));
    let _ = writeln!(out, "{} checks: {failed} failed, {warnings} warnings", all.len() - of(State::Untried));
    out
}

/// `text` behind `head`, in lines of at most 80 characters that begin below each other.
fn put_wrapped(out: &mut String, head: &str, text: &str) {
    let indent = head.chars().count();
    let most = WIDTH - indent;
    let (mut column, mut begins) = (0, true);
    out.push_str(head);
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        // A path may be longer than a line.
        let pieces: Vec<char> = word.chars().collect();
        for (index, piece) in pieces.chunks(most).enumerate() {
            let space = usize::from(!begins && index == 0);
            if index > 0 || column + space + piece.len() > most {
                let _ = write!(out, "\n{:indent$}", "");
                column = 0;
            } else if space > 0 {
                out.push(' ');
                column += 1;
            }
            out.extend(piece);
            column += piece.len();
            begins = false;
        }
    }
    out.push('\n');
}
