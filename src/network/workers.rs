//! The workers: current-thread runtimes that share the graph. There is no work stealing; a socket stays on its worker.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::diagnostics::supervisor::{Supervisor, Watch};

/// The runtimes of all workers. Dropping it stops the ones it started.
pub struct Workers {
    /// Watches the tasks that run on them.
    pub supervisor: Arc<Supervisor>,
    workers: Vec<Worker>,
    _threads: Vec<Thread>,
}

/// A current-thread runtime on its own thread, until it is dropped.
pub(crate) struct Thread {
    pub(crate) handle: Handle,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

pub(crate) struct Worker {
    pub(crate) handle: Handle,
    sockets: Served,
}

/// Cloned for each socket that a worker serves: the count is its load.
type Served = Arc<()>;

impl Workers {
    /// The current runtime and `count - 1` further threads.
    pub fn start(count: usize) -> io::Result<Workers> {
        let mut workers = vec![Worker { handle: Handle::current(), sockets: Served::default() }];
        let mut threads = Vec::new();
        let supervisor = Arc::<Supervisor>::default();
        for index in 1..count {
            let watch = supervisor.watch(format!("worker {index}"));
            let thread = Thread::start(format!("misaki-{index}"), watch)?;
            workers.push(Worker { handle: thread.handle.clone(), sockets: Served::default() });
            threads.push(thread);
        }
        Ok(Workers { supervisor, workers, _threads: threads })
    }

    /// The default number of workers: one on up to two cores, then half the cores, at most four.
    pub(crate) fn default_count() -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        (cores / 2).clamp(1, 4)
    }

    pub(crate) fn handles(&self) -> Vec<Handle> {
        self.workers.iter().map(|worker| worker.handle.clone()).collect()
    }

    /// The worker with the fewest sockets.
    pub(crate) fn least_loaded(&self) -> &Worker {
        let least = self.workers.iter().min_by_key(|worker| Arc::strong_count(&worker.sockets));
        least.expect("there is always the first worker")
    }
}

impl Worker {
    pub(crate) fn serve(&self) -> Served {
        self.sockets.clone()
    }
}

impl Thread {
    pub(crate) fn start(name: String, watch: Watch) -> io::Result<Thread> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        // `stopped` ends when the sender is dropped.
        let work = move || {
            runtime.block_on(async { tokio::select!(_ = stopped => (), never = watch.fails() => match never {}) });
            // Blocking file reads may hang; do not wait for them.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name(name).spawn(work)?;
        Ok(Thread { handle, running: Some((stop, thread)) })
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            drop(stop);
            // A panicked thread has already reported it.
            let _ = thread.join();
        }
    }
}
