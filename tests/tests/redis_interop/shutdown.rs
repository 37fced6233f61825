//! Workers that are told to stop hand over what they hold, each kind to the other.

use celeriac::prelude::*;
use celeriac::{Prefetch, tasks};
use celeriac_tests::python::{Pool, PythonOptions};
use celeriac_tests::until;
use serde_json::{Value as Json, json};

use crate::support::{Bench, RustWorker};

#[tokio::test]
async fn what_a_worker_in_python_hands_back_comes_to_rust_as_redelivered() {
    let bench = Bench::new().await;
    let python = bench.python(PythonOptions { pool: Pool::Prefork(1), ..PythonOptions::default() }).await;
    let running = bench.send("peers.sleep", json!([1.0])).await;
    let later = bench.client.send("peers.request", json!([]), json!({}), json!({"countdown": 3600})).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(bench.send("peers.request", json!([])).await);
    }
    let received = |id: &String| python.log().contains(&format!("[{id}] received"));
    until("Python holds all", async || held.iter().chain([&running, &later]).all(received)).await;
    bench.until(&["HLEN", "unacked"], "4").await;
    python.stop().await;
    assert_eq!(bench.client.get(&running).await.unwrap(), 1.0, "what ran has ended");
    assert_eq!(bench.ask(&["LLEN", "celery"]).await, "4");

    let _rust = bench.rust().await;
    for id in &held {
        let seen = bench.client.get(id).await.unwrap();
        assert_eq!((&seen["by"], &seen["redelivered"]), (&json!("Rust"), &json!(true)));
    }
    bench.until(&["ZCARD", "_celeriac.parked.celery"], "1").await;
    bench.until(&["HLEN", "unacked"], "0").await;
}

/// Known to Python as well, where it tells what the worker knows; here it does not end.
#[celeriac::task(name = "peers.request")]
async fn never(cx: &TaskContext, n: u64) -> Json {
    cx.progress(n, 1);
    std::future::pending().await
}

#[tokio::test]
async fn what_a_worker_in_rust_hands_back_comes_to_python_in_its_order() {
    let bench = Bench::new().await;
    let builder = App::builder("interop").read_env(false).broker_url(bench.server.url()).tasks(tasks![never]);
    let app = builder.build().await.unwrap();
    let mut ids = Vec::new();
    for n in 0..4 {
        ids.push(bench.send("peers.request", json!([n])).await);
    }
    // It takes all at once.
    let rust = RustWorker::start(app.worker().concurrency(1).prefetch(Prefetch::Fixed(10))).await;
    until("the first runs", async || bench.client.state(&ids[0]).await.0 == "PROGRESS").await;
    assert_eq!(bench.ask(&["HLEN", "unacked"]).await, "4");
    rust.handle.shutdown();
    // What has not begun goes back at once.
    bench.until(&["LLEN", "celery"], "3").await;
    rust.handle.shutdown_cold();
    rust.running.await.unwrap().unwrap();
    bench.until(&["HLEN", "unacked"], "0").await;
    assert_eq!(bench.ask(&["LLEN", "celery"]).await, "4");

    let python = bench.solo(json!({})).await;
    for (n, id) in ids.iter().enumerate() {
        let seen = bench.client.get(id).await.unwrap();
        assert_eq!(seen["args"], json!([n]));
        assert_eq!(seen["delivery_info"]["redelivered"], json!(n == 0), "task {n}");
    }
    let log = python.log();
    let place = |id: &String| log.find(&format!("[{id}] received")).unwrap();
    assert!(ids.is_sorted_by_key(place), "they come in the order of their sending");
}
