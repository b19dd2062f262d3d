//! Whole ways of a request, from a client's socket to the upstream's, in exact counts.

use misaki::telemetry::Signal;

use super::harness::*;

#[tokio::test]
async fn what_is_sent_arrives() {
    for via in [Via::Grpc, Via::Http, Via::Json] {
        let upstream = Upstream::start().await;
        let changes = "service: {pipelines: {metrics: {receivers: [otlp], exporters: [otlp]}, traces: {receivers: [otlp], exporters: [otlp]}}}";
        let mut misaki = Misaki::start(changes, &[&upstream]).await;
        for signal in Signal::ALL {
            assert!(misaki.send_by(via, signal, &["a", "b"]).await.ok);
        }
        misaki.settle().await;
        assert_eq!(upstream.kept(), ["a", "b", "a", "b", "a", "b"]);
        let balance = misaki.finish().await;
        assert!(balance.iter().all(|line| (line.accepted, line.exported, line.left) == (2, 2, 0)), "{balance:?}");
    }
}
