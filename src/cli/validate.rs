//! `misaki validate`: checks a config without opening a port or writing a file.

mod fix;
#[cfg(unix)]
mod recent;

use clap::Args;

use crate::config::source::file_of;
use crate::config::{Level, Loaded, ON_THIS_MACHINE, SET};
use crate::diagnostics::columns::counted;
use crate::diagnostics::log;

use super::{Credentials, Failure, Sources, default, print, rendered, safe, usage};

#[derive(Args)]
pub(super) struct Validate {
    /// The config, as --config takes it
    #[arg(value_name = "FILE")]
    files: Vec<String>,
    #[command(flatten)]
    sources: Sources,
    #[command(flatten)]
    credentials: Credentials,
    /// Check it for another machine: look for no file, directory or socket that it names
    #[arg(long)]
    elsewhere: bool,
    /// Rewrite what older collectors wrote: names and keys that are gone; comments and layout stay
    #[arg(long)]
    fix: bool,
    /// Where --fix writes, in place of the file; - is stdout
    #[arg(short, long, value_name = "FILE", requires = "fix")]
    output: Option<String>,
    /// Say what it would drop of what came in lately
    #[cfg(unix)]
    #[arg(long)]
    against_recent: bool,
    #[cfg(unix)]
    #[command(flatten)]
    target: super::local::Target,
}

pub(super) fn validate(options: &Validate) -> Result<(), Failure> {
    let mut sources = options.sources.clone();
    sources.config.extend(options.files.iter().cloned());
    if sources.config.is_empty() && sources.set.is_empty() {
        return Err(usage("nothing to validate: name a config"));
    }
    sources.is_elsewhere = options.elsewhere;
    if options.fix {
        let file = if let [uri] = sources.config.as_slice() { file_of(uri) } else { None };
        let file = file.ok_or_else(|| usage("--fix rewrites one file: name only that"))?;
        match fix::fix(file, options.output.as_deref())? {
            Some(written) => sources.config = vec![written],
            None => return Ok(()),
        }
    }
    let chosen = default::named(&sources, &options.credentials)?;
    let plan = match options.elsewhere {
        true => chosen.plan_elsewhere(),
        false => chosen.runnable(),
    };
    let plan = plan.map_err(|failure| helped(failure, &chosen.loaded))?;
    let loaded = chosen.loaded;
    plan.check_unused(&loaded);
    // Warnings do not fail the config, but this verb shows them.
    log::write(rendered(&loaded));
    fix::offer(&loaded).into_iter().for_each(log::write);
    #[cfg(unix)]
    if options.against_recent {
        return recent::report(plan, &options.target);
    }
    let (pipelines, components) =
        (counted(plan.pipelines.len(), "pipeline"), counted(plan.in_use().len(), "component"));
    let names: Vec<_> = loaded.sources.iter().map(|source| safe(&source.name)).filter(|name| name != SET).collect();
    print(&format!("{} is valid: {pipelines}, {components}\n", names.join(", ")))
}

/// A refusal, with what else to try.
fn helped(mut failure: Failure, loaded: &Loaded) -> Failure {
    let errors = loaded.problems.sorted().into_iter().filter(|problem| problem.level == Level::Error);
    if errors.map(|problem| problem.message).any(|message| message.ends_with(ON_THIS_MACHINE)) {
        failure.message.push_str("help: if it runs on another machine, check it with --elsewhere\n");
    }
    failure.message.extend(fix::offer(loaded));
    failure
}
