//! What a consumer asks of its server: nothing while there is nothing to do, and little for much.

use std::time::Duration;

use celeriac_amqp::AmqpStore;
use celeriac_broker::{Verb, settle_all};
use celeriac_testkit::proxy::FaultProxy;
use tokio::time::timeout;

use crate::support::*;

/// The length of an acknowledgement on the wire.
const ACK: u64 = 21;

#[tokio::test]
async fn an_idle_consumer_says_nothing_and_hears_nothing() {
    let (vhost, jobs) = (vhost().await, queue("jobs"));
    let proxy = FaultProxy::start_opaque(vhost.server().address()).await;
    let config = config(&vhost.url_at(proxy.address())).heartbeat(Duration::from_secs(600));
    let store = AmqpStore::open(config).await.unwrap();
    let mut consumer = consumer(&store, &[&jobs], 10).await;
    let mut waiting = std::pin::pin!(consumer.recv(count(10)));
    assert!(timeout(Duration::from_secs(1), &mut waiting).await.is_err());
    let before = proxy.bytes();
    assert!(timeout(Duration::from_secs(3), &mut waiting).await.is_err());
    assert_eq!(proxy.bytes(), before);
    store.close().await.unwrap();
}

#[tokio::test]
async fn acknowledging_all_that_came_takes_one_frame() {
    let (vhost, jobs) = (vhost().await, queue("jobs"));
    let proxy = FaultProxy::start_opaque(vhost.server().address()).await;
    let config = config(&vhost.url_at(proxy.address())).heartbeat(Duration::from_secs(600));
    let store = AmqpStore::open(config).await.unwrap();
    publish(&store, &jobs, 0..500).await;
    let mut consumer = consumer(&store, &[&jobs], 500).await;
    let mut held = take(&mut consumer, 500).await;
    let left = held.remove(400);
    let before = proxy.bytes();
    let batch = held.into_iter().map(|delivery| (delivery.into_receipt(), Verb::Ack)).collect();
    assert!(settle_all(batch).await.unwrap().is_empty());
    until_depth(&vhost, &jobs, 0, 1).await;
    // One for the 400 that came before the one that is held, and one for each of the 99 behind.
    assert_eq!(proxy.bytes() - before, 100 * ACK);
    left.ack().await.unwrap();
    until_depth(&vhost, &jobs, 0, 0).await;
    assert_eq!(proxy.bytes() - before, 101 * ACK);
    store.close().await.unwrap();
}
