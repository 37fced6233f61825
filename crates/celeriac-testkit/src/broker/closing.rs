//! The end of a handle, and what others on the same store see of it.

use std::sync::Arc;

use celeriac_broker::{Completion, ConsumeOptions, ErrorKind, Outgoing, QueueSpec, Requeue, Settled, Verb};
use celeriac_core::{StoreResult, TaskId, TaskMeta, TaskState};
use tokio::time::timeout;

use super::completion::nowhere;
use super::kit::{BrokerKit, ONE, message, text};

pub(super) async fn close_ends_a_pending_recv(kit: &BrokerKit) {
    let mut consumer = kit.consumer(&kit.queue()).await;
    let waiting = tokio::spawn(async move { consumer.recv(ONE).await });
    // So that the `recv` is pending, most likely; the contract holds either way.
    tokio::task::yield_now().await;
    kit.broker.close().await.expect("a broker is closed");
    let ended = timeout(kit.patience(), waiting).await.expect("`close` ends a pending `recv`");
    let error = ended.expect("`recv` does not panic").expect_err("there is no message");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

pub(super) async fn calls_after_close_are_unavailable(kit: &BrokerKit) {
    let (broker, queue) = (&kit.broker, kit.queue());
    let mut consumer = kit.consumer(&queue).await;
    broker.close().await.expect("a broker is closed");
    let publish = broker.publish(vec![Outgoing::new(message("x"), &queue)]).await;
    let recv = timeout(kit.patience(), consumer.recv(ONE)).await.expect("`recv` on a closed broker does not wait");
    let outcomes = [
        ("publish", publish.err()),
        ("declare", broker.declare(&QueueSpec::direct(queue.clone())).await.err()),
        ("consume", broker.consume(ConsumeOptions::new([queue.clone()])).await.err()),
        ("depth", broker.depth(&queue).await.err()),
        ("purge", broker.purge(&queue).await.err()),
        ("recv", recv.err()),
        ("cancel", consumer.cancel().await.err()),
    ];
    for (call, error) in outcomes {
        let kind = error.as_ref().map(celeriac_broker::Error::kind);
        assert_eq!(kind, Some(ErrorKind::Unavailable), "`{call}` after `close`: {error:?}");
    }
}

pub(super) async fn closing_twice_does_nothing(kit: &BrokerKit) {
    kit.broker.close().await.expect("a broker is closed");
    kit.broker.close().await.expect("a closed broker is closed again");
    let error = kit.broker.depth(&kit.queue()).await.expect_err("the broker is closed");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

pub(super) async fn held_deliveries_come_back_after_close(kit: &BrokerKit) {
    let queue = kit.queue();
    let Some(other) = kit.reopen().await else { return };
    kit.publish(&queue, ["held", "waiting"]).await;
    let mut consumer = kit.consumer(&queue).await;
    let held = kit.one(&mut consumer).await;
    kit.broker.close().await.expect("a broker is closed");
    let mut consumer = BrokerKit::consumer_of(&other, &queue).await;
    let mut bodies = Vec::new();
    for _ in 0..2 {
        let again = kit.one(&mut consumer).await;
        assert!(again.redelivered || text(&again) != "held", "what was held is marked redelivered");
        bodies.push(text(&again));
        again.ack().await.expect("a held delivery is acknowledged");
    }
    assert_eq!(kit.after_coming_back(bodies), ["held", "waiting"], "what was held comes back, before what waited");
    drop(held);
    kit.none(&mut consumer, "letting go of a delivery of a closed broker brings nothing back").await;
    other.close().await.expect("a broker is closed");
}

pub(super) async fn settling_after_close_is_passed_over(kit: &BrokerKit) {
    let queue = kit.queue();
    let Some(other) = kit.reopen().await else { return };
    let next = kit.queue();
    kit.publish(&queue, ["a", "b", "c", "d"]).await;
    let mut consumer = kit.eager([queue.clone()]).await;
    let held = kit.take(&mut consumer, 4).await;
    kit.broker.close().await.expect("a broker is closed");
    let verbs = [
        Verb::Ack,
        Verb::Reject(Requeue::No),
        Verb::Complete(Box::new(Completion::new().then(Outgoing::new(message("next"), &next)))),
        // What is not held is passed over before its verb is looked at.
        Verb::Complete(Box::new(Completion::new().then(nowhere()))),
    ];
    for (delivery, verb) in held.into_iter().zip(verbs) {
        match delivery.into_receipt().settle(verb).await {
            Ok(settled) => {
                assert_eq!(settled, Settled::Lost, "what is passed over is left in the batch, for its holder to know")
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "settling on a closed broker: {error}"),
        }
    }
    let mut consumer = BrokerKit::consumer_of(&other, &queue).await;
    let bodies = kit.drain(&mut consumer, 4).await;
    assert_eq!(kit.after_coming_back(bodies), ["a", "b", "c", "d"], "settling late did not touch the messages");
    let mut consumer = BrokerKit::consumer_of(&other, &next).await;
    kit.none(&mut consumer, "what follows was not published").await;
    other.close().await.expect("a broker is closed");
}

pub(super) async fn closing_one_handle_leaves_the_others(kit: &BrokerKit) {
    let queue = kit.queue();
    let Some(other) = kit.reopen().await else { return };
    kit.publish(&queue, ["held"]).await;
    let mut consumer = BrokerKit::consumer_of(&other, &queue).await;
    let held = kit.one(&mut consumer).await;
    kit.broker.close().await.expect("a broker is closed");
    held.ack().await.expect("a delivery of the other handle is still held");
    other.publish(vec![Outgoing::new(message("x"), &queue)]).await.expect("the other handle is open");
    assert_eq!(kit.drain(&mut consumer, 1).await, ["x"], "the other handle's consumer goes on");
    kit.none(&mut consumer, "both messages are acknowledged").await;
    other.close().await.expect("a broker is closed");
}

pub(super) async fn closing_the_broker_leaves_the_backend(kit: &BrokerKit) {
    let Some(backend) = kit.backend().await else { return };
    let id = TaskId::random();
    kit.broker.close().await.expect("a broker is closed");
    let result = StoreResult::new(TaskMeta::new(id.clone(), TaskState::Success));
    backend.store(vec![result]).await.expect("the result backend is open");
    assert!(backend.fetch(&[id]).await.expect("the result backend is open")[0].is_some(), "the record is stored");
    backend.close().await.expect("a result backend is closed");
}

pub(super) async fn messages_cross_from_one_handle_to_another(kit: &BrokerKit) {
    let queue = kit.queue();
    let Some(other) = kit.reopen().await else { return };
    let mut consumer = BrokerKit::consumer_of(&other, &queue).await;
    for n in 0..10 {
        let (delivery, ()) = tokio::join!(kit.one(&mut consumer), async {
            tokio::task::yield_now().await;
            kit.publish(&queue, [n.to_string()]).await;
        });
        assert_eq!(text(&delivery), n.to_string());
        delivery.ack().await.expect("a held delivery is acknowledged");
    }
    other.close().await.expect("a broker is closed");
}

pub(super) async fn messages_survive_a_reopening(kit: &BrokerKit) {
    let queue = kit.queue();
    kit.publish(&queue, ["acked", "held", "waiting"]).await;
    let mut consumer = kit.eager([queue.clone()]).await;
    let mut held = kit.take(&mut consumer, 2).await;
    held.remove(0).ack().await.expect("a held delivery is acknowledged");
    kit.broker.close().await.expect("a broker is closed");
    drop((held, consumer));
    let Some(other) = kit.reopen().await else { return };
    let mut consumer = BrokerKit::consumer_of(&Arc::clone(&other), &queue).await;
    let bodies = kit.drain(&mut consumer, 2).await;
    assert_eq!(kit.after_coming_back(bodies), ["held", "waiting"], "what was not acknowledged survived, in order");
    kit.none(&mut consumer, "what was acknowledged stays gone").await;
    other.close().await.expect("a broker is closed");
}
