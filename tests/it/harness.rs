//! The harness: Misaki in-process on free ports, an upstream that answers as a test scripts it and keeps what it took,
//! small clients, conditions that are awaited, and the ledger's balance checked against what is measured: at the end of
//! every scenario, however it ends.
//!
//! Everything of a scenario runs on the one thread of its test, so what is looked at between two awaits is consistent.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use misaki::face::config;
use misaki::face::network::Workers;
use misaki::face::otlp::{check, json, percent, status};
use misaki::face::processors::Stage;
use misaki::face::service::{self, Balance, Changes, Plan, Running};
use misaki::face::telemetry::{
    Account, Budget, Charge, Client, Intake, Now, Part, Refusal, Share, Signal, Status, Submission, Telemetry,
};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric::Data,
};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

/// How long anything may take before a scenario fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// What every scenario starts from; it says only what is different.
const BASE: &str = r#"
receivers:
  otlp: {protocols: {grpc: {endpoint: "127.0.0.1:0"}, http: {endpoint: "127.0.0.1:0"}}}
exporters:
  otlp:
    endpoint: "${env:UPSTREAM}"
    tls: {insecure: true}
    compression: none
    retry_on_failure: {initial_interval: 1ms, max_interval: 1ms}
  otlp/2:
    endpoint: "${env:UPSTREAM_2}"
    tls: {insecure: true}
    compression: none
    retry_on_failure: {initial_interval: 1ms, max_interval: 1ms}
  otlp_http:
    endpoint: "http://${env:UPSTREAM}"
    compression: none
    retry_on_failure: {initial_interval: 1ms, max_interval: 1ms}
service:
  telemetry: {metrics: {level: none}}
  pipelines:
    logs: {receivers: [otlp], exporters: [otlp]}
"#;

/// A collector that runs. Dropping it ends it without draining; its ledger must balance even so.
pub struct Misaki {
    pub running: Running,
    pub ports: Ports,
}

/// Where it listens: all that clients need.
#[derive(Clone, Copy)]
pub struct Ports {
    pub grpc: SocketAddr,
    pub http: SocketAddr,
}

impl Misaki {
    /// Starts with `changes` (YAML) over the base; `otlp` and `otlp_http` send to the first upstream, `otlp/2` to the second.
    pub async fn start(changes: &str, upstreams: &[&Upstream]) -> Misaki {
        Misaki::start_on(1, changes, upstreams).await
    }

    pub async fn start_on(workers: usize, changes: &str, upstreams: &[&Upstream]) -> Misaki {
        Misaki::load(&[BASE, changes], workers, &environment(upstreams)).await
    }

    /// Goes on with other changes over the base.
    pub async fn reload(&mut self, changes: &str, upstreams: &[&Upstream]) -> Result<Changes, String> {
        let changes = self.running.reload(plan(&[BASE, changes], &environment(upstreams))).await;
        let said = |help: Option<String>| help.map_or_else(String::new, |help| format!("\n  help: {help}"));
        let changes = changes.map_err(|error| error.why + &said(error.help))?;
        self.ports = Ports::of(&self.running);
        Ok(changes)
    }

    /// Starts from these YAML texts alone, merged from left to right.
    pub async fn load(texts: &[&str], workers: usize, environment: &dyn Fn(&str) -> Option<String>) -> Misaki {
        Misaki::run(&plan(texts, environment), workers).await
    }

    pub async fn run(plan: &Plan, workers: usize) -> Misaki {
        let workers = Arc::new(Workers::start(workers).unwrap());
        let running = service::start(plan, workers).await.unwrap();
        let ports = Ports::of(&running);
        Misaki { running, ports }
    }

    /// Telemetry at the gate, without a socket.
    pub fn submit(&self, signal: Signal, names: &[&str]) -> Submission<'_> {
        self.submit_wire(signal, request(signal, names), None)
    }

    pub fn submit_wire(&self, signal: Signal, wire: Vec<u8>, client: Option<Arc<Client>>) -> Submission<'_> {
        let gate = self.running.graph.gates.iter().find(|gate| gate.signal() == signal && gate.is_open()).unwrap();
        let Some(charge) = Charge::take(&self.running.budget, Share::Ingest, wire.len() as u64) else {
            return Box::pin(async { Err(Refusal::busy(misaki::face::telemetry::Reason::MemoryFull)) });
        };
        let items = check::check(signal, &wire).unwrap();
        let parts = [Part::new(wire, items, charge)].into_iter().collect();
        gate.submit(Telemetry { signal, parts, client, received: Now::read(), tickets: Default::default() })
    }

    pub fn held(&self) -> u64 {
        self.running.held_items()
    }

    /// What the ledger's line for one exporter says.
    pub fn line(&self, exporter: &str) -> String {
        let lines = self.running.balance();
        let of = |line: &&Balance| line.exporter == exporter;
        lines.iter().filter(of).map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    /// Accepted = exported + filtered + dropped + waiting, and what waits is really held: in a queue, or in stages, which
    /// owe what they hold once for every way to an exporter.
    #[track_caller]
    pub fn check(&self) {
        if let Some(problem) = self.imbalance() {
            panic!("the ledger does not balance: {problem}");
        }
    }

    fn imbalance(&self) -> Option<String> {
        let graph = &self.running.graph;
        for account in &graph.accounts {
            let is_it = |other: &&Arc<Account>| Arc::ptr_eq(other, account);
            let queues = self.running.queues().filter(|queue| is_it(&&queue.account));
            let in_queue: u64 = queues.map(|queue| queue.held_items()).sum();
            let ways = |stage: &Arc<dyn Stage>| stage.accounts().iter().filter(is_it).count() as u64;
            let in_stages: u64 = self.running.stages().map(|stage| stage.held_items() * ways(stage)).sum();
            let exporters = graph.exporters.iter().filter(|(id, _)| id.to_string() == account.exporter);
            let printing: u64 = exporters.map(|(_, exporter)| exporter.waiting()[account.signal as usize]).sum();
            if owed(account) != i128::from(in_queue + in_stages + printing) {
                let line = self.line(&account.exporter);
                return Some(format!("{line}, {in_queue} in the queue, {in_stages} in stages, {printing} not written"));
            }
        }
        None
    }

    /// Waits until nothing is held any more, and checks the balance.
    pub async fn settle(&self) {
        until(&format!("nothing is held: {:?}", self.running.balance()), || self.held() == 0).await;
        self.check();
    }

    /// Drains; checks that the balance holds, that what is left is what is held, and that the budget is free again.
    pub async fn finish(&mut self) -> Vec<Balance> {
        self.finish_within(Duration::from_secs(10)).await
    }

    pub async fn finish_within(&mut self, time: Duration) -> Vec<Balance> {
        let balance = self.running.drain(time).await;
        self.check();
        for line in &balance {
            let dropped: u64 = line.dropped.iter().map(|(_, items)| items).sum();
            assert_eq!(line.accepted, line.exported + line.filtered + dropped + line.left, "{line}");
        }
        let budget = self.running.budget.clone();
        if self.held() == 0 {
            let used = || [Share::Ingest, Share::Queue, Share::Export].map(|share| budget.used(share));
            until("the budget is free", || used() == [0, 0, 0]).await;
        }
        balance
    }
}

/// A collector on a thread of its own, for tests whose clients block.
pub struct Apart {
    pub ports: Ports,
    pub budget: Arc<Budget>,
    stop: oneshot::Sender<()>,
    ended: std::thread::JoinHandle<(u64, u64)>,
}

impl Apart {
    /// Starts from this YAML text alone.
    pub fn start(config: &str) -> Apart {
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let config = config.to_owned();
        let ended = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut misaki = Misaki::load(&[&config], 1, &|_| None).await;
                tell.send((misaki.ports, misaki.running.budget.clone())).unwrap();
                let _ = stopped.await;
                misaki.finish_within(Duration::from_secs(3)).await;
                misaki.running.intake()
            })
        });
        let (ports, budget) = told.recv().unwrap();
        Apart { ports, budget, stop, ended }
    }

    /// Drains it, as `Misaki::finish` does. Accepted and refused items.
    pub fn finish(self) -> (u64, u64) {
        drop(self.stop);
        self.ended.join().expect("Misaki ended in a panic")
    }
}

fn plan(texts: &[&str], environment: &dyn Fn(&str) -> Option<String>) -> Plan {
    let sources: Vec<_> = texts.iter().map(|text| format!("yaml:{text}")).collect();
    let loaded = config::load(&sources, &[], environment);
    let plan = Plan::read(&loaded);
    assert!(!loaded.problems.has_errors(), "{}", loaded.problems.render(&loaded.sources, false));
    plan
}

fn environment(upstreams: &[&Upstream]) -> impl Fn(&str) -> Option<String> + use<> {
    let addresses: Vec<_> = upstreams.iter().map(|upstream| upstream.address.to_string()).collect();
    move |name: &str| {
        let number = name.strip_prefix("UPSTREAM")?;
        let index = number.strip_prefix('_').map_or(0, |number| number.parse::<usize>().unwrap() - 1);
        Some(addresses.get(index).cloned().unwrap_or_else(|| "127.0.0.1:9".to_owned()))
    }
}

impl Ports {
    fn of(running: &Running) -> Ports {
        let address = |wanted| {
            let found = running.addresses.iter().find(|(name, _)| *name == wanted);
            found.and_then(|(_, address)| *address).unwrap_or_else(|| "127.0.0.1:9".parse().unwrap())
        };
        Ports { grpc: address("grpc"), http: address("http") }
    }

    /// Log records over HTTP.
    pub async fn send(&self, names: &[&str]) -> Answer {
        self.send_by(Via::Http, Signal::Logs, names).await
    }

    pub async fn send_by(&self, via: Via, signal: Signal, names: &[&str]) -> Answer {
        self.post(via, signal, request(signal, names), &[]).await
    }

    /// One request on a connection of its own. Dropping the future breaks the connection.
    pub async fn post(&self, via: Via, signal: Signal, wire: Vec<u8>, headers: &[(&str, &str)]) -> Answer {
        match via {
            Via::Grpc => {
                let length = (wire.len() as u32).to_be_bytes();
                self.exchange(via, signal, [&[0], length.as_slice(), &wire].concat(), headers).await
            }
            Via::Http => self.exchange(via, signal, wire, headers).await,
            Via::Json => {
                let mut text = Vec::new();
                json::to_json(signal, &wire, &mut text);
                self.exchange(via, signal, text, headers).await
            }
        }
    }

    pub async fn post_json(&self, signal: Signal, text: String) -> Answer {
        self.exchange(Via::Json, signal, text.into(), &[]).await
    }

    pub async fn exchange(&self, via: Via, signal: Signal, body: Vec<u8>, headers: &[(&str, &str)]) -> Answer {
        let address = if via == Via::Grpc { self.grpc } else { self.http };
        let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let kind = match via {
            Via::Grpc => "application/grpc",
            Via::Http => "application/x-protobuf",
            Via::Json => "application/json",
        };
        let uri = format!("http://{address}{}", path(via, signal));
        let mut request = Request::post(uri).header("content-type", kind);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = Full::new(Bytes::from(body));
        // Ends with the request.
        let mut connection = JoinSet::new();
        let answer = if via == Via::Grpc {
            let (mut sender, driver) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
            connection.spawn(driver);
            sender.send_request(request.header("te", "trailers").body(body).unwrap()).await
        } else {
            let (mut sender, driver) = hyper::client::conn::http1::handshake(io).await.unwrap();
            connection.spawn(driver);
            sender.send_request(request.header("host", address.to_string()).body(body).unwrap()).await
        };
        Answer::read(via, answer.unwrap()).await
    }
}

impl Drop for Misaki {
    /// What other threads have in their hands settles in a moment; a difference that stays is a loss.
    fn drop(&mut self) {
        let end = std::time::Instant::now() + Duration::from_secs(5);
        while !std::thread::panicking() && self.imbalance().is_some() {
            assert!(std::time::Instant::now() < end, "the ledger does not balance: {:?}", self.imbalance());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl std::ops::Deref for Misaki {
    type Target = Ports;

    fn deref(&self) -> &Ports {
        &self.ports
    }
}

/// Accepted less what was settled; must never be negative.
fn owed(account: &Account) -> i128 {
    i128::from(account.accepted()) - i128::from(account.sent()) - i128::from(account.dropped_in_all())
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Via {
    Grpc,
    Http,
    Json,
}

fn path(via: Via, signal: Signal) -> &'static str {
    match (via, signal) {
        (Via::Grpc, Signal::Logs) => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
        (Via::Grpc, Signal::Metrics) => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        (Via::Grpc, Signal::Traces) => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        (_, Signal::Logs) => "/v1/logs",
        (_, Signal::Metrics) => "/v1/metrics",
        (_, Signal::Traces) => "/v1/traces",
    }
}

/// What a client heard: the gRPC code or the HTTP status, and when to come again.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub ok: bool,
    pub code: u16,
    pub message: String,
    pub hint: Option<Duration>,
}

impl Answer {
    async fn read(via: Via, answer: Response<Incoming>) -> Answer {
        let (head, body) = answer.into_parts();
        let collected = body.collect().await.unwrap();
        let trailers = collected.trailers().cloned().unwrap_or_default();
        let body = collected.to_bytes();
        let header = |name: &str| {
            let value = trailers.get(name).or(head.headers.get(name))?;
            Some(value.to_str().unwrap().to_owned())
        };
        if via != Via::Grpc {
            let seconds = header("retry-after").map(|seconds| Duration::from_secs(seconds.parse().unwrap()));
            let ok = head.status == 200;
            let message = match via {
                _ if ok => String::new(),
                Via::Json => String::from_utf8_lossy(&body).into_owned(),
                _ => status::from_wire(&body).0.message,
            };
            return Answer { ok, code: head.status.as_u16(), message, hint: seconds };
        }
        let code: u16 = header("grpc-status").unwrap().parse().unwrap();
        let details =
            header("grpc-status-details-bin").and_then(|text| misaki::face::otlp::base64::decode(text.as_bytes()));
        let hint = details.and_then(|details| status::from_wire(&details).1);
        let message = percent::decoded_text(header("grpc-message").unwrap_or_default().as_bytes());
        Answer { ok: code == 0, code, message, hint }
    }
}

/// A request that holds these records: the body of a log, the name of a span, the name of a gauge with one point.
pub fn request(signal: Signal, names: &[&str]) -> Vec<u8> {
    let names = names.iter().map(|name| (*name).to_owned());
    match signal {
        Signal::Logs => {
            let body = |name| Some(AnyValue { value: Some(Value::StringValue(name)) });
            let log_records = names.map(|name| LogRecord { body: body(name), ..Default::default() }).collect();
            let scope_logs = vec![ScopeLogs { log_records, ..Default::default() }];
            let resource_logs = vec![ResourceLogs { scope_logs, ..Default::default() }];
            ExportLogsServiceRequest { resource_logs }.encode_to_vec()
        }
        Signal::Metrics => {
            let data = || Some(Data::Gauge(Gauge { data_points: vec![NumberDataPoint::default()] }));
            let metrics = names.map(|name| Metric { name, data: data(), ..Default::default() }).collect();
            let scope_metrics = vec![ScopeMetrics { metrics, ..Default::default() }];
            let resource_metrics = vec![ResourceMetrics { scope_metrics, ..Default::default() }];
            ExportMetricsServiceRequest { resource_metrics }.encode_to_vec()
        }
        Signal::Traces => {
            let spans = names.map(|name| Span { name, ..Default::default() }).collect();
            let scope_spans = vec![ScopeSpans { spans, ..Default::default() }];
            let resource_spans = vec![ResourceSpans { scope_spans, ..Default::default() }];
            ExportTraceServiceRequest { resource_spans }.encode_to_vec()
        }
    }
}

/// The names of the records in a request, in their order; an item of a metric is a data point. None of one with text that is
/// not UTF-8, which is carried, but which prost does not take.
pub fn names(signal: Signal, wire: &[u8]) -> Vec<String> {
    match signal {
        Signal::Logs => {
            let scopes = ExportLogsServiceRequest::decode(wire).unwrap_or_default().resource_logs.into_iter();
            let records = scopes.flat_map(|resource| resource.scope_logs).flat_map(|scope| scope.log_records);
            let name = |record: LogRecord| match record.body.and_then(|body| body.value) {
                Some(Value::StringValue(name)) => name,
                other => format!("{other:?}"),
            };
            records.map(name).collect()
        }
        Signal::Metrics => {
            let scopes = ExportMetricsServiceRequest::decode(wire).unwrap_or_default().resource_metrics.into_iter();
            let metrics = scopes.flat_map(|resource| resource.scope_metrics).flat_map(|scope| scope.metrics);
            metrics.map(|metric| metric.name).collect()
        }
        Signal::Traces => {
            let scopes = ExportTraceServiceRequest::decode(wire).unwrap_or_default().resource_spans.into_iter();
            let spans = scopes.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans);
            spans.map(|span| span.name).collect()
        }
    }
}

/// `count` names that begin alike: `a0`, `a1`…
pub fn numbered(start: &str, count: usize) -> Vec<String> {
    (0..count).map(|index| format!("{start}{index}")).collect()
}

pub fn refs(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

/// One request as the upstream got it.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub signal: Signal,
    /// The path and query that it was sent to.
    pub target: String,
    pub headers: HeaderMap,
    pub names: Vec<String>,
    pub bytes: usize,
    pub wire: Bytes,
    /// Whether it was answered with success, in whole or in part.
    pub kept: bool,
}

/// How the upstream answers.
#[derive(Clone, Debug)]
pub enum Reply {
    Accept,
    /// A gRPC status, with RetryInfo when there is a hint.
    Grpc(u8, &'static str, Option<Duration>),
    /// An HTTP status, with `Retry-After` when there is one.
    Http(u16, Option<&'static str>),
    Partial(i64, &'static str),
    /// These headers (a status among them as `:status`) and this body, whatever the protocol.
    Raw(Vec<(&'static str, String)>, Bytes),
    /// Nothing until [`Upstream::release`], then as `Accept`.
    Hang,
    /// A head and one byte, then nothing.
    Trickle,
    /// The stream or connection breaks.
    Reset,
}

type Script = Box<dyn FnMut(&Arrival) -> Reply + Send>;

struct Seen {
    script: Script,
    arrivals: Vec<Arrival>,
}

/// A server for OTLP over gRPC and HTTP on one port.
pub struct Upstream {
    pub address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    released: Arc<watch::Sender<bool>>,
    ended: Arc<watch::Sender<()>>,
    serving: JoinSet<()>,
    unheard: Option<TcpSocket>,
}

impl Upstream {
    /// Accepts everything.
    pub async fn start() -> Upstream {
        Upstream::replying(Reply::Accept).await
    }

    /// Always replies alike.
    pub async fn replying(reply: Reply) -> Upstream {
        Upstream::scripted(move |_| reply.clone()).await
    }

    /// Gives these replies one after another, then accepts.
    pub async fn sequence(replies: impl IntoIterator<Item = Reply>) -> Upstream {
        let mut replies: VecDeque<_> = replies.into_iter().collect();
        Upstream::scripted(move |_| replies.pop_front().unwrap_or(Reply::Accept)).await
    }

    pub async fn scripted(script: impl FnMut(&Arrival) -> Reply + Send + 'static) -> Upstream {
        let mut upstream = Upstream::absent();
        upstream.script(script);
        upstream.appear();
        upstream
    }

    /// Has an address at which connections are refused, until it appears.
    pub fn absent() -> Upstream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        let seen = Seen { script: Box::new(|_| Reply::Accept), arrivals: Vec::new() };
        Upstream {
            address,
            seen: Arc::new(Mutex::new(seen)),
            released: Arc::new(watch::Sender::new(false)),
            ended: Arc::new(watch::Sender::new(())),
            serving: JoinSet::new(),
            unheard: Some(socket),
        }
    }

    pub fn appear(&mut self) {
        let listener = self.unheard.take().unwrap().listen(64).unwrap();
        self.serving.spawn(serve(listener, self.seen.clone(), self.released.clone(), self.ended.clone()));
    }

    pub fn script(&self, script: impl FnMut(&Arrival) -> Reply + Send + 'static) {
        self.seen().script = Box::new(script);
    }

    /// Lets everything that hangs go on, now and later.
    pub fn release(&self) {
        self.released.send_replace(true);
    }

    /// Ends the connections that are open in order, each when what is under way on it is answered.
    pub fn end_connections(&self) {
        self.ended.send_replace(());
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    pub fn arrivals(&self) -> Vec<Arrival> {
        self.seen().arrivals.clone()
    }

    /// How many requests came, answered or not.
    pub fn requests(&self) -> usize {
        self.seen().arrivals.len()
    }

    /// The names of all items that were answered with success, in the order of their arrival.
    pub fn kept(&self) -> Vec<String> {
        let seen = self.seen();
        seen.arrivals.iter().filter(|arrival| arrival.kept).flat_map(|arrival| arrival.names.clone()).collect()
    }

    /// The bodies of the requests, inflated.
    pub fn wires(&self) -> Vec<Vec<u8>> {
        self.seen().arrivals.iter().map(|arrival| arrival.wire.to_vec()).collect()
    }

    /// How many items each request brought that was answered with success.
    pub fn sizes(&self) -> Vec<usize> {
        let seen = self.seen();
        seen.arrivals.iter().filter(|arrival| arrival.kept).map(|arrival| arrival.names.len()).collect()
    }

    /// The same as [`kept`](Self::kept), sorted; fails when something came twice.
    #[track_caller]
    pub fn kept_once(&self) -> Vec<String> {
        let mut counts = BTreeMap::new();
        self.kept().into_iter().for_each(|name| *counts.entry(name).or_insert(0) += 1);
        let twice: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "came more than once: {twice:?}");
        counts.into_keys().collect()
    }
}

async fn serve(
    listener: TcpListener,
    seen: Arc<Mutex<Seen>>,
    released: Arc<watch::Sender<bool>>,
    ended: Arc<watch::Sender<()>>,
) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).unwrap();
        let (seen, released, mut ended) = (seen.clone(), released.clone(), ended.subscribe());
        connections.spawn(async move {
            let service =
                hyper::service::service_fn(move |request| answer(request, seen.clone(), released.subscribe()));
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
            loop {
                tokio::select! {
                    // A peer that leaves, or a reset of our own.
                    _ = connection.as_mut() => break,
                    Ok(()) = ended.changed() => connection.as_mut().graceful_shutdown(),
                }
            }
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    seen: Arc<Mutex<Seen>>,
    mut released: watch::Receiver<bool>,
) -> Result<Response<ReplyBody>, std::io::Error> {
    let (head, body) = request.into_parts();
    let is_origin_form = head.version == hyper::Version::HTTP_2 || head.uri.authority().is_none();
    assert!(is_origin_form, "a server is asked for a path: {}", head.uri);
    let is_grpc = head.headers.get("content-type").is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    let broken = |_| std::io::Error::other("the request broke off");
    let body = body.collect().await.map_err(broken)?.to_bytes();
    let wire = match body.first() {
        Some(1) if is_grpc => {
            let mut inflated = Vec::new();
            std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&body[5..]), &mut inflated).unwrap();
            Bytes::from(inflated)
        }
        _ if is_grpc => body.slice(5..),
        _ => body,
    };
    let signal = match head.uri.path() {
        path if path.contains("ogs") => Signal::Logs,
        path if path.contains("etrics") => Signal::Metrics,
        _ => Signal::Traces,
    };
    let target = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let arrival = Arrival {
        signal,
        target,
        headers: head.headers,
        names: names(signal, &wire),
        bytes: wire.len(),
        wire,
        kept: false,
    };
    let (index, reply) = {
        let seen = &mut *seen.lock().unwrap();
        let reply = (seen.script)(&arrival);
        seen.arrivals.push(arrival);
        (seen.arrivals.len() - 1, reply)
    };
    let keep = || seen.lock().unwrap().arrivals[index].kept = true;
    let message = match reply {
        Reply::Accept => Bytes::new(),
        Reply::Hang => {
            released.wait_for(|released| *released).await.unwrap();
            Bytes::new()
        }
        Reply::Partial(rejected, message) => {
            use opentelemetry_proto::tonic::collector::logs::v1::*;
            let partial = ExportLogsPartialSuccess { rejected_log_records: rejected, error_message: message.into() };
            Bytes::from(ExportLogsServiceResponse { partial_success: Some(partial) }.encode_to_vec())
        }
        Reply::Grpc(code, message, hint) => return Ok(grpc_error(code, message, hint)),
        Reply::Http(code, retry_after) => {
            let mut answer = Response::builder().status(code);
            if let Some(after) = retry_after {
                answer = answer.header("retry-after", after);
            }
            return Ok(answer.body(ReplyBody::Whole(Bytes::new(), false)).unwrap());
        }
        Reply::Raw(headers, body) => {
            let mut answer = Response::builder();
            for (name, value) in headers {
                answer = if name == ":status" { answer.status(value.as_str()) } else { answer.header(name, value) };
            }
            return Ok(answer.body(ReplyBody::Whole(body, false)).unwrap());
        }
        Reply::Trickle => {
            let kind = if is_grpc { "application/grpc" } else { "application/x-protobuf" };
            return Ok(Response::builder().header("content-type", kind).body(ReplyBody::Trickle(false)).unwrap());
        }
        Reply::Reset => return Err(std::io::Error::other("reset")),
    };
    keep();
    let (kind, body) = match is_grpc {
        true => {
            let head = [&[0u8], (message.len() as u32).to_be_bytes().as_slice()].concat();
            ("application/grpc", ReplyBody::Whole([&head, message.as_ref()].concat().into(), true))
        }
        false => ("application/x-protobuf", ReplyBody::Whole(message, false)),
    };
    Ok(Response::builder().header("content-type", kind).body(body).unwrap())
}

fn grpc_error(code: u8, message: &str, hint: Option<Duration>) -> Response<ReplyBody> {
    let mut answer = Response::builder()
        .header("content-type", "application/grpc")
        .header("grpc-status", u16::from(code))
        .header("grpc-message", message);
    if hint.is_some() {
        let details = status::to_wire(&Status { code: i32::from(code).into(), message: message.to_owned() }, hint);
        answer = answer.header("grpc-status-details-bin", BASE64_STANDARD_NO_PAD.encode(&details));
    }
    answer.body(ReplyBody::Done).unwrap()
}

enum ReplyBody {
    /// Then `grpc-status: 0` where that is wanted.
    Whole(Bytes, bool),
    Trailers,
    Trickle(bool),
    Done,
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let (frame, next) = match std::mem::replace(&mut *self, ReplyBody::Done) {
            ReplyBody::Whole(bytes, true) => (Frame::data(bytes), ReplyBody::Trailers),
            ReplyBody::Whole(bytes, false) if !bytes.is_empty() => (Frame::data(bytes), ReplyBody::Done),
            ReplyBody::Trailers => {
                let trailers = [("grpc-status", "0")]
                    .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)));
                (Frame::trailers(HeaderMap::from_iter(trailers)), ReplyBody::Done)
            }
            ReplyBody::Trickle(false) => (Frame::data(Bytes::from_static(&[0])), ReplyBody::Trickle(true)),
            ReplyBody::Trickle(true) => {
                *self = ReplyBody::Trickle(true);
                return Poll::Pending;
            }
            ReplyBody::Whole(..) | ReplyBody::Done => return Poll::Ready(None),
        };
        *self = next;
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, ReplyBody::Done)
    }
}

/// Waits until `condition` holds; fails with `what` when it does not in time.
#[track_caller]
pub fn until(what: &str, condition: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let place = std::panic::Location::caller();
    let what = what.to_owned();
    let mut condition = condition;
    async move {
        let started = std::time::Instant::now();
        while !condition() {
            assert!(started.elapsed() < PATIENCE, "{place}: waited in vain until {what}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// A port of this machine that nobody listens on.
pub async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

/// The status and body of a page.
pub async fn get(port: u16, path: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// Lets everything run that can run now.
pub async fn rest() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// Moves the clock on at once; what was due by then happens.
pub async fn jump(by: Duration) {
    tokio::time::pause();
    tokio::time::advance(by).await;
    tokio::time::resume();
    rest().await;
}

/// Polls a future at most `polls` times, with everything else running in between, then drops it unless it is done.
pub async fn polled<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = Box::pin(future);
    for _ in 0..polls {
        let once = std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await;
        if let Poll::Ready(output) = once {
            return Some(output);
        }
        rest().await;
    }
    None
}

/// A named pipe that nobody writes to: to open it as a file is opened hangs.
#[cfg(unix)]
pub fn pipe(path: &std::path::Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}
