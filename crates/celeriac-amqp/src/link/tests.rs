//! Connections on a real RabbitMQ: what their channels use up, and how they end.
#![allow(clippy::unwrap_used, reason = "a test stops at the first error")]

use std::num::NonZeroUsize;

use celeriac_broker::{Broker, Completion, ConsumeOptions, Consumer, Delivery, Outgoing, QueueSpec, Verb};
use celeriac_core::{Message, QueueName};
use celeriac_testkit::server::RabbitServer;
use celeriac_testkit::{eventually, unique};

use super::*;
use crate::{AmqpConfig, AmqpStore};

const PATIENCE: Duration = Duration::from_secs(60);

async fn broker(url: &str) -> Arc<dyn Broker> {
    AmqpStore::open(AmqpConfig::from_url(url).unwrap().publish_timeout(PATIENCE)).await.unwrap().broker()
}

fn queue(name: &'static str) -> QueueName {
    QueueName::from_static(name)
}

fn outgoing(queue: &QueueName) -> Outgoing {
    Outgoing::new(Message::default(), queue)
}

#[tokio::test]
async fn channels_that_the_server_closes_use_nothing_up() {
    const CHANNELS: u16 = 8;
    let server = RabbitServer::builder().config(&format!("channel_max = {CHANNELS}")).start().await;
    let broker = broker(&server.url()).await;
    let (there, missing) = (queue("there"), queue("missing"));
    broker.declare(&QueueSpec::direct(there.clone())).await.unwrap();
    broker.publish(vec![outgoing(&there)]).await.unwrap();
    for round in 0..CHANNELS * 4 {
        assert_eq!(broker.depth(&missing).await.unwrap(), 0);
        let depth = broker.depth(&there).await.unwrap_or_else(|error| panic!("round {round}: {}", error.report()));
        assert_eq!(depth, 1, "round {round}");
        let declared = broker.declare(&QueueSpec::direct(there.clone())).await;
        declared.unwrap_or_else(|error| panic!("round {round}: {}", error.report()));
    }
    broker.publish(vec![outgoing(&there)]).await.unwrap();
    assert_eq!(broker.depth(&there).await.unwrap(), 2);
    broker.close().await.unwrap();
}

async fn consumer(broker: &Arc<dyn Broker>, queue: &QueueName) -> Box<dyn Consumer> {
    broker.consume(ConsumeOptions::new([queue.clone()])).await.unwrap()
}

async fn one(consumer: &mut Box<dyn Consumer>) -> Delivery {
    timeout(PATIENCE, consumer.recv(NonZeroUsize::MIN)).await.expect("a message comes").unwrap().remove(0)
}

#[tokio::test]
async fn closing_ends_what_waits_for_a_server_that_takes_no_messages() {
    let server = RabbitServer::start().await;
    let broker = broker(&server.url()).await;
    let (jobs, next) = (queue("jobs"), queue("next"));
    broker.publish(vec![outgoing(&jobs), outgoing(&jobs), outgoing(&next)]).await.unwrap();
    let mut consumer = consumer(&broker, &jobs).await;
    let complete = |held: Delivery| {
        let verb = Verb::Complete(Box::new(Completion::new().then(outgoing(&next))));
        tokio::spawn(async move { held.into_receipt().settle(verb).await })
    };
    let held = [one(&mut consumer).await, one(&mut consumer).await];
    server.raise_memory_alarm().await;
    let mut completing = Vec::new();
    for held in held {
        completing.push(complete(held));
        // The first is sent, and not confirmed; the second is not sent.
        eventually(PATIENCE, async || broker.trouble().is_some()).await;
        tokio::time::sleep(Duration::from_millis(100)).await; // wait: it is to come to where it waits
    }
    assert!(completing.iter().any(|completing| !completing.is_finished()));
    timeout(PATIENCE, broker.close()).await.expect("it is closed").unwrap();
    for completing in completing {
        // What becomes of them the server shows to those who receive them next.
        let _ = timeout(PATIENCE, completing).await.expect("nobody waits for what cannot come").unwrap();
    }
}

/// A store that the shared server knows by a name of its own.
async fn named(name: &str) -> AmqpStore {
    let config = AmqpConfig::from_url(&RabbitServer::shared().await.url()).unwrap();
    AmqpStore::open(config.connection_name(name)).await.unwrap()
}

/// Waits until the server has no connection of this name.
async fn until_gone(name: &str) {
    let server = RabbitServer::shared().await;
    eventually(PATIENCE, async || !server.ctl(&["list_connections", "client_properties"]).await.contains(name)).await;
}

#[tokio::test]
async fn with_the_half_that_is_left_the_connections_are_closed() {
    let name = unique("half");
    let store = named(&name).await;
    let (broker, jobs) = (store.broker(), unique("jobs").parse().unwrap());
    drop([store.backend(), store.backend()]);
    let consumer = consumer(&broker, &jobs).await;
    broker.close().await.unwrap();
    until_gone(&name).await;
    drop((store, broker, consumer));
}

#[tokio::test]
async fn who_consumes_may_do_without_the_broker_it_came_from() {
    let store = named(&unique("half")).await;
    let jobs: QueueName = unique("jobs").parse().unwrap();
    let mut consumer = consumer(&store.broker(), &jobs).await;
    let backend = store.backend();
    backend.close().await.unwrap();
    store.broker().publish(vec![outgoing(&jobs)]).await.unwrap();
    one(&mut consumer).await.ack().await.unwrap();
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_connection_that_comes_up_after_the_closing_is_closed() {
    let name = unique("late");
    let config = AmqpConfig::from_url(&RabbitServer::shared().await.url()).unwrap().connection_name(&name);
    let link = Link::new(Arc::new(Endpoint::new(config).unwrap()), "sends");
    let connection = link.shared.endpoint.connect("connect", link.shared.purpose).await.unwrap();
    link.close().await;
    assert!(link.shared.up(connection).is_none());
    assert!(link.shared.lock().live.is_none());
    until_gone(&name).await;
    drop(link);
}
