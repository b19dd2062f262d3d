//! `misaki -- COMMAND…`: runs a program with its own collector, and shows its requests on stderr. The streams, signals
//! and exit status of the program stay the same.

mod metrics;

use std::ffi::OsString;
use std::io::{ErrorKind, IsTerminal};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;
use tokio::signal::unix::{Signal as Heard, SignalKind, signal};
use tokio::task::JoinSet;

use crate::config;
use crate::diagnostics::log;
use crate::inspect::Inspection;
use crate::network::workers::Workers;
use crate::service;

use super::local::Target;
use super::{Edge, FAILED, Failure, block_on, environment, failed, run, runnable, safe, ui};
use metrics::Metrics;

/// The config of that collector. The system chooses the ports; `metrics` shows metrics.
const CONFIG: &str = r#"yaml:
receivers:
  otlp: {protocols: {grpc: {endpoint: "127.0.0.1:0"}, http: {endpoint: "127.0.0.1:0"}}}
processors: {trace_context: }
exporters:
  debug: {verbosity: tree, output_paths: [stderr]}
  nop:
service:
  telemetry: {metrics: {level: none}, logs: {level: warn}}
  pipelines:
    logs: {receivers: [otlp], processors: [trace_context], exporters: [debug]}
    traces: {receivers: [otlp], exporters: [debug]}
    metrics: {receivers: [otlp], exporters: [nop]}
"#;

/// Time for the last requests of the program to arrive, and then for the output to be printed.
const ARRIVAL: Duration = Duration::from_millis(50);
const DRAIN: Duration = Duration::from_secs(1);

/// The batch delays of SDKs in milliseconds, which are seconds by default: people look at each request. A group is set
/// only if none of it is: some SDKs refuse to start with an interval that is shorter than its timeout.
const DELAYS: [&[(&str, &str)]; 3] = [
    &[("OTEL_BSP_SCHEDULE_DELAY", "200")],
    &[("OTEL_BLRP_SCHEDULE_DELAY", "200")],
    &[("OTEL_METRIC_EXPORT_INTERVAL", "5000"), ("OTEL_METRIC_EXPORT_TIMEOUT", "4000")],
];

/// Exit statuses, as in shells.
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;
const SIGNALLED: i32 = 128;

/// Signals to pass on. If the flag is set, a key of the terminal sends the signal, which then reaches the program
/// directly.
const SIGNALS: [(SignalKind, Signal, bool); 6] = [
    (SignalKind::terminate(), Signal::TERM, false),
    (SignalKind::hangup(), Signal::HUP, false),
    (SignalKind::user_defined1(), Signal::USR1, false),
    (SignalKind::user_defined2(), Signal::USR2, false),
    (SignalKind::interrupt(), Signal::INT, true),
    (SignalKind::quit(), Signal::QUIT, true),
];

/// Runs the program, and with `has_page` a page beside it. The failure has its exit status, or 128 plus the number of
/// the signal that ended it.
pub(super) fn command(
    words: &[OsString],
    mut settings: Vec<String>,
    edge: &Edge,
    has_page: bool,
) -> Result<(), Failure> {
    let Some((program, arguments)) = words.split_first() else { return Ok(()) };
    settings.splice(..0, edge.look.keys().map(|key| format!("exporters.debug.{key}=true")));
    if let Some(print) = &edge.print {
        let form = format!("exporters.debug.verbosity={print}");
        settings.splice(..0, [form, "service.pipelines.metrics.exporters=[debug]".to_owned()]);
    } else if has_page {
        settings.splice(..0, ["logs", "traces"].map(|signal| format!("service.pipelines.{signal}.exporters=[nop]")));
    }
    let loaded = config::load(&[CONFIG.to_owned()], &settings, &environment);
    let plan = runnable(&loaded)?;
    log::install(plan.telemetry.logs.level, plan.telemetry.logs.encoding);
    let status = block_on(async {
        let workers = Workers::start(1).map_err(|error| failed(format!("cannot start the workers: {error}")))?;
        let mut running = service::start(&plan, Arc::new(workers)).await?;
        let http = running.addresses.iter().find(|(protocol, _)| *protocol == "http");
        let address = http.and_then(|(_, address)| *address).expect("the config above names a port of this machine");
        let name = format!("misaki -- {}", program.to_string_lossy());
        let inspection = run::inspection(&plan, vec![name], &running);
        let page = if has_page { Some(show(inspection.as_ref()).await?) } else { None };
        let viewers = inspection.as_ref().filter(|_| edge.print.is_none() && !has_page);
        let viewers = viewers.map(|inspection| &inspection.watch);
        let mut metrics = Metrics::new(viewers, &running, edge.look);
        let mut command = Command::new(program);
        command.args(arguments);
        equip(&mut command, &format!("http://{address}"));
        // Registered before the program starts, to miss no signal.
        let signals = signals()?;
        let mut passing = JoinSet::new();
        let mut child = command.spawn().map_err(|error| not_started(program, &error))?;
        let pid = child.id().and_then(|id| Pid::from_raw(id as i32)).expect("it has not been waited for");
        for (mut heard, number, has_it) in signals {
            passing.spawn(async move {
                while heard.recv().await.is_some() {
                    if !has_it {
                        // Fails if the program has just ended.
                        let _ = kill_process(pid, number);
                    }
                }
            });
        }
        let ended = tokio::select! {
            ended = child.wait() => ended,
            never = metrics.watch() => match never {},
        };
        passing.shutdown().await;
        tokio::time::sleep(ARRIVAL).await;
        if page.is_none() {
            running.drain(DRAIN).await;
            metrics.end();
        }
        if running.intake() == (0, 0) {
            let text = "misaki: no telemetry came; has the program an OpenTelemetry SDK, and does it shut it down?\n";
            log::write(text);
        }
        if let Some(mut page) = page {
            log::write("misaki: the program has ended; the page stays until Ctrl-C\n");
            page.until(&mut ui::Signals::new()?).await?;
            running.drain(DRAIN).await;
        }
        ended.map_err(|error| failed(format!("cannot wait for the program: {error}")))
    })?;
    match code(status) {
        0 => Ok(()),
        status => Err(Failure { status, message: String::new() }),
    }
}

/// Serves a page of what the program sends.
async fn show(inspection: Option<&Inspection>) -> Result<ui::Page, Failure> {
    let inspection = inspection.ok_or_else(|| failed("the page needs the local socket, which is not open"))?;
    let mut page = ui::Page::serve(ui::ANYWHERE).await?;
    page.follow(Target::at(inspection.path()));
    log::write(format!("misaki: the page: {}\n", page.address));
    Ok(page)
}

/// The signals to pass on, each with its number, and whether the program has it already.
fn signals() -> Result<Vec<(Heard, Signal, bool)>, Failure> {
    let is_terminal = std::io::stdin().is_terminal();
    let heard = SIGNALS.map(|(kind, number, of_a_key)| Ok((signal(kind)?, number, of_a_key && is_terminal)));
    let heard: std::io::Result<Vec<_>> = heard.into_iter().collect();
    heard.map_err(|error| failed(format!("cannot listen for signals: {error}")))
}

/// Points the SDKs in a program at `endpoint`. Settings of the user stay.
fn equip(command: &mut Command, endpoint: &str) {
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
    let is_unset = |name: &str| std::env::var_os(name).is_none_or(|value| value.is_empty());
    for name in ["TRACES", "METRICS", "LOGS"] {
        // It would override the variable for all signals.
        command.env_remove(format!("OTEL_EXPORTER_OTLP_{name}_ENDPOINT"));
        let exporter = format!("OTEL_{name}_EXPORTER");
        if is_unset(&exporter) {
            command.env(exporter, "otlp");
        }
    }
    let unset = DELAYS.into_iter().filter(|group| group.iter().all(|(name, _)| is_unset(name)));
    command.envs(unset.flatten().copied());
}

fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| Some(SIGNALLED + status.signal()?));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(FAILED)
}

fn not_started(program: &OsString, error: &std::io::Error) -> Failure {
    let name = safe(&program.to_string_lossy());
    let status = if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE };
    Failure { status, message: format!("error: cannot run {name}: {error}\n") }
}
