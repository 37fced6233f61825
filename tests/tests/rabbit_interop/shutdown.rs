//! Workers that are told to stop, and tasks that refuse their messages: what goes back comes to whoever works.

use celeriac::prelude::*;
use celeriac::{Prefetch, tasks};
use celeriac_tests::Traces;
use celeriac_tests::python::{Pool, PythonOptions};
use celeriac_tests::until;
use serde_json::{Value as Json, json};

use crate::support::{Bench, RustWorker};

#[tokio::test]
async fn what_a_worker_in_python_hands_back_comes_to_rust_as_redelivered() {
    let bench = Bench::new().await;
    let python = bench.python(PythonOptions { pool: Pool::Prefork(1), ..PythonOptions::default() }).await;
    let running = bench.send("peers.sleep", json!([1.0])).await;
    bench.client.send("peers.request", json!([]), json!({}), json!({"countdown": 3600})).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(bench.send("peers.request", json!([])).await);
    }
    bench.until("celery", (0, 4)).await;
    python.stop().await;
    assert_eq!(bench.client.get(&running).await.unwrap(), 1.0, "what ran has ended");
    bench.until("celery", (4, 0)).await;

    let _rust = bench.rust().await;
    for id in &held {
        let seen = bench.client.get(id).await.unwrap();
        assert_eq!((&seen["by"], &seen["redelivered"]), (&json!("Rust"), &json!(true)));
    }
    bench.until("celery_delayed_11", (1, 0)).await;
    bench.is_empty("celery").await;
}

/// Known to Python as well, where it tells what the worker knows; here it does not end.
#[celeriac::task(name = "peers.request")]
async fn never(traces: State<Traces>, n: u64) -> std::io::Result<Json> {
    traces.add("started", &n.to_string()).await?;
    std::future::pending().await
}

#[tokio::test]
async fn what_a_worker_in_rust_hands_back_comes_to_python_in_its_order() {
    let bench = Bench::new().await;
    let builder = App::builder("interop").read_env(false).broker_url(bench.vhost.url());
    let app = builder.state(bench.place.traces()).tasks(tasks![never]).build().await.unwrap();
    let mut ids = Vec::new();
    for n in 0..4 {
        ids.push(bench.send("peers.request", json!([n])).await);
    }
    // It takes all at once.
    let rust = RustWorker::start(app.worker().concurrency(1).prefetch(Prefetch::Fixed(10))).await;
    until("the first runs", async || bench.place.traces().lines("started") == ["0"]).await;
    bench.until("celery", (0, 4)).await;
    rust.handle.shutdown();
    // What has not begun goes back at once.
    bench.until("celery", (3, 1)).await;
    rust.handle.shutdown_cold();
    rust.running.await.unwrap().unwrap();
    bench.until("celery", (4, 0)).await;

    let python = bench.solo(json!({})).await;
    for (n, id) in ids.iter().enumerate() {
        let seen = bench.client.get(id).await.unwrap();
        assert_eq!((&seen["args"], &seen["delivery_info"]["redelivered"]), (&json!([n]), &json!(true)));
    }
    let log = python.log();
    let place = |id: &String| log.find(&format!("[{id}] received")).unwrap();
    assert!(ids.is_sorted_by_key(place), "they come in the order of their sending");
}

#[tokio::test]
async fn a_task_that_refuses_its_message_gets_it_again_and_quorum_queues_count_that() {
    for (settings, options, counts) in [
        (json!({}), "", [Json::Null, Json::Null]),
        (json!({"task_default_queue_type": "quorum"}), "?queue_type=quorum", [json!(1), json!(2)]),
    ] {
        let bench = Bench::with(&settings, options, |app| app).await;
        let _worker = bench.rust().await;
        assert_eq!(bench.call("peers.request", json!([])).await.unwrap()["delivery_count"], counts[0]);
        assert_eq!(bench.call("rust.twice", json!([])).await.unwrap(), counts[1]);
        bench.is_empty("celery").await;
    }
}
