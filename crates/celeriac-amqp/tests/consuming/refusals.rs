//! What RabbitMQ refuses.

use std::num::NonZeroUsize;

use celeriac_broker::{ConsumeOptions, ErrorKind};
use celeriac_testkit::server::Permissions;
use tokio::time::timeout;

use crate::support::*;

#[tokio::test]
async fn a_queue_that_may_not_be_read_is_named() {
    let (vhost, jobs) = (vhost().await, queue("jobs"));
    let name = celeriac_testkit::unique("writer");
    vhost.add_user(&name, "secret", Permissions { configure: ".*", write: ".*", read: "amq.*" }).await;
    let owner = open(&vhost).await;
    publish(&owner, &jobs, 0..1).await;
    let store = celeriac_amqp::AmqpStore::open(config(&vhost.url_as(&name, "secret"))).await.unwrap();
    let mut consumer = consumer(&store, &[&jobs], 10).await;
    for _ in 0..2 {
        let error = timeout(PATIENCE, consumer.recv(NonZeroUsize::MIN)).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{}", error.report());
        assert!(error.message().contains("`jobs`"), "{}", error.report());
    }
    vhost.permit(&name, Permissions::ALL).await;
    let mut consumer = crate::support::consumer(&store, &[&jobs], 10).await;
    one(&mut consumer).await.ack().await.unwrap();
    store.close().await.unwrap();
    owner.close().await.unwrap();
}

#[tokio::test]
async fn no_queue_is_consumed_twice_by_one_consumer() {
    let (vhost, jobs) = (vhost().await, queue("jobs"));
    let store = open(&vhost).await;
    publish(&store, &jobs, 0..2).await;
    let options = ConsumeOptions::new([jobs.clone(), jobs.clone()]).prefetch(NonZeroUsize::MIN);
    let mut consumer = store.broker().consume(options).await.unwrap();
    let _held = one(&mut consumer).await;
    assert_eq!(depth(&vhost, &jobs).await, (1, 1));
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_consumer_of_a_long_name_is_a_consumer() {
    let (vhost, jobs) = (vhost().await, queue("jobs"));
    let store = open(&vhost).await;
    publish(&store, &jobs, 0..1).await;
    for name in ["x".repeat(300), "ä".repeat(300)] {
        let options = ConsumeOptions::new([jobs.clone()]).name(name);
        let mut consumer = store.broker().consume(options).await.unwrap();
        drop(one(&mut consumer).await);
    }
    store.close().await.unwrap();
}
