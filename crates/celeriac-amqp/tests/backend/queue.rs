//! The reply queue: how it is declared, and when it goes.

use celeriac_broker::Outgoing;
use celeriac_core::{ErrorKind, Message, Properties, QueueName};
use celeriac_testkit::server::Permissions;
use celeriac_testkit::{eventually, unique};
use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};

use super::*;

#[tokio::test]
async fn the_queue_outlives_its_consumer_for_as_long_as_results_live() {
    let vhost = vhost().await;
    let client = backend(&vhost.url()).await;
    client.fetch(&[]).await.unwrap();
    let queue = client.reply_to().unwrap();
    let info = vhost.queue_info(&queue).await.unwrap();
    assert_eq!(info.consumers, 1);
    let mut arguments = FieldTable::default();
    arguments.insert("x-expires".into(), AMQPValue::LongInt(86_400_000));
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("classic".into()));
    assert_eq!(info.arguments.len(), 2, "{:?}", info.arguments);
    // The server compares what is declared again: durable, not exclusive, not deleted with its last consumer.
    let (_connection, channel) = stranger(&vhost.url()).await;
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.as_str().into(), options, arguments).await.unwrap();
}

/// A message that asks for its result at `reply_to`.
fn asking(reply_to: Option<RoutingKey>, queue: &QueueName) -> Vec<Outgoing> {
    let properties = Properties { reply_to, ..Properties::default() };
    vec![Outgoing::new(Message { properties, ..Message::default() }, queue)]
}

#[tokio::test]
async fn a_task_that_is_sent_finds_the_queue_for_its_result() {
    let vhost = vhost().await;
    let store = open(&vhost.url()).await;
    let (broker, client) = (store.broker(), store.backend());
    let queue = client.reply_to().unwrap();
    let tasks = QueueName::DEFAULT;
    broker.publish(asking(None, &tasks)).await.unwrap();
    broker.publish(asking(Some("somebody-elses".parse().unwrap()), &tasks)).await.unwrap();
    assert_eq!(vhost.queue_info(&queue).await, None, "nobody asked for a result");
    broker.publish(asking(Some(queue.clone()), &tasks)).await.unwrap();
    assert_eq!(vhost.queue_info(&queue).await.unwrap().consumers, 1);
    client.close().await.unwrap();
    broker.publish(asking(Some(queue.clone()), &tasks)).await.unwrap();
    assert_eq!(vhost.queue_info(&queue).await, None, "nobody would read it any more");
    assert_eq!(vhost.queue_info(&tasks).await.unwrap().ready, 4);
    store.close().await.unwrap();
}

#[tokio::test]
async fn who_may_not_receive_results_may_send_tasks_that_ask_for_none() {
    let vhost = vhost().await;
    let (user, password) = (unique("user"), unique("password"));
    vhost.add_user(&user, &password, Permissions { configure: "^celery$", ..Permissions::ALL }).await;
    let store = open(&vhost.url_as(&user, &password)).await;
    let (broker, client) = (store.broker(), store.backend());
    broker.publish(asking(None, &QueueName::DEFAULT)).await.unwrap();
    let error = broker.publish(asking(client.reply_to(), &QueueName::DEFAULT)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{}", error.report());
    assert_eq!(vhost.queue_info("celery").await.unwrap().ready, 1);
}

#[tokio::test]
async fn who_only_stores_has_no_queue() {
    let vhost = vhost().await;
    let (client, worker) = (backend(&vhost.url()).await, backend(&vhost.url()).await);
    let id = TaskId::random();
    let mut watch = client.watch(&id).await.unwrap();
    worker.store(vec![result(&id, TaskState::Success, "1", client.reply_to())]).await.unwrap();
    next(&mut watch).await;
    assert_eq!(vhost.queue_info(&worker.reply_to().unwrap()).await, None);
    assert!(vhost.queue_info(&client.reply_to().unwrap()).await.is_some());
}

#[tokio::test]
async fn the_queue_goes_with_its_backend() {
    let vhost = vhost().await;
    let (closed, dropped) = (backend(&vhost.url()).await, backend(&vhost.url()).await);
    let queues = [closed.reply_to().unwrap(), dropped.reply_to().unwrap()];
    for backend in [&closed, &dropped] {
        backend.fetch(&[]).await.unwrap();
    }
    let mut watch = dropped.watch(&TaskId::random()).await.unwrap();
    closed.close().await.unwrap();
    assert_eq!(vhost.queue_info(&queues[0]).await, None, "it is gone when `close` returns");
    drop(dropped);
    eventually(SOON, async || vhost.queue_info(&queues[1]).await.is_none()).await;
    let error = timeout(SOON, watch.next()).await.expect("nobody waits for what cannot come").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_queue_that_was_deleted_is_declared_again() {
    let vhost = vhost().await;
    let (client, worker) = (backend(&vhost.url()).await, backend(&vhost.url()).await);
    let queue = client.reply_to().unwrap();
    let id = TaskId::random();
    let mut watch = client.watch(&id).await.unwrap();
    let (_connection, channel) = stranger(&vhost.url()).await;
    for _ in 0..3 {
        channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
        eventually(SOON, async || vhost.queue_info(&queue).await.is_some_and(|info| info.consumers == 1)).await;
    }
    worker.store(vec![result(&id, TaskState::Success, "1", Some(queue))]).await.unwrap();
    assert_eq!(json(&next(&mut watch).await), 1);
}

#[tokio::test]
async fn who_may_not_declare_a_queue_is_told_and_may_try_again() {
    let vhost = vhost().await;
    let (user, password) = (unique("user"), unique("password"));
    vhost.add_user(&user, &password, Permissions { configure: "^$", ..Permissions::ALL }).await;
    let client = backend(&vhost.url_as(&user, &password)).await;
    for error in [client.fetch(&[]).await.unwrap_err(), client.watch(&TaskId::random()).await.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Config, "{}", error.report());
        let report = error.report().to_string();
        assert!(report.contains(client.reply_to().unwrap().as_str()), "{report}");
        assert!(!report.contains(&password), "{report}");
    }
    // Who sends no task needs no queue: a worker stores without that permission.
    let reader = backend(&vhost.url()).await;
    let id = TaskId::random();
    let mut watch = reader.watch(&id).await.unwrap();
    client.store(vec![result(&id, TaskState::Success, "1", reader.reply_to())]).await.unwrap();
    assert_eq!(json(&next(&mut watch).await), 1);
    vhost.permit(&user, Permissions::ALL).await;
    assert_eq!(client.fetch(&[id]).await.unwrap(), [None]);
}
