//! Endpoints as the Go collector writes them, and connecting to them.

use std::io::IoSlice;
use std::time::Duration;

use misaki::face::network::endpoint::connect;
use misaki::face::network::{Address, Endpoint, Listen, looks_like_tls};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn shown<T: ToString, E: ToString>(result: Result<T, E>) -> String {
    result.map_or_else(|error| format!("error: {}", error.to_string()), |value| value.to_string())
}

#[test]
fn grpc() {
    for (text, expected) in [
        ("localhost:4317", "localhost:4317"),
        ("http://collector:4317", "collector:4317"),
        ("https://collector:4317/", "collector:4317"),
        ("dns:///collector:4317", "collector:4317"),
        ("dns:collector:4317", "collector:4317"),
        ("passthrough:///10.0.0.1:4317", "10.0.0.1:4317"),
        ("[::1]:4317", "[::1]:4317"),
        (":4317", "localhost:4317"),
        ("unix:///run/otel.sock", "unix:///run/otel.sock"),
        ("unix:/run/otel.sock", "unix:///run/otel.sock"),
        ("unix://", "error: unix socket path cannot be empty"),
        ("", "error: requires a non-empty \"endpoint\""),
        ("collector", "error: address collector: missing port in address"),
        ("https://collector", "error: address collector: missing port in address"),
        ("[::1]", "error: address [::1]: missing port in address"),
        ("::1:4317", "error: address ::1:4317: too many colons in address"),
        ("collector:grpc", "error: invalid port \"grpc\""),
        ("collector:", "error: invalid port \"\""),
        ("collector:+1", "error: invalid port \"+1\""),
        ("collector:70000", "error: invalid port \"70000\""),
        ("collector:0", "error: invalid port \"0\""),
        ("xds:///collector:4317", "error: unknown scheme \"xds\": use host:port"),
        ("dns://8.8.8.8/collector:4317", "collector:4317"),
        ("dns://8.8.8.8:53/[::1]:4317", "[::1]:4317"),
        ("dns://8.8.8.8/collector:4317/path", "error: an endpoint of gRPC has no path: \"collector:4317/path\""),
        ("DNS:///collector:4317", "collector:4317"),
        ("Passthrough:///collector:4317", "collector:4317"),
        ("[fe80::1%25eth0]:4317", "[fe80::1%eth0]:4317"),
        ("[fe80::1%eth0]:4317", "[fe80::1%eth0]:4317"),
        ("[::ffff:127.0.0.1]:4317", "127.0.0.1:4317"),
        ("http://collector:4317/v1/logs", "error: an endpoint of gRPC has no path: \"collector:4317/v1/logs\""),
        (
            "http://me:secret@collector:4317",
            "error: an endpoint of gRPC has no place for a user and a password: use headers or auth",
        ),
    ] {
        assert_eq!(shown(Endpoint::grpc(text)), expected, "{text:?}");
    }
}

#[test]
fn http() {
    for (text, joined, authority) in [
        ("http://localhost:4318", "http://localhost:4318/v1/logs", "localhost:4318"),
        ("http://localhost:4318/", "http://localhost:4318/v1/logs", "localhost:4318"),
        ("https://otlp.example.com/otlp", "https://otlp.example.com/otlp/v1/logs", "otlp.example.com"),
        ("https://otlp.example.com/otlp/", "https://otlp.example.com/otlp/v1/logs", "otlp.example.com"),
        ("HTTPS://otlp.example.com:443", "https://otlp.example.com/v1/logs", "otlp.example.com"),
        ("http://[::1]:4318", "http://[::1]:4318/v1/logs", "[::1]:4318"),
        ("http://[::1]", "http://[::1]/v1/logs", "[::1]"),
        ("http://host/a?token=secret#part", "http://host/a/v1/logs?…", "host"),
        ("http://me:secret@host:4318", "http://host:4318/v1/logs", "host:4318"),
        ("localhost:4318", "error: an endpoint of HTTP is a URL: it opens with http:// or https://", ""),
        ("grpc://localhost:4318", "error: unsupported protocol scheme \"grpc\": use http:// or https://", ""),
        ("http://host:port", "error: invalid port \"port\"", ""),
        ("http://me:secret@host:x", "error: invalid port \"x\"", ""),
        ("http://host name/", "error: invalid host \"host name\"", ""),
        ("http://host/a b", "http://host/a%20b/v1/logs", "host"),
        ("http://host/%zz", "error: a % of its path has no two hex digits behind it: %25 stands for a % itself", ""),
        ("http://host/a\n", "error: its path holds a character that has no place there", ""),
        ("", "error: at least one endpoint must be specified", ""),
    ] {
        let endpoint = Endpoint::http(text);
        let signal = endpoint.and_then(|base| base.join("v1/logs"));
        assert_eq!(signal.as_ref().map_or("".to_owned(), Endpoint::authority), authority, "{text:?}");
        assert_eq!(shown(signal), joined, "{text:?}");
    }
    let endpoint = Endpoint::http("http://me:secret@host/a?token=secret").unwrap();
    assert_eq!((endpoint.userinfo.as_deref(), endpoint.target()), (Some("me:secret"), "/a?token=secret"));
    assert!(!format!("{endpoint} {endpoint:?}").contains("secret"));
}

#[test]
fn listen() {
    let addresses = |endpoint: &str, transport: &str| match Listen::parse(endpoint, transport) {
        Ok(listen) => format!("{:?}", block_on(listen.addresses()).unwrap()),
        Err(error) => error.to_string(),
    };
    assert_eq!(addresses("localhost:4317", "tcp"), "[127.0.0.1:4317, [::1]:4317]");
    assert_eq!(addresses("localhost:4317", "tcp4"), "[127.0.0.1:4317]");
    assert_eq!(addresses(":4317", "tcp"), "[[::]:4317, 0.0.0.0:4317]");
    assert_eq!(addresses("0.0.0.0:0", "tcp"), "[[::]:0, 0.0.0.0:0]");
    assert_eq!(addresses("0.0.0.0:0", "tcp4"), "[0.0.0.0:0]");
    assert_eq!(addresses("[::]:0", "tcp"), "[[::]:0]");
    assert_eq!(addresses("127.0.0.1:0", "tcp"), "[127.0.0.1:0]");
    assert_eq!(addresses("[::1]:4317", "tcp6"), "[[::1]:4317]");
    assert_eq!(addresses("[::ffff:127.0.0.1]:4317", "tcp"), "[127.0.0.1:4317]");
    assert_eq!(addresses("localhost:http", "tcp"), "invalid port \"http\"");
    assert_eq!(addresses("localhost", "tcp"), "address localhost: missing port in address");
    assert_eq!(addresses("localhost:1", "udp"), "unsupported transport type \"udp\": use tcp or unix");
    assert_eq!(addresses("localhost:1", "tpc"), "unsupported transport type \"tpc\": use tcp or unix");
    assert_eq!(addresses("localhost:1", ""), "unsupported transport type \"\": use tcp or unix");
    // The Go collector looks for names that are called so.
    for short in ["127.1", "0", "127.0.0.01", "0x7f.1", "0x7F000001", "2130706433", "0.0.0.0.0"] {
        let expected = format!("{short} is no IP address: write all four numbers, as in 127.0.0.1");
        assert_eq!(addresses(&format!("{short}:4317"), "tcp"), expected);
    }
    let unix = Listen::parse("/run/otel.sock", "unix").unwrap();
    assert_eq!(unix.address, Address::Unix("/run/otel.sock".into()));
    let everywhere = |endpoint| Listen::parse(endpoint, "tcp").unwrap().is_everywhere();
    assert_eq!([":1", "0.0.0.0:1", "[::]:1", "localhost:1"].map(everywhere), [true, true, true, false]);
}

#[test]
fn first_bytes() {
    assert!(looks_like_tls(b"\x16\x03\x01\x02\x00") && looks_like_tls(b"\x15\x03\x03\x00\x02\x02"));
    assert!(!looks_like_tls(b"POST /v1/logs") && !looks_like_tls(b"\x16") && !looks_like_tls(b""));
}

#[test]
fn connects_by_name_and_writes_many_slices_at_once() {
    block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        // `localhost` may be ::1 first, where nobody listens: the other address must be tried at once.
        let address = Endpoint::grpc(&format!("localhost:{port}")).unwrap().address;
        let mut stream = connect(&address, Duration::from_secs(5)).await.unwrap();
        let (mut peer, _) = listener.accept().await.unwrap();
        assert!(stream.is_write_vectored());
        let written = stream.write_vectored(&[IoSlice::new(b"one "), IoSlice::new(b"two")]).await.unwrap();
        let mut read = [0; 7];
        peer.read_exact(&mut read).await.unwrap();
        assert_eq!((written, &read), (7, b"one two"));
    });
}

#[test]
fn failures_name_the_address() {
    block_on(async {
        let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let address = Address::tcp(&unused.to_string()).unwrap();
        let error = connect(&address, Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        assert!(error.to_string().starts_with(&format!("cannot connect to {unused}: Connection refused")), "{error}");
        let nowhere = Address::tcp("no-such-host.invalid:1").unwrap();
        let error = connect(&nowhere, Duration::ZERO).await.unwrap_err().to_string();
        assert!(
            error.starts_with("cannot connect to no-such-host.invalid:1: cannot resolve no-such-host.invalid: "),
            "{error}"
        );
        let socket = Address::Unix("/no/such/socket".into());
        let error = connect(&socket, Duration::ZERO).await.unwrap_err().to_string();
        assert!(error.starts_with("cannot connect to unix:///no/such/socket: "), "{error}");
    });
}

/// A listener whose backlog is full answers nothing.
#[cfg(target_os = "linux")]
#[test]
fn silence_ends_at_the_timeout() {
    block_on(async {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let target = Address::tcp(&address.to_string()).unwrap();
        let mut held = Vec::new();
        let error = loop {
            match connect(&target, Duration::from_millis(100)).await {
                Ok(stream) => held.push(stream),
                Err(error) => break error,
            }
        };
        assert_eq!(error.to_string(), format!("cannot connect to {address}: no answer within 100ms"));
    });
}
