//! The request of a scrape, and its answer: a page of bounded size.

use std::sync::Arc;

use http::{HeaderMap, Request, Uri, header};

use crate::config::files;
use crate::exporters::upstream::{Balance, Pieces, Protocol, Upstream};
use crate::network::endpoint::{Endpoint, Scheme};
use crate::network::proxy::Proxy;
use crate::otlp::inflate::{Coding, Inflater};
use crate::telemetry::{Budget, Charge, Share};

use super::target::Target;
use super::text::Format;

/// Maximum redirects in a row.
const REDIRECTS: usize = 10;
/// Memory for a page is taken in steps.
const STEP: usize = 64 << 10;
/// The largest file with a secret.
const SECRET: u64 = 64 << 10;

pub(super) struct Client {
    upstream: Upstream,
    headers: HeaderMap,
    budget: Arc<Budget>,
}

/// A page and the memory that it takes.
pub(super) struct Page {
    pub(super) text: Vec<u8>,
    pub(super) format: Format,
    _charge: Option<Charge>,
}

impl Page {
    /// Our own, which needs no socket.
    pub(super) fn of(text: String) -> Page {
        Page { text: text.into_bytes(), format: Format::Plain, _charge: None }
    }
}

/// Why there is no page.
pub(super) struct NoPage {
    pub(super) why: String,
    pub(super) is_too_large: bool,
}

impl From<String> for NoPage {
    fn from(why: String) -> NoPage {
        NoPage { why, is_too_large: false }
    }
}

impl Client {
    pub(super) fn new(target: &Target, budget: Arc<Budget>) -> Client {
        let settings = &target.job.client;
        let tls = (target.endpoint.scheme == Some(Scheme::Https)).then(|| settings.tls.clone());
        let forwarder = settings.proxy.as_ref().filter(|_| tls.is_none());
        let balance = settings.proxy.clone().map_or(Balance::PickFirst, Balance::Through);
        let mut headers = settings.headers.clone();
        if let Some(credentials) = forwarder.and_then(Proxy::credentials) {
            headers.insert(header::PROXY_AUTHORIZATION, credentials);
        }
        let seconds = target.timeout.as_secs_f64().to_string();
        if let Ok(seconds) = seconds.try_into() {
            headers.insert("x-prometheus-scrape-timeout-seconds", seconds);
        }
        if let Ok(host) = target.endpoint.authority().try_into() {
            headers.insert(header::HOST, host);
        }
        let upstream = Upstream::new(target.endpoint.clone(), Protocol::Either, tls, None, balance);
        Client { upstream, headers, budget }
    }

    pub(super) async fn scrape(&self, target: &Target) -> Result<Page, NoPage> {
        let mut headers = self.headers.clone();
        if let Some((path, how)) = target.job.client.secret_file.clone() {
            let shown = path.display().to_string();
            let read = files::aside(move || files::read(&path, SECRET, files::Place::File)).await.flatten();
            let secret = read.map_err(|why| format!("cannot read {shown}: {why}"))?;
            let secret = String::from_utf8_lossy(&secret).trim().to_owned();
            how.header(&secret).and_then(|value| headers.insert(header::AUTHORIZATION, value));
        }
        let mut endpoint = target.endpoint.clone();
        for _ in 0..=REDIRECTS {
            let (parts, page) = self.ask(&endpoint, headers.clone(), target).await?;
            let place = parts.headers.get(header::LOCATION).filter(|_| parts.status.is_redirection());
            match place.filter(|_| target.job.client.follows_redirects) {
                Some(place) => endpoint = redirected(&endpoint, place.to_str().unwrap_or_default())?,
                None if is_ok(&parts) => return Ok(page),
                None => return Err(format!("server returned HTTP status {}", parts.status).into()),
            }
        }
        Err(format!("stopped after {REDIRECTS} redirects").into())
    }

    async fn ask(
        &self,
        endpoint: &Endpoint,
        headers: HeaderMap,
        target: &Target,
    ) -> Result<(http::response::Parts, Page), NoPage> {
        let scheme = if endpoint.scheme == Some(Scheme::Https) { "https" } else { "http" };
        let uri = Uri::builder().scheme(scheme).authority(endpoint.authority()).path_and_query(endpoint.target());
        let uri = uri.build().map_err(|error| error.to_string())?;
        let mut request = Request::get(uri).body(Pieces::new(Default::default())).map_err(|error| error.to_string())?;
        *request.headers_mut() = headers;
        let mut body = Body::new(target.job.limits.body_most(), &self.budget);
        let parts = self.upstream.fetch(request, &mut |parts, piece| body.take(parts, piece)).await;
        let parts = match (parts, body.failed.take()) {
            (_, Some(failed)) => return Err(failed),
            (parts, None) => parts.map_err(|status| status.message)?,
        };
        let page = body.finish(&parts, target.job.fallback)?;
        Ok((parts, page))
    }
}

/// Whether the answer is a page.
fn is_ok(parts: &http::response::Parts) -> bool {
    parts.status.as_u16() == 200
}

/// Where a redirect leads. Only the target itself may be asked, which the rules and TLS settings are for.
fn redirected(from: &Endpoint, to: &str) -> Result<Endpoint, String> {
    let whole = match to.starts_with('/') && !to.starts_with("//") {
        true => {
            let scheme = if from.scheme == Some(Scheme::Https) { "https" } else { "http" };
            format!("{scheme}://{}{to}", from.authority())
        }
        false => to.to_owned(),
    };
    let endpoint = Endpoint::http(&whole).map_err(|why| format!("cannot follow a redirect: {why}"))?;
    let is_same = endpoint.address == from.address && endpoint.scheme == from.scheme;
    if is_same { Ok(endpoint) } else { Err("a redirect to another server is not followed".to_owned()) }
}

/// A body while it is read.
struct Body {
    text: Vec<u8>,
    inflater: Option<Inflater>,
    has_begun: bool,
    most: usize,
    charge: Charge,
    failed: Option<NoPage>,
}

impl Body {
    fn new(most: usize, budget: &Arc<Budget>) -> Body {
        let charge = Charge::held(budget, Share::Ingest, 0);
        Body { text: Vec::new(), inflater: None, has_begun: false, most, charge, failed: None }
    }

    /// Takes a piece; false if no more is wanted.
    fn take(&mut self, parts: &http::response::Parts, piece: &[u8]) -> bool {
        if !std::mem::replace(&mut self.has_begun, true) {
            let coding = parts.headers.get(header::CONTENT_ENCODING).map(|coding| coding.as_bytes());
            self.inflater = (coding == Some(b"gzip")).then(|| Inflater::new(Coding::Gzip, self.most));
        }
        // A refusal's text is of no use.
        if !is_ok(parts) {
            return true;
        }
        let (charge, too_large) = (&self.charge, self.most);
        let mut grant = |bytes: usize| charge.grow(bytes.next_multiple_of(STEP) as u64);
        let no_memory = || NoPage::from("no memory left for the page".to_owned());
        let large = || NoPage {
            why: format!("body size limit exceeded: it is larger than {too_large} bytes"),
            is_too_large: true,
        };
        let result = match &mut self.inflater {
            Some(inflater) => inflater.push(piece, &mut self.text, &mut grant).map_err(|error| match error {
                crate::otlp::inflate::InflateError::TooLarge { .. } => large(),
                crate::otlp::inflate::InflateError::NoMemory => no_memory(),
                other => other.to_string().into(),
            }),
            None if self.text.len() + piece.len() > self.most => Err(large()),
            None => {
                let room = self.text.capacity() - self.text.len();
                let needed = if room < piece.len() { piece.len().max(self.text.len() / 2).max(4096) } else { 0 };
                if needed > 0 && !grant(needed) {
                    Err(no_memory())
                } else {
                    self.text.reserve_exact(needed);
                    self.text.extend_from_slice(piece);
                    Ok(())
                }
            }
        };
        self.failed = result.err();
        self.failed.is_none()
    }

    fn finish(mut self, parts: &http::response::Parts, fallback: Format) -> Result<Page, NoPage> {
        if let Some(inflater) = self.inflater.take().filter(|_| is_ok(parts)) {
            inflater.finish(&mut self.text, &mut |_| false).map_err(|error| error.to_string())?;
        }
        let format = format_of(parts.headers.get(header::CONTENT_TYPE).map(|kind| kind.as_bytes()), fallback)?;
        Ok(Page { text: self.text, format, _charge: Some(self.charge) })
    }
}

/// The format that a content type names, or that of a target that names none.
fn format_of(content_type: Option<&[u8]>, fallback: Format) -> Result<Format, String> {
    let kind = String::from_utf8_lossy(content_type.unwrap_or_default()).to_ascii_lowercase();
    match kind.split(';').next().unwrap_or_default().trim() {
        "text/plain" => Ok(Format::Plain),
        "application/openmetrics-text" => Ok(Format::OpenMetrics),
        "application/vnd.google.protobuf" => Err("a page in protobuf is not supported".to_owned()),
        _ => Ok(fallback),
    }
}
