//! What a delivery tells of those before it.

use celeriac_broker::{Destination, ExchangeKind, Outgoing, QueueSpec, Requeue};
use celeriac_core::{ExchangeName, Message, RoutingKey, Timestamp};

use crate::support::*;

#[tokio::test]
async fn earlier_deliveries_are_counted_also_when_it_was_parked_since() {
    let (vhost, jobs) = (vhost().await, queue("jobs"));
    let store = open_quorum(&vhost).await;
    publish(&store, &jobs, 0..1).await;
    let mut consumer = consumer(&store, &[&jobs], 1).await;
    for count in 1..=4 {
        let delivery = one(&mut consumer).await;
        assert_eq!((delivery.delivery_count, delivery.redelivered), (Some(count), count > 1));
        delivery.park(Timestamp::now()).await.unwrap();
        let delivery = one(&mut consumer).await;
        assert_eq!((delivery.delivery_count, delivery.redelivered), (Some(count), count > 1), "parking does not count");
        delivery.reject(Requeue::Yes).await.unwrap();
    }
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_parked_message_tells_still_where_it_was_published_and_comes_back_to_its_queue_alone() {
    let vhost = vhost().await;
    let news = ExchangeName::from_static("news");
    let store = open(&vhost).await;
    let spec = |name| {
        QueueSpec::unbound(queue(name)).bound_to(news.clone(), ExchangeKind::Fanout, RoutingKey::from_static(""))
    };
    for name in ["a", "b"] {
        store.broker().declare(&spec(name)).await.unwrap();
    }
    let to = Destination { exchange: news.clone(), routing_key: RoutingKey::from_static("today") };
    store.broker().publish(vec![Outgoing::new(Message::default(), to)]).await.unwrap();
    let mut consumer = consumer(&store, &[&queue("a")], 1).await;
    for _ in 0..3 {
        let delivery = one(&mut consumer).await;
        assert_eq!((&delivery.exchange, delivery.routing_key.as_str()), (&news, "today"));
        assert!(delivery.message.headers.to_map().is_empty(), "{:?}", delivery.message.headers);
        delivery.park(Timestamp::now() + std::time::Duration::from_millis(100)).await.unwrap();
    }
    one(&mut consumer).await.ack().await.unwrap();
    until_depth(&vhost, &queue("a"), 0, 0).await;
    until_depth(&vhost, &queue("b"), 1, 0).await;
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_message_that_was_published_to_several_queues_is_parked_for_its_own_alone() {
    let (vhost, jobs, others) = (vhost().await, queue("jobs"), queue("others"));
    let store = open(&vhost).await;
    for name in [&jobs, &others] {
        store.broker().declare(&QueueSpec::direct(name.clone())).await.unwrap();
    }
    let mut sent = outgoing("both", &jobs);
    sent.message.headers.set_extra("CC", vec![celeriac_core::Value::from("others")]);
    store.broker().publish(vec![sent.clone()]).await.unwrap();
    let mut consumer = consumer(&store, &[&jobs], 1).await;
    for _ in 0..2 {
        one(&mut consumer).await.park(Timestamp::now()).await.unwrap();
    }
    let delivery = one(&mut consumer).await;
    assert_eq!(delivery.message.headers.to_map(), sent.message.headers.to_map());
    delivery.ack().await.unwrap();
    until_depth(&vhost, &others, 1, 0).await;
    store.close().await.unwrap();
}
