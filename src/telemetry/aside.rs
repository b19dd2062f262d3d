//! Work that would block a worker's connections is done aside, on dedicated threads, while the task that needs it
//! waits.
//!
//! Waiting work keeps its charge in the memory budget, which bounds it. Peers take turns, so a peer with many heavy
//! requests waits for itself only. A task that stops waiting cancels its job, unless the job has begun.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

#[derive(Debug, Default)]
pub struct Aside(Arc<Jobs>);

/// Jobs and the threads that run them. A job is in `peers` once until a thread takes it; `idle` counts threads that
/// wait on `more`. A push starts a thread when the idle ones may not suffice, up to the maximum. Jobs run without the
/// lock.
#[derive(Debug, Default)]
struct Jobs {
    state: Mutex<State>,
    more: Condvar,
}

#[derive(Default)]
struct State {
    /// Waiting jobs by peer, in the order of their turns.
    peers: VecDeque<(Option<IpAddr>, VecDeque<Arc<Job>>)>,
    threads: usize,
    idle: usize,
    is_closed: bool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        let State { peers, threads, idle, .. } = self;
        write!(out, "{} peers wait for {threads} threads, {idle} idle", peers.len())
    }
}

/// A job; `None` once it has begun or was cancelled.
struct Job(Mutex<Option<Work>>);

type Work = Box<dyn FnOnce() + Send>;

/// Cancels the job when dropped.
struct CancelOnDrop(Arc<Job>);

/// One thread on up to two cores, then half the cores, at most four: as many as there are workers.
fn most_threads() -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    (cores / 2).clamp(1, 4)
}

impl Aside {
    /// Waits for the result of `work`; `None` if it panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        peer: Option<IpAddr>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (done, outcome) = oneshot::channel();
        let work = move || {
            let _ = done.send(work());
        };
        let _waiting = CancelOnDrop(self.push(peer, Box::new(work)));
        outcome.await.ok()
    }

    /// Starts work that no task waits for; it reports its own outcome.
    pub(crate) fn start(&self, work: impl FnOnce() + Send + 'static) {
        self.push(None, Box::new(work));
    }

    fn push(&self, peer: Option<IpAddr>, work: Work) -> Arc<Job> {
        let job = Arc::new(Job(Mutex::new(Some(work))));
        if !self.0.push(peer, job.clone()) {
            job.run();
        }
        job
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        self.0.state.lock().is_closed = true;
        self.0.more.notify_all();
    }
}

impl Jobs {
    /// Adds a job; false when no thread runs and none can be started.
    fn push(self: &Arc<Self>, peer: Option<IpAddr>, job: Arc<Job>) -> bool {
        let mut state = self.state.lock();
        if state.idle <= state.peers.len() && state.threads < most_threads() {
            let queue = self.clone();
            let thread = thread::Builder::new().name("misaki-aside".to_owned());
            state.threads += usize::from(thread.spawn(move || queue.work()).is_ok());
        }
        if state.threads == 0 {
            return false;
        }
        match state.peers.iter_mut().find(|(known, _)| *known == peer) {
            Some((_, jobs)) => jobs.push_back(job),
            None => state.peers.push_back((peer, [job].into())),
        }
        self.more.notify_one();
        true
    }

    fn work(&self) {
        while let Some(job) = self.next() {
            job.run();
        }
    }

    /// The first job of the next peer; `None` at the end.
    fn next(&self) -> Option<Arc<Job>> {
        let mut state = self.state.lock();
        loop {
            if state.is_closed {
                return None;
            }
            if let Some((peer, mut jobs)) = state.peers.pop_front() {
                let job = jobs.pop_front();
                if !jobs.is_empty() {
                    state.peers.push_back((peer, jobs));
                }
                return job;
            }
            state.idle += 1;
            self.more.wait(&mut state);
            state.idle -= 1;
        }
    }
}

impl Job {
    fn take(&self) -> Option<Work> {
        self.0.lock().take()
    }

    fn run(&self) {
        let work = self.take();
        // The waiting task notices a panic: its channel is closed.
        let _ = catch_unwind(AssertUnwindSafe(|| work.map(|work| work())));
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        drop(self.0.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, sync_channel};
    use std::time::Duration;

    /// An `Aside` whose threads are all blocked until the senders are dropped.
    async fn busy(aside: &Arc<Aside>) -> Vec<std::sync::mpsc::SyncSender<()>> {
        let mut held = Vec::new();
        for _ in 0..most_threads() {
            let (sender, receiver): (_, Receiver<()>) = sync_channel(1);
            let (begun, has_begun) = oneshot::channel();
            let aside = aside.clone();
            let work = move || {
                let _ = begun.send(());
                let _ = receiver.recv();
            };
            #[expect(clippy::disallowed_methods, reason = "a test")]
            tokio::spawn(async move { aside.run(None, work).await });
            has_begun.await.unwrap();
            held.push(sender);
        }
        held
    }

    #[tokio::test]
    async fn peers_take_turns() {
        let aside = Arc::new(Aside::default());
        let held = busy(&aside).await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let peer = |last: u8| Some(IpAddr::from([127, 0, 0, last]));
        let job = |name: &'static str, last| {
            let (aside, order) = (aside.clone(), order.clone());
            async move { aside.run(peer(last), move || order.lock().push(name)).await }
        };
        let mut jobs = tokio::task::JoinSet::new();
        for (name, last) in [("a1", 1), ("a2", 1), ("a3", 1), ("b1", 2), ("c1", 3), ("b2", 2)] {
            jobs.spawn(job(name, last));
            tokio::task::yield_now().await;
        }
        // One thread stays free, so that the order shows.
        let _others = held.into_iter().skip(1).collect::<Vec<_>>();
        while jobs.join_next().await.is_some() {}
        assert_eq!(*order.lock(), ["a1", "b1", "c1", "a2", "b2", "a3"]);
    }

    #[tokio::test]
    async fn whoever_leaves_takes_its_work_along() {
        let aside = Arc::new(Aside::default());
        let held = busy(&aside).await;
        let load = Arc::new(());
        let with = load.clone();
        let waiting = aside.run(None, move || drop(with));
        assert!(tokio::time::timeout(Duration::from_millis(10), waiting).await.is_err());
        assert_eq!(Arc::strong_count(&load), 1);
        drop(held);
        assert_eq!(aside.run(None, || 7).await, Some(7));
    }

    #[tokio::test]
    async fn a_panic_is_an_answer_and_the_thread_goes_on() {
        let aside = Aside::default();
        let panics = || -> u32 { panic!("on purpose") };
        for _ in 0..2 * most_threads() {
            assert_eq!(aside.run(None, panics).await, None);
        }
        assert_eq!(aside.run(None, || 7).await, Some(7));
    }
}
