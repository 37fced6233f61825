//! What the store itself publishes: what follows a task, and replies.
#![allow(clippy::unwrap_used, reason = "a test stops at the first error")]

use std::time::Duration;

use celeriac_broker::QueueSpec;
use celeriac_core::{Message, QueueName};
use celeriac_testkit::server::{RabbitServer, Vhost};
use celeriac_testkit::unique;

use super::*;
use crate::endpoint::Endpoint;

const PATIENCE: Duration = Duration::from_secs(60);

struct Sender {
    link: Link,
    topology: Arc<Topology>,
    publisher: Publisher,
}

/// A publisher that gives up soon.
async fn sender(vhost: &Vhost<'_>) -> Sender {
    let config = AmqpConfig::from_url(&vhost.url()).unwrap().publish_timeout(Duration::from_millis(500));
    let endpoint = Arc::new(Endpoint::new(config.clone()).unwrap());
    let (link, receiving) = (Link::new(Arc::clone(&endpoint), "sends"), Link::new(endpoint, "receives"));
    link.connected("open").await.unwrap();
    let topology = Arc::new(Topology::new(config.clone(), link.clone(), receiving));
    let publisher = Publisher::new(config, link.clone(), Arc::clone(&topology));
    Sender { link, topology, publisher }
}

fn outgoing(body: &'static str, queue: &QueueName) -> Outgoing {
    Outgoing::new(Message { body: body.into(), ..Message::default() }, queue)
}

fn queue() -> QueueName {
    unique("q").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_follows_a_task_waits_for_as_long_as_there_is_no_server() {
    let server = RabbitServer::start().await;
    let vhost = server.vhost().await;
    let sender = sender(&vhost).await;
    let queue = queue();
    sender.topology.ensure_queue("test", &queue).await.unwrap();
    server.stop().await;
    let publishing = sender.publisher.publish_for_long("settle", vec![outgoing("later", &queue)]);
    let starting = async {
        let soon = sender.publisher.publish("publish", vec![outgoing("never", &queue)]).await;
        assert!(soon.unwrap_err().is_retryable(), "others do not wait");
        server.restart().await;
    };
    let (published, ()) = tokio::time::timeout(PATIENCE, async { tokio::join!(publishing, starting) }).await.unwrap();
    published.unwrap();
    assert_eq!(sender.topology.depth("test", &queue).await.unwrap(), 1);
    // Until the link is closed.
    server.kill();
    let publishing = sender.publisher.publish_for_long("settle", vec![outgoing("never", &queue)]);
    let closing = async {
        let soon = sender.publisher.publish("publish", vec![outgoing("never", &queue)]).await;
        soon.unwrap_err();
        sender.link.close().await;
    };
    let (published, ()) = tokio::time::timeout(PATIENCE, async { tokio::join!(publishing, closing) }).await.unwrap();
    assert!(published.unwrap_err().report().contains("closed"));
}

#[tokio::test]
async fn a_reply_to_a_queue_that_is_gone_is_dropped_and_makes_none() {
    let vhost = RabbitServer::shared().await.vhost().await;
    let sender = sender(&vhost).await;
    let (there, gone) = (queue(), queue());
    sender.topology.declare(&QueueSpec::unbound(there.clone())).await.unwrap();
    let reply = |queue: &QueueName| (RoutingKey::from(queue), BasicProperties::default(), Bytes::from_static(b"{}"));
    sender.publisher.reply(vec![reply(&gone), reply(&there), reply(&gone)]).await.unwrap();
    assert_eq!(sender.topology.depth("test", &there).await.unwrap(), 1);
    assert_eq!(vhost.queue_info(&gone).await, None);
    assert_eq!(sender.topology.purge("test", &there).await.unwrap(), 1);
    assert_eq!(sender.topology.purge("test", &gone).await.unwrap(), 0);
    assert_eq!(sender.topology.depth("test", &gone).await.unwrap(), 0);
}
