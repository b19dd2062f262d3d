//! The one timekeeper: wakes every stage that wants waking, at the time it asked for.

use std::sync::Arc;
use std::time::Duration;

use crate::telemetry::{Alarm, Now, Wakeful, clock};

/// Runs until it is dropped.
pub async fn keep_time(alarm: Arc<Alarm>, stages: Vec<Arc<dyn Wakeful>>) {
    loop {
        // While it looks, every stage that wants waking rings.
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
            () = alarm.earlier() => continue,
        }
        let now = Now::read();
        for stage in &stages {
            if stage.wake_at().is_some_and(|at| at <= now.instant) {
                let wake = std::panic::AssertUnwindSafe(|| stage.wake(now));
                if std::panic::catch_unwind(wake).is_err() {
                    tracing::error!("a stage failed while it was woken; its telemetry stays where it is");
                }
            }
        }
    }
}
