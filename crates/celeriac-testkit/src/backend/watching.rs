//! Waiting for results.

use std::time::Duration;

use celeriac_core::{StoreResult, TaskId, TaskState};
use tokio::time::timeout;

use super::kit::{BackendKit, data, record};

pub(super) async fn a_watch_begins_with_the_record_that_is_there(kit: &BackendKit) {
    for state in [TaskState::PROGRESS, TaskState::Success, TaskState::Failure] {
        let id = TaskId::random();
        kit.store(record(&id, state.clone(), "there")).await;
        let mut watch = kit.watch(&id).await;
        let meta = kit.next(&mut watch).await;
        assert_eq!((&meta.state, data(&meta).as_str()), (&state, "there"));
    }
}

pub(super) async fn a_watch_sees_what_is_stored_later(kit: &BackendKit) {
    let id = TaskId::random();
    let mut watch = kit.watch(&id).await;
    kit.nothing(&mut watch, "nothing is stored").await;
    for (state, text) in [(TaskState::Started, "1"), (TaskState::PROGRESS, "2"), (TaskState::Success, "3")] {
        let (meta, ()) = tokio::join!(kit.next(&mut watch), async {
            tokio::task::yield_now().await;
            kit.store(record(&id, state.clone(), text)).await;
        });
        assert_eq!((&meta.state, data(&meta).as_str()), (&state, text), "each record in its turn");
    }
}

pub(super) async fn no_final_record_is_missed(kit: &BackendKit) {
    for round in 0..200_u64 {
        let id = TaskId::random();
        let (storer, ended) = (kit.storer(), StoreResult::new(record(&id, TaskState::Success, "end")));
        let started = StoreResult::new(record(&id, TaskState::Started, "start"));
        // The one or the other first, by a little more or less.
        let (store_after, watch_after) = (round % 7, round % 5);
        let storer = tokio::spawn(async move {
            for _ in 0..store_after {
                tokio::task::yield_now().await;
            }
            storer.send(vec![started]).await.expect("an open backend stores");
            storer.send(vec![ended]).await.expect("an open backend stores");
        });
        for _ in 0..watch_after {
            tokio::task::yield_now().await;
        }
        let mut watch = kit.watch(&id).await;
        let meta = kit.end(&mut watch).await;
        assert_eq!(data(&meta), "end", "the final record is seen in round {round}");
        storer.await.expect("both records are stored");
    }
}

pub(super) async fn a_slow_watch_sees_the_newest(kit: &BackendKit) {
    let id = TaskId::random();
    let mut watch = kit.watch(&id).await;
    for n in 0..100 {
        kit.store(record(&id, TaskState::PROGRESS, n.to_string())).await;
    }
    kit.store(record(&id, TaskState::Success, "last")).await;
    let meta = kit.end(&mut watch).await;
    assert_eq!(data(&meta), "last");
    kit.nothing(&mut watch, "the final record was yielded").await;
}

pub(super) async fn two_watches_see_the_same(kit: &BackendKit) {
    let id = TaskId::random();
    let (mut one, mut other) = (kit.watch(&id).await, kit.watch(&id).await);
    kit.store(record(&id, TaskState::Failure, "x")).await;
    let (first, second) = tokio::join!(kit.next(&mut one), kit.next(&mut other));
    assert_eq!(first, second, "both see the record");
    // One gone does not disturb the next to come.
    drop(one);
    assert_eq!(kit.next(&mut kit.watch(&id).await).await, second, "a third, later one sees it too");
}

pub(super) async fn a_watch_sees_its_own_task_only(kit: &BackendKit) {
    let (id, other) = (TaskId::random(), TaskId::random());
    let mut watch = kit.watch(&id).await;
    kit.store(record(&other, TaskState::Success, "other")).await;
    kit.nothing(&mut watch, "only another task's record was stored").await;
    kit.store(record(&id, TaskState::Success, "own")).await;
    assert_eq!(data(&kit.next(&mut watch).await), "own");
}

pub(super) async fn nothing_follows_a_final_record(kit: &BackendKit) {
    let id = TaskId::random();
    kit.store(record(&id, TaskState::Success, "first")).await;
    let mut watch = kit.watch(&id).await;
    assert_eq!(data(&kit.next(&mut watch).await), "first");
    kit.store(record(&id, TaskState::Failure, "second")).await;
    kit.nothing(&mut watch, "the task has ended").await;
}

pub(super) async fn a_dropped_next_loses_no_record(kit: &BackendKit) {
    let id = TaskId::random();
    let mut watch = kit.watch(&id).await;
    for n in 0..30_u64 {
        let storer = kit.storer();
        let result = StoreResult::new(record(&id, TaskState::PROGRESS, n.to_string()));
        let storer = tokio::spawn(async move { storer.send(vec![result]).await });
        // Dropped before, while or after the record is stored.
        let early = timeout(Duration::from_micros(n * 20), watch.next()).await.ok();
        storer.await.expect("`store` does not panic").expect("an open backend stores");
        let meta = match early {
            Some(meta) => meta.expect("a watch of an open backend yields records"),
            None => kit.next(&mut watch).await,
        };
        assert_eq!(data(&meta), n.to_string(), "the record is yielded after the dropped call");
    }
}

pub(super) async fn a_watch_on_another_handle_is_woken(kit: &BackendKit) {
    let Some(other) = kit.reopen().await else { return };
    let id = TaskId::random();
    let mut watch = other.watch(&id).await.expect("an open backend watches");
    let (meta, ()) = tokio::join!(kit.next(&mut watch), async {
        tokio::task::yield_now().await;
        kit.store(record(&id, TaskState::Success, "across")).await;
    });
    assert_eq!(data(&meta), "across");
    let found = other.fetch(&[id]).await.expect("an open backend fetches");
    assert_eq!(found, [Some(meta)], "and it can be fetched there");
    other.close().await.expect("a backend is closed");
}
