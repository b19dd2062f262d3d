//! TLS for both sides, from the Go collector's `tls:` keys. The settings become a rustls configuration when a component
//! is built, so a missing file is an error at start-up. Handshake errors say which key to set.

pub(crate) mod certificate;
mod decode;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{self, CryptoProvider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, PeerIncompatible, RootCertStore,
    ServerConfig, SignatureScheme, SupportedProtocolVersion,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::Stream;
use super::files::{self, Watched};

/// Certificates or a key, and the setting they came from.
#[derive(Clone, PartialEq, Eq)]
pub enum Pem {
    File { setting: &'static str, path: PathBuf },
    Inline { setting: &'static str, text: Arc<str> },
}

impl Pem {
    fn read(&self) -> Result<Vec<u8>, String> {
        match self {
            Pem::Inline { text, .. } => Ok(text.as_bytes().to_vec()),
            Pem::File { path, .. } => files::read(path).map_err(|error| format!("cannot read {self:?}: {error}")),
        }
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        let bytes = self.read()?;
        match CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>() {
            Ok(certificates) if certificates.is_empty() => Err(format!("{self:?} holds no certificate")),
            Ok(certificates) => Ok(certificates),
            Err(_) => Err(format!("{self:?} is not valid PEM{}", one_line(&bytes))),
        }
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, String> {
        let bytes = self.read()?;
        let encrypted = memchr::memmem::find(&bytes, b"ENCRYPTED").is_some();
        PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| match encrypted {
            true => format!("{self:?} is protected by a passphrase, which is not supported"),
            false => format!("{self:?} holds no private key{}", one_line(&bytes)),
        })
    }

    fn roots(&self, certificates: &[CertificateDer<'static>]) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        certificates.iter().try_for_each(|certificate| {
            let added = roots.add(certificate.clone());
            added.map_err(|error| format!("{self:?} holds a certificate of no CA: {error}"))
        })?;
        Ok(roots)
    }

    fn setting(&self) -> &'static str {
        match self {
            Pem::File { setting, .. } | Pem::Inline { setting, .. } => setting,
        }
    }

    fn file(&self) -> Option<&Path> {
        match self {
            Pem::File { path, .. } => Some(path),
            Pem::Inline { .. } => None,
        }
    }
}

/// Advice for a PEM from a variable or single quotes, where `\n` does not end a line.
fn one_line(pem: &[u8]) -> &'static str {
    match memchr::memmem::find(pem, br"\n") {
        Some(_) => r": its lines end in `\n` as text: end them with real line ends, or write it in double quotes",
        None => "",
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Pem::File { setting, path } => write!(formatter, "{setting} {path:?}"),
            Pem::Inline { setting, .. } => formatter.write_str(setting),
        }
    }
}

/// Our certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub cert: Pem,
    pub key: Pem,
    /// Minimum interval between checks of the files; zero means never.
    pub reload_interval: Duration,
}

impl Identity {
    fn files(&self) -> impl Iterator<Item = &Path> {
        [&self.cert, &self.key].into_iter().filter_map(Pem::file)
    }

    fn load(&self) -> Result<Arc<CertifiedKey>, String> {
        let (chain, key) = (self.cert.certificates()?, self.key.private_key()?);
        match CertifiedKey::from_der(chain, key, &provider()) {
            Ok(certified) => Ok(Arc::new(certified)),
            Err(Error::InconsistentKeys(_)) => {
                Err(format!("the key in {:?} does not belong to the certificate in {:?}", self.key, self.cert))
            }
            Err(error) => match self.cert.certificates()?.iter().find_map(|own| certificate::unusable_key(own)) {
                Some(key) => Err(format!("the certificate in {:?} has {key}", self.cert)),
                None => Err(format!("cannot use the key in {:?}: {error}", self.key)),
            },
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    Tls10,
    Tls11,
    Tls12,
    Tls13,
}

/// The allowed versions. 1.0 and 1.1 are not supported: a minimum below 1.2 means 1.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    pub min: Version,
    pub max: Version,
}

impl Default for Versions {
    fn default() -> Self {
        Versions { min: Version::Tls12, max: Version::Tls13 }
    }
}

impl Versions {
    fn supported(self) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
        match (self.min, self.max) {
            (min, max) if min > max => {
                Err("invalid TLS configuration: min_version cannot be greater than max_version".into())
            }
            (_, Version::Tls10 | Version::Tls11) => Err("max_version is below 1.2, the least that is supported".into()),
            (_, Version::Tls12) => Ok(vec![&rustls::version::TLS12]),
            (Version::Tls13, _) => Ok(vec![&rustls::version::TLS13]),
            (_, Version::Tls13) => Ok(rustls::ALL_VERSIONS.to_vec()),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    pub identity: Identity,
    /// If set, every client must present a certificate signed by it.
    pub client_ca: Option<Pem>,
    /// Minimum interval between checks of its file; zero means never.
    pub client_ca_reload: Duration,
    pub versions: Versions,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTls {
    pub insecure: bool,
    pub insecure_skip_verify: bool,
    /// `None` means the system's CAs.
    pub ca: Option<Pem>,
    /// Trusts the system's CAs in addition to `ca`.
    pub include_system_ca_certs_pool: bool,
    pub identity: Option<Identity>,
    pub server_name_override: Option<String>,
    pub versions: Versions,
}

impl ClientTls {
    /// Whether connections are unencrypted: a CA beside `insecure` requires TLS all the same.
    pub fn is_plaintext(&self) -> bool {
        self.insecure && self.ca.is_none()
    }

    /// The CAs that may sign a server's certificate.
    fn trust(&self) -> Result<Trust, String> {
        let known = self.ca.as_ref().map(Pem::certificates).transpose()?.unwrap_or_default();
        let mut roots = self.ca.as_ref().map_or_else(|| Ok(RootCertStore::empty()), |ca| ca.roots(&known))?;
        if self.ca.is_none() || self.include_system_ca_certs_pool {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
                return Err(format!("this system has no CA certificates{why}: set tls.ca_file"));
            }
        }
        let cas = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build();
        Ok(Trust { cas: Some(cas.map_err(|error| error.to_string())?), known })
    }

    /// The name that the server's certificate must match when the server is reached at `host`.
    pub fn server_name(&self, host: &str) -> Result<ServerName<'static>, String> {
        let name = self.server_name_override.as_deref().unwrap_or(host);
        let name = name.split('%').next().unwrap_or_default();
        ServerName::try_from(name.to_owned()).map_err(|_| format!("{name:?} cannot be the name of a server"))
    }
}

/// ring, passed to each configuration: nothing here depends on a process-wide default.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(crypto::ring::default_provider())).clone()
}

/// A listener's certificates. New connections use the current files; TLS sessions from before a change of
/// `client_ca_file` are not resumed.
#[derive(Debug)]
pub struct Server {
    accepting: Watched<Accepting>,
    identity: Arc<Reloaded>,
}

struct Accepting {
    config: Arc<ServerConfig>,
    /// The CAs that may sign client certificates.
    clients: Vec<CertificateDer<'static>>,
}

impl PartialEq for Accepting {
    fn eq(&self, other: &Accepting) -> bool {
        self.clients == other.clients
    }
}

pub fn server_config(tls: &ServerTls, alpn: &[&[u8]]) -> Result<Arc<Server>, String> {
    let versions = tls.versions.supported()?;
    let identity = Arc::new(Reloaded::new(&tls.identity)?);
    let (ca, alpn) = (tls.client_ca.clone(), alpn.iter().map(|protocol| protocol.to_vec()).collect::<Vec<_>>());
    let shown = identity.clone();
    let load = move |_: &[PathBuf]| {
        let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&versions);
        let builder = builder.map_err(|error| error.to_string())?;
        let clients = ca.as_ref().map(Pem::certificates).transpose()?.unwrap_or_default();
        let builder = match &ca {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(ca.roots(&clients)?), provider());
                let verifier = verifier.build().map_err(|error| format!("cannot use {ca:?}: {error}"))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_cert_resolver(shown.clone());
        config.alpn_protocols = alpn.clone();
        Ok(Some(Accepting { config: Arc::new(config), clients }))
    };
    let files = tls.client_ca.iter().filter_map(Pem::file).map(Path::to_owned).collect();
    let watched = Watched::new("client CA", files, tls.client_ca_reload, load);
    watched.look()?;
    Ok(Arc::new(Server { accepting: watched, identity }))
}

/// Takes 30 ms if it reads the system's CAs: not for the event loop. For `is_plaintext` sections the result is of no
/// use.
pub fn client_config(tls: &ClientTls, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, String> {
    let versions = tls.versions.supported()?;
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&versions);
    let builder = builder.map_err(|error| error.to_string())?;
    let trust = if tls.insecure_skip_verify { Trust { cas: None, known: Vec::new() } } else { tls.trust()? };
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(trust));
    let mut config = match &tls.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => builder.with_client_cert_resolver(Arc::new(Reloaded::new(identity)?)),
    };
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Arc::new(config))
}

/// The client side of TLS to one peer. The files are read for the first connection.
#[derive(Debug)]
pub(crate) struct Client {
    tls: ClientTls,
    alpn: &'static [&'static [u8]],
    config: OnceLock<Arc<ClientConfig>>,
}

impl Client {
    pub(crate) fn new(tls: ClientTls, alpn: &'static [&'static [u8]]) -> Client {
        Client { tls, alpn, config: OnceLock::new() }
    }

    /// Performs a TLS handshake with `host`.
    pub(crate) async fn secure(&self, stream: Stream, host: &str) -> Result<Stream, String> {
        let config = match self.config.get() {
            Some(config) => config.clone(),
            None => {
                let (tls, alpn) = (self.tls.clone(), self.alpn);
                let config = crate::config::files::aside(move || client_config(&tls, alpn)).await.flatten();
                let config = config.map_err(|error| format!("failed to load TLS config: {error}"))?;
                self.config.get_or_init(|| config).clone()
            }
        };
        let name = self.tls.server_name(host)?;
        connect(stream, config, name).await.map_err(|error| explain(&error, Peer::Server))
    }
}

/// Our identity, read again when its files change. If they cannot be read, the old one stays.
#[derive(Debug)]
struct Reloaded(Watched<Shown>);

struct Shown(Arc<CertifiedKey>);

impl PartialEq for Shown {
    fn eq(&self, other: &Shown) -> bool {
        self.0.cert == other.0.cert
    }
}

impl Reloaded {
    fn new(identity: &Identity) -> Result<Reloaded, String> {
        let (read, files) = (identity.clone(), identity.files().map(Path::to_owned).collect());
        let load = move |_: &[PathBuf]| read.load().map(|certified| Some(Shown(certified)));
        let watched = Watched::new("certificate", files, identity.reload_interval, load);
        watched.look()?;
        Ok(Reloaded(watched))
    }

    fn current(&self) -> Option<Arc<CertifiedKey>> {
        Some(self.0.glance().ok()?.0.clone())
    }
}

impl ResolvesServerCert for Reloaded {
    fn resolve(&self, _: ClientHello) -> Option<Arc<CertifiedKey>> {
        self.current()
    }
}

impl ResolvesClientCert for Reloaded {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.current()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Verifies servers that prove possession of their certificate's key. Without `cas` all are trusted:
/// `insecure_skip_verify`.
#[derive(Debug)]
struct Trust {
    cas: Option<Arc<WebPkiServerVerifier>>,
    /// Certificates in `ca_file`. One may be the server's own and yet claim to be a CA's, as made by `openssl req
    /// -x509`.
    known: Vec<CertificateDer<'static>>,
}

/// Replaces the error if a signature was not checked because its key has an unsupported type or length.
fn of_key(error: Error, whose: &str, certificate: &[u8]) -> Error {
    use CertificateError as Bad;
    let is_of_signature = matches!(
        &error,
        Error::PeerMisbehaved(_)
            | Error::InvalidCertificate(
                Bad::BadSignature
                    | Bad::UnknownIssuer
                    | Bad::UnsupportedSignatureAlgorithmContext { .. }
                    | Bad::UnsupportedSignatureAlgorithmForPublicKeyContext { .. }
            )
    );
    match certificate::unusable_key(certificate).filter(|_| is_of_signature) {
        Some(key) => Error::General(format!("{whose} has {key}")),
        None => error,
    }
}

/// Whether the certificate is a CA's. Its validity period was checked before.
fn is_of_a_ca(error: &CertificateError) -> bool {
    let CertificateError::Other(cause) = error else { return false };
    matches!(cause.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(cas) = &self.cas else { return Ok(ServerCertVerified::assertion()) };
        match cas.verify_server_cert(own, chain, name, ocsp, now) {
            Err(Error::InvalidCertificate(error)) if is_of_a_ca(&error) && self.known.contains(own) => {
                verify_server_name(&ParsedCertificate::try_from(own)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            Err(error) => {
                let signers = chain.iter().chain(&self.known);
                Err(signers.fold(error, |error, signer| of_key(error, "the certificate of its CA", signer)))
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls12_signature(message, cert, signed, &provider().signature_verification_algorithms)
            .map_err(|error| of_key(error, "its certificate", cert))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls13_signature(message, cert, signed, &provider().signature_verification_algorithms)
            .map_err(|error| of_key(error, "its certificate", cert))
    }

    /// The last scheme is not supported: a server with nothing else then still presents its certificate, and the error
    /// can say what is wrong.
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let mut schemes = provider().signature_verification_algorithms.supported_schemes();
        schemes.push(SignatureScheme::ECDSA_NISTP521_SHA512);
        schemes
    }
}

/// The client side of a handshake.
pub async fn connect(stream: Stream, config: Arc<ClientConfig>, name: ServerName<'static>) -> io::Result<Stream> {
    let stream = TlsConnector::from(config).connect(name, stream).await?;
    Ok(Box::new(TlsStream::from(stream)))
}

/// The certificates that a server presents, its own first, without checking who signed them. It sends nothing to the server.
pub(crate) async fn shown(stream: Stream, tls: &ClientTls, name: ServerName<'static>) -> io::Result<Vec<Vec<u8>>> {
    let curious = ClientTls { insecure_skip_verify: true, identity: None, ..tls.clone() };
    let config = client_config(&curious, &[b"h2", b"http/1.1"]).map_err(io::Error::other)?;
    let stream = TlsConnector::from(config).connect(name, stream).await?;
    let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
    Ok(shown.iter().map(|certificate| certificate.to_vec()).collect())
}

/// The server side of a handshake.
pub async fn accept(stream: Stream, server: &Server) -> io::Result<Stream> {
    let accepting = server.accepting.current(false).await.map_err(io::Error::other)?;
    // A handshake cannot wait for the identity, so check it first.
    let _ = server.identity.0.current(false).await;
    let stream = TlsAcceptor::from(accepting.config.clone()).accept(stream).await?;
    Ok(Box::new(TlsStream::from(stream)))
}

/// The advice of a plaintext receiver when its client `looks_like_tls`.
pub(crate) const CLIENT_SPEAKS_TLS: &str = "the client speaks TLS, and this receiver is set to plaintext: \
    add a tls section here, or use http:// (insecure) in the client";

/// The remote side of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Server,
    Client,
}

/// Why a handshake failed, and what to do about it. The cause may be wrapped: TLS 1.3 tells a client only at its first
/// read that its certificate is missing.
pub fn explain(error: &(dyn std::error::Error + 'static), peer: Peer) -> String {
    let who = if peer == Peer::Server { "server" } else { "client" };
    match tls_error(error) {
        Some(Error::InvalidMessage(_)) if peer == Peer::Client => {
            "the client speaks plaintext, and this receiver wants TLS: \
             use https:// in the client, or remove the tls section here"
                .to_owned()
        }
        Some(Error::InvalidCertificate(error)) if is_of_a_ca(error) => {
            let advice = "make one that is not, or set tls.ca_file (--ca) to this very one";
            format!("no TLS with the {who}: its certificate is a CA's, and not trusted: {advice}")
        }
        Some(Error::General(why)) => format!("no TLS with the {who}: {why}"),
        Some(error) => match advice(error, peer) {
            Some(advice) => format!("no TLS with the {who}: {error}: {advice}"),
            None => format!("no TLS with the {who}: {error}"),
        },
        None => match error.downcast_ref::<io::Error>().map(io::Error::kind) {
            Some(io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
                let question = match peer {
                    Peer::Server => "does it speak TLS? In clear is http://, for gRPC also tls: {insecure: true}",
                    Peer::Client => "does it trust our certificate?",
                };
                format!("the {who} closed the connection during the TLS handshake: {question}")
            }
            _ => error.to_string(),
        },
    }
}

/// Whether the peer sent something other than TLS.
pub(crate) fn is_plaintext(error: &io::Error) -> bool {
    matches!(tls_error(error), Some(Error::InvalidMessage(_)))
}

/// The first TLS error among the causes; an error wrapped in an `io::Error` is not among its sources.
fn tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Error> {
    let causes = std::iter::successors(Some(error), |cause| cause.source());
    causes.into_iter().find_map(|cause| {
        let wrapped = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause.downcast_ref().or_else(|| wrapped?.downcast_ref())
    })
}

/// The most frequent mistakes, each with the relevant setting.
fn advice(error: &Error, peer: Peer) -> Option<&'static str> {
    use AlertDescription as Alert;
    use CertificateError as Bad;
    use PeerIncompatible as Incompatible;
    Some(match (error, peer) {
        (Error::InvalidMessage(_), _) => {
            "it does not speak TLS: use its TLS port, or go in clear by http://, for gRPC also by tls: {insecure: true}"
        }
        // A bad signature means a CA with the same name as another.
        (Error::InvalidCertificate(Bad::UnknownIssuer | Bad::BadSignature), Peer::Server) => {
            "set tls.ca_file (--ca) to the certificate of its CA"
        }
        (Error::InvalidCertificate(Bad::UnknownIssuer | Bad::BadSignature), Peer::Client) => {
            "set tls.client_ca_file to the certificate of its CA"
        }
        (Error::InvalidCertificate(Bad::NotValidForNameContext { .. }), _) => {
            "use that name in the endpoint, or set tls.server_name_override"
        }
        (Error::InvalidCertificate(Bad::ExpiredContext { .. }), _) => "renew its certificate, or correct the clock",
        (Error::InvalidCertificate(Bad::NotValidYetContext { .. }), _) => "correct the clock",
        (Error::NoCertificatesPresented, _) => "tls.client_ca_file demands a certificate",
        (Error::AlertReceived(Alert::CertificateRequired), Peer::Server) => {
            "it wants a client certificate: set tls.cert_file and tls.key_file"
        }
        (Error::AlertReceived(Alert::HandshakeFailure), Peer::Server) => {
            "it wants a client certificate: set tls.cert_file and tls.key_file; or its own has a P-521 key, which is not supported"
        }
        (Error::AlertReceived(Alert::UnknownCA), _) => "it does not trust the CA of our certificate (tls.cert_file)",
        (Error::AlertReceived(Alert::BadCertificate | Alert::CertificateExpired | Alert::CertificateUnknown), _) => {
            "it refuses our certificate (tls.cert_file)"
        }
        (Error::AlertReceived(Alert::ProtocolVersion), _)
        | (Error::PeerIncompatible(Incompatible::Tls12NotOffered | Incompatible::Tls12NotOfferedOrEnabled), _)
        | (Error::PeerIncompatible(Incompatible::SupportedVersionsExtensionRequired), _) => {
            "no version in common: see tls.min_version and tls.max_version"
        }
        _ => return None,
    })
}
