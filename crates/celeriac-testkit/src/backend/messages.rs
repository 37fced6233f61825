//! Results that travel as messages: to the handle that is to have them, and to no other.

use celeriac_core::{StoreResult, TaskId, TaskState};

use super::kit::{BackendKit, data, record};

pub(super) async fn the_address_of_a_handle_stays_the_same(kit: &BackendKit) {
    let address = kit.backend.reply_to();
    assert!(address.is_some(), "there is an address to send results to");
    kit.store(record(&TaskId::random(), TaskState::Success, "x")).await;
    assert_eq!(kit.backend.reply_to(), address, "results of what was sent before go to the same address");
}

pub(super) async fn a_result_without_address_goes_nowhere(kit: &BackendKit) {
    let id = TaskId::random();
    let result = StoreResult::new(record(&id, TaskState::Success, "nobody's"));
    kit.backend.store(vec![result]).await.expect("who wants no result is no error");
    kit.storer().arrived().await;
    assert_eq!(kit.fetch(&id).await, None, "nobody asked for it");
}

pub(super) async fn a_result_comes_to_its_address_alone(kit: &BackendKit) {
    let Some(worker) = kit.reopen().await else { return };
    assert_ne!(worker.reply_to(), kit.backend.reply_to(), "each handle has an address of its own");
    let id = TaskId::random();
    let mut watch = kit.watch(&id).await;
    for (state, text) in [(TaskState::Started, "1"), (TaskState::PROGRESS, "2"), (TaskState::Success, "3")] {
        let mut result = StoreResult::new(record(&id, state.clone(), text));
        result.reply_to = kit.backend.reply_to();
        worker.store(vec![result]).await.expect("an open backend stores");
        let meta = kit.next(&mut watch).await;
        assert_eq!((&meta.state, data(&meta).as_str()), (&state, text), "it comes to whom it is addressed");
    }
    let found = worker.fetch(std::slice::from_ref(&id)).await.expect("an open backend fetches");
    assert_eq!(found, [None], "and to nobody else");
    worker.close().await.expect("a backend is closed");
    let mut result = StoreResult::new(record(&id, TaskState::Success, "late"));
    result.reply_to = worker.reply_to();
    kit.backend.store(vec![result]).await.expect("that its reader is gone is no error");
}
