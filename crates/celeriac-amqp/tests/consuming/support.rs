//! A server for all tests, and the plainest ways to send and receive.

use std::num::NonZeroUsize;
use std::time::Duration;

use celeriac_amqp::{AmqpConfig, AmqpStore, QueueType};
use celeriac_broker::{ConsumeOptions, Consumer, Delivery, Outgoing};
use celeriac_core::{DeliveryMode, Message, QueueName};
use celeriac_testkit::eventually;
use celeriac_testkit::server::{RabbitServer, Vhost};
use tokio::time::timeout;

/// Long enough for whatever must happen, on any machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The server of all tests; what would disturb others takes one of its own.
pub(crate) async fn server() -> &'static RabbitServer {
    RabbitServer::shared().await
}

/// A virtual host of this test's own.
pub(crate) async fn vhost() -> Vhost<'static> {
    server().await.vhost().await
}

pub(crate) fn config(url: &str) -> AmqpConfig {
    AmqpConfig::from_url(url).unwrap()
}

pub(crate) async fn open(vhost: &Vhost<'_>) -> AmqpStore {
    AmqpStore::open(config(&vhost.url())).await.unwrap()
}

/// A store whose queues count deliveries.
pub(crate) async fn open_quorum(vhost: &Vhost<'_>) -> AmqpStore {
    AmqpStore::open(config(&vhost.url()).queue_type(QueueType::Quorum)).await.unwrap()
}

pub(crate) fn queue(name: &'static str) -> QueueName {
    QueueName::from_static(name)
}

pub(crate) fn count(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap()
}

pub(crate) fn outgoing(body: impl Into<String>, queue: &QueueName) -> Outgoing {
    let mut message = Message { body: body.into().into(), ..Message::default() };
    message.properties.delivery_mode = Some(DeliveryMode::Persistent);
    Outgoing::new(message, queue)
}

/// Publishes so many messages: `0`, `1` and so on.
pub(crate) async fn publish(store: &AmqpStore, queue: &QueueName, messages: std::ops::Range<usize>) {
    store.broker().publish(messages.map(|n| outgoing(n.to_string(), queue)).collect()).await.unwrap();
}

pub(crate) async fn consumer(store: &AmqpStore, queues: &[&QueueName], prefetch: usize) -> Box<dyn Consumer> {
    let options = ConsumeOptions::new(queues.iter().map(|queue| (*queue).clone())).prefetch(count(prefetch));
    store.broker().consume(options).await.unwrap()
}

pub(crate) async fn recv(consumer: &mut Box<dyn Consumer>, limit: usize) -> Vec<Delivery> {
    timeout(PATIENCE, consumer.recv(count(limit))).await.expect("a message comes").unwrap()
}

pub(crate) async fn one(consumer: &mut Box<dyn Consumer>) -> Delivery {
    recv(consumer, 1).await.remove(0)
}

/// Receives so many, however many calls that takes.
pub(crate) async fn take(consumer: &mut Box<dyn Consumer>, count: usize) -> Vec<Delivery> {
    let mut held = Vec::new();
    while held.len() < count {
        held.extend(recv(consumer, count - held.len()).await);
    }
    held
}

pub(crate) fn text(delivery: &Delivery) -> String {
    String::from_utf8_lossy(&delivery.message.body).into_owned()
}

pub(crate) fn texts(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(text).collect()
}

/// Sees to it that nothing comes for a while.
pub(crate) async fn none(consumer: &mut Box<dyn Consumer>, during: Duration) {
    if let Ok(came) = timeout(during, consumer.recv(count(1))).await {
        panic!("nothing was to come, but this did: {came:?}");
    }
}

/// How many messages of a queue wait, and how many are on the way to consumers.
pub(crate) async fn depth(vhost: &Vhost<'_>, queue: &QueueName) -> (u64, u64) {
    vhost.queue_info(queue).await.map_or((0, 0), |info| (info.ready, info.unacked))
}

/// Waits until so many messages wait, and so many are on the way.
pub(crate) async fn until_depth(vhost: &Vhost<'_>, queue: &QueueName, ready: u64, unacked: u64) {
    eventually(PATIENCE, async || depth(vhost, queue).await == (ready, unacked)).await;
}
