//! Who may come in, and who we are: authenticators on both sides, credentials renewed while everything runs, secrets that
//! stay secret.

use std::time::{Duration, SystemTime};

use misaki::face::config::{Value, emit, load};
use misaki::face::extensions::{Named, Purpose};
use misaki::face::network::Watched;
use misaki::face::service::Plan;
use misaki::face::telemetry::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::harness::*;

const LOOK: Duration = Duration::from_secs(1);
const PROBE: Duration = Duration::from_secs(60);

/// A receiver that asks for credentials of `extension`.
async fn guarded(extension: &str, upstream: &Upstream) -> Misaki {
    let auth = "{auth: {authenticator: guard}}".replace("guard", extension.split(':').next().unwrap());
    let changes = format!(
        "{{extensions: {{{extension}}}, receivers: {{otlp: {{protocols: {{grpc: {auth}, http: {auth}}}}}}}, service: {{extensions: [{}]}}}}",
        extension.split(':').next().unwrap()
    );
    Misaki::start(&changes, &[upstream]).await
}

/// What a client with this header hears, the same over all three ways in: `None` when it may come in.
async fn refusal(misaki: &Misaki, header: Option<&str>) -> Option<String> {
    let headers: Vec<_> = header.iter().map(|value| ("authorization", *value)).collect();
    let mut heard = Vec::new();
    for via in [Via::Grpc, Via::Http, Via::Json] {
        let answer = misaki.post(via, Signal::Logs, request(Signal::Logs, &["x"]), &headers).await;
        let expected = match (answer.ok, via) {
            (true, Via::Grpc) => 0,
            (true, _) => 200,
            (false, Via::Grpc) => 16,
            (false, _) => 401,
        };
        assert_eq!(answer.code, expected, "{via:?}: {answer:?}");
        let message = match via {
            Via::Json if !answer.ok => {
                let status: serde_json::Value = serde_json::from_str(&answer.message).unwrap();
                assert_eq!(status["code"], 16);
                status["message"].as_str().unwrap().to_owned()
            }
            _ => answer.message,
        };
        heard.push((!answer.ok).then_some(message));
    }
    assert!(heard.iter().all(|message| *message == heard[0]), "{heard:?}");
    heard.remove(0)
}

fn basic(user: &str, password: &str) -> String {
    let mut text = b"Basic ".to_vec();
    misaki::face::otlp::base64::put_padded(format!("{user}:{password}").as_bytes(), &mut text);
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn bearer_tokens_at_the_door() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tokens");
    std::fs::write(&file, "first\r\n\n  second \n").unwrap();
    let upstream = Upstream::start().await;
    let extension = format!("bearertokenauth: {{filename: \"{}\"}}", file.display());
    let mut misaki = guarded(&extension, &upstream).await;
    let unknown = Some("provided authorization does not match expected scheme or token".to_owned());
    for (header, refused) in [
        (Some("Bearer first"), &None),
        (Some("Bearer second"), &None),
        (Some("Bearer third"), &unknown),
        (Some("Bearer "), &unknown),
        (Some("bearer first"), &unknown),
        (Some("Bearer  first"), &unknown),
        (Some("first"), &unknown),
        (None, &Some("missing or empty authorization header: Authorization".to_owned())),
        (Some(""), &Some("missing or empty authorization header: Authorization".to_owned())),
    ] {
        assert_eq!(refusal(&misaki, header).await, *refused, "{header:?}");
    }
    let taken = 6;
    // Renewed by another file in its place, by one of the same length and time, and by being written over.
    let next = directory.path().join("next");
    let renew = async |token: &str, old: bool| {
        std::fs::write(&next, token).unwrap();
        if old {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
            std::fs::File::options().write(true).open(&next).unwrap().set_modified(time).unwrap();
        }
        std::fs::rename(&next, &file).unwrap();
        jump(LOOK).await;
    };
    renew("third", true).await;
    assert_eq!(refusal(&misaki, Some("Bearer third")).await, None);
    assert_eq!(refusal(&misaki, Some("Bearer first")).await, unknown);
    renew("fifth", true).await;
    assert_eq!(refusal(&misaki, Some("Bearer third")).await, unknown);
    assert_eq!(refusal(&misaki, Some("Bearer fifth")).await, None);
    renew("sixth", false).await;
    assert_eq!(refusal(&misaki, Some("Bearer sixth")).await, None);
    // A file that is gone or no text leaves what was known.
    std::fs::remove_file(&file).unwrap();
    jump(LOOK).await;
    assert_eq!(refusal(&misaki, Some("Bearer sixth")).await, None);
    let many = "t\n".repeat(1025);
    let large = "t".repeat((1 << 20) + 1);
    for broken in [b"\xff", b"a\x01b".as_slice(), many.as_bytes(), large.as_bytes()] {
        std::fs::write(&file, broken).unwrap();
        jump(LOOK).await;
        assert_eq!(refusal(&misaki, Some("Bearer sixth")).await, None, "{:?}", broken.first());
        assert_eq!(refusal(&misaki, Some("Bearer ")).await, unknown, "{:?}", broken.first());
    }
    misaki.settle().await;
    assert_eq!(upstream.kept().len(), taken + 3 * (3 + 1 + 4), "what was refused went nowhere");
    misaki.finish().await;
}

/// A file that was emptied lets no one in, and says so as one that is not there yet: what clients have stays with them.
#[tokio::test]
async fn an_emptied_file_revokes() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    let upstream = Upstream::start().await;
    let filename = file.display();
    for (extension, credentials, header) in [
        (format!("bearertokenauth: {{filename: \"{filename}\"}}"), "right", "Bearer right".to_owned()),
        (format!("basicauth: {{htpasswd: {{file: \"{filename}\"}}}}"), "u:right", basic("u", "right")),
    ] {
        std::fs::write(&file, credentials).unwrap();
        let misaki = guarded(&extension, &upstream).await;
        assert_eq!(refusal(&misaki, Some(&header)).await, None);
        for nothing in ["", "\n \n", "# remarks\n"] {
            std::fs::write(&file, nothing).unwrap();
            jump(LOOK).await;
            for (via, code) in [(Via::Grpc, 14), (Via::Http, 503)] {
                let headers = [("authorization", header.as_str())];
                let answer = misaki.post(via, Signal::Logs, request(Signal::Logs, &["x"]), &headers).await;
                assert_eq!(answer.code, code, "{extension} {nothing:?}: {answer:?}");
            }
        }
        std::fs::write(&file, credentials).unwrap();
        jump(LOOK).await;
        assert_eq!(refusal(&misaki, Some(&header)).await, None);
    }
}

/// As the Go collector reads them: the first word of a line. A `#` alone is a token there, which anyone could guess.
#[tokio::test]
async fn tokens_with_remarks() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tokens");
    std::fs::write(&file, "# of the shop\nfirst since May\n#second\n").unwrap();
    let upstream = Upstream::start().await;
    let misaki = guarded(&format!("bearertokenauth: {{filename: \"{}\"}}", file.display()), &upstream).await;
    for (token, is_known) in
        [("first", true), ("#second", true), ("first since May", false), ("#", false), ("# of the shop", false)]
    {
        assert_eq!(refusal(&misaki, Some(&format!("Bearer {token}"))).await.is_none(), is_known, "{token}");
    }
}

/// What is no file holds up nobody, and what was known stays: a pipe froze the thread for good, SIGTERM with it.
#[cfg(unix)]
#[tokio::test]
async fn a_pipe_in_place_of_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    let upstream = Upstream::start().await;
    let extension = format!("bearertokenauth: {{filename: \"{}\"}}", file.display());
    std::fs::write(&file, "right").unwrap();
    let mut misaki = guarded(&extension, &upstream).await;
    assert_eq!(refusal(&misaki, Some("Bearer right")).await, None);
    std::fs::remove_file(&file).unwrap();
    pipe(&file);
    jump(LOOK).await;
    assert_eq!(refusal(&misaki, Some("Bearer right")).await, None);
    // At a reload it is refused by name.
    let refused = misaki.reload(&format!("{{extensions: {{bearertokenauth/new: {{filename: \"{}\"}}}}, service: {{extensions: [bearertokenauth/new]}}}}", file.display()), &[&upstream]).await.unwrap_err();
    assert!(refused.ends_with("it is a pipe, and must be a file (extensions.bearertokenauth/new)"), "{refused}");
    // A link to a file, as Kubernetes mounts secrets.
    std::fs::remove_file(&file).unwrap();
    std::fs::write(directory.path().join("data"), "next").unwrap();
    std::os::unix::fs::symlink("data", &file).unwrap();
    jump(LOOK).await;
    assert_eq!(refusal(&misaki, Some("Bearer next")).await, None);
}

/// A mount that hangs: the first request waits a moment, the others not at all, and what was known stays in force. Nothing
/// else on the worker waits.
#[tokio::test]
async fn a_file_that_hangs() {
    let (release, hangs) = std::sync::mpsc::sync_channel::<u8>(8);
    let hangs = std::sync::Mutex::new(hangs);
    release.send(1).unwrap();
    let watched = Watched::new("numbers", vec!["none".into()], Duration::from_nanos(1), move |_| {
        Ok(Some(hangs.lock().unwrap().recv().unwrap()))
    });
    assert_eq!(watched.look().as_deref(), Ok(&1));
    let started = std::time::Instant::now();
    let beside = async {
        tokio::task::yield_now().await;
        started.elapsed()
    };
    let (known, beside) = tokio::join!(watched.current(true), beside);
    assert!(known.as_deref() == Ok(&1) && beside < Duration::from_millis(90), "{known:?}, others waited {beside:?}");
    for _ in 0..1000 {
        assert_eq!(watched.current(true).await.as_deref(), Ok(&1));
        assert_eq!(watched.glance().as_deref(), Ok(&1));
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    release.send(2).unwrap();
    until("it is read", || watched.glance().as_deref() == Ok(&2)).await;
    // A look that is under way ends before the runtime does.
    release.send(3).unwrap();
}

/// A look that panics is one that failed: the next one is made as ever.
#[tokio::test]
async fn what_panics_is_read_again() {
    let mut looks = 0..;
    let looks = std::sync::Mutex::new(move || looks.next().unwrap());
    let watched = Watched::new("numbers", vec!["none".into()], Duration::from_nanos(1), move |_| {
        let look = (looks.lock().unwrap_or_else(std::sync::PoisonError::into_inner))();
        // Without the backtrace, which takes longer than anyone waits for a look.
        if look % 2 == 1 { std::panic::resume_unwind(Box::new(look)) } else { Ok(Some(look)) }
    });
    assert_eq!(watched.look().as_deref(), Ok(&0));
    let started = std::time::Instant::now();
    for round in 1..=10 {
        assert_eq!(watched.current(true).await.as_deref(), Ok(&(round / 2 * 2)), "round {round}");
    }
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

/// Whether it is inside of the look's second or not decides alone: nothing is read again for each request.
#[tokio::test]
async fn files_are_looked_at_once_a_second() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "old").unwrap();
    let upstream = Upstream::start().await;
    tokio::time::pause();
    let misaki = guarded(&format!("bearertokenauth: {{filename: \"{}\"}}", file.display()), &upstream).await;
    let answer = async |token: &str| {
        let headers = [("authorization", token)];
        misaki.post(Via::Http, Signal::Logs, request(Signal::Logs, &["x"]), &headers).await.code
    };
    assert_eq!(answer("Bearer old").await, 200);
    std::fs::write(&file, "new").unwrap();
    assert_eq!(answer("Bearer old").await, 200);
    tokio::time::advance(LOOK).await;
    assert_eq!((answer("Bearer old").await, answer("Bearer new").await), (401, 200));
}

/// A token file that is not there yet lets no one in, and no one loses anything: they are told to come again.
#[tokio::test]
async fn a_token_that_comes_late() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    let upstream = Upstream::start().await;
    let misaki = guarded(&format!("bearertokenauth: {{filename: \"{}\"}}", file.display()), &upstream).await;
    for (via, code) in [(Via::Grpc, 14), (Via::Http, 503)] {
        let headers = [("authorization", "Bearer late")];
        let answer = misaki.post(via, Signal::Logs, request(Signal::Logs, &["x"]), &headers).await;
        assert_eq!((answer.code, answer.hint), (code, Some(Duration::from_secs(1))), "{answer:?}");
    }
    std::fs::write(&file, "late\n").unwrap();
    jump(LOOK).await;
    assert_eq!(refusal(&misaki, Some("Bearer late")).await, None);
}

#[tokio::test]
async fn another_header_and_scheme() {
    let upstream = Upstream::start().await;
    let misaki = guarded("bearertokenauth: {header: X-Key, scheme: \"\", tokens: [one, two]}", &upstream).await;
    for (key, code) in [("one", 200), ("two", 200), ("Bearer one", 401), ("three", 401)] {
        let answer = misaki.post(Via::Http, Signal::Logs, request(Signal::Logs, &["x"]), &[("x-key", key)]).await;
        assert_eq!(answer.code, code, "{key}");
    }
    assert_eq!(refusal(&misaki, Some("one")).await, Some("missing or empty authorization header: X-Key".to_owned()));
}

#[tokio::test]
async fn users_at_the_door() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("htpasswd");
    // `htpasswd -nbs sha secret`
    std::fs::write(&file, "# people\nplain:pass:word\n\nsha:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\ntwice:a\ntwice:b\n")
        .unwrap();
    let upstream = Upstream::start().await;
    let extension = format!("basicauth: {{htpasswd: {{file: \"{}\", inline: \"more:väl\"}}}}", file.display());
    let misaki = guarded(&extension, &upstream).await;
    let invalid = Some("invalid credentials".to_owned());
    for (user, password, refused) in [
        ("plain", "pass:word", &None),
        ("plain", "pass", &invalid),
        ("plain", "", &invalid),
        ("sha", "secret", &None),
        ("sha", "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", &invalid),
        ("twice", "b", &None),
        ("twice", "a", &invalid),
        ("more", "väl", &None),
        ("", "", &invalid),
        ("# people", "", &invalid),
    ] {
        assert_eq!(refusal(&misaki, Some(&basic(user, password))).await, *refused, "{user} {password}");
    }
    let told = async |header| refusal(&misaki, header).await.unwrap_or_default();
    assert_eq!(told(None).await, "no basic auth provided");
    assert_eq!(told(Some("Bearer x")).await, "invalid authorization scheme prefix");
    assert_eq!(told(Some("Basic")).await, "invalid authorization scheme prefix");
    for format in ["Basic !", "Basic YQ=="] {
        assert_eq!(told(Some(format)).await, "invalid authorization format", "{format}");
    }
    let lower = basic("sha", "secret").replace("Basic", "basic");
    assert_eq!(refusal(&misaki, Some(&lower)).await, None);
    std::fs::write(&file, "plain:other").unwrap();
    jump(LOOK).await;
    assert_eq!(refusal(&misaki, Some(&basic("plain", "other"))).await, None);
    assert_eq!(refusal(&misaki, Some(&basic("sha", "secret"))).await, invalid);
    // A hash that cannot be checked spoils the file, and what was known stays.
    std::fs::write(&file, "plain:{SHA}none\nsha:$2y$05$abc").unwrap();
    jump(LOOK).await;
    assert_eq!(refusal(&misaki, Some(&basic("plain", "other"))).await, None);
}

/// The answer comes before any of the body does; a small one that follows leaves the connection usable, a large one ends it.
#[tokio::test]
async fn refused_by_the_head_alone() {
    let upstream = Upstream::start().await;
    let misaki = guarded("bearertokenauth: {token: right}", &upstream).await;
    let address = misaki.running.addresses.iter().find(|(name, _)| *name == "http").unwrap().1.unwrap();
    let head = |token: &str, length: usize| {
        format!(
            "POST /v1/logs HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nauthorization: Bearer {token}\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut buffer = vec![0; 4096];
    stream.write_all(head("wrong", 10_000_000).as_bytes()).await.unwrap();
    let count = stream.read(&mut buffer).await.unwrap();
    let answer = String::from_utf8_lossy(&buffer[..count]).to_lowercase();
    assert!(answer.starts_with("http/1.1 401 ") && answer.contains("www-authenticate: bearer\r\n"), "{answer}");
    assert_eq!(stream.read(&mut buffer).await.unwrap_or(0), 0, "closed, after all of the answer");
    let mut stream = TcpStream::connect(address).await.unwrap();
    for (token, status) in [("wrong", "401"), ("right", "200"), ("wrong", "401"), ("right", "200")] {
        stream.write_all((head(token, 2) + "{}").as_bytes()).await.unwrap();
        let count = stream.read(&mut buffer).await.unwrap();
        let answer = String::from_utf8_lossy(&buffer[..count]).into_owned();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
    // No path and no method is told to a stranger.
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let count = stream.read(&mut buffer).await.unwrap();
    assert!(String::from_utf8_lossy(&buffer[..count]).starts_with("HTTP/1.1 401 "));
}

/// Both protocols come in by each port: an authenticator of one guards the other too, unless that has its own.
#[tokio::test]
async fn no_protocol_is_a_way_around_the_other() {
    let changes = "{extensions: {bearertokenauth: {token: t}}, service: {extensions: [bearertokenauth]}, receivers: {otlp: {protocols: {grpc: {auth: {authenticator: bearertokenauth}}}}}}";
    let upstream = Upstream::start().await;
    let misaki = Misaki::start(changes, &[&upstream]).await;
    let answer = async |via| misaki.send_by(via, Signal::Logs, &["x"]).await.code;
    assert_eq!((answer(Via::Grpc).await, answer(Via::Http).await), (16, 401));
}

/// Accepts one value of `authorization` alone.
async fn demanding(via: Via, value: &'static str) -> Upstream {
    Upstream::scripted(move |arrival| {
        let mut given = arrival.headers.get_all("authorization").iter();
        match (given.next(), given.next()) {
            (Some(given), None) if given == value => Reply::Accept,
            _ if via == Via::Grpc => Reply::Grpc(16, "who are you", None),
            _ => Reply::Http(401, None),
        }
    })
    .await
}

/// Exporters of logs to the upstream, by gRPC or HTTP, with these credentials and a header that they replace.
async fn signing(via: Via, extension: &str, upstream: &Upstream) -> Misaki {
    let name = extension.split(':').next().unwrap();
    let exporter = if via == Via::Grpc { "otlp" } else { "otlp_http" };
    let changes = format!(
        "{{extensions: {{{extension}}}, exporters: {{{exporter}: {{auth: {{authenticator: {name}}}, headers: {{authorization: Bearer other}}}}}}, service: {{extensions: [{name}], pipelines: {{logs: {{exporters: [{exporter}]}}}}}}}}"
    );
    Misaki::start(&changes, &[upstream]).await
}

#[tokio::test]
async fn exporters_say_who_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let (user, password) = (directory.path().join("user"), directory.path().join("password"));
    std::fs::write(&user, "edge\n").unwrap();
    std::fs::write(&password, "pass word\n").unwrap();
    let files = format!("username_file: \"{}\", password_file: \"{}\"", user.display(), password.display());
    for via in [Via::Grpc, Via::Http] {
        for (extension, value) in [
            ("bearertokenauth: {token: t}", "Bearer t"),
            ("bearertokenauth: {scheme: Token, tokens: [one, two]}", "Token one"),
            ("basicauth: {client_auth: {username: edge, password: pass word}}", "Basic ZWRnZTpwYXNzIHdvcmQ="),
            (&format!("basicauth: {{client_auth: {{{files}}}}}"), "Basic ZWRnZTpwYXNzIHdvcmQ="),
        ] {
            let upstream = demanding(via, value).await;
            let mut misaki = signing(via, extension, &upstream).await;
            assert!(misaki.send(&["a"]).await.ok);
            misaki.settle().await;
            assert_eq!(upstream.kept_once(), ["a"], "{via:?} {extension}");
            misaki.finish().await;
        }
    }
}

/// An upstream that repeats the request: what we sent in confidence is in no message, and no message is long.
#[tokio::test]
async fn an_echo_shows_no_secrets() {
    const ECHO: &str = "Bearer s3cr3t-token / s3cr3t-token / s3cr3t-header / Basic ZWRnZTpwYXNzIHdvcmQ= / pass word ";
    for (via, exporter) in [(Via::Grpc, "otlp"), (Via::Http, "otlp_http")] {
        for auth in [
            "bearertokenauth: {token: s3cr3t-token}",
            "basicauth: {client_auth: {username: edge, password: pass word}}",
        ] {
            let upstream = Upstream::scripted(move |_| {
                let text = ECHO.repeat(40);
                let wire = misaki::face::otlp::status::to_wire(
                    &misaki::face::telemetry::Status { code: 3.into(), message: text.clone() },
                    None,
                );
                let status = match via {
                    Via::Grpc => vec![
                        ("content-type", "application/grpc".to_owned()),
                        ("grpc-status", "3".to_owned()),
                        ("grpc-message", text),
                    ],
                    _ => vec![(":status", "400".to_owned())],
                };
                Reply::Raw(status, wire.into())
            })
            .await;
            let name = auth.split(':').next().unwrap();
            let headers = "{x-api-key: s3cr3t-header, x-other: s3cr3t-token}";
            let headers =
                if name == "basicauth" { headers } else { "{x-api-key: s3cr3t-header, x-other: ZWRnZTpwYXNzIHdvcmQ=}" };
            let misaki = Misaki::start(
                &format!("{{extensions: {{{auth}}}, exporters: {{{exporter}: {{auth: {{authenticator: {name}}}, headers: {headers}, sending_queue: {{wait_for_result: true}}}}}}, service: {{extensions: [{name}], pipelines: {{logs: {{exporters: [{exporter}]}}}}}}}}"),
                &[&upstream],
            )
            .await;
            let said = misaki.send(&["a"]).await.message;
            assert!(said.contains("[redacted]") && said.len() < 2048, "{said}");
            for secret in ["s3cr3t", "ZWRnZTpwYXNzIHdvcmQ", "pass word"] {
                assert!(!said.contains(secret), "{via:?} {name} {secret}: {said}");
            }
        }
    }
}

/// A token that has expired: the exporter holds all there is, and goes on with the next token.
#[tokio::test]
async fn an_expired_token_loses_nothing() {
    for via in [Via::Grpc, Via::Http] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        std::fs::write(&file, "old").unwrap();
        let upstream = demanding(via, "Bearer new").await;
        let extension = format!("bearertokenauth: {{filename: \"{}\"}}", file.display());
        let mut misaki = signing(via, &extension, &upstream).await;
        assert!(misaki.send(&["a"]).await.ok);
        until("it was refused", || upstream.requests() == 1).await;
        assert!(misaki.send(&["b"]).await.ok);
        // The exporter may hear of the refusal only after the clock has moved.
        while upstream.requests() < 3 {
            jump(PROBE).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!((misaki.held(), upstream.kept().len()), (2, 0));
        // A renewed token is seen at once, long before the next probe is due.
        std::fs::write(&file, "new").unwrap();
        for _ in 0..25 {
            if misaki.held() == 0 {
                break;
            }
            jump(2 * LOOK).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        misaki.settle().await;
        assert_eq!(upstream.kept_once(), ["a", "b"], "{via:?}");
        misaki.finish().await;
    }
}

/// Renewed on both sides between two looks: the one refusal is answered with the new token at once.
#[tokio::test]
async fn a_token_renewed_between_two_looks() {
    for via in [Via::Grpc, Via::Http] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        std::fs::write(&file, "old").unwrap();
        let upstream = demanding(via, "Bearer new").await;
        tokio::time::pause();
        let extension = format!("bearertokenauth: {{filename: \"{}\"}}", file.display());
        let mut misaki = signing(via, &extension, &upstream).await;
        std::fs::write(&file, "new").unwrap();
        tokio::time::resume();
        assert!(misaki.send(&["a"]).await.ok);
        misaki.settle().await;
        assert_eq!(upstream.kept_once(), ["a"]);
        assert!(upstream.requests() <= 2, "{via:?}");
        misaki.finish().await;
    }
}

/// What is wrong with a config, one line each; and everything that a person or a log could see of it.
fn told(text: &str) -> (Vec<String>, String) {
    let loaded = load(&[format!("yaml:{text}")], &[], &|_: &str| None);
    let plan = Plan::read(&loaded);
    let told = loaded.problems.sorted().into_iter().map(|problem| format!("{}: {}", problem.path, problem.message));
    let shown = format!(
        "{}{}{}",
        loaded.problems.render(&loaded.sources, false),
        emit::yaml(&loaded.problems.effective(true)),
        ["bearertokenauth", "basicauth"].map(|id| format!("{:?}", plan.authenticators(&named(id)))).concat(),
    );
    (told.collect(), shown)
}

fn named(id: &str) -> [Named; 1] {
    let place = misaki::face::config::Place::NOWHERE;
    [Named { id: id.to_owned(), place, key: "auth.authenticator", purpose: Purpose::Server }]
}

fn refuses(extension: &str, message: &str) {
    let (told, shown) = told(&around(extension));
    assert!(told.len() == 1 && told[0].contains(message), "{extension}: {told:#?}");
    assert!(!shown.contains("hush"), "{shown}");
}

fn around(extension: &str) -> String {
    format!(
        "{{extensions: {{\n{extension}\n}}, receivers: {{otlp: {{protocols: {{http: }}}}}}, exporters: {{debug: }}, service: {{pipelines: {{logs: {{receivers: [otlp], exporters: [debug]}}}}}}}}"
    )
}

#[test]
fn what_is_refused() {
    let bearer = "extensions.bearertokenauth";
    refuses("bearertokenauth: ", &format!("{bearer}.token: no bearer token provided"));
    refuses("bearertokenauth: {token: \"\"}", "no bearer token provided");
    refuses("bearertokenauth: {token: hush, tokens: [hush]}", "either tokens or token should be provided, not both");
    refuses("bearertokenauth: {token: \"hush\\x01\"}", "a token holds characters that no header can");
    refuses("bearertokenauth: {tokens: [\"hush\\n\"]}", "a token holds characters that no header can");
    refuses("bearertokenauth: {token: t, header: \"a b\"}", "\"a b\" is not a valid header");
    refuses("basicauth: ", "no credential source provided");
    refuses("basicauth: {htpasswd: {}}", "no credential source provided");
    refuses("basicauth: {htpasswd: {inline: \"hush\"}}", "line 1 of htpasswd.inline has no colon");
    for (hash, name) in
        [("$2y$05$hush", "bcrypt"), ("$apr1$hush", "MD5 (apr1)"), ("{SSHA}hush", "{SSHA}"), ("$6$hush", "SHA-512")]
    {
        refuses(
            &format!("basicauth: {{htpasswd: {{inline: \"u:v\\nu:{hash}\"}}}}"),
            &format!("line 2 of htpasswd.inline holds a hash of {name}"),
        );
    }
    refuses("basicauth: {htpasswd: {inline: \"u:{SHA}hush\"}}", "a {SHA} hash that is none");
    refuses(
        "basicauth: {htpasswd: {inline: \"u:v\"}, client_auth: {username: u, password: hush}}",
        "only one of `htpasswd` or `client_auth` can be specified",
    );
    refuses("basicauth: {client_auth: {password: hush}}", "no username");
}

#[test]
fn a_door_is_never_left_open() {
    let check = |extensions: &str, started: &str, http: &str, exporter: &str, expected: &[&str]| {
        let text = format!(
            "{{extensions: {{{extensions}}}, receivers: {{otlp: {{protocols: {{http: {http}}}}}}}, exporters: {{otlp_grpc: {exporter}}}, service: {{extensions: [{started}], pipelines: {{logs: {{receivers: [otlp], exporters: [otlp_grpc]}}}}}}}}"
        );
        let (told, shown) = told(&text);
        assert_eq!(told, expected, "{shown}");
        assert!(!shown.contains("hush"), "{shown}");
    };
    let (bearer, auth) = ("bearertokenauth: {token: hush1, tokens: }", "{auth: {authenticator: bearertokenauth}}");
    let server = "receivers.otlp.protocols.http.auth";
    let client = "exporters.otlp_grpc.auth.authenticator";
    let tls = "{endpoint: a:1, auth: {authenticator: basicauth}}";
    check(bearer, "bearertokenauth", auth, "{endpoint: a:1}", &[]);
    let absent =
        format!("{server}.authenticator: failed to resolve authenticator \"bearertokenauth\": authenticator not found");
    check(bearer, "", auth, "{endpoint: a:1}", &[&absent]);
    check("health_check: ", "health_check", auth, "{endpoint: a:1}", &[&absent]);
    check(
        bearer,
        "bearertokenauth",
        "{auth: {}}",
        "{endpoint: a:1}",
        &[&format!("{server}.authenticator: it is required, and missing")],
    );
    check(
        "basicauth: {client_auth: {username: u, password: hush2}}",
        "basicauth",
        "{auth: {authenticator: basicauth}}",
        tls,
        &[&format!(
            "{server}.authenticator: requested authenticator is not a server authenticator: basicauth has no `htpasswd`"
        )],
    );
    check(
        "basicauth: {htpasswd: {inline: \"u:hush3\"}}",
        "basicauth",
        "{auth: {authenticator: basicauth}}",
        tls,
        &[&format!("{client}: requested authenticator is not a client authenticator: basicauth has no `client_auth`")],
    );
    let clear = "{endpoint: a:1, tls: {insecure: true}, auth: {authenticator: bearertokenauth}}";
    check(bearer, "bearertokenauth", "", clear, &[&format!("{client}: credentials leave this machine without TLS")]);
    check(bearer, "bearertokenauth", "", &clear.replace("a:1", "localhost:1"), &[]);
    let params = "{auth: {authenticator: bearertokenauth, request_params: [token]}}";
    let message = "request_params: credentials are taken from headers alone: what is in a URL ends up in logs";
    check(bearer, "bearertokenauth", params, "{endpoint: a:1}", &[&format!("{server}.{message}")]);
}

/// A list of secrets is shown as that.
#[test]
fn lists_are_redacted() {
    let (problems, shown) = told(&around("bearertokenauth: {tokens: [hush1, hush2]}"));
    assert_eq!((problems.len(), shown.matches("[REDACTED]").count()), (0, 2), "{shown}");
    assert!(!shown.contains("hush"));
    let loaded = load(&[format!("yaml:{}", around("bearertokenauth: {tokens: [hush1, hush2]}"))], &[], &|_: &str| None);
    Plan::read(&loaded);
    let Value::Map(root) = loaded.problems.effective(false).value else { panic!("a map") };
    assert!(format!("{root:?}").contains("hush2"));
}

/// The line that a problem points at may hold a secret, of whatever component.
#[test]
fn snippets_show_no_secrets() {
    for (extension, shown) in [
        ("bearertokenauth: {token: hush1, tokem: 1}", "bearertokenauth: {token: *****, tokem: 1}"),
        ("basicauth: {htpasswd: {inline: \"u:hush\\nv:hush2\", x: 1}}", "{inline: \"******\\n*******\", x: 1}"),
    ] {
        let (_, rendered) = told(&around(extension));
        assert!(rendered.contains(shown) && !rendered.contains("hush"), "{rendered}");
    }
}

/// A stream that has sent its head alone has its answer; the connection goes on.
#[tokio::test]
async fn a_grpc_stream_is_refused_by_its_head() {
    let upstream = Upstream::start().await;
    let misaki = guarded("bearertokenauth: {token: right}", &upstream).await;
    let address = misaki.running.addresses.iter().find(|(name, _)| *name == "grpc").unwrap().1.unwrap();
    let (mut client, connection) = h2::client::handshake(TcpStream::connect(address).await.unwrap()).await.unwrap();
    let mut driver = tokio::task::JoinSet::new();
    driver.spawn(connection);
    for _ in 0..3 {
        let head = http::Request::post("http://x/opentelemetry.proto.collector.logs.v1.LogsService/Export")
            .header("content-type", "application/grpc")
            .header("authorization", "Bearer wrong");
        client = client.ready().await.unwrap();
        let (answer, _body) = client.send_request(head.body(()).unwrap(), false).unwrap();
        assert_eq!(answer.await.unwrap().headers()["grpc-status"], "16");
    }
}

/// Where a request comes from and who its client is, as processors name them; a reload begins to ask, and a batch forgets.
#[tokio::test]
async fn processors_know_the_client() {
    const ASKS: &str = r#"
extensions: {basicauth: {htpasswd: {inline: "ann:pw"}}}
receivers: {otlp: {protocols: {http: {auth: {authenticator: basicauth}}}}}
processors:
  batch: {timeout: 1h, send_batch_size: 1}
  attributes:
    actions:
    - {key: host, from_context: client.address, action: upsert}
    - {key: user, from_context: auth.username, action: upsert}
    - {key: raw, from_context: auth.raw, action: upsert}
    - {key: none, from_context: auth.subject, default_value: nobody, action: insert}
  transform:
    log_statements:
    - set(log.body, Concat([otelcol.client.addr, otelcol.client.auth.attributes["username"], otelcol.grpc.metadata["x-tenant"][0], log.attributes["host"], log.attributes["user"], log.attributes["raw"], log.attributes["none"], otelcol.client.metadata["x-tenant"]], " "))
    - replace_pattern(log.body, ":[0-9]+", ":PORT")
service: {extensions: [basicauth], pipelines: {logs: {processors: [attributes, transform]}}}
"#;
    let upstream = Upstream::start().await;
    let silent = ASKS
        .replace("[attributes, transform]", "[]")
        .replace("from_context", "value")
        .replace("otelcol.", "log.cache.");
    let silent = silent.split("  transform:").next().unwrap().to_owned() + "service: {extensions: [basicauth]}";
    let mut misaki = Misaki::start(&silent, &[&upstream]).await;
    let headers = [("authorization", "Basic YW5uOnB3"), ("x-tenant", "one")];
    let ports = misaki.ports;
    let http = || ports.post(Via::Http, Signal::Logs, request(Signal::Logs, &["a"]), &headers);
    assert!(http().await.ok);
    misaki.reload(ASKS, &[&upstream]).await.unwrap();
    let ports = misaki.ports;
    for via in [Via::Http, Via::Grpc] {
        assert!(ports.post(via, Signal::Logs, request(Signal::Logs, &["a"]), &headers).await.ok);
    }
    misaki
        .reload(&ASKS.replace("[attributes, transform]", "[batch, attributes, transform]"), &[&upstream])
        .await
        .unwrap();
    assert!(ports.post(Via::Http, Signal::Logs, request(Signal::Logs, &["a"]), &headers).await.ok);
    until("all have arrived", || upstream.kept().len() == 4).await;
    misaki.finish().await;
    let expected = [
        "a",
        "127.0.0.1 ann <nil> 127.0.0.1 ann YW5uOnB3 nobody <nil>",
        "127.0.0.1:PORT ann one 127.0.0.1 ann YW5uOnB3 nobody <nil>",
        "<nil> <nil> <nil> <nil> <nil> <nil> nobody <nil>",
    ];
    assert_eq!(upstream.kept(), expected);
}
