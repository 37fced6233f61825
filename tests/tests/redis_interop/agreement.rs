//! What both have to agree on: prefixes, exchanges, and how long a result is kept.

use std::num::NonZeroUsize;

use celeriac::broker::{ConsumeOptions, Destination, ExchangeKind, Outgoing};
use celeriac::core::{ExchangeName, RoutingKey};
use celeriac::{QueueName, QueueSpec, Signature, Value};
use celeriac_tests::python::{Pool, PythonOptions};
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

/// What Python evaluates to send to an exchange.
fn to_exchange(name: &str, kind: &str, key: &str) -> String {
    format!(
        "app.send_task('peers.request', exchange={name:?}, routing_key={key:?}, declare=[__import__('kombu').Exchange({name:?}, type={kind:?})]).id"
    )
}

#[tokio::test]
async fn what_python_publishes_to_an_exchange_reaches_the_queues_of_rust() {
    let exchange = |name| ExchangeName::from_static(name);
    let queue = |name| QueueSpec::unbound(QueueName::from_static(name));
    let key = |key| RoutingKey::from_static(key);
    let bench = Bench::with(&json!({}), "", |app| {
        app.queue(queue("one").bound_to(exchange("events"), ExchangeKind::Topic, key("shop.*.sold")))
            .queue(queue("two").bound_to(exchange("lanes"), ExchangeKind::Direct, key("fast")))
            .queue(queue("three").bound_to(exchange("news"), ExchangeKind::Fanout, key("")))
    })
    .await;
    let _worker = RustWorker::start(bench.app.worker().queues(["one", "two", "three"])).await;
    for (name, kind, key, queue) in [
        ("events", "topic", "shop.book.sold", "one"),
        ("lanes", "direct", "fast", "two"),
        ("news", "fanout", "any", "three"),
    ] {
        let id = bench.client.evaluate(&to_exchange(name, kind, key)).await;
        let seen = bench.client.get(id.as_str().unwrap()).await.unwrap();
        assert_eq!((&seen["queue"], &seen["exchange"]), (&json!(queue), &json!(name)), "{seen}");
        assert_eq!(seen["routing_key"], key);
    }
}

#[tokio::test]
async fn what_rust_publishes_to_an_exchange_of_python_reaches_its_queue() {
    let bench = Bench::new().await;
    let options = PythonOptions { pool: Pool::Solo, queues: "python".to_owned(), ..PythonOptions::default() };
    let _python = bench.python(options).await;
    // A message of a task, by way of a queue that nobody works.
    let result = bench.app.send(Signature::named("peers.add").arg(1).arg(2).option("queue", "staging")).await.unwrap();
    let broker = bench.app.broker();
    let mut consumer = broker.consume(ConsumeOptions::new([QueueName::from_static("staging")])).await.unwrap();
    let staged = consumer.recv(NonZeroUsize::MIN).await.unwrap().pop().unwrap();
    // Every queue of Celery's has a direct exchange of its own name, which only Python has declared.
    let destination =
        Destination { exchange: ExchangeName::from_static("python"), routing_key: RoutingKey::from_static("python") };
    broker.publish(vec![Outgoing::new(staged.message.clone(), destination)]).await.unwrap();
    staged.ack().await.unwrap();
    assert_eq!(result.get_timeout(PATIENCE).await.unwrap(), Value::from(3));
}
