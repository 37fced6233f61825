//! What is fetched is what was stored.

use std::sync::Arc;
use std::time::Duration;

use celeriac_core::{
    ContentType, GroupId, Payload, ResultTuple, StoreResult, TaskFailure, TaskId, TaskMeta, TaskState, Timestamp, Value,
};

use super::kit::{BackendKit, data, record};

pub(super) async fn a_record_comes_back_as_it_was_stored(kit: &BackendKit) {
    let (id, parent) = (TaskId::random(), TaskId::random());
    let mut meta = record(&id, TaskState::Success, "{\"é\": \"\u{1f331}\"}");
    meta.children = Some(vec![
        ResultTuple::task(&TaskId::random()),
        ResultTuple {
            id: "group".to_owned(),
            parent: Some(Box::new(ResultTuple::task(&parent))),
            children: Some(vec![ResultTuple::task(&TaskId::random())]),
        },
    ]);
    meta.date_done = Some(Timestamp::from_micros(1_767_225_600_123_456));
    meta.group_id = Some(GroupId::random());
    meta.parent_id = Some(parent);
    meta.extended.insert("name", Value::from("mail.send"));
    meta.extended.insert("args", Value::from(vec![Value::from(1), Value::from("zwei")]));
    meta.extended.insert("retries", Value::from(2));
    meta.extended.insert("queue", Value::Null);
    let mut stored = StoreResult::new(meta.clone()).expires(Duration::from_secs(3600));
    stored.correlation_id = Some((&id).into());
    kit.store_all(vec![stored]).await;
    let found = kit.fetch(&id).await.expect("what was stored is fetched");
    assert_eq!(found, meta, "every field comes back as it was stored");
    assert_eq!(kit.fetch(&id).await, Some(meta), "a result may be read twice");
}

pub(super) async fn a_record_without_anything_comes_back(kit: &BackendKit) {
    let id = TaskId::random();
    let mut meta = TaskMeta::new(id.clone(), TaskState::Revoked);
    meta.children = None;
    kit.store(meta.clone()).await;
    assert_eq!(kit.fetch(&id).await, Some(meta), "what was left out stays left out");
}

pub(super) async fn a_failure_comes_back_as_it_was_stored(kit: &BackendKit) {
    let id = TaskId::random();
    let failure = TaskFailure::new("shop.errors", "Declined", "no é for you");
    // The backend never looks into the result, so any bytes do for the exception object.
    let mut meta = record(&id, TaskState::Failure, format!("{:?}", failure.to_value()));
    meta.traceback = Some("Traceback (most recent call last):\n  \u{1f331}\n".to_owned());
    kit.store(meta.clone()).await;
    assert_eq!(kit.fetch(&id).await, Some(meta));
}

pub(super) async fn a_result_of_any_bytes_comes_back(kit: &BackendKit) {
    let every: Vec<u8> = (0..=u8::MAX).collect();
    for bytes in [Vec::new(), every.clone(), every.repeat(4096)] {
        let id = TaskId::random();
        let payload =
            Payload { content_type: ContentType::from_static("application/x-anything"), data: bytes.clone().into() };
        kit.store(TaskMeta::new(id.clone(), TaskState::Success).with_result(payload)).await;
        let found = kit.fetch(&id).await.and_then(|meta| meta.result).expect("the result is stored");
        assert_eq!(found.content_type, "application/x-anything", "the format is kept");
        assert_eq!(found.data.len(), bytes.len(), "the result keeps its length");
        assert!(found.data == bytes, "the result keeps every byte");
    }
}

pub(super) async fn missing_records_are_none_and_the_order_is_kept(kit: &BackendKit) {
    let (first, missing, second) = (TaskId::random(), TaskId::random(), TaskId::random());
    kit.store(record(&first, TaskState::Success, "1")).await;
    kit.store(record(&second, TaskState::Success, "2")).await;
    let ids = [second.clone(), missing, first.clone()];
    let found = kit.backend.fetch(&ids).await.expect("an open backend fetches");
    let found: Vec<Option<TaskId>> = found.into_iter().map(|meta| meta.map(|meta| meta.task_id)).collect();
    assert_eq!(found, [Some(second), None, Some(first)], "in the order that was asked");
}

pub(super) async fn empty_batches_do_nothing(kit: &BackendKit) {
    kit.store_all(Vec::new()).await;
    assert!(kit.backend.fetch(&[]).await.expect("fetching nothing is no error").is_empty());
    kit.backend.forget(&[]).await.expect("forgetting nothing is no error");
}

pub(super) async fn a_batch_of_many_is_stored(kit: &BackendKit) {
    let ids: Vec<TaskId> = (0..500).map(|_| TaskId::random()).collect();
    let one = |(n, id): (usize, &TaskId)| StoreResult::new(record(id, TaskState::Success, n.to_string()));
    kit.store_all(ids.iter().enumerate().map(one).collect()).await;
    let found = kit.backend.fetch(&ids).await.expect("an open backend fetches");
    let found: Vec<String> = found.iter().map(|meta| meta.as_ref().map(data).unwrap_or_default()).collect();
    let expected: Vec<String> = (0..500).map(|n| n.to_string()).collect();
    assert_eq!(found, expected, "all of the batch is stored");
}

pub(super) async fn ids_of_any_text_are_kept_apart(kit: &BackendKit) {
    let unique = crate::unique("");
    let long = format!("{unique}{}", "x".repeat(155 - unique.len()));
    let texts = [
        format!("{unique} a"),
        format!("{unique} A"),
        format!("{unique}'%_*?\"\\"),
        format!("{unique}é\u{1f331}"),
        format!("{unique}/../:{{}}"),
        long,
    ];
    let ids: Vec<TaskId> = texts.into_iter().map(|text| TaskId::new(text).expect("a valid id")).collect();
    for id in &ids {
        kit.store(record(id, TaskState::Success, id.as_str())).await;
    }
    for id in &ids {
        let found = kit.fetch(id).await.unwrap_or_else(|| panic!("the record of task `{id}` is stored"));
        assert_eq!((&found.task_id, data(&found).as_str()), (id, id.as_str()), "each id has its own record");
    }
}

pub(super) async fn many_store_at_once(kit: &BackendKit) {
    let storers: Vec<_> = (0..8)
        .map(|side| {
            let (backend, storer) = (Arc::clone(&kit.backend), kit.storer());
            tokio::spawn(async move {
                for n in 0..25 {
                    let id = TaskId::random();
                    let state = if n % 2 == 0 { TaskState::Success } else { TaskState::Failure };
                    let meta = record(&id, state, format!("{side} {n}"));
                    storer.store(vec![StoreResult::new(meta.clone())]).await;
                    let found = backend.fetch(&[id]).await.expect("an open backend fetches");
                    assert_eq!(found, [Some(meta)], "`Ok` of `store` means that it is stored");
                }
            })
        })
        .collect();
    for storer in storers {
        storer.await.expect("one of those who stored at once failed");
    }
}
