//! Threads for tasks that block: the worker's own, at most one a slot.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use celeriac_core::{Error, Result};

type Job = Box<dyn FnOnce() + Send>;

/// A bounded set of threads, started as they are needed and kept until the pool is dropped.
#[derive(Debug)]
pub(crate) struct BlockingPool {
    shared: Arc<Shared>,
    limit: usize,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    threads: usize,
    idle: usize,
    closed: bool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("threads", &self.threads).field("idle", &self.idle).finish_non_exhaustive()
    }
}

impl BlockingPool {
    pub(crate) fn new(limit: usize) -> Self {
        Self { shared: Arc::new(Shared { state: Mutex::default(), wake: Condvar::new() }), limit }
    }

    /// Runs `job` on a thread of the pool. `job` must not panic.
    ///
    /// # Errors
    /// If a thread is needed and the system gives none.
    pub(crate) fn spawn(&self, job: impl FnOnce() + Send + 'static) -> Result<()> {
        let mut state = self.shared.lock();
        state.queue.push_back(Box::new(job));
        if state.idle < state.queue.len() && state.threads < self.limit {
            state.threads += 1;
            let name = format!("celeriac-blocking-{}", state.threads);
            let shared = Arc::clone(&self.shared);
            let spawned = std::thread::Builder::new().name(name).spawn(move || shared.work());
            if let Err(error) = spawned {
                state.threads -= 1;
                if state.threads == 0 {
                    state.queue.clear();
                    return Err(Error::unavailable("run task", "no thread can be started for a blocking task")
                        .with_source(error));
                }
            }
        }
        drop(state);
        self.shared.wake.notify_one();
        Ok(())
    }
}

impl Drop for BlockingPool {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.queue.pop_front() {
                drop(state);
                job();
                state = self.lock();
            } else if state.closed {
                return;
            } else {
                state.idle += 1;
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::mpsc;
    use std::thread::ThreadId;

    use super::*;

    #[test]
    fn no_more_threads_run_than_the_limit() {
        let pool = BlockingPool::new(2);
        let (sender, receiver) = mpsc::channel::<ThreadId>();
        for _ in 0..100 {
            let sender = sender.clone();
            pool.spawn(move || sender.send(std::thread::current().id()).unwrap()).unwrap();
        }
        let threads: HashSet<_> = receiver.iter().take(100).collect();
        assert!(threads.len() <= 2, "{threads:?}");
    }
}
