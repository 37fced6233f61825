//! What goes over the wire, to Python and from it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use celeriac_core::{CorrelationId, ErrorKind};
use lapin::BasicProperties;
use lapin::message::BasicGetMessage;
use lapin::options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use serde_json::Value as Case;

use super::*;

const RESULTS: &str = include_str!("../../../../tests/vectors/results_rpc.json");
const FORMATS: &str = include_str!("../../../../tests/vectors/results_redis.json");

fn cases(file: &str) -> Vec<Case> {
    serde_json::from_str(file).unwrap()
}

fn bytes(case: &Case, name: &str) -> Vec<u8> {
    STANDARD.decode(case[name].as_str().unwrap()).unwrap()
}

/// The next message of a queue.
async fn taken(channel: &Channel, queue: &str) -> BasicGetMessage {
    channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await.unwrap().expect("a message")
}

/// Sends a reply as a worker does, and waits until the server has it.
async fn reply(channel: &Channel, queue: &str, content_type: &str, correlation_id: &str, body: &[u8]) {
    let properties = BasicProperties::default()
        .with_content_type(content_type.into())
        .with_correlation_id(correlation_id.into())
        .with_delivery_mode(1);
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let options = BasicPublishOptions::default();
    channel.basic_publish("".into(), queue.into(), options, body, properties).await.unwrap().await.unwrap();
}

#[tokio::test]
async fn a_reply_is_as_celerys() {
    let vhost = vhost().await;
    let (_connection, channel) = stranger(&vhost.url()).await;
    channel.queue_declare("client".into(), QueueDeclareOptions::default(), FieldTable::default()).await.unwrap();
    let worker = backend(&vhost.url()).await;
    let id = TaskId::random();
    let mut stored = result(&id, TaskState::Success, "[1,2]", Some("client".parse().unwrap()));
    stored.correlation_id = Some(CorrelationId::new("the call").unwrap());
    stored.expires = Some(Duration::from_secs(86_400));
    worker.store(vec![stored]).await.unwrap();

    let message = taken(&channel, "client").await.delivery;
    let captured = cases(RESULTS).into_iter().find(|case| case["name"] == "success:reply:2").unwrap();
    assert_eq!((message.exchange.as_str(), message.routing_key.as_str()), ("", "client"));
    let properties = &message.properties;
    let text = |text: &Option<lapin::types::ShortString>| text.as_ref().map(ToString::to_string);
    assert_eq!(text(properties.content_type()).unwrap(), captured["properties"]["content_type"].as_str().unwrap());
    assert_eq!(
        text(properties.content_encoding()).unwrap(),
        captured["properties"]["content_encoding"].as_str().unwrap()
    );
    assert_eq!(properties.priority().map(u64::from), captured["properties"]["priority"].as_u64());
    assert!(properties.headers().as_ref().is_none_or(|headers| headers.inner().is_empty()));
    assert_eq!(text(properties.correlation_id()).unwrap(), "the call");
    // Not Celery's: a restart of the server loses no result, and none waits for ever.
    assert_eq!(*properties.delivery_mode(), Some(2));
    assert_eq!(text(properties.expiration()).unwrap(), "86400000");
    let keys = |body: &Case| body.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let body: Case = serde_json::from_slice(&message.data).unwrap();
    assert_eq!(keys(&body), keys(&captured["body"]));
    assert_eq!((&body["status"], &body["result"]), (&"SUCCESS".into(), &serde_json::json!([1, 2])));
    assert_eq!(body["task_id"], id.as_str());
}

#[tokio::test]
async fn a_reply_names_its_format_and_its_task() {
    let vhost = vhost().await;
    let (_connection, channel) = stranger(&vhost.url()).await;
    channel.queue_declare("client".into(), QueueDeclareOptions::default(), FieldTable::default()).await.unwrap();
    let worker = backend(&vhost.url()).await;
    let unknown = ContentType::from_static("application/x-mine");
    for (format, data, expected) in [
        (ContentType::MSGPACK, &b"\x05"[..], ("application/x-msgpack", "binary")),
        (ContentType::YAML, b"- 5", ("application/x-yaml", "utf-8")),
        (unknown, b"\x00", ("application/json", "utf-8")),
    ] {
        let id = TaskId::random();
        let meta = TaskMeta::new(id.clone(), TaskState::Success)
            .with_result(Payload { content_type: format, data: data.into() });
        let mut stored = StoreResult::new(meta);
        stored.reply_to = Some("client".parse().unwrap());
        worker.store(vec![stored]).await.unwrap();
        let properties = taken(&channel, "client").await.delivery.properties;
        let text = |text: &Option<lapin::types::ShortString>| text.as_ref().unwrap().to_string();
        assert_eq!((&*text(properties.content_type()), &*text(properties.content_encoding())), expected);
        assert_eq!(text(properties.correlation_id()), id.as_str(), "for a task without a correlation id");
        assert!(properties.expiration().is_none(), "kept for ever");
    }
}

#[tokio::test]
async fn every_reply_that_python_was_captured_to_send_is_read() {
    let vhost = vhost().await;
    let (_connection, channel) = stranger(&vhost.url()).await;
    let client = backend(&vhost.url()).await;
    let queue = client.reply_to().unwrap();
    client.fetch(&[]).await.unwrap();
    let mut ends: Vec<(TaskId, Case)> = Vec::new();
    for case in cases(RESULTS).iter().filter(|case| case["transport"] == "amqp") {
        let (properties, body) = (&case["properties"], &case["body"]);
        let (content_type, correlation_id) =
            (properties["content_type"].as_str().unwrap(), properties["correlation_id"].as_str().unwrap());
        reply(&channel, &queue, content_type, correlation_id, &bytes(case, "body_b64")).await;
        let id: TaskId = body["task_id"].as_str().unwrap().parse().unwrap();
        ends.retain(|(other, _)| *other != id);
        ends.push((id, body.clone()));
    }
    assert!(ends.len() > 25, "only {} replies were found", ends.len());
    for (id, body) in ends {
        let mut watch = client.watch(&id).await.unwrap();
        let expected = body["status"].as_str().unwrap();
        let meta = loop {
            let meta = next(&mut watch).await;
            if meta.state.as_str() == expected {
                break meta;
            }
        };
        assert_eq!(meta.traceback.as_deref(), body["traceback"].as_str());
        assert_eq!(json(&meta), body["result"], "{body}");
    }
}

#[tokio::test]
async fn replies_in_other_formats_are_read() {
    let vhost = vhost().await;
    let (_connection, channel) = stranger(&vhost.url()).await;
    let client = backend(&vhost.url()).await;
    let queue = client.reply_to().unwrap();
    client.fetch(&[]).await.unwrap();
    for (form, content_type) in [("msgpack", ContentType::MSGPACK), ("yaml", ContentType::YAML)] {
        let find = |end: &str| cases(FORMATS).into_iter().find(|case| case["name"] == format!("{form}_{end}")).unwrap();
        for (end_name, state) in [("success", TaskState::Success), ("failure", TaskState::Failure)] {
            let case = find(end_name);
            let id: TaskId = case["key"].as_str().unwrap().rsplit_once("meta-").unwrap().1.parse().unwrap();
            reply(&channel, &queue, &content_type, &id, &bytes(&case, "value_b64")).await;
            let meta = end(&client, &id).await;
            assert_eq!(meta.state, state);
            assert_eq!(meta.result.unwrap().content_type, content_type);
        }
    }
}

#[tokio::test]
async fn what_is_no_result_is_dropped_and_disturbs_nothing() {
    let vhost = vhost().await;
    let (_connection, channel) = stranger(&vhost.url()).await;
    let client = backend(&vhost.url()).await;
    let queue = client.reply_to().unwrap();
    let id = TaskId::random();
    let mut watch = client.watch(&id).await.unwrap();
    let pickle = b"\x80\x04\x95\x16\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x06status\x94\x8c\x07SUCCESS\x94s.";
    for (content_type, body) in [
        ("application/json", &b""[..]),
        ("application/json", b"{"),
        ("application/json", b"[1, 2]"),
        ("application/json", b"{\"result\": 1}"),
        ("application/json", b"{\"status\": 5, \"task_id\": \"a\"}"),
        ("application/json", b"{\"status\": \"SUCCESS\", \"result\": 1}"),
        ("application/x-python-serialize", pickle),
        ("application/x-msgpack", b"\xdf\xff\xff\xff\xff"),
        ("application/data", &[0xff; 3000]),
        ("", b"\0celery-compressed\0application/x-gzip\0junk"),
    ] {
        reply(&channel, &queue, content_type, &id, body).await;
    }
    let record = format!("{{\"task_id\": \"{id}\", \"status\": \"SUCCESS\", \"result\": 7}}");
    reply(&channel, &queue, "nonsense", "somebody else's", record.as_bytes()).await;
    assert_eq!(json(&next(&mut watch).await), 7, "what the body says counts");
    let info = vhost.queue_info(&queue).await.unwrap();
    assert_eq!((info.ready, info.consumers), (0, 1), "nothing was left or came again");
}

#[tokio::test]
async fn a_result_that_is_too_large_names_its_task() {
    let vhost = vhost().await;
    let worker = backend(&vhost.url()).await;
    let id = TaskId::random();
    let large = result(&id, TaskState::Success, format!("\"{}\"", "x".repeat(65 << 20)), Some("q".parse().unwrap()));
    let error = worker.store(vec![large]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.message().contains(id.as_str()) && error.message().contains("max_message_bytes"), "{error}");
}
