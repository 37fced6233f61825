//! Where a lease, an order or a bound was once lost.
#![allow(clippy::unwrap_used, reason = "a test stops at the first error")]

mod common;

use std::time::Duration;

use celeriac_broker::{Consumer, Delivery, Destination, ExchangeKind, Outgoing, QueueSpec, Requeue, Verb, settle_all};
use celeriac_core::{ExchangeName, Message, RoutingKey, Timestamp};
use celeriac_redis::{RedisConfig, RedisStore};
use celeriac_testkit::proxy::FaultProxy;
use celeriac_testkit::server::RedisServer;
use celeriac_testkit::soon;
use common::*;

fn envelope(body: &str, queue: &str) -> String {
    format!(
        r#"{{"body": "{body}", "content-encoding": "utf-8", "content-type": "application/json", "headers": {{}}, "properties": {{"delivery_info": {{"exchange": "", "routing_key": "{queue}"}}, "priority": 0, "delivery_tag": "{body}"}}}}"#
    )
}

/// An entry that its holder has given up, `seconds` ago.
async fn left(server: &RedisServer, tag: &str, body: &str, queue: &str, seconds: u64) {
    let score = (Timestamp::now() - Duration::from_secs(seconds)).as_micros() / 1_000_000;
    server.command(&["ZADD", "unacked_index", &score.to_string(), tag]).await;
    let value = format!(r#"[{}, "", "{queue}"]"#, envelope(body, queue));
    server.command(&["HSET", "unacked", tag, &value]).await;
}

fn via(proxy: &FaultProxy) -> RedisConfig {
    RedisConfig::from_url(&format!("redis://{}", proxy.address())).unwrap().lease(LEASE)
}

/// Publishes, and drops a `recv` between the taking and the answer. Nothing but what was taken is left.
async fn drop_recv(server: &RedisServer, store: &RedisStore, idle: &mut Box<dyn Consumer>) {
    let jobs = queue("jobs");
    let mut round = 0;
    while ask(server, &["HLEN", "unacked"]).await == "0" {
        round += 1;
        assert!(round < 1_000, "no `recv` was dropped in the middle");
        publish(store, &jobs, &["x"]).await;
        let polled = tokio::time::timeout(Duration::from_micros(50), idle.recv(ONE)).await;
        if let Ok(came) = polled {
            for delivery in came.unwrap() {
                delivery.ack().await.unwrap();
            }
        }
    }
    server.command(&["DEL", "jobs"]).await;
}

#[tokio::test]
async fn what_comes_after_recv_was_dropped_is_for_the_next_one() {
    let (server, jobs) = (RedisServer::start().await, queue("jobs"));
    let store = open(config(&server)).await;
    let mut idle = consumer(&store, &jobs).await;
    drop_recv(&server, &store, &mut idle).await;
    let delivery = one(&mut idle).await;
    assert!(!delivery.redelivered);
    delivery.ack().await.unwrap();
}

#[tokio::test]
async fn what_comes_and_is_not_picked_up_goes_back_for_others() {
    let (server, jobs) = (RedisServer::start().await, queue("jobs"));
    let (store, other) = (open(config(&server).lease(LONG)).await, open(config(&server)).await);
    let mut idle = consumer(&store, &jobs).await;
    let mut other = consumer(&other, &jobs).await;
    drop_recv(&server, &store, &mut idle).await;
    let delivery = one(&mut other).await;
    assert!(as_new(&delivery), "nobody was given it before: {delivery:?}");
    delivery.ack().await.unwrap();
    publish(&store, &jobs, &["y"]).await;
    assert_eq!(text(&one(&mut idle).await), "y");
}

fn as_new(delivery: &Delivery) -> bool {
    !delivery.redelivered && delivery.delivery_count == Some(1)
}

/// Publishes 2,000 messages, and takes some, so that the next are on their way. With what was taken.
async fn ahead(store: &RedisStore, busy: &mut Box<dyn Consumer>) -> (Vec<String>, Vec<Delivery>) {
    let bodies: Vec<String> = (0..2_000).map(|number| number.to_string()).collect();
    publish(store, &queue("jobs"), &bodies.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut held = Vec::new();
    // After the first it is known that there is a lot.
    for _ in 0..3 {
        held.extend(soon(busy.recv(MANY)).await.unwrap());
    }
    (bodies, held)
}

#[tokio::test]
async fn what_a_consumer_that_is_dropped_has_asked_for_ahead_goes_back_as_it_was() {
    let (server, jobs) = (RedisServer::start().await, queue("jobs"));
    let store = open(config(&server).lease(LONG)).await;
    let mut busy = consumer(&store, &jobs).await;
    let (bodies, mut held) = ahead(&store, &mut busy).await;
    drop(busy);
    held.extend(several(&mut consumer(&store, &jobs).await, bodies.len() - held.len()).await);
    assert!(held.iter().all(as_new));
    let mut bodies_held: Vec<_> = held.iter().map(text).collect();
    bodies_held.sort_by_key(|body| body.parse::<usize>().unwrap());
    assert_eq!(bodies_held, bodies);
}

#[tokio::test]
async fn what_was_asked_for_ahead_of_a_store_that_is_closed_goes_back_as_it_was() {
    let (server, jobs) = (RedisServer::start().await, queue("jobs"));
    for _ in 0..5 {
        server.command(&["FLUSHALL"]).await;
        let store = open(config(&server).lease(LONG)).await;
        let mut busy = consumer(&store, &jobs).await;
        let (bodies, held) = ahead(&store, &mut busy).await;
        let (known, count) = (held.len(), bodies.len());
        for delivery in held {
            delivery.ack().await.unwrap();
        }
        store.close().await.unwrap();
        assert_eq!(ask(&server, &["HLEN", "unacked"]).await, "0");
        let other = open(config(&server).lease(LONG)).await;
        let came = several(&mut consumer(&other, &jobs).await, count - known).await;
        assert!(came.iter().all(as_new));
        drop(busy);
        other.close().await.unwrap();
    }
}

#[tokio::test]
async fn what_was_asked_for_ahead_goes_back_in_its_order_unless_it_is_picked_up() {
    let (server, jobs) = (RedisServer::start().await, queue("jobs"));
    let (store, other) = (open(config(&server).lease(LONG)).await, open(config(&server).lease(LONG)).await);
    let mut busy = consumer(&store, &jobs).await;
    let (bodies, mut held) = ahead(&store, &mut busy).await;
    let known = held.len();
    until(&server, &["HLEN", "unacked"], &known.to_string()).await;
    held.extend(several(&mut consumer(&other, &jobs).await, bodies.len() - known).await);
    assert_eq!(held.iter().map(text).collect::<Vec<_>>(), bodies);
    assert!(held.iter().all(as_new));
    let more = soon(busy.recv(MANY));
    publish(&store, &jobs, &["more"]).await;
    assert_eq!(text(&more.await.unwrap()[0]), "more");
}

#[tokio::test]
async fn an_answer_that_comes_later_than_its_lease_is_not_trusted() {
    let (server, jobs) = (RedisServer::start().await, queue("jobs"));
    let proxy = FaultProxy::start(server.address()).await;
    let (slow, other) = (open(via(&proxy)).await, open(config(&server)).await);
    let _alive = consumer(&other, &queue("other")).await;
    let mut late = consumer(&slow, &jobs).await;
    none(&mut late, Duration::from_millis(100)).await;
    // So that the other one restores by then.
    tokio::time::sleep(LEASE * 3).await; // wait: the time that others are given after a start
    let mut quick = consumer(&other, &jobs).await;
    proxy.delay(LEASE * 2);
    publish(&other, &queue("nothing"), &["y"]).await;
    let take_late = async { tokio::time::timeout(LEASE * 8, late.recv(ONE)).await.ok().map(Result::unwrap) };
    let take_quick = async {
        tokio::time::sleep(LEASE).await; // wait: so that the slow one asks first
        publish(&other, &jobs, &["x"]).await;
        tokio::time::timeout(LEASE * 7, quick.recv(ONE)).await.ok().map(Result::unwrap)
    };
    let (late, quick) = tokio::join!(take_late, take_quick);
    let count = late.map_or(0, |came| came.len()) + quick.map_or(0, |came| came.len());
    assert_eq!(count, 1, "one holds it, and nobody else");
}

#[tokio::test]
async fn what_cannot_be_restored_holds_up_nobody() {
    let (server, jobs) = (RedisServer::start().await, queue("jobs"));
    server.command(&["SET", "broken", "no list"]).await;
    left(&server, "rs.dead.1", "stuck", "broken", 50).await;
    left(&server, "rs.dead.2", "fine", "jobs", 40).await;
    let store = open(config(&server)).await;
    let delivery = one(&mut consumer(&store, &jobs).await).await;
    assert_eq!(text(&delivery), "fine");
    delivery.ack().await.unwrap();
    assert_eq!(server.command(&["HKEYS", "unacked"]).await.texts(), ["rs.dead.1"], "it is kept");
}

#[tokio::test]
async fn any_number_of_what_python_holds_hides_nothing() {
    const HELD: &str = "for i = 1, 12000 do redis.call('ZADD', 'unacked_index', ARGV[1], 'py-' .. i) \
                        redis.call('HSET', 'unacked', 'py-' .. i, '[{}, \"\", \"jobs\"]') end";
    let (server, jobs) = (RedisServer::start().await, queue("jobs"));
    let recent = (Timestamp::now() - Duration::from_secs(5)).as_micros() / 1_000_000;
    server.command(&["EVAL", HELD, "0", &recent.to_string()]).await;
    left(&server, "rs.dead.1", "ours", "jobs", 60).await;
    let store = open(config(&server)).await;
    assert_eq!(text(&one(&mut consumer(&store, &jobs).await).await), "ours");
}

#[tokio::test]
async fn many_that_a_dead_python_worker_held_come_back_in_order() {
    let (server, jobs) = (RedisServer::start().await, queue("jobs"));
    for n in 0..200 {
        left(&server, &format!("py-{n}"), &n.to_string(), "jobs", 500 - n).await;
    }
    let store = open(config(&server).visibility_timeout(Duration::from_secs(120))).await;
    let _sweeping = consumer(&store, &queue("other")).await;
    until(&server, &["LLEN", "jobs"], "200").await;
    let mut consumer = consumer(&store, &jobs).await;
    let came = several(&mut consumer, 200).await;
    assert_eq!(came.iter().map(text).collect::<Vec<_>>(), (0..200).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_due_and_cannot_be_moved_keeps_nobody_busy() {
    let (server, jobs) = (RedisServer::start().await, queue("jobs"));
    server.command(&["SET", "jobs", "no list"]).await;
    server.command(&["ZADD", "_celeriac.parked.jobs", "1", &format!("u:0:{}", envelope("x", "jobs"))]).await;
    server.command(&["ZADD", "_celeriac.parked", "1", "jobs"]).await;
    let store = open(config(&server)).await;
    let mut waiting = consumer(&store, &jobs).await;
    none(&mut waiting, Duration::from_secs(2)).await;
    let calls = ask(&server, &["INFO", "commandstats"]).await;
    let calls = calls.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls=")).unwrap();
    let calls: u32 = calls.split(',').next().unwrap().parse().unwrap();
    assert!(calls < 100, "{calls} calls in two seconds");
    server.command(&["DEL", "jobs"]).await;
    assert_eq!(text(&one(&mut waiting).await), "x", "it comes once its list can be one");
}

#[tokio::test]
async fn thousands_that_come_back_at_once_keep_their_order() {
    let (server, jobs) = (RedisServer::start().await, queue("jobs"));
    let store = open(config(&server)).await;
    let batch = (0..2_000).map(|n: u32| outgoing(&n.to_string(), &jobs)).collect();
    store.broker().publish(batch).await.unwrap();
    let mut holder = consumer(&store, &jobs).await;
    let mut held = Vec::new();
    while held.len() < 2_000 {
        held.extend(holder.recv(MANY).await.unwrap());
    }
    store.close().await.unwrap();
    let store = open(config(&server)).await;
    let mut consumer = consumer(&store, &jobs).await;
    let mut came = Vec::new();
    while came.len() < 2_000 {
        let some = consumer.recv(MANY).await.unwrap();
        came.extend(some.iter().map(|delivery| text(delivery).parse::<u32>().unwrap()));
        settle_all(some.into_iter().map(|delivery| (delivery.into_receipt(), Verb::Ack)).collect()).await.unwrap();
    }
    assert_eq!(came, (0..2_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn large_messages_come_back_one_by_one_without_holding_up_the_server() {
    const SIZE: usize = 1 << 18;
    let (server, jobs) = (RedisServer::start().await, queue("jobs"));
    let store = open(config(&server)).await;
    let large = || Outgoing::new(Message { body: vec![b'x'; SIZE].into(), ..Message::default() }, &jobs);
    store.broker().publish((0..12).map(|_| large()).collect()).await.unwrap();
    let mut consumer = consumer(&store, &jobs).await;
    let mut held = Vec::new();
    while held.len() < 12 {
        held.extend(consumer.recv(MANY).await.unwrap());
    }
    server.command(&["CONFIG", "RESETSTAT"]).await;
    for delivery in held {
        delivery.reject(Requeue::Yes).await.unwrap();
    }
    let moved = ask(&server, &["INFO", "commandstats"]).await;
    let moved = moved.lines().find(|line| line.starts_with("cmdstat_rpop:")).map(str::to_owned);
    assert_eq!(moved, None, "nothing is moved out of the way");
    assert_eq!(ask(&server, &["LLEN", "jobs"]).await, "12");
}

#[tokio::test]
async fn a_broadcast_fills_no_queue_that_only_python_has_bound() {
    let server = RedisServer::start().await;
    let store = open(config(&server)).await;
    let exchange = ExchangeName::from_static("news");
    let ours =
        QueueSpec::unbound(queue("ours")).bound_to(exchange.clone(), ExchangeKind::Fanout, RoutingKey::from_static(""));
    store.broker().declare(&ours).await.unwrap();
    // As kombu writes down the queue of one of its workers.
    server.command(&["SADD", "_kombu.binding.news", "\u{6}\u{16}\u{6}\u{16}bcast.5a1b"]).await;
    let destination = Destination { exchange, routing_key: RoutingKey::from_static("") };
    store.broker().publish(vec![Outgoing::new(Message::default(), destination)]).await.unwrap();
    assert_eq!(ask(&server, &["LLEN", "ours"]).await, "1");
    assert_eq!(ask(&server, &["EXISTS", "bcast.5a1b"]).await, "0");
}

#[tokio::test]
async fn a_consumer_of_thousands_of_queues_receives() {
    let server = RedisServer::start().await;
    let store = open(config(&server)).await;
    let queues: Vec<_> = (0..2_500).map(|n| celeriac_core::QueueName::new(format!("q{n}")).unwrap()).collect();
    let mut consumer = store.broker().consume(celeriac_broker::ConsumeOptions::new(queues.clone())).await.unwrap();
    publish(&store, &queues[2_400], &["x"]).await;
    assert_eq!(text(&one(&mut consumer).await), "x");
}
