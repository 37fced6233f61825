//! Exchanges that one of both declares, and the other publishes to.

use std::num::NonZeroUsize;

use celeriac::broker::{ConsumeOptions, Destination, ExchangeKind, Outgoing};
use celeriac::core::{ExchangeName, RoutingKey};
use celeriac::{QueueName, QueueSpec, Signature, Value};
use celeriac_tests::python::{Pool, PythonOptions};
use serde_json::json;

use crate::support::{Bench, PATIENCE, RustWorker};

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
