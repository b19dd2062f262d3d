//! A forward proxy to an upstream. TLS and gRPC use a CONNECT tunnel; plain HTTP requests are forwarded one by one.
//!
//! `proxy/environment` reads the proxy from the environment. Messages name the proxy and the setting, never its
//! credentials.

mod environment;

pub use environment::Environment;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HOST, HeaderValue, PROXY_AUTHORIZATION, USER_AGENT};
use http::{Request, StatusCode};
use hyper::client::conn::http1;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;

use super::endpoint::{self, Address, Endpoint, Scheme, because};
use super::interim::Interim;
use super::tls::{self, ClientTls};
use super::{Carrier, Stream};

/// Requests to the proxy itself have no body.
type Empty = String;

#[derive(Clone, Debug)]
pub struct Proxy {
    url: Endpoint,
    /// The key or variable that names it.
    setting: &'static str,
    /// For a proxy that speaks TLS.
    tls: Option<Arc<tls::Client>>,
}

impl Carrier for TokioIo<Upgraded> {}

impl Proxy {
    /// `text` is `http://` or `https://`, optionally `user:password@`, host, port; `tls` is the exporter's.
    pub fn new(text: &str, setting: &'static str, tls: &ClientTls) -> Result<Proxy, String> {
        if text.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("socks")) {
            return Err("a SOCKS proxy is not supported: name one that speaks HTTP".into());
        }
        // The parser's error may contain part of a password.
        let url = Endpoint::http(text).map_err(|_| "it is no URL of a proxy: write http://HOST:PORT")?;
        let tls = ClientTls { server_name_override: None, ..tls.clone() };
        let tls = (url.scheme == Some(Scheme::Https)).then(|| Arc::new(tls::Client::new(tls, &[b"http/1.1"])));
        Ok(Proxy { url, setting, tls })
    }

    pub(crate) fn address(&self) -> &Address {
        &self.url.address
    }

    /// `Proxy-Authorization`, if the URL has a user.
    pub(crate) fn credentials(&self) -> Option<HeaderValue> {
        self.url.credentials()
    }

    /// Connects to the proxy itself.
    pub(crate) async fn connect(&self) -> io::Result<Stream> {
        let stream = endpoint::connect(self.address(), Duration::ZERO).await;
        let stream =
            stream.map_err(|error| because(format!("cannot reach the proxy that {} names", self.setting), error))?;
        let Some(tls) = &self.tls else { return Ok(stream) };
        let secured = tls.secure(stream, self.url.host()).await;
        secured.map_err(|why| io::Error::other(format!("{self}: {why}")))
    }

    /// Connects through the proxy, which resolves the name of `target`.
    pub(crate) async fn tunnel(&self, target: &Address) -> io::Result<Stream> {
        let stream = self.connect().await?;
        let broken =
            |error: hyper::Error| io::Error::other(format!("{self} ends the connection at CONNECT {target}: {error}"));
        let interim = Interim::default();
        let (mut sender, connection) = http1::handshake(TokioIo::new(interim.limit(stream))).await.map_err(broken)?;
        #[expect(
            clippy::disallowed_methods,
            reason = "ends with the connection, which its sender or the tunnel holds"
        )]
        tokio::spawn(connection.with_upgrades());
        let mut request = Request::connect(target.to_string());
        request =
            request.header(HOST, target.to_string()).header(USER_AGENT, concat!("misaki/", env!("CARGO_PKG_VERSION")));
        if let Some(credentials) = self.credentials() {
            request = request.header(PROXY_AUTHORIZATION, credentials);
        }
        let mut request = request.body(Empty::new()).map_err(io::Error::other)?;
        interim.count_for(&mut request);
        let answer = sender.send_request(request).await.map_err(broken)?;
        match answer.status() {
            StatusCode::OK => Ok(Box::new(TokioIo::new(hyper::upgrade::on(answer).await.map_err(broken)?))),
            status => Err(io::Error::other(self.refusal(status, target))),
        }
    }

    fn refusal(&self, status: StatusCode, target: &Address) -> String {
        let why = match status.as_u16() {
            401 | 407 if self.url.userinfo.is_none() => {
                "it wants a user and a password: write them into its URL".to_owned()
            }
            401 | 407 => "it does not accept the user and the password in its URL".to_owned(),
            403 | 405 => format!("it does not allow connections to {target}"),
            502..=504 => format!("it cannot reach {target}"),
            _ => format!("it makes no connection to {target}"),
        };
        format!("{self} answered {} to CONNECT: {why}", status.as_u16())
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "the proxy at {} ({})", self.address(), self.setting)
    }
}
