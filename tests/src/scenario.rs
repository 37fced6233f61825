//! A producer, a worker and those who wait for results, in one process, do one task of each kind: what comes of it when the way to
//! the server is disturbed.

use std::time::Duration;

use celeriac::prelude::*;
use celeriac::{Error, ResultError};
use celeriac_testkit::proxy::FaultProxy;
use celeriac_testkit::server::RedisServer;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Runs, Worker, builder, early, fails, progresses, second_time, twice, undone};

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

/// How long the countdown is.
const LATER: Duration = Duration::from_millis(100);
/// How long all of it may take, however often it is disturbed.
const LIMIT: Duration = Duration::from_secs(50);

/// Does it all through `proxy`, under keys that begin with `prefix`, with further `options` of the URL and so many workers, each
/// over an app of its own. How often each task ran.
///
/// # Errors
/// What is not as it has to be: a task that could not be sent, has no result or another one than it should, or is not settled.
pub async fn run(
    server: &RedisServer,
    proxy: &FaultProxy,
    options: &str,
    prefix: &str,
    workers: usize,
) -> Result<Runs, String> {
    let url = format!(
        "redis://{}/0?lease=1&response_timeout=5&global_keyprefix={prefix}&result_keyprefix={prefix}{options}",
        proxy.address()
    );
    let runs = Runs::default();
    tokio::time::timeout(LIMIT, work(server, &url, prefix, workers, &runs))
        .await
        .map_err(|_| format!("it hangs; {runs:?}"))??;
    let left = undone(server, 0, prefix).await;
    if !left.is_empty() {
        return Err(format!("something is left: {left:?}"));
    }
    for n in 0..TASKS {
        let least = if n == SECOND_TIME { 2 } else { 1 };
        if runs.of(n).all < least {
            return Err(format!("task {n} ran too few times: {runs:?}"));
        }
    }
    Ok(runs)
}

async fn work(server: &RedisServer, url: &str, prefix: &str, workers: usize, runs: &Runs) -> Result<(), String> {
    let failed = |what: &'static str| move |error: Error| format!("{what}: {}", error.report());
    let app = builder(url, runs).build().await.map_err(failed("open"))?;
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
        let app = builder(url, runs).build().await.map_err(failed("open"))?;
        let worker = Worker::start(&app, 4);
        others.push((app, worker));
    }
    sent(2, app.send(progresses::s(2)).await)?;
    sent(3, app.send(early::s(3)).await)?;
    let due = Instant::now() + LATER;
    sent(COUNTDOWN, app.send(twice::s(COUNTDOWN).countdown(LATER)).await)?;
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
    while !undone(server, 0, prefix).await.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await; // wait: for the worker to do the rest
    }
    worker.stop().await;
    for (app, worker) in others {
        worker.stop().await;
        app.close().await.map_err(failed("close"))?;
    }
    app.close().await.map_err(failed("close"))
}
