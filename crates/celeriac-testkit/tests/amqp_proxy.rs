//! The proxy before RabbitMQ: connections break at exact frames, in either direction.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::time::Duration;

use celeriac_testkit::eventually;
use celeriac_testkit::proxy::{Cut, FaultProxy};
use celeriac_testkit::server::{RabbitServer, Vhost};
use futures_util::StreamExt as _;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};

const SOON: Duration = Duration::from_secs(30);

/// A virtual host of the server that all tests share, and a proxy before it.
async fn pair() -> (Vhost<'static>, FaultProxy) {
    let vhost = RabbitServer::shared().await.vhost().await;
    let proxy = FaultProxy::start_amqp(vhost.server().address()).await;
    (vhost, proxy)
}

/// A connection through the proxy, with a channel that confirms and a queue `q`.
async fn client(vhost: &Vhost<'_>, proxy: &FaultProxy) -> lapin::Result<(Connection, Channel)> {
    let connection = Connection::connect(&vhost.url_at(proxy.address()), ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    channel.queue_declare("q".into(), QueueDeclareOptions::durable(), FieldTable::default()).await?;
    Ok((connection, channel))
}

/// Sends a message to `q`, and waits until it is confirmed.
async fn publish(channel: &Channel, body: &[u8]) -> lapin::Result<()> {
    let properties = BasicProperties::default();
    let confirm =
        channel.basic_publish("".into(), "q".into(), BasicPublishOptions::default(), body, properties).await?;
    assert!(confirm.await?.is_ack());
    Ok(())
}

async fn consumer(channel: &Channel) -> lapin::Consumer {
    let options = BasicConsumeOptions::default();
    channel.basic_consume("q".into(), "".into(), options, FieldTable::default()).await.unwrap()
}

/// Waits until the server has ended its side of all connections to `vhost`: what it was sent before that, it has done.
async fn settled(vhost: &Vhost<'_>) {
    let connections = format!("length(rabbit_connection_tracking:list(<<{:?}>>))", vhost.name());
    eventually(SOON, async || vhost.server().eval(&connections).await == "0").await;
}

#[tokio::test]
async fn a_healthy_proxy_passes_everything_and_names_it() {
    let (vhost, proxy) = pair().await;
    let (_connection, channel) = client(&vhost, &proxy).await.unwrap();
    let greeting = [
        "protocol",
        "connection.start-ok",
        "connection.tune-ok",
        "connection.open",
        "channel.open",
        "confirm.select",
        "queue.declare",
    ];
    assert_eq!(proxy.names(), greeting);
    // The limit of a frame cuts a message into several bodies.
    let large = vec![0xCE; 300 << 10];
    proxy.split(1000);
    publish(&channel, &large).await.unwrap();
    assert_eq!(proxy.names()[greeting.len()..], ["basic.publish", "header", "body", "body", "body"]);
    let before = proxy.replies().len();
    let mut consumer = consumer(&channel).await;
    assert_eq!(consumer.next().await.unwrap().unwrap().data, large);
    let delivery = ["basic.consume-ok", "basic.deliver", "header", "body", "body", "body"];
    assert_eq!(proxy.replies()[before..], delivery);
    assert_eq!(proxy.replies()[before - 1], "basic.ack");
    assert_eq!((proxy.connections(), proxy.open(), proxy.cuts()), (1, 1, 0));
}

#[tokio::test]
async fn a_connection_is_cut_at_each_point_of_a_message() {
    let (vhost, proxy) = pair().await;
    // What a cut leaves: whether the server has the message, and whether the client knows.
    let points = [
        (Cut::before(2).of("basic.publish"), false, false),
        (Cut::inside(2).of("basic.publish"), false, false),
        (Cut::after(2).of("basic.publish"), false, false),
        (Cut::before(2).of("header"), false, false),
        (Cut::inside(2).of("body"), false, false),
        (Cut::after(2).of("body"), true, false),
        (Cut::before_reply(2).of("basic.ack"), true, false),
        (Cut::inside_reply(2).of("basic.ack"), true, false),
        (Cut::after_reply(2).of("basic.ack"), true, true),
    ];
    let mut ready = 0;
    for (cuts, (cut, done, known)) in (1..).zip(points) {
        let (_connection, channel) = client(&vhost, &proxy).await.unwrap();
        let order = format!("{cut:?}");
        proxy.cut_at(cut);
        publish(&channel, b"first").await.unwrap();
        assert_eq!(publish(&channel, b"second").await.is_ok(), known, "{order}");
        assert!(publish(&channel, b"third").await.is_err(), "{order}");
        settled(&vhost).await;
        ready += if done { 2 } else { 1 };
        assert_eq!(vhost.queue_info("q").await.unwrap().ready, ready, "{order}");
        assert_eq!(proxy.cuts(), cuts, "{order}");
    }
}

#[tokio::test]
async fn what_was_not_delivered_wholly_is_delivered_again() {
    let (vhost, proxy) = pair().await;
    for cut in [Cut::before_reply(2), Cut::inside_reply(2), Cut::after_reply(2)] {
        let (_connection, channel) = client(&vhost, &proxy).await.unwrap();
        channel.queue_purge("q".into(), lapin::options::QueuePurgeOptions::default()).await.unwrap();
        for body in [b"1", b"2"] {
            publish(&channel, body).await.unwrap();
        }
        // After the method comes the message, which is not passed on.
        proxy.cut_at(cut.of("basic.deliver"));
        let mut deliveries = consumer(&channel).await;
        assert_eq!(deliveries.next().await.unwrap().unwrap().data, b"1");
        assert!(deliveries.next().await.is_none_or(|delivery| delivery.is_err()));
        settled(&vhost).await;

        let (_connection, channel) = client(&vhost, &proxy).await.unwrap();
        let mut deliveries = consumer(&channel).await;
        for body in [b"1", b"2"] {
            let delivery = deliveries.next().await.unwrap().unwrap();
            assert_eq!((&*delivery.data, delivery.redelivered), (&body[..], true));
        }
    }
}

#[tokio::test]
async fn random_cuts_repeat_with_their_seed() {
    /// How many messages were confirmed before each cut, and which frames have passed.
    async fn run(seeds: std::ops::Range<u64>) -> (Vec<usize>, Vec<String>, Vec<String>) {
        let (vhost, proxy) = pair().await;
        let mut confirmed = Vec::new();
        for seed in seeds {
            // lapin may wait for ever when it is cut while it connects.
            let (_connection, channel) = client(&vhost, &proxy).await.unwrap();
            proxy.cut_randomly(seed, 20);
            let mut count = 0;
            while publish(&channel, b"message").await.is_ok() {
                count += 1;
            }
            confirmed.push(count);
            proxy.heal().await;
        }
        assert_eq!(proxy.cuts(), confirmed.len() as u64);
        (confirmed, proxy.names(), proxy.replies())
    }
    let (first, again, other) = tokio::join!(run(0..10), run(0..10), run(10..20));
    assert_eq!(first, again);
    assert_ne!(first.0, other.0);
}
