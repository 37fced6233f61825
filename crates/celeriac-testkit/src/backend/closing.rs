//! The end of a handle, and what others on the same store see of it.

use celeriac_backend::{Error, ErrorKind};
use celeriac_core::{StoreResult, TaskId, TaskState};
use tokio::time::timeout;

use super::kit::{BackendKit, data, record};

pub(super) async fn close_ends_a_pending_watch(kit: &BackendKit) {
    let mut watch = kit.watch(&TaskId::random()).await;
    let done = TaskId::random();
    kit.store(record(&done, TaskState::Success, "x")).await;
    let mut ended = kit.watch(&done).await;
    kit.next(&mut ended).await;
    let waiting = tokio::spawn(async move { (watch.next().await, ended.next().await) });
    // So that `next` is pending, most likely; the contract holds either way.
    tokio::task::yield_now().await;
    kit.backend.close().await.expect("a backend is closed");
    let outcome = timeout(kit.patience(), waiting).await.expect("`close` ends a pending `next`");
    let (waiting, ended) = outcome.expect("`next` does not panic");
    for next in [waiting, ended] {
        let error = next.expect_err("there is no record to come");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
}

pub(super) async fn calls_after_close_are_unavailable(kit: &BackendKit) {
    let (backend, id) = (&kit.backend, TaskId::random());
    kit.store(record(&id, TaskState::PROGRESS, "x")).await;
    let mut watch = kit.watch(&id).await;
    kit.next(&mut watch).await;
    backend.close().await.expect("a backend is closed");
    let ids = [id.clone()];
    let store = backend.store(vec![StoreResult::new(record(&id, TaskState::Success, "y"))]).await;
    let next = timeout(kit.patience(), watch.next()).await.expect("`next` on a closed backend does not wait");
    let outcomes = [
        ("store", store.err()),
        ("fetch", backend.fetch(&ids).await.err()),
        ("watch", backend.watch(&id).await.err()),
        ("forget", backend.forget(&ids).await.err()),
        ("sweep", backend.sweep().await.err()),
        ("next", next.err()),
    ];
    for (call, error) in outcomes {
        let kind = error.as_ref().map(Error::kind);
        assert_eq!(kind, Some(ErrorKind::Unavailable), "`{call}` after `close`: {error:?}");
    }
}

pub(super) async fn closing_twice_does_nothing(kit: &BackendKit) {
    kit.backend.close().await.expect("a backend is closed");
    kit.backend.close().await.expect("a closed backend is closed again");
    let error = kit.backend.fetch(&[TaskId::random()]).await.expect_err("the backend is closed");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

pub(super) async fn closing_one_handle_leaves_the_others(kit: &BackendKit) {
    let Some(other) = kit.reopen().await else { return };
    let (stored, awaited) = (TaskId::random(), TaskId::random());
    kit.store(record(&stored, TaskState::Success, "stored")).await;
    let mut watch = other.watch(&awaited).await.expect("an open backend watches");
    kit.backend.close().await.expect("a backend is closed");
    let found = other.fetch(&[stored]).await.expect("the other handle is open").pop().flatten();
    assert_eq!(found.as_ref().map(data).as_deref(), Some("stored"), "the record is still there");
    let result = StoreResult::new(record(&awaited, TaskState::Success, "later"));
    other.store(vec![result]).await.expect("the other handle is open");
    assert_eq!(data(&kit.next(&mut watch).await), "later", "the other handle's watch goes on");
    other.close().await.expect("a backend is closed");
}

pub(super) async fn records_survive_a_reopening(kit: &BackendKit) {
    let (id, forgotten) = (TaskId::random(), TaskId::random());
    let meta = record(&id, TaskState::Success, "kept");
    kit.store(meta.clone()).await;
    kit.store(record(&forgotten, TaskState::Success, "forgotten")).await;
    kit.backend.forget(std::slice::from_ref(&forgotten)).await.expect("a record is forgotten");
    kit.backend.close().await.expect("a backend is closed");
    let Some(other) = kit.reopen().await else { return };
    let found = other.fetch(&[id, forgotten]).await.expect("an open backend fetches");
    assert_eq!(found, [Some(meta), None], "what was stored survived, what was forgotten stays gone");
    other.close().await.expect("a backend is closed");
}
