//! What the store does beyond the contract of every broker and backend.

mod common;

use std::io::{Seek, SeekFrom, Write};
use std::sync::Arc;
use std::time::Duration;

use celeriac_broker::{Completion, Consumer, ErrorKind, QueueSpec, Verb, settle_all};
use celeriac_core::{ContentType, EntryName, Payload, StoreResult, TaskId, TaskMeta, TaskState, Value};
use celeriac_schedule::Condition;
use celeriac_sqlite::SqliteConfig;
use celeriac_testkit::{ManualClock, PATIENCE, eventually, soon};
use common::*;

fn success(id: &TaskId, data: impl Into<String>) -> StoreResult {
    let payload = Payload { content_type: ContentType::JSON, data: data.into().into() };
    StoreResult::new(TaskMeta::new(id.clone(), TaskState::Success).with_result(payload))
}

#[tokio::test]
async fn a_message_over_the_limit_is_named_with_its_size() {
    let place = Place::new();
    let store = open(place.config().max_message_bytes(1000)).await;
    let mail = queue("mail");
    let batch = vec![outgoing("fits", &mail), outgoing("x".repeat(2000), &mail)];
    let error = store.broker().publish(batch).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    let text = error.to_string();
    assert!(text.contains("bytes to `mail` is over the limit of 1000 bytes"), "{text}");
    assert_eq!(store.broker().depth(&mail).await.unwrap(), 0, "nothing of the batch was published");
    let id = TaskId::random();
    let error = store.backend().store(vec![success(&id, "x".repeat(2000))]).await.unwrap_err();
    assert!(error.kind() == ErrorKind::TooLarge && error.to_string().contains(id.as_str()), "{error}");
}

#[tokio::test]
async fn a_settlement_that_cannot_be_done_spoils_no_other() {
    let (place, jobs, next) = (Place::new(), queue("jobs"), queue("next"));
    let store = open(place.config().max_message_bytes(1000)).await;
    publish(&store, &jobs, &["a", "b", "c"]).await;
    let mut consumer = consumer(&store, &jobs).await;
    let batch = take(&mut consumer, 3).await.into_iter().map(|delivery| {
        let size = if text(&delivery) == "b" { 2000 } else { 1 };
        let done = Completion::new().then(outgoing("x".repeat(size), &next));
        (delivery.into_receipt(), Verb::Complete(Box::new(done)))
    });
    let unsettled = settle_all(batch.collect()).await.unwrap_err();
    assert_eq!((unsettled.error.kind(), unsettled.rest.len()), (ErrorKind::TooLarge, 2));
    assert_eq!(store.broker().depth(&next).await.unwrap(), 1, "what came before is done");
    // The one at fault comes first, and the others can be settled without it.
    let mut rest = unsettled.rest;
    drop(rest.remove(0));
    settle_all(rest).await.unwrap();
    assert_eq!(store.broker().depth(&next).await.unwrap(), 2);
    assert_eq!(text(&one(&mut consumer).await), "b");
}

#[tokio::test]
async fn a_completion_whose_delivery_is_lost_writes_nothing() {
    let (place, jobs, next) = (Place::new(), queue("jobs"), queue("next"));
    let clock = ManualClock::new();
    let config = || place.config().clock(Arc::new(clock.clone())).lease(Duration::from_secs(5));
    let (slow, other) = (open(config()).await, open(config()).await);
    publish(&slow, &jobs, &["x"]).await;
    let mut first = consumer(&slow, &jobs).await;
    let lost = one(&mut first).await;
    // As if the process had been stopped meanwhile: its lease is over, and it cannot renew it.
    raw(&place.path()).execute("UPDATE owner SET lease_until = 0", []).unwrap();
    drop(first);
    let mut second = consumer(&other, &jobs).await;
    let again = one(&mut second).await;
    assert_eq!((again.redelivered, again.delivery_count), (true, Some(2)));
    let id = TaskId::random();
    let done = Completion::new().result(success(&id, "1")).then(outgoing("next", &next));
    lost.complete(done).await.expect("a lost delivery is passed over");
    assert_eq!(slow.backend().fetch(std::slice::from_ref(&id)).await.unwrap(), [None], "no result");
    assert_eq!(slow.broker().depth(&next).await.unwrap(), 0, "nothing that follows");
    again.complete(Completion::new().result(success(&id, "2"))).await.expect("the new holder may");
    assert!(slow.backend().fetch(&[id]).await.unwrap().remove(0).is_some());
    assert_eq!(raw(&place.path()).query_row("SELECT count(*) FROM message", [], |row| row.get(0)), Ok(0));
}

#[tokio::test]
async fn two_stores_wake_each_other() {
    let (place, jobs) = (Place::new(), queue("jobs"));
    let (one_store, other) = (place.open().await, place.open().await);
    let mut consumer = consumer(&one_store, &jobs).await;
    let mut quickest = Duration::MAX;
    for n in 0..50 {
        let start = std::time::Instant::now();
        let (delivery, ()) = tokio::join!(one(&mut consumer), publish(&other, &jobs, &["x"]));
        quickest = quickest.min(start.elapsed());
        delivery.ack().await.unwrap();
        let id = TaskId::new(format!("task-{n}")).unwrap();
        let mut watch = other.backend().watch(&id).await.unwrap();
        let backend = one_store.backend();
        let (record, stored) = tokio::join!(watch.next(), backend.store(vec![success(&id, "1")]));
        stored.unwrap();
        assert_eq!(record.unwrap().state, TaskState::Success);
    }
    assert!(quickest < Duration::from_millis(100), "woken, not polled: {quickest:?}");
}

#[tokio::test]
async fn a_nearer_message_wakes_who_waits_for_a_farther_one() {
    let (place, jobs) = (Place::new(), queue("jobs"));
    let store = place.open().await;
    let mut consumer = consumer(&store, &jobs).await;
    let now = celeriac_core::Timestamp::now();
    let later = |body: &str, millis| outgoing(body, &jobs).deliver_at(now + Duration::from_millis(millis));
    store.broker().publish(vec![later("far", 3_600_000)]).await.unwrap();
    let (delivery, ()) = tokio::join!(one(&mut consumer), async {
        tokio::task::yield_now().await;
        store.broker().publish(vec![later("near", 100)]).await.unwrap();
    });
    assert_eq!(text(&delivery), "near");
}

#[tokio::test]
async fn a_dropped_recv_does_not_count() {
    let (place, jobs) = (Place::new(), queue("jobs"));
    let store = place.open().await;
    let mut consumer = consumer(&store, &jobs).await;
    publish(&store, &jobs, &["x"]).await;
    for _ in 0..20 {
        // Begun and dropped, with the taking already on its way.
        tokio::select! {
            biased;
            received = consumer.recv(ONE) => drop(received),
            () = std::future::ready(()) => {}
        }
    }
    let delivery = one(&mut consumer).await;
    assert_eq!((delivery.delivery_count, delivery.redelivered), (Some(1), false));
}

#[tokio::test]
async fn a_queue_goes_with_its_last_consumer() {
    let (place, mut spec) = (Place::new(), QueueSpec::direct(queue("replies")));
    let store = place.open().await;
    spec.auto_delete = true;
    store.broker().declare(&spec).await.unwrap();
    let (first, second) = (consumer(&store, &spec.name).await, consumer(&store, &spec.name).await);
    publish(&store, &spec.name, &["x"]).await;
    first.cancel().await.unwrap();
    assert_eq!(store.broker().depth(&spec.name).await.unwrap(), 1);
    second.cancel().await.unwrap();
    assert_eq!(store.broker().depth(&spec.name).await.unwrap(), 0);
    let left = |sql: &str| raw(&place.path()).query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(left("SELECT (SELECT count(*) FROM queue) + (SELECT count(*) FROM message)"), 0);
}

#[tokio::test]
async fn an_idle_queue_expires() {
    let (place, mut spec) = (Place::new(), QueueSpec::direct(queue("replies")));
    let clock = ManualClock::new();
    let store = open(place.config().clock(Arc::new(clock.clone()))).await;
    spec.expires = Some(Duration::from_secs(60));
    store.broker().declare(&spec).await.unwrap();
    publish(&store, &spec.name, &["x"]).await;
    store.backend().sweep().await.unwrap();
    assert_eq!(store.broker().depth(&spec.name).await.unwrap(), 1);
    clock.advance(Duration::from_secs(61));
    store.backend().sweep().await.unwrap();
    assert_eq!(store.broker().depth(&spec.name).await.unwrap(), 0);
}

#[tokio::test]
async fn expired_records_are_swept() {
    let (place, clock) = (Place::new(), ManualClock::new());
    let store = open(place.config().clock(Arc::new(clock.clone()))).await;
    let backend = store.backend();
    let ids: Vec<TaskId> = (0..7).map(|_| TaskId::random()).collect();
    let records = ids.iter().map(|id| success(id, "1").expires(Duration::from_secs(10))).collect();
    backend.store(records).await.unwrap();
    backend.store(vec![success(&TaskId::random(), "kept")]).await.unwrap();
    assert_eq!(backend.sweep().await.unwrap(), 0);
    clock.advance(Duration::from_secs(10));
    assert_eq!(backend.fetch(&ids).await.unwrap(), vec![None; 7]);
    assert_eq!(backend.sweep().await.unwrap(), 7);
    assert_eq!(backend.sweep().await.unwrap(), 0);
}

#[tokio::test]
async fn a_message_that_cannot_be_read_is_delivered_all_the_same() {
    let (place, jobs) = (Place::new(), queue("jobs"));
    let store = place.open().await;
    publish(&store, &jobs, &["a", "b"]).await;
    raw(&place.path()).execute("UPDATE message SET head = x'ff00ff' WHERE id = 1", []).unwrap();
    let mut consumer = consumer(&store, &jobs).await;
    let taken = take(&mut consumer, 2).await;
    assert_eq!(taken.iter().map(text).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(taken[0].message.headers.get("task"), None::<Value>);
}

#[tokio::test]
async fn a_place_without_its_message_blocks_nobody() {
    let (place, jobs) = (Place::new(), queue("jobs"));
    let store = place.open().await;
    publish(&store, &jobs, &["a", "b"]).await;
    raw(&place.path()).execute("DELETE FROM message WHERE id = 1", []).unwrap();
    assert_eq!(text(&one(&mut consumer(&store, &jobs).await).await), "b");
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_named() {
    let place = Place::new();
    let store = place.open().await;
    let id = TaskId::random();
    store.backend().store(vec![success(&id, "1")]).await.unwrap();
    raw(&place.path()).execute("UPDATE result SET children = x'ffff'", []).unwrap();
    let error = store.backend().fetch(std::slice::from_ref(&id)).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Malformed && error.to_string().contains(id.as_str()), "{error}");
    let mut watch = store.backend().watch(&id).await.unwrap();
    assert_eq!(watch.next().await.unwrap_err().kind(), ErrorKind::Malformed);
}

#[tokio::test]
async fn a_database_locked_by_another_program_is_unavailable() {
    let (place, jobs) = (Place::new(), queue("jobs"));
    let store = open(place.config().busy_timeout(Duration::from_millis(50))).await;
    let other = raw(&place.path());
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store.broker().publish(vec![outgoing("x", &jobs)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("is locked by another program"), "{error}");
    other.execute_batch("ROLLBACK").unwrap();
    publish(&store, &jobs, &["y"]).await;
    assert_eq!(store.broker().depth(&jobs).await.unwrap(), 1, "what was refused was not published");
}

#[tokio::test]
async fn a_process_stopped_in_its_turn_hangs_nobody() {
    let (place, jobs) = (Place::new(), queue("jobs"));
    let store = open(place.config().busy_timeout(Duration::from_millis(50))).await;
    let turnstile = std::fs::File::open(place.directory.path().join("jobs.db.d/turnstile")).unwrap();
    turnstile.lock().unwrap();
    let error = store.broker().publish(vec![outgoing("x", &jobs)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let error = celeriac_sqlite::SqliteStore::open(place.config().busy_timeout(Duration::ZERO)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    turnstile.unlock().unwrap();
    publish(&store, &jobs, &["y"]).await;
}

#[tokio::test]
async fn a_file_deleted_underneath_takes_no_more() {
    let (place, jobs) = (Place::new(), queue("jobs"));
    let store = place.open().await;
    publish(&store, &jobs, &["x"]).await;
    std::fs::remove_file(place.path()).unwrap();
    let error = store.broker().publish(vec![outgoing("y", &jobs)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("was deleted while in use"), "{error}");
    assert_eq!(store.broker().depth(&jobs).await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_damaged_file_is_an_error_and_no_hang() {
    let (place, jobs) = (Place::new(), queue("jobs"));
    let store = place.open().await;
    for _ in 0..20 {
        publish(&store, &jobs, &["x".repeat(3000).as_str()]).await;
    }
    store.close().await.unwrap();
    let mut file = std::fs::File::options().write(true).open(place.path()).unwrap();
    let size = file.metadata().unwrap().len();
    // All but the first page, which says what file it is.
    file.seek(SeekFrom::Start(4096)).unwrap();
    file.write_all(&vec![0xa5; usize::try_from(size - 4096).unwrap()]).unwrap();
    drop(file);
    let outcome = async {
        let store = celeriac_sqlite::SqliteStore::open(place.config()).await?;
        let mut consumer = store.broker().consume(celeriac_broker::ConsumeOptions::new([jobs])).await?;
        consumer.recv(MANY).await
    };
    let error = soon(outcome).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unexpected);
    assert!(error.to_string().contains("is damaged"), "{error}");
}

#[tokio::test]
async fn dropping_the_last_handle_hands_everything_back() {
    let (place, jobs) = (Place::new(), queue("jobs"));
    let other = place.open().await;
    {
        let store = place.open().await;
        publish(&store, &jobs, &["x"]).await;
        let mut consumer = consumer(&store, &jobs).await;
        std::mem::forget(one(&mut consumer).await.message);
    }
    eventually(PATIENCE, async || other.broker().depth(&jobs).await.unwrap() == 1).await;
}

/// Locks and sockets beside the file, besides the turnstile: those of stores that are open and consume or watch.
fn beside(place: &Place) -> usize {
    let directory = place.directory.path().join("jobs.db.d");
    std::fs::read_dir(directory).expect("it is there").count() - 1
}

#[tokio::test]
async fn with_the_half_that_is_left_the_file_is_closed() {
    let (place, jobs) = (Place::new(), queue("jobs"));
    let store = place.open().await;
    let broker = store.broker();
    drop((store.backend(), store.schedule()));
    publish(&store, &jobs, &["x"]).await;
    let mut consumer = consumer(&store, &jobs).await;
    let held = one(&mut consumer).await;
    assert_eq!(beside(&place), 2, "a lock and a socket");
    broker.close().await.unwrap();
    assert_eq!(beside(&place), 0);
    drop((store, broker, consumer, held));
}

#[tokio::test]
async fn while_a_half_is_used_the_file_stays_open() {
    let (place, jobs, name) = (Place::new(), queue("jobs"), EntryName::from_static("entry"));
    let store = place.open().await;
    let (broker, backend, schedule) = (store.broker(), store.backend(), store.schedule());
    broker.close().await.unwrap();
    backend.close().await.unwrap();
    schedule.put(&name, "definition".into(), Condition::Always).await.expect("the schedule is used");
    schedule.close().await.unwrap();
    drop(store);

    let store = place.open().await;
    publish(&store, &jobs, &["x"]).await;
    let mut consumer = consumer(&store, &jobs).await;
    // The broker that made it is gone.
    let backend = store.backend();
    backend.close().await.unwrap();
    one(&mut consumer).await.ack().await.expect("the consumer is used");
    assert_eq!(beside(&place), 2);
    drop(consumer);
    store.close().await.unwrap();
    assert_eq!(beside(&place), 0);
}

#[tokio::test]
async fn a_queue_of_all_options_takes_messages() {
    let place = Place::new();
    let store = place.open().await;
    let mut spec = QueueSpec::direct(queue("jobs"));
    spec.durable = false;
    spec.max_priority = Some(3);
    spec.message_ttl = Some(Duration::from_secs(60));
    store.broker().declare(&spec).await.unwrap();
    let mut batch = vec![outgoing("first of the highest", &spec.name), outgoing("second", &spec.name)];
    batch[0].message.properties.priority = Some(3.into());
    batch[1].message.properties.priority = Some(200.into());
    store.broker().publish(batch).await.unwrap();
    let mut consumer: Box<dyn Consumer> = consumer(&store, &spec.name).await;
    assert_eq!(text(&one(&mut consumer).await), "first of the highest");
}

#[tokio::test]
async fn a_long_path_has_a_socket_too() {
    let place = Place::new();
    let directory = place.directory.path().join("d".repeat(120));
    std::fs::create_dir(&directory).unwrap();
    let config = || SqliteConfig::new(directory.join("jobs.db"));
    let (store, other, jobs) = (open(config()).await, open(config()).await, queue("jobs"));
    let mut consumer = consumer(&store, &jobs).await;
    let mut quickest = Duration::MAX;
    for _ in 0..10 {
        let start = std::time::Instant::now();
        let (delivery, ()) = tokio::join!(one(&mut consumer), publish(&other, &jobs, &["x"]));
        quickest = quickest.min(start.elapsed());
        delivery.ack().await.unwrap();
    }
    assert!(quickest < Duration::from_millis(100), "woken, not polled: {quickest:?}");
    store.close().await.unwrap();
}
