//! A stranger at RabbitMQ, who publishes what he likes.

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::Value as Json;

pub use lapin;

/// A connection to RabbitMQ, and a channel of it.
#[derive(Debug)]
pub struct Stranger {
    /// To be closed by being dropped.
    pub connection: Connection,
    /// What is published by it is confirmed.
    pub channel: Channel,
}

impl Stranger {
    /// Connects.
    ///
    /// # Panics
    /// If the server does not let him in.
    pub async fn new(url: &str) -> Self {
        let connection = Connection::connect(url, ConnectionProperties::default()).await.expect("a connection");
        let channel = connection.create_channel().await.expect("a channel");
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
        Self { connection, channel }
    }

    /// Declares a durable queue.
    ///
    /// # Panics
    /// If it is there, but another.
    pub async fn declare(&self, queue: &str) {
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        self.channel.queue_declare(queue.into(), durable, FieldTable::default()).await.expect("it can be declared");
    }

    /// Publishes to a queue, and waits until the server has it.
    ///
    /// # Panics
    /// If it does not take it.
    pub async fn publish(&self, queue: &str, properties: BasicProperties, body: &[u8]) {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let published = self.channel.basic_publish("".into(), queue.into(), options, body, properties).await;
        let confirmed = published.expect("it can be published").await.expect("it is confirmed");
        assert!(confirmed.is_ack() && confirmed.take_message().is_none(), "the server does not take it");
    }

    /// Publishes a task as Python's Celery does, with the argument `n` and whatever headers beside.
    ///
    /// # Panics
    /// If the server does not take it.
    pub async fn send(&self, queue: &str, task: &str, id: &str, n: u64, headers: FieldTable) {
        let body = format!(r#"[[{n}], {{}}, {{"callbacks": null, "errbacks": null, "chain": null, "chord": null}}]"#);
        self.publish(queue, properties(task, id, headers), body.as_bytes()).await;
    }
}

/// What lies in a list on Redis (see [`envelope`](crate::redis::envelope)), as RabbitMQ has it: properties and body.
///
/// # Panics
/// If it is none.
#[must_use]
pub fn message(envelope: &Json) -> (BasicProperties, Vec<u8>) {
    let text = |name: &str| envelope[name].as_str().expect("a text").to_owned();
    let AMQPValue::FieldTable(headers) = field(&envelope["headers"]) else { panic!("no headers: {envelope}") };
    let properties = BasicProperties::default()
        .with_content_type(text("content-type").into())
        .with_content_encoding(text("content-encoding").into())
        .with_delivery_mode(2)
        .with_headers(headers);
    (properties, crate::redis::unbase64(&text("body")))
}

fn field(json: &Json) -> AMQPValue {
    match json {
        Json::Null => AMQPValue::Void,
        Json::Bool(bool) => AMQPValue::Boolean(*bool),
        Json::Number(number) => AMQPValue::LongLongInt(number.as_i64().expect("an integer")),
        Json::String(text) => AMQPValue::LongString(text.as_str().into()),
        Json::Array(items) => AMQPValue::FieldArray(items.iter().map(field).collect::<Vec<_>>().into()),
        Json::Object(map) => {
            let fields = map.iter().map(|(name, value)| (name.as_str().into(), field(value)));
            AMQPValue::FieldTable(fields.collect::<std::collections::BTreeMap<_, _>>().into())
        }
    }
}

/// The properties of a task, in JSON, with whatever headers beside.
#[must_use]
pub fn properties(task: &str, id: &str, headers: FieldTable) -> BasicProperties {
    let mut all = headers;
    for (name, value) in [("lang", "py"), ("task", task), ("id", id), ("root_id", id)] {
        all.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    BasicProperties::default()
        .with_content_type("application/json".into())
        .with_content_encoding("utf-8".into())
        .with_delivery_mode(2)
        .with_headers(all)
}
