//! Tasks that are sent and worked while the server is disturbed: none may be lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use celeriac::QueueName;
use celeriac::prelude::*;
use tokio::task::{JoinHandle, JoinSet};

use crate::peers::trace;
use crate::runs::{PATIENCE, Runs, Worker, twice};
use crate::scenario::Site;
use crate::until;

/// Sends tasks, alone and in batches, until `enough`; their number and their results.
async fn send(app: App, enough: Arc<AtomicBool>) -> Vec<(u64, AsyncResult<u64>)> {
    let (mut results, mut next) = (Vec::new(), 0);
    while !enough.load(Ordering::Relaxed) {
        if next % 60 < 30 {
            results.push((next, app.send(twice::s(next)).await.expect("a task is sent")));
            next += 1;
        } else {
            let batch = next..next + 30;
            let sent = app.send_batch(batch.clone().map(twice::s)).await.expect("a batch is sent");
            next = batch.end;
            results.extend(batch.zip(sent));
        }
    }
    results
}

/// Waits until each task, by its number, has the result that `of` says.
///
/// # Panics
/// If it has another one, or none in time.
pub async fn have_results(results: Vec<(u64, AsyncResult<u64>)>, of: fn(u64) -> u64) {
    let count = results.len();
    let mut waiting = JoinSet::new();
    for (n, result) in results {
        waiting.spawn(async move { (n, result.get_timeout(PATIENCE).await) });
    }
    while let Some(ended) = waiting.join_next().await {
        let (n, outcome) = ended.expect("waiting ends well");
        assert_eq!(outcome.unwrap_or_else(|error| panic!("task {n} of {count} has no result: {error}")), of(n));
    }
}

/// Sends tasks that leave traces, alone and in batches, as the workers get on with them, until there are so many and `enough` is said.
///
/// # Panics
/// If that fails.
pub async fn send_traced(app: App, least: u64, enough: Arc<AtomicBool>) -> Vec<(u64, AsyncResult<u64>)> {
    /// So many wait at most.
    const WAITING: u64 = 300;
    let (mut results, mut next) = (Vec::new(), 0);
    while next < least || !enough.load(Ordering::Relaxed) {
        while app.broker().depth(&QueueName::DEFAULT).await.expect("the server answers") >= WAITING {
            tokio::time::sleep(Duration::from_millis(5)).await; // wait: for the workers
        }
        for n in next..next + 20 {
            results.push((n, app.send(trace::s(n)).await.expect("a task is sent")));
        }
        let batch = next + 20..next + 100;
        next = batch.end;
        let sent = app.send_batch(batch.clone().map(trace::s)).await.expect("a batch is sent");
        results.extend(batch.zip(sent));
    }
    results
}

/// One site under load: somebody who sends, and two workers, each over an app of its own.
struct Load<'a, S> {
    site: &'a S,
    runs: Runs,
    sender: App,
    workers: Vec<(App, Worker)>,
    sending: JoinHandle<Vec<(u64, AsyncResult<u64>)>>,
}

impl<'a, S: Site> Load<'a, S> {
    async fn start(site: &'a S, enough: &Arc<AtomicBool>) -> Self {
        let runs = Runs::default();
        let app = async || site.app(&runs).build().await.expect("an app opens");
        let sender = app().await;
        let mut workers = Vec::new();
        for _ in 0..2 {
            let app = app().await;
            let worker = Worker::start(&app, 8);
            workers.push((app, worker));
        }
        let sending = tokio::spawn(send(sender.clone(), Arc::clone(enough)));
        Self { site, runs, sender, workers, sending }
    }

    /// Waits until all that was sent is done, and sees that it is.
    async fn end(self) {
        let results = self.sending.await.expect("sending ends well");
        let count = results.len();
        have_results(results, |n| n * 2).await;
        assert_eq!(self.runs.done(), count);
        until("nothing is left", async || self.site.undone().await.is_empty()).await;
        for (app, worker) in self.workers {
            worker.stop().await;
            app.close().await.expect("a worker's app closes");
        }
        self.sender.close().await.expect("the sender's app closes");
        assert_eq!(self.site.undone().await, Vec::<String>::new());
    }
}

/// At each site tasks are sent, and worked, while the server of all of them is disturbed, so many times.
///
/// # Panics
/// If a task cannot be sent, does not run, or has no result.
pub async fn under_load<S: Site>(sites: &[S], times: u64, disturb: impl AsyncFn()) {
    let enough = Arc::new(AtomicBool::new(false));
    let mut loads = Vec::new();
    for site in sites {
        loads.push(Load::start(site, &enough).await);
    }
    let mut random = fastrand::Rng::with_seed(11);
    for _ in 0..times {
        let more: Vec<usize> = loads.iter().map(|load| load.runs.done() + random.usize(200..400)).collect();
        let done = || loads.iter().zip(&more).all(|(load, more)| load.runs.done() >= *more);
        until("more tasks are done", async || done()).await;
        disturb().await;
    }
    enough.store(true, Ordering::Relaxed);
    for load in loads {
        load.end().await;
    }
}
