//! A worker tells when it has begun to consume.

use std::sync::Arc;
use std::time::Duration;

use celeriac_broker::{Broker, QueueSpec};
use celeriac_consumer::{Tasks, Worker, WorkerConfig};
use celeriac_core::QueueName;
use celeriac_memory::MemoryStore;
use celeriac_producer::Producer;
use celeriac_testkit::soon;

fn worker(store: &MemoryStore) -> Worker {
    let producer = Producer::builder(Arc::new(store.clone())).build().expect("the defaults are valid");
    let mut config = WorkerConfig::default();
    config.queues = vec![QueueName::from_static("brief")];
    Worker::builder(producer, Tasks::new()).config(config).build().expect("the configuration is valid")
}

#[tokio::test]
async fn it_has_started_when_it_consumes_and_not_before() {
    let store = MemoryStore::new();
    // Goes with its last consumer: whether it is there tells whether there is one.
    let mut spec = QueueSpec::direct(QueueName::from_static("brief"));
    spec.auto_delete = true;
    store.declare(&spec).await.unwrap();
    let worker = worker(&store);
    let (stop, mut started) = (worker.handle(), Box::pin(worker.started()));
    let early = tokio::time::timeout(Duration::from_millis(20), started.as_mut()).await;
    assert!(early.is_err(), "it does not run yet");
    let running = tokio::spawn(worker.run());
    assert!(soon(started).await);
    stop.shutdown();
    soon(running).await.unwrap().unwrap();
    spec.auto_delete = false;
    store.declare(&spec).await.unwrap();
}

#[tokio::test]
async fn whoever_asks_for_a_worker_that_never_starts_is_told() {
    let store = MemoryStore::new();
    let dropped = worker(&store);
    let started = dropped.started();
    drop(dropped);
    assert!(!soon(started).await);

    let failing = worker(&store);
    Broker::close(&store).await.unwrap();
    let started = failing.started();
    failing.run().await.unwrap_err();
    assert!(!soon(started).await);
}
