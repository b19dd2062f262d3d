//! What the collector tells beside what it receives: its status each second, and what passes at the points that
//! somebody looks at.

use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::{sleep, timeout};

use super::super::local::{self, failed};
use super::super::{Failure, tail};
use super::Shared;
use crate::inspect::feed::PointKind;
use crate::telemetry::clock;

/// The interval of statuses, and of looks whether somebody looks at a point.
const EVERY: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(250);
/// A point is shown with what passed there lately, where the collector keeps that.
const PAST: &str = "&since=600000";

/// Fills the store until the collector goes away.
pub(super) async fn watch(path: &Path, store: &Shared) -> Result<Infallible, Failure> {
    tokio::select! {
        ended = status(path, store) => ended,
        never = tap(path, store, PointKind::Leaving, "") => match never {},
        never = tap(path, store, PointKind::Dropped, PAST) => match never {},
        never = tap(path, store, PointKind::Filtered, "") => match never {},
    }
}

async fn status(path: &Path, store: &Shared) -> Result<Infallible, Failure> {
    loop {
        let text = local::ask(path, "/status").await?.whole().await?;
        let status = serde_json::from_slice(&text);
        let status = status.map_err(|error| failed(format!("cannot read what the collector says: {error}")))?;
        store.lock().await.tell(status, clock());
        sleep(EVERY).await;
    }
}

/// Attaches while somebody looks. Without an answer it asks again: it is not the connection that all else needs.
async fn tap(path: &Path, store: &Shared, point: PointKind, past: &str) -> Infallible {
    let is_wanted = async || store.lock().await.tapped.is_wanted(point, clock());
    let (page, mut past) = (format!("/tail?at={}", point.name()), past);
    loop {
        while !is_wanted().await {
            sleep(LOOK).await;
        }
        if let Ok(mut answer) = local::ask(path, &format!("{page}{past}")).await {
            past = "";
            let mut buffer = BytesMut::new();
            while is_wanted().await {
                match timeout(EVERY, tail::next(&mut answer, &mut buffer)).await {
                    Ok(Ok(Some(sighting))) => {
                        store.lock().await.tap(point, sighting.signal, sighting.heading, &sighting.wire)
                    }
                    Ok(_) => break,
                    Err(_) => {}
                }
                tokio::task::coop::consume_budget().await;
            }
        }
        sleep(LOOK).await;
    }
}
