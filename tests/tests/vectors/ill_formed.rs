//! Ill-formed messages, as they were put to a Python worker: here none ends the worker, none stays in the queue, and what is
//! known to be a task's is stored as its failure.

use celeriac_core::{Headers, Message, Properties, TaskState};
use celeriac_serializer::{Json, SerializerExt as _};

use crate::captured::{Captured, cases};
use crate::running::{Running, failure, result};

fn message(headers: &str, content_type: Option<&str>, body: &[u8]) -> Message {
    let content_type = content_type.map(|content_type| content_type.parse().unwrap());
    let properties = Properties { content_type, ..Properties::default() };
    Message { headers: Json.from_bytes::<Headers>(headers.as_bytes()).unwrap(), properties, body: body.to_vec().into() }
}

const JSON: Option<&str> = Some("application/json");

/// A task that failed as `class`, with a text that has `says` in it.
async fn fails(headers: &str, content_type: Option<&str>, body: &[u8], class: &str, says: &str) {
    let running = Running::start();
    let message = message(headers, content_type, body);
    let id = message.headers.get("id").and_then(|id| id.as_str().map(str::to_owned)).unwrap();
    running.publish(message).await;
    let meta = running.ended(&id).await;
    let failed = failure(&meta);
    let seen = format!("{}.{}", failed.exc_module.clone().unwrap_or_default(), failed.exc_type);
    assert_eq!(seen, class, "{headers}: {failed}");
    assert!(failed.message().contains(says), "{headers}: {failed}");
    assert_eq!(meta.state, TaskState::Failure);
    assert!(meta.date_done.is_some(), "{headers}");
    running.still_works().await;
    running.stop().await;
}

/// A message that nobody can tell the task of: it goes, and the worker goes on.
async fn dropped(message: Message) {
    let running = Running::start();
    running.publish(message).await;
    running.still_works().await;
    running.stop().await;
}

/// A message that is odd and yet a task.
async fn runs(headers: &str, body: &[u8], id: &str) {
    let running = Running::start();
    running.publish(message(headers, JSON, body)).await;
    let meta = running.ended(id).await;
    if meta.state == TaskState::Failure {
        panic!("{headers}: {}", failure(&meta));
    }
    assert_eq!(result(&meta), 2.into(), "{headers}");
    running.stop().await;
}

const DECODE: &str = "kombu.exceptions.DecodeError";
const DISALLOWED: &str = "kombu.exceptions.ContentDisallowed";
const INVALID: &str = "celery.exceptions.InvalidTaskError";

#[tokio::test]
async fn a_body_that_is_not_three_elements_fails_the_task() {
    let headers = r#"{"task": "wire.add", "id": "min-v2c"}"#;
    fails(headers, JSON, b"[[1,1],{}]", DECODE, "").await;
    fails(headers, JSON, b"[]", DECODE, "").await;
    fails(headers, JSON, b"{}", DECODE, "").await;
    fails(headers, JSON, b"", DECODE, "").await;
}

#[tokio::test]
async fn arguments_of_the_wrong_shape_fail_the_task() {
    fails(r#"{"task": "wire.add", "id": "p-kw"}"#, JSON, b"[[1,1],[],{}]", DECODE, "keyword arguments").await;
    fails(r#"{"task": "wire.add", "id": "p-ar"}"#, JSON, b"[{},{},{}]", DECODE, "arguments").await;
}

#[tokio::test]
async fn a_body_that_is_no_json_fails_the_task() {
    fails(r#"{"task": "wire.add", "id": "x-1"}"#, JSON, b"{not json", DECODE, "").await;
    fails(r#"{"task": "wire.add", "id": "x-1"}"#, JSON, b"\xff\xfe", DECODE, "").await;
}

#[tokio::test]
async fn a_header_of_the_wrong_type_fails_the_task() {
    let body = b"[[1,1],{},{}]";
    fails(r#"{"task": "wire.add", "id": "x-2", "eta": "not-a-date"}"#, JSON, body, INVALID, "`eta`").await;
    fails(r#"{"task": "wire.add", "id": "p-tl", "timelimit": [5]}"#, JSON, body, INVALID, "`timelimit`").await;
    // Python runs this one, and breaks over its stamps later.
    fails(r#"{"task": "wire.add", "id": "p-st", "stamped_headers": "x"}"#, JSON, body, INVALID, "`stamped_headers`")
        .await;
    fails(r#"{"task": "wire.add", "id": "p-re", "retries": -1}"#, JSON, body, INVALID, "`retries`").await;
    fails(r#"{"task": "", "id": "p-ta"}"#, JSON, body, INVALID, "`task`").await;
}

#[tokio::test]
async fn a_compression_that_is_not_known_fails_the_task() {
    let headers = r#"{"task": "wire.add", "id": "p-co", "compression": "application/x-nope"}"#;
    fails(headers, JSON, b"[[1,1],{},{}]", DISALLOWED, "application/x-nope").await;
    let headers = r#"{"task": "wire.add", "id": "p-cz", "compression": "application/x-gzip"}"#;
    fails(headers, JSON, b"[[1,1],{},{}]", DECODE, "").await;
}

#[tokio::test]
async fn a_format_that_is_not_accepted_fails_the_task() {
    let headers = r#"{"task": "wire.add", "id": "p-ct"}"#;
    fails(headers, Some("application/x-foo"), b"x", DISALLOWED, "application/x-foo").await;
    fails(headers, Some("application/x-python-serialize"), b"\x80\x04.", DISALLOWED, "pickle").await;
    fails(headers, Some("application/x-msgpack"), b"\x93\x92\x01\x01\x80\x80", DISALLOWED, "application/x-msgpack")
        .await;
    fails(headers, Some("application/data"), b"[[1,1],{},{}]", DISALLOWED, "application/data").await;
    fails(headers, None, b"[[1,1],{},{}]", DECODE, "content type is missing").await;
}

#[tokio::test]
async fn a_task_that_is_not_registered_fails() {
    let headers = r#"{"task": "nope.nope", "id": "u-1"}"#;
    fails(headers, JSON, b"[[1,1],{},{}]", "celery.exceptions.NotRegistered", "nope.nope").await;
}

#[tokio::test]
async fn a_message_without_an_id_is_dropped() {
    dropped(message(r#"{"task": "wire.add"}"#, JSON, b"[[1,1],{},{}]")).await;
    dropped(message(r#"{"task": "wire.add", "id": 5}"#, JSON, b"[[1,1],{},{}]")).await;
    dropped(message("{}", JSON, br#"{"task": "wire.add", "args": [1, 1], "kwargs": {}}"#)).await;
}

#[tokio::test]
async fn a_message_that_is_no_task_is_dropped() {
    for body in [&b"{not json"[..], b"{\"x\": 1}", b"[]", b"null", b"", b"\xff"] {
        dropped(message("{}", JSON, body)).await;
    }
    dropped(message("{}", None, b"{}")).await;
    dropped(message("{}", Some("application/x-python-serialize"), b"\x80\x04.")).await;
    for name in ["task_sent_event[1]"] {
        dropped(Captured::named("amqp_task_messages", name).message).await;
    }
    dropped(Captured::named("beat", "beat_amqp:ping_reply").message).await;
}

#[tokio::test]
async fn the_least_that_python_accepts_runs() {
    let headers = r#"{"task": "wire.add", "id": "min"}"#;
    runs(headers, b"[[1, 1], {}, {}]", "min").await;
    runs(headers, b"[[1, 1], {}, null]", "min").await;
    runs(headers, br#"[[1, 1], {}, {"callbacks": null, "later": 5}]"#, "min").await;
    runs("{}", br#"{"task": "wire.add", "id": "min", "args": [1, 1]}"#, "min").await;
    runs("{}", br#"{"task": "wire.add", "id": "min", "args": [1, 1], "kwargs": null, "taskset": null}"#, "min").await;
    // A body of protocol 1 under a header of protocol 2.
    runs(headers, br#"{"task": "wire.add", "id": "min", "args": [1], "kwargs": {"y": 1}}"#, "min").await;
    let reserved = r#"{"task": "wire.add", "id": "min", "args": [9], "kwargs": 3, "hostname": null, "x": {"y": []}}"#;
    runs(reserved, b"[[1, 1], {}, {}]", "min").await;
}

#[tokio::test]
async fn what_python_did_with_foreign_messages_is_done_here_too() {
    let mut ran = 0;
    for case in cases("foreign_interop_redis") {
        let Some(captured) = Captured::of("foreign_interop_redis", &case) else { continue };
        let id = captured.message.headers.get("id").or_else(|| {
            let body: celeriac_core::Value = Json.from_bytes(&captured.message.body).ok()?;
            body.get("id").cloned()
        });
        let id = id.and_then(|id| id.as_str().map(str::to_owned)).unwrap_or_else(|| panic!("{}: no id", captured.name));
        let running = Running::start();
        running.publish(captured.message.clone()).await;
        let meta = running.ended(&id).await;
        if case["name"] == "foreign_no_content_type" {
            // It ends a Python worker.
            assert_eq!(failure(&meta).exc_type, "DecodeError");
        } else {
            assert_eq!((&meta.state, result(&meta)), (&TaskState::Success, 2.into()), "{}", captured.name);
            ran += 1;
        }
        running.stop().await;
    }
    assert!(ran > 15, "only {ran} messages ran");
}
