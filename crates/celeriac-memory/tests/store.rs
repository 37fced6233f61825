//! What the memory store does beyond the contracts that every broker and backend holds to.

use std::future::Future;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use celeriac_backend::ResultBackend;
use celeriac_broker::{Broker, ConsumeOptions, Outgoing, QueueSpec};
use celeriac_core::{ErrorKind, Message, Payload, QueueName, StoreResult, TaskId, TaskMeta, TaskState, Timestamp};
use celeriac_memory::{MemoryConfig, MemoryStore};

const QUEUE: QueueName = QueueName::DEFAULT;
const ONE: NonZeroUsize = NonZeroUsize::MIN;

fn message(body: &'static str) -> Message {
    Message { body: body.into(), ..Message::default() }
}

#[tokio::test]
async fn a_name_means_one_store_while_a_handle_on_it_exists() {
    let one = MemoryStore::named("a_name");
    one.publish(vec![Outgoing::new(message("x"), &QUEUE)]).await.unwrap();
    let other = MemoryStore::named("a_name");
    assert_eq!(Broker::store_id(&one), Broker::store_id(&other));
    assert_eq!(other.depth(&QUEUE).await.unwrap(), 1);
    drop((one, other));
    assert_eq!(MemoryStore::named("a_name").depth(&QUEUE).await.unwrap(), 0);
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_with_both_sizes() {
    let store = MemoryConfig::new().max_message_bytes(3).open();
    let error = store.publish(vec![Outgoing::new(message("four"), &QUEUE)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.to_string().contains("4 bytes, and the limit is 3"), "{error}");
}

#[tokio::test]
async fn a_result_over_the_limit_is_refused_by_its_task() {
    let store = MemoryConfig::new().max_message_bytes(3).open();
    let id = TaskId::random();
    let payload = Payload { content_type: celeriac_core::ContentType::JSON, data: "four".into() };
    let meta = TaskMeta::new(id.clone(), TaskState::Success).with_result(payload);
    let error = store.store(vec![StoreResult::new(meta)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.to_string().contains(id.as_str()), "{error}");
}

#[tokio::test]
async fn a_full_queue_takes_nothing_of_a_batch_that_does_not_fit() {
    let store = MemoryConfig::new().max_queue_length(2).open();
    let batch = |n| vec![Outgoing::new(message("x"), &QUEUE); n];
    let error = store.publish(batch(3)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(store.depth(&QUEUE).await.unwrap(), 0);
    store.publish(batch(2)).await.unwrap();
    assert!(store.publish(batch(1)).await.is_err());
}

#[tokio::test]
async fn a_delayed_message_reaches_a_consumer_that_waits_already() {
    let store = MemoryStore::new();
    let mut consumer = store.consume(ConsumeOptions::new([QUEUE])).await.unwrap();
    let waiting = tokio::spawn(async move { consumer.recv(ONE).await.unwrap().len() });
    tokio::task::yield_now().await;
    let due = Timestamp::now() + Duration::from_millis(30);
    store.publish(vec![Outgoing::new(message("x"), &QUEUE).deliver_at(due)]).await.unwrap();
    assert_eq!(waiting.await.unwrap(), 1);
    assert!(Timestamp::now() >= due);
}

#[tokio::test]
async fn an_auto_delete_queue_goes_with_its_last_consumer() {
    let store = MemoryStore::new();
    let mut spec = QueueSpec::direct(QueueName::from_static("brief"));
    spec.auto_delete = true;
    store.declare(&spec).await.unwrap();
    store.publish(vec![Outgoing::new(message("x"), &spec.name)]).await.unwrap();
    drop(store.consume(ConsumeOptions::new([spec.name.clone()])).await.unwrap());
    assert_eq!(store.depth(&spec.name).await.unwrap(), 0);
    spec.auto_delete = false;
    store.declare(&spec).await.unwrap();
}

/// Polls once; whether it is still pending.
async fn pends<F: Future>(future: std::pin::Pin<&mut F>) -> bool {
    let mut future = future;
    std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_pending())).await
}

#[tokio::test]
async fn a_wake_up_that_a_dropped_recv_got_is_passed_on() {
    let store = MemoryStore::new();
    let mut first = store.consume(ConsumeOptions::new([QUEUE])).await.unwrap();
    let mut second = store.consume(ConsumeOptions::new([QUEUE])).await.unwrap();
    let mut waiting = pin!(second.recv(ONE));
    {
        let mut dropped = pin!(first.recv(ONE));
        assert!(pends(dropped.as_mut()).await && pends(waiting.as_mut()).await);
        store.publish(vec![Outgoing::new(message("x"), &QUEUE)]).await.unwrap();
        assert!(pends(waiting.as_mut()).await, "the one that waited longer was woken");
    }
    let got = tokio::time::timeout(Duration::from_secs(5), waiting).await;
    assert_eq!(got.unwrap().unwrap().len(), 1);
}

#[tokio::test]
async fn whoever_serves_one_queue_first_wakes_another_for_the_other() {
    let store = MemoryStore::new();
    let other = QueueName::from_static("other");
    let mut both = store.consume(ConsumeOptions::new([QUEUE, other.clone()])).await.unwrap();
    let mut only = store.consume(ConsumeOptions::new([other.clone()])).await.unwrap();
    let mut waiting = pin!(only.recv(ONE));
    let mut serving = pin!(both.recv(ONE));
    assert!(pends(serving.as_mut()).await && pends(waiting.as_mut()).await);
    // Both wake-ups go to the one that waits for both queues, and it can take one message only.
    store.publish(vec![Outgoing::new(message("a"), &QUEUE), Outgoing::new(message("b"), &other)]).await.unwrap();
    let served = serving.await.unwrap();
    assert_eq!(served.len(), 1);
    let got = tokio::time::timeout(Duration::from_secs(5), waiting).await;
    assert_eq!(got.unwrap().unwrap().len(), 1);
}

#[tokio::test]
async fn a_queue_that_nobody_uses_expires() {
    let clock = celeriac_testkit::ManualClock::new();
    let store = MemoryStore::with_clock(std::sync::Arc::new(clock.clone()));
    let mut spec = QueueSpec::direct(QueueName::from_static("brief"));
    spec.expires = Some(Duration::from_secs(60));
    store.declare(&spec).await.unwrap();
    store.publish(vec![Outgoing::new(message("x"), &spec.name)]).await.unwrap();
    let consumer = store.consume(ConsumeOptions::new([spec.name.clone()])).await.unwrap();
    clock.advance(Duration::from_secs(600));
    assert_eq!(store.depth(&spec.name).await.unwrap(), 1, "it is consumed");
    drop(consumer);
    clock.advance(Duration::from_secs(59));
    assert_eq!(store.depth(&spec.name).await.unwrap(), 1);
    clock.advance(Duration::from_secs(1));
    assert_eq!(store.depth(&spec.name).await.unwrap(), 0);
}

#[test]
fn a_delayed_message_outlives_the_runtime_that_waited_for_it() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = MemoryStore::new();
    let due = Timestamp::now() + Duration::from_millis(150);
    let first = runtime();
    first.block_on(async {
        store.publish(vec![Outgoing::new(message("x"), &QUEUE).deliver_at(due)]).await.unwrap();
        let mut consumer = store.consume(ConsumeOptions::new([QUEUE])).await.unwrap();
        assert!(pends(pin!(consumer.recv(ONE))).await);
        tokio::task::yield_now().await;
    });
    drop(first);
    let got = runtime().block_on(async {
        let mut consumer = store.consume(ConsumeOptions::new([QUEUE])).await.unwrap();
        tokio::time::timeout(Duration::from_secs(5), consumer.recv(ONE)).await.unwrap().unwrap().len()
    });
    assert_eq!(got, 1);
}
