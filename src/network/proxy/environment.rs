//! HTTP_PROXY, HTTPS_PROXY and NO_PROXY, by the rules of Go's `net/http` (golang.org/x/net/http/httpproxy), which
//! differ from curl's: the lower-case variable wins, ALL_PROXY is ignored, this machine is never reached through a
//! proxy, `.example.org` does not match `example.org` itself, and a name may have a port.

use std::net::IpAddr;
use std::sync::OnceLock;

use crate::network::endpoint::{Address, Endpoint, Scheme};
use crate::network::tls::ClientTls;

use super::Proxy;

pub struct Environment {
    http: Option<(&'static str, String)>,
    https: Option<(&'static str, String)>,
    exempt: Vec<Exempt>,
}

/// An entry of NO_PROXY.
enum Exempt {
    Everything,
    Network(IpAddr, u8),
    Ip(IpAddr, String),
    /// The domain with a leading dot; `itself` if the name without the dot matches too.
    Domain {
        dotted: String,
        itself: bool,
        port: String,
    },
}

impl Environment {
    /// The environment of this process, read on first use.
    pub(crate) fn of_process() -> &'static Environment {
        static PROCESS: OnceLock<Environment> = OnceLock::new();
        PROCESS.get_or_init(|| Environment::new(|name| std::env::var(name).ok()))
    }

    pub fn new(variable: impl Fn(&str) -> Option<String>) -> Environment {
        let first = |names: [&'static str; 2]| {
            names.into_iter().find_map(|name| Some((name, variable(name).filter(|value| !value.is_empty())?)))
        };
        let exempt = first(["no_proxy", "NO_PROXY"]).map(|(_, list)| list).unwrap_or_default();
        Environment {
            http: first(["http_proxy", "HTTP_PROXY"]),
            https: first(["https_proxy", "HTTPS_PROXY"]),
            exempt: exempt.split(',').filter_map(Exempt::parse).collect(),
        }
    }

    /// The proxy for `endpoint` and requests of this scheme: gRPC counts as `https`, with and without TLS.
    pub fn proxy(&self, endpoint: &Endpoint, scheme: Scheme, tls: &ClientTls) -> Result<Option<Proxy>, String> {
        let named = if scheme == Scheme::Https { &self.https } else { &self.http };
        let (Some((variable, text)), Address::Tcp { host, port }) = (named, &endpoint.address) else { return Ok(None) };
        if self.exempts(host, *port) {
            return Ok(None);
        }
        let text = if text.contains("://") { text.clone() } else { format!("http://{text}") };
        Proxy::new(&text, variable, tls).map(Some).map_err(|why| format!("{variable}: {why}"))
    }

    fn exempts(&self, host: &str, port: u16) -> bool {
        let host = host.to_ascii_lowercase();
        let ip = address(&host);
        host == "localhost"
            || ip.is_some_and(|ip| ip.is_loopback())
            || self.exempt.iter().any(|exempt| exempt.has(&host, ip, &port.to_string()))
    }
}

/// An IP address, possibly with a zone; IPv4-mapped IPv6 becomes IPv4.
fn address(host: &str) -> Option<IpAddr> {
    let bare = host.split('%').next()?;
    bare.parse().ok().map(|ip: IpAddr| ip.to_canonical())
}

/// Splits `host:port`, with brackets around an IPv6 address; without a port, everything is the host.
fn split_port(entry: &str) -> (&str, &str) {
    match entry.rsplit_once(':') {
        Some((host, port)) if host.starts_with('[') && host.ends_with(']') => {
            (host.trim_start_matches('[').trim_end_matches(']'), port)
        }
        Some((host, port)) if !host.contains(':') => (host, port),
        _ => (entry, ""),
    }
}

impl Exempt {
    fn parse(entry: &str) -> Option<Exempt> {
        let entry = entry.trim().to_lowercase();
        if entry == "*" {
            return Some(Exempt::Everything);
        }
        if let Some((ip, bits)) =
            entry.split_once('/').and_then(|(ip, bits)| Some((ip.parse().ok()?, bits.parse().ok()?)))
        {
            return Some(Exempt::Network(ip, bits));
        }
        let (host, port) = split_port(&entry);
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Some(Exempt::Ip(ip.to_canonical(), port.to_owned()));
        }
        let host = if host.starts_with("*.") { host.trim_start_matches('*') } else { host };
        let bare = host.strip_prefix('.').unwrap_or(host);
        let domain =
            Exempt::Domain { dotted: format!(".{bare}"), itself: !host.starts_with('.'), port: port.to_owned() };
        (!host.is_empty()).then_some(domain)
    }

    fn has(&self, host: &str, ip: Option<IpAddr>, port: &str) -> bool {
        let is_at = |wanted: &str| wanted.is_empty() || wanted == port;
        match self {
            Exempt::Everything => true,
            Exempt::Network(network, bits) => ip.is_some_and(|ip| is_within(ip, *network, *bits)),
            Exempt::Ip(exempt, port) => ip == Some(*exempt) && is_at(port),
            Exempt::Domain { dotted, itself, port } => {
                let is_itself = || *itself && dotted.strip_prefix('.') == Some(host);
                ip.is_none() && (host.ends_with(dotted) || is_itself()) && is_at(port)
            }
        }
    }
}

/// Whether the first `bits` of both are equal.
fn is_within(ip: IpAddr, network: IpAddr, bits: u8) -> bool {
    let (difference, length) = match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) => (u128::from(ip.to_bits() ^ network.to_bits()), 32_u32),
        (IpAddr::V6(ip), IpAddr::V6(network)) => (ip.to_bits() ^ network.to_bits(), 128),
        _ => return false,
    };
    let rest = length.checked_sub(u32::from(bits));
    rest.is_some_and(|rest| difference.checked_shr(rest).unwrap_or(0) == 0)
}
