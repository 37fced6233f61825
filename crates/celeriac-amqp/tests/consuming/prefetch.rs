//! How many messages are on the way.

use std::time::Duration;

use celeriac_core::Timestamp;

use crate::support::*;

/// Longer than a consumer keeps what nobody asks for.
const HOARD: Duration = Duration::from_millis(1_300);

#[tokio::test]
async fn no_more_is_on_the_way_than_was_asked_for() {
    let (vhost, jobs) = (vhost().await, queue("jobs"));
    let store = open(&vhost).await;
    publish(&store, &jobs, 0..100).await;
    let mut consumer = consumer(&store, &[&jobs], 50).await;
    let mut held = Vec::new();
    for (asked, on_the_way) in [(3, 3), (1, 4), (2, 6), (10, 16), (1, 17)] {
        held.extend(take(&mut consumer, asked).await);
        until_depth(&vhost, &jobs, 100 - on_the_way, on_the_way).await;
    }
    // What is settled makes place for as many.
    for delivery in held.drain(..5) {
        delivery.ack().await.unwrap();
    }
    until_depth(&vhost, &jobs, 78, 17).await;
    store.close().await.unwrap();
}

#[tokio::test]
async fn no_more_is_on_the_way_than_the_prefetch() {
    let (vhost, jobs) = (vhost().await, queue("jobs"));
    let store = open(&vhost).await;
    publish(&store, &jobs, 0..30).await;
    let mut consumer = consumer(&store, &[&jobs], 10).await;
    let mut held = take(&mut consumer, 2).await;
    held.extend(take(&mut consumer, 8).await);
    none(&mut consumer, Duration::from_millis(300)).await;
    assert_eq!(depth(&vhost, &jobs).await, (20, 10));
    held.pop().unwrap().ack().await.unwrap();
    assert_eq!(text(&one(&mut consumer).await), "10");
    store.close().await.unwrap();
}

#[tokio::test]
async fn messages_come_in_order_though_ever_more_are_asked_for() {
    let (vhost, jobs) = (vhost().await, queue("jobs"));
    let store = open(&vhost).await;
    publish(&store, &jobs, 0..2_000).await;
    let mut consumer = consumer(&store, &[&jobs], 1_000).await;
    let (mut next, mut limit) = (0, 1);
    while next < 2_000 {
        for delivery in recv(&mut consumer, limit).await {
            assert_eq!(text(&delivery), next.to_string());
            next += 1;
            delivery.ack().await.unwrap();
        }
        limit = (limit * 2).min(500);
    }
    store.close().await.unwrap();
}

#[tokio::test]
async fn what_a_slow_consumer_does_not_ask_for_goes_to_an_idle_one() {
    let (vhost, jobs) = (vhost().await, queue("jobs"));
    let store = open(&vhost).await;
    publish(&store, &jobs, 0..1).await;
    let mut slow = consumer(&store, &[&jobs], 50).await;
    // It would take ten, and gets one; then it is busy.
    let held = recv(&mut slow, 10).await;
    publish(&store, &jobs, 1..10).await;
    until_depth(&vhost, &jobs, 0, 10).await;
    let other = open(&vhost).await;
    let mut idle = consumer(&other, &[&jobs], 50).await;
    let came = take(&mut idle, 9).await;
    assert_eq!(texts(&came), (1..10).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(texts(&held), ["0"]);
    // Nor does it take more before it asks for it.
    publish(&store, &jobs, 10..12).await;
    assert_eq!(texts(&take(&mut idle, 2).await), ["10", "11"]);
    publish(&store, &jobs, 12..13).await;
    assert_eq!(texts(&take(&mut slow, 1).await), ["12"]);
    store.close().await.unwrap();
    other.close().await.unwrap();
}

#[tokio::test]
async fn a_slow_consumer_of_several_queues_takes_one_message_at_a_time() {
    let vhost = vhost().await;
    let queues = [queue("a"), queue("b"), queue("c")];
    let store = open(&vhost).await;
    for name in &queues {
        publish(&store, name, 0..4).await;
    }
    let mut consumer = consumer(&store, &queues.each_ref(), 50).await;
    let on_the_way = async || {
        let mut sum = 0;
        for name in &queues {
            sum += depth(&vhost, name).await.1;
        }
        sum
    };
    let mut held = vec![one(&mut consumer).await];
    // The others of the three that may have come go back.
    celeriac_testkit::eventually(PATIENCE, async || on_the_way().await == 1).await;
    for count in 2..=6 {
        tokio::time::sleep(HOARD).await; // wait: so long a task takes
        let delivery = one(&mut consumer).await;
        held.push(delivery);
        assert_eq!(on_the_way().await, count);
    }
    for name in &queues {
        assert_eq!(held.iter().filter(|delivery| delivery.queue == *name).count(), 2, "each queue has its turn");
    }
    // Faster, and they come by themselves again.
    for delivery in held {
        delivery.ack().await.unwrap();
    }
    for _ in 0..6 {
        one(&mut consumer).await.ack().await.unwrap();
    }
    store.close().await.unwrap();
}

#[tokio::test]
async fn what_is_fetched_before_it_is_due_comes_when_it_is() {
    let (vhost, a, b) = (vhost().await, queue("a"), queue("b"));
    let store = open(&vhost).await;
    publish(&store, &a, 0..1).await;
    publish(&store, &b, 0..1).await;
    let mut consumer = consumer(&store, &[&a, &b], 50).await;
    let _first = one(&mut consumer).await;
    // The other's goes back, and from then on each is fetched.
    tokio::time::sleep(HOARD).await; // wait: so long a task takes
    let _second = one(&mut consumer).await;
    tokio::time::sleep(HOARD).await; // wait: and so does the next
    let mut early = outgoing("early", &a);
    let due = Timestamp::now() + Duration::from_millis(1_500);
    early.message.headers.set_extra("celeriac-due", due.as_micros());
    store.broker().publish(vec![early]).await.unwrap();
    let delivery = one(&mut consumer).await;
    assert_eq!(text(&delivery), "early");
    assert!(Timestamp::now() >= due);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_queue_that_goes_with_its_consumers_is_consumed_also_while_nobody_asks() {
    let (vhost, mut spec) = (vhost().await, celeriac_broker::QueueSpec::direct(queue("brief")));
    spec.auto_delete = true;
    let store = open(&vhost).await;
    store.broker().declare(&spec).await.unwrap();
    let mut consumer = consumer(&store, &[&spec.name], 10).await;
    publish(&store, &spec.name, 0..3).await;
    let held = one(&mut consumer).await;
    tokio::time::sleep(HOARD).await; // wait: so long a task takes
    assert!(vhost.queue_info(&spec.name).await.unwrap().consumers > 0);
    held.ack().await.unwrap();
    assert_eq!(texts(&take(&mut consumer, 2).await), ["1", "2"]);
    consumer.cancel().await.unwrap();
    celeriac_testkit::eventually(PATIENCE, async || vhost.queue_info(&spec.name).await.is_none()).await;
    store.close().await.unwrap();
}
