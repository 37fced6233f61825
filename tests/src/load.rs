//! Tasks that are sent and worked while the server is disturbed: none may be lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use celeriac::prelude::*;
use tokio::task::{JoinHandle, JoinSet};

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
        let mut waiting = JoinSet::new();
        for (n, result) in results {
            waiting.spawn(async move { (n, result.get_timeout(PATIENCE).await) });
        }
        while let Some(ended) = waiting.join_next().await {
            let (n, outcome) = ended.expect("waiting ends well");
            assert_eq!(outcome.unwrap_or_else(|error| panic!("task {n} of {count} has no result: {error}")), n * 2);
        }
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
