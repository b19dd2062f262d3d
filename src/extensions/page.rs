//! A page of a component, and the settings of its server: the Go collector's `confighttp`, as far as a server needs it
//! whose connections each serve one request without a body.

use std::time::Duration;

use http::{HeaderName, HeaderValue};

use crate::config::{Place, Section};
use crate::network::admin::{Answers, Front};
use crate::network::cors::Cors;
use crate::network::endpoint::Listen;
use crate::network::settings::{self, Listening};
use crate::network::tls::ServerTls;

use super::{Named, Purpose};

/// A page and the server in front of it.
pub struct AdminPage {
    /// The server's name, for people.
    pub(crate) name: &'static str,
    pub(crate) endpoint: Listen,
    pub(crate) tls: Option<ServerTls>,
    /// TLS and authentication are filled in when they are loaded.
    pub(crate) front: Front,
    pub(crate) answers: Answers,
}

/// The settings of the server of a page.
#[derive(Clone, Debug)]
pub(crate) struct PageServer {
    endpoint: Listen,
    tls: Option<ServerTls>,
    auth: Option<(String, Place)>,
    cors: Cors,
    response_headers: Vec<(HeaderName, HeaderValue)>,
    read_timeout: Option<Duration>,
}

impl PageServer {
    pub(crate) fn decode(section: &Section, endpoint: Listen) -> PageServer {
        let given = |key| section.duration_opt(key).filter(|timeout| !timeout.is_zero());
        let timeouts = ["read_timeout", "read_header_timeout"].map(given);
        let server = PageServer {
            endpoint,
            tls: section.section("tls").and_then(ServerTls::decode),
            auth: settings::authenticator(section),
            cors: section.section("cors").map(Cors::decode).unwrap_or_default(),
            response_headers: settings::response_headers(section),
            read_timeout: timeouts.into_iter().flatten().min(),
        };
        section.unset(&["middlewares"]);
        section.ignored(&[
            "max_request_body_size",
            "compression_algorithms",
            "include_metadata",
            "write_timeout",
            "idle_timeout",
            "keep_alives_enabled",
            "keepalive",
        ]);
        server
    }

    pub(crate) fn named(&self) -> Vec<Named> {
        Named::authenticator(&self.auth, "auth.authenticator", Purpose::Server).into_iter().collect()
    }

    pub(crate) fn listens(&self) -> Vec<Listening> {
        vec![Listening { keys: &["endpoint"], protocol: "HTTP", endpoint: self.endpoint.clone() }]
    }

    pub(crate) fn page(&self, name: &'static str, answers: Answers) -> AdminPage {
        let PageServer { endpoint, tls, cors, response_headers, read_timeout, .. } = self.clone();
        let front = Front { cors, response_headers, read_timeout, ..Front::default() };
        AdminPage { name, endpoint, tls, front, answers }
    }
}
