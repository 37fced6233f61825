//! Messages and time: delays, parking, expiration.

use std::time::Duration;

use celeriac_broker::{ErrorKind, Outgoing, QueueSpec, Verb, settle_all};
use celeriac_core::{DeliveryMode, Priority};

use super::kit::{BrokerKit, message, text};

/// Short enough to be waited for, long enough to be told from nothing.
const SOON: Duration = Duration::from_millis(300);
/// Well past `SOON`, for servers that count in seconds.
const AFTER: Duration = Duration::from_millis(350);

pub(super) async fn a_message_is_not_delivered_before_it_is_due(kit: &BrokerKit) {
    let queue = kit.made().await;
    // Opened before: that may take longer than the message has to wait.
    let mut consumer = kit.consumer(&queue).await;
    let due = kit.now() + SOON;
    kit.send(vec![Outgoing::new(message("x"), &queue).deliver_at(due)]).await;
    let early = kit.watch_out(&mut consumer).await;
    let delivery = match early {
        // A slow machine may have taken its time.
        Some(delivery) => delivery,
        None => {
            kit.pass(AFTER).await;
            kit.one(&mut consumer).await
        }
    };
    assert!(kit.now() >= due, "it was delivered {:?} before it was due", due.since(kit.now()));
    assert!(!delivery.redelivered, "a delayed message's first delivery is not redelivered");
    delivery.ack().await.expect("a held delivery is acknowledged");
    kit.none(&mut consumer, "the message was acknowledged").await;
}

pub(super) async fn a_waiting_recv_gets_a_message_when_it_is_due(kit: &BrokerKit) {
    let queue = kit.queue();
    let mut consumer = kit.consumer(&queue).await;
    let (delivery, due) = tokio::join!(kit.one(&mut consumer), async {
        tokio::task::yield_now().await;
        let due = kit.now() + SOON;
        kit.send(vec![Outgoing::new(message("x"), &queue).deliver_at(due)]).await;
        kit.pass(AFTER).await;
        due
    });
    assert!(kit.now() >= due, "it was delivered before it was due");
    delivery.ack().await.expect("a held delivery is acknowledged");
}

pub(super) async fn a_message_due_in_the_past_is_delivered_at_once(kit: &BrokerKit) {
    let queue = kit.queue();
    let past = kit.now() - Duration::from_secs(3600);
    kit.send(vec![
        Outgoing::new(message("a"), &queue).deliver_at(past),
        Outgoing::new(message("b"), &queue),
        Outgoing::new(message("c"), &queue).deliver_at(past - SOON),
    ])
    .await;
    let mut consumer = kit.consumer(&queue).await;
    assert_eq!(kit.drain(&mut consumer, 3).await, ["a", "b", "c"], "at once, as if nothing had been said");
}

pub(super) async fn delayed_messages_come_when_they_are_due(kit: &BrokerKit) {
    let queue = kit.made().await;
    // Opened before: that may take longer than the first has to wait.
    let mut consumer = kit.consumer(&queue).await;
    let start = kit.now();
    let due = |body: &str, steps: u32| Outgoing::new(message(body), &queue).deliver_at(start + SOON * steps);
    kit.send(vec![due("third", 3), due("first", 1), due("second", 2), Outgoing::new(message("at once"), &queue)]).await;
    assert_eq!(kit.drain(&mut consumer, 1).await, ["at once"], "a message without delay passes those that wait");
    for (body, steps) in [("first", 1), ("second", 2), ("third", 3)] {
        let due = start + SOON * steps;
        kit.pass(due.since(kit.now())).await;
        assert_eq!(kit.drain(&mut consumer, 1).await, [body], "by due time, not by publishing");
        assert!(kit.now() >= due, "it was delivered before it was due");
    }
}

pub(super) async fn a_due_message_goes_before_what_is_published_later(kit: &BrokerKit) {
    let queue = kit.queue();
    kit.publish(&queue, ["parked"]).await;
    let mut consumer = kit.consumer(&queue).await;
    let due = kit.now() + SOON;
    kit.one(&mut consumer).await.park(due).await.expect("a held delivery is parked");
    drop(consumer);
    kit.send(vec![Outgoing::new(message("delayed"), &queue).deliver_at(due)]).await;
    kit.pass(AFTER).await;
    kit.publish(&queue, ["later"]).await;
    let mut bodies = kit.drain(&mut kit.consumer(&queue).await, 3).await;
    assert_eq!(bodies.pop().as_deref(), Some("later"), "both were due before it was published");
}

pub(super) async fn a_far_due_time_is_kept(kit: &BrokerKit) {
    let queue = kit.queue();
    let century = Duration::from_secs(100 * 366 * 24 * 3600);
    kit.send(vec![
        Outgoing::new(message("far"), &queue).deliver_at(kit.now() + century),
        Outgoing::new(message("farthest"), &queue).deliver_at(kit.now() + Duration::MAX),
    ])
    .await;
    let mut consumer = kit.consumer(&queue).await;
    kit.none(&mut consumer, "the message is due in a hundred years").await;
    kit.publish(&queue, ["now"]).await;
    assert_eq!(kit.drain(&mut consumer, 1).await, ["now"]);
    drop(consumer);
    kit.broker.purge(&queue).await.expect("a queue is purged");
}

pub(super) async fn a_parked_message_comes_back_when_it_is_due(kit: &BrokerKit) {
    let queue = kit.queue();
    kit.publish(&queue, ["parked", "other"]).await;
    let mut consumer = kit.consumer(&queue).await;
    let due = kit.now() + SOON;
    kit.one(&mut consumer).await.park(due).await.expect("a held delivery is parked");
    assert_eq!(kit.drain(&mut consumer, 1).await, ["other"], "a parked message holds up nobody");
    kit.none(&mut consumer, "the parked message is not due").await;
    kit.pass(AFTER).await;
    assert_eq!(kit.drain(&mut consumer, 1).await, ["parked"]);
    assert!(kit.now() >= due, "it was delivered before it was due");
    kit.none(&mut consumer, "everything was acknowledged").await;
}

pub(super) async fn parking_does_not_count(kit: &BrokerKit) {
    let queue = kit.queue();
    kit.publish(&queue, ["x"]).await;
    let mut consumer = kit.consumer(&queue).await;
    for _ in 0..3 {
        let delivery = kit.one(&mut consumer).await;
        if kit.broker.capabilities().delivery_count {
            assert_eq!(delivery.delivery_count, Some(1), "deliveries that ended by parking are not counted");
        } else {
            assert_eq!(delivery.delivery_count, None, "a broker that does not count gives no count");
        }
        assert!(!delivery.redelivered, "a message that was only ever parked is not redelivered");
        delivery.park(kit.now() + Duration::from_millis(50)).await.expect("a held delivery is parked");
        kit.pass(Duration::from_millis(60)).await;
    }
    assert_eq!(kit.drain(&mut consumer, 1).await, ["x"]);
}

pub(super) async fn parking_until_the_past_hands_it_back_at_once(kit: &BrokerKit) {
    let queue = kit.queue();
    kit.publish(&queue, ["x"]).await;
    let mut consumer = kit.consumer(&queue).await;
    let past = kit.now() - Duration::from_secs(3600);
    kit.one(&mut consumer).await.park(past).await.expect("a held delivery is parked");
    assert_eq!(kit.drain(&mut consumer, 1).await, ["x"]);
}

pub(super) async fn deliver_at_without_delay_is_unsupported(kit: &BrokerKit) {
    let queue = kit.queue();
    let later = kit.now() + Duration::from_secs(3600);
    let batch = vec![Outgoing::new(message("x"), &queue).deliver_at(later)];
    let error = kit.broker.publish(batch).await.expect_err("the broker cannot delay");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    kit.empty(&queue, "the message was refused").await;
}

pub(super) async fn park_without_delay_is_unsupported(kit: &BrokerKit) {
    let queue = kit.queue();
    kit.publish(&queue, ["x"]).await;
    let mut consumer = kit.consumer(&queue).await;
    let hour = Duration::from_secs(3600);
    let delivery = kit.one(&mut consumer).await;
    let error = delivery.park(kit.now() + hour).await.expect_err("the broker cannot delay");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    // Dropped with the error, the delivery was handed back at once.
    let receipt = kit.one(&mut consumer).await.into_receipt();
    let mut unsettled = settle_all(vec![(receipt, Verb::Park(kit.now() - hour))]).await.expect_err("nor into the past");
    assert_eq!(unsettled.error.kind(), ErrorKind::Unsupported, "{}", unsettled.error);
    let (receipt, _) = unsettled.rest.pop().expect("what was not done is left");
    receipt.settle(Verb::Ack).await.expect("what was not done can be settled otherwise");
    drop(consumer);
    kit.empty(&queue, "the message was acknowledged").await;
}

pub(super) async fn an_expired_message_is_dropped(kit: &BrokerKit) {
    let queue = kit.queue();
    let mut brief = message("brief");
    brief.properties.expiration = Some(SOON);
    let mut long = message("long");
    long.properties.expiration = Some(Duration::from_secs(3600));
    kit.send(vec![Outgoing::new(brief.clone(), &queue), Outgoing::new(long, &queue)]).await;
    kit.pass(AFTER).await;
    let mut consumer = kit.consumer(&queue).await;
    assert_eq!(kit.drain(&mut consumer, 1).await, ["long"], "only what has not expired is delivered");
    kit.none(&mut consumer, "the message has expired").await;
    kit.depth(&queue, 0).await;
    kit.send(vec![Outgoing::new(brief, &queue)]).await;
    assert_eq!(kit.drain(&mut consumer, 1).await, ["brief"], "a message that has not expired yet is delivered");
}

pub(super) async fn a_queue_drops_what_waited_too_long(kit: &BrokerKit) {
    let mut spec = QueueSpec::direct(kit.queue());
    spec.message_ttl = Some(SOON);
    kit.broker.declare(&spec).await.expect("a queue with a time to live is declared");
    kit.publish(&spec.name, ["late"]).await;
    kit.pass(AFTER).await;
    kit.publish(&spec.name, ["in time"]).await;
    let mut consumer = kit.consumer(&spec.name).await;
    let delivery = kit.one(&mut consumer).await;
    assert_eq!(text(&delivery), "in time");
    delivery.ack().await.expect("a held delivery is acknowledged");
    kit.none(&mut consumer, "the other message waited too long").await;
}

pub(super) async fn expiration_counts_from_publishing(kit: &BrokerKit) {
    if !kit.broker.capabilities().delay {
        return kit.skip("capability `delay`");
    }
    let mut spec = QueueSpec::direct(kit.queue());
    spec.message_ttl = Some(Duration::from_secs(3600));
    kit.broker.declare(&spec).await.expect("a queue with a time to live is declared");
    let due = kit.now() + AFTER;
    let delayed = |body: &str, expiration| {
        let mut message = message(body);
        message.properties.expiration = Some(expiration);
        Outgoing::new(message, &spec.name).deliver_at(due)
    };
    kit.send(vec![delayed("brief", SOON), delayed("long", Duration::from_secs(3600))]).await;
    let mut brief = QueueSpec::direct(kit.queue());
    brief.message_ttl = Some(SOON);
    kit.broker.declare(&brief).await.expect("a queue with a time to live is declared");
    kit.send(vec![Outgoing::new(message("delayed"), &brief.name).deliver_at(due)]).await;
    let mut waiting = kit.consumer(&brief.name).await;
    let (delivery, ()) = tokio::join!(kit.one(&mut waiting), kit.pass(AFTER));
    assert_eq!(text(&delivery), "delayed", "its time in the queue began when it was due");
    delivery.ack().await.expect("a held delivery is acknowledged");
    let mut consumer = kit.consumer(&spec.name).await;
    assert_eq!(kit.drain(&mut consumer, 1).await, ["long"], "what expired before it was due is dropped");
    kit.none(&mut consumer, "the other message expired before it was due").await;
}

pub(super) async fn hints_that_cannot_be_followed_have_no_effect(kit: &BrokerKit) {
    let queue = kit.queue();
    let mut hinted = message("x");
    hinted.properties.priority = Some(Priority(7));
    hinted.properties.expiration = Some(Duration::from_secs(3600));
    hinted.properties.delivery_mode = Some(DeliveryMode::Persistent);
    kit.send(vec![Outgoing::new(hinted.clone(), &queue)]).await;
    let delivery = kit.one(&mut kit.consumer(&queue).await).await;
    assert_eq!(delivery.message.properties, hinted.properties, "the properties are kept");
    delivery.ack().await.expect("a held delivery is acknowledged");
    let capabilities = kit.broker.capabilities();
    if !capabilities.priorities {
        kit.send(vec![Outgoing::new(message("first"), &queue), Outgoing::new(hinted.clone(), &queue)]).await;
        let bodies = kit.drain(&mut kit.consumer(&queue).await, 2).await;
        assert_eq!(bodies, ["first", "x"], "without priorities: first in, first out");
    }
    if !capabilities.expiration {
        hinted.properties.expiration = Some(SOON);
        kit.send(vec![Outgoing::new(hinted, &queue)]).await;
        kit.pass(AFTER).await;
        assert_eq!(kit.drain(&mut kit.consumer(&queue).await, 1).await, ["x"], "without expiration nothing expires");
    }
}
