//! What goes wrong underneath a store, and how it goes on.

mod common;

use std::num::NonZeroUsize;
use std::time::Duration;

use celeriac_broker::ErrorKind;
use celeriac_core::TaskId;
use celeriac_testkit::eventually;
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
    let new = tokio::time::timeout(PATIENCE, both).await.expect("nobody waits for ever");
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
        let receiving = tokio::time::timeout(PATIENCE, consumer.recv(NonZeroUsize::MAX));
        let (published, received) = tokio::join!(publishing, receiving);
        published.unwrap();
        for delivery in received.expect("messages come").unwrap() {
            delivery.ack().await.unwrap();
        }
    }
}
