//! Channels, connections and queues that are lost.

use std::time::Duration;

use celeriac_amqp::AmqpStore;
use celeriac_broker::{Completion, Delivery, Settled, Verb};
use celeriac_core::Timestamp;
use celeriac_testkit::eventually;
use celeriac_testkit::proxy::FaultProxy;
use celeriac_testkit::server::{RabbitServer, Vhost};
use tokio::time::timeout;

use crate::support::*;

/// Settles a delivery that is lost, once that is known.
async fn is_lost(delivery: Delivery) {
    assert_eq!(delivery.ack().await.unwrap(), Settled::Lost);
}

#[tokio::test]
async fn what_was_held_when_the_connection_was_cut_is_lost_and_comes_again_once() {
    let (vhost, jobs) = (vhost().await, queue("jobs"));
    let proxy = FaultProxy::start_opaque(vhost.server().address()).await;
    let store = AmqpStore::open(config(&vhost.url_at(proxy.address()))).await.unwrap();
    publish(&store, &jobs, 0..2).await;
    let mut consumer = consumer(&store, &[&jobs], 10).await;
    let mut held = take(&mut consumer, 2).await;
    assert_eq!(held.remove(0).ack().await.unwrap(), Settled::Done);
    until_depth(&vhost, &jobs, 0, 1).await;
    proxy.cut();
    // Who receives goes on by itself.
    let again = one(&mut consumer).await;
    assert_eq!((text(&again).as_str(), again.redelivered), ("1", true));
    let next = Completion::new().then(outgoing("next", &queue("next")));
    let lost = held.remove(0).into_receipt().settle(Verb::Complete(Box::new(next))).await.unwrap();
    assert_eq!(lost, Settled::Lost, "before its verb is looked at");
    assert_eq!(again.ack().await.unwrap(), Settled::Done);
    none(&mut consumer, Duration::from_millis(300)).await;
    until_depth(&vhost, &jobs, 0, 0).await;
    assert!(vhost.queue_info("next").await.is_none());
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_consumer_goes_on_after_an_operator_closed_its_connection() {
    let server = RabbitServer::start().await;
    let (vhost, jobs) = (server.vhost().await, queue("jobs"));
    let store = open(&vhost).await;
    let mut consumer = consumer(&store, &[&jobs], 10).await;
    for round in 0..3 {
        publish(&store, &jobs, round..round + 1).await;
        let held = one(&mut consumer).await;
        server.close_all_connections("a test").await;
        // It may be closed again before it is acknowledged: what counts is that it can be in the end.
        while one(&mut consumer).await.ack().await.unwrap() == Settled::Lost {}
        is_lost(held).await;
        until_depth(&vhost, &jobs, 0, 0).await;
    }
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_receive_outlives_a_server_that_is_started_again() {
    let server = RabbitServer::start().await;
    let (vhost, jobs) = (server.vhost().await, queue("jobs"));
    let store = open(&vhost).await;
    publish(&store, &jobs, 0..1).await;
    let mut consumer = consumer(&store, &[&jobs], 10).await;
    let held = one(&mut consumer).await;
    server.kill();
    let (again, ()) = tokio::join!(one(&mut consumer), server.restart());
    assert_eq!(text(&again), "0");
    is_lost(held).await;
    again.ack().await.unwrap();
    publish(&store, &jobs, 1..2).await;
    assert_eq!(text(&one(&mut consumer).await), "1");
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_queue_that_is_deleted_is_made_again_and_what_was_held_of_it_is_lost() {
    let (vhost, jobs, others) = (vhost().await, queue("jobs"), queue("others"));
    let store = open(&vhost).await;
    publish(&store, &jobs, 0..1).await;
    publish(&store, &others, 0..1).await;
    let mut consumer = consumer(&store, &[&jobs, &others], 10).await;
    let mut held = take(&mut consumer, 2).await;
    held.sort_by_key(|delivery| delivery.queue.clone());
    let (of_jobs, of_others) = (held.remove(0), held.remove(0));
    assert_eq!((&of_jobs.queue, &of_others.queue), (&jobs, &others));
    vhost.server().ctl(&["delete_queue", "-p", vhost.name(), "jobs"]).await;
    // It is made again without anybody's doing.
    eventually(PATIENCE, async || vhost.queue_info("jobs").await.is_some()).await;
    publish(&store, &jobs, 7..8).await;
    assert_eq!(texts(&take(&mut consumer, 1).await), ["7"]);
    is_lost(of_jobs).await;
    assert_eq!(of_others.ack().await.unwrap(), Settled::Done, "another queue's is held still");
    until_depth(&vhost, &others, 0, 0).await;
    store.close().await.unwrap();
}

#[tokio::test]
async fn what_was_held_of_a_queue_that_is_deleted_does_not_end_the_channel() {
    let (vhost, jobs, others) = (vhost().await, queue("jobs"), queue("others"));
    let store = open(&vhost).await;
    publish(&store, &jobs, 0..3).await;
    publish(&store, &others, 0..1).await;
    let mut consumer = consumer(&store, &[&jobs, &others], 10).await;
    let held = take(&mut consumer, 4).await;
    until_unacked(&vhost, 4).await;
    vhost.server().ctl(&["delete_queue", "-p", vhost.name(), "jobs"]).await;
    // All but the one of the other queue: else the server would close the channel for them, some time later.
    until_unacked(&vhost, 1).await;
    eventually(PATIENCE, async || vhost.queue_info("jobs").await.is_some()).await;
    publish(&store, &jobs, 7..8).await;
    let again = one(&mut consumer).await;
    assert_eq!((text(&again).as_str(), again.redelivered), ("7", false));
    for delivery in held {
        let settled = if delivery.queue == others { Settled::Done } else { Settled::Lost };
        assert_eq!(delivery.ack().await.unwrap(), settled);
    }
    again.ack().await.unwrap();
    until_unacked(&vhost, 0).await;
    store.close().await.unwrap();
}

/// Waits until the server counts so many deliveries that are not acknowledged, by its channels and not by its queues.
async fn until_unacked(vhost: &Vhost<'_>, count: u64) {
    let unacked = async || {
        let said = vhost.server().ctl(&["list_channels", "vhost", "messages_unacknowledged"]).await;
        let of = |line: &str| line.strip_prefix(vhost.name())?.trim().parse::<u64>().ok();
        said.lines().filter_map(of).sum::<u64>()
    };
    eventually(PATIENCE, async || unacked().await == count).await;
}

#[tokio::test]
async fn what_comes_early_while_rabbitmq_takes_no_messages_is_delivered_once() {
    let server = RabbitServer::start().await;
    let (vhost, jobs) = (server.vhost().await, queue("jobs"));
    let impatient = config(&vhost.url()).publish_timeout(Duration::from_secs(1));
    let store = AmqpStore::open(impatient).await.unwrap();
    let patient = AmqpStore::open(config(&vhost.url())).await.unwrap();
    let mut early = outgoing("early", &jobs);
    let due = Timestamp::now() + Duration::from_secs(8);
    early.message.headers.set_extra("celeriac-due", due.as_micros());
    patient.broker().publish(vec![early]).await.unwrap();
    patient.close().await.unwrap();
    server.raise_memory_alarm().await;
    // From then on nothing is sent.
    store.broker().publish(vec![outgoing("late", &queue("others"))]).await.unwrap_err();
    // It cannot be parked, and so it is held.
    let mut consumer = consumer(&store, &[&jobs], 10).await;
    let delivery = one(&mut consumer).await;
    assert!(Timestamp::now() >= due);
    assert_eq!(delivery.ack().await.unwrap(), Settled::Done);
    server.clear_memory_alarm().await;
    none(&mut consumer, Duration::from_secs(1)).await;
    until_depth(&vhost, &jobs, 0, 0).await;
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_channel_that_the_server_closes_is_opened_again_and_the_connection_stays() {
    let server = RabbitServer::builder().config("consumer_timeout = 1000").start().await;
    // It looks every minute by itself. If it looks again before its client has answered, it closes the same channel twice, which is no way to
    // treat a client.
    server.eval("application:set_env(rabbit, channel_tick_interval, 2000)").await;
    let (vhost, jobs, others) = (server.vhost().await, queue("jobs"), queue("others"));
    let proxy = FaultProxy::start_opaque(server.address()).await;
    // It is not told how long the server waits.
    let store = AmqpStore::open(config(&vhost.url_at(proxy.address()))).await.unwrap();
    publish(&store, &jobs, 0..1).await;
    let mut consumer = consumer(&store, &[&jobs], 10).await;
    let held = one(&mut consumer).await;
    let mut other = crate::support::consumer(&store, &[&others], 10).await;
    let again = one(&mut consumer).await;
    assert!(again.redelivered);
    is_lost(held).await;
    assert_eq!(again.ack().await.unwrap(), Settled::Done);
    publish(&store, &others, 0..1).await;
    one(&mut other).await.ack().await.unwrap();
    assert_eq!(proxy.connections(), 2, "one to send, one to receive");
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_store_that_is_just_dropped_hands_back_what_it_held() {
    let (vhost, jobs) = (vhost().await, queue("jobs"));
    let store = open(&vhost).await;
    publish(&store, &jobs, 0..5).await;
    let mut consumer = consumer(&store, &[&jobs], 10).await;
    let held = take(&mut consumer, 3).await;
    drop((store, consumer, held));
    until_depth(&vhost, &jobs, 5, 0).await;
}

#[tokio::test]
async fn closing_does_not_wait_for_a_server_that_does_not_answer() {
    let (vhost, jobs) = (vhost().await, queue("jobs"));
    let proxy = FaultProxy::start_opaque(vhost.server().address()).await;
    let store = AmqpStore::open(config(&vhost.url_at(proxy.address()))).await.unwrap();
    publish(&store, &jobs, 0..1).await;
    let mut consumer = consumer(&store, &[&jobs], 10).await;
    let held = one(&mut consumer).await;
    proxy.black_hole();
    let closed = timeout(PATIENCE, store.close()).await.expect("it ends by itself");
    assert!(closed.is_err(), "the server was not told");
    is_lost(held).await;
}
