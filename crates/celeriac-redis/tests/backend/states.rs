//! Which record gives way to which, whoever wrote it.

use celeriac_core::{TaskId, TaskState};
use celeriac_serializer::Compression;

use super::{Other, fetch, key, server, store, stored};

fn python(status: &str, task: &TaskId) -> Vec<u8> {
    format!(
        r#"{{"status": "{status}", "result": null, "traceback": null, "children": [], "date_done": null, "task_id": "{task}"}}"#
    )
    .into_bytes()
}

fn msgpack(status: &str) -> Vec<u8> {
    let length = u8::try_from(status.len()).unwrap();
    [&b"\x82\xa6status"[..], &[0xa0 | length], status.as_bytes(), b"\xa6result\x01"].concat()
}

/// As Celery compresses it.
fn compressed(record: &[u8]) -> Vec<u8> {
    let mut out = b"\0celery-compressed\0application/zstd\0".to_vec();
    out.extend(Compression::Zstd.compress(record).unwrap());
    out
}

/// The record, as some writer may have it.
fn forms(status: &str, task: &TaskId) -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("celery's json", python(status, task)),
        ("json without spaces", format!(r#"{{"status":"{status}","result":1}}"#).into_bytes()),
        ("json in another order", format!(r#"{{"result": {{"status": "x"}}, "status": "{status}"}}"#).into_bytes()),
        ("json after a space", format!(r#" {{"status": "{status}", "result": 1}}"#).into_bytes()),
        ("msgpack", msgpack(status)),
        (
            "msgpack in another order",
            [b"\x82\xa6result\x01\xa6status", &msgpack(status)[8..8 + 1 + status.len()]].concat(),
        ),
        (
            "celery's yaml",
            format!("children: []\nresult:\n  status: x\nstatus: {status}\ntraceback: null\n").into_bytes(),
        ),
        ("our yaml", format!(r#"--- {{? "status" : "{status}", ? "result" : 1}}"#).into_bytes()),
        ("celery's compressed json", compressed(&python(status, task))),
        ("celery's compressed msgpack", compressed(&msgpack(status))),
    ]
}

#[tokio::test]
async fn a_success_of_pythons_is_not_overwritten_and_nothing_is_published() {
    let (backend, mut other) = (store("").await.backend(), Other::to(server().await).await);
    let task = TaskId::random();
    let mut watch = backend.watch(&TaskId::random()).await.unwrap();
    for (form, record) in forms("SUCCESS", &task) {
        other.set(&key(&task), &record).await;
        let mut hears = server().await.connect().await.unwrap();
        hears.command(&["SUBSCRIBE", &key(&task)]).await.unwrap();
        for state in [TaskState::Failure, TaskState::Success, TaskState::Started, TaskState::PROGRESS] {
            backend.store(stored(&task, state, "2")).await.unwrap();
        }
        assert_eq!(other.get(&key(&task)).await, Some(record), "{form}");
        // The next that is heard is this.
        other.publish(&key(&task), b"end").await;
        assert_eq!(hears.reply().await.unwrap().texts().last().map(String::as_str), Some("end"), "{form}");
    }
    let nothing = tokio::time::timeout(std::time::Duration::from_millis(20), watch.next()).await;
    assert!(nothing.is_err(), "what others store wakes nobody else");
}

#[tokio::test]
async fn a_failure_or_a_revocation_of_pythons_gives_way_to_another_end_only() {
    let (backend, mut other) = (store("").await.backend(), Other::to(server().await).await);
    let task = TaskId::random();
    for status in ["FAILURE", "REVOKED"] {
        for (form, record) in forms(status, &task) {
            other.set(&key(&task), &record).await;
            for state in [TaskState::Started, TaskState::PROGRESS, TaskState::Retry] {
                backend.store(stored(&task, state, "2")).await.unwrap();
            }
            assert_eq!(other.get(&key(&task)).await, Some(record), "{form}");
            backend.store(stored(&task, TaskState::Success, "3")).await.unwrap();
            assert_eq!(fetch(&backend, &task).await.unwrap().state, TaskState::Success, "{status} as {form}");
            backend.forget(std::slice::from_ref(&task)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_runs_gives_way_to_anything() {
    let (backend, mut other) = (store("").await.backend(), Other::to(server().await).await);
    let task = TaskId::random();
    // The last three only look like an end.
    for status in ["PENDING", "STARTED", "RETRY", "PROGRESS", "success", "SUCCESS2", "FAILURE_OF_SORTS"] {
        for (form, record) in forms(status, &task) {
            other.set(&key(&task), &record).await;
            backend.store(stored(&task, TaskState::Retry, "2")).await.unwrap();
            assert_eq!(fetch(&backend, &task).await.unwrap().state, TaskState::Retry, "{status} as {form}");
        }
    }
}

#[tokio::test]
async fn compressed_records_in_the_way_of_a_batch_hold_up_only_what_they_are_to() {
    let (backend, mut other) = (store("").await.backend(), Other::to(server().await).await);
    let ids: Vec<TaskId> = (0..6).map(|_| TaskId::random()).collect();
    for (place, status) in [(1, "SUCCESS"), (2, "STARTED"), (4, "FAILURE")] {
        other.set(&key(&ids[place]), &compressed(&python(status, &ids[place]))).await;
    }
    let batch = |state: TaskState| ids.iter().flat_map(|id| stored(id, state.clone(), "2")).collect::<Vec<_>>();
    backend.store([batch(TaskState::Retry), batch(TaskState::Revoked)].concat()).await.unwrap();
    let states: Vec<_> =
        backend.fetch(&ids).await.unwrap().into_iter().map(|meta| meta.unwrap().state.to_string()).collect();
    assert_eq!(states, ["REVOKED", "SUCCESS", "REVOKED", "REVOKED", "REVOKED", "REVOKED"]);
}
