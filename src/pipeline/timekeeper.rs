//! The timekeeper wakes each stage at the time it asked for, or when a sink it waits for has room.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::futures::Notified;

use crate::telemetry::{Alarm, Now, Sink, Wakeful, clock};

/// Minimum pause between two checks for room.
const AT_MOST: Duration = Duration::from_millis(2);

type Stages<'a> = &'a [Arc<dyn Wakeful>];

/// Runs until it is dropped.
pub async fn keep_time(alarm: &Alarm, stages: Stages<'_>) -> Infallible {
    loop {
        let full = full_sinks(stages);
        let rooms: Vec<_> = full.iter().map(|sink| enabled(sink.room().notified())).collect();
        // The loop below sees alarms that ring meanwhile. A stage that waits for room may have missed the notification,
        // so wake now.
        alarm.expect(Some(clock()));
        wake(stages);
        // While it computes the next time, every alarm wakes it.
        alarm.expect(None);
        let next = stages.iter().filter_map(|stage| stage.wake_at()).min();
        alarm.expect(next);
        let sleep = async {
            match next {
                Some(at) => tokio::time::sleep_until(at.max(clock() + Duration::from_millis(1)).into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = sleep => {}
            () = any(rooms), if !full.is_empty() => {}
            () = alarm.earlier() => {}
        }
    }
}

/// Wakes stages that are due, and stages that wait for room.
fn wake(stages: Stages) {
    let now = Now::read();
    for stage in stages {
        let is_due = stage.wake_at().is_some_and(|at| at <= now.instant) || !stage.waits_for().is_empty();
        if is_due && catch_unwind(AssertUnwindSafe(|| stage.wake(now))).is_err() {
            tracing::error!("a stage failed by an internal error while it was woken");
        }
    }
}

/// The sinks that stages wait for, without duplicates.
fn full_sinks(stages: Stages) -> Vec<Arc<dyn Sink>> {
    let mut full: Vec<Arc<dyn Sink>> = Vec::new();
    for sink in stages.iter().flat_map(|stage| stage.waits_for()) {
        if !full.iter().any(|known| Arc::ptr_eq(known, &sink)) {
            full.push(sink);
        }
    }
    full
}

fn enabled(room: Notified<'_>) -> Pin<Box<Notified<'_>>> {
    let mut room = Box::pin(room);
    room.as_mut().enable();
    room
}

/// Waits until one of the sinks has room.
async fn any(mut rooms: Vec<Pin<Box<Notified<'_>>>>) {
    tokio::time::sleep(AT_MOST).await;
    std::future::poll_fn(|context| {
        let has_room = rooms.iter_mut().any(|room| room.as_mut().poll(context).is_ready());
        if has_room { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
