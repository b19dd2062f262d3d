//! `misaki completions`: a script for the shell, from what the command line itself says of its verbs and options.

use std::fmt::Write;

use clap::{Args, CommandFactory, ValueEnum};

use super::{Failure, print};

const HOW: &str = "\
  bash: misaki completions bash > /etc/bash_completion.d/misaki
  zsh:  misaki completions zsh > /usr/share/zsh/site-functions/_misaki
  fish: misaki completions fish > /etc/fish/completions/misaki.fish";

#[derive(Args)]
#[command(after_help = HOW)]
pub struct Completions {
    shell: Shell,
}

#[derive(Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// What may follow a verb: `misaki queue list`.
struct Verb {
    path: String,
    /// Verbs, options and the values of arguments.
    words: Vec<String>,
    /// Options that want a value, and which; none means anything, such as a file.
    options: Vec<(String, Vec<String>)>,
}

pub fn completions(options: &Completions) -> Result<(), Failure> {
    let mut verbs = Vec::new();
    gather(&super::Command::command(), "misaki", &mut verbs);
    print(&match options.shell {
        Shell::Bash => {
            format!(
                "_misaki() {{\n    local words='' word verb=misaki cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}}\n    \
                 for word in \"${{COMP_WORDS[@]:1:COMP_CWORD-1}}\"; do\n{}    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n}}\n\
                 complete -o default -F _misaki misaki\n",
                cases(&verbs)
            )
        }
        Shell::Zsh => format!(
            "#compdef misaki\n_misaki() {{\n    local wanted='' word verb=misaki prev=${{words[CURRENT-1]}}\n    \
             for word in ${{words[2,CURRENT-1]}}; do\n{}    if [[ -n $wanted ]]; then compadd -- ${{=wanted}}; else _files; fi\n}}\n\
             compdef _misaki misaki\n",
            cases(&verbs).replace("words=", "wanted=")
        ),
        Shell::Fish => fish(&verbs),
    })
}

fn gather(command: &clap::Command, path: &str, verbs: &mut Vec<Verb>) {
    let mut verb = Verb { path: path.to_owned(), words: vec!["--help".to_owned()], options: Vec::new() };
    for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
        let values = argument.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
        match argument.get_long() {
            Some(long) => {
                verb.words.push(format!("--{long}"));
                if argument.get_action().takes_values() {
                    verb.options.push((format!("--{long}"), values));
                }
            }
            None => verb.words.extend(values),
        }
    }
    verb.words.extend(command.get_subcommands().map(|inner| inner.get_name().to_owned()));
    verbs.push(verb);
    for inner in command.get_subcommands() {
        gather(inner, &format!("{path} {}", inner.get_name()), verbs);
    }
}

/// What bash and zsh read in the same way: which verb it is, then what may follow.
fn cases(verbs: &[Verb]) -> String {
    let mut out = "        case \"$verb $word\" in\n".to_owned();
    for Verb { path, .. } in verbs.iter().skip(1) {
        let _ = writeln!(out, "            '{path}') verb='{path}' ;;");
    }
    out.push_str("        esac\n    done\n    case $verb in\n");
    for Verb { path, words, .. } in verbs {
        let _ = writeln!(out, "        '{path}') words='{}' ;;", words.join(" "));
    }
    out.push_str("    esac\n    case \"$verb $prev\" in\n");
    for Verb { path, options, .. } in verbs {
        for (option, values) in options {
            let _ = writeln!(out, "        '{path} {option}') words='{}' ;;", values.join(" "));
        }
    }
    out + "    esac\n"
}

fn fish(verbs: &[Verb]) -> String {
    let mut out = String::new();
    for Verb { path, words, options } in verbs {
        let condition = match path.split(' ').nth(1) {
            None => "__fish_use_subcommand".to_owned(),
            Some(_) => {
                let seen = path.split(' ').skip(1).map(|word| format!("__fish_seen_subcommand_from {word}"));
                seen.collect::<Vec<_>>().join("; and ")
            }
        };
        for word in words {
            let wants = options.iter().find(|(option, _)| option == word).map(|(_, values)| values);
            let line = match (word.strip_prefix("--"), wants) {
                (Some(long), Some(values)) if values.is_empty() => format!("-l {long} -r"),
                (Some(long), Some(values)) => format!("-l {long} -xa '{}'", values.join(" ")),
                (Some(long), None) => format!("-l {long}"),
                (None, _) => format!("-a {word}"),
            };
            let _ = writeln!(out, "complete -c misaki -n '{condition}' {line}");
        }
    }
    out
}
