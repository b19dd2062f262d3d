//! `misaki print-config`: the config as it is understood.

use crate::config::emit;

use super::{Failure, Format, Mode, PrintConfig, default, print, safe_json};

pub fn print_config(options: &PrintConfig) -> Result<(), Failure> {
    let chosen = default::choose(&options.sources, &options.edge)?;
    chosen.plan()?;
    let tree = chosen.loaded.problems.effective(options.mode == Mode::Redacted);
    match options.format {
        Format::Yaml => print(&format!("{}\n", emit::yaml(&tree).trim_end_matches('\n'))),
        // Line by line: a line break stands between the values only.
        Format::Json => {
            print(&emit::json(&tree).split('\n').map(|line| safe_json(line.as_bytes()) + "\n").collect::<String>())
        }
    }
}
