//! A task's end as one transition.

use celeriac_broker::{Completion, Destination, ErrorKind, Outgoing, Receipt, Verb, settle_all};
use celeriac_core::{ContentType, ExchangeName, Payload, RoutingKey, StoreResult, TaskId, TaskMeta, TaskState};

use super::kit::{BrokerKit, message, text, texts};

pub(super) fn nowhere() -> Outgoing {
    let exchange = ExchangeName::new(crate::unique("testkit")).expect("a unique name is a valid exchange name");
    Outgoing::new(message("nowhere"), Destination { exchange, routing_key: RoutingKey::from_static("key") })
}

fn result(id: &TaskId, state: TaskState, data: &'static str) -> StoreResult {
    let payload = Payload { content_type: ContentType::JSON, data: data.into() };
    StoreResult::new(TaskMeta::new(id.clone(), state).with_result(payload))
}

pub(super) async fn a_completion_publishes_what_follows_and_acks(kit: &BrokerKit) {
    let (queue, next) = (kit.queue(), kit.queue());
    kit.publish(&queue, ["x"]).await;
    let mut consumer = kit.consumer(&queue).await;
    let follow = |body: &str| Outgoing::new(message(body), &next);
    let done = Completion::new().then(follow("next 1")).then(follow("next 2"));
    kit.one(&mut consumer).await.complete(done).await.expect("a held delivery is completed");
    drop(consumer);
    kit.empty(&queue, "the message was completed").await;
    let mut consumer = kit.consumer(&next).await;
    assert_eq!(kit.drain(&mut consumer, 2).await, ["next 1", "next 2"], "what follows is published, in order");
    kit.none(&mut consumer, "what follows is published once").await;
}

pub(super) async fn a_completion_that_cannot_be_done_hands_the_message_back(kit: &BrokerKit) {
    let queue = kit.queue();
    kit.publish(&queue, ["x"]).await;
    let mut consumer = kit.consumer(&queue).await;
    let delivery = kit.one(&mut consumer).await;
    let error = delivery.complete(Completion::new().then(nowhere())).await.expect_err("what follows cannot be routed");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert_eq!(kit.drain(&mut consumer, 1).await, ["x"], "the message was not acknowledged");
}

pub(super) async fn a_failed_settlement_keeps_those_after_it(kit: &BrokerKit) {
    let (queue, next) = (kit.queue(), kit.queue());
    kit.publish(&queue, ["a", "b", "c", "d"]).await;
    let mut consumer = kit.eager([queue.clone()]).await;
    let deliveries = kit.take(&mut consumer, 4).await;
    let batch: Vec<_> = deliveries
        .into_iter()
        .map(|delivery| {
            let done = match text(&delivery).as_str() {
                "b" => Completion::new().then(nowhere()),
                "c" => Completion::new().then(Outgoing::new(message("next"), &next)),
                _ => Completion::new(),
            };
            (delivery.into_receipt(), Verb::Complete(Box::new(done)))
        })
        .collect();
    let tags: Vec<_> = batch.iter().map(|(receipt, _)| receipt.tag()).collect();
    let unsettled = settle_all(batch).await.expect_err("one settlement fails");
    assert_eq!(unsettled.error.kind(), ErrorKind::NotFound, "{}", unsettled.error);
    let left: Vec<_> = unsettled.rest.iter().map(|(receipt, _)| receipt.tag()).collect();
    assert_eq!(left.first(), Some(&tags[1]), "the settlement that failed is the first that is left");
    let behind = tags[2..].iter().filter(|tag| left.contains(tag));
    assert!(left[1..].iter().eq(behind), "what is left besides comes after it, in order");
    assert!(matches!(&unsettled.rest[0].1, Verb::Complete(done) if done.next.len() == 1), "left as they were");
    // Whatever was not done is done now, but for what failed, so that in the end all are settled once.
    let again = |(receipt, verb): (Receipt, Verb)| {
        if receipt.tag() == tags[1] { (receipt, Verb::Ack) } else { (receipt, verb) }
    };
    let rest = unsettled.rest.into_iter().map(again).collect();
    assert_eq!(settle_all(rest).await.expect("what was not done can be settled still"), [], "it is held still");
    drop(consumer);
    kit.empty(&queue, "everything was settled").await;
    let mut consumer = kit.consumer(&next).await;
    assert_eq!(kit.drain(&mut consumer, 1).await, ["next"], "what follows is published");
    kit.none(&mut consumer, "what follows is published once").await;
}

pub(super) async fn a_result_without_a_store_is_unsupported(kit: &BrokerKit) {
    if kit.broker.store_id().is_some() {
        return kit.skip("a broker that stores no results");
    }
    let (queue, next) = (kit.queue(), kit.queue());
    kit.publish(&queue, ["x"]).await;
    let mut consumer = kit.consumer(&queue).await;
    let done = Completion::new()
        .result(result(&TaskId::random(), TaskState::Success, "1"))
        .then(Outgoing::new(message("next"), &next));
    let error = kit.one(&mut consumer).await.complete(done).await.expect_err("the broker stores no results");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert_eq!(kit.drain(&mut consumer, 1).await, ["x"], "the message was not acknowledged");
    kit.empty(&next, "nothing of a refused completion is done").await;
}

pub(super) async fn a_completion_stores_its_result(kit: &BrokerKit) {
    let Some(backend) = kit.backend().await else { return };
    let (queue, next) = (kit.queue(), kit.queue());
    kit.publish(&queue, ["a", "b"]).await;
    let ids = [TaskId::random(), TaskId::random()];
    let mut watch = backend.watch(&ids[1]).await.expect("a task is watched");
    let mut consumer = kit.eager([queue.clone()]).await;
    let deliveries = kit.take(&mut consumer, 2).await;
    assert_eq!(texts(&deliveries), ["a", "b"]);
    let batch = deliveries.into_iter().zip(&ids).map(|(delivery, id)| {
        let follow = Outgoing::new(message(text(&delivery)), &next);
        let done = Completion::new().result(result(id, TaskState::Success, "[1]")).then(follow);
        (delivery.into_receipt(), Verb::Complete(Box::new(done)))
    });
    settle_all(batch.collect()).await.expect("held deliveries are completed");
    let stored = backend.fetch(&ids).await.expect("results are fetched");
    for (id, meta) in ids.iter().zip(stored) {
        let meta = meta.expect("the result of a completion is stored when the completion is done");
        assert_eq!((&meta.task_id, &meta.state), (id, &TaskState::Success));
        assert_eq!(meta.result.map(|payload| payload.data), Some("[1]".into()));
    }
    let watched = tokio::time::timeout(kit.patience(), watch.next()).await.expect("a completion wakes who watches");
    assert_eq!(watched.expect("a watch yields the record").state, TaskState::Success);
    let mut consumer = kit.consumer(&next).await;
    assert_eq!(kit.drain(&mut consumer, 2).await, ["a", "b"], "what follows is published");
    kit.empty(&queue, "both messages were completed").await;
}

pub(super) async fn a_final_result_is_not_overwritten_by_a_completion(kit: &BrokerKit) {
    let Some(backend) = kit.backend().await else { return };
    let (queue, next) = (kit.queue(), kit.queue());
    let id = TaskId::random();
    backend.store(vec![result(&id, TaskState::Success, "first")]).await.expect("a result is stored");
    kit.publish(&queue, ["x"]).await;
    let mut consumer = kit.consumer(&queue).await;
    let done =
        Completion::new().result(result(&id, TaskState::Failure, "second")).then(Outgoing::new(message("next"), &next));
    kit.one(&mut consumer).await.complete(done).await.expect("a held delivery is completed");
    let meta = backend.fetch(&[id]).await.expect("results are fetched").pop().flatten().expect("the result is there");
    assert_eq!(meta.result.map(|payload| payload.data), Some("first".into()), "a success is final");
    drop(consumer);
    kit.empty(&queue, "the message was completed").await;
    let mut consumer = kit.consumer(&next).await;
    assert_eq!(kit.drain(&mut consumer, 1).await, ["next"], "the rest of the completion is done");
}
