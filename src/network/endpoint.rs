//! Where to listen and where to send: the forms of `endpoint` that the Go collector accepts, parsed once, and how to
//! connect.
//!
//! Errors about an endpoint omit its user, password and query.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderValue;
use http::uri::PathAndQuery;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::Stream;
use crate::otlp::{base64, percent};

/// Delay before the next address is tried in parallel (RFC 8305 recommends 250 ms).
const STAGGER: Duration = Duration::from_millis(300);
/// TCP keep-alive: idle time before the first probe…
const IDLE: Duration = Duration::from_secs(30);
/// …and between further probes.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// A connection whose peer acknowledges nothing for this long is closed.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// The address of a peer or a listener.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// The host is a name or an IP address without brackets; empty means all interfaces.
    Tcp {
        host: String,
        port: u16,
    },
    Unix(PathBuf),
}

impl Address {
    /// `host:port`, with brackets around an IPv6 address.
    pub fn tcp(text: &str) -> Result<Address, String> {
        let bracketed = text.strip_prefix('[');
        let parts = bracketed.map_or_else(|| text.rsplit_once(':'), |rest| rest.split_once("]:"));
        let Some((host, port)) = parts else {
            return Err(format!("address {text}: missing port in address"));
        };
        if bracketed.is_none() && host.contains(':') {
            return Err(format!("address {text}: too many colons in address"));
        }
        if host.chars().any(|char| char.is_whitespace() || char.is_control() || "[]/@".contains(char)) {
            return Err(format!("invalid host {host:?}"));
        }
        match port.parse() {
            Ok(number) if !port.starts_with('+') => Ok(Address::Tcp { host: canonical(host), port: number }),
            _ => Err(format!("invalid port {port:?}")),
        }
    }

    fn unix(path: &str) -> Result<Address, String> {
        match path {
            "" => Err("unix socket path cannot be empty".into()),
            path if cfg!(unix) => Ok(Address::Unix(PathBuf::from(path))),
            _ => Err("unix sockets do not exist on this system".into()),
        }
    }

    /// The IP addresses of the host without a look-up; an empty host means every interface.
    fn known(&self) -> Vec<IpAddr> {
        match self {
            Address::Tcp { host, .. } if host.is_empty() => {
                vec![Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()]
            }
            Address::Tcp { host, .. } if host.eq_ignore_ascii_case("localhost") => {
                vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
            }
            Address::Tcp { host, .. } => host.parse().into_iter().collect(),
            Address::Unix(_) => Vec::new(),
        }
    }

    fn has_port_of(&self, other: &Address) -> bool {
        match (self, other) {
            (Address::Tcp { port, .. }, Address::Tcp { port: others, .. }) => port == others && *port != 0,
            (one, other) => one == other,
        }
    }

    /// Looks up the host's current addresses; none for a Unix socket.
    pub(crate) async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        match self {
            Address::Unix(_) => Ok(Vec::new()),
            Address::Tcp { host, port } => Ok(tokio::net::lookup_host((host.as_str(), *port)).await?.collect()),
        }
    }
}

/// Whether the system would read it as a short form of an IPv4 address (`127.1`, `0`, `0x7f.1`). The Go collector looks it up as a
/// name.
fn is_short_for_an_address(host: &str) -> bool {
    let is_number = |part: &str| match part.strip_prefix("0x") {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()),
    };
    host.parse::<IpAddr>().is_err() && host.to_ascii_lowercase().split('.').all(is_number)
}

/// Writes an IPv4-mapped IPv6 address (`::ffff:127.0.0.1`) as IPv4.
fn canonical(host: &str) -> String {
    let mapped = host.parse().ok().and_then(|ip: Ipv6Addr| ip.to_ipv4_mapped());
    mapped.map_or_else(|| host.to_owned(), |ip| ip.to_string())
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Address::Tcp { host, port } if host.contains(':') => write!(formatter, "[{host}]:{port}"),
            Address::Tcp { host, port } => write!(formatter, "{host}:{port}"),
            Address::Unix(path) => write!(formatter, "unix://{}", path.display()),
        }
    }
}

/// Where a receiver listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Listen {
    pub address: Address,
    family: Family,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Family {
    Any,
    V4,
    V6,
}

impl Family {
    fn has(self, ip: &IpAddr) -> bool {
        match self {
            Family::Any => true,
            Family::V4 => ip.is_ipv4(),
            Family::V6 => ip.is_ipv6(),
        }
    }
}

impl Listen {
    /// `transport` is the receiver's key of that name.
    pub fn parse(endpoint: &str, transport: &str) -> Result<Listen, String> {
        let (parse, family): (fn(&str) -> _, _) = match transport {
            "tcp" => (Address::tcp, Family::Any),
            "tcp4" => (Address::tcp, Family::V4),
            "tcp6" => (Address::tcp, Family::V6),
            "unix" => (Address::unix, Family::Any),
            other => return Err(format!("unsupported transport type {other:?}: use tcp or unix")),
        };
        let address = parse(endpoint)?;
        if let Address::Tcp { host, .. } = &address
            && is_short_for_an_address(host)
        {
            return Err(format!("{host} is no IP address: write all four numbers, as in 127.0.0.1"));
        }
        Ok(Listen { address, family })
    }

    /// The addresses to bind. `localhost` means two, and both are needed. An empty host and `0.0.0.0` mean every
    /// interface, as in Go: `::` accepts IPv4 too, and a system without IPv6 has `0.0.0.0`. The first of these that
    /// works is enough.
    pub async fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let mut all = match &self.address {
            Address::Tcp { port, .. } if !self.known().is_empty() => {
                self.known().into_iter().map(|ip| (ip, *port).into()).collect()
            }
            address => address.resolve().await?,
        };
        all.retain(|address| self.family.has(&address.ip()));
        Ok(all)
    }

    /// Whether only one of the two can be bound.
    pub(crate) fn overlaps(&self, other: &Listen) -> bool {
        let (mine, others) = (self.known(), other.known());
        let takes = |one: &IpAddr, other: &IpAddr| {
            one == other || one.is_unspecified() && (one.is_ipv6() == other.is_ipv6() || one.is_ipv6())
        };
        let clash = |one: &IpAddr| others.iter().any(|other| takes(one, other) || takes(other, one));
        self.address.has_port_of(&other.address) && (self.address == other.address || mine.iter().any(clash))
    }

    /// Whether a connection to `address` from this machine arrives here.
    pub(crate) fn is_reached_at(&self, address: &Address) -> bool {
        let dialled = address.known().into_iter().map(|ip| match ip {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        });
        let dialled: Vec<IpAddr> = dialled.collect();
        let takes = |own: IpAddr, ip: &IpAddr| {
            own == *ip || own.is_unspecified() && ip.is_loopback() && (own.is_ipv6() || ip.is_ipv4())
        };
        let is_here = |own: IpAddr| dialled.iter().any(|ip| takes(own, ip));
        self.address.has_port_of(address) && (self.address == *address || self.known().into_iter().any(is_here))
    }

    fn known(&self) -> Vec<IpAddr> {
        let mut all = self.address.known();
        if all == [IpAddr::from(Ipv4Addr::UNSPECIFIED)] {
            all.insert(0, Ipv6Addr::UNSPECIFIED.into());
        }
        all.retain(|ip| self.family.has(ip));
        all
    }

    /// Whether the host means every interface, so that one working address is enough, and anyone may connect.
    pub fn is_everywhere(&self) -> bool {
        matches!(&self.address, Address::Tcp { host, .. }
            if host.is_empty() || host.parse().is_ok_and(|ip: IpAddr| ip.is_unspecified()))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    fn name(self) -> &'static str {
        if self == Scheme::Https { "https" } else { "http" }
    }

    fn default_port(self) -> u16 {
        if self == Scheme::Https { 443 } else { 80 }
    }
}

/// Where an exporter sends.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub address: Address,
    /// `None` for gRPC, where a prefix decides nothing.
    pub scheme: Option<Scheme>,
    /// The path and query of requests.
    target: PathAndQuery,
    /// `user:password` as in the URL, percent-encoded; for basic authentication, never displayed.
    pub userinfo: Option<String>,
}

impl Endpoint {
    /// `host:port`, optionally after `http://`, `https://`, `dns:///`, `dns://SERVER/` or `passthrough:///`; or
    /// `unix:///path`.
    pub fn grpc(text: &str) -> Result<Endpoint, String> {
        let at = |address| Endpoint { address, scheme: None, target: PathAndQuery::from_static("/"), userinfo: None };
        if let Some(path) = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:")) {
            return Address::unix(path).map(at);
        }
        let rest = match text.split_once("://") {
            Some(("http" | "https", rest)) => rest.strip_suffix('/').unwrap_or(rest),
            Some((scheme, rest)) if ["dns", "passthrough"].iter().any(|known| known.eq_ignore_ascii_case(scheme)) => {
                rest.split_once('/').map_or(rest, |(_, rest)| rest)
            }
            Some((unknown, _)) => return Err(format!("unknown scheme {unknown:?}: use host:port")),
            None if text.is_empty() => return Err(r#"requires a non-empty "endpoint""#.into()),
            None => text.strip_prefix("dns:").filter(|rest| rest.contains(':')).unwrap_or(text),
        };
        if rest.contains('@') {
            return Err("an endpoint of gRPC has no place for a user and a password: use headers or auth".into());
        }
        if rest.contains('/') {
            return Err(format!("an endpoint of gRPC has no path: {rest:?}"));
        }
        peer(rest).map(at)
    }

    /// How to write `text` if the Go collector refuses this form.
    pub(super) fn in_go(&self, text: &str) -> Option<String> {
        let bracketed = text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or("", |(host, _)| host);
        let short = |prefix: &str| text.strip_prefix(prefix).filter(|rest| !rest.starts_with("//"));
        if bracketed.contains('%') && !bracketed.contains("%25") {
            return Some("%25 before the zone".to_owned());
        }
        if self.scheme.is_some() {
            return None;
        }
        let in_full = short("unix:").map(|path| format!("unix://{path}"));
        let in_full = in_full.or_else(|| short("dns:").map(|name| format!("dns:///{name}")));
        in_full.or_else(|| text.strip_suffix('/').filter(|text| text.starts_with("http")).map(str::to_owned))
    }

    pub fn http(text: &str) -> Result<Endpoint, String> {
        let (scheme, rest) = match text.split_once("://") {
            Some((name, rest)) if name.eq_ignore_ascii_case("http") => (Scheme::Http, rest),
            Some((name, rest)) if name.eq_ignore_ascii_case("https") => (Scheme::Https, rest),
            Some((name, _)) => return Err(format!("unsupported protocol scheme {name:?}: use http:// or https://")),
            None if text.is_empty() => return Err("at least one endpoint must be specified".into()),
            None => return Err("an endpoint of HTTP is a URL: it opens with http:// or https://".into()),
        };
        let (authority, target) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (userinfo, authority) = match authority.rsplit_once('@') {
            Some((userinfo, authority)) => (Some(userinfo.to_owned()), authority),
            None => (None, authority),
        };
        let authority = authority.strip_suffix(':').unwrap_or(authority);
        let has_port = authority.rsplit(']').next().is_some_and(|end| end.contains(':'));
        let address = match has_port {
            true => peer(authority)?,
            false => peer(&format!("{authority}:{}", scheme.default_port()))?,
        };
        let slash = if target.starts_with('/') { "" } else { "/" };
        if !percent::is_valid(target.split(['?', '#']).next().unwrap_or_default()) {
            return Err("a % of its path has no two hex digits behind it: %25 stands for a % itself".into());
        }
        let target = PathAndQuery::try_from(format!("{slash}{}", target.replace(' ', "%20")))
            .map_err(|_| "its path holds a character that has no place there".to_owned())?;
        Ok(Endpoint { address, scheme: Some(scheme), target, userinfo })
    }

    /// The endpoint of a signal below this base: `suffix`, such as `v1/logs`, after exactly one slash.
    pub fn join(&self, suffix: &str) -> Result<Endpoint, String> {
        let path = self.target.path().strip_suffix('/').unwrap_or(self.target.path());
        let query = self.target.query().map(|query| format!("?{query}")).unwrap_or_default();
        let target = PathAndQuery::try_from(format!("{path}/{suffix}{query}"));
        Ok(Endpoint { target: target.map_err(|_| format!("invalid path {suffix:?}"))?, ..self.clone() })
    }

    /// The URL's user and password as a basic authentication header.
    pub(crate) fn credentials(&self) -> Option<HeaderValue> {
        let userinfo = self.userinfo.as_deref()?;
        let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
        let pair = [percent::decoded(user.as_bytes()), b":".to_vec(), percent::decoded(password.as_bytes())].concat();
        let mut text = b"Basic ".to_vec();
        base64::put_padded(&pair, &mut text);
        let mut value = HeaderValue::try_from(text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    pub fn target(&self) -> &str {
        self.target.as_str()
    }

    /// Whether data sent there crosses a network.
    pub(crate) fn leaves_the_machine(&self) -> bool {
        match &self.address {
            Address::Tcp { host, .. } => {
                let is_loopback = host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
                !is_loopback && !host.eq_ignore_ascii_case("localhost")
            }
            Address::Unix(_) => false,
        }
    }

    /// The value of `Host` and `:authority`: the scheme's default port is omitted.
    pub fn authority(&self) -> String {
        if let Address::Unix(_) = self.address {
            return "localhost".to_owned();
        }
        let whole = self.address.to_string();
        let implied = self.scheme.and_then(|scheme| whole.strip_suffix(&format!(":{}", scheme.default_port())));
        implied.unwrap_or(&whole).to_owned()
    }

    /// The name that the certificate must match, unless the config overrides it.
    pub(crate) fn host(&self) -> &str {
        match &self.address {
            Address::Tcp { host, .. } => host,
            Address::Unix(_) => "localhost",
        }
    }
}

/// An address to connect to. As in Go, an empty host means this machine. In a URL, `%25` precedes a zone (RFC 6874).
fn peer(text: &str) -> Result<Address, String> {
    match Address::tcp(&text.replacen("%25", "%", 1))? {
        Address::Tcp { port: 0, .. } => Err(r#"invalid port "0""#.into()),
        Address::Tcp { host, port } if host.is_empty() => Ok(Address::Tcp { host: "localhost".into(), port }),
        address => Ok(address),
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let Some(scheme) = self.scheme else { return self.address.fmt(formatter) };
        let query = if self.target.query().is_some() { "?…" } else { "" };
        write!(formatter, "{}://{}{}{query}", scheme.name(), self.authority(), self.target.path())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Connects without TLS within `timeout` (zero means no limit). The name is looked up each time, so a moved upstream is
/// found. Its addresses are tried in order, each `STAGGER` after the previous one or at its failure.
pub async fn connect(address: &Address, timeout: Duration) -> io::Result<Stream> {
    let attempt = async {
        match address {
            #[cfg(unix)]
            Address::Unix(path) => Ok(Box::new(tokio::net::UnixStream::connect(path).await?) as Stream),
            #[cfg(not(unix))]
            Address::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
            Address::Tcp { host, .. } => {
                let addresses = address.resolve().await;
                let addresses = addresses.map_err(|error| because(format!("cannot resolve {host}"), error))?;
                Ok(Box::new(first_to_answer(addresses).await?) as Stream)
            }
        }
    };
    let late = || Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {timeout:?}")));
    let result = match timeout {
        Duration::ZERO => attempt.await,
        timeout => tokio::time::timeout(timeout, attempt).await.unwrap_or_else(|_| late()),
    };
    result.map_err(|error| because(format!("cannot connect to {address}"), error))
}

/// Connects to one of the addresses of `address`.
pub(crate) async fn connect_to(address: &Address, one: SocketAddr) -> io::Result<Stream> {
    let stream = dial(one).await.map_err(|error| match address.known().as_slice() {
        [known] if *known == one.ip() => because(format!("cannot connect to {address}"), error),
        _ => because(format!("cannot connect to {address} ({})", one.ip()), error),
    })?;
    Ok(Box::new(stream))
}

/// Opens a socket without delay of small writes, and with keep-alive.
async fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(IDLE).with_interval(ASK_AGAIN))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    Ok(stream)
}

pub(super) fn because(what: String, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

async fn first_to_answer(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut waiting = addresses.into_iter();
    let mut attempts = JoinSet::new();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        if let Some(address) = waiting.next() {
            attempts.spawn(dial(address));
        }
        let patience = if waiting.len() > 0 { STAGGER } else { Duration::MAX };
        match tokio::time::timeout(patience, attempts.join_next()).await {
            Ok(Some(Ok(Ok(stream)))) => return Ok(stream),
            Ok(Some(Ok(Err(error)))) => failure = error,
            Ok(Some(Err(error))) => failure = error.into(),
            Ok(None) => return Err(failure),
            Err(_) => {}
        }
    }
}
