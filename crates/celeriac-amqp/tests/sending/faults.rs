//! What becomes of messages when the server, or the way to it, fails.

use std::collections::HashSet;
use std::time::Duration;

use celeriac_amqp::AmqpStore;
use celeriac_broker::QueueSpec;
use celeriac_core::{ErrorKind, Timestamp};
use celeriac_testkit::eventually;
use celeriac_testkit::proxy::{Cut, FaultProxy};
use celeriac_testkit::server::{RabbitServer, Vhost};

use crate::common::{Other, PATIENCE, config, open, outgoing, publish, queue, refusal, vhost};

async fn through(proxy: &FaultProxy, vhost: &Vhost<'_>) -> AmqpStore {
    let url = vhost.url_at(proxy.address());
    open(celeriac_amqp::AmqpConfig::from_url(&url).unwrap().publish_timeout(PATIENCE)).await
}

/// Publishes numbers in batches, and sees that each of them is there, and in the order in which each came first.
async fn all_come(store: &AmqpStore, other: &Other, batches: u32, size: u32) {
    for batch in 0..batches {
        let numbers = batch * size..(batch + 1) * size;
        publish(store, numbers.map(|number| outgoing(number.to_string(), &queue("q"))).collect()).await;
    }
    let total = (batches * size) as usize;
    let mut seen = HashSet::new();
    let came = other.bodies("q", total).await;
    let first: Vec<u32> = came.iter().filter(|body| seen.insert(*body)).map(|body| body.parse().unwrap()).collect();
    assert!(first.iter().copied().eq(0..batches * size), "{} of {total} came, or in another order", first.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_by_connections_that_are_cut() {
    let vhost = vhost().await;
    let other = Other::new(&vhost).await;
    let proxy = FaultProxy::start_opaque(vhost.server().address()).await;
    let store = through(&proxy, &vhost).await;
    let cutting = async {
        for cut in 0..20_u64 {
            let bytes = proxy.bytes();
            // Anywhere in a batch.
            eventually(PATIENCE, async || proxy.bytes() > bytes + 20_000 + 7_919 * cut).await;
            proxy.cut();
        }
    };
    let publishing = all_come(&store, &other, 60, 500);
    // CANCEL SAFETY: the batches end first, or not at all.
    tokio::select! {
        () = publishing => {}
        () = async { cutting.await; std::future::pending().await } => {}
    }
    assert!(proxy.cuts() >= 3, "it was cut {} times", proxy.cuts());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_by_cuts_at_random() {
    let vhost = vhost().await;
    let other = Other::new(&vhost).await;
    let proxy = FaultProxy::start_opaque(vhost.server().address()).await;
    let store = through(&proxy, &vhost).await;
    proxy.cut_randomly(4, 30);
    for batch in 0..40 {
        publish(&store, (0..20).map(|at| outgoing((batch * 20 + at).to_string(), &queue("q"))).collect()).await;
    }
    proxy.heal().await;
    let came: HashSet<String> = other.bodies("q", 800).await.into_iter().collect();
    assert_eq!(came.len(), 800);
    assert!(proxy.cuts() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_delay_is_declared_over_connections_that_do_not_last_for_it() {
    let vhost = vhost().await;
    let proxy = FaultProxy::start_amqp(vhost.server().address()).await;
    let store = through(&proxy, &vhost).await;
    // There are more steps than this.
    for nth in 1..20 {
        proxy.cut_at(Cut::after_reply(60 * nth));
    }
    let soon = Timestamp::now() + Duration::from_millis(1_100);
    publish(&store, vec![outgoing("later", &queue("q")).deliver_at(soon)]).await;
    assert!((1..10).contains(&proxy.cuts()), "it was cut {} times", proxy.cuts());
    assert_eq!(Other::new(&vhost).await.bodies("q", 1).await, ["later"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_by_a_server_that_starts_anew() {
    let server = RabbitServer::start().await;
    let vhost = server.vhost().await;
    let store = open(config(&vhost)).await;
    let publishing = async {
        for batch in 0..40 {
            publish(&store, (0..50).map(|at| outgoing((batch * 50 + at).to_string(), &queue("q"))).collect()).await;
        }
    };
    let other = Other::new(&vhost).await;
    let restarting = async {
        let channel = other.channel().await;
        let passive = lapin::options::QueueDeclareOptions { passive: true, ..Default::default() };
        eventually(PATIENCE, async || {
            let found = channel.queue_declare("q".into(), passive, Default::default()).await;
            found.is_ok_and(|found| found.message_count() > 300)
        })
        .await;
        server.kill();
        server.restart().await;
    };
    publish(&store, vec![outgoing("0", &queue("q"))]).await;
    tokio::join!(publishing, restarting);
    let came: HashSet<String> = Other::new(&vhost).await.bodies("q", 2_000).await.into_iter().collect();
    assert_eq!(came.len(), 2_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_down_is_told_in_time() {
    let server = RabbitServer::start().await;
    let vhost = server.vhost().await;
    let timeout = Duration::from_millis(700);
    let store = open(config(&vhost).publish_timeout(timeout)).await;
    let broker = store.broker();
    server.stop().await;
    let begun = Timestamp::now();
    let error =
        refusal(broker.publish(vec![outgoing("x", &queue("q"))]).await, &["`publish_timeout`", "no connection"]);
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    refusal(broker.declare(&QueueSpec::direct(queue("q"))).await, &["`publish_timeout`", "no connection"]);
    let took = Timestamp::now().since(begun);
    assert!(took >= timeout * 2 && took < PATIENCE, "{took:?}");
    server.restart().await;
    let other = Other::new(&vhost).await;
    eventually(PATIENCE, async || broker.publish(vec![outgoing("y", &queue("q"))]).await.is_ok()).await;
    assert_eq!(
        other.bodies("q", 1).await.first().map(String::as_str),
        Some("y"),
        "what was given up is not sent later"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alarm_of_the_server_is_told_in_time_and_keeps_nothing_back() {
    let server = RabbitServer::start().await;
    let vhost = server.vhost().await;
    publish(&open(config(&vhost)).await, vec![outgoing("before", &queue("q"))]).await;
    let store = open(config(&vhost).publish_timeout(Duration::from_millis(700))).await;
    let broker = store.broker();
    eventually(PATIENCE, async || broker.declare(&QueueSpec::direct(queue("q"))).await.is_ok()).await;
    server.raise_memory_alarm().await;
    let words = ["`publish_timeout`", "`connection.blocked`", "low on memory"];
    // The server says so once something is published, and has what came before it does.
    eventually(PATIENCE, async || {
        let error = broker.publish(vec![outgoing("first", &queue("q"))]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        error.report().contains(words[1])
    })
    .await;
    for number in 0..3 {
        refusal(broker.publish(vec![outgoing(format!("blocked {number}"), &queue("q"))]).await, &words);
    }
    // Declaring goes on, and so do those who consume.
    broker.declare(&QueueSpec::direct(queue("new"))).await.unwrap_or_else(|error| panic!("{}", error.report()));
    let waiting = broker.publish(vec![outgoing("after", &queue("q"))]);
    let clearing = server.clear_memory_alarm();
    let (sent, ()) = tokio::join!(waiting, clearing);
    if sent.is_err() {
        eventually(PATIENCE, async || broker.publish(vec![outgoing("after", &queue("q"))]).await.is_ok()).await;
    }
    let mut came = Other::new(&vhost).await.bodies("q", 2).await;
    came.retain(|body| body != "first");
    came.dedup();
    assert_eq!(came, ["before", "after"], "what was given up while the server took nothing is not sent later");
}
