//! The exporter `prometheus`. What version 0.161 of the Go collector shows after the same requests is in
//! `fixtures/prometheus`, recorded by `tests/conformance/record.py`: each line is a case with its settings and its steps.

use std::time::Duration;

use misaki::face::telemetry::Signal;
use serde_json::Value as Json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::harness::*;

/// One answer to a scrape.
struct Scraped {
    status: u64,
    head: String,
    body: Vec<u8>,
}

impl Scraped {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

async fn scrape(port: u16, request: &str, headers: &[(&str, &str)]) -> Scraped {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    stream.write_all(format!("{request} HTTP/1.1\r\nhost: x\r\n{headers}\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let body = answer[end + 4..].to_vec();
    let body = if head.contains("chunked") && !request.starts_with("HEAD") { joined(&body) } else { body };
    Scraped { status: head.split(' ').nth(1).unwrap().parse().unwrap(), head, body }
}

/// A body without the lengths of its chunks.
fn joined(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n").unwrap();
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        if length == 0 {
            return body;
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + length]);
        rest = &rest[end + 4 + length..];
    }
}

fn config(settings: &Json, port: u16) -> String {
    let mut settings = settings.as_object().cloned().unwrap_or_default();
    settings.insert("endpoint".to_owned(), format!("127.0.0.1:{port}").into());
    format!(
        "{{receivers: {{otlp: {{protocols: {{http: {{endpoint: '127.0.0.1:0'}}}}}}}}, exporters: {{prometheus: {}}}, service: {{telemetry: {{metrics: {{level: none}}}}, pipelines: {{metrics: {{receivers: [otlp], exporters: [prometheus]}}}}}}}}",
        Json::from(settings)
    )
}

/// Where Misaki differs on purpose, the case has what it shows beside what the Go collector shows.
#[tokio::test]
async fn scrapes_show_what_the_go_collectors_show() {
    let recorded = std::fs::read_to_string("fixtures/prometheus/cases.jsonl").unwrap();
    assert!(recorded.lines().count() > 100);
    let mut wrong = Vec::new();
    for case in recorded.lines().map(|line| serde_json::from_str::<Json>(line).unwrap()) {
        let port = free_port().await;
        let mut misaki = Misaki::load(&[&config(&case["config"], port)], 1, &|_| None).await;
        for step in case["steps"].as_array().unwrap() {
            if step.get("send").is_some() {
                assert!(misaki.post_json(Signal::Metrics, step["send"].to_string()).await.ok, "{}", case["case"]);
            } else if let Some(seconds) = step["wait"].as_f64() {
                // The thread of the small server has a clock of its own.
                tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
            } else {
                let request = format!("{} {}", step["method"].as_str().unwrap_or("GET"), step["get"].as_str().unwrap());
                let accept = step["accept"].as_str().map(|accept| ("accept", accept));
                let scraped = scrape(port, &request, accept.as_slice()).await;
                let text = scraped.text();
                let text: Vec<_> = text.split('\n').collect();
                let expected = step.get("misaki").unwrap_or(&step["text"]);
                let is_right = step["status"] == scraped.status
                    && step["content_type"].as_str() == scraped.header("content-type")
                    && expected == &Json::from(text.clone());
                if !is_right {
                    wrong.push(format!(
                        "{}: {} {:?}\n{}\n--- expected\n{}\n",
                        case["case"],
                        scraped.status,
                        scraped.header("content-type"),
                        text.join("\n"),
                        expected
                            .as_array()
                            .unwrap()
                            .iter()
                            .map(|line| line.as_str().unwrap())
                            .collect::<Vec<_>>()
                            .join("\n"),
                    ));
                }
            }
        }
        misaki.finish().await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
