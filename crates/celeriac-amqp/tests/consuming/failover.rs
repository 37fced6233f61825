//! What goes on as before, once a connection was lost, or its server.

use std::time::Duration;

use celeriac_amqp::AmqpStore;
use celeriac_testkit::eventually;
use celeriac_testkit::proxy::FaultProxy;
use celeriac_testkit::server::RabbitServer;

use crate::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn senders_and_receivers_go_over_to_the_next_server() {
    let (first, second) = tokio::join!(RabbitServer::start(), RabbitServer::start());
    let jobs = queue("jobs");
    let url = format!("amqp://guest:guest@{};guest:guest@{}", first.address(), second.address());
    let sender = AmqpStore::open(config(&url).publish_timeout(PATIENCE)).await.unwrap();
    let worker = AmqpStore::open(config(&url).publish_timeout(PATIENCE)).await.unwrap();
    let mut consumer = consumer(&worker, &[&jobs], 10).await;
    publish(&sender, &jobs, 0..3).await;
    for delivery in take(&mut consumer, 3).await {
        delivery.ack().await.unwrap();
    }
    until_depth(&first.default_vhost(), &jobs, 0, 0).await;
    first.kill();
    publish(&sender, &jobs, 3..6).await;
    let came = take(&mut consumer, 3).await;
    assert_eq!(texts(&came), ["3", "4", "5"]);
    assert_eq!(depth(&second.default_vhost(), &jobs).await, (0, 3));
    for delivery in came {
        delivery.ack().await.unwrap();
    }
    until_depth(&second.default_vhost(), &jobs, 0, 0).await;
    sender.close().await.unwrap();
    worker.close().await.unwrap();
}

#[tokio::test]
async fn no_more_than_the_prefetch_is_on_the_way_after_a_connection_was_lost() {
    const PREFETCH: usize = 3;
    let (vhost, jobs) = (vhost().await, queue("jobs"));
    let proxy = FaultProxy::start_opaque(vhost.server().address()).await;
    let store = AmqpStore::open(config(&vhost.url_at(proxy.address()))).await.unwrap();
    publish(&store, &jobs, 0..10).await;
    let mut consumer = consumer(&store, &[&jobs], PREFETCH).await;
    for _ in 0..3 {
        let held = take(&mut consumer, PREFETCH).await;
        until_depth(&vhost, &jobs, 7, 3).await;
        none(&mut consumer, Duration::from_millis(300)).await;
        assert_eq!(depth(&vhost, &jobs).await, (7, 3));
        let before = proxy.connections();
        proxy.cut();
        eventually(PATIENCE, async || proxy.connections() > before).await;
        drop(held);
    }
    for _ in 0..10 {
        one(&mut consumer).await.ack().await.unwrap();
    }
    until_depth(&vhost, &jobs, 0, 0).await;
    store.close().await.unwrap();
}
