//! `misaki ui`: who is let in to the page, where its telemetry comes from, and the limits of its server.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use misaki::face::extensions::LocalSocket as Config;
use misaki::face::inspect::{Inspection, Subject};
use misaki::face::otlp::json;
use misaki::face::telemetry::Signal;

use crate::harness::*;

const MISAKI: &str = env!("CARGO_BIN_EXE_misaki");

/// A running `misaki ui`.
struct Page {
    child: Child,
    /// As a browser writes it in `Host`.
    host: String,
    token: String,
}

impl Page {
    fn start(arguments: &[&str]) -> Page {
        Page::start_in(arguments, &[], Stdio::null())
    }

    fn start_in(arguments: &[&str], environment: &[(&str, &str)], errors: Stdio) -> Page {
        let mut command = Command::new(MISAKI);
        command.arg("ui").args(arguments).envs(environment.iter().copied()).stdout(Stdio::piped()).stderr(errors);
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let (host, token) = parts(line.trim_end());
        Page { child, host, token }
    }

    /// The answer to a head in which HOST, PORT and COOKIE are written as words.
    fn exchange(&self, head: &str) -> Answer {
        let mut stream = self.send(head);
        let mut text = String::new();
        match stream.read_to_string(&mut text) {
            Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{head}: {error}"),
            _ => {}
        }
        Answer::of(&text)
    }

    fn send(&self, head: &str) -> TcpStream {
        let port = self.host.rsplit_once(':').unwrap().1;
        let cookie = format!("misaki_{port}={}", self.token);
        let head = head.replace("COOKIE", &cookie).replace("TOKEN", &self.token).replace("HOST", &self.host);
        let mut stream = TcpStream::connect(&self.host).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // A server that refuses early may have closed already.
        let _ = stream.write_all(head.replace("PORT", port).as_bytes());
        stream
    }

    fn get(&self, path: &str) -> Answer {
        self.exchange(&format!("GET {path} HTTP/1.1\r\nhost: HOST\r\ncookie: COOKIE\r\n\r\n"))
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The host and the token of an address.
fn parts(address: &str) -> (String, String) {
    let (host, token) = address.strip_prefix("http://").and_then(|rest| rest.split_once("/?token=")).unwrap();
    (host.to_owned(), token.to_owned())
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Answer {
    fn of(text: &str) -> Answer {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text}"));
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.map(|line| line.split_once(": ").unwrap());
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Answer { status, headers, body: body.to_owned() }
    }

    fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// Every answer forbids what a page of another origin could make of it.
    fn is_guarded(&self) -> bool {
        let policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                      base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
        let expected = [
            ("content-security-policy", policy),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cache-control", "no-store"),
        ];
        let is_shared = self.headers.iter().any(|(name, _)| name.starts_with("access-control"));
        expected.iter().all(|(name, value)| self.header(name) == *value) && !is_shared
    }
}

/// The same for all but the browser that has the key.
const CLOSED: &str = "\
<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"color-scheme\" content=\"light dark\">
<meta name=\"viewport\" content=\"width=device-width\"><title>403 Forbidden</title></head><body><h1>This page is closed</h1>
<p>Open the address that <code>misaki</code> printed: the token in it is the key. It is a new one after each start.</p></body></html>
";

#[test]
fn each_refusal_tells_nothing() {
    let page = Page::start(&["purchase"]);
    let misled = [
        // Another host: none, another name, another port, the name of a page's owner, two, an absolute address.
        "GET / HTTP/1.1\r\ncookie: COOKIE\r\n",
        "GET / HTTP/1.0\r\ncookie: COOKIE\r\n",
        "GET / HTTP/1.1\r\nhost:\r\ncookie: COOKIE\r\n",
        "GET / HTTP/1.1\r\nhost: 127.0.0.1\r\ncookie: COOKIE\r\n",
        "GET / HTTP/1.1\r\nhost: 127.0.0.1:1\r\ncookie: COOKIE\r\n",
        "GET / HTTP/1.1\r\nhost: rebound.example:PORT\r\ncookie: COOKIE\r\n",
        "GET / HTTP/1.1\r\nhost: HOST.rebound.example\r\ncookie: COOKIE\r\n",
        "GET / HTTP/1.1\r\nhost: [::1]:PORT\r\ncookie: COOKIE\r\n",
        "GET / HTTP/1.1\r\nhost: HOST\r\nhost: HOST\r\ncookie: COOKIE\r\n",
        "GET http://rebound.example:PORT/ HTTP/1.1\r\nhost: HOST\r\ncookie: COOKIE\r\n",
        "GET http://HOST/ HTTP/1.1\r\nhost: rebound.example\r\ncookie: COOKIE\r\n",
        "GET http://user@HOST/ HTTP/1.1\r\nhost: HOST\r\ncookie: COOKIE\r\n",
    ];
    let rows = [
        // Without the cookie, or with another.
        "GET / HTTP/1.1\r\nhost: HOST\r\n",
        "GET /page.js HTTP/1.1\r\nhost: HOST\r\n",
        "GET /live HTTP/1.1\r\nhost: HOST\r\n",
        "GET /nowhere HTTP/1.1\r\nhost: HOST\r\n",
        "OPTIONS / HTTP/1.1\r\nhost: HOST\r\norigin: http://evil.example\r\naccess-control-request-method: GET\r\n",
        "GET / HTTP/1.1\r\nhost: HOST\r\ncookie: misaki_PORT=00000000000000000000000000000000\r\n",
        "GET / HTTP/1.1\r\nhost: HOST\r\ncookie: misaki_PORT=\r\n",
        "GET / HTTP/1.1\r\nhost: HOST\r\ncookie: misaki_1=TOKEN\r\n",
        // With another token, two, none, and one that is no page's.
        "GET /?token=00000000000000000000000000000000 HTTP/1.1\r\nhost: HOST\r\n",
        "GET /?token=00000000000000000000000000000000 HTTP/1.1\r\nhost: HOST\r\ncookie: COOKIE\r\n",
        "GET /?token= HTTP/1.1\r\nhost: HOST\r\n",
        "GET /?token=TOKEN&token=TOKEN HTTP/1.1\r\nhost: HOST\r\n",
        "POST /?token=TOKEN HTTP/1.1\r\nhost: HOST\r\norigin: http://HOST\r\n",
        // Of another origin.
        "GET / HTTP/1.1\r\nhost: HOST\r\ncookie: COOKIE\r\norigin: http://evil.example\r\n",
        "GET / HTTP/1.1\r\nhost: HOST\r\ncookie: COOKIE\r\norigin: null\r\n",
        "GET / HTTP/1.1\r\nhost: HOST\r\ncookie: COOKIE\r\norigin: https://HOST\r\n",
        "POST / HTTP/1.1\r\nhost: HOST\r\ncookie: COOKIE\r\ncontent-length: 0\r\n",
        "POST / HTTP/1.1\r\nhost: HOST\r\ncookie: COOKIE\r\norigin: http://evil.example\r\ncontent-length: 0\r\n",
        "POST / HTTP/1.1\r\nhost: HOST\r\ncookie: COOKIE\r\norigin: http://HOST\r\norigin: http://HOST\r\n",
        // From a page of another site, or of another port of this machine.
        "GET / HTTP/1.1\r\nhost: HOST\r\ncookie: COOKIE\r\nsec-fetch-site: cross-site\r\n",
        "GET / HTTP/1.1\r\nhost: HOST\r\ncookie: COOKIE\r\nsec-fetch-site: same-site\r\n",
        "GET / HTTP/1.1\r\nhost: HOST\r\ncookie: COOKIE\r\nsec-fetch-site: cross-site\r\n\
         sec-fetch-mode: navigate\r\nsec-fetch-dest: document\r\n",
        "GET /?token=TOKEN HTTP/1.1\r\nhost: HOST\r\nsec-fetch-site: cross-site\r\n\
         sec-fetch-mode: no-cors\r\nsec-fetch-dest: image\r\n",
        "GET /?token=TOKEN HTTP/1.1\r\nhost: HOST\r\nsec-fetch-site: same-site\r\n\
         sec-fetch-mode: navigate\r\nsec-fetch-dest: iframe\r\n",
        "GET / HTTP/1.1\r\nhost: HOST\r\ncookie: COOKIE\r\nsec-fetch-site: none\r\nsec-fetch-site: none\r\n",
    ];
    let (bare, closed) = (("text/plain; charset=utf-8", "403 Forbidden\n"), ("text/html; charset=utf-8", CLOSED));
    for (head, expected) in misled.map(|head| (head, bare)).into_iter().chain(rows.map(|head| (head, closed))) {
        let answer = page.exchange(&format!("{head}\r\n"));
        let told = (answer.status, answer.header("set-cookie"), answer.header("content-type"), answer.body.as_str());
        assert_eq!(told, (403, "", expected.0, expected.1), "{head}");
        assert!(answer.is_guarded(), "{head}: {answer:?}");
    }
}

#[test]
fn the_token_becomes_a_cookie() {
    let page = Page::start(&["purchase"]);
    let port = page.host.rsplit_once(':').unwrap().1;
    let cookie = format!("misaki_{port}={}; HttpOnly; SameSite=Strict; Path=/", page.token);
    let rows = [
        ("/?token=TOKEN", "HOST", "/"),
        ("/?token=TOKEN", "localhost:PORT", "/"),
        ("/logs?a=b&token=TOKEN&c=d", "HOST", "/logs?a=b&c=d"),
        ("//evil.example/?token=TOKEN", "HOST", "//evil.example/"),
    ];
    for (path, host, expected) in rows {
        let answer = page.exchange(&format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nsec-fetch-site: none\r\n\r\n"));
        let host = host.replace("HOST", &page.host).replace("PORT", port);
        assert_eq!((answer.status, answer.header("set-cookie")), (303, cookie.as_str()), "{path}: {answer:?}");
        assert_eq!(answer.header("location"), format!("http://{host}{expected}"));
        assert!(answer.is_guarded(), "{answer:?}");
    }
    // A browser follows a link of another site without the cookie: it goes on from a page of this one.
    let navigation = "sec-fetch-site: cross-site\r\nsec-fetch-mode: navigate\r\nsec-fetch-dest: document";
    let answer = page.exchange(&format!("GET /?token=TOKEN HTTP/1.1\r\nhost: HOST\r\n{navigation}\r\n\r\n"));
    assert_eq!((answer.status, answer.header("set-cookie")), (200, cookie.as_str()), "{answer:?}");
    assert!(answer.body.contains(&format!("content=\"0; url=http://{}/\"", page.host)), "{answer:?}");
    // Neither another cookie nor a wrong one of the same name, which any page of this machine can set, locks out.
    let cookies = "cookie: a=b; misaki_PORT=wrong; COOKIE";
    assert_eq!(page.exchange(&format!("GET / HTTP/1.1\r\nhost: HOST\r\n{cookies}\r\n\r\n")).status, 200);
}

#[test]
fn what_is_let_in_gets_pages() {
    let page = Page::start(&["purchase"]);
    let rows = [
        ("GET", "/", "", 200, "text/html; charset=utf-8"),
        (
            "GET",
            "/?text=cart",
            "sec-fetch-site: same-origin\r\norigin: http://HOST\r\n",
            200,
            "text/html; charset=utf-8",
        ),
        ("HEAD", "/", "sec-fetch-site: none\r\n", 200, "text/html; charset=utf-8"),
        ("GET", "/page.css", "", 200, "text/css; charset=utf-8"),
        ("GET", "/page.js", "", 200, "text/javascript; charset=utf-8"),
        ("GET", "/nowhere", "", 404, "text/html; charset=utf-8"),
        ("GET", "//", "", 404, "text/html; charset=utf-8"),
        ("GET", "/%zz%00", "", 404, "text/html; charset=utf-8"),
        ("POST", "/", "origin: http://HOST\r\n", 405, "text/plain; charset=utf-8"),
        ("OPTIONS", "/", "origin: http://HOST\r\n", 405, "text/plain; charset=utf-8"),
        ("GET", "/", "content-length: 5\r\n", 413, "text/plain; charset=utf-8"),
        ("GET", "/", "transfer-encoding: chunked\r\n", 413, "text/plain; charset=utf-8"),
    ];
    for (method, path, headers, status, content_type) in rows {
        let head = format!("{method} {path} HTTP/1.1\r\nhost: HOST\r\ncookie: COOKIE\r\n{headers}\r\n");
        let answer = page.exchange(&head);
        assert_eq!((answer.status, answer.header("content-type")), (status, content_type), "{head}: {answer:?}");
        assert!(answer.is_guarded(), "{head}: {answer:?}");
        assert_eq!(answer.body.is_empty(), method == "HEAD", "{head}");
    }
    assert!(page.get("/").body.contains("/trace/"));
}

#[test]
fn the_server_is_bounded() {
    let page = Page::start(&["purchase"]);
    let large = "x".repeat(20 << 10);
    let answer = page.exchange(&format!("GET / HTTP/1.1\r\nhost: HOST\r\ncookie: COOKIE\r\nx: {large}\r\n\r\n"));
    assert_eq!(answer.status, 431);
    let condition = |bytes: usize| format!("true{}", "+or+true".repeat(bytes / 8));
    for path in ["/?q=", "/logs?q=", "/nowhere?q="] {
        let text = page.get(&format!("{path}{}", condition(2004))).body;
        assert!(text.contains("The condition has more than 2000 bytes."), "{path}: {text}");
        assert!(!page.get(&format!("{path}{}", condition(1992))).body.contains("more than"), "{path}");
    }
    let request = "/trace/00000000000000000000000000000001?from=q%3D";
    let text = page.get(&format!("{request}{}", condition(2004).replace('+', "%2B"))).body;
    assert!(text.contains("more than 2000 bytes"), "{text}");
    // Open connections do not keep anyone out: the oldest goes.
    let idle: Vec<_> = (0..100).map(|_| page.send("")).collect();
    assert_eq!(page.get("/").status, 200);
    drop(idle);
    let live = || {
        let mut stream = page.send("GET /live?of=this HTTP/1.1\r\nhost: HOST\r\ncookie: COOKIE\r\n\r\n");
        let (mut text, mut byte) = (Vec::new(), [0]);
        while !text.ends_with(b"\n\n") && stream.read(&mut byte).unwrap() == 1 {
            text.push(byte[0]);
        }
        (stream, Answer::of(&String::from_utf8(text).unwrap()))
    };
    let streams: Vec<_> = (0..16).map(|_| live()).collect();
    for (_, answer) in &streams {
        assert_eq!((answer.status, answer.header("content-type")), (200, "text/event-stream"), "{answer:?}");
        assert!(answer.is_guarded() && answer.body.contains("event: version\ndata: "), "{answer:?}");
    }
    assert_eq!(page.get("/live").status, 503);
    assert_eq!(page.get("/").status, 200);
    // Connections without the cookie end none with it.
    let idle: Vec<_> = (0..200).map(|_| page.send("")).collect();
    assert_eq!(page.get("/live").status, 503);
    for (mut stream, _) in streams {
        stream.set_nonblocking(true).unwrap();
        let ended = stream.read_to_end(&mut Vec::new());
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::WouldBlock);
    }
    drop(idle);
}

/// An answer that is too large is refused, and answers that nobody reads take a fixed amount of memory.
#[test]
fn large_answers_are_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let attributes = vec!["{}"; 200_000].join(",");
    let line = |id: &str| {
        let record = format!(r#"{{"traceId": "{}", "attributes": [{attributes}]}}"#, id.repeat(16));
        format!(r#"{{"resourceLogs": [{{"scopeLogs": [{{"logRecords": [{record}]}}]}}]}}"#) + "\n"
    };
    let file = directory.path().join("large.jsonl");
    std::fs::write(&file, line("01").repeat(14) + &line("02").repeat(5)).unwrap();
    let page = Page::start(&[file.to_str().unwrap()]);
    let [larger, large] = ["01", "02"].map(|id| format!("/trace/{}.json", id.repeat(16)));
    let answer = page.get(&larger);
    assert_eq!((answer.status, answer.header("content-disposition")), (507, ""), "{}", answer.body);
    assert!(answer.body.ends_with(&format!("`misaki tail --past -o json {}` writes it.\n", "01".repeat(16))));
    assert!(page.get(&large).body.len() > 12_000_000);
    let unread: Vec<_> = (0..5)
        .map(|_| {
            let mut stream = page.send(&format!("GET {large} HTTP/1.1\r\nhost: HOST\r\ncookie: COOKIE\r\n\r\n"));
            stream.read_exact(&mut [0; 20]).unwrap();
            stream
        })
        .collect();
    let answer = page.get(&large);
    assert!(answer.status == 503 && answer.body.contains("wait until they are read"), "{}", answer.status);
    assert_eq!(page.get("/").status, 200);
    drop(unread);
    assert_eq!(page.get(&large).status, 200);
}

#[test]
fn it_listens_on_this_machine_alone() {
    let page = Page::start(&["--listen", "[::1]:0", "purchase"]);
    assert!(page.host.starts_with("[::1]:") && page.get("/").status == 200);
    for host in ["localhost:PORT", "127.0.0.1:PORT"] {
        let answer = page.exchange(&format!("GET / HTTP/1.1\r\nhost: {host}\r\ncookie: COOKIE\r\n\r\n"));
        assert_eq!(answer.status, if host.starts_with("localhost") { 200 } else { 403 }, "{host}");
    }
    for address in
        ["0.0.0.0:0", "[::]:0", "192.0.2.1:80", "[::ffff:127.0.0.1]:0", "example.com:80", "8080", "localhost"]
    {
        let output = Command::new(MISAKI).args(["ui", "--listen", address, "purchase"]).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(64) && text.contains("write 127.0.0.1:PORT or [::1]:PORT"), "{text}");
    }
    let rows = [
        (
            &["--socket", "/nowhere/misaki.sock"][..],
            "error: cannot reach the collector at /nowhere/misaki.sock: no such",
        ),
        (&["--listen", &page.host, "purchase"], "(--listen): address already in use"),
        (&["/nowhere/file"], "error: cannot read /nowhere/file: no such file"),
    ];
    let failed = |arguments: &[&str], status: i32, expected: &str| {
        let output = Command::new(MISAKI).arg("ui").args(arguments).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(status) && text.to_lowercase().contains(expected), "{text}");
    };
    rows.into_iter().for_each(|(arguments, expected)| failed(arguments, 1, expected));
    failed(&["--", "python3", "app.py"], 64, "runs no program: write `misaki --ui -- python3 app.py`");
}

/// Other users can read the arguments of the command that opens the browser: its address works once.
#[cfg(target_os = "linux")]
#[test]
fn the_opened_address_works_once() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let (opener, told) = (directory.path().join("xdg-open"), directory.path().join("address"));
    std::fs::write(&opener, format!("#!/bin/sh\necho \"$1\" > {0}.new; mv {0}.new {0}\n", told.display())).unwrap();
    std::fs::set_permissions(&opener, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap());
    let errors = directory.path().join("errors");
    let page =
        Page::start_in(&["purchase", "--open"], &[("PATH", &path)], std::fs::File::create(&errors).unwrap().into());
    let started = std::time::Instant::now();
    while !told.exists() {
        assert!(started.elapsed() < Duration::from_secs(20));
        std::thread::yield_now();
    }
    let (host, ticket) = parts(std::fs::read_to_string(told).unwrap().trim_end());
    assert!(host == page.host && ticket != page.token);
    let open = || page.exchange(&format!("GET /?token={ticket} HTTP/1.1\r\nhost: HOST\r\n\r\n"));
    let answer = open();
    assert!(answer.status == 303 && !answer.header("set-cookie").contains(&page.token), "{answer:?}");
    let value = answer.header("set-cookie").split_once(';').unwrap().0.split_once('=').unwrap().1;
    for (value, status) in [(value, 200), (&ticket, 403)] {
        let head = format!("GET / HTTP/1.1\r\nhost: HOST\r\ncookie: misaki_PORT={value}\r\n\r\n");
        assert_eq!(page.exchange(&head).status, status);
    }
    let as_token = format!("GET /?token={value} HTTP/1.1\r\nhost: HOST\r\n\r\n");
    assert_eq!(page.exchange(&as_token).status, 403);
    // Another process was faster, perhaps: that is told once.
    assert_eq!([open().status, open().status], [403, 403]);
    let told = || std::fs::read_to_string(&errors).unwrap();
    while !told().contains("opened a second time") {
        assert!(started.elapsed() < Duration::from_secs(20), "{}", told());
        std::thread::yield_now();
    }
    assert_eq!(told().matches("opened a second time").count(), 1);
}

fn span(name: &str, id: u8) -> Vec<u8> {
    let id = format!("{id:02x}");
    let text = format!(
        r#"{{"resourceSpans": [{{"scopeSpans": [{{"spans": [{{"traceId": "{}", "spanId": "{}", "name": "{name}",
            "startTimeUnixNano": "1000000000", "endTimeUnixNano": "1200000000"}}]}}]}}]}}"#,
        id.repeat(16),
        id.repeat(8)
    );
    json::to_wire(Signal::Traces, text.as_bytes()).unwrap()
}

fn open(misaki: &Misaki, directory: &Path) -> Inspection {
    let config = Config { path: Some(directory.join("misaki.sock")), ..Config::default() };
    Inspection::open(&config, Subject::new(Vec::new(), &misaki.running)).unwrap()
}

/// A collector shows its past and its present, and one that comes back is followed again.
#[tokio::test]
async fn a_collector_is_followed() {
    let directory = tempfile::tempdir().unwrap();
    let upstream = Upstream::start().await;
    let traces = "service: {pipelines: {traces: {receivers: [otlp], exporters: [otlp]}}}";
    let mut misaki = Misaki::start(traces, &[&upstream]).await;
    let inspection = open(&misaki, directory.path());
    assert!(misaki.post(Via::Http, Signal::Traces, span("GET /past", 1), &[]).await.ok);
    let socket = inspection.path().to_str().unwrap().to_owned();
    let page = tokio::task::spawn_blocking(move || Page::start(&["--socket", &socket])).await.unwrap();
    let shows = async |text: &str| until(text, || page.get("/").body.contains(text)).await;
    shows("GET /past").await;
    let (events, versions) = std::sync::mpsc::sync_channel(64);
    let live = BufReader::new(page.send("GET /live HTTP/1.1\r\nhost: HOST\r\ncookie: COOKIE\r\n\r\n"));
    std::thread::spawn(move || {
        for line in live.lines().map_while(Result::ok) {
            let version = line.strip_prefix("data: ").map(|version| version.parse::<u64>().unwrap());
            version.into_iter().for_each(|version| events.send(version).unwrap_or_default());
        }
    });
    let before = versions.recv().unwrap();
    assert!(misaki.post(Via::Http, Signal::Traces, span("GET /present", 2), &[]).await.ok);
    until("an event", || versions.try_recv().is_ok_and(|version| version > before)).await;
    shows("GET /present").await;
    drop(inspection);
    shows("the collector went away").await;
    let inspection = open(&misaki, directory.path());
    until("it is back", || !page.get("/").body.contains("the collector went away")).await;
    assert!(misaki.post(Via::Http, Signal::Traces, span("GET /again", 3), &[]).await.ok);
    shows("GET /again").await;
    drop(inspection);
    misaki.settle().await;
    misaki.finish().await;
}

fn end(child: &Child) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
}

/// A program's requests are on the page and not in the terminal; the page stays, and then the program's status is told.
#[test]
fn a_program_has_a_page() {
    let program = format!("{MISAKI} send purchase --to \"$OTEL_EXPORTER_OTLP_ENDPOINT\" > /dev/null; exit 7");
    let mut command = Command::new(MISAKI);
    command.args(["--ui", "--", "sh", "-c", &program]).stdin(Stdio::null());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let first = lines.next().unwrap();
    let (host, token) = parts(first.strip_prefix("misaki: the page: ").unwrap());
    let second = lines.next().unwrap();
    assert_eq!(second, "misaki: the program has ended; the page stays until Ctrl-C");
    let mut page = Page { child, host, token };
    assert!(page.get("/").body.contains("/trace/"));
    end(&page.child);
    assert_eq!(page.child.wait().unwrap().code(), Some(7));
    assert_eq!(lines.next(), None);
}
