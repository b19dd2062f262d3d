//! `misaki traces`: lists the requests that passed through the running collector, or pass: a line for each.

use std::time::Duration;

use clap::Args;

use super::local::Target;
use super::tail::query::Asked;
use super::tail::{At, Color, Tail, tail};
use super::{Failure, Look};
use crate::config::duration;
use crate::exporters::debug::Verbosity;
use crate::exporters::debug::requests::List;

/// The default of `misaki traces`: everything that is kept.
const KEPT: Duration = Duration::from_secs(24 * 3600);

const TRACES: &str = "\
Examples:
  misaki traces --failed
  misaki traces --slower-than 300ms --since 10m
  misaki traces 'span.name == \"GET /cart\"' --follow
  misaki tail -o tree 4bf92f35 --since 1h      # the tree of one of them";

/// Which requests are listed.
#[derive(Args)]
#[command(after_help = TRACES)]
pub(super) struct Traces {
    /// An OTTL condition that one of a request's spans or logs must meet [default: every request]
    #[arg(value_name = "EXPR", default_value = "", hide_default_value = true)]
    expression: String,
    /// Words that all occur in the text of one of a request's spans or logs
    #[arg(long, value_name = "WORDS", default_value = "", hide_default_value = true)]
    text: String,
    /// Those with a failed span
    #[arg(long)]
    failed: bool,
    /// Those that took longer, as in 300ms
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    slower_than: Option<Duration>,
    /// Those in which a service has a part
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Those of this time, as in 10m [default: all that are kept]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    since: Option<Duration>,
    /// List what comes from now on; with --since, after those of that time
    #[arg(long)]
    follow: bool,
    /// Show times in UTC, not in this machine's zone
    #[arg(long)]
    utc: bool,
    /// Colours [default: on a terminal, unless NO_COLOR is set]
    #[arg(long, value_name = "WHEN", default_value = "auto", hide_default_value = true)]
    color: Color,
    #[command(flatten)]
    target: Target,
}

pub(super) fn traces(options: Traces) -> Result<(), Failure> {
    let Traces { expression, text, failed, slower_than, service, since, follow, utc, color, target } = options;
    let slower_than = slower_than.map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    tail(&Tail {
        query: Asked { expression, text, ..Asked::default() },
        output: Verbosity::Tree,
        only_matching: false,
        since: if follow { since } else { since.or(Some(KEPT)) },
        past: !follow,
        at: At::Received,
        items: None,
        expect: None,
        within: None,
        as_rule: false,
        look: Look { utc, unfold: false },
        color,
        target,
        list: Some(List { failed, slower_than, service, listed: 0 }),
    })
}
