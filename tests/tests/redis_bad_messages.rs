//! Items of a queue on Redis that are no messages, or none that can be run: set aside or failed with the cause, and the rest goes on.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use celeriac::prelude::*;
use celeriac::{QueueName, TaskId};
use celeriac_testkit::server::RedisServer;
use celeriac_tests::odd::{self, odd};
use celeriac_tests::redis::{envelope, unbase64, undone};
use celeriac_tests::runs::{PATIENCE, Runs, Worker, builder, twice};
use celeriac_tests::until;
use serde_json::{Value as Json, json};

/// A server, an app over it and a worker.
struct Place {
    server: RedisServer,
    runs: Runs,
    app: App,
}

impl Place {
    async fn new() -> Self {
        celeriac_tests::log::keep("info");
        let (server, runs) = (RedisServer::start().await, Runs::default());
        let app = builder(&server.url(), &runs).build().await.unwrap();
        Self { server, runs, app }
    }

    async fn push(&self, item: &str) {
        assert!(self.server.command(&["LPUSH", "celery", item]).await.text().parse::<u64>().is_ok());
    }

    /// Works until all is done that waits, and what was sent after it.
    async fn work(&self) {
        let last = self.app.send(twice::s(1_000)).await.unwrap();
        let worker = Worker::start(&self.app, 2);
        assert_eq!(last.get_timeout(PATIENCE).await.unwrap(), 2_000, "what follows is done");
        let depth = async || self.app.broker().depth(&QueueName::DEFAULT).await.unwrap();
        until("the queue is empty", async || depth().await == 0).await;
        worker.stop().await;
        self.app.close().await.unwrap();
    }

    /// What was set aside, the oldest first.
    async fn aside(&self) -> Vec<Json> {
        let mut notes = self.server.command(&["LRANGE", "_celeriac.aside", "0", "-1"]).await.texts();
        notes.reverse();
        notes.iter().map(|note| serde_json::from_str(note).unwrap()).collect()
    }
}

#[tokio::test]
async fn what_is_no_message_is_set_aside_with_queue_and_reason() {
    let place = Place::new().await;
    let first = place.app.send(twice::s(1)).await.unwrap();
    let large = format!("{{{}", "x".repeat(10_000_000));
    let garbage = [
        ("", "no JSON object"),
        ("this is no JSON", "no JSON object"),
        ("[1, 2, 3]", "no JSON object"),
        ("{}", "without body, headers and properties"),
        (r#"{"task": "twice", "id": "x", "args": [1]}"#, "without body, headers and properties"),
        (r#"{"body": "cut o"#, "without end"),
        (&large, "no text as key of an object"),
    ];
    for (item, _) in garbage {
        place.push(item).await;
    }
    let binary = r"return redis.call('LPUSH', 'celery', '\0\255\254\r\n\128')";
    place.server.command(&["EVAL", binary, "0"]).await;
    place.work().await;

    assert_eq!(first.meta().await.map_err(|error| error.kind()), Err(celeriac::ErrorKind::Unavailable), "it is closed");
    assert_eq!(place.runs.of(1).all, 1);
    let aside = place.aside().await;
    assert_eq!(aside.len(), garbage.len() + 1);
    for ((item, reason), note) in garbage.iter().zip(&aside) {
        let told = note["reason"].as_str().unwrap();
        assert!(told.contains(reason), "{told}");
        assert!(celeriac_tests::log::says(&["no message", "celery", told]), "{}", celeriac_tests::log::kept());
        assert_eq!(note["queue"], "celery");
        assert_eq!(unbase64(note["item"].as_str().unwrap()), item.as_bytes());
    }
    let binary = aside.last().unwrap();
    assert!(binary["reason"].as_str().unwrap().contains("utf-8"), "{binary}");
    assert_eq!(unbase64(binary["item"].as_str().unwrap()), b"\0\xff\xfe\r\n\x80");
    assert_eq!(undone(&place.server, 0, "").await, ["_celeriac.aside"]);
}

fn remove(message: &mut Json, key: &str) {
    message.as_object_mut().unwrap().remove(key).unwrap();
}

#[tokio::test]
async fn a_message_that_cannot_be_run_fails_its_task_with_the_cause() {
    let mut cases = odd::messages();
    cases.extend([
        odd("type-is-a-number", "DecodeError", "content type is missing", |message| message["content-type"] = json!(5)),
        odd("broken-base64", "DecodeError", "the body is not a list", |message| message["body"] = json!("W1sxX, !!")),
        odd("no-body", "DecodeError", "the body is not a list", |message| remove(message, "body")),
        odd("body-is-null", "DecodeError", "the body is not a list", |message| message["body"] = json!(null)),
        odd("body-is-a-number", "DecodeError", "the body is not a list", |message| message["body"] = json!(5)),
    ]);
    let place = Place::new().await;
    let mut results = Vec::new();
    for odd in &cases {
        place.push(&odd.message.to_string()).await;
        results.push(place.app.result::<u64>(TaskId::new(odd.what).unwrap()));
    }
    let worker = Worker::start(&place.app, 1);
    let mut wrong = Vec::new();
    for (odd, result) in cases.iter().zip(results) {
        let told = match result.get_timeout(PATIENCE).await {
            Err(ResultError::Failure(failure)) => {
                if failure.exc_type == odd.class && failure.message().contains(odd.says) {
                    continue;
                }
                failure.to_string()
            }
            other => format!("{other:?}"),
        };
        wrong.push(format!("{}: {told}", odd.what));
    }
    worker.stop().await;
    assert!(wrong.is_empty(), "{wrong:#?}");
    place.work().await;
    assert_eq!(place.runs.of(1).all, 0, "none of them ran");
    assert_eq!(undone(&place.server, 0, "").await, Vec::<String>::new());
}

#[tokio::test]
async fn a_body_that_can_be_read_is_read_whatever_its_encoding_is_called() {
    let place = Place::new().await;
    for (n, encoding) in [json!("utf-17"), json!("binary"), json!(8), json!(null)].into_iter().enumerate() {
        let id = format!("encoded-{n}");
        let mut message = envelope("twice", &id, 3);
        message["content-encoding"] = encoding;
        place.push(&message.to_string()).await;
    }
    let worker = Worker::start(&place.app, 1);
    for n in 0..4 {
        let result = place.app.result::<u64>(TaskId::new(format!("encoded-{n}")).unwrap());
        assert_eq!(result.get_timeout(PATIENCE).await.unwrap(), 6);
    }
    worker.stop().await;
    place.app.close().await.unwrap();
}

#[tokio::test]
async fn a_message_without_a_task_is_dropped_and_said() {
    let place = Place::new().await;
    let mut without_headers = envelope("twice", "lost-headers", 1);
    remove(&mut without_headers, "headers");
    let mut without_id = envelope("twice", "lost-id", 1);
    remove(&mut without_id["headers"], "id");
    for message in [without_headers, without_id] {
        place.push(&message.to_string()).await;
    }
    place.work().await;
    assert_eq!(place.runs.of(1).all, 0);
    let kept = celeriac_tests::log::kept();
    // The process's other tests log too, of messages that have ids.
    let said = kept.lines().filter(|line| line.contains("unreadable message rejected") && line.contains(r#"id="?""#));
    assert_eq!(said.count(), 2, "{kept}");
    assert_eq!(undone(&place.server, 0, "").await, Vec::<String>::new());
}
