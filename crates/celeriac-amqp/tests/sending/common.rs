//! What the tests of sending share: a server for all of them, stores on it, and the server's own view of what they did.

use std::time::Duration;

use celeriac_amqp::{AmqpConfig, AmqpStore};
use celeriac_broker::{Destination, Outgoing};
use celeriac_core::{Error, ExchangeName, Message, QueueName, Result, RoutingKey};
use celeriac_testkit::eventually;
use celeriac_testkit::server::{RabbitServer, Vhost};
use lapin::message::BasicGetMessage;
use lapin::options::{BasicGetOptions, ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties};

/// Long enough for whatever must happen, on any machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn vhost() -> Vhost<'static> {
    RabbitServer::shared().await.vhost().await
}

pub(crate) fn config(vhost: &Vhost<'_>) -> AmqpConfig {
    AmqpConfig::from_url(&vhost.url()).unwrap().publish_timeout(PATIENCE)
}

pub(crate) async fn open(config: AmqpConfig) -> AmqpStore {
    AmqpStore::open(config).await.unwrap_or_else(|error| panic!("{}", error.report()))
}

pub(crate) fn queue(name: &'static str) -> QueueName {
    QueueName::from_static(name)
}

pub(crate) fn exchange(name: &'static str) -> ExchangeName {
    ExchangeName::from_static(name)
}

pub(crate) fn key(key: &'static str) -> RoutingKey {
    RoutingKey::from_static(key)
}

pub(crate) fn to(exchange: &'static str, key: &'static str) -> Destination {
    Destination { exchange: ExchangeName::from_static(exchange), routing_key: RoutingKey::from_static(key) }
}

pub(crate) fn message(body: impl Into<String>) -> Message {
    Message { body: body.into().into(), ..Message::default() }
}

pub(crate) fn outgoing(body: impl Into<String>, to: impl Into<Destination>) -> Outgoing {
    Outgoing::new(message(body), to)
}

/// Publishes; an error is shown with its causes.
pub(crate) async fn publish(store: &AmqpStore, batch: Vec<Outgoing>) {
    store.broker().publish(batch).await.unwrap_or_else(|error| panic!("{}", error.report()));
}

pub(crate) async fn declare(store: &AmqpStore, spec: &celeriac_broker::QueueSpec) {
    store.broker().declare(spec).await.unwrap_or_else(|error| panic!("{}", error.report()));
}

/// The error of an outcome that is to be one.
pub(crate) fn refusal<T>(outcome: Result<T>, says: &[&str]) -> Error {
    let Err(error) = outcome else { panic!("this was to be refused: {says:?}") };
    for words in says {
        assert!(error.report().contains(words), "`{words}` is not in: {}", error.report());
    }
    error
}

/// The server as another client sees it.
pub(crate) struct Other {
    connection: Connection,
}

impl Other {
    pub(crate) async fn new(vhost: &Vhost<'_>) -> Self {
        let connection = Connection::connect(&vhost.url(), ConnectionProperties::default()).await.unwrap();
        Self { connection }
    }

    pub(crate) async fn channel(&self) -> Channel {
        self.connection.create_channel().await.unwrap()
    }

    pub(crate) async fn delete_queue(&self, name: &str) {
        self.channel().await.queue_delete(name.into(), QueueDeleteOptions::default()).await.unwrap();
    }

    pub(crate) async fn delete_exchange(&self, name: &str) {
        self.channel().await.exchange_delete(name.into(), ExchangeDeleteOptions::default()).await.unwrap();
    }

    pub(crate) async fn declare_queue(&self, name: &str, arguments: FieldTable) {
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        self.channel().await.queue_declare(name.into(), durable, arguments).await.unwrap();
    }

    /// Takes one message that waits, if there is one.
    pub(crate) async fn get(&self, queue: &str) -> Option<BasicGetMessage> {
        let options = BasicGetOptions { no_ack: true };
        self.channel().await.basic_get(queue.into(), options).await.unwrap()
    }

    /// Takes all messages that wait, once there are so many: their bodies.
    pub(crate) async fn bodies(&self, queue: &str, count: usize) -> Vec<String> {
        let channel = self.channel().await;
        let mut bodies = Vec::new();
        eventually(PATIENCE, async || {
            let options = BasicGetOptions { no_ack: true };
            while let Some(got) = channel.basic_get(queue.into(), options).await.unwrap() {
                bodies.push(String::from_utf8(got.delivery.data).unwrap());
            }
            bodies.len() >= count
        })
        .await;
        bodies
    }
}
