//! Priorities: which tasks come first, whoever sent them and whoever works them.

use celeriac::{Prefetch, Signature};
use serde_json::json;

use crate::support::{Bench, PATIENCE, RustWorker};

/// Priorities, in the order of their sending.
const SENT: [u64; 12] = [9, 5, 0, 3, 8, 1, 6, 2, 7, 4, 0, 9];

/// In the order of their working, the places in `SENT`: by Celery's steps of 0 to 2, 3 to 5, 6 to 8 and 9, in each as they were sent.
const WORKED: [u64; 12] = [2, 5, 7, 10, 1, 3, 9, 4, 6, 8, 0, 11];

async fn send_by_python(bench: &Bench) -> Vec<String> {
    let mut ids = Vec::new();
    for (place, priority) in SENT.iter().enumerate() {
        ids.push(bench.client.send("peers.trace", json!([place]), json!({}), json!({"priority": priority})).await);
    }
    ids
}

async fn send_by_rust(bench: &Bench) -> Vec<String> {
    let mut ids = Vec::new();
    for (place, priority) in SENT.iter().enumerate() {
        let call = Signature::named("peers.trace").arg(place as u64).option("priority", *priority);
        ids.push(bench.app.send(call).await.unwrap().id().to_string());
    }
    ids
}

async fn ended(bench: &Bench, ids: &[String]) {
    for id in ids {
        bench.result(id).get_timeout(PATIENCE).await.unwrap();
    }
}

#[tokio::test]
async fn python_and_rust_work_pythons_tasks_in_the_same_order() {
    let by_rust = Bench::new().await;
    let ids = send_by_python(&by_rust).await;
    let prefetch = Prefetch::Fixed(0);
    let _worker = RustWorker::start(by_rust.app.worker().concurrency(1).prefetch(prefetch)).await;
    ended(&by_rust, &ids).await;
    assert_eq!(by_rust.traces(), WORKED);

    let by_python = Bench::new().await;
    let ids = send_by_python(&by_python).await;
    let _worker = by_python.solo(json!({})).await;
    ended(&by_python, &ids).await;
    assert_eq!(by_python.traces(), WORKED);
}

#[tokio::test]
async fn python_and_rust_work_rusts_tasks_in_the_same_order() {
    let by_rust = Bench::new().await;
    let ids = send_by_rust(&by_rust).await;
    // Also when all of them are taken at once.
    let _worker = RustWorker::start(by_rust.app.worker().concurrency(1).prefetch(Prefetch::Fixed(100))).await;
    ended(&by_rust, &ids).await;
    assert_eq!(by_rust.traces(), WORKED);

    let by_python = Bench::new().await;
    let ids = send_by_rust(&by_python).await;
    let _worker = by_python.solo(json!({})).await;
    ended(&by_python, &ids).await;
    assert_eq!(by_python.traces(), WORKED);
}
