//! `misaki validate`: everything that can be checked without opening a port or a file of data.

use std::io::Write;

use super::{Failure, Sources, USAGE, plan, rendered};

pub fn validate(sources: &Sources) -> Result<(), Failure> {
    if sources.config.is_empty() && sources.set.is_empty() {
        let message = "error: nothing to validate: name a config with --config\n".to_owned();
        return Err(Failure { status: USAGE, message });
    }
    let loaded = sources.load()?;
    plan(&loaded)?;
    // Warnings do not fail a config, but they are what this verb is for.
    let _ = std::io::stderr().write_all(rendered(&loaded).as_bytes());
    Ok(())
}
