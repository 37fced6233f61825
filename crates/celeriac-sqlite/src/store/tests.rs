//! What only a look at the inside can bring about: a full disk, a job that fails among others.

use std::num::NonZeroUsize;
use std::time::Duration;

use celeriac_broker::{ConsumeOptions, Outgoing, Requeue, Settle, Settlement, Verb};
use celeriac_core::{Clock, ErrorKind, Message, QueueName, StoreResult, TaskId, TaskMeta, TaskState, Timestamp};
use celeriac_testkit::{ManualClock, PATIENCE, eventually, soon};

use super::*;
use crate::checkpoint::TOO_MANY;
use crate::config::Durability;
use crate::publish::Parcel;
use crate::take::Take;
use crate::writer::Job;

async fn store(directory: &tempfile::TempDir) -> SqliteStore {
    SqliteStore::open(SqliteConfig::new(directory.path().join("jobs.db"))).await.expect("the store opens")
}

fn message(size: usize) -> Outgoing {
    Outgoing::new(Message { body: vec![7; size].into(), ..Message::default() }, &QueueName::DEFAULT)
}

/// Lets the file grow to no more than so many pages, as a full disk would.
async fn limit(store: &SqliteStore, pages: i64) {
    let call = Call::new("limit", move |txn| {
        let sql = format!("PRAGMA max_page_count = {pages}");
        Ok(txn.connection.query_row(&sql, [], |row| row.get::<_, i64>(0))?)
    });
    store.inner.call("limit", call).await.expect("the limit is set");
}

#[tokio::test]
async fn a_full_disk_is_unavailable_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory).await;
    let broker = store.broker();
    broker.publish(vec![message(10)]).await.unwrap();
    limit(&store, 60).await;
    let error = broker.publish(vec![message(10), message(1_000_000)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("is full"), "{error}");
    assert_eq!(broker.depth(&QueueName::DEFAULT).await.unwrap(), 1, "the whole batch was refused");
    limit(&store, 10_000).await;
    broker.publish(vec![message(1_000_000)]).await.unwrap();
    assert_eq!(broker.depth(&QueueName::DEFAULT).await.unwrap(), 2);
}

#[tokio::test]
async fn a_job_that_fails_spoils_no_other_of_its_group() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory).await;
    let orders = store.inner.orders("test").unwrap();
    let mut answers = Vec::new();
    let publish = |fails: bool| {
        let parcel = Parcel::new(&message(10), 1000).unwrap();
        Call::new("publish", move |txn| {
            txn.publish(&parcel)?;
            if fails { Err(Error::unexpected("publish", "as it was told").into()) } else { Ok(()) }
        })
    };
    // Held up, so that all the others become one group.
    let (go, wait) = mpsc::channel::<()>();
    let (job, held) = Call::new("wait", move |_| wait.recv().map_err(|_| closed("wait").into()));
    orders.send(Order::Job(Box::new(job) as Box<dyn Job>)).unwrap();
    for fails in [false, true, false] {
        let (job, answer) = publish(fails);
        orders.send(Order::Job(Box::new(job))).unwrap();
        answers.push(answer);
    }
    go.send(()).unwrap();
    held.await.unwrap().unwrap();
    let mut outcomes = Vec::new();
    for answer in answers {
        outcomes.push(answer.await.unwrap().is_ok());
    }
    assert_eq!(outcomes, [true, false, true]);
    assert_eq!(store.broker().depth(&QueueName::DEFAULT).await.unwrap(), 2);
}

#[tokio::test]
async fn a_job_whose_caller_is_gone_is_not_done() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory).await;
    let parcel = Parcel::new(&message(10), 1000).unwrap();
    let (job, answer) = Call::new("publish", move |txn| txn.publish(&parcel));
    drop(answer);
    store.inner.orders("test").unwrap().send(Order::Job(Box::new(job))).unwrap();
    store.broker().publish(vec![message(10)]).await.unwrap();
    assert_eq!(store.broker().depth(&QueueName::DEFAULT).await.unwrap(), 1);
}

#[tokio::test]
async fn many_expired_records_go_without_another_order() {
    let directory = tempfile::tempdir().unwrap();
    let (path, clock) = (directory.path().join("jobs.db"), ManualClock::new());
    let store = SqliteStore::open(SqliteConfig::new(&path).clock(Arc::new(clock.clone()))).await.unwrap();
    let record = || {
        let meta = TaskMeta::new(TaskId::random(), TaskState::Success);
        StoreResult::new(meta).expires(Duration::from_secs(10))
    };
    store.backend().store((0..3500).map(|_| record()).collect()).await.unwrap();
    clock.advance(Duration::from_secs(10));
    let raw = Connection::open(&path).unwrap();
    let count = || raw.query_row("SELECT count(*) FROM result", [], |row| row.get::<_, i64>(0)).unwrap();
    // By the way, as other work is done.
    eventually(PATIENCE, async || {
        store.broker().publish(vec![message(1)]).await.unwrap();
        count() < 3500
    })
    .await;
    eventually(PATIENCE, async || count() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_stays_short_while_others_read_all_the_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jobs.db");
    let config = || SqliteConfig::new(&path).durability(Durability::Normal);
    let (store, other) = (SqliteStore::open(config()).await.unwrap(), SqliteStore::open(config()).await.unwrap());
    let ids: Vec<TaskId> = (0..500).map(|_| TaskId::random()).collect();
    let mut readers = tokio::task::JoinSet::new();
    for backend in [store.backend(), store.backend(), store.backend(), other.backend(), other.backend()] {
        let ids = ids.clone();
        readers.spawn(async move { while backend.fetch(&ids).await.is_ok() {} });
    }
    let mut longest = 0;
    for _ in 0..60 {
        store.broker().publish(vec![message(1_000_000)]).await.unwrap();
        longest = std::fs::metadata(directory.path().join("jobs.db-wal")).unwrap().len().max(longest);
    }
    assert!(longest < 30_000_000, "{longest} bytes");
    readers.abort_all();
}

/// Sizes of the database and of its log, in bytes; `None` if there is no such file.
fn sizes(directory: &tempfile::TempDir) -> [Option<u64>; 2] {
    ["jobs.db", "jobs.db-wal"].map(|name| Some(std::fs::metadata(directory.path().join(name)).ok()?.len()))
}

#[tokio::test]
async fn the_log_is_copied_before_sqlite_would_do_it_and_then_begun_anew() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory).await;
    // More pages than are left alone, and fewer than SQLite itself copies.
    store.broker().publish(vec![message(1_500_000)]).await.unwrap();
    eventually(PATIENCE, async || sizes(&directory)[0] > Some(1_400_000)).await;
    let log = || {
        let look = |connection: &Connection| {
            Ok(connection.query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| row.get::<_, i64>(1))?)
        };
        store.inner.shared.read(look).unwrap_or_else(|_| panic!("the log cannot be looked at"))
    };
    let mut longest = log();
    eventually(PATIENCE, async || {
        // The writer copies the last of it, as other work is done.
        store.broker().publish(vec![message(1)]).await.unwrap();
        longest = log().max(longest);
        log() < 100
    })
    .await;
    assert!((300..TOO_MANY).contains(&longest), "{longest} pages: SQLite has copied them itself, or nothing was there");
}

#[tokio::test]
async fn nothing_is_left_of_the_log_when_a_store_is_closed_while_it_is_copied() {
    for _ in 0..20 {
        let directory = tempfile::tempdir().unwrap();
        let store = store(&directory).await;
        store.broker().publish(vec![message(2_000_000)]).await.unwrap();
        store.close().await.unwrap();
        assert_eq!(sizes(&directory)[1], None);
    }
}

#[tokio::test]
async fn a_writing_thread_that_ends_leaves_nobody_waiting() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory).await;
    let mut consumer = store.broker().consume(ConsumeOptions::new([QueueName::DEFAULT])).await.unwrap();
    let mut watch = store.backend().watch(&TaskId::random()).await.unwrap();
    let breaking = async {
        let call = Call::new("break", |_| -> Outcome { panic!("as it was told") });
        store.inner.call("break", call).await.expect_err("it is broken");
    };
    let all = async { tokio::join!(consumer.recv(NonZeroUsize::MIN), watch.next(), breaking) };
    let (received, seen, ()) = soon(all).await;
    received.expect_err("nothing can come any more");
    seen.expect_err("no result can come any more");
}

#[tokio::test]
async fn the_time_is_that_of_the_turn() {
    let directory = tempfile::tempdir().unwrap();
    let (path, clock) = (directory.path().join("jobs.db"), ManualClock::new());
    let store = SqliteStore::open(SqliteConfig::new(&path).clock(Arc::new(clock.clone()))).await.unwrap();
    let turnstile = std::fs::File::open(directory.path().join("jobs.db.d/turnstile")).unwrap();
    turnstile.lock().unwrap();
    let asked = clock.now().as_micros();
    let (job, answer) = Call::new("look", |txn| Ok(txn.now));
    store.inner.orders("test").unwrap().send(Order::Job(Box::new(job))).unwrap();
    clock.advance(Duration::from_secs(5));
    turnstile.unlock().unwrap();
    assert_eq!(answer.await.unwrap().unwrap(), asked + 5_000_000);
}

#[tokio::test]
async fn one_taking_drops_only_so_many_expired_messages() {
    let directory = tempfile::tempdir().unwrap();
    let (path, clock) = (directory.path().join("jobs.db"), ManualClock::new());
    let store = SqliteStore::open(SqliteConfig::new(&path).clock(Arc::new(clock.clone()))).await.unwrap();
    let mut short = message(1);
    short.message.properties.expiration = Some(Duration::from_secs(1));
    let due = Timestamp::from_micros(clock.now().as_micros() + 1);
    let batch = (0..10_000).map(|n| if n % 2 == 0 { short.clone() } else { short.clone().deliver_at(due) });
    store.broker().publish(batch.collect()).await.unwrap();
    clock.advance(Duration::from_secs(10));
    let (reply, answer) = oneshot::channel();
    let orders = store.inner.orders("test").unwrap();
    let take = Take {
        queues: vec![1],
        start: 0,
        limit: 1,
        orders: orders.clone(),
        shared: Arc::clone(&store.inner.shared),
        reply,
        taken: Vec::new(),
        next_due: None,
    };
    orders.send(Order::Job(Box::new(take))).unwrap();
    let taken = answer.await.unwrap().unwrap();
    assert_eq!(taken.next_due, Some(clock.now().as_micros()), "there is more at once");
    assert!(taken.into_rows().is_empty());
    let raw = Connection::open(&path).unwrap();
    let left = |table: &str| raw.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0));
    assert_eq!(left("delayed"), Ok(5000 - 4096));
    // Some may have been swept meanwhile.
    assert!(left("message").unwrap() <= 10_000 - 4096);
}

#[tokio::test]
async fn a_batch_passes_over_just_what_is_not_held() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory).await;
    let broker = SqliteBroker::new(Arc::clone(&store.inner));
    broker.publish((0..5).map(|_| message(1)).collect()).await.unwrap();
    let mut consumer = broker.consume(ConsumeOptions::new([QueueName::DEFAULT])).await.unwrap();
    let mut held = Vec::new();
    while held.len() < 5 {
        let taken = consumer.recv(NonZeroUsize::new(5 - held.len()).unwrap()).await.unwrap();
        held.extend(taken.into_iter().map(celeriac_broker::Delivery::into_receipt));
    }
    let settlement = |at: usize, verb| Settlement { tag: held.get(at).unwrap().tag(), verb };
    broker.settler().settle(&mut vec![settlement(1, Verb::Ack)]).await.unwrap();
    // Out of order, with one that was settled before, one that is settled twice, and without the third.
    let mut batch = vec![
        settlement(4, Verb::Ack),
        settlement(1, Verb::Reject(Requeue::Yes)),
        settlement(0, Verb::Ack),
        settlement(4, Verb::Reject(Requeue::Yes)),
        settlement(3, Verb::Reject(Requeue::Yes)),
    ];
    broker.settler().settle(&mut batch).await.unwrap();
    let lost: Vec<_> = batch.iter().map(|settlement| settlement.tag).collect();
    assert_eq!(lost, [held.get(1).unwrap().tag(), held.get(4).unwrap().tag()]);
    assert_eq!(broker.depth(&QueueName::DEFAULT).await.unwrap(), 1, "the one that was handed back");
    let raw = Connection::open(directory.path().join("jobs.db")).unwrap();
    let left = |table: &str| raw.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0));
    assert_eq!((left("held"), left("message")), (Ok(1), Ok(2)), "the third is held as before");
}
