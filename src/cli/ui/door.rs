//! Who may see the page: the browser that was given the address with the token, and no page of another origin. Every
//! request passes these checks before anything else of it is looked at.
//!
//! Any web page can make a browser send requests to this machine. `Host` defends against names that a page's owner
//! points at 127.0.0.1 (DNS rebinding), `Origin` and `Sec-Fetch-Site` against requests of other pages, and the token
//! against other users of this machine. `SameSite` alone is not enough: for it, all ports of a host are one site.

use std::net::SocketAddr;

use http::header::{COOKIE, HOST, HeaderMap, HeaderValue, ORIGIN};
use http::{Method, Request, Uri};
use ring::rand::{SecureRandom, SystemRandom};

use crate::network::auth::{Fingerprint, fingerprint, is_equal};
use crate::otlp::hex;

/// The bytes of a token: 128 bits.
const TOKEN: usize = 16;
/// The parameter that carries the token.
const PARAMETER: &str = "token=";

pub(super) struct Door {
    /// The values of `Host` that name this server, as a browser writes them.
    names: Vec<String>,
    /// The name of the cookie. Cookies of a host are shared by its ports, so it has the port in it.
    cookie: String,
    token: Fingerprint,
}

/// What becomes of a request.
#[derive(Debug, PartialEq)]
pub(super) enum Admission {
    Enter,
    /// It has the token: it gets the cookie, and goes on to the address without the token.
    Welcome {
        address: String,
        cookie: String,
        is_foreign: bool,
    },
    Refused,
}

impl Door {
    /// The door of a server, and the token that opens it.
    pub(super) fn new(listening: SocketAddr) -> Option<(Door, String)> {
        let mut bytes = [0; TOKEN];
        SystemRandom::new().fill(&mut bytes).ok()?;
        let mut token = Vec::new();
        hex::put(&bytes, &mut token);
        let door = Door {
            names: names(listening),
            cookie: format!("misaki_{}", listening.port()),
            token: fingerprint(&[&token]),
        };
        Some((door, String::from_utf8_lossy(&token).into_owned()))
    }

    pub(super) fn admit<Body>(&self, request: &Request<Body>) -> Admission {
        let (method, headers) = (request.method(), request.headers());
        let Some(host) = self.host(request.uri(), headers) else { return Admission::Refused };
        let is_reading = [Method::GET, Method::HEAD].contains(method);
        if !is_of_origin(headers, host, is_reading) {
            return Admission::Refused;
        }
        let Ok(fetch_site) = only(headers, "sec-fetch-site") else { return Admission::Refused };
        // `none` is an address that the user typed or opened from another program.
        let is_foreign = !matches!(fetch_site, None | Some("same-origin" | "none"));
        let query = request.uri().query().unwrap_or_default();
        let (tokens, rest): (Vec<&str>, Vec<&str>) = query.split('&').partition(|pair| pair.starts_with(PARAMETER));
        if let [pair] = tokens.as_slice() {
            let token = pair.strip_prefix(PARAMETER).unwrap_or_default();
            return match is_reading && (!is_foreign || is_navigation(headers)) && self.opens(token) {
                true => self.welcome(host, request.uri().path(), &rest.join("&"), token, is_foreign),
                false => Admission::Refused,
            };
        }
        match tokens.is_empty() && !is_foreign && self.has_cookie(headers) {
            true => Admission::Enter,
            false => Admission::Refused,
        }
    }

    /// The host that the request names, if it is this server.
    fn host(&self, uri: &Uri, headers: &HeaderMap) -> Option<&str> {
        let host = only(headers, HOST.as_str()).ok()??;
        let is_same = uri.authority().is_none_or(|authority| authority.as_str() == host);
        self.names.iter().map(String::as_str).find(|name| is_same && *name == host)
    }

    fn opens(&self, token: &str) -> bool {
        is_equal(&fingerprint(&[token.as_bytes()]), &self.token)
    }

    /// Any of the cookies of the name will do: a page on another port can add one.
    fn has_cookie(&self, headers: &HeaderMap) -> bool {
        let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.filter(|(name, _)| *name == self.cookie).any(|(_, value)| self.opens(value))
    }

    /// The address is absolute: a path such as `//host` would lead elsewhere.
    fn welcome(&self, host: &str, path: &str, query: &str, token: &str, is_foreign: bool) -> Admission {
        let mark = if query.is_empty() { "" } else { "?" };
        let address = format!("http://{host}{path}{mark}{query}");
        let cookie = format!("{}={token}; HttpOnly; SameSite=Strict; Path=/", self.cookie);
        Admission::Welcome { address, cookie, is_foreign }
    }
}

/// A browser leaves out the port of `http`.
fn names(listening: SocketAddr) -> Vec<String> {
    let port = listening.port();
    let address = SocketAddr::new(listening.ip(), port).to_string();
    let host = address.rsplit_once(':').map_or("", |(host, _)| host).to_owned();
    let is_localhost = ["127.0.0.1", "[::1]"].contains(&host.as_str());
    let hosts = [host].into_iter().chain(is_localhost.then(|| "localhost".to_owned()));
    hosts.flat_map(|host| [Some(format!("{host}:{port}")), (port == 80).then_some(host)]).flatten().collect()
}

/// The value of a header that may be there once.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(drop),
        _ => Err(()),
    }
}

/// Whether the request is of a page of this server. A browser leaves the header out only when it reads.
fn is_of_origin(headers: &HeaderMap, host: &str, is_reading: bool) -> bool {
    match only(headers, ORIGIN.as_str()) {
        Ok(None) => is_reading,
        Ok(Some(origin)) => origin.strip_prefix("http://") == Some(host),
        Err(()) => false,
    }
}

/// Whether the browser opens a page in a tab, and not a part of another page.
fn is_navigation(headers: &HeaderMap) -> bool {
    let is = |name, value| headers.get(name) == Some(&HeaderValue::from_static(value));
    is("sec-fetch-mode", "navigate") && is("sec-fetch-dest", "document")
}
