//! Parked messages, and the form in which Python has them.
#![allow(clippy::unwrap_used, reason = "a test stops at the first error")]

mod common;

use std::time::Duration;

use celeriac_broker::{ErrorKind, QueueSpec};
use celeriac_core::{Timestamp, Value};
use celeriac_testkit::server::RedisServer;
use common::*;

const HOUR: Duration = Duration::from_secs(3600);

/// Makes the time come of all that is parked in `jobs`.
async fn come_due(server: &RedisServer) {
    for parked in server.command(&["ZRANGE", "_celeriac.parked.jobs", "0", "-1"]).await.texts() {
        server.command(&["ZADD", "_celeriac.parked.jobs", "XX", "1", &parked]).await;
    }
    server.command(&["ZADD", "_celeriac.parked", "XX", "1", "jobs"]).await;
}

#[tokio::test]
async fn a_message_for_later_is_parked_where_a_worker_is_alive() {
    let (server, jobs) = (RedisServer::start().await, queue("jobs"));
    let store = open(config(&server)).await;
    let _working = consumer(&store, &queue("other")).await;
    until(&server, &["ZCARD", "_celeriac.workers"], "1").await;
    let later = Timestamp::now() + HOUR;
    store.broker().publish(vec![with_eta("x", &jobs, later)]).await.unwrap();
    assert_eq!(ask(&server, &["ZCARD", "_celeriac.parked.jobs"]).await, "1");
    assert_eq!(ask(&server, &["LLEN", "jobs"]).await, "0");
}

#[tokio::test]
async fn a_task_for_later_has_celerys_form_where_no_worker_is_alive() {
    let (server, jobs) = (RedisServer::start().await, queue("jobs"));
    let store = open(config(&server)).await;
    let later = Timestamp::now() + HOUR;
    store
        .broker()
        .publish(vec![with_eta("task", &jobs, later), outgoing("plain", &jobs).deliver_at(later)])
        .await
        .unwrap();
    assert_eq!(ask(&server, &["LLEN", "jobs"]).await, "1", "the task tells by itself when it is to be worked");
    assert_eq!(ask(&server, &["ZCARD", "_celeriac.parked.jobs"]).await, "1", "the other would be worked at once");
}

#[tokio::test]
async fn a_queue_may_ask_for_celerys_form() {
    let (server, jobs) = (RedisServer::start().await, queue("jobs"));
    let store = open(config(&server)).await;
    let _working = consumer(&store, &queue("other")).await;
    until(&server, &["ZCARD", "_celeriac.workers"], "1").await;
    let mut spec = QueueSpec::direct(jobs.clone());
    spec.arguments.insert("x-celery-eta".to_owned(), Value::from(true));
    store.broker().declare(&spec).await.unwrap();
    store.broker().publish(vec![with_eta("x", &jobs, Timestamp::now() + HOUR)]).await.unwrap();
    assert_eq!(ask(&server, &["LLEN", "jobs"]).await, "1");
    spec.arguments.insert("x-celery-eta".to_owned(), Value::from(1));
    let error = store.broker().declare(&spec).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("x-celery-eta"), "{error}");
}

#[tokio::test]
async fn a_message_that_is_due_wakes_who_waits() {
    let (server, jobs) = (RedisServer::start().await, queue("jobs"));
    let (sender, worker) = (open(config(&server)).await, open(config(&server)).await);
    let mut consumer = consumer(&worker, &jobs).await;
    let mut late = Vec::new();
    for round in 0..10 {
        let due = Timestamp::now() + Duration::from_millis(40);
        let send = async {
            tokio::task::yield_now().await;
            // The far one first: the nearer one has to be heard of.
            let far = outgoing("far", &jobs).deliver_at(due + HOUR);
            sender.broker().publish(vec![far]).await.unwrap();
            sender.broker().publish(vec![outgoing("x", &jobs).deliver_at(due)]).await.unwrap();
        };
        let (delivery, ()) = tokio::join!(one(&mut consumer), send);
        assert_eq!(text(&delivery), "x", "round {round}");
        late.push(Timestamp::now().since(due));
        assert!(Timestamp::now() >= due);
        delivery.ack().await.unwrap();
    }
    late.sort();
    assert!(late[5] < Duration::from_secs(1), "it came by being due, not by the next look: {late:?}");
}

#[tokio::test]
async fn parked_messages_survive_every_process() {
    let (server, jobs) = (RedisServer::start().await, queue("jobs"));
    let store = open(config(&server)).await;
    let mut consumer = consumer(&store, &jobs).await;
    publish(&store, &jobs, &["a", "b"]).await;
    let later = Timestamp::now() + HOUR;
    for _ in 0..2 {
        one(&mut consumer).await.park(later).await.unwrap();
    }
    drop(consumer);
    store.close().await.unwrap();
    assert_eq!(ask(&server, &["ZCARD", "_celeriac.parked.jobs"]).await, "2");
    come_due(&server).await;
    let store = open(config(&server)).await;
    let mut consumer = common::consumer(&store, &jobs).await;
    for body in ["a", "b"] {
        let delivery = one(&mut consumer).await;
        assert_eq!((text(&delivery).as_str(), delivery.redelivered), (body, false), "parking is no delivery");
        delivery.ack().await.unwrap();
    }
    none(&mut consumer, Duration::from_millis(100)).await;
}

#[tokio::test]
async fn messages_that_are_due_at_one_time_keep_their_order() {
    let (server, jobs) = (RedisServer::start().await, queue("jobs"));
    let store = open(config(&server)).await;
    let due = Timestamp::now() + Duration::from_millis(100);
    let bodies: Vec<String> = (0..12).map(|n| n.to_string()).collect();
    let batch = bodies.iter().map(|body| outgoing(body, &jobs).deliver_at(due)).collect();
    store.broker().publish(batch).await.unwrap();
    let mut consumer = consumer(&store, &jobs).await;
    for body in bodies {
        let delivery = one(&mut consumer).await;
        assert_eq!(text(&delivery), body);
        delivery.ack().await.unwrap();
    }
}

#[tokio::test]
async fn a_message_that_is_due_where_only_others_wait_is_moved_by_a_worker_that_has_just_come() {
    const LONG: Duration = Duration::from_secs(10);
    let (server, jobs) = (RedisServer::start().await, queue("jobs"));
    let store = open(config(&server).lease(LONG)).await;
    let _working = consumer(&store, &queue("other")).await;
    let came = std::time::Instant::now();
    let due = Timestamp::now() + Duration::from_millis(50);
    store.broker().publish(vec![outgoing("x", &jobs).deliver_at(due)]).await.unwrap();
    until(&server, &["LLEN", "jobs"], "1").await;
    assert!(came.elapsed() < LONG, "it does not wait until the leases of others may have ended");
}

#[tokio::test]
async fn what_came_due_while_no_worker_was_alive_is_moved_by_the_next_one_whatever_it_works_on() {
    let (server, jobs) = (RedisServer::start().await, queue("jobs"));
    let store = open(config(&server)).await;
    store.broker().publish(vec![outgoing("x", &jobs).deliver_at(Timestamp::now() + HOUR)]).await.unwrap();
    // Nobody is there to move it.
    come_due(&server).await;
    assert_eq!(ask(&server, &["LLEN", "jobs"]).await, "0");
    let _working = consumer(&store, &queue("other")).await;
    until(&server, &["LLEN", "jobs"], "1").await;
}

#[tokio::test]
async fn a_worker_parks_what_it_takes_from_a_queue_that_asks_for_celerys_form() {
    let (server, jobs) = (RedisServer::start().await, queue("jobs"));
    let store = open(config(&server)).await;
    let mut spec = QueueSpec::direct(jobs.clone());
    spec.arguments.insert("x-celery-eta".to_owned(), Value::from(true));
    store.broker().declare(&spec).await.unwrap();
    let (mut consumer, later) = (consumer(&store, &jobs).await, Timestamp::now() + HOUR);
    store.broker().publish(vec![with_eta("x", &jobs, later)]).await.unwrap();
    one(&mut consumer).await.park(later).await.unwrap();
    assert_eq!(ask(&server, &["ZCARD", "_celeriac.parked.jobs"]).await, "1");
}
