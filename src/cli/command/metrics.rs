//! The metrics of a program: shown as lines as long as it sends nothing else. Beside requests they would fill the
//! terminal every few seconds; then one line says that they exist.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::diagnostics::log;
use crate::diagnostics::output::PIECE;
use crate::exporters::debug::layout::{Layout, Stream};
use crate::exporters::debug::rates::Rates;
use crate::exporters::debug::{Style, put_lines};
use crate::inspect::feed::{PointKind, View, Viewers};
use crate::inspect::wanted::{Query, Wanted};
use crate::otlp::pieces::Pieces;
use crate::service::Running;
use crate::service::graph::Graph;
use crate::telemetry::Signal;

use super::super::Look;

/// The interval of a look. Metrics are shown at the second look after they came: other signals may follow them.
const LOOK: Duration = Duration::from_millis(500);

const HIDDEN: &str = "misaki: metrics came, too: `misaki tail` and --print line show them\n";

pub(super) struct Metrics {
    /// The passing metrics; `None` if they are not to be shown, or no longer.
    view: Option<View>,
    graph: Graph,
    style: Style,
    rates: Rates,
    have_come: bool,
}

impl Metrics {
    /// Without viewers, nothing is shown.
    pub(super) fn new(viewers: Option<&Arc<Viewers>>, running: &Running, look: Look) -> Metrics {
        let metrics = Query { conditions: vec![(Signal::Metrics, String::new())], ..Query::default() };
        let wanted = || Wanted::of(&metrics).ok();
        let view = viewers.and_then(|viewers| viewers.open(PointKind::Received, wanted()?, None));
        let layout = Layout::of(Stream::Stderr);
        let layout = if look.utc { layout } else { layout.local() };
        let style = Style { escape_newlines: true, layout };
        Metrics { view, graph: running.graph.clone(), style, rates: Rates::default(), have_come: false }
    }

    /// Shows what passes. Cancel safe: shows whole requests.
    pub(super) async fn watch(&mut self) -> Infallible {
        while self.view.is_some() {
            tokio::time::sleep(LOOK).await;
            let could_be_shown = self.have_come;
            self.look(could_be_shown);
        }
        std::future::pending().await
    }

    /// Shows the rest.
    pub(super) fn end(&mut self) {
        self.look(true);
    }

    fn look(&mut self, is_time: bool) {
        let Some(view) = &mut self.view else { return };
        let accepted = |is_metrics: bool| {
            let accounts = self.graph.accounts.iter();
            accounts
                .filter(|account| (account.signal == Signal::Metrics) == is_metrics)
                .any(|account| account.accepted() > 0)
        };
        self.have_come = accepted(true);
        match accepted(false) {
            true if self.have_come => {
                self.view = None;
                log::write(HIDDEN);
            }
            false if is_time => {
                let context = &mut Context::from_waker(Waker::noop());
                while let Poll::Ready(Some(sighting)) = view.poll_next(context) {
                    let parts: Vec<&[u8]> = sighting.pieces.iter().map(|piece| &**piece).collect();
                    let mut text = Vec::new();
                    let mut take = |text: &mut Vec<u8>, _| {
                        log::write(std::mem::take(text));
                        true
                    };
                    let to = &mut Pieces::new(&mut text, PIECE, &mut take);
                    self.style.layout = self.style.layout.measured();
                    put_lines(Signal::Metrics, self.style, &parts, &mut self.rates, to);
                    log::write(text);
                }
            }
            _ => {}
        }
    }
}
