//! Workers are killed with SIGKILL while they work: no task and no result is lost, and the file stays sound.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::time::Duration;

use celeriac::ResultError;
use celeriac_tests::{Place, double, until};
use tokio::task::JoinSet;

const TASKS: u64 = 5_000;
const KILLS: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_tasks_survive_twenty_kills_of_two_workers() {
    let actor = env!("CARGO_BIN_EXE_actor");
    let place = Place::new();
    let app = place.app().await;
    let mut workers = vec![place.worker(actor, 8), place.worker(actor, 8)];
    let mut random = fastrand::Rng::with_seed(7);

    let sender = {
        let app = app.clone();
        // Some alone, some in batches, while the workers are being killed.
        tokio::spawn(async move {
            let mut results = Vec::new();
            let mut next = 0;
            while next < TASKS {
                if next % 500 < 100 {
                    results.push((next, app.send(double::s(next)).await.unwrap()));
                    next += 1;
                } else {
                    let batch: Vec<u64> = (next..(next + 100).min(TASKS)).collect();
                    let sent = app.send_batch(batch.iter().map(|n| double::s(*n))).await.unwrap();
                    next += batch.len() as u64;
                    results.extend(batch.into_iter().zip(sent));
                }
            }
            results
        })
    };

    // Kill whenever a random number of further tasks has ended: always in the middle of the work.
    let mut killed = 0;
    let mut threshold = 50;
    while killed < KILLS {
        until("more tasks end", async || ended(&place) >= threshold).await;
        let victim = random.usize(0..workers.len());
        workers[victim].kill().await.unwrap();
        workers[victim] = place.worker(actor, 8);
        killed += 1;
        threshold += random.u64(100..200);
    }

    let results = sender.await.unwrap();
    assert_eq!(results.len() as u64, TASKS);
    let mut waiting = JoinSet::new();
    for (n, result) in results {
        waiting.spawn(async move { (n, result.get_timeout(Duration::from_secs(120)).await) });
    }
    while let Some(joined) = waiting.join_next().await {
        let (n, outcome): (u64, Result<u64, ResultError>) = joined.unwrap();
        assert_eq!(outcome.unwrap_or_else(|error| panic!("task {n} of {TASKS} has no result: {error}")), n * 2);
    }

    until("the queue is empty", async || app.broker().depth(&celeriac::QueueName::DEFAULT).await.unwrap() == 0).await;
    for mut worker in workers {
        celeriac_tests::signal(&worker, rustix::process::Signal::TERM);
        assert!(worker.wait().await.unwrap().success());
    }
    app.close().await.unwrap();
    let file = rusqlite::Connection::open(place.file()).unwrap();
    let sound: String = file.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
}

/// How many tasks have a result, as another program sees it.
fn ended(place: &Place) -> u64 {
    let file = rusqlite::Connection::open(place.file()).unwrap();
    file.busy_timeout(Duration::from_secs(30)).unwrap();
    let count: i64 = file.query_row("SELECT count(*) FROM result", [], |row| row.get(0)).unwrap();
    u64::try_from(count).unwrap()
}
