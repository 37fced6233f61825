//! What goes back to its list has its old order there, the earliest foremost, however and by whomever it is handed back.
#![allow(clippy::unwrap_used, reason = "a test stops at the first error")]

mod common;

use std::time::Duration;

use celeriac_broker::{Delivery, Requeue, Verb, settle_all};
use celeriac_core::{QueueName, Timestamp};
use celeriac_redis::RedisStore;
use celeriac_testkit::server::RedisServer;
use celeriac_testkit::soon;
use common::*;
use proptest::prelude::*;

/// How a delivery goes back.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Back {
    Dropped,
    /// As a worker hands back what it has not begun.
    Parked,
    Rejected,
}

const ALL: [Back; 3] = [Back::Dropped, Back::Parked, Back::Rejected];

fn past() -> Timestamp {
    Timestamp::now() - Duration::from_secs(3600)
}

/// Publishes so many messages, numbered from 0.
async fn numbered(store: &RedisStore, jobs: &QueueName, count: usize) {
    let batch = (0..count).map(|n| outgoing(&n.to_string(), jobs)).collect();
    store.broker().publish(batch).await.unwrap();
}

async fn take(store: &RedisStore, jobs: &QueueName, count: usize) -> Vec<Delivery> {
    let mut consumer = consumer(store, jobs).await;
    let mut held = Vec::new();
    while held.len() < count {
        let limit = MANY.min((count - held.len()).try_into().unwrap());
        held.extend(soon(consumer.recv(limit)).await.unwrap());
    }
    held
}

/// Hands all of them back, in this order, and waits until they are in their list.
async fn hand_back(server: &RedisServer, held: Vec<Delivery>, how: impl Fn(usize) -> Back) {
    let wanted = held.len() + ask(server, &["LLEN", "jobs"]).await.parse::<usize>().unwrap();
    let mut batch = Vec::new();
    for (place, delivery) in held.into_iter().enumerate() {
        match how(place) {
            Back::Dropped => drop(delivery),
            Back::Parked => batch.push((delivery.into_receipt(), Verb::Park(past()))),
            Back::Rejected => batch.push((delivery.into_receipt(), Verb::Reject(Requeue::Yes))),
        }
    }
    assert!(settle_all(batch).await.unwrap().is_empty());
    until(server, &["LLEN", "jobs"], &wanted.to_string()).await;
}

/// Takes so many messages, and sees to it that they come as they were numbered.
async fn all_in_order(store: &RedisStore, jobs: &QueueName, count: usize) {
    let came = take(store, jobs, count).await;
    let numbers: Vec<usize> = came.iter().map(|delivery| text(delivery).parse().unwrap()).collect();
    assert_eq!(numbers, (0..count).collect::<Vec<_>>());
    settle_all(came.into_iter().map(|delivery| (delivery.into_receipt(), Verb::Ack)).collect()).await.unwrap();
}

async fn thousands(back: Back) {
    const COUNT: usize = 2_000;
    let (server, jobs) = (RedisServer::start().await, queue("jobs"));
    let store = open(config(&server)).await;
    numbered(&store, &jobs, COUNT).await;
    let held = take(&store, &jobs, COUNT).await;
    hand_back(&server, held, |_| back).await;
    all_in_order(&store, &jobs, COUNT).await;
}

#[tokio::test]
async fn thousands_that_are_dropped_one_after_the_other_keep_their_order() {
    thousands(Back::Dropped).await;
}

#[tokio::test]
async fn thousands_that_go_back_unworked_in_one_batch_keep_their_order() {
    thousands(Back::Parked).await;
}

#[tokio::test]
async fn thousands_that_are_rejected_in_one_batch_keep_their_order() {
    thousands(Back::Rejected).await;
}

#[tokio::test]
async fn what_many_workers_hand_back_keeps_its_order() {
    const EACH: usize = 100;
    let (server, jobs) = (RedisServer::start().await, queue("jobs"));
    let store = open(config(&server)).await;
    numbered(&store, &jobs, EACH * 6).await;
    let (mut workers, mut held) = (Vec::new(), Vec::new());
    for _ in 0..6 {
        let worker = open(config(&server)).await;
        held.push(take(&worker, &jobs, EACH).await);
        workers.push(worker);
    }
    let some = [2, 0, 5, 4, 1, 3].map(|worker| std::mem::take(&mut held[worker]));
    for (worker, some) in some.into_iter().enumerate() {
        hand_back(&server, some, |_| ALL[worker % 3]).await;
    }
    all_in_order(&store, &jobs, EACH * 6).await;
}

#[tokio::test]
async fn what_goes_back_unworked_is_not_marked_as_redelivered() {
    let (server, jobs) = (RedisServer::start().await, queue("jobs"));
    let store = open(config(&server)).await;
    publish(&store, &jobs, &["x"]).await;
    for _ in 0..3 {
        let delivery = take(&store, &jobs, 1).await.remove(0);
        assert_eq!((delivery.redelivered, delivery.delivery_count), (false, Some(1)));
        delivery.park(past()).await.unwrap();
    }
    take(&store, &jobs, 1).await.remove(0).reject(Requeue::Yes).await.unwrap();
    for _ in 0..3 {
        let delivery = take(&store, &jobs, 1).await.remove(0);
        assert_eq!((delivery.redelivered, delivery.delivery_count), (true, Some(2)));
        delivery.park(past()).await.unwrap();
    }
    let back = server.command(&["LRANGE", "jobs", "0", "-1"]).await.texts().remove(0);
    assert_eq!(back.matches("celeriac").count(), 1, "{back}");
}

#[tokio::test]
async fn what_is_no_message_goes_back_unworked_as_it_is() {
    let (server, jobs) = (RedisServer::start().await, queue("jobs"));
    let store = open(config(&server)).await;
    for item in ["{}", "}", "no message", r#"{"a": 1}"#] {
        server.command(&["LPUSH", "jobs", item]).await;
        take(&store, &jobs, 1).await.remove(0).park(past()).await.unwrap();
        assert_eq!(ask(&server, &["RPOP", "jobs"]).await, item);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, max_shrink_iters: 100, ..ProptestConfig::with_cases(12) })]

    #[test]
    fn in_whatever_batches_messages_go_back_they_keep_their_order(
        // For each message: the batch that it goes back with, its place there, and how.
        messages in prop::collection::vec((any::<usize>(), any::<u8>(), 0..ALL.len()), 1..1_500),
        batches in 1_usize..8,
        shuffled in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (server, jobs) = (RedisServer::start().await, queue("jobs"));
            let stores = [open(config(&server)).await, open(config(&server)).await];
            numbered(&stores[0], &jobs, messages.len()).await;
            let mut going: Vec<Vec<(u8, Back, Delivery)>> = (0..batches).map(|_| Vec::new()).collect();
            // Two workers take turns.
            for (some, store) in messages.chunks(30).zip(stores.iter().cycle()) {
                let held = take(store, &jobs, some.len()).await;
                for (delivery, (batch, place, back)) in held.into_iter().zip(some) {
                    going[batch % batches].push((*place, ALL[*back], delivery));
                }
            }
            for mut batch in going {
                if shuffled {
                    batch.sort_by_key(|(place, ..)| *place);
                }
                let how: Vec<Back> = batch.iter().map(|(_, back, _)| *back).collect();
                hand_back(&server, batch.into_iter().map(|(.., delivery)| delivery).collect(), |place| how[place]).await;
            }
            all_in_order(&stores[0], &jobs, messages.len()).await;
        });
    }
}
