//! Overload makes no work: what is refused costs places asked for, and nothing else is done or said again.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use misaki::face::config::{ComponentId, PipelineId};
use misaki::face::diagnostics::Page;
use misaki::face::pipeline::{Branches, End, Next, Segment, Step, keep_time};
use misaki::face::processors::batch::{self, Batch};
use misaki::face::processors::{Notes, Processor, Role, Stage, StageParts};
use misaki::face::service::Plan;
use misaki::face::telemetry::{
    Account, Accounts, Alarm, Ask, Bill, Budget, Charge, Full, Load, Now, Outlet, Part, Place, Reason, Refusal, Share,
    Signal, Sink, Tap, Telemetry, Wakeful,
};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::harness::*;

const SECOND: Duration = Duration::from_secs(1);

/// A processor that counts its runs, and has no room as long as it is told so.
#[derive(Default)]
struct Counting {
    runs: AtomicU64,
    published: AtomicU64,
    is_busy: AtomicBool,
}

impl Processor for Counting {
    fn process(&self, telemetry: Telemetry, _: Now, _: &mut Notes) -> Result<Option<Telemetry>, Refusal> {
        self.runs.fetch_add(1, Relaxed);
        match self.is_busy.load(Relaxed) {
            true => Err(Refusal::busy(Reason::MemoryFull)),
            false => Ok(Some(telemetry)),
        }
    }

    fn publish(&self, _: &Notes) {
        self.published.fetch_add(1, Relaxed);
    }
}

/// A sink that refuses, counts how often it is asked, and says when it has room.
struct Refusing {
    refuses: AtomicBool,
    asked: AtomicU64,
    items: AtomicU64,
    room: Notify,
}

impl Sink for Refusing {
    fn reserve(&self, _: &Telemetry, _: Load, _: Ask) -> Result<(), Full> {
        self.asked.fetch_add(1, Relaxed);
        match self.refuses.load(Relaxed) {
            true => Err(Full::Refuse(Refusal::busy(Reason::QueueFull))),
            false => Ok(()),
        }
    }

    fn release(&self, _: Load) {}

    fn commit(&self, _: Telemetry, load: Load) {
        self.items.fetch_add(load.items, Relaxed);
    }

    fn room(&self) -> &Notify {
        &self.room
    }

    fn answers(&self, _: bool) -> bool {
        false
    }

    fn skip(&self, _: &Telemetry) {}
}

/// A `batch` of ten for logs and metrics, a `tail_sampling` that keeps all for traces.
pub fn stage(
    signal: Signal,
    outlet: Arc<dyn Outlet>,
    accounts: Accounts,
    budget: &Arc<Budget>,
    alarm: &Arc<Alarm>,
) -> (Arc<dyn Stage>, Arc<dyn Sink>) {
    if signal == Signal::Traces {
        let text = "yaml:{receivers: {otlp: {protocols: {grpc: }}}, exporters: {nop: }, processors: {tail_sampling: {decision_wait: 1s, policies: [{name: all, type: always_sample}]}}, service: {pipelines: {traces: {receivers: [otlp], processors: [tail_sampling], exporters: [nop]}}}}";
        let plan = Plan::read(&misaki::face::config::load(&[text.to_owned()], &[], &|_| None));
        let id = ComponentId::parse("tail_sampling").unwrap();
        let Role::Stage(factory) = plan.processor(&id).unwrap().role() else { panic!("it holds nothing") };
        let (budget, alarm) = (budget.clone(), alarm.clone());
        let stage = factory.build(StageParts { id: "tail", signal, outlet, accounts, budget, alarm });
        return (stage.clone(), stage);
    }
    let config = batch::Config {
        timeout: SECOND,
        send_batch_size: 10,
        send_batch_max_size: 0,
        metadata_keys: Vec::new(),
        metadata_cardinality_limit: 0,
    };
    let (budget, alarm) = (budget.clone(), alarm.clone());
    let stage = Arc::new(Batch::new(config, StageParts { id: "batch", signal, outlet, accounts, budget, alarm }));
    (stage.clone(), stage)
}

/// A stage with the counting processor and the refusing sink behind it, and its timekeeper.
struct Scene {
    stage: Arc<dyn Stage>,
    sink: Arc<dyn Sink>,
    counting: Arc<Counting>,
    full: Arc<Refusing>,
    step: Arc<Step>,
    budget: Arc<Budget>,
    _time: JoinSet<()>,
}

impl Scene {
    fn start(signal: Signal) -> Scene {
        let (budget, alarm) = (Budget::new(64 << 20), Alarm::new());
        let (counting, tap) = (Arc::<Counting>::default(), Arc::<Tap>::default());
        let account = Arc::new(Account::new("full", signal, tap, Arc::<Bill>::default()));
        let accounts: Accounts = vec![account];
        let full = Refusing {
            refuses: AtomicBool::new(true),
            asked: AtomicU64::new(0),
            items: AtomicU64::new(0),
            room: Notify::new(),
        };
        let full = Arc::new(full);
        let step = Arc::new(Step {
            pipeline: PipelineId { signal, name: String::new() },
            id: "counting".to_owned(),
            signal,
            processor: counting.clone(),
            accounts: accounts.clone(),
            incoming: Default::default(),
            outgoing: Default::default(),
        });
        let segment = Segment { steps: vec![step.clone()], ends: vec![End::Sink(full.clone())] };
        let next = Arc::new(Next::default());
        next.set(Some(Arc::new(Branches::new(vec![Arc::new(segment)], accounts.clone()))));
        let (stage, sink) = stage(signal, next, accounts, &budget, &alarm);
        let stages = vec![stage.clone() as Arc<dyn Wakeful>];
        let mut time = JoinSet::new();
        time.spawn(async move { match keep_time(&alarm, &stages).await {} });
        Scene { stage, sink, counting, full, step, budget, _time: time }
    }

    /// Ten items, or a refusal.
    fn send(&self, signal: Signal) -> bool {
        let wire = request(signal, &["a"; 10]);
        let charge = Charge::take(&self.budget, Share::Ingest, wire.len() as u64).unwrap();
        let parts = [Part::new(wire, 10, charge)].into_iter().collect();
        let telemetry = Telemetry { signal, parts, client: None, received: Now::read(), tickets: Default::default() };
        let place = Place::reserve(&self.sink, &telemetry, 0, Ask { alone: true, waited: true, is_end: false });
        place.map(|place| place.fill(telemetry)).is_ok()
    }

    fn runs(&self) -> u64 {
        self.counting.runs.load(Relaxed)
    }

    fn asked(&self) -> u64 {
        self.full.asked.load(Relaxed)
    }
}

/// The processors behind a stage run once on what it hands on, for however long and however often it is refused; places are
/// asked for seldom, and at once when there is room. What they did counts once, when it is handed on.
#[tokio::test(start_paused = true)]
async fn processors_behind_a_stage_run_once() {
    for signal in [Signal::Logs, Signal::Traces] {
        let scene = Scene::start(signal);
        assert!(scene.send(signal));
        tokio::time::sleep(2 * SECOND).await;
        assert_eq!((scene.runs(), scene.stage.held_items()), (1, 10), "{signal:?}");
        // Nobody comes for an hour.
        let asked = scene.asked();
        tokio::time::sleep(3600 * SECOND).await;
        assert_eq!((scene.runs(), scene.counting.published.load(Relaxed)), (1, 0), "{signal:?}");
        assert!((3000..4000).contains(&(scene.asked() - asked)), "{signal:?}: asked {} times", scene.asked() - asked);
        // Clients that come again and again.
        if signal == Signal::Logs {
            let (started, asked) = (Instant::now(), scene.asked());
            for _ in 0..10_000 {
                assert!(!scene.send(signal));
            }
            assert!(started.elapsed() < 5 * SECOND, "{:?} for each refusal", started.elapsed() / 10_000);
            assert_eq!((scene.runs(), scene.asked() - asked), (1, 10_000));
        }
        assert_eq!(scene.step.incoming.items(), 0, "{signal:?}");
        scene.full.refuses.store(false, Relaxed);
        scene.full.room.notify_waiters();
        let started = tokio::time::Instant::now();
        while scene.stage.held_items() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(started.elapsed() < Duration::from_millis(20), "{signal:?}: {:?}", started.elapsed());
        assert_eq!((scene.runs(), scene.counting.published.load(Relaxed)), (1, 1), "{signal:?}");
        assert_eq!((scene.step.incoming.items(), scene.full.items.load(Relaxed)), (10, 10), "{signal:?}");
    }
}

/// Processors without room for a batch are asked again at growing pauses, whoever comes meanwhile.
#[tokio::test(start_paused = true)]
async fn processors_that_refuse_are_asked_seldom() {
    for signal in [Signal::Logs, Signal::Traces] {
        let scene = Scene::start(signal);
        scene.counting.is_busy.store(true, Relaxed);
        assert!(scene.send(signal));
        tokio::time::sleep(2 * SECOND).await;
        let runs = scene.runs();
        for _ in 0..1000 {
            scene.send(Signal::Logs);
        }
        assert_eq!(scene.runs(), runs, "{signal:?}");
        tokio::time::sleep(60 * SECOND).await;
        assert!((50..70).contains(&(scene.runs() - runs)), "{signal:?}: {} times in a minute", scene.runs() - runs);
        scene.counting.is_busy.store(false, Relaxed);
        scene.full.refuses.store(false, Relaxed);
        tokio::time::sleep(3 * SECOND).await;
        assert_eq!(scene.stage.held_items(), 0, "{signal:?}");
    }
}

/// Lines of the log, kept.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A metric by the beginning of its line.
fn metric(misaki: &Misaki, start: &str) -> u64 {
    let mut page = Page::default();
    misaki.running.graph.observers().iter().for_each(|observer| observer.observe(&mut page));
    let text = page.text();
    let found = text.lines().filter(|line| line.starts_with(start)).filter_map(|line| line.rsplit_once(' '));
    found.map(|(_, value)| value.parse::<u64>().unwrap()).sum()
}

/// Upstreams that are dead, slow, that come and go, and that refuse; a full queue before each; and clients that retry at once.
/// What is refused is counted as refused, nothing is lost, and nobody works or speaks more than there is to do.
#[tokio::test]
async fn overload_makes_no_work() {
    const REFUSED: u64 = 300;
    let flapping = || {
        let mut turn = 0;
        move |_: &Arrival| {
            turn += 1;
            if turn % 2 == 0 { Reply::Accept } else { Reply::Grpc(14, "busy", None) }
        }
    };
    for case in ["dead", "slow", "flapping", "refusing"] {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        let upstream = match case {
            "dead" => Upstream::replying(Reply::Grpc(14, "away", None)).await,
            "slow" => Upstream::replying(Reply::Hang).await,
            "flapping" => Upstream::scripted(flapping()).await,
            _ => Upstream::replying(Reply::Grpc(7, "no", None)).await,
        };
        let changes = r#"{
            processors: {
                batch: {timeout: 10ms, send_batch_size: 10},
                transform: {log_statements: ['set(log.attributes["at"], String(UnixNano(Now())))']}
            },
            exporters: {otlp: {timeout: 0s, sending_queue: {queue_size: 2, num_consumers: 1}, retry_on_failure: {initial_interval: 1s, max_interval: 1s}}},
            service: {pipelines: {logs: {processors: [batch, transform]}}}
        }"#;
        let mut misaki = Misaki::start(changes, &[&upstream]).await;
        let (mut accepted, mut refused) = (0, 0);
        while refused < REFUSED {
            match misaki.submit(Signal::Logs, &["a"; 10]).await {
                Ok(()) => accepted += 10,
                Err(refusal) => {
                    refused += 1;
                    let message = refusal.answer().status.message;
                    assert_eq!(message, "sending queue is full (queue_size: 2 of 2 requests)", "{case}");
                }
            }
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        misaki.check();
        let counted = |name: &str| metric(&misaki, &format!("otelcol_{name}"));
        assert_eq!(counted("receiver_accepted_log_records"), accepted, "{case}");
        assert_eq!(counted("receiver_refused_log_records"), refused * 10, "{case}");
        assert_eq!(counted("exporter_enqueue_failed_log_records"), 0, "{case}: nothing is lost");
        assert_eq!(counted("exporter_send_failed_log_records"), 0, "{case}");
        // What the processors behind `batch` did counts where it was handed on: all but the batch that is held.
        let through = counted("processor_incoming_items");
        assert!(through == accepted || through + 10 == accepted, "{case}: {through} of {accepted}");
        assert!(upstream.requests() as u64 <= 10 + accepted / 10 * 2, "{case}: {} requests", upstream.requests());
        let said = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        // Of an upstream that comes and goes, `sending` tells.
        let said: Vec<_> = said.lines().filter(|line| case != "flapping" || !line.contains("exporter is ")).collect();
        assert!(said.len() <= 2, "{case}: {said:#?}");
        upstream.script(|_| Reply::Accept);
        upstream.release();
        let mut balance = misaki.running.balance();
        if case != "refusing" {
            misaki.settle().await;
            balance = misaki.finish().await;
            assert_eq!(balance[0].exported, accepted, "{case}");
        }
        assert_eq!(balance[0].dropped, [], "{case}");
    }
}

/// A share that is dropped because its queue is stuck was never in it: that is what `enqueue_failed` counts, once.
#[tokio::test]
async fn what_never_came_into_a_queue_is_counted_once() {
    let (stuck, healthy) = (Upstream::replying(Reply::Hang).await, Upstream::start().await);
    let changes = "{exporters: {otlp: {timeout: 0s, sending_queue: {queue_size: 1, num_consumers: 1}}}, service: {pipelines: {logs: {exporters: [otlp, otlp/2]}}}}";
    let mut misaki = Misaki::start(changes, &[&stuck, &healthy]).await;
    assert!(misaki.send(&["a"]).await.ok);
    for _ in 0..50 {
        assert!(!misaki.send(&["b"]).await.ok);
    }
    let failed = |misaki: &Misaki| metric(misaki, "otelcol_exporter_enqueue_failed_log_records{exporter=\"otlp\"}");
    assert_eq!(failed(&misaki), 0, "their clients still have them");
    jump(31 * SECOND).await;
    for _ in 0..5 {
        assert!(misaki.send(&["c"]).await.ok);
    }
    assert_eq!(failed(&misaki), 5);
    stuck.release();
    misaki.settle().await;
    misaki.finish().await;
}

/// A refusal names the limit that is full, and so do the log and health.
#[tokio::test]
async fn a_refusal_names_the_limit_that_is_full() {
    let cases = [
        ("{queue_size: 2}", "sending queue is full (queue_size: 2 of 2 requests)"),
        ("{queue_size: 30, sizer: items}", "sending queue is full (queue_size: 30 of 30 items)"),
        ("{queue_size: 2000000}", "data refused due to high memory usage (memory for queues: "),
    ];
    for (queue, expected) in cases {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        let upstream = Upstream::replying(Reply::Grpc(14, "away", None)).await;
        let changes = format!(
            "{{exporters: {{otlp: {{sending_queue: {queue}, retry_on_failure: {{initial_interval: 70s, max_interval: 70s}}}}}}}}"
        );
        let misaki = Misaki::start(&changes, &[&upstream]).await;
        let long = "x".repeat(if expected.contains("memory") { 200_000 } else { 10 });
        let refusal = loop {
            if let Err(refusal) = misaki.submit(Signal::Logs, &[long.as_str(); 10]).await {
                break refusal;
            }
            rest().await;
        };
        let message = refusal.answer().status.message;
        assert!(message.starts_with(expected), "{queue}: {message}");
        jump(6 * SECOND).await;
        let why = misaki.running.health.verdict().unwrap_err();
        assert_eq!(why, format!("otlp: {}", expected.split(" (").next().unwrap()));
        // The next attempt says that it is still down, and what is full.
        jump(120 * SECOND).await;
        until("it is tried again", || upstream.requests() > 1).await;
        rest().await;
        let said = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let (limit, full) = match queue.contains("2000000") {
            true => ("of memory for queues", 90..=100),
            false => ("of queue_size", 100..=100),
        };
        let last =
            said.lines().rfind(|line| line.contains("exporter is still down")).unwrap_or_else(|| panic!("{said}"));
        let (percent, rest) = last.split_once("queue=").unwrap().1.split_once(" % ").unwrap();
        let percent: u64 = percent.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap();
        assert!(full.contains(&percent) && rest.starts_with(limit), "{queue}: {last}");
    }
}
