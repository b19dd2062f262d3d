//! The workers: current-thread runtimes that share the graph. No work is stolen; a socket stays where it was dealt.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// The runtimes of all workers. Dropping it stops those that it started.
pub struct Workers {
    workers: Vec<Worker>,
    threads: Vec<(oneshot::Sender<()>, JoinHandle<()>)>,
}

#[derive(Clone)]
pub struct Worker {
    pub handle: Handle,
    load: Arc<AtomicUsize>,
}

/// One socket that a worker serves; the worker's load goes down when it is dropped.
pub struct Served(Arc<AtomicUsize>);

impl Workers {
    /// The current runtime and `count - 1` further threads.
    pub fn start(count: usize) -> io::Result<Workers> {
        let mut workers = vec![Worker { handle: Handle::current(), load: Arc::default() }];
        let mut threads = Vec::new();
        for index in 1..count {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            workers.push(Worker { handle: runtime.handle().clone(), load: Arc::default() });
            let (stop, stopped) = oneshot::channel::<()>();
            let name = format!("misaki-{index}");
            let run = move || {
                // Ends when the sender is dropped.
                let _ = runtime.block_on(stopped);
            };
            threads.push((stop, std::thread::Builder::new().name(name).spawn(run)?));
        }
        Ok(Workers { workers, threads })
    }

    /// How many workers suit this machine: one on up to two cores, then half the cores, at most four.
    pub fn default_count() -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        (cores / 2).clamp(1, 4)
    }

    /// The worker with the fewest sockets.
    pub fn least_loaded(&self) -> &Worker {
        let least = self.workers.iter().min_by_key(|worker| worker.load.load(Relaxed));
        least.expect("there is always the first worker")
    }
}

impl Worker {
    pub fn serve(&self) -> Served {
        self.load.fetch_add(1, Relaxed);
        Served(self.load.clone())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for (stop, thread) in self.threads.drain(..) {
            drop(stop);
            // A worker that panicked has said so; there is nothing to add at the end.
            let _ = thread.join();
        }
    }
}
