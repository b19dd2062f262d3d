//! Who may see the page: the browser that was given the address with the token, and no page of another origin. Every
//! request passes these checks before anything else of it is looked at.
//!
//! Any web page can make a browser send requests to this machine. `Host` defends against names that a page's owner
//! points at 127.0.0.1 (DNS rebinding), `Origin` and `Sec-Fetch-Site` against requests of other pages, and the token
//! against other users of this machine. `SameSite` alone is not enough: for it, all ports of a host are one site. For
//! the same reason the browser sends the cookie to servers on other ports of this machine that the user visits.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use http::header::{COOKIE, HOST, HeaderMap, HeaderValue, ORIGIN};
use http::{Method, Request, Uri};
use ring::rand::{SecureRandom, SystemRandom};

use crate::diagnostics::log;
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
    token: Key,
    /// A token for one use.
    ticket: Key,
    is_spent: AtomicBool,
    is_told: AtomicBool,
}

/// A key in an address, and the cookie that a browser gets for it.
struct Key {
    known: Fingerprint,
    cookie: Fingerprint,
    set_cookie: HeaderValue,
}

/// The keys to a door. Other users can read the arguments of a process, so the command that opens a browser gets the
/// ticket.
pub(super) struct Keys {
    pub(super) token: String,
    pub(super) ticket: String,
}

/// The outcome of the checks.
pub(super) enum Admission {
    Enter,
    /// The token is in the address: the browser gets the cookie, and goes on to the address without the token.
    Welcome {
        address: String,
        cookie: HeaderValue,
        /// Another site's page has the link.
        is_foreign: bool,
    },
    Refused,
    /// The request is for another host.
    Misled,
}

impl Door {
    /// The door of a server, and its keys; `None` if the system gives no random numbers.
    pub(super) fn new(listening: SocketAddr) -> Option<(Door, Keys)> {
        let keys = Keys { token: random()?, ticket: random()? };
        let cookie = format!("misaki_{}", listening.port());
        let token = Key::new(&keys.token, &cookie, &keys.token)?;
        // A value of its own: a process that takes the ticket never learns the token.
        let ticket = Key::new(&keys.ticket, &cookie, &random()?)?;
        let (is_spent, is_told) = (AtomicBool::new(false), AtomicBool::new(false));
        Some((Door { names: names(listening), cookie, token, ticket, is_spent, is_told }, keys))
    }

    pub(super) fn admit<Body>(&self, request: &Request<Body>) -> Admission {
        let (method, headers, uri) = (request.method(), request.headers(), request.uri());
        let Some(host) = self.host(uri, headers) else { return Admission::Misled };
        let is_reading = [Method::GET, Method::HEAD].contains(method);
        if !is_of_origin(headers, host, is_reading) {
            return Admission::Refused;
        }
        let Ok(fetch_site) = only(headers, "sec-fetch-site") else { return Admission::Refused };
        // `none` is an address that the user typed, or opened from another program.
        let is_foreign = !matches!(fetch_site, None | Some("same-origin" | "none"));
        let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let (tokens, rest): (Vec<&str>, Vec<&str>) = pairs.partition(|pair| pair.starts_with(PARAMETER));
        let token = match tokens.as_slice() {
            [] if !is_foreign && self.has_cookie(headers) => return Admission::Enter,
            [pair] => pair.strip_prefix(PARAMETER).unwrap_or_default(),
            _ => return Admission::Refused,
        };
        let may_try = is_reading && (!is_foreign || is_navigation(headers));
        let Some(key) = may_try.then(|| self.key(token)).flatten() else { return Admission::Refused };
        let mark = if rest.is_empty() { "" } else { "?" };
        // Absolute: a path such as `//host` would lead elsewhere.
        let address = format!("http://{host}{}{mark}{}", uri.path(), rest.join("&"));
        Admission::Welcome { address, cookie: key.set_cookie.clone(), is_foreign }
    }

    /// The host that the request names, if it is this server.
    fn host(&self, uri: &Uri, headers: &HeaderMap) -> Option<&str> {
        let host = only(headers, HOST.as_str()).ok()??;
        let is_same = uri.authority().is_none_or(|authority| authority.as_str() == host);
        self.names.iter().map(String::as_str).find(|name| is_same && *name == host)
    }

    /// The key with this text. The ticket is used up then.
    fn key(&self, text: &str) -> Option<&Key> {
        let text = fingerprint(&[text.as_bytes()]);
        if is_equal(&text, &self.token.known) {
            return Some(&self.token);
        }
        if !is_equal(&text, &self.ticket.known) {
            return None;
        }
        if !self.is_spent.swap(true, Relaxed) {
            return Some(&self.ticket);
        }
        if !self.is_told.swap(true, Relaxed) {
            log::write(
                "misaki: the address for the browser was opened a second time, and refused. If the page is not in your \
                 browser, another program took the address: end this page\n",
            );
        }
        None
    }

    /// Any of the cookies of the name will do: a page on another port can add one.
    fn has_cookie(&self, headers: &HeaderMap) -> bool {
        let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.filter(|(name, _)| *name == self.cookie).any(|(_, value)| {
            let value = fingerprint(&[value.as_bytes()]);
            [&self.token, &self.ticket].into_iter().any(|key| is_equal(&value, &key.cookie))
        })
    }
}

impl Key {
    fn new(text: &str, name: &str, value: &str) -> Option<Key> {
        let set_cookie = format!("{name}={value}; HttpOnly; SameSite=Strict; Path=/");
        Some(Key {
            known: fingerprint(&[text.as_bytes()]),
            cookie: fingerprint(&[value.as_bytes()]),
            set_cookie: HeaderValue::try_from(set_cookie).ok()?,
        })
    }
}

/// A token in hexadecimal digits.
fn random() -> Option<String> {
    let (mut bytes, mut digits) = ([0; TOKEN], Vec::new());
    SystemRandom::new().fill(&mut bytes).ok()?;
    hex::put(&bytes, &mut digits);
    String::from_utf8(digits).ok()
}

/// A browser leaves out the port of `http`.
fn names(listening: SocketAddr) -> Vec<String> {
    let (address, port) = (listening.to_string(), listening.port());
    let host = address.rsplit_once(':').map_or("", |(host, _)| host);
    let is_localhost = ["127.0.0.1", "[::1]"].contains(&host);
    let hosts = [host].into_iter().chain(is_localhost.then_some("localhost"));
    hosts.flat_map(|host| [Some(format!("{host}:{port}")), (port == 80).then(|| host.to_owned())]).flatten().collect()
}

/// The value of a header that may occur once.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(drop),
        _ => Err(()),
    }
}

/// Whether a page of this server sends the request. A browser leaves out the header only when it reads.
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
