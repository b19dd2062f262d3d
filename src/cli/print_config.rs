//! `misaki print-config`: the effective config.

use crate::config::emit;

use super::{Failure, Format, Mode, PrintConfig, default, print, safe_json};

pub(super) fn print_config(options: &PrintConfig) -> Result<(), Failure> {
    let chosen = default::choose(&options.sources, &options.edge)?;
    chosen.plan()?;
    let tree = chosen.loaded.problems.effective(options.mode == Mode::Redacted);
    match options.format {
        Format::Yaml => print(&format!("{}\n", emit::yaml(&tree).trim_end_matches('\n'))),
        // Escaped line by line: JSON has line breaks only between values.
        Format::Json => {
            print(&emit::json(&tree).split('\n').map(|line| safe_json(line.as_bytes()) + "\n").collect::<String>())
        }
    }
}
