//! What both declare: either may be first, and the other takes it.

use celeriac::broker::ExchangeKind;
use celeriac::core::{ExchangeName, RoutingKey};
use celeriac::{QueueName, QueueSpec, Signature};
use serde_json::{Value as Json, json};

use crate::support::{Bench, PATIENCE, RustWorker, assert_accepted, quorum};

fn named() -> QueueSpec {
    QueueSpec::unbound(QueueName::from_static("celery"))
}

/// As both have it by default: fed by a direct exchange of its own name.
fn direct() -> QueueSpec {
    QueueSpec::direct(QueueName::from_static("celery"))
}

/// As Python has it where it uses native delayed delivery.
fn topic() -> QueueSpec {
    let (exchange, key) = (ExchangeName::from_static("celery"), RoutingKey::from_static("celery"));
    named().bound_to(exchange, ExchangeKind::Topic, key)
}

/// Declares `queue` by Rust and by Python, first by one and then by the other, and works a task in each.
async fn assert_taken_by_the_other(queue: QueueSpec, options: &str, settings: &Json) {
    let mut seen = Vec::new();
    for rust_is_first in [true, false] {
        let bench = Bench::with(settings, "", |app| app).await;
        let declared = async || {
            let app = bench.another(options, |app| app.queue(queue.clone())).await.unwrap();
            RustWorker::start(app.worker().queues(["celery"])).await
        };
        let rust = if rust_is_first { Some(declared().await) } else { None };
        let python = bench.solo(settings.clone()).await;
        let rust = match rust {
            Some(rust) => rust,
            None => declared().await,
        };
        assert_accepted(&python);
        bench.consumed("celery", 2).await;
        python.stop().await;
        assert_eq!(bench.call("peers.add", json!([1, 2])).await.unwrap(), 3, "Rust works");
        rust.stop().await;
        let python = bench.solo(settings.clone()).await;
        assert_eq!(bench.get(Signature::named("peers.add").arg(1).arg(2)).await.unwrap(), 3, "Python works");
        assert_accepted(&python);
        seen.push(bench.vhost.queue_info("celery").await.unwrap().arguments);
    }
    assert_eq!(seen[0], seen[1], "both declare the same arguments");
}

#[tokio::test]
async fn a_plain_queue_of_either_is_taken_by_the_other() {
    assert_taken_by_the_other(direct(), "", &json!({})).await;
}

#[tokio::test]
async fn a_priority_queue_of_either_is_taken_by_the_other() {
    assert_taken_by_the_other(direct(), "?max_priority=10", &json!({"task_queue_max_priority": 10})).await;
}

#[tokio::test]
async fn a_quorum_queue_of_either_is_taken_by_the_other_with_all_that_delays_its_tasks() {
    assert_taken_by_the_other(topic(), "?queue_type=quorum", &quorum()).await;
}

#[tokio::test]
async fn a_queue_that_python_has_declared_otherwise_is_refused_by_name() {
    let bench = Bench::with(&json!({"task_queue_max_priority": 10}), "", |app| app).await;
    bench.send("peers.add", json!([1, 2])).await;
    let error = bench.another("", |app| app.queue(direct())).await.unwrap_err().to_string();
    assert!(error.contains("`celery`") && error.contains("`max_priority`") && error.contains("`10`"), "{error}");
    // One that the app does not declare is taken as it is.
    let _worker = bench.rust().await;
    let result = bench.app.send(Signature::named("peers.add").arg(3).arg(4)).await.unwrap();
    assert_eq!(result.get_timeout(PATIENCE).await.unwrap(), 7.into());
}
