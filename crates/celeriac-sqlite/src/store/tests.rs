//! What only a look at the inside can bring about: a full disk, a job that fails among others.

use celeriac_broker::Outgoing;
use celeriac_core::{ErrorKind, Message, QueueName};

use super::*;
use crate::publish::Parcel;
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
