//! Who holds what: leases are renewed by the living, and what the dead held is found.
#![allow(clippy::unwrap_used, reason = "a test stops at the first error")]

mod common;

use std::time::Duration;

use celeriac_broker::{Consumer, Requeue, Settled};
use celeriac_core::Timestamp;
use celeriac_redis::{RedisConfig, RedisStore};
use celeriac_testkit::proxy::FaultProxy;
use celeriac_testkit::server::RedisServer;
use celeriac_testkit::{PATIENCE, eventually};
use common::*;
use futures_util::FutureExt as _;

/// The envelope that Python sends, but for its body and tag.
fn envelope(body: &str, tag: &str) -> String {
    format!(
        r#"{{"body": "{body}", "content-encoding": "utf-8", "content-type": "application/json", "headers": {{}}, "properties": {{"delivery_mode": 2, "delivery_info": {{"exchange": "", "routing_key": "jobs"}}, "priority": 0, "delivery_tag": "{tag}"}}}}"#
    )
}

/// The time in seconds, so far back.
fn ago(time: Duration) -> String {
    let micros = (Timestamp::now() - time).as_micros();
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

/// What a worker that was killed left behind.
async fn left_behind(server: &RedisServer, body: &str, tag: &str, taken: Duration) {
    let value = format!(r#"[{}, "", "jobs"]"#, envelope(body, tag));
    server.command(&["ZADD", "unacked_index", &ago(taken), tag]).await;
    server.command(&["HSET", "unacked", tag, &value]).await;
}

/// Opens another store, finds for as long as several leases what the dead have left there, and sees to it that nothing else comes.
async fn find_only_what_the_dead_have_left(server: &RedisServer) {
    let other = open(config(server)).await;
    let mut consumer = consumer(&other, &queue("jobs")).await;
    for bait in ["1", "2", "3"] {
        left_behind(server, bait, &format!("rs.dead.{bait}"), Duration::ZERO).await;
        let found = one(&mut consumer).await;
        assert_eq!(text(&found), bait);
        found.ack().await.unwrap();
    }
    other.close().await.unwrap();
}

/// Runs `what` on another thread, while this one, and a runtime that has no other, is blocked.
fn meanwhile(what: impl AsyncFnOnce() + Send) {
    let run = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(what());
    std::thread::scope(|scope| scope.spawn(run).join().unwrap());
}

#[tokio::test]
async fn a_message_that_is_held_longer_than_its_lease_goes_to_nobody_else() {
    let (server, jobs) = (RedisServer::start().await, queue("jobs"));
    let (store, other) = (open(config(&server)).await, open(config(&server)).await);
    publish(&store, &jobs, &["long"]).await;
    let held = one(&mut consumer(&store, &jobs).await).await;
    none(&mut consumer(&other, &jobs).await, LEASE * 4).await;
    assert_eq!(held.ack().await.unwrap(), Settled::Done);
    assert_eq!(ask(&server, &["HLEN", "unacked"]).await, "0");
    assert_eq!(ask(&server, &["ZCARD", "unacked_index"]).await, "0");
}

/// Sees to it that, for as long as three leases, the lease of what is held ends later than now.
async fn leases_last(server: &RedisServer) {
    let tags = server.command(&["HKEYS", "unacked"]).await.texts();
    let end = tokio::time::Instant::now() + LEASE * 3;
    while tokio::time::Instant::now() < end {
        for tag in &tags {
            let now = ago(Duration::ZERO);
            let ends = ask(server, &["ZSCORE", "unacked_index", tag]).await;
            assert!(ends.parse::<f64>().unwrap() > now.parse().unwrap(), "{tag} ended at {ends}, and it is {now}");
        }
        tokio::time::sleep(LEASE / 20).await; // wait: looked for again and again
    }
}

#[tokio::test]
async fn a_runtime_that_is_kept_busy_loses_no_lease() {
    let (server, jobs) = (RedisServer::start().await, queue("jobs"));
    let store = open(config(&server)).await;
    publish(&store, &jobs, &["long"]).await;
    let held = one(&mut consumer(&store, &jobs).await).await;
    meanwhile(async || {
        tokio::join!(leases_last(&server), find_only_what_the_dead_have_left(&server));
    });
    assert_eq!(held.ack().await.unwrap(), Settled::Done);
}

/// Has a store ask for messages, and the server answer while the runtime is kept busy: the store hears of it after `meanwhile`.
async fn answered_meanwhile(
    server: &RedisServer,
    blocked: impl AsyncFnOnce() + Send,
) -> (RedisStore, Box<dyn Consumer>) {
    let store = open(config(server)).await;
    let (mut consumer, jobs) = (consumer(&store, &queue("jobs")).await, queue("jobs"));
    // From then on the server knows the script.
    publish(&store, &jobs, &["first"]).await;
    one(&mut consumer).await.ack().await.unwrap();
    publish(&store, &jobs, &["x"]).await;
    server.pause();
    // A `recv` that is dropped goes on elsewhere.
    none(&mut consumer, LEASE / 10).await;
    meanwhile(async || {
        server.resume();
        until(server, &["HLEN", "unacked"], "1").await;
        blocked().await;
    });
    (store, consumer)
}

/// It comes to the store that took it, once.
async fn is_handed_out_once(server: RedisServer, (_store, mut consumer): (RedisStore, Box<dyn Consumer>)) {
    let came = one(&mut consumer).await;
    assert_eq!(text(&came), "x");
    assert_eq!(came.ack().await.unwrap(), Settled::Done);
    none(&mut consumer, LEASE * 2).await;
    assert_eq!(ask(&server, &["EXISTS", "unacked", "unacked_index", "jobs"]).await, "0");
}

#[tokio::test]
async fn what_was_taken_unheard_for_longer_than_the_lease_is_handed_out_once() {
    let server = RedisServer::start().await;
    let blocked = async || {
        tokio::time::sleep(LEASE * 3 / 2).await; // wait: the lease ends, and nobody has looked for lost ones yet
    };
    let taken = answered_meanwhile(&server, blocked).await;
    is_handed_out_once(server, taken).await;
}

#[tokio::test]
async fn what_was_taken_unheard_and_came_back_is_handed_out_once() {
    let server = RedisServer::start().await;
    let taken = answered_meanwhile(&server, async || until(&server, &["LLEN", "jobs"], "1").await).await;
    is_handed_out_once(server, taken).await;
}

#[tokio::test]
async fn what_was_taken_unheard_and_went_to_another_stays_there() {
    let server = RedisServer::start().await;
    let blocked = async || {
        let other = open(config(&server)).await;
        let found = one(&mut consumer(&other, &queue("jobs")).await).await;
        assert_eq!((text(&found).as_str(), found.redelivered), ("x", true));
        assert_eq!(found.ack().await.unwrap(), Settled::Done);
        other.close().await.unwrap();
    };
    let (_store, mut consumer) = answered_meanwhile(&server, blocked).await;
    none(&mut consumer, LEASE * 2).await;
    assert_eq!(ask(&server, &["EXISTS", "unacked", "unacked_index", "jobs"]).await, "0");
}

#[tokio::test]
async fn whatever_timeout_python_has_it_restores_nothing_that_is_held() {
    let (server, jobs) = (RedisServer::start().await, queue("jobs"));
    let store = open(config(&server)).await;
    publish(&store, &jobs, &["long"]).await;
    let _held = one(&mut consumer(&store, &jobs).await).await;
    // What kombu looks for with a timeout of no time at all, has ended by now.
    leases_last(&server).await;
}

#[tokio::test]
async fn what_a_dead_worker_held_comes_back_marked_and_in_order() {
    let (server, jobs) = (RedisServer::start().await, queue("jobs"));
    let survivor = open(config(&server)).await;
    let _working = consumer(&survivor, &queue("other")).await;
    let dead = open(config(&server)).await;
    publish(&dead, &jobs, &["a", "b", "c"]).await;
    let mut lost = consumer(&dead, &jobs).await;
    let mut held = Vec::new();
    while held.len() < 3 {
        held.extend(lost.recv(MANY).await.unwrap());
    }
    // Nobody renews what nobody knows to hold: so it is given other names.
    let tags = server.command(&["HKEYS", "unacked"]).await.texts();
    for tag in &tags {
        let value = ask(&server, &["HGET", "unacked", tag]).await;
        let lost = tag.replace("rs.", "rs.dead");
        server.command(&["HSET", "unacked", &lost, &value]).await;
        server.command(&["ZADD", "unacked_index", &ago(Duration::ZERO), &lost]).await;
        server.command(&["HDEL", "unacked", tag]).await;
        server.command(&["ZREM", "unacked_index", tag]).await;
    }
    until(&server, &["LLEN", "jobs"], "3").await;
    publish(&survivor, &jobs, &["d"]).await;
    let mut consumer = consumer(&survivor, &jobs).await;
    for (body, count) in [("a", 2), ("b", 2), ("c", 2), ("d", 1)] {
        let delivery = one(&mut consumer).await;
        assert_eq!((text(&delivery).as_str(), delivery.delivery_count), (body, Some(count)));
        assert_eq!(delivery.redelivered, count > 1);
        delivery.ack().await.unwrap();
    }
    drop(held);
}

#[tokio::test]
async fn what_dead_workers_held_comes_back_when_each_ones_own_lease_ends() {
    let (server, jobs) = (RedisServer::start().await, queue("jobs"));
    // Dead is who has lost the way to the server.
    let ways = [FaultProxy::start(server.address()).await, FaultProxy::start(server.address()).await];
    let (mut stores, mut held) = (Vec::new(), Vec::new());
    for ((way, body), lease) in ways.iter().zip(["short", "long"]).zip([LEASE, LEASE * 8]) {
        let url = format!("redis://{}/0", way.address());
        let store = open(RedisConfig::from_url(&url).unwrap().lease(lease)).await;
        publish(&store, &jobs, &[body]).await;
        held.push(one(&mut consumer(&store, &jobs).await).await);
        stores.push(store);
    }
    // One with a lease between theirs, which takes what Python holds for lost at once.
    let survivor = open(config(&server).lease(LEASE * 2).visibility_timeout(LEASE)).await;
    let mut consumer = consumer(&survivor, &jobs).await;
    leases_last(&server).await;
    none(&mut consumer, LEASE * 2).await;
    for way in &ways {
        way.refuse().await;
        way.cut();
    }
    let ends = server.command(&["ZRANGE", "unacked_index", "0", "-1", "WITHSCORES"]).await.texts();
    let ends: Vec<f64> = ends.iter().skip(1).step_by(2).map(|end| end.parse().unwrap()).collect();
    assert_eq!(ends.len(), 2);
    for (body, end) in ["short", "long"].into_iter().zip(&ends) {
        let back = one(&mut consumer).await;
        let came: f64 = ago(Duration::ZERO).parse().unwrap();
        assert_eq!(text(&back), body);
        assert!(came >= *end, "`{body}` came at {came}, and its lease ended at {end}");
        assert!(body == "long" || came < ends[1], "`{body}` came at {came}, with the lease of another, {ends:?}");
        back.ack().await.unwrap();
    }
    none(&mut consumer, LEASE).await;
}

#[tokio::test]
async fn what_a_dead_python_worker_held_comes_back_after_its_own_timeout() {
    let (server, jobs) = (RedisServer::start().await, queue("jobs"));
    left_behind(&server, "recent", "1b671a64-40d5-491e-99b0-da01ff1f3341", Duration::from_secs(60)).await;
    left_behind(&server, "old", "0f8fad5b-d9cb-469f-a165-70867728950e", Duration::from_secs(130)).await;
    let store = open(config(&server).visibility_timeout(Duration::from_secs(120))).await;
    let mut consumer = consumer(&store, &jobs).await;
    let delivery = one(&mut consumer).await;
    assert_eq!(text(&delivery), "old");
    assert!(delivery.redelivered);
    delivery.ack().await.unwrap();
    assert_eq!(server.command(&["HKEYS", "unacked"]).await.texts(), ["1b671a64-40d5-491e-99b0-da01ff1f3341"]);
    none(&mut consumer, LEASE * 2).await;
}

#[tokio::test]
async fn a_message_that_was_restored_under_its_holder_is_not_acknowledged_by_it() {
    let (server, jobs) = (RedisServer::start().await, queue("jobs"));
    let store = open(config(&server)).await;
    publish(&store, &jobs, &["x"]).await;
    let held = one(&mut consumer(&store, &jobs).await).await;
    // As kombu does it.
    let tag = server.command(&["HKEYS", "unacked"]).await.texts().remove(0);
    server.command(&["ZREM", "unacked_index", &tag]).await;
    server.command(&["HDEL", "unacked", &tag]).await;
    server.command(&["RPUSH", "jobs", &envelope("x", "again")]).await;
    let again = one(&mut consumer(&store, &jobs).await).await;
    assert_eq!(held.ack().await.unwrap(), Settled::Lost);
    assert_eq!(ask(&server, &["HLEN", "unacked"]).await, "1", "the other delivery is held still");
    again.ack().await.unwrap();
}

#[tokio::test]
async fn what_goes_back_is_as_kombu_hands_it_back() {
    let (server, jobs) = (RedisServer::start().await, queue("jobs"));
    let store = open(config(&server)).await;
    server.command(&["LPUSH", "jobs", &envelope("x", "t")]).await;
    let held = one(&mut consumer(&store, &jobs).await).await;
    let kept = server.command(&["HVALS", "unacked"]).await.texts();
    assert_eq!(kept, [format!(r#"[{}, "", "jobs"]"#, envelope("x", "t"))], "byte for byte, as kombu reads it");
    held.reject(Requeue::Yes).await.unwrap();
    let back = server.command(&["LRANGE", "jobs", "0", "-1"]).await.texts().remove(0);
    let back: serde_json::Value = serde_json::from_str(&back).unwrap();
    assert_eq!(back["headers"]["redelivered"], true);
    assert_eq!(back["properties"]["delivery_info"]["redelivered"], true);
    assert_eq!(back["properties"]["delivery_tag"], "t");
    assert_eq!(back["body"], "x");
}

#[tokio::test]
async fn a_sweep_finds_what_is_due_in_queues_that_nobody_waits_for() {
    let (server, jobs) = (RedisServer::start().await, queue("jobs"));
    let store = open(config(&server)).await;
    let _working = consumer(&store, &queue("other")).await;
    let due = Timestamp::now() + Duration::from_millis(500);
    store.broker().publish(vec![outgoing("x", &jobs).deliver_at(due)]).await.unwrap();
    assert_eq!(ask(&server, &["LLEN", "jobs"]).await, "0");
    until(&server, &["LLEN", "jobs"], "1").await;
    assert!(Timestamp::now() >= due);
    assert_eq!(ask(&server, &["EXISTS", "_celeriac.parked", "_celeriac.parked.jobs"]).await, "0");
}

/// The seconds until the lease of what is held ends.
async fn lease_left(server: &RedisServer) -> f64 {
    let ends = server.command(&["ZRANGE", "unacked_index", "0", "0", "WITHSCORES"]).await.texts();
    ends.get(1).map_or(0.0, |end| end.parse::<f64>().unwrap() - ago(Duration::ZERO).parse::<f64>().unwrap())
}

#[tokio::test]
async fn a_lease_that_is_renewed_after_another_has_found_its_end_is_held_by_one_of_both() {
    let (server, jobs) = (RedisServer::start().await, queue("jobs"));
    let late = FaultProxy::start(server.address()).await;
    let slow = FaultProxy::start(server.address()).await;
    let at = |proxy: &FaultProxy| RedisConfig::from_url(&format!("redis://{}/0", proxy.address())).unwrap();
    // It looks for lost ones, and finds the first.
    let finder = open(at(&slow).lease(LEASE * 5)).await;
    let mut finding = consumer(&finder, &jobs).await;
    left_behind(&server, "bait", "rs.dead.1", Duration::ZERO).await;
    one(&mut finding).await.ack().await.unwrap();
    drop(finding);
    let _working = consumer(&finder, &queue("other")).await;

    let holder = open(at(&late).lease(LEASE)).await;
    publish(&holder, &jobs, &["x"]).await;
    let held = one(&mut consumer(&holder, &jobs).await).await;
    // The holder is away for longer than its lease; the finder finds that, and is slow to restore the message.
    slow.delay(LEASE * 3);
    late.refuse().await;
    late.cut();
    celeriac_testkit::eventually(celeriac_testkit::PATIENCE, async || lease_left(&server).await > 5.0).await;
    late.heal().await;
    // It renews the lease.
    celeriac_testkit::eventually(celeriac_testkit::PATIENCE, async || lease_left(&server).await < 2.0).await;
    assert_eq!(ask(&server, &["HLEN", "unacked"]).await, "1", "it is not restored yet");
    // What the finder restores later says that it is done with the other.
    slow.delay(Duration::ZERO);
    left_behind(&server, "later", "rs.dead.2", Duration::ZERO).await;
    celeriac_testkit::eventually(celeriac_testkit::PATIENCE, async || ask(&server, &["LLEN", "jobs"]).await != "0")
        .await;
    assert_eq!(held.ack().await.unwrap(), Settled::Done);
    assert_eq!(text(&one(&mut consumer(&finder, &jobs).await).await), "later");
}

#[tokio::test]
async fn what_a_handle_held_that_is_dropped_unclosed_goes_back_at_once() {
    let (server, jobs) = (RedisServer::start().await, queue("jobs"));
    // So long that nothing comes back by its end.
    let store = open(config(&server).lease(Duration::from_secs(600))).await;
    publish(&store, &jobs, &["a", "b", "c"]).await;
    let mut consumer = consumer(&store, &jobs).await;
    let mut held = Vec::new();
    while held.len() < 2 {
        held.push(one(&mut consumer).await);
    }
    until(&server, &["ZCARD", "_celeriac.workers"], "1").await;
    // The third one is under way.
    held.extend(consumer.recv(MANY).now_or_never().transpose().unwrap().unwrap_or_default());
    drop((store, consumer));
    drop(held);
    until(&server, &["LLEN", "jobs"], "3").await;
    until(&server, &["HLEN", "unacked"], "0").await;
    until(&server, &["ZCARD", "_celeriac.workers"], "0").await;
}

#[tokio::test]
async fn with_the_half_that_is_left_the_connections_are_closed() {
    let (server, jobs) = (RedisServer::start().await, queue("jobs"));
    let connected = async || ask(&server, &["CLIENT", "LIST"]).await.contains("name=celeriac");
    let store = open(config(&server)).await;
    let broker = store.broker();
    drop((store.backend(), store.chords()));
    publish(&store, &jobs, &["a"]).await;
    let mut consumer = consumer(&store, &jobs).await;
    let held = one(&mut consumer).await;
    assert!(connected().await);
    broker.close().await.unwrap();
    eventually(PATIENCE, async || !connected().await).await;
    drop((store, broker, consumer, held));
}
