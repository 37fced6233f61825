//! Tasks that are sent and worked while the server is disturbed: none may be lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use celeriac::prelude::*;
use tokio::task::JoinSet;

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

/// Tasks are sent and two workers do them while the server is disturbed, so many times.
///
/// # Panics
/// If a task cannot be sent, does not run, or has no result.
pub async fn under_load(site: &impl Site, times: u64, disturb: impl AsyncFn()) {
    let runs = Runs::default();
    let app = async || site.app(&runs).build().await.expect("an app opens");
    let sender = app().await;
    let workers = [app().await, app().await];
    let working = [Worker::start(&workers[0], 8), Worker::start(&workers[1], 8)];
    let enough = Arc::new(AtomicBool::new(false));
    let sending = tokio::spawn(send(sender.clone(), Arc::clone(&enough)));
    let mut random = fastrand::Rng::with_seed(11);
    for _ in 0..times {
        let more = runs.done() + random.usize(200..400);
        until("more tasks are done", async || runs.done() >= more).await;
        disturb().await;
    }
    enough.store(true, Ordering::Relaxed);
    let results = sending.await.expect("sending ends well");
    let count = results.len();
    let mut waiting = JoinSet::new();
    for (n, result) in results {
        waiting.spawn(async move { (n, result.get_timeout(PATIENCE).await) });
    }
    while let Some(ended) = waiting.join_next().await {
        let (n, outcome) = ended.expect("waiting ends well");
        assert_eq!(outcome.unwrap_or_else(|error| panic!("task {n} of {count} has no result: {error}")), n * 2);
    }
    assert_eq!(runs.done(), count);
    until("nothing is left", async || site.undone().await.is_empty()).await;
    for (worker, app) in working.into_iter().zip(workers) {
        worker.stop().await;
        app.close().await.expect("a worker's app closes");
    }
    sender.close().await.expect("the sender's app closes");
    assert_eq!(site.undone().await, Vec::<String>::new());
}
