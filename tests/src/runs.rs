//! Tasks that count how often they run, and the apps and workers of theirs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use celeriac::prelude::*;
use celeriac::{AppBuilder, Requeue, ShutdownHandle};
use tokio::task::JoinHandle;

/// The time that whatever must come comes within, on any machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often a task ran.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// In all.
    pub all: u32,
    /// Of a message that was delivered before.
    pub redelivered: u32,
}

/// Each task's runs, by its number. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Runs(Arc<Mutex<BTreeMap<u64, Times>>>);

impl Runs {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Times>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a run of task `n`: the first one is 1.
    fn count(&self, cx: &TaskContext, n: u64) -> u32 {
        let mut runs = self.lock();
        let times = runs.entry(n).or_default();
        times.all += 1;
        times.redelivered += u32::from(cx.redelivered());
        times.all
    }

    /// How many tasks have run.
    #[must_use]
    pub fn done(&self) -> usize {
        self.lock().len()
    }

    /// How often all tasks together ran.
    #[must_use]
    pub fn all(&self) -> u64 {
        self.lock().values().map(|times| u64::from(times.all)).sum()
    }

    /// How often task `n` ran.
    #[must_use]
    pub fn of(&self, n: u64) -> Times {
        self.lock().get(&n).copied().unwrap_or_default()
    }
}

/// Doubles `n`.
#[celeriac::task]
pub async fn twice(cx: &TaskContext, runs: State<Runs>, n: u64) -> u64 {
    let _ = runs.count(cx, n);
    n * 2
}

/// Fails.
///
/// # Errors
/// Always.
#[celeriac::task]
pub async fn fails(cx: &TaskContext, runs: State<Runs>, n: u64) -> TaskResult<u64> {
    let _ = runs.count(cx, n);
    Err(TaskError::new(format!("task {n} always fails")))
}

/// Doubles `n`, and tells of its progress before.
#[celeriac::task]
pub async fn progresses(cx: &TaskContext, runs: State<Runs>, n: u64) -> u64 {
    let _ = runs.count(cx, n);
    cx.progress(1, 2);
    n * 2
}

/// Doubles `n`; acknowledged before it runs.
#[celeriac::task(acks_late = false)]
pub async fn early(cx: &TaskContext, runs: State<Runs>, n: u64) -> u64 {
    let _ = runs.count(cx, n);
    n * 2
}

/// Is handed back the first time; doubles `n` then.
///
/// # Errors
/// The first time.
#[celeriac::task]
pub async fn second_time(cx: &TaskContext, runs: State<Runs>, n: u64) -> TaskResult<u64> {
    if runs.count(cx, n) == 1 {
        return Err(TaskError::reject("not the first time", Requeue::Yes));
    }
    Ok(n * 2)
}

/// An app over the store at `url`, beginning with which options may be set.
pub fn builder(url: &str, runs: &Runs) -> AppBuilder {
    App::builder("tests").read_env(false).broker_url(url).state(runs.clone()).tasks(tasks![
        crate::double,
        twice,
        fails,
        progresses,
        early,
        second_time
    ])
}

/// A worker in this process.
#[derive(Debug)]
pub struct Worker {
    stop: ShutdownHandle,
    running: JoinHandle<celeriac::Result<()>>,
}

impl Worker {
    /// Starts a worker for the app's tasks.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn start(app: &App, concurrency: usize) -> Self {
        let worker = app.worker().concurrency(concurrency).build().expect("a worker can be made");
        Self { stop: worker.handle(), running: tokio::spawn(worker.run()) }
    }

    /// Lets it finish what runs, and ends it.
    ///
    /// # Panics
    /// If it fails, or has not ended in time.
    pub async fn stop(self) {
        self.stop.shutdown();
        let ended = tokio::time::timeout(PATIENCE, self.running).await.expect("a worker ends");
        ended.expect("a worker does not panic").expect("a worker ends well");
    }
}
