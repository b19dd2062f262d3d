//! Where to listen and where to send: what the Go collector accepts as an `endpoint`, read once, and connected to.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use http::uri::PathAndQuery;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::Stream;

/// How long one address may stay silent before the next is tried beside it (RFC 8305 asks for 250 ms or so).
const STAGGER: Duration = Duration::from_millis(300);

/// What is wrong with an endpoint. The text never holds a user, a password or a query.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EndpointError(String);

fn refuse<T>(what: impl Into<String>) -> Result<T, EndpointError> {
    Err(EndpointError(what.into()))
}

/// A peer, or a place to listen at.
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
    /// `host:port`, where an IPv6 address stands in brackets.
    pub fn tcp(text: &str) -> Result<Address, EndpointError> {
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, rest)) => (host, rest.strip_prefix(':')),
            None => match text.rsplit_once(':') {
                Some((host, _)) if host.contains(':') => {
                    return refuse(format!("address {text}: too many colons in address"));
                }
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let Some(port) = port else {
            return refuse(format!("address {text}: missing port in address"));
        };
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let Some(port) = port.parse().ok().filter(|_| digits) else {
            return refuse(format!("invalid port {port:?}"));
        };
        if host.chars().any(|char| char.is_whitespace() || char.is_control() || "[]/@".contains(char)) {
            return refuse(format!("invalid host {host:?}"));
        }
        Ok(Address::Tcp { host: host.to_owned(), port })
    }

    fn unix(path: &str) -> Result<Address, EndpointError> {
        match path {
            "" => refuse("unix socket path cannot be empty"),
            path if cfg!(unix) => Ok(Address::Unix(PathBuf::from(path))),
            _ => refuse("unix sockets do not exist on this system"),
        }
    }

    /// The addresses that the host has right now; none for a Unix socket.
    pub async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        match self {
            Address::Unix(_) => Ok(Vec::new()),
            Address::Tcp { host, port } => match host.parse() {
                Ok(ip) => Ok(vec![SocketAddr::new(ip, *port)]),
                Err(_) => Ok(tokio::net::lookup_host((host.as_str(), *port)).await?.collect()),
            },
        }
    }
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

impl Listen {
    /// `transport` is the receiver's setting of that name.
    pub fn parse(endpoint: &str, transport: &str) -> Result<Listen, EndpointError> {
        let family = match transport {
            "tcp" => Family::Any,
            "tcp4" => Family::V4,
            "tcp6" => Family::V6,
            "unix" => {
                return Ok(Listen { address: Address::unix(endpoint)?, family: Family::Any });
            }
            "" => return refuse(r#"invalid transport type """#),
            "udp" | "udp4" | "udp6" | "ip" | "ip4" | "ip6" | "unixgram" | "unixpacket" | "npipe" => {
                return refuse(format!("transport type {transport:?} cannot carry OTLP: use tcp or unix"));
            }
            unknown => return refuse(format!("unsupported transport type {unknown:?}")),
        };
        Ok(Listen { address: Address::tcp(endpoint)?, family })
    }

    /// The addresses to bind. All that `localhost` stands for are wanted; an empty host is one address, `::`, which takes
    /// IPv4 too, with `0.0.0.0` for systems without IPv6: the first of these that works is enough.
    pub async fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let all = match &self.address {
            Address::Tcp { host, port } if host.is_empty() => {
                [IpAddr::from(Ipv6Addr::UNSPECIFIED), Ipv4Addr::UNSPECIFIED.into()].map(|ip| (ip, *port).into()).into()
            }
            Address::Tcp { host, port } if host.eq_ignore_ascii_case("localhost") => {
                [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()].map(|ip| (ip, *port).into()).into()
            }
            address => address.resolve().await?,
        };
        Ok(all.into_iter().filter(|address| self.family.admits(address)).collect())
    }

    /// Whether the host means every interface, so that one address that works is enough, and anyone may connect.
    pub fn is_everywhere(&self) -> bool {
        match &self.address {
            Address::Tcp { host, .. } if host.is_empty() => true,
            Address::Tcp { host, .. } => host.parse().is_ok_and(|ip: IpAddr| ip.is_unspecified()),
            Address::Unix(_) => false,
        }
    }
}

impl Family {
    fn admits(self, address: &SocketAddr) -> bool {
        match self {
            Family::Any => true,
            Family::V4 => address.is_ipv4(),
            Family::V6 => address.is_ipv6(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

/// Where an exporter sends.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub address: Address,
    /// A gRPC endpoint need not have one, and `http` there does not turn TLS off.
    pub scheme: Option<Scheme>,
    /// What an HTTP request asks for; none for gRPC.
    target: Option<PathAndQuery>,
    userinfo: Option<String>,
}

impl Endpoint {
    /// `host:port`, also behind `http://`, `https://`, `dns:///` or `passthrough:///`, or `unix:///path`.
    pub fn grpc(text: &str) -> Result<Endpoint, EndpointError> {
        if let Some(path) = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:")) {
            return Ok(Endpoint { address: Address::unix(path)?, scheme: None, target: None, userinfo: None });
        }
        if text.is_empty() {
            return refuse(r#"requires a non-empty "endpoint""#);
        }
        let (scheme, rest) = match text.split_once("://") {
            Some(("http", rest)) => (Some(Scheme::Http), rest.strip_suffix('/').unwrap_or(rest)),
            Some(("https", rest)) => (Some(Scheme::Https), rest.strip_suffix('/').unwrap_or(rest)),
            Some((resolver @ ("dns" | "passthrough"), rest)) => match rest.strip_prefix('/') {
                Some(target) => (None, target),
                None => {
                    return refuse(format!("{resolver} with a server of its own is not supported: use {resolver}:///"));
                }
            },
            Some((unknown, _)) => return refuse(format!("unknown scheme {unknown:?}: use host:port")),
            None => (None, text.strip_prefix("dns:").filter(|rest| rest.contains(':')).unwrap_or(text)),
        };
        if rest.contains('@') {
            return refuse("an endpoint of gRPC has no place for a user and a password: use headers or auth");
        }
        if rest.contains('/') {
            return refuse(format!("an endpoint of gRPC has no path: {rest:?}"));
        }
        Ok(Endpoint { address: with_host(Address::tcp(rest)?)?, scheme, target: None, userinfo: None })
    }

    /// A URL.
    pub fn http(text: &str) -> Result<Endpoint, EndpointError> {
        let (scheme, rest) = match text.split_once("://") {
            Some((name, rest)) if name.eq_ignore_ascii_case("http") => (Scheme::Http, rest),
            Some((name, rest)) if name.eq_ignore_ascii_case("https") => (Scheme::Https, rest),
            Some((name, _)) => return refuse(format!("unsupported protocol scheme {name:?}: use http:// or https://")),
            None if text.is_empty() => return refuse("at least one endpoint must be specified"),
            None => return refuse("an endpoint of HTTP is a URL: it opens with http:// or https://"),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (userinfo, authority) = match authority.rsplit_once('@') {
            Some((userinfo, authority)) => (Some(userinfo.to_owned()), authority),
            None => (None, authority),
        };
        let has_port = authority.rsplit(']').next().is_some_and(|end| end.contains(':'));
        let address = match has_port {
            true => Address::tcp(authority.strip_suffix(':').unwrap_or(authority)),
            false => Address::tcp(&format!("{authority}:{}", scheme.default_port())),
        };
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        let target =
            PathAndQuery::try_from(target).or_else(|_| refuse("its path holds a character that has no place there"))?;
        Ok(Endpoint { address: with_host(address?)?, scheme: Some(scheme), target: Some(target), userinfo })
    }

    /// The endpoint of a signal below this base: `suffix`, such as `/v1/logs`, after exactly one slash.
    pub fn join(&self, suffix: &str) -> Result<Endpoint, EndpointError> {
        let (path, query) = match &self.target {
            Some(target) => (target.path().strip_suffix('/').unwrap_or(target.path()), target.query()),
            None => ("", None),
        };
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let target = PathAndQuery::try_from(format!("{path}/{}{query}", suffix.trim_start_matches('/')));
        let target = Some(target.or_else(|_| refuse(format!("invalid path {suffix:?}")))?);
        Ok(Endpoint { target, ..self.clone() })
    }

    /// The path and query of a request.
    pub fn target(&self) -> &str {
        self.target.as_ref().map_or("/", PathAndQuery::as_str)
    }

    /// What `Host` and `:authority` say: the port stays out where the scheme implies it.
    pub fn authority(&self) -> String {
        match (&self.address, self.scheme) {
            (Address::Unix(_), _) => "localhost".to_owned(),
            (Address::Tcp { host, port }, Some(scheme)) if *port == scheme.default_port() && self.target.is_some() => {
                if host.contains(':') {
                    format!("[{host}]")
                } else {
                    host.clone()
                }
            }
            (address, _) => address.to_string(),
        }
    }

    /// The name that a certificate must be for, unless the configuration overrides it.
    pub fn host(&self) -> &str {
        match &self.address {
            Address::Tcp { host, .. } => host,
            Address::Unix(_) => "localhost",
        }
    }

    /// `user:password` as it stands in the URL, percent-encoded; for basic authentication, never for show.
    pub fn userinfo(&self) -> Option<&str> {
        self.userinfo.as_deref()
    }
}

/// Nobody can be reached at an empty host; Go means this machine by it.
fn with_host(address: Address) -> Result<Address, EndpointError> {
    match address {
        Address::Tcp { host, port } if host.is_empty() => Ok(Address::Tcp { host: "localhost".into(), port }),
        Address::Tcp { port: 0, .. } => refuse(r#"invalid port "0""#),
        address => Ok(address),
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let (Some(scheme), Some(target)) = (self.scheme, &self.target) else {
            return self.address.fmt(formatter);
        };
        write!(formatter, "{}://{}{}", scheme.name(), self.authority(), target.path())?;
        if target.query().is_some() { formatter.write_str("?…") } else { Ok(()) }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Connects, in clear, within `timeout` (zero means no limit). The name is looked up anew each time, so that a moved
/// upstream is found; its addresses are tried by turns of family, each `STAGGER` after the one before or at its failure.
pub async fn connect(address: &Address, timeout: Duration) -> io::Result<Stream> {
    let attempt = async {
        match address {
            #[cfg(unix)]
            Address::Unix(path) => Ok(Stream::Unix(tokio::net::UnixStream::connect(path).await?)),
            #[cfg(not(unix))]
            Address::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
            Address::Tcp { host, .. } => {
                let addresses = address.resolve().await;
                let addresses = addresses.map_err(|error| because(format!("cannot resolve {host}"), error))?;
                let stream = first_to_answer(by_turns(addresses)).await?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
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

fn because(what: String, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// Alternates the two families, beginning with the one that the resolver prefers.
fn by_turns(addresses: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let preferred = addresses.first().map(SocketAddr::is_ipv6);
    let (mut these, mut those): (VecDeque<_>, VecDeque<_>) =
        addresses.into_iter().partition(|address| Some(address.is_ipv6()) == preferred);
    let mut turns = VecDeque::new();
    while let Some(address) = these.pop_front() {
        turns.push_back(address);
        if !those.is_empty() {
            std::mem::swap(&mut these, &mut those);
        }
    }
    turns
}

async fn first_to_answer(mut waiting: VecDeque<SocketAddr>) -> io::Result<TcpStream> {
    let mut attempts = JoinSet::new();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        if let Some(address) = waiting.pop_front() {
            attempts.spawn(TcpStream::connect(address));
        }
        let outcome = match waiting.is_empty() {
            true => attempts.join_next().await,
            false => match tokio::time::timeout(STAGGER, attempts.join_next()).await {
                Ok(outcome) => outcome,
                Err(_) => continue,
            },
        };
        match outcome {
            Some(Ok(Ok(stream))) => return Ok(stream),
            Some(Ok(Err(error))) => failure = error,
            Some(Err(error)) => failure = error.into(),
            None => return Err(failure),
        }
    }
}
