//! Where receivers submit requests: one gate for each receiver, transport and signal.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::diagnostics::metrics::{Observe, Page};
use crate::telemetry::{
    Ask, Budget, Full, Intake, Passed, Point, Reason, Receipt, Refusal, Signal, Submission, Tally, Tap, Telemetry,
    clock,
};

use super::{Branches, Next, Plan, Reserved};

/// The entrance to the pipelines for one receiver, transport and signal.
pub struct Gate {
    pub(crate) receiver: String,
    pub(crate) transport: &'static str,
    pub(crate) signal: Signal,
    pub(crate) next: Next,
    tap: Arc<Tap>,
    budget: Arc<Budget>,
    counts: Arc<Counts>,
}

/// Items of requests that were accepted and refused.
#[derive(Default)]
struct Counts {
    accepted: Passed,
    refused: AtomicU64,
}

impl Gate {
    /// A gate that refuses requests until branches are set.
    pub(crate) fn new(
        receiver: &str,
        transport: &'static str,
        signal: Signal,
        tap: Arc<Tap>,
        budget: Arc<Budget>,
    ) -> Gate {
        let receiver = receiver.to_owned();
        Gate { receiver, transport, signal, next: Next::default(), tap, budget, counts: Arc::default() }
    }

    /// What was accepted so far, and the items that were refused.
    pub(crate) fn counts(&self) -> (&Passed, u64) {
        (&self.counts.accepted, self.counts.refused.load(Relaxed))
    }

    async fn take(&self, telemetry: Telemetry, peer: Option<IpAddr>) -> Result<(), Refusal> {
        let items = telemetry.items();
        if items == 0 {
            return Ok(());
        }
        self.tap.look(Point::Received, &telemetry);
        let receipt = self.hand_in(telemetry, peer).await.inspect_err(|_| self.counts.refuse(items))?;
        match receipt {
            Some(receipt) => receipt.wait().await,
            None => Ok(()),
        }
    }

    /// Tallies the services, runs the processors and commits to all sinks: on the worker if that is little work, else
    /// aside.
    async fn hand_in(&self, telemetry: Telemetry, peer: Option<IpAddr>) -> Result<Option<Receipt>, Refusal> {
        let (now, size) = (telemetry.received, telemetry.size());
        let branches = self.next.get().ok_or_else(|| Refusal::busy(Reason::Draining))?;
        let counts = self.counts.clone();
        let tally = Tally::at_once(&telemetry);
        let at_once = tally.and_then(|tally| Some((tally, branches.plan_at_once(&telemetry, now)?)));
        // What takes long or waits is in a box of its own, so that a request that does neither is small.
        let Some((tally, plan)) = at_once else {
            return Box::pin(self.hand_in_aside(branches, telemetry, peer)).await;
        };
        drop(telemetry);
        let plan = plan?;
        let commit = move |plan, reserved| branches.commit(plan, reserved, size, &tally, counts);
        match plan.reserve(clock(), Ask::default()) {
            Ok(reserved) => Ok(commit(plan, reserved)),
            Err((Full::Wait { .. }, _)) => {
                Box::pin(async move {
                    let reserved = self.reserve(&plan).await?;
                    Ok(commit(plan, reserved))
                })
                .await
            }
            Err((Full::Refuse(refusal), _)) => Err(refusal),
        }
    }

    async fn hand_in_aside(
        &self,
        branches: Arc<Branches>,
        telemetry: Telemetry,
        peer: Option<IpAddr>,
    ) -> Result<Option<Receipt>, Refusal> {
        let (now, size, counts) = (telemetry.received, telemetry.size(), self.counts.clone());
        let aside = &self.budget.aside;
        let ways = branches.clone();
        let work = move || Ok((Tally::of(&telemetry), ways.plan(telemetry, now)?));
        let (tally, plan) = aside.run(peer, work).await.unwrap_or(Err(Refusal::Internal))?;
        let reserved = self.reserve(&plan).await?;
        let work = move || branches.commit(plan, reserved, size, &tally, counts);
        aside.run(peer, work).await.ok_or(Refusal::Internal)
    }

    /// Reserves a place in every sink. Before it waits for one, all other places are given back.
    async fn reserve(&self, plan: &Plan) -> Result<Reserved, Refusal> {
        let (mut waited, mut deadline) = (false, None);
        loop {
            let (sink, most) = match plan.reserve(clock(), Ask { waited, ..Ask::default() }) {
                Ok(reserved) => return Ok(reserved),
                Err((Full::Refuse(refusal), _)) => return Err(refusal),
                Err((Full::Wait { most }, sink)) => (sink, most),
            };
            let mut room = std::pin::pin!(sink.room().notified());
            room.as_mut().enable();
            // Try again after registering for the notification, to miss neither this sink's room nor a change to
            // another full sink.
            match plan.reserve(clock(), Ask { waited, ..Ask::default() }) {
                Err((Full::Wait { .. }, full)) if Arc::ptr_eq(&full, &sink) => {}
                _ => continue,
            }
            match most {
                None => room.await,
                Some(most) => {
                    let until = *deadline.get_or_insert_with(|| tokio::time::Instant::now() + most);
                    waited = tokio::time::timeout_at(until, room).await.is_err();
                    // A sink may ask for another wait; its time starts anew.
                    deadline = deadline.filter(|_| !waited);
                }
            }
        }
    }
}

impl Counts {
    fn refuse(&self, items: u64) {
        self.refused.fetch_add(items, Relaxed);
    }
}

impl Branches {
    /// Accepts a request and hands it to all its sinks. The client waits for the receipt, if there is one; until it is
    /// complete a disk may still refuse the request, even after the client has disconnected.
    fn commit(
        &self,
        plan: Plan,
        reserved: Reserved,
        size: (u64, u64),
        tally: &Tally,
        counts: Arc<Counts>,
    ) -> Option<Receipt> {
        let receipt = if self.answers(false) {
            Some(Receipt::calling(move |outcome| match outcome {
                None | Some(Err(Refusal::Busy { .. })) => counts.refuse(size.0),
                Some(_) => counts.accepted.add(size),
            }))
        } else {
            counts.accepted.add(size);
            None
        };
        // Open until the end: a plan may leave nothing for any sink.
        let ticket = receipt.as_ref().map(Receipt::ticket);
        for account in &self.accounts {
            account.accept(size.0);
        }
        if let Some(account) = self.accounts.first() {
            account.bill.accept(tally, self.accounts.len());
        }
        plan.commit(reserved, receipt.as_ref(), false);
        if let Some(ticket) = ticket {
            ticket.resolve(Ok(()));
        }
        receipt
    }
}

impl Intake for Gate {
    fn signal(&self) -> Signal {
        self.signal
    }

    fn is_open(&self) -> bool {
        self.next.get().is_some()
    }

    fn submit_from(&self, peer: Option<IpAddr>, telemetry: Telemetry) -> Submission<'_> {
        Box::pin(self.take(telemetry, peer))
    }
}

impl Observe for Gate {
    fn observe(&self, page: &mut Page) {
        let (accepted, refused) = self.counts();
        let accepted = accepted.items();
        if accepted + refused > 0 {
            let labels = [("receiver", self.receiver.as_str()), ("transport", self.transport)];
            let items = self.signal.items_name();
            page.counter(&format!("otelcol_receiver_accepted_{items}"), &labels, accepted);
            page.counter(&format!("otelcol_receiver_refused_{items}"), &labels, refused);
            page.counter(&format!("otelcol_receiver_failed_{items}"), &labels, 0);
        }
    }
}
