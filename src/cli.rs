//! The command line. Each verb is a file; without a verb, `run` runs.

#[cfg(unix)]
mod command;
mod completions;
mod components;
mod default;
mod doctor;
#[cfg(unix)]
mod local;
#[cfg_attr(not(unix), expect(dead_code, reason = "only doctor prints a page there"))]
mod page;
mod print_config;
mod queue;
mod run;
mod send;
#[cfg(unix)]
mod status;
#[cfg(unix)]
mod tail;
mod test;
#[cfg(unix)]
mod traces;
#[cfg(unix)]
mod ui;
mod validate;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::config::files::Place;
use crate::config::nearest::nearest;
use crate::config::{self, Loaded, Outside};
use crate::diagnostics::columns::without_errno;
use crate::diagnostics::escape::{put_safe_json, safe};
use crate::diagnostics::log;
use crate::exporters::debug::layout::{Layout, Stream};
use crate::network::ports::CannotStart;
use crate::service::plan::Plan;

/// Exit statuses (sysexits.h for the last two).
const FAILED: u8 = 1;
const USAGE: u8 = 64;
const CONFIG: u8 = 78;

const WITHOUT_CONFIG: &str = "\
Without a config it receives OTLP on ports 4317 (gRPC) and 4318 (HTTP) and
prints what arrives; with --to it forwards. Configs are the Go collector's.
SIGHUP reads the config again; a wrong one changes nothing.";

const USAGES: &str = "misaki [OPTIONS] [VERB]\n       misaki [--print FORM] [--set KEY=VALUE] [--ui] -- COMMAND...";

/// An edge collector for OpenTelemetry
#[derive(Parser)]
#[command(name = "misaki", version, disable_help_subcommand = true, after_help = WITHOUT_CONFIG)]
#[command(override_usage = USAGES, subcommand_value_name = "VERB", subcommand_help_heading = "Verbs")]
struct Command {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    run: Run,
    /// Run a program, and show its requests on stderr: as trees, or as --print says
    #[cfg(unix)]
    #[arg(last = true, value_name = "COMMAND", conflicts_with_all = ["config", "to"])]
    command: Vec<OsString>,
    /// Show the requests of that program on a local page, as `misaki ui` does
    #[cfg(unix)]
    #[arg(long, requires = "command")]
    ui: bool,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the collector (the default)
    Run(Run),
    /// Check a config, and say everything that is wrong with it
    Validate(validate::Validate),
    /// List the components there are
    Components,
    /// Print the config as it is understood, defaults filled in
    PrintConfig(PrintConfig),
    /// Show what passes through the running collector
    #[cfg(unix)]
    Tail(tail::Tail),
    /// List the requests that passed: how long, how many spans, what failed or was slow
    #[cfg(unix)]
    Traces(traces::Traces),
    /// Show what passes through the running collector on a local page
    #[cfg(unix)]
    Ui(ui::Ui),
    /// Say how the running collector is
    #[cfg(unix)]
    Status(status::Status),
    /// Try every hop to the upstreams of a config, its ports, its disk
    Doctor(doctor::Doctor),
    /// Send telemetry to a collector, made up or recorded
    Send(send::Send),
    /// Run the test cases of a config, without a port
    Test(test::Test),
    /// Look at queues on disk, and rescue what is in them
    Queue(queue::Queue),
    /// Print a script that completes commands in a shell
    Completions(completions::Completions),
}

#[derive(Args)]
struct Run {
    #[command(flatten)]
    sources: Sources,
    #[command(flatten)]
    edge: Edge,
    /// Threads that serve [default: half the cores, 1 to 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    workers: Option<u8>,
}

#[derive(Args, Clone, Default)]
struct Sources {
    /// A file, file:PATH, env:NAME or yaml:TEXT; later ones win
    #[arg(long, value_name = "URI")]
    config: Vec<String>,
    /// One value, as in processors.batch.timeout=2s
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Accepted for the Go collector's sake; there are no gates here
    #[arg(long, value_name = "GATES", hide = true)]
    feature_gates: Vec<String>,
    /// Whether a file may also be a pipe: not at a reload, because a pipe can be read only once.
    #[arg(skip)]
    place: Place,
    /// Whether the config runs on another machine.
    #[arg(skip)]
    is_elsewhere: bool,
}

/// Options of an edge collector, mostly in place of a config.
#[derive(Args, Clone, Default)]
struct Edge {
    /// Forward to http(s)://HOST:4318 or grpc(s)://HOST:4317
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    to: Option<String>,
    #[command(flatten)]
    credentials: Credentials,
    /// Print in this form; with --to, print too
    #[arg(short = 'o', long, visible_alias = "output", value_name = "FORM", conflicts_with = "config")]
    #[arg(value_parser = PossibleValuesParser::new(VERBOSITIES).map(|form| form.to_lowercase()), ignore_case = true)]
    print: Option<String>,
    #[command(flatten)]
    look: Look,
}

/// How lines and trees are shown.
#[derive(Args, Clone, Copy, Default)]
struct Look {
    /// Show times of lines and trees in UTC, not in this machine's zone
    #[arg(long)]
    utc: bool,
    /// Give each span of a tree a row of its own
    #[arg(long)]
    unfold: bool,
}

impl Look {
    /// The keys of `debug` that say it.
    fn keys(self) -> impl Iterator<Item = &'static str> {
        [("utc", self.utc), ("unfold", self.unfold)].into_iter().filter(|(_, is_set)| *is_set).map(|(key, _)| key)
    }
}

/// Credentials for the upstream, which a config may leave out.
#[derive(Args, Clone, Default)]
struct Credentials {
    /// Trust the CA in this file
    #[arg(long, value_name = "FILE")]
    ca: Option<String>,
    /// Send the bearer token in this file
    #[arg(long, value_name = "FILE")]
    token_file: Option<String>,
}

/// The forms that `--print` takes, which are those of the `debug` exporter.
const VERBOSITIES: [&str; 6] = ["basic", "normal", "detailed", "line", "json", "tree"];

#[derive(Args)]
struct PrintConfig {
    #[command(flatten)]
    sources: Sources,
    #[command(flatten)]
    edge: Edge,
    /// What to do with secrets
    #[arg(long, value_name = "MODE", default_value = "redacted")]
    mode: Mode,
    #[arg(long, value_name = "FORMAT", default_value = "yaml")]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Mode {
    Redacted,
    Unredacted,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Format {
    Yaml,
    Json,
}

/// The exit status of a verb that fails, and the text for stderr.
struct Failure {
    status: u8,
    message: String,
}

pub fn main() -> ExitCode {
    let command = match Command::try_parse_from(spelt(std::env::args_os().collect())) {
        Ok(command) => command,
        Err(error) => {
            // The message quotes arguments, which may contain control characters: parse them again, escaped.
            let words = spelt(std::env::args_os().map(|word| safe(&word.to_string_lossy()).into()).collect());
            let mut error = Command::try_parse_from(words).err().unwrap_or(error);
            // clap suggests `--` before an unknown argument, but here a command to run follows `--`.
            error.remove(ContextKind::Suggested);
            let status = if error.use_stderr() { USAGE } else { 0 };
            // If the terminal is closed, the exit status stays the same.
            let _ = error.print();
            if let Some(words) = meant(&error) {
                log::write(format!("\nDid you mean `misaki {words}`?\n"));
            }
            return ExitCode::from(status);
        }
    };
    let _end = log::End;
    let outcome = match command.verb {
        #[cfg(unix)]
        None if !command.command.is_empty() => {
            command::command(&command.command, command.run.sources.set, &command.run.edge, command.ui)
        }
        None if std::env::args_os().next_back().is_some_and(|last| last == "--") => {
            Err(usage("a command to run is missing behind `--`, as in `misaki -- python3 app.py`"))
        }
        None => run::run(command.run),
        Some(Verb::Run(options)) => run::run(options),
        Some(Verb::Validate(options)) => validate::validate(&options),
        Some(Verb::Components) => print(&components::list()),
        Some(Verb::PrintConfig(options)) => print_config::print_config(&options),
        #[cfg(unix)]
        Some(Verb::Tail(options)) => tail::tail(&options),
        #[cfg(unix)]
        Some(Verb::Traces(options)) => traces::traces(options),
        #[cfg(unix)]
        Some(Verb::Ui(options)) => ui::ui(&options),
        #[cfg(unix)]
        Some(Verb::Status(options)) => status::status(&options),
        Some(Verb::Doctor(options)) => doctor::doctor(&options),
        Some(Verb::Send(options)) => send::send(&options),
        Some(Verb::Test(options)) => test::test(&options),
        Some(Verb::Queue(options)) => queue::queue(&options),
        Some(Verb::Completions(options)) => completions::completions(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { status, message }) => {
            log::write(message);
            ExitCode::from(status)
        }
    }
}

/// Turns `misaki help VERB` and `misaki version`, which other programs have, into options.
fn spelt(mut words: Vec<OsString>) -> Vec<OsString> {
    let option = match words.get(1).and_then(|word| word.to_str()) {
        Some("help") => "--help",
        Some("version") => "--version",
        _ => return words,
    };
    words.remove(1);
    words.push(option.into());
    words
}

/// Names of verbs in other programs, and words for their output, each with the command here.
const ELSEWHERE: [(&[&str], &str); 6] = [
    (&["tree", "trace"], "tail -o tree"),
    (&["logs", "log", "watch"], "tail"),
    (&["bill", "stats", "metrics"], "status"),
    (&["top"], "status --watch"),
    (&["run", "start", "serve"], "--config FILE"),
    (&["check", "lint"], "validate"),
];

/// The command that an unknown argument suggests: a config, a verb, or an option of the verb.
fn meant(error: &clap::Error) -> Option<String> {
    let invalid = error.get(ContextKind::InvalidArg).or_else(|| error.get(ContextKind::InvalidSubcommand));
    let Some(ContextValue::String(word)) = invalid else { return None };
    let words: Vec<String> = std::env::args_os().skip(1).map(|word| safe(&word.to_string_lossy())).collect();
    let is_first = words.first() == Some(word);
    let file = if word == "-c" { words.get(1)? } else { word };
    if is_first && (word == "-c" || [".yaml", ".yml"].iter().any(|ending| file.ends_with(ending))) {
        return Some(format!("--config {file}"));
    }
    let called = |(other, _): &&(&[&str], &str)| other.contains(&word.as_str());
    if let Some((_, ours)) = ELSEWHERE.iter().find(called).filter(|_| is_first) {
        return Some((*ours).to_owned());
    }
    let command = Command::command();
    let verb = words.first().and_then(|first| command.find_subcommand(first));
    if let Some(verb) = verb.filter(|_| error.kind() == ErrorKind::UnknownArgument && !word.starts_with('-')) {
        let option = option_of(word);
        let option_first = |known: &String| if known == word { format!("--{option} {known}") } else { known.clone() };
        let has_option = verb.get_opts().any(|known| known.get_long() == Some(option));
        return has_option.then(|| words.iter().map(option_first).collect::<Vec<_>>().join(" "));
    }
    let verbs = command.get_subcommands().map(clap::Command::get_name);
    is_first.then(|| nearest(word, verbs))?.map(str::to_owned)
}

/// The option whose value an argument looks like.
fn option_of(word: &str) -> &'static str {
    match word {
        _ if word.bytes().all(|byte| byte.is_ascii_digit()) => "pid",
        _ if word.ends_with(".sock") => "socket",
        _ if word.contains("://") => "to",
        _ => "config",
    }
}

fn failed(message: impl std::fmt::Display) -> Failure {
    Failure { status: FAILED, message: format!("error: {}\n", safe(&without_errno(&message.to_string()))) }
}

fn usage(message: impl std::fmt::Display) -> Failure {
    Failure { status: USAGE, message: format!("error: {}\n", safe(&message.to_string())) }
}

impl From<CannotStart> for Failure {
    fn from(CannotStart { why, help }: CannotStart) -> Failure {
        let mut failure = failed(why);
        if let Some(help) = help {
            let help = help.lines().map(safe).collect::<Vec<_>>().join("\n");
            failure.message.push_str(&format!("  help: {help}\n"));
        }
        failure
    }
}

/// JSON on one line, for a terminal.
fn safe_json(json: &[u8]) -> String {
    let mut out = Vec::new();
    put_safe_json(&mut out, json);
    String::from_utf8_lossy(&out).into_owned()
}

/// Runs the work of a verb on its own runtime. A file that hangs or a slow DNS lookup does not delay the end.
fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failed(format!("cannot start: {error}")))?;
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    result
}

/// Writes to stdout. A reader that has left is no error.
fn print(text: &str) -> Result<(), Failure> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure { status: FAILED, message: format!("cannot write to stdout: {error}\n") })
        }
        _ => Ok(()),
    }
}

/// Writes to stdout. False if its reader has left.
fn put(out: &[u8]) -> Result<bool, Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(out).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(failed(format!("cannot write to stdout: {error}"))),
        Ok(()) => Ok(true),
    }
}

impl Sources {
    fn load(&self) -> Result<Loaded, Failure> {
        for set in &self.set {
            if !set.contains('=') {
                return Err(usage(format!("invalid argument \"{set}\" for --set: missing equal sign")));
            }
        }
        let (place, is_elsewhere) = (self.place, self.is_elsewhere);
        Ok(config::load_from(&self.config, &self.set, Outside { environment: &environment, place, is_elsewhere }))
    }
}

/// The value of an environment variable. Bytes that are not UTF-8 are replaced.
fn environment(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// The plan of a config; the failure shows all errors.
fn plan(loaded: &Loaded) -> Result<Plan, Failure> {
    right(loaded, Plan::read(loaded))
}

/// The same for a config that runs here: also checks the files and addresses that it names.
fn runnable(loaded: &Loaded) -> Result<Plan, Failure> {
    let plan = Plan::read(loaded);
    plan.look(loaded);
    right(loaded, plan)
}

fn right(loaded: &Loaded, plan: Plan) -> Result<Plan, Failure> {
    if loaded.problems.has_errors() {
        return Err(Failure { status: CONFIG, message: rendered(loaded) });
    }
    Ok(plan)
}

fn rendered(loaded: &Loaded) -> String {
    loaded.problems.render(&loaded.sources, Layout::of(Stream::Stderr).colour)
}
