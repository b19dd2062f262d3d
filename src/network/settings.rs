//! The sections of the config that name sockets: endpoints (facts 2.2, 3.1, 3.2); `tls` decodes its own.

use crate::config::section::Section;

use super::endpoint::{Endpoint, EndpointError, Listen};

/// `endpoint` and `transport` of a server.
pub fn listen(section: &Section, default: &str) -> Listen {
    let transport = section.text_or("transport", "tcp");
    let endpoint = section.text_or("endpoint", default);
    Listen::parse(&endpoint, &transport).unwrap_or_else(|error| {
        let key = if section.has("transport") && Listen::parse(default, &transport).is_err() {
            "transport"
        } else {
            "endpoint"
        };
        section.problem(key, error.to_string());
        Listen::parse(default, "tcp").expect("a default endpoint is an endpoint")
    })
}

/// An upstream's endpoint; on a problem, one that is never used.
pub fn endpoint(section: &Section, key: &str, parse: fn(&str) -> Result<Endpoint, EndpointError>) -> Option<Endpoint> {
    let text = section.text(key)?;
    parse(&text).inspect_err(|error| section.problem(key, error.to_string())).ok()
}
