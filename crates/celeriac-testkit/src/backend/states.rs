//! Which record may replace which.

use celeriac_core::{StoreResult, TaskId, TaskState};

use super::kit::{BackendKit, data, record};

pub(super) async fn progress_is_overwritten(kit: &BackendKit) {
    let id = TaskId::random();
    let states = [
        TaskState::Started,
        TaskState::PROGRESS,
        TaskState::PROGRESS,
        TaskState::Retry,
        TaskState::Started,
        TaskState::from("MINE"),
        TaskState::Success,
    ];
    for (n, state) in states.into_iter().enumerate() {
        kit.store(record(&id, state.clone(), n.to_string())).await;
        let found = kit.fetch(&id).await.expect("the record is stored");
        assert_eq!((&found.state, data(&found)), (&state, n.to_string()), "the newest record is fetched");
    }
}

pub(super) async fn a_success_is_final(kit: &BackendKit) {
    let id = TaskId::random();
    let success = record(&id, TaskState::Success, "first");
    kit.store(success.clone()).await;
    for state in [TaskState::Started, TaskState::PROGRESS, TaskState::Failure, TaskState::Revoked, TaskState::Success] {
        kit.store(record(&id, state.clone(), "second")).await;
        assert_eq!(kit.fetch(&id).await.as_ref(), Some(&success), "a success does not become {state}");
    }
}

pub(super) async fn an_ended_task_does_not_run_again(kit: &BackendKit) {
    for end in [TaskState::Failure, TaskState::Revoked] {
        let id = TaskId::random();
        let ended = record(&id, end.clone(), "ended");
        kit.store(ended.clone()).await;
        for state in [TaskState::Started, TaskState::Retry, TaskState::PROGRESS] {
            kit.store(record(&id, state.clone(), "runs")).await;
            assert_eq!(kit.fetch(&id).await.as_ref(), Some(&ended), "{end} does not become {state}");
        }
        let success = record(&id, TaskState::Success, "did better");
        kit.store(success.clone()).await;
        assert_eq!(kit.fetch(&id).await, Some(success), "{end} gives way to a success");
    }
}

pub(super) async fn a_batch_is_stored_in_order(kit: &BackendKit) {
    let (one, other) = (TaskId::random(), TaskId::random());
    let batch = [
        record(&one, TaskState::Started, "1"),
        record(&other, TaskState::Success, "2"),
        record(&one, TaskState::PROGRESS, "3"),
        record(&other, TaskState::Failure, "4"),
    ];
    kit.store_all(batch.into_iter().map(StoreResult::new).collect()).await;
    let found = kit.fetch(&one).await.expect("the record is stored");
    assert_eq!((found.state.as_str(), data(&found).as_str()), ("PROGRESS", "3"), "the later one replaces the earlier");
    let found = kit.fetch(&other).await.expect("the record is stored");
    assert_eq!((found.state.as_str(), data(&found).as_str()), ("SUCCESS", "2"), "but not a success");
}

pub(super) async fn of_competing_ends_a_success_stays(kit: &BackendKit) {
    for _ in 0..10 {
        let id = TaskId::random();
        let states =
            [TaskState::Started, TaskState::Failure, TaskState::Success, TaskState::PROGRESS, TaskState::Revoked];
        let storers: Vec<_> = states
            .into_iter()
            .map(|state| {
                let (storer, result) = (kit.storer(), StoreResult::new(record(&id, state, "x")));
                tokio::spawn(async move { storer.send(vec![result]).await })
            })
            .collect();
        for storer in storers {
            storer.await.expect("`store` does not panic").expect("a write that may not happen is no error");
        }
        kit.storer().arrived().await;
        let found = kit.fetch(&id).await.expect("the record is stored");
        assert_eq!(found.state, TaskState::Success, "whichever came first, the success stays");
    }
}
