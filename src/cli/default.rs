//! Chooses the config: the named one, one in a usual place, or the embedded default.

mod completed;

use std::collections::BTreeSet;
use std::path::Path;

use crate::config::files::{self, Place};
use crate::config::secrecy::redacted_url;
use crate::config::{self, Level, Loaded, Outside, SET, Source, emit};
use crate::diagnostics::columns::without_errno;
use crate::service::machine;
use crate::service::plan::Plan;

use super::page::Page;
use super::{Credentials, Edge, Failure, Look, Sources, USAGE, environment, plan, right, runnable, safe, usage};

/// The embedded default: receives on both ports, and prints.
const DEFAULT: &str = include_str!("../../pipelines/debug.yaml");
/// The usual places of a collector's config.
const PLACES: [&str; 4] =
    ["/etc/misaki/config.yaml", "/etc/otelcol-contrib/config.yaml", "/etc/otelcol/config.yaml", "/etc/config.yaml"];

/// The maximum size of the files of `--token-file` and `--ca`.
const MOST: u64 = 1 << 20;

/// A loaded config and where it came from.
pub(super) struct Chosen {
    pub(super) loaded: Loaded,
    pub(super) origin: Origin,
    /// Names the option or variable behind a key of the generated source, and gives help.
    blame: Option<(Blame, &'static str)>,
}

type Blame = Box<dyn Fn(&str) -> String>;

impl Chosen {
    /// The plan. Errors in generated parts name the option or variable behind them.
    pub(super) fn plan(&self) -> Result<Plan, Failure> {
        plan(&self.loaded).map_err(|failure| self.blamed(failure))
    }

    /// The same, for a config that runs on another machine.
    pub(super) fn plan_elsewhere(&self) -> Result<Plan, Failure> {
        let plan = Plan::read(&self.loaded);
        plan.look_elsewhere(&self.loaded);
        right(&self.loaded, plan).map_err(|failure| self.blamed(failure))
    }

    /// The same, for a config that runs here.
    pub(super) fn runnable(&self) -> Result<Plan, Failure> {
        runnable(&self.loaded).map_err(|failure| self.blamed(failure))
    }

    fn blamed(&self, failure: Failure) -> Failure {
        let Some((blame, help)) = &self.blame else { return failure };
        let (mut page, mut help) = (Page::default(), (*help).to_owned());
        for problem in self.loaded.problems.sorted() {
            if let (Level::Error, Some(GENERATED)) = (problem.level, problem.place.map(|place| place.source)) {
                let key = problem.path.rsplit('.').next().unwrap_or_default();
                let text = format!("{}: {}", safe(&blame(key)), safe(&without_errno(&problem.message)));
                page.hang("error: ", &text);
                match key {
                    "ca_file" => help = "name a PEM file with the certificate of the CA".to_owned(),
                    // This help is about the proxy.
                    "endpoint" => help = problem.help.unwrap_or(help),
                    _ => {}
                }
            }
        }
        if page.out.is_empty() {
            return failure;
        }
        page.hang("help: ", &help);
        Failure { status: USAGE, message: page.out }
    }

    /// The sources of the config, as the user named them.
    pub(super) fn names(&self) -> Vec<String> {
        let embedded = matches!(self.origin, Origin::Embedded { .. }).then(|| "the embedded default".to_owned());
        let is_embedded = embedded.is_some();
        // `misaki status` may run in another directory.
        let absolute = |name: &str| {
            let file = Some(Path::new(name)).filter(|path| path.is_file());
            file.and_then(|path| std::path::absolute(path).ok()).map(|path| path.display().to_string())
        };
        let named = self.loaded.sources.iter().filter_map(|Source { name, text }| match name.as_str() {
            SET => Some(format!("{SET} {}", self.loaded.problems.redacted(text))),
            name => (!is_embedded).then(|| absolute(name).unwrap_or_else(|| name.to_owned())),
        });
        embedded.into_iter().chain(named).collect()
    }
}

/// The index of the source that is generated from an option or the environment, after the embedded default.
const GENERATED: u16 = 1;
const TO: &str = "write http(s)://HOST:4318 or grpc(s)://HOST:4317";

pub(super) enum Origin {
    /// Named on the command line, or found in one of the usual places.
    Named,
    /// Embedded, and the upstream it forwards to. `refused` is an upstream that is this collector itself.
    Embedded { forwards_to: Option<String>, refused: Option<String> },
}

pub(super) fn choose(sources: &Sources, edge: &Edge) -> Result<Chosen, Failure> {
    if !sources.config.is_empty() {
        return named(sources, &edge.credentials);
    }
    if let Some(to) = &edge.to {
        let chosen = forwarder(to, sources, edge)?;
        if !feeds_itself(&chosen.loaded) {
            return Ok(chosen);
        }
        return Ok(printing(edge, sources, Some(format!("--to {}", redacted_url(to)))));
    }
    if edge.print.is_some() {
        return Ok(printing(edge, sources, None));
    }
    if let Some(path) = PLACES.into_iter().find(|path| Path::new(path).is_file()) {
        return named(&Sources { config: vec![path.to_owned()], ..sources.clone() }, &edge.credentials);
    }
    if edge.credentials.ca.is_some() || edge.credentials.token_file.is_some() {
        return Err(usage("--ca and --token-file want an upstream: --to URL, or --config FILE"));
    }
    let upstream = given("ENDPOINT");
    let loaded = load(upstream.as_deref().map(forwarding_to), sources);
    let url = upstream.map(|upstream| redacted_url(&upstream));
    if url.is_some() && feeds_itself(&loaded) {
        let refused = url.map(|url| format!("{url} of OTEL_EXPORTER_OTLP_ENDPOINT"));
        return Ok(printing(edge, sources, refused));
    }
    let variable = |key: &str| {
        let name = match key {
            "ca_file" => "CERTIFICATE".to_owned(),
            key if ["timeout", "compression"].contains(&key) || key.ends_with("_endpoint") => key.to_uppercase(),
            "endpoint" => "ENDPOINT".to_owned(),
            _ => "HEADERS".to_owned(),
        };
        let name = format!("OTEL_EXPORTER_OTLP_{name}");
        // Headers are secret.
        let value = environment(&name).filter(|_| !name.ends_with("HEADERS"));
        let value = value.map(|value| format!("={}", redacted_url(&value)));
        format!("{name}{}", value.unwrap_or_default())
    };
    let blame = url.is_some().then(|| (Box::new(variable) as Blame, "unset it to print what arrives, or mend it"));
    Ok(Chosen { loaded, origin: Origin::Embedded { forwards_to: url, refused: None }, blame })
}

/// The embedded default that prints, in the forms that `--print` asks for.
fn printing(edge: &Edge, sources: &Sources, refused: Option<String>) -> Chosen {
    let loaded = load(edge.forms().map(|forms| exporting(Some(forms), edge.look, None)), sources);
    Chosen { loaded, origin: Origin::Embedded { forwards_to: None, refused }, blame: None }
}

/// The embedded default without any output.
pub(super) fn silent() -> Loaded {
    load(Some(exporting(None, Look::default(), Some("nop:"))), &Sources::default())
}

/// The config that the command line names.
pub(super) fn named(sources: &Sources, credentials: &Credentials) -> Result<Chosen, Failure> {
    let mut loaded = sources.load()?;
    completed::complete(&mut loaded, credentials, sources.place)?;
    Ok(Chosen { loaded, origin: Origin::Named, blame: None })
}

/// The content of the file that an option names.
fn option_file(option: &str, file: &str, place: Place) -> Result<String, Failure> {
    let bytes = files::read(Path::new(file), MOST, place);
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned()));
    text.map_err(|error| usage(format!("cannot read {option} {file}: {}", without_errno(&error))))
}

/// The embedded default that forwards to `to`, without a check that it is another process.
pub(super) fn forwarder(to: &str, sources: &Sources, edge: &Edge) -> Result<Chosen, Failure> {
    let (yaml, to) = edge_config(to, edge, sources.place)?;
    let loaded = load(Some(yaml), sources);
    let options =
        [("ca_file", "--ca", &edge.credentials.ca), ("Authorization", "--token-file", &edge.credentials.token_file)];
    let options =
        options.map(|(key, option, value)| (key, format!("{option} {}", value.as_deref().unwrap_or_default())));
    let url = format!("--to {to}");
    let blame =
        move |key: &str| options.iter().find(|(known, _)| *known == key).map_or(&url, |(_, option)| option).clone();
    let origin = Origin::Embedded { forwards_to: Some(to), refused: None };
    Ok(Chosen { loaded, origin, blame: Some((Box::new(blame), TO)) })
}

/// Whether its telemetry comes back to it. False for a config with errors.
fn feeds_itself(loaded: &Loaded) -> bool {
    let plan = Plan::read(loaded);
    !loaded.problems.has_errors() && !plan.loops().is_empty()
}

/// The embedded default, with `exporters` in place of its own. Its own are removed: unused ones would cause warnings.
fn load(exporters: Option<String>, sources: &Sources) -> Loaded {
    let bare = || {
        let (head, rest) = DEFAULT.split_once("exporters:\n")?;
        Some(format!("{head}{}", rest.get(rest.find("service:\n")?..)?))
    };
    let base = exporters.as_ref().and_then(|_| bare()).unwrap_or_else(|| DEFAULT.to_owned());
    let uris: Vec<String> = [base].into_iter().chain(exporters).map(|text| format!("yaml:{text}")).collect();
    // The loopback interface of a container is not reachable from outside.
    let host = if machine::is_container() { "0.0.0.0" } else { "localhost" };
    let lookup = |name: &str| environment(name).or_else(|| (name == "MISAKI_HOST").then(|| host.to_owned()));
    config::load_from(&uris, &sources.set, Outside { environment: &lookup, place: sources.place, is_elsewhere: false })
}

/// The config for `--to`, and the URL without secrets.
fn edge_config(to: &str, edge: &Edge, place: Place) -> Result<(String, String), Failure> {
    let shown = redacted_url(to);
    let (scheme, rest) = to.split_once("://").unwrap_or(("grpcs", to));
    let (exporter, endpoint, plain) = match scheme {
        "http" | "https" => ("otlp_http", to.to_owned(), scheme == "http"),
        "grpc" | "grpcs" => ("otlp_grpc", rest.to_owned(), scheme == "grpc"),
        _ => return Err(usage(format!("--to {shown}: write http://, https://, grpc:// or grpcs:// before the host"))),
    };
    if rest.starts_with(['/', ':']) || rest.is_empty() {
        return Err(usage(format!("--to {shown}: it names no host: {TO}")));
    }
    let mut headers = String::new();
    let Credentials { ca, token_file } = &edge.credentials;
    if let Some(file) = token_file {
        let token = option_file("--token-file", file, place)?;
        headers = format!(", headers: {{Authorization: {}}}", quoted(&format!("Bearer {}", token.trim())));
    }
    // Checked now: the first connection may come much later.
    ca.as_ref().map(|file| option_file("--ca", file, place)).transpose()?;
    let ca = ca.as_ref().map_or_else(String::new, |ca| format!(", ca_file: {}", quoted(ca)));
    let tls = format!("tls: {{insecure: {plain}{ca}}}");
    let exporter = format!("{exporter}: {{endpoint: {}, {tls}{headers}}}", quoted(&endpoint));
    Ok((exporting(edge.forms(), edge.look, Some(&exporter)), shown))
}

impl Edge {
    /// The form of each signal that `--print` asks for.
    fn forms(&self) -> Option<[&str; 3]> {
        self.print.as_deref().map(|print| [print; 3])
    }
}

/// The forms in which the embedded default prints logs, traces and metrics.
const FORMS: [&str; 3] = ["detailed", "detailed", "normal"];

/// Exporters and pipelines for the embedded default: `debug` in a form for each signal, a forwarder, or both.
fn exporting(forms: Option<[&str; 3]>, look: Look, forwarder: Option<&str>) -> String {
    let printed: BTreeSet<&str> = forms.into_iter().flatten().collect();
    let keys: String = look.keys().map(|key| format!(", {key}: true")).collect();
    let printers = printed.into_iter().map(|form| format!("debug/{form}: {{verbosity: {form}{keys}}}"));
    let exporters = printers.chain(forwarder.map(str::to_owned)).map(|exporter| format!("  {exporter}\n"));
    let mut yaml = format!("exporters:\n{}service:\n  pipelines:\n", exporters.collect::<String>());
    for (index, signal) in ["logs", "traces", "metrics"].into_iter().enumerate() {
        let printer = forms.and_then(|forms| forms.get(index).map(|form| format!("debug/{form}")));
        let forwarder = forwarder.and_then(|exporter| exporter.split(':').next()).map(str::to_owned);
        let names: Vec<_> = printer.into_iter().chain(forwarder).collect();
        yaml.push_str(&format!("    {signal}: {{exporters: [{}]}}\n", names.join(", ")));
    }
    yaml
}

/// One of the OpenTelemetry SDKs' environment variables, unless it is empty.
fn given(name: &str) -> Option<String> {
    environment(&format!("OTEL_EXPORTER_OTLP_{name}")).filter(|value| !value.is_empty())
}

/// The exporters that forward to `url`, with the settings of the SDKs' environment variables.
fn forwarding_to(url: &str) -> String {
    let protocol = given("PROTOCOL").unwrap_or_else(|| "http/protobuf".to_owned());
    let is_grpc = protocol == "grpc";
    let plain = url.starts_with("http://") || given("INSECURE").as_deref() == Some("true");
    let ca = given("CERTIFICATE").map(|ca| format!(", ca_file: {}", quoted(&ca))).unwrap_or_default();
    let mut settings = vec![format!("endpoint: {}", quoted(url)), format!("tls: {{insecure: {plain}{ca}}}")];
    if let Some(headers) = given("HEADERS") {
        let pairs = headers.split(',').filter_map(|pair| pair.split_once('='));
        let pairs = pairs.map(|(name, value)| format!("{}: {}", quoted(name.trim()), quoted(value.trim())));
        settings.push(format!("headers: {{{}}}", pairs.collect::<Vec<_>>().join(", ")));
    }
    settings.extend(given("COMPRESSION").map(|compression| format!("compression: {}", quoted(&compression))));
    let millis = given("TIMEOUT").and_then(|millis| millis.parse::<u64>().ok());
    settings.extend(millis.map(|millis| format!("timeout: {millis}ms")));
    if protocol == "http/json" {
        settings.push("encoding: json".to_owned());
    }
    for signal in if is_grpc { &[][..] } else { &["logs", "metrics", "traces"] } {
        let url = given(&format!("{}_ENDPOINT", signal.to_uppercase()));
        settings.extend(url.map(|url| format!("{signal}_endpoint: {}", quoted(&url))));
    }
    let name = if is_grpc { "otlp_grpc" } else { "otlp_http" };
    exporting(Some(FORMS), Look::default(), Some(&format!("{name}: {{{}}}", settings.join(", "))))
}

/// A YAML string without control characters, in which nothing is expanded.
pub(super) fn quoted(text: &str) -> String {
    let text = text.replace('$', "$$");
    if safe(&text) == text { format!("'{}'", text.replace('\'', "''")) } else { emit::escaped(&text) }
}
