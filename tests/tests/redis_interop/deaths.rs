//! Workers that are killed, and who takes over.

use std::time::{Duration, Instant};

use celeriac::Timestamp;
use celeriac_tests::python::{Pool, PythonOptions};
use celeriac_tests::until;
use serde_json::json;

use crate::runs::{FOR_EVER, assert_run_again, send};
use crate::support::{Bench, RustWorker, visibility};

#[tokio::test]
async fn the_tasks_of_a_killed_worker_in_rust_are_run_by_another_in_rust_within_15_seconds() {
    let bench = Bench::new().await;
    let killed = bench.actor("", 4, FOR_EVER);
    let results = send(&bench, 6, 4).await;
    let before = bench.traces();
    let _other = bench.rust().await;
    killed.kill();
    let died = Instant::now();
    assert_run_again(&bench, &results, &before).await;
    println!("all had been run {:?} after the death", died.elapsed());
    assert!(died.elapsed() < Duration::from_secs(15), "{:?}", died.elapsed());
}

#[tokio::test]
async fn the_tasks_of_the_last_worker_in_rust_are_run_by_python() {
    let bench = Bench::new().await;
    let killed = bench.actor("?lease=2", 4, FOR_EVER);
    let results = send(&bench, 6, 4).await;
    let before = bench.traces();
    killed.kill();
    let python = bench.solo(visibility(2)).await;
    assert_run_again(&bench, &results, &before).await;
    assert!(python.log().contains("succeeded"));
}

#[tokio::test]
async fn the_tasks_of_a_killed_worker_in_python_are_run_by_rust_after_its_timeout() {
    let bench = Bench::new().await;
    let env = vec![bench.trace_file(), ("TRACE_SLEEP".to_owned(), FOR_EVER.to_string())];
    // It has begun two and holds the others.
    let settings = json!({"task_acks_late": true});
    let python =
        bench.python(PythonOptions { pool: Pool::Prefork(2), settings, env, ..PythonOptions::default() }).await;
    let results = send(&bench, 5, 2).await;
    let before = bench.traces();
    bench.until(&["HLEN", "unacked"], "5").await;
    let taken = bench.server.command(&["ZRANGE", "unacked_index", "0", "0", "WITHSCORES"]).await.texts();
    let taken: f64 = taken[1].parse().unwrap();
    python.kill();
    let builder = crate::tasks::app(
        &format!("{}?visibility_timeout=3&lease=1", bench.server.url()),
        &bench.place.traces(),
        &bench.gate,
    );
    let app = builder.build().await.unwrap();
    let _rust = RustWorker::start(app.worker()).await;
    until("the first runs again", async || bench.traces().len() > 2).await;
    let after = Duration::try_from_secs_f64(Timestamp::now().as_micros() as f64 / 1e6 - taken).unwrap();
    assert!(after >= Duration::from_secs(3), "restored {after:?} after it was taken");
    assert_run_again(&bench, &results, &before).await;
}
