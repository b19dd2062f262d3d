//! Decodes `tls:` sections with the Go collector's rules.

use super::{ClientTls, Identity, Pem, ServerTls, Version, Versions};
use crate::config::Section;
use std::time::Duration;

/// Default interval between checks of certificates.
const RELOAD_INTERVAL: Duration = Duration::from_secs(60);
/// The same for client CAs.
const CLIENT_CA_RELOAD: Duration = Duration::from_secs(1);

impl ServerTls {
    /// `None` if it is unusable; the problem has been reported.
    pub fn decode(section: Section) -> Option<ServerTls> {
        let ClientTls { identity, versions, .. } = common(&section);
        let client_ca = section.text("client_ca_file").filter(|path| !path.is_empty());
        let client_ca = client_ca.map(|path| Pem::File { setting: "client_ca_file", path: path.into() });
        let client_ca_reload = match section.boolean("client_ca_file_reload", false) {
            true => CLIENT_CA_RELOAD,
            false => Duration::ZERO,
        };
        if identity.is_none() && !section.has("cert_file") && !section.has("cert_pem") {
            section.problem("", "TLS configuration must include both certificate and key for server connections");
        }
        let identity = identity?;
        look_later(&section, client_ca.as_ref(), Some(&identity));
        Some(ServerTls { identity, client_ca, client_ca_reload, versions })
    }
}

impl ClientTls {
    pub fn decode(section: Section) -> ClientTls {
        let tls = ClientTls {
            insecure: section.boolean("insecure", false),
            insecure_skip_verify: section.boolean("insecure_skip_verify", false),
            server_name_override: section.text("server_name_override").filter(|name| !name.is_empty()),
            ..common(&section)
        };
        if !tls.is_plaintext() {
            look_later(&section, tls.ca.as_ref(), tls.identity.as_ref());
        }
        tls
    }
}

/// Checks after decoding that every file exists and has the right content; otherwise no connection would ever succeed.
fn look_later(section: &Section, ca: Option<&Pem>, identity: Option<&Identity>) {
    let look = |pem: &Pem, holds: &'static str, look: Box<dyn Fn() -> Result<(), String> + Send>| {
        let help = match pem {
            Pem::File { .. } => format!("name a PEM file with {holds}, which the user that misaki runs as may read"),
            Pem::Inline { .. } => format!("write the PEM text of {holds}, from its BEGIN line to its END line"),
        };
        section.look_later(pem.setting(), move || look().map_err(|error| (error, Some(help.clone()))));
    };
    if let Some(ca) = ca.cloned() {
        look(&ca.clone(), "the certificate of the CA", Box::new(move || ca.roots(&ca.certificates()?).map(drop)));
    }
    if let Some(both) = identity.cloned() {
        let (cert, key) = (both.cert.clone(), both.key.clone());
        look(&cert.clone(), "the certificate", Box::new(move || cert.certificates().map(drop)));
        let load = move || match both.cert.certificates() {
            Ok(_) => both.load().map(drop),
            Err(_) => both.key.private_key().map(drop),
        };
        look(&key, "the key of the certificate", Box::new(load));
    }
}

/// The keys common to both sides.
fn common(section: &Section) -> ClientTls {
    section.ignored(&["include_insecure_cipher_suites"]);
    for key in ["cipher_suites", "curve_preferences"] {
        if section.texts(key).is_some_and(|list| !list.is_empty()) {
            let help = "remove it: only suites with authenticated encryption and forward secrecy are ever used";
            section.problem_with_help(key, "choosing them is not supported", help);
        }
    }
    let tpm = section.subsection("tpm");
    if tpm.boolean("enabled", false) {
        tpm.problem("enabled", "keys in a TPM are not supported");
    }
    tpm.ignored(&["path", "owner_auth", "auth"]);
    ClientTls {
        ca: pem(section, "ca_file", "ca_pem", "provide either a CA file or the PEM-encoded string, but not both"),
        include_system_ca_certs_pool: section.boolean("include_system_ca_certs_pool", false),
        identity: identity(section),
        versions: versions(section),
        ..ClientTls::default()
    }
}

fn pem(section: &Section, file: &'static str, inline: &'static str, both: &str) -> Option<Pem> {
    let path = section.text(file).filter(|path| !path.is_empty());
    let text = section.secret(inline).filter(|text| !text.expose().is_empty());
    match (path, text) {
        (Some(path), None) => Some(Pem::File { setting: file, path: path.into() }),
        (None, Some(text)) => Some(Pem::Inline { setting: inline, text: text.expose().into() }),
        (None, None) => None,
        (Some(_), Some(_)) => {
            section.problem(inline, both);
            None
        }
    }
}

fn identity(section: &Section) -> Option<Identity> {
    let cert = pem(section, "cert_file", "cert_pem", "provide either certificate file or PEM, but not both");
    let key = pem(section, "key_file", "key_pem", "provide either key file or PEM, but not both");
    let reload_interval = section.duration("reload_interval", RELOAD_INTERVAL);
    let given = |keys: [&str; 2]| keys.into_iter().any(|key| section.has(key));
    if given(["cert_file", "cert_pem"]) != given(["key_file", "key_pem"]) {
        let both = "TLS configuration must include both certificate and key (CertFile/CertPem and KeyFile/KeyPem)";
        section.problem("", both);
    }
    Some(Identity { cert: cert?, key: key?, reload_interval })
}

fn versions(section: &Section) -> Versions {
    let version = |key, default| match section.text_or(key, "").as_str() {
        "" => default,
        "1.0" => Version::Tls10,
        "1.1" => Version::Tls11,
        "1.2" => Version::Tls12,
        "1.3" => Version::Tls13,
        unknown => {
            section.problem(key, format!("invalid TLS {key}: unsupported TLS version: {unknown:?}"));
            default
        }
    };
    let Versions { min, max } = Versions::default();
    let versions = Versions { min: version("min_version", min), max: version("max_version", max) };
    if let Err(error) = versions.supported() {
        section.problem("max_version", error);
    }
    if versions.min < Version::Tls12 {
        section.warning("min_version", "TLS 1.0 and 1.1 are not supported: min_version means 1.2");
    }
    versions
}
