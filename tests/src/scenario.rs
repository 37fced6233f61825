//! A producer, a worker and those who wait for results, in one process, do one task of each kind: what comes of it when the way to
//! the server is disturbed.

use std::time::Duration;

use celeriac::prelude::*;
use celeriac::{AppBuilder, Error, ResultError};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::runs::{Runs, Worker, early, fails, progresses, second_time, twice};

/// How many tasks there are.
pub const TASKS: u64 = 12;
/// The one that fails.
const FAILS: u64 = 1;
/// The one with a countdown.
pub const COUNTDOWN: u64 = 4;
/// The one that is handed back once.
pub const SECOND_TIME: u64 = 5;
/// Those that are sent as one batch.
const BATCH: std::ops::Range<u64> = 6..TASKS;

/// How long all of it may take, however often it is disturbed.
const LIMIT: Duration = Duration::from_secs(50);
/// Where apps share their tasks: a part of a server that nobody else uses.
pub trait Site: Send + Sync {
    /// An app there, beginning with which options may be set.
    fn app(&self, runs: &Runs) -> AppBuilder;

    /// What is not done: what waits, and what is held. Empty when all is done.
    fn undone(&self) -> impl Future<Output = Vec<String>> + Send;
}

/// Does it all at `site`, with so many workers, each over an app of its own, one task not before `countdown`. How often each task ran.
///
/// # Errors
/// What is not as it has to be: a task that could not be sent, has no result or another one than it should, or is not settled.
pub async fn run(site: &impl Site, workers: usize, countdown: Duration) -> Result<Runs, String> {
    let runs = run_but_for_copies(site, workers, countdown).await?;
    let left = site.undone().await;
    if left.is_empty() { Ok(runs) } else { Err(format!("something is left: {left:?}")) }
}

/// As [`run`], where the task with the countdown waits out of sight: if it was sent twice, the copy may come when all workers are gone.
///
/// # Errors
/// As [`run`].
pub async fn run_but_for_copies(site: &impl Site, workers: usize, countdown: Duration) -> Result<Runs, String> {
    let runs = Runs::default();
    tokio::time::timeout(LIMIT, work(site, workers, countdown, &runs))
        .await
        .map_err(|_| format!("it hangs; {runs:?}"))??;
    for n in 0..TASKS {
        let least = if n == SECOND_TIME { 2 } else { 1 };
        if runs.of(n).all < least {
            return Err(format!("task {n} ran too few times: {runs:?}"));
        }
    }
    Ok(runs)
}

/// Runs scenarios, so many at a time, and fails with what went wrong in any of them.
///
/// # Panics
/// Then, or if there are none.
pub async fn all<F>(at_once: usize, scenarios: impl IntoIterator<Item = F>)
where
    F: Future<Output = Result<(), String>> + Send + 'static,
{
    let mut scenarios = scenarios.into_iter();
    let (mut running, mut count, mut wrong) = (JoinSet::new(), 0, Vec::new());
    loop {
        while running.len() < at_once
            && wrong.len() < 10
            && let Some(scenario) = scenarios.next()
        {
            running.spawn(scenario);
        }
        let Some(ended) = running.join_next().await else { break };
        count += 1;
        wrong.extend(ended.map_err(|error| error.to_string()).flatten().err());
    }
    assert!(count > 0, "some scenario ran");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

async fn work(site: &impl Site, workers: usize, countdown: Duration, runs: &Runs) -> Result<(), String> {
    let failed = |what: &'static str| move |error: Error| format!("{what}: {}", error.report());
    let app = site.app(runs).build().await.map_err(failed("open"))?;
    let mut results = Vec::new();
    let mut sent = |n: u64, sent: celeriac::Result<AsyncResult<u64>>| {
        results.push((n, sent.map_err(|error| format!("task {n} was not sent: {}", error.report()))?));
        Ok::<_, String>(())
    };
    sent(0, app.send(twice::s(0)).await)?;
    sent(FAILS, app.send(fails::s(FAILS)).await)?;
    let worker = Worker::start(&app, 4);
    let mut others = Vec::new();
    for _ in 1..workers {
        let app = site.app(runs).build().await.map_err(failed("open"))?;
        let worker = Worker::start(&app, 4);
        others.push((app, worker));
    }
    sent(2, app.send(progresses::s(2)).await)?;
    sent(3, app.send(early::s(3)).await)?;
    let due = Instant::now() + countdown;
    sent(COUNTDOWN, app.send(twice::s(COUNTDOWN).countdown(countdown)).await)?;
    sent(SECOND_TIME, app.send(second_time::s(SECOND_TIME)).await)?;
    let batch = app.send_batch(BATCH.map(twice::s)).await.map_err(failed("the batch was not sent"))?;
    results.extend(BATCH.zip(batch));

    let mut waiting = JoinSet::new();
    for (n, result) in results {
        waiting.spawn(async move { (n, result.get().await) });
    }
    while let Some(ended) = waiting.join_next().await {
        let (n, outcome) = ended.map_err(|error| error.to_string())?;
        match outcome {
            Ok(value) if value == n * 2 && n != FAILS => {}
            Err(ResultError::Failure(failure)) if n == FAILS && failure.message() == "task 1 always fails" => {}
            other => return Err(format!("task {n} ended with {other:?}")),
        }
        if n == COUNTDOWN && Instant::now() < due {
            return Err("a task ran before its time".to_owned());
        }
    }
    // A message that was sent twice, because nobody knew whether it had come, is worked twice.
    while !site.undone().await.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await; // wait: for the worker to do the rest
    }
    worker.stop().await;
    for (app, worker) in others {
        worker.stop().await;
        app.close().await.map_err(failed("close"))?;
    }
    app.close().await.map_err(failed("close"))
}
