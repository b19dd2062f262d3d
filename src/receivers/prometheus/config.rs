//! The settings: Prometheus' own, under `config`, with the defaults of `global` for each job.

mod durations;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::config::section::{Secret, Section};
use crate::network::proxy::Proxy;
use crate::network::tls::{ClientTls, Identity, Pem, Version, Versions};
use crate::otlp::base64;

pub(super) use durations::{duration, duration_text};

use super::labels::Owned;
use super::relabel::{self, Rule};
use super::target::Group;
use super::text::Format;

/// The largest page that is read without a limit in the config.
const BODY: u64 = 32 << 20;

#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(super) jobs: Vec<Arc<Job>>,
    pub(super) initial_scrape_offset: Duration,
    pub(super) scrapes_on_shutdown: bool,
}

/// One of `scrape_configs`.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) name: String,
    pub(super) honor_labels: bool,
    pub(super) honor_timestamps: bool,
    pub(super) track_timestamps_staleness: bool,
    pub(super) params: Vec<(String, Vec<String>)>,
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    pub(super) metrics_path: String,
    pub(super) scheme: String,
    pub(super) limits: Limits,
    /// Whether names may have letters, digits and underscores only.
    pub(super) is_legacy: bool,
    pub(super) has_extra_metrics: bool,
    pub(super) trims_suffixes: bool,
    pub(super) fallback: Format,
    pub(super) relabel: Vec<Rule>,
    pub(super) metric_relabel: Vec<Rule>,
    pub(super) external_labels: Arc<Owned>,
    pub(super) groups: Vec<Group>,
    pub(super) files: Vec<Files>,
    pub(super) client: Client,
}

/// The files of `file_sd_configs`.
#[derive(Clone, Debug)]
pub(super) struct Files {
    pub(super) patterns: Vec<PathBuf>,
    pub(super) refresh_interval: Duration,
}

/// 0 means none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limits {
    pub(super) body: u64,
    pub(super) samples: u64,
    pub(super) targets: u64,
    pub(super) labels: u64,
    pub(super) label_name_length: u64,
    pub(super) label_value_length: u64,
}

/// How targets are asked.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) tls: ClientTls,
    pub(super) proxy: Option<Proxy>,
    pub(super) headers: HeaderMap,
    /// A file with a password or token, read for each scrape, and what stands before its content.
    pub(super) secret_file: Option<(PathBuf, Authorization)>,
    pub(super) follows_redirects: bool,
}

/// How `Authorization` is made of a secret.
#[derive(Clone, Debug)]
pub(super) enum Authorization {
    Basic { user: String },
    Of { scheme: String },
}

impl Authorization {
    pub(super) fn header(&self, secret: &str) -> Option<HeaderValue> {
        let text = match self {
            Authorization::Of { scheme } => format!("{scheme} {secret}").into_bytes(),
            Authorization::Basic { user } => {
                let mut text = b"Basic ".to_vec();
                base64::put_padded(format!("{user}:{secret}").as_bytes(), &mut text);
                text
            }
        };
        let mut value = HeaderValue::try_from(text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// Other ways to find targets, which are not supported.
const DISCOVERIES: &[&str] = &[
    "aws_sd_configs",
    "azure_sd_configs",
    "consul_sd_configs",
    "digitalocean_sd_configs",
    "dns_sd_configs",
    "docker_sd_configs",
    "dockerswarm_sd_configs",
    "ec2_sd_configs",
    "ecs_sd_configs",
    "eureka_sd_configs",
    "gce_sd_configs",
    "hetzner_sd_configs",
    "http_sd_configs",
    "ionos_sd_configs",
    "kubernetes_sd_configs",
    "kuma_sd_configs",
    "lightsail_sd_configs",
    "linode_sd_configs",
    "marathon_sd_configs",
    "nerve_sd_configs",
    "nomad_sd_configs",
    "openstack_sd_configs",
    "ovhcloud_sd_configs",
    "puppetdb_sd_configs",
    "scaleway_sd_configs",
    "serverset_sd_configs",
    "stackit_sd_configs",
    "triton_sd_configs",
    "uyuni_sd_configs",
    "vultr_sd_configs",
];
/// What Prometheus has beside scraping, which the Go collector refuses too.
const BESIDE: &[&str] = &["remote_write", "remote_read", "rule_files", "alerting", "scrape_config_files"];

impl Config {
    pub(crate) fn decode(section: Section) -> Config {
        let trims_suffixes = section.boolean("trim_metric_suffixes", false);
        refuse(
            &section,
            &["target_allocator"],
            "a target allocator is not supported: write static_configs or file_sd_configs",
        );
        let api = section.subsection("api_server");
        if api.boolean("enabled", false) {
            api.problem("enabled", "Prometheus' API is not supported: `misaki status` says how the collector is");
        }
        api.ignored(&["server_config"]);
        let inner = section.subsection("config");
        refuse(&inner, BESIDE, "it is not supported here");
        inner.ignored(&["storage", "tracing", "runtime", "otlp"]);
        let global = Global::decode(&inner.subsection("global"));
        let mut names = HashSet::new();
        let mut jobs = Vec::new();
        for job in inner.sections("scrape_configs").unwrap_or_default() {
            let decoded = Job::decode(&job, &global, trims_suffixes);
            if !decoded.name.is_empty() && !names.insert(decoded.name.clone()) {
                let message = format!("found multiple scrape configs with job name {:?}", decoded.name);
                job.problem("job_name", message);
            }
            jobs.push(Arc::new(decoded));
        }
        if jobs.is_empty() {
            let help =
                "write `config: {scrape_configs: [{job_name: shop, static_configs: [{targets: ['localhost:9100']}]}]}`";
            section.problem_with_help("config", "no Prometheus scrape_configs set", help);
        }
        // There is nothing that a start would wait for.
        section.boolean("discovery_reload_on_startup", false);
        Config {
            jobs,
            initial_scrape_offset: section.duration("initial_scrape_offset", Duration::ZERO),
            scrapes_on_shutdown: section.boolean("scrape_on_shutdown", false),
        }
    }
}

fn refuse(section: &Section, keys: &[&str], why: &str) {
    for key in keys.iter().filter(|key| section.says(key)) {
        section.problem(key, why);
    }
    section.unset(keys);
}

/// The defaults of all jobs.
struct Global {
    interval: Duration,
    timeout: Duration,
    limits: Limits,
    protocols: Option<Vec<String>>,
    is_legacy: bool,
    escaping: String,
    has_extra_metrics: bool,
    external_labels: Arc<Owned>,
}

impl Global {
    fn decode(section: &Section) -> Global {
        let timeout = duration_of(section, "scrape_timeout");
        let interval = duration_of(section, "scrape_interval").unwrap_or(Duration::from_secs(60));
        if timeout.is_some_and(|timeout| timeout > interval) {
            section.problem("scrape_timeout", "global scrape timeout greater than scrape interval");
        }
        section.ignored(&[
            "evaluation_interval",
            "rule_query_offset",
            "query_log_file",
            "scrape_failure_log_file",
            "keep_dropped_targets",
        ]);
        histograms(section);
        let is_legacy = is_legacy(section).unwrap_or(false);
        Global {
            interval,
            timeout: timeout.unwrap_or(Duration::from_secs(10)).min(interval),
            limits: limits(section, Limits::default()),
            protocols: protocols(section),
            is_legacy,
            escaping: escaping(section, if is_legacy { "underscores" } else { "allow-utf-8" }),
            has_extra_metrics: section.boolean("extra_scrape_metrics", false),
            external_labels: Arc::new(Owned(labels(section, "external_labels"))),
        }
    }
}

/// Native histograms come in protobuf only.
fn histograms(section: &Section) {
    for key in ["scrape_native_histograms", "convert_classic_histograms_to_nhcb"] {
        if section.boolean(key, false) {
            section.problem(key, "native histograms are not supported");
        }
    }
    section.ignored(&[
        "always_scrape_classic_histograms",
        "native_histogram_bucket_limit",
        "native_histogram_min_bucket_factor",
    ]);
}

fn is_legacy(section: &Section) -> Option<bool> {
    let key = "metric_name_validation_scheme";
    section.has(key).then(|| section.choice(key, false, &[("utf8", false), ("legacy", true), ("", false)]))
}

fn escaping(section: &Section, default: &str) -> String {
    let key = "metric_name_escaping_scheme";
    let escaping = section.text(key).filter(|text| !text.is_empty()).unwrap_or_else(|| default.to_owned());
    if !["allow-utf-8", "underscores", "dots", "values"].contains(&escaping.as_str()) {
        section.problem(key, "it is one of allow-utf-8, underscores, dots, values");
    }
    escaping
}

const PROTOCOLS: [(&str, &str, bool); 4] = [
    ("OpenMetricsText1.0.0", "application/openmetrics-text;version=1.0.0", true),
    ("OpenMetricsText0.0.1", "application/openmetrics-text;version=0.0.1", false),
    ("PrometheusText1.0.0", "text/plain;version=1.0.0", true),
    ("PrometheusText0.0.4", "text/plain;version=0.0.4", false),
];

fn protocols(section: &Section) -> Option<Vec<String>> {
    let mut protocols = section.texts("scrape_protocols")?;
    let is_known = |protocol: &String| PROTOCOLS.iter().any(|(known, ..)| known == protocol);
    if let Some(unknown) = protocols.iter().find(|protocol| !is_known(protocol) && *protocol != "PrometheusProto") {
        section.problem("scrape_protocols", format!("unknown scrape protocol {unknown:?}"));
    }
    protocols.retain(is_known);
    if protocols.is_empty() {
        section.problem(
            "scrape_protocols",
            "none of them is supported: name one of OpenMetricsText1.0.0 and PrometheusText0.0.4",
        );
    }
    Some(protocols)
}

/// The value of `Accept`.
fn accept(protocols: Option<&[String]>, escaping: &str) -> String {
    let all: Vec<String> = PROTOCOLS.iter().map(|(name, ..)| (*name).to_owned()).collect();
    let mut weight = 6;
    let mut accepted = Vec::new();
    for protocol in protocols.unwrap_or(&all) {
        let Some((_, media, is_escaped)) = PROTOCOLS.iter().find(|(name, ..)| name == protocol) else { continue };
        let escaped = if *is_escaped { format!(";escaping={escaping}") } else { String::new() };
        accepted.push(format!("{media}{escaped};q=0.{weight}"));
        weight -= 1;
    }
    accepted.push(format!("*/*;q=0.{weight}"));
    accepted.join(",")
}

fn limits(section: &Section, default: Limits) -> Limits {
    let limit = |key: &str, default: u64| {
        let limit = section.integer(key, 0, 0..=i64::MAX).unsigned_abs();
        if limit == 0 { default } else { limit }
    };
    let body = section.text("body_size_limit").filter(|text| !text.is_empty()).map_or(0, |text| {
        bytes(&text).unwrap_or_else(|| {
            section.problem("body_size_limit", "it is a number with a unit, as in 10MB");
            0
        })
    });
    Limits {
        body: if body == 0 { default.body } else { body },
        samples: limit("sample_limit", default.samples),
        targets: limit("target_limit", default.targets),
        labels: limit("label_limit", default.labels),
        label_name_length: limit("label_name_length_limit", default.label_name_length),
        label_value_length: limit("label_value_length_limit", default.label_value_length),
    }
}

impl Limits {
    /// The largest page; one byte less than the limit is allowed, as in Prometheus.
    pub(super) fn body_most(&self) -> usize {
        usize::try_from(if self.body == 0 { BODY } else { self.body - 1 }).unwrap_or(usize::MAX)
    }
}

/// `10MB`, `1KiB`: all by 1024.
fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let power = match unit.trim_end_matches('B').trim_end_matches('i') {
        "" if !unit.is_empty() || number == "0" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << power)
}

fn labels(section: &Section, key: &str) -> Vec<(String, String)> {
    let section = section.subsection(key);
    let mut labels: Vec<_> =
        section.entries().iter().filter_map(|entry| Some((entry.key.clone(), section.text(&entry.key)?))).collect();
    labels.sort();
    labels
}

impl Job {
    fn decode(section: &Section, global: &Global, trims_suffixes: bool) -> Job {
        let name = section.text("job_name").or_else(|| section.missing("job_name")).unwrap_or_default();
        refuse(section, DISCOVERIES, "this discovery is not supported: write static_configs or file_sd_configs");
        histograms(section);
        section.ignored(&["scrape_failure_log_file", "keep_dropped_targets"]);
        let interval = duration_of(section, "scrape_interval").unwrap_or(global.interval);
        let timeout = duration_of(section, "scrape_timeout").unwrap_or(global.timeout.min(interval));
        if timeout > interval {
            let message =
                format!("scrape timeout greater than scrape interval for scrape config with job name {name:?}");
            section.problem("scrape_timeout", message);
        }
        let own = is_legacy(section);
        let is_legacy = own.unwrap_or(global.is_legacy);
        let escaping = match own {
            None => escaping(section, &global.escaping),
            Some(true) => escaping(section, "underscores"),
            Some(false) => escaping(section, "allow-utf-8"),
        };
        let protocols = protocols(section).or_else(|| global.protocols.clone());
        let fallbacks: &[(&str, Format)] = &[
            ("PrometheusText0.0.4", Format::Plain),
            ("PrometheusText1.0.0", Format::Plain),
            ("OpenMetricsText0.0.1", Format::OpenMetrics),
            ("OpenMetricsText1.0.0", Format::OpenMetrics),
            ("", Format::Plain),
        ];
        let params = section.subsection("params");
        let params =
            params.entries().iter().filter_map(|entry| Some((entry.key.clone(), params.texts(&entry.key)?))).collect();
        let relabel = relabel::decode(section, "relabel_configs", is_legacy);
        let groups = groups(section, relabel.is_empty());
        Job {
            honor_labels: section.boolean("honor_labels", false),
            honor_timestamps: section.boolean("honor_timestamps", true),
            track_timestamps_staleness: section.boolean("track_timestamps_staleness", false),
            params,
            interval,
            timeout,
            metrics_path: section.text_or("metrics_path", "/metrics"),
            scheme: section.choice("scheme", "http", &[("http", "http"), ("https", "https")]).to_owned(),
            limits: limits(section, global.limits),
            is_legacy,
            has_extra_metrics: section.boolean("extra_scrape_metrics", global.has_extra_metrics),
            trims_suffixes,
            fallback: section.choice("fallback_scrape_protocol", Format::Plain, fallbacks),
            metric_relabel: relabel::decode(section, "metric_relabel_configs", is_legacy),
            relabel,
            external_labels: global.external_labels.clone(),
            groups,
            files: section.sections("file_sd_configs").unwrap_or_default().iter().map(Files::decode).collect(),
            client: Client::decode(section, accept(protocols.as_deref(), &escaping)),
            name,
        }
    }
}

fn groups(section: &Section, checks_addresses: bool) -> Vec<Group> {
    let group = |section: Section| {
        let targets = section.items("targets").unwrap_or_default();
        for (target, place) in targets.iter().filter(|(target, _)| checks_addresses && target.contains('/')) {
            let message = format!("{target:?} is not a valid hostname");
            let help = "write HOST:PORT; the path is metrics_path, and https is the scheme".to_owned();
            section.problem_at(*place, "targets", message, Some(help));
        }
        Group { targets: targets.into_iter().map(|(target, _)| target).collect(), labels: labels(&section, "labels") }
    };
    section.sections("static_configs").unwrap_or_default().into_iter().map(group).collect()
}

impl Files {
    fn decode(section: &Section) -> Files {
        let patterns = section.texts("files").unwrap_or_default();
        if patterns.is_empty() {
            section.problem("files", "file service discovery config must contain at least one path name");
        }
        let is_well = |path: &String| {
            let ending = path.rsplit('.').next().unwrap_or_default();
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            ["json", "yml", "yaml", "JSON", "YML", "YAML"].contains(&ending) && !folder.contains('*')
        };
        if let Some(path) = patterns.iter().find(|path| !is_well(path)) {
            section.problem("files", format!("path name {path:?} is not valid for file discovery"));
        }
        Files {
            patterns: patterns.into_iter().map(PathBuf::from).collect(),
            refresh_interval: duration_of(section, "refresh_interval").unwrap_or(Duration::from_secs(300)),
        }
    }
}

impl Client {
    fn decode(section: &Section, accept: String) -> Client {
        let mut headers = HeaderMap::new();
        let mut put = |name: HeaderName, value: String| {
            HeaderValue::try_from(value).ok().and_then(|value| headers.insert(name, value));
        };
        put(header::ACCEPT, accept);
        let coding = if section.boolean("enable_compression", true) { "gzip" } else { "identity" };
        put(header::ACCEPT_ENCODING, coding.to_owned());
        put(header::USER_AGENT, concat!("misaki/", env!("CARGO_PKG_VERSION")).to_owned());
        refuse(section, &["oauth2"], "OAuth 2 is not supported: write authorization or basic_auth");
        refuse(section, &["proxy_connect_header"], "it is not supported");
        let (authorization, secret_file) = authorization(section);
        if let Some(value) = authorization {
            headers.insert(header::AUTHORIZATION, value);
        }
        http_headers(section, &mut headers);
        section.ignored(&["enable_http2", "no_proxy"]);
        let tls = tls(&section.subsection("tls_config"));
        if section.boolean("proxy_from_environment", false) {
            section.problem("proxy_from_environment", "it is not supported: write proxy_url");
        }
        let proxy = section.url("proxy_url").filter(|url| !url.is_empty());
        let proxy = proxy
            .and_then(|url| Proxy::new(&url, "proxy_url", &tls).map_err(|why| section.problem("proxy_url", why)).ok());
        let follows_redirects = section.boolean("follow_redirects", true);
        Client { tls, proxy, headers, secret_file, follows_redirects }
    }
}

/// The header of a secret in the config, or the file that holds one.
fn authorization(section: &Section) -> (Option<HeaderValue>, Option<(PathBuf, Authorization)>) {
    let (mut ways, mut inline, mut file) = (0, None, None);
    let mut take = |secret: Option<Secret>, path: Option<String>, how: Authorization| {
        ways += 1;
        inline = secret.and_then(|secret| how.header(secret.expose()));
        file = path.filter(|path| !path.is_empty()).map(|path| (PathBuf::from(path), how));
    };
    if let Some(basic) = section.section("basic_auth") {
        refuse(&basic, &["username_file"], "it is not supported: write username");
        let how = Authorization::Basic { user: basic.text_or("username", "") };
        let (secret, path) = (basic.secret("password"), basic.text("password_file"));
        let secret = secret.or_else(|| path.is_none().then(|| Secret::new("")));
        take(secret, path, how);
    }
    if let Some(section) = section.section("authorization") {
        let how = Authorization::Of { scheme: section.text_or("type", "Bearer") };
        take(section.secret("credentials"), section.text("credentials_file"), how);
    }
    if section.says("bearer_token") || section.says("bearer_token_file") {
        let how = Authorization::Of { scheme: "Bearer".to_owned() };
        take(section.secret("bearer_token"), section.text("bearer_token_file"), how);
    }
    section.unset(&["bearer_token", "bearer_token_file"]);
    if ways > 1 {
        let message = "at most one of basic_auth, oauth2, authorization and bearer_token must be configured";
        section.secret_problem("", message);
    }
    (inline, file)
}

fn http_headers(section: &Section, headers: &mut HeaderMap) {
    let section = section.subsection("http_headers");
    for entry in section.entries() {
        let given = section.subsection(&entry.key);
        refuse(&given, &["files"], "it is not supported: write secrets");
        let mut values = given.texts("values").unwrap_or_default();
        values.extend(given.secrets("secrets").iter().map(|secret| secret.expose().to_owned()));
        for value in values {
            match (HeaderName::try_from(&entry.key), HeaderValue::try_from(value)) {
                (Ok(name), Ok(mut value)) => {
                    value.set_sensitive(true);
                    headers.append(name, value);
                }
                _ => section.problem(&entry.key, "it is not a valid header"),
            }
        }
    }
}

/// `tls_config`, whose keys are Prometheus' own.
fn tls(section: &Section) -> ClientTls {
    let pem = |file: &'static str, inline: &'static str| {
        let path = section.text(file).filter(|path| !path.is_empty());
        let text = section.secret(inline).filter(|text| !text.expose().is_empty());
        let file = path.map(|path| Pem::File { setting: file, path: path.into() });
        file.or_else(|| text.map(|text| Pem::Inline { setting: inline, text: text.expose().into() }))
    };
    let version = |key: &str, default: Version| {
        let versions = [
            ("TLS13", Version::Tls13),
            ("TLS12", Version::Tls12),
            ("TLS11", Version::Tls11),
            ("TLS10", Version::Tls10),
            ("", default),
        ];
        section.choice(key, default, &versions)
    };
    refuse(section, &["ca_ref", "cert_ref", "key_ref"], "it is not supported: write a file or the text itself");
    let (cert, key) = (pem("cert_file", "cert"), pem("key_file", "key"));
    if cert.is_some() != key.is_some() {
        section.problem("", "exactly one of a client certificate and its key is given");
    }
    let Versions { min, max } = Versions::default();
    ClientTls {
        insecure_skip_verify: section.boolean("insecure_skip_verify", false),
        ca: pem("ca_file", "ca"),
        identity: cert.zip(key).map(|(cert, key)| Identity { cert, key, reload_interval: Duration::from_secs(60) }),
        server_name_override: section.text("server_name").filter(|name| !name.is_empty()),
        versions: Versions { min: version("min_version", min), max: version("max_version", max) },
        ..ClientTls::default()
    }
}

fn duration_of(section: &Section, key: &str) -> Option<Duration> {
    let text = section.text(key)?;
    match duration(&text) {
        Ok(duration) => Some(duration).filter(|duration| !duration.is_zero()),
        Err(why) => {
            section.problem(key, why);
            None
        }
    }
}
