//! What is taken, what is said about it, and what is refused, beside what the Go collector does with the same config.

use std::io::Write;
use std::process::Command;

use misaki::face::config::{Loaded, load};
use misaki::face::service::Plan;
use misaki::face::telemetry::Signal;

use crate::harness::{Misaki, Upstream, Via, free_port};

/// The exit status of `misaki validate`, and what it says on one line.
fn validate(config: &str) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_misaki"));
    let output = command.args(["validate", "--config", &format!("yaml:{config}")]).output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.code().unwrap(), text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// A whole config around one part of it: `section.id: settings`, which is used if a pipeline has a place for it.
fn with(part: &str) -> String {
    let (section, rest) = part.split_once('.').unwrap();
    let (id, settings) = rest.split_once(": ").unwrap();
    let mine = |kind: &str| if section == kind { format!("{id}: {settings}") } else { String::new() };
    let listed = |kind: &str| if section == kind { id } else { "" };
    let receivers = match section {
        "receivers" => mine("receivers"),
        _ => "otlp: {protocols: {grpc: {endpoint: '127.0.0.1:0'}}}".to_owned(),
    };
    format!(
        "receivers: {{{receivers}}}\nprocessors: {{{}}}\nexporters: {{{}}}\nextensions: {{{}}}\n\
         service: {{telemetry: {}, extensions: [{}], pipelines: {{traces: {{receivers: [otlp], processors: [{}], exporters: [{}]}}}}}}",
        mine("processors"),
        if section == "exporters" { mine("exporters") } else { "nop: ".to_owned() },
        mine("extensions"),
        if section == "service" { settings } else { "{metrics: {level: none}}" },
        listed("extensions"),
        listed("processors"),
        if section == "exporters" { id } else { "nop" },
    )
}

fn taken(part: &str) -> String {
    let (status, said) = validate(&with(part));
    assert_eq!(status, 0, "{part}: {said}");
    said
}

/// A key that means nothing here is named, and nothing about its value is an error.
#[test]
fn keys_without_meaning_refuse_nothing() {
    let otlp = |protocol: &str, key: &str| {
        format!("receivers.otlp: {{protocols: {{{protocol}: {{endpoint: '127.0.0.1:0', {key}}}}}}}")
    };
    let policy = |rest: &str| {
        format!(
            "processors.tail_sampling: {{policies: [{{name: a, type: latency, latency: {{threshold_ms: 5}}, {rest}}}]}}"
        )
    };
    for (part, key) in [
        ("exporters.file: {path: /tmp/misaki-never-written, flush_interval: 5}".to_owned(), "flush_interval"),
        ("exporters.file: {path: /tmp/misaki-never-written, flush_interval: never}".to_owned(), "flush_interval"),
        (otlp("http", "profiles_url_path: /x"), "profiles_url_path"),
        (otlp("http", "profiles_url_path: 5"), "profiles_url_path"),
        (otlp("http", "write_timeout: x"), "write_timeout"),
        (otlp("grpc", "read_buffer_size: x"), "read_buffer_size"),
        ("exporters.otlp_http: {endpoint: 'http://a:1', profiles_endpoint: 'http://b:2'}".to_owned(), "profiles_endpoint"),
        ("exporters.otlp_http: {endpoint: 'http://a:1', profiles_endpoint: 5, idle_conn_timeout: x}".to_owned(), "idle_conn_timeout"),
        ("exporters.otlp_http: {endpoint: 'http://a:1', compression: none, compression_params: {level: x}}".to_owned(), "level"),
        (policy("probabilistic: {sampling_percentage: 5}"), "policies[0].probabilistic"),
        (policy("probabilistic: {sampling_percentage: x, foo: 1}"), "policies[0].probabilistic"),
        (policy("string_attribute: "), "policies[0].string_attribute"),
        (policy("and: {and_sub_policy: [{type: nonsense}]}"), "policies[0].and"),
        ("extensions.health_check: {endpoint: '127.0.0.1:0', idle_timeout: x, check_collector_pipeline: {interval: x}}".to_owned(), "idle_timeout"),
    ] {
        let said = taken(&part);
        assert!(said.contains("these keys have no effect here: ") && said.contains(key), "{part}: {said}");
    }
    let nested = "processors.tail_sampling: {policies: [{name: a, type: and, and: {and_sub_policy: \
                  [{name: b, type: always_sample, always_sample: {foo: 1}, latency: {threshold_ms: 1}}]}}]}";
    assert!(taken(nested).contains("policies[0].and.and_sub_policy[0].latency"));
    // An unknown section is passed over as there, where types that are built elsewhere have theirs; any other unknown key is an error.
    for (unknown, wanted) in [("latancy: {}", 0), ("latancy: ", 0), ("latancy: 5", 78)] {
        let (status, said) = validate(&with(&policy(unknown)));
        assert!(status == wanted && said.contains("unknown key \"latancy\""), "{unknown}: {said}");
        assert!(said.contains("did you mean \"latency\"?"), "{unknown}: {said}");
    }
}

/// A size or a number of things beyond our limit is the limit, and a warning says so.
#[test]
fn numbers_beyond_a_limit_are_the_limit() {
    for (part, beyond, most) in [
        (
            "receivers.otlp: {protocols: {grpc: {endpoint: '127.0.0.1:0', max_recv_msg_size_mib: 999999}}}",
            "999999",
            "2047",
        ),
        (
            "receivers.otlp: {protocols: {grpc: {endpoint: '127.0.0.1:0', max_concurrent_streams: 99999999999}}}",
            "99999999999",
            "4294967295",
        ),
        (
            "receivers.otlp: {protocols: {http: {endpoint: '127.0.0.1:0', cors: {max_age: 99999999999}}}}",
            "99999999999",
            "4294967295",
        ),
        ("exporters.otlp_http: {endpoint: 'http://a:1', sending_queue: {num_consumers: 99999}}", "99999", "10000"),
        ("exporters.otlp_http: {endpoint: 'http://a:1', compression_params: {level: 10}}", "10", "9"),
        (
            "exporters.otlp_http: {endpoint: 'http://a:1', compression: zstd, compression_params: {level: 99}}",
            "99",
            "22",
        ),
        (
            "exporters.file: {path: /tmp/misaki-never-written, rotation: {max_days: 99999999999999}}",
            "99999999999999",
            "1048576",
        ),
        ("processors.batch: {metadata_cardinality_limit: 99999999999}", "99999999999", "4294967295"),
        ("processors.tail_sampling: {num_traces: 1e12, policies: [{name: a, type: always_sample}]}", "", "4294967295"),
        (
            "processors.tail_sampling: {policies: [{name: a, type: span_count, span_count: {min_spans: 99999999999}}]}",
            "99999999999",
            "2147483647",
        ),
    ] {
        let said = taken(part);
        assert!(said.contains(&format!("{beyond} is too large: {most}, the most, is used")), "{part}: {said}");
    }
    // Where another number would be something else, it is an error.
    for part in [
        "processors.probabilistic_sampler: {hash_seed: 99999999999}",
        "exporters.otlp_http: {endpoint: 'http://a:1', sending_queue: {num_consumers: -1}}",
        "exporters.otlp_http: {endpoint: 'http://a:1', retry_on_failure: {randomization_factor: 5}}",
    ] {
        assert_eq!(validate(&with(part)).0, 78, "{part}");
    }
}

/// What the Go collector refuses and Misaki takes is said.
#[test]
fn what_is_taken_and_refused_elsewhere_is_said() {
    let pipelines = |receivers: &str, exporters: &str, rest: &str| {
        format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:0'}}}}}}}}\nexporters: {{nop: , nop/2: }}\n\
             extensions: {{health_check: {{endpoint: '127.0.0.1:0'}}}}\nservice: {{{rest}, telemetry: {{metrics: {{level: none}}}}, \
             pipelines: {{logs: {{receivers: {receivers}, exporters: {exporters}}}}}}}"
        )
    };
    let list = "it is a list, which the Go collector insists on: ";
    for (config, told) in [
        (pipelines("otlp", "[nop, nop/2]", "extensions: [health_check]"), format!("{list}[otlp]")),
        (pipelines("[otlp]", "'nop, nop/2'", "extensions: [health_check]"), format!("{list}[nop, nop/2]")),
        (pipelines("[otlp]", "[nop, nop/2]", "extensions: health_check"), format!("{list}[health_check]")),
        (
            with("extensions.health_check: {endpoint: '127.0.0.1:0', path: health}"),
            "insists on a slash before it: /health".to_owned(),
        ),
        (
            with("processors.filter: {profile_conditions: ['x ==']}"),
            "profiles are not supported: what stands here is not read".to_owned(),
        ),
        (with("processors.filter: {profiles: {profile: ['true']}}"), "profiles are not supported".to_owned()),
        (with("processors.transform: {profile_statements: ['x(']}"), "profiles are not supported".to_owned()),
        (
            with("receivers.otlp: {protocols: {http: {endpoint: '127.0.0.1:0', compression_algorithms: [gzip, br]}}}"),
            "there is no compression \"br\": a client that uses it is refused".to_owned(),
        ),
    ] {
        let (status, said) = validate(&config);
        assert!(status == 0 && said.contains("warning: ") && said.contains(&told), "{config}: {status} {said}");
    }
    // What says nothing is passed over in silence.
    assert!(!taken("processors.filter: {profile_conditions: []}").contains("not supported"));
}

#[test]
fn levels_are_numbers_too() {
    let plan = |telemetry: &str| {
        let loaded = load(&[format!("yaml:{}", with(&format!("service.telemetry: {telemetry}")))], &[], &|_| None);
        let plan = Plan::read(&loaded);
        assert!(!loaded.problems.has_errors(), "{telemetry}");
        (format!("{:?}", plan.telemetry.metrics.level), format!("{:?}", plan.telemetry.logs.level))
    };
    for (level, expected) in
        [("-1", "None"), ("0", "Basic"), ("1", "Normal"), ("2", "Detailed"), ("9", "Detailed"), ("1.5", "Normal")]
    {
        assert_eq!(plan(&format!("{{metrics: {{level: {level}}}}}")).0, expected, "{level}");
    }
    for (level, expected) in
        [("-1", "Debug"), ("0", "Info"), ("1", "Warn"), ("2", "Error"), ("5", "Error"), ("1.0", "Warn")]
    {
        assert_eq!(plan(&format!("{{metrics: {{level: none}}, logs: {{level: {level}}}}}")).1, expected, "{level}");
    }
}

fn problems(config: &str) -> (Loaded, Vec<String>) {
    let loaded = load(&[format!("yaml:{config}")], &[], &|_| None);
    Plan::read(&loaded);
    let errors =
        loaded.problems.sorted().into_iter().filter(|problem| problem.level == misaki::face::config::Level::Error);
    let errors = errors.map(|problem| format!("{}: {}", problem.path, problem.message)).collect();
    (loaded, errors)
}

/// A component that nothing uses keeps nothing from running.
#[test]
fn faults_of_what_nothing_uses_are_warnings() {
    for (unused, told) in [
        ("exporters: {nop: , otlp_http: {endpoint: 5}}", "exporters.otlp_http.endpoint: expected text, found 5"),
        ("exporters: {nop: , otlp_http: }", "at least one endpoint must be specified"),
        ("exporters: {nop: , loki: {endpoint: x}}", "the exporter \"loki\" was removed from the Go collector in 0.131"),
        ("exporters: {nop: , otlp_http: {endpoint: 'http://a:1', auth: {authenticator: nobody}}}", ""),
        ("exporters: {nop: , otlp_http: {endpoint: 'http://a:1', sending_queue: {storage: nobody}}}", ""),
        (
            "exporters: {nop: }\nprocessors: {transform: {log_statements: ['set(']}}",
            "processors.transform.log_statements",
        ),
        ("exporters: {nop: }\nprocessors: {attributes: {foo: 1}}", "processors.attributes: unknown key \"foo\""),
        ("exporters: {nop: }\nextensions: {bearertokenauth: }", "no bearer token provided"),
        ("exporters: {nop: }\nconnectors: {forward/2: {foo: 1}}", "unknown key \"foo\""),
    ] {
        let config = format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:0'}}}}}}}}\n{unused}\n\
             service: {{telemetry: {{metrics: {{level: none}}}}, pipelines: {{logs: {{receivers: [otlp], exporters: [nop]}}}}}}"
        );
        let (status, said) = validate(&config);
        assert!(status == 0 && said.contains("warning: ") && said.contains(told), "{unused}: {status} {said}");
        // In a pipeline it is an error.
        let used = config.replace("exporters: [nop]", "exporters: [nop, otlp_http]");
        if unused.contains("otlp_http") {
            assert_eq!(validate(&used).0, 78, "{unused}");
        }
    }
    // As long as no pipeline names anything, everything counts.
    let (_, errors) = problems("receivers: {otlp: }\nexporters: {nop: }\nservice: {pipelines: }");
    assert!(errors.iter().any(|error| error.contains("at least one protocol")), "{errors:?}");
}

const WHOLE: &str = "\
receivers:
  otlp:
    protocols:
      grpc:
        endpoint: 127.0.0.1:0
processors:
  batch:
    timeout: 1s
exporters:
  otlp_grpc:
    endpoint: localhost:1
    tls:
      insecure: true
  debug:
    verbosity: detailed
service:
  pipelines:
    traces:
      receivers: [otlp]
      processors: [batch]
      exporters: [otlp_grpc, debug]
    logs:
      receivers: [otlp]
      processors: [batch]
      exporters: [otlp_grpc, debug]
";

/// Whatever line, block or list of children stands two columns too far in or out, what is said is about the keys that
/// moved, and not about all that misses them.
#[test]
fn a_wrong_indentation_is_one_mistake() {
    let lines: Vec<&str> = WHOLE.lines().collect();
    let depth = |line: &str| line.len() - line.trim_start().len();
    let mut tried = 0;
    for first in 0..lines.len() {
        let end = (first + 1..lines.len()).find(|at| depth(lines[*at]) <= depth(lines[first])).unwrap_or(lines.len());
        for (moved, by) in [
            (first..end, 2),
            (first..end, -2),
            (first..first + 1, 2),
            (first..first + 1, -2),
            (first + 1..end, 2),
            (first + 1..end, -2),
        ] {
            let shifted = |(at, line): (usize, &&str)| match (moved.contains(&at), by) {
                (false, _) => (*line).to_owned(),
                (true, 2) => format!("  {line}"),
                _ => line.strip_prefix("  ").unwrap_or(line).to_owned(),
            };
            let config: Vec<String> = lines.iter().enumerate().map(shifted).collect();
            if config == lines {
                continue;
            }
            let (loaded, errors) = problems(&config.join("\n"));
            // At most one for each key that moved, and none where it means the same.
            assert!(errors.len() <= 3, "{:?} by {by}:\n{}", lines[first], errors.join("\n"));
            assert_eq!(errors.is_empty(), !loaded.problems.has_errors(), "{:?} by {by}: {errors:?}", lines[first]);
            tried += 1;
        }
    }
    assert!(tried > 60, "{tried}");
}

/// A key with a typing error is one mistake, and what misses it follows; another place that misses such a key is one of its own.
#[test]
fn a_misspelt_key_is_one_mistake() {
    for (written, misspelt) in [
        ("    protocols:", "    protocol:"),
        ("    endpoint: localhost:1", "    endpiont: localhost:1"),
        ("      receivers: [otlp]", "      receiver: [otlp]"),
        ("      exporters: [otlp_grpc, debug]", "      exporter: [otlp_grpc, debug]"),
        ("  pipelines:", "  pipeline:"),
        ("receivers:\n  otlp", "receiver:\n  otlp"),
    ] {
        let config = WHOLE.replacen(written, misspelt, 1);
        assert_ne!(config, WHOLE);
        let (_, errors) = problems(&config);
        assert!(errors.len() == 1 && errors[0].contains("unknown key"), "{misspelt}: {errors:?}");
    }
    let two = WHOLE.replacen("endpoint: localhost:1", "endpiont: localhost:1", 1);
    let two = two
        .replacen("  debug:", "  otlp_grpc/2: {tls: {insecure: true}}\n  debug:", 1)
        .replace("debug]", "debug, otlp_grpc/2]");
    let (_, errors) = problems(&two);
    let [unknown, missing] = &errors[..] else { panic!("{errors:?}") };
    assert!(unknown.contains("endpiont") && missing.starts_with("exporters.otlp_grpc/2.endpoint: "), "{errors:?}");
}

/// What could not be read is said once; that it is missing follows.
#[test]
fn a_reference_that_cannot_be_read_is_one_mistake() {
    for place in [
        "endpoint: localhost:1",
        "  otlp_grpc:\n    endpoint: localhost:1\n    tls:\n      insecure: true\n",
        "    protocols:\n      grpc:\n        endpoint: 127.0.0.1:0\n",
        "verbosity: detailed",
        "timeout: 1s",
        "insecure: true",
        "[otlp_grpc, debug]",
        "otlp]",
    ] {
        let key =
            place.trim_start().split_once(": ").filter(|_| !place.contains('\n')).map(|(key, _)| format!("{key}: "));
        let first = place.split(':').next().unwrap();
        let with = match key {
            Some(key) => format!("{key}${{s3:x}}"),
            None if place.contains('\n') => format!("{first}: ${{s3:x}}\n"),
            None if place.ends_with(']') && place.starts_with('[') => "${s3:x}".to_owned(),
            None => "'${s3:x}']".to_owned(),
        };
        let config = WHOLE.replacen(place, &with, 1);
        assert_ne!(config, WHOLE);
        let (_, errors) = problems(&config);
        assert_eq!(errors, [": scheme \"s3\" is not supported for uri \"s3:x\""], "{place}");
    }
    let sections = [("receivers", 0, 5), ("exporters", 8, 15)];
    for (section, from, to) in sections {
        let mut lines: Vec<String> = WHOLE.lines().map(str::to_owned).collect();
        lines.splice(from..to, [format!("{section}: ${{s3:x}}")]);
        let (_, errors) = problems(&lines.join("\n"));
        assert_eq!(errors, [": scheme \"s3\" is not supported for uri \"s3:x\""], "{section}");
    }
}

/// One request over HTTP/1, as text: the head and the body of its answer.
fn ask(port: u16, head: &str) -> String {
    use std::io::Read;
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "{head}\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// The health check takes the keys of any HTTP server of the Go collector.
#[tokio::test]
async fn the_health_check_is_a_server_like_others() {
    let port = free_port().await;
    let upstream = Upstream::start().await;
    let start = async |keys: &str, more: &str| {
        let changes = format!(
            "{{extensions: {{{more} health_check: {{endpoint: '127.0.0.1:{port}', {keys}}}}}, service: {{extensions: [{} health_check]}}}}",
            more.split_once(':').map_or(String::new(), |(id, _)| format!("{id},"))
        );
        Misaki::start(&changes, &[&upstream]).await
    };
    let keys = "path: /health, cors: {allowed_origins: ['https://*.shop'], max_age: 60}, response_headers: {x-from: edge}, read_header_timeout: 300ms";
    let mut misaki = start(keys, "").await;
    let answer = ask(port, "GET /health HTTP/1.1\r\norigin: https://a.shop").to_lowercase();
    for part in ["http/1.1 200", "access-control-allow-origin: https://a.shop", "x-from: edge", "vary: origin"] {
        assert!(answer.contains(part), "{part}: {answer}");
    }
    let answer = ask(port, "GET /health HTTP/1.1\r\norigin: https://b.net").to_lowercase();
    assert!(answer.contains("200 ok") && !answer.contains("access-control-allow-origin"), "{answer}");
    let answer = ask(port, "OPTIONS /health HTTP/1.1\r\norigin: https://a.shop\r\naccess-control-request-method: GET")
        .to_lowercase();
    for part in ["http/1.1 204", "access-control-allow-methods: get", "access-control-max-age: 60"] {
        assert!(answer.contains(part), "{part}: {answer}");
    }
    // Matched as by the Go collector, but that it redirects from what is unclean.
    let paths = [
        ("/%68ealth", 200),
        ("//health", 200),
        ("/healthx", 404),
        ("/health/x", 404),
        ("/health/", 404),
        ("/%zz", 400),
    ];
    for (path, status) in paths {
        let answer = ask(port, &format!("GET {path} HTTP/1.1"));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
    }
    // A client that sends nothing is not waited for longer than this.
    let began = std::time::Instant::now();
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    let _ = std::io::Read::read_to_end(&mut stream, &mut Vec::new());
    assert!(began.elapsed() < std::time::Duration::from_secs(5), "{:?}", began.elapsed());
    misaki.finish().await;

    let mut misaki = start("auth: {authenticator: bearertokenauth}", "bearertokenauth: {token: abc},").await;
    assert!(ask(port, "GET / HTTP/1.1").starts_with("HTTP/1.1 401"));
    assert!(ask(port, "GET / HTTP/1.1\r\nauthorization: Bearer abc").starts_with("HTTP/1.1 200"));
    misaki.finish().await;
    let (status, said) =
        validate(&with("extensions.health_check: {endpoint: '127.0.0.1:0', auth: {authenticator: nobody}}"));
    assert!(status == 78 && said.contains("extensions.health_check.auth.authenticator"), "{said}");
}

#[tokio::test]
async fn the_health_check_speaks_tls() {
    let folder = tempfile::tempdir().unwrap();
    let authority = crate::tls::Authority::new();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    authority.write(&cert, &key);
    let port = free_port().await;
    let upstream = Upstream::start().await;
    let changes = format!(
        "{{extensions: {{health_check: {{endpoint: '127.0.0.1:{port}', tls: {{cert_file: '{}', key_file: '{}'}}}}}}, service: {{extensions: [health_check]}}}}",
        cert.display(),
        key.display()
    );
    let mut misaki = Misaki::start(&changes, &[&upstream]).await;
    let tls = misaki::face::network::tls::ClientTls { ca: authority.ca(), ..Default::default() };
    let config = misaki::face::network::tls::client_config(&tls, &[b"http/1.1"]).unwrap();
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let name = tls.server_name("localhost").unwrap();
    let mut stream = misaki::face::network::tls::connect(Box::new(stream), config, name).await.unwrap();
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    misaki.finish().await;
}

/// Every compression of the Go collector goes out under the name that the config has, and comes in.
#[tokio::test]
async fn compressions_go_out_and_come_in() {
    let upstream = Upstream::start().await;
    let mut next = Misaki::start("{service: {pipelines: {logs: {exporters: [otlp]}}}}", &[&upstream]).await;
    let port = next.running.addresses.iter().find(|(protocol, _)| *protocol == "http").unwrap().1.unwrap().port();
    let seen = Upstream::start().await;
    for (compression, level, name) in [
        ("gzip", 9, "gzip"),
        ("zstd", 5, "zstd"),
        ("zlib", -1, "zlib"),
        ("deflate", 0, "deflate"),
        ("snappy", 0, "snappy"),
        ("x-snappy-framed", 0, "x-snappy-framed"),
        ("lz4", 0, "lz4"),
        ("none", 0, ""),
    ] {
        let exporter = |address: &str| {
            format!(
                "{{exporters: {{otlp_http: {{endpoint: 'http://{address}', compression: {compression}, compression_params: {{level: {level}}}}}}}, \
                 service: {{pipelines: {{logs: {{exporters: [otlp_http]}}}}}}}}"
            )
        };
        for address in [format!("127.0.0.1:{port}"), seen.address.to_string()] {
            let mut edge = Misaki::start(&exporter(&address), &[&seen]).await;
            edge.send_by(Via::Http, Signal::Logs, &[compression]).await;
            edge.finish().await;
        }
        let arrivals = seen.arrivals();
        let sent = arrivals.last().unwrap().headers.get("content-encoding").map_or("", |name| name.to_str().unwrap());
        assert_eq!(sent, name);
    }
    next.finish().await;
    assert_eq!(upstream.kept_once().len(), 8);
}

/// What is wrong is said once, where it stands, with what to write.
#[test]
fn what_is_wrong_says_what_to_write() {
    let grpc = |endpoint: &str| format!("exporters.otlp_grpc: {{endpoint: '{endpoint}'}}");
    let http = |endpoint: &str| format!("exporters.otlp_http: {{endpoint: '{endpoint}'}}");
    let listens = |endpoint: &str| format!("receivers.otlp: {{protocols: {{grpc: {{endpoint: '{endpoint}'}}}}}}");
    let policy = |settings: &str| format!("processors.tail_sampling: {{policies: [{{name: a, {settings}}}]}}");
    for (part, at, told) in [
        (grpc("4317"), "'4317'", "address 4317: missing port in address"),
        (grpc("4317"), "'4317'", "help: write localhost:4317"),
        (grpc("edge"), "'edge'", "help: write edge:4317"),
        (http("4318"), "'4318'", "help: write http://localhost:4318"),
        (http("edge:4000"), "'edge:4000'", "help: write http://edge:4000"),
        (listens("4317"), "'4317'", "help: write localhost:4317"),
        (listens("0.0.0.0"), "'0.0.0.0'", "help: write 0.0.0.0:4317"),
        (policy("type: string_attribute, string_attribute: {key: a, enabled_regex_matching: true, values: [a, 'b(']}"), "'b('", "invalid regex"),
        (policy("type: status_code, status_code: {status_codes: [OK, FINE]}"), "FINE", "unknown status code"),
        ("processors.filter: {spans: {include: {match_type: regexp, span_names: [a, 'b(']}}}".to_owned(), "'b('", "\"b(\" is not a regular expression"),
        ("processors.filter: {spans: {exclude: {match_type: regexp, attributes: [{key: k, value: 'b('}]}}}".to_owned(), "'b('", "\"b(\" is not a regular expression"),
        ("processors.attributes: {include: {match_type: regexp, services: [a, 'b(']}, actions: [{key: k, action: delete}]}".to_owned(), "'b('", "\"b(\" is not a regular expression"),
        ("processors.transform: {trace_statements: [{context: spans, statements: ['set(name, 1)', 'set(attributes[\"a\"], 1)']}]}".to_owned(), "spans, ", "help: did you mean \"span\"?"),
        ("processors.transform: {trace_statements: [{context: nonsense, statements: ['set(name, 1)', 'set(name, )']}]}".to_owned(), "nonsense", "it is one of"),
    ] {
        let config = with(&part);
        let (status, said) = validate(&config);
        assert!(status == 78 && said.contains(told) && said.contains("1 error in"), "{part}: {said}");
        let (line, text) = config.lines().enumerate().find(|(_, text)| text.contains(at)).unwrap();
        let place = format!("inline yaml:{}:{}", line + 1, 1 + text.find(at).unwrap());
        assert!(said.contains(&place), "{part}: {place}: {said}");
    }
    // What may hold a password is not repeated.
    let (status, said) = validate(&with(&http("user:hunter2@edge:4318")));
    assert!(status == 78 && !said.contains("hunter2"), "{said}");
}

/// A bracket that is never closed is pointed at, and not the line that it swallows.
#[test]
fn a_bracket_that_is_not_closed_is_pointed_at() {
    for (text, place) in [
        ("receivers: [otlp\nexporters: {nop: }\n", "1:12"),
        ("a:\n  b: {c: d\n  e: f\n", "2:6"),
        ("a: [b, {c: d]\n", "1:"),
        ("a:\n  - [b\n  - c\n", "2:5"),
        ("a: {b: [c, d}\ne: f\n", "1:"),
        ("a: [b,\n  c", "1:4"),
    ] {
        let (status, said) = validate(text);
        assert!(
            status == 78 && said.contains(&format!("inline yaml:{place}")) && said.contains("1 error in"),
            "{text}: {said}"
        );
    }
    // What is wrong inside of brackets is pointed at itself.
    let (_, said) = validate("a: {\n  b: c,\n  d: e: f\n}\n");
    assert!(said.contains("inline yaml:3:"), "{said}");
}

/// Of a PEM only what is secret is left out of messages, and they say how to write one.
#[test]
fn messages_about_a_pem_can_be_read() {
    let pem = |label: &str| format!("-----BEGIN {label}-----\\nMIIBhunterAAAA\\n-----END {label}-----\\n");
    let (certificate, key) = (pem("CERTIFICATE"), pem("PRIVATE KEY"));
    let client = format!("exporters.otlp_grpc: {{endpoint: 'a:1', tls: {{ca_pem: \"{certificate}\"}}}}");
    let server = format!(
        "receivers.otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:0', tls: {{cert_pem: \"{key}\", key_pem: \"{certificate}\"}}}}}}}}"
    );
    for (part, told) in [
        (&client, "write the PEM text of the certificate of the CA, from its BEGIN line to its END line"),
        (&server, "error: cert_pem holds no certificate"),
        (&server, "in receivers.otlp.protocols.grpc.tls.cert_pem"),
        (&server, "key_pem holds no private key"),
    ] {
        let (status, said) = validate(&with(part));
        assert!(status == 78 && said.contains(told) && !said.contains("hunter"), "{told}: {said}");
    }
}
