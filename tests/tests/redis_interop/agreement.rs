//! What both have to agree on: prefixes, and how long a result is kept.

use celeriac::{Signature, Value};
use serde_json::json;

use crate::support::{Bench, PATIENCE, RustWorker};

#[tokio::test]
async fn they_meet_under_a_prefix() {
    let settings = json!({
        "broker_transport_options": {"global_keyprefix": "shop:"},
        "result_backend_transport_options": {"global_keyprefix": "results"},
    });
    let bench = Bench::with(&settings, "?global_keyprefix=shop:&result_keyprefix=results", |app| app).await;
    let _rust = RustWorker::start(bench.app.worker().queues(["rust"])).await;
    let _python = bench.solo(settings).await;
    let options = json!({"queue": "rust", "countdown": 0.1});
    let id = bench.client.send("peers.add", json!([2, 3]), json!({}), options).await;
    assert_eq!(bench.client.get(&id).await.unwrap(), 5);
    let result = bench.app.send(Signature::named("peers.add").arg(4).arg(5)).await.unwrap();
    assert_eq!(result.get_timeout(PATIENCE).await.unwrap(), Value::from(9));
    let keys = bench.server.command(&["KEYS", "*"]).await.texts();
    let prefixed = |key: &String| key.starts_with("shop:") || key.starts_with("results_celery-task-meta-");
    assert!(keys.iter().all(prefixed), "{keys:?}");
}

#[tokio::test]
async fn a_result_is_kept_as_long_and_forgotten_by_either() {
    let bench = Bench::new().await;
    let _worker = bench.rust().await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let id = bench.send("peers.add", json!([1, 2])).await;
        assert_eq!(bench.client.get(&id).await.unwrap(), 3);
        let left: u64 = bench.ask(&["TTL", &format!("celery-task-meta-{id}")]).await.parse().unwrap();
        assert!((80_000..=86_400).contains(&left), "{left} s of a day");
        ids.push(id);
    }
    bench.result(&ids[0]).forget().await.unwrap();
    bench.client.evaluate(&format!("celery.result.AsyncResult({:?}, app=app).forget()", ids[1])).await;
    for id in &ids {
        assert_eq!(bench.client.raw(id).await, None);
        assert!(bench.result(id).meta().await.unwrap().is_none());
    }
}
