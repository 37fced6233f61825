//! What the tests of the broker share: a server, stores on it, and the plainest ways to send and receive.
#![allow(dead_code, reason = "each test file uses some of it")]
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test stops at the first error")]

use std::num::NonZeroUsize;
use std::time::Duration;

use celeriac_broker::{ConsumeOptions, Consumer, Delivery, Outgoing};
use celeriac_core::{Headers, Message, QueueName, TaskHeaders, TaskId, TaskName, Timestamp, WireTime};
use celeriac_redis::{RedisConfig, RedisStore};
use celeriac_testkit::server::RedisServer;
use celeriac_testkit::{PATIENCE, eventually, soon};

pub(crate) const ONE: NonZeroUsize = NonZeroUsize::MIN;
pub(crate) const MANY: NonZeroUsize = NonZeroUsize::MIN.saturating_add(999);
/// The shortest lease there is.
pub(crate) const LEASE: Duration = Duration::from_secs(1);
/// One that does not end during a test.
pub(crate) const LONG: Duration = Duration::from_secs(600);

pub(crate) fn queue(name: &'static str) -> QueueName {
    QueueName::from_static(name)
}

pub(crate) fn config(server: &RedisServer) -> RedisConfig {
    RedisConfig::from_url(&server.url()).unwrap().lease(LEASE)
}

pub(crate) async fn open(config: RedisConfig) -> RedisStore {
    RedisStore::open(config).await.unwrap()
}

pub(crate) fn outgoing(body: &str, queue: &QueueName) -> Outgoing {
    Outgoing::new(Message { body: body.to_owned().into(), ..Message::default() }, queue)
}

/// A message of a task with an ETA.
pub(crate) fn with_eta(body: &str, queue: &QueueName, eta: Timestamp) -> Outgoing {
    let mut headers = TaskHeaders::new(TaskName::from_static("add"), TaskId::random());
    headers.eta = Some(WireTime::from(eta));
    let message = Message { headers: Headers::from(headers), body: body.to_owned().into(), ..Message::default() };
    Outgoing::new(message, queue).deliver_at(eta)
}

pub(crate) async fn publish(store: &RedisStore, queue: &QueueName, bodies: &[&str]) {
    store.broker().publish(bodies.iter().map(|body| outgoing(body, queue)).collect()).await.unwrap();
}

pub(crate) async fn consumer(store: &RedisStore, queue: &QueueName) -> Box<dyn Consumer> {
    store.broker().consume(ConsumeOptions::new([queue.clone()])).await.unwrap()
}

pub(crate) async fn one(consumer: &mut Box<dyn Consumer>) -> Delivery {
    soon(consumer.recv(ONE)).await.unwrap().pop().unwrap()
}

/// Takes so many.
pub(crate) async fn several(consumer: &mut Box<dyn Consumer>, count: usize) -> Vec<Delivery> {
    let mut came = Vec::new();
    while came.len() < count {
        came.extend(soon(consumer.recv(MANY)).await.unwrap());
    }
    came
}

/// A store with so many deliveries in hand; no lease ends, and none is renewed, while a test looks at the server.
pub(crate) async fn holding(server: &RedisServer, count: usize) -> (RedisStore, Vec<Delivery>) {
    let (store, jobs) = (open(config(server).lease(LONG)).await, queue("jobs"));
    publish(&store, &jobs, &vec!["x"; count]).await;
    let held = several(&mut consumer(&store, &jobs).await, count).await;
    (store, held)
}

/// Sees to it that nothing comes for a while.
pub(crate) async fn none(consumer: &mut Box<dyn Consumer>, during: Duration) {
    if let Ok(came) = tokio::time::timeout(during, consumer.recv(MANY)).await {
        panic!("nothing was to come, but this did: {came:?}");
    }
}

pub(crate) fn text(delivery: &Delivery) -> String {
    String::from_utf8_lossy(&delivery.message.body).into_owned()
}

/// What the server answers, as text.
pub(crate) async fn ask(server: &RedisServer, words: &[&str]) -> String {
    server.command(words).await.text()
}

/// Waits until the server answers so.
pub(crate) async fn until(server: &RedisServer, words: &[&str], wanted: &str) {
    eventually(PATIENCE, async || ask(server, words).await == wanted).await;
}
