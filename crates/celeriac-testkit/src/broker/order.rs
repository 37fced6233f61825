//! In which order messages come.

use celeriac_broker::{Outgoing, QueueSpec, Requeue};
use celeriac_core::{Priority, QueueName};

use super::kit::{BrokerKit, message, text, texts};

pub(super) async fn messages_arrive_in_the_order_of_their_publishing(kit: &BrokerKit) {
    let queue = kit.queue();
    let sent: Vec<String> = (0..50).map(|n| n.to_string()).collect();
    for body in &sent {
        kit.publish(&queue, [body]).await;
    }
    let mut consumer = kit.eager([queue]).await;
    let came = kit.take(&mut consumer, sent.len()).await;
    assert_eq!(texts(&came), sent, "first in, first out");
}

pub(super) async fn a_batch_is_published_in_order(kit: &BrokerKit) {
    let (one, other) = (kit.queue(), kit.queue());
    let batch = (0..60).map(|n| Outgoing::new(message(n.to_string()), if n % 3 == 0 { &one } else { &other }));
    kit.send(batch.collect()).await;
    for (queue, wanted) in [(one, true), (other, false)] {
        let expected: Vec<String> = (0..60).filter(|n| (n % 3 == 0) == wanted).map(|n| n.to_string()).collect();
        let mut consumer = kit.eager([queue]).await;
        assert_eq!(texts(&kit.take(&mut consumer, expected.len()).await), expected, "the order of the batch");
    }
}

pub(super) async fn a_message_that_came_back_goes_first(kit: &BrokerKit) {
    let queue = kit.queue();
    kit.publish(&queue, ["first", "second", "third"]).await;
    let mut consumer = kit.consumer(&queue).await;
    let delivery = kit.one(&mut consumer).await;
    assert_eq!(text(&delivery), "first");
    delivery.reject(Requeue::Yes).await.expect("a held delivery is rejected");
    let again = kit.one(&mut consumer).await;
    assert_eq!(text(&again), "first", "rejected with requeue, it goes before the others");
    drop(again);
    let bodies = kit.drain(&mut consumer, 3).await;
    assert_eq!(bodies, ["first", "second", "third"], "dropped, it goes before the others");
}

pub(super) async fn messages_that_came_back_keep_their_order(kit: &BrokerKit) {
    let queue = kit.queue();
    kit.publish(&queue, ["a", "b", "c"]).await;
    let mut consumer = kit.eager([queue.clone()]).await;
    let mut held = kit.take(&mut consumer, 3).await;
    // The others come to nobody else before all are back.
    drop(consumer);
    held.pop().expect("three are held").reject(Requeue::Yes).await.expect("a held delivery is rejected");
    drop(held.remove(0));
    drop(held);
    kit.depth(&queue, 3).await;
    kit.publish(&queue, ["d"]).await;
    let mut consumer = kit.consumer(&queue).await;
    assert_eq!(kit.drain(&mut consumer, 4).await, ["a", "b", "c", "d"], "handed back in another order than received");
}

/// A queue with as many levels as there may be, and these messages: body and priority.
async fn urgent(kit: &BrokerKit, messages: impl IntoIterator<Item = (String, u8)> + Send) -> QueueName {
    let mut spec = QueueSpec::direct(kit.queue());
    if kit.broker.capabilities().max_priority {
        spec.max_priority = Some(9);
    }
    kit.broker.declare(&spec).await.expect("a queue with priorities is declared");
    let outgoing = |(body, priority): (String, u8)| {
        let mut message = message(body);
        message.properties.priority = Some(Priority(priority));
        Outgoing::new(message, &spec.name)
    };
    kit.send(messages.into_iter().map(outgoing).collect()).await;
    spec.name
}

/// The messages of `mixed`, more urgent levels first, then in the order of their publishing.
fn by_urgency(kit: &BrokerKit) -> Vec<String> {
    let capabilities = kit.broker.capabilities();
    let level = |priority: u8| i32::from(priority) * i32::from(capabilities.priority_levels - 1) / 9;
    let mut messages = mixed();
    messages.sort_by_key(|(_, priority)| if capabilities.lowest_first { level(*priority) } else { -level(*priority) });
    messages.into_iter().map(|(body, _)| body).collect()
}

fn mixed() -> Vec<(String, u8)> {
    let priorities = [3, 0, 9, 1, 7, 5, 2, 8, 4, 6];
    let round = |letter: char| priorities.into_iter().map(move |priority| (format!("{priority} {letter}"), priority));
    round('a').chain(round('b')).collect()
}

/// Two priorities of different levels, the more urgent one first.
fn two(kit: &BrokerKit) -> (u8, u8) {
    if kit.broker.capabilities().lowest_first { (1, 8) } else { (8, 1) }
}

pub(super) async fn more_urgent_messages_overtake(kit: &BrokerKit) {
    let queue = urgent(kit, mixed()).await;
    let mut consumer = kit.consumer(&queue).await;
    assert_eq!(kit.drain(&mut consumer, 20).await, by_urgency(kit), "more urgent ones first, then first in, first out");
}

pub(super) async fn priorities_hold_within_one_recv(kit: &BrokerKit) {
    let queue = urgent(kit, mixed()).await;
    let mut consumer = kit.eager([queue]).await;
    let came = kit.take(&mut consumer, 20).await;
    assert_eq!(texts(&came), by_urgency(kit), "more urgent ones first, then first in, first out");
}

pub(super) async fn a_redelivered_message_keeps_its_priority(kit: &BrokerKit) {
    let (more, less) = two(kit);
    let queue = urgent(kit, [("low a".to_owned(), less), ("low b".to_owned(), less)]).await;
    let mut consumer = kit.consumer(&queue).await;
    let held = kit.one(&mut consumer).await;
    assert_eq!(text(&held), "low a");
    let mut high = message("high");
    high.properties.priority = Some(Priority(more));
    kit.send(vec![Outgoing::new(high, &queue)]).await;
    held.reject(Requeue::Yes).await.expect("a held delivery is rejected");
    // Only now may another message be on its way to a consumer with a prefetch of one.
    consumer.cancel().await.expect("a consumer is cancelled");
    let mut consumer = kit.consumer(&queue).await;
    let bodies = kit.drain(&mut consumer, 3).await;
    assert_eq!(bodies, ["high", "low a", "low b"], "before the others of its priority, not before more urgent ones");
}
