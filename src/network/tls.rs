//! TLS for both sides, from the Go collector's `tls:` keys: what the configuration says becomes a rustls configuration
//! when a component is built, so that a missing file is an error at start-up; and what goes wrong in a handshake is
//! told in words that say which key to set.

mod decode;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::crypto::{self, CryptoProvider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, PeerIncompatible, RootCertStore,
    ServerConfig, SignatureScheme, SupportedProtocolVersion,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::Stream;

/// What is wrong with a `tls` section, or with the files that it names.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to load TLS config: {0}")]
pub struct TlsError(String);

fn refuse<T>(what: impl Into<String>) -> Result<T, TlsError> {
    Err(TlsError(what.into()))
}

/// Certificates or a key, and the setting that they came from.
#[derive(Clone, PartialEq, Eq)]
pub enum Pem {
    File { setting: &'static str, path: PathBuf },
    Inline { setting: &'static str, text: Arc<str> },
}

impl Pem {
    fn read(&self) -> Result<Vec<u8>, TlsError> {
        match self {
            Pem::Inline { text, .. } => Ok(text.as_bytes().to_vec()),
            Pem::File { path, .. } => match std::fs::read(path) {
                Ok(bytes) => Ok(bytes),
                Err(error) => refuse(format!("cannot read {self:?}: {error}")),
            },
        }
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let bytes = self.read()?;
        match CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>() {
            Ok(certificates) if certificates.is_empty() => refuse(format!("{self:?} holds no certificate")),
            Ok(certificates) => Ok(certificates),
            Err(error) => refuse(format!("{self:?} is not valid PEM: {error}")),
        }
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        let bytes = self.read()?;
        let encrypted = memchr::memmem::find(&bytes, b"ENCRYPTED").is_some();
        PrivateKeyDer::from_pem_slice(&bytes).or_else(|_| match encrypted {
            true => refuse(format!("{self:?} is protected by a passphrase, which is not supported")),
            false => refuse(format!("{self:?} holds no private key")),
        })
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates()? {
            roots
                .add(certificate)
                .or_else(|error| refuse(format!("{self:?} holds a certificate of no CA: {error}")))?;
        }
        Ok(roots)
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

/// The certificate that we show, and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub cert: Pem,
    pub key: Pem,
    /// The files are read again at most this often; zero means never.
    pub reload_interval: Duration,
}

impl Identity {
    fn load(&self) -> Result<Arc<CertifiedKey>, TlsError> {
        let (chain, key) = (self.cert.certificates()?, self.key.private_key()?);
        match CertifiedKey::from_der(chain, key, &provider()) {
            Ok(certified) => Ok(Arc::new(certified)),
            Err(Error::InconsistentKeys(_)) => {
                refuse(format!("the key in {:?} does not belong to the certificate in {:?}", self.key, self.cert))
            }
            Err(error) => refuse(format!("cannot use the key in {:?}: {error}", self.key)),
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

impl Version {
    pub fn from_name(name: &str) -> Option<Version> {
        match name {
            "1.0" => Some(Version::Tls10),
            "1.1" => Some(Version::Tls11),
            "1.2" => Some(Version::Tls12),
            "1.3" => Some(Version::Tls13),
            _ => None,
        }
    }
}

/// The versions allowed. 1.0 and 1.1 are spoken by nobody here: a minimum below 1.2 is 1.2.
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
    /// Something to say at start-up.
    pub fn notice(self) -> Option<&'static str> {
        (self.min < Version::Tls12).then_some("TLS 1.0 and 1.1 are not supported: min_version means 1.2")
    }

    fn supported(self) -> Result<Vec<&'static SupportedProtocolVersion>, TlsError> {
        let all = [(Version::Tls12, &rustls::version::TLS12), (Version::Tls13, &rustls::version::TLS13)];
        let allowed: Vec<_> = all.into_iter().filter(|(version, _)| (self.min..=self.max).contains(version)).collect();
        match allowed.is_empty() {
            true if self.min > self.max => {
                refuse("invalid TLS configuration: min_version cannot be greater than max_version")
            }
            true => refuse("max_version is below 1.2, the least that is supported"),
            false => Ok(allowed.into_iter().map(|(_, supported)| supported).collect()),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    pub identity: Identity,
    /// Given, every client must show a certificate signed by it.
    pub client_ca: Option<Pem>,
    pub versions: Versions,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTls {
    pub insecure: bool,
    pub insecure_skip_verify: bool,
    /// None means the CAs of the system.
    pub ca: Option<Pem>,
    /// Trusts the CAs of the system besides `ca`.
    pub include_system_ca_certs_pool: bool,
    pub identity: Option<Identity>,
    pub server_name_override: Option<String>,
    pub versions: Versions,
}

impl ClientTls {
    /// Whether connections go out in clear: a CA beside `insecure` asks for TLS all the same.
    pub fn is_plaintext(&self) -> bool {
        self.insecure && self.ca.is_none()
    }

    /// Whether `load_system_roots` is worth awaiting before the first handshake.
    pub fn trusts_system(&self) -> bool {
        !self.insecure_skip_verify && (self.ca.is_none() || self.include_system_ca_certs_pool)
    }

    /// The name that the server's certificate must be for, when it is reached at `host`.
    pub fn server_name(&self, host: &str) -> Result<ServerName<'static>, TlsError> {
        let name = self.server_name_override.as_deref().unwrap_or(host);
        let name = name.split('%').next().unwrap_or_default();
        ServerName::try_from(name.to_owned()).or_else(|_| refuse(format!("{name:?} cannot be the name of a server")))
    }
}

/// ring, handed to each configuration: nothing here depends on a process-wide default.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(crypto::ring::default_provider())).clone()
}

fn protocols(alpn: &[&[u8]]) -> Vec<Vec<u8>> {
    alpn.iter().map(|protocol| protocol.to_vec()).collect()
}

pub fn server_config(tls: &ServerTls, alpn: &[&[u8]]) -> Result<Arc<ServerConfig>, TlsError> {
    let versions = tls.versions.supported()?;
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&versions);
    let builder = builder.or_else(|error| refuse(error.to_string()))?;
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(ca.roots()?), provider()).build();
            builder.with_client_cert_verifier(verifier.or_else(|error| refuse(format!("cannot use {ca:?}: {error}")))?)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(Reloaded::new(&tls.identity)?));
    config.alpn_protocols = protocols(alpn);
    Ok(Arc::new(config))
}

/// For `is_plaintext` sections there is nothing to configure, and the result is of no use.
pub fn client_config(tls: &ClientTls, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, TlsError> {
    let versions = tls.versions.supported()?;
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&versions);
    let builder = builder.or_else(|error| refuse(error.to_string()))?.dangerous();
    let roots = tls.ca.as_ref().map_or_else(|| Ok(RootCertStore::empty()), Pem::roots)?;
    let trust = match (tls.insecure_skip_verify, tls.trusts_system()) {
        (true, _) => Trust::Anyone,
        (false, true) => Trust::System { besides: roots, verifier: OnceLock::new() },
        (false, false) => Trust::Only(verifier(roots).or_else(|error| refuse(error.to_string()))?),
    };
    let builder = builder.with_custom_certificate_verifier(Arc::new(trust));
    let mut config = match &tls.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => builder.with_client_cert_resolver(Arc::new(Reloaded::new(identity)?)),
    };
    config.alpn_protocols = protocols(alpn);
    Ok(Arc::new(config))
}

/// An identity in use, read again as its interval asks. A file that cannot be read then leaves the old one in place.
#[derive(Debug)]
struct Reloaded {
    identity: Identity,
    current: Mutex<(Arc<CertifiedKey>, Instant)>,
}

impl Reloaded {
    fn new(identity: &Identity) -> Result<Reloaded, TlsError> {
        let current = Mutex::new((identity.load()?, Instant::now()));
        Ok(Reloaded { identity: identity.clone(), current })
    }

    fn current(&self) -> Arc<CertifiedKey> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let (certified, read) = &mut *current;
        if !self.identity.reload_interval.is_zero() && read.elapsed() >= self.identity.reload_interval {
            *read = Instant::now();
            match self.identity.load() {
                Ok(fresh) => *certified = fresh,
                Err(error) => tracing::warn!(%error, "cannot reload the certificate, the old one stays in use"),
            }
        }
        certified.clone()
    }
}

impl ResolvesServerCert for Reloaded {
    fn resolve(&self, _: ClientHello) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

impl ResolvesClientCert for Reloaded {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Which servers a client believes.
#[derive(Debug)]
enum Trust {
    /// `insecure_skip_verify`: whoever has the key of the certificate that they show.
    Anyone,
    Only(Arc<WebPkiServerVerifier>),
    /// The CAs of the system and those `besides`, gathered at the first handshake.
    System {
        besides: RootCertStore,
        verifier: OnceLock<Arc<WebPkiServerVerifier>>,
    },
}

fn verifier(roots: RootCertStore) -> Result<Arc<WebPkiServerVerifier>, Error> {
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build();
    verifier.map_err(|error| Error::General(error.to_string()))
}

impl Trust {
    fn verifier(&self) -> Result<Option<&Arc<WebPkiServerVerifier>>, Error> {
        let (besides, built) = match self {
            Trust::Anyone => return Ok(None),
            Trust::Only(verifier) => return Ok(Some(verifier)),
            Trust::System { besides, verifier } => (besides, verifier),
        };
        if built.get().is_none() {
            let mut roots = besides.clone();
            roots.extend(system_roots()?.roots.iter().cloned());
            // Another handshake may have been quicker, with the same result.
            let _ = built.set(verifier(roots)?);
        }
        Ok(built.get())
    }
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.verifier()? {
            None => Ok(ServerCertVerified::assertion()),
            Some(verifier) => verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls12_signature(message, cert, signed, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls13_signature(message, cert, signed, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// The CAs of the system: 30 ms to read, so nobody does before a handshake needs them. None found is tried again.
fn system_roots() -> Result<Arc<RootCertStore>, Error> {
    static ROOTS: Mutex<Option<Arc<RootCertStore>>> = Mutex::new(None);
    let mut cached = ROOTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(roots) = &*cached {
        return Ok(roots.clone());
    }
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        return Err(Error::General(format!("this system has no CA certificates{why}: set tls.ca_file")));
    }
    Ok(cached.insert(Arc::new(roots)).clone())
}

/// Reads the CAs of the system beside the event loop, which the first handshake would otherwise hold up.
pub async fn load_system_roots() {
    let _ = tokio::task::spawn_blocking(system_roots).await;
}

/// The client's side of a handshake.
pub async fn connect(stream: Stream, config: Arc<ClientConfig>, name: ServerName<'static>) -> io::Result<Stream> {
    let stream = TlsConnector::from(config).connect(name, stream).await?;
    Ok(Stream::Tls(Box::new(stream.into())))
}

/// The server's side of a handshake.
pub async fn accept(stream: Stream, config: Arc<ServerConfig>) -> io::Result<Stream> {
    let stream = TlsAcceptor::from(config).accept(stream).await?;
    Ok(Stream::Tls(Box::new(stream.into())))
}

/// For a plaintext exporter whose upstream `looks_like_tls`.
pub const PEER_SPEAKS_TLS: &str = "the server speaks TLS, and this exporter is set to plaintext: remove tls.insecure";
/// For a plaintext receiver whose client `looks_like_tls`.
pub const CLIENT_SPEAKS_TLS: &str = "the client speaks TLS, and this receiver is set to plaintext: \
    add a tls section here, or use http:// (insecure) in the client";
/// For a receiver with TLS whose client `looks_like_http`.
pub const CLIENT_SPEAKS_PLAINTEXT: &str = "the client speaks plaintext, and this receiver wants TLS: \
    use https:// in the client, or remove the tls section here";

/// Who is at the other end of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Server,
    Client,
}

/// Why a handshake failed, and what to do about it. The cause may be wrapped, as it is when TLS 1.3 tells a client only
/// at its first read that it wants a certificate.
pub fn explain(error: &(dyn std::error::Error + 'static), peer: Peer) -> String {
    if let Some(error) = tls_error(error) {
        return explain_tls(error, peer);
    }
    match (error.downcast_ref::<io::Error>().map(io::Error::kind), peer) {
        (Some(io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset), Peer::Server) => {
            "the server closed the connection during the TLS handshake: if it does not speak TLS, \
             set tls: {insecure: true}"
                .into()
        }
        (Some(io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset), Peer::Client) => {
            "the client closed the connection during the TLS handshake".into()
        }
        _ => error.to_string(),
    }
}

/// The first error of TLS among the causes; what an `io::Error` wraps is not among its sources.
fn tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Error> {
    let causes = std::iter::successors(Some(error), |cause| cause.source());
    causes.into_iter().find_map(|cause| {
        let wrapped = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause.downcast_ref().or_else(|| wrapped?.downcast_ref())
    })
}

fn explain_tls(error: &Error, peer: Peer) -> String {
    let (who, ours) = match peer {
        Peer::Server => ("the server", "tls.ca_file"),
        Peer::Client => ("the client", "tls.client_ca_file"),
    };
    match error {
        Error::InvalidCertificate(certificate) => explain_certificate(certificate, who, ours),
        Error::InvalidMessage(_) if peer == Peer::Server => {
            "the server does not speak TLS: set tls: {insecure: true}, or use its TLS port".into()
        }
        Error::InvalidMessage(_) => CLIENT_SPEAKS_PLAINTEXT.into(),
        Error::NoCertificatesPresented => format!("{who} shows no certificate, which tls.client_ca_file demands"),
        Error::AlertReceived(alert) => explain_alert(*alert, who, peer),
        Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::SupportedVersionsExtensionRequired,
        ) => format!("{who} offers no TLS version that is allowed here: see tls.min_version and tls.max_version"),
        Error::PeerIncompatible(what) => format!("{who} and this collector have no common way to speak TLS ({what:?})"),
        Error::NoApplicationProtocol => format!("{who} speaks neither HTTP/2 nor HTTP/1.1 over TLS"),
        Error::General(what) => what.clone(),
        other => format!("the TLS handshake with {who} failed: {other}"),
    }
}

fn explain_certificate(error: &CertificateError, who: &str, ours: &str) -> String {
    match error {
        // A bad signature is how a CA shows that took the name of another.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
            "{who}'s certificate is not signed by a CA that is trusted here: set {ours} to the certificate of its CA"
        ),
        CertificateError::NotValidForNameContext { expected, presented } => format!(
            "{who}'s certificate is for {}, not for {}: use that name in the endpoint, or set tls.server_name_override",
            names(presented),
            expected.to_str()
        ),
        CertificateError::NotValidForName => {
            format!("{who}'s certificate is for another name: set tls.server_name_override")
        }
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("{who}'s certificate expired on {}: renew it, or correct the clock", date(*not_after))
        }
        CertificateError::Expired => format!("{who}'s certificate has expired: renew it, or correct the clock"),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("{who}'s certificate is valid from {} on: correct the clock", date(*not_before))
        }
        CertificateError::NotValidYet => format!("{who}'s certificate is not valid yet: correct the clock"),
        CertificateError::Revoked => format!("{who}'s certificate has been revoked"),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            format!("{who}'s certificate was issued for another purpose (see its extended key usage)")
        }
        other => format!("{who}'s certificate is not valid: {other}"),
    }
}

fn explain_alert(alert: AlertDescription, who: &str, peer: Peer) -> String {
    use AlertDescription as Alert;
    match (alert, peer) {
        (Alert::CertificateRequired, Peer::Server) => {
            "the server wants a client certificate: set tls.cert_file and tls.key_file".into()
        }
        (Alert::UnknownCA, Peer::Server) => {
            "the server does not trust the CA of our certificate (tls.cert_file)".into()
        }
        (Alert::UnknownCA, Peer::Client) => {
            "the client does not trust the CA of our certificate: give the client the certificate of that CA".into()
        }
        (
            Alert::BadCertificate | Alert::CertificateExpired | Alert::CertificateRevoked | Alert::CertificateUnknown,
            _,
        ) => {
            format!("{who} refuses our certificate ({alert:?}): see tls.cert_file")
        }
        (Alert::ProtocolVersion, _) => {
            format!("{who} allows no TLS version that is allowed here: see tls.min_version and tls.max_version")
        }
        (Alert::HandshakeFailure, Peer::Server) => {
            "the server refuses the handshake: it may want a client certificate (tls.cert_file, tls.key_file)".into()
        }
        (Alert::UnrecognisedName, _) => format!("{who} does not know the name asked for: set tls.server_name_override"),
        (Alert::NoApplicationProtocol, _) => format!("{who} does not speak this protocol over TLS (ALPN)"),
        _ => format!("{who} broke off the TLS handshake ({alert:?})"),
    }
}

/// The names of a certificate, which a proxy's may have many of.
fn names(presented: &[String]) -> String {
    match presented {
        [] => "no name at all".into(),
        few if few.len() <= 4 => few.join(", "),
        [first, .., last] => format!("{first} … {last} ({} names)", presented.len()),
        [one] => one.clone(),
    }
}

fn date(time: UnixTime) -> String {
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs().min(u64::from(u32::MAX) * 50)))
}
