//! Priority queues: the highest first, whoever sent and whoever works.

use celeriac::{Prefetch, Signature};
use serde_json::{Value as Json, json};

use crate::support::{Bench, PATIENCE, RustWorker};

/// Priorities, in the order of their sending.
const SENT: [u64; 12] = [9, 5, 0, 3, 8, 1, 6, 2, 7, 4, 0, 9];

/// In the order of their working, the places in `SENT`.
const WORKED: [u64; 12] = [0, 11, 4, 8, 6, 1, 9, 3, 7, 5, 2, 10];

fn settings() -> Json {
    json!({"task_queue_max_priority": 10})
}

async fn bench() -> Bench {
    Bench::with(&settings(), "?max_priority=10", |app| app).await
}

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

async fn assert_order(bench: &Bench, ids: &[String]) {
    for id in ids {
        bench.result(id).get_timeout(PATIENCE).await.unwrap();
    }
    assert_eq!(bench.traces(), WORKED);
}

#[tokio::test]
async fn rust_works_the_most_urgent_first() {
    // One by one, and when all are taken at once.
    for (prefetch, by_python) in [(Prefetch::Fixed(0), true), (Prefetch::Fixed(100), false)] {
        let bench = bench().await;
        let ids = if by_python { send_by_python(&bench).await } else { send_by_rust(&bench).await };
        let _worker = RustWorker::start(bench.app.worker().concurrency(1).prefetch(prefetch)).await;
        assert_order(&bench, &ids).await;
    }
}

#[tokio::test]
async fn python_works_the_most_urgent_of_rust_first() {
    let bench = bench().await;
    let ids = send_by_rust(&bench).await;
    let _worker = bench.solo(settings()).await;
    assert_order(&bench, &ids).await;
}
