//! `misaki print-config`: the config as it is understood.

use crate::config::emit;

use super::{Failure, Format, Mode, PrintConfig, default, plan, print};

pub fn print_config(options: &PrintConfig) -> Result<(), Failure> {
    let chosen = default::choose(&options.sources, &super::Edge::default())?;
    plan(&chosen.loaded)?;
    let tree = chosen.loaded.problems.effective(options.mode == Mode::Redacted);
    match options.format {
        Format::Yaml => print(&format!("{}\n", emit::yaml(&tree).trim_end_matches('\n'))),
        Format::Json => print(&format!("{}\n", emit::json(&tree))),
    }
}
