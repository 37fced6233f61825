//! What arrives.

use std::time::Duration;

use celeriac_broker::Outgoing;
use celeriac_core::{
    ContentType, DeliveryMode, Headers, Map, Message, Priority, Properties, TaskHeaders, TaskId, TaskName, Value,
};

use super::kit::{BrokerKit, MANY};

fn task() -> TaskHeaders {
    let mut task = TaskHeaders::new(TaskName::from_static("mail.send"), TaskId::random());
    task.eta = "2026-11-22T12:27:14.257208+05:30".parse().ok();
    task.retries = 3;
    task.timelimit.soft = Some(Duration::from_millis(1500));
    task.argsrepr = "('é\u{1f331}',)".to_owned();
    task.origin = Some("gen1@host".into());
    task.ignore_result = Some(false);
    task.stamped_headers = Some(vec!["tenant".to_owned()]);
    task.stamps.insert("tenant".to_owned(), Value::from("acme"));
    task.extra.insert("x-trace".to_owned(), Value::from("00-ab-cd-01"));
    task
}

/// Publishes one message and receives it.
async fn round_trip(kit: &BrokerKit, message: Message) -> Message {
    let queue = kit.queue();
    kit.send(vec![Outgoing::new(message, &queue)]).await;
    let delivery = kit.one(&mut kit.consumer(&queue).await).await;
    let message = delivery.message.clone();
    delivery.ack().await.expect("a held delivery is acknowledged");
    message
}

pub(super) async fn a_message_arrives_as_it_was_published(kit: &BrokerKit) {
    let task = task();
    let mut extra = Map::new();
    extra.insert("app_id".to_owned(), Value::from("shop"));
    let sent = Message {
        properties: Properties {
            content_type: Some(ContentType::JSON),
            content_encoding: Some("utf-8".into()),
            correlation_id: Some((&task.id).into()),
            reply_to: "replies".parse().ok(),
            delivery_mode: Some(DeliveryMode::Persistent),
            priority: Some(Priority(3)),
            expiration: Some(Duration::from_secs(3600)),
            extra,
        },
        headers: task.into(),
        body: "[[1, 2], {}, {}]".into(),
    };
    let came = round_trip(kit, sent.clone()).await;
    assert_eq!(came.headers, sent.headers, "the headers arrive as they were published");
    assert_eq!(came.properties, sent.properties, "the properties arrive as they were published");
    assert_eq!(came.body, sent.body, "the body arrives as it was published");
}

pub(super) async fn headers_of_no_task_are_kept(kit: &BrokerKit) {
    let mut headers = Headers::new();
    headers.set_extra("kind", "note");
    headers.set_extra("size", i64::MAX);
    headers.set_extra("empty", Value::Null);
    headers.set_extra("parts", vec![Value::from(1), Value::from("two"), Value::from(true)]);
    let mut nested = Map::new();
    nested.insert("a".to_owned(), Value::from(0.5));
    headers.set_extra("nested", Value::Map(nested));
    let sent = Message { headers, ..Message::default() };
    let came = round_trip(kit, sent.clone()).await;
    assert_eq!(came.headers.to_map(), sent.headers.to_map(), "the headers arrive as they were published");
    assert!(came.task().is_none(), "headers without a task stay those of no task");
}

pub(super) async fn malformed_headers_are_kept(kit: &BrokerKit) {
    let mut table = Headers::from(task()).to_map();
    table.insert("retries".to_owned(), Value::from("many"));
    let sent = Headers::from_map(table);
    let came = round_trip(kit, Message { headers: sent.clone(), ..Message::default() }).await.headers;
    assert_eq!(came.to_map(), sent.to_map(), "also the header that makes no sense arrives as it was published");
    assert!(came.malformed().is_some_and(|reason| reason.contains("retries")), "and is still told to be malformed");
}

pub(super) async fn an_empty_message_arrives(kit: &BrokerKit) {
    let came = round_trip(kit, Message::default()).await;
    assert!(came.body.is_empty(), "an empty body arrives empty");
    assert!(came.headers.to_map().is_empty(), "no header is added: {:?}", came.headers);
    assert_eq!(came.properties.content_type, None, "no content type is made up");
}

pub(super) async fn a_body_of_any_bytes_arrives_unchanged(kit: &BrokerKit) {
    let every: Vec<u8> = (0..=u8::MAX).collect();
    let large = every.repeat(4096);
    for body in [every, large] {
        let sent = Message { body: body.into(), ..Message::default() };
        let came = round_trip(kit, sent.clone()).await;
        assert_eq!(came.body.len(), sent.body.len(), "the body keeps its length");
        assert!(came.body == sent.body, "the body keeps every byte");
    }
}

pub(super) async fn a_delivery_tells_where_it_was_published(kit: &BrokerKit) {
    let queue = kit.queue();
    kit.publish(&queue, ["x"]).await;
    let delivery = kit.one(&mut kit.consumer(&queue).await).await;
    assert_eq!(delivery.queue, queue, "the queue it was taken from");
    assert_eq!(delivery.exchange, "", "published to the default exchange");
    assert_eq!(delivery.routing_key, queue.as_str(), "published with the queue's name as routing key");
    delivery.ack().await.expect("a held delivery is acknowledged");
}

pub(super) async fn delivery_tags_are_distinct(kit: &BrokerKit) {
    let queue = kit.queue();
    kit.publish(&queue, (0..20).map(|n| n.to_string())).await;
    let mut consumer = kit.eager([queue]).await;
    let mut tags = Vec::new();
    for delivery in kit.take(&mut consumer, 20).await {
        let receipt = delivery.into_receipt();
        tags.push(receipt.tag());
        receipt.settle(celeriac_broker::Verb::Ack).await.expect("a held delivery is acknowledged");
    }
    tags.sort_unstable();
    tags.dedup();
    assert_eq!(tags.len(), 20, "twenty deliveries have twenty tags");
}

pub(super) async fn an_empty_batch_is_published(kit: &BrokerKit) {
    let queue = kit.queue();
    kit.send(Vec::new()).await;
    kit.publish(&queue, ["x"]).await;
    let got = kit.recv(&mut kit.consumer(&queue).await, MANY).await;
    assert_eq!(got.len(), 1, "only what was published arrives");
}
