//! How records go: forgotten or expired.

use std::time::Duration;

use celeriac_core::{StoreResult, TaskId, TaskState};

use super::kit::{BackendKit, data, record};

/// A whole second, for stores that count in those.
const SOON: Duration = Duration::from_secs(1);
const AFTER: Duration = Duration::from_millis(1200);
const LONG: Duration = Duration::from_secs(3600);

pub(super) async fn a_forgotten_record_is_gone(kit: &BackendKit) {
    let (one, other) = (TaskId::random(), TaskId::random());
    kit.store(record(&one, TaskState::Success, "1")).await;
    kit.store(record(&other, TaskState::Success, "2")).await;
    kit.backend.forget(std::slice::from_ref(&one)).await.expect("a record is forgotten");
    assert_eq!(kit.fetch(&one).await, None, "a forgotten record is gone");
    assert!(kit.fetch(&other).await.is_some(), "another one is not");
}

pub(super) async fn forgetting_what_is_not_there_is_no_error(kit: &BackendKit) {
    let (id, missing) = (TaskId::random(), TaskId::random());
    kit.store(record(&id, TaskState::Success, "1")).await;
    kit.backend.forget(&[missing, id.clone(), id.clone()]).await.expect("an id without a record is no error");
    assert_eq!(kit.fetch(&id).await, None, "the record that was there is gone");
}

pub(super) async fn after_forgetting_a_task_starts_anew(kit: &BackendKit) {
    let id = TaskId::random();
    kit.store(record(&id, TaskState::Success, "old")).await;
    kit.backend.forget(std::slice::from_ref(&id)).await.expect("a record is forgotten");
    let mut watch = kit.watch(&id).await;
    kit.nothing(&mut watch, "the record was forgotten before the watch began").await;
    kit.store(record(&id, TaskState::Started, "new")).await;
    let meta = kit.next(&mut watch).await;
    assert_eq!((meta.state.as_str(), data(&meta).as_str()), ("STARTED", "new"), "no old success forbids it");
    assert_eq!(kit.fetch(&id).await, Some(meta));
}

pub(super) async fn a_watch_goes_on_after_a_record_was_forgotten(kit: &BackendKit) {
    let id = TaskId::random();
    let mut watch = kit.watch(&id).await;
    kit.store(record(&id, TaskState::PROGRESS, "old")).await;
    kit.backend.forget(std::slice::from_ref(&id)).await.expect("a record is forgotten");
    kit.store(record(&id, TaskState::Success, "new")).await;
    let meta = kit.end(&mut watch).await;
    assert_eq!(data(&meta), "new", "what is stored after the forgetting is yielded");
}

pub(super) async fn an_expired_record_is_gone(kit: &BackendKit) {
    let (brief, long, ever) = (TaskId::random(), TaskId::random(), TaskId::random());
    kit.store_all(vec![
        StoreResult::new(record(&brief, TaskState::Success, "brief")).expires(SOON),
        StoreResult::new(record(&long, TaskState::Success, "long")).expires(LONG),
        StoreResult::new(record(&ever, TaskState::Success, "ever")),
    ])
    .await;
    assert!(kit.fetch(&brief).await.is_some(), "before it expires, a record is there");
    kit.pass(AFTER).await;
    assert_eq!(kit.fetch(&brief).await, None, "a record that expired is not fetched");
    kit.nothing(&mut kit.watch(&brief).await, "the record has expired").await;
    assert!(kit.fetch(&long).await.is_some(), "a record that has not expired is there");
    assert!(kit.fetch(&ever).await.is_some(), "a record without expiry is there");
}

pub(super) async fn an_expired_record_binds_nobody(kit: &BackendKit) {
    let id = TaskId::random();
    kit.store_all(vec![StoreResult::new(record(&id, TaskState::Success, "old")).expires(SOON)]).await;
    kit.pass(AFTER).await;
    kit.store(record(&id, TaskState::Started, "new")).await;
    let meta = kit.fetch(&id).await.expect("the new record is stored");
    assert_eq!((meta.state.as_str(), data(&meta).as_str()), ("STARTED", "new"), "no expired success forbids it");
}

pub(super) async fn sweeping_leaves_what_has_not_expired(kit: &BackendKit) {
    let ids: Vec<TaskId> = (0..5).map(|_| TaskId::random()).collect();
    let kept = TaskId::random();
    let brief = |id: &TaskId| StoreResult::new(record(id, TaskState::Success, "x")).expires(SOON);
    kit.store_all(ids.iter().map(brief).collect()).await;
    kit.store_all(vec![StoreResult::new(record(&kept, TaskState::Success, "kept")).expires(LONG)]).await;
    kit.pass(AFTER).await;
    let swept = kit.backend.sweep().await.expect("an open backend sweeps");
    // Others may share the store, so there may be more.
    assert!(swept == 0 || swept >= 5, "five records had expired, and {swept} were swept");
    let left = kit.backend.fetch(&ids).await.expect("an open backend fetches");
    assert!(left.iter().all(Option::is_none), "what was swept is gone");
    assert!(kit.fetch(&kept).await.is_some(), "what has not expired stays");
}

pub(super) async fn storing_again_renews_the_expiry(kit: &BackendKit) {
    let (renewed, shortened) = (TaskId::random(), TaskId::random());
    for (id, first, second) in [(&renewed, SOON, LONG), (&shortened, LONG, SOON)] {
        kit.store_all(vec![StoreResult::new(record(id, TaskState::PROGRESS, "1")).expires(first)]).await;
        kit.store_all(vec![StoreResult::new(record(id, TaskState::PROGRESS, "2")).expires(second)]).await;
    }
    kit.pass(AFTER).await;
    kit.backend.sweep().await.expect("an open backend sweeps");
    assert_eq!(kit.fetch(&renewed).await.as_ref().map(data).as_deref(), Some("2"), "the newer record lasts longer");
    assert_eq!(kit.fetch(&shortened).await, None, "the newer record lasts shorter");
}
