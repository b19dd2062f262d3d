//! TLS from files to handshake: what is refused at start-up, what fails later, and what a person is told.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use misaki::face::config::{Section, load};
use misaki::face::network::tls::{
    ClientTls, Identity, Peer, Pem, Server, ServerTls, Version, Versions, accept, client_config, connect, explain,
    server_config,
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, date_time_ymd,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// A CA, and what it signs.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, key.serialize_pem().chars().skip(60).take(20).collect::<String>());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    pub fn ca(&self) -> Option<Pem> {
        Some(inline("ca_pem", &self.pem))
    }

    /// Writes a new certificate for `localhost` and its key.
    pub fn write(&self, cert: &Path, key: &Path) {
        match self.sign("localhost", |_| ()) {
            Identity { cert: Pem::Inline { text: chain, .. }, key: Pem::Inline { text: secret, .. }, .. } => {
                std::fs::write(cert, chain.as_bytes()).unwrap();
                std::fs::write(key, secret.as_bytes()).unwrap();
            }
            other => panic!("{other:?}"),
        }
    }

    fn sign(&self, name: &str, edit: impl FnOnce(&mut CertificateParams)) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        edit(&mut params);
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        identity(inline("cert_pem", &cert.pem()), inline("key_pem", &key.serialize_pem()))
    }
}

fn inline(setting: &'static str, text: &str) -> Pem {
    Pem::Inline { setting, text: text.into() }
}

fn file(setting: &'static str, path: &Path) -> Pem {
    Pem::File { setting, path: path.to_owned() }
}

fn identity(cert: Pem, key: Pem) -> Identity {
    Identity { cert, key, reload_interval: Duration::ZERO }
}

fn server(identity: Identity) -> ServerTls {
    ServerTls { identity, client_ca: None, client_ca_reload: Duration::ZERO, versions: Versions::default() }
}

pub fn client(ca: Option<Pem>) -> ClientTls {
    ClientTls { ca, ..ClientTls::default() }
}

/// One byte there and back; else what the client, and what the server, is told.
fn handshake(server: &ServerTls, client: &ClientTls) -> Result<Vec<u8>, (String, String)> {
    let (server, config) = (server_config(server, &[b"h2", b"http/1.1"]), client_config(client, &[b"h2"]));
    talk(server.unwrap(), config.unwrap(), client)
}

fn talk(server: Arc<Server>, config: Arc<rustls::ClientConfig>, tls: &ClientTls) -> Result<Vec<u8>, (String, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (near, far) = UnixStream::pair().unwrap();
        let name = tls.server_name("localhost").unwrap();
        let serve = async {
            let mut stream = accept(Box::new(far), &server).await?;
            let byte = stream.read_u8().await?;
            stream.write_all(&[byte]).await?;
            stream.shutdown().await
        };
        let ask = async {
            let mut stream = connect(Box::new(near), config, name).await?;
            stream.write_all(b"x").await?;
            let protocol = stream.alpn().unwrap_or_default().to_vec();
            stream.read_u8().await.map(|_| protocol)
        };
        let (served, asked) = tokio::join!(serve, ask);
        let told =
            |result: std::io::Result<()>, peer| result.err().map_or_else(String::new, |error| explain(&error, peer));
        match asked {
            Ok(protocol) => Ok(protocol),
            Err(error) => Err((told(Err(error), Peer::Server), told(served, Peer::Client))),
        }
    })
}

fn fails(server: &ServerTls, tls: &ClientTls, client_is_told: &str, server_is_told: &str) {
    let (ours, theirs) = handshake(server, tls).expect_err(client_is_told);
    assert!(ours.contains(client_is_told), "the client is told {ours:?}");
    assert!(theirs.contains(server_is_told), "the server is told {theirs:?}");
}

#[test]
fn good_certificates() {
    let authority = Authority::new();
    let good = server(authority.sign("localhost", |_| ()));
    assert_eq!(handshake(&good, &client(authority.ca())), Ok(b"h2".to_vec()));
    let insecure = ClientTls { insecure: true, ..client(authority.ca()) };
    assert!(!insecure.is_plaintext(), "a CA asks for TLS, whatever insecure says");
    assert_eq!(handshake(&good, &insecure), Ok(b"h2".to_vec()));
    assert!(ClientTls { insecure: true, ..ClientTls::default() }.is_plaintext());
    for (min, max) in
        [(Version::Tls10, Version::Tls12), (Version::Tls12, Version::Tls12), (Version::Tls13, Version::Tls13)]
    {
        let only = ServerTls { versions: Versions { min, max }, ..good.clone() };
        assert_eq!(handshake(&only, &client(authority.ca())), Ok(b"h2".to_vec()));
    }
}

#[test]
fn unknown_authority() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let other = server(theirs.sign("localhost", |_| ()));
    let told = "UnknownIssuer: set tls.ca_file";
    fails(&other, &client(ours.ca()), told, "it does not trust the CA of our certificate");
    let trusting = ClientTls { insecure_skip_verify: true, ..ClientTls::default() };
    assert_eq!(handshake(&other, &trusting), Ok(b"h2".to_vec()));
    // The system's CAs beside the given one only add.
    let both = ClientTls { include_system_ca_certs_pool: true, ..client(theirs.ca()) };
    if !rustls_native_certs::load_native_certs().certs.is_empty() {
        assert_eq!(handshake(&other, &both), Ok(b"h2".to_vec()));
        fails(&other, &ClientTls::default(), told, "");
    } else {
        let refused = client_config(&ClientTls::default(), &[]).unwrap_err().to_string();
        assert!(refused.contains("this system has no CA certificates"), "{refused}");
    }
}

#[test]
fn wrong_name() {
    let authority = Authority::new();
    let other = server(authority.sign("otel.example.com", |_| ()));
    let told = "not valid for name \"localhost\"; certificate is only valid for DnsName(\"otel.example.com\")";
    fails(&other, &client(authority.ca()), told, "");
    fails(&other, &client(authority.ca()), "use that name in the endpoint, or set tls.server_name_override", "");
    let overridden = ClientTls { server_name_override: Some("otel.example.com".into()), ..client(authority.ca()) };
    assert_eq!(handshake(&other, &overridden), Ok(b"h2".to_vec()));
}

/// `openssl req -x509` makes certificates that say that they are a CA's: named in `ca_file`, one is good for the server that shows it.
#[test]
fn a_ca_that_is_the_server_itself() {
    let own = |name: &str, years: (i32, i32)| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params.not_before, params.not_after) = (date_time_ymd(years.0, 1, 1), date_time_ymd(years.1, 1, 1));
        let pem = params.self_signed(&key).unwrap().pem();
        let ca = Some(inline("ca_pem", &pem));
        (server(identity(inline("cert_pem", &pem), inline("key_pem", &key.serialize_pem()))), client(ca))
    };
    let (good, knowing) = own("localhost", (2020, 2090));
    assert_eq!(handshake(&good, &knowing), Ok(b"h2".to_vec()));
    fails(
        &good,
        &client(Authority::new().ca()),
        "its certificate is a CA's, and not trusted: make one that is not, or set tls.ca_file",
        "",
    );
    let (other, knowing_other) = own("localhost", (2020, 2090));
    fails(&good, &knowing_other, "its certificate is a CA's", "");
    fails(&other, &knowing, "its certificate is a CA's", "");
    let (elsewhere, knowing) = own("otel.example.com", (2020, 2090));
    fails(&elsewhere, &knowing, "not valid for name \"localhost\"", "");
    let (expired, knowing) = own("localhost", (2000, 2001));
    fails(&expired, &knowing, "renew its certificate, or correct the clock", "");
    let (early, knowing) = own("localhost", (2080, 2090));
    fails(&early, &knowing, "not valid yet", "");
}

#[test]
fn outside_of_its_time() {
    let authority = Authority::new();
    let expired = server(authority.sign("localhost", |params| params.not_after = date_time_ymd(2001, 2, 3)));
    fails(&expired, &client(authority.ca()), "renew its certificate, or correct the clock", "refuses our certificate");
    let early = server(authority.sign("localhost", |params| {
        (params.not_before, params.not_after) = (date_time_ymd(2990, 1, 1), date_time_ymd(2999, 1, 1));
    }));
    fails(&early, &client(authority.ca()), "not valid yet", "");
}

#[test]
fn client_certificates() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let client_ca = Some(inline("client_ca_file", &ours.pem));
    for max in [Version::Tls12, Version::Tls13] {
        let versions = Versions { max, ..Versions::default() };
        let mutual = ServerTls { client_ca: client_ca.clone(), versions, ..server(ours.sign("localhost", |_| ())) };
        let with = |identity| ClientTls { identity, ..client(ours.ca()) };
        assert_eq!(handshake(&mutual, &with(Some(ours.sign("edge", |_| ())))), Ok(b"h2".to_vec()));
        let wants = "it wants a client certificate: set tls.cert_file and tls.key_file";
        fails(&mutual, &with(None), wants, "tls.client_ca_file demands a certificate");
        let stranger = Some(theirs.sign("edge", |_| ()));
        fails(&mutual, &with(stranger), "does not trust the CA of our certificate", "set tls.client_ca_file");
        let expired = Some(ours.sign("edge", |params| params.not_after = date_time_ymd(2001, 2, 3)));
        fails(&mutual, &with(expired), "refuses our certificate", "renew its certificate");
    }
}

#[test]
fn no_version_in_common() {
    let authority = Authority::new();
    let old = Versions { min: Version::Tls12, max: Version::Tls12 };
    let new = Versions { min: Version::Tls13, max: Version::Tls13 };
    let server = ServerTls { versions: new, ..server(authority.sign("localhost", |_| ())) };
    let client = ClientTls { versions: old, ..client(authority.ca()) };
    fails(&server, &client, "no version in common: see tls.min_version", "no version in common: see tls.min_version");
}

/// The one who speaks TLS is told what the other one is.
#[test]
fn plaintext_peers() {
    let authority = Authority::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (near, mut far) = UnixStream::pair().unwrap();
        far.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let tls = client(authority.ca());
        let config = client_config(&tls, &[]).unwrap();
        let error = connect(Box::new(near), config, tls.server_name("localhost").unwrap()).await.unwrap_err();
        assert!(explain(&error, Peer::Server).contains("it does not speak TLS: use its TLS port"));

        let (mut near, far) = UnixStream::pair().unwrap();
        near.write_all(b"POST /v1/logs HTTP/1.1\r\n\r\n").await.unwrap();
        let config = server_config(&server(authority.sign("localhost", |_| ())), &[]).unwrap();
        let error = accept(Box::new(far), &config).await.unwrap_err();
        assert!(explain(&error, Peer::Client).starts_with("the client speaks plaintext"));

        let (near, far) = UnixStream::pair().unwrap();
        drop(far);
        let config = client_config(&tls, &[]).unwrap();
        let error = connect(Box::new(near), config, tls.server_name("localhost").unwrap()).await.unwrap_err();
        let told = explain(&error, Peer::Server);
        assert!(told.contains("closed the connection") || told.contains("Broken pipe"), "{told}");
    });
}

#[test]
fn broken_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let authority = Authority::new();
    let (one, two) = (authority.sign("localhost", |_| ()), authority.sign("localhost", |_| ()));
    let refused = |identity: Identity| server_config(&server(identity), &[]).unwrap_err();
    let missing = path("missing.pem");
    assert_eq!(
        refused(identity(file("cert_file", &missing), one.key.clone())),
        format!("cannot read cert_file {missing:?}: no such file or directory")
    );
    let (pipe, device) = (path("pipe"), Path::new("/dev/zero"));
    super::harness::pipe(&pipe);
    for (place, why) in [
        (pipe.as_path(), "a pipe, and must be a file"),
        (device, "a device, and must be a file"),
        (folder.path(), "a directory"),
    ] {
        let told = format!("cannot read key_file {place:?}: it is {why}");
        assert_eq!(refused(identity(one.cert.clone(), file("key_file", place))), told);
        let told = format!("cannot read ca_file {place:?}: it is {why}");
        assert_eq!(client_config(&client(Some(file("ca_file", place))), &[]).unwrap_err(), told);
    }
    assert_eq!(
        refused(identity(one.cert.clone(), two.key.clone())),
        "the key in key_pem does not belong to the certificate in cert_pem"
    );
    assert_eq!(refused(identity(one.key.clone(), one.key.clone())), "key_pem holds no certificate");
    assert_eq!(refused(identity(one.cert.clone(), one.cert.clone())), "cert_pem holds no private key");
    let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    std::fs::write(path("locked.pem"), locked).unwrap();
    let told = refused(identity(one.cert.clone(), file("key_file", &path("locked.pem"))));
    assert!(told.ends_with("is protected by a passphrase, which is not supported"), "{told}");
    let empty = client_config(&client(Some(inline("ca_pem", "nothing"))), &[]).unwrap_err();
    assert_eq!(empty.to_string(), "ca_pem holds no certificate");
    let versions = |min, max| server_config(&ServerTls { versions: Versions { min, max }, ..server(one.clone()) }, &[]);
    let told = versions(Version::Tls13, Version::Tls12).unwrap_err().to_string();
    assert!(told.ends_with("min_version cannot be greater than max_version"), "{told}");
    let told = versions(Version::Tls10, Version::Tls11).unwrap_err().to_string();
    assert!(told.ends_with("max_version is below 1.2, the least that is supported"), "{told}");
    assert!(!format!("{one:?}").contains("BEGIN"), "a key shown: {one:?}");
}

/// What a section decodes to, and all that is said about it.
fn decoded<T>(yaml: &str, decode: impl FnOnce(Section) -> T) -> (T, Vec<String>) {
    let loaded = load(&[format!("yaml:{yaml}")], &[], &|_| None);
    let value = decode(Section::of(&loaded.root, "receivers.otlp.tls", &loaded.problems));
    (value, loaded.problems.sorted().into_iter().map(|problem| problem.message).collect())
}

#[test]
fn sections() {
    let full = "{cert_file: c.pem, key_file: k.pem, ca_file: a.pem, client_ca_file: m.pem, reload_interval: 1m, \
                 min_version: '1.3', client_ca_file_reload: true, include_insecure_cipher_suites: true, tpm: {enabled: false}}";
    let expected = ServerTls {
        identity: Identity {
            reload_interval: Duration::from_secs(60),
            ..identity(file("cert_file", Path::new("c.pem")), file("key_file", Path::new("k.pem")))
        },
        client_ca: Some(file("client_ca_file", Path::new("m.pem"))),
        client_ca_reload: Duration::from_secs(1),
        versions: Versions { min: Version::Tls13, max: Version::Tls13 },
    };
    assert_eq!(decoded(full, ServerTls::decode), (Some(expected), vec![]));
    let full = "{insecure: true, ca_pem: X, server_name_override: n, insecure_skip_verify: true, include_system_ca_certs_pool: true}";
    let expected = ClientTls {
        insecure: true,
        insecure_skip_verify: true,
        server_name_override: Some("n".into()),
        include_system_ca_certs_pool: true,
        ..client(Some(inline("ca_pem", "X")))
    };
    assert_eq!(decoded(full, ClientTls::decode), (expected, vec![]));
    assert_eq!(decoded("{}", ClientTls::decode), (ClientTls::default(), vec![]));

    let server = |yaml| decoded(yaml, ServerTls::decode).1.join("; ");
    let client = |yaml| decoded(yaml, ClientTls::decode).1.join("; ");
    let both = "TLS configuration must include both certificate and key (CertFile/CertPem and KeyFile/KeyPem)";
    assert_eq!(server("{}"), "TLS configuration must include both certificate and key for server connections");
    assert_eq!(server("{cert_file: c}"), both);
    assert_eq!(client("{key_pem: k}"), both);
    assert_eq!(client("{ca_file: c, ca_pem: d}"), "provide either a CA file or the PEM-encoded string, but not both");
    assert_eq!(
        client("{cert_file: c, cert_pem: d, key_file: k}"),
        "provide either certificate file or PEM, but not both"
    );
    assert_eq!(client("{min_version: '1.4'}"), "invalid TLS min_version: unsupported TLS version: \"1.4\"");
    assert_eq!(
        client("{min_version: '1.3', max_version: '1.2'}"),
        "invalid TLS configuration: min_version cannot be greater than max_version"
    );
    assert_eq!(client("{min_version: '1.0'}"), "TLS 1.0 and 1.1 are not supported: min_version means 1.2");
    assert_eq!(client("{cipher_suites: [TLS_AES_128_GCM_SHA256]}"), "choosing them is not supported");
    assert_eq!(client("{tpm: {enabled: true}}"), "keys in a TPM are not supported");
    assert_eq!(client("{insecure_skip_verfy: true}"), "unknown key \"insecure_skip_verfy\"");
}

/// Rotated files are picked up; a broken rotation leaves the old certificate in use.
#[test]
fn reload() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let (old, new) = (Authority::new(), Authority::new());
    let write = |authority: &Authority| authority.write(&cert, &key);
    write(&old);
    let reloading = Identity {
        reload_interval: Duration::from_nanos(1),
        ..identity(file("cert_file", &cert), file("key_file", &key))
    };
    let config = server_config(&server(reloading), &[]).unwrap();
    let trusted = |authority: &Authority| {
        let tls = client(authority.ca());
        talk(config.clone(), client_config(&tls, &[]).unwrap(), &tls).is_ok()
    };
    assert_eq!((trusted(&old), trusted(&new)), (true, false));
    write(&new);
    assert_eq!((trusted(&old), trusted(&new)), (false, true));
    std::fs::write(&cert, "rotation went wrong").unwrap();
    assert_eq!((trusted(&old), trusted(&new)), (false, true));
    write(&old);
    assert_eq!((trusted(&old), trusted(&new)), (true, false));
    // A file that is settled is not read before it changes.
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(60);
    let age = |path: &Path| std::fs::File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
    age(&cert);
    age(&key);
    assert!(trusted(&old));
    write(&new);
    assert!(trusted(&new));
    age(&cert);
    age(&key);
    assert!(trusted(&new));
}

/// Who may sign the certificates of clients is seen where `client_ca_file_reload` says so, and what is broken leaves it as it
/// was. A client that resumes its session is asked anew.
#[test]
fn reload_of_client_ca() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clients.pem");
    let (ours, old, new) = (Authority::new(), Authority::new(), Authority::new());
    let write = |text: &str| std::fs::write(&path, text).unwrap();
    for max in [Version::Tls12, Version::Tls13] {
        let start = |client_ca_reload| {
            let client_ca = Some(file("client_ca_file", &path));
            let versions = Versions { max, ..Versions::default() };
            let identity = ours.sign("localhost", |_| ());
            server_config(&ServerTls { client_ca, client_ca_reload, versions, ..server(identity) }, &[]).unwrap()
        };
        write(&old.pem);
        let (reloading, fixed) = (start(Duration::from_nanos(1)), start(Duration::ZERO));
        let clients = [&old, &new].map(|authority| {
            let tls = ClientTls { identity: Some(authority.sign("edge", |_| ())), ..client(ours.ca()) };
            (client_config(&tls, &[]).unwrap(), tls)
        });
        let come_in = |server: &Arc<Server>| {
            clients.each_ref().map(|(config, tls)| talk(server.clone(), config.clone(), tls).is_ok())
        };
        for (text, expected) in [
            (&old.pem, [true, false]),
            (&format!("{}{}", old.pem, new.pem), [true, true]),
            (&new.pem, [false, true]),
            (&"rotation went wrong".to_owned(), [false, true]),
            (&String::new(), [false, true]),
            (&old.pem, [true, false]),
        ] {
            write(text);
            assert_eq!((come_in(&reloading), come_in(&fixed)), (expected, [true, false]), "{max:?} {text}");
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(come_in(&reloading), [true, false], "{max:?} removed");
    }
}

/// ring checks no signatures of these: a person hears of the key, rather than of a CA or of a client certificate.
#[tokio::test]
async fn keys_that_cannot_be_checked_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (cert, key) = (path("cert.pem"), path("key.pem"));
    for (kind, size, key_is, told) in [
        ("ec", "ec_paramgen_curve:P-521", "has a P-521 key", ": use P-256, P-384, Ed25519, or RSA"),
        ("rsa", "rsa_keygen_bits:1024", "has an RSA key of 1024 bits", ": 2048 are the least"),
    ] {
        let names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];
        let mut make = std::process::Command::new("openssl");
        make.args(["req", "-x509", "-newkey", kind, "-pkeyopt", size, "-nodes", "-keyout", &key, "-out", &cert])
            .args(names);
        assert!(make.output().expect("openssl makes the certificates").status.success());
        for version in ["-tls1_2", "-tls1_3"] {
            let port = super::harness::free_port().await;
            let mut serve = tokio::process::Command::new("openssl");
            serve.args(["s_server", "-accept", &format!("127.0.0.1:{port}"), "-cert", &cert, "-key", &key, version]);
            serve.args(["-cipher", "DEFAULT@SECLEVEL=0", "-quiet"]).kill_on_drop(true);
            let _server =
                serve.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
            let trusting = client(Some(file("ca_file", Path::new(&cert))));
            for tls in [trusting, ClientTls { insecure_skip_verify: true, ..ClientTls::default() }] {
                let stream = loop {
                    match tokio::net::TcpStream::connect(("127.0.0.1", port)).await {
                        Ok(stream) => break stream,
                        Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                    }
                };
                let (config, name) = (client_config(&tls, &[]).unwrap(), tls.server_name("localhost").unwrap());
                let error = explain(&connect(Box::new(stream), config, name).await.unwrap_err(), Peer::Server);
                assert!(
                    error.starts_with("no TLS with the server: ") && error.contains(key_is),
                    "{version} {kind}: {error}"
                );
            }
        }
        let own = server(identity(file("cert_file", Path::new(&cert)), file("key_file", Path::new(&key))));
        let error = server_config(&own, &[]).unwrap_err();
        assert_eq!(error, format!("the certificate in cert_file {cert:?} {key_is}{told}"));
    }
}

/// A variable or single quotes leave `\n` as it is.
#[test]
fn a_pem_on_one_line_is_told_and_not_shown() {
    let authority = Authority::new();
    let one_line = authority.pem.replace('\n', "\\n");
    let error = client_config(&client(Some(inline("ca_pem", &one_line))), &[]).unwrap_err();
    let told = r"ca_pem is not valid PEM: its lines end in `\n` as text: end them with real line ends, or write it in double quotes";
    assert_eq!(error, told);
    let own = identity(inline("cert_pem", &authority.pem), inline("key_pem", "-----BEGIN PRIVATE KEY-----\\nMIGH"));
    let error = server_config(&server(own), &[]).unwrap_err();
    assert!(error.starts_with(r"key_pem holds no private key: its lines end in `\n` as text"), "{error}");
    let garbage = client_config(&client(Some(inline("ca_pem", "-----BEGIN CERTIFICATE x\n"))), &[]).unwrap_err();
    assert!(garbage.starts_with("ca_pem ") && garbage.len() < 40, "{garbage}");
}
