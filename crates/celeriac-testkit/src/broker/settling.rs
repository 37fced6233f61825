//! How deliveries end.

use celeriac_broker::{Completion, Requeue, Verb, settle_all};

use super::kit::{BrokerKit, ONE, text, texts};

pub(super) async fn an_acked_message_is_gone(kit: &BrokerKit) {
    let queue = kit.queue();
    kit.publish(&queue, ["x"]).await;
    let mut consumer = kit.consumer(&queue).await;
    kit.one(&mut consumer).await.ack().await.expect("a held delivery is acknowledged");
    drop(consumer);
    kit.empty(&queue, "the message was acknowledged").await;
}

pub(super) async fn a_dropped_delivery_comes_back(kit: &BrokerKit) {
    let queue = kit.queue();
    kit.publish(&queue, ["x"]).await;
    let mut consumer = kit.consumer(&queue).await;
    drop(kit.one(&mut consumer).await);
    assert_eq!(kit.drain(&mut consumer, 1).await, ["x"]);
    kit.none(&mut consumer, "the message was acknowledged").await;
}

pub(super) async fn reject_with_requeue_brings_it_back(kit: &BrokerKit) {
    let queue = kit.queue();
    kit.publish(&queue, ["x"]).await;
    let mut consumer = kit.consumer(&queue).await;
    let delivery = kit.one(&mut consumer).await;
    delivery.reject(Requeue::Yes).await.expect("a held delivery is rejected");
    assert_eq!(kit.drain(&mut consumer, 1).await, ["x"]);
    kit.none(&mut consumer, "the message was acknowledged").await;
}

pub(super) async fn reject_without_requeue_drops_it(kit: &BrokerKit) {
    let queue = kit.queue();
    kit.publish(&queue, ["x"]).await;
    let mut consumer = kit.consumer(&queue).await;
    let delivery = kit.one(&mut consumer).await;
    delivery.reject(Requeue::No).await.expect("a held delivery is rejected");
    drop(consumer);
    kit.empty(&queue, "the message was rejected without requeue").await;
}

pub(super) async fn only_what_came_back_is_redelivered(kit: &BrokerKit) {
    let queue = kit.queue();
    kit.publish(&queue, ["x"]).await;
    let mut consumer = kit.consumer(&queue).await;
    let first = kit.one(&mut consumer).await;
    assert!(!first.redelivered, "a first delivery is not redelivered");
    drop(first);
    let second = kit.one(&mut consumer).await;
    assert!(second.redelivered, "a message whose delivery was dropped is redelivered");
    second.reject(Requeue::Yes).await.expect("a held delivery is rejected");
    let third = kit.one(&mut consumer).await;
    assert!(third.redelivered, "a message that was rejected with requeue is redelivered");
    third.ack().await.expect("a held delivery is acknowledged");
}

pub(super) async fn deliveries_are_counted(kit: &BrokerKit) {
    let queue = kit.queue();
    kit.publish(&queue, ["x"]).await;
    let mut consumer = kit.consumer(&queue).await;
    for count in 1..=5 {
        let delivery = kit.one(&mut consumer).await;
        assert_eq!((text(&delivery).as_str(), delivery.delivery_count), ("x", Some(count)), "this is delivery {count}");
        if count % 2 == 0 {
            drop(delivery);
        } else if count < 5 {
            delivery.reject(Requeue::Yes).await.expect("a held delivery is rejected");
        } else {
            delivery.ack().await.expect("a held delivery is acknowledged");
        }
    }
    kit.publish(&queue, ["y"]).await;
    let other = kit.one(&mut consumer).await;
    assert_eq!(other.delivery_count, Some(1), "another message's deliveries are counted on their own");
    other.ack().await.expect("a held delivery is acknowledged");
}

pub(super) async fn a_batch_of_mixed_verbs_is_settled(kit: &BrokerKit) {
    let queue = kit.queue();
    let bodies = ["ack", "requeue", "drop", "complete", "ack too"];
    kit.publish(&queue, bodies).await;
    let mut consumer = kit.eager([queue.clone()]).await;
    let batch = kit.take(&mut consumer, bodies.len()).await.into_iter().map(|delivery| {
        let verb = match text(&delivery).as_str() {
            "requeue" => Verb::Reject(Requeue::Yes),
            "drop" => Verb::Reject(Requeue::No),
            "complete" => Verb::Complete(Box::new(Completion::new())),
            _ => Verb::Ack,
        };
        (delivery.into_receipt(), verb)
    });
    let lost = settle_all(batch.collect()).await.expect("a batch of held deliveries is settled");
    assert!(lost.is_empty(), "what was settled is not left in the batch: only what was passed over is");
    assert_eq!(kit.drain(&mut consumer, 1).await, ["requeue"], "only what was requeued comes back");
    drop(consumer);
    kit.empty(&queue, "everything was settled for good").await;
}

pub(super) async fn receipts_of_several_consumers_settle_in_one_batch(kit: &BrokerKit) {
    let (one, other) = (kit.queue(), kit.queue());
    kit.publish(&one, ["a", "b"]).await;
    kit.publish(&other, ["c", "d"]).await;
    let (mut first, mut second) = (kit.eager([one.clone()]).await, kit.eager([other.clone()]).await);
    let mut left = kit.take(&mut first, 2).await;
    let right = kit.take(&mut second, 2).await;
    // Interleaved, so that the batch goes back and forth.
    let last = left.pop().expect("two are held");
    let batch = left.into_iter().chain(right).chain([last]);
    let batch = batch.map(|delivery| (delivery.into_receipt(), Verb::Ack)).collect();
    settle_all(batch).await.expect("a batch of held deliveries is settled");
    drop((first, second));
    kit.empty(&one, "everything was acknowledged").await;
    kit.empty(&other, "everything was acknowledged").await;
}

pub(super) async fn a_split_receipt_settles_its_message(kit: &BrokerKit) {
    let queue = kit.queue();
    kit.publish(&queue, ["x"]).await;
    let mut consumer = kit.consumer(&queue).await;
    let (message, receipt) = kit.one(&mut consumer).await.split();
    drop(receipt);
    let again = kit.recv(&mut consumer, ONE).await;
    assert_eq!(texts(&again), ["x"], "a dropped receipt hands the message back");
    for delivery in again {
        let (same, receipt) = delivery.split();
        assert_eq!(same.body, message.body);
        receipt.settle(Verb::Ack).await.expect("a receipt settles its delivery");
    }
    drop(consumer);
    kit.empty(&queue, "the message was acknowledged by its receipt").await;
}
