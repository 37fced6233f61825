//! Records as Celery writes and reads them. Those of Python were captured from celery 5.7.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use celeriac_core::{ContentType, ErrorKind, StoreResult, TaskFailure, TaskId, TaskState, Timestamp, Value};
use celeriac_redis::{RedisConfig, RedisStore};
use celeriac_serializer::{Json, Serializer as _, Serializers};
use celeriac_testkit::server::Reply;

use super::{Other, fetch, key, record, server, store, stored};

const SUCCESS: &str = r#"{"status": "SUCCESS", "result": 5, "traceback": null, "children": [], "date_done": "2026-11-22T07:08:58.738354+00:00", "task_id": "7803609d-ba64-49f8-b481-5e56039a288e"}"#;
const STARTED: &str = r#"{"status": "STARTED", "result": {"pid": 4356, "hostname": "r1@wire"}, "traceback": null, "children": [], "date_done": null, "task_id": "9f263212-0b4c-41c9-89ad-97d4a117c499"}"#;
const REVOKED: &str = r#"{"status": "REVOKED", "result": {"exc_type": "TaskRevokedError", "exc_message": ["revoked"], "exc_module": "celery.exceptions"}, "traceback": null, "children": [], "date_done": "2026-11-22T07:09:23.397106+00:00", "task_id": "8aecbfa4-1791-46a9-a490-baaaa6f1933c"}"#;
const EXTENDED: &str = r#"{"status": "SUCCESS", "result": [[1], {"k": 2}], "traceback": null, "children": [], "date_done": "2026-11-22T07:13:18.960870+00:00", "name": "wire.echo", "args": [1], "kwargs": {"k": 2}, "worker": "v1@wire", "retries": 0, "queue": "celery", "task_id": "ba6119df-700b-46a6-8ce7-3b47aa4de97f"}"#;
const YAML: &str = "children: []\n\
    date_done: '2026-11-22T07:13:29.701775+00:00'\n\
    result:\n\
    - - 1\n\
    - k: 2\n\
    status: SUCCESS\n\
    task_id: 9593fc9b-d216-4aeb-9981-eec66f51348d\n\
    traceback: null\n";

// In base64.
const MSGPACK: &str = "hqZzdGF0dXOnU1VDQ0VTU6ZyZXN1bHSSkQGBoWsCqXRyYWNlYmFja8CoY2hpbGRyZW6QqWRhdGVfZG9uZdkgMjAyNi0xMS0yMlQw\
    NzoxMzoyNS4xMTI2NjkrMDA6MDCndGFza19pZNkkY2EzMzlmZmQtZGE1MS00MzIxLWE5NWQtMmQ4YTJlMzZlZGE1";
const GZIP: &str = "AGNlbGVyeS1jb21wcmVzc2VkAGFwcGxpY2F0aW9uL3gtZ3ppcAB4nBWNQQqDMBREryJ/W1N+ftTGbKUnsF1JkZhEKgYLJq7EuzfZ\
    DY83MyeEqOMRQBXQv7vu2fdQFrC7cPiY4DDwT1mcsKZMV4oQd23cpE0m2+F9Qua7eLu7LftZsTq60f42l1cJqWGcM6IXPhQXSlR3\
    iciJbogKMd9FHdZxsVmXJLhtZmJap1JVU82mtkY2S0doZGucILj+vy4xwQ==";
const ZSTD: &str = "AGNlbGVyeS1jb21wcmVzc2VkAGFwcGxpY2F0aW9uL3pzdGQAKLUv/WBTAVULADbXSSUQjegBjoTs2XS7mcQgaLI4RkOS3lKEjNfN\
    JqjyeIakiAAAAAcBQgA8AD0AAJwAge1w2PYVKybUnfFlnBxKThJtUBLF8ND3esRSawl8kr3gdfIPSlxJMKReTtetYoUiQFA4MBgo\
    UAypO33/VRIB1qXDdf2hIbCr4h/vmvTxk7ocUS7G0tri1p00XusQC2L6pC7rKbVLRewyFjDPCAr425KlbMg/HbrlvzQSDzgjCUMz\
    krEdGoxa+0pKf7mNEesBbft1u2rk35Oy4ZP8oT+19T3XaEBu/+MZWdEsHPYZJStUNKnLqrXXJBOqaRzXWHMWDjalH6YVp3mjOOeM\
    0mAcxhqnkeJjDGJMwHnc4zzL4yDXIAZLYBilNWXBMMYnlZ5/SwwMqelWkjEYAFJjNDYAiIh3uHFENxLqBj26W4zW4qPh0dU2fuAA\
    rXM7zMPTroIneKEZAobYB4fAGXJO0kBF9QyAVCCVQJUB";

fn id(text: &'static str) -> TaskId {
    TaskId::from_static(text)
}

fn bytes(base64: &str) -> Vec<u8> {
    STANDARD.decode(base64).unwrap()
}

#[tokio::test]
async fn a_record_is_stored_and_published_to_the_letter_as_python_does_it() {
    let (backend, mut other) = (store("").await.backend(), Other::to(server().await).await);
    let task = id("7803609d-ba64-49f8-b481-5e56039a288e");
    let key = key(&task);
    let mut hears = server().await.connect().await.unwrap();
    hears.command(&["SUBSCRIBE", &key]).await.unwrap();
    let mut meta = record(&task, TaskState::Success, "5");
    meta.date_done = Some("2026-11-22T07:08:58.738354+00:00".parse::<Timestamp>().unwrap());
    backend.store(vec![StoreResult::new(meta.clone()).expires(Duration::from_secs(86_400))]).await.unwrap();
    assert_eq!(other.get(&key).await.map(|value| String::from_utf8(value).unwrap()).as_deref(), Some(SUCCESS));
    let heard = hears.reply().await.unwrap();
    let bulk = |text: &str| Reply::Bulk(text.as_bytes().to_vec());
    assert_eq!(heard, Reply::Array(vec![bulk("message"), bulk(&key), bulk(SUCCESS)]));
    let life = server().await.command(&["TTL", &key]).await;
    assert!(matches!(life, Reply::Integer(86_300..=86_400)), "{life:?}");
    assert_eq!(fetch(&backend, &task).await, Some(meta));
}

#[tokio::test]
async fn a_record_lives_as_long_as_it_says_to_the_millisecond_or_for_ever() {
    let backend = store("").await.backend();
    let (ever, odd) = (TaskId::random(), TaskId::random());
    backend.store(stored(&ever, TaskState::Success, "1")).await.unwrap();
    let result = StoreResult::new(record(&odd, TaskState::Success, "1")).expires(Duration::from_micros(99_999_500_900));
    backend.store(vec![result]).await.unwrap();
    assert_eq!(server().await.command(&["TTL", &key(&ever)]).await, Reply::Integer(-1));
    let life = server().await.command(&["PTTL", &key(&odd)]).await;
    assert!(matches!(life, Reply::Integer(99_900_000..=99_999_500)), "{life:?}");
}

#[tokio::test]
async fn the_prefix_of_results_is_celerys() {
    let mut other = Other::to(server().await).await;
    for (prefix, before) in [("myapp", "myapp_"), ("myapp:", "myapp:"), ("", "")] {
        let backend = store(&format!("?global_keyprefix=queues_&result_keyprefix={prefix}")).await.backend();
        let task = TaskId::random();
        backend.store(stored(&task, TaskState::Success, "1")).await.unwrap();
        assert!(other.get(&format!("{before}{}", key(&task))).await.is_some(), "prefix `{prefix}`");
    }
}

/// The result of a record in any format.
fn value(meta: &celeriac_core::TaskMeta) -> Value {
    let payload = meta.result.as_ref().expect("there is a result");
    Serializers::new().by_name(&payload.content_type).unwrap().decode_value(&payload.data).unwrap()
}

#[tokio::test]
async fn pythons_records_are_fetched_in_every_format() {
    let (backend, mut other) = (store("").await.backend(), Other::to(server().await).await);
    let json = ContentType::JSON;
    let failure = r#"{"exc_type": "ValueError", "exc_message": ["x"], "exc_module": "builtins"}"#;
    let echo = r#"[[1], {"k": 2}]"#;
    let records = [
        (
            "9f263212-0b4c-41c9-89ad-97d4a117c499",
            STARTED.into(),
            "STARTED",
            &json,
            r#"{"pid": 4356, "hostname": "r1@wire"}"#,
        ),
        ("ba6119df-700b-46a6-8ce7-3b47aa4de97f", EXTENDED.into(), "SUCCESS", &json, echo),
        ("9593fc9b-d216-4aeb-9981-eec66f51348d", YAML.into(), "SUCCESS", &ContentType::YAML, echo),
        ("ca339ffd-da51-4321-a95d-2d8a2e36eda5", bytes(MSGPACK), "SUCCESS", &ContentType::MSGPACK, echo),
        ("8231d6f2-aa11-4525-b950-f8e20c89ce32", bytes(GZIP), "SUCCESS", &json, echo),
        ("45400528-2e33-4e15-a29a-1c3651013544", bytes(ZSTD), "FAILURE", &json, failure),
    ];
    for (task, record, ..) in &records {
        other.set(&key(&id(task)), record).await;
    }
    let ids: Vec<TaskId> = records.iter().map(|(task, ..)| id(task)).collect();
    let fetched = backend.fetch(&ids).await.unwrap();
    for ((task, _, state, content_type, result), meta) in records.iter().zip(fetched) {
        let meta = meta.unwrap_or_else(|| panic!("{task} is there"));
        assert_eq!((meta.task_id.as_str(), meta.state.as_str()), (*task, *state));
        assert_eq!(&meta.result.as_ref().unwrap().content_type, *content_type, "{task}");
        assert_eq!(value(&meta), Json.decode_value(result.as_bytes()).unwrap(), "{task}");
    }
    let extended = fetch(&backend, &id("ba6119df-700b-46a6-8ce7-3b47aa4de97f")).await.unwrap().extended;
    assert_eq!(extended.get("worker").and_then(Value::as_str), Some("v1@wire"));
}

#[tokio::test]
async fn a_task_that_python_revoked_is_a_failure() {
    let (backend, mut other) = (store("").await.backend(), Other::to(server().await).await);
    let task = id("8aecbfa4-1791-46a9-a490-baaaa6f1933c");
    other.set(&key(&task), REVOKED.as_bytes()).await;
    let meta = fetch(&backend, &task).await.unwrap();
    assert_eq!(meta.state, TaskState::Revoked);
    let failure = TaskFailure::from_value(value(&meta));
    assert_eq!(failure.to_string(), "celery.exceptions.TaskRevokedError: revoked");
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_malformed_and_named() {
    let (backend, mut other) = (store("").await.backend(), Other::to(server().await).await);
    let (task, fine) = (TaskId::random(), TaskId::random());
    backend.store(stored(&fine, TaskState::Success, "1")).await.unwrap();
    for garbage in [&b"{"[..], b"{\"result\": 1}", b"\x80", b"\0celery-compressed\0application/zstd\0no"] {
        other.set(&key(&task), garbage).await;
        let error = backend.fetch(&[fine.clone(), task.clone()]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{}", error.report());
        assert!(error.to_string().contains(task.as_str()), "{error}");
    }
}

#[tokio::test]
async fn a_result_that_is_too_large_is_named_and_those_before_it_may_be_stored() {
    let config = RedisConfig::from_url(&server().await.url()).unwrap().max_message_bytes(10_000);
    let backend = RedisStore::open(config).await.unwrap().backend();
    let (small, large) = (TaskId::random(), TaskId::random());
    let mut batch = stored(&small, TaskState::Success, "1");
    batch.extend(stored(&large, TaskState::Success, format!("\"{}\"", "x".repeat(10_000))));
    let error = backend.store(batch.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    assert!(error.to_string().contains(large.as_str()), "{error}");
    assert_eq!(fetch(&backend, &large).await, None);
    backend.store(batch[..1].to_vec()).await.unwrap();
    assert!(fetch(&backend, &small).await.is_some());
}

#[tokio::test]
async fn batches_larger_than_one_call_are_stored_in_order() {
    let backend = store("").await.backend();
    let ids: Vec<TaskId> = (0..1_500).map(|_| TaskId::random()).collect();
    let mut batch: Vec<StoreResult> = Vec::new();
    for (place, id) in ids.iter().enumerate() {
        // Some so large that bytes, not their number, end a call.
        let text = if place % 300 == 0 { "x".repeat(2 << 20) } else { String::new() };
        batch.extend(stored(id, TaskState::PROGRESS, "0"));
        batch.extend(stored(id, TaskState::Success, format!("\"{place}{text}\"")));
    }
    backend.store(batch).await.unwrap();
    let fetched = backend.fetch(&ids).await.unwrap();
    for (place, meta) in fetched.into_iter().enumerate() {
        let meta = meta.unwrap();
        assert_eq!(meta.state, TaskState::Success);
        assert!(meta.result.unwrap().data.starts_with(format!("\"{place}").as_bytes()));
    }
    backend.forget(&ids).await.unwrap();
    assert!(backend.fetch(&ids).await.unwrap().iter().all(Option::is_none));
}

#[tokio::test]
async fn a_key_of_another_type_is_refused_wherever_one_record_is_asked_for() {
    let (store, task) = (store("").await, TaskId::random());
    let (backend, key) = (store.backend(), key(&task));
    server().await.command(&["RPUSH", &key, "x"]).await;
    let ids = [task.clone()];
    for error in [
        backend.store(stored(&task, TaskState::Success, "1")).await.unwrap_err(),
        backend.fetch(&ids).await.unwrap_err(),
        backend.watch(&task).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Config, "{}", error.report());
        assert!(error.to_string().contains(&key), "{error}");
    }
    // Among others it counts as missing.
    assert_eq!(backend.fetch(&[task.clone(), TaskId::random()]).await.unwrap(), [None, None]);
    backend.forget(&ids).await.unwrap();
    backend.store(stored(&task, TaskState::Success, "1")).await.unwrap();
}
