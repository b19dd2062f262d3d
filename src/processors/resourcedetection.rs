//! `resource_detection` (alias `resourcedetection`): adds attributes of the collector's host to every resource. They
//! are detected once, at start, by the detectors `env` and `system`; the Go collector's others are refused by name.

use std::fs;
use std::sync::Arc;

use crate::config::contrib;
use crate::config::section::Section;
use crate::otlp::Signal;
use crate::otlp::message::Message;
use crate::otlp::rewrite::{Depth, Sight, Verdict, Visitor};
use crate::otlp::schema::{resource, resource_group};
use crate::otlp::wire::put_bytes;
use crate::ottl::value::{Fault, Value};
use crate::telemetry::{Now, Refusal, Telemetry};

use super::edit::edit;
use super::{Factory, Notes, Processor};

const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.40.0";

#[derive(Clone, Debug)]
pub struct Config {
    detectors: Vec<Detector>,
    overrides: bool,
    /// If not empty, only these attributes.
    attributes: Vec<String>,
    hostname_sources: Vec<HostnameSource>,
    /// The enabled attributes of the system detector.
    system: Vec<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Detector {
    Env,
    System,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum HostnameSource {
    /// The full name in /etc/hosts: nothing is looked up over the network.
    Dns,
    Os,
}

type Attributes = Vec<(String, String)>;
type SystemAttribute = (&'static str, bool, fn() -> Option<String>);

/// The attributes of the system detector, whether they are on by default, and their sources.
const SYSTEM: [SystemAttribute; 6] = [
    ("os.type", true, os_type),
    ("os.version", false, || of_release("VERSION_ID")),
    ("host.id", false, || read("/etc/machine-id").or_else(|| read("/var/lib/dbus/machine-id"))),
    ("host.arch", false, host_arch),
    ("os.name", false, || of_release("ID")),
    ("os.build.id", false, || of_release("BUILD_ID").or_else(|| read("/proc/sys/kernel/osrelease"))),
];

impl Config {
    pub fn decode(section: Section) -> Config {
        let detector = |(name, place): (String, _)| match name.as_str() {
            "env" => Some(Detector::Env),
            "system" => Some(Detector::System),
            _ => {
                let invalid = || (format!("invalid detector key: {name}"), "there are env and system".to_owned());
                let (message, help) = contrib::absent("detector", &name).unwrap_or_else(invalid);
                section.problem_at(place, "detectors", message, Some(help));
                None
            }
        };
        let detectors = section.items("detectors");
        let detectors = detectors.map(|names| names.into_iter().filter_map(detector).collect());
        let system = section.subsection("system");
        let source = |(name, place): (String, _)| match name.as_str() {
            "dns" => Some(HostnameSource::Dns),
            "os" => Some(HostnameSource::Os),
            _ => {
                let message = format!("hostname_sources contains invalid value: \"{name}\"");
                let help = Some("there are dns and os".to_owned());
                system.problem_at(place, "hostname_sources", message, help);
                None
            }
        };
        let sources: Vec<_> = system.items("hostname_sources").into_iter().flatten().filter_map(source).collect();
        let switches = system.subsection("resource_attributes");
        let is_on = |(name, default): (&'static str, bool)| {
            switches.subsection(name).boolean("enabled", default).then_some(name)
        };
        let known = [("host.name", true)].into_iter().chain(SYSTEM.iter().map(|(name, default, _)| (*name, *default)));
        let config = Config {
            detectors: detectors.unwrap_or_else(|| vec![Detector::Env]),
            overrides: section.boolean("override", true),
            attributes: section.texts("attributes").unwrap_or_default(),
            hostname_sources: if sources.is_empty() { vec![HostnameSource::Dns, HostnameSource::Os] } else { sources },
            system: known.filter_map(is_on).collect(),
        };
        section.duration("timeout", std::time::Duration::from_secs(5));
        for key in switches.keys() {
            if let Some((message, help)) = contrib::absent("attribute", key)
                && !config.system.contains(&key)
                && switches.subsection(key).boolean("enabled", false)
            {
                switches.problem_with_help(key, message, help);
            }
        }
        // A listed detector has been reported; the section of any other has no effect.
        let is_detector = |key: &&str| !["env", "system"].contains(key) && contrib::is_known("detector", key);
        section.ignored(&section.keys().filter(is_detector).collect::<Vec<_>>());
        section.ignored(&["refresh_interval", "fail_on_missing_metadata", "retry"]);
        config
    }

    /// The results of all detectors, the first of equal keys, and their schema URL.
    fn detect(&self, env: &str) -> Result<(Attributes, &'static str), String> {
        let (mut found, mut schema_url) = (Attributes::new(), "");
        for detector in &self.detectors {
            let detected = match detector {
                Detector::Env => read_variable(env)?,
                Detector::System => {
                    schema_url = SCHEMA_URL;
                    self.detect_system()?
                }
            };
            for (key, value) in detected {
                let is_wanted = self.attributes.is_empty() || self.attributes.contains(&key);
                if is_wanted && found.iter().all(|(known, _)| *known != key) {
                    found.push((key, value));
                }
            }
        }
        Ok((found, schema_url))
    }

    fn detect_system(&self) -> Result<Attributes, String> {
        let name = self.hostname_sources.iter().find_map(|source| match source {
            HostnameSource::Os => hostname(),
            HostnameSource::Dns => full_hostname(&hostname()?, &fs::read_to_string("/etc/hosts").ok()?),
        });
        let name = name.ok_or("all hostname sources failed to get hostname")?;
        let others = SYSTEM.iter().filter_map(|(key, _, detect)| Some((*key, detect()?)));
        let known = [("host.name", name)].into_iter().chain(others);
        Ok(known.filter(|(key, _)| self.system.contains(key)).map(|(key, value)| (key.to_owned(), value)).collect())
    }

    /// Builds the processor for this value of the environment variable.
    pub fn build_with(&self, env: &str) -> Result<Arc<dyn Processor>, String> {
        let (attributes, schema_url) = self.detect(env)?;
        let told: Vec<_> = attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
        tracing::info!(resource = told.join(", "), "detected resource information");
        let encode = |(key, value): (String, String)| {
            let mut field = Vec::new();
            Value::String(value.as_bytes()).put_pair(&mut field, resource::ATTRIBUTES, key.as_bytes());
            (key.into_bytes(), field)
        };
        let mut schema_field = Vec::new();
        if !schema_url.is_empty() {
            put_bytes(&mut schema_field, resource_group::SCHEMA_URL, schema_url.as_bytes());
        }
        let attributes = attributes.into_iter().map(encode).collect();
        Ok(Arc::new(ResourceDetection { attributes, overrides: self.overrides, schema_field }))
    }
}

impl Factory for Config {
    fn build(&self, _: &str, _: Signal) -> Result<Arc<dyn Processor>, String> {
        let variable = |name| std::env::var(name).ok().filter(|text| !text.trim().is_empty());
        let env = variable("OTEL_RESOURCE_ATTRIBUTES").or_else(|| variable("OTEL_RESOURCE"));
        self.build_with(&env.unwrap_or_default())
    }
}

/// Parses `key=value,key=value`, with values escaped as in a URL's query.
fn read_variable(text: &str) -> Result<Attributes, String> {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=')?;
        let key = Some(key.trim()).filter(|key| !key.is_empty() && key.len() <= 256 && key.is_ascii())?;
        Some((key.to_owned(), unescape(value.trim())?))
    };
    let pairs = text.trim().trim_end_matches(',').split(',').filter(|_| !text.trim().is_empty());
    pairs.map(|text| pair(text).ok_or_else(|| format!("invalid resource format, invalid text: {text:?}"))).collect()
}

fn unescape(text: &str) -> Option<String> {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next().unwrap_or_default().replace('+', " ").into_bytes();
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.replace('+', " ").as_bytes());
    }
    String::from_utf8(bytes).ok()
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn hostname() -> Option<String> {
    read("/proc/sys/kernel/hostname").or_else(|| read("/etc/hostname")).or_else(|| std::env::var("COMPUTERNAME").ok())
}

/// The first name on the line of /etc/hosts that contains this name.
fn full_hostname(name: &str, hosts: &str) -> Option<String> {
    let mut lines = hosts.lines().map(|line| line.split('#').next().unwrap_or_default());
    lines.find_map(|line| {
        let mut names = line.split_whitespace().skip(1).peekable();
        let first = names.peek().copied()?;
        names.any(|known| known == name).then(|| first.to_owned())
    })
}

fn of_release(key: &str) -> Option<String> {
    let text = read("/etc/os-release")?;
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    Some(value.trim_matches('"').to_owned())
}

fn os_type() -> Option<String> {
    Some(if cfg!(target_os = "macos") { "darwin" } else { std::env::consts::OS }.to_owned())
}

fn host_arch() -> Option<String> {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "arm" => "arm32",
        "powerpc64" => "ppc64",
        arch => arch,
    };
    Some(arch.to_owned())
}

struct ResourceDetection {
    /// Keys, and encoded attributes.
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
    overrides: bool,
    schema_field: Vec<u8>,
}

impl Processor for ResourceDetection {
    fn is_billed(&self) -> bool {
        true
    }

    fn process(&self, telemetry: Telemetry, _: Now, _: &mut Notes) -> Result<Option<Telemetry>, Refusal> {
        edit(telemetry, |request| request.rewrite(&mut Visit(self)))
    }
}

struct Visit<'a>(&'a ResourceDetection);

impl<'a> Visitor<'a> for Visit<'a> {
    type Fault = Fault;

    fn depth(&self) -> Depth {
        Depth::Resources
    }

    fn resource(&mut self, sight: &mut Sight<'a>) -> Result<Verdict, Fault> {
        let found = self.0;
        if sight.resource_group.bytes(resource_group::SCHEMA_URL).is_empty() && !found.schema_field.is_empty() {
            sight.resource_group.replace(resource_group::SCHEMA_URL, &found.schema_field);
        }
        let resource: &mut Message<'a> = &mut sight.resource;
        for (key, field) in &found.attributes {
            if found.overrides || resource.attribute(resource::ATTRIBUTES, key).is_none() {
                resource.set_attribute(resource::ATTRIBUTES, key, field);
            }
        }
        Ok(Verdict::Keep)
    }
}
