//! Redirects by an upstream. 307 and 308 keep the method and the body. They are followed only to the same scheme, host
//! and port, because the connection settings and credentials are meant for these.

use http::header::LOCATION;
use http::response::Parts;
use http::uri::{PathAndQuery, Uri};

use crate::config::secrecy::redacted_url;

/// Maximum redirects of one request, as in Go's client.
pub(super) const MOST: usize = 10;

/// The next target, if the answer redirects. An error says why the redirect is not followed.
pub(super) fn next(from: &Uri, answer: &Parts) -> Option<Result<Uri, String>> {
    let location = answer.headers.get(LOCATION).filter(|_| answer.status.is_redirection())?;
    let location = String::from_utf8_lossy(location.as_bytes());
    let keeps_body = matches!(answer.status.as_u16(), 307 | 308);
    let target = resolved(from, &location).filter(|to| keeps_body && is_same_server(from, to));
    let refusal =
        || format!("it redirects to {}, which is not followed: write that into the endpoint", redacted_url(&location));
    Some(target.ok_or_else(refusal))
}

fn resolved(from: &Uri, location: &str) -> Option<Uri> {
    if location.contains("://") {
        return location.parse().ok();
    }
    if location.starts_with("//") {
        return format!("{}:{location}", from.scheme_str()?).parse().ok();
    }
    let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
    let path = if location.starts_with('/') { location.to_owned() } else { format!("{folder}/{location}") };
    let mut parts = from.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(path).ok()?);
    Uri::from_parts(parts).ok()
}

fn is_same_server(one: &Uri, other: &Uri) -> bool {
    let port = |uri: &Uri| uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    let host = |uri: &Uri| uri.host().unwrap_or_default().to_ascii_lowercase();
    one.scheme() == other.scheme() && host(one) == host(other) && port(one) == port(other)
}
