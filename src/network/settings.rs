//! The sections of the config that name sockets: endpoints and `tls:` (facts 2.2, 2.4, 3.1, 3.2).

use crate::config::section::Section;

use std::time::Duration;

use super::endpoint::{Endpoint, EndpointError, Listen};
use super::tls::{ClientTls, Identity, Pem, ServerTls, Version, Versions};

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

impl ServerTls {
    /// `None` when the certificate or key is missing, which has been reported then.
    pub fn decode(section: Section) -> Option<ServerTls> {
        let (identity, _, versions) = common(&section);
        if identity.is_none() {
            let message = "TLS configuration must include both certificate and key for server connections";
            let key = if section.has("cert_file") { "cert_file" } else { "key_file" };
            section.problem_with_help(key, message, "write both cert_file and key_file");
        }
        let client_ca = pem(&section, "client_ca_file", "client_ca_pem", "client CA");
        section.ignored(&["client_ca_file_reload"]);
        section.finish();
        Some(ServerTls { identity: identity?, client_ca, versions })
    }
}

impl ClientTls {
    pub fn decode(section: Section) -> ClientTls {
        let (identity, ca, versions) = common(&section);
        if identity.is_none() && (section.has("cert_file") || section.has("key_file")) {
            let message =
                "TLS configuration must include both certificate and key (CertFile/CertPem and KeyFile/KeyPem)";
            section.problem(if section.has("cert_file") { "cert_file" } else { "key_file" }, message);
        }
        let tls = ClientTls {
            insecure: section.boolean("insecure", false),
            insecure_skip_verify: section.boolean("insecure_skip_verify", false),
            ca,
            include_system_ca_certs_pool: section.boolean("include_system_ca_certs_pool", false),
            identity,
            server_name_override: section.text("server_name_override"),
            versions,
        };
        section.finish();
        tls
    }
}

/// What both sides of TLS share.
fn common(section: &Section) -> (Option<Identity>, Option<Pem>, Versions) {
    let cert = pem(section, "cert_file", "cert_pem", "certificate");
    let key = pem(section, "key_file", "key_pem", "key");
    let ca = pem(section, "ca_file", "ca_pem", "CA");
    let reload_interval = section.duration("reload_interval", Duration::ZERO);
    let names = &[("1.0", Version::Tls10), ("1.1", Version::Tls11), ("1.2", Version::Tls12), ("1.3", Version::Tls13)];
    let versions = Versions {
        min: section.choice("min_version", Version::Tls12, names),
        max: section.choice("max_version", Version::Tls13, names),
    };
    if versions.min > versions.max {
        let message = "invalid TLS configuration: min_version cannot be greater than max_version";
        section.problem("min_version", message);
    }
    section.ignored(&["cipher_suites", "curve_preferences", "include_insecure_cipher_suites"]);
    let identity = cert.zip(key).map(|(cert, key)| Identity { cert, key, reload_interval });
    (identity, ca, versions)
}

fn pem(section: &Section, file: &'static str, inline: &'static str, what: &str) -> Option<Pem> {
    let (path, text) = (section.text(file), section.secret(inline));
    if path.is_some() && text.is_some() {
        section.problem(file, format!("provide either {what} file or PEM, but not both"));
    }
    let text = text.map(|text| Pem::Inline { setting: inline, text: text.expose().into() });
    path.map(|path| Pem::File { setting: file, path: path.into() }).or(text)
}
