//! Config sections that name sockets: endpoints, headers and authenticators. `tls` decodes its own section.

use http::{HeaderName, HeaderValue};

use crate::config::Place;
use crate::config::section::{Secret, Section};

use super::endpoint::{Endpoint, Listen, Scheme};
use super::proxy::{Environment, Proxy};
use super::tls::ClientTls;

/// A port that a component listens on.
#[derive(Clone, Debug)]
pub(crate) struct Listening {
    /// The keys of the endpoint below the component's section.
    pub(crate) keys: &'static [&'static str],
    /// The protocol's name, for people.
    pub(crate) protocol: &'static str,
    pub(crate) endpoint: Listen,
}

/// `endpoint` and `transport` of a server.
pub(crate) fn listen(section: &Section, default: &str) -> Listen {
    let transport = section.text_or("transport", "tcp");
    let endpoint = section.text_or("endpoint", default);
    Listen::parse(&endpoint, &transport).unwrap_or_else(|error| {
        let key = if Listen::parse(default, &transport).is_err() { "transport" } else { "endpoint" };
        match (endpoint.split_once("://"), completed(&endpoint, default)) {
            (Some((_, address)), _) => section.problem_with_help(key, error, format!("without a scheme: {address}")),
            (None, Some(whole)) if key == "endpoint" => section.problem_with_help(key, error, format!("write {whole}")),
            (None, _) => section.problem(key, error),
        }
        Listen::parse(default, "tcp").expect("a default endpoint is an endpoint")
    })
}

/// An upstream's endpoint; `None` if it is missing or wrong.
pub(crate) fn endpoint(section: &Section, key: &str, parse: fn(&str) -> Result<Endpoint, String>) -> Option<Endpoint> {
    let text = section.url(key).filter(|text| !text.is_empty())?;
    let (scheme, default) = match parse("localhost:4317") {
        Ok(_) => ("", "localhost:4317"),
        Err(_) => ("http://", "localhost:4318"),
    };
    let refused = |error| {
        let whole = format!("{scheme}{}", completed(&text, default).as_deref().unwrap_or(&text));
        // What may hold a password is not repeated.
        let is_address = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte));
        match is_address && parse(&whole).is_ok() {
            true => section.problem_with_help(key, error, format!("write {whole}")),
            false => section.problem(key, error),
        }
    };
    let endpoint = parse(&text).map_err(refused).ok()?;
    if let Some(form) = endpoint.in_go(&text) {
        section.warning(key, format!("the Go collector refuses this form: write {form}"));
    }
    Some(endpoint)
}

/// A port alone, or a host alone, with the other half of `default`.
fn completed(endpoint: &str, default: &str) -> Option<String> {
    let (host, port) = default.rsplit_once(':')?;
    let is_host = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte));
    match endpoint.parse::<u16>() {
        Ok(port) => Some(format!("{host}:{port}")),
        Err(_) => is_host(endpoint).then(|| format!("{endpoint}:{port}")),
    }
}

/// `response_headers` of a server, which are part of each answer.
pub(crate) fn response_headers(section: &Section) -> Vec<(HeaderName, HeaderValue)> {
    let header = |(name, value, place): (String, Secret, Place)| match (
        HeaderName::try_from(&name),
        HeaderValue::from_str(value.expose()),
    ) {
        (Ok(name), Ok(value)) => Some((name, value)),
        _ => {
            section.problem_at(place, "response_headers", format!("\"{name}\" is not a valid header"), None);
            None
        }
    };
    section.headers("response_headers").into_iter().filter_map(header).collect()
}

/// The proxy that the environment names for an upstream.
pub(crate) fn proxy(
    section: &Section,
    key: &str,
    endpoint: &Endpoint,
    scheme: Scheme,
    tls: &ClientTls,
) -> Option<Proxy> {
    let refused = |why| {
        let help = "mend the variable, or name the host in NO_PROXY";
        section.problem_with_help(key, why, help);
    };
    Environment::of_process().proxy(endpoint, scheme, tls).map_err(refused).ok().flatten()
}

/// `auth`: the id of an authenticator extension, and where the config names it.
pub(crate) fn authenticator(section: &Section) -> Option<(String, Place)> {
    let auth = section.section("auth")?;
    let place = auth.place("authenticator");
    // Without a name, the id matches no extension: access is never left open.
    let id = auth.text("authenticator").or_else(|| auth.missing("authenticator")).unwrap_or_default();
    if auth.texts("request_params").is_some_and(|params| !params.is_empty()) {
        auth.problem("request_params", "credentials are taken from headers alone: what is in a URL ends up in logs");
    }
    auth.finish();
    Some((id, place))
}
