//! `misaki completions`: a completion script for a shell, generated from the command line's verbs and options.

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use super::{Failure, print};

const HOW: &str = "Install it:
  bash: misaki completions bash > /etc/bash_completion.d/misaki
  zsh:  misaki completions zsh > /usr/share/zsh/site-functions/_misaki
  fish: misaki completions fish > /etc/fish/completions/misaki.fish";

#[derive(Args)]
#[command(after_help = HOW)]
pub(super) struct Completions {
    shell: Shell,
}

pub(super) fn completions(options: &Completions) -> Result<(), Failure> {
    let mut script = Vec::new();
    generate(options.shell, &mut super::Command::command(), "misaki", &mut script);
    print(&String::from_utf8_lossy(&script))
}
