//! What Python learns from Redis of its tasks in Rust, beside what it learns from any broker.

use celeriac_tests::python::{CameBy, PythonClient};
use celeriac_tests::until;
use serde_json::json;

use crate::support::{Bench, RustWorker};

#[tokio::test]
async fn python_is_woken_when_a_task_in_rust_ends() {
    let bench = Bench::new().await;
    let _worker = bench.rust().await;
    for how in ["success", "ValueError", "OutOfStock", "reject"] {
        let id = bench.send("rust.end", json!([how])).await;
        let open = async {
            looked(&bench).await;
            bench.gate.open(1);
        };
        bench.server.command(&["CONFIG", "RESETSTAT"]).await;
        let ((outcome, by), ()) = tokio::join!(bench.client.end_by(&id), open);
        assert_eq!((outcome.is_ok(), by), (how == "success", CameBy::Push), "{how}");
    }
}

/// Waits until the client has looked for a result, in vain.
async fn looked(bench: &Bench) {
    let looked = async || bench.ask(&["INFO", "commandstats"]).await.contains("cmdstat_get:");
    until("the client has looked in vain", looked).await;
}

#[tokio::test]
async fn a_task_is_told_how_often_it_was_delivered() {
    let bench = Bench::new().await;
    let _worker = bench.rust().await;
    let id = bench.client.evaluate("app.send_task('peers.request').id").await;
    assert_eq!(bench.client.get(id.as_str().unwrap()).await.unwrap()["delivery_count"], 1);
    assert_eq!(bench.call("rust.twice", json!([])).await.unwrap(), 2);
    bench.is_empty("celery").await;
}

#[tokio::test]
async fn results_may_be_in_another_database() {
    let bench = Bench::new().await;
    let results = bench.server.url_of(1);
    let builder = crate::tasks::app(&bench.server.url(), &bench.place.traces(), &bench.gate);
    let app = builder.result_backend(&results).build().await.unwrap();
    let _worker = RustWorker::start(app.worker()).await;
    let client = PythonClient::start(&bench.server.url(), &results, &json!({}));
    let id = client.send("peers.add", json!([2, 3]), json!({}), json!({})).await;
    assert_eq!(client.get(&id).await.unwrap(), 5);
    assert_eq!(bench.client.raw(&id).await, None);
}
