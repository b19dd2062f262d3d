//! A forward proxy before the upstream: which one is taken, what it is asked for, and what a person is told when it refuses.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::Request;
use misaki::face::exporters::{Balance, Pieces, Protocol, upstream};
use misaki::face::network::tls::{self, ClientTls, Pem, Server};
use misaki::face::network::{Endpoint, Environment, Proxy, Scheme, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::connections::secured;
use super::harness::*;
use super::tls::client;

const EXAMPLE: &str = "collector.example";

/// A forward proxy. It connects every client to one upstream, whatever host the client names; or it refuses CONNECT and requests with
/// this status.
struct Forward {
    address: SocketAddr,
    /// The head of each request that it saw.
    heads: Arc<Mutex<Vec<String>>>,
    _serving: JoinSet<()>,
}

impl Forward {
    async fn to(upstream: SocketAddr) -> Forward {
        Forward::start(upstream, None, None).await
    }

    async fn start(upstream: SocketAddr, refusal: Option<u16>, tls: Option<Arc<Server>>) -> Forward {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, heads) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let (mut serving, seen) = (JoinSet::new(), heads.clone());
        serving.spawn(async move {
            let mut passing = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                passing.spawn(forward(near, upstream, refusal, tls.clone(), seen.clone()));
            }
        });
        Forward { address, heads, _serving: serving }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    fn url(&self, userinfo: &str) -> String {
        format!("http://{userinfo}{}", self.address)
    }
}

async fn forward(
    near: TcpStream,
    upstream: SocketAddr,
    refusal: Option<u16>,
    tls: Option<Arc<Server>>,
    heads: Arc<Mutex<Vec<String>>>,
) {
    let mut near: Stream = Box::new(near);
    if let Some(server) = tls {
        near = tls::accept(near, &server).await.unwrap();
    }
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        // Nobody speaks on a connection that `doctor` only tries.
        let Ok(byte) = near.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    heads.lock().unwrap().push(head.clone());
    if let Some(status) = refusal {
        let answer = format!("HTTP/1.1 {status} No\r\ncontent-length: 0\r\n\r\n");
        return near.write_all(answer.as_bytes()).await.unwrap();
    }
    let mut far = TcpStream::connect(upstream).await.unwrap();
    if head.starts_with("CONNECT ") {
        near.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
    } else {
        // The server is asked for what follows the host, and for nothing else on this connection.
        let (method, rest) = head.split_once(" http://").expect("a proxy is asked for a URL");
        let head = format!("{method} {}", &rest[rest.find('/').unwrap()..]);
        let head = head.replacen("\r\n", "\r\nconnection: close\r\n", 1);
        far.write_all(head.as_bytes()).await.unwrap();
    }
    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
}

/// What the variables lead to, for one upstream: the proxy, `-`, or an error.
fn found(variables: &[(&str, &str)], endpoint: &str) -> String {
    let variable = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string());
    let (endpoint, scheme) = match Endpoint::http(endpoint) {
        Ok(endpoint) => (endpoint.clone(), endpoint.scheme.unwrap()),
        Err(_) => (Endpoint::grpc(endpoint).unwrap(), Scheme::Https),
    };
    match Environment::new(variable).proxy(&endpoint, scheme, &ClientTls::default()) {
        Ok(proxy) => proxy.map_or("-".to_owned(), |proxy| proxy.to_string()),
        Err(error) => error,
    }
}

#[test]
fn the_environment_names_it_as_in_go() {
    let both = &[("HTTP_PROXY", "http://plain:3128"), ("HTTPS_PROXY", "secret:9")][..];
    let (plain, secret) = ("the proxy at plain:3128 (HTTP_PROXY)", "the proxy at secret:9 (HTTPS_PROXY)");
    for (endpoint, expected) in [
        ("http://collector.example", plain),
        ("https://collector.example", secret),
        // gRPC asks for a connection always.
        ("collector.example:4317", secret),
        ("unix:///run/otel.sock", "-"),
        ("http://localhost:4318", "-"),
        ("localhost:4317", "-"),
        ("127.3.2.1:4317", "-"),
        ("[::1]:4317", "-"),
        ("[::ffff:127.0.0.1]:4317", "-"),
        ("10.0.0.1:4317", secret),
    ] {
        assert_eq!(found(both, endpoint), expected, "{endpoint}");
    }
    let to = "https://collector.example";
    for (variables, expected) in [
        (
            &[("https_proxy", "http://lower:1"), ("HTTPS_PROXY", "http://upper:1")][..],
            "the proxy at lower:1 (https_proxy)",
        ),
        (&[("https_proxy", ""), ("HTTPS_PROXY", "http://upper:1")], "the proxy at upper:1 (HTTPS_PROXY)"),
        (&[("HTTPS_PROXY", "http://me:secret@upper")], "the proxy at upper:80 (HTTPS_PROXY)"),
        (&[("HTTPS_PROXY", "https://upper/")], "the proxy at upper:443 (HTTPS_PROXY)"),
        (&[("ALL_PROXY", "http://all:1"), ("HTTP_PROXY", "http://plain:1")], "-"),
        (
            &[("HTTPS_PROXY", "socks5://me:secret@s:1")],
            "HTTPS_PROXY: a SOCKS proxy is not supported: name one that speaks HTTP",
        ),
        (&[("HTTPS_PROXY", "http://me:secret@s:x")], "HTTPS_PROXY: it is no URL of a proxy: write http://HOST:PORT"),
        (&[("HTTPS_PROXY", "http://me:sec/ret@s:1")], "HTTPS_PROXY: it is no URL of a proxy: write http://HOST:PORT"),
    ] {
        assert_eq!(found(variables, to), expected, "{variables:?}");
    }
}

#[test]
fn no_proxy_exempts_as_in_go() {
    for (list, exempt, proxied) in [
        ("*", &["https://a.example", "10.0.0.1:1"][..], &[][..]),
        ("a.example", &["https://a.example", "https://x.A.example"], &["https://ba.example"]),
        (".a.example", &["https://x.a.example"], &["https://a.example"]),
        ("*.a.example", &["https://x.a.example"], &["https://a.example"]),
        ("a.example:4317", &["a.example:4317", "x.a.example:4317"], &["a.example:4318"]),
        (" b.example ,, A.example", &["https://a.example", "https://b.example"], &["https://c.example"]),
        ("10.0.0.0/8", &["10.1.2.3:4317", "[::ffff:10.1.2.3]:4317"], &["11.0.0.1:4317", "ten.example:4317"]),
        ("0.0.0.0/0", &["8.8.8.8:1"], &["[2001:db8::1]:1"]),
        ("2001:db8::/33", &["[2001:db8::1]:1"], &["[2001:db8:8000::1]:1"]),
        ("10.0.0.1,10.0.0.2:4317", &["10.0.0.1:1", "10.0.0.2:4317"], &["10.0.0.2:1", "10.0.0.3:1"]),
        ("2001:db8::1,[2001:db8::2]:4317", &["[2001:db8::1]:1", "[2001:db8::2]:4317"], &["[2001:db8::2]:1"]),
        ("10.0.0.0/33,:80,.", &[], &["10.0.0.1:1", "https://a.example"]),
    ] {
        for name in ["NO_PROXY", "no_proxy"] {
            let variables = [("HTTPS_PROXY", "p:1"), (name, list)];
            exempt.iter().for_each(|endpoint| assert_eq!(found(&variables, endpoint), "-", "{list}: {endpoint}"));
            let proxy = "the proxy at p:1 (HTTPS_PROXY)";
            proxied.iter().for_each(|endpoint| assert_eq!(found(&variables, endpoint), proxy, "{list}: {endpoint}"));
        }
    }
}

/// Over plain HTTP the proxy gets each request with its whole URL.
#[tokio::test]
async fn it_forwards_requests_in_clear() {
    let upstream = Upstream::start().await;
    let proxy = Forward::to(upstream.address).await;
    let changes = format!(
        "{{exporters: {{otlp_http: {{endpoint: 'http://{EXAMPLE}:4318/base', proxy_url: '{}'}}}}, \
         service: {{pipelines: {{logs: {{exporters: [otlp_http]}}}}}}}}",
        proxy.url("me:p%40ss@")
    );
    let mut misaki = Misaki::start(&changes, &[&upstream]).await;
    for name in ["one", "two"] {
        assert!(misaki.send(&[name]).await.ok);
        misaki.settle().await;
    }
    misaki.finish().await;
    assert_eq!(upstream.kept(), ["one", "two"]);
    let heads = proxy.heads();
    assert_eq!(heads.len(), 2, "{heads:?}");
    let head = heads[0].to_lowercase();
    assert!(head.starts_with("post http://collector.example:4318/base/v1/logs http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nhost: collector.example:4318\r\n"), "{head}");
    assert!(heads[0].contains("\r\nproxy-authorization: Basic bWU6cEBzcw==\r\n"), "{head}");
}

async fn ask(upstream: &upstream::Upstream) -> Result<u16, String> {
    let body = Pieces::new([Bytes::from(vec![0; 100])].into_iter().collect());
    let request = Request::post(format!("http://{EXAMPLE}:4317/v1/logs")).body(body).unwrap();
    let answer = upstream.exchange(request).await.map_err(|status| status.message)?;
    Ok(answer.head.status.as_u16())
}

fn through(proxy: &str, protocol: Protocol, tls: Option<ClientTls>) -> upstream::Upstream {
    let proxy = Proxy::new(proxy, "proxy_url", &tls.clone().unwrap_or_default()).unwrap();
    let endpoint = Endpoint::grpc(&format!("{EXAMPLE}:4317")).unwrap();
    upstream::Upstream::new(endpoint, protocol, tls, None, Balance::Through(proxy))
}

/// gRPC in either form, and HTTPS, go through a connection that the proxy makes.
#[tokio::test]
async fn it_tunnels_everything_else() {
    let directory = tempfile::tempdir().unwrap();
    let (server, authority) = secured(directory.path(), &[b"h2", b"http/1.1"]);
    let trusting = ClientTls { server_name_override: Some("localhost".to_owned()), ..client(authority.ca()) };
    for (protocol, is_secure) in [(Protocol::Http2, false), (Protocol::Http2, true), (Protocol::Either, true)] {
        let upstream = Upstream::start().await;
        // What takes TLS off stands before the upstream.
        let (secure, _serving) = secure_front(upstream.address, server.clone()).await;
        let proxy = Forward::to(if is_secure { secure } else { upstream.address }).await;
        let asked = through(&proxy.url("me:@"), protocol, is_secure.then(|| trusting.clone()));
        for _ in 0..3 {
            assert_eq!(ask(&asked).await, Ok(200), "{protocol:?} {is_secure}");
        }
        let heads = proxy.heads();
        assert_eq!(heads.len(), 1, "{protocol:?}: {heads:?}");
        assert!(
            heads[0].starts_with("CONNECT collector.example:4317 HTTP/1.1\r\nhost: collector.example:4317\r\n"),
            "{heads:?}"
        );
        assert!(heads[0].contains("\r\nproxy-authorization: Basic bWU6\r\n"), "{heads:?}");
    }
}

async fn secure_front(upstream: SocketAddr, server: Arc<Server>) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, mut serving) = (listener.local_addr().unwrap(), JoinSet::new());
    serving.spawn(async move {
        let mut passing = JoinSet::new();
        while let Ok((near, _)) = listener.accept().await {
            let server = server.clone();
            passing.spawn(async move {
                let mut near = tls::accept(Box::new(near), &server).await.unwrap();
                let mut far = TcpStream::connect(upstream).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    (address, serving)
}

/// The certificate is the proxy's own, and `server_name_override` is about the upstream's.
#[tokio::test]
async fn a_proxy_may_speak_tls() {
    let directory = tempfile::tempdir().unwrap();
    let (server, authority) = secured(directory.path(), &[b"http/1.1"]);
    let upstream = Upstream::start().await;
    let proxy = Forward::start(upstream.address, None, Some(server)).await;
    let tls = ClientTls { server_name_override: Some(EXAMPLE.to_owned()), ..client(authority.ca()) };
    let url = format!("https://localhost:{}", proxy.address.port());
    let named = Proxy::new(&url, "proxy_url", &tls).unwrap();
    let endpoint = Endpoint::http(&format!("http://{EXAMPLE}:4317")).unwrap();
    for protocol in [Protocol::Http2, Protocol::Either] {
        let asked = upstream::Upstream::new(endpoint.clone(), protocol, None, None, Balance::Through(named.clone()));
        assert_eq!(ask(&asked).await, Ok(200), "{protocol:?}");
    }
    let heads = proxy.heads();
    assert!(
        heads[0].starts_with("CONNECT ") && heads[1].starts_with("POST http://collector.example:4317/"),
        "{heads:?}"
    );
    let stranger = Proxy::new(&url, "proxy_url", &ClientTls { ca: Some(other_ca()), ..ClientTls::default() }).unwrap();
    let asked = upstream::Upstream::new(endpoint, Protocol::Http2, None, None, Balance::Through(stranger));
    let error = ask(&asked).await.unwrap_err();
    let start = format!("the proxy at localhost:{} (proxy_url): no TLS with the server: ", proxy.address.port());
    assert!(error.contains(&start) && error.contains("tls.ca_file"), "{error}");
}

fn other_ca() -> Pem {
    super::tls::Authority::new().ca().unwrap()
}

#[tokio::test]
async fn a_refusal_names_the_proxy_and_no_secret() {
    let to = "collector.example:4317";
    for (status, userinfo, why) in [
        (407, "", "it wants a user and a password: write them into its URL".to_owned()),
        (407, "me:secret@", "it does not accept the user and the password in its URL".to_owned()),
        (403, "me:secret@", format!("it does not allow connections to {to}")),
        (502, "me:secret@", format!("it cannot reach {to}")),
        (418, "me:secret@", format!("it makes no connection to {to}")),
    ] {
        let proxy = Forward::start("127.0.0.1:9".parse().unwrap(), Some(status), None).await;
        let error = ask(&through(&proxy.url(userinfo), Protocol::Http2, None)).await.unwrap_err();
        let named = format!("the proxy at {} (proxy_url)", proxy.address);
        assert_eq!(error, format!("{to}: {named} answered {status} to CONNECT: {why}"));
    }
    let proxy = format!("http://me:secret@127.0.0.1:{}", free_port().await);
    let error = ask(&through(&proxy, Protocol::Either, None)).await.unwrap_err();
    let start = format!("{to}: cannot reach the proxy that proxy_url names: cannot connect to 127.0.0.1:");
    assert!(error.starts_with(&start) && !error.contains("secret"), "{error}");
}

async fn misaki(arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_misaki"));
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    command.args(arguments).envs(variables.iter().copied());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

#[tokio::test]
async fn the_process_obeys_its_environment() {
    let upstream = Upstream::start().await;
    let proxy = Forward::to(upstream.address).await;
    let url = proxy.url("me:secret@");
    for (scheme, variable, count) in [("grpc", "HTTPS_PROXY", 1), ("grpc", "https_proxy", 1), ("http", "HTTP_PROXY", 1)]
    {
        let (before, to) = (upstream.requests(), format!("{scheme}://{EXAMPLE}:4317"));
        let (status, said) = misaki(&["send", "slog", "--to", &to], &[(variable, &url)]).await;
        assert_eq!((status, upstream.requests() > before), (0, true), "{variable}: {said}");
        assert!(proxy.heads().len() >= count, "{said}");
    }
    // Without TLS, gRPC is no matter of HTTP_PROXY; and where NO_PROXY names the host, no proxy is asked.
    let (heads, to) = (proxy.heads().len(), "grpc://no-such-host.invalid:4317");
    for variables in [&[("HTTP_PROXY", url.as_str())][..], &[("HTTPS_PROXY", &url), ("NO_PROXY", "invalid")]] {
        let (status, said) = misaki(&["send", "slog", "--to", to], variables).await;
        assert!(status != 0 && said.contains("cannot resolve the name"), "{said}");
    }
    assert_eq!(proxy.heads().len(), heads);
    let socks = [("HTTPS_PROXY", "socks5://me:secret@localhost:1")];
    let (status, said) = misaki(&["send", "slog", "--to", to], &socks).await;
    let flat = said.split_whitespace().collect::<Vec<_>>().join(" ");
    let told = "HTTPS_PROXY: a SOCKS proxy is not supported: name one that speaks HTTP help: mend the variable, or name the host in NO_PROXY";
    assert!(status != 0 && flat.contains(told) && !said.contains("secret"), "{said}");
}

#[tokio::test]
async fn doctor_shows_the_hop() {
    let upstream = Upstream::start().await;
    let proxy = Forward::to(upstream.address).await;
    let url = proxy.url("me:secret@");
    let shown = format!("proxy     the proxy at {}", proxy.address);
    let refusing = Forward::start(upstream.address, Some(403), None).await;
    let closed = format!("http://me:secret@127.0.0.1:{}", free_port().await);
    for (scheme, variable, url, expected) in [
        (
            "grpc",
            "HTTPS_PROXY",
            &url,
            ["ok      name", &shown, "collector.example:4317 through the proxy in", "accepted"],
        ),
        (
            "http",
            "HTTP_PROXY",
            &url,
            ["(HTTP_PROXY) in", &shown, "the proxy connects to collector.example:4317 for each request", "accepted"],
        ),
        (
            "grpc",
            "HTTPS_PROXY",
            &refusing.url(""),
            ["ok      proxy", "FAILED  connect", "403 to CONNECT", "name the host in NO_PROXY"],
        ),
        ("grpc", "HTTPS_PROXY", &closed, ["FAILED  proxy", "HTTPS_PROXY names", "-       connect", "-       export"]),
    ] {
        let (_, said) = misaki(&["doctor", "--to", &format!("{scheme}://{EXAMPLE}:4317")], &[(variable, url)]).await;
        let flat = said.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in expected {
            let part = part.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(flat.contains(&part), "{part}: {said}");
        }
        assert!(!said.contains("secret"), "{said}");
    }
}
