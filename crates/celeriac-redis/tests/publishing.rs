//! Batches of messages: in order, and all or nothing of what goes by one call.
#![allow(clippy::unwrap_used, reason = "a test stops at the first error")]

mod common;

use celeriac_broker::{ErrorKind, Outgoing};
use celeriac_core::{Message, Priority, Properties, QueueName};
use celeriac_testkit::server::RedisServer;
use celeriac_testkit::soon;
use common::*;

fn urgent(body: &str, queue: &QueueName, priority: u8) -> Outgoing {
    let properties = Properties { priority: Some(Priority(priority)), ..Properties::default() };
    Outgoing::new(Message { properties, body: body.to_owned().into(), ..Message::default() }, queue)
}

#[tokio::test]
async fn a_batch_for_several_queues_is_published_whole_or_not_at_all() {
    let server = RedisServer::start().await;
    let store = open(config(&server)).await;
    server.command(&["SET", "broken", "no list"]).await;
    let queues = ["one", "broken", "two"].map(queue);
    let batch = || queues.iter().map(|queue| outgoing("x", queue)).collect();
    for _ in 0..2 {
        let error = store.broker().publish(batch()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains("key `broken` holds another type"), "{error}");
    }
    assert_eq!(ask(&server, &["EXISTS", "one", "two"]).await, "0", "what was refused may be sent again");
    server.command(&["DEL", "broken"]).await;
    store.broker().publish(batch()).await.unwrap();
    for queue in queues {
        assert_eq!(store.broker().depth(&queue).await.unwrap(), 1);
    }
}

#[tokio::test]
async fn a_batch_for_many_queues_and_priorities_is_in_order_in_each() {
    let server = RedisServer::start().await;
    let store = open(config(&server)).await;
    let queues: Vec<_> = (0..300).map(|n| QueueName::new(format!("q{n}")).unwrap()).collect();
    let message = |n: usize| urgent(&n.to_string(), &queues[n % 300], if n % 7 < 3 { 0 } else { 9 });
    store.broker().publish((0..2_500).map(message).collect()).await.unwrap();
    for (place, queue) in queues.iter().enumerate() {
        let mut wanted: Vec<usize> = (place..2_500).step_by(300).collect();
        wanted.sort_by_key(|n| n % 7 >= 3);
        let mut consumer = consumer(&store, queue).await;
        let came = soon(consumer.recv(MANY)).await.unwrap();
        assert_eq!(came.iter().map(|delivery| text(delivery).parse().unwrap()).collect::<Vec<usize>>(), wanted);
        for delivery in came {
            delivery.ack().await.unwrap();
        }
    }
}
