//! The targets of a job: from the addresses that a config or a file names, through the rules, to what is scraped.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bumpalo::Bump;

use crate::network::endpoint::{Address, Endpoint, Listen, Scheme};

use super::config::{self, Job};
use super::labels::Owned;
use super::relabel;

/// Addresses with the labels that they share.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Group {
    pub(super) targets: Vec<String>,
    pub(super) labels: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) job: Arc<Job>,
    /// All labels after the rules; what identifies it.
    pub(super) labels: Owned,
    /// Those that each of its series gets, in order.
    pub(super) public: Owned,
    /// The scheme before the rules, which its resource names.
    pub(super) scheme: String,
    pub(super) url: String,
    pub(super) endpoint: Endpoint,
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
}

impl Target {
    /// The time from the start of an interval until it is scraped: spread by a hash.
    pub(super) fn offset(&self) -> Duration {
        let mut hasher = DefaultHasher::new();
        (&self.labels, &self.url).hash(&mut hasher);
        let interval = (self.interval.as_nanos() as u64).max(1);
        Duration::from_nanos(hasher.finish() % interval)
    }
}

impl Target {
    /// Whether it is the page `/metrics` of a listener on this machine.
    pub(super) fn is_served_at(&self, listen: &Listen) -> bool {
        let (Address::Tcp { host, port }, Address::Tcp { host: own, port: of_own }) =
            (&self.endpoint.address, &listen.address)
        else {
            return false;
        };
        let ip = |host: &str| host.parse::<IpAddr>().ok();
        let is_local = |host: &str| host == "localhost" || ip(host).is_some_and(|ip| ip.is_loopback());
        let is_any = own.is_empty() || ip(own).is_some_and(|ip| ip.is_unspecified());
        let is_host = host == own || is_local(host) && (is_any || is_local(own));
        let is_page = self.endpoint.target() == "/metrics" && self.endpoint.scheme == Some(Scheme::Http);
        is_page && port == of_own && is_host
    }
}

/// The targets of a job's groups, each once, and why others are none.
pub(super) fn targets(job: &Arc<Job>, groups: &[Group]) -> (Vec<Target>, Vec<String>) {
    let (mut found, mut faults, mut known) = (Vec::new(), Vec::new(), HashSet::new());
    for group in groups {
        for address in &group.targets {
            match target(job, address, &group.labels) {
                Ok(Some(target)) => {
                    if known.insert((target.labels.clone(), target.url.clone())) {
                        found.push(target);
                    }
                }
                Ok(None) => {}
                Err(why) => faults.push(format!("{address}: {why}")),
            }
        }
    }
    (found, faults)
}

/// `None` if the rules drop it.
fn target(job: &Arc<Job>, address: &str, given: &[(String, String)]) -> Result<Option<Target>, String> {
    let mut all = Owned(given.to_vec());
    all.set("__address__", address);
    all.default("job", &job.name);
    all.default("__scrape_interval__", &config::duration_text(job.interval));
    all.default("__scrape_timeout__", &config::duration_text(job.timeout));
    all.default("__metrics_path__", &job.metrics_path);
    all.default("__scheme__", &job.scheme);
    for (name, values) in &job.params {
        if let Some(first) = values.first() {
            all.default(&format!("__param_{name}"), first);
        }
    }
    let scheme = all.get("__scheme__").to_owned();
    let arena = Bump::new();
    let mut labels = all.borrowed();
    if !relabel::apply(&job.relabel, &mut labels, &arena) {
        return Ok(None);
    }
    labels.0.retain(|(name, _)| !name.starts_with(b"__meta_"));
    let mut labels = Owned::from(&labels);
    let address = labels.get("__address__").to_owned();
    if address.is_empty() {
        return Err("no address".to_owned());
    }
    if address.contains('/') {
        return Err(format!("{address:?} is not a valid hostname"));
    }
    labels.default("instance", &address);
    labels.0.sort();
    let duration = |name: &str| {
        let duration = config::duration(labels.get(name)).map_err(|why| format!("{name}: {why}"))?;
        if duration.is_zero() { Err(format!("{name} cannot be 0")) } else { Ok(duration) }
    };
    let (interval, timeout) = (duration("__scrape_interval__")?, duration("__scrape_timeout__")?);
    if timeout > interval {
        return Err("scrape timeout cannot be greater than scrape interval".to_owned());
    }
    let url = url(job, &labels);
    let endpoint = Endpoint::http(&url)?;
    let public = labels.0.iter().filter(|(name, _)| !name.starts_with("__")).cloned().collect();
    Ok(Some(Target { job: job.clone(), public: Owned(public), scheme, url, endpoint, interval, timeout, labels }))
}

fn url(job: &Job, labels: &Owned) -> String {
    let mut params = job.params.clone();
    for (name, value) in &labels.0 {
        let Some(name) = name.strip_prefix("__param_") else { continue };
        match params.iter_mut().find(|(known, values)| known == name && !values.is_empty()) {
            Some((_, values)) => values.first_mut().into_iter().for_each(|first| value.clone_into(first)),
            None => params.push((name.to_owned(), vec![value.clone()])),
        }
    }
    params.sort();
    let pairs = params.iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
    let pairs: Vec<_> = pairs.map(|(name, value)| format!("{}={}", escaped(name, b""), escaped(value, b""))).collect();
    let query = if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&").replace("%20", "+")) };
    let path = escaped(labels.get("__metrics_path__"), b"/:@&=+$,;");
    let slash = if path.starts_with('/') { "" } else { "/" };
    format!("{}://{}{slash}{path}{query}", labels.get("__scheme__"), labels.get("__address__"))
}

/// A text in a URL, where only `also` stands for itself beside letters and digits.
fn escaped(text: &str, also: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            byte if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || also.contains(&byte) => {
                out.push(char::from(byte))
            }
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
