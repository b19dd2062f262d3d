//! `misaki validate`: everything that can be checked without opening a port or writing a file.

#[cfg(unix)]
mod recent;

use std::io::Write;

use clap::Args;

use super::{Failure, Sources, USAGE, rendered, runnable};

#[derive(Args)]
pub struct Validate {
    /// The config, as --config takes it
    #[arg(value_name = "FILE")]
    files: Vec<String>,
    #[command(flatten)]
    sources: Sources,
    /// Say what it would drop of what came in lately
    #[cfg(unix)]
    #[arg(long)]
    against_recent: bool,
    #[cfg(unix)]
    #[command(flatten)]
    target: super::local::Target,
}

pub fn validate(options: &Validate) -> Result<(), Failure> {
    let mut sources = options.sources.clone();
    sources.config.extend(options.files.iter().cloned());
    if sources.config.is_empty() && sources.set.is_empty() {
        let message = "error: nothing to validate: name a config\n".to_owned();
        return Err(Failure { status: USAGE, message });
    }
    let loaded = sources.load()?;
    #[cfg_attr(not(unix), allow(unused_variables, reason = "only a unix socket leads to a collector"))]
    let plan = runnable(&loaded)?;
    plan.check_unused(&loaded);
    // Warnings do not fail a config, but they are what this verb is for.
    let _ = std::io::stderr().write_all(rendered(&loaded).as_bytes());
    #[cfg(unix)]
    if options.against_recent {
        return recent::report(plan, &options.target);
    }
    Ok(())
}
