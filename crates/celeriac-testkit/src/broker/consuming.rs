//! Consumers, alone and together.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use celeriac_broker::{Broker, ConsumeOptions, ErrorKind, Outgoing, Verb, settle_all};
use celeriac_core::QueueName;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::kit::{BrokerKit, MANY, ONE, message, text, texts};

pub(super) async fn recv_returns_at_most_its_limit_and_never_nothing(kit: &BrokerKit) {
    let queue = kit.queue();
    kit.publish(&queue, (0..10).map(|n| n.to_string())).await;
    let mut consumer = kit.eager([queue]).await;
    let mut held = Vec::new();
    while held.len() < 10 {
        // The kit checks both ends.
        held.append(&mut kit.recv(&mut consumer, NonZeroUsize::MIN.saturating_add(2)).await);
    }
    assert_eq!(held.len(), 10, "each message is delivered once");
}

pub(super) async fn recv_does_not_wait_for_more(kit: &BrokerKit) {
    let queue = kit.queue();
    kit.publish(&queue, ["x"]).await;
    let mut consumer = kit.eager([queue]).await;
    assert_eq!(texts(&kit.recv(&mut consumer, MANY).await), ["x"]);
}

pub(super) async fn a_waiting_recv_is_woken(kit: &BrokerKit) {
    let queue = kit.queue();
    let mut consumer = kit.consumer(&queue).await;
    for n in 0..20 {
        let (received, ()) = tokio::join!(kit.one(&mut consumer), async {
            tokio::task::yield_now().await;
            kit.publish(&queue, [n.to_string()]).await;
        });
        assert_eq!(text(&received), n.to_string());
        received.ack().await.expect("a held delivery is acknowledged");
    }
}

pub(super) async fn a_dropped_recv_loses_nothing(kit: &BrokerKit) {
    const MESSAGES: usize = 100;
    let queue = kit.queue();
    let mut consumer = kit.eager([queue.clone()]).await;
    let (broker, target) = (Arc::clone(&kit.broker), queue.clone());
    let producer = tokio::spawn(async move {
        for n in 0..MESSAGES {
            broker.publish(vec![Outgoing::new(message(n.to_string()), &target)]).await.expect("a message is published");
            tokio::task::yield_now().await;
        }
    });
    let mut came = Vec::new();
    let mut attempts: u64 = 0;
    let end = tokio::time::Instant::now() + kit.patience();
    while came.len() < MESSAGES {
        assert!(tokio::time::Instant::now() < end, "{} of {MESSAGES} messages came: some were lost", came.len());
        attempts += 1;
        // Dropped after its first poll, and after pauses of many lengths.
        let pause = Duration::from_micros(attempts % 40 * 50);
        let received = if attempts.is_multiple_of(2) {
            tokio::select! {
                biased;
                received = consumer.recv(ONE) => Some(received),
                () = tokio::task::yield_now() => None,
            }
        } else {
            timeout(pause, consumer.recv(MANY)).await.ok()
        };
        for delivery in received.into_iter().flat_map(|received| received.expect("an open broker delivers")) {
            came.push(text(&delivery));
            delivery.ack().await.expect("a held delivery is acknowledged");
        }
    }
    producer.await.expect("the producer publishes everything");
    let expected: Vec<String> = (0..MESSAGES).map(|n| n.to_string()).collect();
    came.sort_by_key(|body| body.parse::<usize>().unwrap_or(usize::MAX));
    assert_eq!(came, expected, "nothing is lost and nothing doubled");
    kit.empty(&queue, "everything was acknowledged").await;
}

pub(super) async fn consuming_makes_the_queue(kit: &BrokerKit) {
    let queue = kit.queue();
    let mut consumer = kit.consumer(&queue).await;
    kit.publish(&queue, ["x"]).await;
    assert_eq!(kit.drain(&mut consumer, 1).await, ["x"]);
}

pub(super) async fn consuming_no_queue_is_refused(kit: &BrokerKit) {
    let error = kit.broker.consume(ConsumeOptions::new([])).await.expect_err("no queue is named");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
}

pub(super) async fn several_queues_are_consumed_at_once(kit: &BrokerKit) {
    let queues: Vec<QueueName> = (0..3).map(|_| kit.queue()).collect();
    let mut consumer = kit.eager(queues.clone()).await;
    for queue in &queues {
        kit.publish(queue, [queue.as_str()]).await;
    }
    let mut came: Vec<QueueName> = Vec::new();
    for delivery in kit.take(&mut consumer, 3).await {
        assert_eq!(text(&delivery), delivery.queue.as_str(), "a delivery names the queue it was taken from");
        came.push(delivery.queue.clone());
        delivery.ack().await.expect("a held delivery is acknowledged");
    }
    came.sort();
    let mut queues = queues;
    queues.sort();
    assert_eq!(came, queues, "one message of each queue");
}

pub(super) async fn no_queue_is_starved(kit: &BrokerKit) {
    let (busy, quiet) = (kit.queue(), kit.queue());
    kit.publish(&busy, (0..200).map(|n| n.to_string())).await;
    kit.publish(&quiet, ["quiet"]).await;
    for queues in [[busy.clone(), quiet.clone()], [quiet.clone(), busy.clone()]] {
        let options = ConsumeOptions::new(queues).prefetch(ONE);
        let mut consumer = kit.broker.consume(options).await.expect("queues can be consumed");
        let mut served = false;
        for _ in 0..50 {
            let delivery = kit.one(&mut consumer).await;
            served = delivery.queue == quiet;
            delivery.ack().await.expect("a held delivery is acknowledged");
            if served {
                break;
            }
        }
        assert!(served, "after fifty messages of the busy queue the quiet one had no turn");
        kit.publish(&quiet, ["quiet"]).await;
    }
}

pub(super) async fn two_consumers_share_a_queue(kit: &BrokerKit) {
    let queue = kit.queue();
    let (mut one, mut other) = (kit.consumer(&queue).await, kit.consumer(&queue).await);
    kit.publish(&queue, ["a", "b"]).await;
    // Each can hold one only, so each gets one.
    let (first, second) = tokio::join!(kit.one(&mut one), kit.one(&mut other));
    let mut came = [text(&first), text(&second)];
    came.sort();
    assert_eq!(came, ["a", "b"], "each message goes to one of the two");
    for delivery in [first, second] {
        delivery.ack().await.expect("a held delivery is acknowledged");
    }
    kit.none(&mut one, "both messages are acknowledged").await;
}

pub(super) async fn a_held_message_goes_to_nobody_else(kit: &BrokerKit) {
    let queue = kit.queue();
    kit.publish(&queue, ["x"]).await;
    let mut holder = kit.consumer(&queue).await;
    let held = kit.one(&mut holder).await;
    let mut other = kit.consumer(&queue).await;
    kit.none(&mut other, "the message is held").await;
    drop(held);
    // The broker may hand it to either, so the first one goes.
    drop(holder);
    assert_eq!(kit.drain(&mut other, 1).await, ["x"], "it comes once it is let go");
}

pub(super) async fn many_producers_and_consumers_lose_and_double_nothing(kit: &BrokerKit) {
    const SIDES: usize = 4;
    const EACH: usize = 500;
    const BATCH: usize = 10;
    let queue = kit.queue();
    let (sender, mut came) = mpsc::unbounded_channel();
    let mut consumers = Vec::new();
    for _ in 0..SIDES {
        let mut consumer = kit.eager([queue.clone()]).await;
        let sender = sender.clone();
        consumers.push(tokio::spawn(async move {
            while let Ok(deliveries) = consumer.recv(MANY).await {
                let bodies = texts(&deliveries);
                let batch = deliveries.into_iter().map(|delivery| (delivery.into_receipt(), Verb::Ack)).collect();
                settle_all(batch).await.expect("held deliveries are acknowledged");
                if sender.send(bodies).is_err() {
                    break;
                }
            }
        }));
    }
    let producers: Vec<_> = (0..SIDES)
        .map(|side| {
            let (broker, queue): (Arc<dyn Broker>, _) = (Arc::clone(&kit.broker), queue.clone());
            tokio::spawn(async move {
                for start in (0..EACH).step_by(BATCH) {
                    let one = |n: usize| Outgoing::new(message(format!("{side} {n}")), &queue);
                    let batch = (start..start + BATCH).map(one).collect();
                    broker.publish(batch).await.expect("a batch is published");
                }
            })
        })
        .collect();
    for producer in producers {
        producer.await.expect("a producer publishes everything");
    }
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut total = 0;
    while total < SIDES * EACH {
        let bodies = timeout(kit.patience(), came.recv()).await;
        let bodies = bodies.unwrap_or_else(|_| panic!("{total} of {} messages came: some were lost", SIDES * EACH));
        for body in bodies.into_iter().flatten() {
            total += 1;
            *seen.entry(body).or_default() += 1;
        }
    }
    let doubled: Vec<&String> = seen.iter().filter(|(_, times)| **times > 1).map(|(body, _)| body).collect();
    assert!(doubled.is_empty(), "delivered to more than one consumer: {doubled:?}");
    assert_eq!(seen.len(), SIDES * EACH, "each message is delivered");
    for consumer in consumers {
        consumer.abort();
        let _ = consumer.await;
    }
    kit.empty(&queue, "everything was acknowledged").await;
}

pub(super) async fn a_cancelled_consumer_leaves_its_deliveries_settleable(kit: &BrokerKit) {
    let queue = kit.queue();
    kit.publish(&queue, ["acked", "requeued", "waiting"]).await;
    let mut consumer = kit.eager([queue.clone()]).await;
    let mut held = kit.take(&mut consumer, 2).await;
    consumer.cancel().await.expect("a consumer is cancelled");
    let (requeued, acked) = (held.pop().expect("two are held"), held.pop().expect("two are held"));
    acked.ack().await.expect("a delivery of a cancelled consumer is acknowledged");
    drop(requeued);
    let mut consumer = kit.consumer(&queue).await;
    let mut bodies = kit.drain(&mut consumer, 2).await;
    bodies.sort();
    assert_eq!(bodies, ["requeued", "waiting"], "what was not acknowledged is there");
    kit.none(&mut consumer, "the rest was acknowledged").await;
}

pub(super) async fn a_dropped_consumer_loses_nothing(kit: &BrokerKit) {
    let queue = kit.queue();
    kit.publish(&queue, (0..20).map(|n| n.to_string())).await;
    for _ in 0..3 {
        let mut consumer = kit.eager([queue.clone()]).await;
        let held = kit.recv(&mut consumer, NonZeroUsize::MIN.saturating_add(4)).await;
        drop(consumer);
        drop(held);
    }
    let mut consumer = kit.eager([queue.clone()]).await;
    let mut came: Vec<usize> = Vec::new();
    for delivery in kit.take(&mut consumer, 20).await {
        came.push(text(&delivery).parse().expect("the body is a number"));
        delivery.ack().await.expect("a held delivery is acknowledged");
    }
    came.sort_unstable();
    assert_eq!(came, (0..20).collect::<Vec<_>>(), "every message is delivered once more");
    kit.none(&mut consumer, "everything was acknowledged").await;
}
