//! What goes wrong underneath a store, and how it goes on.

mod common;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use celeriac_broker::{ErrorKind, QueueSpec};
use celeriac_core::{Clock, TaskId, Timestamp};
use celeriac_testkit::{ManualClock, PATIENCE, eventually, soon};
use common::*;

fn delete(place: &Place) {
    for end in ["", "-wal", "-shm"] {
        let mut file = place.path().into_os_string();
        file.push(end);
        std::fs::remove_file(file).expect("SQLite has made the file");
    }
}

#[tokio::test]
async fn files_deleted_underneath_an_idle_store_end_its_waiting_and_hinder_no_new_one() {
    let (place, jobs) = (Place::new(), queue("jobs"));
    let old = place.open().await;
    let mut idle = consumer(&old, &jobs).await;
    let mut watch = old.backend().watch(&TaskId::random()).await.unwrap();
    let waiting = async {
        let error = idle.recv(ONE).await.expect_err("nothing can come any more");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains("jobs.db` was"), "{error}");
        let error = watch.next().await.expect_err("no result can come any more");
        assert!(error.to_string().contains("jobs.db` was"), "{error}");
    };
    let new = async {
        delete(&place);
        let new = place.open().await;
        publish(&new, &jobs, &["x"]).await;
        let mut consumer = consumer(&new, &jobs).await;
        one(&mut consumer).await.ack().await.unwrap();
        new
    };
    let both = async { tokio::join!(waiting, new).1 };
    let new = soon(both).await;
    assert!(old.close().await.is_err(), "what it wrote last is lost");
    let beside = std::fs::read_dir(place.directory.path().join("jobs.db.d")).unwrap().count();
    assert_eq!(beside, 3, "the new one's lock and socket are its own");
    new.close().await.unwrap();
}

#[tokio::test]
async fn a_hand_back_that_fails_is_done_later() {
    let (place, jobs) = (Place::new(), queue("jobs"));
    let store = open(place.config().busy_timeout(Duration::from_millis(50))).await;
    publish(&store, &jobs, &["a", "b"]).await;
    let (mut kept, mut dropped) = (consumer(&store, &jobs).await, consumer(&store, &jobs).await);
    let (first, second) = (one(&mut dropped).await, one(&mut dropped).await);
    let other = raw(&place.path());
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    drop((first, dropped));
    // In the same turn or a later one: what was dropped has failed by then.
    store.broker().publish(vec![outgoing("c", &jobs)]).await.expect_err("the database is locked");
    other.execute_batch("ROLLBACK").unwrap();
    let back = one(&mut kept).await;
    assert_eq!((text(&back).as_str(), back.delivery_count), ("a", Some(2)));
    let consumers = || raw(&place.path()).query_row("SELECT count(*) FROM consumer", [], |row| row.get::<_, i64>(0));
    eventually(PATIENCE, async || consumers().is_ok_and(|count| count == 1)).await;
    second.ack().await.unwrap();
}

#[tokio::test]
async fn a_close_that_fails_hands_back_later_as_long_as_the_other_half_is_open() {
    let (place, jobs) = (Place::new(), queue("jobs"));
    let store = open(place.config().busy_timeout(Duration::from_millis(50))).await;
    let (broker, _backend) = (store.broker(), store.backend());
    publish(&store, &jobs, &["a"]).await;
    let mut closed = consumer(&store, &jobs).await;
    let held = one(&mut closed).await;
    let lock = raw(&place.path());
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    broker.close().await.expect_err("the database is locked");
    lock.execute_batch("ROLLBACK").unwrap();
    let other = place.open().await;
    assert_eq!(text(&one(&mut consumer(&other, &jobs).await).await), "a");
    drop(held);
}

#[tokio::test]
async fn any_number_may_be_asked_for_while_others_write() {
    let (place, jobs) = (Place::new(), queue("jobs"));
    let store = place.open().await;
    let broker = store.broker();
    let mut consumer = consumer(&store, &jobs).await;
    for _ in 0..20 {
        let publishing = async {
            let one = || broker.publish(vec![outgoing("x", &jobs)]);
            let (first, second, third) = tokio::join!(one(), one(), one());
            first.and(second).and(third)
        };
        let receiving = soon(consumer.recv(NonZeroUsize::MAX));
        let (published, received) = tokio::join!(publishing, receiving);
        published.unwrap();
        for delivery in received.unwrap() {
            delivery.ack().await.unwrap();
        }
    }
}

#[tokio::test]
async fn who_cannot_receive_hinders_nobody_who_publishes() {
    let (place, jobs) = (Place::new(), queue("jobs"));
    let store = place.open().await;
    publish(&store, &jobs, &["a"]).await;
    std::fs::remove_dir_all(place.directory.path().join("jobs.db.d")).unwrap();
    let broker = store.broker();
    for _ in 0..10 {
        let (consumed, published) = tokio::join!(
            broker.consume(celeriac_broker::ConsumeOptions::new([jobs.clone()])),
            broker.publish(vec![outgoing("b", &jobs)])
        );
        assert_eq!(consumed.unwrap_err().kind(), ErrorKind::Unavailable);
        published.unwrap();
    }
}

#[tokio::test]
async fn any_number_of_expired_messages_is_passed_over() {
    let (place, jobs) = (Place::new(), queue("jobs"));
    let clock = ManualClock::new();
    let store = open(place.config().clock(Arc::new(clock.clone()))).await;
    let (mut batch, due) = (Vec::new(), Timestamp::from_micros(clock.now().as_micros() + 1));
    for n in 0..10_000 {
        let mut short = outgoing("x", &jobs);
        short.message.properties.expiration = Some(Duration::from_secs(1));
        batch.push(if n % 2 == 0 { short } else { short.deliver_at(due) });
    }
    store.broker().publish(batch).await.unwrap();
    clock.advance(Duration::from_secs(10));
    publish(&store, &jobs, &["y"]).await;
    let mut consumer = consumer(&store, &jobs).await;
    assert_eq!(text(&one(&mut consumer).await), "y");
    let left = raw(&place.path()).query_row("SELECT count(*) FROM message", [], |row| row.get::<_, i64>(0)).unwrap();
    assert!(left < 10_000, "{left}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_may_begin_to_watch_at_once() {
    let place = Place::new();
    let store = place.open().await;
    let mut watching = tokio::task::JoinSet::new();
    for _ in 0..2000 {
        let backend = store.backend();
        watching.spawn(async move { backend.watch(&TaskId::random()).await.map(drop) });
    }
    let open = || std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let (before, mut most) = (open(), 0);
    while let Some(watched) = watching.join_next().await {
        watched.unwrap().unwrap();
        most = most.max(open());
    }
    assert!(most < before + 200, "{most} files were open, {before} before");
}

#[tokio::test]
async fn a_queue_that_is_declared_again_expires_later() {
    let (place, clock) = (Place::new(), ManualClock::new());
    let store = open(place.config().clock(Arc::new(clock.clone()))).await;
    let mut spec = QueueSpec::direct(queue("replies"));
    spec.expires = Some(Duration::from_secs(60));
    store.broker().declare(&spec).await.unwrap();
    publish(&store, &spec.name, &["x"]).await;
    clock.advance(Duration::from_secs(50));
    store.broker().declare(&spec).await.unwrap();
    clock.advance(Duration::from_secs(50));
    store.backend().sweep().await.unwrap();
    assert_eq!(store.broker().depth(&spec.name).await.unwrap(), 1);
}

#[tokio::test]
async fn no_queue_is_bound_to_the_default_exchange() {
    let (place, mut spec) = (Place::new(), QueueSpec::direct(queue("jobs")));
    let store = place.open().await;
    spec.bindings[0].exchange.name = "".parse().unwrap();
    let error = store.broker().declare(&spec).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("default exchange"), "{error}");
}

#[tokio::test]
async fn an_owner_without_a_lock_is_forgotten_and_comes_back_if_it_lives() {
    let (place, jobs) = (Place::new(), queue("jobs"));
    let clock = ManualClock::new();
    let config = || place.config().clock(Arc::new(clock.clone()));
    let idle = open(config()).await;
    let mut waiting = consumer(&idle, &jobs).await;
    let _watch = idle.backend().watch(&TaskId::random()).await.unwrap();
    let raw = raw(&place.path());
    let count = |sql: &str| raw.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let alive = || count("SELECT count(*) FROM owner JOIN consumer ON owner.id = consumer.owner WHERE watching = 1");
    assert_eq!(alive(), 1);
    raw.execute_batch("INSERT INTO owner VALUES (77, 0, 0)").unwrap();
    let lock = place.directory.path().join("jobs.db.d/1.lock");
    std::fs::remove_file(&lock).unwrap();
    clock.advance(Duration::from_secs(3600));
    let other = open(config()).await;
    let _other = consumer(&other, &queue("others")).await;
    eventually(PATIENCE, async || count("SELECT count(*) FROM owner WHERE id = 77") == 0).await;
    eventually(PATIENCE, async || lock.exists() && alive() == 1).await;
    publish(&other, &jobs, &["x"]).await;
    one(&mut waiting).await.ack().await.unwrap();
}
